//! Sessions: which one is meant.

use super::meaning::{Command, ListingForm, listing_form, name};
use super::{run, said};
use crate::failure::Failure;
use cocker_engine::{IfThere, Name, OnError, SessionTarget, Which};
use std::path::PathBuf;

/// `attach`.
#[derive(Debug, PartialEq, Eq)]
pub struct Attaching {
    pub container: Name,
    pub which: Which,
    pub is_read_only: bool,
    /// A file on the host.
    pub record: Option<(PathBuf, IfThere)>,
}

/// `sessions`.
#[derive(Debug, PartialEq, Eq)]
pub enum SessionsOf {
    Listed(Name, ListingForm),
    Ended(Name, SessionTarget),
}

pub fn attach(said: said::Attach, on_error: OnError) -> Result<Command, Failure> {
    let which = match (said.new, &said.session) {
        (false, None) => Which::IdleOrNew,
        (false, Some(session)) => Which::There(target(session)?),
        (true, None) => Which::New(None),
        (true, Some(session)) => match target(session)? {
            SessionTarget::Name(name) => Which::New(Some(name)),
            SessionTarget::Number(_) => {
                let why = format!("`{session}` cannot be the name of a new session");
                return Err(Failure::usage(why).hint("a name is no number."));
            }
        },
    };
    if said.read_only && said.new {
        return Err(
            Failure::usage("`--new` and `--read-only` exclude each other")
                .hint("in a session in which nobody can type nothing happens."),
        );
    }
    Ok(Command::Attach(Attaching {
        container: name(said.container.name())?,
        which,
        is_read_only: said.read_only,
        record: run::record(said.record, on_error),
    }))
}

pub fn sessions(said: &said::Sessions) -> Result<Command, Failure> {
    let container = name(said.container.name())?;
    Ok(Command::Sessions(match &said.end {
        None => SessionsOf::Listed(container, listing_form(&said.listing)),
        Some(_) if said.listing != said::Listing::default() => {
            return Err(Failure::usage(
                "`--end` lists nothing: `--format` and `-q` mean nothing beside it",
            ));
        }
        Some(session) => SessionsOf::Ended(container, target(session)?),
    }))
}

/// Digits alone are a number, and never a name.
fn target(text: &str) -> Result<SessionTarget, Failure> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number > 0 => Ok(SessionTarget::Number(number)),
            _ => Err(Failure::usage(format!(
                "`{text}` is no session's number: they begin with 1"
            ))),
        };
    }
    name(text).map(SessionTarget::Name)
}
