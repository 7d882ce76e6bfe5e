//! The end of the container, in order: everyone is asked, and at the deadline those that are left are killed.
//!
//! `kill(-1)` reaches every process that is visible, so it is sent only where that means the container: as process
//! 1 of a pid namespace, or below one whose supervisor lives outside of it.
use linux_raw_sys::general::{SIGCONT, SIGHUP, SIGKILL, SIGTERM};

use crate::commands::{Command, Kind};
use crate::raw::{self, Fd};

/// How long processes have when a signal and not the supervisor asks for the shutdown.
pub const TIMEOUT_BY_SIGNAL_MS: u32 = 10_000;

/// Which process of the container this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Process 1: the container ends when it exits.
    Root,
    /// The first child of a given process 1.
    FirstChild,
}

/// How far the shutdown is.
pub struct Shutdown {
    role: Role,
    may_signal_all: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    NotAsked,
    Asked { deadline_ms: u64 },
    Killed,
}

impl Shutdown {
    pub fn new(role: Role, socket: Fd) -> Self {
        let is_process_one = raw::process_id() == 1;
        let is_supervised_from_outside = raw::peer_process_id(socket) == Ok(0);
        Self {
            role,
            may_signal_all: is_process_one || is_supervised_from_outside,
            phase: Phase::NotAsked,
        }
    }

    pub fn has_begun(&self) -> bool {
        self.phase != Phase::NotAsked
    }

    /// Asks every process to end. A second time only brings the deadline nearer.
    pub fn begin<'a>(&mut self, commands: impl Iterator<Item = &'a Command>, timeout_ms: u32) {
        let deadline_ms = raw::now_ms() + u64::from(timeout_ms);
        match &mut self.phase {
            Phase::NotAsked => {
                self.phase = Phase::Asked { deadline_ms };
                self.ask_all(commands);
            }
            Phase::Asked { deadline_ms: old } => *old = deadline_ms.min(*old),
            Phase::Killed => {}
        }
    }

    /// How long a poll may take: -1 without end.
    pub fn poll_timeout_ms(&self) -> i32 {
        match self.phase {
            Phase::Asked { deadline_ms } => {
                let left = deadline_ms.saturating_sub(raw::now_ms());
                i32::try_from(left).unwrap_or(i32::MAX)
            }
            _ => -1,
        }
    }

    /// Kills what is left when the deadline has passed.
    pub fn kill_if_due(&mut self) {
        if let Phase::Asked { deadline_ms } = self.phase
            && raw::now_ms() >= deadline_ms
        {
            self.phase = Phase::Killed;
            // A given root process ends on its own terms, and with it, as the kernel's doing, all others.
            if self.role == Role::Root {
                self.signal_all(SIGKILL);
            }
        }
    }

    /// Ends the program when process 1 has nothing left to wait for.
    pub fn finish_if_alone(&self) {
        if self.has_begun() && self.role == Role::Root {
            raw::exit(0);
        }
    }

    fn ask_all<'a>(&self, commands: impl Iterator<Item = &'a Command>) {
        self.signal_all(SIGTERM);
        // An interactive shell ignores TERM, but not that its terminal is gone.
        for command in commands.filter(|command| command.kind == Kind::Terminal) {
            let _ = raw::kill(command.pid, SIGHUP as i32);
        }
        // A stopped process hears of its signals only when it goes on.
        self.signal_all(SIGCONT);
    }

    /// The kernel spares process 1 and the caller.
    fn signal_all(&self, signal: u32) {
        if self.may_signal_all {
            let _ = raw::kill(-1, signal as i32);
        }
    }
}
