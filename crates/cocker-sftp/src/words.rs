//! What others say, made fit to be shown: bounded, and without anything that a terminal obeys.

/// How much of what ssh and the server say on stderr is kept, in bytes.
const KEPT: usize = 4096;

/// The longest that a server's own words are shown, in bytes.
const SHOWN: usize = 1024;

/// The last of what came on stderr.
#[derive(Default)]
pub(crate) struct Words(Vec<u8>);

impl Words {
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        if self.0.len() > KEPT {
            self.0.drain(..self.0.len() - KEPT);
        }
    }

    /// As lines; every other control character is escaped.
    pub(crate) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.0).replace('\r', "");
        let lines: Vec<String> = text.lines().map(|line| escaped(line.trim_end())).collect();
        bounded_from_the_end(lines.join("\n").trim().to_owned(), KEPT)
    }
}

/// A server's own words on one line, at most 1 KiB of them.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    // Anything behind is cut anyway, and a message of a whole packet is not worth escaping.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let mut shown = escaped(text.trim());
    if shown.len() > SHOWN {
        let end = (0..=SHOWN - '…'.len_utf8())
            .rev()
            .find(|at| shown.is_char_boundary(*at));
        shown.truncate(end.unwrap_or(0));
        shown.push('…');
    }
    shown
}

/// A path or a name as it is shown in an error.
pub(crate) fn quoted(text: &str) -> String {
    one_line(text.as_bytes())
}

fn escaped(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        match character {
            '\'' | '"' | '\\' => shown.push(character),
            '\t' => shown.push(' '),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// The last bytes of a text, from a whole character on.
fn bounded_from_the_end(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let least = text.len() - most;
    let start = (least..=text.len()).find(|at| text.is_char_boundary(*at));
    text[start.unwrap_or(text.len())..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        let mut words = Words::default();
        words.add(b"one\r\n\x1b]0;title\x07two\x00\xff\n\n\xe2\x80\xaethree\n");
        let shown = words.shown();
        assert!(
            shown.starts_with("one\n\\u{1b}]0;title\\u{7}two\\0\u{fffd}\n"),
            "{shown:?}"
        );
        assert!(shown.ends_with("\\u{202e}three"), "{shown:?}");
        assert!(
            shown.chars().all(|c| c == '\n' || !c.is_control()),
            "{shown:?}"
        );
        assert_eq!(one_line(b" a\nb\x1b[2J "), "a\\nb\\u{1b}[2J");
    }

    #[test]
    fn the_last_words_are_kept_and_no_more() {
        let mut words = Words::default();
        for line in 0..100_000 {
            words.add(format!("{line}\n").as_bytes());
        }
        assert!(words.0.len() <= KEPT);
        assert!(words.shown().ends_with("99999"));
        words.add(&[0x1b; 100_000]);
        assert!(words.shown().len() <= KEPT);
        assert!(one_line(&[0x1b; 100_000]).len() <= SHOWN);
        assert!(one_line("é".repeat(5000).as_bytes()).len() <= SHOWN);
    }
}
