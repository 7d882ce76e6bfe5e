//! Everything that the host's root opens before any process is born: descriptors without names, so that whatever happens
//! next, closing them undoes them.

use crate::cgroup::{Asking, Cgroup, OpenScope};
use crate::devices::DeviceNode;
use crate::failure::{SandboxError, file_system_name, or_too_old};
use crate::namespaces::Namespaces;
use crate::plan::{Access, BindIds, HostId, IdRange, Mount, Plan, Source, Subtree};
use crate::resident::seal;
use crate::{devices, locked, masks, overlay};
use cocker_sys::credentials::ActingAs;
use cocker_sys::errand::{self, Descriptors};
use cocker_sys::fault;
use cocker_sys::mount::MountChange;
use cocker_sys::namespace::is_below_the_host;
use cocker_sys::process::{NewNamespaces, in_network_namespace};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::path::Path;

/// What [`crate::spawn()`] needs. Dropping it removes the cgroup folder again, unless it was spawned.
pub struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) namespaces: Namespaces,
    pub(crate) cgroup: CgroupHold,
    pub(crate) root: OwnedFd,
    /// For each mount of the plan the descriptor of what was made outside.
    pub(crate) sources: Vec<Option<OwnedFd>>,
    /// Where /proc and /sys get their masks, if they get any.
    pub(crate) stage: Option<OwnedFd>,
    /// The resident init, sealed.
    pub(crate) init: OwnedFd,
}

impl Prepared {
    /// The network namespace that the sandbox will be born in; none where that is the host's.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        self.namespaces.network()
    }
}

/// A cgroup folder that goes away with its holder unless a sandbox lives in it.
pub(crate) struct CgroupHold {
    pub(crate) cgroup: Cgroup,
    pub(crate) folder: Option<OwnedFd>,
    /// What that lies in where systemd manages v2; needed until there is a supervisor.
    pub(crate) scope: Option<OpenScope>,
    /// Files into which a process writes `0` to be born in the folders of v1.
    pub(crate) doors: Vec<OwnedFd>,
    pub(crate) is_used: bool,
}

impl Drop for CgroupHold {
    fn drop(&mut self) {
        if !self.is_used
            && let Err(errno) = self.cgroup.remove()
        {
            tracing::debug!("cannot remove the cgroup folder again: {errno}");
        }
    }
}

/// Opens everything that `plan` names outside the sandbox. `init` is the resident init as an ELF file.
///
/// The caller must be root, of the host or of an ordinary user's own ids, with a single thread.
pub fn prepare(plan: Plan, init: &[u8]) -> Result<Prepared, SandboxError> {
    // Answered while all else is prepared.
    let cgroup = Cgroup::at(&plan.cgroup);
    let asking = cgroup.ask()?;
    let failed = |source| SandboxError::MakeNamespaces { source };
    fault::before("prepare.namespaces").map_err(failed)?;
    let namespaces = Namespaces::of(&plan.network, plan.ids)?;
    fault::after("prepare.namespaces");
    tracing::debug!("namespaces ready");

    let root = overlay::stack(&plan.root, plan.ids, id_map(&namespaces, plan.ids))?;
    tracing::debug!("{} layers stacked", plan.root.lowers.len());

    let sources = plan
        .mounts
        .iter()
        .map(|mount| source(mount, &plan, &namespaces))
        .collect::<Result<Vec<_>, _>>()?;
    let failed = |source| SandboxError::LockVolumes { source };
    fault::before("prepare.mounts").map_err(failed)?;
    let sources = lock_volumes(&plan, sources)?;
    fault::after("prepare.mounts");
    let stage = match plan.confinement.masks.is_empty() {
        true => None,
        false => Some(masks::stage().map_err(|source| SandboxError::MakeMask { source })?),
    };
    let init = fault::step("prepare.init", || seal("cockerinit", init))
        .map_err(|source| SandboxError::LoadResident { source })?;
    let cgroup = make_cgroup(&plan, cgroup, asking)?;
    tracing::debug!("mounts, init and cgroup prepared");

    Ok(Prepared {
        plan,
        namespaces,
        cgroup,
        root,
        sources,
        stage,
        init,
    })
}

fn make_cgroup(
    plan: &Plan,
    cgroup: Cgroup,
    asking: Option<Asking>,
) -> Result<CgroupHold, SandboxError> {
    let scope = match asking {
        Some(asking) => cgroup.answer(asking)?,
        None => None,
    };
    let made = fault::step("cgroup.make", || cgroup.make());
    let folder = made.map_err(|source| SandboxError::MakeCgroup {
        folder: plan.cgroup.clone(),
        source,
    })?;
    // From here on whatever fails takes it away again.
    let mut hold = CgroupHold {
        cgroup,
        folder,
        scope,
        doors: Vec::new(),
        is_used: false,
    };
    hold.doors = hold.cgroup.limit_new(&plan.limits)?;
    if plan.ids.is_none() {
        let doors = hold.cgroup.leave_roots();
        hold.doors
            .extend(doors.map_err(|source| SandboxError::MakeCgroup {
                folder: plan.cgroup.clone(),
                source,
            })?);
    }
    if plan.subtree == Subtree::Delegated {
        let root = plan.ids.map_or(HostId(0), |ids| ids.first);
        hold.cgroup.delegate(root)?;
    }
    if let Some(rules) = &plan.devices {
        let folder = hold.folder.as_ref().map(AsFd::as_fd);
        let list = || hold.cgroup.list_devices(folder, rules);
        match fault::step("cgroup.devices", list) {
            Ok(door) => hold.doors.extend(door),
            // Ids of its own keep a sandbox from every node that is not its own already.
            // An ordinary user has no right to nodes, whatever a list says.
            Err(_) if is_below_the_host() => {}
            Err(errno) if plan.ids.is_some() => {
                tracing::warn!("this kernel keeps no list of devices: {errno}");
            }
            Err(source) => return Err(SandboxError::ListDevices { source }),
        }
    }
    Ok(hold)
}

/// What maps the ids of the host's files to those of the sandbox; none where they are the same.
fn id_map(namespaces: &Namespaces, own: Option<IdRange>) -> Option<BorrowedFd<'_>> {
    let is_needed = own.is_some_and(|range| !range.is_unchanged());
    namespaces.user().filter(|_| is_needed)
}

/// Makes what must come from outside; `None` for what is made inside.
fn source(
    mount: &Mount,
    plan: &Plan,
    namespaces: &Namespaces,
) -> Result<Option<OwnedFd>, SandboxError> {
    match &mount.source {
        Source::Sysfs => make_sysfs(namespaces.network())
            .map(Some)
            .map_err(|source| SandboxError::MakeSysfs { source }),
        Source::Devices => make_devices(plan.ids, &plan.device_nodes).map(Some),
        Source::Bind {
            host,
            ids,
            no_set_id,
        } => {
            let id_map = id_map(namespaces, plan.ids).filter(|_| *ids == BindIds::Mapped);
            clone_volume(host, mount.access, *no_set_id, id_map).map(Some)
        }
        Source::Supplied { file } => {
            clone_supplied(file, mount.access, id_map(namespaces, plan.ids)).map(Some)
        }
        Source::Proc
        | Source::DevPts
        | Source::SharedMemory
        | Source::MessageQueues
        | Source::Cgroup => Ok(None),
    }
}

/// Root inside may remount what it finds, but not lift what is locked. The host's own root, as in a sandbox without ids
/// of its own, cannot be kept from anything.
fn lock_volumes(
    plan: &Plan,
    mut sources: Vec<Option<OwnedFd>>,
) -> Result<Vec<Option<OwnedFd>>, SandboxError> {
    let is_volume = |mount: &Mount| matches!(mount.source, Source::Bind { .. });
    let places: Vec<usize> = (0..plan.mounts.len())
        .filter(|&place| is_volume(&plan.mounts[place]))
        .collect();
    if plan.ids.is_none() || places.is_empty() {
        return Ok(sources);
    }
    let volumes: Vec<OwnedFd> = places
        .iter()
        .filter_map(|&place| sources[place].take())
        .collect();
    let locked = locked::lock(&volumes, &plan.root.base)
        .map_err(|source| SandboxError::LockVolumes { source })?;
    for (place, volume) in places.into_iter().zip(locked) {
        sources[place] = Some(volume);
    }
    Ok(sources)
}

/// A sysfs shows the network of whoever makes it, so we go and stand in the sandbox's for that.
fn make_sysfs(network: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Errno> {
    match network {
        // The host's network is not an ordinary user's, who could not come back to it.
        Some(network) if is_below_the_host() => made_by_a_child(network),
        Some(network) => in_network_namespace(network, devices::sysfs)?,
        None => devices::sysfs(),
    }
}

/// A child goes there, whose descriptors are ours.
fn made_by_a_child(network: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let make = || {
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
        devices::sysfs()
    };
    let (made, _child) = errand::run(NewNamespaces::default(), Descriptors::Shared, make)?;
    made.ok_or(Errno::CHILD)?
}

fn make_devices(ids: Option<IdRange>, nodes: &[DeviceNode]) -> Result<OwnedFd, SandboxError> {
    // The nodes shall belong to the sandbox's root, so they are made by it, in name.
    let _acting = ids
        .map(|range| ActingAs::new(range.first.0, range.first.0))
        .transpose()
        .map_err(|source| SandboxError::MakeDevice { name: ".", source })?;
    devices::make(nodes)
}

/// Opened once: what the path leads to afterwards has no part in it.
fn clone_volume(
    host: &Path,
    access: Access,
    no_set_id: bool,
    id_map: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, SandboxError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = rustix::mount::open_tree(CWD, host, flags).map_err(|source| {
        let path = host.to_path_buf();
        SandboxError::OpenVolume { path, source }
    })?;
    let change = MountChange {
        id_map,
        read_only: access == Access::ReadOnly,
        no_suid: no_set_id,
        no_dev: true,
        private: true,
        recursive: true,
        ..MountChange::default()
    };
    cocker_sys::mount::change(tree.as_fd(), change).map_err(|source| {
        let error = SandboxError::MapVolume {
            path: host.to_path_buf(),
            file_system: file_system_name(host),
            source,
        };
        or_too_old(error, source, "id-mapped mounts", "5.12")
    })?;
    Ok(tree)
}

/// One regular file, which nobody inside need be kept from changing: it is there for this sandbox alone.
fn clone_supplied(
    file: &Path,
    access: Access,
    id_map: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, SandboxError> {
    let opening = |source| SandboxError::OpenSupplied {
        path: file.to_path_buf(),
        source,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = rustix::mount::open_tree(CWD, file, flags).map_err(opening)?;
    let kind = rustix::fs::fstat(&tree).map_err(opening)?.st_mode;
    if !FileType::from_raw_mode(kind).is_file() {
        return Err(opening(Errno::INVAL));
    }
    let change = MountChange {
        id_map,
        read_only: access == Access::ReadOnly,
        no_suid: true,
        no_dev: true,
        no_exec: true,
        private: true,
        ..MountChange::default()
    };
    change_mount(&tree, file, change)?;
    Ok(tree)
}

fn change_mount(tree: &OwnedFd, path: &Path, change: MountChange<'_>) -> Result<(), SandboxError> {
    cocker_sys::mount::change(tree.as_fd(), change).map_err(|source| {
        let error = SandboxError::MapIds {
            path: path.to_path_buf(),
            file_system: file_system_name(path),
            source,
        };
        or_too_old(error, source, "id-mapped mounts", "5.12")
    })
}
