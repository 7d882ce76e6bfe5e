//! Why files could not be put into a container or be got out of it.

use super::{CleanUpError, ContainerError};
use cocker_image::archive::{PackError, UnpackError};
use cocker_image::{CopyError, PlaceError};
use cocker_sandbox::SandboxError;
use rustix::io::Errno;
use std::error::Error;
use std::io;
use std::path::PathBuf;

/// What stands in the way of reaching a container's files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("cannot remove what an earlier boot has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
    #[error("cannot act as the container's root")]
    Act {
        #[source]
        source: Errno,
    },
    #[error("cannot read `{}`", path.display())]
    Source {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot write into folder `{}`", path.display())]
    Target {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot make a folder for what is unpacked")]
    Stage {
        #[source]
        source: Errno,
    },
    #[error("cannot read the archive")]
    ReadArchive {
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("cannot record the size of the container's files")]
    Record {
        #[source]
        source: Errno,
    },
}

impl FilesError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            FilesError::Container(source) => source.hint(),
            FilesError::Copy(CopyError::Owner { .. }) => {
                Some("a container has the ids 0 to 65535: change the file's owner or group first.".into())
            }
            FilesError::Copy(CopyError::Device { .. }) | FilesError::Pack(PackError::Device { .. }) => {
                Some("device nodes are neither put nor got: copy what is beside it.".into())
            }
            FilesError::Place(PlaceError::Mounted { .. }) => Some(
                "what is mounted has a path of its own: name that one; a single file that is mounted is changed on the host.".into(),
            ),
            FilesError::Target {
                source: Errno::NOENT,
                ..
            } => Some("make the folder first.".into()),
            _ if self.is_full() => {
                Some("nothing has its final name yet: make room and try again.".into())
            }
            _ => None,
        }
    }

    /// Whether the last cause is that there is no room, be it of the disk or of a quota.
    fn is_full(&self) -> bool {
        let mut cause: &(dyn Error + 'static) = self;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let errno = match cause.downcast_ref::<io::Error>() {
            Some(error) => Errno::from_io_error(error),
            None => cause.downcast_ref::<Errno>().copied(),
        };
        matches!(errno, Some(Errno::NOSPC | Errno::DQUOT))
    }
}
