//! Why a container could not become an image, or an image a container.

use super::{CleanUpError, ContainerError, CreateError, EngineError, create_hint};
use crate::network::NetworkFailure;
use cocker_image::{CopyError, MeasureError, Name, StoreError};
use rustix::io::Errno;

/// What stands in the way of making a container an image or an image a container.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    #[error(transparent)]
    Container(#[from] ContainerError),
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Network(#[from] NetworkFailure),
    #[error(transparent)]
    Restart(#[from] super::RestartError),
    #[error("cannot open the container's files")]
    OpenFiles {
        #[source]
        source: Errno,
    },
    #[error("cannot measure the container's files")]
    Measure {
        #[source]
        source: MeasureError,
    },
    #[error("cannot copy the files")]
    Copy {
        #[source]
        source: CopyError,
    },
    #[error("cannot find out who needs the image's layers")]
    Users {
        #[source]
        source: Box<EngineError>,
    },
    #[error("cannot freeze the container")]
    Freeze {
        #[source]
        source: Errno,
    },
    #[error(
        "cannot freeze the container: it has no cgroup in v2: this host has none, or none that is delegated to you"
    )]
    NoFreezer,
    #[error("cannot remove what an earlier boot has left")]
    CleanUp {
        #[source]
        source: CleanUpError,
    },
}

pub(super) fn conversion_hint(error: &ConversionError, container: Option<&Name>) -> Option<String> {
    match (error, container) {
        (ConversionError::Container(source), _) => source.hint(),
        (ConversionError::Image(source), _) => source.hint(),
        (ConversionError::Create(CreateError::NameInUse), Some(container)) => Some(format!(
            "choose another name with --to-container, or remove it: cocker destroy {container}"
        )),
        (ConversionError::Create(source), Some(container)) => create_hint(source, container),
        (ConversionError::Network(source), _) => source.hint(),
        (ConversionError::Users { source }, _) => source.hint(),
        _ => None,
    }
}
