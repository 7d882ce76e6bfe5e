//! Children that live in this process's memory, as those of vfork(2) do. Nothing is copied for them, and nothing has to be
//! copied when either side writes later: after a fork every page that is written to costs both of them a fault.
//!
//! ```text
//! run     we stand still until the child has done its work, or is dead: what it does to memory we see when we go on
//! Holder  a child that does nothing but be there, while we go on
//! ```
//!
//! A child has its own credentials, namespaces, working folder and limits, and where it is not said otherwise descriptors.

use crate::process::{NewNamespaces, is_single_threaded, last_errno};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::ffi::{c_int, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whose descriptors a child opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptors {
    /// Ours: what it opens, we have.
    Shared,
    /// Copies of ours.
    Own,
}

/// The child that ran an errand. Dropping this waits for its end, which may come a little later than what it has done: the
/// kernel takes its namespaces away by then.
#[derive(Debug)]
pub struct Errand(OwnedFd);

impl Drop for Errand {
    fn drop(&mut self) {
        wait_for(&self.0);
    }
}

/// Runs `work` in a child that is born in new namespaces and shares our memory, and returns what it answers; `None` where the
/// child was killed before. `work` may itself make a copy of the process ([`crate::process::clone_sibling`]), which goes on
/// with a memory of its own.
///
/// # Errors
/// `EDEADLK` when this process has more than one thread, for the others would not stand still. Else what mmap(2) and clone(2)
/// answer.
pub fn run<T, F: FnOnce() -> T>(
    namespaces: NewNamespaces,
    descriptors: Descriptors,
    work: F,
) -> Result<(Option<T>, Errand), Errno> {
    if !is_single_threaded() {
        return Err(Errno::DEADLK);
    }
    let stack = Stack::new()?;
    let mut job = Job {
        work: Some(work),
        answer: None,
    };
    let files = match descriptors {
        Descriptors::Shared => libc::CLONE_FILES,
        Descriptors::Own => 0,
    };
    // SAFETY: until the child has given up our memory we stand still (CLONE_VFORK), so that it alone uses the job and the
    // stack, which both outlive that.
    let (_, pidfd) = unsafe {
        clone_into(
            namespaces,
            libc::CLONE_VFORK | files,
            &stack,
            carry_out::<T, F>,
            (&raw mut job).cast(),
        )
    }?;
    Ok((job.answer, Errand(pidfd)))
}

struct Job<T, F> {
    work: Option<F>,
    answer: Option<T>,
}

/// Where an errand's child begins, and ends when this returns. A panic does not leave it: the process is aborted.
extern "C" fn carry_out<T, F: FnOnce() -> T>(job: *mut c_void) -> c_int {
    // SAFETY: it is what `run` has passed, and nobody else uses it meanwhile.
    let job = unsafe { &mut *job.cast::<Job<T, F>>() };
    job.answer = job.work.take().map(|work| work());
    0
}

/// A child that stands in new namespaces until it is let go, so that they can be opened by its pid. Dropping this lets it go and
/// waits for its end.
#[derive(Debug)]
pub struct Holder {
    pid: Pid,
    pidfd: OwnedFd,
    release: Option<OwnedFd>,
    _stack: Stack,
}

impl Holder {
    /// Has one born.
    ///
    /// # Errors
    /// What pipe2(2), mmap(2) and clone(2) answer.
    pub fn new(namespaces: NewNamespaces) -> Result<Holder, Errno> {
        let (hold, release) = pipe_with(PipeFlags::CLOEXEC)?;
        let stack = Stack::new()?;
        let ends = pack(hold.as_raw_fd(), release.as_raw_fd());
        // SAFETY: the child uses nothing of our memory but its stack, which is there until it has ended.
        let (pid, pidfd) =
            unsafe { clone_into(namespaces, 0, &stack, be_there, ends as *mut c_void) }?;
        Ok(Holder {
            pid,
            pidfd,
            release: Some(release),
            _stack: stack,
        })
    }

    /// In our pid namespace.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it go, and does not wait: it may end while we do something else.
    pub fn release(&mut self) {
        self.release = None;
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release();
        wait_for(&self.pidfd);
    }
}

/// Two descriptors in one word, since the child must not look into memory that we may have changed by then.
fn pack(hold: RawFd, release: RawFd) -> usize {
    (hold as u32 as usize) | (release as u32 as usize) << 32
}

/// What a holder's child does: raw calls alone, which leave no errno and take no memory. It sees the pipe's end when we let it
/// go, or are gone ourselves.
extern "C" fn be_there(ends: *mut c_void) -> c_int {
    let (hold, release) = (
        ends as usize as u32 as RawFd,
        (ends as usize >> 32) as RawFd,
    );
    // SAFETY: a descriptor of the table that this child was born with a copy of, which nothing there owns.
    unsafe { rustix::io::close(release) };
    // SAFETY: another, and nobody closes it there.
    let hold = unsafe { BorrowedFd::borrow_raw(hold) };
    let _ = retry_on_intr(|| rustix::io::read(hold, &mut [0u8; 1]));
    0
}

/// The child's pid and its pidfd (close-on-exec).
///
/// # Safety
/// `entry` is sound to call with `argument` at any time until the child has ended, or with CLONE_VFORK until this returns, and
/// `stack` is there as long.
unsafe fn clone_into(
    namespaces: NewNamespaces,
    flags: c_int,
    stack: &Stack,
    entry: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Result<(Pid, OwnedFd), Errno> {
    let flags =
        flags | libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD | namespaces.flags() as c_int;
    let mut pidfd: c_int = -1;
    // SAFETY: the caller answers for entry and argument; the stack is ours alone and grows down from where it ends, and the
    // kernel puts the pidfd where the fifth argument points.
    let pid = unsafe { libc::clone(entry, stack.end(), flags, argument, &raw mut pidfd) };
    match pid {
        -1 => Err(last_errno()),
        pid => {
            let pid = Pid::from_raw(pid).expect("the kernel returns positive pids");
            // SAFETY: the kernel has just put a descriptor there that nobody else knows of.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok((pid, pidfd))
        }
    }
}

fn wait_for(child: &OwnedFd) {
    let child = || waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
    let _ = retry_on_intr(child);
}

/// Where a child has its frames. Below lies a page that nobody may touch. One is kept for the next child: to take memory away
/// that was used on another processor interrupts that one.
#[derive(Debug)]
struct Stack(*mut c_void);

// SAFETY: it is memory that only whoever has this uses.
unsafe impl Send for Stack {}

static SPARE: Mutex<Option<Stack>> = Mutex::new(None);

impl Stack {
    /// As much as a thread of the standard library has; what is not used takes no memory.
    const BYTES: usize = 2 << 20;
    const GUARD: usize = 4096;

    fn new() -> Result<Stack, Errno> {
        if let Some(spare) = spare().take() {
            return Ok(spare);
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::STACK;
        // SAFETY: a new mapping where the kernel finds room.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), Stack::BYTES, access, flags) }?;
        let stack = Stack(start);
        // SAFETY: nothing is there yet.
        unsafe { mprotect(start, Stack::GUARD, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    /// A multiple of 16, as the System V ABI asks for.
    fn end(&self) -> *mut c_void {
        self.0.wrapping_byte_add(Stack::BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut spare = spare();
        if spare.is_none() {
            *spare = Some(Stack(self.0));
            return;
        }
        // SAFETY: whoever owned this has waited for the child that used it.
        let _ = unsafe { munmap(self.0, Stack::BYTES) };
    }
}

fn spare() -> MutexGuard<'static, Option<Stack>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_threads_would_go_on_runs_no_errand() {
        // The test harness runs every test in a thread of its own, so there are at least two.
        let answer = run(NewNamespaces::default(), Descriptors::Own, || ());
        assert_eq!(answer.err(), Some(Errno::DEADLK));
    }
}
