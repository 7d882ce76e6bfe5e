//! One command for several containers at once: each by a process of its own, so that none waits for another one's.

use crate::failure::Failure;
use cocker_engine::{FOR_A_USER, Name, stands_for_a_user};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a container may take: nobody else waits for it any longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// So many are at work at once.
const MOST: usize = 16;

/// What came of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Well,
    /// It has said why.
    Badly,
    /// It is still at work, and is left to it.
    NotYet,
}

/// Executes this program for each of the containers, with `words` before the name. Their errors are seen, and nothing else.
pub fn at_once(
    words: &[&str],
    containers: &[Name],
    patience: Duration,
) -> Result<Vec<Ended>, Failure> {
    let mut all = Vec::new();
    for some in containers.chunks(MOST) {
        let begun: Vec<Child> = some
            .iter()
            .map(|container| begin(words, container))
            .collect::<io::Result<_>>()
            .map_err(|error| {
                Failure::not_done("cannot execute cocker for each container").caused_by(&error)
            })?;
        let deadline = Instant::now() + patience;
        all.extend(begun.into_iter().map(|child| end(child, deadline)));
    }
    Ok(all)
}

fn begin(words: &[&str], container: &Name) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    if stands_for_a_user() {
        command.env(FOR_A_USER, "1");
    }
    command
        .args(words)
        .arg(container.as_str())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

fn end(mut child: Child, deadline: Instant) -> Ended {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    if pidfd.is_some_and(|pidfd| !ends_by(&pidfd, deadline)) {
        return Ended::NotYet;
    }
    match child.wait() {
        Ok(status) if status.success() => Ended::Well,
        _ => Ended::Badly,
    }
}

fn ends_by(pidfd: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&limit)) {
            Ok(0) => return false,
            Err(rustix::io::Errno::INTR) => {}
            _ => return true,
        }
    }
}
