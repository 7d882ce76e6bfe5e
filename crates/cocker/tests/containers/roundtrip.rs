//! Any tree of files goes through every form that an image has, and nothing of it changes.
//!
//! ```text
//! image ── export ──▶ file ── import ──▶ image ── to-container ──▶ container ── to-image ──▶ image ── export ──▶ the same file
//! ```
//!
//! Trees are random, and the same in every run; `COCKER_TEST_ROUNDS` says how many there are.

use crate::host::{Host, with_image_test};
use crate::looks::{differences, look_at};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat,
    utimensat,
};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![any_tree_comes_back_from_everything_that_an_image_becomes]
}

const ROUNDS: u64 = 12;
const OPAQUE: &str = "trusted.overlay.opaque";

fn any_tree_comes_back_from_everything_that_an_image_becomes(host: &Host) {
    let rounds = std::env::var("COCKER_TEST_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    for round in 0..rounds {
        go_round(host, round);
    }
}

fn go_round(host: &Host, round: u64) {
    let mut dice = Dice::new(round);
    let image = host.add_image("tree", |tree| Planting::plant(tree, &mut dice));
    let planted = look_at(&image.tree);
    let is_same = |tree: &Path, after: &str| {
        let differences = differences(&planted, &look_at(tree));
        assert!(
            differences.is_empty(),
            "round {round}, after {after}:\n{differences}"
        );
    };
    let folder = host.folder("files");
    let file = |name: &str| folder.join(name).to_str().expect("text").to_string();
    let (one, two) = (file("one"), file("two"));
    let compression = ["gzip", "zstd", "none"][round as usize % 3];
    let export = |to: &str| {
        let line = format!("export tree -f --compress {compression} --image-file {to}");
        host.cocker(&line).ok();
    };
    export(&one);
    is_same(&image.tree, "export");
    host.cocker("rm-image tree").ok();
    host.cocker(&format!("import {one} -m tree --allow-devices"))
        .ok();
    is_same(&host.tree_of("tree", "_"), "import");
    host.cocker("to-container --from-image tree --to-container web")
        .ok();
    is_same(
        &host.home().join("containers/web/files/upper"),
        "to-container",
    );
    host.cocker("to-image --from-container web --to-image tree")
        .ok();
    is_same(&host.tree_of("tree", "_"), "to-image");
    export(&two);
    let (one, two) = (fs::read(one), fs::read(two));
    assert!(
        one.expect("it was written") == two.expect("it was written"),
        "round {round}: the second file differs"
    );
    host.cocker("rm-image tree").ok();
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Dice {
        let mut dice = Dice(seed);
        dice.roll(2);
        dice
    }

    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.roll(256) as u8).collect()
    }

    /// Any bytes that a name may have.
    fn name(&mut self) -> OsString {
        const ODD: [&[u8]; 14] = [
            b".hidden",
            b"...",
            b"\n",
            b"\xff\xfe",
            b" ",
            b"-rf",
            b"a=b",
            b"%3D",
            b"PaxHeaders",
            b".cocker-image.json",
            b".wh.name",
            b".wh..wh..opq",
            b"GNUSparseFile.0",
            b"\x1b[2J",
        ];
        let name = match self.roll(8) {
            0 => ODD[self.roll(ODD.len())].to_vec(),
            1 => self.any_bytes(255),
            2 => {
                let length = 90 + self.roll(166);
                self.any_bytes(length)
            }
            _ => {
                let length = 1 + self.roll(12);
                self.any_bytes(length)
            }
        };
        let name = match name.as_slice() {
            b"." | b".." => b"dots".to_vec(),
            _ => name,
        };
        OsStr::from_bytes(&name).into()
    }

    fn any_bytes(&mut self, length: usize) -> Vec<u8> {
        let bytes = self.bytes(length).into_iter();
        bytes
            .map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte })
            .collect()
    }

    /// Root, a small id, or one beyond what a plain header has room for.
    fn id(&mut self) -> u32 {
        match self.roll(3) {
            0 => 0,
            1 => self.roll(70_000) as u32,
            _ => 2_097_152 + self.roll(2_000_000_000) as u32,
        }
    }

    /// Before 1970, around it, and after what 32 bits have room for; to the nanosecond.
    fn time(&mut self) -> Timespec {
        let tv_sec = match self.roll(4) {
            0 => self.roll(7) as i64 - 3,
            1 => -(self.roll(2_000_000_000) as i64),
            2 => 4_000_000_000 + self.roll(2_000_000_000) as i64,
            _ => 1_500_000_000 + self.roll(200_000_000) as i64,
        };
        Timespec {
            tv_sec,
            tv_nsec: self.roll(1_000_000_000) as _,
        }
    }
}

/// A tree that grows.
struct Planting<'a> {
    dice: &'a mut Dice,
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    whiteouts: Vec<PathBuf>,
    /// What gets owner, mode, attributes and time when nothing is made any more.
    undressed: Vec<PathBuf>,
}

impl Planting<'_> {
    fn plant(tree: &Path, dice: &mut Dice) {
        let mut planting = Planting {
            dice,
            folders: vec![tree.into()],
            files: Vec::new(),
            whiteouts: Vec::new(),
            undressed: vec![tree.into()],
        };
        for _ in 0..10 + planting.dice.roll(50) {
            planting.add();
        }
        for path in std::mem::take(&mut planting.undressed).iter().rev() {
            planting.dress(path);
        }
    }

    fn add(&mut self) {
        let folder = self.dice.roll(self.folders.len());
        let path = self.folders[folder].join(self.dice.name());
        // The test itself goes by paths.
        if path.as_os_str().len() > 3000 || fs::symlink_metadata(&path).is_ok() {
            return;
        }
        match self.dice.roll(14) {
            0 => fs::write(&path, b"").expect("ours"),
            1..=3 => {
                let length = self.dice.roll(200_000);
                fs::write(&path, self.dice.bytes(length)).expect("ours");
            }
            4 => self.sparse(&path),
            5..=7 => fs::create_dir(&path).expect("ours"),
            8 => return self.deep(path),
            9 => {
                let most = [200, 4095][self.dice.roll(2)];
                let length = 1 + self.dice.roll(most);
                let target = self.dice.any_bytes(length);
                symlink(OsStr::from_bytes(&target), &path).expect("ours");
            }
            10 if !self.files.is_empty() => {
                let file = self.dice.roll(self.files.len());
                fs::hard_link(&self.files[file], &path).expect("ours");
                return;
            }
            11 => make_node(&path, FileType::Fifo, 0),
            12 => {
                let number = makedev(
                    1 + self.dice.roll(4000) as u32,
                    self.dice.roll(1 << 20) as u32,
                );
                let kinds = [FileType::BlockDevice, FileType::CharacterDevice];
                make_node(&path, kinds[self.dice.roll(2)], number);
            }
            _ => return self.whiteout(path),
        }
        match path.is_dir() {
            true => self.folders.push(path.clone()),
            false => self.files.push(path.clone()),
        }
        self.undressed.push(path);
    }

    fn sparse(&mut self, path: &Path) {
        let file = File::create(path).expect("ours");
        for _ in 0..self.dice.roll(6) {
            let place = (self.dice.roll(500) as u64) << 12;
            file.write_all_at(b"part of a sparse file", place)
                .expect("ours");
        }
        let length = file.metadata().expect("ours").len();
        file.set_len(length + ((self.dice.roll(500) as u64) << 12))
            .expect("ours");
    }

    /// A way down through many folders.
    fn deep(&mut self, mut path: PathBuf) {
        for _ in 0..self.dice.roll(150) {
            fs::create_dir(&path).expect("ours");
            self.undressed.push(path.clone());
            path.push("down");
        }
        fs::create_dir(&path).expect("ours");
        self.undressed.push(path.clone());
        self.folders.push(path);
    }

    /// One of its own, or another name of one as overlayfs makes them.
    fn whiteout(&mut self, path: PathBuf) {
        if !self.whiteouts.is_empty() && self.dice.one_in(2) {
            let other = self.dice.roll(self.whiteouts.len());
            fs::hard_link(&self.whiteouts[other], path).expect("ours");
            return;
        }
        make_node(&path, FileType::CharacterDevice, 0);
        self.whiteouts.push(path);
    }

    fn dress(&mut self, path: &Path) {
        let stat = fs::symlink_metadata(path).expect("ours");
        let (uid, gid) = (self.dice.id(), self.dice.id());
        lchown(path, Some(uid), Some(gid)).expect("ours");
        if !stat.is_symlink() {
            let mode = Permissions::from_mode(self.dice.roll(0o10000) as u32);
            fs::set_permissions(path, mode).expect("ours");
        }
        self.set_attributes(path, &stat);
        let time = self.dice.time();
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("ours");
    }

    fn set_attributes(&mut self, path: &Path, stat: &fs::Metadata) {
        let set = |name: &[u8], value: &[u8]| {
            lsetxattr(path, name, value, XattrFlags::empty()).expect("ours");
        };
        let may_have_user = stat.is_file() || stat.is_dir();
        let space: &[u8] = if may_have_user {
            b"user.x"
        } else {
            b"trusted.x"
        };
        for _ in 0..self.dice.roll(6).saturating_sub(3) {
            let (name, value) = (self.dice.roll(20), self.dice.roll(300));
            let name = self.dice.any_bytes(name);
            set(&[space, &name].concat(), &self.dice.bytes(value));
        }
        if !stat.is_symlink() && self.dice.one_in(6) {
            set(b"system.posix_acl_access", &access_list());
        }
        if stat.is_dir() && self.dice.one_in(6) {
            set(b"system.posix_acl_default", &access_list());
        }
        if stat.is_dir() && self.dice.one_in(5) {
            set(OPAQUE.as_bytes(), b"y");
        }
        if stat.is_file() && self.dice.one_in(6) {
            // cap_net_raw, permitted and effective (capabilities(7), version 2).
            let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            set(b"security.capability", &capability);
        }
    }
}

fn make_node(path: &Path, kind: FileType, number: u64) {
    mknodat(CWD, path, kind, Mode::empty(), number).expect("ours");
}

/// For user 1000 beside owner, group and others (acl(5), linux/posix_acl_xattr.h).
fn access_list() -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (0x01u16, 7u16, u32::MAX),
        (0x02, 5, 1000),
        (0x04, 5, u32::MAX),
        (0x10, 7, u32::MAX),
        (0x20, 1, u32::MAX),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
