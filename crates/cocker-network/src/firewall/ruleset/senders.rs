//! Who may send what from a container's port of a bridge: only what bears the container's own addresses gets any further,
//! be it to the host or to another container. That a port sends with its own hardware address the bridge sees to itself
//! (`links::ready_port`); which addresses go with that one is said here.
//!
//! ```text
//! table bridge cocker {
//!   set senders4 { ether_addr . ipv4_addr }     hardware address and address of each booted container; and with 0.0.0.0,
//!                                               by which is asked whether an address is free
//!   set senders6 { ether_addr . ipv6_addr }     likewise; and with its address on the link alone, and with ::
//!   chain ports, senders: see `RULES`
//! }
//! ```

use super::*;
use crate::plan::LINK_PREFIX;

pub(in super::super) const SENDERS4: &str = "senders4";
pub(in super::super) const SENDERS6: &str = "senders6";

/// Before anything else of a bridge sees a frame.
pub(super) const PORTS: Chain = Chain {
    family: NFPROTO_BRIDGE,
    name: "ports",
    hook: Some(Hook {
        kind: "filter",
        place: NF_BR_PRE_ROUTING,
        priority: RAW,
    }),
};
pub(super) const SENDERS: Chain = Chain {
    family: NFPROTO_BRIDGE,
    name: "senders",
    hook: None,
};

/// Where an address lies behind a hardware address.
const BEHIND: u16 = AND_THEN;

/// The frame's sender (IEEE 802.3).
const SOURCE: Step = Payload {
    header: NFT_PAYLOAD_LL_HEADER,
    offset: 6,
    length: 6,
    to: FIRST,
};

/// Part of what a frame carries, behind a hardware address.
const fn behind(header: u16, offset: u32, length: u32) -> Step {
    Payload {
        header,
        offset,
        length,
        to: BEHIND,
    }
}

const IS_SENDER4: Step = In {
    set: SENDERS4,
    key: FIRST,
};
const IS_SENDER6: Step = In {
    set: SENDERS6,
    key: FIRST,
};

/// Numbers of linux/if_ether.h, as they stand in a frame.
const fn carries(protocol: &'static [u8; 2]) -> [Step; 2] {
    [
        Meta {
            key: NFT_META_PROTOCOL,
            to: FIRST,
        },
        Equals {
            register: FIRST,
            value: protocol,
        },
    ]
}
const IPV4_FRAME: [Step; 2] = carries(&[0x08, 0x00]);
const ARP_FRAME: [Step; 2] = carries(&[0x08, 0x06]);
const IPV6_FRAME: [Step; 2] = carries(&[0x86, 0xdd]);

/// RFC 826: Ethernet and IPv4, addresses of six and four bytes.
const IS_ARP_OF_IPV4: [Step; 2] = [
    network(0, 6),
    Equals {
        register: FIRST,
        value: &[0, 1, 8, 0, 6, 4],
    },
];

/// ICMPv6 (58), and of which kind.
const fn icmpv6(kind: &'static [u8; 1]) -> [Step; 4] {
    [
        protocol(FIRST),
        Equals {
            register: FIRST,
            value: &[58],
        },
        Payload {
            header: NFT_PAYLOAD_TRANSPORT_HEADER,
            offset: 0,
            length: 1,
            to: FIRST,
        },
        Equals {
            register: FIRST,
            value: kind,
        },
    ]
}
const ROUTER_ADVERTISEMENT: &[u8; 1] = &[134];
const NEIGHBOUR_ADVERTISEMENT: &[u8; 1] = &[136];
const REDIRECT: &[u8; 1] = &[137];

pub(super) const RULES: [Rule; 9] = [
    // By its name: what a container is connected by is called so, and nobody else's link should be.
    rule(
        "ports",
        "1: what a container sends",
        &[
            from_link(FIRST),
            Equals {
                register: FIRST,
                value: LINK_PREFIX.as_bytes(),
            },
            Jump { chain: "senders" },
        ],
    ),
    rule(
        "senders",
        "1: IPv4 in its own name",
        steps![
            IPV4_FRAME,
            [
                SOURCE,
                behind(NFT_PAYLOAD_NETWORK_HEADER, 12, 4),
                IS_SENDER4,
                Accept
            ],
        ],
    ),
    // Both the frame's sender and the one that the message itself tells of.
    rule(
        "senders",
        "1: ARP of its own address",
        steps![
            ARP_FRAME,
            IS_ARP_OF_IPV4,
            [
                SOURCE,
                behind(NFT_PAYLOAD_NETWORK_HEADER, 14, 4),
                IS_SENDER4,
                network(8, 6),
                IS_SENDER4,
                Accept
            ],
        ],
    ),
    // RFC 4861: no container is a router.
    rule(
        "senders",
        "1: IPv6 router advertisement",
        steps![IPV6_FRAME, icmpv6(ROUTER_ADVERTISEMENT), [Step::Drop]],
    ),
    rule(
        "senders",
        "1: IPv6 redirect",
        steps![IPV6_FRAME, icmpv6(REDIRECT), [Step::Drop]],
    ),
    rule(
        "senders",
        "1: IPv6 neighbour of its own address",
        steps![
            IPV6_FRAME,
            icmpv6(NEIGHBOUR_ADVERTISEMENT),
            [
                SOURCE,
                behind(NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16),
                IS_SENDER6,
                behind(NFT_PAYLOAD_NETWORK_HEADER, 8, 16),
                IS_SENDER6,
                Accept
            ],
        ],
    ),
    rule(
        "senders",
        "1: IPv6 neighbour of another address",
        steps![IPV6_FRAME, icmpv6(NEIGHBOUR_ADVERTISEMENT), [Step::Drop]],
    ),
    rule(
        "senders",
        "1: IPv6 in its own name",
        steps![
            IPV6_FRAME,
            [
                SOURCE,
                behind(NFT_PAYLOAD_NETWORK_HEADER, 8, 16),
                IS_SENDER6,
                Accept
            ],
        ],
    ),
    // Whatever else, tags of VLANs around it included: it could hide what is looked for above.
    rule("senders", "1: anything else", &[Step::Drop]),
];
