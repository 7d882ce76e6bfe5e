//! The line from a client to a container's supervisor: one SEQPACKET connection for one request, a message a datagram.

use crate::container::Container;
use crate::control;
use crate::failure::{EngineError, TalkError};
use cocker_protocol::{ClientReply, ClientRequest, MAX_MESSAGE, Refusal};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// Descriptors that a request may carry: a command's three streams.
const MOST_SENT: usize = 3;

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

/// A reply and the descriptor that came with it.
#[derive(Debug)]
pub(crate) struct Message {
    pub reply: ClientReply,
    pub descriptor: Option<OwnedFd>,
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
            rustix::net::connect(&socket, &control::address(&container.folder)?)?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Ok(Connection { socket }),
            // It has just ended, or is just ending.
            Err(Errno::NOENT | Errno::CONNREFUSED) => {
                let container = container.name.clone();
                Err(crate::failure::ContainerError::NotBooted { container }.into())
            }
            Err(source) => Err(TalkError::Connect { source }),
        }
    }

    /// Sends a request; `descriptors` are lent to it.
    pub(crate) fn send(
        &self,
        request: &ClientRequest<'_>,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), TalkError> {
        let mut buffer = vec![0u8; MAX_MESSAGE];
        let length = request
            .encode(&mut buffer)
            .map_err(|_too_long| TalkError::TooLong { most: MAX_MESSAGE })?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SENT))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let parts = [IoSlice::new(&buffer[..length])];
        let flags = SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.socket, &parts, &mut ancillary, flags)
        }) {
            Ok(_) => Ok(()),
            Err(Errno::MSGSIZE) => Err(TalkError::TooLong { most: MAX_MESSAGE }),
            Err(source) => Err(TalkError::Connect { source }),
        }
    }

    /// The next reply, or `None` when the supervisor has closed.
    pub(crate) fn receive(&self) -> Result<Option<Message>, TalkError> {
        match receive(&self.socket)? {
            Some(Message {
                reply: ClientReply::Refused { why },
                ..
            }) => Err(TalkError::Refused { why: words(why) }),
            message => Ok(message),
        }
    }

    /// Readable when the ending can be had.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Waits for the ending.
    pub fn ending(&self) -> Result<Ending, EngineError> {
        let reply = self.receive().map_err(|source| EngineError::Follow {
            source: Box::new(source),
        })?;
        Ok(match reply.map(|message| message.reply) {
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
    fn from_wait_status(wait_status: i32) -> Ending {
        match wait_status & 0x7f {
            0 => Ending::Exited((wait_status >> 8) as u8),
            signal => Ending::Killed { signal },
        }
    }
}

/// Receives one reply; surplus descriptors are closed.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Option<Message>, TalkError> {
    // Every reply is a few words long; what is longer is none.
    let mut buffer = [0u8; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let parts = &mut [IoSliceMut::new(&mut buffer)];
        rustix::net::recvmsg(socket, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    });
    let length = match received {
        Ok(received) => received.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(source) => return Err(TalkError::Connect { source }),
    };
    let descriptor = ancillary
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => Some(descriptors.next()),
            _ => None,
        })
        .flatten();
    if length == 0 {
        return Ok(None);
    }
    let reply = ClientReply::decode(&buffer[..length]).map_err(|_| TalkError::Confused)?;
    Ok(Some(Message { reply, descriptor }))
}

fn words(why: Refusal) -> &'static str {
    match why {
        Refusal::NotAllowed => "only the user who booted the container may do that",
        Refusal::TooMany => "too many commands and sessions at once",
        Refusal::Malformed => "it did not understand the request",
        Refusal::WrongVersion => "it was booted by another version of cocker",
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
}
