//! `cockerinit`, the resident init of a container: it reaps, it spawns what the supervisor asks for, and it ends
//! the container in order. It runs as process 1, or as the first child of a given process 1.
//!
//! It has no libc, no heap and one thread, and waits in one poll. It trusts its supervisor to mean well and nobody
//! to be right: a message that is none is ignored. It must never panic, and never outlive its supervisor.
//!
//! Descriptors: 0 1 2 the console, 3 the supervisor's socket.
#![no_std]
#![no_main]

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("cockerinit is written for Linux on x86_64");

mod births;
mod child;
mod commands;
mod raw;
mod shutdown;
mod spawn;

use cocker_protocol::{InitReport, InitRequest, Stage};
use linux_raw_sys::general::{
    SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPWR, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
};

use births::Births;
use commands::{Command, Commands, Kind, MOST};
use raw::{Buffers, Descriptor, Errno, Fd, Received, Reserve, Signals, Waited};
use shutdown::{Role, Shutdown, TIMEOUT_BY_SIGNAL_MS};
use spawn::Failure;

const SOCKET: Fd = Fd(3);

/// The first number behind the fixed descriptors.
const FIRST_FREE: u32 = 4;

/// What `exit` says when init itself is wrong (EX_SOFTWARE of sysexits.h).
const BROKEN: i32 = 70;

/// All that is larger than a page and not always used: an idle init has touched none of it.
#[repr(C)]
struct Memory {
    tables: Tables,
    buffers: Buffers,
}

/// What no child needs. A child has no copy of it, or whatever is written here while one is being born would be copied first.
/// Pages are kept back as a whole, so there is one to spare at each end.
#[repr(C)]
struct Tables {
    _before: [u8; 4096],
    births: births::Table,
    commands: commands::Table,
    _behind: [u8; 4096],
}

static MEMORY: Reserve<Memory> = Reserve::new(Memory {
    tables: Tables {
        _before: [0; _],
        births: births::Table::EMPTY,
        commands: commands::empty_table(),
        _behind: [0; _],
    },
    buffers: Buffers::EMPTY,
});

const TAKEN_SIGNALS: Signals = Signals::of(&[
    SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2,
]);

cocker_resident::entry!(start);

/// Where the program begins, called by its entry with the stack as the kernel laid it out.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the entry passes the stack pointer on before anything else has used the stack.
    let argument = unsafe { raw::second_argument(stack) };
    let role = match argument {
        Some(argument) if argument == c"first-child" => Role::FirstChild,
        _ => Role::Root,
    };
    match Init::new(role) {
        Some(init) => init.run(),
        None => raw::exit(BROKEN),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    raw::exit(BROKEN)
}

struct Init {
    role: Role,
    signals: Descriptor,
    buffers: &'static mut Buffers,
    births: Births,
    commands: Commands,
    shutdown: Shutdown,
}

impl Init {
    fn new(role: Role) -> Option<Self> {
        // Executed from a descriptor, the process would be named after that descriptor's number.
        raw::name_process(c"cockerinit");
        // Whatever else was left open by those who made the container must not be found in it.
        raw::close_from(FIRST_FREE);
        raw::close_on_exec_from(3);
        // A missing one would be given to the next thing that is opened, and be taken for it.
        if !(0..FIRST_FREE).all(|number| raw::is_open(Fd(number as i32))) {
            return None;
        }
        // Commands inherit dispositions, and whoever has executed this program has made them plain. Whatever arrives is taken
        // from the signal descriptor, and what is not taken stays blocked and does nothing.
        raw::block_signals(Signals::ALL);
        let Memory { tables, buffers } = MEMORY.take()?;
        raw::keep_from_children(tables);
        Some(Self {
            role,
            signals: raw::signal_descriptor(TAKEN_SIGNALS).ok()?,
            buffers,
            births: Births::new(&mut tables.births),
            commands: Commands::new(&mut tables.commands),
            shutdown: Shutdown::new(role, SOCKET),
        })
    }

    fn run(mut self) -> ! {
        tell(InitReport::Ready);
        loop {
            let timeout_ms = self.shutdown.poll_timeout_ms();
            let always = [SOCKET, self.signals.fd()];
            let [has_request, has_signals] = self.births.wait(always, timeout_ms);
            while let Some(command) = self.births.next_born() {
                self.begin_command(command);
            }
            if has_signals {
                self.take_signals();
            }
            if has_request {
                self.take_request();
            }
            self.shutdown.kill_if_due();
        }
    }

    fn take_signals(&mut self) {
        while let Ok(signal) = raw::next_signal(self.signals.fd()) {
            match signal {
                SIGCHLD => self.reap(),
                SIGTERM | SIGINT | SIGPWR if self.role == Role::Root => {
                    self.begin_shutdown(TIMEOUT_BY_SIGNAL_MS);
                }
                _ => {}
            }
        }
    }

    fn begin_shutdown(&mut self, timeout_ms: u32) {
        let commands = self.commands.running().iter();
        self.shutdown
            .begin(commands.chain(self.births.commands()), timeout_ms);
        // With no process left there is no SIGCHLD to come.
        self.reap();
    }

    /// Takes every process that has ended, be it a command or an orphan.
    fn reap(&mut self) {
        loop {
            match raw::wait() {
                Waited::Ended { pid, wait_status } => self.end_process(pid, wait_status),
                Waited::NoneEnded => return,
                Waited::NoChildren => return self.shutdown.finish_if_alone(),
            }
        }
    }

    fn end_process(&mut self, pid: i32, wait_status: i32) {
        if let Some(birth) = self.births.remove(pid) {
            let Command { id, .. } = birth.command;
            match birth.failure() {
                Some(Failure { stage, errno }) => {
                    return tell(InitReport::NotStarted { id, stage, errno });
                }
                // Its end has come before the news of its program, or in place of it.
                None => self.begin_command(birth.command),
            }
        }
        if let Some(Command { id, .. }) = self.commands.remove(pid) {
            tell(InitReport::Exited { id, wait_status });
        }
    }

    /// Enters a command into the table that has become its program, and says so.
    fn begin_command(&mut self, command: Command) {
        if command.kind != Kind::Detached {
            self.commands.insert(command);
        }
        let Command { id, pid, .. } = command;
        tell(InitReport::Started { id, pid });
    }

    fn take_request(&mut self) {
        let received = match raw::receive(SOCKET, &mut self.buffers.message) {
            // The supervisor is gone, and its container with it: as process 1 our end is everyone's.
            Ok(Received { length: 0, .. }) | Err(_) => raw::exit(0),
            Ok(received) => received,
        };
        if received.is_whole {
            self.serve(received);
        }
        // Between messages nothing of it stays in memory.
        raw::release_pages(&mut self.buffers.message);
    }

    fn serve(&mut self, received: Received) {
        let may_start = self.may_start();
        // A message that is none changes nothing; its descriptors close here.
        let Buffers { message, tables } = &mut *self.buffers;
        let Ok(request) = InitRequest::decode(&message[..received.length]) else {
            return;
        };
        match request {
            InitRequest::Spawn { id, spawn } => {
                let start = |()| spawn::start(id, &spawn, received.descriptors, tables);
                match may_start.and_then(start) {
                    Ok(birth) => self.births.insert(birth),
                    Err(Failure { stage, errno }) => {
                        tell(InitReport::NotStarted { id, stage, errno });
                    }
                }
            }
            InitRequest::Signal { id, signal } => self.signal_command(id, signal),
            InitRequest::End { id } => self.signal_command(id, SIGKILL as i32),
            InitRequest::Shutdown { timeout_ms } => self.begin_shutdown(timeout_ms),
        }
    }

    fn may_start(&self) -> Result<(), Failure> {
        if self.shutdown.has_begun() {
            return Err(Failure::new(Stage::InitGone, Errno(0)));
        }
        if self.commands.count() + self.births.count() >= MOST {
            return Err(Failure::new(Stage::TooMany, Errno::AGAIN));
        }
        Ok(())
    }

    /// Signals the process group of a command. Its leader is not reaped yet, so the number is still its own.
    fn signal_command(&self, id: u32, signal: i32) {
        let mut commands = self.commands.running().iter().chain(self.births.commands());
        let Some(command) = commands.find(|command| command.id == id) else {
            return;
        };
        // One that is being born may have no group yet.
        if raw::kill(-command.pid, signal).is_err() {
            let _ = raw::kill(command.pid, signal);
        }
    }
}

/// Sends a report.
fn tell(report: InitReport) {
    let mut buffer = [0; 64];
    let Ok(length) = report.encode(&mut buffer) else {
        raw::exit(BROKEN);
    };
    // Where nobody listens any more, the socket's end says so in the next round.
    let _ = raw::send(SOCKET, &buffer[..length]);
}
