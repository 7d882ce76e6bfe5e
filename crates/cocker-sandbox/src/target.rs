//! Places below the new root, as init-to-be finds or makes them: by `openat2` inside it only, so nothing in an image or a
//! volume leads out.

use crate::plan::{Mount, TargetKind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::Path;

/// Inside the root, and by no link, not even one that stays inside.
pub(crate) const NO_LINKS: ResolveFlags = ResolveFlags::IN_ROOT
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens the place to mount on, made where it is missing, never outside the root.
pub(crate) fn of(root: &OwnedFd, mount: &Mount, source: &OwnedFd) -> Result<OwnedFd, Errno> {
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode).is_dir();
    let kind = match is_folder {
        true => TargetKind::Folder,
        false => TargetKind::File,
    };
    let resolve = match mount.source.follows_links() {
        true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        // Where the sandbox's own mounts go, a link of the image's would decide what they hide: refused.
        false => NO_LINKS,
    };
    let target = match open(root.as_fd(), &mount.target, resolve) {
        Err(Errno::NOENT) => {
            make(root.as_fd(), &mount.target, kind, resolve)?;
            open(root.as_fd(), &mount.target, resolve)?
        }
        other => other?,
    };
    if mount.source.follows_links() && leads_to_the_kernels(root, &mount.target, &target)? {
        return Err(Errno::PERM);
    }
    let found = FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode);
    match (kind, found.is_dir()) {
        // The kernel calls both just invalid.
        (TargetKind::Folder, false) => Err(Errno::NOTDIR),
        (TargetKind::File, true) => Err(Errno::ISDIR),
        _ => Ok(target),
    }
}

/// Whether a place lies among what the kernel shows, or a link of the image's has led among the devices: what were mounted
/// would hide what is there, or what hides something there.
fn leads_to_the_kernels(root: &OwnedFd, path: &Path, place: &OwnedFd) -> Result<bool, Errno> {
    /// linux/magic.h: proc, sysfs, cgroup2, devpts, mqueue.
    const KERNELS: [i64; 5] = [0x9fa0, 0x6265_6572, 0x6367_7270, 0x1cd1, 0x1980_0202];
    if KERNELS.contains(&rustix::fs::fstatfs(place)?.f_type) {
        return Ok(true);
    }
    if path.starts_with("/dev") {
        return Ok(false); // said in so many words
    }
    match open(root.as_fd(), Path::new("/dev"), NO_LINKS) {
        Err(Errno::NOENT) => Ok(false),
        devices => Ok(rustix::fs::fstat(devices?)?.st_dev == rustix::fs::fstat(place)?.st_dev),
    }
}

/// Opens the place for a file that the sandbox may have of its own: `None` where it has, be it a file that is not empty,
/// a link, or anything else. A missing one is made. Nothing is followed, waited for, or read.
pub(crate) fn vacant(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let open = || {
        // A link at the end is opened as such; on the way there is no file of ours behind one.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(root, path, flags, Mode::empty(), NO_LINKS)
    };
    let place = match open() {
        Err(Errno::NOENT) => {
            make(root, path, TargetKind::File, NO_LINKS)?;
            open()?
        }
        other => other?,
    };
    let found = rustix::fs::fstat(&place)?;
    let is_empty_file = FileType::from_raw_mode(found.st_mode).is_file() && found.st_size == 0;
    Ok(is_empty_file.then_some(place))
}

/// Opens `path` below the root, as a place only.
pub(crate) fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Makes the missing parts of `path` one by one, each inside the folder that was just opened.
pub(crate) fn make(
    root: BorrowedFd<'_>,
    path: &Path,
    kind: TargetKind,
    resolve: ResolveFlags,
) -> Result<(), Errno> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let parent = relative.parent().unwrap_or(Path::new(""));
    let name = relative.file_name().ok_or(Errno::INVAL)?;
    let folder = if parent.as_os_str().is_empty() {
        open(root, Path::new("/"), resolve)?
    } else {
        match open(root, parent, resolve) {
            Err(Errno::NOENT) => {
                make(root, parent, TargetKind::Folder, resolve)?;
                open(root, parent, resolve)?
            }
            other => other?,
        }
    };
    let made = match kind {
        TargetKind::Folder => rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)),
        TargetKind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&folder, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()), // a link that leads nowhere; opening it says so
        other => other,
    }
}
