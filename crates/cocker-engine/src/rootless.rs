//! An ordinary user becomes root of its own ids before anything else is done. See `cocker_sandbox::rootless`.

use crate::container::CONTAINERS;
use crate::failure::EngineError;
use crate::state::{Standing, StateFile};
use cocker_image::{Name, Store};
use cocker_sandbox::rootless::{self, RootlessError};
use cocker_sys::namespace::stand_for_a_user;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The variable by which a supervisor says what it executes that it stands for an ordinary user.
pub const FOR_A_USER: &str = "COCKER_FOR_A_USER";

/// Moves an ordinary user of the host into a user namespace in which it is root: into that of `container`, where that one is
/// booted, or of any other that is, else into a new one. The store at `home` is opened, and made, on the way: as whom it
/// belongs to. `names` are what the files of ids may call the user, besides what /etc/passwd calls it.
///
/// The caller must have a single thread.
pub fn become_root(
    home: &Path,
    container: Option<&Name>,
    mut names: Vec<String>,
) -> Result<(), EngineError> {
    names.insert(0, rootless::user_name());
    let home = Store::open(home)?.home().to_path_buf();
    let named = container.map(|name| OsString::from(name.as_str()));
    let is_booted = |name: &OsString| booted(&home, name).is_some();
    let joined = named
        .filter(is_booted)
        .or_else(|| any_booted(&home))
        .and_then(|name| join(&home, &name));
    match joined {
        Some(joined) => joined,
        None => rootless::enter(&names),
    }
    .map_err(|source| EngineError::Rootless { source })?;
    stand_for_a_user();
    Ok(())
}

/// None where it has ended meanwhile.
fn join(home: &Path, container: &OsStr) -> Option<Result<(), RootlessError>> {
    let pid = booted(home, container)?;
    let joined = rootless::join(pid, || booted(home, container) == Some(pid));
    match joined {
        // Its last process has ended, and its supervisor is about to write that down.
        Err(RootlessError::Join {
            source: Errno::NOENT | Errno::SRCH,
        }) => None,
        Err(_) if booted(home, container) != Some(pid) => None,
        joined => Some(joined),
    }
}

fn any_booted(home: &Path) -> Option<OsString> {
    let entries = std::fs::read_dir(home.join(CONTAINERS)).ok()?;
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.find(|name| booted(home, name).is_some())
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
