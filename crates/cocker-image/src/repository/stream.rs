//! Bytes between a thread that packs or unpacks and the one that talks to the server: bounded, so that neither runs ahead.

use super::unfinished::Checkpoint;
use crate::Digester;
use crate::transfer::Output;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes that are handed over at once. A piece ends where a multiple of this many bytes of the whole does, or before.
pub(super) const PIECE: usize = 256 * 1024;
/// So many pieces wait at most to be sent, 64 MiB: what is packed while a connection is made.
const PACKED: usize = 256;
/// So many pieces wait at most to be unpacked.
const FED: usize = 8;

/// What a packer hands over.
pub(super) enum Piece {
    Bytes {
        bytes: Buffer,
        /// Where it ends, and the digest of all up to there.
        end: Checkpoint,
    },
    /// Forget all that came before.
    StartAgain,
}

/// The bytes of a piece. Their memory is used for another one afterwards: what is new costs more than filling it.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    used: Arc<Used>,
}

/// Buffers that are not in use, the last one first: it may still be in a cache.
#[derive(Default)]
struct Used(Mutex<Vec<Vec<u8>>>);

impl Used {
    fn list(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer, with room for a piece.
    fn buffer(self: &Arc<Used>) -> Buffer {
        let bytes = self.list().pop();
        Buffer {
            bytes: bytes.unwrap_or_else(|| Vec::with_capacity(PIECE)),
            used: Arc::clone(self),
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        self.used.list().push(bytes);
    }
}

/// The end that is written to. What is written arrives once [`flush`](Write::flush) was called.
pub(super) struct Sink {
    to: SyncSender<Piece>,
    piece: Buffer,
    used: Arc<Used>,
    /// Counts what was handed over.
    digester: Digester<io::Sink>,
    taker: Weak<()>,
}

/// Where the pieces of a sink come out; they end when the sink is dropped.
pub(super) struct Pieces {
    from: Receiver<Piece>,
    _taker: Arc<()>,
}

/// A sink, and its other end.
pub(super) fn pieces() -> (Sink, Pieces) {
    let (to, from) = sync_channel(PACKED);
    let taker = Arc::new(());
    let used = Arc::new(Used::default());
    let sink = Sink {
        to,
        piece: used.buffer(),
        used,
        digester: Digester::new(io::sink()),
        taker: Arc::downgrade(&taker),
    };
    let pieces = Pieces {
        from,
        _taker: taker,
    };
    (sink, pieces)
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        self.from.recv().ok()
    }
}

impl Sink {
    fn send(&self, piece: Piece) -> io::Result<()> {
        self.to.send(piece).map_err(|_| gone())
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The piece that comes first after a flush may be shorter.
        let whole = PIECE - (self.digester.length() % PIECE as u64) as usize;
        let piece = &mut self.piece.bytes;
        let length = bytes.len().min(whole - piece.len());
        piece.extend_from_slice(&bytes[..length]);
        if piece.len() == whole {
            self.flush()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.bytes.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::replace(&mut self.piece, self.used.buffer());
        self.digester.count(&bytes.bytes);
        let end = Checkpoint {
            offset: self.digester.length(),
            digest: self.digester.so_far(),
        };
        self.send(Piece::Bytes { bytes, end })
    }
}

impl Output for Sink {
    const GATHERS: bool = true;

    fn start_again(&mut self) -> io::Result<()> {
        self.piece.bytes.clear();
        self.digester = Digester::new(io::sink());
        self.send(Piece::StartAgain)
    }

    fn expect_taker(&self) -> io::Result<()> {
        match self.taker.strong_count() {
            0 => Err(gone()),
            _ => Ok(()),
        }
    }
}

/// The end into which bytes are fed.
pub(super) struct Feed(SyncSender<Option<Vec<u8>>>);

/// The end that is read; an error where the feed is dropped before its end.
pub(super) struct Fed {
    from: Receiver<Option<Vec<u8>>>,
    piece: Vec<u8>,
    read: usize,
    is_over: bool,
}

pub(super) fn feed() -> (Feed, Fed) {
    let (to, from) = sync_channel(FED);
    let fed = Fed {
        from,
        piece: Vec::new(),
        read: 0,
        is_over: false,
    };
    (Feed(to), fed)
}

impl Feed {
    /// False where nobody reads any more.
    pub fn give(&self, bytes: &[u8]) -> bool {
        bytes
            .chunks(PIECE)
            .all(|piece| self.0.send(Some(piece.to_vec())).is_ok())
    }

    /// All was given.
    pub fn end(self) {
        // Whoever reads no more needs no end.
        _ = self.0.send(None);
    }
}

impl Read for Fed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() && !self.is_over {
            match self.from.recv() {
                Ok(Some(piece)) => (self.piece, self.read) = (piece, 0),
                Ok(None) => self.is_over = true,
                Err(_) => return Err(gone()),
            }
        }
        let rest = &self.piece[self.read..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the transfer was broken off")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use std::thread;

    #[test]
    fn what_is_written_comes_out_in_pieces() {
        let (mut sink, pieces) = pieces();
        let bytes: Vec<u8> = (0..1_000_000u32).map(|at| at as u8).collect();
        let expected = bytes.clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                sink.write_all(b"wrong").unwrap();
                sink.flush().unwrap();
                sink.start_again().unwrap();
                sink.write_all(&bytes[..100]).unwrap();
                sink.flush().unwrap();
                sink.write_all(&bytes[100..]).unwrap();
                sink.flush().unwrap();
            });
            let mut came = Vec::new();
            let mut ends = Vec::new();
            for piece in pieces {
                match piece {
                    Piece::Bytes { bytes, end } => {
                        came.extend_from_slice(bytes.as_ref());
                        let so_far = Checkpoint {
                            offset: came.len() as u64,
                            digest: Digest::of(&came),
                        };
                        assert_eq!(end, so_far);
                        ends.push(came.len());
                    }
                    Piece::StartAgain => {
                        came.clear();
                        ends.clear();
                    }
                }
            }
            assert_eq!(came, expected);
            assert_eq!(ends, [100, PIECE, 2 * PIECE, 3 * PIECE, 1_000_000]);
        });
    }

    #[test]
    fn what_is_fed_is_read_and_an_early_end_is_an_error() {
        let (feed, mut fed) = feed();
        let bytes = vec![7; 3 * PIECE + 5];
        thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut came = Vec::new();
                fed.read_to_end(&mut came).map(|_| came)
            });
            assert!(feed.give(&bytes));
            feed.end();
            assert_eq!(reader.join().unwrap().unwrap(), bytes);
        });

        let (feed, mut fed) = super::feed();
        assert!(feed.give(b"half"));
        drop(feed);
        let mut came = Vec::new();
        assert!(fed.read_to_end(&mut came).is_err());
        assert_eq!(came, b"half");
    }

    #[test]
    fn nobody_waits_for_the_other_end_when_it_is_gone() {
        let (feed, fed) = feed();
        drop(fed);
        assert!(!feed.give(b"x"));
        let (mut sink, pieces) = pieces();
        assert!(sink.expect_taker().is_ok());
        drop(pieces);
        assert!(sink.expect_taker().is_err());
        sink.write_all(b"x").unwrap();
        assert!(sink.flush().is_err());
    }
}
