//! What can go wrong with images of others, and what to do about it.

use super::config::BadImageConfig;
use crate::Digest;
use crate::archive::{Compression, PackError, UnpackError};
use crate::quote::quote_up_to;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum OciError {
    #[error("cannot open `{path}`")]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive")]
    Read {
        #[source]
        source: io::Error,
    },
    #[error("cannot read the archive at byte {offset}: it ends in the middle of an entry")]
    Truncated { offset: u64 },
    #[error("cannot read the archive at byte {offset}: {why}")]
    Entry { offset: u64, why: String },
    #[error("cannot read the archive: it has more than {limit} entries")]
    TooManyEntries { limit: usize },
    #[error("cannot unpack the archive into a file")]
    Spool {
        #[source]
        source: io::Error,
    },
    #[error("cannot unpack the archive: unpacked it has more than {limit} bytes")]
    SpoolLimit { limit: u64 },

    #[error("cannot find `{name}` in the image")]
    Missing { name: String },
    #[error("cannot open `{name}` in the image")]
    OpenFile {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read `{name}` in the image: {why}")]
    NotReadable { name: String, why: &'static str },
    #[error("cannot read `{name}` in the image")]
    ReadFile {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read `{name}`: it has {size} bytes, and a document may have {limit}")]
    TooLarge { name: String, size: u64, limit: u64 },
    #[error("cannot trust `{name}`: it has {found} bytes, not {expected}")]
    Size {
        name: String,
        expected: u64,
        found: u64,
    },
    #[error("cannot trust `{name}`: its content has digest `{found}`")]
    Digest { name: String, found: Digest },
    #[error("cannot trust layer {number}: its files have digest `{found}`, not `{expected}`")]
    DiffId {
        number: usize,
        expected: Digest,
        found: Digest,
    },

    #[error("cannot understand `{document}`")]
    Parse {
        document: String,
        #[source]
        source: BadDocument,
    },
    #[error("cannot understand `{document}`: {why}")]
    Contradictory { document: String, why: &'static str },
    #[error("cannot read an image layout of version `{version}`: this cocker knows version 1")]
    LayoutVersion { version: String },
    #[error("cannot read `{document}`: media type `{media_type}` is unknown")]
    UnknownDocument {
        document: String,
        media_type: String,
    },
    #[error("cannot read `{document}`: it is a manifest of Docker's schema 1")]
    Schema1 { document: String },
    #[error("cannot use `{document}`: it holds no image but content of type `{media_type}`")]
    NotAnImage {
        document: String,
        media_type: String,
    },
    #[error("cannot use layer {number}: media type `{media_type}` is unknown")]
    UnknownLayer { number: usize, media_type: String },
    #[error("cannot use layer {number}: its files are not part of the image (`{media_type}`)")]
    ForeignLayer { number: usize, media_type: String },
    #[error("cannot use layer {number}: it is encrypted")]
    EncryptedLayer { number: usize },
    #[error("cannot use the image: it has {layers} layers, and its config speaks of {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("cannot use the image: it has no layers")]
    NoLayers,

    #[error("cannot find an image: there is none in it")]
    Empty,
    #[error("cannot tell which image is meant: there are {known}")]
    Ambiguous { known: String },
    #[error("cannot find image `{reference}` among {known}")]
    UnknownReference { reference: String, known: String },
    #[error("cannot find an image for `{wanted}` among those for {known}")]
    NoPlatform { wanted: String, known: String },
    #[error("cannot follow image indexes: there are more than {limit} within one another")]
    TooManyIndexes { limit: usize },

    #[error("cannot keep what the image says about running it")]
    Config {
        #[source]
        source: BadImageConfig,
    },
    #[error("cannot unpack layer {number}")]
    Unpack {
        number: usize,
        #[source]
        source: UnpackError,
    },

    #[error("cannot pack layer {number}")]
    Pack {
        number: usize,
        #[source]
        source: PackError,
    },
    #[error("cannot write the archive")]
    Write {
        #[source]
        source: io::Error,
    },
    #[error("cannot write an image without layers")]
    NothingToWrite,
    #[error("cannot compress layers with {compression}: no other program would read them")]
    Compression { compression: Compression },
}

impl OciError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            OciError::SpoolLimit { .. } => {
                Some("allow more with --max-size, or unpack the archive first.".into())
            }
            OciError::Ambiguous { .. } => Some("say which: --ref NAME".into()),
            OciError::Truncated { .. }
            | OciError::Size { .. }
            | OciError::Digest { .. }
            | OciError::DiffId { .. } => {
                Some("the image is damaged or was changed: fetch or save it again.".into())
            }
            OciError::Schema1 { .. } => {
                Some("save the image again with docker 1.10 or newer, or with skopeo.".into())
            }
            OciError::EncryptedLayer { .. } => {
                Some("decrypt it first: skopeo copy --decryption-key".into())
            }
            OciError::ForeignLayer { .. } => {
                Some("save the image with all its layers: docker save, or skopeo copy.".into())
            }
            _ => None,
        }
    }
}

/// Why a document could not be parsed; what it quotes of the document is short and printable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} (line {line}, column {column})")]
pub struct BadDocument {
    why: String,
    line: usize,
    column: usize,
}

impl BadDocument {
    /// The longest reason, in characters.
    const LONGEST: usize = 240;

    pub(super) fn new(error: &serde_json::Error) -> BadDocument {
        let (line, column) = (error.line(), error.column());
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        let text = text.strip_suffix(&place).unwrap_or(&text);
        let why = quote_up_to(BadDocument::LONGEST, text);
        BadDocument { why, line, column }
    }
}
