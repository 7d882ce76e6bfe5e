//! Images: names for lists of layers, the store they live in, and the image made from the host's own programs.
//! This crate knows nothing of namespaces or containers' lives.
//!
//! What a user says is a [`Name`], a [`Version`] or a [`Reference`]; what lies on disk is reached through a [`Store`].
//! Trees of files are walked by descriptors only ([`removal`], [`measure_tree`]): no path is ever resolved a second time.
#![forbid(unsafe_code)]

pub mod archive;
mod copying;
mod descent;
mod digest;
mod finding;
pub mod host_image;
pub mod inspection;
mod layer;
mod marks;
mod measure;
mod name;
pub mod oci;
mod owners;
mod placement;
mod quote;
mod reference;
pub mod removal;
pub mod repository;
pub mod signature;
pub mod stack;
pub mod staging;
mod store;
mod trail;
pub mod transfer;
mod version;

pub use copying::{
    Copied, CopyError, CopyRules, CopySource, LeftOut, Nodes, Privileges, copy_files, copy_tree,
};
pub use digest::{BadDigest, Digest, Digester};
pub use finding::{FindError, FoundFile, find_files};
pub use layer::{BadLayerId, LayerId};
pub use measure::{MeasureError, measure_tree};
pub use name::{BadName, Name};
pub use owners::{IdShift, Others};
pub use placement::{Merged, PlaceError, Stage, dress_as};
pub use reference::{BadReference, Reference};
pub use signature::{AllowedSigners, Passphrase, SignatureError, SigningKey};
pub use store::{
    Afterwards, Change, Commit, ImageRecord, LayerOrigin, LayerRecord, Leaving, NewImage, Origin,
    Rename, StagedLayer, Store, StoreError, StoreLock,
};
pub use version::{BadVersion, Version};
