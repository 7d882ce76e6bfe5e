//! Terminals of the host, to somebody inside who would type on them.

use super::{Attacker, KINDS, came_of};
use crate::host::{Host, Terminal, with_image_test};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![what_is_pushed_into_a_terminal_stays_inside]
}

/// The device numbers of what a process has open that is a terminal (devices.txt: 136 to 143 are pseudo-terminals).
fn terminals_of(pid: i32) -> Vec<(u64, u64)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let found = entries
        .flatten()
        .filter_map(|entry| fs::metadata(entry.path()).ok());
    found
        .filter(|found| found.file_type().is_char_device())
        .filter(|found| (136..=143).contains(&rustix::fs::major(found.rdev())))
        .map(|found| (found.dev(), found.rdev()))
        .collect()
}

/// Row 16: TIOCSTI and TIOCLINUX, by a command and in a session. The user's shell must not read what was pushed.
fn what_is_pushed_into_a_terminal_stays_inside(host: &Host) {
    for (option, name) in KINDS {
        Attacker::booted(host, name, option);
        for line in [
            format!("cocker run {name} -- sh -c '/attacker push; read x'"),
            format!("cocker run {name} --tty -- sh -c '/attacker push; read x'"),
            format!("cocker boot {name} -e '/bin/sleep 100' -t"),
        ] {
            let mut user = Terminal::of_a_shell(host);
            user.expect("# ");
            if line.contains(" boot ") {
                // In the session of a boot, by the shell inside.
                host.cocker(&format!("kill {name}")).ok();
                user.type_line(&line);
                user.expect("] ");
                user.type_line("/attacker push; read x; exit");
            } else {
                user.type_line(&line);
            }
            user.expect("TIOCSTI 2");
            // No process inside has a terminal of the devpts that the user's shell has.
            let shell = terminals_of(user.pid().as_raw_nonzero().get());
            assert!(!shell.is_empty());
            for process in host.contained() {
                let inside = terminals_of(process.pid);
                assert!(inside.iter().all(|one| !shell.contains(one)), "{inside:?}");
            }
            user.type_line("");
            user.expect("# ");
            user.type_line("echo the end: $((1+1))");
            user.expect("the end: 2");
            user.type_line("exit");
            user.end();
            // What is typed inside stays there: it is echoed in the session, but no shell of the host's has run it.
            let screen = user.screen();
            let ran = screen.lines().any(|line| line.trim() == "pushed-42");
            let in_session = line.contains(" boot ");
            assert!(!ran || in_session, "{line}:\n{screen}");
        }
    }
    // Control: without a container between, the same program types into its user's shell. (dev.tty.legacy_tiocsti)
    let mut user = Terminal::of_a_shell(host);
    user.expect("# ");
    user.type_line(&format!("{} push", Attacker::on_host(host).display()));
    user.expect("TIOCSTI");
    user.expect("pushed-42\r\n");
    user.type_line("exit");
    user.end();
    let said = user.screen();
    assert_eq!(came_of(&said.replace('\r', ""), "TIOCSTI", "0"), "succeeds");
}
