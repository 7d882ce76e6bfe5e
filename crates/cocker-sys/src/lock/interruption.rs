//! A signal that interrupts a system call that waits: SIGALRM to the thread that waits (timer_create(2), `SIGEV_THREAD_ID`).

use crate::process::checked;
use rustix::io::Errno;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

static CAME: AtomicBool = AtomicBool::new(false);

/// While it lives, SIGALRM interrupts the thread that has made it.
pub struct Interruption {
    before: libc::sigaction,
    timer: libc::timer_t,
}

impl Interruption {
    /// A system call that waits so long gives `EINTR`. It comes again and again, since once may be just before the call.
    pub fn every(time: Duration) -> Result<Interruption, Errno> {
        CAME.store(false, Ordering::Relaxed);
        // SAFETY: all zero is the default action, with no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        // SAFETY: as above; it is written to before it is read.
        let mut before: libc::sigaction = unsafe { zeroed() };
        // SAFETY: numbers and a pointer, for each of which zero is valid.
        let mut event: libc::sigevent = unsafe { zeroed() };
        // No SA_RESTART: the call is to be interrupted.
        action.sa_sigaction = note as *const () as usize;
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = libc::SIGALRM;
        event.sigev_notify_thread_id = rustix::thread::gettid().as_raw_nonzero().get();
        let mut timer = ptr::null_mut();
        // SAFETY: both structures outlive the call.
        let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer) };
        checked(made.into())?;
        // SAFETY: `note` does nothing that a handler may not do, and both structures outlive the call.
        let taken = unsafe { libc::sigaction(libc::SIGALRM, &action, &mut before) };
        let time = libc::timespec {
            tv_sec: time.as_secs() as libc::time_t,
            tv_nsec: time.subsec_nanos().into(),
        };
        let time = libc::itimerspec {
            it_interval: time,
            it_value: time,
        };
        // From here on it is taken back whatever happens.
        let interruption = Interruption { before, timer };
        checked(taken.into())?;
        // SAFETY: the timer exists, the structure outlives the call, and no old time is asked for.
        checked(unsafe { libc::timer_settime(timer, 0, &time, ptr::null_mut()) }.into())?;
        Ok(interruption)
    }

    /// Whether it was this that interrupted.
    pub fn came(&self) -> bool {
        CAME.load(Ordering::Relaxed)
    }
}

impl Drop for Interruption {
    fn drop(&mut self) {
        // Neither can fail with these arguments. A signal that came meanwhile is ours still: it is taken before the first
        // call returns.
        // SAFETY: the timer exists.
        unsafe { libc::timer_delete(self.timer) };
        // SAFETY: the structure is what the kernel gave, or the default action.
        unsafe { libc::sigaction(libc::SIGALRM, &self.before, ptr::null_mut()) };
    }
}

extern "C" fn note(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}
