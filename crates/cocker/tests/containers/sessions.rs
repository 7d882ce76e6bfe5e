//! Sessions: a terminal in a container behaves as a terminal on the host, and is never left broken. What of them outlives
//! a terminal is in `lasting.rs`, programs that draw on it in `screens.rs`.

use crate::host::{Host, Terminal, with_image_test};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        attach_connects_greets_and_takes_leave,
        leaving_the_shell_ends_the_session_and_not_the_container,
        the_shells_exit_status_is_the_sessions,
        the_session_has_a_terminal_of_the_containers_own,
        the_window_has_its_size_at_the_start_and_after_a_change,
        job_control_works,
        characters_of_many_bytes_come_back_as_typed,
        a_large_screenful_arrives_whole,
        the_terminal_is_as_before_when_the_shell_exits,
        the_terminal_is_as_before_when_the_client_is_terminated,
        the_terminal_is_as_before_when_the_container_is_killed,
        several_sessions_live_side_by_side,
        attach_wants_a_terminal,
    ]
}

#[track_caller]
fn attached(host: &Host) -> Terminal {
    host.booted("web");
    let mut terminal = host.terminal("-a attach -c web");
    terminal.expect("[root@web /root] ");
    terminal
}

/// Types a command into the session and returns what it prints, up to the next prompt.
#[track_caller]
fn ask(terminal: &mut Terminal, command: &str) -> String {
    terminal.type_line(command);
    terminal.expect(command);
    terminal.expect("\r\n");
    terminal.expect("[root@web /root] ").trim_end().to_string()
}

fn attach_connects_greets_and_takes_leave(host: &Host) {
    let mut terminal = attached(host);
    terminal.type_line("exit");
    terminal.exits(0);
    let screen = "connect to container ok\r\n--- Welcome to cocker container ---\r\n\r\n[root@web /root] exit\r\nlogout\r\n";
    assert_eq!(terminal.screen(), screen);
}

fn leaving_the_shell_ends_the_session_and_not_the_container(host: &Host) {
    let mut terminal = attached(host);
    let pid = host.root_process("web");
    // Ctrl-D on an empty line ends a shell, too.
    terminal.type_keys("\x04");
    terminal.exits(0);
    assert_eq!(host.root_process("web"), pid);
    host.until_inside_is_gone("bash");
    let mut terminal = host.terminal("attach web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("exit");
    terminal.exits(0);
}

fn the_shells_exit_status_is_the_sessions(host: &Host) {
    let mut terminal = attached(host);
    terminal.type_line("exit 3");
    let ended = terminal.end();
    assert!([Some(0), Some(3)].contains(&ended.code()), "{ended}");
}

fn the_session_has_a_terminal_of_the_containers_own(host: &Host) {
    let mut terminal = attached(host);
    let name = ask(&mut terminal, "tty");
    assert!(
        name.strip_prefix("/dev/pts/")
            .is_some_and(|number| number.parse::<u32>().is_ok()),
        "{name}"
    );
    assert_eq!(
        ask(
            &mut terminal,
            "test -t 0 && test -t 1 && test -t 2 && echo all three"
        ),
        "all three"
    );
    assert_eq!(
        ask(&mut terminal, "echo to the terminal > /dev/tty"),
        "to the terminal"
    );
    assert_eq!(ask(&mut terminal, "echo $TERM"), "dumb");
    assert_eq!(ask(&mut terminal, "pwd"), "/root");
}

fn the_window_has_its_size_at_the_start_and_after_a_change(host: &Host) {
    let mut terminal = attached(host);
    assert_eq!(ask(&mut terminal, "stty size"), "24 200");
    // The kernel tells those in front of the terminal; this one says when it is ready to be told.
    terminal.type_line(
        r#"sh -c 'trap "stty size; exit" WINCH; echo armed; while :; do sleep 0.05; done'"#,
    );
    terminal.expect("armed\r\n");
    terminal.resize(50, 132);
    terminal.expect("50 132\r\n");
    terminal.expect("[root@web /root] ");
    // The shell reads the size anew when a command has ended.
    assert_eq!(ask(&mut terminal, "stty size"), "50 132");
}

fn job_control_works(host: &Host) {
    let mut terminal = attached(host);
    assert!(
        !terminal.screen().contains("job control"),
        "{}",
        terminal.screen()
    );
    // Ctrl-C ends what runs in front, and only that.
    terminal.type_line("sleep 100");
    host.until_inside_runs("sleep");
    terminal.type_keys("\x03");
    terminal.expect("[root@web /root] ");
    host.until_inside_is_gone("sleep");
    assert_eq!(ask(&mut terminal, "echo $?"), "130");
    // Ctrl-Z stops it.
    terminal.type_line("sleep 200");
    host.until_inside_runs("sleep");
    terminal.type_keys("\x1a");
    terminal.expect("Stopped");
    terminal.expect("[root@web /root] ");
    assert!(ask(&mut terminal, "jobs").contains("sleep 200"));
    terminal.type_line("kill -KILL %1; wait; echo the end");
    terminal.expect("\r\n");
    terminal.expect("the end\r\n");
    host.until_inside_is_gone("sleep");
}

fn characters_of_many_bytes_come_back_as_typed(host: &Host) {
    let mut terminal = attached(host);
    // cat, not the shell: what a line editor shows depends on the locale.
    terminal.type_line("cat");
    terminal.expect("cat\r\n");
    host.until_inside_runs("cat");
    terminal.type_line("你好, мир, 🦀");
    terminal.expect("你好, мир, 🦀\r\n");
    terminal.expect("你好, мир, 🦀\r\n");
    terminal.type_keys("\x04");
    terminal.expect("[root@web /root] ");
    assert_eq!(ask(&mut terminal, "printf '\\344\\275\\240\\n'"), "你");
}

fn a_large_screenful_arrives_whole(host: &Host) {
    let mut terminal = attached(host);
    let meant: String = (1..=100_000)
        .map(|number| format!("{number}\r\n"))
        .collect();
    let shown = ask(&mut terminal, "seq 1 100000");
    assert_eq!(shown.len(), meant.trim_end().len());
    assert!(
        shown == meant.trim_end(),
        "the numbers are not those that seq writes"
    );
}

fn the_terminal_is_as_before_when_the_shell_exits(host: &Host) {
    let (mut terminal, before) = attached_from_a_shell(host);
    terminal.type_line("exit");
    terminal.expect("# ");
    assert_eq!(terminal.settings(), before);
}

fn the_terminal_is_as_before_when_the_client_is_terminated(host: &Host) {
    for signal in ["TERM", "HUP", "INT"] {
        let (mut terminal, before) = attached_from_a_shell(host);
        let client = client_below(terminal.pid());
        host.shell(&format!("kill -{signal} {client}")).succeeds();
        terminal.expect("# ");
        assert_eq!(terminal.settings(), before, "after {signal}");
    }
}

fn the_terminal_is_as_before_when_the_container_is_killed(host: &Host) {
    let (mut terminal, before) = attached_from_a_shell(host);
    host.cocker("-a kill -c web").ok();
    terminal.expect("# ");
    assert_eq!(terminal.settings(), before);
    assert_eq!(host.status("web"), "STOPPED");
}

/// A session under an interactive shell of the host, which shows its prompt when the session ends, and the settings
/// that the terminal had while the host's shell waited.
#[track_caller]
fn attached_from_a_shell(host: &Host) -> (Terminal, String) {
    if host.cocker("-s containers").succeeds().stdout().is_empty() {
        host.booted("web");
    }
    let mut terminal = Terminal::of_a_shell(host);
    terminal.expect("# ");
    let before = terminal.settings();
    terminal.type_line("cocker -a attach -c web");
    terminal.expect("[root@web /root] ");
    assert_ne!(
        terminal.settings(),
        before,
        "the session does not set the terminal raw"
    );
    (terminal, before)
}

/// The host shell's child.
fn client_below(shell: rustix::process::Pid) -> String {
    let shell = shell.as_raw_nonzero();
    let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"))
        .expect("the shell runs");
    children
        .split_whitespace()
        .next()
        .expect("the shell has a child")
        .to_string()
}

fn several_sessions_live_side_by_side(host: &Host) {
    let mut one = attached(host);
    let mut two = host.terminal("-a attach -c web");
    two.expect("[root@web /root] ");
    assert_ne!(ask(&mut one, "tty"), ask(&mut two, "tty"));
    two.kill();
    assert_eq!(ask(&mut one, "echo still here"), "still here");
}

fn attach_wants_a_terminal(host: &Host) {
    host.booted("web");
    let outcome = host.cocker("-a attach -c web");
    assert_ne!(outcome.status.code(), Some(0), "{outcome}");
    assert!(outcome.stderr.contains("terminal"), "{outcome}");
    assert!(outcome.stdout.is_empty(), "{outcome}");
}
