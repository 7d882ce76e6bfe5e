//! boot: the sandbox of a container's plan is prepared and spawned, and `OK` may be said when init has said that it is
//! ready. See docs/design/0001-boot.md for who does what.

use crate::connection::{MOST_REPLY, receive};
use crate::container::{CONTROL, Container, WORK_OF_LAST_BOOT, WORK_OF_OVERLAY};
use crate::control;
use crate::engine::Engine;
use crate::failure::{BootError, CleanUpError, EngineError};
use crate::network::{NetworkFailure, Warning, warning};
use crate::pasta::Pasta;
use crate::plan::{c_string, stop_signal};
use crate::release::measure_upper;
use crate::request::BootRequest;
use crate::resolv_conf;
use crate::rootless::FOR_A_USER;
use crate::state::Record;
use cocker_image::Name;
use cocker_network::{HostSide, NetworkPlan};
use cocker_protocol::{ClientReply, InitReport};
use cocker_sandbox::{Descriptor, Supervisor};
use cocker_sys::namespace::stands_for_a_user;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the processes of a boot that is over may take to go.
const CLEAN_UP_TIME: Duration = Duration::from_secs(5);

impl Engine {
    /// Boots a stopped container; returns when its init is ready, with what may keep its network from being of use.
    ///
    /// # Errors
    /// The phase that failed, with its object; everything is undone by then and the container is stopped.
    pub fn boot(
        &self,
        container: &Name,
        request: &BootRequest,
    ) -> Result<Vec<Warning>, EngineError> {
        self.boot_container(container, request)
            .map_err(|source| EngineError::Boot {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    fn boot_container(
        &self,
        name: &Name,
        request: &BootRequest,
    ) -> Result<Vec<Warning>, BootError> {
        let (mut container, _work) = Container::open_for_work(&self.store, name)?;
        if container.booted_pid().is_err() {
            // Who waits to do the same has been overtaken.
            self.expect_nothing(&container)?;
        }
        self.boot_held(&mut container, request)
    }

    /// Boots a container that the caller holds for work.
    pub(crate) fn boot_held(
        &self,
        container: &mut Container,
        request: &BootRequest,
    ) -> Result<Vec<Warning>, BootError> {
        let name = container.name.clone();
        let record = container.hold_stopped()?;
        self.clean_up_after_crash(container, record)
            .map_err(|source| BootError::CleanUp { source })?;
        let starting = Record {
            pid: 0,
            started: seconds_since_epoch(),
            oom_kills: 0,
            is_ending: false,
            // From now on the container writes to its files.
            measured: None,
            ..record
        };
        // Nothing of ours is there yet. Should we be killed before there is a root process, our own pid says that there may be.
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let begun = Record {
            pid,
            is_ending: true,
            ..starting
        };
        recorded(container, begun)?;
        let before = container.settings.clone();
        let is_changed = choose_root_process(container, request)?
            | choose_limits(container, request)?
            | choose_restart(container, request);
        // From here on it is only looked at.
        let container = &*container;
        let remember = || match is_changed {
            true => container.write_settings(&container.settings),
            false => Ok(()),
        };

        let booted = self.boot_stopped(container, starting, &remember);
        match booted {
            Ok(warnings) => Ok(warnings),
            Err(error) => {
                // Only what has booted is worth remembering.
                if is_changed && let Err(errno) = container.write_settings(&before) {
                    tracing::warn!("`{name}` remembers what has not booted: {errno}");
                }
                // The first error stays the one that is told.
                let _ = control::remove(container);
                // Where the supervisor was killed, what it watched over may be there still.
                if let Err(left) = self.cgroup_of(container).remove() {
                    tracing::warn!("the cgroup of `{name}` is not removed: {left}");
                }
                // A pid in the record says that there may be something left.
                if let Err(left) = self.detach_network(container) {
                    tracing::warn!("the network of `{name}` is not taken away: {left}");
                } else {
                    let _ = container.state.write(starting);
                }
                Err(error)
            }
        }
    }

    /// Boots a container that we hold; what was made is undone by drops, but for its socket, its record and its
    /// network.
    fn boot_stopped(
        &self,
        container: &Container,
        starting: Record,
        remember: &dyn Fn() -> Result<(), Errno>,
    ) -> Result<Vec<Warning>, BootError> {
        resolv_conf::supply(container).map_err(|source| BootError::Open {
            what: resolv_conf::FILE,
            source,
        })?;
        let network = self.network_to_be(container)?;
        let plan = self.plan(container)?;
        tracing::debug!("plan:\n{plan}");
        let attachment = network
            .map(|network| self.attachment(network))
            .transpose()?;
        let stop_signal = stop_signal(&plan.process);
        let (boot_socket, supervisor) =
            self.supervisor(container, stop_signal, attachment.as_ref())?;
        put_last_work_aside(container);
        let prepared = cocker_sandbox::prepare(plan, self.settings.init)?;
        self.spawn(
            container,
            prepared,
            supervisor,
            starting,
            boot_socket,
            attachment,
            remember,
        )
    }

    /// None for a container that has no network of cocker's making.
    fn network_to_be(&self, container: &Container) -> Result<Option<NetworkToBe>, NetworkFailure> {
        Ok(match stands_for_a_user() {
            true => self.pasta(container)?.map(NetworkToBe::Pasta),
            false => self
                .network_plan(container)?
                .map(|plan| NetworkToBe::Bridge(Box::new(plan))),
        })
    }

    fn attachment(&self, network: NetworkToBe) -> Result<Attachment, BootError> {
        let plan = match network {
            NetworkToBe::Pasta(pasta) => return Ok(Attachment::Pasta(pasta)),
            NetworkToBe::Bridge(plan) => plan,
        };
        tracing::debug!("network:\n{plan}");
        let booted = || self.booted_endpoints();
        let host = cocker_network::prepare(&plan, booted).map_err(NetworkFailure::from)?;
        tracing::debug!("the host's side of the network is ready");
        Ok(Attachment::Bridge { plan, host })
    }

    /// Spawns, attaches the network while the inside is being assembled, says go and waits for init.
    #[allow(clippy::too_many_arguments)]
    fn spawn(
        &self,
        container: &Container,
        prepared: cocker_sandbox::Prepared,
        supervisor: Supervisor,
        starting: Record,
        boot_socket: OwnedFd,
        mut attachment: Option<Attachment>,
        remember: &dyn Fn() -> Result<(), Errno>,
    ) -> Result<Vec<Warning>, BootError> {
        let mut message = [0u8; 64];
        let length = InitReport::Console
            .encode(&mut message)
            .expect("the message is a head only");
        let namespace = prepared.network().map(rustix::io::dup).transpose();
        let namespace = namespace.map_err(|source| BootError::Open {
            what: "the network namespace",
            source,
        })?;
        let mut written = Ok(());
        let mut attached = Ok(Vec::new());
        let spawned = cocker_sandbox::spawn(prepared, supervisor, &message[..length], |pid| {
            let pid = pid.as_raw_nonzero().get();
            // Recorded first: whoever finds the record of a dead boot takes away what may have been attached.
            written = container.state.write(Record { pid, ..starting });
            if let (Ok(()), Some(attachment), Some(namespace)) =
                (&written, &mut attachment, &namespace)
            {
                attached = match attachment {
                    Attachment::Bridge { plan, host } => self
                        .attach_network(plan, host, namespace.as_fd(), pid)
                        .map_err(NetworkFailure::from),
                    Attachment::Pasta(pasta) => pasta
                        .start(pid)
                        .map(|()| Vec::new())
                        .map_err(NetworkFailure::from),
                };
                tracing::debug!("network attached");
            }
        })?;
        written.map_err(|source| BootError::Record { source })?;
        let obstacles = attached?;
        tracing::debug!("assembled; root process {:?}", spawned.root_process());
        // Before it runs: should we be killed in between, what was asked for holds at the next boot.
        remember().map_err(|source| BootError::Record { source })?;
        spawned.go()?;
        wait_until_ready(&boot_socket)?;
        let bridge = match attachment {
            Some(Attachment::Bridge { plan, .. }) => plan.bridge.name,
            _ => String::new(),
        };
        let warnings = obstacles.iter().map(|obstacle| warning(obstacle, &bridge));
        Ok(warnings.collect())
    }

    /// What a supervisor that was killed could not do: its record still names a process.
    pub(crate) fn clean_up_after_crash(
        &self,
        container: &Container,
        record: Record,
    ) -> Result<(), CleanUpError> {
        self.clean_up_within(container, record, CLEAN_UP_TIME)
    }

    /// The same for whoever has less time for it.
    pub(crate) fn clean_up_within(
        &self,
        container: &Container,
        record: Record,
        patience: Duration,
    ) -> Result<(), CleanUpError> {
        if record.pid == 0 {
            return Ok(());
        }
        tracing::debug!("the last supervisor of `{}` was killed", container.name);
        let cgroup = self.cgroup_of(container);
        cgroup
            .remove_within(patience)
            .map_err(|source| CleanUpError::of_cgroup(&cgroup, source))?;
        let _aftermath = self.detach_network(container)?;
        control::remove(container).map_err(|source| CleanUpError::Socket { source })?;
        let stopped = Record {
            pid: 0,
            is_ending: false,
            ..record
        };
        let stopped = match measure_upper(&container.folder) {
            Ok(size) => stopped.with_size(size),
            Err(_) => stopped,
        };
        container
            .state
            .write(stopped)
            .map_err(|source| CleanUpError::Record { source })
    }

    /// The supervisor's descriptors in the order of docs/design/0001-boot.md, and our end of the boot socket.
    fn supervisor(
        &self,
        container: &Container,
        stop_signal: i32,
        attachment: Option<&Attachment>,
    ) -> Result<(OwnedFd, Supervisor), BootError> {
        let opening = |what| move |source| BootError::Open { what, source };
        let lock = container.state.share().map_err(opening("lock"))?;
        let control = control::listen(container).map_err(opening(CONTROL))?;
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(opening("the boot socket"))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let cocker = rustix::fs::open("/proc/self/exe", flags, Mode::empty())
            .map_err(opening("/proc/self/exe"))?;
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&container.folder, ".", folder, Mode::empty())
            .map_err(opening("the container's folder"))?;
        let network = match attachment {
            Some(Attachment::Bridge { host, .. }) => rustix::io::dup(host.as_fd()),
            _ => {
                let flags = OFlags::RDWR | OFlags::CLOEXEC;
                rustix::fs::open("/dev/null", flags, Mode::empty())
            }
        };
        let network = network.map_err(opening("the network's socket"))?;
        let supervisor = Supervisor {
            program: self.settings.supervisor,
            arguments: vec![
                c"cocker-supervisor".into(),
                c_string(container.name.as_str().as_bytes())?,
                c_string(stop_signal.to_string().as_bytes())?,
            ],
            environment: self.supervisors_environment()?,
            descriptors: vec![
                Descriptor::Given(lock),
                Descriptor::Given(control),
                Descriptor::InitSocket,
                Descriptor::RootProcess,
                Descriptor::Given(theirs),
                Descriptor::Given(cocker),
                Descriptor::Given(folder),
                Descriptor::Given(network),
            ],
        };
        Ok((ours, supervisor))
    }

    /// For what it executes at its end.
    pub(crate) fn supervisors_environment(&self) -> Result<Vec<CString>, BootError> {
        let mut environment = vec![
            self.variable("COCKER_HOME", self.store.home().as_os_str().as_bytes())?,
            self.variable("COCKER_CGROUP", self.settings.cgroup_parent.as_bytes())?,
        ];
        if stands_for_a_user() {
            environment.push(self.variable(FOR_A_USER, b"1")?);
        }
        #[cfg(debug_assertions)]
        if let Some(control) = cocker_sys::fault::control_path() {
            environment.push(self.variable(cocker_sys::fault::VARIABLE, control.as_bytes())?);
        }
        Ok(environment)
    }

    fn variable(&self, key: &str, value: &[u8]) -> Result<CString, BootError> {
        c_string(&[key.as_bytes(), b"=", value].concat())
    }
}

/// A mount of an overlay removes the folder in which the last one worked, and where the disk is told at once of every block
/// that is free (the mount option `discard` without a journal) it waits for the disk. So it shall find none. One that is not
/// empty, as after a power cut, stays the overlay's to clear if one was put aside before.
fn put_last_work_aside(container: &Container) {
    let folder = &container.folder;
    let _ = rustix::fs::renameat(folder, WORK_OF_OVERLAY, folder, WORK_OF_LAST_BOOT);
}

/// What a container's network will be.
enum NetworkToBe {
    Bridge(Box<NetworkPlan>),
    /// An ordinary user's.
    Pasta(Pasta),
}

/// The same, ready on the host's side, to be attached as soon as there is a process.
enum Attachment {
    Bridge {
        plan: Box<NetworkPlan>,
        host: HostSide,
    },
    Pasta(Pasta),
}

fn wait_until_ready(boot_socket: &OwnedFd) -> Result<(), BootError> {
    let mut buffer = [0; MOST_REPLY];
    let reply = receive(boot_socket, &mut buffer, RecvFlags::empty());
    match reply.map_err(|_| BootError::SupervisorGone)? {
        Some(ClientReply::Ready) => Ok(()),
        Some(ClientReply::Ended { wait_status }) => Err(BootError::EndedEarly {
            how: how_ended(wait_status),
        }),
        _ => Err(BootError::SupervisorGone),
    }
}

/// A wait status in words.
pub(crate) fn how_ended(wait_status: i32) -> String {
    match wait_status & 0x7f {
        0 => format!("exit status {}", (wait_status >> 8) & 0xff),
        signal => format!("killed by signal {signal}"),
    }
}

fn recorded(container: &Container, record: Record) -> Result<(), BootError> {
    container
        .state
        .write(record)
        .map_err(|source| BootError::Record { source })
}

/// The policy holds for the end of this boot already. Says whether that changes the settings.
fn choose_restart(container: &mut Container, request: &BootRequest) -> bool {
    let before = container.settings.restart;
    let Some(policy) = request.restart.filter(|policy| *policy != before) else {
        return false;
    };
    container.settings.restart = policy;
    true
}

/// A root process that was given holds at the next boot until another one is given; `cockerinit` or nothing goes back
/// to the usual one. Says whether that changes the settings.
fn choose_root_process(
    container: &mut Container,
    request: &BootRequest,
) -> Result<bool, BootError> {
    let Some(program) = &request.root_process else {
        return Ok(false);
    };
    let program = program
        .iter()
        .map(|argument: &OsString| {
            argument
                .to_str()
                .map(String::from)
                .ok_or_else(|| BootError::BadArgument {
                    text: argument.to_string_lossy().escape_default().collect(),
                })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let chosen = match program.first().map(String::as_str) {
        None | Some("cockerinit") => None,
        Some(_) => Some(program),
    };
    let is_changed = container.settings.root_process != chosen;
    container.settings.root_process = chosen;
    Ok(is_changed)
}

/// Says whether they change the settings.
fn choose_limits(container: &mut Container, request: &BootRequest) -> Result<bool, BootError> {
    let limits = container.settings.limits.with(&request.limits)?;
    let is_changed = container.settings.limits != limits;
    container.settings.limits = limits;
    Ok(is_changed)
}

fn seconds_since_epoch() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
