//! What a sandbox may use, as data. Which file of which hierarchy says so is `cgroup/writes.rs`.

use std::fmt;

/// The period, in microseconds, in which a quota of processor time is given out anew; the kernel's own default.
pub const QUOTA_PERIOD: u64 = 100_000;

/// What is `None` is not limited, or left to the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The processors that may be used, as cpuset(7)'s list format has it: `0,2-3`.
    pub cpus: Option<String>,
    /// Microseconds of processor time in each [`QUOTA_PERIOD`]; at least 1,000.
    pub cpu_quota: Option<u64>,
    /// The share of busy processors, 1 to 10,000 where others have 100.
    pub cpu_weight: Option<u64>,
    pub memory: Option<MemoryLimit>,
    /// Whether everything is killed together when memory runs out, and not one process.
    pub oom_kill_group: bool,
    pub processes: Option<ProcessLimit>,
    /// The share of busy disks, 1 to 10,000 where others have 100.
    pub io_weight: Option<u64>,
    pub io: Vec<IoLimit>,
    pub huge_pages: Vec<HugePageLimit>,
    /// What a process may have open (RLIMIT_NOFILE).
    pub open_files: Option<OpenFiles>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes beyond that in swap; none were said: none there are.
    pub swap: Option<u64>,
}

/// How many processes and threads there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessLimit {
    pub most: u64,
    /// Whether a host that cannot keep to it goes on without.
    pub is_default: bool,
}

/// What may be read from and written to one disk in a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLimit {
    /// The disk's device number.
    pub major: u32,
    pub minor: u32,
    /// In the order of [`IO_KEYS`].
    pub rates: [Option<u64>; 4],
}

/// Bytes and operations, read and written, as `io.max` calls them.
pub const IO_KEYS: [&str; 4] = ["rbps", "wbps", "riops", "wiops"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HugePageLimit {
    /// Bytes of one page, a size that the host has.
    pub page: u64,
    /// Bytes in such pages altogether.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What a process has, and may raise to `hard`.
    pub soft: u64,
    pub hard: u64,
}

impl fmt::Display for Limits {
    /// One line for each limit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |what: &str, value: Option<String>| match value {
            Some(value) => writeln!(f, "limit {what} {value}"),
            None => Ok(()),
        };
        let text = |number: Option<u64>| number.map(|number| number.to_string());
        line("cpus", self.cpus.clone())?;
        let quota = self.cpu_quota;
        line(
            "cpu time",
            quota.map(|quota| format!("{quota} of {QUOTA_PERIOD} us")),
        )?;
        line("cpu weight", text(self.cpu_weight))?;
        line(
            "memory",
            self.memory.map(|MemoryLimit { bytes, swap }| {
                format!("{bytes} bytes and {} in swap", swap.unwrap_or(0))
            }),
        )?;
        line(
            "memory: all are killed",
            self.oom_kill_group.then(|| "together".into()),
        )?;
        line("processes", text(self.processes.map(|limit| limit.most)))?;
        line("io weight", text(self.io_weight))?;
        for limit in &self.io {
            let rates = IO_KEYS.iter().zip(limit.rates);
            let rates = rates.filter_map(|(key, rate)| Some(format!(" {key}={}", rate?)));
            let device = format!("{}:{}", limit.major, limit.minor);
            line("io", Some(device + &rates.collect::<String>()))?;
        }
        for HugePageLimit { page, bytes } in &self.huge_pages {
            let value = format!("{bytes} bytes in pages of {page}");
            line("huge pages", Some(value))?;
        }
        line(
            "open files",
            self.open_files
                .map(|OpenFiles { soft, hard }| format!("{soft} to {hard}")),
        )
    }
}
