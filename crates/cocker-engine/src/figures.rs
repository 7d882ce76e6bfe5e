//! What booted containers use: figures of the kernel's, read without a lock and without asking anything inside.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{ContainerError, EngineError};
use crate::state::Standing;
use cocker_image::Name;
use cocker_network::LinkTraffic;
use cocker_sandbox::{FigureReader, Figures, Hierarchies};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Whose figures are wanted.
#[derive(Clone, Copy, Debug)]
pub enum Watched<'a> {
    AllBooted,
    /// Those of these that are booted.
    Those(&'a [Name]),
    /// Each of these must be booted.
    Each(&'a [Name]),
}

/// One container's figures at one moment.
#[derive(Clone, Debug)]
pub struct ContainerFigures {
    pub name: Name,
    /// Root process on the host; with another one it was booted anew.
    pub pid: i32,
    /// The moment, as time since the host's boot.
    pub taken: Duration,
    /// When its root process was started, on the same clock. None where that cannot be read.
    pub started: Option<Duration>,
    pub figures: Figures,
    /// Of its link to the bridge; none for a container without one.
    pub traffic: Option<Traffic>,
}

/// What went over a container's link, as the container sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub received: u64,
    /// Bytes.
    pub sent: u64,
    pub received_packets: u64,
    pub sent_packets: u64,
}

impl ContainerFigures {
    /// How long it has been booted.
    pub fn uptime(&self) -> Option<Duration> {
        self.taken.checked_sub(self.started?)
    }
}

impl Engine {
    /// The figures of booted containers, by name. One that ends meanwhile is left out.
    ///
    /// # Errors
    /// With [`Watched::Each`], one that is not there or not booted.
    pub fn figures(&self, watched: Watched<'_>) -> Result<Vec<ContainerFigures>, EngineError> {
        let mut names = match watched {
            Watched::AllBooted => self.container_names()?,
            Watched::Those(names) | Watched::Each(names) => names.to_vec(),
        };
        names.sort();
        names.dedup();
        let hierarchies = Arc::new(Hierarchies::find());
        let group = self.group(&hierarchies);
        let mut reader = FigureReader::open(&hierarchies, &group);
        let mut links = None;
        let mut all = Vec::new();
        for name in &names {
            match self.figures_of(name, &mut reader, &mut links) {
                Ok(figures) => all.push(figures),
                Err(source) if matches!(watched, Watched::Each(_)) => {
                    return Err(EngineError::Figures {
                        container: name.clone(),
                        source,
                    });
                }
                Err(ContainerError::NotBooted { .. } | ContainerError::Unknown { .. }) => {}
                Err(error) => tracing::debug!("no figures: {error}"),
            }
        }
        Ok(all)
    }

    fn figures_of(
        &self,
        name: &Name,
        reader: &mut FigureReader,
        links: &mut Option<Links>,
    ) -> Result<ContainerFigures, ContainerError> {
        let container = Container::open(&self.store, name)?;
        let pid = container.booted_pid()?;
        let taken = since_boot();
        let figures = reader.read(&container.cgroup_name());
        let figures = figures.ok_or_else(|| container.not_booted())?;
        let traffic = self
            .link_prefix(&container)
            .and_then(|prefix| links.get_or_insert_with(Links::read).traffic(&prefix));
        let started = started(pid);
        // What was read is only then this boot's.
        match container.state.standing() {
            Ok((Standing::Booted { pid: now }, _)) if now == pid => {}
            _ => return Err(container.not_booted()),
        }
        Ok(ContainerFigures {
            name: name.clone(),
            pid,
            taken,
            started,
            figures,
            traffic,
        })
    }
}

/// The host's links to containers, read once for all of them.
struct Links(HashMap<String, LinkTraffic>);

impl Links {
    fn read() -> Links {
        let all = cocker_network::traffic().unwrap_or_else(|error| {
            tracing::debug!("no figures of links: {error}");
            Vec::new()
        });
        let mut links = HashMap::new();
        for link in all {
            let prefix = link.prefix.clone();
            // The kernel takes its time to remove the last boot's; the newest has the highest index.
            let is_older = |known: &LinkTraffic| known.index > link.index;
            if !links.get(&prefix).is_some_and(is_older) {
                links.insert(prefix, link);
            }
        }
        Links(links)
    }

    /// What the host has received on its end the container has sent.
    fn traffic(&self, prefix: &str) -> Option<Traffic> {
        let link = self.0.get(prefix)?;
        Some(Traffic {
            received: link.sent,
            sent: link.received,
            received_packets: link.sent_packets,
            sent_packets: link.received_packets,
        })
    }
}

/// The clock that also goes on while the host is suspended, as the kernel's times of processes are told.
fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::try_from(now).unwrap_or_default()
}

/// When a process was started (proc_pid_stat(5), `starttime`).
fn started(pid: i32) -> Option<Duration> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, format!("/proc/{pid}/stat"), flags, Mode::empty()).ok()?;
    let mut buffer = [0; 4096];
    let length = rustix::io::read(&file, &mut buffer).ok()?;
    let ticks = start_time(&buffer[..length])?;
    let rate = rustix::param::clock_ticks_per_second();
    Some(
        Duration::from_secs(ticks / rate)
            + Duration::from_secs(1) * ((ticks % rate) as u32) / rate as u32,
    )
}

/// The name in parentheses is the process's own choice, so what follows is counted from the last of them.
fn start_time(stat: &[u8]) -> Option<u64> {
    const FIELD: usize = 22;
    const FIRST_AFTER_NAME: usize = 3;
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_whitespace();
    fields.nth(FIELD - FIRST_AFTER_NAME)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_cannot_choose_when_it_was_started() {
        let stat = |name: &str| {
            let rest =
                "S 1 9 9 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 4711 2310144 5 18446744073709551615";
            format!("9 ({name}) {rest}\n")
        };
        for name in ["init", "a b", ") S 1 9", "\u{a0}"] {
            assert_eq!(start_time(stat(name).as_bytes()), Some(4_711), "{name}");
        }
        assert_eq!(start_time(b"9 (init) S 1"), None);
        assert_eq!(start_time(b""), None);
    }

    #[test]
    fn this_process_was_started_before_now() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let started = started(pid).expect("there is a /proc");
        assert!(started <= since_boot());
        assert!(since_boot() - started < Duration::from_secs(3600));
    }
}
