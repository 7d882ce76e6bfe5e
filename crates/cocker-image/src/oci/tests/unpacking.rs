//! Layers become files, and only when they are what was promised.

use super::*;
use crate::archive::{Devices, Limits, UnpackOptions, Unpacked, Whiteouts};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The most bytes of a layer's files.
const MOST: u64 = 1 << 20;

pub(super) fn options() -> UnpackOptions {
    UnpackOptions {
        whiteouts: Whiteouts::Devices,
        devices: Devices::Refused,
        limits: Limits {
            entries: 100_000,
            depth: 100,
            size: MOST,
        },
    }
}

/// Unpacks all layers, each into a folder of its own.
pub(super) fn unpacked(image: &Chosen) -> Result<Vec<TempDir>, OciError> {
    let unpack = |layer: &crate::oci::ForeignLayer| {
        let tree = tempfile::tempdir().unwrap();
        let folder = File::open(tree.path()).unwrap();
        let Unpacked { digest, .. } = layer.unpack_into(folder.as_fd(), &options())?;
        assert_eq!(&digest, layer.diff_id());
        Ok(tree)
    };
    image.layers().iter().map(unpack).collect()
}

/// The image chosen, and the folder that it lies in.
fn chosen(files: &Files) -> (TempDir, Chosen) {
    let folder = files.folder();
    let image = opened(folder.path()).unwrap().choose(None).unwrap();
    (folder, image)
}

fn compressed(sample: Sample, compress: impl Fn(&[u8]) -> Vec<u8>, media_type: &str) -> Sample {
    Sample {
        layers: sample.layers.iter().map(|layer| compress(layer)).collect(),
        layer_type: media_type.into(),
        ..sample
    }
}

#[test]
fn layers_of_every_compression_become_files() {
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let members = |bytes: &[u8]| {
        let (one, two) = bytes.split_at(600);
        [gzip(one), gzip(two)].concat()
    };
    for sample in [
        Sample::new(),
        compressed(
            Sample::new(),
            gzip,
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        compressed(
            Sample::new(),
            members,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
        compressed(
            Sample::new(),
            zstd,
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    ] {
        let (_folder, image) = chosen(&sample.files());
        let trees = unpacked(&image).unwrap();
        assert_eq!(contents(trees[0].path())[Path::new("a")], b"lower");
        assert_eq!(contents(trees[1].path())[Path::new("b")], b"upper");
        let from_archive = sample.files().archive().recognise().unwrap().unwrap();
        let trees = unpacked(&from_archive.choose(None).unwrap()).unwrap();
        assert_eq!(contents(trees[1].path())[Path::new("b")], b"upper");
    }
}

#[test]
fn whiteouts_of_others_become_those_of_overlayfs() {
    let upper = layer(&[
        ("d/.wh.gone", b""),
        ("o/.wh..wh..opq", b""),
        ("o/new", b"1"),
    ]);
    let (_folder, image) = chosen(&Sample::of(vec![upper]).files());
    let trees = unpacked(&image).unwrap();
    let tree = trees[0].path();
    let gone = fs::symlink_metadata(tree.join("d/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    let mut value = [0; 8];
    let length = rustix::fs::lgetxattr(tree.join("o"), "trusted.overlay.opaque", &mut value[..]);
    assert_eq!(&value[..length.unwrap()], b"y");
    assert_eq!(contents(tree).len(), 1, "no file is called .wh.");
}

#[test]
fn a_layer_with_another_digest_is_refused() {
    let gzipped = compressed(
        Sample::new(),
        gzip,
        "application/vnd.oci.image.layer.v1.tar+gzip",
    );
    // In the tar stream a byte of a file's content; in gzip the time in the header, so that the files stay the same.
    for (sample, at, expected) in [
        (Sample::new(), 512, "its files have digest"),
        (gzipped, 4, "its content has digest"),
    ] {
        let mut files = sample.files();
        let name = format!("blobs/sha256/{}", Digest::of(&sample.layers[0]).hex());
        files.0.get_mut(&name).unwrap()[at] ^= 1;
        let (_folder, image) = chosen(&files);
        assert_refused(unpacked(&image), expected);
    }
}

#[test]
fn a_layer_whose_files_are_others_than_the_config_says_is_refused() {
    let mut sample = Sample::new();
    sample.config["rootfs"]["diff_ids"][1] = json!(Digest::of(b"other"));
    let (_folder, image) = chosen(&sample.files());
    assert_refused(
        unpacked(&image),
        "cannot trust layer 2: its files have digest",
    );
}

#[test]
fn what_stands_behind_the_end_of_a_layer_counts_too() {
    let plain = layer(&[("a", b"1")]);
    let mut longer = plain.clone();
    longer.extend([0; 512]);
    let mut sample = Sample::of(vec![longer]);
    let (_folder, image) = chosen(&sample.files());
    unpacked(&image).unwrap();
    sample.config["rootfs"]["diff_ids"][0] = json!(Digest::of(&plain));
    let (_folder, image) = chosen(&sample.files());
    assert_refused(unpacked(&image), "cannot trust layer 1");
}

#[test]
fn a_layer_that_grows_after_it_was_looked_at_is_refused() {
    let sample = Sample::new();
    let (folder, image) = chosen(&sample.files());
    let name = format!("blobs/sha256/{}", Digest::of(&sample.layers[0]).hex());
    let mut file = File::options()
        .append(true)
        .open(folder.path().join(name))
        .unwrap();
    file.write_all(&[0; 512]).unwrap();
    assert_refused(unpacked(&image), "cannot trust");
}

#[test]
fn a_bomb_is_stopped() {
    let mut bomb = Tar::default();
    bomb.file("zeros", &vec![0; 4 << 20]);
    let sample = Sample::of(vec![bomb.end()]);
    let sample = compressed(sample, gzip, "application/vnd.oci.image.layer.v1.tar+gzip");
    let (_folder, image) = chosen(&sample.files());
    assert!(image.layers()[0].size() < 100_000);
    assert_refused(unpacked(&image), "cannot unpack layer 1");
}

#[test]
fn a_layer_reaches_nothing_outside() {
    for name in ["../outside", "/../outside", "a/../../outside"] {
        let (_folder, image) = chosen(&Sample::of(vec![layer(&[(name, b"x")])]).files());
        assert_refused(unpacked(&image), "cannot unpack layer 1");
    }
}
