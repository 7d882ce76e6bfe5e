//! Logs: what a container wrote to its console is there afterwards, and can be followed while it writes.

use crate::host::{Host, PATIENCE, eventually, with_image_test};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        what_was_written_to_the_console_is_printed_booted_or_not,
        the_last_lines_are_printed,
        since_a_time_is_since_that_time,
        a_log_is_followed_to_the_containers_end,
        a_log_is_followed_over_its_rotation,
        following_ends_when_the_supervisor_is_killed,
        following_ends_with_an_interrupt_and_with_its_reader,
        on_a_terminal_nothing_of_it_steers,
        for_programs_every_line_is_an_object_with_its_time,
        a_flood_on_the_console_stays_within_bounds_and_holds_up_nobody,
        a_log_that_cannot_be_read_is_refused_by_name,
    ]
}

/// Has root inside write to the console, and waits until the supervisor has logged it.
#[track_caller]
fn write(host: &Host, text: &str) {
    host.inside("web", &format!("printf '{text}' > /dev/console"));
    let last = text
        .rsplit("\\n")
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    eventually(&format!("`{last}` is logged"), || {
        let log = fs::read(host.home().join("containers/web/console.log"));
        log.is_ok_and(|log| String::from_utf8_lossy(&log).contains(last))
    });
}

fn what_was_written_to_the_console_is_printed_booted_or_not(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("logs web").exits(0).prints("").complains("");
    host.cocker("boot web").ok();
    write(host, "one\\ntwo\\n");
    // A console ends its lines as terminals do.
    let whole = "one\r\ntwo\r\n";
    host.cocker("logs web").exits(0).prints(whole);
    host.cocker("-s logs -c web").exits(0).prints(whole);
    host.cocker("shutdown web").ok();
    host.cocker("logs web").exits(0).prints(whole);
    host.cocker("-s logs -c web -f").exits(0).prints(whole);
    // The next run goes on behind it.
    host.cocker("boot web").ok();
    write(host, "three\\n");
    host.cocker("logs web")
        .exits(0)
        .prints("one\r\ntwo\r\nthree\r\n");
}

fn the_last_lines_are_printed(host: &Host) {
    host.booted("web");
    write(host, "one\\ntwo\\nthree\\n");
    host.cocker("logs web --tail 2")
        .exits(0)
        .prints("two\r\nthree\r\n");
    host.cocker("-s logs -c web --tail 1")
        .exits(0)
        .prints("three\r\n");
    host.cocker("logs web --tail 0").exits(0).prints("");
    host.cocker("logs web --tail 9")
        .exits(0)
        .prints("one\r\ntwo\r\nthree\r\n");
}

fn since_a_time_is_since_that_time(host: &Host) {
    host.booted("web");
    write(host, "old\\n");
    let written = Instant::now();
    // Times are to the second, and so is what is typed below.
    eventually("the times of both lines differ", || {
        written.elapsed() >= Duration::from_millis(2100)
    });
    let between = host.shell("date -u +%FT%TZ").succeeds().stdout();
    write(host, "new\\n");
    host.cocker(&format!("logs web --since {between}"))
        .exits(0)
        .prints("new\r\n");
    host.cocker("-s logs -c web --since 1h")
        .exits(0)
        .prints("old\r\nnew\r\n");
    host.cocker("logs web --since 2100-01-01T00:00:00Z")
        .exits(0)
        .prints("");
    host.cocker("logs web --since 2018-11-10 --tail 1")
        .exits(0)
        .prints("new\r\n");
    host.cocker("logs web --since yesterday").fails(
        2,
        &["`--since yesterday`", "10m", "2026-11-25T20:00:00+01:00"],
    );
}

fn a_log_is_followed_to_the_containers_end(host: &Host) {
    host.booted("web");
    write(host, "one\\ntwo\\n");
    let mut follower = host.start("logs web -f --tail 1");
    let mut seeds = host.start("-s logs -c web --follow");
    follower.until_prints("two");
    write(host, "three\\n");
    follower.until_prints("three");
    seeds.until_prints("three");
    host.inside("web", "printf 'the last\\n' > /dev/console");
    host.cocker("shutdown web").ok();
    follower
        .outcome()
        .exits(0)
        .prints("two\r\nthree\r\nthe last\r\n")
        .complains("");
    seeds
        .outcome()
        .exits(0)
        .prints("one\r\ntwo\r\nthree\r\nthe last\r\n");
}

fn a_log_is_followed_over_its_rotation(host: &Host) {
    const LINES: usize = 250_000;
    host.booted("web");
    let follower = host.start("logs web -f");
    let lines = format!("seq -f %039.0f {LINES} > /dev/console");
    host.inside("web", &lines);
    host.cocker("shutdown web").ok();
    let outcome = follower.outcome().exits(0).complains("");
    let printed = outcome.stdout();
    assert_eq!(printed.lines().count(), LINES);
    let numbers = printed
        .lines()
        .map(|line| line.parse::<usize>().expect("a number"));
    assert!(numbers.eq(1..=LINES));
    assert!(host.home().join("containers/web/console.log.1").exists());
    let last = format!("{LINES:039}\r\n");
    host.cocker("logs web --tail 1").exits(0).prints(&last);
    assert!(host.cocker("logs web").succeeds().stdout() == printed);
}

fn following_ends_when_the_supervisor_is_killed(host: &Host) {
    host.booted("web");
    write(host, "one\\n");
    let mut follower = host.start("logs web -f");
    follower.until_prints("one");
    let supervisor = Pid::from_raw(host.supervisor("web")).expect("it is booted");
    kill_process(supervisor, Signal::KILL).expect("it is ours");
    follower.outcome().exits(0).prints("one\r\n").complains("");
    host.cocker("boot web").ok();
}

fn following_ends_with_an_interrupt_and_with_its_reader(host: &Host) {
    host.booted("web");
    write(host, "one\\n");
    let mut follower = host.start("logs web -f");
    follower.until_prints("one");
    follower.signal(Signal::INT);
    follower.outcome().dies_of(Signal::INT).complains("");
    // To a shell that is 130.
    host.shell("sh -c 'kill -INT $$'; echo $?").prints("130\n");
    // Nothing more is written, and it ends all the same.
    host.shell("cocker logs web -f | head -n 1")
        .exits(0)
        .prints("one\r\n")
        .complains("");
}

fn on_a_terminal_nothing_of_it_steers(host: &Host) {
    host.booted("web");
    write(
        host,
        "\\033[32mgreen\\033[0m\\ttab\\033[2J\\033]0;title\\007\\rover\\nthe end\\n",
    );
    let mut terminal = host.terminal("logs web");
    terminal.exits(0);
    assert_eq!(
        terminal.screen(),
        "green\ttab\\u{1b}[2J\\u{1b}]0;title\\u{7}\\u{d}over\r\nthe end\r\n"
    );
    // Elsewhere it is what was written.
    host.cocker("logs web")
        .prints("\x1b[32mgreen\x1b[0m\ttab\x1b[2J\x1b]0;title\x07\rover\r\nthe end\r\n");
}

fn for_programs_every_line_is_an_object_with_its_time(host: &Host) {
    let before = SystemTime::now();
    host.booted("web");
    write(host, "a\\033b\\ntwo\\nunfinished");
    let printed = host.cocker("logs web --format json").succeeds().stdout();
    let lines: Vec<serde_json::Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    let texts: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["line"].as_str())
        .collect();
    assert_eq!(texts, ["a\u{1b}b", "two", "unfinished"]);
    let time = lines[0]["time"].as_str().expect("its time is known");
    let seconds = host
        .shell(&format!("date -d {time} +%s"))
        .succeeds()
        .stdout();
    let seconds: u64 = seconds.trim().parse().expect("a number");
    let since = |time: SystemTime| {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        since.expect("it is later").as_secs()
    };
    assert!(
        (since(before)..=since(SystemTime::now())).contains(&seconds),
        "{time}"
    );
    // Logged by a supervisor that kept no times.
    fs::remove_file(host.home().join("containers/web/console.times")).expect("it is there");
    let printed = host.cocker("logs web --format json").succeeds().stdout();
    assert!(
        printed.starts_with("{\"time\":null,\"line\":\"a\\u001bb\"}\n"),
        "{printed}"
    );
}

fn a_flood_on_the_console_stays_within_bounds_and_holds_up_nobody(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "(while :; do seq 100000; done > /dev/console) & true",
    );
    let container = host.home().join("containers/web");
    eventually("the log is rotated", || {
        container.join("console.log.1").exists()
    });
    for _ in 0..10 {
        host.cocker("run web -- true")
            .exits(0)
            .within(Duration::from_secs(10));
        // What is written meanwhile is not waited for.
        host.cocker("logs web --tail 3")
            .exits(0)
            .within(Duration::from_secs(10));
        host.cocker("logs web").exits(0);
    }
    let sizes = [
        "console.log",
        "console.log.1",
        "console.times",
        "console.times.1",
    ]
    .map(|name| fs::metadata(container.join(name)).map_or(0, |found| found.len()));
    assert!(
        sizes[..2].iter().all(|size| *size <= (8 << 20) + 4096),
        "{sizes:?}"
    );
    assert!(sizes[2..].iter().all(|size| *size <= 2 << 20), "{sizes:?}");
    host.cocker("kill web").ok().within(PATIENCE);
}

fn a_log_that_cannot_be_read_is_refused_by_name(host: &Host) {
    host.cocker("logs nobody")
        .fails(1, &["there is no container `nobody`"]);
    host.cocker("create -m test -c web").ok();
    // Whatever came there: a link is not followed.
    let log = host.home().join("containers/web/console.log");
    std::os::unix::fs::symlink("/etc/passwd", &log).expect("the folder is ours");
    host.cocker("logs web").fails(
        1,
        &[
            "cannot read the console log of container `web`",
            "cannot open `console.log`",
        ],
    );
}
