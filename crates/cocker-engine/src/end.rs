//! shutdown and kill: the supervisor ends the container; we wait until everything is released.

use crate::connection::{Connection, MOST_REPLY};
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{ContainerError, EngineError, TalkError};
use crate::request::OnError;
use crate::restart::Expected;
use crate::stuck::Stuck;
use cocker_image::Name;
use cocker_protocol::ClientRequest;
use cocker_sandbox::SIGRTMIN_PLUS_3;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::time::{Duration, Instant};

/// What the supervisor and the release may take beyond the time that the container was given.
const RELEASE_TIME: Duration = Duration::from_secs(10);

const SIGTERM: u32 = 15;

impl Engine {
    /// Asks everything in the container to end, kills after `timeout` what has not, and returns the moment the last process
    /// is gone and everything is released.
    pub fn shutdown(
        &self,
        container: &Name,
        timeout: Duration,
        on_error: OnError,
    ) -> Result<(), EngineError> {
        let ended = self.end(container, Some(timeout));
        forgiven(ended, on_error).map_err(|source| EngineError::Shutdown {
            container: container.clone(),
            source: Box::new(source),
        })
    }

    /// Ends everything in the container at once.
    pub fn kill(&self, container: &Name, on_error: OnError) -> Result<(), EngineError> {
        let ended = self.end(container, None);
        forgiven(ended, on_error).map_err(|source| EngineError::Kill {
            container: container.clone(),
            source: Box::new(source),
        })
    }

    /// `None` is at once.
    pub(crate) fn end(&self, name: &Name, timeout: Option<Duration>) -> Result<(), TalkError> {
        let mut was_expected = false;
        loop {
            let container = Container::open(&self.store, name)?;
            match Connection::open(&container) {
                Ok(connection) => {
                    self.end_booted(&container, &connection, timeout)?;
                    // It may have ended by itself before it heard of this, and be about to come again.
                    if self.expect_nothing(&container)? == Expected::Nothing {
                        return Ok(());
                    }
                }
                Err(TalkError::Container(ContainerError::NotBooted { .. })) => {
                    match (self.expect_nothing(&container)?, was_expected) {
                        (Expected::Again, _) => {}
                        (Expected::Nothing, true) => return Ok(()),
                        (Expected::Nothing, false) => return Err(container.not_booted().into()),
                    }
                }
                Err(error) => return Err(error),
            }
            was_expected = true;
            self.settle(name)?;
        }
    }

    /// Whoever booted it again was broken off, and may have left it booted, or something of it.
    fn settle(&self, name: &Name) -> Result<(), TalkError> {
        let deadline = Instant::now() + RELEASE_TIME;
        let (container, _work) = Container::open_for_work_until(&self.store, name, deadline)?;
        match container.hold_stopped_until(deadline) {
            Ok(record) => self
                .clean_up_after_crash(&container, record)
                .map_err(|source| TalkError::CleanUp { source }),
            Err(ContainerError::Booted { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn end_booted(
        &self,
        container: &Container,
        connection: &Connection,
        timeout: Option<Duration>,
    ) -> Result<(), TalkError> {
        let Some(timeout) = timeout else {
            connection.send(&ClientRequest::Kill, &[])?;
            self.thaw_for_the_end(container);
            return self.wait_for_end(container, connection, RELEASE_TIME);
        };
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        connection.send(&ClientRequest::Shutdown { timeout_ms }, &[])?;
        // Told first, so that nothing else happens in it any more.
        self.thaw_for_the_end(container);
        if container.settings.root_process.is_some() {
            self.hurry_a_deaf_root_process(container, connection, timeout)?;
        }
        self.wait_for_end(container, connection, timeout + RELEASE_TIME)
    }

    /// Where it takes too long, says which process is to blame.
    fn wait_for_end(
        &self,
        container: &Container,
        connection: &Connection,
        limit: Duration,
    ) -> Result<(), TalkError> {
        match wait_for_release(connection, limit) {
            Err(TalkError::Stuck { seconds }) => {
                Err(match Stuck::in_cgroup(&self.cgroup_of(container)) {
                    Some(source) => TalkError::StuckInside { seconds, source },
                    None => TalkError::Stuck { seconds },
                })
            }
            other => other,
        }
    }

    /// The kernel gives process 1 no signal that it neither has a handler for nor blocks. Such a root process cannot hear TERM,
    /// so once everything else has ended there is nothing to wait for.
    fn hurry_a_deaf_root_process(
        &self,
        container: &Container,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<(), TalkError> {
        let root_process = container.booted_pid()?;
        if hears(root_process) {
            return Ok(());
        }
        let deadline = Instant::now() + timeout;
        let cgroup = self.cgroup_of(container);
        if !cgroup.is_available() {
            return Ok(()); // nobody can say who the others are
        }
        let others = |pid: &Pid| {
            let pid = pid.as_raw_nonzero().get();
            pid != root_process && command_name(pid).as_deref() != Some("cockerinit")
        };
        while let Ok(members) = cgroup.members() {
            let rest: Vec<Pid> = members.into_iter().filter(others).collect();
            if rest.is_empty() {
                return connection.send(&ClientRequest::Kill, &[]);
            }
            if !wait_for_any(&rest, connection, deadline) {
                break;
            }
        }
        Ok(())
    }
}

/// With `--forcely` a container that is stopped already counts as shut down.
fn forgiven(ended: Result<(), TalkError>, on_error: OnError) -> Result<(), TalkError> {
    match ended {
        Err(TalkError::Container(ContainerError::NotBooted { .. }))
            if on_error == OnError::GoOn =>
        {
            Ok(())
        }
        other => other,
    }
}

/// The supervisor holds its clients' connections through its last work: they end when that is done.
fn wait_for_release(connection: &Connection, limit: Duration) -> Result<(), TalkError> {
    let deadline = Instant::now() + limit;
    loop {
        let mut waiting = [PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN)];
        match poll(&mut waiting, Some(&until(deadline))) {
            Ok(0) => {
                let seconds = limit.as_secs();
                return Err(TalkError::Stuck { seconds });
            }
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(source) => return Err(TalkError::Connect { source }),
        }
        let mut buffer = [0; MOST_REPLY];
        if connection.receive(&mut buffer)?.is_none() {
            return Ok(());
        }
    }
}

/// Waits until one of the processes has ended; false when it is time to stop waiting.
fn wait_for_any(pids: &[Pid], connection: &Connection, deadline: Instant) -> bool {
    let pidfds: Vec<OwnedFd> = pids
        .iter()
        .filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok())
        .collect();
    if pidfds.len() < pids.len() {
        return true; // one has ended already
    }
    let mut waiting: Vec<PollFd<'_>> = pidfds
        .iter()
        .map(|pidfd| PollFd::new(pidfd, PollFlags::IN))
        .collect();
    waiting.push(PollFd::from_borrowed_fd(connection.as_fd(), PollFlags::IN));
    let woken = poll(&mut waiting, Some(&until(deadline)));
    let is_released = waiting
        .last()
        .is_some_and(|last| !last.revents().is_empty());
    matches!(woken, Ok(1..) | Err(Errno::INTR)) && !is_released
}

fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now());
    Timespec {
        tv_sec: left.as_secs() as i64,
        tv_nsec: left.subsec_nanos().into(),
    }
}

/// Whether a root process takes the signal that it is asked to end by: a handler does, and so does whoever blocks it to read
/// it. From SigBlk and SigCgt of proc_pid_status(5), where bit n-1 stands for signal n.
fn hears(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
    };
    let (Some(blocked), Some(caught)) = (mask("SigBlk:"), mask("SigCgt:")) else {
        return true;
    };
    let asked_by = [SIGTERM, SIGRTMIN_PLUS_3 as u32];
    asked_by
        .iter()
        .any(|signal| (blocked | caught) & (1 << (signal - 1)) != 0)
}

fn command_name(pid: i32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().into())
}
