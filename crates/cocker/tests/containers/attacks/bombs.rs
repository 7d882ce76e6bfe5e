//! Archives that are much more than they look like, or say that they are.

use super::archives::{entry, summed};
use super::tries;
use crate::host::{Host, entries, with_image_test};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_bomb_takes_little_memory_and_leaves_nothing,
        a_bomb_takes_no_more_of_the_disk_than_was_allowed,
        millions_of_entries_are_too_many,
        a_stream_without_end_has_an_end,
        folders_in_folders_without_end_are_refused,
    ]
}

/// What a command may have of memory, with its stacks (RLIMIT_DATA of getrlimit(2)). Whoever wants more dies of it, or says so.
const MEMORY: u64 = 96 << 20;
/// How much of names and records the bombs have: more than that.
const MUCH: usize = 128 << 20;
/// The most entries that an archive may have.
const MOST_ENTRIES: u64 = 4_000_000;

/// Writes an archive and lets gzip(1) pack it.
fn packed(host: &Host, name: &str, write: &mut dyn FnMut(&mut dyn Write)) -> PathBuf {
    let path = host.folder("bombs").join(name);
    let file = fs::File::create(&path).expect("the folder is ours");
    let mut gzip = host.command("gzip");
    let gzip = gzip.arg("-1").stdin(Stdio::piped()).stdout(file);
    let mut gzip = gzip.spawn().expect("gzip is there");
    write(&mut gzip.stdin.take().expect("it is piped"));
    assert!(gzip.wait().expect("our own child").success());
    path
}

/// The header of an entry that says it has `size` bytes.
fn claims(name: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut header = entry(name, kind, "", b"");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    summed(&mut header);
    header
}

/// `count` bytes, a multiple of 1 MiB.
fn repeated(into: &mut dyn Write, byte: u8, count: usize) {
    let block = vec![byte; 1 << 20];
    (0..count >> 20).for_each(|_| into.write_all(&block).expect("gzip reads"));
}

/// A command that has no more than [`MEMORY`].
fn with_little_memory(host: &Host, words: &[&str]) -> Command {
    let mut command = host.command("prlimit");
    command.arg(format!("--data={MEMORY}")).args(words);
    command
}

/// Runs it to its end, however long that is.
fn said(mut command: Command) -> Output {
    command.output().expect("it can be started")
}

/// It was refused with these words, and died of nothing.
#[track_caller]
fn is_refused(what: &str, output: &Output, named: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{what}: {text}");
    assert!(text.starts_with("Error: cannot "), "{what}: {text}");
    for word in named {
        assert!(text.contains(word), "{what}: no `{word}` in {text}");
    }
    assert!(text.len() < 4096, "{what}: {text}");
}

/// What lies in the store, be it on its way or not.
fn store(host: &Host) -> Vec<Vec<String>> {
    ["layers", "images"].map(|name| host.entries(name)).into()
}

/// Row 10: names and records of 128 MiB, and names that no file can have.
fn a_bomb_takes_little_memory_and_leaves_nothing(host: &Host) {
    let long = "n".repeat(64 << 10);
    let record = |key: &str, value: &str| {
        // The number in front counts itself.
        let rest = key.len() + value.len() + 3;
        let digits = (rest + rest.to_string().len()).to_string().len();
        format!("{} {key}={value}\n", rest + digits)
    };
    let of_pax = record("path", &long);
    let bombs = [
        // GNU's long name, GNU's long target, records of pax for one entry and for all.
        ("name", b'L', None, "extended header"),
        ("target", b'K', None, "extended header"),
        ("records", b'x', None, "extended header"),
        ("records for all", b'g', None, "extended header"),
        (
            "64 KiB by GNU",
            b'L',
            Some(long.as_str()),
            "longer than 255 bytes",
        ),
        (
            "64 KiB by pax",
            b'x',
            Some(of_pax.as_str()),
            "longer than 255 bytes",
        ),
    ];
    let before = store(host);
    for (what, kind, content, refusal) in bombs {
        let path = packed(host, &format!("{what}.tar.gz"), &mut |into| {
            match content {
                None => {
                    into.write_all(&claims("bomb", kind, MUCH))
                        .expect("gzip reads");
                    repeated(into, b'n', MUCH);
                }
                Some(content) => into
                    .write_all(&entry("bomb", kind, "", content.as_bytes()))
                    .expect("gzip reads"),
            }
            into.write_all(&entry("file", b'0', "", b""))
                .expect("gzip reads");
            into.write_all(&[0; 1024]).expect("gzip reads");
        });
        let path = path.to_str().expect("it is text");
        let cocker = host.program();
        let cocker = cocker.to_str().expect("it is text");
        let outcome = said(with_little_memory(
            host,
            &[cocker, "import", path, "-m", "bomb"],
        ));
        is_refused(what, &outcome, &["cannot import", refusal]);
        assert_eq!(store(host), before, "{what}");
        // Control: tar(1), which takes the archive at its word, wants more than that; and hands on what no file is called.
        let naive = said(with_little_memory(host, &["tar", "-tzf", path]));
        match content {
            None => {
                let said = String::from_utf8_lossy(&naive.stderr);
                assert!(!naive.status.success(), "{what}: {said}");
                let without_bound =
                    host.shell(&format!("tar -tzf '{path}' >/dev/null 2>&1; echo $?"));
                // With as much as it wants it reads on, or finds fault with the records that are none.
                assert!(["0\n", "2\n"].contains(&&*without_bound.stdout()));
                assert!(said.contains("memory exhausted"), "{what}: {said}");
            }
            Some(_) => assert!(naive.stdout.len() >= 64 << 10, "{what}"),
        }
    }
}

/// A file system in memory that is gone with the test.
struct Small(PathBuf);

impl Small {
    fn of(host: &Host, name: &str, options: &str) -> Small {
        let place = host.folder(name);
        let mounted = host.shell(&format!(
            "mount -t tmpfs -o mode=0700,{options} small {}",
            place.display()
        ));
        mounted.succeeds();
        Small(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// Row 10: 96 MiB of zeros in some kilobytes, also where the header says much more or much less.
fn a_bomb_takes_no_more_of_the_disk_than_was_allowed(host: &Host) {
    const ALL: usize = 96 << 20;
    let bomb = |name: &str, claimed: usize| {
        packed(host, name, &mut |into| {
            into.write_all(&claims("zeros", b'0', claimed))
                .expect("gzip reads");
            repeated(into, 0, ALL);
            into.write_all(&[0; 1024]).expect("gzip reads");
        })
    };
    let before = store(host);
    let (honest, more) = (
        bomb("honest.tar.gz", ALL),
        bomb("more.tar.gz", (8 << 30) - 1),
    );
    assert!(fs::metadata(&honest).expect("it was made").len() < 4 << 20);
    for (path, size) in [(&honest, "64M"), (&more, "64M"), (&more, "1G")] {
        let outcome = host.cocker(&format!(
            "import {} -m bomb --max-size {size}",
            path.display()
        ));
        outcome.fails(1, &["cannot import", "--max-size"]);
        assert_eq!(store(host), before, "{}", path.display());
    }
    // What is shorter than it says is cut off; what is longer goes on with what is no header.
    let cut = host.cocker(&format!("import {} -m bomb --max-size 16G", more.display()));
    cut.fails(1, &["cannot import"]);
    assert_eq!(store(host), before);
    // On a disk of 32 MiB, by who allows any size. What was written is gone again.
    let small = Small::of(host, "small", "size=32M");
    let mut command = host.cocker_command(&format!(
        "import {} -m bomb --max-size 1G",
        honest.display()
    ));
    command.env("COCKER_HOME", &small.0);
    is_refused(
        "a full disk",
        &said(command),
        &["cannot import", "No space left"],
    );
    let left = rustix::fs::statvfs(&small.0).expect("it is mounted");
    let used = (left.f_blocks - left.f_bfree) * left.f_frsize;
    assert!(used < 1 << 20, "{used} bytes are left");
    // Control: tar(1) fills a disk of the size that was allowed, and it stays full.
    let naive = Small::of(host, "naive", "size=64M");
    let filled = host.shell(&format!(
        "tar -C {} -xzf {}",
        naive.0.display(),
        honest.display()
    ));
    assert!(!filled.status.success(), "{filled}");
    let left = rustix::fs::statvfs(&naive.0).expect("it is mounted");
    assert_eq!(left.f_bfree, 0);
}

/// Entries that make no file, a mebibyte of them: labels of volumes.
fn labels() -> (Vec<u8>, u64) {
    let one = entry("label", b'V', "", b"");
    let count = (1 << 20) / one.len();
    (one.repeat(count), count as u64)
}

/// Row 10: more entries than there may be. In full they are ten million files, of which four million are made and removed again:
/// where `COCKER_TEST_TRIES` is 10 or more. Else they make no files.
fn millions_of_entries_are_too_many(host: &Host) {
    let is_full = tries(1) >= 10;
    let number = if is_full {
        10_000_000
    } else {
        MOST_ENTRIES + 1
    };
    let mut written = 0;
    let path = packed(host, "entries.tar.gz", &mut |into| {
        let (block, count) = labels();
        while written < number {
            let bytes = match is_full {
                false => block.clone(),
                true => (written..written + count).fold(Vec::new(), |mut bytes, number| {
                    bytes.extend(entry(&format!("e{number}"), b'2', "x", b""));
                    bytes
                }),
            };
            into.write_all(&bytes).expect("gzip reads");
            written += count;
        }
        into.write_all(&[0; 1024]).expect("gzip reads");
    });
    // A disk that has room for more than there may be, so that it is not the disk that ends it.
    let home = Small::of(host, "home", "size=16G,nr_inodes=0");
    let cocker = host.program();
    let cocker = cocker.to_str().expect("it is text");
    let path = path.to_str().expect("it is text");
    let mut importing = with_little_memory(host, &[cocker, "import", path, "-m", "bomb"]);
    importing.env("COCKER_HOME", &home.0);
    let outcome = said(importing);
    is_refused("entries", &outcome, &["cannot import", "4000000"]);
    for folder in ["layers", "images"] {
        assert_eq!(entries(&home.0.join(folder)), [""; 0]);
    }
    let left = rustix::fs::statvfs(&home.0).expect("it is mounted");
    let used = (left.f_blocks - left.f_bfree) * left.f_frsize;
    assert!(used < 1 << 20, "{used} bytes are left");
    // Control: tar(1) takes every one of them.
    let mut naive = host.command("sh");
    naive.args(["-c", &format!("tar -tzf {path} | wc -l")]);
    let taken = String::from_utf8_lossy(&said(naive).stdout).into_owned();
    let taken: u64 = taken.trim().parse().expect("a number");
    assert_eq!(taken, written);
    assert!(taken > MOST_ENTRIES);
}

/// Writes labels into a command's input until it reads no more, or `most` were written; says how many were.
fn feed(child: &mut Child, most: u64) -> u64 {
    let (block, count) = labels();
    let mut input = child.stdin.take().expect("it is piped");
    let mut written = 0;
    while written < most && input.write_all(&block).is_ok() {
        written += count;
    }
    written
}

/// Row 10: a stream that never ends, into a container.
fn a_stream_without_end_has_an_end(host: &Host) {
    host.booted("web");
    let started = |mut command: Command| {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let cocker = host.program();
    let cocker = cocker.to_str().expect("it is text");
    let putting = with_little_memory(host, &[cocker, "put", "web", "-", "/srv"]);
    let mut putting = started(putting);
    let most = 4 * MOST_ENTRIES;
    let written = feed(&mut putting, most);
    let outcome = putting.wait_with_output().expect("our own child");
    is_refused("a stream", &outcome, &["cannot", "4000000"]);
    assert!(written < most, "it was read to the end");
    assert_eq!(host.inside("web", "ls -A /srv"), "");
    // Control: tar(1) has read more than that, and still wants more.
    let mut naive = host.command("tar");
    naive.args(["-tf", "-"]);
    let mut naive = naive
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let enough = MOST_ENTRIES + MOST_ENTRIES / 8;
    let written = feed(&mut naive, enough);
    assert!(written >= enough, "{written}");
    let _ = naive.wait();
}

/// Row 10: a path of 10,000 folders, by one record and by an entry for each.
fn folders_in_folders_without_end_are_refused(host: &Host) {
    const DEPTH: usize = 10_000;
    let of_pax = |path: &str| {
        let rest = path.len() + " path=\n".len();
        let digits = (rest + rest.to_string().len()).to_string().len();
        let record = format!("{} path={path}\n", rest + digits);
        let head = entry("pax", b'x', "", record.as_bytes());
        [head, entry("d", b'5', "", b"")].concat()
    };
    let path = "d/".repeat(DEPTH);
    let at_once = of_pax(&path);
    let before = store(host);
    let one_by_one = |into: &mut dyn Write| {
        // As far as it takes: the next ones would be refused no less.
        for depth in 1..=DEPTH / 8 {
            into.write_all(&of_pax(&path[..2 * depth]))
                .expect("gzip reads");
        }
    };
    let archives = [
        packed(host, "deep.tar.gz", &mut |into| {
            into.write_all(&at_once).expect("gzip reads");
            into.write_all(&[0; 1024]).expect("gzip reads");
        }),
        packed(host, "deeper.tar.gz", &mut |into| {
            one_by_one(into);
            into.write_all(&[0; 1024]).expect("gzip reads");
        }),
    ];
    for archive in &archives {
        host.cocker(&format!("import {} -m bomb", archive.display()))
            .fails(1, &["cannot import", "1024"]);
        assert_eq!(store(host), before, "{}", archive.display());
    }
    // Control: who makes each folder in the one before makes all of them.
    let naive = host.folder("naive");
    assert_eq!(made_one_in_the_other(&naive, &path), DEPTH);
    host.shell(&format!("rm -rf {}", naive.display()))
        .succeeds();
}

/// Makes the folders of a path as who goes along does it; returns how deep that is.
fn made_one_in_the_other(top: &Path, path: &str) -> usize {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = openat(CWD, top, flags, Mode::empty()).expect("the folder is ours");
    let mut depth = 0;
    for name in path.split_terminator('/') {
        mkdirat(&folder, name, Mode::RWXU).expect("the folder is ours");
        folder = openat(&folder, name, flags, Mode::empty()).expect("it was just made");
        depth += 1;
    }
    depth
}
