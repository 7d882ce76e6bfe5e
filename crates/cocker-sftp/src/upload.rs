//! Writing with many requests in flight.

use crate::error::{SftpError, Trouble};
use crate::session::{Handle, Session};
use crate::wire::{self, Packet, Reply};
use std::collections::VecDeque;
use std::io;

/// How many requests are in flight at most, for each upload and each download.
pub(crate) const REQUESTS: usize = 64;
/// How many bytes are in flight at most, for each upload and each download.
pub(crate) const BYTES: u64 = 4 * 1024 * 1024;

/// Writes to an open file, in order, with at most 4 MiB not acknowledged. [`io::Write::flush`] waits for all that was written.
///
/// Dropped without [`Upload::finish`], what was in flight may or may not be written. The first error stays, and is what every
/// later call gives; [`SftpError::of`] finds it in an [`io::Error`].
pub struct Upload<'s> {
    session: &'s Session,
    handle: &'s Handle,
    /// A request whose data is not complete; `None` where no byte waits.
    filling: Option<Filling>,
    flight: VecDeque<Flying>,
    in_flight: u64,
    /// Where the next piece begins.
    next: u64,
    acknowledged: u64,
    largest: u32,
    failed: Option<SftpError>,
}

struct Filling {
    packet: Packet,
    /// Where its data begins, behind its length.
    data: usize,
}

impl Filling {
    fn bytes(&mut self) -> usize {
        self.packet.bytes().len() - self.data
    }
}

struct Flying {
    id: u32,
    bytes: u64,
}

impl<'s> Upload<'s> {
    pub(crate) fn new(session: &'s Session, handle: &'s Handle, offset: u64, largest: u32) -> Self {
        Upload {
            session,
            handle,
            filling: None,
            flight: VecDeque::new(),
            in_flight: 0,
            next: offset,
            acknowledged: offset,
            largest,
            failed: None,
        }
    }

    /// Every byte before this offset of the file was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Asks the server to bring what was written so far to its disk, and does not wait for it; does nothing where the server
    /// cannot (fsync@openssh.com). Where it fails, a later call says so.
    pub fn begin_sync(&mut self) -> Result<(), SftpError> {
        self.guarded(|upload| {
            upload.send()?;
            let Some(packet) = upload.session.sync_packet(upload.handle) else {
                return Ok(());
            };
            upload.put_in_flight(packet, 0)
        })
    }

    /// Waits until everything was acknowledged, and gives the offset behind the last byte.
    pub fn finish(mut self) -> Result<u64, SftpError> {
        self.settle()?;
        Ok(self.acknowledged)
    }

    fn settle(&mut self) -> Result<(), SftpError> {
        self.guarded(|upload| {
            upload.send()?;
            while !upload.flight.is_empty() {
                upload.await_oldest()?;
            }
            Ok(())
        })
    }

    /// The first error is the one that stays.
    fn guarded<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Trouble>,
    ) -> Result<T, SftpError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        work(self).map_err(|trouble| {
            let error = SftpError::new("write to", self.handle.path(), trouble);
            self.failed = Some(error.clone());
            error
        })
    }

    /// Takes as much as fits into the piece that is being filled, and sends it when it is full.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let largest = self.largest as usize;
        let (handle, next) = (self.handle.name(), self.next);
        // Behind one piece comes another as large, most often.
        let room = if self.flight.is_empty() {
            bytes.len().min(largest)
        } else {
            largest
        };
        let filling = self.filling.get_or_insert_with(|| {
            let mut packet = Packet::with_room(wire::WRITE, handle.len() + 16 + room);
            // The length of the data is filled in when it is known.
            packet = packet.string(handle).u64(next).u32(0);
            let data = packet.bytes().len();
            Filling { packet, data }
        });
        let taken = bytes.len().min(largest - filling.bytes());
        filling.packet.bytes().extend_from_slice(&bytes[..taken]);
        if filling.bytes() == largest {
            self.send()?;
        }
        Ok(taken)
    }

    /// Sends what waits, when there is room for it in flight.
    fn send(&mut self) -> Result<(), Trouble> {
        let Some(mut filling) = self.filling.take() else {
            return Ok(());
        };
        let bytes = filling.bytes() as u64;
        while self.flight.len() >= REQUESTS
            || (self.in_flight > 0 && self.in_flight + bytes > BYTES)
        {
            self.await_oldest()?;
        }
        let length = u32::try_from(bytes).expect("a piece is at most 255 KiB");
        filling.packet.bytes()[filling.data - 4..filling.data]
            .copy_from_slice(&length.to_be_bytes());
        self.put_in_flight(filling.packet, bytes)
    }

    fn put_in_flight(&mut self, packet: Packet, bytes: u64) -> Result<(), Trouble> {
        let mut connection = self.session.connection();
        let id = connection.submit(packet);
        self.flight.push_back(Flying { id, bytes });
        self.next += bytes;
        self.in_flight += bytes;
        connection.advance();
        drop(connection);
        self.collect()
    }

    /// Takes the acknowledgements that are there.
    fn collect(&mut self) -> Result<(), Trouble> {
        while let Some(oldest) = self.flight.front() {
            let Some(reply) = self.session.connection().taken(oldest.id) else {
                return Ok(());
            };
            self.land(reply)?;
        }
        Ok(())
    }

    fn await_oldest(&mut self) -> Result<(), Trouble> {
        let Some(oldest) = self.flight.front() else {
            return Ok(());
        };
        let reply = self.session.connection().wait(oldest.id)?;
        self.land(reply)
    }

    /// The oldest in flight has its reply.
    fn land(&mut self, reply: Reply) -> Result<(), Trouble> {
        let Some(Flying { bytes, .. }) = self.flight.pop_front() else {
            return Ok(());
        };
        self.in_flight -= bytes;
        match reply {
            Reply::Status { code: 0, .. } => {
                self.acknowledged += bytes;
                Ok(())
            }
            other => {
                let trouble = self.session.unexpected(other);
                Err(self.session.or_no_room(trouble, self.handle, bytes))
            }
        }
    }
}

impl io::Write for Upload<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        Ok(self.guarded(|upload| upload.take(bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(self.settle()?)
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        let ids = self.flight.iter().map(|flying| flying.id);
        self.session.connection().abandon(ids);
    }
}
