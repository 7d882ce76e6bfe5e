//! `install_test`: image `test` from the host's own programs.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Version};

pub fn execute(engine: &Engine, version: &Version) -> Result<(), Failure> {
    let lacking = engine.install_test(version)?;
    if !lacking.is_empty() {
        output::remark(&format!("not on this host, and so not in the image: {}", lacking.join(", ")));
    }
    output::print_ok()
}
