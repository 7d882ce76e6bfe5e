//! `run --detach`: a command that goes on without its client, and ends with the container.

use crate::host::{Host, eventually, with_image_test};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_detached_command_goes_on_without_its_client,
        a_detached_command_has_nothing_but_dev_null_open,
        a_command_that_cannot_start_is_told_of_as_ever,
        detached_commands_cost_the_supervisor_nothing,
        something_else_at_dev_null_is_not_written_to,
        a_detached_command_below_a_root_process_of_ones_own_leaves_no_zombie,
    ]
}

fn a_detached_command_goes_on_without_its_client(host: &Host) {
    host.booted("web");
    host.cocker("run web --detach -- sh -c 'echo out; echo err >&2; cat; exec sleep 1000'")
        .succeeds()
        .prints("")
        .complains("")
        .within(Duration::from_secs(10));
    host.until_inside_runs("sleep");
    host.cocker("-a run -c web --detach --user 7 --env A=1 --workdir /tmp --cmd 'id -u >x; echo $A >>x; mv x y; exec sleep 1001'")
        .succeeds()
        .prints("");
    let result = |host: &Host| host.inside("web", "cat /tmp/y 2>/dev/null; true");
    eventually("the command has written its file", || {
        result(host) == "7\n1"
    });
    // It ends with the container, which it does not hold.
    host.cocker("-a shutdown -c web")
        .ok()
        .within(Duration::from_secs(9));
    assert_eq!(host.contained().len(), 0);
}

fn a_detached_command_has_nothing_but_dev_null_open(host: &Host) {
    host.booted("web");
    host.cocker("run web --detach -- sleep 1000").succeeds();
    let pid = host.until_inside_runs("sleep");
    let folder = format!("/proc/{pid}/fd");
    let look = || -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let entries = fs::read_dir(&folder)?.map(|entry| {
            let path = entry?.path();
            let target = fs::read_link(&path)?;
            Ok((path, target))
        });
        entries.collect()
    };
    // At its start it has its libraries open too, and closes them while we look.
    let mut open = Vec::new();
    eventually("it has three files open", || {
        open = look().unwrap_or_default();
        open.len() == 3
    });
    open.sort();
    for (number, (path, target)) in open.iter().enumerate() {
        assert!(path.ends_with(number.to_string()), "{open:?}");
        assert_eq!(target.to_str(), Some("/dev/null"), "{open:?}");
    }
}

fn a_command_that_cannot_start_is_told_of_as_ever(host: &Host) {
    host.booted("web");
    for (line, status, named) in [
        (
            "run web --detach -- no-such-command",
            127,
            "no-such-command",
        ),
        ("run web --detach -- /etc/profile", 126, "/etc/profile"),
        (
            "run web --detach --user nobody-there -- true",
            125,
            "nobody-there",
        ),
        (
            "run web --detach --workdir /no/such -- true",
            125,
            "working folder",
        ),
        ("run nobody --detach -- true", 125, "nobody"),
        ("run web --detach --timeout 5 -- true", 2, "--timeout"),
        ("run web --detach --record /tmp/x -- true", 2, "--record"),
    ] {
        host.cocker(line).fails(status, &[named]);
    }
}

fn detached_commands_cost_the_supervisor_nothing(host: &Host) {
    host.booted("web");
    let supervisor = host.supervisor("web");
    let open = || {
        let folder = fs::read_dir(format!("/proc/{supervisor}/fd")).expect("it runs");
        folder.count()
    };
    let before = open();
    let started: Vec<_> = (0..100)
        .map(|_| host.start("run web --detach -- sleep 1000"))
        .collect();
    for started in started {
        started.feed(b"").outcome().succeeds().complains("");
    }
    // Whoever booted it may have been counted.
    eventually("the clients are forgotten", || open() <= before);
    let sleeping = || {
        let contained = host.contained();
        let sleeping = contained.iter().filter(|it| it.name() == "sleep");
        sleeping.count()
    };
    // The kernel names a process after its new program when it has let its parent go on.
    eventually("all sleep", || sleeping() == 100);
    // Their ends are nobody's either, and leave no zombie.
    host.cocker_words(&["run", "web", "--cmd", "kill $(pidof sleep) 2>/dev/null || for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = sleep ] && kill ${p#/proc/}; done; true"])
        .succeeds();
    host.until_inside_is_gone("sleep");
    eventually("nothing is left of them", || sleeping() == 0);
    eventually("all clients are forgotten", || open() <= before);
    host.cocker("run web -- echo works")
        .succeeds()
        .prints("works\n");
}

fn a_detached_command_below_a_root_process_of_ones_own_leaves_no_zombie(host: &Host) {
    host.cocker("create -m test -c web -b -e 'sleep 1000'").ok();
    host.cocker("run web --detach -- tail -f /dev/null")
        .succeeds();
    let pid = host.until_inside_runs("tail");
    let pid = rustix::process::Pid::from_raw(pid).expect("a process has a number");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    eventually("nothing is left of it", || {
        host.contained()
            .iter()
            .all(|process| process.name() != "tail")
    });
    host.cocker("run web -- echo works")
        .succeeds()
        .prints("works\n");
}

fn something_else_at_dev_null_is_not_written_to(host: &Host) {
    // Where root is the host's own, whatever stands in /dev can be replaced.
    host.cocker("create -m test -c open --privileged -b").ok();
    host.cocker("run open -- sh -c 'umount /dev/null; rm -f /dev/null; echo mine >/dev/null'")
        .succeeds();
    host.cocker("run open --detach -- sh -c 'echo yours'")
        .fails(125, &["/dev/null", "No such device"]);
    host.cocker("run open -- cat /dev/null")
        .succeeds()
        .prints("mine\n");
    host.cocker("run open -- sh -c 'rm /dev/null; mkfifo /dev/null'")
        .succeeds();
    host.cocker("run open --detach -- true")
        .fails(125, &["/dev/null"])
        .within(Duration::from_secs(10));
}
