//! A file that is packed and sent at the same time, under a name that says that it is not whole yet.
//!
//! ```text
//! a thread: files ──▶ tar ──▶ compressed ──▶ SHA-256 ──▶ pieces ──▶ here: checkpoints ──▶ .part
//! ```
//!
//! The thread may begin before there is a connection, and fills the queue meanwhile.
//!
//! Packing the same layer gives the same bytes, so a transfer that was broken off packs again, compares the SHA-256 of what the
//! server has already, and sends the rest. What the server has is known from the checkpoints: so much it had acknowledged.

use super::names::part_of;
use super::server::{FILE_MODE, is_missing, remote};
use super::stream::{Buffer, PIECE, Piece, Pieces, Sink, pieces};
use super::unfinished::{Checkpoint, Unfinished};
use super::{Repository, RepositoryError};
use crate::Digest;
use crate::transfer::ExportError;
use cocker_sftp::{Handle, SftpError, Upload};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};

/// Bytes between two checkpoints: some pieces.
const STEP: u64 = 1 << 20;
const _: () = assert!(STEP.is_multiple_of(PIECE as u64));
/// So many of the last bytes that the server should have are compared before more are sent.
const TAIL: u64 = 64 << 10;
/// So much is sent before the server is asked to bring it to its disk: while more comes, so that little is left at the end.
const TO_DISK: u64 = 32 << 20;

/// What packs into a sink, and says meanwhile how many bytes it has packed.
pub(super) type Packer<'a, T> =
    dyn Fn(Sink, &mut dyn FnMut(u64)) -> Result<T, ExportError> + Sync + 'a;

/// A packer at work, in a thread of its own. It ends soon after this is dropped.
pub(super) struct Packing<'scope, T> {
    pieces: Pieces,
    /// Bytes that it has packed so far.
    passed: Arc<AtomicU64>,
    packer: ScopedJoinHandle<'scope, Result<T, ExportError>>,
}

impl<'scope, T: Send + 'scope> Packing<'scope, T> {
    pub fn start(
        scope: &'scope Scope<'scope, '_>,
        pack: impl FnOnce(Sink, &mut dyn FnMut(u64)) -> Result<T, ExportError> + Send + 'scope,
    ) -> Result<Packing<'scope, T>, RepositoryError> {
        let (sink, pieces) = pieces();
        let passed = Arc::new(AtomicU64::new(0));
        let told = passed.clone();
        let packer = thread::Builder::new()
            .name("pack".into())
            .spawn_scoped(scope, move || {
                pack(sink, &mut |bytes| told.store(bytes, Ordering::Relaxed))
            })
            .map_err(|source| RepositoryError::Begin { source })?;
        Ok(Packing {
            pieces,
            passed,
            packer,
        })
    }
}

/// A file that is to be sent.
pub(super) struct Sending<'a> {
    /// What it will be called there.
    pub path: &'a str,
    /// Says which bytes these are: where it says the same, they are the same.
    pub content: &'a str,
}

/// A file that has arrived, and has not its name yet.
pub(super) struct Sent<T> {
    /// What it is called there.
    pub part: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// What the packer says.
    pub packed: T,
}

/// What is kept on this side.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    path: String,
    content: String,
    part: String,
}

/// Why a file did not arrive.
enum Stop {
    /// What the server has is not what would be sent: all of it has to be sent.
    Different,
    Failed(RepositoryError),
}

impl<E: Into<RepositoryError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

impl Repository {
    /// Packs and sends. `pack` is called in a thread of its own, unless it is at work already in `ahead`, and once more where
    /// what was kept of an earlier transfer is of no use. It says how far it is; `tell` passes that on.
    pub(super) fn send<T: Send>(
        &self,
        unfinished: &Unfinished,
        sending: &Sending<'_>,
        pack: &Packer<'_, T>,
        mut ahead: Option<Packing<'_, T>>,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Sent<T>, RepositoryError> {
        let mut attempt = |part: &str, from| match ahead.take() {
            Some(packing) => self.attempt(unfinished, part, from, packing, tell),
            None => thread::scope(|scope| {
                let packing = Packing::start(scope, pack)?;
                self.attempt(unfinished, part, from, packing, tell)
            }),
        };
        if let Some((part, checkpoint)) = self.left(unfinished, sending)? {
            tracing::debug!(
                part,
                offset = checkpoint.offset,
                "goes on with what is there"
            );
            match attempt(&part, Some(checkpoint)) {
                Ok(sent) => return Ok(sent),
                Err(Stop::Failed(error)) => return Err(self.stopped(error, &part, unfinished)),
                Err(Stop::Different) => self.remove_if_there(&part)?,
            }
        }
        let part = part_of(sending.path).map_err(|source| RepositoryError::Begin { source })?;
        unfinished.begin(&Record {
            path: sending.path.into(),
            content: sending.content.into(),
            part: part.clone(),
        })?;
        match attempt(&part, None) {
            Ok(sent) => Ok(sent),
            Err(Stop::Failed(error)) => Err(self.stopped(error, &part, unfinished)),
            Err(Stop::Different) => unreachable!("a new file is compared with nothing"),
        }
    }

    /// What an earlier transfer of the same bytes has left there. What one of other bytes has left is removed.
    fn left(
        &self,
        unfinished: &Unfinished,
        sending: &Sending<'_>,
    ) -> Result<Option<(String, Checkpoint)>, RepositoryError> {
        let Some(record) = unfinished.record::<Record>() else {
            return Ok(None);
        };
        if record.path == sending.path
            && record.content == sending.content
            && let Some(file) = self.file(&record.part)?
            && let Some(checkpoint) = unfinished.last_checkpoint(file.size)
        {
            return Ok(Some((record.part, checkpoint)));
        }
        self.remove_if_there(&record.part)?;
        Ok(None)
    }

    /// Removes what an earlier transfer has left there, whatever it was of.
    pub(super) fn forget_sent(&self, unfinished: &Unfinished) -> Result<(), RepositoryError> {
        match unfinished.record::<Record>() {
            Some(Record { part, .. }) => self.remove_if_there(&part),
            None => Ok(()),
        }
    }

    /// Where the connection is gone the part stays, to be gone on with; else it is in nobody's interest.
    fn stopped(
        &self,
        error: RepositoryError,
        part: &str,
        unfinished: &Unfinished,
    ) -> RepositoryError {
        if !error.is_interruption()
            && let Err(error) = self
                .remove_if_there(part)
                .and_then(|()| unfinished.forget_checkpoints())
        {
            tracing::warn!(%error, part, "what was sent so far stays");
        }
        error
    }

    fn attempt<T>(
        &self,
        unfinished: &Unfinished,
        part: &str,
        from: Option<Checkpoint>,
        packing: Packing<'_, T>,
        tell: &mut dyn FnMut(u64),
    ) -> Result<Sent<T>, Stop> {
        let handle = match &from {
            Some(_) => self.session.write(part)?,
            None => self.session.create_new(part, FILE_MODE)?,
        };
        let Packing {
            pieces,
            passed,
            packer,
        } = packing;
        let mut progress = || tell(passed.load(Ordering::Relaxed));
        let arrived = self.take(unfinished, part, &handle, from, pieces, &mut progress);
        let packed = packer.join().expect("a packer does not panic");
        // A packer that nobody listens to any more fails as well, and that is not why.
        let (digest, size) = arrived?;
        let packed = packed?;
        self.finish(part, handle, size)?;
        Ok(Sent {
            part: part.into(),
            digest,
            size,
            packed,
        })
    }

    /// Takes pieces until they end; says the digest and the number of their bytes.
    fn take(
        &self,
        unfinished: &Unfinished,
        part: &str,
        handle: &Handle,
        from: Option<Checkpoint>,
        pieces: Pieces,
        progress: &mut dyn FnMut(),
    ) -> Result<(Digest, u64), Stop> {
        let mut there = match from {
            Some(checkpoint) => There::Comparing(self.compare(part, checkpoint)?),
            None => There::Writing(self.writer(unfinished, handle, 0)),
        };
        let mut so_far = Checkpoint::of_nothing();
        for piece in pieces {
            progress();
            let (bytes, end) = match piece {
                Piece::Bytes { bytes, end } => (bytes, end),
                Piece::StartAgain => {
                    there.end()?;
                    self.session.set_size(handle, 0)?;
                    unfinished.forget_checkpoints()?;
                    there = There::Writing(self.writer(unfinished, handle, 0));
                    so_far = Checkpoint::of_nothing();
                    continue;
                }
            };
            match &mut there {
                There::Writing(writer) => writer.write(bytes, &end)?,
                There::Comparing(comparison) => {
                    comparison.look_at(bytes.as_ref());
                    if comparison.is_at(&end)? {
                        // Beyond it there may be anything.
                        self.session.set_size(handle, end.offset)?;
                        there = There::Writing(self.writer(unfinished, handle, end.offset));
                    }
                }
            }
            so_far = end;
        }
        match there {
            There::Writing(writer) => writer.upload.finish().map(drop)?,
            There::Comparing(_) => return Err(Stop::Different),
        }
        Ok((so_far.digest, so_far.offset))
    }

    fn writer<'a>(
        &'a self,
        unfinished: &'a Unfinished,
        handle: &'a Handle,
        from: u64,
    ) -> Box<Writer<'a>> {
        Box::new(Writer {
            upload: self.session.upload(handle, from),
            unfinished,
            checkpoints: VecDeque::new(),
            on_disk: from,
        })
    }

    /// Reads the last bytes before the checkpoint: a server that lost its power may have lost them.
    fn compare(&self, part: &str, checkpoint: Checkpoint) -> Result<Comparison, Stop> {
        let handle = self.session.read(part)?;
        let begin = checkpoint.offset.saturating_sub(TAIL);
        let mut download = self.session.download(&handle, begin, checkpoint.offset);
        let mut tail = Vec::new();
        let read = download.read_to_end(&mut tail);
        drop(download);
        self.session.close(handle)?;
        match read {
            Ok(_) => Ok(Comparison {
                checkpoint,
                tail,
                ours: Vec::new(),
            }),
            Err(error) => Err(Stop::Failed(remote(error, part))),
        }
    }

    /// All was sent: is all there?
    fn finish(&self, part: &str, handle: Handle, size: u64) -> Result<(), RepositoryError> {
        tracing::debug!(part, size, "all was sent");
        self.session.sync(&handle)?;
        tracing::debug!("the server has it on disk");
        let there = self.session.handle_metadata(&handle)?;
        self.session.close(handle)?;
        match there.size {
            Some(there) if there != size => Err(RepositoryError::Changed { path: part.into() }),
            _ => Ok(()),
        }
    }

    /// Takes away a part that will not get its name.
    pub(super) fn discard(&self, part: &str) {
        match self.session.remove_file(part) {
            Err(error) if !is_missing(&error) => {
                tracing::warn!(%error, part, "what was sent stays, hidden");
            }
            _ => {}
        }
    }
}

/// What is done with the bytes that come.
enum There<'a> {
    /// The server should have them.
    Comparing(Comparison),
    Writing(Box<Writer<'a>>),
}

impl There<'_> {
    fn end(self) -> Result<(), SftpError> {
        match self {
            There::Comparing(_) => Ok(()),
            There::Writing(writer) => writer.upload.finish().map(drop),
        }
    }
}

struct Comparison {
    checkpoint: Checkpoint,
    /// The last bytes before the checkpoint, as the server has them.
    tail: Vec<u8>,
    /// As many of ours, the last ones that were looked at.
    ours: Vec<u8>,
}

impl Comparison {
    fn look_at(&mut self, bytes: &[u8]) {
        self.ours.extend_from_slice(bytes);
        let surplus = self.ours.len().saturating_sub(self.tail.len());
        self.ours.drain(..surplus);
    }

    /// Whether the checkpoint is reached; what came before it is the same then. Pieces end where checkpoints are.
    fn is_at(&self, end: &Checkpoint) -> Result<bool, Stop> {
        match end.offset.cmp(&self.checkpoint.offset) {
            std::cmp::Ordering::Less => Ok(false),
            std::cmp::Ordering::Equal if self.ours == self.tail && *end == self.checkpoint => {
                Ok(true)
            }
            _ => Err(Stop::Different),
        }
    }
}

/// Sends, and writes down what has arrived.
struct Writer<'a> {
    upload: Upload<'a>,
    unfinished: &'a Unfinished,
    /// Sent, and perhaps not acknowledged yet.
    checkpoints: VecDeque<Checkpoint>,
    /// The server was asked to bring the bytes before this offset to its disk.
    on_disk: u64,
}

impl Writer<'_> {
    /// Sends the bytes before `end`.
    fn write(&mut self, bytes: Buffer, end: &Checkpoint) -> Result<(), RepositoryError> {
        self.upload.pass(Arc::new(bytes))?;
        if end.offset.is_multiple_of(STEP) {
            self.checkpoints.push_back(end.clone());
        }
        if end.offset - self.on_disk >= TO_DISK {
            self.upload.begin_sync()?;
            self.on_disk = end.offset;
        }
        while let Some(checkpoint) = self.checkpoints.front()
            && checkpoint.offset <= self.upload.acknowledged()
        {
            self.unfinished.add_checkpoint(checkpoint)?;
            self.checkpoints.pop_front();
        }
        Ok(())
    }
}
