//! `put` and `get`: files go into a container and come out of it.

use crate::failure::Failure;
use crate::options::{GetTarget, PutSource};
use crate::output;
use crate::signals::{self, Signals};
use cocker_engine::{Engine, EngineError, GetRequest, Interrupted, LeftOut, PutRequest};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::isatty;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

pub fn put(engine: &Engine, from: PutSource, request: &PutRequest) -> Result<(), Failure> {
    match from {
        PutSource::Files => {
            let interrupted = interrupted()?;
            let put = engine.put(request, &interrupted, &mut warn);
            put.map_err(|error| told_why(error, &interrupted))?;
        }
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
            let from = Input {
                file: File::from(from),
                signals: Signals::take(&ENDING)?,
            };
            engine.put_archive(request, Box::new(from))?;
        }
    }
    output::print_ok()
}

/// With `-` nothing but the archive comes on standard output.
pub fn get(engine: &Engine, to: GetTarget, request: &GetRequest) -> Result<(), Failure> {
    match to {
        GetTarget::Files => {
            let interrupted = interrupted()?;
            let got = engine.get(request, &interrupted, &mut warn);
            got.map_err(|error| told_why(error, &interrupted))?;
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

/// Signals by which a user or a system ends a command. What is being copied is removed first.
const ENDING: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Is true as soon as one of them has come.
fn interrupted() -> Result<Interrupted, Failure> {
    let interrupted = Interrupted::default();
    for signal in signals::not_ignored(&ENDING) {
        signal_hook::flag::register(signal, interrupted.clone())
            .map_err(|error| Failure::not_done("cannot wait for signals").caused_by(&error))?;
    }
    Ok(interrupted)
}

/// Who is interrupted ends as a shell expects of one that a signal has ended.
fn told_why(error: EngineError, interrupted: &Interrupted) -> Failure {
    let failure = Failure::from(error);
    match interrupted.load(Ordering::Relaxed) {
        true => failure.exit_with(signals::exit_code(SIGINT)),
        false => failure,
    }
}

/// Standard input, which ends with an error when the command shall end.
struct Input {
    file: File,
    signals: Signals,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut waiting = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.file, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| poll(&mut waiting, None))?;
        if waiting[0].revents().is_empty() {
            return self.file.read(buffer);
        }
        Err(io::Error::other("interrupted"))
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
