//! Bytes become the characters of a JSON text, one byte at a time, so that it does not matter how they were split.
//!
//! What cannot be a character becomes U+FFFD once for each longest beginning of one, as the Unicode Standard
//! (section 3.9, "U+FFFD Substitution of Maximal Subparts") and the standard library have it.

use crate::NoRoom;
use crate::line::Line;

/// The most that one byte can add: U+FFFD for what came before it, then its own escape.
pub(crate) const MOST_OF_A_BYTE: usize = REPLACEMENT.len() + 6;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// The beginning of a character whose other bytes have not come yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Utf8 {
    held: [u8; 3],
    /// How many bytes are held.
    count: u8,
    /// How many bytes the character has in all.
    length: u8,
}

impl Utf8 {
    pub(crate) const NEW: Utf8 = Utf8 {
        held: [0; 3],
        count: 0,
        length: 0,
    };

    /// Takes a byte, and writes what is certain by now.
    pub(crate) fn take(&mut self, byte: u8, line: &mut Line<'_>) -> Result<(), NoRoom> {
        if self.count > 0 {
            if continuation(self.held[0], self.count).contains(&byte) {
                return self.go_on(byte, line);
            }
            self.end(line)?;
        }
        match byte {
            0..0x80 => escaped(byte, line),
            _ => match length_after(byte) {
                0 => line.raw(REPLACEMENT),
                length => {
                    *self = Utf8 {
                        held: [byte, 0, 0],
                        count: 1,
                        length,
                    };
                    Ok(())
                }
            },
        }
    }

    /// Gives up what is held.
    pub(crate) fn end(&mut self, line: &mut Line<'_>) -> Result<(), NoRoom> {
        if self.count > 0 {
            *self = Utf8::NEW;
            line.raw(REPLACEMENT)?;
        }
        Ok(())
    }

    fn go_on(&mut self, byte: u8, line: &mut Line<'_>) -> Result<(), NoRoom> {
        let Utf8 {
            held,
            count,
            length,
        } = *self;
        if count + 1 < length {
            if let Some(place) = self.held.get_mut(usize::from(count)) {
                *place = byte;
            }
            self.count += 1;
            return Ok(());
        }
        *self = Utf8::NEW;
        // U+0080 to U+009F are control characters of eight-bit terminals.
        if held[0] == 0xc2 && byte < 0xa0 {
            return unicode_escape(byte, line);
        }
        line.raw(held.get(..usize::from(count)).unwrap_or_default())?;
        line.raw(&[byte])
    }
}

/// How many bytes a character has that begins with this one; 0 where none does.
fn length_after(first: u8) -> u8 {
    match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    }
}

/// What may follow after `count` bytes of a character (The Unicode Standard, table 3-7): no surrogates, nothing beyond
/// U+10FFFF, nothing longer than it need be.
fn continuation(first: u8, count: u8) -> core::ops::RangeInclusive<u8> {
    match (first, count) {
        (0xe0, 1) => 0xa0..=0xbf,
        (0xed, 1) => 0x80..=0x9f,
        (0xf0, 1) => 0x90..=0xbf,
        (0xf4, 1) => 0x80..=0x8f,
        _ => 0x80..=0xbf,
    }
}

/// Seven bits, as JSON wants them (RFC 8259, section 7); DEL besides, which acts on some terminals.
fn escaped(byte: u8, line: &mut Line<'_>) -> Result<(), NoRoom> {
    match byte {
        b'"' | b'\\' => line.raw(&[b'\\', byte]),
        b'\n' => line.raw(b"\\n"),
        b'\r' => line.raw(b"\\r"),
        b'\t' => line.raw(b"\\t"),
        0..0x20 | 0x7f => unicode_escape(byte, line),
        _ => line.raw(&[byte]),
    }
}

/// `\u00XX`.
fn unicode_escape(code: u8, line: &mut Line<'_>) -> Result<(), NoRoom> {
    let digit = |nibble: u8| match nibble {
        0..10 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    };
    line.raw(&[b'\\', b'u', b'0', b'0', digit(code >> 4), digit(code & 0xf)])
}
