//! Versions of images and their order.

use crate::name::flaw;
use crate::quote::quote;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The text of the version that means "no version".
const NONE: &str = "_";

/// A version of an image; `_` is "no version".
///
/// Same characters as a [`Name`](crate::Name). Ordered part by part between the dots: numbers as numbers of any
/// length, text after numbers, `_` lowest of all; 1.10 is above 1.9 and below 1.10.0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// Why a text is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a version: {why}")]
pub struct BadVersion {
    text: String,
    why: &'static str,
}

impl Version {
    /// "No version", the lowest of all.
    pub fn none() -> Version {
        Version(NONE.into())
    }

    /// Takes a text exactly as it stands, or says why it is no version.
    pub fn parse(text: &str) -> Result<Version, BadVersion> {
        match flaw(text) {
            Some(why) if text != NONE => Err(BadVersion {
                text: quote(text),
                why,
            }),
            _ => Ok(Version(text.into())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `_`.
    pub fn is_none(&self) -> bool {
        self.0 == NONE
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Version) -> Ordering {
        let parts = |version: &Version| !version.is_none();
        parts(self)
            .cmp(&parts(other))
            .then_with(|| {
                self.0
                    .split('.')
                    .map(Part::of)
                    .cmp(other.0.split('.').map(Part::of))
            })
            // `01` and `1` count the same and are still two versions: their text decides.
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Version) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One part of a version between dots; the order of the variants is their order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    /// Without leading zeros, more digits are a larger number, and as many digits compare like text.
    Number {
        digits: usize,
        significant: &'a str,
    },
    Text(&'a str),
}

impl Part<'_> {
    fn of(text: &str) -> Part<'_> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Part::Text(text);
        }
        let significant = text.trim_start_matches('0');
        Part::Number {
            digits: significant.len(),
            significant,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Version {
    type Err = BadVersion;
    fn from_str(text: &str) -> Result<Version, BadVersion> {
        Version::parse(text)
    }
}

impl TryFrom<String> for Version {
    type Error = BadVersion;
    fn try_from(text: String) -> Result<Version, BadVersion> {
        Version::parse(&text)
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.0
    }
}

impl AsRef<str> for Version {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn versions_stand_in_one_strict_order() {
        let ascending = [
            "_",
            "0",
            "00",
            "0.1",
            "01",
            "1",
            "1.0",
            "1.9",
            "1.9.0",
            "1.09.1",
            "1.9.0-rc1",
            "1.10",
            "1.10.0",
            "1.10.0.0",
            "1.10.a",
            "1.0-rc1",
            "2",
            "18446744073709551616",
            "99999999999999999999999999999999999999999999999999999999999999",
            "a",
            "a.1",
            "b",
        ];
        for (i, low) in ascending.iter().enumerate() {
            assert_eq!(version(low).cmp(&version(low)), Ordering::Equal);
            for high in &ascending[i + 1..] {
                assert_eq!(
                    version(low).cmp(&version(high)),
                    Ordering::Less,
                    "{low} < {high}"
                );
                assert_eq!(
                    version(high).cmp(&version(low)),
                    Ordering::Greater,
                    "{high} > {low}"
                );
            }
        }
    }

    #[test]
    fn equal_order_means_equal_version() {
        let texts = [
            "1", "01", "001", "1.0", "1.00", "01.0", "a", "A", "_", "0", "00", "1..2", "1.", "1.a",
        ];
        for a in texts {
            for b in texts {
                assert_eq!(
                    version(a).cmp(&version(b)) == Ordering::Equal,
                    a == b,
                    "{a} and {b}"
                );
                for c in texts {
                    if version(a) < version(b) && version(b) < version(c) {
                        assert!(version(a) < version(c), "{a} < {b} < {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_single_underscore_may_begin_with_one() {
        assert!(version("_").is_none());
        assert_eq!(version("_"), Version::none());
        for text in ["__", "_1", "", ".", "..", "-1", "1/2", "1:2", "1\n"] {
            assert!(Version::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(Version::parse(&"1".repeat(64)).is_ok());
        assert!(Version::parse(&"1".repeat(65)).is_err());
    }

    #[test]
    fn records_are_checked_on_the_way_in() {
        assert_eq!(
            serde_json::from_str::<Version>("\"1.0\"").unwrap(),
            version("1.0")
        );
        assert!(serde_json::from_str::<Version>("\"1/0\"").is_err());
    }
}
