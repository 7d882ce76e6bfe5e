//! The messages between client, supervisor and init: two enums a pair, one for each direction.
//!
//! One message is one datagram of a SEQPACKET socket, so a message is never half read. Its head names the protocol
//! version, the kind and the length of what follows:
//!
//! ```text
//!   0        2        4                 8                               MAX_MESSAGE
//!   ├ version ┼ kind ──┼ body length u32 ┼ body …                        │   (little endian)
//! ```
//!
//! What comes from inside a container is never trusted: decoding checks every length, allocates nothing, never
//! panics, and returns an error that says what was wrong.
#![no_std]
#![forbid(unsafe_code)]
