//! `create`: a container from stacked images; with `-b` booted at once.

use super::boot;
use crate::environment;
use crate::failure::Failure;
use crate::options::Creation;
use crate::output;
use crate::terminal;
use cocker_engine::CreateRequest;
use std::process::ExitCode;

pub fn execute(creation: Creation) -> Result<ExitCode, Failure> {
    let then_boot = creation.then_boot;
    if then_boot.as_ref().is_some_and(|booting| booting.then_attach) {
        terminal::require()?;
    }
    let engine = environment::engine()?;
    let container = creation.container.clone();
    engine.create(&CreateRequest {
        container: creation.container,
        images: creation.images,
        hostname: creation.hostname,
        volumes: creation.volumes,
        isolation: creation.isolation,
    })?;
    match then_boot {
        None => {
            output::print_ok()?;
            Ok(ExitCode::SUCCESS)
        }
        // The container was asked for and is there; a failed boot is no reason to take it away again.
        Some(booting) => boot::boot(&engine, booting)
            .map_err(|failure| failure.under(format!("container `{container}` is created, but not booted or attached"))),
    }
}
