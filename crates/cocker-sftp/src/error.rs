//! What can go wrong: with one operation, and before there is a session.

use crate::words::quoted;
use std::io;
use std::path::PathBuf;

/// One operation that a session could not do. Its text names what and on which object, its source says why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} `{object}` on the server")]
pub struct SftpError {
    pub kind: SftpErrorKind,
    action: &'static str,
    object: String,
    #[source]
    cause: Box<Cause>,
}

impl SftpError {
    pub(crate) fn new(action: &'static str, object: &str, trouble: Trouble) -> SftpError {
        let Trouble { kind, said } = trouble;
        let cause = Cause {
            kind: kind.clone(),
            said,
        };
        SftpError {
            kind,
            action,
            object: quoted(object),
            cause: Box::new(cause),
        }
    }

    /// The error of this crate inside one of [`io`], as reading and writing give it.
    pub fn of(error: &io::Error) -> Option<&SftpError> {
        error.get_ref()?.downcast_ref()
    }

    /// The server's own words on one line, empty where it said nothing; at most 1 KiB, without control characters.
    pub fn said(&self) -> &str {
        &self.cause.said
    }
}

impl From<SftpError> for io::Error {
    fn from(error: SftpError) -> io::Error {
        match error.kind {
            SftpErrorKind::Ended { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            _ => io::Error::other(error),
        }
    }
}

/// Why an operation could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SftpErrorKind {
    #[error("there is no such file")]
    NoSuchFile,
    #[error("permission denied")]
    PermissionDenied,
    /// Version 3 has no status of its own for it: the target was looked at after a failure.
    #[error("it already exists")]
    AlreadyExists,
    /// Version 3 has no status of its own for it: the file system was asked after a failure.
    #[error("no room is left")]
    NoRoom,
    #[error("the server does not support it")]
    Unsupported,
    /// Any other refusal, with the server's own words. A quota that is used up is such a failure.
    #[error("the server said: {0}")]
    Failure(String),
    /// A file is shorter than what was to be read of it.
    #[error("the file ends at byte {at}")]
    Ended { at: u64 },
    /// A path that no server is asked for: empty, too long, or with a NUL.
    #[error("{0}")]
    BadPath(&'static str),
    /// With what ssh and the server said last on stderr.
    #[error("the connection was lost{}", behind(.words))]
    ConnectionLost { words: String },
    #[error("the server was silent for {seconds} seconds")]
    Silent { seconds: u64 },
    /// The server breaks the protocol; the session cannot be used any more.
    #[error("the server does not speak SFTP as it should: {0}")]
    Protocol(String),
}

/// A kind with the server's own words where they say more.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{kind}{}", self.more())]
struct Cause {
    kind: SftpErrorKind,
    said: String,
}

impl Cause {
    fn more(&self) -> String {
        let known = [
            "",
            "No such file",
            "Permission denied",
            "Failure",
            "Operation unsupported",
        ];
        if matches!(self.kind, SftpErrorKind::Failure(_)) || known.contains(&self.said.as_str()) {
            return String::new();
        }
        format!(" (the server said: {})", self.said)
    }
}

/// A kind and the server's words, before it is known which operation it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) kind: SftpErrorKind,
    pub(crate) said: String,
}

impl Trouble {
    pub(crate) fn protocol(what: impl Into<String>) -> Trouble {
        SftpErrorKind::Protocol(what.into()).into()
    }

    /// What a status other than OK means.
    pub(crate) fn refused(code: u32, said: String) -> Trouble {
        let kind = match code {
            2 | 10 => SftpErrorKind::NoSuchFile,
            3 => SftpErrorKind::PermissionDenied,
            8 => SftpErrorKind::Unsupported,
            // Of later drafts, but said by servers of version 3 too.
            11 => SftpErrorKind::AlreadyExists,
            14 | 15 => SftpErrorKind::NoRoom,
            _ if said.is_empty() => SftpErrorKind::Failure(format!("status {code}, without words")),
            4 => SftpErrorKind::Failure(said.clone()),
            _ => SftpErrorKind::Failure(format!("{said} (status {code})")),
        };
        Trouble { kind, said }
    }
}

impl From<SftpErrorKind> for Trouble {
    fn from(kind: SftpErrorKind) -> Trouble {
        Trouble {
            kind,
            said: String::new(),
        }
    }
}

/// There is no session with a server.
#[derive(Debug, thiserror::Error)]
#[error("cannot open an SFTP session with `{destination}`")]
pub struct ConnectError {
    /// As ssh was given it: `user@host`.
    pub destination: String,
    #[source]
    pub cause: ConnectCause,
}

impl ConnectError {
    pub fn kind(&self) -> ConnectErrorKind {
        match &self.cause {
            ConnectCause::Ended { kind, .. } => *kind,
            _ => ConnectErrorKind::Other,
        }
    }
}

/// What kept ssh from reaching a server, as far as its words tell. Words may come from a server: good for a hint, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// The server's key is not known, or another one than before.
    HostKey,
    Authentication,
    /// No such host, no way there, nobody listens.
    Unreachable,
    /// The account may be used, but not for SFTP.
    NoSubsystem,
    Other,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectCause {
    /// Nothing was run.
    #[error("{what} `{value}` {why}")]
    Refused {
        what: &'static str,
        value: String,
        why: &'static str,
    },
    #[error("cannot find the program `{}`", program.display())]
    NoProgram { program: PathBuf },
    #[error("cannot start the program `{}`", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("cannot use the pipes to the server")]
    Pipe { source: io::Error },
    /// ssh ended, or the server closed, before the session stood. `line` is what tells most of `words`, all of what was said.
    #[error("{line}")]
    Ended {
        kind: ConnectErrorKind,
        line: String,
        words: String,
    },
    #[error("something else than SFTP came from the server: {first_line}")]
    NotSftp { first_line: String },
    #[error("the server speaks version {version} of SFTP, not version 3")]
    Version { version: u32 },
    #[error("the server was silent for {seconds} seconds{}", behind(.words))]
    Silent { seconds: u64, words: String },
    #[error("the server does not speak SFTP as it should: {0}")]
    Protocol(String),
}

impl ConnectCause {
    /// What an end before the session stood means, from the words that came before it.
    pub(crate) fn ended(words: String, status: Option<String>) -> ConnectCause {
        let known = |line: &str| {
            let knows = |phrase: &str| line.contains(phrase);
            PHRASES
                .iter()
                .find(|(_, phrases)| phrases.iter().any(|p| knows(p)))
                .map(|(kind, _)| *kind)
        };
        let recognised = words
            .lines()
            .rev()
            .find_map(|line| known(line).map(|kind| (kind, line.to_owned())));
        let last = || {
            words
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .map(str::to_owned)
        };
        let (kind, line) = recognised.unwrap_or_else(|| {
            let line = last().unwrap_or_else(|| match status {
                Some(status) => format!("ssh ended without a word ({status})"),
                None => "the server closed without a word".to_owned(),
            });
            (ConnectErrorKind::Other, line)
        });
        ConnectCause::Ended { kind, line, words }
    }
}

/// What ssh says, as of OpenSSH 9 and before; several lines may say one of them, and the last one counts.
const PHRASES: [(ConnectErrorKind, &[&str]); 4] = [
    (
        ConnectErrorKind::HostKey,
        &[
            "Host key verification failed",
            "HOST IDENTIFICATION HAS CHANGED",
            "host key is known for",
        ],
    ),
    (
        ConnectErrorKind::Authentication,
        &[
            "Permission denied (",
            "Too many authentication failures",
            "Permission denied, please try",
        ],
    ),
    (
        ConnectErrorKind::Unreachable,
        &[
            "Could not resolve hostname",
            "Connection refused",
            "No route to host",
            "Network is unreachable",
            "Connection timed out",
            "Operation timed out",
            "Host is down",
        ],
    ),
    (ConnectErrorKind::NoSubsystem, &["subsystem request failed"]),
];

/// Words behind a sentence, where there are any: the last line of them.
fn behind(words: &str) -> String {
    match words.lines().last() {
        Some(line) => format!("; the last words were: {line}"),
        None => String::new(),
    }
}
