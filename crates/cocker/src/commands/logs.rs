//! `logs`: what was written to a container's console.
//!
//! Root inside wrote it. On a terminal nothing of it may steer; elsewhere it is given byte for byte, as it was written.

use crate::escape::EscapedLines;
use crate::failure::Failure;
use crate::local_time::Clock;
use crate::options::{Logs, OutputForm};
use crate::output::{self, Reader};
use cocker_engine::{ConsoleLog, Engine, LogPiece, LogRequest, Woken};
use rustix::termios::isatty;
use serde::Serialize;
use std::io;
use std::time::SystemTime;

const BUFFER: usize = 64 * 1024;

/// A longer line is told in pieces of so many bytes.
const LONGEST_LINE: usize = 64 * 1024;

const SKIPPED: &str =
    "Warning: the console is written to faster than it is read here: some lines are left out\n";

pub fn execute(engine: &Engine, said: &Logs) -> Result<(), Failure> {
    let clock = Clock::local();
    let since = said.since.map(|since| {
        // Before all that a clock can show is since ever.
        clock
            .moment(since, SystemTime::now())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    });
    let request = LogRequest {
        tail: said.tail,
        since,
        follow: said.follow,
    };
    let mut log = engine.console_log(&said.container, &request)?;
    let mut form = match said.form {
        OutputForm::Json => Form::Json(Lines::new(clock)),
        OutputForm::Plain if isatty(io::stdout()) => Form::Terminal(EscapedLines::default()),
        OutputForm::Plain => Form::AsWritten,
    };
    match carry(&mut log, &mut form)? {
        Reader::There => output::print(form.finish()),
        Reader::Gone => Ok(()),
    }
}

/// To the end of the log, or until nobody reads it any more.
fn carry(log: &mut ConsoleLog, form: &mut Form) -> Result<Reader, Failure> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match log.read(&mut buffer)? {
            LogPiece::Bytes(length) => {
                if form.print(&buffer[..length], log)? == Reader::Gone {
                    return Ok(Reader::Gone);
                }
            }
            LogPiece::Skipped => output::complain(SKIPPED),
            LogPiece::NothingYet => {
                if log.wait(io::stdout())? == Woken::ReaderGone {
                    return Ok(Reader::Gone);
                }
            }
            LogPiece::End => return Ok(Reader::There),
        }
    }
}

/// How it is printed.
enum Form {
    AsWritten,
    Terminal(EscapedLines),
    Json(Lines),
}

impl Form {
    fn print(&mut self, bytes: &[u8], log: &mut ConsoleLog) -> Result<Reader, Failure> {
        match self {
            Form::AsWritten => output::print_on(bytes),
            Form::Terminal(lines) => output::print_on(lines.push(bytes)),
            Form::Json(lines) => output::print_on(lines.push(bytes, |index| log.written_at(index))),
        }
    }

    fn finish(&mut self) -> String {
        match self {
            Form::AsWritten => String::new(),
            Form::Terminal(lines) => lines.finish(),
            Form::Json(lines) => lines.finish(),
        }
    }
}

/// Pieces become lines, and lines objects.
struct Lines {
    clock: Clock,
    line: Vec<u8>,
    /// When its first byte was written.
    begun: Option<SystemTime>,
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct Line<'a> {
    /// When it was begun, to the second; null where that is not known.
    time: Option<String>,
    /// Without its end. What is no UTF-8 is U+FFFD.
    line: &'a str,
}

impl Lines {
    fn new(clock: Clock) -> Lines {
        Lines {
            clock,
            line: Vec::new(),
            begun: None,
        }
    }

    /// The lines that end in this piece; `written_at` tells when one of its bytes was written.
    fn push(
        &mut self,
        piece: &[u8],
        mut written_at: impl FnMut(usize) -> Option<SystemTime>,
    ) -> String {
        let mut told = String::new();
        let mut at = 0;
        while at < piece.len() {
            if self.line.is_empty() {
                self.begun = written_at(at);
            }
            let room = LONGEST_LINE - self.line.len();
            let rest = &piece[at..piece.len().min(at + room)];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let length = end.map_or(rest.len(), |end| end + 1);
            self.line.extend_from_slice(&rest[..length]);
            at += length;
            if end.is_some() {
                self.tell(self.line.len(), &mut told);
            } else if self.line.len() == LONGEST_LINE {
                self.tell(whole_characters(&self.line), &mut told);
            }
        }
        told
    }

    fn finish(&mut self) -> String {
        let mut told = String::new();
        if !self.line.is_empty() {
            self.tell(self.line.len(), &mut told);
        }
        told
    }

    /// Tells the first `length` bytes of the line.
    fn tell(&mut self, length: usize, told: &mut String) {
        let text = String::from_utf8_lossy(&self.line[..length]);
        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = Line {
            time: self.begun.map(|time| self.clock.show_with_offset(time)),
            line: line.strip_suffix('\r').unwrap_or(line),
        };
        told.push_str(&crate::escape::json(&line));
        told.push('\n');
        drop(text);
        self.line.drain(..length);
    }
}

/// How many of these bytes are before a character that may go on behind them.
fn whole_characters(bytes: &[u8]) -> usize {
    let is_in_the_middle = |byte: u8| byte & 0xc0 == 0x80;
    for back in 1..=bytes.len().min(3) {
        let start = bytes.len() - back;
        let needed = match bytes[start] {
            byte if is_in_the_middle(byte) => continue,
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
        return if back < needed { start } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn lines() -> Lines {
        Lines::new(Clock::ahead_of_utc(3600))
    }

    #[test]
    fn lines_are_told_with_the_time_of_their_beginning() {
        let mut lines = lines();
        let at = |index: usize| {
            let seconds = u64::try_from(index).expect("it is small");
            (index > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
        };
        let mut told = lines.push(b"a\r\nb\x1b\xffc\nd", at);
        told += &lines.push(b"e\n\n", at);
        told += &lines.push(b"f", at);
        told += &lines.finish();
        assert_eq!(
            told,
            "{\"time\":null,\"line\":\"a\"}\n\
             {\"time\":\"1970-01-01T01:00:03+01:00\",\"line\":\"b\\u001b\u{fffd}c\"}\n\
             {\"time\":\"1970-01-01T01:00:08+01:00\",\"line\":\"de\"}\n\
             {\"time\":\"1970-01-01T01:00:02+01:00\",\"line\":\"\"}\n\
             {\"time\":null,\"line\":\"f\"}\n"
        );
    }

    #[test]
    fn a_line_without_end_is_told_in_pieces_between_characters() {
        let mut lines = lines();
        let text = format!("x{}", "\u{20ac}".repeat(LONGEST_LINE));
        let mut told = String::new();
        for piece in text.as_bytes().chunks(1000) {
            told += &lines.push(piece, |_| None);
            assert!(lines.line.len() < LONGEST_LINE);
        }
        told += &lines.finish();
        let parts: String = told
            .lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                line["line"].as_str().expect("a text").to_string()
            })
            .collect();
        assert!(parts == text);
    }
}
