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
mod connection;
mod container;
mod container_to_image;
mod control;
mod create;
mod destroy;
mod end;
mod engine;
mod environment;
mod failure;
mod freezing;
mod housekeeping;
mod ids;
mod image_to_container;
mod images;
mod listing;
mod network;
mod plan;
mod recordings;
mod release;
mod request;
mod resolv_conf;
mod session;
mod settings;
mod size;
mod stacks;
mod state;
mod transfer;

pub use cocker_image::archive::{Compression, Devices};
pub use cocker_image::oci::Format;
pub use cocker_image::stack::{
    Change, ChangeKind, Difference, FileKind, Found, StackError, Standing, ViewPath,
};
pub use cocker_image::transfer::{Base, IfThere, ImportOptions, Progress};
pub use cocker_image::{
    BadName, BadReference, BadVersion, ImageRecord, LayerOrigin, LayerRecord, Name, Reference,
    Version,
};
pub use cocker_network::{BadMapping, PortMapping, Protocol};
pub use command::Running;
pub use connection::{Connection, Ending};
pub use engine::{Engine, Settings};
pub use failure::EngineError;
pub use housekeeping::{
    ContainerUsage, Finding, Grade, ImageUsage, KindUsage, LayerSizes, PruneMode, Pruned,
    PrunedKind, Usage,
};
pub use listing::{ContainerSummary, Status};
pub use network::Warning;
pub use recordings::Recording;
pub use request::{
    Boot, BootRequest, BridgeRequest, CreateRequest, ExportForm, ExportRequest, IfBooted,
    ImportRequest, Isolation, NetworkRequest, NewContainer, OnError, Original, Program, RunRequest,
    ToContainerRequest, ToImageRequest, UserRequest, Variable, VolumeAccess, VolumeRequest,
    WhileBooted, Who, WindowSize,
};
pub use session::Session;
pub use size::parse_size;
pub use stacks::{LayerSummary, StackRequest, TraceSummary};
pub use transfer::Exported;
