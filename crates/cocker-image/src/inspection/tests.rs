//! Single things of hand-made stores. Every kind of damage is tried through the command, in the containers' tests.

use super::*;
use crate::archive::{PackOptions, Whiteouts, pack};
use crate::{ImageRecord, LayerId, Name, NewImage, Version};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("home")).unwrap();
    (folder, store)
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn publish(store: &Store, image: &str) -> ImageRecord {
    let staged = store.stage().unwrap();
    let tree = format!("layers/.new-{}/tree", staged.layer());
    let tree = store.home().join(tree);
    fs::write(tree.join("file"), "as it was").unwrap();
    let (image, none) = (name(image), Version::none());
    let image = NewImage::of(staged, &image, &none, &[]);
    store
        .publish(&store.lock().unwrap(), image, vec![])
        .unwrap()
        .0
}

fn tree(store: &Store, layer: &LayerId) -> std::path::PathBuf {
    store.home().join(layer.tree_path())
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn what_was_published_is_sound() {
    let (_folder, store) = store();
    let image = publish(&store, "web");
    let layer = &image.layers[0];
    assert_eq!(
        store.inspect_layer(layer, Depth::Digests).unwrap().findings,
        []
    );
    assert_eq!(store.inspect_image(&image.name, &image.version), []);
    assert_eq!(store.inspect_name(&image.name), []);
    assert_eq!(store.inspect_entries().unwrap(), []);
}

#[test]
fn what_is_not_there_has_nothing_wrong_with_it() {
    let (_folder, store) = store();
    let layer = LayerId::parse(&"0".repeat(32)).unwrap();
    assert!(store.inspect_layer(&layer, Depth::Digests).is_none());
    assert_eq!(store.inspect_image(&name("web"), &Version::none()), []);
    assert_eq!(store.inspect_name(&name("web")), []);
}

#[test]
fn a_layer_whose_files_are_not_those_of_its_digest_is_found() {
    let (_folder, store) = store();
    let layer = publish(&store, "web").layers[0].clone();
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: None,
    };
    let open = store.open_layer(&layer).unwrap();
    let packed = pack(open.as_fd(), &options, &mut io::sink()).unwrap();
    let record = store.home().join(format!("layers/{layer}/layer.json"));
    let with_digest = format!("\"digest\": \"{}\",\n  \"size\"", packed.digest);
    edit(&record, "\"size\"", &with_digest);
    assert_eq!(
        store
            .inspect_layer(&layer, Depth::Digests)
            .unwrap()
            .findings,
        []
    );

    // As many bytes as before.
    fs::write(tree(&store, &layer).join("file"), "as it is.").unwrap();
    let found = store
        .inspect_layer(&layer, Depth::Digests)
        .unwrap()
        .findings;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].grade, Grade::Wrong);
    assert!(
        found[0].what.contains("its record says sha256:"),
        "{found:?}"
    );
}

#[test]
fn a_layer_that_left_or_was_exchanged_meanwhile_is_another() {
    let (_folder, store) = store();
    let layer = publish(&store, "web").layers[0].clone();
    let seen = store.inspect_layer(&layer, Depth::Digests).unwrap();
    assert!(store.is_still(&seen));
    let (tree, away) = (tree(&store, &layer), store.home().join("away"));
    fs::rename(&tree, &away).unwrap();
    fs::create_dir(&tree).unwrap();
    assert!(!store.is_still(&seen));
    fs::remove_dir(&tree).unwrap();
    assert!(!store.is_still(&seen));
    fs::rename(&away, &tree).unwrap();
    assert!(store.is_still(&seen));
    fs::remove_dir_all(tree.parent().unwrap()).unwrap();
    assert!(!store.is_still(&seen));
}

#[test]
fn a_path_with_blanks_is_one_word() {
    assert_eq!(shell_word(Path::new("/a/b-1.0:_")), "/a/b-1.0:_");
    assert_eq!(shell_word(Path::new("/a b/it's")), r"'/a b/it'\''s'");
}
