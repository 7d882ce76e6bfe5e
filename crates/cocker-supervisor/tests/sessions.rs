//! Sessions as their lookers see them: a real supervisor over a real `cockerinit`.
mod support;

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cocker_protocol::{
    Access, ClientReply, ClientRequest, Lasting, ModeTracker, Modes, Refusal, Target,
};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::{Booted, Looker, News, PATIENCE, SIZE};

/// How much of what a session has shown is kept.
const RING: usize = 64 * 1024;

/// Answers each line that is typed.
const ANSWERS: &std::ffi::CStr =
    c"stty -echo; echo ready; while read word; do echo got $word; done; exit 7";

const EXITED_WITH_7: i32 = 7 << 8;

fn no_session(booted: &Booted, target: Target<'_>) {
    let client = booted.connect();
    client.ask_to_join(target, Access::LookAndType, SIZE);
    assert_eq!(client.receive(), ClientReply::NoSession);
}

/// The numbers of a count, one a line, as a raw terminal shows them.
fn counted(first: u32, last: u32) -> Vec<u8> {
    (first..=last)
        .flat_map(|number| format!("{number}\n").into_bytes())
        .collect()
}

#[test]
fn what_is_typed_is_answered_and_the_end_is_told() {
    let booted = Booted::with_init();
    let mut looker = booted.open_as(
        c"",
        Lasting::Stays,
        (33, 101),
        c"stty size; read word; echo got $word; exit 7",
    );
    looker.sees("33 101\r\n");
    looker.types(b"this\n");
    looker.sees("got this\r\n");
    assert_eq!(looker.ends(), EXITED_WITH_7);
    // The terminal echoes what is typed.
    assert_eq!(looker.text(), "33 101\r\nthis\r\ngot this\r\n");
    assert_eq!(booted.sessions(), []);
    let mut killed = booted.open(c"kill -SEGV $$");
    assert_eq!(killed.ends() & 0x7f, 11);
}

#[test]
fn a_session_outlives_its_looker_and_is_found_again() {
    let booted = Booted::with_init();
    let mut looker = booted.open_as(c"work", Lasting::Stays, SIZE, ANSWERS);
    looker.sees("ready\r\n");
    let (number, mut shown) = (looker.number, looker.seen.clone());
    drop(looker);
    let targets = [
        Target::Idle,
        Target::Number(number),
        Target::Name(c"work"),
        Target::Idle,
    ];
    for (target, word) in targets.into_iter().zip(["a", "b", "c", "d"]) {
        let mut looker = booted.join(target);
        assert_eq!(looker.number, number);
        let replay = looker.looks_back();
        assert_eq!(replay.length, shown.len());
        assert_eq!(replay.size, SIZE);
        assert_eq!(replay.modes, Modes::default());
        assert_eq!(looker.seen, shown);
        // Nobody else finds it idle meanwhile.
        no_session(&booted, Target::Idle);
        looker.types(format!("{word}\n").as_bytes());
        looker.sees(&format!("got {word}\r\n"));
        shown = looker.seen;
    }
    no_session(&booted, Target::Number(number + 1));
    no_session(&booted, Target::Number(0));
    no_session(&booted, Target::Name(c"wor"));
    no_session(&booted, Target::Name(c"works"));
    no_session(&booted, Target::Name(c""));
    // Who did not find one may ask for another.
    let client = booted.connect();
    client.ask_to_join(Target::Name(c"play"), Access::LookAndType, SIZE);
    assert_eq!(client.receive(), ClientReply::NoSession);
    client.ask_to_join(Target::Name(c"work"), Access::LookAndType, SIZE);
    let mut looker = Looker::begin(client);
    looker.looks_back();
    looker.types(b"\x04");
    assert_eq!(looker.ends(), EXITED_WITH_7);
    no_session(&booted, Target::Name(c"work"));
    no_session(&booted, Target::Idle);
}

#[test]
fn of_the_idle_ones_the_one_left_last_is_found() {
    let booted = Booted::with_init();
    let mut lookers = [c"first", c"second", c"third"].map(|name| {
        let mut looker = booted.open_as(name, Lasting::Stays, SIZE, ANSWERS);
        looker.sees("ready\r\n");
        Some(looker)
    });
    let mut numbers = Vec::new();
    for index in [2, 0, 1] {
        // The times of leaving are told apart by their milliseconds.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            std::thread::yield_now();
        }
        numbers.push(lookers[index].take().unwrap().number);
        booted.descriptors();
    }
    let mut found = Vec::new();
    let mut joined = Vec::new();
    for _ in 0..3 {
        let looker = booted.join(Target::Idle);
        found.insert(0, looker.number);
        joined.push(looker);
    }
    assert_eq!(found, numbers);
    no_session(&booted, Target::Idle);
}

#[test]
fn the_modes_are_told_when_what_has_set_them_is_long_gone() {
    let booted = Booted::with_init();
    let sent = "\x1b[?1049h\x1b[?2004h\x1b[?1002;1006h\x1b[?25l\x1b=";
    let mut looker = booted.open(
        c"printf '\\033[?1049h\\033[?2004h\\033[?1002;1006h\\033[?25l\\033='; seq 1 30000; read x; printf '\\033[?1049l'; read x",
    );
    looker.sees("30000\r\n");
    let mut modes = ModeTracker::default();
    modes.follow(sent.as_bytes());
    let mut late = booted.join(Target::Number(looker.number));
    let replay = late.looks_back();
    assert_eq!((replay.length, replay.modes), (RING, modes.modes()));
    assert!(replay.modes.is_alternate_screen());
    looker.types(b"\n");
    looker.sees("\x1b[?1049l");
    modes.follow(b"\x1b[?1049l");
    let mut later = booted.join(Target::Number(looker.number));
    assert_eq!(later.looks_back().modes, modes.modes());
}

#[test]
fn exactly_the_last_64_kib_are_kept() {
    let booted = Booted::with_init();
    let (expected, later) = (counted(1, 50_000), counted(50_001, 100_000));
    // Each length lands elsewhere in the ring.
    for surplus in [0, 1, 4095, 4096, RING - 1] {
        let script = format!(
            "stty raw -echo; head -c {surplus} /dev/zero; seq 1 50000; head -c 1 > /dev/null; seq 50001 100000; read x"
        );
        let script = std::ffi::CString::new(script).unwrap();
        let mut looker = booted.open(&script);
        looker.sees("\n50000\n");
        let whole = [vec![0; surplus], expected.clone()].concat();
        assert!(looker.seen == whole, "surplus {surplus}");
        let number = looker.number;
        drop(looker);
        let mut again = booted.join(Target::Number(number));
        assert_eq!(again.looks_back().length, RING);
        assert!(
            again.seen == whole[whole.len() - RING..],
            "surplus {surplus}"
        );
        // It goes on where the replay ends, though nobody looks while most of it is shown.
        again.types(b"x");
        drop(again);
        let mut late = booted.join(Target::Number(number));
        late.looks_back();
        late.sees("\n100000\n");
        let kept = late.seen.len().min(RING);
        assert!(
            late.seen[late.seen.len() - kept..] == later[later.len() - kept..],
            "surplus {surplus}"
        );
    }
}

#[test]
fn a_short_session_is_kept_whole() {
    let booted = Booted::with_init();
    let script = format!("stty raw -echo; head -c {RING} /dev/zero | tr '\\0' x; read x");
    let mut looker = booted.open(&std::ffi::CString::new(script).unwrap());
    while looker.seen.len() < RING {
        looker.takes();
    }
    let mut late = booted.join(Target::Number(looker.number));
    assert_eq!(late.looks_back().length, RING);
    assert!(late.seen == looker.seen);
    let empty = booted.open(c"read x");
    let mut late = booted.join(Target::Number(empty.number));
    assert_eq!(late.looks_back().length, 0);
}

#[test]
fn all_lookers_see_the_same() {
    let booted = Booted::with_init();
    let mut first =
        booted.open(c"stty raw -echo; echo ready; head -c 1 > /dev/null; seq 1 100000; exit 7");
    first.sees("ready\n");
    let mut others: Vec<_> = (0..5)
        .map(|_| booted.join(Target::Number(first.number)))
        .collect();
    first.types(b"x");
    let threads: Vec<_> = others
        .drain(..)
        .map(|mut looker| {
            std::thread::spawn(move || {
                looker.looks_back();
                assert_eq!(looker.ends(), EXITED_WITH_7);
                looker.seen
            })
        })
        .collect();
    assert_eq!(first.ends(), EXITED_WITH_7);
    let whole = [b"ready\n".to_vec(), counted(1, 100_000)].concat();
    assert!(first.seen == whole);
    for thread in threads {
        assert!(thread.join().unwrap() == whole);
    }
}

#[test]
fn the_end_comes_after_all_output() {
    let booted = Booted::with_init();
    for round in 0..100 {
        let mut looker = booted.open(c"printf word; exit 7");
        assert_eq!(looker.ends(), EXITED_WITH_7);
        assert_eq!(looker.text(), "word", "round {round}");
    }
    // A child that has the terminal open still is no reason to wait, and is hung up.
    let mut looker = booted.open(c"sleep 1000 & printf word; exit 7");
    assert_eq!(looker.ends(), EXITED_WITH_7);
    assert_eq!(looker.text(), "word");
    // Nor is one that never stops.
    let mut looker = booted.open(c"yes & printf word; exit 7");
    assert_eq!(looker.ends(), EXITED_WITH_7);
}

#[test]
fn who_may_only_look_types_nothing() {
    let booted = Booted::with_init();
    let mut typist = booted.open(ANSWERS);
    typist.sees("ready\r\n");
    let mut reader = booted.join_as(Target::Number(typist.number), Access::LookOnly, SIZE);
    reader.looks_back();
    reader.types(b"forbidden\n");
    // It reads the session's answer to somebody else, and its own words went before that.
    reader.resizes((20, 70));
    booted.until(|booted| booted.sessions()[0].size == (20, 70));
    typist.types(b"allowed\n");
    typist.sees("got allowed\r\n");
    reader.sees("got allowed\r\n");
    assert_eq!(typist.text(), "ready\r\ngot allowed\r\n");
    assert_eq!(reader.text(), typist.text());
}

#[test]
fn a_session_is_as_large_as_its_smallest_looker() {
    let booted = Booted::with_init();
    let mut first = booted.open_as(
        c"",
        Lasting::Stays,
        (50, 100),
        c"trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done",
    );
    first.sees("50 100\r\n");
    let target = Target::Number(first.number);
    let wide = booted.join_as(target, Access::LookAndType, (30, 200));
    first.sees("30 100\r\n");
    let mut narrow = booted.join_as(target, Access::LookOnly, (40, 70));
    first.sees("30 70\r\n");
    assert_eq!(narrow.looks_back().size, (30, 70));
    // A terminal of no size has no say.
    let _nowhere = booted.join_as(target, Access::LookAndType, (0, 0));
    drop(wide);
    first.sees("40 70\r\n");
    narrow.resizes((25, 80));
    first.sees("25 80\r\n");
    assert_eq!(booted.sessions()[0].size, (25, 80));
    first.seen.clear();
    drop(narrow);
    first.sees("50 100\r\n");
    first.resizes((10, 20));
    first.sees("10 20\r\n");
    // With nobody there it keeps its size, until somebody comes.
    let number = first.number;
    drop((first, _nowhere));
    assert_eq!(booted.sessions()[0].size, (10, 20));
    let mut late = booted.join_as(Target::Number(number), Access::LookAndType, (60, 160));
    assert_eq!(late.looks_back().size, (60, 160));
    late.sees("60 160\r\n");
}

#[test]
fn a_name_is_taken_once_and_free_again_after_the_end() {
    let booted = Booted::with_init();
    let mut first = booted.open_as(c"work", Lasting::Stays, SIZE, ANSWERS);
    first.sees("ready");
    let second = booted.connect();
    second.ask_to_open(c"work", Lasting::Stays, SIZE, ANSWERS);
    let why = Refusal::NameTaken;
    assert_eq!(second.receive(), ClientReply::Refused { why });
    second.closes();
    // Without a name there may be many.
    let _others = [booted.open(ANSWERS), booted.open(ANSWERS)];
    first.types(b"\x04");
    first.ends();
    booted.open_as(c"work", Lasting::Stays, SIZE, ANSWERS);
}

#[test]
fn the_lowest_number_that_is_free_is_given() {
    let booted = Booted::with_init();
    let mut lookers: Vec<_> = (1..=5)
        .map(|number| {
            let mut looker = booted.open(ANSWERS);
            assert_eq!(looker.number, number);
            looker.sees("ready");
            looker
        })
        .collect();
    for index in [3, 1] {
        let mut looker = lookers.remove(index);
        looker.types(b"\x04");
        looker.ends();
    }
    let listed =
        |booted: &Booted| -> Vec<u32> { booted.sessions().iter().map(|row| row.number).collect() };
    assert_eq!(listed(&booted), [1, 3, 5]);
    let numbers = [2, 4, 6].map(|number| {
        let looker = booted.open(ANSWERS);
        assert_eq!(looker.number, number);
        looker
    });
    assert_eq!(listed(&booted), [1, 2, 3, 4, 5, 6]);
    drop(numbers);
}

#[test]
fn the_list_says_what_there_is() {
    let booted = Booted::with_init();
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let begun = now();
    assert_eq!(booted.sessions(), []);
    let long = "x".repeat(100);
    let script = std::ffi::CString::new(format!("read x; : {long}")).unwrap();
    let _first = booted.open_as(c"work", Lasting::Stays, (30, 90), &script);
    let second = booted.open(c"read x");
    let _looker = booted.join_as(Target::Number(1), Access::LookOnly, (40, 80));
    drop(second);
    let rows = booted.sessions();
    let [first, second] = &rows[..] else {
        panic!("not two: {rows:?}");
    };
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(
        (first.name.to_bytes(), second.name.to_bytes()),
        (&b"work"[..], &b""[..])
    );
    assert_eq!(first.who.to_bytes(), b"somebody");
    let command = format!("sh -c read x; : {long}");
    assert_eq!(first.command.to_bytes(), &command.as_bytes()[..64]);
    assert_eq!(second.command.to_bytes(), b"sh -c read x");
    assert_eq!((first.size, second.size), ((30, 80), SIZE));
    assert_eq!((first.lookers, second.lookers), (2, 0));
    assert!((begun..=now()).contains(&first.since));
    let client = booted.connect();
    client.ask(ClientRequest::NextSession { after: 1 }, &[]);
    assert!(matches!(client.receive().get(), ClientReply::Session(row) if row.number == 2));
    client.ask(ClientRequest::NextSession { after: u32::MAX }, &[]);
    assert_eq!(client.receive(), ClientReply::NoSession);
}

#[test]
fn a_session_is_hung_up_and_by_force_killed() {
    let booted = Booted::with_init();
    let end = |target, by_force| {
        let client = booted.connect();
        client.ask(ClientRequest::EndSession { target, by_force }, &[]);
        client
    };
    let mut polite = booted.open_as(c"polite", Lasting::Stays, SIZE, ANSWERS);
    polite.sees("ready");
    let mut tidy = booted.open_as(
        c"tidy",
        Lasting::Stays,
        SIZE,
        c"trap 'echo tidied; exit 7' HUP; echo ready; while :; do read x; done",
    );
    tidy.sees("ready");
    let mut deaf = booted.open_as(
        c"deaf",
        Lasting::Stays,
        SIZE,
        c"trap 'echo heard' HUP; stty -echo; echo ready; while :; do read x; done",
    );
    deaf.sees("ready");
    let client = end(Target::Name(c"polite"), false);
    assert_eq!(client.receive(), ClientReply::Exited { wait_status: 1 });
    client.closes();
    assert_eq!(polite.ends(), 1);
    let number = tidy.number;
    let client = end(Target::Number(number), false);
    assert_eq!(
        client.receive(),
        ClientReply::Exited {
            wait_status: EXITED_WITH_7
        }
    );
    assert_eq!(tidy.ends(), EXITED_WITH_7);
    assert!(tidy.text().ends_with("tidied\r\n"));
    // One that stays is asked for again on the same connection.
    let client = end(Target::Name(c"deaf"), false);
    deaf.sees("heard");
    assert_eq!(booted.sessions().len(), 1);
    let target = Target::Name(c"deaf");
    client.ask(
        ClientRequest::EndSession {
            target,
            by_force: true,
        },
        &[],
    );
    assert_eq!(client.receive(), ClientReply::Exited { wait_status: 9 });
    assert_eq!(deaf.ends(), 9);
    assert_eq!(end(target, true).receive(), ClientReply::NoSession);
    assert_eq!(end(Target::Idle, true).receive(), ClientReply::NoSession);
    // Who waits for an end and leaves is no reason for anything.
    let mut deaf = booted.open(c"trap '' HUP; echo ready; while :; do read x; done");
    deaf.sees("ready");
    drop(end(Target::Number(deaf.number), false));
    let client = end(Target::Number(deaf.number), true);
    assert_eq!(client.receive(), ClientReply::Exited { wait_status: 9 });
    assert_eq!(deaf.ends(), 9);
}

#[test]
fn a_session_that_does_not_last_ends_with_its_last_looker() {
    let booted = Booted::with_init();
    let fifo = booted.folder.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
    let path = fifo.to_str().unwrap();
    let script = format!(
        "exec 9>{path}; trap 'echo hung up >&9; exit' HUP; echo ready; while :; do read x; done"
    );
    let script = std::ffi::CString::new(script).unwrap();
    // Without a writer an open would wait.
    let mut says = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap();
    let mut first = booted.open_as(c"brief", Lasting::Ends, SIZE, &script);
    first.sees("ready");
    let mut second = booted.join(Target::Name(c"brief"));
    second.looks_back();
    drop(first);
    second.types(b"still\n");
    second.sees("still");
    assert_eq!(booted.sessions().len(), 1);
    let waits = booted.connect();
    let target = Target::Name(c"brief");
    drop(second);
    waits.ask(
        ClientRequest::EndSession {
            target,
            by_force: false,
        },
        &[],
    );
    assert_eq!(waits.receive(), ClientReply::NoSession);
    assert_eq!(booted.sessions(), []);
    // It was hung up, and has ended when its end of the pipe closes.
    assert!(support::is_readable(
        std::os::fd::AsFd::as_fd(&says),
        PATIENCE
    ));
    let mut text = String::new();
    rustix::io::ioctl_fionbio(&says, false).unwrap();
    says.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hung up\n");
}

#[test]
fn too_much_at_once_is_refused_and_the_session_lives_on() {
    let booted = Booted::with_init();
    let mut looker = booted.open(ANSWERS);
    looker.sees("ready\r\n");
    let number = looker.number;
    looker.types(&[b'x'; 4097]);
    assert_eq!(looker.takes(), News::Refused(Refusal::Malformed));
    assert_eq!(looker.takes(), News::Closed);
    for wrong in [
        ClientRequest::Kill,
        ClientRequest::Shutdown { timeout_ms: 0 },
        ClientRequest::Signal { signal: 9 },
        ClientRequest::NextSession { after: 0 },
        ClientRequest::EndSession {
            target: Target::Number(number),
            by_force: true,
        },
        ClientRequest::Join {
            target: Target::Idle,
            access: Access::LookAndType,
            rows: 1,
            columns: 1,
        },
    ] {
        let mut looker = booted.join(Target::Number(number));
        looker.looks_back();
        looker.channel.ask(wrong, &[]);
        assert_eq!(looker.takes(), News::Refused(Refusal::Malformed));
        assert_eq!(looker.takes(), News::Closed);
    }
    let mut looker = booted.join(Target::Number(number));
    looker.looks_back();
    looker.types(b"");
    looker.types(&[&[b'x'; 4000][..], b"\n"].concat());
    looker.sees(&format!("got {}\r\n", "x".repeat(4000)));
}

#[test]
fn lookers_are_told_by_a_connection_that_closes_that_the_container_ends() {
    let booted = Booted::with_init();
    let mut lookers = [
        booted.open(c"trap '' TERM HUP; echo ready; while :; do read x; done"),
        booted.open(ANSWERS),
    ];
    let other = booted.join(Target::Number(1));
    for looker in &mut lookers {
        looker.sees("ready");
    }
    let waits = booted.connect();
    let target = Target::Number(1);
    waits.ask(
        ClientRequest::EndSession {
            target,
            by_force: false,
        },
        &[],
    );
    let killer = booted.connect();
    killer.ask(ClientRequest::Shutdown { timeout_ms: 200 }, &[]);
    for mut looker in lookers.into_iter().chain([other]) {
        let last = loop {
            match looker.takes() {
                News::Output(_) | News::Replay(_) => {}
                last => break last,
            }
        };
        assert_eq!(last, News::Closed);
    }
    assert_eq!(waits.receive(), ClientReply::Exited { wait_status: 9 });
    killer.closes();
    // init ends by itself, or is killed where it is late.
    let released = booted.released();
    let ends = ["release 0 kept\n", "release 9 kept\n"];
    assert!(
        ends.iter().any(|end| released.starts_with(end)),
        "{released}"
    );
}

#[test]
fn a_container_that_is_killed_takes_its_sessions_along() {
    let booted = Booted::with_init();
    let mut looker = booted.open(c"echo ready; yes");
    looker.sees("ready");
    let killer = booted.connect();
    killer.ask(ClientRequest::Kill, &[]);
    let last = loop {
        match looker.takes() {
            News::Output(_) => {}
            last => break last,
        }
    };
    assert_eq!(last, News::Closed);
    killer.closes();
    assert!(booted.released().starts_with("release 9 kept\n"));
}

#[test]
fn a_terminal_that_nobody_has_open_for_a_moment_is_shown_again() {
    let booted = Booted::with_init();
    let mut looker = booted.open(
        c"here=$(tty); exec <&- >&- 2>&-; sleep 0.6; exec <>$here >&0 2>&0; echo back; read word; echo got $word; exit 7",
    );
    looker.sees("back\r\n");
    looker.types(b"this\n");
    looker.sees("got this\r\n");
    assert_eq!(looker.ends(), EXITED_WITH_7);
}
