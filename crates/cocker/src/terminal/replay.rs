//! What a session has shown before, drawn on the user's terminal as it looks now.
//!
//! The bytes themselves may be 64 KiB of a screen that was drawn a hundred times over, and begin within a sequence. So they
//! go to a terminal of our own making, and what that shows is drawn.

use cocker_engine::{ShownBefore, WindowSize};
use std::num::NonZeroU16;

/// What is being gathered.
pub struct Replay {
    /// How it was shown, and how many bytes of it are not here yet.
    shown: ShownBefore,
    bytes: Vec<u8>,
}

/// A screen larger than any; sizes come from elsewhere.
const MOST_ROWS: u16 = 1000;
const MOST_COLUMNS: u16 = 2000;

impl Replay {
    pub fn new(shown: ShownBefore) -> Replay {
        Replay {
            shown,
            bytes: Vec::new(),
        }
    }

    /// Takes the first of `bytes` that belong to it, and gives the others back.
    pub fn take<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (ours, others) = bytes.split_at(bytes.len().min(self.shown.length));
        self.shown.length -= ours.len();
        self.bytes.extend_from_slice(ours);
        others
    }

    pub fn is_whole(&self) -> bool {
        self.shown.length == 0
    }

    /// The bytes that show it on a terminal of `rows` lines, without losing what stands there.
    pub fn drawing(&self, rows: u16) -> Vec<u8> {
        let mut terminal = terminal_of(self.shown.size);
        let mut drawing = Vec::new();
        if self.shown.modes.is_alternate_screen() {
            self.shown.modes.enter_screen(|part| terminal.process(part));
            self.shown
                .modes
                .enter_screen(|part| drawing.extend_from_slice(part));
        } else {
            // The lines that the user's terminal shows go up, and can be looked back at.
            drawing.extend(b"\r\n".repeat(rows.into()));
        }
        terminal.process(&self.bytes);
        drawing.extend(terminal.screen().contents_formatted().bytes());
        self.shown
            .modes
            .redo(|part| drawing.extend_from_slice(part));
        drawing
    }

    /// Whether a program has the whole screen, which draws itself best.
    pub fn is_alternate_screen(&self) -> bool {
        self.shown.modes.is_alternate_screen()
    }

    pub fn size(&self) -> WindowSize {
        self.shown.size
    }
}

fn terminal_of(size: WindowSize) -> vt100::Parser {
    let side = |side: u16, most| NonZeroU16::new(side.min(most)).unwrap_or(NonZeroU16::MIN);
    let rows = side(size.rows, MOST_ROWS);
    vt100::Parser::new(rows, side(size.columns, MOST_COLUMNS), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocker_engine::{ModeTracker, Modes};

    const SIZE: WindowSize = WindowSize {
        rows: 5,
        columns: 20,
    };

    fn of(length: usize, size: WindowSize, modes: Modes) -> Replay {
        Replay::new(ShownBefore {
            length,
            size,
            modes,
        })
    }

    /// What a terminal of that size shows after `shown` was replayed on it.
    fn replayed(shown: &[u8]) -> vt100::Parser {
        let mut tracker = ModeTracker::default();
        tracker.follow(shown);
        let mut replay = of(shown.len(), SIZE, tracker.modes());
        for part in shown.chunks(7) {
            assert!(replay.take(part).is_empty());
        }
        assert!(replay.is_whole());
        let mut terminal = terminal_of(SIZE);
        terminal.process(&replay.drawing(SIZE.rows));
        terminal
    }

    fn directly(shown: &[u8]) -> vt100::Parser {
        let mut terminal = terminal_of(SIZE);
        terminal.process(shown);
        terminal
    }

    fn looks_the_same(shown: &[u8]) {
        let (replayed, direct) = (replayed(shown), directly(shown));
        let (replayed, direct) = (replayed.screen(), direct.screen());
        assert_eq!(replayed.contents_formatted(), direct.contents_formatted());
        assert_eq!(replayed.cursor_position(), direct.cursor_position());
        assert_eq!(
            replayed.input_mode_formatted(),
            direct.input_mode_formatted()
        );
        assert_eq!(replayed.alternate_screen(), direct.alternate_screen());
    }

    #[test]
    fn what_was_shown_looks_as_it_did() {
        looks_the_same(b"");
        looks_the_same(b"[root@a /root] ");
        looks_the_same(b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n\x1b[31mred\x1b[m \x1b[1mbold");
        looks_the_same("日本語 größer\r\n\x1b[?2004h$ ".as_bytes());
        looks_the_same(b"before\r\n\x1b[?1049h\x1b[?1h\x1b=\x1b[H\x1b[2Jeditor\x1b[3;1H~\x1b[?25l");
        looks_the_same(b"\x1b[?1049heditor\x1b[?1049lafter");
        looks_the_same(b"\x1b[?1002;1006h\x1b[?7lx");
    }

    #[test]
    fn a_beginning_within_a_sequence_or_a_character_is_survived() {
        for start in 1..9 {
            let shown = &"日本\x1b[31mx\r\n".as_bytes()[start..];
            assert!(replayed(shown).screen().contents().contains('x'));
        }
    }

    #[test]
    fn what_comes_behind_it_is_given_back() {
        let mut replay = of(3, SIZE, Modes::default());
        assert_eq!(replay.take(b"ab"), b"");
        assert!(!replay.is_whole());
        assert_eq!(replay.take(b"cde"), b"de");
        assert!(replay.is_whole());
    }

    #[test]
    fn a_size_of_nothing_or_of_everything_is_survived() {
        for side in [0, u16::MAX] {
            let size = WindowSize {
                rows: side,
                columns: side,
            };
            let mut replay = of(1, size, Modes::default());
            replay.take(b"x");
            assert!(!replay.drawing(24).is_empty());
        }
    }
}
