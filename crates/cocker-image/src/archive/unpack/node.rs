//! Makes one file in an open folder, with all that belongs to it.
//!
//! Owner before mode, since a change of owner takes set-id bits away; mode before capabilities, the time last.

use super::failure::Failure;
use super::folders::{Inheritance, is_folder, modified};
use super::is_whiteout_node;
use crate::archive::Whiteouts;
use crate::archive::attributes::{self, Attributes, CAPABILITY, File};
use crate::archive::entry::{self, Device, Entry};
use crate::archive::error::Refusal;
use crate::archive::reader::Reader;
use crate::copying::path_of;
use crate::descent::open_beneath;
use crate::removal::remove_tree;
use cocker_sys::fault;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmod, chownat, fchmod, fchown, fstat, ftruncate,
    futimens, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pwrite, retry_on_intr, write};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

const EPOCH: rustix::fs::Timespec = rustix::fs::Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// Where a file is to be made.
pub(super) struct Node<'a> {
    pub parent: BorrowedFd<'a>,
    pub name: &'a CStr,
    pub inheritance: Inheritance,
    pub whiteouts: Whiteouts,
}

/// What had to go for a new file.
#[derive(PartialEq, Eq)]
enum Place {
    Free,
    HadWhiteout,
}

impl Node<'_> {
    pub fn file(
        &self,
        file: &entry::File,
        entry: &Entry,
        reader: &mut Reader<'_>,
    ) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (made, _) =
            self.make(|| openat(self.parent, self.name, flags, Mode::RUSR | Mode::WUSR))?;
        match &file.segments {
            None => write_whole(made.as_fd(), reader)?,
            Some(segments) => {
                for segment in segments {
                    write_segment(made.as_fd(), segment.offset, segment.length, reader)?;
                }
                ftruncate(&made, file.size)?;
            }
        }
        self.dress_open(made, entry).map(drop)
    }

    /// Makes a folder, or changes the one that is there; returns it open.
    pub fn folder(&self, entry: &Entry) -> Result<OwnedFd, Failure> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let make = || mkdirat(self.parent, self.name, Mode::RWXU);
        let place = match fault::step("unpack.folder", make) {
            Ok(()) => Place::Free,
            Err(Errno::EXIST) => {
                if is_folder(self.stat()?.st_mode) {
                    let folder = open_beneath(self.parent, self.name, flags)?;
                    change_folder(folder.as_fd(), entry, self.whiteouts)?;
                    return Ok(folder);
                }
                self.make(|| mkdirat(self.parent, self.name, Mode::RWXU))?.1
            }
            Err(errno) => return Err(errno.into()),
        };
        let folder = open_beneath(self.parent, self.name, flags)?;
        let hides = match self.whiteouts {
            Whiteouts::Devices => entry.is_opaque,
            // A folder that comes after a whiteout of its name has nothing of the lower ones.
            Whiteouts::Files => place == Place::HadWhiteout,
            Whiteouts::None => false,
        };
        if hides {
            attributes::make_opaque(folder.as_fd())?;
        }
        self.dress_open(folder, entry)
    }

    pub fn symbolic_link(&self, target: &[u8], entry: &Entry) -> Result<(), Failure> {
        let target = CString::new(target).map_err(|_| Refusal::BadTarget)?;
        self.make(|| symlinkat(target.as_c_str(), self.parent, self.name))?;
        self.dress_named(entry)
    }

    /// Makes a FIFO or a device node.
    pub fn special(&self, kind: FileType, device: Device, entry: &Entry) -> Result<(), Failure> {
        let number = makedev(device.major, device.minor);
        let mode = Mode::from_raw_mode(entry.mode);
        self.make(|| mknodat(self.parent, self.name, kind, Mode::empty(), number))?;
        self.chown(entry)?;
        if self.inheritance.acls {
            attributes::remove_acls(File::Named(self.parent, self.name))?;
        }
        // Whatever has the name by now, no link is followed from here.
        let made = open_beneath(self.parent, self.name, OFlags::PATH | OFlags::NOFOLLOW)?;
        if FileType::from_raw_mode(fstat(&made)?.st_mode) != kind {
            return Err(Errno::STALE.into());
        }
        chmod(path_of(&made), mode)?;
        self.dress_named_attributes(entry)
    }

    /// Makes something that must not be there yet; what is there goes first.
    fn make<T>(&self, mut make: impl FnMut() -> Result<T, Errno>) -> Result<(T, Place), Failure> {
        match fault::step("unpack.make", &mut make) {
            Ok(made) => Ok((made, Place::Free)),
            Err(Errno::EXIST) => {
                let place = self.make_room()?;
                Ok((make()?, place))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn make_room(&self) -> Result<Place, Failure> {
        make_room(self.parent, self.name)
    }

    fn stat(&self) -> Result<rustix::fs::Stat, Errno> {
        statat(self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Gives an open file or folder that was just made what the entry says.
    fn dress_open(&self, made: OwnedFd, entry: &Entry) -> Result<OwnedFd, Failure> {
        if self.inheritance.acls {
            attributes::remove_acls(File::Open(made.as_fd()))?;
        }
        if (entry.uid, entry.gid) != (0, 0) || self.inheritance.group {
            let (uid, gid) = owner(entry);
            fchown(&made, uid, gid)?;
        }
        fchmod(&made, Mode::from_raw_mode(entry.mode))?;
        set_attributes(File::Open(made.as_fd()), entry)?;
        fault::step("unpack.dress", || futimens(&made, &modified(entry.mtime)))?;
        Ok(made)
    }

    /// The same for what cannot be opened.
    fn dress_named(&self, entry: &Entry) -> Result<(), Failure> {
        self.chown(entry)?;
        self.dress_named_attributes(entry)
    }

    fn chown(&self, entry: &Entry) -> Result<(), Errno> {
        if (entry.uid, entry.gid) == (0, 0) && !self.inheritance.group {
            return Ok(());
        }
        let (uid, gid) = owner(entry);
        chownat(self.parent, self.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn dress_named_attributes(&self, entry: &Entry) -> Result<(), Failure> {
        set_attributes(File::Named(self.parent, self.name), entry)?;
        let times = modified(entry.mtime);
        Ok(utimensat(
            self.parent,
            self.name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }
}

/// Gives a folder that was there before the attributes of a later entry; what it has besides goes.
pub(super) fn change_folder(
    folder: BorrowedFd<'_>,
    entry: &Entry,
    whiteouts: Whiteouts,
) -> Result<(), Failure> {
    for name in Attributes::new().kept(File::Open(folder))? {
        attributes::remove(File::Open(folder), &name)?;
    }
    if whiteouts == Whiteouts::Devices {
        match entry.is_opaque {
            true => attributes::make_opaque(folder)?,
            false => attributes::make_transparent(folder)?,
        }
    }
    let (uid, gid) = owner(entry);
    fchown(folder, uid, gid)?;
    fchmod(folder, Mode::from_raw_mode(entry.mode))?;
    set_attributes(File::Open(folder), entry)
}

/// Hides `name` of lower layers. What this layer has of that name stays: a folder then hides what is in the lower one.
pub(crate) fn hide(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is_folder(stat.st_mode) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let folder = open_beneath(parent, name, flags)?;
            attributes::make_opaque(folder.as_fd())
        }
        Ok(_) => Ok(()),
        Err(Errno::NOENT) => {
            mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            if attributes::has_default_acl(parent)? {
                attributes::remove_acls(File::Named(parent, name))?;
            }
            let times = modified(EPOCH);
            utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        }
        Err(errno) => Err(errno),
    }
}

/// Gives the file `target` of `from` a second name.
pub(super) fn link(
    from: BorrowedFd<'_>,
    target: &CStr,
    parent: BorrowedFd<'_>,
    name: &CStr,
    whiteouts: Whiteouts,
) -> Result<(), Failure> {
    let stat = match statat(from, target, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Err(Refusal::NoTarget.into()),
        Err(errno) => return Err(errno.into()),
    };
    // Overlayfs itself links whiteouts to each other; where they are files, there is nothing to link to.
    let is_hidden = whiteouts == Whiteouts::Files && is_whiteout_node(&stat);
    if is_folder(stat.st_mode) || is_hidden {
        return Err(Refusal::TargetNoFile.into());
    }
    let link = || linkat(from, target, parent, name, AtFlags::empty());
    match link() {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let there = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            make_room(parent, name)?;
            match link() {
                // The target lay in the folder that has just gone.
                Err(Errno::NOENT) => Err(Refusal::NoTarget.into()),
                answer => Ok(answer?),
            }
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Takes away what an earlier entry made.
fn make_room(parent: BorrowedFd<'_>, name: &CStr) -> Result<Place, Failure> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if is_folder(stat.st_mode) {
        remove_tree(parent, OsStr::from_bytes(name.to_bytes())).map_err(Failure::Replace)?;
        return Ok(Place::Free);
    }
    unlinkat(parent, name, AtFlags::empty())?;
    match is_whiteout_node(&stat) {
        true => Ok(Place::HadWhiteout),
        false => Ok(Place::Free),
    }
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
}

fn set_attributes(file: File<'_>, entry: &Entry) -> Result<(), Failure> {
    let is_capability = |name: &[u8]| name == CAPABILITY;
    let (last, first): (Vec<_>, Vec<_>) = entry
        .attributes
        .iter()
        .partition(|(name, _)| is_capability(name));
    for (name, value) in first.into_iter().chain(last) {
        let failed = |errno| Failure::Attribute(name.clone(), errno);
        let key = CString::new(name.as_slice()).map_err(|_| failed(Errno::INVAL))?;
        attributes::set(file, &key, value).map_err(failed)?;
    }
    Ok(())
}

fn write_whole(file: BorrowedFd<'_>, reader: &mut Reader<'_>) -> Result<(), Failure> {
    while reader.remaining() > 0 {
        let written = {
            let bytes = reader.content(u64::MAX)?;
            retry_on_intr(|| write(file, bytes))?
        };
        if written == 0 {
            return Err(Errno::NOSPC.into());
        }
        reader.consume(written);
    }
    Ok(())
}

fn write_segment(
    file: BorrowedFd<'_>,
    mut offset: u64,
    mut length: u64,
    reader: &mut Reader<'_>,
) -> Result<(), Failure> {
    while length > 0 {
        let written = {
            let bytes = reader.content(length)?;
            retry_on_intr(|| pwrite(file, bytes, offset))?
        };
        if written == 0 {
            return Err(Errno::NOSPC.into());
        }
        reader.consume(written);
        offset += written as u64;
        length -= written as u64;
    }
    Ok(())
}
