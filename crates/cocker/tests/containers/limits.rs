//! What a container may use, as the kernel measures it; and containers that stand still.

use crate::host::{Host, at_every_moment, eventually, here, with_image_test};
use rustix::process::{Pid, Signal};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        the_first_boots_at_once_share_what_they_make,
        a_quarter_of_a_processor_is_a_quarter_of_its_time,
        a_processor_that_is_not_named_is_never_run_on,
        what_holds_more_memory_than_there_may_be_is_killed_and_the_container_goes_on,
        a_fork_bomb_stays_within_its_limit_and_ends_with_its_container,
        a_container_without_a_limit_has_at_most_the_usual_number_of_processes,
        a_disk_is_written_to_as_fast_as_it_may_be,
        a_limit_that_is_set_while_a_program_runs_holds_at_once,
        limits_are_set_all_or_none,
        limits_hold_at_the_next_boot_until_they_are_changed,
        what_a_host_does_not_have_is_refused_with_what_it_has,
        programs_have_as_many_files_open_as_they_may,
        only_listed_devices_can_be_opened,
        a_systemd_inside_makes_cgroups_and_nobody_else_does,
        a_paused_container_stands_still_until_it_is_resumed,
        nothing_is_started_in_a_paused_container,
        a_paused_container_can_be_shut_down_killed_and_destroyed,
        a_boot_that_was_killed_leaves_no_cgroup_once_the_next_command_ran,
    ]
}

/// Their cgroups lie in one that the first of them makes, and the last one to end has removed.
fn the_first_boots_at_once_share_what_they_make(host: &Host) {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    for name in NAMES {
        host.cocker_words(&["create", "-m", "test", "-c", name])
            .ok();
    }
    for _ in 0..40 {
        let boots = NAMES.map(|name| host.start(&format!("boot {name}")));
        for boot in boots {
            boot.outcome().ok();
        }
        let ends = NAMES.map(|name| host.start(&format!("shutdown {name}")));
        for end in ends {
            end.outcome().ok();
        }
    }
}

/// A program inside that is always at work; its pid on the host.
fn busy(host: &Host, container: &str) -> i32 {
    host.cocker_words(&[
        "run",
        container,
        "--detach",
        "--",
        "sh",
        "-c",
        "exec yes > /dev/null",
    ])
    .succeeds();
    host.until_inside_runs("yes")
}

/// The numbers of proc_pid_stat(5) from the third on, by their numbers there.
fn stat(pid: i32, field: usize) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let rest = text.rsplit_once(')').expect("a name in brackets").1;
    let value = rest.split_whitespace().nth(field - 3);
    value
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

/// How much of one processor the process has had during `time`, in percent.
fn share(pid: i32, time: Duration) -> f64 {
    // The kernel counts in hundredths of a second (USER_HZ).
    let used = || stat(pid, 14) + stat(pid, 15);
    // On a busy machine it is rather longer than the two looks are apart.
    let since = Instant::now();
    let before = used();
    thread::sleep(time);
    (used() - before) as f64 / since.elapsed().as_secs_f64()
}

/// The folder of a booted container in the hierarchy with this controller, and whether that is of v2.
fn folder(host: &Host, container: &str, controller: &str) -> (PathBuf, bool) {
    let text = host.cocker("containers --format json").succeeds().stdout();
    let list: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let mut entries = list.as_array().expect("it is a list").iter();
    let entry = entries.find(|entry| entry["container_id"] == container);
    let pid = entry
        .and_then(|entry| entry["pid"].as_u64())
        .expect("it is booted");
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let path_of = |is_its: &dyn Fn(&str) -> bool| {
        let mut fields = lines.lines().map(|line| line.splitn(3, ':'));
        fields.find_map(|mut it| {
            let controllers = it.nth(1)?;
            is_its(controllers).then(|| it.next().map(String::from))?
        })
    };
    let legacy = path_of(&|names| names.split(',').any(|name| name == controller));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let mount = |is_its: &dyn Fn(&str) -> bool| {
        let line = mounts.lines().find(|line| is_its(line));
        let place = line.and_then(|line| line.split(' ').nth(4));
        PathBuf::from(place.expect("it is mounted"))
    };
    match legacy {
        Some(path) => {
            let place = mount(&|line| {
                let source = line.split_once(" - cgroup ").map(|(_, source)| source);
                let options = source.and_then(|source| source.split(' ').nth(1));
                options.is_some_and(|it| it.split(',').any(|name| name == controller))
            });
            (place.join(&path[1..]), false)
        }
        None => {
            let path = path_of(&str::is_empty).expect("every process has a place in v2");
            let place = mount(&|line| line.contains(" - cgroup2 "));
            (place.join(&path[1..]), true)
        }
    }
}

/// What the kernel has for a limit, by its names in v2 and in v1.
fn in_kernel(host: &Host, container: &str, controller: &str, files: [&str; 2]) -> String {
    let (folder, is_unified) = folder(host, container, controller);
    let file = folder.join(files[usize::from(!is_unified)]);
    match fs::read_to_string(&file) {
        Ok(text) => text.trim_end().to_string(),
        // In v2 a controller comes to a folder with the first limit that needs it.
        Err(error) if is_unified && error.kind() == ErrorKind::NotFound => "max".into(),
        Err(error) => panic!("{file:?}: {error}"),
    }
}

fn quota(host: &Host, container: &str) -> String {
    let text = in_kernel(host, container, "cpu", ["cpu.max", "cpu.cfs_quota_us"]);
    let first = text.split(' ').next().expect("there is a first word");
    first.replace("-1", "max")
}

fn most_processes(host: &Host, container: &str) -> String {
    in_kernel(host, container, "pids", ["pids.max", "pids.max"])
}

/// The entry of the one container in the listing for programs.
fn entry(host: &Host) -> serde_json::Value {
    let text = host.cocker("containers --format json").succeeds().stdout();
    let list: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    list[0].clone()
}

/// How many processors the host has, also where this process may not use all of them.
fn processors() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").expect("/sys is mounted");
    // As `0-3,6`.
    let ranges = online.trim_end().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().expect("a processor");
        number(last) - number(first) + 1
    });
    ranges.sum()
}

fn created(host: &Host) {
    host.cocker("create -m test -c web").ok();
}

fn a_quarter_of_a_processor_is_a_quarter_of_its_time(host: &Host) {
    created(host);
    host.cocker("-a boot -c web --cpu-quota 25%").ok();
    let pid = busy(host, "web");
    // It may have less where others want the processor too, but never more.
    eventually("it has a quarter", || {
        let share = share(pid, Duration::from_secs(3));
        assert!(share < 30.0, "{share}%");
        share >= 20.0
    });
}

fn a_processor_that_is_not_named_is_never_run_on(host: &Host) {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").expect("/sys is mounted");
    let last = online.trim_end().rsplit(['-', ',']).next();
    let last: u64 = last.and_then(|cpu| cpu.parse().ok()).expect("a processor");
    assert_ne!(last, 0, "this test needs two processors");
    created(host);
    host.cocker(&format!("boot web --cpus {last}")).ok();
    let pid = busy(host, "web");
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        assert_eq!(stat(pid, 39), last, "it ran there");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(host.inside("web", "nproc"), "1");
}

fn what_holds_more_memory_than_there_may_be_is_killed_and_the_container_goes_on(host: &Host) {
    created(host);
    host.cocker("boot web --mem-limit 64M").ok();
    assert_eq!(entry(host)["oom_kills"], 0);
    let root = host.root_process("web");
    let hog = "dd if=/dev/zero of=/dev/null bs=100M count=1";
    // Killed at once, it could be counted already when its client looks for the number before.
    let killed = host
        .cocker(&format!("run web -- sh -c 'sleep 3; exec {hog}'"))
        .exits(137);
    let told = "memory ran out in container `web` (limit: 67108864 bytes)";
    assert!(killed.stderr.contains(told), "{killed}");
    assert_eq!(host.root_process("web"), root);
    assert_eq!(host.inside("web", "echo here"), "here");
    assert_eq!(entry(host)["oom_kills"], 1);
    // Killed by somebody else is not killed for want of memory.
    let killed = host
        .cocker_words(&["run", "web", "--cmd", "kill -9 $$"])
        .exits(137);
    assert!(!killed.stderr.contains("memory"), "{killed}");

    host.cocker("set-limits web --mem-limit none").ok();
    host.cocker(&format!("run web -- {hog}")).succeeds();
    host.cocker("shutdown web").ok();
    assert_eq!(entry(host)["oom_kills"], 1);
    host.cocker("boot web").ok();
    assert_eq!(entry(host)["oom_kills"], 0);
}

fn a_fork_bomb_stays_within_its_limit_and_ends_with_its_container(host: &Host) {
    const MOST: usize = 100;
    created(host);
    // Control: without that limit there may be more.
    host.cocker("boot web").ok();
    let many = "n=0; while [ $n -lt 150 ]; do sleep 77 & n=$((n + 1)); done; wait";
    let many = host.start(&format!("run web -- sh -c '{many}'"));
    eventually("more than that", || host.contained().len() > MOST);
    host.cocker("kill web").ok();
    drop(many);
    host.cocker(&format!("boot web --pids-limit {MOST}")).ok();
    let bomb = "bomb() { bomb | bomb & }; bomb; while :; do bomb; done";
    host.cocker_words(&["run", "web", "--detach", "--", "sh", "-c", bomb])
        .succeeds();
    let (folder, _) = folder(host, "web", "pids");
    // A shell that cannot fork ends, so the bomb is not always as large as it may be; the kernel counts what it refused.
    eventually("the limit is reached", || {
        let events = fs::read_to_string(folder.join("pids.events")).expect("it is booted");
        let refused = events.trim_end().strip_prefix("max ").map(str::parse);
        refused
            .expect("it counts")
            .is_ok_and(|times: u64| times > 0)
    });
    let processors = processors();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let now = fs::read_to_string(folder.join("pids.current")).expect("it is booted");
        let now: usize = now.trim_end().parse().expect("a number");
        // The kernel counts a process before it refuses it: one on each processor.
        assert!(now <= MOST + processors, "{now}");
    }
    host.cocker("shutdown web")
        .ok()
        .within(Duration::from_secs(9));
    assert!(host.contained().is_empty());
}

fn a_container_without_a_limit_has_at_most_the_usual_number_of_processes(host: &Host) {
    created(host);
    host.cocker("boot web").ok();
    // Started as early as can be, it is where everything else is.
    let pid = busy(host, "web");
    assert_eq!(most_processes(host, "web"), "32768");
    assert_eq!(quota(host, "web"), "max");
    host.cocker("set-limits web --pids-limit none").ok();
    assert_eq!(most_processes(host, "web"), "max");
    let members = folder(host, "web", "pids").0.join("cgroup.procs");
    eventually("everybody is moved", || {
        let members = fs::read_to_string(&members).expect("it is booted");
        members.lines().any(|it| it == pid.to_string())
    });
}

fn a_disk_is_written_to_as_fast_as_it_may_be(host: &Host) {
    const RATE: f64 = 1e6;
    const BYTES: f64 = 48.0 * 65_536.0;
    let device = fs::metadata(host.home()).expect("it is ours").dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let disk = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    if !disk.exists() {
        eprintln!(
            "COCKER_TEST_DIR is on no disk: what a disk is held to is measured in the box alone"
        );
        return;
    }
    let number = match disk.join("partition").exists() {
        true => fs::read_to_string(disk.join("../dev")).expect("a part has a whole"),
        false => format!("{major}:{minor}"),
    };
    created(host);
    host.cocker(&format!(
        "boot web --io-max {}:wbps={RATE}",
        number.trim_end()
    ))
    .ok();
    // By the clock of the program that writes: its start may take as long as what it writes.
    let rate_of = |line: &str| {
        let said = host.inside("web", line);
        let copied = said.rsplit_once("copied, ").map(|(_, rest)| rest);
        let seconds = copied.and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        BYTES / seconds.unwrap_or_else(|| panic!("dd said {said}"))
    };
    let write = "dd if=/dev/zero of=/file bs=64k count=48 oflag=direct 2>&1";
    // A disk that others use too may be slower, but never faster.
    eventually("it is as fast as it may be", || {
        let rate = rate_of(write);
        assert!(rate < 1.2 * RATE, "{rate} bytes/s");
        rate >= 0.8 * RATE
    });
    host.cocker("set-limits web --io-max none").ok();
    eventually("it is faster than that", || rate_of(write) > 2.0 * RATE);
}

fn a_limit_that_is_set_while_a_program_runs_holds_at_once(host: &Host) {
    created(host);
    host.cocker("boot web").ok();
    let pid = busy(host, "web");
    eventually("it has more than it may have later", || {
        share(pid, Duration::from_secs(1)) > 30.0
    });
    let (folder, is_unified) = folder(host, "web", "cpu");
    let file = folder.join(["cpu.cfs_quota_us", "cpu.max"][usize::from(is_unified)]);
    let since = Instant::now();
    let command = host.start("-a set_limits -c web --cpu-quota 10%").feed(b"");
    eventually("it holds", || {
        fs::read_to_string(&file).is_ok_and(|text| text.starts_with("10000"))
    });
    let took = since.elapsed();
    assert!(took < here(Duration::from_secs(5)), "{took:?}");
    // What is left to do then is to have it on disk.
    command.outcome().ok();
    thread::sleep(Duration::from_millis(150));
    let after = share(pid, Duration::from_secs(2));
    assert!(after < 15.0, "{after}%");
    eventually("it has what it may have", || {
        share(pid, Duration::from_secs(2)) >= 5.0
    });
}

fn limits_are_set_all_or_none(host: &Host) {
    created(host);
    host.cocker("boot web --cpu-quota 50% --pids-limit 100")
        .ok();
    let settings = || fs::read(host.home().join("containers/web/container.json"));
    let before = settings().expect("it is there");
    // What is said first could be done. The last word of a container's programs is about files, and comes last.
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let is_free = hard.is_none_or(|most| most >= 1 << 20) || may_raise_limits();
    let (last, status) = match is_free {
        true => ("--cpus 8191", 1),
        false => ("--nofile 1048576", 1),
    };
    host.cocker(&format!(
        "set-limits web --cpu-quota 20% --pids-limit 50 {last}"
    ))
    .fails(status, &["cannot set the limits of container `web`"]);
    assert_eq!(quota(host, "web"), "50000");
    assert_eq!(most_processes(host, "web"), "100");
    assert_eq!(settings().expect("it is there"), before);
    let (folder, is_unified) = folder(host, "web", "memory");
    if !is_unified {
        // In the middle of the list: what was written before it goes back.
        host.cocker("set-limits web --cpu-quota 20% --mem-limit 64M --oom-kill-group on")
            .fails(1, &["`--oom-kill-group`", "memory.oom.group", "Hint: "]);
        assert_eq!(quota(host, "web"), "50000");
        let memory = fs::read_to_string(folder.join("memory.limit_in_bytes"));
        let memory: u64 = memory
            .expect("it is booted")
            .trim_end()
            .parse()
            .expect("a number");
        assert!(memory > 1 << 60, "{memory}");
        assert_eq!(settings().expect("it is there"), before);
    }
}

fn may_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.expect("it says them") & CAP_SYS_RESOURCE != 0
}

fn limits_hold_at_the_next_boot_until_they_are_changed(host: &Host) {
    host.cocker("-a create -m test -c web -b --cpu-quota 50%")
        .ok();
    assert_eq!(quota(host, "web"), "50000");
    host.cocker("shutdown web").ok();
    host.cocker("set-limits web --pids-limit 77").ok();
    host.cocker("boot web --cpu-weight 200").ok();
    assert_eq!(quota(host, "web"), "50000");
    assert_eq!(most_processes(host, "web"), "77");
    let weight = in_kernel(host, "web", "cpu", ["cpu.weight", "cpu.shares"]);
    assert!(["200", "2048"].contains(&&*weight), "{weight}");
    host.cocker("shutdown web").ok();
    host.cocker("boot web --cpu-quota none").ok();
    assert_eq!(quota(host, "web"), "max");
    assert_eq!(most_processes(host, "web"), "77");
}

fn what_a_host_does_not_have_is_refused_with_what_it_has(host: &Host) {
    created(host);
    let settings = || fs::read(host.home().join("containers/web/container.json"));
    let before = settings().expect("it is there");
    for (option, named) in [
        ("--cpus 8000", "cannot use processor 8000: this host has "),
        ("--cpus 3-1", "`--cpus 3-1`"),
        ("--cpu-quota 0%", "from 1% on"),
        ("--cpu-quota 9999999%", "this host has from 1% to "),
        ("--cpu-quota 25", "as `--cpu-quota 25`"),
        ("--cpu-weight 0", "from 1 to 10000"),
        ("--mem-limit 3M", "from 4M to "),
        ("--mem-limit nonsense", "from 4M to "),
        (
            "--swap-limit 5M",
            "cannot limit swap where memory is not limited",
        ),
        ("--pids-limit 5", "from 16 to 4194304"),
        ("--io-weight 10001", "from 1 to 10000"),
        ("--io-max /dev/null:wbps=5", "`/dev/null`: it is no disk"),
        ("--io-max /nowhere:wbps=5", "cannot find disk `/nowhere`"),
        ("--io-max 8:0:wbps=0", "`0` is not a rate"),
        (
            "--hugepages 12345=1M",
            "cannot have huge pages of 12345 bytes",
        ),
        (
            "--hugepages 2M --hugepages 2M=4M",
            "huge pages of 2097152 bytes two limits",
        ),
        ("--nofile 5", "from 64 to 1048576"),
        ("--oom-kill-group maybe", "neither `on` nor `off`"),
    ] {
        let named = [named.strip_prefix("as ").map_or(named, |rest| rest)];
        host.cocker(&format!("set-limits web {option}"))
            .refuses(&named);
        host.cocker(&format!("boot web {option}")).refuses(&named);
        host.cocker(&format!("create -m test -c new -b {option}"))
            .refuses(&named);
    }
    host.cocker("set-limits web")
        .refuses(&["no limit is given"]);
    host.cocker("create -m test -c new --cpus 0")
        .refuses(&["`--cpus` means nothing without `--boot`"]);
    assert_eq!(settings().expect("it is there"), before);
    assert_eq!(host.entries("containers"), ["web"]);
    assert_eq!(host.status("web"), "STOPPED");
}

fn programs_have_as_many_files_open_as_they_may(host: &Host) {
    created(host);
    host.cocker("boot web --nofile 128:256").ok();
    assert_eq!(host.inside("web", "ulimit -Sn; ulimit -Hn"), "128\n256");
    host.cocker("set-limits web --nofile 100").ok();
    assert_eq!(host.inside("web", "ulimit -Sn; ulimit -Hn"), "100\n100");
    if !may_raise_limits() {
        host.cocker("set-limits web --nofile 200")
            .fails(1, &["200 files", "CAP_SYS_RESOURCE"]);
        assert_eq!(host.inside("web", "ulimit -Sn"), "100");
        host.cocker("shutdown web").ok();
        host.cocker("boot web --nofile 1048576")
            .fails(1, &["--nofile", "1048576", "Hint: say at most"]);
        assert_eq!(host.status("web"), "STOPPED");
    }
}

/// Ids of its own keep root inside from most devices already: so a process of the host's root goes and tries.
fn only_listed_devices_can_be_opened(host: &Host) {
    /// The kernel's messages: on no list, and readable by root of any host.
    const OTHER: &str = "/dev/kmsg";
    let open_from = |container: &str, device: &str| {
        let (group, _) = folder(host, container, "cgroup2");
        let door = group.join("cgroup.procs");
        let mut command = Command::new("sh");
        let line = "echo $$ > \"$1\" && exec 3< \"$2\"";
        command.args(["-c", line, "sh"]).arg(door).arg(device);
        let output = command.output().expect("a shell runs");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    host.booted("web");
    for listed in [
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/ptmx",
    ] {
        assert_eq!(open_from("web", listed), "", "{listed}");
    }
    let refused = open_from("web", OTHER);
    assert!(refused.contains("Operation not permitted"), "{refused}");
    host.inside(
        "web",
        "for d in null zero full random urandom ptmx; do : < /dev/$d || exit 1; done",
    );
    let refused = host.inside(
        "web",
        "mknod /disk b 7 0 2>&1; mknod /memory c 1 1 2>&1; true",
    );
    assert_eq!(refused.matches("not permitted").count(), 2, "{refused}");

    // With the protection off it can be done.
    host.cocker("create -m test -c open --privileged").ok();
    host.cocker("boot open").ok();
    assert_eq!(open_from("open", OTHER), "");
}

/// Whatever is called so: this one is a shell, which reads what it is asked to end by as systemd does, blocked.
fn a_systemd_inside_makes_cgroups_and_nobody_else_does(host: &Host) {
    const MAKE: &str = "mkdir /sys/fs/cgroup/own && echo $$ > /sys/fs/cgroup/own/cgroup.procs && \
                        tail -n 1 /proc/self/cgroup";
    host.booted("web");
    host.cocker_words(&["run", "web", "--cmd", MAKE]).exits(1);
    host.inside("web", "cp /bin/bash /root/systemd");
    host.cocker("shutdown web").ok();
    let root_process =
        "/root/systemd -c 'until grep -q ^ShdPnd:.*1000000000 /proc/1/status; do sleep 0.1; done'";
    host.cocker_words(&["boot", "web", "-e", root_process]).ok();
    assert_eq!(host.inside("web", MAKE), "0::/own");
    for file in ["cgroup.freeze", "cgroup.kill", "cgroup.max.descendants"] {
        let write = format!("echo 1 > /sys/fs/cgroup/{file}");
        host.cocker_words(&["run", "web", "--cmd", &write]).exits(1);
    }
    let (own, is_unified) = folder(host, "web", "cgroup2");
    assert!(is_unified && own.join("own").exists(), "{own:?}");
    // Deeper than any program has files open.
    let deep = "bash -c 'mkdir -p /sys/fs/cgroup/$(printf a/%.0s {1..1200})'";
    host.inside("web", deep);
    let before = Instant::now();
    let timeout = here(Duration::from_secs(30)).as_secs();
    host.cocker(&format!("shutdown web --timeout {timeout}"))
        .ok();
    assert!(
        before.elapsed().as_secs() < timeout,
        "it was not heard, but killed"
    );
    assert!(!own.exists());
}

fn a_paused_container_stands_still_until_it_is_resumed(host: &Host) {
    host.booted("web");
    let pid = busy(host, "web");
    let root = host.root_process("web");
    host.cocker("-a pause -c web").ok();
    assert_eq!(host.status("web"), format!("PAUSED({root})"));
    assert_eq!(entry(host)["status"], "PAUSED");
    assert_eq!(share(pid, Duration::from_millis(500)), 0.0);
    host.cocker("pause web").fails(1, &["it is paused already"]);
    // What it may use can be changed all the same.
    host.cocker("set-limits web --pids-limit 99").ok();
    assert_eq!(most_processes(host, "web"), "99");
    host.cocker("-a resume -c web").ok();
    assert_eq!(host.root_process("web"), root);
    assert!(share(pid, Duration::from_secs(1)) > 0.0);
    host.cocker("resume web").fails(1, &["it is not paused"]);
    host.cocker("shutdown web").ok();
    host.cocker("pause web").fails(1, &["is not booted"]);
    host.cocker("resume web").fails(1, &["is not booted"]);
    host.cocker("pause nobody")
        .fails(1, &["no container `nobody`"]);
}

fn nothing_is_started_in_a_paused_container(host: &Host) {
    host.booted("web");
    host.cocker("pause web").ok();
    let named = ["container `web` is paused", "cocker resume web"];
    host.cocker("run web -- true").fails(125, &named);
    host.cocker("run web --detach -- true").fails(125, &named);
    let mut terminal = host.terminal("attach web");
    terminal.expect("container `web` is paused");
    terminal.exits(1);
    // A copy of it lets it stand still, and does not end the pause.
    host.cocker("to-image --from-container web --to-image copy --live")
        .ok();
    assert!(host.status("web").starts_with("PAUSED("));
    host.cocker("resume web").ok();
    assert_eq!(host.inside("web", "echo here"), "here");
}

fn a_paused_container_can_be_shut_down_killed_and_destroyed(host: &Host) {
    host.booted("web");
    host.cocker("pause web").ok();
    host.cocker("shutdown web")
        .ok()
        .within(Duration::from_secs(8));
    assert_eq!(host.status("web"), "STOPPED");
    host.cocker("boot web").ok();
    host.cocker("pause web").ok();
    host.cocker("kill web").ok().within(Duration::from_secs(8));
    host.cocker("boot web").ok();
    host.cocker("pause web").ok();
    // A supervisor that is killed takes a container with it that stands still.
    let supervisor = Pid::from_raw(host.supervisor_of_paused("web")).expect("it runs");
    rustix::process::kill_process(supervisor, Signal::KILL).expect("it is ours");
    eventually("it is stopped", || host.status("web") == "STOPPED");
    host.cocker("boot web").ok();
    host.cocker("pause web").ok();
    host.cocker("-a destroy -h -c web")
        .ok()
        .within(Duration::from_secs(8));
    host.nothing_is_left();
}

fn a_boot_that_was_killed_leaves_no_cgroup_once_the_next_command_ran(host: &Host) {
    created(host);
    at_every_moment(|moment| {
        let was_killed = host.killed_after("boot web --mem-limit 64M --cpus 0", moment);
        host.settles("web");
        host.cocker("containers").succeeds();
        let left = host.what_is_left();
        let left: Vec<&String> = left.iter().filter(|it| it.starts_with("cgroup ")).collect();
        assert!(left.is_empty(), "{left:?}");
        was_killed
    });
}
