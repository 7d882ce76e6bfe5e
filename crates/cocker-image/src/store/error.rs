//! What can go wrong with the store, and what to do about it.

use crate::staging::StagingError;
use crate::{LayerId, MeasureError, Name, Version};
use rustix::io::Errno;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot make `{path}`")]
    MakeFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open `{path}`")]
    OpenFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot keep images in `{path}`: it belongs to user {owner}, not to user {expected}")]
    ForeignOwner {
        path: PathBuf,
        owner: u32,
        expected: u32,
    },
    #[error("cannot keep images in `{path}`: its mode {mode:04o} lets other users in")]
    OpenToOthers { path: PathBuf, mode: u32 },
    #[error(
        "cannot keep images in `{home}`: others may exchange it through `{parent}` (user {owner}, mode {mode:04o})"
    )]
    Exchangeable {
        home: PathBuf,
        parent: PathBuf,
        owner: u32,
        mode: u32,
    },
    #[error("cannot lock `{path}`")]
    Lock {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot list `{path}`")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot read `{path}`")]
    ReadRecord {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot understand `{path}`")]
    ParseRecord {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("cannot understand `{path}`: {why}")]
    ContradictoryRecord { path: PathBuf, why: &'static str },
    #[error(
        "cannot understand `{path}`: it has format {format}, and this cocker knows formats up to {newest}"
    )]
    NewerRecord {
        path: PathBuf,
        format: u32,
        newest: u32,
    },
    #[error("cannot write `{record}` of image `{name}:{version}`")]
    WriteRecord {
        record: &'static str,
        name: Name,
        version: Version,
        #[source]
        source: io::Error,
    },
    #[error("cannot find image `{name}`")]
    UnknownImage { name: Name },
    #[error("cannot find version `{version}` of image `{name}`")]
    UnknownVersion {
        name: Name,
        version: Version,
        known: Vec<Version>,
    },
    #[error("cannot make image `{name}:{version}`: image `{name}:{version}` exists already")]
    ImageExists { name: Name, version: Version },
    #[error("cannot give image `{name}:{from}` version `{to}`")]
    SetVersion {
        name: Name,
        from: Version,
        to: Version,
        #[source]
        source: io::Error,
    },
    #[error("cannot look for image `{name}:{version}`")]
    LookForImage {
        name: Name,
        version: Version,
        #[source]
        source: io::Error,
    },
    #[error("cannot find layer `{layer}`")]
    UnknownLayer { layer: LayerId },
    #[error("cannot write the record of layer `{layer}`")]
    WriteLayerRecord {
        layer: LayerId,
        #[source]
        source: io::Error,
    },
    #[error("cannot open layer `{layer}`")]
    OpenLayer {
        layer: LayerId,
        #[source]
        source: io::Error,
    },
    #[error("cannot begin a new entry in `{path}`")]
    Stage {
        path: PathBuf,
        #[source]
        source: StagingError,
    },
    #[error("cannot prepare the folder for the files of layer `{layer}`")]
    PrepareTree {
        layer: LayerId,
        #[source]
        source: io::Error,
    },
    #[error("cannot measure layer `{layer}`")]
    Measure {
        layer: LayerId,
        #[source]
        source: MeasureError,
    },
    #[error("cannot bring `{path}` to disk")]
    Sync {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write `change.json`")]
    WriteChange {
        #[source]
        source: io::Error,
    },
    #[error("cannot unlink `{path}`")]
    Unlink {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot rename `{from}` to `{to}`")]
    ChangeName {
        /// Seen from the home, as is the next.
        from: String,
        to: String,
        #[source]
        source: Errno,
    },
}

impl StoreError {
    /// Whether the cause is that nothing can be written there, as on a disk that has failed.
    pub fn is_read_only(&self) -> bool {
        let causes =
            std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        causes.into_iter().any(|cause| {
            let io = cause
                .downcast_ref::<io::Error>()
                .and_then(Errno::from_io_error);
            io.or(cause.downcast_ref::<Errno>().copied()) == Some(Errno::ROFS)
        })
    }

    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        match self {
            StoreError::ForeignOwner { path, expected, .. } => Some(format!(
                "chown {expected} {}, or choose another folder with COCKER_HOME.",
                path.display()
            )),
            StoreError::OpenToOthers { path, .. } => Some(format!(
                "chmod 700 {}, or choose another folder with COCKER_HOME.",
                path.display()
            )),
            StoreError::Exchangeable { parent, .. } => Some(format!(
                "choose a COCKER_HOME of which every parent belongs to root, or chmod go-w {} and chown 0 it.",
                parent.display()
            )),
            StoreError::UnknownImage { .. } => Some(
                "`cocker images` lists what there is; `cocker install-test` makes image `test`."
                    .into(),
            ),
            StoreError::UnknownVersion { name, known, .. } => {
                let known: Vec<&str> = known.iter().map(Version::as_str).collect();
                Some(format!(
                    "image `{name}` has {}; `cocker images` lists all.",
                    quoted_list(&known)
                ))
            }
            StoreError::ImageExists { name, version } => Some(format!(
                "choose another name or version, or remove it first: cocker rm-image {name}:{version}"
            )),
            StoreError::ChangeName { .. } | StoreError::Unlink { .. } => Some(
                "a change of several names that could not be ended stays in change.json; the next command tries again."
                    .into(),
            ),
            StoreError::NewerRecord { .. } => {
                Some("use the cocker that wrote it, or a newer one.".into())
            }
            StoreError::ParseRecord { path, .. } | StoreError::ContradictoryRecord { path, .. } => {
                Some(format!(
                    "restore {} from a backup, or remove its folder.",
                    path.display()
                ))
            }
            _ => None,
        }
    }
}

/// The last ten versions in words.
fn quoted_list(versions: &[&str]) -> String {
    let shown = &versions[versions.len().saturating_sub(10)..];
    let words: Vec<String> = shown.iter().map(|version| format!("`{version}`")).collect();
    let rest = versions.len() - shown.len();
    let more = if rest > 0 {
        format!(" and {rest} lower")
    } else {
        String::new()
    };
    format!(
        "version{} {}{more}",
        if versions.len() == 1 { "" } else { "s" },
        words.join(", ")
    )
}
