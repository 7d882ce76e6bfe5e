//! seccomp(2): filters of system calls.

use crate::process::checked;
use rustix::io::Errno;

/// One instruction of a filter (`struct sock_filter` of linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// Puts this thread, and every process and program that comes of it, under a filter; it can never be taken off. `log`: all
/// answers but "allow" are told to the audit log. `spec_allow`: the processor may guess as it does without a filter; without
/// it, the kernel's `spec_store_bypass_disable=` decides.
///
/// # Errors
/// `EACCES` without CAP_SYS_ADMIN in this user namespace or no_new_privs; `EINVAL` for what is no filter.
pub fn install(program: &[Instruction], log: bool, spec_allow: bool) -> Result<(), Errno> {
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let filter = libc::sock_fprog {
        len: length,
        // The kernel only reads it.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let log = if log {
        libc::SECCOMP_FILTER_FLAG_LOG
    } else {
        0
    };
    let guess = if spec_allow {
        libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW
    } else {
        0
    };
    // SAFETY: the kernel reads `length` instructions, each laid out as `sock_filter`, from memory that outlives the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            log | guess,
            &raw const filter,
        )
    };
    checked(answer)
}
