//! Which file of a sandbox's folders says which limit, in v1 and in v2, and in which order they are written.

use super::layout::{Controller, Generation};
use crate::limits::{IO_KEYS, IoLimit, Limits, MemoryLimit, QUOTA_PERIOD};

/// One file that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub controller: Controller,
    pub generation: Generation,
    /// What the user calls it.
    pub option: &'static str,
    pub file: String,
    pub value: String,
    /// What takes it back.
    pub before: String,
    /// Whether there is no going on where the kernel has no such file, nor another one for this option before it.
    pub is_needed: bool,
}

/// A limit for which the host lacks the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub option: &'static str,
    pub controller: Controller,
}

/// What has to be written so that `to` holds where `from` does; `all_cpus` is what a sandbox without a limit may use.
pub(crate) fn changes(
    from: &Limits,
    to: &Limits,
    all_cpus: &str,
    generation: impl Fn(Controller) -> Option<Generation>,
) -> Result<Vec<Write>, Missing> {
    let mut list = List {
        generation,
        writes: Vec::new(),
    };
    list.cpus(from, to, all_cpus)?;
    list.cpu_time(from, to)?;
    list.memory(from, to)?;
    list.processes(from, to)?;
    list.io(from, to)?;
    list.huge_pages(from, to)?;
    Ok(list.writes)
}

struct List<G> {
    generation: G,
    writes: Vec<Write>,
}

/// A file and what is written into it, before and now.
struct Values {
    file: String,
    before: String,
    value: String,
}

fn values(file: &str, before: impl ToString, value: impl ToString) -> Values {
    Values {
        file: file.into(),
        before: before.to_string(),
        value: value.to_string(),
    }
}

/// A number, or the kernel's word for "as much as there is".
fn or(limit: Option<u64>, unlimited: &str) -> String {
    limit.map_or_else(|| unlimited.into(), |limit| limit.to_string())
}

impl<G: Fn(Controller) -> Option<Generation>> List<G> {
    fn generation(
        &self,
        option: &'static str,
        controller: Controller,
    ) -> Result<Generation, Missing> {
        (self.generation)(controller).ok_or(Missing { option, controller })
    }

    fn push(
        &mut self,
        option: &'static str,
        controller: Controller,
        legacy: impl FnOnce() -> Values,
        unified: impl FnOnce() -> Values,
    ) -> Result<(), Missing> {
        let generation = self.generation(option, controller)?;
        let values = match generation {
            Generation::Legacy => legacy(),
            Generation::Unified => unified(),
        };
        self.add(option, controller, generation, values);
        Ok(())
    }

    fn add(
        &mut self,
        option: &'static str,
        controller: Controller,
        generation: Generation,
        Values {
            file,
            before,
            value,
        }: Values,
    ) {
        self.writes.push(Write {
            controller,
            generation,
            option,
            file,
            value,
            before,
            is_needed: true,
        });
    }

    fn cpus(&mut self, from: &Limits, to: &Limits, all: &str) -> Result<(), Missing> {
        if from.cpus == to.cpus {
            return Ok(());
        }
        const FILE: &str = "cpuset.cpus";
        let named = |limits: &Limits| limits.cpus.clone().unwrap_or_else(|| all.into());
        // In v2 an empty list is the one of the folder above; in v1 nobody can live with an empty one.
        let or_empty = |limits: &Limits| limits.cpus.clone().unwrap_or_default();
        self.push(
            "--cpus",
            Controller::Cpuset,
            || values(FILE, named(from), named(to)),
            || values(FILE, or_empty(from), or_empty(to)),
        )
    }

    fn cpu_time(&mut self, from: &Limits, to: &Limits) -> Result<(), Missing> {
        if from.cpu_quota != to.cpu_quota {
            let with_period = |quota| format!("{} {QUOTA_PERIOD}", or(quota, "max"));
            self.push(
                "--cpu-quota",
                Controller::Cpu,
                || {
                    let [before, now] = [from, to].map(|limits| or(limits.cpu_quota, "-1"));
                    values("cpu.cfs_quota_us", before, now)
                },
                || {
                    let [before, now] = [from, to].map(|limits| with_period(limits.cpu_quota));
                    values("cpu.max", before, now)
                },
            )?;
        }
        if from.cpu_weight != to.cpu_weight {
            // What 100 is in v2, 1024 is in v1.
            let shares = |limits: &Limits| (limits.cpu_weight.unwrap_or(100) * 1024 / 100).max(2);
            let weight = |limits: &Limits| limits.cpu_weight.unwrap_or(100);
            self.push(
                "--cpu-weight",
                Controller::Cpu,
                || values("cpu.shares", shares(from), shares(to)),
                || values("cpu.weight", weight(from), weight(to)),
            )?;
        }
        Ok(())
    }

    fn memory(&mut self, from: &Limits, to: &Limits) -> Result<(), Missing> {
        const OPTION: &str = "--mem-limit";
        const CONTROLLER: Controller = Controller::Memory;
        if from.memory != to.memory {
            match self.generation(OPTION, CONTROLLER)? {
                Generation::Unified => self.memory_unified(from.memory, to.memory),
                Generation::Legacy => self.memory_legacy(from.memory, to.memory),
            }
        }
        if from.oom_kill_group != to.oom_kill_group {
            let values = || {
                let [before, now] = [from, to].map(|limits| u8::from(limits.oom_kill_group));
                values("memory.oom.group", before, now)
            };
            // The file is in v2 only; in v1 the error will name it.
            self.push("--oom-kill-group", CONTROLLER, values, values)?;
        }
        Ok(())
    }

    fn memory_unified(&mut self, from: Option<MemoryLimit>, to: Option<MemoryLimit>) {
        let bytes = |limit: Option<MemoryLimit>| or(limit.map(|limit| limit.bytes), "max");
        let swap =
            |limit: Option<MemoryLimit>| or(limit.map(|limit| limit.swap.unwrap_or(0)), "max");
        let (unified, memory) = (Generation::Unified, Controller::Memory);
        if bytes(from) != bytes(to) {
            let values = values("memory.max", bytes(from), bytes(to));
            self.add("--mem-limit", memory, unified, values);
        }
        if swap(from) != swap(to) {
            let values = values("memory.swap.max", swap(from), swap(to));
            self.add("--swap-limit", memory, unified, values);
            self.need_last_only_where(to);
        }
    }

    /// In v1 the second number is of both together, and never below the first one: what is raised is raised before that.
    fn memory_legacy(&mut self, from: Option<MemoryLimit>, to: Option<MemoryLimit>) {
        let both = |limit: Option<MemoryLimit>| {
            limit.map(|limit| limit.bytes.saturating_add(limit.swap.unwrap_or(0)))
        };
        let text = |limit: Option<u64>| or(limit, "-1");
        let (legacy, memory) = (Generation::Legacy, Controller::Memory);
        let alone = |limit: Option<MemoryLimit>| limit.map(|limit| limit.bytes);
        let swap = values(
            "memory.memsw.limit_in_bytes",
            text(both(from)),
            text(both(to)),
        );
        let bytes = values("memory.limit_in_bytes", text(alone(from)), text(alone(to)));
        let is_raised = both(to).unwrap_or(u64::MAX) >= both(from).unwrap_or(u64::MAX);
        if is_raised {
            self.add("--swap-limit", memory, legacy, swap);
            self.need_last_only_where(to);
            self.add("--mem-limit", memory, legacy, bytes);
        } else {
            self.add("--mem-limit", memory, legacy, bytes);
            self.add("--swap-limit", memory, legacy, swap);
            self.need_last_only_where(to);
        }
        self.writes.retain(|write| write.before != write.value);
    }

    /// A kernel that does not count swap has no file for it. Then a limit of it that nobody has named says nothing.
    fn need_last_only_where(&mut self, to: Option<MemoryLimit>) {
        if let Some(last) = self.writes.last_mut() {
            last.is_needed = to.is_some_and(|limit| limit.swap.is_some());
        }
    }

    fn processes(&mut self, from: &Limits, to: &Limits) -> Result<(), Missing> {
        let most = |limits: &Limits| or(limits.processes.map(|limit| limit.most), "max");
        if most(from) == most(to) {
            return Ok(());
        }
        let values = || values("pids.max", most(from), most(to));
        let pushed = self.push("--pids-limit", Controller::Pids, values, values);
        match pushed {
            Err(_) if to.processes.is_none_or(|limit| limit.is_default) => Ok(()),
            other => other,
        }
    }

    fn io(&mut self, from: &Limits, to: &Limits) -> Result<(), Missing> {
        const CONTROLLER: Controller = Controller::Io;
        if from.io_weight != to.io_weight {
            let weight = |limits: &Limits| limits.io_weight.unwrap_or(100);
            let of_bfq = |limits: &Limits| bfq_weight(weight(limits));
            self.push(
                "--io-weight",
                CONTROLLER,
                || values("blkio.bfq.weight", of_bfq(from), of_bfq(to)),
                // Which of the two is of effect depends on the disk's scheduler, and which are there on the kernel.
                || values("io.bfq.weight", of_bfq(from), of_bfq(to)),
            )?;
            if let Some(last) = self.writes.last_mut()
                && last.generation == Generation::Unified
            {
                last.is_needed = false;
                let text = |limits| format!("default {}", weight(limits));
                let values = values("io.weight", text(from), text(to));
                self.add("--io-weight", CONTROLLER, Generation::Unified, values);
            }
        }
        // A disk that is named no more first: the others may then have what it had.
        let gone = from.io.iter().filter(|before| find(to, before).is_none());
        let gone: Vec<IoLimit> = gone
            .map(|before| IoLimit {
                rates: [None; 4],
                ..before.clone()
            })
            .collect();
        for limit in gone.iter().chain(&to.io) {
            let before = find(from, limit).map_or([None; 4], |before| before.rates);
            if before != limit.rates {
                self.io_of_one(limit, before)?;
            }
        }
        Ok(())
    }

    fn io_of_one(&mut self, limit: &IoLimit, before: [Option<u64>; 4]) -> Result<(), Missing> {
        const OPTION: &str = "--io-max";
        const LEGACY: [&str; 4] = [
            "blkio.throttle.read_bps_device",
            "blkio.throttle.write_bps_device",
            "blkio.throttle.read_iops_device",
            "blkio.throttle.write_iops_device",
        ];
        let device = format!("{}:{}", limit.major, limit.minor);
        match self.generation(OPTION, Controller::Io)? {
            Generation::Legacy => {
                for (number, file) in LEGACY.iter().enumerate() {
                    let text = |rate: Option<u64>| format!("{device} {}", rate.unwrap_or(0));
                    let values = values(file, text(before[number]), text(limit.rates[number]));
                    if values.before != values.value {
                        self.add(OPTION, Controller::Io, Generation::Legacy, values);
                    }
                }
            }
            Generation::Unified => {
                let text = |rates: [Option<u64>; 4]| {
                    let rates = IO_KEYS.iter().zip(rates);
                    let rates = rates.map(|(key, rate)| format!(" {key}={}", or(rate, "max")));
                    device.clone() + &rates.collect::<String>()
                };
                let values = values("io.max", text(before), text(limit.rates));
                self.add(OPTION, Controller::Io, Generation::Unified, values);
            }
        }
        Ok(())
    }

    fn huge_pages(&mut self, from: &Limits, to: &Limits) -> Result<(), Missing> {
        let of = |limits: &Limits, page| {
            let mut pages = limits.huge_pages.iter();
            pages.find(|it| it.page == page).map(|it| it.bytes)
        };
        let mut sizes: Vec<u64> = [from, to]
            .iter()
            .flat_map(|limits| limits.huge_pages.iter().map(|it| it.page))
            .collect();
        sizes.sort_unstable();
        sizes.dedup();
        for page in sizes {
            let (before, now) = (of(from, page), of(to, page));
            if before != now {
                let name = page_name(page);
                self.push(
                    "--hugepages",
                    Controller::Hugetlb,
                    || {
                        let file = format!("hugetlb.{name}.limit_in_bytes");
                        values(&file, or(before, "-1"), or(now, "-1"))
                    },
                    || {
                        let file = format!("hugetlb.{name}.max");
                        values(&file, or(before, "max"), or(now, "max"))
                    },
                )?;
            }
        }
        Ok(())
    }
}

fn find<'a>(limits: &'a Limits, device: &IoLimit) -> Option<&'a IoLimit> {
    let mut all = limits.io.iter();
    all.find(|it| (it.major, it.minor) == (device.major, device.minor))
}

/// BFQ's own scale ends at 1,000; 100 is the default of both.
fn bfq_weight(weight: u64) -> u64 {
    match weight {
        0..=100 => weight,
        more => 100 + (more - 100) * 900 / 9_900,
    }
}

/// As the kernel writes the size of a page into the names of its files.
fn page_name(bytes: u64) -> String {
    match bytes {
        _ if bytes >= 1 << 30 => format!("{}GB", bytes >> 30),
        _ if bytes >= 1 << 20 => format!("{}MB", bytes >> 20),
        _ => format!("{}KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{HugePageLimit, ProcessLimit};

    /// One line a write: `FILE: BEFORE -> VALUE`.
    fn text(from: &Limits, to: &Limits, generation: Generation) -> String {
        let writes = changes(from, to, "0-3", |_| Some(generation)).expect("all are there");
        let line = |write: &Write| format!("{}: {} -> {}\n", write.file, write.before, write.value);
        writes.iter().map(line).collect()
    }

    fn memory(bytes: u64, swap: Option<u64>) -> Limits {
        Limits {
            memory: Some(MemoryLimit { bytes, swap }),
            ..Limits::default()
        }
    }

    fn everything() -> Limits {
        Limits {
            cpus: Some("0,2-3".into()),
            cpu_quota: Some(25_000),
            cpu_weight: Some(50),
            oom_kill_group: true,
            processes: Some(ProcessLimit {
                most: 100,
                is_default: false,
            }),
            io_weight: Some(1_000),
            io: vec![IoLimit {
                major: 8,
                minor: 0,
                rates: [None, Some(1_000_000), None, Some(7)],
            }],
            huge_pages: vec![HugePageLimit {
                page: 2 << 20,
                bytes: 4 << 20,
            }],
            open_files: None,
            ..memory(100, None)
        }
    }

    #[test]
    fn in_v2_each_limit_is_one_file() {
        let expected = "\
cpuset.cpus:  -> 0,2-3
cpu.max: max 100000 -> 25000 100000
cpu.weight: 100 -> 50
memory.max: max -> 100
memory.swap.max: max -> 0
memory.oom.group: 0 -> 1
pids.max: max -> 100
io.bfq.weight: 100 -> 181
io.weight: default 100 -> default 1000
io.max: 8:0 rbps=max wbps=max riops=max wiops=max -> 8:0 rbps=max wbps=1000000 riops=max wiops=7
hugetlb.2MB.max: max -> 4194304
";
        let got = text(&Limits::default(), &everything(), Generation::Unified);
        assert_eq!(got, expected);
    }

    #[test]
    fn in_v1_they_have_other_names_and_scales() {
        let expected = "\
cpuset.cpus: 0-3 -> 0,2-3
cpu.cfs_quota_us: -1 -> 25000
cpu.shares: 1024 -> 512
memory.limit_in_bytes: -1 -> 100
memory.memsw.limit_in_bytes: -1 -> 100
memory.oom.group: 0 -> 1
pids.max: max -> 100
blkio.bfq.weight: 100 -> 181
blkio.throttle.write_bps_device: 8:0 0 -> 8:0 1000000
blkio.throttle.write_iops_device: 8:0 0 -> 8:0 7
hugetlb.2MB.limit_in_bytes: -1 -> 4194304
";
        let got = text(&Limits::default(), &everything(), Generation::Legacy);
        assert_eq!(got, expected);
    }

    #[test]
    fn what_does_not_change_is_not_written() {
        let limits = everything();
        assert_eq!(text(&limits, &limits, Generation::Legacy), "");
        let none = Limits::default();
        let back = changes(&limits, &none, "0-3", |_| Some(Generation::Unified));
        let there = changes(&none, &limits, "0-3", |_| Some(Generation::Unified));
        let (back, there) = (back.expect("all are there"), there.expect("all are there"));
        assert_eq!(back.len(), there.len());
        for (back, there) in back.iter().zip(&there) {
            assert_eq!(back.value, there.before);
        }
    }

    #[test]
    fn in_v1_memory_never_passes_memory_with_swap_on_the_way() {
        for (from, to) in [
            (memory(100, None), memory(200, None)),
            (memory(200, None), memory(100, None)),
            (memory(100, Some(500)), memory(300, Some(0))),
            (memory(300, Some(0)), memory(100, Some(500))),
            (Limits::default(), memory(100, Some(7))),
            (memory(100, Some(7)), Limits::default()),
        ] {
            let number = |text: &str| match text {
                "-1" => u64::MAX,
                text => text.parse().expect("a number"),
            };
            let writes = changes(&from, &to, "0", |_| Some(Generation::Legacy));
            let writes = writes.expect("it is there");
            let mut now = [u64::MAX, u64::MAX];
            for (place, file) in ["memory.limit", "memory.memsw"].iter().enumerate() {
                let write = writes.iter().find(|write| write.file.starts_with(file));
                if let Some(write) = write {
                    now[place] = number(&write.before);
                } else if let Some(limit) = from.memory {
                    now[place] = limit.bytes + [0, limit.swap.unwrap_or(0)][place];
                }
            }
            for write in &writes {
                let place = usize::from(write.file.contains("memsw"));
                now[place] = number(&write.value);
                assert!(now[0] <= now[1], "{from:?} to {to:?}: {writes:?}");
            }
        }
    }

    #[test]
    fn a_disk_that_is_named_no_more_is_free_again() {
        let mut to = everything();
        to.io[0].minor = 16;
        let got = text(&everything(), &to, Generation::Unified);
        let expected = "\
io.max: 8:0 rbps=max wbps=1000000 riops=max wiops=7 -> 8:0 rbps=max wbps=max riops=max wiops=max
io.max: 8:16 rbps=max wbps=max riops=max wiops=max -> 8:16 rbps=max wbps=1000000 riops=max wiops=7
";
        assert_eq!(got, expected);
    }

    #[test]
    fn where_a_controller_is_missing_only_what_needs_it_is_refused() {
        let none = Limits::default();
        let without = |missing: Controller| {
            move |it: Controller| (it != missing).then_some(Generation::Unified)
        };
        let refused = changes(&none, &everything(), "0", without(Controller::Io));
        let expected = Missing {
            option: "--io-weight",
            controller: Controller::Io,
        };
        assert_eq!(refused, Err(expected));
        assert!(changes(&none, &memory(5, None), "0", without(Controller::Io)).is_ok());
        let mut default = Limits {
            processes: Some(ProcessLimit {
                most: 9,
                is_default: true,
            }),
            ..none.clone()
        };
        let skipped = changes(&none, &default, "0", without(Controller::Pids));
        assert_eq!(skipped, Ok(vec![]));
        default.processes = Some(ProcessLimit {
            most: 9,
            is_default: false,
        });
        assert!(changes(&none, &default, "0", without(Controller::Pids)).is_err());
    }

    #[test]
    fn pages_are_called_as_the_kernel_calls_them() {
        let names = [64 << 10, 2 << 20, 32 << 20, 1 << 30].map(page_name);
        assert_eq!(names, ["64KB", "2MB", "32MB", "1GB"]);
    }
}
