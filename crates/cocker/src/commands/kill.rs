//! `kill`: ends a container at once.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name, OnError};

pub fn execute(engine: &Engine, container: &Name, on_error: OnError) -> Result<(), Failure> {
    engine.kill(container, on_error)?;
    output::print_ok()
}
