//! Which images there are, and which one is meant.
//!
//! Reading takes no lock: an image appears and disappears whole, and one that goes while it is looked at is left out.

use super::record::{self, ImageJson};
use super::{IMAGES, Store, StoreError};
use crate::descent::open_beneath;
use crate::{LayerId, Name, Reference, Version};
use rustix::fs::{AtFlags, Dir, OFlags, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The end of the year 9999 in seconds since 1970: later times can neither be added up nor written as dates.
const LATEST: u64 = 253_402_300_799;

/// Where an image's own layer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The host's own programs; it can be made again at any time.
    HostPrograms,
}

/// One image of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub name: Name,
    pub version: Version,
    /// Every layer that this image needs, lowest first; the last one is its own.
    pub layers: Vec<LayerId>,
    /// When the image was made or last changed, in whole seconds.
    pub modified: SystemTime,
    /// Bytes of the image's own layer.
    pub size: u64,
    /// Where the own layer comes from, where that is known.
    pub origin: Option<Origin>,
    /// What a foreign image says of how its program is run; not used here, and given back when the image is exported.
    pub config: Option<serde_json::Value>,
}

impl Store {
    /// All images, by name, then version.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let mut images = Vec::new();
        for name in self.entries(self.images.as_fd(), self.home.join(IMAGES), Name::parse)? {
            let Some(folder) = self.open_versions(&name)? else {
                continue;
            };
            for version in self.versions(&name, folder.as_fd())? {
                images.extend(self.read_image(&name, version, folder.as_fd())?);
            }
        }
        Ok(images)
    }

    /// The image meant by `reference`: the highest version where it names none.
    pub fn resolve(&self, reference: &Reference) -> Result<ImageRecord, StoreError> {
        let name = &reference.name;
        let unknown = || StoreError::UnknownImage { name: name.clone() };
        let folder = self.open_versions(name)?.ok_or_else(unknown)?;
        if let Some(version) = &reference.version {
            if let Some(image) = self.read_image(name, version.clone(), folder.as_fd())? {
                return Ok(image);
            }
            let known = self.versions(name, folder.as_fd())?;
            return Err(match known.is_empty() {
                true => unknown(),
                false => StoreError::UnknownVersion {
                    name: name.clone(),
                    version: version.clone(),
                    known,
                },
            });
        }
        let mut versions = self.versions(name, folder.as_fd())?;
        while let Some(version) = versions.pop() {
            if let Some(image) = self.read_image(name, version, folder.as_fd())? {
                return Ok(image);
            }
        }
        Err(unknown())
    }

    /// The layers of several images stacked, lowest first: each layer once, where the first image that has it puts it.
    pub fn stack(&self, images: &[Reference]) -> Result<Vec<LayerId>, StoreError> {
        let mut layers: Vec<LayerId> = Vec::new();
        for reference in images {
            for layer in self.resolve(reference)?.layers {
                if !layers.contains(&layer) {
                    layers.push(layer);
                }
            }
        }
        Ok(layers)
    }

    /// Whether the name and version are in use.
    pub fn has_image(&self, name: &Name, version: &Version) -> Result<bool, StoreError> {
        match statat(
            &self.images,
            format!("{name}/{version}"),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(StoreError::LookForImage {
                name: name.clone(),
                version: version.clone(),
                source: errno.into(),
            }),
        }
    }

    pub(super) fn open_versions(&self, name: &Name) -> Result<Option<OwnedFd>, StoreError> {
        let failed = |source| StoreError::OpenFolder {
            path: self.image_path(name),
            source,
        };
        let entry = CString::new(name.as_str()).map_err(|error| failed(error.into()))?;
        match open_beneath(
            self.images.as_fd(),
            &entry,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        ) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn versions(&self, name: &Name, folder: BorrowedFd<'_>) -> Result<Vec<Version>, StoreError> {
        self.entries(folder, self.image_path(name), Version::parse)
    }

    /// The entries of a folder that are what `parse` takes, sorted; what is staged or foreign is left out.
    pub(super) fn entries<T: Ord, E>(
        &self,
        folder: BorrowedFd<'_>,
        path: PathBuf,
        parse: fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = |errno: Errno| StoreError::List {
            path: path.clone(),
            source: errno.into(),
        };
        let mut found = Vec::new();
        let mut entries = Dir::read_from(folder).map_err(failed)?;
        while let Some(entry) = entries.read() {
            let entry = match entry {
                Ok(entry) => entry,
                // The folder itself went away meanwhile, and with it all its entries.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(failed(errno)),
            };
            found.extend(
                entry
                    .file_name()
                    .to_str()
                    .ok()
                    .and_then(|text| parse(text).ok()),
            );
        }
        found.sort();
        Ok(found)
    }

    /// One image; `None` where there is none.
    fn read_image(
        &self,
        name: &Name,
        version: Version,
        folder: BorrowedFd<'_>,
    ) -> Result<Option<ImageRecord>, StoreError> {
        let path = self
            .image_path(name)
            .join(version.as_str())
            .join("image.json");
        let failed = |source| StoreError::ReadRecord {
            path: path.clone(),
            source,
        };
        let record =
            CString::new(format!("{version}/image.json")).map_err(|error| failed(error.into()))?;
        let Some(image) = record::read_image(folder, &record, &path)? else {
            // An image without its record is broken; one that has left its name since it was listed is just gone.
            return match statat(folder, version.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(failed(Errno::NOENT.into())),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(failed(errno.into())),
            };
        };
        let ImageJson {
            layers,
            modified,
            size,
            origin,
            config,
            ..
        } = image;
        if modified > LATEST {
            return Err(StoreError::ContradictoryRecord {
                path,
                why: "it was changed after the year 9999",
            });
        }
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        Ok(Some(ImageRecord {
            name: name.clone(),
            version,
            layers,
            modified,
            size,
            origin,
            config,
        }))
    }

    pub(super) fn image_path(&self, name: &Name) -> PathBuf {
        self.home.join(IMAGES).join(name.as_str())
    }
}
