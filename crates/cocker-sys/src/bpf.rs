//! bpf(2), as far as a list of devices needs it: a program is loaded and attached to a cgroup, which then owns it.

use crate::process::last_errno;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// One instruction, as the kernel has it (`struct bpf_insn` of linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    /// The destination in the lower four bits, the source in the upper ones.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const TYPE_CGROUP_DEVICE: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// `BPF_F_ALLOW_MULTI`: programs of folders above and below have their say too, and each must agree.
const ALLOW_MULTI: u32 = 2;

/// The part of `union bpf_attr` that PROG_LOAD reads; what is behind it counts as zero.
#[repr(C)]
struct Load {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that PROG_ATTACH reads.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// Loads a program that says of each use of a device whether it may be (linux/bpf.h, `struct bpf_cgroup_dev_ctx`).
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, `EINVAL` for a program that the kernel's verifier does not take, or where the kernel has
/// no such programs; `ENOSYS` where it has none at all.
pub fn load_device_program(instructions: &[Instruction]) -> Result<OwnedFd, Errno> {
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"LGPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the instructions and the licence outlive the call, the count is theirs, and the size is that of the struct.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    match answer {
        -1 => Err(last_errno()),
        // SAFETY: the kernel has just made this descriptor, close-on-exec, and nobody else knows of it.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    }
}

/// Attaches the program to the cgroup v2 folder `cgroup`, for all that lives in it and below. It goes with the folder.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel only reads the struct, whose size is given; both descriptors are borrowed for the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            PROG_ATTACH,
            &raw const attach,
            size_of::<Attach>(),
        )
    };
    match answer {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}
