//! Numbers as tar headers and pax records write them.
//!
//! Readers that take the same bytes for different numbers lose their place in an archive, so only one reading is accepted:
//! digits and their padding, or base 256 within 64 bits; anything else is refused.

use rustix::fs::Timespec;

const NANOSECONDS: usize = 9;

/// A number of a header that is never negative: octal digits, or base 256.
pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    match signed(field) {
        Some(number) => u64::try_from(number).ok(),
        None => None,
    }
}

/// A number of a header: octal digits, or base 256 in two's complement. An empty field is 0.
pub(super) fn signed(field: &[u8]) -> Option<i128> {
    match field.first() {
        Some(0x80..) => base_256(field),
        _ => octal(field).map(i128::from),
    }
}

/// Octal digits between spaces and NULs.
fn octal(field: &[u8]) -> Option<u64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | b'\0');
    let start = field.iter().position(|byte| !is_padding(byte));
    let digits = &field[start.unwrap_or(field.len())..];
    let end = digits.iter().position(is_padding);
    digits[..end.unwrap_or(digits.len())]
        .iter()
        .try_fold(0_u64, |number, digit| match digit {
            b'0'..=b'7' => number.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
            _ => None,
        })
}

/// The first bit is a mark, the second the sign; what does not fit into 64 bits and a sign is refused.
fn base_256(field: &[u8]) -> Option<i128> {
    let is_negative = field[0] & 0x40 != 0;
    let first = if is_negative {
        field[0]
    } else {
        field[0] & 0x3f
    };
    let start = if is_negative { -1 } else { 0 };
    let number = field
        .iter()
        .enumerate()
        .fold(start, |number: i128, (place, &byte)| {
            let byte = if place == 0 { first } else { byte };
            // A field has at most 12 bytes, so 96 bits and the sign fit.
            (number << 8) | i128::from(byte)
        });
    (i128::from(i64::MIN)..=i128::from(u64::MAX))
        .contains(&number)
        .then_some(number)
}

/// Decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// A time of a pax record: seconds since 1970, perhaps negative, perhaps with a fraction (pax(1), "Extended Header File Times").
/// What is finer than a nanosecond is cut off, towards the past.
pub(super) fn time(text: &[u8]) -> Option<Timespec> {
    let (is_negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let mut halves = digits.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(halves.next()?)?).ok()?;
    let fraction = halves.next().unwrap_or(b"");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let place = |index: usize| {
        fraction
            .get(index)
            .map_or(0, |digit| i64::from(digit - b'0'))
    };
    let nanoseconds = (0..NANOSECONDS).fold(0, |number, index| number * 10 + place(index));
    let is_finer = fraction
        .iter()
        .skip(NANOSECONDS)
        .any(|&digit| digit != b'0');
    if !is_negative {
        return Some(Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        });
    }
    let nanoseconds = nanoseconds + i64::from(is_finer);
    Some(match nanoseconds {
        0 => Timespec {
            tv_sec: -seconds,
            tv_nsec: 0,
        },
        some => Timespec {
            tv_sec: (-seconds).checked_sub(1)?,
            tv_nsec: 1_000_000_000 - some,
        },
    })
}

/// The time as a pax record says it, with no more digits than it has.
pub(super) fn time_text(time: Timespec) -> String {
    let total = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    let sign = if total < 0 { "-" } else { "" };
    let (seconds, nanoseconds) = (
        total.unsigned_abs() / 1_000_000_000,
        total.unsigned_abs() % 1_000_000_000,
    );
    if nanoseconds == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanoseconds:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_fields_are_digits_between_padding() {
        assert_eq!(unsigned(b"0000644\0"), Some(0o644));
        assert_eq!(unsigned(b"   644 \0"), Some(0o644));
        assert_eq!(unsigned(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(unsigned(b"77777777777 "), Some(0o77777777777));
        for field in [&b"+000644\0"[..], b"0x00644\0", b"-000001\0", b"0000008\0"] {
            assert_eq!(unsigned(field), None, "{field:?}");
        }
    }

    #[test]
    fn base_256_has_a_sign_and_64_bits() {
        let mut field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&u64::MAX.to_be_bytes());
        assert_eq!(unsigned(&field), Some(u64::MAX));
        field[3] = 1;
        assert_eq!(unsigned(&field), None, "65 bits");
        assert_eq!(signed(&[0xff; 12]), Some(-1));
        assert_eq!(unsigned(&[0xff; 12]), None);
        assert_eq!(signed(&[0x80, 0, 0, 0, 0, 0x20, 0, 0]), Some(0x20_0000));
    }

    #[test]
    fn times_keep_every_nanosecond_on_both_sides_of_1970() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1_700_000_000, 123_456_789, "1700000000.123456789"),
            (1, 500_000_000, "1.5"),
            (-1, 0, "-1"),
            (-1, 500_000_000, "-0.5"),
            (-2, 1, "-1.999999999"),
        ] {
            let stamp = Timespec {
                tv_sec: seconds,
                tv_nsec: nanoseconds,
            };
            assert_eq!(time_text(stamp), text);
            assert_eq!(time(text.as_bytes()), Some(stamp), "{text}");
        }
        let finer = time(b"-0.0000000001").unwrap();
        assert_eq!((finer.tv_sec, finer.tv_nsec), (-1, 999_999_999));
        for text in [
            "",
            "-",
            "1.x",
            "+1",
            "1 ",
            "9223372036854775808",
            "--1",
            "1e5",
        ] {
            assert_eq!(time(text.as_bytes()), None, "{text:?}");
        }
    }
}
