//! How sessions begin, are found again, and end. See docs/design/0004-sessions.md.
//!
//! The pty is opened here, in the container's devpts, so that no process inside holds a master; what comes out of it goes
//! through a ring to everybody who looks, which is in `looking.rs`.
use cocker_protocol::{
    Access, ClientReply, InitRequest, ModeTracker, Open, Refusal, SessionRow, Stage, Stream, Target,
};
use linux_raw_sys::general::{SIGHUP, SIGKILL};

use crate::Supervisor;
use crate::looking::Taking;
use crate::raw::{self, Errno, Pages, Received};
use crate::recording::Recording;
use crate::requests::stage_unasked;
use crate::ring::{RING, Ring};
use crate::session::{Label, Phase, Session};
use crate::watch::{Look, MOST_SESSIONS, State};

impl Supervisor {
    /// Opens a terminal and has init start what shall run in it.
    pub fn open_session(&mut self, index: usize, open: Open<'_>, received: Received) {
        let Stream::Terminal { rows, columns } = open.spawn.stream else {
            return self.refuse(index, Refusal::Malformed);
        };
        let recording = match (open.most_recorded, received.descriptors) {
            (0, [None, None, None, None]) => None,
            // Writing to anything else could wait.
            (most @ 1.., [Some(file), None, None, None]) if raw::is_file(file.fd()) => {
                Some(Recording::new(file, most))
            }
            _ => return self.refuse(index, Refusal::Malformed),
        };
        if self.sessions.find_name(open.name).is_some() {
            return self.refuse(index, Refusal::NameTaken);
        }
        if self.sessions.count() == MOST_SESSIONS {
            return self.refuse(index, Refusal::TooManySessions);
        }
        let id = self.unused_id();
        match self.start_session(id, &open, (rows, columns), recording) {
            Ok(session) => {
                self.sessions.add(session);
                self.watch.add_terminal();
                let client = self.watch.client(index);
                client.state = State::Looking;
                client.id = id;
                client.look = Look::new(0, (rows, columns), Access::LookAndType);
            }
            Err((stage, Errno(errno))) => {
                self.answer(index, ClientReply::NotStarted { stage, errno });
            }
        }
    }

    fn start_session(
        &mut self,
        id: u32,
        open: &Open<'_>,
        (rows, columns): (u16, u16),
        recording: Option<Recording>,
    ) -> Result<Pages<Session>, (Stage, Errno)> {
        let at_terminal = |error| (Stage::Terminal, error);
        let terminals = self
            .terminals
            .as_ref()
            .ok_or((Stage::InitGone, Errno::PIPE))?;
        let ring = Ring::new().map_err(at_terminal)?;
        let spawn = open.spawn;
        let opened = terminals.open(rows, columns, spawn.uid);
        let (master, slave) = opened.map_err(at_terminal)?;
        let words = spawn.arguments.iter().flat_map(|word| {
            let blank = core::iter::once(b' ');
            word.to_bytes().iter().copied().chain(blank)
        });
        let length = spawn.arguments.as_joined().len().saturating_sub(1);
        let session = Session {
            id,
            number: self.sessions.unused_number(),
            phase: Phase::Starting,
            master,
            is_hung_up: false,
            looks_again_ms: 0,
            ring,
            modes: ModeTracker::default(),
            recording,
            rows,
            columns,
            lasting: open.lasting,
            since: raw::wall_clock_ms() / 1000,
            left_ms: 0,
            unsent_signal: 0,
            name: Label::copy(open.name),
            who: Label::copy(open.who),
            command: Label::new(words.take(length)),
        };
        let session = Pages::new(session).map_err(at_terminal)?;
        let asked = self.ask(InitRequest::Spawn { id, spawn }, &[slave.fd()]);
        asked.map_err(|error| (stage_unasked(error), error))?;
        Ok(session)
    }

    /// Lets a client look at a session that is there.
    pub fn join_session(
        &mut self,
        index: usize,
        target: Target<'_>,
        access: Access,
        (rows, columns): (u16, u16),
    ) {
        let found = self.find_session(target);
        let Some(session) = found.and_then(|session| self.sessions.at(session)) else {
            self.tell_or_forget(index, ClientReply::NoSession);
            return;
        };
        if session.phase != Phase::Running {
            self.tell_or_forget(index, ClientReply::NoSession);
            return;
        }
        let (id, number, start) = (session.id, session.number, session.ring.start());
        let client = self.watch.client(index);
        client.state = State::Looking;
        client.id = id;
        client.look = Look {
            needs_replay: true,
            ..Look::new(start, (rows, columns), access)
        };
        if self.tell_or_forget(index, ClientReply::Looking { number }) {
            self.fit_session(id);
            self.show(index);
        }
    }

    pub fn find_session(&self, target: Target<'_>) -> Option<usize> {
        match target {
            Target::Number(number) => self.sessions.find_number(number),
            Target::Name(name) => self.sessions.find_name(name),
            Target::Idle => {
                let sessions = self.sessions.iter().enumerate();
                let idle = sessions.filter(|(_, session)| {
                    session.phase == Phase::Running && self.lookers(session.id) == 0
                });
                idle.max_by_key(|(_, session)| session.left_ms)
                    .map(|(index, _)| index)
            }
        }
    }

    /// Tells a client of the session with the lowest number above this one.
    pub fn list_session(&mut self, index: usize, after: u32) {
        let sessions = self.sessions.iter();
        let next = sessions
            .filter(|session| session.number > after && session.is_seen())
            .min_by_key(|session| session.number);
        let mut buffer = [0; 512];
        let reply = next.map_or(ClientReply::NoSession, |session| {
            ClientReply::Session(SessionRow {
                number: session.number,
                name: session.name.text(),
                who: session.who.text(),
                command: session.command.text(),
                since: session.since,
                rows: session.rows,
                columns: session.columns,
                lookers: self.lookers(session.id) as u32,
            })
        });
        // The row borrows from the table, so it is written here and not by `tell`.
        let sent = match (self.watch.client_fd(index), reply.encode(&mut buffer)) {
            (Some(client), Ok(length)) => raw::send(client, &buffer[..length], &[]).is_ok(),
            _ => false,
        };
        if !sent {
            self.forget(index);
        }
    }

    /// Hangs a session up or kills what leads it; the client is told when it has ended.
    pub fn end_session(&mut self, index: usize, target: Target<'_>, by_force: bool) {
        let found = self.find_session(target);
        let Some(session) = found.and_then(|session| self.sessions.at(session)) else {
            self.tell_or_forget(index, ClientReply::NoSession);
            return;
        };
        let id = session.id;
        let client = self.watch.client(index);
        client.state = State::AwaitsSession;
        client.id = id;
        self.signal_session(id, if by_force { SIGKILL } else { SIGHUP });
    }

    /// Asks init to signal what leads the session, now or later. Of two signals that wait the later one counts.
    fn signal_session(&mut self, id: u32, signal: u32) {
        let request = InitRequest::Signal {
            id,
            signal: signal as i32,
        };
        let unsent = self.ask_or_wait(request);
        if let Some(session) = self.sessions.get(id) {
            session.unsent_signal = if unsent { signal } else { 0 };
        }
    }

    /// Asks again what found no room before.
    pub fn signal_sessions_again(&mut self) {
        for index in 0..self.sessions.count() {
            if let Some(&mut Session {
                id, unsent_signal, ..
            }) = self.sessions.at(index)
                && unsent_signal != 0
            {
                self.signal_session(id, unsent_signal);
            }
        }
    }

    /// init has started it.
    pub fn session_started(&mut self, id: u32) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.phase != Phase::Starting {
            return;
        }
        session.phase = Phase::Running;
        let number = session.number;
        for index in (0..self.watch.client_count()).rev() {
            if self.watch.client(index).looks_at(id) {
                self.tell_or_forget(index, ClientReply::Looking { number });
            }
        }
        self.await_session(id);
    }

    /// init could not start it.
    pub fn session_not_started(&mut self, id: u32, stage: Stage, errno: i32) {
        let phase = self.sessions.get(id).map(|session| session.phase);
        if phase == Some(Phase::Starting) {
            self.remove_session(id, ClientReply::NotStarted { stage, errno });
        }
    }

    /// Its leader has ended.
    pub fn session_ended(&mut self, id: u32, wait_status: i32) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.phase != Phase::Running {
            return;
        }
        session.phase = Phase::Ended {
            wait_status,
            left: RING,
        };
        session.is_hung_up = false;
        self.read_terminal(id);
    }

    /// Lets a session go that has ended and been seen by everybody who looks.
    pub fn finish_session(&mut self, id: u32) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let Phase::Ended { wait_status, left } = session.phase else {
            return;
        };
        let is_read = session.is_hung_up || left == 0;
        let end = session.ring.end();
        if is_read && !self.ending.has_begun() {
            for index in (0..self.watch.client_count()).rev() {
                let client = self.watch.client(index);
                if client.looks_at(id) && client.look.position == end {
                    self.tell_end(index, wait_status);
                }
            }
        }
        let mut lookers = self
            .watch
            .clients()
            .iter()
            .filter(|client| client.looks_at(id));
        let is_seen = match self.ending.has_begun() {
            true => is_read && lookers.all(|client| client.look.position == end),
            false => is_read && lookers.next().is_none(),
        };
        if is_seen {
            self.remove_session(id, ClientReply::Exited { wait_status });
        }
    }

    /// Tells a looker who has seen everything how its session ended, now or when its connection has room for it.
    fn tell_end(&mut self, index: usize, wait_status: i32) {
        let Some(connection) = self.watch.client_fd(index) else {
            return;
        };
        let last = ClientReply::Exited { wait_status };
        match crate::reply(connection, last, &[]) {
            Ok(()) => self.end_talk(index),
            Err(Errno::AGAIN) => self.note_full(index, Taking::Nothing),
            Err(_) => self.watch.remove_client(index),
        }
    }

    /// Forgets a session, with a last word to everybody who looks at it or waits for its end. Its terminal closes, and what
    /// is left in it is hung up.
    pub fn remove_session(&mut self, id: u32, last: ClientReply<'_>) {
        if let Some(at) = self.sessions.find(id) {
            if let Some(recording) = self.sessions.at(at).and_then(|it| it.recording.as_mut()) {
                recording.end();
            }
            self.sessions.remove(at);
            self.watch.remove_terminal(at);
        }
        let with_container = self.ending.has_begun();
        for index in (0..self.watch.client_count()).rev() {
            let client = *self.watch.client(index);
            if client.id != id {
                continue;
            }
            match client.state {
                // The connection that closes says that more than the session has ended.
                State::Looking if with_container => self.watch.remove_client(index),
                State::Looking | State::AwaitsSession => self.answer(index, last),
                _ => {}
            }
        }
    }

    /// init is gone: what its sessions have shown still reaches those who look, as far as there is room. What was to start
    /// never does.
    pub fn end_all_sessions(&mut self, Errno(errno): Errno) {
        for index in (0..self.sessions.count()).rev() {
            if let Some(session) = self.sessions.at(index) {
                let id = session.id;
                self.session_not_started(id, Stage::InitGone, errno);
                self.session_ended(id, crate::reports::KILLED);
            }
        }
    }
}
