//! run: a command in a booted container, as whom, where, in which environment, with which streams.

use crate::account::{Account, account, root_account};
use crate::connection::Connection;
use crate::container::Container;
use crate::engine::Engine;
use crate::environment::environment;
use crate::failure::{EngineError, TalkError};
use crate::ids;
use crate::request::{Isolation, Program, RunRequest};
use crate::starting::{Command, c_string, start};
use cocker_image::Name;
use cocker_protocol::Stream;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// A command that runs in a container. The three descriptors are our ends of its pipes (blocking, close-on-exec).
#[derive(Debug)]
pub struct Running {
    pub connection: Connection,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// How many processes the kernel had killed in the container for want of memory when it had just started: none of them
    /// because of it, most likely. `None` where nothing counts them.
    pub oom_kills_before: Option<u64>,
}

impl Engine {
    /// Starts a command; it ends with the connection.
    pub fn run(&self, container: &Name, request: &RunRequest) -> Result<Running, EngineError> {
        let started = || {
            let container = self.open_going(container)?;
            let account = account_of(&container, request)?;
            let pipes = Pipes::new(&container, &account);
            let pipes = pipes.map_err(|source| TalkError::Pipes { source })?;
            let theirs = [
                pipes.stdin.0.as_fd(),
                pipes.stdout.1.as_fd(),
                pipes.stderr.1.as_fd(),
            ];
            let command = command(&container, &account, request)?;
            let patience = request.patience;
            let connection = start(
                &container,
                &account,
                &command,
                Stream::Pipes,
                &theirs,
                patience,
            )?;
            // Their ends are closed with `pipes`, so that an end of file is seen when the command's copies are gone.
            Ok(Running {
                connection,
                stdin: pipes.stdin.1,
                stdout: pipes.stdout.0,
                stderr: pipes.stderr.0,
                // While it starts.
                oom_kills_before: self.cgroup_of(&container).oom_kills(),
            })
        };
        started().map_err(failing(container))
    }

    /// Starts a command that goes on without us, for as long as the container does; its streams are the container's
    /// /dev/null.
    pub fn run_detached(&self, container: &Name, request: &RunRequest) -> Result<(), EngineError> {
        let started = || {
            let container = self.open_going(container)?;
            let account = account_of(&container, request)?;
            let command = command(&container, &account, request)?;
            let patience = request.patience;
            let nothing = Stream::Nothing;
            start(&container, &account, &command, nothing, &[], patience).map(drop)
        };
        started().map_err(failing(container))
    }
}

fn failing(container: &Name) -> impl FnOnce(TalkError) -> EngineError {
    let container = container.clone();
    |source| EngineError::Run {
        container,
        source: Box::new(source),
    }
}

pub(crate) fn account_of(
    container: &Container,
    request: &RunRequest,
) -> Result<Account, TalkError> {
    match &request.user {
        Some(user) => account(container, user),
        None => root_account(container),
    }
}

pub(crate) fn command(
    container: &Container,
    account: &Account,
    request: &RunRequest,
) -> Result<Command, TalkError> {
    let arguments = arguments(&request.program, account)?;
    let directory = request.directory.as_ref();
    Ok(Command {
        program: arguments.first().ok_or(TalkError::NoCommand)?.clone(),
        arguments,
        environment: environment(&container.settings, account, &request.environment)?,
        directory: directory
            .map(|directory| c_string(b"", directory.as_os_str().as_bytes()))
            .transpose()?,
    })
}

fn arguments(program: &Program, account: &Account) -> Result<Vec<CString>, TalkError> {
    match program {
        Program::Shell(line) => Ok(vec![
            c_string(b"", account.shell.as_bytes())?,
            c"-c".into(),
            c_string(b"", line.as_bytes())?,
        ]),
        Program::Arguments(arguments) => arguments
            .iter()
            .map(|argument| c_string(b"", argument.as_bytes()))
            .collect(),
    }
}

/// The three pipes of a command: (reading end, writing end) each. No stream of the user's enters a container.
struct Pipes {
    stdin: (OwnedFd, OwnedFd),
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Pipes {
    /// They belong to the command's user: a program that opens /dev/stdout and its like anew needs the rights of their owner.
    fn new(container: &Container, account: &Account) -> Result<Pipes, Errno> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let pipes = Pipes {
            stdin: pipe()?,
            stdout: pipe()?,
            stderr: pipe()?,
        };
        let first = match container.settings.isolation {
            Isolation::Contained => ids::range(container.settings.id_slot).first.0,
            Isolation::Privileged | Isolation::HostIds => 0,
        };
        // The account's ids are those of the container, so the sums are ids of its range.
        let owner = Some(Uid::from_raw(first + account.uid));
        let group = Some(Gid::from_raw(first + account.gid));
        for pipe in [&pipes.stdin.0, &pipes.stdout.0, &pipes.stderr.0] {
            rustix::fs::fchown(pipe, owner, group)?;
        }
        Ok(pipes)
    }
}
