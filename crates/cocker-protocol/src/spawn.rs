//! A command to be started: the one large message.
//!
//! ```text
//!   stream u16 · rows u16 · columns u16 · directory required u16 · uid u32 · gid u32
//!   groups:      length u32 · u32 …
//!   program:     length u32 · bytes NUL
//!   arguments:   count u32 · length u32 · bytes NUL · bytes NUL …
//!   environment: count u32 · length u32 · bytes NUL · bytes NUL …
//!   directory:   length u32 · bytes NUL
//! ```
use core::ffi::CStr;

use crate::wire::{Reader, Writer};
use crate::{DecodeError, TooLong};

/// The most supplementary groups of one command.
pub const MAX_GROUPS: usize = 256;

/// A command: who it is, what it executes, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spawn<'a> {
    /// What the command's standard streams are.
    pub stream: Stream,
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Groups<'a>,
    /// A path with a slash, or a name looked for in `PATH` of `environment`.
    pub program: &'a CStr,
    /// `argv`, the program's own name included.
    pub arguments: Strings<'a>,
    pub environment: Strings<'a>,
    /// The working folder.
    pub directory: &'a CStr,
    /// Whether a working folder that cannot be entered is an error; else `/` takes its place.
    pub directory_required: bool,
}

/// What a command's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Three descriptors that travel with the request: standard input, output and error.
    Pipes,
    /// A new terminal of the container. Its side for the command comes from the supervisor, as one descriptor.
    Terminal { rows: u16, columns: u16 },
    /// The container's own /dev/null. Such a command is nobody's: `Started` is the last that is heard of it.
    Nothing,
}

/// NUL-terminated strings laid end to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Strings<'a> {
    joined: &'a [u8],
    count: u32,
}

/// Supplementary group ids, at most [`MAX_GROUPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Groups<'a> {
    little_endian: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Takes strings laid end to end, each with its NUL; `None` where the last one has none.
    pub fn from_joined(joined: &'a [u8]) -> Option<Self> {
        if joined.last().is_some_and(|&last| last != 0) {
            return None;
        }
        let count = joined.iter().filter(|&&byte| byte == 0).count();
        Some(Self {
            joined,
            count: u32::try_from(count).ok()?,
        })
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings as they were joined, each with its NUL.
    pub fn as_joined(&self) -> &'a [u8] {
        self.joined
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        let mut rest = self.joined;
        core::iter::from_fn(move || {
            let string = CStr::from_bytes_until_nul(rest).ok()?;
            rest = rest.get(string.count_bytes() + 1..)?;
            Some(string)
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u32(self.count)?;
        writer.bytes(self.joined)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u32()?;
        let strings = Self::from_joined(reader.bytes()?).ok_or(DecodeError::Malformed(
            "a list whose last string has no NUL",
        ))?;
        if strings.count != count {
            return Err(DecodeError::Malformed("a list of another length than said"));
        }
        Ok(strings)
    }
}

impl<'a> Groups<'a> {
    /// Takes group ids of four bytes each, little endian; `None` where there are too many or a part of one.
    pub fn from_le_bytes(little_endian: &'a [u8]) -> Option<Self> {
        let whole = little_endian.len().is_multiple_of(4);
        (whole && little_endian.len() / 4 <= MAX_GROUPS).then_some(Self { little_endian })
    }

    /// How many group ids there are.
    pub fn len(&self) -> usize {
        self.little_endian.len() / 4
    }

    pub fn is_empty(&self) -> bool {
        self.little_endian.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (whole, _) = self.little_endian.as_chunks();
        whole.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }
}

impl<'a> Spawn<'a> {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        let (stream, rows, columns) = match self.stream {
            Stream::Pipes => (0, 0, 0),
            Stream::Terminal { rows, columns } => (1, rows, columns),
            Stream::Nothing => (2, 0, 0),
        };
        writer.u16(stream)?;
        writer.u16(rows)?;
        writer.u16(columns)?;
        writer.u16(u16::from(self.directory_required))?;
        writer.u32(self.uid)?;
        writer.u32(self.gid)?;
        writer.bytes(self.groups.little_endian)?;
        writer.bytes(self.program.to_bytes_with_nul())?;
        self.arguments.write(writer)?;
        self.environment.write(writer)?;
        writer.bytes(self.directory.to_bytes_with_nul())
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            stream: match (reader.u16()?, reader.u16()?, reader.u16()?) {
                (0, 0, 0) => Stream::Pipes,
                (1, rows, columns) => Stream::Terminal { rows, columns },
                (2, 0, 0) => Stream::Nothing,
                _ => return Err(DecodeError::Malformed("an unknown kind of stream")),
            },
            directory_required: reader.bool()?,
            uid: reader.u32()?,
            gid: reader.u32()?,
            groups: Groups::from_le_bytes(reader.bytes()?)
                .ok_or(DecodeError::Malformed("too many groups, or a part of one"))?,
            program: reader.string()?,
            arguments: Strings::read(reader)?,
            environment: Strings::read(reader)?,
            directory: reader.string()?,
        })
    }
}
