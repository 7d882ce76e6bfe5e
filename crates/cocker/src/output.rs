//! The one way to stdout and stderr. stdout carries data only.

use crate::failure::Failure;
use std::io::{self, Write};

/// Whether anybody is there for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    There,
    Gone,
}

/// Writes `text` to stdout at once. A reader that has gone away is not a failure: it had what it wanted.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    print_on(text).map(drop)
}

/// The same for a part of more.
pub fn print_on(text: impl AsRef<[u8]>) -> Result<Reader, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_ref())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::not_done("cannot write to stdout").caused_by(&error)),
        Ok(()) => Ok(Reader::There),
    }
}

/// What every command prints that has nothing else to say.
pub fn print_ok() -> Result<(), Failure> {
    print("OK\n")
}

/// Writes a whole message to stderr; when even that fails there is nobody to tell.
pub fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
