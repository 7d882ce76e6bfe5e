//! Images that lie ready when a test begins: `test` made once a run, some made by hand, and a whole Debian.
//!
//! Layers are read-only, so every test's store has the same files by hard links.

use super::{base, leftovers};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// An image made by hand.
pub struct Image {
    /// Its own files, as they are inside.
    pub tree: PathBuf,
}

/// Links image `test` into the store of `home`; the first test makes it.
pub fn link_image_test(home: &Path) {
    link(store_with_image_test(), home);
}

/// Adds image `name` whose only layer holds what `fill` writes.
pub fn add_image(home: &Path, name: &str, fill: impl FnOnce(&Path)) -> Image {
    let (id, tree) = add_layer(home);
    fill(&tree);
    record_size(home, &id);
    add_record(home, name, &[id]);
    Image { tree }
}

/// Adds image `name` of `count` layers: those of image `test` and, above, one file `/layer-<n>` and `/top` each.
pub fn add_image_of_many_layers(home: &Path, name: &str, count: usize) {
    let mut ids = layers_of(&record_of_image_test(home));
    for n in ids.len()..count {
        let (id, tree) = add_layer(home);
        fs::write(tree.join(format!("layer-{n}")), format!("{n}\n")).expect("the store is ours");
        fs::write(tree.join("top"), format!("{n}\n")).expect("the store is ours");
        record_size(home, &id);
        ids.push(id);
    }
    add_record(home, name, &ids);
}

/// Adds image `debian`: what debootstrap makes, kept from run to run in this folder.
pub fn add_image_debian(home: &Path, kept: &Path) {
    assert!(
        kept.is_dir(),
        "{} is not there; see the start of the output for why it could not be made",
        kept.display()
    );
    let (id, tree) = add_layer(home);
    fs::remove_dir(&tree).expect("it is empty");
    // Hard links where the cache lies on the same file system, else a copy.
    if !succeeds(Command::new("cp").arg("-al").arg(kept).arg(&tree)) {
        let _ = fs::remove_dir_all(&tree);
        let copied = succeeds(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(kept)
                .arg(&tree),
        );
        assert!(copied, "cannot copy {}", kept.display());
    }
    record_size(home, &id);
    add_record(home, "debian", &[id]);
}

/// Removes the store that all tests shared.
pub fn clear_away() {
    let home = base().join("store");
    leftovers::end_processes(&home, &store_cgroup());
    let _ = fs::remove_dir_all(home);
}

fn store_cgroup() -> String {
    format!("cocker-test-{}-store", std::process::id())
}

fn store_with_image_test() -> &'static Path {
    static STORE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let store = STORE.get_or_init(|| {
        let home = base().join("store");
        fs::create_dir_all(&home).map_err(|why| why.to_string())?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))
            .map_err(|why| why.to_string())?;
        let mut command = Command::new(base().join("bin/cocker"));
        command
            .args(["-a", "install_test"])
            .env_clear()
            .env("PATH", super::PATH);
        command
            .env("COCKER_HOME", &home)
            .env("COCKER_CGROUP", store_cgroup())
            .stdin(Stdio::null());
        let output = command.output().map_err(|why| why.to_string())?;
        if output.status.success() {
            return Ok(home);
        }
        Err(format!(
            "cannot make image test ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    });
    store.as_ref().unwrap_or_else(|why| panic!("{why}"))
}

fn link(store: &Path, home: &Path) {
    let linked = succeeds(
        Command::new("cp")
            .arg("-al")
            .arg(store.join("layers"))
            .arg(store.join("images"))
            .arg(home),
    );
    assert!(
        linked,
        "cannot link the prepared store into {}",
        home.display()
    );
}

/// Adds an empty layer; returns its id and its folder of files.
fn add_layer(home: &Path) -> (String, PathBuf) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed));
    let layer = home.join("layers").join(&id);
    let tree = layer.join("tree");
    fs::create_dir_all(&tree).expect("the store is ours");
    let like = layers_of(&record_of_image_test(home))
        .pop()
        .expect("image test has a layer");
    let of_test = home.join("layers").join(like);
    for (made, like) in [(&layer, &of_test), (&tree, &of_test.join("tree"))] {
        let mode = fs::metadata(like).expect("image test has a layer").mode();
        fs::set_permissions(made, fs::Permissions::from_mode(mode & 0o7777))
            .expect("the store is ours");
    }
    fs::copy(of_test.join("layer.json"), layer.join("layer.json")).expect("a layer has a record");
    (id, tree)
}

/// Writes the size of a layer's files into its record.
fn record_size(home: &Path, id: &str) {
    let layer = home.join("layers").join(id);
    let mut record = record(&layer.join("layer.json"));
    record["size"] = size_of_files(&layer.join("tree")).into();
    fs::write(layer.join("layer.json"), record.to_string()).expect("the store is ours");
}

/// Bytes of all regular files below a folder, each file once however many names it has.
pub fn size_of_files(folder: &Path) -> u64 {
    fn add(folder: &Path, linked: &mut HashSet<u64>) -> u64 {
        let entries = fs::read_dir(folder).expect("the store is ours");
        let sizes = entries.map(|entry| {
            let path = entry.expect("the store is ours").path();
            let stat = fs::symlink_metadata(&path).expect("nobody else is here");
            match stat.is_dir() {
                true => add(&path, linked),
                false if stat.is_file() && (stat.nlink() == 1 || linked.insert(stat.ino())) => {
                    stat.len()
                }
                false => 0,
            }
        });
        sizes.sum()
    }
    add(folder, &mut HashSet::new())
}

/// Writes the record of an image like that of image `test`, with other layers.
fn add_record(home: &Path, name: &str, layers: &[String]) {
    let mut record = record_of_image_test(home);
    let own = layers.last().expect("an image has a layer");
    let own = self::record(&home.join("layers").join(own).join("layer.json"));
    record["size"] = own["size"].clone();
    record["layers"] = layers.into();
    record["own_layer"] = layers.last().cloned().into();
    let folder = home.join("images").join(name).join("_");
    fs::create_dir_all(&folder).expect("the store is ours");
    fs::write(folder.join("image.json"), record.to_string()).expect("the store is ours");
}

fn record_of_image_test(home: &Path) -> Value {
    record(&home.join("images/test/_/image.json"))
}

fn record(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("the record is there");
    serde_json::from_str(&text).expect("a record is JSON")
}

fn layers_of(record: &Value) -> Vec<String> {
    let layers = record["layers"].as_array().expect("an image has layers");
    layers
        .iter()
        .map(|id| id.as_str().expect("an id is text").to_string())
        .collect()
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
