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
mod control;
mod create;
mod destroy;
mod end;
mod engine;
mod failure;
mod housekeeping;
mod ids;
mod images;
mod listing;
mod network;
mod plan;
mod release;
mod request;
mod resolv_conf;
mod session;
mod settings;
mod state;

pub use cocker_image::{BadName, BadReference, BadVersion, ImageRecord, Name, Reference, Version};
pub use cocker_network::{BadMapping, PortMapping, Protocol};
pub use connection::{Connection, Ending};
pub use engine::{Engine, Settings};
pub use failure::EngineError;
pub use housekeeping::{
    ContainerUsage, Finding, Grade, ImageUsage, KindUsage, LayerSizes, PruneMode, Pruned,
    PrunedKind, Usage,
};
pub use listing::{ContainerSummary, Status};
pub use network::Warning;
pub use request::{
    Boot, BootRequest, BridgeRequest, CreateRequest, IfBooted, Isolation, NetworkRequest, OnError,
    Program, VolumeAccess, VolumeRequest, WindowSize,
};
pub use session::{Running, Session};
