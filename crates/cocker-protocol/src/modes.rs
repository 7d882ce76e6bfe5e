//! What a session has told its terminal beyond the characters to show: the modes that somebody who comes to look later has
//! to be given, and that somebody who leaves has to be freed of.
//!
//! Control sequences are those of ECMA-48 and of xterm ("XTerm Control Sequences"). Whatever is not a mode passes unseen.
use crate::DecodeError;
use crate::TooLong;
use crate::wire::{Reader, Writer};

/// A private mode (DECSET, DECRST), and whether a terminal has it from the start.
struct Private {
    number: u16,
    from_start: bool,
}

const fn off(number: u16) -> Private {
    Private {
        number,
        from_start: false,
    }
}

const fn on(number: u16) -> Private {
    Private {
        number,
        from_start: true,
    }
}

/// One bit each, the lowest for the first. The alternate screens stand first: they are entered before all else, and left
/// after it.
const PRIVATE: [Private; 20] = [
    off(47),
    off(1047),
    off(1049),
    off(1), // cursor keys of an application
    off(5), // reverse video
    off(6), // origin
    on(7),  // wrapping
    off(9), // mouse
    on(25), // cursor
    off(66),
    off(69),
    off(1000),
    off(1002),
    off(1003),
    off(1004),
    off(1005),
    off(1006),
    off(1015),
    off(1016),
    off(2004), // bracketed paste
];
const ALTERNATE: u32 = 0b111;

/// Modes that have a sequence of their own, in the bits above.
const fn own(index: u32) -> u32 {
    1 << (PRIVATE.len() as u32 + index)
}
const KEYPAD: u32 = own(0);
const LINE_DRAWING: u32 = own(1);
const SHIFTED_OUT: u32 = own(2);
const ATTRIBUTES: u32 = own(3);
const REGION: u32 = own(4);
const CURSOR_STYLE: u32 = own(5);
const MODIFIED_KEYS: u32 = own(6);
const ALL: u32 = own(7) - 1;

/// The longest sequence that is written at once.
const MOST_SEQUENCE: usize = 16;

/// How a terminal differs from one that was just switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    changed: u32,
    /// How many keyboard protocols a program has pushed (`CSI > flags u`).
    keyboards: u8,
}

impl Modes {
    /// Whether a full screen is shown that is not the one with the lines before it.
    pub fn is_alternate_screen(&self) -> bool {
        self.changed & ALTERNATE != 0
    }

    /// Gives `write` the sequences that bring the screen up, on a terminal that has no modes.
    pub fn enter_screen(&self, mut write: impl FnMut(&[u8])) {
        for (bit, private) in PRIVATE.iter().enumerate() {
            if self.changed & ALTERNATE & (1 << bit) != 0 {
                write_private(private, !private.from_start, &mut write);
            }
        }
    }

    /// Gives `write` the sequences that bring the other modes about. Attributes, region, cursor style and what else has a
    /// value are not among them: a program that draws says them anew.
    pub fn redo(&self, mut write: impl FnMut(&[u8])) {
        for (bit, private) in PRIVATE.iter().enumerate() {
            if self.changed & !ALTERNATE & (1 << bit) != 0 {
                write_private(private, !private.from_start, &mut write);
            }
        }
        for (mode, sequence) in [
            (KEYPAD, &b"\x1b="[..]),
            (LINE_DRAWING, b"\x1b(0"),
            (SHIFTED_OUT, b"\x0e"),
            // The stronger of its two values.
            (MODIFIED_KEYS, b"\x1b[>4;2m"),
        ] {
            if self.changed & mode != 0 {
                write(sequence);
            }
        }
    }

    /// Gives `write` the sequences that take these modes back; none where there are none.
    pub fn undo(&self, mut write: impl FnMut(&[u8])) {
        for _ in 0..self.keyboards {
            write(b"\x1b[<u");
        }
        for (mode, sequence) in [
            (MODIFIED_KEYS, &b"\x1b[>4m"[..]),
            (KEYPAD, b"\x1b>"),
            (LINE_DRAWING, b"\x1b(B"),
            (SHIFTED_OUT, b"\x0f"),
            (ATTRIBUTES, b"\x1b[m"),
            (CURSOR_STYLE, b"\x1b[0 q"),
            // It takes the cursor away, which is put back.
            (REGION, b"\x1b7\x1b[r\x1b8"),
        ] {
            if self.changed & mode != 0 {
                write(sequence);
            }
        }
        for (bit, private) in PRIVATE.iter().enumerate().rev() {
            if self.changed & (1 << bit) != 0 {
                write_private(private, private.from_start, &mut write);
            }
        }
    }

    fn set(&mut self, mode: u32, is_changed: bool) {
        if is_changed {
            self.changed |= mode;
        } else {
            self.changed &= !mode;
        }
    }

    fn set_private(&mut self, number: u16, is_on: bool) {
        let mut found = PRIVATE.iter().enumerate();
        if let Some((bit, private)) = found.find(|(_, private)| private.number == number) {
            self.set(1 << bit, is_on != private.from_start);
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) -> Result<(), TooLong> {
        writer.u32(self.changed)?;
        writer.u16(self.keyboards.into())
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let changed = reader.u32()?;
        let keyboards = reader.u16()?;
        match u8::try_from(keyboards) {
            Ok(keyboards) if changed & !ALL == 0 => Ok(Self { changed, keyboards }),
            _ => Err(DecodeError::Malformed("unknown modes of a terminal")),
        }
    }
}

/// Writes `CSI ? number h` or `l`.
fn write_private(private: &Private, is_on: bool, write: &mut impl FnMut(&[u8])) {
    let mut sequence = [0; MOST_SEQUENCE];
    sequence[..3].copy_from_slice(b"\x1b[?");
    let mut end = 3;
    for divisor in [1000, 100, 10, 1] {
        if private.number >= divisor {
            sequence[end] = b'0' + (private.number / divisor % 10) as u8;
            end += 1;
        }
    }
    sequence[end] = if is_on { b'h' } else { b'l' };
    write(&sequence[..=end]);
}

/// Follows what a terminal is sent. Sequences may be cut anywhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModeTracker {
    modes: Modes,
    state: State,
    /// The byte `<`, `=`, `>` or `?` behind the introducer of a control sequence; 0 is none.
    prefix: u8,
    /// The byte before the final one, as the space of `CSI 0 SP q`; 0 is none.
    intermediate: u8,
    parameters: [u16; MOST_PARAMETERS],
    /// The index of the parameter that is being read.
    last: usize,
}

/// Parameters beyond these are not looked at.
const MOST_PARAMETERS: usize = 16;

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Text,
    /// Behind an escape.
    Escape,
    /// Behind `ESC (`.
    Charset,
    /// Behind another escape of three bytes.
    Skipped,
    /// Behind `CSI`.
    Sequence,
}

const ESCAPE: u8 = 0x1b;
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;

impl ModeTracker {
    pub fn modes(&self) -> Modes {
        self.modes
    }

    /// Takes the next bytes of what the terminal is sent.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if matches!(self.state, State::Text) {
                bytes = &bytes[text_length(bytes)..];
            }
            let Some((&byte, rest)) = bytes.split_first() else {
                return;
            };
            self.take(byte);
            bytes = rest;
        }
    }

    fn take(&mut self, byte: u8) {
        match (self.state, byte) {
            (_, ESCAPE) => self.state = State::Escape,
            (_, SHIFT_OUT) => self.modes.set(SHIFTED_OUT, true),
            (_, SHIFT_IN) => self.modes.set(SHIFTED_OUT, false),
            (State::Text, _) => {}
            (State::Escape, _) => self.begin(byte),
            (State::Charset, _) => {
                self.modes.set(LINE_DRAWING, byte == b'0');
                self.state = State::Text;
            }
            (State::Skipped, _) => self.state = State::Text,
            (State::Sequence, b'0'..=b'9') => {
                let parameter = &mut self.parameters[self.last];
                let digit = u16::from(byte - b'0');
                *parameter = parameter.saturating_mul(10).saturating_add(digit);
            }
            (State::Sequence, b';' | b':') if self.last + 1 < MOST_PARAMETERS => self.last += 1,
            (State::Sequence, b';' | b':') => {}
            (State::Sequence, b'<'..=b'?') => self.prefix = byte,
            (State::Sequence, b' '..=b'/') => self.intermediate = byte,
            (State::Sequence, b'@'..=b'~') => {
                self.end(byte);
                self.state = State::Text;
            }
            // Another control character within a sequence is obeyed and does not end it.
            (State::Sequence, 0..=0x17) => {}
            (State::Sequence, _) => self.state = State::Text,
        }
    }

    /// The byte behind an escape.
    fn begin(&mut self, byte: u8) {
        self.state = State::Text;
        match byte {
            b'[' => {
                *self = Self {
                    modes: self.modes,
                    state: State::Sequence,
                    ..Self::default()
                };
            }
            b'(' => self.state = State::Charset,
            b' '..=b'/' => self.state = State::Skipped,
            b'=' => self.modes.set(KEYPAD, true),
            b'>' => self.modes.set(KEYPAD, false),
            b'c' => self.modes = Modes::default(),
            _ => {}
        }
    }

    /// The final byte of a control sequence.
    fn end(&mut self, byte: u8) {
        let parameters = self.parameters;
        let parameters = &parameters[..=self.last];
        match (self.prefix, self.intermediate, byte) {
            (b'?', 0, b'h' | b'l') => {
                for &number in parameters {
                    self.modes.set_private(number, byte == b'h');
                }
            }
            (0, 0, b'm') => self.follow_attributes(parameters),
            (0, 0, b'r') => self.modes.set(REGION, parameters.iter().any(|&p| p != 0)),
            (0, b' ', b'q') => self.modes.set(CURSOR_STYLE, parameters[0] != 0),
            (b'>', 0, b'm') if parameters[0] == 4 => {
                let is_set = parameters.get(1).is_some_and(|&value| value != 0);
                self.modes.set(MODIFIED_KEYS, is_set);
            }
            (b'>', 0, b'u') => self.modes.keyboards = self.modes.keyboards.saturating_add(1),
            (b'<', 0, b'u') => {
                let popped = u8::try_from(parameters[0].max(1)).unwrap_or(u8::MAX);
                self.modes.keyboards = self.modes.keyboards.saturating_sub(popped);
            }
            (0, b'!', b'p') => self.reset_softly(),
            _ => {}
        }
    }

    /// SGR: whether what is written from now on looks different from plain text.
    fn follow_attributes(&mut self, parameters: &[u16]) {
        let mut rest = parameters;
        while let Some((&parameter, behind)) = rest.split_first() {
            rest = behind;
            match parameter {
                0 => self.modes.set(ATTRIBUTES, false),
                22..=29 | 39 | 49 | 59 => {}
                _ => self.modes.set(ATTRIBUTES, true),
            }
            // The numbers behind these are a colour's.
            if let 38 | 48 | 58 = parameter {
                let length = match rest.first() {
                    Some(2) => 4,
                    Some(5) => 2,
                    _ => 0,
                };
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }

    /// DECSTR.
    fn reset_softly(&mut self) {
        for number in [6, 69] {
            self.modes.set_private(number, false);
        }
        for number in [7, 25] {
            self.modes.set_private(number, true);
        }
        self.modes.set_private(1, false);
        for mode in [KEYPAD, LINE_DRAWING, SHIFTED_OUT, ATTRIBUTES, REGION] {
            self.modes.set(mode, false);
        }
    }
}

/// How many bytes there are before the first that may begin a mode. It looks at eight at a time, since a session may show
/// hundreds of megabytes a second.
fn text_length(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, _) = bytes.as_chunks::<8>();
    let plain = words.iter().take_while(|word| {
        let word = u64::from_le_bytes(**word);
        let escapes = has_zero(word ^ (ONES * u64::from(ESCAPE)));
        // 0x0e and 0x0f differ in their lowest bit only.
        let shifts = has_zero((word | ONES) ^ (ONES * u64::from(SHIFT_IN)));
        escapes | shifts == 0
    });
    let start = plain.count() * 8;
    let found = bytes[start..]
        .iter()
        .position(|byte| matches!(*byte, ESCAPE | SHIFT_OUT | SHIFT_IN));
    found.map_or(bytes.len(), |at| start + at)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::String;
    use std::vec::Vec;

    fn after(sent: &[u8]) -> Modes {
        let mut tracker = ModeTracker::default();
        tracker.follow(sent);
        // Cut anywhere it is the same.
        let mut bytewise = ModeTracker::default();
        sent.iter()
            .for_each(|byte| bytewise.follow(std::slice::from_ref(byte)));
        assert_eq!(tracker.modes(), bytewise.modes());
        tracker.modes()
    }

    fn undone(sent: &[u8]) -> String {
        let mut written = Vec::new();
        after(sent).undo(|part| written.extend_from_slice(part));
        String::from_utf8(written).expect("sequences are ASCII")
    }

    #[test]
    fn plain_text_leaves_nothing_to_undo() {
        assert_eq!(undone("größer\r\n日本語\t\x07\x08 [?25l".as_bytes()), "");
        assert_eq!(undone(b"\x1b[H\x1b[2J\x1b[K\x1b]0;title\x07\x1b[5;3H"), "");
    }

    #[test]
    fn what_an_editor_sets_is_undone_in_reverse() {
        let editor = b"\x1b[?1049h\x1b[?1h\x1b=\x1b[?2004h\x1b[?25l\x1b[1;23r\x1b[31m";
        assert!(after(editor).is_alternate_screen());
        assert_eq!(
            undone(editor),
            "\x1b>\x1b[m\x1b7\x1b[r\x1b8\x1b[?2004l\x1b[?25h\x1b[?1l\x1b[?1049l"
        );
    }

    #[test]
    fn what_is_taken_back_by_the_session_is_not_undone() {
        assert_eq!(undone(b"\x1b[?1049h\x1b[?25l\x1b[?25h\x1b[?1049l"), "");
        assert_eq!(undone(b"\x1b[1;31m\x1b[0m"), "");
        assert_eq!(undone(b"\x1b[1;31m\x1b[m"), "");
        assert_eq!(undone(b"\x0e\x0f\x1b(0\x1b(B\x1b=\x1b>"), "");
        assert_eq!(undone(b"\x1b[?1000;1006h\x1b[4 q\x1bc"), "");
        assert_eq!(undone(b"\x1b[>1u\x1b[<u"), "");
    }

    #[test]
    fn a_colours_number_is_no_attribute() {
        assert_eq!(undone(b"\x1b[38;5;0m"), "\x1b[m");
        assert_eq!(undone(b"\x1b[48;2;0;0;0m"), "\x1b[m");
        assert_eq!(undone(b"\x1b[38;5;1m\x1b[0;39m"), "");
    }

    #[test]
    fn noise_is_undone_too() {
        assert_eq!(undone(b"\x0e\xff\xfe\x1b(0"), "\x1b(B\x0f");
        assert_eq!(undone(b"\x1b[>1u\x1b[>4;2m"), "\x1b[<u\x1b[>4m");
    }

    #[test]
    fn redoing_brings_the_same_modes_about() {
        let sent = b"\x1b[?1049h\x1b[?1h\x1b=\x1b[?7l\x1b[?1002;1006h\x1b(0\x0e";
        let mut again = ModeTracker::default();
        after(sent).enter_screen(|part| again.follow(part));
        after(sent).redo(|part| again.follow(part));
        assert_eq!(again.modes(), after(sent));
    }

    #[test]
    fn any_bytes_are_survived_and_can_be_undone() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let likely = b"\x1b\x1b[[?;:0123456789hlmrqpu<>= (c!\x0e\x0fA";
        for _ in 0..2_000 {
            let noise: Vec<u8> = (0..200)
                .map(|_| match random() % 4 {
                    0 => random() as u8,
                    _ => likely[random() as usize % likely.len()],
                })
                .collect();
            let mut sent = noise.clone();
            // Whatever sequence was under way ends.
            sent.extend_from_slice(b"\x1b\\");
            let mut undo = Vec::new();
            after(&sent).undo(|part| undo.extend_from_slice(part));
            sent.extend_from_slice(&undo);
            assert_eq!(after(&sent), Modes::default(), "{noise:?}");
        }
    }

    #[test]
    fn text_is_measured_up_to_the_first_control() {
        for length in 0..40 {
            let mut bytes = std::vec![b'x'; 48];
            for control in [ESCAPE, SHIFT_OUT, SHIFT_IN] {
                bytes[length] = control;
                assert_eq!(text_length(&bytes), length);
                bytes[length] = b'x';
            }
            assert_eq!(text_length(&bytes[..length]), length);
        }
    }
}
