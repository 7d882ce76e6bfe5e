//! `destroy`: removes a container with its own files.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, IfBooted, Name, OnError};

pub fn execute(
    engine: &Engine,
    container: &Name,
    if_booted: IfBooted,
    on_error: OnError,
) -> Result<(), Failure> {
    engine.destroy(container, if_booted, on_error)?;
    output::print_ok()
}
