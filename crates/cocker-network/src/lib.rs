//! The network of a sandbox: planned as data, applied by rtnetlink and nf_tables messages.
//!
//! Knows nothing of images or containers: whoever calls it says addresses, names and namespaces. No program is run, and
//! every call is for the network namespace that the caller is in.
#![forbid(unsafe_code)]

mod mapping;
mod subnet;

pub use mapping::{BadMapping, PortMapping, Protocol};
pub use subnet::{BadSubnet, Subnet4, Subnet6};
