//! What differs between two stacks, folder by folder.
//!
//! What both have from the same trees is the same and is skipped: a folder merged from the same parts is not entered,
//! and of one merged from different parts only the names in those parts are looked at.

use super::Tree;
use super::compare::{Comparison, Difference};
use super::entry::{Entry, EntryError, FileKind};
use super::error::StackError;
use super::walk::{Looks, Merged, Side, Walk, room_for_folders};
use std::ffi::CStr;
use std::ops::ControlFlow;

/// One path that two stacks do not show alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// From the top of the view on, `/`.
    pub path: Vec<u8>,
    /// What it is now; of what was removed, what it was.
    pub file: FileKind,
    /// Empty unless it was changed.
    pub differences: Vec<Difference>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A folder that was added is followed by all that is in it.
    Added,
    Changed,
    /// A folder that was removed stands for all that was in it.
    Removed,
}

/// Tells `found` of each path that differs between two stacks, both lowest first, a folder before what is in it and
/// names in the order of their bytes; ends early when it breaks.
///
/// A folder's times do not count, nor does what is in it: that has paths of its own. What takes the place of a folder is
/// a change of type of the one path; what was in the folder is gone with it.
pub fn diff(
    older: &[Tree<'_>],
    newer: &[Tree<'_>],
    found: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<(), StackError> {
    diff_within(room_for_folders(), older, newer, found)
}

/// The same with at most `room` folders of the way open at once.
pub(super) fn diff_within(
    room: usize,
    older: &[Tree<'_>],
    newer: &[Tree<'_>],
    found: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<(), StackError> {
    let mut diff = Diff {
        walk: Walk::new(older, newer, room),
        comparison: Comparison::new(),
        found,
    };
    if diff.compare_tops()?.is_break() {
        return Ok(());
    }
    diff.walk.read_names()?;
    loop {
        match diff.walk.next_name() {
            Some(name) => {
                if diff.compare_name(&name)?.is_break() {
                    return Ok(());
                }
            }
            None if diff.walk.leave() => {}
            None => return Ok(()),
        }
    }
}

struct Diff<'a, F> {
    walk: Walk<'a>,
    comparison: Comparison,
    found: F,
}

impl<F: FnMut(Change) -> ControlFlow<()>> Diff<'_, F> {
    /// The top itself, `/`, is a folder of every stack that has a tree.
    fn compare_tops(&mut self) -> Result<ControlFlow<()>, StackError> {
        let topmost = |side| self.walk.side(side).first().copied();
        match (topmost(Side::Older), topmost(Side::Newer)) {
            (Some(older), Some(newer)) if older != newer => self.compare(c".", older, newer),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    /// Tells of one name, and enters it where it is a folder with something to tell.
    fn compare_name(&mut self, name: &CStr) -> Result<ControlFlow<()>, StackError> {
        let mut looks = self.walk.look(name.into());
        let older = self.walk.merge(&mut looks, Side::Older)?;
        let newer = self.walk.merge(&mut looks, Side::Newer)?;
        if older == newer {
            return Ok(ControlFlow::Continue(()));
        }
        let told = match (top(&older), top(&newer)) {
            (Some(older), Some(newer)) if older == newer => ControlFlow::Continue(()),
            (Some(older), Some(newer)) => self.compare(name, older, newer)?,
            (None, Some(place)) => self.tell(ChangeKind::Added, name, place)?,
            (Some(place), None) => self.tell(ChangeKind::Removed, name, place)?,
            (None, None) => ControlFlow::Continue(()),
        };
        if told.is_continue()
            && let Merged::Folder(newer) = newer
        {
            self.enter(looks, &older, &newer)?;
        }
        Ok(told)
    }

    fn enter(&mut self, looks: Looks, older: &Merged, newer: &[usize]) -> Result<(), StackError> {
        let older = match older {
            Merged::Folder(older) => older.as_slice(),
            _ => &[],
        };
        self.walk.enter(looks, older, newer);
        self.walk.read_names()
    }

    /// Compares what two of the current folders have under a name; `.` is the folder itself.
    fn compare(
        &mut self,
        name: &CStr,
        older: usize,
        newer: usize,
    ) -> Result<ControlFlow<()>, StackError> {
        // What vanished meanwhile is no difference that stays.
        let (Some(old), Some(new)) = (self.hold(name, older)?, self.hold(name, newer)?) else {
            return Ok(ControlFlow::Continue(()));
        };
        let differences = self.comparison.differences(&old, &new);
        let differences = differences.map_err(|error| self.failed(name, newer, error))?;
        if differences.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let path = self.path(name);
        Ok((self.found)(Change {
            kind: ChangeKind::Changed,
            path,
            file: new.kind(),
            differences,
        }))
    }

    fn tell(
        &mut self,
        kind: ChangeKind,
        name: &CStr,
        place: usize,
    ) -> Result<ControlFlow<()>, StackError> {
        let Some(entry) = self.hold(name, place)? else {
            return Ok(ControlFlow::Continue(()));
        };
        self.comparison
            .check(&entry)
            .map_err(|error| self.failed(name, place, error))?;
        let path = self.path(name);
        Ok((self.found)(Change {
            kind,
            path,
            file: entry.kind(),
            differences: Vec::new(),
        }))
    }

    fn hold(&mut self, name: &CStr, place: usize) -> Result<Option<Entry>, StackError> {
        let held = match self.walk.folder(place) {
            Ok(Some(folder)) => Entry::hold(folder, name).map_err(EntryError::from),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        held.map_err(|error| self.failed(name, place, error))
    }

    fn failed(&self, name: &CStr, place: usize, error: EntryError) -> StackError {
        let leaf = (name != c".").then_some(name);
        self.walk.failed(place, leaf, error)
    }

    fn path(&self, name: &CStr) -> Vec<u8> {
        match name.to_bytes() {
            b"." => vec![b'/'],
            _ => self.walk.path(Some(name)),
        }
    }
}

/// The part that decides what is seen.
fn top(merged: &Merged) -> Option<usize> {
    match merged {
        Merged::Nothing => None,
        Merged::Leaf(place) => Some(*place),
        Merged::Folder(places) => places.first().copied(),
    }
}
