//! When what is in a log was written: the records that the supervisor keeps beside it.
//!
//! They are believed as far as they make sense; where they are missing or end in the middle, times are not known.

use cocker_protocol::{LogTime, RECORD, RESOLUTION_MS, times_head};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{pread, retry_on_intr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NAMES: [&str; 2] = ["console.times", "console.times.1"];

/// How many records are read at once.
const RECORDS: usize = 256;

pub(super) struct Times {
    file: OwnedFd,
    /// Where in the file the next block begins, in bytes.
    place: u64,
    /// What was read and not yet passed.
    block: Vec<LogTime>,
    /// How much of the block is passed.
    passed: usize,
    /// The last record that was passed.
    now: Option<LogTime>,
}

impl Times {
    /// The times of the log with this inode, whichever of both files they are in.
    pub(super) fn of(folder: &OwnedFd, inode: u64) -> Option<Times> {
        NAMES.iter().find_map(|name| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = openat(folder, *name, flags, Mode::empty()).ok()?;
            let mut head = [0; RECORD];
            let length = retry_on_intr(|| pread(&file, &mut head, 0)).ok()?;
            let is_its = length == RECORD && head == times_head(inode);
            is_its.then(|| Times::begin(file))
        })
    }

    fn begin(file: OwnedFd) -> Times {
        Times {
            file,
            place: RECORD as u64,
            block: Vec::new(),
            passed: 0,
            now: None,
        }
    }

    /// When the byte at this place was written. Places are asked for from the lowest on.
    pub(super) fn at(&mut self, place: u64) -> Option<SystemTime> {
        while let Some(next) = self.peek()
            && next.offset <= place
        {
            self.now = Some(next);
            self.passed += 1;
        }
        moment(self.now?)
    }

    /// The first place behind which something was written since then. Begins from the first record.
    pub(super) fn first_since(&mut self, since: SystemTime) -> Option<u64> {
        let mut found = None;
        while let Some(next) = self.peek() {
            self.passed += 1;
            // Until so much later there is no other record.
            let latest = moment(next).map(|at| at + Duration::from_millis(RESOLUTION_MS));
            if latest.is_none_or(|latest| latest > since) {
                found = Some(next.offset);
                break;
            }
        }
        self.place = RECORD as u64;
        self.block.clear();
        self.passed = 0;
        found
    }

    /// The next record, if it is there by now.
    fn peek(&mut self) -> Option<LogTime> {
        if self.passed == self.block.len() {
            let mut bytes = [0; RECORDS * RECORD];
            let length = retry_on_intr(|| pread(&self.file, &mut bytes, self.place)).ok()?;
            let (records, _) = bytes[..length].as_chunks::<RECORD>();
            self.block = records.iter().map(LogTime::decode).collect();
            self.place += (records.len() * RECORD) as u64;
            self.passed = 0;
        }
        self.block.get(self.passed).copied()
    }
}

/// None for what no clock has.
fn moment(record: LogTime) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(record.time_ms))
}
