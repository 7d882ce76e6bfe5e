//! When what is in a log was written: records beside it, at most one a second, in the form of `cocker_protocol::LogTime`.
//!
//! They are of use only as far as they are right: whatever is found that does not fit the log is dropped, and what cannot
//! be written is left out. The log itself never waits for them.
use core::ffi::CStr;

use cocker_protocol::{LogTime, RECORD, RESOLUTION_MS, times_head};

use crate::raw::{self, Descriptor, Fd};

/// The most records beside one log: 2 MiB, 36 hours of a line every second.
const MOST: u64 = 1 << 17;

pub struct Times {
    file: Descriptor,
    count: u64,
    /// When the last record was made; 0 before the first one since the file was opened.
    last_ms: u64,
}

impl Times {
    /// Opens the records of a log that is `length` bytes long, made where there are none.
    pub fn open(folder: Fd, name: &CStr, log: Fd, length: u64) -> Option<Self> {
        let inode = raw::inode(log).ok()?;
        let file = raw::open_records(folder, name).ok()?;
        let mut times = Self {
            count: 0,
            last_ms: 0,
            file,
        };
        let mut head = [0; RECORD];
        let is_headed = raw::read_at(times.file.fd(), &mut head, 0) == Ok(RECORD);
        // An empty log may have the inode of one that is gone.
        if length > 0 && is_headed && head == times_head(inode) {
            let size = raw::file_length(times.file.fd()).ok()?;
            times.count = (size / RECORD as u64).saturating_sub(1).min(MOST);
            times.drop_those_beyond(length);
        } else {
            raw::cut(times.file.fd(), 0).ok()?;
            raw::write_at(times.file.fd(), &times_head(inode), 0).ok()?;
        }
        Some(times)
    }

    /// Whether there is no room for another one.
    pub fn are_full(&self) -> bool {
        self.count >= MOST
    }

    /// Notes that the log is `offset` bytes long now, unless the last note is fresh enough.
    pub fn note(&mut self, offset: u64) {
        let now = raw::wall_clock_ms();
        // A clock that was set back is worth a record, too.
        let is_fresh = now >= self.last_ms && now - self.last_ms < RESOLUTION_MS;
        if is_fresh || self.are_full() {
            return;
        }
        let record = LogTime {
            offset,
            time_ms: now,
        };
        // What was written in part is written over the next time.
        if raw::write_at(self.file.fd(), &record.encode(), self.place(self.count)) == Ok(RECORD) {
            self.count += 1;
            self.last_ms = now;
        }
    }

    /// A host that lost its power may have lost the end of the log and kept the records of it.
    fn drop_those_beyond(&mut self, length: u64) {
        let mut record = [0; RECORD];
        while self.count > 0 {
            let place = self.place(self.count - 1);
            let is_read = raw::read_at(self.file.fd(), &mut record, place) == Ok(RECORD);
            if is_read && LogTime::decode(&record).offset <= length {
                break;
            }
            self.count -= 1;
        }
        let _ = raw::cut(self.file.fd(), self.place(self.count));
    }

    /// Where a record stands, in bytes.
    fn place(&self, index: u64) -> u64 {
        (index + 1) * RECORD as u64
    }
}
