//! Files with several names, which stay one file: known by their inodes, without costing memory.

use crate::removal::remove_tree;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, linkat, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A folder that has one name of each file with several names, by inode, until the copy is whole; made when it is needed.
pub(super) struct Links<'a> {
    parent: BorrowedFd<'a>,
    made: Option<(String, OwnedFd)>,
}

impl Links<'_> {
    pub fn in_folder(parent: BorrowedFd<'_>) -> Links<'_> {
        Links { parent, made: None }
    }

    /// Gives the file one more name, where it was copied before.
    pub fn link(&self, stat: &Stat, parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
        let Some((_, folder)) = &self.made else {
            return Ok(false);
        };
        match linkat(folder, inode(stat), parent, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub fn remember(
        &mut self,
        stat: &Stat,
        parent: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Errno> {
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

    pub fn remove(&mut self) -> Result<(), Errno> {
        match self.made.take() {
            Some((name, _)) => remove_tree(self.parent, &name).map_err(|_| Errno::IO),
            None => Ok(()),
        }
    }
}

fn inode(stat: &Stat) -> String {
    format!("{:x}-{:x}", stat.st_dev, stat.st_ino)
}
