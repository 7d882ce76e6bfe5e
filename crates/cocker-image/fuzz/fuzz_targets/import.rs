//! Any bytes, decompressed and unpacked as an archive from anyone would be.
//!
//! The archive goes into a folder of a file system in memory with something beside it that must stay as it was. The
//! first byte of the input says in which form whiteouts are, whether devices are allowed, whether the checksums of headers are
//! made right before (no fuzzer gets past them otherwise), and whether what came out is packed again: both trees must
//! then be the same layer.
#![no_main]

use cocker_image::archive::{
    Devices, Limits, PackOptions, UnpackOptions, Whiteouts, decompress, pack, unpack,
};
use libfuzzer_sys::fuzz_target;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const LIMITS: Limits = Limits {
    entries: 200,
    depth: 40,
    size: 4 << 20,
};
/// No input unpacks to more bytes than this.
const MOST_BYTES: u64 = 8 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let outer = outer();
    let mut bytes = bytes.to_vec();
    if choice & 4 == 0 {
        correct_checksums(&mut bytes);
    }
    let options = UnpackOptions {
        whiteouts: match choice & 1 {
            0 => Whiteouts::Devices,
            _ => Whiteouts::Files,
        },
        devices: match choice & 2 {
            0 => Devices::Refused,
            _ => Devices::Allowed,
        },
        limits: LIMITS,
    };
    let first = outer.join("first");
    fs::create_dir(&first).unwrap();
    let mut from = decompress(Cursor::new(bytes)).unwrap().take(MOST_BYTES);
    let unpacked = unpack(&mut from, File::open(&first).unwrap().as_fd(), &options);
    if unpacked.is_ok() && choice & 8 == 0 {
        pack_again(outer, &first, &options);
    }
    remove(outer, "first");
    assert_untouched(outer);
});

/// What came out of one archive goes through another one.
fn pack_again(outer: &Path, first: &Path, options: &UnpackOptions) {
    let packing = PackOptions {
        whiteouts: options.whiteouts,
        description: None,
    };
    let mut bytes = Vec::new();
    let packed = pack(File::open(first).unwrap().as_fd(), &packing, &mut bytes);
    // What lay in the archive as a file may bear a name or have attributes that cannot be packed.
    let Ok(packed) = packed else {
        return;
    };
    let second = outer.join("second");
    fs::create_dir(&second).unwrap();
    let again = UnpackOptions {
        devices: Devices::Allowed,
        ..*options
    };
    let unpacked = unpack(
        &mut &bytes[..],
        File::open(&second).unwrap().as_fd(),
        &again,
    );
    let unpacked = unpacked.expect("what was packed here can be unpacked");
    assert_eq!(unpacked.digest, packed.digest);
    let third = pack(
        File::open(&second).unwrap().as_fd(),
        &packing,
        &mut std::io::sink(),
    );
    assert_eq!(third.expect("and packed again").digest, packed.digest);
    remove(outer, "second");
}

fn remove(outer: &Path, name: &str) {
    cocker_image::removal::remove_tree(File::open(outer).unwrap().as_fd(), name).unwrap();
}

fn assert_untouched(outer: &Path) {
    let mut names: Vec<_> = fs::read_dir(outer)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["beside", "outside"], "something appeared outside");
    assert_eq!(fs::read(outer.join("beside")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(outer.join("outside")).unwrap().count(), 1);
    let secret = fs::metadata(outer.join("outside/secret")).unwrap();
    assert_eq!(
        (secret.mode() & 0o7777, secret.nlink(), secret.size()),
        (0o600, 1, 0)
    );
}

/// A file system in memory in a mount namespace of this process alone, with something to reach for.
fn outer() -> &'static Path {
    static OUTER: OnceLock<PathBuf> = OnceLock::new();
    OUTER.get_or_init(|| {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        assert!(
            rustix::process::geteuid().is_root(),
            "archives are unpacked by root"
        );
        // SAFETY: the fuzzer has one thread, and mounts are no part of what its memory rests on.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        mount(
            "fuzz",
            "/mnt",
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=64m"),
        )
        .unwrap();
        fs::create_dir("/mnt/outside").unwrap();
        fs::write("/mnt/outside/secret", b"").unwrap();
        fs::set_permissions(
            "/mnt/outside/secret",
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        fs::write("/mnt/beside", b"untouched").unwrap();
        PathBuf::from("/mnt")
    })
}

/// Makes the checksum right in every block that looks like a header.
fn correct_checksums(bytes: &mut [u8]) {
    for block in bytes.as_chunks_mut::<512>().0 {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}
