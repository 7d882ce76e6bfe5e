//! `put` and `get`: files go into a container and come out of it.

use crate::failure::Failure;
use crate::options::{GetTarget, PutSource};
use crate::output;
use cocker_engine::{Engine, GetRequest, LeftOut, PutRequest};
use rustix::termios::isatty;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

pub fn put(engine: &Engine, from: PutSource, request: &PutRequest) -> Result<(), Failure> {
    match from {
        PutSource::Files => engine.put(request, &mut warn)?,
        PutSource::StandardInput if isatty(io::stdin()) => {
            return Err(Failure::usage(
                "standard input is a terminal, and no tar stream comes from it",
            )
            .hint("say `./-` for a file of that name."));
        }
        PutSource::StandardInput => {
            let from = io::stdin().as_fd().try_clone_to_owned();
            let from = from.map_err(|error| {
                Failure::not_done("cannot read standard input").caused_by(&error)
            })?;
            engine.put_archive(request, Box::new(File::from(from)))?;
        }
    }
    output::print_ok()
}

/// With `-` nothing but the archive comes on standard output.
pub fn get(engine: &Engine, to: GetTarget, request: &GetRequest) -> Result<(), Failure> {
    match to {
        GetTarget::Files => {
            engine.get(request, &mut warn)?;
            output::print_ok()
        }
        GetTarget::StandardOutput if isatty(io::stdout()) => Err(Failure::usage(
            "standard output is a terminal, which an archive would put into disorder",
        )
        .hint("say `./-` for a file of that name.")),
        GetTarget::StandardOutput => {
            let to = io::stdout().as_fd().try_clone_to_owned();
            let to = to.map_err(|error| {
                Failure::not_done("cannot write to standard output").caused_by(&error)
            })?;
            Ok(engine.get_archive(request, &mut File::from(to), &mut warn)?)
        }
    }
}

fn warn(what: LeftOut, path: &str) {
    let why = match what {
        LeftOut::Socket => "left out: it is a socket",
        LeftOut::Device => "left out: it is a device node",
        LeftOut::Mounted => "is left empty: another file system is mounted there",
        LeftOut::Attributes => "and maybe others lose attributes that the target cannot have",
    };
    let path = crate::escape::escape(path);
    output::complain(&format!("Warning: `{path}` {why}\n"));
}
