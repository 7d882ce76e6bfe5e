//! What the table holds of one container, in words and as elements of its sets.
//!
//! ```text
//! containers   address, comment: NAME ADDRESS6 PORTS STORE           containers6 likewise
//! uplinks4     address . link                                        uplinks6
//! ports4       asked address . protocol . port : address . port      ports6
//! senders4     hardware address . what it may send in the name of    senders6
//! ```

use super::batch::Element;
use super::ruleset::{
    BRIDGES, CONTAINERS, CONTAINERS6, PORTS4, PORTS6, SENDERS4, SENDERS6, UPLINKS4, UPLINKS6,
};
use crate::links::hardware_for;
use crate::mapping::PortMapping;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the table holds of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub holder: Holder,
    /// Name of the bridge that it is a port of.
    pub bridge: String,
    pub address: Ipv4Addr,
    pub address6: Option<Ipv6Addr>,
    /// Names of the links by which it leaves the host.
    pub uplinks: Vec<String>,
    pub ports: Vec<PortMapping>,
}

/// Who has an address or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub container: String,
    /// The path of its store.
    pub store: String,
}

pub(super) fn bridge_element(bridge: &str, store: &str) -> Element {
    Element {
        set: BRIDGES,
        key: link_name(bridge),
        data: None,
        comment: Some(short(store).into()),
    }
}

/// Which ports of a container are meant.
#[derive(Clone, Copy)]
pub(super) enum Ports<'a> {
    /// Those that it was given.
    Said(&'a [PortMapping]),
    /// Those that lead to it in the maps.
    AsFound,
}

pub(super) fn plain(set: &'static str, key: Vec<u8>) -> Element {
    Element {
        set,
        key,
        data: None,
        comment: None,
    }
}

/// The elements of an entry; the container's own comes first.
pub(super) fn elements_of(entry: &Entry) -> Vec<Element> {
    let ports: Vec<Element> =
        all_port_elements(&entry.ports, entry.address, entry.address6).collect();
    let noted = |set, key| Element {
        comment: Some(write_comment(entry, ports.len())),
        ..plain(set, key)
    };
    let leaving = |octets: &[u8], uplink: &String| [octets, &link_name(uplink)].concat();
    let mut elements = vec![noted(CONTAINERS, entry.address.octets().into())];
    let uplinks = entry.uplinks.iter();
    elements
        .extend(uplinks.map(|uplink| plain(UPLINKS4, leaving(&entry.address.octets(), uplink))));
    if let Some(address6) = entry.address6 {
        elements.push(noted(CONTAINERS6, address6.octets().into()));
        let uplinks = entry.uplinks.iter();
        elements.extend(uplinks.map(|uplink| plain(UPLINKS6, leaving(&address6.octets(), uplink))));
    }
    elements.extend(sender_elements(entry.address, entry.address6));
    elements.extend(ports);
    elements
}

/// How many of [`sender_elements`] are of IPv4.
pub(super) const SENDERS4_OF_EACH: usize = 2;

/// What a container may send in the name of: its addresses, its address on the link alone, and none, by which is asked
/// whether an address is free. Each with its hardware address.
pub(super) fn sender_elements(address: Ipv4Addr, address6: Option<Ipv6Addr>) -> Vec<Element> {
    let [a, b, c, d, e, f] = hardware_for(address);
    // The key takes whole registers of four bytes.
    let with = |octets: &[u8]| [&[a, b, c, d, e, f, 0, 0], octets].concat();
    // RFC 4291, appendix A: what the kernel gives a link of this hardware address.
    let of_link = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    let four = [address, Ipv4Addr::UNSPECIFIED];
    let six = [of_link.into(), Ipv6Addr::UNSPECIFIED];
    let four = four.map(|address| plain(SENDERS4, with(&address.octets())));
    let six = six.into_iter().chain(address6);
    let six = six.map(|address| plain(SENDERS6, with(&address.octets())));
    four.into_iter().chain(six).collect()
}

/// The elements of all mappings, family by family.
pub(super) fn all_port_elements(
    ports: &[PortMapping],
    address: Ipv4Addr,
    address6: Option<Ipv6Addr>,
) -> impl Iterator<Item = Element> {
    let four = ports.iter().filter_map(move |mapping| {
        let asked = mapping.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        asked
            .is_ipv4()
            .then(|| port_elements(PORTS4, mapping, asked, address.into()))
    });
    let six = ports.iter().filter_map(move |mapping| {
        let asked = mapping.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let address6 = address6.filter(|_| asked.is_ipv6())?;
        Some(port_elements(PORTS6, mapping, asked, address6.into()))
    });
    four.flatten().chain(six.flatten())
}

fn port_elements(
    set: &'static str,
    mapping: &PortMapping,
    asked: IpAddr,
    container: IpAddr,
) -> impl Iterator<Item = Element> {
    let protocol = mapping.protocol.number();
    mapping.pairs().map(move |(host, inside)| {
        let [high, low] = host.to_be_bytes();
        let [inside_high, inside_low] = inside.to_be_bytes();
        Element {
            set,
            // Each part takes whole registers of four bytes.
            key: [&octets(asked)[..], &[protocol, 0, 0, 0, high, low, 0, 0]].concat(),
            data: Some([&octets(container)[..], &[inside_high, inside_low, 0, 0]].concat()),
            comment: None,
        }
    })
}

/// The address in the data of a map of ports: what is left but for the port.
pub(super) fn address_in(data: &[u8]) -> Option<IpAddr> {
    let (address, _port) = data.split_last_chunk::<4>()?;
    match address.len() {
        4 => address
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        16 => address
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
}

/// Whether an element is of one of those who have these addresses.
pub(super) fn is_of(element: &Element, known: &[(Ipv4Addr, Option<Ipv6Addr>)]) -> bool {
    let is_known = |address: IpAddr| {
        let has = |(four, six): &(Ipv4Addr, Option<Ipv6Addr>)| match address {
            IpAddr::V4(address) => *four == address,
            IpAddr::V6(address) => *six == Some(address),
        };
        known.iter().any(has)
    };
    let key = &element.key;
    let address: Option<IpAddr> = match element.set {
        PORTS4 | PORTS6 => element.data.as_deref().and_then(address_in),
        // Locally administered, and then the IPv4 address: see `hardware_for`.
        SENDERS4 | SENDERS6 => key
            .get(2..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|octets| Ipv4Addr::from(*octets).into()),
        UPLINKS6 | CONTAINERS6 => key
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into()),
        _ => key
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
    };
    // What cannot be read is not ours to judge.
    address.is_none_or(is_known)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// `tcp 8080`, `udp 10.0.0.1:53`: the other way round than [`port_elements`].
pub(super) fn describe_port(key: &[u8]) -> String {
    let Some((address, [protocol, _, _, _, high, low, _, _])) = key.split_last_chunk::<8>() else {
        return "?".into();
    };
    let port = u16::from_be_bytes([*high, *low]);
    let protocol = match protocol {
        17 => "udp",
        _ => "tcp",
    };
    let is_every = address.iter().all(|&byte| byte == 0);
    let address = match (address.first_chunk::<4>(), address.first_chunk::<16>()) {
        _ if is_every => return format!("{protocol} {port}"),
        (_, Some(bytes)) => format!("[{}]", Ipv6Addr::from(*bytes)),
        (Some(bytes), None) => Ipv4Addr::from(*bytes).to_string(),
        (None, None) => return format!("{protocol} {port}"),
    };
    format!("{protocol} {address}:{port}")
}

pub(super) fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// What the comment of a container's own element says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub holder: Holder,
    pub address6: Option<Ipv6Addr>,
    /// How many elements lead to it in both maps of ports.
    pub ports: usize,
}

/// `NAME ADDRESS6 PORTS STORE`, with `-` for no address; names of containers have no blanks.
fn write_comment(entry: &Entry, ports: usize) -> String {
    let address6 = entry
        .address6
        .map_or_else(|| "-".into(), |address| address.to_string());
    let Holder { container, store } = &entry.holder;
    format!("{container} {address6} {ports} {store}")
}

impl Noted {
    pub(super) fn in_element(element: &Element) -> Noted {
        let comment = element.comment.as_deref().unwrap_or_default();
        let mut words = comment.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let container = word().into();
        let address6 = word().parse().ok();
        let ports = word().parse().unwrap_or(0);
        let store = word().into();
        Noted {
            holder: Holder { container, store },
            address6,
            ports,
        }
    }
}

/// So much of a store's path as a comment has room for beside a name, an address and a number.
pub(crate) fn short(store: &str) -> &str {
    let mut end = store.len().min(120);
    while !store.is_char_boundary(end) {
        end -= 1;
    }
    &store[..end]
}

impl Holder {
    /// `store` is the path of `$COCKER_HOME`.
    pub fn new(container: &str, store: &str) -> Holder {
        Holder {
            container: container.into(),
            store: short(store).into(),
        }
    }

    pub(super) fn unknown() -> Holder {
        Holder::new("?", "?")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.container, self.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            holder: Holder::new("web", "/var/cocker"),
            bridge: "cocker0".into(),
            address: Ipv4Addr::new(166, 88, 0, 2),
            address6: None,
            uplinks: vec!["eth0".into(), "wlan0".into()],
            ports: PortMapping::parse_list("8080:80,10.0.0.1:53:53/udp").unwrap(),
        }
    }

    #[test]
    fn a_comment_says_who_it_is_and_what_belongs_to_it() {
        let elements = elements_of(&entry());
        assert_eq!(elements[0].comment.as_deref(), Some("web - 2 /var/cocker"));
        let noted = Noted::in_element(&elements[0]);
        assert_eq!(
            (noted.holder, noted.address6, noted.ports),
            (entry().holder, None, 2)
        );
        let other = Entry {
            address6: Some("fd42::2".parse().unwrap()),
            holder: Holder::new("web", "/with a blank"),
            ..entry()
        };
        let elements = elements_of(&other);
        let noted = Noted::in_element(&elements[0]);
        assert_eq!(
            (noted.holder, noted.address6, noted.ports),
            (other.holder, other.address6, 3)
        );
    }

    #[test]
    fn the_longest_of_all_comments_is_not_cut() {
        let longest = Entry {
            holder: Holder::new(&"n".repeat(64), &"/s".repeat(500)),
            address6: Some("fd42:1111:2222:3333:4444:5555:6666:7777".parse().unwrap()),
            ports: PortMapping::parse_list("1-65535:1-65535").unwrap(),
            ..entry()
        };
        let kept = write_comment(&longest, 2 * 65_535);
        assert!(
            kept.len() <= super::super::batch::LONGEST_COMMENT,
            "{}",
            kept.len()
        );
    }

    #[test]
    fn keys_are_as_the_registers_have_them() {
        let elements = elements_of(&entry());
        let ports: Vec<&Element> = elements.iter().filter(|e| e.set == PORTS4).collect();
        assert_eq!(ports[0].key, [0, 0, 0, 0, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(ports[0].data, Some(vec![166, 88, 0, 2, 0, 80, 0, 0]));
        assert_eq!(ports[1].key, [10, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(describe_port(&ports[0].key), "tcp 8080");
        assert_eq!(describe_port(&ports[1].key), "udp 10.0.0.1:53");
        assert_eq!(elements.iter().filter(|e| e.set == UPLINKS4).count(), 2);
    }

    #[test]
    fn a_container_sends_in_its_own_name_alone() {
        let address6 = "fd42::2".parse().unwrap();
        let elements = sender_elements(entry().address, Some(address6));
        let said: Vec<_> = elements
            .iter()
            .map(|element| (element.set, element.key.split_at(8)))
            .collect();
        let hardware: &[u8] = &[2, 0x42, 166, 88, 0, 2, 0, 0];
        let of_link: Ipv6Addr = "fe80::42:a6ff:fe58:2".parse().unwrap();
        assert_eq!(
            said,
            [
                (SENDERS4, (hardware, &[166, 88, 0, 2][..])),
                (SENDERS4, (hardware, &[0; 4])),
                (SENDERS6, (hardware, &of_link.octets())),
                (SENDERS6, (hardware, &[0; 16])),
                (SENDERS6, (hardware, &address6.octets())),
            ]
        );
        let of_ipv4 = said.iter().filter(|(set, _)| *set == SENDERS4);
        assert_eq!(of_ipv4.count(), SENDERS4_OF_EACH);
    }

    #[test]
    fn with_an_ipv6_address_a_port_of_every_address_stands_in_both_maps() {
        let entry = Entry {
            address6: Some("fd42::2".parse().unwrap()),
            ..entry()
        };
        let elements = elements_of(&entry);
        let count = |set| elements.iter().filter(|element| element.set == set).count();
        assert_eq!((count(PORTS4), count(PORTS6), count(UPLINKS6)), (2, 1, 2));
    }
}
