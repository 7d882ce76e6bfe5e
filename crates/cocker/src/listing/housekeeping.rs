//! What `prune`, `df`, `check` and `doctor` print.

use super::{Column, harmless, json, size, table};
use cocker_engine::{
    ContainerUsage, Diagnosis, Finding, Grade, ImageUsage, KindUsage, Outcome, Pruned, PrunedKind,
    Usage,
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
    let containers = usage.each_container.iter();
    json(UsageEntry {
        kinds: [
            KindEntry::of("layers", &usage.layers.all, Some(usage.layers.shared)),
            KindEntry::of("containers", &usage.containers, None),
            KindEntry::of("logs", &usage.logs, None),
            KindEntry::of("staging", &usage.staging, None),
        ],
        images: usage.images.iter().map(ImageEntry::of).collect(),
        containers: containers.map(ContainerEntry::of).collect(),
        free: usage.free,
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

/// What a doctor found; where something was to be mended, what became of it stands in the place of the remedy of what is mended, and
/// behind that of what is not.
pub fn diagnoses(diagnoses: &[Diagnosis]) -> String {
    let row = |it: &Diagnosis| {
        let remedy = match &it.outcome {
            None => it.finding.remedy.clone(),
            Some(Outcome::Mended) => "mended".into(),
            Some(Outcome::Stays(why)) => format!("{} (not mended: {why})", it.finding.remedy),
        };
        [
            grade(it.finding.grade).into(),
            it.finding.thing.clone(),
            it.finding.what.clone(),
            remedy,
        ]
    };
    let rows = diagnoses.iter().map(row).collect();
    table(&FINDING_COLUMNS, FINDING_DASHES, 0, rows)
}

pub fn diagnoses_json(diagnoses: &[Diagnosis]) -> String {
    let entries = diagnoses.iter().map(|it| DiagnosisEntry {
        finding: FindingEntry {
            grade: grade(it.finding.grade),
            thing: &it.finding.thing,
            finding: &it.finding.what,
            remedy: &it.finding.remedy,
        },
        mended: it
            .outcome
            .as_ref()
            .map(|outcome| *outcome == Outcome::Mended),
        why_not: match &it.outcome {
            Some(Outcome::Stays(why)) => Some(why),
            _ => None,
        },
    });
    json(entries.collect::<Vec<_>>())
}

fn kind(kind: PrunedKind) -> &'static str {
    match kind {
        PrunedKind::Leftover => "leftover",
        PrunedKind::File => "file",
        PrunedKind::Transfer => "transfer",
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
        Grade::Hint => "HINT",
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
    /// WRONG, NOTE or HINT.
    grade: &'static str,
    thing: &'a str,
    finding: &'a str,
    remedy: &'a str,
}

#[derive(Serialize)]
struct DiagnosisEntry<'a> {
    #[serde(flatten)]
    finding: FindingEntry<'a>,
    /// Null where nothing was to be mended.
    mended: Option<bool>,
    why_not: Option<&'a String>,
}

#[derive(Serialize)]
struct UsageEntry<'a> {
    kinds: [KindEntry; 4],
    images: Vec<ImageEntry<'a>>,
    containers: Vec<ContainerEntry<'a>>,
    /// What the file system has left.
    free: u64,
}

#[derive(Serialize)]
struct KindEntry {
    kind: &'static str,
    count: usize,
    size: u64,
    /// Null where nothing of the kind is shared.
    shared: Option<u64>,
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
    fn of(kind: &'static str, it: &KindUsage, shared: Option<u64>) -> KindEntry {
        let KindUsage {
            count,
            size,
            reclaimable,
            unmeasured,
        } = *it;
        KindEntry {
            kind,
            count,
            size,
            shared,
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

#[cfg(test)]
mod tests {
    use super::*;
    use cocker_engine::{LayerSizes, Name, Version};

    fn whole() -> Usage {
        let kind = |count, size, reclaimable| KindUsage {
            count,
            size,
            reclaimable,
            unmeasured: 0,
        };
        Usage {
            layers: LayerSizes {
                all: kind(3, 90 << 20, 20 << 20),
                shared: 50 << 20,
            },
            containers: kind(2, 4096, 0),
            logs: kind(1, 100, 0),
            staging: kind(0, 0, 0),
            images: vec![ImageUsage {
                name: Name::parse("web").unwrap(),
                version: Version::none(),
                own: 20,
                shared: 50,
            }],
            each_container: vec![ContainerUsage {
                name: Name::parse("api").unwrap(),
                own: 4096,
                logs: 100,
                shared: 70,
            }],
            free: 77 << 30,
        }
    }

    #[test]
    fn what_takes_room_is_a_line_a_kind() {
        assert_eq!(
            usage(&whole()),
            "\
kind         count    size       shared     reclaimable
-------------------------------------------------------
layers       3        90 MB      50 MB      20 MB
containers   2        4 KB                  0 B
logs         1        100 B                 0 B
staging      0        0 B                   0 B
free                  77 GB                 \n"
        );
    }

    #[test]
    fn programs_get_every_image_and_container() {
        let read: serde_json::Value = serde_json::from_str(&usage_json(&whole())).unwrap();
        assert_eq!(read["kinds"][0]["kind"], "layers");
        assert_eq!(read["kinds"][0]["shared"], 50 << 20);
        assert_eq!(read["kinds"][2]["shared"], serde_json::Value::Null);
        assert_eq!(read["images"][0]["image_id"], "web");
        assert_eq!(read["images"][0]["own"], 20);
        assert_eq!(read["containers"][0]["logs"], 100);
        assert_eq!(read["free"], 77_u64 << 30);
    }

    #[test]
    fn what_was_removed_is_a_line_a_thing() {
        let of = |kind, name: &str, size| Pruned {
            kind,
            name: name.into(),
            size,
        };
        let layer = "0123456789abcdef0123456789abcdef";
        let all = [
            of(PrunedKind::Layer, layer, 43 << 20),
            of(PrunedKind::Leftover, "layers/.new-\u{1b}", 0),
            of(PrunedKind::Ids, "7", 0),
        ];
        assert_eq!(
            pruned(&all),
            "layer 0123456789ab 43 MB\nleftover layers/.new-\\u{1b} 0 B\nids 7 0 B\n"
        );
        let read: serde_json::Value = serde_json::from_str(&pruned_json(&all)).unwrap();
        assert_eq!(read[0]["name"], layer);
        assert_eq!(read[0]["size"], 43 << 20);
    }

    #[test]
    fn what_was_mended_and_what_was_not_is_said() {
        let of = |thing: &str, outcome| Diagnosis {
            finding: Finding::wrong(thing, "is there for nobody", "cocker doctor --fix"),
            outcome,
        };
        let all = [
            of("link a", None),
            of("link b", Some(Outcome::Mended)),
            of("link c", Some(Outcome::Stays("Device busy".into()))),
        ];
        let shown = diagnoses(&all);
        let ends: Vec<&str> = shown.lines().skip(2).map(|line| line.trim_end()).collect();
        assert!(ends[0].ends_with("cocker doctor --fix"), "{shown}");
        assert!(ends[1].ends_with(" mended"), "{shown}");
        assert!(
            ends[2].ends_with("cocker doctor --fix (not mended: Device busy)"),
            "{shown}"
        );
        let read: serde_json::Value = serde_json::from_str(&diagnoses_json(&all)).unwrap();
        assert_eq!(read[0]["mended"], serde_json::Value::Null);
        assert_eq!(
            (&read[1]["mended"], &read[1]["thing"]),
            (&true.into(), &"link b".into())
        );
        assert_eq!(read[2]["why_not"], "Device busy");
    }

    #[test]
    fn a_sound_store_is_nothing_to_speak_of() {
        assert_eq!(findings(&[]), "");
        assert_eq!(findings_json(&[]), "[]\n");
        let shown = findings(&[Finding::note("image a", "has no version", "cocker prune")]);
        assert!(shown.ends_with(
            "NOTE   image a              has no version                           cocker prune\n"
        ));
    }
}
