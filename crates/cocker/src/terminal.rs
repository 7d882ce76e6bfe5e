//! The user's terminal on a session in a container.
//!
//! ```text
//! stdin (raw) ──▶ buffer ──▶ supervisor ──▶ master      Ctrl-] three times within a second detaches
//! stdout      ◀── buffer ◀── supervisor ◀── master
//! signals: the terminal is restored before anything ends or stops
//! ```
//!
//! Only bytes cross: no process of the container ever holds the user's terminal.

mod detach_key;
pub mod full_screen;
mod passphrase;
mod raw_mode;
mod replay;
mod viewer;

pub use passphrase::ask as ask_passphrase;

/// Gives the terminal back as it was, whoever of us has it.
pub use full_screen::leave as restore;

use crate::environment;
use crate::failure::Failure;
use crate::recorder::Recorder;
use cocker_engine::{Ending, LookRequest, Session, WindowSize};
use rustix::stdio;
use rustix::termios::{isatty, tcgetwinsize};
use std::os::fd::BorrowedFd;
use std::time::Instant;
use viewer::Viewer;

/// What is said of a terminal that does not know its own size.
const USUAL_SIZE: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// Whether the user sits at a terminal.
pub fn is_there() -> bool {
    isatty(stdio::stdin())
}

/// Refuses to go on where there is no terminal to look at a session with.
pub fn require() -> Result<(), Failure> {
    if is_there() {
        return Ok(());
    }
    Err(Failure::not_done("cannot attach: stdin is not a terminal")
        .hint("`cocker run C -- CMD` runs a command without one."))
}

/// The size of what the user sees: stdout, else stdin.
pub fn size() -> WindowSize {
    let known = size_of_output().or_else(|| size_of(stdio::stdin()));
    known.unwrap_or(USUAL_SIZE)
}

/// The size of stdout, where that is a terminal that knows it.
pub fn size_of_output() -> Option<WindowSize> {
    size_of(stdio::stdout())
}

fn size_of(terminal: BorrowedFd<'_>) -> Option<WindowSize> {
    let size = tcgetwinsize(terminal).ok()?;
    let is_known = size.ws_row > 0 && size.ws_col > 0;
    is_known.then_some(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// What the engine has to know of who looks.
pub fn look() -> LookRequest {
    LookRequest {
        size: size(),
        term: environment::terminal_type(),
        who: environment::user(),
    }
}

/// What is to be looked at, and how.
pub struct Sight {
    pub session: Session,
    /// What the session was told of the size of the user's terminal.
    pub size: WindowSize,
    pub is_read_only: bool,
    pub recorder: Recorder,
    /// Until when it may take.
    pub deadline: Option<Instant>,
}

/// How looking ended.
pub enum Outcome {
    Ended(Ending),
    /// By the key for it.
    Left,
    /// A signal, or a terminal that is gone (SIGHUP).
    ToldToEnd(i32),
    /// The session is still there.
    TookTooLong(Session),
}

/// Shows the session until it ends or is left. The terminal is the user's again when this returns.
pub fn look_at(sight: Sight) -> Result<Outcome, Failure> {
    let viewer = Viewer::new(sight)?;
    let raw = raw_mode::enter()?;
    let (outcome, recorder) = viewer.watch();
    drop(raw);
    recorder.end();
    outcome
}
