//! `pause` and `resume`: everything in a container stands still, and goes on.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name};

pub fn pause(engine: &Engine, container: &Name) -> Result<(), Failure> {
    engine.pause(container)?;
    output::print_ok()
}

pub fn resume(engine: &Engine, container: &Name) -> Result<(), Failure> {
    engine.resume(container)?;
    output::print_ok()
}
