//! `attach`: the user's terminal on a login shell in a booted container.

use crate::environment;
use crate::failure::Failure;
use crate::output;
use crate::terminal;
use cocker_engine::{Engine, Name};
use std::process::ExitCode;

pub fn execute(container: &Name) -> Result<ExitCode, Failure> {
    terminal::require()?;
    open_session(&environment::engine()?, container)
}

/// From the connection to the end of the session; its shell's status is ours.
pub fn open_session(engine: &Engine, container: &Name) -> Result<ExitCode, Failure> {
    let session = engine.attach(container, terminal::size(), &environment::terminal_type())?;
    output::print("connect to container ok\n")?;
    terminal::look_at(session, container)
}
