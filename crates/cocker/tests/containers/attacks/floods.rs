//! As much as can be had of memory, files, terminals and the console: the host answers all the same.

use super::{Attacker, number};
use crate::host::{Host, with_image_test};
use crate::hostile::answered;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_filler_of_shared_memory_stays_within_the_containers_memory,
        a_filler_of_files_is_in_nobodys_way,
        who_takes_all_terminals_leaves_others_theirs,
        a_flooded_console_is_in_nobodys_way,
    ]
}

/// What the user types meanwhile: each answered at once.
#[track_caller]
fn the_host_answers(host: &Host, flooded: &str) {
    for line in ["containers", "stats", "images", "run other -- true"] {
        answered(host, line);
    }
    answered(host, &format!("logs {flooded} --tail 1"));
}

/// Row 26: /dev/shm, by one large file and by many small ones.
fn a_filler_of_shared_memory_stays_within_the_containers_memory(host: &Host) {
    host.booted("other");
    Attacker::created(host, "small", "");
    Attacker::created(host, "free", "");
    host.cocker("boot free").ok();
    for fill in ["fill /dev/shm bytes 2000", "fill /dev/shm files 200000"] {
        // Anew each time: what has filled up may take the container with it.
        host.cocker("boot small --mem-limit 64M").ok();
        let attack = Attacker::inside(host, "small", fill);
        the_host_answers(host, "small");
        let outcome = attack.outcome();
        // It is killed for want of memory, or told that there is none.
        let said = outcome.stdout();
        let is_killed = outcome.status.code() == Some(137);
        assert!(is_killed || said.starts_with("filled "), "{outcome}");
        assert!(!said.trim().ends_with("as said"), "{outcome}");
        host.cocker("run small -- sh -c 'rm -rf /dev/shm/*'")
            .within(Duration::from_secs(15));
        host.cocker("kill small -f").ok();
    }
    assert_eq!(host.inside("other", "echo works"), "works");
    // Control: without a limit as much as that can be had.
    let said = Attacker::inside(host, "free", "fill /dev/shm bytes 2000").outcome();
    assert!(said.succeeds().stdout().contains("as said"));
}

/// Row 26: files without number in the writable layer.
fn a_filler_of_files_is_in_nobodys_way(host: &Host) {
    host.booted("other");
    Attacker::booted(host, "many", "");
    let attack = Attacker::inside(
        host,
        "many",
        &format!("fill /srv files {}", super::tries(50_000)),
    );
    for _ in 0..5 {
        the_host_answers(host, "many");
    }
    let said = attack.outcome().succeeds().stdout();
    // Control: so many there are, and a listing still walks through none of them.
    assert_eq!(number(&said, "filled"), super::tries(50_000));
    the_host_answers(host, "many");
    host.cocker("kill many").ok().within(Duration::from_secs(8));
}

/// Row 26: /dev/ptmx, until the kernel gives no more.
fn who_takes_all_terminals_leaves_others_theirs(host: &Host) {
    host.booted("other");
    Attacker::booted(host, "greedy", "");
    let mut attack = Attacker::inside(host, "greedy", "hold terminals");
    attack.until_prints("held");
    the_host_answers(host, "greedy");
    for name in ["other", "greedy"] {
        let mut terminal = host.terminal(&format!("attach {name}"));
        if name == "other" {
            terminal.expect("] ");
            terminal.type_line("exit");
            terminal.exits(0);
        } else {
            // It has used up its own; that is told, and nobody waits.
            terminal.exits(1);
        }
    }
    let said = attack.outcome().succeeds().stdout();
    // Control: it took what there was, and nobody inside had any more.
    let held = number(&said, "held");
    assert!((500..=1024).contains(&held), "{said}");
}

/// Row 26: a console that never stops, and sessions that nobody looks at.
fn a_flooded_console_is_in_nobodys_way(host: &Host) {
    host.booted("other");
    host.booted("loud");
    let _floods = [
        host.start("run loud -- sh -c 'yes > /dev/console'"),
        host.start("run loud -- sh -c 'cat /dev/zero > /dev/console'"),
    ];
    host.until_inside_runs("yes");
    for _ in 0..5 {
        the_host_answers(host, "loud");
        answered(host, "run loud -- true");
    }
    // Control: it is a flood, and what is kept of it is bounded.
    let log = host.home().join("containers/loud/console.log");
    crate::host::eventually("a megabyte", || {
        let old = log.with_extension("log.1");
        let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |found| found.len());
        assert!(size(&log) <= 9 << 20 && size(&old) <= 9 << 20);
        size(&log) + size(&old) > 1 << 20
    });
    host.cocker("kill loud").ok().within(Duration::from_secs(8));
}
