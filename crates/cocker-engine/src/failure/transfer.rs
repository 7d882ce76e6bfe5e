//! Why an image could not become a file, or a file an image.

use cocker_image::StoreError;
use cocker_image::transfer::{ExportError, ImportError, OutputError};

/// What stands in the way of writing an image into a file, or of reading one.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Image(#[from] StoreError),
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("it does not say what the image is called, and the file's name is none for an image")]
    NoName,
}

impl TransferError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            TransferError::Image(source) => source.hint(),
            TransferError::Import(source) => source.hint(),
            TransferError::Output(OutputError::Exists { .. }) => {
                Some("name another file with --image-file, or replace this one: --forcely".into())
            }
            TransferError::NoName => Some("say it: --image I[:V]".into()),
            TransferError::Export(_) | TransferError::Output(_) => None,
        }
    }
}
