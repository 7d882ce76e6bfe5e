//! What a supervisor makes of an init that lies: the test plays it, and the root process is a shell.
mod support;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cocker_protocol::{
    Access, ClientReply, ClientRequest, InitReport, InitRequest, Lasting, LogTime, RECORD, Stage,
    Target, times_head,
};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use support::{Booted, Channel, Looker, Reply, SIZE, is_readable, terminal};

/// A root process that ends when it is asked to, and says when it can be.
const ROOT: &str = "trap 'exit 7' USR1; echo >&3; while :; do :; done";
const SIGUSR1: i32 = 10;

/// The number of the command that the supervisor asks init to start next.
fn next_spawn(init: &Channel) -> (u32, Vec<OwnedFd>) {
    let (bytes, descriptors) = init.receive_bytes();
    match InitRequest::decode(&bytes).unwrap() {
        InitRequest::Spawn { id, .. } => (id, descriptors),
        other => panic!("not a command: {other:?}"),
    }
}

/// What is answered where init's socket has no room.
const NO_ROOM: ClientReply<'static> = ClientReply::NotStarted {
    stage: Stage::TooMany,
    errno: libc::EAGAIN,
};

fn is_init_gone(reply: &Reply) -> bool {
    let stage = Stage::InitGone;
    matches!(reply.get(), ClientReply::NotStarted { stage: said, .. } if said == stage)
}

/// Shows that the supervisor has taken everything that was said before, and still serves.
fn still_serves(booted: &Booted) {
    let client = booted.connect();
    let _pipes = client.ask_to_start(c"true");
    let (id, descriptors) = next_spawn(booted.init());
    assert_eq!(descriptors.len(), 3);
    booted
        .init()
        .report(InitReport::Started { id, pid: 2 }, &[]);
    assert_eq!(client.receive(), ClientReply::Started { pid: 2 });
    booted
        .init()
        .report(InitReport::Exited { id, wait_status: 0 }, &[]);
    assert_eq!(client.receive(), ClientReply::Exited { wait_status: 0 });
}

#[test]
fn lies_about_commands_reach_no_client() {
    let booted = Booted::ready();
    let client = booted.connect();
    let _pipes = client.ask_to_start(c"true");
    let (id, _) = next_spawn(booted.init());
    still_serves(&booted);
    let before = booted.descriptors();
    let init = booted.init();
    let (master, slave) = terminal();
    for stranger in [0, id + 1000, u32::MAX] {
        init.report(
            InitReport::Started {
                id: stranger,
                pid: 2,
            },
            &[master.as_fd()],
        );
        init.report(
            InitReport::Exited {
                id: stranger,
                wait_status: 0,
            },
            &[slave.as_fd()],
        );
        let stage = Stage::Execute;
        init.report(
            InitReport::NotStarted {
                id: stranger,
                stage,
                errno: 2,
            },
            &[master.as_fd(); 8],
        );
    }
    // An end before the beginning, a second `Ready`, a second console, with all that belongs to one.
    init.report(InitReport::Exited { id, wait_status: 0 }, &[]);
    init.report(InitReport::Ready, &[]);
    init.report(InitReport::Console, &[master.as_fd()]);
    init.report(InitReport::Console, &booted.console.handed_over());
    // init has nothing to hand out.
    init.report(InitReport::Started { id, pid: 5 }, &[master.as_fd()]);
    init.report(InitReport::Started { id, pid: 6 }, &[]);
    assert_eq!(client.receive(), ClientReply::Started { pid: 5 });
    still_serves(&booted);
    init.report(InitReport::Exited { id, wait_status: 3 }, &[]);
    assert_eq!(client.receive(), ClientReply::Exited { wait_status: 3 });
    still_serves(&booted);
    assert_eq!(booted.descriptors(), before);
}

#[test]
fn noise_and_halves_are_survived() {
    let booted = Booted::ready();
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
    let booted = Booted::ready();
    // Many more commands than init's socket has room for: some wait in it, and the others are answered.
    let clients: Vec<_> = (0..600)
        .map(|_| {
            let client = booted.connect();
            client.ask_to_start(c"true");
            client
        })
        .collect();
    assert_eq!(clients[clients.len() - 1].receive(), NO_ROOM);
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
fn what_is_no_console_ends_the_container() {
    let file = File::open("/etc/passwd").unwrap();
    let (master, slave) = terminal();
    let (master, slave, file) = (master.as_fd(), slave.as_fd(), file.as_fd());
    for descriptors in [
        &[master][..],
        &[file],
        &[file, file],
        &[slave, file],
        // What is meant to be the folder comes second.
        &[file, master],
        &[master, file, file],
        &[master, file, file, file],
        &[master, file, file, file, file, file],
    ] {
        let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
        booted.init().report(InitReport::Console, descriptors);
        let ended = ClientReply::Ended { wait_status: 9 };
        assert_eq!(
            booted.boot.receive(),
            ended,
            "{} of them",
            descriptors.len()
        );
        assert!(booted.released().starts_with("release 9 kept\n"));
    }
}

#[test]
fn a_second_console_is_nobodys() {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    let (init, handed_over) = (booted.init(), booted.console.handed_over());
    // It may come without anything; then there is none yet.
    init.report(InitReport::Console, &[]);
    init.report(InitReport::Console, &handed_over);
    let none = booted.connect();
    none.ask(ClientRequest::NextSession { after: 0 }, &[]);
    assert_eq!(none.receive(), ClientReply::NoSession);
    let before = booted.descriptors();
    let (master, _slave) = terminal();
    for _ in 0..100 {
        init.report(InitReport::Console, &handed_over);
        init.report(InitReport::Console, &[master.as_fd()]);
        init.report(InitReport::Console, &[master.as_fd(); 8]);
        init.report(InitReport::Ready, &handed_over);
    }
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
    for _ in 0..100 {
        init.report(InitReport::Console, &handed_over);
    }
    still_serves(&booted);
    // The boot socket has closed.
    assert_eq!(booted.descriptors(), before - 1);
}

#[test]
fn without_a_console_there_are_no_sessions() {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    booted.init().report(InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
    // Now something of the container runs, and may have sent this.
    let handed_over = booted.console.handed_over();
    booted.init().report(InitReport::Console, &handed_over);
    still_serves(&booted);
    let client = booted.connect();
    client.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
    assert!(is_init_gone(&client.receive()));
    still_serves(&booted);
}

#[test]
fn a_folder_without_terminals_gives_none() {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    let before = booted.descriptors();
    let folder = File::open(&booted.folder).unwrap();
    std::fs::write(booted.folder.join("ptmx"), "no terminal").unwrap();
    let handed_over = [booted.console.master.as_fd(), folder.as_fd()];
    booted.init().report(InitReport::Console, &handed_over);
    booted.init().report(InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
    let failures = |errno| {
        let client = booted.connect();
        client.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
        let stage = Stage::Terminal;
        assert_eq!(client.receive(), ClientReply::NotStarted { stage, errno });
    };
    failures(libc::ENOTTY);
    std::fs::remove_file(booted.folder.join("ptmx")).unwrap();
    failures(libc::ENOENT);
    std::os::unix::fs::symlink("/dev/pts/ptmx", booted.folder.join("ptmx")).unwrap();
    failures(libc::ELOOP);
    still_serves(&booted);
    // The two descriptors of the console, and the boot socket that has closed.
    assert_eq!(booted.descriptors(), before + 2 - 1);
}

#[test]
fn what_is_mounted_over_the_terminals_is_not_opened() {
    let booted = Booted::with_played_init("exec sleep 1000", SIGUSR1);
    let pts = booted.folder.join("pts");
    std::fs::create_dir(&pts).unwrap();
    let (folder, mounted) = std::sync::mpsc::channel();
    let (done, end) = std::sync::mpsc::channel::<()>();
    let lab = std::thread::spawn(move || {
        // SAFETY: only this thread's mounts and working folder become its own; nothing else depends on them.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount(
            "devpts",
            &pts,
            "devpts",
            MountFlags::empty(),
            c"newinstance,ptmxmode=0666",
        )
        .unwrap();
        folder.send(File::open(&pts).unwrap()).unwrap();
        // A real multiplexer, of another instance: only its being mounted there is wrong.
        mount_bind("/dev/pts/ptmx", pts.join("ptmx")).unwrap();
        folder.send(File::open(&pts).unwrap()).unwrap();
        // The mounts go with the namespace, and it with the thread.
        let _ = end.recv();
    });
    let untouched = mounted.recv().unwrap();
    let folder = mounted.recv().unwrap();
    drop(untouched);
    let handed_over = [booted.console.master.as_fd(), folder.as_fd()];
    booted.init().report(InitReport::Console, &handed_over);
    booted.init().report(InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
    let client = booted.connect();
    client.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
    let (stage, errno) = (Stage::Terminal, libc::EXDEV);
    assert_eq!(client.receive(), ClientReply::NotStarted { stage, errno });
    still_serves(&booted);
    drop(folder);
    drop(done);
    lab.join().unwrap();
}

#[test]
fn lies_about_sessions_reach_no_looker() {
    let booted = Booted::ready();
    let init = booted.init();
    let empty = booted.descriptors();
    let client = booted.connect();
    client.ask_to_open(c"work", Lasting::Stays, SIZE, c"true");
    let (id, descriptors) = next_spawn(init);
    let [slave] = &descriptors[..] else {
        panic!("its side of the terminal, and nothing else");
    };
    assert!(rustix::termios::isatty(slave));
    assert!(
        ioctl_tiocgptpeer(slave, OpenptFlags::RDWR).is_err(),
        "a master"
    );
    let (master, other_slave) = terminal();
    let before = booted.descriptors();
    // An end before the beginning.
    init.report(InitReport::Exited { id, wait_status: 0 }, &[]);
    for stranger in [0, id + 1000, u32::MAX] {
        let stage = Stage::Execute;
        let started = InitReport::Started {
            id: stranger,
            pid: 2,
        };
        let not_started = InitReport::NotStarted {
            id: stranger,
            stage,
            errno: 2,
        };
        let exited = InitReport::Exited {
            id: stranger,
            wait_status: 0,
        };
        init.report(started, &[master.as_fd()]);
        init.report(not_started, &[master.as_fd(); 8]);
        init.report(exited, &[other_slave.as_fd()]);
    }
    still_serves(&booted);
    init.report(InitReport::Started { id, pid: 2 }, &[master.as_fd()]);
    let mut looker = Looker::begin(client);
    // Started again, and then not started after all.
    init.report(InitReport::Started { id, pid: 3 }, &[master.as_fd(); 2]);
    let (stage, errno) = (Stage::Execute, 2);
    init.report(InitReport::NotStarted { id, stage, errno }, &[]);
    File::from(slave.try_clone().unwrap())
        .write_all(b"shown")
        .unwrap();
    looker.sees("shown");
    assert_eq!(looker.text(), "shown");
    assert_eq!(booted.descriptors(), before);
    // Of two ends the first counts.
    init.report(InitReport::Exited { id, wait_status: 3 }, &[master.as_fd()]);
    init.report(InitReport::Exited { id, wait_status: 4 }, &[]);
    init.report(InitReport::Started { id, pid: 3 }, &[]);
    assert_eq!(looker.ends(), 3);
    assert_eq!(booted.sessions(), []);
    still_serves(&booted);
    drop(looker);
    assert_eq!(booted.descriptors(), empty);
}

#[test]
fn a_session_that_cannot_start_leaves_nothing() {
    let booted = Booted::ready();
    let before = booted.descriptors();
    for lasting in [Lasting::Stays, Lasting::Ends] {
        let client = booted.connect();
        client.ask_to_open(c"work", lasting, SIZE, c"true");
        let (id, _) = next_spawn(booted.init());
        let (stage, errno) = (Stage::Execute, 2);
        booted
            .init()
            .report(InitReport::NotStarted { id, stage, errno }, &[]);
        assert_eq!(client.receive(), ClientReply::NotStarted { stage, errno });
        client.closes();
        assert_eq!(booted.sessions(), []);
    }
    assert_eq!(booted.descriptors(), before);
}

#[test]
fn who_leaves_before_it_starts_leaves_a_session_or_none() {
    let booted = Booted::ready();
    let init = booted.init();
    let before = booted.descriptors();
    let leave = |lasting| {
        let client = booted.connect();
        client.ask_to_open(c"work", lasting, SIZE, c"true");
        next_spawn(init)
    };
    let (id, _slaves) = leave(Lasting::Ends);
    assert_eq!(booted.sessions(), []);
    // Nobody waits for it any more.
    init.report(InitReport::Started { id, pid: 2 }, &[]);
    init.report(InitReport::Exited { id, wait_status: 1 }, &[]);
    still_serves(&booted);
    assert_eq!(booted.descriptors(), before);

    let (id, slaves) = leave(Lasting::Stays);
    let early = booted.connect();
    early.ask_to_join(Target::Name(c"work"), Access::LookAndType, SIZE);
    assert_eq!(early.receive(), ClientReply::NoSession);
    early.ask_to_join(Target::Idle, Access::LookAndType, SIZE);
    assert_eq!(early.receive(), ClientReply::NoSession);
    init.report(InitReport::Started { id, pid: 2 }, &[]);
    still_serves(&booted);
    File::from(slaves[0].try_clone().unwrap())
        .write_all(b"shown")
        .unwrap();
    early.ask_to_join(Target::Idle, Access::LookAndType, SIZE);
    let mut looker = Looker::begin(early);
    let replay = looker.looks_back();
    assert!(replay.length == 5 || replay.length == 0);
    looker.sees("shown");
    init.report(InitReport::Exited { id, wait_status: 3 }, &[]);
    assert_eq!(looker.ends(), 3);
}

#[test]
fn sessions_do_not_wait_for_an_init_that_does_not_listen() {
    let booted = Booted::ready();
    let looking = booted.connect();
    looking.ask_to_open(c"work", Lasting::Stays, SIZE, c"true");
    let (id, _slaves) = next_spawn(booted.init());
    booted
        .init()
        .report(InitReport::Started { id, pid: 2 }, &[]);
    let mut looker = Looker::begin(looking);
    // Its socket has room for some, and no more.
    let mut waiting = Vec::new();
    let (full, before) = loop {
        let before = booted.descriptors();
        let client = booted.connect();
        client.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
        booted.descriptors();
        if is_readable(client.0.as_fd(), std::time::Duration::ZERO) {
            break (client, before);
        }
        waiting.push(client);
        assert!(waiting.len() < 1000, "its socket has no end");
    };
    assert_eq!(full.receive(), NO_ROOM);
    full.closes();
    drop(full);
    assert_eq!(booted.descriptors(), before);
    assert_eq!(booted.sessions().len(), waiting.len() + 1);
    // The session at hand goes on. Of two signals that find no room the later one is sent.
    File::from(_slaves[0].try_clone().unwrap())
        .write_all(b"shown")
        .unwrap();
    looker.sees("shown");
    let ending = booted.connect();
    for by_force in [false, true] {
        let target = Target::Name(c"work");
        ending.ask(ClientRequest::EndSession { target, by_force }, &[]);
    }
    booted.sessions();
    let mut spawned = 0;
    let signal = loop {
        match InitRequest::decode(&booted.init().receive_bytes().0).unwrap() {
            InitRequest::Spawn { .. } => spawned += 1,
            InitRequest::Signal { id: to, signal } => break (to, signal),
            other => panic!("not asked for: {other:?}"),
        }
    };
    assert_eq!((signal, spawned), ((id, 9), waiting.len()));
    booted
        .init()
        .report(InitReport::Exited { id, wait_status: 9 }, &[]);
    assert_eq!(looker.ends(), 9);
    assert_eq!(ending.receive(), ClientReply::Exited { wait_status: 9 });
    still_serves(&booted);
}

#[test]
fn sessions_end_with_an_init_that_is_not_the_root_process() {
    let mut booted = Booted::ready();
    let [running, starting] = [(); 2].map(|()| {
        let client = booted.connect();
        client.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
        (client, next_spawn(booted.init()))
    });
    let (client, (id, slaves)) = running;
    booted
        .init()
        .report(InitReport::Started { id, pid: 2 }, &[]);
    let mut looker = Looker::begin(client);
    File::from(slaves[0].try_clone().unwrap())
        .write_all(b"shown")
        .unwrap();
    booted.init = None;
    assert_eq!(looker.ends(), 9);
    assert_eq!(looker.text(), "shown");
    assert!(is_init_gone(&starting.0.receive()));
    assert_eq!(booted.sessions(), []);
    let late = booted.connect();
    late.ask_to_open(c"", Lasting::Stays, SIZE, c"true");
    assert!(is_init_gone(&late.receive()));
}

#[test]
fn a_given_root_process_outlives_init_and_gets_its_own_signal() {
    let mut booted = Booted::with_played_init(ROOT, SIGUSR1);
    booted.await_root();
    booted.init().report(InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
    let (running, starting) = (booted.connect(), booted.connect());
    let _pipes = running.ask_to_start(c"true");
    let (id, _) = next_spawn(booted.init());
    booted
        .init()
        .report(InitReport::Started { id, pid: 2 }, &[]);
    assert_eq!(running.receive(), ClientReply::Started { pid: 2 });
    let _other_pipes = starting.ask_to_start(c"true");
    next_spawn(booted.init());
    booted.init = None;
    assert_eq!(running.receive(), ClientReply::Exited { wait_status: 9 });
    assert!(is_init_gone(&starting.receive()));
    let late = booted.connect();
    let _late_pipes = late.ask_to_start(c"true");
    assert!(is_init_gone(&late.receive()));
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
    assert_eq!(booted.boot.receive(), ClientReply::Ended { wait_status: 9 });
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
    let handed_over = [master.as_fd(), booted.console.folder.as_fd()];
    booted.init().report(InitReport::Console, &handed_over);
    booted.init().report(InitReport::Ready, &[]);
    assert_eq!(booted.boot.receive(), ClientReply::Ready);
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
