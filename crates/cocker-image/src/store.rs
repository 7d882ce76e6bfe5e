//! The store.

use crate::{Name, Reference, Version};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::SystemTime;

/// The id of a layer: 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId(String);

impl LayerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One image of the store.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    pub name: Name,
    pub version: Version,
    /// Every layer that this image needs, lowest first; the last one is its own.
    pub layers: Vec<LayerId>,
    /// When the image was made or last changed.
    pub modified: SystemTime,
    /// Bytes of the image's own layer.
    pub size: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot find image `{0}`")]
    UnknownImage(String),
}

/// `$COCKER_HOME`, opened and checked.
pub struct Store {}

/// The lock on the store's names; released by drop.
pub struct StoreLock {}

/// A layer under construction: `layers/.new-<id>/tree`; removed by drop unless published.
pub struct StagedImage {}

impl StagedImage {
    /// The open folder into which the layer's files are written.
    pub fn tree(&self) -> BorrowedFd<'_> {
        todo!()
    }
}

impl Store {
    /// Opens `home`, making it (0700) with its folders where they are missing.
    pub fn open(_home: &Path) -> Result<Store, StoreError> {
        todo!()
    }
    /// The path given to `open`, absolute.
    pub fn home(&self) -> &Path {
        todo!()
    }
    /// `$COCKER_HOME` itself.
    pub fn folder(&self) -> BorrowedFd<'_> {
        todo!()
    }
    /// Takes the one lock on names (blocking; held for milliseconds) and sweeps what dead writers left.
    pub fn lock(&self) -> Result<StoreLock, StoreError> {
        todo!()
    }
    /// All images, by name, then version.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        todo!()
    }
    /// The image meant by `reference`: the highest version where it names none.
    pub fn resolve(&self, _reference: &Reference) -> Result<ImageRecord, StoreError> {
        todo!()
    }
    /// Begins a new layer.
    pub fn stage(&self) -> Result<StagedImage, StoreError> {
        todo!()
    }
    /// Makes the staged layer an image on top of `base` (lowest first); refused when the name and version are in use.
    pub fn publish(
        &self,
        _staged: StagedImage,
        _name: &Name,
        _version: &Version,
        _base: &[LayerId],
    ) -> Result<ImageRecord, StoreError> {
        todo!()
    }
}
