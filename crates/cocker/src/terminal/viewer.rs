//! The loop between the user's terminal and the session's.
//!
//! Each way has a bounded buffer of its own, and a way whose buffer is full is not read: a long paste waits for the
//! container, a flood of output for the user, and neither for the other.

use super::detach_key::DetachKey;
use super::raw_mode;
use crate::failure::Failure;
use crate::signals::{self, Signals};
use crate::standard_streams::{Sink, set_nonblocking};
use cocker_engine::{Ending, Session};
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

pub enum Outcome {
    Ended(Ending),
    Detached,
    /// A signal, or a terminal that is gone (SIGHUP).
    ToldToEnd(i32),
}

pub struct Viewer {
    session: Session,
    signals: Signals,
    stdout: Sink<'static>,
    detach_key: DetachKey,
    /// Typed, for the session.
    input: Vec<u8>,
    /// Shown by the session, for the user.
    output: Vec<u8>,
    /// No program has the session's terminal open any more.
    is_hung_up: bool,
    ending: Option<Ending>,
}

impl Viewer {
    /// Takes the signals, so that from now on none ends us with the terminal in raw mode.
    pub fn new(session: Session) -> Result<Viewer, Failure> {
        let signals = Signals::take(&TAKEN)?;
        set_nonblocking(&session.master).map_err(|error| {
            Failure::not_done("cannot prepare the session's terminal").caused_by(&error)
        })?;
        Ok(Viewer {
            session,
            signals,
            stdout: Sink::shared(stdio::stdout()),
            detach_key: DetachKey::default(),
            input: Vec::new(),
            output: Vec::new(),
            is_hung_up: false,
            ending: None,
        })
    }

    /// Shows and types until the session ends or is left.
    pub fn watch(mut self) -> Result<Outcome, Failure> {
        loop {
            if let Some(ending) = self.ending
                && self.output.is_empty()
            {
                return Ok(Outcome::Ended(ending));
            }
            let ready = self.wait()?;
            if ready.signals
                && let Some(signal) = self.obey_signals()
            {
                return Ok(Outcome::ToldToEnd(signal));
            }
            if ready.stdin
                && let Some(left) = self.read_typed()
            {
                return Ok(left);
            }
            if ready.master.contains(PollFlags::OUT) {
                self.write_typed();
            }
            if ready
                .master
                .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            {
                self.read_shown();
            }
            if !ready.stdout.is_empty() && !self.write_shown() {
                return Ok(Outcome::ToldToEnd(SIGHUP));
            }
            if ready.connection {
                self.ending = Some(self.session.connection.ending()?);
                self.read_the_rest();
            }
        }
    }

    fn wait(&self) -> Result<Ready, Failure> {
        let is_over = self.ending.is_some();
        let mut master = PollFlags::empty();
        master.set(PollFlags::IN, self.output.len() < BUFFER);
        master.set(PollFlags::OUT, !self.input.is_empty());
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
        let (stdin, connection) = (stdio::stdin(), self.session.connection.as_fd());
        let stdin = also(
            !is_over && self.input.len() < BUFFER,
            PollFd::from_borrowed_fd(stdin, PollFlags::IN),
        );
        let connection = also(
            !is_over,
            PollFd::from_borrowed_fd(connection, PollFlags::IN),
        );
        // A hung-up terminal with nothing wanted of it would wake us again and again.
        let wants_master = !is_over && !self.is_hung_up && !master.is_empty();
        let master = also(wants_master, PollFd::new(&self.session.master, master));
        loop {
            match poll(&mut polled, None::<&Timespec>) {
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
            connection: !events(connection).is_empty(),
            master: events(master),
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
    fn stop(&self) {
        raw_mode::restore();
        let _ = emulate_default_handler(SIGTSTP);
        self.go_on();
    }

    fn go_on(&self) {
        raw_mode::enter_again();
        self.tell_size();
    }

    fn tell_size(&self) {
        if let Err(error) = self.session.resize(super::size()) {
            tracing::debug!("cannot tell the session its size: {error}");
        }
    }

    /// Takes what was typed; says how the session is left, if it is.
    fn read_typed(&mut self) -> Option<Outcome> {
        let mut typed = [0; CHUNK];
        match io::read(stdio::stdin(), &mut typed) {
            Ok(0) => Some(Outcome::ToldToEnd(SIGHUP)),
            Ok(count) => {
                let typed = &typed[..count];
                self.input.extend_from_slice(typed);
                self.detach_key
                    .is_completed_by(typed, Instant::now())
                    .then_some(Outcome::Detached)
            }
            Err(Errno::INTR | Errno::AGAIN) => None,
            // The terminal is gone.
            Err(_) => Some(Outcome::ToldToEnd(SIGHUP)),
        }
    }

    fn write_typed(&mut self) {
        match io::write(&self.session.master, &self.input) {
            Ok(count) => {
                self.input.drain(..count);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // Nobody is there to read it.
            Err(_) => self.input.clear(),
        }
    }

    /// Takes what the session shows; says whether there may be more.
    fn read_shown(&mut self) -> bool {
        let mut shown = [0; CHUNK];
        match io::read(&self.session.master, &mut shown) {
            Ok(count) if count > 0 => {
                self.output.extend_from_slice(&shown[..count]);
                true
            }
            Err(Errno::INTR) => true,
            Err(Errno::AGAIN) => false,
            // EIO: the last program has closed the terminal. The connection tells the ending.
            Ok(_) | Err(_) => {
                self.is_hung_up = true;
                false
            }
        }
    }

    /// The shell has ended and what it wrote is here. A program that it left behind may go on writing: no more than a
    /// terminal holds is taken of that.
    fn read_the_rest(&mut self) {
        let most = self.output.len() + BUFFER;
        while self.output.len() < most && self.read_shown() {}
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

/// What poll found.
struct Ready {
    signals: bool,
    stdin: bool,
    connection: bool,
    stdout: PollFlags,
    master: PollFlags,
}
