//! Any bytes, shown in a session: however they are cut, the modes are the same, they travel in a message, and what takes them
//! back does so wherever the bytes ended.
//!
//! The first byte of the input is the seed of the cuts.
#![no_main]

use cocker_protocol::{ClientReply, ModeTracker, Modes};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&seed, shown)) = input.split_first() else {
        return;
    };
    let mut whole = ModeTracker::default();
    whole.follow(shown);
    let modes = whole.modes();

    let mut bytewise = ModeTracker::default();
    for byte in shown {
        bytewise.follow(std::slice::from_ref(byte));
    }
    assert_eq!(bytewise.modes(), modes);

    let mut cut = ModeTracker::default();
    let (mut rest, mut length) = (shown, usize::from(seed));
    while !rest.is_empty() {
        length = (length * 7 + 3) % 41;
        let (part, behind) = rest.split_at(length.min(rest.len()));
        cut.follow(part);
        rest = behind;
    }
    assert_eq!(cut.modes(), modes);

    // Whoever takes them back may have to do so within a sequence.
    for mut tracker in [whole, bytewise, cut] {
        modes.undo(|part| tracker.follow(part));
        assert_eq!(tracker.modes(), Modes::default());
    }

    // On a fresh terminal they come about again; taking back undoes that as well.
    let mut again = ModeTracker::default();
    modes.enter_screen(|part| again.follow(part));
    assert_eq!(
        again.modes().is_alternate_screen(),
        modes.is_alternate_screen()
    );
    modes.redo(|part| again.follow(part));
    let redone = again.modes();
    modes.undo(|part| again.follow(part));
    assert_eq!(again.modes(), Modes::default());
    let mut only_redone = ModeTracker::default();
    redone.enter_screen(|part| only_redone.follow(part));
    redone.redo(|part| only_redone.follow(part));
    assert_eq!(only_redone.modes(), redone);

    let reply = ClientReply::Replay {
        length: 0,
        rows: 0,
        columns: 0,
        modes,
    };
    let mut buffer = [0; 64];
    let length = reply.encode(&mut buffer).expect("a reply is short");
    assert_eq!(ClientReply::decode(&buffer[..length]), Ok(reply));
});
