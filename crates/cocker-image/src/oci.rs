//! Images that other programs make and load: OCI image layouts and `docker save` archives, read and written.
//!
//! ```text
//! OCI image layout                      docker save
//! ├── oci-layout    its version         ├── manifest.json      images: config, tags, layers, lowest first
//! ├── index.json    manifests, names    ├── <digest>.json      config
//! └── blobs/sha256/<digest>             └── <digest>.tar       layer; of old <id>/layer.tar
//! ```
//!
//! Both may be archives, and compressed as a whole; newer `docker save` archives are both at once. What a file is, is
//! recognised by its content. Reading has three steps: [`recognise`] opens, [`ForeignImage::choose`] reads manifest and
//! config of one image, [`ForeignLayer::unpack_into`] unpacks one layer.
//!
//! Nothing here trusts what it reads. Blobs are found by digests that were checked to be digests, never by a path
//! from a document. Every document and layer is compared with the digest and size that were promised; a layer
//! counts only when `unpack_into` has returned without error, and an image only when all its layers have.
//!
//! Sources: OCI image-spec 1.1 (image-layout.md, image-index.md, manifest.md, config.md, layer.md) and Docker's image
//! specification 1.2.

mod chosen;
mod config;
mod documents;
mod error;
mod foreign_image;
mod layer;
mod layout;
mod list;
mod media;
mod naming;
mod outer_index;
mod outer_writer;
mod platform;
mod recognition;
mod saved;
mod source;
#[cfg(test)]
mod tests;
pub(crate) mod timestamp;
mod writer;

pub use chosen::Chosen;
pub use config::{BadImageConfig, ImageConfig};
pub use error::{BadDocument, OciError};
pub use foreign_image::ForeignImage;
pub use layer::ForeignLayer;
pub use naming::{ForeignName, foreign_name};
pub use recognition::recognise;
pub use timestamp::write as write_timestamp;
pub use writer::{Format, LayerSource, Writing, write};
