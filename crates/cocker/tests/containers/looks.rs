//! Trees of files as any program sees them, for comparing one with another: everything about every file, by its path.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What must stay the same of one file.
#[derive(PartialEq, Eq)]
pub enum Look {
    /// All that counts of it is that it is there.
    Whiteout,
    Other {
        mode: u32,
        owner: (u32, u32),
        /// Seconds and nanoseconds.
        changed: (i64, i64),
        device: u64,
        /// Bytes of a file, or the target of a link.
        content: Vec<u8>,
        attributes: BTreeMap<Vec<u8>, Vec<u8>>,
        /// The first name of the same file.
        same_as: Vec<u8>,
    },
}

pub type Looks = BTreeMap<Vec<u8>, Look>;

/// All files below a folder by their paths, and the folder itself under an empty one.
pub fn look_at(top: &Path) -> Looks {
    look_around(top, &[])
}

/// The same without these, and what is below them.
pub fn look_around(top: &Path, left_out: &[&str]) -> Looks {
    let mut paths = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let at = top.join(&path);
        if at.symlink_metadata().expect("it is there").is_dir() {
            let entries = fs::read_dir(&at).expect("it is ours");
            let below = entries.map(|entry| path.join(entry.expect("it is ours").file_name()));
            waiting.extend(below.filter(|path| !left_out.iter().any(|it| path == Path::new(it))));
        }
        paths.push(path);
    }
    paths.sort();
    let mut first_names = HashMap::new();
    let mut looks = Looks::new();
    for path in paths {
        let name = path.as_os_str().as_bytes().to_vec();
        let look = look(&top.join(&path), &name, &mut first_names);
        looks.insert(name, look);
    }
    looks
}

fn look(path: &Path, name: &[u8], first_names: &mut HashMap<u64, Vec<u8>>) -> Look {
    // A slash at the end of the top's path would be nothing to a link.
    let stat = fs::symlink_metadata(path).expect("it is there");
    let kind = stat.file_type();
    if kind.is_char_device() && stat.rdev() == 0 {
        return Look::Whiteout;
    }
    let first = first_names.entry(stat.ino());
    Look::Other {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        changed: (stat.mtime(), stat.mtime_nsec()),
        device: match kind.is_char_device() || kind.is_block_device() {
            true => stat.rdev(),
            false => 0,
        },
        content: match kind {
            kind if kind.is_file() => fs::read(path).expect("it is ours"),
            kind if kind.is_symlink() => {
                let target = fs::read_link(path).expect("it is ours");
                target.as_os_str().as_bytes().to_vec()
            }
            _ => Vec::new(),
        },
        attributes: attributes(path),
        same_as: first.or_insert_with(|| name.to_vec()).clone(),
    }
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("it is ours");
    let names = names[..length].split(|&byte| byte == 0);
    let value = |name: &[u8]| {
        let mut value = vec![0; 1 << 16];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).expect("it is ours");
        value.truncate(length);
        value
    };
    names
        .filter(|name| !name.is_empty())
        .map(|name| (name.to_vec(), value(name)))
        .collect()
}

/// What the kernel shows of two or more layers, lowest first.
pub fn look_at_merged(layers: &[PathBuf]) -> Looks {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).expect("the kernel has it");
    for layer in layers.iter().rev() {
        let layer = File::open(layer).expect("it is there");
        fsconfig_set_fd(overlay.as_fd(), "lowerdir+", layer.as_fd()).expect("it is a layer");
    }
    fsconfig_create(overlay.as_fd()).expect("they are layers");
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(overlay.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY);
    let mount = mount.expect("the overlay is whole");
    // The mount stands nowhere and goes with its descriptor.
    look_at(&PathBuf::from(format!(
        "/proc/self/fd/{}/.",
        mount.as_raw_fd()
    )))
}

/// Where two trees differ, one line for each path and side; empty when they are equal.
pub fn differences(one: &Looks, other: &Looks) -> String {
    let paths: BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let mut told = String::new();
    for path in paths {
        let (one, other) = (one.get(path), other.get(path));
        if one != other {
            let shown = |look: Option<&Look>| look.map_or("nothing".into(), Look::shown);
            let path = path.escape_ascii();
            told.push_str(&format!("{path}\n  {}\n  {}\n", shown(one), shown(other)));
        }
    }
    told
}

impl Look {
    fn shown(&self) -> String {
        let Look::Other {
            mode,
            owner,
            changed,
            device,
            content,
            attributes,
            same_as,
        } = self
        else {
            return "a whiteout".into();
        };
        let begin = content[..content.len().min(40)].escape_ascii();
        let names = attributes
            .iter()
            .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
        format!(
            "{mode:o} {owner:?} {changed:?} device {device}, {} bytes {begin}…, {}, as {}",
            content.len(),
            names.collect::<Vec<_>>().join(" "),
            same_as.escape_ascii()
        )
    }
}
