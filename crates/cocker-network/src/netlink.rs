//! Talking to the kernel over netlink (netlink(7)): messages built in one buffer, sent in one datagram, answered at
//! once.
//!
//! ```text
//!  datagram = message*          message = nlmsghdr (16 bytes) · family header · attribute*
//!  attribute = length u16 · kind u16 · payload · blanks to a multiple of 4;  a nest's payload is attributes again
//! ```
//!
//! The kernel works through a datagram within the call that sends it, so every answer lies ready when that call
//! returns: nothing here ever waits.

mod attributes;
mod message;
pub(crate) mod numbers;
mod socket;

pub(crate) use attributes::{Attributes, number_be, number_ne, text};
pub(crate) use message::{Message, Messages};
pub(crate) use socket::Netlink;
pub use socket::Refusal;
