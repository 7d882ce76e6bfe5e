//! Neighbours that do not want to end, or cannot: shutdown, kill and destroy end in bounded time all the same, and nobody else
//! waits for them.
//!
//! Told elsewhere: a console that never stops, files, memory and terminals without number (`attacks::floods`), a fork bomb
//! (`limits::a_fork_bomb_…`), a process that ignores TERM and one that cannot hear it (`shutdown::`), archives and sockets that
//! never end (`attacks::`). Here each is seen once more from the side of those who shut it down.

use crate::host::{Host, Outcome, Started, eventually, here, with_image_test};
use rustix::process::{Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_full_console_holds_up_no_shutdown,
        who_forks_without_end_is_shut_down,
        who_ignores_term_is_killed_in_time,
        who_stops_itself_is_asked_all_the_same,
        a_root_process_stopped_from_outside_is_asked_all_the_same,
        who_dies_during_attach_leaves_a_client_that_ends,
        a_process_that_nobody_can_kill_is_named_and_cleared_up_when_it_goes,
        a_process_that_nobody_can_kill_outlives_its_supervisor_and_holds_up_no_list,
        a_volume_that_does_not_answer_holds_up_its_own_boot_only,
        a_program_that_cannot_be_read_holds_up_no_other,
        who_stops_all_that_is_born_holds_up_no_other_user,
    ]
}

/// What everybody else types meanwhile.
#[track_caller]
fn others_are_served(host: &Host) {
    for line in [
        "-s containers",
        "containers --format json",
        "images",
        "run other -- true",
    ] {
        answered(host, line);
    }
}

/// Types a line that is answered at once. A machine may stand still for a moment; whoever is held up is so each time.
#[track_caller]
pub fn answered(host: &Host, line: &str) -> Outcome {
    let mut took = Vec::new();
    for _ in 0..3 {
        let outcome = host.cocker(line).succeeds();
        if outcome.took <= here(Duration::from_secs(1)) {
            return outcome;
        }
        took.push(outcome.took);
    }
    panic!("`{line}` is held up: it took {took:?}");
}

/// A container that may use half a processor: how the kernel shares them out is not what is asked here.
#[track_caller]
fn booted_slowly(host: &Host, name: &str) {
    host.cocker(&format!("create -m test -c {name}")).ok();
    let boot = format!("boot {name} --cpu-quota 50% --pids-limit 300");
    host.cocker(&boot).ok();
}

/// Shuts it down, boots and kills it, boots and destroys it, and each time `begin` has it be hostile again.
#[track_caller]
fn all_three_end_in_time(host: &Host, begin: impl Fn() -> Vec<Started>) {
    for (end, longest) in [
        ("shutdown bad --timeout 1", 8),
        ("kill bad", 8),
        ("destroy -c bad --shutdown", 18),
    ] {
        let _begun = begin();
        others_are_served(host);
        host.cocker(end).ok().within(Duration::from_secs(longest));
        assert!(host.contained().iter().all(|it| it.name() != "yes"));
        if !end.starts_with("destroy") {
            assert_eq!(host.status("bad"), "STOPPED");
            host.cocker("boot bad").ok();
        }
    }
    others_are_served(host);
}

fn a_full_console_holds_up_no_shutdown(host: &Host) {
    host.booted("other");
    booted_slowly(host, "bad");
    all_three_end_in_time(host, || {
        let flood = "trap \"\" TERM HUP; yes > /dev/console";
        let floods = (0..2)
            .map(|_| host.start(&format!("run bad -- sh -c '{flood}'")))
            .collect();
        host.until_inside_runs("yes");
        floods
    });
}

fn who_forks_without_end_is_shut_down(host: &Host) {
    host.booted("other");
    booted_slowly(host, "bad");
    all_three_end_in_time(host, || {
        let bomb = "trap \"\" TERM HUP INT; f() { while :; do f & done; }; f";
        let bomb = host.start(&format!("run bad -- sh -c '{bomb}'"));
        eventually("it has multiplied", || host.contained().len() > 100);
        vec![bomb]
    });
}

fn who_ignores_term_is_killed_in_time(host: &Host) {
    host.booted("other");
    host.booted("bad");
    all_three_end_in_time(host, || {
        let line =
            "run bad -- sh -c 'trap \"\" TERM HUP INT; echo ready; while :; do sleep 1; done'";
        let mut deaf = host.start(line);
        deaf.until_prints("ready");
        vec![deaf]
    });
}

fn who_stops_itself_is_asked_all_the_same(host: &Host) {
    host.booted("other");
    host.booted("bad");
    let line = "trap \"echo asked > /root/asked; exit\" TERM; echo ready; kill -STOP $$; while :; do sleep 0.05; done";
    let mut stopped = host.start(&format!("run bad -- sh -c '{line}'"));
    stopped.until_prints("ready");
    eventually("it stands still", || {
        let members = host.contained();
        members.iter().any(|it| process_state(it.pid) == 'T')
    });
    others_are_served(host);
    host.cocker("shutdown bad")
        .ok()
        .within(Duration::from_secs(8));
    host.cocker("boot bad").ok();
    assert_eq!(host.inside("bad", "cat /root/asked"), "asked");
}

fn a_root_process_stopped_from_outside_is_asked_all_the_same(host: &Host) {
    host.booted("other");
    host.booted("bad");
    for end in ["shutdown bad", "kill bad"] {
        let pid = host.root_process("bad");
        rustix::process::kill_process(Pid::from_raw(pid).expect("it runs"), Signal::STOP)
            .expect("it runs");
        eventually("it stands still", || process_state(pid) == 'T');
        others_are_served(host);
        host.cocker(end).ok().within(Duration::from_secs(8));
        host.cocker("boot bad").ok();
    }
}

fn who_dies_during_attach_leaves_a_client_that_ends(host: &Host) {
    host.booted("other");
    for moment in 0..12 {
        host.cocker("create -m test -c bad").ok();
        host.cocker("boot bad").ok();
        let root = Pid::from_raw(host.root_process("bad")).expect("it runs");
        let mut terminal = host.terminal("attach bad");
        if moment % 3 == 0 {
            terminal.expect("] ");
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(3 * moment) {
            std::hint::spin_loop();
        }
        rustix::process::kill_process(root, Signal::KILL).expect("it runs");
        // However far it was: the client ends, and gives the terminal back.
        let ended = terminal.end();
        assert!(ended.code().is_some(), "{ended} at {moment}");
        eventually("it is stopped", || host.status("bad") == "STOPPED");
        others_are_served(host);
        host.cocker("destroy bad")
            .ok()
            .within(Duration::from_secs(8));
    }
}

/// A file system that answers for as long as its server lives, but never with what is in its file.
struct Silent {
    server: Started,
    folder: PathBuf,
    number: u32,
}

impl Silent {
    #[track_caller]
    fn mounted(host: &Host, kind: &str) -> Silent {
        let program = host.folder("fuse").join("silent");
        let built = Command::new("cc")
            .args(["-std=gnu11", "-O1", "-static", "-o"])
            .arg(&program)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/containers/hostile/silent.c"
            ))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cc");
        let folder = host.folder("hung");
        let mut server = host.start_program(&program, &format!("{kind} {}", folder.display()));
        server.until_prints("mounted");
        let number = connection(&folder);
        Silent {
            server,
            folder,
            number,
        }
    }

    /// Waits until its file's contents were asked for so many times.
    #[track_caller]
    fn until_asked(&mut self, times: u32) {
        self.server.until_prints(&format!("asked {times}"));
    }

    /// Ends the file system: everybody who waits for it gets an error. It is done by mounts and not by the server's end, which
    /// a descriptor of the server's in some other process would put off.
    fn end(&self) {
        let control = control_files();
        let _ = fs::write(control.join(self.number.to_string()).join("abort"), "1");
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.end();
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// The file system of control files, mounted in this namespace where it is not there.
fn control_files() -> PathBuf {
    let folder = PathBuf::from("/sys/fs/fuse/connections");
    if fs::read_dir(&folder).map_or(0, Iterator::count) == 0 {
        let _ = Command::new("mount")
            .args(["-t", "fusectl", "fusectl"])
            .arg(&folder)
            .status();
    }
    folder
}

/// The number of the connection behind a mount; no file of it is looked at.
fn connection(folder: &Path) -> u32 {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let folder = folder.display().to_string();
    let line = mounts
        .lines()
        .find(|line| line.split(' ').nth(4) == Some(&folder));
    let device = line.and_then(|line| line.split(' ').nth(2)?.split_once(':'));
    device
        .and_then(|(_, minor)| minor.parse().ok())
        .unwrap_or_else(|| panic!("{folder} is not mounted:\n{mounts}"))
}

fn process_state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.unwrap_or('?')
}

/// A booted container with a process in it that waits for the file's contents, in the kernel.
#[track_caller]
fn with_a_process_in_the_kernel(host: &Host, silent: &mut Silent, name: &str) -> Started {
    let volume = silent.folder.display();
    host.cocker(&format!(
        "create -m test -c {name} --volume {volume}:/hung:raw"
    ))
    .ok();
    host.cocker(&format!("boot {name}")).ok();
    let reader = host.start(&format!("run {name} -- cat /hung/file"));
    silent.until_asked(1);
    eventually("it waits in the kernel", || {
        let members = host.contained();
        members
            .iter()
            .any(|it| it.name() == "cat" && "DS".contains(process_state(it.pid)))
    });
    reader
}

fn a_process_that_nobody_can_kill_is_named_and_cleared_up_when_it_goes(host: &Host) {
    host.booted("other");
    let mut silent = Silent::mounted(host, "file");
    let _reader = with_a_process_in_the_kernel(host, &mut silent, "bad");
    let cat = host.until_inside_runs("cat");
    let abort = format!("/sys/fs/fuse/connections/{}/abort", silent.number);
    let named = [format!("process {cat} (`cat`) does not end"), abort];
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    for (end, longest) in [
        ("shutdown bad --timeout 1", 20),
        ("kill bad", 20),
        ("destroy bad --shutdown", 29),
        ("destroy bad --shutdown -f", 45),
    ] {
        let begun = Instant::now();
        let running = host.start(end);
        // While it waits for an end that does not come, nobody else does.
        while begun.elapsed() < Duration::from_millis(1500) {
            others_are_served(host);
        }
        let outcome = running.feed(b"").outcome();
        assert!(
            outcome.took <= here(Duration::from_secs(longest)),
            "{outcome}"
        );
        match end.ends_with("-f") {
            false => drop(outcome.fails(1, &named)),
            true => drop(outcome.fails(1, &["bad"])),
        }
        assert_eq!(process_state(cat), 'D');
    }
    // It does not pretend to be stopped.
    host.root_process("bad");
    silent.end();
    eventually("it is stopped by itself", || {
        host.status("bad") == "STOPPED"
    });
    eventually("all of it has gone", || host.contained().len() == 1);
    host.cocker("destroy bad")
        .ok()
        .within(Duration::from_secs(8));
}

fn a_process_that_nobody_can_kill_outlives_its_supervisor_and_holds_up_no_list(host: &Host) {
    host.booted("other");
    let mut silent = Silent::mounted(host, "file");
    let _reader = with_a_process_in_the_kernel(host, &mut silent, "bad");
    let cat = host.until_inside_runs("cat");
    let supervisor = Pid::from_raw(host.supervisor("bad")).expect("it runs");
    rustix::process::kill_process(supervisor, Signal::KILL).expect("it runs");
    let named = format!("process {cat} (`cat`)");
    eventually("the list tells who is left", || {
        let list = answered(host, "-s containers");
        list.stdout().contains(&format!("EXCEPTION({named}"))
    });
    others_are_served(host);
    let remedy = host.cocker("-d containers").succeeds().stderr;
    assert!(remedy.contains("/sys/fs/fuse/connections/"), "{remedy}");
    for line in ["boot bad", "destroy bad"] {
        host.cocker(line)
            .fails(1, &[&named])
            .within(Duration::from_secs(15));
    }
    silent.end();
    eventually("the list clears it up", || host.status("bad") == "STOPPED");
    host.cocker("boot bad").ok();
    host.cocker("destroy bad --shutdown").ok();
}

/// The client that boots waits, and with it what is its own: the container. Nothing of the store is held.
fn a_volume_that_does_not_answer_holds_up_its_own_boot_only(host: &Host) {
    host.booted("other");
    let folder = host.folder("hung");
    let volume = folder.join("file").display().to_string();
    fs::write(folder.join("file"), "").expect("the folder is ours");
    host.cocker(&format!(
        "create -m test -c bad --volume {volume}:/file:raw"
    ))
    .ok();
    // Should anything fail here, the file system must end before they are waited for.
    let mut clients = Vec::new();
    // It answers nothing but the greeting from here on.
    let silent = Silent::mounted(host, "nothing");
    for line in [
        "boot bad",
        &format!("create -m test -c more --volume {volume}:/file:raw"),
    ] {
        let client = host.start(line);
        let pid = client.pid().as_raw_nonzero().get();
        clients.push(client);
        // For the file's answer, or for whoever waits for that.
        eventually("the client waits for the file", || {
            let waits_in = fs::read_to_string(format!("/proc/{pid}/wchan"));
            waits_in.is_ok_and(|it| it.contains("request") || it.contains("d_alloc"))
        });
    }
    for line in [
        "create -m test -c third",
        "copy-image --from-image test --to-image again",
        "destroy third",
        "prune",
    ] {
        host.cocker(line).succeeds().within(Duration::from_secs(8));
    }
    others_are_served(host);
    let begun = Instant::now();
    host.cocker("shutdown bad").fails(1, &["not booted"]);
    host.cocker("kill bad").fails(1, &["not booted"]);
    assert!(begun.elapsed() < here(Duration::from_secs(8)));
    let pid = clients[0].pid().as_raw_nonzero();
    host.cocker("destroy bad --shutdown")
        .fails(1, &["bad", &format!("process {pid}"), "at work"])
        .within(Duration::from_secs(29));
    silent.end();
    // Both get an error in place of an answer.
    let [boot, create] = [clients.remove(0), clients.remove(0)];
    create.feed(b"").outcome().exits(1);
    boot.feed(b"").outcome().fails(1, &["cannot boot", &volume]);
    host.cocker("destroy bad")
        .ok()
        .within(Duration::from_secs(8));
    drop(silent);
}

/// What else is typed for the same container, while something in it holds a command up that is not its program yet.
#[track_caller]
fn the_container_is_served(host: &Host, name: &str) {
    let longest = Duration::from_secs(8);
    host.cocker(&format!("run {name} -- echo works"))
        .succeeds()
        .prints("works\n")
        .within(longest);
    host.cocker(&format!("run {name} --user 8 -- id -u"))
        .succeeds()
        .prints("8\n")
        .within(longest);
    host.cocker(&format!("run {name} -- no-such-program"))
        .fails(127, &["no-such-program"])
        .within(longest);
    let mut terminal = host.terminal(&format!("attach {name}"));
    terminal.expect("] ");
    terminal.type_line("exit");
    terminal.end();
    host.cocker(&format!("run {name} --detach -- true"))
        .succeeds()
        .within(longest);
}

fn a_program_that_cannot_be_read_holds_up_no_other(host: &Host) {
    host.booted("other");
    let mut silent = Silent::mounted(host, "file");
    let volume = silent.folder.display();
    host.cocker(&format!(
        "create -m test -c bad --volume {volume}:/hung:raw -b"
    ))
    .ok();
    let lines = [
        "run bad -- /hung/file",
        "run bad --user 7 -- /hung/file",
        "run bad --detach -- /hung/file",
    ];
    let clients = lines.map(|line| host.start(line));
    silent.until_asked(3);
    others_are_served(host);
    the_container_is_served(host, "bad");
    // Whoever has only so much time gives it up.
    let took_longer = "it took longer than 0.5 s";
    host.cocker("run bad --timeout 0.5 -- /hung/file")
        .fails(124, &["bad", took_longer])
        .within(Duration::from_secs(8));
    let mut terminal = host.terminal("run bad --tty --timeout 0.5 -- /hung/file");
    terminal.expect(took_longer);
    terminal.end();
    silent.end();
    for client in clients {
        let outcome = client.feed(b"").outcome();
        outcome.fails(125, &["/hung/file"]);
    }
    the_container_is_served(host, "bad");
    host.cocker("shutdown bad")
        .ok()
        .within(Duration::from_secs(8));
}

fn who_stops_all_that_is_born_holds_up_no_other_user(host: &Host) {
    host.booted("other");
    host.booted("bad");
    let stopper = "echo begun; while :; do kill -s STOP -- -1; done 2>/dev/null";
    let mut stopper = host.start(&format!("run bad --user 7 -- sh -c '{stopper}'"));
    stopper.until_prints("begun");
    // Some of them before they have executed anything.
    let mut stopped = Vec::new();
    for _ in 0..20 {
        stopped.push(host.start("run bad --user 7 -- sleep 1000"));
        host.cocker("run bad -- echo works")
            .succeeds()
            .prints("works\n")
            .within(Duration::from_secs(8));
    }
    eventually("all are stopped", || {
        let members = host.contained();
        let stopped = members.iter().filter(|it| process_state(it.pid) == 'T');
        stopped.count() == 20
    });
    the_container_is_served(host, "bad");
    host.cocker("shutdown bad --timeout 1")
        .ok()
        .within(Duration::from_secs(8));
}
