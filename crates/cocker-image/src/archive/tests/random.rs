//! Random trees go into archives and come back.

use super::super::compress::with_threads;
use super::walker::{differences, look_at};
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags, makedev, utimensat};
use std::ffi::OsStr;
use std::io::{Cursor, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

#[derive(Clone, Debug)]
enum Kind {
    Empty,
    File(usize, u8),
    /// Where something is, and how long the file is beyond it; in units of 4 KiB.
    Sparse(Vec<u16>, u16),
    Folder,
    /// A way down with so many folders.
    Deep(u8),
    Symlink(Vec<u8>),
    HardLink(usize),
    Fifo,
    Device(u32, u32),
    Whiteout,
}

#[derive(Clone)]
struct Planned {
    /// In which of the folders made so far.
    folder: usize,
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    time: (i64, u32),
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    has_acl: bool,
    has_capability: bool,
}

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, folder, mode) = (self.name.escape_ascii(), self.folder, self.mode);
        let (owner, time) = (self.owner, self.time);
        write!(
            f,
            "{name} in {folder}: {:?}, {mode:o} {owner:?} {time:?}",
            self.kind
        )?;
        for (name, value) in &self.attributes {
            write!(f, ", {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(
            f,
            ", acl {}, capability {}",
            self.has_acl, self.has_capability
        )
    }
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("no part of a name", |byte| !matches!(byte, 0 | b'/'));
    prop_oneof![
        4 => vec(byte.clone(), 1..12),
        1 => vec(byte, 90..=255),
        2 => prop::sample::select(vec![
            &b".hidden"[..], b"...", b"\n", b"\xff\xfe", b" ", b"-rf", b"a=b", b"%25", b"PaxHeaders", b".cocker-image.json", b"GNUSparseFile.0",
        ]).prop_map(<[u8]>::to_vec),
    ]
    .prop_filter("the folder itself", |name| name != b"." && name != b"..")
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Empty),
        4 => (1_usize..300_000, any::<u8>()).prop_map(|(length, seed)| Kind::File(length, seed)),
        2 => (vec(0_u16..500, 0..6), 0_u16..500).prop_map(|(parts, end)| Kind::Sparse(parts, end)),
        4 => Just(Kind::Folder),
        1 => (1_u8..60).prop_map(Kind::Deep),
        2 => vec(1_u8.., 1..200).prop_map(Kind::Symlink),
        1 => vec(1_u8.., 4000..=4095).prop_map(Kind::Symlink),
        3 => any::<prop::sample::Index>().prop_map(|index| Kind::HardLink(index.index(1000))),
        1 => Just(Kind::Fifo),
        1 => (1_u32..4096, 0_u32..1 << 20).prop_map(|(major, minor)| Kind::Device(major, minor)),
        1 => Just(Kind::Whiteout),
    ]
}

fn plans() -> impl Strategy<Value = Vec<Planned>> {
    let id = || prop_oneof![Just(0), 1_u32..70_000, 2_097_152_u32..u32::MAX];
    let time = (
        prop_oneof![-2_000_000_000_i64..15_000_000_000, -3_i64..3],
        0_u32..1_000_000_000,
    );
    let attribute = (vec(1_u8.., 1..20), vec(any::<u8>(), 0..300));
    let planned = (
        (any::<prop::sample::Index>(), names(), kinds()),
        (0_u32..0o10000, (id(), id()), time),
        (
            vec(attribute, 0..3),
            prop::bool::weighted(0.1),
            prop::bool::weighted(0.1),
        ),
    );
    let planned = planned.prop_map(
        |((folder, name, kind), (mode, owner, time), (attributes, has_acl, has_capability))| {
            Planned {
                folder: folder.index(1000),
                name,
                kind,
                mode,
                owner,
                time,
                attributes,
                has_acl,
                has_capability,
            }
        },
    );
    vec(planned, 0..25)
}

/// Makes the tree; what cannot be, as a second file of a name, is left out.
fn make(tree: &Path, plans: &[Planned]) {
    fs::create_dir(tree).unwrap();
    let mut folders = vec![tree.to_path_buf()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut made = Vec::new();
    for plan in plans {
        let path = folders[plan.folder % folders.len()].join(OsStr::from_bytes(&plan.name));
        if path.as_os_str().len() > 3500 || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match &plan.kind {
            Kind::Empty => fs::write(&path, b"").unwrap(),
            Kind::File(length, seed) => {
                let bytes: Vec<u8> = (0..*length)
                    .map(|at| (at as u8).wrapping_mul(31) ^ seed)
                    .collect();
                fs::write(&path, bytes).unwrap();
            }
            Kind::Sparse(parts, end) => {
                let file = File::create(&path).unwrap();
                for part in parts {
                    file.write_all_at(b"part of a sparse file", u64::from(*part) << 12)
                        .unwrap();
                }
                let length = file.metadata().unwrap().len() + (u64::from(*end) << 12);
                file.set_len(length).unwrap();
            }
            Kind::Folder => fs::create_dir(&path).unwrap(),
            Kind::Deep(depth) => {
                let deep = (0..*depth).fold(path.clone(), |path, _| path.join("down"));
                fs::create_dir_all(&deep).unwrap();
                folders.push(deep);
            }
            Kind::Symlink(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
            Kind::HardLink(of) if !files.is_empty() => {
                fs::hard_link(&files[of % files.len()], &path).unwrap();
                continue;
            }
            Kind::HardLink(_) => continue,
            Kind::Fifo => make_node(&path, FileType::Fifo, 0),
            Kind::Device(major, minor) => {
                make_node(&path, FileType::BlockDevice, makedev(*major, *minor))
            }
            Kind::Whiteout => {
                make_node(&path, FileType::CharacterDevice, 0);
                continue;
            }
        }
        match plan.kind {
            Kind::Folder | Kind::Deep(_) => folders.push(path.clone()),
            _ => files.push(path.clone()),
        }
        made.push((path, plan));
    }
    // Attributes when nothing is made any more: times change and access lists are handed down.
    for (path, plan) in made.iter().rev() {
        dress(path, plan);
    }
}

fn dress(path: &Path, plan: &Planned) {
    let stat = fs::symlink_metadata(path).unwrap();
    let (is_folder, is_file) = (stat.is_dir(), stat.is_file());
    std::os::unix::fs::lchown(path, Some(plan.owner.0), Some(plan.owner.1)).unwrap();
    if !stat.is_symlink() {
        fs::set_permissions(path, PermissionsExt::from_mode(plan.mode)).unwrap();
    }
    let set = |name: &[u8], value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    let space: &[u8] = if is_folder || is_file {
        b"user."
    } else {
        b"trusted."
    };
    for (name, value) in &plan.attributes {
        set(&[space, b"x", name].concat(), value);
    }
    if plan.has_acl && !stat.is_symlink() {
        set(b"system.posix_acl_access", &default_acl());
        if is_folder {
            set(b"system.posix_acl_default", &default_acl());
        }
    }
    if plan.has_capability && is_file {
        set(b"security.capability", &capability());
    }
    let time = Timespec {
        tv_sec: plan.time.0,
        tv_nsec: plan.time.1.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_tree_comes_back_from_any_archive(plans in plans()) {
        let outer = tempfile::tempdir().unwrap();
        let tree = outer.path().join("tree");
        make(&tree, &plans);
        let before = look_at(&tree);
        for (whiteouts, options) in [(Whiteouts::Devices, DEVICES), (Whiteouts::Files, FILES)] {
            let (bytes, once) = packed(&tree, whiteouts);
            prop_assert!(look_at(&tree) == before, "packing changed the tree");
            let ways = [Compression::None, Compression::Gzip, Compression::Zstd];
            for compression in [ways[plans.len() % 3], ways[(plans.len() + 1) % 3]] {
                let mut to = with_threads(Vec::new(), compression, 2).unwrap();
                to.write_all(&bytes).unwrap();
                let compressed = to.finish().unwrap();
                let copy = outer.path().join(format!("{whiteouts:?}-{compression}"));
                fs::create_dir(&copy).unwrap();
                let mut from = decompress(Cursor::new(compressed)).unwrap();
                let unpacked = unpack(&mut from, File::open(&copy).unwrap().as_fd(), &options).unwrap();
                prop_assert_eq!(from.compression(), compression);
                prop_assert_eq!(&unpacked.digest, &once.digest);
                let told = differences(&look_at(&copy), &before);
                prop_assert!(told.is_empty(), "{}", told);
                let (again, _) = packed(&copy, whiteouts);
                prop_assert!(again == bytes, "packed again it is another archive");
            }
        }
    }
}

/// More of them by an environment variable, as proptest has it.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(24)
}
