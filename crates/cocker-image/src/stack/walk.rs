//! The way from the tops of several trees down to one folder that is in some of them, merged for two stacks at once.
//!
//! For each level of the way the names still to come are in memory, and who the folders are (device and inode); which of
//! them are open is the business of [`descriptors`]. So depth costs no stack, and width no more than one folder's names at
//! each level.

mod descriptors;

pub(super) use descriptors::room_for_folders;

use descriptors::read_entries;

use super::Tree;
use super::entry::{EntryError, FileKind, is_whiteout, open_folder, vanished};
use super::error::StackError;
use rustix::fs::{AtFlags, Stat, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// How many of the folders that one name stands for are open before one of them is entered.
const MOST_OPEN_AHEAD: usize = 64;
/// Bytes of directory entries read at once.
const ENTRY_BYTES: usize = 32 * 1024;

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
}
