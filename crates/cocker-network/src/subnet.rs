//! Subnets: an address with the length of its prefix, and what follows from the two.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 network, told by the address that the host itself has in it: `166.88.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet4 {
    /// The host's own address.
    pub host: Ipv4Addr,
    /// 8 to 30 bits.
    pub prefix: u8,
}

/// An IPv6 network, told by the address that the host itself has in it: `fd42::1/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet6 {
    /// The host's own address.
    pub host: Ipv6Addr,
    /// 16 to 96 bits.
    pub prefix: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSubnet {
    #[error("`{text}` is not ADDRESS/BITS")]
    Form { text: String },
    #[error("`{text}`: a prefix of {least} to {most} bits is needed")]
    Prefix { text: String, least: u8, most: u8 },
    #[error("`{text}`: the host cannot have the network's own address or its broadcast address")]
    HostAddress { text: String },
    #[error(
        "`{text}`: addresses of loopback, multicast and the unspecified network cannot be given to containers"
    )]
    Reserved { text: String },
}

impl Subnet4 {
    /// All addresses of the subnet, its own and the broadcast address included.
    pub fn size(&self) -> u32 {
        1 << (32 - u32::from(self.prefix))
    }

    /// The address that stands for the network itself.
    pub fn network(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.host) & self.mask())
    }

    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.host) | !self.mask())
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & self.mask() == u32::from(self.network())
    }

    pub fn overlaps(&self, other: &Subnet4) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }

    /// The subnet of the same size that lies `steps` further on, with the host's address at the same place in it;
    /// `None` beyond the end of all addresses.
    pub fn further(&self, steps: u32) -> Option<Subnet4> {
        let host = u64::from(u32::from(self.host)) + u64::from(steps) * u64::from(self.size());
        let host = Ipv4Addr::from(u32::try_from(host).ok()?);
        Some(Subnet4 { host, ..*self })
    }

    fn mask(&self) -> u32 {
        !(self.size() - 1)
    }
}

impl Subnet6 {
    /// The subnet of the same size that lies `steps` further on.
    pub fn further(&self, steps: u32) -> Option<Subnet6> {
        let size = 1u128 << (128 - u32::from(self.prefix));
        let host = u128::from(self.host).checked_add(size.checked_mul(steps.into())?)?;
        Some(Subnet6 {
            host: host.into(),
            ..*self
        })
    }

    pub fn contains(&self, address: Ipv6Addr) -> bool {
        let mask = u128::MAX << (128 - u32::from(self.prefix));
        u128::from(address) & mask == u128::from(self.host) & mask
    }

    /// The address of the container whose IPv4 address is `place` addresses into its own subnet.
    pub fn address_at(&self, place: u32) -> Ipv6Addr {
        let mask = u128::MAX << (128 - u32::from(self.prefix));
        Ipv6Addr::from((u128::from(self.host) & mask) | u128::from(place))
    }
}

impl FromStr for Subnet4 {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Subnet4, BadSubnet> {
        let (host, prefix) = split::<Ipv4Addr>(text, 8, 30)?;
        let subnet = Subnet4 { host, prefix };
        if host.is_loopback() || host.is_multicast() || host.octets()[0] == 0 {
            return Err(BadSubnet::Reserved { text: text.into() });
        }
        if host == subnet.network() || host == subnet.broadcast() {
            return Err(BadSubnet::HostAddress { text: text.into() });
        }
        Ok(subnet)
    }
}

impl FromStr for Subnet6 {
    type Err = BadSubnet;

    fn from_str(text: &str) -> Result<Subnet6, BadSubnet> {
        // 16 bits are left at least, so that every place of a /16 of IPv4 addresses has one here.
        let (host, prefix) = split::<Ipv6Addr>(text, 16, 96)?;
        let subnet = Subnet6 { host, prefix };
        let is_link_local = host.segments()[0] & 0xffc0 == 0xfe80;
        let is_mapped = host.to_ipv4_mapped().is_some();
        if host.is_loopback() || host.is_multicast() || is_link_local || is_mapped {
            return Err(BadSubnet::Reserved { text: text.into() });
        }
        if host == subnet.address_at(0) {
            return Err(BadSubnet::HostAddress { text: text.into() });
        }
        Ok(subnet)
    }
}

fn split<A: FromStr>(text: &str, least: u8, most: u8) -> Result<(A, u8), BadSubnet> {
    let form = || BadSubnet::Form { text: text.into() };
    let (address, prefix) = text.split_once('/').ok_or_else(form)?;
    let address = address.parse().map_err(|_| form())?;
    let is_plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix: u8 = prefix.parse().ok().filter(|_| is_plain).ok_or_else(form)?;
    if !(least..=most).contains(&prefix) {
        return Err(BadSubnet::Prefix {
            text: text.into(),
            least,
            most,
        });
    }
    Ok((address, prefix))
}

impl fmt::Display for Subnet4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.prefix)
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_an_address_and_its_prefix() {
        let subnet: Subnet4 = "166.88.0.1/24".parse().unwrap();
        assert_eq!(subnet.network(), Ipv4Addr::new(166, 88, 0, 0));
        assert_eq!(subnet.broadcast(), Ipv4Addr::new(166, 88, 0, 255));
        assert!(subnet.contains(Ipv4Addr::new(166, 88, 0, 77)));
        assert!(!subnet.contains(Ipv4Addr::new(166, 88, 1, 1)));
        assert_eq!(subnet.further(2).unwrap().to_string(), "166.88.2.1/24");
        let last: Subnet4 = "255.255.255.1/24".parse().unwrap();
        assert_eq!(last.further(1), None);
        assert!(subnet.overlaps(&"166.88.0.129/25".parse().unwrap()));
        assert!(!subnet.overlaps(&"166.88.1.1/24".parse().unwrap()));
    }

    #[test]
    fn a_place_has_an_address_of_both_families() {
        let subnet: Subnet6 = "fd42:0:0:7::1/64".parse().unwrap();
        assert_eq!(subnet.address_at(2).to_string(), "fd42:0:0:7::2");
        assert_eq!(subnet.further(1).unwrap().to_string(), "fd42:0:0:8::1/64");
        assert!(subnet.contains(subnet.address_at(0xffff)));
    }

    #[test]
    fn odd_subnets_are_refused() {
        for odd in [
            "",
            "166.88.0.1",
            "166.88.0.1/",
            "166.88.0.1/31",
            "166.88.0.1/7",
            "166.88.0.1/+24",
            "166.88.0.0/24",
            "166.88.0.255/24",
            "127.0.0.1/8",
            "0.0.0.1/8",
            "224.0.0.1/24",
            "::1/64",
            "166.88.0.1/24 ",
            "1.2.3/24",
        ] {
            assert!(odd.parse::<Subnet4>().is_err(), "{odd}");
        }
        for odd in [
            "::1/64",
            "fe80::1/64",
            "ff00::1/64",
            "fd00::/64",
            "fd00::1/112",
            "fd00::1",
            "1.2.3.4/64",
        ] {
            assert!(odd.parse::<Subnet6>().is_err(), "{odd}");
        }
    }
}
