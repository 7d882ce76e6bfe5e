//! Writing with many requests in flight.

use crate::connection::Chunk;
use crate::error::{SftpError, Trouble};
use crate::session::{Handle, Session};
use crate::wire::{self, Packet, Reply};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many requests are in flight at most, for each upload and each download.
pub(crate) const REQUESTS: usize = 64;
/// How many bytes are in flight at most, for each upload and each download.
pub(crate) const BYTES: u64 = 4 * 1024 * 1024;
/// So many bytes of an upload may always be in flight.
const LEAST: u64 = 768 * 1024;
/// After twice this time at most a delay is forgotten: the way may have become a longer one.
const MEMORY: Duration = Duration::from_secs(5);

/// Writes to an open file, in order. At most 4 MiB are not acknowledged, and no more than the way there can carry and a short
/// queue. [`io::Write::flush`] waits for all that was written.
///
/// Dropped without [`Upload::finish`], what was in flight may or may not be written. The first error stays, and is what every
/// later call gives; [`SftpError::of`] finds it in an [`io::Error`].
pub struct Upload<'s> {
    session: &'s Session,
    handle: &'s Handle,
    /// The data of the next request.
    filling: Filling,
    flight: VecDeque<Flying>,
    in_flight: u64,
    window: Window,
    /// Where the next piece begins.
    next: u64,
    acknowledged: u64,
    largest: u32,
    failed: Option<SftpError>,
}

#[derive(Default)]
struct Filling {
    chunks: Vec<Chunk>,
    /// Of all chunks.
    bytes: usize,
}

struct Flying {
    id: u32,
    bytes: u64,
    /// All that was in flight with it, when it was sent.
    together: u64,
    sent: Instant,
    /// Whether the delay of its answer is the way's: not where the server is at its disk before, or nothing is carried.
    tells_of_way: bool,
}

/// How many bytes may be in flight: as many as the way carries, rate times delay, and a queue of [`LEAST`] behind them. A longer
/// queue serves nobody: sshd keeps what sftp-server has not taken yet in a buffer that is copied whenever it grows, which
/// holds everything up until it has its 2 MiB.
///
/// Rate is what was in flight by its delay (Little's law); the shortest delay is one without a queue.
struct Window {
    bytes: u64,
    /// The shortest delay since `since`.
    shortest: Duration,
    since: Instant,
    /// The shortest one in the time before.
    shortest_before: Duration,
}

impl Window {
    fn new() -> Window {
        Window {
            bytes: LEAST,
            shortest: Duration::MAX,
            since: Instant::now(),
            shortest_before: Duration::MAX,
        }
    }

    /// After so long there was now an answer to what was sent when `together` bytes were in flight.
    fn learn(&mut self, delay: Duration, together: u64, now: Instant) {
        if now.saturating_duration_since(self.since) >= MEMORY {
            self.shortest_before = self.shortest;
            self.shortest = Duration::MAX;
            self.since = now;
        }
        self.shortest = self.shortest.min(delay);
        let shortest = self.shortest.min(self.shortest_before);
        let share = shortest.as_secs_f64() / delay.as_secs_f64().max(1e-9);
        let carried = (together as f64 * share) as u64;
        self.bytes = (LEAST + carried).min(BYTES);
    }
}

impl<'s> Upload<'s> {
    pub(crate) fn new(session: &'s Session, handle: &'s Handle, offset: u64, largest: u32) -> Self {
        Upload {
            session,
            handle,
            filling: Filling::default(),
            flight: VecDeque::new(),
            in_flight: 0,
            window: Window::new(),
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

    /// Writes all these bytes and copies none of them; they are dropped when they were sent.
    pub fn pass(&mut self, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<(), SftpError> {
        self.guarded(|upload| {
            let end = (*bytes).as_ref().len();
            let mut begin = 0;
            while begin < end {
                let left = upload.largest as usize - upload.filling.bytes;
                let range = begin..end.min(begin + left);
                begin = range.end;
                let taken = range.len();
                let chunk = Chunk::Shared(Arc::clone(&bytes), range);
                upload.filling.chunks.push(chunk);
                upload.filled(taken)?;
            }
            Ok(())
        })
    }

    /// Asks the server to bring what was written so far to its disk, and does not wait for it; does nothing where the server
    /// cannot (fsync@openssh.com). Where it fails, a later call says so.
    pub fn begin_sync(&mut self) -> Result<(), SftpError> {
        self.guarded(|upload| {
            upload.send()?;
            let Some(packet) = upload.session.sync_packet(upload.handle) else {
                return Ok(());
            };
            upload.put_in_flight(packet, Vec::new(), 0)
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
        let left = largest - self.filling.bytes;
        let taken = bytes.len().min(left);
        if let Some(Chunk::Own(last)) = self.filling.chunks.last_mut() {
            last.extend_from_slice(&bytes[..taken]);
        } else {
            // Behind one piece comes another as large, most often.
            let room = if self.flight.is_empty() { taken } else { left };
            let mut chunk = Vec::with_capacity(room);
            chunk.extend_from_slice(&bytes[..taken]);
            self.filling.chunks.push(Chunk::Own(chunk));
        }
        self.filled(taken)?;
        Ok(taken)
    }

    fn filled(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.filling.bytes += bytes;
        match self.filling.bytes == self.largest as usize {
            true => self.send(),
            false => Ok(()),
        }
    }

    /// Sends what waits, when there is room for it in flight.
    fn send(&mut self) -> Result<(), Trouble> {
        let Filling { chunks, bytes } = std::mem::take(&mut self.filling);
        if bytes == 0 {
            return Ok(());
        }
        let in_flight = bytes as u64;
        while self.flight.len() >= REQUESTS
            || (self.in_flight > 0 && self.in_flight + in_flight > self.window.bytes)
        {
            self.await_oldest()?;
        }
        let length = u32::try_from(bytes).expect("a piece is at most 255 KiB");
        let packet = Packet::new(wire::WRITE).string(self.handle.name());
        let packet = packet.u64(self.next).u32(length);
        self.put_in_flight(packet, chunks, in_flight)
    }

    fn put_in_flight(
        &mut self,
        packet: Packet,
        data: Vec<Chunk>,
        bytes: u64,
    ) -> Result<(), Trouble> {
        // What is asked without data is a sync.
        let is_data = |flying: &Flying| flying.bytes > 0;
        let tells_of_way = bytes > 0 && self.flight.iter().all(is_data);
        let mut connection = self.session.connection();
        let id = connection.submit_with(packet, data);
        self.next += bytes;
        self.in_flight += bytes;
        self.flight.push_back(Flying {
            id,
            bytes,
            together: self.in_flight,
            sent: Instant::now(),
            tells_of_way,
        });
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
        let Some(Flying {
            bytes,
            together,
            sent,
            tells_of_way,
            ..
        }) = self.flight.pop_front()
        else {
            return Ok(());
        };
        self.in_flight -= bytes;
        match reply {
            Reply::Status { code: 0, .. } => {
                self.acknowledged += bytes;
                if tells_of_way {
                    let now = Instant::now();
                    self.window.learn(now - sent, together, now);
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What may be in flight after so many answers, where so many bytes pass in a millisecond, and the first needs `delay`.
    fn learned(bytes_per_millisecond: u64, delay: Duration, answers: usize) -> u64 {
        let mut window = Window::new();
        let mut together = LEAST / 3;
        for _ in 0..answers {
            let queue = Duration::from_millis(together / bytes_per_millisecond);
            window.learn(queue.max(delay), together, Instant::now());
            together = window.bytes;
        }
        window.bytes
    }

    #[test]
    fn as_much_is_in_flight_as_the_way_carries() {
        let near = learned(250_000, Duration::from_millis(1), 20);
        assert!((LEAST..LEAST + 300_000).contains(&near), "{near}");
        let slow = learned(1_000, Duration::from_millis(20), 20);
        assert!((LEAST..LEAST + 300_000).contains(&slow), "{slow}");
        // Where nothing waits, it is soon all that may be.
        assert_eq!(learned(100_000, Duration::from_millis(50), 6), BYTES);
    }

    #[test]
    fn a_queue_that_is_gone_is_forgotten() {
        let mut window = Window::new();
        let now = Instant::now();
        for (delay, together) in [(50, 1 << 20), (50, 4 << 20), (500, 4 << 20)] {
            window.learn(Duration::from_millis(delay), together, now);
        }
        assert!(window.bytes < 2 * LEAST, "{}", window.bytes);
        for _ in 0..6 {
            window.learn(Duration::from_millis(50), window.bytes, now);
        }
        assert_eq!(window.bytes, BYTES);
        window.learn(Duration::ZERO, 1, now);
        assert!(window.bytes >= LEAST);
    }

    #[test]
    fn a_way_that_has_become_longer_is_learned_anew() {
        let mut window = Window::new();
        let begun = Instant::now();
        let mut answers = |delay: u64, seconds: std::ops::Range<u32>| {
            for second in seconds {
                let now = begun + Duration::from_secs(second.into());
                window.learn(Duration::from_millis(delay), window.bytes, now);
            }
            window.bytes
        };
        assert_eq!(answers(20, 0..8), BYTES);
        // As if there were a queue.
        let at_first = answers(200, 8..9);
        assert!(at_first < 2 * LEAST, "{at_first}");
        assert_eq!(answers(200, 9..25), BYTES);
    }
}
