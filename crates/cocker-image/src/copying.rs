//! Copies of trees, with everything that a file has.
//!
//! The source may have been written by an enemy, who may change it meanwhile: it is walked by descriptors only, nothing in it
//! is followed, no device or FIFO in it is opened. The copy is made in an empty folder, of which an enemy may know as well: every
//! file there is new, and known by its descriptor from then on. Contents are shared with the source where the file system can (ioctl_ficlone(2)), holes stay
//! holes, names of one file stay names of one file. Neither depth nor width nor the number of links costs memory.

use crate::archive::attributes::{self, Attributes, CAPABILITY, File};
use crate::descent::{Descent, Entry, Identity, open_again, open_beneath, open_beneath_or_mounted};
use crate::owners::IdShift;
use crate::quote::quote;
use crate::removal::remove_tree;
use crate::trail::Trail;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, chmod,
    chownat, copy_file_range, fchmod, fchown, fstat, ftruncate, futimens, ioctl_ficlone, linkat,
    mkdirat, mknodat, openat, readlinkat, seek, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that are copied in one piece where the kernel cannot do it alone.
const PIECE: usize = 256 * 1024;
/// Bytes that the kernel copies between two looks at whether it shall go on.
const MOST_AT_ONCE: usize = 64 << 20;

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
            let copy = mkdirat(to, name, Mode::RWXU)
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
                mkdirat(self.copy.current(), name, Mode::from_raw_mode(0o755))?;
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

/// A file that is no folder.
#[derive(Clone, Copy)]
enum Contents<'a> {
    Open(&'a OwnedFd),
    /// Not opened (O_PATH).
    Held(&'a OwnedFd),
}

/// Who is told what a user's copy leaves out.
pub(crate) type Told<'a> = &'a mut dyn FnMut(LeftOut, &str);

/// Copies one file after the other.
struct Copier<'a> {
    /// `None`: as in a layer, where everything belongs to the copy.
    rules: Option<(&'a CopyRules<'a>, Told<'a>)>,
    /// Where the copy is made.
    itself: Option<Identity>,
    links: Links<'a>,
    attributes: Attributes,
    /// False once the file system has said that it shares no contents.
    shares: bool,
    /// False once the kernel has said that it does not copy between these file systems.
    is_kernels: bool,
    lost_attributes: bool,
    piece: Vec<u8>,
    copied: Copied,
}

impl<'a> Copier<'a> {
    fn new(
        to: BorrowedFd<'a>,
        rules: Option<(&'a CopyRules<'a>, Told<'a>)>,
        itself: Option<Identity>,
    ) -> Copier<'a> {
        Copier {
            rules,
            itself,
            links: Links::in_folder(to),
            attributes: Attributes::new(),
            shares: true,
            is_kernels: true,
            lost_attributes: false,
            piece: Vec::new(),
            copied: Copied::default(),
        }
    }

    fn is_for_user(&self) -> bool {
        self.rules.is_some()
    }

    fn is_interrupted(&self) -> bool {
        let rules = self.rules.as_ref();
        rules.is_some_and(|(rules, _)| rules.interrupted.load(Ordering::Relaxed))
    }

    fn owners(&self) -> IdShift {
        self.rules
            .as_ref()
            .map_or(IdShift::SAME, |(rules, _)| rules.owners)
    }

    /// `None`: device nodes are copied.
    fn nodes(&self) -> Option<Nodes> {
        self.rules.as_ref().map(|(rules, _)| rules.nodes)
    }

    fn drops_privileges(&self) -> bool {
        let rules = self.rules.as_ref();
        rules.is_some_and(|(rules, _)| rules.privileges == Privileges::Dropped)
    }

    fn tell(&mut self, what: LeftOut, path: &[u8]) {
        if let Some((_, told)) = &mut self.rules {
            told(what, &quote(&String::from_utf8_lossy(path)));
        }
    }

    fn remove_links(&mut self) -> Result<(), Errno> {
        self.links.remove()
    }

    /// Copies what is held and is no folder to the new name `name` in `to`.
    fn copy_held(
        &mut self,
        held: &OwnedFd,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), Failure> {
        let stat = fstat(held)?;
        self.copy_one(Contents::Held(held), &stat, to, name, path)
    }

    fn copy_one(
        &mut self,
        from: Contents<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), Failure> {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        match file_type {
            FileType::Socket if self.is_for_user() => {
                self.tell(LeftOut::Socket, &path());
                return Ok(());
            }
            FileType::CharacterDevice | FileType::BlockDevice => match self.nodes() {
                Some(Nodes::Refused) => return Err(Failure::Device),
                Some(Nodes::LeftOut) => {
                    self.tell(LeftOut::Device, &path());
                    return Ok(());
                }
                None => {}
            },
            _ => {}
        }
        if stat.st_nlink > 1 && self.links.link(stat, to, name)? {
            return Ok(());
        }
        match (file_type, from) {
            (FileType::RegularFile, Contents::Open(from)) => {
                self.copy_file(from, stat, to, name)?;
            }
            (FileType::RegularFile, Contents::Held(held)) => {
                self.copy_file(&open_held(held)?, stat, to, name)?;
            }
            (FileType::Symlink, Contents::Open(held) | Contents::Held(held)) => {
                let target = readlinkat(held, c"", Vec::new())?;
                symlinkat(target, to, name)?;
                self.finish_named(stat, held, to, name)?;
            }
            (other, Contents::Open(held) | Contents::Held(held)) => {
                let mode = Mode::RUSR | Mode::WUSR;
                mknodat(to, name, other, mode, stat.st_rdev)?;
                self.finish_named(stat, held, to, name)?;
            }
        }
        if self.lost_attributes {
            // Said once; what comes later will fare no better.
            self.lost_attributes = false;
            self.tell(LeftOut::Attributes, &path());
        }
        if stat.st_nlink > 1 {
            self.links.remember(stat, to, name)?;
        }
        Ok(())
    }

    fn copy_file(
        &mut self,
        from: &OwnedFd,
        stat: &Stat,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // Nobody but its owner enters the folder until it is whole.
        let mode = self.mode_of(stat) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
        let to = openat(to, name, flags | OFlags::CLOEXEC, mode)?;
        self.copy_contents(from, &to, stat)?;
        self.dress_open(stat, from.as_fd(), to.as_fd())
    }

    /// As many bytes as there were; what is appended meanwhile is not ours to wait for.
    fn copy_contents(&mut self, from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
        let size = u64::try_from(stat.st_size).map_err(|_| Errno::INVAL)?;
        self.copied.bytes += size;
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
        // Only a file with fewer blocks than it has bytes can have holes.
        if (stat.st_blocks as u64).saturating_mul(512) >= size {
            return self.copy_range(from, to, 0, size);
        }
        // Holes at the end are nowhere else.
        ftruncate(to, size)?;
        let mut position = 0;
        while position < size {
            let start = match seek(from, SeekFrom::Data(position)) {
                Ok(start) if start < size => start,
                Ok(_) | Err(Errno::NXIO) => break,
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
        while self.is_kernels && read_at < end {
            if self.is_interrupted() {
                return Err(Errno::CANCELED);
            }
            let length = usize::try_from(end - read_at).unwrap_or(usize::MAX);
            let length = length.min(MOST_AT_ONCE);
            let copied = copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length);
            match copied {
                // It has become shorter meanwhile.
                Ok(0) => return Err(Errno::STALE),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.is_kernels = false;
                }
                Err(errno) => return Err(errno),
            }
        }
        self.copy_by_hand(from, to, read_at, end)
    }

    fn copy_by_hand(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        mut position: u64,
        end: u64,
    ) -> Result<(), Errno> {
        if position < end {
            self.piece.resize(PIECE, 0);
        }
        while position < end {
            if self.is_interrupted() {
                return Err(Errno::CANCELED);
            }
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
    fn finish_named(
        &mut self,
        stat: &Stat,
        from: &OwnedFd,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Failure> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let made = open_beneath(to, name, flags)?;
        let now = fstat(&made)?;
        // Others may reach the folder: what has the name must be what was just made.
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        if kind(&now) != kind(stat) || now.st_nlink != 1 {
            return Err(Errno::STALE.into());
        }
        let (owner, group) = self.owner_of(stat)?;
        chownat(&made, c"", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
        if kind(stat) != FileType::Symlink {
            chmod(path_of(&made), self.mode_of(stat))?;
        }
        self.copy_attributes(File::Held(from.as_fd()), File::Held(made.as_fd()))?;
        Ok(utimensat(&made, c"", &times_of(stat), AtFlags::EMPTY_PATH)?)
    }

    /// Owner, mode, extended attributes and times, in the order in which none undoes another.
    fn dress_open(
        &mut self,
        stat: &Stat,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
    ) -> Result<(), Failure> {
        let (owner, group) = self.owner_of(stat)?;
        let mode = self.mode_of(stat);
        // Most files are as they shall be, and asking costs less than saying.
        let now = fstat(to)?;
        let is_owned = (now.st_uid, now.st_gid) == (owner.as_raw(), group.as_raw());
        if !is_owned {
            fchown(to, Some(owner), Some(group))?;
        }
        if !is_owned || Mode::from_raw_mode(now.st_mode) != mode {
            fchmod(to, mode)?;
        }
        self.copy_attributes(File::Open(from), File::Open(to))?;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder && !self.is_for_user() && attributes::is_opaque(from)? {
            attributes::make_opaque(to)?;
        }
        Ok(futimens(to, &times_of(stat))?)
    }

    fn owner_of(&self, stat: &Stat) -> Result<(Uid, Gid), Failure> {
        let owners = self.owners();
        let shift = |id| owners.shift(id).ok_or(Failure::Owner(id));
        Ok((
            Uid::from_raw(shift(stat.st_uid)?),
            Gid::from_raw(shift(stat.st_gid)?),
        ))
    }

    fn mode_of(&self, stat: &Stat) -> Mode {
        let mode = Mode::from_raw_mode(stat.st_mode);
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        match self.drops_privileges() && !is_folder {
            true => mode.difference(Mode::SUID | Mode::SGID),
            false => mode,
        }
    }

    fn copy_attributes(&mut self, from: File<'_>, to: File<'_>) -> Result<(), Failure> {
        let mut names = self.attributes.kept(from)?;
        if self.is_for_user() {
            let drops_privileges = self.drops_privileges();
            names.retain(|name| match name.to_bytes() {
                CAPABILITY => !drops_privileges,
                name => attributes::is_users(name),
            });
        }
        // A change of owner or of access lists takes capabilities away, so they come last.
        names.sort_by_key(|name| name.to_bytes() == CAPABILITY);
        let owners = self.owners();
        for name in names {
            let Some(value) = self.attributes.value(from, &name)? else {
                continue;
            };
            let value = attributes::shift_value(name.to_bytes(), value, &owners);
            let Some(value) = value.map_err(Failure::Owner)? else {
                continue;
            };
            match attributes::set(to, &name, &value) {
                Err(Errno::OPNOTSUPP) if self.rules.is_some() => self.lost_attributes = true,
                other => other?,
            }
        }
        Ok(())
    }
}

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

/// A folder that has one name of each file with several names, by inode, until the copy is whole; made when it is needed.
struct Links<'a> {
    parent: BorrowedFd<'a>,
    made: Option<(String, OwnedFd)>,
}

impl Links<'_> {
    fn in_folder(parent: BorrowedFd<'_>) -> Links<'_> {
        Links { parent, made: None }
    }

    /// Gives the file one more name, where it was copied before.
    fn link(&self, stat: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
        let Some((_, folder)) = &self.made else {
            return Ok(false);
        };
        match linkat(folder, inode(stat), parent, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn remember(&mut self, stat: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        if self.made.is_none() {
            self.made = Some(self.make()?);
        }
        let folder = self.made.as_ref().map(|(_, folder)| folder);
        let folder = folder.expect("it was just made");
        linkat(parent, name, folder, inode(stat), AtFlags::empty())
    }

    fn make(&self) -> Result<(String, OwnedFd), Errno> {
        let name = crate::staging::leaving_name().map_err(|_| Errno::IO)?;
        mkdirat(self.parent, &name, Mode::RWXU)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(self.parent, &name, flags, Mode::empty())?;
        Ok((name, folder))
    }

    fn remove(&mut self) -> Result<(), Errno> {
        match self.made.take() {
            Some((name, _)) => remove_tree(self.parent, &name).map_err(|_| Errno::IO),
            None => Ok(()),
        }
    }
}

fn inode(stat: &Stat) -> String {
    format!("{:x}-{:x}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests;
