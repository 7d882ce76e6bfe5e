//! A sandbox on a root file system of one layer, assembled and waiting for its go.
//!
//! For a supervisor it has a shell that waits until the socket to init ends, as the resident one would.

use cocker_sandbox::{
    Access, Confinement, Descriptor, HostId, IdRange, Limits, Mount, NetworkNamespace, OverlayRoot,
    Place, Plan, RootProcess, SandboxError, Source, Spawned, Subtree, Supervisor, usual_devices,
};
use rustix::fd::AsFd;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;

/// Host ids that belong to nobody.
pub const RANGE: IdRange = IdRange {
    first: HostId(0x7000_0000),
    count: 65_536,
};

/// Which file, or which namespace, a descriptor is open on.
pub fn identity(file: impl AsFd) -> (u64, u64) {
    let stat = rustix::fs::fstat(file).expect("it is open");
    (stat.st_dev, stat.st_ino)
}

/// The folders of a sandbox; they vanish with it.
pub struct Stock {
    folder: tempfile::TempDir,
}

impl Stock {
    /// Makes them, with what `fill` puts into the layer.
    pub fn new(fill: impl FnOnce(&Path)) -> Stock {
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
        for name in ["layer", "upper", "work"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        fill(&folder.path().join("layer"));
        Stock { folder }
    }

    /// What the sandbox has written lies here.
    pub fn upper(&self) -> PathBuf {
        self.folder.path().join("upper")
    }

    /// A plan with what every sandbox has mounted.
    pub fn plan(&self, network: NetworkNamespace) -> Plan {
        let mount = |source, target: &str| Mount {
            source,
            target: target.into(),
            access: Access::ReadWrite,
        };
        Plan {
            ids: Some(RANGE),
            network,
            cgroup: Place::unmanaged(format!("cocker-sandbox-test-{}", process::id())),
            limits: Limits::default(),
            subtree: Subtree::Closed,
            devices: Some(usual_devices()),
            device_nodes: vec![],
            root: OverlayRoot {
                base: self.folder.path().into(),
                lowers: vec!["layer".into()],
                upper: "upper".into(),
                work: "work".into(),
            },
            mounts: vec![
                mount(Source::Proc, "/proc"),
                mount(Source::Sysfs, "/sys"),
                mount(Source::Devices, "/dev"),
                mount(Source::DevPts, "/dev/pts"),
            ],
            confinement: Confinement::none(),
            hostname: "web".into(),
            names: None,
            process: RootProcess::Init,
        }
    }
}

/// A sandbox whose root process waits.
pub struct Booted {
    pub spawned: Spawned,
    /// Of the root process, as `spawn` said when it was born.
    pub pid: i32,
}

impl Booted {
    pub fn try_new(plan: Plan) -> Result<Booted, SandboxError> {
        let shell: &'static [u8] = fs::read("/bin/sh").expect("there is a shell").leak();
        let prepared = cocker_sandbox::prepare(plan, shell)?;
        let supervisor = Supervisor {
            program: shell,
            arguments: vec![c"sh".into(), c"-c".into(), c"exec cat <&3".into()],
            environment: vec![c"PATH=/usr/bin:/bin".into()],
            descriptors: vec![Descriptor::InitSocket, Descriptor::RootProcess],
        };
        let mut pid = 0;
        let spawned = cocker_sandbox::spawn(prepared, supervisor, b"console", |born| {
            pid = born.as_raw_nonzero().get();
        })?;
        assert_eq!(spawned.root_process().as_raw_nonzero().get(), pid);
        Ok(Booted { spawned, pid })
    }

    #[track_caller]
    pub fn new(plan: Plan) -> Booted {
        Booted::try_new(plan).expect("it is assembled")
    }

    /// A path of the sandbox, as the host reaches it.
    pub fn path(&self, inside: &str) -> PathBuf {
        format!("/proc/{}/root{inside}", self.pid).into()
    }

    /// A namespace of its root process.
    pub fn namespace(&self, kind: &str) -> (u64, u64) {
        let path = format!("/proc/{}/ns/{kind}", self.pid);
        identity(fs::File::open(path).expect("it waits"))
    }

    /// What is mounted there, as its root process sees it: the path below the root of the file system.
    pub fn mounted_on(&self, place: &str) -> Option<String> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.pid)).expect("it waits");
        let fields = |line: &str| line.split(' ').map(String::from).collect::<Vec<_>>();
        let found = mounts
            .lines()
            .map(fields)
            .find(|fields| fields[4] == place)?;
        Some(found[3].clone())
    }
}

/// The number after `key` in a process's status.
pub fn status(pid: i32, key: &str) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).expect("it has one")
}
