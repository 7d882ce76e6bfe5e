//! Port mappings: ports of the host that lead to ports of a container.
//!
//! ```text
//!   [ADDRESS:]HOST[-HOST]:CONTAINER[-CONTAINER][/tcp|/udp][,…]      127.0.0.1:8000-8010:9000-9010/udp
//! ```
//!
//! The text is also how a mapping stands in a record, so that whatever is read has been checked.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest excerpt of a text in an error, in characters.
const LONGEST_EXCERPT: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// `count` ports of the host from `host` on lead to as many ports of the container from `container` on.
///
/// No range passes port 65,535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortMapping {
    /// The host's address that is mapped; none: every one.
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    /// The first port of the host.
    pub host: u16,
    /// The first port of the container.
    pub container: u16,
    /// 1 to 65,535.
    pub count: u16,
}

/// Why a text is no list of port mappings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMapping {
    #[error("entry {position} of the list is empty")]
    Empty { position: usize },
    #[error("`{entry}` is not [ADDRESS:]HOST:CONTAINER[/tcp|/udp]")]
    Form { entry: String },
    #[error("`{entry}`: there is no protocol `{protocol}`; there are tcp, udp")]
    Protocol { entry: String, protocol: String },
    #[error("`{entry}`: `{port}` is not a port: 1 to 65535, digits only")]
    Port { entry: String, port: String },
    #[error("`{entry}`: the range `{range}` runs backwards")]
    Backwards { entry: String, range: String },
    #[error("`{entry}`: {host} ports of the host cannot lead to {container} of the container")]
    Lengths {
        entry: String,
        host: u16,
        container: u16,
    },
    #[error("`{entry}`: `{address}` is neither an IPv4 address nor an IPv6 address in brackets")]
    Address { entry: String, address: String },
    #[error("`{entry}`: an IPv6 address stands in brackets, as `[fd00::1]`")]
    Brackets { entry: String },
    #[error("`{entry}`: say the IPv4 address plainly, as `{address}`")]
    Ipv4Mapped { entry: String, address: Ipv4Addr },
    #[error("`{entry}`: every address of the host is meant where none is said, or `0.0.0.0`")]
    EveryIpv6 { entry: String },
    #[error("`{entry}`: no host has the address `{address}`")]
    NoHosts { entry: String, address: IpAddr },
    #[error("`{entry}`: {protocol} port {port} is mapped twice")]
    Twice {
        entry: String,
        protocol: Protocol,
        port: u16,
    },
}

impl Protocol {
    /// The number in the header of a packet, as IANA has it.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl PortMapping {
    /// Reads entries with commas between them, in the order given.
    ///
    /// # Errors
    /// The first entry that is wrong, or one that claims a port which another one has. A mapping of every address and
    /// one of a particular address may have the same port; the more particular one wins.
    pub fn parse_list(text: &str) -> Result<Vec<PortMapping>, BadMapping> {
        let entries: Vec<&str> = text.split(',').collect();
        let mut mappings = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            if entry.is_empty() {
                return Err(BadMapping::Empty {
                    position: index + 1,
                });
            }
            mappings.push(entry.parse()?);
        }
        refuse_ports_mapped_twice(&entries, &mappings)?;
        Ok(mappings)
    }

    /// Port of the host, port of the container.
    pub fn pairs(&self) -> impl Iterator<Item = (u16, u16)> + use<> {
        let PortMapping {
            host,
            container,
            count,
            ..
        } = *self;
        (0..count).map(move |step| (host + step, container + step))
    }

    fn last_host_port(&self) -> u16 {
        self.host + (self.count - 1)
    }
}

impl FromStr for PortMapping {
    type Err = BadMapping;

    /// Reads one entry.
    fn from_str(text: &str) -> Result<PortMapping, BadMapping> {
        let entry = || excerpt(text);
        let (ports, protocol) = match text.split_once('/') {
            None => (text, Protocol::Tcp),
            Some((ports, "tcp")) => (ports, Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some((_, other)) => {
                return Err(BadMapping::Protocol {
                    entry: entry(),
                    protocol: excerpt(other),
                });
            }
        };
        let form = || BadMapping::Form { entry: entry() };
        let (rest, container) = ports.rsplit_once(':').ok_or_else(form)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (parse_address(address, text)?, host),
            None => (None, rest),
        };
        if host.is_empty() || container.is_empty() {
            return Err(form());
        }
        let (host, count) = parse_range(host, text)?;
        let (container, container_count) = parse_range(container, text)?;
        if count != container_count {
            return Err(BadMapping::Lengths {
                entry: entry(),
                host: count,
                container: container_count,
            });
        }
        Ok(PortMapping {
            address,
            protocol,
            host,
            container,
            count,
        })
    }
}

impl TryFrom<String> for PortMapping {
    type Error = BadMapping;

    fn try_from(text: String) -> Result<PortMapping, BadMapping> {
        text.parse()
    }
}

impl From<PortMapping> for String {
    fn from(mapping: PortMapping) -> String {
        mapping.to_string()
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// The canonical spelling, which reads back as the same mapping.
impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        let more = self.count - 1;
        match more {
            0 => write!(f, "{}:{}", self.host, self.container)?,
            _ => write!(
                f,
                "{}-{}:{}-{}",
                self.host,
                self.last_host_port(),
                self.container,
                self.container + more
            )?,
        }
        match self.protocol {
            Protocol::Tcp => Ok(()),
            Protocol::Udp => f.write_str("/udp"),
        }
    }
}

/// The address before the ports; `None` for every one.
fn parse_address(text: &str, entry: &str) -> Result<Option<IpAddr>, BadMapping> {
    let entry = || excerpt(entry);
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    match address {
        None if text.contains(':') && bracketed.is_none() => {
            Err(BadMapping::Brackets { entry: entry() })
        }
        None => Err(BadMapping::Address {
            entry: entry(),
            address: excerpt(text),
        }),
        Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ok(None),
        Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => Err(BadMapping::EveryIpv6 { entry: entry() }),
        Some(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(BadMapping::Ipv4Mapped {
                entry: entry(),
                address: address.to_ipv4_mapped().expect("just seen"),
            })
        }
        Some(address) if is_no_hosts(address) => Err(BadMapping::NoHosts {
            entry: entry(),
            address,
        }),
        Some(address) => Ok(Some(address)),
    }
}

/// Multicast, broadcast and 0.0.0.0/8, "this network" (RFC 1122).
fn is_no_hosts(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast() || address.is_broadcast() || address.octets()[0] == 0
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// `80` or `8000-8010`: the first port and how many there are.
fn parse_range(text: &str, entry: &str) -> Result<(u16, u16), BadMapping> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (parse_port(first, entry)?, parse_port(last, entry)?),
        None => {
            let port = parse_port(text, entry)?;
            (port, port)
        }
    };
    if last < first {
        return Err(BadMapping::Backwards {
            entry: excerpt(entry),
            range: excerpt(text),
        });
    }
    // Port 0 is none, so there are 65,535 at most.
    Ok((first, last - first + 1))
}

fn parse_port(text: &str, entry: &str) -> Result<u16, BadMapping> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_plain && *port != 0);
    port.ok_or_else(|| BadMapping::Port {
        entry: excerpt(entry),
        port: excerpt(text),
    })
}

/// In the order of their ports, mappings that share one have two neighbours that do.
fn refuse_ports_mapped_twice(entries: &[&str], mappings: &[PortMapping]) -> Result<(), BadMapping> {
    let mut order: Vec<usize> = (0..mappings.len()).collect();
    order.sort_by_key(|&index| {
        let mapping = &mappings[index];
        (mapping.address, mapping.protocol, mapping.host)
    });
    for pair in order.windows(2) {
        let (before, after) = (&mappings[pair[0]], &mappings[pair[1]]);
        let is_same_place = (before.address, before.protocol) == (after.address, after.protocol);
        if is_same_place && after.host <= before.last_host_port() {
            return Err(BadMapping::Twice {
                entry: excerpt(entries[pair[0].max(pair[1])]),
                protocol: after.protocol,
                port: after.host,
            });
        }
    }
    Ok(())
}

/// Text from outside, as an error shows it: short, and without control characters.
fn excerpt(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters
        .by_ref()
        .take(LONGEST_EXCERPT)
        .flat_map(char::escape_debug)
        .collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    fn one(text: &str) -> PortMapping {
        let list = PortMapping::parse_list(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(list.len(), 1, "{text}");
        list[0]
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = PortMapping::parse_list(text).expect_err(text);
        assert_eq!(error.to_string(), why, "{text}");
    }

    #[test]
    fn a_mapping_is_read_part_by_part() {
        let mapping = PortMapping {
            address: None,
            protocol: Protocol::Tcp,
            host: 8080,
            container: 80,
            count: 1,
        };
        assert_eq!(one("8080:80"), mapping);
        assert_eq!(one("8080:80/tcp"), mapping);
        assert_eq!(one("0.0.0.0:8080-8080:80"), mapping);
        let address = Some(IpAddr::from([127, 0, 0, 1]));
        let range = PortMapping {
            address,
            protocol: Protocol::Udp,
            host: 8000,
            container: 9000,
            count: 11,
        };
        assert_eq!(one("127.0.0.1:8000-8010:9000-9010/udp"), range);
        let address = Some("fd00::1".parse().unwrap());
        assert_eq!(one("[fd00::1]:8080:80"), PortMapping { address, ..mapping });
        let list = PortMapping::parse_list("2:2,1:1/udp,1:1").unwrap();
        let order: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["2:2", "1:1/udp", "1:1"]);
    }

    #[test]
    fn the_canonical_spelling_reads_back_as_the_same() {
        for (said, canonical) in [
            ("8080:80", "8080:80"),
            ("080:0080/tcp", "80:80"),
            ("0.0.0.0:1:2/udp", "1:2/udp"),
            ("5-5:6-6", "5:6"),
            ("1-65535:1-65535", "1-65535:1-65535"),
            (
                "127.0.0.1:8000-8010:9000-9010/udp",
                "127.0.0.1:8000-8010:9000-9010/udp",
            ),
            ("[FD00:0:0::1]:80:80", "[fd00::1]:80:80"),
        ] {
            let mapping = one(said);
            assert_eq!(mapping.to_string(), canonical);
            assert_eq!(one(canonical), mapping);
        }
    }

    #[test]
    fn a_record_has_the_canonical_spelling_and_is_checked() {
        let read = |text: &'static str| {
            let text: StrDeserializer<'_, Error> = text.into_deserializer();
            PortMapping::deserialize(text)
        };
        assert_eq!(read("127.0.0.1:1:2").unwrap(), one("127.0.0.1:1:2"));
        assert!(read("65535-65536:1-2").is_err());
    }

    #[test]
    fn ports_lead_to_ports_one_by_one() {
        let pairs: Vec<_> = one("65533-65535:1-3").pairs().collect();
        assert_eq!(pairs, [(65533, 1), (65534, 2), (65535, 3)]);
        let all = one("1-65535:1-65535");
        assert_eq!(all.pairs().count(), 65_535);
        assert_eq!(all.pairs().last(), Some((65535, 65535)));
        assert_eq!((Protocol::Tcp.number(), Protocol::Udp.number()), (6, 17));
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said() {
        refused("", "entry 1 of the list is empty");
        refused("1:1,,2:2", "entry 2 of the list is empty");
        refused("1:1,", "entry 2 of the list is empty");
        refused("80", "`80` is not [ADDRESS:]HOST:CONTAINER[/tcp|/udp]");
        refused(":80", "`:80` is not [ADDRESS:]HOST:CONTAINER[/tcp|/udp]");
        refused("80:", "`80:` is not [ADDRESS:]HOST:CONTAINER[/tcp|/udp]");
        refused(
            "1:1/sctp",
            "`1:1/sctp`: there is no protocol `sctp`; there are tcp, udp",
        );
        refused("0:80", "`0:80`: `0` is not a port: 1 to 65535, digits only");
        refused("10-9:1-2", "`10-9:1-2`: the range `10-9` runs backwards");
        refused(
            "1-3:1-2",
            "`1-3:1-2`: 3 ports of the host cannot lead to 2 of the container",
        );
        refused(
            "1.2.3:1:1",
            "`1.2.3:1:1`: `1.2.3` is neither an IPv4 address nor an IPv6 address in brackets",
        );
        refused(
            "fd00::1:80:80",
            "`fd00::1:80:80`: an IPv6 address stands in brackets, as `[fd00::1]`",
        );
        refused(
            "[::ffff:1.2.3.4]:1:1",
            "`[::ffff:1.2.3.4]:1:1`: say the IPv4 address plainly, as `1.2.3.4`",
        );
        refused(
            "[::]:1:1",
            "`[::]:1:1`: every address of the host is meant where none is said, or `0.0.0.0`",
        );
        refused(
            "224.0.0.1:1:1",
            "`224.0.0.1:1:1`: no host has the address `224.0.0.1`",
        );
    }

    #[test]
    fn odd_mappings_are_refused() {
        for odd in [
            " ",
            ",",
            ":",
            "::",
            ":::",
            "-",
            "/udp",
            "80:80/",
            "80:80/UDP",
            "80:80/tcp/udp",
            "80:80 ",
            " 80:80",
            "80 :80",
            "+80:80",
            "80:+80",
            "-80:80",
            "80-:80",
            "80:-80",
            "80-81:80",
            "80:80-81",
            "80:65536",
            "65536:1",
            "99999999999999999999:1",
            "0x50:80",
            "8e1:80",
            "80.0:80",
            "٨٠:80",
            "80\u{a0}:80",
            "80\n:80",
            "0-1:0-1",
            "1-65535:2-65536",
            "1-2-3:1-2-3",
            "1:2:3",
            ":1:2",
            "01.2.3.4:1:1",
            "1.2.3.4.5:1:1",
            "1.2.3.256:1:1",
            "localhost:1:1",
            "255.255.255.255:1:1",
            "0.0.0.1:1:1",
            "239.1.2.3:1:1",
            "[ff02::1]:1:1",
            "[]:1:1",
            "[:1:1",
            "]:1:1",
            "[fd00::1:1:1",
            "fd00::1]:1:1",
            "[1.2.3.4]:1:1",
            "[fe80::1%eth0]:1:1",
            "[[fd00::1]]:1:1",
            "[fd00::1]80:80",
            "[::ffff:102:304]:1:1",
            "1.2.3.4/24:1:1",
            "none",
            "1:1;2:2",
            "1:1\0",
        ] {
            let error = PortMapping::parse_list(odd).expect_err(odd).to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
        }
        let long = "x".repeat(100_000);
        let error = PortMapping::parse_list(&long).unwrap_err().to_string();
        assert!(error.chars().count() < 200, "{error}");
    }

    #[test]
    fn no_port_is_mapped_twice() {
        refused("80:80,80:81", "`80:81`: tcp port 80 is mapped twice");
        refused("1-65535:1-65535,7:7", "`7:7`: tcp port 7 is mapped twice");
        refused(
            "7:7/udp,1-65535:1-65535/udp",
            "`1-65535:1-65535/udp`: udp port 7 is mapped twice",
        );
        refused(
            "1:1,0.0.0.0:1:2",
            "`0.0.0.0:1:2`: tcp port 1 is mapped twice",
        );
        refused(
            "[fd00::1]:5:5,9:9,[fd00:0::1]:5:6",
            "`[fd00:0::1]:5:6`: tcp port 5 is mapped twice",
        );
        // Far from each other where one range holds many others.
        refused("1-9:1-9,3:3,9:9", "`3:3`: tcp port 3 is mapped twice");
        refused(
            "1-5:1-5,6:6,5-6:5-6",
            "`5-6:5-6`: tcp port 5 is mapped twice",
        );
    }

    #[test]
    fn one_port_of_several_addresses_or_protocols_is_mapped_side_by_side() {
        for good in [
            "80:80,80:80/udp",
            "80:80,127.0.0.1:80:81,127.0.0.2:80:82,[::1]:80:83",
            "1-100:1-100,101-65535:101-65535",
            "81:80,82:80",
        ] {
            assert!(PortMapping::parse_list(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_list_of_many_full_ranges_is_read_at_once() {
        let many = |third: u32| {
            (0..250).map(move |fourth| format!("10.0.{third}.{fourth}:1-65535:1-65535"))
        };
        let list: Vec<String> = (0..40).flat_map(many).collect();
        assert_eq!(
            PortMapping::parse_list(&list.join(",")).unwrap().len(),
            10_000
        );
    }
}
