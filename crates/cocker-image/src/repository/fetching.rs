//! A file that is received and unpacked at the same time; what came is kept until all of it is believed.
//!
//! ```text
//! server ──▶ here: SHA-256, transfers/<key>/<name>.data ──▶ a thread: decompressed ──▶ tar ──▶ staged layer
//! ```

use super::server::{RemoteFile, regular, remote};
use super::stream::{Fed, Feed, feed};
use super::unfinished::Unfinished;
use super::{Repository, RepositoryError};
use crate::transfer::{ImportError, Progress};
use crate::{Digest, Digester};
use cocker_sftp::Handle;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;
/// So many of the last bytes that came before are compared before more are asked for.
const TAIL: u64 = 64 << 10;

/// A file that is to be received.
pub(super) struct Fetching<'a> {
    /// What it is called there.
    pub path: &'a str,
    /// What it is called among what is kept.
    pub name: &'a str,
    /// As it was when it was looked at.
    pub file: RemoteFile,
}

/// A file that has been received and unpacked.
pub(super) struct Fetched<T> {
    /// Of its bytes.
    pub digest: Digest,
    pub unpacked: T,
}

impl Repository {
    /// Receives and unpacks. `unpack` is called in a thread of its own.
    pub(super) fn fetch<T: Send>(
        &self,
        unfinished: &Unfinished,
        fetching: &Fetching<'_>,
        unpack: &(dyn Fn(Fed) -> Result<T, ImportError> + Sync),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Fetched<T>, RepositoryError> {
        let (feed, fed) = feed();
        let (ended, end) = channel();
        let (came, unpacked) = thread::scope(|scope| {
            let name = thread::Builder::new().name("unpack".into());
            let unpacker = name.spawn_scoped(scope, move || {
                let unpacked = unpack(fed);
                // Nobody asks where all was taken.
                _ = ended.send(unpacked.is_ok());
                unpacked
            });
            let unpacker = unpacker.map_err(|source| RepositoryError::Begin { source })?;
            let mut unpacking = Unpacking {
                feed: Some(feed),
                end,
            };
            let came = self.receive(unfinished, fetching, &mut unpacking, progress);
            if came.is_ok() {
                unpacking.all_came();
            }
            drop(unpacking);
            let unpacked = unpacker.join().expect("an unpacker does not panic");
            Ok::<_, RepositoryError>((came, unpacked))
        })?;
        match came {
            Ok(digest) => Ok(Fetched {
                digest,
                unpacked: unpacked?,
            }),
            // The unpacker is told that the rest does not come, and that is not why.
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Unpacking) => match unpacked {
                Err(error) => Err(error.into()),
                Ok(_) => unreachable!("an unpacker that is content stops nothing"),
            },
        }
    }

    fn receive(
        &self,
        unfinished: &Unfinished,
        fetching: &Fetching<'_>,
        unpacking: &mut Unpacking,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, Stop> {
        let Fetching { path, name, file } = *fetching;
        let handle = self.session.read(path)?;
        self.expect_unchanged(path, &handle, file)?;
        let mut kept = unfinished.data(name)?;
        let keep = |source| unfinished.failed(source);
        let mut from = kept.metadata().map_err(keep)?.len();
        if from > file.size || !self.has_same_tail(&kept, from, &handle, path)? {
            from = 0;
        }
        kept.set_len(from).map_err(keep)?;
        if from > 0 {
            tracing::debug!(path, offset = from, "goes on with what is here");
        }

        let mut digester = Digester::new(io::sink());
        let mut piece = vec![0; PIECE];
        let whole = file.size;
        let mut pass_on = |bytes: &[u8], digester: &mut Digester<io::Sink>| {
            digester.count(bytes);
            let passed = digester.length();
            progress(Progress { passed, whole });
            unpacking.take(bytes)
        };
        kept.seek(SeekFrom::Start(0)).map_err(keep)?;
        while digester.length() < from {
            let length = kept.read(&mut piece).map_err(keep)?;
            if length == 0 {
                return Err(keep(io::ErrorKind::UnexpectedEof.into()).into());
            }
            pass_on(&piece[..length], &mut digester)?;
        }
        let mut download = self.session.download(&handle, from, file.size);
        loop {
            let length = download.read(&mut piece);
            let length = length.map_err(|error| remote(error, path))?;
            if length == 0 {
                break;
            }
            kept.write_all(&piece[..length]).map_err(keep)?;
            pass_on(&piece[..length], &mut digester)?;
        }
        drop(download);
        // One that grew while it was read is not what it seemed.
        self.expect_unchanged(path, &handle, file)?;
        self.session.close(handle)?;
        Ok(digester.finish().0)
    }

    fn expect_unchanged(
        &self,
        path: &str,
        handle: &Handle,
        file: RemoteFile,
    ) -> Result<(), RepositoryError> {
        let now = regular(path, &self.session.handle_metadata(handle)?)?;
        match now == file {
            true => Ok(()),
            false => Err(RepositoryError::Changed { path: path.into() }),
        }
    }

    /// Whether the last bytes that came before are those that the server has there.
    fn has_same_tail(
        &self,
        kept: &File,
        length: u64,
        handle: &Handle,
        path: &str,
    ) -> Result<bool, RepositoryError> {
        let begin = length.saturating_sub(TAIL);
        let mut theirs = Vec::new();
        let mut download = self.session.download(handle, begin, length);
        let read = download.read_to_end(&mut theirs);
        read.map_err(|error| remote(error, path))?;
        let mut ours = vec![0; theirs.len()];
        Ok(kept.read_exact_at(&mut ours, begin).is_ok() && ours == theirs)
    }
}

/// The unpacker, seen from here.
struct Unpacking {
    /// None: it has all it wants.
    feed: Option<Feed>,
    /// Whether it was content, once it has ended.
    end: Receiver<bool>,
}

impl Unpacking {
    /// Hands bytes on. What follows the end of an archive is nobody's any more, but belongs to the file.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.feed.as_ref().is_none_or(|feed| feed.give(bytes)) {
            return Ok(());
        }
        self.feed = None;
        match self.end.recv() {
            Ok(true) => Ok(()),
            _ => Err(Stop::Unpacking),
        }
    }

    fn all_came(&mut self) {
        if let Some(feed) = self.feed.take() {
            feed.end();
        }
    }
}

/// Why no more is received.
enum Stop {
    Failed(RepositoryError),
    /// The unpacker has had enough of it, and says why.
    Unpacking,
}

impl<E: Into<RepositoryError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}
