//! Why an archive could not be written or read.

use super::DESCRIPTION_NAME;
use crate::quote::quote;
use crate::removal::RemovalError;
use rustix::io::Errno;
use std::io;

/// Why a tree could not be packed. Paths are seen from the top of the tree.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    #[error("cannot read `{path}`")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot pack `{path}`: it was changed while it was read")]
    Changed { path: String },
    #[error("cannot pack `{path}`: it is a device node")]
    Device { path: String },
    #[error("cannot pack `{path}`: it belongs to id {id}, which the container does not have")]
    Owner { path: String, id: u32 },
    #[error("cannot pack `{path}`: names that begin with `.wh.` mean whiteouts in this format")]
    ReservedName { path: String },
    #[error("cannot pack `{path}`: its extended attributes are more than an archive takes (4 MiB)")]
    Attributes { path: String },
    #[error("cannot pack the description `{DESCRIPTION_NAME}`: it is longer than 1 MiB")]
    Description,
    #[error("cannot write the archive")]
    Write {
        #[source]
        source: io::Error,
    },
}

/// Why an archive could not be unpacked. Offsets are those in the unpacked stream.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("cannot unpack into a folder that is not empty")]
    NotEmpty,
    #[error("cannot prepare the folder to unpack into")]
    Prepare {
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive at offset {offset}")]
    Read {
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack the archive: it is truncated at offset {offset}")]
    Truncated { offset: u64 },
    #[error("cannot unpack the archive at offset {offset}: {problem}")]
    Malformed { offset: u64, problem: Malformation },
    #[error("cannot unpack `{name}` at offset {offset}: {reason}")]
    Refused {
        name: String,
        offset: u64,
        reason: Refusal,
    },
    #[error("cannot unpack `{name}` at offset {offset}: the disk is full")]
    DiskFull {
        name: String,
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack `{name}` at offset {offset}")]
    Write {
        name: String,
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot set attribute `{attribute}` of `{name}` at offset {offset}")]
    Attribute {
        attribute: String,
        name: String,
        offset: u64,
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack `{name}` at offset {offset}: what it replaces stays")]
    Replace {
        name: String,
        offset: u64,
        #[source]
        source: RemovalError,
    },
}

/// What about the bytes is not tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformation {
    #[error("the checksum of a header is wrong")]
    Checksum,
    #[error("a header has a number that cannot be read")]
    Number,
    #[error("an extended header cannot be read")]
    Records,
    #[error("an extended header is longer than 4 MiB")]
    LongRecords,
    #[error("an extended header is given twice")]
    Twice,
    #[error("an extended header says for all entries what only one can have")]
    Global,
    #[error("an extended header has no entry after it")]
    Orphan,
    #[error("the map of a sparse file cannot be read")]
    SparseMap,
    #[error("a block of zeros stands alone")]
    LoneZeros,
    #[error("something follows its end")]
    Trailing,
}

/// Why an entry may not come out of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it has no name")]
    NoName,
    #[error("its name is absolute")]
    Absolute,
    #[error("its name has `..` in it")]
    DotDot,
    #[error("its name has a NUL in it")]
    Nul,
    #[error("its name has a part longer than 255 bytes")]
    LongName,
    #[error("its name is deeper than {0} folders")]
    Deep(usize),
    #[error("it lies below something that is not a folder")]
    BelowNoFolder,
    #[error("the archive has more than {0} entries")]
    Entries(u64),
    #[error("the archive holds more than {0} bytes")]
    Size(u64),
    #[error("device nodes are refused")]
    Device,
    #[error("a whiteout of this form has no meaning in this archive")]
    ForeignWhiteout,
    #[error("it hides nothing that could have a name")]
    BadWhiteout,
    #[error("it is a hard link to something that the archive does not have before it")]
    NoTarget,
    #[error("it is a hard link to a folder or a whiteout")]
    TargetNoFile,
    #[error("it is a symbolic link to nothing, or to a path longer than 4095 bytes")]
    BadTarget,
    #[error("its type {0:?} is not known")]
    Type(char),
    #[error("its type has no contents, yet it has {0} bytes")]
    Contents(u64),
    #[error("the top folder can only be a folder")]
    Top,
    #[error("its owner or group is out of range")]
    Owner,
    #[error("it belongs to id {0}, which the container does not have")]
    NoSuchOwner(u32),
    #[error("the name of an extended attribute is empty, too long or has a NUL in it")]
    AttributeName,
    #[error("the value of an extended attribute is longer than 64 KiB")]
    AttributeValue,
    #[error("the description is longer than 1 MiB")]
    Description,
}

impl UnpackError {
    /// Whether there was not enough room, be it of the disk or of a quota.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, UnpackError::DiskFull { .. })
    }

    pub(super) fn refused(name: &[u8], offset: u64, reason: Refusal) -> UnpackError {
        UnpackError::Refused {
            name: shown(name),
            offset,
            reason,
        }
    }

    pub(super) fn writing(name: &[u8], offset: u64, errno: Errno) -> UnpackError {
        let (name, source) = (shown(name), errno.into());
        match errno {
            Errno::NOSPC | Errno::DQUOT => UnpackError::DiskFull {
                name,
                offset,
                source,
            },
            _ => UnpackError::Write {
                name,
                offset,
                source,
            },
        }
    }

    pub(super) fn attribute(
        attribute: &[u8],
        name: &[u8],
        offset: u64,
        errno: Errno,
    ) -> UnpackError {
        match errno {
            Errno::NOSPC | Errno::DQUOT => UnpackError::writing(name, offset, errno),
            _ => UnpackError::Attribute {
                attribute: shown(attribute),
                name: shown(name),
                offset,
                source: errno.into(),
            },
        }
    }
}

impl PackError {
    pub(super) fn reading(path: &[u8], source: impl Into<io::Error>) -> PackError {
        let path = if path.is_empty() { b"." } else { path };
        PackError::Read {
            path: shown(path),
            source: source.into(),
        }
    }
}

pub(super) fn shown(name: &[u8]) -> String {
    quote(&String::from_utf8_lossy(name))
}
