//! The box itself: what comes out of it, what is in it, and what outlives it.

use crate::host::here;
use crate::machine::{Disk, Machine};
use libtest_mimic::Trial;
use std::time::Duration;

/// How long a boot and a short command may take.
const PATIENCE: Duration = Duration::from_secs(180);

pub fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 5] = [
        (
            "a_command_has_its_status_and_every_byte_it_printed",
            a_command_has_its_status_and_every_byte_it_printed,
        ),
        (
            "the_cgroups_are_unified_and_have_every_controller",
            the_cgroups_are_unified_and_have_every_controller,
        ),
        (
            "a_machine_that_is_not_done_in_time_is_cut_and_shows_all_that_was_said",
            a_machine_that_is_not_done_in_time_is_cut_and_shows_all_that_was_said,
        ),
        (
            "a_kernel_that_panics_is_an_error_that_shows_why",
            a_kernel_that_panics_is_an_error_that_shows_why,
        ),
        (
            "what_was_synced_is_there_after_the_power_was_cut",
            what_was_synced_is_there_after_the_power_was_cut,
        ),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(format!("box_itself::{name}"), move || {
            test();
            Ok(())
        })
    };
    tests.map(trial).into()
}

fn machine() -> Machine {
    let kernel = crate::kernel().unwrap_or_else(|why| panic!("{why}"));
    let disk = Disk::debian().unwrap_or_else(|why| panic!("{why}"));
    Machine::new(kernel).disk(disk)
}

fn a_command_has_its_status_and_every_byte_it_printed() {
    // Neither what looks like a frame nor what a terminal would change; and somebody who stays holds nobody up.
    let command = r"sleep 1000 & printf 'exit 0\n\r\n\003\004\021\n'; echo on the other stream >&2; kill -9 $$";
    let outcome = machine().boot(command, here(PATIENCE));
    assert_eq!(
        outcome.output,
        "exit 0\n\r\n\x03\x04\x11\non the other stream\n"
    );
    assert_eq!(outcome.status, 128 + 9);
}

fn the_cgroups_are_unified_and_have_every_controller() {
    let outcome = machine().boot(
        "grep -c cgroup /proc/self/mounts; cat /proc/self/cgroup /sys/fs/cgroup/cgroup.controllers",
        here(PATIENCE),
    );
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(lines[..2], ["1", "0::/"], "{}", outcome.output);
    for controller in ["cpu", "io", "memory", "pids"] {
        assert!(
            lines[2].split(' ').any(|word| word == controller),
            "no {controller} in {}",
            lines[2]
        );
    }
    assert_eq!(outcome.status, 0);
}

fn a_machine_that_is_not_done_in_time_is_cut_and_shows_all_that_was_said() {
    let mut machine = machine();
    let mut running = machine.start("echo of the kernel > /dev/ttyS0; echo begun; exec sleep 1000");
    running.until_prints("begun\n", here(PATIENCE));
    let why = running
        .until_off(Duration::from_secs(1), |_| ())
        .unwrap_err();
    assert!(
        why.starts_with("the machine is not done in time\n"),
        "{why}"
    );
    assert!(
        why.contains("begun\n") && why.contains("of the kernel"),
        "{why}"
    );
    // Killed and waited for; this hangs where it is not.
    drop(running);
}

fn a_kernel_that_panics_is_an_error_that_shows_why() {
    let mut machine = machine();
    let mut running = machine.start("echo c > /proc/sysrq-trigger; exec sleep 1000");
    let why = running.until_off(here(PATIENCE), |_| ()).unwrap_err();
    assert!(
        why.starts_with("the machine went off before its command had ended\n"),
        "{why}"
    );
    assert!(
        why.contains("Kernel panic - not syncing: sysrq triggered crash"),
        "{why}"
    );
}

fn what_was_synced_is_there_after_the_power_was_cut() {
    let mut machine = machine();
    let mut running = machine.start(
        "echo kept > /root/file && sync /root/file /root && echo synced && while :; do echo more >> /root/noise; done",
    );
    running.until_prints("synced\n", here(PATIENCE));
    running.cut();
    let outcome = machine.boot(
        "cat /root/file; test -s /root/noise || echo no noise",
        here(PATIENCE),
    );
    assert!(outcome.output.starts_with("kept\n"), "{}", outcome.output);
    assert_eq!(outcome.status, 0);
}
