//! Folders that come and folders that go, each by one rename.
//!
//! ```text
//! .new-<id>    being written; renamed to its name when it is complete
//! .gone-<id>   has left its name; being removed
//! ```
//!
//! Whoever works on such a folder holds a lock (flock) on the folder itself for as long as the work lasts. The lock
//! vanishes with its holder, so a folder that can be locked belongs to nobody and may be swept.
//! Nothing here decides about names: who takes or frees one holds the store's lock.

mod leftovers;

pub use leftovers::{Leftover, is_free, is_staged, staged_names, sweep};

use crate::descent::{is_named, open_beneath};
use crate::quote::quote;
use crate::removal::{RemovalError, remove_tree};
use cocker_sys::fault;
use rustix::fs::{
    FlockOperation, Mode, OFlags, RenameFlags, flock, mkdirat, renameat, renameat_with,
};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const NEW: &str = ".new-";
const GONE: &str = ".gone-";

/// A sweep may take a new folder away in the instant before it is locked; this often in a row it does not happen.
const ATTEMPTS: usize = 64;

/// Why a folder could not come or go.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    #[error("cannot draw a random id")]
    DrawId {
        #[source]
        source: io::Error,
    },
    #[error("cannot make staging folder `{name}`")]
    Make {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot lock folder `{name}`")]
    Lock {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot find folder `{name}`")]
    Find {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot rename folder `{from}` to `{to}`")]
    Rename {
        from: String,
        to: String,
        #[source]
        source: io::Error,
    },
}

impl StagingError {
    /// Whether a folder could not take its name because the name is in use.
    pub fn is_name_taken(&self) -> bool {
        let taken = |source: &io::Error| {
            matches!(
                Errno::from_io_error(source),
                Some(Errno::EXIST | Errno::NOTEMPTY)
            )
        };
        matches!(self, StagingError::Rename { source, .. } if taken(source))
    }
}

/// A folder under construction, `.new-<id>` (mode 0700), locked by this value; removed by drop unless published.
pub struct StagedFolder {
    parent: OwnedFd,
    id: u128,
    name: CString,
    folder: OwnedFd,
    is_published: bool,
}

impl StagedFolder {
    /// Makes and locks a new folder in `parent`.
    pub fn make(parent: BorrowedFd<'_>) -> Result<StagedFolder, StagingError> {
        for _ in 0..ATTEMPTS {
            let id = random_bits()?;
            let name = entry_name(NEW, id);
            let failed = |errno: Errno| StagingError::Make {
                name: shown(&name),
                source: errno.into(),
            };
            let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(failed)?;
            fault::step("staging.make", || mkdirat(&parent, &name, Mode::RWXU)).map_err(failed)?;
            match lock_new(parent.as_fd(), &name) {
                Ok(folder) => {
                    return Ok(StagedFolder {
                        parent,
                        id,
                        name,
                        folder,
                        is_published: false,
                    });
                }
                // A sweep came between making and locking and took the folder for a leftover.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(StagingError::Make {
            name: NEW.into(),
            source: Errno::AGAIN.into(),
        })
    }

    /// The open folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The id in the folder's name, 128 random bits.
    pub fn id(&self) -> u128 {
        self.id
    }

    /// The folder's name, `.new-<id>`.
    pub fn name(&self) -> &str {
        self.name.to_str().expect("hexadecimal digits are text")
    }

    /// The folder has been renamed and is not this value's any more, but for the lock, which stays until drop.
    pub fn let_go(&mut self) {
        self.is_published = true;
    }

    /// Gives the folder its name in `parent` (on the same file system); fails where the name is in use.
    /// The lock stays until drop; on failure the folder is still staged.
    pub fn publish(
        &mut self,
        parent: BorrowedFd<'_>,
        name: impl AsRef<OsStr>,
    ) -> Result<(), StagingError> {
        let failed = |source: io::Error| StagingError::Rename {
            from: shown(&self.name),
            to: quote(&name.as_ref().to_string_lossy()),
            source,
        };
        let to = CString::new(name.as_ref().as_bytes()).map_err(|error| failed(error.into()))?;
        fault::step("staging.publish", || {
            renameat_with(
                &self.parent,
                &self.name,
                parent,
                &to,
                RenameFlags::NOREPLACE,
            )
        })
        .map_err(|errno| failed(errno.into()))?;
        self.is_published = true;
        Ok(())
    }

    /// Takes the name back that it was given last, `name` in `parent`: it is staged as it was before.
    pub fn withdraw(
        &mut self,
        parent: BorrowedFd<'_>,
        name: impl AsRef<OsStr>,
    ) -> Result<(), StagingError> {
        let failed = |source: io::Error| StagingError::Rename {
            from: quote(&name.as_ref().to_string_lossy()),
            to: shown(&self.name),
            source,
        };
        let from = CString::new(name.as_ref().as_bytes()).map_err(|error| failed(error.into()))?;
        renameat(parent, &from, &self.parent, &self.name).map_err(|errno| failed(errno.into()))?;
        self.is_published = false;
        Ok(())
    }
}

impl Drop for StagedFolder {
    fn drop(&mut self) {
        if !self.is_published {
            remove_or_leave(self.parent.as_fd(), &self.name);
        }
        unlock(self.folder.as_fd());
    }
}

/// A folder that has left its name for `.gone-<id>`, locked by this value; removed by [`remove`](Self::remove) or drop.
pub struct LeavingFolder {
    parent: OwnedFd,
    name: CString,
    folder: OwnedFd,
    removed: bool,
}

impl LeavingFolder {
    /// Takes the name away from the folder `name` of `parent`, which may lie deeper (`a/b`) and gets its new name in
    /// `parent` itself. This is the short part, done under the store's lock.
    pub fn begin(
        parent: BorrowedFd<'_>,
        name: impl AsRef<OsStr>,
    ) -> Result<LeavingFolder, StagingError> {
        let shown_name = quote(&name.as_ref().to_string_lossy());
        let not_found = |source: io::Error| StagingError::Find {
            name: shown_name.clone(),
            source,
        };
        let from =
            CString::new(name.as_ref().as_bytes()).map_err(|error| not_found(error.into()))?;
        let folder = open_folder(parent, &from).map_err(|errno| not_found(errno.into()))?;
        lock(folder.as_fd(), FlockOperation::LockExclusive).map_err(|errno| {
            StagingError::Lock {
                name: shown_name.clone(),
                source: errno.into(),
            }
        })?;
        LeavingFolder::begin_held(parent, name, folder)
    }

    /// The same where nobody holds the lock on the folder; `None` where somebody works on it. Never waits.
    pub fn begin_if_free(
        parent: BorrowedFd<'_>,
        name: impl AsRef<OsStr>,
    ) -> Result<Option<LeavingFolder>, StagingError> {
        let not_found = |source: io::Error| StagingError::Find {
            name: quote(&name.as_ref().to_string_lossy()),
            source,
        };
        let from =
            CString::new(name.as_ref().as_bytes()).map_err(|error| not_found(error.into()))?;
        let folder = open_folder(parent, &from).map_err(|errno| not_found(errno.into()))?;
        match lock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => LeavingFolder::begin_held(parent, name, folder).map(Some),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(not_found(errno.into())),
        }
    }

    /// The same for a `folder` on which the caller holds the lock already, which passes to this value.
    pub fn begin_held(
        parent: BorrowedFd<'_>,
        name: impl AsRef<OsStr>,
        folder: OwnedFd,
    ) -> Result<LeavingFolder, StagingError> {
        let shown_name = quote(&name.as_ref().to_string_lossy());
        let not_found = |source: io::Error| StagingError::Find {
            name: shown_name.clone(),
            source,
        };
        let from =
            CString::new(name.as_ref().as_bytes()).map_err(|error| not_found(error.into()))?;
        // Waiting for the lock may have meant waiting for another to remove this very folder.
        if !is_named(parent, &from, folder.as_fd()).map_err(|errno| not_found(errno.into()))? {
            return Err(not_found(Errno::NOENT.into()));
        }
        let to = entry_name(GONE, random_bits()?);
        let failed = |errno: Errno| StagingError::Rename {
            from: shown_name.clone(),
            to: shown(&to),
            source: errno.into(),
        };
        let parent = rustix::io::fcntl_dupfd_cloexec(parent, 0).map_err(failed)?;
        fault::step("staging.leave", || renameat(&parent, &from, &parent, &to)).map_err(failed)?;
        Ok(LeavingFolder {
            parent,
            name: to,
            folder,
            removed: false,
        })
    }

    /// The open folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Removes the folder with all that is below it. This is the long part, done without the store's lock.
    pub fn remove(mut self) -> Result<(), RemovalError> {
        self.removed = true;
        remove_tree(self.parent.as_fd(), OsStr::from_bytes(self.name.to_bytes()))
    }
}

impl Drop for LeavingFolder {
    fn drop(&mut self) {
        if !self.removed {
            remove_or_leave(self.parent.as_fd(), &self.name);
        }
        unlock(self.folder.as_fd());
    }
}

/// Whether a name is that of a folder that comes or goes.
pub(crate) fn is_staging_name(name: &str) -> bool {
    name.starts_with(NEW) || name.starts_with(GONE)
}

/// A name that no other folder has, for one that is to go.
pub(crate) fn leaving_name() -> Result<String, StagingError> {
    random_name(GONE).map_err(|errno| StagingError::DrawId {
        source: errno.into(),
    })
}

/// A name that nobody can guess.
pub(crate) fn random_name(prefix: &str) -> Result<String, Errno> {
    Ok(format!("{prefix}{:032x}", draw_bits()?))
}

fn random_bits() -> Result<u128, StagingError> {
    draw_bits().map_err(|errno| StagingError::DrawId {
        source: errno.into(),
    })
}

/// 128 bits from the kernel's random generator.
fn draw_bits() -> Result<u128, Errno> {
    let mut bytes = [0; 16];
    // Up to 256 bytes come whole or not at all (getrandom(2)).
    rustix::io::retry_on_intr(|| getrandom(&mut bytes, GetRandomFlags::empty()))?;
    Ok(u128::from_ne_bytes(bytes))
}

fn entry_name(prefix: &str, id: u128) -> CString {
    CString::new(format!("{prefix}{id:032x}")).expect("hexadecimal digits hold no NUL")
}

/// Opens and locks the folder just made; NOENT where a sweep has taken it away.
fn lock_new(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let folder = open_folder(parent, name)?;
    fault::step("staging.lock", || {
        lock(folder.as_fd(), FlockOperation::LockExclusive)
    })?;
    if is_named(parent, name, folder.as_fd())? {
        Ok(folder)
    } else {
        Err(Errno::NOENT)
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    open_beneath(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
    )
}

fn lock(folder: BorrowedFd<'_>, operation: FlockOperation) -> Result<(), Errno> {
    cocker_sys::lock::flock(folder, operation)
}

/// Unlocks at once, since a process forked meanwhile may hold the same open folder a little longer.
fn unlock(folder: BorrowedFd<'_>) {
    if let Err(errno) = flock(folder, FlockOperation::Unlock) {
        tracing::warn!(%errno, "cannot unlock a folder");
    }
}

/// Removes a folder that nobody waits for; what stays is swept later.
fn remove_or_leave(parent: BorrowedFd<'_>, name: &CStr) {
    if let Err(error) = remove_tree(parent, OsStr::from_bytes(name.to_bytes())) {
        tracing::warn!(error = &error as &dyn std::error::Error, name = %shown(name), "cannot sweep a leftover");
    }
}

fn shown(name: &CStr) -> String {
    quote(&name.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::path::Path;

    fn folder(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn entries(path: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_staged_folder_vanishes_unless_it_is_published() {
        let outer = tempfile::tempdir().unwrap();
        let parent = folder(outer.path());
        let staged = StagedFolder::make(parent.as_fd()).unwrap();
        mkdirat(staged.folder(), "below", Mode::RWXU).unwrap();
        assert_eq!(
            entries(outer.path()),
            [format!(".new-{:032x}", staged.id())]
        );
        drop(staged);
        assert!(entries(outer.path()).is_empty());

        let mut staged = StagedFolder::make(parent.as_fd()).unwrap();
        staged.publish(parent.as_fd(), "web").unwrap();
        drop(staged);
        assert_eq!(entries(outer.path()), ["web"]);
    }

    #[test]
    fn a_folder_whose_name_is_taken_back_vanishes_too() {
        let outer = tempfile::tempdir().unwrap();
        let parent = folder(outer.path());
        let mut staged = StagedFolder::make(parent.as_fd()).unwrap();
        staged.publish(parent.as_fd(), "web").unwrap();
        staged.withdraw(parent.as_fd(), "web").unwrap();
        assert_eq!(entries(outer.path()), [staged.name()]);
        drop(staged);
        assert!(entries(outer.path()).is_empty());
    }

    #[test]
    fn a_name_in_use_stays_with_its_folder() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("web/kept")).unwrap();
        fs::create_dir(outer.path().join("empty")).unwrap();
        let parent = folder(outer.path());
        let mut staged = StagedFolder::make(parent.as_fd()).unwrap();
        for name in ["web", "empty"] {
            assert!(
                staged
                    .publish(parent.as_fd(), name)
                    .unwrap_err()
                    .is_name_taken()
            );
        }
        assert!(
            !staged
                .publish(parent.as_fd(), "no/where")
                .unwrap_err()
                .is_name_taken()
        );
        drop(staged);
        assert_eq!(entries(outer.path()), ["empty", "web"]);
        assert_eq!(entries(&outer.path().join("web")), ["kept"]);
    }

    #[test]
    fn what_was_renamed_by_others_stays_when_it_is_let_go() {
        let outer = tempfile::tempdir().unwrap();
        let parent = folder(outer.path());
        let mut staged = StagedFolder::make(parent.as_fd()).unwrap();
        fs::rename(
            outer.path().join(staged.name()),
            outer.path().join(".new-other"),
        )
        .unwrap();
        staged.let_go();
        assert_eq!(sweep(parent.as_fd()).unwrap(), 0, "it is still locked");
        drop(staged);
        assert_eq!(entries(outer.path()), [".new-other"]);
    }

    #[test]
    fn a_leaving_folder_frees_its_name_before_it_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("web/files")).unwrap();
        let parent = folder(outer.path());
        let leaving = LeavingFolder::begin(parent.as_fd(), "web").unwrap();
        assert!(entries(outer.path())[0].starts_with(".gone-"));
        assert_eq!(sweep(parent.as_fd()).unwrap(), 0, "its owner lives");
        leaving.remove().unwrap();
        assert!(entries(outer.path()).is_empty());
        assert!(matches!(
            LeavingFolder::begin(parent.as_fd(), "web"),
            Err(StagingError::Find { .. })
        ));
    }

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
        let outer = tempfile::tempdir().unwrap();
        for name in [
            ".new-1/tree/a",
            ".gone-2/tree/b",
            "web/tree",
            ".newer",
            ".other",
        ] {
            fs::create_dir_all(outer.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("web", outer.path().join(".new-link")).unwrap();
        let parent = folder(outer.path());
        let living = StagedFolder::make(parent.as_fd()).unwrap();
        let living_name = format!(".new-{:032x}", living.id());
        assert_eq!(sweep(parent.as_fd()).unwrap(), 2);
        let mut left = vec![
            living_name,
            ".new-link".into(),
            ".newer".into(),
            ".other".into(),
            "web".into(),
        ];
        left.sort();
        assert_eq!(entries(outer.path()), left);
        assert_eq!(entries(&outer.path().join("web")), ["tree"]);
    }

    #[test]
    fn what_its_owner_is_about_to_end_is_nobodys_leftover() {
        let outer = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let parent = folder(outer.path());
                for round in 0..20_000 {
                    let name = format!("{round}");
                    mkdirat(&parent, &*name, Mode::RWXU).unwrap();
                    let leaving = LeavingFolder::begin(parent.as_fd(), &name).unwrap();
                    leaving.remove().unwrap();
                }
                done.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            let parent = folder(outer.path());
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for name in staged_names(parent.as_fd()).unwrap() {
                    assert!(Leftover::claim(parent.as_fd(), &name).is_none());
                }
            }
        });
    }

    #[test]
    fn making_and_sweeping_at_once_never_loses_a_folder() {
        let outer = tempfile::tempdir().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let parent = folder(outer.path());
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    sweep(parent.as_fd()).unwrap();
                }
            });
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let path = outer.path();
                    scope.spawn(move || {
                        let parent = folder(path);
                        for round in 0..100 {
                            let mut staged = StagedFolder::make(parent.as_fd()).unwrap();
                            mkdirat(staged.folder(), "tree", Mode::RWXU).unwrap();
                            staged
                                .publish(parent.as_fd(), format!("{writer}-{round}"))
                                .unwrap();
                        }
                    })
                })
                .collect();
            writers
                .into_iter()
                .for_each(|writer| writer.join().unwrap());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let names = entries(outer.path());
        assert_eq!(names.len(), 300);
        assert!(
            names
                .iter()
                .all(|name| outer.path().join(name).join("tree").exists())
        );
    }
}
