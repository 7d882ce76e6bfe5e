//! Switches of the kernel below /proc/sys/net, for the network namespace that the caller is in (sysctl/net in the
//! kernel's documentation).

use cocker_sys::fault;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// `PROC_SUPER_MAGIC` of linux/magic.h.
const PROC: u64 = 0x9fa0;

/// A switch could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set `{path}` to {value}")]
pub struct SysctlError {
    pub path: String,
    pub value: &'static str,
    #[source]
    pub source: Errno,
}

/// Sets `net/<name>` to `value` unless it has that already.
pub(crate) fn set(name: &str, value: &'static str) -> Result<(), SysctlError> {
    set_path(format!("/proc/sys/net/{name}"), value)
}

/// The same where the kernel may not have the switch; says whether it has.
pub(crate) fn set_if_known(name: &str, value: &'static str) -> Result<bool, SysctlError> {
    match set(name, value) {
        Ok(()) => Ok(true),
        Err(error) if error.source == Errno::NOENT => Ok(false),
        Err(error) => Err(error),
    }
}

/// Says whether this kernel speaks IPv6.
pub(crate) fn has_ipv6() -> bool {
    rustix::fs::access("/proc/sys/net/ipv6", rustix::fs::Access::EXISTS).is_ok()
}

/// The links that have switches of IPv6, by name.
pub(crate) fn links_of_ipv6() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/sys/net/ipv6/conf");
    let names = entries.into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| !matches!(name.as_str(), "all" | "default"))
        .collect()
}

/// Says whether a switch stands so.
pub(crate) fn is(name: &str, value: &str) -> bool {
    let mut now = [0; 16];
    open(&format!("/proc/sys/net/{name}"), OFlags::RDONLY)
        .and_then(|file| rustix::io::read(file, &mut now))
        .is_ok_and(|length| now[..length].trim_ascii() == value.as_bytes())
}

fn set_path(path: String, value: &'static str) -> Result<(), SysctlError> {
    let write = || -> Result<(), Errno> {
        let mut now = [0; 16];
        // Also where /proc/sys is read-only a switch that is right already is no reason to fail.
        let length = rustix::io::read(open(&path, OFlags::RDONLY)?, &mut now)?;
        if now[..length].trim_ascii() == value.as_bytes() {
            return Ok(());
        }
        let file = open(&path, OFlags::WRONLY)?;
        fault::step("sysctl.write", || {
            rustix::io::write(&file, value.as_bytes())
        })
        .map(drop)
    };
    write().map_err(|source| SysctlError {
        path: path.clone(),
        value,
        source,
    })
}

/// What is written to must be the kernel's switch and not a file that somebody mounted in its place.
fn open(path: &str, access: OFlags) -> Result<rustix::fd::OwnedFd, Errno> {
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    match rustix::fs::fstatfs(&file)?.f_type as u64 {
        PROC => Ok(file),
        _ => Err(Errno::NOTTY),
    }
}
