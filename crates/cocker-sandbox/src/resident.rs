//! The resident programs: where they are executed from, and with which descriptors.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use std::ffi::CString;

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
