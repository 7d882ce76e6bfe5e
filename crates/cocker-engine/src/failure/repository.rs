//! What stands in the way of what is done in a repository.

use cocker_image::StoreError;
use cocker_image::repository::RepositoryError;

#[derive(Debug, thiserror::Error)]
pub enum RepositoryFailure {
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RepositoryFailure {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            RepositoryFailure::Repository(source) => source.hint(),
            RepositoryFailure::Store(source) => source.hint(),
        }
    }
}
