//! What went over the links to containers: counted on the host's ends, asked for in one go.

use crate::failure::NetworkError;
use crate::links::link_header;
use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Messages, Netlink, number_ne, text};
use crate::plan::{LINK_DIGITS, LINK_PREFIX};
use std::ops::ControlFlow;

/// One link, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkTraffic {
    /// What its name begins with, by which a container is known.
    pub prefix: String,
    pub index: u32,
    /// Bytes.
    pub received: u64,
    /// Bytes.
    pub sent: u64,
    pub received_packets: u64,
    pub sent_packets: u64,
}

/// The links of all containers that are of BRIDGE, in no order; of the network namespace that the caller is in.
pub fn traffic() -> Result<Vec<LinkTraffic>, NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let mut messages = Messages::new();
    let header = link_header(libc::AF_UNSPEC as u8, 0, 0, 0);
    messages.begin(
        "count what went over the links",
        RTM_GETLINK,
        NLM_F_DUMP,
        &header,
    );
    let mut links = Vec::new();
    netlink.ask(messages, |answer| {
        let link = answer.split().and_then(|(header, rest)| link(header, rest));
        links.extend(link);
        ControlFlow::Continue(())
    })?;
    Ok(links)
}

/// `None` for links that lead elsewhere.
fn link(header: [u8; 16], attributes: Attributes<'_>) -> Option<LinkTraffic> {
    let name = attributes.find(IFLA_IFNAME).map(text)?;
    let prefix = name.get(..LINK_PREFIX.len() + LINK_DIGITS)?;
    if !prefix.starts_with(LINK_PREFIX) {
        return None;
    }
    // struct rtnl_link_stats64 of linux/if_link.h begins with these four.
    let counters = attributes.find(IFLA_STATS64)?;
    let counter = |place: usize| {
        let bytes = counters.get(place * 8..)?.first_chunk()?;
        Some(u64::from_ne_bytes(*bytes))
    };
    Some(LinkTraffic {
        prefix: prefix.into(),
        index: number_ne(&header[4..8])?,
        received_packets: counter(0)?,
        sent_packets: counter(1)?,
        received: counter(2)?,
        sent: counter(3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel lays attributes out.
    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + 4).expect("it is short");
        let mut bytes = Vec::from(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn header(index: u32) -> [u8; 16] {
        link_header(0, index, 0, 0)
    }

    #[test]
    fn the_counters_of_a_containers_link_are_read() {
        let counters: Vec<u8> = (1..=24u64).flat_map(u64::to_ne_bytes).collect();
        let mut bytes = attribute(IFLA_IFNAME, b"ck098f6bcd12ef\0");
        bytes.extend(attribute(IFLA_STATS64, &counters));
        let expected = LinkTraffic {
            prefix: "ck098f6bcd".into(),
            index: 7,
            received_packets: 1,
            sent_packets: 2,
            received: 3,
            sent: 4,
        };
        assert_eq!(link(header(7), Attributes(&bytes)), Some(expected));
    }

    #[test]
    fn other_links_and_those_without_counters_are_left_out() {
        let counters = [0; 192];
        for name in ["eth0", "ck", "cocker0", "xx098f6bcd12ef"] {
            let mut bytes = attribute(IFLA_IFNAME, name.as_bytes());
            bytes.extend(attribute(IFLA_STATS64, &counters));
            assert_eq!(link(header(7), Attributes(&bytes)), None, "{name}");
        }
        let mut bytes = attribute(IFLA_IFNAME, b"ck098f6bcd12ef");
        bytes.extend(attribute(IFLA_STATS64, &counters[..31]));
        assert_eq!(link(header(7), Attributes(&bytes)), None);
    }
}
