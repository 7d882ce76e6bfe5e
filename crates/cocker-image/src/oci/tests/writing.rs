//! What is written here is read again, by others' rules.

use super::super::{Format, ImageConfig, LayerSource, Writing, write};
use super::unpacking::unpacked;
use super::*;
use crate::archive::Compression;
use rustix::fs::{CWD, Mode, XattrFlags, makedev, mknodat};
use std::io::Seek;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

const ALL: [(Format, Compression); 4] = [
    (Format::Oci, Compression::None),
    (Format::Oci, Compression::Gzip),
    (Format::Oci, Compression::Zstd),
    (Format::Docker, Compression::Gzip),
];

/// Two layers, the upper one with deletions.
struct Trees(TempDir, TempDir);

impl Trees {
    fn new() -> Trees {
        let lower = tempfile::tempdir().unwrap();
        let path = |name: &str| lower.path().join(name);
        fs::create_dir_all(path("etc/deep/er")).unwrap();
        fs::write(path("etc/passwd"), "root").unwrap();
        fs::write(path("etc/deep/er/file"), [7; 5000]).unwrap();
        fs::hard_link(path("etc/passwd"), path("etc/again")).unwrap();
        symlink("/etc/passwd", path("link")).unwrap();
        fs::set_permissions(path("etc/passwd"), fs::Permissions::from_mode(0o4750)).unwrap();
        let upper = tempfile::tempdir().unwrap();
        fs::create_dir_all(upper.path().join("etc/deep")).unwrap();
        fs::write(upper.path().join("etc/deep/new"), "new").unwrap();
        let gone = upper.path().join("etc/passwd");
        let kind = rustix::fs::FileType::CharacterDevice;
        mknodat(CWD, &gone, kind, Mode::empty(), makedev(0, 0)).unwrap();
        let opaque = upper.path().join("etc/deep");
        rustix::fs::setxattr(&opaque, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        Trees(lower, upper)
    }

    fn write(&self, format: Format, compression: Compression) -> (File, Digest) {
        self.write_and_tell(format, compression, &mut |_| {})
    }

    fn write_and_tell(
        &self,
        format: Format,
        compression: Compression,
        packed: &mut dyn FnMut(u64),
    ) -> (File, Digest) {
        let (lower, upper) = (
            File::open(self.0.path()).unwrap(),
            File::open(self.1.path()).unwrap(),
        );
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let image = Writing {
            reference: "calvin/web:1".into(),
            layers: vec![
                LayerSource {
                    tree: lower.as_fd(),
                    created: at(1_700_000_000),
                    comment: "made below".into(),
                },
                LayerSource {
                    tree: upper.as_fd(),
                    created: at(1_700_000_001),
                    comment: "made above".into(),
                },
            ],
            created: at(1_700_000_001),
            config: Some(
                ImageConfig::from_value(json!({ "Env": ["A=1"], "Odd": [1, null] })).unwrap(),
            ),
            compression,
        };
        let file = tempfile::tempfile().unwrap();
        let digest = write(file.try_clone().unwrap(), format, &image, packed).unwrap();
        (file, digest)
    }
}

fn bytes(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn how_far_it_has_come_is_told_over_all_layers() {
    let trees = Trees::new();
    let mut wholes = Vec::new();
    for (format, compression) in ALL {
        let mut told = vec![0];
        trees.write_and_tell(format, compression, &mut |packed| told.push(packed));
        assert!(told.is_sorted(), "{told:?}");
        wholes.extend(told.last().copied());
    }
    // As many bytes as both tar streams have, which are the layers of a docker archive as they are.
    let (file, _) = trees.write(Format::Docker, Compression::None);
    let chosen = recognise_bytes(&bytes(&file), LIMIT).unwrap().unwrap();
    let layers = chosen.choose(None).unwrap();
    let whole: u64 = layers.layers().iter().map(|layer| layer.size()).sum();
    assert_eq!(wholes, vec![whole; ALL.len()]);
}

#[test]
fn what_is_written_reads_back_as_it_was() {
    let trees = Trees::new();
    for (format, compression) in ALL {
        let (file, digest) = trees.write(format, compression);
        let image = recognise_bytes(&bytes(&file), LIMIT).unwrap().unwrap();
        assert_eq!(image.references(), ["calvin/web:1"]);
        let chosen = image.choose(None).unwrap();
        if format == Format::Oci {
            assert_eq!(chosen.manifest(), Some(&digest));
        }
        assert_eq!(
            chosen.config().unwrap().as_value(),
            &json!({ "Env": ["A=1"], "Odd": [1, null] })
        );
        let made_by: Vec<_> = chosen
            .layers()
            .iter()
            .map(|layer| layer.created_by())
            .collect();
        assert_eq!(made_by, [Some("made below"), Some("made above")]);
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        assert_eq!(
            seconds(chosen.layers()[1].created().unwrap()),
            1_700_000_001
        );
        let read = unpacked(&chosen).unwrap();
        assert_same(trees.0.path(), read[0].path());
        assert_same(trees.1.path(), read[1].path());
        let gone = fs::symlink_metadata(read[1].path().join("etc/passwd")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    }
}

#[test]
fn the_same_layers_give_the_same_bytes() {
    let trees = Trees::new();
    for (format, compression) in ALL {
        let (one, digest) = trees.write(format, compression);
        let (two, again) = trees.write(format, compression);
        assert_eq!(digest, again);
        assert!(bytes(&one) == bytes(&two));
    }
}

#[test]
fn a_layer_that_stands_twice_is_written_once() {
    let tree = tempfile::tempdir().unwrap();
    fs::write(tree.path().join("a"), vec![1; 100_000]).unwrap();
    let folder = File::open(tree.path()).unwrap();
    let layer = || LayerSource {
        tree: folder.as_fd(),
        created: SystemTime::UNIX_EPOCH,
        comment: String::new(),
    };
    for format in [Format::Oci, Format::Docker] {
        let image = Writing {
            reference: "a:1".into(),
            layers: vec![layer(), layer()],
            created: SystemTime::UNIX_EPOCH,
            config: None,
            compression: Compression::None,
        };
        let file = tempfile::tempfile().unwrap();
        write(file.try_clone().unwrap(), format, &image, &mut |_| {}).unwrap();
        assert!(file.metadata().unwrap().len() < 150_000);
        let image = recognise_bytes(&bytes(&file), LIMIT).unwrap().unwrap();
        let chosen = image.choose(None).unwrap();
        assert_eq!(
            chosen.config().unwrap().as_value(),
            &json!({ "Cmd": ["/bin/sh"] })
        );
        assert_eq!(unpacked(&chosen).unwrap().len(), 2);
    }
}

#[test]
fn what_others_could_not_read_is_not_written() {
    let tree = tempfile::tempdir().unwrap();
    let folder = File::open(tree.path()).unwrap();
    let layer = LayerSource {
        tree: folder.as_fd(),
        created: SystemTime::UNIX_EPOCH,
        comment: String::new(),
    };
    let mut image = Writing {
        reference: "a:1".into(),
        layers: vec![],
        created: SystemTime::UNIX_EPOCH,
        config: None,
        compression: Compression::Xz,
    };
    let file = || tempfile::tempfile().unwrap();
    assert_refused(
        write(file(), Format::Oci, &image, &mut |_| {}),
        "without layers",
    );
    image.layers.push(layer);
    assert_refused(
        write(file(), Format::Oci, &image, &mut |_| {}),
        "cannot compress layers with xz",
    );
}

/// Compares type, mode, owner, links, times, contents and extended attributes of two trees.
fn assert_same(one: &Path, two: &Path) {
    let (a, b) = (
        fs::symlink_metadata(one).unwrap(),
        fs::symlink_metadata(two).unwrap(),
    );
    let of = |m: &fs::Metadata| {
        (
            m.mode(),
            m.uid(),
            m.gid(),
            m.mtime(),
            m.mtime_nsec(),
            m.rdev(),
        )
    };
    let is_whiteout = a.file_type().is_char_device();
    if is_whiteout {
        assert_eq!(a.rdev(), b.rdev(), "{one:?}");
        return;
    }
    assert_eq!(of(&a), of(&b), "{one:?}");
    assert_eq!(attributes(one), attributes(two), "{one:?}");
    if a.is_symlink() {
        assert_eq!(fs::read_link(one).unwrap(), fs::read_link(two).unwrap());
    } else if a.is_file() {
        assert_eq!(a.nlink(), b.nlink(), "{one:?}");
        assert!(fs::read(one).unwrap() == fs::read(two).unwrap(), "{one:?}");
    } else if a.is_dir() {
        let names = |path: &Path| {
            let entries = fs::read_dir(path).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(one), names(two), "{one:?}");
        for name in names(one) {
            assert_same(&one.join(&name), &two.join(&name));
        }
    }
}

fn attributes(path: &Path) -> Vec<String> {
    let mut list = [0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut names: Vec<String> = String::from_utf8_lossy(&list[..length])
        .split_terminator('\0')
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}
