//! Random edits of a booted stack become exactly the right whiteouts and opaque folders in its writable layer.
//!
//! A model follows the edits: it knows which paths there are, and which folders still are those of the layers below. What
//! must be in the writable layer, and what `diff` must say, follow from it.

use crate::host::{Host, with_image_test};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![random_edits_become_exactly_the_right_whiteouts]
}

const ROUNDS: u64 = 25;
const EDITS: usize = 40;

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    /// A path of up to three names, of which there are few, so that edits meet.
    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.roll(3);
        (0..depth).map(|_| ["a", "b", "c"][self.roll(3)]).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    /// Files are the same when they were written at the same time.
    File { written: String },
    Folder {
        /// Whether it is the one of the layers below, in which their entries are seen.
        is_of_layers: bool,
    },
}

/// What is in `/data`, which itself is a folder of the layers.
#[derive(Clone, Default)]
struct Model(BTreeMap<PathBuf, Node>);

impl Model {
    fn is_folder(&self, path: &Path) -> bool {
        path == Path::new("") || matches!(self.0.get(path), Some(Node::Folder { .. }))
    }

    /// Whether entries of the layers below are seen in it.
    fn is_of_layers(&self, path: &Path) -> bool {
        let is_of_layers = Node::Folder { is_of_layers: true };
        path == Path::new("") || self.0.get(path) == Some(&is_of_layers)
    }

    fn has_room_for(&self, path: &Path) -> bool {
        !self.0.contains_key(path) && self.is_folder(parent(path))
    }

    fn below(&self, path: &Path) -> Vec<PathBuf> {
        let all = self.0.keys().filter(|other| other.starts_with(path));
        all.cloned().collect()
    }

    /// Rolls for an edit; the shell's line for it where it can be made.
    fn edit(&mut self, dice: &mut Dice, number: usize) -> Option<String> {
        let path = dice.path();
        let shown = path.display().to_string();
        match dice.roll(5) {
            0 => {
                let is_free = self.is_folder(parent(&path)) && !self.is_folder(&path);
                let written = format!("{number}");
                let line = format!("echo {written} > {shown}");
                is_free.then(|| self.0.insert(path, Node::File { written }))?;
                Some(line)
            }
            1 => {
                let folder = Node::Folder {
                    is_of_layers: false,
                };
                self.has_room_for(&path)
                    .then(|| self.0.insert(path, folder))?;
                Some(format!("mkdir {shown}"))
            }
            2 | 3 => {
                let gone = self.below(&path);
                (!gone.is_empty()).then_some(())?;
                gone.iter().for_each(|path| drop(self.0.remove(path)));
                Some(format!("rm -r {shown}"))
            }
            _ => {
                let to = dice.path();
                let moved = self.below(&path);
                let can = !moved.is_empty() && self.has_room_for(&to) && !to.starts_with(&path);
                can.then_some(())?;
                for from in moved {
                    let node = match self.0.remove(&from) {
                        Some(Node::Folder { .. }) => Node::Folder {
                            is_of_layers: false,
                        },
                        Some(file) => file,
                        None => continue,
                    };
                    let below = from.strip_prefix(&path).expect("it is below");
                    // Joining nothing would end the path with a slash.
                    let to = to.components().chain(below.components()).collect();
                    self.0.insert(to, node);
                }
                Some(format!("mv {shown} {}", to.display()))
            }
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Fills a layer's `/data` by hand; above `lower` also with opaque folders, and with whiteouts of what `lower` has.
fn fill(tree: &Path, lower: Option<&Path>, dice: &mut Dice) {
    let data = tree.join("data");
    fs::create_dir(&data).expect("the tree is ours");
    let mut opaque: Vec<PathBuf> = Vec::new();
    for _ in 0..20 {
        let path = dice.path();
        let full = data.join(&path);
        if full.symlink_metadata().is_ok() || !parent(&full).is_dir() {
            continue;
        }
        let is_below = |lower: &Path| {
            let is_there = lower.join("data").join(&path).symlink_metadata().is_ok();
            is_there && !opaque.iter().any(|folder| path.starts_with(folder))
        };
        match dice.roll(6) {
            0 | 1 => fs::write(&full, path.to_string_lossy().as_bytes()).expect("it is free"),
            2 if lower.is_some_and(is_below) => {
                let kind = FileType::CharacterDevice;
                mknodat(CWD, &full, kind, Mode::empty(), 0).expect("we are root");
            }
            3 if lower.is_some() => {
                fs::create_dir(&full).expect("it is free");
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::lsetxattr(&full, "trusted.overlay.opaque", b"y", flags)
                    .expect("we are root");
                opaque.push(path);
            }
            _ => fs::create_dir(&full).expect("it is free"),
        }
    }
}

/// What a booted container shows, read from outside; nothing of it was edited yet.
fn read(top: &Path, path: &Path, model: &mut Model) {
    for entry in fs::read_dir(top.join(path)).expect("it is a folder") {
        let path = path.join(entry.expect("it is a folder").file_name());
        let status = top.join(&path).symlink_metadata();
        let status = status.expect("nobody else is here");
        if status.is_dir() {
            let folder = Node::Folder { is_of_layers: true };
            model.0.insert(path.clone(), folder);
            read(top, &path, model);
        } else {
            let written = format!("below {}", path.display());
            model.0.insert(path, Node::File { written });
        }
    }
}

/// The whiteouts and the opaque folders of a writable layer.
fn marks(top: &Path) -> (BTreeSet<PathBuf>, BTreeSet<PathBuf>) {
    let (mut whiteouts, mut opaque) = (BTreeSet::new(), BTreeSet::new());
    let mut rest = vec![PathBuf::new()];
    while let Some(folder) = rest.pop() {
        for entry in fs::read_dir(top.join(&folder)).into_iter().flatten() {
            let path = folder.join(entry.expect("it is a folder").file_name());
            let full = top.join(&path);
            let status = full.symlink_metadata().expect("nobody else is here");
            if status.file_type().is_char_device() {
                assert_eq!(status.rdev(), 0, "{}", path.display());
                whiteouts.insert(path);
            } else if status.is_dir() {
                let mut value = [0; 8];
                let mark = rustix::fs::lgetxattr(&full, "trusted.overlay.opaque", &mut value);
                if mark.is_ok_and(|length| &value[..length] == b"y") {
                    opaque.insert(path.clone());
                }
                rest.push(path);
            }
        }
    }
    (whiteouts, opaque)
}

/// What `diff` must say.
fn changes(before: &Model, after: &Model) -> Vec<String> {
    let mut lines = BTreeMap::new();
    for (path, node) in &after.0 {
        let same_kind = |old: &Node| std::mem::discriminant(old) == std::mem::discriminant(node);
        match before.0.get(path) {
            None => drop(lines.insert(path, 'A')),
            Some(old) if !same_kind(old) => drop(lines.insert(path, 'C')),
            Some(old @ Node::File { .. }) if old != node => drop(lines.insert(path, 'C')),
            Some(_) => {}
        }
    }
    for path in before.0.keys() {
        if !after.0.contains_key(path) && after.is_folder(parent(path)) {
            lines.insert(path, 'D');
        }
    }
    let line = |(path, letter): (&PathBuf, char)| format!("{letter} /data/{}", path.display());
    lines.into_iter().map(line).collect()
}

fn random_edits_become_exactly_the_right_whiteouts(host: &Host) {
    // How many of either kind were looked at.
    let (mut removals, mut covers) = (0, 0);
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let low = host.add_image(&format!("low{round}"), |tree| fill(tree, None, &mut dice));
        let lower = Some(low.tree.as_path());
        host.add_image(&format!("high{round}"), |tree| fill(tree, lower, &mut dice));
        host.cocker(&format!("create -m test,low{round},high{round} -c web -b"))
            .ok();
        let seen = PathBuf::from(format!("/proc/{}/root/data", host.root_process("web")));
        let mut before = Model::default();
        read(&seen, Path::new(""), &mut before);

        let mut after = before.clone();
        let edits = (0..EDITS).filter_map(|number| after.edit(&mut dice, number));
        let script = edits.collect::<Vec<_>>().join("\n");
        host.inside("web", &format!("set -e; cd /data\n{script}"));
        let what = format!("round {round}, edits\n{script}\n");
        let mut now = Model::default();
        read(&seen, Path::new(""), &mut now);
        let paths = |model: &Model| model.0.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&now), paths(&after), "the model follows, {what}");
        host.cocker("shutdown web").ok();

        let (whiteouts, opaque) = marks(&host.home().join("containers/web/files/upper/data"));
        let gone = before.0.keys().filter(|path| !after.0.contains_key(*path));
        let needed = gone.filter(|path| after.is_of_layers(parent(path)));
        removals += whiteouts.len();
        assert_eq!(whiteouts, needed.cloned().collect(), "whiteouts, {what}");
        let would_show = |path: &Path| before.is_folder(path) && after.is_of_layers(parent(path));
        let needed = after
            .0
            .keys()
            .filter(|path| after.is_folder(path) && !after.is_of_layers(path) && would_show(path));
        for path in needed {
            covers += 1;
            assert!(
                opaque.contains(path),
                "{} is not opaque, {what}",
                path.display()
            );
        }
        for path in &opaque {
            // The kernel marks some new folders that hide nothing, which does no harm; never one of the layers.
            assert!(
                !after.is_of_layers(path),
                "{} is opaque, {what}",
                path.display()
            );
        }

        let told = host.cocker("diff web").succeeds().stdout();
        let told = told.lines().filter(|line| line.contains(" /data/"));
        assert_eq!(told.collect::<Vec<_>>(), changes(&before, &after), "{what}");
        host.cocker("destroy web").ok();
        host.cocker(&format!("rm-image low{round}")).ok();
        host.cocker(&format!("rm-image high{round}")).ok();
    }
    assert!(
        removals > ROUNDS as usize && covers > 5,
        "{removals}, {covers}"
    );
}
