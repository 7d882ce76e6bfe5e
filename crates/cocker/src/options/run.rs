//! What `run` means: whose command, where, in which environment, and how we stay with it.

use super::{meaning, said};
use crate::failure::Failure;
use cocker_engine::{IfThere, Name, OnError, Program, RunRequest, UserRequest, Variable, Who};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

/// The longest name of a user or group, in bytes (`LOGIN_NAME_MAX`, without the NUL).
const LONGEST_NAME: usize = 255;

#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub container: Name,
    pub request: RunRequest,
    pub company: Company,
}

/// Whether we stay with the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Company {
    /// `--detach`.
    Detached,
    Attended {
        /// `--tty`: through a terminal of the container's.
        on_terminal: bool,
        timeout: Option<Duration>,
        /// A file on the host.
        record: Option<(PathBuf, IfThere)>,
    },
}

pub fn run(said: said::Run, on_error: OnError) -> Result<Run, Failure> {
    let timeout = said.timeout.as_deref().map(timeout).transpose()?;
    let company = match said.detach {
        true => {
            refuse_with_detach("--timeout", timeout.is_some())?;
            refuse_with_detach("--record", said.record.is_some())?;
            refuse_with_detach("--tty", said.tty)?;
            Company::Detached
        }
        false => Company::Attended {
            on_terminal: said.tty,
            timeout,
            record: record(said.record, on_error),
        },
    };
    Ok(Run {
        container: meaning::name(said.container.name())?,
        request: RunRequest {
            user: said.user.as_deref().map(user).transpose()?,
            directory: said.workdir.map(directory).transpose()?,
            environment: said
                .env
                .iter()
                .map(|said| variable(said))
                .collect::<Result<_, _>>()?,
            program: match said.cmd {
                Some(line) => Program::Shell(line),
                None => Program::Arguments(said.arguments),
            },
            patience: timeout,
        },
        company,
    })
}

fn refuse_with_detach(option: &str, is_given: bool) -> Result<(), Failure> {
    match is_given {
        false => Ok(()),
        true => Err(Failure::usage(format!(
            "`{option}` means nothing with `--detach`: nobody stays with the command"
        ))),
    }
}

/// The file to record into, and whether it may be there.
pub fn record(said: Option<OsString>, on_error: OnError) -> Option<(PathBuf, IfThere)> {
    let if_there = match on_error {
        OnError::GoOn => IfThere::Replace,
        OnError::Stop => IfThere::Refuse,
    };
    said.map(|file| (file.into(), if_there))
}

fn timeout(text: &str) -> Result<Duration, Failure> {
    let allowed = meaning::timeout(text)?;
    match allowed.is_zero() {
        false => Ok(allowed),
        true => Err(Failure::usage(format!(
            "`--timeout {text}` leaves the command no time"
        ))),
    }
}

/// `NAME` or `UID`, and `:GROUP` behind it.
fn user(text: &str) -> Result<UserRequest, Failure> {
    let (user, group) = match text.split_once(':') {
        None => (text, None),
        Some((user, group)) => (user, Some(group)),
    };
    let parsed = who(user).and_then(|user| {
        let group = group.map(who).transpose()?;
        Ok(UserRequest { user, group })
    });
    parsed.map_err(|why| {
        Failure::usage(format!("`--user {text}` names nobody: {why}")).hint(
            "say a name of the container's /etc/passwd or a number, and a group behind a colon: \
             --user www-data, --user 1000:1000.",
        )
    })
}

/// Digits are a number and nothing else: no spelling of one user or group may become another. So a number has one
/// spelling, and no name begins like one.
fn who(text: &str) -> Result<Who, String> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let may_begin = |c: char| c.is_ascii_alphabetic() || c == '_';
    let may_follow =
        |c: char| may_begin(c) || c.is_ascii_digit() || matches!(c, '.' | '-' | '@' | '$');
    match text {
        "" => Err("a part of it is empty".into()),
        "0" => Ok(Who::Id(0)),
        number if is_number && number.starts_with('0') => {
            Err(format!("`{number}` begins with a nought"))
        }
        number if is_number => match number.parse() {
            Ok(id) => Ok(Who::Id(id)),
            Err(_) => Err(format!(
                "`{number}` is larger than any user's or group's number"
            )),
        },
        name if name.len() > LONGEST_NAME => {
            Err(format!("a name has at most {LONGEST_NAME} bytes"))
        }
        name if !name.starts_with(may_begin) => Err(format!(
            "`{name}` is no number, and names begin with a letter or `_`"
        )),
        name if !name.chars().all(may_follow) => Err(format!(
            "`{name}` has something in it that names have not: they have letters, digits and `. _ - @ $`"
        )),
        name => Ok(Who::Name(name.into())),
    }
}

fn directory(said: OsString) -> Result<PathBuf, Failure> {
    let path = PathBuf::from(said);
    match path.has_root() {
        true => Ok(path),
        false => Err(Failure::usage(format!(
            "`--workdir {}` does not begin with `/`",
            path.display()
        ))),
    }
}

/// `NAME=value`. What is wrong is told without the value, which may be a secret.
fn variable(said: &OsStr) -> Result<Variable, Failure> {
    let bytes = said.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        None => Err(Failure::usage(format!(
            "`--env {}` has no `=`",
            said.display()
        ))
        .hint("say the value, as in --env NAME=value: nothing is taken from the host's environment.")),
        Some(0) => Err(Failure::usage("`--env =…` names no variable")),
        Some(place) => Ok(Variable {
            name: OsStr::from_bytes(&bytes[..place]).into(),
            value: OsStr::from_bytes(&bytes[place + 1..]).into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_names_or_numbers() {
        let name = |text: &str| Who::Name(text.into());
        for (text, user_there, group_there) in [
            ("bob", name("bob"), None),
            ("_apt", name("_apt"), None),
            ("www-data:adm", name("www-data"), Some(name("adm"))),
            ("a.b@c$", name("a.b@c$"), None),
            ("0", Who::Id(0), None),
            ("1000:0", Who::Id(1000), Some(Who::Id(0))),
            ("4294967295", Who::Id(u32::MAX), None),
            ("0:staff", Who::Id(0), Some(name("staff"))),
        ] {
            let expected = UserRequest {
                user: user_there,
                group: group_there,
            };
            assert_eq!(user(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn no_spelling_of_one_user_is_another() {
        for text in [
            "",
            " 0",
            "0 ",
            "+1",
            "-1",
            "0x0",
            "00",
            "007",
            "1e3",
            "1_000",
            "4294967296",
            "99999999999999999999",
            "a:",
            ":g",
            ":",
            "a:b:c",
            "a: 0",
            "a:+0",
            "a b",
            "-a",
            "a/b",
            "a\n",
            "ä",
            "\u{661}",
            "1a",
            "root\0",
            "a:0x1",
            "0:00",
        ] {
            let error = user(text).expect_err(text);
            assert_eq!(
                error,
                error.clone().exit_with(crate::failure::USAGE),
                "{text:?}"
            );
        }
        assert!(user(&"x".repeat(256)).is_err());
        assert!(user(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn a_variable_has_a_name_and_may_have_no_value() {
        let parts = |said: &str| {
            let Variable { name, value } = variable(OsStr::new(said)).unwrap();
            (name.into_string().unwrap(), value.into_string().unwrap())
        };
        assert_eq!(parts("A=1"), ("A".into(), "1".into()));
        assert_eq!(parts("A="), ("A".into(), String::new()));
        assert_eq!(parts("A==b=c"), ("A".into(), "=b=c".into()));
        for bad in ["", "A", "=", "=secret"] {
            let error = variable(OsStr::new(bad)).expect_err(bad);
            assert!(!format!("{error:?}").contains("secret"));
        }
    }

    #[test]
    fn a_request_never_shows_what_a_variable_holds() {
        let shown = format!("{:?}", variable(OsStr::new("KEY=secret")).unwrap());
        assert_eq!(shown, "KEY=…");
    }

    #[test]
    fn a_folder_inside_begins_at_the_root() {
        assert_eq!(directory("/a/b".into()).unwrap(), PathBuf::from("/a/b"));
        for bad in ["", "a", "./a", "~"] {
            assert!(directory(bad.into()).is_err(), "{bad}");
        }
    }
}
