//! Terminals in a container: sessions that are opened, found again, listed and ended.
//!
//! A session belongs to the supervisor (docs/design/0004-sessions.md); who holds a [`Session`] looks at one. Dropping it
//! leaves the session as it is.

use crate::account::{Account, root_account};
use crate::command::{account_of, command};
use crate::connection::{Connection, Ending, MOST_REPLY};
use crate::container::Container;
use crate::engine::Engine;
use crate::environment::environment;
use crate::failure::{EngineError, RecordError, TalkError};
use crate::recordings::{Recording, Title};
use crate::request::{AttachRequest, LookRequest, RunRequest, SessionTarget, Which, WindowSize};
use crate::starting::{Command, c_string};
use cocker_image::Name;
use cocker_protocol::{
    Access, ClientReply, ClientRequest, Lasting, MAX_LABEL, MAX_MESSAGE, Modes, Open, Stream,
    Target,
};
use rustix::fd::{AsFd, BorrowedFd};
use std::ffi::CString;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most bytes that can be typed at once.
pub const MOST_TYPED: usize = 4096;

/// How long a session has to end by itself before what leads it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A terminal in a container that is being looked at.
#[derive(Debug)]
pub struct Session {
    /// By which it is listed and found.
    pub number: u32,
    connection: Connection,
    buffer: Vec<u8>,
}

/// What a session shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Bytes for the terminal.
    Output(&'a [u8]),
    /// What was shown before follows as output.
    Replay(ShownBefore),
    /// There is no more.
    Ended(Ending),
}

/// What a session has shown before it was looked at, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownBefore {
    /// How many bytes of output. They may begin within a character or a sequence.
    pub length: usize,
    /// The size of the terminal on which they were shown.
    pub size: WindowSize,
    /// The modes that it has behind them.
    pub modes: Modes,
}

/// A session, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionEntry {
    pub number: u32,
    pub name: Option<String>,
    /// Who opened it.
    pub who: String,
    pub since: SystemTime,
    /// What it was opened with.
    pub command: String,
    pub size: WindowSize,
    /// How many look at it now.
    pub lookers: u32,
}

impl Session {
    fn new(number: u32, connection: Connection) -> Session {
        Session {
            number,
            connection,
            buffer: vec![0; MAX_MESSAGE],
        }
    }

    /// Readable when there is something to be seen, writable when something can be typed.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// What is there to be seen; `None` when there is nothing now. Never waits.
    pub fn take(&mut self) -> Result<Option<Shown<'_>>, EngineError> {
        let reply = match self.connection.try_receive(&mut self.buffer) {
            Ok(None) => return Ok(None),
            Ok(Some(reply)) => reply,
            Err(source) => return Err(follow(source)),
        };
        Ok(Some(match reply {
            Some(ClientReply::Output { bytes }) => Shown::Output(bytes),
            Some(ClientReply::Replay {
                length,
                rows,
                columns,
                modes,
            }) => Shown::Replay(ShownBefore {
                length: length as usize,
                size: WindowSize { rows, columns },
                modes,
            }),
            Some(ClientReply::Exited { wait_status }) => {
                Shown::Ended(Ending::from_wait_status(wait_status))
            }
            None => Shown::Ended(Ending::ContainerGone),
            Some(_) => return Err(follow(TalkError::Confused)),
        }))
    }

    /// Types at most [`MOST_TYPED`] bytes; says whether there was room for them. Never waits.
    pub fn type_in(&self, bytes: &[u8]) -> Result<bool, EngineError> {
        self.connection
            .try_send(&ClientRequest::Input { bytes })
            .map_err(follow)
    }

    /// Tells the session the size of the looker's terminal; what runs in it is told by SIGWINCH.
    pub fn resize(&self, size: WindowSize) -> Result<(), EngineError> {
        let request = ClientRequest::Resize {
            rows: size.rows,
            columns: size.columns,
        };
        self.connection.send(&request, &[]).map_err(follow)
    }
}

fn follow(source: TalkError) -> EngineError {
    EngineError::Follow {
        source: Box::new(source),
    }
}

impl Engine {
    /// Looks at a session of a booted container: one that is there, or a new login shell of the container's root.
    ///
    /// # Errors
    /// The container is not booted, the session that was asked for is not there, or the shell cannot be started.
    pub fn attach(
        &self,
        container: &Name,
        request: &AttachRequest,
    ) -> Result<Session, EngineError> {
        self.look(container, request)
            .map_err(|source| EngineError::Attach {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    /// Starts a command on a terminal of its own, which is hung up when nobody looks at it any more.
    pub fn run_on_terminal(
        &self,
        container: &Name,
        request: &RunRequest,
        look: &LookRequest,
    ) -> Result<Session, EngineError> {
        self.start_on_terminal(container, request, look)
            .map_err(|source| EngineError::Run {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    /// The sessions of a booted container, by number.
    pub fn sessions(&self, container: &Name) -> Result<Vec<SessionEntry>, EngineError> {
        self.list_sessions(container)
            .map_err(|source| EngineError::Sessions {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    /// Hangs a session up and waits until it has ended; what does not end within some seconds is killed.
    pub fn end_session(&self, container: &Name, target: &SessionTarget) -> Result<(), EngineError> {
        self.hang_up(container, target)
            .map_err(|source| EngineError::Sessions {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    fn look(&self, name: &Name, request: &AttachRequest) -> Result<Session, TalkError> {
        let container = self.open_going(name)?;
        let connection = Connection::open(&container)?;
        let joined = match &request.which {
            Which::IdleOrNew => join(&connection, Target::Idle, request)?,
            Which::There(target) => {
                let named = named(target)?;
                let found = join(&connection, named.target(), request)?;
                Some(found.ok_or_else(|| TalkError::NoSession {
                    session: target.to_string(),
                })?)
            }
            Which::New(_) => None,
        };
        if let Some(number) = joined {
            return Ok(Session::new(number, connection));
        }
        let account = root_account(&container)?;
        let shell = login_shell(&container, &account, &request.look.term)?;
        let name = match &request.which {
            Which::New(Some(name)) => name.as_str(),
            _ => "",
        };
        let what = (&account, &shell);
        let how = (name, Lasting::Stays, None);
        self.open_session(&container, connection, what, &request.look, how)
    }

    fn start_on_terminal(
        &self,
        name: &Name,
        request: &RunRequest,
        look: &LookRequest,
    ) -> Result<Session, TalkError> {
        let container = self.open_going(name)?;
        let connection = Connection::open(&container)?;
        let account = account_of(&container, request)?;
        let mut command = command(&container, &account, request)?;
        let is_said = |variable: &CString| variable.as_bytes().starts_with(b"TERM=");
        if !command.environment.iter().any(is_said) {
            let term = c_string(b"TERM=", look.term.as_bytes())?;
            command.environment.push(term);
        }
        let how = ("", Lasting::Ends, request.patience);
        self.open_session(&container, connection, (&account, &command), look, how)
    }

    fn list_sessions(&self, name: &Name) -> Result<Vec<SessionEntry>, TalkError> {
        let container = Container::open(&self.store, name)?;
        let connection = Connection::open(&container)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut entries = Vec::new();
        let mut after = 0;
        loop {
            connection.send(&ClientRequest::NextSession { after }, &[])?;
            match connection.receive(&mut buffer)? {
                // Numbers grow, so this ends whatever the supervisor is.
                Some(ClientReply::Session(row)) if row.number > after => {
                    after = row.number;
                    let text = |label: &std::ffi::CStr| label.to_string_lossy().into_owned();
                    entries.push(SessionEntry {
                        number: row.number,
                        name: (!row.name.is_empty()).then(|| text(row.name)),
                        who: text(row.who),
                        since: UNIX_EPOCH + Duration::from_secs(row.since),
                        command: text(row.command),
                        size: WindowSize {
                            rows: row.rows,
                            columns: row.columns,
                        },
                        lookers: row.lookers,
                    });
                }
                Some(ClientReply::NoSession) => return Ok(entries),
                Some(_) => return Err(TalkError::Confused),
                None => return Err(container.not_booted().into()),
            }
        }
    }

    fn hang_up(&self, name: &Name, target: &SessionTarget) -> Result<(), TalkError> {
        let container = Container::open(&self.store, name)?;
        let connection = Connection::open(&container)?;
        let mut buffer = vec![0; MAX_MESSAGE];
        let named = named(target)?;
        for by_force in [false, true] {
            let request = ClientRequest::EndSession {
                target: named.target(),
                by_force,
            };
            connection.send(&request, &[])?;
            if !by_force && !connection.is_readable_within(PATIENCE)? {
                continue;
            }
            match connection.receive(&mut buffer)? {
                // With the container its sessions are gone, too.
                Some(ClientReply::Exited { .. }) | None => return Ok(()),
                // It had ended in between.
                Some(ClientReply::NoSession) if by_force => return Ok(()),
                Some(ClientReply::NoSession) => {
                    return Err(TalkError::NoSession {
                        session: target.to_string(),
                    });
                }
                Some(_) => return Err(TalkError::Confused),
            }
        }
        Err(TalkError::Confused)
    }

    /// Opens a session with a command, and looks at it. Where the administrator wants it recorded, the supervisor does that.
    fn open_session(
        &self,
        container: &Container,
        connection: Connection,
        (account, command): (&Account, &Command),
        look: &LookRequest,
        (name, lasting, patience): (&str, Lasting, Option<Duration>),
    ) -> Result<Session, TalkError> {
        let name = c_string(b"", name.as_bytes())?;
        let who = c_string(b"", label(&look.who).as_bytes())?;
        let stream = Stream::Terminal {
            rows: look.size.rows,
            columns: look.size.columns,
        };
        let recording = self.record_session(container, command, look)?;
        let most_recorded = recording
            .as_ref()
            .map_or(0, |recording| recording.most_bytes);
        let file: Vec<_> = recording
            .iter()
            .map(|recording| recording.file.as_fd())
            .collect();
        command.asked(account, stream, |spawn| {
            let open = Open {
                name: &name,
                who: &who,
                lasting,
                most_recorded,
                spawn,
            };
            connection.send(&ClientRequest::Open(open), &file)
        })?;
        let mut buffer = [0; MOST_REPLY];
        match connection.receive_within(&mut buffer, patience)? {
            Some(ClientReply::Looking { number }) => Ok(Session::new(number, connection)),
            Some(ClientReply::NotStarted { stage, errno }) => {
                Err(command.not_started(container, stage, errno))
            }
            Some(_) => Err(TalkError::Confused),
            None => Err(container.not_booted().into()),
        }
    }

    fn record_session(
        &self,
        container: &Container,
        command: &Command,
        look: &LookRequest,
    ) -> Result<Option<Recording>, TalkError> {
        let failed = |source| TalkError::Record {
            source: Box::new(source),
        };
        let recording = self.begin(&container.name, "session").map_err(failed)?;
        if let Some(recording) = &recording {
            let words: Vec<&[u8]> = command
                .arguments
                .iter()
                .map(|word| word.as_bytes())
                .collect();
            let title = Title {
                title: container.name.as_str(),
                command: &words.join(&b' '),
                size: Some(look.size),
                term: Some(&look.term),
            };
            (&recording.file)
                .write_all(&title.line())
                .map_err(|error| failed(RecordError::from(error)))?;
        }
        Ok(recording)
    }
}

/// A target with its name as the message wants it.
struct Named {
    number: u32,
    name: Option<CString>,
}

impl Named {
    fn target(&self) -> Target<'_> {
        match &self.name {
            Some(name) => Target::Name(name),
            None => Target::Number(self.number),
        }
    }
}

fn named(target: &SessionTarget) -> Result<Named, TalkError> {
    Ok(match target {
        SessionTarget::Number(number) => Named {
            number: *number,
            name: None,
        },
        SessionTarget::Name(name) => Named {
            number: 0,
            name: Some(c_string(b"", name.as_str().as_bytes())?),
        },
    })
}

/// Looks at a session that is there; `None` where it is not.
fn join(
    connection: &Connection,
    target: Target<'_>,
    request: &AttachRequest,
) -> Result<Option<u32>, TalkError> {
    let request = ClientRequest::Join {
        target,
        access: match request.is_read_only {
            true => Access::LookOnly,
            false => Access::LookAndType,
        },
        rows: request.look.size.rows,
        columns: request.look.size.columns,
    };
    connection.send(&request, &[])?;
    let mut buffer = [0; MOST_REPLY];
    match connection.receive(&mut buffer)? {
        Some(ClientReply::Looking { number }) => Ok(Some(number)),
        Some(ClientReply::NoSession) => Ok(None),
        Some(_) => Err(TalkError::Confused),
        None => Err(TalkError::Confused),
    }
}

/// What can be listed of a text: its beginning, without control characters.
fn label(text: &str) -> String {
    let mut label = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if label.len() + character.len_utf8() > MAX_LABEL {
            break;
        }
        label.push(character);
    }
    label
}

/// The dash in front makes it a login shell (login(1)).
fn login_shell(container: &Container, account: &Account, term: &str) -> Result<Command, TalkError> {
    let name = account.shell.rsplit('/').next().unwrap_or("sh");
    let mut environment = environment(&container.settings, account, &[])?;
    environment.push(c_string(b"TERM=", term.as_bytes())?);
    Ok(Command {
        program: c_string(b"", account.shell.as_bytes())?,
        arguments: vec![c_string(b"-", name.as_bytes())?],
        environment,
        directory: None,
    })
}
