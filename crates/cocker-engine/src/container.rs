//! One container's folder: its settings on disk, its lock for commands, its state.

use crate::confinement::ConfinementSettings;
use crate::failure::ContainerError;
use crate::limits::LimitSettings;
use crate::request::{Isolation, VolumeRequest};
use crate::restart::RestartPolicy;
use crate::state::{Record, Standing, StateFile};
use cocker_image::{LayerId, Name, Store, Version};
use cocker_network::PortMapping;
use cocker_sys::fault;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Instant;

/// File names in a container's folder.
pub(crate) const SETTINGS: &str = "container.json";
/// As which records are written before they have their names; see [`sweep_staged`].
pub(crate) const STAGED_SETTINGS: &str = ".new-container.json";
const STAGED: [&str; 5] = [
    STAGED_SETTINGS,
    ".new-seccomp.json",
    ".new-seccomp.bpf",
    ".new-resolv.conf",
    ".new-resolv.conf.supplied",
];
pub(crate) const CONTROL: &str = "control";
pub(crate) const UPPER: &str = "files/upper";
pub(crate) const WORK: &str = "files/work";
/// What overlayfs makes there for itself at each mount, and removes first where it finds it.
pub(crate) const WORK_OF_OVERLAY: &str = "files/work/work";
/// Where that of the last boot is put out of the way; the supervisor removes it when the container is ready.
pub(crate) const WORK_OF_LAST_BOOT: &str = "files/work/last";
/// An empty folder, below the writable layer of a container that stands on no layer.
pub(crate) const NOTHING: &str = "files/nothing";

/// The folder of all containers, in COCKER_HOME.
pub(crate) const CONTAINERS: &str = "containers";

/// How many digits of a container's id are in the name of its network namespace.
const NETNS_DIGITS: usize = 12;

/// `container.json`: what was decided at create, and changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerSettings {
    /// Version of this record's shape.
    pub format: u32,
    /// 16 hexadecimal digits; names what outlives processes, such as the cgroup folder.
    pub id: String,
    /// As the user said it.
    pub image: String,
    /// Lowest first.
    pub layers: Vec<LayerId>,
    pub hostname: String,
    pub volumes: Vec<VolumeRequest>,
    pub isolation: Isolation,
    /// Missing where everything is as usual.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub confinement: ConfinementSettings,
    /// The host's in records from before there were others.
    #[serde(default)]
    pub network: NetworkSettings,
    /// Number of its range of host ids.
    pub id_slot: u32,
    /// Given with `-e`; none means cockerinit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_process: Option<Vec<String>>,
    /// What it may use, as it was said at a boot or since.
    #[serde(default, skip_serializing_if = "is_unlimited")]
    pub limits: LimitSettings,
    /// What is done when it has ended by itself.
    #[serde(default, skip_serializing_if = "RestartPolicy::is_no")]
    pub restart: RestartPolicy,
    /// Missing where it is not booted with the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<Enabled>,
    /// The version of the image whose own layer became the writable one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted_from: Option<Version>,
    /// What the images say of the environment of commands, `NAME=value` each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// What that image said of how its program is run, where it was a foreign one; an image made of this says it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_config: Option<serde_json::Value>,
}

fn is_usual(confinement: &ConfinementSettings) -> bool {
    *confinement == ConfinementSettings::default()
}

fn is_unlimited(limits: &LimitSettings) -> bool {
    *limits == LimitSettings::default()
}

/// How a container is booted with the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Enabled {
    /// What is booted before it, where that is enabled too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Name>,
}

/// The network that a container is in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub(crate) enum NetworkSettings {
    /// The host's.
    #[default]
    Host,
    /// Its own, linked to a bridge of the host.
    Bridge {
        address: Ipv4Addr,
        /// The link by which it leaves the host; none: the default route's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uplink: Option<String>,
        ports: Vec<PortMapping>,
    },
    /// Its own, with nothing in it but what the administrator puts there.
    Custom,
}

/// The newest shape of `container.json` that this program knows.
pub(crate) const FORMAT: u32 = 1;

impl ContainerSettings {
    /// Name of the container's network namespace; empty where it is the host's.
    pub(crate) fn netns(&self) -> String {
        match self.network {
            NetworkSettings::Host => String::new(),
            NetworkSettings::Bridge { .. } | NetworkSettings::Custom => {
                let digits: String = self.id.chars().take(NETNS_DIGITS).collect();
                format!("nns{}", digits.to_ascii_uppercase())
            }
        }
    }
}

impl NetworkSettings {
    /// As it is listed.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            NetworkSettings::Host => "HOST",
            NetworkSettings::Bridge { .. } => "BRIDGE",
            NetworkSettings::Custom => "CUSTOM",
        }
    }

    /// The container's address, where it has one of its own.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        match self {
            NetworkSettings::Bridge { address, .. } => Some(*address),
            NetworkSettings::Host | NetworkSettings::Custom => None,
        }
    }
}

/// An existing container.
#[derive(Debug)]
pub(crate) struct Container {
    pub name: Name,
    pub folder: OwnedFd,
    pub settings: ContainerSettings,
    pub state: StateFile,
}

/// While it lives, no other command changes the container; dropped within milliseconds but for the end of a boot.
#[derive(Debug)]
pub(crate) struct WorkLock(OwnedFd);

impl WorkLock {
    /// The locked folder itself, for whoever takes the lock over.
    pub(crate) fn into_folder(self) -> OwnedFd {
        self.0
    }
}

impl Container {
    /// Looks the container up.
    pub(crate) fn open(store: &Store, name: &Name) -> Result<Container, ContainerError> {
        Container::open_by(store, name, OFlags::RDONLY)
    }

    /// The same for whoever only looks, at many: the descriptor of its folder is one that names it and can do no more.
    pub(crate) fn glance(store: &Store, name: &Name) -> Result<Container, ContainerError> {
        Container::open_by(store, name, OFlags::PATH)
    }

    fn open_by(store: &Store, name: &Name, how: OFlags) -> Result<Container, ContainerError> {
        loop {
            let folder = open_folder(store, name, how)?;
            let opened = read_settings(&folder, name).and_then(|settings| {
                let state = StateFile::open(folder.as_fd());
                Ok((settings, state.map_err(|source| unreadable(name, source))?))
            });
            match opened {
                Ok((settings, state)) => {
                    return Ok(Container {
                        name: name.clone(),
                        folder,
                        settings,
                        state,
                    });
                }
                // Or somebody has just taken its name away, and now its files.
                Err(error) if is_still(store, name, &folder)? => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Holds the container against other commands, if none works on it; never waits, so it may be called by whoever
    /// holds another container.
    pub(crate) fn try_lock_for_work(&self) -> Option<WorkLock> {
        let at_once = Wait::For(FlockOperation::NonBlockingLockExclusive);
        self.lock(at_once).ok()
    }

    /// Says whether no other command holds it for itself.
    pub(crate) fn is_free_to_share(&self) -> bool {
        let at_once = Wait::For(FlockOperation::NonBlockingLockShared);
        self.lock(at_once).is_ok()
    }

    fn lock(&self, wait: Wait) -> Result<WorkLock, Errno> {
        // An own open file: the lock ends with it, and not with some copy of the folder's descriptor elsewhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?;
        match wait {
            Wait::For(operation) => cocker_sys::lock::flock(&lock, operation)?,
            Wait::Until(deadline) => cocker_sys::lock::flock_until(&lock, deadline)?,
        }
        Ok(WorkLock(lock))
    }

    /// Looks the container up and holds it against other commands.
    pub(crate) fn open_for_work(
        store: &Store,
        name: &Name,
    ) -> Result<(Container, WorkLock), ContainerError> {
        Container::open_locked(store, name, Wait::For(FlockOperation::LockExclusive))
    }

    /// Looks the container up and holds it against other commands, waiting for them up to a moment.
    pub(crate) fn open_for_work_until(
        store: &Store,
        name: &Name,
        deadline: Instant,
    ) -> Result<(Container, WorkLock), ContainerError> {
        Container::open_locked(store, name, Wait::Until(deadline))
    }

    /// Looks the container up and holds it against commands that would change what it is, among them a boot; others that
    /// share it may go on.
    pub(crate) fn open_shared(
        store: &Store,
        name: &Name,
    ) -> Result<(Container, WorkLock), ContainerError> {
        Container::open_locked(store, name, Wait::For(FlockOperation::LockShared))
    }

    fn open_locked(
        store: &Store,
        name: &Name,
        wait: Wait,
    ) -> Result<(Container, WorkLock), ContainerError> {
        loop {
            let mut container = Container::open(store, name)?;
            // Waits until no other command works on the container. What was read before may be old by then.
            let lock = match container.lock(wait) {
                Ok(lock) => lock,
                // It is gone, and so is its folder.
                Err(Errno::NOENT) => continue,
                Err(Errno::TIMEDOUT) => {
                    return Err(ContainerError::AtWork {
                        container: name.clone(),
                        who: who_holds(&container.folder),
                    });
                }
                Err(source) => {
                    return Err(ContainerError::Lock {
                        container: name.clone(),
                        source,
                    });
                }
            };
            // Whoever held it may have destroyed the container and somebody made a new one of that name.
            let is_same = is_still(store, name, &container.folder)?;
            // Or they died while they gave its files to another name, or took them from there.
            if store.is_changing() {
                store.lock().map_err(|source| ContainerError::Changing {
                    container: name.clone(),
                    source: Box::new(source),
                })?;
                continue;
            }
            if is_same {
                // Or they changed its settings, which must not be written back as they were.
                container.settings = read_settings(&container.folder, name)?;
                if !matches!(wait, Wait::For(FlockOperation::LockShared)) {
                    sweep_staged(&container.folder);
                }
                return Ok((container, lock));
            }
        }
    }

    /// Takes the lock that says "booted", for work that needs a stopped container. Where the last supervisor is just
    /// doing its last work, or its root process has ended and it is about to, waits for it.
    pub(crate) fn hold_stopped(&self) -> Result<Record, ContainerError> {
        let reading = |source| unreadable(&self.name, source);
        match self.state.try_lock() {
            Ok(()) => {}
            Err(Errno::AGAIN) => match self.state.standing().map_err(reading)?.0 {
                Standing::Booted { pid } if !has_ended(pid) => {
                    return Err(ContainerError::Booted {
                        container: self.name.clone(),
                        pid,
                    });
                }
                // Nobody boots it while we hold it for work, so this ends with the release.
                _ => self.state.wait_lock().map_err(reading)?,
            },
            Err(source) => return Err(reading(source)),
        }
        self.state.read().map_err(reading)
    }

    /// The same, waiting up to a moment.
    pub(crate) fn hold_stopped_until(&self, deadline: Instant) -> Result<Record, ContainerError> {
        let reading = |source| unreadable(&self.name, source);
        if let Standing::Booted { pid } = self.state.standing().map_err(reading)?.0 {
            return Err(ContainerError::Booted {
                container: self.name.clone(),
                pid,
            });
        }
        match self.state.wait_lock_until(deadline) {
            Err(Errno::TIMEDOUT) => Err(ContainerError::AtWork {
                container: self.name.clone(),
                who: who_holds(self.state.as_fd()),
            }),
            Err(source) => Err(reading(source)),
            Ok(()) => self.state.read().map_err(reading),
        }
    }

    /// The pid of the root process, for a command that needs a booted container.
    pub(crate) fn booted_pid(&self) -> Result<i32, ContainerError> {
        let (standing, _) = self
            .state
            .standing()
            .map_err(|source| unreadable(&self.name, source))?;
        match standing {
            Standing::Booted { pid } => Ok(pid),
            _ => Err(self.not_booted()),
        }
    }

    /// What is said where it is not booted, or not any more.
    pub(crate) fn not_booted(&self) -> ContainerError {
        ContainerError::NotBooted {
            container: self.name.clone(),
        }
    }

    /// What its cgroup is called in the group of all containers'.
    pub(crate) fn cgroup_name(&self) -> String {
        format!("{}.{}", self.name, self.settings.id)
    }

    /// What is said where its root process has ended and the supervisor has not said so yet.
    pub(crate) fn just_ended(&self) -> ContainerError {
        ContainerError::JustEnded {
            container: self.name.clone(),
        }
    }

    /// Whether its root process has ended, of a container that is still called booted.
    pub(crate) fn is_ended(&self) -> bool {
        self.booted_pid().map_or(true, has_ended)
    }

    pub(crate) fn write_settings(&self, settings: &ContainerSettings) -> Result<(), Errno> {
        write_settings(&self.folder, settings)
    }
}

/// How long a lock may be waited for.
#[derive(Clone, Copy)]
enum Wait {
    /// As long as it takes, or not at all.
    For(FlockOperation),
    Until(Instant),
}

/// "process 4711 (`cocker put web`)", or "another process" where that cannot be told.
fn who_holds(file: impl AsFd) -> String {
    let holders = cocker_sys::lock::holders(file);
    let mut named = holders
        .iter()
        .map(|holder| format!("process {} (`{}`)", holder.pid, holder.command));
    named.next().unwrap_or_else(|| "another process".into())
}

fn open_folder(store: &Store, name: &Name, how: OFlags) -> Result<OwnedFd, ContainerError> {
    let opened = rustix::fs::openat2(
        store.containers_folder(),
        name.as_str(),
        how | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    );
    opened.map_err(|source| match source {
        Errno::NOENT => ContainerError::Unknown {
            container: name.clone(),
        },
        source => unreadable(name, source),
    })
}

/// Whether the root process of a container that is still locked has ended: what is left of it has no root any more.
fn has_ended(pid: i32) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, crate::account::root_path(pid), flags, Mode::empty());
    matches!(root, Err(Errno::NOENT | Errno::SRCH))
}

/// Whether this is the folder of that name, and not that of a container that was there before.
fn is_still(store: &Store, name: &Name, folder: &OwnedFd) -> Result<bool, ContainerError> {
    match open_folder(store, name, OFlags::PATH) {
        Ok(now) => Ok(is_same_file(&now, folder)),
        Err(ContainerError::Unknown { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) fn is_same_file(one: &OwnedFd, other: &OwnedFd) -> bool {
    match (rustix::fs::fstat(one), rustix::fs::fstat(other)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn unreadable(name: &Name, source: Errno) -> ContainerError {
    ContainerError::Read {
        container: name.clone(),
        source,
    }
}

fn read_settings(folder: &OwnedFd, name: &Name) -> Result<ContainerSettings, ContainerError> {
    let bytes = read_bytes(folder).map_err(|source| unreadable(name, source))?;
    let damaged = |source| ContainerError::Damaged {
        container: name.clone(),
        source,
    };
    #[derive(Deserialize)]
    struct Shape {
        format: u32,
    }
    let shape: Shape = serde_json::from_slice(&bytes).map_err(damaged)?;
    if shape.format > FORMAT {
        return Err(ContainerError::TooNew {
            container: name.clone(),
            format: shape.format,
        });
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}

fn read_bytes(folder: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(folder, SETTINGS, flags, Mode::empty()).and_then(|file| read_all(&file))
}

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    // Most are shorter, and then one read has all.
    let mut bytes = vec![0u8; 2048];
    let mut length = 0;
    loop {
        let room = bytes.len() - length;
        let more = rustix::io::read(file, &mut bytes[length..])?;
        length += more;
        if more < room {
            bytes.truncate(length);
            return Ok(bytes);
        }
        bytes.resize(2 * bytes.len(), 0);
    }
}

/// Writes new, makes it durable, renames: whoever reads sees the old or the new.
pub(crate) fn write_settings(folder: &OwnedFd, settings: &ContainerSettings) -> Result<(), Errno> {
    let before = read_bytes(folder).ok();
    let rename = || rustix::fs::renameat(folder, STAGED_SETTINGS, folder, SETTINGS);
    stage_settings(folder, settings)
        .and_then(|()| fault::step("settings.rename", rename))
        .inspect_err(|_| sweep_staged(folder))?;
    let synced = fault::step("settings.sync.name", || rustix::fs::fsync(folder));
    if let (Err(_), Some(before)) = (&synced, before) {
        // What cannot be brought to disk has not been written.
        let back = write_staged(folder, &before)
            .and_then(|_| rustix::fs::renameat(folder, STAGED_SETTINGS, folder, SETTINGS));
        if let Err(errno) = back {
            tracing::warn!(%errno, "the settings stay as they were written");
        }
    }
    synced
}

/// Writes them under the name of a file that is being written, and to disk.
pub(crate) fn stage_settings(folder: &OwnedFd, settings: &ContainerSettings) -> Result<(), Errno> {
    let json = serde_json::to_vec_pretty(settings).expect("settings are plain data");
    let file = write_staged(folder, &json)?;
    fault::step("settings.sync", || rustix::fs::fsync(&file))
}

/// Removes records that were being written into a container's folder. The caller holds the container against others, so
/// whoever wrote them is dead or has failed.
pub(crate) fn sweep_staged(folder: &OwnedFd) {
    for name in STAGED {
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => tracing::warn!(%errno, name, "cannot sweep a leftover"),
        }
    }
}

fn write_staged(folder: &OwnedFd, json: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let make = || rustix::fs::openat(folder, STAGED_SETTINGS, flags, mode);
    let file = fault::step("settings.make", make)?;
    let mut rest = json;
    while !rest.is_empty() {
        let written = fault::step("settings.write", || rustix::io::write(&file, rest))?;
        rest = &rest[written..];
    }
    Ok(file)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn settings() -> ContainerSettings {
        ContainerSettings {
            format: FORMAT,
            id: "098f6bcd4621d373".into(),
            image: String::new(),
            layers: vec![],
            hostname: "web".into(),
            volumes: vec![],
            isolation: Isolation::Contained,
            confinement: ConfinementSettings::default(),
            network: NetworkSettings::Host,
            id_slot: 0,
            root_process: None,
            limits: LimitSettings::default(),
            restart: RestartPolicy::default(),
            enabled: None,
            converted_from: None,
            environment: vec![],
            image_config: None,
        }
    }

    /// The folder of a container `web`, made by hand.
    fn make(store: &Store) -> Name {
        let folder = store.home().join(CONTAINERS).join("web");
        std::fs::create_dir(&folder).expect("the store is new");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&folder, flags, Mode::empty()).expect("just made");
        StateFile::make(folder.as_fd(), 0).expect("the folder is new");
        write_settings(&folder, &settings()).expect("the folder is new");
        Name::parse("web").expect("a name")
    }

    #[test]
    fn a_network_comes_back_as_it_was_written() {
        let bridge = NetworkSettings::Bridge {
            address: Ipv4Addr::new(166, 88, 0, 2),
            uplink: Some("eth0".into()),
            ports: PortMapping::parse_list("8080:80,127.0.0.1:53:53/udp").expect("a list"),
        };
        let expected = serde_json::json!({
            "mode": "bridge", "address": "166.88.0.2", "uplink": "eth0", "ports": ["8080:80", "127.0.0.1:53:53/udp"],
        });
        assert_eq!(serde_json::to_value(&bridge).expect("plain data"), expected);
        for network in [NetworkSettings::Host, bridge, NetworkSettings::Custom] {
            let written = serde_json::to_vec(&network).expect("plain data");
            let read: NetworkSettings = serde_json::from_slice(&written).expect("just written");
            assert_eq!(read, network);
        }
        let damaged =
            r#"{"mode": "bridge", "address": "166.88.0.2", "ports": ["65535-65536:1-2"]}"#;
        assert!(serde_json::from_str::<NetworkSettings>(damaged).is_err());
    }

    #[test]
    fn a_record_without_a_network_is_of_a_container_in_the_hosts() {
        let mut record = serde_json::to_value(settings()).expect("plain data");
        let removed = record.as_object_mut().and_then(|it| it.remove("network"));
        assert_eq!(removed, Some(serde_json::json!({ "mode": "host" })));
        let read: ContainerSettings = serde_json::from_value(record).expect("as it was before");
        assert_eq!(read, settings());
    }

    #[test]
    fn a_network_namespace_is_named_by_the_containers_id() {
        let mut settings = settings();
        assert_eq!(settings.netns(), "");
        settings.network = NetworkSettings::Custom;
        assert_eq!(settings.netns(), "nns098F6BCD4621");
        settings.id = "ab".into();
        assert_eq!(settings.netns(), "nnsAB");
    }

    #[test]
    fn of_two_commands_at_once_the_second_sees_what_the_first_changed() {
        const ROUNDS: usize = 100;
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(home.path()).expect("the folder is ours");
        let name = make(&store);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let (mut container, _work) =
                            Container::open_for_work(&store, &name).expect("it is there");
                        container.settings.image.push('x');
                        container
                            .write_settings(&container.settings)
                            .expect("it is ours");
                    }
                });
            }
        });
        let container = Container::open(&store, &name).expect("it is there");
        assert_eq!(container.settings.image.len(), 2 * ROUNDS);
    }
}
