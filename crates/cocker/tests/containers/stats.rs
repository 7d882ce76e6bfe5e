//! What containers use: each figure is compared with what was used on purpose, or with what the kernel says elsewhere.

use crate::host::Place::{Inside, OnHost};
use crate::host::{Host, eventually, in_a_lab, with_image_test};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

pub mod top;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = with_image_test![
        a_second_of_processor_time_is_a_second,
        memory_that_is_held_is_told_apart_from_the_cache,
        processes_are_counted,
        what_is_written_to_a_disk_and_read_from_it_is_counted,
        a_quota_that_is_used_up_is_told,
        a_process_killed_for_want_of_memory_is_counted,
        whoever_waits_for_a_processor_is_under_pressure,
        limits_are_told_and_so_is_that_there_are_none,
        live_tells_what_happened_since_the_last_look,
        live_ends_with_its_reader_and_with_its_containers,
        only_booted_containers_are_listed_and_others_are_errors,
        containers_that_come_and_go_are_no_failure,
        a_container_that_stands_still_is_looked_at_all_the_same,
    ];
    trials.extend(in_a_lab![
        what_goes_over_the_bridge_is_counted_as_the_container_sees_it,
    ]);
    trials
}

const MIB: u64 = 1024 * 1024;

/// What `stats` tells programs of container `name`.
#[track_caller]
fn figures(host: &Host, name: &str) -> Value {
    let text = host
        .cocker_words(&["stats", name, "--format", "json"])
        .succeeds()
        .complains("")
        .stdout();
    let mut all: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{text}");
    assert_eq!(all[0]["container_id"], name);
    all[0].take()
}

#[track_caller]
fn figure(host: &Host, name: &str, key: &str) -> u64 {
    let all = figures(host, name);
    all[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} is {}", all[key]))
}

/// The words of the line of container `name` in the table.
#[track_caller]
fn line(host: &Host, name: &str) -> String {
    let table = host.cocker("stats").succeeds().complains("").stdout();
    let mut lines = table.lines();
    let line = lines.find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{table}"))
        .into()
}

fn a_second_of_processor_time_is_a_second(host: &Host) {
    let begun = Instant::now();
    host.booted("web");
    let since = Instant::now();
    let before = figure(host, "web", "cpu_usage_usec");
    let line = "while :; do :; done";
    host.cocker_words(&["run", "web", "--detach", "--", "bash", "-c", line])
        .succeeds();
    let pid = host.until_inside_runs("bash");
    // proc_pid_schedstat(5): nanoseconds on a processor come first.
    let used = || {
        let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("it runs");
        let first = text
            .split(' ')
            .next()
            .and_then(|text| text.parse::<u64>().ok());
        first.expect("a number") / 1_000
    };
    eventually("it has used a second", || used() > 1_000_000);
    // What stands still uses nothing between the two looks.
    host.cocker("pause web").ok();
    let asked = Instant::now();
    let (expected, after) = (used(), figures(host, "web"));
    let looked = Instant::now();
    let usage = after["cpu_usage_usec"].as_u64().expect("a number");
    let told = usage - before;
    // Its init has started a command meanwhile.
    assert!(
        told >= expected && told < expected + 100_000,
        "{told} and {expected} microseconds"
    );
    let parts =
        ["cpu_user_usec", "cpu_system_usec"].map(|key| after[key].as_u64().expect("it is there"));
    assert!(usage.abs_diff(parts.iter().sum()) <= 1, "{after}");
    // The share is over all the time since the boot.
    let uptime = after["uptime_seconds"].as_f64().expect("it is known");
    let share = after["cpu_percent"].as_f64().expect("it is known");
    let expected = usage as f64 / 10_000.0 / uptime;
    assert!(
        (share - expected).abs() < 0.5 + expected / 20.0,
        "{share} and {expected}"
    );
    let most = looked.duration_since(begun).as_secs_f64();
    let least = asked.duration_since(since).as_secs_f64();
    // It is told in hundredths.
    assert!(
        (least - 0.01..=most + 0.01).contains(&uptime),
        "{uptime} seconds, and not {least} to {most}"
    );
}

/// Resident memory of a process in bytes, as proc_pid_status(5) tells it.
#[track_caller]
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("every process has memory") * 1024
}

fn memory_that_is_held_is_told_apart_from_the_cache(host: &Host) {
    host.booted("web");
    let own = |all: &Value| {
        let number = |key: &str| all[key].as_u64().expect("it is there");
        number("memory_bytes") - number("memory_cache_bytes")
    };
    let before = figures(host, "web");
    // It has read as much, and waits for somebody to take it.
    let line = "dd if=/dev/zero bs=50M count=1 2>/dev/null | sleep 1000";
    host.cocker_words(&["run", "web", "--detach", "--", "sh", "-c", line])
        .succeeds();
    let holder = host.until_inside_runs("dd");
    eventually("50 MiB are held", || resident(holder) >= 50 * MIB);
    let grown = own(&figures(host, "web")) - own(&before);
    assert!((50 * MIB..58 * MIB).contains(&grown), "{grown} bytes");

    // What is written to a file is held too, but can be dropped.
    let cache = |all: &Value| all["memory_cache_bytes"].as_u64().expect("it is there");
    let now = figures(host, "web");
    host.inside(
        "web",
        "dd if=/dev/zero of=/root/file bs=1M count=20 conv=fsync 2>&1",
    );
    let then = figures(host, "web");
    let cached = cache(&then) - cache(&now);
    assert!((20 * MIB..22 * MIB).contains(&cached), "{cached} bytes");
    assert!(own(&then).abs_diff(own(&now)) < 4 * MIB);
    // And what lies in a file that is nowhere but in memory cannot.
    host.inside(
        "web",
        "dd if=/dev/zero of=/dev/shm/file bs=1M count=10 2>&1",
    );
    let last = figures(host, "web");
    assert!(cache(&last).abs_diff(cache(&then)) < MIB);
    let grown = own(&last) - own(&then);
    assert!((9 * MIB..12 * MIB).contains(&grown), "{grown} bytes");
}

fn processes_are_counted(host: &Host) {
    host.booted("web");
    let line = "sleep 1000 & sleep 1000 & sleep 1000 & wait";
    host.cocker_words(&["run", "web", "--detach", "--", "sh", "-c", line])
        .succeeds();
    let sleeping = || {
        let contained = host.contained();
        contained
            .iter()
            .filter(|process| process.name() == "sleep")
            .count()
    };
    eventually("three sleep", || sleeping() == 3);
    let count = host.contained().len() as u64;
    // The first of them may still be on its way into the hierarchy that counts them.
    eventually("all are counted", || figure(host, "web", "pids") == count);
    assert!(count >= 5, "init, a shell and three that sleep");
}

fn what_is_written_to_a_disk_and_read_from_it_is_counted(host: &Host) {
    host.booted("web");
    let before = figures(host, "web");
    host.inside(
        "web",
        "dd if=/dev/zero of=/root/file bs=1M count=24 oflag=direct conv=fsync 2>&1",
    );
    host.inside(
        "web",
        "dd if=/root/file of=/dev/null bs=1M count=16 iflag=direct 2>&1",
    );
    let after = figures(host, "web");
    let grown = |key: &str| {
        let number = |all: &Value| all[key].as_u64().unwrap_or_else(|| panic!("{key}: {all}"));
        number(&after) - number(&before)
    };
    let (read, written) = (grown("io_read_bytes"), grown("io_written_bytes"));
    assert!((16 * MIB..18 * MIB).contains(&read), "{read} bytes read");
    assert!(
        (24 * MIB..27 * MIB).contains(&written),
        "{written} bytes written"
    );
    assert!(grown("io_read_operations") > 0 && grown("io_write_operations") > 0);
}

fn a_quota_that_is_used_up_is_told(host: &Host) {
    host.cocker("create -m test -c web").ok();
    let begun = Instant::now();
    host.cocker("boot web --cpu-quota 10%").ok();
    // The one that has a second of its own has more than it may use; on a busy machine it may not get even that.
    eventually("the quota is used up often", || {
        host.cocker_words(&[
            "run",
            "web",
            "--timeout",
            "1",
            "--",
            "sh",
            "-c",
            "while :; do :; done",
        ])
        .exits(124);
        let all = figures(host, "web");
        let number = |key: &str| all[key].as_u64().unwrap_or_else(|| panic!("{key}: {all}"));
        let most = 400_000 + begun.elapsed().as_micros() as u64 / 10;
        assert!(number("cpu_usage_usec") < most, "{all}");
        let (periods, throttled) = (number("cpu_periods"), number("cpu_throttled_periods"));
        assert!(throttled <= periods, "{all}");
        throttled > 2 && number("cpu_throttled_usec") > 100_000
    });
}

fn a_process_killed_for_want_of_memory_is_counted(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("boot web --mem-limit 32M").ok();
    assert_eq!(figure(host, "web", "oom_kills"), 0);
    assert_eq!(figure(host, "web", "memory_limit_bytes"), 32 * MIB);
    for count in 1..=2 {
        let ended = host.cocker_words(&[
            "run",
            "web",
            "--",
            "dd",
            "if=/dev/zero",
            "of=/dev/null",
            "bs=100M",
            "count=1",
        ]);
        assert_eq!(ended.status.code(), Some(137), "{ended}");
        assert_eq!(figure(host, "web", "oom_kills"), count);
    }
}

fn whoever_waits_for_a_processor_is_under_pressure(host: &Host) {
    if !fs::exists("/proc/pressure/cpu").unwrap_or(false) {
        // Nobody counts it here, and nobody says that there was none.
        host.booted("web");
        assert!(figures(host, "web")["pressure"]["cpu"].is_null());
        return;
    }
    host.cocker("create -m test -c web").ok();
    host.cocker("boot web --cpus 0").ok();
    let total = || {
        let all = figures(host, "web");
        all["pressure"]["cpu"]["some"]["total_usec"]
            .as_u64()
            .expect("it is counted")
    };
    let before = total();
    // Two that want the same processor: one always waits.
    let line = "f() { ulimit -t 1; while :; do :; done; }; f & f & wait";
    host.cocker_words(&["run", "web", "--", "sh", "-c", line])
        .succeeds();
    let waited = total() - before;
    assert!(waited > 500_000, "{waited} microseconds");
}

fn limits_are_told_and_so_is_that_there_are_none(host: &Host) {
    host.booted("free");
    host.cocker("create -m test -c held").ok();
    host.cocker("boot held --mem-limit 64M --pids-limit 77")
        .ok();
    let held = figures(host, "held");
    assert_eq!(held["memory_limit_bytes"], 64 * MIB);
    assert_eq!(held["pids_limit"], 77);
    let free = figures(host, "free");
    assert!(free["memory_limit_bytes"].is_null() && free["memory_bytes"].is_u64());
    assert!(
        free["net_sent_bytes"].is_null(),
        "the host's network is not the container's"
    );
    assert!(line(host, "free").contains(" none "));
    assert!(line(host, "held").contains(" 64 MB ") && line(host, "held").contains(" 77 "));
    assert!(
        line(host, "free").contains(" -            - "),
        "{}",
        line(host, "free")
    );
}

fn live_tells_what_happened_since_the_last_look(host: &Host) {
    host.booted("web");
    host.cocker_words(&[
        "run",
        "web",
        "--detach",
        "--",
        "sh",
        "-c",
        "while :; do :; done",
    ])
    .succeeds();
    let mut stats = host.start("stats web --live --interval 0.2 --format json");
    stats.until_prints("\n");
    stats.until_prints("]\n[");
    host.cocker("pause web").ok();
    // From some look on nothing is used any more, although a lot was since the boot.
    stats.until_prints("\"cpu_percent\":0.0,");
    host.cocker("shutdown web").ok();
    let outcome = stats.outcome().succeeds().complains("");
    let looks: Vec<Value> = outcome
        .stdout()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON")[0].take())
        .collect();
    let share = |look: &Value| look["cpu_percent"].as_f64().expect("it is known");
    // The first few looks are at a loop that never ends; the machine may be busy with other things too.
    assert!(
        looks.iter().map(share).any(|share| share > 5.0),
        "{}",
        outcome.stdout()
    );
    // One that is held up after it has read the clock finds more than belongs to its time.
    let too_much = looks.iter().filter(|look| share(look) >= 130.0);
    assert!(too_much.count() <= 1, "{}", outcome.stdout());
}

fn live_ends_with_its_reader_and_with_its_containers(host: &Host) {
    host.booted("web");
    host.shell("cocker stats --live --interval 3600 | head -1")
        .succeeds()
        .within(Duration::from_secs(20));
    let mut live = host.start("stats web --live --interval 0.1");
    live.until_prints("web ");
    host.cocker("shutdown web").ok();
    live.outcome().succeeds().complains("");
    host.cocker("stats --interval 1")
        .fails(2, &["--interval", "--live"]);
    for bad in ["0", "x", "-1", "1e3", "100000"] {
        host.cocker(&format!("stats --live --interval={bad}"))
            .fails(2, &["--interval", bad]);
    }
}

fn only_booted_containers_are_listed_and_others_are_errors(host: &Host) {
    host.cocker("stats").succeeds().prints("").complains("");
    host.cocker("-s stats --format json")
        .succeeds()
        .prints("[]\n");
    host.booted("web");
    host.booted("db");
    host.cocker("create -m test -c off").ok();
    let listed = |line: &str| {
        let table = host.cocker(line).succeeds().stdout();
        let names = table
            .lines()
            .skip(2)
            .map(|line| line.split(' ').next().unwrap_or_default().to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed("stats"), ["db", "web"]);
    assert_eq!(listed("stats web db web"), ["db", "web"]);
    assert_eq!(listed("-s stats -c web"), ["web"]);
    host.cocker("stats web off")
        .fails(1, &["`off`", "not booted", "cocker boot off"]);
    host.cocker("-s stats -c no")
        .fails(1, &["`no`", "no container"]);
    host.cocker("stats ..").fails(2, &["`..`"]);
}

fn containers_that_come_and_go_are_no_failure(host: &Host) {
    host.booted("stays");
    host.cocker("create -m test -c comes").ok();
    let mut live = host.start("stats --live --interval 0.1 --format json");
    live.until_prints("stays");
    for _ in 0..10 {
        host.cocker("boot comes").ok();
        host.cocker("kill comes").ok();
    }
    host.cocker("destroy comes").ok();
    live.signal(rustix::process::Signal::TERM);
    let outcome = live
        .outcome()
        .dies_of(rustix::process::Signal::TERM)
        .complains("");
    for line in outcome.stdout().lines() {
        let all: Value = serde_json::from_str(line).expect("each line is JSON");
        let all = all.as_array().expect("an array");
        assert!(
            all.iter().any(|one| one["container_id"] == "stays"),
            "{line}"
        );
        assert!(
            all.iter().all(|one| one["cpu_usage_usec"].is_u64()),
            "{line}"
        );
    }
}

fn a_container_that_stands_still_is_looked_at_all_the_same(host: &Host) {
    host.booted("web");
    host.cocker("pause web").ok();
    host.cocker("stats web")
        .succeeds()
        .within(Duration::from_secs(5));
    eventually("its init is counted", || figure(host, "web", "pids") == 1);
    host.cocker("resume web").ok();
}

fn what_goes_over_the_bridge_is_counted_as_the_container_sees_it(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("other", "");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(OnHost, "166.88.0.2:80", "web");
    // Much comes in, and nothing is said to it: there is nobody at that port.
    host.at(
        OnHost,
        "bash -c 'for i in 1 2 3 4 5 6 7 8 9 10; do head -c 1000 /dev/zero > /dev/udp/166.88.0.2/9 || :; done'",
    );
    // proc_pid_net(5), `dev`: bytes and packets received, then, eight columns on, sent.
    let seen_inside = || {
        let table = host.at(Inside("web"), "cat /proc/net/dev");
        let line = table
            .lines()
            .find_map(|line| line.trim().strip_prefix("eth0:"));
        let words = line.expect("it has a link").split_whitespace();
        let numbers: Vec<u64> = words.map(|word| word.parse().expect("a number")).collect();
        [numbers[0], numbers[8], numbers[1], numbers[9]]
    };
    let told = || {
        let all = figures(host, "web");
        let keys = [
            "net_received_bytes",
            "net_sent_bytes",
            "net_received_packets",
            "net_sent_packets",
        ];
        keys.map(|key| all[key].as_u64().unwrap_or_else(|| panic!("{key}: {all}")))
    };
    // Neighbours look for each other from time to time.
    eventually("both count the same", || seen_inside() == told());
    let [received, sent, ..] = told();
    assert!(
        received > 10_000 && sent > 0 && sent < received,
        "{received} and {sent}"
    );
    // A container that was booted anew has a new link, and begins anew.
    host.cocker("kill web").ok();
    host.cocker("boot web").ok();
    assert!(told()[0] < 10_000);
}
