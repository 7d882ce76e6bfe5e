//! `run`'s client: three pipes between the user's streams and the command, its signals, its ending.
//!
//! ```text
//! our stdin  ──▶ command's stdin      splice(2) where both sides allow it, so that no byte is copied
//! our stdout ◀── command's stdout
//! our stderr ◀── command's stderr
//! signals    ──▶ connection ──▶ ending
//! --timeout  ──▶ connection
//! ```
//!
//! One poll loop waits for whatever can move. Nothing in it blocks on one stream while another could go on.

mod flow;
mod time_limit;

use crate::exit::ExitCode;
use crate::failure::Failure;
use crate::output;
use crate::recorder::{Recorder, Stream};
use crate::signals::{self, Signals};
use crate::standard_streams::{Sink, set_nonblocking};
use crate::terminal;
use cocker_engine::{Connection, Ending, Name, Running};
use flow::{Flow, Progress, Source};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio;
use signal_hook::consts::{
    SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH,
};
use std::time::{Duration, Instant};
use time_limit::{Due, TimeLimit};

/// What the command gets from us when we get it.
const FORWARDED: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// The exit code when the container went away under the command: as if it had been killed.
const CONTAINER_GONE: u8 = 137;

/// The exit code of a command that had to be ended, as timeout(1) has it.
const TOOK_TOO_LONG: u8 = 124;

/// What goes along with a command.
pub struct Companion {
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// Since when its time runs.
    pub begun: Instant,
    pub recorder: Recorder,
}

/// Carries bytes and signals until the command has ended and what it wrote is written; its status is ours.
pub fn carry(
    running: Running,
    container: &Name,
    companion: Companion,
) -> Result<ExitCode, Failure> {
    let mut carrier = Carrier::new(running, companion)?;
    let outcome = carrier.carry_on();
    let Carrier { recorder, .. } = carrier;
    recorder.end();
    let code = match outcome? {
        Outcome::TookTooLong(allowed) => took_too_long(container, allowed),
        Outcome::Ended(Ending::Exited(status)) => status,
        Outcome::Ended(Ending::Killed { signal }) | Outcome::ToldToEnd(signal) => {
            signals::exit_code(signal)
        }
        Outcome::Ended(Ending::ContainerGone) => {
            output::complain(&format!(
                "Error: container `{container}` ended under the command\n"
            ));
            CONTAINER_GONE
        }
    };
    match carrier.fault {
        Some(fault) => Err(fault),
        None => Ok(ExitCode::from(code)),
    }
}

/// Says that a command was ended, and gives the exit code.
pub fn took_too_long(container: &Name, allowed: Duration) -> u8 {
    output::complain(&format!(
        "Error: the command in container `{container}` was ended: it took longer than {} s\n",
        allowed.as_secs_f64()
    ));
    TOOK_TOO_LONG
}

enum Outcome {
    Ended(Ending),
    /// We are to end although the command has ended: its output finds no taker.
    ToldToEnd(i32),
    /// It has ended, or does not even of KILL.
    TookTooLong(Duration),
}

struct Carrier {
    connection: Connection,
    signals: Signals,
    /// stdin, stdout, stderr; nothing where a direction is finished. Dropping one closes the command's end.
    flows: [Option<Flow<'static>>; 3],
    ending: Option<Ending>,
    time_limit: Option<TimeLimit>,
    recorder: Recorder,
    /// The first stream of ours that failed otherwise than by being closed.
    fault: Option<Failure>,
}

const STDIN: usize = 0;
const STDOUT: usize = 1;
const NAMES: [&str; 3] = ["stdin", "stdout", "stderr"];

impl Carrier {
    fn new(running: Running, companion: Companion) -> Result<Carrier, Failure> {
        let Companion {
            timeout,
            begun,
            recorder,
        } = companion;
        let signals = Signals::take(&FORWARDED)?;
        for pipe in [&running.stdin, &running.stdout, &running.stderr] {
            set_nonblocking(pipe).map_err(|error| {
                Failure::not_done("cannot prepare the command's streams").caused_by(&error)
            })?;
        }
        let stdin = Flow::new(
            Source::Shared(stdio::stdin()),
            Sink::own_pipe(running.stdin),
        );
        let output = match recorder.is_on() {
            true => Flow::seen,
            false => Flow::new,
        };
        let stdout = output(
            Source::OwnPipe(running.stdout),
            Sink::shared(stdio::stdout()),
        );
        let stderr = output(
            Source::OwnPipe(running.stderr),
            Sink::shared(stdio::stderr()),
        );
        Ok(Carrier {
            connection: running.connection,
            signals,
            flows: [Some(stdin), Some(stdout), Some(stderr)],
            ending: None,
            time_limit: timeout.map(|allowed| TimeLimit::new(allowed, begun)),
            recorder,
            fault: None,
        })
    }

    fn carry_on(&mut self) -> Result<Outcome, Failure> {
        loop {
            if let Some(ending) = self.ending
                && self.flows.iter().all(Option::is_none)
            {
                return Ok(match self.passed_time() {
                    Some(allowed) => Outcome::TookTooLong(allowed),
                    None => Outcome::Ended(ending),
                });
            }
            let ready = self.wait()?;
            if let Some(allowed) = self.keep_to_time() {
                return Ok(Outcome::TookTooLong(allowed));
            }
            if ready.signals
                && let Some(signal) = self.forward_signals()
            {
                return Ok(Outcome::ToldToEnd(signal));
            }
            for (index, events) in ready.flows.into_iter().enumerate() {
                self.advance(index, events);
            }
            if ready.connection {
                self.ending = Some(self.connection.ending()?);
                if let Some(limit) = &mut self.time_limit {
                    limit.command_ended();
                }
                self.begin_to_drain();
            }
        }
    }

    fn wait(&self) -> Result<Ready, Failure> {
        let mut polled = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let connection = self.ending.is_none().then(|| {
            polled.push(PollFd::from_borrowed_fd(
                self.connection.as_fd(),
                PollFlags::IN,
            ));
            polled.len() - 1
        });
        let places = self.flows.each_ref().map(|flow| {
            flow.as_ref().map(|flow| {
                polled.extend(flow.interest());
                polled.len() - 2
            })
        });
        loop {
            let left = self.time_limit.as_ref();
            let left = left.and_then(|limit| limit.left(Instant::now()));
            match poll(&mut polled, left.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    return Err(Failure::not_done("cannot wait for the command").caused_by(&error));
                }
            }
        }
        Ok(Ready {
            signals: !polled[0].revents().is_empty(),
            connection: connection.is_some_and(|place| !polled[place].revents().is_empty()),
            flows: places.map(|place| {
                place.map(|place| (polled[place].revents(), polled[place + 1].revents()))
            }),
        })
    }

    fn advance(&mut self, index: usize, events: Option<(PollFlags, PollFlags)>) {
        let (Some(flow), Some((source, sink))) = (&mut self.flows[index], events) else {
            return;
        };
        let recorder = &mut self.recorder;
        let mut record = |bytes: &[u8]| match index {
            STDIN => {}
            STDOUT => recorder.output(Stream::Output, bytes),
            _ => recorder.output(Stream::Errors, bytes),
        };
        match flow.advance(source, sink, &mut record) {
            Ok(Progress::GoesOn) => return,
            Ok(Progress::Finished) => {}
            Err(error) => {
                let message = format!(
                    "cannot {} {}",
                    if index == STDIN { "read" } else { "write to" },
                    NAMES[index]
                );
                self.fault
                    .get_or_insert_with(|| Failure::not_done(message).caused_by(&error));
            }
        }
        self.flows[index] = None;
    }

    /// How long the command was allowed, where it took longer.
    fn passed_time(&self) -> Option<Duration> {
        let limit = self.time_limit.as_ref();
        limit
            .filter(|limit| limit.has_passed())
            .map(|limit| limit.allowed)
    }

    /// Ends a command whose time is over; says so when it is left as it is.
    fn keep_to_time(&mut self) -> Option<Duration> {
        let signals: &[i32] = match self.time_limit.as_mut()?.take_due(Instant::now())? {
            // A stopped process hears of it only when it goes on. TERM comes last: of two that init has no room for, the
            // supervisor keeps the later one.
            Due::Term => &[SIGCONT, SIGTERM],
            Due::Kill => &[SIGKILL],
            Due::Leave => return self.passed_time(),
        };
        for signal in signals.iter().filter(|_| self.ending.is_none()) {
            if let Err(error) = self.connection.signal(*signal) {
                tracing::debug!("cannot send signal {signal}: {error}");
            }
        }
        None
    }

    /// Passes signals on; after the ending there is only us to obey them.
    fn forward_signals(&mut self) -> Option<i32> {
        for signal in self.signals.arrived() {
            if self.ending.is_some() && signals::asks_to_end(signal) {
                return Some(signal);
            }
            if signal == SIGWINCH
                && let Some(size) = terminal::size_of_output()
            {
                self.recorder.resize(size);
            }
            if let Err(error) = self.connection.signal(signal) {
                tracing::debug!("cannot forward signal {signal}: {error}");
            }
        }
        None
    }

    /// What the command wrote is in its pipes by now. More may follow from programs that it left behind: they could
    /// hold us forever, and it is not the command's output.
    fn begin_to_drain(&mut self) {
        self.flows[STDIN] = None;
        for flow in &mut self.flows {
            if flow
                .as_mut()
                .is_some_and(|flow| flow.end_after_what_is_there() == Progress::Finished)
            {
                *flow = None;
            }
        }
    }
}

/// What poll found.
struct Ready {
    signals: bool,
    connection: bool,
    /// The events of each flow's source and sink.
    flows: [Option<(PollFlags, PollFlags)>; 3],
}
