//! The open folders on the way from the top of a tree to where files are made.
//!
//! Making a file changes its folder's time. So a folder gets the time that it should have when it is left, and the time
//! that it has when it is entered again: nothing needs to be remembered for folders that are not on the way.
//! Only the deepest 32 are open; the way back to one above them is `..`, which must be the remembered folder.

use super::failure::Failure;
use crate::archive::attributes;
use crate::archive::error::Refusal;
use crate::descent::open_beneath;
use crate::owners::IdShift;
use rustix::fs::{
    FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, fchmod, fstat,
    futimens, mkdirat, openat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const OPEN_LEVELS: usize = 32;
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW);
const DEFAULT_MODE: Mode = Mode::from_raw_mode(0o755);
const EPOCH: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// What a folder is that the archive does not name: whose, and of when.
#[derive(Clone, Copy)]
pub(super) struct Unnamed {
    owner: u32,
    time: Timespec,
}

impl Unnamed {
    /// A layer depends on nothing but the archive.
    pub fn of_layer() -> Unnamed {
        Unnamed {
            owner: 0,
            time: EPOCH,
        }
    }

    /// A user's folder is root's, made now.
    pub fn of_user(owners: IdShift) -> Unnamed {
        Unnamed {
            owner: owners.shift(0).unwrap_or(0),
            time: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW as _,
            },
        }
    }
}

/// The way; the top is never left.
pub(super) struct Folders {
    levels: Vec<Level>,
    unnamed: Unnamed,
}

struct Level {
    name: CString,
    /// `None` while the folder lies too far above the current one.
    folder: Option<OwnedFd>,
    identity: (u64, u64),
    /// What the folder's time has to be when it is left.
    mtime: Timespec,
    is_touched: bool,
    inheritance: Inheritance,
}

/// What a file gets from the folder it is made in, besides its name.
#[derive(Clone, Copy)]
pub(super) struct Inheritance {
    pub group: bool,
    pub acls: bool,
}

impl Folders {
    /// Starts in `top`, which is root's and open to all until an entry says otherwise.
    pub fn new(top: OwnedFd, unnamed: Unnamed) -> Result<Folders, Errno> {
        let (owner, group) = (Uid::from_raw(unnamed.owner), Gid::from_raw(unnamed.owner));
        rustix::fs::fchown(&top, Some(owner), Some(group))?;
        fchmod(&top, DEFAULT_MODE)?;
        let mut level = Level::new(top, c"".into())?;
        level.mtime = unnamed.time;
        level.is_touched = true;
        Ok(Folders {
            levels: vec![level],
            unnamed,
        })
    }

    pub fn top(&self) -> BorrowedFd<'_> {
        // Whoever asks is at the top, or else only reads what is below an ancestor that is still open.
        self.levels[0]
            .folder
            .as_ref()
            .expect("the top stays open")
            .as_fd()
    }

    /// The folder that files are made in.
    pub fn current(&self) -> BorrowedFd<'_> {
        self.deepest()
            .folder
            .as_ref()
            .expect("the deepest folder is always open")
            .as_fd()
    }

    pub fn inheritance(&self) -> Inheritance {
        self.deepest().inheritance
    }

    /// Whether the current folder is the one that these names lead to.
    pub fn is_current(&self, names: &[CString]) -> bool {
        self.levels.len() - 1 == names.len() && self.common(names) == names.len()
    }

    /// Makes the folder to which `names` lead from the top the current one, and says that its entries will change.
    /// What is missing on the way is made; `is_whiteout` is asked about what is no folder and may take its place.
    pub fn enter(&mut self, names: &[CString], replace_whiteouts: bool) -> Result<(), Failure> {
        let common = self.common(names);
        while self.levels.len() - 1 > common {
            self.leave()?;
        }
        for name in &names[common..] {
            self.descend(name, replace_whiteouts)?;
        }
        self.touch();
        Ok(())
    }

    /// Goes into the folder `name` of the current one, which was just made or changed and is open as `folder`.
    pub fn push(&mut self, name: &CStr, folder: OwnedFd, mtime: Timespec) -> Result<(), Errno> {
        let mut level = Level::new(folder, name.into())?;
        level.mtime = mtime;
        level.is_touched = true;
        self.push_level(level);
        Ok(())
    }

    /// Says what time the top folder has to have, and looks again at what is inherited from it.
    pub fn set_top(&mut self, mtime: Timespec) -> Result<(), Errno> {
        debug_assert_eq!(self.levels.len(), 1);
        let top = &mut self.levels[0];
        top.mtime = mtime;
        top.inheritance =
            Inheritance::of(top.folder.as_ref().expect("the top stays open").as_fd())?;
        Ok(())
    }

    /// Leaves all folders.
    pub fn finish(mut self) -> Result<(), Errno> {
        while self.levels.len() > 1 {
            self.leave()?;
        }
        self.levels[0].restore_time()
    }

    fn touch(&mut self) {
        self.levels
            .last_mut()
            .expect("the top is never left")
            .is_touched = true;
    }

    /// How many of the names lead the same way as the open folders.
    fn common(&self, names: &[CString]) -> usize {
        let open = self.levels[1..].iter().map(|level| &level.name);
        open.zip(names)
            .take_while(|(open, name)| open == name)
            .count()
    }

    fn descend(&mut self, name: &CStr, replace_whiteouts: bool) -> Result<(), Failure> {
        match open_beneath(self.current(), name, FOLDER) {
            Ok(folder) => {
                let level = Level::new(folder, name.into())?;
                self.push_level(level);
                Ok(())
            }
            Err(Errno::NOENT) => self.make_missing(name, false),
            Err(Errno::NOTDIR)
                if replace_whiteouts && super::is_whiteout(self.current(), name)? =>
            {
                rustix::fs::unlinkat(self.current(), name, rustix::fs::AtFlags::empty())?;
                self.make_missing(name, true)
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                Err(Failure::Refused(Refusal::BelowNoFolder))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a folder that files lie in although the archive has not named it.
    fn make_missing(&mut self, name: &CStr, opaque: bool) -> Result<(), Failure> {
        self.touch();
        mkdirat(self.current(), name, Mode::RWXU)?;
        let folder = open_beneath(self.current(), name, FOLDER)?;
        let inheritance = self.inheritance();
        if inheritance.acls {
            attributes::remove_acls(attributes::File::Open(folder.as_fd()))?;
        }
        if inheritance.group {
            rustix::fs::fchown(&folder, None, Some(Gid::from_raw(self.unnamed.owner)))?;
        }
        fchmod(&folder, DEFAULT_MODE)?;
        if opaque {
            attributes::make_opaque(folder.as_fd())?;
        }
        Ok(self.push(name, folder, self.unnamed.time)?)
    }

    fn push_level(&mut self, level: Level) {
        self.levels.push(level);
        // The top stays open for whoever looks for the target of a hard link.
        match self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            None | Some(0) => {}
            Some(far) => self.levels[far].folder = None,
        }
    }

    fn leave(&mut self) -> Result<(), Errno> {
        let above = self.levels.len() - 2;
        if self.levels[above].folder.is_none() {
            let folder = openat(
                self.current(),
                c"..",
                FOLDER | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let stat = fstat(&folder)?;
            if (stat.st_dev, stat.st_ino) != self.levels[above].identity {
                return Err(Errno::STALE);
            }
            self.levels[above].folder = Some(folder);
        }
        self.levels
            .pop()
            .expect("the top is never left")
            .restore_time()
    }

    fn deepest(&self) -> &Level {
        self.levels.last().expect("the top is never left")
    }
}

impl Level {
    fn new(folder: OwnedFd, name: CString) -> Result<Level, Errno> {
        let stat = fstat(&folder)?;
        Ok(Level {
            name,
            identity: (stat.st_dev, stat.st_ino),
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: stat.st_mtime_nsec as _,
            },
            is_touched: false,
            inheritance: Inheritance {
                group: stat.st_mode & Mode::SGID.as_raw_mode() != 0,
                acls: attributes::has_default_acl(folder.as_fd())?,
            },
            folder: Some(folder),
        })
    }

    fn restore_time(&self) -> Result<(), Errno> {
        match &self.folder {
            Some(folder) if self.is_touched => futimens(folder, &modified(self.mtime)),
            _ => Ok(()),
        }
    }
}

impl Inheritance {
    fn of(folder: BorrowedFd<'_>) -> Result<Inheritance, Errno> {
        Ok(Inheritance {
            group: fstat(folder)?.st_mode & Mode::SGID.as_raw_mode() != 0,
            acls: attributes::has_default_acl(folder)?,
        })
    }
}

/// Opens the folder to which `names` lead from `top`; `None` where the way is no way of folders.
pub(super) fn find(top: BorrowedFd<'_>, names: &[CString]) -> Result<Option<OwnedFd>, Errno> {
    let mut folder = crate::descent::open_again(top)?;
    for names in names.chunks(LOOKUP) {
        let path = names
            .iter()
            .map(|name| name.to_bytes())
            .collect::<Vec<_>>()
            .join(&b'/');
        let path = CString::new(path).expect("names hold no NUL");
        folder = match open_beneath(folder.as_fd(), &path, FOLDER) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => return Ok(None),
            Err(errno) => return Err(errno),
        };
    }
    Ok(Some(folder))
}

/// So many names of 255 bytes are a path that the kernel takes (PATH_MAX).
const LOOKUP: usize = 15;

/// Sets the time of the last change alone.
pub(super) fn modified(mtime: Timespec) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: mtime,
    }
}

/// Whether a raw mode is that of a folder.
pub(super) fn is_folder(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}
