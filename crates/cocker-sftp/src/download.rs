//! Reading with many requests in flight.

use crate::error::{SftpError, SftpErrorKind, Trouble};
use crate::session::{Handle, Session};
use crate::upload::{BYTES, REQUESTS};
use crate::wire::{self, Packet, Reply};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;

/// Reads a part of an open file, in order, with at most 4 MiB in flight or at hand.
///
/// The first error stays, and is what every later call gives; [`SftpError::of`] finds it in an [`io::Error`]. A file that ends
/// before the part does is one of kind [`io::ErrorKind::UnexpectedEof`].
pub struct Download<'s> {
    session: &'s Session,
    handle: &'s Handle,
    flight: VecDeque<Flying>,
    in_flight: u64,
    /// What was not asked for so far.
    unasked: Range<u64>,
    /// What came of the oldest piece, and how much of it was given away.
    data: Vec<u8>,
    given: usize,
    largest: u32,
    failed: Option<SftpError>,
}

struct Flying {
    id: u32,
    offset: u64,
    bytes: u32,
}

impl<'s> Download<'s> {
    pub(crate) fn new(
        session: &'s Session,
        handle: &'s Handle,
        part: Range<u64>,
        largest: u32,
    ) -> Self {
        Download {
            session,
            handle,
            flight: VecDeque::new(),
            in_flight: 0,
            unasked: part,
            data: Vec::new(),
            given: 0,
            largest,
            failed: None,
        }
    }

    /// Has bytes at hand, unless all were given away.
    fn fill(&mut self) -> Result<(), Trouble> {
        if self.given < self.data.len() {
            return Ok(());
        }
        self.ask();
        let Some(oldest) = self.flight.front() else {
            return Ok(());
        };
        let reply = self.session.connection().wait(oldest.id)?;
        let Some(oldest) = self.flight.pop_front() else {
            return Ok(());
        };
        self.in_flight -= u64::from(oldest.bytes);
        match reply {
            Reply::Data(data) => self.land(&oldest, data),
            Reply::Status { code: 1, .. } => Err(SftpErrorKind::Ended { at: oldest.offset }.into()),
            other => Err(self.session.unexpected(other)),
        }
    }

    /// Asks for as much as may be in flight.
    fn ask(&mut self) {
        let mut connection = self.session.connection();
        while !self.unasked.is_empty()
            && self.flight.len() < REQUESTS
            && self.in_flight + u64::from(self.largest) <= BYTES
        {
            let left = self.unasked.end - self.unasked.start;
            let bytes = u32::try_from(left).map_or(self.largest, |left| left.min(self.largest));
            let id = connection.submit(request(self.handle, self.unasked.start, bytes));
            self.flight.push_back(Flying {
                id,
                offset: self.unasked.start,
                bytes,
            });
            self.unasked.start += u64::from(bytes);
            self.in_flight += u64::from(bytes);
        }
        connection.advance();
    }

    fn land(&mut self, asked: &Flying, data: Vec<u8>) -> Result<(), Trouble> {
        let came = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if came == 0 {
            return Err(self.session.broken("data without a byte"));
        }
        if came > asked.bytes {
            return Err(self.session.broken("more data than was asked for"));
        }
        if came < asked.bytes {
            // The rest comes next. Who gives less than was asked for will do so again, and is asked for less.
            let (offset, bytes) = (asked.offset + u64::from(came), asked.bytes - came);
            let id = self
                .session
                .connection()
                .submit(request(self.handle, offset, bytes));
            self.flight.push_front(Flying { id, offset, bytes });
            self.in_flight += u64::from(bytes);
            self.largest = self.largest.min(came.max(4096));
        }
        (self.data, self.given) = (data, 0);
        Ok(())
    }
}

fn request(handle: &Handle, offset: u64, bytes: u32) -> Packet {
    Packet::new(wire::READ)
        .string(handle.name())
        .u64(offset)
        .u32(bytes)
}

impl io::Read for Download<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(failed) = &self.failed {
            return Err(failed.clone().into());
        }
        if let Err(trouble) = self.fill() {
            let error = SftpError::new("read from", self.handle.path(), trouble);
            self.failed = Some(error.clone());
            return Err(error.into());
        }
        let here = &self.data[self.given..];
        let bytes = here.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&here[..bytes]);
        self.given += bytes;
        Ok(bytes)
    }
}

impl Drop for Download<'_> {
    fn drop(&mut self) {
        let ids = self.flight.iter().map(|flying| flying.id);
        self.session.connection().abandon(ids);
    }
}
