//! The whole of the user's terminal for a while, and back on every way out: the alternate screen, without a cursor, in raw
//! mode (xterm's ctlseqs, "The Alternate Screen Buffer").
//!
//! Whether we have it is kept beside the guard, so that a panic can give it back too: there is no unwinding here.

use super::{raw_mode, size};
use crate::environment;
use crate::failure::Failure;
use crate::standard_streams::Sink;
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::Modifier;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio;
use rustix::termios::isatty;
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;
use std::convert::Infallible;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_OURS: AtomicBool = AtomicBool::new(false);

const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// How long a terminal that takes nothing is waited for before it is left as it is.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Gives the terminal back when dropped.
pub struct FullScreen(());

/// Refuses to go on where there is no whole screen to draw on.
pub fn require() -> Result<(), Failure> {
    let refused = |why: &str| {
        Failure::not_done(format!("cannot draw on the whole screen: {why}"))
            .hint("`cocker stats` prints the same once, `cocker stats --live` again and again.")
    };
    if !isatty(stdio::stdin()) {
        return Err(refused("stdin is not a terminal"));
    }
    if !isatty(stdio::stdout()) {
        return Err(refused("stdout is not a terminal"));
    }
    match environment::terminal_type().as_str() {
        "dumb" => Err(refused("TERM says that the terminal can only show lines")),
        _ => Ok(()),
    }
}

/// Takes the terminal. Signals that end or stop must have been taken before.
pub fn enter() -> Result<FullScreen, Failure> {
    let raw = raw_mode::enter()?;
    IS_OURS.store(true, Ordering::Relaxed);
    tell(ENTER);
    // From here on `leave` does both.
    std::mem::forget(raw);
    Ok(FullScreen(()))
}

/// Gives the terminal back as it was; does nothing where it is not ours.
pub fn leave() {
    if IS_OURS.swap(false, Ordering::Relaxed) {
        tell(LEAVE);
    }
    raw_mode::restore();
}

impl FullScreen {
    /// Stops as any program does, and without the terminal. When this returns we go on, and all has to be drawn again.
    pub fn stop(&self) {
        leave();
        let _ = emulate_default_handler(SIGTSTP);
        self.go_on();
    }

    /// Takes the terminal again, which somebody else may have had meanwhile.
    pub fn go_on(&self) {
        raw_mode::enter_again();
        IS_OURS.store(true, Ordering::Relaxed);
        tell(ENTER);
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        leave();
    }
}

/// Writes to the terminal without ever standing still.
fn tell(mut bytes: &[u8]) {
    let sink = Sink::shared(stdio::stdout());
    while !bytes.is_empty() {
        match poll(&mut [PollFd::new(&sink, PollFlags::OUT)], Some(&PATIENCE)) {
            Err(Errno::INTR) => continue,
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match sink.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

/// Draws into bytes for the terminal, for whoever writes them. Knows no colours: what steers is bold, underlined and reversed
/// (ECMA-48, SGR).
#[derive(Default)]
pub struct Canvas {
    bytes: Vec<u8>,
    cursor: Position,
}

impl Canvas {
    /// What was drawn since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.bytes
            .write_fmt(what)
            .expect("there is always room for more");
    }

    fn go_to(&mut self, position: Position) {
        self.cursor = position;
        self.say(format_args!("\x1b[{};{}H", position.y + 1, position.x + 1));
    }

    fn style(&mut self, style: Modifier) {
        self.say(format_args!("\x1b[0"));
        let known = [
            (Modifier::BOLD, 1),
            (Modifier::UNDERLINED, 4),
            (Modifier::REVERSED, 7),
        ];
        for (modifier, number) in known {
            if style.contains(modifier) {
                self.say(format_args!(";{number}"));
            }
        }
        self.say(format_args!("m"));
    }
}

impl Backend for Canvas {
    type Error = Infallible;

    fn draw<'a, I>(&mut self, content: I) -> Result<(), Infallible>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut next = None;
        let mut style = Modifier::empty();
        for (x, y, cell) in content {
            if next != Some((x, y)) {
                self.go_to(Position { x, y });
            }
            if cell.modifier != style {
                style = cell.modifier;
                self.style(style);
            }
            self.bytes.extend_from_slice(cell.symbol().as_bytes());
            next = Some((x + 1, y));
        }
        if !style.is_empty() {
            self.style(Modifier::empty());
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> Result<(), Infallible> {
        self.say(format_args!("\x1b[?25l"));
        Ok(())
    }

    fn show_cursor(&mut self) -> Result<(), Infallible> {
        self.say(format_args!("\x1b[?25h"));
        Ok(())
    }

    /// As it was put last: the terminal is not asked.
    fn get_cursor_position(&mut self) -> Result<Position, Infallible> {
        Ok(self.cursor)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> Result<(), Infallible> {
        self.go_to(position.into());
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Infallible> {
        self.clear_region(ClearType::All)
    }

    fn clear_region(&mut self, region: ClearType) -> Result<(), Infallible> {
        self.say(format_args!(
            "\x1b[{}",
            match region {
                ClearType::All => "2J",
                ClearType::AfterCursor => "J",
                ClearType::BeforeCursor => "1J",
                ClearType::CurrentLine => "2K",
                ClearType::UntilNewLine => "K",
            }
        ));
        Ok(())
    }

    fn size(&self) -> Result<Size, Infallible> {
        let size = size();
        Ok(Size {
            width: size.columns,
            height: size.rows,
        })
    }

    fn window_size(&mut self) -> Result<WindowSize, Infallible> {
        Ok(WindowSize {
            columns_rows: self.size()?,
            pixels: Size::default(),
        })
    }

    /// Nothing is ever waiting: whoever writes the bytes takes them.
    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui_core::buffer::Buffer;
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;
    use std::num::NonZeroU16;

    #[test]
    fn what_is_drawn_is_what_a_terminal_shows() {
        let area = Rect::new(0, 0, 10, 3);
        let empty = Buffer::empty(area);
        let mut drawn = Buffer::empty(area);
        drawn.set_string(2, 0, "abc", Style::new());
        drawn.set_string(0, 1, "title", Style::new().add_modifier(Modifier::REVERSED));
        drawn.set_string(9, 2, "z", Style::new().add_modifier(Modifier::BOLD));
        let mut canvas = Canvas::default();
        let Ok(()) = canvas.draw(empty.diff(&drawn).into_iter());
        let side = |length| NonZeroU16::new(length).expect("it is some");
        let mut display = vt100::Parser::new(side(3), side(10), 0);
        display.process(&canvas.take());
        let screen = display.screen();
        assert_eq!(screen.contents(), "  abc\ntitle\n         z");
        let cell = |row, column| screen.cell(row, column).expect("it is on the screen");
        assert!(cell(1, 4).inverse() && !cell(1, 5).inverse() && !cell(0, 2).inverse());
        assert!(cell(2, 9).bold() && !cell(1, 0).bold());
        assert!(canvas.take().is_empty());
    }
}
