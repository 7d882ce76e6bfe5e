//! The run of a container whose log is followed: what wakes a reader, and whether the run has ended.
//!
//! Whether it has ended says the lock, with the record of its holder. What is waited for are events: the folder's files
//! are watched, where the supervisor writes the log and whoever clears up after it the record; and the root process, since
//! a supervisor that is killed writes nothing.

use super::Woken;
use crate::container::Container;
use crate::failure::LogError;
use crate::state::Standing;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How often is looked while there is no root process: the last event of a file comes shortly before its lock goes.
const LOOK_AGAIN: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

pub(super) struct Run {
    events: OwnedFd,
    /// None before there is one.
    root: Option<Root>,
    pub has_ended: bool,
}

/// The root process of the run.
struct Root {
    pid: i32,
    /// None when it is gone.
    process: Option<OwnedFd>,
}

impl Run {
    /// Watches a container's folder, and looks how it stands.
    pub(super) fn watch(container: &Container) -> Result<Run, LogError> {
        let watching = |source| LogError::Watch { source };
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let events = events.map_err(watching)?;
        let path = format!("/proc/self/fd/{}", container.folder.as_raw_fd());
        let wanted = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
        inotify::add_watch(&events, path, wanted).map_err(watching)?;
        let mut run = Run {
            events,
            root: None,
            has_ended: false,
        };
        run.look(container)?;
        Ok(run)
    }

    /// Looks whether the run has ended. One that has stays so, whatever boots after it.
    pub(super) fn look(&mut self, container: &Container) -> Result<(), LogError> {
        let standing = container.state.standing();
        let (standing, _) = standing.map_err(|source| LogError::Standing { source })?;
        match (standing, &self.root) {
            (Standing::Booted { pid }, None) => self.root = Some(Root::of(pid)),
            (Standing::Booted { pid }, Some(root)) if pid == root.pid => {}
            // Being booted; or the end of a run that we have not seen, and which soon is over.
            (Standing::InTransit, None) => {}
            _ => self.has_ended = true,
        }
        Ok(())
    }

    /// Waits for an event.
    pub(super) fn wait(&mut self, output: BorrowedFd<'_>) -> Result<Woken, LogError> {
        let watching = |source| LogError::Watch { source };
        let process = self.root.as_ref().and_then(|root| root.process.as_ref());
        // Nothing is expected of the output; that it is closed is told unasked.
        let mut awaited = vec![
            PollFd::new(&self.events, PollFlags::IN),
            PollFd::from_borrowed_fd(output, PollFlags::empty()),
        ];
        awaited.extend(process.map(|process| PollFd::new(process, PollFlags::IN)));
        let limit = process.is_none().then_some(&LOOK_AGAIN);
        retry_on_intr(|| poll(&mut awaited, limit)).map_err(watching)?;
        let closed = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let is_read = !awaited[1].revents().intersects(closed);
        let has_process_ended = awaited.get(2).is_some_and(|it| !it.revents().is_empty());
        if has_process_ended && let Some(root) = &mut self.root {
            root.process = None;
        }
        self.forget_events().map_err(watching)?;
        Ok(match is_read {
            true => Woken::Changed,
            false => Woken::ReaderGone,
        })
    }

    /// What they say is looked at anyway.
    fn forget_events(&self) -> Result<(), Errno> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.events, &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(source) => return Err(source),
            }
        }
    }
}

impl Root {
    fn of(pid: i32) -> Root {
        let known = Pid::from_raw(pid);
        let process = known.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Root { pid, process }
    }
}
