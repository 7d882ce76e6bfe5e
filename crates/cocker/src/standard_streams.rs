//! The descriptors that the user gave us: what they are, and how to write to them without ever standing still.
//!
//! They are shared with the user's shell, and O_NONBLOCK belongs to what is shared: it is never set on them.

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{self, Errno};
use rustix::net::{SendFlags, send};
use rustix::pipe::PIPE_BUF;
use rustix::termios;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Most bytes that one write takes.
const CHUNK: usize = 64 * 1024;

/// Where bytes go to.
pub struct Sink<'fd> {
    fd: Descriptor<'fd>,
    kind: SinkKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Splice never blocks; a write of one PIPE_BUF does not, once poll said there is room.
    Pipe,
    /// A write never has to wait for somebody.
    File,
    /// Takes bytes without blocking when told so each time.
    Socket,
    /// Opened once more for ourselves, so that it can be non-blocking.
    Terminal,
}

enum Descriptor<'fd> {
    Shared(BorrowedFd<'fd>),
    Own(OwnedFd),
}

impl<'fd> Sink<'fd> {
    /// Finds out what a shared descriptor is.
    pub fn shared(fd: BorrowedFd<'fd>) -> Sink<'fd> {
        let kind = kind_of(fd);
        let reopened = match kind {
            SinkKind::Terminal => open_again_without_blocking(fd),
            _ => None,
        };
        Sink {
            fd: reopened.map_or(Descriptor::Shared(fd), Descriptor::Own),
            kind,
        }
    }

    /// The write end of a pipe of our own, non-blocking.
    pub fn own_pipe(fd: OwnedFd) -> Sink<'fd> {
        Sink {
            fd: Descriptor::Own(fd),
            kind: SinkKind::Pipe,
        }
    }

    pub fn kind(&self) -> SinkKind {
        self.kind
    }

    /// Writes some of `bytes`; to be called when poll said that there is room.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let most = match (&self.fd, self.kind) {
            // One PIPE_BUF is the room that poll promises; a terminal that could not be opened again is the same risk.
            (Descriptor::Shared(_), SinkKind::Pipe | SinkKind::Terminal) => PIPE_BUF,
            _ => CHUNK,
        };
        let bytes = &bytes[..bytes.len().min(most)];
        loop {
            let written = match self.kind {
                SinkKind::Socket => send(self, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
                _ => io::write(self, bytes),
            };
            if written != Err(Errno::INTR) {
                return written;
            }
        }
    }
}

impl AsFd for Sink<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Descriptor::Shared(fd) => *fd,
            Descriptor::Own(fd) => fd.as_fd(),
        }
    }
}

/// Pipe, file, device, socket; nothing where even that is not told.
pub fn file_type(fd: BorrowedFd<'_>) -> Option<FileType> {
    let status = fs::fstat(fd).ok()?;
    Some(FileType::from_raw_mode(status.st_mode))
}

fn kind_of(fd: BorrowedFd<'_>) -> SinkKind {
    match file_type(fd) {
        Some(FileType::Fifo) => SinkKind::Pipe,
        Some(FileType::Socket) => SinkKind::Socket,
        Some(FileType::CharacterDevice) if termios::isatty(fd) => SinkKind::Terminal,
        _ => SinkKind::File,
    }
}

/// The same terminal with a file description of our own. Without it a write could wait for a user who does not read,
/// and meanwhile nothing else would move.
fn open_again_without_blocking(terminal: BorrowedFd<'_>) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", terminal.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    fs::open(path, flags, Mode::empty()).ok()
}

/// Makes a descriptor non-blocking that only we have.
pub fn set_nonblocking(own: &OwnedFd) -> io::Result<()> {
    let flags = fs::fcntl_getfl(own)?;
    fs::fcntl_setfl(own, flags | OFlags::NONBLOCK)
}
