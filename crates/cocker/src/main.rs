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
//! Three things [`cocker_sys::entry`] has done before `main`: standard descriptors that were closed are /dev/null, so nothing
//! opened later can take their numbers; SIGPIPE is ignored, so a reader that goes away is an error value; and SIGCHLD is not,
//! so children can be waited for. What else the standard library would do is left out: a command that takes a millisecond gets
//! by without.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), no_main)]

mod commands;
mod debug;
mod environment;
mod escape;
mod exit;
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
mod waiting;

use crate::exit::ExitCode;
use failure::Failure;
use std::time::Instant;

cocker_sys::begin!();
#[cfg(not(test))]
cocker_sys::entry!(main);

fn main() -> u8 {
    let started = Instant::now();
    failure::report_bugs();
    let code = carry_out(started).unwrap_or_else(|failure| failure.report());
    code.into()
}

fn carry_out(started: Instant) -> Result<ExitCode, Failure> {
    #[cfg(debug_assertions)]
    environment::take_faults()?;
    let arguments = std::env::args_os().skip(1).collect();
    let options = options::parse(arguments)?;
    if options.debug {
        debug::show_steps(started);
    }
    waiting::tell();
    commands::execute(options.command)
}
