//! Looking at sessions: what is typed goes into a terminal, what comes out of it through the ring to everybody who looks.
use cocker_protocol::{ClientReply, Lasting, Refusal};
use linux_raw_sys::general::{POLLERR, POLLHUP, POLLIN, POLLOUT};

use crate::Supervisor;
use crate::raw::{self, Errno, Fd};
use crate::ring::{RING, TYPED};
use crate::session::{Phase, Session};
use crate::watch::{Look, State};

/// How long a looker that takes nothing is waited for.
const PATIENCE_MS: u64 = 5_000;
/// How often a terminal is looked at that nobody has open, since no poll tells when somebody has.
const LOOK_AGAIN_MS: u64 = 250;
/// The most bytes of one message of output. Several fit into a connection's buffer.
const MOST_SENT: usize = 32 * 1024;
/// Reads from one terminal before the others have their turn.
const MOST_READS: usize = 32;

/// Whether a looker whose connection is full has taken something since that was last asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    Nothing,
    Some,
}

impl Supervisor {
    pub fn lookers(&self, id: u32) -> usize {
        let clients = self.watch.clients().iter();
        clients.filter(|client| client.looks_at(id)).count()
    }

    /// Gives what was typed to the terminal; what it does not take now waits in the session.
    pub fn type_into_session(&mut self, index: usize, bytes: &[u8]) {
        let client = *self.watch.client(index);
        if bytes.len() > TYPED {
            return self.refuse(index, Refusal::Malformed);
        }
        let Some(session) = self.sessions.get(client.id) else {
            return;
        };
        if client.look.may_type && session.phase == Phase::Running {
            session.ring.keep_typed(bytes);
            self.pass_typed_on(client.id);
        }
    }

    fn pass_typed_on(&mut self, id: u32) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        while !session.ring.typed().is_empty() {
            match raw::write(session.master.fd(), session.ring.typed()) {
                Ok(count) if count > 0 => session.ring.take_typed(count),
                Err(Errno::INTR) => {}
                Ok(_) | Err(Errno::AGAIN) => break,
                // Nobody is there to read it.
                Err(_) => session.ring.forget_typed(),
            }
        }
        self.await_session(id);
    }

    /// Whether the client's session takes nothing more for now, so that what it says has to wait.
    pub fn has_to_wait(&mut self, index: usize) -> bool {
        let client = *self.watch.client(index);
        if client.state != State::Looking {
            return false;
        }
        let session = self.sessions.get(client.id);
        session.is_some_and(|session| !session.ring.typed().is_empty())
    }

    /// The looker's terminal has another size.
    pub fn resize_look(&mut self, index: usize, rows: u16, columns: u16) {
        let client = self.watch.client(index);
        client.look.rows = rows;
        client.look.columns = columns;
        let id = client.id;
        self.fit_session(id);
    }

    /// Gives the session the size of its smallest looker; what runs in it is told by SIGWINCH.
    pub fn fit_session(&mut self, id: u32) {
        let looks = || {
            self.watch
                .clients()
                .iter()
                .filter(|client| client.looks_at(id))
        };
        let rows = looks()
            .map(|client| client.look.rows)
            .filter(|&rows| rows > 0)
            .min();
        let columns = looks()
            .map(|client| client.look.columns)
            .filter(|&c| c > 0)
            .min();
        if let Some(session) = self.sessions.get(id)
            && let (Some(rows), Some(columns)) = (rows, columns)
            && (rows, columns) != (session.rows, session.columns)
            && raw::resize_terminal(session.master.fd(), rows, columns).is_ok()
        {
            (session.rows, session.columns) = (rows, columns);
            if let Some(recording) = &mut session.recording {
                recording.resize(rows, columns);
            }
        }
    }

    /// Takes what is there of a session's terminal, and gives it what waits for it.
    pub fn serve_terminal(&mut self, index: usize) {
        let events = self.watch.terminal_events(index);
        // Most have no news, and are not looked for.
        if events == 0 {
            return;
        }
        let Some(session) = self.sessions.at(index) else {
            return;
        };
        let id = session.id;
        if events & POLLOUT != 0 {
            self.pass_typed_on(id);
        }
        if events & (POLLIN | POLLHUP | POLLERR) != 0 {
            self.read_terminal(id);
        }
    }

    /// Reads as much as the ring has room for, and shows it.
    pub fn read_terminal(&mut self, id: u32) {
        let slowest = self.slowest_position(id);
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        for _ in 0..MOST_READS {
            let most = match session.phase {
                Phase::Ended { left, .. } => left,
                _ => RING,
            };
            let room = slowest.map_or(RING, |position| session.ring.room(position));
            let free = session.ring.free(room.min(most));
            if free.is_empty() || session.is_hung_up {
                break;
            }
            match raw::read(session.master.fd(), free) {
                Ok(count) if count > 0 => {
                    let shown = session.ring.grow(count);
                    session.modes.follow(shown);
                    if let Some(recording) = &mut session.recording {
                        recording.output(shown);
                    }
                    if let Phase::Ended { left, .. } = &mut session.phase {
                        *left -= count;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    // What the leader wrote comes before its end; now there is no more of it.
                    session.is_hung_up = matches!(session.phase, Phase::Ended { .. });
                    break;
                }
                // EIO: the last program has closed the terminal.
                Ok(_) | Err(_) => {
                    session.is_hung_up = true;
                    session.looks_again_ms = raw::now_ms() + LOOK_AGAIN_MS;
                }
            }
        }
        self.show_all(id);
    }

    /// What the slowest looker that is waited for has not seen yet; `None` where nobody is.
    fn slowest_position(&self, id: u32) -> Option<u64> {
        let lookers = self.watch.clients().iter();
        let waited_for =
            lookers.filter(|client| client.looks_at(id) && !client.look.is_left_behind);
        waited_for.map(|client| client.look.position).min()
    }

    /// Shows everybody what they have not seen.
    fn show_all(&mut self, id: u32) {
        for index in (0..self.watch.client_count()).rev() {
            if self.watch.client(index).looks_at(id) {
                self.show(index);
            }
        }
        self.finish_session(id);
        self.await_session(id);
    }

    /// A looker's connection may have room again.
    pub fn go_on_showing(&mut self, index: usize) {
        let id = self.watch.client(index).id;
        self.show(index);
        self.finish_session(id);
        // The ring may have room again, too.
        if self.sessions.find(id).is_some() {
            self.read_terminal(id);
        }
    }

    /// Sends a looker what it has not seen, until its connection is full.
    pub fn show(&mut self, index: usize) {
        let Some(connection) = self.watch.client_fd(index) else {
            return;
        };
        let client = *self.watch.client(index);
        let Some(session) = self.sessions.get(client.id) else {
            return;
        };
        if session.phase == Phase::Starting {
            return;
        }
        let mut look = client.look;
        let shown = show(connection, session, &mut look);
        let taking = match look.position == client.look.position {
            true => Taking::Nothing,
            false => Taking::Some,
        };
        self.watch.client(index).look = look;
        match shown {
            Ok(()) => self.await_looker(index),
            Err(Errno::AGAIN) => self.note_full(index, taking),
            Err(_) => self.forget(index),
        }
    }

    /// A looker's connection has no room: it is waited for from now on, or from when it last took something.
    pub fn note_full(&mut self, index: usize, taking: Taking) {
        let unsent = self.watch.client_fd(index).map_or(0, raw::unsent);
        let look = &mut self.watch.client(index).look;
        if look.full_since_ms == 0 || taking == Taking::Some {
            look.full_since_ms = raw::now_ms();
            look.unsent = unsent;
        }
        self.await_looker(index);
    }

    pub fn await_looker(&mut self, index: usize) {
        let is_full = self.watch.client(index).look.full_since_ms != 0;
        let mut events = if is_full { POLLOUT } else { 0 };
        if !self.has_to_wait(index) {
            events |= POLLIN;
        }
        self.watch.await_client(index, events);
    }

    /// Waits for what the session can do now: its lookers' typing, its terminal's output.
    pub fn await_session(&mut self, id: u32) {
        let slowest = self.slowest_position(id);
        let Some(at) = self.sessions.find(id) else {
            return;
        };
        let Some(session) = self.sessions.at(at) else {
            return;
        };
        let has_room = slowest.is_none_or(|position| session.ring.room(position) > 0);
        let mut events = 0;
        if has_room {
            events |= POLLIN;
        }
        if !session.ring.typed().is_empty() {
            events |= POLLOUT;
        }
        let wanted = events != 0 && !session.is_hung_up;
        let master = session.master.fd();
        self.watch
            .await_terminal(at, wanted.then_some((master, events)));
        for index in 0..self.watch.client_count() {
            if self.watch.client(index).looks_at(id) {
                self.await_looker(index);
            }
        }
    }

    /// A looker is gone.
    pub fn leave_session(&mut self, index: usize) {
        let id = self.watch.client(index).id;
        self.watch.remove_client(index);
        let is_left = self.lookers(id) == 0;
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if is_left {
            session.left_ms = raw::now_ms();
            if session.lasting == Lasting::Ends {
                // Its terminal closes, and the kernel hangs up what runs in it. init's report of its end is then nobody's.
                return self.remove_session(id, ClientReply::NoSession);
            }
        }
        self.fit_session(id);
        self.finish_session(id);
        self.await_session(id);
    }

    /// How long a poll may take until somebody has been waited for long enough: -1 without end.
    pub fn sessions_timeout_ms(&mut self) -> i32 {
        if self.sessions.count() == 0 {
            return -1;
        }
        let mut nearest = u64::MAX;
        for index in 0..self.watch.client_count() {
            if let Some(deadline) = self.patience_ends_ms(index) {
                nearest = nearest.min(deadline);
            }
        }
        for session in self.sessions.iter() {
            if session.phase == Phase::Running && session.is_hung_up {
                nearest = nearest.min(session.looks_again_ms);
            }
        }
        match nearest {
            u64::MAX => -1,
            deadline => {
                let left = deadline.saturating_sub(raw::now_ms());
                i32::try_from(left).unwrap_or(i32::MAX)
            }
        }
    }

    /// When a looker that holds its session up is no longer waited for.
    fn patience_ends_ms(&mut self, index: usize) -> Option<u64> {
        let client = *self.watch.client(index);
        if client.state != State::Looking
            || client.look.full_since_ms == 0
            || client.look.is_left_behind
        {
            return None;
        }
        let session = self.sessions.get(client.id)?;
        let is_over = matches!(session.phase, Phase::Ended { .. });
        (is_over || session.ring.room(client.look.position) == 0)
            .then_some(client.look.full_since_ms + PATIENCE_MS)
    }

    /// Goes on without those who have taken nothing for too long.
    pub fn lose_patience(&mut self) {
        if self.sessions.count() == 0 {
            return;
        }
        let now = raw::now_ms();
        for index in (0..self.watch.client_count()).rev() {
            if self.patience_ends_ms(index).is_some_and(|end| now >= end) {
                self.go_on_without(index);
            }
        }
        for index in (0..self.sessions.count()).rev() {
            if let Some(session) = self.sessions.at(index)
                && session.phase == Phase::Running
                && session.is_hung_up
                && now >= session.looks_again_ms
            {
                session.is_hung_up = false;
                let id = session.id;
                self.read_terminal(id);
            }
        }
    }

    /// Leaves a looker behind that has taken nothing at all in the meantime; of a session that has ended there is nothing to
    /// come back to.
    fn go_on_without(&mut self, index: usize) {
        let client = *self.watch.client(index);
        let unsent = self.watch.client_fd(index).map_or(0, raw::unsent);
        if unsent < client.look.unsent {
            return self.note_full(index, Taking::Some);
        }
        let session = self.sessions.get(client.id);
        match session.map(|session| session.phase) {
            Some(Phase::Ended { .. }) => {
                self.watch.remove_client(index);
                self.read_terminal(client.id);
            }
            _ => {
                self.watch.client(index).look.is_left_behind = true;
                self.read_terminal(client.id);
            }
        }
    }
}

/// Sends what `look` has not seen; `Errno::AGAIN` where the connection is full.
fn show(connection: Fd, session: &Session, look: &mut Look) -> raw::Result<()> {
    let ring = &session.ring;
    if look.position < ring.start() {
        // It was left behind.
        look.position = ring.start();
        look.needs_replay = true;
    }
    if look.needs_replay {
        let replay = ClientReply::Replay {
            length: (ring.end() - look.position) as u32,
            rows: session.rows,
            columns: session.columns,
            modes: session.modes.modes(),
        };
        crate::reply(connection, replay, &[])?;
        look.needs_replay = false;
    }
    while look.position < ring.end() {
        let bytes = ring.from(look.position);
        let bytes = &bytes[..bytes.len().min(MOST_SENT)];
        let head = ClientReply::output_head(bytes.len() as u32);
        raw::send_parts(connection, &head, bytes)?;
        look.position += bytes.len() as u64;
    }
    look.full_since_ms = 0;
    look.is_left_behind = false;
    Ok(())
}
