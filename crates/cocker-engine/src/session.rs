//! attach: a login shell of the container's root on a terminal. And what every start of something inside has in common.

use crate::account::{Account, root_account, root_path};
use crate::connection::{Connection, Message};
use crate::container::Container;
use crate::engine::Engine;
use crate::environment::environment;
use crate::failure::{EngineError, TalkError};
use crate::request::WindowSize;
use cocker_image::Name;
use cocker_protocol::{ClientReply, ClientRequest, Groups, Spawn, Stage, Stream, Strings};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{FileType, makedev};
use rustix::io::Errno;
use rustix::termios::Winsize;
use std::ffi::{CStr, CString};
use std::path::PathBuf;

/// A terminal in a container.
#[derive(Debug)]
pub struct Session {
    pub connection: Connection,
    /// The pty's master.
    pub master: OwnedFd,
}

impl Session {
    /// Tells the session the size of the user's terminal; what runs in it is told by SIGWINCH.
    pub fn resize(&self, size: WindowSize) -> Result<(), EngineError> {
        let size = Winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&self.master, size).map_err(|source| EngineError::Follow {
            source: Box::new(TalkError::Resize { source }),
        })
    }
}

impl Engine {
    /// Where a booted container's files can be seen from outside.
    pub fn container_root(&self, container: &Name) -> Result<PathBuf, EngineError> {
        let container = Container::open(&self.store, container)?;
        Ok(root_path(container.booted_pid()?))
    }

    /// Opens a login shell of the container's root. `term` is what TERM shall be inside.
    pub fn attach(
        &self,
        container: &Name,
        size: WindowSize,
        term: &str,
    ) -> Result<Session, EngineError> {
        self.open_session(container, size, term)
            .map_err(|source| EngineError::Attach {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    fn open_session(
        &self,
        name: &Name,
        size: WindowSize,
        term: &str,
    ) -> Result<Session, TalkError> {
        let container = Container::open(&self.store, name)?;
        let account = root_account(&container)?;
        let mut environment = environment(&container.settings, &account, &[])?;
        environment.push(c_string(b"TERM=", term.as_bytes())?);
        let shell_name = account.shell.rsplit('/').next().unwrap_or("sh");
        // The dash in front makes it a login shell (login(1)).
        let arguments = [c_string(b"-", shell_name.as_bytes())?];
        let stream = Stream::Terminal {
            rows: size.rows,
            columns: size.columns,
        };
        let program = c_string(b"", account.shell.as_bytes())?;
        let command = Command {
            stream,
            program,
            arguments: &arguments,
            environment: &environment,
            directory: None,
        };
        let (connection, master) = start(&container, &account, command, &[])?;
        let master = master.ok_or(TalkError::NoTerminal)?;
        check_terminal(&master)?;
        Ok(Session { connection, master })
    }
}

/// What is to be started.
pub(crate) struct Command<'a> {
    pub stream: Stream,
    pub program: CString,
    pub arguments: &'a [CString],
    pub environment: &'a [CString],
    /// None: the user's home, or `/` where there is none.
    pub directory: Option<&'a CStr>,
}

/// Asks the supervisor to start a command and waits until it runs.
pub(crate) fn start(
    container: &Container,
    account: &Account,
    command: Command<'_>,
    streams: &[BorrowedFd<'_>],
) -> Result<(Connection, Option<OwnedFd>), TalkError> {
    let connection = Connection::open(container)?;
    let arguments = joined(command.arguments);
    let environment = joined(command.environment);
    let home = c_string(b"", account.home.as_bytes())?;
    let groups: Vec<u8> = account
        .groups
        .iter()
        .flat_map(|gid| gid.to_le_bytes())
        .collect();
    let strings = |joined| Strings::from_joined(joined).expect("every string ends with NUL");
    let request = ClientRequest::Spawn(Spawn {
        stream: command.stream,
        uid: account.uid,
        gid: account.gid,
        groups: Groups::from_le_bytes(&groups).expect("an account has no more groups"),
        program: &command.program,
        arguments: strings(&arguments),
        environment: strings(&environment),
        directory: command.directory.unwrap_or(&home),
        directory_required: command.directory.is_some(),
    });
    connection.send(&request, streams)?;
    match connection.receive()? {
        Some(Message {
            reply: ClientReply::Started { .. },
            descriptor,
        }) => Ok((connection, descriptor)),
        Some(Message {
            reply: ClientReply::NotStarted { stage, errno },
            ..
        }) => Err(TalkError::NotStarted {
            object: match stage {
                // One that is not required gives way to the root.
                Stage::Directory => command.directory.unwrap_or(c"/"),
                _ => &command.program,
            }
            .to_string_lossy()
            .escape_debug()
            .collect(),
            what: what_failed(stage),
            stage,
            source: Errno::from_raw_os_error(errno),
        }),
        Some(_) => Err(TalkError::Confused),
        None => {
            let container = container.name.clone();
            Err(crate::failure::ContainerError::NotBooted { container }.into())
        }
    }
}

fn what_failed(stage: Stage) -> &'static str {
    match stage {
        Stage::Terminal => "open a terminal for",
        Stage::Fork => "make a process for",
        Stage::Identity => "take on the user of",
        Stage::Directory => "enter the working folder",
        Stage::Execute => "execute",
        Stage::TooMany => "keep one more command:",
        Stage::InitGone => "ask the container's init for",
        Stage::Streams => "open the container's /dev/null for",
    }
}

pub(crate) fn c_string(prefix: &[u8], bytes: &[u8]) -> Result<CString, TalkError> {
    CString::new([prefix, bytes].concat()).map_err(|_| TalkError::BadArgument {
        text: String::from_utf8_lossy(bytes)
            .escape_debug()
            .take(80)
            .collect(),
    })
}

fn joined(strings: &[CString]) -> Vec<u8> {
    strings
        .iter()
        .flat_map(|string| string.as_bytes_with_nul())
        .copied()
        .collect()
}

/// What comes from inside is not trusted: only the master of a pty is used as one (/dev/ptmx is 5:2).
fn check_terminal(master: &OwnedFd) -> Result<(), TalkError> {
    let status = rustix::fs::fstat(master).map_err(|_| TalkError::NoTerminal)?;
    let is_device = FileType::from_raw_mode(status.st_mode).is_char_device();
    if is_device && status.st_rdev == makedev(5, 2) {
        Ok(())
    } else {
        Err(TalkError::NoTerminal)
    }
}
