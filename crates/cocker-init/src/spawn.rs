//! Starting a command: its streams, its process, and the news whether it executed.
//!
//! ```text
//!   init                         child
//!   clone ─────────────────────▶ becomes the command (child.rs)
//!   stands still, since the child has its memory
//!         ◀───────────────────── failure: it lies in that memory, and the child exits
//!         ◀───────────────────── success: the exec has given the child another memory
//!
//!   pipe, fork ────────────────▶ becomes the command of another user
//!   read until the end ◀──────── failure: stage u32 · errno i32, then it exits
//!                      ◀──────── success: the exec closes the pipe, and there is nothing to read
//! ```
//!
//! Copying init costs more than all else that is done here. But who becomes another user has a copy: whatever that user may do
//! to their processes must not be done to init (ptrace(2), where suid_dumpable of proc(5) allows it).
use core::ffi::c_void;

use cocker_protocol::{Spawn, Stage, Stream};

use crate::child;
use crate::commands::Kind;
use crate::raw::{self, Descriptor, Errno, Forked, MAX_DESCRIPTORS, Place, Wait};

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

/// Starts a command with the descriptors that came along; what is not needed of them is closed.
pub fn start(
    spawn: &Spawn<'_>,
    descriptors: [Option<Descriptor>; MAX_DESCRIPTORS],
    place: &mut Place,
) -> Result<(i32, Kind), Failure> {
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
    let pid = match (spawn.uid, spawn.gid) {
        (0, 0) => share_command(spawn, &streams, place)?,
        _ => fork_command(spawn, &streams, &mut place.tables)?,
    };
    Ok((pid, streams.kind()))
}

/// What a child that shares our memory is to do, and where it says what has failed.
struct Errand<'a> {
    spawn: &'a Spawn<'a>,
    streams: &'a Streams,
    tables: &'a mut [usize],
    failure: Option<Failure>,
}

/// Has a child born in our memory, and stands still until it has executed the program or told why not.
fn share_command(spawn: &Spawn<'_>, streams: &Streams, place: &mut Place) -> Result<i32, Failure> {
    let mut errand = Errand {
        spawn,
        streams,
        tables: &mut place.tables,
        failure: None,
    };
    let argument = (&raw mut errand).cast();
    // SAFETY: `run` ends the child, and the errand, which is all that it uses, stays until we go on.
    let child = unsafe { raw::share(&mut place.stack, run, argument) };
    let child = child.map_err(|error| Failure::new(Stage::Fork, error))?;
    match errand.failure {
        Some(failure) => {
            raw::wait(Wait::Until(child));
            Err(failure)
        }
        None => Ok(child),
    }
}

/// The life of such a child.
///
/// # Safety
///
/// `errand` must lead to an [`Errand`] that nobody else uses meanwhile.
unsafe extern "C" fn run(errand: *mut c_void) -> ! {
    // SAFETY: that is asked of whoever calls this.
    let errand = unsafe { &mut *errand.cast::<Errand<'_>>() };
    errand.failure = Some(child::execute(errand.spawn, errand.streams, errand.tables));
    raw::exit(127)
}

/// Forks, and waits until the child has executed the program or told why not.
fn fork_command(
    spawn: &Spawn<'_>,
    streams: &Streams,
    tables: &mut [usize],
) -> Result<i32, Failure> {
    let at_fork = |error| Failure::new(Stage::Fork, error);
    let (news, report) = raw::pipe().map_err(at_fork)?;
    let child = match raw::fork().map_err(at_fork)? {
        Forked::Child => child::report(report.fd(), child::execute(spawn, streams, tables)),
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
