//! usage: what takes room. Everything comes from records, so it costs the same however much the files are; what is being
//! written or removed right now counts as far as it has a record.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::images::LayerUsers;
use crate::recordings;
use crate::request::OnError;
use crate::state::StateFile;
use cocker_image::staging::{Leftover, is_free, staged_names};
use cocker_image::{LayerId, Name, Version, measure_tree};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fstatvfs, openat, statat};
use std::collections::HashMap;
use std::ffi::CStr;

/// The logs of a container's console, each with its times.
const LOGS: [(&str, &str); 2] = [
    ("console.log", "console.times"),
    ("console.log.1", "console.times.1"),
];

/// What takes room, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    pub layers: LayerSizes,
    /// The writable layers, as last measured.
    pub containers: KindUsage,
    /// What consoles wrote, and recordings.
    pub logs: KindUsage,
    /// What is being made or removed.
    pub staging: KindUsage,
    /// By name, then version.
    pub images: Vec<ImageUsage>,
    /// By name.
    pub each_container: Vec<ContainerUsage>,
    /// What the file system has left for us.
    pub free: u64,
}

/// Things of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindUsage {
    pub count: usize,
    pub size: u64,
    /// Of that, what `prune` frees.
    pub reclaimable: u64,
    /// How many of them have no record of their size.
    pub unmeasured: usize,
}

/// The layers, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSizes {
    pub all: KindUsage,
    /// Of those that several images need.
    pub shared: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    pub name: Name,
    pub version: Version,
    /// Of the layers that no other image needs.
    pub own: u64,
    /// Of those that others need too.
    pub shared: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerUsage {
    pub name: Name,
    /// Of its writable layer.
    pub own: u64,
    pub logs: u64,
    /// Of the layers that it stands on.
    pub shared: u64,
}

impl Engine {
    /// What takes room. What cannot be read is left out; then nothing of the layers counts as reclaimable.
    pub fn usage(&self) -> Result<Usage, EngineError> {
        let ids = self.store.layer_ids()?;
        let users = self.layer_users_now(OnError::GoOn)?;
        let sizes = self.layer_sizes(&ids);
        let needed = images_per_layer(&users);
        let is_shared = |layer: &LayerId| needed.get(layer).is_some_and(|images| *images > 1);
        let mut each_container: Vec<_> = users
            .containers
            .iter()
            .map(|container| usage_of(container, &sizes))
            .collect();
        each_container.sort_by(|one, other| one.name.cmp(&other.name));
        let images = users.images.iter().map(|image| {
            let (shared, own): (Vec<_>, Vec<_>) =
                image.layers.iter().partition(|layer| is_shared(layer));
            ImageUsage {
                name: image.name.clone(),
                version: image.version.clone(),
                own: sum(&sizes, own),
                shared: sum(&sizes, shared),
            }
        });
        Ok(Usage {
            images: images.collect(),
            layers: LayerSizes {
                all: KindUsage {
                    count: ids.len(),
                    size: sum(&sizes, &ids),
                    reclaimable: sum(&sizes, users.unused(ids.iter())),
                    unmeasured: ids.len() - sizes.len(),
                },
                shared: sum(&sizes, ids.iter().filter(|layer| is_shared(layer))),
            },
            containers: KindUsage {
                count: each_container.len(),
                size: each_container.iter().map(|container| container.own).sum(),
                ..KindUsage::default()
            },
            logs: logs_of_all(&users.containers),
            staging: self.staging(),
            each_container,
            free: self.free()?,
        })
    }

    fn layer_sizes(&self, ids: &[LayerId]) -> HashMap<LayerId, u64> {
        let sizes = ids.iter().filter_map(|id| match self.store.layer(id) {
            Ok(layer) => Some((id.clone(), layer.size)),
            Err(error) => {
                tracing::debug!("layer {id} does not count: {error}");
                None
            }
        });
        sizes.collect()
    }

    fn staging(&self) -> KindUsage {
        let mut usage = KindUsage::default();
        for (place, folder) in self.store.staging_folders() {
            for name in staged_names(folder).unwrap_or_default() {
                let size = self.recorded_size(place, folder, &name);
                usage.count += 1;
                usage.size += size.unwrap_or(0);
                usage.unmeasured += usize::from(size.is_none());
                if Leftover::claim(folder, &name).is_some() {
                    usage.reclaimable += size.unwrap_or(0);
                }
            }
        }
        for name in self.store.interrupted_transfers().unwrap_or_default() {
            let size = self.kept_of_transfer(&name);
            usage.count += 1;
            usage.size += size;
            if is_free(self.store.transfers_folder(), &name) {
                usage.reclaimable += size;
            }
        }
        usage
    }

    /// Bytes of the few files that are kept of a transfer.
    pub(super) fn kept_of_transfer(&self, name: &str) -> u64 {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.store.transfers_folder(), name, flags, Mode::empty());
        folder.map_or(0, |folder| measure_tree(folder.as_fd()).unwrap_or(0))
    }

    /// What the record in a staged folder says; images have nothing but theirs.
    fn recorded_size(&self, place: &str, parent: BorrowedFd<'_>, name: &CStr) -> Option<u64> {
        match place {
            "images" => Some(0),
            "layers" => self.store.staged_layer_size(name),
            _ => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = openat(parent, name, flags, Mode::empty()).ok()?;
                Some(StateFile::open(folder.as_fd()).ok()?.read().ok()?.size)
            }
        }
    }

    fn free(&self) -> Result<u64, EngineError> {
        let found = fstatvfs(self.store.folder()).map_err(|source| EngineError::FreeSpace {
            folder: self.store.home().into(),
            source,
        })?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

fn images_per_layer(users: &LayerUsers) -> HashMap<&LayerId, usize> {
    let mut images = HashMap::new();
    for layer in users.images.iter().flat_map(|image| &image.layers) {
        *images.entry(layer).or_insert(0) += 1;
    }
    images
}

fn usage_of(container: &Container, sizes: &HashMap<LayerId, u64>) -> ContainerUsage {
    ContainerUsage {
        name: container.name.clone(),
        own: container.state.read().map_or(0, |record| record.size),
        logs: logs(container).sum(),
        shared: sum(sizes, &container.settings.layers),
    }
}

fn logs_of_all(containers: &[Container]) -> KindUsage {
    let mut usage = KindUsage::default();
    for size in containers.iter().flat_map(logs) {
        usage.count += 1;
        usage.size += size;
    }
    usage
}

/// The sizes of a container's logs, those of their times included, and of its recordings.
fn logs(container: &Container) -> impl Iterator<Item = u64> {
    let size = |name| {
        let stat = statat(&container.folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        u64::try_from(stat.st_size).ok()
    };
    LOGS.into_iter()
        .filter_map(move |(log, times)| Some(size(log)? + size(times).unwrap_or(0)))
        .chain(recordings::sizes(container))
}

fn sum<'a>(sizes: &HashMap<LayerId, u64>, layers: impl IntoIterator<Item = &'a LayerId>) -> u64 {
    let sizes = layers.into_iter().filter_map(|layer| sizes.get(layer));
    sizes.sum()
}
