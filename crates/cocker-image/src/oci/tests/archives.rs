//! The archive around an image: told apart from others, and hostile.

use super::super::outer_index::{Feed, OuterIndex};
use super::*;
use std::io;

#[test]
fn a_layout_is_recognised_whatever_it_is_packed_in() {
    let tar = Sample::new().named("web:1").files().archive().end();
    let zstd = zstd::encode_all(tar.as_slice(), 1).unwrap();
    for bytes in [tar.as_slice(), &gzip(&tar), &zstd] {
        let image = recognise_bytes(bytes, LIMIT).unwrap().unwrap();
        assert_eq!(image.references(), ["web:1"]);
        assert_eq!(image.choose(None).unwrap().layers().len(), 2);
    }
}

#[test]
fn names_may_have_a_dot_before_them() {
    let mut tar = Tar::default();
    tar.entry("./", EntryType::Directory, "", b"");
    for (name, content) in &Sample::new().files().0 {
        tar.file(&format!("./{name}"), content);
    }
    assert!(tar.recognise().unwrap().unwrap().choose(None).is_ok());
}

#[test]
fn what_is_no_image_is_left_to_others() {
    let root = |first: &str, kind, link: &str| {
        let mut tar = Tar::default();
        tar.entry(first, kind, link, b"")
            .file("etc/passwd", b"root");
        tar.end()
    };
    let own = layer(&[(".cocker-image.json", b"{}"), ("manifest.json", b"[]")]);
    let manifest = {
        let mut tar = Tar::default();
        tar.file("manifest.json", b"{\"name\":\"app\"}")
            .file("bin/app", b"");
        tar.end()
    };
    for bytes in [
        Vec::new(),
        b"#!/bin/sh\n".to_vec(),
        vec![0; 1024],
        vec![0xff; 4096],
        b"\x1f\x8b".to_vec(),
        gzip(b"text"),
        layer(&[]),
        layer(&[("hello.txt", b"")]),
        root("./", EntryType::Directory, ""),
        root("bin", EntryType::Symlink, "usr/bin"),
        root("dev/null", EntryType::Char, ""),
        gzip(&root("bin", EntryType::Symlink, "usr/bin")),
        own,
        manifest,
    ] {
        assert!(recognise_bytes(&bytes, LIMIT).unwrap().is_none());
    }
}

#[test]
fn a_special_file_is_not_opened() {
    assert!(
        recognise_path(Path::new("/dev/null"), LIMIT)
            .unwrap()
            .is_none()
    );
}

/// Bytes that say how many of them were wanted.
struct Counting<'a> {
    bytes: &'a [u8],
    wanted: usize,
}

impl Read for Counting<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(to)?;
        self.wanted += read;
        Ok(read)
    }
}

impl Feed for Counting<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(bytes), &mut io::sink())?;
        match skipped == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[test]
fn of_a_root_file_system_only_the_beginning_is_read() {
    let mut tar = Tar::default();
    tar.entry("./", EntryType::Directory, "", b"");
    tar.entry("./boot/", EntryType::Directory, "", b"");
    for file in 0..1000 {
        tar.file(&format!("./boot/{file}"), &[0; 5000]);
    }
    let bytes = tar.end();
    let mut feed = Counting {
        bytes: &bytes,
        wanted: 0,
    };
    assert!(OuterIndex::read(&mut feed).unwrap().is_none());
    assert_eq!(feed.wanted, 3 * 512);
}

#[test]
fn the_last_of_several_entries_counts() {
    let sample = Sample::new();
    let mut tar = Tar::default();
    tar.file("index.json", b"broken");
    for (name, content) in &sample.files().0 {
        tar.file(name, b"").file(name, content);
    }
    assert!(tar.recognise().unwrap().unwrap().choose(None).is_ok());
    tar.file("index.json", b"broken");
    assert_refused(tar.recognise(), "cannot understand `index.json`");
}

#[test]
fn links_lead_to_entries_of_the_same_archive_only() {
    let with = |kind, target: &str| {
        let mut files = Sample::new().files();
        let index = files.0.remove("index.json").unwrap();
        let mut tar = files.archive();
        tar.file("real.json", &index)
            .entry("index.json", kind, target, b"");
        tar.recognise().map(|image| image.is_some())
    };
    for target in ["real.json", "./real.json", "blobs/../real.json"] {
        assert!(with(EntryType::Symlink, target).unwrap(), "{target}");
    }
    assert!(with(EntryType::Link, "real.json").unwrap());
    for target in [
        "../real.json",
        "/real.json",
        "/etc/passwd",
        "../../etc/passwd",
        "",
    ] {
        assert!(with(EntryType::Symlink, target).is_err(), "{target}");
    }
    assert!(with(EntryType::Link, "../real.json").is_err());
    assert_refused(
        with(EntryType::Symlink, "index.json"),
        "its links lead to one another",
    );
    assert_refused(
        with(EntryType::Symlink, "gone"),
        "a link to what is not there",
    );
}

#[test]
fn a_sparse_entry_is_refused_where_it_matters() {
    let sample = Sample::new();
    let blob = format!("blobs/sha256/{}", Digest::of(&sample.layers[0]).hex());
    let mut tar = Tar::default();
    for (name, content) in &sample.files().0 {
        let kind = match *name == blob {
            true => EntryType::GnuSparse,
            false => EntryType::Regular,
        };
        tar.entry(name, kind, "", content);
    }
    let image = tar.recognise().unwrap().unwrap();
    assert_refused(image.choose(None), "it is stored as a sparse file");
}

#[test]
fn other_files_in_an_image_do_no_harm() {
    let mut tar = Tar::default();
    tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.file("../../outside", b"x")
        .file("/outside", b"x")
        .file("a/b/c", b"x");
    tar.entry("null", EntryType::Char, "", b"");
    for (name, content) in &Sample::new().files().0 {
        tar.file(name, content);
    }
    assert!(tar.recognise().unwrap().unwrap().choose(None).is_ok());
}

#[test]
fn an_archive_that_ends_early_is_refused() {
    let mut tar = Tar::default();
    let files = Sample::new().files();
    tar.file("oci-layout", &files.0["oci-layout"]);
    for (name, content) in files.0.iter().filter(|file| file.0 != "oci-layout") {
        tar.file(name, content);
    }
    let whole = tar.end();
    let mut refused = 0;
    for length in (1024..whole.len() - 1024).step_by(256) {
        let Ok(image) = recognise_bytes(&whole[..length], LIMIT) else {
            refused += 1;
            continue;
        };
        assert!(image.is_none_or(|image| image.choose(None).is_err()));
    }
    assert!(refused > 10);
    assert_refused(
        recognise_bytes(&whole[..1600], LIMIT),
        "it ends in the middle of an entry",
    );
}

#[test]
fn a_length_beyond_the_archive_is_refused() {
    for size in [1 << 20, 1 << 63, u64::MAX - 511, u64::MAX] {
        let record = format!("size={size}\n");
        let length = record.len() + 3;
        let record = format!("{length} {record}");
        assert_eq!(record.len(), length);
        let mut tar = Tar::default();
        tar.file("oci-layout", b"{}");
        tar.entry("x", EntryType::XHeader, "", record.as_bytes());
        tar.file("index.json", b"{}");
        assert_refused(tar.recognise(), "cannot read the archive at byte 2");

        let mut tar = Tar::default();
        tar.file("oci-layout", b"{}");
        tar.entry("x", EntryType::GnuLongName, "", &[b'n'; 600]);
        let mut header = HeaderBuilder::new_gnu();
        header.path("x").unwrap().size(size).unwrap();
        header.entry_type(EntryType::XHeader);
        tar.0.extend(header.finish().as_bytes());
        assert_refused(tar.recognise(), "cannot read the archive at byte 1024");
    }
}

#[test]
fn a_header_without_end_is_refused() {
    for kind in [
        EntryType::XHeader,
        EntryType::GnuLongName,
        EntryType::XGlobalHeader,
    ] {
        let mut tar = Tar::default();
        tar.file("oci-layout", b"{}");
        tar.entry("x", kind, "", &vec![b'a'; 2 << 20])
            .file("a", b"");
        assert_refused(tar.recognise(), "at byte 1024: metadata exceeds limit");
    }
    let mut tar = Tar::default();
    tar.file("oci-layout", b"{}").0.extend([b'x'; 512]);
    assert_refused(tar.recognise(), "at byte 1024");
}

#[test]
fn a_table_does_not_grow_without_bounds() {
    let mut tar = Tar::default();
    tar.file("oci-layout", b"{}");
    for entry in 0..70_000 {
        tar.file(&format!("blobs/{entry}"), b"");
    }
    assert_refused(tar.recognise(), "more than 65536 entries");
}

#[test]
fn a_compressed_archive_is_spooled_within_bounds() {
    let mut tar = Tar::default();
    tar.file("blobs/bomb", &vec![0; 4 << 20]);
    let bomb = gzip(&tar.end());
    assert!(bomb.len() < 100_000);
    assert_refused(
        recognise_bytes(&bomb, 1 << 20),
        "unpacked it has more than 1048576 bytes",
    );
}
