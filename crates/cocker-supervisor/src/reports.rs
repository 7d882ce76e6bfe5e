//! What init reports. Whoever is root in the container may have taken init over, so a report counts only where it
//! was asked for, and costs no more than reading it.
//!
//! Descriptors from inside are the one danger: closing a file may wait for the file system or the socket behind it,
//! which may be the container's own. So they are taken only with the first report, which is sent before anything of the
//! container runs.
use cocker_protocol::{ClientReply, InitReport, Stage};
use linux_raw_sys::general::POLLIN;

use crate::raw::{self, Descriptor, Errno, Received, Take};
use crate::session::Terminals;
use crate::watch::{Slot, State};
use crate::{FOLDER, Supervisor, WORK_OF_LAST_BOOT, reply};

/// No report is longer.
const MAX_REPORT: usize = 64;

/// The wait status of a command that went down with the container: killed.
pub const KILLED: i32 = 9;

impl Supervisor {
    /// Takes one report, or notices that init is gone; says whether there was one.
    pub fn take_report(&mut self) -> bool {
        let Some(init) = self.watch.fd(Slot::Init) else {
            return false;
        };
        let mut buffer = [0; MAX_REPORT];
        // A look first: whether its descriptor is wanted shows in the message.
        let report = match raw::receive(init, &mut buffer, Take::Nothing) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            Ok(Received { length: 0, .. }) | Err(_) => {
                self.lose_init();
                return false;
            }
            Ok(received) => InitReport::decode(&buffer[..received.length]).ok(),
        };
        let take = match report {
            Some(report) if self.expects_descriptors(report) => Take::MessageAndDescriptors,
            _ => Take::Message,
        };
        let Ok(received) = raw::receive(init, &mut buffer, take) else {
            return false;
        };
        if let Some(report) = report {
            match self.checked_console(received) {
                Ok(console) => self.act_upon(report, console),
                Err(Hostile) => self.kill(),
            }
        }
        true
    }

    /// The console comes once, before anything of the container runs: only our own programs have used this socket by then.
    fn expects_descriptors(&self, report: InitReport) -> bool {
        report == InitReport::Console
            && self.terminals.is_none()
            && self.watch.fd(Slot::Boot).is_some()
    }

    /// The console's master and the folder of the terminals. Anything else that comes is not init's doing; it is left open,
    /// since closing it could wait, and the container ends.
    fn checked_console(&self, received: Received) -> Result<Option<Console>, Hostile> {
        match received.descriptors {
            [None, None, None, None] => Ok(None),
            [Some(master), Some(folder), None, None] if raw::is_terminal_master(master.fd()) => {
                Ok(Some(Console { master, folder }))
            }
            descriptors => {
                for descriptor in descriptors.into_iter().flatten() {
                    descriptor.release();
                }
                Err(Hostile)
            }
        }
    }

    fn act_upon(&mut self, report: InitReport, console: Option<Console>) {
        match report {
            InitReport::Console => self.open_console(console),
            InitReport::Ready => self.tell_ready(),
            InitReport::Started { id, pid } => {
                self.session_started(id);
                self.tell_started(id, pid);
            }
            InitReport::NotStarted { id, stage, errno } => {
                self.session_not_started(id, stage, errno);
                self.end_command(
                    id,
                    State::Starting,
                    ClientReply::NotStarted { stage, errno },
                );
            }
            InitReport::Exited { id, wait_status } => {
                self.session_ended(id, wait_status);
                self.end_command(id, State::Running, ClientReply::Exited { wait_status });
            }
        }
    }

    fn open_console(&mut self, console: Option<Console>) {
        if let Some(Console { master, folder }) = console {
            self.terminals = Terminals::new(folder).ok();
            if raw::set_nonblocking(master.fd()).is_ok() {
                self.watch.open(Slot::Console, master, POLLIN);
            }
        }
    }

    fn tell_ready(&mut self) {
        // Also where the client has gone away meanwhile.
        self.ending.begin_run();
        if let Some(boot) = self.watch.fd(Slot::Boot) {
            let _ = reply(boot, ClientReply::Ready, &[]);
            self.watch.close(Slot::Boot);
        }
        // A disk that is told of freed blocks at once takes its time over it: now nobody waits for us.
        raw::remove_folder(FOLDER, WORK_OF_LAST_BOOT);
    }

    fn tell_started(&mut self, id: u32, pid: i32) {
        let Some(index) = self.watch.find_command(id) else {
            return;
        };
        let client = self.watch.client(index);
        if client.state != State::Starting {
            return;
        }
        if client.is_detached {
            // From here on the command is nobody's: what init may say of it finds no client.
            return self.answer(index, ClientReply::Started { pid });
        }
        client.state = State::Running;
        self.tell_or_forget(index, ClientReply::Started { pid });
    }

    /// Gives the last reply for a command that is in this state.
    fn end_command(&mut self, id: u32, state: State, last: ClientReply<'_>) {
        let Some(index) = self.watch.find_command(id) else {
            return;
        };
        match self.watch.client(index).state {
            // Its end was to be asked for, and has come without.
            State::Gone => self.watch.remove_client(index),
            there if there == state => self.answer(index, last),
            _ => {}
        }
    }

    /// init is gone. Where it is process 1 the container goes with it; else only the commands have.
    fn lose_init(&mut self) {
        self.watch.close(Slot::Init);
        self.end_all_sessions(Errno::PIPE);
        self.end_all_commands(Errno::PIPE);
        if self.ending.is_init_root() {
            self.kill();
        }
    }

    /// Answers every client whose command can no more be heard of.
    pub fn end_all_commands(&mut self, Errno(errno): Errno) {
        for index in (0..self.watch.client_count()).rev() {
            match self.watch.client(index).state {
                State::Starting => {
                    let stage = Stage::InitGone;
                    self.answer(index, ClientReply::NotStarted { stage, errno });
                }
                State::Running => {
                    let wait_status = KILLED;
                    self.answer(index, ClientReply::Exited { wait_status });
                }
                State::Gone => self.watch.remove_client(index),
                State::New
                | State::Looking
                | State::AwaitsSession
                | State::AwaitsEnd
                | State::Answered => {}
            }
        }
    }
}

/// What comes with the first report.
struct Console {
    master: Descriptor,
    folder: Descriptor,
}

/// The mark of a report that init's own program never sends.
struct Hostile;
