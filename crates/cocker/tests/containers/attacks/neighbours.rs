//! Processes of others, what programs of one machine share, and what one user may have of it.

use super::{Attacker, Done, came_of, number};
use crate::host::{Host, PATIENCE, Started, eventually, here, processes, with_image_test};
use cocker_sys::landlock::has_scopes;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        processes_of_others_are_out_of_reach,
        who_assembles_a_container_is_out_of_reach,
        what_programs_of_the_host_share_is_not_seen,
        one_container_does_not_use_up_what_another_may,
    ]
}

/// What `reach` tries on each process.
const TRIED: [&str; 11] = [
    "kill",
    "ptrace",
    "process_vm_readv",
    "mem",
    "environ",
    "root",
    "pidfd_getfd",
    "pidfd_send_signal",
    "setns",
    "prlimit",
    "setpriority",
];

/// Row 17: by number from inside, and by somebody who sees every process of the host and is root of the container.
fn processes_of_others_are_out_of_reach(host: &Host) {
    for name in ["one", "two"] {
        Attacker::booted(host, name, "");
    }
    let others = [
        process::id() as i32,
        host.supervisor("one"),
        host.supervisor("two"),
        host.root_process("two"),
        1,
    ]
    .map(|pid| pid.to_string());
    let inside = Attacker::inside(host, "one", &format!("reach {}", others[..4].join(" ")));
    let said = inside.outcome().succeeds().stdout();
    for pid in &others[..4] {
        for what in TRIED {
            let came = came_of(&said, what, pid);
            assert!(
                ["ESRCH", "ENOENT", "EBADF"].contains(&came),
                "{what} {pid}: {came}"
            );
        }
    }
    let own = host.start("run one -- sleep 77");
    let sleep = host.until_inside_runs("sleep").to_string();
    let program = Attacker::on_host(host);
    let enter = format!("nsenter -t {} -U -S 0 -G 0 --", host.root_process("one"));
    let seen = host.shell(&format!(
        "{enter} {} reach {} {sleep}",
        program.display(),
        others.join(" ")
    ));
    let said = seen.succeeds().stdout();
    for pid in &others {
        for what in TRIED {
            let came = came_of(&said, what, pid);
            assert!(["EPERM", "EACCES"].contains(&came), "{what} {pid}: {came}");
        }
    }
    // Control: what is its own, it reaches in every one of these ways.
    for what in TRIED {
        // Where a process is entered, its file system is not that of one who stands outside of it.
        let came = came_of(&said, what, &sleep);
        assert!(came == "succeeds" || what == "setns", "{what}: {came}");
    }
    let inside = host.inside("one", "sleep 78 & /attacker reach $!; kill -9 $!");
    let entered = inside.lines().find(|line| line.starts_with("setns "));
    assert!(
        entered.is_some_and(|line| line.ends_with(": succeeds")),
        "{inside}"
    );
    drop(own);
}

/// Row 17: a boot's own processes, as long as they run the host's program in the container's namespaces.
fn who_assembles_a_container_is_out_of_reach(host: &Host) {
    host.cocker("create -m test -c web").ok();
    let program = host.program();
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    let ours = namespace("self");
    // The kernel gives what lies below /proc/PID of somebody who may not be dumped, and so not be traced, to root.
    let owner = |pid: i32| fs::metadata(format!("/proc/{pid}/stat")).map(|found| found.uid());
    let is_done = AtomicBool::new(false);
    let looks = AtomicU32::new(0);
    let found = thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut found = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                for process in processes() {
                    let is_program = || {
                        fs::read_link(format!("/proc/{}/exe", process.pid))
                            .is_ok_and(|exe| exe == program)
                    };
                    if !is_program() {
                        continue;
                    }
                    let of = namespace(&process.pid.to_string());
                    let owner = owner(process.pid);
                    // Asked again: meanwhile it may have executed cockerinit, which is the container's own.
                    if of.is_some() && of != ours && is_program() {
                        looks.fetch_add(u32::from(owner.is_ok()), Ordering::Relaxed);
                        found.extend(owner.ok());
                    }
                }
            }
            found
        });
        let done = Done(&is_done);
        let begun = Instant::now();
        let mut rounds = 0;
        // On a busy machine a boot may be over between two looks.
        let is_short = || looks.load(Ordering::Relaxed) <= 5 && begun.elapsed() < here(PATIENCE);
        while rounds < super::tries(25) || is_short() {
            host.cocker("boot web").ok();
            host.cocker("kill web").ok();
            rounds += 1;
        }
        drop(done);
        watching.join().expect("it does not panic")
    });
    assert!(found.len() > 5, "only {} looks", found.len());
    assert!(found.iter().all(|&owner| owner == 0), "{found:?}");
    // Control: a process of another user that may be traced is that user's.
    let mut plain = host.command("setpriv");
    plain.args(["--reuid", "65534", "--clear-groups", "sleep", "77"]);
    let plain = host.started(plain, "a plain process".into());
    let pid = plain.pid().as_raw_nonzero().get();
    eventually("a plain process", || {
        owner(pid).is_ok_and(|uid| uid == 65_534)
    });
}

/// The names of abstract sockets in this network namespace (unix(7)) that processes of this test have open.
fn abstract_names(host: &Host) -> Vec<String> {
    let sockets = fs::read_to_string("/proc/self/net/unix").expect("/proc is mounted");
    let names = sockets.lines().filter_map(|line| {
        let (head, name) = line.split_once(" @")?;
        let inode = head.split_whitespace().nth(6)?;
        Some((PathBuf::from(format!("socket:[{inode}]")), name))
    });
    let names: BTreeMap<PathBuf, &str> = names.collect();
    let all = processes().into_iter();
    let outside = all.filter(|process| process.works_on(host.home()));
    let ours = outside.chain(host.contained());
    let links = ours.flat_map(|process| process.links());
    links
        .filter_map(|link| Some(names.get(&link)?.to_string()))
        .collect()
}

/// What `talk` makes beside an abstract socket.
const SHARED: [&str; 4] = ["shared memory", "messages", "semaphores", "queue"];

/// Somebody who has made one of each, and holds them. A container of another store may have the same ids, and for a moment all that
/// the kernel gives to their user.
#[track_caller]
fn one_of_each(begin: impl Fn() -> Started) -> Started {
    let mut holder = None;
    eventually("one of each is made", || {
        let mut makes = begin();
        makes.until_prints("abstract : ");
        let mut is_made = |what: &str| makes.has_printed(&format!("{what} : succeeds\n"));
        match SHARED.into_iter().chain(["abstract"]).all(&mut is_made) {
            true => holder = Some(makes),
            // It takes away what it has made.
            false => drop(makes.outcome()),
        }
        holder.is_some()
    });
    holder.expect("one was there")
}

/// Row 18: CVE-2020-15257. System V and POSIX objects of the host, abstract sockets, and what the supervisor listens on.
fn what_programs_of_the_host_share_is_not_seen(host: &Host) {
    let containers = [
        ("open", "--net HOST"),
        ("closed", "--net CUSTOM"),
        ("mighty", "--net HOST --privileged"),
    ];
    for (name, option) in containers {
        Attacker::booted(host, name, option);
    }
    let listens = abstract_names(host);
    assert!(listens.is_empty(), "cocker listens on {listens:?}");
    let makes = one_of_each(|| Attacker::outside(host, "talk make"));
    // Control: who does listen on one is seen.
    assert!(!abstract_names(host).is_empty());
    for (name, _) in containers {
        let said = Attacker::inside(host, name, "talk use").outcome();
        let said = said.succeeds().stdout();
        for what in SHARED {
            assert_eq!(came_of(&said, what, ""), "ENOENT", "{what} in {name}");
        }
        let expected = match name {
            // A network that is the host's has the host's abstract sockets too: they are in sight, and out of reach.
            "open" if has_scopes() => "EPERM",
            "open" | "mighty" => "succeeds",
            _ => "ECONNREFUSED",
        };
        assert_eq!(came_of(&said, "abstract", ""), expected, "{name}");
    }
    // Control: another program of the host finds all of them.
    let said = Attacker::outside(host, "talk use").outcome();
    let said = said.succeeds().stdout();
    for what in SHARED.into_iter().chain(["abstract"]) {
        assert_eq!(came_of(&said, what, ""), "succeeds", "{what}");
    }
    makes.outcome().succeeds();

    // What they make themselves they reach, each its own, however a process was started.
    for root_process in ["cockerinit", "/bin/sleep 1000"] {
        host.cocker("kill open").ok();
        host.cocker(&format!("boot open -e '{root_process}'")).ok();
        let makes = one_of_each(|| Attacker::inside(host, "open", "talk make"));
        let said = Attacker::inside(host, "open", "talk use").outcome();
        let said = said.succeeds().stdout();
        for what in SHARED.into_iter().chain(["abstract"]) {
            assert_eq!(came_of(&said, what, ""), "succeeds", "{what}");
        }
        let mut terminal = host.terminal("attach open");
        terminal.expect("] ");
        terminal.type_line("/attacker talk use | grep abstract; exit");
        terminal.expect("abstract : succeeds");
        terminal.exits(0);
        makes.outcome().succeeds();
    }
}

/// Row 19: what the kernel counts for each user. Root of one container uses all of it up.
fn one_container_does_not_use_up_what_another_may(host: &Host) {
    for name in ["one", "two"] {
        Attacker::booted(host, name, "--net CUSTOM");
    }
    for what in ["inotify", "queues", "signals"] {
        let mut holds = Attacker::inside(host, "one", &format!("hold {what}"));
        holds.until_prints("held");
        let one = |attack: Started| {
            let said = attack.outcome().succeeds().stdout();
            came_of(&said, "one", what).to_string()
        };
        // Control: it is a limit, since nobody in the same container gets any more.
        let same = one(Attacker::inside(host, "one", &format!("one {what}")));
        assert_ne!(same, "succeeds", "{what}");
        let other = one(Attacker::inside(host, "two", &format!("one {what}")));
        assert_eq!(other, "succeeds", "{what} of another container");
        let hosts = one(Attacker::outside(host, &format!("one {what}")));
        assert_eq!(hosts, "succeeds", "{what} of the host");
        let said = holds.outcome().succeeds().stdout();
        assert!(number(&said, "held") > 3, "{said}");
        let _ = fs::remove_file("/dev/mqueue/another");
    }
}
