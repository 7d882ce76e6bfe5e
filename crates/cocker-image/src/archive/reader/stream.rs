//! The bytes of an archive, with their offset and their digest.

use super::super::error::{Malformation, UnpackError};
use super::super::{BLOCK, MOST_RECORDS, padding};
use crate::digest::{Digest, Digester};
use std::io::{self, Read, Sink};

const BUFFER: usize = 256 * 1024;

pub(super) struct Stream<'a> {
    from: &'a mut dyn Read,
    buffer: Vec<u8>,
    /// What is in the buffer and unread.
    start: usize,
    end: usize,
    /// Of `start`.
    offset: u64,
    digester: Digester<Sink>,
    /// How far the buffer went into the digest.
    digested: usize,
}

impl<'a> Stream<'a> {
    pub fn new(from: &'a mut dyn Read) -> Stream<'a> {
        Stream {
            from,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            offset: 0,
            digester: Digester::new(io::sink()),
            digested: 0,
        }
    }

    /// How many bytes were consumed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes that are in memory, at least one.
    pub fn available(&mut self) -> Result<&[u8], UnpackError> {
        self.fill()?;
        if self.start == self.end {
            return Err(UnpackError::Truncated {
                offset: self.offset,
            });
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// The same, but none at the end of the stream.
    pub fn available_or_end(&mut self) -> Result<&[u8], UnpackError> {
        self.fill()?;
        Ok(&self.buffer[self.start..self.end])
    }

    pub fn consume(&mut self, length: usize) {
        debug_assert!(length <= self.end - self.start);
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
        self.digester = Digester::new(io::sink());
        self.digested = self.start;
    }

    pub fn finish(mut self) -> Digest {
        self.digest();
        self.digester.finish().0
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
        if self.start < self.end {
            return Ok(());
        }
        self.digest();
        (self.start, self.end, self.digested) = (0, 0, 0);
        loop {
            match self.from.read(&mut self.buffer) {
                Ok(length) => {
                    self.end = length;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(UnpackError::Read {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
    }

    fn digest(&mut self) {
        self.digester.count(&self.buffer[self.digested..self.start]);
        self.digested = self.start;
    }
}
