//! The guard: what does not depend on the machine's mood, beside what was recorded. System calls and processes of each command by
//! strace(1), instructions of what valgrind(1) can run, and the size of the programs.
//!
//! A figure may be 5 % more than the recorded one, and three more, which is what another file system or another mount of the host
//! makes. Whoever needs more writes it into the record in the same change: `make bench-guard-record`.

use crate::place::{Outcome, Place};
use crate::trace::{Trace, trace};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const ALLOWED: f64 = 1.05;
const ALWAYS_ALLOWED: u64 = 3;
/// Counts differ where processes run side by side; the least of them is the command's own.
const TRIES: usize = 5;
/// Instructions differ by the seed of hash tables.
const COUNTED: usize = 3;

/// Figures by the command's name and what is counted.
type Figures = BTreeMap<String, BTreeMap<String, u64>>;

/// Says what grew, and whether anything did.
pub fn guard(place: &Place, record: &Path, write: bool) -> Outcome<bool> {
    let now = count(place)?;
    let here = surroundings();
    if write {
        let rows: Map<String, Value> = now
            .iter()
            .map(|(command, figures)| (command.clone(), json!(figures)))
            .collect();
        let whole = json!({ "surroundings": here, "commands": rows });
        let text = serde_json::to_string_pretty(&whole).expect("plain values") + "\n";
        fs::write(record, text)
            .map_err(|error| format!("cannot write {}: {error}", record.display()))?;
    }
    let text = fs::read_to_string(record)
        .map_err(|error| format!("cannot read {}: {error}", record.display()))?;
    let recorded: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", record.display()))?;
    let same = recorded["surroundings"] == here;
    if !same {
        println!(
            "Recorded on {}; this is {here}: what boots is shown, but not judged.\n",
            recorded["surroundings"]
        );
    }
    Ok(compare(&recorded["commands"], &now, same))
}

/// Prints the table; false where a figure is more than it may be.
fn compare(recorded: &Value, now: &Figures, same: bool) -> bool {
    let mut grown = Vec::new();
    let mut less = Vec::new();
    println!(
        "{:<28} {:<14} {:>12} {:>12}",
        "command", "what", "recorded", "now"
    );
    for (command, figures) in now {
        for (what, figure) in figures {
            let before = recorded[command][what].as_u64();
            let verdict = match before {
                None => "  not recorded",
                Some(_) if !same && boots(command) => "",
                Some(before) if *figure > limit(before) => "  MORE",
                Some(before) if limit(*figure) < before => "  less",
                Some(_) => "",
            };
            let shown = before.map_or_else(|| "–".to_string(), |before| before.to_string());
            println!("{command:<28} {what:<14} {shown:>12} {figure:>12}{verdict}");
            match verdict.trim() {
                "MORE" | "not recorded" => grown.push(format!("{command}: {what}")),
                "less" => less.push(format!("{command}: {what}")),
                _ => {}
            }
        }
    }
    for (command, figures) in recorded.as_object().into_iter().flatten() {
        for what in figures.as_object().into_iter().flat_map(Map::keys) {
            if !now
                .get(command)
                .is_some_and(|figures| figures.contains_key(what))
            {
                grown.push(format!(
                    "{command}: {what} (recorded, and not counted any more)"
                ));
            }
        }
    }
    if !less.is_empty() {
        println!(
            "\nLess than recorded; write it down, so that it stays so (make bench-guard-record): {}",
            less.join(", ")
        );
    }
    if !grown.is_empty() {
        println!(
            "\nMore than recorded, or not recorded: {}",
            grown.join(", ")
        );
        println!("Where that is meant: make bench-guard-record, and say in the commit why.");
    }
    grown.is_empty()
}

fn limit(recorded: u64) -> u64 {
    ((recorded as f64 * ALLOWED) as u64).max(recorded + ALWAYS_ALLOWED)
}

/// Whether what a command asks of the kernel depends on the kernel and on the host's cgroups.
fn boots(command: &str) -> bool {
    ["boot", "shutdown", "run"]
        .iter()
        .any(|begin| command.starts_with(begin))
}

/// What calls depend on beside the program.
fn surroundings() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel: Vec<&str> = release.trim().split('.').take(2).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kinds = |kind: &str| {
        mounts
            .lines()
            .filter(|line| line.contains(&format!(" - {kind} ")))
            .count()
    };
    format!(
        "Linux {}, {} hierarchies of cgroup v1, {} of v2",
        kernel.join("."),
        kinds("cgroup"),
        kinds("cgroup2")
    )
}

fn count(place: &Place) -> Outcome<Figures> {
    let cocker = place.cocker.to_string_lossy().into_owned();
    let go = |line: &str| {
        place
            .run(&[&[cocker.as_str()][..], &line.split(' ').collect::<Vec<_>>()].concat())
            .map(drop)
    };
    let mut figures = Figures::new();
    // Valgrind of Debian 12 does not know openat2(2), by which every path in a store is opened. What it can run is what begins and
    // reads an empty store.
    for command in ["version", "help", "images", "containers"] {
        eprintln!("counting instructions of {command}");
        let row = figures
            .entry(format!("{command}, on an empty store"))
            .or_default();
        for _ in 0..COUNTED {
            least(row, "instructions", instructions(place, &cocker, command)?);
        }
    }
    go("install-test")?;
    // On the bridge there is another one all the time, so that the table of packets is there.
    go("create -m test -c keeper --net BRIDGE -b")?;
    go("create -m test -c host")?;
    go("create -m test -c bridged --net BRIDGE --port-mapping 8080:80")?;
    go("create -m test -c kept")?;
    // Folders and caches that the first of all makes.
    for first in [
        "boot host",
        "run host -- true",
        "shutdown host",
        "images",
        "containers",
    ] {
        go(first)?;
    }
    // (command, what goes before it, what follows)
    let commands: [(&str, &[&str], &[&str]); 10] = [
        ("images", &[], &[]),
        ("containers", &[], &[]),
        ("create -m test -c new", &[], &["destroy new"]),
        ("destroy new", &["create -m test -c new"], &[]),
        (
            "to-image --from-container new --to-image made",
            &["create -m test -c new"],
            &["rm-image made"],
        ),
        (
            "copy-image --from-image test --to-image copy",
            &[],
            &["rm-image copy"],
        ),
        ("run kept -- true", &["boot kept"], &["shutdown kept"]),
        ("shutdown kept", &["boot kept"], &[]),
        ("boot host", &[], &["shutdown host"]),
        ("boot bridged", &[], &["shutdown bridged"]),
    ];
    for (command, before, after) in commands {
        eprintln!("counting {command}");
        let name = match command.split_once(' ') {
            Some(("run", _)) => "run true".to_string(),
            Some(("boot", which)) => format!("boot {which}, until its end"),
            Some((name, _)) => name.to_string(),
            None => command.to_string(),
        };
        let words: Vec<&str> = command.split(' ').collect();
        let leaves = command.starts_with("boot");
        let row = figures.entry(name).or_default();
        for _ in 0..TRIES {
            before.iter().try_for_each(|line| go(line))?;
            let traced = trace(place, &words, || {
                if leaves {
                    after.iter().try_for_each(|line| go(line))
                } else {
                    Ok(())
                }
            })?;
            if !leaves {
                after.iter().try_for_each(|line| go(line))?;
            }
            least(row, "calls", traced.calls().count() as u64);
            least(row, "processes", traced.processes() as u64);
            if leaves {
                carried(&traced, row);
            }
        }
    }
    let size = fs::metadata(&place.cocker)
        .map_err(|error| error.to_string())?
        .len();
    figures.insert(
        "program cocker".into(),
        BTreeMap::from([("bytes".into(), size)]),
    );
    for container in ["keeper", "host", "bridged", "kept"] {
        let _ = go(&format!("destroy --shutdown -f {container}"));
    }
    Ok(figures)
}

/// The residents, which boot writes into memory.
fn carried(traced: &Trace, row: &mut BTreeMap<String, u64>) {
    for name in ["cockerinit", "cocker-supervisor"] {
        if let Some(size) = traced.carried(name) {
            row.insert(
                format!("{} bytes", name.trim_start_matches("cocker-")),
                size as u64,
            );
        }
    }
}

fn least(row: &mut BTreeMap<String, u64>, what: &str, figure: u64) {
    let known = row.entry(what.to_string()).or_insert(figure);
    *known = figure.min(*known);
}

/// Instructions of a command that is one process.
fn instructions(place: &Place, cocker: &str, command: &str) -> Outcome<u64> {
    place.run(&[
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        cocker,
        command,
    ])?;
    let said = fs::read_to_string(place.path("complaints")).map_err(|error| error.to_string())?;
    let line = said
        .lines()
        .rfind(|line| line.contains("Collected :"))
        .ok_or("valgrind counts nothing")?;
    line.rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| "valgrind says no number".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(calls: u64) -> Figures {
        Figures::from([("images".into(), BTreeMap::from([("calls".into(), calls)]))])
    }

    #[test]
    fn five_in_a_hundred_more_is_let_through_and_no_more() {
        let recorded = json!({ "images": { "calls": 200 } });
        assert!(compare(&recorded, &figures(210), true));
        assert!(!compare(&recorded, &figures(211), true));
        assert!(compare(&recorded, &figures(10), true));
    }

    #[test]
    fn small_counts_may_grow_by_three() {
        let recorded = json!({ "images": { "calls": 10 } });
        assert!(compare(&recorded, &figures(13), true));
        assert!(!compare(&recorded, &figures(14), true));
    }

    #[test]
    fn what_is_not_recorded_or_not_counted_any_more_is_no_silent_pass() {
        assert!(!compare(&json!({}), &figures(1), true));
        assert!(!compare(
            &json!({ "images": { "calls": 1, "instructions": 9 } }),
            &figures(1),
            true
        ));
    }

    #[test]
    fn boots_elsewhere_are_not_judged() {
        let now = Figures::from([(
            "boot host, until its end".into(),
            BTreeMap::from([("calls".into(), 2000)]),
        )]);
        let recorded = json!({ "boot host, until its end": { "calls": 1000 } });
        assert!(compare(&recorded, &now, false));
        assert!(!compare(&recorded, &now, true));
    }
}
