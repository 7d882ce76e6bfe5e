//! A client that somebody has stopped (SIGSTOP, as control-Z does it) while it holds a lock: whoever waits for it says so.

use crate::host::{Host, Started, with_image_test};
use crate::hostile::answered;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![whoever_waits_for_a_stopped_client_names_it_and_can_be_interrupted]
}

/// Between two moments at which a command is stopped.
const STEP: Duration = Duration::from_micros(200);
/// So often at least, in growing steps.
const MOMENTS: u32 = 60;

fn whoever_waits_for_a_stopped_client_names_it_and_can_be_interrupted(host: &Host) {
    let wanted = ["containers/web", "containers/web/lock", "store.lock"];
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let mut seen = BTreeSet::new();
    for moment in 0.. {
        if moment >= MOMENTS && seen.is_superset(&wanted) {
            break;
        }
        assert!(moment < 10 * MOMENTS, "stopped only with {seen:?} locked");
        // On a busy machine a command may take long.
        let time = STEP * (moment % (4 * MOMENTS));
        let mut held = |line: &str| stopped_after(host, line, time, &mut seen);
        held("create -m test -c web");
        if !host.entries("containers").contains(&"web".into()) {
            host.cocker("create -m test -c web").ok();
        }
        held("boot web");
        host.settles("web");
        held("copy-image --from-image test --to-image copy");
        if host.images().contains(&"copy _".into()) {
            host.cocker("rm-image copy").ok();
        }
        held("destroy web");
        if host.entries("containers").contains(&"web".into()) {
            host.cocker("destroy web").ok();
        }
    }
}

/// Stops the command after a time. With each set of locks that it holds then for the first time, others are asked; then it goes
/// on to its end.
#[track_caller]
fn stopped_after(host: &Host, line: &str, time: Duration, seen: &mut BTreeSet<String>) {
    let moment = Instant::now() + time;
    let command = host.start(line);
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
    command.signal(Signal::STOP);
    for lock in locks_of(host, &command) {
        if seen.insert(lock.clone()) {
            others_say_so(host, &command, &lock);
        }
    }
    command.signal(Signal::CONT);
    command.outcome().ok();
}

/// The files of the store that the process holds locked, from `$COCKER_HOME` on.
fn locks_of(host: &Host, command: &Started) -> Vec<String> {
    let process = PathBuf::from(format!("/proc/{}", command.pid().as_raw_nonzero()));
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    let locked = descriptors.flatten().filter_map(|descriptor| {
        let info = process.join("fdinfo").join(descriptor.file_name());
        let info = fs::read_to_string(info).ok()?;
        info.contains("\nlock:").then_some(())?;
        let path = fs::read_link(descriptor.path()).ok()?;
        Some(path.strip_prefix(host.home()).ok()?.to_str()?.to_owned())
    });
    locked.collect()
}

fn others_say_so(host: &Host, stopped: &Started, lock: &str) {
    // The list waits for nobody but for who has changed half of several names.
    if !host.home().join("change.json").exists() {
        answered(host, "ps");
    }
    let line = match lock {
        "store.lock" => "rm-image nothing",
        "containers/web" => "boot web",
        // What is staged is nobody else's, and nobody waits for the lock that says "booted" who has not the folder's.
        _ => return,
    };
    let mut waiting = host.start(line);
    let pid = stopped.pid().as_raw_nonzero();
    waiting.until_complains(&format!("{lock}`, locked by process {pid} (`"));
    waiting.until_complains("control-C ends the waiting");
    waiting.signal(Signal::INT);
    waiting.outcome().dies_of(Signal::INT);
}
