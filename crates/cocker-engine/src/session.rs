//! attach and run: what is started inside, as whom, with which streams.

use crate::account::{Account, root_account, root_path};
use crate::connection::{Connection, Message};
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{EngineError, TalkError};
use crate::ids;
use crate::request::{Isolation, Program, WindowSize};
use cocker_image::Name;
use cocker_protocol::{ClientReply, ClientRequest, Groups, Spawn, Stage, Stream, Strings};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Uid, makedev};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::Winsize;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs in a container. The three descriptors are our ends of its pipes (blocking, close-on-exec).
#[derive(Debug)]
pub struct Running {
    pub connection: Connection,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

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

    /// Starts a command as the container's root.
    pub fn run(&self, container: &Name, program: &Program) -> Result<Running, EngineError> {
        self.start_command(container, program)
            .map_err(|source| EngineError::Run {
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
        let mut environment = environment(&account)?;
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
        };
        let (connection, master) = start(&container, &account, command, &[])?;
        let master = master.ok_or(TalkError::NoTerminal)?;
        check_terminal(&master)?;
        Ok(Session { connection, master })
    }

    fn start_command(&self, name: &Name, program: &Program) -> Result<Running, TalkError> {
        let container = Container::open(&self.store, name)?;
        let account = root_account(&container)?;
        let arguments = match program {
            Program::Shell(line) => vec![
                c_string(b"", account.shell.as_bytes())?,
                c"-c".into(),
                c_string(b"", line.as_bytes())?,
            ],
            Program::Arguments(arguments) => arguments
                .iter()
                .map(|argument| c_string(b"", argument.as_bytes()))
                .collect::<Result<_, _>>()?,
        };
        let program = arguments.first().ok_or(TalkError::NoCommand)?.clone();
        let environment = environment(&account)?;
        let pipes = Pipes::new(&container).map_err(|source| TalkError::Pipes { source })?;
        let command = Command {
            stream: Stream::Pipes,
            program,
            arguments: &arguments,
            environment: &environment,
        };
        let theirs = [
            pipes.stdin.0.as_fd(),
            pipes.stdout.1.as_fd(),
            pipes.stderr.1.as_fd(),
        ];
        let (connection, _none) = start(&container, &account, command, &theirs)?;
        // Their ends are closed with `pipes`, so that an end of file is seen when the command's copies are gone.
        Ok(Running {
            connection,
            stdin: pipes.stdin.1,
            stdout: pipes.stdout.0,
            stderr: pipes.stderr.0,
        })
    }
}

/// What is to be started.
struct Command<'a> {
    stream: Stream,
    program: CString,
    arguments: &'a [CString],
    environment: &'a [CString],
}

/// The three pipes of a command: (reading end, writing end) each. No stream of the user's enters a container.
struct Pipes {
    stdin: (OwnedFd, OwnedFd),
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn new(container: &Container) -> Result<Pipes, Errno> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let pipes = Pipes {
            stdin: pipe()?,
            stdout: pipe()?,
            stderr: pipe()?,
        };
        if container.settings.isolation == Isolation::Contained {
            // Root inside opens /dev/stdout and its like anew, which asks for the rights of the pipe's owner.
            let first = ids::range(container.settings.id_slot).first.0;
            for pipe in [&pipes.stdin.0, &pipes.stdout.0, &pipes.stderr.0] {
                rustix::fs::fchown(pipe, Some(Uid::from_raw(first)), Some(Gid::from_raw(first)))?;
            }
        }
        Ok(pipes)
    }
}

/// Asks the supervisor to start a command and waits until it runs.
fn start(
    container: &Container,
    account: &Account,
    command: Command<'_>,
    streams: &[BorrowedFd<'_>],
) -> Result<(Connection, Option<OwnedFd>), TalkError> {
    let connection = Connection::open(container)?;
    let arguments = joined(command.arguments);
    let environment = joined(command.environment);
    let directory = c_string(b"", account.home.as_bytes())?;
    let strings = |joined| Strings::from_joined(joined).expect("every string ends with NUL");
    let request = ClientRequest::Spawn(Spawn {
        stream: command.stream,
        uid: account.uid,
        gid: account.gid,
        groups: Groups::default(),
        program: &command.program,
        arguments: strings(&arguments),
        environment: strings(&environment),
        directory: &directory,
        directory_required: false,
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
            program: command.program.to_string_lossy().escape_debug().collect(),
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
        Stage::Directory => "enter the working folder of",
        Stage::Execute => "execute",
        Stage::TooMany => "keep one more command:",
        Stage::InitGone => "ask the container's init for",
        Stage::Streams => "open the container's /dev/null for",
    }
}

/// What a session and a command find: the container's own, nothing of the host's.
fn environment(account: &Account) -> Result<Vec<CString>, TalkError> {
    [
        ("PATH=", PATH),
        ("HOME=", &account.home),
        ("USER=", &account.name),
        ("LOGNAME=", &account.name),
        ("SHELL=", &account.shell),
        ("LANG=", "C.UTF-8"),
    ]
    .into_iter()
    .map(|(key, value)| c_string(key.as_bytes(), value.as_bytes()))
    .collect()
}

fn c_string(prefix: &[u8], bytes: &[u8]) -> Result<CString, TalkError> {
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
