//! What an instantiation would change, to be looked at.

use super::locating::{Job, Template};
use super::pass;
use super::places::Places;
use super::replacement::Replacer;
use crate::failure::InstantiateError;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Texts up to so many bytes are told in whole.
const MOST_TEXT: usize = 1 << 20;

/// What would become of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstancePreview {
    /// Inside the container.
    pub path: PathBuf,
    pub change: InstanceChange,
}

/// A text as it is and as it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceChange {
    Texts {
        /// None: there is no such file yet.
        before: Option<Vec<u8>>,
        after: Vec<u8>,
    },
    /// The texts are too large to be told: bytes before and after, and how many keys are replaced.
    Sizes {
        before: u64,
        after: u64,
        replaced: u64,
    },
}

/// Reads what one job would do; none where it would leave its template alone.
pub(super) fn preview(
    job: &Job,
    replacer: &Replacer,
) -> Result<Option<InstancePreview>, InstantiateError> {
    let template = job.template.open()?;
    let mut after = Kept::default();
    let passed = pass(&template, replacer, &mut after, &mut Places::ignored())?;
    if passed.replaced == 0 && job.instance.is_none() {
        return Ok(None);
    }
    let old = match &job.instance {
        Some(instance) => instance.open_if_there()?,
        // The first reading has moved its position.
        None => Some(job.template.open()?),
    };
    let before = old.as_ref().map(text_of).transpose()?;
    let is_told = before.as_ref().is_none_or(|before| before.is_whole) && after.is_whole();
    let change = match is_told {
        true => InstanceChange::Texts {
            before: before.map(|before| before.text),
            after: after.text,
        },
        false => InstanceChange::Sizes {
            before: old.as_ref().map_or(0, Template::size),
            after: passed.written,
            replaced: passed.replaced,
        },
    };
    Ok(Some(InstancePreview {
        path: job.target().path.clone(),
        change,
    }))
}

struct Text {
    text: Vec<u8>,
    is_whole: bool,
}

fn text_of(old: &Template) -> Result<Text, InstantiateError> {
    let reading = |source| InstantiateError::Read {
        path: old.path.clone(),
        source,
    };
    let file = File::from(old.file.try_clone().map_err(reading)?);
    let mut text = Vec::new();
    let mut bounded = file.take(MOST_TEXT as u64 + 1);
    bounded.read_to_end(&mut text).map_err(reading)?;
    let is_whole = text.len() <= MOST_TEXT;
    Ok(Text { text, is_whole })
}

/// Takes everything and keeps the beginning.
#[derive(Default)]
struct Kept {
    text: Vec<u8>,
    is_cut: bool,
}

impl Kept {
    fn is_whole(&self) -> bool {
        !self.is_cut
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MOST_TEXT - self.text.len();
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_cut |= bytes.len() > room;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
