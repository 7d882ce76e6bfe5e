//! What `prune`, `df` and `check` print.

use super::{Column, harmless, json, size, table};
use cocker_engine::{
    ContainerUsage, Finding, Grade, ImageUsage, KindUsage, Pruned, PrunedKind, Usage,
};
use serde::Serialize;
use std::fmt::Write;

/// How many digits of a layer's id tell it from others for a person.
const DIGITS: usize = 12;

const USAGE_COLUMNS: [Column; 5] = [
    ("kind", 12),
    ("count", 8),
    ("size", 10),
    ("shared", 10),
    ("reclaimable", 11),
];
const USAGE_DASHES: usize = 55;

const FINDING_COLUMNS: [Column; 4] = [("grade", 6), ("thing", 20), ("finding", 40), ("remedy", 20)];
const FINDING_DASHES: usize = 89;

/// One line a thing: kind, name, size.
pub fn pruned(pruned: &[Pruned]) -> String {
    pruned.iter().fold(String::new(), |mut text, it| {
        let name = match it.kind {
            PrunedKind::Layer => it.name.chars().take(DIGITS).collect(),
            _ => harmless(it.name.clone()),
        };
        let _ = writeln!(text, "{} {name} {}", kind(it.kind), size(it.size));
        text
    })
}

/// All of it for programs.
pub fn pruned_json(pruned: &[Pruned]) -> String {
    let entries = pruned.iter().map(|it| PrunedEntry {
        kind: kind(it.kind),
        name: &it.name,
        size: it.size,
    });
    json(entries.collect::<Vec<_>>())
}

/// A line each for layers, writable layers, logs and staging, and one for what is left on the disk.
pub fn usage(usage: &Usage) -> String {
    let row = |kind: &str, it: &KindUsage, shared: String| {
        let cells = [kind.into(), it.count.to_string(), size(it.size)];
        let [kind, count, whole] = cells;
        [kind, count, whole, shared, size(it.reclaimable)]
    };
    let nothing = String::new;
    let free = [
        "free".into(),
        nothing(),
        size(usage.free),
        nothing(),
        nothing(),
    ];
    let rows = vec![
        row("layers", &usage.layers.all, size(usage.layers.shared)),
        row("containers", &usage.containers, nothing()),
        row("logs", &usage.logs, nothing()),
        row("staging", &usage.staging, nothing()),
        free,
    ];
    table(&USAGE_COLUMNS, USAGE_DASHES, 0, rows)
}

/// The same, with every image and container.
pub fn usage_json(usage: &Usage) -> String {
    json(UsageEntry {
        layers: LayersEntry {
            all: KindEntry::of(&usage.layers.all),
            shared: usage.layers.shared,
        },
        containers: KindEntry::of(&usage.containers),
        logs: KindEntry::of(&usage.logs),
        staging: KindEntry::of(&usage.staging),
        free: usage.free,
        images: usage.images.iter().map(ImageEntry::of).collect(),
        each_container: usage
            .each_container
            .iter()
            .map(ContainerEntry::of)
            .collect(),
    })
}

/// What is not as it should be; nothing where all is.
pub fn findings(findings: &[Finding]) -> String {
    let row = |it: &Finding| {
        [
            grade(it.grade).into(),
            it.thing.clone(),
            it.what.clone(),
            it.remedy.clone(),
        ]
    };
    let rows = findings.iter().map(row).collect();
    table(&FINDING_COLUMNS, FINDING_DASHES, 0, rows)
}

pub fn findings_json(findings: &[Finding]) -> String {
    let entries = findings.iter().map(|it| FindingEntry {
        grade: grade(it.grade),
        thing: &it.thing,
        finding: &it.what,
        remedy: &it.remedy,
    });
    json(entries.collect::<Vec<_>>())
}

fn kind(kind: PrunedKind) -> &'static str {
    match kind {
        PrunedKind::Leftover => "leftover",
        PrunedKind::File => "file",
        PrunedKind::Layer => "layer",
        PrunedKind::Image => "image",
        PrunedKind::Ids => "ids",
        PrunedKind::Address => "address",
    }
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Wrong => "WRONG",
        Grade::Note => "NOTE",
    }
}

// The names of all fields below are an interface: they stay. Sizes are in bytes.

#[derive(Serialize)]
struct PrunedEntry<'a> {
    kind: &'static str,
    name: &'a str,
    size: u64,
}

#[derive(Serialize)]
struct FindingEntry<'a> {
    /// WRONG or NOTE.
    grade: &'static str,
    thing: &'a str,
    finding: &'a str,
    remedy: &'a str,
}

#[derive(Serialize)]
struct UsageEntry<'a> {
    layers: LayersEntry,
    containers: KindEntry,
    logs: KindEntry,
    staging: KindEntry,
    free: u64,
    images: Vec<ImageEntry<'a>>,
    each_container: Vec<ContainerEntry<'a>>,
}

#[derive(Serialize)]
struct LayersEntry {
    #[serde(flatten)]
    all: KindEntry,
    shared: u64,
}

#[derive(Serialize)]
struct KindEntry {
    count: usize,
    size: u64,
    reclaimable: u64,
    /// How many of them have no record of their size.
    unmeasured: usize,
}

#[derive(Serialize)]
struct ImageEntry<'a> {
    image_id: &'a str,
    version: &'a str,
    own: u64,
    shared: u64,
}

#[derive(Serialize)]
struct ContainerEntry<'a> {
    container_id: &'a str,
    own: u64,
    logs: u64,
    shared: u64,
}

impl KindEntry {
    fn of(it: &KindUsage) -> KindEntry {
        let KindUsage {
            count,
            size,
            reclaimable,
            unmeasured,
        } = *it;
        KindEntry {
            count,
            size,
            reclaimable,
            unmeasured,
        }
    }
}

impl<'a> ImageEntry<'a> {
    fn of(it: &'a ImageUsage) -> ImageEntry<'a> {
        ImageEntry {
            image_id: it.name.as_str(),
            version: it.version.as_str(),
            own: it.own,
            shared: it.shared,
        }
    }
}

impl<'a> ContainerEntry<'a> {
    fn of(it: &'a ContainerUsage) -> ContainerEntry<'a> {
        ContainerEntry {
            container_id: it.name.as_str(),
            own: it.own,
            logs: it.logs,
            shared: it.shared,
        }
    }
}
