//! What clients ask. A client is a process of the same user on the host, but it may be broken, or another version.
use cocker_protocol::{
    ClientReply, ClientRequest, DecodeError, InitRequest, Refusal, Spawn, Stage, Stream,
};

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
    pub fn answer(&mut self, index: usize, last: ClientReply) {
        if self.tell(index, last, &[]) {
            // Closing at once could overtake the reply where the client has just said something else.
            if let Some(client) = self.watch.client_fd(index) {
                raw::end_sending(client);
            }
            self.watch.client(index).state = State::Answered;
        } else {
            self.watch.remove_client(index);
        }
    }

    /// Sends a client a reply and returns whether it had room for it.
    pub fn tell(&mut self, index: usize, news: ClientReply, descriptors: &[Fd]) -> bool {
        self.watch
            .client_fd(index)
            .is_some_and(|client| reply(client, news, descriptors).is_ok())
    }

    /// Lets a client go; where it has a command that needs it, that one ends.
    pub fn forget(&mut self, index: usize) {
        let client = self.watch.client(index);
        if client.has_command() && !client.is_detached {
            self.ask_end(index);
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
            (ClientRequest::Shutdown { timeout_ms }, State::New | State::AwaitsEnd) => {
                self.watch.client(index).state = State::AwaitsEnd;
                self.begin_shutdown(timeout_ms);
            }
            (ClientRequest::Kill, State::New | State::AwaitsEnd) => {
                self.watch.client(index).state = State::AwaitsEnd;
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
            (Stream::Terminal { .. } | Stream::Nothing, None, None, None, None) => &[],
            _ => return self.refuse(index, Refusal::Malformed),
        };
        let id = self.unused_id();
        match self.ask(InitRequest::Spawn { id, spawn }, descriptors) {
            Ok(()) => {
                let client = self.watch.client(index);
                client.state = State::Starting;
                client.id = id;
                client.has_terminal = matches!(spawn.stream, Stream::Terminal { .. });
                client.is_detached = spawn.stream == Stream::Nothing;
            }
            Err(Errno::TOO_BIG) => {
                let (stage, errno) = (Stage::Execute, Errno::TOO_BIG.0);
                self.answer(index, ClientReply::NotStarted { stage, errno });
            }
            Err(Errno(errno)) => {
                let stage = Stage::InitGone;
                self.answer(index, ClientReply::NotStarted { stage, errno });
            }
        }
    }

    fn unused_id(&mut self) -> u32 {
        loop {
            let id = self.next_id;
            self.next_id = id.wrapping_add(1);
            if self.watch.find_command(id).is_none() {
                return id;
            }
        }
    }

    /// Refuses a client; a command that it has ends.
    fn refuse(&mut self, index: usize, why: Refusal) {
        let has_command = self.watch.client(index).has_command();
        if has_command {
            self.tell(index, ClientReply::Refused { why }, &[]);
            self.ask_end(index);
        } else {
            self.answer(index, ClientReply::Refused { why });
        }
    }
}
