//! Archives of an enemy. Each attack is made against a folder with something beside it, which must stay as it was.

use super::bytes::{archive, device, file, folder, link, pax, raw};
use super::walker::look_at;
use super::*;
use crate::archive::error::Malformation;
use std::io::{self, Read};
use std::path::PathBuf;

/// A folder to unpack into and what the attacks are after, beside it.
struct Target {
    outer: tempfile::TempDir,
    before: std::collections::BTreeMap<Vec<u8>, walker::Seen>,
}

impl Target {
    fn new() -> Target {
        let outer = tempfile::tempdir().unwrap();
        let secret = outer.path().join("outside/deeper");
        fs::create_dir_all(&secret).unwrap();
        fs::write(secret.join("secret"), b"secret").unwrap();
        fs::write(outer.path().join("beside"), b"untouched").unwrap();
        fs::create_dir(outer.path().join("staging")).unwrap();
        let before = beside(outer.path());
        Target { outer, before }
    }

    fn staging(&self) -> PathBuf {
        self.outer.path().join("staging")
    }

    /// Unpacks and asserts that nothing changed outside.
    fn attack_with(
        &self,
        mut from: impl Read,
        options: &UnpackOptions,
    ) -> Result<Unpacked, UnpackError> {
        fs::remove_dir_all(self.staging()).unwrap();
        fs::create_dir(self.staging()).unwrap();
        let staging = File::open(self.staging()).unwrap();
        let answer = unpack(&mut from, staging.as_fd(), options);
        assert_eq!(
            beside(self.outer.path()),
            self.before,
            "something changed outside"
        );
        answer
    }

    fn refusal(&self, entries: &[Vec<u8>]) -> Refusal {
        match self.attack_with(&archive(entries)[..], &DEVICES) {
            Err(UnpackError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    fn malformation(&self, bytes: &[u8]) -> (u64, Malformation) {
        match self.attack_with(bytes, &DEVICES) {
            Err(UnpackError::Malformed { offset, problem }) => (offset, problem),
            other => panic!("{other:?}"),
        }
    }
}

/// All that is not in the staging folder.
fn beside(outer: &Path) -> std::collections::BTreeMap<Vec<u8>, walker::Seen> {
    assert_eq!(fs::read_dir(outer).unwrap().count(), 3);
    assert_eq!(fs::read(outer.join("beside")).unwrap(), b"untouched");
    look_at(&outer.join("outside"))
}

#[test]
fn names_that_lead_out_are_refused() {
    let target = Target::new();
    let absolute = format!("{}/outside/new", target.outer.path().display());
    for (name, expected) in [
        ("../beside", Refusal::DotDot),
        ("a/../../beside", Refusal::DotDot),
        ("./../beside", Refusal::DotDot),
        ("a/..", Refusal::DotDot),
        (&absolute, Refusal::Absolute),
        ("//etc", Refusal::Absolute),
        ("", Refusal::NoName),
    ] {
        assert_eq!(target.refusal(&[file(name, b"evil")]), expected, "{name}");
        let long = [
            pax(b'x', &[(b"path", name.as_bytes())]),
            file("innocent", b"evil"),
        ]
        .concat();
        if !name.is_empty() {
            assert_eq!(target.refusal(&[long]), expected, "{name} in a record");
            let gnu = [
                raw("././@LongLink", b'L').contents(name.as_bytes()).bytes(),
                file("innocent", b""),
            ]
            .concat();
            assert_eq!(target.refusal(&[gnu]), expected, "{name} as a long name");
        }
    }
    let nul = [pax(b'x', &[(b"path", b"a\0/../b")]), file("innocent", b"")].concat();
    assert_eq!(target.refusal(&[nul]), Refusal::Nul);
    let nul = [pax(b'x', &[(b"path", b"a\0b")]), file("innocent", b"")].concat();
    assert_eq!(target.refusal(&[nul]), Refusal::Nul);
    let long = [pax(b'x', &[(b"path", &[b'x'; 256])]), file("innocent", b"")].concat();
    assert_eq!(target.refusal(&[long]), Refusal::LongName);
}

#[test]
fn an_error_names_the_entry_and_its_offset() {
    let target = Target::new();
    let bytes = archive(&[file("good", b"x"), file("a\n/../b", b"")]);
    let error = target.attack_with(&bytes[..], &DEVICES).unwrap_err();
    let expected = "cannot unpack `a\\n/../b` at offset 1024: its name has `..` in it";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn nothing_is_made_through_a_link() {
    let target = Target::new();
    let outside = format!("{}/outside", target.outer.path().display());
    for to in ["../outside", &outside, "..", "."] {
        let entries = [link("out", b'2', to), file("out/evil", b"evil")];
        assert_eq!(target.refusal(&entries), Refusal::BelowNoFolder, "{to}");
        let entries = [link("out", b'2', to), folder("out/deeper/")];
        assert_eq!(target.refusal(&entries), Refusal::BelowNoFolder, "{to}");
        let entries = [
            folder("a/"),
            link("a/out", b'2', to),
            file("a/out/deeper/evil", b""),
        ];
        assert_eq!(target.refusal(&entries), Refusal::BelowNoFolder, "{to}");
        let entries = [link("out", b'2', to), file("out/.wh.x", b"")];
        assert!(target.attack_with(&archive(&entries)[..], &FILES).is_err());
        let entries = [link("out", b'2', to), file("out/.wh..wh..opq", b"")];
        assert!(target.attack_with(&archive(&entries)[..], &FILES).is_err());
        // What bears a link's name takes its place.
        let entries = [
            link("out", b'2', "../outside/deeper/secret"),
            file("out", b"mine"),
        ];
        target
            .attack_with(&archive(&entries)[..], &DEVICES)
            .unwrap();
        assert_eq!(fs::read(target.staging().join("out")).unwrap(), b"mine");
        let entries = [link("out", b'2', to), folder("out/")];
        target
            .attack_with(&archive(&entries)[..], &DEVICES)
            .unwrap();
        assert!(
            fs::symlink_metadata(target.staging().join("out"))
                .unwrap()
                .is_dir()
        );
    }
}

#[test]
fn the_way_that_is_open_is_no_way_any_more_when_it_is_replaced() {
    let target = Target::new();
    let entries = [
        folder("a/"),
        folder("a/b/"),
        file("a/b/x", b""),
        link("a", b'2', "../outside"),
        file("a/deeper/secret", b"evil"),
    ];
    assert_eq!(target.refusal(&entries), Refusal::BelowNoFolder);
}

#[test]
fn hard_links_only_lead_to_what_the_archive_made() {
    let target = Target::new();
    let secret = format!("{}/outside/deeper/secret", target.outer.path().display());
    for (to, expected) in [
        ("../outside/deeper/secret", Refusal::DotDot),
        (&secret, Refusal::Absolute),
        ("missing", Refusal::NoTarget),
        (".", Refusal::NoTarget),
        ("folder", Refusal::TargetNoFile),
        ("out/deeper/secret", Refusal::NoTarget),
    ] {
        let entries = [
            folder("folder/"),
            link("out", b'2', "../outside"),
            link("hard", b'1', to),
        ];
        assert_eq!(target.refusal(&entries), expected, "{to}");
    }
    // A link to a link is a second name of the link, not of what it leads to.
    let entries = [
        link("soft", b'2', "../outside/deeper/secret"),
        link("hard", b'1', "soft"),
        file("hard", b"evil"),
    ];
    target
        .attack_with(&archive(&entries)[..], &DEVICES)
        .unwrap();
    let entries = [file("a/x", b"x"), link("a", b'1', "a/x")];
    assert_eq!(target.refusal(&entries), Refusal::NoTarget);
    let entries = [file("x", b"x"), link("x", b'1', "./x")];
    target
        .attack_with(&archive(&entries)[..], &DEVICES)
        .unwrap();
    assert_eq!(fs::read(target.staging().join("x")).unwrap(), b"x");
}

#[test]
fn device_nodes_come_out_only_when_they_are_allowed() {
    let target = Target::new();
    let refusing = UnpackOptions {
        devices: Devices::Refused,
        ..DEVICES
    };
    for entry in [
        device("disk", b'4', 8, 0),
        device("mem", b'3', 1, 1),
        device("none", b'4', 0, 0),
    ] {
        let bytes = archive(&[entry]);
        let answer = target.attack_with(&bytes[..], &refusing);
        assert!(
            matches!(
                answer,
                Err(UnpackError::Refused {
                    reason: Refusal::Device,
                    ..
                })
            ),
            "{answer:?}"
        );
        assert_eq!(fs::read_dir(target.staging()).unwrap().count(), 0);
        target.attack_with(&bytes[..], &DEVICES).unwrap();
    }
    target
        .attack_with(&archive(&[device("gone", b'3', 0, 0)])[..], &refusing)
        .unwrap();
}

#[test]
fn a_later_entry_takes_the_place_of_an_earlier_one() {
    let target = Target::new();
    let makers: [fn() -> Vec<u8>; 5] = [
        || file("x", b"file"),
        || [folder("x/"), file("x/below", b"y")].concat(),
        || link("x", b'2', "../outside"),
        || raw("x", b'6').bytes(),
        || [file("y", b"y"), link("x", b'1', "y")].concat(),
    ];
    for first in makers {
        for second in makers {
            let alone = target.attack_with(&archive(&[second()])[..], &DEVICES);
            alone.unwrap();
            let mut expected = look_at(&target.staging());
            let both = target.attack_with(&archive(&[first(), second()])[..], &DEVICES);
            both.unwrap();
            let mut seen = look_at(&target.staging());
            // What the first archive has besides stays.
            if !expected.contains_key(&b"y"[..]) {
                seen.remove(&b"y"[..]);
            }
            for all in [&mut seen, &mut expected] {
                all.remove(&b""[..]);
            }
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn a_folder_that_comes_again_keeps_its_files_and_loses_its_attributes() {
    let target = Target::new();
    let user: (&[u8], &[u8]) = (b"SCHILY.xattr.user.old", b"1");
    let opaque: (&[u8], &[u8]) = (b"SCHILY.xattr.trusted.overlay.opaque", b"y");
    let bytes = archive(&[
        [pax(b'x', &[user, opaque, (b"uid", b"77")]), folder("a/")].concat(),
        file("a/x", b"x"),
        [pax(b'x', &[(b"mtime", b"5.25")]), folder("a/")].concat(),
        [pax(b'x', &[user, (b"mtime", b"6.5")]), folder("./")].concat(),
        folder("./"),
    ]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    let seen = look_at(&target.staging());
    let a = &seen[&b"a"[..]];
    assert_eq!((a.owner, a.mtime), ((0, 0), (5, 250_000_000)));
    assert!(a.attributes.is_empty());
    assert!(seen.contains_key(&b"a/x"[..]));
    assert!(seen[&b""[..]].attributes.is_empty());
    assert_eq!(seen[&b""[..]].mtime, (1, 0));
}

#[test]
fn files_do_not_inherit_from_their_folder() {
    let target = Target::new();
    let acl: (&[u8], &[u8]) = (b"SCHILY.xattr.system.posix_acl_default", &default_acl());
    let mut parent = raw("a/", b'5');
    parent.put(100, b"0002777");
    parent.put(116, b"0001234");
    let bytes = archive(&[
        [pax(b'x', &[acl]), parent.bytes()].concat(),
        folder("a/b/"),
        file("a/implied/c", b""),
        file("a/file", b""),
        raw("a/fifo", b'6').bytes(),
        link("a/link", b'2', "x"),
    ]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    for (path, seen) in look_at(&target.staging()) {
        if path == b"a" {
            assert_eq!((seen.mode & 0o7777, seen.owner), (0o2777, (0, 0o1234)));
            assert_eq!(seen.attributes.len(), 1);
            continue;
        }
        assert!(
            seen.attributes.is_empty(),
            "{path:?}: {:?}",
            seen.attributes
        );
        assert_eq!(seen.owner, (0, 0), "{path:?}");
        assert_eq!(seen.mode & 0o7000, 0, "{path:?}");
    }
}

#[test]
fn set_id_bits_and_capabilities_survive_the_change_of_owner() {
    let target = Target::new();
    let mut program = raw("program", b'0');
    program.put(100, b"0006755");
    program.put(108, b"0001750");
    let records = pax(
        b'x',
        &[(b"SCHILY.xattr.security.capability", &capability())],
    );
    let bytes = archive(&[[records, program.contents(b"elf").bytes()].concat()]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    let seen = look_at(&target.staging());
    let program = &seen[&b"program"[..]];
    assert_eq!((program.mode & 0o7777, program.owner), (0o6755, (1000, 0)));
    assert_eq!(
        program.attributes[&b"security.capability"[..]],
        capability()
    );
}

#[test]
fn limits_hold_before_anything_is_written() {
    let target = Target::new();
    let with = |limits| UnpackOptions { limits, ..DEVICES };
    let refusal = |bytes: &[u8], limits| match target.attack_with(bytes, &with(limits)) {
        Err(UnpackError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let three = archive(&[file("a", b""), file("b", b""), file("c", b"")]);
    let limits = Limits {
        entries: 2,
        ..Limits::default()
    };
    assert_eq!(refusal(&three, limits), Refusal::Entries(2));
    assert!(!target.staging().join("c").exists());

    let limits = Limits {
        size: 1000,
        ..Limits::default()
    };
    let big = archive(&[file("a", &[0; 600]), file("b", &[0; 600])]);
    assert_eq!(refusal(&big, limits), Refusal::Size(1000));
    assert!(!target.staging().join("b").exists());

    // A file that claims more than there is, and one that has nothing but holes.
    let mut claims = raw("claims", b'0');
    claims.put(124, b"77777777777");
    assert_eq!(
        refusal(&archive(&[claims.bytes()]), limits),
        Refusal::Size(1000)
    );
    let sparse: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"1000000000000"),
    ];
    let map = b"1\n1000000000000\n0\n";
    let mut block = map.to_vec();
    block.resize(512, 0);
    let holes = [pax(b'x', &sparse), file("holes", &block)].concat();
    assert_eq!(refusal(&archive(&[holes]), limits), Refusal::Size(1000));

    let limits = Limits {
        depth: 3,
        ..Limits::default()
    };
    assert_eq!(
        refusal(&archive(&[file("a/b/c/d", b"")]), limits),
        Refusal::Deep(3)
    );
    target
        .attack_with(&archive(&[file("a/b/c", b"")])[..], &with(limits))
        .unwrap();
}

#[test]
fn deep_paths_are_made_and_deeper_ones_refused() {
    let target = Target::new();
    let path = |depth: usize| vec!["d".repeat(200); depth].join("/");
    let deep = |depth| {
        [
            pax(
                b'x',
                &[(b"path", path(depth).as_bytes()), (b"mtime", &b"3.5"[..])],
            ),
            file("x", b"deep"),
        ]
        .concat()
    };
    assert_eq!(target.refusal(&[deep(1025)]), Refusal::Deep(1024));
    assert_eq!(target.refusal(&[deep(10_000)]), Refusal::Deep(1024));
    let hard = pax(b'x', &[(b"linkpath", path(20).as_bytes())]);
    let bytes = archive(&[deep(20), [hard, link("top", b'1', "x")].concat()]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    assert_eq!(fs::read(target.staging().join("top")).unwrap(), b"deep");
    let bytes = archive(&[deep(1024), file("after", b"")]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    assert!(target.staging().join("after").exists());
    let removed =
        crate::removal::remove_tree(File::open(target.outer.path()).unwrap().as_fd(), "staging");
    removed.unwrap();
    fs::create_dir(target.staging()).unwrap();
}

#[test]
fn headers_that_claim_too_much_are_refused_without_memory_for_it() {
    let target = Target::new();
    for typeflag in [b'x', b'g', b'L', b'K'] {
        let mut claims = raw("x", typeflag);
        claims.put(124, b"77777777777");
        let bytes = archive(&[claims.bytes()]);
        assert_eq!(target.malformation(&bytes).1, Malformation::LongRecords);
    }
    let sparse: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"1"),
    ];
    for map in [
        "99999999999999999999\n",
        "9999999\n",
        "2\n0\n1\n",
        "1\n5\n9\n",
        "1\n-1\n1\n",
        "\n",
        "111111111111111111111111",
    ] {
        let mut block = map.as_bytes().to_vec();
        block.resize(512, 0);
        let bytes = archive(&[[pax(b'x', &sparse), file("x", &block)].concat()]);
        assert_eq!(
            target.malformation(&bytes).1,
            Malformation::SparseMap,
            "{map:?}"
        );
    }
}

#[test]
fn headers_without_end_reach_a_limit() {
    let target = Target::new();
    let global = pax(b'g', &[(b"comment", b"x")]);
    let endless = io::repeat(0).take(0).chain(Repeated(global, 0));
    let limits = Limits {
        entries: 10_000,
        ..Limits::default()
    };
    let answer = target.attack_with(endless, &UnpackOptions { limits, ..DEVICES });
    assert!(
        matches!(
            answer,
            Err(UnpackError::Refused {
                reason: Refusal::Entries(10_000),
                ..
            })
        ),
        "{answer:?}"
    );
    // Zeros without end are no padding.
    let answer = target.attack_with(io::repeat(0), &DEVICES);
    assert!(
        matches!(
            answer,
            Err(UnpackError::Malformed {
                problem: Malformation::Trailing,
                ..
            })
        ),
        "{answer:?}"
    );
}

struct Repeated(Vec<u8>, usize);

impl Read for Repeated {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(self.0.len() - self.1);
        into[..length].copy_from_slice(&self.0[self.1..self.1 + length]);
        self.1 = (self.1 + length) % self.0.len();
        Ok(length)
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let target = Target::new();
    let twice = [
        pax(b'x', &[(b"mtime", b"1")]),
        pax(b'x', &[(b"mtime", b"2")]),
        file("x", b""),
    ]
    .concat();
    assert_eq!(
        target.malformation(&archive(&[twice])),
        (1024, Malformation::Twice)
    );
    let orphan = archive(&[pax(b'x', &[(b"mtime", b"1")])]);
    assert_eq!(target.malformation(&orphan), (1024, Malformation::Orphan));
    let global = archive(&[pax(b'g', &[(b"size", b"1")]), file("x", b"")]);
    assert_eq!(target.malformation(&global).1, Malformation::Global);
    for value in ["-1", "1x", " 1", "+1", "99999999999999999999"] {
        let entry = [pax(b'x', &[(b"size", value.as_bytes())]), file("x", b"")].concat();
        assert_eq!(
            target.malformation(&archive(&[entry])).1,
            Malformation::Records,
            "{value}"
        );
    }
    let mut symbolic = raw("x", b'2').contents(b"123");
    symbolic.put(157, b"target");
    assert_eq!(target.refusal(&[symbolic.bytes()]), Refusal::Contents(3));
    assert_eq!(
        target.refusal(&[raw("x", b'5').contents(b"123").bytes()]),
        Refusal::Contents(3)
    );
    assert_eq!(
        target.refusal(&[raw("x", b'Z').bytes()]),
        Refusal::Type('Z')
    );
    assert_eq!(
        target.refusal(&[raw("x", b's').bytes()]),
        Refusal::Type('s')
    );
    assert_eq!(target.refusal(&[link("./", b'2', "x")]), Refusal::Top);
    let nobody = [pax(b'x', &[(b"uid", b"4294967295")]), file("x", b"")].concat();
    assert_eq!(target.refusal(&[nobody]), Refusal::Owner);
    let mut lone = archive(&[file("x", b"")]);
    lone.splice(512..512, [0; 512]);
    lone.splice(1024..1024, file("y", b""));
    assert_eq!(target.malformation(&lone), (512, Malformation::LoneZeros));
    let mut trailing = archive(&[file("x", b"")]);
    trailing.extend_from_slice(&file("hidden", b""));
    assert_eq!(target.malformation(&trailing).1, Malformation::Trailing);
}

#[test]
fn attributes_have_names_and_bounds() {
    let target = Target::new();
    let with = |key: &[u8], value: &[u8]| {
        let key = [b"SCHILY.xattr.", key].concat();
        [pax(b'x', &[(&key, value)]), file("x", b"")].concat()
    };
    assert_eq!(target.refusal(&[with(b"", b"x")]), Refusal::AttributeName);
    assert_eq!(
        target.refusal(&[with(b"user.\0", b"x")]),
        Refusal::AttributeName
    );
    assert_eq!(
        target.refusal(&[with(&[b'u'; 256], b"x")]),
        Refusal::AttributeName
    );
    assert_eq!(
        target.refusal(&[with(b"user.a", &[0; 65_537])]),
        Refusal::AttributeValue
    );
    for foreign in [
        &b"security.selinux"[..],
        b"security.evm",
        b"com.apple.x",
        b"system.nfs4_acl",
        b"trusted.overlay.metacopy",
    ] {
        target
            .attack_with(&archive(&[with(foreign, b"x")])[..], &DEVICES)
            .unwrap();
        assert!(look_at(&target.staging())[&b"x"[..]].attributes.is_empty());
    }
}

#[test]
fn the_pax_size_is_the_size_of_a_sparse_file_too() {
    let target = Target::new();
    let mut block = b"1\n0\n3\n".to_vec();
    block.resize(512, 0);
    block.extend_from_slice(b"abc");
    let records: [(&[u8], &[u8]); 4] = [
        (b"size", b"515"),
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"5"),
    ];
    let mut entry = raw("sparse", b'0').contents(&block);
    entry.put(124, b"00000000000");
    let bytes = archive(&[
        [pax(b'x', &records), entry.bytes()].concat(),
        file("next", b"n"),
    ]);
    target.attack_with(&bytes[..], &DEVICES).unwrap();
    assert_eq!(
        fs::read(target.staging().join("sparse")).unwrap(),
        b"abc\0\0"
    );
    assert_eq!(fs::read(target.staging().join("next")).unwrap(), b"n");
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let target = Target::new();
    let bytes = archive(&[
        folder("./"),
        [pax(b'x', &[(b"mtime", b"1.5")]), file("a", &[1; 1000])].concat(),
        link("b", b'1', "a"),
    ]);
    for length in (0..bytes.len()).step_by(256) {
        let answer = target.attack_with(&bytes[..length], &DEVICES);
        match answer {
            Err(UnpackError::Truncated { offset }) => assert_eq!(offset, length as u64),
            other => panic!("{length}: {other:?}"),
        }
    }
    target.attack_with(&bytes[..], &DEVICES).unwrap();
}

#[test]
fn a_bit_that_flips_is_told_or_harmless() {
    let target = Target::new();
    let sparse: [(&[u8], &[u8]); 3] = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.realsize", b"5"),
    ];
    let mut block = b"1\n0\n3\n".to_vec();
    block.resize(515, 0);
    let bytes = archive(&[
        [
            pax(b'x', &[(&b"path"[..], &b"a/b"[..]), (b"mtime", b"-1.5")]),
            file("a", b"abc"),
        ]
        .concat(),
        [pax(b'x', &sparse), file("sparse", &block)].concat(),
        link("hard", b'1', "a/b"),
        link("soft", b'2', "../outside"),
        device("gone", b'3', 0, 0),
    ]);
    for bit in 0..bytes.len() * 8 {
        // A sample is enough, above all of the padding.
        let every = if bytes[bit / 8] == 0 { 97 } else { 3 };
        if bit % every != 0 {
            continue;
        }
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let options = if bit % 2 == 0 { &DEVICES } else { &FILES };
        _ = target.attack_with(&flipped[..], options);
        // With the checksum made right, what the bit means is seen.
        let header = bit / 8 / 512 * 512;
        let is_header = &bytes[header + 257..header + 262] == b"ustar";
        if is_header && !(148..156).contains(&(bit / 8 - header)) {
            let block = &mut flipped[header..header + 512];
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            _ = target.attack_with(&flipped[..], options);
        }
    }
}

#[test]
fn a_full_disk_is_told_as_such() {
    use rustix::mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    };
    // A file system in memory that is mounted nowhere.
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(context.as_fd(), "size", "256k").unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    let small = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap();
    let bytes = archive(&[file("small", b"fits"), file("big", &[1; 400_000])]);
    let error = unpack(&mut &bytes[..], small.as_fd(), &DEVICES).unwrap_err();
    assert!(error.is_disk_full());
    let expected = "cannot unpack `big` at offset 1024: the disk is full";
    assert_eq!(error.to_string(), expected);
    assert!(UnpackError::writing(b"big", 0, rustix::io::Errno::DQUOT).is_disk_full());
    assert!(!UnpackError::writing(b"big", 0, rustix::io::Errno::IO).is_disk_full());
}

#[test]
fn a_folder_with_something_in_it_is_not_unpacked_into() {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("there"), b"").unwrap();
    let answer = unpacked(&archive(&[]), outer.path(), &DEVICES);
    assert!(matches!(answer, Err(UnpackError::NotEmpty)));
}
