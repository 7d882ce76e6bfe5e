//! One line of JSON in memory of the caller's.

use crate::NoRoom;
use crate::utf8::Utf8;

pub(crate) struct Line<'b> {
    buffer: &'b mut [u8],
    used: usize,
}

impl<'b> Line<'b> {
    pub(crate) fn new(buffer: &'b mut [u8]) -> Line<'b> {
        Line { buffer, used: 0 }
    }

    pub(crate) fn length(&self) -> usize {
        self.used
    }

    pub(crate) fn room(&self) -> usize {
        self.buffer.len() - self.used
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let rest = self.buffer.get_mut(self.used..).ok_or(NoRoom)?;
        rest.get_mut(..bytes.len())
            .ok_or(NoRoom)?
            .copy_from_slice(bytes);
        self.used += bytes.len();
        Ok(())
    }

    pub(crate) fn number(&mut self, number: u64) -> Result<(), NoRoom> {
        self.digits(number, 1)
    }

    /// Microseconds as seconds with six decimals.
    pub(crate) fn seconds(&mut self, micros: u64) -> Result<(), NoRoom> {
        self.number(micros / 1_000_000)?;
        self.raw(b".")?;
        self.digits(micros % 1_000_000, 6)
    }

    /// `"key":"text"`.
    pub(crate) fn pair(&mut self, key: &str, text: &[u8]) -> Result<(), NoRoom> {
        self.raw(b"\"")?;
        self.raw(key.as_bytes())?;
        self.raw(b"\":\"")?;
        self.text(text)?;
        self.raw(b"\"")
    }

    /// Any bytes, as they stand between quotation marks.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Result<(), NoRoom> {
        let mut utf8 = Utf8::NEW;
        for &byte in bytes {
            utf8.take(byte, self)?;
        }
        utf8.end(self)
    }

    /// A number in decimal, with noughts in front where it has fewer digits than `least`.
    fn digits(&mut self, number: u64, least: usize) -> Result<(), NoRoom> {
        // As many as the largest number has.
        let mut digits = [b'0'; 20];
        let (mut rest, mut first) = (number, digits.len());
        for (place, digit) in digits.iter_mut().enumerate().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            first = place;
            if rest == 0 {
                break;
            }
        }
        let first = first.min(digits.len() - least);
        self.raw(digits.get(first..).unwrap_or_default())
    }
}
