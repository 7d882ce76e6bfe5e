//! From two looks at a container to what it does in a second.

use cocker_engine::ContainerFigures;
use std::time::Duration;

/// Per second, over some time. None where it is not counted, or was counted only once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Percent of one processor.
    pub cpu: Option<f64>,
    /// Bytes.
    pub read: Option<f64>,
    /// Bytes.
    pub written: Option<f64>,
    /// Bytes.
    pub received: Option<f64>,
    /// Bytes.
    pub sent: Option<f64>,
}

impl Rates {
    /// From `before` to `now`, which are of the same boot of the same container.
    pub fn between(before: &ContainerFigures, now: &ContainerFigures) -> Rates {
        let time = now.taken.saturating_sub(before.taken);
        let (old, new) = (&before.figures, &now.figures);
        Rates {
            cpu: cpu(before, now),
            read: rate(old.io.map(|io| io.read), new.io.map(|io| io.read), time),
            written: rate(
                old.io.map(|io| io.written),
                new.io.map(|io| io.written),
                time,
            ),
            received: rate(
                before.traffic.map(|traffic| traffic.received),
                now.traffic.map(|traffic| traffic.received),
                time,
            ),
            sent: rate(
                before.traffic.map(|traffic| traffic.sent),
                now.traffic.map(|traffic| traffic.sent),
                time,
            ),
        }
    }
}

/// Percent of one processor since it was booted.
pub fn cpu_since_boot(now: &ContainerFigures) -> Option<f64> {
    percent(now.figures.cpu?.usage, now.uptime()?)
}

/// Percent of one processor from one look to the next.
fn cpu(before: &ContainerFigures, now: &ContainerFigures) -> Option<f64> {
    let used = now
        .figures
        .cpu?
        .usage
        .checked_sub(before.figures.cpu?.usage)?;
    percent(used, now.taken.checked_sub(before.taken)?)
}

fn percent(microseconds: u64, time: Duration) -> Option<f64> {
    rate(Some(0), Some(microseconds), time).map(|each_second| each_second / 10_000.0)
}

/// A counter that went back has begun anew, and says nothing of the time before.
fn rate(before: Option<u64>, now: Option<u64>, time: Duration) -> Option<f64> {
    let grown = now?.checked_sub(before?)?;
    let seconds = time.as_secs_f64();
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

/// A container of a unit test: booted for 100 s, has used `cpu` seconds of a processor.
#[cfg(test)]
pub fn of_test(name: &str, cpu: u64) -> ContainerFigures {
    use cocker_engine::{CpuTime, Figures, Name};
    ContainerFigures {
        name: Name::parse(name).expect("a good name"),
        pid: 7,
        taken: Duration::from_secs(1_100),
        started: Some(Duration::from_secs(1_000)),
        figures: Figures {
            cpu: Some(CpuTime {
                usage: cpu * 1_000_000,
                user: cpu * 1_000_000,
                system: 0,
            }),
            ..Figures::default()
        },
        traffic: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocker_engine::{IoUse, Traffic};

    #[test]
    fn rates_are_what_was_counted_by_the_time_between() {
        let mut before = of_test("web", 10);
        before.figures.io = Some(IoUse {
            read: 100,
            ..IoUse::default()
        });
        before.traffic = Some(Traffic::default());
        let mut now = of_test("web", 13);
        now.taken += Duration::from_secs(2);
        now.figures.io = Some(IoUse {
            read: 150,
            written: 8,
            ..IoUse::default()
        });
        now.traffic = Some(Traffic {
            sent: 1_000,
            ..Traffic::default()
        });
        let expected = Rates {
            cpu: Some(150.0),
            read: Some(25.0),
            written: Some(4.0),
            received: Some(0.0),
            sent: Some(500.0),
        };
        assert_eq!(Rates::between(&before, &now), expected);
        assert_eq!(cpu_since_boot(&before), Some(10.0));
    }

    #[test]
    fn what_is_not_counted_or_went_back_has_no_rate() {
        let (before, mut now) = (of_test("web", 10), of_test("web", 9));
        assert_eq!(Rates::between(&before, &now), Rates::default());
        now.taken += Duration::from_secs(1);
        assert_eq!(Rates::between(&before, &now), Rates::default());
        now.started = None;
        assert_eq!(cpu_since_boot(&now), None);
    }
}
