//! By which links this host reaches the rest of the world.

use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Messages, Netlink, Refusal, number_ne};
use std::ops::ControlFlow;

/// The indexes of the links that the default route of a family leads through: none where there is no default route,
/// several where it is spread over several. Of several routes the one with the least metric counts.
pub(crate) fn default_links(netlink: &mut Netlink, family: i32) -> Result<Vec<u32>, Refusal> {
    let mut messages = Messages::new();
    // struct rtmsg of linux/rtnetlink.h
    let mut header = [0; 12];
    header[0] = family as u8;
    header[4] = RT_TABLE_MAIN as u8;
    messages.begin("list the host's routes", RTM_GETROUTE, NLM_F_DUMP, &header);
    let mut best: Option<(u32, Vec<u32>)> = None;
    netlink.ask(messages, |answer| {
        let Some((header, attributes)) = answer.split::<12>() else {
            return ControlFlow::Continue(());
        };
        let [_, bits, _, _, table, _, _, kind, ..] = header;
        let is_default = bits == 0
            && attributes
                .find(RTA_DST)
                .is_none_or(|to| to.iter().all(|&byte| byte == 0));
        if !is_default {
            // IPv4's routes come in the order of their destinations, so there is none further on; a host that knows
            // all routes of the world is not made to tell them. IPv6's order is another one, and nobody has that
            // many.
            let is_sorted = family == libc::AF_INET && bits > 8;
            return match is_sorted {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        if u16::from(table) != RT_TABLE_MAIN || u16::from(kind) != RTN_UNICAST {
            return ControlFlow::Continue(());
        }
        let metric = attributes
            .find(RTA_PRIORITY)
            .and_then(number_ne)
            .unwrap_or(0);
        let links = usable_links(header, attributes);
        if !links.is_empty() {
            match &mut best {
                Some((least, _)) if metric > *least => {}
                // IPv6 tells the parts of one spread route as routes of their own.
                Some((least, same)) if metric == *least => same.extend(links),
                _ => best = Some((metric, links)),
            }
        }
        ControlFlow::Continue(())
    })?;
    let mut links = best.map(|(_, links)| links).unwrap_or_default();
    links.sort_unstable();
    links.dedup();
    Ok(links)
}

const UNUSABLE: u8 = (RTNH_F_DEAD | RTNH_F_LINKDOWN) as u8;

fn usable_links(header: [u8; 12], attributes: Attributes<'_>) -> Vec<u32> {
    if let Some(link) = attributes.find(RTA_OIF).and_then(number_ne) {
        let is_usable = header[8] & UNUSABLE == 0;
        return Vec::from_iter(is_usable.then_some(link));
    }
    // struct rtnexthop of linux/rtnetlink.h: length u16, flags u8, hops u8, link u32, then attributes.
    let mut links = Vec::new();
    let mut rest = attributes.find(RTA_MULTIPATH).unwrap_or_default();
    while let Some(hop) = rest.first_chunk::<8>() {
        let length = usize::from(u16::from_ne_bytes([hop[0], hop[1]]));
        if hop[2] & UNUSABLE == 0 {
            links.extend(number_ne(&hop[4..]));
        }
        rest = rest
            .get(length.max(8).next_multiple_of(4)..)
            .unwrap_or_default();
    }
    links
}
