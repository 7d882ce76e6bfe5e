//! Why files could not be put into a container or be got out of it.

use super::{CleanUpError, ContainerError};
use cocker_sandbox::SandboxError;
use rustix::io::Errno;

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
    #[error("cannot record the size of the container's files")]
    Record {
        #[source]
        source: Errno,
    },
}
