//! Image layouts in folders: what is chosen from them, and what is refused.

use super::*;
use std::os::unix::fs::symlink;

#[test]
fn an_image_says_what_it_is() {
    let chosen = Sample::new()
        .named("docker.io/calvin/web:1")
        .choose()
        .unwrap();
    assert_eq!(chosen.layers().len(), 2);
    assert_eq!(chosen.reference(), Some("docker.io/calvin/web:1"));
    let (name, version) = chosen.suggested_name().unwrap();
    assert_eq!(
        (name.as_str(), version.unwrap().as_str()),
        ("calvin=web", "1")
    );
    assert_eq!(
        chosen.config().unwrap().as_value(),
        &json!({ "Cmd": ["/bin/app"], "Env": ["A=1"] })
    );
    let made_by: Vec<_> = chosen
        .layers()
        .iter()
        .map(|layer| layer.created_by())
        .collect();
    assert_eq!(made_by, [Some("ADD a"), Some("ADD b")]);
    assert!(chosen.layers()[0].created().is_some() && chosen.layers()[1].created().is_none());
    assert_eq!(chosen.created(), chosen.layers()[0].created());
    assert_eq!(chosen.layers()[0].size(), 2048);
}

#[test]
fn an_image_is_chosen_by_every_name_it_has() {
    let mut files = Files::default();
    let with = |annotations: Value, content: &[u8]| Sample {
        entry: json!({ "annotations": annotations }),
        ..Sample::of(vec![layer(&[("a", content)])])
    };
    let entries = [
        with(
            json!({
                "io.containerd.image.name": "docker.io/library/alpine:3.19",
                "org.opencontainers.image.ref.name": "3.19",
            }),
            b"1",
        )
        .put(&mut files),
        with(
            json!({ "org.opencontainers.image.ref.name": "localhost/b:1" }),
            b"2",
        )
        .put(&mut files),
        with(Value::Null, b"3").put(&mut files),
    ];
    files.index(&entries);
    let folder = files.folder();
    let image = opened(folder.path()).unwrap();
    assert_eq!(
        image.references(),
        ["docker.io/library/alpine:3.19", "localhost/b:1"]
    );
    for (reference, content) in [
        ("docker.io/library/alpine:3.19", b"1"),
        ("alpine:3.19", b"1"),
        ("3.19", b"1"),
        ("localhost/b:1", b"2"),
        (entries[2]["digest"].as_str().unwrap(), b"3"),
    ] {
        let chosen = image.choose(Some(reference)).unwrap();
        let expected = Digest::of(&layer(&[("a", content)]));
        assert_eq!(chosen.layers()[0].diff_id(), &expected, "{reference}");
    }
    assert_refused(
        image.choose(None),
        "there are `docker.io/library/alpine:3.19`, `localhost/b:1`, `sha256:",
    );
    assert_refused(
        image.choose(Some("alpine\u{1b}[2J")),
        "cannot find image `alpine\\u{1b}[2J` among `docker.io",
    );
}

#[test]
fn several_names_of_one_image_are_no_choice() {
    let mut files = Files::default();
    let one = Sample::new().named("a:1").put(&mut files);
    let two = Sample::new().named("a:2").put(&mut files);
    files.index(&[one, two]);
    assert_eq!(files.choose(None).unwrap().reference(), Some("a:1"));
    assert_eq!(files.choose(Some("a:2")).unwrap().reference(), Some("a:2"));
}

/// An index of one image for several platforms; each has one layer that holds its name.
fn platforms(files: &mut Files, platforms: &[(&str, Value)]) -> Vec<Value> {
    let sample = |(name, platform): &(&str, Value)| {
        let mut sample = Sample::of(vec![layer(&[("a", name.as_bytes())])]);
        sample.config["architecture"] = platform["architecture"].clone();
        sample.config["os"] = platform["os"].clone();
        sample.entry = json!({ "platform": platform });
        sample.put(files)
    };
    platforms.iter().map(sample).collect()
}

fn assert_is(chosen: &Chosen, name: &str) {
    let expected = Digest::of(&layer(&[("a", name.as_bytes())]));
    assert_eq!(chosen.layers()[0].diff_id(), &expected);
}

#[test]
fn the_image_for_this_machine_is_taken() {
    let here = json!({ "os": "linux", "architecture": "amd64" });
    let all = [
        (
            "arm",
            json!({ "os": "linux", "architecture": "arm64", "variant": "v8" }),
        ),
        (
            "windows",
            json!({ "os": "windows", "architecture": "amd64" }),
        ),
        (
            "v3",
            json!({ "os": "linux", "architecture": "amd64", "variant": "v3" }),
        ),
        ("here", here.clone()),
        ("again", here),
    ];
    let mut files = Files::default();
    let entries = platforms(&mut files, &all);
    files.index(&entries);
    assert_is(&files.choose(None).unwrap(), "here");

    files.index(&entries[..3]);
    assert_is(&files.choose(None).unwrap(), "v3");

    files.index(&entries[..2]);
    assert_refused(
        files.choose(None),
        "cannot find an image for `linux/amd64` among those for `linux/arm64/v8`, `windows/amd64`",
    );
}

#[test]
fn an_index_within_an_index_is_followed_and_attestations_are_not() {
    let mut files = Files::default();
    let mut entries = platforms(
        &mut files,
        &[
            ("here", json!({ "os": "linux", "architecture": "amd64" })),
            ("there", json!({ "os": "linux", "architecture": "s390x" })),
        ],
    );
    entries.push(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": Digest::of(b"not there"), "size": 9,
        "platform": { "os": "unknown", "architecture": "unknown" },
        "annotations": { "vnd.docker.reference.type": "attestation-manifest" },
    }));
    let nested = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
    let mut nested = files.blob(
        "application/vnd.docker.distribution.manifest.list.v2+json",
        nested.as_bytes(),
    );
    nested["annotations"] = json!({ "org.opencontainers.image.ref.name": "web:1" });
    files.index(&[nested]);
    let chosen = files.choose(None).unwrap();
    assert_is(&chosen, "here");
    assert_eq!(chosen.reference(), Some("web:1"));
}

#[test]
fn indexes_without_end_are_given_up() {
    let mut files = Files::default();
    let mut entry = Sample::new().put(&mut files);
    for _ in 0..9 {
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        entry = files.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    }
    files.index(&[entry]);
    assert_refused(files.choose(None), "more than 8 within one another");
}

#[test]
fn a_single_image_for_another_machine_is_refused() {
    let mut sample = Sample::new();
    sample.config["architecture"] = "riscv64".into();
    assert_refused(sample.choose(), "among those for `linux/riscv64`");
    let mut sample = Sample::new();
    sample.config["os"] = Value::Null;
    assert!(sample.choose().is_ok(), "what is not said is no obstacle");
}

#[test]
fn lists_may_be_null() {
    let mut sample = Sample::new();
    sample.config["history"] = Value::Null;
    sample.config["config"] = Value::Null;
    sample.entry = json!({ "annotations": null, "platform": null, "urls": null });
    let chosen = sample.choose().unwrap();
    assert!(chosen.config().is_none() && chosen.layers()[0].created_by().is_none());
    let none = Sample {
        index: json!({ "manifests": null }),
        ..Sample::new()
    };
    assert_refused(none.choose(), "there is none");
    let none = Sample {
        manifest: json!({ "layers": null }),
        ..Sample::new()
    };
    assert_refused(none.choose(), "it has 0 layers, and its config speaks of 2");
}

#[test]
fn layers_and_digests_in_the_config_must_match_in_number() {
    let mut sample = Sample::new();
    sample.config["rootfs"]["diff_ids"]
        .as_array_mut()
        .unwrap()
        .pop();
    assert_refused(
        sample.choose(),
        "it has 2 layers, and its config speaks of 1",
    );
    let mut sample = Sample::new();
    sample.config["rootfs"] = Value::Null;
    assert_refused(sample.choose(), "speaks of 0");
    assert_refused(Sample::of(vec![]).choose(), "it has no layers");
}

#[test]
fn no_more_layers_are_read_than_can_be_stacked() {
    let layers = vec![json!({ "digest": Digest::of(b"x"), "size": 1 }); 501];
    let sample = Sample {
        manifest: json!({ "layers": layers }),
        ..Sample::new()
    };
    assert_refused(sample.choose(), "a list has more than 500 entries");
    let mut sample = Sample::new();
    sample.config["rootfs"]["diff_ids"] = vec![json!(Digest::of(b"x")); 501].into();
    assert_refused(sample.choose(), "a list has more than 500 entries");
}

#[test]
fn what_cannot_be_a_digest_is_refused_before_anything_is_opened() {
    let hex = "0".repeat(64);
    for digest in [
        "sha256:../../../../etc/passwd".to_owned(),
        format!("sha256:{}/", "0".repeat(63)),
        format!("sha256:{}", "A".repeat(64)),
        format!("sha256:{hex}0"),
        format!("sha512:{hex}{hex}"),
        format!("sha256:{}\0", "0".repeat(63)),
        String::new(),
    ] {
        let sample = Sample {
            entry: json!({ "digest": digest }),
            ..Sample::new()
        };
        assert_refused(sample.choose(), "is not a digest");
        let mut sample = Sample::new();
        sample.config["rootfs"]["diff_ids"][0] = digest.into();
        assert_refused(sample.choose(), "is not a digest");
    }
}

#[test]
fn a_document_must_have_the_digest_and_size_that_were_promised() {
    let spoilt = |edit: &dyn Fn(&mut Vec<u8>), which: &str| {
        let sample = Sample::new();
        let mut files = sample.files();
        let entry = sample.put(&mut files.clone());
        let manifest = format!(
            "blobs/sha256/{}",
            entry["digest"]
                .as_str()
                .unwrap()
                .strip_prefix("sha256:")
                .unwrap()
        );
        let config = Digest::of(sample.config.to_string().as_bytes());
        let name = match which {
            "manifest" => manifest,
            _ => format!("blobs/sha256/{}", config.hex()),
        };
        edit(files.0.get_mut(&name).unwrap());
        files.choose(None)
    };
    for which in ["manifest", "config"] {
        assert_refused(spoilt(&|text| text.push(b' '), which), "bytes, not");
        assert_refused(
            spoilt(&|text| text.truncate(text.len() - 1), which),
            "bytes, not",
        );
        assert_refused(
            spoilt(&|text| *text.last_mut().unwrap() = b' ', which),
            "its content has digest",
        );
    }
}

#[test]
fn a_blob_that_is_missing_or_has_another_size_is_found_before_anything_is_unpacked() {
    let sample = Sample::new();
    let mut files = sample.files();
    let name = format!("blobs/sha256/{}", Digest::of(&sample.layers[1]).hex());
    files.0.get_mut(&name).unwrap().pop();
    assert_refused(files.choose(None), "it has 2047 bytes, not 2048");
    files.0.remove(&name);
    assert_refused(
        files.choose(None),
        &format!("cannot find `{name}` in the image"),
    );
}

#[test]
fn a_document_of_a_gigabyte_is_not_read() {
    const GIGABYTE: u64 = 1 << 30;
    let sample = Sample {
        entry: json!({ "size": GIGABYTE }),
        ..Sample::new()
    };
    assert_refused(sample.choose(), "a document may have 4194304");
    for name in ["index.json", "oci-layout"] {
        let folder = Sample::new().files().folder();
        let file = File::options()
            .write(true)
            .open(folder.path().join(name))
            .unwrap();
        file.set_len(GIGABYTE).unwrap();
        assert_refused(recognise_path(folder.path(), LIMIT), "has 1073741824 bytes");
    }
}

#[test]
fn layers_that_cocker_cannot_use_are_named() {
    for (media_type, expected) in [
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "cannot use layer 1: its files are not part",
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "cannot use layer 1: its files are not part",
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "cannot use layer 1: it is encrypted",
        ),
        (
            "application/x-\u{1b}",
            "cannot use layer 1: media type `application/x-\\u{1b}` is unknown",
        ),
    ] {
        let sample = Sample {
            layer_type: media_type.into(),
            ..Sample::new()
        };
        assert_refused(sample.choose(), expected);
    }
    let mut layers = Vec::new();
    layers.push(json!({ "digest": Digest::of(b"x"), "size": 1 }));
    let sample = Sample {
        manifest: json!({ "layers": layers }),
        ..Sample::new()
    };
    assert_refused(sample.choose(), "media type `` is unknown");
}

#[test]
fn documents_of_other_kinds_are_refused() {
    let entry = |media_type: &str| Sample {
        entry: json!({ "mediaType": media_type }),
        ..Sample::new()
    };
    assert_refused(
        entry("application/vnd.docker.distribution.manifest.v1+prettyjws").choose(),
        "schema 1",
    );
    assert_refused(
        entry("text/plain").choose(),
        "media type `text/plain` is unknown",
    );
    assert_refused(
        entry("application/vnd.oci.image.index.v1+json").choose(),
        "its media type is not that of an index",
    );
    let manifest = |over: Value| Sample {
        manifest: over,
        ..Sample::new()
    };
    assert_refused(manifest(json!({ "schemaVersion": 1 })).choose(), "schema 1");
    assert_refused(
        manifest(json!({ "manifests": [] })).choose(),
        "a manifest and an index at once",
    );
    assert_refused(
        manifest(json!({ "mediaType": "text/plain" })).choose(),
        "its media type is not that of a manifest",
    );
    assert_refused(
        manifest(json!({ "config": null })).choose(),
        "it has no config",
    );
    let config =
        json!({ "mediaType": "application/vnd.example", "digest": Digest::of(b"x"), "size": 1 });
    assert_refused(
        manifest(json!({ "config": config })).choose(),
        "it holds no image but content of type `application/vnd.example`",
    );
    let index = |over: Value| Sample {
        index: over,
        ..Sample::new()
    };
    assert_refused(
        index(json!({ "layers": [] })).choose(),
        "an index and a manifest at once",
    );
    assert_refused(
        index(json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json" })).choose(),
        "not that of an index",
    );
}

#[test]
fn a_layout_of_an_unknown_version_is_refused() {
    let mut files = Sample::new().files();
    files.put("oci-layout", r#"{"imageLayoutVersion":"2.0.0"}"#);
    assert_refused(files.choose(None), "version `2.0.0`");
    files.put("oci-layout", "{}");
    assert_refused(files.choose(None), "missing field");
    files.put("oci-layout", r#"{"imageLayoutVersion":"1.1.0"}"#);
    assert!(files.choose(None).is_ok());
}

#[test]
fn deep_and_broken_json_is_refused() {
    let mut files = Sample::new().files();
    for text in [
        "",
        "[",
        "{",
        "null",
        "[]",
        "{\"manifests\":{}}",
        "\u{feff}{}",
    ] {
        files.put("index.json", text);
        assert!(files.choose(None).is_err(), "{text:?} was taken");
    }
    files.put("index.json", "[".repeat(1_000_000));
    assert!(files.choose(None).is_err());
    files.put("index.json", format!("{{\"x\":{}", "[".repeat(1_000_000)));
    assert_refused(files.choose(None), "EOF while parsing");
    files.put(
        "index.json",
        format!("{{\"manifests\":[{{\"platform\":{}", "[".repeat(1_000_000)),
    );
    assert_refused(files.choose(None), "cannot understand `index.json`");
}

#[test]
fn an_inner_config_that_is_too_long_is_left_out() {
    let mut sample = Sample::new();
    sample.config["config"] = json!({ "Labels": { "a": "x".repeat(64 * 1024) } });
    assert!(sample.choose().unwrap().config().is_none());
    sample.config["config"] = json!(["Cmd"]);
    assert_refused(sample.choose(), "must be an object");
}

#[test]
fn links_and_pipes_in_a_layout_are_not_opened() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    for name in ["oci-layout", "index.json"] {
        let folder = Sample::new().files().folder();
        let path = folder.path().join(name);
        fs::remove_file(&path).unwrap();
        symlink(secret.path(), &path).unwrap();
        assert_refused(
            recognise_path(folder.path(), LIMIT),
            "it is a symbolic link",
        );
        fs::remove_file(&path).unwrap();
        let pipe = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, pipe, 0).unwrap();
        assert_refused(
            recognise_path(folder.path(), LIMIT),
            "it is not a regular file",
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_refused(
            recognise_path(folder.path(), LIMIT),
            "it is not a regular file",
        );
    }
    let folder = Sample::new().files().folder();
    let elsewhere = Sample::new().files().folder();
    fs::remove_dir_all(folder.path().join("blobs")).unwrap();
    symlink(elsewhere.path().join("blobs"), folder.path().join("blobs")).unwrap();
    assert_refused(
        opened(folder.path()).unwrap().choose(None),
        "it is a symbolic link",
    );
}

#[test]
fn a_folder_without_a_layout_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(recognise_path(folder.path(), LIMIT).unwrap().is_none());
    fs::create_dir(folder.path().join("etc")).unwrap();
    fs::write(folder.path().join("index.json"), "{}").unwrap();
    assert!(recognise_path(folder.path(), LIMIT).unwrap().is_none());
    assert_refused(
        recognise_path(&folder.path().join("gone"), LIMIT),
        "No such file",
    );
}
