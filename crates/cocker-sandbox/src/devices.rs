//! `/dev`, made outside as one small file system that has no name yet: device nodes can only be made by the host's root,
//! and made here they can be nothing else than what they are called, whatever the image holds.

use crate::cgroup::{DeviceKind, DeviceRule, DeviceUse};
use crate::failure::SandboxError;
use crate::stage::on_stage;
use cocker_sys::mount::MountChange;
use cocker_sys::namespace::is_below_the_host;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, major, makedev, minor};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use std::path::{Path, PathBuf};

/// Character devices: name, major, minor (Documentation/admin-guide/devices.txt).
pub(crate) const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// (Not `core`, which elsewhere leads to /proc/kcore: that is hidden.)
const LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

const FOLDERS: [&str; 3] = ["pts", "shm", "mqueue"];

/// One node more, of a device of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Below `/dev`, without `..`.
    pub place: PathBuf,
    pub rule: DeviceRule,
    /// Of 0o777.
    pub mode: u32,
}

impl DeviceNode {
    /// A node of the device that `found` is one of; `None` where that is no device.
    pub fn like(found: &Stat, place: PathBuf, usage: DeviceUse) -> Option<DeviceNode> {
        let kind = match FileType::from_raw_mode(found.st_mode) {
            FileType::CharacterDevice => DeviceKind::Character,
            FileType::BlockDevice => DeviceKind::Block,
            _ => return None,
        };
        Some(DeviceNode {
            place,
            rule: DeviceRule {
                kind,
                major: major(found.st_rdev),
                minor: Some(minor(found.st_rdev)),
                usage,
            },
            mode: found.st_mode & 0o777,
        })
    }
}

/// Makes the file system; everything in it belongs to the ids this thread acts as.
pub(crate) fn make(nodes: &[DeviceNode]) -> Result<OwnedFd, SandboxError> {
    let failed = |name| move |source| SandboxError::MakeDevice { name, source };
    // Modes are said in full below; the user's umask has no part in them.
    let umask = rustix::process::umask(Mode::empty());
    let devices = file_system().map_err(failed(".")).and_then(|devices| {
        for name in FOLDERS {
            rustix::fs::mkdirat(&devices, name, Mode::from_raw_mode(0o755))
                .map_err(failed(name))?;
        }
        let are_ours = !is_below_the_host();
        for (name, major, minor) in NODES {
            match are_ours {
                true => make_node(devices.as_fd(), name, major, minor),
                false => make_place(devices.as_fd(), name),
            }
            .map_err(failed(name))?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlinkat(target, &devices, name).map_err(failed(name))?;
        }
        for node in nodes {
            make_given(devices.as_fd(), node).map_err(|source| SandboxError::MakeNode {
                place: node.place.clone(),
                source,
            })?;
        }
        make_place(devices.as_fd(), "console").map_err(failed("console"))?;
        match are_ours {
            true => Ok(devices),
            false => with_the_hosts_nodes(&devices).map_err(failed(".")),
        }
    });
    rustix::process::umask(umask);
    devices
}

fn file_system() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "mode", "755")?;
    // Room for links and small files of device managers, not for data.
    rustix::mount::fsconfig_set_string(context.as_fd(), "size", "1m")?;
    rustix::mount::fsconfig_set_string(context.as_fd(), "nr_inodes", "1024")?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}

fn make_node(devices: BorrowedFd<'_>, name: &str, major: u32, minor: u32) -> Result<(), Errno> {
    rustix::fs::mknodat(
        devices,
        name,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(major, minor),
    )
}

/// With the folders that it lies in. The file system is ours alone, so nothing in it leads elsewhere.
fn make_given(devices: BorrowedFd<'_>, node: &DeviceNode) -> Result<(), Errno> {
    let DeviceNode { place, rule, mode } = node;
    let folders = place
        .ancestors()
        .skip(1)
        .filter(|it| !it.as_os_str().is_empty());
    let folders: Vec<&Path> = folders.collect();
    for folder in folders.into_iter().rev() {
        match rustix::fs::mkdirat(devices, folder, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            other => other?,
        }
    }
    let kind = match rule.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let number = makedev(rule.major, rule.minor.unwrap_or(0));
    rustix::fs::mknodat(devices, place, kind, Mode::from_raw_mode(*mode), number)
}

/// An empty file on which something will be mounted.
fn make_place(devices: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(devices, name, flags, Mode::from_raw_mode(0o600)).map(drop)
}

/// Who is root of some ids only can make no nodes, and mounts those of the host in their places.
fn with_the_hosts_nodes(devices: &OwnedFd) -> Result<OwnedFd, Errno> {
    let cloning = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let attach = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    let of_the_host = |(name, ..): &(&str, u32, u32)| {
        let flags = cloning | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        rustix::mount::open_tree(CWD, format!("/dev/{name}"), flags)
    };
    let nodes = NODES.iter().map(of_the_host);
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    on_stage(Path::new("/dev"), || {
        rustix::fs::mkdir("dev", Mode::RWXU)?;
        rustix::mount::move_mount(devices, "", CWD, "dev", attach)?;
        for ((name, ..), node) in NODES.iter().zip(&nodes) {
            rustix::mount::move_mount(node, "", CWD, format!("dev/{name}"), attach)?;
        }
        rustix::mount::open_tree(CWD, "dev", cloning | OpenTreeFlags::AT_RECURSIVE)
    })
}

/// Makes the view of sysfs that shows this thread's network namespace. Who does not own that namespace gets the host's view.
pub(crate) fn sysfs() -> Result<OwnedFd, Errno> {
    match new_sysfs() {
        Err(Errno::PERM) if is_below_the_host() => the_hosts_sysfs(),
        other => other,
    }
}

/// With all that is mounted below it: who did not mount that may not look under it.
fn the_hosts_sysfs() -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, "/sys", flags)?;
    let change = MountChange {
        read_only: true,
        no_suid: true,
        no_dev: true,
        no_exec: true,
        private: true,
        recursive: true,
        ..MountChange::default()
    };
    cocker_sys::mount::change(tree.as_fd(), change)?;
    Ok(tree)
}

fn new_sysfs() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )
}
