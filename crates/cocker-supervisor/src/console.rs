//! The console's log: what the root process writes to its terminal, kept on disk within bounds.
//!
//! ```text
//!   console.log      the newest, up to 8 MiB             console.times      when it was written
//!   console.log.1    what came before, up to 8 MiB       console.times.1
//! ```
//!
//! A full disk loses lines of the log, and never holds up the container.
use crate::raw::{self, Descriptor, Errno, Fd};
use crate::times::Times;

const LOG: &core::ffi::CStr = c"console.log";
const OLD_LOG: &core::ffi::CStr = c"console.log.1";
const TIMES: &core::ffi::CStr = c"console.times";
const OLD_TIMES: &core::ffi::CStr = c"console.times.1";
const MOST_BYTES: u64 = 8 << 20;

pub struct Console {
    folder: Fd,
    log: Option<Log>,
}

/// What the master had to give.
#[derive(PartialEq, Eq)]
pub enum Output {
    Logged,
    NoneNow,
    Ended,
}

struct Log {
    file: Descriptor,
    length: u64,
    /// None where they cannot be kept.
    times: Option<Times>,
}

impl Console {
    pub fn new(folder: Fd) -> Self {
        Self { folder, log: None }
    }

    /// Moves what is there, at most one page of it, from the master to the log, by way of `buffer`.
    pub fn log_once(&mut self, master: Fd, buffer: &mut [u8]) -> Output {
        let room = buffer.len().min(4096);
        match raw::read(master, &mut buffer[..room]) {
            Ok(0) => Output::Ended,
            Ok(length) => {
                self.append(&buffer[..length]);
                Output::Logged
            }
            Err(Errno::AGAIN | Errno::INTR) => Output::NoneNow,
            // Every slave is closed, which init, whose console this is, does only by ending.
            Err(_) => Output::Ended,
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.log.is_none() {
            self.log = open(self.folder);
        }
        if self.log.as_ref().is_some_and(Log::is_full) {
            self.log = None;
            rotate(self.folder);
            self.log = open(self.folder);
        }
        if let Some(log) = &mut self.log {
            // The time first: where it is noted and the rest fails, it is the time of nothing.
            if let Some(times) = &mut log.times {
                times.note(log.length);
            }
            if let Ok(written) = raw::write(log.file.fd(), bytes) {
                log.length += written as u64;
            }
        }
    }
}

impl Log {
    fn is_full(&self) -> bool {
        self.length >= MOST_BYTES || self.times.as_ref().is_some_and(Times::are_full)
    }
}

fn rotate(folder: Fd) {
    if raw::rename(folder, LOG, OLD_LOG).is_ok() && raw::rename(folder, TIMES, OLD_TIMES).is_err() {
        // They are of a log that is gone.
        raw::remove(folder, OLD_TIMES);
    }
}

fn open(folder: Fd) -> Option<Log> {
    let file = raw::open_log(folder, LOG).ok()?;
    let length = raw::file_length(file.fd()).unwrap_or(0);
    let times = Times::open(folder, TIMES, file.fd(), length);
    Some(Log {
        file,
        length,
        times,
    })
}
