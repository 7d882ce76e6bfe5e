//! What a session is: a terminal in the container that belongs to the supervisor, and what is known of it.
use core::ffi::CStr;

use cocker_protocol::{Lasting, MAX_LABEL, ModeTracker};

use crate::raw::{self, Descriptor, Pages};
use crate::recording::Recording;
use crate::ring::Ring;
use crate::watch::MOST_SESSIONS;

/// Where the container's terminals are opened.
pub struct Terminals {
    /// The root folder of its devpts.
    folder: Descriptor,
    /// What user 0 inside is on the host.
    root_uid: u32,
}

impl Terminals {
    pub fn new(folder: Descriptor) -> raw::Result<Self> {
        let root_uid = raw::owner(folder.fd())?;
        Ok(Self { folder, root_uid })
    }

    /// Opens a terminal for a user of the container: its master and the side for the command.
    pub fn open(&self, rows: u16, columns: u16, uid: u32) -> raw::Result<(Descriptor, Descriptor)> {
        let master = raw::open_terminal(self.folder.fd())?;
        raw::unlock_terminal(master.fd())?;
        raw::resize_terminal(master.fd(), rows, columns)?;
        let slave = raw::open_terminal_slave(master.fd())?;
        raw::set_terminal_utf8(slave.fd())?;
        // The user must be able to open their own terminal by its name. An id that does not exist inside fails again,
        // and is then reported, when the command takes it on.
        if let Some(owner) = self.root_uid.checked_add(uid) {
            let _ = raw::change_owner(slave.fd(), owner);
        }
        Ok((master, slave))
    }
}

/// Room for all of them; the used part is dense. A session lies in pages of its own, so that an unused place is zero.
pub type Table = [Option<Pages<Session>>; MOST_SESSIONS];

pub const fn empty_table() -> Table {
    [const { None }; MOST_SESSIONS]
}

pub struct Session {
    /// By which init knows its command.
    pub id: u32,
    /// By which users know it.
    pub number: u32,
    pub phase: Phase,
    pub master: Descriptor,
    /// The last program has closed the terminal. While the session runs another may open it: login(1) does so.
    pub is_hung_up: bool,
    /// When that is looked at again.
    pub looks_again_ms: u64,
    pub ring: Ring,
    pub modes: ModeTracker,
    pub recording: Option<Recording>,
    pub rows: u16,
    pub columns: u16,
    pub lasting: Lasting,
    /// Unix time in seconds at which it was opened.
    pub since: u64,
    /// When the last looker left.
    pub left_ms: u64,
    /// A signal for what leads it that init had no room for yet; 0 is none.
    pub unsent_signal: u32,
    pub name: Label,
    pub who: Label,
    pub command: Label,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// init was asked to start it.
    Starting,
    Running,
    /// Its leader has ended; lookers are still being shown what it wrote.
    Ended {
        wait_status: i32,
        /// How many bytes may still be read.
        left: usize,
    },
}

/// A short string of somebody else's, cut where it is too long.
pub struct Label([u8; MAX_LABEL + 1]);

impl Label {
    pub fn new(parts: impl Iterator<Item = u8>) -> Self {
        let mut label = Self([0; MAX_LABEL + 1]);
        label
            .0
            .iter_mut()
            .take(MAX_LABEL)
            .zip(parts)
            .for_each(|(place, byte)| *place = byte);
        label
    }

    pub fn copy(text: &CStr) -> Self {
        Self::new(text.to_bytes().iter().copied())
    }

    pub fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

pub struct Sessions {
    table: &'static mut Table,
    count: usize,
}

impl Sessions {
    pub fn new(table: &'static mut Table) -> Self {
        Self { table, count: 0 }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.table[..self.count]
            .iter()
            .flatten()
            .map(|pages| &**pages)
    }

    pub fn at(&mut self, index: usize) -> Option<&mut Session> {
        self.table[..self.count].get_mut(index)?.as_deref_mut()
    }

    /// The session that init knows by this number.
    pub fn get(&mut self, id: u32) -> Option<&mut Session> {
        let index = self.find(id)?;
        self.at(index)
    }

    pub fn find(&self, id: u32) -> Option<usize> {
        self.iter().position(|session| session.id == id)
    }

    pub fn find_number(&self, number: u32) -> Option<usize> {
        self.iter()
            .position(|session| session.number == number && session.is_seen())
    }

    pub fn find_name(&self, name: &CStr) -> Option<usize> {
        let mut sessions = self.iter();
        sessions.position(|session| {
            session.is_seen() && !name.is_empty() && session.name.text() == name
        })
    }

    /// The lowest number that no session has.
    pub fn unused_number(&self) -> u32 {
        // There is one session less than numbers here, at least.
        let mut is_used = [false; MOST_SESSIONS + 1];
        for session in self.iter() {
            if let Some(is_used) = is_used.get_mut(session.number as usize) {
                *is_used = true;
            }
        }
        let unused = is_used.iter().skip(1).position(|is_used| !is_used);
        unused.map_or(0, |before| before as u32 + 1)
    }

    pub fn add(&mut self, session: Pages<Session>) {
        self.table[self.count] = Some(session);
        self.count += 1;
    }

    pub fn remove(&mut self, index: usize) {
        self.table[index] = None;
        self.table.swap(index, self.count - 1);
        self.count -= 1;
    }
}

impl Session {
    /// Whether users are told of it.
    pub fn is_seen(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Running)
    }
}
