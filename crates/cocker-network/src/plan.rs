//! What shall be done, as data: printed by `--debug`, compared by tests, carried out by `host` and `attachment`.

use crate::firewall::{Entry, Holder};
use crate::mapping::PortMapping;
use crate::subnet::{Subnet4, Subnet6};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the names of all links to containers begin with on the host.
pub const LINK_PREFIX: &str = "ck";

/// Digits of the container's id in the names of its links: the prefix, these, and 4 drawn at each boot make 14 of 15 bytes.
pub const LINK_DIGITS: usize = 8;

/// A bridge of the host that containers are ports of, and their way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// At most 15 bytes.
    pub name: String,
    pub subnet: Subnet4,
    pub subnet6: Option<Subnet6>,
    /// Bytes of the largest packet; none means what the link that leads out takes.
    pub mtu: Option<u32>,
    /// The path of `$COCKER_HOME`: whose bridge it is.
    pub store: String,
}

/// What one container has of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub holder: Holder,
    /// Name of the bridge that it is a port of.
    pub bridge: String,
    /// What the names of its links on the host begin with: [`LINK_PREFIX`] and 8 digits. They go on with 4 drawn at
    /// each boot.
    pub link_prefix: String,
    /// The name that its namespace is shown under while it is booted.
    pub namespace: String,
    pub address: Ipv4Addr,
    pub address6: Option<Ipv6Addr>,
    /// The link by which it leaves the host; none means those of the default route.
    pub uplink: Option<String>,
    pub ports: Vec<PortMapping>,
}

/// The network of a container at its boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPlan {
    pub bridge: Bridge,
    pub endpoint: Endpoint,
}

impl Endpoint {
    /// What the table of packets holds of it, where it leaves the host by `uplinks`.
    pub(crate) fn entry(&self, uplinks: &[String]) -> Entry {
        Entry {
            holder: self.holder.clone(),
            bridge: self.bridge.clone(),
            address: self.address,
            address6: self.address6,
            uplinks: uplinks.to_vec(),
            ports: self.ports.clone(),
        }
    }
}

impl NetworkPlan {
    /// The host's address and then the container's, family by family, with the bits of their prefix.
    pub(crate) fn addresses(&self) -> Vec<(IpAddr, IpAddr, u8)> {
        let (bridge, endpoint) = (&self.bridge, &self.endpoint);
        let mut addresses = vec![(
            bridge.subnet.host.into(),
            endpoint.address.into(),
            bridge.subnet.prefix,
        )];
        if let (Some(subnet6), Some(address6)) = (bridge.subnet6, endpoint.address6) {
            addresses.push((subnet6.host.into(), address6.into(), subnet6.prefix));
        }
        addresses
    }
}

impl fmt::Display for NetworkPlan {
    /// One line for each thing that will be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bridge, endpoint) = (&self.bridge, &self.endpoint);
        write!(f, "bridge `{}` {}", bridge.name, bridge.subnet)?;
        if let Some(subnet6) = bridge.subnet6 {
            write!(f, " {subnet6}")?;
        }
        match bridge.mtu {
            Some(mtu) => writeln!(f, " mtu {mtu}")?,
            None => writeln!(f)?,
        }
        writeln!(f, "link `{}…` to `eth0`", endpoint.link_prefix)?;
        for (gateway, address, prefix) in self.addresses() {
            writeln!(f, "address {address}/{prefix} by way of {gateway}")?;
        }
        match &endpoint.uplink {
            Some(uplink) => writeln!(f, "masquerade out of `{uplink}`")?,
            None => writeln!(f, "masquerade out of the default route's link")?,
        }
        for mapping in &endpoint.ports {
            writeln!(f, "port {mapping}")?;
        }
        writeln!(f, "namespace shown as `{}`", endpoint.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_says_all_that_will_be_done() {
        let plan = NetworkPlan {
            bridge: Bridge {
                name: "cocker0".into(),
                subnet: "166.88.0.1/24".parse().unwrap(),
                subnet6: Some("fd42::1/64".parse().unwrap()),
                mtu: Some(1400),
                store: "/var/cocker".into(),
            },
            endpoint: Endpoint {
                holder: Holder::new("web", "/var/cocker"),
                bridge: "cocker0".into(),
                link_prefix: "ck098f6bcd".into(),
                namespace: "nns098F6BCD46A1".into(),
                address: Ipv4Addr::new(166, 88, 0, 2),
                address6: Some("fd42::2".parse().unwrap()),
                uplink: None,
                ports: PortMapping::parse_list("8080:80,53:53/udp").unwrap(),
            },
        };
        let expected = "bridge `cocker0` 166.88.0.1/24 fd42::1/64 mtu 1400
link `ck098f6bcd…` to `eth0`
address 166.88.0.2/24 by way of 166.88.0.1
address fd42::2/64 by way of fd42::1
masquerade out of the default route's link
port 8080:80
port 53:53/udp
namespace shown as `nns098F6BCD46A1`
";
        assert_eq!(plan.to_string(), expected);
    }
}
