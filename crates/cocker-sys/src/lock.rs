//! Locks of open files (fcntl(2), "Open file description locks").
//!
//! Such a lock belongs to the open file, so a process that inherits the descriptor holds it on when we end, and anybody
//! can ask whether it is held without taking it.

use crate::process::checked;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;

/// Takes the exclusive lock on the whole file if it is free.
///
/// # Errors
/// `EAGAIN` when another open file holds it.
pub fn try_lock(file: impl AsFd) -> Result<(), Errno> {
    match command(&file, libc::F_OFD_SETLK, &mut whole_file()) {
        Err(Errno::ACCESS) => Err(Errno::AGAIN),
        other => other,
    }
}

/// Takes the exclusive lock on the whole file, waiting until it is free.
pub fn wait_lock(file: impl AsFd) -> Result<(), Errno> {
    loop {
        match command(&file, libc::F_OFD_SETLKW, &mut whole_file()) {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}

/// Says whether another open file holds the lock; takes nothing.
pub fn is_locked(file: impl AsFd) -> Result<bool, Errno> {
    let mut lock = whole_file();
    command(&file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

fn whole_file() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

fn command(file: &impl AsFd, what: libc::c_int, lock: &mut libc::flock) -> Result<(), Errno> {
    // SAFETY: these three commands read and write one `flock`, which outlives the call.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), what, lock as *mut libc::flock) };
    checked(answer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_belongs_to_the_open_file_and_is_seen_by_others() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let open = || {
            std::fs::File::options()
                .write(true)
                .read(true)
                .open(path.path())
        };
        let (one, other) = (open().unwrap(), open().unwrap());
        assert_eq!(is_locked(&other), Ok(false));
        try_lock(&one).unwrap();
        assert_eq!(is_locked(&other), Ok(true));
        // Its own lock stands in nobody's own way.
        assert_eq!(is_locked(&one), Ok(false));
        assert_eq!(try_lock(&other), Err(Errno::AGAIN));
        let copy = one.try_clone().unwrap();
        drop(one);
        assert_eq!(try_lock(&other), Err(Errno::AGAIN));
        drop(copy);
        wait_lock(&other).unwrap();
    }
}
