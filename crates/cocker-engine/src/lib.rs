//! What a container is, and the order of things: create, boot, run, attach, shut down, destroy.
//!
//! The engine never prints, never reads the environment and never ends the process: the command does.
//! Steps are told to `tracing`; errors are values with a `hint` where the user can act.
#![forbid(unsafe_code)]

mod api;
pub use api::*;
pub use cocker_image::{BadName, BadVersion, ImageRecord, Name, Reference, Version};
