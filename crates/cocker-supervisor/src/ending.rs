//! The end of the container: asked for, enforced at the deadline, and cleared up after.
use core::ffi::CStr;

use cocker_protocol::ClientReply;
use linux_raw_sys::general::{SIGCONT, SIGKILL, SIGTERM};

use crate::console::Output;
use crate::raw::{self, Errno, Signals};
use crate::watch::{Slot, State};
use crate::{BROKEN, FIRST_FREE, FOLDER, LISTENER, LOCK, NETWORK, PROGRAM, ROOT, Supervisor};

/// How much longer than it was given the container may take.
const GRACE_MS: u64 = 500;

/// The most reports and console buffers that are still read when the container has ended.
const MOST_LEFTOVERS: usize = 10_000;

pub struct Ending {
    /// What the given root process takes as "shut down"; 0 where init is the root process.
    stop_signal: u32,
    deadline_ms: Option<u64>,
    has_begun: bool,
    /// A client or the host wants the end; else it comes from inside.
    was_asked_for: bool,
    /// When the container was ready; none before.
    ready_ms: Option<u64>,
    /// A shutdown that init had no room to hear of yet.
    pub unsent_timeout_ms: Option<u32>,
}

impl Ending {
    pub fn new(stop_signal: u32) -> Self {
        Self {
            stop_signal,
            deadline_ms: None,
            has_begun: false,
            was_asked_for: false,
            ready_ms: None,
            unsent_timeout_ms: None,
        }
    }

    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// The container is booted from now on.
    pub fn begin_run(&mut self) {
        self.ready_ms = Some(raw::now_ms());
    }

    /// Whatever happens from now on, the end was wanted.
    pub fn ask_for(&mut self) {
        self.was_asked_for = true;
    }

    pub fn is_init_root(&self) -> bool {
        self.stop_signal == 0
    }

    /// How long a poll may take: -1 without end.
    pub fn poll_timeout_ms(&self) -> i32 {
        self.deadline_ms.map_or(-1, |deadline| {
            let left = deadline.saturating_sub(raw::now_ms());
            i32::try_from(left).unwrap_or(i32::MAX)
        })
    }
}

impl Supervisor {
    /// Begins the shutdown, or brings the deadline of one that has begun nearer.
    pub fn begin_shutdown(&mut self, timeout_ms: u32) {
        let deadline = raw::now_ms() + u64::from(timeout_ms) + GRACE_MS;
        self.ending.ask_for();
        let is_first = !self.ending.has_begun;
        let is_shorter = self.ending.deadline_ms.is_some_and(|old| deadline < old);
        if !is_first && !is_shorter {
            return;
        }
        self.ending.has_begun = true;
        self.ending.deadline_ms = Some(deadline);
        let stop_signal = self.ending.stop_signal;
        // A root process with a signal of its own for it runs the whole shutdown itself.
        if stop_signal == 0 || stop_signal == SIGTERM {
            self.ask_shutdown(timeout_ms);
        }
        if is_first && stop_signal != 0 {
            raw::signal_process(ROOT, stop_signal);
        }
        // Whoever has stopped it from outside has stopped what is to hear of this.
        raw::signal_process(ROOT, SIGCONT);
    }

    pub fn kill_if_due(&mut self) {
        if self
            .ending
            .deadline_ms
            .is_some_and(|deadline| raw::now_ms() >= deadline)
        {
            self.kill();
        }
    }

    /// Kills the root process, and with it, as the kernel's doing, the whole container.
    pub fn kill(&mut self) {
        self.ending.has_begun = true;
        self.ending.deadline_ms = None;
        raw::signal_process(ROOT, SIGKILL);
    }

    /// The root process has ended: says so to everyone, then lets `cocker release` clear up.
    pub fn finish(&mut self) -> ! {
        let wait_status = raw::reap(ROOT).unwrap_or_default();
        self.read_leftovers();
        // Who stops all processes of the host may have stopped the root process first.
        self.take_signals();
        // Whoever looks at a session is told by the connection that closes.
        self.ending.has_begun = true;
        self.end_all_sessions(Errno(0));
        self.end_all_commands(Errno(0));
        let mut boot = match self.ending.ready_ms {
            Some(_) => c"done",
            // The client has gone away in the middle.
            None => c"broken-off",
        };
        if let Some(client) = self.watch.fd(Slot::Boot) {
            // It is still there and at work, and takes away itself what it makes from now on.
            boot = c"under-way";
            let _ = crate::reply(client, ClientReply::Ended { wait_status }, &[]);
        }
        self.keep_for_release();
        raw::forget_signals();
        raw::block_signals(Signals::NONE);
        let [mut digits, mut more_digits] = [[0; 12]; 2];
        let status = decimal(wait_status, &mut digits);
        let manner = match self.ending.was_asked_for {
            true => c"asked",
            false => c"unasked",
        };
        let ran_ms = self
            .ending
            .ready_ms
            .map_or(0, |ready| raw::now_ms() - ready);
        let ran = decimal(i32::try_from(ran_ms).unwrap_or(i32::MAX), &mut more_digits);
        raw::execute(
            PROGRAM,
            [c"cocker", c"release", status, boot, manner, ran],
            &self.invocation,
        );
        // The lock goes with us; the next command that takes it finds what is left.
        raw::exit(BROKEN)
    }

    /// What the container said before its end still counts.
    fn read_leftovers(&mut self) {
        for _ in 0..MOST_LEFTOVERS {
            if !self.take_report() {
                break;
            }
        }
        for _ in 0..MOST_LEFTOVERS {
            let Some(master) = self.watch.fd(Slot::Console) else {
                break;
            };
            if self.console.log_once(master, self.incoming) != Output::Logged {
                break;
            }
        }
    }

    /// Everything closes at the exec but the lock, the folder, the network's and the clients that wait for the end: their
    /// connections go above the folder, wherever they were, and close when `release` lets them go. Whoever has come too late
    /// to be heard of waits for the same: one whose connection closed here would take the container for released.
    fn keep_for_release(&mut self) {
        raw::keep_on_exec(LOCK);
        raw::keep_on_exec(FOLDER);
        raw::keep_on_exec(NETWORK);
        raw::keep_on_exec(LISTENER);
        for index in 0..self.watch.client_count() {
            let state = self.watch.client(index).state;
            if matches!(state, State::AwaitsEnd | State::New)
                && let Some(client) = self.watch.client_fd(index)
            {
                raw::copy_for_exec(client, FIRST_FREE);
            }
        }
    }
}

/// Writes a number that is not negative in decimal digits.
fn decimal(number: i32, digits: &mut [u8; 12]) -> &CStr {
    let mut rest = number.unsigned_abs();
    let mut start = digits.len() - 1;
    digits[start] = 0;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    CStr::from_bytes_with_nul(&digits[start..]).unwrap_or(c"0")
}
