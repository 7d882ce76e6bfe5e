//! A place to attach mounts to for a moment, which nobody else can see.

use cocker_sys::process::in_private_mount_namespace;
use rustix::fd::AsFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags};
use std::path::Path;

/// Runs `work` in a private mount namespace with an empty tmpfs, which covers `place` there, as working folder; both are
/// gone afterwards, whatever was mounted in them included.
///
/// `place` must not be the root: whoever stands below a covered root counts as chrooted, and the kernel then makes no user
/// namespace for it.
pub(crate) fn on_stage<T>(
    place: &Path,
    work: impl FnOnce() -> Result<T, Errno>,
) -> Result<T, Errno> {
    in_private_mount_namespace(|| {
        let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let stage = rustix::mount::fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&stage, "", CWD, place, flags)?;
        rustix::process::fchdir(&stage)?;
        work()
    })
}
