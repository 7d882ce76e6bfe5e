//! Programs of the host: through /proc none can be had, none leaves anything open, and none runs what a container has.

use super::{Attacker, Done, KINDS, mount_ids, number, tries};
use crate::host::{
    Host, PATIENCE, Process, Started, copy_program, eventually, here, processes, with_image_test,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        no_program_of_the_host_is_had_through_a_process,
        the_root_process_finds_no_program_of_the_host_beside_it,
        a_process_has_open_what_it_was_given,
        no_command_maps_a_file_of_a_container,
    ]
}

/// What the attack found, once nobody wants it any more.
#[track_caller]
fn had(attack: Started) -> (u64, u64, String) {
    let said = attack.outcome().succeeds().stdout();
    (number(&said, "foreign"), number(&said, "writes"), said)
}

/// The programs that cocker runs: itself, and both residents where they run.
fn programs(host: &Host, container: &str) -> Vec<Vec<u8>> {
    let exe = |pid: i32| fs::read(format!("/proc/{pid}/exe")).expect("it runs");
    vec![
        fs::read(host.program()).expect("it is there"),
        exe(host.root_process(container)),
        exe(host.supervisor(container)),
    ]
}

/// Row 1: CVE-2019-5736 and its kind, while commands run, sessions open and other containers boot.
fn no_program_of_the_host_is_had_through_a_process(host: &Host) {
    for (option, name) in KINDS {
        Attacker::booted(host, name, option);
        let before = programs(host, name);
        let mut attack = Attacker::inside(host, name, &format!("handles {}", tries(1_000)));
        attack.until_prints("begun");
        for _ in 0..tries(25) {
            host.cocker(&format!("run {name} -- true")).succeeds();
            host.cocker(&format!("run {name} --detach -- true"))
                .succeeds();
        }
        for _ in 0..tries(3) {
            let mut terminal = host.terminal(&format!("attach {name}"));
            terminal.expect("] ");
            terminal.type_line("exit");
            terminal.exits(0);
        }
        host.cocker("create -m test -c other").ok();
        host.cocker("boot other").ok();
        host.cocker("destroy --shutdown other").ok();
        let (foreign, writes, said) = had(attack);
        assert_eq!((foreign, writes), (0, 0), "{name}: {said}");
        assert!(number(&said, "tries") >= 1_000, "{said}");
        // It did see them: those of the programs that run inside.
        assert!(number(&said, "handles") > 1_000, "{said}");
        assert!(before == programs(host, name), "a program has changed");
    }
    // Control: a program of the host that enters a privileged container's processes is there to be had.
    let folder = host.folder("victims");
    let before = fs::read("/bin/sleep").expect("it is there");
    let nsenter = host.shell("command -v nsenter").succeeds().stdout();
    let mut victims = Vec::new();
    let mut attack = Attacker::inside(host, "mighty", "handles 100");
    attack.until_prints("begun");
    let pid = host.root_process("mighty");
    eventually("a victim has been had", || {
        // Both are there to be had, so neither is the machine's own, nor one that may have been written to already.
        let number = victims.len();
        let enter = folder.join(format!("enter-{number}"));
        let victim = folder.join(format!("sleep-{number}"));
        copy_program(Path::new(nsenter.trim_end()), &enter, "755");
        copy_program(Path::new("/bin/sleep"), &victim, "755");
        let line = format!(
            "{} -t {pid} -p -- {} 0.3",
            enter.display(),
            victim.display()
        );
        host.shell(&line).succeeds();
        victims.push(victim);
        (0..victims.len()).any(|number| attack.has_printed(&format!("/sleep-{number}\n")))
    });
    let (foreign, writes, said) = had(attack);
    assert!(foreign > 0 && writes > 0, "{said}");
    let is_changed = |victim: &PathBuf| before != fs::read(victim).expect("it is there");
    assert!(victims.iter().any(is_changed), "{said}");
}

/// Row 1, with a root process of one's own: cockerinit is its child, and was born as a copy of the host's program.
fn the_root_process_finds_no_program_of_the_host_beside_it(host: &Host) {
    let before = fs::read(host.program()).expect("it is there");
    for (option, name) in KINDS {
        Attacker::created(host, name, option);
        for _ in 0..tries(25) {
            host.cocker(&format!("boot {name} -e '/attacker handles 1000000'"))
                .ok();
            eventually("the attack is the root process", || {
                host.inside(name, "cat /proc/1/comm") == "attacker"
            });
            host.cocker(&format!("kill {name}")).ok();
        }
        let log = host.cocker(&format!("logs {name}")).succeeds().stdout();
        let found: BTreeSet<&str> = log
            .lines()
            .filter(|line| line.starts_with("foreign") || line.starts_with("opened"))
            .collect();
        assert!(found.is_empty(), "{name}: {found:?}");
        assert!(log.contains("begun"), "{log}");
    }
    assert!(before == fs::read(host.program()).expect("it is there"));
}

/// What a process has open, or stands in, that lies on a mount which container `root` does not have.
fn open_outside(pid: i32, root: i32) -> Vec<String> {
    let mounts = mount_ids(root);
    let process = PathBuf::from(format!("/proc/{pid}"));
    let mut outside = Vec::new();
    let numbers = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    for number in numbers.map(|entry| entry.file_name()) {
        let link = fs::read_link(process.join("fd").join(&number)).unwrap_or_default();
        let link = link.to_string_lossy().into_owned();
        let is_of_none = ["pipe:[", "socket:[", "anon_inode:"];
        if is_of_none.iter().any(|kind| link.starts_with(kind)) {
            continue;
        }
        let info = fs::read_to_string(process.join("fdinfo").join(&number)).unwrap_or_default();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let mount = mount.and_then(|id| id.trim().parse::<u64>().ok());
        if mount.is_some_and(|id| !mounts.contains(&id)) {
            outside.push(format!("descriptor {}: {link}", number.display()));
        }
    }
    for link in ["cwd", "root"] {
        let found = rustix::fs::open(
            process.join(link),
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let Ok(found) = found else {
            continue; // it has ended
        };
        use std::os::fd::AsRawFd;
        let info = format!("/proc/self/fdinfo/{}", found.as_raw_fd());
        let info = fs::read_to_string(info).expect("it is ours");
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let mount = mount.and_then(|id| id.trim().parse().ok());
        if !mount.is_some_and(|id| mounts.contains(&id)) {
            outside.push(link.into());
        }
    }
    outside
}

/// The numbers of what a process has open.
fn descriptors(pid: i32) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// Once it has begun: until then its libraries are open, one after the other.
#[track_caller]
fn has_three_streams(pid: i32) {
    let begun = Instant::now();
    while descriptors(pid) != BTreeSet::from([0, 1, 2]) {
        let listing = Process { pid }.links();
        assert!(begun.elapsed() < here(PATIENCE), "{pid} has {listing:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Row 2: CVE-2024-21626, CVE-2016-9962. Of everything that boot, run and attach have started, by a careless caller.
fn a_process_has_open_what_it_was_given(host: &Host) {
    let careless = "exec 7</etc/hostname 8</ 9</proc; cd /etc;";
    for (option, name) in KINDS {
        host.cocker(&format!("create -m test -c {name} {option}"))
            .ok();
        for root_process in ["cockerinit", "/bin/sleep 1000"] {
            host.shell(&format!(
                "{careless} cocker boot {name} -e '{root_process}'"
            ))
            .ok();
            let pid = host.root_process(name);
            let running: Vec<Started> = ["", "--user 1 "]
                .iter()
                .map(|options| {
                    let line = format!("{careless} exec cocker run {name} {options}-- sleep 77");
                    let mut shell = host.command("sh");
                    shell.args(["-c", &line]);
                    host.started(shell, line)
                })
                .collect();
            host.shell(&format!(
                "{careless} cocker run {name} --detach -- sleep 77"
            ))
            .succeeds();
            let _tty = host.terminal(&format!("run {name} --tty -- sleep 77"));
            let mut terminal = host.terminal(&format!("attach {name}"));
            terminal.expect("] ");
            terminal.type_line("sleep 77");
            let commands = || {
                let inside = host.contained().into_iter();
                let inside = inside.filter(|process| process.command_line() == "sleep 77");
                inside.map(|process| process.pid).collect::<Vec<i32>>()
            };
            eventually("five commands", || commands().len() == 5);
            for process in host.contained() {
                let outside = open_outside(process.pid, pid);
                assert!(
                    outside.is_empty(),
                    "{name}: `{}` has {outside:?}",
                    process.command_line()
                );
            }
            for pid in commands() {
                has_three_streams(pid);
            }
            if root_process != "cockerinit" {
                has_three_streams(pid);
            }
            // Control: what a careless caller has open is seen to lie elsewhere.
            let mut leaky = host.command("sh");
            leaky.args(["-c", &format!("{careless} echo begun; exec sleep 77")]);
            let mut leaky = host.started(leaky, "a leaky program".into());
            leaky.until_prints("begun");
            let outside = open_outside(leaky.pid().as_raw_nonzero().get(), pid);
            assert!(outside.len() >= 4, "{outside:?}");
            drop((running, leaky));
            host.cocker(&format!("kill {name}")).ok();
        }
    }
}

/// Looks at every process that does not run in a container, as long as `work` goes on: which files it has mapped.
///
/// Returns the files that processes of `program` had mapped, and how often one of them was looked at.
fn mapped_meanwhile(host: &Host, program: &Path, work: impl FnOnce()) -> (BTreeSet<String>, u32) {
    let is_done = AtomicBool::new(false);
    let looks = AtomicU32::new(0);
    let mapped = Mutex::new(BTreeSet::new());
    let contained: BTreeSet<i32> = host.contained().iter().map(|it| it.pid).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                // Once more when all is done.
                let is_last = is_done.load(Ordering::Relaxed);
                for process in processes() {
                    let is_program = || {
                        let exe = fs::read_link(format!("/proc/{}/exe", process.pid));
                        exe.is_ok_and(|exe| exe == program)
                    };
                    if contained.contains(&process.pid) || !is_program() {
                        continue;
                    }
                    let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid));
                    let maps = maps.unwrap_or_default();
                    // Asked again: meanwhile it may have executed what is the container's own.
                    if !is_program() {
                        continue;
                    }
                    looks.fetch_add(u32::from(!maps.is_empty()), Ordering::Relaxed);
                    let files = maps.lines().filter_map(|line| line.split_once('/'));
                    let mut mapped = mapped.lock().expect("nobody panics with it");
                    mapped.extend(files.map(|(_, file)| format!("/{file}")));
                }
                if is_last {
                    break;
                }
            }
        });
        let _done = Done(&is_done);
        work();
    });
    (
        mapped.into_inner().expect("nobody panics with it"),
        looks.into_inner(),
    )
}

/// Row 7: CVE-2019-14271. A command of the host that stands in a container's root, or in its files, and loads from there.
fn no_command_maps_a_file_of_a_container(host: &Host) {
    let program = host.program();
    let text = host.folder("mine").join("text");
    fs::write(&text, "KEY value\n").expect("the folder is ours");
    let (mine, out) = (host.folder("mine"), host.folder("out"));
    for (option, name) in KINDS {
        host.cocker(&format!("create -m test -c {name} {option}"))
            .ok();
        let (files, looks) = mapped_meanwhile(host, &program, || {
            for round in 0..tries(2) {
                let copies = |host: &Host| {
                    let [text, mine, out] =
                        [&text, &mine, &out].map(|path| path.display().to_string());
                    host.cocker(&format!("put {name} {text} /srv/text")).ok();
                    host.cocker(&format!("put {name} {mine} /srv/{round}")).ok();
                    host.cocker(&format!("get {name} /etc {out}/")).succeeds();
                    host.cocker(&format!("get {name} /bin -")).succeeds();
                    host.cocker(&format!(
                        "instantiate {name} --template-file /srv/text --mapping-file {text}"
                    ))
                    .ok();
                };
                copies(host);
                host.cocker(&format!("boot {name}")).ok();
                copies(host);
                for line in [
                    format!("run {name} -- true"),
                    format!("run {name} --user 33:33 -- true"),
                    format!("root {name}"),
                    format!("logs {name}"),
                    format!("diff {name}"),
                    "containers".into(),
                    "stats".into(),
                    "check".into(),
                ] {
                    host.cocker(&line).succeeds();
                }
                let mut terminal = host.terminal(&format!("attach {name}"));
                terminal.expect("] ");
                terminal.type_line("exit");
                terminal.exits(0);
                host.cocker(&format!("shutdown {name}")).ok();
            }
        });
        let others: Vec<&String> = files
            .iter()
            .filter(|file| Path::new(file) != program && !file.starts_with("/memfd:cocker"))
            .collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        assert!(looks > 20, "only {looks} looks");
        host.cocker(&format!("boot {name}")).ok();
    }
    // Control: a shell of the host's whose root the container's files are loads the container's libraries.
    let root = format!("/proc/{}/root", host.root_process("mighty"));
    let mut inside = host.command("chroot");
    inside.args([&root, "/bin/sh", "-c", "echo begun; read line"]);
    let mut inside = host.started(inside, "a shell in the container's root".into());
    inside.until_prints("begun");
    let pid = inside.pid().as_raw_nonzero().get();
    let exe = fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    let (files, looks) = mapped_meanwhile(host, &exe, || thread::sleep(Duration::from_millis(300)));
    assert!(looks > 0);
    let libraries = files.iter().filter(|file| file.contains(".so"));
    assert!(libraries.count() > 0, "{files:?}");
    drop(inside);
}
