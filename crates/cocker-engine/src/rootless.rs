//! An ordinary user becomes root of its own ids before anything else is done. See `cocker_sandbox::rootless`.

use crate::container::CONTAINERS;
use crate::failure::EngineError;
use crate::state::{Standing, StateFile};
use cocker_image::{Name, Store};
use cocker_sandbox::rootless;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use std::ffi::OsStr;
use std::path::Path;

/// Moves an ordinary user of the host into a user namespace in which it is root: into that of `container`, where that one is
/// booted, or of any other that is, else into a new one. The store at `home` is opened, and made, on the way: as whom it
/// belongs to.
///
/// The caller must have a single thread.
pub fn become_root(home: &Path, container: Option<&Name>) -> Result<(), EngineError> {
    let home = Store::open(home)?.home().to_path_buf();
    let booted = container
        .and_then(|name| booted(&home, name.as_str().as_ref()))
        .or_else(|| any_booted(&home));
    let entered = match booted {
        // It may have ended meanwhile.
        Some(pid) => rootless::join(pid).or_else(|error| {
            tracing::debug!("{error}");
            rootless::enter(&rootless::user_name())
        }),
        None => rootless::enter(&rootless::user_name()),
    };
    entered.map_err(|source| EngineError::Rootless { source })
}

fn any_booted(home: &Path) -> Option<Pid> {
    let entries = std::fs::read_dir(home.join(CONTAINERS)).ok()?;
    entries
        .flatten()
        .find_map(|entry| booted(home, &entry.file_name()))
}

/// The root process of a container that is booted.
fn booted(home: &Path, container: &OsStr) -> Option<Pid> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = home.join(CONTAINERS).join(container);
    let folder = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    let state = StateFile::open(folder.as_fd()).ok()?;
    match state.standing().ok()?.0 {
        Standing::Booted { pid } => Pid::from_raw(pid),
        _ => None,
    }
}
