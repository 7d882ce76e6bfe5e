//! Listing many images: what is kept from the last time is right, or not believed.

use super::*;
use crate::ImageRecord;
use std::time::{Duration, Instant};

/// More than are read one by one.
const MANY: usize = 300;

/// A store with `MANY` images without layers, which listing does not ask for.
fn many() -> (Home, Store) {
    let home = Home::new();
    let store = home.store();
    for n in 0..MANY {
        add(&home, &format!("image-{n}"), "1", n);
    }
    (home, store)
}

fn add(home: &Home, name: &str, version: &str, size: usize) {
    let folder = home.path().join("images").join(name).join(version);
    fs::create_dir_all(&folder).unwrap();
    let layer = "0123456789abcdef".repeat(2);
    let origin = if size.is_multiple_of(2) {
        ",\"origin\": \"host_programs\""
    } else {
        ""
    };
    let text = format!(
        "{{\"format\": 1, \"layers\": [\"{layer}\"], \"own_layer\": \"{layer}\", \"modified\": 1700000000, \"size\": {size}{origin}}}"
    );
    fs::write(folder.join("image.json"), text).unwrap();
}

/// Lists, and compares with what is read from every record.
#[track_caller]
fn listed(store: &Store) -> Vec<ImageRecord> {
    let listed = store.images().unwrap();
    let (read, failures) = store.images_and_failures().unwrap();
    assert!(failures.is_empty());
    assert_eq!(listed, read);
    listed
}

fn cache(home: &Home) -> PathBuf {
    home.path().join("images.cache")
}

/// Waits until what was changed is old enough to be kept, and lists twice: the second time from the cache.
#[track_caller]
fn listed_and_kept(home: &Home, store: &Store) -> Vec<ImageRecord> {
    let now = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
    };
    let since = now().as_secs();
    while now().as_secs() < since + 3 {
        std::thread::sleep(Duration::from_millis(50));
    }
    listed(store);
    assert!(cache(home).exists());
    listed(store)
}

#[test]
fn few_images_and_new_ones_are_not_kept() {
    let home = Home::new();
    let store = home.store();
    publish(&store, "web:1", 1).unwrap();
    assert_eq!(listed(&store).len(), 1);
    assert!(!cache(&home).exists());
    // Where the machine stalls meanwhile they are not new any more.
    let is_kept = || {
        let begun = Instant::now();
        let (home, store) = many();
        assert_eq!(listed(&store).len(), MANY);
        let is_kept = cache(&home).exists();
        (begun.elapsed() < Duration::from_millis(900)).then_some(is_kept)
    };
    let begun = Instant::now();
    let is_kept = std::iter::repeat_with(is_kept)
        .take_while(|_| begun.elapsed() < Duration::from_secs(60))
        .find_map(|is_kept| is_kept);
    assert_eq!(
        is_kept,
        Some(false),
        "what has just changed may change again in the same moment"
    );
}

#[test]
fn every_change_is_seen_though_the_rest_is_kept() {
    let (home, store) = many();
    assert_eq!(listed_and_kept(&home, &store).len(), MANY);
    let images = home.path().join("images");
    let changes: [(&str, &dyn Fn()); 8] = [
        ("a new name", &|| add(&home, "new", "_", 7)),
        ("a new version", &|| add(&home, "image-7", "2.0", 7)),
        ("another version", &|| {
            store
                .set_version(&store.lock().unwrap(), &reference("image-8"), &version("3"))
                .unwrap();
        }),
        ("a copy", &|| {
            let (of, to) = (reference("image-9"), name("copy"));
            store
                .copy_image(&store.lock().unwrap(), &of, &to, &Version::none())
                .unwrap();
        }),
        ("an image that goes", &|| {
            drop(
                store
                    .remove_image(
                        &store.lock().unwrap(),
                        &name("image-10"),
                        &version("1"),
                        vec![],
                    )
                    .unwrap(),
            );
        }),
        ("a record written in place", &|| {
            add(&home, "image-11", "1", 12345)
        }),
        ("a name that is another's now", &|| {
            fs::rename(images.join("image-12"), images.join("renamed")).unwrap();
            fs::rename(images.join("image-13"), images.join("image-12")).unwrap();
        }),
        ("an empty name", &|| {
            fs::remove_dir_all(images.join("image-14/1")).unwrap();
        }),
    ];
    let mut before = listed(&store);
    for (what, change) in changes {
        change();
        let after = listed(&store);
        assert_ne!(before, after, "{what}");
        before = after;
    }
    assert_eq!(listed_and_kept(&home, &store), before);
}

#[test]
fn a_broken_record_is_told_though_others_are_kept() {
    let (home, store) = many();
    listed_and_kept(&home, &store);
    let path = home.path().join("images/image-7/1/image.json");
    fs::write(&path, "{").unwrap();
    let error = store.images().unwrap_err();
    assert!(
        error.to_string().contains("image-7/1/image.json"),
        "{error}"
    );
    let (read, failures) = store.images_and_failures().unwrap();
    assert_eq!((read.len(), failures.len()), (MANY - 1, 1));
}

#[test]
fn a_damaged_cache_is_made_anew() {
    let (home, store) = many();
    let right = listed_and_kept(&home, &store);
    let whole = fs::read(cache(&home)).unwrap();
    let mut turned = whole.clone();
    turned[whole.len() / 2] ^= 1;
    let damages = [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        vec![0; whole.len()],
        turned,
        [whole.as_slice(), b"x 1 2 3 4\n"].concat(),
        b"cocker images 2 0123456789abcdef\n".to_vec(),
    ];
    for damage in damages {
        fs::write(cache(&home), &damage).unwrap();
        assert_eq!(listed(&store), right);
        assert_eq!(fs::read(cache(&home)).unwrap(), whole);
    }
    fs::remove_file(cache(&home)).unwrap();
    symlink("/dev/zero", cache(&home)).unwrap();
    assert_eq!(listed(&store), right);
    // What a writer left that was killed is taken over, and one that is at work is left alone.
    let staged = home.path().join(".new-images.cache");
    fs::write(&staged, "half").unwrap();
    let other = fs::File::open(&staged).unwrap();
    other.lock().unwrap();
    fs::remove_file(cache(&home)).unwrap();
    assert_eq!(listed(&store), right);
    assert!(!cache(&home).exists());
    // Not left to closing: a process forked meanwhile may hold the same open file a little longer.
    other.unlock().unwrap();
    drop(other);
    assert_eq!(listed(&store), right);
    assert_eq!(fs::read(cache(&home)).unwrap(), whole);
    assert!(!staged.exists());
}

#[test]
fn listing_while_images_come_and_go_shows_each_whole() {
    let (home, store) = many();
    listed_and_kept(&home, &store);
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let store = home.store();
            for round in 0..200 {
                let (of, to) = (reference("image-1"), name(&format!("copy-{}", round % 3)));
                let names = store.lock().unwrap();
                store.copy_image(&names, &of, &to, &version("1")).unwrap();
                let copy = Reference {
                    name: to.clone(),
                    version: None,
                };
                store.set_version(&names, &copy, &version("2")).unwrap();
                drop(
                    store
                        .remove_image(&names, &to, &version("2"), vec![])
                        .unwrap(),
                );
            }
        });
        while !changer.is_finished() {
            let images = store.images().unwrap();
            assert!(
                (MANY..=MANY + 1).contains(&images.len()),
                "{}",
                images.len()
            );
        }
    });
    assert_eq!(listed(&store).len(), MANY);
}
