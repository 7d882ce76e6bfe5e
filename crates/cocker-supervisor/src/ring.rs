//! What a session has shown last, and what was typed and not taken yet: one mapping of the session's own.
//!
//! ```text
//!   │ ring, 64 KiB: byte n of the session lies at n modulo 64 KiB │ typed, 4 KiB │
//! ```
use crate::raw::{self, Pages};

/// Bytes that are kept of what a session has shown.
pub const RING: usize = 64 * 1024;
/// Bytes that are kept of what was typed.
pub const TYPED: usize = 4096;

pub struct Ring {
    memory: Pages<[u8; RING + TYPED]>,
    /// How many bytes were ever shown.
    end: u64,
    /// How many typed bytes wait.
    typed: usize,
}

impl Ring {
    /// A new one costs nothing until it is written to.
    pub fn new() -> raw::Result<Self> {
        Ok(Self {
            memory: Pages::zeroed()?,
            end: 0,
            typed: 0,
        })
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// The oldest byte that is still there.
    pub fn start(&self) -> u64 {
        self.end.saturating_sub(RING as u64)
    }

    /// How many bytes can be written before one from `position` on is lost.
    pub fn room(&self, position: u64) -> usize {
        RING - (self.end - position.max(self.start())) as usize
    }

    /// The place for the next bytes, at most `room` of them.
    pub fn free(&mut self, room: usize) -> &mut [u8] {
        let at = self.end as usize % RING;
        let until = RING.min(at + room);
        &mut self.memory[at..until]
    }

    /// Counts bytes in that were written to the free place, and gives them back.
    pub fn grow(&mut self, count: usize) -> &[u8] {
        let at = self.end as usize % RING;
        self.end += count as u64;
        &self.memory[at..at + count]
    }

    /// The bytes from `position` on that lie in one piece.
    pub fn from(&self, position: u64) -> &[u8] {
        let at = position as usize % RING;
        let length = (self.end - position) as usize;
        &self.memory[at..RING.min(at + length)]
    }

    pub fn typed(&self) -> &[u8] {
        &self.memory[RING..RING + self.typed]
    }

    /// Keeps typed bytes; those that do not fit are lost, so ask for [`TYPED`] before.
    pub fn keep_typed(&mut self, bytes: &[u8]) {
        let start = RING + self.typed;
        let count = bytes.len().min(TYPED - self.typed);
        self.memory[start..start + count].copy_from_slice(&bytes[..count]);
        self.typed += count;
    }

    /// Forgets the first of the typed bytes.
    pub fn take_typed(&mut self, count: usize) {
        let end = RING + self.typed;
        self.memory.copy_within(RING + count..end, RING);
        self.typed -= count;
    }

    pub fn forget_typed(&mut self) {
        self.typed = 0;
    }
}
