//! Lookers that take little, nothing, or leave in the middle; and programs that read nothing. None holds up another, and
//! nothing is lost but what has to be.
mod support;

use std::ffi::CString;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use cocker_protocol::{ClientRequest, MAX_MESSAGE, Target};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::net::SendFlags;
use support::{Booted, Looker, News, Replay};

const RING: usize = 64 * 1024;
const EXITED_WITH_7: i32 = 7 << 8;
/// How long a looker that takes nothing is waited for.
const WAITED: Duration = Duration::from_secs(5);

/// Waits for a byte, then shows the numbers up to this one.
fn counts_to(last: u32) -> CString {
    CString::new(format!(
        "stty raw -echo; echo ready; head -c 1 >/dev/null; seq 1 {last}; head -c 1 >/dev/null; exit 7"
    ))
    .unwrap()
}

fn counted(last: u32) -> Vec<u8> {
    let numbers = (1..=last).flat_map(|number| format!("{number}\n").into_bytes());
    b"ready\n".iter().copied().chain(numbers).collect()
}

fn opened(booted: &Booted, last: u32) -> Looker {
    let mut looker = booted.open(&counts_to(last));
    looker.sees("ready\n");
    looker
}

#[test]
fn who_takes_nothing_is_left_behind_and_comes_back_to_the_last_of_it() {
    const LAST: u32 = 1_000_000;
    let booted = Booted::with_init();
    let mut quick = opened(&booted, LAST);
    let target = Target::Number(quick.number);
    let mut stopped = booted.join(target);
    let replay = stopped.looks_back();
    assert_eq!((replay.length, stopped.text()), (6, "ready\n".into()));
    let whole = counted(LAST);
    quick.types(b"x");
    let mut pauses = 0;
    while quick.seen.len() < whole.len() {
        let waits = Instant::now();
        assert!(matches!(quick.takes(), News::Output(_)));
        pauses += usize::from(waits.elapsed() > WAITED / 2);
    }
    assert!(quick.seen == whole);
    assert_eq!(pauses, 1, "it was waited for once");
    // What had been sent before comes first, and without a hole.
    let replay = loop {
        match stopped.takes() {
            News::Output(_) => {}
            News::Replay(replay) => break replay,
            other => panic!("{other:?}"),
        }
    };
    assert!(stopped.seen == whole[..stopped.seen.len()]);
    assert!(stopped.seen.len() < whole.len() / 2);
    assert_eq!(replay.length, RING);
    stopped.seen.clear();
    while stopped.seen.len() < RING {
        assert!(matches!(stopped.takes(), News::Output(_)));
    }
    assert!(stopped.seen == whole[whole.len() - RING..]);
    // From here on it is as good as any other.
    quick.types(b"x");
    assert_eq!(stopped.ends(), EXITED_WITH_7);
    assert_eq!(quick.ends(), EXITED_WITH_7);
}

#[test]
fn who_takes_nothing_holds_up_no_end() {
    let booted = Booted::with_init();
    let before = booted.descriptors();
    let mut quick = booted.open(c"echo ready; read x; seq 1 1000000; exit 7");
    quick.sees("ready");
    let mut stopped = booted.join(Target::Number(quick.number));
    let alone = booted.open(c"seq 1 1000000; exit 7");
    let begun = Instant::now();
    quick.types(b"\n");
    assert_eq!(quick.ends(), EXITED_WITH_7);
    assert!(quick.text().ends_with("\n1000000\r\n"));
    booted.until(|booted| booted.sessions().is_empty());
    // Each is waited for twice at most: while it shows something, and at its end.
    assert!(begun.elapsed() < 12 * WAITED, "{:?}", begun.elapsed());
    loop {
        match stopped.takes() {
            News::Output(_) | News::Replay(_) => {}
            News::Closed => break,
            // Where it has taken a little in between there is room for the last word, too.
            News::Exited(status) => assert_eq!(status, EXITED_WITH_7),
            other => panic!("{other:?}"),
        }
    }
    drop((quick, stopped, alone));
    assert_eq!(booted.descriptors(), before);
}

#[test]
fn the_last_word_waits_for_room() {
    let booted = Booted::with_init();
    for kib in (80..=224).step_by(3) {
        let script = format!("stty raw -echo; head -c {kib}K /dev/zero; exit 7");
        let mut looker = booted.open(&CString::new(script).unwrap());
        // It has ended, and nobody has taken anything: some connections are full to the last byte. Who takes nothing for too long
        // is left.
        let begun = Instant::now();
        while !booted.sessions().is_empty() && begun.elapsed() < WAITED / 5 {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(looker.ends(), EXITED_WITH_7, "{kib} KiB");
        assert_eq!(looker.seen.len(), kib * 1024);
    }
    let number = booted.open(c"exit 7").number;
    assert_eq!(number, 1);
}

#[test]
fn who_takes_little_by_little_misses_nothing() {
    const LAST: u32 = 60_000;
    let booted = Booted::with_init();
    let mut slow = opened(&booted, LAST);
    let mut quick = booted.join(Target::Number(slow.number));
    quick.looks_back();
    let whole = counted(LAST);
    let length = whole.len();
    slow.types(b"x");
    let reader = thread::spawn(move || {
        while quick.seen.len() < length {
            assert!(matches!(quick.takes(), News::Output(_)));
        }
        quick
    });
    // So slowly that its connection has no room for longer than anybody is waited for, while it takes all the time: the
    // kernel tells of room only when three quarters are free.
    let begun = Instant::now();
    let pace = Duration::from_secs(12).div_f64(whole.len() as f64);
    while slow.seen.len() < whole.len() {
        match slow.takes() {
            News::Output(_) => {}
            other => panic!("{other:?} after {:?}", begun.elapsed()),
        }
        let due = pace.mul_f64(slow.seen.len() as f64);
        thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    assert!(begun.elapsed() > WAITED);
    assert!(slow.seen == whole);
    assert!(reader.join().unwrap().seen == whole);
}

#[test]
fn who_leaves_in_the_middle_of_a_flood_leaves_the_others_to_it() {
    const LAST: u32 = 200_000;
    let booted = Booted::with_init();
    let before = booted.descriptors();
    let mut stays = opened(&booted, LAST);
    let target = Target::Number(stays.number);
    let leaving: Vec<_> = (0..10).map(|_| booted.join(target)).collect();
    stays.types(b"x");
    // Some have taken a part, some nothing; what is sent to them goes nowhere.
    for (index, mut looker) in leaving.into_iter().enumerate() {
        for _ in 0..index {
            looker.takes();
        }
        drop(looker);
        stays.takes();
    }
    let whole = counted(LAST);
    while stays.seen.len() < whole.len() {
        assert!(matches!(stays.takes(), News::Output(_)));
    }
    assert!(stays.seen == whole);
    assert_eq!(booted.sessions()[0].lookers, 1);
    stays.types(b"x");
    assert_eq!(stays.ends(), EXITED_WITH_7);
    drop(stays);
    assert_eq!(booted.descriptors(), before);
}

#[test]
fn a_flood_that_nobody_looks_at_runs_to_its_end() {
    const LAST: u32 = 300_000;
    let booted = Booted::with_init();
    let looker = opened(&booted, LAST);
    let number = looker.number;
    looker.types(b"x");
    drop(looker);
    let mut late = booted.join(Target::Number(number));
    late.looks_back();
    late.sees("\n300000\n");
    late.types(b"x");
    assert_eq!(late.ends(), EXITED_WITH_7);
    let whole = counted(LAST);
    let seen = late.seen.len().min(whole.len());
    assert!(late.seen[late.seen.len() - seen..] == whole[whole.len() - seen..]);
}

#[test]
fn floods_do_not_keep_others_from_being_served() {
    let booted = Booted::with_init();
    let mut floods: Vec<_> = (0..3).map(|_| booted.open(c"yes 0123456789")).collect();
    let readers: Vec<_> = floods
        .drain(..)
        .map(|mut looker| {
            thread::spawn(move || {
                while let News::Output(_) = looker.takes() {
                    looker.seen.clear();
                }
            })
        })
        .collect();
    let mut calm = booted.open(c"stty -echo; echo ready; while read word; do echo got $word; done");
    calm.sees("ready");
    let begun = Instant::now();
    for round in 0..100 {
        calm.types(format!("{round}\n").as_bytes());
        calm.sees(&format!("got {round}\r\n"));
    }
    let each = begun.elapsed() / 100;
    assert!(each < Duration::from_secs(2), "{each:?} for an answer");
    for number in 1..=3 {
        let client = booted.connect();
        let target = Target::Number(number);
        client.ask(
            ClientRequest::EndSession {
                target,
                by_force: true,
            },
            &[],
        );
        client.receive();
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

/// Types without waiting, until there is no room; gives what was taken.
fn type_until_full(looker: &Looker, next: &mut u64) -> Vec<u8> {
    let mut typed = Vec::new();
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        let line = format!("{next:0>1023}\n");
        let bytes = line.as_bytes();
        let length = ClientRequest::Input { bytes }.encode(&mut buffer).unwrap();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match looker.channel.send_with(&buffer[..length], &[], flags) {
            Ok(_) => typed.extend_from_slice(bytes),
            Err(rustix::io::Errno::AGAIN) => return typed,
            Err(error) => panic!("cannot type: {error}"),
        }
        *next += 1;
    }
}

/// Types until nobody has taken anything for a while; gives what was taken.
fn type_until_all_is_full(booted: &Booted, looker: &Looker, next: &mut u64) -> Vec<u8> {
    const A_WHILE: Duration = Duration::from_millis(300);
    let mut typed = Vec::new();
    let mut full_since = Instant::now();
    booted.until(|booted| {
        let more = type_until_full(looker, next);
        if !more.is_empty() {
            full_since = Instant::now();
        }
        typed.extend_from_slice(&more);
        // Whoever is answered is so after all that could be taken at that time was.
        booted.sessions();
        full_since.elapsed() > A_WHILE
    });
    typed
}

#[test]
fn what_is_typed_and_not_read_waits_and_is_not_lost() {
    let booted = Booted::with_init();
    let fifo = booted.folder.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let script = format!(
        "stty raw -echo; echo ready; read go < {}; exec cat",
        fifo.display()
    );
    let mut looker = booted.open(&CString::new(script).unwrap());
    looker.sees("ready\n");
    let mut other = booted.join(Target::Number(looker.number));
    other.looks_back();
    let empty = booted.footprint();
    let mut next = 0;
    let typed = type_until_all_is_full(&booted, &looker, &mut next);
    // The terminal's own buffers, the supervisor's, and the socket's.
    assert!(typed.len() < 400_000, "{} bytes", typed.len());
    assert!(typed.len() > 8_192, "{} bytes", typed.len());
    let full = booted.footprint();
    assert_eq!(
        (full.descriptors, full.mappings),
        (empty.descriptors, empty.mappings)
    );
    assert!(
        full.anonymous <= empty.anonymous + 16,
        "{empty:?} became {full:?}"
    );
    // Meanwhile others are served, and the other looker waits with what it says.
    other.types(b"late\n");
    let mut calm = booted.open(c"echo calm");
    calm.sees("calm");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&fifo)
        .unwrap()
        .write_all(b"go\n")
        .unwrap();
    looker.seen.clear();
    while looker.seen.len() < typed.len() + 5 {
        assert!(matches!(looker.takes(), News::Output(_)));
    }
    // The two are interleaved by whole messages or less, and each is in order.
    let at = looker
        .seen
        .windows(5)
        .position(|window| window == b"late\n")
        .unwrap();
    looker.seen.drain(at..at + 5);
    assert!(looker.seen == typed);
    // It goes on from there.
    looker.types(b"more\n");
    looker.sees("more\n");
}

#[test]
fn who_leaves_with_words_on_their_lips_is_let_go() {
    let booted = Booted::with_init();
    let looker = booted.open(c"stty raw -echo; echo ready; exec sleep 1000");
    let number = looker.number;
    let mut second = booted.join(Target::Number(number));
    second.looks_back();
    second.sees("ready\n");
    let mut next = 0;
    type_until_all_is_full(&booted, &looker, &mut next);
    drop(looker);
    booted.until(|booted| booted.sessions()[0].lookers == 1);
    // The end is heard of, though nothing more can be typed.
    second.types(b"unread");
    let client = booted.connect();
    let target = Target::Number(number);
    client.ask(
        ClientRequest::EndSession {
            target,
            by_force: false,
        },
        &[],
    );
    assert_eq!(second.ends(), 1);
}

#[test]
fn a_replay_under_way_is_not_cut_by_more_output() {
    let booted = Booted::with_init();
    let mut opener = booted.open(c"stty raw -echo; echo ready; seq 1 100000000");
    let number = opener.number;
    let reader = thread::spawn(move || {
        while let News::Output(_) = opener.takes() {
            opener.seen.clear();
        }
    });
    for _ in 0..200 {
        let mut late = booted.join(Target::Number(number));
        let News::Replay(Replay { length, .. }) = late.takes() else {
            panic!("no replay");
        };
        while late.seen.len() < length + 1000 {
            assert!(matches!(late.takes(), News::Output(_)));
        }
        // The lines follow each other, the first and the last aside.
        let text = late.text();
        let lines: Vec<&str> = text.lines().collect();
        let numbers: Vec<u32> = lines[1..lines.len() - 1]
            .iter()
            .filter_map(|line| line.parse().ok())
            .collect();
        assert!(
            numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "{numbers:?}"
        );
    }
    let client = booted.connect();
    let target = Target::Number(number);
    client.ask(
        ClientRequest::EndSession {
            target,
            by_force: true,
        },
        &[],
    );
    client.receive();
    reader.join().unwrap();
}
