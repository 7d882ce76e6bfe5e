//! The one rule for names of images and containers.
//!
//! Names become folders, cgroups and host names: nothing else may turn a user's text into a part of a path.

use crate::quote::quote;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name and version, in bytes.
const LONGEST: usize = 64;

/// A valid name of an image or a container: letters, digits and `. _ - =`, the first one a letter or digit, 1 to 64 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: {why}")]
pub struct BadName {
    text: String,
    why: &'static str,
}

impl Name {
    /// Takes a text exactly as it stands, or says why it is no name.
    pub fn parse(text: &str) -> Result<Name, BadName> {
        match flaw(text) {
            None => Ok(Name(text.into())),
            Some(why) => Err(BadName {
                text: quote(text),
                why,
            }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What keeps a text from being a name or a version, which share their characters; `None` when it is fine.
pub(crate) fn flaw(text: &str) -> Option<&'static str> {
    let bytes = text.as_bytes();
    match bytes.first() {
        None => Some("it is empty"),
        Some(_) if bytes.len() > LONGEST => Some("it is longer than 64 bytes"),
        Some(first) if !first.is_ascii_alphanumeric() => {
            Some("it must begin with a letter or a digit")
        }
        Some(_)
            if !bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-=".contains(byte)) =>
        {
            Some("only letters, digits and `. _ - =` are allowed")
        }
        Some(_) => None,
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Name, BadName> {
        Name::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;
    fn try_from(text: String) -> Result<Name, BadName> {
        Name::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_stand() {
        let longest = "x".repeat(64);
        for text in [
            "a",
            "7",
            "test",
            "calvin=rhel-7.4",
            "a..b",
            "A_b-c.d=",
            longest.as_str(),
        ] {
            assert_eq!(Name::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn whatever_could_leave_its_folder_is_refused() {
        let too_long = "x".repeat(65);
        for text in [
            "", ".", "..", "../a", "a/b", "/a", ".new-1", "-a", "_", "=a", " a", "a ", "a\n",
            "a\0", "a:b", "é", "aé", "a\u{661}",
        ]
        .into_iter()
        .chain([too_long.as_str()])
        {
            assert!(Name::parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_error_shows_no_control_character_and_stays_short() {
        let message = Name::parse(&format!("\x1b]0;owned\x07\r\n{}", "z".repeat(10_000)))
            .unwrap_err()
            .to_string();
        assert!(!message.chars().any(char::is_control), "{message:?}");
        assert!(message.chars().count() < 160, "{message}");
    }

    #[test]
    fn records_are_checked_on_the_way_in() {
        let name: Name = serde_json::from_str("\"web\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"web\"");
        assert!(serde_json::from_str::<Name>("\"../web\"").is_err());
    }
}
