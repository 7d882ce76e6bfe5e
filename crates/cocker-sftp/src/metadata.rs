//! What a server says of a file. All of it is optional, and none of it is to be believed.

/// What a server says of a file; `None` where it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub kind: Kind,
    /// In bytes.
    pub size: Option<u64>,
    /// Permission bits alone, without the kind of file: at most 0o7777.
    pub mode: Option<u32>,
    /// Seconds since 1970, UTC.
    pub modified: Option<u32>,
}

/// The kind of a file, as the upper bits of its mode say it (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// A symbolic link, not followed.
    Link,
    /// A device, a pipe, a socket.
    Other,
    /// The server says nothing of it.
    Unknown,
}

impl Kind {
    pub(crate) fn of(mode: u32) -> Kind {
        match mode & 0o170_000 {
            0 => Kind::Unknown,
            0o100_000 => Kind::File,
            0o040_000 => Kind::Folder,
            0o120_000 => Kind::Link,
            _ => Kind::Other,
        }
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Any bytes but NUL and `/`; at most 4096, never empty, never `.` or `..`.
    pub name: Vec<u8>,
    pub metadata: Metadata,
}
