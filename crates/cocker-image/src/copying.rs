//! Copies of trees, with everything that a file has.
//!
//! The source may have been written by an enemy, who may change it meanwhile: it is walked by descriptors only, nothing in it
//! is followed, no device or FIFO in it is opened. The copy is made in an empty folder, of which an enemy may know as well: every
//! file there is new, and known by its descriptor from then on. Contents are shared with the source where the file system can (ioctl_ficlone(2)), holes stay
//! holes, names of one file stay names of one file. Neither depth nor width nor the number of links costs memory.

mod copier;
mod links;

use crate::archive::attributes::{self, Attributes, CAPABILITY, File};
use crate::descent::{Descent, Entry, Identity, open_again, open_beneath, open_beneath_or_mounted};
use crate::owners::IdShift;
use crate::quote::quote;
use crate::trail::Trail;
use cocker_sys::fault;
use copier::{Contents, Copier};
use rustix::fs::{
    FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, fchmod, fchown, fstat, mkdirat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicBool;

/// Why a tree or a file could not be copied. Paths are seen from what is copied; a tree's top is `.` or has its name.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("cannot copy `{path}`")]
    Copy {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot copy `{path}`: it was changed while it was copied")]
    Changed { path: String },
    #[error("cannot copy `{path}`: it is a device node")]
    Device { path: String },
    #[error("cannot copy `{path}`: it belongs to id {id}, which the container does not have")]
    Owner { path: String, id: u32 },
    #[error("cannot copy `{path}` into itself")]
    Itself { path: String },
    #[error("cannot copy `{path}`: interrupted")]
    Interrupted { path: String },
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Entries of all types, but for the top.
    pub entries: u64,
    /// Bytes of contents, holes included.
    pub bytes: u64,
    /// Files whose contents are shared with the source.
    pub shared: u64,
}

/// What does not go along when files are copied for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    Socket,
    /// What another file system, mounted there, has in it; the folder itself is made.
    Mounted,
    /// With [`Nodes::LeftOut`].
    Device,
    /// Attributes that the target's file system cannot carry; told once.
    Attributes,
}

/// How files are copied for a user: sockets and mounts are left out, of extended attributes `user.` ones and access lists go
/// along.
#[derive(Clone, Copy, Debug)]
pub struct CopyRules<'a> {
    pub owners: IdShift,
    pub privileges: Privileges,
    pub nodes: Nodes,
    /// Once it is true the copy is broken off, at the next file or the next piece of a large one.
    pub interrupted: &'a AtomicBool,
}

/// Device nodes, which are never copied for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    Refused,
    LeftOut,
}

/// Set-id bits and file capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileges {
    Kept,
    /// What a container's root marked would otherwise have the rights of the host's.
    Dropped,
}

/// What is copied for a user.
#[derive(Debug)]
pub enum CopySource {
    /// An open folder.
    Folder(OwnedFd),
    /// Anything else, held without being opened (O_PATH).
    Other(OwnedFd),
}

impl CopySource {
    /// Tells what the held entry is; a folder is opened.
    pub fn of(held: OwnedFd) -> Result<CopySource, Errno> {
        match FileType::from_raw_mode(fstat(&held)?.st_mode) {
            FileType::Directory => open_again(held.as_fd()).map(CopySource::Folder),
            _ => Ok(CopySource::Other(held)),
        }
    }

    pub fn is_folder(&self) -> bool {
        matches!(self, CopySource::Folder(_))
    }
}

/// Copies all that is below the open folder `from`, and that folder's own attributes, to the open and empty folder `to`.
///
/// Sockets are copied as such; `trusted.overlay.*` attributes but the opaque mark are not. On failure the rest is not there;
/// the caller removes `to`.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<Copied, CopyError> {
    let failed = |failure: Failure| failure.at(b".");
    let source = open_again(from).and_then(|top| Descent::new(top, c".".into()));
    let source = source.map_err(|errno| failed(errno.into()))?;
    let copy = open_again(to).and_then(Trail::new);
    let copy = copy.map_err(|errno| failed(errno.into()))?;
    let mut copier = Copier::new(to, None, None);
    Copying::run(source, copy, &mut copier)
}

/// Copies `source`, which is called `called` in errors, to the new name `name` in the open folder `to`, by the rules for a
/// user's files. What is left out is told with its path.
///
/// What vanishes from a folder before it is reached is as if it had never been there. On failure what was made stays.
pub fn copy_files(
    source: &CopySource,
    called: &CStr,
    to: BorrowedFd<'_>,
    name: &CStr,
    rules: &CopyRules<'_>,
    told: &mut dyn FnMut(LeftOut, &str),
) -> Result<Copied, CopyError> {
    let failed = |failure: Failure| failure.at(called.to_bytes());
    let itself = Identity::of(to).map_err(|errno| failed(errno.into()))?;
    let mut copier = Copier::new(to, Some((rules, told)), Some(itself));
    match source {
        CopySource::Folder(folder) => {
            let source =
                open_again(folder.as_fd()).and_then(|top| Descent::new(top, called.into()));
            let source = source.map_err(|errno| failed(errno.into()))?;
            let make = || mkdirat(to, name, Mode::RWXU);
            let copy = fault::step("copy.top", make)
                .and_then(|()| {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                    open_beneath(to, name, flags)
                })
                .and_then(Trail::new);
            let copy = copy.map_err(|errno| failed(errno.into()))?;
            Copying::run(source, copy, &mut copier)
        }
        CopySource::Other(held) => {
            let path = || called.to_bytes().to_vec();
            copier.copy_held(held, to, name, &path).map_err(failed)?;
            copier.copied.entries = 1;
            Ok(copier.copied)
        }
    }
}

/// Why one entry could not be copied.
enum Failure {
    Kernel(Errno),
    /// The entry is not in its folder any more.
    Gone,
    Device,
    Owner(u32),
    Itself,
    Interrupted,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Kernel(errno)
    }
}

impl Failure {
    fn at(self, path: &[u8]) -> CopyError {
        let path = quote(&String::from_utf8_lossy(path));
        match self {
            Failure::Gone | Failure::Kernel(Errno::STALE) => CopyError::Changed { path },
            Failure::Interrupted | Failure::Kernel(Errno::CANCELED) => {
                CopyError::Interrupted { path }
            }
            Failure::Kernel(errno) => CopyError::Copy {
                path,
                source: errno.into(),
            },
            Failure::Device => CopyError::Device { path },
            Failure::Owner(id) => CopyError::Owner { path, id },
            Failure::Itself => CopyError::Itself { path },
        }
    }
}

/// A tree and its copy, walked side by side.
struct Copying<'a, 'b> {
    source: Descent,
    copy: Trail,
    copier: &'a mut Copier<'b>,
}

impl Copying<'_, '_> {
    fn run(source: Descent, copy: Trail, copier: &mut Copier<'_>) -> Result<Copied, CopyError> {
        let mut copying = Copying {
            source,
            copy,
            copier,
        };
        let done = copying.walk();
        done.map_err(|(leaf, failure)| failure.at(&copying.source.path(leaf.as_deref())))?;
        Ok(copying.copier.copied)
    }

    /// On failure with the entry that it happened to, if not to the current folder.
    fn walk(&mut self) -> Result<(), (Option<std::ffi::CString>, Failure)> {
        loop {
            let entry = self.source.next_entry();
            if let Some(entry) = entry.map_err(|errno| (None, errno.into()))? {
                let (name, depth) = (entry.name.clone(), self.source.depth());
                self.entry(entry).map_err(|failure| {
                    // Once it is entered, the folder is the current one.
                    let leaf = (self.source.depth() == depth).then_some(name);
                    (leaf, failure)
                })?;
                continue;
            }
            if self.leave().map_err(|failure| (None, failure))? {
                return Ok(());
            }
        }
    }

    /// Finishes the current folder; true when that was the top.
    fn leave(&mut self) -> Result<bool, Failure> {
        let (folder, copy) = (self.source.current(), self.copy.current());
        if self.copy.is_at_top() {
            self.copier.remove_links()?;
        }
        // Last of all, since what came into the folder has changed its times.
        let stat = fstat(folder)?;
        self.copier.dress_open(&stat, folder, copy)?;
        if self.source.leave()?.is_none() {
            return Ok(true);
        }
        self.copy.leave()?;
        Ok(false)
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Failure> {
        match self.copy_entry(entry) {
            // It is gone: as if it had never been there.
            Err(Failure::Gone) if self.copier.is_for_user() => Ok(()),
            other => other,
        }
    }

    fn copy_entry(&mut self, entry: Entry) -> Result<(), Failure> {
        let Entry {
            name, file_type, ..
        } = entry;
        if self.copier.is_interrupted() {
            return Err(Failure::Interrupted);
        }
        if file_type == FileType::Directory && self.enter(&name)? {
            return Ok(());
        }
        if file_type == FileType::RegularFile && self.copy_regular(&name)? {
            return Ok(());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let held = match open_beneath(self.source.current(), &name, flags) {
            Err(Errno::XDEV) if self.copier.is_for_user() => {
                open_beneath_or_mounted(self.source.current(), &name, flags)
            }
            held => held,
        };
        let held = held.map_err(of_source)?;
        if FileType::from_raw_mode(fstat(&held)?.st_mode) == FileType::Directory {
            return match self.enter(&name)? {
                true => Ok(()),
                false => Err(Errno::STALE.into()),
            };
        }
        let path = || self.source.path(Some(&name));
        self.copier
            .copy_held(&held, self.copy.current(), &name, &path)?;
        self.copier.copied.entries += 1;
        Ok(())
    }

    /// Copies what its folder calls a regular file, at the least cost: it is opened at once. False where it is none, or
    /// none of this file system.
    fn copy_regular(&mut self, name: &CStr) -> Result<bool, Failure> {
        // Should it have become a FIFO meanwhile, nobody waits for its other end; devices there are none where these
        // files are mounted.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let from = match open_beneath(self.source.current(), name, flags) {
            Ok(from) => from,
            Err(Errno::XDEV | Errno::LOOP | Errno::NXIO) => return Ok(false),
            Err(errno) => return Err(of_source(errno)),
        };
        let stat = fstat(&from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let path = || self.source.path(Some(name));
        let from = Contents::Open(&from);
        self.copier
            .copy_one(from, &stat, self.copy.current(), name, &path)?;
        self.copier.copied.entries += 1;
        Ok(true)
    }

    /// Goes into the folder `name` and makes its copy; false where it is no folder any more.
    fn enter(&mut self, name: &CStr) -> Result<bool, Failure> {
        match self.source.enter(name.into()) {
            Ok(()) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(Errno::NOENT) => return Err(Failure::Gone),
            Err(Errno::XDEV) if self.copier.is_for_user() => {
                let path = self.source.path(Some(name));
                self.copier.tell(LeftOut::Mounted, &path);
                let make = || mkdirat(self.copy.current(), name, Mode::from_raw_mode(0o755));
                fault::step("copy.folder", make)?;
                self.copier.copied.entries += 1;
                return Ok(true);
            }
            Err(errno) => return Err(errno.into()),
        }
        if self.copier.itself == Some(self.source.identity()) {
            return Err(Failure::Itself);
        }
        self.copy.enter_new(name)?;
        self.copier.copied.entries += 1;
        Ok(true)
    }
}

fn of_source(errno: Errno) -> Failure {
    match errno {
        Errno::NOENT => Failure::Gone,
        errno => errno.into(),
    }
}

/// Who is told what a user's copy leaves out.
pub(crate) type Told<'a> = &'a mut dyn FnMut(LeftOut, &str);

/// Gives the open folder or file `to` owner, mode and extended attributes of `from`, which is on the same side.
pub(crate) fn dress_like(
    attributes: &mut Attributes,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let stat = fstat(from)?;
    fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    let mut names = attributes.kept(File::Open(from))?;
    names.sort_by_key(|name| name.to_bytes() == CAPABILITY);
    for name in names {
        if let Some(value) = attributes.value(File::Open(from), &name)? {
            attributes::set(File::Open(to), &name, value)?;
        }
    }
    Ok(())
}

/// Opens the contents of a held regular file: what was looked at and nothing that has taken its name.
pub(crate) fn open_held(held: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(path_of(held), flags, Mode::empty())
}

/// The name by which the kernel knows the inode that a descriptor of this process holds.
pub(crate) fn path_of(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

pub(crate) fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: stat.st_atime,
            tv_nsec: stat.st_atime_nsec as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}

#[cfg(test)]
mod tests;
