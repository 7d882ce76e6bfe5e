//! The one rule for names of images and containers.

use std::fmt;

/// A valid name of an image or a container: letters, digits and `. _ - =`, the first one a letter or digit, 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a text is no name.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a name: {why}")]
pub struct BadName {
    text: String,
    why: &'static str,
}

impl Name {
    pub fn parse(_text: &str) -> Result<Name, BadName> {
        todo!()
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
