//! What `diff` and `whence` look at.

use super::meaning::{Compared, name, reference, references};
use super::said;
use crate::failure::Failure;
use cocker_engine::{StackRequest, ViewPath};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// One word is a container, two are images.
pub fn compared(said: &said::Diff) -> Result<Compared, Failure> {
    if let Some(container) = &said.container {
        return Ok(Compared::Container(name(container)?));
    }
    let (from, to) = match &said.words[..] {
        [container] => return Ok(Compared::Container(name(container)?)),
        [from, to] => (Some(from), Some(to)),
        _ => (said.from_image.as_ref(), said.to_image.as_ref()),
    };
    match (from, to) {
        (Some(from), Some(to)) => Ok(Compared::Images(reference(from)?, reference(to)?)),
        _ => Err(Failure::usage(
            "neither a container nor two images are given",
        )),
    }
}

/// The last word is the path; a word before it names images.
pub fn whence(said: &said::Whence) -> Result<(StackRequest, ViewPath), Failure> {
    let mut words = said.words.iter();
    let request = match (&said.container, &said.image) {
        (Some(container), _) => StackRequest::Container(name(container)?),
        (None, Some(images)) => StackRequest::Images(references(images)?),
        (None, None) => {
            let images = words.next();
            let images =
                images.ok_or_else(|| Failure::usage("neither images nor a container are given"))?;
            StackRequest::Images(references(&text(images)?)?)
        }
    };
    let path = match &said.path {
        Some(path) => Some(path),
        None => words.next(),
    };
    let path = path.ok_or_else(|| Failure::usage("no path is given"))?;
    if let Some(more) = words.next() {
        let more = more.to_string_lossy();
        return Err(Failure::usage(format!("`{more}` is one word too many")));
    }
    let path = ViewPath::parse(path.as_bytes()).map_err(|error| {
        let failure = Failure::usage(error.to_string());
        error.hint().into_iter().fold(failure, Failure::hint)
    })?;
    Ok((request, path))
}

fn text(word: &OsString) -> Result<String, Failure> {
    let text = word.clone().into_string();
    text.map_err(|bytes| Failure::usage(format!("`{}` is not UTF-8", bytes.to_string_lossy())))
}
