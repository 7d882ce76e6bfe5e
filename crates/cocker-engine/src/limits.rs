//! What a container may use: as it was said, as it is remembered, and as the sandbox takes it.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{EngineError, SettingsError};
use crate::network::id_range;
use crate::state::Standing;
use cocker_image::Name;
use cocker_sandbox::{
    Cgroup, HugePageLimit, IoLimit, Limits, MemoryLimit, OpenFiles, ProcessLimit, QUOTA_PERIOD,
};
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, WaitId, WaitIdOptions, getrlimit, prlimit, waitid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// How many processes and threads a container may have where nothing is said.
pub const DEFAULT_PROCESSES: u64 = 32_768;

/// Processors beyond this number no kernel has.
const MOST_CPU: u32 = 8_191;

/// Processors by number: `0,2-3`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CpuList(BTreeSet<u32>);

impl CpuList {
    /// Reads cpuset(7)'s list format. `None` for anything else.
    pub fn parse(text: &str) -> Option<CpuList> {
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (cpu(first)?, cpu(last)?),
                None => (cpu(part)?, cpu(part)?),
            };
            if first > last {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(CpuList(cpus))
    }
}

fn cpu(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain)?;
    (number <= MOST_CPU).then_some(number)
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            match last == first {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl TryFrom<String> for CpuList {
    type Error = String;

    fn try_from(text: String) -> Result<CpuList, String> {
        CpuList::parse(&text).ok_or_else(|| format!("`{text}` is no list of processors"))
    }
}

impl From<CpuList> for String {
    fn from(list: CpuList) -> String {
        list.to_string()
    }
}

/// What may be read from and written to one disk in a second, in bytes and operations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoMax {
    /// A device node, or `MAJOR:MINOR`: what it is may change from one boot of the host to the next.
    pub device: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rbps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wbps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub riops: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wiops: Option<u64>,
}

/// Bytes in huge pages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugePages {
    /// Bytes of one page; none: the host's usual size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u64>,
    pub bytes: u64,
}

/// How many files a process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoFile {
    pub soft: u64,
    pub hard: u64,
}

/// One limit, as it may be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Said<T> {
    /// It stays as it is.
    #[default]
    Nothing,
    /// It goes.
    Unlimited,
    To(T),
}

impl<T: Clone> Said<T> {
    fn change(&self, remembered: &mut Option<T>) {
        match self {
            Said::Nothing => {}
            Said::Unlimited => *remembered = None,
            Said::To(value) => *remembered = Some(value.clone()),
        }
    }
}

/// What is to change of a container's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitChanges {
    pub cpus: Said<CpuList>,
    /// Microseconds in each 100,000.
    pub cpu_quota: Said<u64>,
    pub cpu_weight: Said<u64>,
    /// Bytes.
    pub mem_limit: Said<u64>,
    /// Bytes of swap beyond it.
    pub swap_limit: Said<u64>,
    pub oom_kill_group: Said<()>,
    pub pids_limit: Said<u64>,
    pub io_weight: Said<u64>,
    /// All of them.
    pub io_max: Said<Vec<IoMax>>,
    pub huge_pages: Said<Vec<HugePages>>,
    pub nofile: Said<NoFile>,
}

/// What `container.json` remembers; what is missing is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LimitSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<CpuList>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_quota: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_weight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mem_limit: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_limit: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    oom_kill_group: bool,
    #[serde(skip_serializing_if = "Processes::is_default")]
    processes: Processes,
    #[serde(skip_serializing_if = "Option::is_none")]
    io_weight: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_max: Vec<IoMax>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    huge_pages: Vec<HugePages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nofile: Option<NoFile>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Processes {
    #[default]
    Default,
    Unlimited,
    Most(u64),
}

impl Processes {
    fn is_default(&self) -> bool {
        *self == Processes::Default
    }
}

/// A limit that this host cannot keep.
#[derive(Debug, thiserror::Error)]
pub enum BadLimit {
    #[error("cannot use processor {cpu}: this host has {online}")]
    NoSuchCpu { cpu: u32, online: CpuList },
    #[error("cannot give {percent}% of a processor: this host has from 1% to {most}%")]
    TooMuchCpu { percent: u64, most: u64 },
    #[error("cannot limit swap where memory is not limited")]
    SwapAlone,
    #[error("cannot find disk `{}`", device.display())]
    NoSuchDisk {
        device: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot limit `{}`: it is no disk", device.display())]
    NoDisk { device: PathBuf },
    #[error("cannot limit `{}`: it is a part of disk `{disk}`", device.display())]
    Partition { device: PathBuf, disk: String },
    #[error("cannot give {what} two limits")]
    Twice { what: String },
    #[error("cannot have huge pages of {page} bytes: this host has {sizes}")]
    NoSuchPages { page: u64, sizes: String },
}

impl BadLimit {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            BadLimit::SwapAlone => Some("say `--mem-limit` too.".into()),
            BadLimit::NoSuchDisk { .. } | BadLimit::NoDisk { .. } => Some(
                "say a whole disk, as `--io-max /dev/sda:wbps=10M`; `lsblk -d` lists them.".into(),
            ),
            BadLimit::Partition { disk, .. } => {
                Some(format!("the kernel limits whole disks: say `/dev/{disk}`."))
            }
            _ => None,
        }
    }
}

impl LimitSettings {
    /// With `changes`, once they are checked against this host.
    pub(crate) fn with(&self, changes: &LimitChanges) -> Result<LimitSettings, BadLimit> {
        check(changes)?;
        let mut now = self.clone();
        changes.cpus.change(&mut now.cpus);
        changes.cpu_quota.change(&mut now.cpu_quota);
        changes.cpu_weight.change(&mut now.cpu_weight);
        changes.mem_limit.change(&mut now.mem_limit);
        if changes.mem_limit == Said::Unlimited {
            now.swap_limit = None;
        }
        changes.swap_limit.change(&mut now.swap_limit);
        match changes.oom_kill_group {
            Said::Nothing => {}
            Said::Unlimited => now.oom_kill_group = false,
            Said::To(()) => now.oom_kill_group = true,
        }
        match changes.pids_limit {
            Said::Nothing => {}
            Said::Unlimited => now.processes = Processes::Unlimited,
            Said::To(most) => now.processes = Processes::Most(most),
        }
        changes.io_weight.change(&mut now.io_weight);
        for_list(&changes.io_max, &mut now.io_max);
        for_list(&changes.huge_pages, &mut now.huge_pages);
        changes.nofile.change(&mut now.nofile);
        if now.swap_limit.is_some() && now.mem_limit.is_none() {
            return Err(BadLimit::SwapAlone);
        }
        Ok(now)
    }

    /// As the sandbox takes it: disks by number.
    pub(crate) fn resolved(&self) -> Result<Limits, BadLimit> {
        let io: Result<Vec<IoLimit>, BadLimit> = self.io_max.iter().map(io_limit).collect();
        self.with_io(io?)
    }

    /// What holds in a booted container: a disk that is gone meanwhile has no limit any more.
    fn in_force(&self) -> Result<Limits, BadLimit> {
        let io = self.io_max.iter().filter_map(|it| io_limit(it).ok());
        self.with_io(io.collect())
    }

    fn with_io(&self, io: Vec<IoLimit>) -> Result<Limits, BadLimit> {
        let pages = self.huge_pages.iter().map(|it| {
            Ok(HugePageLimit {
                page: it.page.map_or_else(usual_page, Ok)?,
                bytes: it.bytes,
            })
        });
        let swap = self.swap_limit;
        Ok(Limits {
            cpus: self.cpus.as_ref().map(CpuList::to_string),
            cpu_quota: self.cpu_quota,
            cpu_weight: self.cpu_weight,
            memory: self.mem_limit.map(|bytes| MemoryLimit { bytes, swap }),
            oom_kill_group: self.oom_kill_group,
            processes: match self.processes {
                Processes::Default => Some(ProcessLimit {
                    most: DEFAULT_PROCESSES,
                    is_default: true,
                }),
                Processes::Unlimited => None,
                Processes::Most(most) => Some(ProcessLimit {
                    most,
                    is_default: false,
                }),
            },
            io_weight: self.io_weight,
            io,
            huge_pages: pages.collect::<Result<_, BadLimit>>()?,
            open_files: self
                .nofile
                .map(|NoFile { soft, hard }| OpenFiles { soft, hard }),
        })
    }

    pub(crate) fn mem_limit(&self) -> Option<u64> {
        self.mem_limit
    }
}

fn for_list<T: Clone>(said: &Said<Vec<T>>, remembered: &mut Vec<T>) {
    match said {
        Said::Nothing => {}
        Said::Unlimited => remembered.clear(),
        Said::To(list) => remembered.clone_from(list),
    }
}

/// What only this host can say.
fn check(changes: &LimitChanges) -> Result<(), BadLimit> {
    let online = online();
    if let Said::To(CpuList(cpus)) = &changes.cpus
        && let Some(&cpu) = cpus.difference(&online.0).next()
    {
        return Err(BadLimit::NoSuchCpu { cpu, online });
    }
    if let Said::To(quota) = changes.cpu_quota {
        let most = online.0.len() as u64 * 100;
        // Rounded up: what is too much by little is shown to be too much.
        let percent = (quota * 100).div_ceil(QUOTA_PERIOD);
        if percent > most {
            return Err(BadLimit::TooMuchCpu { percent, most });
        }
    }
    if let Said::To(list) = &changes.io_max {
        let mut disks = BTreeSet::new();
        for limit in list {
            let IoLimit { major, minor, .. } = io_limit(limit)?;
            if !disks.insert((major, minor)) {
                let what = format!("disk `{}`", limit.device.display());
                return Err(BadLimit::Twice { what });
            }
        }
    }
    if let Said::To(list) = &changes.huge_pages {
        let mut sizes = BTreeSet::new();
        for pages in list {
            let page = pages.page.map_or_else(usual_page, Ok)?;
            check_page(page)?;
            if !sizes.insert(page) {
                let what = format!("huge pages of {page} bytes");
                return Err(BadLimit::Twice { what });
            }
        }
    }
    Ok(())
}

/// The processors that are at work. A host that does not say has one.
fn online() -> CpuList {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    CpuList::parse(text.trim_end()).unwrap_or_else(|| CpuList(BTreeSet::from([0])))
}

fn io_limit(limit: &IoMax) -> Result<IoLimit, BadLimit> {
    let (major, minor) = disk(&limit.device)?;
    Ok(IoLimit {
        major,
        minor,
        rates: [limit.rbps, limit.wbps, limit.riops, limit.wiops],
    })
}

/// The number of a whole disk that is said by its node or by its number.
fn disk(device: &Path) -> Result<(u32, u32), BadLimit> {
    let text = device.to_str().and_then(|text| text.split_once(':'));
    let numbers = text.and_then(|(major, minor)| Some((number(major)?, number(minor)?)));
    let (major, minor) = match numbers {
        Some(numbers) => numbers,
        None => {
            let stat = rustix::fs::stat(device).map_err(|source| BadLimit::NoSuchDisk {
                device: device.into(),
                source,
            })?;
            if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_block_device() {
                return Err(BadLimit::NoDisk {
                    device: device.into(),
                });
            }
            (
                rustix::fs::major(stat.st_rdev),
                rustix::fs::minor(stat.st_rdev),
            )
        }
    };
    let shown = format!("/sys/dev/block/{major}:{minor}");
    let place =
        rustix::fs::readlink(&shown, Vec::new()).map_err(|source| BadLimit::NoSuchDisk {
            device: device.into(),
            source,
        })?;
    if Path::new(&shown).join("partition").exists() {
        // …/block/sda/sda1
        let place = place.to_string_lossy().into_owned();
        let disk = place.rsplit('/').nth(1).unwrap_or_default().into();
        return Err(BadLimit::Partition {
            device: device.into(),
            disk,
        });
    }
    Ok((major, minor))
}

fn number(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// Sizes of huge pages that the kernel has, in bytes.
fn page_sizes() -> Vec<u64> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages");
    let names = entries.into_iter().flatten().flatten();
    let sizes = names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let kib = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
        Some(kib.parse::<u64>().ok()? << 10)
    });
    let mut sizes: Vec<u64> = sizes.collect();
    sizes.sort_unstable();
    sizes
}

fn check_page(page: u64) -> Result<(), BadLimit> {
    let sizes = page_sizes();
    if sizes.contains(&page) {
        return Ok(());
    }
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let sizes = match sizes.is_empty() {
        true => "none".into(),
        false => sizes.join(", "),
    };
    Err(BadLimit::NoSuchPages { page, sizes })
}

/// The size of a huge page where none is named (`Hugepagesize` of proc_meminfo(5)).
fn usual_page() -> Result<u64, BadLimit> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .map(|kib| kib << 10)
        .ok_or(BadLimit::NoSuchPages {
            page: 0,
            sizes: "none".into(),
        })
}

impl Engine {
    /// Whether this host can keep to `changes`; changes nothing.
    pub fn check_limits(
        &self,
        container: &Name,
        changes: &LimitChanges,
    ) -> Result<(), EngineError> {
        let checked = LimitSettings::default().with(changes).map(drop);
        checked.map_err(|source| failed(container, source.into()))
    }

    /// Changes limits of a container, booted or stopped; what is not said stays. In a booted one they hold at once, and at
    /// the next boot; `--nofile` for what is started from then on.
    ///
    /// # Errors
    /// The limit that cannot be kept; then all are as they were.
    pub fn set_limits(&self, container: &Name, changes: &LimitChanges) -> Result<(), EngineError> {
        self.change_limits(container, changes)
            .map_err(|source| failed(container, source))
    }

    fn change_limits(&self, name: &Name, changes: &LimitChanges) -> Result<(), SettingsError> {
        let (mut container, _work) = Container::open_for_work(&self.store, name)?;
        let before = container.settings.limits.clone();
        let now = before.with(changes)?;
        let limits = now.resolved()?;
        container.settings.limits = now;
        let writing = |source| SettingsError::Write { source };
        let Some(root_process) = self.booted_root_process(&container)? else {
            let record = container.hold_stopped()?;
            self.clean_up_after_crash(&container, record)
                .map_err(|source| SettingsError::CleanUp { source })?;
            return container
                .write_settings(&container.settings)
                .map_err(writing);
        };
        let cgroup = self.cgroup_of(&container);
        let processes = RootAndInit {
            root_process,
            owner: id_range(&container).map(|range| range.first.0),
        };
        let in_force = before.in_force()?;
        cgroup.change_limits(&in_force, &limits)?;
        let changed = limit_open_files(&cgroup, processes, &in_force, &limits).and_then(|()| {
            container
                .write_settings(&container.settings)
                .map_err(writing)
        });
        if changed.is_err() {
            let back = cgroup
                .change_limits(&limits, &in_force)
                .map_err(SettingsError::from)
                .and_then(|()| limit_open_files(&cgroup, processes, &limits, &in_force));
            if let Err(error) = back {
                tracing::warn!("the limits of `{name}` are not as they were: {error}");
            }
        }
        changed
    }

    /// How many processes of a booted container were killed because memory ran out, and the limit in bytes that it has; none
    /// where nothing counts them.
    pub fn oom_kills(&self, container: &Name) -> Option<(u64, Option<u64>)> {
        let container = Container::open(&self.store, container).ok()?;
        let kills = self.cgroup_of(&container).oom_kills()?;
        Some((kills, container.settings.limits.mem_limit()))
    }

    /// None where it is stopped, or about to be.
    fn booted_root_process(&self, container: &Container) -> Result<Option<Pid>, SettingsError> {
        let standing = container.state.standing();
        let (standing, _) = standing.map_err(|source| SettingsError::Write { source })?;
        Ok(match standing {
            Standing::Booted { pid } => Pid::from_raw(pid),
            Standing::Stopped | Standing::Broken | Standing::InTransit => None,
        })
    }
}

fn failed(container: &Name, source: SettingsError) -> EngineError {
    EngineError::Settings {
        container: container.clone(),
        what: "limits",
        source: Box::new(source),
    }
}

/// Who starts programs in a booted container.
#[derive(Clone, Copy)]
struct RootAndInit {
    root_process: Pid,
    /// As whom they run on the host; none: as its root.
    owner: Option<u32>,
}

/// Limits whatever starts other programs there: the root process, and cockerinit where it is not that one. Its supervisor is not
/// done with it while we hold the container, so the number is its own.
fn limit_open_files(
    cgroup: &Cgroup,
    RootAndInit {
        root_process,
        owner,
    }: RootAndInit,
    from: &Limits,
    to: &Limits,
) -> Result<(), SettingsError> {
    if from.open_files == to.open_files {
        return Ok(());
    }
    let limit = match to.open_files {
        Some(OpenFiles { soft, hard }) => Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        },
        // What a boot would have given on.
        None => getrlimit(Resource::Nofile),
    };
    let failed = |source| SettingsError::LimitFiles {
        wanted: limit.maximum.unwrap_or(u64::MAX),
        source,
    };
    let is_init = |pid: &Pid| {
        let name = format!("/proc/{}/comm", pid.as_raw_nonzero());
        let name = std::fs::read_to_string(name).unwrap_or_default();
        *pid == root_process || name.trim_end() == "cockerinit"
    };
    let mut members = cgroup.members().map_err(failed)?;
    if members.is_empty() {
        // It has no cgroup, as an ordinary user's may not.
        members = children_of(root_process);
        members.push(root_process);
    }
    for pid in members.into_iter().filter(is_init) {
        let given = prlimit(Some(pid), Resource::Nofile, limit).map(drop);
        let given = match (given, owner) {
            // A root that may not do everything: whoever it belongs to may still lower it.
            (Err(Errno::PERM), Some(owner)) => limit_as(owner, pid, limit),
            (given, _) => given,
        };
        match given {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(source) => return Err(failed(source)),
        }
    }
    Ok(())
}

/// Those of its only thread, or of its first one (proc_pid_task_tid(5), "children").
fn children_of(process: Pid) -> Vec<Pid> {
    let pid = process.as_raw_nonzero();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let text = text.unwrap_or_default();
    let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// Limits one process, by a child that has become `owner`.
fn limit_as(owner: u32, pid: Pid, limit: Rlimit) -> Result<(), Errno> {
    match clone(NewNamespaces::default(), None)? {
        Birth::Child => {
            let given = cocker_sys::credentials::become_user(owner, owner)
                .and_then(|()| prlimit(Some(pid), Resource::Nofile, limit).map(drop));
            exit_now(given.err().map_or(0, Errno::raw_os_error))
        }
        Birth::Parent { pidfd, .. } => {
            let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
            match ended.and_then(|ended| ended.exit_status()) {
                Some(0) => Ok(()),
                Some(errno) => Err(Errno::from_raw_os_error(errno)),
                None => Err(Errno::PERM),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_listed_as_the_kernel_lists_them() {
        for (text, shown) in [
            ("0", "0"),
            ("0,2-3", "0,2-3"),
            ("3,2,1,0", "0-3"),
            ("1-1,5", "1,5"),
            ("0-1,1-2", "0-2"),
        ] {
            let list = CpuList::parse(text).expect("it is a list");
            assert_eq!(list.to_string(), shown, "{text}");
        }
        for bad in [
            "",
            ",",
            "0,",
            "a",
            "-1",
            "1-",
            "3-2",
            "+1",
            "0 1",
            "8192",
            "0-99999999999",
        ] {
            assert_eq!(CpuList::parse(bad), None, "{bad}");
        }
    }

    fn all() -> LimitChanges {
        LimitChanges {
            cpus: Said::To(CpuList::parse("0").expect("a list")),
            cpu_quota: Said::To(25_000),
            cpu_weight: Said::To(50),
            mem_limit: Said::To(64 << 20),
            swap_limit: Said::To(1 << 20),
            oom_kill_group: Said::To(()),
            pids_limit: Said::To(100),
            io_weight: Said::To(10),
            io_max: Said::Nothing,
            huge_pages: Said::Nothing,
            nofile: Said::To(NoFile {
                soft: 100,
                hard: 200,
            }),
        }
    }

    #[test]
    fn what_is_said_is_remembered_and_comes_back_as_it_was_written() {
        let limits = LimitSettings::default().with(&all()).expect("it is sound");
        let json = serde_json::to_value(&limits).expect("plain data");
        let expected = serde_json::json!({
            "cpus": "0", "cpu_quota": 25_000, "cpu_weight": 50, "mem_limit": 64 << 20, "swap_limit": 1 << 20,
            "oom_kill_group": true, "processes": { "most": 100 }, "io_weight": 10,
            "nofile": { "soft": 100, "hard": 200 },
        });
        assert_eq!(json, expected);
        let read: LimitSettings = serde_json::from_value(json).expect("just written");
        assert_eq!(read, limits);
        let nothing = serde_json::to_value(LimitSettings::default()).expect("plain data");
        assert_eq!(nothing, serde_json::json!({}));
    }

    #[test]
    fn what_is_not_said_stays_and_what_is_lifted_goes() {
        let limits = LimitSettings::default().with(&all()).expect("it is sound");
        let changes = LimitChanges {
            cpus: Said::Unlimited,
            mem_limit: Said::Unlimited,
            pids_limit: Said::Unlimited,
            oom_kill_group: Said::Unlimited,
            ..LimitChanges::default()
        };
        let now = limits.with(&changes).expect("it is sound");
        let now = now.resolved().expect("it is sound");
        assert_eq!(now.cpus, None);
        assert_eq!(now.cpu_quota, Some(25_000));
        assert_eq!(now.memory, None);
        assert_eq!(now.processes, None);
        assert!(!now.oom_kill_group);
        let default = LimitSettings::default().resolved().expect("it is sound");
        let most = default.processes.expect("there is a default");
        assert_eq!((most.most, most.is_default), (DEFAULT_PROCESSES, true));
    }

    #[test]
    fn swap_is_limited_only_beside_memory() {
        let swap = LimitChanges {
            swap_limit: Said::To(5),
            ..LimitChanges::default()
        };
        let refused = LimitSettings::default().with(&swap);
        assert!(matches!(refused, Err(BadLimit::SwapAlone)), "{refused:?}");
    }

    #[test]
    fn what_this_host_does_not_have_is_refused_with_what_it_has() {
        let nothing = LimitSettings::default();
        let says = |changes: LimitChanges| match nothing.with(&changes) {
            Ok(limits) => panic!("{limits:?}"),
            Err(error) => error.to_string(),
        };
        let cpus = says(LimitChanges {
            cpus: Said::To(CpuList::parse("0,8191").expect("a list")),
            ..LimitChanges::default()
        });
        let online = online();
        assert_eq!(
            cpus,
            format!("cannot use processor 8191: this host has {online}")
        );
        let quota = says(LimitChanges {
            cpu_quota: Said::To(8_192 * QUOTA_PERIOD),
            ..LimitChanges::default()
        });
        assert!(quota.contains("from 1% to "), "{quota}");
        for (device, expected) in [
            ("/dev/null", "cannot limit `/dev/null`: it is no disk"),
            ("/nowhere", "cannot find disk `/nowhere`"),
            ("4095:7", "cannot find disk `4095:7`"),
        ] {
            let disk = IoMax {
                device: device.into(),
                wbps: Some(1),
                ..IoMax::default()
            };
            let got = says(LimitChanges {
                io_max: Said::To(vec![disk]),
                ..LimitChanges::default()
            });
            assert_eq!(got, expected);
        }
        let pages = says(LimitChanges {
            huge_pages: Said::To(vec![HugePages {
                page: Some(12_345),
                bytes: 0,
            }]),
            ..LimitChanges::default()
        });
        assert!(pages.starts_with("cannot have huge pages of 12345 bytes"));
    }
}
