//! Links, addresses and neighbours of the caller's network namespace: asked for, and changed.

use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Message, Messages, Netlink, Refusal, number_ne, text};
use crate::sysctl;
use rustix::fd::{AsRawFd, BorrowedFd};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

/// A hardware address.
pub(crate) type Hardware = [u8; 6];

/// The longest name that a link can have (`IFNAMSIZ` without its NUL).
pub const LONGEST_LINK_NAME: usize = 15;

/// A link as the kernel shows it.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub is_up: bool,
    pub mtu: u32,
    /// The index of the other end of a pair, in that end's namespace; 0 for other links.
    pub peer: u32,
    /// What it is a port of; 0 where it is none.
    pub master: u32,
    /// `bridge`, `veth` and the like; empty for hardware.
    pub kind: String,
    /// Free text that belongs to it.
    pub alias: String,
}

/// An address of this host and the link that it is on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostAddress {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// One end of a new pair, in another network namespace.
pub(crate) struct Peer<'a> {
    pub namespace: BorrowedFd<'a>,
    pub name: &'a str,
    pub hardware: Hardware,
}

/// Leave the counters out of answers: nobody here reads them.
const SKIP_STATISTICS: u32 = 1 << 3;

/// The hardware address that goes with an address: locally administered, the same whenever the address is the same.
pub(crate) fn hardware_for(address: Ipv4Addr) -> Hardware {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// struct ifinfomsg of linux/rtnetlink.h; `flags` are set where `change` says so.
pub(crate) fn link_header(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

const UP: u32 = libc::IFF_UP as u32;
const ANY: u8 = libc::AF_UNSPEC as u8;

/// The link of this name.
pub(crate) fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, Refusal> {
    let mut messages = Messages::new();
    ask_for(&mut messages, name);
    asked_for(netlink, messages)
}

/// The link of this index.
pub(crate) fn find_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, Refusal> {
    let mut messages = Messages::new();
    let header = link_header(ANY, index, 0, 0);
    messages
        .begin(format!("find link {index}"), RTM_GETLINK, 0, &header)
        .put_number(IFLA_EXT_MASK, SKIP_STATISTICS);
    asked_for(netlink, messages)
}

/// What the kernel answers to messages that ask for one link.
fn asked_for(netlink: &mut Netlink, messages: Messages) -> Result<Option<Link>, Refusal> {
    let mut found = None;
    netlink.ask(messages, |answer| {
        found = answer.split().and_then(|(header, rest)| link(header, rest));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// All links.
pub(crate) fn all(netlink: &mut Netlink) -> Result<Vec<Link>, Refusal> {
    let mut messages = Messages::new();
    let header = link_header(ANY, 0, 0, 0);
    messages
        .begin("list the links", RTM_GETLINK, NLM_F_DUMP, &header)
        .put_number(IFLA_EXT_MASK, SKIP_STATISTICS);
    let mut links = Vec::new();
    netlink.ask(messages, |answer| {
        links.extend(answer.split().and_then(|(header, rest)| link(header, rest)));
        ControlFlow::Continue(())
    })?;
    Ok(links)
}

fn ask_for(messages: &mut Messages, name: &str) {
    let header = link_header(ANY, 0, 0, 0);
    messages
        .begin(format!("find link `{name}`"), RTM_GETLINK, 0, &header)
        .put_text(IFLA_IFNAME, name)
        .put_number(IFLA_EXT_MASK, SKIP_STATISTICS);
}

fn link(header: [u8; 16], attributes: Attributes<'_>) -> Option<Link> {
    let number = |kind| attributes.find(kind).and_then(number_ne);
    let words = |payload: Option<&[u8]>| payload.map(text).unwrap_or_default();
    Some(Link {
        index: number_ne(&header[4..8])?,
        name: words(attributes.find(IFLA_IFNAME)),
        is_up: number_ne(&header[8..12])? & UP != 0,
        mtu: number(IFLA_MTU).unwrap_or_default(),
        peer: number(IFLA_LINK).unwrap_or_default(),
        master: number(IFLA_MASTER).unwrap_or_default(),
        kind: words(attributes.nest(IFLA_LINKINFO).find(IFLA_INFO_KIND)),
        alias: words(attributes.find(IFLA_IFALIAS)),
    })
}

/// Makes a bridge that is up. Its hardware address is said, or it would change with every port that comes and goes.
///
/// # Errors
/// `EEXIST` where there is a link of that name.
pub(crate) fn make_bridge(
    netlink: &mut Netlink,
    name: &str,
    hardware: Hardware,
    alias: &str,
) -> Result<(), Refusal> {
    let mut messages = Messages::new();
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let header = link_header(ANY, 0, UP, UP);
    messages
        .begin(format!("make bridge `{name}`"), RTM_NEWLINK, flags, &header)
        .put_text(IFLA_IFNAME, name)
        .put(IFLA_ADDRESS, &hardware)
        .nest(IFLA_LINKINFO, |info| {
            info.put_text(IFLA_INFO_KIND, "bridge");
        });
    messages
        .begin(
            format!("mark bridge `{name}`"),
            RTM_SETLINK,
            0,
            &link_header(ANY, 0, 0, 0),
        )
        .put_text(IFLA_IFNAME, name)
        .put(IFLA_IFALIAS, alias.as_bytes());
    netlink.change(messages)
}

pub(crate) fn set_up(messages: &mut Messages, index: u32, name: &str) {
    let header = link_header(ANY, index, UP, UP);
    messages.begin(format!("set link `{name}` up"), RTM_SETLINK, 0, &header);
}

/// Gives a link another text of its own.
/// Removes a link; of a pair both ends go.
pub(crate) fn remove(messages: &mut Messages, index: u32, name: &str) {
    let header = link_header(ANY, index, 0, 0);
    messages.begin(format!("remove link `{name}`"), RTM_DELLINK, 0, &header);
}

pub(crate) fn set_alias(messages: &mut Messages, index: u32, name: &str, alias: &str) {
    let header = link_header(ANY, index, 0, 0);
    messages
        .begin(format!("mark link `{name}`"), RTM_SETLINK, 0, &header)
        .put(IFLA_IFALIAS, alias.as_bytes());
}

/// Makes a pair of links, ours named `name` and a port of the bridge, the other one in a namespace. Neither is up
/// yet: the peer must not be, and ours is told first what it is for ([`ready_port`]).
pub(crate) fn make_pair(
    messages: &mut Messages,
    name: &str,
    bridge: u32,
    mtu: u32,
    peer: &Peer<'_>,
) {
    let flags = NLM_F_CREATE | NLM_F_EXCL;
    let header = link_header(ANY, 0, 0, 0);
    messages
        .begin(format!("make link `{name}`"), RTM_NEWLINK, flags, &header)
        .put_text(IFLA_IFNAME, name)
        .put_number(IFLA_MTU, mtu)
        .put_number(IFLA_MASTER, bridge)
        .nest(IFLA_LINKINFO, |info| {
            info.put_text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |end| {
                    end.append(&link_header(ANY, 0, 0, 0));
                    end.put_text(IFLA_IFNAME, peer.name);
                    end.put_number(IFLA_MTU, mtu);
                    end.put(IFLA_ADDRESS, &peer.hardware);
                    end.put_number(IFLA_NET_NS_FD, peer.namespace.as_raw_fd() as u32);
                });
            });
        });
}

/// Puts a link back under a bridge.
pub(crate) fn set_master(messages: &mut Messages, name: &str, bridge: u32) {
    let what = format!("put `{name}` under the bridge");
    messages
        .begin(what, RTM_SETLINK, 0, &link_header(ANY, 0, 0, 0))
        .put_text(IFLA_IFNAME, name)
        .put_number(IFLA_MASTER, bridge);
}

/// Makes `name`, which is under the bridge already, a port as it should be, and up. It learns no hardware addresses:
/// what sends in another's name changes nothing, and goes no further: the port takes only what comes from hardware addresses
/// that the bridge was told to be behind it ([`place_hardware`]; Linux 5.18). What comes out of it may go back into it, as a mapping of the
/// container's own does where the host's rules see bridged packets. It gets no addresses of its own, since nobody
/// talks to this end.
pub(crate) fn ready_port(messages: &mut Messages, name: &str) {
    let what = format!("make `{name}` a port of the bridge");
    let header = link_header(ANY, 0, 0, 0);
    let mut message = messages.begin(what, RTM_NEWLINK, 0, &header);
    message.put_text(IFLA_IFNAME, name);
    // The kernel refuses what is said of a family that it does not have.
    if sysctl::has_ipv6() {
        message.nest(IFLA_AF_SPEC, |families| {
            families.nest(libc::AF_INET6 as u16, |family| {
                family.put(IFLA_INET6_ADDR_GEN_MODE, &[NO_LINK_LOCAL_ADDRESS]);
            });
        });
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.put_text(IFLA_INFO_SLAVE_KIND, "bridge");
        info.nest(IFLA_INFO_SLAVE_DATA, |port| {
            port.put(IFLA_BRPORT_LEARNING, &[0]);
            port.put(IFLA_BRPORT_LOCKED, &[1]);
            port.put(IFLA_BRPORT_MODE, &[1]);
        });
    });
    drop(message);
    let header = link_header(ANY, 0, UP, UP);
    messages
        .begin(format!("set link `{name}` up"), RTM_SETLINK, 0, &header)
        .put_text(IFLA_IFNAME, name);
}

/// `IN6_ADDR_GEN_MODE_NONE` of linux/if_link.h.
const NO_LINK_LOCAL_ADDRESS: u8 = 1;

/// Sends messages that make a link, and gives it as it is then.
pub(crate) fn make_and_find(
    netlink: &mut Netlink,
    mut messages: Messages,
    name: &str,
) -> Result<Option<Link>, Refusal> {
    ask_for(&mut messages, name);
    let mut found = None;
    netlink.change_and_ask(messages, |answer| {
        found = answer.split().and_then(|(header, rest)| link(header, rest));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Tells the bridge behind which port a hardware address is, so that the first packet finds it.
pub(crate) fn place_hardware(messages: &mut Messages, port: u32, hardware: Hardware) {
    // struct ndmsg of linux/neighbour.h
    let mut header = [0; 12];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&port.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_NOARP.to_ne_bytes());
    header[10] = NTF_MASTER as u8;
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    messages
        .begin(
            "tell the bridge of the new port",
            RTM_NEWNEIGH,
            flags,
            &header,
        )
        .put(NDA_LLADDR, &hardware);
}

/// Gives a link an address; one that it has already is no failure.
pub(crate) fn add_address(messages: &mut Messages, link: u32, address: IpAddr, prefix: u8) {
    let what = format!("give address {address}/{prefix}");
    match address {
        IpAddr::V4(address) => {
            let header = address_header(libc::AF_INET, prefix, link);
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(address) | !mask);
            messages
                .begin(what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header)
                .put(IFA_LOCAL, &address.octets())
                .put(IFA_ADDRESS, &address.octets())
                .put(IFA_BROADCAST, &broadcast.octets());
        }
        IpAddr::V6(address) => {
            let header = address_header(libc::AF_INET6, prefix, link);
            // Nobody else can have it, so it need not be asked around for a second before it may be used.
            messages
                .begin(what, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &header)
                .put(IFA_LOCAL, &address.octets())
                .put(IFA_ADDRESS, &address.octets())
                .put_number(IFA_FLAGS, IFA_F_NODAD.into());
        }
    }
}

/// struct ifaddrmsg of linux/if_addr.h.
fn address_header(family: i32, prefix: u8, link: u32) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = family as u8;
    header[1] = prefix;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header
}

/// The addresses of one family that this host has.
pub(crate) fn addresses(netlink: &mut Netlink, family: i32) -> Result<Vec<HostAddress>, Refusal> {
    let mut messages = Messages::new();
    let header = address_header(family, 0, 0);
    messages.begin(
        "list the host's addresses",
        RTM_GETADDR,
        NLM_F_DUMP,
        &header,
    );
    let mut addresses = Vec::new();
    netlink.ask(messages, |answer| {
        addresses.extend(
            answer
                .split()
                .and_then(|(header, rest)| host_address(header, rest)),
        );
        ControlFlow::Continue(())
    })?;
    Ok(addresses)
}

fn host_address(header: [u8; 8], attributes: Attributes<'_>) -> Option<HostAddress> {
    // On a link from point to point IFA_ADDRESS is the other end's.
    let bytes = attributes
        .find(IFA_LOCAL)
        .or(attributes.find(IFA_ADDRESS))?;
    let address = match i32::from(header[0]) {
        libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    Some(HostAddress {
        link: number_ne(&header[4..8])?,
        address,
        prefix: header[1],
    })
}

/// Sends everything that has no nearer way through `gateway`.
pub(crate) fn add_default_route(messages: &mut Messages, link: u32, gateway: IpAddr) {
    let (family, octets): (i32, Vec<u8>) = match gateway {
        IpAddr::V4(gateway) => (libc::AF_INET, gateway.octets().into()),
        IpAddr::V6(gateway) => (libc::AF_INET6, gateway.octets().into()),
    };
    // struct rtmsg of linux/rtnetlink.h
    let mut header = [0; 12];
    header[0] = family as u8;
    header[4] = RT_TABLE_MAIN as u8;
    header[5] = RTPROT_BOOT as u8;
    header[6] = RT_SCOPE_UNIVERSE as u8;
    header[7] = RTN_UNICAST as u8;
    let what = format!("make {gateway} the way out");
    let mut message: Message<'_> =
        messages.begin(what, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header);
    message.put(RTA_GATEWAY, &octets).put_number(RTA_OIF, link);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_local_single_and_follows_from_the_address() {
        let hardware = hardware_for(Ipv4Addr::new(166, 88, 0, 2));
        assert_eq!(hardware, [0x02, 0x42, 166, 88, 0, 2]);
        assert_eq!(hardware[0] & 0b11, 0b10);
    }
}
