//! Moments as the user's clock shows them.
//!
//! `TZ` where it is said, else /etc/localtime, else UTC. The files are read here: the C library's way would look up
//! names through modules of the host.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};
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
    use std::time::Duration;

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
}
