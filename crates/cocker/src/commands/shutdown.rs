//! `shutdown`: asks a container's programs to end, waits, and kills what is left; with `--all` of every container.

use super::several::{self, Ended};
use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name, OnError};
use std::time::Duration;

pub fn execute(
    engine: &Engine,
    container: &Name,
    timeout: Duration,
    on_error: OnError,
) -> Result<(), Failure> {
    engine.shutdown(container, timeout, on_error)?;
    output::print_ok()
}

/// Those that come after others are gone before these are asked; the others at the same time.
pub fn all(engine: &Engine, timeout: Duration) -> Result<(), Failure> {
    let seconds = format!("{}", timeout.as_secs_f64());
    // The command itself knows when it has waited too long.
    let patience = timeout + several::PATIENCE;
    let mut failures = 0;
    for rank in engine.shutdown_order()? {
        // Whoever has ended meanwhile is as it should be.
        let words = ["shutdown", "--forcely", "--timeout", &seconds];
        let ended = several::at_once(&words, &rank, patience)?;
        failures += ended.iter().filter(|ended| **ended != Ended::Well).count();
    }
    match failures {
        0 => output::print_ok(),
        count => Err(Failure::not_done(format!(
            "cannot shut {count} of the containers down"
        ))),
    }
}
