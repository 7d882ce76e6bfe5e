//! `image.json` and `layer.json`: what is written about images and layers.
//!
//! Every record begins with its format, which decides: what a newer cocker wrote is refused, never guessed at.

use super::{LayerOrigin, Origin, StoreError};
use crate::descent::open_beneath;
use crate::{Digest, LayerId};
use cocker_sys::fault;
use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// The newest format that this cocker reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// No record comes near this size, in bytes; a file that does is not one.
const LARGEST: usize = 1024 * 1024;
/// Nearly every record is smaller, in bytes, and is then read at once.
const USUAL: usize = 4096;

#[derive(Serialize, Deserialize)]
pub(super) struct ImageJson {
    pub format: u32,
    /// Lowest first.
    pub layers: Vec<LayerId>,
    /// The layer with the image's own files, the last one of `layers`; copies of the image have the same.
    pub own_layer: LayerId,
    /// Seconds since 1970.
    pub modified: u64,
    /// Bytes of the own layer.
    pub size: u64,
    /// Where the own layer comes from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What a foreign image says of how its program is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LayerJson {
    pub format: u32,
    /// Seconds since 1970.
    pub made: u64,
    /// Bytes.
    pub size: u64,
    /// The layers that it was made on, lowest first.
    pub base: Vec<LayerId>,
    /// Where its files come from, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<LayerOrigin>,
    /// Of the layer packed as an archive, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Of the tar stream that it was in a foreign image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<Digest>,
}

/// What is common to all records.
pub(super) trait Record: DeserializeOwned {
    fn format(&self) -> u32;
}

impl Record for ImageJson {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for LayerJson {
    fn format(&self) -> u32 {
        self.format
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Writes a new file into `folder`. Whoever calls this brings it to disk.
pub(super) fn write<T: Serialize>(
    folder: BorrowedFd<'_>,
    name: &str,
    record: &T,
) -> io::Result<File> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || openat(folder, name, flags, Mode::RUSR | Mode::WUSR);
    let mut file = File::from(fault::step("record.make", make)?);
    fault::step("record.write", || file.write_all(&text))?;
    Ok(file)
}

/// Reads the image record `name` below `folder`; `None` where there is none. `path` is for errors.
pub(super) fn read_image(
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: impl Fn() -> PathBuf,
    room: &mut Vec<u8>,
) -> Result<Option<ImageJson>, StoreError> {
    let Some(image): Option<ImageJson> = read_into(room, folder, name, &path)? else {
        return Ok(None);
    };
    if image.layers.last() != Some(&image.own_layer) {
        return Err(StoreError::ContradictoryRecord {
            path: path(),
            why: "its own layer is not the last of its layers",
        });
    }
    Ok(Some(image))
}

/// Reads a record of any kind; `None` where there is none.
pub(super) fn read<T: Record>(
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<Option<T>, StoreError> {
    read_into(&mut Vec::new(), folder, name, &|| path.into())
}

/// The same with the text in `room`, which keeps its memory from record to record.
fn read_into<T: Record>(
    room: &mut Vec<u8>,
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: &dyn Fn() -> PathBuf,
) -> Result<Option<T>, StoreError> {
    let failed = |source| StoreError::ReadRecord {
        path: path(),
        source,
    };
    // Opening must not wait, whatever kind of file stands there.
    let file = match open_beneath(
        folder,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
    ) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    fill(room, file.as_fd()).map_err(|errno| failed(errno.into()))?;
    if room.len() > LARGEST {
        return Err(StoreError::ContradictoryRecord {
            path: path(),
            why: "it is larger than 1 MiB",
        });
    }
    parse(room, path).map(Some)
}

/// Reads the file into `room`, a little beyond the largest size at most.
fn fill(room: &mut Vec<u8>, file: BorrowedFd<'_>) -> Result<(), Errno> {
    room.clear();
    while room.len() <= LARGEST {
        room.reserve(USUAL);
        let wanted = room.capacity() - room.len();
        let got = retry_on_intr(|| rustix::io::read(file, spare_capacity(room)))?;
        // A file gives less than what is asked for at its end only, so most need not be asked a second time.
        if got < wanted {
            return Ok(());
        }
    }
    Ok(())
}

fn parse<T: Record>(text: &[u8], path: &dyn Fn() -> PathBuf) -> Result<T, StoreError> {
    let unreadable = |source| StoreError::ParseRecord {
        path: path(),
        source,
    };
    // One pass over records that are as they should be; what else stands there is asked for its format alone.
    let record: Result<T, serde_json::Error> = serde_json::from_slice(text);
    let format = match &record {
        Ok(record) => record.format(),
        Err(_) => {
            let Format { format } = serde_json::from_slice(text).map_err(unreadable)?;
            format
        }
    };
    if format > FORMAT {
        return Err(StoreError::NewerRecord {
            path: path(),
            format,
            newest: FORMAT,
        });
    }
    if format == 0 {
        return Err(StoreError::ContradictoryRecord {
            path: path(),
            why: "there is no format 0",
        });
    }
    record.map_err(unreadable)
}
