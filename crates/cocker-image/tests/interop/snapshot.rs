//! What is in a tree of files, by the standard library and the kernel alone.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub type Snapshot = BTreeMap<PathBuf, Shot>;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Type and permissions.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub modified: (i64, i64),
    pub device: u64,
    /// Of a file or a link.
    pub content: Vec<u8>,
    /// The first of the names that are the same file.
    pub same_as: PathBuf,
    pub attributes: Vec<(String, Vec<u8>)>,
}

/// Everything below a folder, and the folder itself as the empty path.
pub fn snapshot(tree: &Path) -> Snapshot {
    let mut shots = Snapshot::new();
    take(tree, PathBuf::new(), &mut HashMap::new(), &mut shots);
    shots
}

/// What the kernel shows of layers, lowest first.
pub fn merged(layers: &[&Path]) -> Snapshot {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let empty = tempfile::tempdir_in("/var/tmp").unwrap();
    // Without a writable layer the kernel wants two at least.
    let bottom = (layers.len() == 1).then(|| empty.path());
    for layer in layers.iter().rev().copied().chain(bottom) {
        let layer = File::open(layer).unwrap();
        fsconfig_set_fd(overlay.as_fd(), "lowerdir+", layer.as_fd()).unwrap();
    }
    fsconfig_create(overlay.as_fd()).unwrap();
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(overlay.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
    // The mount stands nowhere and goes with its descriptor.
    snapshot(&PathBuf::from(format!(
        "/proc/self/fd/{}/.",
        mount.as_raw_fd()
    )))
}

#[track_caller]
pub fn assert_same(found: &Snapshot, expected: &Snapshot, what: &str) {
    let names = |snapshot: &Snapshot| snapshot.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}");
    for (path, shot) in expected {
        let found = &found[path];
        if found != shot {
            let short = |shot: &Shot| Shot {
                content: shot.content.iter().take(100).copied().collect(),
                ..shot.clone()
            };
            panic!(
                "{what}: {path:?}: {:?} is not {:?}",
                short(found),
                short(shot)
            );
        }
    }
}

fn take(path: &Path, name: PathBuf, seen: &mut HashMap<u64, PathBuf>, shots: &mut Snapshot) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let same_as = match metadata.is_dir() {
        true => name.clone(),
        false => seen.entry(metadata.ino()).or_insert(name.clone()).clone(),
    };
    shots.insert(name.clone(), shot(path, &metadata, same_as));
    if metadata.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for below in names {
            take(&path.join(&below), name.join(&below), seen, shots);
        }
    }
}

fn shot(path: &Path, metadata: &Metadata, same_as: PathBuf) -> Shot {
    let content = match metadata.file_type() {
        kind if kind.is_symlink() => fs::read_link(path).unwrap().as_os_str().as_bytes().into(),
        kind if kind.is_file() => fs::read(path).unwrap(),
        _ => Vec::new(),
    };
    Shot {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        device: metadata.rdev(),
        content,
        same_as,
        attributes: attributes(path),
    }
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut list = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let names = String::from_utf8(list[..length].to_vec()).unwrap();
    let mut attributes: Vec<_> = names
        .split_terminator('\0')
        .filter(|name| !name.starts_with("trusted.overlay."))
        .map(|name| {
            let mut value = vec![0; 64 * 1024];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            value.truncate(length);
            (name.to_owned(), value)
        })
        .collect();
    attributes.sort();
    attributes
}
