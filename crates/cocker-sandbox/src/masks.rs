//! What of /proc and /sys is not for a sandbox, and how it is covered so that it stays covered.
//!
//! ```text
//!  hidden       a mount of ours lies over it: an empty folder that nobody writes to, or for a file our own null device.
//!               Both were made outside, and are put there by descriptor: nothing of the image takes part
//!  read-only    it lies over itself, read-only
//!  writable     of what is read-only, a part lies over itself as it was
//! ```
//!
//! Root inside may take off whatever it or its equals have mounted. So /proc and /sys make one passage through a user
//! namespace below the sandbox's own ([`crate::locked`]), and what comes back has every mask on them locked. And since the
//! kernel lets nobody in a user namespace mount proc or sysfs anew where the instances in sight have something locked over them
//! (`mount_too_revealing` in fs/namespace.c), there is no second way to look, not even from namespaces below.

use crate::locked;
use crate::target::{self, NO_LINKS};
use cocker_sys::mount::MountChange;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use std::fmt;
use std::path::Path;

/// One place that is treated otherwise than what is around it. Where the kernel has no such file there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    pub kind: MaskKind,
    /// Absolute, below /proc or /sys.
    pub place: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskKind {
    Hidden,
    ReadOnly,
    /// Below one that is read-only.
    Writable,
}

/// What others hide too, and why it is nobody's inside: the machine's own insides, and what tells of all that runs on it.
const HIDDEN: [&str; 16] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What belongs to the sandbox's own namespaces of messages and names, and of users below its own.
const OWN: [&str; 16] = [
    "/proc/sys/fs/mqueue",
    "/proc/sys/kernel/auto_msgmni",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/msg_next_id",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/sem_next_id",
    "/proc/sys/kernel/shm_next_id",
    "/proc/sys/kernel/shm_rmid_forced",
    "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shmmni",
    "/proc/sys/user",
];

const OWN_NETWORK: &str = "/proc/sys/net";

/// Whose namespaces the settings in /proc/sys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSettings {
    /// None may be changed.
    None,
    /// Those of messages and names.
    WithoutNetwork,
    /// Those and the network's.
    WithNetwork,
}

/// The masks of a sandbox about which nothing else is said.
pub fn usual_masks(own: OwnSettings) -> Vec<Mask> {
    let all = |kind, places: &[&'static str]| {
        let places = places.iter();
        places
            .map(|&place| Mask { kind, place })
            .collect::<Vec<_>>()
    };
    let own: &[&'static str] = match own {
        OwnSettings::None => &[],
        OwnSettings::WithoutNetwork => &OWN,
        OwnSettings::WithNetwork => &[&[OWN_NETWORK], &OWN[..]].concat(),
    };
    [
        all(MaskKind::Hidden, &HIDDEN),
        all(MaskKind::ReadOnly, &READ_ONLY),
        all(MaskKind::Writable, own),
    ]
    .concat()
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            MaskKind::Hidden => "hide",
            MaskKind::ReadOnly => "read-only",
            MaskKind::Writable => "writable",
        };
        write!(f, "{kind} `{}`", self.place)
    }
}

/// Makes the empty folder that hides others: read-only, and of the host's root, so that nobody inside may change it.
pub(crate) fn empty_folder() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "555"), ("size", "4k"), ("nr_inodes", "2")] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
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

/// What lies over what is hidden.
pub(crate) struct Covers<'a> {
    pub folder: BorrowedFd<'a>,
    /// The sandbox's `/dev`, as it was made outside and is mounted now.
    pub devices: BorrowedFd<'a>,
}

/// Puts the masks on, in a sandbox whose root this process has entered and in which nothing else runs yet. Returns the place
/// that could not be covered with why.
pub(crate) fn put_on(
    root: BorrowedFd<'_>,
    masks: &[Mask],
    covers: &Covers<'_>,
) -> Result<(), (usize, Errno)> {
    // Opened before they are covered: what becomes writable again is taken from there.
    let mut folder_is_used = false;
    let mut originals = Vec::new();
    for (number, mask) in masks.iter().enumerate() {
        let place = match target::open(root, Path::new(mask.place), NO_LINKS) {
            Err(Errno::NOENT) => continue,
            other => other.map_err(|errno| (number, errno))?,
        };
        originals.push((number, mask, place));
    }
    for (number, mask, place) in originals {
        let cover = match mask.kind {
            MaskKind::Hidden => hidden(&place, covers, &mut folder_is_used),
            MaskKind::ReadOnly => itself(&place, true),
            MaskKind::Writable => itself(&place, false),
        };
        // Looked up anew: a part of what is covered now lies on its cover.
        let put = cover.and_then(|cover| {
            let target = target::open(root, Path::new(mask.place), NO_LINKS)?;
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            rustix::mount::move_mount(cover, "", target, "", flags)
        });
        put.map_err(|errno| (number, errno))?;
    }
    Ok(())
}

fn hidden(
    place: &OwnedFd,
    covers: &Covers<'_>,
    folder_is_used: &mut bool,
) -> Result<OwnedFd, Errno> {
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode).is_dir();
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match is_folder {
        false => rustix::mount::open_tree(covers.devices, "null", clone),
        // Only what is attached somewhere can be cloned, so the first one is the folder itself.
        true if !std::mem::replace(folder_is_used, true) => rustix::io::dup(covers.folder),
        true => {
            let flags = clone | OpenTreeFlags::AT_EMPTY_PATH;
            rustix::mount::open_tree(covers.folder, "", flags)
        }
    }
}

fn itself(place: &OwnedFd, read_only: bool) -> Result<OwnedFd, Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = rustix::mount::open_tree(place, "", flags)?;
    if read_only {
        let change = MountChange {
            read_only: true,
            ..MountChange::default()
        };
        cocker_sys::mount::change(clone.as_fd(), change)?;
    }
    Ok(clone)
}

/// Puts locked copies in the places of `mounts`, whatever lies on those included.
pub(crate) fn lock(root: BorrowedFd<'_>, mounts: &[&str]) -> Result<(), Errno> {
    let locked = locked::pass_through(mounts)?;
    for (place, mount) in mounts.iter().zip(locked) {
        // Nothing may be left below that root inside could uncover.
        rustix::mount::unmount(*place, UnmountFlags::DETACH)?;
        let target = target::open(root, Path::new(place), NO_LINKS)?;
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount, "", target, "", flags)?;
    }
    Ok(())
}
