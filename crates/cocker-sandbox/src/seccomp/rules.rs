//! What becomes of which system call, as data: what a profile says once its names are numbers.
//!
//! This module is compiled into the build script too, which knows no other module of the crate.

use super::architecture::Architecture;
use std::collections::BTreeMap;

/// What the kernel does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    /// It is not made, and answers this number.
    Errno(u16),
    KillProcess,
    KillThread,
    /// SIGSYS, which may be handled.
    Trap,
    /// Asks a tracer, who is told this number.
    Trace(u16),
    /// Allowed, and told to the audit log.
    Log,
}

impl Action {
    /// As a filter says it (`SECCOMP_RET_*` of linux/seccomp.h).
    pub fn code(self) -> u32 {
        match self {
            Action::KillProcess => 0x8000_0000,
            Action::KillThread => 0,
            Action::Trap => 0x0003_0000,
            Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Action::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Action::Log => 0x7ffc_0000,
            Action::Allow => 0x7fff_0000,
        }
    }

    /// Whether the call is made.
    pub fn lets_through(self) -> bool {
        matches!(self, Action::Allow | Action::Log)
    }
}

/// How an argument is compared with a value; all are numbers of 64 bits without a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// What the mask leaves of the argument equals the value. Where the kernel takes only 32 bits of an argument, this is the
    /// one comparison that cannot be passed by with something in the upper half.
    MaskedEqual(u64),
}

/// One argument, compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// 0 to 5.
    pub argument: u8,
    pub comparison: Comparison,
    pub value: u64,
}

/// What is done with a call when all conditions hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub conditions: Vec<Condition>,
    pub action: Action,
}

/// What is done with one call: the first rule whose conditions hold has its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rules: Vec<Rule>,
    /// Where none holds.
    pub otherwise: Action,
}

impl Verdict {
    pub fn always(action: Action) -> Verdict {
        Verdict {
            rules: Vec::new(),
            otherwise: action,
        }
    }
}

/// The calls of one architecture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calls {
    pub architecture: Architecture,
    pub by_number: BTreeMap<u32, Verdict>,
    /// What is done with a number that is not there, up to `last`.
    pub otherwise: Action,
    /// The greatest number that `otherwise` is for. What is beyond is newer than whoever wrote the rules.
    pub last: u32,
    pub beyond: Action,
}

/// A whole filter, before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// At most one for each architecture.
    pub calls: Vec<Calls>,
    /// Whatever is called in the way of an architecture that is not among them.
    pub foreign: Action,
}
