//! Is what lies in the store as it should be? Looks at one thing at a time, takes no lock and changes nothing.
//!
//! A thing that is not there any more has nothing wrong with it. Who looks while others work looks a second time, with all
//! names held still ([`Store::hold_still`]), at what did not look right. No link is followed, above all not in a layer.

mod folders;
mod image;
mod layer;

pub use layer::SeenLayer;

use crate::Store;
use std::path::Path;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Something does not work, or not as its record says.
    Wrong,
    /// Nothing but room is lost.
    Note,
    /// Nothing is lost, and something could be better.
    Hint,
}

/// How closely the files of layers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Whether they are as many bytes as was recorded.
    Sizes,
    /// The same, and whether they have the digest that was recorded, which takes reading all of them.
    Digests,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub grade: Grade,
    /// What it is about: `image web:1`.
    pub thing: String,
    /// What is wrong with it, to be read after the thing.
    pub what: String,
    /// What the user can do: a command, or a sentence.
    pub remedy: String,
}

impl Finding {
    pub fn wrong(
        thing: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            grade: Grade::Wrong,
            thing: thing.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    pub fn note(
        thing: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            grade: Grade::Note,
            ..Finding::wrong(thing, what, remedy)
        }
    }
}

impl Finding {
    /// What could be better, and how.
    pub fn hint(
        thing: impl Into<String>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding {
            grade: Grade::Hint,
            ..Finding::wrong(thing, what, remedy)
        }
    }
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A path as a word for a shell, for a command that the user may type.
pub fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=+:,@".contains(&byte);
    match text.bytes().all(is_harmless) {
        true => text.into_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

impl Store {
    /// Where something lies, for a command that the user may type.
    fn shown_path(&self, path: &str) -> String {
        shell_word(&self.home().join(path))
    }
}

#[cfg(test)]
mod tests;
