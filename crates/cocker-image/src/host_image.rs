//! Image `test`, made from the host's own programs.

use std::os::fd::BorrowedFd;

/// What was done.
#[derive(Debug)]
pub struct HostImageReport {
    /// Programs that were installed, by name.
    pub installed: Vec<String>,
    /// Programs that the host lacks.
    pub skipped: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum HostImageError {}

/// Fills the empty folder `tree` with a root file system of the host's programs.
pub fn build(_tree: BorrowedFd<'_>) -> Result<HostImageReport, HostImageError> {
    todo!()
}
