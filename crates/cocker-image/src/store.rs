//! The store: where images, layers and containers lie on disk.
//!
//! ```text
//! $COCKER_HOME/                     0700, owned by root
//! ├── layers/<layer id>/
//! │   ├── layer.json                format, when it was made (s since 1970), size (bytes), layers it was made on,
//! │   │                             origin, digest once it was packed
//! │   └── tree/                     the files, as they are inside; 0755, 0:0
//! ├── images/<name>/<version>/
//! │   └── image.json                format, layer ids (lowest first), its own one, when changed, size of its own
//! ├── containers/<name>/            the engine's
//! ├── config.toml                   the engine's
//! ├── ids/<slot>                    the engine's
//! ├── transfers/<key>/              what is kept of a transfer until it is whole; see [`repository`](crate::repository)
//! ├── srepo                         the repository that was said last
//! ├── change.json                   the change of several names that is under way, if any
//! ├── images.cache                  what listing read the last time; can always be made anew
//! └── store.lock                    one lock for names: held for milliseconds
//! ```
//!
//! A layer appears under its id before the image that needs it appears under its name, so whatever an image names is
//! there. Both are staged beside their final names (see [`staging`](crate::staging)); what takes several renames is whole
//! or not there (see [`Change`]).
//! The store never trusts a home that others could write to, and never looks into a layer's files.

mod cache;
mod catalogue;
mod change;
mod error;
mod home;
mod layers;
mod listing;
mod publication;
mod record;
mod renaming;
#[cfg(test)]
mod tests;

pub use catalogue::{ImageRecord, Origin};
pub use change::{Afterwards, Change, Commit, Leaving, Rename};
pub use error::StoreError;
pub use layers::{LayerOrigin, LayerRecord};
pub use publication::{NewImage, StagedLayer};

use crate::LayerId;
use crate::descent::open_beneath;
use crate::staging::sweep;
use cocker_sys::fault;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const LAYERS: &str = "layers";
const IMAGES: &str = "images";
const CONTAINERS: &str = "containers";
const IDS: &str = "ids";
const TRANSFERS: &str = "transfers";
const LOCK: &str = "store.lock";
/// Files of the home itself, until they are whole.
const STAGED: [&str; 2] = [change::STAGED_RECORD, crate::repository::STAGED_ADDRESS];

/// `$COCKER_HOME`, opened and checked.
///
/// All folders are reached through descriptors that were opened once, close-on-exec; they live as long as this value.
pub struct Store {
    home: PathBuf,
    folder: OwnedFd,
    layers: OwnedFd,
    images: OwnedFd,
    containers: OwnedFd,
    ids: OwnedFd,
    transfers: OwnedFd,
}

/// The lock on the store's names; released by drop.
pub struct StoreLock {
    file: OwnedFd,
}

impl Store {
    /// Opens `home`, making it (0700) with its folders and missing parents.
    ///
    /// Refused where the home or one of its folders does not belong to the caller, where others may enter the home
    /// (an empty one is closed to them instead), or where others may exchange it for another. Links on the way to
    /// the home are followed, below it never.
    pub fn open(home: &Path) -> Result<Store, StoreError> {
        let (home, folder) = home::open(home)?;
        let inner = |name: &str| home::open_inner(&home, folder.as_fd(), name);
        let (layers, images, containers, ids, transfers) = (
            inner(LAYERS)?,
            inner(IMAGES)?,
            inner(CONTAINERS)?,
            inner(IDS)?,
            inner(TRANSFERS)?,
        );
        Ok(Store {
            home,
            folder,
            layers,
            images,
            containers,
            ids,
            transfers,
        })
    }

    /// The path given to `open`, absolute and without links.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// `$COCKER_HOME` itself.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// `$COCKER_HOME/layers`.
    pub fn layers_folder(&self) -> BorrowedFd<'_> {
        self.layers.as_fd()
    }

    /// `$COCKER_HOME/images`.
    pub(crate) fn images_folder(&self) -> BorrowedFd<'_> {
        self.images.as_fd()
    }

    /// `$COCKER_HOME/containers`.
    pub fn containers_folder(&self) -> BorrowedFd<'_> {
        self.containers.as_fd()
    }

    /// `$COCKER_HOME/ids`.
    pub fn ids_folder(&self) -> BorrowedFd<'_> {
        self.ids.as_fd()
    }

    /// `$COCKER_HOME/transfers`.
    pub fn transfers_folder(&self) -> BorrowedFd<'_> {
        self.transfers.as_fd()
    }

    /// Takes the one lock on names (blocking; held for milliseconds), sweeps what dead writers left, and ends a change that
    /// one of them left half-way.
    ///
    /// A process that holds it already and asks again waits for itself for ever.
    pub fn lock(&self) -> Result<StoreLock, StoreError> {
        self.sweep();
        let lock = self.lock_names(FlockOperation::LockExclusive)?;
        if self.settle_change()? {
            // What it left staged or leaving has had no owner since.
            self.sweep();
        }
        // Only the holder of this lock writes these, so whoever began one is dead.
        for staged in STAGED {
            match unlinkat(&self.folder, staged, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => tracing::warn!(%errno, staged, "cannot remove a leftover"),
            }
        }
        Ok(lock)
    }

    /// Removes what dead writers and removers left.
    fn sweep(&self) {
        // A leftover is told from work under way by the lock on its own folder, so removing one, which may take
        // long, need not keep others from the store's lock.
        for (name, folder) in self.staging_folders() {
            if let Err(error) = sweep(folder) {
                tracing::warn!(%error, folder = name, "cannot look for leftovers");
            }
        }
    }

    /// Keeps every name as it is for as long as the lock lives (blocking; held for milliseconds): for whoever has to see
    /// all names at one moment and changes none. Sweeps nothing, but ends a change that was left half-way.
    pub fn hold_still(&self) -> Result<StoreLock, StoreError> {
        loop {
            let lock = self.lock_names(FlockOperation::LockShared)?;
            if !self.is_changing() {
                return Ok(lock);
            }
            // Nobody can be changing anything now, so the writer is dead.
            drop(lock);
            drop(self.lock()?);
        }
    }

    fn lock_names(&self, operation: FlockOperation) -> Result<StoreLock, StoreError> {
        let failed = |errno: rustix::io::Errno| StoreError::Lock {
            path: self.home.join(LOCK),
            source: errno.into(),
        };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        fault::step("store.lock", || cocker_sys::lock::flock(&file, operation)).map_err(failed)?;
        Ok(StoreLock { file })
    }

    /// The folders in which things are staged, with their names in `$COCKER_HOME`.
    pub fn staging_folders(&self) -> [(&'static str, BorrowedFd<'_>); 4] {
        [
            (LAYERS, self.layers.as_fd()),
            (IMAGES, self.images.as_fd()),
            (CONTAINERS, self.containers.as_fd()),
            (TRANSFERS, self.transfers.as_fd()),
        ]
    }

    /// Opens the folder that holds the files of a layer, for reading and for use as a lower directory.
    pub fn open_layer(&self, layer: &LayerId) -> Result<OwnedFd, StoreError> {
        let failed = |source| StoreError::OpenLayer {
            layer: layer.clone(),
            source,
        };
        let path = CString::new(format!("{layer}/tree")).map_err(|error| failed(error.into()))?;
        open_beneath(
            self.layers.as_fd(),
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        )
        .map_err(|errno| failed(errno.into()))
    }
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Not left to closing: a process forked meanwhile may hold the same open file a little longer.
        if let Err(errno) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%errno, "cannot unlock the store");
        }
    }
}
