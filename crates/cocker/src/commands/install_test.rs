//! `install_test`: image `test` from the host's own programs.

use crate::environment;
use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Version};

pub fn execute(engine: &Engine, version: &Version) -> Result<(), Failure> {
    for skipped in engine
        .install_test(version, environment::program_folders())?
        .skipped
    {
        tracing::info!("`{}` is not in the image: {}", skipped.name, skipped.reason);
    }
    output::print_ok()
}
