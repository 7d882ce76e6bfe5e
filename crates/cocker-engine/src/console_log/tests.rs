//! A log is read as its supervisor leaves it, whatever it leaves.

use super::*;
use crate::container::tests::settings;
use crate::state::{Record, StateFile};
use cocker_protocol::{LogTime, RECORD, times_head};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// The folder of a container, in which the test writes as a supervisor does.
struct Folder {
    home: TempDir,
    /// As the supervisor has it.
    state: StateFile,
}

impl Folder {
    fn new() -> Folder {
        let home = tempfile::tempdir().expect("a folder");
        let folder = rustix::fs::open(home.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let state = StateFile::make(folder.as_fd(), 0).unwrap();
        Folder { home, state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn append(&self, text: impl AsRef<[u8]>) {
        let log = self.path(LOG);
        let file = fs::OpenOptions::new().append(true).create(true).open(log);
        std::io::Write::write_all(&mut file.unwrap(), text.as_ref()).unwrap();
    }

    fn rotate(&self) {
        fs::rename(self.path(LOG), self.path(OLD_LOG)).unwrap();
    }

    /// Writes times of offset and second for the log of this name.
    fn write_times(&self, name: &str, log: &str, times: &[(u64, u64)]) {
        let inode = fs::metadata(self.path(log)).unwrap().ino();
        let mut bytes = times_head(inode).to_vec();
        for &(offset, second) in times {
            let time_ms = second * 1000;
            bytes.extend(LogTime { offset, time_ms }.encode());
        }
        self.write(name, bytes);
    }

    fn boot(&self) {
        self.state.try_lock().unwrap();
        let pid = std::process::id() as i32;
        let record = Record {
            pid,
            ..Record::default()
        };
        self.state.write(record).unwrap();
    }

    fn end(&self) {
        self.state.write(Record::default()).unwrap();
    }

    fn open(&self, request: &LogRequest) -> ConsoleLog {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(self.home.path(), flags, Mode::empty()).unwrap();
        let state = StateFile::open(folder.as_fd()).unwrap();
        let container = Container {
            name: Name::parse("web").unwrap(),
            folder,
            settings: settings(),
            state,
        };
        ConsoleLog::open(container, request).unwrap()
    }

    fn text(&self, tail: Option<u64>, since: Option<u64>) -> String {
        let request = LogRequest {
            tail,
            since: since.map(second),
            follow: Follow::No,
        };
        let mut log = self.open(&request);
        let (text, last) = available(&mut log);
        assert_eq!(last, LogPiece::End);
        text
    }
}

fn second(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

/// What can be read now, and what came instead of more.
fn available(log: &mut ConsoleLog) -> (String, LogPiece) {
    let mut text = Vec::new();
    // Smaller than a line.
    let mut buffer = [0; 7];
    loop {
        match log.read(&mut buffer).unwrap() {
            LogPiece::Bytes(length) => text.extend_from_slice(&buffer[..length]),
            other => return (String::from_utf8(text).unwrap(), other),
        }
    }
}

fn followed_log(folder: &Folder) -> ConsoleLog {
    folder.open(&LogRequest {
        follow: Follow::ToTheEnd,
        ..LogRequest::default()
    })
}

#[test]
fn a_container_that_never_wrote_anything_has_an_empty_log() {
    let folder = Folder::new();
    assert_eq!(folder.text(None, None), "");
    assert_eq!(folder.text(Some(3), Some(3)), "");
}

#[test]
fn the_older_file_comes_before_the_newer() {
    let folder = Folder::new();
    folder.write(OLD_LOG, "one\ntwo\nth");
    assert_eq!(folder.text(None, None), "one\ntwo\nth");
    folder.write(LOG, "ree\nfour\n");
    assert_eq!(folder.text(None, None), "one\ntwo\nthree\nfour\n");
}

#[test]
fn the_last_lines_are_counted_over_both_files() {
    let folder = Folder::new();
    folder.write(OLD_LOG, "one\ntwo\nth");
    folder.write(LOG, "ree\nfour\n");
    let whole = "one\ntwo\nthree\nfour\n";
    for (lines, text) in [
        (0, ""),
        (1, "four\n"),
        (2, "three\nfour\n"),
        (3, "two\nthree\nfour\n"),
        (4, whole),
        (5, whole),
        (u64::MAX, whole),
    ] {
        assert_eq!(folder.text(Some(lines), None), text, "{lines}");
    }
    folder.append("five");
    assert_eq!(folder.text(Some(1), None), "five");
    assert_eq!(folder.text(Some(2), None), "four\nfive");
    folder.append("\n\n");
    assert_eq!(folder.text(Some(2), None), "five\n\n");
}

#[test]
fn lines_longer_than_a_block_are_counted_right() {
    let folder = Folder::new();
    let long = "x".repeat(3 * BLOCK);
    folder.write(OLD_LOG, format!("a\n{long}\n{}", "y".repeat(BLOCK)));
    folder.write(LOG, format!("\n{}\nz\n", "\n".repeat(BLOCK)));
    let whole = folder.text(None, None);
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for count in [1, 2, 3, BLOCK, BLOCK + 1, BLOCK + 2, BLOCK + 3, BLOCK + 4] {
        let expected: String = lines[lines.len().saturating_sub(count)..].concat();
        assert!(
            folder.text(Some(count as u64), None) == expected,
            "{count} lines"
        );
    }
}

#[test]
fn since_begins_with_the_line_in_which_something_was_written_then() {
    let folder = Folder::new();
    folder.write(OLD_LOG, "one\ntwo\nth");
    folder.write(LOG, "ree\nfour\nfive\n");
    // `two` is begun at 20, `three` at 30 and gone on with at 40, `five` at 50.
    folder.write_times("console.times.1", OLD_LOG, &[(0, 10), (4, 20), (8, 30)]);
    folder.write_times("console.times", LOG, &[(0, 40), (9, 50)]);
    for (since, text) in [
        (0, "one\ntwo\nthree\nfour\nfive\n"),
        (10, "one\ntwo\nthree\nfour\nfive\n"),
        (11, "two\nthree\nfour\nfive\n"),
        (20, "two\nthree\nfour\nfive\n"),
        (21, "three\nfour\nfive\n"),
        (39, "three\nfour\nfive\n"),
        (41, "five\n"),
        (50, "five\n"),
        (51, ""),
    ] {
        assert_eq!(folder.text(None, Some(since)), text, "{since}");
    }
    assert_eq!(folder.text(Some(1), Some(20)), "five\n");
    assert_eq!(folder.text(Some(9), Some(41)), "five\n");
    // Renamed one after the other, the files are found by their inodes.
    for (old, new) in [
        ("console.times", "x"),
        ("console.times.1", "console.times"),
        ("x", "console.times.1"),
    ] {
        fs::rename(folder.path(old), folder.path(new)).unwrap();
    }
    assert_eq!(folder.text(None, Some(41)), "five\n");
}

#[test]
fn what_has_no_time_counts_as_older() {
    let folder = Folder::new();
    folder.write(LOG, "one\ntwo\n");
    assert_eq!(folder.text(None, Some(1)), "");
    // Of another file, cut off in the middle, or with nonsense in it.
    folder.write("another", "");
    folder.write_times("console.times", "another", &[(0, 10)]);
    assert_eq!(folder.text(None, Some(1)), "");
    for length in 0..RECORD {
        folder.write("console.times", vec![b'c'; length]);
        assert_eq!(folder.text(None, Some(1)), "");
    }
    folder.write_times(
        "console.times",
        LOG,
        &[(4, 10), (u64::MAX, u64::MAX / 1000)],
    );
    assert_eq!(folder.text(None, Some(1)), "two\n");
    assert_eq!(folder.text(None, Some(20)), "");
}

#[test]
fn times_are_told_for_every_place() {
    let folder = Folder::new();
    folder.write(OLD_LOG, "ab");
    folder.write(LOG, "cdef");
    folder.write_times("console.times", LOG, &[(1, 10), (3, 20)]);
    let mut log = folder.open(&LogRequest::default());
    let mut buffer = [0; 3];
    let mut told = Vec::new();
    while let LogPiece::Bytes(length) = log.read(&mut buffer).unwrap() {
        told.extend((0..length).map(|index| log.written_at(index)));
    }
    let (ten, twenty) = (Some(second(10)), Some(second(20)));
    assert_eq!(told, [None, None, None, ten, ten, twenty]);
}

#[test]
fn without_following_what_comes_later_is_not_read() {
    let folder = Folder::new();
    folder.boot();
    folder.write(LOG, "one\n");
    let mut log = folder.open(&LogRequest::default());
    folder.append("two\n");
    folder.rotate();
    assert_eq!(available(&mut log), ("one\n".into(), LogPiece::End));
}

#[test]
fn a_log_is_followed_over_its_rotation_to_the_containers_end() {
    let folder = Folder::new();
    folder.boot();
    let mut log = followed_log(&folder);
    let none = |text: &str| (text.to_string(), LogPiece::NothingYet);
    assert_eq!(available(&mut log), none(""));
    folder.append("one\n");
    folder.write_times("console.times", LOG, &[(0, 10), (4, 20)]);
    assert_eq!(available(&mut log), none("one\n"));
    folder.append("two\n");
    folder.rotate();
    assert_eq!(available(&mut log), none("two\n"));
    folder.append("three\n");
    assert_eq!(available(&mut log), none("three\n"));
    assert_eq!(log.written_at(0), None);
    // Twice at once: whether there was a file between them cannot be known.
    folder.rotate();
    folder.append("four\n");
    folder.rotate();
    folder.append("five\n");
    assert_eq!(available(&mut log), (String::new(), LogPiece::Skipped));
    assert_eq!(available(&mut log), none("four\nfive\n"));
    folder.append("six\n");
    folder.end();
    assert_eq!(available(&mut log), ("six\n".into(), LogPiece::End));
}

#[test]
fn following_begins_with_the_lines_that_are_wanted() {
    let folder = Folder::new();
    folder.boot();
    folder.write(LOG, "one\ntwo\n");
    let mut log = folder.open(&LogRequest {
        tail: Some(1),
        follow: Follow::ToTheEnd,
        ..LogRequest::default()
    });
    folder.append("three\n");
    assert_eq!(
        available(&mut log),
        ("two\nthree\n".into(), LogPiece::NothingYet)
    );
}

#[test]
fn a_wait_ends_with_output_with_the_end_and_with_the_reader() {
    let folder = Folder::new();
    folder.boot();
    folder.write(LOG, "one\n");
    let mut log = followed_log(&folder);
    let (reader, output) = rustix::pipe::pipe().unwrap();
    assert_eq!(available(&mut log).1, LogPiece::NothingYet);
    folder.append("two\n");
    assert_eq!(log.wait(&output).unwrap(), Woken::Changed);
    assert_eq!(available(&mut log), ("two\n".into(), LogPiece::NothingYet));
    folder.end();
    assert_eq!(log.wait(&output).unwrap(), Woken::Changed);
    assert_eq!(available(&mut log), (String::new(), LogPiece::End));
    drop(reader);
    assert_eq!(log.wait(&output).unwrap(), Woken::ReaderGone);
}

#[test]
fn a_stopped_containers_log_ends_also_when_it_is_followed() {
    let folder = Folder::new();
    folder.write(LOG, "one\n");
    assert_eq!(
        available(&mut followed_log(&folder)),
        ("one\n".into(), LogPiece::End)
    );
    // Its supervisor died.
    folder.boot();
    let Folder { home, state } = folder;
    drop(state);
    let state = {
        let folder = rustix::fs::open(home.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        StateFile::open(folder.as_fd()).unwrap()
    };
    let folder = Folder { home, state };
    assert_eq!(
        available(&mut followed_log(&folder)),
        ("one\n".into(), LogPiece::End)
    );
}
