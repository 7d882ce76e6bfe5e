//! boot: the container's settings become a sandbox plan, the sandbox is prepared and spawned, and `OK` may be said when
//! init has said that it is ready. See docs/design/0001-boot.md for who does what.

use crate::connection::{Message, receive};
use crate::container::{
    CONTAINERS, CONTROL, Container, ContainerSettings, NetworkSettings, UPPER, WORK,
};
use crate::control;
use crate::engine::Engine;
use crate::failure::{BootError, CleanUpError, EngineError};
use crate::network::{NetworkFailure, Warning, id_range, warning};
use crate::request::{BootRequest, VolumeAccess};
use crate::resolv_conf;
use crate::state::Record;
use cocker_image::{LayerId, Name};
use cocker_network::{HostSide, NetworkPlan};
use cocker_protocol::{ClientReply, InitReport};
use cocker_sandbox::{
    Access, BindIds, Cgroup, Descriptor, HostNames, Mount, OverlayRoot, Plan, RootProcess, Source,
    Supervisor,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::ffi::{CString, OsString};
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a given root process finds in its environment.
const ROOT_ENVIRONMENT: [&std::ffi::CStr; 4] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"HOME=/root",
    c"TERM=linux",
    c"container=cocker",
];

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
        let record = container.hold_stopped()?;
        self.clean_up_after_crash(&container, record)
            .map_err(|source| BootError::CleanUp { source })?;
        let starting = Record {
            pid: 0,
            started: seconds_since_epoch(),
            is_ending: false,
            ..record
        };
        recorded(&container, starting)?;
        let is_changed = choose_root_process(&mut container, request)?;

        let booted = self.boot_stopped(&container, starting);
        match booted {
            // Only what has booted is worth remembering.
            Ok(warnings) if is_changed => container
                .write_settings(&container.settings)
                .map(|()| warnings)
                .map_err(|source| BootError::Record { source }),
            Ok(warnings) => Ok(warnings),
            Err(error) => {
                // The first error stays the one that is told.
                let _ = control::remove(&container);
                // A pid in the record says that there may be something left.
                if let Err(left) = self.detach_network(&container) {
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
    ) -> Result<Vec<Warning>, BootError> {
        resolv_conf::supply(container).map_err(|source| BootError::Open {
            what: resolv_conf::FILE,
            source,
        })?;
        let network = self.network_plan(container)?;
        let plan = self.plan(container)?;
        tracing::debug!("plan:\n{plan}");
        let attachment = network.map(|plan| self.attachment(plan)).transpose()?;
        let stop_signal = stop_signal(&plan.process);
        let (boot_socket, supervisor) =
            self.supervisor(container, stop_signal, attachment.as_ref())?;
        let prepared = cocker_sandbox::prepare(plan, self.settings.init)?;
        self.spawn(
            container,
            prepared,
            supervisor,
            starting,
            boot_socket,
            attachment,
        )
    }

    fn attachment(&self, plan: NetworkPlan) -> Result<Attachment, BootError> {
        tracing::debug!("network:\n{plan}");
        let booted = || self.booted_endpoints();
        let host = cocker_network::prepare(&plan, booted).map_err(NetworkFailure::from)?;
        tracing::debug!("the host's side of the network is ready");
        Ok(Attachment { plan, host })
    }

    /// Spawns, attaches the network while the inside is being assembled, says go and waits for init.
    fn spawn(
        &self,
        container: &Container,
        prepared: cocker_sandbox::Prepared,
        supervisor: Supervisor,
        starting: Record,
        boot_socket: OwnedFd,
        mut attachment: Option<Attachment>,
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
            if let (Ok(()), Some(Attachment { plan, host }), Some(namespace)) =
                (&written, &mut attachment, &namespace)
            {
                attached = self.attach_network(plan, host, namespace.as_fd(), pid);
                tracing::debug!("network attached");
            }
        })?;
        written.map_err(|source| BootError::Record { source })?;
        let obstacles = attached.map_err(NetworkFailure::from)?;
        tracing::debug!("assembled; root process {:?}", spawned.root_process());
        spawned.go()?;
        wait_until_ready(&boot_socket)?;
        let bridge = attachment.map(|attachment| attachment.plan.bridge.name);
        let bridge = bridge.unwrap_or_default();
        let warnings = obstacles.iter().map(|obstacle| warning(obstacle, &bridge));
        Ok(warnings.collect())
    }

    /// What a supervisor that was killed could not do: its record still names a process.
    pub(crate) fn clean_up_after_crash(
        &self,
        container: &Container,
        record: Record,
    ) -> Result<(), CleanUpError> {
        if record.pid == 0 {
            return Ok(());
        }
        tracing::debug!("the last supervisor of `{}` was killed", container.name);
        Cgroup::at(&container.cgroup(&self.settings.cgroup_parent))
            .remove()
            .map_err(|source| CleanUpError::Cgroup { source })?;
        let _aftermath = self.detach_network(container)?;
        container
            .state
            .write(Record {
                pid: 0,
                is_ending: false,
                ..record
            })
            .map_err(|source| CleanUpError::Record { source })
    }

    fn plan(&self, container: &Container) -> Result<Plan, BootError> {
        let settings = &container.settings;
        let files = Path::new(CONTAINERS).join(container.name.as_str());
        let lowers = settings.layers.iter();
        let root = OverlayRoot {
            base: self.store.home().to_path_buf(),
            lowers: lowers.map(LayerId::tree_path).collect(),
            upper: files.join(UPPER),
            work: files.join(WORK),
        };
        let cgroup = container.cgroup(&self.settings.cgroup_parent);
        let process = match &settings.root_process {
            None => RootProcess::Init,
            Some(program) => RootProcess::Given {
                arguments: program
                    .iter()
                    .map(|argument| c_string(argument.as_bytes()))
                    .collect::<Result<_, _>>()?,
                environment: ROOT_ENVIRONMENT.map(CString::from).into(),
            },
        };
        Ok(Plan {
            ids: id_range(container),
            network: self.network_namespace(container)?,
            mounts: mounts(
                container,
                self.store.home(),
                Cgroup::at(&cgroup).is_available(),
            ),
            cgroup,
            root,
            hostname: settings.hostname.clone(),
            names: Some(names(settings)),
            process,
        })
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
            Some(attachment) => rustix::io::dup(attachment.host.as_fd()),
            None => {
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
            environment: vec![
                self.variable("COCKER_HOME", self.store.home().as_os_str().as_bytes())?,
                self.variable("COCKER_CGROUP", self.settings.cgroup_parent.as_bytes())?,
            ],
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

    fn variable(&self, key: &str, value: &[u8]) -> Result<CString, BootError> {
        c_string(&[key.as_bytes(), b"=", value].concat())
    }
}

/// A network that is ready on the host's side, to be attached as soon as there is a process.
struct Attachment {
    plan: NetworkPlan,
    host: HostSide,
}

/// How the container knows itself in its `/etc/hosts`.
fn names(settings: &ContainerSettings) -> HostNames {
    let address = match settings.network {
        NetworkSettings::Bridge { address, .. } => address,
        // The second address of loopback, as Debian has it for a host without one of its own.
        NetworkSettings::Host | NetworkSettings::Custom => Ipv4Addr::new(127, 0, 1, 1),
    };
    HostNames {
        address: address.into(),
        hostname: settings.hostname.clone(),
    }
}

fn wait_until_ready(boot_socket: &OwnedFd) -> Result<(), BootError> {
    let message = receive(boot_socket).map_err(|_| BootError::SupervisorGone)?;
    match message {
        Some(Message {
            reply: ClientReply::Ready,
            ..
        }) => Ok(()),
        Some(Message {
            reply: ClientReply::Ended { wait_status },
            ..
        }) => Err(BootError::EndedEarly {
            how: how_ended(wait_status),
        }),
        _ => Err(BootError::SupervisorGone),
    }
}

/// A wait status in words.
fn how_ended(wait_status: i32) -> String {
    match wait_status & 0x7f {
        0 => format!("exit status {}", (wait_status >> 8) & 0xff),
        signal => format!("killed by signal {signal}"),
    }
}

/// What every container finds mounted, then its volumes.
fn mounts(container: &Container, home: &Path, has_cgroup: bool) -> Vec<Mount> {
    let own = |source, target: &str, access| Mount {
        source,
        target: PathBuf::from(target),
        access,
    };
    let mut mounts = vec![
        own(Source::Proc, "/proc", Access::ReadWrite),
        own(Source::Sysfs, "/sys", Access::ReadOnly),
        own(Source::Devices, "/dev", Access::ReadWrite),
        own(Source::DevPts, "/dev/pts", Access::ReadWrite),
        own(Source::SharedMemory, "/dev/shm", Access::ReadWrite),
        own(Source::MessageQueues, "/dev/mqueue", Access::ReadWrite),
    ];
    if has_cgroup {
        mounts.push(own(Source::Cgroup, "/sys/fs/cgroup", Access::ReadOnly));
    }
    let folder = home.join(CONTAINERS).join(container.name.as_str());
    let supplied = Source::Supplied {
        file: folder.join(resolv_conf::FILE),
    };
    mounts.push(own(supplied, "/etc/resolv.conf", Access::ReadWrite));
    for volume in &container.settings.volumes {
        mounts.push(Mount {
            source: Source::Bind {
                host: volume.host.clone(),
                ids: BindIds::Mapped,
            },
            target: volume.container.clone(),
            access: match volume.access {
                VolumeAccess::ReadWrite => Access::ReadWrite,
                VolumeAccess::ReadOnly => Access::ReadOnly,
            },
        });
    }
    mounts
}

fn recorded(container: &Container, record: Record) -> Result<(), BootError> {
    container
        .state
        .write(record)
        .map_err(|source| BootError::Record { source })
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

/// 0 where cockerinit is process 1; else what the given root process takes as "shut down".
fn stop_signal(process: &RootProcess) -> i32 {
    match process {
        RootProcess::Init => 0,
        RootProcess::Given { arguments, .. } => {
            let program = arguments.first().map(|program| program.to_bytes());
            let name = program.and_then(|p| p.rsplit(|&byte| byte == b'/').next());
            match name {
                Some(b"systemd") => SIGRTMIN_PLUS_3,
                _ => SIGTERM,
            }
        }
    }
}

/// systemd(1): "halts the machine", the first real-time signal being 34 to programs of the C library.
const SIGRTMIN_PLUS_3: i32 = 37;
const SIGTERM: i32 = 15;

fn c_string(bytes: &[u8]) -> Result<CString, BootError> {
    CString::new(bytes).map_err(|_| BootError::BadArgument {
        text: String::from_utf8_lossy(bytes).escape_default().collect(),
    })
}

fn seconds_since_epoch() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::request::{CreateRequest, Isolation, NetworkRequest, VolumeRequest};
    use cocker_image::{Reference, Version};

    /// An engine on a store of its own, with an empty image of each name.
    fn engine_with(home: &tempfile::TempDir, images: &[&str]) -> Engine {
        let engine = Engine::open(Settings {
            home: home.path().join("store"),
            cgroup_parent: "cocker-plan".into(),
            supervisor: &[],
            init: &[],
        })
        .expect("a store of its own");
        for image in images {
            add_image(&engine, image, &Version::none());
        }
        engine
    }

    fn add_image(engine: &Engine, name: &str, version: &Version) -> String {
        let staged = engine.store.stage().expect("the store is ours");
        let name = Name::parse(name).expect("a name");
        let image = engine.store.publish(staged, &name, version, &[]);
        let image = image.expect("the name is free");
        image.layers[0].as_str().into()
    }

    fn request(images: &[&str]) -> CreateRequest {
        let reference = |name: &&str| Reference::parse(name).expect("a reference");
        CreateRequest {
            container: Name::parse("web").expect("a name"),
            images: images.iter().map(reference).collect(),
            hostname: None,
            volumes: vec![],
            isolation: Isolation::Contained,
            network: NetworkRequest::Host,
        }
    }

    fn plan_of(engine: &Engine, request: &CreateRequest) -> Plan {
        engine.create(request).expect("the container is new");
        let container = Container::open(&engine.store, &request.container).expect("it is there");
        engine.plan(&container).expect("its settings are sound")
    }

    #[test]
    fn the_plan_says_all_that_will_be_done() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base", "top"]);
        let request = CreateRequest {
            hostname: Some("www".into()),
            volumes: vec![VolumeRequest {
                host: "/usr".into(),
                container: "/data".into(),
                access: VolumeAccess::ReadOnly,
            }],
            ..request(&["base", "top"])
        };
        let plan = plan_of(&engine, &request);
        let layers: Vec<String> = plan
            .root
            .lowers
            .iter()
            .map(|layer| layer.display().to_string())
            .collect();
        let cgroup = match Cgroup::at(&plan.cgroup).is_available() {
            true => "mount cgroup2 on `/sys/fs/cgroup` read-only\n",
            false => "",
        };
        let expected = format!(
            "ids 0..65536 are 1879048192..
cgroup `{}`
root from `{}`
  layer `{}`
  layer `{}`
  upper `containers/web/files/upper`
mount proc on `/proc`
mount sysfs on `/sys` read-only
mount devices on `/dev`
mount devpts on `/dev/pts`
mount shared memory on `/dev/shm`
mount mqueue on `/dev/mqueue`
{cgroup}mount `{}/containers/web/resolv.conf` on `/etc/resolv.conf` where that is missing or empty
mount `/usr` on `/data` read-only
hostname `www`
/etc/hosts: 127.0.1.1 is `www`
root process cockerinit
",
            plan.cgroup.display(),
            engine.store.home().display(),
            layers[0],
            layers[1],
            engine.store.home().display(),
        );
        assert_eq!(plan.to_string(), expected);
    }

    #[test]
    fn a_newer_version_changes_nothing_for_a_container_that_exists() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &[]);
        let version = |text| Version::parse(text).expect("a version");
        let old = add_image(&engine, "app", &version("1.9.0"));
        let plan = plan_of(&engine, &request(&["app"]));
        let new = add_image(&engine, "app", &version("1.10.0"));
        let name = Name::parse("web").expect("a name");
        let container = Container::open(&engine.store, &name).expect("it is there");
        assert_eq!(
            engine.plan(&container).expect("its settings are sound"),
            plan
        );
        assert!(plan.root.lowers[0].display().to_string().contains(&old));

        let later = CreateRequest {
            container: Name::parse("later").expect("a name"),
            ..request(&["app"])
        };
        let plan = plan_of(&engine, &later);
        assert!(plan.root.lowers[0].display().to_string().contains(&new));
    }

    #[test]
    fn privileged_means_the_hosts_own_ids() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let request = CreateRequest {
            isolation: Isolation::Privileged,
            ..request(&["base"])
        };
        assert_eq!(plan_of(&engine, &request).ids, None);
    }

    #[test]
    fn a_range_of_ids_is_given_to_one_container_only_and_again_after_it() {
        let home = tempfile::tempdir().expect("a folder");
        let engine = engine_with(&home, &["base"]);
        let named = |name: &str| CreateRequest {
            container: Name::parse(name).expect("a name"),
            ..request(&["base"])
        };
        let first = plan_of(&engine, &named("a")).ids;
        let second = plan_of(&engine, &named("b")).ids;
        assert_ne!(first, second);
        let a = Name::parse("a").expect("a name");
        engine
            .destroy(&a, crate::IfBooted::Refuse, crate::OnError::Stop)
            .expect("it is stopped");
        assert_eq!(plan_of(&engine, &named("c")).ids, first);
    }

    #[test]
    fn systemd_is_told_to_halt_in_its_own_way() {
        let given = |program: &std::ffi::CStr| RootProcess::Given {
            arguments: vec![program.into()],
            environment: vec![],
        };
        assert_eq!(stop_signal(&RootProcess::Init), 0);
        assert_eq!(stop_signal(&given(c"/bin/sleep")), SIGTERM);
        assert_eq!(
            stop_signal(&given(c"/lib/systemd/systemd")),
            SIGRTMIN_PLUS_3
        );
    }
}
