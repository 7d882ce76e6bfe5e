//! The plan of a tree: what will stand at which path. Plain data, so it can be compared, measured and tested without
//! writing anything; `tree.rs` carries it out.
//!
//! Paths are absolute and sorted, so a folder comes before what is in it. What was put first at a path stays.

use std::{
    collections::{BTreeMap, HashSet, btree_map},
    path::{Component, Path, PathBuf},
};

use super::host::{Found, HostFile, Identity, Trail, is_covered};

/// What file systems round a file's size up to.
const BLOCK: u64 = 4096;

/// Links that are followed for one path at most.
const LINKS_AT_MOST: usize = 40;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Folder {
        mode: u32,
    },
    Link {
        target: PathBuf,
    },
    /// A copy of the host's file at the same physical path.
    Copy(HostFile),
    Text {
        content: String,
        mode: u32,
    },
}

impl Plan {
    /// Puts `entry` at `path`, unless something is there.
    pub(super) fn add(&mut self, path: impl Into<PathBuf>, entry: Entry) {
        self.entries.entry(path.into()).or_insert(entry);
    }

    pub(super) fn add_folder(&mut self, path: impl Into<PathBuf>, mode: u32) {
        self.add(path, Entry::Folder { mode });
    }

    pub(super) fn add_link(&mut self, path: impl Into<PathBuf>, target: impl Into<PathBuf>) {
        let target = target.into();
        self.add(path, Entry::Link { target });
    }

    pub(super) fn add_text(
        &mut self,
        path: impl Into<PathBuf>,
        content: impl Into<String>,
        mode: u32,
    ) {
        let content = content.into();
        self.add(path, Entry::Text { content, mode });
    }

    /// Adds the links of `trail` and what it leads to. Devices, fifos and sockets are left out, and so is all that a
    /// booted container would cover.
    pub(super) fn add_trail(&mut self, trail: &Trail) {
        for link in &trail.links {
            if !is_covered(&link.place) {
                self.add_link(&link.place, &link.target);
            }
        }
        for folder in &trail.detours {
            self.add_folder(folder, 0o755);
        }
        if is_covered(&trail.end) || trail.end == Path::new("/") {
            return;
        }
        match &trail.found {
            Found::Folder => self.add_folder(&trail.end, 0o755),
            Found::File(file) => self.add(&trail.end, Entry::Copy(file.clone())),
            Found::Other => {}
        }
    }

    /// Adds all of `other`.
    pub(super) fn merge(&mut self, other: Plan) {
        for (path, entry) in other.entries {
            self.add(path, entry);
        }
    }

    /// Where `path` physically lies in this plan: links among its parents are followed, its last name is not. What the
    /// image adds on its own account is placed so, since the host decides which folders are links.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        let mut path = path.to_path_buf();
        for _ in 0..LINKS_AT_MOST {
            let Some((link, target)) = self.linked_parent(&path) else {
                break;
            };
            let rest = path.strip_prefix(link).unwrap_or(Path::new(""));
            let folder = link.parent().unwrap_or(Path::new("/"));
            path = without_dots(&folder.join(target).join(rest));
        }
        path
    }

    fn linked_parent<'a>(&'a self, path: &'a Path) -> Option<(&'a Path, &'a Path)> {
        let mut parents: Vec<&Path> = path.ancestors().skip(1).collect();
        parents.reverse();
        parents
            .into_iter()
            .find_map(|parent| match self.entries.get(parent)? {
                Entry::Link { target } => Some((parent, target.as_path())),
                _ => None,
            })
    }

    pub(super) fn entries(&self) -> btree_map::Iter<'_, PathBuf, Entry> {
        self.entries.iter()
    }

    /// Bytes of content, each file counted once whatever its number of names.
    pub(super) fn bytes(&self) -> u64 {
        self.sum(&HashSet::new(), |size| size)
    }

    /// Bytes on disk, in whole blocks.
    pub(super) fn space(&self) -> u64 {
        self.space_beside(&Plan::default())
    }

    /// Bytes on disk that this plan needs where `other` is there already.
    pub(super) fn space_beside(&self, other: &Plan) -> u64 {
        self.sum(&other.identities(), |size| {
            size.next_multiple_of(BLOCK).max(BLOCK)
        })
    }

    fn identities(&self) -> HashSet<Identity> {
        self.entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Copy(file) => Some(file.identity),
                _ => None,
            })
            .collect()
    }

    fn sum(&self, known: &HashSet<Identity>, weigh: impl Fn(u64) -> u64) -> u64 {
        let mut counted = HashSet::new();
        self.entries
            .values()
            .map(|entry| match entry {
                Entry::Copy(file)
                    if !known.contains(&file.identity) && counted.insert(file.identity) =>
                {
                    weigh(file.size)
                }
                Entry::Text { content, .. } => weigh(content.len() as u64),
                Entry::Copy(_) | Entry::Folder { .. } | Entry::Link { .. } => 0,
            })
            .sum()
    }
}

/// Takes `.` and `..` out of an absolute path whose parents are no links.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_lands_behind_the_hosts_links() {
        let mut plan = Plan::default();
        plan.add_link("/bin", "usr/bin");
        plan.add_link("/usr/local", "../var/usrlocal");
        plan.add_link("/loop", "loop");
        let place = |path| plan.place(Path::new(path));
        assert_eq!(place("/bin/sh"), Path::new("/usr/bin/sh"));
        assert_eq!(place("/bin"), Path::new("/bin"));
        assert_eq!(
            place("/usr/local/bin/vi"),
            Path::new("/var/usrlocal/bin/vi")
        );
        assert_eq!(place("/etc/passwd"), Path::new("/etc/passwd"));
        // A loop of links ends too, wherever.
        place("/loop/x");
    }

    #[test]
    fn the_first_entry_at_a_path_stays() {
        let mut plan = Plan::default();
        plan.add_link("/bin", "usr/bin");
        plan.add_folder("/bin", 0o755);
        let (_, entry) = plan.entries().next().unwrap();
        assert!(matches!(entry, Entry::Link { .. }));
    }
}
