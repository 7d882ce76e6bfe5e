//! The modern spelling: `cocker create -m test`. Read by clap; its complaints become our failures.

use super::meaning::{self, Command, Options};
use super::said::{Everywhere, Said};
use super::seed;
use crate::failure::Failure;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use std::ffi::OsString;

#[derive(Parser)]
#[command(
    name = "cocker",
    disable_help_subcommand = true,
    disable_version_flag = true
)]
struct CommandLine {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(subcommand)]
    said: Said,
}

/// Understands a command line that begins with a command.
pub fn parse(arguments: Vec<OsString>) -> Result<Options, Failure> {
    let program = OsString::from("cocker");
    let line = match CommandLine::try_parse_from(std::iter::once(program).chain(arguments)) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return Ok(Options::of(Command::Help(error.render().to_string())));
        }
        Err(error) => return Err(complaint(&error)),
    };
    match line.said {
        Said::Help { command: None } => Ok(Options::of(Command::Help(seed::HELP.into()))),
        Said::Help {
            command: Some(command),
        } => parse(vec![command.into(), "--help".into()]),
        said => meaning::of(said, line.everywhere),
    }
}

/// A script that completes the modern spelling in `shell`.
pub fn completion_script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), "cocker", &mut script);
    script
}

/// clap's text is `error: WHAT`, then `tip: …`, `Usage: …` and a word on `--help`, a blank line between them.
fn complaint(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut parts = text.split("\n\n");
    let what = parts.next().unwrap_or_default();
    let what = what.strip_prefix("error: ").unwrap_or(what);
    let mut failure = Failure::usage(in_one_line(what));
    for part in parts {
        let part = part.trim();
        if let Some(tip) = part.strip_prefix("tip: ") {
            failure = failure.hint(format!("{}.", in_one_line(tip)));
        } else if let Some(usage) = part.strip_prefix("Usage: ") {
            failure = failure.hint(format!("usage: {}", in_one_line(usage)));
        }
    }
    failure
}

fn in_one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claps_own_checks_of_the_definitions_pass() {
        let mut definitions = CommandLine::command();
        definitions.build();
        definitions.debug_assert();
    }

    #[test]
    fn completion_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completion_script(shell)).unwrap();
            assert!(script.contains("install-test"), "{shell}");
            assert!(!script.is_empty());
        }
    }
}
