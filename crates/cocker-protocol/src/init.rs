//! Between the supervisor and init. The supervisor numbers the commands; init names them by that number.
use crate::wire::{self, Writer};
use crate::{DecodeError, Spawn, Stage, TooLong};

/// What the supervisor asks of init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitRequest<'a> {
    /// Start this command. With [`crate::Stream::Pipes`] three descriptors come along, with a terminal one: the command's
    /// side of it.
    Spawn { id: u32, spawn: Spawn<'a> },
    /// Send this signal to the command's process group.
    Signal { id: u32, signal: i32 },
    /// The command's client is gone: end the command.
    End { id: u32 },
    /// End everything in order, by force after this time.
    Shutdown { timeout_ms: u32 },
}

/// What init tells the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitReport {
    /// The first message, before anything of the container runs: the master of the console's terminal comes along, and the
    /// folder of the container's terminals.
    Console,
    /// init takes requests.
    Ready,
    /// The command runs as `pid`, counted inside.
    Started { id: u32, pid: i32 },
    /// The command could not be started; nothing of it is left.
    NotStarted { id: u32, stage: Stage, errno: i32 },
    /// The command ended with this status, as `wait4` gives it; not told of one with [`crate::Stream::Nothing`].
    Exited { id: u32, wait_status: i32 },
}

impl<'a> InitRequest<'a> {
    const SPAWN: u16 = 0x0301;
    const SIGNAL: u16 = 0x0302;
    const END: u16 = 0x0303;
    const SHUTDOWN: u16 = 0x0304;

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Spawn { .. } => Self::SPAWN,
            Self::Signal { .. } => Self::SIGNAL,
            Self::End { .. } => Self::END,
            Self::Shutdown { .. } => Self::SHUTDOWN,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Spawn { id, spawn } => {
                body.u32(id)?;
                spawn.write(body)
            }
            Self::Signal { id, signal } => {
                body.u32(id)?;
                body.i32(signal)
            }
            Self::End { id } => body.u32(id),
            Self::Shutdown { timeout_ms } => body.u32(timeout_ms),
        })
    }

    /// Reads one whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, mut body) = wire::decode(message)?;
        let request = match kind {
            Self::SPAWN => Self::Spawn {
                id: body.u32()?,
                spawn: Spawn::read(&mut body)?,
            },
            Self::SIGNAL => Self::Signal {
                id: body.u32()?,
                signal: body.i32()?,
            },
            Self::END => Self::End { id: body.u32()? },
            Self::SHUTDOWN => Self::Shutdown {
                timeout_ms: body.u32()?,
            },
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(request)
    }
}

impl InitReport {
    const CONSOLE: u16 = 0x0401;
    const READY: u16 = 0x0402;
    const STARTED: u16 = 0x0403;
    const NOT_STARTED: u16 = 0x0404;
    const EXITED: u16 = 0x0405;

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Console => Self::CONSOLE,
            Self::Ready => Self::READY,
            Self::Started { .. } => Self::STARTED,
            Self::NotStarted { .. } => Self::NOT_STARTED,
            Self::Exited { .. } => Self::EXITED,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Console | Self::Ready => Ok(()),
            Self::Started { id, pid } => {
                body.u32(id)?;
                body.i32(pid)
            }
            Self::NotStarted { id, stage, errno } => {
                body.u32(id)?;
                stage.write(body)?;
                body.i32(errno)
            }
            Self::Exited { id, wait_status } => {
                body.u32(id)?;
                body.i32(wait_status)
            }
        })
    }

    /// Reads one whole message.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut body) = wire::decode(message)?;
        let report = match kind {
            Self::CONSOLE => Self::Console,
            Self::READY => Self::Ready,
            Self::STARTED => Self::Started {
                id: body.u32()?,
                pid: body.i32()?,
            },
            Self::NOT_STARTED => Self::NotStarted {
                id: body.u32()?,
                stage: Stage::read(&mut body)?,
                errno: body.i32()?,
            },
            Self::EXITED => Self::Exited {
                id: body.u32()?,
                wait_status: body.i32()?,
            },
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(report)
    }
}
