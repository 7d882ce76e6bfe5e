//! Which folders of a walk are open: a cache of bounded size.
//!
//! The highest are closed first. One that is needed again is found as `..` of the one below it, or by the names that led
//! to it, and must be the same one. So neither depth nor the number of trees can exhaust descriptors.

use super::{Folder, Walk};
use crate::descent::open_beneath;
use crate::stack::entry::{EntryError, is_opaque, vanished};
use rustix::fs::{Mode, OFlags, RawDir, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most and the least folders of the way that are open at once.
const MOST_OPEN: usize = 4096;
const LEAST_OPEN: usize = 64;
/// The kernel takes paths below 4096 bytes.
const LONGEST_STEP: usize = 3072;

/// How many folders a walk may have open: half of what this process may.
pub(in crate::stack) fn room_for_folders() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed / 2).map_or(MOST_OPEN, |half| half.clamp(LEAST_OPEN, MOST_OPEN))
}

impl Walk<'_> {
    /// The open folder at a place; `None` where it went away.
    pub(in crate::stack) fn folder(
        &mut self,
        place: usize,
    ) -> Result<Option<BorrowedFd<'_>>, EntryError> {
        let level = self.levels.len() - 1;
        if self.levels[level].folders[place].open.is_none() {
            let Some(opened) = self.open_again(level, place)? else {
                return Ok(None);
            };
            self.make_room(Some(place));
            self.open += 1;
            self.highest_open = self.highest_open.min(level);
            self.levels[level].folders[place].open = Some(opened);
        }
        let folder = self.levels[level].folders[place].open.as_ref();
        Ok(folder.map(AsFd::as_fd))
    }

    /// Opens the same tree's part of the current folder by way of an open one below it, where that is still there.
    pub(super) fn open_above(&mut self, below: &Folder) {
        let level = self.levels.len() - 1;
        let folders = &mut self.levels[level].folders;
        let folder = folders.iter_mut().find(|it| it.tree == below.tree);
        let (Some(folder), Some(below)) = (folder, &below.open) else {
            return;
        };
        if folder.open.is_some() || self.open >= self.room {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(below, c"..", flags, Mode::empty());
        let Ok(opened) = opened else { return };
        let stat = fstat(&opened).ok();
        if stat.map(|stat| (stat.st_dev, stat.st_ino)) == folder.identity {
            folder.open = Some(opened);
            self.open += 1;
            self.highest_open = self.highest_open.min(level);
        }
    }

    /// Closes the highest open folders until there is room for one more; `kept`, of the current level, is not closed.
    pub(super) fn make_room(&mut self, kept: Option<usize>) {
        let current = self.levels.len() - 1;
        while self.open >= self.room && self.highest_open <= current {
            let level = self.highest_open;
            let mut folders = self.levels[level].folders.iter_mut().enumerate();
            let closed = folders.find(|(place, folder)| {
                folder.open.is_some() && (level < current || kept != Some(*place))
            });
            match closed {
                Some((_, folder)) => {
                    folder.open = None;
                    self.open -= 1;
                }
                None if level == current => return,
                None => self.highest_open += 1,
            }
        }
    }

    /// Opens a closed folder, which must be the one that it was; `None` where it went away. A top must be there.
    fn open_again(&mut self, level: usize, place: usize) -> Result<Option<OwnedFd>, EntryError> {
        let Folder { tree, identity, .. } = self.levels[level].folders[place];
        let above = (0..level).rev().find_map(|above| {
            let mut folders = self.levels[above].folders.iter();
            let folder = folders.find(|folder| folder.tree == tree)?;
            folder.open.as_ref().map(|open| (above, open))
        });
        let base = &self.trees[tree];
        let mut names = Vec::new();
        let start = match above {
            Some((above, open)) => {
                names.extend(self.levels[above + 1..=level].iter().map(|it| &*it.name));
                open.as_fd()
            }
            None => {
                names.push(&*base.path);
                names.extend(self.levels[1..=level].iter().map(|it| &*it.name));
                base.parent
            }
        };
        let opened = step_down(start, &names);
        if level == 0 {
            let opened = opened?;
            let stat = fstat(&opened)?;
            // A top is merged with those below however it is marked; asked all the same, for marks that are errors.
            is_opaque(opened.as_fd())?;
            let folder = &mut self.levels[level].folders[place];
            let now = (stat.st_dev, stat.st_ino);
            if *folder.identity.get_or_insert(now) != now {
                return Err(Errno::STALE.into());
            }
            return Ok(Some(opened));
        }
        let Some(opened) = vanished(opened)? else {
            return Ok(None);
        };
        let stat = fstat(&opened)?;
        let is_same = identity == Some((stat.st_dev, stat.st_ino));
        Ok(is_same.then_some(opened))
    }
}

/// Opens the folder that `names` lead to, in as few steps as the length of paths allows.
fn step_down(start: BorrowedFd<'_>, names: &[&CStr]) -> Result<OwnedFd, Errno> {
    let mut reached: Option<OwnedFd> = None;
    let mut rest = names;
    loop {
        let mut step: Vec<u8> = Vec::new();
        while let Some((name, others)) = rest.split_first() {
            if !step.is_empty() && step.len() + name.to_bytes().len() >= LONGEST_STEP {
                break;
            }
            if !step.is_empty() {
                step.push(b'/');
            }
            step.extend_from_slice(name.to_bytes());
            rest = others;
        }
        let step = CString::new(step).map_err(|_| Errno::INVAL)?;
        let from = reached.as_ref().map_or(start, AsFd::as_fd);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = open_beneath(from, &step, flags)?;
        if rest.is_empty() {
            return Ok(opened);
        }
        reached = Some(opened);
    }
}

pub(super) fn read_entries(
    folder: BorrowedFd<'_>,
    buffer: &mut Vec<u8>,
    names: &mut Vec<CString>,
) -> Result<(), Errno> {
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if entry.file_name() == c"." || entry.file_name() == c".." => {}
            Ok(entry) => names.push(entry.file_name().into()),
            // A folder that was removed while it was open has nothing more to say.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
