//! One container's folder: its settings on disk, its lock for commands, its state.

use crate::confinement::ConfinementSettings;
use crate::failure::ContainerError;
use crate::limits::LimitSettings;
use crate::request::{Isolation, VolumeRequest};
use crate::state::{Record, Standing, StateFile};
use cocker_image::{LayerId, Name, Store, Version};
use cocker_network::PortMapping;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// File names in a container's folder.
pub(crate) const SETTINGS: &str = "container.json";
pub(crate) const CONTROL: &str = "control";
pub(crate) const UPPER: &str = "files/upper";
pub(crate) const WORK: &str = "files/work";
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
        let folder = open_folder(store, name)?;
        let settings = read_settings(&folder, name)?;
        let state = StateFile::open(folder.as_fd()).map_err(|source| unreadable(name, source))?;
        Ok(Container {
            name: name.clone(),
            folder,
            settings,
            state,
        })
    }

    /// Holds the container against other commands, if none works on it; never waits, so it may be called by whoever
    /// holds another container.
    pub(crate) fn try_lock_for_work(&self) -> Option<WorkLock> {
        self.lock(FlockOperation::NonBlockingLockExclusive).ok()
    }

    /// Says whether no other command holds it for itself.
    pub(crate) fn is_free_to_share(&self) -> bool {
        self.lock(FlockOperation::NonBlockingLockShared).is_ok()
    }

    fn lock(&self, operation: FlockOperation) -> Result<WorkLock, Errno> {
        // An own open file: the lock ends with it, and not with some copy of the folder's descriptor elsewhere.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, operation))?;
        Ok(WorkLock(lock))
    }

    /// Looks the container up and holds it against other commands.
    pub(crate) fn open_for_work(
        store: &Store,
        name: &Name,
    ) -> Result<(Container, WorkLock), ContainerError> {
        Container::open_locked(store, name, FlockOperation::LockExclusive)
    }

    /// Looks the container up and holds it against commands that would change what it is, among them a boot; others that
    /// share it may go on.
    pub(crate) fn open_shared(
        store: &Store,
        name: &Name,
    ) -> Result<(Container, WorkLock), ContainerError> {
        Container::open_locked(store, name, FlockOperation::LockShared)
    }

    fn open_locked(
        store: &Store,
        name: &Name,
        operation: FlockOperation,
    ) -> Result<(Container, WorkLock), ContainerError> {
        loop {
            let mut container = Container::open(store, name)?;
            // Waits until no other command works on the container. What was read before may be old by then.
            let lock = container
                .lock(operation)
                .map_err(|source| ContainerError::Lock {
                    container: name.clone(),
                    source,
                })?;
            // Whoever held it may have destroyed the container and somebody made a new one of that name.
            let is_same = match open_folder(store, name) {
                Ok(now) => is_same_file(&now, &container.folder),
                Err(ContainerError::Unknown { .. }) => false,
                Err(error) => return Err(error),
            };
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
                return Ok((container, lock));
            }
        }
    }

    /// Takes the lock that says "booted", for work that needs a stopped container. Where the last supervisor is just
    /// doing its last work, waits for it.
    pub(crate) fn hold_stopped(&self) -> Result<Record, ContainerError> {
        let reading = |source| unreadable(&self.name, source);
        match self.state.try_lock() {
            Ok(()) => {}
            Err(Errno::AGAIN) => match self.state.standing().map_err(reading)?.0 {
                Standing::Booted { pid } => {
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

    pub(crate) fn write_settings(&self, settings: &ContainerSettings) -> Result<(), Errno> {
        write_settings(&self.folder, settings)
    }
}

fn open_folder(store: &Store, name: &Name) -> Result<OwnedFd, ContainerError> {
    let opened = rustix::fs::openat2(
        store.containers_folder(),
        name.as_str(),
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
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

fn is_same_file(one: &OwnedFd, other: &OwnedFd) -> bool {
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
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let bytes = rustix::fs::openat(folder, SETTINGS, flags, Mode::empty())
        .and_then(|file| read_all(&file))
        .map_err(|source| unreadable(name, source))?;
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

fn read_all(file: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; rustix::fs::fstat(file)?.st_size as usize];
    let mut length = 0;
    while length < bytes.len() {
        match rustix::io::read(file, &mut bytes[length..])? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Writes new, makes it durable, renames: whoever reads sees the old or the new.
pub(crate) fn write_settings(folder: &OwnedFd, settings: &ContainerSettings) -> Result<(), Errno> {
    let json = serde_json::to_vec_pretty(settings).expect("settings are plain data");
    let staged = ".new-container.json";
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, staged, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = json.as_slice();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::fsync(&file)?;
    rustix::fs::renameat(folder, staged, folder, SETTINGS)?;
    rustix::fs::fsync(folder)
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
