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

/// Control characters, line and paragraph separators, and the marks that turn the direction of writing.
fn is_steering(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn ordinary_text_stays_as_it_is() {
        assert!(matches!(escape("größer als 1 GB"), Cow::Borrowed(_)));
    }
}
