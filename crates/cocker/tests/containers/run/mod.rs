//! `run`: a command's streams, its exit status, and its signals, as if it ran on the host.

pub mod detached;
pub mod identity;

use crate::host::{Host, eventually, with_image_test};
use rustix::process::Signal;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_command_may_have_a_terminal,
        a_command_on_a_terminal_is_hung_up_with_its_client,
        a_command_on_a_terminal_may_run_only_so_long,
        exit_statuses_come_back,
        the_shells_line_and_the_words_of_a_command_are_both_taken,
        a_large_output_arrives_whole,
        output_and_errors_stay_apart,
        standard_input_is_passed_on_unchanged,
        a_command_that_does_not_read_does_not_block_its_feeder,
        a_closed_output_ends_the_command,
        a_child_in_the_background_does_not_hold_run,
        run_works_with_closed_standard_input_and_without_a_terminal,
        run_at_a_terminal_copies_and_holds_no_terminal,
        a_hundred_runs_at_once_each_get_their_own,
        run_in_a_stopped_container_is_cockers_own_failure,
        a_command_that_fits_into_no_request_is_refused,
        signals_to_the_client_reach_the_command,
        nobody_inside_ignores_what_the_client_ignores,
        a_command_ends_with_its_client,
        a_command_that_takes_too_long_is_ended,
        a_command_that_ignores_its_end_is_killed,
        a_command_is_reaped_and_leaves_no_zombie,
    ]
}

fn exit_statuses_come_back(host: &Host) {
    host.booted("web");
    host.cocker("run web -- true")
        .exits(0)
        .prints("")
        .complains("");
    host.cocker("run web -- false")
        .exits(1)
        .prints("")
        .complains("");
    host.cocker("run web -- sh -c 'exit 7'")
        .exits(7)
        .prints("")
        .complains("");
    host.cocker("-a run -c web --cmd 'exit 255'").exits(255);
    host.cocker("run web -- sh -c 'kill -KILL $$'").exits(137);
    host.cocker("run web -- sh -c 'kill -SEGV $$'")
        .exits(128 + 11);
    host.cocker("run web -- no-such-command")
        .fails(127, &["no-such-command"]);
    host.cocker("run web -- /no/such/command")
        .fails(127, &["/no/such/command"]);
    host.cocker("run web -- /etc/profile")
        .fails(126, &["/etc/profile"]);
    host.cocker("run web -- /etc").fails(126, &["/etc"]);
    host.cocker("-a run -c web --cmd no-such-command")
        .exits(127);
}

fn the_shells_line_and_the_words_of_a_command_are_both_taken(host: &Host) {
    host.booted("web");
    host.cocker("-a run -c web --cmd 'echo $((6 * 7)); echo done'")
        .succeeds()
        .prints("42\ndone\n");
    host.cocker_words(&[
        "run", "web", "--", "echo", "$HOME", "a  b", "", "-c", "--", "*",
    ])
    .succeeds()
    .prints("$HOME a  b  -c -- *\n");
    host.cocker("run web -- id -u").succeeds().prints("0\n");
    host.cocker("run web -- pwd").succeeds();
}

fn a_large_output_arrives_whole(host: &Host) {
    host.booted("web");
    let meant: String = (1..=1_000_000)
        .map(|number| format!("{number}\n"))
        .collect();
    let outcome = host
        .cocker("run web -- seq 1 1000000")
        .succeeds()
        .complains("");
    assert_eq!(outcome.stdout.len(), meant.len());
    assert!(
        outcome.stdout == meant.as_bytes(),
        "the numbers are not those that seq writes"
    );
}

fn output_and_errors_stay_apart(host: &Host) {
    host.booted("web");
    host.cocker("run web -- sh -c 'echo out; echo err >&2'")
        .succeeds()
        .prints("out\n")
        .complains("err\n");
    let both = host
        .cocker("run web -- sh -c 'seq 1 50000; seq 1 50000 >&2'")
        .succeeds();
    assert_eq!(both.stdout().lines().count(), 50_000);
    assert_eq!(both.stderr.lines().count(), 50_000);
}

fn standard_input_is_passed_on_unchanged(host: &Host) {
    host.booted("web");
    let bytes = noise(1024 * 1024);
    let outcome = host
        .start("run web -- cat")
        .feed(&bytes)
        .outcome()
        .succeeds();
    assert_eq!(outcome.stdout.len(), bytes.len());
    assert!(
        outcome.stdout == bytes,
        "what cat gave back is not what it got"
    );
    host.start("run web -- wc -c")
        .feed(b"")
        .outcome()
        .succeeds()
        .prints("0\n");
}

fn a_command_that_does_not_read_does_not_block_its_feeder(host: &Host) {
    host.booted("web");
    host.start("run web -- echo unread")
        .feed(&noise(1024 * 1024))
        .outcome()
        .succeeds()
        .prints("unread\n");
}

fn a_closed_output_ends_the_command(host: &Host) {
    host.booted("web");
    host.shell("cocker run web -- yes | head -n 2")
        .succeeds()
        .prints("y\ny\n")
        .within(Duration::from_secs(10));
    host.until_inside_is_gone("yes");
}

fn a_child_in_the_background_does_not_hold_run(host: &Host) {
    host.booted("web");
    host.cocker("-a run -c web --cmd 'sleep 100 & echo hi'")
        .succeeds()
        .prints("hi\n")
        .within(Duration::from_secs(10));
}

fn run_works_with_closed_standard_input_and_without_a_terminal(host: &Host) {
    host.booted("web");
    host.shell("cocker run web -- echo works <&-")
        .succeeds()
        .prints("works\n");
    host.shell("setsid --wait cocker run web -- echo works < /dev/null")
        .succeeds()
        .prints("works\n");
    host.shell("cocker run web -- sh -c 'cat; echo end' < /dev/null")
        .succeeds()
        .prints("end\n");
    host.shell("cocker run web -- cat < /etc/hostname | cmp - /etc/hostname")
        .succeeds();
}

fn run_at_a_terminal_copies_and_holds_no_terminal(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal(
        "run web -- sh -c 'test -t 0 || echo no-terminal-in; test -t 1 || echo no-terminal-out'",
    );
    terminal.expect("no-terminal-in");
    terminal.expect("no-terminal-out");
    terminal.exits(0);
    let mut terminal = host.terminal("run web -- sh -c 'read line; echo got $line'");
    terminal.type_line("words");
    terminal.expect("got words");
    terminal.exits(0);
}

fn a_hundred_runs_at_once_each_get_their_own(host: &Host) {
    host.booted("web");
    let started: Vec<_> = (0..100)
        .map(|n| host.start(&format!("run web -- sh -c 'cat; echo {n}; exit {n}'")))
        .collect();
    for (n, started) in started.into_iter().enumerate() {
        let outcome = started.feed(format!("to {n}\n").as_bytes()).outcome();
        outcome
            .exits(n as i32)
            .prints(&format!("to {n}\n{n}\n"))
            .complains("");
    }
}

fn run_in_a_stopped_container_is_cockers_own_failure(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-a run -c web --cmd true").fails(125, &["web"]);
    host.cocker("run web -- true").fails(125, &["web"]);
    host.cocker("run nobody -- true").fails(125, &["nobody"]);
}

fn a_command_that_fits_into_no_request_is_refused(host: &Host) {
    host.booted("web");
    let long = format!("LONG={}", "x".repeat(100_000));
    let line = ["run", "web", "--env", &long, "--", "true"];
    host.cocker_words(&line).succeeds();
    let line = ["run", "web", "--", "true", &long, &long];
    host.cocker_words(&line).fails(125, &["web", "too long"]);
}

fn signals_to_the_client_reach_the_command(host: &Host) {
    host.booted("web");
    for (signal, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::WINCH, "WINCH"),
    ] {
        let line = format!(
            "run web -- sh -c 'trap \"echo got {name}; exit 3\" {name}; echo ready; while :; do sleep 0.05; done'"
        );
        let mut started = host.start(&line);
        started.until_prints("ready");
        started.signal(signal);
        started
            .outcome()
            .exits(3)
            .prints(&format!("ready\ngot {name}\n"));
    }
    let mut started = host.start("run web -- sh -c 'echo ready; exec sleep 100'");
    started.until_prints("ready");
    started.signal(Signal::TERM);
    started.outcome().exits(128 + 15);
    host.until_inside_is_gone("sleep");
}

fn nobody_inside_ignores_what_the_client_ignores(host: &Host) {
    host.cocker("create -m test -c web").ok();
    // A shell of POSIX can ignore these; perl, which is on every Debian, all of them.
    let ignoring = |line: &str| {
        let all =
            "my $ignore = pack(\"Q4\", 1); foreach (1..64) { syscall(13, $_ + 0, $ignore, 0, 8) }";
        host.shell(&format!("perl -e '{all}; exec @ARGV' {line}"))
    };
    // Control. (perl keeps one for itself, as does grep.)
    let ignored = ignoring("grep SigIgn /proc/self/status")
        .succeeds()
        .stdout();
    let set = ignored.trim().strip_prefix("SigIgn:\t");
    let set = u64::from_str_radix(set.expect("it is shown"), 16).expect("it is a number");
    assert!(set.count_ones() >= 60, "{ignored}");
    ignoring("cocker boot web").ok();
    let of_a_command = "cocker run web -- grep -h SigIgn /proc/self/status /proc/1/status";
    let none = "SigIgn:\t0000000000000000\n";
    ignoring(of_a_command).succeeds().prints(&none.repeat(2));
    // The supervisor reads whatever comes; none of it is ignored either.
    let supervisor = host.supervisor("web");
    let status = std::fs::read_to_string(format!("/proc/{supervisor}/status"));
    assert!(status.expect("it is there").contains(none));
    ignoring("cocker shutdown web").ok();
}

fn a_command_ends_with_its_client(host: &Host) {
    host.booted("web");
    let mut started = host.start("run web -- sh -c 'echo ready; exec sleep 100'");
    started.until_prints("ready");
    host.until_inside_runs("sleep");
    started.signal(Signal::KILL);
    started.outcome().dies_of(Signal::KILL);
    host.until_inside_is_gone("sleep");
    host.cocker("run web -- echo works")
        .succeeds()
        .prints("works\n");
}

fn a_command_that_takes_too_long_is_ended(host: &Host) {
    host.booted("web");
    // Long enough for it to have begun, on a busy machine too.
    host.cocker("run web --timeout 3.5 -- sh -c 'echo begun; exec sleep 1000'")
        .exits(124)
        .prints("begun\n")
        .complains("Error: the command in container `web` was ended: it took longer than 3.5 s\n")
        .within(Duration::from_secs(12));
    host.until_inside_is_gone("sleep");
    // Its own status does not count, nor that it stands still.
    host.cocker("run web --timeout 3 -- sh -c 'trap \"echo bye; exit 0\" TERM; while :; do sleep 0.05; done'")
        .exits(124)
        .prints("bye\n");
    host.cocker("-a run -c web --timeout 3 --cmd 'kill -STOP $$'")
        .exits(124)
        .within(Duration::from_secs(12));
    // Who ends in time has nothing to do with it.
    host.cocker("run web --timeout 1000 -- sh -c 'exit 7'")
        .exits(7)
        .complains("");
    let mut started = host.start("run web --timeout 1000 -- sh -c 'echo ready; exec sleep 1000'");
    started.until_prints("ready");
    started.signal(Signal::INT);
    started.outcome().exits(128 + 2).complains("");
    host.shell("cocker run web --timeout 3 -- seq 1 18000 | (sleep 5; wc -l)")
        .succeeds()
        .prints("18000\n");
}

fn a_command_that_ignores_its_end_is_killed(host: &Host) {
    host.booted("web");
    let outcome = host
        .cocker("run web --timeout 3 -- sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'")
        .exits(124)
        .within(Duration::from_secs(23));
    assert!(outcome.took >= Duration::from_secs(13), "{outcome}");
    host.until_inside_is_gone("sh");
}

fn a_command_is_reaped_and_leaves_no_zombie(host: &Host) {
    host.booted("web");
    // Grandchildren whose parent has gone fall to the root process.
    host.cocker("run web -- sh -c '(sleep 0 & sleep 0 &) ; exit 0'")
        .succeeds();
    // One that has ended and is not waited for would be among them.
    eventually("init is alone", || host.contained().len() == 1);
}

/// Bytes without a pattern, the same ones each time.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        // xorshift64, as in Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn a_command_may_have_a_terminal(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal(
        "run web --tty --env GREETING=hello -- sh -c 'tty; echo $TERM $GREETING; exit 5'",
    );
    terminal.expect("/dev/pts/");
    terminal.expect("\r\ndumb hello\r\n");
    terminal.exits(5);
    // The seed's spelling, another user, and what is typed.
    let line = "-a run -c web --tty --user 1000 --workdir /tmp --cmd 'test -t 0 && id -u && pwd && read word && echo =$word='";
    let mut terminal = host.terminal(line);
    terminal.expect("1000\r\n/tmp\r\n");
    terminal.type_line("typed");
    terminal.expect("=typed=\r\n");
    terminal.exits(0);
    // Its own user may open it by its name.
    let mut terminal = host.terminal("run web --tty --user 1000 --cmd 'echo by name > $(tty)'");
    terminal.expect("by name\r\n");
    terminal.exits(0);
    let mut terminal = host.terminal("run web --tty -- /no/such/program");
    terminal.expect("`/no/such/program`");
    terminal.exits(127);
    host.cocker("run web --tty -- true")
        .fails(125, &["stdin is not a terminal"]);
    for options in ["--tty --detach", "--detach --tty"] {
        host.cocker(&format!("run web {options} -- true"))
            .refuses(&["`--tty`", "`--detach`"]);
    }
}

fn a_command_on_a_terminal_is_hung_up_with_its_client(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal("run web --tty -- sleep 300");
    host.until_inside_runs("sleep");
    assert!(
        host.cocker("sessions web")
            .succeeds()
            .stdout()
            .contains("sleep 300")
    );
    terminal.kill();
    host.until_inside_is_gone("sleep");
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
    // Left by the key, too.
    let mut terminal = host.terminal("run web --tty -- sleep 300");
    host.until_inside_runs("sleep");
    terminal.type_keys("\x1d\x1d\x1d");
    terminal.expect("the command was hung up");
    terminal.exits(129);
    host.until_inside_is_gone("sleep");
}

fn a_command_on_a_terminal_may_run_only_so_long(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal("run web --tty --timeout 0.5 -- sleep 300");
    terminal.expect("it took longer than 0.5 s");
    terminal.exits(124);
    host.until_inside_is_gone("sleep");
    let mut terminal = host.terminal("run web --tty --timeout 60 -- true");
    terminal.exits(0);
}
