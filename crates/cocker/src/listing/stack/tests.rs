//! The listings of stacks to the letter.

use super::*;
use cocker_engine::LayerRecord;
use std::time::{Duration, UNIX_EPOCH};

fn layer(number: usize, images: &[&str], origin: Option<LayerOrigin>) -> LayerSummary {
    let id = serde_json::from_value(format!("{number:032x}").into()).unwrap();
    let record = LayerRecord {
        id,
        made: UNIX_EPOCH + Duration::from_secs(1_541_841_672),
        size: 24 << 20,
        base: Vec::new(),
        origin,
        digest: None,
        diff_id: None,
    };
    let image = |text: &&str| {
        let (name, version) = text.split_once(':').unwrap_or((text, "_"));
        (Name::parse(name).unwrap(), Version::parse(version).unwrap())
    };
    LayerSummary {
        number,
        record,
        images: images.iter().map(image).collect(),
    }
}

#[test]
fn a_history_is_listed_to_the_letter() {
    let long = format!("RUN \x1b[2J{}", "x".repeat(100));
    let layers = [
        layer(4, &[], Some(LayerOrigin::Foreign(long))),
        layer(
            3,
            &["web:1.0", "web"],
            Some(LayerOrigin::Container("web".into())),
        ),
        layer(2, &[], Some(LayerOrigin::Archive("x.cockerimage".into()))),
        layer(1, &["test"], Some(LayerOrigin::HostPrograms)),
    ];
    let xs = "x".repeat(47);
    let expected = format!(
        "number layer_id     image                make_datetime       size       origin\n\
         {}\n\
         4      000000000000 -                    2018-11-10T09:21:12 24 MB      RUN \\u{{1b}}[2J{xs}…\n\
         3      000000000000 web:1.0,web          2018-11-10T09:21:12 24 MB      container web\n\
         2      000000000000 -                    2018-11-10T09:21:12 24 MB      file x.cockerimage\n\
         1      000000000000 test                 2018-11-10T09:21:12 24 MB      the host's programs\n",
        "-".repeat(92 + 41)
    );
    assert_eq!(history_table(&layers, &Clock::ahead_of_utc(0)), expected);
    assert_eq!(history_table(&[], &Clock::ahead_of_utc(0)), "");
}

#[test]
fn traces_are_listed_to_the_letter() {
    let trace = |layer, found, standing| TraceSummary {
        layer,
        found,
        standing,
    };
    let target = b"a\x1b\xff".to_vec();
    let traces = [
        trace(None, Found::Link { target }, Standing::Seen),
        trace(
            Some(layer(2, &["a"], None)),
            Found::Removal,
            Standing::Hidden,
        ),
        trace(
            Some(layer(1, &[], None)),
            Found::File { size: 1234 },
            Standing::Hidden,
        ),
    ];
    let expected = format!(
        "number layer_id     image                make_datetime       size       found                standing\n\
         {}\n\
         -      -            container            -                   -          link -> a\\u{{1b}}\\xff  seen\n\
         2      000000000000 a                    2018-11-10T09:21:12 24 MB      removes it           hidden\n\
         1      000000000000 -                    2018-11-10T09:21:12 24 MB      file 1234 B          hidden\n",
        "-".repeat(101)
    );
    assert_eq!(trace_table(&traces, &Clock::ahead_of_utc(0)), expected);
    let names = super::traces(&traces, ListingForm::Names);
    assert_eq!(names, format!("container\n{:032x}\n{:032x}\n", 2, 1));
}

fn changes(form: ListingForm, changes: &[Change]) -> String {
    let mut list = Changes::new(form);
    changes.iter().for_each(|change| list.add(change));
    list.finish()
}

#[test]
fn changes_are_lines_for_people_and_lose_nothing_for_programs() {
    let found = [
        Change {
            kind: ChangeKind::Changed,
            path: b"/etc/motd".to_vec(),
            file: FileKind::File,
            differences: vec![Difference::Size, Difference::ModificationTime],
        },
        Change {
            kind: ChangeKind::Added,
            path: b"/\x1b[2J\xff".to_vec(),
            file: FileKind::BlockDevice,
            differences: Vec::new(),
        },
    ];
    assert_eq!(
        changes(ListingForm::Table, &found),
        "C /etc/motd\nA /\\u{1b}[2J\\xff\n"
    );
    assert_eq!(
        changes(ListingForm::Names, &found),
        "/etc/motd\n/\\u{1b}[2J\\xff\n"
    );
    let text = changes(ListingForm::Json, &found);
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!([
        {"change": "changed", "path": "/etc/motd", "type": "file", "differences": ["size", "modify_datetime"]},
        {"change": "added", "path": "/\x1b[2J\u{fffd}", "path_bytes": "2f1b5b324aff", "type": "block_device", "differences": []},
    ]);
    assert_eq!(parsed, expected);
    assert_eq!(changes(ListingForm::Json, &[]), "[]\n");
    assert_eq!(changes(ListingForm::Table, &[]), "");
}
