//! One image of others: its layers, lowest first, and what its config says.

use super::documents::{Config, History};
use super::layer::ForeignLayer;
use super::source::Source;
use super::{ImageConfig, OciError, config, documents, naming, timestamp};
use crate::quote::quote;
use crate::{Digest, Name, Version};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::SystemTime;

/// The most bytes kept of what is said to have made a layer.
const LONGEST_CREATED_BY: usize = 4096;

/// An image whose manifest and config were read and found to fit together; its layers are not yet unpacked.
pub struct Chosen {
    name: Option<String>,
    manifest: Option<Digest>,
    created: Option<SystemTime>,
    config: Option<ImageConfig>,
    layers: Vec<ForeignLayer>,
}

/// What is known of an image before it is checked.
pub(super) struct Parts<'a> {
    pub name: Option<String>,
    pub manifest: Option<Digest>,
    pub config: Config<'a>,
    pub config_name: String,
    pub layers: Vec<Blob>,
}

/// A layer as the manifest has it.
pub(super) struct Blob {
    pub name: String,
    pub digest: Option<Digest>,
    /// Bytes, where that is promised.
    pub size: Option<u64>,
}

impl Chosen {
    /// Brings layers, their digests and their history together.
    pub(super) fn assemble(source: &Arc<Source>, parts: Parts<'_>) -> Result<Chosen, OciError> {
        let rootfs = parts.config.rootfs;
        let diff_ids = rootfs.map(|rootfs| rootfs.diff_ids).unwrap_or_default();
        if diff_ids.len() != parts.layers.len() {
            return Err(OciError::LayerCount {
                layers: parts.layers.len(),
                diff_ids: diff_ids.len(),
            });
        }
        if diff_ids.is_empty() {
            return Err(OciError::NoLayers);
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        let steps = steps(parts.config.history, diff_ids.len());
        let described = parts.layers.into_iter().zip(diff_ids).zip(steps);
        for (index, ((blob, diff_id), step)) in described.enumerate() {
            let size = source.open(&blob.name)?.length();
            if let Some(expected) = blob.size.filter(|expected| *expected != size) {
                return Err(OciError::Size {
                    name: quote(&blob.name),
                    expected,
                    found: size,
                });
            }
            layers.push(ForeignLayer {
                source: Arc::clone(source),
                number: index + 1,
                name: blob.name,
                digest: blob.digest,
                size,
                diff_id,
                created_by: step.created_by.map(cut),
                created: step.created.as_deref().and_then(timestamp::read),
            });
        }
        Ok(Chosen {
            name: parts.name,
            manifest: parts.manifest,
            created: parts.config.created.as_deref().and_then(timestamp::read),
            config: kept_config(&parts.config_name, parts.config.config)?,
            layers,
        })
    }

    /// Lowest first, at least one and no more than 500.
    pub fn layers(&self) -> &[ForeignLayer] {
        &self.layers
    }

    /// What the image says about running it, for a later export; `None` when it says nothing, or more than 64 KiB.
    pub fn config(&self) -> Option<&ImageConfig> {
        self.config.as_ref()
    }

    /// What the image says it is called, as it is written there.
    pub fn reference(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// A name for it here: `alpine:3.19` for `docker.io/library/alpine:3.19`. `None` where what it says makes none.
    pub fn suggested_name(&self) -> Option<(Name, Option<Version>)> {
        naming::suggested(self.name.as_deref()?)
    }

    /// The digest of its manifest; `docker save` archives of old have none.
    pub fn manifest(&self) -> Option<&Digest> {
        self.manifest.as_ref()
    }

    /// When it was made, as far as it says.
    pub fn created(&self) -> Option<SystemTime> {
        self.created
    }
}

/// The steps of a history that made the layers, one for each; empty ones where the history does not fit them.
fn steps(history: Vec<History>, layers: usize) -> Vec<History> {
    let mut steps: Vec<History> = history
        .into_iter()
        .filter(|step| step.empty_layer != Some(true))
        .collect();
    if steps.len() != layers {
        steps.clear();
        steps.resize_with(layers, History::default);
    }
    steps
}

fn cut(text: String) -> String {
    match text.len() {
        length if length <= LONGEST_CREATED_BY => text,
        _ => {
            let most = LONGEST_CREATED_BY - '…'.len_utf8();
            let fits = |(at, character): &(usize, char)| at + character.len_utf8() <= most;
            let kept = text.char_indices().take_while(fits);
            kept.map(|(_, character)| character).chain(['…']).collect()
        }
    }
}

/// Parses the inner config, if it is short enough to keep.
fn kept_config(name: &str, text: Option<&RawValue>) -> Result<Option<ImageConfig>, OciError> {
    let Some(text) = text else {
        return Ok(None);
    };
    if text.get().len() > config::LONGEST {
        tracing::warn!(
            length = text.get().len(),
            "what the image says about running it is too long to be kept"
        );
        return Ok(None);
    }
    let value: serde_json::Value = documents::parse(name, text.get().as_bytes())?;
    ImageConfig::from_value(value)
        .map(Some)
        .map_err(|source| OciError::Config { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(created_by: &str, empty_layer: Option<bool>) -> History {
        History {
            created_by: Some(created_by.into()),
            empty_layer,
            ..History::default()
        }
    }

    fn made_by(history: Vec<History>, layers: usize) -> Vec<Option<String>> {
        let steps = steps(history, layers);
        steps.into_iter().map(|step| step.created_by).collect()
    }

    #[test]
    fn steps_without_a_layer_are_passed_over() {
        let history = vec![
            step("FROM", None),
            step("ENV", Some(true)),
            step("RUN", Some(false)),
            step("CMD", Some(true)),
        ];
        let expected = [Some("FROM".to_owned()), Some("RUN".to_owned())];
        assert_eq!(made_by(history, 2), expected);
    }

    #[test]
    fn a_history_that_does_not_fit_says_nothing() {
        assert_eq!(made_by(vec![step("FROM", None)], 2), [None, None]);
        assert_eq!(made_by(vec![], 1), [None]);
    }

    #[test]
    fn what_made_a_layer_is_kept_within_bounds() {
        assert_eq!(cut("RUN make".into()), "RUN make");
        let long = cut("é".repeat(4000));
        assert!(long.len() <= LONGEST_CREATED_BY && long.ends_with("é…"));
    }
}
