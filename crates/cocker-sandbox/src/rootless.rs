//! An ordinary user's own user namespace: in it the user is root of its own ids, and of nothing else (user_namespaces(7)).
//!
//! ```text
//!   inside   0     1 …… n
//!   outside  user  the ids that /etc/subuid and /etc/subgid give that user (newuidmap(1))
//! ```
//!
//! A command that finds a sandbox of the user's booted joins the namespace that this one was booted in, since only from there its
//! processes can be reached. Else it makes one, which ends with its last process.

use crate::plan::{HostId, IdRange};
use cocker_sys::process::{Birth, NewNamespaces, clone, exit_now};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountPropagationFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, getegid, geteuid, getpid, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Ids of a sandbox beside the user's own.
const MOST: u32 = 65_535;

/// The programs that may give a user the ids of /etc/subuid and /etc/subgid.
const USERS: Kind = Kind {
    file: "/etc/subuid",
    program: "newuidmap",
};
const GROUPS: Kind = Kind {
    file: "/etc/subgid",
    program: "newgidmap",
};

struct Kind {
    file: &'static str,
    program: &'static str,
}

/// Why an ordinary user has no namespace of its own.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    #[error("`{}` gives `{user}` no ids", file.display())]
    NoIds { file: PathBuf, user: String },
    #[error("`{}` gives `{user}` no more than {count} ids in one piece", file.display())]
    FewIds {
        file: PathBuf,
        user: String,
        count: u32,
    },
    #[error("cannot read `{}`", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make a user namespace")]
    Make {
        #[source]
        source: Errno,
    },
    #[error("cannot execute `{program}`")]
    Execute {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("`{program}` said: {words}")]
    Refused {
        program: &'static str,
        words: String,
    },
    #[error("cannot join the namespace of the user's other containers")]
    Join {
        #[source]
        source: Errno,
    },
}

impl RootlessError {
    /// What the user, or who administers the host, can do.
    pub fn hint(&self) -> String {
        match self {
            RootlessError::NoIds { user, .. } | RootlessError::FewIds { user, .. } => format!(
                "give the user 65,536 ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user} (as root, with numbers that are free); or run cocker as root: sudo."
            ),
            RootlessError::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "install package uidmap, or run cocker as root: sudo.".into()
            }
            RootlessError::Make { .. } => {
                "this host may keep ordinary users from user namespaces: see sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; or run cocker as root: sudo.".into()
            }
            RootlessError::Refused { .. } => {
                "cocker takes the group of the login (leave newgrp and sg), and newuidmap and newgidmap as package uidmap installs them, with rights of root; or run cocker as root: sudo.".into()
            }
            _ => "run cocker as root: sudo.".into(),
        }
    }
}

/// Joins the user namespace that `root_process`, that of a booted sandbox, was booted in, with mounts of its own.
///
/// The caller must be an ordinary user of the host with a single thread.
/// `is_still_it` says whether the number is still that process's, once its namespace is open.
pub fn join(root_process: Pid, is_still_it: impl Fn() -> bool) -> Result<(), RootlessError> {
    let joined = || {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let own = rustix::fs::open("/proc/self/ns/user", flags, Mode::empty())?;
        let path = format!("/proc/{}/ns/user", root_process.as_raw_nonzero());
        let mut namespace = rustix::fs::open(path, flags, Mode::empty())?;
        let cgroup = parent_of(root_process).and_then(cgroup_of);
        if !is_still_it() {
            return Err(Errno::SRCH);
        }
        // Its own is one below, if it has one.
        loop {
            let above = cocker_sys::namespace::parent(namespace.as_fd())?;
            if is_same(&above, &own)? {
                break;
            }
            namespace = above;
        }
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
        cocker_sys::process::unshare_mount_namespace()?;
        if let Some(cgroup) = cgroup {
            _ = JOINED.set(cgroup);
        }
        keep_mounts()
    };
    joined().map_err(|source| RootlessError::Join { source })
}

/// Makes a user namespace with the user's ids and enters it, with mounts of its own. `names` are what the files of ids may call
/// the caller, beside its number.
///
/// The caller must be an ordinary user of the host with a single thread.
pub fn enter(names: &[String]) -> Result<(), RootlessError> {
    let making = |source| RootlessError::Make { source };
    let users = subordinate(&USERS, names)?;
    let groups = subordinate(&GROUPS, names)?;
    let (uid, gid, pid) = (geteuid().as_raw(), getegid().as_raw(), getpid());
    let (go, went) = pipe_with(PipeFlags::CLOEXEC).map_err(making)?;
    let (words, said) = pipe_with(PipeFlags::CLOEXEC).map_err(making)?;
    match clone(NewNamespaces::default(), None).map_err(making)? {
        // Who stays outside may ask for ids; who is inside already may not.
        Birth::Child => {
            drop((went, words));
            // What the user has left open is none of those programs' business.
            let _ = cocker_sys::execution::close_on_exec_from(3);
            let mut byte = [0u8; 1];
            let answer = match rustix::io::read(&go, &mut byte) {
                Ok(1) => map(&USERS, pid, uid, users).and_then(|()| map(&GROUPS, pid, gid, groups)),
                // The other one has ended.
                _ => exit_now(1),
            };
            if let Err(error) = &answer {
                let _ = rustix::io::write(&said, tell(error).as_bytes());
            }
            exit_now(i32::from(answer.is_err()))
        }
        Birth::Parent { pidfd, .. } => {
            drop((go, said));
            cocker_sys::process::unshare_user_namespace().map_err(making)?;
            rustix::io::write(&went, &[0]).map_err(making)?;
            let mut answer = String::new();
            let read = fs::File::from(words).read_to_string(&mut answer);
            let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            read.map_err(|_| making(Errno::IO))?;
            heard(&answer)?;
            let status = ended.map_err(making)?.and_then(|ended| ended.exit_status());
            if status != Some(0) {
                return Err(making(Errno::CHILD));
            }
            keep_mounts().map_err(making)
        }
    }
}

/// What is mounted here shall reach nobody, and what others mount need not come.
fn keep_mounts() -> Result<(), Errno> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    rustix::mount::mount_change("/", private)
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> Result<bool, Errno> {
    let (one, other) = (rustix::fs::fstat(one)?, rustix::fs::fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// The user's largest range in one of the files, of `name:first:count` lines (subuid(5)).
fn subordinate(kind: &Kind, names: &[String]) -> Result<IdRange, RootlessError> {
    let file = PathBuf::from(kind.file);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(RootlessError::Read { file, source }),
    };
    let number = geteuid().as_raw().to_string();
    let is_ours = |owner: &str| owner == number || names.iter().any(|name| name == owner);
    let ranges = text.lines().filter_map(|line| range_of(line, is_ours));
    let user = names.first().cloned().unwrap_or(number.clone());
    match ranges.max_by_key(|range| range.count) {
        None => Err(RootlessError::NoIds { file, user }),
        Some(IdRange { count, .. }) if count < MOST => {
            Err(RootlessError::FewIds { file, user, count })
        }
        Some(range) => Ok(range),
    }
}

fn range_of(line: &str, is_ours: impl Fn(&str) -> bool) -> Option<IdRange> {
    let mut fields = line.split(':');
    if !is_ours(fields.next()?) {
        return None;
    }
    let first = fields.next()?.trim().parse().ok()?;
    let count: u32 = fields.next()?.trim().parse().ok()?;
    (count > 0 && first > 0).then_some(IdRange {
        first: HostId(first),
        count: count.min(MOST),
    })
}

/// Has `own` mapped to 0 and `range` from 1 on.
fn map(kind: &Kind, pid: Pid, own: u32, range: IdRange) -> Result<(), RootlessError> {
    let Kind { program, .. } = *kind;
    let numbers = [0, own, 1, 1, range.first.0, range.count];
    let output = Command::new(program)
        .arg(pid.as_raw_nonzero().to_string())
        .args(numbers.map(|number| number.to_string()))
        .output()
        .map_err(|source| RootlessError::Execute { program, source })?;
    match output.status.success() {
        true => Ok(()),
        false => Err(RootlessError::Refused {
            program,
            words: String::from_utf8_lossy(&output.stderr).trim().into(),
        }),
    }
}

/// An error of [`map`] in one line, for the process that waits for it.
fn tell(error: &RootlessError) -> String {
    match error {
        RootlessError::Execute { program, source } => {
            format!("{program}\0{}", source.raw_os_error().unwrap_or(0))
        }
        RootlessError::Refused { program, words } => format!("{program}\0\0{words}"),
        other => format!("\0\0{other}"),
    }
}

fn heard(answer: &str) -> Result<(), RootlessError> {
    let mut parts = answer.splitn(3, '\0');
    let Some(program) = parts.next().filter(|_| !answer.is_empty()) else {
        return Ok(());
    };
    let program = match program == GROUPS.program {
        true => GROUPS.program,
        false => USERS.program,
    };
    let errno = parts.next().and_then(|errno| errno.parse().ok());
    Err(match errno {
        Some(errno) => RootlessError::Execute {
            program,
            source: io::Error::from_raw_os_error(errno),
        },
        None => RootlessError::Refused {
            program,
            words: parts.next().unwrap_or_default().into(),
        },
    })
}

/// The name that /etc/passwd gives this user; its number where it gives none.
pub fn user_name() -> String {
    let number = geteuid().as_raw().to_string();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_string())
    });
    name.unwrap_or(number)
}

/// Where cocker itself is in a cgroup that was delegated to it, once that gives controllers on.
pub(crate) const ASIDE: &str = "cocker.outside";

/// The cgroup of the supervisor whose namespace was joined.
static JOINED: OnceLock<PathBuf> = OnceLock::new();

/// The folders in v2 that may have been delegated to the user, from the root of the hierarchy: that of this process, and that of the
/// supervisor whose namespace it has joined.
pub(crate) fn delegated_cgroups() -> Vec<PathBuf> {
    let own = cgroup_of(getpid());
    own.into_iter().chain(JOINED.get().cloned()).collect()
}

fn cgroup_of(process: Pid) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", process.as_raw_nonzero())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = match line.strip_suffix(ASIDE) {
        Some(above) => above.trim_end_matches('/'),
        None => line,
    };
    // The root of the hierarchy is nothing that is delegated.
    (!folder.is_empty()).then(|| PathBuf::from(folder))
}

fn parent_of(process: Pid) -> Option<Pid> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    Pid::from_raw(line.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_range_of_a_user_is_its_own() {
        let is_ours = |owner: &str| owner == "ada" || owner == "1000";
        let range = |line| range_of(line, is_ours).map(|it| (it.first.0, it.count));
        assert_eq!(range("ada:100000:65536"), Some((100_000, 65_535)));
        assert_eq!(range("1000:100000:10"), Some((100_000, 10)));
        for line in [
            "eve:100000:65536",
            "ada:0:65536",
            "ada:x:65536",
            "ada:100000:0",
            "ada:100000",
            "",
            "10:100000:65536",
        ] {
            assert_eq!(range(line), None, "{line}");
        }
    }

    #[test]
    fn what_is_told_is_heard() {
        assert!(heard("").is_ok());
        let refused = RootlessError::Refused {
            program: GROUPS.program,
            words: "no\0range".into(),
        };
        assert_eq!(
            heard(&tell(&refused)).unwrap_err().to_string(),
            refused.to_string()
        );
        let missing = RootlessError::Execute {
            program: USERS.program,
            source: io::Error::from_raw_os_error(2),
        };
        let heard = heard(&tell(&missing)).unwrap_err();
        assert!(matches!(heard, RootlessError::Execute { source, .. }
            if source.kind() == io::ErrorKind::NotFound));
    }
}
