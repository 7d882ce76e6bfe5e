//! Points in time as configs write them (RFC 3339), in UTC and whole seconds where cocker writes them.

use std::time::{Duration, SystemTime};

const SECONDS_A_DAY: i64 = 24 * 60 * 60;
/// Of the years that four digits can say, as seconds since 1970.
const FIRST_YEAR: i64 = -62_167_219_200;
const LAST_YEAR: i64 = 253_402_300_799;

/// The point in time in UTC, fractions cut off; years beyond 0000 to 9999 are shown as the nearest one that fits.
pub fn write(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(LAST_YEAR),
        Err(before) => {
            let before = before.duration();
            let up = i64::from(before.subsec_nanos() > 0);
            i64::try_from(before.as_secs()).map_or(FIRST_YEAR, |seconds| -seconds - up)
        }
    };
    let seconds = seconds.clamp(FIRST_YEAR, LAST_YEAR);
    let (year, month, day) = date_of(seconds.div_euclid(SECONDS_A_DAY));
    let of_day = seconds.rem_euclid(SECONDS_A_DAY);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Reads `2024-01-31T12:00:00.5+01:00`; the fraction is cut off. `None` for what is no point in time from 1970 on.
pub(crate) fn read(text: &str) -> Option<SystemTime> {
    if !text.is_ascii() {
        return None;
    }
    let (date, rest) = (text.get(..19)?, text.get(19..)?);
    let mut shape = date.bytes().zip(*b"0000-00-00T00:00:00");
    if !shape.all(|(byte, like)| match like {
        b'0' => byte.is_ascii_digit(),
        like => byte.eq_ignore_ascii_case(&like),
    }) {
        return None;
    }
    let number = |at: usize, digits: usize| date[at..at + digits].parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let days = days_of(year, month, day);
    if !is_time || date_of(days) != (year, month, day) {
        return None;
    }
    let seconds = days * SECONDS_A_DAY + hour * 3600 + minute * 60 + second - offset(rest)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// What stands behind the seconds, `.5+01:00`, as seconds to take off.
fn offset(rest: &str) -> Option<i64> {
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|digit: char| digit.is_ascii_digit());
            (zone.len() < fraction.len()).then_some(zone)?
        }
    };
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let (hours, minutes) = zone.split_once(':')?;
    let number = |text: &str, below: i64| -> Option<i64> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_number.then(|| text.parse().ok())??;
        (number < below).then_some(number)
    };
    Some(sign * (number(hours, 24)? * 3600 + number(minutes, 60)? * 60))
}

/// Year, month and day of a day counted from 1970, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last one of its year.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The reverse of [`date_of`]; a day that the month does not have becomes one of the next.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn known_points_in_time_are_written_and_read() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(write(at(seconds)), text);
            assert_eq!(read(text), Some(at(seconds)), "{text}");
        }
        assert_eq!(
            write(at(0) - Duration::from_millis(1)),
            "1969-12-31T23:59:59Z"
        );
        assert_eq!(write(at(u64::MAX / 4)), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_day_of_four_centuries_reads_back() {
        for day in 0..146_097 {
            let time = at(day * 86_400);
            assert_eq!(read(&write(time)), Some(time));
        }
    }

    #[test]
    fn fractions_and_offsets_are_understood() {
        let time = Some(at(1_700_000_000));
        for text in [
            "2023-11-14T22:13:20.123456789Z",
            "2023-11-14T23:13:20+01:00",
            "2023-11-14T16:43:20.5-05:30",
            "2023-11-14t22:13:20z",
        ] {
            assert_eq!(read(text), time, "{text}");
        }
    }

    #[test]
    fn what_is_no_point_in_time_is_none() {
        for text in [
            "",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-01-00T00:00:00Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20+1:00",
            "2023-11-14T22:13:20+",
            "2023-11-14T22:13:20é",
            "+023-11-14T22:13:20Z",
            "0001-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
