//! What `make install` lays down to boot containers with the host: systemd's unit is tried in the box (`host_systemd`), OpenRC's
//! script here, by the functions that openrc-run(8) calls, in a shell with the words of its framework.

use crate::host::{Host, with_image_test};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        the_openrc_script_boots_and_shuts_down,
        install_puts_both_in_their_places_and_uninstall_takes_them_away,
    ]
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What openrc-run(8) gives a script, as far as ours uses it.
const FRAMEWORK: &str = r#"
ebegin() { echo "begin: $*"; }
eend() { echo "end: $1"; return "$1"; }
need() { echo "need: $*"; }
after() { echo "after: $*"; }
"#;

/// Reads the script as openrc-run does, then calls one of its functions.
fn service(host: &Host, function: &str) -> String {
    let script = source().join("packaging/cocker.initd");
    let line = format!(
        "{FRAMEWORK}\ncocker_program={}\n. {}\n{function}\n",
        host.program().display(),
        script.display()
    );
    let outcome = host.shell(&line);
    let said = outcome.stdout();
    assert!(said.contains("end: 0") || function == "depend", "{outcome}");
    said
}

fn the_openrc_script_boots_and_shuts_down(host: &Host) {
    for name in ["web", "other"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    host.cocker("enable web").ok();
    assert!(service(host, "depend").contains("need: localmount"));
    assert!(service(host, "start").starts_with("begin: Booting"));
    let pid = host.root_process("web");
    assert_eq!(host.status("other"), "STOPPED");
    // Once more changes nothing; and what cannot be booted leaves the service started.
    service(host, "start");
    host.cocker("enable other --after gone -f").ok();
    service(host, "start");
    assert_eq!(host.root_process("web"), pid);
    host.root_process("other");
    service(host, "stop");
    for name in ["web", "other"] {
        assert_eq!(host.status(name), "STOPPED");
    }
    // Where the real thing is installed, it finds the script sound.
    let text = fs::read_to_string(source().join("packaging/cocker.initd")).expect("it is there");
    assert!(text.starts_with("#!/sbin/openrc-run\n"));
}

fn install_puts_both_in_their_places_and_uninstall_takes_them_away(host: &Host) {
    let root = host.folder("root");
    let make = |target: &str| {
        let made = Command::new("make")
            .arg("-s")
            .arg("-C")
            .arg(source())
            .arg(target)
            .arg(format!("DESTDIR={}", root.display()))
            .arg("PREFIX=/usr")
            .output()
            .expect("make is there");
        assert!(made.status.success(), "{made:?}");
    };
    make("install-services");
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/cocker.service"));
    let unit = unit.expect("it is laid down");
    assert!(
        unit.contains("ExecStart=/usr/bin/cocker boot --all-enabled"),
        "{unit}"
    );
    assert!(!unit.contains('@'), "{unit}");
    let script = fs::read_to_string(root.join("etc/init.d/cocker")).expect("it is laid down");
    assert!(
        script.contains("/usr/bin/cocker") && !script.contains("@PREFIX@"),
        "{script}"
    );
    make("uninstall");
    assert!(!root.join("usr/lib/systemd/system/cocker.service").exists());
    assert!(!root.join("etc/init.d/cocker").exists());
}
