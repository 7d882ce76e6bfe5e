//! Mounts whose restrictions root inside cannot lift.
//!
//! Root of a sandbox may remount what is mounted there, and so turn a read-only volume writable. The kernel takes that
//! right away where a mount came from a mount namespace of another, more privileged user namespace: then read-only, nodev
//! and their kind are *locked* (mount_namespaces(7), "Restrictions on mount namespaces"), and so is whatever is mounted on
//! it. So every volume makes that passage once before it is handed inside, and /proc and /sys make it there:
//!
//! ```text
//!  private mount namespace (host root)       namespaces of a short-lived child
//!    volume attached, restricted ──copied──▶ the same, locked ──cloned──▶ a descriptor that both have
//! ```
//!
//! A lock stays with every further clone of the mount.

use crate::stage::on_stage;
use cocker_sys::errand::{self, Descriptors, Errand};
use cocker_sys::process::NewNamespaces;
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::mem::MaybeUninit;
use std::path::Path;

/// Gives back the detached mounts in their order, with the restrictions that they have locked. `place` is any folder; it is
/// covered meanwhile, where nobody sees it.
pub(crate) fn lock(mounts: &[OwnedFd], place: &Path) -> Result<Vec<OwnedFd>, Errno> {
    on_stage(place, || {
        let names: Vec<String> = (0..mounts.len()).map(|number| number.to_string()).collect();
        for (name, mount) in names.iter().zip(mounts) {
            attach(mount, name)?;
        }
        let (locked, _passage) = pass_through(&names)?;
        Ok(locked)
    })
}

fn attach(mount: &OwnedFd, name: &str) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(mount)?.st_mode);
    if kind.is_dir() {
        rustix::fs::mkdir(name, Mode::RWXU)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(name, flags, Mode::RUSR)?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, name, flags)
}

/// Gives back clones of what is mounted at `places` below the working folder, locked, and the child that made the passage. It
/// has no identity in its user namespace and needs none: it opens what lies before it, with descriptors that are ours too.
pub(crate) fn pass_through(places: &[impl AsRef<Path>]) -> Result<(Vec<OwnedFd>, Errand), Errno> {
    let namespaces = NewNamespaces {
        user: true,
        mount: true,
        ..NewNamespaces::default()
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let take = |place: &_| rustix::mount::open_tree(CWD, AsRef::<Path>::as_ref(place), flags);
    let take_all = || places.iter().map(take).collect::<Result<Vec<_>, _>>();
    let (taken, passage) = errand::run(namespaces, Descriptors::Shared, take_all)?;
    Ok((taken.ok_or(Errno::CHILD)??, passage))
}

/// Sends a message with at most two descriptors, which are lent.
pub(crate) fn send(
    socket: &OwnedFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    let parts = [std::io::IoSlice::new(message)];
    rustix::net::sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}
