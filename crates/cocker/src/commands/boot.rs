//! `boot`: a stopped container gets its namespaces and its root process; with `-t` a terminal at once.

use super::attach;
use crate::environment;
use crate::escape::escape;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::options::Booting;
use crate::output;
use crate::terminal;
use cocker_engine::{BootRequest, Engine, Warning};

pub fn execute(booting: Booting) -> Result<ExitCode, Failure> {
    if booting.then_attach {
        terminal::require()?;
    }
    let engine = environment::engine()?;
    boot(&engine, &booting)?;
    then_attach_or_say_ok(&engine, &booting)
}

pub fn boot(engine: &Engine, booting: &Booting) -> Result<(), Failure> {
    let request = BootRequest {
        root_process: booting.root_process.clone(),
        limits: booting.limits.clone(),
        restart: booting.restart,
    };
    for Warning { text, hint } in engine.boot(&booting.container, &request)? {
        output::complain(&format!(
            "Warning: {}\nHint: {}\n",
            escape(&text),
            escape(&hint)
        ));
    }
    Ok(())
}

pub fn then_attach_or_say_ok(engine: &Engine, booting: &Booting) -> Result<ExitCode, Failure> {
    if booting.then_attach {
        return attach::open_session(engine, &booting.container);
    }
    output::print_ok()?;
    Ok(ExitCode::SUCCESS)
}
