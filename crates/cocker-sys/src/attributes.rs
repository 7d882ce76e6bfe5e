//! Extended attributes of the entries of an open folder, whatever they are.
//!
//! The calls of xattr(7) that take a descriptor refuse `O_PATH`, and so cannot reach symbolic links, FIFOs and devices
//! without opening them. Linux 6.13 has calls that take a folder and a name. Before it the link `/proc/self/fd/N` of a file held
//! with `O_PATH` does, which stands for the inode itself and not for a path to it. Nothing is ever followed.

use crate::process::checked;
use rustix::fs::{Mode, OFlags, XattrFlags, openat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

// The same numbers on every architecture (arch/*/syscall tables, Linux 6.13).
const SYS_SETXATTRAT: libc::c_long = 463;
const SYS_GETXATTRAT: libc::c_long = 464;
const SYS_LISTXATTRAT: libc::c_long = 465;
const SYS_REMOVEXATTRAT: libc::c_long = 466;

/// `struct xattr_args` of setxattrat(2) and getxattrat(2).
#[repr(C)]
struct Arguments {
    value: u64,
    size: u32,
    flags: u32,
}

/// Writes the names of all attributes of the entry `file` into `names`, each ended by NUL; returns how many bytes
/// there are. The kernel never has more than 64 KiB of them.
///
/// # Errors
/// `ERANGE` when the buffer is too small; `EOPNOTSUPP` where the file system has no attributes.
pub fn list(folder: BorrowedFd<'_>, file: &CStr, names: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the path ends with NUL, and the kernel writes at most the given length into the buffer, which lives
    // through the call.
    let answer = unsafe {
        libc::syscall(
            SYS_LISTXATTRAT,
            folder.as_raw_fd(),
            file.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            names.as_mut_ptr(),
            names.len(),
        )
    };
    match length(answer) {
        Err(Errno::NOSYS) => rustix::fs::listxattr(path_of(&hold(folder, file)?), names),
        answer => answer,
    }
}

/// Writes the value of one attribute into `value`; returns its length, which the kernel bounds at 64 KiB.
///
/// # Errors
/// `ERANGE` when the buffer is too small; `ENODATA` when the file has no such attribute.
pub fn get(
    folder: BorrowedFd<'_>,
    file: &CStr,
    name: &CStr,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let arguments = Arguments {
        value: value.as_mut_ptr() as u64,
        size: u32::try_from(value.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    // SAFETY: both strings end with NUL, the structure has the size that is told, and the buffer it points to is at
    // least as long as it says and lives through the call.
    let answer = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            folder.as_raw_fd(),
            file.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw const arguments,
            size_of::<Arguments>(),
        )
    };
    match length(answer) {
        Err(Errno::NOSYS) => rustix::fs::getxattr(path_of(&hold(folder, file)?), name, value),
        answer => answer,
    }
}

/// Gives the entry an attribute, or another value to one that it has.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no such attributes; `EPERM` for `user.` attributes of anything but regular files
/// and folders.
pub fn set(folder: BorrowedFd<'_>, file: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let arguments = Arguments {
        value: value.as_ptr() as u64,
        size: u32::try_from(value.len()).map_err(|_| Errno::TOOBIG)?,
        flags: 0,
    };
    // SAFETY: both strings end with NUL, the structure has the size that is told, and the kernel only reads the value,
    // which is as long as it says and lives through the call.
    let answer = unsafe {
        libc::syscall(
            SYS_SETXATTRAT,
            folder.as_raw_fd(),
            file.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
            &raw const arguments,
            size_of::<Arguments>(),
        )
    };
    match checked(answer) {
        Err(Errno::NOSYS) => {
            let held = hold(folder, file)?;
            rustix::fs::setxattr(path_of(&held), name, value, XattrFlags::empty())
        }
        answer => answer,
    }
}

/// Takes an attribute away from the entry.
///
/// # Errors
/// `ENODATA` when the file has no such attribute.
pub fn remove(folder: BorrowedFd<'_>, file: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end with NUL.
    let answer = unsafe {
        libc::syscall(
            SYS_REMOVEXATTRAT,
            folder.as_raw_fd(),
            file.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            name.as_ptr(),
        )
    };
    match checked(answer) {
        Err(Errno::NOSYS) => rustix::fs::removexattr(path_of(&hold(folder, file)?), name),
        answer => answer,
    }
}

/// Holds an entry without opening it.
fn hold(folder: BorrowedFd<'_>, file: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, file, flags, Mode::empty())
}

/// The name by which the kernel knows the inode that a descriptor of this process holds.
fn path_of(held: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", held.as_raw_fd())
}

fn length(answer: libc::c_long) -> Result<usize, Errno> {
    checked(answer)?;
    Ok(usize::try_from(answer).expect("a call that did not fail answers no negative number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn links_have_attributes_of_their_own() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let parent = std::fs::File::open(folder.path()).unwrap();
        let parent = parent.as_fd();
        std::os::unix::fs::symlink("target", folder.path().join("link")).unwrap();
        std::fs::write(folder.path().join("target"), "").unwrap();
        set(parent, c"link", c"trusted.cocker", b"of the\0link").unwrap();
        let mut value = [0; 64];
        let length = get(parent, c"link", c"trusted.cocker", &mut value).unwrap();
        assert_eq!(&value[..length], b"of the\0link");
        assert_eq!(
            get(parent, c"target", c"trusted.cocker", &mut value),
            Err(Errno::NODATA)
        );
        let length = list(parent, c"link", &mut value).unwrap();
        let mut names = value[..length].split(|&byte| byte == 0);
        assert!(names.any(|name| name == b"trusted.cocker"));
        set(parent, c"link", c"trusted.other", b"").unwrap();
        remove(parent, c"link", c"trusted.other").unwrap();
        assert_eq!(
            remove(parent, c"link", c"trusted.other"),
            Err(Errno::NODATA)
        );
        // What older kernels are asked through means the same inode.
        let held = hold(parent, c"link").unwrap();
        let length = rustix::fs::getxattr(path_of(&held), c"trusted.cocker", &mut value[..]);
        assert_eq!(&value[..length.unwrap()], b"of the\0link");
    }
}
