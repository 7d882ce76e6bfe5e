//! The time between a container's end and its next boot: the process sleeps in this program, and not in `cocker`, which is a
//! hundred times as large.
//!
//! Nothing needs it and it needs nothing: the lock that says who waits is the process's own and stays over the execution, so it is
//! ended by a signal, and then nobody waits.
//!
//! Arguments: the container's name, `wait`, how many milliseconds, the number of the descriptor that bears the lock. Descriptors:
//! 0 1 2 /dev/null, 3 the `cocker` program, 4 the container's folder, and that one.
use core::ffi::CStr;

use crate::raw::{self, Fd, Invocation};
use crate::{BROKEN, decimal};

/// In place of a stop signal.
pub const WAIT: &CStr = c"wait";

const PROGRAM: Fd = Fd(3);

/// Sleeps, then executes what boots the container.
pub fn wait(invocation: &Invocation) -> ! {
    raw::name_process(c"cocker-waits");
    raw::forbid_dumps();
    let (Some(time), Some(lock)) = (invocation.argument(3), invocation.argument(4)) else {
        raw::exit(BROKEN)
    };
    let end_ms = raw::now_ms() + u64::from(decimal(time).unwrap_or(0));
    loop {
        let left = end_ms.saturating_sub(raw::now_ms());
        if left == 0 {
            break;
        }
        // Interrupted, it goes on with what is left.
        let _ = raw::poll(&mut [], i32::try_from(left).unwrap_or(i32::MAX));
    }
    raw::execute(PROGRAM, [c"cocker", c"boot-again", lock], invocation);
    raw::exit(BROKEN)
}
