//! `IMAGE[:VERSION]`: how a user says which image is meant, and lists of them.

use crate::quote::quote;
use crate::{BadName, BadVersion, Name, Version};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `IMAGE[:VERSION]` as a user says it; without a version the highest is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    pub name: Name,
    pub version: Option<Version>,
}

/// Why a text names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    #[error("cannot read `{text}` as IMAGE[:VERSION]")]
    Name {
        text: String,
        #[source]
        source: BadName,
    },
    #[error("cannot read `{text}` as IMAGE[:VERSION]")]
    Version {
        text: String,
        #[source]
        source: BadVersion,
    },
    #[error("cannot read `{list}` as a list of images: item {position} is empty")]
    EmptyItem { list: String, position: usize },
}

impl Reference {
    /// Reads `IMAGE` or `IMAGE:VERSION`; an empty version after the colon is an error.
    pub fn parse(text: &str) -> Result<Reference, BadReference> {
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let name = Name::parse(name).map_err(|source| BadReference::Name {
            text: quote(text),
            source,
        })?;
        let version =
            version
                .map(Version::parse)
                .transpose()
                .map_err(|source| BadReference::Version {
                    text: quote(text),
                    source,
                })?;
        Ok(Reference { name, version })
    }

    /// Reads `IMAGE[:VERSION],IMAGE[:VERSION]`, in the order given (lowest first); an empty item is an error.
    pub fn parse_list(list: &str) -> Result<Vec<Reference>, BadReference> {
        let item = |(index, text): (usize, &str)| match text {
            "" => Err(BadReference::EmptyItem {
                list: quote(list),
                position: index + 1,
            }),
            text => Reference::parse(text),
        };
        list.split(',').enumerate().map(item).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => f.pad(self.name.as_str()),
            Some(version) => f.pad(&format!("{}:{version}", self.name)),
        }
    }
}

impl FromStr for Reference {
    type Err = BadReference;
    fn from_str(text: &str) -> Result<Reference, BadReference> {
        Reference::parse(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = BadReference;
    fn try_from(text: String) -> Result<Reference, BadReference> {
        Reference::parse(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_it_was_written() {
        for text in ["test", "test:1.0", "calvin=rhel-7.4:_"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Reference::parse("test").unwrap().version, None);
        assert_eq!(
            Reference::parse("test:_").unwrap().version,
            Some(Version::none())
        );
    }

    #[test]
    fn an_empty_or_second_version_is_refused() {
        for text in ["", ":", "test:", ":1", "test:1:2", "test:1 ", "te st"] {
            assert!(Reference::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_has_no_empty_items() {
        let list = Reference::parse_list("base:1.0,app,top:_").unwrap();
        assert_eq!(
            list.iter().map(Reference::to_string).collect::<Vec<_>>(),
            ["base:1.0", "app", "top:_"]
        );
        for (text, position) in [("", 1), ("a,", 2), (",a", 1), ("a,,b", 2)] {
            let error = Reference::parse_list(text).unwrap_err();
            assert!(
                matches!(error, BadReference::EmptyItem { position: at, .. } if at == position),
                "{error}"
            );
        }
    }
}
