//! Where a program begins: C's `main`, without what the standard library does before its own.
//!
//! Of that, a program that lives for a millisecond needs two things, and they are done here: its standard descriptors are
//! open, and SIGPIPE is ignored. Besides, SIGCHLD is not, which the standard library leaves as it finds it. It does not need an
//! alternate stack for the message about an overflowing one, for which the standard library reads /proc/self/maps and makes a
//! mapping and some twenty calls.
//!
//! Before even the C library begins, a position-independent program that is linked with `-e cocker_begin` has its data brought
//! in by one call: relocation writes to every page of it, each of which would be a page fault of its own.

use crate::process::last_errno;
use rustix::io::Errno;
use std::ffi::c_int;

/// Makes a function `fn() -> u8`, whose value the caller's shell gets as `$?`, the program's beginning.
///
/// Stands in the root of a crate with `#![no_main]`. Arguments and environment are read with `std::env` as ever, which the
/// C library fills in before anything of the program runs. Nothing is written out afterwards that was left in a buffer.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        const _: () = {
            // SAFETY: a program has one `main`, of this type (C11 5.1.2.2.1); the linker refuses a second.
            #[unsafe(export_name = "main")]
            extern "C" fn begin(
                _count: ::core::ffi::c_int,
                _arguments: *const *const ::core::ffi::c_char,
            ) -> ::core::ffi::c_int {
                $crate::entry::prepare();
                let main: fn() -> u8 = $main;
                main().into()
            }
        };
    };
}

/// Defines `cocker_begin`, which a program is linked with `-e` to begin at.
#[macro_export]
macro_rules! begin {
    () => {
        // From .init_array, which lies before all that is relocated, to the end of .bss: madvise(2) with MADV_POPULATE_WRITE
        // (Linux 5.14; a kernel that does not know it answers with an error, and nothing is lost). The registers and the stack
        // that _start is to find (System V ABI, process initialization) are as they were.
        ::core::arch::global_asm!(
            ".pushsection .text.cocker_begin,\"ax\",@progbits",
            ".globl cocker_begin",
            ".type cocker_begin,@function",
            "cocker_begin:",
            "mov r8, rdx",
            "lea rdi, [rip + __init_array_start]",
            "and rdi, -4096",
            "lea rsi, [rip + _end]",
            "sub rsi, rdi",
            "mov edx, 23",
            "mov eax, 28",
            "syscall",
            "mov rdx, r8",
            "jmp _start",
            ".size cocker_begin, . - cocker_begin",
            ".popsection",
        );
    };
}

/// Opens /dev/null for standard descriptors that are closed, so that nothing opened later takes their numbers; has SIGPIPE
/// ignored, so that a reader that goes away is an error value; and has ended children wait for us, who could not be asked how
/// they ended where whoever executed this program ignored SIGCHLD. Ends the process where a descriptor stays closed.
pub fn prepare() {
    if open_standard_descriptors().is_err() {
        std::process::abort();
    }
    // SAFETY: SIG_IGN installs no function of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // SAFETY: nor does SIG_DFL.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

fn open_standard_descriptors() -> Result<(), Errno> {
    let mut descriptors = [0, 1, 2].map(|fd| libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    });
    // SAFETY: the array outlives the call, and its length is given.
    let answer = retried(|| unsafe { libc::poll(descriptors.as_mut_ptr(), 3, 0) });
    if answer? == 0 {
        return Ok(());
    }
    let closed = |it: &&libc::pollfd| it.revents & libc::POLLNVAL != 0;
    for _ in descriptors.iter().filter(closed) {
        // From the least on: `open` takes the lowest number that is free (open(2)).
        // SAFETY: the path is a C string.
        retried(|| unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })?;
    }
    Ok(())
}

fn retried(mut call: impl FnMut() -> c_int) -> Result<c_int, Errno> {
    rustix::io::retry_on_intr(|| match call() {
        -1 => Err(last_errno()),
        answer => Ok(answer),
    })
}
