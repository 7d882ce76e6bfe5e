//! The user's terminal in raw mode, and back on every way out.
//!
//! What it was before is kept beside the guard, so that a panic can restore it too: there is no unwinding here.

use crate::failure::Failure;
use rustix::io::Errno;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use std::sync::{Mutex, MutexGuard, PoisonError};

static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Restores the terminal when dropped.
pub struct RawMode(());

/// Every key reaches the container as it is typed; what was typed ahead is kept.
pub fn enter() -> Result<RawMode, Failure> {
    switch().map_err(|error| {
        Failure::not_done("cannot set the terminal to raw mode").caused_by(&error)
    })?;
    Ok(RawMode(()))
}

/// Again after somebody else had the terminal; a failure leaves it as it is.
pub fn enter_again() {
    let _ = switch();
}

/// Gives the terminal back as it was; does nothing when it is not in raw mode.
///
/// What was typed and not read is thrown away: it was meant for the container, or it is the terminal's own answer to
/// something the container sent, and neither must reach the user's shell as a command.
pub fn restore() {
    if let Some(before) = before().take() {
        let _ = tcsetattr(stdin(), OptionalActions::Flush, &before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

fn switch() -> Result<(), Errno> {
    let now = tcgetattr(stdin())?;
    let mut raw = now.clone();
    raw.make_raw();
    before().get_or_insert(now);
    tcsetattr(stdin(), OptionalActions::Drain, &raw)
}

fn before() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}
