//! Containers that are booted with the host, and their order.

use crate::host::{Host, with_image_test};
use serde_json::Value;
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        all_that_are_enabled_are_booted_in_their_order_and_shut_down_in_reverse,
        whoever_is_booted_already_is_left_alone,
        whoever_cannot_be_booted_keeps_nobody_from_it,
        a_circle_is_refused,
        an_order_is_between_names,
        what_is_enabled_is_shown,
    ]
}

/// A container that notes in the shared folder when it begins and when it ends.
#[track_caller]
fn noting(host: &Host, name: &str, shared: &Path) {
    let shared = shared.display();
    host.cocker(&format!(
        "create -m test -c {name} --volume {shared}:/shared:raw"
    ))
    .ok();
    let line = format!(
        "/bin/sh -c 'trap \"echo {name} ends >> /shared/notes; exit\" TERM; echo {name} begins >> /shared/notes; while :; do sleep 0.05; done'"
    );
    host.cocker_words(&["boot", name, "-e", &line]).ok();
    host.cocker(&format!("kill {name}")).ok();
}

fn shared(host: &Host) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let shared = host.folder("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).expect("it is ours");
    fs::write(shared.join("notes"), "").expect("it is ours");
    fs::set_permissions(shared.join("notes"), fs::Permissions::from_mode(0o666))
        .expect("it is ours");
    shared
}

fn notes(shared: &Path) -> Vec<String> {
    let notes = fs::read_to_string(shared.join("notes")).expect("it is ours");
    notes.lines().map(String::from).collect()
}

fn forget_notes(shared: &Path) {
    fs::File::options()
        .write(true)
        .truncate(true)
        .open(shared.join("notes"))
        .expect("it is ours");
}

fn place(notes: &[String], line: &str) -> usize {
    let place = notes.iter().position(|it| it == line);
    place.unwrap_or_else(|| panic!("no `{line}` in {notes:?}"))
}

fn all_that_are_enabled_are_booted_in_their_order_and_shut_down_in_reverse(host: &Host) {
    let shared = shared(host);
    for name in ["cache", "db", "other", "web"] {
        noting(host, name, &shared);
    }
    host.cocker("enable cache --after db").ok();
    host.cocker("-a enable -c web --after cache,db").ok();
    host.cocker("enable db").ok();
    forget_notes(&shared);
    host.cocker("-a boot --all-enabled").ok();
    for name in ["cache", "db", "web"] {
        host.root_process(name);
        crate::host::eventually("all have begun", || {
            notes(&shared).contains(&format!("{name} begins"))
        });
    }
    assert_eq!(host.status("other"), "STOPPED");
    // A rank is booted, and has begun, before the next one is.
    let started = |name: &str| {
        let lock = host.home().join("containers").join(name).join("lock");
        fs::metadata(lock)
            .and_then(|it| it.modified())
            .expect("it is there")
    };
    assert!(started("db") <= started("cache") && started("cache") <= started("web"));
    host.cocker("boot other").ok();
    crate::host::eventually("other has begun", || {
        notes(&shared).contains(&"other begins".into())
    });
    host.cocker("shutdown --all").ok();
    for name in ["cache", "db", "other", "web"] {
        assert_eq!(host.status(name), "STOPPED", "{name}");
    }
    let notes = notes(&shared);
    let [web, cache, db] = ["web ends", "cache ends", "db ends"].map(|line| place(&notes, line));
    assert!(web < cache && cache < db, "{notes:?}");
    place(&notes, "other ends");
    // Nobody is left, and nothing is an error.
    host.cocker("shutdown --all").ok();
    host.cocker("disable db").ok();
    host.cocker("boot --all-enabled").ok();
    assert_eq!(host.status("db"), "STOPPED");
    host.root_process("web");
    host.cocker("kill web").ok();
}

fn whoever_is_booted_already_is_left_alone(host: &Host) {
    host.booted("web");
    host.cocker("enable web").ok();
    let pid = host.root_process("web");
    host.cocker("boot --all-enabled").ok();
    assert_eq!(host.root_process("web"), pid);
}

fn whoever_cannot_be_booted_keeps_nobody_from_it(host: &Host) {
    let data = host.folder("data");
    let data = data.display();
    host.cocker(&format!("create -m test -c bad --volume {data}:/data"))
        .ok();
    for name in ["behind", "other"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    for line in ["enable bad", "enable behind --after bad", "enable other"] {
        host.cocker(line).ok();
    }
    fs::remove_dir(host.folder("data")).expect("it is ours");
    let outcome = host.cocker("boot --all-enabled").exits(1);
    let said = outcome.stderr.clone();
    assert!(said.contains("cannot boot container `bad`"), "{said}");
    assert!(said.ends_with("1 problem\n"), "{said}");
    for name in ["behind", "other"] {
        host.root_process(name);
    }
}

fn a_circle_is_refused(host: &Host) {
    for name in ["a", "b", "c"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    host.cocker("enable a --after a")
        .fails(1, &["`a` after `a`"]);
    host.cocker("enable a --after b").ok();
    host.cocker("enable b --after c").ok();
    host.cocker("enable c --after a")
        .fails(1, &["`c` after `a` after `b` after `c`"]);
    host.cocker("-f enable c --after a").fails(1, &["itself"]);
    // What was refused has changed nothing; and who is not enabled is in no circle.
    host.cocker("disable b").ok();
    host.cocker("enable c --after a").ok();
    host.cocker("enable b --after c").fails(1, &["itself"]);
}

fn an_order_is_between_names(host: &Host) {
    for name in ["db", "web"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    host.cocker("enable web --after dbx").fails(1, &["dbx"]);
    host.cocker("enable web --after db").ok();
    host.cocker("enable db").ok();
    host.cocker("destroy db").ok();
    // The one that is gone is told; the other is booted.
    host.cocker("boot --all-enabled")
        .fails(1, &["`web`", "`db`", "not there"]);
    host.root_process("web");
    host.cocker("shutdown web").ok();
    // The next of that name is not enabled, and is what it comes after where it is.
    host.cocker("create -m test -c db").ok();
    host.cocker("boot --all-enabled").ok();
    assert_eq!(host.status("db"), "STOPPED");
    host.cocker("shutdown --all").ok();
    host.cocker("enable web --after still-to-come -f").ok();
    host.cocker("enable nobody").fails(1, &["nobody"]);
}

fn what_is_enabled_is_shown(host: &Host) {
    for name in ["db", "web"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    host.cocker("enable web --after db").ok();
    let listing = host.cocker("containers --format json").succeeds().stdout();
    let listing: Value = serde_json::from_str(&listing).expect("a listing is JSON");
    assert_eq!(listing[0]["enabled"], false);
    assert_eq!(listing[0]["after"], serde_json::json!([]));
    assert_eq!(listing[1]["enabled"], true);
    assert_eq!(listing[1]["after"], serde_json::json!(["db"]));
}
