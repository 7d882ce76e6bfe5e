//! What a supervisor makes of an init that lies: the test plays it, and the root process is a shell.
mod support;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cocker_protocol::{
    ClientReply, ClientRequest, InitReport, InitRequest, LogTime, RECORD, Stage, Stream, times_head,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use support::{Booted, Channel, shell};

/// A root process that ends when it is asked to, and says when it can be.
const ROOT: &str = "trap 'exit 7' USR1; echo >&3; while :; do :; done";
const SIGUSR1: i32 = 10;

fn report(init: &Channel, report: InitReport, descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    let mut buffer = [0; 64];
    let length = report.encode(&mut buffer).unwrap();
    init.send(&buffer[..length], descriptors).unwrap();
}

fn ready() -> Booted {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    report(booted.init(), InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive().0, ClientReply::Ready);
    booted
}

/// The number of the command that the supervisor asks init to start next.
fn next_spawn(init: &Channel) -> (u32, Vec<OwnedFd>) {
    let (bytes, descriptors) = init.receive_bytes();
    match InitRequest::decode(&bytes).unwrap() {
        InitRequest::Spawn { id, .. } => (id, descriptors),
        other => panic!("not a command: {other:?}"),
    }
}

fn terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (master, slave)
}

fn open_descriptors(booted: &Booted) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", booted.supervisor.id()))
        .unwrap()
        .count()
}

/// Shows that the supervisor has taken everything that was said before, and still serves.
fn still_serves(booted: &Booted) {
    let client = booted.connect();
    let _pipes = client.ask_to_start(c"true");
    let (id, descriptors) = next_spawn(booted.init());
    assert_eq!(descriptors.len(), 3);
    report(booted.init(), InitReport::Started { id, pid: 2 }, &[]);
    assert_eq!(client.receive().0, ClientReply::Started { pid: 2 });
    report(
        booted.init(),
        InitReport::Exited { id, wait_status: 0 },
        &[],
    );
    assert_eq!(client.receive().0, ClientReply::Exited { wait_status: 0 });
}

#[test]
fn lies_about_commands_reach_no_client() {
    let booted = ready();
    let client = booted.connect();
    let _pipes = client.ask_to_start(c"true");
    let (id, _) = next_spawn(booted.init());
    still_serves(&booted);
    let before = open_descriptors(&booted);
    let init = booted.init();
    let (master, slave) = terminal();
    for stranger in [0, id + 1000, u32::MAX] {
        report(
            init,
            InitReport::Started {
                id: stranger,
                pid: 2,
            },
            &[master.as_fd()],
        );
        report(
            init,
            InitReport::Exited {
                id: stranger,
                wait_status: 0,
            },
            &[slave.as_fd()],
        );
        let stage = Stage::Execute;
        report(
            init,
            InitReport::NotStarted {
                id: stranger,
                stage,
                errno: 2,
            },
            &[master.as_fd(); 8],
        );
    }
    // An end before the beginning, a second `Ready`, a console when none is expected any more.
    report(init, InitReport::Exited { id, wait_status: 0 }, &[]);
    report(init, InitReport::Ready, &[]);
    report(init, InitReport::Console, &[master.as_fd()]);
    // A command on pipes has no terminal to hand out.
    report(init, InitReport::Started { id, pid: 5 }, &[master.as_fd()]);
    report(init, InitReport::Started { id, pid: 6 }, &[]);
    let (reply, descriptors) = client.receive();
    assert_eq!(reply, ClientReply::Started { pid: 5 });
    assert!(descriptors.is_empty());
    still_serves(&booted);
    report(init, InitReport::Exited { id, wait_status: 3 }, &[]);
    assert_eq!(client.receive().0, ClientReply::Exited { wait_status: 3 });
    still_serves(&booted);
    assert!(open_descriptors(&booted) <= before + 1);
}

#[test]
fn noise_and_halves_are_survived() {
    let booted = ready();
    let mut whole = [0; 64];
    let length = InitReport::Started { id: 1, pid: 2 }
        .encode(&mut whole)
        .unwrap();
    for end in 1..length {
        booted.init().send(&whole[..end], &[]).unwrap();
    }
    booted.init().send(&[0xff; 100_000], &[]).unwrap();
    let mut state = 0x9e37_79b9_u32;
    for _ in 0..20_000 {
        let mut noise = whole;
        for byte in &mut noise[4..] {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            *byte = state as u8;
        }
        let length = 1 + state as usize % 63;
        booted.init().send(&noise[..length], &[]).unwrap();
    }
    still_serves(&booted);
}

#[test]
fn an_init_that_does_not_listen_holds_up_nobody() {
    let booted = ready();
    // Many more commands than init's socket has room for: some wait in it, and the others are answered.
    let clients: Vec<_> = (0..600)
        .map(|_| {
            let client = booted.connect();
            client.ask_to_start(c"true");
            client
        })
        .collect();
    let (last, _) = clients[clients.len() - 1].receive();
    assert!(matches!(
        last,
        ClientReply::NotStarted {
            stage: Stage::InitGone,
            ..
        }
    ));
    // They all go away; as soon as init listens it hears of each command that it was asked to start.
    drop(clients);
    let mut running = std::collections::HashSet::new();
    let mut spawned = 0;
    while spawned == 0 || !running.is_empty() {
        match InitRequest::decode(&booted.init().receive_bytes().0).unwrap() {
            InitRequest::Spawn { id, .. } => {
                spawned += 1;
                assert!(running.insert(id));
            }
            InitRequest::End { id } => assert!(running.remove(&id)),
            other => panic!("not asked for: {other:?}"),
        }
    }
    assert!(spawned > 10);
    still_serves(&booted);
}

#[test]
fn what_is_no_terminal_ends_the_container() {
    let booted = ready();
    let client = booted.connect();
    let size = Stream::Terminal {
        rows: 24,
        columns: 80,
    };
    client.ask(ClientRequest::Spawn(shell(b"sh\0", size)), &[]);
    let (id, _) = next_spawn(booted.init());
    let file = File::open("/etc/passwd").unwrap();
    report(
        booted.init(),
        InitReport::Started { id, pid: 2 },
        &[file.as_fd()],
    );
    let (reply, descriptors) = client.receive();
    assert!(matches!(
        reply,
        ClientReply::NotStarted {
            stage: Stage::InitGone,
            ..
        }
    ));
    assert!(descriptors.is_empty());
    assert!(booted.released().starts_with("release 9 kept\n"));
}

#[test]
fn a_given_root_process_outlives_init_and_gets_its_own_signal() {
    let mut booted = Booted::with_played_init(ROOT, SIGUSR1);
    booted.await_root();
    report(booted.init(), InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive().0, ClientReply::Ready);
    let (running, starting) = (booted.connect(), booted.connect());
    let _pipes = running.ask_to_start(c"true");
    let (id, _) = next_spawn(booted.init());
    report(booted.init(), InitReport::Started { id, pid: 2 }, &[]);
    assert_eq!(running.receive().0, ClientReply::Started { pid: 2 });
    let _other_pipes = starting.ask_to_start(c"true");
    next_spawn(booted.init());
    booted.init = None;
    assert_eq!(running.receive().0, ClientReply::Exited { wait_status: 9 });
    let gone = |reply| {
        matches!(
            reply,
            ClientReply::NotStarted {
                stage: Stage::InitGone,
                ..
            }
        )
    };
    assert!(gone(starting.receive().0));
    let late = booted.connect();
    let _late_pipes = late.ask_to_start(c"true");
    assert!(gone(late.receive().0));
    let waiting = booted.connect();
    waiting.ask(ClientRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    waiting.closes();
    assert!(
        booted
            .released()
            .starts_with(&format!("release {} kept\n", 7 << 8))
    );
}

#[test]
fn a_root_process_that_does_not_listen_is_killed_at_the_deadline() {
    let booted = Booted::with_played_init("trap '' USR1; echo >&3; exec sleep 1000", SIGUSR1);
    booted.await_root();
    let waiting = booted.connect();
    waiting.ask(ClientRequest::Shutdown { timeout_ms: 60_000 }, &[]);
    waiting.ask(ClientRequest::Shutdown { timeout_ms: 100 }, &[]);
    // It ended before it was ready, which the boot socket hears.
    assert_eq!(
        booted.boot.receive().0,
        ClientReply::Ended { wait_status: 9 }
    );
    waiting.closes();
    assert!(booted.released().starts_with("release 9 kept\n"));
}

#[test]
fn the_console_is_logged_within_bounds() {
    const MOST: u64 = 8 << 20;
    let (booted, mut console) = with_console();
    let line = [&[b'x'; 4095][..], b"\n"].concat();
    for _ in 0..(2 * MOST + MOST / 2) / 4096 {
        console.write_all(&line).unwrap();
    }
    console.write_all(b"the last line\n").unwrap();
    end(&booted, console);
    let log = std::fs::read(booted.folder.join("console.log")).unwrap();
    let old = std::fs::metadata(booted.folder.join("console.log.1")).unwrap();
    assert!(log.ends_with(b"the last line\r\n"));
    assert!(log.len() as u64 <= MOST + 4096);
    assert!(old.len() >= MOST && old.len() <= MOST + 4096);
    assert_eq!(times(&booted, ".1").0, inode(&booted, "console.log.1"));
    assert_eq!(times(&booted, "").0, inode(&booted, "console.log"));
}

#[test]
fn the_log_has_the_times_of_what_is_in_it() {
    let before = now_ms();
    let (booted, mut console) = with_console();
    console.write_all(b"one\n").unwrap();
    let log = booted.folder.join("console.log");
    until(|| std::fs::read(&log).is_ok_and(|log| log == b"one\r\n"));
    let begun = now_ms();
    // The clock itself is what is waited for: within a second there is no second record.
    until(|| now_ms() >= begun + 1000);
    console.write_all(b"two\n").unwrap();
    until(|| std::fs::read(&log).is_ok_and(|log| log.len() == 10));
    console.write_all(b"three\n").unwrap();
    end(&booted, console);
    let (of, records) = times(&booted, "");
    assert_eq!(of, inode(&booted, "console.log"));
    let offsets: Vec<u64> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets[..2], [0, 5]);
    assert!((before..=begun).contains(&records[0].time_ms));
    assert!((begun + 1000..=now_ms()).contains(&records[1].time_ms));
}

#[test]
fn times_that_do_not_fit_the_log_are_dropped() {
    let (booted, mut console) = with_console();
    let [log, path] = ["console.log", "console.times"].map(|name| booted.folder.join(name));
    std::fs::write(&log, "old\n").unwrap();
    let mut written = times_head(inode(&booted, "console.log")).to_vec();
    for (offset, time_ms) in [(0, 1), (4, 2), (5, 3), (u64::MAX, 4)] {
        written.extend(LogTime { offset, time_ms }.encode());
    }
    // And one that is not whole.
    written.extend([7; 7]);
    std::fs::write(&path, written).unwrap();
    console.write_all(b"new\n").unwrap();
    end(&booted, console);
    assert_eq!(std::fs::read(&log).unwrap(), b"old\nnew\r\n");
    let (_, records) = times(&booted, "");
    let [first, second, third] = records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((first.time_ms, second.time_ms), (1, 2));
    assert!(third.offset == 4 && third.time_ms > 4);
}

#[test]
fn the_times_of_another_log_are_not_gone_on_with() {
    let (booted, mut console) = with_console();
    std::fs::write(booted.folder.join("console.log"), "old\n").unwrap();
    let another = [times_head(1), [0; RECORD]].concat();
    std::fs::write(booted.folder.join("console.times"), another).unwrap();
    console.write_all(b"new\n").unwrap();
    end(&booted, console);
    let (of, records) = times(&booted, "");
    assert_eq!(of, inode(&booted, "console.log"));
    let [record] = records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(record.offset, 4);
}

#[test]
fn a_log_whose_times_are_full_is_rotated_early() {
    const MOST: usize = 1 << 17;
    let (booted, mut console) = with_console();
    std::fs::write(booted.folder.join("console.log"), "old\n").unwrap();
    let mut written = times_head(inode(&booted, "console.log")).to_vec();
    written.resize((MOST + 1) * RECORD, 0);
    std::fs::write(booted.folder.join("console.times"), written).unwrap();
    console.write_all(b"new\n").unwrap();
    end(&booted, console);
    let content = |name: &str| std::fs::read(booted.folder.join(name)).unwrap();
    assert_eq!(content("console.log.1"), b"old\n");
    assert_eq!(content("console.times.1").len(), (MOST + 1) * RECORD);
    assert_eq!(content("console.log"), b"new\r\n");
    assert_eq!(content("console.times").len(), 2 * RECORD);
}

/// A supervisor that has the only master of a console, as it has in a container, and the console's other end.
fn with_console() -> (Booted, File) {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    let (master, slave) = terminal();
    report(booted.init(), InitReport::Console, &[master.as_fd()]);
    report(booted.init(), InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive().0, ClientReply::Ready);
    (booted, File::from(slave))
}

/// Ends the container when everything that was written is there to be logged.
fn end(booted: &Booted, console: File) {
    drop(console);
    let killer = booted.connect();
    killer.ask(ClientRequest::Kill, &[]);
    killer.closes();
}

/// The inode that times belong to, and the records.
fn times(booted: &Booted, ending: &str) -> (u64, Vec<LogTime>) {
    let bytes = std::fs::read(booted.folder.join(format!("console.times{ending}"))).unwrap();
    let (head, records) = bytes.split_first_chunk::<RECORD>().unwrap();
    let inode = u64::from_le_bytes(*head.last_chunk().unwrap());
    assert_eq!(*head, times_head(inode));
    let (records, rest) = records.as_chunks::<RECORD>();
    assert!(rest.is_empty());
    (inode, records.iter().map(LogTime::decode).collect())
}

fn inode(booted: &Booted, name: &str) -> u64 {
    std::fs::metadata(booted.folder.join(name)).unwrap().ino()
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

#[track_caller]
fn until(is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + support::PATIENCE;
    while !is_true() {
        assert!(Instant::now() < deadline, "it never comes true");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
