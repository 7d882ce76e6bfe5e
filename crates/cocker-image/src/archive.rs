//! Layers as tar streams: [`pack`] writes one, [`unpack`] reads it, and [`compress`] and [`decompress`] stand before and after.
//!
//! ```text
//! tree ──pack──▶ entries sorted by name, two zero blocks ──compress──▶ gzip members, a zstd frame, or as it is
//!      ◀─unpack─ any tar: ustar, pax, GNU, v7            ◀─decompress─ what its first bytes say
//! ```
//!
//! The stream depends on the files and on nothing else, so that its digest names the layer. An archive comes from anyone:
//! nothing in it reaches beyond the folder that it is unpacked into, whatever it names, and memory is bounded whatever it claims.
//! Both ways go by descriptors; no path is ever resolved through a link or a mount.
//! What an archive means to an image (its description, its manifest) is not known here.

pub(crate) mod attributes;
mod compress;
mod compression;
mod decompress;
mod entry;
mod error;
mod hashing;
mod numbers;
mod pack;
mod reader;
mod records;
mod segments;
#[cfg(test)]
mod tests;
mod unpack;
mod watched;

pub use compress::{Compressor, compress};
pub use compression::Compression;
pub use decompress::{Decompressed, decompress};
pub use error::{PackError, Refusal, UnpackError};
pub use pack::{PackOptions, Packed, pack, pack_files};
pub use unpack::{Limits, UnpackOptions, Unpacked, unpack, unpack_files};
pub(crate) use unpack::{hide, is_whiteout};
pub(crate) use watched::Watched;

/// The name of the entry that describes an image, if it is the very first of an archive.
pub const DESCRIPTION_NAME: &str = ".cocker-image.json";

/// How an archive says that a layer hides something of those below it. On disk it is always as overlayfs has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// Character devices 0/0, and `trusted.overlay.opaque` = `y` on folders.
    Devices,
    /// Files `.wh.NAME`, and `.wh..wh..opq` in folders (image-spec, layer.md, "Whiteouts").
    Files,
    /// Not at all: the archive is of files and not of a layer.
    None,
}

/// Whether device nodes other than whiteouts may come out of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    Refused,
    Allowed,
}

/// What stands before the name of what is hidden, with [`Whiteouts::Files`].
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What stands before names that mean something else than a whiteout.
const RESERVED_PREFIX: &[u8] = b".wh..wh.";
/// The file that makes its folder opaque.
const OPAQUE_NAME: &[u8] = b".wh..wh..opq";

/// The unit of tar.
const BLOCK: usize = 512;
/// The most bytes of pax records that one entry has; bounds the memory for names and attributes.
const MOST_RECORDS: usize = 4 << 20;
/// The most parts that a sparse file has; bounds the memory for its map to 16 MiB.
const MOST_SEGMENTS: usize = 1 << 20;
/// The longest name of one file (NAME_MAX).
const LONGEST_NAME: usize = 255;
/// The longest target of a symbolic link (PATH_MAX less its end).
const LONGEST_TARGET: usize = 4095;
/// The most bytes that a description has.
const LONGEST_DESCRIPTION: u64 = 1 << 20;

/// How many bytes stand between `length` and the next border of a block.
fn padding(length: u64) -> usize {
    (length.wrapping_neg() % BLOCK as u64) as usize
}
