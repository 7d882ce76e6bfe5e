//! The end of a container, always in a pid namespace of its own: a shutdown signals every process in sight.
mod support;

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use cocker_protocol::{InitReport, InitRequest, Stage};
use support::{Request, Resident, Started};

/// Starts a shell that says when its traps are set.
fn start_ready(init: &Resident, id: u32, script: &str) -> Started {
    let started = init.start_command(id, &Request::shell(script));
    let mut line = String::new();
    let mut output = BufReader::new(std::fs::File::from(started.output.try_clone().unwrap()));
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    started
}

#[test]
fn an_empty_container_ends_at_once() {
    let mut init = Resident::as_process_one();
    init.ask(InitRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    assert!(init.ended().success());
}

#[test]
fn everyone_is_asked_and_may_tidy_up() {
    let mut init = Resident::as_process_one();
    let _tidy = start_ready(
        &init,
        1,
        "trap 'exit 7' TERM; echo ready; while :; do read x; done",
    );
    let _stopped = start_ready(&init, 2, "echo ready; kill -STOP $$; exit 0");
    let shell = Request::new(c"/bin/sh", &["sh", "-i"]).in_terminal();
    let master = init.start_in_terminal(3, &shell);
    // The prompt is there, so the shell ignores TERM already.
    assert!(support::is_readable(
        std::os::fd::AsFd::as_fd(&master),
        support::PATIENCE
    ));

    let begun = Instant::now();
    init.ask(InitRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    let mut ends = [0; 3].map(|_| match init.report() {
        InitReport::Exited { id, wait_status } => (id, wait_status),
        other => panic!("not an end: {other:?}"),
    });
    ends.sort();
    assert_eq!(ends[0], (1, 7 << 8));
    assert_eq!(ends[1], (2, 15));
    assert_eq!(ends[2].0, 3);
    assert!(init.ended().success());
    assert!(begun.elapsed() < support::PATIENCE);
}

#[test]
fn a_process_that_does_not_listen_is_killed_at_the_deadline() {
    let mut init = Resident::as_process_one();
    let _deaf = start_ready(
        &init,
        1,
        "trap '' TERM HUP; echo ready; while :; do read x; done",
    );
    let begun = Instant::now();
    init.ask(InitRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    // A shorter one counts, a longer one does not.
    init.ask(InitRequest::Shutdown { timeout_ms: 300 }, &[]);
    init.ask(InitRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    assert_eq!(init.exited(1), 9);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(290), "killed after {took:?}");
    assert!(took < Duration::from_secs(10), "killed after {took:?}");
    assert!(init.ended().success());
}

#[test]
fn nothing_starts_during_a_shutdown() {
    let mut init = Resident::as_process_one();
    let _deaf = start_ready(
        &init,
        1,
        "trap '' TERM HUP; echo ready; while :; do read x; done",
    );
    init.ask(InitRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    let (stage, _) = init.fail(2, &Request::shell("exit 7"));
    assert_eq!(stage, Stage::InitGone);
    init.ask(InitRequest::Shutdown { timeout_ms: 0 }, &[]);
    assert_eq!(init.exited(1), 9);
    assert!(init.ended().success());
}

#[test]
fn a_signal_from_inside_asks_for_the_shutdown_too() {
    let mut init = Resident::as_process_one();
    let request = Request::shell("trap 'exit 7' TERM; kill -PWR 1; while :; do :; done");
    let _sender = init.start_command(1, &request);
    assert_eq!(init.exited(1), 7 << 8);
    assert!(init.ended().success());
}
