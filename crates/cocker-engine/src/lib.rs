//! What a container is, and the order of things: create, boot, run, attach, shut down, destroy.
//!
//! The engine never prints, never reads the environment and never ends the process: the command does.
//! Steps are told to `tracing`; errors are values with a `hint` where the user can act.
#![forbid(unsafe_code)]

mod account;
mod addresses;
mod boot;
mod config;
mod connection;
mod container;
mod container_to_image;
mod control;
mod create;
mod destroy;
mod end;
mod engine;
mod failure;
mod files;
mod freezing;
mod housekeeping;
mod ids;
mod image_to_container;
mod images;
mod listing;
mod network;
mod plan;
mod release;
mod request;
mod resolv_conf;
mod session;
mod settings;
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
    BadName, BadReference, BadVersion, ImageRecord, LayerOrigin, LayerRecord, LeftOut, Name,
    Reference, Version,
};
pub use cocker_network::{BadMapping, PortMapping, Protocol};
pub use connection::{Connection, Ending};
pub use engine::{Engine, Settings};
pub use failure::EngineError;
pub use files::{GetRequest, Interrupted, PutRequest};
pub use housekeeping::{
    ContainerUsage, Finding, Grade, ImageUsage, KindUsage, LayerSizes, PruneMode, Pruned,
    PrunedKind, Usage,
};
pub use listing::{ContainerSummary, Status};
pub use network::Warning;
pub use request::{
    Boot, BootRequest, BridgeRequest, CreateRequest, ExportForm, ExportRequest, IfBooted,
    ImportRequest, Isolation, NetworkRequest, NewContainer, OnError, Original, Program,
    ToContainerRequest, ToImageRequest, VolumeAccess, VolumeRequest, WhileBooted, WindowSize,
};
pub use session::{Running, Session};
pub use stacks::{LayerSummary, StackRequest, TraceSummary};
pub use transfer::Exported;
