//! Starting a command: its streams, its process, and the news whether it executed.
//!
//! ```text
//!   init                         child
//!   pipe, fork ────────────────▶ becomes the command (child.rs)
//!   read until the end ◀──────── failure: stage u32 · errno i32, then it exits
//!                      ◀──────── success: the exec closes the pipe, and there is nothing to read
//! ```
use cocker_protocol::{Spawn, Stage, Stream};
use linux_raw_sys::general::{O_CLOEXEC, O_NOCTTY, O_RDWR};

use crate::child;
use crate::commands::Kind;
use crate::raw::{self, Descriptor, Errno, Fd, Forked, MAX_DESCRIPTORS, Wait};

/// The step of a spawn that failed, and with which error.
#[derive(Clone, Copy)]
pub struct Failure {
    pub stage: Stage,
    pub errno: i32,
}

/// A command that runs.
pub struct Started {
    pub pid: i32,
    pub kind: Kind,
    /// The master of the command's terminal.
    pub master: Option<Descriptor>,
}

/// What the command's standard streams are made of.
pub enum Streams {
    Pipes([Descriptor; 3]),
    Terminal {
        master: Descriptor,
        slave: Descriptor,
    },
    /// The command's process opens /dev/null itself: what stands there is the container's, and init opens nothing of it.
    Nothing,
}

/// Starts a command with the descriptors that came along; what is not needed of them is closed.
pub fn start(
    devpts: Fd,
    spawn: &Spawn<'_>,
    descriptors: [Option<Descriptor>; MAX_DESCRIPTORS],
) -> Result<Started, Failure> {
    let streams = prepare_streams(devpts, spawn, descriptors)?;
    let pid = fork_command(spawn, &streams)?;
    Ok(match streams {
        Streams::Pipes(_) => Started {
            pid,
            kind: Kind::Pipes,
            master: None,
        },
        Streams::Terminal { master, .. } => Started {
            pid,
            kind: Kind::Terminal,
            master: Some(master),
        },
        Streams::Nothing => Started {
            pid,
            kind: Kind::Detached,
            master: None,
        },
    })
}

fn prepare_streams(
    devpts: Fd,
    spawn: &Spawn<'_>,
    descriptors: [Option<Descriptor>; MAX_DESCRIPTORS],
) -> Result<Streams, Failure> {
    match (spawn.stream, descriptors) {
        (Stream::Pipes, [Some(input), Some(output), Some(error), None]) => {
            Ok(Streams::Pipes([input, output, error]))
        }
        (Stream::Pipes, _) => Err(Failure::new(Stage::Fork, Errno::INVAL)),
        (Stream::Terminal { rows, columns }, _) => open_terminal(devpts, rows, columns, spawn.uid)
            .map_err(|error| Failure::new(Stage::Terminal, error)),
        (Stream::Nothing, _) => Ok(Streams::Nothing),
    }
}

/// Opens a new terminal in the container's own devpts; both ends come without a path that could be a trap.
fn open_terminal(devpts: Fd, rows: u16, columns: u16, owner: u32) -> raw::Result<Streams> {
    let master = raw::open(devpts, c"ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)?;
    raw::unlock_terminal(master.fd())?;
    raw::resize_terminal(master.fd(), rows, columns)?;
    let slave = raw::open_terminal_slave(master.fd())?;
    raw::set_terminal_utf8(slave.fd())?;
    // The user must be able to open their own terminal by its name. An id that does not exist here fails again, and
    // is then reported, when the command takes it on.
    let _ = raw::change_owner(slave.fd(), owner);
    Ok(Streams::Terminal { master, slave })
}

/// Forks, and waits until the child has executed the program or told why not.
fn fork_command(spawn: &Spawn<'_>, streams: &Streams) -> Result<i32, Failure> {
    let at_fork = |error| Failure::new(Stage::Fork, error);
    let (news, report) = raw::pipe().map_err(at_fork)?;
    let child = match raw::fork().map_err(at_fork)? {
        Forked::Child => child::report(report.fd(), child::execute(spawn, streams)),
        Forked::Parent { child } => child,
    };
    // Without this the pipe would never end.
    drop(report);
    let mut bytes = [0; Failure::LENGTH];
    match raw::read(news.fd(), &mut bytes) {
        Ok(Failure::LENGTH) => {
            raw::wait(Wait::Until(child));
            Err(Failure::from_bytes(bytes))
        }
        _ => Ok(child),
    }
}

impl Failure {
    /// How many bytes a failure takes on the report pipe; that few are never written in parts.
    pub const LENGTH: usize = 8;

    pub fn new(stage: Stage, error: Errno) -> Self {
        Self {
            stage,
            errno: error.0,
        }
    }

    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let [a, b, c, d] = self.stage.number().to_le_bytes();
        let [e, f, g, h] = self.errno.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    pub fn from_bytes([a, b, c, d, e, f, g, h]: [u8; Self::LENGTH]) -> Self {
        let stage = Stage::from_number(u32::from_le_bytes([a, b, c, d]));
        Self {
            // Between fork and exec the child runs only this program's code.
            stage: stage.unwrap_or(Stage::Fork),
            errno: i32::from_le_bytes([e, f, g, h]),
        }
    }
}
