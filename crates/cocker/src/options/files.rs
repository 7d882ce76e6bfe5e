//! What `put` and `get` are told: a container and two paths, said as words, as options, or mixed.

use super::meaning::{self, Command, GetTarget, PutSource};
use super::said::FileTransfer;
use crate::failure::Failure;
use cocker_engine::{GetRequest, Name, OnError, PutRequest};
use std::ffi::OsString;
use std::path::PathBuf;

/// The path that stands for a standard stream.
const STREAM: &str = "-";

pub fn put(said: FileTransfer, on_error: OnError) -> Result<Command, Failure> {
    let (container, source, target) = three(said)?;
    let from = match source == STREAM {
        true => PutSource::StandardInput,
        false => PutSource::Files,
    };
    let request = PutRequest {
        container,
        source: PathBuf::from(source),
        target: PathBuf::from(target),
        on_error,
    };
    Ok(Command::Put(from, request))
}

pub fn get(said: FileTransfer, on_error: OnError) -> Result<Command, Failure> {
    let (container, source, target) = three(said)?;
    let to = match target == STREAM {
        true => GetTarget::StandardOutput,
        false => GetTarget::Files,
    };
    let request = GetRequest {
        container,
        source: PathBuf::from(source),
        target: PathBuf::from(target),
        on_error,
    };
    Ok(Command::Get(to, request))
}

/// What the options do not say, the words say in their order.
fn three(said: FileTransfer) -> Result<(Name, OsString, OsString), Failure> {
    let mut words = said.words.into_iter();
    let container = said.container.map(OsString::from);
    let mut next = |given: Option<OsString>, what| {
        let said = given.or_else(|| words.next());
        said.ok_or_else(|| Failure::usage(format!("{what} is missing")))
    };
    let container = next(container, "the container")?;
    let source = next(said.src_file, "what is copied (S)")?;
    let target = next(said.dst_file, "where to (D)")?;
    if let Some(word) = words.next() {
        let word = word.to_string_lossy();
        return Err(Failure::usage(format!("`{word}` is one word too many")));
    }
    for (path, what) in [(&source, "S"), (&target, "D")] {
        if path.is_empty() {
            return Err(Failure::usage(format!("{what} is an empty path")));
        }
    }
    let container = container.to_string_lossy();
    Ok((meaning::name(&container)?, source, target))
}
