//! Containers: whether each can be read, has all that it stands on, and is registered for what it has.

use crate::container::{Container, NetworkSettings, UPPER, WORK};
use crate::engine::Engine;
use crate::failure::ContainerError;
use crate::housekeeping::leftovers::{StagedFile, staged_files};
use crate::housekeeping::registers::Entry;
use crate::ids;
use crate::state::Standing;
use cocker_image::Name;
use cocker_image::inspection::{Finding, chain, shell_word};
use rustix::fs::{AtFlags, FileType, statat};

impl Engine {
    /// What is wrong with a container; nothing where there is none.
    pub(super) fn inspect_container(&self, name: &Name) -> Vec<Finding> {
        let thing = format!("container {name}");
        let shown = self.container_path(name);
        let parent = self.store.containers_folder();
        let folder = self
            .store
            .inspect_folder(parent, name.as_str(), &thing, &shown);
        let Some(mut findings) = folder else {
            return Vec::new();
        };
        let container = match Container::open(&self.store, name) {
            Ok(container) => container,
            Err(ContainerError::Unknown { .. }) => return Vec::new(),
            Err(error) => {
                let place = self.store.home().join(&shown);
                let remedy = format!(
                    "restore {} from a backup, or: cocker destroy --forcely {name}",
                    shell_word(&place)
                );
                findings.push(Finding::wrong(thing, chain(&error), remedy));
                return findings;
            }
        };
        let mut tell = |what: String, remedy: String| {
            findings.push(Finding::wrong(thing.clone(), what, remedy));
        };
        self.inspect_layers_of(&container, &mut tell);
        self.inspect_files_of(&container, &mut tell);
        self.inspect_entries_of(&container, &mut tell);
        findings.extend(self.notes_on(&container, &thing));
        findings
    }

    fn inspect_layers_of(&self, container: &Container, tell: &mut impl FnMut(String, String)) {
        let layers = container.settings.layers.iter();
        for layer in layers.filter(|layer| !self.store.has_layer(layer)) {
            let place = self.store.home().join("layers").join(layer.as_str());
            let remedy = format!(
                "restore {} from a backup, or: cocker destroy {}",
                shell_word(&place),
                container.name
            );
            tell(format!("its layer {layer} is not there"), remedy);
        }
    }

    fn inspect_files_of(&self, container: &Container, tell: &mut impl FnMut(String, String)) {
        for folder in [UPPER, WORK] {
            let stat = statat(&container.folder, folder, AtFlags::SYMLINK_NOFOLLOW);
            let is_folder = |mode| FileType::from_raw_mode(mode) == FileType::Directory;
            let what = match stat {
                Ok(stat) if is_folder(stat.st_mode) => continue,
                Ok(_) => format!("its `{folder}` is no folder"),
                Err(errno) => format!("its folder `{folder}` cannot be looked at: {errno}"),
            };
            let place = self.store.home().join(self.container_path(&container.name));
            let remedy = format!(
                "restore {} from a backup, or: cocker destroy {}",
                shell_word(&place.join(folder)),
                container.name
            );
            tell(what, remedy);
        }
    }

    /// What it has must be registered for it, or another may be given the same.
    fn inspect_entries_of(&self, container: &Container, tell: &mut impl FnMut(String, String)) {
        let slot = container.settings.id_slot;
        if !ids::is_slot(slot) {
            let remedy = format!("cocker destroy {}", container.name);
            tell(format!("there is no range {slot} of host ids"), remedy);
            return;
        }
        let ids = format!("its range {slot} of host ids");
        self.inspect_entry_of(container, Entry::Ids(slot), &ids, tell);
        if let NetworkSettings::Bridge { address, .. } = container.settings.network {
            let what = format!("its address {address}");
            self.inspect_entry_of(container, Entry::Address(address), &what, tell);
        }
    }

    fn inspect_entry_of(
        &self,
        container: &Container,
        entry: Entry,
        its: &str,
        tell: &mut impl FnMut(String, String),
    ) {
        let name = &container.name;
        let path = self.store.home().join(entry.path());
        match self.owner(entry) {
            Ok(Some(owner)) if owner == name.as_str() => {}
            Ok(Some(owner)) if !self.is_stale(entry, &owner) => tell(
                format!("{its} is that of container `{}` too", owner.escape_debug()),
                format!("keep one of the two: cocker destroy {name}"),
            ),
            Ok(_) => tell(
                format!("{its} is not registered for it, so that another may get the same"),
                format!("ln -sfn {name} {}", shell_word(&path)),
            ),
            // What stands there is told by itself.
            Err(_) => {}
        }
    }

    fn notes_on(&self, container: &Container, thing: &str) -> Vec<Finding> {
        let mut notes = Vec::new();
        if let Ok((Standing::Broken, _)) = container.state.standing() {
            notes.push(Finding::note(
                thing,
                "lost its supervisor, and what that leaves is not yet removed",
                "cocker containers",
            ));
        }
        // Whoever holds it may be writing right now, and whoever has held it may have written.
        let is_there = |files: &Vec<StagedFile>| !files.is_empty();
        let looks_like_it = staged_files(container).is_ok_and(|files| is_there(&files));
        let work = looks_like_it
            .then(|| container.try_lock_for_work())
            .flatten();
        let files = work.and_then(|_work| staged_files(container).ok());
        notes.extend(files.into_iter().flatten().map(|file| {
            let file = file.name.to_string_lossy();
            let what = format!("has `{file}`, which was being written when its process died");
            Finding::note(thing, what, "cocker prune")
        }));
        notes
    }
}
