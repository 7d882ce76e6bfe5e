//! One entry of one tree: opened without being followed or read, with its attributes.

use crate::descent::open_beneath;
use crate::marks::marks;
use rustix::fs::{
    FileType, Mode, OFlags, Stat, fgetxattr, fstat, getxattr, listxattr, major, minor, open,
    readlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel's limits for the value of one attribute and for the names of all (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
pub(super) const LONGEST_ATTRIBUTE: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    File,
    Folder,
    Link,
    CharacterDevice,
    BlockDevice,
    Fifo,
    Socket,
}

impl FileKind {
    pub(super) fn of(stat: &Stat) -> FileKind {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FileKind::Folder,
            FileType::Symlink => FileKind::Link,
            FileType::CharacterDevice => FileKind::CharacterDevice,
            FileType::BlockDevice => FileKind::BlockDevice,
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            _ => FileKind::File,
        }
    }
}

/// Why an entry has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum EntryError {
    Kernel(Errno),
    /// It has this attribute.
    LiesElsewhere(&'static str),
}

impl From<Errno> for EntryError {
    fn from(errno: Errno) -> EntryError {
        EntryError::Kernel(errno)
    }
}

/// An entry, held and not opened: not even a device would notice.
pub(super) struct Entry {
    held: OwnedFd,
    pub stat: Stat,
}

impl Entry {
    /// Holds `name` of `folder`; `None` where there is none.
    pub fn hold(folder: BorrowedFd<'_>, name: &CStr) -> Result<Option<Entry>, Errno> {
        match vanished(open_beneath(folder, name, OFlags::PATH | OFlags::NOFOLLOW))? {
            None => Ok(None),
            Some(held) => {
                let stat = fstat(&held)?;
                Ok(Some(Entry { held, stat }))
            }
        }
    }

    pub fn kind(&self) -> FileKind {
        FileKind::of(&self.stat)
    }

    /// Where a link leads.
    pub fn target(&self) -> Result<CString, Errno> {
        readlinkat(&self.held, c"", Vec::new())
    }

    /// Opens a regular file, the very one that is held: whatever has its name by now, nothing else is opened.
    pub fn open_file(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOATIME;
        open(self.magic_path(), flags, Mode::empty())
    }

    /// Names of the attributes that an overlay shows, sorted. An error where one of the others says that what is seen
    /// lies elsewhere.
    pub fn attribute_names(&self, list: &mut [u8]) -> Result<Vec<CString>, EntryError> {
        let length = match listxattr(self.magic_path(), &mut *list) {
            Ok(length) => length,
            Err(Errno::NOTSUP) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut names = Vec::new();
        for name in list[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            if let Some((_, text)) = marks().elsewhere.iter().find(|(mark, _)| *mark == name) {
                return Err(EntryError::LiesElsewhere(text));
            }
            let bytes = name.to_bytes();
            let is_private = bytes.starts_with(marks().private);
            if !is_private || bytes.starts_with(marks().private_inside) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// The length of an attribute's value, which is put into `value`; `None` where it has none.
    pub fn attribute(&self, name: &CStr, value: &mut [u8]) -> Result<Option<usize>, Errno> {
        match getxattr(self.magic_path(), name, value) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// A path to exactly this entry, also when it is a link; calls on attributes take no such descriptor.
    fn magic_path(&self) -> String {
        format!("/proc/self/fd/{}", self.held.as_raw_fd())
    }
}

/// A folder, opened for reading.
pub(super) struct OpenFolder {
    pub folder: OwnedFd,
    pub stat: Stat,
    /// It hides what is below it.
    pub is_opaque: bool,
}

/// Opens the folder `name` of `folder`; `None` where it is gone or no folder any more.
pub(super) fn open_folder(
    folder: BorrowedFd<'_>,
    name: &CStr,
) -> Result<Option<OpenFolder>, EntryError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let Some(opened) = vanished(open_beneath(folder, name, flags))? else {
        return Ok(None);
    };
    let is_opaque = is_opaque(opened.as_fd())?;
    let stat = fstat(&opened)?;
    Ok(Some(OpenFolder {
        folder: opened,
        stat,
        is_opaque,
    }))
}

/// Whether an open folder is marked to hide what is below it.
pub(super) fn is_opaque(folder: BorrowedFd<'_>) -> Result<bool, EntryError> {
    for (mark, text) in marks().elsewhere {
        if has_attribute(fgetxattr(folder, mark, &mut [0; 1]))? {
            return Err(EntryError::LiesElsewhere(text));
        }
    }
    let mut value = [0; 1];
    match fgetxattr(folder, marks().opaque, &mut value) {
        Ok(length) => Ok(value[..length] == *b"y"),
        // A longer value, which means nothing.
        Err(Errno::RANGE) => Ok(false),
        answer => Ok(has_attribute(answer)?),
    }
}

/// Whether an entry that is no folder removes what is below it.
///
/// The kernel lists an empty file with the attribute as a file unless its folder is marked `x`, and finds nothing under
/// its name however the folder is marked; what cannot be found is not there.
pub(super) fn is_whiteout(folder: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<bool, Errno> {
    match FileKind::of(stat) {
        FileKind::CharacterDevice => Ok(major(stat.st_rdev) == 0 && minor(stat.st_rdev) == 0),
        FileKind::File if stat.st_size == 0 => match Entry::hold(folder, name)? {
            None => Ok(false),
            Some(entry) => match entry.attribute(marks().whiteout, &mut [0; 0]) {
                Ok(length) => Ok(length.is_some()),
                Err(Errno::RANGE) => Ok(true),
                Err(errno) => Err(errno),
            },
        },
        _ => Ok(false),
    }
}

/// What can mean that an entry went away, or became another, between two looks at it.
pub(super) fn vanished<T>(answer: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn has_attribute(answer: Result<usize, Errno>) -> Result<bool, EntryError> {
    match answer {
        // A value that has no room is a value.
        Ok(_) | Err(Errno::RANGE) => Ok(true),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
