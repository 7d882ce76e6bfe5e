//! Keys become values while a text passes by.
//!
//! One pass, from the left: at each place the longest key that is there is replaced, and what came of it is not searched
//! again. The text may be of any length; a window of it is in memory, which slides:
//!
//! ```text
//!   text   ░░░░░░░░▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒┊▒▒▒▒▒▒▒▒
//!            passed └─ window ───────────┴────────┘ as long as the longest key: what begins here may go on
//! ```

use super::places::Places;
use super::rules::{BadRules, Rules};
use aho_corasick::{AhoCorasick, AhoCorasickKind, Anchored, Input, MatchKind, StartKind};
use std::io::{self, Read, Write};

/// How much of a text is looked at between two reads, at least.
const WINDOW: usize = 256 * 1024;

/// Rules made ready to be applied.
pub(super) struct Replacer {
    /// None where there are no keys.
    keys: Option<AhoCorasick>,
    values: Vec<Vec<u8>>,
    longest_key: usize,
    window: usize,
}

/// What a text came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    pub replaced: u64,
    /// Bytes of the text, and of what came of it.
    pub read: u64,
    pub written: u64,
}

/// Why a text did not pass.
#[derive(Debug)]
pub(super) enum PassError {
    Read(io::Error),
    Write(io::Error),
}

impl Replacer {
    pub(super) fn new(rules: &Rules) -> Result<Replacer, BadRules> {
        let (keys, values): (Vec<_>, Vec<_>) = rules.checked()?.unzip();
        let longest_key = keys.iter().map(|key| key.len()).max().unwrap_or(0);
        // A table of states and not of all transitions: that would grow with the square of the keys.
        let search = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .start_kind(StartKind::Unanchored)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&keys);
        let search = search.map_err(|_| BadRules::ManyKeys)?;
        Ok(Replacer {
            keys: (!keys.is_empty()).then_some(search),
            values: values.into_iter().map(<[u8]>::to_vec).collect(),
            longest_key,
            window: WINDOW.max(4 * longest_key),
        })
    }

    /// Passes `text` on to `output` with its keys replaced, and shows `places` what is not.
    pub(super) fn pass(
        &self,
        mut text: impl Read,
        output: &mut dyn Write,
        places: &mut Places,
    ) -> Result<Passed, PassError> {
        let mut passed = Passed::default();
        let mut window = vec![0; self.window];
        let mut length = 0;
        let mut is_whole = false;
        while !is_whole {
            while length < window.len() && !is_whole {
                match text.read(&mut window[length..]) {
                    Ok(0) => is_whole = true,
                    Ok(more) => {
                        length += more;
                        passed.read += more as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(PassError::Read(error)),
                }
            }
            let settled = match is_whole {
                true => length,
                // Behind that, a longer key may begin than can be seen.
                false => length - self.longest_key.saturating_sub(1),
            };
            let done = self.pass_window(&window[..length], settled, output, places, &mut passed)?;
            window.copy_within(done..length, 0);
            length -= done;
        }
        Ok(passed)
    }

    /// Passes on what is settled: keys that begin before `settled`, and what is between them. Returns how much that was.
    fn pass_window(
        &self,
        window: &[u8],
        settled: usize,
        output: &mut dyn Write,
        places: &mut Places,
        passed: &mut Passed,
    ) -> Result<usize, PassError> {
        let mut put = |bytes: &[u8]| {
            passed.written += bytes.len() as u64;
            output.write_all(bytes).map_err(PassError::Write)
        };
        let mut at = 0;
        while let Some(keys) = &self.keys
            && at < settled
        {
            let rest = Input::new(window).range(at..).anchored(Anchored::No);
            let Some(found) = keys.find(rest).filter(|found| found.start() < settled) else {
                break;
            };
            put(&window[at..found.start()])?;
            places.pass(&window[at..found.start()]);
            put(&self.values[found.pattern().as_usize()])?;
            places.pass_key(&window[found.range()]);
            passed.replaced += 1;
            at = found.end();
        }
        if at < settled {
            put(&window[at..settled])?;
            places.pass(&window[at..settled]);
            at = settled;
        }
        Ok(at)
    }

    /// A window so small that a test sees its borders.
    #[cfg(test)]
    fn with_window(mut self, window: usize) -> Replacer {
        self.window = window.max(self.longest_key).max(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter;

    /// The plainest way to do the same.
    fn naive(rules: &[(Vec<u8>, Vec<u8>)], text: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let here = rules.iter().filter(|(key, _)| text[at..].starts_with(key));
            match here.max_by_key(|(key, _)| key.len()) {
                Some((key, value)) => {
                    output.extend(value);
                    at += key.len();
                }
                None => {
                    output.push(text[at]);
                    at += 1;
                }
            }
        }
        output
    }

    fn rules(pairs: &[(Vec<u8>, Vec<u8>)]) -> Rules {
        let mut rules = Rules::default();
        for (key, value) in pairs {
            rules.set(key.clone(), value.clone());
        }
        rules
    }

    fn replaced(replacer: &Replacer, text: impl Read) -> (Vec<u8>, Passed) {
        let mut output = Vec::new();
        let passed = replacer.pass(text, &mut output, &mut Places::ignored());
        (output, passed.expect("memory takes everything"))
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let own = |text: &str| text.as_bytes().to_vec();
        let pairs = pairs.iter();
        pairs.map(|(key, value)| (own(key), own(value))).collect()
    }

    #[test]
    fn the_longest_key_is_replaced_in_one_pass() {
        for (pairs, text, expected) in [
            (&[][..], "${A}", "${A}"),
            (
                &[("${A}", "1"), ("${AB}", "2")],
                "${A} ${AB} ${B}",
                "1 2 ${B}",
            ),
            (&[("a", "b"), ("b", "a")], "abba", "baab"),
            (&[("a", "1"), ("aa", "2"), ("aaa", "3")], "aaaaa", "32"),
            (&[("ab", "1"), ("bcd", "2")], "abcd", "1cd"),
            (&[("abc", "1"), ("b", "2")], "abd", "a2d"),
            (&[("a", "")], "aXa", "X"),
            (&[("X", "XX")], "XX", "XXXX"),
        ] {
            let pairs = owned(pairs);
            let replacer = Replacer::new(&rules(&pairs)).unwrap();
            let (output, _) = replaced(&replacer, text.as_bytes());
            assert_eq!(output, expected.as_bytes(), "{text}");
            assert_eq!(naive(&pairs, text.as_bytes()), expected.as_bytes());
        }
    }

    #[test]
    fn what_passed_is_counted() {
        let replacer = Replacer::new(&rules(&owned(&[("a", "xyz")]))).unwrap();
        let (_, passed) = replaced(&replacer, &b"a-a"[..]);
        let expected = Passed {
            replaced: 2,
            read: 3,
            written: 7,
        };
        assert_eq!(passed, expected);
    }

    /// Numbers that look random and are the same every time (xorshift).
    fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        }
    }

    /// Gives a text in pieces of odd lengths.
    struct InPieces<'a, F> {
        text: &'a [u8],
        length: F,
    }

    impl<F: FnMut() -> usize> Read for InPieces<'_, F> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = (self.length)().min(buffer.len()).min(self.text.len());
            let (piece, rest) = self.text.split_at(length);
            buffer[..length].copy_from_slice(piece);
            self.text = rest;
            Ok(length)
        }
    }

    #[test]
    fn whatever_the_keys_and_the_pieces_are_the_result_is_that_of_the_plainest_way() {
        for seed in 1..=3000 {
            let mut number = numbers(seed);
            let letters = 1 + number(4);
            let mut word = |most: usize, least: usize| {
                let length = least + number(most);
                let letter = iter::repeat_with(|| b"ab$\n"[number(letters)]);
                letter.take(length).collect::<Vec<u8>>()
            };
            let count = (seed % 7) as usize;
            let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = iter::repeat_with(|| (word(5, 1), word(5, 0)))
                .take(count)
                .collect();
            pairs.sort();
            pairs.dedup_by(|one, other| one.0 == other.0);
            let text = word(300, 0);
            let window = 1 + number(40);
            let replacer = Replacer::new(&rules(&pairs)).unwrap().with_window(window);
            let pieces = InPieces {
                text: &text,
                length: || 1 + number(9),
            };
            let (output, passed) = replaced(&replacer, pieces);
            assert_eq!(output, naive(&pairs, &text), "seed {seed}");
            assert_eq!(passed.written, output.len() as u64);
            assert_eq!(passed.read, text.len() as u64);
        }
    }

    #[test]
    fn a_failed_read_or_write_is_told_apart() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::Other.into())
            }
        }
        let replacer = Replacer::new(&Rules::default()).unwrap();
        let failed = replacer.pass(Broken, &mut io::sink(), &mut Places::ignored());
        assert!(matches!(failed, Err(PassError::Read(_))));
        let mut full = &mut [0u8; 2][..];
        let failed = replacer.pass(&b"abc"[..], &mut full, &mut Places::ignored());
        assert!(matches!(failed, Err(PassError::Write(_))));
    }
}
