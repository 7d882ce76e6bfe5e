use crate::{
    Allowance, Encoder, Header, LAST_LINE, LEAST_ROOM, NoRoom, Room, last_line, marker, resize,
};
use serde_json::{Value, json};
use std::string::String;
use std::vec;
use std::vec::Vec;

/// Encodes the pieces one after the other, each with this much room, and returns what was written.
fn recorded(pieces: &[&[u8]], room: usize) -> Vec<u8> {
    let (mut encoder, mut file) = (Encoder::new(), Vec::new());
    let mut out = vec![0; room];
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let encoded = encoder.output(1, rest, &mut out);
            assert!(encoded.consumed > 0, "{rest:?} with room for {room} bytes");
            file.extend_from_slice(&out[..encoded.written]);
            rest = &rest[encoded.consumed..];
        }
    }
    let written = encoder.end(2, &mut out);
    file.extend_from_slice(&out[..written]);
    file
}

/// The text of all events, as a player puts it together.
fn played(file: &[u8]) -> String {
    let file = std::str::from_utf8(file).expect("a recording is UTF-8");
    assert!(file.is_empty() || file.ends_with('\n'));
    file.lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line).expect(line);
            assert_eq!(event.as_array().unwrap().len(), 3, "{line}");
            assert_eq!(event[1], "o");
            let text = event[2].as_str().unwrap();
            assert!(!text.is_empty(), "an event without text");
            String::from(text)
        })
        .collect()
}

/// A generator of numbers that is the same everywhere (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn any_bytes_split_anyhow_are_the_lossy_text_of_the_whole() {
    // Whole characters, halves of some, surrogates, too long ones, and what terminals get.
    let parts: [&[u8]; 22] = [
        b"plain",
        "äöü".as_bytes(),
        "漢字".as_bytes(),
        "🦀".as_bytes(),
        "\u{80}\u{9f}\u{a0}".as_bytes(),
        b"\xf0\x9f\xa6",
        b"\xe6\xbc",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xe0\x80\x80",
        b"\xe0\xa0",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xf5\xff\xfe",
        b"\x80\xbf",
        b"\xc0\xaf\xc1",
        b"\x1b[1m\x1b[0m\x07\x7f\0",
        b"\"quoted\" \\ back",
        b"\r\n\t\x08\x0c",
        b"",
        b"\xe2\x80\xa8",
    ];
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    for round in 0..4000 {
        let mut whole = Vec::new();
        for _ in 0..numbers.next(12) {
            match numbers.next(4) {
                0 => whole.push(numbers.next(256) as u8),
                _ => whole.extend_from_slice(parts[numbers.next(parts.len())]),
            }
        }
        let (mut pieces, mut rest) = (Vec::new(), &whole[..]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(1 + numbers.next(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let room = LEAST_ROOM + numbers.next(200);
        let file = recorded(&pieces, room);
        let expected = String::from_utf8_lossy(&whole);
        assert_eq!(played(&file), expected, "round {round}: {pieces:?}");
        assert!(
            file.iter()
                .all(|&byte| byte == b'\n' || (byte >= 0x20 && byte != 0x7f)),
            "round {round}: a control character"
        );
        let text = std::str::from_utf8(&file).unwrap();
        assert!(!text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c)));
    }
}

#[test]
fn every_byte_alone_and_after_every_other_is_as_the_standard_library_has_it() {
    for first in 0..=255 {
        for second in 0..=255 {
            let file = recorded(&[&[first], &[second]], LEAST_ROOM);
            let expected = String::from_utf8_lossy(&[first, second]).into_owned();
            assert_eq!(played(&file), expected, "{first:#x} {second:#x}");
        }
    }
}

#[test]
fn plain_output_goes_back_to_the_beginning_of_the_line() {
    let (mut encoder, mut out) = (Encoder::of_plain_output(), [0; LEAST_ROOM]);
    let encoded = encoder.output(0, b"a\xc3\nb\r\n", &mut out);
    assert_eq!(encoded.consumed, 6);
    assert_eq!(played(&out[..encoded.written]), "a\u{fffd}\r\nb\r\r\n");
    let mut rest = &b"\xc3\n".repeat(20)[..];
    while !rest.is_empty() {
        let encoded = encoder.output(u64::MAX, rest, &mut out);
        assert!(encoded.consumed > 0);
        assert!(out[..encoded.written].ends_with(b"\"]\n"));
        rest = &rest[encoded.consumed..];
    }
}

#[test]
fn a_character_in_two_writes_is_shown_once_it_is_whole() {
    let (mut encoder, mut out) = (Encoder::new(), [0; 128]);
    let crab = "🦀".as_bytes();
    let begun = encoder.output(500_000, &crab[..3], &mut out);
    assert_eq!((begun.consumed, begun.written), (3, 0));
    let ended = encoder.output(1_500_000, &crab[3..], &mut out);
    assert_eq!(
        &out[..ended.written],
        "[1.500000,\"o\",\"🦀\"]\n".as_bytes()
    );
    assert_eq!(encoder.end(0, &mut out), 0);
}

#[test]
fn a_line_fits_into_the_room_there_is() {
    let (mut encoder, mut out) = (Encoder::new(), [0; LEAST_ROOM]);
    // The longest time, and the longest that single bytes become.
    for bytes in [
        b"\x01\x01\x01\x01\x01\x01\x01\x01",
        b"\xe2\x01\xe2\x01\xe2\x01\xe2\x01",
    ] {
        let encoded = encoder.output(u64::MAX, bytes, &mut out);
        assert!(encoded.consumed > 0);
        assert!(out[..encoded.written].starts_with(b"[18446744073709.551615,"));
        assert!(out[..encoded.written].ends_with(b"\"]\n"));
    }
    let encoded = encoder.output(0, b"x", &mut out[..LEAST_ROOM - 1]);
    assert_eq!((encoded.consumed, encoded.written), (0, 0));
    assert!(resize(u64::MAX, u16::MAX, u16::MAX, &mut out).is_ok());
    let label = [1; 100];
    assert_eq!(marker(0, &label, &mut out), Err(NoRoom));
    assert_eq!(Header::default().encode(&mut out[..10]), Err(NoRoom));
}

#[test]
fn the_first_line_says_what_it_is_given() {
    let mut out = [0; 512];
    let header = Header {
        columns: 80,
        rows: 24,
        timestamp: Some(1_504_467_315),
        title: Some(b"web"),
        command: Some(b"echo \"\xff\"\n"),
        term: Some(b"xterm"),
        shell: Some(b"/bin/sh"),
    };
    let length = header.encode(&mut out).unwrap();
    let said: Value = serde_json::from_slice(&out[..length]).unwrap();
    let expected = json!({
        "version": 2, "width": 80, "height": 24, "timestamp": 1_504_467_315, "title": "web",
        "command": "echo \"\u{fffd}\"\n", "env": { "TERM": "xterm", "SHELL": "/bin/sh" },
    });
    assert_eq!(said, expected);
    for header in [
        Header {
            term: None,
            ..header
        },
        Header {
            shell: None,
            ..header
        },
        Header::default(),
    ] {
        let length = header.encode(&mut out).unwrap();
        let said: Value = serde_json::from_slice(&out[..length]).unwrap();
        assert_eq!(said["version"], 2);
        assert_eq!(out[length - 1], b'\n');
        assert_eq!(said.get("env").is_some(), header != Header::default());
    }
}

#[test]
fn a_recording_never_outgrows_its_allowance() {
    for most in [0, 127, 128, 129, 200, 1000] {
        let (mut allowance, mut written) = (Allowance::of(most), 0);
        let mut last = [0; LAST_LINE];
        let mut lines = 0;
        loop {
            match allowance.take(50) {
                Room::ForLine => written += 50,
                Room::ForLastLine => {
                    written += last_line(u64::MAX, &mut last);
                    lines += 1;
                }
                Room::None => break,
            }
        }
        assert_eq!(lines, 1);
        assert!(
            written as u64 <= most.max(LAST_LINE as u64),
            "{written} of {most}"
        );
        assert_eq!(allowance.take(0), Room::None);
    }
    let mut last = [0; LAST_LINE];
    let length = last_line(0, &mut last);
    assert!(last[..length].starts_with(b"[0.000000,\"m\",\"the recording ends here"));
    assert!(last[..length].ends_with(b"\"]\n"));
}

#[test]
fn sizes_and_markers_are_events_of_their_own() {
    let mut out = [0; 128];
    let length = resize(1_001_376, 100, 50, &mut out).unwrap();
    assert_eq!(&out[..length], b"[1.001376,\"r\",\"100x50\"]\n");
    let length = marker(7, b"the \"end\"", &mut out).unwrap();
    assert_eq!(&out[..length], b"[0.000007,\"m\",\"the \\\"end\\\"\"]\n");
}
