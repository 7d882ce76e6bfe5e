//! landlock(7): what a process gives up by itself, for itself and all that comes of it.

use crate::process::checked;
use rustix::fd::{AsRawFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// The first version of the kernel's interface that knows scopes (Linux 6.12).
const WITH_SCOPES: libc::c_long = 6;

/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h: asks for the version and makes nothing.
const VERSION: libc::c_ulong = 1;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_UNIX_SOCKET: u64 = 1;

/// `struct landlock_ruleset_attr`. Without rights of files or of networks in it, nothing of those is asked about: above all,
/// mounts stay possible.
#[repr(C)]
struct Attributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// Whether the kernel can keep processes to sockets of their own; not so before Linux 6.12, nor where Landlock is not built in or
/// not switched on.
pub fn has_scopes() -> bool {
    let nothing = std::ptr::null::<Attributes>();
    // SAFETY: with this flag the kernel wants neither memory nor a size.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) };
    // Negative: ENOSYS or EOPNOTSUPP.
    version >= WITH_SCOPES
}

/// Keeps this thread, and every process and program that comes of it, from connecting or sending to an abstract unix socket that
/// somebody else has made; what they make themselves they reach. It can never be taken off.
///
/// False where the kernel cannot, see [`has_scopes`].
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN in this user namespace or no_new_privs; `E2BIG` below 16 such restrictions.
pub fn scope_abstract_sockets() -> Result<bool, Errno> {
    if !has_scopes() {
        return Ok(false);
    }
    let attributes = Attributes {
        handled_access_fs: 0,
        handled_access_net: 0,
        scoped: ABSTRACT_UNIX_SOCKET,
    };
    let size = size_of::<Attributes>();
    let no_flags: libc::c_ulong = 0;
    // SAFETY: the kernel reads `size` bytes of what is laid out as it says, and which outlives the call.
    let made = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size,
            no_flags,
        )
    };
    if made < 0 {
        return checked(made).map(|()| false);
    }
    let made = i32::try_from(made).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us, close-on-exec, and nobody else has it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(made) };
    // SAFETY: the call takes no memory; the descriptor is open for as long as it runs.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            no_flags,
        )
    };
    checked(answer).map(|()| true)
}
