//! How long a command may run: at the time it gets TERM, later KILL, and in the end we leave whatever it does.

use rustix::event::Timespec;
use std::time::{Duration, Instant};

/// Between TERM and KILL, and between KILL and our leaving.
pub const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Term,
    Kill,
    /// Not even KILL has ended it, or nobody takes what it wrote.
    Leave,
}

pub struct TimeLimit {
    pub allowed: Duration,
    /// None when nothing is due any more.
    next: Option<(Due, Instant)>,
    has_passed: bool,
}

impl TimeLimit {
    pub fn new(allowed: Duration, now: Instant) -> TimeLimit {
        TimeLimit {
            allowed,
            next: now.checked_add(allowed).map(|then| (Due::Term, then)),
            has_passed: false,
        }
    }

    /// How long nothing is due.
    pub fn left(&self, now: Instant) -> Option<Timespec> {
        let (_, then) = self.next?;
        let left = then.saturating_duration_since(now);
        Some(Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        })
    }

    /// What is due now.
    pub fn take_due(&mut self, now: Instant) -> Option<Due> {
        let (due, then) = self.next.filter(|(_, then)| *then <= now)?;
        self.has_passed = true;
        let after = match due {
            Due::Term => Some(Due::Kill),
            Due::Kill => Some(Due::Leave),
            Due::Leave => None,
        };
        self.next = after.map(|after| (after, then + GRACE));
        Some(due)
    }

    /// Whether the command had not ended in time.
    pub fn has_passed(&self) -> bool {
        self.has_passed
    }

    /// The command has ended. One that did so in time has all the time there is for what it wrote.
    pub fn command_ended(&mut self) {
        if !self.has_passed {
            self.next = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn term_is_due_first_then_kill_then_we_leave() {
        let start = Instant::now();
        let mut limit = TimeLimit::new(Duration::from_secs(5), start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.left(at(2)).unwrap().tv_sec, 3);
        assert_eq!(limit.take_due(at(4)), None);
        assert!(!limit.has_passed());
        assert_eq!(limit.take_due(at(5)), Some(Due::Term));
        assert!(limit.has_passed());
        assert_eq!(limit.take_due(at(6)), None);
        limit.command_ended();
        assert_eq!(limit.take_due(at(15)), Some(Due::Kill));
        assert_eq!(limit.take_due(at(25)), Some(Due::Leave));
        assert_eq!(limit.left(at(26)), None);
        assert_eq!(limit.take_due(at(1000)), None);
    }

    #[test]
    fn a_command_that_ended_in_time_is_left_alone() {
        let start = Instant::now();
        let mut limit = TimeLimit::new(Duration::from_secs(5), start);
        limit.command_ended();
        assert_eq!(limit.left(start), None);
        assert_eq!(limit.take_due(start + Duration::from_secs(100)), None);
        assert!(!limit.has_passed());
    }
}
