//! What the supervisor asks of init, without ever waiting for it: what finds no room is kept, and sent when there is.
use cocker_protocol::InitRequest;
use linux_raw_sys::general::{POLLIN, POLLOUT};

use crate::Supervisor;
use crate::raw::{self, Errno, Fd};
use crate::watch::{Slot, State};

impl Supervisor {
    /// Sends a request to init with the descriptors that belong to it.
    pub fn ask(&mut self, request: InitRequest<'_>, descriptors: &[Fd]) -> raw::Result<()> {
        let init = self.watch.fd(Slot::Init).ok_or(Errno::PIPE)?;
        let length = request.encode(self.outgoing).map_err(|_| Errno::TOO_BIG)?;
        let sent = raw::send(init, &self.outgoing[..length], descriptors);
        raw::release_pages(self.outgoing);
        sent
    }

    /// Asks init to signal a client's command, now or later. Of two signals that wait the later one counts.
    pub fn ask_signal(&mut self, index: usize, signal: i32) {
        let id = self.watch.client(index).id;
        let unsent = self.ask_or_wait(InitRequest::Signal { id, signal });
        self.watch.client(index).unsent_signal = if unsent { signal } else { 0 };
    }

    /// Asks init to end the command of a client that is gone, now or later, and forgets the client.
    pub fn ask_end(&mut self, index: usize) {
        let id = self.watch.client(index).id;
        if self.ask_or_wait(InitRequest::End { id }) {
            self.watch.close_client(index);
            self.watch.client(index).state = State::Gone;
        } else {
            self.watch.remove_client(index);
        }
    }

    /// Asks init to end everything, now or later.
    pub fn ask_shutdown(&mut self, timeout_ms: u32) {
        let unsent = self.ask_or_wait(InitRequest::Shutdown { timeout_ms });
        self.ending.unsent_timeout_ms = unsent.then_some(timeout_ms);
    }

    /// Asks again what found no room before.
    pub fn ask_unsent(&mut self) {
        self.watch.await_events(Slot::Init, POLLIN);
        if let Some(timeout_ms) = self.ending.unsent_timeout_ms {
            self.ask_shutdown(timeout_ms);
        }
        self.signal_sessions_again();
        for index in (0..self.watch.client_count()).rev() {
            let client = *self.watch.client(index);
            if client.state == State::Gone {
                self.ask_end(index);
            } else if client.unsent_signal != 0 {
                self.ask_signal(index, client.unsent_signal);
            }
        }
    }

    /// Returns whether init has no room for the request; then its socket is watched for some.
    pub fn ask_or_wait(&mut self, request: InitRequest<'_>) -> bool {
        let is_full = self.ask(request, &[]) == Err(Errno::AGAIN);
        if is_full {
            self.watch.await_events(Slot::Init, POLLIN | POLLOUT);
        }
        is_full
    }
}
