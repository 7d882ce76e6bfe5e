//! The last act of a container's supervisor: it executes `cocker release WAITSTATUS done|under-way` with the lock at descriptor 3, the
//! socket that clients come to at 4, the container's folder at 9, its network's socket at 10, and the clients that wait for the end above.

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

/// Where the supervisor leaves them: docs/design/0001-boot.md.
const LOCK: i32 = 3;
/// Clients may wait here whom the supervisor has not heard of any more.
const LISTENER: i32 = 4;
const FOLDER: i32 = 9;
/// A socket to the table of packets that boot used, only to be closed late; or /dev/null.
const NETWORK: i32 = 10;

impl Engine {
    /// Removes what outlives the root process, records the end, and lets the clients go; the container is stopped when
    /// this process ends.
    pub fn release(&self, wait_status: i32, boot: Boot) -> Result<(), EngineError> {
        let failed = |what| move |source| EngineError::Release { what, source };
        let state = inherited_descriptor(LOCK).map_err(failed("no lock was handed over"))?;
        let state = StateFile::from_locked(state);
        let folder = inherited_descriptor(FOLDER).map_err(failed("no folder was handed over"))?;
        let container = self.named(&folder)?;

        let kept = inherited_descriptor(NETWORK).ok();
        let latecomers = inherited_descriptor(LISTENER).ok();
        let before = state.read().map_err(failed("cannot read its record"))?;
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
        let is_clean = removed.is_ok() && detached.is_ok() && boot == Boot::Done;
        let pid = if is_clean { 0 } else { before.pid };
        // It goes on ending: the lock is still held, and a pid without that word would be a booted container's.
        let record = Record {
            pid,
            exit: Some(wait_status),
            oom_kills: oom_kills.unwrap_or(0),
            ..ending
        };
        state
            .write(record)
            .map_err(failed("cannot write its record"))?;
        // The clients that wait for the end see it now: the lock is held on for the measuring alone, and whoever wants
        // it waits for that.
        let aftermath = detached.as_ref().ok().and_then(Option::as_ref);
        close_from(NETWORK + 1, aftermath.map(AsFd::as_fd))
            .map_err(failed("cannot let the clients go"))?;
        drop(latecomers);
        if let Ok(size) = measure_upper(&folder) {
            let record = Record { size, ..record };
            state
                .write(record)
                .map_err(failed("cannot write its size"))?;
        }
        // Whoever waits for the lock goes on now; what the kernel has still to do for the network, only this process
        // waits for.
        drop(state);
        let detached = detached.map(drop);
        drop(kept);
        detached.map_err(|source| EngineError::ReleaseNetwork {
            container: container.name.clone(),
            source: Box::new(source),
        })?;
        removed.map_err(failed("cannot remove its cgroup"))?;
        unlinked.map_err(failed("cannot remove its socket"))
    }

    /// The container whose folder this is: its name is the last part of where the descriptor leads.
    fn named(&self, folder: &OwnedFd) -> Result<Container, EngineError> {
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
