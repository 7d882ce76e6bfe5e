//! Mounts whose restrictions root inside cannot lift.
//!
//! Root of a sandbox may remount what is mounted there, and so turn a read-only volume writable. The kernel takes that
//! right away where a mount came from a mount namespace of another, more privileged user namespace: then read-only, nodev
//! and their kind are *locked* (mount_namespaces(7), "Restrictions on mount namespaces"), and so is whatever is mounted on
//! it. So every volume makes that passage once before it is handed inside, and /proc and /sys make it there:
//!
//! ```text
//!  private mount namespace (host root)       namespaces of a short-lived child
//!    volume attached, restricted ──copied──▶ the same, locked ──cloned──▶ descriptor ──socket──▶ back to us
//! ```
//!
//! A lock stays with every further clone of the mount.

use crate::stage::on_stage;
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
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

/// The child that makes the passage. Dropping this waits for its end, which may come a little later than what it hands out.
pub(crate) struct Passage(OwnedFd);

impl Drop for Passage {
    fn drop(&mut self) {
        let _ = waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED);
    }
}

/// Gives back clones of what is mounted at `places` below the working folder, locked. The child has no identity in its user
/// namespace and needs none: it opens what lies before it and hands it out.
pub(crate) fn pass_through(places: &[impl AsRef<Path>]) -> Result<(Vec<OwnedFd>, Passage), Errno> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let namespaces = NewNamespaces {
        user: true,
        mount: true,
        ..NewNamespaces::default()
    };
    match clone(namespaces, None)? {
        Birth::Child => {
            drop(ours);
            let mut places = places.iter();
            let sent = places.try_for_each(|place| hand_out(&theirs, place.as_ref()));
            exit_now(sent.is_err().into())
        }
        Birth::Parent { pidfd, .. } => {
            drop(theirs);
            let passage = Passage(pidfd);
            let locked = places.iter().map(|_| take_back(&ours));
            Ok((locked.collect::<Result<_, _>>()?, passage))
        }
    }
}

fn hand_out(socket: &OwnedFd, place: &Path) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = rustix::mount::open_tree(CWD, place, flags)?;
    send(socket, b"m", &[mount.as_fd()])
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

/// Receives one descriptor; an end of the socket is `EPIPE`.
fn take_back(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut messages = ancillary.drain();
    match messages.next() {
        Some(RecvAncillaryMessage::ScmRights(mut descriptors)) => {
            descriptors.next().ok_or(Errno::PIPE)
        }
        _ => Err(Errno::PIPE),
    }
}
