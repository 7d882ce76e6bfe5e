//! check: is everything as it should be? It changes nothing.
//!
//! The first look goes without a lock, since it reads every file of every layer. What did not look right may only have been
//! on its way: it is looked at once more with all names held still, and only what is wrong then is told. What is not there
//! any more has nothing wrong with it.

mod containers;

use super::registers::Entry;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::request::OnError;
use crate::{addresses, ids};
use cocker_image::inspection::{Depth, Finding, SeenLayer, shell_word};
use cocker_image::staging::{Leftover, staged_names};
use cocker_image::{LayerId, Name, Version};
use rustix::fd::AsFd;
use std::net::Ipv4Addr;

/// What can be looked at by itself, again and again.
enum Thing {
    ImageName(Name),
    Image(Name, Version),
    Container(Name),
    Registered(Entry),
    /// Folders whose owner is dead.
    Leftovers,
}

/// What is not as it should be in the store, in no order.
pub(crate) struct StoreFindings {
    pub findings: Vec<Finding>,
    /// Layers that nothing needs.
    pub unneeded: Vec<Finding>,
}

impl Engine {
    /// What is not as it should be, what is wrong first. A store in use gives no false alarm.
    pub fn check(&self) -> Result<Vec<Finding>, EngineError> {
        let StoreFindings {
            mut findings,
            unneeded,
        } = self.inspect_store(Depth::Digests)?;
        findings.extend(unneeded);
        findings.sort();
        Ok(findings)
    }

    pub(crate) fn inspect_store(&self, depth: Depth) -> Result<StoreFindings, EngineError> {
        let layers = self.store.layer_ids()?;
        let suspects: Vec<Thing> = self
            .things()?
            .into_iter()
            .filter(|thing| !self.look_at(thing).is_empty())
            .collect();
        let seen: Vec<SeenLayer> = layers
            .iter()
            .filter_map(|layer| self.store.inspect_layer(layer, depth))
            .filter(|seen| !seen.findings.is_empty())
            .collect();
        let unneeded = self.unneeded(&layers)?;

        // Nobody but a stranger makes these, so they are on no way.
        let mut findings = self.inspect_entries()?;
        let names = self.store.hold_still()?;
        findings.extend(suspects.iter().flat_map(|thing| self.look_at(thing)));
        for seen in seen {
            if self.store.is_still(&seen) {
                findings.extend(seen.findings);
            }
        }
        let unneeded = match unneeded.is_empty() {
            true => unneeded,
            // Reading all names takes its time, so it is done only where there is something to tell.
            false => self.unneeded(&layers)?,
        };
        drop(names);
        Ok(StoreFindings {
            findings,
            unneeded: unneeded.into_iter().map(unneeded_layer).collect(),
        })
    }

    fn things(&self) -> Result<Vec<Thing>, EngineError> {
        let mut things = vec![Thing::Leftovers];
        for name in self.store.image_names()? {
            let versions = self.store.image_versions(&name).unwrap_or_default();
            let images = versions.into_iter();
            things.extend(images.map(|version| Thing::Image(name.clone(), version)));
            things.push(Thing::ImageName(name));
        }
        things.extend(self.container_names()?.into_iter().map(Thing::Container));
        let registered = self.registered()?.into_iter();
        things.extend(registered.map(Thing::Registered));
        Ok(things)
    }

    fn look_at(&self, thing: &Thing) -> Vec<Finding> {
        match thing {
            Thing::ImageName(name) => self.store.inspect_name(name),
            Thing::Image(name, version) => self.store.inspect_image(name, version),
            Thing::Container(name) => self.inspect_container(name),
            Thing::Registered(entry) => self.inspect_registered(*entry),
            Thing::Leftovers => self.inspect_leftovers(),
        }
    }

    fn inspect_entries(&self) -> Result<Vec<Finding>, EngineError> {
        let mut findings = self.store.inspect_entries()?;
        let is_slot = |name: &str| ids::slot_of(name).is_some();
        let folder = self.store.ids_folder();
        findings.extend(self.store.inspect_entries_of(folder, "ids", is_slot)?);
        if let Ok(folder) = addresses::open(&self.store) {
            let (home, name) = (self.store.folder(), addresses::FOLDER);
            let itself = self
                .store
                .inspect_folder(home, name, "register of addresses", name);
            findings.extend(itself.unwrap_or_default());
            let is_address = |name: &str| name.parse::<Ipv4Addr>().is_ok();
            findings.extend(
                self.store
                    .inspect_entries_of(folder.as_fd(), name, is_address)?,
            );
        }
        Ok(findings)
    }

    fn inspect_registered(&self, entry: Entry) -> Vec<Finding> {
        match self.owner(entry) {
            Ok(Some(owner)) if self.is_stale(entry, &owner) => vec![Finding::note(
                format!("entry {}", entry.path()),
                format!(
                    "is for container `{}`, which is not there or has another",
                    owner.escape_debug()
                ),
                "cocker prune",
            )],
            Ok(_) => Vec::new(),
            Err(errno) => {
                let path = self.store.home().join(entry.path());
                let what = format!("cannot be read: {errno}");
                let remedy = format!("rm {}", shell_word(&path));
                vec![Finding::wrong(
                    format!("entry {}", entry.path()),
                    what,
                    remedy,
                )]
            }
        }
    }

    fn inspect_leftovers(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (place, folder) in self.store.staging_folders() {
            for name in staged_names(folder).unwrap_or_default() {
                let leftover = Leftover::claim(folder, &name);
                if leftover.is_some_and(|leftover| !leftover.may_be_new()) {
                    findings.push(Finding::note(
                        format!("leftover {place}/{}", name.to_string_lossy()),
                        "was being made or removed when its process died",
                        "cocker prune",
                    ));
                }
            }
        }
        findings
    }

    /// Those of `layers` that nothing needs now.
    fn unneeded(&self, layers: &[LayerId]) -> Result<Vec<LayerId>, EngineError> {
        // Who cannot be read is told elsewhere, and may need any layer.
        let users = self.layer_users(OnError::GoOn)?;
        let unused = users.unused(layers.iter()).into_iter();
        Ok(unused
            .filter(|layer| self.store.has_layer(layer))
            .cloned()
            .collect())
    }
}

fn unneeded_layer(layer: LayerId) -> Finding {
    Finding::note(
        format!("layer {layer}"),
        "is needed by no image and no container",
        "cocker prune",
    )
}
