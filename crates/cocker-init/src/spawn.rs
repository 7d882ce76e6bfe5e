//! Starting a command: its streams, its process, and the news whether it executed.
//!
//! ```text
//!   init                         child
//!   pipe, fork ────────────────▶ becomes the command (child.rs)
//!   does whatever else there is
//!                      ◀──────── failure: stage u32 · errno i32, then it exits
//!                      ◀──────── success: the exec closes the pipe, and there is nothing to read
//! ```
use cocker_protocol::{Spawn, Stage, Stream};

use crate::births::Birth;
use crate::child;
use crate::commands::{Command, Kind};
use crate::raw::{self, Descriptor, Errno, Forked, MAX_DESCRIPTORS};

/// The step of a spawn that failed, and with which error.
#[derive(Clone, Copy)]
pub struct Failure {
    pub stage: Stage,
    pub errno: i32,
}

/// What the command's standard streams are made of.
pub enum Streams {
    Pipes([Descriptor; 3]),
    /// Its side of a terminal.
    Terminal(Descriptor),
    /// The command's process opens /dev/null itself: what stands there is the container's, and init opens nothing of it.
    Nothing,
}

impl Streams {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Pipes(_) => Kind::Pipes,
            Self::Terminal(_) => Kind::Terminal,
            Self::Nothing => Kind::Detached,
        }
    }
}

/// Has the process of a command born with the descriptors that came along; what is not needed of them is closed. In `tables`,
/// which are not touched here, the child lays its arguments out.
pub fn start(
    id: u32,
    spawn: &Spawn<'_>,
    descriptors: [Option<Descriptor>; MAX_DESCRIPTORS],
    tables: &mut [usize],
) -> Result<Birth, Failure> {
    let streams = match (spawn.stream, descriptors) {
        (Stream::Pipes, [Some(input), Some(output), Some(error), None]) => {
            Streams::Pipes([input, output, error])
        }
        (Stream::Terminal { .. }, [Some(terminal), None, None, None]) => {
            Streams::Terminal(terminal)
        }
        (Stream::Nothing, [None, None, None, None]) => Streams::Nothing,
        _ => return Err(Failure::new(Stage::Fork, Errno::INVAL)),
    };
    let at_fork = |error| Failure::new(Stage::Fork, error);
    let (news, report) = raw::pipe().map_err(at_fork)?;
    let pid = match raw::fork().map_err(at_fork)? {
        Forked::Child => child::live(spawn, &streams, tables, report),
        Forked::Parent { child } => child,
    };
    let kind = streams.kind();
    Ok(Birth::new(Command { pid, id, kind }, news))
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
