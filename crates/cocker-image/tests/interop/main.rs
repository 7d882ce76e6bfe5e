//! Images that go back and forth between cocker and the programs of others: buildah, skopeo, podman and umoci.
//!
//! Each test needs root and some of these programs, and says so where one is missing. They run without network, in
//! mount namespaces of their own, and keep everything in the test's folder.

mod lab;
mod snapshot;

use cocker_image::archive::{Compression, Devices, Limits, UnpackOptions, Whiteouts};
use cocker_image::oci::{Chosen, Format, LayerSource, Writing, recognise, write};
use lab::Lab;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use snapshot::{Snapshot, assert_same, merged, snapshot};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const REFERENCE: &str = "localhost/calvin/web:1";

#[test]
fn what_buildah_builds_is_the_same_here() {
    let Some(lab) = Lab::with(&["buildah", "skopeo"]) else {
        return;
    };
    let expected = build(&lab);
    for (index, to) in ["oci-archive", "oci", "docker-archive"].iter().enumerate() {
        let path = lab.path(&format!("pushed-{index}"));
        let target = format!("{to}:{}:{REFERENCE}", path.display());
        lab.buildah(&[
            "push",
            "--signature-policy",
            lab.policy(),
            REFERENCE,
            &target,
        ]);
        let image = import(&lab, &path);
        assert_same(&below_top(&image.view()), &expected, to);
        assert_eq!(image.chosen.reference(), Some(REFERENCE), "{to}");
        let config = image
            .chosen
            .config()
            .expect("buildah says something")
            .as_value();
        assert_eq!(config["Cmd"], serde_json::json!(["/bin/app"]), "{to}");
        let (name, version) = image.chosen.suggested_name().expect("a name");
        assert_eq!(
            format!("{name}:{}", version.expect("a version")),
            "calvin=web:1"
        );
    }
}

#[test]
fn layers_that_skopeo_compresses_are_the_same_here() {
    let Some(lab) = Lab::with(&["buildah", "skopeo"]) else {
        return;
    };
    let expected = build(&lab);
    let layout = format!("oci:{}:{REFERENCE}", lab.path("layout").display());
    lab.buildah(&[
        "push",
        "--signature-policy",
        lab.policy(),
        REFERENCE,
        &layout,
    ]);
    for compression in ["gzip", "zstd"] {
        let path = lab.path(compression);
        let to = format!("oci:{}:{REFERENCE}", path.display());
        let format = ["--dest-compress", "--dest-compress-format", compression];
        lab.skopeo(&[&["copy"], format.as_slice(), &[&layout, &to]].concat());
        assert_same(
            &below_top(&import(&lab, &path).view()),
            &expected,
            compression,
        );
    }
    let path = lab.path("plain");
    let to = format!("oci:{}:{REFERENCE}", path.display());
    lab.skopeo(&["copy", "--dest-decompress", &layout, &to]);
    assert_same(
        &below_top(&import(&lab, &path).view()),
        &expected,
        "not compressed",
    );
}

#[test]
fn archives_that_are_compressed_as_a_whole_are_the_same_here() {
    let Some(lab) = Lab::with(&["buildah", "gzip", "zstd", "xz"]) else {
        return;
    };
    let expected = build(&lab);
    for kind in ["oci-archive", "docker-archive"] {
        let path = lab.path(kind);
        let to = format!("{kind}:{}:{REFERENCE}", path.display());
        lab.buildah(&["push", "--signature-policy", lab.policy(), REFERENCE, &to]);
        for program in ["gzip", "zstd", "xz"] {
            let compressed = lab.path(&format!("{kind}.{program}"));
            let from = path.to_str().expect("a path of text");
            let bytes = lab.output(program, &["-c", from]);
            fs::write(&compressed, bytes).unwrap();
            assert_same(
                &below_top(&import(&lab, &compressed).view()),
                &expected,
                program,
            );
        }
    }
}

#[test]
fn what_podman_saves_is_the_same_here() {
    let Some(lab) = Lab::with(&["buildah", "podman"]) else {
        return;
    };
    let expected = build(&lab);
    for format in ["oci-archive", "docker-archive", "oci-dir"] {
        let path = lab.path(format);
        let to = path.to_str().expect("a path of text");
        lab.podman(&["save", "--format", format, "-o", to, REFERENCE]);
        assert_same(&below_top(&import(&lab, &path).view()), &expected, format);
    }
}

#[test]
fn what_is_written_here_is_the_same_to_skopeo() {
    let Some(lab) = Lab::with(&["skopeo"]) else {
        return;
    };
    let trees = Trees::new(&lab);
    for (index, (transport, format, compression)) in FORMATS.iter().enumerate() {
        let path = trees.write(&lab, *format, *compression);
        let from = format!("{transport}:{}", path.display());
        let inspected = lab.skopeo(&["inspect", &from]);
        let inspected: serde_json::Value = serde_json::from_slice(&inspected).unwrap();
        assert_eq!(inspected["Architecture"], "amd64");
        assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
        assert_eq!(inspected["Env"], serde_json::json!(["A=1"]));
        assert_eq!(inspected["Created"], "2023-11-14T22:13:21Z");
        // skopeo compares every digest while it copies, and what it copied is whole to us again.
        let folder = lab.path(&format!("dir-{index}"));
        lab.skopeo(&["copy", &from, &format!("dir:{}", folder.display())]);
        let layout = lab.path(&format!("layout-{index}"));
        let to = format!("oci:{}:{REFERENCE}", layout.display());
        lab.skopeo(&["copy", &from, &to]);
        assert_same(&import(&lab, &layout).view(), &trees.view(), transport);
    }
}

#[test]
fn what_is_written_here_is_the_same_to_podman() {
    let Some(lab) = Lab::with(&["podman", "tar"]) else {
        return;
    };
    let trees = Trees::new(&lab);
    let expected = trees.view();
    for (transport, format, compression) in FORMATS {
        let path = trees.write(&lab, format, compression);
        let from = path.to_str().expect("a path of text");
        lab.podman(&["load", "--signature-policy", lab.policy(), "-i", from]);
        let mounted = lab.line_of_podman(&["image", "mount", REFERENCE]);
        let found = snapshot(Path::new(&mounted));
        assert_same(
            &as_podman_keeps(&found),
            &as_podman_keeps(&expected),
            transport,
        );
        let container = lab.line_of_podman(&["create", REFERENCE]);
        let exported = lab.path("exported.tar");
        let to = exported.to_str().expect("a path of text");
        lab.podman(&["export", "-o", to, &container]);
        let folder = lab.path("exported");
        fs::create_dir(&folder).unwrap();
        let into = folder.to_str().expect("a path of text");
        lab.output("tar", &["-xpf", to, "-C", into, "--numeric-owner"]);
        assert_same(
            &as_exported(&snapshot(&folder)),
            &as_exported(&expected),
            transport,
        );
        lab.podman(&["rm", &container]);
        lab.podman(&["image", "unmount", REFERENCE]);
        lab.podman(&["rmi", "--force", REFERENCE]);
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn what_is_written_here_is_the_same_to_umoci() {
    let Some(lab) = Lab::with(&["umoci", "tar"]) else {
        return;
    };
    let trees = Trees::new(&lab);
    for compression in [Compression::None, Compression::Gzip] {
        let path = trees.write(&lab, Format::Oci, compression);
        let layout = lab.path("layout");
        fs::create_dir(&layout).unwrap();
        let into = layout.to_str().expect("a path of text");
        lab.output("tar", &["-xf", path.to_str().unwrap(), "-C", into]);
        let bundle = lab.path("bundle");
        let image = format!("{into}:{REFERENCE}");
        lab.output(
            "umoci",
            &["unpack", "--image", &image, bundle.to_str().unwrap()],
        );
        assert_same(&snapshot(&bundle.join("rootfs")), &trees.view(), "umoci");
        fs::remove_dir_all(layout).unwrap();
        fs::remove_dir_all(bundle).unwrap();
    }
}

const FORMATS: [(&str, Format, Compression); 4] = [
    ("oci-archive", Format::Oci, Compression::Gzip),
    ("oci-archive", Format::Oci, Compression::Zstd),
    ("oci-archive", Format::Oci, Compression::None),
    ("docker-archive", Format::Docker, Compression::None),
];

/// Builds an image of two layers, the upper one with deletions, and returns what buildah shows of it.
fn build(lab: &Lab) -> Snapshot {
    let context = lab.path("context");
    fill_lower(&context);
    let below = lab.line_of_buildah(&["from", "scratch"]);
    lab.buildah(&["copy", &below, context.to_str().unwrap(), "/"]);
    lab.buildah(&["config", "--cmd", r#"["/bin/app"]"#, "--env", "A=1", &below]);
    let commit = [
        "commit",
        "--signature-policy",
        lab.policy(),
        "--format",
        "oci",
    ];
    lab.buildah(&[commit.as_slice(), &[&below, "localhost/below:1"]].concat());
    let above = lab.line_of_buildah(&["from", "--pull-never", "localhost/below:1"]);
    let mounted = PathBuf::from(lab.line_of_buildah(&["mount", &above]));
    fs::remove_file(mounted.join("etc/gone")).unwrap();
    fs::remove_dir_all(mounted.join("var/old")).unwrap();
    fs::remove_dir_all(mounted.join("var/again")).unwrap();
    fs::create_dir(mounted.join("var/again")).unwrap();
    fs::write(mounted.join("var/again/new"), "new").unwrap();
    fs::write(mounted.join("etc/changed"), "changed above").unwrap();
    fs::write(mounted.join("etc/added"), "added").unwrap();
    lab.buildah(&[commit.as_slice(), &[&above, REFERENCE]].concat());
    let fresh = lab.line_of_buildah(&["from", "--pull-never", REFERENCE]);
    below_top(&snapshot(Path::new(
        &lab.line_of_buildah(&["mount", &fresh]),
    )))
}

fn fill_lower(tree: &Path) {
    for folder in ["bin", "etc", "var/old/deep", "var/again/deep"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for (name, content) in [
        ("bin/app", "#!/bin/sh\n"),
        ("etc/gone", "gone"),
        ("etc/changed", "as it was"),
        ("etc/empty", ""),
        ("var/old/deep/file", "old"),
        ("var/again/deep/file", "hidden"),
    ] {
        fs::write(tree.join(name), content).unwrap();
    }
    fs::write(tree.join("var/large"), vec![7; 1_200_001]).unwrap();
    fs::write(tree.join(format!("etc/{}", "n".repeat(200))), "long").unwrap();
    fs::hard_link(tree.join("bin/app"), tree.join("bin/same")).unwrap();
    symlink("../bin/app", tree.join("etc/link")).unwrap();
    symlink("/nowhere", tree.join("etc/dangling")).unwrap();
    fs::set_permissions(tree.join("bin/app"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(tree.join("var"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(tree.join("etc/changed"), Some(1000), Some(70_000)).unwrap();
}

/// Two layers as the store has them.
struct Trees {
    lower: PathBuf,
    upper: PathBuf,
}

impl Trees {
    fn new(lab: &Lab) -> Trees {
        let trees = Trees {
            lower: lab.path("lower"),
            upper: lab.path("upper"),
        };
        fill_lower(&trees.lower);
        let lower = |name: &str| trees.lower.join(name);
        fs::write(lower("etc/attributes"), "x").unwrap();
        setxattr(
            lower("etc/attributes"),
            "user.kept",
            b"v\0\xff",
            XattrFlags::empty(),
        )
        .unwrap();
        // cap_net_raw, permitted and effective (capabilities(7), version 2).
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        setxattr(
            lower("etc/empty"),
            "security.capability",
            &capability,
            XattrFlags::empty(),
        )
        .unwrap();
        mknodat(CWD, lower("etc/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let sparse = File::create(lower("var/sparse")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        let upper = |name: &str| trees.upper.join(name);
        fs::create_dir_all(upper("etc")).unwrap();
        fs::create_dir_all(upper("var/again")).unwrap();
        fs::set_permissions(upper("var"), fs::Permissions::from_mode(0o1777)).unwrap();
        for gone in ["etc/gone", "var/old"] {
            let device = FileType::CharacterDevice;
            mknodat(CWD, upper(gone), device, Mode::empty(), makedev(0, 0)).unwrap();
        }
        let opaque = upper("var/again");
        setxattr(&opaque, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        fs::write(upper("var/again/new"), "new").unwrap();
        fs::write(upper("etc/changed"), "changed above").unwrap();
        trees
    }

    fn view(&self) -> Snapshot {
        merged(&[&self.lower, &self.upper])
    }

    fn write(&self, lab: &Lab, format: Format, compression: Compression) -> PathBuf {
        let path = lab.path("written.tar");
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let (lower, upper) = (
            File::open(&self.lower).unwrap(),
            File::open(&self.upper).unwrap(),
        );
        let layer = |tree, seconds| LayerSource {
            tree,
            created: at(seconds),
            comment: "made by hand".into(),
        };
        let config = serde_json::json!({ "Cmd": ["/bin/app"], "Env": ["A=1"] });
        let config = serde_json::from_value(config).unwrap();
        let image = Writing {
            reference: REFERENCE.into(),
            layers: vec![
                layer(lower.as_fd(), 1_700_000_000),
                layer(upper.as_fd(), 1_700_000_001),
            ],
            created: at(1_700_000_001),
            config: Some(config),
            compression,
        };
        write(File::create(&path).unwrap(), format, &image, &mut |_| {}).unwrap();
        path
    }
}

/// An image of others, unpacked.
struct Imported {
    chosen: Chosen,
    layers: Vec<tempfile::TempDir>,
}

fn import(lab: &Lab, path: &Path) -> Imported {
    let spool = File::open(lab.path("")).unwrap();
    let image = recognise(path, spool.as_fd(), 1 << 30)
        .unwrap()
        .expect("an image");
    let chosen = image.choose(None).unwrap();
    let options = UnpackOptions {
        whiteouts: Whiteouts::Files,
        devices: Devices::Refused,
        limits: Limits {
            entries: 1_000_000,
            depth: 1000,
            size: 1 << 30,
        },
    };
    let unpack = |layer: &cocker_image::oci::ForeignLayer| {
        let tree = tempfile::tempdir_in(lab.path("")).unwrap();
        let folder = File::open(tree.path()).unwrap();
        layer.unpack_into(folder.as_fd(), &options).unwrap();
        tree
    };
    let layers = chosen.layers().iter().map(unpack).collect();
    Imported { chosen, layers }
}

impl Imported {
    fn view(&self) -> Snapshot {
        let layers: Vec<&Path> = self.layers.iter().map(|layer| layer.path()).collect();
        merged(&layers)
    }
}

/// Everything but the top folder, of which the layers of buildah say nothing.
fn below_top(view: &Snapshot) -> Snapshot {
    let mut view = view.clone();
    view.remove(Path::new(""));
    view
}

/// podman's storage keeps of extended attributes what the kernel itself obeys, and not the top folder's time.
fn as_podman_keeps(view: &Snapshot) -> Snapshot {
    let mut view = view.clone();
    for (path, file) in &mut view {
        if path == Path::new("") {
            file.modified = (0, 0);
        }
        file.attributes
            .retain(|(name, _)| name == "security.capability");
    }
    view
}

/// An exported archive has no extended attributes and times in whole seconds.
fn as_exported(view: &Snapshot) -> Snapshot {
    let mut view = as_podman_keeps(view);
    for file in view.values_mut() {
        file.attributes.clear();
        file.modified.1 = 0;
    }
    view
}
