//! What an image says about running it, kept as it was said.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest config kept, in bytes of JSON.
pub(super) const LONGEST: usize = 64 * 1024;

/// The inner `config` object of an image's config: `Cmd`, `Env`, `Labels` and what else its maker put there.
///
/// It is carried from import to export. Only what it says of the environment means something to cocker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct ImageConfig(Value);

/// Why a value is no image config.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImageConfig {
    #[error("an image's config must be an object")]
    NotAnObject,
    #[error("an image's config has {length} bytes, and no more than {LONGEST} are kept")]
    TooLong { length: usize },
}

impl ImageConfig {
    /// Takes the object as it stands.
    pub fn from_value(value: Value) -> Result<ImageConfig, BadImageConfig> {
        if !value.is_object() {
            return Err(BadImageConfig::NotAnObject);
        }
        match value.to_string().len() {
            length if length > LONGEST => Err(BadImageConfig::TooLong { length }),
            _ => Ok(ImageConfig(value)),
        }
    }

    pub fn as_value(&self) -> &Value {
        &self.0
    }
}

impl Default for ImageConfig {
    /// What is said of an image of which nothing is known: it has a shell.
    fn default() -> ImageConfig {
        ImageConfig(json!({ "Cmd": ["/bin/sh"] }))
    }
}

impl TryFrom<Value> for ImageConfig {
    type Error = BadImageConfig;
    fn try_from(value: Value) -> Result<ImageConfig, BadImageConfig> {
        ImageConfig::from_value(value)
    }
}

impl From<ImageConfig> for Value {
    fn from(config: ImageConfig) -> Value {
        config.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_of_bounded_length_is_kept() {
        let config = ImageConfig::from_value(json!({ "Env": ["A=1"], "Odd": null })).unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(text, r#"{"Env":["A=1"],"Odd":null}"#);
        assert_eq!(serde_json::from_str::<ImageConfig>(&text).unwrap(), config);
        assert_eq!(
            ImageConfig::from_value(json!([])),
            Err(BadImageConfig::NotAnObject)
        );
        let long = json!({ "Labels": { "a": "x".repeat(LONGEST) } });
        assert!(matches!(
            ImageConfig::from_value(long),
            Err(BadImageConfig::TooLong { .. })
        ));
    }
}
