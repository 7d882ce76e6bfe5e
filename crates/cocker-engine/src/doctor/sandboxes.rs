//! What stands in the kernel: for booted containers as it should, for stopped ones and for nobody at all.

use crate::container::{CONTROL, Container, NetworkSettings};
use crate::control;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::housekeeping::Finding;
use crate::network::warning;
use crate::state::Standing;
use cocker_image::Name;
use cocker_image::inspection::chain;
use cocker_image::staging::is_free;
use cocker_network::{NetworkError, PinnedFor, SeenLink, Standing as Network};
use cocker_sandbox::{Cgroup, Group, Hierarchies};
use cocker_sys::namespace::stands_for_a_user;
use rustix::fs::{AtFlags, statat};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A cgroup without any process is nobody's after so long: between making one and living in it are milliseconds.
const DESERTED: Duration = Duration::from_secs(60);

/// Whoever has broken a transfer off may want to go on with it for so long.
const GOES_ON: Duration = Duration::from_secs(7 * 24 * 3600);

/// What `--fix` mends has this for a remedy.
pub(super) const FIX: &str = "cocker doctor --fix";

/// What the kernel has at one moment.
pub(super) struct Kernel {
    /// Nothing where it cannot be asked, or has nothing of ours.
    pub network: Network,
    pub hierarchies: Arc<Hierarchies>,
    pub group: Group,
    /// The names of cgroups, in whatever hierarchy.
    pub cgroups: BTreeSet<String>,
}

/// Something that is there for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Orphan {
    /// Elements of the table, of a container that is not there.
    Elements(String),
    Link(SeenLink),
    /// In /run/netns.
    Name(String),
    Cgroup(String),
    /// Elements of nobody who could be named.
    Strays(usize),
}

/// The store's containers by all that the kernel knows them by.
struct Known {
    names: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    links: BTreeSet<String>,
    /// One that cannot be read may be whose anything is.
    has_unreadable: bool,
}

impl Engine {
    pub(super) fn inspect_sandboxes(&self) -> Result<Vec<Finding>, EngineError> {
        let kernel = match self.kernel() {
            Ok(kernel) => kernel,
            // Why the network cannot be asked is told of the host.
            Err(_) => return Ok(Vec::new()),
        };
        let mut findings = Vec::new();
        for name in self.container_names()? {
            let Ok(container) = Container::open(&self.store, &name) else {
                continue;
            };
            match container.state.standing() {
                Ok((Standing::Booted { pid }, _)) => {
                    findings.extend(self.inspect_booted(&container, pid));
                }
                Ok((Standing::Stopped, _)) if !self.left_of(&container, &kernel).is_empty() => {
                    findings.extend(self.inspect_stopped(&container));
                }
                _ => {}
            }
        }
        let orphans = self.orphans(&kernel)?;
        findings.extend(orphans.iter().map(told));
        Ok(findings)
    }

    pub(super) fn kernel(&self) -> Result<Kernel, NetworkError> {
        let network = match stands_for_a_user() {
            true => Network::default(),
            false => cocker_network::standing(&self.store.home().to_string_lossy())?,
        };
        let hierarchies = Arc::new(Hierarchies::find());
        let group = self.group(&hierarchies);
        let mut cgroups = BTreeSet::new();
        cgroups.extend(Cgroup::names_in(&hierarchies, &group));
        cgroups.extend(Cgroup::names_in_legacy_alone(&hierarchies, &group));
        Ok(Kernel {
            network,
            hierarchies,
            group,
            cgroups,
        })
    }

    /// What a stopped container still has, in words. It means something while nobody can boot the container.
    pub(super) fn left_of(&self, container: &Container, kernel: &Kernel) -> Vec<String> {
        let mut left = Vec::new();
        if control::is_there(container) {
            left.push(format!("socket `{CONTROL}` of a supervisor that is dead"));
        }
        let cgroup = container.cgroup_name();
        if kernel.cgroups.contains(&cgroup) {
            left.push(format!("cgroup `{cgroup}`"));
        }
        let network = &kernel.network;
        let netns = container.settings.netns();
        for seen in network.names.iter().filter(|seen| seen.name == netns) {
            match (&seen.is, &container.settings.network) {
                // Kept from create to destroy.
                (PinnedFor::Store(_), NetworkSettings::Custom) => {}
                (PinnedFor::Unpinned(_), _) => {
                    left.push(format!(
                        "/run/netns/{netns}, where no namespace is kept any more"
                    ));
                }
                _ => left.push(format!("/run/netns/{netns}")),
            }
        }
        let holders = network.holders.iter();
        if holders
            .into_iter()
            .any(|(holder, _)| holder.container == container.name.as_str())
        {
            left.push("elements of table `cocker` of nf_tables".into());
        }
        let prefix = self.link_prefix(container);
        let links = network.links.iter();
        let links = links.filter(|link| Some(&link.prefix) == prefix.as_ref());
        left.extend(links.map(|link| format!("link `{}`", link.name)));
        left
    }

    /// The same with the container held, so that nobody boots or ends it meanwhile.
    fn inspect_stopped(&self, container: &Container) -> Option<Finding> {
        let _work = container.try_lock_for_work()?;
        container.state.try_lock().ok()?;
        let is_stopped = container.state.read().is_ok_and(|record| record.pid == 0);
        let left = self.left_of(container, &self.kernel().ok()?);
        (is_stopped && !left.is_empty()).then(|| {
            let what = format!("is not booted, and there is still {}", left.join(", "));
            Finding::wrong(format!("container {}", container.name), what, FIX)
        })
    }

    fn inspect_booted(&self, container: &Container, pid: i32) -> Vec<Finding> {
        let thing = format!("container {}", container.name);
        let mut findings = Vec::new();
        if !control::is_there(container) {
            let remedy = format!("end it, then boot it again: kill -9 {pid}");
            let what =
                format!("is booted, and its socket `{CONTROL}` is gone: nobody can talk to it");
            findings.push(Finding::wrong(&thing, what, remedy));
        }
        if !stands_for_a_user()
            && let Ok(Some(plan)) = self.network_plan(container)
        {
            match cocker_network::faults(&plan) {
                Ok(faults) if faults.is_empty() => {}
                Ok(faults) => findings.push(Finding::wrong(&thing, faults.join(", "), FIX)),
                Err(error) => findings.push(Finding::wrong(&thing, chain(&error), FIX)),
            }
            let bridge = &plan.bridge.name;
            for obstacle in cocker_network::obstacles(&plan).unwrap_or_default() {
                let warning = warning(&obstacle, bridge);
                findings.push(Finding::wrong(
                    format!("bridge {bridge}"),
                    warning.text,
                    warning.hint,
                ));
            }
        }
        // One that is just being ended has its things taken away.
        let is_booted = matches!(container.state.standing(), Ok((Standing::Booted { pid: now }, _)) if now == pid);
        match is_booted {
            true => findings,
            false => Vec::new(),
        }
    }

    /// What is there for nobody: then, and once more with all names held still.
    pub(super) fn orphans(&self, kernel: &Kernel) -> Result<Vec<Orphan>, EngineError> {
        let first = self.orphans_in(kernel)?;
        if first.is_empty() {
            return Ok(first);
        }
        let names = self.store.hold_still()?;
        let second = self.orphans_now();
        drop(names);
        let mut second = second?;
        second.retain(|orphan| first.contains(orphan));
        Ok(second)
    }

    /// The caller holds all names still.
    pub(super) fn orphans_now(&self) -> Result<Vec<Orphan>, EngineError> {
        match self.kernel() {
            Ok(kernel) => self.orphans_in(&kernel),
            Err(_) => Ok(Vec::new()),
        }
    }

    fn orphans_in(&self, kernel: &Kernel) -> Result<Vec<Orphan>, EngineError> {
        let known = self.known()?;
        let home = self.store.home().to_string_lossy();
        let network = &kernel.network;
        let mut orphans = Vec::new();
        let holders = network.holders.iter().map(|(holder, _)| &holder.container);
        let holders: BTreeSet<&String> = holders.filter(|it| !known.names.contains(*it)).collect();
        orphans.extend(holders.into_iter().cloned().map(Orphan::Elements));
        if network.strays > 0 {
            orphans.push(Orphan::Strays(network.strays));
        }
        if known.has_unreadable {
            return Ok(orphans);
        }
        let links = network.links.iter();
        let links =
            links.filter(|link| link.bridge.is_some() && !known.links.contains(&link.prefix));
        orphans.extend(links.cloned().map(Orphan::Link));
        let of_nobody = |is: &PinnedFor| match is {
            PinnedFor::Process => false,
            PinnedFor::Store(store) | PinnedFor::Unpinned(store) => {
                store.as_deref() == Some(&*home)
            }
        };
        let names = network.names.iter();
        let names =
            names.filter(|seen| !known.namespaces.contains(&seen.name) && of_nobody(&seen.is));
        orphans.extend(names.map(|seen| Orphan::Name(seen.name.clone())));
        let cgroups = kernel.cgroups.iter();
        let cgroups =
            cgroups.filter(|name| !known.cgroups.contains(*name) && is_a_containers(name));
        let is_deserted = |name: &&String| {
            let cgroup = Cgroup::below(&kernel.hierarchies, &kernel.group.place(name));
            cgroup.is_deserted(DESERTED)
        };
        orphans.extend(cgroups.filter(is_deserted).cloned().map(Orphan::Cgroup));
        Ok(orphans)
    }

    fn known(&self) -> Result<Known, EngineError> {
        let mut known = Known {
            names: BTreeSet::new(),
            cgroups: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            links: BTreeSet::new(),
            has_unreadable: false,
        };
        for name in self.container_names()? {
            match Container::open(&self.store, &name) {
                Ok(container) => {
                    known.cgroups.insert(container.cgroup_name());
                    known.namespaces.insert(container.settings.netns());
                    known.links.extend(self.link_prefix(&container));
                }
                Err(_) => known.has_unreadable = true,
            }
            known.names.insert(name.to_string());
        }
        Ok(known)
    }

    /// Transfers that were broken off long ago.
    pub(super) fn inspect_transfers(&self) -> Vec<Finding> {
        let folders = self.store.transfers_folder();
        let names = self.store.interrupted_transfers().unwrap_or_default();
        let is_old = |name: &String| {
            let changed = statat(folders, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            changed.is_ok_and(|stat| {
                let changed = Duration::from_secs(stat.st_mtime.try_into().unwrap_or(0));
                now.unwrap_or_default() > changed + GOES_ON
            })
        };
        let old = names.into_iter().filter(is_old);
        let free = old.filter(|name| is_free(folders, name));
        free.map(|name| {
            let what = "was broken off more than a week ago, and nobody goes on with it";
            Finding::hint(format!("transfer {name}"), what, "cocker prune")
        })
        .collect()
    }
}

/// `<name>.<16 digits>`, as a container's cgroup is called.
fn is_a_containers(cgroup: &str) -> bool {
    cgroup.rsplit_once('.').is_some_and(|(name, id)| {
        Name::parse(name).is_ok() && id.len() == 16 && id.bytes().all(|it| it.is_ascii_hexdigit())
    })
}

pub(super) fn thing_of(orphan: &Orphan) -> String {
    match orphan {
        Orphan::Elements(container) => format!("elements of {}", container.escape_debug()),
        Orphan::Link(link) => format!("link {}", link.name),
        Orphan::Name(name) => format!("name /run/netns/{name}"),
        Orphan::Cgroup(name) => format!("cgroup {name}"),
        Orphan::Strays(_) => "elements of nobody".into(),
    }
}

fn told(orphan: &Orphan) -> Finding {
    let what = match orphan {
        Orphan::Elements(_) => {
            "are in table `cocker` of nf_tables, and there is no such container".to_string()
        }
        Orphan::Link(link) => {
            let bridge = link.bridge.as_deref().unwrap_or_default();
            format!("is a port of bridge `{bridge}`, and no container has it")
        }
        Orphan::Name(_) => "is that of a container that is not there".into(),
        Orphan::Cgroup(_) => "has no process, and no container of this store has it".into(),
        Orphan::Strays(count) => {
            format!(
                "are in table `cocker` of nf_tables, {count} of an address that no container has there"
            )
        }
    };
    Finding::wrong(thing_of(orphan), what, FIX)
}
