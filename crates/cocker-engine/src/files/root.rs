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
use crate::release::measure_upper;
use crate::state::{Record, Standing};
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
    root: Root,
    container: Container,
    is_booted: bool,
    _lock: WorkLock,
}

/// The folder that the container's processes have, or would have, as their root.
pub(crate) struct Root {
    pub(super) folder: OwnedFd,
    pub(super) ids: Ids,
}

/// How a root shows the ids of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// As the host's ids of the container's range.
    Mapped(IdRange),
    /// As they are, from 0 to 65,535.
    Own,
    /// The container has the host's.
    Hosts,
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
                    Err(ContainerError::NotBooted { .. } | ContainerError::JustEnded { .. }) => {}
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
        if purpose == Purpose::Write {
            mark(&container).map_err(|source| FilesError::Record { source })?;
        }
        let root = stack_alone(&self.overlay_root(&container), access)?;
        let ids = match id_range(&container) {
            Some(_) => Ids::Own,
            None => Ids::Hosts,
        };
        Ok(ContainerFiles {
            root: Root { folder: root, ids },
            container,
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
        (Err(Errno::NOENT | Errno::SRCH), Ok(Standing::Booted { .. })) => {
            Err(container.just_ended())
        }
        (Err(source), Ok(Standing::Booted { .. })) => Err(ContainerError::Read {
            container: container.name.clone(),
            source,
        }),
        _ => Err(container.not_booted()),
    }
}

/// Says in the record that the files are being changed: should we be killed, or fail half-way, the next command measures them.
fn mark(container: &Container) -> Result<(), Errno> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    container.state.write(Record {
        pid,
        is_ending: true,
        measured: None,
        ..container.state.read()?
    })
}

impl ContainerFiles {
    fn booted(root: OwnedFd, container: Container, lock: WorkLock) -> ContainerFiles {
        let ids = id_range(&container).map_or(Ids::Hosts, Ids::Mapped);
        ContainerFiles {
            root: Root { folder: root, ids },
            container,
            is_booted: true,
            _lock: lock,
        }
    }

    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// Writes down how much the files of a stopped container are by now. Listing never counts them; for a booted one
    /// that is done at its end.
    pub(crate) fn settle(self) -> Result<(), FilesError> {
        if self.is_booted {
            return Ok(());
        }
        drop(self.root);
        let state = &self.container.state;
        let measured = measure_upper(&self.container.folder).and_then(|size| {
            let stopped = Record {
                pid: 0,
                is_ending: false,
                ..state.read()?
            };
            state.write(stopped.with_size(size))
        });
        if let Err(errno) = measured {
            // The mark stays.
            tracing::warn!("the next command measures the files: {errno}");
        }
        Ok(())
    }
}

impl Root {
    /// From the container's ids, as the user means them, to those that files get by this root. A container with ids of its
    /// own has no others.
    pub(crate) fn ids_in(&self) -> IdShift {
        let into = |to, count| IdShift {
            from: 0,
            to,
            count,
            others: Others::Refused,
        };
        match self.ids {
            Ids::Mapped(range) => into(range.first.0, range.count),
            Ids::Own => into(0, crate::ids::COUNT),
            Ids::Hosts => IdShift::SAME,
        }
    }

    /// From the ids that this root shows to those of the container. What belongs to nobody inside (what cocker itself has
    /// mounted there) is nobody's outside as well.
    pub(crate) fn ids_out(&self) -> IdShift {
        match self.ids {
            Ids::Mapped(range) => IdShift {
                from: range.first.0,
                to: 0,
                count: range.count,
                others: Others::Nobody,
            },
            Ids::Own | Ids::Hosts => IdShift::SAME,
        }
    }

    /// While the answer lives, what this thread makes belongs to the container's root. Where ids are mapped nothing can be
    /// made otherwise: overlayfs has no id for the host's root (EOVERFLOW).
    pub(crate) fn act_as_root_inside(&self) -> Result<Option<ActingAs>, FilesError> {
        let Ids::Mapped(range) = self.ids else {
            return Ok(None);
        };
        let acting = ActingAs::new(range.first.0, range.first.0);
        acting
            .map(Some)
            .map_err(|source| FilesError::Act { source })
    }

    /// Opens what a user's path leads to, close-on-exec, following links inside the root. Without O_PATH in `flags` a FIFO or
    /// a device may be opened: look first.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        let mut answer = Err(Errno::AGAIN);
        for _ in 0..MOST_TRIES {
            answer = rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve);
            if !matches!(answer, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        answer
    }
}
