//! The way from the top of a tree to the folder that is being filled.
//!
//! Only the deepest folders are open. The way back to one above them is `..`, which must be the remembered folder: others
//! may move what we fill.

use crate::descent::{Identity, open_beneath};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many folders are open at once.
const OPEN_LEVELS: usize = 32;

pub(crate) struct Trail {
    /// The deepest ones; never empty.
    open: VecDeque<OwnedFd>,
    /// Those of all folders on the way, the top first.
    identities: Vec<Identity>,
}

impl Trail {
    pub fn new(top: OwnedFd) -> Result<Trail, Errno> {
        Ok(Trail {
            identities: vec![Identity::of(top.as_fd())?],
            open: VecDeque::from([top]),
        })
    }

    pub fn current(&self) -> BorrowedFd<'_> {
        self.open
            .back()
            .expect("the deepest folder is always open")
            .as_fd()
    }

    pub fn is_at_top(&self) -> bool {
        self.identities.len() == 1
    }

    /// Makes a folder and goes into it.
    pub fn enter_new(&mut self, name: &CStr) -> Result<(), Errno> {
        mkdirat(self.current(), name, Mode::RWXU)?;
        self.enter(name)
    }

    /// Goes into a folder that is there.
    pub fn enter(&mut self, name: &CStr) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let folder = open_beneath(self.current(), name, flags)?;
        self.identities.push(Identity::of(folder.as_fd())?);
        self.open.push_back(folder);
        if self.open.len() > OPEN_LEVELS {
            self.open.pop_front();
        }
        Ok(())
    }

    /// Goes back up. STALE where the folder was moved away from its parent meanwhile.
    pub fn leave(&mut self) -> Result<(), Errno> {
        let above = self.identities.len() - 2;
        if self.open.len() == 1 {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = openat(self.current(), c"..", flags, Mode::empty())?;
            if Identity::of(folder.as_fd())? != self.identities[above] {
                return Err(Errno::STALE);
            }
            self.open.push_front(folder);
        }
        self.open.pop_back();
        self.identities.pop();
        Ok(())
    }
}
