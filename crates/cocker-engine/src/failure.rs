//! What the engine could not do, to which container, and what the user can do about it.

mod conversion;
mod files;
mod instantiation;
mod repository;
mod transfer;

pub use conversion::ConversionError;
pub use files::FilesError;
pub use instantiation::InstantiateError;
pub use repository::RepositoryFailure;
pub use transfer::TransferError;

use crate::config::ConfigError;
use crate::confinement::ConfinementError;
use crate::limits::BadLimit;
use crate::network::NetworkFailure;
use crate::stuck::Stuck;
use cocker_image::host_image::HostImageError;
use cocker_image::removal::RemovalError;
use cocker_image::repository::Address;
use cocker_image::stack::StackError;
use cocker_image::staging::StagingError;
use cocker_image::{Name, Reference, StoreError, Version};
use cocker_protocol::Stage;
use cocker_sandbox::rootless::RootlessError;
use cocker_sandbox::{Cgroup, LimitError, SandboxError};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// A container could not be found, read or held.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("there is no container `{container}`")]
    Unknown { container: Name },
    #[error("container `{container}` is booted (pid {pid})")]
    Booted { container: Name, pid: i32 },
    #[error("container `{container}` is paused")]
    Paused { container: Name },
    #[error("container `{container}` is not booted")]
    NotBooted { container: Name },
    #[error("container `{container}` has just ended")]
    JustEnded { container: Name },
    #[error("container `{container}` is held by {who}, which is at work on it")]
    AtWork { container: Name, who: String },
    #[error("cannot read container `{container}`")]
    Read {
        container: Name,
        #[source]
        source: Errno,
    },
    #[error("cannot lock container `{container}`")]
    Lock {
        container: Name,
        #[source]
        source: Errno,
    },
    #[error("cannot wait for what is done to the files of container `{container}`")]
    Changing {
        container: Name,
        #[source]
        source: Box<StoreError>,
    },
    #[error("the settings of container `{container}` are damaged")]
    Damaged {
        container: Name,
        #[source]
        source: serde_json::Error,
    },
    #[error("container `{container}` was written by a newer cocker (format {format})")]
    TooNew { container: Name, format: u32 },
}

impl ContainerError {
    fn hint(&self) -> Option<String> {
        match self {
            ContainerError::Unknown { .. } => {
                Some("`cocker containers` lists the containers.".into())
            }
            ContainerError::Booted { container, .. } => {
                Some(format!("shut it down first: cocker shutdown {container}"))
            }
            ContainerError::NotBooted { container } => {
                Some(format!("boot it first: cocker boot {container}"))
            }
            ContainerError::Paused { container } => {
                Some(format!("let it go on first: cocker resume {container}"))
            }
            ContainerError::AtWork { .. } => {
                Some("try again when that has ended, or end it.".into())
            }
            ContainerError::Changing { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// What stands in the way of making a container.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error("the name is in use")]
    NameInUse,
    #[error("cannot stage its folder")]
    Stage {
        #[source]
        source: StagingError,
    },
    #[error("volume `{}` does not exist on the host", path.display())]
    NoSuchVolume {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("`{hostname}` is no host name: {why}")]
    BadHostname { hostname: String, why: &'static str },
    #[error("there are {count} layers in the stack; the kernel takes at most 500")]
    TooManyLayers { count: usize },
    #[error("all {count} ranges of 65536 host ids are taken")]
    NoIdsLeft {
        count: usize,
        /// Whether /etc/subuid and /etc/subgid say which there are.
        is_from_files: bool,
    },
    #[error("cannot write `{what}`")]
    Write {
        what: &'static str,
        #[source]
        source: Errno,
    },
}

/// What a killed supervisor has left could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum CleanUpError {
    #[error("cannot remove its cgroup")]
    Cgroup {
        #[source]
        source: Errno,
    },
    #[error("{who}")]
    Stuck { who: Stuck },
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error("cannot write its record")]
    Record {
        #[source]
        source: Errno,
    },
    #[error("cannot remove its socket")]
    Socket {
        #[source]
        source: Errno,
    },
}

impl CleanUpError {
    /// What was in the way of removing this cgroup.
    pub(crate) fn of_cgroup(cgroup: &Cgroup, source: Errno) -> CleanUpError {
        let who = Some(source).filter(|errno| *errno == Errno::BUSY);
        match who.and_then(|_| Stuck::in_cgroup(cgroup)) {
            Some(who) => CleanUpError::Stuck { who },
            None => CleanUpError::Cgroup { source },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            CleanUpError::Stuck { who } => Some(who.hint()),
            CleanUpError::Network(source) => source.hint(),
            CleanUpError::Cgroup { .. }
            | CleanUpError::Record { .. }
            | CleanUpError::Socket { .. } => None,
        }
    }
}

/// What stands in the way of booting a container again, or of not doing so.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    #[error("cannot note in `restart` whether it is booted again")]
    Note {
        #[source]
        source: Errno,
    },
    #[error("cannot wait until it is booted again")]
    Wait {
        #[source]
        source: Errno,
    },
    #[error(
        "process {pid}, which boots it again, has not ended within {seconds} s of being killed"
    )]
    Stuck { pid: i32, seconds: u64 },
}

/// What stands in the way of changing a container's settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Restart(#[from] RestartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error(transparent)]
    BadLimit(#[from] BadLimit),
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error("cannot let its programs have {wanted} files open")]
    LimitFiles {
        wanted: u64,
        #[source]
        source: Errno,
    },
    #[error("container `{container}` is in network {network}, not in BRIDGE")]
    NotBridge {
        container: Name,
        network: &'static str,
    },
    #[error("volume `{}` does not exist on the host", path.display())]
    NoSuchVolume {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot remove what an earlier boot has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
    #[error("cannot write `container.json`")]
    Write {
        #[source]
        source: Errno,
    },
}

/// What stands in the way of a boot.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error(transparent)]
    BadLimit(#[from] BadLimit),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Restart(#[from] RestartError),
    #[error("cannot open `{what}`")]
    Open {
        what: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot record the boot")]
    Record {
        #[source]
        source: Errno,
    },
    #[error("cannot remove what an earlier boot has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
    #[error("`{text}` cannot be an argument: it holds a NUL byte")]
    BadArgument { text: String },
    #[error("the root process ended before the container was ready ({how})")]
    EndedEarly { how: String },
    #[error("the supervisor ended before the container was ready")]
    SupervisorGone,
}

/// What stands in the way of a command or a session.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Restart(#[from] RestartError),
    #[error("cannot remove what it has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
    #[error("cannot reach the supervisor")]
    Connect {
        #[source]
        source: Errno,
    },
    #[error("the supervisor answered something else than was asked")]
    Confused,
    #[error("it has not begun in time")]
    NoAnswer,
    #[error("the supervisor refused: {why}")]
    Refused { why: &'static str },
    #[error("the command is too long: at most {most} bytes with its environment")]
    TooLong { most: usize },
    #[error("`{text}` cannot be an argument: it holds a NUL byte")]
    BadArgument { text: String },
    #[error("`{name}` cannot be in an environment: its value holds a NUL byte")]
    BadVariable { name: String },
    #[error("there is no user `{name}` in its /etc/passwd")]
    NoSuchUser { name: String },
    #[error("there is no group `{name}` in its /etc/group")]
    NoSuchGroup { name: String },
    #[error("there is no {what} {id} in it: the numbers go from 0 to {most}")]
    NoSuchId {
        /// User or group.
        what: &'static str,
        id: u32,
        most: u32,
    },
    #[error("user `{user}` is in more than {most} groups in its /etc/group")]
    TooManyGroups { user: String, most: usize },
    #[error("no command was given")]
    NoCommand,
    #[error("cannot {what} `{object}`")]
    NotStarted {
        /// The program, or the folder.
        object: String,
        what: &'static str,
        stage: Stage,
        #[source]
        source: Errno,
    },
    #[error("cannot read `{file}` in the container")]
    ReadAccount {
        file: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot make the pipes of the command")]
    Pipes {
        #[source]
        source: Errno,
    },
    #[error("cannot record what happens in it")]
    Record {
        #[source]
        source: Box<RecordError>,
    },
    #[error("there is no session `{session}`")]
    NoSession { session: String },
    #[error("the container does not end: its supervisor has not answered within {seconds} s")]
    Stuck { seconds: u64 },
    #[error("it is still there after {seconds} s")]
    StuckInside {
        seconds: u64,
        #[source]
        source: Stuck,
    },
}

/// Why a recording cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("cannot begin a file in its folder `recordings`")]
    Begin {
        #[source]
        source: Errno,
    },
}

impl From<std::io::Error> for RecordError {
    fn from(error: std::io::Error) -> RecordError {
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        RecordError::Begin { source }
    }
}

/// What stands in the way of reading the log of a console.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot open `{file}`")]
    Open {
        file: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot read its files")]
    Read {
        #[source]
        source: Errno,
    },
    #[error("it is written to faster than its files can be opened")]
    Rotating,
    #[error("cannot watch its files")]
    Watch {
        #[source]
        source: Errno,
    },
    #[error("cannot find out whether the container is booted")]
    Standing {
        #[source]
        source: Errno,
    },
}

/// What stands in the way of having a container booted with the host.
#[derive(Debug, thiserror::Error)]
pub enum EnableError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it would come after itself: {way}")]
    Circle { way: String },
    #[error("cannot look at the others")]
    List {
        #[source]
        source: Box<EngineError>,
    },
    #[error("cannot write `container.json`")]
    Write {
        #[source]
        source: Errno,
    },
}

/// What stands in the way of a pause, or of its end.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("it is paused already")]
    Already,
    #[error("it is not paused")]
    NotPaused,
    #[error("it has no cgroup in v2: this host has none, or none that is delegated to you")]
    NoFreezer,
    #[error("the kernel does not do it")]
    Freeze {
        #[source]
        source: Errno,
    },
}

/// What stands in the way of removing a container.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Restart(#[from] RestartError),
    #[error(transparent)]
    Shutdown(#[from] TalkError),
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error("cannot take its name away")]
    Rename {
        #[source]
        source: StagingError,
    },
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error("cannot remove what an earlier boot has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
    #[error("cannot remove its files")]
    Files {
        #[source]
        source: cocker_image::removal::RemovalError,
    },
}

/// Any failure of the engine. `Display` is the first line, `source()` gives the causes, `hint` what the user can do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error("cannot be root of the user's own ids")]
    Rootless {
        #[source]
        source: RootlessError,
    },
    #[error("cannot make image `{image}` from the host's programs")]
    HostImage {
        image: String,
        #[source]
        source: Box<HostImageError>,
    },
    #[error("cannot remove image `{name}:{version}`: {} it", standing(containers))]
    ImageInUse {
        name: Name,
        version: Version,
        /// At least one, by name.
        containers: Vec<Name>,
    },
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error("cannot compare {what}")]
    Compare {
        what: String,
        #[source]
        source: StackError,
    },
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error("cannot create container `{container}`")]
    Create {
        container: Name,
        #[source]
        source: Box<CreateError>,
    },
    #[error("cannot make image `{image}` of container `{container}`")]
    ToImage {
        container: Name,
        image: Name,
        #[source]
        source: Box<ConversionError>,
    },
    #[error("cannot make container `{container}` of image `{image}`")]
    ToContainer {
        image: Reference,
        container: Name,
        #[source]
        source: Box<ConversionError>,
    },
    #[error("cannot export image `{image}`")]
    Export {
        image: Reference,
        #[source]
        source: Box<TransferError>,
    },
    #[error("cannot import `{}`", file.display())]
    Import {
        file: PathBuf,
        #[source]
        source: Box<TransferError>,
    },
    #[error("cannot list the images of {}", repository(address.as_deref()))]
    Search {
        /// None: it was not known yet which.
        address: Option<Box<Address>>,
        #[source]
        source: Box<RepositoryFailure>,
    },
    #[error("cannot push image `{image}` into {}", repository(address.as_deref()))]
    Push {
        image: Reference,
        address: Option<Box<Address>>,
        #[source]
        source: Box<RepositoryFailure>,
    },
    #[error("cannot pull image `{image}` from {}", repository(address.as_deref()))]
    Pull {
        image: Reference,
        address: Option<Box<Address>>,
        #[source]
        source: Box<RepositoryFailure>,
    },
    #[error("cannot remove image `{image}` from {}", repository(address.as_deref()))]
    RemoveRemote {
        image: Reference,
        address: Option<Box<Address>>,
        #[source]
        source: Box<RepositoryFailure>,
    },
    #[error("cannot put {what} into container `{container}`")]
    Put {
        what: String,
        container: Name,
        #[source]
        source: Box<FilesError>,
    },
    #[error("cannot get `{}` out of container `{container}`", what.display())]
    Get {
        what: PathBuf,
        container: Name,
        #[source]
        source: Box<FilesError>,
    },
    #[error("cannot set the {what} of container `{container}`")]
    Settings {
        container: Name,
        what: &'static str,
        #[source]
        source: Box<SettingsError>,
    },
    #[error("cannot boot container `{container}`")]
    Boot {
        container: Name,
        #[source]
        source: Box<BootError>,
    },
    #[error("cannot open a session in container `{container}`")]
    Attach {
        container: Name,
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot ask container `{container}` for its sessions")]
    Sessions {
        container: Name,
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot run a command in container `{container}`")]
    Run {
        container: Name,
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot record what happens in container `{container}`")]
    Record {
        container: Name,
        #[source]
        source: Box<RecordError>,
    },
    #[error("cannot follow the command")]
    Follow {
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot shut container `{container}` down")]
    Shutdown {
        container: Name,
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot kill container `{container}`")]
    Kill {
        container: Name,
        #[source]
        source: Box<TalkError>,
    },
    #[error("cannot show what container `{container}` uses")]
    Figures {
        container: Name,
        #[source]
        source: ContainerError,
    },
    #[error("cannot pause container `{container}`")]
    Pause {
        container: Name,
        #[source]
        source: Box<PauseError>,
    },
    #[error("cannot resume container `{container}`")]
    Resume {
        container: Name,
        #[source]
        source: Box<PauseError>,
    },
    #[error("cannot destroy container `{container}`")]
    Destroy {
        container: Name,
        #[source]
        source: Box<DestroyError>,
    },
    #[error("cannot instantiate templates in container `{container}`")]
    Instantiate {
        container: Name,
        #[source]
        source: Box<InstantiateError>,
    },
    #[error("cannot read the console log of container `{container}`")]
    ConsoleLog {
        container: Name,
        #[source]
        source: Box<LogError>,
    },
    #[error("cannot list the containers in `{}`", folder.display())]
    List {
        folder: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot prune the store")]
    Prune {
        #[source]
        source: Box<EngineError>,
    },
    #[error("cannot remove the files of layer `{layer}`")]
    RemoveLayer {
        layer: String,
        #[source]
        source: RemovalError,
    },
    #[error("cannot ask how much room is left in `{}`", folder.display())]
    FreeSpace {
        folder: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot release the container: {what}")]
    Release {
        what: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot change whether container `{container}` is booted with the host")]
    Enable {
        container: Name,
        #[source]
        source: Box<EnableError>,
    },
    #[error("cannot boot a container again: {what}")]
    BootAgain {
        what: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot boot container `{container}` again")]
    Restart {
        container: Name,
        #[source]
        source: RestartError,
    },
    #[error("cannot release the network of container `{container}`")]
    ReleaseNetwork {
        container: Name,
        #[source]
        source: Box<NetworkFailure>,
    },
}

impl EngineError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Image(source) => source.hint(),
            EngineError::Rootless { source } => Some(source.hint()),
            EngineError::HostImage { source, .. } => source.hint(),
            EngineError::ImageInUse { containers, .. } => Some(format!(
                "destroy what is not needed any more: cocker destroy {}",
                containers[0]
            )),
            EngineError::Stack(source) | EngineError::Compare { source, .. } => source.hint(),
            EngineError::Container(source) | EngineError::Figures { source, .. } => source.hint(),
            EngineError::Create { source, container } => create_hint(source, container),
            EngineError::ToImage { source, .. } => match &**source {
                ConversionError::Container(ContainerError::Booted { container, .. }) => {
                    Some(format!(
                        "shut it down first (cocker shutdown {container}), or copy it as it is now: --live"
                    ))
                }
                other => conversion::conversion_hint(other, None),
            },
            EngineError::ToContainer {
                source, container, ..
            } => conversion::conversion_hint(source, Some(container)),
            EngineError::Export { source, .. } | EngineError::Import { source, .. } => {
                source.hint()
            }
            EngineError::Search { source, .. }
            | EngineError::Push { source, .. }
            | EngineError::Pull { source, .. }
            | EngineError::RemoveRemote { source, .. } => source.hint(),
            EngineError::Put { source, .. } | EngineError::Get { source, .. } => source.hint(),
            EngineError::Settings { source, .. } => settings_hint(source),
            EngineError::Instantiate { source, .. } => source.hint(),
            EngineError::Boot { source, .. } => match &**source {
                BootError::Container(source) => source.hint(),
                BootError::Network(source) => source.hint(),
                BootError::BadLimit(source) => source.hint(),
                BootError::Confinement(source) => source.hint(),
                BootError::Sandbox(source) => source.hint(),
                BootError::CleanUp { source } => source.hint(),
                _ => None,
            },
            EngineError::Attach { source, container }
            | EngineError::Sessions { source, container }
                if matches!(**source, TalkError::NoSession { .. }) =>
            {
                Some(format!("`cocker sessions {container}` lists them."))
            }
            EngineError::Attach { source, .. }
            | EngineError::Sessions { source, .. }
            | EngineError::Run { source, .. }
            | EngineError::Follow { source }
            | EngineError::Shutdown { source, .. }
            | EngineError::Kill { source, .. } => talk_hint(source),
            EngineError::Pause { source, container } => pause_hint(source, container),
            EngineError::Resume { source, container } => pause_hint(source, container),
            EngineError::Destroy { source, container } => match &**source {
                DestroyError::Container(ContainerError::Booted { .. }) => Some(format!(
                    "shut it down first, or in one go: cocker destroy --shutdown {container}"
                )),
                DestroyError::Container(source) => source.hint(),
                DestroyError::Shutdown(source) => talk_hint(source),
                DestroyError::CleanUp { source } => source.hint(),
                DestroyError::Files { .. } => Some(
                    "the container itself is gone; the next command tries to remove its files again."
                        .into(),
                ),
                _ => None,
            },
            EngineError::Record { source, .. } => record_hint(source),
            EngineError::Enable { source, container } => enable_hint(source, container),
            EngineError::Prune { source } => Some(prune_hint(source)),
            EngineError::RemoveLayer { .. } => Some(
                "the layer itself is gone; the next command tries to remove its files again.".into(),
            ),
            EngineError::ConsoleLog { .. }
            | EngineError::List { .. }
            | EngineError::FreeSpace { .. }
            | EngineError::Release { .. }
            | EngineError::BootAgain { .. }
            | EngineError::Restart { .. }
            | EngineError::ReleaseNetwork { .. } => None,
        }
    }

    /// Whether a command was given up because its program was not executed in time.
    pub fn is_out_of_patience(&self) -> bool {
        matches!(self, EngineError::Run { source, .. } if matches!(**source, TalkError::NoAnswer))
    }

    /// The errno that the execution of a command failed with, where that is what failed.
    pub fn spawn_errno(&self) -> Option<i32> {
        let EngineError::Run { source, .. } = self else {
            return None;
        };
        match **source {
            TalkError::NotStarted {
                stage: Stage::Execute,
                source,
                ..
            } => Some(source.raw_os_error()),
            _ => None,
        }
    }
}

/// "repository `calvin@host`", or "the repository" where it is not known which.
fn repository(address: Option<&Address>) -> String {
    match address {
        Some(address) => format!("repository `{address}`"),
        None => "the repository".into(),
    }
}

fn prune_hint(source: &EngineError) -> String {
    const GO_ON: &str = "with --forcely everything but layers is pruned";
    match source {
        EngineError::Container(
            ContainerError::Read { container, .. }
            | ContainerError::Damaged { container, .. }
            | ContainerError::TooNew { container, .. },
        ) => format!(
            "it may stand on any layer: mend it, or cocker destroy --forcely {container}; {GO_ON}."
        ),
        EngineError::Image(_) => {
            format!("it may stand on any layer: `cocker check` tells what to do about it; {GO_ON}.")
        }
        _ => "try again; `cocker check` looks at everything.".into(),
    }
}

/// "container `a` stands on", "containers `a`, `b` and 3 more stand on".
fn standing(containers: &[Name]) -> String {
    /// So many are named.
    const MOST: usize = 10;
    let named = containers.iter().take(MOST);
    let named: Vec<String> = named.map(|name| format!("`{name}`")).collect();
    let (last, first) = named
        .split_last()
        .map_or(("", &[][..]), |(last, first)| (last, first));
    match containers.len() {
        1 => format!("container {last} stands on"),
        count if count > MOST => format!(
            "containers {} and {} more stand on",
            named.join(", "),
            count - MOST
        ),
        _ => format!("containers {} and {last} stand on", first.join(", ")),
    }
}

fn create_hint(error: &CreateError, container: &Name) -> Option<String> {
    match error {
        CreateError::Image(source) => source.hint(),
        CreateError::Network(source) => source.hint(),
        CreateError::Confinement(source) => source.hint(),
        CreateError::NameInUse => Some(format!(
            "choose another name with --container, or remove it: cocker destroy {container}"
        )),
        CreateError::NoSuchVolume { path, .. } => Some(volume_hint(path)),
        CreateError::NoIdsLeft { is_from_files, .. } => Some(match is_from_files {
            true => "give root more in /etc/subuid and /etc/subgid, the same in both, as `root:1000000:1048576`: \
                     each container needs 65536 of its own."
                .into(),
            false => "destroy a container that is not needed any more.".into(),
        }),
        _ => None,
    }
}

fn settings_hint(error: &SettingsError) -> Option<String> {
    match error {
        SettingsError::Container(source) => source.hint(),
        SettingsError::Network(source) => source.hint(),
        SettingsError::NotBridge { .. } => Some(
            "a container keeps its network; a new one made with `--net BRIDGE` can have this."
                .into(),
        ),
        SettingsError::NoSuchVolume { path, .. } => Some(volume_hint(path)),
        SettingsError::BadLimit(source) => source.hint(),
        SettingsError::Confinement(source) => source.hint(),
        SettingsError::Limit(source) => source.hint(),
        SettingsError::LimitFiles { .. } => Some(
            "only CAP_SYS_RESOURCE may raise a hard limit: say no more than what the container has.".into(),
        ),
        SettingsError::Store(source) => source.hint(),
        SettingsError::CleanUp { source } => source.hint(),
        SettingsError::Restart(_)
        | SettingsError::Write { .. } => None,
    }
}

fn volume_hint(path: &Path) -> String {
    format!("make `{}` first, or correct the path.", path.display())
}

fn record_hint(error: &RecordError) -> Option<String> {
    match error {
        RecordError::Config(source) => source.hint(),
        RecordError::Container(source) => source.hint(),
        RecordError::Begin { .. } => None,
    }
}

fn enable_hint(error: &EnableError, container: &Name) -> Option<String> {
    match error {
        // The one that it is to come after.
        EnableError::Container(ContainerError::Unknown { container: unknown })
            if unknown != container =>
        {
            Some(format!(
                "create `{unknown}` first, or say with --forcely that it is still to come."
            ))
        }
        EnableError::Container(source) => source.hint(),
        EnableError::Store(source) => source.hint(),
        EnableError::Circle { .. } => {
            Some("leave one of them out of --after, or disable it.".into())
        }
        EnableError::List { .. } | EnableError::Write { .. } => None,
    }
}

fn pause_hint(error: &PauseError, container: &Name) -> Option<String> {
    match error {
        PauseError::Container(source) => source.hint(),
        PauseError::Already => Some(format!("`cocker resume {container}` lets it go on.")),
        PauseError::NotPaused | PauseError::NoFreezer | PauseError::Freeze { .. } => None,
    }
}

fn talk_hint(error: &TalkError) -> Option<String> {
    match error {
        TalkError::Container(source) => source.hint(),
        TalkError::Record { source } => record_hint(source),
        TalkError::StuckInside { source, .. } => Some(source.hint()),
        TalkError::CleanUp { source } => source.hint(),
        TalkError::Stuck { .. } => Some("end it at once: cocker kill".into()),
        TalkError::NoSuchUser { .. } => {
            Some("whoever has no name there is said by number, as in --user 1000.".into())
        }
        TalkError::NoSuchGroup { .. } => {
            Some("a group without a name there is said by number, as in --user 1000:1000.".into())
        }
        TalkError::NotStarted {
            stage: Stage::Directory,
            source: Errno::LOOP,
            ..
        } => Some(
            "links that lead in circles are not followed, nor those in /proc that lead to what a process has open.".into(),
        ),
        _ => None,
    }
}
