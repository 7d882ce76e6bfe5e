//! Network namespaces by name, where ip-netns(8) looks for them.
//!
//! ```text
//! /run/netns/             mounted on itself, so that unmounting reaches other mount namespaces too
//! ├── nns098F6BCD46A1     pinned: an empty file with the namespace mounted on it; it lasts without any process
//! └── nns1E2A90F117C3     shown: a link to /proc/<pid>/ns/net; it ends with its processes
//! ```
//!
//! Mounting costs little and unmounting costs the kernel some ten milliseconds, so what need not outlast its
//! processes is shown only. Nothing here or elsewhere decides by the pid in such a link.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags, flock};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use std::path::{Path, PathBuf};

const FOLDER: &str = "/run/netns";

/// Where the namespace of this name is pinned.
pub fn pin_path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// A namespace could not be pinned, or its pin not be removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error("cannot keep the network namespace at `{}`", path.display())]
    Pin {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot let go of the network namespace at `{}`", path.display())]
    Unpin {
        path: PathBuf,
        #[source]
        source: Errno,
    },
}

/// Says whether a namespace is pinned under this name: an empty file without one is what a restart of the host, or a
/// crash in between, leaves where /run is a disk.
pub fn is_pinned(name: &str) -> bool {
    is_mount_point(&pin_path(name))
}

/// Keeps `namespace` under `name`, in place of one that may be there.
pub fn pin(namespace: BorrowedFd<'_>, name: &str) -> Result<(), PinError> {
    let path = pin_path(name);
    let keep = || -> Result<(), Errno> {
        prepare_folder()?;
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(_) => {}
            Err(Errno::EXIST) => {
                remove(&path)?;
                rustix::fs::open(&path, flags, Mode::empty())?;
            }
            Err(errno) => return Err(errno),
        }
        let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        rustix::mount::mount_bind(source, &path).inspect_err(|_| {
            let _ = rustix::fs::unlink(&path);
        })
    };
    keep().map_err(|source| PinError::Pin {
        path: path.clone(),
        source,
    })
}

/// Shows the namespace of a process under `name`, in place of what may be there.
pub fn show(pid: i32, name: &str) -> Result<(), PinError> {
    let path = pin_path(name);
    let show = || -> Result<(), Errno> {
        make_folder()?;
        let target = format!("/proc/{pid}/ns/net");
        match rustix::fs::symlink(&target, &path) {
            Err(Errno::EXIST) => {
                remove(&path)?;
                rustix::fs::symlink(&target, &path)
            }
            made => made,
        }
    };
    show().map_err(|source| PinError::Pin {
        path: path.clone(),
        source,
    })
}

/// Removes the links to namespaces whose process is gone, as a container leaves one that nobody could take down any more.
pub(crate) fn remove_dead_names() -> Result<(), PinError> {
    let names = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    for path in names.map(|entry| entry.path()) {
        let target = std::fs::read_link(&path).unwrap_or_default();
        let is_ours = target.starts_with("/proc") && target.ends_with("ns/net");
        if is_ours && !path.exists() {
            rustix::fs::unlink(&path).map_err(|source| PinError::Unpin {
                path: path.clone(),
                source,
            })?;
        }
    }
    Ok(())
}

/// Takes away what is pinned or shown under `name`, if there is anything.
pub fn unpin(name: &str) -> Result<(), PinError> {
    let path = pin_path(name);
    remove(&path).map_err(|source| PinError::Unpin {
        path: path.clone(),
        source,
    })
}

fn remove(path: &Path) -> Result<(), Errno> {
    if is_mount_point(path) {
        detach(path)?;
    }
    match rustix::fs::unlink(path) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Unmounts all that is mounted on the file.
fn detach(path: &Path) -> Result<(), Errno> {
    loop {
        match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()), // not mounted, or not there
            Err(errno) => return Err(errno),
        }
    }
}

fn make_folder() -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdir(FOLDER, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(FOLDER, flags, Mode::empty())
}

/// Mounts the folder on itself, where it is not, and lets others see what is mounted in it: as ip-netns(8) does it, under
/// the same lock, so that either finds what the other made.
fn prepare_folder() -> Result<(), Errno> {
    let folder = make_folder()?;
    rustix::io::retry_on_intr(|| flock(&folder, FlockOperation::LockExclusive))?;
    match rustix::mount::mount_change(FOLDER, MountPropagationFlags::SHARED) {
        // No mount point yet.
        Err(Errno::INVAL) => {
            rustix::mount::mount_bind_recursive(FOLDER, FOLDER)?;
            rustix::mount::mount_change(FOLDER, MountPropagationFlags::SHARED)
        }
        changed => changed,
    }
}

fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::statx(CWD, path, flags, StatxFlags::empty()).is_ok_and(|found| {
        found
            .stx_attributes
            .contains(rustix::fs::StatxAttributes::MOUNT_ROOT)
    })
}
