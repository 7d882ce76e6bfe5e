//! Images made by hand, one fault each, and images that were written here and are read again.

mod archives;
mod damage;
mod layouts;
mod saved;
mod unpacking;
mod writing;

use super::{Chosen, ForeignImage, OciError, recognise};
use crate::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tar_core::{EntryType, HeaderBuilder};
use tempfile::TempDir;

const LIMIT: u64 = 64 * 1024 * 1024;

/// An image layout of one image, to be spoilt before it is written.
struct Sample {
    layers: Vec<Vec<u8>>,
    /// Media type of every layer.
    layer_type: String,
    config: Value,
    /// What is put over the manifest as it ought to be.
    manifest: Value,
    /// What is put over the descriptor of the manifest.
    entry: Value,
    /// What is put over `index.json`.
    index: Value,
}

impl Sample {
    fn new() -> Sample {
        Sample::of(vec![layer(&[("a", b"lower")]), layer(&[("b", b"upper")])])
    }

    fn of(layers: Vec<Vec<u8>>) -> Sample {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        Sample {
            layers,
            layer_type: "application/vnd.oci.image.layer.v1.tar".into(),
            config: json!({
                "architecture": "amd64",
                "os": "linux",
                "created": "2023-11-14T22:13:20Z",
                "config": { "Cmd": ["/bin/app"], "Env": ["A=1"] },
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
                "history": [
                    { "created": "2023-11-14T22:13:20Z", "created_by": "ADD a" },
                    { "created_by": "ENV A=1", "empty_layer": true },
                    { "created_by": "ADD b" },
                ],
            }),
            manifest: json!({}),
            entry: json!({}),
            index: json!({}),
        }
    }

    fn named(mut self, name: &str) -> Sample {
        self.entry = json!({ "annotations": { "org.opencontainers.image.ref.name": name } });
        self
    }

    /// Adds the blobs, and returns the descriptor of the manifest.
    fn put(&self, files: &mut Files) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| files.blob(&self.layer_type, layer))
            .collect();
        let config = files.blob(
            "application/vnd.oci.image.config.v1+json",
            self.config.to_string().as_bytes(),
        );
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        put_over(&mut manifest, &self.manifest);
        let mut entry = files.blob(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.to_string().as_bytes(),
        );
        put_over(&mut entry, &self.entry);
        entry
    }

    fn files(&self) -> Files {
        let mut files = Files::default();
        let entry = self.put(&mut files);
        files.index(&[entry]);
        let mut index: Value = serde_json::from_slice(&files.0["index.json"]).unwrap();
        put_over(&mut index, &self.index);
        files.put("index.json", index.to_string());
        files
    }

    fn choose(&self) -> Result<Chosen, OciError> {
        self.files().choose(None)
    }
}

/// Files of a layout by their names.
#[derive(Clone, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    fn put(&mut self, name: &str, content: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), content.into());
    }

    fn blob(&mut self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        self.put(&format!("blobs/sha256/{}", digest.hex()), content);
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    fn index(&mut self, entries: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        self.put("index.json", index.to_string());
        self.put("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    }

    fn folder(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in &self.0 {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn archive(&self) -> Tar {
        let mut tar = Tar::default();
        for (name, content) in &self.0 {
            tar.file(name, content);
        }
        tar
    }

    fn choose(&self, reference: Option<&str>) -> Result<Chosen, OciError> {
        opened(self.folder().path())?.choose(reference)
    }
}

/// An archive that is written entry by entry.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(&mut self, name: &str, content: &[u8]) -> &mut Tar {
        self.entry(name, EntryType::Regular, "", content)
    }

    fn entry(&mut self, name: &str, kind: EntryType, link: &str, content: &[u8]) -> &mut Tar {
        let mut header = HeaderBuilder::new_gnu();
        header.path(name).unwrap().link_name(link).unwrap();
        header.mode(0o644).unwrap();
        header.size(content.len() as u64).unwrap();
        self.0.extend(header.entry_type(kind).finish().as_bytes());
        self.0.extend(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn end(&self) -> Vec<u8> {
        [self.0.as_slice(), &[0; 1024]].concat()
    }

    fn recognise(&self) -> Result<Option<ForeignImage>, OciError> {
        recognise_bytes(&self.end(), LIMIT)
    }
}

/// A layer that holds these files.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Tar::default();
    for (name, content) in files {
        tar.file(name, content);
    }
    tar.end()
}

fn put_over(document: &mut Value, over: &Value) {
    for (key, value) in over.as_object().unwrap() {
        document[key] = value.clone();
    }
}

fn opened(path: &Path) -> Result<ForeignImage, OciError> {
    Ok(recognise_path(path, LIMIT)?.expect("an image was to be recognised"))
}

fn recognise_path(path: &Path, limit: u64) -> Result<Option<ForeignImage>, OciError> {
    let spool = tempfile::tempdir().unwrap();
    let folder = File::open(spool.path()).unwrap();
    let image = recognise(path, folder.as_fd(), limit);
    assert_eq!(
        fs::read_dir(spool.path()).unwrap().count(),
        0,
        "a name was left"
    );
    image
}

fn recognise_bytes(bytes: &[u8], limit: u64) -> Result<Option<ForeignImage>, OciError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    recognise_path(file.path(), limit)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    let mut compressed = Vec::new();
    encoder.read_to_end(&mut compressed).unwrap();
    compressed
}

/// The error with all its causes.
fn said(error: &OciError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[track_caller]
fn assert_refused<T>(result: Result<T, OciError>, expected: &str) {
    let error = result.err().expect("this was to be refused");
    let text = said(&error);
    assert!(text.starts_with("cannot "), "{text}");
    assert!(!text.chars().any(char::is_control), "{text}");
    assert!(text.contains(expected), "{text}: not {expected}");
}

/// The names and contents of the regular files in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = PathBuf::from(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => {
                let below = contents(&entry.path());
                found.extend(
                    below
                        .into_iter()
                        .map(|(path, content)| (name.join(path), content)),
                );
            }
            kind if kind.is_file() => drop(found.insert(name, fs::read(entry.path()).unwrap())),
            _ => {}
        }
    }
    found
}
