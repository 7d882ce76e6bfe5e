//! What clients ask. A client is a process of the same user on the host, but it may be broken, or another version.
use cocker_protocol::{
    ClientReply, ClientRequest, DecodeError, InitRequest, Refusal, Spawn, Stage, Stream,
};

use linux_raw_sys::general::POLLIN;

use crate::raw::{self, Descriptor, Errno, Fd, Received, Take};
use crate::watch::State;
use crate::{Supervisor, reply};

impl Supervisor {
    /// Takes one message of a client that has one, or notices that it is gone.
    pub fn take_request(&mut self, index: usize) {
        let Some(client) = self.watch.client_fd(index) else {
            return;
        };
        let received = match raw::receive(client, self.incoming, Take::MessageAndDescriptors) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(Received { length: 0, .. }) | Err(_) => return self.forget(index),
            Ok(received) => received,
        };
        if self.watch.client(index).state == State::Answered {
            // Whatever it says now crossed our last reply.
            return;
        }
        let length = received.length;
        // The message borrows the buffer while the supervisor acts upon it.
        let incoming = core::mem::take(&mut self.incoming);
        let request = match received.is_whole {
            true => ClientRequest::decode(&incoming[..length]),
            false => Err(DecodeError::TooLong),
        };
        match request {
            Ok(request) => self.serve(index, request, received),
            Err(DecodeError::WrongVersion(_)) => self.refuse(index, Refusal::WrongVersion),
            Err(_) => self.refuse(index, Refusal::Malformed),
        }
        // Between messages next to nothing of the buffer stays in memory.
        raw::release_pages(incoming);
        self.incoming = incoming;
    }

    /// Gives a client its last reply; it is forgotten when it closes.
    pub fn answer(&mut self, index: usize, last: ClientReply<'_>) {
        if self.tell(index, last) {
            self.end_talk(index);
        } else {
            self.watch.remove_client(index);
        }
    }

    /// Ends what is said to a client that has had its last reply.
    pub fn end_talk(&mut self, index: usize) {
        // Somebody who looked is listened to again, so that its closing is noticed.
        self.watch.await_client(index, POLLIN);
        // Closing at once could overtake the reply where the client has just said something else.
        if let Some(client) = self.watch.client_fd(index) {
            raw::end_sending(client);
        }
        self.watch.client(index).state = State::Answered;
    }

    /// Sends a client a reply and returns whether it had room for it.
    fn tell(&mut self, index: usize, news: ClientReply<'_>) -> bool {
        self.watch
            .client_fd(index)
            .is_some_and(|client| reply(client, news, &[]).is_ok())
    }

    /// Sends a client a reply, or lets it go where it takes none; returns whether it is still there.
    pub fn tell_or_forget(&mut self, index: usize, news: ClientReply<'_>) -> bool {
        let is_told = self.tell(index, news);
        if !is_told {
            self.forget(index);
        }
        is_told
    }

    /// Lets a client go; where it has a command that needs it, that one ends.
    pub fn forget(&mut self, index: usize) {
        let client = self.watch.client(index);
        if client.has_command() && !client.is_detached {
            self.ask_end(index);
        } else if client.state == State::Looking {
            self.leave_session(index);
        } else {
            self.watch.remove_client(index);
        }
    }

    fn serve(&mut self, index: usize, request: ClientRequest<'_>, received: Received) {
        let state = self.watch.client(index).state;
        match (request, state) {
            (ClientRequest::Spawn(spawn), State::New) => {
                self.start_command(index, spawn, received);
            }
            (ClientRequest::Signal { signal }, State::Starting | State::Running) => {
                self.ask_signal(index, signal);
            }
            (ClientRequest::Open(open), State::New) => self.open_session(index, open, received),
            (
                ClientRequest::Join {
                    target,
                    access,
                    rows,
                    columns,
                },
                State::New,
            ) => self.join_session(index, target, access, (rows, columns)),
            (ClientRequest::Input { bytes }, State::Looking) => {
                self.type_into_session(index, bytes);
            }
            (ClientRequest::Resize { rows, columns }, State::Looking) => {
                self.resize_look(index, rows, columns);
            }
            (ClientRequest::NextSession { after }, State::New) => self.list_session(index, after),
            (ClientRequest::EndSession { target, by_force }, State::New | State::AwaitsSession) => {
                self.end_session(index, target, by_force);
            }
            (ClientRequest::Shutdown { timeout_ms }, State::New | State::AwaitsEnd) => {
                self.watch.client(index).state = State::AwaitsEnd;
                self.begin_shutdown(timeout_ms);
            }
            (ClientRequest::Kill, State::New | State::AwaitsEnd) => {
                self.watch.client(index).state = State::AwaitsEnd;
                self.ending.ask_for();
                self.kill();
            }
            _ => self.refuse(index, Refusal::Malformed),
        }
    }

    /// Numbers the command and passes it on, with its descriptors; ours close here.
    fn start_command(&mut self, index: usize, spawn: Spawn<'_>, received: Received) {
        let [input, output, error, surplus] = &received.descriptors;
        let fd = Descriptor::fd;
        let pipes;
        let descriptors: &[Fd] = match (spawn.stream, input, output, error, surplus) {
            (Stream::Pipes, Some(input), Some(output), Some(error), None) => {
                pipes = [fd(input), fd(output), fd(error)];
                &pipes
            }
            (Stream::Nothing, None, None, None, None) => &[],
            _ => return self.refuse(index, Refusal::Malformed),
        };
        let id = self.unused_id();
        match self.ask(InitRequest::Spawn { id, spawn }, descriptors) {
            Ok(()) => {
                let client = self.watch.client(index);
                client.state = State::Starting;
                client.id = id;
                client.is_detached = spawn.stream == Stream::Nothing;
            }
            Err(error) => {
                let (stage, errno) = (stage_unasked(error), error.0);
                self.answer(index, ClientReply::NotStarted { stage, errno });
            }
        }
    }

    pub fn unused_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            if self.watch.find_command(id).is_none() && self.sessions.find(id).is_none() {
                return id;
            }
        }
    }

    /// Refuses a client; a command that it has ends, a session that it looks at is left.
    pub fn refuse(&mut self, index: usize, why: Refusal) {
        let client = *self.watch.client(index);
        if client.has_command() || client.state == State::Looking {
            self.tell(index, ClientReply::Refused { why });
            self.forget(index);
        } else {
            self.answer(index, ClientReply::Refused { why });
        }
    }
}

/// What has failed where init could not be asked to start something.
pub fn stage_unasked(error: Errno) -> Stage {
    match error {
        Errno::TOO_BIG => Stage::Execute,
        // It is there, and has more to do than it gets done.
        Errno::AGAIN => Stage::TooMany,
        _ => Stage::InitGone,
    }
}
