//! The network of a sandbox: planned as data, applied by rtnetlink and nf_tables messages.
//!
//! ```text
//!  NetworkPlan ──prepare──▶ HostSide (bridge, forwarding, table) ──attach──▶ a namespace with eth0, addresses, ports
//!  (data)                                                        ◀──detach── the end: what outlives the namespace
//! ```
//!
//! Knows nothing of images or sandboxes' files: whoever calls it says addresses, names and namespaces. No program is
//! run, and every call is for the network namespace that the caller is in. The kernel is asked, never remembered:
//! what is there already is used, what is missing is made, what is wrong is mended or named.
#![forbid(unsafe_code)]

mod attachment;
mod connections;
mod failure;
mod firewall;
mod host;
mod inspection;
mod links;
mod mapping;
mod netlink;
mod pin;
mod plan;
mod ports;
mod resolver;
mod routes;
mod subnet;
mod sysctl;
mod traffic;

pub use attachment::{Aftermath, attach, detach, detach_all_of, set_loopback_up};
pub use failure::NetworkError;
pub use firewall::{FirewallError, ForwardBlock, Holder};
pub use host::{HostSide, Obstacle, has_link, prepare};
pub use inspection::{
    PinnedFor, SeenLink, SeenName, Standing, faults, mend, obstacles, remove_link, remove_strays,
    standing,
};
pub use links::LONGEST_LINK_NAME;
pub use mapping::{BadMapping, PortMapping, Protocol};
pub use netlink::Refusal;
pub use pin::{PinError, is_pinned, pin, pin_path, show, unpin};
pub use plan::{Bridge, Endpoint, LINK_DIGITS, LINK_PREFIX, NetworkPlan};
pub use resolver::{Reach, resolvers};
pub use subnet::{BadSubnet, Subnet4, Subnet6};
pub use sysctl::SysctlError;
pub use traffic::{LinkTraffic, traffic};
