//! The list of containers: read from their records, never from their files; hundreds by several threads.

use crate::confinement::ConfinementSettings;
use crate::container::{Container, NetworkSettings};
use crate::control;
use crate::engine::Engine;
use crate::failure::{CleanUpError, ContainerError, EngineError};
use crate::pause::PAUSED;
use crate::request::Isolation;
use crate::restart::{RestartPolicy, Restarts};
use crate::state::{Record, Standing};
use cocker_image::Name;
use cocker_network::PortMapping;
use cocker_sandbox::{Cgroup, Group, Hierarchies};
use cocker_sys::shares::in_shares;
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Stopped,
    /// Pid of the root process on the host.
    Running(i32),
    /// The same of one whose processes stand still.
    Paused(i32),
    /// It has ended, or could not be booted, and is booted again after this time.
    Restarting(Duration),
    /// The state is broken: why, and what the user can do.
    Exception {
        why: String,
        remedy: String,
    },
}

/// Whether a list has what the kernel is asked for each container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    Taken,
    Left,
}

/// One line of the list.
#[derive(Clone, Debug)]
pub struct ContainerSummary {
    pub name: Name,
    /// As it was said: `a,b:1.0`.
    pub image: String,
    pub hostname: String,
    /// `HOST`, `BRIDGE` or `CUSTOM`; empty where the settings cannot be read.
    pub net: &'static str,
    /// Name of the network namespace; empty for `HOST`.
    pub netns: String,
    /// Of `BRIDGE` only, as are the next two.
    pub address: Option<Ipv4Addr>,
    /// The link by which it leaves the host; none: the default route's.
    pub uplink: Option<String>,
    pub ports: Vec<PortMapping>,
    /// Bytes of the writable layer, as measured at the last shutdown.
    pub size: u64,
    pub status: Status,
    /// How many of its processes were killed because memory ran out, since it was booted last; none where nothing counts them,
    /// or they were left out.
    pub oom_kills: Option<u64>,
    pub isolation: Isolation,
    pub confinement: ConfinementSettings,
    pub restart: RestartPolicy,
    /// None where it has not ended by itself since somebody booted it.
    pub restarts: Option<Restarts>,
    /// Whether it is booted with the host; what comes before it.
    pub enabled: Option<Vec<Name>>,
}

/// What is found out once for all of a list.
struct Cgroups {
    counts: Counts,
    hierarchies: Arc<Hierarchies>,
    group: Group,
    /// The names of those that are there, of whatever store.
    present: HashSet<String>,
    /// The containers of which somebody noted that they are paused.
    notes: HashSet<Name>,
    /// Until then what somebody has left may take to be removed, all together: no list waits for a process that does not go.
    deadline: Instant,
}

/// See there.
const MENDING_TIME: Duration = Duration::from_millis(300);

impl Engine {
    /// All containers by name. Where a supervisor or a client was killed, what it has left is removed on the way.
    pub fn containers(&self, counts: Counts) -> Result<Vec<ContainerSummary>, EngineError> {
        let (mut names, notes) = self.container_entries()?;
        names.sort();
        let hierarchies = Arc::new(Hierarchies::find());
        let group = self.group(&hierarchies);
        let cgroups = Cgroups {
            counts,
            present: Cgroup::names_in(&hierarchies, &group).into_iter().collect(),
            notes,
            deadline: Instant::now() + MENDING_TIME,
            group,
            hierarchies,
        };
        let seen = in_shares(&names, |names| {
            let summaries = names.iter().filter_map(|name| self.summary(&cgroups, name));
            Ok::<Vec<_>, Infallible>(summaries.collect())
        });
        let Ok(seen) = seen;
        Ok(seen.into_iter().flatten().collect())
    }

    /// The names of all containers, in no order.
    pub(crate) fn container_names(&self) -> Result<Vec<Name>, EngineError> {
        Ok(self.container_entries()?.0)
    }

    /// The names of all containers, and of those that are noted as paused.
    fn container_entries(&self) -> Result<(Vec<Name>, HashSet<Name>), EngineError> {
        let failed = |source| EngineError::List {
            folder: self.store.home().join(crate::container::CONTAINERS),
            source,
        };
        let (mut names, mut notes) = (Vec::new(), HashSet::new());
        let mut entries =
            rustix::fs::Dir::read_from(self.store.containers_folder()).map_err(failed)?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(failed)?;
            // What is staged or leaving starts with a dot, which no name does.
            let name = entry.file_name().to_str().ok();
            match name.and_then(|name| name.strip_prefix(PAUSED)) {
                Some(noted) => notes.extend(Name::parse(noted).ok()),
                None => names.extend(name.and_then(|name| Name::parse(name).ok())),
            }
        }
        Ok((names, notes))
    }

    /// `None` for one that has just been destroyed.
    fn summary(&self, cgroups: &Cgroups, name: &Name) -> Option<ContainerSummary> {
        let container = match Container::glance(&self.store, name) {
            Ok(container) => container,
            Err(ContainerError::Unknown { .. }) => return None,
            Err(error) => return Some(broken(name, &error)),
        };
        let cgroup_name = container.cgroup_name();
        let place = cgroups.group.place(&cgroup_name);
        let cgroup = Cgroup::below(&cgroups.hierarchies, &place);
        let counted = |record: Record| Some(record.oom_kills);
        let restarts = match container.settings.restart.is_no() {
            true => None,
            false => crate::restart::restarts(&container),
        };
        let again_in = restarts.as_ref().and_then(|restarts| restarts.again_in);
        let stopped = || again_in.map_or(Status::Stopped, Status::Restarting);
        let (status, size, oom_kills) = match container.state.standing() {
            Ok((Standing::Booted { pid }, record)) => {
                let is_noted = cgroups.notes.contains(name);
                let status = match is_noted && cgroup.is_frozen().unwrap_or(false) {
                    true => Status::Paused(pid),
                    false => Status::Running(pid),
                };
                let oom_kills = match cgroups.counts {
                    Counts::Taken => cgroup.oom_kills(),
                    Counts::Left => None,
                };
                (status, record.size, oom_kills)
            }
            Ok((Standing::InTransit, record)) => (stopped(), record.size, counted(record)),
            Ok((Standing::Stopped, record)) => {
                // The record of one that was booted when the host went down may say nothing of that; its socket does.
                let is_of_this_run = record.known_size().is_some();
                if cgroups.present.contains(&cgroup_name)
                    || (!is_of_this_run && control::is_there(&container))
                {
                    sweep(cgroups, &cgroup, &container);
                }
                (stopped(), record.size, counted(record))
            }
            Ok((Standing::Broken, record)) => {
                let status = self.mend(cgroups, &container);
                // Its files were measured then.
                let record = container.state.read().unwrap_or(record);
                (status, record.size, counted(record))
            }
            Err(errno) => {
                let why = "its lock cannot be read";
                (exception(why, &errno.to_string()), 0, None)
            }
        };
        let settings = container.settings;
        let (net, netns) = (settings.network.name(), settings.netns());
        let (address, uplink, ports) = match settings.network {
            NetworkSettings::Bridge {
                address,
                uplink,
                ports,
            } => (Some(address), uplink, ports),
            NetworkSettings::Host | NetworkSettings::Custom => (None, None, Vec::new()),
        };
        Some(ContainerSummary {
            name: name.clone(),
            image: settings.image,
            hostname: settings.hostname,
            net,
            netns,
            address,
            uplink,
            ports,
            size,
            status,
            oom_kills,
            isolation: settings.isolation,
            confinement: settings.confinement,
            restart: settings.restart,
            restarts,
            enabled: settings.enabled.map(|enabled| enabled.after),
        })
    }

    /// Does what a killed supervisor has left to do, unless somebody else is at work on the container.
    fn mend(&self, cgroups: &Cgroups, container: &Container) -> Status {
        let Some(_work) = container.try_lock_for_work() else {
            return Status::Stopped;
        };
        let record = match container.state.try_lock() {
            Ok(()) => container.state.read(),
            Err(_) => {
                return match container.state.standing() {
                    Ok((Standing::Booted { pid }, _)) => Status::Running(pid),
                    _ => Status::Stopped,
                };
            }
        };
        let record = match record {
            Ok(record) => record,
            Err(errno) => return exception("its record cannot be read", &errno.to_string()),
        };
        match self.clean_up_within(container, record, cgroups.time_left()) {
            Ok(()) => Status::Stopped,
            Err(CleanUpError::Stuck { who }) => Status::Exception {
                why: who.in_short(),
                remedy: format!("{who}; {}", who.hint()),
            },
            Err(error) => exception("what it has left cannot be removed", &error.to_string()),
        }
    }
}

impl Cgroups {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// A client that was killed before there was a process has left no record, only a folder.
fn sweep(cgroups: &Cgroups, cgroup: &Cgroup, container: &Container) {
    // Whoever boots it holds both, and removes the folder itself.
    let held = container.try_lock_for_work();
    if held.is_none() || container.state.try_lock().is_err() {
        return;
    }
    if let Err(errno) = cgroup.remove_within(cgroups.time_left()) {
        tracing::warn!("cannot remove the cgroup of `{}`: {errno}", container.name);
    }
    if let Err(errno) = control::remove(container) {
        tracing::warn!("cannot remove the socket of `{}`: {errno}", container.name);
    }
}

fn exception(why: &str, cause: &str) -> Status {
    Status::Exception {
        why: why.into(),
        remedy: format!("{cause}; mend that, or remove the container with `destroy --forcely`"),
    }
}

fn broken(name: &Name, error: &ContainerError) -> ContainerSummary {
    let why = match error {
        ContainerError::TooNew { .. } => "made by a newer cocker",
        _ => "its settings cannot be read",
    };
    ContainerSummary {
        name: name.clone(),
        image: String::new(),
        hostname: String::new(),
        net: "",
        netns: String::new(),
        address: None,
        uplink: None,
        ports: Vec::new(),
        size: 0,
        status: exception(why, &error.to_string()),
        oom_kills: None,
        isolation: Isolation::Contained,
        confinement: ConfinementSettings::default(),
        restart: RestartPolicy::No,
        restarts: None,
        enabled: None,
    }
}
