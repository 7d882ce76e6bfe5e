//! What of /proc and /sys is not for a sandbox, and how it is covered so that it stays covered.
//!
//! ```text
//!  hidden       a mount of ours lies over it: an empty folder that nobody writes to, or for a file our own null device.
//!               Both were made outside, and are put there by descriptor: nothing of the image takes part
//!  read-only    it lies over itself, read-only
//!  writable     of what is read-only, a part lies over itself as it was
//! ```
//!
//! Root inside may take off whatever it or its equals have mounted. So proc and sysfs get their masks on a small stage, make one
//! passage from there through a user namespace below the sandbox's own ([`crate::locked`]), and what comes back, with every
//! mask on it locked, is what is mounted. The stage goes with all on it. And since the
//! kernel lets nobody in a user namespace mount proc or sysfs anew where the instances in sight have something locked over them
//! (`mount_too_revealing` in fs/namespace.c), there is no second way to look, not even from namespaces below.

use crate::locked;
use crate::target::{self, NO_LINKS};
use cocker_sys::errand::Errand;
use cocker_sys::mount::MountChange;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode};
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

/// What a sandbox may set of its own. Settings of messages and shared memory are its own too, but are not among them: their
/// places are other ones to whoever has made an ipc namespace, and a mount on such a place cannot be reached from there,
/// which programs that mount everything anew do not get over.
const OWN: &str = "/proc/sys/user";
const OWN_NETWORK: &str = "/proc/sys/net";

/// Whose namespaces the settings in /proc/sys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnSettings {
    /// None may be changed.
    None,
    /// Those of user namespaces below.
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
        OwnSettings::WithoutNetwork => &[OWN],
        OwnSettings::WithNetwork => &[OWN_NETWORK, OWN],
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

/// What is on a stage: where proc and sysfs get their masks, and the folder that hides others.
const ON_STAGE: [&str; 3] = [PROC, SYSFS, NOTHING];
const PROC: &str = "proc";
const SYSFS: &str = "sys";
const NOTHING: &str = "nothing";

/// Makes the stage: read-only, and of the host's root, so that nobody inside may change what hides others.
pub(crate) fn stage() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("mode", "555"), ("size", "4k"), ("nr_inodes", "4")] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let stage = rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    let folder = Mode::from_raw_mode(0o555);
    for name in ON_STAGE {
        rustix::fs::mkdirat(&stage, name, folder)?;
        // The user's umask has no part in it.
        rustix::fs::chmodat(&stage, name, folder, AtFlags::empty())?;
    }
    let change = MountChange {
        read_only: true,
        ..MountChange::default()
    };
    cocker_sys::mount::change(stage.as_fd(), change)?;
    Ok(stage)
}

/// What is to be masked, and by what.
pub(crate) struct Originals<'a> {
    pub proc: BorrowedFd<'a>,
    pub sysfs: BorrowedFd<'a>,
    pub stage: BorrowedFd<'a>,
    /// The sandbox's `/dev`, as it was made outside and is mounted now.
    pub devices: BorrowedFd<'a>,
}

/// Proc and sysfs with their masks on, and whoever has to be waited for.
pub(crate) struct Masked {
    pub proc: OwnedFd,
    pub sysfs: OwnedFd,
    pub passage: Option<Errand>,
}

/// What could not be done: a mask by its number, or something else.
pub(crate) struct Failed {
    pub mask: Option<usize>,
    pub errno: Errno,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed { mask: None, errno }
    }
}

/// Puts the masks on, in a sandbox whose root this process has entered and in which nothing else runs yet; with `is_locked`
/// so that nobody inside takes them off. `place` is a folder below that root, and its path; it is covered meanwhile.
pub(crate) fn put_on(
    originals: &Originals<'_>,
    masks: &[Mask],
    place: (BorrowedFd<'_>, &Path),
    is_locked: bool,
) -> Result<Masked, Failed> {
    let stage = originals.stage;
    attach(stage, place.0)?;
    for (name, tree) in [(PROC, originals.proc), (SYSFS, originals.sysfs)] {
        attach(tree, open(stage, Path::new(name))?.as_fd())?;
    }
    cover(originals, masks)?;
    rustix::process::fchdir(stage)?;
    let (mut trees, passage) = match is_locked {
        true => {
            let (trees, passage) = locked::pass_through(&[PROC, SYSFS])?;
            (trees, Some(passage))
        }
        false => {
            let flags = CLONE | OpenTreeFlags::AT_RECURSIVE;
            let clone = |name| rustix::mount::open_tree(stage, name, flags);
            (vec![clone(PROC)?, clone(SYSFS)?], None)
        }
    };
    rustix::process::chdir("/")?;
    // Nothing may be left below that root inside could uncover.
    rustix::mount::unmount(place.1, UnmountFlags::DETACH)?;
    match (trees.pop(), trees.pop()) {
        (Some(sysfs), Some(proc)) => Ok(Masked {
            proc,
            sysfs,
            passage,
        }),
        _ => Err(Errno::PIPE.into()),
    }
}

const CLONE: OpenTreeFlags = OpenTreeFlags::OPEN_TREE_CLONE.union(OpenTreeFlags::OPEN_TREE_CLOEXEC);

fn cover(originals: &Originals<'_>, masks: &[Mask]) -> Result<(), Failed> {
    let at = |number| {
        move |errno| Failed {
            mask: Some(number),
            errno,
        }
    };
    let stage = originals.stage;
    // All opened before any is covered: what becomes writable again is taken from there.
    let mut places = Vec::with_capacity(masks.len());
    for (number, mask) in masks.iter().enumerate() {
        let below = mask.place.strip_prefix('/').unwrap_or(mask.place);
        match open(stage, Path::new(below)) {
            Err(Errno::NOENT) => {}
            opened => places.push((number, mask, below, opened.map_err(at(number))?)),
        }
    }
    for (number, mask, below, place) in places {
        let put = || match mask.kind {
            MaskKind::Hidden => attach(hider(&place, originals)?.as_fd(), place.as_fd()),
            MaskKind::ReadOnly => attach(itself(&place, true)?.as_fd(), place.as_fd()),
            // Its place lies on what was covered meanwhile.
            MaskKind::Writable => {
                let now = open(stage, Path::new(below))?;
                attach(itself(&place, false)?.as_fd(), now.as_fd())
            }
        };
        put().map_err(at(number))?;
    }
    Ok(())
}

fn open(stage: BorrowedFd<'_>, place: &Path) -> Result<OwnedFd, Errno> {
    target::open(stage, place, NO_LINKS)
}

fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", place, "", flags)
}

fn hider(place: &OwnedFd, originals: &Originals<'_>) -> Result<OwnedFd, Errno> {
    let is_folder = FileType::from_raw_mode(rustix::fs::fstat(place)?.st_mode).is_dir();
    match is_folder {
        true => rustix::mount::open_tree(originals.stage, NOTHING, CLONE),
        false => rustix::mount::open_tree(originals.devices, "null", CLONE),
    }
}

fn itself(place: &OwnedFd, read_only: bool) -> Result<OwnedFd, Errno> {
    let clone = rustix::mount::open_tree(place, "", CLONE | OpenTreeFlags::AT_EMPTY_PATH)?;
    if read_only {
        let change = MountChange {
            read_only: true,
            ..MountChange::default()
        };
        cocker_sys::mount::change(clone.as_fd(), change)?;
    }
    Ok(clone)
}
