//! `root`: where a booted container's files can be seen from outside.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name};
use std::os::unix::ffi::OsStrExt;

pub fn execute(engine: &Engine, container: &Name) -> Result<(), Failure> {
    let path = engine.container_root(container)?;
    let mut line = path.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    output::print(line)
}
