//! The messages between client, supervisor and init: two enums a pair, one for each direction. And what the supervisor
//! leaves for clients to read: the times of the console's log, in `times.rs`.
//!
//! One message is one datagram of a SEQPACKET socket, so a message is never half read. Its head names the protocol
//! version, the kind and the length of what follows:
//!
//! ```text
//!   0        2        4                 8                               MAX_MESSAGE
//!   ├ version ┼ kind ──┼ body length u32 ┼ body …                        │   (little endian)
//! ```
//!
//! The four enums use four ranges of kinds, so a message that reaches the wrong end is an unknown kind there and
//! never another message.
//!
//! What comes from inside a container is never trusted: decoding checks every length, allocates nothing, never
//! panics, and returns an error that says what was wrong. A message has one encoding only: what decodes, encodes to
//! the same bytes.
#![no_std]
#![forbid(unsafe_code)]

mod client;
mod init;
mod modes;
mod outcome;
mod session;
mod spawn;
mod times;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{ClientReply, ClientRequest};
pub use init::{InitReport, InitRequest};
pub use modes::{ModeTracker, Modes};
pub use outcome::{DecodeError, Refusal, Stage, TooLong};
pub use session::{Access, Lasting, MAX_LABEL, Open, SessionRow, Target};
pub use spawn::{Groups, MAX_GROUPS, Spawn, Stream, Strings};
pub use times::{LogTime, RECORD, RESOLUTION_MS, times_head};

/// The version that every head carries; ends of different versions refuse each other.
pub const VERSION: u16 = 2;

/// The most bytes of one message, its head included.
pub const MAX_MESSAGE: usize = 192 * 1024;
