//! Image `test`, made from the host's own programs: a small root file system with a shell, the usual commands, and all
//! that they need to start.
//!
//! ```text
//! programs ─┐                     host ─┐
//! closure ──┼─▶ selection ─┐            ▼
//! data ─────┘              ├─▶ plan ─▶ tree
//! skeleton ────────────────┘
//! ```
//!
//! `host` reads paths link by link; `closure` finds what a program needs with `elf`, `libraries` and `loader_cache`;
//! `selection` takes what fits; `plan` says what will stand where; `tree` writes it below one descriptor.
//!
//! No program of the host is ever run, not even the dynamic loader, and nothing is written outside the given tree.
//! The environment is not read either: who calls says where to look for more programs.

mod closure;
mod data;
mod elf;
mod host;
mod libraries;
mod loader_cache;
mod plan;
mod programs;
mod selection;
mod skeleton;
mod tree;

#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use closure::Collector;
pub use closure::Unavailable;
pub use elf::ElfError;
use host::Host;
use plan::Plan;
use programs::STANDARD_FOLDERS;
use skeleton::Shells;

/// What the image may take on disk, in bytes.
const SPACE_AT_MOST: u64 = 60_000_000;

/// Kept free of programs for the image's own files, in bytes.
const SPACE_OF_SKELETON: u64 = 256 << 10;

/// What a caller may choose.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folders to look for programs in after the standard ones. Those that are not absolute are passed over.
    pub search: Vec<PathBuf>,
}

/// What was done.
#[derive(Debug)]
pub struct HostImageReport {
    /// Programs that were installed, by name.
    pub installed: Vec<String>,
    /// Programs that were not.
    pub skipped: Vec<Skipped>,
    /// Content of all files, in bytes.
    pub bytes: u64,
}

/// A program that is not in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub name: String,
    /// Why, as a text for people.
    pub reason: String,
}

#[derive(Debug, thiserror::Error)]
pub enum HostImageError {
    #[error("cannot install a shell from the host")]
    NoShell {
        #[source]
        source: Unavailable,
    },
    #[error("cannot read the host's file `{path}`")]
    ReadHost {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make the image's folder `{path}`")]
    MakeFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make the image's link `{path}`")]
    MakeLink {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the image's file `{path}`")]
    WriteFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl HostImageError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoShell { .. } => Some(String::from(
                "install bash, dash or busybox on the host, in one of the folders of PATH.",
            )),
            Self::ReadHost { .. } => None,
            Self::MakeFolder { source, .. }
            | Self::MakeLink { source, .. }
            | Self::WriteFile { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(format!(
                    "free some space: the image takes up to {} MB.",
                    SPACE_AT_MOST / 1_000_000
                )),
                io::ErrorKind::PermissionDenied => Some(String::from(
                    "the image's files belong to root: run it as root.",
                )),
                _ => None,
            },
        }
    }
}

/// Fills the empty folder `tree` with a root file system of the host's programs, those in the standard folders.
pub fn build(tree: BorrowedFd<'_>) -> Result<HostImageReport, HostImageError> {
    build_with(tree, &Options::default())
}

/// Fills the empty folder `tree` as [`build`] does, with programs from further folders.
///
/// On failure `tree` is left as far as it got; whoever made it removes it.
pub fn build_with(
    tree: BorrowedFd<'_>,
    options: &Options,
) -> Result<HostImageReport, HostImageError> {
    build_from(Path::new("/"), tree, options, SPACE_AT_MOST)
}

fn build_from(
    host_root: &Path,
    tree: BorrowedFd<'_>,
    options: &Options,
    space: u64,
) -> Result<HostImageReport, HostImageError> {
    let host = Host::at(host_root);
    let mut plan = Plan::default();
    data::add(&host, &mut plan);
    let mut collector = Collector::new(&host, search_folders(options));
    let limit = space.saturating_sub(SPACE_OF_SKELETON);
    let chosen = selection::choose(&mut collector, &mut plan, limit)?;
    let has_bash = chosen.installed.iter().any(|name| name == "bash");
    skeleton::add(&mut plan, &Shells { has_bash });
    tree::apply(&plan, &host, tree)?;

    let report = HostImageReport {
        installed: chosen.installed,
        skipped: chosen.skipped,
        bytes: plan.bytes(),
    };
    tracing::debug!(
        installed = report.installed.len(),
        skipped = report.skipped.len(),
        bytes = report.bytes,
        "image made from the host's programs"
    );
    Ok(report)
}

/// The standard folders, then those that were asked for.
fn search_folders(options: &Options) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = STANDARD_FOLDERS.iter().map(PathBuf::from).collect();
    for folder in &options.search {
        if folder.is_absolute() && !folders.contains(folder) {
            folders.push(folder.clone());
        }
    }
    folders
}
