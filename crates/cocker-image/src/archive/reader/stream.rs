//! The bytes of an archive, with their offset and their digest.

use super::super::error::{Malformation, UnpackError};
use super::super::hashing::Hashing;
use super::super::{BLOCK, MOST_RECORDS, padding};
use crate::digest::Digest;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::Arc;

const BUFFER: usize = 256 * 1024;
/// How many buffers there are: one is read, the others may still have to be counted.
const BUFFERS: usize = 4;

pub(super) struct Stream<'a> {
    from: &'a mut dyn Read,
    /// What is in memory, and from where on it is unread.
    current: Arc<Vec<u8>>,
    start: usize,
    /// Of `start`.
    offset: u64,
    /// Buffers that were read, oldest first.
    used: VecDeque<Arc<Vec<u8>>>,
    hashing: Hashing,
}

impl<'a> Stream<'a> {
    /// # Errors
    /// Those of starting a thread.
    pub fn new(from: &'a mut dyn Read) -> io::Result<Stream<'a>> {
        Ok(Stream {
            from,
            current: Arc::default(),
            start: 0,
            offset: 0,
            used: VecDeque::new(),
            hashing: Hashing::start()?,
        })
    }

    /// How many bytes were consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes that are in memory, at least one.
    pub fn available(&mut self) -> Result<&[u8], UnpackError> {
        self.fill()?;
        if self.start == self.current.len() {
            return Err(UnpackError::Truncated {
                offset: self.offset,
            });
        }
        Ok(&self.current[self.start..])
    }

    /// The same, but none at the end of the stream.
    pub fn available_or_end(&mut self) -> Result<&[u8], UnpackError> {
        self.fill()?;
        Ok(&self.current[self.start..])
    }

    pub fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.current.len() - self.start);
        self.start += length;
        self.offset += length as u64;
    }

    pub fn block(&mut self) -> Result<[u8; BLOCK], UnpackError> {
        let mut block = [0; BLOCK];
        self.exact(&mut block)?;
        Ok(block)
    }

    pub fn byte(&mut self) -> Result<u8, UnpackError> {
        let byte = self.available()?[0];
        self.consume(1);
        Ok(byte)
    }

    /// The contents of an extended header, bounded.
    pub fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        if size > MOST_RECORDS as u64 {
            return Err(UnpackError::Malformed {
                offset: self.offset,
                problem: Malformation::LongRecords,
            });
        }
        let mut bytes = vec![0; size as usize];
        self.exact(&mut bytes)?;
        self.skip(padding(size) as u64)?;
        Ok(bytes)
    }

    pub fn skip(&mut self, mut length: u64) -> Result<(), UnpackError> {
        while length > 0 {
            let available = self.available()?.len();
            let part = usize::try_from(length).unwrap_or(usize::MAX).min(available);
            self.consume(part);
            length -= part as u64;
        }
        Ok(())
    }

    /// Lets the digest begin here.
    pub fn restart_digest(&mut self) {
        self.hashing.restart(&self.current, self.start);
    }

    /// The digest of all bytes that were read.
    pub fn finish(self) -> Digest {
        self.hashing.finish()
    }

    fn exact(&mut self, mut into: &mut [u8]) -> Result<(), UnpackError> {
        while !into.is_empty() {
            let available = self.available()?;
            let length = available.len().min(into.len());
            let (now, later) = into.split_at_mut(length);
            now.copy_from_slice(&available[..length]);
            into = later;
            self.consume(length);
        }
        Ok(())
    }

    /// Reads when nothing is left in memory.
    fn fill(&mut self) -> Result<(), UnpackError> {
        if self.start < self.current.len() {
            return Ok(());
        }
        let mut buffer = self.unused_buffer();
        buffer.resize(BUFFER, 0);
        let length = loop {
            match self.from.read(&mut buffer) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(UnpackError::Read {
                        offset: self.offset,
                        source,
                    });
                }
            }
        };
        buffer.truncate(length);
        self.current = Arc::new(buffer);
        self.start = 0;
        self.hashing.add(&self.current);
        self.used.push_back(Arc::clone(&self.current));
        Ok(())
    }

    /// A buffer that nobody uses any more, or a new one.
    fn unused_buffer(&mut self) -> Vec<u8> {
        self.current = Arc::default();
        self.start = 0;
        if self.used.len() < BUFFERS {
            return Vec::new();
        }
        self.hashing.wait_for_oldest();
        let oldest = self.used.pop_front().and_then(Arc::into_inner);
        // Where the digest was begun anew in it, it is still in use.
        oldest.unwrap_or_default()
    }
}
