//! Finds the one image that is meant in a `docker save` archive.

use super::chosen::{Blob, Chosen, Parts};
use super::documents::SavedImage;
use super::foreign_image::listed;
use super::layout::read_config;
use super::source::Source;
use super::{OciError, naming};
use crate::Digest;
use crate::quote::quote;
use std::sync::Arc;

pub(super) fn choose(
    source: &Arc<Source>,
    images: &[SavedImage],
    reference: Option<&str>,
) -> Result<Chosen, OciError> {
    let known = || listed(images.iter().flat_map(names));
    let image = match (images, reference) {
        ([], _) => return Err(OciError::Empty),
        ([image], None) => image,
        (images, None) if images.iter().all(|image| image.config == images[0].config) => &images[0],
        (_, None) => return Err(OciError::Ambiguous { known: known() }),
        (images, Some(reference)) => images
            .iter()
            .find(|image| is_called(image, reference))
            .ok_or_else(|| OciError::UnknownReference {
                reference: quote(reference),
                known: known(),
            })?,
    };
    let called = |tag: &&String| reference.is_none_or(|reference| naming::is_same(tag, reference));
    let name = image.repo_tags.iter().find(called).cloned();
    read(source, image, name)
}

/// The tags of an image, or its config's name where it has none.
fn names(image: &SavedImage) -> Vec<&str> {
    match image.repo_tags.as_slice() {
        [] => vec![&image.config],
        tags => tags.iter().map(String::as_str).collect(),
    }
}

fn is_called(image: &SavedImage, reference: &str) -> bool {
    let is_called = |name: &str| name == reference || naming::is_same(name, reference);
    names(image).into_iter().any(is_called)
        || digest_in(&image.config).is_some_and(|digest| digest.as_str() == reference)
}

fn read(
    source: &Arc<Source>,
    image: &SavedImage,
    name: Option<String>,
) -> Result<Chosen, OciError> {
    let text = source.document(&image.config)?;
    if let Some(expected) = digest_in(&image.config) {
        let found = Digest::of(&text);
        if found != expected {
            return Err(OciError::Digest {
                name: quote(&image.config),
                found,
            });
        }
    }
    let config = read_config(&image.config, &text)?;
    let layers = image.layers.iter().map(|layer| Blob {
        name: layer.clone(),
        // A layer that is not called after its content is known by the config's digest of its files alone.
        digest: layer.strip_prefix("blobs/").and_then(|_| digest_in(layer)),
        size: None,
    });
    let layers = layers.collect();
    Chosen::assemble(
        source,
        Parts {
            name,
            manifest: None,
            config,
            config_name: image.config.clone(),
            layers,
        },
    )
}

/// The digest after which a file is named: `<digest>.json`, `blobs/sha256/<digest>`, `sha256:<digest>`.
fn digest_in(name: &str) -> Option<Digest> {
    let base = name.rsplit('/').next()?;
    let base = base.strip_suffix(".json").unwrap_or(base);
    let hex = base.strip_prefix("sha256:").unwrap_or(base);
    Digest::parse(&format!("sha256:{hex}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_often_called_after_its_digest() {
        let digest = Digest::of(b"x");
        for name in [
            format!("{}.json", digest.hex()),
            format!("blobs/sha256/{}", digest.hex()),
            digest.to_string(),
        ] {
            assert_eq!(digest_in(&name), Some(digest.clone()), "{name}");
        }
        for name in ["", "config.json", "blobs/sha256/", "../../etc/passwd"] {
            assert_eq!(digest_in(name), None);
        }
    }
}
