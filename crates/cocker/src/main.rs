//! `cocker`, the command: reads what the user said, has the engine do it, prints what came of it.
//!
//! The only crate that prints, reads the environment, or ends the process. One thread from start to end: the engine
//! forks, and after a fork in a process with threads only raw system calls would be safe. Where a library shares work out
//! to threads, all have ended when its call returns.
//!
//! ```text
//! options/    argv → said (two spellings) → meant (one Command)
//! commands/   one file a command: the engine's call and what is printed
//! terminal/   the user's terminal on a session; streams/ the user's pipes on a command
//! ```
//!
//! Two things the standard library has done before `main`: standard descriptors that were closed are /dev/null, so
//! nothing opened later can take their numbers; and SIGPIPE is ignored, so a reader that goes away is an error value.
#![forbid(unsafe_code)]

mod commands;
mod debug;
mod environment;
mod escape;
mod failure;
mod listing;
mod local_time;
mod options;
mod output;
mod progress;
mod rates;
mod recorder;
mod residents;
mod signals;
mod standard_streams;
mod streams;
mod terminal;

use failure::Failure;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    failure::report_bugs();
    match carry_out(started) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn carry_out(started: Instant) -> Result<ExitCode, Failure> {
    let arguments = std::env::args_os().skip(1).collect();
    let options = options::parse(arguments)?;
    if options.debug {
        debug::show_steps(started);
    }
    commands::execute(options.command)
}
