//! Writes an image as an archive that skopeo, podman and docker load.
//!
//! ```text
//! oci                                        docker
//! blobs/sha256/<digest of each layer>        <diff_id of each layer>.tar
//! blobs/sha256/<digest of the config>        <digest of the config>.json
//! blobs/sha256/<digest of the manifest>      manifest.json
//! index.json, oci-layout
//! ```
//!
//! One pass over the layers and little memory. What is written depends on the layers and what is said of them, never
//! on the clock.

use super::documents::{CONTAINERD_NAME, History, LayoutVersion, REF_NAME, RootFs};
use super::outer_index::{MANIFEST_JSON, OCI_LAYOUT};
use super::outer_writer::OuterWriter;
use super::recognition::INDEX_JSON;
use super::source::blob_name;
use super::{ImageConfig, OciError, media, naming, platform, timestamp};
use crate::archive::{Compression, PackOptions, Packed, Watched, Whiteouts, compress, pack};
use crate::{Digest, Digester};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

const BUFFER: usize = 256 * 1024;

/// What kind of archive is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An OCI image layout.
    Oci,
    /// What `docker save` writes; its layers are not compressed.
    Docker,
}

/// An image that is to be written.
pub struct Writing<'a> {
    /// What it is called there, as [`foreign_name`](super::foreign_name) says.
    pub reference: String,
    /// Lowest first, at least one.
    pub layers: Vec<LayerSource<'a>>,
    pub created: SystemTime,
    /// What a foreign image said about running it; without, it is said to have a shell.
    pub config: Option<ImageConfig>,
    /// Of the layers, in an OCI image layout.
    pub compression: Compression,
}

/// A layer that is to be written.
pub struct LayerSource<'a> {
    /// As overlayfs reads it.
    pub tree: BorrowedFd<'a>,
    pub created: SystemTime,
    /// What made it, for the image's history.
    pub comment: String,
}

/// Writes the image to a seekable file, from its current place on, and tells how many bytes of all layers have been packed.
///
/// Returns the digest by which others know the image: that of its manifest, or with [`Format::Docker`], where there
/// is none, that of its config. After an error the file is of no use.
pub fn write(
    file: File,
    format: Format,
    image: &Writing<'_>,
    packed: &mut dyn FnMut(u64),
) -> Result<Digest, OciError> {
    if image.layers.is_empty() {
        return Err(OciError::NothingToWrite);
    }
    let failed = |source| OciError::Write { source };
    let mut archive = OuterWriter::new(file, image.created).map_err(failed)?;
    let digest = match format {
        Format::Oci => write_layout(&mut archive, image, packed)?,
        Format::Docker => write_saved(&mut archive, image, packed)?,
    };
    archive.end().map_err(failed)?;
    Ok(digest)
}

fn write_layout(
    archive: &mut OuterWriter,
    image: &Writing<'_>,
    packed: &mut dyn FnMut(u64),
) -> Result<Digest, OciError> {
    let failed = |source| OciError::Write { source };
    let suffix = match image.compression {
        Compression::None => "",
        Compression::Gzip => "+gzip",
        Compression::Zstd => "+zstd",
        compression @ Compression::Xz => return Err(OciError::Compression { compression }),
    };
    for folder in ["blobs/", "blobs/sha256/"] {
        archive.folder(folder).map_err(failed)?;
    }
    let file_of = |layer: &Layer| blob_name(&layer.digest);
    let layers = write_layers(archive, image, image.compression, file_of, packed)?;
    let config = to_json(&config(image, &layers));
    let config = write_blob(archive, media::OCI_CONFIG, &config).map_err(failed)?;
    let manifest = to_json(&Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST,
        config,
        layers: layers
            .into_iter()
            .map(|layer| Descriptor {
                media_type: format!("{}{suffix}", media::OCI_LAYER),
                digest: layer.digest,
                size: layer.size,
                annotations: BTreeMap::new(),
            })
            .collect(),
    });
    let mut manifest = write_blob(archive, media::OCI_MANIFEST, &manifest).map_err(failed)?;
    let digest = manifest.digest.clone();
    manifest.annotations = BTreeMap::from([
        (CONTAINERD_NAME, naming::canonical(&image.reference)),
        (REF_NAME, image.reference.clone()),
    ]);
    let index = to_json(&Index {
        schema_version: 2,
        media_type: media::OCI_INDEX,
        manifests: vec![manifest],
    });
    let layout = to_json(&LayoutVersion {
        image_layout_version: "1.0.0".into(),
    });
    archive.entry(INDEX_JSON, &index).map_err(failed)?;
    archive.entry(OCI_LAYOUT, &layout).map_err(failed)?;
    Ok(digest)
}

fn write_saved(
    archive: &mut OuterWriter,
    image: &Writing<'_>,
    packed: &mut dyn FnMut(u64),
) -> Result<Digest, OciError> {
    let failed = |source| OciError::Write { source };
    let file_of = |layer: &Layer| format!("{}.tar", layer.diff_id.hex());
    let layers = write_layers(archive, image, Compression::None, file_of, packed)?;
    let config = to_json(&config(image, &layers));
    let digest = Digest::of(&config);
    let config_name = format!("{}.json", digest.hex());
    archive.entry(&config_name, &config).map_err(failed)?;
    let saved = to_json(&[SavedImage {
        config: config_name,
        repo_tags: vec![image.reference.clone()],
        layers: layers.iter().map(file_of).collect(),
    }]);
    archive.entry(MANIFEST_JSON, &saved).map_err(failed)?;
    Ok(digest)
}

/// A layer that was written.
struct Layer {
    diff_id: Digest,
    /// Bytes of the tar stream.
    length: u64,
    /// Of what was written, and how many bytes.
    digest: Digest,
    size: u64,
}

/// Writes all layers, each as the entry that `name` says.
fn write_layers(
    archive: &mut OuterWriter,
    image: &Writing<'_>,
    compression: Compression,
    name: impl Fn(&Layer) -> String,
    packed: &mut dyn FnMut(u64),
) -> Result<Vec<Layer>, OciError> {
    let failed = |source| OciError::Write { source };
    let mut before = 0;
    let layers = (1..).zip(&image.layers);
    layers
        .map(|(number, source)| {
            let entry = archive.begin().map_err(failed)?;
            let content = archive.content().map_err(failed)?;
            let mut tell = |passed| packed(before + passed);
            let layer = write_layer(content, number, source, compression, &mut tell)?;
            before += layer.length;
            archive
                .finish(entry, &name(&layer), layer.size)
                .map_err(failed)?;
            Ok(layer)
        })
        .collect()
}

fn write_layer(
    to: File,
    number: usize,
    source: &LayerSource<'_>,
    compression: Compression,
    tell: &mut dyn FnMut(u64),
) -> Result<Layer, OciError> {
    let failed = |source| OciError::Write { source };
    let options = PackOptions {
        whiteouts: Whiteouts::Files,
        description: None,
    };
    let to = io::BufWriter::with_capacity(BUFFER, to);
    let packed =
        |packed: Result<Packed, _>| packed.map_err(|source| OciError::Pack { number, source });
    if compression == Compression::None {
        let mut to = Watched::new(to, tell);
        let Packed { digest, length, .. } = packed(pack(source.tree, &options, &mut to))?;
        to.into_inner()
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        return Ok(Layer {
            diff_id: digest.clone(),
            length,
            digest,
            size: length,
        });
    }
    let compressor = compress(Digester::new(to), compression).map_err(failed)?;
    let mut watched = Watched::new(compressor, tell);
    let Packed {
        digest: diff_id,
        length,
        ..
    } = packed(pack(source.tree, &options, &mut watched))?;
    let (digest, size, to) = watched.into_inner().finish().map_err(failed)?.finish();
    to.into_inner()
        .map_err(|error| failed(error.into_error()))?;
    Ok(Layer {
        diff_id,
        length,
        digest,
        size,
    })
}

fn write_blob(
    archive: &mut OuterWriter,
    media_type: &str,
    content: &[u8],
) -> io::Result<Descriptor> {
    let digest = Digest::of(content);
    archive.entry(&blob_name(&digest), content)?;
    Ok(Descriptor {
        media_type: media_type.into(),
        digest,
        size: content.len() as u64,
        annotations: BTreeMap::new(),
    })
}

fn config(image: &Writing<'_>, layers: &[Layer]) -> Config {
    let step = |layer: &LayerSource<'_>| History {
        created: Some(timestamp::write(layer.created)),
        created_by: Some(layer.comment.clone()),
        ..History::default()
    };
    Config {
        created: timestamp::write(image.created),
        architecture: platform::architecture(),
        os: platform::OS,
        config: image.config.clone().unwrap_or_default(),
        rootfs: RootFs {
            kind: "layers".into(),
            diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
        },
        history: image.layers.iter().map(step).collect(),
    }
}

fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("documents have text as keys and no foreign types")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

#[derive(Serialize)]
struct Config {
    created: String,
    architecture: &'static str,
    os: &'static str,
    config: ImageConfig,
    rootfs: RootFs,
    history: Vec<History>,
}
