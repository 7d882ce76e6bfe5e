//! What of the network could not be had, what is in the way, and what the user can do about it.

use crate::firewall::FirewallError;
use crate::netlink::Refusal;
use crate::pin::PinError;
use crate::subnet::Subnet4;
use crate::sysctl::SysctlError;
use rustix::io::Errno;
use std::net::IpAddr;

/// A network could not be attached, or not be taken away.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("cannot talk to the kernel about links and addresses")]
    Open {
        #[source]
        source: Errno,
    },
    #[error("cannot enter the network namespace")]
    Enter {
        #[source]
        source: Errno,
    },
    #[error("cannot draw the name of a link")]
    Draw {
        #[source]
        source: Errno,
    },
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error("this kernel has no IPv6")]
    NoIpv6,
    #[error("`{name}` is a link of the host, but no bridge")]
    NotABridge { name: String },
    #[error("bridge `{name}` is that of the containers of `{store}`")]
    ForeignBridge { name: String, store: String },
    #[error(
        "the host has address {address}/{prefix} on link `{link}`, in the subnet {subnet} of bridge `{bridge}`"
    )]
    SubnetInUse {
        bridge: String,
        subnet: Subnet4,
        link: String,
        address: IpAddr,
        prefix: u8,
    },
    #[error("the host itself has the container's address {address}, on link `{link}`")]
    AddressInUse { address: IpAddr, link: String },
    #[error("the host has no link `{name}`")]
    NoSuchLink { name: String },
    #[error("somebody has removed link `{name}` as soon as it was made")]
    Vanished { name: String },
    #[error("bridge `{name}` has no port left: the kernel gives it 1,023")]
    NoPortLeft { name: String },
    #[error("a program of the host uses port {port}, which the mapping would cut off")]
    PortInUse { port: String },
}

impl NetworkError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            NetworkError::ForeignBridge { name, .. } => format!(
                "give this store a bridge and a subnet of its own in config.toml: [network] bridge, subnet; \
                 or, if that store is no more, remove the bridge: ip link del {name}"
            ),
            NetworkError::NoIpv6 => "take subnet6 out of config.toml, or boot the host with IPv6.".into(),
            NetworkError::NotABridge { .. } => {
                "give this store a bridge and a subnet of its own in config.toml: [network] bridge, subnet.".into()
            }
            NetworkError::SubnetInUse { link, .. } => format!(
                "take that address from `{link}`, or choose another subnet in config.toml: [network] subnet."
            ),
            NetworkError::AddressInUse { link, .. } => {
                format!("take that address from `{link}`, or give the container another one: cocker set-vip")
            }
            NetworkError::NoSuchLink { .. } => {
                "`ip link` lists the links; cocker set-host-eth chooses another one.".into()
            }
            NetworkError::NoPortLeft { .. } => {
                "give the container an address of another bridge: cocker set-vip".into()
            }
            NetworkError::PortInUse { .. } => {
                "end that program, or map another port: cocker set-port-mapping".into()
            }
            NetworkError::Firewall(FirewallError::PortTaken { .. }) => {
                "shut that container down, or map another port: cocker set-port-mapping".into()
            }
            NetworkError::Firewall(FirewallError::AddressTaken { .. }) => {
                "shut that container down, or give one of them another address: cocker set-vip".into()
            }
            NetworkError::Sysctl(SysctlError { source, .. }) if *source == Errno::ROFS => {
                "/proc/sys is mounted read-only here; set it from where it is not.".into()
            }
            _ => return None,
        })
    }
}
