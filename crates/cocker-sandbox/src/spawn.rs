//! Birth: the caller forks the supervisor-to-be, which has an errand run by the *usher*: it enters the sandbox's namespaces and
//! clones init-to-be there, as a child of the supervisor-to-be. That one then executes the resident supervisor; parenthood
//! survives the execution. Nobody comes back out of a user namespace, so it takes a process of its own to enter it; it shares
//! memory and descriptors with the supervisor-to-be, so that nothing is copied for it.
//!
//! ```text
//!  client (host root)    supervisor-to-be (host root)    usher (host root, then nobody)    init-to-be (nobody, then
//!    fork ───────────────▶ errand ───────────────────────▶ enter                             the sandbox's root)
//!    ◀── failure           stands still                    clone a sibling ──────────────────▶ assemble
//!                          pidfd of init-to-be ◀────────── exit
//!    ◀── Born, failure ─── execute the supervisor
//!    ◀── Assembled, failure ────────────────────────────────────────────────────────────────  wait for go
//!    go ────────────────────────────────────────────────────────────────────────────────────▶ execute
//! ```

use crate::assemble::{self, Inside};
use crate::failure::SandboxError;
use crate::limits::OpenFiles;
use crate::plan::{Plan, RootProcess};
use crate::prepare::{CgroupHold, Prepared};
use crate::report::{Phase, Report};
use crate::resident::{Descriptor, Supervisor, seal};
use cocker_sys::errand::{self, Descriptors};
use cocker_sys::fault;
use cocker_sys::process::{Birth, NewNamespaces, clone, clone_sibling, exit_now};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, pidfd_send_signal, setrlimit,
    waitid,
};
use std::mem::ManuallyDrop;

/// How long the supervisor of a boot that has failed may take to clear up.
const LAST_WORK: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// A sandbox whose root process exists and waits for [`Spawned::go`]. Dropping it before ends both processes.
pub struct Spawned {
    plan: Plan,
    network: Option<OwnedFd>,
    cgroup: CgroupHold,
    supervisor: OwnedFd,
    reports: OwnedFd,
    go: Option<OwnedFd>,
    root_process: Pid,
}

/// The pipes and sockets between the processes, before they part.
struct Lines {
    reports: (OwnedFd, OwnedFd),
    go: (OwnedFd, OwnedFd),
    init_socket: (OwnedFd, OwnedFd),
}

/// Above every descriptor number that a new program finds something at.
const ABOVE_PLACED: i32 = 64;

/// Makes the two processes and waits until the inside is assembled.
///
/// `console_message` is what the supervisor is sent, on the socket to init, together with the console's master and the root
/// folder of the sandbox's devpts.
/// `born` is called with the root process's pid as soon as it exists.
pub fn spawn(
    prepared: Prepared,
    supervisor: Supervisor,
    console_message: &[u8],
    born: impl FnOnce(Pid),
) -> Result<Spawned, SandboxError> {
    let failed = |source| SandboxError::StartSupervisor { source };
    let lines = Lines::new().map_err(failed)?;
    // Where systemd manages v2, outside of whatever we were started in: that may end before the sandbox does.
    let scope = prepared.cgroup.scope.as_ref();
    let scope = scope.map(|scope| scope.supervisor.as_fd());
    fault::before("spawn.supervisor").map_err(failed)?;
    match clone(NewNamespaces::default(), scope).map_err(failed)? {
        Birth::Child => supervisor_to_be(prepared, supervisor, lines, console_message),
        Birth::Parent { pidfd, .. } => {
            let Prepared {
                plan,
                namespaces,
                mut cgroup,
                ..
            } = prepared;
            // From here on the supervisor stands in it.
            cgroup.scope = None;
            let Lines {
                reports,
                go,
                init_socket,
            } = lines;
            // Theirs alone: by its end either sees that of the other.
            drop(init_socket);
            let mut spawned = Spawned {
                plan,
                network: namespaces.into_network(),
                cgroup,
                supervisor: pidfd,
                reports: reports.0,
                go: Some(go.1),
                root_process: Pid::INIT,
            };
            // Only the new processes may hold the writing end, or their end would never be seen.
            drop(reports.1);
            fault::after("spawn.supervisor");
            spawned.wait_until_assembled(born)?;
            Ok(spawned)
        }
    }
}

impl Spawned {
    /// The root process's pid in the caller's pid namespace.
    pub fn root_process(&self) -> Pid {
        self.root_process
    }

    /// The network namespace that the sandbox stands in; none where that is the host's.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }

    /// Two processes report, so a quick init-to-be may have assembled all before it is called born.
    fn wait_until_assembled(&mut self, born: impl FnOnce(Pid)) -> Result<(), SandboxError> {
        let mut born = Some(born);
        let mut is_assembled = false;
        while born.is_some() || !is_assembled {
            self.wait_for_report()?;
            match Report::read(&self.reports) {
                Ok(Some(report)) => match report.phase {
                    Phase::Born => {
                        self.root_process = Pid::from_raw(report.value).unwrap_or(Pid::INIT);
                        if let Some(born) = born.take() {
                            born(self.root_process);
                        }
                    }
                    Phase::Assembled => is_assembled = true,
                    _ => return Err(meaning(&self.plan, report)),
                },
                Ok(None) => return Err(SandboxError::Vanished),
                Err(source) => return Err(SandboxError::StartSupervisor { source }),
            }
        }
        Ok(())
    }

    /// A supervisor that was killed says nothing, and init-to-be may hold the pipe open for ever: it waits for us. What was
    /// said before such an end is there to be read.
    fn wait_for_report(&self) -> Result<(), SandboxError> {
        let mut waiting = [
            PollFd::new(&self.reports, PollFlags::IN),
            PollFd::new(&self.supervisor, PollFlags::IN),
        ];
        retry_on_intr(|| poll(&mut waiting, None))
            .map_err(|source| SandboxError::StartSupervisor { source })?;
        match waiting[0].revents().is_empty() {
            true => Err(SandboxError::Vanished),
            false => Ok(()),
        }
    }

    /// Lets the root process be executed and waits until it is. From here on the sandbox stands without us.
    ///
    /// # Errors
    /// What the execution of the root process or of the supervisor failed with; then the sandbox ends by itself.
    pub fn go(mut self) -> Result<(), SandboxError> {
        let go = self.go.take().expect("taken only here");
        fault::step("spawn.go", || rustix::io::write(&go, b"g"))
            .map_err(|_| SandboxError::Vanished)?;
        match Report::read(&self.reports) {
            // Every copy of the pipe's writing end was close-on-exec: both have executed what they should.
            Ok(None) => {
                self.cgroup.is_used = true;
                Ok(())
            }
            Ok(Some(report)) => Err(meaning(&self.plan, report)),
            Err(source) => Err(SandboxError::StartSupervisor { source }),
        }
    }
}

impl Drop for Spawned {
    /// Without a `go` init-to-be sees its pipe end and ends; a supervisor that watches it then does its last work. When
    /// this returns, both are gone, so that nothing that the caller undoes next is still in use.
    fn drop(&mut self) {
        self.go = None;
        if !self.cgroup.is_used {
            // One whose root process was seen running for a moment may wait to boot it again, which nobody wants: it has
            // been given time for its last work, and what it leaves is the caller's to remove.
            let mut ended = [PollFd::new(&self.supervisor, PollFlags::IN)];
            if matches!(poll(&mut ended, Some(&LAST_WORK)), Ok(0)) {
                let _ = pidfd_send_signal(&self.supervisor, Signal::KILL);
            }
            let supervisor = WaitId::PidFd(self.supervisor.as_fd());
            let _ = waitid(supervisor, WaitIdOptions::EXITED);
        }
    }
}

impl Lines {
    fn new() -> Result<Lines, Errno> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        // Both processes fill their low descriptors before they execute and must still be able to report a failure.
        let writer = rustix::io::fcntl_dupfd_cloexec(&writer, ABOVE_PLACED)?;
        Ok(Lines {
            reports: (reader, writer),
            go: pipe_with(PipeFlags::CLOEXEC)?,
            init_socket: socketpair(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?,
        })
    }
}

/// The host's root, a copy of the client; has init-to-be born as its child and becomes the supervisor.
fn supervisor_to_be(
    prepared: Prepared,
    supervisor: Supervisor,
    lines: Lines,
    console_message: &[u8],
) -> ! {
    // An own session, so that no terminal of the user's can end or stop us.
    let _ = rustix::process::setsid();
    let Lines {
        reports,
        go,
        init_socket,
    } = lines;
    // The client's ends: init-to-be would otherwise hold the other side of its own pipes, and wait forever.
    drop((reports.0, go.1));
    let inside = Inside {
        prepared,
        console_message,
        reports: reports.1,
        go: go.0,
        socket: init_socket.1,
    };
    let mut places = Some((inside, init_socket.0));
    // Who is born in it takes a copy of the places; ours stay here.
    let errand = fault::before("supervisor.fork_usher").and_then(|()| {
        let work = || usher(&mut places);
        errand::run(NewNamespaces::default(), Descriptors::Shared, work)
    });
    let (inside, init_socket) = places.expect("only a copy of it is taken from");
    // What is inside is init-to-be's: here it stays as it is until the execution closes it.
    let inside = ManuallyDrop::new(inside);
    let reports = &inside.reports;
    let (adopted, usher) = match errand {
        Err(errno) => fail(reports, Phase::ForkUsher, errno),
        // It was killed, and there is nobody.
        Ok((None, _)) => exit_now(1),
        Ok((Some(Err((phase, errno))), _)) => fail(reports, phase, errno),
        Ok((Some(Ok(adopted)), usher)) => {
            fault::after("supervisor.fork_usher");
            (adopted, usher)
        }
    };
    let (pid, root_process) = match fault::step("supervisor.adopt", || Ok::<_, Errno>(adopted)) {
        Ok(adopted) => adopted,
        Err(errno) => fail(reports, Phase::Adopt, errno),
    };
    Report {
        phase: Phase::Born,
        object: 0,
        value: pid.as_raw_nonzero().get(),
    }
    .write(reports);
    drop(usher);
    let execute = || execute(supervisor, init_socket, root_process);
    let errno = fault::before("supervisor.execute").map_or_else(|it| it, |()| execute());
    fail(reports, Phase::ExecuteSupervisor, errno)
}

/// Tells the client why this process ends.
fn fail(reports: &OwnedFd, phase: Phase, errno: Errno) -> ! {
    Report {
        phase,
        object: 0,
        value: errno.raw_os_error(),
    }
    .write(reports);
    exit_now(1)
}

/// The host's root until it has entered the sandbox's namespaces, and nobody there: none of the ids inside is ours, but we
/// hold every capability that they give. Lets init-to-be be born, which takes what is inside from its own copy of `places` and
/// closes the supervisor's end of its socket, and is gone.
fn usher(places: &mut Option<(Inside<'_>, OwnedFd)>) -> Result<(Pid, OwnedFd), (Phase, Errno)> {
    let at = |phase| move |errno| (phase, errno);
    let prepared = &places.as_ref().expect("nobody has taken it yet").0.prepared;
    // In v1 nobody can be born elsewhere than where its parent is, so we go there.
    for door in &prepared.cgroup.doors {
        let join = || rustix::io::write(door, b"0");
        fault::step("usher.join_cgroups", join).map_err(at(Phase::JoinCgroups))?;
    }
    let allow = || allow_open_files(prepared.plan.limits.open_files);
    fault::step("usher.limit_files", allow).map_err(at(Phase::LimitFiles))?;
    let enter = || prepared.namespaces.enter();
    fault::step("usher.enter", enter).map_err(at(Phase::EnterNamespaces))?;
    // Made by a process that stands in the user namespace, they belong to it.
    let namespaces = NewNamespaces {
        mount: true,
        pid: true,
        uts: true,
        ..NewNamespaces::default()
    };
    let cgroup = prepared.cgroup.folder.as_ref().map(AsFd::as_fd);
    let born = fault::before("usher.clone").and_then(|()| clone_sibling(namespaces, cgroup));
    match born.map_err(at(Phase::Clone))? {
        Birth::Child => {
            let (inside, theirs) = places.take().expect("this copy is ours");
            drop(theirs);
            assemble::init_to_be(inside)
        }
        Birth::Parent { pid, pidfd } => {
            fault::after("usher.clone");
            Ok((pid, pidfd))
        }
    }
}

/// Raises what may be given on where it is to be raised: nobody who has entered may. What is less is set at the last moment,
/// since the assembling needs descriptors too.
fn allow_open_files(limit: Option<OpenFiles>) -> Result<(), Errno> {
    let before = getrlimit(Resource::Nofile);
    match (limit, before.maximum) {
        (Some(OpenFiles { hard, .. }), Some(most)) if hard > most => {
            let raised = Rlimit {
                maximum: Some(hard),
                ..before
            };
            setrlimit(Resource::Nofile, raised)
        }
        _ => Ok(()),
    }
}

/// Lays the descriptors out and executes the resident; returns only on failure.
fn execute(supervisor: Supervisor, init_socket: OwnedFd, root_process: OwnedFd) -> Errno {
    let prepare = || -> Result<OwnedFd, Errno> {
        rustix::process::chdir("/")?;
        cocker_sys::signal::reset_all()?;
        let program = seal("cocker-supervisor", supervisor.program)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let mut placed = Vec::new();
        for _ in 0..3 {
            placed.push(rustix::io::fcntl_dupfd_cloexec(&null, 64)?);
        }
        let (mut init_socket, mut root_process) = (Some(init_socket), Some(root_process));
        for descriptor in supervisor.descriptors {
            placed.push(match descriptor {
                Descriptor::Given(fd) => fd,
                Descriptor::InitSocket => init_socket.take().ok_or(Errno::INVAL)?,
                Descriptor::RootProcess => root_process.take().ok_or(Errno::INVAL)?,
            });
        }
        // Out of the way of the places about to be filled.
        let program = rustix::io::fcntl_dupfd_cloexec(&program, 64 + placed.len() as i32)?;
        let first_free = placed.len() as i32;
        cocker_sys::execution::place_descriptors(0, placed)?;
        cocker_sys::execution::close_on_exec_from(first_free)?;
        Ok(program)
    };
    match prepare() {
        Ok(program) => cocker_sys::execution::execute_descriptor(
            program.as_fd(),
            &supervisor.arguments,
            &supervisor.environment,
        ),
        Err(errno) => errno,
    }
}

/// What a failed phase means to the user.
fn meaning(plan: &Plan, report: Report) -> SandboxError {
    let source = Errno::from_raw_os_error(report.value);
    let what = match report.phase {
        Phase::JoinCgroups => return SandboxError::JoinCgroups { source },
        Phase::LimitFiles => {
            return SandboxError::LimitFiles {
                wanted: plan.limits.open_files.map_or(0, |files| files.hard),
                most: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
                source,
            };
        }
        Phase::EnterNamespaces => return SandboxError::EnterNamespaces { source },
        Phase::Clone => return SandboxError::MakeNamespaces { source },
        Phase::ExecuteSupervisor => return SandboxError::StartSupervisor { source },
        Phase::ExecuteRootProcess => {
            let program = match &plan.process {
                RootProcess::Init => "cockerinit".into(),
                RootProcess::Given { arguments, .. } => arguments
                    .first()
                    .map(|program| program.to_string_lossy().into_owned())
                    .unwrap_or_default(),
            };
            return SandboxError::ExecuteRootProcess { program, source };
        }
        Phase::Born | Phase::Assembled => return SandboxError::Vanished,
        Phase::ForkUsher | Phase::Adopt => "make the root process".into(),
        Phase::TakeIdentity => "become the root of the new namespaces".into(),
        Phase::Tie => "tie the root process to its supervisor".into(),
        Phase::Separate => "separate the new mounts from the host's".into(),
        Phase::LateNamespaces => "make the cgroup and ipc namespaces".into(),
        Phase::Keyring => "leave the caller's keys behind".into(),
        Phase::Root => "attach the root file system".into(),
        Phase::Mount | Phase::LateMount => match plan.mounts.get(report.object as usize) {
            Some(mount) => format!("mount {mount}"),
            None => "mount".into(),
        },
        Phase::Console => "make the console".into(),
        Phase::Hostname => format!("set the host name `{}`", plan.hostname),
        Phase::Pivot => "enter the new root".into(),
        Phase::Conceal => match plan.confinement.masks.get(report.object as usize) {
            Some(mask) => format!("{mask}"),
            None => "mask /proc and /sys".into(),
        },
        Phase::LockConcealed => "lock the masks of /proc and /sys".into(),
        Phase::Handover => "hand the console over".into(),
        Phase::Scope => "keep it from abstract sockets of others".into(),
        Phase::Confine => "take the rights away that nothing inside shall have".into(),
        Phase::FirstChild => "start cockerinit beside the root process".into(),
        Phase::ExecuteInit => "execute cockerinit".into(),
    };
    SandboxError::Assemble { what, source }
}
