//! How images get other names, second names, and lose them.
//!
//! ```text
//! images/<name>/<version>        ── rename ──▶  images/<name>/<other version>
//! images/.new-<id>/image.json    ── rename ──▶  images/<second name>/<version>
//! images/<name>/<version>        ── rename ──▶  images/.gone-<id>        (and its layers, in the same change)
//! ```
//!
//! No layer's files are touched, so none of it takes long. The caller holds the store's lock, under which layers are
//! pinned and taken away. Once one of these returns, what it did survives power loss.

use super::change::{Change, Commit, Rename, leaving};
use super::publication::{StagedImage, seconds_now, sync};
use super::record::{FORMAT, ImageJson};
use super::{Afterwards, IMAGES, ImageRecord, Leaving, Store, StoreError, StoreLock};
use crate::{LayerId, Name, Reference, Version};
use cocker_sys::fault;
use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;
use serde_json::Value;
use std::os::fd::AsFd;

impl Store {
    /// Gives an image another version; its files, layers and times stay as they are. Nothing changes where it has that
    /// version already; one that another image of the name has is refused.
    pub fn set_version(
        &self,
        _names: &StoreLock,
        image: &Reference,
        version: &Version,
    ) -> Result<(), StoreError> {
        let image = self.resolve(image)?;
        if image.version == *version {
            return Ok(());
        }
        let name = &image.name;
        let failed = |errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY => StoreError::ImageExists {
                name: name.clone(),
                version: version.clone(),
            },
            _ => StoreError::SetVersion {
                name: name.clone(),
                from: image.version.clone(),
                to: version.clone(),
                source: errno.into(),
            },
        };
        let versions = self
            .open_versions(name)?
            .ok_or_else(|| failed(Errno::NOENT))?;
        let (from, to) = (image.version.as_str(), version.as_str());
        fault::step("image.version", || {
            renameat_with(&versions, from, &versions, to, RenameFlags::NOREPLACE)
        })
        .map_err(failed)?;
        if let Err(error) = sync(versions.as_fd(), self.image_path(name)) {
            // What cannot be brought to disk has not been done.
            if let Err(errno) =
                renameat_with(&versions, to, &versions, from, RenameFlags::NOREPLACE)
            {
                tracing::warn!(%errno, %name, to, "an image keeps its new version");
            }
            return Err(error);
        }
        tracing::debug!(%name, from, to, "gave an image another version");
        Ok(())
    }

    /// Gives the layers of an image a second name. The new image is one of its own: made now, and of no origin, so that
    /// nothing replaces it unasked.
    pub fn copy_image(
        &self,
        names: &StoreLock,
        image: &Reference,
        name: &Name,
        version: &Version,
    ) -> Result<ImageRecord, StoreError> {
        let ImageRecord {
            layers,
            size,
            config,
            ..
        } = self.resolve(image)?;
        let record = self.publish_record(names, name, version, (layers, size, config))?;
        tracing::debug!(%name, %version, from = %image, "copied an image");
        Ok(record)
    }

    /// Makes an image of layers that are in the store already, lowest first, one at least; refused when the name and version
    /// are in use.
    pub fn publish_layers(
        &self,
        names: &StoreLock,
        name: &Name,
        version: &Version,
        layers: Vec<LayerId>,
        config: Option<Value>,
    ) -> Result<ImageRecord, StoreError> {
        for layer in &layers {
            self.open_layer(layer)?;
        }
        let own_layer = layers.last().expect("an image has a layer");
        let size = self.layer(own_layer)?.size;
        self.publish_record(names, name, version, (layers, size, config))
    }

    /// Makes an image of layers that are there: those, the size of the last one, and what a foreign image said.
    fn publish_record(
        &self,
        names: &StoreLock,
        name: &Name,
        version: &Version,
        (layers, size, config): (Vec<LayerId>, u64, Option<Value>),
    ) -> Result<ImageRecord, StoreError> {
        if self.has_image(name, version)? {
            return Err(StoreError::ImageExists {
                name: name.clone(),
                version: version.clone(),
            });
        }
        let own_layer = layers.last().expect("a record has an own layer").clone();
        let record = ImageJson {
            format: FORMAT,
            layers,
            own_layer,
            modified: seconds_now(),
            size,
            origin: None,
            config,
        };
        let StagedImage {
            folder: mut staged,
            file,
            record,
        } = self.stage_record(name, version, record)?;
        let path = self.home.join(IMAGES).join(staged.name());
        sync(file.as_fd(), path.join("image.json"))?;
        sync(staged.folder(), path)?;
        let change = Change {
            before: Vec::new(),
            commit: Commit::Rename(Rename::new(
                format!("{IMAGES}/{}", staged.name()),
                format!("{IMAGES}/{name}/{version}"),
            )),
            afterwards: Vec::new(),
        };
        drop(self.carry_out(names, &change)?);
        staged.let_go();
        Ok(record)
    }

    /// Takes an image's name away; `afterwards` is part of the same change. Who needs its layers is not asked here.
    pub fn remove_image(
        &self,
        names: &StoreLock,
        name: &Name,
        version: &Version,
        afterwards: Vec<Afterwards>,
    ) -> Result<Leaving, StoreError> {
        let change = Change {
            before: Vec::new(),
            commit: Commit::Rename(leaving(format!("{IMAGES}/{name}/{version}"))?),
            afterwards,
        };
        let leaving = self.carry_out(names, &change)?;
        tracing::debug!(%name, %version, "removed an image");
        Ok(leaving)
    }
}
