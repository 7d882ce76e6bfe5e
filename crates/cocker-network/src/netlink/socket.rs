//! A netlink socket: a datagram of messages goes out, the answers are read.

use super::attributes::{Attributes, number_ne, text};
use super::message::{FLAGS, HEADER, Messages, SEQUENCE};
use super::numbers::*;
use cocker_sys::fault;
use cocker_sys::socket::{NetlinkOption, set_netlink_option, set_send_buffer};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fmt;
use std::ops::ControlFlow;

/// A socket of the network namespace that it was made in.
pub(crate) struct Netlink {
    family: Family,
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What the kernel refused to do, and why.
#[derive(Debug)]
pub struct Refusal {
    /// Finishes the sentence "cannot …".
    pub what: String,
    pub errno: Errno,
    /// The kernel's own explanation, where it gave one.
    pub words: Option<String>,
}

/// One message that the kernel sent back.
pub(crate) struct Answer<'a> {
    /// `RTM_…`, or `NFT_MSG_…` below the number of the subsystem.
    pub kind: u16,
    /// The family's header and, behind it, attributes.
    payload: &'a [u8],
}

/// Larger than the pages that the kernel fills for one answer to a dump.
const BUFFER: usize = 64 * 1024;

/// What the kernel lets a datagram take unless it is told otherwise (net.core.wmem_default is larger).
const USUAL_DATAGRAM: usize = 128 * 1024;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Route,
    Netfilter,
    Sockets,
}

impl Netlink {
    /// For links, addresses, routes and neighbours (rtnetlink(7)).
    pub(crate) fn route() -> Result<Netlink, Errno> {
        Ok(Netlink::on(open(Family::Route)?, Family::Route))
    }

    /// For nf_tables and the table of connections.
    pub(crate) fn netfilter() -> Result<Netlink, Errno> {
        Ok(Netlink::on(open(Family::Netfilter)?, Family::Netfilter))
    }

    /// For the sockets of this host (sock_diag(7)).
    pub(crate) fn sockets() -> Result<Netlink, Errno> {
        Ok(Netlink::on(open(Family::Sockets)?, Family::Sockets))
    }

    fn on(socket: OwnedFd, family: Family) -> Netlink {
        Netlink {
            family,
            socket,
            sequence: 1,
            buffer: vec![0; BUFFER],
        }
    }

    /// Has all of `messages` done, in their order.
    ///
    /// # Errors
    /// The first refusal. Route messages before and after it are done; of an nf_tables batch, nothing.
    pub(crate) fn change(&mut self, messages: Messages) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Ok(());
        }
        fault::before("netlink.change").map_err(|errno| Refusal {
            what: "talk to the kernel".into(),
            errno,
            words: None,
        })?;
        self.change_and_ask(messages, |_| ControlFlow::Continue(()))?;
        fault::after("netlink.change");
        Ok(())
    }

    /// The same for messages that also ask, with every answer shown to `visit`.
    pub(crate) fn change_and_ask(
        &mut self,
        messages: Messages,
        visit: impl FnMut(Answer<'_>) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        self.exchange(messages, visit, |_| true)
    }

    /// Asks, and shows every answer to `visit` until that breaks off. The first refusal ends it, but for "not found":
    /// then there is just no answer.
    pub(crate) fn ask(
        &mut self,
        messages: Messages,
        visit: impl FnMut(Answer<'_>) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let counts = |errno| !matches!(errno, Errno::NOENT | Errno::NODEV);
        self.exchange(messages, visit, counts)
    }

    /// Sends the messages, shows what is answered to `visit`, and returns the first refusal that counts.
    fn exchange(
        &mut self,
        messages: Messages,
        mut visit: impl FnMut(Answer<'_>) -> ControlFlow<()>,
        counts: impl Fn(Errno) -> bool,
    ) -> Result<(), Refusal> {
        if messages.is_empty() {
            return Ok(());
        }
        let (mut bytes, parts) = messages.into_parts();
        let first = self.sequence;
        for (number, part) in parts.iter().enumerate() {
            let at = part.start + SEQUENCE;
            bytes[at..at + 4].copy_from_slice(&(first + number as u32).to_ne_bytes());
            let at = part.start + FLAGS;
            bytes[at] |= NLM_F_REQUEST as u8;
        }
        self.sequence += parts.len() as u32;
        let failed = |errno| Refusal {
            what: parts[0].what.clone(),
            errno,
            words: None,
        };
        if bytes.len() > USUAL_DATAGRAM {
            set_send_buffer(self.socket.as_fd(), bytes.len() * 2).map_err(failed)?;
        }
        rustix::io::retry_on_intr(|| rustix::net::send(&self.socket, &bytes, SendFlags::empty()))
            .map_err(failed)?;
        let mut refusal = None;
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let length = match rustix::net::recv(&self.socket, &mut self.buffer, flags) {
                Ok((_, length)) if length > self.buffer.len() => {
                    return Err(failed(Errno::MSGSIZE));
                }
                Ok((_, length)) => length,
                // All has been said.
                Err(Errno::AGAIN) => return refusal.map_or(Ok(()), Err),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            for said in Said(&self.buffer[..length]) {
                let message = said.sequence.wrapping_sub(first) as usize;
                let Some(part) = parts.get(message) else {
                    continue; // of an earlier question that was broken off
                };
                match said.kind {
                    NLMSG_ERROR => {
                        let (errno, words) = said.verdict();
                        if let Some(errno) = errno.filter(|&errno| counts(errno)) {
                            refusal.get_or_insert_with(|| Refusal {
                                what: part.what.clone(),
                                errno,
                                words,
                            });
                        }
                    }
                    NLMSG_DONE => {}
                    kind => {
                        let answer = Answer {
                            kind,
                            payload: said.payload,
                        };
                        if visit(answer).is_break() {
                            // The kernel would go on with its answer, and take no other question before its end.
                            self.socket = open(self.family).map_err(failed)?;
                            return refusal.map_or(Ok(()), Err);
                        }
                    }
                }
            }
        }
    }
}

fn open(family: Family) -> Result<OwnedFd, Errno> {
    let protocol = match family {
        // NETLINK_ROUTE is 0, which is also what a socket gets that names no protocol.
        Family::Route => None,
        Family::Netfilter => Some(rustix::net::netlink::NETFILTER),
        Family::Sockets => Some(rustix::net::netlink::SOCK_DIAG),
    };
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    // Refusals come with the kernel's words, and without a copy of what was refused.
    set_netlink_option(socket.as_fd(), NetlinkOption::ExtendedAcknowledge)?;
    set_netlink_option(socket.as_fd(), NetlinkOption::CappedAcknowledge)?;
    if family == Family::Route {
        // The kernel then filters dumps as asked and refuses what it does not understand.
        set_netlink_option(socket.as_fd(), NetlinkOption::StrictCheck)?;
    }
    Ok(socket)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<'a> Answer<'a> {
    /// The family's header of `N` bytes, and the attributes behind it.
    pub(crate) fn split<const N: usize>(&self) -> Option<([u8; N], Attributes<'a>)> {
        let (header, rest) = self.payload.split_first_chunk::<N>()?;
        let skipped = N.next_multiple_of(4) - N;
        Some((*header, Attributes(rest.get(skipped..)?)))
    }
}

/// The messages in a datagram from the kernel.
struct Said<'a>(&'a [u8]);

struct SaidMessage<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Iterator for Said<'a> {
    type Item = SaidMessage<'a>;

    fn next(&mut self) -> Option<SaidMessage<'a>> {
        let header = self.0.first_chunk::<HEADER>()?;
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let length = u32::from_ne_bytes(word(0)) as usize;
        let payload = self.0.get(HEADER..length)?;
        let message = SaidMessage {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[FLAGS], header[FLAGS + 1]]),
            sequence: u32::from_ne_bytes(word(SEQUENCE)),
            payload,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

impl SaidMessage<'_> {
    /// What an error message says; an errno of 0 is an acknowledgement.
    fn verdict(&self) -> (Option<Errno>, Option<String>) {
        let code = number_ne(self.payload).unwrap_or(0) as i32;
        if code >= 0 {
            return (None, None);
        }
        let mut explained = Attributes(&[]);
        if self.flags & NLM_F_ACK_TLVS != 0 && self.flags & NLM_F_CAPPED != 0 {
            explained = Attributes(self.payload.get(4 + HEADER..).unwrap_or_default());
        }
        let words = explained.find(NLMSGERR_ATTR_MSG).map(text);
        let errno = Errno::from_raw_os_error(-code);
        (Some(errno), words)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.what)?;
        match &self.words {
            Some(words) => write!(f, ": the kernel said: \"{words}\""),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.errno)
    }
}
