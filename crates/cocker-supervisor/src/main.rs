//! `cocker-supervisor`, the resident process on the host of one booted container: it stands between the clients and
//! init, keeps the console's log, and executes `cocker release` when the container has ended.
//!
//! It has no libc, no heap and one thread, and waits in one poll. It never waits for a client or for init, and
//! believes nothing that init says beyond what it asked for. While it lives, the container's lock is held.
//!
//! ```text
//!   clients ──▶ listener 4 ─┐
//!   boot socket 7 ◀─────────┤             ┌──▶ socket 5 ──▶ init
//!   console master ────▶ console.log      ├──▶ pidfd 6: the root process
//!   signals ────────────────┴── one poll ─┴──▶ masters of the sessions ──▶ rings ──▶ clients
//! ```
//!
//! Descriptors: 0 1 2 /dev/null, 3 the lock, 4 the listener, 5 init's socket, 6 the root process, 7 the boot socket,
//! 8 the `cocker` program, 9 the container's folder. Arguments: the container's name and the stop signal.
//!
//! The same program is the one that waits until an ended container is to be booted again: `waiting.rs`.
#![no_std]
#![no_main]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("cocker-supervisor is written for Linux on x86_64");

mod asking;
mod console;
mod ending;
mod looking;
mod raw;
mod recording;
mod reports;
mod requests;
mod ring;
mod session;
mod sessions;
mod times;
mod waiting;
mod watch;

use core::ffi::CStr;

use cocker_protocol::{ClientReply, MAX_MESSAGE, Refusal};
use linux_raw_sys::general::{POLLERR, POLLHUP, POLLIN, POLLOUT, SIGTERM};

use console::{Console, Output};
use ending::Ending;
use raw::{Descriptor, Errno, Fd, Invocation, Reserve, Signals, Take};
use session::{Sessions, Terminals};
use watch::{MOST_CLIENTS, MOST_SESSIONS, Slot, State, Tables, Watch};

const LOCK: Fd = Fd(3);
const LISTENER: Fd = Fd(4);
const INIT: Fd = Fd(5);
const ROOT: Fd = Fd(6);
const BOOT: Fd = Fd(7);
const PROGRAM: Fd = Fd(8);
const FOLDER: Fd = Fd(9);
/// In the folder: what the boot has put out of the way for us to remove.
const WORK_OF_LAST_BOOT: &CStr = c"files/work/last";
/// Of no use here: what `release` takes the container's network away by.
const NETWORK: Fd = Fd(10);

/// The first number behind the fixed descriptors.
const FIRST_FREE: u32 = 11;

/// Those of full tables, of what else is open, and of the message at hand.
const MOST_DESCRIPTORS: u64 = (FIRST_FREE as usize + MOST_CLIENTS + MOST_SESSIONS + 16) as u64;

/// How long no connections are taken when there is no descriptor for one.
const PAUSE_MS: u64 = 1000;

/// What `exit` says when the supervisor itself is wrong (EX_SOFTWARE of sysexits.h).
const BROKEN: i32 = 70;

/// How long processes have when the host ends, which it says by SIGTERM.
const TIMEOUT_BY_SIGNAL_MS: u32 = 10_000;

/// All that is larger than a page and not always used, smallest first: an idle supervisor has touched its first page
/// only.
#[repr(C)]
struct Memory {
    sessions: session::Table,
    tables: Tables,
    incoming: [u8; MAX_MESSAGE],
    outgoing: [u8; MAX_MESSAGE],
}

static MEMORY: Reserve<Memory> = Reserve::new(Memory {
    sessions: session::empty_table(),
    tables: Tables::EMPTY,
    incoming: [0; MAX_MESSAGE],
    outgoing: [0; MAX_MESSAGE],
});

cocker_resident::entry!(start);

/// Where the program begins, called by its entry with the stack as the kernel laid it out.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the entry passes the stack pointer on before anything else has used the stack.
    let invocation = unsafe { Invocation::from_stack(stack) };
    if invocation.argument(2) == Some(waiting::WAIT) {
        waiting::wait(&invocation);
    }
    match Supervisor::new(invocation) {
        Some(supervisor) => supervisor.run(),
        None => raw::exit(BROKEN),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    raw::exit(BROKEN)
}

struct Supervisor {
    invocation: Invocation,
    watch: Watch,
    console: Console,
    /// Where sessions are opened, once that is known.
    terminals: Option<Terminals>,
    sessions: Sessions,
    ending: Ending,
    /// The number of the next command.
    next_id: u32,
    /// When connections are taken again, after there was no descriptor for one.
    listens_again_ms: u64,
    incoming: &'static mut [u8],
    outgoing: &'static mut [u8],
}

impl Supervisor {
    fn new(invocation: Invocation) -> Option<Self> {
        // Executed from a descriptor, the process would be named after that descriptor's number.
        raw::name_process(c"cocker-supervis");
        raw::forbid_dumps();
        // The client's terminal may close or send its signals: none of them is meant for the container.
        raw::start_session();
        raw::block_signals(Signals::ALL);
        raw::close_from(FIRST_FREE);
        raw::close_on_exec_from(3);
        // The usual limit, 1024, would be reached before the tables are full, and then nobody is listened to.
        raw::allow_descriptors(MOST_DESCRIPTORS);
        // A missing one would be given to the next thing that is opened, and be taken for it.
        if !(0..FIRST_FREE).all(|number| raw::is_open(Fd(number as i32))) {
            return None;
        }
        raw::set_nonblocking(LISTENER).ok()?;

        let stop_signal = decimal(invocation.argument(2)?)?;
        let signals = raw::signal_descriptor(Signals::of(&[SIGTERM])).ok()?;
        let memory = MEMORY.take()?;
        let mut watch = Watch::new(&mut memory.tables);
        // On the boot socket nothing but its end is of interest.
        watch.open(Slot::Boot, Descriptor::own(BOOT), 0);
        watch.open(Slot::Listener, Descriptor::own(LISTENER), POLLIN);
        watch.open(Slot::Init, Descriptor::own(INIT), POLLIN);
        watch.open(Slot::Root, Descriptor::own(ROOT), POLLIN);
        watch.open(Slot::Signals, signals, POLLIN);
        Some(Self {
            invocation,
            watch,
            console: Console::new(FOLDER),
            terminals: None,
            sessions: Sessions::new(&mut memory.sessions),
            ending: Ending::new(stop_signal),
            next_id: 1,
            listens_again_ms: 0,
            incoming: &mut memory.incoming,
            outgoing: &mut memory.outgoing,
        })
    }

    fn run(mut self) -> ! {
        loop {
            let timeout = earlier(self.ending.poll_timeout_ms(), self.sessions_timeout_ms());
            let timeout = earlier(timeout, self.listener_timeout_ms());
            self.watch.wait(timeout);
            if self.watch.is_ready(Slot::Signals) {
                self.take_signals();
            }
            if self.watch.is_ready(Slot::Init) {
                self.ask_unsent();
                self.take_report();
            }
            if self.watch.is_ready(Slot::Console) {
                self.log_console();
            }
            // Backwards, since removing one moves the last one into its place.
            for index in (0..self.sessions.count()).rev() {
                self.serve_terminal(index);
            }
            for index in (0..self.watch.client_count()).rev() {
                self.serve_client(index);
            }
            self.lose_patience();
            if self.watch.is_ready(Slot::Listener) {
                self.accept();
            }
            if self.watch.is_ready(Slot::Boot) {
                self.watch.close(Slot::Boot);
            }
            if self.watch.is_ready(Slot::Root) {
                self.finish();
            }
            self.kill_if_due();
        }
    }

    fn serve_client(&mut self, index: usize) {
        // Serving another one may have let it go.
        let events = match self.watch.clients().get(index) {
            Some(_) => self.watch.client_events(index),
            None => return,
        };
        if events == 0 {
            return;
        }
        let is_closed = events & (POLLHUP | POLLERR) != 0;
        if self.has_to_wait(index) {
            if is_closed {
                return self.forget(index);
            }
        } else if is_closed || events & POLLIN != 0 {
            return self.take_request(index);
        }
        if events & POLLOUT != 0 && self.watch.client(index).state == State::Looking {
            self.go_on_showing(index);
        }
    }

    /// Goes on listening when it is time; -1 where there is nothing to wait for.
    fn listener_timeout_ms(&mut self) -> i32 {
        if self.watch.is_listening() {
            return -1;
        }
        let left = self.listens_again_ms.saturating_sub(raw::now_ms());
        if left == 0 {
            self.watch.go_on_listening();
            return -1;
        }
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    pub fn take_signals(&mut self) {
        if let Some(signals) = self.watch.fd(Slot::Signals) {
            while raw::next_signal(signals).is_ok() {
                self.begin_shutdown(TIMEOUT_BY_SIGNAL_MS);
            }
        }
    }

    /// Takes one new connection in, or says why not.
    fn accept(&mut self) {
        let client = match raw::accept(LISTENER) {
            Ok(client) => client,
            // Somebody else's signal, or a client that went away again.
            Err(Errno::AGAIN | Errno::INTR) => return,
            // No descriptor is free: polling on would only spin. The next client that leaves resumes it; where it is the host
            // that has none, time does.
            Err(_) => {
                self.listens_again_ms = raw::now_ms() + PAUSE_MS;
                return self.watch.pause_listening();
            }
        };
        let is_own = matches!(
            (raw::peer_user_id(client.fd()), raw::user_id()),
            (Ok(theirs), Ok(ours)) if theirs == ours
        );
        if !is_own {
            refuse(&client, Refusal::NotAllowed);
        } else if let Err(client) = self.watch.add_client(client) {
            refuse(&client, Refusal::TooMany);
        }
    }

    fn log_console(&mut self) {
        if let Some(master) = self.watch.fd(Slot::Console)
            && self.console.log_once(master, self.incoming) == Output::Ended
        {
            self.watch.close(Slot::Console);
        }
    }
}

/// Refuses a connection that was never taken in; it closes when dropped.
fn refuse(client: &Descriptor, why: Refusal) {
    let mut request = [0; 8];
    // A socket that closes over unread bytes tells its other end so before it gives our reply.
    let _ = raw::receive(client.fd(), &mut request, Take::Message);
    let _ = reply(client.fd(), ClientReply::Refused { why }, &[]);
}

/// Sends a reply to a client, unless that would wait.
fn reply(client: Fd, reply: ClientReply, descriptors: &[Fd]) -> raw::Result<()> {
    let mut buffer = [0; 64];
    let length = reply.encode(&mut buffer).map_err(|_| Errno::TOO_BIG)?;
    raw::send(client, &buffer[..length], descriptors)
}

/// The earlier of two timeouts of a poll, where -1 is never.
fn earlier(one: i32, other: i32) -> i32 {
    match (one, other) {
        (-1, timeout) | (timeout, -1) => timeout,
        (one, other) => one.min(other),
    }
}

/// A number of decimal digits.
fn decimal(text: &CStr) -> Option<u32> {
    core::str::from_utf8(text.to_bytes()).ok()?.parse().ok()
}
