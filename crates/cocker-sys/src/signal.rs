//! Signals, as a process wants them right before it executes another program, or for work that none may break off.

use crate::process::checked;
use rustix::io::Errno;

/// Gives every signal its default action and blocks none: what a program expects at its start.
///
/// A handler is reset by execution itself, but an ignored signal (Rust ignores SIGPIPE) stays ignored.
pub fn reset_all() -> Result<(), Errno> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // The C library keeps two signals for itself and refuses them; they are never ignored.
        // SAFETY: SIG_DFL installs no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(0)
}

/// Has ended children wait for us, as they do unless somebody has this signal ignored: then none can be asked how it ended.
pub fn keep_children() {
    // SAFETY: SIG_DFL installs no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
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
