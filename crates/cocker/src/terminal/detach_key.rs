//! Ctrl-] three times within a second: leaves a session that would not end by itself.

use std::time::{Duration, Instant};

const KEY: u8 = 0x1d;
const TIMES: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);

/// Counts the presses that followed each other with no other key between.
#[derive(Default)]
pub struct DetachKey {
    presses: Vec<Instant>,
}

impl DetachKey {
    /// Whether `typed` completes the presses; `now` is when it was typed.
    pub fn is_completed_by(&mut self, typed: &[u8], now: Instant) -> bool {
        for byte in typed {
            if *byte != KEY {
                self.presses.clear();
                continue;
            }
            self.presses
                .retain(|press| now.duration_since(*press) < WITHIN);
            self.presses.push(now);
            if self.presses.len() == TIMES {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_presses_within_a_second_detach() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut key = DetachKey::default();
        assert!(!key.is_completed_by(b"\x1d", at(0)));
        assert!(!key.is_completed_by(b"\x1d", at(400)));
        assert!(key.is_completed_by(b"\x1d", at(900)));
        assert!(DetachKey::default().is_completed_by(b"a\x1d\x1d\x1d", at(0)));
    }

    #[test]
    fn slow_presses_and_other_keys_between_do_not() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut key = DetachKey::default();
        for press in 0..6 {
            assert!(!key.is_completed_by(b"\x1d", at(press * 600)), "{press}");
        }
        assert!(!DetachKey::default().is_completed_by(b"\x1d\x1dx\x1d", at(0)));
    }
}
