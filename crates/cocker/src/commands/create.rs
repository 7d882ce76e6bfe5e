//! `create`: a container from stacked images; with `-b` booted at once.

use super::boot;
use crate::environment;
use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::options::Creation;
use crate::output;
use crate::terminal;

pub fn execute(creation: Creation) -> Result<ExitCode, Failure> {
    let then_boot = creation.then_boot;
    if then_boot
        .as_ref()
        .is_some_and(|booting| booting.then_attach)
    {
        terminal::require()?;
    }
    let engine = environment::engine()?;
    if let Some(booting) = &then_boot {
        // What this host cannot keep is refused before there is a container.
        engine.check_limits(&booting.container, &booting.limits)?;
    }
    engine.create(&creation.request)?;
    let Some(booting) = then_boot else {
        output::print_ok()?;
        return Ok(ExitCode::SUCCESS);
    };
    // The container was asked for and is there; a failed boot is no reason to take it away again.
    boot::boot(&engine, &booting).map_err(|failure| {
        let container = &booting.container;
        failure
            .under(format!(
                "container `{container}` is created and stays, but is not booted"
            ))
            .hint(format!(
                "`cocker boot {container}` tries again, `cocker destroy {container}` removes it."
            ))
    })?;
    boot::then_attach_or_say_ok(&engine, &booting)
}
