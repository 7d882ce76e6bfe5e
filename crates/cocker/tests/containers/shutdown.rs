//! The end of a container: willing, unwilling, killed, and removed.

use crate::host::{Host, eventually, here, with_image_test};
use rustix::process::{Pid, Signal};
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_booted_container_would_be_noticed_as_left_behind,
        a_willing_container_shuts_down_at_once,
        shutdown_ends_sessions_and_commands_with_a_word_of_it,
        every_process_is_asked_to_end_before_it_is_killed,
        a_process_that_ignores_the_request_is_killed_after_the_timeout,
        a_root_process_that_cannot_hear_the_request_is_not_waited_for,
        a_root_process_that_hears_the_request_has_its_time,
        shutdown_of_a_stopped_container_is_an_error,
        kill_does_not_ask,
        destroy_of_a_booted_container_is_refused,
        destroy_can_shut_down_first,
        a_container_dies_with_its_supervisor_and_boots_again,
        a_container_dies_with_its_root_process,
        hundreds_of_processes_end_with_their_container,
    ]
}

/// A harness that sees nothing would call every other test of the end of a container good.
fn a_booted_container_would_be_noticed_as_left_behind(host: &Host) {
    host.booted("web");
    let left = host.what_is_left().join("\n");
    let [supervisor, root] =
        [host.supervisor("web"), host.root_process("web")].map(|pid| format!("process {pid} "));
    for thing in [
        supervisor.as_str(),
        root.as_str(),
        "cgroup ",
        "containers/web",
        "ids/",
    ] {
        assert!(left.contains(thing), "`{thing}` is not noticed:\n{left}");
    }
    host.cocker("-a shutdown -c web").ok();
    // The release measures the container's files when the client has gone already.
    eventually("no process and no cgroup is left", || {
        let left = host.what_is_left().join("\n");
        !left.contains("process ") && !left.contains("cgroup ")
    });
    let left = host.what_is_left().join("\n");
    assert!(left.contains("containers/web"), "{left}");
}

fn a_willing_container_shuts_down_at_once(host: &Host) {
    host.booted("web");
    host.cocker("-a shutdown -c web")
        .ok()
        .within(Duration::from_secs(8));
    assert_eq!(host.status("web"), "STOPPED");
    assert!(
        host.contained().is_empty(),
        "the container is stopped, and something still runs in it"
    );
    host.cocker("-a boot -c web").ok();
    host.cocker("shutdown web").ok();
    host.cocker("destroy web").ok();
    host.nothing_is_left();
}

fn shutdown_ends_sessions_and_commands_with_a_word_of_it(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal("-a attach -c web");
    terminal.expect("[root@web /root] ");
    let mut command = host.start("run web -- sh -c 'echo ready; exec sleep 100'");
    command.until_prints("ready");
    // An interactive shell ignores TERM; it must not hold the shutdown up.
    host.cocker("-a shutdown -c web")
        .ok()
        .within(Duration::from_secs(8));
    let ended = terminal.end();
    assert!(ended.code().is_some(), "the session's client {ended}");
    let outcome = command.outcome();
    assert_ne!(outcome.status.code(), Some(0), "{outcome}");
    assert!(outcome.status.code().is_some(), "{outcome}");
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();
}

fn every_process_is_asked_to_end_before_it_is_killed(host: &Host) {
    host.booted("web");
    let service = "trap 'echo asked >> /root/asked; exit' TERM; echo ready > /root/ready; while :; do sleep 0.05; done";
    host.inside(
        "web",
        &format!(
            "setsid sh -c '{}' > /dev/null 2>&1 < /dev/null & true",
            service.replace('\'', "'\\''")
        ),
    );
    eventually("the service is ready", || {
        host.inside("web", "cat /root/ready 2>/dev/null; true") == "ready"
    });
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /root/asked"), "asked");
}

fn a_process_that_ignores_the_request_is_killed_after_the_timeout(host: &Host) {
    host.booted("web");
    let mut started = host
        .start("run web -- sh -c 'trap \"\" TERM HUP INT; echo ready; while :; do sleep 1; done'");
    started.until_prints("ready");
    let begun = Instant::now();
    host.cocker("-a shutdown -c web --timeout 1").ok();
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "it was killed after {took:?} already"
    );
    assert!(
        took <= here(Duration::from_secs(8)),
        "it was killed only after {took:?}"
    );
    assert_eq!(host.status("web"), "STOPPED");
    let outcome = started.outcome();
    assert_ne!(outcome.status.code(), Some(0), "{outcome}");
}

/// The kernel keeps signals without a handler from process 1, so `sleep` never hears TERM; the others still have their time.
fn a_root_process_that_cannot_hear_the_request_is_not_waited_for(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-a boot -c web -e '/bin/sleep 1000'").ok();
    let mut polite = host.start(
        "run web --cmd 'trap \"echo bye; exit 3\" TERM; echo ready; while :; do read x; done'",
    );
    polite.until_prints("ready");
    host.cocker("-a shutdown -c web")
        .ok()
        .within(Duration::from_secs(8));
    let outcome = polite.outcome();
    // Its client may hear of the container's end before that of the command.
    assert!(matches!(outcome.status.code(), Some(3 | 137)), "{outcome}");
    assert!(outcome.stdout().contains("bye"), "{outcome}");
}

fn a_root_process_that_hears_the_request_has_its_time(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker_words(&[
        "-a",
        "boot",
        "-c",
        "web",
        "-e",
        "/bin/sh -c 'trap \"echo heard > /root/heard; exit\" TERM; echo > /root/ready; while :; do sleep 0.05; done'",
    ])
    .ok();
    eventually("it can hear", || {
        host.inside("web", "test -e /root/ready && echo ready; true") == "ready"
    });
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web -e cockerinit").ok();
    assert_eq!(host.inside("web", "cat /root/heard"), "heard");
}

fn shutdown_of_a_stopped_container_is_an_error(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-a shutdown -c web").fails(1, &["web"]);
    host.cocker("-a kill -c web").fails(1, &["web"]);
}

fn kill_does_not_ask(host: &Host) {
    host.booted("web");
    let mut started = host.start("run web -- sh -c 'trap \"echo asked > /root/asked\" TERM; echo ready; while :; do sleep 1; done'");
    started.until_prints("ready");
    host.cocker("-a kill -c web")
        .ok()
        .within(Duration::from_secs(8));
    assert_eq!(host.status("web"), "STOPPED");
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "ls /root/asked 2>/dev/null; true"), "");
    host.cocker("kill web").ok();
}

fn destroy_of_a_booted_container_is_refused(host: &Host) {
    host.booted("web");
    let pid = host.root_process("web");
    host.cocker("-a destroy -c web")
        .fails(1, &["web", &pid.to_string()]);
    assert_eq!(host.root_process("web"), pid);
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn destroy_can_shut_down_first(host: &Host) {
    host.booted("web");
    host.cocker("-a destroy -h -c web").ok();
    host.cocker("-s containers").succeeds().prints("");
    host.nothing_is_left();
}

fn a_container_dies_with_its_supervisor_and_boots_again(host: &Host) {
    host.booted("web");
    let _command = host.start("run web -- sleep 100");
    host.until_inside_runs("sleep");
    kill(host.supervisor("web"));
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    assert_eq!(host.status("web"), "STOPPED");
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();

    // Nobody boots it again: the next command that removes it removes what the supervisor could not.
    host.booted("web");
    kill(host.supervisor("web"));
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();
}

fn a_container_dies_with_its_root_process(host: &Host) {
    host.booted("web");
    let _command = host.start("run web -- sleep 100");
    host.until_inside_runs("sleep");
    kill(host.root_process("web"));
    eventually("the container is stopped", || {
        host.status("web") == "STOPPED"
    });
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();
}

fn hundreds_of_processes_end_with_their_container(host: &Host) {
    host.booted("web");
    host.inside("web", "for n in $(seq 1 300); do sleep 1000 & done; true");
    host.cocker("-a shutdown -c web")
        .ok()
        .within(Duration::from_secs(8));
    assert!(host.contained().is_empty());
}

/// Kills a process of the test's own container, by its pid.
#[track_caller]
fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a pid is above zero");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}
