//! What could not be done, as both directions name it.
use core::fmt;

use crate::wire::{Reader, Writer};

/// The step of a spawn that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Opening the terminal, or making it the controlling one.
    Terminal,
    /// Making the process, or laying out its arguments.
    Fork,
    /// Taking on the groups, the group id or the user id.
    Identity,
    /// Entering the working folder that was required.
    Directory,
    /// Executing the program.
    Execute,
    /// There are as many commands in the container as init keeps.
    TooMany,
    /// init has ended, is ending, or does not answer.
    InitGone,
    /// Opening /dev/null, which has to be the device that it is everywhere.
    Streams,
}

/// Why the supervisor does not serve a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The client is another user than the supervisor.
    NotAllowed,
    /// There are as many clients as the supervisor serves.
    TooMany,
    /// The message is not one, or does not fit here, or came with the wrong descriptors.
    Malformed,
    /// The client speaks another version.
    WrongVersion,
    /// There are as many sessions as the supervisor keeps.
    TooManySessions,
    /// There is a session of that name.
    NameTaken,
}

/// A message does not fit into the buffer, or is longer than [`crate::MAX_MESSAGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// What is wrong with bytes that should be a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the message does.
    TooShort,
    /// There are bytes behind the message's end, or more than [`crate::MAX_MESSAGE`].
    TooLong,
    /// The head carries this version and not [`crate::VERSION`].
    WrongVersion(u16),
    /// The head carries this kind, which does not travel in this direction.
    UnknownKind(u16),
    /// A part of the body is not what it should be.
    Malformed(&'static str),
}

impl fmt::Display for TooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("cannot fit the message into one datagram")
    }
}

impl core::error::Error for TooLong {}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => formatter.write_str("cannot decode a message that ends too early"),
            Self::TooLong => formatter.write_str("cannot decode a message that is too long"),
            Self::WrongVersion(version) => {
                write!(formatter, "cannot decode a message of version {version}")
            }
            Self::UnknownKind(kind) => {
                write!(formatter, "cannot decode a message of kind {kind:#06x}")
            }
            Self::Malformed(what) => write!(formatter, "cannot decode a message with {what}"),
        }
    }
}

impl core::error::Error for DecodeError {}

impl Stage {
    pub(crate) fn write(self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u32(self.number())
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::from_number(reader.u32()?).ok_or(DecodeError::Malformed("an unknown stage"))
    }

    /// The number that stands for the stage on the wire.
    pub const fn number(self) -> u32 {
        match self {
            Self::Terminal => 1,
            Self::Fork => 2,
            Self::Identity => 3,
            Self::Directory => 4,
            Self::Execute => 5,
            Self::TooMany => 6,
            Self::InitGone => 7,
            Self::Streams => 8,
        }
    }

    /// The stage that `number` stands for.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Terminal,
            2 => Self::Fork,
            3 => Self::Identity,
            4 => Self::Directory,
            5 => Self::Execute,
            6 => Self::TooMany,
            7 => Self::InitGone,
            8 => Self::Streams,
            _ => return None,
        })
    }
}

impl Refusal {
    pub(crate) fn write(self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u32(match self {
            Self::NotAllowed => 1,
            Self::TooMany => 2,
            Self::Malformed => 3,
            Self::WrongVersion => 4,
            Self::TooManySessions => 5,
            Self::NameTaken => 6,
        })
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u32()? {
            1 => Ok(Self::NotAllowed),
            2 => Ok(Self::TooMany),
            3 => Ok(Self::Malformed),
            4 => Ok(Self::WrongVersion),
            5 => Ok(Self::TooManySessions),
            6 => Ok(Self::NameTaken),
            _ => Err(DecodeError::Malformed("an unknown refusal")),
        }
    }
}
