//! `run`: a command in a booted container, with our streams, our signals and its exit status.

use crate::environment;
use crate::failure::{self, Failure};
use crate::options::RunProgram;
use crate::streams;
use cocker_engine::{EngineError, Name, Program};
use rustix::io::Errno;
use std::process::ExitCode;

pub fn execute(container: &Name, program: RunProgram) -> Result<ExitCode, Failure> {
    let engine =
        environment::engine().map_err(|failure| failure.exit_with(failure::COCKER_FAILED))?;
    let program = match program {
        RunProgram::Shell(line) => Program::Shell(line),
        RunProgram::Arguments(arguments) => Program::Arguments(arguments),
    };
    let running = engine.run(container, &program).map_err(|error| {
        let code = run_failure_code(&error);
        Failure::from(error).exit_with(code)
    })?;
    streams::carry(running, container).map_err(|failure| failure.exit_with(failure::COCKER_FAILED))
}

/// 127 and 126 as a shell has them; else it was cocker that failed.
fn run_failure_code(error: &EngineError) -> u8 {
    match error.spawn_errno().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => failure::NOT_FOUND,
        Some(
            Errno::ACCESS
            | Errno::NOEXEC
            | Errno::ISDIR
            | Errno::NOTDIR
            | Errno::TXTBSY
            | Errno::LIBBAD,
        ) => failure::CANNOT_EXECUTE,
        Some(Errno::PERM | Errno::LOOP | Errno::NAMETOOLONG | Errno::TOOBIG | Errno::INVAL) => {
            failure::CANNOT_EXECUTE
        }
        Some(_) | None => failure::COCKER_FAILED,
    }
}
