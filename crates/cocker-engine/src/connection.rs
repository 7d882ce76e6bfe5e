//! The line from a client to a container's supervisor: one SEQPACKET connection for one request, a message a datagram.

use crate::container::Container;
use crate::control;
use crate::failure::{EngineError, TalkError};
use cocker_protocol::{ClientReply, ClientRequest, DecodeError, MAX_MESSAGE, Refusal};
use cocker_sys::fault;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType,
};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// Descriptors that a request may carry: a command's three streams.
const MOST_SENT: usize = 3;

/// The most bytes of a request that starts nothing: what is typed, and its head.
const MOST_SMALL_REQUEST: usize = 8 * 1024;

/// The most bytes of a reply that is about a command.
pub(crate) const MOST_REPLY: usize = 64;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Exited(u8),
    Killed {
        signal: i32,
    },
    /// The container went away under it.
    ContainerGone,
}

/// The line to the supervisor of one started command or session. Closing it ends the command.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Connects to the supervisor of a booted container.
    pub(crate) fn open(container: &Container) -> Result<Connection, TalkError> {
        container.booted_pid()?;
        let connect = || -> Result<OwnedFd, Errno> {
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            let address = control::address(&container.folder)?;
            fault::step("connection.open", || {
                rustix::net::connect(&socket, &address)
            })?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Ok(Connection { socket }),
            // It has just ended, or is just ending.
            Err(Errno::NOENT | Errno::CONNREFUSED) => Err(container.not_booted().into()),
            Err(source) => Err(TalkError::Connect { source }),
        }
    }

    /// Sends a request; `descriptors` are lent to it. Where the supervisor has closed, its last word is there to be received.
    pub(crate) fn send(
        &self,
        request: &ClientRequest<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), TalkError> {
        self.send_with(request, descriptors, SendFlags::NOSIGNAL)
    }

    /// Sends a request where there is room for it, and says whether there was.
    pub(crate) fn try_send(&self, request: &ClientRequest<'_>) -> Result<bool, TalkError> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match self.send_with(request, &[], flags) {
            Ok(()) => Ok(true),
            Err(TalkError::Connect {
                source: Errno::AGAIN,
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send_with(
        &self,
        request: &ClientRequest<'_>,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), TalkError> {
        let most = match request {
            ClientRequest::Spawn(_) | ClientRequest::Open(_) => MAX_MESSAGE,
            _ => MOST_SMALL_REQUEST,
        };
        let mut buffer = vec![0u8; most];
        let length = request
            .encode(&mut buffer)
            .map_err(|_too_long| TalkError::TooLong { most: MAX_MESSAGE })?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SENT))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(&buffer[..length])];
        let mut send = || rustix::net::sendmsg(&self.socket, &parts, &mut ancillary, flags);
        let send = || rustix::io::retry_on_intr(&mut send);
        match fault::step("connection.send", send) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(Errno::MSGSIZE) => Err(TalkError::TooLong { most: MAX_MESSAGE }),
            Err(source) => Err(TalkError::Connect { source }),
        }
    }

    /// The next reply, or `None` when the supervisor has closed.
    pub(crate) fn receive<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> Result<Option<ClientReply<'b>>, TalkError> {
        match receive(&self.socket, buffer, RecvFlags::empty()) {
            Ok(Some(ClientReply::Refused { why })) => Err(refused(why)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(error),
        }
    }

    /// The same, for as long as the patience lasts, where it has an end.
    pub(crate) fn receive_within<'b>(
        &self,
        buffer: &'b mut [u8],
        patience: Option<Duration>,
    ) -> Result<Option<ClientReply<'b>>, TalkError> {
        match patience {
            Some(time) if !self.is_readable_within(time)? => Err(TalkError::NoAnswer),
            _ => self.receive(buffer),
        }
    }

    /// Waits for a reply, or the end of the line, for so long.
    pub(crate) fn is_readable_within(&self, time: Duration) -> Result<bool, TalkError> {
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut polled = [PollFd::from_borrowed_fd(self.as_fd(), PollFlags::IN)];
            match poll(&mut polled, timeout.as_ref()) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(source) => return Err(TalkError::Connect { source }),
            }
        }
    }

    /// The next reply if it is there; else `None`.
    pub(crate) fn try_receive<'b>(
        &self,
        buffer: &'b mut [u8],
    ) -> Result<Option<Option<ClientReply<'b>>>, TalkError> {
        match receive(&self.socket, buffer, RecvFlags::DONTWAIT) {
            Ok(Some(ClientReply::Refused { why })) => Err(refused(why)),
            Ok(reply) => Ok(Some(reply)),
            Err(TalkError::Connect {
                source: Errno::AGAIN,
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Readable when the ending can be had.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for the ending.
    pub fn ending(&self) -> Result<Ending, EngineError> {
        let mut buffer = [0; MOST_REPLY];
        let reply = self
            .receive(&mut buffer)
            .map_err(|source| EngineError::Follow {
                source: Box::new(source),
            })?;
        Ok(match reply {
            Some(ClientReply::Exited { wait_status }) => Ending::from_wait_status(wait_status),
            None => Ending::ContainerGone,
            Some(_) => {
                let source = TalkError::Confused;
                return Err(EngineError::Follow {
                    source: Box::new(source),
                });
            }
        })
    }

    /// Sends a signal (a number of signal(7)) to the command's process group.
    pub fn signal(&self, signal: i32) -> Result<(), EngineError> {
        self.send(&ClientRequest::Signal { signal }, &[])
            .map_err(|source| EngineError::Follow {
                source: Box::new(source),
            })
    }
}

impl Ending {
    /// A wait status as wait4(2) gives it.
    pub(crate) fn from_wait_status(wait_status: i32) -> Ending {
        match wait_status & 0x7f {
            0 => Ending::Exited((wait_status >> 8) as u8),
            signal => Ending::Killed { signal },
        }
    }
}

/// Receives one reply; `None` when the other end has closed. Descriptors never come: the kernel drops any.
pub(crate) fn receive<'b>(
    socket: &OwnedFd,
    buffer: &'b mut [u8],
    flags: RecvFlags,
) -> Result<Option<ClientReply<'b>>, TalkError> {
    let received = rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *buffer, flags));
    let length = match received {
        Ok((_, length)) => length,
        Err(Errno::CONNRESET) => 0,
        Err(source) => return Err(TalkError::Connect { source }),
    };
    if length == 0 {
        return Ok(None);
    }
    let reply = buffer.get(..length).ok_or(TalkError::Confused)?;
    match ClientReply::decode(reply) {
        Ok(reply) => Ok(Some(reply)),
        // A supervisor of another version says so in its own.
        Err(DecodeError::WrongVersion(_)) => Err(refused(Refusal::WrongVersion)),
        Err(_) => Err(TalkError::Confused),
    }
}

fn refused(why: Refusal) -> TalkError {
    TalkError::Refused { why: words(why) }
}

fn words(why: Refusal) -> &'static str {
    match why {
        Refusal::NotAllowed => "only the user who booted the container may do that",
        Refusal::TooMany => "too many commands and sessions at once",
        Refusal::Malformed => "it did not understand the request",
        Refusal::WrongVersion => "it was booted by another version of cocker",
        Refusal::TooManySessions => "too many sessions at once",
        Refusal::NameTaken => "there is a session of that name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_become_endings() {
        assert_eq!(Ending::from_wait_status(0), Ending::Exited(0));
        assert_eq!(Ending::from_wait_status(7 << 8), Ending::Exited(7));
        assert_eq!(Ending::from_wait_status(9), Ending::Killed { signal: 9 });
        let with_core = 0x80 | 11;
        assert_eq!(
            Ending::from_wait_status(with_core),
            Ending::Killed { signal: 11 }
        );
    }

    #[test]
    fn a_supervisor_of_another_version_is_called_that() {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair of sockets");
        let mut message = [0; 64];
        let length = ClientReply::Ready.encode(&mut message).expect("it fits");
        message[..2].copy_from_slice(&1u16.to_le_bytes());
        rustix::net::send(&theirs, &message[..length], SendFlags::empty()).expect("it is sent");
        let error = receive(&ours, &mut [0; 64], RecvFlags::empty()).expect_err("another version");
        assert!(error.to_string().contains("another version"), "{error}");
    }
}
