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
//!   signals ────────────────┴── one poll ─┘
//! ```
//!
//! Descriptors: 0 1 2 /dev/null, 3 the lock, 4 the listener, 5 init's socket, 6 the root process, 7 the boot socket,
//! 8 the `cocker` program, 9 the container's folder. Arguments: the container's name and the stop signal.
#![no_std]
#![no_main]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("cocker-supervisor is written for Linux on x86_64");

mod asking;
mod console;
mod ending;
mod raw;
mod reports;
mod requests;
mod times;
mod watch;

use core::ffi::CStr;

use cocker_protocol::{ClientReply, MAX_MESSAGE, Refusal};
use linux_raw_sys::general::{POLLIN, SIGTERM};

use console::{Console, Output};
use ending::Ending;
use raw::{Descriptor, Errno, Fd, Invocation, Reserve, Signals, Take};
use watch::{Slot, Tables, Watch};

const LOCK: Fd = Fd(3);
const LISTENER: Fd = Fd(4);
const INIT: Fd = Fd(5);
const ROOT: Fd = Fd(6);
const BOOT: Fd = Fd(7);
const PROGRAM: Fd = Fd(8);
const FOLDER: Fd = Fd(9);
/// Of no use here: what `release` takes the container's network away by.
const NETWORK: Fd = Fd(10);

/// The first number behind the fixed descriptors.
const FIRST_FREE: u32 = 11;

/// What `exit` says when the supervisor itself is wrong (EX_SOFTWARE of sysexits.h).
const BROKEN: i32 = 70;

/// How long processes have when the host ends, which it says by SIGTERM.
const TIMEOUT_BY_SIGNAL_MS: u32 = 10_000;

/// All that is larger than a page and not always used, smallest first: an idle supervisor has touched its first page
/// only.
#[repr(C)]
struct Memory {
    tables: Tables,
    incoming: [u8; MAX_MESSAGE],
    outgoing: [u8; MAX_MESSAGE],
}

static MEMORY: Reserve<Memory> = Reserve::new(Memory {
    tables: Tables::EMPTY,
    incoming: [0; MAX_MESSAGE],
    outgoing: [0; MAX_MESSAGE],
});

cocker_resident::entry!(start);

/// Where the program begins, called by its entry with the stack as the kernel laid it out.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the entry passes the stack pointer on before anything else has used the stack.
    let invocation = unsafe { Invocation::from_stack(stack) };
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
    ending: Ending,
    /// The number of the next command.
    next_id: u32,
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
            ending: Ending::new(stop_signal),
            next_id: 1,
            incoming: &mut memory.incoming,
            outgoing: &mut memory.outgoing,
        })
    }

    fn run(mut self) -> ! {
        loop {
            self.watch.wait(self.ending.poll_timeout_ms());
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
            // Backwards, since removing a client moves the last one into its place.
            for index in (0..self.watch.client_count()).rev() {
                if self.watch.is_client_ready(index) {
                    self.take_request(index);
                }
            }
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

    fn take_signals(&mut self) {
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
            // No descriptor is free: polling on would only spin. The next client that leaves resumes it.
            Err(_) => return self.watch.pause_listening(),
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

/// A number of decimal digits.
fn decimal(text: &CStr) -> Option<u32> {
    core::str::from_utf8(text.to_bytes()).ok()?.parse().ok()
}
