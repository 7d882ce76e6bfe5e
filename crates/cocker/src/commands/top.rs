//! `top`: all booted containers on the whole screen, looked at again and again.
//!
//! ```text
//! figures ──▶ view ──▶ canvas ──▶ bytes ──▶ terminal     a terminal that is slow gets fewer pictures, never old ones
//! keys    ──▶ view                                       signals: the terminal is given back before anything ends or stops
//! ```

mod keys;
mod view;

use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::signals::{self, Signals};
use crate::standard_streams::Sink;
use crate::terminal::full_screen::{self, Canvas, FullScreen};
use cocker_engine::{Engine, Watched};
use keys::Keys;
use ratatui_core::terminal::Terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use std::time::{Duration, Instant};
use view::{View, Wish};

const TAKEN: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT];

/// A terminal sends the bytes of a key at once: after this, no more of them come.
const KEY_IS_OVER: Duration = Duration::from_millis(50);

/// Shows the screen until the user leaves it.
pub fn execute(engine: &Engine, interval: Duration) -> Result<ExitCode, Failure> {
    full_screen::require()?;
    let first = engine.figures(Watched::AllBooted)?;
    let Ok(canvas) = Terminal::new(Canvas::default());
    let mut top = Top {
        engine,
        interval,
        next: Instant::now() + interval,
        signals: Signals::take(&TAKEN)?,
        stdout: Sink::shared(stdio::stdout()),
        canvas,
        waiting: Vec::new(),
        is_drawn: false,
        keys: Keys::default(),
        key_is_over: None,
        view: View::new(first),
    };
    let screen = full_screen::enter()?;
    let left = top.show(&screen);
    drop(screen);
    Ok(match left? {
        Left::ByKey => ExitCode::SUCCESS,
        Left::BySignal(signal) => ExitCode::from(signals::exit_code(signal)),
    })
}

/// How the screen was left.
enum Left {
    ByKey,
    /// Or by a terminal that is gone (SIGHUP).
    BySignal(i32),
}

struct Top<'a> {
    engine: &'a Engine,
    interval: Duration,
    /// When the containers are looked at again.
    next: Instant,
    signals: Signals,
    stdout: Sink<'static>,
    canvas: Terminal<Canvas>,
    /// Drawn, and not yet on the terminal.
    waiting: Vec<u8>,
    /// The view has not changed since it was drawn.
    is_drawn: bool,
    keys: Keys,
    /// When a key that has begun is given up.
    key_is_over: Option<Instant>,
    view: View,
}

/// What poll found.
struct Ready {
    signals: bool,
    stdin: bool,
    stdout: PollFlags,
}

impl Top<'_> {
    fn show(&mut self, screen: &FullScreen) -> Result<Left, Failure> {
        loop {
            if self.waiting.is_empty() && !self.is_drawn {
                self.draw();
            }
            let ready = self.wait()?;
            if ready.signals
                && let Some(signal) = self.obey_signals(screen)
            {
                return Ok(Left::BySignal(signal));
            }
            if ready.stdin
                && let Some(left) = self.read_keys(screen)
            {
                return Ok(left);
            }
            let now = Instant::now();
            if self.key_is_over.is_some_and(|over| over <= now) {
                self.key_is_over = None;
                let key = self.keys.decide();
                if let Some(left) = key.and_then(|key| self.obey(key, screen)) {
                    return Ok(left);
                }
            }
            if !self.write(ready.stdout) {
                return Ok(Left::BySignal(SIGHUP));
            }
            // Of a terminal that has not taken the last picture yet there would be nothing new to see.
            if self.next <= now && self.waiting.is_empty() {
                let figures = self.engine.figures(Watched::AllBooted)?;
                self.view.take(figures);
                self.is_drawn = false;
                self.next = (self.next + self.interval).max(Instant::now());
            }
        }
    }

    fn draw(&mut self) {
        let view = &mut self.view;
        let Ok(_) = self.canvas.draw(|frame| view.draw(frame.buffer_mut()));
        self.waiting = self.canvas.backend_mut().take();
        self.is_drawn = true;
    }

    /// What is on the terminal is not what was drawn there.
    fn draw_anew(&mut self) {
        let Ok(()) = self.canvas.clear();
        // What was waiting is a part of what is drawn now.
        self.waiting.clear();
        self.is_drawn = false;
    }

    fn wait(&self) -> Result<Ready, Failure> {
        let stdout = match self.waiting.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::OUT,
        };
        let mut polled = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::from_borrowed_fd(stdio::stdin(), PollFlags::IN),
            PollFd::new(&self.stdout, stdout),
        ];
        loop {
            let next = self.waiting.is_empty().then_some(self.next);
            let until = next.into_iter().chain(self.key_is_over).min();
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // A moment that no timer has is never.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polled, left.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::not_done("cannot wait for a key").caused_by(&error));
                }
            }
        }
        let [signals, stdin, stdout] = polled.map(|entry| entry.revents());
        Ok(Ready {
            signals: !signals.is_empty(),
            stdin: !stdin.is_empty(),
            stdout,
        })
    }

    /// The signal that tells us to end, if one came.
    fn obey_signals(&mut self, screen: &FullScreen) -> Option<i32> {
        let mut told_to_end = None;
        for signal in self.signals.arrived() {
            match signal {
                SIGWINCH => self.is_drawn = false,
                SIGTSTP => self.stop(screen),
                SIGCONT => {
                    screen.go_on();
                    self.draw_anew();
                }
                end => told_to_end = told_to_end.or(signals::asks_to_end(end).then_some(end)),
            }
        }
        told_to_end
    }

    fn stop(&mut self, screen: &FullScreen) {
        screen.stop();
        self.draw_anew();
    }

    fn read_keys(&mut self, screen: &FullScreen) -> Option<Left> {
        let mut typed = [0; 1024];
        let count = match rustix::io::read(stdio::stdin(), &mut typed) {
            Ok(0) => return Some(Left::BySignal(SIGHUP)),
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return None,
            // The terminal is gone.
            Err(_) => return Some(Left::BySignal(SIGHUP)),
        };
        for key in self.keys.push(&typed[..count]) {
            if let Some(left) = self.obey(key, screen) {
                return Some(left);
            }
        }
        let is_in_doubt = self.keys.is_in_doubt();
        self.key_is_over = is_in_doubt.then(|| Instant::now() + KEY_IS_OVER);
        None
    }

    fn obey(&mut self, key: keys::Key, screen: &FullScreen) -> Option<Left> {
        self.is_drawn = false;
        match self.view.obey(key) {
            Wish::Leave => return Some(Left::ByKey),
            Wish::Draw => {}
            Wish::DrawAnew => self.draw_anew(),
            Wish::Stop => self.stop(screen),
        }
        None
    }

    /// Writes what is waiting; false when nobody can see it any more.
    fn write(&mut self, ready: PollFlags) -> bool {
        if ready.intersects(PollFlags::HUP | PollFlags::ERR) {
            return false;
        }
        if self.waiting.is_empty() || ready.is_empty() {
            return true;
        }
        match self.stdout.write(&self.waiting) {
            Ok(count) => {
                self.waiting.drain(..count);
                true
            }
            Err(Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}
