//! Archives that were damaged at random: what is read from them is right, or it is refused.

use super::unpacking::unpacked;
use super::*;
use proptest::prelude::*;

/// What one of the three forms of an image is made of: a layout, an archive of docker save, both compressed.
fn sound() -> Vec<(Vec<u8>, BTreeMap<PathBuf, Vec<u8>>)> {
    let sample = Sample::new().named("web:1");
    let content = BTreeMap::from([
        (PathBuf::from("0/a"), b"lower".to_vec()),
        (PathBuf::from("1/b"), b"upper".to_vec()),
    ]);
    let layout = sample.files().archive().end();
    let saved = saved::saved(&sample, json!(["web:1"])).archive().end();
    let compressed = gzip(&layout);
    [layout, saved, compressed]
        .map(|bytes| (bytes, content.clone()))
        .to_vec()
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
        let (mut bytes, content) = sound().swap_remove(which);
        for (place, change) in places {
            let place = place.index(bytes.len());
            bytes[place] ^= change;
        }
        if let Some(found) = read(&bytes) {
            prop_assert_eq!(found, content);
        }
    }

    #[test]
    fn loss_changes_no_file(which in 0..3usize, length in any::<prop::sample::Index>()) {
        let (bytes, content) = sound().swap_remove(which);
        if let Some(found) = read(&bytes[..length.index(bytes.len())]) {
            prop_assert_eq!(found, content);
        }
    }
}

#[test]
fn what_is_sound_is_read() {
    for (bytes, content) in sound() {
        assert_eq!(read(&bytes), Some(content));
    }
}
