//! Against servers that break the rules, or die: an error each time, in bounded time and memory, and never a panic.

use cocker_sftp::{ConnectCause, ConnectError, Session, SftpError, SftpErrorKind};
use proptest::prelude::*;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATIENT: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_secs(3);

const ALL_EXTENSIONS: &[(&str, &str)] = &[
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("fsync@openssh.com", "1"),
];

/// A server in a thread; it ends when the client is gone.
struct Fake(UnixStream);

/// A request as it came.
struct Request {
    kind: u8,
    id: u32,
    fields: Vec<u8>,
}

impl Fake {
    fn request(&mut self) -> io::Result<Request> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut packet)?;
        let id = u32::from_be_bytes(packet[1..5].try_into().expect("four bytes"));
        Ok(Request {
            kind: packet[0],
            id,
            fields: packet[5..].to_vec(),
        })
    }

    fn say(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut bytes = (packet.len() as u32).to_be_bytes().to_vec();
        bytes.extend(packet);
        self.0.write_all(&bytes)
    }

    fn greet(&mut self, extensions: &[(&str, &str)]) -> io::Result<()> {
        self.request()?;
        let mut version = vec![2, 0, 0, 0, 3];
        for (name, revision) in extensions {
            version.extend(string(name.as_bytes()));
            version.extend(string(revision.as_bytes()));
        }
        self.say(&version)
    }

    /// Keeps the connection until the client ends it.
    fn linger(&mut self) -> io::Result<()> {
        io::copy(&mut self.0, &mut io::sink()).map(|_| ())
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn reply(kind: u8, id: u32, fields: &[u8]) -> Vec<u8> {
    [&[kind], id.to_be_bytes().as_slice(), fields].concat()
}

fn status(id: u32, code: u32, words: &str) -> Vec<u8> {
    let fields = [
        &code.to_be_bytes(),
        string(words.as_bytes()).as_slice(),
        &string(b"en"),
    ]
    .concat();
    reply(101, id, &fields)
}

fn name_reply(id: u32, name: &[u8]) -> Vec<u8> {
    let fields = [
        &1u32.to_be_bytes(),
        string(name).as_slice(),
        &string(b""),
        &[0; 4],
    ]
    .concat();
    reply(104, id, &fields)
}

/// What a server does with a connection; it stops at the first error, which is the client's leaving.
fn raw(
    patience: Duration,
    serve: impl FnOnce(&mut Fake) -> io::Result<()> + Send + 'static,
) -> (Result<Session, ConnectError>, JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let server = std::thread::spawn(move || {
        let _ = serve(&mut Fake(theirs));
    });
    let to = ours.try_clone().expect("a second one").into();
    (Session::over(ours.into(), to, patience), server)
}

/// A session with a server that greets as it should and goes on as `serve` says; `work` uses it.
fn with<T>(
    patience: Duration,
    serve: impl FnOnce(&mut Fake) -> io::Result<()> + Send + 'static,
    work: impl FnOnce(&Session) -> T,
) -> T {
    let (session, server) = raw(patience, |fake| {
        fake.greet(ALL_EXTENSIONS)?;
        serve(fake)
    });
    let session = session.expect("it greets as it should");
    let done = work(&session);
    drop(session);
    server.join().expect("the server ends");
    done
}

/// The kind of error when each request gets what `answer` makes of it.
fn answered<T>(
    answer: impl Fn(&Request) -> Vec<u8> + Send + 'static,
    work: impl FnOnce(&Session) -> Result<T, SftpError>,
) -> SftpErrorKind {
    let serve = move |fake: &mut Fake| {
        loop {
            let request = fake.request()?;
            fake.say(&answer(&request))?;
        }
    };
    with(PATIENT, serve, |session| match work(session) {
        Ok(_) => panic!("this was to fail"),
        Err(error) => {
            if let SftpErrorKind::Protocol(_) = error.kind {
                let again = session.metadata("x").expect_err("the session is over");
                assert_eq!(again.kind, error.kind);
            }
            error.kind
        }
    })
}

fn protocol(what: &str) -> SftpErrorKind {
    SftpErrorKind::Protocol(what.to_owned())
}

/// A handle to whoever opens, and for all else what `other` makes of it.
fn open_then(other: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> impl Fn(&Request) -> Vec<u8> {
    move |request| match request.kind {
        3 | 11 => reply(102, request.id, &string(b"h")),
        4 => status(request.id, 0, ""),
        _ => other(request),
    }
}

fn read_all(session: &Session, end: u64) -> Result<Vec<u8>, SftpError> {
    let handle = session.read("file")?;
    let mut back = Vec::new();
    let read = session.download(&handle, 0, end).read_to_end(&mut back);
    read.map(|_| back)
        .map_err(|error| SftpError::of(&error).expect("one of ours").clone())
}

fn read_names(session: &Session) -> Result<(), SftpError> {
    session.read_folder(".", &mut |_| ControlFlow::Continue(()))
}

#[test]
fn a_reply_to_nobody_ends_the_session() {
    let kind = answered(
        |request| status(request.id + 7, 0, ""),
        |s| s.remove_file("x"),
    );
    assert_eq!(kind, protocol("a reply came that nobody asked for"));
}

#[test]
fn a_reply_that_comes_twice_ends_the_session() {
    let serve = |fake: &mut Fake| {
        let request = fake.request()?;
        fake.say(&status(request.id, 0, ""))?;
        fake.say(&status(request.id, 0, ""))?;
        fake.linger()
    };
    with(PATIENT, serve, |session| {
        session.remove_file("x").expect("the first one counts");
        let error = session.remove_file("x").expect_err("the second does not");
        assert_eq!(error.kind, protocol("a reply came that nobody asked for"));
    });
}

#[test]
fn a_reply_to_something_else_ends_the_session() {
    let expected = protocol("a reply is one to something else");
    assert_eq!(
        answered(|r| name_reply(r.id, b"x"), |s| s.metadata("x")),
        expected
    );
    assert_eq!(
        answered(|r| reply(201, r.id, &[0; 88]), |s| s.read("x")),
        expected
    );
    assert_eq!(
        answered(|r| reply(103, r.id, &string(b"x")), |s| s.read("x")),
        expected
    );
    assert_eq!(
        answered(|r| reply(77, r.id, &[]), |s| s.read("x")),
        expected
    );
    let success = protocol("success without what was asked for");
    assert_eq!(answered(|r| status(r.id, 0, ""), |s| s.read("x")), success);
}

#[test]
fn data_is_never_more_than_was_asked_for() {
    let kind = answered(open_then(|r| reply(103, r.id, &string(&[0; 101]))), |s| {
        read_all(s, 100)
    });
    assert_eq!(kind, protocol("more data than was asked for"));
    let kind = answered(open_then(|r| reply(103, r.id, &string(&[]))), |s| {
        read_all(s, 100)
    });
    assert_eq!(kind, protocol("data without a byte"));
}

#[test]
fn a_packet_of_any_other_length_ends_the_session() {
    let lengths = [
        (0xffff_ffff, "a packet is longer than 257 KiB"),
        (257 * 1024 + 1, "a packet is longer than 257 KiB"),
        (0, "a packet is too short for any reply"),
        (4, "a packet is too short for any reply"),
    ];
    for (length, what) in lengths {
        let serve = move |fake: &mut Fake| {
            fake.request()?;
            fake.0.write_all(&u32::to_be_bytes(length))?;
            fake.linger()
        };
        let kind = with(PATIENT, serve, |s| {
            s.metadata("x").expect_err("no packet").kind
        });
        assert_eq!(kind, protocol(what));
    }
}

#[test]
fn names_that_no_file_can_have_end_the_session() {
    let name =
        |name: &'static [u8]| answered(open_then(move |r| name_reply(r.id, name)), read_names);
    assert_eq!(name(b"a\0b"), protocol("a name has a NUL in it"));
    assert_eq!(name(b""), protocol("a name is empty"));
    assert_eq!(
        name(b"../x"),
        protocol("a name in a folder has a slash in it")
    );
    let long = answered(open_then(|r| name_reply(r.id, &[b'x'; 65536])), read_names);
    assert_eq!(long, protocol("a name is longer than 4096 bytes"));
    let real = answered(|r| name_reply(r.id, b"\xff"), |s| s.real_path("x"));
    assert!(matches!(real, SftpErrorKind::BadPath(_)));
    let none = answered(|r| reply(104, r.id, &[0; 4]), |s| s.real_path("x"));
    assert!(matches!(none, SftpErrorKind::Protocol(_)));
}

#[test]
fn a_number_in_a_packet_reserves_nothing() {
    let endless = |r: &Request| reply(104, r.id, &0xffff_ffff_u32.to_be_bytes());
    assert_eq!(
        answered(open_then(endless), read_names),
        protocol("a packet is cut off")
    );
    let text = |r: &Request| reply(103, r.id, &0xffff_ffff_u32.to_be_bytes());
    assert_eq!(
        answered(open_then(text), |s| read_all(s, 9)),
        protocol("a packet is cut off")
    );
    let pairs = |r: &Request| reply(105, r.id, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(
        answered(pairs, |s| s.metadata("x")),
        protocol("a packet is cut off")
    );
}

#[test]
fn attributes_are_whole_or_nothing() {
    let attributes = [0, 0, 0, 0x0f]
        .into_iter()
        .chain([1; 28])
        .collect::<Vec<u8>>();
    for cut in 0..attributes.len() {
        let part = attributes[..cut].to_vec();
        let kind = answered(move |r| reply(105, r.id, &part), |s| s.metadata("x"));
        assert_eq!(kind, protocol("a packet is cut off"), "{cut}");
    }
    let more = [attributes.as_slice(), b"x"].concat();
    let kind = answered(move |r| reply(105, r.id, &more), |s| s.metadata("x"));
    assert_eq!(kind, protocol("a packet is longer than what it says"));
    let kind = answered(|r| reply(105, r.id, &[0, 0, 1, 0]), |s| s.metadata("x"));
    assert!(matches!(kind, SftpErrorKind::Protocol(_)));
}

#[test]
fn nonsense_of_an_extension_is_no_room() {
    let kind = answered(|r| reply(201, r.id, b"nonsense"), |s| s.room("."));
    assert_eq!(kind, protocol("a packet is cut off"));
    let serve = |fake: &mut Fake| {
        let request = fake.request()?;
        fake.say(&reply(201, request.id, &[0xff; 88]))
    };
    with(PATIENT, serve, |s| {
        assert_eq!(s.room(".").expect("a number"), Some(u64::MAX))
    });
}

#[test]
fn a_status_of_any_number_is_an_error_with_harmless_words() {
    let kind = answered(
        |r| status(r.id, 99, "no\x1b[2J\nway"),
        |s| s.remove_file("x"),
    );
    assert_eq!(
        kind,
        SftpErrorKind::Failure("no\\u{1b}[2J\\nway (status 99)".to_owned())
    );
    let kind = answered(
        |r| reply(101, r.id, &4u32.to_be_bytes()),
        |s| s.remove_file("x"),
    );
    assert_eq!(
        kind,
        SftpErrorKind::Failure("status 4, without words".to_owned())
    );
    let kind = answered(
        |r| status(r.id, 4, &"x".repeat(200_000)),
        |s| s.remove_file("x"),
    );
    assert!(matches!(kind, SftpErrorKind::Failure(words) if words.len() <= 1024));
    let kind = answered(
        |r| status(r.id, 8, "Operation unsupported"),
        |s| s.remove_file("x"),
    );
    assert_eq!(kind, SftpErrorKind::Unsupported);
}

#[test]
fn a_folder_without_an_end_is_read_for_as_long_as_it_is_wanted() {
    let answer = open_then(|r| {
        let entry = [string(b"again").as_slice(), &string(b""), &[0; 4]].concat();
        let fields = [1000u32.to_be_bytes().as_slice(), &entry.repeat(1000)].concat();
        reply(104, r.id, &fields)
    });
    let serve = move |fake: &mut Fake| {
        loop {
            let request = fake.request()?;
            fake.say(&answer(&request))?;
        }
    };
    with(PATIENT, serve, |session| {
        let mut seen = 0;
        let read = session.read_folder(".", &mut |_| {
            seen += 1;
            if seen < 200_000 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        read.expect("it was enough");
        assert_eq!(seen, 200_000);
    });
}

#[test]
fn a_folder_of_nothing_again_and_again_ends() {
    let answer = open_then(|r| reply(104, r.id, &[0; 4]));
    let serve = move |fake: &mut Fake| {
        loop {
            let request = fake.request()?;
            fake.say(&answer(&request))?;
        }
    };
    with(PATIENT, serve, |session| {
        read_names(session).expect("empty")
    });
}

#[test]
fn a_folder_that_names_itself_again_and_again_ends() {
    let kind = answered(open_then(|r| name_reply(r.id, b".")), read_names);
    assert_eq!(kind, protocol("a folder names itself again and again"));
}

#[test]
fn a_byte_now_and_then_is_no_sign_of_life() {
    let serve = |fake: &mut Fake| {
        let request = fake.request()?;
        let mut packet = status(request.id, 4, &"x".repeat(900));
        packet.splice(0..0, (packet.len() as u32).to_be_bytes());
        for byte in packet {
            fake.0.write_all(&[byte])?;
            std::thread::sleep(IMPATIENT / 6);
        }
        fake.linger()
    };
    let began = Instant::now();
    with(IMPATIENT, serve, |session| {
        let error = session.remove_file("x").expect_err("it does not come");
        assert_eq!(error.kind, SftpErrorKind::Silent { seconds: 3 });
    });
    assert!(began.elapsed() < 10 * IMPATIENT);
}

#[test]
fn silence_is_an_error_after_the_patience_and_not_much_later() {
    let began = Instant::now();
    let kind = with(IMPATIENT, Fake::linger, |s| {
        s.metadata("x").expect_err("silent").kind
    });
    assert_eq!(kind, SftpErrorKind::Silent { seconds: 3 });
    assert!(began.elapsed() >= IMPATIENT);
    assert!(began.elapsed() < PATIENT);

    let (session, server) = raw(IMPATIENT, Fake::linger);
    let error = session.err().expect("it does not greet");
    assert!(
        matches!(error.cause, ConnectCause::Silent { .. }),
        "{error:?}"
    );
    server.join().expect("it ends");
}

#[test]
fn a_server_that_takes_nothing_does_not_hold_an_upload() {
    // It keeps the connection and reads no more, until the client is done.
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let serve = move |fake: &mut Fake| {
        let request = fake.request()?;
        fake.say(&reply(102, request.id, &string(b"h")))?;
        let _ = wait.recv();
        Ok(())
    };
    with(IMPATIENT, serve, |session| {
        let handle = session.create_new("x", 0o600).expect("created");
        let mut upload = session.upload(&handle, 0);
        let error = upload
            .write_all(&vec![0; 64 * 1024 * 1024])
            .expect_err("nobody takes it");
        let kind = SftpError::of(&error).map(|error| error.kind.clone());
        assert_eq!(kind, Some(SftpErrorKind::Silent { seconds: 3 }));
        drop(done);
    });
}

#[test]
fn a_server_that_goes_away_is_a_lost_connection() {
    let lost = SftpErrorKind::ConnectionLost {
        words: String::new(),
    };
    let leaves = |fake: &mut Fake| fake.request().map(|_| ());
    assert_eq!(
        with(PATIENT, leaves, |s| s.metadata("x").expect_err("gone").kind),
        lost
    );
    let in_the_middle = |fake: &mut Fake| {
        let request = fake.request()?;
        let packet = status(request.id, 0, "all is well");
        fake.0.write_all(&(packet.len() as u32).to_be_bytes())?;
        fake.0.write_all(&packet[..packet.len() / 2])
    };
    assert_eq!(
        with(PATIENT, in_the_middle, |s| s
            .metadata("x")
            .expect_err("gone")
            .kind),
        lost
    );
    let (session, server) = raw(PATIENT, |fake| fake.request().map(|_| ()));
    let error = session.err().expect("it is gone before it greets");
    assert!(
        matches!(error.cause, ConnectCause::Ended { .. }),
        "{error:?}"
    );
    server.join().expect("it ends");
}

#[test]
fn what_was_acknowledged_before_a_loss_is_known() {
    let serve = |fake: &mut Fake| {
        let request = fake.request()?;
        fake.say(&reply(102, request.id, &string(b"h")))?;
        for _ in 0..3 {
            let request = fake.request()?;
            fake.say(&status(request.id, 0, ""))?;
        }
        fake.request().map(|_| ())
    };
    with(PATIENT, serve, |session| {
        let handle = session.create_new("x", 0o600).expect("created");
        let mut upload = session.upload(&handle, 1000);
        let written = upload
            .write_all(&[1; 10 * 32 * 1024])
            .and_then(|()| upload.flush());
        let error = written.expect_err("it goes away");
        let kind = &SftpError::of(&error).expect("one of ours").kind;
        assert!(matches!(kind, SftpErrorKind::ConnectionLost { .. }));
        assert_eq!(upload.acknowledged(), 1000 + 3 * 32 * 1024);
    });
}

/// Serves one file's bytes: at most `most` of them at a time, replies `in_a_row` and backwards.
fn file_server(
    bytes: Vec<u8>,
    most: usize,
    in_a_row: usize,
) -> impl Fn(&mut Fake) -> io::Result<()> {
    move |fake| {
        let answer = |request: &Request| match request.kind {
            3 => reply(102, request.id, &string(b"h")),
            5 => {
                let field = |at: std::ops::Range<usize>| {
                    request.fields[at]
                        .iter()
                        .fold(0, |all, byte| all << 8 | usize::from(*byte))
                };
                let (offset, length) = (field(5..13), field(13..17));
                let end = bytes.len().min(offset + length.min(most));
                reply(103, request.id, &string(&bytes[offset..end]))
            }
            _ => status(request.id, 0, ""),
        };
        let opened = fake.request()?;
        fake.say(&answer(&opened))?;
        loop {
            let mut replies = Vec::new();
            for _ in 0..in_a_row {
                replies.push(answer(&fake.request()?));
            }
            for reply in replies.iter().rev() {
                fake.say(reply)?;
            }
        }
    }
}

#[test]
fn replies_may_come_in_any_order_and_in_short_pieces() {
    let bytes: Vec<u8> = (0..1_000_000_u32)
        .flat_map(|n| n.to_le_bytes())
        .take(1_000_000)
        .collect();
    for (most, in_a_row) in [(usize::MAX, 1), (1000, 1), (32767, 1), (usize::MAX, 8)] {
        // Pieces of 32 KiB in whole rows.
        let length = 24 * 32 * 1024;
        let serve = file_server(bytes.clone(), most, in_a_row);
        let back = with(PATIENT, serve, |s| {
            read_all(s, length as u64).expect("read")
        });
        assert!(back == bytes[..length], "{most} {in_a_row}");
    }
}

#[test]
fn the_greeting_is_of_version_three_or_there_is_no_session() {
    let cause = |bytes: &'static [u8]| {
        let (session, server) = raw(PATIENT, move |fake| {
            fake.request()?;
            fake.0.write_all(bytes)?;
            fake.linger()
        });
        let cause = session.err().expect("no session").cause;
        server.join().expect("it ends");
        cause
    };
    let other = cause(&[0, 0, 0, 5, 2, 0, 0, 0, 6]);
    assert!(
        matches!(other, ConnectCause::Version { version: 6 }),
        "{other:?}"
    );
    let text = cause(b"\nWelcome to \x1b[1mthe host\nand more\n");
    let ConnectCause::NotSftp { first_line } = text else {
        panic!("{text:?}")
    };
    assert_eq!(first_line, "Welcome to \\u{1b}[1mthe host");
    let no_version: [&[u8]; 5] = [
        &[0, 0, 0, 5, 101, 0, 0, 0, 3],
        &[0, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 1, 2],
        &[0, 0, 0, 9, 2, 0, 0, 0, 3, 0, 0, 0, 9],
    ];
    for bytes in no_version {
        let cause = cause(bytes);
        assert!(
            matches!(cause, ConnectCause::Protocol(_)),
            "{bytes:?}: {cause:?}"
        );
    }
}

#[test]
fn limits_that_make_no_sense_are_not_followed() {
    for limits in [[0_u64; 4], [u64::MAX; 4], [1; 4]] {
        let (session, server) = raw(PATIENT, move |fake| {
            fake.greet(&[("limits@openssh.com", "1")])?;
            let request = fake.request()?;
            let fields: Vec<u8> = limits
                .iter()
                .flat_map(|limit| limit.to_be_bytes())
                .collect();
            fake.say(&reply(201, request.id, &fields))?;
            loop {
                let request = fake.request()?;
                assert!(
                    request.fields.len() < 256 * 1024,
                    "a packet that no server takes"
                );
                let handle = reply(102, request.id, &string(b"h"));
                fake.say(&if request.kind == 3 {
                    handle
                } else {
                    status(request.id, 0, "")
                })?;
            }
        });
        let session = session.expect("a session");
        let handle = session.create_new("x", 0o600).expect("created");
        let mut upload = session.upload(&handle, 0);
        upload.write_all(&vec![0; 1_000_000]).expect("written");
        assert_eq!(upload.finish().expect("acknowledged"), 1_000_000);
        session.close(handle).expect("closed");
        drop(session);
        server.join().expect("it ends");
    }
}

/// A packet of one of the replies' types with the right id, then changed somewhere.
fn mutated() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let kind = prop::sample::select(vec![101, 102, 103, 104, 105, 201]);
    let small = prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        Just(4),
        Just(5),
        Just(0xff),
        any::<u8>()
    ];
    let number = small.prop_map(|n: u8| [0, 0, 0, n].to_vec());
    let part = prop_oneof![number, prop::collection::vec(any::<u8>(), 0..24)];
    (
        kind,
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever comes: each operation ends, well or not, and nothing panics.
    #[test]
    fn any_replies_are_survived(replies in prop::collection::vec(mutated(), 1..40)) {
        let serve = move |fake: &mut Fake| {
            for (kind, fields) in replies.iter().cycle().take(400) {
                let request = fake.request()?;
                fake.say(&reply(*kind, request.id, fields))?;
            }
            Ok(())
        };
        with(PATIENT, serve, |session| {
            let _ = session.metadata("x");
            let _ = session.room("x");
            let _ = session.real_path("x");
            let mut seen = 0;
            let _ = session.read_folder("x", &mut |entry| {
                assert!(!entry.name.is_empty() && !entry.name.contains(&0));
                seen += 1;
                if seen < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            let _ = read_all(session, 100_000);
            if let Ok(handle) = session.create_new("x", 0o600) {
                let mut upload = session.upload(&handle, 0);
                let _ = upload.write_all(&[0; 100_000]);
                let _ = upload.finish();
                let _ = session.handle_metadata(&handle);
                let _ = session.close(handle);
            }
            let _ = session.rename_new("x", "y");
        });
    }
}
