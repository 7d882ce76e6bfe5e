//! The last act of a container's supervisor: it executes `cocker release WAITSTATUS done|under-way|broken-off asked|unasked RAN_MS`
//! with the lock at descriptor 3, the socket that clients come to at 4, the container's folder at 9, its network's socket at 10, and the clients that wait for the end above.

use crate::container::Container;
use crate::control;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::request::Boot;
use crate::state::{Record, StateFile};
use cocker_image::{Name, measure_tree};
use cocker_sys::execution::{close_from, inherited_descriptor};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::time::Duration;

/// Where the supervisor leaves them: docs/design/0001-boot.md.
const LOCK: i32 = 3;
/// Clients may wait here whom the supervisor has not heard of any more.
const LISTENER: i32 = 4;
const FOLDER: i32 = 9;
/// A socket to the table of packets that boot used, only to be closed late; or /dev/null.
const NETWORK: i32 = 10;

/// How a container has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Of the root process, as wait4(2) gives it.
    pub wait_status: i32,
    pub boot: Boot,
    /// By a client, or because the host ends.
    pub was_asked_for: bool,
    /// Since init was ready.
    pub ran: Duration,
}

impl Engine {
    /// Removes what outlives the root process, records the end, and lets the clients go. Then the container is stopped, and where
    /// its restart policy wants it, this process goes on as the one that boots it again.
    pub fn release(&self, end: End) -> Result<(), EngineError> {
        let failed = |what| move |source| EngineError::Release { what, source };
        let state = inherited_descriptor(LOCK).map_err(failed("no lock was handed over"))?;
        let state = StateFile::from_locked(state);
        let folder = inherited_descriptor(FOLDER).map_err(failed("no folder was handed over"))?;
        let container = self.named(&folder)?;

        let kept = inherited_descriptor(NETWORK).ok();
        let latecomers = inherited_descriptor(LISTENER).ok();
        let before = state.read().map_err(failed("cannot read its record"))?;
        // Whoever sees that it has ended sees also that it is to come again.
        let expected = self.expect_boot(&container, &end);
        let expected = expected.unwrap_or_else(|errno| {
            tracing::warn!("the restart policy is not followed: {errno}");
            None
        });
        // From here on nobody takes it for booted, and puts back what is removed now.
        let ending = Record {
            is_ending: true,
            ..before
        };
        state
            .write(ending)
            .map_err(failed("cannot write its record"))?;
        let detached = self.detach_network(&container);
        let cgroup = self.cgroup_of(&container);
        let oom_kills = cgroup.oom_kills();
        let removed = cgroup.remove();
        let unlinked = control::remove(&container);
        // Where something could not be removed, the pid stays in the record: the next command tries again. So it does where
        // the client may still attach something; it takes the pid out itself, unless it dies before.
        let is_clean =
            removed.is_ok() && detached.is_ok() && unlinked.is_ok() && end.boot != Boot::UnderWay;
        let pid = if is_clean { 0 } else { before.pid };
        // It goes on ending: the lock is still held, and a pid without that word would be a booted container's. The pid goes
        // last, with the size: should we be killed, the next command measures.
        let record = Record {
            exit: Some(end.wait_status),
            oom_kills: oom_kills.unwrap_or(0),
            ..ending
        };
        state
            .write(record)
            .map_err(failed("cannot write its record"))?;
        // The clients that wait for the end see it now: the lock is held on for the measuring alone, and whoever wants
        // it waits for that.
        let aftermath = detached.as_ref().ok().and_then(Option::as_ref);
        let lasting = [
            aftermath.map(AsFd::as_fd),
            expected.as_ref().map(AsFd::as_fd),
        ];
        let lasting: Vec<_> = lasting.into_iter().flatten().collect();
        close_from(NETWORK + 1, &lasting).map_err(failed("cannot let the clients go"))?;
        drop(latecomers);
        let record = Record { pid, ..record };
        let record = match measure_upper(&folder) {
            Ok(size) => record.with_size(size),
            Err(_) => record,
        };
        state
            .write(record)
            .map_err(failed("cannot write its size"))?;
        // Whoever waits for the lock goes on now; what the kernel has still to do for the network, only this process
        // waits for.
        drop(state);
        let detached = detached.map(drop);
        drop(kept);
        if let Some(held) = expected {
            // What could not be removed is tried again by that boot.
            return self
                .wait_for_boot(&container, folder.as_fd(), held)
                .map_err(|source| EngineError::Restart {
                    container: container.name,
                    source,
                });
        }
        detached.map_err(|source| EngineError::ReleaseNetwork {
            container: container.name.clone(),
            source: Box::new(source),
        })?;
        removed.map_err(failed("cannot remove its cgroup"))?;
        unlinked.map_err(failed("cannot remove its socket"))
    }

    /// The container whose folder this is: its name is the last part of where the descriptor leads.
    pub(crate) fn named(&self, folder: &OwnedFd) -> Result<Container, EngineError> {
        use rustix::fd::AsRawFd;
        let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
        let path = std::fs::read_link(path).unwrap_or_default();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.and_then(|name| Name::parse(name).ok());
        let name = name.ok_or(EngineError::Release {
            what: "its folder has no name",
            source: Errno::NOENT,
        })?;
        Ok(Container::open(&self.store, &name)?)
    }
}

/// Bytes of the writable layer of the container whose folder this is.
pub(crate) fn measure_upper(folder: &OwnedFd) -> Result<u64, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let upper = rustix::fs::openat(folder, crate::container::UPPER, flags, Mode::empty())?;
    measure_tree(upper.as_fd()).map_err(|_| Errno::IO)
}
