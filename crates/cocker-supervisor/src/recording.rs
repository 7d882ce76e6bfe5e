//! What a session shows, written into a file that the client opened: asciicast version 2, within a bound.
//!
//! The file lies where nobody inside can reach it. A write that fails ends the recording behind its last whole line, and
//! never the session.
use cocker_recording::{Allowance, Encoder, LAST_LINE, LEAST_ROOM, Room};

use crate::raw::{self, Descriptor};

/// The longest line. A longer piece of output becomes several.
const LINE: usize = 4096;

pub struct Recording {
    file: Descriptor,
    /// Bytes of whole lines in it.
    length: u64,
    allowance: Allowance,
    encoder: Encoder,
    began_us: u64,
    is_broken: bool,
}

impl Recording {
    /// Goes on with a file in which the first line stands already, up to `most_bytes`.
    pub fn new(file: Descriptor, most_bytes: u64) -> Self {
        let length = raw::file_length(file.fd()).unwrap_or(0);
        Self {
            file,
            length,
            allowance: Allowance::of(most_bytes.saturating_sub(length)),
            encoder: Encoder::new(),
            began_us: raw::now_us(),
            is_broken: false,
        }
    }

    pub fn output(&mut self, bytes: &[u8]) {
        let (mut line, mut rest) = ([0; LINE], bytes);
        while !rest.is_empty() && !self.is_broken {
            let encoded = self.encoder.output(self.elapsed_us(), rest, &mut line);
            self.write_line(&line[..encoded.written]);
            rest = rest.get(encoded.consumed..).unwrap_or_default();
        }
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        let mut line = [0; LEAST_ROOM];
        let us = self.elapsed_us();
        if let Ok(length) = cocker_recording::resize(us, columns, rows, &mut line) {
            self.write_line(&line[..length]);
        }
    }

    /// Writes what is still held back.
    pub fn end(&mut self) {
        let mut line = [0; LEAST_ROOM];
        let length = self.encoder.end(self.elapsed_us(), &mut line);
        self.write_line(&line[..length]);
    }

    fn write_line(&mut self, line: &[u8]) {
        if line.is_empty() || self.is_broken {
            return;
        }
        match self.allowance.take(line.len()) {
            Room::ForLine => self.write(line),
            Room::ForLastLine => {
                let mut last = [0; LAST_LINE];
                let length = cocker_recording::last_line(self.elapsed_us(), &mut last);
                self.write(&last[..length]);
            }
            Room::None => {}
        }
    }

    fn write(&mut self, line: &[u8]) {
        if raw::write(self.file.fd(), line) == Ok(line.len()) {
            self.length += line.len() as u64;
        } else {
            // Half a line would spoil what is whole.
            raw::truncate(self.file.fd(), self.length);
            self.is_broken = true;
        }
    }

    fn elapsed_us(&self) -> u64 {
        raw::now_us().saturating_sub(self.began_us)
    }
}
