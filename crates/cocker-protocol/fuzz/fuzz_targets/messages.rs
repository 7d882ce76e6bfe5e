//! Any bytes, decoded as each of the four kinds of message: what decodes encodes to the same bytes, and at most one of the
//! four takes them.
//!
//! The first byte of the input says whether the head is made honest, with our version and the length that follows it: no
//! fuzzer keeps a length right while it changes what it counts.
#![no_main]

use std::cell::RefCell;

use cocker_protocol::{
    ClientReply, ClientRequest, InitReport, InitRequest, MAX_MESSAGE, Spawn, TooLong, VERSION,
};
use libfuzzer_sys::fuzz_target;

const HEAD: usize = 8;

thread_local! {
    static AGAIN: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_MESSAGE]);
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let mut message = bytes.to_vec();
    if choice & 1 == 0 && message.len() >= HEAD {
        let length = (message.len() - HEAD) as u32;
        message[..2].copy_from_slice(&VERSION.to_le_bytes());
        message[4..HEAD].copy_from_slice(&length.to_le_bytes());
    }
    let mut taken = 0;
    if let Ok(request) = ClientRequest::decode(&message) {
        match request {
            ClientRequest::Spawn(spawn) => look_at(spawn),
            ClientRequest::Open(open) => look_at(open.spawn),
            _ => {}
        }
        assert!(!format!("{request:?}").is_empty());
        taken += compare(&message, |buffer| request.encode(buffer));
    }
    if let Ok(reply) = ClientReply::decode(&message) {
        if let ClientReply::Replay { modes, .. } = reply {
            // Each sequence is short, and their number is bounded.
            let mut written = 0;
            modes.enter_screen(|part| written += part.len());
            modes.redo(|part| written += part.len());
            modes.undo(|part| written += part.len());
            assert!(written < 4096);
        }
        taken += compare(&message, |buffer| reply.encode(buffer));
    }
    if let Ok(request) = InitRequest::decode(&message) {
        if let InitRequest::Spawn { spawn, .. } = request {
            look_at(spawn);
        }
        taken += compare(&message, |buffer| request.encode(buffer));
    }
    if let Ok(report) = InitReport::decode(&message) {
        taken += compare(&message, |buffer| report.encode(buffer));
    }
    assert!(taken <= 1, "it means something in two directions");
});

/// Encodes what `message` was decoded to, which gives its bytes again, and fits nowhere smaller.
fn compare(message: &[u8], encode: impl Fn(&mut [u8]) -> Result<usize, TooLong>) -> u32 {
    AGAIN.with_borrow_mut(|again| {
        let length = encode(again).expect("what fitted fits");
        assert_eq!(&again[..length], message);
        assert_eq!(encode(&mut again[..length - 1]), Err(TooLong));
    });
    1
}

/// What is said of the lists holds when they are walked.
fn look_at(spawn: Spawn<'_>) {
    for list in [spawn.arguments, spawn.environment] {
        assert_eq!(list.iter().count(), list.len());
        let bytes: usize = list.iter().map(|string| string.count_bytes() + 1).sum();
        assert_eq!(bytes, list.as_joined().len());
    }
    assert_eq!(spawn.groups.iter().count(), spawn.groups.len());
}
