//! The sockets of supervisor and init, to somebody who is not meant.

use super::{Attacker, KINDS, came_of, number, tries};
use crate::host::{Host, eventually, with_image_test};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        another_user_is_refused_at_the_supervisors_socket,
        noise_at_the_supervisors_socket_ends_nothing,
        noise_in_the_name_of_init_reaches_nobody_else,
    ]
}

/// Types a line in the host's shell as user 65534.
fn as_nobody(host: &Host, line: &str) -> String {
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    host.shell(&format!("{nobody} {line}")).stdout()
}

/// Row 25: by the folders' modes, and where somebody has opened them, by who it is.
fn another_user_is_refused_at_the_supervisors_socket(host: &Host) {
    host.booted("web");
    let program = Attacker::on_host(host);
    let folder = host.home().join("containers/web");
    let socket = folder.join("control");
    let ask = format!("{} ask {}", program.display(), socket.display());
    let said = as_nobody(host, &ask);
    assert_eq!(
        came_of(&said, "connect", &socket.to_string_lossy()),
        "EACCES"
    );
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the store is ours");
    };
    let opened = [
        host.home().to_path_buf(),
        host.home().join("containers"),
        folder,
        socket,
    ];
    let before: Vec<u32> = opened
        .iter()
        .map(|path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        })
        .collect();
    opened.iter().for_each(|path| mode(path, 0o777));
    // On a busy machine the answer may come when nobody waits for it any more.
    let mut said = String::new();
    eventually("it is answered", || {
        said = as_nobody(host, &ask);
        said.lines().last() != Some("answer: none")
    });
    let by_root = host.shell(&ask).stdout();
    let noise = as_nobody(
        host,
        &format!(
            "{} noise-at {} 2000",
            program.display(),
            opened[3].display()
        ),
    );
    opened
        .iter()
        .zip(before)
        .for_each(|(path, was)| mode(path, was & 0o7777));
    // It is told so, and that was all.
    let answer = said.lines().last().expect("an answer");
    assert!(
        answer.starts_with("answer: ") && answer.len() > 12,
        "{said}"
    );
    assert!(noise.contains("succeeds"), "{noise}");
    // Control: root may ask, and is listened to.
    assert_eq!(by_root.lines().last(), Some("answer: none"), "{by_root}");
    assert_eq!(host.inside("web", "echo works"), "works");
}

/// Row 25: messages that are none.
fn noise_at_the_supervisors_socket_ends_nothing(host: &Host) {
    for (option, name) in KINDS {
        host.cocker(&format!("create -m test -c {name} {option} -b"))
            .ok();
        let before = (host.supervisor(name), host.root_process(name));
        let socket = host.home().join(format!("containers/{name}/control"));
        let noise = format!("noise-at {} {}", socket.display(), tries(20_000));
        let said = Attacker::outside(host, &noise)
            .outcome()
            .succeeds()
            .stdout();
        // Some of what is drawn may ask for the container's end, and then it has ended as if it had been asked.
        assert!(number(&said, "sent") > 20, "{said}");
        // Control: whoever believed the length that a message tells would have read beyond it.
        assert!(number(&said, "beyond") > 20, "{said}");
        let mut answers = false;
        eventually("an answer or an end", || {
            let run = host.cocker(&format!("run {name} -- true"));
            answers = run.status.success();
            answers || host.status(name) == "STOPPED"
        });
        match answers {
            true => assert_eq!((host.supervisor(name), host.root_process(name)), before),
            false => drop(host.cocker(&format!("boot {name}")).ok()),
        }
        host.cocker(&format!("run {name} -- echo works"))
            .succeeds()
            .prints("works\n")
            .within(Duration::from_secs(8));
    }
    // Control: one message of the same shape that is well made has its effect on the same socket: `kill` ends a container.
    host.cocker("kill plain").ok();
    assert_eq!(host.status("plain"), "STOPPED");
}

/// Row 25: root inside takes init's own end of the socket to the supervisor, and speaks in its place. That ends the container,
/// and nothing else: its supervisor still does its last work.
fn noise_in_the_name_of_init_reaches_nobody_else(host: &Host) {
    host.booted("other");
    let others = (host.supervisor("other"), host.root_process("other"));
    for (option, name) in KINDS {
        Attacker::booted(host, name, option);
        let folder = host.home().join(format!("containers/{name}"));
        let attack = format!("noise-of-init {}", tries(20_000));
        let outcome = Attacker::inside(host, name, &attack).outcome();
        // Control: it did have the socket, unless what it said of that came no more.
        let told = outcome.stdout();
        assert!(
            told.contains("took socket") || outcome.status.code() != Some(0),
            "{outcome}"
        );
        // Done by the supervisor: no other command has looked at the container since.
        let record = || fs::read_to_string(folder.join("lock")).unwrap_or_default();
        eventually("its last work", || {
            !folder.join("control").exists() && record().starts_with("pid=0 ")
        });
        // It knows how the root process ended.
        assert!(!record().contains(" exit=- "), "{}", record());
        assert_eq!(host.status(name), "STOPPED");
        assert_eq!(
            (host.supervisor("other"), host.root_process("other")),
            others
        );
        host.cocker("run other -- echo works")
            .succeeds()
            .prints("works\n")
            .within(Duration::from_secs(8));
        host.cocker(&format!("boot {name}")).ok();
        assert_eq!(host.inside(name, "echo works"), "works");
    }
}
