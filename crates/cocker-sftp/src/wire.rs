//! Packets of SFTP version 3, as draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL file draw them.
//!
//! ```text
//!  u32 length of what follows │ u8 type │ u32 id │ fields: u32, u64 (big endian), string (u32 length, bytes)
//! ```
//!
//! A number that a server says is never believed: it is compared with the bytes that are there before anything is reserved for it.

use crate::metadata::{Entry, Kind, Metadata};
use crate::words::one_line;

pub(crate) const INIT: u8 = 1;
pub(crate) const VERSION: u8 = 2;
pub(crate) const OPEN: u8 = 3;
pub(crate) const CLOSE: u8 = 4;
pub(crate) const READ: u8 = 5;
pub(crate) const WRITE: u8 = 6;
pub(crate) const LSTAT: u8 = 7;
pub(crate) const FSTAT: u8 = 8;
pub(crate) const FSETSTAT: u8 = 10;
pub(crate) const OPENDIR: u8 = 11;
pub(crate) const READDIR: u8 = 12;
pub(crate) const REMOVE: u8 = 13;
pub(crate) const MKDIR: u8 = 14;
pub(crate) const RMDIR: u8 = 15;
pub(crate) const REALPATH: u8 = 16;
pub(crate) const RENAME: u8 = 18;
pub(crate) const STATUS: u8 = 101;
pub(crate) const HANDLE: u8 = 102;
pub(crate) const DATA: u8 = 103;
pub(crate) const NAME: u8 = 104;
pub(crate) const ATTRS: u8 = 105;
pub(crate) const EXTENDED: u8 = 200;
pub(crate) const EXTENDED_REPLY: u8 = 201;

/// Flags of OPEN.
pub(crate) const TO_READ: u32 = 0x01;
pub(crate) const TO_WRITE: u32 = 0x02;
pub(crate) const TO_CREATE: u32 = 0x08;
pub(crate) const TO_BE_NEW: u32 = 0x20;

/// Flags of attributes: which fields are there.
const HAS_SIZE: u32 = 0x01;
const HAS_OWNERS: u32 = 0x02;
const HAS_MODE: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;
const HAS_EXTENSIONS: u32 = 0x8000_0000;

/// The longest packet that is accepted, in bytes behind its length.
pub(crate) const LONGEST_PACKET: usize = 256 * 1024 + 1024;
/// The draft's own bound of a handle.
const LONGEST_HANDLE: usize = 256;
/// As long as a path may be on Linux.
pub(crate) const LONGEST_NAME: usize = 4096;

/// What was wrong with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A request being written. Its id and length are filled in when it is sent.
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    pub(crate) fn new(kind: u8) -> Packet {
        let mut packet = Vec::with_capacity(9 + 64);
        packet.extend_from_slice(&[0, 0, 0, 0, kind, 0, 0, 0, 0]);
        Packet(packet)
    }

    pub(crate) fn extended(name: &str) -> Packet {
        Packet::new(EXTENDED).string(name.as_bytes())
    }

    pub(crate) fn u32(mut self, value: u32) -> Packet {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Packet {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn string(self, bytes: &[u8]) -> Packet {
        let length = u32::try_from(bytes.len()).expect("what is sent was bounded before");
        let mut packet = self.u32(length);
        packet.0.extend_from_slice(bytes);
        packet
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[4]
    }

    /// Attributes that say nothing.
    pub(crate) fn no_attributes(self) -> Packet {
        self.u32(0)
    }

    pub(crate) fn mode(self, mode: u32) -> Packet {
        self.u32(HAS_MODE).u32(mode)
    }

    pub(crate) fn size(self, size: u64) -> Packet {
        self.u32(HAS_SIZE).u64(size)
    }

    /// The bytes to send, with so many behind them.
    pub(crate) fn with_id(mut self, id: u32, behind: usize) -> Vec<u8> {
        let length = self.0.len() - 4 + behind;
        let length = u32::try_from(length).expect("what is sent was bounded before");
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0[5..9].copy_from_slice(&id.to_be_bytes());
        self.0
    }
}

/// The first packet of a session; it has a version where others have an id.
pub(crate) fn greeting() -> Vec<u8> {
    Packet::new(INIT).with_id(3, 0)
}

/// What a server answers to the greeting.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) number: u32,
    pub(crate) posix_rename: bool,
    pub(crate) statvfs: bool,
    pub(crate) fstatvfs: bool,
    pub(crate) fsync: bool,
    pub(crate) limits: bool,
}

impl Version {
    /// Reads what stands behind the type of a VERSION.
    pub(crate) fn parse(body: &[u8]) -> Result<Version, Malformed> {
        let mut fields = Fields(body);
        let mut version = Version {
            number: fields.u32()?,
            ..Version::default()
        };
        if version.number != 3 {
            // What other versions say behind it is theirs.
            return Ok(version);
        }
        while !fields.0.is_empty() {
            // An extension of another revision is another extension.
            match (fields.string()?, fields.string()?) {
                (b"posix-rename@openssh.com", b"1") => version.posix_rename = true,
                (b"statvfs@openssh.com", b"2") => version.statvfs = true,
                (b"fstatvfs@openssh.com", b"2") => version.fstatvfs = true,
                (b"fsync@openssh.com", b"1") => version.fsync = true,
                (b"limits@openssh.com", b"1") => version.limits = true,
                _ => {}
            }
        }
        Ok(version)
    }
}

/// What a server answers to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Status { code: u32, words: String },
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<Entry>),
    Attributes(Metadata),
    Extended(Vec<u8>),
}

/// What every reply begins with.
pub(crate) struct Head {
    kind: u8,
    pub(crate) id: u32,
}

impl Head {
    /// Reads what stands behind the length, and gives the rest.
    pub(crate) fn parse(packet: &[u8]) -> Result<(Head, &[u8]), Malformed> {
        let mut fields = Fields(packet);
        let head = Head {
            kind: fields.u8()?,
            id: fields.u32()?,
        };
        Ok((head, fields.0))
    }

    /// Whether a request of this type may be answered so.
    pub(crate) fn answers(&self, request: u8) -> bool {
        match self.kind {
            STATUS => true,
            HANDLE => matches!(request, OPEN | OPENDIR),
            DATA => request == READ,
            NAME => matches!(request, READDIR | REALPATH),
            ATTRS => matches!(request, LSTAT | FSTAT),
            EXTENDED_REPLY => request == EXTENDED,
            _ => false,
        }
    }
}

impl Reply {
    /// Reads what stands behind the length.
    pub(crate) fn parse(packet: &[u8]) -> Result<Reply, Malformed> {
        let (head, rest) = Head::parse(packet)?;
        let mut fields = Fields(rest);
        let reply = match head.kind {
            STATUS => {
                let code = fields.u32()?;
                // Some servers leave the words out, and some the language behind them.
                let words = if fields.0.is_empty() {
                    b""
                } else {
                    fields.string()?
                };
                return Ok(Reply::Status {
                    code,
                    words: one_line(words),
                });
            }
            HANDLE => {
                let handle = fields.string()?;
                if handle.len() > LONGEST_HANDLE {
                    return Err(Malformed("a handle is longer than 256 bytes"));
                }
                Reply::Handle(handle.to_vec())
            }
            DATA => Reply::Data(fields.string()?.to_vec()),
            NAME => {
                let count = fields.u32()?;
                let mut names = Vec::new();
                for _ in 0..count {
                    let name = fields.name()?;
                    // The line as `ls -l` shows it, for people.
                    fields.string()?;
                    let metadata = fields.attributes()?;
                    names.push(Entry { name, metadata });
                }
                Reply::Names(names)
            }
            ATTRS => Reply::Attributes(fields.attributes()?),
            EXTENDED_REPLY => return Ok(Reply::Extended(fields.0.to_vec())),
            _ => return Err(Malformed("a packet is no reply")),
        };
        if !fields.0.is_empty() {
            return Err(Malformed("a packet is longer than what it says"));
        }
        Ok(reply)
    }
}

/// What statvfs@openssh.com answers, as far as it is used.
pub(crate) struct Room {
    /// Bytes that this user may still write.
    pub(crate) free: u64,
    /// Bytes of a block.
    pub(crate) block: u64,
}

impl Room {
    pub(crate) fn parse(body: &[u8]) -> Result<Room, Malformed> {
        let mut fields = Fields(body);
        let block = fields.u64()?;
        let fragment = fields.u64()?;
        let _blocks = fields.u64()?;
        let _free_for_root = fields.u64()?;
        let free = fields.u64()?;
        for _ in 0..6 {
            fields.u64()?;
        }
        Ok(Room {
            free: free.saturating_mul(fragment),
            block,
        })
    }
}

/// What limits@openssh.com answers, in bytes; zero is no limit.
pub(crate) struct Limits {
    pub(crate) read: u64,
    pub(crate) write: u64,
}

impl Limits {
    pub(crate) fn parse(body: &[u8]) -> Result<Limits, Malformed> {
        let mut fields = Fields(body);
        let _packet = fields.u64()?;
        let read = fields.u64()?;
        let write = fields.u64()?;
        let _handles = fields.u64()?;
        Ok(Limits { read, write })
    }
}

/// The fields of a packet that were not read yet.
struct Fields<'p>(&'p [u8]);

impl<'p> Fields<'p> {
    fn take(&mut self, bytes: usize) -> Result<&'p [u8], Malformed> {
        let (taken, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or(Malformed("a packet is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<&'p [u8], Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn name(&mut self) -> Result<Vec<u8>, Malformed> {
        let name = self.string()?;
        if name.is_empty() {
            return Err(Malformed("a name is empty"));
        }
        if name.len() > LONGEST_NAME {
            return Err(Malformed("a name is longer than 4096 bytes"));
        }
        if name.contains(&0) {
            return Err(Malformed("a name has a NUL in it"));
        }
        Ok(name.to_vec())
    }

    fn attributes(&mut self) -> Result<Metadata, Malformed> {
        let flags = self.u32()?;
        if flags & !(HAS_SIZE | HAS_OWNERS | HAS_MODE | HAS_TIMES | HAS_EXTENSIONS) != 0 {
            return Err(Malformed(
                "attributes have fields that version 3 does not know",
            ));
        }
        let has = |flag| flags & flag != 0;
        let size = if has(HAS_SIZE) {
            Some(self.u64()?)
        } else {
            None
        };
        if has(HAS_OWNERS) {
            self.take(8)?;
        }
        let mode = if has(HAS_MODE) {
            Some(self.u32()?)
        } else {
            None
        };
        let modified = if has(HAS_TIMES) {
            let _accessed = self.u32()?;
            Some(self.u32()?)
        } else {
            None
        };
        if has(HAS_EXTENSIONS) {
            // Every pair takes bytes of the packet, so any count ends with it.
            for _ in 0..self.u32()? {
                self.string()?;
                self.string()?;
            }
        }
        Ok(Metadata {
            kind: mode.map_or(Kind::Unknown, Kind::of),
            size,
            mode: mode.map(|mode| mode & 0o7777),
            modified,
        })
    }
}
