//! What goes wrong with one entry, before its name and offset are known.

use crate::archive::error::{Refusal, UnpackError, shown};
use crate::removal::RemovalError;
use rustix::io::Errno;

pub(super) enum Failure {
    Refused(Refusal),
    Kernel(Errno),
    Attribute(Vec<u8>, Errno),
    Replace(RemovalError),
    /// The error names the place in the archive already.
    Archive(UnpackError),
}

impl Failure {
    /// Says with which entry it happened.
    pub fn with(self, name: &[u8], offset: u64) -> UnpackError {
        match self {
            Failure::Refused(reason) => UnpackError::refused(name, offset, reason),
            Failure::Kernel(errno) => UnpackError::writing(name, offset, errno),
            Failure::Attribute(attribute, errno) => {
                UnpackError::attribute(&attribute, name, offset, errno)
            }
            Failure::Replace(source) => UnpackError::Replace {
                name: shown(name),
                offset,
                source,
            },
            Failure::Archive(error) => error,
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Kernel(errno)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<UnpackError> for Failure {
    fn from(error: UnpackError) -> Failure {
        Failure::Archive(error)
    }
}
