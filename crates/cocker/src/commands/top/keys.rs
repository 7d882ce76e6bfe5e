//! From the bytes that a terminal sends to the keys that were typed (xterm's ctlseqs, "PC-Style Function Keys").

/// A key that means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Character(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// With Ctrl, the letter in lower case.
    Control(char),
}

const ESCAPE: u8 = 0x1b;

/// No sequence of a key is longer.
const LONGEST: usize = 32;

/// Keys come in pieces: what may still become one is kept.
#[derive(Default)]
pub struct Keys {
    /// Empty, or the beginning of a sequence.
    begun: Vec<u8>,
}

impl Keys {
    /// The keys that are whole with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in bytes {
            if self.begun.is_empty() && byte != ESCAPE {
                keys.extend(plain(byte));
                continue;
            }
            // Escape was typed, and then the next key begins.
            if self.begun == [ESCAPE] && byte == ESCAPE {
                keys.push(Key::Escape);
                continue;
            }
            self.begun.push(byte);
            if is_whole(&self.begun) || self.begun.len() > LONGEST {
                keys.extend(named(&self.begun));
                self.begun.clear();
            }
        }
        keys
    }

    /// Whether the last bytes may be the key Escape, or the beginning of another one.
    pub fn is_in_doubt(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Nothing followed: Escape it was, or nothing.
    pub fn decide(&mut self) -> Option<Key> {
        let is_escape = self.begun == [ESCAPE];
        self.begun.clear();
        is_escape.then_some(Key::Escape)
    }
}

fn plain(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        0x08 | 0x7f => Some(Key::Backspace),
        0x01..=0x1a => Some(Key::Control((byte + b'a' - 1).into())),
        b' '..=b'~' => Some(Key::Character(byte.into())),
        _ => None,
    }
}

/// `ESC O x`, `ESC [ numbers x`, or a character typed with Alt.
fn is_whole(sequence: &[u8]) -> bool {
    match sequence {
        [_] | [_, b'[' | b'O'] => false,
        [_, b'[', .., last] => (0x40..=0x7e).contains(last),
        _ => true,
    }
}

fn named(sequence: &[u8]) -> Option<Key> {
    match sequence.get(1..)? {
        b"[A" | b"OA" => Some(Key::Up),
        b"[B" | b"OB" => Some(Key::Down),
        b"[5~" => Some(Key::PageUp),
        b"[6~" => Some(Key::PageDown),
        b"[H" | b"OH" | b"[1~" | b"[7~" => Some(Key::Home),
        b"[F" | b"OF" | b"[4~" | b"[8~" => Some(Key::End),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_in_however_many_pieces_they_come() {
        let typed = b"c/\x1b[A\x1bOB\x1b[5~\x1b[1;5C\x1bx\r\x7f\x03\x1b[F\x80~";
        let expected = [
            Key::Character('c'),
            Key::Character('/'),
            Key::Up,
            Key::Down,
            Key::PageUp,
            Key::Enter,
            Key::Backspace,
            Key::Control('c'),
            Key::End,
            Key::Character('~'),
        ];
        for size in 1..=typed.len() {
            let mut keys = Keys::default();
            let got: Vec<Key> = typed
                .chunks(size)
                .flat_map(|piece| keys.push(piece))
                .collect();
            assert_eq!(got, expected, "{size}");
            assert!(!keys.is_in_doubt());
        }
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1b"), []);
        assert!(keys.is_in_doubt());
        assert_eq!(keys.decide(), Some(Key::Escape));
        assert_eq!(keys.decide(), None);
        assert_eq!(keys.push(b"\x1b\x1b[B"), [Key::Escape, Key::Down]);
        assert_eq!(keys.push(b"\x1b["), []);
        assert_eq!(keys.decide(), None);
    }

    #[test]
    fn what_never_ends_is_no_key_and_is_not_kept() {
        let mut keys = Keys::default();
        let endless = [b"\x1b[".as_slice(), &[b'1'; 1000]].concat();
        keys.push(&endless);
        assert!(keys.begun.len() <= LONGEST);
    }
}
