//! Init-to-be: puts the prepared descriptors in place inside the new namespaces, enters the new root and executes the
//! root process. From the first line on, this process may do nothing to the host: it starts without an identity and then
//! is root of namespaces of its own.
//!
//! Image and volumes may be hostile here: what lies below the new root is reached by `openat2` inside it only, and where
//! the sandbox itself mounts, no link is followed at all.

use crate::limits::OpenFiles;
use crate::masks::{self, Originals};
use crate::plan::{Access, CoreDumps, Mount, Program, RootProcess, SIGRTMIN_PLUS_3, Source};
use crate::prepare::Prepared;
use crate::report::{Phase, Report};
use crate::seccomp::Filter;
use crate::target;
use cocker_sys::errand::Errand;
use cocker_sys::fault;
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use rustix::pipe::PipeFlags;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use std::ffi::{CStr, CString};
use std::path::Path;

/// What init-to-be holds.
pub(crate) struct Inside<'a> {
    pub prepared: Prepared,
    pub console_message: &'a [u8],
    pub reports: OwnedFd,
    /// Readable when the root process may run; ended when the client is gone.
    pub go: OwnedFd,
    /// To the supervisor.
    pub socket: OwnedFd,
}

/// A failed step.
struct Failure {
    phase: Phase,
    object: u32,
    errno: Errno,
}

/// Gives an errno the phase that it happened in.
fn at(phase: Phase) -> impl Fn(Errno) -> Failure {
    move |errno| Failure {
        phase,
        object: 0,
        errno,
    }
}

/// What the assembled sandbox leaves open for init.
struct Assembled {
    console: OwnedFd,
}

pub(crate) fn init_to_be(inside: Inside<'_>) -> ! {
    let failure = match assemble(&inside) {
        Ok((assembled, passage)) => {
            report(&inside, Phase::Assembled, 0, 0);
            fault::after("init.assembled");
            if !word_comes(&inside.go) {
                exit_now(1) // the client is gone
            }
            // The root process has no children that it has not started.
            drop(passage);
            execute_root_process(&inside, &assembled)
        }
        Err(failure) => failure,
    };
    let Failure {
        phase,
        object,
        errno,
    } = failure;
    report(&inside, phase, object, errno.raw_os_error());
    exit_now(1)
}

fn report(inside: &Inside<'_>, phase: Phase, object: u32, value: i32) {
    Report {
        phase,
        object,
        value,
    }
    .write(&inside.reports);
}

/// Waits for the one byte; false when the other side has gone away instead.
fn word_comes(pipe: &OwnedFd) -> bool {
    let mut word = [0u8; 1];
    rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut word)) == Ok(1)
}

/// The story of the inside, step by step. What it has had done aside may end a little later.
fn assemble(inside: &Inside<'_>) -> Result<(Assembled, Option<Errand>), Failure> {
    let plan = &inside.prepared.plan;
    let become_root = || become_root(plan.ids.is_some());
    fault::step("init.take_identity", become_root).map_err(at(Phase::TakeIdentity))?;
    if plan.ids.is_some() && plan.process.program() == Some(Program::Systemd) {
        leave_what_is_the_hosts().map_err(at(Phase::TakeIdentity))?;
    }
    fault::step("init.tie", || tie_to_supervisor(&inside.socket)).map_err(at(Phase::Tie))?;
    fault::step("init.separate", separate_mounts).map_err(at(Phase::Separate))?;
    let unshare = cocker_sys::process::unshare_late_namespaces;
    fault::step("init.late_namespaces", unshare).map_err(at(Phase::LateNamespaces))?;
    fault::step("init.keyring", leave_keyring).map_err(at(Phase::Keyring))?;

    let root = &inside.prepared.root;
    // Only while the host's own proc is in sight does the kernel make one without masks for a user namespace.
    let proc = make_proc(inside)?;
    fault::step("init.root", || attach_root(root)).map_err(at(Phase::Root))?;
    let terminals = place_all(inside, Phase::Mount, None)?;
    let terminals = terminals.ok_or(Errno::NOTTY).map_err(at(Phase::Console))?;
    let (master, console) = fault::step("init.console", || make_console(root, &terminals))
        .map_err(at(Phase::Console))?;
    let name = || rustix::system::sethostname(plan.hostname.as_bytes());
    fault::step("init.hostname", name).map_err(at(Phase::Hostname))?;
    fault::step("init.pivot", || enter_root(root)).map_err(at(Phase::Pivot))?;
    fault::before("init.conceal").map_err(at(Phase::LockConcealed))?;
    let (masked, passage) = conceal(inside, proc)?;
    fault::after("init.conceal");
    place_all(inside, Phase::LateMount, Some(&masked))?;
    if let Some(names) = &plan.names {
        // A sandbox whose file is not as we expect it has made it so: it boots all the same.
        let _ = crate::hosts::keep(root.as_fd(), names);
    }
    let handed_over = [master.as_fd(), terminals.as_fd()];
    let send = || crate::locked::send(&inside.socket, inside.console_message, &handed_over);
    fault::step("init.handover", send).map_err(at(Phase::Handover))?;
    Ok((Assembled { console }, passage))
}

/// The instance of proc that shows the sandbox's own processes; none where the plan has no place for it.
fn make_proc(inside: &Inside<'_>) -> Result<Option<OwnedFd>, Failure> {
    let mounts = &inside.prepared.plan.mounts;
    let place = mounts.iter().position(|mount| mount.source == Source::Proc);
    let made = place.map(|number| {
        make_inside(&mounts[number]).map_err(|errno| Failure {
            phase: Phase::Mount,
            object: number as u32,
            errno,
        })
    });
    made.transpose()
}

/// Proc and sysfs as they will be mounted; none stands for what was prepared.
#[derive(Default)]
struct Kernels {
    proc: Option<OwnedFd>,
    sysfs: Option<OwnedFd>,
}

/// Mounts one half of the plan, and returns the devpts if it was among it. What the kernel shows of itself, and what is the
/// user's, comes when the root is entered: the one is masked then, and the other must not be locked with it.
fn place_all(
    inside: &Inside<'_>,
    phase: Phase,
    kernels: Option<&Kernels>,
) -> Result<Option<OwnedFd>, Failure> {
    let Prepared {
        plan,
        root,
        sources,
        ..
    } = &inside.prepared;
    let mut terminals = None;
    for (number, mount) in plan.mounts.iter().enumerate() {
        let is_late = matches!(
            mount.source,
            Source::Proc | Source::Sysfs | Source::Cgroup | Source::Bind { .. }
        );
        if is_late != (phase == Phase::LateMount) {
            continue;
        }
        let of_kernel = kernels.and_then(|kernels| match mount.source {
            Source::Proc => kernels.proc.as_ref(),
            Source::Sysfs => kernels.sysfs.as_ref(),
            _ => None,
        });
        let source = of_kernel.or(sources[number].as_ref());
        let mounted = fault::step("init.mount", || place(root, mount, source));
        let mounted = mounted.map_err(|errno| Failure {
            phase,
            object: number as u32,
            errno,
        })?;
        if mount.source == Source::DevPts {
            terminals = mounted;
        }
    }
    Ok(terminals)
}

/// Puts the masks on proc and sysfs. Among ids of its own, root inside could take them off again, so there they are locked.
fn conceal(
    inside: &Inside<'_>,
    proc: Option<OwnedFd>,
) -> Result<(Kernels, Option<Errand>), Failure> {
    let Prepared {
        plan,
        root,
        sources,
        stage,
        ..
    } = &inside.prepared;
    let of = |source: Source| {
        let place = plan
            .mounts
            .iter()
            .position(|mount| mount.source == source)?;
        sources[place].as_ref()
    };
    let is_proc = |mount: &Mount| mount.source == Source::Proc;
    let place = plan.mounts.iter().position(is_proc);
    let (Some(stage), Some(proc), Some(sysfs), Some(devices), Some(place)) = (
        stage.as_ref(),
        proc.as_ref(),
        of(Source::Sysfs),
        of(Source::Devices),
        place,
    ) else {
        let as_they_are = Kernels {
            proc,
            ..Kernels::default()
        };
        return Ok((as_they_are, None));
    };
    let originals = Originals {
        proc: proc.as_fd(),
        sysfs: sysfs.as_fd(),
        stage: stage.as_fd(),
        devices: devices.as_fd(),
    };
    let failed = |failed: masks::Failed| Failure {
        phase: match failed.mask {
            Some(_) => Phase::Conceal,
            None => Phase::LockConcealed,
        },
        object: failed.mask.unwrap_or(0) as u32,
        errno: failed.errno,
    };
    let mount = &plan.mounts[place];
    let target = target::of(root, mount, proc).map_err(|errno| Failure {
        phase: Phase::LateMount,
        object: place as u32,
        errno,
    })?;
    let masks = &plan.confinement.masks;
    let place = (target.as_fd(), mount.target.as_path());
    let masked = masks::put_on(&originals, masks, place, plan.ids.is_some()).map_err(failed)?;
    let kernels = Kernels {
        proc: Some(masked.proc),
        sysfs: Some(masked.sysfs),
    };
    Ok((kernels, masked.passage))
}

/// The keys of the user who boots are not for a sandbox. A kernel without keys has none to leave.
fn leave_keyring() -> Result<(), Errno> {
    match cocker_sys::credentials::leave_keyring() {
        Err(Errno::NOSYS) => Ok(()),
        other => other,
    }
}

/// Until here this process was nobody: its ids, the client's, are not among those of its user namespace. Now it is the
/// sandbox's root, with every capability in the sandbox's namespaces and none outside. A privileged one stays the host's
/// root.
fn become_root(has_own_ids: bool) -> Result<(), Errno> {
    // An ordinary user's root is that user, without the other groups that it is in.
    if has_own_ids || cocker_sys::namespace::is_below_the_host() {
        cocker_sys::credentials::become_user(0, 0)?;
    }
    // The client's umask is the user's and has no part in what is made inside.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map(drop)
}

/// Capabilities that count in the host's own user namespace only (capabilities(7)): here they are of no use. systemd's units ask
/// whether they could be had (systemd.unit(5), ConditionCapability=), and where they seem to be, try in vain what needs
/// them: to mount debugfs, to listen to the audit.
fn leave_what_is_the_hosts() -> Result<(), Errno> {
    const HOSTS: [CapabilitySet; 4] = [
        CapabilitySet::SYS_MODULE,
        CapabilitySet::SYS_RAWIO,
        CapabilitySet::SYS_TIME,
        CapabilitySet::AUDIT_READ,
    ];
    HOSTS
        .into_iter()
        .try_for_each(remove_capability_from_bounding_set)
}

/// When the supervisor dies, so does the root process and with it everything inside. Must follow every change of ids,
/// which makes the kernel forget it. One that has died before is not told of any more; the other end of `socket` was its alone.
fn tie_to_supervisor(socket: &OwnedFd) -> Result<(), Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut other_end = [PollFd::new(socket, PollFlags::empty())];
    poll(&mut other_end, Some(&Timespec::default()))?;
    match other_end[0].revents().contains(PollFlags::HUP) {
        true => Err(Errno::SRCH),
        false => Ok(()),
    }
}

/// The new namespace starts as a copy of the host's mounts, which would still be told of the host's mounts and unmounts.
fn separate_mounts() -> Result<(), Errno> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private)
}

/// Over the old root, where it hides nothing from us: we still stand below it. `pivot_root` wants the new root to be a
/// mount of this namespace.
fn attach_root(root: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(root, "", CWD, "/", flags)
}

/// Swaps the roots and lets go of the old one: from here on no path leads to the host's files.
fn enter_root(root: &OwnedFd) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    // The old root now lies on top of the new one, at ".".
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Mounts one thing; returns the mount's root where it was made here.
fn place(
    root: &OwnedFd,
    mount: &Mount,
    prepared: Option<&OwnedFd>,
) -> Result<Option<OwnedFd>, Errno> {
    let made = match prepared {
        Some(_) => None,
        None => Some(make_inside(mount)?),
    };
    let source = prepared.or(made.as_ref()).ok_or(Errno::BADF)?;
    if matches!(mount.source, Source::Supplied { .. }) {
        // What the sandbox holds in its place, and whatever stands in our way there, is its own affair.
        let _ = offer(root, mount, source);
    } else {
        put(source, &target::of(root, mount, source)?)?;
    }
    Ok(made)
}

fn offer(root: &OwnedFd, mount: &Mount, source: &OwnedFd) -> Result<(), Errno> {
    match target::vacant(root.as_fd(), &mount.target)? {
        Some(target) => put(source, &target),
        None => Ok(()),
    }
}

fn put(source: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(source, "", target, "", flags)
}

/// What belongs to the namespaces of this process, and so can only be made by it.
fn make_inside(mount: &Mount) -> Result<OwnedFd, Errno> {
    let quiet = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let terminals = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let (kind, options, attributes): (&str, &[(&str, &str)], _) = match mount.source {
        Source::Proc => ("proc", &[], quiet),
        Source::DevPts => (
            "devpts",
            &[
                ("mode", "0620"),
                ("gid", "5"),
                ("ptmxmode", "0666"),
                ("max", MOST_TERMINALS),
            ],
            terminals,
        ),
        Source::SharedMemory => ("tmpfs", &[("mode", "1777")], quiet),
        Source::MessageQueues => ("mqueue", &[], quiet),
        Source::Cgroup => ("cgroup2", &[], quiet),
        Source::Sysfs | Source::Devices | Source::Bind { .. } | Source::Supplied { .. } => {
            return Err(Errno::INVAL);
        }
    };
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let access = match mount.access {
        Access::ReadOnly => MountAttrFlags::MOUNT_ATTR_RDONLY,
        Access::ReadWrite => MountAttrFlags::empty(),
    };
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes | access,
    )
}

/// The kernel has some 3,000 for all sandboxes together (kernel.pty.max without its reserve): none gets all of them by
/// opening them.
const MOST_TERMINALS: &str = "1024";

/// The first terminal of the sandbox becomes `/dev/console`: its master goes to the supervisor, its other side is what the
/// root process writes to. It is reached by descriptors only, so nothing in the image can stand in its way.
fn make_console(root: &OwnedFd, terminals: &OwnedFd) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let peer = rustix::pty::OpenptFlags::RDWR
        | rustix::pty::OpenptFlags::NOCTTY
        | rustix::pty::OpenptFlags::CLOEXEC;
    let console = rustix::pty::ioctl_tiocgptpeer(&master, peer)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = rustix::mount::open_tree(&console, "", clone)?;
    let target = target::open(root.as_fd(), Path::new("/dev/console"), target::NO_LINKS)?;
    put(&mount, &target)?;
    Ok((master, console))
}

/// Becomes the root process; returns only when that failed.
fn execute_root_process(inside: &Inside<'_>, assembled: &Assembled) -> Failure {
    // Before there is a second process: all inside must stand in one scope, or they would not reach each other.
    if inside.prepared.plan.confinement.own_abstract_sockets
        && let Err(errno) = cocker_sys::landlock::scope_abstract_sockets()
    {
        return at(Phase::Scope)(errno);
    }
    match &inside.prepared.plan.process {
        RootProcess::Init => Failure {
            phase: Phase::ExecuteInit,
            object: 0,
            errno: execute_init(inside, assembled, &[c"cockerinit"]),
        },
        RootProcess::Given {
            program,
            arguments,
            environment,
        } => {
            if let Err(errno) = start_first_child(inside, assembled, *program) {
                return at(Phase::FirstChild)(errno);
            }
            let errno = execute_given(inside, assembled, *program, arguments, environment);
            at(Phase::ExecuteRootProcess)(errno)
        }
    }
}

/// The resident init as our child: it will hold the socket and start what the supervisor asks for.
///
/// Until it has executed it runs the host's own program, and holds what the sandbox was prepared from: the root process must
/// not be there before, or a privileged one would find both below /proc.
fn start_first_child(
    inside: &Inside<'_>,
    assembled: &Assembled,
    root_program: Program,
) -> Result<(), Errno> {
    let name = match root_program {
        // By this sign systemd leaves a process of root's alone when it ends all others (systemd.io, ROOT_STORAGE_DAEMONS): it
        // would wait for this one, which ends with the container.
        Program::Systemd => c"@cockerinit",
        Program::Other => c"cockerinit",
    };

    let (until_executed, low) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // The child lays descriptors out at low numbers, and this one must not be closed by that.
    let held = copy(&low)?;
    drop(low);
    match clone(NewNamespaces::default(), None)? {
        Birth::Parent { .. } => {
            drop(held);
            // Its end is the end of what we both had open.
            word_comes(&until_executed);
            Ok(())
        }
        Birth::Child => {
            let errno = execute_init(inside, assembled, &[name, c"first-child"]);
            at(Phase::ExecuteInit)(errno).tell(inside);
            exit_now(1)
        }
    }
}

impl Failure {
    fn tell(&self, inside: &Inside<'_>) {
        report(inside, self.phase, self.object, self.errno.raw_os_error());
    }
}

fn execute_init(inside: &Inside<'_>, assembled: &Assembled, arguments: &[&CStr]) -> Errno {
    let prepare = || -> Result<OwnedFd, Errno> {
        let placed = vec![
            copy(&assembled.console)?,
            copy(&assembled.console)?,
            copy(&assembled.console)?,
            copy(&inside.socket)?,
        ];
        let program = copy(&inside.prepared.init)?;
        leave_only(placed)?;
        limit_open_files(inside)?;
        Ok(program)
    };
    match prepare().and_then(|program| confine(inside).map(|()| program)) {
        Ok(program) => {
            let arguments: Vec<CString> = arguments.iter().map(|&a| a.to_owned()).collect();
            cocker_sys::execution::execute_descriptor(program.as_fd(), &arguments, &[])
        }
        Err(errno) => errno,
    }
}

fn execute_given(
    inside: &Inside<'_>,
    assembled: &Assembled,
    program: Program,
    arguments: &[CString],
    environment: &[CString],
) -> Errno {
    let prepare = || -> Result<(), Errno> {
        leave_only(vec![
            copy(&assembled.console)?,
            copy(&assembled.console)?,
            copy(&assembled.console)?,
        ])?;
        if program == Program::Systemd {
            // Said before systemd listens, it would be lost: the kernel gives process 1 no signal that it neither handles
            // nor blocks. systemd blocks and reads it, and lets its services begin without.
            cocker_sys::signal::block_only(SIGRTMIN_PLUS_3)?;
        }
        limit_open_files(inside)
    };
    if let Err(errno) = prepare().and_then(|()| confine(inside)) {
        return errno;
    }
    let Some(name) = arguments.first() else {
        return Errno::INVAL;
    };
    let mut answer = Errno::NOENT;
    for candidate in candidates(name, environment) {
        match cocker_sys::execution::execute(&candidate, arguments, environment) {
            Errno::NOENT | Errno::NOTDIR => {}
            // Another folder may hold one that can be executed; if none does, this is the reason to give.
            errno => answer = errno,
        }
    }
    answer
}

/// Far above the places that descriptors are laid out at.
fn copy(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 64)
}

/// Leaves the program that is executed next nothing but `placed`, from descriptor 0 on, and the signals as it expects.
fn leave_only(placed: Vec<OwnedFd>) -> Result<(), Errno> {
    cocker_sys::signal::reset_all()?;
    let first_free = placed.len() as i32;
    // The pipe of the reports may stand where a descriptor goes: it moves out of the way by being close-on-exec and
    // numbered above, see `Lines` and `copy`.
    cocker_sys::execution::place_descriptors(0, placed)?;
    cocker_sys::execution::close_on_exec_from(first_free)
}

/// The last thing before an execution, since much of what this process has done so far is forbidden by it. The filters come
/// at the very end: until they are on, this process must be allowed to put them on.
fn confine(inside: &Inside<'_>) -> Result<(), Errno> {
    fault::before("init.confine")?;
    let confinement = &inside.prepared.plan.confinement;
    if confinement.core_dumps == CoreDumps::Off {
        // A program is given all, whatever the limit, unless that is one byte exactly (`coredump_pipe` of fs/coredump.c).
        let one_byte = Rlimit {
            current: Some(1),
            maximum: Some(1),
        };
        setrlimit(Resource::Core, one_byte)?;
    }
    cocker_sys::credentials::limit_capabilities(confinement.capabilities.bits())?;
    if confinement.no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    if let Some(label) = &confinement.label {
        label.at_next_execution()?;
    }
    confinement.filters.iter().try_for_each(Filter::install)
}

/// For whatever is executed next, and all that comes of it. What may be given on was raised before, where it had to be.
fn limit_open_files(inside: &Inside<'_>) -> Result<(), Errno> {
    match inside.prepared.plan.limits.open_files {
        None => Ok(()),
        Some(OpenFiles { soft, hard }) => {
            let limit = Rlimit {
                current: Some(soft),
                maximum: Some(hard),
            };
            setrlimit(Resource::Nofile, limit)
        }
    }
}

/// The paths to try for a program: itself with a `/` in it, else in every folder of PATH.
fn candidates(program: &CString, environment: &[CString]) -> Vec<CString> {
    let program = program.as_bytes();
    if program.contains(&b'/') {
        return CString::new(program).into_iter().collect();
    }
    let path = environment
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or(b"/usr/sbin:/usr/bin:/sbin:/bin");
    path.split(|&byte| byte == b':')
        .map(|folder| [folder, b"/", program].concat())
        .filter_map(|candidate| CString::new(candidate).ok())
        .collect()
}
