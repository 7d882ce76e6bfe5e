//! What the two resident programs stand on in place of a C runtime: the entry, the memory routines that the compiler calls
//! by name, and the system calls that both need, each as a safe function.
//!
//! A resident has one thread and no heap, and never runs code in a signal handler: nothing changes its memory behind its
//! back. This crate makes no decision and knows no message; calls that only one of the two needs are in its own `raw.rs`.
#![no_std]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("the residents are written for Linux on x86_64");

mod entry;

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, Ordering};

use linux_raw_sys::general::{self as kernel, kernel_sigset_t, pollfd, timespec};
use linux_raw_sys::{errno, net, prctl};

/// The number of an error, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const ACCES: Self = Self(errno::EACCES as i32);
    pub const AGAIN: Self = Self(errno::EAGAIN as i32);
    pub const CHILD: Self = Self(errno::ECHILD as i32);
    pub const INTR: Self = Self(errno::EINTR as i32);
    pub const INVAL: Self = Self(errno::EINVAL as i32);
    pub const NODEV: Self = Self(errno::ENODEV as i32);
    pub const NOENT: Self = Self(errno::ENOENT as i32);
    pub const NOEXEC: Self = Self(errno::ENOEXEC as i32);
    pub const NOTDIR: Self = Self(errno::ENOTDIR as i32);
    pub const PIPE: Self = Self(errno::EPIPE as i32);
    pub const STALE: Self = Self(errno::ESTALE as i32);
    pub const TIMEDOUT: Self = Self(errno::ETIMEDOUT as i32);
    pub const TOO_BIG: Self = Self(errno::E2BIG as i32);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// The number of an open descriptor, borrowed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fd(pub i32);

/// An open descriptor, closed when dropped.
pub struct Descriptor(i32);

impl Descriptor {
    /// Takes over the descriptor of this number, which has no other owner from now on.
    pub fn own(fd: Fd) -> Self {
        Self(fd.0)
    }

    /// Takes over what a system call has just returned.
    pub fn new(returned: usize) -> Self {
        // The kernel's descriptors are small numbers.
        Self(returned as i32)
    }

    pub fn fd(&self) -> Fd {
        Fd(self.0)
    }

    /// Gives the number away: the descriptor stays open.
    pub fn release(self) -> Fd {
        let fd = self.fd();
        core::mem::forget(self);
        fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: close takes a number only; this value is the number's one owner and ends here.
        let _ = unsafe { call(kernel::__NR_close, [self.0 as usize]) };
    }
}

/// Zeroed memory of the program's own, handed out once. The mark stands first, on the page that is used anyway.
#[repr(C)]
pub struct Reserve<T> {
    taken: AtomicBool,
    memory: UnsafeCell<T>,
}

// SAFETY: `take` hands the memory out once, so there is never a second reference to it.
unsafe impl<T> Sync for Reserve<T> {}

impl<T> Reserve<T> {
    pub const fn new(memory: T) -> Self {
        Self {
            taken: AtomicBool::new(false),
            memory: UnsafeCell::new(memory),
        }
    }

    /// Hands the memory out; `None` from the second time on.
    #[expect(clippy::mut_from_ref, reason = "it is handed out once")]
    pub fn take(&'static self) -> Option<&'static mut T> {
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: `taken` was false until now, so this is the only reference that is ever made.
        Some(unsafe { &mut *self.memory.get() })
    }
}

/// Gives whole pages inside `memory` back to the kernel; they read as zero afterwards.
pub fn release_pages(memory: &mut [u8]) {
    const PAGE: usize = 4096;
    let skipped = memory.as_ptr().align_offset(PAGE).min(memory.len());
    let whole = (memory.len() - skipped) & !(PAGE - 1);
    let start = memory.as_mut_ptr().wrapping_add(skipped) as usize;
    let advice = kernel::MADV_DONTNEED as usize;
    // SAFETY: the pages lie wholly inside `memory`, which is borrowed mutably and whose bytes may take any value.
    let _ = unsafe { call(kernel::__NR_madvise, [start, whole, advice]) };
}

/// Ends the program.
pub fn exit(status: i32) -> ! {
    // SAFETY: exit_group takes a number only and does not return.
    let _ = unsafe { call(kernel::__NR_exit_group, [status as usize]) };
    loop {
        core::hint::spin_loop();
    }
}

/// prctl(PR_SET_NAME): at most 15 bytes are kept.
pub fn name_process(name: &CStr) {
    let operation = prctl::PR_SET_NAME as usize;
    // SAFETY: the kernel reads `name` up to its NUL.
    let _ = unsafe { call(kernel::__NR_prctl, [operation, name.as_ptr() as usize]) };
}

/// CLOCK_MONOTONIC in milliseconds.
pub fn now_ms() -> u64 {
    let time = clock(kernel::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// What one of the kernel's clocks says.
pub fn clock(clock: u32) -> timespec {
    let mut time = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let place = &raw mut time as usize;
    // SAFETY: the kernel writes one timespec, and `time` is one.
    let _ = unsafe { call(kernel::__NR_clock_gettime, [clock as usize, place]) };
    time
}

/// A set of signals, one bit each.
#[derive(Clone, Copy)]
pub struct Signals(u64);

impl Signals {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    pub const fn of(signals: &[u32]) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < signals.len() {
            set |= 1 << (signals[index] - 1);
            index += 1;
        }
        Self(set)
    }

    pub const fn has(self, signal: u32) -> bool {
        self.0 & Self::of(&[signal]).0 != 0
    }
}

/// Blocks exactly these signals.
pub fn block_signals(signals: Signals) {
    let how = kernel::SIG_SETMASK as usize;
    let (set, size) = (&raw const signals.0 as usize, size_of::<kernel_sigset_t>());
    // SAFETY: the kernel reads a set of `size` bytes, which `signals` holds; the old set is not asked for.
    let _ = unsafe { call(kernel::__NR_rt_sigprocmask, [how, set, 0, size]) };
}

/// Opens a descriptor that gives these signals, which must be blocked; close-on-exec, non-blocking.
pub fn signal_descriptor(signals: Signals) -> Result<Descriptor> {
    let (set, size) = (&raw const signals.0 as usize, size_of::<kernel_sigset_t>());
    // SFD_CLOEXEC and SFD_NONBLOCK are these two flags of open.
    let flags = (kernel::O_CLOEXEC | kernel::O_NONBLOCK) as usize;
    // SAFETY: the kernel reads a set of `size` bytes, which `signals` holds.
    let opened = unsafe { call(kernel::__NR_signalfd4, [usize::MAX, set, size, flags]) };
    opened.map(Descriptor::new)
}

/// The next signal of a signal descriptor.
pub fn next_signal(signals: Fd) -> Result<u32> {
    let mut information = [0; 128];
    read(signals, &mut information)?;
    let [a, b, c, d, ..] = information;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

/// Waits until one of the descriptors is ready, or for so many milliseconds; -1 means without end.
pub fn poll(descriptors: &mut [pollfd], timeout_ms: i32) -> Result<()> {
    let (first, count) = (descriptors.as_mut_ptr() as usize, descriptors.len());
    // SAFETY: the kernel reads and writes `count` entries, which is what `descriptors` holds.
    unsafe { call(kernel::__NR_poll, [first, count, timeout_ms as usize]) }.map(drop)
}

pub fn read(from: Fd, buffer: &mut [u8]) -> Result<usize> {
    let (start, length) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: the kernel writes at most `length` bytes, which is what `buffer` holds.
    unsafe { call(kernel::__NR_read, [from.0 as usize, start, length]) }
}

pub fn write(to: Fd, bytes: &[u8]) -> Result<usize> {
    let (start, length) = (bytes.as_ptr() as usize, bytes.len());
    // SAFETY: the kernel reads at most `length` bytes, which is what `bytes` holds.
    unsafe { call(kernel::__NR_write, [to.0 as usize, start, length]) }
}

/// Whether there is a descriptor of this number.
pub fn is_open(descriptor: Fd) -> bool {
    let operation = kernel::F_GETFD as usize;
    // SAFETY: F_GETFD takes numbers only.
    unsafe { call(kernel::__NR_fcntl, [descriptor.0 as usize, operation]) }.is_ok()
}

/// The major and minor number where this is a character device. Asked without ever waiting for a file system behind the
/// descriptor.
pub fn character_device(descriptor: Fd) -> Option<(u32, u32)> {
    const TYPE: u16 = kernel::S_IFMT as u16;
    const CHARACTER_DEVICE: u16 = kernel::S_IFCHR as u16;
    let status = status(descriptor).ok()?;
    let number = (status.stx_rdev_major, status.stx_rdev_minor);
    (status.stx_mode & TYPE == CHARACTER_DEVICE).then_some(number)
}

/// statx(2) of an open file: its type, owner, inode and device number. Never waits for a file system behind the descriptor.
pub fn status(descriptor: Fd) -> Result<kernel::statx> {
    let mut found = core::mem::MaybeUninit::<kernel::statx>::zeroed();
    let flags = kernel::AT_EMPTY_PATH | kernel::AT_STATX_DONT_SYNC;
    let wanted = kernel::STATX_TYPE | kernel::STATX_UID | kernel::STATX_INO;
    let arguments = [
        descriptor.0 as usize,
        c"".as_ptr() as usize,
        flags as usize,
        wanted as usize,
        found.as_mut_ptr() as usize,
    ];
    // SAFETY: the kernel reads an empty name and writes one statx, and `found` is as long as one.
    unsafe { call(kernel::__NR_statx, arguments) }?;
    // SAFETY: a statx is numbers only, and all of them were zero at least.
    Ok(unsafe { found.assume_init() })
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) {
    // SAFETY: close_range takes numbers only; at the program's start no descriptor has an owner here yet.
    let _ = unsafe {
        call(
            kernel::__NR_close_range,
            [first as usize, u32::MAX as usize, 0],
        )
    };
}

/// Makes every descriptor from `first` on close at the next exec.
pub fn close_on_exec_from(first: u32) {
    const CLOSE_RANGE_CLOEXEC: usize = 1 << 2;
    // SAFETY: close_range takes numbers only, and with this flag it closes nothing.
    let _ = unsafe {
        call(
            kernel::__NR_close_range,
            [first as usize, u32::MAX as usize, CLOSE_RANGE_CLOEXEC],
        )
    };
}

/// One message of a SEQPACKET socket.
pub struct Received {
    pub length: usize,
    pub is_whole: bool,
    pub descriptors: [Option<Descriptor>; MAX_DESCRIPTORS],
}

/// The most descriptors that are taken from one message; the kernel closes what is beyond.
pub const MAX_DESCRIPTORS: usize = 4;

/// The one control message that travels here: descriptors.
#[repr(C, align(8))]
pub struct Control {
    pub header: net::cmsghdr,
    pub descriptors: [i32; MAX_DESCRIPTORS],
}

/// One stretch of memory for a message.
pub fn iovec(start: *mut u8, length: usize) -> kernel::iovec {
    kernel::iovec {
        iov_base: start.cast(),
        iov_len: length as _,
    }
}

/// The head of a message of one part, without an address, with `length` bytes of `control`.
pub fn message_head(part: &mut kernel::iovec, control: *mut Control, length: usize) -> net::msghdr {
    net::msghdr {
        msg_name: core::ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: (&raw mut *part).cast(),
        msg_iovlen: 1,
        msg_control: control.cast(),
        msg_controllen: length as _,
        msg_flags: 0,
    }
}

/// Makes a system call of up to six arguments.
///
/// # Safety
///
/// The arguments are what call `number` takes: whatever memory the kernel reads or writes for it is there, and is
/// borrowed as it needs to be.
pub unsafe fn call<const COUNT: usize>(number: u32, arguments: [usize; COUNT]) -> Result<usize> {
    const { assert!(COUNT <= 6) };
    let mut registers = [0; 6];
    registers[..COUNT].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = registers;
    let result: isize;
    // SAFETY: the instruction changes rax, rcx and r11 only, all named here; memory is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as usize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match result {
        -4095..0 => Err(Errno(-result as i32)),
        _ => Ok(result as usize),
    }
}
