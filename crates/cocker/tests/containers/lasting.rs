//! Sessions that outlive whoever looks at them: left, lost, found again, shared, listed and ended.

use crate::host::{Host, PATIENCE, Terminal, eventually, here, with_image_test};
use rustix::process::Signal;
use std::fs;
use std::time::Instant;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_closed_window_leaves_the_session_as_it_is,
        a_killed_client_leaves_the_session_and_what_runs_in_it,
        a_signal_to_the_client_leaves_the_session,
        what_ran_on_meanwhile_is_found_complete,
        control_bracket_three_times_leaves_the_session,
        the_session_that_was_left_last_is_found_first,
        a_session_that_is_looked_at_is_not_taken_over,
        a_new_one_is_opened_when_asked_for,
        a_session_is_found_by_number_and_by_name,
        a_session_that_is_not_there_is_named,
        two_lookers_see_the_same,
        a_read_only_looker_types_nothing,
        the_size_is_the_smallest_lookers,
        a_window_that_changes_while_a_session_is_opened_is_known_to_it,
        the_list_says_what_there_is,
        a_session_can_be_ended,
        a_shell_that_does_not_hang_up_is_killed,
        the_end_of_the_shell_is_the_end_for_every_looker,
        with_the_container_its_sessions_end,
        what_a_session_set_on_the_terminal_is_taken_back,
        the_last_screenful_is_shown_on_coming_back,
        an_unbooted_container_has_no_sessions,
        no_process_of_the_container_holds_a_master,
        a_terminals_folder_that_is_covered_is_not_followed,
    ]
}

const PROMPT: &str = "[root@web /root] ";

#[track_caller]
fn attached(host: &Host, line: &str) -> Terminal {
    let mut terminal = host.terminal(line);
    terminal.expect("connect to container ok\r\n");
    terminal.expect(PROMPT);
    terminal
}

/// Types a command into the session and returns what it prints, up to the next prompt.
#[track_caller]
fn ask(terminal: &mut Terminal, command: &str) -> String {
    terminal.type_line(command);
    terminal.expect(command);
    terminal.expect("\r\n");
    terminal.expect(PROMPT).trim_end().to_string()
}

/// The listing's lines, as words: number, name, who, since, command, size, lookers.
fn listed(host: &Host) -> Vec<Vec<String>> {
    let listing = host.cocker("sessions web").succeeds().stdout();
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect();
    listing.lines().skip(2).map(words).collect()
}

/// How many look at each session.
fn lookers(host: &Host) -> Vec<String> {
    listed(host).iter().map(|row| row[6].clone()).collect()
}

#[track_caller]
fn until_nobody_looks(host: &Host) {
    eventually("nobody looks at a session", || {
        lookers(host).iter().all(|lookers| lookers == "0")
    });
}

fn a_closed_window_leaves_the_session_as_it_is(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    let shell = ask(&mut terminal, "kept=here; echo $$");
    terminal.close_window();
    until_nobody_looks(host);
    let mut terminal = attached(host, "attach web");
    assert_eq!(ask(&mut terminal, "echo $kept $$"), format!("here {shell}"));
    assert_eq!(listed(host).len(), 1);
    terminal.type_line("exit");
    terminal.exits(0);
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
}

fn a_killed_client_leaves_the_session_and_what_runs_in_it(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    terminal.type_line("sleep 300");
    let sleep = host.until_inside_runs("sleep");
    terminal.kill();
    until_nobody_looks(host);
    assert_eq!(host.until_inside_runs("sleep"), sleep);
    // And the container can be shut down with it.
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();
}

fn a_signal_to_the_client_leaves_the_session(host: &Host) {
    host.booted("web");
    let mut shell = String::new();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut terminal = attached(host, "attach web");
        let now = ask(&mut terminal, "echo $$");
        assert!(shell.is_empty() || shell == now, "{signal:?}");
        shell = now;
        terminal.signal(signal);
        terminal.exits(128 + signal.as_raw());
        until_nobody_looks(host);
    }
}

fn what_ran_on_meanwhile_is_found_complete(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    terminal.type_line("for i in $(seq 100000); do echo $i; done; echo that was all");
    terminal.expect("\r\n5000\r\n");
    terminal.kill();
    let mut terminal = host.terminal("attach web");
    terminal.until_drawn("the end of the loop", |screen| {
        let lines = screen.contents();
        let lines: Vec<&str> = lines.lines().collect();
        let end = ["99999", "100000", "that was all", PROMPT.trim_end()];
        lines.windows(end.len()).any(|window| {
            let window: Vec<&str> = window.iter().map(|line| line.trim_end()).collect();
            window == end
        })
    });
    // Not a line is missing, be it among what was shown again or what came after.
    let shown = String::from_utf8_lossy(terminal.shown()).into_owned();
    let numbers = shown
        .lines()
        .filter_map(|line| line.trim().parse::<u32>().ok());
    let numbers: Vec<u32> = numbers.skip_while(|number| *number < 90_000).collect();
    assert!(
        numbers.iter().copied().eq(numbers[0]..=100_000),
        "{numbers:?}"
    );
    terminal.type_line("exit");
    terminal.exits(0);
}

fn control_bracket_three_times_leaves_the_session(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    ask(&mut terminal, "kept=here");
    terminal.type_keys("\x1d\x1d\x1d");
    terminal.expect("detached; `cocker attach web` comes back to session 1");
    terminal.exits(0);
    let mut terminal = attached(host, "attach web");
    assert_eq!(ask(&mut terminal, "echo $kept"), "here");
    // The next line begins without those keys.
    assert_eq!(ask(&mut terminal, "echo clean"), "clean");
}

fn the_session_that_was_left_last_is_found_first(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    let first = ask(&mut one, "echo $$");
    let mut two = attached(host, "attach web");
    let second = ask(&mut two, "echo $$");
    assert_ne!(first, second);
    two.close_window();
    eventually("one is left", || lookers(host) == ["1", "0"]);
    one.close_window();
    until_nobody_looks(host);
    let mut terminal = attached(host, "attach web");
    assert_eq!(ask(&mut terminal, "echo $$"), first);
    let mut terminal = attached(host, "attach web");
    assert_eq!(ask(&mut terminal, "echo $$"), second);
}

fn a_session_that_is_looked_at_is_not_taken_over(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    let mut two = attached(host, "attach web");
    assert_ne!(ask(&mut one, "tty"), ask(&mut two, "tty"));
    assert_eq!(lookers(host), ["1", "1"]);
}

fn a_new_one_is_opened_when_asked_for(host: &Host) {
    host.booted("web");
    attached(host, "attach web").close_window();
    until_nobody_looks(host);
    let _new = attached(host, "attach web --new");
    assert_eq!(lookers(host), ["0", "1"]);
    // A number is used again when its session is gone.
    host.cocker("sessions web --end 1").ok();
    let _newer = attached(host, "-a attach -c web --new");
    let numbers: Vec<String> = listed(host).iter().map(|row| row[0].clone()).collect();
    assert_eq!(numbers, ["1", "2"]);
}

fn a_session_is_found_by_number_and_by_name(host: &Host) {
    host.booted("web");
    let mut named = attached(host, "attach web --new --session work.1");
    let shell = ask(&mut named, "echo $$");
    named.close_window();
    attached(host, "attach web --new").close_window();
    until_nobody_looks(host);
    let mut by_name = attached(host, "attach web --session work.1");
    assert_eq!(ask(&mut by_name, "echo $$"), shell);
    // Also where somebody looks already.
    let mut by_number = attached(host, "-a attach -c web --session 1");
    assert_eq!(ask(&mut by_number, "echo $$"), shell);
    let named = &listed(host)[0];
    assert_eq!((&*named[0], &*named[1], &*named[6]), ("1", "work.1", "2"));
    // A name belongs to one session.
    let mut terminal = host.terminal("attach web --new --session work.1");
    terminal.expect("there is a session of that name");
    terminal.exits(1);
}

fn a_session_that_is_not_there_is_named(host: &Host) {
    host.booted("web");
    let mut terminal = host.terminal("attach web --session 7");
    terminal.expect("cannot open a session in container `web`");
    terminal.expect("there is no session `7`");
    terminal.expect("`cocker sessions web` lists them");
    terminal.exits(1);
    host.cocker("sessions web --end work")
        .fails(1, &["there is no session `work`", "cocker sessions web"]);
    for wrong in ["0", "4294967296", "-1", "a/b", ""] {
        host.cocker_words(&["sessions", "web", &format!("--end={wrong}")])
            .refuses(&[]);
    }
    host.cocker("attach web --new --session 3")
        .refuses(&["`3`", "a name is no number"]);
    host.cocker("attach web --new --read-only")
        .refuses(&["--read-only"]);
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
}

fn two_lookers_see_the_same(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    let mut two = attached(host, "attach web --session 1");
    ask(&mut one, "echo begin");
    two.expect("begin\r\n");
    two.expect(PROMPT);
    one.type_line("seq 1 20000; echo the end");
    let seen_by_one = one.expect("the end\r\n");
    let rest_by_one = one.expect("the end\r\n");
    let seen_by_two = two.expect("the end\r\n");
    let rest_by_two = two.expect("the end\r\n");
    assert_eq!(seen_by_one, seen_by_two);
    assert!(rest_by_one == rest_by_two, "they see different numbers");
    assert!(rest_by_one.contains("\r\n19999\r\n20000\r\n"));
    // Both type.
    two.type_line("echo from two");
    one.expect("from two\r\n");
    one.expect("from two\r\n");
}

fn a_read_only_looker_types_nothing(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    let mut two = attached(host, "attach web --session 1 --read-only");
    two.type_line("echo typed by two");
    ask(&mut one, "echo typed by one");
    two.expect("typed by one\r\n");
    two.type_keys("\x1d\x1d\x1d");
    two.expect("detached");
    two.exits(0);
    assert!(!one.screen().contains("by two"), "{}", one.screen());
    assert!(!two.screen().contains("by two"), "{}", two.screen());
}

fn the_size_is_the_smallest_lookers(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    assert_eq!(ask(&mut one, "stty size"), "24 200");
    let mut two = attached(host, "attach web --session 1");
    two.resize(50, 100);
    eventually("the smaller width", || listed(host)[0][5] == "100x24");
    assert_eq!(ask(&mut one, "stty size"), "24 100");
    two.resize(20, 300);
    eventually("the smaller height", || listed(host)[0][5] == "200x20");
    two.close_window();
    eventually("the size of who is left", || listed(host)[0][5] == "200x24");
    assert_eq!(ask(&mut one, "stty size"), "24 200");
}

/// At moments from before the client has looked at the window to after it hears of changes.
fn a_window_that_changes_while_a_session_is_opened_is_known_to_it(host: &Host) {
    host.booted("web");
    // The moment at which the client itself begins, after the programs that give it its terminal.
    let begun = |terminal: &Terminal| {
        let exe = format!("/proc/{}/exe", terminal.pid().as_raw_nonzero());
        let until = Instant::now() + here(PATIENCE);
        while !fs::read_link(&exe).is_ok_and(|program| program.ends_with("cocker")) {
            assert!(Instant::now() < until, "the client never begins");
            std::hint::spin_loop();
        }
        Instant::now()
    };
    let mut terminal = host.terminal("attach web --new");
    let since = begun(&terminal);
    terminal.expect(PROMPT);
    let whole = since.elapsed();
    terminal.type_line("exit");
    terminal.exits(0);
    for step in 0..20 {
        let mut terminal = host.terminal("attach web --new");
        let moment = begun(&terminal) + whole * step / 19;
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        terminal.resize(30, 100);
        eventually("the session has the window's size", || {
            listed(host).iter().all(|row| row[5] == "100x30") && !listed(host).is_empty()
        });
        terminal.expect(PROMPT);
        terminal.type_line("exit");
        terminal.exits(0);
    }
}

fn the_list_says_what_there_is(host: &Host) {
    host.booted("web");
    host.cocker("sessions web").succeeds().prints("");
    host.cocker("sessions web --format json")
        .succeeds()
        .prints("[]\n");
    let _one = attached(host, "attach web --new --session work");
    let _two = attached(host, "attach web");
    let listing = host.cocker("-s sessions -c web").succeeds().stdout();
    let mut lines = listing.lines();
    assert_eq!(
        lines.next(),
        Some(
            "session  name             who              since               command              size      lookers"
        )
    );
    assert_eq!(lines.next(), Some("-".repeat(101).as_str()));
    let rows = listed(host);
    assert_eq!(
        (&*rows[0][0], &*rows[0][1], &*rows[0][4]),
        ("1", "work", "-bash")
    );
    assert_eq!(
        (&*rows[1][0], &*rows[1][1], &*rows[1][5]),
        ("2", "-", "200x24")
    );
    host.cocker("sessions web -q").succeeds().prints("1\n2\n");
    let json = host.cocker("-s sessions -c web --format json").succeeds();
    let json: serde_json::Value = serde_json::from_str(&json.stdout()).expect("it is JSON");
    assert_eq!(json[0]["session"], 1);
    assert_eq!(json[0]["name"], "work");
    assert_eq!(json[1]["name"], serde_json::Value::Null);
    assert_eq!(json[1]["columns"], 200);
    assert_eq!(json[1]["lookers"], 1);
    let since = json[0]["since"].as_str().expect("a moment");
    assert!(since.starts_with("20") && since.len() == 25, "{since}");
}

fn a_session_can_be_ended(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    terminal.type_line("sleep 300");
    host.until_inside_runs("sleep");
    host.cocker("sessions web --end 1").ok();
    terminal.expect("session 1 was ended");
    terminal.exits(129);
    host.until_inside_is_gone("sleep");
    host.until_inside_is_gone("bash");
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn a_shell_that_does_not_hang_up_is_killed(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    ask(&mut terminal, "trap '' HUP");
    host.cocker("-s sessions -c web --end 1").ok();
    terminal.exits(137);
    host.until_inside_is_gone("bash");
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
}

fn the_end_of_the_shell_is_the_end_for_every_looker(host: &Host) {
    host.booted("web");
    let mut one = attached(host, "attach web");
    let mut two = attached(host, "attach web --session 1");
    one.type_line("echo goodbye; exit 3");
    one.exits(3);
    two.expect("goodbye\r\n");
    two.exits(3);
}

fn with_the_container_its_sessions_end(host: &Host) {
    host.booted("web");
    attached(host, "attach web --new").close_window();
    let mut terminal = attached(host, "attach web --new");
    host.cocker("-a shutdown -c web").ok();
    terminal.expect("connection to container lost");
    terminal.exits(1);
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
    let mut terminal = attached(host, "attach web");
    host.cocker("-a kill -c web").ok();
    terminal.expect("connection to container lost");
    terminal.exits(1);
}

fn what_a_session_set_on_the_terminal_is_taken_back(host: &Host) {
    host.booted("web");
    let full_screen = r"printf '\033[?1049h\033[?25l\033[?2004h\033[?1002h\033[31mred'";
    let is_as_before = |terminal: &Terminal| {
        let screen = terminal.drawn();
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(!screen.bracketed_paste());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(screen.fgcolor(), vt100::Color::Default);
    };
    let drawn = |line: &str| {
        let mut terminal = host.terminal(line);
        terminal.until_drawn("a prompt", |screen| screen.contents().contains("[root@web"));
        terminal.type_line(full_screen);
        terminal.until_drawn("another screen", |screen| {
            screen.alternate_screen() && screen.contents().contains("red")
        });
        terminal
    };
    // Left by its key, by a signal, by its container's end.
    let mut terminal = drawn("attach web");
    terminal.type_keys("\x1d\x1d\x1d");
    terminal.exits(0);
    is_as_before(&terminal);
    // On coming back it is all there again.
    let mut terminal = host.terminal("attach web");
    terminal.until_drawn("the same screen", |screen| {
        screen.alternate_screen() && screen.hide_cursor() && screen.bracketed_paste()
    });
    terminal.signal(Signal::TERM);
    terminal.exits(143);
    is_as_before(&terminal);
    let mut terminal = drawn("attach web --new");
    host.cocker("-a kill -c web").ok();
    terminal.exits(1);
    is_as_before(&terminal);
}

fn the_last_screenful_is_shown_on_coming_back(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    // More than is kept.
    ask(&mut terminal, "seq 1 30000");
    terminal.close_window();
    until_nobody_looks(host);
    let mut terminal = host.terminal("attach web");
    terminal.until_drawn("the last lines and the prompt", |screen| {
        let contents = screen.contents();
        let lines: Vec<&str> = contents.lines().map(str::trim_end).collect();
        let end = lines.len().saturating_sub(3);
        lines[end..] == ["29999", "30000", PROMPT.trim_end()]
    });
    // A screenful, and not all that was kept.
    assert!(
        !terminal.screen().contains("29900"),
        "{}",
        terminal.screen()
    );
    assert_eq!(terminal.drawn().cursor_position().1, PROMPT.len() as u16);
}

fn an_unbooted_container_has_no_sessions(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("sessions web").fails(1, &["web", "not booted"]);
    host.cocker("sessions nobody").fails(1, &["nobody"]);
}

/// Root inside sees every process there, and each of their descriptors.
fn no_process_of_the_container_holds_a_master(host: &Host) {
    host.booted("web");
    let mut terminal = attached(host, "attach web");
    let found = ask(
        &mut terminal,
        "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c ptmx",
    );
    assert_eq!(found, "0");
    // While one that the container opens itself is found.
    let found = ask(
        &mut terminal,
        "exec 9<>/dev/ptmx; ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c ptmx",
    );
    assert_ne!(found, "0");
}

/// What root inside mounts over the name of the terminals' device is not opened by anybody on the host.
fn a_terminals_folder_that_is_covered_is_not_followed(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "mkfifo /tmp/trap; mount --bind /tmp/trap /dev/pts/ptmx",
    );
    let mut terminal = host.terminal("attach web");
    terminal.expect("cannot open a session in container `web`");
    terminal.exits(1);
    host.inside("web", "umount /dev/pts/ptmx");
    attached(host, "attach web").type_line("exit");
}
