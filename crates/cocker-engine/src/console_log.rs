//! The log of a container's console, as its supervisor writes it: read from a line on, with the times of what is in it,
//! and followed while the container is booted.
//!
//! ```text
//!   console.log.1 ┊ console.log                        one text, in two files
//!        ┊    ▲ start (--tail, --since)      ▲ end     ┄┄▶ what is still to come, by --follow
//!   console.times.1 ┊ console.times                    when what is there was written
//! ```
//!
//! The supervisor renames both pairs whenever a log is full, at any moment: a reader goes by inodes. What is in the log
//! was written by root inside: it is bytes, and nothing here depends on them but where lines end. Nothing is held in
//! memory but a block of it.

mod follow;
mod times;

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{EngineError, LogError};
use cocker_image::Name;
use follow::Run;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, statat};
use rustix::io::{Errno, pread, retry_on_intr};
use std::collections::VecDeque;
use std::time::SystemTime;
use times::Times;

pub(crate) const LOG: &str = "console.log";
const OLD_LOG: &str = "console.log.1";

/// How much is looked at at once where lines are counted, in bytes.
const BLOCK: usize = 64 * 1024;

/// How often a pair of files may change its names while it is opened.
const MOST_TRIES: usize = 100;

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogRequest {
    /// At most so many lines, the last ones.
    pub tail: Option<u64>,
    /// Only lines of which something was written since then; what has no time counts as older.
    pub since: Option<SystemTime>,
    pub follow: Follow,
}

/// Whether what is written later is wanted, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    #[default]
    No,
    /// Until the container has ended.
    ToTheEnd,
}

/// What a read has come upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogPiece {
    /// So many bytes, at least one, are in the buffer.
    Bytes(usize),
    /// The log was rotated more than once since the last read: some of it may never be seen here.
    Skipped,
    /// Nothing more is there yet: see [`ConsoleLog::wait`].
    NothingYet,
    End,
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something may have been written, or the container have ended.
    Changed,
    /// Nobody reads any more what would be printed.
    ReaderGone,
}

/// A log that is being read.
pub struct ConsoleLog {
    container: Container,
    /// What is still to be read; the first is being read.
    parts: VecDeque<Part>,
    /// None where the log is not followed.
    run: Option<Run>,
}

/// One of the two files.
struct Part {
    file: OwnedFd,
    inode: u64,
    /// Where the next read begins, in bytes.
    place: u64,
    /// How far it is read; none: as far as it gets.
    end: Option<u64>,
    /// The place of the last piece.
    last: u64,
    /// It was renamed: nothing is written into it any more.
    is_complete: bool,
    times: Option<Times>,
}

impl Engine {
    /// Opens the log of a container's console, booted or not, at the first line that is wanted.
    pub fn console_log(
        &self,
        container: &Name,
        request: &LogRequest,
    ) -> Result<ConsoleLog, EngineError> {
        let opened = Container::open(&self.store, container).map_err(EngineError::from)?;
        ConsoleLog::open(opened, request).map_err(|source| failed(container, source))
    }
}

impl ConsoleLog {
    fn open(container: Container, request: &LogRequest) -> Result<ConsoleLog, LogError> {
        // Watched before anything is read: nothing is written between the two.
        let run = match request.follow {
            Follow::No => None,
            Follow::ToTheEnd => Some(Run::watch(&container)?),
        };
        let mut parts = open_parts(&container.folder)?;
        go_to_start(&mut parts, request)?;
        if run.is_some()
            && let Some(newest) = parts.back_mut()
        {
            newest.end = None;
        }
        Ok(ConsoleLog {
            container,
            parts,
            run,
        })
    }

    /// Reads on. Without following, what is written meanwhile is not read any more, so there always is an end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<LogPiece, EngineError> {
        self.next_piece(buffer)
            .map_err(|source| failed(&self.container.name, source))
    }

    /// When a byte of the last piece was written, to the second; none where that is not known. To be asked from the
    /// first byte on.
    pub fn written_at(&mut self, index: usize) -> Option<SystemTime> {
        let part = self.parts.front_mut()?;
        let place = part.last + index as u64;
        // They are made after the log itself, so they may have been missing when that was opened.
        if part.times.is_none() && part.end.is_none() {
            part.times = Times::of(&self.container.folder, part.inode);
        }
        part.times.as_mut()?.at(place)
    }

    /// Waits until there may be more, or until nobody reads what is printed to `output`.
    pub fn wait(&mut self, output: impl AsFd) -> Result<Woken, EngineError> {
        let woken = match &mut self.run {
            Some(run) => run.wait(output.as_fd()),
            None => Ok(Woken::Changed),
        };
        woken.map_err(|source| failed(&self.container.name, source))
    }

    fn next_piece(&mut self, buffer: &mut [u8]) -> Result<LogPiece, LogError> {
        loop {
            if let Some(part) = self.parts.front_mut() {
                let length = part.read(buffer)?;
                if length > 0 {
                    return Ok(LogPiece::Bytes(length));
                }
                if self.parts.len() > 1 {
                    self.parts.pop_front();
                    continue;
                }
            }
            let Some(run) = &mut self.run else {
                return Ok(LogPiece::End);
            };
            let newest = inode_of(&self.container.folder)?;
            match self.parts.front_mut() {
                // What was written to it before it was renamed may have been missed by the read above.
                Some(part) if part.is_followed_by(newest) && !part.is_complete => {
                    part.is_complete = true;
                }
                Some(part) if part.is_followed_by(newest) => {
                    if self.go_on()? {
                        return Ok(LogPiece::Skipped);
                    }
                }
                None if newest.is_some() => self.parts = followed(&self.container.folder)?,
                // Nothing writes to it any more, and the read above was after the end.
                _ if run.has_ended => return Ok(LogPiece::End),
                _ => {
                    run.look(&self.container)?;
                    if !run.has_ended {
                        return Ok(LogPiece::NothingYet);
                    }
                }
            }
        }
    }

    /// Goes over to what is behind the file that was renamed; says whether another one came and went between them.
    fn go_on(&mut self) -> Result<bool, LogError> {
        let before = self.parts.front().map(|part| part.inode);
        let mut parts = followed(&self.container.folder)?;
        let known = parts.iter().position(|part| Some(part.inode) == before);
        if let Some(known) = known {
            parts.drain(..=known);
        }
        // Where the next one is just being made, we stay until it is there.
        if !parts.is_empty() {
            self.parts = parts;
        }
        Ok(known.is_none())
    }
}

impl Part {
    fn open(folder: &OwnedFd, name: &'static str) -> Result<Option<Part>, LogError> {
        let opening = |source| LogError::Open { file: name, source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(folder, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(opening)?,
        };
        let status = fstat(&file).map_err(opening)?;
        Ok(Some(Part {
            file,
            inode: status.st_ino,
            place: 0,
            end: u64::try_from(status.st_size).ok(),
            last: 0,
            is_complete: false,
            times: None,
        }))
    }

    /// Whether another file has the name that this one had, or never had.
    fn is_followed_by(&self, newest: Option<u64>) -> bool {
        newest.is_some_and(|newest| newest != self.inode)
    }

    fn length(&self) -> u64 {
        self.end.unwrap_or(0)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LogError> {
        let left = self.end.map_or(u64::MAX, |end| end - self.place.min(end));
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let length = read_at(self.file.as_fd(), &mut buffer[..most], self.place)?;
        self.last = self.place;
        self.place += length as u64;
        Ok(length)
    }
}

/// Both files, the older first, each as long as it is now; their times are found by their inodes.
fn open_parts(folder: &OwnedFd) -> Result<VecDeque<Part>, LogError> {
    for _ in 0..MOST_TRIES {
        let newest = Part::open(folder, LOG)?;
        let old = Part::open(folder, OLD_LOG)?;
        // Renamed in between, the first would be both, or another one would be missing between them.
        if inode_of(folder)? != newest.as_ref().map(|part| part.inode) {
            continue;
        }
        let mut parts: VecDeque<Part> = old.into_iter().chain(newest).collect();
        for part in &mut parts {
            part.times = Times::of(folder, part.inode);
        }
        return Ok(parts);
    }
    Err(LogError::Rotating)
}

/// The same, the newer to be read as far as it gets.
fn followed(folder: &OwnedFd) -> Result<VecDeque<Part>, LogError> {
    let mut parts = open_parts(folder)?;
    if let Some(newest) = parts.back_mut() {
        newest.end = None;
    }
    Ok(parts)
}

fn inode_of(folder: &OwnedFd) -> Result<Option<u64>, LogError> {
    match statat(folder, LOG, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(status) => Ok(Some(status.st_ino)),
        Err(Errno::NOENT) => Ok(None),
        Err(source) => Err(LogError::Open { file: LOG, source }),
    }
}

/// Sets every part to where reading begins.
fn go_to_start(parts: &mut VecDeque<Part>, request: &LogRequest) -> Result<(), LogError> {
    let mut start = 0;
    if let Some(since) = request.since {
        start = match first_since(parts, since) {
            // A line of which something is wanted is wanted in whole.
            Some(place) => line_start(parts, place, 1)?,
            None => whole(parts),
        };
    }
    if let Some(lines) = request.tail {
        start = start.max(tail_start(parts, lines)?);
    }
    for part in parts {
        part.place = start.min(part.length());
        start -= part.place;
    }
    Ok(())
}

/// The length of the whole text.
fn whole(parts: &VecDeque<Part>) -> u64 {
    parts.iter().map(Part::length).sum()
}

/// The place in the whole text where something begins that was written since then.
fn first_since(parts: &mut VecDeque<Part>, since: SystemTime) -> Option<u64> {
    let mut before = 0;
    for part in parts {
        let times = part.times.as_mut();
        if let Some(place) = times.and_then(|times| times.first_since(since)) {
            return Some(before + place.min(part.length()));
        }
        before += part.length();
    }
    None
}

/// Where the last `lines` lines begin.
fn tail_start(parts: &VecDeque<Part>, lines: u64) -> Result<u64, LogError> {
    let end = whole(parts);
    if lines == 0 || end == 0 {
        return Ok(end);
    }
    // The end of the last line ends no other one.
    line_start(parts, end - 1, lines)
}

/// Goes back from `place` over `lines` beginnings of lines and returns the last of them, or the beginning of the text.
fn line_start(parts: &VecDeque<Part>, place: u64, mut lines: u64) -> Result<u64, LogError> {
    let mut block = vec![0; BLOCK];
    let mut first = whole(parts);
    for part in parts.iter().rev() {
        first -= part.length();
        let mut rest = place.min(first + part.length()).saturating_sub(first);
        while rest > 0 {
            let length = rest.min(BLOCK as u64);
            rest -= length;
            let block = &mut block[..length as usize];
            let read = read_at(part.file.as_fd(), block, rest)?;
            for at in (0..read).rev().filter(|&at| block[at] == b'\n') {
                lines -= 1;
                if lines == 0 {
                    return Ok(first + rest + at as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}

/// Fills the buffer as far as the file reaches.
fn read_at(file: BorrowedFd<'_>, buffer: &mut [u8], place: u64) -> Result<usize, LogError> {
    let mut length = 0;
    while length < buffer.len() {
        let rest = &mut buffer[length..];
        let read = retry_on_intr(|| pread(file, &mut *rest, place + length as u64));
        match read.map_err(|source| LogError::Read { source })? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

fn failed(container: &Name, source: LogError) -> EngineError {
    EngineError::ConsoleLog {
        container: container.clone(),
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests;
