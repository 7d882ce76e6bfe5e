//! User namespaces that exist to be pointed at: the kernel takes the id map of a mount from one.

use crate::plan::IdRange;
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Makes a user namespace with `range` and returns it; no process stays in it.
pub(crate) fn user_namespace(range: IdRange) -> Result<OwnedFd, Errno> {
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let namespaces = NewNamespaces {
        user: true,
        ..NewNamespaces::default()
    };
    match clone(namespaces, None)? {
        Birth::Child => {
            // Nobody here but to carry the namespace until its parent has a descriptor of it.
            drop(release);
            let _ = rustix::io::read(&hold, &mut [0u8; 1]);
            exit_now(0)
        }
        Birth::Parent { pidfd, pid } => {
            let namespace = write_maps(pid, range).and_then(|()| namespace_of(pid));
            drop(release);
            waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            namespace
        }
    }
}

/// Gives the new user namespace of `pid` its ids (user_namespaces(7)).
pub(crate) fn write_maps(pid: Pid, range: IdRange) -> Result<(), Errno> {
    let map = format!("0 {} {}\n", range.first.0, range.count);
    for name in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, map.as_bytes())?;
    }
    Ok(())
}

fn namespace_of(pid: Pid) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
