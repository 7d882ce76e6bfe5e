//! Which hierarchies of cgroups this host has, and which controller is in which: found out each time, never remembered.
//!
//! ```text
//!  unified                  hybrid                               legacy
//!  /sys/fs/cgroup  v2       /sys/fs/cgroup/unified  v2           (no v2 mounted: one without a name is opened)
//!                           /sys/fs/cgroup/cpu,…    v1           /sys/fs/cgroup/cpu,…    v1
//! ```
//!
//! A sandbox always has its folder in v2: there it is born, listed, frozen and killed. A folder in a v1 hierarchy it has
//! only where a controller is needed that lives there.

use crate::rootless;
use cocker_sys::namespace::is_below_the_host;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::sync::OnceLock;

/// Where the v2 hierarchy is mounted: alone, or beside v1.
const PLACES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

/// A controller, by its name in v2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controller {
    Cpu,
    Cpuset,
    Memory,
    Pids,
    Io,
    Hugetlb,
    /// In v1 only: in v2 a program says which devices may be used.
    Devices,
}

impl Controller {
    /// What a manager of services limits its services by.
    pub(crate) const OF_SERVICES: [Controller; 5] = [
        Controller::Cpu,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Pids,
        Controller::Io,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
            Controller::Io => "io",
            Controller::Hugetlb => "hugetlb",
            Controller::Devices => "devices",
        }
    }

    fn of_legacy(name: &str) -> Option<Controller> {
        let all = [
            Controller::Cpu,
            Controller::Cpuset,
            Controller::Memory,
            Controller::Pids,
            Controller::Hugetlb,
            Controller::Devices,
        ];
        match name {
            "blkio" => Some(Controller::Io),
            name => all.into_iter().find(|controller| controller.name() == name),
        }
    }
}

/// The generation of the hierarchy that a controller is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    Legacy,
    Unified,
}

/// One v1 hierarchy.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// None in one that others use, or that has only a name.
    pub controllers: Vec<Controller>,
    /// Its root.
    pub folder: OwnedFd,
}

/// The host's hierarchies.
#[derive(Debug)]
pub struct Hierarchies {
    unified: Option<OwnedFd>,
    /// Looked for when something is asked of it first: a listing never does.
    legacy: OnceLock<Vec<Legacy>>,
    is_mounted: bool,
    is_unified_alone: bool,
    controllers: OnceLock<String>,
}

impl Hierarchies {
    pub fn find() -> Hierarchies {
        if is_below_the_host() {
            return Hierarchies::delegated();
        }
        let mounted = mounted();
        let is_mounted = mounted.is_some();
        let is_unified_alone = matches!(mounted, Some((_, 0)));
        Hierarchies {
            unified: mounted
                .map(|(folder, _)| folder)
                .or_else(|| open_without_a_name().ok()),
            legacy: OnceLock::new(),
            is_mounted,
            is_unified_alone,
            controllers: OnceLock::new(),
        }
    }

    /// Who is not the host's root has what was given to it: the folder that this process is in, where that may be written
    /// to (cgroup-v2, "Delegation"); nothing of v1.
    fn delegated() -> Hierarchies {
        let root = mounted().map(|(root, _)| root);
        let folder = rootless::delegated_cgroups().iter().find_map(|own| {
            let folder = super::open_folder(root.as_ref()?.as_fd(), own).ok()?;
            let access = rustix::fs::Access::WRITE_OK;
            let flags = rustix::fs::AtFlags::EACCESS;
            rustix::fs::accessat(&folder, "cgroup.procs", access, flags).ok()?;
            Some(folder)
        });
        // Controllers can be given on only where nobody else lives in it.
        let controllers = folder.as_ref().map(|folder| {
            let members = super::read_file(folder.as_fd(), "cgroup.procs").unwrap_or_default();
            let us = rustix::process::getpid().as_raw_nonzero().to_string();
            let is_ours = members.lines().all(|member| member == us);
            let file = match is_ours {
                true => "cgroup.controllers",
                false => "cgroup.subtree_control",
            };
            super::read_file(folder.as_fd(), file).unwrap_or_default()
        });
        Hierarchies {
            unified: folder,
            legacy: OnceLock::from(Vec::new()),
            is_mounted: true,
            is_unified_alone: true,
            controllers: controllers.map_or_else(OnceLock::new, OnceLock::from),
        }
    }

    /// Whether v2 is mounted, so that somebody may manage it.
    pub(crate) fn is_mounted(&self) -> bool {
        self.is_mounted
    }

    /// Whether v2 is where v1's hierarchies would have theirs, so that there are none.
    pub(super) fn has_unified_alone(&self) -> bool {
        self.is_unified_alone
    }

    /// Whether there is a v2 hierarchy.
    pub fn has_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether a hierarchy has this controller.
    pub fn has(&self, controller: Controller) -> bool {
        self.generation(controller).is_some()
    }

    /// The root of the v2 hierarchy; none on a kernel without it.
    pub(crate) fn unified(&self) -> Option<&OwnedFd> {
        self.unified.as_ref()
    }

    pub(crate) fn all_legacy(&self) -> &[Legacy] {
        self.legacy.get_or_init(|| match self.is_unified_alone {
            true => Vec::new(),
            false => legacy_mounts(),
        })
    }

    /// The v1 hierarchy with this controller.
    pub(crate) fn legacy(&self, controller: Controller) -> Option<&Legacy> {
        let mut all = self.all_legacy().iter();
        all.find(|legacy| legacy.controllers.contains(&controller))
    }

    /// Where `controller` is; none where the host does not have it.
    pub(crate) fn generation(&self, controller: Controller) -> Option<Generation> {
        if self.legacy(controller).is_some() {
            return Some(Generation::Legacy);
        }
        let unified = self.unified.as_ref()?;
        let names = self.controllers.get_or_init(|| {
            super::read_file(unified.as_fd(), "cgroup.controllers").unwrap_or_default()
        });
        let mut names = names.split_whitespace();
        names
            .any(|name| name == controller.name())
            .then_some(Generation::Unified)
    }
}

/// The root of v2 where it is mounted, and which of [`PLACES`] that is.
fn mounted() -> Option<(OwnedFd, usize)> {
    let mut places = PLACES.iter().enumerate();
    places.find_map(|(number, place)| Some((open_if_unified(place)?, number)))
}

fn open_if_unified(place: &str) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(place, flags, Mode::empty()).ok()?;
    let magic = rustix::fs::fstatfs(&folder).ok()?.f_type as u64;
    (magic == CGROUP2).then_some(folder)
}

/// A mount that only this descriptor leads to: the hierarchy is there whether or not somebody has mounted it.
fn open_without_a_name() -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn legacy_mounts() -> Vec<Legacy> {
    let mounts = super::read_at(CWD, "/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter_map(legacy_mount);
    let opened = mounts.filter_map(|(place, controllers)| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(place, flags, Mode::empty()).ok()?;
        Some(Legacy {
            controllers,
            folder,
        })
    });
    opened.collect()
}

/// Where a v1 hierarchy is mounted and what is of use here in it, from a line of /proc/self/mountinfo
/// (proc_pid_mountinfo(5)); none for other mounts.
fn legacy_mount(line: &str) -> Option<(&str, Vec<Controller>)> {
    let (mount, source) = line.split_once(" - cgroup ")?;
    let place = mount.split(' ').nth(4)?;
    let options = source.split(' ').nth(1)?;
    let controllers: Vec<Controller> = options
        .split(',')
        .filter_map(Controller::of_legacy)
        .collect();
    // What is escaped there is no place where anybody mounts a hierarchy.
    (!place.contains('\\')).then_some((place, controllers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_says_which_controllers_are_where() {
        let line =
            |source: &str| format!("35 31 0:32 / /sys/fs/cgroup/x rw,relatime shared:9 - {source}");
        for (source, expected) in [
            ("cgroup cgroup rw,cpu,cpuacct", Some(vec![Controller::Cpu])),
            ("cgroup cgroup rw,blkio", Some(vec![Controller::Io])),
            (
                "cgroup systemd rw,memory,pids",
                Some(vec![Controller::Memory, Controller::Pids]),
            ),
            ("cgroup cgroup rw,xattr,name=systemd", Some(vec![])),
            ("cgroup cgroup rw,perf_event", Some(vec![])),
            ("cgroup2 cgroup2 rw,memory_recursiveprot", None),
            ("tmpfs cpu rw,memory", None),
        ] {
            let line = line(source);
            let expected = expected.map(|it| ("/sys/fs/cgroup/x", it));
            assert_eq!(legacy_mount(&line), expected, "{source}");
        }
        assert_eq!(legacy_mount(""), None);
    }

    #[test]
    fn a_controller_is_found_where_the_kernel_says_it_is() {
        let hierarchies = Hierarchies::find();
        let table = std::fs::read_to_string("/proc/self/cgroup").expect("the kernel has cgroups");
        for name in ["cpu", "cpuset", "memory", "pids"] {
            let is_legacy = table.lines().any(|line| {
                let controllers = line.split(':').nth(1).unwrap_or_default();
                controllers.split(',').any(|it| it == name)
            });
            let controller = Controller::of_legacy(name).expect("one of them");
            let generation = hierarchies.generation(controller);
            assert_eq!(generation == Some(Generation::Legacy), is_legacy, "{name}");
        }
    }
}
