//! Tells by its content whether a file or folder holds images of others, and opens it.
//!
//! A compressed archive is unpacked once, into a file without a name, since its entries are read in another order
//! than they stand.

use super::documents::{self, Index, LayoutVersion, SavedImages};
use super::foreign_image::{ForeignImage, Form};
use super::outer_index::{Feed, MANIFEST_JSON, OCI_LAYOUT, OuterIndex};
use super::source::Source;
use super::{OciError, layout};
use crate::archive::{Compression, Decompressed, decompress};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat, stat};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

pub(super) const INDEX_JSON: &str = "index.json";
const BUFFER: usize = 128 * 1024;

/// Opens the images in a file or folder that the user named; `None` when there are none, which says nothing about
/// what it is instead.
///
/// Nothing of an image is unpacked. A compressed archive is copied, unpacked and without a name, into the folder
/// `spool`, as long as that takes no more than `limit` bytes.
pub fn recognise(
    path: &Path,
    spool: BorrowedFd<'_>,
    limit: u64,
) -> Result<Option<ForeignImage>, OciError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let failed = |source: io::Error| OciError::Open {
        path: path.into(),
        source,
    };
    let found = fstat(&file).map_err(|errno| failed(errno.into()))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => in_folder(file),
        FileType::RegularFile if is_compressed(&file).map_err(failed)? => {
            in_compressed(file, spool, limit)
        }
        FileType::RegularFile => in_archive(file, u64::try_from(found.st_size).unwrap_or(0)),
        _ => Ok(None),
    }
}

/// Opens a regular file or folder, whose path is the user's own and may lead through links.
fn open(path: &Path) -> Result<Option<File>, OciError> {
    let failed = |source: io::Error| OciError::Open {
        path: path.into(),
        source,
    };
    // To open a pipe and to close it again would tell its writer that nobody reads.
    let found = stat(path).map_err(|errno| failed(errno.into()))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory | FileType::RegularFile => {
            let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
            let flags = i32::try_from(flags).expect("flags of open(2) fit an int");
            let mut options = OpenOptions::new();
            let file = options.read(true).custom_flags(flags).open(path);
            file.map(Some).map_err(failed)
        }
        _ => Ok(None),
    }
}

fn in_folder(folder: File) -> Result<Option<ForeignImage>, OciError> {
    let source = Source::Folder(folder.into());
    match source.has(OCI_LAYOUT)? {
        true => Ok(Some(ForeignImage::new(read_layout(&source)?, source))),
        false => Ok(None),
    }
}

fn in_archive(file: File, length: u64) -> Result<Option<ForeignImage>, OciError> {
    let mut feed = Plain {
        file: &file,
        position: 0,
        length,
    };
    match OuterIndex::read(&mut feed)? {
        Some(index) => in_index(file, index),
        None => Ok(None),
    }
}

fn in_compressed(
    file: File,
    spool: BorrowedFd<'_>,
    limit: u64,
) -> Result<Option<ForeignImage>, OciError> {
    let unpacked = unnamed_file(spool).map_err(|source| OciError::Spool { source })?;
    let mut feed = Spooling {
        from: decompress(file).map_err(|source| OciError::Read { source })?,
        to: io::BufWriter::with_capacity(BUFFER, &unpacked),
        written: 0,
        limit,
        buffer: vec![0; BUFFER],
    };
    let index = OuterIndex::read(&mut feed)?;
    feed.to
        .flush()
        .map_err(|source| OciError::Spool { source })?;
    drop(feed);
    match index {
        Some(index) => in_index(unpacked, index),
        None => Ok(None),
    }
}

/// Opens the images of an archive that has files which only images have.
fn in_index(file: File, index: OuterIndex) -> Result<Option<ForeignImage>, OciError> {
    // Of these files, the root of a system may have a `manifest.json` of its own.
    let is_unsure = index.is_odd() && !index.has(OCI_LAYOUT);
    let source = Source::Archive {
        file: Arc::new(file),
        index,
    };
    match read_form(&source) {
        Ok(form) => Ok(Some(ForeignImage::new(form, source))),
        Err(_) if is_unsure => Ok(None),
        Err(error) => Err(error),
    }
}

/// Newer archives of docker save are layouts as well, and only a layout says digests of everything.
fn read_form(source: &Source) -> Result<Form, OciError> {
    let is_saved = source.has(MANIFEST_JSON)?;
    if source.has(OCI_LAYOUT)? {
        match read_layout(source)? {
            Form::Layout(manifests) if manifests.is_empty() && is_saved => {}
            form => return Ok(form),
        }
    }
    match is_saved {
        true => Ok(Form::Saved(source.parsed::<SavedImages>(MANIFEST_JSON)?.0)),
        false => Err(OciError::Missing {
            name: MANIFEST_JSON.into(),
        }),
    }
}

fn read_layout(source: &Source) -> Result<Form, OciError> {
    let version: LayoutVersion = source.parsed(OCI_LAYOUT)?;
    if version.image_layout_version.split('.').next() != Some("1") {
        return Err(OciError::LayoutVersion {
            version: crate::quote::quote(&version.image_layout_version),
        });
    }
    let text = source.document(INDEX_JSON)?;
    let index: Index = documents::parse(INDEX_JSON, &text)?;
    layout::check_index(INDEX_JSON, &index)?;
    Ok(Form::Layout(index.manifests))
}

fn is_compressed(file: &File) -> io::Result<bool> {
    let mut start = [0; 6];
    let mut have = 0;
    while have < start.len() {
        match file.read_at(&mut start[have..], have as u64)? {
            0 => break,
            read => have += read,
        }
    }
    Ok(Compression::recognise(&start[..have]) != Compression::None)
}

fn unnamed_file(folder: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(openat(folder, ".", flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// An archive as it stands; contents are not read.
struct Plain<'a> {
    file: &'a File,
    position: u64,
    length: u64,
}

impl Read for Plain<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(bytes, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Feed for Plain<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self.position.checked_add(bytes) {
            Some(position) if position <= self.length => {
                self.position = position;
                Ok(())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A compressed archive, which is written down while it is read.
struct Spooling<'a> {
    from: Decompressed,
    to: io::BufWriter<&'a File>,
    written: u64,
    limit: u64,
    buffer: Vec<u8>,
}

impl Read for Spooling<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(bytes)?;
        self.written += read as u64;
        if self.written > self.limit {
            let limit = self.limit;
            return Err(io::Error::other(OciError::SpoolLimit { limit }));
        }
        let written = self.to.write_all(&bytes[..read]);
        written.map_err(|source| io::Error::other(OciError::Spool { source }))?;
        Ok(read)
    }
}

impl Feed for Spooling<'_> {
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        while bytes > 0 {
            let most = usize::try_from(bytes).map_or(buffer.len(), |left| left.min(buffer.len()));
            match self.read(&mut buffer[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes -= read as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.buffer = buffer;
        Ok(())
    }
}
