//! prune: what nothing refers to goes. Names go under the store's lock and at once, files afterwards and without it.

use super::leftovers::staged_files;
use super::registers::Entry;
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::images::LayerUsers;
use crate::request::OnError;
use cocker_image::staging::{LeavingFolder, Leftover, StagingError, is_free, staged_names};
use cocker_image::{LayerId, Name, measure_tree};
use cocker_sys::fault;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, unlinkat};
use std::collections::HashSet;

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruneMode {
    Remove,
    /// Only say what would go.
    DryRun,
}

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder that was being made or removed when its process died.
    Leftover,
    /// A record that was being written into a container's folder when its process died.
    File,
    /// What came, or what is known of what went, of a transfer that was broken off.
    Transfer,
    /// A layer that neither an image nor a container needs.
    Layer,
    /// The name of an image without versions.
    Image,
    /// A range of host ids whose container is not there.
    Ids,
    /// An address whose container is not there.
    Address,
}

/// Something that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    pub kind: Kind,
    /// A layer's id, an image's name, the number of a range, an address; else a path in the store.
    pub name: String,
    /// Bytes of its files.
    pub size: u64,
}

/// A layer that is to go.
enum Left {
    /// Nobody works on it; with its folder where that has left its name.
    Free(Option<LeavingFolder>),
    InUse,
}

impl Engine {
    /// Removes what nothing refers to, and says what that was.
    ///
    /// Where an image or a container cannot be read, it may stand on any layer: then nothing is done, and with
    /// [`OnError::GoOn`] everything but layers.
    pub fn prune(&self, mode: PruneMode, on_error: OnError) -> Result<Vec<Pruned>, EngineError> {
        let pruned = self.prune_store(mode, on_error);
        pruned.map_err(|source| EngineError::Prune {
            source: Box::new(source),
        })
    }

    fn prune_store(&self, mode: PruneMode, on_error: OnError) -> Result<Vec<Pruned>, EngineError> {
        // Those that have names now: a layer that is made meanwhile may have an image a moment later.
        let layers = self.store.layer_ids()?;
        let mut users = self.layer_users_now(on_error)?;
        let mut pruned = self.prune_leftovers(mode);
        pruned.extend(self.prune_files(&users, mode));
        pruned.extend(self.prune_transfers(mode));

        let nameless = self.nameless(&users)?;
        let may_go = !users.unused(layers.iter()).is_empty();
        let names = match mode {
            PruneMode::Remove => self.store.lock()?,
            PruneMode::DryRun => self.store.hold_still()?,
        };
        if may_go {
            // Under the lock, under which layers are pinned, and only where it matters: reading takes its time.
            users = self.layer_users(on_error)?;
        }
        let unused = match may_go {
            true => users.unused(layers.iter()),
            false => Vec::new(),
        };
        let leaving = self.take_away(&unused, mode);
        pruned.extend(self.prune_names(&nameless, mode));
        pruned.extend(self.prune_registers(mode)?);
        drop(names);

        for (layer, leaving) in leaving {
            if let Some(leaving) = leaving {
                remove(leaving, &layer.name, on_error)?;
            }
            pruned.push(layer);
        }
        Ok(pruned)
    }

    /// Removes what nobody can want: what dead processes were making or removing, names without images, and entries of the
    /// registers whose container is not there.
    pub(crate) fn sweep_all(&self) -> Result<(), EngineError> {
        let users = self.layer_users_now(OnError::GoOn)?;
        self.prune_leftovers(PruneMode::Remove);
        self.prune_files(&users, PruneMode::Remove);
        let nameless = self.nameless(&users)?;
        let names = self.store.lock()?;
        self.prune_names(&nameless, PruneMode::Remove);
        self.prune_registers(PruneMode::Remove)?;
        drop(names);
        Ok(())
    }

    /// Folders whose owner is dead.
    fn prune_leftovers(&self, mode: PruneMode) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        for (place, folder) in self.store.staging_folders() {
            // A folder that cannot be read is told by whoever needs it.
            for name in staged_names(folder).unwrap_or_default() {
                let leftover = Leftover::claim(folder, &name);
                let Some(leftover) = leftover.filter(|leftover| !leftover.may_be_new()) else {
                    continue;
                };
                let size = measure_tree(leftover.folder()).unwrap_or(0);
                let name = format!("{place}/{}", name.to_string_lossy());
                if mode == PruneMode::Remove
                    && let Err(error) = leftover.remove()
                {
                    tracing::warn!("`{name}` stays: {error}");
                    continue;
                }
                pruned.push(Pruned {
                    kind: Kind::Leftover,
                    name,
                    size,
                });
            }
        }
        pruned
    }

    /// What is kept of transfers that nobody is at.
    fn prune_transfers(&self, mode: PruneMode) -> Vec<Pruned> {
        let folders = self.store.transfers_folder();
        let mut pruned = Vec::new();
        for name in self.store.interrupted_transfers().unwrap_or_default() {
            let size = self.kept_of_transfer(&name);
            let left = match mode {
                PruneMode::Remove => LeavingFolder::begin_if_free(folders, &name).map(|it| {
                    // The files go with it.
                    it.is_some()
                }),
                PruneMode::DryRun => Ok(is_free(folders, &name)),
            };
            match left {
                Ok(true) => pruned.push(Pruned {
                    kind: Kind::Transfer,
                    name,
                    size,
                }),
                Ok(false) => {}
                Err(error) => tracing::warn!("transfer {name} stays: {error}"),
            }
        }
        pruned
    }

    /// Records that a dead process was writing into containers' folders.
    fn prune_files(&self, users: &LayerUsers, mode: PruneMode) -> Vec<Pruned> {
        let mut pruned = Vec::new();
        for container in &users.containers {
            let Some(files) = leftovers_of(container) else {
                continue;
            };
            let Some(_work) = container.try_lock_for_work() else {
                continue;
            };
            // Looked at again now that nobody writes: what was there before may have its name.
            for file in leftovers_of(container).unwrap_or(files) {
                let unlinked = match mode {
                    PruneMode::Remove => fault::step("prune.file", || {
                        unlinkat(&container.folder, &file.name, AtFlags::empty())
                    }),
                    PruneMode::DryRun => Ok(()),
                };
                let folder = self.container_path(&container.name);
                let name = format!("{folder}/{}", file.name.to_string_lossy());
                match unlinked {
                    Ok(()) => pruned.push(Pruned {
                        kind: Kind::File,
                        name,
                        size: file.size,
                    }),
                    Err(errno) => tracing::warn!("`{name}` stays: {errno}"),
                }
            }
        }
        pruned
    }

    /// Names of images under which there is none that could be read.
    fn nameless(&self, users: &LayerUsers) -> Result<Vec<Name>, EngineError> {
        let used: HashSet<&Name> = users.images.iter().map(|image| &image.name).collect();
        let mut names = self.store.image_names()?;
        names.retain(|name| !used.contains(name));
        Ok(names)
    }

    fn prune_names(&self, names: &[Name], mode: PruneMode) -> Vec<Pruned> {
        let goes = |name: &&Name| match mode {
            PruneMode::Remove => self.store.remove_if_empty(name.as_str()),
            PruneMode::DryRun => self.store.is_empty(name),
        };
        let gone = names.iter().filter(goes);
        gone.map(|name| Pruned {
            kind: Kind::Image,
            name: name.to_string(),
            size: 0,
        })
        .collect()
    }

    /// The caller holds the lock on names.
    fn prune_registers(&self, mode: PruneMode) -> Result<Vec<Pruned>, EngineError> {
        let mut pruned = Vec::new();
        for entry in self.registered()? {
            // What stands in the place of a link is told by `check`.
            let owner = self.owner(entry).ok().flatten();
            if !owner.is_some_and(|owner| self.is_stale(entry, &owner)) {
                continue;
            }
            if mode == PruneMode::Remove
                && let Err(errno) = self.forget(entry)
            {
                tracing::warn!("`{}` stays: {errno}", entry.path());
                continue;
            }
            let (kind, name) = match entry {
                Entry::Ids(slot) => (Kind::Ids, slot.to_string()),
                Entry::Address(address) => (Kind::Address, address.to_string()),
            };
            pruned.push(Pruned {
                kind,
                name,
                size: 0,
            });
        }
        Ok(pruned)
    }

    /// Takes their names from layers, the short part of their removal. One on which a living process works stays.
    /// The caller holds the lock on names.
    fn take_away(
        &self,
        layers: &[&LayerId],
        mode: PruneMode,
    ) -> Vec<(Pruned, Option<LeavingFolder>)> {
        let mut leaving = Vec::new();
        for layer in layers {
            let pruned = Pruned {
                kind: Kind::Layer,
                name: layer.to_string(),
                size: self.size_of(layer),
            };
            match self.begin_to_leave(layer, mode) {
                Ok(Left::Free(folder)) => leaving.push((pruned, folder)),
                Ok(Left::InUse) => tracing::debug!("layer {layer} is being worked on and stays"),
                Err(error) => tracing::warn!("layer {layer} stays: {error}"),
            }
        }
        leaving
    }

    fn begin_to_leave(&self, layer: &LayerId, mode: PruneMode) -> Result<Left, StagingError> {
        let (folder, name) = (self.store.layers_folder(), layer.as_str());
        Ok(match mode {
            PruneMode::Remove => match LeavingFolder::begin_if_free(folder, name)? {
                Some(leaving) => Left::Free(Some(leaving)),
                None => Left::InUse,
            },
            PruneMode::DryRun => match is_free(folder, name) {
                true => Left::Free(None),
                false => Left::InUse,
            },
        })
    }

    /// As its record says; where there is none that can be read, as its files say, which are about to go.
    fn size_of(&self, layer: &LayerId) -> u64 {
        match self.store.layer(layer) {
            Ok(record) => record.size,
            Err(_) => {
                let tree = self.store.open_layer(layer).ok();
                tree.and_then(|tree| measure_tree(tree.as_fd()).ok())
                    .unwrap_or(0)
            }
        }
    }
}

/// `None` where there is nothing, which is nearly always.
fn leftovers_of(container: &Container) -> Option<Vec<super::leftovers::StagedFile>> {
    staged_files(container)
        .ok()
        .filter(|files| !files.is_empty())
}

/// The long part. What stays has no name any more and is swept by a later command.
fn remove(leaving: LeavingFolder, layer: &str, on_error: OnError) -> Result<(), EngineError> {
    match leaving.remove() {
        Err(error) if on_error == OnError::GoOn => tracing::warn!("going on: {error}"),
        Err(source) => {
            return Err(EngineError::RemoveLayer {
                layer: layer.into(),
                source,
            });
        }
        Ok(()) => {}
    }
    Ok(())
}
