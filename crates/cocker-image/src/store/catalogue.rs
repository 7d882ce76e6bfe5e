//! Which image is meant, and how one is read.
//!
//! Reading takes no lock: an image appears and disappears whole, and one that goes while it is looked at is left out.

use super::home;
use super::record;
use super::{IMAGES, Store, StoreError};
use crate::descent::{open_again, open_beneath};
use crate::{LayerId, Name, Reference, Version};
use rustix::fs::{AtFlags, OFlags, RawDir, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The end of the year 9999 in seconds since 1970: later times can neither be added up nor written as dates.
pub(super) const LATEST: u64 = 253_402_300_799;

/// Bytes of a folder's entries read at once.
const ENTRY_BYTES: usize = 32 * 1024;

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
    /// What a foreign image says of how its program is run; given back when the image is exported. Its environment is that of
    /// commands in containers made of it.
    pub config: Option<serde_json::Value>,
}

impl Store {
    /// The names under which there are folders of versions, sorted; one of them may be empty.
    pub fn image_names(&self) -> Result<Vec<Name>, StoreError> {
        self.entries(self.images.as_fd(), self.home.join(IMAGES), Name::parse)
    }

    /// The image meant by `reference`: the highest version where it names none.
    pub fn resolve(&self, reference: &Reference) -> Result<ImageRecord, StoreError> {
        let name = &reference.name;
        let unknown = || StoreError::UnknownImage { name: name.clone() };
        let folder = self.open_versions(name)?.ok_or_else(unknown)?;
        let mut reader = Reader::default();
        if let Some(version) = &reference.version {
            if let Some(image) =
                self.read_image(&mut reader, name, version.clone(), folder.as_fd())?
            {
                return Ok(image);
            }
            let known = self.versions_in(&mut reader, name, folder.as_fd())?;
            return Err(match known.is_empty() {
                true => unknown(),
                false => StoreError::UnknownVersion {
                    name: name.clone(),
                    version: version.clone(),
                    known,
                },
            });
        }
        let mut versions = self.versions_in(&mut reader, name, folder.as_fd())?;
        while let Some(version) = versions.pop() {
            if let Some(image) = self.read_image(&mut reader, name, version, folder.as_fd())? {
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

    pub(crate) fn open_versions(&self, name: &Name) -> Result<Option<OwnedFd>, StoreError> {
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

    /// Whether there is nothing at all in a name's folder.
    pub fn is_empty(&self, name: &Name) -> bool {
        let folder = self.open_versions(name).ok().flatten();
        folder.is_some_and(|folder| home::is_empty(folder.as_fd()) == Ok(true))
    }

    /// The versions of a name that are there, sorted.
    pub fn image_versions(&self, name: &Name) -> Result<Vec<Version>, StoreError> {
        match self.open_versions(name)? {
            Some(folder) => self.versions_in(&mut Reader::default(), name, folder.as_fd()),
            None => Ok(Vec::new()),
        }
    }

    /// The versions in the folder of a name, sorted. `folder` was opened for this: it is read from its beginning.
    pub(super) fn versions_in(
        &self,
        reader: &mut Reader,
        name: &Name,
        folder: BorrowedFd<'_>,
    ) -> Result<Vec<Version>, StoreError> {
        let failed = |errno: Errno| StoreError::List {
            path: self.image_path(name),
            source: errno.into(),
        };
        let mut versions = reader.entries(folder, Version::parse).map_err(failed)?;
        versions.sort();
        Ok(versions)
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
        // A view of its own: others read the same open folder.
        let folder = open_again(folder).map_err(failed)?;
        let read = Reader::default().entries(folder.as_fd(), parse);
        let mut found = read.map_err(failed)?;
        found.sort_unstable();
        Ok(found)
    }

    /// One image; `None` where there is none.
    pub(super) fn read_image(
        &self,
        reader: &mut Reader,
        name: &Name,
        version: Version,
        folder: BorrowedFd<'_>,
    ) -> Result<Option<ImageRecord>, StoreError> {
        let path = || {
            self.image_path(name)
                .join(version.as_str())
                .join("image.json")
        };
        let failed = |source| StoreError::ReadRecord {
            path: path(),
            source,
        };
        let record =
            CString::new(format!("{version}/image.json")).map_err(|error| failed(error.into()))?;
        let Some(image) = record::read_image(folder, &record, path, &mut reader.text)? else {
            // An image without its record is broken; one that has left its name since it was listed is just gone.
            return match statat(folder, version.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(failed(Errno::NOENT.into())),
                Err(Errno::NOENT) => Ok(None),
                Err(errno) => Err(failed(errno.into())),
            };
        };
        if image.modified > LATEST {
            return Err(StoreError::ContradictoryRecord {
                path: path(),
                why: "it was changed after the year 9999",
            });
        }
        Ok(Some(ImageRecord {
            name: name.clone(),
            version,
            layers: image.layers,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(image.modified),
            size: image.size,
            origin: image.origin,
            config: image.config,
        }))
    }

    pub(super) fn image_path(&self, name: &Name) -> PathBuf {
        self.home.join(IMAGES).join(name.as_str())
    }
}

/// Memory that serves one folder or record after the other: listing asks for thousands.
#[derive(Default)]
pub(super) struct Reader {
    entries: Vec<u8>,
    text: Vec<u8>,
}

impl Reader {
    /// The entries of an open folder, from its place of reading on, that are what `parse` takes; what is staged or
    /// foreign is left out.
    fn entries<T, E>(
        &mut self,
        folder: BorrowedFd<'_>,
        parse: fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Errno> {
        self.entries.clear();
        self.entries.reserve(ENTRY_BYTES);
        let mut found = Vec::new();
        let mut entries = RawDir::new(folder, self.entries.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // The folder itself went away meanwhile, and with it all its entries.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno),
            };
            let name = entry.file_name().to_str().ok();
            found.extend(name.and_then(|name| parse(name).ok()));
        }
        Ok(found)
    }
}
