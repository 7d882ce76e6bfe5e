//! What every start of something inside has in common: how the supervisor is asked, and what its answer means.

use crate::account::{Account, root_path};
use crate::connection::{Connection, MOST_REPLY};
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{EngineError, TalkError};
use cocker_image::Name;
use cocker_protocol::{ClientReply, ClientRequest, Groups, Spawn, Stage, Stream, Strings};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

impl Engine {
    /// Where a booted container's files can be seen from outside.
    pub fn container_root(&self, container: &Name) -> Result<PathBuf, EngineError> {
        let container = Container::open(&self.store, container)?;
        Ok(root_path(container.booted_pid()?))
    }
}

/// What is to be started.
pub(crate) struct Command {
    pub program: CString,
    pub arguments: Vec<CString>,
    pub environment: Vec<CString>,
    /// None: the user's home, or `/` where there is none.
    pub directory: Option<CString>,
}

impl Command {
    /// Lends the message's part that asks for it.
    pub(crate) fn asked<R>(
        &self,
        account: &Account,
        stream: Stream,
        ask: impl FnOnce(Spawn<'_>) -> Result<R, TalkError>,
    ) -> Result<R, TalkError> {
        let arguments = joined(&self.arguments);
        let environment = joined(&self.environment);
        let home = c_string(b"", account.home.as_bytes())?;
        let groups: Vec<u8> = account
            .groups
            .iter()
            .flat_map(|gid| gid.to_le_bytes())
            .collect();
        let strings = |joined| Strings::from_joined(joined).expect("every string ends with NUL");
        ask(Spawn {
            stream,
            uid: account.uid,
            gid: account.gid,
            groups: Groups::from_le_bytes(&groups).expect("an account has no more groups"),
            program: &self.program,
            arguments: strings(&arguments),
            environment: strings(&environment),
            directory: self.directory.as_deref().unwrap_or(&home),
            directory_required: self.directory.is_some(),
        })
    }

    /// The supervisor's word that it did not start in this container.
    pub(crate) fn not_started(&self, container: &Container, stage: Stage, errno: i32) -> TalkError {
        // There may be no init any more in a container whose root process is another.
        let init_is_root = container.settings.root_process.is_none();
        if stage == Stage::InitGone && (init_is_root || container.is_ended()) {
            return container.just_ended().into();
        }
        let object = match stage {
            // One that is not required gives way to the root.
            Stage::Directory => self.directory.as_deref().unwrap_or(c"/"),
            _ => &self.program,
        };
        TalkError::NotStarted {
            object: object.to_string_lossy().escape_debug().collect(),
            what: what_failed(stage),
            stage,
            source: errno_of(errno),
        }
    }
}

/// Asks the supervisor to start a command without a terminal, and waits until it runs, as long as the patience lasts.
pub(crate) fn start(
    container: &Container,
    account: &Account,
    command: &Command,
    stream: Stream,
    streams: &[BorrowedFd<'_>],
    patience: Option<Duration>,
) -> Result<Connection, TalkError> {
    let connection = Connection::open(container)?;
    command.asked(account, stream, |spawn| {
        connection.send(&ClientRequest::Spawn(spawn), streams)
    })?;
    let mut buffer = [0; MOST_REPLY];
    match connection.receive_within(&mut buffer, patience)? {
        Some(ClientReply::Started { .. }) => Ok(connection),
        Some(ClientReply::NotStarted { stage, errno }) => {
            Err(command.not_started(container, stage, errno))
        }
        Some(_) => Err(TalkError::Confused),
        None => Err(container.not_booted().into()),
    }
}

/// As it was said; EIO for what is none.
fn errno_of(errno: i32) -> Errno {
    match errno {
        1..4096 => Errno::from_raw_os_error(errno),
        _ => Errno::IO,
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
