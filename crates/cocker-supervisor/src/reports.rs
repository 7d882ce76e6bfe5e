//! What init reports. Whoever is root in the container may have taken init over, so a report counts only where it
//! was asked for, and costs no more than reading it.
//!
//! Descriptors from inside are the one danger: closing a file may wait for the file system or the socket behind it,
//! which may be the container's own. So they are taken only where one is expected, and only a terminal's master
//! is ever closed or passed on.
use cocker_protocol::{ClientReply, InitReport, Stage};
use linux_raw_sys::general::POLLIN;

use crate::raw::{self, Descriptor, Errno, Received, Take};
use crate::watch::{Slot, State};
use crate::{Supervisor, reply};

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
            Some(report) if self.expects_descriptor(report) => Take::MessageAndDescriptors,
            _ => Take::Message,
        };
        let Ok(received) = raw::receive(init, &mut buffer, take) else {
            return false;
        };
        if let Some(report) = report {
            match self.checked_master(received) {
                Ok(master) => self.act_upon(report, master),
                Err(Hostile) => self.kill(),
            }
        }
        true
    }

    fn expects_descriptor(&mut self, report: InitReport) -> bool {
        match report {
            // Before `Ready` only our own programs have used this socket.
            InitReport::Console => {
                self.watch.fd(Slot::Console).is_none() && self.watch.fd(Slot::Boot).is_some()
            }
            InitReport::Started { id, .. } => self.watch.find_command(id).is_some_and(|index| {
                let client = self.watch.client(index);
                client.state == State::Starting && client.has_terminal
            }),
            _ => false,
        }
    }

    /// The master that came along. Anything else that comes is not init's doing; it is left open, since closing it
    /// could wait, and the container ends.
    fn checked_master(&self, received: Received) -> Result<Option<Descriptor>, Hostile> {
        let mut master = None;
        let mut is_hostile = false;
        for descriptor in received.descriptors.into_iter().flatten() {
            if master.is_none() && raw::is_terminal_master(descriptor.fd()) {
                master = Some(descriptor);
            } else {
                descriptor.release();
                is_hostile = true;
            }
        }
        if is_hostile { Err(Hostile) } else { Ok(master) }
    }

    fn act_upon(&mut self, report: InitReport, master: Option<Descriptor>) {
        match report {
            InitReport::Console => self.open_console(master),
            InitReport::Ready => self.tell_ready(),
            InitReport::Started { id, pid } => self.tell_started(id, pid, master),
            InitReport::NotStarted { id, stage, errno } => {
                self.end_command(
                    id,
                    State::Starting,
                    ClientReply::NotStarted { stage, errno },
                );
            }
            InitReport::Exited { id, wait_status } => {
                self.end_command(id, State::Running, ClientReply::Exited { wait_status });
            }
        }
    }

    fn open_console(&mut self, master: Option<Descriptor>) {
        if let Some(master) = master
            && raw::set_nonblocking(master.fd()).is_ok()
        {
            self.watch.open(Slot::Console, master, POLLIN);
        }
    }

    fn tell_ready(&mut self) {
        if let Some(boot) = self.watch.fd(Slot::Boot) {
            let _ = reply(boot, ClientReply::Ready, &[]);
            self.watch.close(Slot::Boot);
        }
    }

    fn tell_started(&mut self, id: u32, pid: i32, master: Option<Descriptor>) {
        let Some(index) = self.watch.find_command(id) else {
            return;
        };
        let client = *self.watch.client(index);
        if client.state != State::Starting || client.has_terminal != master.is_some() {
            return;
        }
        if client.is_detached {
            // From here on the command is nobody's: what init may say of it finds no client.
            return self.answer(index, ClientReply::Started { pid });
        }
        self.watch.client(index).state = State::Running;
        let master = master.as_ref().map(Descriptor::fd);
        if !self.tell(index, ClientReply::Started { pid }, master.as_slice()) {
            self.forget(index);
        }
    }

    /// Gives the last reply for a command that is in this state.
    fn end_command(&mut self, id: u32, state: State, last: ClientReply) {
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
                State::New | State::AwaitsEnd | State::Answered => {}
            }
        }
    }
}

/// The mark of a report that init's own program never sends.
struct Hostile;
