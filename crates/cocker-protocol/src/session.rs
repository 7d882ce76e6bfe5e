//! Sessions: how one is opened, found again, and listed.
use core::ffi::CStr;

use crate::wire::{Reader, Writer};
use crate::{DecodeError, Spawn, TooLong};

/// The most bytes of a session's name, of who opened it, and of its command as it is listed; without the NUL.
pub const MAX_LABEL: usize = 64;

/// A session that is to be opened; who asks for it looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// What it may be found by besides its number; empty where it has no name.
    pub name: &'a CStr,
    /// The user of the host, for the list.
    pub who: &'a CStr,
    pub lasting: Lasting,
    /// How large its recording may get, in bytes: the file, opened to append, comes along as a descriptor. 0 where there is none.
    pub most_recorded: u64,
    /// What runs in it; its stream is a terminal.
    pub spawn: Spawn<'a>,
}

/// What becomes of a session that nobody looks at any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    Stays,
    /// It is hung up.
    Ends,
}

/// Which session is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// The one, of those that nobody looks at, that was left last.
    Idle,
    Number(u32),
    Name(&'a CStr),
}

/// What a looker may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    LookAndType,
    LookOnly,
}

/// One session, as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionRow<'a> {
    pub number: u32,
    pub name: &'a CStr,
    pub who: &'a CStr,
    /// The program and its arguments with blanks between, cut at [`MAX_LABEL`].
    pub command: &'a CStr,
    /// Unix time in seconds at which it was opened.
    pub since: u64,
    pub rows: u16,
    pub columns: u16,
    /// How many look at it.
    pub lookers: u32,
}

/// A label is a string of at most [`MAX_LABEL`] bytes.
fn label<'a>(reader: &mut Reader<'a>) -> Result<&'a CStr, DecodeError> {
    let label = reader.string()?;
    if label.count_bytes() > MAX_LABEL {
        return Err(DecodeError::Malformed("a label that is too long"));
    }
    Ok(label)
}

fn write_label(writer: &mut Writer<'_>, label: &CStr) -> Result<(), TooLong> {
    if label.count_bytes() > MAX_LABEL {
        return Err(TooLong);
    }
    writer.bytes(label.to_bytes_with_nul())
}

impl<'a> Open<'a> {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        write_label(writer, self.name)?;
        write_label(writer, self.who)?;
        writer.u16(match self.lasting {
            Lasting::Stays => 0,
            Lasting::Ends => 1,
        })?;
        writer.u64(self.most_recorded)?;
        self.spawn.write(writer)
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: label(reader)?,
            who: label(reader)?,
            lasting: match reader.u16()? {
                0 => Lasting::Stays,
                1 => Lasting::Ends,
                _ => return Err(DecodeError::Malformed("an unknown way to last")),
            },
            most_recorded: reader.u64()?,
            spawn: Spawn::read(reader)?,
        })
    }
}

impl<'a> Target<'a> {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        let (kind, number, name) = match self {
            Self::Idle => (0, 0, c""),
            Self::Number(number) => (1, *number, c""),
            Self::Name(name) => (2, 0, *name),
        };
        writer.u16(kind)?;
        writer.u32(number)?;
        write_label(writer, name)
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match (reader.u16()?, reader.u32()?, label(reader)?) {
            (0, 0, name) if name.is_empty() => Ok(Self::Idle),
            (1, number, name) if name.is_empty() => Ok(Self::Number(number)),
            (2, 0, name) => Ok(Self::Name(name)),
            _ => Err(DecodeError::Malformed("an unknown target")),
        }
    }
}

impl Access {
    pub(crate) fn write(self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u16(match self {
            Self::LookAndType => 0,
            Self::LookOnly => 1,
        })
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u16()? {
            0 => Ok(Self::LookAndType),
            1 => Ok(Self::LookOnly),
            _ => Err(DecodeError::Malformed("an unknown access")),
        }
    }
}

impl<'a> SessionRow<'a> {
    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u32(self.number)?;
        write_label(writer, self.name)?;
        write_label(writer, self.who)?;
        write_label(writer, self.command)?;
        writer.u64(self.since)?;
        writer.u16(self.rows)?;
        writer.u16(self.columns)?;
        writer.u32(self.lookers)
    }

    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: reader.u32()?,
            name: label(reader)?,
            who: label(reader)?,
            command: label(reader)?,
            since: reader.u64()?,
            rows: reader.u16()?,
            columns: reader.u16()?,
            lookers: reader.u32()?,
        })
    }
}
