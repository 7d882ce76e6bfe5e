//! How images get other names, second names, and lose them. No layer is touched, so none of it takes long.
//!
//! ```text
//! images/<name>/<version>        ── rename ──▶  images/<name>/<other version>
//! images/.new-<id>/image.json    ── rename ──▶  images/<second name>/<version>
//! images/<name>/<version>        ── rename ──▶  images/.gone-<id>
//! ```
//!
//! The caller holds the store's lock, under which layers are pinned and taken away. Once one of these returns, what it
//! did survives power loss.

use super::publication::{seconds_now, sync, take_back};
use super::record::{FORMAT, ImageJson};
use super::{IMAGES, ImageRecord, Store, StoreError};
use crate::staging::LeavingFolder;
use crate::{Name, Reference, Version};
use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;
use std::os::fd::AsFd;

impl Store {
    /// Gives an image another version; its files, layers and times stay as they are. Nothing changes where it has that
    /// version already; one that another image of the name has is refused.
    pub fn set_version(&self, image: &Reference, version: &Version) -> Result<(), StoreError> {
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
        renameat_with(&versions, from, &versions, to, RenameFlags::NOREPLACE).map_err(failed)?;
        sync(versions.as_fd(), self.image_path(name))?;
        tracing::debug!(%name, from, to, "gave an image another version");
        Ok(())
    }

    /// Gives the layers of an image a second name. The new image is one of its own: made now, and of no origin, so that
    /// nothing replaces it unasked.
    pub fn copy_image(
        &self,
        image: &Reference,
        name: &Name,
        version: &Version,
    ) -> Result<ImageRecord, StoreError> {
        let ImageRecord { layers, size, .. } = self.resolve(image)?;
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
        };
        let (mut staged, record) = self.stage_record(name, version, record)?;
        if let Err(error) = self.name_record(&mut staged, name, version) {
            take_back(&mut staged);
            self.remove_if_empty(name);
            return Err(error);
        }
        tracing::debug!(%name, %version, from = %image, "copied an image");
        Ok(record)
    }

    /// Takes an image's name away. Its layers stay: who else needs them is not asked here.
    pub fn remove_image(&self, name: &Name, version: &Version) -> Result<(), StoreError> {
        // To where a sweep finds it, should this be the last that the process does.
        let path = format!("{name}/{version}");
        let leaving = LeavingFolder::begin(self.images.as_fd(), path).map_err(|source| {
            StoreError::RemoveImage {
                name: name.clone(),
                version: version.clone(),
                source,
            }
        })?;
        if let Some(versions) = self.open_versions(name)? {
            sync(versions.as_fd(), self.image_path(name))?;
        }
        self.remove_if_empty(name);
        sync(self.images.as_fd(), self.home.join(IMAGES))?;
        tracing::debug!(%name, %version, "removed an image");
        // Two files at most; what cannot be removed is swept later.
        drop(leaving);
        Ok(())
    }
}
