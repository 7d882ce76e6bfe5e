//! `prune`, `df`, `check` and `doctor`: what nobody needs, what takes room, and whether all is as it should be.

use crate::environment;
use crate::failure::Failure;
use crate::listing::housekeeping as listing;
use crate::options::{OutputForm, Pruning};
use crate::output;
use cocker_engine::{Diagnosis, DoctorRequest, Engine, Grade, Outcome};

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

/// Prints what was found and what became of it, and fails where something is left that is more than a hint.
pub fn doctor(request: DoctorRequest, form: OutputForm) -> Result<(), Failure> {
    let settings = environment::settings_about(None)?;
    let found = cocker_engine::doctor(settings, request)?;
    output::print(match form {
        OutputForm::Json => listing::diagnoses_json(&found),
        OutputForm::Plain => listing::diagnoses(&found),
    })?;
    let is_left =
        |it: &&Diagnosis| it.finding.grade != Grade::Hint && it.outcome != Some(Outcome::Mended);
    let things = match found.iter().filter(is_left).count() {
        0 => return Ok(()),
        1 => "1 thing is".to_string(),
        more => format!("{more} things are"),
    };
    let failure = Failure::not_done(format!(
        "cannot call all sound: {things} not as it should be"
    ));
    Err(failure.hint(
        "each line says what to do; what `--fix` can mend, it mends without losing anything.",
    ))
}
