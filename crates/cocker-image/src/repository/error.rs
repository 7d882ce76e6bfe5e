//! What can go wrong between this store and a repository, and what to do about it.

use super::BadAddress;
use crate::transfer::{ExportError, ImportError};
use crate::{Digest, Reference, SignatureError, StoreError};
use cocker_sftp::{ConnectError, ConnectErrorKind, SftpError, SftpErrorKind};
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("no repository was said yet")]
    NotSaid,
    #[error("cannot understand `{}`", path.display())]
    Remembered {
        path: PathBuf,
        #[source]
        source: BadAddress,
    },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Remote(#[from] SftpError),
    #[error("there is no folder `{folder}`")]
    NoFolder { folder: String },
    #[error("it holds more than {most} files")]
    TooMany { most: usize },
    #[error("there is no image `{image}`")]
    NoImage { image: Reference },
    #[error("image `{image}` is there already")]
    Exists { image: String },
    #[error("somebody has been giving or taking names for {seconds} s: `{lock}` is there")]
    Locked { lock: String, seconds: u64 },
    #[error("the server has needed more than {seconds} s for what is done under a lock")]
    Slow { seconds: u64 },
    #[error("the server has needed more than {seconds} s to list `{folder}`")]
    SlowFolder { folder: String, seconds: u64 },
    #[error("this store is at it already")]
    Busy,
    #[error("`{path}` there is no regular file of known size")]
    NoFile { path: String },
    #[error("`{path}` changed while it was read")]
    Changed { path: String },
    #[error("cannot understand `{path}`: {why}")]
    BadDocument { path: String, why: String },
    #[error("cannot believe `{path}`: its SHA-256 is {found}, and should be {said}")]
    Digest {
        path: String,
        said: Digest,
        found: Digest,
    },
    #[error("the files of `{path}` keep vanishing while its image is pushed")]
    Vanishing { path: String },
    #[error("image `{image}` is not signed: there is no `{path}`")]
    Unsigned { image: String, path: String },
    #[error("cannot believe that image `{image}` is what was signed")]
    Signature {
        image: String,
        #[source]
        source: Box<SignatureError>,
    },
    #[error("cannot sign image `{image}`")]
    Sign {
        image: String,
        #[source]
        source: Box<SignatureError>,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("cannot keep what was transferred in `{}`", path.display())]
    Keep {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot begin to transfer")]
    Begin {
        #[source]
        source: io::Error,
    },
}

impl RepositoryError {
    /// What the user can do about it, as one sentence.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            RepositoryError::NotSaid => {
                "say it once: --srepo USER@HOST[:PORT][/FOLDER]; it is remembered.".into()
            }
            RepositoryError::Remembered { .. } => {
                "say it anew: --srepo USER@HOST[:PORT][/FOLDER]".into()
            }
            RepositoryError::Connect(source) => return connect_hint(source.kind()),
            RepositoryError::Remote(source) => return remote_hint(&source.kind),
            RepositoryError::NoFolder { .. } => {
                "correct it, or push an image, which makes the folder.".into()
            }
            RepositoryError::NoImage { .. } => "`cocker ssearch` lists what is there.".into(),
            RepositoryError::Exists { .. } => {
                "give it another version (cocker set-version), or replace what is there: --forcely"
                    .into()
            }
            RepositoryError::Locked { lock, .. } => {
                format!("where nobody is, remove it by sftp: rmdir {lock}")
            }
            RepositoryError::Slow { .. } => {
                "say the same once more: it goes on where it was.".into()
            }
            RepositoryError::Busy => "wait until the other one is done.".into(),
            RepositoryError::Changed { .. } => "somebody replaces it: try again.".into(),
            RepositoryError::Digest { .. } => {
                "it was damaged or replaced there: push it once more, or ask who keeps it.".into()
            }
            RepositoryError::Unsigned { .. } => {
                "push it with --sign KEY; or pull it without --verify where you trust the server."
                    .into()
            }
            RepositoryError::Signature { source, .. } | RepositoryError::Sign { source, .. } => {
                return source.hint();
            }
            RepositoryError::Store(source) => return source.hint(),
            RepositoryError::Import(ImportError::NoBase { image, .. }) => {
                base_hint(image.as_deref())
            }
            RepositoryError::Import(source) => return source.hint(),
            RepositoryError::TooMany { .. }
            | RepositoryError::SlowFolder { .. }
            | RepositoryError::NoFile { .. }
            | RepositoryError::BadDocument { .. }
            | RepositoryError::Vanishing { .. }
            | RepositoryError::Export(_)
            | RepositoryError::Keep { .. }
            | RepositoryError::Begin { .. } => return None,
        })
    }

    /// Whether the connection ended before all was said: what was transferred by then is not lost.
    pub(super) fn is_interruption(&self) -> bool {
        match self {
            RepositoryError::Remote(source) => matches!(
                source.kind,
                SftpErrorKind::ConnectionLost { .. } | SftpErrorKind::Silent { .. }
            ),
            _ => false,
        }
    }

    /// Whether what was sent by then is kept, for the next try to go on with.
    pub(super) fn is_to_be_gone_on_with(&self) -> bool {
        self.is_interruption()
            || matches!(
                self,
                RepositoryError::Locked { .. }
                    | RepositoryError::Slow { .. }
                    | RepositoryError::Sign { .. }
            )
    }
}

fn connect_hint(kind: ConnectErrorKind) -> Option<String> {
    Some(match kind {
        ConnectErrorKind::HostKey => {
            "log in once by ssh and look at the server's key, or put it into known_hosts.".into()
        }
        ConnectErrorKind::Authentication => {
            "a key or an agent must let you in; without a terminal nothing can be typed.".into()
        }
        ConnectErrorKind::Unreachable => "`ssh -v` to the same address tells more.".into(),
        ConnectErrorKind::NoSubsystem => {
            "the server must allow sftp: `Subsystem sftp internal-sftp` in its sshd_config.".into()
        }
        ConnectErrorKind::Other => return None,
    })
}

fn remote_hint(kind: &SftpErrorKind) -> Option<String> {
    Some(match kind {
        SftpErrorKind::PermissionDenied => {
            "the account must be allowed to read there, and to write for all but pulling; another one: --srepo USER@HOST/FOLDER"
                .into()
        }
        SftpErrorKind::NoRoom => "make room on the server: `cocker srm` removes images.".into(),
        SftpErrorKind::ConnectionLost { .. } | SftpErrorKind::Silent { .. } => {
            "say the same once more: it goes on where it was.".into()
        }
        _ => return None,
    })
}

fn base_hint(image: Option<&str>) -> String {
    match image {
        Some(image) => format!(
            "pull `{}` first; what is pushed with --layers comes with all it stands on.",
            crate::quote::quote(image)
        ),
        None => "what is pushed with --layers comes with all it stands on.".into(),
    }
}
