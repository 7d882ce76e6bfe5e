//! What clients of a booted container see: a real supervisor over a real `cockerinit`.
mod support;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use cocker_protocol::{ClientReply, ClientRequest, Lasting, Open, Refusal, Stream};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use support::{Booted, PATIENCE, is_readable, shell};

const EXITED_WITH_7: ClientReply<'static> = ClientReply::Exited {
    wait_status: 7 << 8,
};

fn refused(why: Refusal) -> ClientReply<'static> {
    ClientReply::Refused { why }
}

#[test]
fn a_command_runs_and_its_status_comes_back() {
    let booted = Booted::with_init();
    let client = booted.connect();
    let (mut input, mut output) = client.start(c"read word; echo got $word; exit 7");
    input.write_all(b"this\n").unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "got this\n");
    assert_eq!(client.receive(), EXITED_WITH_7);
    client.closes();
}

#[test]
fn a_signal_reaches_the_command_of_its_connection() {
    let booted = Booted::with_init();
    let (one, other) = (booted.connect(), booted.connect());
    let _one = one.start(c"exec cat");
    let (input, _output) = other.start(c"cat; exit 7");
    one.ask(ClientRequest::Signal { signal: 15 }, &[]);
    assert_eq!(one.receive(), ClientReply::Exited { wait_status: 15 });
    drop(input);
    assert_eq!(other.receive(), EXITED_WITH_7);
}

#[test]
fn a_client_that_hangs_up_takes_its_command_along() {
    let booted = Booted::with_init();
    let client = booted.connect();
    let (_input, mut output) = client.start(c"trap '' HUP TERM; echo ready; exec cat");
    drop(client);
    let mut text = String::new();
    // The command's end of the pipe closes, whenever it got there.
    output.read_to_string(&mut text).unwrap();
    assert_eq!(
        booted
            .connect()
            .start(c"exit 0")
            .1
            .read_to_string(&mut text)
            .unwrap(),
        0
    );
}

#[test]
fn a_detached_command_goes_on_without_its_client() {
    let booted = Booted::with_init();
    let open = || {
        let folder = format!("/proc/{}/fd", booted.supervisor.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    // The command waits in a FIFO, and leaves a file behind when it ends.
    let fifo = std::env::temp_dir().join(format!("cocker-detached-{}", std::process::id()));
    let (left, mode) = (fifo.with_extension("left"), Mode::RWXU);
    mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    let script = format!(
        "sh\0-c\0read word <{}; echo $word >{}\0",
        fifo.display(),
        left.display()
    );
    let before = open();
    let client = booted.connect();
    let spawn = shell(script.as_bytes(), Stream::Nothing);
    client.ask(ClientRequest::Spawn(spawn), &[]);
    assert!(matches!(
        client.receive().get(),
        ClientReply::Started { .. }
    ));
    client.closes();
    drop(client);
    // Whoever is served after the closing is served after it was noticed.
    let witness = booted.connect();
    let _pipes = witness.start(c"exit 7");
    assert_eq!(witness.receive(), EXITED_WITH_7);
    witness.closes();
    drop(witness);
    eventually(|| open() == before);
    // Waits until the command reads.
    std::fs::write(&fifo, "here\n").unwrap();
    eventually(|| std::fs::read(&left).is_ok_and(|text| text == b"here\n"));

    // Not even before it has started is it the client's.
    std::fs::remove_file(&left).unwrap();
    let client = booted.connect();
    client.ask(ClientRequest::Spawn(spawn), &[]);
    drop(client);
    std::fs::write(&fifo, "again\n").unwrap();
    eventually(|| std::fs::read(&left).is_ok_and(|text| text == b"again\n"));
    eventually(|| open() == before);
    std::fs::remove_file(left).unwrap();
    std::fs::remove_file(fifo).unwrap();

    let surplus = booted.connect();
    let pipes = support::pair();
    let spawn = ClientRequest::Spawn(shell(b"sh\0", Stream::Nothing));
    surplus.ask(spawn, &[pipes.0.as_fd()]);
    assert_eq!(surplus.receive(), refused(Refusal::Malformed));
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never comes true");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_no_request_is_refused_and_nobody_else_notices() {
    let booted = Booted::with_init();
    let bystander = booted.connect();
    let (input, _output) = bystander.start(c"cat; exit 7");
    let pipes = support::pair();
    let before = booted.descriptors();

    let garbage = booted.connect();
    garbage.send(&[0xff; 50], &[]).unwrap();
    assert_eq!(garbage.receive(), refused(Refusal::WrongVersion));
    garbage.closes();
    let unknown = booted.connect();
    unknown
        .send(&[2, 0, 9, 9, 0, 0, 0, 0], &[pipes.0.as_fd()])
        .unwrap();
    assert_eq!(unknown.receive(), refused(Refusal::Malformed));
    let long = booted.connect();
    long.send(&vec![1; 200_000], &[]).unwrap();
    assert_eq!(long.receive(), refused(Refusal::Malformed));
    let early = booted.connect();
    early.ask(ClientRequest::Signal { signal: 9 }, &[]);
    assert_eq!(early.receive(), refused(Refusal::Malformed));
    for count in [0, 2, 4] {
        let client = booted.connect();
        let descriptors = vec![pipes.0.as_fd(); count];
        let spawn = ClientRequest::Spawn(shell(b"sh\0", Stream::Pipes));
        client.ask(spawn, &descriptors);
        assert_eq!(client.receive(), refused(Refusal::Malformed));
    }
    // A terminal is a session's, and a session has one.
    let terminal = Stream::Terminal {
        rows: 24,
        columns: 80,
    };
    for count in [0, 1, 3] {
        let client = booted.connect();
        let spawn = ClientRequest::Spawn(shell(b"sh\0", terminal));
        client.ask(spawn, &vec![pipes.0.as_fd(); count]);
        assert_eq!(client.receive(), refused(Refusal::Malformed));
        let client = booted.connect();
        let open = ClientRequest::Open(Open {
            name: c"",
            who: c"",
            lasting: Lasting::Stays,
            most_recorded: 0,
            spawn: shell(b"sh\0", Stream::Pipes),
        });
        client.ask(open, &vec![pipes.0.as_fd(); count]);
        assert_eq!(client.receive(), refused(Refusal::Malformed));
        // A session is recorded into one file, and into nothing that could wait.
        let client = booted.connect();
        let open = ClientRequest::Open(Open {
            name: c"",
            who: c"",
            lasting: Lasting::Stays,
            most_recorded: 1 << 20,
            spawn: shell(b"sh\0", terminal),
        });
        client.ask(open, &vec![pipes.0.as_fd(); count]);
        assert_eq!(client.receive(), refused(Refusal::Malformed));
    }
    for looks_at_nothing in [
        ClientRequest::Input { bytes: b"x" },
        ClientRequest::Resize {
            rows: 1,
            columns: 1,
        },
    ] {
        let client = booted.connect();
        client.ask(looks_at_nothing, &[]);
        assert_eq!(client.receive(), refused(Refusal::Malformed));
    }
    let twice = booted.connect();
    let _pipes = twice.start(c"exec cat");
    twice.ask(ClientRequest::Kill, &[]);
    assert_eq!(twice.receive(), refused(Refusal::Malformed));
    drop((garbage, unknown, long, early, twice));
    assert_eq!(booted.descriptors(), before);

    drop(input);
    assert_eq!(bystander.receive(), EXITED_WITH_7);
}

#[test]
fn two_hundred_clients_are_served_at_once() {
    let booted = Booted::with_init();
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let client = booted.connect();
            let pipes = client.ask_to_start(c"cat; exit 7");
            (client, pipes)
        })
        .collect();
    for (client, _) in &clients {
        assert!(matches!(
            client.receive().get(),
            ClientReply::Started { .. }
        ));
    }
    for (client, pipes) in clients {
        drop(pipes);
        assert_eq!(client.receive(), EXITED_WITH_7);
    }
}

#[test]
fn a_shutdown_ends_in_a_release() {
    let booted = Booted::with_init();
    let running = booted.connect();
    let (_input, output) = running.start(c"trap '' TERM; echo ready; while :; do read x; done");
    assert!(is_readable(output.as_fd(), support::PATIENCE));
    let waiting = booted.connect();
    waiting.ask(ClientRequest::Shutdown { timeout_ms: 200 }, &[]);
    assert_eq!(running.receive(), ClientReply::Exited { wait_status: 9 });
    waiting.closes();
    let released = booted.released();
    let lines: Vec<_> = released.lines().collect();
    // init ends by itself, or is killed where it is late.
    assert!(
        ["release 0 kept", "release 9 kept"].contains(&lines[0]),
        "{}",
        lines[0]
    );
    // The standard streams, the lock, the folder and the network's. The command's connection had number 7, and nobody
    // waits for more on it; the one that waits was put above all these, where `release` lets go of everything.
    let kept: Vec<_> = lines[1..lines.len() - 2].to_vec();
    assert_eq!(kept, ["0", "1", "2", "3", "4", "9", "10", "11"]);
    assert_eq!(lines[lines.len() - 2], "SigBlk: 0000000000000000");
    assert_eq!(lines[lines.len() - 1], "SigIgn: 0000000000000000");
}

#[test]
fn the_hosts_own_shutdown_is_orderly_too() {
    let booted = Booted::with_init();
    let client = booted.connect();
    let (_input, mut output) =
        client.start(c"trap 'exit 7' TERM; echo ready; while :; do read x; done");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    let supervisor = Pid::from_child(&booted.supervisor);
    for harmless in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::PIPE] {
        kill_process(supervisor, harmless).unwrap();
    }
    kill_process(supervisor, Signal::TERM).unwrap();
    assert_eq!(client.receive(), EXITED_WITH_7);
    assert!(booted.released().starts_with("release 0 kept\n"));
}

#[test]
fn a_kill_ends_everything_at_once() {
    let booted = Booted::with_init();
    let (running, idle, killer) = (booted.connect(), booted.connect(), booted.connect());
    let (_input, output) = running.start(c"trap '' TERM; exec cat");
    killer.ask(ClientRequest::Kill, &[]);
    assert_eq!(running.receive(), ClientReply::Exited { wait_status: 9 });
    assert!(is_readable(output.as_fd(), support::PATIENCE));
    killer.closes();
    idle.closes();
    assert!(booted.released().starts_with("release 9 kept\n"));
}
