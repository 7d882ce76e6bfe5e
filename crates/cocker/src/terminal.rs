//! The user's terminal on a session in a container.
//!
//! ```text
//! stdin (raw) ──▶ buffer ──▶ master      Ctrl-] three times within a second detaches
//! stdout      ◀── buffer ◀── master
//! signals: the terminal is restored before anything ends or stops
//! ```
//!
//! Only bytes cross: no process of the container ever holds the user's terminal.

mod detach_key;
mod raw_mode;
mod viewer;

pub use raw_mode::restore;

use crate::failure::Failure;
use crate::output;
use crate::signals;
use cocker_engine::{Ending, Name, Session, WindowSize};
use rustix::stdio;
use rustix::termios::{isatty, tcgetwinsize};
use signal_hook::consts::SIGHUP;
use std::process::ExitCode;
use viewer::{Outcome, Viewer};

/// What is said of a terminal that does not know its own size.
const USUAL_SIZE: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// Refuses to go on where there is no terminal to look at a session with.
pub fn require() -> Result<(), Failure> {
    if isatty(stdio::stdin()) {
        return Ok(());
    }
    Err(Failure::not_done("cannot attach: stdin is not a terminal")
        .hint("`cocker run C -- CMD` runs a command without one."))
}

/// The size of what the user sees: stdout, else stdin.
pub fn size() -> WindowSize {
    let sizes = [stdio::stdout(), stdio::stdin()].map(tcgetwinsize);
    let known = sizes
        .into_iter()
        .flatten()
        .find(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(USUAL_SIZE, |size| WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Shows the session until it ends or is left; the status of its shell is ours, as with a remote login.
pub fn look_at(session: Session, container: &Name) -> Result<ExitCode, Failure> {
    let outcome = {
        let viewer = Viewer::new(session)?;
        let _raw = raw_mode::enter()?;
        viewer.watch()?
    };
    // The terminal is the user's again from here on.
    match outcome {
        Outcome::Ended(Ending::Exited(status)) => Ok(ExitCode::from(status)),
        // A shutdown hangs up the sessions before the container is gone; nobody else does that to a shell but us.
        Outcome::Ended(Ending::ContainerGone | Ending::Killed { signal: SIGHUP }) => {
            Err(Failure::not_done("connection to container lost").hint(format!(
                "if container `{container}` was shut down, `cocker boot {container}` boots it again."
            )))
        }
        Outcome::Ended(Ending::Killed { signal }) | Outcome::ToldToEnd(signal) => {
            Ok(ExitCode::from(signals::exit_code(signal)))
        }
        Outcome::Detached => {
            output::complain("detached\n");
            Ok(ExitCode::SUCCESS)
        }
    }
}
