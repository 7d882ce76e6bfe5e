//! The way from the tops of several trees down to one folder that is in some of them, merged for two stacks at once.
//!
//! For each level of the way the names still to come are in memory, and who the folders are (device and inode). Their
//! descriptors are a cache of bounded size: the highest folders are closed first, and one that is needed again is found
//! as `..` of the one below it, or by the names that led to it; it must be the same one. So neither depth nor the number
//! of trees can exhaust descriptors or a stack.

use super::Tree;
use super::entry::{EntryError, FileKind, is_opaque, is_whiteout, open_folder, vanished};
use super::error::StackError;
use crate::descent::open_beneath;
use rustix::fs::{AtFlags, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many of the folders that one name stands for are open before one of them is entered.
const MOST_OPEN_AHEAD: usize = 64;
/// The most and the least folders of the way that are open at once.
const MOST_OPEN: usize = 4096;
const LEAST_OPEN: usize = 64;
/// Bytes of directory entries read at once.
const ENTRY_BYTES: usize = 32 * 1024;
/// The kernel takes paths below 4096 bytes.
const LONGEST_STEP: usize = 3072;

/// Which of two stacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Older,
    Newer,
}

/// What a stack shows under a name. Places are those of [`Walk`]'s current folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    Nothing,
    Leaf(usize),
    /// The folders that are merged, topmost first.
    Folder(Vec<usize>),
}

pub(super) struct Walk<'a> {
    trees: Vec<Tree<'a>>,
    levels: Vec<Level>,
    /// Of the current folder; empty at the top.
    path: Vec<u8>,
    open: usize,
    /// How many may be open.
    room: usize,
    /// No folder above this level is open.
    highest_open: usize,
    buffer: Vec<u8>,
}

struct Level {
    name: CString,
    folders: Vec<Folder>,
    /// For each side, which of `folders` are merged, topmost first.
    sides: [Vec<usize>; 2],
    names: std::vec::IntoIter<CString>,
}

/// One tree's part in a merged folder.
struct Folder {
    tree: usize,
    /// Device and inode; unknown of a top that was never opened.
    identity: Option<(u64, u64)>,
    is_opaque: bool,
    open: Option<OwnedFd>,
}

/// What the current folders have under one name, each asked at most once.
pub(super) struct Looks {
    name: CString,
    seen: Vec<Option<Seen>>,
    open: usize,
}

enum Seen {
    Nothing,
    Whiteout,
    Leaf,
    Folder(Folder),
}

/// How many folders a walk may have open: half of what this process may.
pub(super) fn room_for_folders() -> usize {
    let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(allowed / 2).map_or(MOST_OPEN, |half| half.clamp(LEAST_OPEN, MOST_OPEN))
}

impl<'a> Walk<'a> {
    /// Starts at the tops of two stacks, each lowest first.
    pub fn new(older: &[Tree<'a>], newer: &[Tree<'a>], room: usize) -> Walk<'a> {
        let mut trees: Vec<Tree<'a>> = Vec::new();
        let mut places = |stack: &[Tree<'a>]| -> Vec<usize> {
            let topmost_first = stack.iter().rev();
            topmost_first
                .map(|tree| {
                    let known = trees.iter().position(|other| other == tree);
                    known.unwrap_or_else(|| {
                        trees.push(tree.clone());
                        trees.len() - 1
                    })
                })
                .collect()
        };
        let sides = [places(older), places(newer)];
        let tops = (0..trees.len()).map(|tree| Folder {
            tree,
            identity: None,
            is_opaque: false,
            open: None,
        });
        let top = Level {
            name: CString::default(),
            folders: tops.collect(),
            sides,
            names: Vec::new().into_iter(),
        };
        Walk {
            trees,
            levels: vec![top],
            path: Vec::new(),
            open: 0,
            room,
            highest_open: 0,
            buffer: Vec::with_capacity(ENTRY_BYTES),
        }
    }

    /// The places of the current folder's parts on one side, topmost first.
    pub fn side(&self, side: Side) -> &[usize] {
        &self.current().sides[side as usize]
    }

    /// The path of the current folder, or of one of its entries.
    pub fn path(&self, leaf: Option<&CStr>) -> Vec<u8> {
        let mut path = self.path.clone();
        if let Some(leaf) = leaf {
            path.push(b'/');
            path.extend_from_slice(leaf.to_bytes());
        }
        path
    }

    /// Reads the names of the current folder that the two sides may see differently, sorted: what is only in parts that
    /// both have, at the bottom of each, is the same for both.
    pub fn read_names(&mut self) -> Result<(), StackError> {
        let [older, newer] = &self.current().sides;
        let shared = older.iter().rev().zip(newer.iter().rev());
        let shared = shared.take_while(|(one, other)| one == other).count();
        let own = |side: &[usize]| side[..side.len() - shared].to_vec();
        let mut places = [own(older), own(newer)].concat();
        places.sort_unstable();
        places.dedup();
        let mut names = Vec::new();
        for place in places {
            self.read_names_of(place, &mut names)
                .map_err(|errno| self.failed(place, None, errno))?;
        }
        names.sort_unstable();
        names.dedup();
        self.current_mut().names = names.into_iter();
        Ok(())
    }

    /// The next of the names read.
    pub fn next_name(&mut self) -> Option<CString> {
        self.current_mut().names.next()
    }

    /// Begins to look at a name in the current folders.
    pub fn look(&self, name: CString) -> Looks {
        let mut seen = Vec::new();
        seen.resize_with(self.current().folders.len(), || None);
        Looks {
            name,
            seen,
            open: 0,
        }
    }

    /// What one side shows under the name.
    pub fn merge(&mut self, looks: &mut Looks, side: Side) -> Result<Merged, StackError> {
        let mut merged = Vec::new();
        for index in 0..self.side(side).len() {
            let place = self.side(side)[index];
            if looks.seen[place].is_none() {
                let seen = self
                    .see(place, looks)
                    .map_err(|error| self.failed(place, Some(&looks.name), error))?;
                looks.seen[place] = Some(seen);
            }
            match &looks.seen[place] {
                None | Some(Seen::Nothing) => {}
                Some(Seen::Whiteout) => break,
                Some(Seen::Leaf) if merged.is_empty() => return Ok(Merged::Leaf(place)),
                Some(Seen::Leaf) => break,
                Some(Seen::Folder(folder)) => {
                    merged.push(place);
                    if folder.is_opaque {
                        break;
                    }
                }
            }
        }
        Ok(match merged.is_empty() {
            true => Merged::Nothing,
            false => Merged::Folder(merged),
        })
    }

    /// Goes into the folders that one name stands for on both sides; there is at least one.
    pub fn enter(&mut self, looks: Looks, older: &[usize], newer: &[usize]) {
        let mut folders = Vec::new();
        let mut new_places = vec![None; looks.seen.len()];
        for (place, seen) in looks.seen.into_iter().enumerate() {
            let is_merged = older.contains(&place) || newer.contains(&place);
            if let (Some(Seen::Folder(folder)), true) = (seen, is_merged) {
                new_places[place] = Some(folders.len());
                self.open += usize::from(folder.open.is_some());
                folders.push(folder);
            }
        }
        let renumbered = |side: &[usize]| -> Vec<usize> {
            side.iter().filter_map(|place| new_places[*place]).collect()
        };
        let sides = [renumbered(older), renumbered(newer)];
        self.path.push(b'/');
        self.path.extend_from_slice(looks.name.to_bytes());
        self.levels.push(Level {
            name: looks.name,
            folders,
            sides,
            names: Vec::new().into_iter(),
        });
        self.make_room(None);
    }

    /// Goes back up; false at the tops, which are never left.
    pub fn leave(&mut self) -> bool {
        if self.levels.len() < 2 {
            return false;
        }
        let left = self.levels.pop().expect("there are two");
        self.path
            .truncate(self.path.len() - left.name.as_bytes().len() - 1);
        self.open -= left.folders.iter().filter(|it| it.open.is_some()).count();
        for below in left.folders {
            self.open_above(&below);
        }
        true
    }

    /// The open folder at a place; `None` where it went away.
    pub fn folder(&mut self, place: usize) -> Result<Option<BorrowedFd<'_>>, EntryError> {
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

    /// The error about an entry of the folder at a place, or about the folder itself.
    pub fn failed(
        &self,
        place: usize,
        leaf: Option<&CStr>,
        error: impl Into<EntryError>,
    ) -> StackError {
        let tree = &self.trees[self.current().folders[place].tree].label;
        let path = self.path(leaf);
        match error.into() {
            EntryError::Kernel(errno) => StackError::reading(&path, tree, errno),
            EntryError::LiesElsewhere(attribute) => StackError::LiesElsewhere {
                path: super::error::shown(&path),
                tree: tree.clone(),
                attribute,
            },
        }
    }

    fn current(&self) -> &Level {
        self.levels.last().expect("the tops are never left")
    }

    fn current_mut(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the tops are never left")
    }

    fn see(&mut self, place: usize, looks: &mut Looks) -> Result<Seen, EntryError> {
        let tree = self.current().folders[place].tree;
        let Some(folder) = self.folder(place)? else {
            return Ok(Seen::Nothing);
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat: Stat = match vanished(statat(folder, &looks.name, flags)) {
            Ok(Some(stat)) => stat,
            // A name that its own folder has can be too long for another file system's.
            Ok(None) | Err(Errno::NAMETOOLONG) => return Ok(Seen::Nothing),
            Err(errno) => return Err(errno.into()),
        };
        if FileKind::of(&stat) != FileKind::Folder {
            return Ok(match is_whiteout(folder, &looks.name, &stat)? {
                true => Seen::Whiteout,
                false => Seen::Leaf,
            });
        }
        let Some(opened) = open_folder(folder, &looks.name)? else {
            return Ok(Seen::Nothing);
        };
        let is_kept = looks.open < MOST_OPEN_AHEAD;
        looks.open += usize::from(is_kept);
        Ok(Seen::Folder(Folder {
            tree,
            identity: Some((opened.stat.st_dev, opened.stat.st_ino)),
            is_opaque: opened.is_opaque,
            open: is_kept.then_some(opened.folder),
        }))
    }

    fn read_names_of(&mut self, place: usize, names: &mut Vec<CString>) -> Result<(), EntryError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let answer = match self.folder(place) {
            Ok(Some(folder)) => read_entries(folder, &mut buffer, names).map_err(Into::into),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.buffer = buffer;
        answer
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

    /// Opens the same tree's part of the current folder by way of an open one below it, where that is still there.
    fn open_above(&mut self, below: &Folder) {
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
    fn make_room(&mut self, kept: Option<usize>) {
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

fn read_entries(
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
