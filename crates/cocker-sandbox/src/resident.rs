//! The resident programs: where they are executed from, and with which descriptors.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::{Errno, FdFlags};
use std::ffi::CString;

/// Behind the standard streams.
const FIRST: i32 = 3;

/// The program that stays outside as the root process's parent.
pub struct Supervisor {
    /// An ELF file.
    pub program: &'static [u8],
    pub arguments: Vec<CString>,
    /// `KEY=VALUE` each.
    pub environment: Vec<CString>,
    /// What it finds at descriptors 3, 4, …; 0 to 2 are /dev/null.
    pub descriptors: Vec<Descriptor>,
}

/// One descriptor of the supervisor.
pub enum Descriptor {
    /// Handed over by the caller, who may keep a copy.
    Given(OwnedFd),
    /// Its end of the socket to init.
    InitSocket,
    /// The pidfd of the root process.
    RootProcess,
}

/// Becomes a resident program in this process; returns only when that failed.
///
/// `descriptors` are found at 3, 4, …, and `kept` where it is; nothing else stays open but 0 to 2.
pub fn become_resident(
    program: &'static [u8],
    arguments: &[CString],
    environment: &[CString],
    descriptors: Vec<OwnedFd>,
    kept: BorrowedFd<'_>,
) -> Errno {
    let prepare = || -> Result<OwnedFd, Errno> {
        let sealed = seal("cocker-supervisor", program)?;
        // Out of the way of the places about to be filled.
        let sealed = rustix::io::fcntl_dupfd_cloexec(&sealed, 64)?;
        cocker_sys::signal::reset_all()?;
        rustix::process::chdir("/")?;
        let first_free = FIRST + descriptors.len() as i32;
        cocker_sys::execution::place_descriptors(FIRST, descriptors)?;
        cocker_sys::execution::close_on_exec_from(first_free)?;
        rustix::io::fcntl_setfd(kept, FdFlags::empty())?;
        Ok(sealed)
    };
    match prepare() {
        Ok(sealed) => {
            cocker_sys::execution::execute_descriptor(sealed.as_fd(), arguments, environment)
        }
        Err(errno) => errno,
    }
}

/// Puts a program into memory that nobody can write to any more, not even through /proc/PID/exe from inside: it is
/// executed from there, so no file of the host is in reach of a sandbox.
pub(crate) fn seal(name: &str, program: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 the flag is unknown and every such file may be executed.
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut rest = program;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(file.as_fd(), seals)?;
    Ok(file)
}
