//! A container's state: the lock that says "booted", and the record in the locked file.
//!
//! ```text
//!   containers/<name>/lock       160 bytes, one line:
//!   pid=4711 started=1700000000 size=0 exit=-                                         …blanks… \n
//!                                            └─ then `oom=N` where memory ran out, `ending=1` while the last
//!                                               supervisor cleans up, `measured=` where the size can be relied on
//! ```
//!
//! *Booted* is whether the lock is held; the supervisor holds it from before the root process exists until everything is
//! released. The record is for display and clean-up: its pid means something only while the lock is held, and a pid in
//! the record of a free lock says that the supervisor died without its last work. It is written in one piece and by the
//! holder of the lock only.
//!
//! Nobody brings it to disk, so after a power cut it may be any that there was, and its size that of other files. It is relied on
//! only in the run of the host in which it was measured, and only until something can write to the files.

use cocker_sys::fault;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::sync::OnceLock;

const SIZE: usize = 160;
const FILE: &str = "lock";

/// What the record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Root process on the host; 0 while there is none.
    pub pid: i32,
    /// Seconds since the epoch of the last boot; 0 before the first one.
    pub started: u64,
    /// Bytes of the writable layer when it was last measured.
    pub size: u64,
    /// The run of the host in which that was, where nothing can have changed since.
    pub measured: Option<u32>,
    /// Wait status of the last root process.
    pub exit: Option<i32>,
    /// How many processes were killed because memory ran out, by the end of the last boot.
    pub oom_kills: u64,
    /// The root process has ended and what it leaves is being removed; or a boot has begun and there is none yet, and the pid is
    /// that of the client.
    pub is_ending: bool,
}

impl Record {
    /// The same once the writable layer was found to hold `size` bytes and is as it was then.
    pub(crate) fn with_size(self, size: u64) -> Record {
        Record {
            size,
            measured: this_run(),
            ..self
        }
    }

    /// Bytes of the writable layer, where that can be relied on.
    pub(crate) fn known_size(&self) -> Option<u64> {
        let is_known = self.measured.is_some() && self.measured == this_run();
        is_known.then_some(self.size)
    }
}

/// A number that the kernel draws each time that it starts (random(4)); none where it does not say it.
fn this_run() -> Option<u32> {
    static RUN: OnceLock<Option<u32>> = OnceLock::new();
    *RUN.get_or_init(|| {
        let drawn = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        u32::from_str_radix(drawn.get(..8)?, 16).ok()
    })
}

/// The state as everybody may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Stopped,
    /// The supervisor died without its last work: the next command that holds the container does it.
    Broken,
    Booted {
        pid: i32,
    },
    /// Locked without a root process: being booted or being released; milliseconds.
    InTransit,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct StateFile {
    file: OwnedFd,
}

impl StateFile {
    /// Opens the file in the container's folder.
    pub(crate) fn open(folder: BorrowedFd<'_>) -> Result<StateFile, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(folder, FILE, flags, Mode::empty())?;
        Ok(StateFile { file })
    }

    /// Makes the file of a new container whose writable layer holds `size` bytes.
    pub(crate) fn make(folder: BorrowedFd<'_>, size: u64) -> Result<StateFile, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(folder, FILE, flags, Mode::RUSR | Mode::WUSR);
        let file = fault::step("state.make", make)?;
        let state = StateFile { file };
        state.write(Record::default().with_size(size))?;
        Ok(state)
    }

    /// Takes over a descriptor of the file, already locked.
    pub(crate) fn from_locked(file: OwnedFd) -> StateFile {
        StateFile { file }
    }

    pub(crate) fn standing(&self) -> Result<(Standing, Record), Errno> {
        let is_locked = cocker_sys::lock::is_locked(&self.file)?;
        let record = self.read()?;
        let standing = match (is_locked, record.pid) {
            (true, _) if record.is_ending => Standing::InTransit,
            (true, 0) => Standing::InTransit,
            (true, pid) => Standing::Booted { pid },
            (false, 0) => Standing::Stopped,
            (false, _) => Standing::Broken,
        };
        Ok((standing, record))
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_lock(&self) -> Result<(), Errno> {
        fault::step("state.lock", || cocker_sys::lock::try_lock(&self.file))
    }

    /// Waits for the lock.
    pub(crate) fn wait_lock(&self) -> Result<(), Errno> {
        cocker_sys::lock::wait_lock(&self.file)
    }

    /// The same up to a moment; `ETIMEDOUT` where it was not free by then.
    pub(crate) fn wait_lock_until(&self, deadline: std::time::Instant) -> Result<(), Errno> {
        cocker_sys::lock::wait_lock_until(&self.file, deadline)
    }

    /// The file itself.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn read(&self) -> Result<Record, Errno> {
        let mut bytes = [0u8; SIZE];
        let length = rustix::io::pread(&self.file, &mut bytes, 0)?;
        Ok(parse(&bytes[..length]))
    }

    pub(crate) fn write(&self, record: Record) -> Result<(), Errno> {
        let text = render(record);
        let write = || rustix::io::pwrite(&self.file, text.as_bytes(), 0);
        let written = fault::step("state.write", write)?;
        if written == SIZE {
            Ok(())
        } else {
            Err(Errno::NOSPC)
        }
    }

    /// A second descriptor of the same open file: it holds the same lock.
    pub(crate) fn share(&self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(self.file.as_fd(), 3)
    }
}

fn render(record: Record) -> String {
    let Record {
        pid,
        started,
        size,
        exit,
        measured,
        oom_kills,
        is_ending,
    } = record;
    let exit = exit.map_or_else(|| "-".into(), |status| status.to_string());
    let ending = if is_ending { " ending=1" } else { "" };
    let oom = match oom_kills {
        0 => String::new(),
        count => format!(" oom={count}"),
    };
    let measured = measured.map_or_else(String::new, |run| format!(" measured={run}"));
    let line =
        format!("pid={pid} started={started} size={size} exit={exit}{oom}{ending}{measured}");
    format!("{line:<width$}\n", width = SIZE - 1)
}

/// What cannot be read counts as zero: the record decides nothing that the lock does not.
fn parse(bytes: &[u8]) -> Record {
    let text = String::from_utf8_lossy(bytes);
    let field = |key: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
        text.and_then(|text| text.parse().ok())
    }
    Record {
        pid: number(field("pid")).unwrap_or(0),
        started: number(field("started")).unwrap_or(0),
        size: number(field("size")).unwrap_or(0),
        measured: number(field("measured")),
        exit: number(field("exit")),
        oom_kills: number(field("oom")).unwrap_or(0),
        is_ending: number(field("ending")) == Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = Record {
            pid: i32::MAX,
            started: u64::MAX,
            size: u64::MAX,
            measured: Some(u32::MAX),
            exit: Some(i32::MIN),
            oom_kills: u64::MAX,
            is_ending: true,
        };
        for record in [record, Record::default()] {
            let line = render(record);
            assert_eq!(line.len(), SIZE);
            assert_eq!(parse(line.as_bytes()), record);
        }
    }

    #[test]
    fn a_size_is_relied_on_in_the_run_of_the_host_in_which_it_was_measured() {
        let now = Record::default().with_size(5);
        assert_eq!(now.known_size(), Some(5));
        let before = Record {
            measured: now.measured.map(|run| run ^ 1),
            ..now
        };
        assert_eq!(before.known_size(), None);
        let changed = Record {
            measured: None,
            ..now
        };
        assert_eq!((changed.known_size(), changed.size), (None, 5));
    }

    #[test]
    fn a_damaged_record_counts_as_empty() {
        assert_eq!(parse(b"\xff\xfe pid=x size"), Record::default());
    }

    #[test]
    fn a_lock_is_seen_without_being_taken_and_outlives_its_first_holder() {
        let home = tempfile::tempdir().expect("a folder");
        let folder = rustix::fs::open(home.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
        let first = StateFile::make(folder.as_fd(), 0).unwrap();
        let second = StateFile::open(folder.as_fd()).unwrap();
        assert_eq!(second.standing().unwrap().0, Standing::Stopped);
        first.try_lock().unwrap();
        assert_eq!(second.standing().unwrap().0, Standing::InTransit);
        let pid = 7;
        first
            .write(Record {
                pid,
                ..Record::default()
            })
            .unwrap();
        assert_eq!(second.standing().unwrap().0, Standing::Booted { pid });
        assert_eq!(second.try_lock(), Err(Errno::AGAIN));
        let ending = Record {
            pid,
            is_ending: true,
            ..Record::default()
        };
        first.write(ending).unwrap();
        assert_eq!(second.standing().unwrap().0, Standing::InTransit);
        let booted = Record {
            is_ending: false,
            ..ending
        };
        first.write(booted).unwrap();
        let copy = first.share().unwrap();
        drop(first);
        assert_eq!(second.standing().unwrap().0, Standing::Booted { pid });
        drop(copy);
        assert_eq!(second.standing().unwrap().0, Standing::Broken);
    }
}
