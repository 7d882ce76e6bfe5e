//! The JSON documents of images, as far as cocker reads them: tolerant of `null` and of fields it does not know.
//!
//! Lists are bounded, so a document never takes much more memory than its 4 MiB.

use super::error::BadDocument;
use super::list::list;
use crate::Digest;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest document read, in bytes.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;
/// The most layers an image may have; overlayfs stacks 500.
pub(super) const MOST_LAYERS: usize = 500;
const MOST_MANIFESTS: usize = 4096;
const MOST_HISTORY: usize = 4096;
/// Of one archive made by docker save, and of one image's tags.
const MOST_IMAGES: usize = 250;

/// What an annotation calls an image: in a layout of its own a version, often a whole reference.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd and docker call an image in an annotation: always a whole reference.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// `oci-layout`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutVersion {
    pub image_layout_version: String,
}

/// `index.json`, an image index, or a manifest list of Docker.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default, deserialize_with = "list::<_, _, MOST_MANIFESTS>")]
    pub manifests: Vec<Descriptor>,
    /// Those of a manifest, which an index must not have.
    #[serde(default)]
    pub layers: Present,
    #[serde(default)]
    pub config: Present,
}

/// An image manifest, of OCI or of Docker.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(default)]
    pub schema_version: Option<u64>,
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub config: Option<Descriptor>,
    #[serde(default, deserialize_with = "list::<_, _, MOST_LAYERS>")]
    pub layers: Vec<Descriptor>,
    /// That of an index, which a manifest must not have.
    #[serde(default)]
    pub manifests: Present,
}

/// Points to content by its digest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: Option<String>,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: Option<Annotations>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    #[serde(deserialize_with = "text_or_null")]
    pub architecture: String,
    #[serde(deserialize_with = "text_or_null")]
    pub os: String,
    pub variant: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    #[serde(rename = "org.opencontainers.image.ref.name")]
    pub ref_name: Option<String>,
    #[serde(rename = "io.containerd.image.name")]
    pub containerd_name: Option<String>,
    /// What something that is no image says about one: `attestation-manifest`.
    #[serde(rename = "vnd.docker.reference.type")]
    pub reference_type: Option<String>,
}

/// `manifest.json` of a `docker save` archive.
pub(super) struct SavedImages(pub Vec<SavedImage>);

impl<'de> Deserialize<'de> for SavedImages {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<SavedImages, D::Error> {
        list::<_, _, MOST_IMAGES>(deserializer).map(SavedImages)
    }
}

/// One image of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub config: String,
    #[serde(default, deserialize_with = "list::<_, _, MOST_IMAGES>")]
    pub repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "list::<_, _, MOST_LAYERS>")]
    pub layers: Vec<String>,
}

/// An image's config: what it runs on, its layers and how they came to be.
#[derive(Deserialize)]
pub(super) struct Config<'a> {
    #[serde(default, deserialize_with = "text_or_null")]
    pub architecture: String,
    #[serde(default, deserialize_with = "text_or_null")]
    pub os: String,
    #[serde(default)]
    pub created: Option<String>,
    /// Not parsed before its length is known.
    #[serde(default, borrow)]
    pub config: Option<&'a RawValue>,
    #[serde(default)]
    pub rootfs: Option<RootFs>,
    #[serde(default, deserialize_with = "list::<_, _, MOST_HISTORY>")]
    pub history: Vec<History>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the layers' tar streams, lowest first.
    #[serde(default, deserialize_with = "list::<_, _, MOST_LAYERS>")]
    pub diff_ids: Vec<Digest>,
}

/// One step that made the image.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_layer: Option<bool>,
}

/// Whether a field has content; the content itself is skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present(pub bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Present, D::Error> {
        let content = Option::<serde::de::IgnoredAny>::deserialize(deserializer)?;
        Ok(Present(content.is_some()))
    }
}

/// Parses a document that is called `name` in errors.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    name: &str,
    text: &'a [u8],
) -> Result<T, super::OciError> {
    serde_json::from_slice(text).map_err(|error| super::OciError::Parse {
        document: crate::quote::quote(name),
        source: BadDocument::new(&error),
    })
}

fn text_or_null<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_stands_for_nothing_everywhere() {
        let manifest: Manifest = parse(
            "m",
            br#"{"schemaVersion":null,"mediaType":null,"config":null,"layers":null,"manifests":null}"#,
        )
        .unwrap();
        assert!(manifest.layers.is_empty() && manifest.manifests == Present(false));
        let config: Config = parse(
            "c",
            br#"{"architecture":null,"os":null,"config":null,"rootfs":{"diff_ids":null},"history":null}"#,
        )
        .unwrap();
        assert!(config.config.is_none() && config.history.is_empty());
        let images: Vec<SavedImage> =
            parse("s", br#"[{"Config":"a","RepoTags":null,"Layers":null}]"#).unwrap();
        assert!(images[0].repo_tags.is_empty());
    }

    #[test]
    fn an_error_is_short_and_shows_no_control_character() {
        let text = format!(
            r#"{{"manifests":[{{"digest":"{}\u001b[2J","size":1}}]}}"#,
            "x".repeat(100_000)
        );
        let error = parse::<Index>("index.json", text.as_bytes()).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.chars().count() < 400, "{source}");
        assert!(!source.chars().any(char::is_control));
        let text = format!(r#"{{"manifests":"{}"}}"#, "y".repeat(100_000));
        let error = parse::<Index>("index.json", text.as_bytes()).err().unwrap();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.chars().count() < 400, "{source}");
    }
}
