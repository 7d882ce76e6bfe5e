//! The head of a message, and the few shapes that bodies are made of: numbers, byte strings, NUL-terminated strings.
//!
//! Every length is checked here and nowhere else.
use core::ffi::CStr;

use crate::{DecodeError, MAX_MESSAGE, TooLong, VERSION};

pub(crate) const HEAD: usize = 8;

/// Writes a message of `kind` with the body that `body` writes, and returns how many bytes it takes.
pub(crate) fn encode(
    buffer: &mut [u8],
    kind: u16,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), TooLong>,
) -> Result<usize, TooLong> {
    let room = buffer.len().min(MAX_MESSAGE);
    let (head, rest) = buffer[..room].split_at_mut_checked(HEAD).ok_or(TooLong)?;
    let mut writer = Writer {
        buffer: rest,
        used: 0,
    };
    body(&mut writer)?;
    let used = writer.used;
    let length = u32::try_from(used).map_err(|_| TooLong)?;
    head.copy_from_slice(&self::head(kind, length));
    Ok(HEAD + used)
}

/// The head of a message of `kind` whose body is `length` bytes long.
pub(crate) fn head(kind: u16, length: u32) -> [u8; HEAD] {
    let [a, b] = VERSION.to_le_bytes();
    let [c, d] = kind.to_le_bytes();
    let [e, f, g, h] = length.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Checks the head of `message` and returns its kind and a reader of its body.
pub(crate) fn decode(message: &[u8]) -> Result<(u16, Reader<'_>), DecodeError> {
    if message.len() > MAX_MESSAGE {
        return Err(DecodeError::TooLong);
    }
    let mut reader = Reader { rest: message };
    // The version comes before everything else: what another version means by the other bytes is not known here.
    let version = reader.u16()?;
    if version != VERSION {
        return Err(DecodeError::WrongVersion(version));
    }
    let kind = reader.u16()?;
    let length = reader.u32()? as usize;
    match reader.rest.len() {
        there if there < length => Err(DecodeError::TooShort),
        there if there > length => Err(DecodeError::TooLong),
        _ => Ok((kind, reader)),
    }
}

/// Appends to the body of a message.
pub(crate) struct Writer<'b> {
    buffer: &'b mut [u8],
    used: usize,
}

impl Writer<'_> {
    pub(crate) fn u16(&mut self, value: u16) -> Result<(), TooLong> {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn u32(&mut self, value: u32) -> Result<(), TooLong> {
        self.raw(&value.to_le_bytes())
    }

    pub(crate) fn i32(&mut self, value: i32) -> Result<(), TooLong> {
        self.raw(&value.to_le_bytes())
    }

    /// Writes the length, then the bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.u32(u32::try_from(bytes.len()).map_err(|_| TooLong)?)?;
        self.raw(bytes)
    }

    /// Writes the bytes that are all the rest of the body.
    pub(crate) fn rest(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.raw(bytes)
    }

    pub(crate) fn u64(&mut self, value: u64) -> Result<(), TooLong> {
        self.raw(&value.to_le_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        let end = self.used.checked_add(bytes.len()).ok_or(TooLong)?;
        self.buffer
            .get_mut(self.used..end)
            .ok_or(TooLong)?
            .copy_from_slice(bytes);
        self.used = end;
        Ok(())
    }
}

/// Takes the body of a message apart, from its beginning.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_le_bytes)
    }

    /// Reads a length, then that many bytes.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()? as usize;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Reads bytes that are one string: a NUL at the end and none before.
    pub(crate) fn string(&mut self) -> Result<&'a CStr, DecodeError> {
        CStr::from_bytes_with_nul(self.bytes()?)
            .map_err(|_| DecodeError::Malformed("a string without exactly one NUL at its end"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u16()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Malformed("neither yes nor no")),
        }
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Reads all that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TooLong)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(DecodeError::TooShort)?;
        self.rest = rest;
        Ok(*bytes)
    }
}
