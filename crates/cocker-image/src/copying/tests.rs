//! Copies are compared with their source by path, file by file, by code that shares nothing with the copying.

use super::*;
use crate::removal::remove_tree;
use rustix::fs::{
    AtFlags, CWD, XattrFlags, lgetxattr, llistxattr, lsetxattr, makedev, mknodat, openat, utimensat,
};
use std::collections::BTreeMap;
use std::fs::{self, File as StdFile};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// All that is known of one file, but for the contents of folders and the numbers of inodes.
#[derive(Debug, PartialEq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    links: u64,
    modified: (i64, i64),
    contents: Vec<u8>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// Every file below `top` by its path, and which paths are names of one file.
fn look(top: &Path) -> (BTreeMap<PathBuf, Seen>, Vec<Vec<PathBuf>>) {
    let mut seen = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = top.join(&path);
        let stat = full.symlink_metadata().unwrap();
        let contents = match stat.file_type() {
            kind if kind.is_file() => fs::read(&full).unwrap(),
            kind if kind.is_symlink() => fs::read_link(&full)
                .unwrap()
                .into_os_string()
                .into_encoded_bytes(),
            kind => {
                if kind.is_dir() {
                    let entries = fs::read_dir(&full).unwrap();
                    waiting.extend(entries.map(|entry| path.join(entry.unwrap().file_name())));
                }
                Vec::new()
            }
        };
        if !stat.is_dir() {
            names.entry(stat.ino()).or_default().push(path.clone());
        }
        let one = Seen {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            device: stat.rdev(),
            links: if stat.is_dir() { 0 } else { stat.nlink() },
            modified: (stat.mtime(), stat.mtime_nsec()),
            contents,
            attributes: attributes_of(&full),
        };
        seen.insert(path, one);
    }
    let mut names: Vec<_> = names
        .into_values()
        .filter(|paths| paths.len() > 1)
        .collect();
    names.iter_mut().for_each(|paths| paths.sort());
    names.sort();
    (seen, names)
}

fn attributes_of(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    let of = |name: &[u8]| {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let mut value = vec![0; 65536];
        let length = lgetxattr(path, &name, &mut value[..]).unwrap();
        value.truncate(length);
        (name, value)
    };
    names.map(of).collect()
}

fn copy(from: &Path, to: &Path) -> Result<Copied, CopyError> {
    fs::create_dir(to).unwrap();
    let (from, to) = (StdFile::open(from).unwrap(), StdFile::open(to).unwrap());
    copy_tree(from.as_fd(), to.as_fd())
}

fn set(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// A tree with one of everything that a layer may hold.
fn fill(top: &Path) {
    let path = |name: &str| top.join(name);
    fs::create_dir_all(path("etc/deep/deeper")).unwrap();
    fs::create_dir(path("opaque")).unwrap();
    set(&path("opaque"), "trusted.overlay.opaque", b"y");
    fs::write(path(".hidden"), b"dot").unwrap();
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("etc/passwd"), vec![b'x'; 700_000]).unwrap();
    fs::write(path("etc/deep/odd \n\x07 name"), b"odd").unwrap();
    fs::write(path(&"n".repeat(255)), b"long").unwrap();
    let sparse = StdFile::create(path("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"middle", 20 << 20).unwrap();
    fs::write(path("ping"), b"program").unwrap();
    lchown(path("ping"), Some(1000), Some(70_000)).unwrap();
    fs::set_permissions(path("ping"), PermissionsExt::from_mode(0o6755)).unwrap();
    // VFS_CAP_REVISION_2, effective, with CAP_NET_RAW permitted (linux/capability.h).
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    fs::write(path("capable"), b"program").unwrap();
    set(&path("capable"), "security.capability", &capability);
    set(&path("etc"), "user.note", b"folder\0value");
    set(&path("empty"), "user.note", b"");
    // An access list that lets user 7 read (linux/posix_acl_xattr.h): version, then tag, permissions and id each.
    let list: Vec<u8> = [
        &[2, 0, 0, 0][..],
        &[1, 0, 6, 0, 255, 255, 255, 255],
        &[2, 0, 4, 0, 7, 0, 0, 0],
        &[4, 0, 4, 0, 255, 255, 255, 255],
        &[16, 0, 4, 0, 255, 255, 255, 255],
        &[32, 0, 0, 0, 255, 255, 255, 255],
    ]
    .concat();
    set(&path(".hidden"), "system.posix_acl_access", &list);
    set(&path("etc/deep"), "system.posix_acl_default", &list);
    symlink("/../../etc/passwd", path("link")).unwrap();
    lchown(path("link"), Some(5), Some(6)).unwrap();
    set(&path("link"), "trusted.note", b"of the link");
    fs::hard_link(path("ping"), path("etc/pong")).unwrap();
    fs::hard_link(path("ping"), path("etc/deep/deeper/pong")).unwrap();
    fs::hard_link(path("link"), path("etc/link too")).unwrap();
    for (name, kind, mode, device) in [
        ("gone", FileType::CharacterDevice, 0, 0),
        ("disk", FileType::BlockDevice, 0o660, makedev(8, 1)),
        ("fifo", FileType::Fifo, 0o622, 0),
        ("socket", FileType::Socket, 0o777, 0),
    ] {
        mknodat(CWD, path(name), kind, Mode::from_raw_mode(mode), device).unwrap();
        fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    fs::set_permissions(path("etc/deep"), PermissionsExt::from_mode(0o1777)).unwrap();
    lchown(path("etc/deep"), Some(42), Some(43)).unwrap();
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 1,
            tv_nsec: 2,
        },
        last_modification: Timespec {
            tv_sec: -1_000_000,
            tv_nsec: 123_456_789,
        },
    };
    for name in ["etc/deep", "link", "fifo", "empty", "etc", "."] {
        utimensat(CWD, path(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn a_copy_has_everything_that_its_source_has() {
    let outer = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = outer.path().join("source");
    fs::create_dir(&source).unwrap();
    fill(&source);
    let copied = copy(&source, &outer.path().join("copy")).unwrap();
    let before = look(&source);
    assert_eq!(look(&outer.path().join("copy")), before);
    assert_eq!(copied.entries as usize, before.0.len() - 1);
    let blocks = |name: &str| outer.path().join(name).metadata().unwrap().blocks();
    assert!(
        blocks("copy/sparse") <= blocks("source/sparse"),
        "holes stay holes"
    );
}

#[test]
fn an_attribute_that_says_where_layers_lie_is_left_behind() {
    let outer = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = outer.path().join("source");
    fs::create_dir_all(source.join("moved")).unwrap();
    set(&source.join("moved"), "trusted.overlay.redirect", b"/etc");
    set(&source.join("moved"), "trusted.overlay.origin", b"\x00");
    set(&source.join("moved"), "trusted.kept", b"1");
    copy(&source, &outer.path().join("copy")).unwrap();
    let found = attributes_of(&outer.path().join("copy/moved"));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["trusted.kept"]);
}

#[test]
fn depth_costs_neither_descriptors_nor_stack() {
    const DEPTH: usize = 5000;
    let outer = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = outer.path().join("source");
    fs::create_dir(&source).unwrap();
    let mut folder: OwnedFd = StdFile::open(&source).unwrap().into();
    for _ in 0..DEPTH {
        mkdirat(&folder, "d", Mode::RWXU).unwrap();
        let flags = OFlags::CREATE | OFlags::CLOEXEC;
        openat(&folder, "file", flags, Mode::RUSR).unwrap();
        folder = openat(
            &folder,
            "d",
            OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
    }
    let to = outer.path().join("copy");
    let thread = std::thread::Builder::new().stack_size(256 * 1024);
    let copied = thread
        .spawn(move || copy(&source, &to).unwrap())
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(copied.entries as usize, 2 * DEPTH);
    // Beyond what the standard library can remove.
    let outer = StdFile::open(outer.path()).unwrap();
    for name in ["source", "copy"] {
        remove_tree(outer.as_fd(), name).unwrap();
    }
}

#[test]
fn the_error_names_the_entry() {
    let outer = tempfile::tempdir_in("/var/tmp").unwrap();
    let source = outer.path().join("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    fs::create_dir_all(outer.path().join("copy/a")).unwrap();
    let (from, to) = (
        StdFile::open(&source).unwrap(),
        StdFile::open(outer.path().join("copy")).unwrap(),
    );
    let error = copy_tree(from.as_fd(), to.as_fd()).unwrap_err();
    assert_eq!(error.to_string(), "cannot copy `./a`");
}
