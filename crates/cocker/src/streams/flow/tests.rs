//! Flows between pipes and files, as poll would drive them.

use super::*;
use crate::standard_streams::set_nonblocking;
use rustix::event::poll;
use rustix::pipe::pipe;
use std::fs::File;
use std::io::{Read, Write};

/// Drives the flow until it is finished or nothing can move.
fn drive(flow: &mut Flow<'_>) -> Progress {
    for _ in 0..10_000 {
        let mut polled = flow.interest();
        let no_time = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if poll(&mut polled, Some(&no_time)).unwrap() == 0 {
            return Progress::GoesOn;
        }
        let events = (polled[0].revents(), polled[1].revents());
        if flow.advance(events.0, events.1, &mut |_| {}).unwrap() == Progress::Finished {
            return Progress::Finished;
        }
    }
    panic!("the flow spins");
}

fn own(source: OwnedFd) -> Source<'static> {
    set_nonblocking(&source).unwrap();
    Source::OwnPipe(source)
}

fn read_some(file: &mut File) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let count = file.read(&mut bytes).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn bytes_go_from_pipe_to_pipe_and_the_end_is_seen() {
    let (source, write) = pipe().unwrap();
    let (read, sink) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(sink.as_fd()));
    assert_eq!(drive(&mut flow), Progress::GoesOn);
    File::from(write).write_all(b"all of it").unwrap();
    assert_eq!(drive(&mut flow), Progress::Finished);
    assert_eq!(read_some(&mut File::from(read)), b"all of it");
}

#[test]
fn a_full_sink_is_waited_for_without_spinning() {
    let (source, write) = pipe().unwrap();
    let (read, sink) = pipe().unwrap();
    set_nonblocking(&sink).unwrap();
    while io::write(&sink, &[0; 4096]).is_ok() {}
    let mut flow = Flow::new(own(source), Sink::own_pipe(sink));
    io::write(&write, b"late").unwrap();
    assert_eq!(drive(&mut flow), Progress::GoesOn);
    let mut read = File::from(read);
    read_some(&mut read);
    assert_eq!(drive(&mut flow), Progress::GoesOn);
    assert_eq!(read_some(&mut read), b"late");
}

#[test]
fn a_reader_that_went_away_finishes_the_flow() {
    let (source, write) = pipe().unwrap();
    let (read, sink) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(sink.as_fd()));
    drop(read);
    // Nothing was written yet: the flow ends all the same, so that the writer is told in time.
    assert_eq!(drive(&mut flow), Progress::Finished);
    drop(write);
}

#[test]
fn a_file_that_is_appended_to_gets_its_bytes_by_copying() {
    let path = std::env::temp_dir().join(format!("cocker-flow-{}", std::process::id()));
    let file = File::options()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    let (source, write) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(file.as_fd()));
    let meant: Vec<u8> = (0..60_000u32).map(|byte| byte as u8).collect();
    File::from(write).write_all(&meant).unwrap();
    assert_eq!(drive(&mut flow), Progress::Finished);
    let written = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(written == meant, "{} bytes", written.len());
}

#[test]
fn a_file_is_a_source_that_ends() {
    let file = File::open("/proc/self/exe").unwrap();
    let (read, sink) = pipe().unwrap();
    set_nonblocking(&sink).unwrap();
    let mut flow = Flow::new(Source::Shared(file.as_fd()), Sink::own_pipe(sink));
    let mut read = File::from(read);
    let mut bytes = Vec::new();
    while drive(&mut flow) == Progress::GoesOn {
        bytes.extend(read_some(&mut read));
    }
    drop(flow);
    read.read_to_end(&mut bytes).unwrap();
    assert!(
        bytes == std::fs::read("/proc/self/exe").unwrap(),
        "{} bytes",
        bytes.len()
    );
}

#[test]
fn after_the_ending_only_what_is_there_is_taken() {
    let (source, write) = pipe().unwrap();
    let (read, sink) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(sink.as_fd()));
    io::write(&write, b"before").unwrap();
    assert_eq!(flow.end_after_what_is_there(), Progress::GoesOn);
    io::write(&write, b" and after").unwrap();
    assert_eq!(drive(&mut flow), Progress::Finished);
    assert_eq!(read_some(&mut File::from(read)), b"before");
}

#[test]
fn after_the_ending_an_empty_pipe_is_not_waited_for() {
    let (source, _write) = pipe().unwrap();
    let (_read, sink) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(sink.as_fd()));
    assert_eq!(flow.end_after_what_is_there(), Progress::Finished);
}

#[test]
fn sockets_are_written_to_without_blocking() {
    let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
    let (source, write) = pipe().unwrap();
    let mut flow = Flow::new(own(source), Sink::shared(near.as_fd()));
    let mut write = File::from(write);
    let mut pushed = 0;
    // Until the socket is full: the flow gives up its turn instead of standing still.
    while pushed < 4 << 20
        && poll(
            &mut [PollFd::new(&write, PollFlags::OUT)],
            Some(&Default::default()),
        )
        .unwrap()
            > 0
    {
        pushed += write.write(&[7; 4096]).unwrap();
        assert_eq!(drive(&mut flow), Progress::GoesOn);
    }
    assert!(pushed < 4 << 20, "a socket takes no end of bytes");
    drop(write);
    let mut got = 0;
    let mut bytes = vec![0; 1 << 16];
    far.set_nonblocking(true).unwrap();
    loop {
        let progress = drive(&mut flow);
        got += far.read(&mut bytes).unwrap_or(0);
        if progress == Progress::Finished {
            break;
        }
    }
    while let Ok(count @ 1..) = far.read(&mut bytes) {
        got += count;
    }
    assert_eq!(got, pushed);
}
