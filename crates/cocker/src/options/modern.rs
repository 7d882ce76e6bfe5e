//! The modern spelling: `cocker create -m test`. Read by clap; its complaints become our failures.

use super::meaning::{self, Command, Options};
use super::said::{self, AContainer, Everywhere, Said, TheContainer};
use super::seed;
use crate::failure::Failure;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser};
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

/// One command, without the others beside it.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Alone<A: Args> {
    #[command(flatten)]
    everywhere: Everywhere,
    #[command(flatten)]
    said: A,
}

/// Understands a command line that begins with a command.
pub fn parse(arguments: Vec<OsString>) -> Result<Options, Failure> {
    if let Some((said, everywhere)) = parse_alone(&arguments) {
        return meaning::of(said, everywhere);
    }
    let line = match among_all(arguments) {
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

/// Reads what is typed often with the definition of its own command only: to define all of them takes a good part of the
/// time of a command that does little. `None` where it is none of these, where help is asked for, and where anything is
/// wrong with it, which is told by who knows all of them.
fn parse_alone(arguments: &[OsString]) -> Option<(Said, Everywhere)> {
    let command = arguments.first()?.to_str()?;
    if let Some(said) = parse_plain(command, &arguments[1..]) {
        return Some((said, Everywhere::default()));
    }
    Some(match command {
        "images" => alone(arguments, Said::Images)?,
        "containers" | "ps" => alone(arguments, Said::Containers)?,
        "create" => alone(arguments, |said: said::Create| Said::Create(Box::new(said)))?,
        "boot" => alone(arguments, Said::Boot)?,
        "attach" => alone(arguments, Said::Attach)?,
        "run" => alone(arguments, Said::Run)?,
        "shutdown" => alone(arguments, Said::Shutdown)?,
        "destroy" => alone(arguments, Said::Destroy)?,
        "to-image" => alone(arguments, Said::ToImage)?,
        "to-container" => alone(arguments, Said::ToContainer)?,
        "copy-image" => alone(arguments, Said::CopyImage)?,
        "put" => alone(arguments, Said::Put)?,
        "get" => alone(arguments, Said::Get)?,
        _ => return None,
    })
}

/// The plainest of them, a command and a container, need no definition at all.
fn parse_plain(command: &str, words: &[OsString]) -> Option<Said> {
    let [container, words @ ..] = words else {
        return match command {
            "images" => Some(Said::Images(said::Listing::default())),
            "containers" | "ps" => Some(Said::Containers(said::Listing::default())),
            _ => None,
        };
    };
    let is_a_word = |text: &&str| !text.is_empty() && !text.starts_with('-');
    let container = container.to_str().filter(is_a_word)?.to_owned();
    match (command, words) {
        ("run", [dashes, program @ ..]) if dashes == "--" && !program.is_empty() => {
            Some(Said::Run(said::Run {
                container: TheContainer::by_word(container),
                arguments: program.to_vec(),
                ..said::Run::default()
            }))
        }
        ("boot", []) => Some(Said::Boot(said::Boot {
            container: AContainer::by_word(container),
            ..said::Boot::default()
        })),
        ("shutdown", []) => Some(Said::Shutdown(said::Shutdown {
            container: AContainer::by_word(container),
            ..said::Shutdown::default()
        })),
        ("attach", []) => Some(Said::Attach(said::Attach {
            container: TheContainer::by_word(container),
            ..said::Attach::default()
        })),
        ("destroy", []) => Some(Said::Destroy(said::Destroy {
            container: TheContainer::by_word(container),
            ..said::Destroy::default()
        })),
        _ => None,
    }
}

fn among_all(arguments: Vec<OsString>) -> Result<CommandLine, clap::Error> {
    let program = OsString::from("cocker");
    CommandLine::try_parse_from(std::iter::once(program).chain(arguments))
}

fn alone<A: Args>(arguments: &[OsString], said: fn(A) -> Said) -> Option<(Said, Everywhere)> {
    let line = Alone::<A>::try_parse_from(arguments).ok()?;
    Some((said(line.said), line.everywhere))
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
    use crate::options::tests::SPELLINGS;

    #[test]
    fn alone_and_among_all_a_command_is_read_the_same() {
        let more = [
            "create -m a,b:1 -c C --volume /a:/b:ro --volume /c -b --cpus 0 -d",
            "boot -f C --exec '/sbin/init --x' --mem-limit=100M --io-max a --io-max b",
            "boot --all-enabled",
            "run -d C --env A=1 --env B=2 --user u -- sh -c '-x --help'",
            "run -c C --cmd=--help",
            "run C -- true",
            "run C -- sh -c 'a b' -- -x --",
            "run C --user u -- true",
            "boot C",
            "boot ''",
            "boot C -d",
            "shutdown C",
            "attach C",
            "destroy C",
            "images",
            "ps",
            "shutdown --all --timeout 3",
            "destroy -fd C --shutdown",
        ];
        let lines = SPELLINGS.iter().map(|(_, modern)| *modern).chain(more);
        let mut read = 0;
        for line in lines {
            let words = shlex::split(line).expect("the quotes are closed");
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            if let Some((said, everywhere)) = parse_alone(&words) {
                let line = among_all(words).expect("it is read alone");
                assert_eq!((said, everywhere), (line.said, line.everywhere));
                read += 1;
            }
        }
        assert!(read > 40, "{read}");
    }

    #[test]
    fn what_is_wrong_is_told_by_who_knows_all_commands() {
        for line in [
            "run",
            "run C --",
            "boot C D",
            "destroy -C",
            "boot --help",
            "boot C --nothing",
            "run C",
            "nothing",
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(parse_alone(&words), None, "{line}");
        }
    }

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
