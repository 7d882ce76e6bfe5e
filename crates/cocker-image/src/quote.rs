//! How text from outside is shown in an error: short, and never with a control character in it.

/// The longest excerpt, in characters as they are shown.
const LONGEST: usize = 80;

/// The text with everything unprintable escaped, cut at 80 characters.
pub(crate) fn quote(text: &str) -> String {
    quote_up_to(LONGEST, text)
}

/// The text with everything unprintable escaped, cut at so many characters.
pub(crate) fn quote_up_to(longest: usize, text: &str) -> String {
    let mut shown = String::new();
    let mut length = 0;
    for character in text.chars() {
        let escaped: String = match character {
            '\'' | '"' | '\\' => character.into(),
            other => other.escape_debug().collect(),
        };
        length += escaped.chars().count();
        if length > longest {
            shown.push('…');
            break;
        }
        shown.push_str(&escaped);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(quote("a\x1b[2J\n\0\u{202e}"), "a\\u{1b}[2J\\n\\0\\u{202e}");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = quote(&"x".repeat(5000));
        assert_eq!(shown.chars().count(), LONGEST + 1);
        assert!(quote(&"\x01".repeat(5000)).chars().count() <= LONGEST + 1);
        assert_eq!(quote(&"y".repeat(LONGEST)), "y".repeat(LONGEST));
    }
}
