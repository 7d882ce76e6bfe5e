//! Whiteouts in both forms, and descriptions.

use super::bytes::{archive, device, file, folder, link, pax, raw};
use super::walker::look_at;
use super::*;
use std::os::unix::fs::FileTypeExt;

fn is_whiteout(path: &Path) -> bool {
    let stat = fs::symlink_metadata(path).unwrap();
    stat.file_type().is_char_device() && stat.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    match rustix::fs::lgetxattr(path, "trusted.overlay.opaque", &mut value[..]) {
        Ok(length) => &value[..length] == b"y",
        Err(_) => false,
    }
}

fn refused(entries: &[Vec<u8>], options: &UnpackOptions) -> Refusal {
    let outer = tempfile::tempdir().unwrap();
    match unpacked(&archive(entries), outer.path(), options) {
        Err(UnpackError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_longest_name_can_be_hidden() {
    let outer = tempfile::tempdir().unwrap();
    let name = "n".repeat(255);
    let longest = format!(".wh.{name}");
    let entry = [
        pax(b'x', &[(b"path", longest.as_bytes())]),
        file("short", b""),
    ]
    .concat();
    unpacked(&archive(&[entry]), outer.path(), &FILES).unwrap();
    assert!(is_whiteout(&outer.path().join(name)));
}

#[test]
fn files_that_mean_whiteouts_become_devices_and_attributes() {
    let outer = tempfile::tempdir().unwrap();
    let bytes = archive(&[
        folder("a/"),
        file("a/.wh.gone", b""),
        file("a/.wh..wh..opq", b""),
        file("a/.wh..wh.plnk", b""),
        file("a/.wh..wh.orph/more", b""),
        file("implied/.wh..hidden", b""),
        file("other/.wh..wh..opq", b""),
    ]);
    let unpacked = unpacked(&bytes, outer.path(), &FILES).unwrap();
    assert_eq!(unpacked.entries, 7);
    let paths: Vec<_> = look_at(outer.path()).into_keys().collect();
    let expected = ["", "a", "a/gone", "implied", "implied/.hidden", "other"];
    assert_eq!(paths, expected.map(|path| path.as_bytes().to_vec()));
    assert!(is_whiteout(&outer.path().join("a/gone")));
    assert!(is_whiteout(&outer.path().join("implied/.hidden")));
    assert!(is_opaque(&outer.path().join("a")));
    assert!(is_opaque(&outer.path().join("other")));
    assert!(!is_opaque(&outer.path().join("implied")));
}

#[test]
fn a_whiteout_never_removes_a_sibling_of_its_own_layer() {
    let marks = [
        file(".wh.file", b""),
        file(".wh.folder", b""),
        file(".wh.implied", b""),
    ];
    let siblings = [
        file("file", b"kept"),
        folder("folder/"),
        file("folder/below", b"kept"),
        file("implied/x", b"kept"),
    ];
    let before = archive(&[&marks[..], &siblings].concat());
    let after = archive(&[&siblings[..], &marks].concat());
    for bytes in [before, after] {
        let outer = tempfile::tempdir().unwrap();
        unpacked(&bytes, outer.path(), &FILES).unwrap();
        for path in ["file", "folder/below", "implied/x"] {
            assert_eq!(fs::read(outer.path().join(path)).unwrap(), b"kept");
        }
        // Nothing of the lower layers' folders may show through.
        assert!(is_opaque(&outer.path().join("folder")));
        assert!(is_opaque(&outer.path().join("implied")));
    }
}

#[test]
fn a_folder_stays_opaque_when_its_entry_comes_after_the_mark() {
    let outer = tempfile::tempdir().unwrap();
    let bytes = archive(&[file("a/.wh..wh..opq", b""), folder("a/"), file("a/x", b"x")]);
    unpacked(&bytes, outer.path(), &FILES).unwrap();
    assert!(is_opaque(&outer.path().join("a")));
}

#[test]
fn marks_that_mean_nothing_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh."] {
        assert_eq!(
            refused(&[file(name, b"")], &FILES),
            Refusal::BadWhiteout,
            "{name}"
        );
    }
    assert_eq!(
        refused(&[file(".wh.a/b", b"")], &FILES),
        Refusal::BelowNoFolder
    );
    assert_eq!(
        refused(&[device("a", b'3', 0, 0)], &FILES),
        Refusal::ForeignWhiteout
    );
    let hidden = [file(".wh.a", b""), link("b", b'1', "a")];
    assert_eq!(refused(&hidden, &FILES), Refusal::TargetNoFile);
}

#[test]
fn opaque_folders_are_only_taken_from_the_form_that_has_them() {
    let opaque: (&[u8], &[u8]) = (b"SCHILY.xattr.trusted.overlay.opaque", b"y");
    let redirect: (&[u8], &[u8]) = (b"SCHILY.xattr.trusted.overlay.redirect", b"/etc");
    let bytes = archive(&[
        [pax(b'x', &[opaque, redirect]), folder("a/")].concat(),
        [pax(b'x', &[(opaque.0, b"x")]), folder("b/")].concat(),
        [pax(b'x', &[opaque]), file("file", b"")].concat(),
    ]);
    for (options, expected) in [(&DEVICES, true), (&FILES, false)] {
        let outer = tempfile::tempdir().unwrap();
        unpacked(&bytes, outer.path(), options).unwrap();
        assert_eq!(is_opaque(&outer.path().join("a")), expected);
        for seen in look_at(outer.path()).into_values() {
            let overlay = seen
                .attributes
                .keys()
                .filter(|name| name.starts_with(b"trusted.overlay."));
            assert!(
                overlay.eq(seen
                    .attributes
                    .keys()
                    .filter(|name| *name == b"trusted.overlay.opaque"))
            );
        }
        assert!(!is_opaque(&outer.path().join("b")));
        assert!(!is_opaque(&outer.path().join("file")));
    }
}

#[test]
fn a_layer_goes_through_both_forms() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    fs::create_dir_all(tree.join("opaque/below")).unwrap();
    set_attribute(&tree.join("opaque"), "trusted.overlay.opaque", b"y");
    set_attribute(&tree.join("opaque"), "trusted.overlay.origin", b"elsewhere");
    make_node(&tree.join("gone"), FileType::CharacterDevice, 0);
    // Overlayfs gives all its whiteouts one inode.
    fs::hard_link(tree.join("gone"), tree.join("opaque/gone")).unwrap();
    for (whiteouts, options) in [(Whiteouts::Devices, DEVICES), (Whiteouts::Files, FILES)] {
        let (bytes, once) = packed(&tree, whiteouts);
        let copy = outer.path().join(format!("{whiteouts:?}"));
        unpacked(&bytes, &copy, &options).unwrap();
        assert!(is_whiteout(&copy.join("gone")) && is_whiteout(&copy.join("opaque/gone")));
        assert!(is_opaque(&copy.join("opaque")));
        assert_eq!(packed(&copy, whiteouts).1, once);
    }
}

#[test]
fn a_mark_of_the_top_folder_stays_where_it_means_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    fs::create_dir_all(tree.join("folder")).unwrap();
    set_attribute(&tree, "trusted.overlay.opaque", b"y");
    for (whiteouts, options, expected) in [
        (Whiteouts::Devices, DEVICES, true),
        (Whiteouts::Files, FILES, false),
    ] {
        let (bytes, _) = packed(&tree, whiteouts);
        let copy = outer.path().join(format!("{whiteouts:?}"));
        unpacked(&bytes, &copy, &options).unwrap();
        assert_eq!(is_opaque(&copy), expected);
    }
}

#[test]
fn names_that_would_mean_whiteouts_are_not_packed_as_files() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("a")).unwrap();
    fs::write(outer.path().join("a/.wh.x"), b"").unwrap();
    let tree = File::open(outer.path()).unwrap();
    let options = PackOptions {
        whiteouts: Whiteouts::Files,
        description: None,
    };
    let error = pack(tree.as_fd(), &options, &mut Vec::new()).unwrap_err();
    let expected =
        "cannot pack `a/.wh.x`: names that begin with `.wh.` mean whiteouts in this format";
    assert_eq!(error.to_string(), expected);
    let (bytes, _) = packed(outer.path(), Whiteouts::Devices);
    let copy = outer.path().join("copy");
    unpacked(&bytes, &copy, &DEVICES).unwrap();
    assert!(copy.join("a/.wh.x").exists());
}

#[test]
fn a_description_is_the_first_entry_and_nothing_else() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join(DESCRIPTION_NAME), b"a user's file").unwrap();
    let (bytes, plain) = packed(&tree, Whiteouts::Devices);
    let first = unpacked(&bytes, &outer.path().join("plain"), &DEVICES).unwrap();
    assert_eq!(first.description, None);

    let mut bytes = Vec::new();
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: Some(b"{}\n"),
    };
    let described = pack(File::open(&tree).unwrap().as_fd(), &options, &mut bytes).unwrap();
    assert_eq!(described, plain, "the description is no part of the layer");
    assert_eq!(bytes.len() as u64, plain.length + 1024);
    let copy = outer.path().join("described");
    let second = unpacked(&bytes, &copy, &DEVICES).unwrap();
    assert_eq!(second.description.as_deref(), Some(&b"{}\n"[..]));
    assert_eq!(
        (second.digest, second.entries),
        (plain.digest, plain.entries)
    );
    assert_eq!(
        fs::read(copy.join(DESCRIPTION_NAME)).unwrap(),
        b"a user's file"
    );
}

#[test]
fn descriptions_have_a_bound() {
    let long = vec![b' '; (1 << 20) + 1];
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: Some(&long),
    };
    let outer = tempfile::tempdir().unwrap();
    let tree = File::open(outer.path()).unwrap();
    assert!(matches!(
        pack(tree.as_fd(), &options, &mut Vec::new()),
        Err(PackError::Description)
    ));
    let entry = raw(DESCRIPTION_NAME, b'0').contents(&long).bytes();
    assert_eq!(refused(&[entry], &DEVICES), Refusal::Description);
}
