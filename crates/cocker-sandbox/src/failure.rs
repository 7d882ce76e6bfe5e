//! What could not be done, to which object, and what the kernel said.

use crate::cgroup::{LimitError, Place, UnitError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fmt;
use std::path::{Path, PathBuf};

/// The kernel's errno, with its own words where it gave some.
#[derive(Debug)]
pub struct KernelAnswer {
    pub errno: Errno,
    /// From the log of a file system context; often names the option that is at fault.
    pub words: Option<String>,
}

impl fmt::Display for KernelAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.words {
            Some(words) => write!(f, "the kernel said: \"{words}\""),
            None => self.errno.fmt(f),
        }
    }
}

impl std::error::Error for KernelAnswer {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.words.as_ref().map(|_| &self.errno as _)
    }
}

impl From<Errno> for KernelAnswer {
    fn from(errno: Errno) -> KernelAnswer {
        KernelAnswer { errno, words: None }
    }
}

/// The kernel that brought the last of what a sandbox needs: overlay over id-mapped layers.
const NEEDED_IN_ALL: &str = "5.19";

/// A sandbox could not be made. Everything that was made of it is gone by the time the caller sees this.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot make the cgroup folder {folder}")]
    MakeCgroup {
        folder: Place,
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Limit(#[from] LimitError),
    #[error(transparent)]
    Unit(#[from] UnitError),
    #[error("cannot say which devices may be used")]
    ListDevices {
        #[source]
        source: Errno,
    },
    #[error("cannot join its cgroups")]
    JoinCgroups {
        #[source]
        source: Errno,
    },
    #[error(
        "cannot keep to `--nofile`: {wanted} open files are more than this process may give on ({most})"
    )]
    LimitFiles {
        wanted: u64,
        most: u64,
        #[source]
        source: Errno,
    },
    #[error("cannot make the namespaces")]
    MakeNamespaces {
        #[source]
        source: Errno,
    },
    #[error("cannot open network namespace `{}`", path.display())]
    OpenNetwork {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot use `{}` as a network: it is no network namespace", path.display())]
    NoNetwork { path: PathBuf },
    #[error("cannot use network namespace `{}`: it belongs to the host's own ids", path.display())]
    NetworkOfHost { path: PathBuf },
    #[error("cannot open `{}`", path.display())]
    OpenLayer {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot map the ids of `{}` (file system: {file_system})", path.display())]
    MapIds {
        path: PathBuf,
        file_system: String,
        #[source]
        source: Errno,
    },
    #[error("cannot map the ids of volume `{}` (file system: {file_system})", path.display())]
    MapVolume {
        path: PathBuf,
        file_system: String,
        #[source]
        source: Errno,
    },
    #[error("cannot stack the layers (file system: {file_system})")]
    StackLayers {
        file_system: String,
        #[source]
        source: KernelAnswer,
    },
    #[error("cannot stack the layers: the kernel made them read-only (file system: {file_system})")]
    ReadOnlyRoot { file_system: String },
    #[error("cannot make device `/dev/{}`", place.display())]
    MakeNode {
        place: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot make what hides parts of /proc and /sys")]
    MakeMask {
        #[source]
        source: Errno,
    },
    #[error("cannot make the view of sysfs")]
    MakeSysfs {
        #[source]
        source: Errno,
    },
    #[error("cannot make device node or link `/dev/{name}`")]
    MakeDevice {
        name: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot open volume `{}` of the host", path.display())]
    OpenVolume {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot open `{}` to supply it to the sandbox", path.display())]
    OpenSupplied {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot lock the restrictions of the volumes")]
    LockVolumes {
        #[source]
        source: Errno,
    },
    #[error("cannot put the resident programs in memory")]
    LoadResident {
        #[source]
        source: Errno,
    },
    #[error("cannot start the supervisor")]
    StartSupervisor {
        #[source]
        source: Errno,
    },
    #[error("cannot enter the namespaces")]
    EnterNamespaces {
        #[source]
        source: Errno,
    },
    #[error("cannot {what}")]
    Assemble {
        what: String,
        #[source]
        source: Errno,
    },
    #[error("cannot execute root process `{program}`")]
    ExecuteRootProcess {
        program: String,
        #[source]
        source: Errno,
    },
    #[error("the new process ended before it could say why")]
    Vanished,
    #[error("cannot do without {feature}: it came with Linux {since}, this is {running}")]
    KernelTooOld {
        feature: &'static str,
        since: &'static str,
        running: String,
    },
}

impl SandboxError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            SandboxError::MapIds {
                path, file_system, ..
            } => Some(format!(
                "put `{}` on ext4, xfs or btrfs (now: {file_system}), or use --privileged.",
                path.display()
            )),
            SandboxError::MapVolume { .. } => Some(
                "say `:raw` behind the volume, which shows its files with the host's ids, or put it, and what is mounted \
                 below it, on ext4, xfs, btrfs or tmpfs."
                    .into(),
            ),
            SandboxError::StackLayers { file_system, .. }
            | SandboxError::ReadOnlyRoot { file_system } => Some(format!(
                "put COCKER_HOME on ext4, xfs or btrfs (now: {file_system})."
            )),
            SandboxError::OpenVolume { path, .. } => Some(format!(
                "make `{}` first, or correct the path.",
                path.display()
            )),
            SandboxError::Limit(source) => source.hint(),
            SandboxError::Unit(source) => source.hint(),
            SandboxError::LimitFiles { most, .. } => Some(format!(
                "say at most {most}, or raise the hard limit of whoever calls cocker: only CAP_SYS_RESOURCE may pass it."
            )),
            SandboxError::ExecuteRootProcess { .. } => {
                Some("name a program that the image has; without --exec the container boots with cockerinit.".into())
            }
            SandboxError::KernelTooOld { .. } => {
                Some(format!("boot Linux {NEEDED_IN_ALL} or later, which has all that cocker needs."))
            }
            SandboxError::MakeNamespaces { source } if *source == Errno::NOSPC => Some(
                "raise the limits of namespaces: sysctl user.max_user_namespaces and its kind.".into(),
            ),
            _ => None,
        }
    }
}

/// Makes `error` a [`SandboxError::KernelTooOld`] where the kernel does not know the call or the running kernel is older
/// than the one that brought `feature`.
pub(crate) fn or_too_old(
    error: SandboxError,
    errno: Errno,
    feature: &'static str,
    since: &'static str,
) -> SandboxError {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let is_unknown_call = errno == Errno::NOSYS;
    let is_unknown_use = errno == Errno::INVAL && version_of(&release) < version_of(since);
    if is_unknown_call || is_unknown_use {
        SandboxError::KernelTooOld {
            feature,
            since,
            running: release,
        }
    } else {
        error
    }
}

/// The first two numbers of the running kernel's release.
pub fn running_kernel() -> (u32, u32) {
    version_of(&rustix::system::uname().release().to_string_lossy())
}

/// The first two numbers of a kernel release.
fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The name of the file system that `path` lies on, for messages.
pub(crate) fn file_system_name(path: &Path) -> String {
    let magic = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::fs::fstatfs(&fd))
    {
        Ok(statistics) => statistics.f_type as u64,
        Err(_) => return "unknown".into(),
    };
    match magic {
        0xef53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683e => "btrfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x8584_58f6 => "ramfs".into(),
        0x794c_7630 => "overlay".into(),
        0x6969 => "nfs".into(),
        0x4d44 => "vfat".into(),
        0x0102_1997 => "9p".into(),
        0x6573_5546 => "fuse".into(),
        0x9fa0 => "proc".into(),
        0x6265_6572 => "sysfs".into(),
        0x2fc1_2fc1 => "zfs".into(),
        0xf2f5_2010 => "f2fs".into(),
        0x0187 => "autofs".into(),
        other => format!("of type {other:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_compare_as_numbers() {
        assert!(version_of("5.9.0-rc1") < version_of("5.19"));
        assert!(version_of("6.1.0-32-cloud-amd64") > version_of("5.19"));
        assert_eq!(version_of("6.18.44-fc"), (6, 18));
        assert_eq!(version_of("odd"), (0, 0));
    }

    #[test]
    fn a_missing_call_means_the_kernel_is_too_old() {
        let error = or_too_old(
            SandboxError::Vanished,
            Errno::NOSYS,
            "id-mapped mounts",
            "5.12",
        );
        assert!(
            error
                .to_string()
                .starts_with("cannot do without id-mapped mounts")
        );
        assert!(error.hint().is_some_and(|hint| hint.contains("5.19")));
    }
}
