//! Everything that the supervisor waits for: some fixed descriptors, the clients, and the sessions' terminals.
//!
//! The tables are as large as they may ever get, but their used parts are dense: memory beyond them is never touched.
//! What is polled lies in one piece, since the terminals' part grows downwards:
//!
//! ```text
//!   polled:  … │ terminal 1 │ terminal 0 │ Boot │ Listener │ Init │ Root │ Console │ Signals │ client 0 │ client 1 │ …
//! ```
use cocker_protocol::Access;
use linux_raw_sys::general::{POLLIN, pollfd};

use crate::raw::{self, Descriptor, Fd};

/// The most clients at the same time.
pub const MOST_CLIENTS: usize = 1000;
/// The most sessions at the same time.
pub const MOST_SESSIONS: usize = 1000;

const SLOTS: usize = 6;
const FIRST_CLIENT: usize = MOST_SESSIONS + SLOTS;

/// Room for all of them.
#[repr(C)]
pub struct Tables {
    polled: [pollfd; MOST_SESSIONS + SLOTS + MOST_CLIENTS],
    clients: [Client; MOST_CLIENTS],
}

impl Tables {
    pub const EMPTY: Self = Self {
        polled: [pollfd {
            fd: 0,
            events: 0,
            revents: 0,
        }; MOST_SESSIONS + SLOTS + MOST_CLIENTS],
        clients: [Client::NEW; MOST_CLIENTS],
    };
}

/// A place in the table of polled descriptors that always means the same.
#[derive(Clone, Copy)]
pub enum Slot {
    Boot,
    Listener,
    Init,
    Root,
    Console,
    Signals,
}

/// A connection, and the command or the session that belongs to it.
#[derive(Clone, Copy)]
pub struct Client {
    pub state: State,
    /// The number of its command, or of the session that it looks at or waits for, where it has one.
    pub id: u32,
    /// Whether the command goes on without it.
    pub is_detached: bool,
    /// A signal for the command that init had no room for yet; 0 is none.
    pub unsent_signal: i32,
    /// Where it looks at a session.
    pub look: Look,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Has asked for nothing that lasts.
    New,
    /// Its command was passed on to init.
    Starting,
    /// Its command runs.
    Running,
    /// Is gone, but init does not know it yet; its descriptor is closed.
    Gone,
    /// Looks at a session.
    Looking,
    /// Waits for the end of a session.
    AwaitsSession,
    /// Waits for the container's end.
    AwaitsEnd,
    /// Has its last reply; only its own closing is awaited.
    Answered,
}

/// How far somebody who looks at a session has seen it.
#[derive(Clone, Copy)]
pub struct Look {
    /// The number of the session's bytes that were sent to it.
    pub position: u64,
    /// Since when its connection has no room and it takes nothing; 0 while there is room.
    pub full_since_ms: u64,
    /// What the connection held then.
    pub unsent: u32,
    /// Whether it is to be told first what the session looks like.
    pub needs_replay: bool,
    /// It has taken nothing for so long that the session goes on without it.
    pub is_left_behind: bool,
    pub may_type: bool,
    pub rows: u16,
    pub columns: u16,
}

impl Look {
    const NONE: Self = Self {
        position: 0,
        full_since_ms: 0,
        unsent: 0,
        needs_replay: false,
        is_left_behind: false,
        may_type: false,
        rows: 0,
        columns: 0,
    };

    /// Somebody who looks through a terminal of this size, from a byte of the session's on.
    pub fn new(position: u64, (rows, columns): (u16, u16), access: Access) -> Self {
        Self {
            position,
            may_type: access == Access::LookAndType,
            rows,
            columns,
            ..Self::NONE
        }
    }
}

impl Client {
    const NEW: Self = Self {
        state: State::New,
        id: 0,
        is_detached: false,
        unsent_signal: 0,
        look: Look::NONE,
    };

    /// Whether init may know a command by this client's number.
    pub fn has_command(&self) -> bool {
        matches!(self.state, State::Starting | State::Running | State::Gone)
    }

    pub fn looks_at(&self, session: u32) -> bool {
        self.state == State::Looking && self.id == session
    }
}

pub struct Watch {
    tables: &'static mut Tables,
    count: usize,
    sessions: usize,
}

impl Watch {
    /// Begins with nothing to wait for.
    pub fn new(tables: &'static mut Tables) -> Self {
        for slot in &mut tables.polled[MOST_SESSIONS..FIRST_CLIENT] {
            slot.fd = -1;
        }
        Self {
            tables,
            count: 0,
            sessions: 0,
        }
    }

    /// Waits until something is ready, or for so many milliseconds; -1 means without end.
    pub fn wait(&mut self, timeout_ms: i32) {
        let used = MOST_SESSIONS - self.sessions..FIRST_CLIENT + self.count;
        let used = &mut self.tables.polled[used];
        if raw::poll(used, timeout_ms).is_err() {
            // What an interrupted poll left behind is old news.
            used.iter_mut().for_each(|entry| entry.revents = 0);
        }
    }

    pub fn fd(&self, slot: Slot) -> Option<Fd> {
        opened(&self.tables.polled[place(slot)])
    }

    pub fn is_ready(&self, slot: Slot) -> bool {
        let entry = &self.tables.polled[place(slot)];
        entry.fd >= 0 && entry.revents != 0
    }

    pub fn open(&mut self, slot: Slot, descriptor: Descriptor, events: u32) {
        self.close(slot);
        self.tables.polled[place(slot)].fd = descriptor.release().0;
        self.await_events(slot, events);
    }

    pub fn await_events(&mut self, slot: Slot, events: u32) {
        self.tables.polled[place(slot)].events = events as i16;
    }

    pub fn close(&mut self, slot: Slot) {
        close(&mut self.tables.polled[place(slot)]);
    }

    /// Stops taking connections until a client leaves.
    pub fn pause_listening(&mut self) {
        self.await_events(Slot::Listener, 0);
    }

    pub fn is_listening(&self) -> bool {
        self.tables.polled[place(Slot::Listener)].events != 0
    }

    pub fn go_on_listening(&mut self) {
        self.await_events(Slot::Listener, POLLIN);
    }

    pub fn client_count(&self) -> usize {
        self.count
    }

    /// Adds a client, or gives the connection back where there is no room.
    pub fn add_client(&mut self, connection: Descriptor) -> Result<(), Descriptor> {
        if self.count == MOST_CLIENTS {
            return Err(connection);
        }
        self.tables.polled[FIRST_CLIENT + self.count] = pollfd {
            fd: connection.release().0,
            events: POLLIN as i16,
            revents: 0,
        };
        self.tables.clients[self.count] = Client::NEW;
        self.count += 1;
        Ok(())
    }

    /// Forgets a client; the last one takes its place.
    pub fn remove_client(&mut self, index: usize) {
        self.close_client(index);
        let last = self.count - 1;
        self.tables.clients.swap(index, last);
        self.tables
            .polled
            .swap(FIRST_CLIENT + index, FIRST_CLIENT + last);
        self.count = last;
    }

    /// Closes a client's connection and keeps the client.
    pub fn close_client(&mut self, index: usize) {
        close(&mut self.tables.polled[FIRST_CLIENT + index]);
        self.go_on_listening();
    }

    pub fn client(&mut self, index: usize) -> &mut Client {
        &mut self.tables.clients[index]
    }

    pub fn clients(&self) -> &[Client] {
        &self.tables.clients[..self.count]
    }

    pub fn client_fd(&self, index: usize) -> Option<Fd> {
        opened(&self.tables.polled[FIRST_CLIENT + index])
    }

    pub fn await_client(&mut self, index: usize, events: u32) {
        self.tables.polled[FIRST_CLIENT + index].events = events as i16;
    }

    /// What the last poll told of a client: a set of POLLIN and its like.
    pub fn client_events(&self, index: usize) -> u32 {
        events(&self.tables.polled[FIRST_CLIENT + index])
    }

    /// The client whose command has this number.
    pub fn find_command(&self, id: u32) -> Option<usize> {
        self.clients()
            .iter()
            .position(|client| client.has_command() && client.id == id)
    }

    /// Makes room for one more terminal, which is not waited for yet. Descriptors of terminals are borrowed.
    pub fn add_terminal(&mut self) {
        self.sessions += 1;
        self.await_terminal(self.sessions - 1, None);
    }

    /// Forgets a terminal; the last one takes its place.
    pub fn remove_terminal(&mut self, index: usize) {
        let last = self.sessions - 1;
        self.tables
            .polled
            .swap(MOST_SESSIONS - 1 - index, MOST_SESSIONS - 1 - last);
        self.sessions = last;
    }

    /// Says what of a terminal is waited for: a hang-up comes unasked while anything is.
    pub fn await_terminal(&mut self, index: usize, wanted: Option<(Fd, u32)>) {
        let (fd, events) = wanted.map_or((-1, 0), |(fd, events)| (fd.0, events as i16));
        let entry = &mut self.tables.polled[MOST_SESSIONS - 1 - index];
        *entry = pollfd {
            fd,
            events,
            revents: 0,
        };
    }

    /// What the last poll told of a terminal.
    pub fn terminal_events(&self, index: usize) -> u32 {
        events(&self.tables.polled[MOST_SESSIONS - 1 - index])
    }
}

fn place(slot: Slot) -> usize {
    MOST_SESSIONS + slot as usize
}

fn opened(entry: &pollfd) -> Option<Fd> {
    (entry.fd >= 0).then_some(Fd(entry.fd))
}

fn events(entry: &pollfd) -> u32 {
    match opened(entry) {
        Some(_) => u32::from(entry.revents as u16),
        None => 0,
    }
}

fn close(entry: &mut pollfd) {
    if let Some(fd) = opened(entry) {
        drop(Descriptor::own(fd));
        entry.fd = -1;
        entry.revents = 0;
    }
}
