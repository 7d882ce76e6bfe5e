//! Round trips, and what happens to bytes that are no message.
extern crate std;

use std::ffi::CStr;
use std::format;
use std::vec;
use std::vec::Vec;

use crate::{
    Access, ClientReply, ClientRequest, DecodeError, Groups, InitReport, InitRequest, Lasting,
    LogTime, MAX_GROUPS, MAX_LABEL, MAX_MESSAGE, ModeTracker, Modes, Open, Refusal, SessionRow,
    Spawn, Stage, Stream, Strings, Target, TooLong, VERSION, times_head,
};

const GROUPS: [u8; 8] = [1, 0, 0, 0, 0xff, 0xff, 0, 0];

fn spawn(stream: Stream) -> Spawn<'static> {
    Spawn {
        stream,
        uid: 1000,
        gid: 100,
        groups: Groups::from_le_bytes(&GROUPS).unwrap(),
        program: c"/bin/sh",
        arguments: Strings::from_joined(b"sh\0-c\0\0exit 7\0").unwrap(),
        environment: Strings::from_joined(b"PATH=/bin:/usr/bin\0TERM=xterm\0").unwrap(),
        directory: c"/root",
        directory_required: true,
    }
}

const TERMINAL: Stream = Stream::Terminal {
    rows: 50,
    columns: 132,
};

fn client_requests() -> Vec<ClientRequest<'static>> {
    vec![
        ClientRequest::Spawn(spawn(Stream::Pipes)),
        ClientRequest::Spawn(spawn(TERMINAL)),
        ClientRequest::Spawn(Spawn {
            groups: Groups::default(),
            arguments: Strings::default(),
            environment: Strings::default(),
            directory_required: false,
            ..spawn(Stream::Pipes)
        }),
        ClientRequest::Signal { signal: 15 },
        ClientRequest::Shutdown { timeout_ms: 10_000 },
        ClientRequest::Kill,
        ClientRequest::Open(Open {
            name: c"work",
            who: c"calvin",
            lasting: Lasting::Stays,
            most_recorded: 0,
            spawn: spawn(TERMINAL),
        }),
        ClientRequest::Open(Open {
            name: c"",
            who: c"",
            lasting: Lasting::Ends,
            most_recorded: 1 << 40,
            spawn: spawn(TERMINAL),
        }),
        join(Target::Idle, Access::LookAndType),
        join(Target::Number(3), Access::LookOnly),
        join(Target::Name(c"work"), Access::LookAndType),
        ClientRequest::Input { bytes: b"ls\r" },
        ClientRequest::Resize {
            rows: 24,
            columns: 80,
        },
        ClientRequest::NextSession { after: 7 },
        ClientRequest::EndSession {
            target: Target::Number(7),
            by_force: true,
        },
    ]
}

fn join(target: Target<'static>, access: Access) -> ClientRequest<'static> {
    ClientRequest::Join {
        target,
        access,
        rows: 50,
        columns: 132,
    }
}

fn modes() -> Modes {
    let mut tracker = ModeTracker::default();
    tracker.follow(b"\x1b[?1049h\x1b[>1u");
    tracker.modes()
}

fn client_replies() -> Vec<ClientReply<'static>> {
    let mut replies = vec![
        ClientReply::Ready,
        ClientReply::Started { pid: 42 },
        ClientReply::Exited { wait_status: 0x700 },
        ClientReply::Ended { wait_status: 9 },
        ClientReply::Looking { number: 4 },
        ClientReply::Replay {
            length: 65536,
            rows: 24,
            columns: 80,
            modes: modes(),
        },
        ClientReply::Output { bytes: b"\x1b[1mx" },
        ClientReply::NoSession,
        ClientReply::Session(SessionRow {
            number: 4,
            name: c"work",
            who: c"calvin",
            command: c"-bash",
            since: 1 << 40,
            rows: 24,
            columns: 80,
            lookers: 2,
        }),
    ];
    replies.extend(stages().map(|stage| ClientReply::NotStarted { stage, errno: 2 }));
    replies.extend(
        [
            Refusal::NotAllowed,
            Refusal::TooMany,
            Refusal::Malformed,
            Refusal::WrongVersion,
            Refusal::TooManySessions,
            Refusal::NameTaken,
        ]
        .map(|why| ClientReply::Refused { why }),
    );
    replies
}

fn init_requests() -> Vec<InitRequest<'static>> {
    vec![
        InitRequest::Spawn {
            id: 7,
            spawn: spawn(Stream::Pipes),
        },
        InitRequest::Spawn {
            id: u32::MAX,
            spawn: spawn(TERMINAL),
        },
        InitRequest::Spawn {
            id: 1,
            spawn: spawn(Stream::Nothing),
        },
        InitRequest::Signal { id: 3, signal: 2 },
        InitRequest::End { id: 9 },
        InitRequest::Shutdown { timeout_ms: 1 },
    ]
}

fn init_reports() -> Vec<InitReport> {
    let mut reports = vec![
        InitReport::Console,
        InitReport::Ready,
        InitReport::Started { id: 1, pid: 2 },
        InitReport::Exited {
            id: 1,
            wait_status: 15,
        },
    ];
    reports.extend(stages().map(|stage| InitReport::NotStarted {
        id: 5,
        stage,
        errno: 13,
    }));
    reports
}

fn stages() -> impl Iterator<Item = Stage> {
    (1..).map_while(Stage::from_number)
}

/// Encodes every message of every enum.
fn every_message() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut keep = |encode: &dyn Fn(&mut [u8]) -> Result<usize, TooLong>| {
        let mut buffer = vec![0xa5; 4096];
        let length = encode(&mut buffer).unwrap();
        buffer.truncate(length);
        messages.push(buffer);
    };
    client_requests()
        .iter()
        .for_each(|m| keep(&|b| m.encode(b)));
    client_replies().iter().for_each(|m| keep(&|b| m.encode(b)));
    init_requests().iter().for_each(|m| keep(&|b| m.encode(b)));
    init_reports().iter().for_each(|m| keep(&|b| m.encode(b)));
    messages
}

/// Decodes in all four ways and returns how many took the bytes for a message.
fn decodes(bytes: &[u8]) -> usize {
    // Whatever decodes is also looked at wholly, and encodes to the same bytes.
    let mut again = vec![0; MAX_MESSAGE];
    let compare = |length: usize, buffer: &[u8]| assert_eq!(&buffer[..length], bytes);
    let mut count = 0;
    if let Ok(message) = ClientRequest::decode(bytes) {
        let _ = format!("{message:?}");
        compare(message.encode(&mut again).unwrap(), &again);
        count += 1;
    }
    if let Ok(message) = ClientReply::decode(bytes) {
        compare(message.encode(&mut again).unwrap(), &again);
        count += 1;
    }
    if let Ok(message) = InitRequest::decode(bytes) {
        if let InitRequest::Spawn { spawn, .. } = message {
            assert_eq!(spawn.arguments.iter().count(), spawn.arguments.len());
            assert_eq!(spawn.groups.iter().count(), spawn.groups.len());
        }
        compare(message.encode(&mut again).unwrap(), &again);
        count += 1;
    }
    if let Ok(message) = InitReport::decode(bytes) {
        compare(message.encode(&mut again).unwrap(), &again);
        count += 1;
    }
    count
}

/// Numbers that look random and are the same in every run.
fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn every_message_comes_back_as_it_was() {
    let mut buffer = vec![0; 4096];
    for message in client_requests() {
        let length = message.encode(&mut buffer).unwrap();
        assert_eq!(ClientRequest::decode(&buffer[..length]), Ok(message));
    }
    for message in client_replies() {
        let length = message.encode(&mut buffer).unwrap();
        assert_eq!(ClientReply::decode(&buffer[..length]), Ok(message));
    }
    for message in init_requests() {
        let length = message.encode(&mut buffer).unwrap();
        assert_eq!(InitRequest::decode(&buffer[..length]), Ok(message));
    }
    for message in init_reports() {
        let length = message.encode(&mut buffer).unwrap();
        assert_eq!(InitReport::decode(&buffer[..length]), Ok(message));
    }
}

#[test]
fn a_message_means_something_in_one_direction_only() {
    for message in every_message() {
        assert_eq!(decodes(&message), 1, "{message:?}");
    }
}

#[test]
fn a_message_cut_short_or_continued_is_an_error() {
    for message in every_message() {
        for end in 0..message.len() {
            assert_eq!(decodes(&message[..end]), 0, "{end} bytes of {message:?}");
        }
        let mut longer = message.clone();
        longer.push(0);
        assert_eq!(decodes(&longer), 0);
    }
}

/// The body of these is whatever there is.
fn is_open_ended(message: &[u8]) -> bool {
    matches!(
        ClientRequest::decode(message),
        Ok(ClientRequest::Input { .. })
    ) || matches!(ClientReply::decode(message), Ok(ClientReply::Output { .. }))
}

#[test]
fn output_is_the_head_and_what_follows_it() {
    let mut message = ClientReply::output_head(3).to_vec();
    message.extend_from_slice(b"abc");
    let output = ClientReply::Output { bytes: b"abc" };
    assert_eq!(ClientReply::decode(&message), Ok(output));
}

#[test]
fn a_label_has_a_longest_length() {
    let long = vec![b'x'; MAX_LABEL + 1];
    let long = std::ffi::CString::new(long).unwrap();
    let request = join(Target::Idle, Access::LookOnly);
    let ClientRequest::Join {
        access,
        rows,
        columns,
        ..
    } = request
    else {
        unreachable!()
    };
    let target = Target::Name(&long);
    let request = ClientRequest::Join {
        target,
        access,
        rows,
        columns,
    };
    assert_eq!(request.encode(&mut vec![0; 4096]), Err(TooLong));
}

#[test]
fn a_body_cut_short_with_an_honest_head_is_an_error() {
    for message in every_message() {
        if is_open_ended(&message) {
            continue;
        }
        for end in 8..message.len() {
            let mut cut = message[..end].to_vec();
            cut[4..8].copy_from_slice(&(end as u32 - 8).to_le_bytes());
            assert_eq!(decodes(&cut), 0, "{end} bytes of {message:?}");
        }
    }
}

#[test]
fn any_four_bytes_that_lie_are_survived() {
    for message in every_message() {
        for at in 0..message.len().saturating_sub(3) {
            for lie in [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, u32::MAX] {
                let mut lying = message.clone();
                lying[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                decodes(&lying);
            }
        }
    }
}

#[test]
fn random_bytes_are_survived() {
    let mut random = xorshift(0x9e37_79b9_7f4a_7c15);
    let messages = every_message();
    for round in 0..100_000 {
        let mut bytes = match round % 2 {
            // Pure noise rarely passes the head; a real message with some bytes changed goes deeper.
            0 => vec![0; random() as usize % 256],
            _ => messages[random() as usize % messages.len()].clone(),
        };
        match round % 2 {
            0 => bytes.fill_with(|| random() as u8),
            _ => {
                for _ in 0..=random() % 4 {
                    let at = random() as usize % bytes.len();
                    bytes[at] = random() as u8;
                }
            }
        }
        decodes(&bytes);
    }
}

#[test]
fn another_version_is_named() {
    for mut message in every_message() {
        message[..2].copy_from_slice(&(VERSION + 1).to_le_bytes());
        let wrong = DecodeError::WrongVersion(VERSION + 1);
        assert_eq!(ClientRequest::decode(&message), Err(wrong));
        assert_eq!(ClientReply::decode(&message), Err(wrong));
        assert_eq!(InitRequest::decode(&message), Err(wrong));
        assert_eq!(InitReport::decode(&message), Err(wrong));
        // A future version may be shorter than today's head.
        assert_eq!(InitReport::decode(&message[..2]), Err(wrong));
    }
}

#[test]
fn a_list_of_another_length_than_said_is_an_error() {
    let mut message = vec![0; 4096];
    let length = ClientRequest::Spawn(spawn(Stream::Pipes))
        .encode(&mut message)
        .unwrap();
    message.truncate(length);
    let count = message
        .windows(8)
        .position(|window| window == [4, 0, 0, 0, 14, 0, 0, 0])
        .expect("four arguments of fourteen bytes");
    message[count] = 5;
    assert_eq!(
        ClientRequest::decode(&message),
        Err(DecodeError::Malformed("a list of another length than said"))
    );
}

#[test]
fn a_message_that_does_not_fit_is_too_long() {
    let long = vec![0; MAX_MESSAGE];
    let mut buffer = vec![0; 2 * MAX_MESSAGE];
    let request = ClientRequest::Spawn(Spawn {
        arguments: Strings::from_joined(&long).unwrap(),
        ..spawn(Stream::Pipes)
    });
    assert_eq!(request.encode(&mut buffer), Err(TooLong));
    for room in 0..12 {
        let reply = ClientReply::Started { pid: 1 };
        assert_eq!(reply.encode(&mut buffer[..room]), Err(TooLong));
    }
    assert_eq!(
        InitReport::decode(&vec![0; MAX_MESSAGE + 1]),
        Err(DecodeError::TooLong)
    );
}

#[test]
fn strings_and_groups_are_taken_only_whole() {
    assert_eq!(Strings::from_joined(b"sh\0-c"), None);
    assert!(Strings::from_joined(b"").unwrap().is_empty());
    let strings = Strings::from_joined(b"\0a\0").unwrap();
    let all: Vec<&CStr> = strings.iter().collect();
    assert_eq!(all, [c"", c"a"]);

    assert_eq!(Groups::from_le_bytes(&[0; 5]), None);
    assert_eq!(Groups::from_le_bytes(&vec![0; 4 * (MAX_GROUPS + 1)]), None);
    let groups = Groups::from_le_bytes(&GROUPS).unwrap();
    assert_eq!(groups.iter().collect::<Vec<_>>(), [1, 0xffff]);
}

#[test]
fn the_times_of_a_log_have_their_form_on_disk() {
    assert_eq!(
        times_head(0x0102),
        *b"ckrtimes\x02\x01\x00\x00\x00\x00\x00\x00"
    );
    let time = LogTime {
        offset: 0x0304,
        time_ms: u64::MAX,
    };
    let bytes = *b"\x04\x03\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff";
    assert_eq!(time.encode(), bytes);
    assert_eq!(LogTime::decode(&bytes), time);
}
