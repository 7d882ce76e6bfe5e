//! `image.json` and `layer.json`: what is written about images and layers.
//!
//! Every record begins with its format, which is read first: what a newer cocker wrote is refused, never guessed at.

use super::{LayerOrigin, Origin, StoreError};
use crate::descent::open_beneath;
use crate::{Digest, LayerId};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::Path;

/// The newest format that this cocker reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// No record comes near this size, in bytes; a file that does is not one.
const LARGEST: u64 = 1024 * 1024;

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

#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Writes a new file into `folder` and brings it to disk.
pub(super) fn write<T: Serialize>(
    folder: BorrowedFd<'_>,
    name: &str,
    record: &T,
) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(record)?;
    text.push(b'\n');
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(&text)?;
    file.sync_all()
}

/// Reads the image record `name` below `folder`; `None` where there is none. `path` is for errors.
pub(super) fn read_image(
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<Option<ImageJson>, StoreError> {
    let Some(image): Option<ImageJson> = read(folder, name, path)? else {
        return Ok(None);
    };
    if image.layers.last() != Some(&image.own_layer) {
        return Err(StoreError::ContradictoryRecord {
            path: path.into(),
            why: "its own layer is not the last of its layers",
        });
    }
    Ok(Some(image))
}

/// Reads a record of any kind; `None` where there is none.
pub(super) fn read<T: DeserializeOwned>(
    folder: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
) -> Result<Option<T>, StoreError> {
    let failed = |source| StoreError::ReadRecord {
        path: path.into(),
        source,
    };
    // Opening must not wait, whatever kind of file stands there.
    let file = match open_beneath(
        folder,
        name,
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK,
    ) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    let mut text = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(StoreError::ContradictoryRecord {
            path: path.into(),
            why: "it is larger than 1 MiB",
        });
    }
    parse(&text, path).map(Some)
}

fn parse<T: DeserializeOwned>(text: &[u8], path: &Path) -> Result<T, StoreError> {
    let unreadable = |source| StoreError::ParseRecord {
        path: path.into(),
        source,
    };
    let Format { format } = serde_json::from_slice(text).map_err(unreadable)?;
    if format > FORMAT {
        return Err(StoreError::NewerRecord {
            path: path.into(),
            format,
            newest: FORMAT,
        });
    }
    if format == 0 {
        return Err(StoreError::ContradictoryRecord {
            path: path.into(),
            why: "there is no format 0",
        });
    }
    serde_json::from_slice(text).map_err(unreadable)
}
