//! Any bytes, looked at as images of others would be: as an archive, or as the documents of one.
//!
//! The first byte of the input says which. Documents stand one after the other, with a zero byte between them, and
//! get the names that an image's documents have; what follows them are blobs. Nothing is unpacked.
//!
//! Run it with `-detect_leaks=0` and begin with `seeds-images`: the thread that decompresses an archive of which only the
//! beginning was wanted ends a moment later, and what it still has then is no leak.
#![no_main]

use cocker_image::Digest;
use cocker_image::oci::recognise;
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// No compressed input unpacks to more bytes than this.
const LIMIT: u64 = 8 << 20;
const DOCUMENTS: [[&str; 2]; 2] = [
    ["oci-layout", "index.json"],
    ["manifest.json", "config.json"],
];

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let archive = match choice & 1 {
        0 => bytes.to_vec(),
        _ => archive(DOCUMENTS[usize::from(choice >> 1 & 1)], bytes),
    };
    let mut file = File::from(memfd_create("archive", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(&archive).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let spool = File::open("/dev/shm").unwrap();
    let Ok(Some(image)) = recognise(&path, spool.as_fd(), LIMIT) else {
        return;
    };
    let references: Vec<Option<String>> = image
        .references()
        .iter()
        .map(|reference| Some((*reference).to_owned()))
        .collect();
    for reference in references.iter().take(4).chain([&None]) {
        match image.choose(reference.as_deref()) {
            Ok(chosen) => assert!((1..=500).contains(&chosen.layers().len())),
            Err(error) => assert!(!error.to_string().chars().any(char::is_control)),
        }
    }
});

/// An archive of documents, each also there as a blob.
fn archive(names: [&str; 2], bytes: &[u8]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (index, document) in bytes.split(|&byte| byte == 0).take(8).enumerate() {
        if let Some(name) = names.get(index) {
            entry(&mut archive, name, document);
        }
        let name = format!("blobs/sha256/{}", Digest::of(document).hex());
        entry(&mut archive, &name, document);
    }
    archive.extend([0; 1024]);
    archive
}

fn entry(archive: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    header[154] = 0;
    archive.extend(header);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}
