//! One layer of an image of others, and the way from its blob to files.
//!
//! ```text
//! blob ──▶ digest, length ──▶ decompression (own thread) ──▶ unpack, diff_id
//! ```
//!
//! What a layer is, is known at its end only: whoever unpacks it must not use the files before.

use super::OciError;
use super::source::{Extent, Source};
use crate::archive::{UnpackOptions, Unpacked, Whiteouts, decompress, unpack};
use crate::quote::quote;
use crate::{Digest, Digester};
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A layer of a chosen image.
pub struct ForeignLayer {
    pub(super) source: Arc<Source>,
    /// Counted from 1, the lowest.
    pub(super) number: usize,
    pub(super) name: String,
    /// Of the blob, where that was promised.
    pub(super) digest: Option<Digest>,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
    pub(super) created_by: Option<String>,
    pub(super) created: Option<SystemTime>,
}

impl ForeignLayer {
    /// Unpacks the layer into the open folder `tree` and compares it with its digests.
    ///
    /// Whiteouts are read as OCI and Docker write them, whatever the options say. After an error the folder holds
    /// files that must not be used.
    pub fn unpack_into(
        &self,
        tree: BorrowedFd<'_>,
        options: &UnpackOptions,
    ) -> Result<Unpacked, OciError> {
        let options = UnpackOptions {
            whiteouts: Whiteouts::Files,
            ..*options
        };
        let extent = self.source.open(&self.name)?;
        if extent.length() != self.size {
            return Err(OciError::Size {
                name: quote(&self.name),
                expected: self.size,
                found: extent.length(),
            });
        }
        // Where the blob is the tar stream itself, one digest is as good as two.
        let unpacked = match self
            .digest
            .as_ref()
            .filter(|digest| **digest != self.diff_id)
        {
            None => self.unpack(extent, tree, &options)?,
            Some(digest) => {
                let blob = Arc::new(Blob::new(extent));
                let unpacked = self.unpack(Reader(Arc::clone(&blob)), tree, &options)?;
                let found = blob.finish().map_err(|source| self.read_error(source))?;
                if found != *digest {
                    let name = quote(&self.name);
                    return Err(OciError::Digest { name, found });
                }
                unpacked
            }
        };
        match unpacked.digest == self.diff_id {
            true => Ok(unpacked),
            false => Err(OciError::DiffId {
                number: self.number,
                expected: self.diff_id.clone(),
                found: unpacked.digest,
            }),
        }
    }

    /// Bytes of the layer in the image, which is often compressed.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The SHA-256 of the layer's files as a tar stream.
    pub fn diff_id(&self) -> &Digest {
        &self.diff_id
    }

    /// What made the layer, as far as the image says: a line of a Dockerfile, mostly, of up to 4 KiB; it may hold
    /// what no terminal should be shown.
    pub fn created_by(&self) -> Option<&str> {
        self.created_by.as_deref()
    }

    /// When the layer was made, as far as the image says.
    pub fn created(&self) -> Option<SystemTime> {
        self.created
    }

    fn unpack(
        &self,
        blob: impl Read + Send + 'static,
        tree: BorrowedFd<'_>,
        options: &UnpackOptions,
    ) -> Result<Unpacked, OciError> {
        let mut stream = decompress(blob).map_err(|source| self.read_error(source))?;
        unpack(&mut stream, tree, options).map_err(|source| OciError::Unpack {
            number: self.number,
            source,
        })
    }

    fn read_error(&self, source: io::Error) -> OciError {
        OciError::ReadFile {
            name: quote(&self.name),
            source,
        }
    }
}

/// A blob that is read in one thread and judged in another.
struct Blob(Mutex<Option<Digester<Extent>>>);

impl Blob {
    fn new(extent: Extent) -> Blob {
        Blob(Mutex::new(Some(Digester::new(extent))))
    }

    /// Reads the rest and says the digest of the whole; nobody reads after this.
    fn finish(&self) -> io::Result<Digest> {
        let digester = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut digester = digester.expect("a blob is finished once");
        io::copy(&mut digester, &mut io::sink())?;
        Ok(digester.finish().0)
    }
}

struct Reader(Arc<Blob>);

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut blob = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        blob.as_mut().map_or(Ok(0), |blob| blob.read(bytes))
    }
}
