//! A container is booted and shut down again and again: what the kernel has of it afterwards is what it had before.

use crate::host::{Host, here, in_a_lab, processes};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![the_host_does_not_grow_with_boots_and_shutdowns]
}

/// So often; `COCKER_TEST_TRIES` times as often.
const USUAL: u32 = 200;
/// Before anything is counted: caches fill.
const BEFORE: u32 = 60;

fn the_host_does_not_grow_with_boots_and_shutdowns(host: &Host) {
    let tries = std::env::var("COCKER_TEST_TRIES").unwrap_or_else(|_| "1".into());
    let cycles = USUAL * tries.parse::<u32>().expect("COCKER_TEST_TRIES is a number");
    host.cocker("create -m test -c web --net BRIDGE --port-mapping 8080:80")
        .ok();
    let cycle = || {
        host.cocker("boot web").ok();
        host.cocker("run web -- /bin/true").prints("");
        host.cocker("shutdown web").ok();
    };
    (0..BEFORE).for_each(|_| cycle());
    // Its namespace is known by name from then on.
    host.cocker("boot web").ok();
    assert!(host.is_pinned("web"));
    host.cocker("shutdown web").ok();
    let before = Held::now(host);
    let begun = Instant::now();
    (0..cycles).for_each(|_| cycle());
    let took = begun.elapsed();
    let after = settled(host, &before, cycles);
    println!(
        "{cycles} cycles in {took:?} ({:?} each)\nbefore {before:?}\nafter  {after:?}",
        took / cycles
    );
    let grown = after.grown_since(&before, cycles);
    assert!(
        grown.is_empty(),
        "after {cycles} cycles:\n{}",
        grown.join("\n")
    );
}

/// Some of the kernel's own work comes after the last process: a namespace or a cgroup goes when it has time.
fn settled(host: &Host, before: &Held, cycles: u32) -> Held {
    let deadline = Instant::now() + here(Duration::from_secs(60));
    loop {
        let now = Held::now(host);
        if now.grown_since(before, cycles).is_empty() || Instant::now() > deadline {
            return now;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the kernel says that it holds.
#[derive(Debug)]
struct Held {
    /// Of this test.
    processes: usize,
    mounts: usize,
    cgroups: usize,
    /// Of the whole machine; others may work on it.
    numbers: BTreeMap<&'static str, u64>,
    /// KiB of what cannot be given back.
    slab: u64,
    store: u64,
}

impl Held {
    fn now(host: &Host) -> Held {
        // What is only waiting to be freed goes.
        rustix::fs::sync();
        let _ = fs::write("/proc/sys/vm/drop_caches", "2");
        let slabs = fs::read_to_string("/proc/slabinfo").unwrap_or_default();
        let objects = |name: &str| -> u64 {
            let line = slabs
                .lines()
                .find(|line| line.split(' ').next() == Some(name));
            let count = line.and_then(|line| line.split_whitespace().nth(1));
            count.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let files = fs::read_to_string("/proc/sys/fs/file-nr").expect("procfs has it");
        let files = files
            .split_whitespace()
            .next()
            .and_then(|it| it.parse().ok());
        let dying = |file: &str| -> u64 {
            let stat = fs::read_to_string(file).unwrap_or_default();
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix("nr_dying_descendants "));
            line.and_then(|count| count.parse().ok()).unwrap_or(0)
        };
        let memory = fs::read_to_string("/proc/meminfo").expect("procfs has it");
        let slab = memory
            .lines()
            .find_map(|line| line.strip_prefix("SUnreclaim:"));
        let slab = slab.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs has it");
        let home = format!("{}/", host.home().display());
        let is_ours = |line: &&str| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            let name = point.rsplit('/').next().unwrap_or_default();
            line.contains(&home) || host.has_been_pinned(name)
        };
        let below = |top: &Path| super::host::entries(top).len() as u64;
        Held {
            processes: processes()
                .iter()
                .filter(|it| it.works_on(host.home()))
                .count(),
            mounts: mounts.lines().filter(is_ours).count(),
            cgroups: host.cgroups(),
            numbers: BTreeMap::from([
                ("open files", files.expect("a number")),
                ("network namespaces", objects("net_namespace")),
                ("mount namespaces and mounts", objects("mnt_cache")),
                ("pid namespaces", objects("pid_namespace")),
                ("user namespaces", objects("user_namespace")),
                (
                    "dying cgroups",
                    dying("/sys/fs/cgroup/unified/cgroup.stat")
                        + dying("/sys/fs/cgroup/cgroup.stat"),
                ),
            ]),
            slab: slab.expect("a number"),
            store: below(host.home()) + below(&host.home().join("containers/web")),
        }
    }

    /// One line for each thing of which there is more, and not by what others do on the machine meanwhile.
    fn grown_since(&self, before: &Held, cycles: u32) -> Vec<String> {
        let mut grown = Vec::new();
        let mut expect = |what: &str, before: u64, now: u64, noise: u64| {
            if now > before + noise {
                grown.push(format!("{what}: {before} before, {now} now"));
            }
        };
        expect(
            "processes",
            before.processes as u64,
            self.processes as u64,
            0,
        );
        expect("mounts", before.mounts as u64, self.mounts as u64, 0);
        expect("cgroups", before.cgroups as u64, self.cgroups as u64, 0);
        expect("files of the store", before.store, self.store, 0);
        // One each time would be `cycles`; other tests at once have some tens of each.
        let noise = u64::from(cycles) / 2;
        for (what, count) in &self.numbers {
            expect(what, before.numbers[what], *count, noise);
        }
        // 1 KiB each time would be a leak; other tests at once have some MiB.
        let noise = (u64::from(cycles) / 2).max(16 << 10);
        expect("KiB of slab", before.slab, self.slab, noise);
        grown
    }
}
