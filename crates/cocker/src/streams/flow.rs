//! One direction: bytes from a source to a sink, as many as both allow, never waiting.

use crate::standard_streams::{Sink, SinkKind, file_type};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::FileType;
use rustix::io::{self, Errno};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice};
use rustix::termios::isatty;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes that move before the other streams have their turn; also what pipes are grown to.
const TURN: usize = 1 << 20;
/// A stream that moves this much at once is worth larger pipes.
const WORTH_GROWING: usize = 32 * 1024;
/// The buffer of streams that cannot be spliced.
const BUFFER: usize = 64 * 1024;

/// Where bytes come from.
pub enum Source<'fd> {
    Shared(BorrowedFd<'fd>),
    /// The read end of a pipe of our own, non-blocking.
    OwnPipe(OwnedFd),
}

impl AsFd for Source<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Shared(fd) => *fd,
            Source::OwnPipe(fd) => fd.as_fd(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    GoesOn,
    Finished,
}

/// Poll tells of one side at a time: of a source that always has bytes it would tell for ever while the sink is full.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    Source,
    Sink,
}

enum Method {
    /// splice(2), which moves pages.
    Splice { grown: bool },
    /// Through a buffer: what was read and not yet written.
    Copy { buffer: Vec<u8>, written: usize },
}

pub struct Flow<'fd> {
    source: Source<'fd>,
    sink: Sink<'fd>,
    waits_for: WaitsFor,
    method: Method,
    /// Whether the source can be asked again before poll tells of it: one that is no pipe and no file would block.
    can_ask_again: bool,
    /// Bytes that may still be taken from the source, when there is an end to it.
    left: Option<usize>,
}

impl<'fd> Flow<'fd> {
    /// One that looks at the bytes which it moves, so that they can be recorded.
    pub fn seen(source: Source<'fd>, sink: Sink<'fd>) -> Flow<'fd> {
        Flow {
            method: Method::copy(),
            ..Flow::new(source, sink)
        }
    }

    pub fn new(source: Source<'fd>, sink: Sink<'fd>) -> Flow<'fd> {
        // Splicing to a socket or a terminal can block, whatever the flags say.
        let method = match sink.kind() {
            SinkKind::Pipe | SinkKind::File => Method::Splice { grown: false },
            SinkKind::Socket | SinkKind::Terminal => Method::copy(),
        };
        let can_ask_again = match &source {
            Source::OwnPipe(_) => true,
            Source::Shared(fd) => {
                matches!(file_type(*fd), Some(FileType::Fifo | FileType::RegularFile))
            }
        };
        Flow {
            source,
            sink,
            waits_for: WaitsFor::Source,
            method,
            can_ask_again,
            left: None,
        }
    }

    /// What to poll: the source, then the sink. A sink whose reader goes away is told of in any case.
    pub fn interest(&self) -> [PollFd<'_>; 2] {
        match self.waits_for {
            WaitsFor::Source => [
                PollFd::new(&self.source, PollFlags::IN),
                PollFd::new(&self.sink, PollFlags::empty()),
            ],
            // Of an idle source poll would tell a hang-up again and again; the sink stands in for it.
            WaitsFor::Sink => [
                PollFd::new(&self.sink, PollFlags::empty()),
                PollFd::new(&self.sink, PollFlags::OUT),
            ],
        }
    }

    /// Moves what can be moved after poll gave `source` and `sink`. An error is a stream's own, not its closing. What is
    /// copied is shown to `look` before it moves on.
    pub fn advance(
        &mut self,
        source: PollFlags,
        sink: PollFlags,
        look: &mut dyn FnMut(&[u8]),
    ) -> io::Result<Progress> {
        if sink.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Ok(Progress::Finished);
        }
        let is_ready = match self.waits_for {
            WaitsFor::Source => !source.is_empty(),
            WaitsFor::Sink => !sink.is_empty(),
        };
        if !is_ready {
            return Ok(Progress::GoesOn);
        }
        match self.method {
            Method::Splice { .. } => self.splice(),
            Method::Copy { .. } => self.copy(look),
        }
    }

    /// Ends the flow with the bytes that are in the source's pipe now.
    pub fn end_after_what_is_there(&mut self) -> Progress {
        let there = io::ioctl_fionread(&self.source).unwrap_or(0);
        self.left = Some(usize::try_from(there).unwrap_or(usize::MAX));
        self.progress()
    }

    fn splice(&mut self) -> io::Result<Progress> {
        let mut moved = 0;
        while moved < TURN {
            let length = self.left.unwrap_or(TURN).min(TURN - moved);
            match splice(
                &self.source,
                None,
                &self.sink,
                None,
                length,
                SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
            ) {
                Ok(0) => return Ok(Progress::Finished),
                Ok(count) => {
                    moved += count;
                    self.taken(count);
                    if self.progress() == Progress::Finished {
                        return Ok(Progress::Finished);
                    }
                    if !self.can_ask_again {
                        self.waits_for = WaitsFor::Source;
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // The side that poll found ready is ready still, so it is the other one that is not.
                    self.waits_for = match self.waits_for {
                        WaitsFor::Source if moved == 0 => WaitsFor::Sink,
                        _ => WaitsFor::Source,
                    };
                    break;
                }
                // A side that cannot be spliced: a file that is appended to, some devices.
                Err(Errno::INVAL) => {
                    self.method = Method::copy();
                    self.waits_for = WaitsFor::Source;
                    break;
                }
                Err(error) => return self.failed(error),
            }
        }
        self.grow_pipes(moved);
        Ok(Progress::GoesOn)
    }

    /// Best effort: the limit of the user's pipes may be reached, and what is no pipe does not grow.
    fn grow_pipes(&mut self, moved: usize) {
        if let Method::Splice { grown } = &mut self.method
            && !*grown
            && moved >= WORTH_GROWING
        {
            *grown = true;
            let _ = fcntl_setpipe_size(&self.source, TURN);
            let _ = fcntl_setpipe_size(&self.sink, TURN);
        }
    }

    fn copy(&mut self, look: &mut dyn FnMut(&[u8])) -> io::Result<Progress> {
        let result = match self.waits_for {
            WaitsFor::Source => self.fill(look),
            WaitsFor::Sink => self.empty(),
        };
        match result {
            Ok(progress) => Ok(progress),
            Err(Errno::AGAIN) => Ok(Progress::GoesOn),
            Err(error) => self.failed(error),
        }
    }

    fn fill(&mut self, look: &mut dyn FnMut(&[u8])) -> io::Result<Progress> {
        let Method::Copy { buffer, written } = &mut self.method else {
            return Ok(Progress::GoesOn);
        };
        buffer.resize(self.left.unwrap_or(BUFFER).min(BUFFER), 0);
        *written = 0;
        let count = io::retry_on_intr(|| io::read(&self.source, &mut buffer[..]))?;
        buffer.truncate(count);
        if count == 0 {
            return Ok(Progress::Finished);
        }
        look(buffer);
        self.taken(count);
        self.waits_for = WaitsFor::Sink;
        Ok(Progress::GoesOn)
    }

    fn empty(&mut self) -> io::Result<Progress> {
        let Method::Copy { buffer, written } = &mut self.method else {
            return Ok(Progress::GoesOn);
        };
        *written += self.sink.write(&buffer[*written..])?;
        if *written == buffer.len() {
            buffer.clear();
            *written = 0;
            self.waits_for = WaitsFor::Source;
        }
        Ok(self.progress())
    }

    fn taken(&mut self, count: usize) {
        if let Some(left) = &mut self.left {
            *left -= count.min(*left);
        }
    }

    /// Finished when nothing may be taken any more and nothing that was taken waits to be written.
    fn progress(&self) -> Progress {
        let is_empty = match &self.method {
            Method::Splice { .. } => true,
            Method::Copy { buffer, written } => *written == buffer.len(),
        };
        if is_empty && self.left == Some(0) {
            Progress::Finished
        } else {
            Progress::GoesOn
        }
    }

    /// A closed side is how streams end; only the rest is worth telling.
    fn failed(&self, error: Errno) -> io::Result<Progress> {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::BADF => Ok(Progress::Finished),
            // A terminal that is gone, or that we may not read in the background.
            Errno::IO if isatty(&self.source) || isatty(&self.sink) => Ok(Progress::Finished),
            error => Err(error),
        }
    }
}

impl Method {
    fn copy() -> Method {
        Method::Copy {
            buffer: Vec::new(),
            written: 0,
        }
    }
}

#[cfg(test)]
mod tests;
