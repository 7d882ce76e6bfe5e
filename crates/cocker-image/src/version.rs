//! Versions and references to images.

use crate::Name;

/// A version of an image; `_` is "no version".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(String);

#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a version: {why}")]
pub struct BadVersion {
    text: String,
    why: &'static str,
}

impl Version {
    pub fn none() -> Version {
        Version("_".into())
    }
    pub fn parse(_text: &str) -> Result<Version, BadVersion> {
        todo!()
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `IMAGE[:VERSION]` as a user says it; without a version the highest is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub name: Name,
    pub version: Option<Version>,
}
