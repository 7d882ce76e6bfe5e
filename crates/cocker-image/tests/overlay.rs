//! Stacks as cocker looks at them, against the kernel's own overlayfs: random layers, and random edits in a mounted overlay.
//!
//! The test executes itself again in a mount namespace of its own, so no mount reaches the host. It needs root.
#![forbid(unsafe_code)]

use cocker_image::stack::{Change, ChangeKind, Tree, diff};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Marks that this process is in its own namespace.
const INSIDE: &str = "COCKER_OVERLAY_TEST_INSIDE";
const NAME: &str = "merged_views_and_diffs_are_what_the_kernels_overlay_shows";
/// How many stacks are made, each with two rounds of edits.
const CASES: u32 = 96;
/// The options that cocker's overlays are made with.
const OPTIONS: &str = "redirect_dir=nofollow,metacopy=off,index=off";

#[test]
fn merged_views_and_diffs_are_what_the_kernels_overlay_shows() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: nothing tested");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().expect("it runs");
        let ended = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(program)
            .args(["--exact", NAME, "--nocapture"])
            .env(INSIDE, "1")
            .status();
        assert!(ended.expect("unshare is there").success());
        return;
    }
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let layer = prop::collection::vec(raw_edit(), 0..14);
    let edits = || prop::collection::vec(edit(), 1..20);
    let stacks = (prop::collection::vec(layer, 1..4), edits(), edits());
    TestRunner::new(config)
        .run(&stacks, |(layers, first, second)| {
            look_at(&layers, [&first, &second])
        })
        .unwrap_or_else(|why| panic!("{why}"));
}

/// A path of up to three names, of which there are few, so that edits meet.
type Place = Vec<u8>;

#[derive(Clone, Debug)]
enum Edit {
    File(Place, u8),
    Folder(Place),
    Link(Place, u8),
    Fifo(Place),
    Device(Place, u8),
    Remove(Place),
    Rename(Place, Place),
    HardLink(Place, Place),
    Mode(Place, u8),
    Owner(Place, u8),
    Attribute(Place, u8),
    Touch(Place, u8),
    Append(Place),
    /// Opened for writing, which copies it up, and left as it is.
    CopyUp(Place),
    // The rest is made by hand, in layers.
    Whiteout(Place),
    Opaque(Place),
    WhiteoutByAttribute(Place),
}

fn place() -> impl Strategy<Value = Place> {
    prop::collection::vec(0u8..3, 1..4)
}

fn edit() -> impl Strategy<Value = Edit> {
    let at_n = || (place(), 0u8..3);
    let two = || (place(), place());
    prop_oneof![
        4 => at_n().prop_map(|(at, n)| Edit::File(at, n)),
        3 => place().prop_map(Edit::Folder),
        1 => at_n().prop_map(|(at, n)| Edit::Link(at, n)),
        1 => place().prop_map(Edit::Fifo),
        1 => at_n().prop_map(|(at, n)| Edit::Device(at, n)),
        4 => place().prop_map(Edit::Remove),
        2 => two().prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => two().prop_map(|(from, to)| Edit::HardLink(from, to)),
        1 => at_n().prop_map(|(at, n)| Edit::Mode(at, n)),
        1 => at_n().prop_map(|(at, n)| Edit::Owner(at, n)),
        1 => at_n().prop_map(|(at, n)| Edit::Attribute(at, n)),
        1 => at_n().prop_map(|(at, n)| Edit::Touch(at, n)),
        1 => place().prop_map(Edit::Append),
        1 => place().prop_map(Edit::CopyUp),
    ]
}

fn raw_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        8 => edit(),
        2 => place().prop_map(Edit::Whiteout),
        1 => place().prop_map(Edit::Opaque),
        1 => place().prop_map(Edit::WhiteoutByAttribute),
    ]
}

fn path_at(top: &Path, place: &[u8]) -> PathBuf {
    // One name that steers a terminal, and one that is no UTF-8.
    let names: [&[u8]; 3] = [b"a", b"b\x1b[2J", b"c\xff"];
    let names = place.iter().map(|name| names[usize::from(*name)]);
    let mut path = top.to_path_buf();
    path.extend(names.map(std::ffi::OsStr::from_bytes));
    path
}

/// Does what can be done; what cannot, as in a folder that is not there, is left out.
fn apply(top: &Path, edit: &Edit) {
    let _ = try_apply(top, edit);
}

fn try_apply(top: &Path, edit: &Edit) -> io::Result<()> {
    let at = |place: &Place| path_at(top, place);
    let node = |place: &Place, kind, device| {
        io::Result::Ok(rustix::fs::mknodat(
            CWD,
            at(place),
            kind,
            Mode::RUSR,
            device,
        )?)
    };
    match edit {
        Edit::File(place, n) => {
            // Never through a link.
            fs::symlink_metadata(at(place)).map_or(Ok(()), |_| fs::remove_file(at(place)))?;
            fs::write(at(place), "x".repeat(usize::from(*n)))
        }
        Edit::Folder(place) => fs::create_dir(at(place)),
        Edit::Link(place, n) => symlink(format!("target{n}"), at(place)),
        Edit::Fifo(place) => node(place, FileType::Fifo, 0),
        Edit::Device(place, n) => {
            let device = rustix::fs::makedev(1, 3 + u32::from(*n));
            node(place, FileType::CharacterDevice, device)
        }
        Edit::Remove(place) => match fs::symlink_metadata(at(place))?.is_dir() {
            true => fs::remove_dir_all(at(place)),
            false => fs::remove_file(at(place)),
        },
        Edit::Rename(from, to) => fs::rename(at(from), at(to)),
        Edit::HardLink(from, to) => fs::hard_link(at(from), at(to)),
        Edit::Mode(place, n) => {
            refuse_links(&at(place))?;
            fs::set_permissions(at(place), fs::Permissions::from_mode(0o700 + u32::from(*n)))
        }
        Edit::Owner(place, n) => {
            refuse_links(&at(place))?;
            chown(at(place), Some(u32::from(*n)), Some(0))
        }
        Edit::Attribute(place, n) => set_attribute(&at(place), "trusted.test", &[b'0' + n]),
        Edit::Touch(place, n) => {
            let time = Timespec {
                tv_sec: 1_000_000 + i64::from(*n),
                tv_nsec: 7,
            };
            let times = Timestamps {
                last_access: time,
                last_modification: time,
            };
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            Ok(rustix::fs::utimensat(CWD, at(place), &times, flags)?)
        }
        Edit::Append(place) => {
            let text = read_file(&at(place))?;
            fs::write(at(place), [&text[..], b"+"].concat())
        }
        Edit::CopyUp(place) => {
            read_file(&at(place))?;
            File::options().write(true).open(at(place)).map(drop)
        }
        Edit::Whiteout(place) => node(place, FileType::CharacterDevice, 0),
        Edit::Opaque(place) => set_attribute(&at(place), "trusted.overlay.opaque", b"y"),
        Edit::WhiteoutByAttribute(place) => {
            let path = at(place);
            let parent = path.parent().filter(|parent| *parent != top);
            let Some(parent) = parent else { return Ok(()) };
            fs::create_dir_all(parent)?;
            File::create_new(&path)?;
            set_attribute(&path, "trusted.overlay.whiteout", b"y")?;
            set_attribute(parent, "trusted.overlay.opaque", b"x")
        }
    }
}

/// A file's content; nothing but files is opened.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match fs::symlink_metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(rustix::io::Errno::INVAL.into()),
    }
}

fn refuse_links(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_symlink() {
        true => Err(rustix::io::Errno::LOOP.into()),
        false => Ok(()),
    }
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(
        path,
        name,
        value,
        XattrFlags::empty(),
    )?)
}

/// One entry as whoever looks at the mount sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    /// Of files: time and content.
    file: Option<(i64, i64, Vec<u8>)>,
    target: Option<PathBuf>,
    attributes: BTreeMap<String, Vec<u8>>,
}

/// By the names of the path, so that a folder stands before what is in it; the top has none.
type Snapshot = BTreeMap<Vec<Vec<u8>>, Seen>;

fn snapshot(top: &Path) -> Snapshot {
    let mut snapshot = Snapshot::new();
    walk(top, &mut Vec::new(), &mut snapshot);
    snapshot
}

fn walk(path: &Path, names: &mut Vec<Vec<u8>>, snapshot: &mut Snapshot) {
    // The kernel lists a whiteout made by hand in a folder that it does not merge; nobody can look at it.
    let Ok(status) = fs::symlink_metadata(path) else {
        return;
    };
    let file = status.is_file().then(|| {
        let content = fs::read(path).expect("it is a file");
        (status.mtime(), status.mtime_nsec(), content)
    });
    let seen = Seen {
        mode: status.mode(),
        owner: (status.uid(), status.gid()),
        device: status.rdev(),
        file,
        target: fs::read_link(path).ok(),
        attributes: attributes(path),
    };
    snapshot.insert(names.clone(), seen);
    if status.is_dir() {
        for entry in fs::read_dir(path).expect("it is a folder") {
            let entry = entry.expect("it is a folder");
            names.push(entry.file_name().as_bytes().to_vec());
            walk(&entry.path(), names, snapshot);
            names.pop();
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list[..]).expect("it is there");
    let names = list[..length].split(|byte| *byte == 0);
    let mut attributes = BTreeMap::new();
    for name in names.filter(|name| !name.is_empty()) {
        let name = String::from_utf8(name.to_vec()).expect("the test made it");
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, &*name, &mut value[..]).expect("it is listed");
        value.truncate(length);
        attributes.insert(name, value);
    }
    attributes
}

/// What a diff must say of two snapshots.
fn expected(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let is_folder = |seen: &Seen| FileType::from_raw_mode(seen.mode) == FileType::Directory;
    let mut lines = BTreeMap::new();
    for (names, seen) in after {
        match before.get(names) {
            None => drop(lines.insert(names, 'A')),
            Some(old) if old != seen => drop(lines.insert(names, 'C')),
            Some(_) => {}
        }
    }
    for names in before.keys().filter(|names| !after.contains_key(*names)) {
        let parent = after.get(&names[..names.len() - 1]);
        if parent.is_some_and(is_folder) {
            lines.insert(names, 'D');
        }
    }
    let line = |(names, letter): (&Vec<Vec<u8>>, char)| format!("{letter} {}", shown(names));
    lines.into_iter().map(line).collect()
}

/// Everything below the top, as added.
fn all_of(snapshot: &Snapshot) -> Vec<String> {
    expected(&Snapshot::new(), snapshot).split_off(1)
}

fn shown(names: &[Vec<u8>]) -> String {
    let path: Vec<u8> = names
        .iter()
        .flat_map(|name| [b"/", &name[..]].concat())
        .collect();
    match path.is_empty() {
        true => "/".into(),
        false => path.escape_ascii().to_string(),
    }
}

fn lines(older: &[Tree<'_>], newer: &[Tree<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    let told = diff(older, newer, |change: Change| {
        let letter = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Removed => 'D',
        };
        lines.push(format!("{letter} {}", change.path.escape_ascii()));
        ControlFlow::Continue(())
    });
    told.expect("nothing leads elsewhere");
    lines
}

/// Makes the layers, mounts them, and compares before and after each round of edits.
fn look_at(layers: &[Vec<Edit>], rounds: [&Vec<Edit>; 2]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
    let top = folder.path();
    for (number, edits) in layers.iter().enumerate() {
        let layer = top.join(format!("layer{number}"));
        fs::create_dir(&layer).expect("the folder is ours");
        for edit in edits {
            apply(&layer, edit);
        }
    }
    for name in ["upper", "work", "merged"] {
        fs::create_dir(top.join(name)).expect("the folder is ours");
    }
    let merged = top.join("merged");
    let lowers = (0..layers.len())
        .rev()
        .map(|n| top.join(format!("layer{n}")));
    let lowers: Vec<String> = lowers.map(|path| path.display().to_string()).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={},{OPTIONS}",
        lowers.join(":"),
        top.join("upper").display(),
        top.join("work").display()
    );
    let options = CString::new(options).expect("no name has a NUL");
    rustix::mount::mount("test", &merged, "overlay", MountFlags::empty(), &*options)
        .expect("the kernel has overlayfs");
    let compared = compare(top, layers.len(), rounds);
    rustix::mount::unmount(&merged, UnmountFlags::DETACH).expect("it is mounted");
    compared
}

fn compare(top: &Path, count: usize, rounds: [&Vec<Edit>; 2]) -> Result<(), TestCaseError> {
    let merged = top.join("merged");
    let folder = File::open(top).expect("the folder is ours");
    let mounted = File::open(&merged).expect("it is mounted");
    let tree = |name: &str| {
        let path = CString::new(name).expect("no name has a NUL");
        Tree::new(folder.as_fd(), path, name.to_string())
    };
    let layers: Vec<Tree<'_>> = (0..count).map(|n| tree(&format!("layer{n}"))).collect();
    let container: Vec<Tree<'_>> = layers.iter().cloned().chain([tree("upper")]).collect();
    let kernel = [Tree::new(mounted.as_fd(), c".".into(), "overlay".into())];

    let before = snapshot(&merged);
    prop_assert_eq!(lines(&[], &layers), all_of(&before), "the merged layers");
    for edits in rounds {
        for edit in edits {
            apply(&merged, edit);
        }
        let after = snapshot(&merged);
        let changes = expected(&before, &after);
        prop_assert_eq!(lines(&[], &container), all_of(&after), "the merged view");
        prop_assert_eq!(
            lines(&container, &kernel),
            Vec::<String>::new(),
            "view and mount"
        );
        prop_assert_eq!(&lines(&layers, &container), &changes, "the diff");
        prop_assert_eq!(
            &lines(&layers, &kernel),
            &changes,
            "the diff with the mount"
        );
    }
    Ok(())
}
