//! Between a client and the supervisor. One connection carries one command, or looks at one session.
use crate::wire::{self, Writer};
use crate::{Access, DecodeError, Modes, Open, Refusal, SessionRow, Spawn, Stage, Target, TooLong};

/// What a client asks of the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRequest<'a> {
    /// Start this command, whose stream is no terminal. With [`crate::Stream::Pipes`] three descriptors come along.
    Spawn(Spawn<'a>),
    /// Send this signal to the connection's command.
    Signal { signal: i32 },
    /// End the container in order, by force after this time. The connection closes when all is released.
    Shutdown { timeout_ms: u32 },
    /// End the container at once. The connection closes when all is released.
    Kill,
    /// Open a session and look at it. Where it is to be recorded, the file comes along.
    Open(Open<'a>),
    /// Look at a session that is there, through a terminal of this size.
    Join {
        target: Target<'a>,
        access: Access,
        rows: u16,
        columns: u16,
    },
    /// Type this into the session.
    Input { bytes: &'a [u8] },
    /// The looker's terminal has this size now.
    Resize { rows: u16, columns: u16 },
    /// Tell of the session with the lowest number above this one.
    NextSession { after: u32 },
    /// Hang a session up, or, by force, kill what leads it. `Exited` comes when it has ended.
    EndSession { target: Target<'a>, by_force: bool },
}

/// What the supervisor tells a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientReply<'a> {
    /// The container runs (on the boot socket).
    Ready,
    /// The command runs; `pid` is its number inside. With [`crate::Stream::Nothing`] it is the last reply, and the command
    /// goes on without the connection.
    Started { pid: i32 },
    /// The command could not be started.
    NotStarted { stage: Stage, errno: i32 },
    /// The command, or the session, ended with this status, as `wait4` gives it.
    Exited { wait_status: i32 },
    /// The container ended before it was ready (on the boot socket).
    Ended { wait_status: i32 },
    /// The supervisor does not serve this client, and closes.
    Refused { why: Refusal },
    /// The client looks at this session.
    Looking { number: u32 },
    /// The next `length` bytes of output were shown before. A terminal of this size to which all of them went has these
    /// modes now. Where the oldest output is lost, they may begin within a character.
    Replay {
        length: u32,
        rows: u16,
        columns: u16,
        modes: Modes,
    },
    /// The session shows this.
    Output { bytes: &'a [u8] },
    /// There is no such session, or none any more.
    NoSession,
    /// One row of the list.
    Session(SessionRow<'a>),
}

impl<'a> ClientRequest<'a> {
    const SPAWN: u16 = 0x0101;
    const SIGNAL: u16 = 0x0102;
    const SHUTDOWN: u16 = 0x0103;
    const KILL: u16 = 0x0104;
    const OPEN: u16 = 0x0105;
    const JOIN: u16 = 0x0106;
    const INPUT: u16 = 0x0107;
    const RESIZE: u16 = 0x0108;
    const NEXT_SESSION: u16 = 0x0109;
    const END_SESSION: u16 = 0x010a;

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Spawn(_) => Self::SPAWN,
            Self::Signal { .. } => Self::SIGNAL,
            Self::Shutdown { .. } => Self::SHUTDOWN,
            Self::Kill => Self::KILL,
            Self::Open(_) => Self::OPEN,
            Self::Join { .. } => Self::JOIN,
            Self::Input { .. } => Self::INPUT,
            Self::Resize { .. } => Self::RESIZE,
            Self::NextSession { .. } => Self::NEXT_SESSION,
            Self::EndSession { .. } => Self::END_SESSION,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Spawn(spawn) => spawn.write(body),
            Self::Signal { signal } => body.i32(signal),
            Self::Shutdown { timeout_ms } => body.u32(timeout_ms),
            Self::Kill => Ok(()),
            Self::Open(open) => open.write(body),
            Self::Join {
                target,
                access,
                rows,
                columns,
            } => {
                target.write(body)?;
                access.write(body)?;
                body.u16(rows)?;
                body.u16(columns)
            }
            Self::Input { bytes } => body.rest(bytes),
            Self::Resize { rows, columns } => {
                body.u16(rows)?;
                body.u16(columns)
            }
            Self::NextSession { after } => body.u32(after),
            Self::EndSession { target, by_force } => {
                target.write(body)?;
                body.u16(by_force.into())
            }
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
            Self::OPEN => Self::Open(Open::read(&mut body)?),
            Self::JOIN => Self::Join {
                target: Target::read(&mut body)?,
                access: Access::read(&mut body)?,
                rows: body.u16()?,
                columns: body.u16()?,
            },
            Self::INPUT => Self::Input { bytes: body.rest() },
            Self::RESIZE => Self::Resize {
                rows: body.u16()?,
                columns: body.u16()?,
            },
            Self::NEXT_SESSION => Self::NextSession { after: body.u32()? },
            Self::END_SESSION => Self::EndSession {
                target: Target::read(&mut body)?,
                by_force: body.bool()?,
            },
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(request)
    }
}

impl<'a> ClientReply<'a> {
    const READY: u16 = 0x0201;
    const STARTED: u16 = 0x0202;
    const NOT_STARTED: u16 = 0x0203;
    const EXITED: u16 = 0x0204;
    const ENDED: u16 = 0x0205;
    const REFUSED: u16 = 0x0206;
    const LOOKING: u16 = 0x0207;
    const REPLAY: u16 = 0x0208;
    const OUTPUT: u16 = 0x0209;
    const NO_SESSION: u16 = 0x020a;
    const SESSION: u16 = 0x020b;

    /// What stands before `length` bytes of output in a message, for a sender that has them elsewhere.
    pub fn output_head(length: u32) -> [u8; wire::HEAD] {
        wire::head(Self::OUTPUT, length)
    }

    /// Writes the message and returns its length.
    pub fn encode(&self, buffer: &mut [u8]) -> Result<usize, TooLong> {
        let kind = match self {
            Self::Ready => Self::READY,
            Self::Started { .. } => Self::STARTED,
            Self::NotStarted { .. } => Self::NOT_STARTED,
            Self::Exited { .. } => Self::EXITED,
            Self::Ended { .. } => Self::ENDED,
            Self::Refused { .. } => Self::REFUSED,
            Self::Looking { .. } => Self::LOOKING,
            Self::Replay { .. } => Self::REPLAY,
            Self::Output { .. } => Self::OUTPUT,
            Self::NoSession => Self::NO_SESSION,
            Self::Session(_) => Self::SESSION,
        };
        wire::encode(buffer, kind, |body: &mut Writer<'_>| match *self {
            Self::Ready | Self::NoSession => Ok(()),
            Self::Started { pid } => body.i32(pid),
            Self::NotStarted { stage, errno } => {
                stage.write(body)?;
                body.i32(errno)
            }
            Self::Exited { wait_status } | Self::Ended { wait_status } => body.i32(wait_status),
            Self::Refused { why } => why.write(body),
            Self::Looking { number } => body.u32(number),
            Self::Replay {
                length,
                rows,
                columns,
                modes,
            } => {
                body.u32(length)?;
                body.u16(rows)?;
                body.u16(columns)?;
                modes.write(body)
            }
            Self::Output { bytes } => body.rest(bytes),
            Self::Session(row) => row.write(body),
        })
    }

    /// Reads one whole message.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
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
            Self::LOOKING => Self::Looking {
                number: body.u32()?,
            },
            Self::REPLAY => Self::Replay {
                length: body.u32()?,
                rows: body.u16()?,
                columns: body.u16()?,
                modes: Modes::read(&mut body)?,
            },
            Self::OUTPUT => Self::Output { bytes: body.rest() },
            Self::NO_SESSION => Self::NoSession,
            Self::SESSION => Self::Session(SessionRow::read(&mut body)?),
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        body.end()?;
        Ok(reply)
    }
}
