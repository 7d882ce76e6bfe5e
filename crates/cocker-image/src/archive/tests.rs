//! Archives against the real kernel: what comes out is looked at by paths and without the code under test.

mod bytes;
mod compression;
mod foreign;
mod hostile;
mod random;
mod walker;
mod whiteouts;

use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use walker::look_at;

pub(super) const DEVICES: UnpackOptions = UnpackOptions {
    whiteouts: Whiteouts::Devices,
    devices: Devices::Allowed,
    limits: Limits {
        entries: 1_000_000,
        depth: 1024,
        size: 1 << 40,
    },
};
pub(super) const FILES: UnpackOptions = UnpackOptions {
    whiteouts: Whiteouts::Files,
    ..DEVICES
};

pub(super) fn packed(tree: &Path, whiteouts: Whiteouts) -> (Vec<u8>, Packed) {
    let mut bytes = Vec::new();
    let options = PackOptions {
        whiteouts,
        description: None,
    };
    let packed = pack(File::open(tree).unwrap().as_fd(), &options, &mut bytes).unwrap();
    (bytes, packed)
}

pub(super) fn unpacked(
    mut bytes: &[u8],
    into: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    fs::create_dir_all(into).unwrap();
    unpack(&mut bytes, File::open(into).unwrap().as_fd(), options)
}

pub(super) fn make_node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR | Mode::WUSR, device).unwrap();
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

#[test]
fn a_tree_of_everything_comes_back_and_packs_to_the_same_bytes() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    make_one_of_each(&tree);
    let (bytes, packed_once) = packed(&tree, Whiteouts::Devices);
    let copy = outer.path().join("copy");
    let unpacked = unpacked(&bytes, &copy, &DEVICES).unwrap();
    assert_eq!(look_at(&copy), look_at(&tree));
    assert_eq!(unpacked.digest, packed_once.digest);
    assert_eq!(unpacked.entries, packed_once.entries);
    assert_eq!(bytes.len() as u64, packed_once.length);
    assert_eq!(crate::Digest::of(&bytes), packed_once.digest);
    let (again, packed_again) = packed(&copy, Whiteouts::Devices);
    assert_eq!(packed_again, packed_once);
    assert!(again == bytes);
    let sparse = fs::metadata(copy.join("sparse")).unwrap();
    assert!(
        sparse.blocks() * 512 < sparse.size() / 2,
        "{} blocks",
        sparse.blocks()
    );
}

/// One file of each type with everything that files can have.
pub(super) fn make_one_of_each(tree: &Path) {
    fs::create_dir_all(tree.join("folder/below")).unwrap();
    fs::write(tree.join("file"), b"contents\n").unwrap();
    fs::write(tree.join("empty"), b"").unwrap();
    fs::write(tree.join("folder/.hidden"), vec![7; 700_000]).unwrap();
    fs::hard_link(tree.join("folder/.hidden"), tree.join("folder/below/again")).unwrap();
    symlink("../outside", tree.join("link")).unwrap();
    fs::hard_link(tree.join("link"), tree.join("link-again")).unwrap();
    symlink("x".repeat(4095), tree.join("long-link")).unwrap();
    make_node(&tree.join("fifo"), FileType::Fifo, 0);
    make_node(
        &tree.join("null"),
        FileType::CharacterDevice,
        rustix::fs::makedev(1, 3),
    );
    make_node(
        &tree.join("disk"),
        FileType::BlockDevice,
        rustix::fs::makedev(259, 70_000),
    );
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    fs::remove_file(tree.join("socket")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.write_all_at(&[1; 5000], 1 << 20).unwrap();
    sparse.set_len(3 << 20).unwrap();
    fs::set_permissions(tree.join("file"), PermissionsExt::from_mode(0o6755)).unwrap();
    std::os::unix::fs::lchown(tree.join("link"), Some(3_000_000), Some(4_000_000_000)).unwrap();
    std::os::unix::fs::chown(tree.join("empty"), Some(1000), Some(1001)).unwrap();
    set_attribute(&tree.join("link"), "trusted.of=link", b"a\0b\n");
    set_attribute(&tree.join("fifo"), "trusted.x", b"");
    set_attribute(&tree.join("file"), "user.100%", &[0xff; 1000]);
    set_attribute(&tree.join("file"), "security.capability", &capability());
    set_attribute(
        &tree.join("folder"),
        "system.posix_acl_default",
        &default_acl(),
    );
    set_attribute(&tree.join("folder"), "user.of.folder", b"x");
    fs::set_permissions(tree.join("folder"), PermissionsExt::from_mode(0o3775)).unwrap();
    for (path, seconds, nanoseconds) in [
        ("file", 1_700_000_000, 123_456_789),
        ("link", -2, 1),
        ("folder", -1, 0),
        ("empty", 10_000_000_000, 5),
        ("", 7, 0),
    ] {
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, tree.join(path), &times, flags).unwrap();
    }
}

/// `cap_net_raw+ep`, version 2.
pub(super) fn capability() -> [u8; 20] {
    let mut value = [0; 20];
    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    value[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    value
}

/// `u::rwx,u:1000:r-x,g::r-x,m::r-x,o::---` (linux/posix_acl_xattr.h).
pub(super) fn default_acl() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries = [
        (1_u16, 7_u16, NOBODY),
        (2, 5, 1000),
        (4, 5, NOBODY),
        (16, 5, NOBODY),
        (32, 0, NOBODY),
    ];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&rights.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}
