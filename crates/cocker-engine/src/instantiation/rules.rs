//! Rules: which key becomes which value, and the file that gives them.
//!
//! ```text
//! KEY   VALUE to the end of the line         blanks are spaces and tabs; those before KEY do not count
//! ```
//!
//! Keys and values are bytes; a key is taken as it stands, `${LEAF}` and `#x` alike. Rules come from several sources, of
//! which a later one has the last word.

use std::collections::BTreeMap;
use std::fmt;

/// The most bytes of a file of rules.
pub const MOST_MAPPING_BYTES: usize = 16 << 20;
/// The most bytes of one key, and of all together: they are searched for at once, by a table that grows with them.
pub const MOST_KEY_BYTES: usize = 64 << 10;
pub const MOST_KEYS_BYTES: usize = 1 << 20;

/// The rules of one instantiation, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(BTreeMap<Vec<u8>, Vec<u8>>);

/// What is wrong with rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRules {
    #[error("line {line}: key `{key}` has no value")]
    NoValue { line: usize, key: Shown },
    #[error("key `{key}` is on line {first} and on line {line}")]
    Twice {
        key: Shown,
        first: usize,
        line: usize,
    },
    #[error("key `{key}` is longer than {MOST_KEY_BYTES} bytes")]
    LongKey { key: Shown },
    #[error("all keys together have more than {MOST_KEYS_BYTES} bytes")]
    ManyKeys,
    #[error("it is larger than {MOST_MAPPING_BYTES} bytes")]
    TooLarge,
    #[error("a key is empty")]
    NoKey,
}

/// Bytes as they are told in an error, shortened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(Vec<u8>);

impl Shown {
    fn of(bytes: &[u8]) -> Shown {
        const MOST: usize = 64;
        match bytes.len() {
            ..=MOST => Shown(bytes.to_vec()),
            _ => Shown([&bytes[..MOST], "…".as_bytes()].concat()),
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Rules {
    /// Reads the text of a file of rules. Lines with nothing but blanks in them say nothing.
    pub fn parse(text: &[u8]) -> Result<Rules, BadRules> {
        if text.len() > MOST_MAPPING_BYTES {
            return Err(BadRules::TooLarge);
        }
        let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let mut rules = Rules::default();
        let mut lines: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (index, whole) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = index + 1;
            let start = whole.iter().position(|byte| !is_blank(byte));
            let Some(start) = start else {
                continue;
            };
            let said = &whole[start..];
            let key = &said[..said.iter().position(is_blank).unwrap_or(said.len())];
            let rest = &said[key.len()..];
            let Some(value) = rest.iter().position(|byte| !is_blank(byte)) else {
                let key = Shown::of(key);
                return Err(BadRules::NoValue { line, key });
            };
            if let Some(&first) = lines.get(key) {
                let key = Shown::of(key);
                return Err(BadRules::Twice { key, first, line });
            }
            lines.insert(key, line);
            rules.set(key.to_vec(), rest[value..].to_vec());
        }
        Ok(rules)
    }

    /// Makes a rule, in the place of one with the same key; which is then returned.
    pub fn set(&mut self, key: Vec<u8>, value: Vec<u8>) -> Option<Vec<u8>> {
        self.0.insert(key, value)
    }

    /// Adds the rules of another source, which has the last word.
    pub fn add(&mut self, later: Rules) {
        self.0.extend(later.0);
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values, by key; or what is too much to be searched for.
    pub(super) fn checked(&self) -> Result<impl Iterator<Item = (&[u8], &[u8])>, BadRules> {
        if let Some(long) = self.0.keys().find(|key| key.len() > MOST_KEY_BYTES) {
            let key = Shown::of(long);
            return Err(BadRules::LongKey { key });
        }
        if self.0.contains_key(&b""[..]) {
            return Err(BadRules::NoKey);
        }
        if self.0.keys().map(Vec::len).sum::<usize>() > MOST_KEYS_BYTES {
            return Err(BadRules::ManyKeys);
        }
        let pairs = self.0.iter();
        Ok(pairs.map(|(key, value)| (&key[..], &value[..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        Rules::parse(text).unwrap().0.into_iter().collect()
    }

    fn pair(key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
        (key.into(), value.into())
    }

    #[test]
    fn a_rule_is_a_key_blanks_and_the_rest_of_the_line() {
        assert_eq!(
            parsed(b"${LEAF} 8080\n\n \t\nA\t \tb c  \n  B x\n# y"),
            [
                pair(b"#", b"y"),
                pair(b"${LEAF}", b"8080"),
                pair(b"A", b"b c  "),
                pair(b"B", b"x"),
            ]
        );
        assert_eq!(parsed(b""), []);
        assert_eq!(parsed(b"\xff\x00 \xfe\r\n"), [pair(b"\xff\x00", b"\xfe\r")]);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_line() {
        let told = |text: &[u8]| Rules::parse(text).unwrap_err().to_string();
        assert_eq!(told(b"A 1\n\nB\n"), "line 3: key `B` has no value");
        assert_eq!(told(b"B \t "), "line 1: key `B` has no value");
        assert_eq!(
            told(b"A 1\nB 2\nA 1\n"),
            "key `A` is on line 1 and on line 3"
        );
        let long = [&[b'k'; 1000][..], b"\n"].concat();
        assert!(told(&long).len() < 200);
        assert!(told(&vec![b'\n'; MOST_MAPPING_BYTES + 1]).contains("larger than"));
    }

    #[test]
    fn a_later_source_has_the_last_word() {
        let mut rules = Rules::parse(b"A 1\nB 2\n").unwrap();
        rules.add(Rules::parse(b"B 3\nC 4\n").unwrap());
        assert_eq!(rules.set(b"A".to_vec(), b"5".to_vec()), Some(b"1".to_vec()));
        let pairs: Vec<_> = rules.checked().unwrap().collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"A", b"5"), (b"B", b"3"), (b"C", b"4")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn what_would_take_too_much_memory_is_refused() {
        let mut rules = Rules::default();
        rules.set(vec![b'k'; MOST_KEY_BYTES + 1], vec![]);
        assert!(matches!(
            rules.checked().err(),
            Some(BadRules::LongKey { .. })
        ));
        let mut rules = Rules::default();
        for number in 0..17u8 {
            rules.set(vec![number; MOST_KEY_BYTES], vec![]);
        }
        assert_eq!(rules.checked().err(), Some(BadRules::ManyKeys));
        let mut rules = Rules::default();
        rules.set(vec![], b"x".to_vec());
        assert_eq!(rules.checked().err(), Some(BadRules::NoKey));
    }
}
