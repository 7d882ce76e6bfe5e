//! Opens `$COCKER_HOME` and refuses one that other users could reach into or exchange.
//!
//! The layers hold set-id programs and device nodes as their images want them, worth nothing only because nobody
//! else can come near them: the 0700 of the home is what keeps them away.

use super::StoreError;
use cocker_sys::fault;
use cocker_sys::namespace::stands_for_a_user;
use rustix::fs::{Dir, Mode, OFlags, fchmod, fstat, fsync, mkdirat, openat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::OsString;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

const GROUP_OR_OTHERS: u32 = 0o077;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
/// Who has no id in our user namespace, as the host's root, shows as this (user_namespaces(7)). Who enters one has opened the
/// home before, and looked at owners then.
const NOBODY: u32 = 65_534;

/// Opens the home, made where it is missing; returns its path, absolute and without links.
pub(super) fn open(given: &Path) -> Result<(PathBuf, OwnedFd), StoreError> {
    let cannot_open = |path: &Path, source| StoreError::OpenFolder {
        path: path.into(),
        source,
    };
    let absolute = std::path::absolute(given).map_err(|source| cannot_open(given, source))?;
    make(&absolute)?;
    let home = absolute
        .canonicalize()
        .map_err(|source| cannot_open(&absolute, source))?;
    refuse_unsafe_way(&absolute)?;
    let folder = rustix::fs::open(
        &home,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| cannot_open(&home, errno.into()))?;
    refuse_foreign_owner(&home, folder.as_fd())?;
    close_to_others(&home, folder.as_fd())?;
    Ok((home, folder))
}

/// Opens the folder `name` of the home, made where it is missing.
pub(super) fn open_inner(
    home: &Path,
    parent: BorrowedFd<'_>,
    name: &str,
) -> Result<OwnedFd, StoreError> {
    let path = home.join(name);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            match fault::step("home.folder", || mkdirat(parent, name, Mode::RWXU)) {
                Ok(()) => tracing::debug!(path = %path.display(), "made a folder of the store"),
                Err(Errno::EXIST) => {}
                Err(errno) => {
                    return Err(StoreError::MakeFolder {
                        path,
                        source: errno.into(),
                    });
                }
            }
            // What is later put into the new folder is of no use if the folder itself does not survive.
            fsync(parent).map_err(|errno| StoreError::Sync {
                path: home.into(),
                source: errno.into(),
            })?;
            openat(parent, name, flags, Mode::empty())
        }
        answer => answer,
    };
    let folder = folder.map_err(|errno| StoreError::OpenFolder {
        path: path.clone(),
        source: errno.into(),
    })?;
    refuse_foreign_owner(&path, folder.as_fd())?;
    // Reading is no danger below a home of 0700, while a descriptor that got out would make writing one.
    let mode = mode(&path, folder.as_fd())?;
    if mode & (GROUP_WRITES | OTHERS_WRITE) != 0 {
        return Err(StoreError::OpenToOthers { path, mode });
    }
    Ok(folder)
}

fn make(home: &Path) -> Result<(), StoreError> {
    if home.is_dir() {
        return Ok(());
    }
    let failed = |path: &Path, source| StoreError::MakeFolder {
        path: path.into(),
        source,
    };
    if let Some(parent) = home.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(|source| failed(parent, source))?;
    }
    match DirBuilder::new().mode(0o700).create(home) {
        Ok(()) => {
            tracing::debug!(home = %home.display(), "made the store's home");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && home.is_dir() => Ok(()),
        Err(source) => Err(failed(home, source)),
    }
}

/// A folder on the way that others may write to lets them put a home of their own in this one's place, or a link to another
/// folder, unless it is sticky; and so does whoever a link on the way belongs to.
fn refuse_unsafe_way(home: &Path) -> Result<(), StoreError> {
    let cannot_open = |path: &Path| {
        let path = path.to_path_buf();
        move |source| StoreError::OpenFolder { path, source }
    };
    let refused = |parent: &Path, found: &Metadata| StoreError::Exchangeable {
        home: home.into(),
        parent: parent.into(),
        owner: found.uid(),
        mode: found.mode() & 0o7777,
    };
    let mut folder = PathBuf::from("/");
    // The last to come stands first.
    let mut rest: Vec<OsString> = names_backwards(home);
    let mut links = 0;
    while let Some(name) = rest.pop() {
        let found = folder.symlink_metadata().map_err(cannot_open(&folder))?;
        if is_exchangeable(&found) {
            return Err(refused(&folder, &found));
        }
        if name == ".." {
            folder.pop();
            continue;
        }
        let next = folder.join(name);
        let found = next.symlink_metadata().map_err(cannot_open(&next))?;
        if !found.is_symlink() {
            folder = next;
            continue;
        }
        if !is_trusted(found.uid()) {
            return Err(refused(&next, &found));
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(cannot_open(&next)(Errno::LOOP.into()));
        }
        let target = next.read_link().map_err(cannot_open(&next))?;
        if target.is_absolute() {
            folder = PathBuf::from("/");
        }
        rest.extend(names_backwards(&target));
    }
    Ok(())
}

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The names that a path consists of, the last one first.
fn names_backwards(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

fn is_trusted(owner: u32) -> bool {
    is_the_hosts_root(owner) || owner == geteuid().as_raw()
}

fn is_the_hosts_root(id: u32) -> bool {
    id == 0 || (id == NOBODY && stands_for_a_user())
}

/// Whether others may put something else in the place of what lies in a folder.
fn is_exchangeable(folder: &Metadata) -> bool {
    let mode = folder.mode();
    let others_write =
        mode & OTHERS_WRITE != 0 || (mode & GROUP_WRITES != 0 && !is_the_hosts_root(folder.gid()));
    !is_trusted(folder.uid()) || (others_write && mode & STICKY == 0)
}

fn refuse_foreign_owner(path: &Path, folder: BorrowedFd<'_>) -> Result<(), StoreError> {
    let stat = fstat(folder).map_err(|errno| StoreError::OpenFolder {
        path: path.into(),
        source: errno.into(),
    })?;
    let expected = geteuid().as_raw();
    if stat.st_uid == expected {
        Ok(())
    } else {
        Err(StoreError::ForeignOwner {
            path: path.into(),
            owner: stat.st_uid,
            expected,
        })
    }
}

/// Refuses a home that others may enter; an empty one is closed to them, since nothing in it can have been seen.
fn close_to_others(home: &Path, folder: BorrowedFd<'_>) -> Result<(), StoreError> {
    if mode(home, folder)? & GROUP_OR_OTHERS == 0 {
        return Ok(());
    }
    let is_empty = is_empty(folder).map_err(|errno| StoreError::List {
        path: home.into(),
        source: errno.into(),
    })?;
    if is_empty {
        tracing::debug!(home = %home.display(), "closing the empty home to others");
        return fchmod(folder, Mode::RWXU).map_err(|errno| StoreError::OpenFolder {
            path: home.into(),
            source: errno.into(),
        });
    }
    // Another cocker may have closed and filled the empty home since its mode was read.
    match mode(home, folder)? {
        mode if mode & GROUP_OR_OTHERS == 0 => Ok(()),
        mode => Err(StoreError::OpenToOthers {
            path: home.into(),
            mode,
        }),
    }
}

fn mode(path: &Path, folder: BorrowedFd<'_>) -> Result<u32, StoreError> {
    let stat = fstat(folder).map_err(|errno| StoreError::OpenFolder {
        path: path.into(),
        source: errno.into(),
    })?;
    Ok(stat.st_mode & 0o7777)
}

pub(super) fn is_empty(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    for entry in Dir::read_from(folder)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
