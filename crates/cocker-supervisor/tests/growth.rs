//! Nothing grows: after any number of sessions the two residents are what they were before.
mod support;

use std::time::{Duration, Instant};

use cocker_protocol::{Access, ClientReply, Lasting, Refusal, Target};
use support::{Booted, Footprint, Looker, SIZE};

/// What a page may differ by, in KiB.
const PAGE: u64 = 4;

/// Both residents, when they have nothing left to do.
fn both(booted: &Booted) -> [Footprint; 2] {
    [booted.footprint(), Footprint::of(booted.init_process())]
}

fn nothing_has_grown(booted: &Booted, before: [Footprint; 2]) {
    let after = both(booted);
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(after.descriptors, before.descriptors);
        assert_eq!(after.mappings, before.mappings);
        assert!(
            after.anonymous <= before.anonymous + PAGE,
            "{before:?} became {after:?}"
        );
    }
}

/// One of each kind, so that every page that is ever used has been used.
fn warm_up(booted: &Booted) {
    let mut lookers: Vec<_> = (0..200).map(|_| booted.open(c"read x; exit 7")).collect();
    for looker in &lookers {
        looker.types(b"\n");
    }
    for looker in &mut lookers {
        looker.ends();
    }
}

#[test]
fn a_thousand_sessions_one_after_the_other_leave_nothing() {
    let booted = Booted::with_init();
    let idle = both(&booted);
    let one = |script| {
        let mut looker = booted.open(script);
        assert_eq!(looker.ends(), 7 << 8);
    };
    one(c"exit 7");
    let before = both(&booted);
    for round in 0..1000 {
        match round % 4 {
            // More than a ring holds.
            0 => one(c"seq 1 20000; exit 7"),
            1 => {
                let looker = booted.open_as(c"left", Lasting::Stays, SIZE, c"read x; exit 7");
                drop(looker);
                let mut looker = booted.join(Target::Name(c"left"));
                looker.looks_back();
                looker.types(b"\n");
                assert_eq!(looker.ends(), 7 << 8);
            }
            2 => drop(booted.open_as(c"", Lasting::Ends, SIZE, c"read x")),
            _ => one(c"exit 7"),
        }
    }
    assert_eq!(booted.sessions(), []);
    // What was hung up is reaped when it gets there.
    let children = format!("/proc/{0}/task/{0}/children", booted.init_process());
    booted.until(|_| std::fs::read_to_string(&children).unwrap().is_empty());
    nothing_has_grown(&booted, before);
    println!("idle before any session: {idle:?}; after the first: {before:?}");
}

#[test]
fn two_hundred_sessions_at_once_leave_nothing() {
    let booted = Booted::with_init();
    warm_up(&booted);
    let before = both(&booted);
    let script = c"stty -echo; echo ready; seq 1 20000; read x; exit 7";
    let mut lookers: Vec<_> = (0..200).map(|_| booted.open(script)).collect();
    for looker in &mut lookers {
        looker.sees("\n20000\r\n");
    }
    let open = booted.footprint();
    // A descriptor for the master, one for the looker; a ring and a table's entry, which the kernel may join.
    assert_eq!(open.descriptors, before[0].descriptors + 400);
    assert!(open.mappings <= before[0].mappings + 400);
    assert!(
        open.anonymous <= before[0].anonymous + 200 * (64 + 3 * PAGE),
        "{open:?}"
    );
    for looker in &lookers {
        looker.types(b"\n");
    }
    for looker in &mut lookers {
        assert_eq!(looker.ends(), 7 << 8);
    }
    drop(lookers);
    nothing_has_grown(&booted, before);
}

#[test]
fn there_are_a_thousand_sessions_and_no_more() {
    let booted = Booted::with_init();
    let before = both(&booted);
    let mut first =
        booted.open(c"stty -echo; echo ready; while read word; do echo got $word; done");
    first.sees("ready");
    let answer = |first: &mut Looker, round: u32| {
        let begun = Instant::now();
        first.types(format!("{round}\n").as_bytes());
        first.sees(&format!("got {round}\r\n"));
        begun.elapsed()
    };
    let alone: Duration = (0..200).map(|round| answer(&mut first, round)).sum();
    for number in 2..=1000 {
        let looker = booted.open(c"read x");
        assert_eq!(looker.number, number);
    }
    let one_more = booted.connect();
    one_more.ask_to_open(c"", Lasting::Stays, SIZE, c"read x");
    let why = Refusal::TooManySessions;
    assert_eq!(one_more.receive(), ClientReply::Refused { why });
    let crowded: Duration = (200..400).map(|round| answer(&mut first, round)).sum();
    let open = booted.footprint();
    println!(
        "an answer alone takes {:?}, beside 999 others {:?}; the supervisor is {open:?}",
        alone / 200,
        crowded / 200
    );
    assert_eq!(booted.sessions().len(), 1000);
    // Somebody looks at each of them, as far as there may be clients.
    let mut lookers: Vec<_> = (2..=900)
        .map(|number| booted.join_as(Target::Number(number), Access::LookAndType, SIZE))
        .collect();
    let watched: Duration = (400..600).map(|round| answer(&mut first, round)).sum();
    println!("with 899 lookers {:?}", watched / 200);
    for looker in &mut lookers {
        looker.looks_back();
        looker.types(b"\n");
    }
    for looker in &mut lookers {
        assert_eq!(looker.ends(), 0);
    }
    drop(lookers);
    for number in 901..=1000 {
        let mut looker = booted.join(Target::Number(number));
        looker.looks_back();
        looker.types(b"\n");
        assert_eq!(looker.ends(), 0);
    }
    first.types(b"\x04");
    assert_eq!(first.ends(), 0);
    drop((first, one_more));
    let after = both(&booted);
    assert_eq!(after[0].descriptors, before[0].descriptors);
    assert_eq!(after[0].mappings, before[0].mappings);
    // The tables' pages, once used, stay: 200 KiB at most.
    assert!(after[0].anonymous <= before[0].anonymous + 200, "{after:?}");
}
