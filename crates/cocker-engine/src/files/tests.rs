//! What a process of a container may do while files go in and out: it puts links in the place of folders, again and again.
//!
//! The race is the kernel's, so the root here is a folder of the host, and the links lead out of it for everybody who does
//! not keep to it.

use super::root::{Ids, Root};
use super::transfer::{GetRequest, PutRequest, get_from, pack_from, put_into, unpack_into};
use crate::failure::FilesError;
use crate::request::OnError;
use cocker_image::Name;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, renameat_with};
use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SECRET: &str = "of the host alone";
const PUBLIC: &str = "of the container";
const TRIES: u64 = 100_000;

/// A root with a folder and links to outside, what is outside, and a place of the host for what comes out.
struct Scene {
    folder: tempfile::TempDir,
    root: Root,
    archive: Vec<u8>,
}

impl Scene {
    fn new() -> Scene {
        // In memory, where there is such a place: 100,000 times a disk is slow.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for name in [
            "root/a/folder/deep",
            "outside/deep",
            "host/tree/deep",
            "host/out",
        ] {
            fs::create_dir_all(path(name)).expect("the folder is ours");
        }
        for name in ["root/a/folder/file", "root/a/folder/deep/file"] {
            fs::write(path(name), PUBLIC).expect("the folder is ours");
        }
        for name in ["outside/file", "outside/deep/file"] {
            fs::write(path(name), SECRET).expect("the folder is ours");
        }
        for name in ["host/new", "host/tree/new", "host/tree/deep/file"] {
            fs::write(path(name), "put").expect("the folder is ours");
        }
        symlink(path("outside"), path("root/a/absolute")).expect("the folder is ours");
        symlink("../../outside", path("root/a/relative")).expect("the folder is ours");
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path("root"), flags, Mode::empty());
        let root = Root {
            folder: root.expect("the folder is ours"),
            ids: Ids::Hosts,
        };
        let mut archive = Vec::new();
        let tree = Root {
            folder: rustix::fs::openat(CWD, path("host/tree"), flags, Mode::empty())
                .expect("the folder is ours"),
            ids: Ids::Hosts,
        };
        pack_from(&tree, &get(".", "-"), &mut archive, &mut |_, _| {}).expect("plain files");
        Scene {
            root,
            archive,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything outside: contents and what a write would change.
    fn outside(&self) -> BTreeMap<PathBuf, (String, u32, u32, i64, i64)> {
        let mut found = BTreeMap::new();
        let mut waiting = vec![self.path("outside")];
        while let Some(path) = waiting.pop() {
            let stat = path.symlink_metadata().expect("nobody takes it away");
            let contents = match stat.is_dir() {
                true => {
                    let entries = fs::read_dir(&path).expect("nobody takes it away");
                    waiting.extend(entries.map(|entry| entry.expect("a name").path()));
                    String::new()
                }
                false => fs::read_to_string(&path).expect("nobody takes it away"),
            };
            let changed = (stat.ctime(), stat.ctime_nsec());
            found.insert(
                path,
                (contents, stat.mode(), stat.uid(), changed.0, changed.1),
            );
        }
        found
    }

    /// Calls `work` while the folder and the links take each other's places; says how often they did.
    fn while_swapping<T>(&self, work: impl FnOnce() -> T) -> (T, u64) {
        let (is_done, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
        let path = |name: &str| self.path("root/a").join(name);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    for link in ["absolute", "relative"] {
                        for _ in 0..2 {
                            // Somebody may have put something else there; the next one succeeds.
                            let exchange = RenameFlags::EXCHANGE;
                            let swapped =
                                renameat_with(CWD, path("folder"), CWD, path(link), exchange);
                            swaps.fetch_add(u64::from(swapped.is_ok()), Ordering::Relaxed);
                        }
                    }
                }
            });
            let _end = OnDrop(|| is_done.store(true, Ordering::Relaxed));
            let done = work();
            (done, swaps.load(Ordering::Relaxed))
        })
    }

    /// Whatever was read lies in `host/out`; then it is empty again.
    fn nothing_of_outside_came_out(&self) {
        let out = self.path("host/out");
        let mut waiting = vec![out.clone()];
        while let Some(path) = waiting.pop() {
            let stat = path.symlink_metadata().expect("it is ours");
            if stat.is_dir() {
                let entries = fs::read_dir(&path).expect("it is ours");
                waiting.extend(entries.map(|entry| entry.expect("a name").path()));
            } else if stat.is_file() {
                let text = fs::read_to_string(&path).expect("it is ours");
                assert!(!text.contains(SECRET), "{} came out", path.display());
            }
        }
        fs::remove_dir_all(&out).expect("it is ours");
        fs::create_dir(&out).expect("it is ours");
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn get(source: impl AsRef<Path>, target: impl AsRef<Path>) -> GetRequest {
    GetRequest {
        container: Name::parse("web").expect("a name"),
        source: source.as_ref().into(),
        target: target.as_ref().into(),
        on_error: OnError::Stop,
    }
}

fn put(source: impl AsRef<Path>, target: impl AsRef<Path>) -> PutRequest {
    PutRequest {
        container: Name::parse("web").expect("a name"),
        source: source.as_ref().into(),
        target: target.as_ref().into(),
        on_error: OnError::Stop,
    }
}

/// One of the ways in and out.
fn attempt(scene: &Scene, number: u64) -> Result<(), FilesError> {
    let (root, out) = (&scene.root, scene.path("host/out"));
    let told = &mut |_, _: &str| {};
    let never = &AtomicBool::new(false);
    // The ways with archives start threads and so take longest.
    match number % 20 {
        0..5 => get_from(root, &get("/a/folder/file", &out), never, told),
        5..7 => get_from(root, &get("/a/folder/deep/../file", &out), never, told),
        7..9 => get_from(root, &get("/a/folder/", &out), never, told),
        9 => {
            let mut archive = Vec::new();
            let packed = pack_from(root, &get("/a", "-"), &mut archive, told);
            let secret = SECRET.as_bytes();
            let has_secret = archive.windows(secret.len()).any(|window| window == secret);
            assert!(!has_secret, "it came out in an archive");
            packed
        }
        10..14 => put_into(
            root,
            &put(scene.path("host/new"), "/a/folder/"),
            never,
            told,
        ),
        14..17 => put_into(
            root,
            &put(scene.path("host/new"), "/a/folder/deep/file"),
            never,
            told,
        ),
        17..19 => put_into(
            root,
            &put(scene.path("host/tree/."), "/a/folder"),
            never,
            told,
        ),
        _ => {
            let archive = Box::new(Cursor::new(scene.archive.clone()));
            unpack_into(root, &put("-", "/a/folder"), archive)
        }
    }
}

#[test]
fn links_swapped_for_folders_lead_nowhere_but_inside_in_100_000_tries() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scene = Scene::new();
    let before = scene.outside();
    let (done, swaps) = scene.while_swapping(|| {
        let mut done = 0;
        for number in 0..TRIES {
            done += u64::from(attempt(&scene, number).is_ok());
            if number % 1000 == 0 {
                scene.nothing_of_outside_came_out();
                assert_eq!(scene.outside(), before);
            }
        }
        done
    });
    scene.nothing_of_outside_came_out();
    assert_eq!(scene.outside(), before);
    // Both sides of the race were there, or the tries would have shown nothing.
    assert!(swaps > TRIES / 10, "only {swaps} swaps");
    assert!(done > TRIES / 10, "only {done} of the tries found a folder");
    assert!(done < TRIES, "no try ever met a link");
}

#[test]
fn the_same_swaps_lead_out_whoever_follows_plain_paths() {
    let scene = Scene::new();
    let path = scene.path("root/a/folder/file");
    let (was_led_out, _) = scene.while_swapping(|| {
        let begun = Instant::now();
        let mut was_led_out = false;
        while !was_led_out && begun.elapsed() < Duration::from_secs(60) {
            was_led_out = fs::read_to_string(&path).is_ok_and(|text| text == SECRET);
        }
        was_led_out
    });
    assert!(was_led_out, "the swaps endanger nobody");
}
