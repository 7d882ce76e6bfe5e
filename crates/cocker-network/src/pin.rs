//! Network namespaces by name, where ip-netns(8) looks for them.
//!
//! ```text
//! /run/netns/             mounted on itself, so that unmounting reaches other mount namespaces too
//! ├── nns098F6BCD46A1     pinned: a file with the namespace mounted on it; it lasts without any process. What the file says
//! │                       below that mount is whose it is: the path of a store
//! └── nns1E2A90F117C3     shown: a link to /proc/<pid>/ns/net; it ends with its processes
//! ```
//!
//! Mounting costs little and unmounting costs the kernel some ten milliseconds, so what need not outlast its
//! processes is shown only. Nothing here or elsewhere decides by the pid in such a link.

use cocker_sys::fault;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags};
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

/// Keeps `namespace` under `name` for `store`, the path of a `$COCKER_HOME`; in place of one that may be there.
pub fn pin(namespace: BorrowedFd<'_>, name: &str, store: &str) -> Result<(), PinError> {
    let path = pin_path(name);
    let keep = || -> Result<(), Errno> {
        prepare_folder()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let make = || rustix::fs::open(&path, flags, Mode::empty());
        let file = match fault::step("pin.file", make) {
            Err(Errno::EXIST) => {
                remove(&path)?;
                rustix::fs::open(&path, flags, Mode::empty())?
            }
            made => made?,
        };
        rustix::io::write(&file, format!("{store}\n").as_bytes())?;
        let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        let mount = || rustix::mount::mount_bind(source, &path);
        fault::step("pin.mount", mount).inspect_err(|_| {
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
        match fault::step("pin.show", || rustix::fs::symlink(&target, &path)) {
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

/// What bears a name that cocker gives to network namespaces, of whatever store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    pub name: String,
    pub is: PinnedFor,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinnedFor {
    /// A link to the namespace of a process, which is there or not.
    Process,
    /// A namespace, kept for this store where that is known.
    Store(Option<String>),
    /// The file for one that is not kept any more; for which store, where that is known.
    Unpinned(Option<String>),
}

/// What there is in the folder of names, as far as cocker gives such names: `nns` and twelve digits.
pub(crate) fn seen() -> Vec<SeenName> {
    let is_ours = |name: &String| {
        let digits = name.strip_prefix("nns").unwrap_or_default();
        digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    // A copy of the folder without what is mounted in it: there the files can be read.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let below = rustix::mount::open_tree(CWD, FOLDER, flags).ok();
    let store = |name: &str| {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(below.as_ref()?, name, flags, Mode::empty()).ok()?;
        let mut text = [0; LONGEST_STORE];
        let length = rustix::io::read(&file, &mut text).ok()?;
        let text = String::from_utf8_lossy(&text[..length]);
        text.strip_suffix('\n').map(String::from)
    };
    let entries = std::fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(is_ours).collect();
    names.sort();
    let seen = names.into_iter().map(|name| {
        let path = pin_path(&name);
        let is = match std::fs::read_link(&path) {
            Ok(_) => PinnedFor::Process,
            Err(_) if is_mount_point(&path) => PinnedFor::Store(store(&name)),
            Err(_) => PinnedFor::Unpinned(store(&name)),
        };
        SeenName { name, is }
    });
    seen.collect()
}

/// Of a path, in bytes (`PATH_MAX`).
const LONGEST_STORE: usize = 4096;

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
    match fault::step("pin.unlink", || rustix::fs::unlink(path)) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Unmounts all that is mounted on the file.
fn detach(path: &Path) -> Result<(), Errno> {
    loop {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        match fault::step("pin.unmount", || rustix::mount::unmount(path, flags)) {
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
    cocker_sys::lock::flock(&folder, FlockOperation::LockExclusive)?;
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
