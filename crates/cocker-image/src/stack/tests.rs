//! Stacks of trees made by hand. Whiteouts, devices and marks need root; without it those tests have nothing to look at.

use super::diff::diff_within;
use super::*;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, makedev, mkdirat, mknodat, openat};
use rustix::fs::{OFlags, utimensat};
use std::fs::{self, File, Permissions};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// Several trees in one folder: `0` is the lowest.
struct Trees {
    folder: tempfile::TempDir,
    open: OwnedFd,
    count: usize,
}

impl Trees {
    fn new(count: usize) -> Trees {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..count {
            fs::create_dir(folder.path().join(number.to_string())).unwrap();
        }
        let open = File::open(folder.path()).unwrap().into();
        Trees {
            folder,
            open,
            count,
        }
    }

    fn path(&self, tree: usize, path: &str) -> PathBuf {
        self.folder.path().join(tree.to_string()).join(path)
    }

    fn folder(&self, tree: usize, path: &str) {
        fs::create_dir_all(self.path(tree, path)).unwrap();
    }

    /// Writes a file; all have the same time.
    fn file(&self, tree: usize, path: &str, text: &str) {
        let path = self.path(tree, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        set_time(&path, 1_000_000_000);
    }

    fn whiteout(&self, tree: usize, path: &str) {
        let path = self.path(tree, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn mark(&self, tree: usize, path: &str, name: &str, value: &str) {
        let path = self.path(tree, path);
        lsetxattr(&path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }

    fn stack(&self, trees: &[usize]) -> Vec<Tree<'_>> {
        let tree = |number: &usize| {
            let path = CString::new(number.to_string()).unwrap();
            Tree::new(self.open.as_fd(), path, format!("layer `{number}`"))
        };
        trees.iter().map(tree).collect()
    }

    fn all(&self) -> Vec<Tree<'_>> {
        self.stack(&(0..self.count).collect::<Vec<_>>())
    }

    /// Every path of the whole stack, sorted by name in each folder.
    fn seen(&self) -> Vec<String> {
        let changes = changes(&[], &self.all()).unwrap();
        assert!(
            changes
                .iter()
                .all(|change| change.kind == ChangeKind::Added)
        );
        changes.iter().map(path_of).collect()
    }

    /// `A /path` lines.
    fn diff(&self, older: &[usize], newer: &[usize]) -> Vec<String> {
        let changes = changes(&self.stack(older), &self.stack(newer)).unwrap();
        changes.iter().map(line).collect()
    }

    fn traces(&self, path: &str) -> Result<Vec<Trace>, StackError> {
        whence(&self.all(), &ViewPath::parse(path.as_bytes())?)
    }
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn changes(older: &[Tree<'_>], newer: &[Tree<'_>]) -> Result<Vec<Change>, StackError> {
    let mut changes = Vec::new();
    diff(older, newer, |change| {
        changes.push(change);
        ControlFlow::Continue(())
    })?;
    Ok(changes)
}

fn path_of(change: &Change) -> String {
    String::from_utf8(change.path.clone()).unwrap()
}

fn line(change: &Change) -> String {
    let letter = match change.kind {
        ChangeKind::Added => 'A',
        ChangeKind::Changed => 'C',
        ChangeKind::Removed => 'D',
    };
    format!("{letter} {}", path_of(change))
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not root: nothing tested");
    }
    is_root
}

#[test]
fn folders_are_merged_and_what_stands_above_is_seen() {
    let trees = Trees::new(3);
    trees.file(0, "a/low", "");
    trees.file(0, "a/both", "low");
    trees.file(1, "a/both", "high");
    trees.file(2, "b/only", "");
    trees.file(0, "file-over-folder/x", "");
    trees.file(1, "file-over-folder", "");
    trees.file(0, "folder-over-file", "");
    trees.file(1, "folder-over-file/x", "");
    trees.file(0, "between/low", "");
    trees.file(1, "between", "");
    trees.file(2, "between/high", "");
    assert_eq!(
        trees.seen(),
        [
            "/a",
            "/a/both",
            "/a/low",
            "/b",
            "/b/only",
            "/between",
            "/between/high",
            "/file-over-folder",
            "/folder-over-file",
            "/folder-over-file/x",
        ]
    );
}

#[test]
fn whiteouts_and_opaque_folders_hide_what_is_below_them_alone() {
    if !is_root() {
        return;
    }
    let trees = Trees::new(4);
    trees.file(0, "gone", "");
    trees.whiteout(1, "gone");
    trees.file(0, "back", "old");
    trees.whiteout(1, "back");
    trees.file(2, "back", "new");
    trees.file(0, "opaque/low", "");
    trees.file(1, "opaque/middle", "");
    trees.file(2, "opaque/high", "");
    trees.mark(1, "opaque", "trusted.overlay.opaque", "y");
    trees.file(0, "through/low", "");
    trees.whiteout(1, "through");
    trees.file(3, "through/high", "");
    trees.whiteout(2, "nothing-below");
    // Other values mean nothing, and the top's mark cannot hide anything.
    trees.file(0, "marked/low", "");
    trees.folder(1, "marked");
    trees.mark(1, "marked", "trusted.overlay.opaque", "yes");
    trees.mark(3, "", "trusted.overlay.opaque", "y");
    assert_eq!(
        trees.seen(),
        [
            "/back",
            "/marked",
            "/marked/low",
            "/opaque",
            "/opaque/high",
            "/opaque/middle",
            "/through",
            "/through/high",
        ]
    );
}

#[test]
fn an_empty_file_with_the_attribute_is_a_whiteout() {
    if !is_root() {
        return;
    }
    let trees = Trees::new(2);
    for folder in ["marked", "plain"] {
        for name in ["empty", "full", "other"] {
            trees.file(0, &format!("{folder}/{name}"), "low");
        }
        trees.file(1, &format!("{folder}/empty"), "");
        trees.file(1, &format!("{folder}/full"), "not empty");
        trees.file(1, &format!("{folder}/other"), "");
        for name in ["empty", "full"] {
            let path = format!("{folder}/{name}");
            trees.mark(1, &path, "trusted.overlay.whiteout", "y");
        }
    }
    trees.mark(1, "marked", "trusted.overlay.opaque", "x");
    assert_eq!(
        trees.seen(),
        [
            "/marked",
            "/marked/full",
            "/marked/other",
            "/plain",
            "/plain/full",
            "/plain/other",
        ]
    );
}

#[test]
fn a_diff_names_what_was_added_changed_and_removed() {
    if !is_root() {
        return;
    }
    let trees = Trees::new(2);
    for name in [
        "same",
        "content",
        "size",
        "time",
        "mode",
        "owner",
        "attribute",
        "gone",
    ] {
        trees.file(0, name, "text");
    }
    for name in ["same", "content", "time", "mode", "owner", "attribute"] {
        trees.file(1, name, "text");
    }
    trees.file(1, "content", "tixt");
    trees.file(1, "size", "longer");
    set_time(&trees.path(1, "time"), 1);
    fs::set_permissions(trees.path(1, "mode"), Permissions::from_mode(0o4711)).unwrap();
    chown(trees.path(1, "owner"), Some(1), Some(2)).unwrap();
    trees.mark(1, "attribute", "user.name", "value");
    // What overlayfs keeps to itself is no difference.
    trees.mark(1, "same", "trusted.overlay.origin", "whatever");
    trees.whiteout(1, "gone");
    for (tree, target) in [(0, "x"), (1, "y")] {
        symlink(target, trees.path(tree, "link")).unwrap();
        symlink("same", trees.path(tree, "link-same")).unwrap();
        let device = makedev(7, u32::try_from(tree).unwrap());
        let mode = Mode::from_raw_mode(0o600);
        let path = trees.path(tree, "device");
        mknodat(CWD, &path, FileType::CharacterDevice, mode, device).unwrap();
    }
    trees.file(0, "file-to-folder", "");
    trees.file(1, "file-to-folder/new", "");
    trees.file(0, "folder-to-file/old", "");
    trees.file(1, "folder-to-file", "");
    trees.file(0, "removed/a/b", "");
    trees.whiteout(1, "removed");
    trees.file(1, "added/a/b", "");
    trees.folder(0, "touched");
    trees.folder(1, "touched");
    set_time(&trees.path(1, "touched"), 1);
    trees.folder(0, "folder-mode");
    trees.folder(1, "folder-mode");
    fs::set_permissions(trees.path(1, "folder-mode"), Permissions::from_mode(0o700)).unwrap();
    let changes = changes(&trees.stack(&[0]), &trees.stack(&[0, 1])).unwrap();
    let lines: Vec<String> = changes.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "A /added",
            "A /added/a",
            "A /added/a/b",
            "C /attribute",
            "C /content",
            "C /device",
            "C /file-to-folder",
            "A /file-to-folder/new",
            "C /folder-mode",
            "C /folder-to-file",
            "D /gone",
            "C /link",
            "C /mode",
            "C /owner",
            "D /removed",
            "C /size",
            "C /time",
        ]
    );
    let why = |path: &str| {
        let change = changes.iter().find(|change| path_of(change) == path);
        change.unwrap().differences.clone()
    };
    assert_eq!(why("/attribute"), [Difference::Attributes]);
    assert_eq!(why("/content"), [Difference::Content]);
    assert_eq!(why("/device"), [Difference::DeviceNumber]);
    assert_eq!(why("/file-to-folder"), [Difference::Type]);
    assert_eq!(why("/link"), [Difference::LinkTarget]);
    assert_eq!(why("/mode"), [Difference::Mode]);
    assert_eq!(why("/owner"), [Difference::Owner]);
    assert_eq!(why("/size"), [Difference::Size]);
    assert_eq!(why("/time"), [Difference::ModificationTime]);
    // Backwards it is the same paths.
    let back = trees.diff(&[0, 1], &[0]);
    let paths = |lines: &[String]| -> Vec<String> {
        let plain = lines.iter().filter(|line| line.starts_with('C'));
        plain.cloned().collect()
    };
    assert_eq!(paths(&back), paths(&lines));
}

#[test]
fn holes_are_not_read() {
    let trees = Trees::new(2);
    const TEBIBYTE: u64 = 1 << 40;
    let write = |tree, name: &str, at: u64, text: &[u8]| {
        let path = trees.path(tree, name);
        let file = File::create(&path).unwrap();
        file.set_len(TEBIBYTE).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, text, at).unwrap();
        set_time(&path, 1);
    };
    for (name, one, other) in [
        ("different", &b"one"[..], &b"two"[..]),
        ("same", b"text", b"text"),
        ("zeros-and-a-hole", b"\0\0\0\0", b""),
    ] {
        write(0, name, TEBIBYTE - 4, one);
        write(1, name, TEBIBYTE - 4, other);
    }
    write(0, "elsewhere", TEBIBYTE / 2, b"text");
    write(1, "elsewhere", TEBIBYTE / 4, b"text");
    assert_eq!(trees.diff(&[0], &[0, 1]), ["C /different", "C /elsewhere"]);
}

#[test]
fn the_top_itself_is_changed_by_its_mode() {
    let trees = Trees::new(2);
    assert!(trees.diff(&[0], &[0, 1]).is_empty());
    fs::set_permissions(trees.path(1, ""), Permissions::from_mode(0o711)).unwrap();
    assert_eq!(trees.diff(&[0], &[0, 1]), ["C /"]);
    assert!(trees.diff(&[0], &[1, 0]).is_empty());
}

#[test]
fn a_diff_of_stacks_reads_only_what_they_do_not_share() {
    let trees = Trees::new(3);
    trees.file(0, "base/file", "base");
    trees.file(1, "base/own", "one");
    trees.file(2, "other/own", "two");
    // A file that cannot be looked at without being noticed: its folder has a mark that is an error.
    trees.folder(0, "base/shared");
    if is_root() {
        trees.mark(0, "base/shared", "trusted.overlay.redirect", "/x");
    }
    assert_eq!(
        trees.diff(&[0, 1], &[0, 2]),
        ["D /base/own", "A /other", "A /other/own"]
    );
    assert!(trees.diff(&[0, 1, 2], &[0, 1, 2]).is_empty());
}

#[test]
fn marks_that_lead_elsewhere_are_errors_that_name_the_path() {
    if !is_root() {
        return;
    }
    for attribute in ["redirect", "metacopy"] {
        for path in ["a/folder", "a/file"] {
            let trees = Trees::new(2);
            trees.file(0, "a/below", "");
            trees.folder(1, "a/folder");
            trees.file(1, "a/file", "");
            trees.mark(1, path, &format!("trusted.overlay.{attribute}"), "");
            let error = changes(&trees.stack(&[0]), &trees.all()).unwrap_err();
            let text = format!(
                "cannot merge `/{path}` of layer `1`: its attribute `trusted.overlay.{attribute}` says that its files lie elsewhere"
            );
            assert_eq!(error.to_string(), text);
            assert_eq!(
                trees.traces(&format!("/{path}")).unwrap_err().to_string(),
                text
            );
        }
    }
}

/// Makes a chain of folders `d`, longer than any path may be, with a file at its end and one at every hundredth level.
fn dig(top: &Path, depth: usize) {
    let mut deepest: OwnedFd = File::open(top).unwrap().into();
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    for level in 0..depth {
        mkdirat(&deepest, "d", Mode::RWXU).unwrap();
        if level % 100 == 0 {
            let flags = OFlags::CREATE | OFlags::CLOEXEC;
            openat(&deepest, "e", flags, Mode::RUSR).unwrap();
        }
        deepest = openat(&deepest, "d", flags, Mode::empty()).unwrap();
    }
    openat(
        &deepest,
        "end",
        OFlags::CREATE | OFlags::CLOEXEC,
        Mode::RUSR,
    )
    .unwrap();
}

#[test]
fn trees_ten_thousand_folders_deep_are_compared_from_a_small_stack() {
    let trees = Trees::new(3);
    trees.file(0, "z", "");
    for tree in 0..2 {
        dig(&trees.path(tree, ""), 10_000);
    }
    let lines = std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(128 * 1024);
        let compared = small.spawn_scoped(scope, || {
            let mut count = [0; 3];
            diff(&trees.stack(&[0]), &trees.stack(&[1]), |change| {
                count[change.kind as usize] += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
            let mut merged = 0;
            diff(&[], &trees.all(), |_| {
                merged += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
            (count, merged)
        });
        compared.unwrap().join().unwrap()
    });
    // The files were not made at the same moment.
    let ([added, changed, removed], merged) = lines;
    assert_eq!((added, removed), (0, 1));
    assert_eq!(changed, 101);
    assert_eq!(merged, 10_000 + 101 + 1);
    crate::removal::remove_tree(trees.open.as_fd(), "0").unwrap();
    crate::removal::remove_tree(trees.open.as_fd(), "1").unwrap();
}

/// The kernel stacks at most 500 layers; a container's writable layer makes one more, and two such stacks are compared.
#[test]
fn more_trees_than_may_be_open_are_merged_all_the_same() {
    const COUNT: usize = 100;
    let trees = Trees::new(COUNT);
    for tree in 0..COUNT {
        trees.file(tree, &format!("a/b/c/file{tree}"), "");
        trees.file(tree, "a/b/top", &tree.to_string());
        trees.file(tree, "z/last", "");
    }
    let (even, odd): (Vec<usize>, Vec<usize>) = (0..COUNT).partition(|tree| tree % 2 == 0);
    for room in [1, 2, 7, COUNT, 10 * COUNT] {
        let mut all = 0;
        diff_within(room, &[], &trees.all(), |_| {
            all += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(all, COUNT + 6);
        let mut count = [0; 3];
        diff_within(room, &trees.stack(&even), &trees.stack(&odd), |change| {
            count[change.kind as usize] += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        let [added, changed, removed] = count;
        assert_eq!((added, removed), (COUNT / 2, COUNT / 2));
        assert_eq!(changed, 1, "`/a/b/top` of the topmost two");
    }
}

#[test]
fn links_lead_nowhere_and_special_files_are_never_opened() {
    let trees = Trees::new(2);
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "").unwrap();
    trees.file(0, "folder/file", "");
    symlink(outside.path(), trees.path(1, "folder")).unwrap();
    symlink("..", trees.path(1, "up")).unwrap();
    // Opening a fifo would wait for its other end.
    for tree in 0..2 {
        let path = trees.path(tree, "fifo");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    }
    fs::set_permissions(trees.path(1, "fifo"), Permissions::from_mode(0o600)).unwrap();
    assert_eq!(trees.seen(), ["/fifo", "/folder", "/up"]);
    assert_eq!(trees.diff(&[0], &[0, 1]), ["C /fifo", "C /folder", "A /up"]);
}

#[test]
fn what_breaks_off_is_not_told_more() {
    let trees = Trees::new(1);
    for name in ["a", "b", "c"] {
        trees.file(0, name, "");
    }
    let mut told = 0;
    diff(&[], &trees.all(), |_| {
        told += 1;
        ControlFlow::Break(())
    })
    .unwrap();
    assert_eq!(told, 1);
}

#[test]
fn a_path_is_traced_from_the_topmost_tree_down() {
    if !is_root() {
        return;
    }
    let trees = Trees::new(4);
    trees.file(0, "etc/motd", "lowest");
    trees.file(1, "etc/motd", "low");
    trees.whiteout(2, "etc/motd");
    trees.folder(3, "etc");
    let trace = |place, found, standing| Trace {
        place,
        found,
        standing,
    };
    let file = |size| Found::File { size };
    let folder = Found::Folder { is_opaque: false };
    assert_eq!(
        trees.traces("/etc/motd").unwrap(),
        [
            trace(2, Found::Removal, Standing::Hides),
            trace(1, file(3), Standing::Hidden),
            trace(0, file(6), Standing::Hidden),
        ]
    );
    assert_eq!(
        trees.traces("//etc/./").unwrap(),
        [
            trace(3, folder.clone(), Standing::Seen),
            trace(2, folder.clone(), Standing::Merged),
            trace(1, folder.clone(), Standing::Merged),
            trace(0, folder.clone(), Standing::Merged),
        ]
    );
    assert_eq!(trees.traces("/").unwrap().len(), 4);
    trees.mark(3, "etc", "trusted.overlay.opaque", "y");
    assert_eq!(
        trees.traces("/etc").unwrap()[..2],
        [
            trace(3, Found::Folder { is_opaque: true }, Standing::Seen),
            trace(2, folder, Standing::Hidden),
        ]
    );
    assert_eq!(
        trees.traces("/etc/motd").unwrap()[..2],
        [
            trace(3, Found::Cover, Standing::Hides),
            trace(2, Found::Removal, Standing::Hidden),
        ]
    );
}

#[test]
fn a_file_below_a_folder_is_hidden_by_it() {
    let trees = Trees::new(3);
    trees.folder(0, "x");
    trees.file(1, "x", "file");
    trees.folder(2, "x");
    let standings: Vec<Standing> = trees
        .traces("/x")
        .unwrap()
        .iter()
        .map(|it| it.standing)
        .collect();
    assert_eq!(
        standings,
        [Standing::Seen, Standing::Hidden, Standing::Hidden]
    );
    trees.file(0, "x/below", "");
    let error = trees.traces("/x/other").unwrap_err();
    assert_eq!(error.to_string(), "cannot find `/x/other`: no layer has it");
    let found: Vec<Found> = trees
        .traces("/x/below")
        .unwrap()
        .into_iter()
        .map(|it| it.found)
        .collect();
    assert_eq!(found, [Found::Cover, Found::File { size: 0 }]);
}

#[test]
fn a_link_on_the_way_is_told_with_the_path_that_is_meant() {
    let trees = Trees::new(2);
    trees.file(0, "usr/bin/ls", "");
    symlink("usr/bin", trees.path(0, "bin")).unwrap();
    symlink("../usr/./bin/", trees.path(0, "usr/up")).unwrap();
    symlink("/usr", trees.path(0, "usr/absolute")).unwrap();
    for (path, link, target, instead) in [
        ("/bin/ls", "/bin", "usr/bin", "/usr/bin/ls"),
        ("/usr/up/ls", "/usr/up", "../usr/./bin/", "/usr/bin/ls"),
        ("/usr/absolute/x/y", "/usr/absolute", "/usr", "/usr/x/y"),
    ] {
        let error = trees.traces(path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot look for `{path}`: `{link}` is a link to `{target}`")
        );
        let hint = format!("links are not followed; ask for `{instead}`.");
        assert_eq!(error.hint(), Some(hint));
    }
    let traces = trees.traces("/bin").unwrap();
    assert!(matches!(&traces[0].found, Found::Link { target } if target == b"usr/bin"));
    // A folder above the link is what is seen.
    trees.file(1, "bin/sh", "");
    let traces = trees.traces("/bin/sh").unwrap();
    assert_eq!(traces.len(), 2);
    assert_eq!(traces[1].found, Found::Cover);
    assert_eq!(traces[1].standing, Standing::Hidden);
}

#[test]
fn only_whole_paths_are_taken() {
    let error = |path: &[u8]| ViewPath::parse(path).unwrap_err().to_string();
    assert_eq!(
        error(b""),
        "cannot look for `/`: it does not begin with `/`"
    );
    assert_eq!(
        error(b"etc"),
        "cannot look for `etc`: it does not begin with `/`"
    );
    assert_eq!(
        error(b"/a/../b"),
        "cannot look for `/a/../b`: it has `..` in it"
    );
    assert_eq!(
        error(b"\x1b[2J"),
        "cannot look for `\\u{1b}[2J`: it does not begin with `/`"
    );
    let trees = Trees::new(1);
    let long = format!("/{}", "x".repeat(300));
    assert!(matches!(
        trees.traces(&long),
        Err(StackError::Missing { .. })
    ));
}
