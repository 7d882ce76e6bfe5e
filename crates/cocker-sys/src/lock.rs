//! Locks of open files: flock(2), and those of fcntl(2), "Open file description locks".
//!
//! Both belong to the open file, so a process that inherits the descriptor holds them on when we end. Of the second kind
//! anybody can ask whether it is held without taking it.
//!
//! Locks of processes are a third kind (fcntl(2), "Advisory record locking"): of such a one the kernel says which process holds
//! it, so whoever holds it can be found without a number that somebody has written down.
//!
//! Locks are held for moments. Whoever waits for one longer than [`PATIENCE`] tells by whom it is held: somebody may have
//! stopped that process.

mod holders;
mod interruption;

pub use holders::Holder;

use crate::process::checked;
use interruption::Interruption;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Pid;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// After so long whoever waits says for whom.
const PATIENCE: Duration = Duration::from_secs(1);

/// Is told of a lock that is waited for: the file that is locked, and by whom; by nobody where the kernel does not say.
pub type Teller = fn(&Path, &[Holder]);

static TELLER: OnceLock<Teller> = OnceLock::new();

/// Whom every long wait of this process is told from now on. The first one that is given stays.
pub fn tell_of_waiting(teller: Teller) {
    let _ = TELLER.set(teller);
}

/// flock(2), not broken off by signals.
///
/// # Errors
/// `EAGAIN` when the operation does not wait and another open file is in the way.
pub fn flock(file: impl AsFd, operation: FlockOperation) -> Result<(), Errno> {
    let file = file.as_fd();
    let take = |operation| rustix::fs::flock(file, operation);
    let at_once = match operation {
        FlockOperation::LockExclusive => FlockOperation::NonBlockingLockExclusive,
        FlockOperation::LockShared => FlockOperation::NonBlockingLockShared,
        _ => return rustix::io::retry_on_intr(|| take(operation)),
    };
    match take(at_once) {
        Err(Errno::AGAIN | Errno::INTR) => wait(file, || take(operation)),
        done => done,
    }
}

/// The exclusive lock of flock(2), waited for up to a moment; nobody is told of that.
///
/// # Errors
/// `ETIMEDOUT` when another open file was in the way until then.
pub fn flock_until(file: impl AsFd, deadline: Instant) -> Result<(), Errno> {
    let file = file.as_fd();
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::INTR) => until(deadline, || {
            rustix::fs::flock(file, FlockOperation::LockExclusive)
        }),
        done => done,
    }
}

/// Waits for a lock up to a moment.
fn until(deadline: Instant, take: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    /// How much later than the moment it may get.
    const TICK: Duration = Duration::from_millis(20);
    let _interruption = Interruption::every(TICK)?;
    loop {
        match take() {
            Err(Errno::INTR) if Instant::now() >= deadline => return Err(Errno::TIMEDOUT),
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Waits for a lock that somebody holds.
fn wait(file: BorrowedFd<'_>, take: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    // Where it cannot be had nobody is told.
    let mut interruption = Interruption::every(PATIENCE).ok();
    loop {
        match take() {
            Err(Errno::INTR) => {}
            done => return done,
        }
        if interruption.take_if(|it| it.came()).is_some()
            && let Some(tell) = TELLER.get()
        {
            tell(&holders::path(file), &holders::of(file));
        }
    }
}

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
    match try_lock(&file) {
        Err(Errno::AGAIN | Errno::INTR) => wait(file.as_fd(), || {
            command(&file, libc::F_OFD_SETLKW, &mut whole_file())
        }),
        done => done,
    }
}

/// The same as [`wait_lock`] up to a moment; nobody is told of that.
///
/// # Errors
/// `ETIMEDOUT` when it was not free by then.
pub fn wait_lock_until(file: impl AsFd, deadline: Instant) -> Result<(), Errno> {
    match try_lock(&file) {
        Err(Errno::AGAIN | Errno::INTR) => until(deadline, || {
            command(&file, libc::F_OFD_SETLKW, &mut whole_file())
        }),
        done => done,
    }
}

/// The processes that hold any lock on this file, as far as they may be looked at.
pub fn holders(file: impl AsFd) -> Vec<Holder> {
    holders::of(file.as_fd())
}

/// Takes the lock on the whole file for this process, waiting until it is free. It goes when the process ends, and also when it
/// closes any descriptor of that file; it stays over an execution (execve(2)), and no child of a fork has it.
pub fn wait_process_lock(file: impl AsFd) -> Result<(), Errno> {
    loop {
        match command(&file, libc::F_SETLKW, &mut whole_file()) {
            Err(Errno::INTR) => continue,
            other => return other,
        }
    }
}

/// The other process that holds the lock of [`wait_process_lock`], if one does; takes nothing.
pub fn process_lock_holder(file: impl AsFd) -> Result<Option<Pid>, Errno> {
    let mut lock = whole_file();
    command(&file, libc::F_GETLK, &mut lock)?;
    Ok(match lock.l_type == libc::F_UNLCK as libc::c_short {
        true => None,
        false => Pid::from_raw(lock.l_pid),
    })
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
    // SAFETY: these commands read and write one `flock`, which outlives the call.
    let answer = unsafe { libc::fcntl(file.as_fd().as_raw_fd(), what, lock as *mut libc::flock) };
    checked(answer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a signal does holds for all threads, and a child has copies of all that is open until it executes: tests that wait or
    /// start somebody do so one after the other.
    static WAITING: std::sync::Mutex<()> = std::sync::Mutex::new(());

    #[test]
    fn whoever_waits_long_is_told_who_holds_it() {
        let _alone = WAITING.lock();
        use std::process::{Command, Stdio};
        use std::sync::Mutex;

        static TOLD: Mutex<Vec<(std::path::PathBuf, Vec<Holder>)>> = Mutex::new(Vec::new());
        tell_of_waiting(|path, holders| {
            let told = (path.to_owned(), holders.to_vec());
            TOLD.lock().unwrap().push(told);
        });
        let folder = tempfile::TempDir::new().expect("a folder");
        let open = || std::fs::File::open(folder.path());
        let (held, wanted) = (open().unwrap(), open().unwrap());
        flock(&held, FlockOperation::LockExclusive).unwrap();
        assert_eq!(
            flock(&wanted, FlockOperation::NonBlockingLockShared),
            Err(Errno::AGAIN)
        );
        // Somebody else holds it on when it is not ours any more.
        let mut other = Command::new("/bin/sleep")
            .arg("60")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(held)))
            .spawn()
            .expect("sleep(1) is there");
        let holder = Holder {
            pid: other.id(),
            command: "/bin/sleep 60".into(),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // It goes when that was told, or by itself.
                while TOLD.lock().unwrap().is_empty() && other.try_wait().unwrap().is_none() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other.kill().unwrap();
                other.wait().unwrap();
            });
            flock(&wanted, FlockOperation::LockShared).unwrap();
        });
        let told = std::mem::take(&mut *TOLD.lock().unwrap());
        assert_eq!(told, [(folder.path().to_owned(), vec![holder])]);
    }

    #[test]
    fn a_lock_belongs_to_the_open_file_and_is_seen_by_others() {
        let _alone = WAITING.lock();
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

    #[test]
    fn a_wait_for_a_lock_ends_when_it_is_too_late() {
        let _alone = WAITING.lock();
        let path = tempfile::NamedTempFile::new().expect("a file");
        let open = || std::fs::File::options().write(true).open(path.path());
        let (one, other) = (open().unwrap(), open().unwrap());
        let soon = || Instant::now() + Duration::from_millis(20);
        let late = || Instant::now() + Duration::from_secs(20);
        try_lock(&one).unwrap();
        assert_eq!(wait_lock_until(&other, soon()), Err(Errno::TIMEDOUT));
        assert_eq!(flock_until(&one, late()), Ok(()));
        assert_eq!(flock_until(&other, soon()), Err(Errno::TIMEDOUT));
        drop(one);
        assert_eq!(wait_lock_until(&other, late()), Ok(()));
        assert_eq!(flock_until(&other, late()), Ok(()));
    }

    #[test]
    fn the_process_that_holds_a_lock_is_known_and_keeps_it_over_an_execution() {
        let _alone = WAITING.lock();
        use std::io::Read;
        use std::os::unix::process::CommandExt;
        // The path alone: execution would close another descriptor of the file, and the lock would go with it.
        let path = tempfile::NamedTempFile::new()
            .expect("a file")
            .into_temp_path();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        assert_eq!(process_lock_holder(&file), Ok(None));
        let number = file.as_raw_fd();
        let mut command = std::process::Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped());
        let lock = move || {
            // SAFETY: the parent keeps it open until this process has been made.
            let file = unsafe { rustix::fd::BorrowedFd::borrow_raw(number) };
            rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty())?;
            wait_process_lock(file)?;
            Ok(())
        };
        // SAFETY: between fork and execution the closure makes system calls only.
        unsafe { command.pre_exec(lock) };
        // Returns when `cat` was executed.
        let mut holder = command.spawn().unwrap();
        assert_eq!(
            process_lock_holder(&file),
            Ok(Pid::from_raw(holder.id() as i32))
        );
        drop(holder.stdin.take());
        let mut nothing = Vec::new();
        holder
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut nothing)
            .unwrap();
        holder.wait().unwrap();
        assert_eq!(process_lock_holder(&file), Ok(None));
    }
}
