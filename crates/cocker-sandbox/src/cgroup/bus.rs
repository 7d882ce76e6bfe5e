//! As much of D-Bus as it takes to ask the host's systemd for a unit: one call, its answer, and signals. The wire is that of
//! the D-Bus specification ("Message Protocol", "Authentication Protocol"), in this machine's byte order.
//!
//! The socket is systemd's own, for root alone: no other program has to be there, and all of systemd's signals come unasked.
//! Every wait ends at one deadline, and no message is taken that is longer than any that systemd has reason to send.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::time::{Duration, Instant};

/// The machine's order, as the first byte of a message says it.
const ORDER: u8 = if cfg!(target_endian = "little") {
    b'l'
} else {
    b'B'
};

const VERSION: u8 = 1;

/// "Message Types".
pub(super) const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// "Header Fields".
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The length of a header before its fields, the length of these included.
const FIXED: usize = 16;

/// No message of systemd's is longer that matters here, in bytes.
const LONGEST: usize = 1 << 20;

/// Takes us for root, whom it knows by the socket (SASL's EXTERNAL; "30" is "0" in hexadecimal digits).
const GREETING: &[u8] = b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n";
const LONGEST_ANSWER: usize = 256;

/// What is not a message of D-Bus's, or not a sound one.
const NO_MESSAGE: Errno = Errno::BADMSG;

/// A connection to systemd.
pub(super) struct Connection {
    socket: OwnedFd,
    deadline: Instant,
    /// What has come and was not taken.
    received: Vec<u8>,
    is_greeted: bool,
    serial: u32,
}

/// What a method is called with.
pub(super) struct Call<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub method: &'a str,
    pub signature: &'a str,
    pub body: Body,
}

/// A message that has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub kind: u8,
    /// Of the call that this answers.
    pub reply_serial: u32,
    pub member: String,
    pub error: String,
    pub signature: String,
    body: Vec<u8>,
}

impl Connection {
    /// Connects, and has greeted already; the answer comes with the first message. Everything has to be over in `patience`.
    pub fn open(path: &str, patience: Duration) -> Result<Connection, Errno> {
        let flags = SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        let mut connection = Connection {
            socket,
            deadline: Instant::now() + patience,
            received: Vec::new(),
            is_greeted: false,
            serial: 0,
        };
        connection.send(GREETING)?;
        Ok(connection)
    }

    /// Calls a method; returns the serial that its answer names.
    pub fn call(&mut self, call: &Call<'_>) -> Result<u32, Errno> {
        self.serial += 1;
        self.send(&call.message(self.serial))?;
        Ok(self.serial)
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// `ETIMEDOUT` when the time is over, `ECONNRESET` when systemd has hung up, `EACCES` when it does not know us for root.
    pub fn next(&mut self) -> Result<Message, Errno> {
        if !self.is_greeted {
            self.take_answer()?;
        }
        self.receive_at_least(FIXED)?;
        let length = Message::length(&self.received)?;
        self.receive_at_least(length)?;
        let rest = self.received.split_off(length);
        let bytes = std::mem::replace(&mut self.received, rest);
        Message::parse(&bytes)
    }

    /// The line that answers the greeting.
    fn take_answer(&mut self) -> Result<(), Errno> {
        let end = loop {
            match self.received.windows(2).position(|two| two == b"\r\n") {
                Some(end) => break end,
                None if self.received.len() > LONGEST_ANSWER => return Err(NO_MESSAGE),
                None => self.receive_at_least(self.received.len() + 1)?,
            }
        };
        if !self.received.starts_with(b"OK ") {
            return Err(Errno::ACCESS);
        }
        self.received.drain(..end + 2);
        self.is_greeted = true;
        Ok(())
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Errno> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(length) => bytes = &bytes[length..],
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn receive_at_least(&mut self, length: usize) -> Result<(), Errno> {
        let mut block = [0u8; 4096];
        while self.received.len() < length {
            match rustix::net::recv(&self.socket, &mut block[..], RecvFlags::empty()) {
                Ok((0, _)) => return Err(Errno::CONNRESET),
                Ok((more, _)) => self.received.extend_from_slice(&block[..more]),
                Err(Errno::AGAIN) => self.wait(PollFlags::IN)?,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn wait(&self, event: PollFlags) -> Result<(), Errno> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut waiting = [PollFd::from_borrowed_fd(self.socket.as_fd(), event)];
        match poll(&mut waiting, Some(&left)) {
            Ok(0) => Err(Errno::TIMEDOUT),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl Call<'_> {
    fn message(&self, serial: u32) -> Vec<u8> {
        let mut message = Body::default();
        message.0.extend([ORDER, CALL, 0, VERSION]);
        message.number(self.body.0.len() as u32);
        message.number(serial);
        message.array(8, |fields| {
            for (field, kind, value) in [
                (PATH, "o", self.path),
                (INTERFACE, "s", self.interface),
                (MEMBER, "s", self.method),
                (DESTINATION, "s", self.destination),
            ] {
                fields.entry(|entry| {
                    entry.0.push(field);
                    entry.signature(kind);
                    entry.text(value);
                });
            }
            fields.entry(|entry| {
                entry.0.push(SIGNATURE);
                entry.signature("g");
                entry.signature(self.signature);
            });
        });
        message.align(8);
        message.0.extend_from_slice(&self.body.0);
        message.0
    }
}

/// Values as they are marshalled ("Marshaling"), each at a multiple of its own size from the message's beginning; a body begins
/// at a multiple of the largest.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub fn number(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_ne_bytes());
    }

    pub fn large_number(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_ne_bytes());
    }

    /// A text or the path of an object.
    pub fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.bytes());
        self.0.push(0);
    }

    pub fn signature(&mut self, signature: &str) {
        self.0.push(signature.len() as u8);
        self.0.extend(signature.bytes());
        self.0.push(0);
    }

    /// Elements that begin at multiples of `alignment`.
    pub fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Body)) {
        self.number(0);
        let length = self.0.len() - 4;
        self.align(alignment);
        let start = self.0.len();
        fill(self);
        let filled = (self.0.len() - start) as u32;
        self.0[length..length + 4].copy_from_slice(&filled.to_ne_bytes());
    }

    /// A structure.
    pub fn entry(&mut self, fill: impl FnOnce(&mut Body)) {
        self.align(8);
        fill(self);
    }

    fn align(&mut self, size: usize) {
        self.0.resize(self.0.len().next_multiple_of(size), 0);
    }
}

impl Message {
    /// The texts that the body begins with, as many as its signature has of them at the beginning.
    pub fn texts(&self) -> Vec<String> {
        let mut values = Values::new(&self.body, 0);
        let kinds = self.signature.bytes();
        let texts = kinds.map_while(|kind| match kind {
            b's' | b'o' => Some(values.text().ok()?.to_string()),
            b'u' => values.number().ok().map(|number| number.to_string()),
            _ => None,
        });
        texts.collect()
    }

    /// How long the message is that begins so; `bytes` are its first 16 at least.
    fn length(bytes: &[u8]) -> Result<usize, Errno> {
        if bytes[0] != ORDER || bytes[3] != VERSION {
            return Err(NO_MESSAGE);
        }
        let body = Values::new(bytes, 4).number()? as usize;
        let fields = Values::new(bytes, 12).number()? as usize;
        if body > LONGEST || fields > LONGEST {
            return Err(NO_MESSAGE);
        }
        Ok((FIXED + fields).next_multiple_of(8) + body)
    }

    fn parse(bytes: &[u8]) -> Result<Message, Errno> {
        let length = Values::new(bytes, 12).number()? as usize;
        let end = FIXED + length;
        let mut message = Message {
            kind: bytes[1],
            body: bytes
                .get(end.next_multiple_of(8)..)
                .ok_or(NO_MESSAGE)?
                .to_vec(),
            ..Message::default()
        };
        let mut fields = Values::new(bytes.get(..end).ok_or(NO_MESSAGE)?, FIXED);
        while !fields.is_at_end() {
            fields.align(8);
            let field = fields.byte()?;
            match (field, fields.signature()?) {
                (REPLY_SERIAL, "u") => message.reply_serial = fields.number()?,
                (MEMBER, "s") => message.member = fields.text()?.into(),
                (ERROR_NAME, "s") => message.error = fields.text()?.into(),
                (SIGNATURE, "g") => message.signature = fields.signature()?.into(),
                // Every other field that there is, is one of these.
                (_, "s" | "o") => fields.text().map(drop)?,
                (_, "u") => fields.number().map(drop)?,
                (_, "g") => fields.signature().map(drop)?,
                _ => return Err(NO_MESSAGE),
            }
        }
        Ok(message)
    }
}

/// Values that are read one after the other.
struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Values<'a> {
    fn new(bytes: &'a [u8], at: usize) -> Values<'a> {
        Values { bytes, at }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn align(&mut self, size: usize) {
        self.at = self.at.next_multiple_of(size);
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let end = self.at.checked_add(length).ok_or(NO_MESSAGE)?;
        let taken = self.bytes.get(self.at..end).ok_or(NO_MESSAGE)?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Errno> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, Errno> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_ne_bytes(
            bytes.try_into().expect("it is as long as that"),
        ))
    }

    fn text(&mut self) -> Result<&'a str, Errno> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<&'a str, Errno> {
        let length = self.byte()?.into();
        self.ended(length)
    }

    /// A text that is ended by a zero.
    fn ended(&mut self, length: usize) -> Result<&'a str, Errno> {
        let text = self.take(length)?;
        match self.byte()? {
            0 => std::str::from_utf8(text).map_err(|_| NO_MESSAGE),
            _ => Err(NO_MESSAGE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Call<'static> {
        Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            method: "Hello",
            signature: "s",
            body: Body::default(),
        }
    }

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let mut call = hello();
        call.body.text("abc");
        let message = call.message(7);
        let head = [
            &[ORDER, CALL, 0, VERSION][..],
            &8u32.to_ne_bytes(),
            &7u32.to_ne_bytes(),
        ]
        .concat();
        assert_eq!(message[..12], head);
        let fields = b"\x01\x01o\0";
        assert_eq!(&message[16..20], fields);
        let path = [&21u32.to_ne_bytes()[..], b"/org/freedesktop/DBus\0\0\0"].concat();
        assert_eq!(message[20..48], path);
        assert_eq!(
            &message[message.len() - 8..],
            [&3u32.to_ne_bytes()[..], b"abc\0"].concat()
        );
        assert_eq!(message.len() % 8, 0);
        assert_eq!(Message::length(&message), Ok(message.len()));
    }

    #[test]
    fn what_is_sent_is_understood_again() {
        let mut call = hello();
        call.body.text("abc");
        let message = Message::parse(&call.message(7)).expect("it is sound");
        assert_eq!((message.kind, message.member.as_str()), (CALL, "Hello"));
        assert_eq!(message.texts(), ["abc"]);
    }

    #[test]
    fn values_stand_where_the_specification_wants_them() {
        let mut body = Body::default();
        body.signature("a");
        body.large_number(1);
        body.array(8, |array| {
            array.entry(|entry| entry.text("x"));
            array.entry(|entry| entry.text("yz"));
        });
        let expected = [
            &b"\x01a\0\0\0\0\0\0"[..],
            &1u64.to_ne_bytes(),
            &15u32.to_ne_bytes(),
            &[0; 4],
            &1u32.to_ne_bytes(),
            b"x\0\0\0",
            &2u32.to_ne_bytes(),
            b"yz\0",
        ]
        .concat();
        assert_eq!(body.0, expected);
        // The way to the first element does not count.
        let mut empty = Body::default();
        empty.array(8, |_| {});
        assert_eq!(empty.0, [0; 8]);
    }

    #[test]
    fn no_message_is_believed_that_is_cut_or_changed() {
        let mut call = hello();
        call.body.text("abc");
        let message = call.message(1);
        for length in FIXED..message.len() {
            // Whatever comes of it, it is no panic.
            let _ = Message::parse(&message[..length]).map(|message| message.texts());
        }
        for at in 0..message.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut changed = message.clone();
                changed[at] = byte;
                if Message::length(&changed) == Ok(message.len()) {
                    let _ = Message::parse(&changed).map(|message| message.texts());
                }
            }
        }
        let mut huge = message;
        huge[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(Message::length(&huge), Err(NO_MESSAGE));
    }
}
