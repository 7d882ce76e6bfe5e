//! What can be asked of the engine.

use crate::confinement::ConfinementRequest;
use crate::limits::LimitChanges;
use crate::restart::RestartPolicy;
use cocker_image::archive::Compression;
use cocker_image::oci::Format;
use cocker_image::repository::{Address, Form, Prompts};
use cocker_image::transfer::{IfThere, ImportOptions};
use cocker_image::{AllowedSigners, Name, Reference, SigningKey, Version};
use cocker_network::PortMapping;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A file or folder of the host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRequest {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path in the container, without `..`.
    pub container: PathBuf,
    pub access: VolumeAccess,
    #[serde(default, skip_serializing_if = "VolumeIds::are_mapped")]
    pub ids: VolumeIds,
    #[serde(default, skip_serializing_if = "VolumeSetId::is_kept")]
    pub set_id: VolumeSetId,
}

/// Whose ids the files of a volume show inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeIds {
    /// The host's root is root, and so on.
    #[default]
    Mapped,
    /// As on the host: what is outside the container's range belongs to nobody.
    Raw,
}

/// Whether set-id programs and file capabilities of a volume are of effect inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSetId {
    #[default]
    Kept,
    Ignored,
}

impl VolumeIds {
    fn are_mapped(&self) -> bool {
        *self == VolumeIds::Mapped
    }
}

impl VolumeSetId {
    fn is_kept(&self) -> bool {
        *self == VolumeSetId::Kept
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeAccess {
    ReadWrite,
    ReadOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// An own range of ids: root inside is nobody outside.
    Contained,
    /// `--privileged`: root inside is root outside.
    Privileged,
    /// `--userns host`: root inside has the host's id 0, but few of its rights.
    HostIds,
}

/// What network a container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkRequest {
    /// The host's.
    Host,
    /// Its own, linked to a bridge of the host.
    Bridge(BridgeRequest),
    /// Its own, with nothing in it but what the administrator puts there.
    Custom,
}

/// What is asked of a network on a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeRequest {
    /// None: the next free one.
    pub address: Option<Ipv4Addr>,
    /// The link by which it leaves the host; none: the default route's.
    pub uplink: Option<String>,
    pub ports: Vec<PortMapping>,
}

/// What a new container is, but for what it stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContainer {
    pub name: Name,
    /// The container's name where none is said.
    pub hostname: Option<String>,
    pub volumes: Vec<VolumeRequest>,
    pub isolation: Isolation,
    pub confinement: ConfinementRequest,
    pub network: NetworkRequest,
    pub restart: RestartPolicy,
}

/// A container from stacked images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateRequest {
    /// Lowest first.
    pub images: Vec<Reference>,
    pub container: NewContainer,
}

/// A container that is to become an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToImageRequest {
    pub container: Name,
    pub image: Name,
    /// None: the one that the container was converted from.
    pub version: Option<Version>,
    pub original: Original,
    /// Only where the original stays.
    pub while_booted: WhileBooted,
}

/// An image that is to become a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToContainerRequest {
    pub image: Reference,
    /// What the container stands on, lowest first. None: what the image was built on.
    pub over: Option<Vec<Reference>>,
    pub container: NewContainer,
    pub original: Original,
}

/// An image that is to become a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportRequest {
    pub image: Reference,
    /// None: in the current folder, called after the image.
    pub file: Option<PathBuf>,
    pub if_there: IfThere,
    pub form: ExportForm,
    pub compression: Compression,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportForm {
    /// The image's own layer, `.cockerimage`.
    Own,
    /// All layers, as others load them.
    Foreign(Format),
}

/// A file that is to become an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportRequest {
    pub file: PathBuf,
    /// None: as the file says, or as it is called.
    pub image: Option<Reference>,
    /// Which of several foreign images in the file is meant, as it is called there.
    pub reference: Option<String>,
    pub options: ImportOptions,
}

/// Which repository is meant, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRequest {
    /// None: the one that was said last.
    pub address: Option<Address>,
    pub prompts: Prompts,
}

/// Images of a repository that are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchRequest {
    pub repository: RepositoryRequest,
    /// What `NAME[:VERSION]` contains.
    pub part: String,
}

/// An image that is to be in a repository too.
pub struct PushRequest {
    pub repository: RepositoryRequest,
    pub image: Reference,
    pub form: Form,
    pub compression: Compression,
    pub if_there: IfThere,
    /// Whose signature is laid beside it.
    pub signing: Option<SigningKey>,
}

/// An image of a repository that is to be in the store too.
pub struct PullRequest {
    pub repository: RepositoryRequest,
    /// Without a version: the highest there.
    pub image: Reference,
    pub options: ImportOptions,
    /// One of them must have signed it.
    pub allowed_signers: Option<AllowedSigners>,
}

/// An image that a repository shall not have any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoveRequest {
    pub repository: RepositoryRequest,
    /// Without a version: the highest there.
    pub image: Reference,
}

/// What becomes of what is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Original {
    Goes,
    Stays,
}

/// What is done with a container that is booted while its files are to be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileBooted {
    Refuse,
    /// All its processes stand still meanwhile.
    Freeze,
}

/// How to boot.
#[derive(Default)]
pub struct BootRequest {
    /// What changes of its limits, at this boot and later ones.
    pub limits: LimitChanges,
    /// A program and its arguments as root process instead of cockerinit. `None`: as at the last boot.
    pub root_process: Option<Vec<OsString>>,
    /// What is done when it ends by itself, this time and later. `None`: as before.
    pub restart: Option<RestartPolicy>,
}

/// How far the client that boots a container has come when the container ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    Done,
    /// It is still at work, and undoes itself what it makes from then on.
    UnderWay,
    /// It went away, and init was never ready.
    BrokenOff,
}

/// A command that is to run in a booted container.
#[derive(Debug, PartialEq, Eq)]
pub struct RunRequest {
    pub program: Program,
    /// None: the container's root.
    pub user: Option<UserRequest>,
    /// An absolute path in the container, which must be a folder there. None: the user's home, or `/` where there is none.
    pub directory: Option<PathBuf>,
    /// What is said over the container's own environment; of two with one name the later one counts.
    pub environment: Vec<Variable>,
    /// How long it may take until the program is executed, which may lie where nobody answers. None: without end.
    pub patience: Option<Duration>,
}

/// Who a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRequest {
    pub user: Who,
    /// None: those that the container's passwd and group give the user; else this one alone.
    pub group: Option<Who>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Never looked up as a name.
    Id(u32),
    Name(String),
}

/// One variable of an environment. Its value may be a secret, and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Not empty, and without `=`.
    pub name: OsString,
    pub value: OsString,
}

impl fmt::Debug for Variable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}=…", self.name.display())
    }
}

/// What `run` starts.
#[derive(Debug, PartialEq, Eq)]
pub enum Program {
    /// A line for the user's shell; for /bin/sh where the user's is one that lets nobody in.
    Shell(OsString),
    /// A program and its arguments, looked for in the container's PATH.
    Arguments(Vec<OsString>),
}

/// How to look at a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    pub which: Which,
    /// Nothing can be typed.
    pub is_read_only: bool,
    pub look: LookRequest,
}

/// Who looks, and through which terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookRequest {
    pub size: WindowSize,
    /// What TERM shall be in a new session.
    pub term: String,
    /// The user of the host, as a new session is listed.
    pub who: String,
}

/// Which session is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one, of those that nobody looks at, that was left last; else a new one.
    IdleOrNew,
    /// A new one; with a name, where it is to be found by one.
    New(Option<Name>),
    There(SessionTarget),
}

/// A session by its number or its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionTarget {
    Number(u32),
    Name(Name),
}

impl fmt::Display for SessionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionTarget::Number(number) => write!(f, "{number}"),
            SessionTarget::Name(name) => write!(f, "{name}"),
        }
    }
}

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
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
