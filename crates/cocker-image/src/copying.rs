//! Copies of trees, with everything that a file has.
//!
//! The source may have been written by an enemy: it is walked by descriptors only, nothing in it is followed, no device or
//! FIFO in it is opened. The copy is made in an empty folder that nobody else can reach, in which only whiteouts and what else
//! the source has come to be. Contents are shared with the source where the file system can (ioctl_ficlone(2)), holes stay
//! holes, names of one file stay names of one file. Neither depth nor width nor the number of links costs memory.

use crate::archive::attributes::{self, Attributes, CAPABILITY, File};
use crate::descent::{Descent, Entry, open_again, open_beneath};
use crate::quote::quote;
use crate::removal::remove_tree;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chmodat,
    chownat, copy_file_range, fchmod, fchown, fstat, ftruncate, futimens, ioctl_ficlone, linkat,
    mkdirat, mknodat, openat, readlinkat, seek, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many folders of the copy are open at once.
const OPEN_LEVELS: usize = 32;
/// Bytes that are copied in one piece where the kernel cannot do it alone.
const PIECE: usize = 256 * 1024;

/// Why a tree could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("cannot copy `{path}`")]
pub struct CopyError {
    /// Seen from the top of the tree, which is `.`.
    path: String,
    #[source]
    source: io::Error,
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

/// Copies all that is below the open folder `from`, and that folder's own attributes, to the open and empty folder `to`.
///
/// Sockets are copied as such; `trusted.overlay.*` attributes but the opaque mark are not. On failure the rest is not there;
/// the caller removes `to`.
pub fn copy_tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<Copied, CopyError> {
    let top = open_again(from).and_then(|top| Descent::new(top, c".".into()));
    let prepared = top.and_then(|source| Ok((source, Links::make(to)?, open_again(to)?)));
    let (source, links, copy) = prepared.map_err(|errno| failed(b".", errno))?;
    let mut copying = Copying {
        source,
        copy: Trail::new(copy),
        links,
        attributes: Attributes::new(),
        shares: true,
        piece: vec![0; PIECE],
        copied: Copied::default(),
    };
    let done = copying.run();
    done.map_err(|errno| failed(&copying.source.path(None), errno))?;
    Ok(copying.copied)
}

struct Copying {
    source: Descent,
    copy: Trail,
    links: Links,
    attributes: Attributes,
    /// False once the file system has said that it shares no contents.
    shares: bool,
    piece: Vec<u8>,
    copied: Copied,
}

impl Copying {
    fn run(&mut self) -> Result<(), Errno> {
        loop {
            if let Some(entry) = self.source.next_entry()? {
                self.copied.entries += 1;
                self.copy_entry(entry)?;
                continue;
            }
            // Last of all, since what came into the folder has changed its times.
            let (folder, copy) = (self.source.current(), self.copy.current());
            if self.copy.is_at_top() {
                self.links.remove(copy)?;
            }
            copy_open_file(&mut self.attributes, folder, copy, true)?;
            if self.source.leave()?.is_none() {
                return Ok(());
            }
            self.copy.leave()?;
        }
    }

    fn copy_entry(&mut self, entry: Entry) -> Result<(), Errno> {
        let name = entry.name;
        let held = open_beneath(
            self.source.current(),
            &name,
            OFlags::PATH | OFlags::NOFOLLOW,
        )?;
        let stat = fstat(&held)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            self.copy.enter(&name)?;
            return self.source.enter(name);
        }
        if stat.st_nlink > 1 && self.links.link(&stat, self.copy.current(), &name)? {
            return Ok(());
        }
        match file_type {
            FileType::RegularFile => self.copy_file(&name, &stat)?,
            FileType::Symlink => {
                let target = readlinkat(&held, c"", Vec::new())?;
                symlinkat(target, self.copy.current(), &name)?;
                self.finish_named(&stat, &name)?;
            }
            other => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                mknodat(self.copy.current(), &name, other, mode, stat.st_rdev)?;
                self.finish_named(&stat, &name)?;
            }
        }
        if stat.st_nlink > 1 {
            self.links.remember(&stat, self.copy.current(), &name)?;
        }
        Ok(())
    }

    fn copy_file(&mut self, name: &CStr, stat: &Stat) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let from = open_beneath(self.source.current(), name, flags)?;
        if (fstat(&from)?.st_dev, fstat(&from)?.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(Errno::STALE);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        let to = openat(self.copy.current(), name, flags | OFlags::CLOEXEC, mode)?;
        let size = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
        self.copy_contents(&from, &to, size)?;
        self.copied.bytes += size;
        copy_open_file(&mut self.attributes, from.as_fd(), to.as_fd(), false)
    }

    fn copy_contents(&mut self, from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
        if size == 0 {
            return Ok(());
        }
        if self.shares {
            match ioctl_ficlone(to, from) {
                Ok(()) => {
                    self.copied.shared += 1;
                    return Ok(());
                }
                Err(_) => self.shares = false,
            }
        }
        // Holes at the end are nowhere else.
        ftruncate(to, size)?;
        let mut position = 0;
        while position < size {
            let start = match seek(from, SeekFrom::Data(position)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                Err(errno) => return Err(errno),
            };
            let end = seek(from, SeekFrom::Hole(start))?.min(size);
            self.copy_range(from, to, start, end)?;
            position = end;
        }
        Ok(())
    }

    fn copy_range(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        start: u64,
        end: u64,
    ) -> Result<(), Errno> {
        let (mut read_at, mut write_at) = (start, start);
        while read_at < end {
            let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
            let copied = copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length);
            match copied {
                // It has become shorter meanwhile.
                Ok(0) => return Err(Errno::STALE),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    return self.copy_by_hand(from, to, read_at, end);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn copy_by_hand(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        mut position: u64,
        end: u64,
    ) -> Result<(), Errno> {
        while position < end {
            let left = usize::try_from(end - position).unwrap_or(usize::MAX);
            let piece = &mut self.piece[..left.min(PIECE)];
            let length = rustix::io::pread(from, &mut *piece, position)?;
            if length == 0 {
                return Err(Errno::STALE);
            }
            let mut written = 0;
            while written < length {
                let at = position + written as u64;
                written += rustix::io::pwrite(to, &piece[written..length], at)?;
            }
            position += length as u64;
        }
        Ok(())
    }

    /// What a link, a FIFO or a device has besides its contents; it is never opened.
    fn finish_named(&mut self, stat: &Stat, name: &CStr) -> Result<(), Errno> {
        let (from, to) = (self.source.current(), self.copy.current());
        let (owner, group) = owner_of(stat);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        chownat(to, name, Some(owner), Some(group), flags)?;
        if !FileType::from_raw_mode(stat.st_mode).is_symlink() {
            // The umask had a say when it was made. What has the name is what we made, and no link.
            let mode = Mode::from_raw_mode(stat.st_mode);
            chmodat(to, name, mode, AtFlags::empty())?;
        }
        let (source, copy) = (File::Named(from, name), File::Named(to, name));
        copy_attributes(&mut self.attributes, source, copy)?;
        utimensat(to, name, &times_of(stat), flags)
    }
}

fn owner_of(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

/// Owner, mode, extended attributes and times, in the order in which none undoes another.
fn copy_open_file(
    attributes: &mut Attributes,
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    is_folder: bool,
) -> Result<(), Errno> {
    let stat = fstat(from)?;
    let (owner, group) = owner_of(&stat);
    fchown(to, Some(owner), Some(group))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_attributes(attributes, File::Open(from), File::Open(to))?;
    if is_folder && attributes::is_opaque(from)? {
        attributes::make_opaque(to)?;
    }
    futimens(to, &times_of(&stat))
}

fn copy_attributes(attributes: &mut Attributes, from: File<'_>, to: File<'_>) -> Result<(), Errno> {
    let mut names = attributes.kept(from)?;
    // A change of owner or of access lists takes capabilities away, so they come last.
    names.sort_by_key(|name| name.to_bytes() == CAPABILITY);
    for name in names {
        if let Some(value) = attributes.value(from, &name)? {
            attributes::set(to, &name, value)?;
        }
    }
    Ok(())
}

fn times_of(stat: &Stat) -> Timestamps {
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

/// The way from the top of the copy to the folder that is being filled.
struct Trail {
    /// The deepest ones; never empty.
    open: VecDeque<OwnedFd>,
    /// How many folders there are on the way.
    depth: usize,
}

impl Trail {
    fn new(top: OwnedFd) -> Trail {
        Trail {
            open: VecDeque::from([top]),
            depth: 1,
        }
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.open
            .back()
            .expect("the deepest folder is always open")
            .as_fd()
    }

    fn is_at_top(&self) -> bool {
        self.depth == 1
    }

    /// Makes a folder and goes into it.
    fn enter(&mut self, name: &CStr) -> Result<(), Errno> {
        mkdirat(self.current(), name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = open_beneath(self.current(), name, flags)?;
        self.open.push_back(folder);
        self.depth += 1;
        if self.open.len() > OPEN_LEVELS {
            self.open.pop_front();
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Errno> {
        if self.open.len() == 1 {
            // Nobody else can reach the copy, so what is above the folder is where it was made.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = openat(self.current(), c"..", flags, Mode::empty())?;
            self.open.push_front(above);
        }
        self.open.pop_back();
        self.depth -= 1;
        Ok(())
    }
}

/// A folder of the copy that has one name of each file with several names, by inode, until the copy is whole.
struct Links {
    folder: OwnedFd,
    name: String,
}

impl Links {
    fn make(top: BorrowedFd<'_>) -> Result<Links, Errno> {
        let name = crate::staging::leaving_name().map_err(|_| Errno::IO)?;
        mkdirat(top, &name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(top, &name, flags, Mode::empty())?;
        Ok(Links { folder, name })
    }

    /// Gives the file one more name, where it was copied before.
    fn link(&self, stat: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
        match linkat(&self.folder, inode(stat), parent, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn remember(&self, stat: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        linkat(parent, name, &self.folder, inode(stat), AtFlags::empty())
    }

    fn remove(&self, top: BorrowedFd<'_>) -> Result<(), Errno> {
        remove_tree(top, &self.name).map_err(|_| Errno::IO)
    }
}

fn inode(stat: &Stat) -> String {
    format!("{:x}", stat.st_ino)
}

fn failed(path: &[u8], errno: Errno) -> CopyError {
    CopyError {
        path: quote(&String::from_utf8_lossy(path)),
        source: errno.into(),
    }
}

#[cfg(test)]
mod tests;
