//! How a new image comes into the store.
//!
//! ```text
//! layers/.new-<id>/{layer.json,tree}  ── rename ──▶  layers/<id>
//! images/.new-<id>/image.json         ── rename ──▶  images/<name>/<version>
//! ```
//!
//! In this order, each brought to disk before the next: an image that can be seen has its layer, also after a power
//! cut. Whatever fails, both names are given back and both folders removed.

use super::record::{self, FORMAT, ImageJson, LayerJson};
use super::{IMAGES, ImageRecord, LAYERS, LayerOrigin, Origin, Store, StoreError};
use crate::staging::{StagedFolder, StagingError};
use crate::{LayerId, Name, Reference, Version, measure_tree};
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, mkdirat, openat, syncfs, unlinkat,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// How often the folder of an image's versions may vanish, each time by another's failure, before it can be used.
const ATTEMPTS: usize = 64;

/// A layer under construction: `layers/.new-<id>/tree`; removed by drop unless published.
pub struct StagedImage {
    folder: StagedFolder,
    layer: LayerId,
    tree: OwnedFd,
    /// Bytes, once sealed.
    size: Option<u64>,
}

impl StagedImage {
    /// The open folder into which the layer's files are written.
    pub fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// The id that the layer will have.
    pub fn layer(&self) -> &LayerId {
        &self.layer
    }

    /// Measures the files and brings them to disk; nothing may be written into the tree after that.
    ///
    /// This is the long part of [`Store::publish`], which does it where it was not done. Who publishes under the
    /// store's lock does it before taking the lock. Returns the size in bytes.
    pub fn seal(&mut self) -> Result<u64, StoreError> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let layer = &self.layer;
        let size = measure_tree(self.tree.as_fd()).map_err(|source| StoreError::Measure {
            layer: layer.clone(),
            source,
        })?;
        // One pass over the file system costs less than an fsync for each of thousands of files.
        syncfs(&self.tree).map_err(|errno| StoreError::Sync {
            path: PathBuf::from(LAYERS).join(layer.as_str()),
            source: errno.into(),
        })?;
        tracing::debug!(%layer, size, "sealed a layer");
        self.size = Some(size);
        Ok(size)
    }
}

impl Store {
    /// Begins a new layer.
    pub fn stage(&self) -> Result<StagedImage, StoreError> {
        let folder =
            StagedFolder::make(self.layers.as_fd()).map_err(|source| StoreError::Stage {
                path: self.home.join(LAYERS),
                source,
            })?;
        let layer = LayerId::from_bits(folder.id());
        let tree = make_tree(folder.folder()).map_err(|errno| StoreError::PrepareTree {
            layer: layer.clone(),
            source: errno.into(),
        })?;
        tracing::debug!(%layer, "began a layer");
        Ok(StagedImage {
            folder,
            layer,
            tree,
            size: None,
        })
    }

    /// Makes the staged layer an image on top of `base` (lowest first); refused when the name and version are in use.
    ///
    /// Of several that publish the same name and version exactly one succeeds, also without the store's lock. Who
    /// names a base holds that lock, so that no layer of it can leave meanwhile. Once this returns, the image
    /// survives power loss.
    pub fn publish(
        &self,
        mut staged: StagedImage,
        name: &Name,
        version: &Version,
        base: &[LayerId],
    ) -> Result<ImageRecord, StoreError> {
        self.publish_as(&mut staged, name, version, base, None)
    }

    /// Makes the staged layer an image of this origin, without a base. One of that name, version and origin makes way and
    /// is returned: its layer may still be in use and stays. One of another origin, which could not be made again, is
    /// refused. The caller holds the store's lock.
    pub fn publish_or_replace(
        &self,
        mut staged: StagedImage,
        name: &Name,
        version: &Version,
        origin: Origin,
    ) -> Result<Option<ImageRecord>, StoreError> {
        if !self.has_image(name, version)? {
            self.publish_as(&mut staged, name, version, &[], Some(origin))?;
            return Ok(None);
        }
        let old = self.resolve(&Reference {
            name: name.clone(),
            version: Some(version.clone()),
        })?;
        if old.origin != Some(origin) {
            return Err(StoreError::ImageExists {
                name: name.clone(),
                version: version.clone(),
            });
        }
        let (mut image, _) = self.write_records(&mut staged, name, version, &[], Some(origin))?;
        let replaced = self.name_layer(&mut staged).and_then(|()| {
            let naming = |source| StoreError::NameImage {
                name: name.clone(),
                version: version.clone(),
                source,
            };
            let place = self.image_path(name).join(version.as_str());
            sync(image.folder(), place)?;
            let versions = self.make_versions(name).map_err(|errno| {
                let source = errno.into();
                StoreError::MakeImageFolder {
                    name: name.clone(),
                    source,
                }
            })?;
            image
                .replace(versions.as_fd(), version.as_str())
                .map_err(naming)?;
            sync(versions.as_fd(), self.image_path(name))
        });
        match replaced {
            Ok(()) => Ok(Some(old)),
            Err(error) => {
                self.roll_back(&mut staged, &mut image, name);
                Err(error)
            }
        }
    }

    fn publish_as(
        &self,
        staged: &mut StagedImage,
        name: &Name,
        version: &Version,
        base: &[LayerId],
        origin: Option<Origin>,
    ) -> Result<ImageRecord, StoreError> {
        if self.has_image(name, version)? {
            return Err(StoreError::ImageExists {
                name: name.clone(),
                version: version.clone(),
            });
        }
        for layer in base {
            self.open_layer(layer)?;
        }
        let (mut image, record) = self.write_records(staged, name, version, base, origin)?;
        if let Err(error) = self.name_both(staged, &mut image, name, version) {
            self.roll_back(staged, &mut image, name);
            return Err(error);
        }
        tracing::debug!(%name, %version, layer = %staged.layer, "published an image");
        Ok(record)
    }

    /// Seals the layer and writes both records, still without names.
    fn write_records(
        &self,
        staged: &mut StagedImage,
        name: &Name,
        version: &Version,
        base: &[LayerId],
        origin: Option<Origin>,
    ) -> Result<(StagedFolder, ImageRecord), StoreError> {
        let size = staged.seal()?;
        let seconds = seconds_now();
        let layer_json = LayerJson {
            format: FORMAT,
            made: seconds,
            size,
            base: base.to_vec(),
            origin: origin.map(|Origin::HostPrograms| LayerOrigin::HostPrograms),
            digest: None,
        };
        let image_json = ImageJson {
            format: FORMAT,
            layers: base.iter().chain([&staged.layer]).cloned().collect(),
            own_layer: staged.layer.clone(),
            modified: seconds,
            size,
            origin,
        };
        record::write(staged.folder.folder(), "layer.json", &layer_json).map_err(|source| {
            StoreError::WriteRecord {
                record: "layer.json",
                name: name.clone(),
                version: version.clone(),
                source,
            }
        })?;
        self.stage_record(name, version, image_json)
    }

    /// Writes an image's record, still without a name.
    pub(super) fn stage_record(
        &self,
        name: &Name,
        version: &Version,
        image_json: ImageJson,
    ) -> Result<(StagedFolder, ImageRecord), StoreError> {
        let image =
            StagedFolder::make(self.images.as_fd()).map_err(|source| StoreError::Stage {
                path: self.home.join(IMAGES),
                source,
            })?;
        record::write(image.folder(), "image.json", &image_json).map_err(|source| {
            StoreError::WriteRecord {
                record: "image.json",
                name: name.clone(),
                version: version.clone(),
                source,
            }
        })?;
        let record = ImageRecord {
            name: name.clone(),
            version: version.clone(),
            layers: image_json.layers,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(image_json.modified),
            size: image_json.size,
            origin: image_json.origin,
        };
        Ok((image, record))
    }

    /// The two renames, each with the folders it changes brought to disk.
    fn name_both(
        &self,
        staged: &mut StagedImage,
        image: &mut StagedFolder,
        name: &Name,
        version: &Version,
    ) -> Result<(), StoreError> {
        self.name_layer(staged)?;
        self.name_record(image, name, version)
    }

    /// Gives the image its name; both folders that this changes are brought to disk.
    pub(super) fn name_record(
        &self,
        image: &mut StagedFolder,
        name: &Name,
        version: &Version,
    ) -> Result<(), StoreError> {
        sync(image.folder(), self.image_path(name).join(version.as_str()))?;
        let versions = self.name_image(image, name, version)?;
        sync(versions.as_fd(), self.image_path(name))?;
        sync(self.images.as_fd(), self.home.join(IMAGES))
    }

    /// Gives the layer its name.
    fn name_layer(&self, staged: &mut StagedImage) -> Result<(), StoreError> {
        let (layer, layers) = (staged.layer.as_str(), self.home.join(LAYERS));
        // The entries in the staged folder have to be on disk before the folder's own name is.
        sync(staged.folder.folder(), layers.join(layer))?;
        staged
            .folder
            .publish(self.layers.as_fd(), layer)
            .map_err(|source| StoreError::NameLayer {
                layer: staged.layer.clone(),
                source,
            })?;
        sync(self.layers.as_fd(), layers)
    }

    /// Renames the staged image to its version, making the folder of versions where it is missing, and returns that.
    fn name_image(
        &self,
        image: &mut StagedFolder,
        name: &Name,
        version: &Version,
    ) -> Result<OwnedFd, StoreError> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let versions = match self.make_versions(name) {
                // Another publisher failed and removed the folder that it had found empty.
                Err(Errno::NOENT) => continue,
                answer => answer.map_err(|errno| StoreError::MakeImageFolder {
                    name: name.clone(),
                    source: errno.into(),
                })?,
            };
            match image.publish(versions.as_fd(), version.as_str()) {
                Ok(()) => return Ok(versions),
                Err(error) if error.is_name_taken() => {
                    return Err(StoreError::ImageExists {
                        name: name.clone(),
                        version: version.clone(),
                    });
                }
                Err(error) if is_missing(&error) => last = Some(error),
                Err(source) => {
                    return Err(StoreError::NameImage {
                        name: name.clone(),
                        version: version.clone(),
                        source,
                    });
                }
            }
        }
        Err(match last {
            Some(source) => StoreError::NameImage {
                name: name.clone(),
                version: version.clone(),
                source,
            },
            None => StoreError::MakeImageFolder {
                name: name.clone(),
                source: Errno::NOENT.into(),
            },
        })
    }

    fn make_versions(&self, name: &Name) -> Result<OwnedFd, Errno> {
        match mkdirat(&self.images, name.as_str(), Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.images, name.as_str(), flags, Mode::empty())
    }

    /// Gives the names back, newest first; the folders themselves go by drop.
    fn roll_back(&self, staged: &mut StagedImage, image: &mut StagedFolder, name: &Name) {
        for folder in [image, &mut staged.folder] {
            take_back(folder);
        }
        self.remove_if_empty(name);
    }

    /// An empty folder of versions means nothing, whoever made it; says whether one was removed.
    pub fn remove_if_empty(&self, name: &Name) -> bool {
        match unlinkat(&self.images, name.as_str(), AtFlags::REMOVEDIR) {
            Ok(()) => true,
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => false,
            Err(errno) => {
                tracing::warn!(%errno, %name, "cannot remove the empty folder of an image");
                false
            }
        }
    }
}

/// What fails here leaves something behind and must not hide the first error.
pub(super) fn take_back(folder: &mut StagedFolder) {
    if let Err(error) = folder.take_back() {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot take an unfinished image back"
        );
    }
}

/// Whole seconds since 1970.
pub(super) fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Brings a folder's entries to disk; `path` is for the error.
pub(super) fn sync(folder: BorrowedFd<'_>, path: PathBuf) -> Result<(), StoreError> {
    fsync(folder).map_err(|errno| StoreError::Sync {
        path,
        source: errno.into(),
    })
}

/// Makes the folder for a layer's files as a root folder has to be: 0755, owned by 0:0.
fn make_tree(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    mkdirat(folder, "tree", Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = openat(folder, "tree", flags, Mode::empty())?;
    // Neither the umask nor a set-group-id folder above may have a say.
    fchown(&tree, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fchmod(&tree, Mode::from_raw_mode(0o755))?;
    Ok(tree)
}

fn is_missing(error: &StagingError) -> bool {
    matches!(error, StagingError::Rename { source, .. } if source.kind() == io::ErrorKind::NotFound)
}
