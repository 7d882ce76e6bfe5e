//! What a user sees of a store, as text that is the same whenever the same was done; and what should not be there.

use crate::host::Host;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks at stores, and knows the files of layers that it has seen: a layer never changes.
#[derive(Default)]
pub struct Looking {
    layers: HashMap<String, String>,
}

impl Looking {
    /// Images with their layers, containers with their settings and files, and a folder of the user's.
    #[track_caller]
    pub fn at(&mut self, host: &Host, of_user: &Path) -> String {
        let mut lines = Vec::new();
        for image in listed(host, "images --format json") {
            let text = |key: &str| image[key].as_str().unwrap_or("?").to_string();
            let (name, version) = (text("image_id"), text("version"));
            lines.push(format!("image {name} {version} {} B", image["size"]));
            let record = record(
                &host
                    .home()
                    .join(format!("images/{name}/{version}/image.json")),
            );
            for layer in layers_of(&record) {
                lines.push(format!("  layer {}", self.layer(host, &layer)));
            }
            let config = record["config"].to_string();
            lines.push(format!("  {} {config}", record["origin"]));
        }
        for container in listed(host, "containers --format json") {
            let name = container["container_id"].as_str().unwrap_or("?");
            host.note_pin(container["netns"].as_str().unwrap_or_default());
            let mut shown = container.clone();
            for key in ["pid", "netns"] {
                shown[key] = Value::Null;
            }
            lines.push(format!("container {shown}"));
            let folder = host.home().join("containers").join(name);
            let mut settings = record(&folder.join("container.json"));
            for layer in layers_of(&settings) {
                lines.push(format!("  layer {}", self.layer(host, &layer)));
            }
            // Which range of ids it has is nobody's business; that it has one is asked with what is left.
            for key in ["id", "layers", "id_slot"] {
                settings[key] = Value::Null;
            }
            lines.push(format!("  {settings}"));
            lines.push(format!("  files {}", digest(&folder.join("files/upper"))));
            lines.push(format!(
                "  profile {}",
                digest(&folder.join("seccomp.json"))
            ));
        }
        let remembered = fs::read_to_string(host.home().join("srepo"));
        let remembered = remembered.unwrap_or_default();
        lines.push(format!("repository {}", remembered.trim_end()));
        lines.push(format!("user {}", digest(of_user)));
        lines.join("\n")
    }

    fn layer(&mut self, host: &Host, id: &str) -> String {
        let tree = host.home().join("layers").join(id).join("tree");
        let inode = fs::metadata(&tree).map_or(0, |found| found.ino());
        let known = self.layers.entry(format!("{id} {inode}"));
        known.or_insert_with(|| digest(&tree)).clone()
    }
}

#[track_caller]
fn listed(host: &Host, line: &str) -> Vec<Value> {
    let listing = host.cocker(line).succeeds().stdout();
    let listing: Value = serde_json::from_str(&listing).expect("a listing is JSON");
    listing.as_array().expect("a listing is a list").clone()
}

fn record(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or(Value::Null)
}

fn layers_of(record: &Value) -> Vec<String> {
    let layers = record["layers"].as_array().cloned().unwrap_or_default();
    let ids = layers.iter().filter_map(Value::as_str);
    ids.map(String::from).collect()
}

/// Of all files below a path: their names, kinds, rights, owners, and what is in them. Times count for large files only.
pub fn digest(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    let mut count = 0;
    add(path, Path::new(""), &mut hasher, &mut count);
    format!("{count} {:016x}", hasher.finish())
}

fn add(path: &Path, called: &Path, hasher: &mut DefaultHasher, count: &mut usize) {
    let Ok(found) = fs::symlink_metadata(path) else {
        return;
    };
    *count += 1;
    called.hash(hasher);
    (found.mode(), found.uid(), found.gid(), found.rdev()).hash(hasher);
    if found.is_dir() {
        let mut names: Vec<PathBuf> = fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().into())
            .collect();
        names.sort();
        // What a dead one was copying is no file yet; that it goes is asked with what is left.
        names.retain(|name| !is_stage(name));
        for name in names {
            add(&path.join(&name), &called.join(&name), hasher, count);
        }
    } else if found.is_symlink() {
        fs::read_link(path).unwrap_or_default().hash(hasher);
    } else if found.is_file() {
        // What is large is the programs of image `test`, which nothing here ever writes to.
        match found.size() < 64 << 10 {
            true => fs::read(path).unwrap_or_default().hash(hasher),
            false => (found.size(), found.mtime()).hash(hasher),
        }
    }
}

fn is_stage(name: &Path) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(".cocker-") || (name.starts_with('.') && name.ends_with(".new"))
}

/// The folders of copies, and files before they take another's place, below a path.
fn stages(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_stage(Path::new(&entry.file_name())) {
            found.push(entry.path().display().to_string());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            stages(&entry.path(), found);
        }
    }
}

/// One line for each thing that no image, no container and no living process needs. No container is booted.
pub fn left_over(host: &Host, of_user: &Path) -> Vec<String> {
    let home = host.home();
    let is_of_the_network = |line: &String| {
        ["link ", "rule ", "element "]
            .iter()
            .any(|head| line.starts_with(head))
    };
    let is_of_the_kernel = |line: &String| {
        ["process ", "mount ", "cgroup "]
            .iter()
            .any(|head| line.starts_with(head))
    };
    let mut left = host.what_is_left();
    left.retain(|line| is_of_the_network(line) || is_of_the_kernel(line));

    let mut needed = BTreeSet::new();
    let mut slots = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut namespaces = BTreeSet::new();
    let mut folders = vec![
        home.to_path_buf(),
        home.join("layers"),
        home.join("images"),
        home.join("transfers"),
        of_user.into(),
    ];
    for name in names_in(&home.join("images")) {
        let versions = names_in(&home.join("images").join(&name));
        if versions.is_empty() {
            left.push(format!("images/{name} without a version"));
        }
        for version in versions {
            let folder = home.join("images").join(&name).join(version);
            needed.extend(layers_of(&record(&folder.join("image.json"))));
        }
    }
    folders.push(home.join("containers"));
    for name in names_in(&home.join("containers")) {
        let folder = home.join("containers").join(&name);
        let settings = record(&folder.join("container.json"));
        needed.extend(layers_of(&settings));
        slots.insert(format!("{} {name}", settings["id_slot"]));
        if let Some(address) = settings["network"]["address"].as_str() {
            addresses.insert(format!("{address} {name}"));
        }
        let id = settings["id"].as_str().unwrap_or_default();
        if settings["network"]["mode"] == "custom" {
            namespaces.insert(format!("nns{}", id[..12].to_uppercase()));
        }
        if folder.join("control").exists() {
            left.push(format!("containers/{name}/control"));
        }
        stages(&folder.join("files/upper"), &mut left);
        folders.push(folder);
    }
    for layer in names_in(&home.join("layers")) {
        folders.push(home.join("layers").join(&layer));
        if !layer.starts_with('.') && !needed.contains(&layer) {
            left.push(format!("layers/{layer}, which nobody needs"));
        }
    }
    for (register, held) in [("ids", &slots), ("addresses", &addresses)] {
        for entry in names_in(&home.join(register)) {
            let owner = fs::read_link(home.join(register).join(&entry)).unwrap_or_default();
            if !held.contains(&format!("{entry} {}", owner.display())) {
                left.push(format!("{register}/{entry} of {}", owner.display()));
            }
        }
        for entry in held {
            let (number, _) = entry.split_once(' ').expect("it was written so");
            if fs::symlink_metadata(home.join(register).join(number)).is_err() {
                left.push(format!("{register}/{number} is LOST"));
            }
        }
    }
    for transfer in names_in(&home.join("transfers")) {
        left.push(format!("transfers/{transfer}"));
    }
    for folder in folders {
        let names = names_in(&folder).into_iter();
        let staged = names.filter(|name| name.starts_with('.'));
        left.extend(staged.map(|name| folder.join(name).display().to_string()));
    }
    if home.join("change.json").exists() {
        left.push("change.json".into());
    }
    let names = names_in(Path::new("/run/netns"));
    let pinned = names
        .into_iter()
        .filter(|name| host.has_been_pinned(name) && !namespaces.contains(name));
    left.extend(pinned.map(|name| format!("/run/netns/{name}")));
    left
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}
