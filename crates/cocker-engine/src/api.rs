use cocker_image::{ImageRecord, Name, Reference, Version};
use std::ffi::OsString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// What the engine needs to know of the world.
pub struct Settings {
    /// `$COCKER_HOME`.
    pub home: PathBuf,
    /// Folder of all containers' cgroups, relative to the root of the cgroup hierarchy; `cocker` by default.
    pub cgroup_parent: String,
    /// The resident programs, as ELF bytes.
    pub supervisor: &'static [u8],
    pub init: &'static [u8],
}

pub struct Engine {}

/// Any failure of the engine. `Display` is the first line; `source()` gives the causes; `hint` what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {}

impl EngineError {
    pub fn hint(&self) -> Option<String> {
        None
    }
}

/// `HOST[:CONTAINER][:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the container.
    pub container: PathBuf,
    pub access: VolumeAccess,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeAccess {
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// An own range of ids: root inside is nobody outside.
    Contained,
    /// `--privileged`: root inside is root outside.
    Privileged,
}

pub struct CreateRequest {
    pub container: Name,
    /// Lowest first.
    pub images: Vec<Reference>,
    /// The container's name where none is said.
    pub hostname: Option<String>,
    pub volumes: Vec<VolumeRequest>,
    pub isolation: Isolation,
}

#[derive(Default)]
pub struct BootRequest {
    /// `-e`: a program and its arguments as root process instead of cockerinit.
    pub root_process: Option<Vec<OsString>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Stopped,
    /// Pid of the root process on the host.
    Running(i32),
    /// The state is broken: why, and what the user can do.
    Exception { why: String, remedy: String },
}

pub struct ContainerSummary {
    pub name: Name,
    /// As it was said: `a,b:1.0`.
    pub image: String,
    pub hostname: String,
    /// `HOST`.
    pub net: &'static str,
    /// Name of the network namespace; empty for `HOST`.
    pub netns: String,
    /// Bytes of the writable layer.
    pub size: u64,
    pub status: Status,
    pub isolation: Isolation,
}

/// What `run` starts.
pub enum Program {
    /// A line for the shell of the container's root.
    Shell(OsString),
    /// A program and its arguments, looked for in the container's PATH.
    Arguments(Vec<OsString>),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(u8),
    Killed { signal: i32 },
    /// The container went away under it.
    ContainerGone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// The line to the supervisor of one started command or session. Closing it ends the command.
pub struct Connection {}

impl Connection {
    /// Readable when the ending can be had.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
    /// Waits for the ending.
    pub fn ending(&self) -> Result<Ending, EngineError> {
        todo!()
    }
    /// Sends a signal (number as in signal(7)) to the command's process group.
    pub fn signal(&self, _signal: i32) -> Result<(), EngineError> {
        todo!()
    }
}

/// A command that runs in a container. The three descriptors are our ends of its pipes (blocking, close-on-exec).
pub struct Running {
    pub connection: Connection,
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// A terminal in a container.
pub struct Session {
    pub connection: Connection,
    /// The pty's master.
    pub master: OwnedFd,
}

impl Session {
    /// Tells the session the size of the user's terminal.
    pub fn resize(&self, _size: WindowSize) -> Result<(), EngineError> {
        todo!()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfBooted {
    Refuse,
    ShutDownFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Stop,
    /// `--forcely`: go on over what can be gone on over.
    GoOn,
}

impl Engine {
    pub fn open(_settings: Settings) -> Result<Engine, EngineError> {
        todo!()
    }
    pub fn images(&self) -> Result<Vec<ImageRecord>, EngineError> {
        todo!()
    }
    /// Makes image `test`; returns the programs that the host lacks.
    pub fn install_test(&self, _version: &Version) -> Result<Vec<String>, EngineError> {
        todo!()
    }
    pub fn containers(&self) -> Result<Vec<ContainerSummary>, EngineError> {
        todo!()
    }
    /// Where a booted container's files can be seen from outside.
    pub fn container_root(&self, _container: &Name) -> Result<PathBuf, EngineError> {
        todo!()
    }
    pub fn create(&self, _request: &CreateRequest) -> Result<(), EngineError> {
        todo!()
    }
    pub fn boot(&self, _container: &Name, _request: &BootRequest) -> Result<(), EngineError> {
        todo!()
    }
    /// A login shell of root. `term` is what TERM shall be inside.
    pub fn attach(&self, _container: &Name, _size: WindowSize, _term: &str) -> Result<Session, EngineError> {
        todo!()
    }
    pub fn run(&self, _container: &Name, _program: &Program) -> Result<Running, EngineError> {
        todo!()
    }
    pub fn shutdown(&self, _container: &Name, _timeout: Duration, _on_error: OnError) -> Result<(), EngineError> {
        todo!()
    }
    pub fn kill(&self, _container: &Name, _on_error: OnError) -> Result<(), EngineError> {
        todo!()
    }
    pub fn destroy(&self, _container: &Name, _if_booted: IfBooted, _on_error: OnError) -> Result<(), EngineError> {
        todo!()
    }
    /// The last act of a container's supervisor, which executes `cocker release WAITSTATUS`: see docs/design/0001-boot.md.
    pub fn release(&self, _wait_status: i32) -> Result<(), EngineError> {
        todo!()
    }
}
