//! Any bytes as what a server says: every operation ends, well or with an error, and what it gives keeps its promises.
//!
//! The first byte of the input says whether the packets are made honest, with a length that fits and the ids in their order:
//! no fuzzer keeps both right while it changes what stands behind them.
#![no_main]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cocker_sftp::Session;
use libfuzzer_sys::fuzz_target;

/// A server of version 3 with the extensions that are asked for.
const GREETING: &[u8] = b"\x02\0\0\0\x03\
    \0\0\0\x18posix-rename@openssh.com\0\0\0\x011\
    \0\0\0\x13statvfs@openssh.com\0\0\0\x012\
    \0\0\0\x11fsync@openssh.com\0\0\0\x011";

fuzz_target!(|input: &[u8]| {
    let Some((honest, rest)) = input.split_first() else { return };
    let said = if honest & 1 == 1 { packets(rest) } else { rest.to_vec() };
    let (ours, mut theirs) = UnixStream::pair().expect("a pair");
    // Less than a socket holds, so nobody has to read meanwhile; and behind it the end, so nobody waits.
    if theirs.write_all(&said).is_err() || theirs.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let to = ours.try_clone().expect("a second one");
    if let Ok(session) = Session::over(ours.into(), to.into(), Duration::from_secs(5)) {
        operate(&session);
    }
});

/// Each run of bytes up to its given length becomes a packet, with the next id behind its type.
fn packets(mut rest: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    push(&mut said, GREETING);
    let mut id = 0_u32;
    while let Some((length, behind)) = rest.split_first() {
        let (fields, next) = behind.split_at(behind.len().min(usize::from(*length)));
        id += 1;
        let Some((kind, fields)) = fields.split_first() else { break };
        push(&mut said, &[&[*kind], id.to_be_bytes().as_slice(), fields].concat());
        rest = next;
    }
    said
}

fn push(said: &mut Vec<u8>, packet: &[u8]) {
    said.extend((packet.len() as u32).to_be_bytes());
    said.extend(packet);
}

fn operate(session: &Session) {
    let _ = session.metadata("x");
    let _ = session.room("x");
    let _ = session.real_path("x");
    let mut seen = 0;
    let _ = session.read_folder("x", &mut |entry| {
        assert!(!entry.name.is_empty() && entry.name.len() <= 4096);
        assert!(!entry.name.contains(&0) && !entry.name.contains(&b'/'));
        assert!(entry.name != b"." && entry.name != b"..");
        seen += 1;
        if seen < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if let Ok(handle) = session.read("x") {
        let mut back = Vec::new();
        let read = session.download(&handle, 0, 1000).read_to_end(&mut back);
        assert!(back.len() <= 1000);
        assert!(read.is_err() || back.len() == 1000);
    }
    if let Ok(handle) = session.create_new("x", 0o600) {
        let mut upload = session.upload(&handle, 0);
        let written = upload.write_all(&[7; 1000]).and_then(|()| upload.flush());
        assert_eq!(written.is_ok(), upload.acknowledged() == 1000);
        drop(upload);
        let _ = session.set_size(&handle, 1);
        let _ = session.sync(&handle);
        let _ = session.handle_metadata(&handle);
        let _ = session.close(handle);
    }
    let _ = session.make_folder("x", 0o700);
    let _ = session.replace("x", "y");
    if let Err(error) = session.rename_new("x", "y") {
        assert!(!error.said().chars().any(char::is_control));
    }
}
