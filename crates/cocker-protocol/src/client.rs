//! Between a client and the supervisor. One connection carries one command.
use crate::wire::{self, Writer};
use crate::{DecodeError, Refusal, Spawn, Stage, TooLong};

/// What a client asks of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRequest<'a> {
    /// Start this command. With [`crate::Stream::Pipes`] three descriptors come along, else none.
    Spawn(Spawn<'a>),
    /// Send this signal to the connection's command.
    Signal { signal: i32 },
    /// End the container in order, by force after this time. The connection closes when all is released.
    Shutdown { timeout_ms: u32 },
    /// End the container at once. The connection closes when all is released.
    Kill,
}

/// What the supervisor tells a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientReply {
    /// The container runs (on the boot socket).
    Ready,
    /// The command runs; `pid` is its number inside. For a terminal its master comes along. With
    /// [`crate::Stream::Nothing`] it is the last reply, and the command goes on without the connection.
    Started { pid: i32 },
    /// The command could not be started.
    NotStarted { stage: Stage, errno: i32 },
    /// The command ended with this status, as `wait4` gives it.
    Exited { wait_status: i32 },
    /// The container ended before it was ready (on the boot socket).
    Ended { wait_status: i32 },
    /// The supervisor does not serve this client, and closes.
    Refused { why: Refusal },
}

impl<'a> ClientRequest<'a> {
    const SPAWN: u16 = 0x0101;
    const SIGNAL: u16 = 0x0102;
    const SHUTDOWN: u16 = 0x0103;
    const KILL: u16 = 0x0104;

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Spawn(_) => Self::SPAWN,
            Self::Signal { .. } => Self::SIGNAL,
            Self::Shutdown { .. } => Self::SHUTDOWN,
            Self::Kill => Self::KILL,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Spawn(spawn) => spawn.write(body),
            Self::Signal { signal } => body.i32(signal),
            Self::Shutdown { timeout_ms } => body.u32(timeout_ms),
            Self::Kill => Ok(()),
        })
    }

    /// Reads one whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        let (kind, mut body) = wire::decode(message)?;
        let request = match kind {
            Self::SPAWN => Self::Spawn(Spawn::read(&mut body)?),
            Self::SIGNAL => Self::Signal {
                signal: body.i32()?,
            },
            Self::SHUTDOWN => Self::Shutdown {
                timeout_ms: body.u32()?,
            },
            Self::KILL => Self::Kill,
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(request)
    }
}

impl ClientReply {
    const READY: u16 = 0x0201;
    const STARTED: u16 = 0x0202;
    const NOT_STARTED: u16 = 0x0203;
    const EXITED: u16 = 0x0204;
    const ENDED: u16 = 0x0205;
    const REFUSED: u16 = 0x0206;

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Ready => Self::READY,
            Self::Started { .. } => Self::STARTED,
            Self::NotStarted { .. } => Self::NOT_STARTED,
            Self::Exited { .. } => Self::EXITED,
            Self::Ended { .. } => Self::ENDED,
            Self::Refused { .. } => Self::REFUSED,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Ready => Ok(()),
            Self::Started { pid } => body.i32(pid),
            Self::NotStarted { stage, errno } => {
                stage.write(body)?;
                body.i32(errno)
            }
            Self::Exited { wait_status } | Self::Ended { wait_status } => body.i32(wait_status),
            Self::Refused { why } => why.write(body),
        })
    }

    /// Reads one whole message.
    pub fn decode(message: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut body) = wire::decode(message)?;
        let reply = match kind {
            Self::READY => Self::Ready,
            Self::STARTED => Self::Started { pid: body.i32()? },
            Self::NOT_STARTED => Self::NotStarted {
                stage: Stage::read(&mut body)?,
                errno: body.i32()?,
            },
            Self::EXITED => Self::Exited {
                wait_status: body.i32()?,
            },
            Self::ENDED => Self::Ended {
                wait_status: body.i32()?,
            },
            Self::REFUSED => Self::Refused {
                why: Refusal::read(&mut body)?,
            },
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(reply)
    }
}
