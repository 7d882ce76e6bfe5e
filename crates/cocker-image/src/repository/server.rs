//! What everything done in a repository consists of: small files, folders, and the lock on names.

use super::names::{FOLDERS, LOCK, part_of};
use super::{PATIENCE, Repository, RepositoryError};
use cocker_sftp::{Kind, Metadata, SftpError, SftpErrorKind};
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

/// What is written is for whoever the server lets in; its own mask has the last word.
pub(super) const FILE_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o755;
/// So long somebody else's lock is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// A lock that is older, in seconds by the server's clock, has been left by somebody who died.
const LOCK_AGE: u32 = 120;
/// Between two looks at somebody else's lock: sftp has no way of being told.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// So long a lock is its holder's for certain: the last request may take as long as a silent server is waited for.
const LOCK_SURE: Duration = Duration::from_secs(LOCK_AGE as u64).saturating_sub(PATIENCE);

/// The lock on a repository's names; given back by drop.
pub(super) struct Lock<'r> {
    repository: &'r Repository,
    path: String,
    /// Before the server made it.
    taken: Instant,
}

impl Lock<'_> {
    /// Whether nobody can take it for one that was left, while one more request is made.
    pub fn is_sure(&self) -> bool {
        self.taken.elapsed() < LOCK_SURE
    }

    /// # Errors
    /// Where it is not sure any more: then nothing is to be done that needs it.
    pub fn expect_sure(&self) -> Result<(), RepositoryError> {
        match self.is_sure() {
            true => Ok(()),
            false => Err(RepositoryError::Slow {
                seconds: LOCK_SURE.as_secs(),
            }),
        }
    }
}

/// Somebody else's lock, as it was when its age was asked for.
struct OthersLock {
    /// Seconds since 1970 by the server's clock.
    made: u32,
    /// In seconds, by the server's clock.
    age: u32,
    seen: Instant,
}

impl OthersLock {
    fn age(&self) -> u64 {
        self.seen.elapsed().as_secs() + u64::from(self.age)
    }
}

impl Repository {
    /// Takes the lock on names.
    pub(super) fn lock(&self) -> Result<Lock<'_>, RepositoryError> {
        let path = self.path(LOCK);
        let began = Instant::now();
        let mut others = None;
        loop {
            let taken = Instant::now();
            match self.session.make_folder(&path, FOLDER_MODE) {
                Ok(()) => {
                    return Ok(Lock {
                        repository: self,
                        path,
                        taken,
                    });
                }
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error.into()),
            }
            // First of all, for a server that shows another old lock each time.
            if began.elapsed() > LOCK_PATIENCE {
                return Err(RepositoryError::Locked {
                    lock: path,
                    seconds: LOCK_PATIENCE.as_secs(),
                });
            }
            others = self.others_lock(&path, others)?;
            match &others {
                Some(lock) if lock.age() > u64::from(LOCK_AGE) => {
                    self.break_lock(&path, lock.made)?;
                }
                _ => thread::sleep(LOCK_INTERVAL),
            }
        }
    }

    /// Looks at somebody else's lock; its age is asked for once. `None` where it is gone, or has no time.
    fn others_lock(
        &self,
        lock: &str,
        before: Option<OthersLock>,
    ) -> Result<Option<OthersLock>, RepositoryError> {
        let Some(made) = self.session.metadata(lock)?.and_then(|lock| lock.modified) else {
            return Ok(None);
        };
        if let Some(before) = before
            && before.made == made
        {
            return Ok(Some(before));
        }
        let seen = Instant::now();
        // The server's clock, not ours.
        let part =
            part_of(&self.path("clock")).map_err(|source| RepositoryError::Begin { source })?;
        self.write_file(&part, b"")?;
        let now = self.session.metadata(&part)?.and_then(|part| part.modified);
        self.session.remove_file(&part)?;
        let age = now.map(|now| now.saturating_sub(made));
        Ok(age.map(|age| OthersLock { made, age, seen }))
    }

    /// Takes away a lock that was left, made at this time. Of several who do so at once one succeeds, since a name can be
    /// renamed once; who comes so late that another lock is there already gives that one back.
    fn break_lock(&self, lock: &str, made: u32) -> Result<(), RepositoryError> {
        let aside = part_of(lock).map_err(|source| RepositoryError::Begin { source })?;
        match self.session.rename_new(lock, &aside) {
            Ok(()) => {}
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let taken = self.session.metadata(&aside)?;
        if taken.is_some_and(|taken| taken.modified != Some(made))
            && self.session.rename_new(&aside, lock).is_ok()
        {
            return Ok(());
        }
        if let Err(error) = self.session.remove_folder(&aside) {
            tracing::warn!(%error, aside, "a lock that was left stays, out of the way");
        }
        Ok(())
    }

    /// Makes the repository's own folder, where one was said and it is missing, with those above it.
    pub(super) fn make_own_folder(&self) -> Result<(), RepositoryError> {
        let folder = self.folder();
        if folder == "." || self.session.metadata(folder)?.is_some() {
            return Ok(());
        }
        let ends = folder.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([folder.len()]).filter(|end| *end > 0) {
            self.make_folder(&folder[..end])?;
        }
        Ok(())
    }

    /// Makes the folders for layers and manifests, where they are missing.
    pub(super) fn make_layer_folders(&self) -> Result<(), RepositoryError> {
        if self.session.metadata(&self.path(FOLDERS[2]))?.is_some() {
            return Ok(());
        }
        FOLDERS
            .iter()
            .try_for_each(|folder| self.make_folder(&self.path(folder)))
    }

    fn make_folder(&self, path: &str) -> Result<(), RepositoryError> {
        match self.session.make_folder(path, FOLDER_MODE) {
            Err(error) if is_taken(&error) => Ok(()),
            made => Ok(made?),
        }
    }

    /// Whether anything has that name.
    pub(super) fn is_there(&self, path: &str) -> Result<bool, RepositoryError> {
        Ok(self.session.metadata(path)?.is_some())
    }

    /// What is known of a regular file; `None` where there is nothing of that name.
    ///
    /// # Errors
    /// Where there is something else.
    pub(super) fn file(&self, path: &str) -> Result<Option<RemoteFile>, RepositoryError> {
        let Some(metadata) = self.session.metadata(path)? else {
            return Ok(None);
        };
        regular(path, &metadata).map(Some)
    }

    /// All of a small file; `None` where there is none. One of more than `most` bytes is refused.
    pub(super) fn read_file(
        &self,
        path: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, RepositoryError> {
        let Some(RemoteFile { size, .. }) = self.file(path)? else {
            return Ok(None);
        };
        if size > most {
            return Err(RepositoryError::BadDocument {
                path: path.into(),
                why: format!("it has {size} bytes, more than {most}"),
            });
        }
        let handle = match self.session.read(path) {
            Err(error) if is_missing(&error) => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        let read = self
            .session
            .download(&handle, 0, size)
            .read_to_end(&mut bytes);
        read.map_err(|error| remote(error, path))?;
        self.session.close(handle)?;
        Ok(Some(bytes))
    }

    /// Writes a new small file and brings it to the server's disk.
    pub(super) fn write_file(&self, path: &str, bytes: &[u8]) -> Result<(), RepositoryError> {
        let handle = self.session.create_new(path, FILE_MODE)?;
        let mut upload = self.session.upload(&handle, 0);
        upload
            .write_all(bytes)
            .map_err(|error| remote(error, path))?;
        upload.finish()?;
        self.session.sync(&handle)?;
        Ok(self.session.close(handle)?)
    }

    /// Removes a file; that there is none is as good.
    pub(super) fn remove_if_there(&self, path: &str) -> Result<(), RepositoryError> {
        match self.session.remove_file(path) {
            Err(error) if is_missing(&error) => Ok(()),
            removed => Ok(removed?),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // By now it may be somebody else's.
        if self.taken.elapsed() >= Duration::from_secs(LOCK_AGE.into()) {
            tracing::warn!(path = self.path, "the lock has grown old and is left");
            return;
        }
        if let Err(error) = self.repository.session.remove_folder(&self.path) {
            tracing::warn!(%error, path = self.path, "the lock stays, until somebody finds it old");
        }
    }
}

/// A regular file there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 by the server's clock, where it says so.
    pub modified: Option<u32>,
}

/// What `metadata` says of a regular file.
pub(super) fn regular(path: &str, metadata: &Metadata) -> Result<RemoteFile, RepositoryError> {
    match (metadata.kind, metadata.size) {
        (Kind::File | Kind::Unknown, Some(size)) => Ok(RemoteFile {
            size,
            modified: metadata.modified,
        }),
        _ => Err(RepositoryError::NoFile { path: path.into() }),
    }
}

/// What stopped a stream of the server's.
pub(super) fn remote(error: std::io::Error, path: &str) -> RepositoryError {
    match error.downcast::<SftpError>() {
        Ok(error) => match &error.kind {
            SftpErrorKind::Ended { .. } => RepositoryError::Changed { path: path.into() },
            _ => RepositoryError::Remote(error),
        },
        Err(source) => RepositoryError::Begin { source },
    }
}

pub(super) fn is_missing(error: &SftpError) -> bool {
    error.kind == SftpErrorKind::NoSuchFile
}

/// Whether something has that name already.
pub(super) fn is_taken(error: &SftpError) -> bool {
    error.kind == SftpErrorKind::AlreadyExists
}
