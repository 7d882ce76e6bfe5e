//! Images as files: written for others, read from others.
//!
//! ```text
//! NAME[:VERSION].cockerimage    a tar of the image's own layer, gzip unless said otherwise; its first entry describes the image
//! any tar of a file system      one layer on nothing
//! OCI layout, docker save       all layers; see [`oci`](crate::oci)
//! ```
//!
//! Nothing of what a file says is believed: it is unpacked into a staged layer that nobody sees, its digest is compared, and
//! what it was built on is looked for by digests. Naming and publishing are done by who holds the store's lock.

mod description;
mod export;
mod foreign;
mod import;
mod output;

pub use export::{ExportError, Output, export, export_foreign};
pub(crate) use export::{digest_of, export_layer};
pub use import::{Base, ImportError, ImportOptions, Imported, Source};
pub(crate) use import::{layers_by_digest, unpack_image, unpack_layer};
pub use output::{IfThere, OutputError, OutputFile};

/// How far a transfer has come: what has passed of how much, in bytes; the whole may be a guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub passed: u64,
    pub whole: u64,
}
