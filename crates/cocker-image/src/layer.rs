//! Ids of layers.

use crate::quote::quote;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The id of a layer: 32 lower-case hexadecimal digits, 128 random bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(String);

/// Why a text is no layer id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a layer id: it must be 32 lower-case hexadecimal digits")]
pub struct BadLayerId {
    text: String,
}

impl LayerId {
    /// Takes a text exactly as it stands; whatever passes is safe as the name of a folder.
    pub fn parse(text: &str) -> Result<LayerId, BadLayerId> {
        if text.len() == 32
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            Ok(LayerId(text.into()))
        } else {
            Err(BadLayerId { text: quote(text) })
        }
    }

    /// The id in 128 bits.
    pub(crate) fn from_bits(bits: u128) -> LayerId {
        LayerId(format!("{bits:032x}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the layer's files lie, relative to COCKER_HOME.
    pub fn tree_path(&self) -> PathBuf {
        ["layers", &self.0, "tree"].iter().collect()
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for LayerId {
    type Error = BadLayerId;
    fn try_from(text: String) -> Result<LayerId, BadLayerId> {
        LayerId::parse(&text)
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> String {
        id.0
    }
}

impl AsRef<str> for LayerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_lower_case_hexadecimal_digits() {
        assert_eq!(
            LayerId::from_bits(10).as_str(),
            "0000000000000000000000000000000a"
        );
        assert!(LayerId::parse("0123456789abcdef0123456789abcdef").is_ok());
        for text in [
            "",
            "..",
            "0123456789ABCDEF0123456789abcdef",
            "0123456789abcdef0123456789abcde/",
            "abc",
        ] {
            assert!(LayerId::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
