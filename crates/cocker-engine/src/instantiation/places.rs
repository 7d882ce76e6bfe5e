//! The places of a template that look as if they wanted a value: `${NAME}`.
//!
//! What no rule has replaced is looked through. A name is a letter or `_`, then letters, digits, `_`, `.` and `-`.

/// The most bytes of a name; what is longer is none.
const LONGEST_NAME: usize = 256;
/// So many places are remembered; the others are counted.
pub(super) const MOST: usize = 20;

/// A place without a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub name: String,
    pub line: u64,
}

/// The places that were found so far.
pub(super) struct Places {
    is_ignored: bool,
    found: Vec<Place>,
    count: u64,
    line: u64,
    state: State,
    name: Vec<u8>,
}

enum State {
    Outside,
    /// Behind `$`.
    Dollar,
    /// Behind `${`.
    Name,
}

impl Places {
    /// Looks for them.
    pub(super) fn sought() -> Places {
        Places {
            is_ignored: false,
            found: Vec::new(),
            count: 0,
            line: 1,
            state: State::Outside,
            name: Vec::new(),
        }
    }

    /// Takes no notice.
    pub(super) fn ignored() -> Places {
        Places {
            is_ignored: true,
            ..Places::sought()
        }
    }

    /// What of the template is not replaced, in pieces.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        if self.is_ignored {
            return;
        }
        for &byte in bytes {
            self.pass_byte(byte);
        }
    }

    /// A key that is replaced: no place reaches over it.
    pub(super) fn pass_key(&mut self, key: &[u8]) {
        if self.is_ignored {
            return;
        }
        self.state = State::Outside;
        self.line += key.iter().filter(|&&byte| byte == b'\n').count() as u64;
    }

    /// The first places, and how many there are.
    pub(super) fn found(self) -> (Vec<Place>, u64) {
        (self.found, self.count)
    }

    fn pass_byte(&mut self, byte: u8) {
        self.state = match (&self.state, byte) {
            (State::Dollar, b'{') => {
                self.name.clear();
                State::Name
            }
            (State::Name, b'}') if !self.name.is_empty() => {
                self.note();
                State::Outside
            }
            (State::Name, byte) if self.may_go_on(byte) => {
                self.name.push(byte);
                State::Name
            }
            (_, b'$') => State::Dollar,
            _ => State::Outside,
        };
        self.line += u64::from(byte == b'\n');
    }

    fn may_go_on(&self, byte: u8) -> bool {
        let begins = byte.is_ascii_alphabetic() || byte == b'_';
        let goes_on = begins || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
        match self.name.len() {
            0 => begins,
            length => goes_on && length < LONGEST_NAME,
        }
    }

    fn note(&mut self) {
        self.count += 1;
        if self.found.len() < MOST {
            self.found.push(Place {
                name: String::from_utf8_lossy(&self.name).into_owned(),
                line: self.line,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pieces: &[&str]) -> Vec<(String, u64)> {
        let mut places = Places::sought();
        for piece in pieces {
            match piece.strip_prefix("KEY") {
                Some(key) => places.pass_key(key.as_bytes()),
                None => places.pass(piece.as_bytes()),
            }
        }
        let found = places.found().0.into_iter();
        found.map(|place| (place.name, place.line)).collect()
    }

    #[test]
    fn a_place_is_a_name_in_braces_behind_a_dollar() {
        let name = |name: &str, line| (name.to_string(), line);
        assert_eq!(
            found(&["a ${A} \n${b_1.c-d}$${E}"]),
            [name("A", 1), name("b_1.c-d", 2), name("E", 2)]
        );
        assert_eq!(found(&["$A {A} ${} ${1} ${A B} ${A\n} $ {A} ${-}"]), []);
        assert_eq!(found(&["${${A}"]), [name("A", 1)]);
        assert_eq!(found(&["$", "{", "LO", "NG", "}"]), [name("LONG", 1)]);
        assert_eq!(found(&["${A", "KEYx", "}"]), []);
        assert_eq!(found(&["KEY\n\n", "${A}"]), [name("A", 3)]);
    }

    #[test]
    fn neither_names_nor_places_take_memory_without_bound() {
        assert_eq!(
            found(&[&format!("${{{}}}", "x".repeat(LONGEST_NAME + 1))]),
            []
        );
        let mut places = Places::sought();
        places.pass("${A}".repeat(1000).as_bytes());
        let (found, count) = places.found();
        assert_eq!((found.len(), count), (MOST, 1000));
    }
}
