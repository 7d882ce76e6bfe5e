//! Archives that were damaged at random: what is read from them is right, or it is refused.

use super::unpacking::unpacked;
use super::*;
use proptest::prelude::*;

/// An image in three forms: a layout, an archive of docker save, and the layout compressed.
fn sound() -> [Vec<u8>; 3] {
    let sample = Sample::new().named("web:1");
    let layout = sample.files().archive().end();
    let saved = saved::saved(&sample, json!(["web:1"])).archive().end();
    let compressed = gzip(&layout);
    [layout, saved, compressed]
}

/// The files of each of its layers.
fn content() -> BTreeMap<PathBuf, Vec<u8>> {
    BTreeMap::from([
        (PathBuf::from("0/a"), b"lower".to_vec()),
        (PathBuf::from("1/b"), b"upper".to_vec()),
    ])
}

/// Everything that an archive holds; `None` where it is refused at any point.
fn read(bytes: &[u8]) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let image = recognise_bytes(bytes, LIMIT).ok()??;
    let trees = unpacked(&image.choose(None).ok()?).ok()?;
    let mut all = BTreeMap::new();
    for (index, tree) in trees.iter().enumerate() {
        let found = contents(tree.path());
        let top = PathBuf::from(index.to_string());
        all.extend(
            found
                .into_iter()
                .map(|(path, content)| (top.join(path), content)),
        );
    }
    Some(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_changes_no_file(
        which in 0..3usize,
        places in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4),
    ) {
        let mut bytes = sound()[which].clone();
        for (place, change) in places {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        if let Some(found) = read(&bytes) {
            prop_assert_eq!(found, content());
        }
    }

    #[test]
    fn loss_changes_no_file(which in 0..3usize, length in any::<prop::sample::Index>()) {
        let bytes = &sound()[which];
        if let Some(found) = read(&bytes[..length.index(bytes.len())]) {
            prop_assert_eq!(found, content());
        }
    }
}

#[test]
fn what_is_sound_is_read() {
    for bytes in sound() {
        assert_eq!(read(&bytes), Some(content()));
    }
}
