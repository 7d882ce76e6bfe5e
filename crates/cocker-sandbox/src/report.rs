//! What the new processes tell the one that made them, over a close-on-exec pipe: fixed records, each written whole.
//!
//! ```text
//!   0        4          8         12
//!   ├ phase ─┼ object ──┼ value ──┤   native byte order, both ends are one program
//! ```
//!
//! `object` is the number of the mount in question. `value` is a pid, or the errno of what failed.

use rustix::fd::OwnedFd;
use rustix::io::Errno;

/// What the new processes do, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    // Supervisor-to-be, host root.
    ForkUsher,
    // The usher, host root until it has entered.
    JoinCgroups,
    LimitFiles,
    EnterNamespaces,
    Clone,
    // Supervisor-to-be again, from here on at the same time as init-to-be.
    Adopt,
    /// No failure: init-to-be exists and its pid is the value.
    Born,
    // Init-to-be, still without an identity.
    TakeIdentity,
    // Init-to-be, root of its own namespaces.
    Tie,
    Separate,
    LateNamespaces,
    Keyring,
    Root,
    Mount,
    Console,
    Hostname,
    Pivot,
    Conceal,
    LockConcealed,
    LateMount,
    Handover,
    /// No failure: everything stands, only the word to go is missing.
    Assembled,
    Scope,
    FirstChild,
    Confine,
    ExecuteInit,
    ExecuteRootProcess,
    // Supervisor-to-be, at the same time as init-to-be.
    ExecuteSupervisor,
}

const ALL: [Phase; 28] = [
    Phase::ForkUsher,
    Phase::JoinCgroups,
    Phase::LimitFiles,
    Phase::EnterNamespaces,
    Phase::Clone,
    Phase::Adopt,
    Phase::Born,
    Phase::TakeIdentity,
    Phase::Tie,
    Phase::Separate,
    Phase::LateNamespaces,
    Phase::Keyring,
    Phase::Root,
    Phase::Mount,
    Phase::Console,
    Phase::Hostname,
    Phase::Pivot,
    Phase::Conceal,
    Phase::LockConcealed,
    Phase::LateMount,
    Phase::Handover,
    Phase::Assembled,
    Phase::Scope,
    Phase::FirstChild,
    Phase::Confine,
    Phase::ExecuteInit,
    Phase::ExecuteRootProcess,
    Phase::ExecuteSupervisor,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub phase: Phase,
    pub object: u32,
    pub value: i32,
}

const SIZE: usize = 12;

impl Report {
    pub(crate) fn write(self, pipe: &OwnedFd) {
        let mut record = [0u8; SIZE];
        record[0..4].copy_from_slice(&(self.phase as u32).to_ne_bytes());
        record[4..8].copy_from_slice(&self.object.to_ne_bytes());
        record[8..12].copy_from_slice(&self.value.to_ne_bytes());
        // Where nobody listens any more there is nobody to tell.
        let _ = rustix::io::write(pipe, &record);
    }

    /// The next record, or `None` when every writer is gone (executed something, or ended).
    pub(crate) fn read(pipe: &OwnedFd) -> Result<Option<Report>, Errno> {
        let mut record = [0u8; SIZE];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut record))?;
        if length == 0 {
            return Ok(None);
        }
        let field = |at: usize| {
            let bytes = record[at..at + 4].try_into();
            u32::from_ne_bytes(bytes.expect("a slice of four bytes"))
        };
        let phase = ALL.get(field(0) as usize).copied();
        match phase {
            Some(phase) if length == SIZE => Ok(Some(Report {
                phase,
                object: field(4),
                value: field(8) as i32,
            })),
            _ => Err(Errno::PROTO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_comes_back_as_it_was_written() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        for (number, phase) in ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, number);
            let report = Report {
                phase,
                object: 7,
                value: -1,
            };
            report.write(&writer);
            assert_eq!(Report::read(&reader), Ok(Some(report)));
        }
        drop(writer);
        assert_eq!(Report::read(&reader), Ok(None));
    }
}
