//! Images of others whose layers hide what is below them, against the kernel's own overlayfs: what it shows of any part of
//! the stack is what the layers mean, and nothing is listed that cannot be found.
//!
//! Needs root, for whiteouts; nothing is mounted anywhere.
#![forbid(unsafe_code)]

use cocker_image::archive::Devices;
use cocker_image::transfer::{Base, ImportOptions, Imported, Source};
use cocker_image::{Digest, Name, NewImage, Store, Version};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use tar_core::{EntryType, HeaderBuilder};
use tempfile::TempDir;

const ROUNDS: u64 = 150;
/// When everything in the archives was last changed, in seconds since 1970.
const WRITTEN: u64 = 1_000_000_000;
const OPAQUE: &str = ".wh..wh..opq";

#[test]
fn the_kernel_shows_what_layers_of_others_mean() {
    if !is_root() {
        return;
    }
    for round in 0..ROUNDS {
        let mut dice = Dice(round);
        let layers: Vec<Layer> = (0..1 + dice.roll(4))
            .map(|_| Layer::random(&mut dice))
            .collect();
        let lab = Lab::new();
        let imported = lab.import(&layers);
        assert_eq!(imported.layers.len(), layers.len());
        assert_shown(&imported, &layers, &format!("round {round}: {layers:#?}"));
    }
}

#[test]
fn an_opaque_top_folder_hides_everything_below() {
    if !is_root() {
        return;
    }
    let below = Layer::of(&[
        "gone",
        "dir/",
        "dir/gone",
        "dir/sub/gone",
        "file-then-dir",
        "both",
    ]);
    let gone_already = Layer::of(&["sub/new", ".wh.both"]);
    let top = Layer::of(&[
        OPAQUE,
        "dir/",
        "dir/new",
        "file-then-dir/",
        "alone/",
        "here",
    ]);
    let above = Layer::of(&["dir/above", "dir/.wh.new"]);
    let layers = [below, gone_already, top, above];
    let lab = Lab::new();
    let imported = lab.import(&layers);
    assert_shown(&imported, &layers, "an opaque top");
    let tree = lab.tree(&imported, 2);
    assert!(!is_opaque(&tree), "the mark means nothing there");
    assert!(is_opaque(&tree.join("dir")));
    assert!(is_opaque(&tree.join("file-then-dir")));
    assert!(!is_opaque(&tree.join("alone")));
    assert_eq!(whiteouts(&tree), ["gone", "sub"]);
}

#[test]
fn whiteouts_that_hide_nothing_are_taken_away_and_no_time_changes() {
    if !is_root() {
        return;
    }
    let below = Layer::of(&[
        "a/x",
        "a/y",
        "b/sub/z",
        "file",
        "twice",
        ".wh.lowest",
        OPAQUE,
    ]);
    let middle = Layer::of(&["a/.wh.x", "a/.wh.nothing", ".wh.twice", "new/.wh.nothing"]);
    let top = Layer::of(&[
        "a/.wh.x",
        "a/.wh.y",
        ".wh.twice",
        ".wh.file",
        "b/",
        "b/.wh..wh..opq",
        "b/.wh.sub",
        "b/sub2/.wh.nothing",
        "file2/.wh.nothing",
    ]);
    let layers = [below, middle, top];
    let lab = Lab::new();
    let imported = lab.import(&layers);
    assert_shown(&imported, &layers, "idle whiteouts");
    let left = |layer| whiteouts(&lab.tree(&imported, layer));
    assert_eq!(left(0), [""; 0]);
    assert_eq!(left(1), ["a/x", "twice"]);
    assert_eq!(left(2), ["a/y", "file"]);
    let b = fs::metadata(lab.tree(&imported, 2).join("b")).unwrap();
    assert_eq!((b.mtime(), b.mtime_nsec()), (WRITTEN as i64, 0));
    let unnamed = fs::metadata(lab.tree(&imported, 1).join("new")).unwrap();
    assert_eq!((unnamed.mtime(), unnamed.mtime_nsec()), (0, 0));
}

#[test]
fn whiteouts_are_fitted_at_any_depth() {
    if !is_root() {
        return;
    }
    let at = |depth: usize, name: &str| format!("{}{name}", "d/".repeat(depth));
    let below = Layer((0..45).step_by(2).map(|depth| at(depth, "f")).collect());
    let top = Layer((0..45).map(|depth| at(depth, ".wh.f")).collect());
    let layers = [below.clone(), top];
    let lab = Lab::new();
    let imported = lab.import(&layers);
    assert_shown(&imported, &layers, "a deep tree");
    let mut expected = below.0;
    expected.sort();
    assert_eq!(whiteouts(&lab.tree(&imported, 1)), expected);
}

#[test]
fn a_layer_is_shared_only_on_what_it_was_fitted_to() {
    if !is_root() {
        return;
    }
    let (a, b) = (Layer::of(&["of-a"]), Layer::of(&["of-b", "secret"]));
    let hiding = Layer::of(&[".wh.secret", ".wh.of-a"]);
    let own = Layer::of(&["own"]);
    let lab = Lab::new();
    for (name, layers) in [
        ("one", [a.clone(), hiding.clone(), own.clone()]),
        ("two", [b.clone(), own.clone(), own.clone()]),
    ] {
        let imported = lab.import(&layers);
        assert_eq!(imported.base.len(), 0, "{name}");
        lab.publish(name, imported);
    }
    // Both layers are known, but never on each other.
    let other = [b, hiding.clone(), own.clone()];
    let imported = lab.import(&other);
    assert_eq!((imported.base.len(), imported.layers.len()), (1, 2));
    assert_eq!(whiteouts(&lab.tree(&imported, 0)), ["secret"]);
    lab.publish("three", imported);
    let same = lab.import(&[a, hiding, own]);
    assert_eq!((same.base.len(), same.layers.len()), (2, 1));
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not root: nothing tested");
    }
    is_root
}

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

    /// A path of up to three names, of which there are few, so that layers meet.
    fn path(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let names: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][self.roll(3)]).collect();
        names.join("/")
    }
}

/// Names of an archive's entries: files, folders with a `/` at the end, and marks.
#[derive(Clone, Debug)]
struct Layer(Vec<String>);

impl Layer {
    fn of(names: &[&str]) -> Layer {
        Layer(names.iter().map(|name| name.to_string()).collect())
    }

    fn random(dice: &mut Dice) -> Layer {
        let (mut names, mut files, mut folders) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for _ in 0..dice.roll(14) {
            let path = dice.path();
            let above: Vec<String> = parents(&path);
            let (prefix, leaf) = path.rsplit_once('/').map_or(("", &*path), |it| it);
            let slash = if prefix.is_empty() { "" } else { "/" };
            let (name, is_file, own_folder) = match dice.roll(6) {
                0 | 1 => (path.clone(), true, None),
                2 => (format!("{path}/"), false, Some(path.clone())),
                3 | 4 => (format!("{prefix}{slash}.wh.{leaf}"), false, None),
                // Rarely of the top itself.
                _ if dice.roll(4) == 0 => (OPAQUE.to_string(), false, None),
                _ => (format!("{path}/{OPAQUE}"), false, Some(path.clone())),
            };
            let of_folders = if name == OPAQUE { Vec::new() } else { above };
            let of_folders: Vec<String> = of_folders.into_iter().chain(own_folder).collect();
            // One archive has no file where it has a folder.
            let is_sound = !(is_file && folders.contains(&path))
                && of_folders.iter().all(|folder| !files.contains(folder));
            if is_sound && !names.contains(&name) {
                names.push(name);
                folders.extend(of_folders);
                if is_file {
                    files.insert(path);
                }
            }
        }
        Layer(names)
    }

    fn tar(&self, number: usize) -> Vec<u8> {
        let mut tar = Vec::new();
        for name in &self.0 {
            match name.ends_with('/') {
                true => add(&mut tar, name, EntryType::Directory, b""),
                false => add(
                    &mut tar,
                    name,
                    EntryType::Regular,
                    number.to_string().as_bytes(),
                ),
            }
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

fn add(tar: &mut Vec<u8>, name: &str, kind: EntryType, content: &[u8]) {
    let mut header = HeaderBuilder::new_ustar();
    header.path(name).unwrap().mode(0o755).unwrap();
    header.uid(0).unwrap().gid(0).unwrap();
    header
        .size(content.len() as u64)
        .unwrap()
        .mtime(WRITTEN)
        .unwrap();
    tar.extend_from_slice(header.entry_type(kind).finish().as_bytes());
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn parents(path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(end, _)| end);
    ends.map(|end| path[..end].to_string()).collect()
}

/// What there is: files with the number of their layer, and folders.
type View = BTreeMap<String, Option<String>>;

/// What layers mean, as the image specification says: first marks, then files (layer.md, "Whiteouts").
fn meant(layers: &[Layer]) -> View {
    let mut view = View::new();
    for (number, layer) in layers.iter().enumerate() {
        let hide = |view: &mut View, path: &str, is_itself: bool| {
            let below = format!("{path}/");
            view.retain(|it, _| {
                !(it.starts_with(&below) || path.is_empty() || (is_itself && it == path))
            });
        };
        for name in &layer.0 {
            let (prefix, leaf) = name.rsplit_once('/').map_or(("", &**name), |it| it);
            if leaf == OPAQUE {
                hide(&mut view, prefix, false);
            } else if let Some(hidden) = leaf.strip_prefix(".wh.") {
                let path = if prefix.is_empty() {
                    hidden.into()
                } else {
                    format!("{prefix}/{hidden}")
                };
                hide(&mut view, &path, true);
            }
        }
        for name in &layer.0 {
            let path = name.trim_end_matches('/');
            let leaf = path.rsplit_once('/').map_or(path, |it| it.1);
            let folders = parents(path).into_iter();
            for folder in folders.chain(name.ends_with('/').then(|| path.to_string())) {
                view.insert(folder, None);
            }
            if !leaf.starts_with(".wh.") && !name.ends_with('/') {
                hide(&mut view, path, true);
                view.insert(path.into(), Some(number.to_string()));
            }
        }
    }
    view
}

/// What the kernel shows of each part of the stack from the lowest layer on is what the layers mean.
#[track_caller]
fn assert_shown(imported: &Imported, layers: &[Layer], what: &str) {
    for count in 1..=layers.len() {
        let trees: Vec<BorrowedFd<'_>> = imported.layers[..count]
            .iter()
            .map(|it| it.tree())
            .collect();
        assert_eq!(
            shown(&trees),
            meant(&layers[..count]),
            "the lowest {count} of {what}"
        );
    }
}

fn shown(layers: &[BorrowedFd<'_>]) -> View {
    let overlay = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    let empty = tempfile::tempdir_in("/var/tmp").unwrap();
    // Without a writable layer the kernel wants two at least.
    let bottom = File::open(empty.path()).unwrap();
    for layer in layers.iter().rev().copied().chain([bottom.as_fd()]) {
        fsconfig_set_fd(overlay.as_fd(), "lowerdir+", layer).unwrap();
    }
    fsconfig_create(overlay.as_fd()).unwrap();
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let mount = fsmount(overlay.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
    let mut view = View::new();
    look(
        &PathBuf::from(format!("/proc/self/fd/{}/.", mount.as_raw_fd())),
        "",
        &mut view,
    );
    view
}

fn look(folder: &Path, prefix: &str, view: &mut View) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let found = fs::symlink_metadata(entry.path());
        let found = found.unwrap_or_else(|why| panic!("{name} is listed and not there: {why}"));
        if found.is_dir() {
            view.insert(name.clone(), None);
            look(&entry.path(), &format!("{name}/"), view);
        } else {
            view.insert(name, Some(fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// Paths of the whiteouts in a layer, sorted.
fn whiteouts(tree: &Path) -> Vec<String> {
    fn find(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => find(&entry.path(), &format!("{name}/"), found),
                kind if kind.is_char_device() => found.push(name),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    find(tree, "", &mut found);
    found.sort();
    found
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(folder, "trusted.overlay.opaque", &mut value[..]);
    length.is_ok_and(|length| value[..length] == *b"y")
}

/// A store, and a file to import from.
struct Lab {
    folder: TempDir,
    store: Store,
}

impl Lab {
    fn new() -> Lab {
        // On a disk, since an overlay needs attributes that memory file systems of old do not have.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        Lab { folder, store }
    }

    /// Unpacks an image of these layers, lowest first, as `docker save` writes one.
    fn import(&self, layers: &[Layer]) -> Imported {
        let tars: Vec<Vec<u8>> = (0..)
            .zip(layers)
            .map(|(number, layer)| layer.tar(number))
            .collect();
        let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
        let config = serde_json::json!({
            "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", _ => "amd64" },
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string();
        let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
        let names: Vec<String> = (0..layers.len())
            .map(|number| format!("{number}.tar"))
            .collect();
        let manifest =
            serde_json::json!([{ "Config": config_name, "RepoTags": [], "Layers": names }]);
        let mut archive = Vec::new();
        for (name, tar) in names.iter().zip(&tars) {
            add(&mut archive, name, EntryType::Regular, tar);
        }
        add(
            &mut archive,
            &config_name,
            EntryType::Regular,
            config.as_bytes(),
        );
        add(
            &mut archive,
            "manifest.json",
            EntryType::Regular,
            manifest.to_string().as_bytes(),
        );
        archive.resize(archive.len() + 1024, 0);
        let path = self.folder.path().join("image.tar");
        fs::write(&path, archive).unwrap();
        let options = ImportOptions {
            max_size: None,
            devices: Devices::Refused,
            base: Base::Needed,
        };
        let source = Source::open(&self.store, &path, None, &options).unwrap();
        source.unpack(&self.store, &options, &mut |_| {}).unwrap()
    }

    fn publish(&self, name: &str, imported: Imported) {
        let name = Name::parse(name).unwrap();
        let layers = imported.layers;
        let image = NewImage::of_layers(layers, &name, &Version::none(), &imported.base);
        let names = self.store.lock().unwrap();
        drop(self.store.publish(&names, image, Vec::new()).unwrap());
    }

    /// Where a layer that was just unpacked lies.
    fn tree(&self, imported: &Imported, number: usize) -> PathBuf {
        let id = imported.layers[number].layer();
        self.folder
            .path()
            .join(format!("home/layers/.new-{id}/tree"))
    }
}
