//! What could not be done, how it is told, and the exit code it ends with.
//!
//! ```text
//! Error: cannot boot container `web`
//! Caused by:
//!   1: cannot mount the layers of image `rhel:1.0.0`
//! Hint: put COCKER_HOME on ext4, xfs or btrfs (now: nfs).
//! ```

use crate::escape::escape;
use crate::exit::ExitCode;
use crate::{output, terminal};
use cocker_engine::EngineError;
use std::error::Error;
use std::fmt::Write;
use std::panic::PanicHookInfo;

/// It could not be done.
pub const NOT_DONE: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// A bug in cocker.
pub const BUG: u8 = 70;
/// `run`: cocker itself failed, not the command.
pub const COCKER_FAILED: u8 = 125;
/// `run`: the command was found and cannot be executed.
pub const CANNOT_EXECUTE: u8 = 126;
/// `run`: the command was not found.
pub const NOT_FOUND: u8 = 127;

/// A failed command: one line, its causes from the outermost in, and what the user can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    code: u8,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    pub fn not_done(message: impl Into<String>) -> Failure {
        Failure {
            code: NOT_DONE,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure {
            code: USAGE,
            ..Failure::not_done(message)
        }
    }

    /// Adds `cause` with its own causes.
    pub fn caused_by(mut self, cause: &(dyn Error + 'static)) -> Failure {
        self.causes.push(cause.to_string());
        self.causes.extend(causes_of(cause));
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    pub fn with_hint(self, hint: Option<String>) -> Failure {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    pub fn exit_with(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    /// Puts a message in front; what was the first line becomes the first cause.
    pub fn under(mut self, message: impl Into<String>) -> Failure {
        self.causes
            .insert(0, std::mem::replace(&mut self.message, message.into()));
        self
    }

    /// Tells the user on stderr and says how the process ends.
    pub fn report(&self) -> ExitCode {
        output::complain(&self.render());
        ExitCode::from(self.code)
    }

    fn render(&self) -> String {
        let mut text = format!("Error: {}\n", escape(&self.message));
        if !self.causes.is_empty() {
            text.push_str("Caused by:\n");
        }
        for (index, cause) in self.causes.iter().enumerate() {
            let _ = writeln!(text, "  {}: {}", index + 1, escape(cause));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "Hint: {}", escape(hint));
        }
        text
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let mut failure = Failure::not_done(error.to_string());
        failure.causes = causes_of(&error);
        failure.hints = error.hint().into_iter().collect();
        failure
    }
}

fn causes_of(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

/// From here on a panic gives the terminal back, says that it is a bug, and ends the process with 70.
pub fn report_bugs() {
    std::panic::set_hook(Box::new(|panic| {
        terminal::restore();
        output::complain(&bug(panic));
        std::process::exit(BUG.into());
    }));
}

fn bug(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let what = text.unwrap_or("no message");
    let place = panic
        .location()
        .map(|place| format!(" ({place})"))
        .unwrap_or_default();
    format!("Error: a bug in cocker: {}{place}\n", escape(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_failure_reads_as_error_causes_and_hints() {
        let failure = Failure::not_done("cannot boot container `web`")
            .caused_by(&io::Error::other(
                "cannot mount the layers of image `rhel:1.0.0`",
            ))
            .caused_by(&io::Error::other("Invalid argument (os error 22)"))
            .hint("put COCKER_HOME on ext4, xfs or btrfs (now: nfs).");
        assert_eq!(
            failure.render(),
            "Error: cannot boot container `web`\n\
             Caused by:\n\
             \x20 1: cannot mount the layers of image `rhel:1.0.0`\n\
             \x20 2: Invalid argument (os error 22)\n\
             Hint: put COCKER_HOME on ext4, xfs or btrfs (now: nfs).\n"
        );
    }

    #[test]
    fn a_failure_without_causes_is_one_line() {
        assert_eq!(Failure::not_done("cannot").render(), "Error: cannot\n");
    }

    #[test]
    fn a_message_put_in_front_makes_the_old_one_a_cause() {
        let failure = Failure::not_done("inner").under("outer");
        assert_eq!(failure.render(), "Error: outer\nCaused by:\n  1: inner\n");
    }

    #[test]
    fn nothing_said_by_others_steers_the_terminal() {
        let failure = Failure::usage("what is `\x1b]0;x\x07`\nError: no").hint("a\rb");
        assert_eq!(
            failure.render(),
            "Error: what is `\\u{1b}]0;x\\u{7}`\\u{a}Error: no\nHint: a\\u{d}b\n"
        );
    }
}
