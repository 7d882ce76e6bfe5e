//! One line of an allowed signers file: who, under which options, with which key.
//!
//! ```text
//! PRINCIPALS [OPTION[,OPTION]...] KEYTYPE BASE64 [COMMENT]      (ALLOWED SIGNERS of ssh-keygen(1))
//! ```
//!
//! Read as ssh-keygen reads it, or more strictly: a line that is not understood to the end allows nobody.

use super::is_known;
use crate::oci::timestamp;
use crate::quote::quote;
use ssh_key::PublicKey;
use ssh_key::encoding::{Base64Reader, Decode};
use ssh_key::public::KeyData;
use std::path::PathBuf;
use std::time::SystemTime;

/// The longest line, in bytes: an RSA key of 16384 bits has less than 3,000.
const LONGEST: usize = 64 * 1024;

/// ssh takes no pattern of so many bytes or more for a match.
const LONGEST_PATTERN: usize = 1023;

/// The types of keys that signatures are verified with.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// A line that allows nobody.
#[derive(Clone, Debug, thiserror::Error)]
#[error("line {line} of `{path}` allows nobody")]
pub struct BadLine {
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
    #[source]
    pub source: LineError,
}

/// Why a line allows nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    #[error("it has more than {LONGEST} bytes")]
    Long,
    #[error("a byte of it is zero")]
    Zero,
    #[error("a quotation mark is not closed")]
    OpenQuote,
    #[error("there is no key behind the principals")]
    NoKey,
    #[error("no key is at `{text}`")]
    BadKey { text: String },
    #[error("keys of type {algorithm} are not read")]
    KeyType { algorithm: String },
    #[error("it is for certificates (cert-authority), and only plain keys are read")]
    Authority,
    #[error("option `{option}` is not known")]
    UnknownOption { option: String },
    #[error("nothing follows the last comma of the options")]
    LastComma,
    #[error("the value of option {option} is not in quotation marks")]
    NoQuotes { option: &'static str },
    #[error("option {option} is said twice")]
    Twice { option: &'static str },
    #[error(
        "option {option} is no time from 1970 on, as YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z] say it"
    )]
    BadTime { option: &'static str },
    #[error("valid-before is not later than valid-after")]
    NeverValid,
}

/// A date and a time of day that say no time zone; the user's is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenTime {
    /// Year, month from 1, day from 1.
    pub date: (i32, u8, u8),
    /// Hour, minute, second.
    pub time: (u8, u8, u8),
}

/// What a line allows.
#[derive(Debug)]
pub(super) struct Signer {
    /// A list of patterns, as it stands there.
    pub principals: Vec<u8>,
    pub key: KeyData,
    pub namespaces: Option<Vec<u8>>,
    pub valid_after: Option<SystemTime>,
    pub valid_before: Option<SystemTime>,
}

/// Reads a line; nothing for an empty one and a comment. `local` is when the user's clock shows a time.
pub(super) fn read(
    line: &[u8],
    local: &dyn Fn(WrittenTime) -> Option<SystemTime>,
) -> Option<Result<Signer, LineError>> {
    let line = line.trim_ascii();
    match line.first() {
        None | Some(b'#') => None,
        Some(_) if line.len() > LONGEST => Some(Err(LineError::Long)),
        Some(_) if line.contains(&0) => Some(Err(LineError::Zero)),
        Some(_) => Some(signer(line, local)),
    }
}

fn signer(
    line: &[u8],
    local: &dyn Fn(WrittenTime) -> Option<SystemTime>,
) -> Result<Signer, LineError> {
    let (principals, rest) = principals(line)?;
    if rest.is_empty() {
        return Err(LineError::NoKey);
    }
    // As in authorized_keys, options are what stands where no key is.
    let (options, key) = match key(rest) {
        Err(LineError::BadKey { .. }) if !begins_with_type(rest) => {
            let (options, rest) = rest.split_at(length_of_options(rest)?);
            if rest.is_empty() {
                return Err(LineError::NoKey);
            }
            let key = key(rest.trim_ascii_start())?;
            (self::options(options, local)?, key)
        }
        key => (Options::default(), key?),
    };
    if options.authority {
        return Err(LineError::Authority);
    }
    Ok(Signer {
        principals,
        key,
        namespaces: options.namespaces,
        valid_after: options.valid_after,
        valid_before: options.valid_before,
    })
}

/// The principals in front and what follows. They may be in quotation marks, or a part of them.
fn principals(line: &[u8]) -> Result<(Vec<u8>, &[u8]), LineError> {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
    let end = line.iter().position(ends).unwrap_or(line.len());
    let (mut principals, rest) = (line[..end].to_vec(), &line[end..]);
    let rest = match rest.strip_prefix(b"\"") {
        None => rest,
        Some(quoted) => {
            let close = quoted.iter().position(|byte| *byte == b'"');
            let close = close.ok_or(LineError::OpenQuote)?;
            principals.extend_from_slice(&quoted[..close]);
            &quoted[close + 1..]
        }
    };
    Ok((principals, rest.trim_ascii_start()))
}

/// The key that stands in front.
fn key(text: &[u8]) -> Result<KeyData, LineError> {
    let mut words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .map(|word| std::str::from_utf8(word).ok());
    let bad = || LineError::BadKey {
        text: quote(&String::from_utf8_lossy(text)),
    };
    let (Some(Some(kind)), Some(Some(blob))) = (words.next(), words.next()) else {
        return Err(bad());
    };
    let unread = |algorithm: &str| LineError::KeyType {
        algorithm: quote(algorithm),
    };
    match PublicKey::from_openssh(&format!("{kind} {blob}")) {
        Ok(key) if is_known(key.key_data()) => Ok(key.key_data().clone()),
        Ok(_) => Err(unread(kind)),
        Err(_) if names_itself(blob, kind) => Err(unread(kind)),
        Err(_) => Err(bad()),
    }
}

/// Whether a type of key that is known stands in front, so that no options can.
fn begins_with_type(text: &[u8]) -> bool {
    let word = text.split(u8::is_ascii_whitespace).next();
    word.is_some_and(|word| TYPES.iter().any(|known| known.as_bytes() == word))
}

/// Whether this is a key, of a type that is not known here, and not any other text.
fn names_itself(blob: &str, kind: &str) -> bool {
    let inside = || {
        let mut reader = Base64Reader::new(blob.as_bytes()).ok()?;
        String::decode(&mut reader).ok()
    };
    !TYPES.contains(&kind) && inside().is_some_and(|inside| inside == kind)
}

#[derive(Default)]
struct Options {
    authority: bool,
    namespaces: Option<Vec<u8>>,
    valid_after: Option<SystemTime>,
    valid_before: Option<SystemTime>,
}

/// Where the options end: at the first space outside quotation marks.
fn length_of_options(text: &[u8]) -> Result<usize, LineError> {
    let mut quoted = false;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if text.get(at + 1) == Some(&b'"') => at += 1,
            b'"' => quoted = !quoted,
            b' ' | b'\t' if !quoted => break,
            _ => {}
        }
        at += 1;
    }
    if quoted {
        return Err(LineError::OpenQuote);
    }
    Ok(at)
}

fn options(
    text: &[u8],
    local: &dyn Fn(WrittenTime) -> Option<SystemTime>,
) -> Result<Options, LineError> {
    let mut options = Options::default();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = strip(rest, b"cert-authority") {
            options.authority = true;
            rest = after;
        } else if let Some(after) = strip(rest, b"namespaces=") {
            let value = value("namespaces", after, &mut rest)?;
            set("namespaces", &mut options.namespaces, value)?;
        } else if let Some(after) = strip(rest, b"valid-after=") {
            let value = value("valid-after", after, &mut rest)?;
            let time = moment("valid-after", &value, local)?;
            set("valid-after", &mut options.valid_after, time)?;
        } else if let Some(after) = strip(rest, b"valid-before=") {
            let value = value("valid-before", after, &mut rest)?;
            let time = moment("valid-before", &value, local)?;
            set("valid-before", &mut options.valid_before, time)?;
        }
        match rest.split_first() {
            None => break,
            Some((b',', [])) => return Err(LineError::LastComma),
            Some((b',', after)) => rest = after,
            Some(_) => {
                return Err(LineError::UnknownOption {
                    option: quote(&String::from_utf8_lossy(rest)),
                });
            }
        }
    }
    match (options.valid_after, options.valid_before) {
        (Some(after), Some(before)) if before <= after => Err(LineError::NeverValid),
        _ => Ok(options),
    }
}

/// What follows `keyword`, in whichever case that is written.
fn strip<'a>(text: &'a [u8], keyword: &[u8]) -> Option<&'a [u8]> {
    let (front, after) = text.split_at_checked(keyword.len())?;
    front.eq_ignore_ascii_case(keyword).then_some(after)
}

/// The value in quotation marks in front of `text`; `rest` becomes what follows it.
fn value<'a>(
    option: &'static str,
    text: &'a [u8],
    rest: &mut &'a [u8],
) -> Result<Vec<u8>, LineError> {
    let mut left = text
        .strip_prefix(b"\"")
        .ok_or(LineError::NoQuotes { option })?;
    let mut value = Vec::new();
    loop {
        left = match left {
            [] => return Err(LineError::OpenQuote),
            [b'"', after @ ..] => {
                *rest = after;
                return Ok(value);
            }
            [b'\\', b'"', after @ ..] => {
                value.push(b'"');
                after
            }
            [byte, after @ ..] => {
                value.push(*byte);
                after
            }
        }
    }
}

fn set<T>(option: &'static str, place: &mut Option<T>, value: T) -> Result<(), LineError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(LineError::Twice { option }),
    }
}

fn moment(
    option: &'static str,
    text: &[u8],
    local: &dyn Fn(WrittenTime) -> Option<SystemTime>,
) -> Result<SystemTime, LineError> {
    time(text, local)
        .filter(|time| *time > SystemTime::UNIX_EPOCH)
        .ok_or(LineError::BadTime { option })
}

/// `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, in UTC with `Z` or `UTC` behind it, else as the user's clock has it.
fn time(text: &[u8], local: &dyn Fn(WrittenTime) -> Option<SystemTime>) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.trim_end_matches(|byte: char| !byte.is_ascii_digit());
    let zone = &text[digits.len()..];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let two = |at: usize| digits.get(at..at + 2).unwrap_or("00");
    let (year, month, day) = (&digits[..4], two(4), two(6));
    let (hour, minute, second) = (two(8), two(10), two(12));
    // Checks that there is such a day and such a time of day.
    let utc = timestamp::read(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z"))?;
    match zone {
        "" => local(WrittenTime {
            date: (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?),
            time: (
                hour.parse().ok()?,
                minute.parse().ok()?,
                second.parse().ok()?,
            ),
        }),
        zone if zone.eq_ignore_ascii_case("z") || zone.eq_ignore_ascii_case("utc") => Some(utc),
        _ => None,
    }
}

/// Whether a list of patterns has `text`: one that says so, and none with `!` in front that takes it out.
pub(super) fn list_has(list: &[u8], text: &[u8]) -> bool {
    let mut has = false;
    for item in list.split(|byte| *byte == b',') {
        let (negated, pattern) = match item {
            [b'!', pattern @ ..] => (true, pattern),
            pattern => (false, pattern),
        };
        if pattern.len() >= LONGEST_PATTERN {
            return false;
        }
        if pattern_has(pattern, text) {
            if negated {
                return false;
            }
            has = true;
        }
    }
    has
}

/// Whether somebody is in a list of patterns: a pattern is also the name of one whom it has, unless another takes him out.
pub(super) fn list_has_somebody(list: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .filter(|item| !item.is_empty() && !item.starts_with(b"!"))
        .any(|name| list_has(list, name))
}

/// `*` is any text, `?` any byte.
fn pattern_has(pattern: &[u8], text: &[u8]) -> bool {
    let (mut in_pattern, mut in_text) = (0, 0);
    // Where to go on when what follows the last `*` does not fit here: behind it, and one byte further.
    let mut star = None;
    while in_text < text.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern + 1, in_text));
                in_pattern += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[in_text] => {
                in_pattern += 1;
                in_text += 1;
            }
            _ => {
                let Some((behind, from)) = star else {
                    return false;
                };
                star = Some((behind, from + 1));
                (in_pattern, in_text) = (behind, from + 1);
            }
        }
    }
    pattern[in_pattern..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn patterns_are_sshs() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("***", "abc", true),
            ("?", "", false),
            ("a?c", "abc", true),
            ("*c", "abcabc", true),
            ("*b*c", "abcabd", false),
            ("a*b*c", "aXbYbZc", true),
            ("abc", "abcd", false),
            ("[a]", "a", false),
        ] {
            let has = pattern_has(pattern.as_bytes(), text.as_bytes());
            assert_eq!(has, expected, "{pattern} {text}");
        }
    }

    #[test]
    fn one_pattern_that_is_too_long_spoils_its_list() {
        let long = "a".repeat(LONGEST_PATTERN - 1);
        assert!(list_has(format!("{long},b").as_bytes(), b"b"));
        assert!(!list_has(format!("{long}a,b").as_bytes(), b"b"));
        assert!(!list_has(format!("b,{long}a").as_bytes(), b"b"));
    }

    #[test]
    fn somebody_is_in_a_list_that_does_not_take_all_out() {
        for (list, expected) in [
            ("who", true),
            ("*@example.com,!root@example.com", true),
            ("", false),
            (",", false),
            ("!who", false),
            ("who,!who", false),
            ("who,!w*", false),
            ("who,she,!w*", true),
            ("*,!*", false),
        ] {
            assert_eq!(list_has_somebody(list.as_bytes()), expected, "{list}");
        }
    }

    #[test]
    fn times_are_read_to_the_second_and_in_the_zone_that_is_said() {
        let here = |written: WrittenTime| {
            assert_eq!(written.date, (1970, 1, 2));
            let (hour, minute, second) = written.time;
            let day = u64::from(hour) * 3600 + u64::from(minute) * 60 + u64::from(second);
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(day))
        };
        let seconds = |text: &str| {
            let time = time(text.as_bytes(), &here)?;
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            Some(since.expect("not before 1970").as_secs())
        };
        for (text, expected) in [
            ("19700102", Some(0)),
            ("197001020304", Some(3 * 3600 + 4 * 60)),
            ("19700102030405", Some(3 * 3600 + 4 * 60 + 5)),
            ("19700102Z", Some(86_400)),
            ("19700102z", Some(86_400)),
            ("19700102Utc", Some(86_400)),
            ("20001231235959Z", Some(978_307_199)),
            ("99991231Z", Some(253_402_214_400)),
            ("19600101Z", None),
            ("19700102ZZ", None),
            ("19700102 Z", None),
            ("+9700102Z", None),
            ("1970010Z", None),
            ("1970010203040506Z", None),
            ("19700132Z", None),
            ("\u{661}\u{669}\u{667}\u{660}", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(time(b"\xff19700102Z", &here), None);
    }
}
