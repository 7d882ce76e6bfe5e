//! A booted container stands still while its files are copied, and goes on whatever happens to us.
//!
//! A second process waits on a pipe that only we hold. However this process ends, also by KILL, the pipe closes and the
//! second one lets the container go on.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::ConversionError;
use cocker_sandbox::Freezer;
use cocker_sys::execution::{close_from, inherited_descriptor, place_descriptors};
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// Where the second process has what it needs; it holds nothing else, no lock above all.
const PIPE: i32 = 3;
const FREEZE: i32 = 4;

impl Engine {
    /// Does `work` while every process of a booted container stands still.
    pub(crate) fn while_frozen<T>(
        &self,
        container: &Container,
        work: impl FnOnce() -> T,
    ) -> Result<T, ConversionError> {
        let failed = |source| ConversionError::Freeze { source };
        let cgroup = self.cgroup_of(container);
        if !cgroup.is_available() {
            return Err(ConversionError::NoFreezer);
        }
        // Nobody lets a paused one go on, or ends its pause, while we hold it; and it stays paused.
        if cgroup.is_frozen().map_err(failed)? {
            return Ok(work());
        }
        let frozen = Frozen::new(cgroup.freezer().map_err(failed)?).map_err(failed)?;
        tracing::debug!("`{}` stands still", container.name);
        let done = work();
        frozen.thaw().map_err(failed)?;
        tracing::debug!("`{}` goes on", container.name);
        Ok(done)
    }
}

/// As long as it lives, everything stands still.
struct Frozen {
    freezer: Freezer,
    /// Dropped before the second process is waited for.
    pipe: Option<OwnedFd>,
    guard: OwnedFd,
}

impl Frozen {
    fn new(freezer: Freezer) -> Result<Frozen, Errno> {
        let (theirs, ours) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let file = rustix::io::fcntl_dupfd_cloexec(freezer.as_fd(), 0)?;
        let guard = match clone(NewNamespaces::default(), None)? {
            Birth::Child => thaw_when_alone(theirs, file),
            Birth::Parent { pidfd, .. } => pidfd,
        };
        let frozen = Frozen {
            freezer,
            pipe: Some(ours),
            guard,
        };
        frozen.freezer.freeze()?;
        Ok(frozen)
    }

    fn thaw(self) -> Result<(), Errno> {
        self.freezer.thaw()
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.pipe = None;
        let ended = rustix::io::retry_on_intr(|| {
            waitid(WaitId::PidFd(self.guard.as_fd()), WaitIdOptions::EXITED)
        });
        if let Err(errno) = ended {
            tracing::warn!(%errno, "cannot wait for the process that lets the container go on");
        }
    }
}

/// The second process, with all rights of the first. What ends a session or is typed at a terminal must not end it first.
fn thaw_when_alone(pipe: OwnedFd, freeze: OwnedFd) -> ! {
    let prepared = cocker_sys::signal::block_all()
        .and_then(|()| place_descriptors(PIPE, vec![pipe, freeze]))
        .and_then(|()| close_from(FREEZE + 1, &[]));
    let (Ok(()), Ok(pipe), Ok(freeze)) = (
        prepared,
        inherited_descriptor(PIPE),
        inherited_descriptor(FREEZE),
    ) else {
        exit_now(1)
    };
    // Nothing is ever written to it: reading ends when the last other holder is gone.
    let _ = rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut [0u8; 1][..]));
    let _ = rustix::io::write(&freeze, b"0");
    exit_now(0)
}
