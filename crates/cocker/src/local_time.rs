//! Moments as the user's clock shows them.
//!
//! `TZ` where it is said, else /etc/localtime, else UTC. The files are read here: the C library's way would look up
//! names through modules of the host.

use crate::options::{LocalTime, Since, TimeOfDay};
use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tz::{DateTime, TimeZone};

/// The user's time zone.
pub struct Clock(TimeZone);

impl Clock {
    pub fn local() -> Clock {
        let said = env::var("TZ").ok().filter(|zone| !zone.is_empty());
        let zone = said.and_then(|zone| TimeZone::from_posix_tz(&zone).ok());
        Clock(
            zone.or_else(|| TimeZone::local().ok())
                .unwrap_or_else(TimeZone::utc),
        )
    }

    /// `2018-11-10T09:21:12`.
    pub fn show(&self, moment: SystemTime) -> String {
        self.read(moment)
            .map_or_else(String::new, |time| date_and_time(&time))
    }

    /// `2018-11-10T09:21:12+08:00`.
    pub fn show_with_offset(&self, moment: SystemTime) -> String {
        self.read(moment).map_or_else(String::new, |time| {
            let minutes = time.local_time_type().ut_offset() / 60;
            let (sign, minutes) = (if minutes < 0 { '-' } else { '+' }, minutes.abs());
            format!(
                "{}{sign}{:02}:{:02}",
                date_and_time(&time),
                minutes / 60,
                minutes % 60
            )
        })
    }

    /// What `--since` means now.
    pub fn moment(&self, since: Since, now: SystemTime) -> Option<SystemTime> {
        match since {
            Since::Ago(ago) => now.checked_sub(ago),
            Since::Moment(moment) => Some(moment),
            Since::Local(LocalTime {
                date: Some(date),
                time,
            }) => self.find(date, time),
            Since::Local(LocalTime { date: None, time }) => {
                let here = self.read(now)?;
                let today = (here.year(), here.month(), here.month_day());
                let at = self.find(today, time)?;
                if at <= now {
                    return Some(at);
                }
                // That is still to come today.
                let day = Duration::from_secs(86_400);
                let here = self.read(now.checked_sub(day)?)?;
                self.find((here.year(), here.month(), here.month_day()), time)
            }
        }
    }

    /// When the clock shows that: the first time, where it does so twice.
    pub fn find(&self, date: (i32, u8, u8), time: TimeOfDay) -> Option<SystemTime> {
        let (year, month, day) = date;
        let TimeOfDay {
            hour,
            minute,
            second,
        } = time;
        let zone = self.0.as_ref();
        let found = DateTime::find(year, month, day, hour, minute, second, 0, zone).ok()?;
        let seconds = found.earliest()?.unix_time();
        let since = Duration::from_secs(seconds.unsigned_abs());
        match seconds {
            0.. => UNIX_EPOCH.checked_add(since),
            _ => UNIX_EPOCH.checked_sub(since),
        }
    }

    /// Nothing for a moment that no calendar has.
    fn read(&self, moment: SystemTime) -> Option<DateTime> {
        let seconds = match moment.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).ok()?,
            Err(before) => -i64::try_from(before.duration().as_secs()).ok()?,
        };
        DateTime::from_timespec(seconds, 0, self.0.as_ref()).ok()
    }
}

fn date_and_time(time: &DateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        time.year(),
        time.month(),
        time.month_day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

#[cfg(test)]
impl Clock {
    /// A clock that is `seconds` ahead of UTC.
    pub fn ahead_of_utc(seconds: i32) -> Clock {
        Clock(TimeZone::fixed(seconds).expect("a day has room for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_the_local_clock_has_them() {
        let moment = UNIX_EPOCH + Duration::from_secs(1_541_812_872);
        assert_eq!(Clock::ahead_of_utc(0).show(moment), "2018-11-10T01:21:12");
        assert_eq!(
            Clock::ahead_of_utc(8 * 3600).show(moment),
            "2018-11-10T09:21:12"
        );
        let newfoundland = Clock::ahead_of_utc(-(3 * 3600 + 1800));
        assert_eq!(
            newfoundland.show_with_offset(moment),
            "2018-11-09T21:51:12-03:30"
        );
    }

    #[test]
    fn times_before_1970_are_shown_too() {
        let moment = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Clock::ahead_of_utc(0).show(moment), "1969-12-31T23:59:59");
    }

    #[test]
    fn since_is_a_moment_of_the_local_clock() {
        let clock = Clock::ahead_of_utc(8 * 3600);
        // 09:21:12 there.
        let now = UNIX_EPOCH + Duration::from_secs(1_541_812_872);
        let shown = |since| clock.moment(since, now).map(|moment| clock.show(moment));
        let local = |date, hour| {
            let time = TimeOfDay {
                hour,
                minute: 30,
                second: 0,
            };
            Since::Local(LocalTime { date, time })
        };
        for (since, expected) in [
            (Since::Ago(Duration::from_secs(72)), "2018-11-10T09:20:00"),
            (Since::Moment(now), "2018-11-10T09:21:12"),
            (local(None, 8), "2018-11-10T08:30:00"),
            (local(None, 9), "2018-11-09T09:30:00"),
            (local(Some((2018, 11, 11)), 9), "2018-11-11T09:30:00"),
            (local(Some((1960, 1, 1)), 0), "1960-01-01T00:30:00"),
        ] {
            assert_eq!(shown(since).as_deref(), Some(expected));
        }
        assert_eq!(clock.moment(Since::Ago(Duration::MAX), now), None);
    }
}
