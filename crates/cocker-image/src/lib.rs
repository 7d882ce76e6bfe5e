//! Images: names for lists of layers, the store they live in, and the image made from the host's own programs.
//! This crate knows nothing of namespaces or containers' lives.
#![forbid(unsafe_code)]

pub mod host_image;
mod name;
mod store;
mod version;

pub use name::{BadName, Name};
pub use store::{ImageRecord, LayerId, StagedImage, Store, StoreError, StoreLock};
pub use version::{BadVersion, Reference, Version};
