//! Archives that other programs write and read.

use super::bytes::{archive, raw};
use super::walker::{differences, look_at};
use super::*;
use std::process::Command;

/// Runs GNU tar; false where it is not installed.
fn tar(arguments: &[&str], folder: &Path) -> bool {
    let tar = Command::new("tar")
        .args(arguments)
        .arg("-C")
        .arg(folder)
        .arg(".")
        .output();
    run(tar)
}

fn untar(bytes: &Path, folder: &Path) -> bool {
    let arguments = [
        "--xattrs",
        "--xattrs-include=*",
        "--numeric-owner",
        "--warning=no-timestamp",
        "-xpf",
    ];
    run(Command::new("tar")
        .args(arguments)
        .arg(bytes)
        .arg("-C")
        .arg(folder)
        .output())
}

fn run(output: std::io::Result<std::process::Output>) -> bool {
    let Ok(output) = output else {
        return false;
    };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.is_empty(), "{told}");
    true
}

#[test]
fn gnu_tar_unpacks_the_same_files() {
    let outer = tempfile::tempdir().unwrap();
    let tree = outer.path().join("tree");
    make_one_of_each(&tree);
    let (bytes, _) = packed(&tree, Whiteouts::Devices);
    let archive = outer.path().join("archive.tar");
    fs::write(&archive, &bytes).unwrap();
    let copy = outer.path().join("copy");
    fs::create_dir(&copy).unwrap();
    if !untar(&archive, &copy) {
        return;
    }
    let mut expected = look_at(&tree);
    let mut seen = look_at(&copy);
    // GNU tar keeps attributes of regular files and folders only.
    for path in [&b"link"[..], b"link-again", b"fifo"] {
        expected.get_mut(path).unwrap().attributes.clear();
        seen.get_mut(path).unwrap().attributes.clear();
    }
    let told = differences(&seen, &expected);
    assert!(told.is_empty(), "{told}");
    let sparse = fs::metadata(copy.join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < sparse.size() / 2);
}

#[test]
fn all_formats_of_gnu_tar_are_read() {
    for (format, sparse) in [
        ("pax", "1.0"),
        ("pax", "0.1"),
        ("pax", "0.0"),
        ("gnu", "1.0"),
        ("oldgnu", "1.0"),
        ("ustar", "1.0"),
        ("v7", "1.0"),
    ] {
        let is_sparse = matches!(format, "pax" | "gnu" | "oldgnu");
        let outer = tempfile::tempdir().unwrap();
        let tree = outer.path().join("tree");
        make_plain(&tree, format);
        let archive = outer.path().join("archive.tar");
        let (format_option, version) = (
            format!("--format={format}"),
            format!("--sparse-version={sparse}"),
        );
        let mut arguments = vec![&*format_option, "--numeric-owner"];
        if is_sparse {
            arguments.extend(["-S", &version]);
        }
        if format == "pax" {
            arguments.extend(["--xattrs", "--xattrs-include=*", "--acls"]);
        }
        arguments.extend(["-cf", archive.to_str().unwrap()]);
        if !tar(&arguments, &tree) {
            return;
        }
        let bytes = fs::read(&archive).unwrap();
        let copy = outer.path().join("copy");
        unpacked(&bytes, &copy, &DEVICES).unwrap();
        let mut expected = look_at(&tree);
        if format != "pax" {
            for seen in expected.values_mut() {
                seen.mtime.1 = 0;
                seen.attributes.clear();
            }
        }
        let told = differences(&look_at(&copy), &expected);
        assert!(told.is_empty(), "{format}, sparse {sparse}: {told}");
        let blocks = fs::metadata(copy.join("sparse")).unwrap().blocks();
        assert_eq!(
            blocks * 512 < 1 << 20,
            is_sparse,
            "{format}: {blocks} blocks"
        );
    }
}

/// What a format can say: names of 90 bytes in v7, 255 in ustar, anything else in the others.
fn make_plain(tree: &Path, format: &str) {
    let depth = match format {
        "v7" => 2,
        "ustar" => 8,
        _ => 40,
    };
    fs::create_dir_all(tree.join(vec!["twenty-bytes-in-name"; depth].join("/"))).unwrap();
    fs::write(tree.join("file\n\u{ff}"), vec![3; 100_000]).unwrap();
    fs::hard_link(tree.join("file\n\u{ff}"), tree.join("hard")).unwrap();
    symlink("somewhere", tree.join("link")).unwrap();
    if format != "v7" {
        make_node(&tree.join("fifo"), FileType::Fifo, 0);
        make_node(
            &tree.join("null"),
            FileType::CharacterDevice,
            rustix::fs::makedev(1, 3),
        );
        make_node(&tree.join("gone"), FileType::CharacterDevice, 0);
    }
    if matches!(format, "pax" | "gnu" | "oldgnu") {
        symlink("x".repeat(300), tree.join("long-link")).unwrap();
        std::os::unix::fs::chown(tree.join("hard"), Some(3_000_000), Some(70_000)).unwrap();
        set_time(
            &tree.join("link"),
            -5,
            500_000_000 * i64::from(format == "pax"),
        );
    }
    if format == "pax" {
        set_attribute(&tree.join("hard"), "user.a=b%", b"x\0\n");
        set_attribute(tree, "trusted.top", b"x");
        set_attribute(
            &tree.join("hard"),
            "system.posix_acl_access",
            &default_acl(),
        );
    }
    let sparse = File::create(tree.join("sparse")).unwrap();
    for part in 0..30_u64 {
        sparse.write_all_at(b"part", part << 17).unwrap();
    }
    sparse.set_len(4 << 20).unwrap();
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn what_the_oldest_programs_write_is_read() {
    let outer = tempfile::tempdir().unwrap();
    let old = |name: &str, typeflag: u8, contents: &[u8]| {
        let mut raw = raw(name, typeflag).contents(contents);
        // Neither magic nor names; numbers padded with spaces.
        raw.block[257..].fill(0);
        raw.put(100, b"   755 \0");
        raw
    };
    let mut link = old("link", b'1', b"");
    link.put(157, b"folder/file");
    // The size of the file stands in the link, and nothing follows.
    link.put(124, b"00000000004");
    let mut sized = link.bytes();
    sized.truncate(512);
    let bytes = archive(&[
        old("folder/", 0, b"").bytes(),
        old("folder/file", 0, b"text").bytes(),
        sized,
        old("contiguous", b'7', b"more").bytes(),
        raw("label", b'V').bytes(),
    ]);
    unpacked(&bytes, outer.path(), &DEVICES).unwrap();
    let seen = look_at(outer.path());
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[&b"link"[..]].same_as, b"folder/file");
    assert_eq!(
        seen[&b"link"[..]].content,
        walker::Content::Bytes(b"text".to_vec())
    );
    assert_eq!(seen[&b"folder"[..]].mode, 0o40755);
    assert_eq!(
        seen[&b"contiguous"[..]].content,
        walker::Content::Bytes(b"more".to_vec())
    );
}
