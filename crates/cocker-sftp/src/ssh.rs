//! The user's own `ssh` as a child: how it is called, and how it ends.

use crate::error::ConnectCause;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long ssh gets to end when it is asked to, before it is killed.
const ASKED: Duration = Duration::from_millis(500);

/// How the user's `ssh` is called. Everything else is in the user's ssh_config(5).
#[derive(Clone, Debug)]
pub struct Ssh {
    /// Normally `ssh`, found in PATH.
    pub program: PathBuf,
    pub user: Option<String>,
    /// A name of ssh_config(5), of DNS, or an address.
    pub host: String,
    pub port: Option<u16>,
    pub prompts: Prompts,
    /// How long the server may be silent while it is waited for.
    pub patience: Duration,
}

/// Whether ssh may ask the user on the terminal: for a password, whether a host's key is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompts {
    /// The time until the session stands has no bound then.
    Allowed,
    /// `-o BatchMode=yes`
    Never,
}

impl Ssh {
    /// `user@host`, as it is shown.
    pub(crate) fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    /// What ssh is called with.
    ///
    /// # Errors
    /// What ssh would not take as a host or as a user: then nothing is to be run.
    pub(crate) fn arguments(&self) -> Result<Vec<OsString>, ConnectCause> {
        fit("the host", &self.host)?;
        if self.host.contains('/') {
            // ssh reads `ssh://user@host:port` as an address of its own.
            return Err(refused("the host", &self.host, "has a slash in it"));
        }
        let mut arguments: Vec<OsString> = Vec::new();
        let mut option = |value: String| arguments.extend(["-o".into(), value.into()]);
        // What the user's configuration may ask for with this host, and what is not for a session of ours: a forwarding
        // that fails, a command, a terminal. As sftp(1) has it.
        for never in [
            "ForwardX11=no",
            "ForwardAgent=no",
            "PermitLocalCommand=no",
            "RequestTTY=no",
        ] {
            option(never.to_owned());
        }
        // A connection that others share is used where there is one. Ours is no such: it would outlive the session, or others
        // would end with it.
        option("ControlMaster=no".to_owned());
        option("ClearAllForwardings=yes".to_owned());
        option("RemoteCommand=none".to_owned());
        match self.prompts {
            Prompts::Never => option("BatchMode=yes".to_owned()),
            // Bounds the way to the host; what the user has to type has no bound.
            Prompts::Allowed => {
                option(format!(
                    "ConnectTimeout={}",
                    self.patience.as_secs().clamp(1, 3600)
                ));
            }
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        if let Some(user) = &self.user {
            fit("the user", user)?;
            arguments.extend(["-l".into(), user.into()]);
        }
        arguments.extend([
            "-s".into(),
            "--".into(),
            self.host.clone().into(),
            "sftp".into(),
        ]);
        Ok(arguments)
    }

    pub(crate) fn start(&self) -> Result<Started, ConnectCause> {
        let arguments = self.arguments()?;
        let cannot = |source| ConnectCause::Start {
            program: self.program.clone(),
            source,
        };
        // What others have left open in this process is none of ssh's business.
        cocker_sys::execution::close_on_exec_from(3).map_err(|errno| cannot(errno.into()))?;
        // A pipe is writable again with each page that ssh has read; a socket when most of it was. That halves the turns of
        // an upload, and sftp(1) gives ssh one too.
        let (to, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| cannot(errno.into()))?;
        tracing::debug!(program = %self.program.display(), ?arguments, "starting ssh");
        let mut ssh = Command::new(&self.program);
        // It looks up whose configuration and keys are meant.
        cocker_sys::execution::as_outside(&mut ssh).map_err(|errno| cannot(errno.into()))?;
        let spawned = ssh
            .args(arguments)
            .stdin(theirs)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ConnectCause::NoProgram {
                    program: self.program.clone(),
                });
            }
            Err(error) => return Err(cannot(error)),
        };
        let (from, errors) = (child.stdout.take(), child.stderr.take());
        let process = Process::of(child).map_err(|errno| cannot(errno.into()))?;
        let (Some(from), Some(errors)) = (from, errors) else {
            unreachable!("both were asked for as pipes");
        };
        Ok(Started {
            to,
            from: from.into(),
            errors: errors.into(),
            process,
        })
    }
}

/// ssh, and our ends of its three streams.
pub(crate) struct Started {
    pub(crate) to: OwnedFd,
    pub(crate) from: OwnedFd,
    pub(crate) errors: OwnedFd,
    pub(crate) process: Process,
}

/// ssh while it runs. Whoever drops it has seen its end.
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Process {
    fn of(mut child: Child) -> Result<Process, Errno> {
        // Not reaped yet, so its pid is its own.
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Process { child, pidfd }),
            Err(errno) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(errno)
            }
        }
    }

    /// How it ended, if it has within a moment.
    pub(crate) fn status(&mut self) -> Option<String> {
        self.has_ended(Duration::from_secs(1));
        Some(self.child.try_wait().ok()??.to_string())
    }

    /// Waits so long for its end, makes it end if need be, and reaps it.
    pub(crate) fn end(&mut self, grace: Duration) {
        if !self.has_ended(grace) {
            tracing::debug!("ssh does not end by itself and is made to");
            // Asked first: then it ends its ProxyCommand too.
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        }
        if !self.has_ended(ASKED) {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    fn has_ended(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                Ok(count) => return count > 0,
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// What a host and a user may be. ssh hands both to the user's shell where the configuration says `%h` or `%r`, so what a
/// shell would act on is refused, as OpenSSH does since 9.6.
fn fit(what: &'static str, value: &str) -> Result<(), ConnectCause> {
    let why = if value.is_empty() {
        "is empty"
    } else if value.starts_with('-') {
        "begins with `-`, which ssh would take as an option"
    } else if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        "has a blank or a control character in it"
    } else if value.contains([
        '\'', '`', '"', '$', ';', '&', '<', '>', '|', '(', ')', '{', '}',
    ]) || value.ends_with('\\')
    {
        "has a character in it that a shell would act on"
    } else {
        return Ok(());
    };
    Err(refused(what, value, why))
}

fn refused(what: &'static str, value: &str, why: &'static str) -> ConnectCause {
    ConnectCause::Refused {
        what,
        value: crate::words::quoted(value),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ssh(user: Option<&str>, host: &str) -> Ssh {
        Ssh {
            program: "ssh".into(),
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: None,
            prompts: Prompts::Never,
            patience: Duration::from_secs(30),
        }
    }

    fn said(ssh: &Ssh) -> String {
        let arguments = ssh.arguments().expect("fit");
        arguments
            .iter()
            .map(|a| a.to_str().expect("text"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn ssh_is_called_with_what_was_said_and_nothing_of_forwardings() {
        let common = "-o ForwardX11=no -o ForwardAgent=no -o PermitLocalCommand=no -o RequestTTY=no \
                      -o ControlMaster=no -o ClearAllForwardings=yes -o RemoteCommand=none";
        let mut call = ssh(None, "host");
        assert_eq!(
            said(&call),
            format!("{common} -o BatchMode=yes -s -- host sftp")
        );
        call = Ssh {
            port: Some(2222),
            prompts: Prompts::Allowed,
            ..ssh(Some("me"), "fe80::1%eth0")
        };
        assert_eq!(
            said(&call),
            format!("{common} -o ConnectTimeout=30 -p 2222 -l me -s -- fe80::1%eth0 sftp")
        );
    }

    #[test]
    fn what_ssh_or_a_shell_would_take_for_something_else_is_refused() {
        let hosts = [
            "",
            "-oProxyCommand=x",
            "a b",
            "a\nb",
            "a\0",
            "ssh://a",
            "$(x)",
            "a;b",
            "a`b`",
        ];
        for host in hosts {
            assert!(ssh(None, host).arguments().is_err(), "{host:?}");
        }
        for user in ["", "-l", "a b", "a\tb", "a'b", "a\\"] {
            assert!(ssh(Some(user), "host").arguments().is_err(), "{user:?}");
        }
        assert!(ssh(Some("DOMAIN\\me"), "host").arguments().is_ok());
    }
}
