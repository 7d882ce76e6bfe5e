//! Where packed bytes go: to the writer, and at the same time to the thread that counts their digest.

use crate::archive::hashing::Hashing;
use crate::digest::Digest;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

/// All buffers together stay in the cache from which both threads read them.
const BUFFER: usize = 128 * 1024;
/// How many buffers there are: one is filled, the others may still have to be counted.
const BUFFERS: usize = 4;

pub(super) struct Output<'a> {
    to: &'a mut dyn Write,
    /// As long as [`BUFFER`]; only the beginning is in use.
    buffer: Vec<u8>,
    used: usize,
    /// Buffers that were passed on, oldest first.
    passed: VecDeque<Arc<Vec<u8>>>,
    hashing: Hashing,
    /// Of all that was passed on.
    length: u64,
}

impl<'a> Output<'a> {
    /// # Errors
    /// Those of starting a thread.
    pub fn new(to: &'a mut dyn Write) -> io::Result<Output<'a>> {
        Ok(Output {
            to,
            buffer: vec![0; BUFFER],
            used: 0,
            passed: VecDeque::new(),
            hashing: Hashing::start()?,
            length: 0,
        })
    }

    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.room(bytes.len())?;
            let (now, later) = bytes.split_at(room.len());
            room.copy_from_slice(now);
            self.filled(now.len());
            bytes = later;
        }
        Ok(())
    }

    /// A place for the next bytes, `most` at most and one at least. They count once they are [`filled`](Self::filled).
    pub fn room(&mut self, most: usize) -> io::Result<&mut [u8]> {
        if self.used == BUFFER {
            self.pass_on()?;
        }
        let end = BUFFER.min(self.used.saturating_add(most));
        Ok(&mut self.buffer[self.used..end])
    }

    /// Says how many bytes were put at the beginning of the last [`room`](Self::room).
    pub fn filled(&mut self, length: usize) {
        debug_assert!(length <= BUFFER - self.used);
        self.used += length;
    }

    /// Writes what is left; returns the digest of all bytes and how many they were.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        self.pass_on()?;
        self.to.flush()?;
        Ok((self.hashing.finish(), self.length))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let next = self.unused_buffer();
        let mut full = std::mem::replace(&mut self.buffer, next);
        full.truncate(self.used);
        self.used = 0;
        self.length += full.len() as u64;
        let full = Arc::new(full);
        // First the digest begins to be counted, then the same bytes are written.
        self.hashing.add(&full);
        let written = self.to.write_all(&full);
        self.passed.push_back(full);
        written
    }

    /// A buffer that nobody uses any more, or a new one.
    fn unused_buffer(&mut self) -> Vec<u8> {
        if self.passed.len() + 1 < BUFFERS {
            return vec![0; BUFFER];
        }
        self.hashing.wait_for_oldest();
        let oldest = self.passed.pop_front().and_then(Arc::into_inner);
        // Only full buffers are passed on before the last one.
        oldest.expect("bytes that were counted are in nobody else's hands")
    }
}
