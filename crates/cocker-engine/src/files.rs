//! A container's files from outside: whatever links it holds, and whatever its processes do to them meanwhile.

mod root;
#[cfg(test)]
mod tests;
mod transfer;
mod way;

pub(crate) use root::{Purpose, Root, open_booted_root};
pub use transfer::{GetRequest, Interrupted, PutRequest};
