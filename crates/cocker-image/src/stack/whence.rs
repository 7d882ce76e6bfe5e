//! Where one path of a stack comes from: what each tree has there, or how it hides what is below it.

use super::Tree;
use super::entry::{
    Entry, EntryError, FileKind, LONGEST_ATTRIBUTE, OpenFolder, is_opaque, is_whiteout, open_folder,
};
use super::error::{StackError, shown};
use crate::descent::open_beneath;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

/// An absolute path of a view, without `.` and `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPath(Vec<CString>);

/// What one tree has to do with a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The tree's place in the stack, from the lowest on, which is 0.
    pub place: usize,
    pub found: Found,
    pub standing: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    File {
        size: u64,
    },
    Folder {
        /// Whether it, or a folder on the way to it, is marked to hide what is below.
        is_opaque: bool,
    },
    Link {
        target: Vec<u8>,
    },
    /// A device, fifo or socket.
    Special(FileKind),
    /// A whiteout.
    Removal,
    /// Not the path itself, but something above it that hides what is below: a whiteout, an opaque folder, or what is
    /// no folder at all.
    Cover,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is what the stack shows.
    Seen,
    /// A folder whose entries are seen together with those of the one above.
    Merged,
    /// Something above hides it.
    Hidden,
    /// It is not seen itself, and nothing below it is.
    Hides,
}

impl ViewPath {
    pub fn parse(path: &[u8]) -> Result<ViewPath, StackError> {
        let path_shown = || shown(path);
        if path.first() != Some(&b'/') {
            return Err(StackError::RelativePath { path: path_shown() });
        }
        let names = path.split(|byte| *byte == b'/');
        let names = names.filter(|name| !matches!(name, [] | [b'.']));
        let names = names.map(|name| match name {
            b".." => Err(StackError::DotDot { path: path_shown() }),
            // No file has a NUL in its name.
            name => CString::new(name).map_err(|_| StackError::Missing { path: path_shown() }),
        });
        names.collect::<Result<_, _>>().map(ViewPath)
    }

    fn shown(&self) -> String {
        shown(&joined(&self.0))
    }
}

/// What the trees of a stack, lowest first, have at `path`; topmost first. Those that have nothing to do with it are
/// left out.
///
/// Links are not followed: one on the way is an error that says where it leads.
pub fn whence(stack: &[Tree<'_>], path: &ViewPath) -> Result<Vec<Trace>, StackError> {
    let mut ways = Vec::new();
    for (place, tree) in stack.iter().enumerate().rev() {
        ways.push((place, follow(tree, path)?));
    }
    refuse_link_on_the_way(&ways, path)?;
    let traces = judge(ways, path.0.len());
    match traces.iter().all(|trace| trace.found == Found::Cover) {
        true => Err(StackError::Missing { path: path.shown() }),
        false => Ok(traces),
    }
}

/// How far one tree leads.
struct Way {
    /// How many of the path's names the tree has as folders, and then what.
    depth: usize,
    end: End,
    /// After how many names the first folder marked opaque stands; the top's mark means nothing.
    opaque_at: Option<usize>,
}

enum End {
    /// All names are folders.
    Folder,
    /// There is nothing under the next name.
    Missing,
    Whiteout,
    Leaf(Found),
}

fn follow(tree: &Tree<'_>, path: &ViewPath) -> Result<Way, StackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let failed = |depth: usize, error: EntryError| {
        let path = joined(&path.0[..depth]);
        match error {
            EntryError::Kernel(errno) => StackError::reading(&path, &tree.label, errno),
            EntryError::LiesElsewhere(attribute) => StackError::LiesElsewhere {
                path: shown(&path),
                tree: tree.label.clone(),
                attribute,
            },
        }
    };
    let top = open_beneath(tree.parent, &tree.path, flags);
    let mut folder = top.map_err(|errno| failed(0, errno.into()))?;
    is_opaque(folder.as_fd()).map_err(|error| failed(0, error))?;
    let mut opaque_at = None;
    for (depth, name) in path.0.iter().enumerate() {
        let next = step(folder.as_fd(), name).map_err(|error| failed(depth + 1, error))?;
        match next {
            Step::Into(next) => {
                folder = next.folder;
                if next.is_opaque && opaque_at.is_none() {
                    opaque_at = Some(depth + 1);
                }
            }
            Step::End(end) => {
                return Ok(Way {
                    depth,
                    end,
                    opaque_at,
                });
            }
        }
    }
    Ok(Way {
        depth: path.0.len(),
        end: End::Folder,
        opaque_at,
    })
}

enum Step {
    Into(OpenFolder),
    End(End),
}

fn step(folder: BorrowedFd<'_>, name: &CString) -> Result<Step, EntryError> {
    let entry = match Entry::hold(folder, name) {
        Ok(Some(entry)) => entry,
        Ok(None) | Err(Errno::NAMETOOLONG) => return Ok(Step::End(End::Missing)),
        Err(errno) => return Err(errno.into()),
    };
    let found = match entry.kind() {
        FileKind::Folder => {
            return Ok(match open_folder(folder, name)? {
                Some(opened) => Step::Into(opened),
                None => Step::End(End::Missing),
            });
        }
        _ if is_whiteout(folder, name, &entry.stat)? => {
            return Ok(Step::End(End::Whiteout));
        }
        FileKind::File => {
            entry.attribute_names(&mut vec![0; LONGEST_ATTRIBUTE])?;
            Found::File {
                size: u64::try_from(entry.stat.st_size).unwrap_or(0),
            }
        }
        FileKind::Link => Found::Link {
            target: entry.target()?.into_bytes(),
        },
        special => Found::Special(special),
    };
    Ok(Step::End(End::Leaf(found)))
}

/// The first of the folders on the way decides; where the stack shows a link instead, the path means another place.
fn refuse_link_on_the_way(ways: &[(usize, Way)], path: &ViewPath) -> Result<(), StackError> {
    for depth in 1..path.0.len() {
        for (_, way) in ways {
            match &way.end {
                _ if way.depth >= depth => break,
                End::Leaf(Found::Link { target }) if way.depth + 1 == depth => {
                    let link = &path.0[..depth];
                    return Err(StackError::LinkOnTheWay {
                        path: path.shown(),
                        link: shown(&joined(link)),
                        target: shown(target),
                        instead: shown(&followed(link, target, &path.0[depth..])),
                    });
                }
                End::Missing if way.opaque_at.is_none() => {}
                _ => break,
            }
        }
    }
    Ok(())
}

/// Where a path leads when its link is followed; only text, whatever links are on the new way.
fn followed(link: &[CString], target: &[u8], rest: &[CString]) -> Vec<u8> {
    let parent = match target.first() {
        Some(b'/') => &[],
        _ => &link[..link.len() - 1],
    };
    let mut names: Vec<&[u8]> = parent.iter().map(|name| name.to_bytes()).collect();
    let target = target.split(|byte| *byte == b'/');
    for name in target.chain(rest.iter().map(|name| name.to_bytes())) {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// From the topmost down: what is seen, what is merged with it, and what is hidden by what was met before.
fn judge(ways: Vec<(usize, Way)>, length: usize) -> Vec<Trace> {
    let mut traces = Vec::new();
    let (mut is_covered, mut has_folder) = (false, false);
    for (place, way) in ways {
        let has_opaque = way.opaque_at.is_some();
        let is_at_path = way.depth + 1 >= length;
        let (found, covers) = match way.end {
            End::Missing if !has_opaque => continue,
            End::Missing => (Found::Cover, true),
            End::Whiteout if is_at_path => (Found::Removal, true),
            End::Leaf(found) if is_at_path => (found, true),
            End::Whiteout | End::Leaf(_) => (Found::Cover, true),
            End::Folder => {
                let is_opaque = way.opaque_at.is_some();
                (Found::Folder { is_opaque }, is_opaque)
            }
        };
        let standing = match &found {
            _ if is_covered => Standing::Hidden,
            Found::Removal | Found::Cover => Standing::Hides,
            Found::Folder { .. } if has_folder => Standing::Merged,
            // What is no folder cannot be merged with the folder above.
            _ if has_folder => Standing::Hidden,
            _ => Standing::Seen,
        };
        has_folder |= matches!(found, Found::Folder { .. });
        is_covered |= covers;
        traces.push(Trace {
            place,
            found,
            standing,
        });
    }
    traces
}

fn joined(names: &[CString]) -> Vec<u8> {
    let mut path = Vec::new();
    for name in names {
        path.push(b'/');
        path.extend_from_slice(name.to_bytes());
    }
    path
}
