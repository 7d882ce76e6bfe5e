//! What cannot be done is refused: the error names its object, the exit status says whose fault it is, and nothing
//! has changed.

use crate::host::{Host, Outcome, on_an_empty_store, with_image_test};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = with_image_test![
        what_does_not_exist_is_named,
        a_name_in_use_is_refused,
        a_booted_container_is_not_booted_twice,
        a_stopped_container_cannot_be_entered,
        a_booted_container_is_not_changed,
        only_a_container_of_bridge_has_an_address_an_uplink_and_ports,
        names_that_are_no_names_are_refused,
        wrong_usage_exits_2,
        two_commands_at_once_do_not_both_make_the_same_container,
        two_boots_at_once_make_one_booted_container,
        nobody_else_may_use_roots_store,
        a_store_that_others_may_write_is_refused,
        a_store_of_another_user_is_refused,
    ];
    trials.extend(on_an_empty_store![a_file_system_without_overlays_is_named]);
    trials
}

/// Both listings, which nothing that is refused may change.
#[track_caller]
fn listings(host: &Host) -> (String, String) {
    (
        host.cocker("-s images").succeeds().stdout(),
        host.cocker("-s containers").succeeds().stdout(),
    )
}

/// Types a line that must be refused.
#[track_caller]
fn refused(host: &Host, line: &str) -> Outcome {
    let before = listings(host);
    let outcome = host.cocker(line);
    assert_ne!(outcome.status.code(), Some(0), "{outcome}");
    assert_eq!(listings(host), before, "{outcome}");
    outcome
}

fn what_does_not_exist_is_named(host: &Host) {
    for (line, status, named) in [
        ("-a create -m nothing -c web", 1, "nothing"),
        ("-a create -m test,nothing -c web", 1, "nothing"),
        ("-a create -m test:9.9 -c web", 1, "9.9"),
        ("-a boot -c nobody", 1, "nobody"),
        ("-a run -c nobody --cmd true", 125, "nobody"),
        ("-a shutdown -c nobody", 1, "nobody"),
        ("-a kill -c nobody", 1, "nobody"),
        ("-a destroy -c nobody", 1, "nobody"),
        ("-a destroy -h -c nobody", 1, "nobody"),
        ("-a vip -c nobody --vip 166.88.0.5", 1, "nobody"),
        ("-a port_mapping -c nobody --port-mapping 1:1", 1, "nobody"),
        ("-a host_eth -c nobody", 1, "nobody"),
        ("-a volume -c nobody --volume /usr", 1, "nobody"),
        ("-s container_root -c nobody", 1, "nobody"),
        ("boot nobody", 1, "nobody"),
        ("destroy nobody", 1, "nobody"),
    ] {
        refused(host, line).fails(status, &[named]);
    }
}

fn a_name_in_use_is_refused(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    refused(host, "-a create -m test -c web").fails(1, &["web"]);
    refused(host, "create -m test -c web").fails(1, &["web", "in use"]);
}

fn a_booted_container_is_not_booted_twice(host: &Host) {
    host.booted("web");
    refused(host, "-a boot -c web").fails(1, &["web"]);
    refused(host, "boot web -e /bin/sleep").fails(1, &["web"]);
    assert_eq!(host.inside("web", "cat /proc/1/comm"), "cockerinit");
}

fn a_stopped_container_cannot_be_entered(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    for name in ["web", "nobody"] {
        let mut terminal = host.terminal(&format!("-a attach -c {name}"));
        terminal.exits(1);
        assert!(
            terminal.screen().starts_with("Error: "),
            "{}",
            terminal.screen()
        );
        assert!(terminal.screen().contains(name), "{}", terminal.screen());
    }
    refused(host, "-s container_root -c web").fails(1, &["web"]);
}

/// What can be set of a stopped container `web`.
const SETTINGS: [&str; 5] = [
    "-a vip -c web --vip 166.88.0.5",
    "-a port_mapping -c web --port-mapping 8080:80",
    "-a port_mapping -c web --port-mapping none",
    "-a host_eth -c web --host-eth eth0",
    "-a volume -c web --volume /usr:/data",
];

fn a_booted_container_is_not_changed(host: &Host) {
    host.booted("web");
    for line in SETTINGS {
        refused(host, line).fails(1, &["web", "booted", "cocker shutdown web"]);
    }
}

fn only_a_container_of_bridge_has_an_address_an_uplink_and_ports(host: &Host) {
    host.cocker("-a create -m test -c web --net HOST").ok();
    for line in SETTINGS {
        if line.contains("--volume") {
            host.cocker(line).ok();
        } else {
            refused(host, line).fails(1, &["web", "HOST", "Hint: ", "--net BRIDGE"]);
        }
    }
}

fn names_that_are_no_names_are_refused(host: &Host) {
    let long = "x".repeat(65);
    let names = [
        "../x",
        "",
        &long,
        "a\nb",
        "-web",
        ".web",
        "_web",
        "a b",
        "a/b",
        "..",
        "ü",
        "a\u{1b}[31m",
        "web\t",
    ];
    for name in names {
        let before = listings(host);
        for words in [
            vec!["-a", "create", "-m", "test", "-c", name],
            vec!["-a", "create", "-m", name, "-c", "web"],
            vec!["-a", "boot", "-c", name],
            vec!["-a", "destroy", "-h", "-c", name],
            vec!["-a", "shutdown", "-c", name],
            vec!["-s", "container_root", "-c", name],
            vec!["-a", "install_test", "--version", name],
        ] {
            let outcome = host.cocker_words(&words);
            assert!(
                [Some(1), Some(2)].contains(&outcome.status.code()),
                "{outcome}"
            );
            assert!(outcome.stdout.is_empty(), "{outcome}");
            // An error shows the name without doing what a terminal would do on reading it.
            assert!(!outcome.stderr.contains('\u{1b}'), "{outcome}");
        }
        assert_eq!(listings(host), before, "{name:?}");
    }
    let longest = "x".repeat(64);
    host.cocker(&format!("-a create -m test -c {longest}")).ok();
    host.cocker("-a create -m test -c calvin=rhel-7.4_x").ok();
    for hostname in ["a\nb", "", "a b", &"x".repeat(65), "../x"] {
        let outcome = host.cocker_words(&[
            "-a", "create", "-m", "test", "-c", "web", "--host", hostname,
        ]);
        assert!(
            [Some(1), Some(2)].contains(&outcome.status.code()),
            "{hostname:?}: {outcome}"
        );
    }
}

fn wrong_usage_exits_2(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    for line in [
        "--no-such-option",
        "-a no_such_action",
        "-s no_such_listing",
        "-a",
        "-s",
        "no-such-command",
        "-a create",
        "-a create -c other",
        "-a boot",
        "-a attach",
        "-a destroy",
        "-a shutdown",
        "-a kill",
        "-s container_root",
        "boot",
        "destroy",
        "-a boot -c",
        "-a boot -c web --no-such-option",
        "-a create -m test -c other --net MOON",
        "-a create -m test -c other --net bridge",
        "-a create -m test -c other --vip 166.88.0.5",
        "-a create -m test -c other --net BRIDGE --vip fd42::5",
        "-a create -m test -c other --net BRIDGE --port-mapping 70000:80",
        "-a create -m test -c other --net BRIDGE --host-eth a/b",
        "-a vip -c web",
        "-a port_mapping -c web",
        "-a volume -c web",
        "set-vip web --vip 166.88.0.05",
        "set-port-mapping web --port-mapping 80:80,80:81",
        "set-host-eth web --host-eth longer-than-fifteen",
        "-a shutdown -c web --timeout soon",
    ] {
        let outcome = refused(host, line).exits(2).prints("");
        assert!(!outcome.stderr.is_empty(), "{outcome}");
    }
    // Where `run` passes statuses on, its own failures must not look like the command's.
    for line in ["-a run -c web", "run", "run web"] {
        let outcome = refused(host, line);
        assert!(
            [Some(2), Some(125)].contains(&outcome.status.code()),
            "{outcome}"
        );
    }
}

fn two_commands_at_once_do_not_both_make_the_same_container(host: &Host) {
    let started: Vec<_> = (0..8)
        .map(|_| host.start("-a create -m test -c web"))
        .collect();
    let outcomes: Vec<_> = started
        .into_iter()
        .map(|started| started.outcome())
        .collect();
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| outcome.status.success())
            .count(),
        1
    );
    for outcome in outcomes
        .into_iter()
        .filter(|outcome| !outcome.status.success())
    {
        outcome.fails(1, &["web"]);
    }
    assert_eq!(host.status("web"), "STOPPED");
    // Many different ones do not hinder each other.
    let started: Vec<_> = (0..20)
        .map(|n| host.start(&format!("-a create -m test -c many-{n}")))
        .collect();
    for started in started {
        started.outcome().ok();
    }
}

fn two_boots_at_once_make_one_booted_container(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    let started: Vec<_> = (0..8).map(|_| host.start("-a boot -c web")).collect();
    let outcomes: Vec<_> = started
        .into_iter()
        .map(|started| started.outcome())
        .collect();
    assert_eq!(
        outcomes
            .iter()
            .filter(|outcome| outcome.status.success())
            .count(),
        1
    );
    for outcome in outcomes
        .into_iter()
        .filter(|outcome| !outcome.status.success())
    {
        outcome.fails(1, &["web"]);
    }
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn nobody_else_may_use_roots_store(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    for line in [
        "-s images",
        "-s containers",
        "-a create -m test -c other",
        "-a boot -c web",
        "-a destroy -c web",
    ] {
        let before = listings(host);
        let outcome = host.shell(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups cocker {line}"
        ));
        let outcome = outcome.fails(1, &["Permission denied"]);
        assert!(outcome.stderr.contains("sudo"), "{outcome}");
        assert_eq!(listings(host), before);
    }
    host.shell("setpriv --reuid 65534 --regid 65534 --clear-groups cocker --help")
        .succeeds();
    host.shell("setpriv --reuid 65534 --regid 65534 --clear-groups cocker -v")
        .succeeds();
}

fn a_store_that_others_may_write_is_refused(host: &Host) {
    let home = host.home().to_string_lossy().into_owned();
    for mode in [0o777, 0o770, 0o702] {
        fs::set_permissions(host.home(), fs::Permissions::from_mode(mode))
            .expect("the home is ours");
        for line in [
            "-a create -m test -c web",
            "-s containers",
            "-a install_test --version 2",
        ] {
            host.cocker(line).fails(1, &[&home]);
        }
    }
    fs::set_permissions(host.home(), fs::Permissions::from_mode(0o700)).expect("the home is ours");
    host.cocker("-s containers").succeeds().prints("");
}

fn a_store_of_another_user_is_refused(host: &Host) {
    let home = host.home().to_string_lossy().into_owned();
    chown(host.home(), Some(65_534), None).expect("we are root");
    host.cocker("-a create -m test -c web").fails(1, &[&home]);
    chown(host.home(), Some(0), None).expect("we are root");
    host.cocker("-s containers").succeeds().prints("");
}

fn a_file_system_without_overlays_is_named(host: &Host) {
    let home = host.folder("ramfs");
    host.shell(&format!(
        "mount -t ramfs -o mode=700 none {}",
        home.display()
    ))
    .succeeds();
    let line = "cocker -a install_test && cocker -a create -m test -c web && cocker -a boot -c web";
    let outcome = host.shell(&format!("export COCKER_HOME={}; {line}", home.display()));
    let listing = host.shell(&format!(
        "COCKER_HOME={} cocker -s containers",
        home.display()
    ));
    host.shell(&format!("umount {}", home.display())).succeeds();

    let outcome = outcome.exits(1);
    assert!(outcome.stderr.contains("ramfs"), "{outcome}");
    assert!(outcome.stderr.contains("Hint: "), "{outcome}");
    assert!(!listing.stdout().contains("RUNNING"), "{listing}");
}
