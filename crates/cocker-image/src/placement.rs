//! What is copied becomes visible when it is whole: it is made in a folder of its own beside the target, and moved from
//! there into place.
//!
//! ```text
//! target's folder/
//! ├── .cocker-<id>/      the stage; only its owner may enter, gone at the end
//! │   └── name           being copied
//! └── name               appears, or is replaced, by one rename
//! ```
//!
//! A folder that is there already is merged: each entry by one rename, folders below likewise. A folder never takes the
//! place of anything else, nor anything else that of a folder; whether it would is looked at before the first rename.
//! Others may change the target meanwhile, and they may be enemies: everything goes by descriptors and single names,
//! nothing is followed, and what is replaced is a name and never the contents of a file.

use crate::archive::attributes::{self, Attributes, File};
use crate::copying::{dress_like, times_of};
use crate::descent::{Descent, is_named, open_again, open_beneath};
use crate::quote::quote;
use crate::removal::remove_tree;
use crate::staging::random_name;
use crate::trail::Trail;
use cocker_sys::fault;
use rustix::fs::{
    Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Timestamps, fchmod, flock, fstat,
    futimens, mkdirat, openat, renameat, renameat_with,
};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const PREFIX: &str = ".cocker-";

/// A sweep may take a new stage away in the instant before it is locked; this often in a row it does not happen.
const ATTEMPTS: usize = 64;

/// Entries of a folder among which stages of dead processes are looked for.
const MOST_LOOKED_AT: usize = 10_000;

/// Why what was copied did not come into place. Paths are seen from the folder of the target.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot make a folder for what is being copied")]
    Stage {
        #[source]
        source: io::Error,
    },
    #[error("cannot replace folder `{path}` by something that is no folder")]
    IsFolder { path: String },
    #[error("cannot put a folder in the place of `{path}`, which is none")]
    NoFolder { path: String },
    #[error("cannot replace `{path}`: another file system is mounted there")]
    Mounted { path: String },
    #[error("cannot replace `{path}`: it was moved meanwhile")]
    Moved { path: String },
    #[error("cannot replace `{path}`")]
    Place {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// What becomes of the attributes of folders that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// They become those of the staged folders.
    Dressed,
    Kept,
}

/// A folder in which files are made before they have their place; whatever is still in it goes with it.
#[derive(Debug)]
pub struct Stage {
    parent: OwnedFd,
    name: String,
    folder: OwnedFd,
}

impl Stage {
    /// Makes the stage in the folder of the target, which may be open for nothing but paths (O_PATH).
    pub fn make(target: BorrowedFd<'_>) -> Result<Stage, PlaceError> {
        let failed = |errno: Errno| PlaceError::Stage {
            source: errno.into(),
        };
        let parent = rustix::io::fcntl_dupfd_cloexec(target, 0).map_err(failed)?;
        sweep(parent.as_fd());
        for _ in 0..ATTEMPTS {
            let name = random_name(PREFIX).map_err(failed)?;
            if let Some(stage) = Stage::make_named(&parent, name)? {
                return Ok(stage);
            }
        }
        Err(failed(Errno::AGAIN))
    }

    /// `None` where a sweep has taken it away before it was locked.
    fn make_named(parent: &OwnedFd, name: String) -> Result<Option<Stage>, PlaceError> {
        let failed = |errno: Errno| PlaceError::Stage {
            source: errno.into(),
        };
        let parent = parent
            .try_clone()
            .map_err(|source| PlaceError::Stage { source })?;
        fault::step("place.stage", || mkdirat(&parent, &name, Mode::RWXU)).map_err(failed)?;
        match open_stage(parent.as_fd(), &name) {
            Ok(folder) => Ok(Some(Stage {
                parent,
                name,
                folder,
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => {
                let _ = remove_tree(parent.as_fd(), &name);
                Err(failed(errno))
            }
        }
    }

    /// Where files are made.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Makes a file that only its owner may read, open for writing.
    pub fn make_file(&self, name: &CStr) -> Result<OwnedFd, PlaceError> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let make = || openat(self.folder(), name, flags, mode);
        fault::step("place.file", make).map_err(|errno| PlaceError::Stage {
            source: errno.into(),
        })
    }

    /// Gives the staged entry `staged` the name `name` in the target's folder.
    pub fn place(&self, staged: &CStr, name: &CStr, merged: Merged) -> Result<(), PlaceError> {
        let (from, to) = (self.folder(), self.parent.as_fd());
        let failed = |failure: Failure| failure.at(name.to_bytes());
        if look_at_one(from, staged, to, name).map_err(failed)? == Standing::BothFolders {
            let target = open_folder(to, name).map_err(|errno| failed(errno.into()))?;
            return self.place_contents(staged, target.as_fd(), merged, name);
        }
        match move_one(from, staged, to, name).map_err(failed)? {
            Standing::Free => Ok(()),
            // It has become a folder since we looked.
            Standing::BothFolders => Err(failed(Errno::EXIST.into())),
        }
    }

    /// Merges the staged folder `staged` into the open folder `target`, which is called `called` in errors.
    pub fn place_contents(
        &self,
        staged: &CStr,
        target: BorrowedFd<'_>,
        merged: Merged,
        called: &CStr,
    ) -> Result<(), PlaceError> {
        for pass in [Pass::Look, Pass::Move] {
            let failed = |errno: Errno| Failure::from(errno).at(called.to_bytes());
            let source = open_folder(self.folder(), staged)
                .and_then(|folder| Descent::sorted(folder, called.into()))
                .map_err(failed)?;
            let target = crate::descent::open_again(target)
                .and_then(Trail::new)
                .map_err(failed)?;
            let times = times_of(&fstat(source.current()).map_err(failed)?);
            let mut merging = Merging {
                pass,
                merged,
                source,
                target,
                attributes: Attributes::new(),
                times: vec![times],
            };
            merging.run()?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(self.parent.as_fd(), &self.name) {
            tracing::warn!("cannot remove `{}`: {error}", self.name);
        }
    }
}

/// Removes stages whose makers were killed: whoever works on one holds a lock on it. What cannot be removed stays; it is in
/// nobody's way.
fn sweep(parent: BorrowedFd<'_>) {
    let entries = open_again(parent).and_then(Dir::new).into_iter().flatten();
    // A folder may have been filled by anybody, without an end.
    for entry in entries.flatten().take(MOST_LOOKED_AT) {
        let name = entry.file_name();
        if !is_stage(name.to_bytes()) {
            continue;
        }
        let free = open_folder(parent, name).and_then(|folder| {
            flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
            Ok(folder)
        });
        if let Ok(_held) = free
            && let Err(error) = remove_tree(parent, OsStr::from_bytes(name.to_bytes()))
        {
            tracing::debug!("what a dead process left stays: {error}");
        }
    }
}

fn is_stage(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes()).is_some_and(|digits| {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        digits.len() == 32 && digits.iter().all(is_digit)
    })
}

fn open_stage(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
    let folder = open_folder(parent, &name)?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => Errno::NOENT,
        errno => errno,
    })?;
    if !is_named(parent, &name, folder.as_fd())? {
        return Err(Errno::NOENT);
    }
    // Nothing shall be inherited from the target's folder: neither its group nor its access lists.
    fchmod(&folder, Mode::RWXU)?;
    attributes::remove_acls(File::Open(folder.as_fd()))?;
    Ok(folder)
}

fn open_folder(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_beneath(parent, name, flags)
}

/// Gives the open file or folder `to` owner, mode, extended attributes and times of the open `from`, which shows ids by the
/// same mount or one like it.
pub fn dress_as(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    dress_like(&mut Attributes::new(), from, to)?;
    futimens(to, &times_of(&fstat(from)?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Nothing is changed.
    Look,
    Move,
}

/// What stands in the place of an entry.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing any more, or something that may be replaced.
    Free,
    BothFolders,
}

/// Why one entry could not get its place.
enum Failure {
    IsFolder,
    NoFolder,
    Kernel(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Kernel(errno)
    }
}

impl Failure {
    fn at(self, path: &[u8]) -> PlaceError {
        let path = quote(&String::from_utf8_lossy(path));
        match self {
            Failure::IsFolder => PlaceError::IsFolder { path },
            Failure::NoFolder => PlaceError::NoFolder { path },
            Failure::Kernel(Errno::BUSY | Errno::XDEV) => PlaceError::Mounted { path },
            Failure::Kernel(Errno::STALE) => PlaceError::Moved { path },
            Failure::Kernel(errno) => PlaceError::Place {
                path,
                source: errno.into(),
            },
        }
    }
}

/// Two trees walked side by side.
struct Merging {
    pass: Pass,
    merged: Merged,
    source: Descent,
    target: Trail,
    attributes: Attributes,
    /// Those of the staged folders on the way, before anything was moved out of them.
    times: Vec<Timestamps>,
}

impl Merging {
    fn run(&mut self) -> Result<(), PlaceError> {
        loop {
            let entry = self.source.next_entry();
            if let Some(entry) = entry.map_err(|errno| self.failed(None, errno))? {
                let merged = self.merge_one(&entry.name);
                merged.map_err(|failure| failure.at(&self.source.path(Some(&entry.name))))?;
                continue;
            }
            let left = self.leave();
            if left.map_err(|errno| self.failed(None, errno))? {
                return Ok(());
            }
        }
    }

    fn merge_one(&mut self, name: &CStr) -> Result<(), Failure> {
        let (from, to) = (self.source.current(), self.target.current());
        let standing = match self.pass {
            Pass::Look => look_at_one(from, name, to, name)?,
            Pass::Move => move_one(from, name, to, name)?,
        };
        if standing == Standing::BothFolders {
            self.target.enter(name)?;
            self.source.enter(name.into())?;
            self.times.push(times_of(&fstat(self.source.current())?));
        }
        Ok(())
    }

    /// True when the top was left.
    fn leave(&mut self) -> Result<bool, Errno> {
        if self.pass == Pass::Move && self.merged == Merged::Dressed {
            let (from, to) = (self.source.current(), self.target.current());
            dress_like(&mut self.attributes, from, to)?;
            let times = self
                .times
                .last()
                .expect("every folder on the way has times");
            futimens(to, times)?;
        }
        self.times.pop();
        if self.source.leave()?.is_none() {
            return Ok(true);
        }
        self.target.leave()?;
        Ok(false)
    }

    fn failed(&self, leaf: Option<&CStr>, errno: Errno) -> PlaceError {
        Failure::from(errno).at(&self.source.path(leaf))
    }
}

/// Says whether the entry could be moved.
fn look_at_one(
    from: BorrowedFd<'_>,
    staged: &CStr,
    to: BorrowedFd<'_>,
    name: &CStr,
) -> Result<Standing, Failure> {
    // XDEV: something is mounted there. In a container's namespace no rename would stop before it: the kernel would take
    // the mount away.
    let is_folder = |folder, name: &CStr| {
        let held = open_beneath(folder, name, OFlags::PATH | OFlags::NOFOLLOW)?;
        fstat(&held).map(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    };
    match (is_folder(from, staged)?, is_folder(to, name)) {
        (_, Err(Errno::NOENT)) | (false, Ok(false)) => Ok(Standing::Free),
        (true, Ok(true)) => Ok(Standing::BothFolders),
        (true, Ok(false)) => Err(Failure::NoFolder),
        (false, Ok(true)) => Err(Failure::IsFolder),
        (_, Err(errno)) => Err(errno.into()),
    }
}

/// Moves the entry, unless both are folders.
fn move_one(
    from: BorrowedFd<'_>,
    staged: &CStr,
    to: BorrowedFd<'_>,
    name: &CStr,
) -> Result<Standing, Failure> {
    let rename = || renameat_with(from, staged, to, name, RenameFlags::NOREPLACE);
    match fault::step("place.rename", rename) {
        Ok(()) => return Ok(Standing::Free),
        // INVAL: the file system cannot refuse to replace; what follows needs no help from it.
        Err(Errno::EXIST | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    let standing = look_at_one(from, staged, to, name)?;
    if standing == Standing::Free {
        fault::step("place.replace", || renameat(from, staged, to, name))?;
    }
    Ok(standing)
}
