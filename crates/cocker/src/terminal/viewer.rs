//! The loop between the user's terminal and the session's.
//!
//! Each way has a bounded buffer of its own, and a way whose buffer is full is not read: a long paste waits for the
//! container, a flood of output for the user, and neither for the other.

use super::detach_key::DetachKey;
use super::raw_mode;
use super::replay::Replay;
use super::{Outcome, Sight};
use crate::failure::Failure;
use crate::recorder::{Recorder, Stream};
use crate::signals::{self, Signals};
use crate::standard_streams::{Sink, SinkKind};
use cocker_engine::{Ending, MOST_TYPED, ModeTracker, Session, Shown, WindowSize};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{self, Errno};
use rustix::stdio;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::low_level::emulate_default_handler;
use std::time::Instant;

const TAKEN: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP, SIGCONT];

/// Most bytes that wait on each way.
const BUFFER: usize = 64 * 1024;
/// Most bytes that one read takes.
const CHUNK: usize = 16 * 1024;

pub struct Viewer {
    session: Session,
    /// What the session was told at the beginning.
    size: WindowSize,
    is_read_only: bool,
    recorder: Recorder,
    deadline: Option<Instant>,
    signals: Signals,
    stdout: Sink<'static>,
    detach_key: DetachKey,
    /// Typed, for the session.
    input: Vec<u8>,
    /// Shown by the session, for the user.
    output: Vec<u8>,
    /// What the user's terminal was told by it.
    modes: ModeTracker,
    /// What was shown before and is not here as a whole yet.
    replay: Option<Replay>,
    ending: Option<Ending>,
}

impl Viewer {
    /// Takes the signals, so that from now on none ends us with the terminal in raw mode.
    pub fn new(sight: Sight) -> Result<Viewer, Failure> {
        let Sight {
            session,
            size,
            is_read_only,
            recorder,
            deadline,
        } = sight;
        Ok(Viewer {
            session,
            size,
            is_read_only,
            recorder,
            deadline,
            signals: Signals::take(&TAKEN)?,
            stdout: Sink::shared(stdio::stdout()),
            detach_key: DetachKey::default(),
            input: Vec::new(),
            output: Vec::new(),
            modes: ModeTracker::default(),
            replay: None,
            ending: None,
        })
    }

    /// Shows and types until the session ends or is left. Whichever it is, the terminal has no modes of the session's then.
    pub fn watch(mut self) -> (Result<Outcome, Failure>, Recorder) {
        let stopped = self.show_and_type();
        let mut undo = Vec::new();
        self.modes.modes().undo(|part| undo.extend_from_slice(part));
        let has_ended = matches!(stopped, Ok(Stop::Ended(Ending::Exited(_))));
        if !has_ended && self.stdout.kind() == SinkKind::Terminal {
            // It may have been left in the middle of a line, on which nothing else is to be said.
            undo.extend(b"\r\n");
        }
        // A terminal that takes nothing now keeps its modes: there is nobody to wait for.
        let mut rest = &undo[..];
        while let [_, ..] = rest {
            match self.stdout.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(_) => break,
            }
        }
        let outcome = stopped.map(|stop| match stop {
            Stop::Ended(ending) => Outcome::Ended(ending),
            Stop::Left => Outcome::Left,
            Stop::ToldToEnd(signal) => Outcome::ToldToEnd(signal),
            Stop::TimeIsUp => Outcome::TookTooLong(self.session),
        });
        (outcome, self.recorder)
    }

    fn show_and_type(&mut self) -> Result<Stop, Failure> {
        // A window that changed before its signal was taken has told nobody.
        if super::size() != self.size {
            self.tell_size();
        }
        loop {
            if let Some(ending) = self.ending
                && self.output.is_empty()
            {
                return Ok(Stop::Ended(ending));
            }
            let ready = self.wait()?;
            if self
                .deadline
                .is_some_and(|deadline| Instant::now() >= deadline)
            {
                return Ok(Stop::TimeIsUp);
            }
            if ready.signals
                && let Some(signal) = self.obey_signals()
            {
                return Ok(Stop::ToldToEnd(signal));
            }
            if ready.stdin
                && let Some(left) = self.read_typed()
            {
                return Ok(left);
            }
            if ready.session.contains(PollFlags::OUT) {
                self.write_typed()?;
            }
            if ready
                .session
                .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            {
                self.read_shown()?;
            }
            if !ready.stdout.is_empty() && !self.write_shown() {
                return Ok(Stop::ToldToEnd(SIGHUP));
            }
        }
    }

    fn wait(&self) -> Result<Ready, Failure> {
        let is_over = self.ending.is_some();
        let mut session = PollFlags::empty();
        session.set(PollFlags::IN, self.output.len() < BUFFER);
        session.set(PollFlags::OUT, !self.input.is_empty());
        let stdout = if self.output.is_empty() {
            PollFlags::empty()
        } else {
            PollFlags::OUT
        };
        let mut polled = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.stdout, stdout),
        ];
        let mut also = |wanted: bool, entry| {
            wanted.then(|| {
                polled.push(entry);
                polled.len() - 1
            })
        };
        let stdin = also(
            !is_over && self.input.len() < BUFFER,
            PollFd::from_borrowed_fd(stdio::stdin(), PollFlags::IN),
        );
        // A session that has closed with nothing wanted of it would wake us again and again.
        let session = also(
            !is_over && !session.is_empty(),
            PollFd::from_borrowed_fd(self.session.as_fd(), session),
        );
        loop {
            // A moment that no timer has is never.
            let left = self
                .deadline
                .map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut polled, left.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::not_done("cannot wait for the session").caused_by(&error));
                }
            }
        }
        let events = |place: Option<usize>| {
            place.map_or(PollFlags::empty(), |place| polled[place].revents())
        };
        Ok(Ready {
            signals: !polled[0].revents().is_empty(),
            stdout: polled[1].revents(),
            stdin: !events(stdin).is_empty(),
            session: events(session),
        })
    }

    /// The signal that tells us to end, if one came.
    fn obey_signals(&mut self) -> Option<i32> {
        let mut told_to_end = None;
        for signal in self.signals.arrived() {
            match signal {
                SIGWINCH => self.tell_size(),
                SIGTSTP => self.stop(),
                SIGCONT => self.go_on(),
                end => told_to_end = told_to_end.or(signals::asks_to_end(end).then_some(end)),
            }
        }
        told_to_end
    }

    /// Stops as any program does, and without the terminal; whoever had it meanwhile may have changed it.
    fn stop(&mut self) {
        raw_mode::restore();
        let _ = emulate_default_handler(SIGTSTP);
        self.go_on();
    }

    fn go_on(&mut self) {
        raw_mode::enter_again();
        self.tell_size();
    }

    fn tell_size(&mut self) {
        let size = super::size();
        self.recorder.resize(size);
        self.tell(size);
    }

    fn tell(&self, size: WindowSize) {
        if let Err(error) = self.session.resize(size) {
            tracing::debug!("cannot tell the session its size: {error}");
        }
    }

    /// Takes what was typed; says how the session is left, if it is.
    fn read_typed(&mut self) -> Option<Stop> {
        let mut typed = [0; CHUNK];
        match io::read(stdio::stdin(), &mut typed) {
            Ok(0) => Some(Stop::ToldToEnd(SIGHUP)),
            Ok(count) => {
                let typed = &typed[..count];
                if !self.is_read_only {
                    self.input.extend_from_slice(typed);
                }
                self.detach_key
                    .is_completed_by(typed, Instant::now())
                    .then_some(Stop::Left)
            }
            Err(Errno::INTR | Errno::AGAIN) => None,
            // The terminal is gone.
            Err(_) => Some(Stop::ToldToEnd(SIGHUP)),
        }
    }

    fn write_typed(&mut self) -> Result<(), Failure> {
        while !self.input.is_empty() {
            let count = self.input.len().min(MOST_TYPED);
            if !self.session.type_in(&self.input[..count])? {
                break;
            }
            self.input.drain(..count);
        }
        Ok(())
    }

    /// Takes what the session shows, as far as there is room for it.
    fn read_shown(&mut self) -> Result<(), Failure> {
        while self.output.len() < BUFFER && self.ending.is_none() {
            match self.session.take()? {
                None => break,
                Some(Shown::Ended(ending)) => self.ending = Some(ending),
                Some(Shown::Replay(shown_before)) => {
                    self.replay = Some(Replay::new(shown_before));
                    self.draw_replay();
                }
                Some(Shown::Output(bytes)) => {
                    let rest = match &mut self.replay {
                        Some(replay) => replay.take(bytes),
                        None => bytes,
                    };
                    // What belongs behind the drawing waits until there is one.
                    let rest = match &self.replay {
                        Some(_) => rest.to_vec(),
                        None => {
                            self.modes.follow(rest);
                            self.recorder.output(Stream::Output, rest);
                            self.output.extend_from_slice(rest);
                            continue;
                        }
                    };
                    self.draw_replay();
                    self.show(&rest);
                }
            }
        }
        Ok(())
    }

    /// Draws what was shown before, if all of it is here.
    fn draw_replay(&mut self) {
        let Some(replay) = self.replay.take_if(|replay| replay.is_whole()) else {
            return;
        };
        let size = super::size();
        // A program that has the whole screen draws it itself when it is told of a new size.
        if replay.is_alternate_screen() && replay.size() == size {
            let rows = size.rows.saturating_sub(1).max(1);
            self.tell(WindowSize { rows, ..size });
            self.tell(size);
        }
        self.show(&replay.drawing(size.rows));
    }

    fn show(&mut self, bytes: &[u8]) {
        self.modes.follow(bytes);
        self.recorder.output(Stream::Output, bytes);
        self.output.extend_from_slice(bytes);
    }

    /// Shows what is waiting; false when nobody can see it any more.
    fn write_shown(&mut self) -> bool {
        if self.output.is_empty() {
            // Only a terminal that is gone, or a reader, makes poll tell of stdout now.
            return false;
        }
        match self.stdout.write(&self.output) {
            Ok(count) => {
                self.output.drain(..count);
                true
            }
            Err(Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}

/// Why there is nothing more to show or type.
enum Stop {
    Ended(Ending),
    Left,
    ToldToEnd(i32),
    TimeIsUp,
}

/// What poll found.
struct Ready {
    signals: bool,
    stdin: bool,
    stdout: PollFlags,
    session: PollFlags,
}
