//! What the kernel has counted for a sandbox: read, never written, and never waited for.
//!
//! ```text
//!            unified (v2)                              where v1 has the controller
//!  cpu       cpu.stat                                  cpu.stat of v2 all the same; what was throttled: cpu.stat of v1
//!  memory    memory.current, .max, .stat, .events      memory.usage_in_bytes, .stat, .oom_control
//!  pids      pids.current, .max                        the same
//!  io        io.stat                                   blkio.throttle.io_service_bytes_recursive, .io_serviced_recursive
//!  pressure  cpu.pressure, memory.pressure, io.pressure: in v2 only
//! ```
//!
//! What the host does not count is `None`, which is not the same as none of it.

use super::layout::{Controller, Generation, Hierarchies};
use super::open_folder;
use super::place::Group;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a sandbox has used since it was made, and uses now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub cpu: Option<CpuTime>,
    pub throttling: Option<Throttling>,
    pub memory: Option<MemoryUse>,
    /// How many processes were killed because memory ran out.
    pub oom_kills: Option<u64>,
    pub pids: Option<PidsUse>,
    pub io: Option<IoUse>,
    pub cpu_pressure: Option<Pressure>,
    pub memory_pressure: Option<Pressure>,
    pub io_pressure: Option<Pressure>,
}

/// Microseconds of processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuTime {
    pub usage: u64,
    pub user: u64,
    pub system: u64,
}

/// How often a quota of processor time was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttling {
    /// Periods of the quota in which something wanted to run.
    pub periods: u64,
    /// Those of them in which the quota was used up.
    pub throttled_periods: u64,
    /// Microseconds, of all processors together.
    pub throttled: u64,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUse {
    /// All that counts against the limit.
    pub current: u64,
    /// How much of it are contents of files, which the kernel can drop when it needs room.
    pub cache: Option<u64>,
    /// None: not limited.
    pub limit: Option<u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidsUse {
    pub current: u64,
    /// None: not limited.
    pub limit: Option<u64>,
}

/// What went from and to disks, of all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoUse {
    /// Bytes.
    pub read: u64,
    /// Bytes.
    pub written: u64,
    /// Operations.
    pub reads: u64,
    /// Operations.
    pub writes: u64,
}

/// How long processes could not go on for want of something (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// At least one of them.
    pub some: Stall,
    /// All of them at once.
    pub full: Option<Stall>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Hundredths of a percent of the last 10, 60 and 300 seconds.
    pub averages: [u32; 3],
    /// Microseconds since the sandbox was made.
    pub total: u64,
}

/// Most files are a few lines; one line a disk may be more.
const USUAL_SIZE: usize = 16 * 1024;
/// More than this the kernel has to say of no sandbox.
const LARGEST_SIZE: usize = 1024 * 1024;

/// Reads the figures of sandboxes whose cgroup folders are in one folder: that one is opened once, since what an open costs
/// the kernel is for the most part its way there.
pub struct FigureReader {
    hierarchies: Arc<Hierarchies>,
    group: Group,
    /// The folder of all in v2; none where that is not there.
    unified: Option<OwnedFd>,
    /// The same in each v1 hierarchy that has it, in the order of the hierarchies.
    legacy: Vec<Option<OwnedFd>>,
    /// Room for a file, used again for each.
    buffer: Vec<u8>,
}

impl FigureReader {
    pub fn open(hierarchies: &Arc<Hierarchies>, group: &Group) -> FigureReader {
        let unified = hierarchies.unified();
        let legacy = hierarchies.all_legacy().iter();
        FigureReader {
            unified: unified.and_then(|root| open_folder(root.as_fd(), &group.unified()).ok()),
            legacy: legacy
                .map(|legacy| open_folder(legacy.folder.as_fd(), group.legacy()).ok())
                .collect(),
            group: group.clone(),
            hierarchies: Arc::clone(hierarchies),
            buffer: vec![0; USUAL_SIZE],
        }
    }

    /// What the kernel has counted for the sandbox of this name; `None` where it is not there, or not any more.
    pub fn read(&mut self, name: &str) -> Option<Figures> {
        if self.hierarchies.unified().is_none() {
            return Some(Figures::default());
        }
        let mut reading = Reading {
            unified: self.group.unified_name(name),
            legacy: name,
            reader: self,
        };
        let cpu_stat = match reading.read_unified("cpu.stat") {
            Ok(text) => text,
            Err(Errno::NOENT | Errno::NODEV) => return None,
            Err(_) => "",
        };
        let (cpu, throttling) = (cpu_time(cpu_stat), throttling(cpu_stat));
        Some(Figures {
            cpu,
            throttling: throttling.or_else(|| reading.legacy_throttling()),
            oom_kills: reading.oom_kills(),
            memory: reading.memory(),
            pids: reading.pids(),
            io: reading.io(),
            cpu_pressure: reading.pressure("cpu.pressure"),
            memory_pressure: reading.pressure("memory.pressure"),
            io_pressure: reading.pressure("io.pressure"),
        })
    }
}

/// One sandbox's files, each read as a whole.
struct Reading<'a> {
    reader: &'a mut FigureReader,
    /// Its folders, in those of all.
    unified: PathBuf,
    legacy: &'a str,
}

impl Reading<'_> {
    fn legacy_throttling(&mut self) -> Option<Throttling> {
        match self.generation(Controller::Cpu)? {
            Generation::Legacy => throttling(self.read(Controller::Cpu, "cpu.stat")?),
            Generation::Unified => None,
        }
    }

    fn memory(&mut self) -> Option<MemoryUse> {
        const CONTROLLER: Controller = Controller::Memory;
        match self.generation(CONTROLLER)? {
            Generation::Legacy => {
                let current = number(self.read(CONTROLLER, "memory.usage_in_bytes")?)?;
                let stat = self.read(CONTROLLER, "memory.stat").unwrap_or_default();
                Some(MemoryUse {
                    current,
                    cache: legacy_cache(stat),
                    limit: field(stat, "hierarchical_memory_limit").filter(is_a_limit),
                })
            }
            Generation::Unified => {
                let current = number(self.read(CONTROLLER, "memory.current")?)?;
                let limit = self.read(CONTROLLER, "memory.max").and_then(number);
                let stat = self.read(CONTROLLER, "memory.stat").unwrap_or_default();
                Some(MemoryUse {
                    current,
                    cache: cache(stat),
                    limit,
                })
            }
        }
    }

    fn oom_kills(&mut self) -> Option<u64> {
        let file = match self.generation(Controller::Memory)? {
            Generation::Legacy => "memory.oom_control",
            Generation::Unified => "memory.events",
        };
        field(self.read(Controller::Memory, file)?, "oom_kill")
    }

    fn pids(&mut self) -> Option<PidsUse> {
        let current = number(self.read(Controller::Pids, "pids.current")?)?;
        let limit = self.read(Controller::Pids, "pids.max").and_then(number);
        Some(PidsUse { current, limit })
    }

    fn io(&mut self) -> Option<IoUse> {
        const CONTROLLER: Controller = Controller::Io;
        match self.generation(CONTROLLER)? {
            Generation::Legacy => {
                let bytes = self.read(CONTROLLER, "blkio.throttle.io_service_bytes_recursive")?;
                let (read, written) = legacy_io(bytes);
                let operations = self.read(CONTROLLER, "blkio.throttle.io_serviced_recursive");
                let (reads, writes) = legacy_io(operations?);
                Some(IoUse {
                    read,
                    written,
                    reads,
                    writes,
                })
            }
            Generation::Unified => self.read(CONTROLLER, "io.stat").map(io_stat),
        }
    }

    fn pressure(&mut self, file: &str) -> Option<Pressure> {
        pressure(self.read_unified(file).ok()?)
    }

    fn generation(&self, controller: Controller) -> Option<Generation> {
        self.reader.hierarchies.generation(controller)
    }

    /// A file of a controller, from whichever hierarchy has it; none where it is not there.
    fn read(&mut self, controller: Controller, file: &str) -> Option<&str> {
        let mut all = self.reader.hierarchies.all_legacy().iter();
        let place = all.position(|legacy| legacy.controllers.contains(&controller));
        match place {
            Some(place) => self.read_from(Some(place), file).ok(),
            None => self.read_unified(file).ok(),
        }
    }

    fn read_unified(&mut self, file: &str) -> Result<&str, Errno> {
        self.read_from(None, file)
    }

    /// `legacy` is the number of a v1 hierarchy; none is v2.
    fn read_from(&mut self, legacy: Option<usize>, file: &str) -> Result<&str, Errno> {
        let FigureReader {
            unified,
            legacy: all_legacy,
            buffer,
            ..
        } = &mut *self.reader;
        let (parent, folder) = match legacy {
            Some(place) => (&all_legacy[place], Path::new(self.legacy)),
            None => (&*unified, self.unified.as_path()),
        };
        let file = rustix::fs::openat2(
            parent.as_ref().ok_or(Errno::NOENT)?,
            folder.join(file),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )?;
        // The kernel gives such a file as a whole to whoever has room for it; a read that is not full was all.
        let mut length = rustix::io::read(&file, &mut buffer[..])?;
        while length == buffer.len() && length < LARGEST_SIZE {
            buffer.resize(length * 2, 0);
            length += rustix::io::read(&file, &mut buffer[length..])?;
        }
        std::str::from_utf8(&buffer[..length]).map_err(|_| Errno::ILSEQ)
    }
}

/// The value of a line `KEY VALUE`.
fn field(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// A file of one number; none for `max`.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// v1 says "not limited" by the largest number of whole pages that a signed number can hold.
fn is_a_limit(bytes: &u64) -> bool {
    *bytes < 1 << 62
}

/// cpu.stat of v2, whatever controllers there are (cgroup-v2, "CPU Interface Files").
fn cpu_time(text: &str) -> Option<CpuTime> {
    Some(CpuTime {
        usage: field(text, "usage_usec")?,
        user: field(text, "user_usec")?,
        system: field(text, "system_usec")?,
    })
}

/// cpu.stat of the controller: v2 tells microseconds, v1 nanoseconds (scheduler/sched-bwc.rst).
fn throttling(text: &str) -> Option<Throttling> {
    let throttled = match field(text, "throttled_usec") {
        Some(microseconds) => microseconds,
        None => field(text, "throttled_time")? / 1_000,
    };
    Some(Throttling {
        periods: field(text, "nr_periods")?,
        throttled_periods: field(text, "nr_throttled")?,
        throttled,
    })
}

/// Contents of files, but for those that are nowhere else than in memory.
fn cache(memory_stat: &str) -> Option<u64> {
    let files = field(memory_stat, "file")?;
    Some(files.saturating_sub(field(memory_stat, "shmem").unwrap_or(0)))
}

/// The same with everything below, as v1 tells it (cgroup-v1/memory.rst, "stat file").
fn legacy_cache(memory_stat: &str) -> Option<u64> {
    let files = field(memory_stat, "total_cache")?;
    Some(files.saturating_sub(field(memory_stat, "total_shmem").unwrap_or(0)))
}

/// A line a disk: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn io_stat(text: &str) -> IoUse {
    let mut sum = IoUse::default();
    for word in text.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            continue;
        };
        let to = match key {
            "rbytes" => &mut sum.read,
            "wbytes" => &mut sum.written,
            "rios" => &mut sum.reads,
            "wios" => &mut sum.writes,
            _ => continue,
        };
        *to = to.saturating_add(value.parse().unwrap_or(0));
    }
    sum
}

/// Some lines a disk, `8:0 Read 1` among them (cgroup-v1/blkio-controller.rst): what was read and what was written.
fn legacy_io(text: &str) -> (u64, u64) {
    let (mut read, mut written) = (0u64, 0u64);
    for line in text.lines() {
        let mut words = line.split(' ').skip(1);
        let to = match words.next() {
            Some("Read") => &mut read,
            Some("Write") => &mut written,
            _ => continue,
        };
        let value = words.next().and_then(|value| value.parse().ok());
        *to = to.saturating_add(value.unwrap_or(0));
    }
    (read, written)
}

fn pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        text.lines()
            .find_map(|line| stall(line.strip_prefix(kind)?))
    };
    Some(Pressure {
        some: line("some ")?,
        full: line("full "),
    })
}

/// `avg10=0.00 avg60=1.23 avg300=0.50 total=4711`
fn stall(line: &str) -> Option<Stall> {
    let value = |key: &str| {
        let mut words = line.split(' ');
        words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    };
    let average = |key| hundredths(value(key)?);
    Some(Stall {
        averages: [average("avg10")?, average("avg60")?, average("avg300")?],
        total: value("total")?.parse().ok()?,
    })
}

/// A number with two digits behind the point.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.')?;
    let part = part.get(..2).filter(|_| part.len() == 2)?;
    let whole: u32 = whole.parse().ok()?;
    whole.checked_mul(100)?.checked_add(part.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &str = "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnice_usec 0\n";

    #[test]
    fn processor_time_is_told_by_every_cgroup_and_throttling_by_the_controller() {
        let time = CpuTime {
            usage: 7,
            user: 4,
            system: 3,
        };
        assert_eq!(cpu_time(NEVER), Some(time));
        assert_eq!(throttling(NEVER), None);
        let throttled = Throttling {
            periods: 10,
            throttled_periods: 5,
            throttled: 2_000,
        };
        let v2 = "core_sched.force_idle_usec 0\nnr_periods 10\nnr_throttled 5\nthrottled_usec 2000\nnr_bursts 0\n";
        assert_eq!(throttling(v2), Some(throttled));
        let v1 =
            "nr_periods 10\nnr_throttled 5\nthrottled_time 2000999\nnr_bursts 0\nburst_time 0\n";
        assert_eq!(throttling(v1), Some(throttled));
    }

    #[test]
    fn files_that_are_nowhere_but_in_memory_are_no_cache() {
        let v2 = "anon 5\nfile 100\nkernel 9\nfile_mapped 3\nshmem 30\n";
        assert_eq!(cache(v2), Some(70));
        let v1 = "cache 1\nshmem 0\nhierarchical_memory_limit 104857600\ntotal_cache 100\ntotal_shmem 30\n";
        assert_eq!(legacy_cache(v1), Some(70));
        let limit = |text| field(text, "hierarchical_memory_limit").filter(is_a_limit);
        assert_eq!(limit(v1), Some(104_857_600));
        assert_eq!(
            limit("hierarchical_memory_limit 9223372036854771712\n"),
            None
        );
        assert_eq!(cache(""), None);
    }

    #[test]
    fn the_oom_kills_are_not_the_ooms() {
        let v2 = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!(field(v2, "oom_kill"), Some(2));
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
        assert_eq!(field(v1, "oom_kill"), Some(4));
    }

    #[test]
    fn max_is_no_limit() {
        assert_eq!(number("32768\n"), Some(32_768));
        assert_eq!(number("max\n"), None);
    }

    #[test]
    fn all_disks_are_one_sum() {
        let sum = IoUse {
            read: 11,
            written: 22,
            reads: 33,
            writes: 44,
        };
        let v2 = "8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9 dios=9\n7:0 \n8:0 rbytes=10 wbytes=20 rios=30 wios=40 dbytes=0 dios=0\n";
        assert_eq!(io_stat(v2), sum);
        let v1 = "8:16 Read 1\n8:16 Write 2\n8:16 Sync 9\n8:16 Total 3\n8:0 Read 10\n8:0 Write 20\nTotal 33\n";
        assert_eq!(legacy_io(v1), (11, 22));
        assert_eq!(io_stat(""), IoUse::default());
        assert_eq!(legacy_io("Total 0\n"), (0, 0));
        let huge = "8:0 rbytes=18446744073709551615 rios=x\n8:1 rbytes=5\n";
        assert_eq!(io_stat(huge).read, u64::MAX);
    }

    #[test]
    fn pressure_is_read_to_the_hundredth() {
        let some = Stall {
            averages: [123, 45, 10_000],
            total: 4_711,
        };
        let full = Stall {
            averages: [0; 3],
            total: 0,
        };
        let text = "some avg10=1.23 avg60=0.45 avg300=100.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        let both = Pressure {
            some,
            full: Some(full),
        };
        assert_eq!(pressure(text), Some(both));
        let first = text.lines().next().expect("two lines");
        assert_eq!(pressure(first), Some(Pressure { some, full: None }));
        for damaged in [
            "",
            "some",
            "some avg10=1 avg60=0.45 avg300=0.00 total=1",
            "some avg10=1.2x avg60=0.00 avg300=0.00 total=1",
        ] {
            assert_eq!(pressure(damaged), None, "{damaged}");
        }
    }
}
