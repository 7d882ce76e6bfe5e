//! What a terminal or a command showed, written as asciicast version 2 (<https://docs.asciinema.org/manual/asciicast/v2/>).
//!
//! ```text
//!   {"version":2,"width":80,"height":24,"timestamp":1504467315,"command":"make","env":{"TERM":"xterm"}}
//!   [0.248848,"o","\u001b[1mhello\u001b[0m\r\n"]       [`Encoder::output`]
//!   [1.001376,"r","100x50"]                            [`resize`]
//!   [2.143733,"m","end of the recording"]              [`marker`]
//! ```
//!
//! Every call writes whole lines into the caller's memory or nothing, so a recording that is cut off between two calls
//! is a sound one. Nothing here allocates, panics on any input, or knows of files: the caller says where the bytes go and
//! how many there may be.
//!
//! A recording is plain ASCII where control characters are concerned: shown by `cat` it does nothing to a terminal.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod line;
#[cfg(test)]
mod tests;
mod utf8;

use line::Line;
use utf8::Utf8;

/// How much room [`Encoder::output`], [`Encoder::end`] and [`resize`] need to get anywhere, in bytes.
pub const LEAST_ROOM: usize = 64;

/// There is not enough room for the line; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// What a recording's first line says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header<'a> {
    pub columns: u16,
    pub rows: u16,
    /// When the recording began, in seconds since 1970.
    pub timestamp: Option<u64>,
    pub title: Option<&'a [u8]>,
    /// The command that is recorded, as a user would type it.
    pub command: Option<&'a [u8]>,
    /// `TERM` of what is recorded.
    pub term: Option<&'a [u8]>,
    /// `SHELL` of what is recorded.
    pub shell: Option<&'a [u8]>,
}

impl Header<'_> {
    /// Writes the first line and returns its length. Text that is not UTF-8 is written as [`Encoder::output`] does it.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, NoRoom> {
        let mut line = Line::new(out);
        line.raw(b"{\"version\":2,\"width\":")?;
        line.number(self.columns.into())?;
        line.raw(b",\"height\":")?;
        line.number(self.rows.into())?;
        if let Some(timestamp) = self.timestamp {
            line.raw(b",\"timestamp\":")?;
            line.number(timestamp)?;
        }
        for (key, text) in [("title", self.title), ("command", self.command)] {
            if let Some(text) = text {
                line.raw(b",")?;
                line.pair(key, text)?;
            }
        }
        let environment = [("TERM", self.term), ("SHELL", self.shell)];
        let mut before: &[u8] = b",\"env\":{";
        for (key, text) in environment {
            if let Some(text) = text {
                line.raw(before)?;
                line.pair(key, text)?;
                before = b",";
            }
        }
        if before == b"," {
            line.raw(b"}")?;
        }
        line.raw(b"}\n")?;
        Ok(line.length())
    }
}

/// What one call of [`Encoder::output`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    /// How many of the given bytes are done with: written, or held back as the beginning of a character.
    pub consumed: usize,
    /// How many bytes of `out` are one whole line; 0 where there is nothing to show yet.
    pub written: usize,
}

/// Turns the bytes of one stream into events. A character that comes in two writes is held back until it is whole.
///
/// Two streams that are recorded into one file (standard output and standard error) have an encoder each, so that neither
/// gets between the bytes of a character of the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Encoder {
    utf8: Utf8,
    line_ends: LineEnds,
}

/// What a line feed becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LineEnds {
    /// Itself: what a terminal shows has its carriage returns.
    #[default]
    AsTheyAre,
    /// Carriage return and line feed, as a terminal's ONLCR makes it (termios(3)).
    AsOnATerminal,
}

impl Encoder {
    /// For what a terminal shows.
    pub const fn new() -> Encoder {
        Encoder {
            utf8: Utf8::NEW,
            line_ends: LineEnds::AsTheyAre,
        }
    }

    /// For the output of a command that has no terminal. A line feed becomes what a terminal would have made of it: a
    /// player, which is one, would not go back to the beginning of the line else.
    pub const fn of_plain_output() -> Encoder {
        Encoder {
            utf8: Utf8::NEW,
            line_ends: LineEnds::AsOnATerminal,
        }
    }

    /// Writes one event with as many of `bytes` as there is room for, `micros` microseconds after the beginning.
    ///
    /// A byte takes at most six bytes of `out`, and a line 42 besides. What is no UTF-8 becomes U+FFFD, as
    /// `String::from_utf8_lossy` has it for the whole of what was written. With less room than [`LEAST_ROOM`] nothing is
    /// consumed.
    pub fn output(&mut self, micros: u64, bytes: &[u8], out: &mut [u8]) -> Encoded {
        let nothing = Encoded {
            consumed: 0,
            written: 0,
        };
        if out.len() < LEAST_ROOM {
            return nothing;
        }
        let mut line = Line::new(out);
        if begin(&mut line, micros, b'o').is_err() {
            return nothing;
        }
        let (empty, mut consumed) = (line.length(), 0);
        for &byte in bytes {
            if line.room() < utf8::MOST_OF_A_BYTE + END.len() {
                break;
            }
            // There is room for whatever a byte can become.
            if byte == b'\n' && self.line_ends == LineEnds::AsOnATerminal {
                let _ = self.utf8.take(b'\r', &mut line);
            }
            let _ = self.utf8.take(byte, &mut line);
            consumed += 1;
        }
        Encoded {
            consumed,
            written: close_unless_empty(line, empty),
        }
    }

    /// Writes what is held back, which will never be a whole character, and returns the line's length: 0 where there is
    /// nothing, or less room than [`LEAST_ROOM`].
    pub fn end(&mut self, micros: u64, out: &mut [u8]) -> usize {
        if out.len() < LEAST_ROOM {
            return 0;
        }
        let mut line = Line::new(out);
        if begin(&mut line, micros, b'o').is_err() {
            return 0;
        }
        let empty = line.length();
        let _ = self.utf8.end(&mut line);
        close_unless_empty(line, empty)
    }
}

/// Writes that the terminal has another size now, and returns the line's length.
pub fn resize(micros: u64, columns: u16, rows: u16, out: &mut [u8]) -> Result<usize, NoRoom> {
    let mut line = Line::new(out);
    begin(&mut line, micros, b'r')?;
    line.number(columns.into())?;
    line.raw(b"x")?;
    line.number(rows.into())?;
    line.raw(END)?;
    Ok(line.length())
}

/// Writes a marker, which a player shows and stops at, and returns the line's length.
pub fn marker(micros: u64, label: &[u8], out: &mut [u8]) -> Result<usize, NoRoom> {
    let mut line = Line::new(out);
    begin(&mut line, micros, b'm')?;
    line.text(label)?;
    line.raw(END)?;
    Ok(line.length())
}

/// How much a recording may still grow. One that may not grow any more ends with a word on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    left: u64,
    is_over: bool,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It is written.
    ForLine,
    /// The last line is written instead, see [`last_line`].
    ForLastLine,
    /// The recording has ended.
    None,
}

impl Allowance {
    /// Of a recording that may have this many bytes in all, its last line included.
    pub const fn of(most_bytes: u64) -> Allowance {
        Allowance {
            left: most_bytes.saturating_sub(LAST_LINE as u64),
            is_over: false,
        }
    }

    /// Takes the room for a line of this many bytes.
    pub fn take(&mut self, length: usize) -> Room {
        if self.is_over {
            return Room::None;
        }
        match self.left.checked_sub(length as u64) {
            Some(left) => {
                self.left = left;
                Room::ForLine
            }
            None => {
                self.is_over = true;
                Room::ForLastLine
            }
        }
    }
}

/// How many bytes [`last_line`] takes at most.
pub const LAST_LINE: usize = 128;

/// Writes the last line of a recording that may not grow any more, and returns its length.
pub fn last_line(micros: u64, out: &mut [u8; LAST_LINE]) -> usize {
    const LABEL: &[u8] = b"the recording ends here: it is as large as it may get";
    // It is shorter than that by far, so there is room for it.
    marker(micros, LABEL, out).unwrap_or(0)
}

const END: &[u8] = b"\"]\n";

/// An event up to its text: at most 30 bytes.
fn begin(line: &mut Line<'_>, micros: u64, code: u8) -> Result<(), NoRoom> {
    line.raw(b"[")?;
    line.seconds(micros)?;
    line.raw(&[b',', b'"', code, b'"', b',', b'"'])
}

fn close_unless_empty(mut line: Line<'_>, empty: usize) -> usize {
    if line.length() == empty || line.raw(END).is_err() {
        0
    } else {
        line.length()
    }
}
