//! How new layers and a new image come into the store.
//!
//! ```text
//! layers/.new-<id>/{layer.json,tree}  ── rename ──▶  layers/<id>
//! images/.new-<id>/image.json         ── rename ──▶  images/<name>/<version>       this one decides
//! ```
//!
//! All of it is one [`Change`]: an image that can be seen has its layers, also after a power cut, and where the image does
//! not come to be, its new layers vanish. A layer's files may also come from elsewhere in the home, by a rename.
//! Files and records are written first, then one pass over the file system brings all of them to disk, then come the renames.

use super::change::{Afterwards, Change, Commit, Rename};
use super::record::{self, FORMAT, ImageJson, LayerJson};
use super::{
    IMAGES, ImageRecord, LAYERS, LayerOrigin, Leaving, Origin, Store, StoreError, StoreLock,
};
use crate::staging::StagedFolder;
use crate::{Digest, LayerId, Name, Reference, Version, measure_tree};
use cocker_sys::fault;
use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, fsync, mkdirat, openat, syncfs};
use rustix::io::Errno;
use serde_json::Value;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// A layer under construction, `layers/.new-<id>`; removed by drop unless published.
pub struct StagedLayer {
    folder: StagedFolder,
    layer: LayerId,
    files: Files,
    /// Bytes, once sealed.
    size: Option<u64>,
    /// Where the files come from, where that is known.
    pub origin: Option<LayerOrigin>,
    /// Of the layer packed as an archive, where that is known.
    pub digest: Option<Digest>,
    /// Of the tar stream that it was in a foreign image.
    pub diff_id: Option<Digest>,
}

/// Where a staged layer has its files.
enum Files {
    /// In its own folder `tree`.
    Here(OwnedFd),
    /// At this place in the home, from where a rename brings them.
    At(String),
}

/// An image to be.
pub struct NewImage {
    pub name: Name,
    pub version: Version,
    /// The layers of the store that it stands on, lowest first.
    pub base: Vec<LayerId>,
    /// Its new layers, lowest first. The last one is its own; there is one at least.
    pub layers: Vec<StagedLayer>,
    pub origin: Option<Origin>,
    /// What a foreign image says of how its program is run.
    pub config: Option<Value>,
    sealed: Option<StagedImage>,
}

/// An image's record, written into `images/.new-<id>`.
pub(super) struct StagedImage {
    pub folder: StagedFolder,
    pub file: File,
    pub record: ImageRecord,
}

impl NewImage {
    /// An image of one new layer, of no origin, on `base`.
    pub fn of(layer: StagedLayer, name: &Name, version: &Version, base: &[LayerId]) -> NewImage {
        NewImage::of_layers(vec![layer], name, version, base)
    }

    /// The same of several new layers, lowest first; one at least.
    pub fn of_layers(
        layers: Vec<StagedLayer>,
        name: &Name,
        version: &Version,
        base: &[LayerId],
    ) -> NewImage {
        NewImage {
            name: name.clone(),
            version: version.clone(),
            base: base.to_vec(),
            layers,
            origin: None,
            config: None,
            sealed: None,
        }
    }

    /// Writes the records and brings them and all files to disk; nothing of it may be changed after that.
    ///
    /// This is the long part of [`Store::publish`], which does it where it was not done. Who publishes does it before
    /// taking the store's lock.
    pub fn seal(&mut self, store: &Store) -> Result<(), StoreError> {
        if self.sealed.is_none() {
            let json = self.write_layers()?;
            let staged = store.stage_record(&self.name, &self.version, json)?;
            // One pass over the file system costs less than an fsync for each of thousands of files.
            fault::step("image.sync", || syncfs(staged.folder.folder())).map_err(|errno| {
                StoreError::Sync {
                    path: store.home.clone(),
                    source: errno.into(),
                }
            })?;
            self.sealed = Some(staged);
        }
        Ok(())
    }

    /// Writes the layers' records, still without names.
    fn write_layers(&mut self) -> Result<ImageJson, StoreError> {
        let modified = seconds_now();
        let mut layers = self.base.clone();
        let mut own_size = 0;
        for layer in &mut self.layers {
            own_size = layer.measure()?;
            let json = LayerJson {
                format: FORMAT,
                made: modified,
                size: own_size,
                base: layers.clone(),
                origin: layer.origin.clone(),
                digest: layer.digest.clone(),
                diff_id: layer.diff_id.clone(),
            };
            record::write(layer.folder.folder(), "layer.json", &json).map_err(|source| {
                StoreError::WriteRecord {
                    record: "layer.json",
                    name: self.name.clone(),
                    version: self.version.clone(),
                    source,
                }
            })?;
            layers.push(layer.layer.clone());
        }
        let own_layer = layers.last().expect("an image has a new layer").clone();
        Ok(ImageJson {
            format: FORMAT,
            layers,
            own_layer,
            modified,
            size: own_size,
            origin: self.origin,
            config: self.config.clone(),
        })
    }
}

impl StagedLayer {
    /// The open folder into which the layer's files are written.
    pub fn tree(&self) -> BorrowedFd<'_> {
        match &self.files {
            Files::Here(tree) => tree.as_fd(),
            Files::At(_) => unreachable!("only who stages a layer without files has none"),
        }
    }

    /// The id that the layer will have.
    pub fn layer(&self) -> &LayerId {
        &self.layer
    }

    /// What its folder among the layers is called until it is published.
    pub(crate) fn folder_name(&self) -> &str {
        self.folder.name()
    }

    /// Measures the files, where that was not done; nothing may be written into the tree after that. Returns the size in
    /// bytes.
    pub fn measure(&mut self) -> Result<u64, StoreError> {
        if let Some(size) = self.size {
            return Ok(size);
        }
        let layer = &self.layer;
        let size = measure_tree(self.tree()).map_err(|source| StoreError::Measure {
            layer: layer.clone(),
            source,
        })?;
        tracing::debug!(%layer, size, "measured a layer");
        self.size = Some(size);
        Ok(size)
    }

    fn staged_path(&self) -> String {
        format!("{LAYERS}/{}", self.folder.name())
    }

    /// The renames that make it a layer of the store.
    fn renames(&self) -> Vec<Rename> {
        let layer = format!("{LAYERS}/{}", self.layer);
        let mut renames = vec![Rename::new(self.staged_path(), &layer)];
        if let Files::At(place) = &self.files {
            renames.push(Rename::new(place, format!("{layer}/tree")));
        }
        renames
    }
}

impl Store {
    /// Begins a new layer.
    pub fn stage(&self) -> Result<StagedLayer, StoreError> {
        let (folder, layer) = self.stage_layer()?;
        let tree = make_tree(folder.folder()).map_err(|errno| StoreError::PrepareTree {
            layer: layer.clone(),
            source: errno.into(),
        })?;
        tracing::debug!(%layer, "began a layer");
        Ok(StagedLayer {
            folder,
            layer,
            files: Files::Here(tree),
            size: None,
            origin: None,
            digest: None,
            diff_id: None,
        })
    }

    /// Begins a new layer whose files, of `size` bytes, are a folder at `place` (seen from the home) until it is published,
    /// and again where that fails.
    pub fn stage_from(&self, place: String, size: u64) -> Result<StagedLayer, StoreError> {
        let (folder, layer) = self.stage_layer()?;
        Ok(StagedLayer {
            folder,
            layer,
            files: Files::At(place),
            size: Some(size),
            origin: None,
            digest: None,
            diff_id: None,
        })
    }

    fn stage_layer(&self) -> Result<(StagedFolder, LayerId), StoreError> {
        let folder =
            StagedFolder::make(self.layers.as_fd()).map_err(|source| StoreError::Stage {
                path: self.home.join(LAYERS),
                source,
            })?;
        let layer = LayerId::from_bits(folder.id());
        Ok((folder, layer))
    }

    /// Makes an image; refused when the name and version are in use. `afterwards` is part of the same change, and what has
    /// left its name by it is returned.
    pub fn publish(
        &self,
        names: &StoreLock,
        image: NewImage,
        afterwards: Vec<Afterwards>,
    ) -> Result<(ImageRecord, Leaving), StoreError> {
        if self.has_image(&image.name, &image.version)? {
            return Err(exists(&image));
        }
        self.publish_by(names, image, afterwards, Commit::Rename)
    }

    /// Makes an image; one of that name, version and origin makes way. One of another origin, which could not be made
    /// again, is refused. Layers of the old one stay, but for what `afterwards` says.
    pub fn publish_or_replace(
        &self,
        names: &StoreLock,
        image: NewImage,
        afterwards: Vec<Afterwards>,
    ) -> Result<(ImageRecord, Leaving), StoreError> {
        if !self.has_image(&image.name, &image.version)? {
            return self.publish(names, image, afterwards);
        }
        let old = self.resolve(&Reference {
            name: image.name.clone(),
            version: Some(image.version.clone()),
        })?;
        if image.origin.is_none() || old.origin != image.origin {
            return Err(exists(&image));
        }
        self.publish_by(names, image, afterwards, Commit::Exchange)
    }

    fn publish_by(
        &self,
        names: &StoreLock,
        mut image: NewImage,
        afterwards: Vec<Afterwards>,
        commit: fn(Rename) -> Commit,
    ) -> Result<(ImageRecord, Leaving), StoreError> {
        for layer in &image.base {
            self.open_layer(layer)?;
        }
        image.seal(self)?;
        let sealed = image.sealed.take().expect("it was sealed");
        let StagedImage {
            folder: mut staged,
            record,
            ..
        } = sealed;
        let commit = commit(Rename::new(
            format!("{IMAGES}/{}", staged.name()),
            format!("{IMAGES}/{}/{}", image.name, image.version),
        ));
        // A folder that changes places leaves the old one under the staged name.
        let is_renamed = matches!(commit, Commit::Rename(_));
        let change = Change {
            before: image.layers.iter().flat_map(StagedLayer::renames).collect(),
            commit,
            afterwards,
        };
        let leaving = self.carry_out(names, &change)?;
        image
            .layers
            .iter_mut()
            .for_each(|layer| layer.folder.let_go());
        if is_renamed {
            staged.let_go();
        }
        tracing::debug!(name = %record.name, version = %record.version, layers = ?record.layers, "published an image");
        Ok((record, leaving))
    }

    /// Writes an image's record, still without a name and not on disk for certain.
    pub(super) fn stage_record(
        &self,
        name: &Name,
        version: &Version,
        image_json: ImageJson,
    ) -> Result<StagedImage, StoreError> {
        let folder =
            StagedFolder::make(self.images.as_fd()).map_err(|source| StoreError::Stage {
                path: self.home.join(IMAGES),
                source,
            })?;
        let written = record::write(folder.folder(), "image.json", &image_json);
        let file = written.map_err(|source| StoreError::WriteRecord {
            record: "image.json",
            name: name.clone(),
            version: version.clone(),
            source,
        })?;
        let record = ImageRecord {
            name: name.clone(),
            version: version.clone(),
            layers: image_json.layers,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(image_json.modified),
            size: image_json.size,
            origin: image_json.origin,
            config: image_json.config,
        };
        Ok(StagedImage {
            folder,
            file,
            record,
        })
    }
}

fn exists(image: &NewImage) -> StoreError {
    StoreError::ImageExists {
        name: image.name.clone(),
        version: image.version.clone(),
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
    fault::step("store.sync", || fsync(folder)).map_err(|errno| StoreError::Sync {
        path,
        source: errno.into(),
    })
}

/// Makes the folder for a layer's files as a root folder has to be: 0755, owned by 0:0.
fn make_tree(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fault::step("layer.tree", || mkdirat(folder, "tree", Mode::RWXU))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = openat(folder, "tree", flags, Mode::empty())?;
    // Neither the umask nor a set-group-id folder above may have a say.
    fchown(&tree, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fault::step("layer.mode", || fchmod(&tree, Mode::from_raw_mode(0o755)))?;
    Ok(tree)
}
