//! How far a long command has come, on the user's terminal and nowhere else.
//!
//! One line of standard error, written over and taken away at the end, so that neither a script nor a log ever sees it.

use cocker_engine::Progress;
use rustix::termios::isatty;
use std::io::Write;
use std::time::{Duration, Instant};

/// A line that changes more often is not read but costs the transfer time.
const INTERVAL: Duration = Duration::from_millis(100);
/// Carriage return, and from there to the end of the line nothing (ECMA-48, EL).
const CLEAR: &str = "\r\x1b[K";

pub struct ProgressLine {
    what: &'static str,
    /// None where nobody looks.
    began: Option<Instant>,
    shown: Option<Instant>,
}

impl ProgressLine {
    pub fn new(what: &'static str) -> ProgressLine {
        let is_seen = isatty(std::io::stderr());
        ProgressLine {
            what,
            began: is_seen.then(Instant::now),
            shown: None,
        }
    }

    pub fn show(&mut self, progress: Progress) {
        let Some(began) = self.began else {
            return;
        };
        let last = self.shown.unwrap_or(began);
        if last.elapsed() < INTERVAL {
            return;
        }
        self.shown = Some(Instant::now());
        let line = text(self.what, progress, began.elapsed());
        // A terminal that is gone is no reason to break off.
        let _ = write!(std::io::stderr(), "{CLEAR}{line}");
    }

    pub fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

/// `import 43 %, 120 MB, 95 MB/s, 0:02 left`; the whole may be a guess, so there is never more than 99 % of it.
fn text(what: &str, progress: Progress, since: Duration) -> String {
    let Progress { passed, whole } = progress;
    let percent = match whole {
        0 => 0,
        whole => (u128::from(passed) * 100 / u128::from(whole)).min(99),
    };
    let rate = passed as f64 / since.as_secs_f64().max(0.001);
    let megabytes = |bytes: f64| bytes / 1_000_000.0;
    let left = time_left(progress, since).map_or_else(String::new, |left| {
        let seconds = left.as_secs();
        format!(", {}:{:02} left", seconds / 60, seconds % 60)
    });
    format!(
        "{what} {percent} %, {:.0} MB, {:.0} MB/s{left}",
        megabytes(passed as f64),
        megabytes(rate)
    )
}

/// How long the rest takes if it goes on as before; `None` where that cannot be said.
fn time_left(progress: Progress, since: Duration) -> Option<Duration> {
    let Progress { passed, whole } = progress;
    let rest = whole.checked_sub(passed).filter(|_| passed > 0)?;
    let seconds = since.as_secs_f64() * rest as f64 / passed as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_and_how_fast() {
        let progress = |passed, whole| Progress { passed, whole };
        let two_seconds = Duration::from_secs(2);
        assert_eq!(
            text("import", progress(43_000_000, 100_000_000), two_seconds),
            "import 43 %, 43 MB, 22 MB/s, 0:02 left"
        );
        assert_eq!(
            text("pull", progress(1_000_000, 100_000_000), two_seconds),
            "pull 1 %, 1 MB, 0 MB/s, 3:18 left"
        );
        // Where more has passed than there was to be, nobody knows.
        assert_eq!(
            text("export", progress(5, 4), two_seconds),
            "export 99 %, 0 MB, 0 MB/s"
        );
        assert!(text("export", progress(5, 0), Duration::ZERO).starts_with("export 0 %"));
    }
}
