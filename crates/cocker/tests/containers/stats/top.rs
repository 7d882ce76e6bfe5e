//! `top`, driven as by a user at a terminal.

use crate::host::{Host, Terminal, with_image_test};
use rustix::process::Pid;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        the_busiest_comes_first_and_keys_sort,
        it_fits_a_small_window_and_a_new_size,
        a_filter_leaves_only_what_is_looked_for,
        containers_come_and_go_on_the_screen,
        the_terminal_is_as_before_whichever_key_leaves,
        the_terminal_is_as_before_whichever_signal_ends_it,
        it_is_stopped_and_comes_back,
        a_closed_window_ends_it,
        without_a_whole_screen_it_says_so,
    ]
}

const LINE: &str = "top --interval 0.2";

#[track_caller]
fn top(host: &Host, rows: u16, columns: u16) -> Terminal {
    let mut terminal = host.terminal_of(LINE, "xterm");
    terminal.resize(rows, columns);
    terminal.until_drawn("the table of that size", |screen| {
        let (_, width) = screen.size();
        screen.alternate_screen()
            && row(screen, 0).contains("container")
            && row(screen, 1).starts_with("NAME")
            && row(screen, 1).chars().count() <= usize::from(width.get())
            && row(screen, rows - 1).starts_with("q quit")
    });
    terminal
}

fn row(screen: &vt100::Screen, row: u16) -> String {
    let (_, columns) = screen.size();
    screen.contents_between(row, 0, row, columns.get())
}

/// The names on the screen from above.
fn names(screen: &vt100::Screen) -> Vec<String> {
    let (rows, _) = screen.size();
    let lines = (2..rows.get() - 1).map(|line| row(screen, line));
    let names = lines.filter_map(|line| line.split_whitespace().next().map(String::from));
    names.collect()
}

fn the_busiest_comes_first_and_keys_sort(host: &Host) {
    for name in ["idle", "busy", "many"] {
        host.booted(name);
    }
    let runs = [
        ("busy", "while :; do :; done"),
        (
            "many",
            "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait",
        ),
    ];
    for (name, line) in runs {
        host.cocker_words(&["run", name, "--detach", "--", "sh", "-c", line])
            .succeeds();
    }
    let mut terminal = top(host, 24, 80);
    terminal.until_drawn("the busy one first", |screen| {
        names(screen).len() == 3 && names(screen)[0] == "busy" && row(screen, 0).ends_with("by cpu")
    });
    assert!(terminal.drawn().hide_cursor());
    let titles = row(terminal.drawn(), 1);
    for title in [
        "CPU%", "MEM", "PIDS", "READ/s", "WRITE/s", "RECV/s", "SENT/s",
    ] {
        assert!(titles.contains(title), "{titles}");
    }
    for (key, order) in [
        ("p", ["many", "busy", "idle"]),
        ("r", ["idle", "busy", "many"]),
        ("a", ["busy", "idle", "many"]),
        ("r", ["many", "idle", "busy"]),
    ] {
        terminal.type_keys(key);
        terminal.until_drawn(&format!("{order:?} after {key}"), |screen| {
            names(screen) == order
        });
    }
    terminal.type_keys("q");
    terminal.exits(0);
    assert!(!terminal.drawn().alternate_screen() && !terminal.drawn().hide_cursor());
}

fn it_fits_a_small_window_and_a_new_size(host: &Host) {
    for name in ["one", "two", "three"] {
        host.booted(name);
    }
    let mut terminal = top(host, 5, 20);
    terminal.type_keys("a");
    terminal.until_drawn("two of three lines", |screen| {
        names(screen) == ["one", "three"]
    });
    terminal.type_keys("\x1b[B");
    terminal.until_drawn("the next line", |screen| names(screen) == ["three", "two"]);
    terminal.resize(24, 80);
    terminal.until_drawn("a usual size", |screen| {
        names(screen) == ["one", "three", "two"]
            && row(screen, 1).contains("SENT/s")
            && row(screen, 23).starts_with("q quit")
    });
    terminal.resize(2, 3);
    terminal.until_drawn("hardly anything", |screen| row(screen, 0) == "NAM");
    terminal.type_keys("q");
    terminal.exits(0);
}

fn a_filter_leaves_only_what_is_looked_for(host: &Host) {
    for name in ["shop-web", "shop-db", "mail"] {
        host.booted(name);
    }
    let mut terminal = top(host, 24, 80);
    terminal.type_keys("a/shq");
    terminal.until_drawn("nothing", |screen| {
        names(screen).is_empty() && row(screen, 23).starts_with("filter: shq")
    });
    terminal.type_keys("\x7f\r");
    terminal.until_drawn("two", |screen| {
        names(screen) == ["shop-db", "shop-web"] && row(screen, 23).starts_with("q quit")
    });
    terminal.type_keys("/\x1b");
    terminal.until_drawn("all", |screen| {
        names(screen) == ["mail", "shop-db", "shop-web"]
    });
    terminal.type_keys("\x1b");
    terminal.exits(0);
}

fn containers_come_and_go_on_the_screen(host: &Host) {
    let mut terminal = top(host, 24, 80);
    terminal.until_drawn("none", |screen| row(screen, 0).starts_with("0 containers"));
    host.booted("web");
    terminal.until_drawn("one", |screen| names(screen) == ["web"]);
    host.cocker("kill web").ok();
    terminal.until_drawn("none again", |screen| names(screen).is_empty());
    terminal.type_keys("\x03");
    terminal.exits(0);
}

/// A shell's terminal with `top` on it, and the settings that it had before.
#[track_caller]
fn top_from_a_shell(host: &Host) -> (Terminal, String, String) {
    let mut terminal = Terminal::of_a_shell(host);
    terminal.expect("# ");
    let before = terminal.settings();
    terminal.type_line("stty -g; TERM=xterm cocker top --interval 0.2");
    terminal.until_drawn("the screen", |screen| {
        screen.alternate_screen() && screen.hide_cursor() && row(screen, 1).starts_with("NAME")
    });
    assert_ne!(terminal.settings(), before);
    let pid = below(terminal.pid());
    (terminal, before, pid)
}

/// The command that the shell waits for.
#[track_caller]
fn below(shell: Pid) -> String {
    let shell = shell.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
    let children = children.expect("the shell runs");
    let first = children.split_whitespace().next();
    first.expect("the shell has a child").to_string()
}

/// Asserts that the shell has its terminal back, with the settings that it had before.
#[track_caller]
fn is_as_before(terminal: &mut Terminal, before: &str, status: i32) {
    // What is typed before the shell has its terminal again is thrown away.
    terminal.expect("\x1b[?1049l");
    terminal.expect("# ");
    assert!(!terminal.drawn().alternate_screen() && !terminal.drawn().hide_cursor());
    terminal.type_line("echo status $?; stty -g");
    terminal.expect(&format!("status {status}\r\n"));
    terminal.expect("# ");
    assert_eq!(terminal.settings(), before);
    let shown = terminal.screen();
    let words = shown.split(['\r', '\n']);
    let told: Vec<&str> = words
        .filter(|line| line.matches(':').count() > 30)
        .collect();
    assert!(
        told.len() >= 2 && told.iter().all(|line| *line == told[0]),
        "stty -g: {told:?}"
    );
}

fn the_terminal_is_as_before_whichever_key_leaves(host: &Host) {
    for key in ["q", "\x1b", "\x03"] {
        let (mut terminal, before, _) = top_from_a_shell(host);
        terminal.type_keys(key);
        is_as_before(&mut terminal, &before, 0);
    }
}

fn the_terminal_is_as_before_whichever_signal_ends_it(host: &Host) {
    for (signal, number) in [("TERM", 15), ("HUP", 1), ("INT", 2), ("QUIT", 3)] {
        let (mut terminal, before, pid) = top_from_a_shell(host);
        host.shell(&format!("kill -{signal} {pid}")).succeeds();
        is_as_before(&mut terminal, &before, 128 + number);
    }
}

fn it_is_stopped_and_comes_back(host: &Host) {
    let (mut terminal, before, _) = top_from_a_shell(host);
    terminal.type_keys("\x1a");
    terminal.until_drawn("the shell's screen", |screen| !screen.alternate_screen());
    terminal.expect("Stopped");
    terminal.expect("# ");
    assert_eq!(terminal.settings(), before);
    terminal.type_line("fg");
    terminal.until_drawn("the screen again", |screen| {
        screen.alternate_screen()
            && row(screen, 1).starts_with("NAME")
            && row(screen, 0).contains("container")
    });
    terminal.type_keys("q");
    is_as_before(&mut terminal, &before, 0);
}

fn a_closed_window_ends_it(host: &Host) {
    top(host, 24, 80).close_window();
}

fn without_a_whole_screen_it_says_so(host: &Host) {
    host.cocker(LINE)
        .fails(1, &["stdin is not a terminal", "cocker stats --live"]);
    host.cocker("top --interval 0").fails(2, &["--interval 0"]);
    let mut dumb = host.terminal("-s top");
    dumb.expect("Error: cannot draw on the whole screen: TERM says");
    dumb.exits(1);
    assert!(!dumb.screen().contains('\x1b'));
    let mut shell = Terminal::of_a_shell(host);
    shell.expect("# ");
    shell.type_line("TERM=xterm cocker top | cat");
    shell.expect("Error: cannot draw on the whole screen: stdout is not a terminal");
}
