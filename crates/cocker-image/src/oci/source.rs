//! Where the files of an image lie: below a folder, or between the entries of an archive.
//!
//! A file is found by a name that cocker made or checked, opened as a regular file and nothing else, and read within
//! its bounds.

use super::documents::{Descriptor, LARGEST};
use super::outer_index::{OuterIndex, Stored};
use super::{OciError, documents};
use crate::Digest;
use crate::descent::open_beneath;
use crate::quote::quote;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

pub(super) enum Source {
    Folder(OwnedFd),
    Archive {
        /// Unpacked, if the archive was compressed.
        file: Arc<File>,
        index: OuterIndex,
    },
}

/// The content of one file; reading begins at its start.
pub(super) struct Extent {
    file: Arc<File>,
    position: u64,
    left: u64,
}

impl Source {
    /// Opens a file of the image.
    pub fn open(&self, name: &str) -> Result<Extent, OciError> {
        match self {
            Source::Folder(folder) => open_in_folder(folder, name),
            Source::Archive { file, index } => match index.find(name)? {
                Stored::File { offset, length } => Ok(Extent {
                    file: Arc::clone(file),
                    position: *offset,
                    left: *length,
                }),
                Stored::Sparse => Err(not_readable(name, "it is stored as a sparse file")),
                Stored::Link(_) | Stored::Other => {
                    Err(not_readable(name, "it is not a regular file"))
                }
            },
        }
    }

    /// Whether there is such a file; what else bears the name is an error.
    pub fn has(&self, name: &str) -> Result<bool, OciError> {
        match self.open(name) {
            Ok(_) => Ok(true),
            Err(OciError::Missing { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole document.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, OciError> {
        let extent = self.open(name)?;
        if extent.left > LARGEST {
            return Err(too_large(name, extent.left));
        }
        let mut text = Vec::new();
        { extent }
            .read_to_end(&mut text)
            .map_err(|source| OciError::ReadFile {
                name: quote(name),
                source,
            })?;
        Ok(text)
    }

    /// Reads the document that a descriptor points to, and compares it with what the descriptor promises.
    pub fn blob_document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, OciError> {
        let name = blob_name(&descriptor.digest);
        if descriptor.size > LARGEST {
            return Err(too_large(&name, descriptor.size));
        }
        let text = self.document(&name)?;
        if text.len() as u64 != descriptor.size {
            return Err(OciError::Size {
                name,
                expected: descriptor.size,
                found: text.len() as u64,
            });
        }
        match Digest::of(&text) {
            found if found == descriptor.digest => Ok(text),
            found => Err(OciError::Digest { name, found }),
        }
    }

    /// Reads and parses a document that is no blob.
    pub fn parsed<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, OciError> {
        documents::parse(name, &self.document(name)?)
    }
}

impl Extent {
    /// Bytes that are left to read.
    pub fn length(&self) -> u64 {
        self.left
    }
}

impl Read for Extent {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut bytes[..most], self.position)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// Where an image layout keeps the content with this digest.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn open_in_folder(folder: &OwnedFd, name: &str) -> Result<Extent, OciError> {
    let failed = |errno: Errno| OciError::OpenFile {
        name: quote(name),
        source: errno.into(),
    };
    let path = CString::new(name).map_err(|_| failed(Errno::INVAL))?;
    // Opening must not wait, whatever kind of file stands there.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_beneath(folder.as_fd(), &path, flags) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(OciError::Missing { name: quote(name) }),
        Err(Errno::LOOP) => return Err(not_readable(name, "it is a symbolic link")),
        Err(errno) => return Err(failed(errno)),
    };
    let stat = fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(not_readable(name, "it is not a regular file"));
    }
    Ok(Extent {
        file: Arc::new(file.into()),
        position: 0,
        left: u64::try_from(stat.st_size).unwrap_or(0),
    })
}

fn not_readable(name: &str, why: &'static str) -> OciError {
    OciError::NotReadable {
        name: quote(name),
        why,
    }
}

fn too_large(name: &str, size: u64) -> OciError {
    OciError::TooLarge {
        name: quote(name),
        size,
        limit: LARGEST,
    }
}
