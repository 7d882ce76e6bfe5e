//! `--since`: a moment, as far as it can be told without a clock.

use crate::failure::Failure;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// From when on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    Moment(SystemTime),
    /// As the user's clock shows it.
    Local(LocalTime),
}

/// A time without a place on earth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year, month, day; none: when the clock last showed that time.
    pub date: Option<(i32, u8, u8)>,
    pub time: TimeOfDay,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOfDay {
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

const FORMS: &str = "say how long ago, as 90s, 10m, 2h or 3d; or when, as 20:00, 2026-11-25, 2026-11-25T20:00:00 \
                     or 2026-11-25T20:00:00+01:00.";

pub fn since(text: &str) -> Result<Since, Failure> {
    parse(text).ok_or_else(|| {
        Failure::usage(format!(
            "`--since {text}` is neither a time nor how long ago"
        ))
        .hint(FORMS)
    })
}

fn parse(text: &str) -> Option<Since> {
    if let Some(ago) = ago(text) {
        return Some(Since::Ago(ago));
    }
    let local = |date, time| Some(Since::Local(LocalTime { date, time }));
    let Some((day, rest)) = text.split_once('T') else {
        return match time_of_day(text) {
            Some(time) => local(None, time),
            None => local(Some(date(text)?), TimeOfDay::default()),
        };
    };
    let day = date(day)?;
    match offset(rest)? {
        (time, None) => local(Some(day), time_of_day(time)?),
        (time, Some(seconds)) => moment(day, time_of_day(time)?, seconds).map(Since::Moment),
    }
}

/// A number and its unit.
fn ago(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let count: u64 = number(count, 1..=9)?;
    Some(Duration::from_secs(count * seconds))
}

/// `2026-11-25`.
fn date(text: &str) -> Option<(i32, u8, u8)> {
    let mut parts = text.split('-');
    let date = (
        number(parts.next()?, 4..=4)?,
        number(parts.next()?, 2..=2)?,
        number(parts.next()?, 2..=2)?,
    );
    let is_in_the_calendar = tz::UtcDateTime::new(date.0, date.1, date.2, 0, 0, 0, 0).is_ok();
    (parts.next().is_none() && is_in_the_calendar).then_some(date)
}

/// `20:00` or `20:00:00`.
fn time_of_day(text: &str) -> Option<TimeOfDay> {
    let mut parts = text.split(':');
    let below =
        |most: u8, part: Option<&str>| number::<u8>(part?, 2..=2).filter(|&number| number < most);
    let (hour, minute) = (below(24, parts.next())?, below(60, parts.next())?);
    let second = match parts.next() {
        None => 0,
        second => below(60, second)?,
    };
    parts.next().is_none().then_some(TimeOfDay {
        hour,
        minute,
        second,
    })
}

/// The time without its offset from UTC, and the offset in seconds, where there is one. A fraction of a second is left
/// out, as finer than what is kept.
fn offset(text: &str) -> Option<(&str, Option<i64>)> {
    let Some(at) = text.find(['Z', '+', '-']) else {
        return Some((text, None));
    };
    let (time, offset) = text.split_at(at);
    let time = match time.split_once('.') {
        None => time,
        Some((time, fraction)) => {
            number::<u64>(fraction, 1..=9)?;
            time
        }
    };
    if offset == "Z" {
        return Some((time, Some(0)));
    }
    let (sign, offset) = offset.split_at(1);
    let (hours, minutes) = offset.split_once(':')?;
    let hours: i64 = number(hours, 2..=2)?;
    let minutes: i64 = number(minutes, 2..=2)?;
    let seconds = (hours * 60 + minutes) * 60;
    let is_one = hours < 24 && minutes < 60;
    is_one.then_some((time, Some(if sign == "-" { -seconds } else { seconds })))
}

fn moment(date: (i32, u8, u8), time: TimeOfDay, offset: i64) -> Option<SystemTime> {
    let (year, month, day) = date;
    let there =
        tz::UtcDateTime::new(year, month, day, time.hour, time.minute, time.second, 0).ok()?;
    let seconds = there.unix_time() - offset;
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    }
}

/// Digits only, and so many of them.
fn number<T: std::str::FromStr>(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<T> {
    let is_plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Option<Since> {
        Some(Since::Moment(UNIX_EPOCH + Duration::from_secs(seconds)))
    }

    fn local(date: Option<(i32, u8, u8)>, hour: u8, minute: u8, second: u8) -> Option<Since> {
        let time = TimeOfDay {
            hour,
            minute,
            second,
        };
        Some(Since::Local(LocalTime { date, time }))
    }

    #[test]
    fn how_long_ago_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("3d", 259_200),
        ] {
            assert_eq!(parse(text), Some(Since::Ago(Duration::from_secs(seconds))));
        }
    }

    #[test]
    fn a_time_is_local_unless_it_says_otherwise() {
        let day = Some((2026, 11, 25));
        assert_eq!(parse("20:00"), local(None, 20, 0, 0));
        assert_eq!(parse("20:00:09"), local(None, 20, 0, 9));
        assert_eq!(parse("2026-11-25"), local(day, 0, 0, 0));
        assert_eq!(parse("2026-11-25T20:00"), local(day, 20, 0, 0));
        assert_eq!(parse("2026-11-25T20:01:02"), local(day, 20, 1, 2));
        assert_eq!(parse("2018-11-10T01:21:12Z"), at(1_541_812_872));
        assert_eq!(parse("2018-11-10T09:21:12.999+08:00"), at(1_541_812_872));
        assert_eq!(parse("2018-11-09T21:51:12-03:30"), at(1_541_812_872));
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(Since::Moment(before)));
    }

    #[test]
    fn everything_else_is_refused_and_the_forms_are_named() {
        for text in [
            "",
            "10",
            "m",
            "-1m",
            "+1m",
            "1.5h",
            "1h30m",
            "10 m",
            "10M",
            "9999999999s",
            "yesterday",
            "24:00",
            "20:60",
            "20:00:60",
            "8:00",
            "20",
            "20:00:00:00",
            "2026-02-29",
            "2026-13-01",
            "26-11-25",
            "2026-11",
            "2026-11-25 20:00",
            "2026-11-25T",
            "2026-11-25T20",
            "2026-11-25t20:00:00",
            "2026-11-25T20:00:00+1:00",
            "2026-11-25T20:00:00+24:00",
            "2026-11-25T20:00:00.Z",
            "2026-11-25T20:00:00ZZ",
            "T20:00",
            "ö",
            "1ö",
        ] {
            let failure = since(text).expect_err(text);
            let told = format!("{failure:?}");
            assert!(
                told.contains("10m") && told.contains("20:00:00+01:00"),
                "{told}"
            );
        }
    }
}
