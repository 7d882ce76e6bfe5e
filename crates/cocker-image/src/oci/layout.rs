//! Finds the one image that is meant in an image layout: by name first, then by platform.

use super::chosen::{Blob, Chosen, Parts};
use super::documents::{self, Config, Descriptor, Index, Manifest, Platform};
use super::foreign_image::listed;
use super::source::{Source, blob_name};
use super::{OciError, media, naming, platform};
use crate::quote::quote;
use std::sync::Arc;

/// The most indexes that are read on the way to one image.
const MOST_INDEXES: usize = 8;

/// What the image behind an entry of `index.json` is called.
pub(super) fn name(entry: &Descriptor) -> Option<&str> {
    let annotations = entry.annotations.as_ref()?;
    let ref_name = annotations.ref_name.as_deref();
    let is_whole = |name: &&str| name.contains(['/', ':']);
    ref_name
        .filter(is_whole)
        .or(annotations.containerd_name.as_deref())
        .or(ref_name)
        .filter(|name| !name.is_empty())
}

/// Refuses an index that others might take for a manifest.
pub(super) fn check_index(document: &str, index: &Index) -> Result<(), OciError> {
    let contradictory = |why| OciError::Contradictory {
        document: quote(document),
        why,
    };
    match index.media_type.as_deref().map(media::document) {
        None | Some(media::Document::Index) => {}
        Some(_) => return Err(contradictory("its media type is not that of an index")),
    }
    match index.layers.0 || index.config.0 {
        true => Err(contradictory("it is an index and a manifest at once")),
        false => Ok(()),
    }
}

pub(super) fn choose(
    source: &Arc<Source>,
    entries: &[Descriptor],
    reference: Option<&str>,
) -> Result<Chosen, OciError> {
    let images: Vec<&Descriptor> = entries.iter().filter(|entry| is_image(entry)).collect();
    if images.is_empty() {
        return Err(OciError::Empty);
    }
    let named = named(&images, reference)?;
    let name = name(named[0]).map(str::to_owned);
    let manifest = for_this_machine(source, named.into_iter().cloned().collect())?;
    read(source, &manifest, name)
}

/// Whether an entry is an image, and not something about one.
fn is_image(entry: &Descriptor) -> bool {
    let annotations = entry.annotations.as_ref();
    annotations.is_none_or(|annotations| annotations.reference_type.is_none())
}

/// The entries that are meant by a name: several when they are one image for several platforms.
fn named<'a>(
    images: &[&'a Descriptor],
    reference: Option<&str>,
) -> Result<Vec<&'a Descriptor>, OciError> {
    let known = || listed(images.iter().map(|entry| shown(entry)));
    match reference {
        Some(reference) => {
            let meant: Vec<_> = images
                .iter()
                .filter(|entry| is_called(entry, reference))
                .copied()
                .collect();
            match meant.is_empty() {
                true => Err(OciError::UnknownReference {
                    reference: quote(reference),
                    known: known(),
                }),
                false => Ok(meant),
            }
        }
        None => {
            let first = images[0];
            let is_like_first =
                |entry: &&Descriptor| entry.digest == first.digest || name(entry) == name(first);
            match images.iter().all(is_like_first) {
                true => Ok(images.to_vec()),
                false => Err(OciError::Ambiguous { known: known() }),
            }
        }
    }
}

fn is_called(entry: &Descriptor, reference: &str) -> bool {
    let annotations = entry.annotations.as_ref();
    let names = annotations
        .into_iter()
        .flat_map(|said| [&said.ref_name, &said.containerd_name]);
    entry.digest.as_str() == reference
        || names.flatten().any(|name| naming::is_same(name, reference))
}

fn shown(entry: &Descriptor) -> String {
    name(entry).unwrap_or(entry.digest.as_str()).to_owned()
}

/// Follows indexes to the one manifest whose image runs here.
fn for_this_machine(source: &Source, mut entries: Vec<Descriptor>) -> Result<Descriptor, OciError> {
    let mut manifests: Vec<Descriptor> = Vec::new();
    let mut indexes = 0;
    entries.reverse();
    while let Some(entry) = entries.pop() {
        let document = blob_name(&entry.digest);
        let media_type = entry.media_type.as_deref().unwrap_or_default();
        match media::document(media_type) {
            media::Document::Manifest => manifests.push(entry),
            media::Document::Index => {
                indexes += 1;
                if indexes > MOST_INDEXES {
                    return Err(OciError::TooManyIndexes {
                        limit: MOST_INDEXES,
                    });
                }
                let text = source.blob_document(&entry)?;
                let index: Index = documents::parse(&document, &text)?;
                check_index(&document, &index)?;
                entries.extend(index.manifests.into_iter().rev().filter(is_image));
            }
            media::Document::Schema1 => return Err(OciError::Schema1 { document }),
            media::Document::Unknown => {
                return Err(OciError::UnknownDocument {
                    document,
                    media_type: quote(media_type),
                });
            }
        }
    }
    best(manifests)
}

/// The first manifest that runs here, if possible one for any processor of this architecture.
fn best(manifests: Vec<Descriptor>) -> Result<Descriptor, OciError> {
    let platform_of = |manifest: &Descriptor| manifest.platform.clone().unwrap_or_default();
    let known = listed(
        manifests
            .iter()
            .map(|manifest| platform_of(manifest).to_string()),
    );
    let mut fitting: Vec<Descriptor> = manifests
        .into_iter()
        .filter(|manifest| platform_of(manifest).runs_here())
        .collect();
    // A manifest that names no platform may be for any; it is asked only when no other fits.
    fitting.sort_by_key(|manifest| {
        (
            manifest.platform.is_none(),
            platform_of(manifest).is_special(),
        )
    });
    let is_unclear = |first: &Descriptor| {
        first.platform.is_none() && fitting.iter().any(|other| other.digest != first.digest)
    };
    if fitting.first().is_some_and(is_unclear) {
        return Err(OciError::Ambiguous {
            known: listed(fitting.iter().map(|manifest| manifest.digest.as_str())),
        });
    }
    match fitting.into_iter().next() {
        Some(manifest) => Ok(manifest),
        None => Err(OciError::NoPlatform {
            wanted: here(),
            known,
        }),
    }
}

fn here() -> String {
    format!("{}/{}", platform::OS, platform::architecture())
}

/// Reads manifest and config.
fn read(
    source: &Arc<Source>,
    descriptor: &Descriptor,
    name: Option<String>,
) -> Result<Chosen, OciError> {
    let document = blob_name(&descriptor.digest);
    let text = source.blob_document(descriptor)?;
    let manifest: Manifest = documents::parse(&document, &text)?;
    check_manifest(&document, &manifest)?;
    let Some(config) = manifest.config else {
        return Err(OciError::Contradictory {
            document,
            why: "it has no config",
        });
    };
    let config_type = config.media_type.as_deref().unwrap_or_default();
    if !media::is_config(config_type) {
        return Err(OciError::NotAnImage {
            document,
            media_type: quote(config_type),
        });
    }
    let layers = manifest.layers.iter().enumerate();
    let layers = layers
        .map(|(index, layer)| blob(index + 1, layer))
        .collect::<Result<Vec<Blob>, OciError>>()?;
    let config_name = blob_name(&config.digest);
    let config_text = source.blob_document(&config)?;
    let config = read_config(&config_name, &config_text)?;
    Chosen::assemble(
        source,
        Parts {
            name,
            manifest: Some(descriptor.digest.clone()),
            config,
            config_name,
            layers,
        },
    )
}

/// Refuses a manifest that others might take for an index, or that is one of an older schema.
fn check_manifest(document: &str, manifest: &Manifest) -> Result<(), OciError> {
    let contradictory = |why| {
        Err(OciError::Contradictory {
            document: document.into(),
            why,
        })
    };
    if manifest.schema_version == Some(1) {
        return Err(OciError::Schema1 {
            document: document.into(),
        });
    }
    match manifest.media_type.as_deref().map(media::document) {
        None | Some(media::Document::Manifest) => {}
        Some(_) => return contradictory("its media type is not that of a manifest"),
    }
    match manifest.manifests.0 {
        true => contradictory("it is a manifest and an index at once"),
        false => Ok(()),
    }
}

/// Parses a config and refuses one for another kind of machine.
pub(super) fn read_config<'a>(name: &str, text: &'a [u8]) -> Result<Config<'a>, OciError> {
    let config: Config = documents::parse(name, text)?;
    let platform = Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        variant: None,
    };
    match platform.runs_here() {
        true => Ok(config),
        false => Err(OciError::NoPlatform {
            wanted: here(),
            known: listed([platform.to_string()]),
        }),
    }
}

fn blob(number: usize, layer: &Descriptor) -> Result<Blob, OciError> {
    let media_type = quote(layer.media_type.as_deref().unwrap_or_default());
    match media::layer(&media_type) {
        media::Layer::Files => Ok(Blob {
            name: blob_name(&layer.digest),
            digest: Some(layer.digest.clone()),
            size: Some(layer.size),
        }),
        media::Layer::Foreign => Err(OciError::ForeignLayer { number, media_type }),
        media::Layer::Encrypted => Err(OciError::EncryptedLayer { number }),
        media::Layer::Unknown => Err(OciError::UnknownLayer { number, media_type }),
    }
}
