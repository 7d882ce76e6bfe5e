//! What this side keeps of a transfer until it is whole, so that one that was broken off goes on where it was.
//!
//! ```text
//! $COCKER_HOME/transfers/<key>/      locked by who is at it; whoever finds it unlocked may go on with it, or remove it
//! ├── record.json                    what is transferred, and what it is called meanwhile on the other side
//! ├── naming.json                    pushing: the last steps, with what is staged for them on the other side
//! ├── checkpoints                    pushing: how much the server has for certain, and the SHA-256 of so much
//! └── <name>.data                    pulling: what came so far
//! ```

use super::RepositoryError;
use crate::descent::open_again;
use crate::staging::LeavingFolder;
use crate::{Digest, Store};
use cocker_sys::fault;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, flock, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

const RECORD: &str = "record.json";
const NAMING: &str = "naming.json";
const CHECKPOINTS: &str = "checkpoints";
/// No record and no list of checkpoints comes near this size, in bytes.
const LARGEST: u64 = 16 << 20;
/// Others may remove a folder between making and locking it; this often in a row they do not.
const ATTEMPTS: usize = 64;

pub(super) struct Unfinished {
    path: PathBuf,
    parent: OwnedFd,
    name: String,
    folder: OwnedFd,
}

/// So many bytes the server has for certain, and their digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub offset: u64,
    pub digest: Digest,
}

impl Checkpoint {
    pub fn of_nothing() -> Checkpoint {
        Checkpoint {
            offset: 0,
            digest: Digest::of(&[]),
        }
    }
}

impl Unfinished {
    /// Opens what is kept of the transfer that `what` says, made where there is nothing.
    ///
    /// # Errors
    /// [`RepositoryError::Busy`] where another process is at it.
    pub fn open(store: &Store, what: &str) -> Result<Unfinished, RepositoryError> {
        let name = Digest::of(what.as_bytes()).hex()[..32].to_string();
        let path = store.home().join("transfers").join(&name);
        let failed = |errno: Errno| RepositoryError::Keep {
            path: path.clone(),
            source: errno.into(),
        };
        let folders = store.transfers_folder();
        let parent = rustix::io::fcntl_dupfd_cloexec(folders, 0).map_err(failed)?;
        for _ in 0..ATTEMPTS {
            match fault::step("transfer.begin", || mkdirat(&parent, &name, Mode::RWXU)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = match openat(&parent, &name, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(RepositoryError::Busy),
                Err(errno) => return Err(failed(errno)),
            }
            let named = statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok();
            let held = rustix::fs::fstat(&folder).map_err(failed)?;
            if named.is_some_and(|named| named.st_ino == held.st_ino) {
                return Ok(Unfinished {
                    path,
                    parent,
                    name,
                    folder,
                });
            }
        }
        Err(failed(Errno::AGAIN))
    }

    /// The record, where there is one that can be understood.
    pub fn record<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.read(RECORD)?).ok()
    }

    /// Writes the record of a transfer that begins; what was kept before goes.
    pub fn begin<T: Serialize>(&self, record: &T) -> Result<(), RepositoryError> {
        self.forget_checkpoints()?;
        self.write(RECORD, record)
    }

    /// What was kept of the last steps, where it can be understood.
    pub fn naming<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(&self.read(NAMING)?).ok()
    }

    /// Keeps what the last steps need, in place of what was kept of them before.
    pub fn keep_naming<T: Serialize>(&self, naming: &T) -> Result<(), RepositoryError> {
        self.write(NAMING, naming)
    }

    pub fn forget_naming(&self) -> Result<(), RepositoryError> {
        self.unlink(NAMING)
    }

    /// The last checkpoint that is not beyond `length`.
    pub fn last_checkpoint(&self, length: u64) -> Option<Checkpoint> {
        let text = self.read(CHECKPOINTS)?;
        let parse = |line: &str| {
            let (offset, digest) = line.split_once(' ')?;
            Some(Checkpoint {
                offset: offset.parse().ok()?,
                digest: Digest::parse(digest).ok()?,
            })
        };
        let checkpoints = text.lines().filter_map(parse);
        checkpoints
            .filter(|checkpoint| checkpoint.offset <= length)
            .max_by_key(|checkpoint| checkpoint.offset)
    }

    pub fn add_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), RepositoryError> {
        let mut file = self.make(CHECKPOINTS, OFlags::APPEND)?;
        let line = format!("{} {}\n", checkpoint.offset, checkpoint.digest);
        file.write_all(line.as_bytes())
            .map_err(|source| self.failed(source))
    }

    pub fn forget_checkpoints(&self) -> Result<(), RepositoryError> {
        self.unlink(CHECKPOINTS)
    }

    /// The file for what comes under this name, for reading and writing, made where it is missing.
    pub fn data(&self, name: &str) -> Result<File, RepositoryError> {
        self.make(&format!("{name}.data"), OFlags::empty())
    }

    /// Forgets all that came.
    pub fn forget_data(&self) -> Result<(), RepositoryError> {
        let failed = |errno: Errno| self.failed(errno.into());
        let folder = open_again(self.folder.as_fd()).map_err(failed)?;
        for entry in Dir::new(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_bytes().ends_with(b".data") {
                unlinkat(&self.folder, entry.file_name(), AtFlags::empty()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Nothing is kept any more.
    pub fn end(self) {
        let end = || -> Result<(), Box<dyn Error>> {
            let folder = self.folder.try_clone()?;
            LeavingFolder::begin_held(self.parent.as_fd(), &self.name, folder)?;
            Ok(())
        };
        // Once more where it fails.
        if let Err(error) = end().or_else(|_| end()) {
            tracing::warn!(%error, "what was kept of a transfer stays");
        }
    }

    pub fn failed(&self, source: io::Error) -> RepositoryError {
        RepositoryError::Keep {
            path: self.path.clone(),
            source,
        }
    }

    fn make(&self, name: &str, more: OFlags) -> Result<File, RepositoryError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let make = || openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR);
        match fault::step("transfer.file", make) {
            Ok(file) => Ok(File::from(file)),
            Err(errno) => Err(self.failed(errno.into())),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RepositoryError> {
        self.unlink(name)?;
        let text = serde_json::to_vec(value).expect("texts and numbers always have a JSON form");
        let written = self.make(name, OFlags::EXCL);
        written?
            .write_all(&text)
            .map_err(|source| self.failed(source))
    }

    fn read(&self, name: &str) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(&self.folder, name, flags, Mode::empty()).ok()?);
        let mut text = String::new();
        file.take(LARGEST).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn unlink(&self, name: &str) -> Result<(), RepositoryError> {
        let unlink = || unlinkat(&self.folder, name, AtFlags::empty());
        match fault::step("transfer.forget", unlink) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed(errno.into())),
        }
    }
}

impl Drop for Unfinished {
    /// Unlocks at once, since a process forked meanwhile may hold the same open folder a little longer.
    fn drop(&mut self) {
        if let Err(errno) = flock(&self.folder, FlockOperation::Unlock) {
            tracing::warn!(%errno, "cannot unlock what is kept of a transfer");
        }
    }
}

/// Whether a folder in `transfers` may be called so.
pub(crate) fn is_transfer(name: &str) -> bool {
    name.len() == 32
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// The names in `transfers` of what is kept of transfers, whether somebody is at them or not.
    pub fn interrupted_transfers(&self) -> io::Result<Vec<String>> {
        let folder = open_again(self.transfers_folder())?;
        let mut names = Vec::new();
        for entry in Dir::new(folder)? {
            if let Ok(name) = entry?.file_name().to_str()
                && is_transfer(name)
            {
                names.push(name.to_string());
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Record {
        part: String,
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn what_is_kept_is_found_again_and_goes_at_the_end() {
        let (folder, store) = store();
        let part = || Record { part: "x".into() };
        let checkpoint = |offset: u64| Checkpoint {
            offset,
            digest: Digest::of(&offset.to_ne_bytes()),
        };
        let unfinished = Unfinished::open(&store, "push web").unwrap();
        assert_eq!(unfinished.record::<Record>(), None);
        unfinished.begin(&part()).unwrap();
        for offset in [10, 20, 30] {
            unfinished.add_checkpoint(&checkpoint(offset)).unwrap();
        }
        drop(unfinished);

        let unfinished = Unfinished::open(&store, "push web").unwrap();
        assert_eq!(unfinished.record(), Some(part()));
        assert_eq!(unfinished.last_checkpoint(9), None);
        assert_eq!(unfinished.last_checkpoint(29), Some(checkpoint(20)));
        assert_eq!(unfinished.last_checkpoint(u64::MAX), Some(checkpoint(30)));
        unfinished.begin(&part()).unwrap();
        assert_eq!(unfinished.last_checkpoint(u64::MAX), None);
        unfinished.end();
        let kept = fs::read_dir(folder.path().join("transfers")).unwrap();
        assert_eq!(kept.count(), 0);
    }

    #[test]
    fn two_are_not_at_it_at_once() {
        let (_folder, store) = store();
        let first = Unfinished::open(&store, "push web").unwrap();
        let second = Unfinished::open(&store, "push web");
        assert!(matches!(second, Err(RepositoryError::Busy)));
        Unfinished::open(&store, "pull web").unwrap();
        drop(first);
        Unfinished::open(&store, "push web").unwrap();
    }
}
