//! `.cocker-image.json`: what an archive says of its image.
//!
//! It says nothing that depends on when it was written, so that the same image gives the same bytes; of where it was written it
//! says what the images were called that it was built on.

use crate::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The newest format that this cocker reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
/// No image of that many layers can be booted.
const MOST_LAYERS: usize = 500;
/// More than any image says of how its program is run, in bytes of JSON.
const LONGEST_CONFIG: usize = 64 * 1024;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Description {
    pub format: u32,
    /// Of the rest of the archive, as `tar` has it.
    pub digest: Digest,
    /// What the image was built on, lowest first.
    #[serde(default)]
    pub base: Vec<BaseLayer>,
    /// What a foreign image said of how its program is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct BaseLayer {
    pub digest: Digest,
    /// The image whose own layer it was, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadDescription {
    #[error("it cannot be understood")]
    Json(#[source] serde_json::Error),
    #[error("it has format {0}, and this cocker knows formats up to {FORMAT}")]
    Newer(u32),
    #[error("it names more than 500 layers")]
    ManyLayers,
    #[error("what it says of how a program is run is longer than 64 KiB")]
    LongConfig,
}

impl Description {
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("texts and numbers always have a JSON form");
        text.push(b'\n');
        text
    }

    pub fn parse(text: &[u8]) -> Result<Description, BadDescription> {
        #[derive(Deserialize)]
        struct Shape {
            format: u32,
        }
        let shape: Shape = serde_json::from_slice(text).map_err(BadDescription::Json)?;
        if shape.format > FORMAT {
            return Err(BadDescription::Newer(shape.format));
        }
        let description: Description =
            serde_json::from_slice(text).map_err(BadDescription::Json)?;
        if description.base.len() >= MOST_LAYERS {
            return Err(BadDescription::ManyLayers);
        }
        let config = description.config.as_ref();
        if config.is_some_and(|config| config.to_string().len() > LONGEST_CONFIG) {
            return Err(BadDescription::LongConfig);
        }
        Ok(description)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            format: FORMAT,
            digest: Digest::of(b"own"),
            base: vec![BaseLayer {
                digest: Digest::of(b"base"),
                image: Some("rhel:7.4".into()),
            }],
            config: Some(serde_json::json!({ "Cmd": ["/bin/sh"] })),
        }
    }

    #[test]
    fn a_description_comes_back_as_it_was_written() {
        let text = description().to_json();
        assert_eq!(Description::parse(&text).unwrap(), description());
        assert_eq!(text, description().to_json());
    }

    #[test]
    fn what_cannot_be_a_description_is_refused() {
        let with = |change: fn(&mut Value)| {
            let mut value = serde_json::to_value(description()).unwrap();
            change(&mut value);
            Description::parse(value.to_string().as_bytes())
        };
        assert!(matches!(
            with(|it| it["format"] = 2.into()),
            Err(BadDescription::Newer(2))
        ));
        assert!(with(|it| it["digest"] = "sha256:..".into()).is_err());
        assert!(matches!(
            with(|it| it["base"] = vec![it["base"][0].clone(); 500].into()),
            Err(BadDescription::ManyLayers)
        ));
        assert!(matches!(
            with(|it| it["config"] = "x".repeat(70_000).into()),
            Err(BadDescription::LongConfig)
        ));
        assert!(Description::parse(b"\xff").is_err());
    }
}
