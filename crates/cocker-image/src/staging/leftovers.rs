//! What dead writers and removers left: staged and leaving folders on which nobody holds the lock.

use super::{GONE, NEW, lock, open_folder, shown, unlock};
use crate::descent::is_named;
use crate::removal::{RemovalError, remove_tree};
use rustix::fs::{Dir, FlockOperation, fstat};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A folder `.new-<id>` or `.gone-<id>` whose owner is dead, locked by this value; it stays unless removed.
pub struct Leftover<'a> {
    parent: BorrowedFd<'a>,
    name: CString,
    folder: OwnedFd,
}

impl<'a> Leftover<'a> {
    /// `None` where the folder has a living owner, or has just got its name or gone.
    pub fn claim(parent: BorrowedFd<'a>, name: &CStr) -> Option<Leftover<'a>> {
        let folder = open_folder(parent, name).ok()?;
        lock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive).ok()?;
        // Made before the look at its name, so that a folder of somebody else's is unlocked in any case.
        let claimed = Leftover {
            parent,
            name: name.into(),
            folder,
        };
        // Its owner may have ended between opening and locking: having given it its name, or removed it.
        let is_there = is_named(parent, name, claimed.folder());
        is_there.is_ok_and(|is| is).then_some(claimed)
    }

    /// The open folder.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Whether it may have been made in this very moment, by somebody who has not locked it yet: it is empty and new.
    ///
    /// Whoever finds it gone makes another, so removing it does no harm; but it is nothing to tell the user.
    pub fn may_be_new(&self) -> bool {
        const MOMENT: Duration = Duration::from_secs(1);
        let is_staged = self.name.to_bytes().starts_with(NEW.as_bytes());
        let Ok(stat) = fstat(&self.folder) else {
            return false;
        };
        let made = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        is_staged && now.unwrap_or_default() < made + MOMENT * 2 && is_empty(self.folder.as_fd())
    }

    /// Removes it with all that is below it. The lock is held meanwhile, so that two do not share the work.
    ///
    /// Removal goes by name: should the folder have been published before the lock was had, nothing bears this name any
    /// more and nothing is removed.
    pub fn remove(self) -> Result<(), RemovalError> {
        tracing::debug!(name = %shown(&self.name), "sweeping what a dead process left");
        remove_tree(self.parent, OsStr::from_bytes(self.name.to_bytes()))
    }
}

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        unlock(self.folder.as_fd());
    }
}

fn is_empty(folder: BorrowedFd<'_>) -> bool {
    let entries = Dir::read_from(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_owned());
    names.all(|name| [c".", c".."].contains(&name.as_c_str()))
}

/// Whether an entry bears the name of something staged or leaving.
pub fn is_staged(name: &CStr) -> bool {
    [NEW, GONE]
        .iter()
        .any(|prefix| name.to_bytes().starts_with(prefix.as_bytes()))
}

/// Whether a folder is there and nobody holds the lock on it at this moment.
pub fn is_free(parent: BorrowedFd<'_>, name: &str) -> bool {
    let name = CString::new(name).ok();
    name.is_some_and(|name| Leftover::claim(parent, &name).is_some())
}

/// The names in `parent` of what is staged or leaving, whether its owner lives or not.
pub fn staged_names(parent: BorrowedFd<'_>) -> Result<Vec<CString>, io::Error> {
    let mut names = Vec::new();
    for entry in Dir::read_from(parent)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_staged(name) {
            names.push(name.into());
        }
    }
    Ok(names)
}

/// Removes what dead writers and removers left in `parent`; returns how many folders that were.
///
/// A leftover that cannot be removed stays, is told as a warning, and keeps nobody from working.
pub fn sweep(parent: BorrowedFd<'_>) -> Result<usize, io::Error> {
    let mut swept = 0;
    for name in staged_names(parent)? {
        let Some(leftover) = Leftover::claim(parent, &name) else {
            continue;
        };
        if let Err(error) = leftover.remove() {
            tracing::warn!(error = &error as &dyn std::error::Error, name = %shown(&name), "cannot sweep a leftover");
        }
        swept += 1;
    }
    Ok(swept)
}
