//! The socket on which a booted container's supervisor listens.

use crate::container::{CONTROL, Container};
use cocker_sys::fault;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Clients that wait to be accepted by the supervisor.
const BACKLOG: i32 = 1024;

/// The socket `control`; one that a killed supervisor has left makes way. Its path may be longer than a socket's address
/// can be, so it is named through our descriptor of the folder.
pub(crate) fn listen(container: &Container) -> Result<OwnedFd, Errno> {
    remove(container)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let address = address(&container.folder)?;
    fault::step("control.bind", || rustix::net::bind(&socket, &address))?;
    rustix::fs::chmodat(
        &container.folder,
        CONTROL,
        Mode::RUSR | Mode::WUSR,
        AtFlags::empty(),
    )?;
    fault::step("control.listen", || rustix::net::listen(&socket, BACKLOG))?;
    Ok(socket)
}

/// Whether there is a socket, of whoever.
pub(crate) fn is_there(container: &Container) -> bool {
    rustix::fs::statat(&container.folder, CONTROL, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Removes the socket, where there is one.
pub(crate) fn remove(container: &Container) -> Result<(), Errno> {
    let unlink = || rustix::fs::unlinkat(&container.folder, CONTROL, AtFlags::empty());
    match fault::step("control.remove", unlink) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Where the supervisor of the container in `folder` listens.
pub(crate) fn address(folder: &OwnedFd) -> Result<SocketAddrUnix, Errno> {
    use rustix::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}/{CONTROL}", folder.as_fd().as_raw_fd());
    SocketAddrUnix::new(path)
}
