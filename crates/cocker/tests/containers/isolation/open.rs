//! What is open to root inside a default container, against what is written down: `open.txt`. Beside other engines it is in
//! docs/security-report.md.

use super::program::with_attacker;
use crate::host::{Host, with_image_test};
use std::collections::BTreeSet;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![nothing_is_open_that_was_not]
}

/// A `*` stands for what is between two `/`. Calls are told by interface and number, several in a line and from one to another.
/// A kernel that has less of it is fine.
const WRITTEN_DOWN: &str = include_str!("open.txt");

fn nothing_is_open_that_was_not(host: &Host) {
    let attacker = with_attacker(host);
    for (name, option) in [("web", ""), ("mighty", "--privileged")] {
        host.cocker(&format!("create -m test -c {name} {attacker} {option} -b"))
            .ok();
    }
    let known = Known::of(WRITTEN_DOWN);
    let scan = host.inside("web", "/attacker scan");
    let found = open(&scan);
    let new: Vec<&String> = found.iter().filter(|line| !known.has(line)).collect();
    assert!(new.is_empty(), "open, and not in open.txt: {new:#?}");
    // It has looked at all there is.
    for begin in [
        "write /proc/",
        "read /proc/",
        "call 64 ",
        "call 32 ",
        "held ",
        "device /dev/",
    ] {
        assert!(
            found.iter().any(|line| line.starts_with(begin)),
            "no `{begin}` in\n{scan}"
        );
    }
    let tried = |begin| scan.lines().filter(|line| line.starts_with(begin)).count();
    assert!(tried("call ") > 1_400 && tried("node ") == 24, "{scan}");

    // Where nothing is closed, the same scan finds all of it.
    let scan = host.inside("mighty", "/attacker scan");
    let found = open(&scan);
    for line in [
        "userns initial",
        "write /proc/sys/kernel/core_pattern",
        "call 64 250",
        "host SYS_TIME",
        "node c:1:3 opens",
    ] {
        assert!(found.contains(line), "no `{line}` in\n{scan}");
        assert!(!known.has(line), "{line}");
    }
}

/// What of a scan is open. What came of a call does not matter, only that the kernel was asked.
fn open(scan: &str) -> BTreeSet<String> {
    let is_closed = |answer: &str| ["-1", "-38", "signal 31"].contains(&answer);
    let lines = scan.lines().filter_map(|line| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["call", _, _, answer] if is_closed(answer) => None,
            ["call", interface, number, _] => Some(format!("call {interface} {number}")),
            ["node", _, "not", "made"] => None,
            _ => Some(line.to_string()),
        }
    });
    lines.collect()
}

struct Known {
    lines: BTreeSet<String>,
    /// Those with a `*`, before and after it.
    patterns: Vec<(String, String)>,
}

impl Known {
    fn of(text: &str) -> Known {
        let mut known = Known {
            lines: BTreeSet::new(),
            patterns: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(calls) = line.strip_prefix("call ") {
                let (interface, numbers) =
                    calls.split_once(": ").expect("`call INTERFACE: NUMBERS`");
                let all = numbers.split(' ').flat_map(stretch);
                known
                    .lines
                    .extend(all.map(|number| format!("call {interface} {number}")));
            } else if let Some((begin, end)) = line.split_once('*') {
                known.patterns.push((begin.into(), end.into()));
            } else {
                known.lines.insert(line.into());
            }
        }
        known
    }

    fn has(&self, line: &str) -> bool {
        let fits = |(begin, end): &(String, String)| {
            let rest = line.strip_prefix(begin.as_str());
            let between = rest.and_then(|rest| rest.strip_suffix(end.as_str()));
            between.is_some_and(|between| !between.contains('/'))
        };
        self.lines.contains(line) || self.patterns.iter().any(fits)
    }
}

/// `7` or `7-9`.
fn stretch(text: &str) -> std::ops::RangeInclusive<u32> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.parse().expect("a number of a call");
    number(first)..=number(last)
}
