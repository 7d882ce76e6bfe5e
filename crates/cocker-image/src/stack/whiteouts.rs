//! Makes the whiteouts of a stack's topmost tree such that overlayfs shows what the tree means.
//!
//! ```text
//! the top folder is opaque      overlayfs merges it all the same: what is below gets a whiteout each, folders that
//!                               the tree has too become opaque, and the mark goes
//! a whiteout hides nothing      overlayfs lists it where its folder is not merged, though nobody can remove it: it goes
//! ```
//!
//! The trees below are only read; of the topmost one nothing but whiteouts and marks of opaque folders changes, no
//! folder's time does. What was written by an enemy costs no more memory than any other walk.

use super::Tree;
use super::error::StackError;
use super::walk::{Merged, Side, Walk, room_for_folders};
use crate::archive::attributes;
use crate::archive::{hide, is_whiteout};
use crate::descent::{Descent, Entry, open_beneath};
use rustix::fs::{AtFlags, FileType, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::fs::{fstat, futimens, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Fits the whiteouts of `top` to the trees below it, lowest first. `top` is whole, and nobody else knows of it.
///
/// After an error some whiteouts are fitted and others are not.
pub(crate) fn fit_whiteouts(below: &[Tree<'_>], top: &Tree<'_>) -> Result<(), StackError> {
    let folder = open_top(top)?;
    let is_opaque = attributes::is_opaque(folder.as_fd());
    if is_opaque.map_err(|errno| reading(top, errno))? {
        spell_out(below, top, folder.as_fd())?;
    }
    Fitting::new(below, top, folder)?.drop_idle()
}

/// Says by whiteouts and opaque folders what the mark of the top folder means.
fn spell_out(below: &[Tree<'_>], top: &Tree<'_>, folder: BorrowedFd<'_>) -> Result<(), StackError> {
    let failed = |errno: Errno| StackError::changing(b"", &top.label, errno);
    let before = fstat(folder).map_err(failed)?;
    let mut walk = Walk::new(below, &[], room_for_folders());
    for tree in below {
        let mut names = open_top(tree).and_then(|it| {
            Descent::sorted(it, c".".into()).map_err(|errno| reading(tree, errno))
        })?;
        while let Some(entry) = names.next_entry().map_err(|errno| reading(tree, errno))? {
            let mut looks = walk.look(entry.name.clone());
            if walk.merge(&mut looks, Side::Older)? == Merged::Nothing {
                continue;
            }
            hide(folder, &entry.name).map_err(|errno| {
                StackError::changing(&below_top(&entry.name), &top.label, errno)
            })?;
        }
    }
    attributes::make_transparent(folder).map_err(failed)?;
    futimens(folder, &modified(&before)).map_err(failed)
}

/// A walk through the topmost tree, and beside it through those below.
struct Fitting<'a> {
    descent: Descent,
    below: Walk<'a>,
    /// For each folder on the way its time, where that has to be put back.
    times: Vec<Option<Timestamps>>,
    label: &'a str,
}

impl<'a> Fitting<'a> {
    fn new(
        below: &[Tree<'a>],
        top: &'a Tree<'a>,
        folder: OwnedFd,
    ) -> Result<Fitting<'a>, StackError> {
        let descent = Descent::sorted(folder, CString::default());
        Ok(Fitting {
            descent: descent.map_err(|errno| reading(top, errno))?,
            below: Walk::new(below, &[], room_for_folders()),
            times: vec![None],
            label: &top.label,
        })
    }

    /// Takes the whiteouts away that hide nothing.
    fn drop_idle(mut self) -> Result<(), StackError> {
        loop {
            let next = self.descent.next_entry();
            let Some(entry) = next.map_err(|errno| self.failed(None, errno))? else {
                match self.leave()? {
                    true => continue,
                    false => return Ok(()),
                }
            };
            match self.kind(&entry)? {
                FileType::Directory => self.enter(entry.name)?,
                FileType::CharacterDevice => self.drop_if_idle(&entry.name)?,
                _ => {}
            }
        }
    }

    fn kind(&self, entry: &Entry) -> Result<FileType, StackError> {
        if entry.file_type != FileType::Unknown {
            return Ok(entry.file_type);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = statat(self.descent.current(), &entry.name, flags);
        let stat = stat.map_err(|errno| self.failed(Some(&entry.name), errno))?;
        Ok(FileType::from_raw_mode(stat.st_mode))
    }

    fn enter(&mut self, name: CString) -> Result<(), StackError> {
        let mut looks = self.below.look(name.clone());
        let merged = self.below.merge(&mut looks, Side::Older)?;
        self.descent
            .enter(name.clone())
            .map_err(|errno| self.failed(Some(&name), errno))?;
        let is_opaque = attributes::is_opaque(self.descent.current());
        let merged = match merged {
            Merged::Folder(folders) => folders,
            _ => Vec::new(),
        };
        match is_opaque.map_err(|errno| self.failed(None, errno))? {
            true => self.below.enter(looks, &[], &[]),
            false => self.below.enter(looks, &merged, &[]),
        }
        self.times.push(None);
        Ok(())
    }

    fn drop_if_idle(&mut self, name: &CStr) -> Result<(), StackError> {
        let is_whiteout = is_whiteout(self.descent.current(), name);
        if !is_whiteout.map_err(|errno| self.failed(Some(name), errno))? {
            return Ok(());
        }
        let mut looks = self.below.look(name.into());
        if self.below.merge(&mut looks, Side::Older)? != Merged::Nothing {
            return Ok(());
        }
        self.keep_time()?;
        unlinkat(self.descent.current(), name, AtFlags::empty())
            .map_err(|errno| self.changing(Some(name), errno))
    }

    /// Remembers the current folder's time before its entries change.
    fn keep_time(&mut self) -> Result<(), StackError> {
        if self.times.last().is_some_and(Option::is_none) {
            let stat = fstat(self.descent.current());
            let stat = stat.map_err(|errno| self.failed(None, errno))?;
            *self.times.last_mut().expect("the top is never left") = Some(modified(&stat));
        }
        Ok(())
    }

    /// Goes back up; false at the top.
    fn leave(&mut self) -> Result<bool, StackError> {
        if let Some(times) = self.times.pop().expect("the top is left last") {
            futimens(self.descent.current(), &times).map_err(|errno| self.changing(None, errno))?;
        }
        self.below.leave();
        let left = self.descent.leave();
        Ok(left.map_err(|errno| self.failed(None, errno))?.is_some())
    }

    fn failed(&self, leaf: Option<&CStr>, errno: Errno) -> StackError {
        StackError::reading(&self.descent.path(leaf), self.label, errno)
    }

    fn changing(&self, leaf: Option<&CStr>, errno: Errno) -> StackError {
        StackError::changing(&self.descent.path(leaf), self.label, errno)
    }
}

fn open_top(tree: &Tree<'_>) -> Result<OwnedFd, StackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    open_beneath(tree.parent, &tree.path, flags).map_err(|errno| reading(tree, errno))
}

fn reading(tree: &Tree<'_>, errno: Errno) -> StackError {
    StackError::reading(b"", &tree.label, errno)
}

fn below_top(name: &CStr) -> Vec<u8> {
    [b"/", name.to_bytes()].concat()
}

/// The time of the last change, as it is.
fn modified(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT as _,
        },
        last_modification: Timespec {
            tv_sec: stat.st_mtime,
            tv_nsec: stat.st_mtime_nsec as _,
        },
    }
}
