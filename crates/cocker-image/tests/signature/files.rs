//! Allowed signers files: both programs read the same lines and agree on who may sign.

use crate::lab::{Lab, MESSAGE, WHO};
use cocker_image::signature::{AllowedSigners, LineError, SignatureError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::error::Error;

/// What becomes of a file with one signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted,
    Refused,
    /// ssh-keygen accepts it, and cocker does not.
    Stricter,
}
use Verdict::{Accepted, Refused, Stricter};

/// `{key}` is the signer's key, `{other}` another one; both look on 2026-07-01 at 12:00 in UTC, 15:00 where they are.
const FILES: &[(&[u8], Verdict)] = &[
    (b"who@example.com {key}\n", Accepted),
    (b"who@example.com {key}", Accepted),
    (b"who@example.com {key} a comment\n", Accepted),
    (b"who@example.com {key} \xff\xfe comment\n", Accepted),
    (b"who@example.com {key}\r\n", Accepted),
    (b" \twho@example.com \t{key}\n", Accepted),
    (b"who@example.com\t{key}\n", Accepted),
    (b"", Refused),
    (b"\n\n# {key}\n", Refused),
    (
        b"# a comment\n\n   # another\nwho@example.com {key}\n",
        Accepted,
    ),
    (b"#who@example.com {key}\n", Refused),
    (b"who@example.com {other}\n", Refused),
    (
        b"who@example.com {other}\nwho@example.com {key}\n",
        Accepted,
    ),
    // Principals.
    (b"* {key}\n", Accepted),
    (b"*@example.com {key}\n", Accepted),
    (b"?ho@example.com {key}\n", Accepted),
    (b"a@b,who@example.com,c@d {key}\n", Accepted),
    (b"!who@example.com {key}\n", Refused),
    (b"who@example.com,!who@example.com {key}\n", Refused),
    (b"!who@example.com,who@example.com {key}\n", Refused),
    (b"!*,who@example.com {key}\n", Refused),
    (b", {key}\n", Refused),
    (b"\"who@example.com\" {key}\n", Accepted),
    (b"\"who@example.com,some one\" {key}\n", Accepted),
    (b"who@\"example.com\" {key}\n", Accepted),
    (b"\"who@example.com {key}\n", Refused),
    (b"who@example.com\n", Refused),
    (b"{key}\n", Refused),
    // Keys.
    (b"who@example.com {kind}\n", Refused),
    (b"who@example.com {kind} AAAA\n", Refused),
    (b"who@example.com {kind} {blob}=\n", Refused),
    (b"who@example.com {kind} {blob}AAAA\n", Refused),
    (b"who@example.com ssh-rsa {blob}\n", Refused),
    (b"who@example.com ssh-nonsense {blob}\n", Refused),
    (b"who@example.com {blob}\n", Refused),
    (b"who@example.com {kind}  {blob}\n", Accepted),
    (b"who@example.com {kind}\0 {blob}\n", Refused),
    (b"who@example.com ED25519 {blob}\n", Refused),
    // A line that makes no sense takes nothing from the next.
    (b"nonsense\nwho@example.com {key}\n", Accepted),
    (
        b"who@example.com nonsense\nwho@example.com {key}\n",
        Accepted,
    ),
    (
        b"who@example.com nonsense=\"x {key}\nwho@example.com {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"x\" {key}\nwho@example.com {key}\n",
        Accepted,
    ),
    // Namespaces.
    (
        b"who@example.com namespaces=\"cocker-image\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com NameSpaces=\"cocker-image\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com namespaces=\"file,cocker-image\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com namespaces=\"file,cocker-image\"\t {key}\n",
        Accepted,
    ),
    (b"who@example.com namespaces=\"*\" {key}\n", Accepted),
    (b"who@example.com namespaces=\"cocker-*\" {key}\n", Accepted),
    (b"who@example.com namespaces=\"*-image\" {key}\n", Accepted),
    (b"who@example.com namespaces=\"c*r-*a*e\" {key}\n", Accepted),
    (b"who@example.com namespaces=\"c*r-*a*f\" {key}\n", Refused),
    (
        b"who@example.com namespaces=\"cocker?image\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com namespaces=\"cocker-imag?\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com namespaces=\"cocker-image?\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com namespaces=\"Cocker-Image\" {key}\n",
        Refused,
    ),
    (b"who@example.com namespaces=\"file\" {key}\n", Refused),
    (b"who@example.com namespaces=\"\" {key}\n", Refused),
    (b"who@example.com namespaces=\"!file\" {key}\n", Refused),
    (b"who@example.com namespaces=\"*,!file\" {key}\n", Accepted),
    (
        b"who@example.com namespaces=\"*,!cocker-image\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com namespaces=\"!cocker-*,*\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com namespaces=\"file, cocker-image\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com namespaces=\"x\\\"y,cocker-image\" {key}\n",
        Accepted,
    ),
    (b"who@example.com namespaces=cocker-image {key}\n", Refused),
    (
        b"who@example.com namespaces=\"cocker-image {key}\n",
        Refused,
    ),
    (b"who@example.com namespaces {key}\n", Refused),
    (
        b"who@example.com namespaces=\"*\",namespaces=\"*\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com namespaces=\"file\" {key}\nwho@example.com {key}\n",
        Accepted,
    ),
    (b"who@example.com namespaces=\"*\" # {key}\n", Refused),
    // Options in general.
    (b"who@example.com ,namespaces=\"*\" {key}\n", Accepted),
    (
        b"who@example.com namespaces=\"*\",,valid-after=\"20260101\" {key}\n",
        Accepted,
    ),
    (b"who@example.com namespaces=\"*\", {key}\n", Refused),
    (
        b"who@example.com namespaces=\"*\"valid-after=\"20260101\" {key}\n",
        Refused,
    ),
    (b"who@example.com unknown {key}\n", Refused),
    (b"who@example.com unknown=\"x\" {key}\n", Refused),
    (b"who@example.com namespaces=\"*\",unknown {key}\n", Refused),
    (b"who@example.com no-touch-required {key}\n", Refused),
    (b"who@example.com cert-authority {key}\n", Refused),
    (
        b"who@example.com CERT-authority {key}\nwho@example.com {key}\n",
        Accepted,
    ),
    (b"who@example.com cert-authorityx {key}\n", Refused),
    (
        b"who@example.com cert-authority,namespaces=\"*\" {key}\n",
        Refused,
    ),
    // Times in UTC, to the second.
    (
        b"who@example.com valid-after=\"20260701Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20260702Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"202607011200Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"202607011201Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"20260701120000Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20260701120001Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com Valid-Before=\"20260701120000z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-before=\"20260701115959Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"20260701115959UTC\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"20260701120001UTC\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-before=\"20260701Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"20260702Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-before=\"20240229Z\" {key}\nwho@example.com {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20240229Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20260701Z\",valid-before=\"20260702Z\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20260601Z\",valid-before=\"20260630Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"20260702Z\",valid-after=\"20260703Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"20250101Z\",valid-after=\"20250101Z\" {key}\n",
        Refused,
    ),
    // Where they are.
    (
        b"who@example.com valid-after=\"20260701150000\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-after=\"20260701150001\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"202607011500\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-before=\"202607011459\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-before=\"20260702\" {key}\n",
        Accepted,
    ),
    (
        b"who@example.com valid-before=\"20260701\" {key}\n",
        Refused,
    ),
    // No times.
    (b"who@example.com valid-after=\"\" {key}\n", Refused),
    (b"who@example.com valid-after=\"Z\" {key}\n", Refused),
    (b"who@example.com valid-after=\"2026\" {key}\n", Refused),
    (
        b"who@example.com valid-after=\"2026010112Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"20261301Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"20260100Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"202601012400Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"202601011260Z\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"2026-01-01\" {key}\n",
        Refused,
    ),
    (
        b"who@example.com valid-after=\"20260101+01\" {key}\n",
        Refused,
    ),
    (b"who@example.com valid-after=20260101Z {key}\n", Refused),
    (
        b"who@example.com valid-after=\"19700101Z\" {key}\n",
        Refused,
    ),
    // Days that no calendar has.
    (
        b"who@example.com valid-after=\"20260431Z\" {key}\n",
        Stricter,
    ),
    (
        b"who@example.com valid-after=\"20230229Z\" {key}\n",
        Stricter,
    ),
];

#[test]
fn both_agree_on_every_file() {
    let lab = Lab::new();
    let (key, other) = (lab.key("key", &["ed25519"]), lab.key("other", &["ed25519"]));
    let signature = lab.theirs(&key, "cocker-image");
    let (key, other) = (lab.public(&key), lab.public(&other));
    let (kind, blob) = key.split_once(' ').expect("two words");
    let mut differing = Vec::new();
    for (template, verdict) in FILES {
        let content = fill(template, "{key}", &key);
        let content = fill(&content, "{other}", &other);
        let content = fill(&fill(&content, "{kind}", kind), "{blob}", blob);
        let allowed = lab.write("allowed", &content);
        let ours = lab.we_say(&allowed, MESSAGE, &signature).is_ok();
        let theirs = lab.they_accept(&allowed, MESSAGE, &signature);
        let as_expected = match verdict {
            Accepted => ours && theirs,
            Refused => !ours && !theirs,
            Stricter => !ours && theirs,
        };
        if !as_expected {
            let shown = String::from_utf8_lossy(template).into_owned();
            differing.push(format!(
                "{shown:?} is {verdict:?}; we accept: {ours}, they: {theirs}"
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

fn fill(template: &[u8], name: &str, value: &str) -> Vec<u8> {
    let mut filled = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        match rest.strip_prefix(name.as_bytes()) {
            Some(after) => {
                filled.extend_from_slice(value.as_bytes());
                rest = after;
            }
            None => {
                filled.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    filled
}

#[test]
fn the_principals_of_the_line_say_who_signed() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let signature = lab.theirs(&key, "cocker-image");
    let public = lab.public(&key);
    let content = format!(
        "old@example.com valid-before=\"20200101Z\" {public}\n\"a@b,some one\" {public}\nc@d {public}\n"
    );
    let allowed = lab.write("allowed", content);
    let said = lab.we_say(&allowed, MESSAGE, &signature);
    assert_eq!(said.expect("it is good"), "a@b,some one");
}

#[test]
fn why_a_key_is_not_accepted_is_said_with_its_line() {
    let lab = Lab::new();
    let (key, other) = (lab.key("key", &["ed25519"]), lab.key("other", &["ed25519"]));
    let signature = lab.theirs(&key, "cocker-image");
    let (key, other) = (lab.public(&key), lab.public(&other));
    let allowed = lab.path("allowed");
    let file = allowed.display();
    for (line, expected, cause) in [
        (
            format!("{WHO} valid-before=\"20260630Z\" {key}"),
            format!("line 3 of `{file}` has its key expired"),
            None,
        ),
        (
            format!("{WHO} valid-after=\"20260801Z\" {key}"),
            format!("line 3 of `{file}` has its key not valid yet"),
            None,
        ),
        (
            format!("{WHO} namespaces=\"file\" {key}"),
            format!("line 3 of `{file}` allows its key for other namespaces only"),
            None,
        ),
        (
            format!("!{WHO} {key}"),
            format!("line 3 of `{file}` names nobody whose key this is"),
            None,
        ),
        (
            format!("{WHO} cert-authority {key}"),
            format!("the signer is not in `{file}`"),
            Some("it is for certificates (cert-authority), and only plain keys are read"),
        ),
        (
            format!("{WHO} agreeable {key}"),
            format!("the signer is not in `{file}`"),
            Some("option `agreeable` is not known"),
        ),
        (
            format!("{WHO} ssh-dss AAAAB3NzaC1kc3MAAAAA"),
            format!("the signer is not in `{file}`"),
            Some("keys of type ssh-dss are not read"),
        ),
        (
            format!("{WHO} hello\x1b[2J"),
            format!("the signer is not in `{file}`"),
            Some("there is no key behind the principals"),
        ),
        (
            format!("{WHO} hello \x1b[2J"),
            format!("the signer is not in `{file}`"),
            Some("no key is at `\\u{1b}[2J`"),
        ),
    ] {
        lab.write("allowed", format!("# signers\n{WHO} {other}\n{line}\n"));
        let error = lab.we_say(&allowed, MESSAGE, &signature).unwrap_err();
        assert!(error.to_string().contains(&expected), "{line}: {error}");
        let passed_over = error.source().map(ToString::to_string);
        let why = error
            .source()
            .and_then(Error::source)
            .map(ToString::to_string);
        assert_eq!(why.as_deref(), cause, "{line}");
        if cause.is_some() {
            let expected = format!("line 3 of `{file}` allows nobody");
            assert_eq!(passed_over, Some(expected));
        }
    }
}

#[test]
fn lines_that_allow_nobody_are_told_on_demand() {
    let lab = Lab::new();
    let key = lab.public(&lab.key("key", &["ed25519"]));
    let allowed = lab.write(
        "allowed",
        format!("nonsense\n{WHO} {key}\n\n{WHO} x {key}\n"),
    );
    let allowed = AllowedSigners::open(&allowed, &crate::lab::local).expect("it can be read");
    let told: Vec<_> = allowed
        .bad_lines()
        .map(|bad| (bad.line, bad.source))
        .collect();
    let option = "x".to_owned();
    assert_eq!(
        told,
        [
            (1, LineError::NoKey),
            (4, LineError::UnknownOption { option })
        ]
    );
}

#[test]
fn a_file_without_end_is_refused() {
    let lab = Lab::new();
    let open = |path: &str| AllowedSigners::open(path.as_ref(), &crate::lab::local).map(drop);
    let error = open("/dev/zero").unwrap_err();
    assert!(
        matches!(error, SignatureError::ManyAllowed { .. }),
        "{error:?}"
    );
    let missing = lab.path("missing").display().to_string();
    let error = open(&missing).unwrap_err();
    assert!(
        matches!(error, SignatureError::ReadAllowed { .. }),
        "{error:?}"
    );
    // One long line, and then a good one.
    let key = lab.key("key", &["ed25519"]);
    let signature = lab.theirs(&key, "cocker-image");
    let long = "x".repeat(70_000);
    let allowed = lab.write(
        "allowed",
        format!("{long} {0}\n{WHO} {0}\n", lab.public(&key)),
    );
    assert_eq!(
        lab.we_say(&allowed, MESSAGE, &signature).expect("line 2"),
        WHO
    );
}

/// What options are made of, and what breaks them.
const PIECES: [&str; 24] = [
    "namespaces=",
    "NAMESPACES=",
    "valid-after=",
    "valid-before=",
    "cert-authority",
    "\"cocker-image\"",
    "\"cocker-*,!file\"",
    "\"*,!cocker-image\"",
    "\"a\\\"b,*\"",
    "\"20260101Z\"",
    "\"20270101Z\"",
    "\"202607011500\"",
    "\"\"",
    ",",
    "\"",
    "\\",
    "\\\"",
    " ",
    "\t",
    "#",
    "=",
    "x",
    "{key}",
    "{kind}",
];

/// Options that hold, for cases in which the rest of a line decides.
const WHOLE: [&str; 6] = [
    "namespaces=\"cocker-image\"",
    "namespaces=\"*,!file\"",
    "valid-after=\"20260101Z\"",
    "valid-before=\"20270101Z\"",
    "Valid-Before=\"202607011500\"",
    "",
];

#[test]
fn both_agree_on_lines_that_chance_writes() {
    let lab = Lab::new();
    let key = lab.key("key", &["ed25519"]);
    let signature = lab.theirs(&key, "cocker-image");
    let key = lab.public(&key);
    let (kind, _) = key.split_once(' ').expect("two words");
    let broken = prop::collection::vec(prop::sample::select(&PIECES[..]), 0..5);
    let whole = prop::collection::vec(prop::sample::select(&WHOLE[..]), 0..4);
    let lines = (whole, broken, 0..3usize);
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let config = Config {
        cases: 250,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&lines, |(whole, broken, weight)| {
            // A third of the lines has nothing broken in it.
            let broken = if weight == 0 { Vec::new() } else { broken };
            let options = whole.join(",") + &broken.concat();
            let options = options.replace("{key}", &key).replace("{kind}", kind);
            let line = format!("{WHO} {options} {key}\n");
            let allowed = lab.write("allowed", &line);
            let ours = lab.we_say(&allowed, MESSAGE, &signature);
            let theirs = lab.they_accept(&allowed, MESSAGE, &signature);
            let count = if theirs { &accepted } else { &refused };
            count.set(count.get() + 1);
            prop_assert_eq!(ours.is_ok(), theirs, "{:?}: {:?}", line, ours);
            Ok(())
        })
        .unwrap_or_else(|why| panic!("{why}"));
    assert!(
        accepted.get() > 20 && refused.get() > 20,
        "{accepted:?} {refused:?}"
    );
}
