//! What the kernel says of a namespace that a descriptor is open on (ioctl_ns(2)).

use crate::process::checked;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;
use std::sync::atomic::{AtomicBool, Ordering};

/// `NSFS_MAGIC` of linux/magic.h: the file system whose files are the namespaces.
const NSFS: u64 = 0x6e73_6673;

/// `PROC_USER_INIT_INO` of the kernel's proc_ns.h: the inode of the user namespace that is there from the start.
const FIRST_USER_NAMESPACE: u64 = 0xefff_fffd;

/// Says whether `file` is open on a network namespace, and not on another one or on anything else.
pub fn is_network(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    if !is_namespace(file)? {
        return Ok(false);
    }
    // SAFETY: it is a file of nsfs, where this request takes no argument and answers a number.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    checked(kind.into())?;
    Ok(kind == libc::CLONE_NEWNET)
}

/// Opens the user namespace that owns `namespace`, close-on-exec: whoever is root in that one may do there what it likes.
///
/// # Errors
/// `EPERM` where the owner is neither our own user namespace nor one below it, `ENOTTY` where `namespace` is none.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    if !is_namespace(namespace)? {
        return Err(Errno::NOTTY);
    }
    // SAFETY: it is a file of nsfs, where this request takes no argument and answers a descriptor.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_USERNS) };
    checked(answer.into())?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// Opens the user namespace above `namespace`, which is one too, close-on-exec.
///
/// # Errors
/// `EPERM` where there is none above, or we are neither in it nor above it, `ENOTTY` where `namespace` is none.
pub fn parent(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    if !is_namespace(namespace)? {
        return Err(Errno::NOTTY);
    }
    // SAFETY: it is a file of nsfs, where this request takes no argument and answers a descriptor.
    let answer = unsafe { libc::ioctl(namespace.as_raw_fd(), libc::NS_GET_PARENT) };
    checked(answer.into())?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(answer) })
}

/// How many ids this process's user namespace has, from 0 on in one piece: all of them, [`u32::MAX`], in the host's own
/// (user_namespaces(7), "/proc/[pid]/uid_map").
pub fn own_ids() -> u32 {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    mapped(&map)
}

/// Says whether this process is in a user namespace below the host's, where it is root of some ids only.
pub fn is_below_the_host() -> bool {
    // Asked often, and the first one's map need not be read.
    let own = rustix::fs::stat("/proc/self/ns/user");
    !own.is_ok_and(|own| own.st_ino == FIRST_USER_NAMESPACE) && own_ids() != u32::MAX
}

/// Whether this process stands for an ordinary user, who has become root of a namespace of its own for this. Root of another
/// one, as in a container, does not.
static STANDS_FOR_A_USER: AtomicBool = AtomicBool::new(false);

/// Says whether [`stand_for_a_user`] was called.
pub fn stands_for_a_user() -> bool {
    STANDS_FOR_A_USER.load(Ordering::Relaxed)
}

/// Notes that whatever is done from here on is done for an ordinary user of the host.
pub fn stand_for_a_user() {
    STANDS_FOR_A_USER.store(true, Ordering::Relaxed);
}

fn mapped(map: &str) -> u32 {
    let mut count: u32 = 0;
    for line in map.lines() {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        match (fields.next(), fields.nth(1)) {
            (Some(Ok(inside)), Some(Ok(more))) if inside == count => {
                count = count.saturating_add(more);
            }
            _ => break,
        }
    }
    count
}

/// To the driver of any other file the numbers of the requests above may mean anything.
fn is_namespace(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fstatfs(file)?.f_type as u64 == NSFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_network_namespace_is_told_from_everything_else() {
        let is_network = |path| is_network(File::open(path).expect("it is there").as_fd());
        assert_eq!(is_network("/proc/self/ns/net"), Ok(true));
        assert_eq!(is_network("/proc/self/ns/uts"), Ok(false));
        assert_eq!(is_network("/dev/null"), Ok(false));
        assert_eq!(is_network("/proc/self/status"), Ok(false));
        assert_eq!(is_network("/"), Ok(false));
        let file = File::open("/dev/null").expect("it is there");
        assert_eq!(owner(file.as_fd()).err(), Some(Errno::NOTTY));
    }

    #[test]
    fn ids_are_counted_as_far_as_they_are_in_one_piece() {
        assert_eq!(mapped("         0          0 4294967295\n"), u32::MAX);
        assert_eq!(mapped("0 1000 1\n1 100000 65535\n"), 65_536);
        assert_eq!(mapped("0 1000 1\n5 100000 65535\n"), 1);
        assert_eq!(mapped("1000 1000 1\n"), 0);
        assert_eq!(mapped(""), 0);
    }

    #[test]
    fn the_owner_of_a_namespace_is_a_user_namespace() {
        let ours = File::open("/proc/self/ns/uts").expect("/proc is mounted");
        let owner = match owner(ours.as_fd()) {
            // A test that runs in a user namespace of its own may not see who owns the namespaces around it.
            Err(Errno::PERM) => return,
            other => File::from(other.expect("every namespace has an owner")),
        };
        let owner = owner.metadata().expect("it is open");
        let known = std::fs::metadata("/proc/self/ns/user").expect("/proc is mounted");
        assert_eq!((owner.dev(), owner.ino()), (known.dev(), known.ino()));
    }
}
