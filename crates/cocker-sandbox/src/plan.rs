//! What shall be done, as data: printed by `--debug`, compared by tests, walked by `prepare` and `assemble`.

use crate::capabilities::CapabilitySet;
use crate::cgroup::{DeviceRule, Place};
use crate::devices::DeviceNode;
use crate::label::Label;
use crate::limits::Limits;
use crate::masks::Mask;
use crate::seccomp::Filter;
use std::ffi::CString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// A user or group id as the host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u32);

/// `count` host ids from `first` on, which a sandbox sees as 0 to `count - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub first: HostId,
    pub count: u32,
}

impl IdRange {
    /// Whether a sandbox sees the ids that its maker sees, so that nothing has to be mapped: the case of an ordinary user's.
    pub fn is_unchanged(self) -> bool {
        self.first.0 == 0
    }
}

/// Everything about a sandbox before anything of it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The ids of its user namespace; none means the host's own ids and no user namespace.
    pub ids: Option<IdRange>,
    pub network: NetworkNamespace,
    /// Where its cgroup folders are.
    pub cgroup: Place,
    pub limits: Limits,
    /// What root inside may do with its folder in v2.
    pub subtree: Subtree,
    /// The only devices that may be used inside; none means every one that can be reached.
    pub devices: Option<Vec<DeviceRule>>,
    /// What its `/dev` has beside the usual ones.
    pub device_nodes: Vec<DeviceNode>,
    pub root: OverlayRoot,
    /// In the order in which they are mounted.
    pub mounts: Vec<Mount>,
    pub confinement: Confinement,
    pub hostname: String,
    /// What its `/etc/hosts` shall say of it; none leaves that file alone.
    pub names: Option<HostNames>,
    pub process: RootProcess,
}

/// What keeps root inside from the kernel that all share, beside ids and namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// In the order in which they are put on; all hold together.
    pub filters: Vec<Filter>,
    /// What root inside may have at most.
    pub capabilities: CapabilitySet,
    /// No program gives more than who executes it has: no set-id, no file capabilities.
    pub no_new_privileges: bool,
    /// Whether abstract sockets of others are out of reach where the kernel can keep them so. In a network of its own there are none.
    pub own_abstract_sockets: bool,
    /// In the order in which they are put on.
    pub masks: Vec<Mask>,
    /// Whether the kernel may write the memory of a process that crashes.
    pub core_dumps: CoreDumps,
    /// What the host's security module is asked for.
    pub label: Option<Label>,
}

/// Where the memory of a process that crashes goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreDumps {
    /// As the kernel is set up: into a file inside, by the pattern that is the host's.
    AsHost,
    /// Nowhere, and root inside cannot change that: the host's pattern names a program, which would be run outside.
    Off,
}

impl Confinement {
    /// Nothing does.
    pub fn none() -> Confinement {
        Confinement {
            filters: Vec::new(),
            capabilities: CapabilitySet::ALL,
            no_new_privileges: false,
            own_abstract_sockets: false,
            masks: Vec::new(),
            core_dumps: CoreDumps::AsHost,
            label: None,
        }
    }
}

impl CoreDumps {
    /// What keeps them inside on this host.
    pub fn that_stay_inside() -> CoreDumps {
        let pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap_or_default();
        CoreDumps::by_pattern(&pattern)
    }

    /// A program behind `|`, or a socket behind `@`, is the host's and would be given what the sandbox's processes hold
    /// (core(5)).
    fn by_pattern(pattern: &[u8]) -> CoreDumps {
        match pattern.first() {
            Some(b'|' | b'@') => CoreDumps::Off,
            _ => CoreDumps::AsHost,
        }
    }
}

/// Who has the cgroups below a sandbox's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// Nobody makes any.
    Closed,
    /// Root inside, as a manager of services needs it: it may make some and move processes among them, but not change the
    /// limits of the sandbox's own.
    Delegated,
}

/// The network that a sandbox sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The host's.
    Host,
    /// One of its own, new at each boot.
    New,
    /// One that is pinned at this path of the host and outlives the sandbox.
    Pinned(PathBuf),
}

/// A root file system stacked from folders on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayRoot {
    /// Absolute path of the folder that holds all the others; its mount is cloned once, with the ids mapped.
    pub base: PathBuf,
    /// Relative to `base`, lowest first; at most 500.
    pub lowers: Vec<PathBuf>,
    /// Relative to `base`, on one file system.
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// One mount below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: Source,
    /// Absolute path inside the sandbox.
    pub target: PathBuf,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Of the sandbox's own pid namespace, so made inside.
    Proc,
    /// Shows the network namespace of its maker, which the sandbox may not own, so made outside.
    Sysfs,
    /// A small tmpfs with the device nodes, which only the host's root can make, so made outside.
    Devices,
    /// An own instance; also brings the console.
    DevPts,
    /// POSIX shared memory.
    SharedMemory,
    /// POSIX message queues of the sandbox's own ipc namespace, so made inside.
    MessageQueues,
    /// The cgroup tree as the sandbox's cgroup namespace shows it.
    Cgroup,
    /// A file or folder of the host with everything mounted below it.
    Bind {
        host: PathBuf,
        ids: BindIds,
        /// Set-id programs and file capabilities are of no effect.
        no_set_id: bool,
    },
    /// A regular file that is kept for the sandbox on the host: mounted, with the ids mapped, where the sandbox has
    /// nothing of its own but a missing or empty file. Where it has, the boot goes on without.
    Supplied { file: PathBuf },
}

/// Whose ids the files of a bind mount show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindIds {
    /// Host id 0 is the sandbox's 0, and so on.
    Mapped,
    /// As on the host; what is outside the sandbox's range belongs to nobody.
    Raw,
}

/// A name that a sandbox has on a network, as `/etc/hosts` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNames {
    pub address: IpAddr,
    /// Letters, digits, `-` and `.`.
    pub hostname: String,
}

/// What a mount's target must be, and how a missing one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    Folder,
    File,
}

/// Process 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootProcess {
    /// The resident init.
    Init,
    /// A program of the sandbox; the resident init becomes its first child.
    Given {
        program: Program,
        /// The program and its arguments; a name without `/` is looked for in PATH of `environment`.
        arguments: Vec<CString>,
        /// `KEY=VALUE` each.
        environment: Vec<CString>,
    },
}

impl RootProcess {
    /// What it is where it was given; none for the resident init.
    pub(crate) fn program(&self) -> Option<Program> {
        match self {
            RootProcess::Init => None,
            RootProcess::Given { program, .. } => Some(*program),
        }
    }
}

/// What a given root process is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A manager of services that knows containers (systemd.io, CONTAINER_INTERFACE).
    Systemd,
    Other,
}

/// By this signal systemd halts the machine, at any time, in order (systemd(1)); the first real-time signal is 34 to programs of
/// the C library.
pub const SIGRTMIN_PLUS_3: i32 = 37;

impl Source {
    /// Says whether image links on the way to the target may be followed (inside the root, always).
    pub(crate) fn follows_links(&self) -> bool {
        matches!(self, Source::Bind { .. })
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Proc => f.write_str("proc")?,
            Source::Sysfs => f.write_str("sysfs")?,
            Source::Devices => f.write_str("devices")?,
            Source::DevPts => f.write_str("devpts")?,
            Source::SharedMemory => f.write_str("shared memory")?,
            Source::MessageQueues => f.write_str("mqueue")?,
            Source::Cgroup => f.write_str("cgroup2")?,
            Source::Bind { host, .. } => write!(f, "`{}`", host.display())?,
            Source::Supplied { file } => write!(f, "`{}`", file.display())?,
        }
        write!(f, " on `{}`", self.target.display())?;
        if matches!(self.source, Source::Supplied { .. }) {
            f.write_str(" where that is missing or empty")?;
        }
        if self.access == Access::ReadOnly {
            f.write_str(" read-only")?;
        }
        Ok(())
    }
}

impl fmt::Display for Confinement {
    /// A line for each thing that will be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mask in &self.masks {
            writeln!(f, "{mask}")?;
        }
        if self.capabilities != CapabilitySet::ALL {
            writeln!(f, "capabilities {}", self.capabilities)?;
        }
        if self.no_new_privileges {
            writeln!(f, "no new privileges")?;
        }
        if self.own_abstract_sockets {
            writeln!(f, "no abstract sockets of others")?;
        }
        if self.core_dumps == CoreDumps::Off {
            writeln!(f, "no core dumps")?;
        }
        if let Some(label) = &self.label {
            writeln!(f, "{label}")?;
        }
        for filter in &self.filters {
            writeln!(
                f,
                "filter of system calls: {} instructions",
                filter.length()
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Plan {
    /// One line for each thing that will be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ids {
            Some(IdRange { first, count }) => writeln!(f, "ids 0..{count} are {}..", first.0)?,
            None => writeln!(f, "ids are the host's")?,
        }
        match &self.network {
            NetworkNamespace::Host => {}
            NetworkNamespace::New => writeln!(f, "network namespace new")?,
            NetworkNamespace::Pinned(path) => {
                writeln!(f, "network namespace `{}`", path.display())?;
            }
        }
        writeln!(f, "cgroup {}", self.cgroup)?;
        write!(f, "{}", self.limits)?;
        if self.subtree == Subtree::Delegated {
            writeln!(f, "cgroups below it are delegated")?;
        }
        match &self.devices {
            Some(rules) => writeln!(f, "devices: {} rules", rules.len())?,
            None => writeln!(f, "devices: all")?,
        }
        for DeviceNode { place, rule, mode } in &self.device_nodes {
            let (major, minor) = (rule.major, rule.minor.unwrap_or(0));
            let place = place.display();
            writeln!(
                f,
                "device `/dev/{place}` is {major}:{minor}, mode {mode:o}, {}",
                rule.usage
            )?;
        }
        writeln!(f, "root from `{}`", self.root.base.display())?;
        for lower in &self.root.lowers {
            writeln!(f, "  layer `{}`", lower.display())?;
        }
        writeln!(f, "  upper `{}`", self.root.upper.display())?;
        for mount in &self.mounts {
            writeln!(f, "mount {mount}")?;
        }
        write!(f, "{}", self.confinement)?;
        writeln!(f, "hostname `{}`", self.hostname)?;
        if let Some(HostNames { address, hostname }) = &self.names {
            writeln!(f, "/etc/hosts: {address} is `{hostname}`")?;
        }
        match &self.process {
            RootProcess::Init => writeln!(f, "root process cockerinit"),
            RootProcess::Given { arguments, .. } => writeln!(f, "root process {arguments:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_dumps_that_would_be_given_to_a_program_outside_are_off() {
        for (pattern, expected) in [
            ("core\n", CoreDumps::AsHost),
            ("/var/crash/core.%p", CoreDumps::AsHost),
            ("", CoreDumps::AsHost),
            ("|/usr/share/apport/apport -p%p", CoreDumps::Off),
            ("@/run/systemd/coredump", CoreDumps::Off),
            ("@@/run/systemd/coredump", CoreDumps::Off),
        ] {
            assert_eq!(
                CoreDumps::by_pattern(pattern.as_bytes()),
                expected,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_plan_says_its_network_its_names_and_what_is_supplied() {
        let mut plan = Plan {
            ids: None,
            network: NetworkNamespace::New,
            cgroup: Place::unmanaged("group"),
            limits: Limits::default(),
            subtree: Subtree::Closed,
            devices: None,
            device_nodes: vec![],
            root: OverlayRoot {
                base: "/base".into(),
                lowers: vec!["layer".into()],
                upper: "upper".into(),
                work: "work".into(),
            },
            mounts: vec![Mount {
                source: Source::Supplied {
                    file: "/kept/resolv.conf".into(),
                },
                target: "/etc/resolv.conf".into(),
                access: Access::ReadWrite,
            }],
            confinement: Confinement::none(),
            hostname: "www".into(),
            names: Some(HostNames {
                address: [192, 0, 2, 7].into(),
                hostname: "www".into(),
            }),
            process: RootProcess::Init,
        };
        let expected = "\
ids are the host's
network namespace new
cgroup `group`
devices: all
root from `/base`
  layer `layer`
  upper `upper`
mount `/kept/resolv.conf` on `/etc/resolv.conf` where that is missing or empty
hostname `www`
/etc/hosts: 192.0.2.7 is `www`
root process cockerinit
";
        assert_eq!(plan.to_string(), expected);
        plan.network = NetworkNamespace::Pinned("/run/netns/nns1".into());
        let pinned = "network namespace `/run/netns/nns1`\n";
        assert!(plan.to_string().contains(pinned));
        plan.network = NetworkNamespace::Host;
        assert!(!plan.to_string().contains("network"));
    }
}
