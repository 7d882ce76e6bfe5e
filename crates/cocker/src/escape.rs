//! Makes text of unknown origin harmless on a terminal.

use std::borrow::Cow;

/// Replaces every character that steers a terminal or reorders a line by its code, as `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~');
    if text.bytes().all(is_plain) || !text.contains(is_steering) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            steering if is_steering(steering) => escaped.extend(steering.escape_unicode()),
            harmless => escaped.push(harmless),
        }
    }
    Cow::Owned(escaped)
}

/// The same for bytes; those that are no UTF-8 are shown as `\xff`.
pub fn escape_bytes(bytes: &[u8]) -> String {
    let mut escaped = String::new();
    for chunk in bytes.utf8_chunks() {
        escaped.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            escaped.push_str(&format!("\\x{byte:02x}"));
        }
    }
    escaped
}

/// The most bytes that are held back to see how they go on.
const MOST_HELD: usize = 64;

/// Text of unknown origin that comes in pieces, to be shown in lines: ends of lines and tabs stay, colours and the like
/// (ECMA-48, SGR) are left out, and everything else that steers a terminal is replaced as [`escape_bytes`] does it.
#[derive(Default)]
pub struct EscapedLines {
    /// The beginning of something that is not all there yet.
    held: Vec<u8>,
}

impl EscapedLines {
    /// What can be shown of it so far.
    pub fn push(&mut self, piece: &[u8]) -> String {
        let joined = [&std::mem::take(&mut self.held), piece].concat();
        let mut shown = String::with_capacity(joined.len());
        let mut rest = &joined[..];
        while !rest.is_empty() {
            match first_of(rest) {
                Some((text, length)) => {
                    shown.push_str(&text);
                    rest = &rest[length..];
                }
                None => {
                    self.held = rest.to_vec();
                    break;
                }
            }
        }
        shown
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> String {
        escape_bytes(&std::mem::take(&mut self.held))
    }
}

/// What is shown of the beginning of `bytes`, and how much of them that is; none where it depends on what follows.
fn first_of(bytes: &[u8]) -> Option<(Cow<'_, str>, usize)> {
    let plain = bytes
        .iter()
        .take_while(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    let plain = plain.count();
    if plain > 0 {
        let text = std::str::from_utf8(&bytes[..plain]).expect("these are ASCII");
        return Some((Cow::Borrowed(text), plain));
    }
    match bytes {
        // As a terminal ends its lines.
        [b'\r', b'\n', ..] => Some((Cow::Borrowed("\n"), 2)),
        [b'\r'] => None,
        [0x1b] => None,
        [0x1b, b'[', parameters @ ..] => {
            let is_parameter = |byte: &&u8| matches!(byte, b'0'..=b'9' | b';' | b':');
            let count = parameters.iter().take_while(is_parameter).count();
            match parameters.get(count) {
                Some(b'm') => Some((Cow::Borrowed(""), 2 + count + 1)),
                None if bytes.len() < MOST_HELD => None,
                _ => Some((Cow::Owned(escape_bytes(&bytes[..1])), 1)),
            }
        }
        _ => first_character(bytes),
    }
}

fn first_character(bytes: &[u8]) -> Option<(Cow<'_, str>, usize)> {
    let most = bytes.len().min(4);
    let chunk = bytes[..most].utf8_chunks().next()?;
    if let Some(character) = chunk.valid().chars().next() {
        let length = character.len_utf8();
        return Some((Cow::Owned(escape_bytes(&bytes[..length])), length));
    }
    let invalid = chunk.invalid();
    let could_go_on = std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none());
    match invalid.len() == bytes.len() && could_go_on {
        true => None,
        false => Some((Cow::Owned(escape_bytes(invalid)), invalid.len())),
    }
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of writing.
fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON of a value, in which nothing steers a terminal either: JSON itself lets stand what is not ASCII.
pub fn json(value: &impl serde::Serialize) -> String {
    escape_in_json(serde_json::to_string(value).expect("texts and numbers always have a JSON form"))
}

/// The same over several lines.
pub fn json_of_several_lines(value: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(value);
    escape_in_json(text.expect("texts and numbers always have a JSON form"))
}

/// Outside of its strings JSON has nothing but ASCII, and in them `\u` and four digits stand for a character.
fn escape_in_json(text: String) -> String {
    let steers = |c: char| c != '\n' && is_steering(c);
    if !text.contains(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match steers(character) {
            true => escaped.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_lose_their_power() {
        assert_eq!(escape("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        assert_eq!(escape("\u{9b}2J\u{7f}"), "\\u{9b}2J\\u{7f}");
        assert_eq!(escape("x\u{202e}y"), "x\\u{202e}y");
    }

    #[test]
    fn json_keeps_its_meaning_and_steers_nothing() {
        let name = "a\x1b[2J\u{9b}2J\u{7f}\u{202e}ä\n";
        for text in [json(&[name]), json_of_several_lines(&[name])] {
            assert!(!text.contains(|c| c != '\n' && is_steering(c)), "{text:?}");
            assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [name]);
        }
        assert_eq!(json(&["größer"]), "[\"größer\"]");
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        assert!(matches!(escape("größer als 1 GB"), Cow::Borrowed(_)));
    }

    const STEERING: &[u8] = b"a\tb\r\n\x1b[31;1mred\x1b[m \x1b[2J\x1b]0;t\x07 \rx \xc3\xa4\xc3( \xe2\x80\xae\xff\x1b[\x1b";
    const HARMLESS: &str =
        "a\tb\nred \\u{1b}[2J\\u{1b}]0;t\\u{7} \\u{d}x \u{e4}\\xc3( \\u{202e}\\xff\\u{1b}[\\u{1b}";

    #[test]
    fn lines_stay_lines_however_they_are_cut_into_pieces() {
        for length in 1..=STEERING.len() {
            let mut lines = EscapedLines::default();
            let mut shown = String::new();
            for piece in STEERING.chunks(length) {
                shown.push_str(&lines.push(piece));
            }
            shown.push_str(&lines.finish());
            assert_eq!(shown, HARMLESS, "{length}");
        }
    }

    #[test]
    fn nothing_is_held_back_without_bound() {
        let mut lines = EscapedLines::default();
        let long = [b"\x1b[".to_vec(), vec![b'1'; 1000]].concat();
        assert_eq!(lines.push(&long), format!("\\u{{1b}}[{}", "1".repeat(1000)));
        for _ in 0..1000 {
            lines.push(b"\xe2\x80");
            assert!(lines.held.len() <= MOST_HELD);
        }
    }
}
