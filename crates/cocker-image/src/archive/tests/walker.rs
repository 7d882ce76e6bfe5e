//! Looks at a tree by paths, as any program would.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Everything about one file that an archive keeps.
#[derive(PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub device: u64,
    pub content: Content,
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the same file.
    pub same_as: Vec<u8>,
}

#[derive(PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    Target(Vec<u8>),
    None,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Content::Bytes(bytes) => {
                write!(f, "{} bytes, {}", bytes.len(), crate::Digest::of(bytes))
            }
            Content::Target(target) => write!(f, "to {}", target.escape_ascii()),
            Content::None => f.write_str("none"),
        }
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:o} {:?} {:?} {}",
            self.mode, self.owner, self.mtime, self.device
        )?;
        write!(f, " {:?} = {}", self.content, self.same_as.escape_ascii())?;
        for (name, value) in &self.attributes {
            write!(f, ", {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        Ok(())
    }
}

/// Where two trees differ, one line for each path and side; empty when they are equal.
pub fn differences(one: &Tree, other: &Tree) -> String {
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let mut told = String::new();
    for path in paths {
        let (one, other) = (one.get(path), other.get(path));
        if one != other {
            let path = path.escape_ascii();
            told.push_str(&format!("{path}\n  {one:?}\n  {other:?}\n"));
        }
    }
    told
}

pub type Tree = BTreeMap<Vec<u8>, Seen>;

/// All files below a folder by their paths, and the folder itself under an empty one.
pub fn look_at(top: &Path) -> Tree {
    let mut paths = Vec::new();
    collect(top, b"", &mut paths);
    paths.sort();
    let mut first_names = HashMap::new();
    let mut seen = BTreeMap::new();
    for path in paths {
        let at = top.join(std::ffi::OsStr::from_bytes(&path));
        let stat = fs::symlink_metadata(&at).unwrap();
        let first: &mut Vec<u8> = first_names
            .entry(stat.ino())
            .or_insert_with(|| path.clone());
        let is_whiteout = stat.file_type().is_char_device() && stat.rdev() == 0;
        // All that counts of a whiteout is that it is there.
        let (mode, owner, mtime, same_as) = match is_whiteout {
            true => (0, (0, 0), (0, 0), path.clone()),
            false => (
                stat.mode(),
                (stat.uid(), stat.gid()),
                (stat.mtime(), stat.mtime_nsec()),
                first.clone(),
            ),
        };
        let content = match stat.file_type() {
            kind if kind.is_file() => Content::Bytes(fs::read(&at).unwrap()),
            kind if kind.is_symlink() => {
                Content::Target(fs::read_link(&at).unwrap().as_os_str().as_bytes().to_vec())
            }
            _ => Content::None,
        };
        let device = match stat.file_type() {
            kind if kind.is_char_device() || kind.is_block_device() => stat.rdev(),
            _ => 0,
        };
        seen.insert(
            path,
            Seen {
                mode,
                owner,
                mtime,
                device,
                content,
                attributes: attributes(&at),
                same_as,
            },
        );
    }
    seen
}

/// Finds all paths.
fn collect(top: &Path, below: &[u8], paths: &mut Vec<Vec<u8>>) {
    paths.push(below.to_vec());
    let at = top.join(std::ffi::OsStr::from_bytes(below));
    if !fs::symlink_metadata(&at).unwrap().is_dir() {
        return;
    }
    for entry in fs::read_dir(&at).unwrap() {
        let name = entry.unwrap().file_name();
        let path = match below {
            b"" => name.as_bytes().to_vec(),
            below => [below, b"/", name.as_bytes()].concat(),
        };
        collect(top, &path, paths);
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut attributes = BTreeMap::new();
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        attributes.insert(name.to_vec(), value);
    }
    attributes
}
