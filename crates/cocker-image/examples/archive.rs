//! Packs and unpacks layers by hand, for looking at archives and for measuring (`bench/archives.sh`).
//!
//! ```text
//! archive pack FOLDER FILE [none|gzip|zstd]
//! archive unpack FILE FOLDER
//! ```
//! Prints entries, digest, seconds and the most memory that was resident.

use cocker_image::archive::{
    Compression, Devices, Limits, PackOptions, UnpackOptions, Whiteouts, compress, decompress,
    pack, unpack,
};
use std::env::args;
use std::error::Error;
use std::fs::{File, create_dir, read_to_string};
use std::os::fd::AsFd;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let start = Instant::now();
    let (entries, digest) = match arguments[..] {
        ["pack", folder, file] => pack_into(folder, file, Compression::Gzip)?,
        ["pack", folder, file, "none"] => pack_into(folder, file, Compression::None)?,
        ["pack", folder, file, "gzip"] => pack_into(folder, file, Compression::Gzip)?,
        ["pack", folder, file, "zstd"] => pack_into(folder, file, Compression::Zstd)?,
        ["unpack", file, folder] => unpack_into(file, folder)?,
        _ => {
            return Err(
                "usage: archive pack FOLDER FILE [none|gzip|zstd] | unpack FILE FOLDER".into(),
            );
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let memory = read_to_string("/proc/self/status")?;
    let memory = memory
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap_or("VmHWM: unknown");
    println!("{entries} entries, {digest}, {seconds:.3} s, {memory}");
    Ok(())
}

fn pack_into(
    folder: &str,
    file: &str,
    compression: Compression,
) -> Result<(u64, String), Box<dyn Error>> {
    let mut to = compress(File::create(file)?, compression)?;
    let options = PackOptions {
        whiteouts: Whiteouts::Devices,
        description: None,
    };
    let packed = pack(File::open(folder)?.as_fd(), &options, &mut to)?;
    to.finish()?;
    Ok((packed.entries, packed.digest.to_string()))
}

fn unpack_into(file: &str, folder: &str) -> Result<(u64, String), Box<dyn Error>> {
    let options = UnpackOptions {
        whiteouts: Whiteouts::Devices,
        devices: Devices::Allowed,
        limits: Limits::default(),
    };
    create_dir(folder)?;
    let mut from = decompress(File::open(file)?)?;
    let unpacked = unpack(&mut from, File::open(folder)?.as_fd(), &options)?;
    Ok((unpacked.entries, unpacked.digest.to_string()))
}
