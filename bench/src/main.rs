//! Measures cocker beside the kernel's floor and beside other engines, on one root file system, in one run.
//!
//! ```text
//!  compare table PROGRAM FLOOR ROOT FOLDER     writes FOLDER/README.md, figures.json, and a plot for each row
//!  compare steps PROGRAM FLOOR ROOT FILE       writes where the time of a boot goes
//!  compare guard PROGRAM RECORD [record]       counts calls, processes, instructions and bytes, and fails where there are more
//! ```
//!
//! | variable | means |
//! |---|---|
//! | `COCKER_BENCH_ROUNDS` | samples per row and subject; 15 |
//! | `COCKER_BENCH_QUICK` | `1`: two rounds, nothing that takes minutes |
//! | `COCKER_BENCH_MEGABYTES` | size of the file that is put and got; 320, since it is there three times meanwhile |
//! | `COCKER_BENCH_ROWS` | begins of ids of rows, by commas; the others stay as they were written last |
//! | `COCKER_BENCH_SUBJECTS` | names, by commas |
//!
//! Needs root. Everything happens in mount and network namespaces of its own; no address outside is asked. In /var/tmp there is
//! about 1 GB meanwhile, and nothing afterwards.
#![forbid(unsafe_code)]

mod engines;
mod figures;
mod guard;
mod place;
mod plot;
mod rows;
mod steps;
mod trace;

use engines::{Engines, NAMES};
use place::{Outcome, Place};
use rows::{Plan, Rows};
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    place::enter_own_namespaces();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["table", cocker, floor, root, folder] => table(cocker, floor, root, folder),
        ["steps", cocker, floor, root, file] => steps(cocker, floor, root, file),
        ["guard", cocker, record] => guard(cocker, record, false),
        ["guard", cocker, record, "record"] => guard(cocker, record, true),
        _ => Err("usage: compare table|steps|guard …; see the top of bench/src/main.rs".into()),
    };
    if let Err(why) = outcome {
        eprintln!("Error: {why}");
        std::process::exit(1);
    }
}

fn absolute(path: &str) -> Outcome<PathBuf> {
    fs::canonicalize(path).map_err(|error| format!("{path}: {error}"))
}

fn guard(cocker: &str, record: &str, write: bool) -> Outcome<()> {
    let record = env::current_dir()
        .map_err(|error| error.to_string())?
        .join(record);
    let cocker = absolute(cocker)?;
    let place = Place::new(&cocker, &cocker)?;
    let outcome = guard::guard(&place, &record, write);
    place.clear_away();
    if outcome? {
        Ok(())
    } else {
        Err("a command costs more than is recorded".into())
    }
}

fn steps(cocker: &str, floor: &str, root: &str, file: &str) -> Outcome<()> {
    let (cocker, floor, root) = (absolute(cocker)?, absolute(floor)?, absolute(root)?);
    let file = env::current_dir()
        .map_err(|error| error.to_string())?
        .join(file);
    let mut place = Place::new(&cocker, &floor)?;
    let outcome = prepare(&mut place, &root).and_then(|(tar, tree)| {
        let engines = Engines::new(&place, tree, &[], &tar)?;
        let text = steps::page(&engines)?;
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
    });
    place.clear_away();
    outcome
}

fn table(cocker: &str, floor: &str, root: &str, folder: &str) -> Outcome<()> {
    let (cocker, floor, root, folder) = (
        absolute(cocker)?,
        absolute(floor)?,
        absolute(root)?,
        absolute(folder)?,
    );
    let said = |variable: &str| env::var(variable).ok().filter(|value| !value.is_empty());
    let quick = said("COCKER_BENCH_QUICK").is_some_and(|value| value != "0");
    let rounds = match said("COCKER_BENCH_ROUNDS") {
        Some(rounds) => rounds
            .parse()
            .map_err(|_| "COCKER_BENCH_ROUNDS is a number")?,
        None if quick => 2,
        None => 15,
    };
    let megabytes = said("COCKER_BENCH_MEGABYTES")
        .map_or(Ok(320), |number| number.parse())
        .map_err(|_| "COCKER_BENCH_MEGABYTES is a number")?;
    let plan = Plan {
        megabytes,
        rounds,
        quick,
        only: said("COCKER_BENCH_ROWS")
            .map(|rows| rows.split(',').map(str::to_string).collect())
            .unwrap_or_default(),
        subjects: rows::chosen(&said("COCKER_BENCH_SUBJECTS").unwrap_or_else(|| NAMES.join(","))),
    };
    let mut place = Place::new(&cocker, &floor)?;
    let outcome = measure(&mut place, &plan, &root)
        .and_then(|(rows, versions)| write(rows, &versions, &plan, &folder));
    place.clear_away();
    outcome
}

type Versions = Vec<(&'static str, String)>;

/// Image `debian` of the root file system, and a namespace for those who want no cgroup v2; the tar file and cocker's layer.
fn prepare(place: &mut Place, root: &Path) -> Outcome<(String, String)> {
    let tar = place.path("root.tar");
    // What nobody runs is left out: all of it is there three times.
    place.shell(&format!(
        "tar -C '{}' --one-file-system --exclude=./usr/share/doc --exclude=./usr/share/locale --exclude=./usr/share/man --exclude='./dev/*' \
         --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' -cf '{tar}' .",
        root.display()
    ))?;
    let cocker = place.cocker.to_string_lossy().into_owned();
    place.run(&[&cocker, "import", "--no-base", "-m", "debian", &tar])?;
    let layers = fs::read_dir(place.path("home/layers")).map_err(|error| error.to_string())?;
    let layer = layers
        .flatten()
        .next()
        .ok_or("the image has no layer")?
        .path();
    let tree = layer.join("tree").to_string_lossy().into_owned();
    place.copy_without_unified()?;
    Ok((tar, tree))
}

fn measure(place: &mut Place, plan: &Plan, root: &Path) -> Outcome<(Vec<figures::Row>, Versions)> {
    let (tar, tree) = prepare(place, root)?;
    let place = &*place;
    let engines = Engines::new(place, tree, &plan.subjects, &tar);
    let _ = fs::remove_file(&tar);
    let engines = engines?;
    let versions = plan
        .subjects
        .iter()
        .map(|engine| (*engine, engines.version(engine)))
        .collect();
    let mut rows = Rows::new(&engines, plan);
    rows.all();
    let done = std::mem::take(&mut rows.done);
    engines.stop_daemon();
    Ok((done, versions))
}

/// The table, the figures and the plots. Rows that were not asked for stay as they are.
fn write(
    measured: Vec<figures::Row>,
    versions: &Versions,
    plan: &Plan,
    folder: &Path,
) -> Outcome<()> {
    let put = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
    };
    let mut rows = measured;
    if !plan.only.is_empty() {
        rows = keep_others(rows, folder);
    }
    let json: Vec<_> = rows.iter().map(figures::Row::to_json).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_string();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("\t: unknown")
        .trim_start_matches(['\t', ':', ' '])
        .to_string();
    let processors = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let versions_json: serde_json::Map<_, _> = versions
        .iter()
        .map(|(name, version)| (name.to_string(), version.as_str().into()))
        .collect();
    let whole = serde_json::json!({ "kernel": kernel, "processor": model, "processors": processors, "rounds": plan.rounds, "quick": plan.quick,
                                    "versions": versions_json, "rows": json });
    put(
        "figures.json",
        &(serde_json::to_string_pretty(&whole).expect("plain values") + "\n"),
    )?;
    for row in &rows {
        put(&format!("{}.svg", row.id), &plot::svg(row, &NAMES))?;
    }
    let versions: Vec<String> = versions
        .iter()
        .map(|(name, version)| format!("- {name}: {}", version.replace('\n', " ")))
        .collect();
    let text = format!(
        "# Speed, beside the kernel's floor and beside other engines\n\n\
         Made by `make bench`: the same work on the same root file system (Debian's, by debootstrap), all subjects in turn, {} rounds. A cell is \
         the median, and the middle half of the samples. Linux {kernel}, {processors} × {model}.{}\n\n\
         **floor** is `bench/src/floor`: a program that makes the system calls that cocker makes, with nothing around them. \
         What boot does with its time, step by step: [WHERE-THE-TIME-GOES.md](WHERE-THE-TIME-GOES.md). All samples: [figures.json](figures.json).\n\n{}\n\
         ## Versions\n\n{}\n",
        plan.rounds,
        if plan.quick {
            " **A quick run: few rounds, less data.**"
        } else {
            ""
        },
        figures::markdown(&rows, &NAMES),
        versions.join("\n")
    );
    put("README.md", &text)
}

/// What was measured before and not now, and what was measured now, in the order of before.
fn keep_others(measured: Vec<figures::Row>, folder: &Path) -> Vec<figures::Row> {
    let text = fs::read_to_string(folder.join("figures.json")).unwrap_or_default();
    let before: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let mut rows: Vec<figures::Row> = before["rows"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| figures::from_json(row, &NAMES))
        .collect();
    for row in measured {
        match rows.iter_mut().find(|known| known.id == row.id) {
            Some(known) => *known = row,
            None => rows.push(row),
        }
    }
    rows
}
