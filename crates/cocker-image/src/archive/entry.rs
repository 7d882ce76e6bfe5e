//! One entry of an archive, as all formats of tar mean it.

use super::segments::Segment;
use rustix::fs::Timespec;

/// What an archive says about one file.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it stands in the archive.
    pub name: Vec<u8>,
    /// Where its headers begin in the stream.
    pub offset: u64,
    pub content: Content,
    /// Permissions with set-id and sticky bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timespec,
    /// Names and values, without those that no layer takes from an archive.
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it is marked as hiding what lower layers have in it.
    pub is_opaque: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    File(File),
    Folder,
    SymbolicLink(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
    Character(Device),
    Block(Device),
}

/// A regular file; its contents follow in the stream.
#[derive(Debug)]
pub(super) struct File {
    /// With its holes.
    pub size: u64,
    /// Where the contents go; `None` for a file that is stored as a whole.
    pub segments: Option<Vec<Segment>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub major: u32,
    pub minor: u32,
}

impl Device {
    /// The number of a whiteout.
    pub const NONE: Device = Device { major: 0, minor: 0 };
}
