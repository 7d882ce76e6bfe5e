//! Changing the attributes of mounts: id maps, read-only, propagation (mount_setattr(2), Linux 5.12).

use crate::process::checked;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// What to change of a mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountChange<'a> {
    /// Shift ids as this user namespace maps them. Only once in a mount's life, and only while it is detached.
    pub id_map: Option<BorrowedFd<'a>>,
    pub read_only: bool,
    pub no_suid: bool,
    pub no_dev: bool,
    pub no_exec: bool,
    /// Neither send nor receive mount events.
    pub private: bool,
    /// The mounts below as well.
    pub recursive: bool,
}

/// The argument of mount_setattr(2).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes the mount whose root `mount` is open on.
///
/// # Errors
/// `EINVAL` where the file system cannot carry an id map, `ENOSYS` before Linux 5.12.
pub fn change(mount: BorrowedFd<'_>, change: MountChange<'_>) -> Result<(), Errno> {
    let chosen = [
        (change.read_only, libc::MOUNT_ATTR_RDONLY),
        (change.no_suid, libc::MOUNT_ATTR_NOSUID),
        (change.no_dev, libc::MOUNT_ATTR_NODEV),
        (change.no_exec, libc::MOUNT_ATTR_NOEXEC),
        (change.id_map.is_some(), libc::MOUNT_ATTR_IDMAP),
    ];
    let set = chosen
        .iter()
        .filter(|(wanted, _)| *wanted)
        .fold(0, |bits, (_, bit)| bits | bit);
    let attributes = MountAttributes {
        set,
        clear: 0,
        propagation: if change.private { libc::MS_PRIVATE } else { 0 },
        user_namespace: change.id_map.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let recursive = if change.recursive {
        libc::AT_RECURSIVE
    } else {
        0
    };
    // SAFETY: the empty path ends with NUL, the struct outlives the call and its size is given with it.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    checked(answer)
}
