//! `shutdown`: asks a container's programs to end, waits, and kills what is left.

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
