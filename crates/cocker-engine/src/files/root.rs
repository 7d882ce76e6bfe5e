//! The root of a container's files, and the only ways into it.
//!
//! ```text
//! booted     /proc/<pid>/root           ids are the host's: the container's 0 is the first of its range
//! stopped    the layers, stacked anew   ids are those on disk, which are the container's
//!            as a mount without a place
//! ```
//!
//! A path that a user says is resolved by the kernel inside the root (openat2(2), RESOLVE_IN_ROOT): no link, absolute or
//! not, leads out, also while a process of the container puts links in the place of folders. It is resolved once; what
//! was opened is all that is used afterwards. While it lives, the container is neither booted nor destroyed nor changed; a
//! booted one may end.

use crate::container::{Container, WorkLock};
use crate::engine::Engine;
use crate::failure::{ContainerError, FilesError};
use crate::network::id_range;
use crate::state::Standing;
use cocker_image::{IdShift, Name, Others};
use cocker_sandbox::{Access, IdRange, stack_alone};
use cocker_sys::credentials::ActingAs;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::Path;

/// While somebody renames folders all the time, the kernel may be unable to tell whether a way with `..` in it stays
/// inside, and says to ask again. Nobody shall keep us asking for ever.
const MOST_TRIES: usize = 10_000;

/// What the files are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// A container's files, held.
pub(crate) struct ContainerFiles {
    /// Goes first: a mount of our own is gone before anybody else can stack the layers.
    root: OwnedFd,
    container: Container,
    /// The ids by which this root shows those of the container.
    range: Option<IdRange>,
    is_booted: bool,
    is_contained: bool,
    _lock: WorkLock,
}

impl Engine {
    /// Opens the files of a container, booted or stopped, and holds it.
    pub(crate) fn open_files(
        &self,
        name: &Name,
        purpose: Purpose,
    ) -> Result<ContainerFiles, FilesError> {
        loop {
            let (container, lock) = Container::open_shared(&self.store, name)?;
            let standing = container.state.standing();
            if let Ok((Standing::Booted { .. }, _)) = standing {
                match open_booted_root(&container) {
                    Ok(root) => return Ok(ContainerFiles::booted(root, container, lock)),
                    // It has ended just now.
                    Err(ContainerError::NotBooted { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            drop(lock);
            let (container, lock) = Container::open_for_work(&self.store, name)?;
            match container.hold_stopped() {
                // Somebody was faster and has booted it.
                Err(ContainerError::Booted { .. }) => continue,
                held => self
                    .clean_up_after_crash(&container, held?)
                    .map_err(|source| FilesError::CleanUp { source })?,
            }
            return self.stopped(container, lock, purpose);
        }
    }

    fn stopped(
        &self,
        container: Container,
        lock: WorkLock,
        purpose: Purpose,
    ) -> Result<ContainerFiles, FilesError> {
        let access = match purpose {
            Purpose::Read => Access::ReadOnly,
            Purpose::Write => Access::ReadWrite,
        };
        let root = stack_alone(&self.overlay_root(&container), access)?;
        Ok(ContainerFiles {
            root,
            is_contained: id_range(&container).is_some(),
            container,
            range: None,
            is_booted: false,
            _lock: lock,
        })
    }
}

/// Opens the root of a booted container.
pub(crate) fn open_booted_root(container: &Container) -> Result<OwnedFd, ContainerError> {
    let pid = container.booted_pid()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, crate::account::root_path(pid), flags, Mode::empty());
    // While the lock is held with this pid in its record, the process exists and its number cannot be another's.
    let standing = container.state.standing().map(|(standing, _)| standing);
    match (root, standing) {
        (Ok(root), Ok(Standing::Booted { pid: now })) if now == pid => Ok(root),
        (Err(source), Ok(Standing::Booted { .. })) => Err(ContainerError::Read {
            container: container.name.clone(),
            source,
        }),
        _ => Err(ContainerError::NotBooted {
            container: container.name.clone(),
        }),
    }
}

impl ContainerFiles {
    fn booted(root: OwnedFd, container: Container, lock: WorkLock) -> ContainerFiles {
        let range = id_range(&container);
        ContainerFiles {
            root,
            container,
            range,
            is_booted: true,
            is_contained: range.is_some(),
            _lock: lock,
        }
    }

    /// From the container's ids, as the user means them, to those that files get by this root. A container with ids of its
    /// own has no others.
    pub(crate) fn ids_in(&self) -> IdShift {
        match (self.range, self.is_contained) {
            (Some(range), _) => IdShift {
                from: 0,
                to: range.first.0,
                count: range.count,
                others: Others::Refused,
            },
            (None, true) => IdShift {
                from: 0,
                to: 0,
                count: crate::ids::COUNT,
                others: Others::Refused,
            },
            (None, false) => IdShift::SAME,
        }
    }

    /// From the ids that this root shows to those of the container. What belongs to nobody inside (what cocker itself has
    /// mounted there) is nobody's outside as well.
    pub(crate) fn ids_out(&self) -> IdShift {
        match self.range {
            Some(range) => IdShift {
                from: range.first.0,
                to: 0,
                count: range.count,
                others: Others::Nobody,
            },
            None => IdShift::SAME,
        }
    }

    /// While the answer lives, what this thread makes belongs to the container's root. Where ids are mapped nothing can be
    /// made otherwise: overlayfs has no id for the host's root (EOVERFLOW).
    pub(crate) fn act_as_root_inside(&self) -> Result<Option<ActingAs>, FilesError> {
        self.range
            .map(|range| ActingAs::new(range.first.0, range.first.0))
            .transpose()
            .map_err(|source| FilesError::Act { source })
    }

    /// Opens what a user's path leads to, close-on-exec, following links inside the root. Without O_PATH in `flags` a FIFO or
    /// a device may be opened: look first.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let mut answer = Err(Errno::AGAIN);
        for _ in 0..MOST_TRIES {
            answer = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve);
            if !matches!(answer, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        answer
    }

    /// Writes down how much the files of a stopped container are by now. Listing never counts them; for a booted one
    /// that is done at its end.
    pub(crate) fn settle(self) -> Result<(), FilesError> {
        if self.is_booted {
            return Ok(());
        }
        drop(self.root);
        let failed = |source| FilesError::Record { source };
        let size = crate::release::measure_upper(&self.container.folder).map_err(failed)?;
        let record = self.container.state.read().map_err(failed)?;
        let record = crate::state::Record { size, ..record };
        self.container.state.write(record).map_err(failed)
    }
}
