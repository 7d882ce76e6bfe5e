//! Copies one file: contents, owner, mode, attributes and times. What is made is new and known by its descriptor.

use super::links::Links;
use super::{
    Copied, CopyRules, Failure, LeftOut, Nodes, Privileges, Told, open_held, path_of, times_of,
};
use crate::archive::attributes::{self, Attributes, CAPABILITY, File};
use crate::descent::{Identity, open_beneath};
use crate::owners::IdShift;
use crate::quote::quote;
use cocker_sys::fault;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Uid, chmod, chownat, copy_file_range,
    fchmod, fchown, fstat, ftruncate, futimens, ioctl_ficlone, mknodat, openat, readlinkat, seek,
    symlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

/// Bytes that are copied in one piece where the kernel cannot do it alone.
const PIECE: usize = 256 * 1024;
/// Bytes that the kernel copies between two looks at whether it shall go on.
const MOST_AT_ONCE: usize = 64 << 20;

/// Copies one file after the other.
pub(super) struct Copier<'a> {
    /// `None`: as in a layer, where everything belongs to the copy.
    rules: Option<(&'a CopyRules<'a>, Told<'a>)>,
    /// Where the copy is made.
    pub itself: Option<Identity>,
    links: Links<'a>,
    attributes: Attributes,
    /// False once the file system has said that it shares no contents.
    shares: bool,
    /// False once the kernel has said that it does not copy between these file systems.
    is_kernels: bool,
    lost_attributes: bool,
    piece: Vec<u8>,
    pub copied: Copied,
}

impl<'a> Copier<'a> {
    pub fn new(
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

    pub fn is_for_user(&self) -> bool {
        self.rules.is_some()
    }

    pub fn is_interrupted(&self) -> bool {
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

    pub fn tell(&mut self, what: LeftOut, path: &[u8]) {
        if let Some((_, told)) = &mut self.rules {
            told(what, &quote(&String::from_utf8_lossy(path)));
        }
    }

    pub fn remove_links(&mut self) -> Result<(), Errno> {
        self.links.remove()
    }

    /// Copies what is held and is no folder to the new name `name` in `to`.
    pub fn copy_held(
        &mut self,
        held: &OwnedFd,
        to: BorrowedFd<'_>,
        name: &CStr,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<(), Failure> {
        let stat = fstat(held)?;
        self.copy_one(Contents::Held(held), &stat, to, name, path)
    }

    pub fn copy_one(
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
                fault::step("copy.link", || symlinkat(target, to, name))?;
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
        let make = || openat(to, name, flags | OFlags::CLOEXEC, mode);
        let to = fault::step("copy.make", make)?;
        fault::step("copy.contents", || self.copy_contents(from, &to, stat))?;
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
    pub fn dress_open(
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

/// A file that is no folder.
#[derive(Clone, Copy)]
pub(super) enum Contents<'a> {
    Open(&'a OwnedFd),
    /// Not opened (O_PATH).
    Held(&'a OwnedFd),
}
