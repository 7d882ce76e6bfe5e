//! The namespaces that are there before anybody lives in them: a sandbox's user namespace, which also gives its mounts
//! their id map, and its network namespace, which that one owns, so that root inside is root of its own network only.
//!
//! Both live as long as a descriptor of them, a process in them, or a pin: nothing has to be undone.

use crate::failure::{SandboxError, or_too_old};
use crate::plan::{IdRange, NetworkNamespace};
use cocker_sys::credentials::EffectiveUser;
use cocker_sys::errand::Holder;
use cocker_sys::process::NewNamespaces;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::path::Path;

/// Descriptors of the namespaces that a sandbox will be born in; none stands for the host's.
#[derive(Debug, Default)]
pub struct Namespaces {
    user: Option<OwnedFd>,
    network: Option<OwnedFd>,
    /// Who has carried them, and may not have ended yet.
    _carrier: Option<Holder>,
}

impl Namespaces {
    /// Makes a user namespace with `ids`, and with `with_network` a network namespace that it owns. No process stays in
    /// them; where neither is wanted, none is made.
    ///
    /// The caller must be the host's root with a single thread.
    pub fn make(ids: Option<IdRange>, with_network: bool) -> Result<Namespaces, SandboxError> {
        if ids.is_none() && !with_network {
            return Ok(Namespaces::default());
        }
        carried_by_a_child(ids, with_network).map_err(|source| {
            let error = SandboxError::MakeNamespaces { source };
            or_too_old(error, source, "clone3 with pidfds and cgroups", "5.7")
        })
    }

    /// Opens the network namespace that is pinned at `path`, and with `ids` the user namespace that owns it, which must have
    /// been made for them. Without, the owner does not matter: the host's root has its rights everywhere.
    pub fn pinned(path: &Path, ids: Option<IdRange>) -> Result<Namespaces, SandboxError> {
        let opening = |source| SandboxError::OpenNetwork {
            path: path.to_path_buf(),
            source,
        };
        // Whatever lies there, opening it shall neither wait nor give us a terminal.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let network = rustix::fs::open(path, flags, Mode::empty()).map_err(opening)?;
        if !cocker_sys::namespace::is_network(network.as_fd()).map_err(opening)? {
            return Err(SandboxError::NoNetwork {
                path: path.to_path_buf(),
            });
        }
        let user = match ids {
            Some(_) => Some(owner_below_us(&network).map_err(opening)?.ok_or_else(|| {
                SandboxError::NetworkOfHost {
                    path: path.to_path_buf(),
                }
            })?),
            None => None,
        };
        Ok(Namespaces {
            user,
            network: Some(network),
            _carrier: None,
        })
    }

    /// What a plan asks for.
    pub(crate) fn of(
        network: &NetworkNamespace,
        ids: Option<IdRange>,
    ) -> Result<Namespaces, SandboxError> {
        match network {
            NetworkNamespace::Host => Namespaces::make(ids, false),
            NetworkNamespace::New => Namespaces::make(ids, true),
            NetworkNamespace::Pinned(path) => Namespaces::pinned(path, ids),
        }
    }

    /// The user namespace; none where root inside is the host's root.
    pub fn user(&self) -> Option<BorrowedFd<'_>> {
        self.user.as_ref().map(AsFd::as_fd)
    }

    /// The network namespace; none where that is the host's.
    pub fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }

    /// Hands the network namespace over to who outlives the rest.
    pub(crate) fn into_network(self) -> Option<OwnedFd> {
        self.network
    }

    /// Moves this process into them, for good.
    pub(crate) fn enter(&self) -> Result<(), Errno> {
        // The network first: inside the user namespace we are the host's root no more.
        if let Some(network) = self.network() {
            move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
        }
        if let Some(user) = self.user() {
            move_into_link_name_space(user, Some(LinkNameSpaceType::User))?;
        }
        Ok(())
    }
}

/// One clone makes both, so that the user namespace owns the network namespace.
fn carried_by_a_child(ids: Option<IdRange>, with_network: bool) -> Result<Namespaces, Errno> {
    let namespaces = NewNamespaces {
        user: ids.is_some(),
        network: with_network,
        ..NewNamespaces::default()
    };
    // What the kernel counts for each user (watches of files, queues, pending signals), it counts inside for whoever is there
    // and outside for the owner of the namespace: were that the host's root, one sandbox could use up what root may have.
    let owner = ids.map(|range| EffectiveUser::new(range.first.0));
    let owner = owner.transpose()?;
    let mut carrier = Holder::new(namespaces)?;
    drop(owner);
    let pid = carrier.pid();
    if let Some(range) = ids {
        write_maps(pid, range)?;
    }
    let open = |kind| {
        let path = format!("/proc/{}/ns/{kind}", pid.as_raw_nonzero());
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let user = ids.map(|_| open("user")).transpose()?;
    let network = with_network.then(|| open("net")).transpose()?;
    carrier.release();
    Ok(Namespaces {
        user,
        network,
        _carrier: Some(carrier),
    })
}

/// Gives the new user namespace of `pid` its ids (user_namespaces(7)).
fn write_maps(pid: Pid, range: IdRange) -> Result<(), Errno> {
    // The map of project ids anybody inside could write else, and show all of the host's.
    for name in ["uid_map", "gid_map", "projid_map"] {
        let map = match range.is_unchanged() {
            true => unchanged(name, range.count)?,
            false => format!("0 {} {}\n", range.first.0, range.count),
        };
        // Where we have none ourselves, there is none to give.
        if map.is_empty() {
            continue;
        }
        let path = format!("/proc/{}/{name}", pid.as_raw_nonzero());
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, map.as_bytes())?;
    }
    Ok(())
}

/// The first `count` ids of our own namespace as they are: in the pieces in which we have them, since no line may span two.
fn unchanged(name: &str, count: u32) -> Result<String, Errno> {
    let own = std::fs::read_to_string(Path::new("/proc/self").join(name));
    let own = own.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let mut map = String::new();
    for line in own.lines() {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        if let (Some(Ok(first)), Some(Ok(piece))) = (fields.next(), fields.nth(1)) {
            let piece = piece.min(count.saturating_sub(first));
            if piece > 0 {
                map.push_str(&format!("{first} {first} {piece}\n"));
            }
        }
    }
    Ok(map)
}

/// The user namespace that owns `network`; `None` where that is our own: who is born in it has the host's ids.
fn owner_below_us(network: &OwnedFd) -> Result<Option<OwnedFd>, Errno> {
    let owner = cocker_sys::namespace::owner(network.as_fd())?;
    let found = rustix::fs::fstat(&owner)?;
    let flags = rustix::fs::AtFlags::empty();
    let ours = rustix::fs::statat(CWD, "/proc/self/ns/user", flags)?;
    let is_ours = (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino);
    Ok((!is_ours).then_some(owner))
}
