//! Signals, as a process wants them right before it executes another program, or for work that none may break off.

use crate::process::checked;
use rustix::io::Errno;

/// Signals have the numbers from 1 on (signal(7)).
const MOST_SIGNALS: i32 = 64;

/// Gives every signal its default action and blocks none: what a program expects at its start.
///
/// A handler is reset by execution itself, but an ignored signal (Rust ignores SIGPIPE) stays ignored.
pub fn reset_all() -> Result<(), Errno> {
    // Handler SIG_DFL, no flags, no restorer, an empty mask, as the kernel lays it out. The C library would refuse two signals,
    // which it keeps for itself.
    let default = [0_u64; 4];
    for signal in 1..=MOST_SIGNALS {
        // KILL and STOP are refused, and always have theirs.
        // SAFETY: the kernel reads one sigaction, and `default` is that; no function is installed, and no old one asked for.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                &raw const default,
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    set_mask(0)
}

/// Blocks every signal that can be blocked: all but KILL and STOP (signal(7)).
pub fn block_all() -> Result<(), Errno> {
    set_mask(u64::MAX)
}

/// Blocks this signal and no other; a program that is executed then begins so.
pub fn block_only(signal: i32) -> Result<(), Errno> {
    set_mask(1 << (signal - 1))
}

fn set_mask(set: u64) -> Result<(), Errno> {
    // SAFETY: the set is one 64-bit word that outlives the call, its size is given, and no old set is asked for.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    checked(answer)
}
