//! Everything that the supervisor waits for: some fixed descriptors, and the clients.
//!
//! Both tables are as large as they may ever get, but the used part is dense: memory beyond it is never touched.
//!
//! ```text
//!   polled:  Boot │ Listener │ Init │ Root │ Console │ Signals │ client 0 │ client 1 │ …
//!   clients:                                                   │ client 0 │ client 1 │ …
//! ```
use linux_raw_sys::general::{POLLIN, pollfd};

use crate::raw::{self, Descriptor, Fd};

/// The most clients at the same time.
pub const MOST_CLIENTS: usize = 1000;

const SLOTS: usize = 6;

/// Room for all of them.
#[repr(C)]
pub struct Tables {
    polled: [pollfd; SLOTS + MOST_CLIENTS],
    clients: [Client; MOST_CLIENTS],
}

impl Tables {
    pub const EMPTY: Self = Self {
        polled: [pollfd {
            fd: 0,
            events: 0,
            revents: 0,
        }; SLOTS + MOST_CLIENTS],
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

/// A connection, and the command that belongs to it.
#[derive(Clone, Copy)]
pub struct Client {
    pub state: State,
    /// The number of its command, where it has one.
    pub id: u32,
    /// Whether the command has a terminal.
    pub has_terminal: bool,
    /// Whether the command goes on without it.
    pub is_detached: bool,
    /// A signal for the command that init had no room for yet; 0 is none.
    pub unsent_signal: i32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Has asked for nothing yet.
    New,
    /// Its command was passed on to init.
    Starting,
    /// Its command runs.
    Running,
    /// Is gone, but init does not know it yet; its descriptor is closed.
    Gone,
    /// Waits for the container's end.
    AwaitsEnd,
    /// Has its last reply; only its own closing is awaited.
    Answered,
}

impl Client {
    const NEW: Self = Self {
        state: State::New,
        id: 0,
        has_terminal: false,
        is_detached: false,
        unsent_signal: 0,
    };

    /// Whether init may know a command by this client's number.
    pub fn has_command(&self) -> bool {
        matches!(self.state, State::Starting | State::Running | State::Gone)
    }
}

pub struct Watch {
    tables: &'static mut Tables,
    count: usize,
}

impl Watch {
    /// Begins with nothing to wait for.
    pub fn new(tables: &'static mut Tables) -> Self {
        for slot in &mut tables.polled[..SLOTS] {
            slot.fd = -1;
        }
        Self { tables, count: 0 }
    }

    /// Waits until something is ready, or for so many milliseconds; -1 means without end.
    pub fn wait(&mut self, timeout_ms: i32) {
        let used = &mut self.tables.polled[..SLOTS + self.count];
        if raw::poll(used, timeout_ms).is_err() {
            // What an interrupted poll left behind is old news.
            used.iter_mut().for_each(|entry| entry.revents = 0);
        }
    }

    pub fn fd(&self, slot: Slot) -> Option<Fd> {
        opened(&self.tables.polled[slot as usize])
    }

    pub fn is_ready(&self, slot: Slot) -> bool {
        let entry = &self.tables.polled[slot as usize];
        entry.fd >= 0 && entry.revents != 0
    }

    pub fn open(&mut self, slot: Slot, descriptor: Descriptor, events: u32) {
        self.close(slot);
        self.tables.polled[slot as usize].fd = descriptor.release().0;
        self.await_events(slot, events);
    }

    pub fn await_events(&mut self, slot: Slot, events: u32) {
        self.tables.polled[slot as usize].events = events as i16;
    }

    pub fn close(&mut self, slot: Slot) {
        close(&mut self.tables.polled[slot as usize]);
    }

    /// Stops taking connections until a client leaves.
    pub fn pause_listening(&mut self) {
        self.await_events(Slot::Listener, 0);
    }

    pub fn client_count(&self) -> usize {
        self.count
    }

    /// Adds a client, or gives the connection back where there is no room.
    pub fn add_client(&mut self, connection: Descriptor) -> Result<(), Descriptor> {
        if self.count == MOST_CLIENTS {
            return Err(connection);
        }
        self.tables.polled[SLOTS + self.count] = pollfd {
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
        self.tables.polled.swap(SLOTS + index, SLOTS + last);
        self.count = last;
    }

    /// Closes a client's connection and keeps the client.
    pub fn close_client(&mut self, index: usize) {
        close(&mut self.tables.polled[SLOTS + index]);
        self.await_events(Slot::Listener, POLLIN);
    }

    pub fn client(&mut self, index: usize) -> &mut Client {
        &mut self.tables.clients[index]
    }

    pub fn client_fd(&self, index: usize) -> Option<Fd> {
        opened(&self.tables.polled[SLOTS + index])
    }

    pub fn is_client_ready(&self, index: usize) -> bool {
        let entry = &self.tables.polled[SLOTS + index];
        entry.fd >= 0 && entry.revents != 0
    }

    /// The client whose command has this number.
    pub fn find_command(&self, id: u32) -> Option<usize> {
        self.tables.clients[..self.count]
            .iter()
            .position(|client| client.has_command() && client.id == id)
    }
}

fn opened(entry: &pollfd) -> Option<Fd> {
    (entry.fd >= 0).then_some(Fd(entry.fd))
}

fn close(entry: &mut pollfd) {
    if let Some(fd) = opened(entry) {
        drop(Descriptor::own(fd));
        entry.fd = -1;
        entry.revents = 0;
    }
}
