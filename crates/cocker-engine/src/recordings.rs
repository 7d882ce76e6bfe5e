//! The recordings that `[sessions] record = true` of `config.toml` asks for: one file for each command and each session, in
//! the container's folder and so beside its files, where nothing inside can reach them.
//!
//! ```text
//! containers/<name>/recordings/                    0700
//! └── 20261125T203442.123456Z-run.cast             0600, locked (flock) for as long as it is being written
//! ```
//!
//! Names sort by time. Room is made when a new one starts: the oldest go until what is left and one more as large as one may
//! get are no more than ten times that. One that is being written never goes.

use crate::config::SessionsConfig;
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{EngineError, RecordError};
use crate::request::WindowSize;
use cocker_image::Name;
use cocker_image::oci::write_timestamp;
use cocker_recording::Header;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, mkdirat, openat, statat, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// In a container's folder.
const FOLDER: &str = "recordings";

const ENDING: &str = ".cast";

/// How many recordings as large as one may get a container has room for.
const MOST_IN_SIZE: u64 = 10;

/// However small they are, so that looking at them stays quick.
const MOST_IN_NUMBER: usize = 1000;

/// A new recording of a command or session; empty, and locked until the last copy of its descriptor closes.
#[derive(Debug)]
pub struct Recording {
    pub file: File,
    pub path: PathBuf,
    /// How large it may get, in bytes.
    pub most_bytes: u64,
}

/// What a recording says of itself.
#[derive(Debug)]
pub struct Title<'a> {
    pub title: &'a str,
    /// As a user would type it.
    pub command: &'a [u8],
    /// 80 columns and 24 rows where there is no terminal.
    pub size: Option<WindowSize>,
    /// TERM of what is recorded, where it has a terminal.
    pub term: Option<&'a str>,
}

impl Title<'_> {
    /// The first line of a recording that begins now.
    pub fn line(&self) -> Vec<u8> {
        let size = self.size.unwrap_or(WindowSize {
            rows: 24,
            columns: 80,
        });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let term = self.term.map(str::as_bytes);
        let header = Header {
            columns: size.columns,
            rows: size.rows,
            timestamp: now.ok().map(|since| since.as_secs()),
            title: Some(self.title.as_bytes()),
            command: Some(self.command),
            term,
            ..Header::default()
        };
        let text = self.title.len() + self.command.len() + term.map_or(0, <[u8]>::len);
        // Six bytes for each, as it may be, and the rest of the line.
        let mut line = vec![0; 6 * text + 256];
        let length = header.encode(&mut line).expect("there is room for it");
        line.truncate(length);
        line
    }
}

impl Engine {
    /// Begins a recording where the administrator wants one of every command and session; makes room for it first.
    ///
    /// `what` becomes a part of the file's name: `run`.
    pub fn begin_recording(
        &self,
        container: &Name,
        what: &str,
    ) -> Result<Option<Recording>, EngineError> {
        self.begin(container, what)
            .map_err(|source| EngineError::Record {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    pub(crate) fn begin(&self, name: &Name, what: &str) -> Result<Option<Recording>, RecordError> {
        let SessionsConfig {
            record: true,
            record_size: most_bytes,
        } = SessionsConfig::read(&self.store)?
        else {
            return Ok(None);
        };
        let container = Container::open(&self.store, name)?;
        let writing = |source| RecordError::Begin { source };
        let folder = make_folder(container.folder.as_fd()).map_err(writing)?;
        // Two that start at once would both find the room that is left. The lock ends with `folder`.
        lock(folder.as_fd(), FlockOperation::LockExclusive).map_err(writing)?;
        make_room(folder.as_fd(), most_bytes).map_err(writing)?;
        let (file, file_name) = create(folder.as_fd(), what, SystemTime::now()).map_err(writing)?;
        let folder = self.store.home().join("containers").join(name.as_str());
        Ok(Some(Recording {
            file: file.into(),
            path: folder.join(FOLDER).join(file_name),
            most_bytes,
        }))
    }
}

/// The sizes of a container's recordings, in bytes; none where they cannot be read.
pub(crate) fn sizes(container: &Container) -> Vec<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let there = openat(&container.folder, FOLDER, flags, Mode::empty())
        .and_then(|folder| oldest_first(folder.as_fd()));
    let there = there.unwrap_or_default().into_iter();
    there.map(|recording| recording.size).collect()
}

fn make_folder(container: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    match mkdirat(container, FOLDER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(container, FOLDER, flags, Mode::empty())
}

fn lock(file: BorrowedFd<'_>, operation: FlockOperation) -> Result<(), Errno> {
    cocker_sys::lock::flock(file, operation)
}

struct Old {
    name: String,
    size: u64,
}

/// Removes the oldest ones until there is room for one more.
fn make_room(folder: BorrowedFd<'_>, most_bytes: u64) -> Result<(), Errno> {
    let there = oldest_first(folder)?;
    let allowed = most_bytes.saturating_mul(MOST_IN_SIZE - 1);
    let mut size: u64 = there.iter().map(|old| old.size).sum();
    let mut count = there.len();
    for old in there {
        if size <= allowed && count < MOST_IN_NUMBER {
            break;
        }
        if is_being_written(folder, &old.name)? {
            continue;
        }
        unlinkat(folder, &old.name, AtFlags::empty())?;
        tracing::debug!("recording `{}` made room", old.name);
        size -= old.size;
        count -= 1;
    }
    Ok(())
}

/// What is called as we call it and is a file.
fn oldest_first(folder: BorrowedFd<'_>) -> Result<Vec<Old>, Errno> {
    let mut there = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| is_ours(name)) else {
            continue;
        };
        match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) if FileType::from_raw_mode(status.st_mode).is_file() => there.push(Old {
                name: name.into(),
                size: u64::try_from(status.st_size).unwrap_or(0),
            }),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    there.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(there)
}

/// `20261125T203442.123456Z-….cast`.
fn is_ours(name: &str) -> bool {
    let shape = b"00000000T000000.000000Z-";
    let name = name.as_bytes();
    name.len() > shape.len()
        && name.ends_with(ENDING.as_bytes())
        && name.iter().zip(shape).all(|(byte, like)| match like {
            b'0' => byte.is_ascii_digit(),
            like => byte == like,
        })
}

fn is_being_written(folder: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(folder, name, flags, Mode::empty()) {
        Ok(file) => match lock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno),
        },
        Err(errno) => Err(errno),
    }
}

/// Makes a new file and locks it; where two start in the same microsecond, the second one says a later.
fn create(
    folder: BorrowedFd<'_>,
    what: &str,
    mut now: SystemTime,
) -> Result<(OwnedFd, String), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::APPEND | OFlags::CLOEXEC;
    loop {
        let name = file_name(what, now);
        match openat(folder, &name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                lock(file.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
                return Ok((file, name));
            }
            Err(Errno::EXIST) => now += Duration::from_micros(1),
            Err(errno) => return Err(errno),
        }
    }
}

fn file_name(what: &str, now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.subsec_micros());
    let time: String = write_timestamp(now)
        .chars()
        .filter(|c| !matches!(c, '-' | ':' | 'Z'))
        .collect();
    let what: String = what
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    format!("{time}.{micros:06}Z-{what}{ENDING}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn folder() -> (tempfile::TempDir, OwnedFd) {
        let parent = tempfile::tempdir().expect("a folder");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(parent.path(), flags, Mode::empty()).unwrap();
        let folder = make_folder(opened.as_fd()).unwrap();
        (parent, folder)
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_600_000_000 + seconds)
    }

    /// Makes a recording of this size and ends it.
    fn recorded(folder: &OwnedFd, seconds: u64, size: u64) -> String {
        let (file, name) = create(folder.as_fd(), "run", at(seconds)).unwrap();
        File::from(file).set_len(size).unwrap();
        name
    }

    fn names(folder: &OwnedFd) -> Vec<String> {
        let there = oldest_first(folder.as_fd()).unwrap();
        there.into_iter().map(|old| old.name).collect()
    }

    #[test]
    fn names_sort_by_time_and_are_never_the_same() {
        let (_parent, folder) = folder();
        let first = recorded(&folder, 0, 0);
        assert_eq!(first, "20200913T122640.000000Z-run.cast");
        let second = recorded(&folder, 0, 0);
        assert_eq!(second, "20200913T122640.000001Z-run.cast");
        let odd = file_name("../etc/ü", at(0));
        assert_eq!(odd, "20200913T122640.000000Z----etc--.cast");
        assert!(is_ours(&odd));
        for other in [
            "notes.txt",
            "a.cast",
            ".cast",
            "20200913T122640.00000xZ-run.cast",
        ] {
            assert!(!is_ours(other), "{other}");
        }
        assert_eq!(names(&folder), [first, second]);
    }

    #[test]
    fn the_oldest_go_until_there_is_room_for_one_more() {
        let (parent, folder) = folder();
        let all: Vec<_> = (0..12).map(|n| recorded(&folder, n, 100)).collect();
        std::fs::write(parent.path().join("recordings/notes.txt"), [0; 5000]).unwrap();
        make_room(folder.as_fd(), 100).unwrap();
        assert_eq!(names(&folder), all[3..]);
        // There is room for one more already.
        make_room(folder.as_fd(), 100).unwrap();
        assert_eq!(names(&folder), all[3..]);
        make_room(folder.as_fd(), 10).unwrap();
        assert_eq!(names(&folder), Vec::<String>::new());
        assert!(parent.path().join("recordings/notes.txt").exists());
    }

    #[test]
    fn what_is_being_written_stays() {
        let (_parent, folder) = folder();
        let (file, oldest) = create(folder.as_fd(), "session-1", at(0)).unwrap();
        File::from(file.try_clone().unwrap()).set_len(1000).unwrap();
        let next = recorded(&folder, 1, 100);
        make_room(folder.as_fd(), 100).unwrap();
        assert_eq!(names(&folder), std::slice::from_ref(&oldest));
        drop(file);
        make_room(folder.as_fd(), 100).unwrap();
        assert_eq!(names(&folder), Vec::<String>::new());
        assert_ne!(oldest, next);
    }

    #[test]
    fn there_are_never_too_many_however_small_they_are() {
        let (_parent, folder) = folder();
        for n in 0..=1005 {
            recorded(&folder, n, 1);
        }
        make_room(folder.as_fd(), 1 << 20).unwrap();
        assert_eq!(names(&folder).len(), MOST_IN_NUMBER - 1);
    }

    #[test]
    fn nobody_else_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let (parent, folder) = folder();
        let name = recorded(&folder, 0, 1);
        let path = parent.path().join("recordings");
        let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(name)), 0o600);
    }
}
