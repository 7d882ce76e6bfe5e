//! What happens after a container's end: the restart policy, the time that it waits, and who ends that.

use crate::host::{
    Host, PATIENCE, Process, at_every_moment, eventually, here, in_a_lab, processes,
    with_image_test,
};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = with_image_test![
        a_policy_is_remembered_and_shown,
        an_init_that_is_killed_is_booted_again,
        the_time_before_a_boot_doubles,
        a_number_bounds_the_tries_in_a_row,
        a_clean_end_is_no_failure_but_always_is_always,
        a_host_that_is_switched_off_inside_is_no_failure,
        shutdown_and_kill_have_the_last_word,
        whoever_ends_the_waiting_ends_it_at_once,
        a_boot_during_the_wait_boots_at_once,
        who_needs_a_stopped_container_has_one_during_the_wait,
        who_waits_is_small_and_may_be_killed,
        a_boot_again_that_fails_is_told_and_tried_again,
        a_container_killed_for_want_of_memory_comes_again,
        whoever_ran_for_long_begins_anew,
        a_boot_that_fails_at_once_is_not_tried_again,
        shutdown_beats_the_boot_again_at_every_moment,
        nothing_of_the_first_boots_surroundings_matters,
    ];
    trials.extend(in_a_lab![fifty_crashes_leave_nothing]);
    trials
}

/// A container in a listing for programs.
#[track_caller]
fn entry(host: &Host, name: &str) -> Value {
    let listing = host.cocker("containers --format json").succeeds().stdout();
    let listing: Value = serde_json::from_str(&listing).expect("a listing is JSON");
    let entries = listing.as_array().expect("a listing is an array");
    let entry = entries.iter().find(|it| it["container_id"] == name);
    entry
        .unwrap_or_else(|| panic!("no {name} in {listing}"))
        .clone()
}

fn state(host: &Host, name: &str) -> String {
    entry(host, name)["status"]
        .as_str()
        .unwrap_or_default()
        .into()
}

#[track_caller]
fn until_state(host: &Host, name: &str, wanted: &str) {
    let mut seen = String::new();
    eventually(&format!("{name} is {wanted}"), || {
        seen = state(host, name);
        seen == wanted
    });
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a pid is above zero");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

/// The root process of a container after the next boot, which is over: a listing calls it running before that.
#[track_caller]
fn until_another_root_process(host: &Host, name: &str, before: i32) -> i32 {
    let mut now = 0;
    eventually("another root process", || {
        let entry = entry(host, name);
        now = entry["pid"].as_i64().unwrap_or(0) as i32;
        entry["status"] == "RUNNING" && now != before
    });
    eventually("its boot is over", || {
        let note = fs::read_to_string(note(host, name));
        note.map_or(true, |note| note.starts_with("stage=booted"))
    });
    now
}

fn note(host: &Host, name: &str) -> PathBuf {
    host.home().join("containers").join(name).join("restart")
}

/// Has the next failure count as one of so many more: then the wait is long.
fn as_if_failed(host: &Host, name: &str, times: u32) {
    let line = format!("stage=booted failures={times} due=0 why=often");
    // In place: the file may be somebody's lock.
    let file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(note(host, name))
        .expect("the store is ours");
    use std::os::unix::fs::FileExt;
    file.write_all_at(format!("{line:<511}\n").as_bytes(), 0)
        .expect("the store is ours");
}

/// A container that waits for a minute, as near as makes no difference.
fn waiting(host: &Host, name: &str) {
    host.cocker(&format!("create -m test -c {name} --restart always"))
        .ok();
    host.cocker(&format!("boot {name}")).ok();
    let_wait(host, name);
}

fn let_wait(host: &Host, name: &str) {
    as_if_failed(host, name, 20);
    kill(host.root_process(name));
    until_state(host, name, "RESTARTING");
    eventually("somebody waits", || waiters(host).len() == 1);
}

/// The processes that wait to boot a container of this test again.
fn waiters(host: &Host) -> Vec<Process> {
    let mut waiters = processes();
    waiters.retain(|it| it.name() == "cocker-waits" && it.works_on(host.home()));
    waiters
}

/// Creates `web` with a root process of its own: a line of the shell.
#[track_caller]
fn created_with(host: &Host, options: &str) {
    host.cocker(&format!("create -m test -c web {options}"))
        .ok();
}

#[track_caller]
fn boot_line(host: &Host, line: &str) {
    let line = format!("/bin/sh -c '{line}'");
    host.cocker_words(&["boot", "web", "-e", &line]).ok();
}

/// What the container's root process has noted, a line each run.
fn runs(host: &Host) -> Vec<f64> {
    let noted = host.home().join("containers/web/files/upper/root/runs");
    let noted = fs::read_to_string(noted).unwrap_or_default();
    let time = |line: &str| line.split(' ').next()?.parse().ok();
    noted.lines().filter_map(time).collect()
}

/// Notes the time since the host's boot, then ends.
fn failing(status: i32) -> String {
    format!("cat /proc/uptime >> /root/runs; sleep 1; exit {status}")
}

fn a_policy_is_remembered_and_shown(host: &Host) {
    let policy = || entry(host, "web")["restart"]["policy"].clone();
    created_with(host, "");
    assert_eq!(policy(), "no");
    host.cocker("set-restart web --restart on-failure:3").ok();
    assert_eq!(policy(), "on-failure:3");
    host.cocker("-a boot -c web --restart always").ok();
    assert_eq!(policy(), "always");
    // Also of one that is booted, and the boot is left alone.
    let pid = host.root_process("web");
    host.cocker("-a set_restart -c web --restart on-failure")
        .ok();
    assert_eq!(policy(), "on-failure");
    assert_eq!(host.root_process("web"), pid);
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(policy(), "on-failure");
    host.cocker("set-restart web --restart sometimes")
        .fails(2, &["sometimes", "on-failure:N"]);
    host.cocker("create -m test -c other --restart on-failure:0")
        .fails(2, &["on-failure:0"]);
    assert_eq!(policy(), "on-failure");
}

fn an_init_that_is_killed_is_booted_again(host: &Host) {
    created_with(host, "--restart on-failure");
    host.cocker("boot web").ok();
    host.inside("web", "echo kept > /root/file");
    let before = host.root_process("web");
    kill(before);
    let now = until_another_root_process(host, "web", before);
    assert_eq!(host.inside("web", "cat /root/file"), "kept");
    let failures = entry(host, "web")["restart"].clone();
    assert_eq!(failures["failures"], 1);
    assert_eq!(
        failures["last_failure"],
        "the root process ended: killed by signal 9"
    );
    let log = host.cocker("logs web").succeeds().stdout();
    assert!(
        log.contains("killed by signal 9 (1 in a row); it is booted again in 0.1 s"),
        "{log}"
    );
    // Also where the supervisor is gone: nobody is there to follow a policy, and that is told as it is.
    kill(host.supervisor("web"));
    until_state(host, "web", "STOPPED");
    eventually("its processes are gone", || host.contained().is_empty());
    assert_eq!(state(host, "web"), "STOPPED", "{now}");
}

fn the_time_before_a_boot_doubles(host: &Host) {
    created_with(host, "--restart on-failure");
    boot_line(host, &failing(3));
    eventually("five runs", || runs(host).len() >= 5);
    host.cocker("shutdown web -f").ok();
    let runs = runs(host);
    for (index, least) in [0.1, 0.2, 0.4, 0.8].into_iter().enumerate() {
        let gap = runs[index + 1] - runs[index];
        // The clock inside is told in hundredths.
        assert!(
            gap >= 1.0 + least - 0.02,
            "{gap} s after run {index}: {runs:?}"
        );
        let most = here(PATIENCE).as_secs_f64();
        assert!(gap <= most, "{gap} s after run {index}: {runs:?}");
    }
}

fn a_number_bounds_the_tries_in_a_row(host: &Host) {
    created_with(host, "--restart on-failure:2");
    boot_line(host, &failing(3));
    eventually("three runs and an end", || {
        runs(host).len() == 3 && state(host, "web") == "STOPPED"
    });
    let restart = entry(host, "web")["restart"].clone();
    assert_eq!(restart["failures"], 3);
    assert_eq!(restart["again_in_ms"], Value::Null);
    let last = restart["last_failure"].as_str().expect("it is told");
    assert!(last.contains("exit status 3"), "{last}");
    let log = host.cocker("logs web").succeeds().stdout();
    assert!(
        log.contains("(3 in a row); it is not booted again"),
        "{log}"
    );
    assert_eq!(waiters(host).len(), 0);
    // Whoever boots it begins anew.
    host.cocker("boot web").ok();
    eventually("three more", || {
        runs(host).len() == 6 && state(host, "web") == "STOPPED"
    });
}

fn a_clean_end_is_no_failure_but_always_is_always(host: &Host) {
    created_with(host, "--restart on-failure");
    boot_line(host, &failing(0));
    until_state(host, "web", "STOPPED");
    assert_eq!(waiters(host).len(), 0);
    assert_eq!(runs(host).len(), 1);
    host.cocker("boot web --restart always").ok();
    eventually("three more", || runs(host).len() >= 4);
    host.cocker("shutdown web -f").ok();
    // Not `no` either, whatever the end.
    host.cocker("set-restart web --restart no").ok();
    let before = runs(host).len();
    boot_line(host, &failing(3));
    until_state(host, "web", "STOPPED");
    assert_eq!(runs(host).len(), before + 1);
    assert_eq!(entry(host, "web")["restart"]["failures"], 0);
}

/// reboot(2) in a pid namespace ends its first process by a signal that says what was wanted.
fn a_host_that_is_switched_off_inside_is_no_failure(host: &Host) {
    let program = host.folder("program");
    let source = program.join("off.c");
    fs::write(
        &source,
        "#include <sys/reboot.h>\n#include <unistd.h>\nint main(int n, char **v) { sleep(0); return reboot(n > 1 ? RB_AUTOBOOT : RB_POWER_OFF); }\n",
    )
    .expect("the folder is ours");
    let built = std::process::Command::new("cc")
        .args(["-static", "-o"])
        .arg(program.join("off"))
        .arg(&source)
        .status();
    assert!(built.is_ok_and(|status| status.success()));
    created_with(
        host,
        &format!(
            "--restart on-failure --volume {}:/program",
            program.display()
        ),
    );
    host.cocker("boot web").ok();
    let before = host.root_process("web");
    // It ends with the container.
    host.cocker("run web -- /program/off again");
    let now = until_another_root_process(host, "web", before);
    host.cocker("run web -- /program/off");
    until_state(host, "web", "STOPPED");
    assert_eq!(waiters(host).len(), 0, "{now}");
}

fn shutdown_and_kill_have_the_last_word(host: &Host) {
    created_with(host, "--restart always");
    for end in ["shutdown web", "kill web"] {
        host.cocker("boot web").ok();
        host.cocker(end).ok();
        assert_eq!(state(host, "web"), "STOPPED");
        assert!(!note(host, "web").exists());
        eventually("nobody is at it", || {
            !processes().iter().any(|it| it.works_on(host.home()))
        });
        assert_eq!(state(host, "web"), "STOPPED");
    }
    // Whoever ends the host says so by TERM, to the supervisor too.
    host.cocker("boot web").ok();
    let supervisor = Pid::from_raw(host.supervisor("web")).expect("it runs");
    rustix::process::kill_process(supervisor, Signal::TERM).expect("it runs");
    until_state(host, "web", "STOPPED");
    eventually("nobody is at it", || {
        !processes().iter().any(|it| it.works_on(host.home()))
    });
    assert_eq!(state(host, "web"), "STOPPED");
}

fn whoever_ends_the_waiting_ends_it_at_once(host: &Host) {
    waiting(host, "web");
    let entry = entry(host, "web");
    let left = entry["restart"]["again_in_ms"].as_u64().expect("it waits");
    assert!((30_000..=60_000).contains(&left), "{entry}");
    let table = host.cocker("-s containers").succeeds().stdout();
    assert!(table.contains(" RESTARTING(in "), "{table}");
    for end in ["shutdown web", "kill web", "set-restart web --restart no"] {
        // Long before the wait would be over.
        host.cocker(end).ok().within(Duration::from_secs(20));
        assert_eq!(state(host, "web"), "STOPPED");
        assert_eq!(waiters(host).len(), 0);
        host.cocker("boot web --restart always").ok();
        let_wait(host, "web");
    }
    host.cocker("destroy web --shutdown")
        .ok()
        .within(Duration::from_secs(20));
    assert_eq!(waiters(host).len(), 0);
    host.nothing_is_left();
    waiting(host, "web");
    host.cocker("destroy web")
        .ok()
        .within(Duration::from_secs(20));
    assert_eq!(waiters(host).len(), 0);
    host.nothing_is_left();
    waiting(host, "web");
    host.cocker("to-image --from-container web --to-image made")
        .ok();
    assert_eq!(waiters(host).len(), 0);
}

fn a_boot_during_the_wait_boots_at_once(host: &Host) {
    waiting(host, "web");
    host.cocker("boot web").ok().within(Duration::from_secs(20));
    assert_eq!(state(host, "web"), "RUNNING");
    assert_eq!(waiters(host).len(), 0);
    // And counts from the beginning.
    assert_eq!(entry(host, "web")["restart"]["failures"], 0);
}

fn who_needs_a_stopped_container_has_one_during_the_wait(host: &Host) {
    waiting(host, "web");
    let file = host.folder("own").join("file");
    fs::write(&file, "text\n").expect("the folder is ours");
    let file = file.display();
    for line in [
        format!("put web {file} /root/file"),
        format!("set-volume web --volume {file}:/volume"),
        "set-limits web --pids-limit 100".into(),
        "to-image --from-container web --to-image copy --keep".into(),
        "prune".into(),
        "check".into(),
    ] {
        host.cocker(&line)
            .succeeds()
            .within(Duration::from_secs(20));
        assert_eq!(state(host, "web"), "RESTARTING", "after `{line}`");
    }
    assert_eq!(waiters(host).len(), 1);
    host.cocker("run web -- true").fails(125, &["not booted"]);
}

fn who_waits_is_small_and_may_be_killed(host: &Host) {
    waiting(host, "web");
    let waiters = waiters(host);
    let [waiter] = &waiters[..] else {
        panic!("{} wait", waiters.len());
    };
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", waiter.pid));
    let rollup = rollup.expect("it runs");
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let pss = pss.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    assert!(pss.expect("the kernel says it") <= 128, "{rollup}");
    assert!(
        waiter.command_line().contains("web"),
        "{}",
        waiter.command_line()
    );
    assert!(host.contained().is_empty());
    kill(waiter.pid);
    until_state(host, "web", "STOPPED");
    host.cocker("boot web").ok();
    host.cocker("shutdown web").ok();
    host.cocker("shutdown web").fails(1, &["not booted"]);
}

fn a_boot_again_that_fails_is_told_and_tried_again(host: &Host) {
    let data = host.folder("data");
    created_with(
        host,
        &format!("--restart always --volume {}:/data", data.display()),
    );
    host.cocker("boot web").ok();
    let before = host.root_process("web");
    fs::remove_dir(&data).expect("the folder is ours");
    kill(before);
    let path = data.display().to_string();
    eventually("a boot that failed", || {
        let restart = entry(host, "web")["restart"].clone();
        let why = restart["last_failure"].as_str().unwrap_or_default();
        restart["failures"].as_u64() >= Some(3) && why.contains(&path)
    });
    let log = host.cocker("logs web").succeeds().stdout();
    assert!(
        log.contains(&format!("cannot open volume `{path}`")),
        "{log}"
    );
    fs::create_dir(&data).expect("the place is ours");
    until_another_root_process(host, "web", before);
    // Tries in a row are bounded also where none gets so far as to run.
    host.cocker("set-restart web --restart on-failure:1").ok();
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    fs::remove_dir(&data).expect("the folder is ours");
    kill(host.root_process("web"));
    eventually("it is given up", || {
        let entry = entry(host, "web");
        entry["restart"]["failures"] == 2 && entry["status"] == "STOPPED"
    });
    fs::create_dir(&data).expect("the place is ours");
}

fn a_container_killed_for_want_of_memory_comes_again(host: &Host) {
    created_with(host, "--restart on-failure");
    // The root process itself takes all there is.
    let line =
        "/bin/sh -c 'echo run >> /root/ran; sleep 0.5; x=aaaaaaaa; while :; do x=$x$x; done'";
    host.cocker_words(&["boot", "web", "--mem-limit", "32M", "-e", line])
        .ok();
    let before = host.root_process("web");
    until_another_root_process(host, "web", before);
    let last = entry(host, "web")["restart"]["last_failure"].clone();
    assert_eq!(last, "the root process ended: killed by signal 9");
    host.cocker("shutdown web -f").ok();
}

fn whoever_ran_for_long_begins_anew(host: &Host) {
    created_with(host, "--restart always");
    host.cocker("boot web").ok();
    let begun = Instant::now();
    as_if_failed(host, "web", 7);
    let before = host.root_process("web");
    // As long as it takes to count as sound.
    std::thread::sleep(Duration::from_millis(10_200).saturating_sub(begun.elapsed()));
    kill(before);
    until_another_root_process(host, "web", before);
    assert_eq!(entry(host, "web")["restart"]["failures"], 1);
}

fn a_boot_that_fails_at_once_is_not_tried_again(host: &Host) {
    created_with(host, "--restart no");
    host.cocker("boot web --restart always -e /bin/nothing")
        .fails(1, &["/bin/nothing"]);
    assert_eq!(state(host, "web"), "STOPPED");
    assert_eq!(waiters(host).len(), 0);
    // What has not booted is not remembered.
    assert_eq!(entry(host, "web")["restart"]["policy"], "no");
    host.cocker("set-restart web --restart always").ok();
    at_every_moment(|time| {
        let was_killed = host.killed_after("boot web", time);
        host.settles("web");
        was_killed
    });
    eventually("nobody is at it", || {
        !processes().iter().any(|it| it.works_on(host.home()))
    });
    assert_eq!(state(host, "web"), "STOPPED");
}

/// During the run, the release, the wait, the boot, and right after it.
fn shutdown_beats_the_boot_again_at_every_moment(host: &Host) {
    created_with(host, "--restart always");
    for step in 0..40 {
        host.cocker("boot web").ok();
        let begun = Instant::now();
        kill(host.root_process("web"));
        let moment = begun + Duration::from_millis(step * 6);
        // A sleep could come too late for the short ones.
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        let how = ["shutdown web -f", "kill web -f"][step as usize % 2];
        host.cocker(how).ok();
        let entry = entry(host, "web");
        assert_eq!(
            entry["status"], "STOPPED",
            "{how} after {step} steps: {entry}"
        );
        assert!(host.contained().is_empty(), "{how} after {step} steps");
        eventually("nobody is at it", || {
            !processes().iter().any(|it| it.works_on(host.home()))
        });
        assert_eq!(state(host, "web"), "STOPPED", "{how} after {step} steps");
    }
}

fn nothing_of_the_first_boots_surroundings_matters(host: &Host) {
    created_with(host, "--restart always");
    let folder = host.folder("here");
    let line = format!(
        "cd {} && umask 777 && LANG=x TERM=y nohup cocker boot web <&- >/dev/null 2>&1; cd / && rmdir {}",
        folder.display(),
        folder.display()
    );
    host.shell(&line).succeeds();
    let before = host.root_process("web");
    kill(before);
    let now = until_another_root_process(host, "web", before);
    let environment = fs::read_to_string(format!("/proc/{}/environ", host.supervisor("web")));
    let environment = environment.expect("it runs");
    let variables = environment.split('\0').filter(|it| !it.is_empty());
    let mut names: Vec<&str> = variables.filter_map(|it| it.split('=').next()).collect();
    names.sort();
    assert_eq!(names, ["COCKER_CGROUP", "COCKER_HOME"], "{now}");
    // What it holds of the host is what a first boot's has.
    let supervisor = host.supervisor("web");
    let count = |pid: i32| {
        // While a client is there it has more open.
        let counts = (0..20).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let open = fs::read_dir(format!("/proc/{pid}/fd"));
            open.expect("it runs").count()
        });
        counts.min().expect("it was counted")
    };
    let again = count(supervisor);
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    let supervisor = host.supervisor("web");
    eventually(&format!("it has {again} files open"), || {
        count(supervisor) == again
    });
}

fn fifty_crashes_leave_nothing(host: &Host) {
    host.cocker("create -m test -c web --net BRIDGE --port-mapping 8080:80 --restart always")
        .ok();
    host.cocker("boot web").ok();
    let mut pid = host.root_process("web");
    for _ in 0..50 {
        as_if_failed(host, "web", 0);
        kill(pid);
        pid = until_another_root_process(host, "web", pid);
    }
    assert_eq!(waiters(host).len(), 0);
    // One container's, and no more: what the harness asks at the end is asked of the rest. Whoever booted it is just ending.
    eventually("there is one supervisor", || {
        let supervisors = processes();
        let supervisors = supervisors
            .iter()
            .filter(|it| it.name().starts_with("cocker") && it.works_on(host.home()));
        supervisors.count() == 1
    });
    host.cocker("shutdown web").ok();
    host.cocker("destroy web").ok();
    host.nothing_is_left();
}
