//! What the kernel remembers of UDP: a flow that began before a mapping came or went is led as at its first packet
//! for as long as its client goes on sending. So the flows to mapped ports are forgotten whenever a mapping comes or
//! goes; the next packet of each is led anew. TCP needs no such help: a connection ends with the container that it
//! led to.

use crate::links;
use crate::mapping::{PortMapping, Protocol};
use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Messages, Netlink, Refusal};
use rustix::io::Errno;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

/// Forgets the flows to the UDP ports among `ports` that are for this host itself. What cannot be forgotten goes on
/// as it was, which is no reason to fail.
pub(crate) fn forget_flows(netlink: &mut Netlink, ports: &[PortMapping]) {
    let is_udp = |mapping: &PortMapping| mapping.protocol == Protocol::Udp;
    if !ports.iter().any(is_udp) {
        return;
    }
    if let Err(refusal) = forget(netlink, ports) {
        tracing::debug!("flows of UDP go on as they began: {refusal}");
    }
}

fn forget(netlink: &mut Netlink, ports: &[PortMapping]) -> Result<(), Refusal> {
    let ours = own_addresses()?;
    for family in [libc::AF_INET, libc::AF_INET6] {
        let flows = flows(netlink, family, |address, port| {
            let is_ours = address.is_loopback() || ours.contains(&address);
            is_ours && ports.iter().any(|mapping| leads(mapping, address, port))
        })?;
        for flow in flows {
            let mut messages = Messages::new();
            messages
                .begin(
                    "forget a flow",
                    kind(IPCTNL_MSG_CT_DELETE),
                    0,
                    &header(family),
                )
                .put(CTA_TUPLE_ORIG | NLA_F_NESTED, &flow);
            match netlink.change(messages) {
                // It has ended meanwhile.
                Err(refusal) if refusal.errno == Errno::NOENT => {}
                other => other?,
            }
        }
    }
    Ok(())
}

fn own_addresses() -> Result<HashSet<IpAddr>, Refusal> {
    let mut route = Netlink::route().map_err(|errno| Refusal {
        what: "ask for the host's addresses".into(),
        errno,
        words: None,
    })?;
    let mut ours = HashSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let addresses = links::addresses(&mut route, family)?;
        ours.extend(addresses.iter().map(|found| found.address));
    }
    Ok(ours)
}

fn leads(mapping: &PortMapping, address: IpAddr, port: u16) -> bool {
    let is_address = mapping.address.is_none_or(|wanted| wanted == address);
    let is_port = port
        .checked_sub(mapping.host)
        .is_some_and(|distance| distance < mapping.count);
    mapping.protocol == Protocol::Udp && is_address && is_port
}

/// The tuples, as the kernel wrote them, of the flows of UDP whose first packet went where `is_wanted` says.
fn flows(
    netlink: &mut Netlink,
    family: i32,
    is_wanted: impl Fn(IpAddr, u16) -> bool,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut messages = Messages::new();
    let what = "list the flows of UDP";
    messages
        .begin(what, kind(IPCTNL_MSG_CT_GET), NLM_F_DUMP, &header(family))
        .nest(CTA_FILTER, |filter| {
            filter.put_number(CTA_FILTER_ORIG_FLAGS, BY_PROTOCOL);
            filter.put_number(CTA_FILTER_REPLY_FLAGS, 0);
        })
        .nest(CTA_TUPLE_ORIG, |tuple| {
            tuple.nest(CTA_TUPLE_PROTO, |protocol| {
                protocol.put(CTA_PROTO_NUM, &[Protocol::Udp.number()]);
            });
        });
    let mut found = Vec::new();
    netlink.ask(messages, |answer| {
        if let Some((_, attributes)) = answer.split::<4>()
            && let Some(tuple) = attributes.find(CTA_TUPLE_ORIG)
            && let Some((address, port)) = destination(Attributes(tuple))
            && is_wanted(address, port)
        {
            found.push(tuple.to_vec());
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn destination(tuple: Attributes<'_>) -> Option<(IpAddr, u16)> {
    let addresses = tuple.nest(CTA_TUPLE_IP);
    let protocol = tuple.nest(CTA_TUPLE_PROTO);
    if protocol.find(CTA_PROTO_NUM)? != [Protocol::Udp.number()] {
        return None;
    }
    let port = u16::from_be_bytes(*protocol.find(CTA_PROTO_DST_PORT)?.first_chunk()?);
    let four = || {
        Some(Ipv4Addr::from(
            *addresses.find(CTA_IP_V4_DST)?.first_chunk::<4>()?,
        ))
    };
    let six = || {
        Some(Ipv6Addr::from(
            *addresses.find(CTA_IP_V6_DST)?.first_chunk::<16>()?,
        ))
    };
    let address = four()
        .map(IpAddr::from)
        .or_else(|| six().map(IpAddr::from))?;
    Some((address, port))
}

/// `CTA_FILTER_FLAG(CTA_PROTO_NUM)` of the kernel's net/netfilter/nf_internals.h; older kernels than 5.8 show all
/// flows.
const BY_PROTOCOL: u32 = 1 << 3;

const fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_CTNETLINK << 8 | message
}

const fn header(family: i32) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_leads_its_own_ports_of_its_own_address() {
        let mappings = PortMapping::parse_list("53-55:53-55/udp,10.0.0.1:99:99/udp,80:80").unwrap();
        let leads = |address: &str, port| {
            let address = address.parse().unwrap();
            mappings.iter().any(|mapping| leads(mapping, address, port))
        };
        assert!(leads("10.0.0.9", 53) && leads("10.0.0.9", 55));
        assert!(!leads("10.0.0.9", 52) && !leads("10.0.0.9", 56));
        assert!(leads("10.0.0.1", 99) && !leads("10.0.0.2", 99));
        assert!(!leads("10.0.0.1", 80), "TCP needs no help");
    }
}
