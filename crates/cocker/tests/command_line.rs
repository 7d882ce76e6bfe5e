//! What needs no container: help, version, wrong usage, and streams that are closed or go away.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

fn cocker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocker"));
    command.args(arguments).env_clear();
    command
}

fn output(arguments: &[&str]) -> Output {
    cocker(arguments).output().expect("cocker is there")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("cocker speaks UTF-8")
}

/// Refused with `code`, on stderr only, first line `error`.
#[track_caller]
fn is_refused(arguments: &[&str], code: i32, error: &str) {
    let output = output(arguments);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {output:?}"
    );
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(
        text(&output.stderr).lines().next(),
        Some(error),
        "{arguments:?}"
    );
}

#[test]
fn without_arguments_help_is_printed() {
    let page = output(&[]);
    assert!(page.status.success());
    assert!(text(&page.stdout).starts_with("cocker: "));
    assert_eq!(text(&page.stderr), "");
    for same in [&["help"][..], &["--help"]] {
        assert_eq!(output(same).stdout, page.stdout);
    }
}

#[test]
fn every_command_has_help_of_its_own() {
    for arguments in [["help", "create"], ["create", "--help"], ["create", "-h"]] {
        let page = output(&arguments);
        assert!(page.status.success(), "{page:?}");
        assert!(
            text(&page.stdout).contains("--volume <HOST[:CONTAINER][:ro][:raw][:nosuid]>"),
            "{page:?}"
        );
    }
}

#[test]
fn the_version_has_the_time_of_the_build() {
    let version = output(&["-v"]);
    let line = text(&version.stdout);
    let build = line.strip_prefix(concat!("cocker v", env!("CARGO_PKG_VERSION"), " build "));
    let shape: String = build
        .unwrap_or(&line)
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00 00:00:00\n");
    for same in ["version", "--version"] {
        assert_eq!(output(&[same]).stdout, version.stdout);
    }
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    is_refused(
        &["-a", "nonsense"],
        2,
        "Error: there is no action `nonsense`",
    );
    is_refused(&["-a", "kill"], 2, "Error: `--container` is missing");
    for boot in [&["-a", "boot"][..], &["boot"]] {
        let error = "Error: `boot` needs a container, or `--all-enabled`";
        is_refused(boot, 2, error);
    }
    is_refused(
        &["shutdown", "a", "--all"],
        2,
        "Error: a container and `--all` exclude each other",
    );
    is_refused(
        &["set-restart", "a", "--restart", "on-failure:0"],
        2,
        "Error: `--restart on-failure:0` is no restart policy",
    );
    is_refused(
        &["-a", "boot", "-c", "a", "-q"],
        2,
        "Error: `--quiet` means nothing with `-a boot`",
    );
    is_refused(
        &["-a", "boot", "-c", "a", "-c", "a"],
        2,
        "Error: `--container` is given twice",
    );
    is_refused(
        &["-s", "df", "--dry-run"],
        2,
        "Error: `--dry-run` means nothing with `-s df`",
    );
    is_refused(
        &["-a", "prune", "--format", "xml"],
        2,
        "Error: there is no format `xml`; there is json",
    );
    is_refused(
        &["nonsense"],
        2,
        "Error: unrecognized subcommand 'nonsense'",
    );
    is_refused(
        &["boot", "a", "--nonsense"],
        2,
        "Error: unexpected argument '--nonsense' found",
    );
    is_refused(
        &["kill"],
        2,
        "Error: the following required arguments were not provided: <C>",
    );
    is_refused(
        &["run", "a", "--cmd"],
        2,
        "Error: a value is required for '--cmd <LINE>' but none was supplied",
    );
}

#[test]
fn an_error_ends_with_hints_and_steers_no_terminal() {
    let odd = output(&["images", "\x07\r"]);
    let error = text(&odd.stderr);
    assert!(
        error.contains("\\u{d}") && !error.contains(['\x07', '\r']),
        "{error}"
    );
    assert!(
        error
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("Hint: usage: cocker images")),
        "{error}"
    );
    let odd = text(&output(&["-a", "\x1b[31m"]).stderr);
    assert_eq!(
        odd.lines().last(),
        Some("Hint: `cocker --help` shows all commands and options.")
    );
}

#[test]
fn a_limit_that_makes_no_sense_is_refused() {
    is_refused(
        &["-a", "boot", "-c", "a", "--mem-limit", "3M"],
        2,
        "Error: `--mem-limit 3M` is not from 4M to 1048576T",
    );
    is_refused(&["set-limits", "a"], 2, "Error: no limit is given");
}

#[test]
fn a_network_that_makes_no_sense_is_refused() {
    for (options, error) in [
        (
            &["--net", "MOON"][..],
            "Error: there is no network `MOON`; there are BRIDGE, HOST, CUSTOM",
        ),
        (
            &["--vip", "166.88.0.5"],
            "Error: `--vip` needs `--net BRIDGE`",
        ),
        (
            &["--net", "CUSTOM", "--host-eth", "eth0"],
            "Error: `--host-eth` needs `--net BRIDGE`",
        ),
        (
            &["--net", "HOST", "--port-mapping", "80:80"],
            "Error: `--port-mapping` needs `--net BRIDGE`",
        ),
        (
            &["--net", "BRIDGE", "--vip", "::ffff:166.88.0.5"],
            "Error: `--vip ::ffff:166.88.0.5` is not an IPv4 address",
        ),
        (
            &["--net", "BRIDGE", "--host-eth", "a/b"],
            "Error: `--host-eth a/b` is not the name of a link: `/` and `:` are not allowed",
        ),
        (
            &["--net", "BRIDGE", "--port-mapping", "80"],
            "Error: cannot read `--port-mapping`",
        ),
    ] {
        is_refused(&[&["create", "-m", "a"], options].concat(), 2, error);
        is_refused(&[&["-a", "create", "-m", "a"], options].concat(), 2, error);
    }
    let odd = output(&["set-port-mapping", "a", "--port-mapping", "1:1,80:80,80:81"]);
    assert_eq!(
        text(&odd.stderr),
        "Error: cannot read `--port-mapping`\n\
         Caused by:\n\
         \x20 1: `80:81`: tcp port 80 is mapped twice\n\
         Hint: say [ADDR:]HOST:CONTAINER[/udp][,…], as `--port-mapping 8080:80,127.0.0.1:5300:53/udp`.\n\
         Hint: `--port-mapping none` takes all mappings away.\n"
    );
}

#[test]
fn who_has_no_store_is_told_and_anybody_gets_help() {
    // Some file system between here and the program may be closed to other users; then there is nothing to see.
    let as_nobody = |arguments: &[&str]| cocker(arguments).uid(65_534).gid(65_534).output().ok();
    let Some(refused) = as_nobody(&["-s", "images"]) else {
        return;
    };
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.starts_with("Error: cannot "), "{error}");
    assert!(error.contains("\nHint: "), "{error}");
    let run = as_nobody(&["run", "a", "--", "b"]).unwrap();
    assert_eq!(run.status.code(), Some(125), "{run:?}");
    assert_eq!(as_nobody(&["-a", "boot"]).unwrap().status.code(), Some(2));
    assert!(as_nobody(&["--help"]).unwrap().status.success());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = cocker(&["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut error = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut error)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(error, "");
}

#[test]
fn a_full_disk_is_a_failure() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = cocker(&["-v"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error =
        "Error: cannot write to stdout\nCaused by:\n  1: No space left on device (os error 28)\n";
    assert_eq!(text(&output.stderr), error);
}

#[test]
fn closed_streams_do_no_harm() {
    let program = env!("CARGO_BIN_EXE_cocker");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let status = Command::new("sh")
            .args(["-c", &format!("exec {program} -v {closed}")])
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{closed}");
    }
}

#[test]
fn attach_wants_a_terminal_before_anything_else() {
    for arguments in [
        &["attach", "a"][..],
        &["boot", "a", "-t"],
        &["create", "-m", "a", "-b", "-t"],
    ] {
        is_refused(
            arguments,
            1,
            "Error: cannot attach: stdin is not a terminal",
        );
    }
}

#[test]
fn completion_is_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            text(&output(&["completion", shell]).stdout).contains("install-test"),
            "{shell}"
        );
    }
}
