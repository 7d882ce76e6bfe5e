//! What can be mended without losing anything. Each repair looks for itself, under the locks that keep others away, so what has come
//! right meanwhile is left alone; and each may be repeated. No booted container's processes or files are touched.

use super::Refusals;
use super::sandboxes::{Orphan, thing_of};
use crate::container::{Container, NetworkSettings};
use crate::control;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::housekeeping::registers::Entry;
use crate::state::Standing;
use crate::{addresses, ids};
use cocker_image::inspection::chain;
use cocker_network::PinnedFor;
use cocker_sandbox::Cgroup;
use cocker_sys::namespace::stands_for_a_user;
use std::error::Error;

impl Engine {
    /// Mends all that can be; says of what that failed, and why.
    pub(super) fn mend_all(&self) -> Refusals {
        let mut refusals = Refusals::new();
        let mut note = |thing: String, why: String| {
            tracing::debug!("{thing} cannot be mended: {why}");
            refusals.entry(thing).or_insert(why);
        };
        if let Err(error) = self.sweep_all() {
            note("leftovers".into(), chain(&error));
        }
        self.close_folders(&mut note);
        for name in self.container_names().unwrap_or_default() {
            // What cannot be read is not mended.
            let Ok(container) = Container::open(&self.store, &name) else {
                continue;
            };
            let thing = format!("container {name}");
            let mended = match container.state.standing() {
                Ok((Standing::Booted { .. }, _)) => self.mend_booted(&container),
                Ok((Standing::Stopped | Standing::Broken, _)) => self.mend_stopped(&container),
                _ => Ok(()),
            };
            if let Err(error) = mended.and_then(|()| self.mend_registers(&container)) {
                note(thing, error);
            }
        }
        if let Err(error) = self.remove_orphans(&mut note) {
            note("orphans".into(), chain(&error));
        }
        refusals
    }

    /// Takes the right to write from others. The home itself and its folders were closed before the store was opened.
    fn close_folders(&self, note: &mut impl FnMut(String, String)) {
        let mut close = |thing: String, folder, path: &str| {
            if let Err(errno) = self.store.close_folder(folder, path) {
                note(thing, errno.to_string());
            }
        };
        for layer in self.store.layer_ids().unwrap_or_default() {
            let thing = format!("layer {layer}");
            close(thing, self.store.layers_folder(), layer.as_str());
        }
        let home = self.store.folder();
        for name in self.store.image_names().unwrap_or_default() {
            close(format!("image {name}"), home, &format!("images/{name}"));
            for version in self.store.image_versions(&name).unwrap_or_default() {
                let path = format!("images/{name}/{version}");
                close(format!("image {name}:{version}"), home, &path);
            }
        }
        for name in self.container_names().unwrap_or_default() {
            let path = self.container_path(&name);
            close(format!("container {name}"), home, &path);
        }
        close("register of addresses".into(), home, addresses::FOLDER);
    }

    /// Does what a dead supervisor, or a dead client, has left to do. A container on which somebody works is left to them.
    fn mend_stopped(&self, container: &Container) -> Result<(), String> {
        let Some(_work) = container.try_lock_for_work() else {
            return Ok(());
        };
        if container.state.try_lock().is_err() {
            return Ok(());
        }
        let record = container.state.read().map_err(text)?;
        self.clean_up_for_good(container, record).map_err(text)?;
        control::remove(container).map_err(text)?;
        if stands_for_a_user() {
            return Ok(());
        }
        let aftermath = self.detach_network(container).map_err(text)?;
        self.mend_names(container)?;
        let kernel = self.kernel().map_err(text)?;
        let mut holders = kernel.network.holders.iter();
        if holders.any(|(holder, _)| holder.container == container.name.as_str()) {
            // By an address that it no longer has.
            let _aftermath = self.detach_network_of(&container.name).map_err(text)?;
        }
        let prefix = self.link_prefix(container);
        for link in kernel.network.links {
            if Some(&link.prefix) == prefix.as_ref() {
                cocker_network::remove_link(&link).map_err(text)?;
            }
        }
        self.forget_pause(&container.name);
        drop(aftermath);
        Ok(())
    }

    /// A file for a namespace that is not kept any more; a boot makes both again.
    fn mend_names(&self, container: &Container) -> Result<(), String> {
        let netns = container.settings.netns();
        let kernel = self.kernel().map_err(text)?;
        let mut names = kernel.network.names.into_iter();
        let Some(seen) = names.find(|seen| seen.name == netns) else {
            return Ok(());
        };
        let is_kept = matches!(
            (&seen.is, &container.settings.network),
            (PinnedFor::Store(_), NetworkSettings::Custom)
        );
        match is_kept {
            true => Ok(()),
            false => cocker_network::unpin(&netns).map_err(text),
        }
    }

    /// Puts the host's side of its network right.
    fn mend_booted(&self, container: &Container) -> Result<(), String> {
        if stands_for_a_user() {
            return Ok(());
        }
        let Some(plan) = self.network_plan(container).map_err(text)? else {
            return Ok(());
        };
        if cocker_network::faults(&plan).map_err(text)?.is_empty() {
            return Ok(());
        }
        // Nobody may end it meanwhile, or what is put back would stay.
        let Some(_work) = container.try_lock_for_work() else {
            return Ok(());
        };
        let mended = cocker_network::mend(&plan, || self.booted_endpoints());
        // But it may end by itself.
        if !matches!(container.state.standing(), Ok((Standing::Booted { .. }, _))) {
            return self.detach_network(container).map(drop).map_err(text);
        }
        mended.map_err(text)
    }

    /// Registers for it what it has and nobody is registered for.
    fn mend_registers(&self, container: &Container) -> Result<(), String> {
        let slot = container.settings.id_slot;
        let mut entries = vec![Entry::Ids(slot)];
        entries.retain(|_| ids::is_slot(slot));
        entries.extend(container.settings.network.address().map(Entry::Address));
        let lacks = |entry: &Entry| {
            let owner = self.owner(*entry);
            owner.is_ok_and(|owner| owner.as_deref() != Some(container.name.as_str()))
        };
        if !entries.iter().any(lacks) {
            return Ok(());
        }
        let _names = self.store.lock().map_err(text)?;
        // It may have been destroyed, or have been given another address.
        let now = Container::open(&self.store, &container.name);
        if !now.is_ok_and(|now| now.settings == container.settings) {
            return Ok(());
        }
        entries
            .into_iter()
            .try_for_each(|entry| self.register(entry, &container.name))
    }

    fn remove_orphans(&self, note: &mut impl FnMut(String, String)) -> Result<(), EngineError> {
        let Ok(kernel) = self.kernel() else {
            return Ok(());
        };
        if self.orphans(&kernel)?.is_empty() {
            return Ok(());
        }
        let mut aftermaths = Vec::new();
        // Held until they are gone: nobody makes a container of such a name meanwhile.
        let names = self.store.hold_still()?;
        for orphan in self.orphans_now()? {
            let removed = match &orphan {
                Orphan::Elements(container) => {
                    let holder = self.holder_called(container);
                    let detached = cocker_network::detach_all_of(&holder);
                    detached
                        .map(|aftermath| aftermaths.push(aftermath))
                        .map_err(text)
                }
                Orphan::Link(link) => cocker_network::remove_link(link).map_err(text),
                Orphan::Name(name) => cocker_network::unpin(name).map_err(text),
                Orphan::Cgroup(name) => self.remove_cgroup(name),
                Orphan::Strays(_) => cocker_network::remove_strays().map_err(text),
            };
            if let Err(why) = removed {
                note(thing_of(&orphan), why);
            }
        }
        drop(names);
        drop(aftermaths);
        Ok(())
    }

    fn remove_cgroup(&self, name: &str) -> Result<(), String> {
        let kernel = self.kernel().map_err(text)?;
        let place = kernel.group.place(name);
        Cgroup::below(&kernel.hierarchies, &place)
            .remove_deserted()
            .map_err(text)
    }
}

fn text(error: impl Error + 'static) -> String {
    chain(&error)
}
