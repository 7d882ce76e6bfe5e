//! What a container is, and the order of things: create, boot, run, attach, shut down, destroy.
//!
//! The engine never prints, never reads the environment and never ends the process: the command does.
//! Steps are told to `tracing`; errors are values with a `hint` where the user can act.
#![forbid(unsafe_code)]

mod account;
mod addresses;
mod boot;
mod command;
mod config;
mod confinement;
mod connection;
mod console_log;
mod container;
mod container_to_image;
mod control;
mod create;
mod destroy;
mod doctor;
mod enabling;
mod end;
mod engine;
mod environment;
mod failure;
mod figures;
mod files;
mod freezing;
mod housekeeping;
mod ids;
mod image_to_container;
mod images;
mod instantiation;
mod limits;
mod listing;
mod network;
mod pasta;
mod pause;
mod plan;
mod recordings;
mod release;
mod repository;
mod request;
mod resolv_conf;
mod restart;
mod rootless;
mod settings;
mod size;
mod stacks;
mod starting;
mod state;
mod stuck;
mod terminals;
mod transfer;

pub use cocker_image::archive::{Compression, Devices};
pub use cocker_image::oci::Format;
pub use cocker_image::repository::{Address, BadAddress, Form, ImageId, Prompts, RemoteImage};
pub use cocker_image::signature::WrittenTime;
pub use cocker_image::stack::{
    Change, ChangeKind, Difference, FileKind, Found, StackError, Standing, ViewPath,
};
pub use cocker_image::transfer::{Base, IfThere, ImportOptions, Progress};
pub use cocker_image::{
    AllowedSigners, BadName, BadReference, BadVersion, ImageRecord, LayerOrigin, LayerRecord,
    LeftOut, Name, Passphrase, Reference, SigningKey, Version,
};
pub use cocker_network::{BadMapping, PortMapping, Protocol};
pub use cocker_protocol::{ModeTracker, Modes};
pub use cocker_sandbox::{
    CpuTime, Figures, IoUse, MemoryUse, PidsUse, Pressure, Stall, Throttling,
};
#[cfg(debug_assertions)]
pub use cocker_sys::fault;
pub use cocker_sys::lock::{Holder, tell_of_waiting};
pub use cocker_sys::namespace::{stand_for_a_user, stands_for_a_user};
pub use command::Running;
pub use confinement::{
    Capabilities, CapabilityName, ConfinementError, ConfinementRequest, ConfinementSettings,
    DeviceRequest, DeviceUse, Seccomp, SeccompRequest,
};
pub use connection::{Connection, Ending};
pub use console_log::{ConsoleLog, Follow, LogPiece, LogRequest, Woken};
pub use doctor::{Diagnosis, DoctorMode, DoctorRequest, Outcome, doctor};
pub use enabling::BootOrder;
pub use engine::{Engine, Settings};
pub use failure::EngineError;
pub use figures::{ContainerFigures, Traffic, Watched};
pub use files::{GetRequest, Interrupted, PutRequest};
pub use housekeeping::{
    ContainerUsage, Depth, Finding, Grade, ImageUsage, KindUsage, LayerSizes, PruneMode, Pruned,
    PrunedKind, Usage,
};
pub use instantiation::{
    BadRules, InstanceChange, InstancePreview, InstantiateRequest, MOST_MAPPING_BYTES, Rules,
    Unruled,
};
pub use limits::{
    BadLimit, CpuList, DEFAULT_PROCESSES, HugePages, IoMax, LimitChanges, NoFile, Said,
};
pub use listing::{ContainerSummary, Counts, Status};
pub use network::Warning;
pub use recordings::{Recording, Title};
pub use release::End;
pub use repository::PulledAs;
pub use request::{
    AttachRequest, Boot, BootRequest, BridgeRequest, CreateRequest, ExportForm, ExportRequest,
    IfBooted, ImportRequest, Isolation, LookRequest, NetworkRequest, NewContainer, OnError,
    Original, Program, PullRequest, PushRequest, RemoveRequest, RepositoryRequest, RunRequest,
    SearchRequest, SessionTarget, ToContainerRequest, ToImageRequest, UserRequest, Variable,
    VolumeAccess, VolumeIds, VolumeRequest, VolumeSetId, Which, WhileBooted, Who, WindowSize,
};
pub use restart::{BadPolicy, RestartPolicy, Restarts};
pub use rootless::{FOR_A_USER, become_root};
pub use size::parse_size;
pub use stacks::{LayerSummary, StackRequest, TraceSummary};
pub use terminals::{MOST_TYPED, Session, SessionEntry, Shown, ShownBefore};
pub use transfer::Exported;
