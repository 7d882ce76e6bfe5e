//! From the words that the user typed to what they mean.
//!
//! ```text
//!          seed.rs    cocker -a create -m test
//! argv ──▶                                     ──▶ said.rs ──▶ meaning.rs ──▶ Options
//!          modern.rs  cocker create -m test
//! ```
//!
//! What was *said* is text, option by option; what is *meant* has names, versions and paths checked. Both spellings
//! meet at what was said, so they cannot drift apart.

mod confinement;
mod files;
mod instantiation;
mod limits;
mod meaning;
mod modern;
mod network;
mod repository;
mod run;
mod said;
mod seed;
mod session;
mod since;
mod stack;
mod stats;
mod transfer;
mod volume;

pub use instantiation::Instantiation;
pub use meaning::{
    Booting, Command, Compared, Creation, GetTarget, ListingForm, Logs, Options, OutputForm,
    Pruning, PutSource,
};
pub use modern::completion_script;
pub use repository::{Pulling, Pushing, Removing, Searching};
pub use run::{Company, Run};
pub use session::{Attaching, SessionsOf};
pub use since::{LocalTime, Since, TimeOfDay};
pub use stats::Stats;

use crate::failure::Failure;
use std::ffi::OsString;

/// Understands the arguments after the program's name.
pub fn parse(arguments: Vec<OsString>) -> Result<Options, Failure> {
    if arguments.is_empty() {
        return Ok(Options::of(Command::Help(seed::HELP.into())));
    }
    if is_seeds_spelling(&arguments) {
        seed::parse(arguments)
    } else {
        modern::parse(arguments)
    }
}

/// The modern spelling has its command first; before it may only stand what is allowed everywhere.
fn is_seeds_spelling(arguments: &[OsString]) -> bool {
    let everywhere = ["-d", "--debug", "-f", "--forcely"];
    let first = arguments
        .iter()
        .find(|argument| !everywhere.iter().any(|option| argument == option));
    first.is_none_or(|first| first.as_encoded_bytes().starts_with(b"-"))
}

#[cfg(test)]
mod tests;
