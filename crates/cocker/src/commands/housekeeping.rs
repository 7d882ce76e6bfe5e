//! `prune`, `df` and `check`: what nobody needs, what takes room, and whether all is as it should be.

use crate::failure::Failure;
use crate::listing::housekeeping as listing;
use crate::options::{OutputForm, Pruning};
use crate::output;
use cocker_engine::{Engine, Grade};

pub fn prune(engine: &Engine, pruning: &Pruning) -> Result<(), Failure> {
    let pruned = engine.prune(pruning.mode, pruning.on_error)?;
    match pruning.form {
        OutputForm::Json => output::print(listing::pruned_json(&pruned)),
        OutputForm::Plain => output::print(listing::pruned(&pruned) + "OK\n"),
    }
}

pub fn usage(engine: &Engine, form: OutputForm) -> Result<(), Failure> {
    let usage = engine.usage()?;
    output::print(match form {
        OutputForm::Json => listing::usage_json(&usage),
        OutputForm::Plain => listing::usage(&usage),
    })
}

/// Prints what was found, and fails where something is wrong.
pub fn check(engine: &Engine, form: OutputForm) -> Result<(), Failure> {
    let findings = engine.check()?;
    output::print(match form {
        OutputForm::Json => listing::findings_json(&findings),
        OutputForm::Plain => listing::findings(&findings),
    })?;
    let wrong = findings.iter().filter(|it| it.grade == Grade::Wrong);
    let things = match wrong.count() {
        0 => return Ok(()),
        1 => "1 thing is".to_string(),
        more => format!("{more} things are"),
    };
    let failure = Failure::not_done(format!("cannot call the store sound: {things} wrong"));
    Err(failure.hint("the last column says what to do about each."))
}
