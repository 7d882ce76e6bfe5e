//! What never changes in the table: its sets, chains and rules. What comes and goes are elements of the sets.
//!
//! ```text
//! table inet cocker {
//!   set containers { ipv4_addr }                booted ones; comment: who it is, and what it leaves the host by
//!   set containers6 { ipv6_addr }               the same by their other address
//!   set bridges    { ifname }                   comment: whose it is
//!   set uplinks4   { ipv4_addr . ifname }       an address and what it leaves the host by            (uplinks6: ipv6_addr)
//!   map ports4     { ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }              (ports6)
//!                    with address 0.0.0.0: every address of the host
//!   chain guard, prerouting, output, mapped, postrouting, forward: see `RULES`
//! }
//! table bridge cocker { … }                     who may send what: see [`senders`]
//! ```

use super::expressions::Step::{self, *};
use crate::netlink::numbers::*;

/// The table of all stores on this host, in each of the two families.
pub(super) const TABLE: &str = "cocker";

/// Of packets, and of frames that come from a bridge's ports.
pub(super) const FAMILIES: [u16; 2] = [NFPROTO_INET, NFPROTO_BRIDGE];

/// A set, or a map where there is data. Types are numbers of nft(8), six bits each part of a concatenation.
pub(super) struct Set {
    /// Which of the two tables it is in.
    pub family: u16,
    pub name: &'static str,
    pub key: Type,
    pub data: Option<Type>,
}

#[derive(Clone, Copy)]
pub(super) struct Type {
    pub number: u32,
    pub length: u32,
}

impl Type {
    pub(super) fn is_text(self) -> bool {
        self.number == LINK_NAME.number
    }
}

const IPV4: Type = Type {
    number: 7,
    length: 4,
};
const IPV6: Type = Type {
    number: 8,
    length: 16,
};
/// Both take a register of four bytes in a concatenation.
const PROTOCOL: Type = Type {
    number: 12,
    length: 4,
};
const SERVICE: Type = Type {
    number: 13,
    length: 4,
};
const LINK_NAME: Type = Type {
    number: 41,
    length: 16,
};
/// Takes two registers of four bytes in a concatenation.
const HARDWARE: Type = Type {
    number: 9,
    length: 8,
};

const fn joined(one: Type, other: Type) -> Type {
    Type {
        number: one.number << 6 | other.number,
        length: one.length + other.length,
    }
}

pub(super) const CONTAINERS: &str = "containers";
pub(super) const CONTAINERS6: &str = "containers6";
pub(super) const BRIDGES: &str = "bridges";
pub(super) const UPLINKS4: &str = "uplinks4";
pub(super) const UPLINKS6: &str = "uplinks6";
pub(super) const PORTS4: &str = "ports4";
pub(super) const PORTS6: &str = "ports6";
pub(super) use senders::{SENDERS4, SENDERS6};

pub(super) const SETS: [Set; 9] = [
    Set {
        family: NFPROTO_INET,
        name: CONTAINERS,
        key: IPV4,
        data: None,
    },
    Set {
        family: NFPROTO_INET,
        name: CONTAINERS6,
        key: IPV6,
        data: None,
    },
    Set {
        family: NFPROTO_INET,
        name: BRIDGES,
        key: LINK_NAME,
        data: None,
    },
    Set {
        family: NFPROTO_INET,
        name: UPLINKS4,
        key: joined(IPV4, LINK_NAME),
        data: None,
    },
    Set {
        family: NFPROTO_INET,
        name: UPLINKS6,
        key: joined(IPV6, LINK_NAME),
        data: None,
    },
    Set {
        family: NFPROTO_INET,
        name: PORTS4,
        key: joined(joined(IPV4, PROTOCOL), SERVICE),
        data: Some(joined(IPV4, SERVICE)),
    },
    Set {
        family: NFPROTO_INET,
        name: PORTS6,
        key: joined(joined(IPV6, PROTOCOL), SERVICE),
        data: Some(joined(IPV6, SERVICE)),
    },
    Set {
        family: NFPROTO_BRIDGE,
        name: SENDERS4,
        key: joined(HARDWARE, IPV4),
        data: None,
    },
    Set {
        family: NFPROTO_BRIDGE,
        name: SENDERS6,
        key: joined(HARDWARE, IPV6),
        data: None,
    },
];

/// Which of the two tables a set is in.
pub(super) fn family_of_set(name: &str) -> u16 {
    let set = SETS.iter().find(|set| set.name == name);
    set.map_or(NFPROTO_INET, |set| set.family)
}

/// A chain; one without a hook is only jumped to.
pub(super) struct Chain {
    /// Which of the two tables it is in.
    pub family: u16,
    pub name: &'static str,
    pub hook: Option<Hook>,
}

#[derive(Clone, Copy)]
pub(super) struct Hook {
    pub kind: &'static str,
    /// `NF_INET_…`
    pub place: u16,
    pub priority: i32,
}

/// Before connections are looked up, where a packet still has the addresses that its sender gave it.
const RAW: i32 = -300;
/// nft(8): `dstnat`, and the same on the way out; `filter`; `srcnat`.
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

const fn hooked(name: &'static str, kind: &'static str, place: u16, priority: i32) -> Chain {
    Chain {
        family: NFPROTO_INET,
        name,
        hook: Some(Hook {
            kind,
            place,
            priority,
        }),
    }
}

/// What is jumped to stands before what jumps.
pub(super) const CHAINS: [Chain; 8] = [
    senders::SENDERS,
    senders::PORTS,
    Chain {
        family: NFPROTO_INET,
        name: "mapped",
        hook: None,
    },
    hooked("guard", "filter", NF_INET_PRE_ROUTING, RAW),
    hooked("prerouting", "nat", NF_INET_PRE_ROUTING, DESTINATION_NAT),
    hooked("output", "nat", NF_INET_LOCAL_OUT, DESTINATION_NAT),
    hooked("postrouting", "nat", NF_INET_POST_ROUTING, SOURCE_NAT),
    hooked("forward", "filter", NF_INET_FORWARD, FILTER),
];

/// A rule; its comment names it, and says whether the one in the kernel is this one.
pub(super) struct Rule {
    pub chain: &'static str,
    pub comment: &'static str,
    pub steps: &'static [Step],
}

impl Rule {
    /// Which of the two tables it is in.
    pub(super) fn family(&self) -> u16 {
        let chain = CHAINS.iter().find(|chain| chain.name == self.chain);
        chain.map_or(NFPROTO_INET, |chain| chain.family)
    }
}

const fn rule(chain: &'static str, comment: &'static str, steps: &'static [Step]) -> Rule {
    Rule {
        chain,
        comment,
        steps,
    }
}

// Registers, see `expressions`.
const FIRST: u16 = NFT_REG_1;
const AFTER_IPV4: u16 = NFT_REG32_00 + 1;
const AND_THEN: u16 = NFT_REG32_00 + 2;
const AFTER_IPV6: u16 = NFT_REG32_00 + 4;
const AND_THEN_6: u16 = NFT_REG32_00 + 5;

const IS_IPV4: [Step; 2] = [
    Meta {
        key: NFT_META_NFPROTO,
        to: FIRST,
    },
    Equals {
        register: FIRST,
        value: &[NFPROTO_IPV4 as u8],
    },
];
const IS_IPV6: [Step; 2] = [
    Meta {
        key: NFT_META_NFPROTO,
        to: FIRST,
    },
    Equals {
        register: FIRST,
        value: &[NFPROTO_IPV6 as u8],
    },
];

/// Source and destination in the headers of IPv4 (RFC 791) and IPv6 (RFC 8200).
const SOURCE4: Step = network(12, 4);
const DESTINATION4: Step = network(16, 4);
const SOURCE6: Step = network(8, 16);
const DESTINATION6: Step = network(24, 16);

const fn network(offset: u32, length: u32) -> Step {
    Payload {
        header: NFT_PAYLOAD_NETWORK_HEADER,
        offset,
        length,
        to: FIRST,
    }
}

/// The port that a packet goes to, which TCP and UDP have at the same place. What else lies there in another
/// protocol's header matches nothing, since the protocol is part of the key.
const fn destination_port(to: u16) -> Step {
    Payload {
        header: NFT_PAYLOAD_TRANSPORT_HEADER,
        offset: 2,
        length: 2,
        to,
    }
}

const fn protocol(to: u16) -> Step {
    Meta {
        key: NFT_META_L4PROTO,
        to,
    }
}

const LOOPBACK: u8 = 127;
const LOOPBACK6: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const IS_FROM_LOOPBACK: [Step; 2] = [
    network(12, 1),
    Equals {
        register: FIRST,
        value: &[LOOPBACK],
    },
];

const fn to_link(to: u16) -> Step {
    Meta {
        key: NFT_META_OIFNAME,
        to,
    }
}
const fn from_link(to: u16) -> Step {
    Meta {
        key: NFT_META_IIFNAME,
        to,
    }
}
const IS_BRIDGE: Step = In {
    set: BRIDGES,
    key: FIRST,
};

/// `RTN_LOCAL` of linux/rtnetlink.h.
const LOCAL: &[u8] = &2u32.to_ne_bytes();
const NONE: &[u8] = &[0; 4];
/// `IPS_DST_NAT` of nf_conntrack_common.h: a mapping gave the connection its destination.
const WAS_MAPPED: [u8; 4] = (IPS_DST_NAT as u32).to_ne_bytes();
/// The bit of a new connection in nft(8)'s `ct state`.
const NEW: [u8; 4] = 8u32.to_ne_bytes();

const IS_FOR_THIS_HOST: [Step; 3] = [
    DestinationKind { to: FIRST },
    Equals {
        register: FIRST,
        value: LOCAL,
    },
    Jump { chain: "mapped" },
];
const IS_MAPPED: [Step; 3] = [
    Connection {
        key: NFT_CT_STATUS,
        to: FIRST,
    },
    Mask {
        register: FIRST,
        bits: WAS_MAPPED,
    },
    Differs {
        register: FIRST,
        value: NONE,
    },
];
const IS_NEW: [Step; 3] = [
    Connection {
        key: NFT_CT_STATE,
        to: FIRST,
    },
    Mask {
        register: FIRST,
        bits: NEW,
    },
    Differs {
        register: FIRST,
        value: NONE,
    },
];
const BY_PORTS4: [Step; 4] = [
    protocol(AFTER_IPV4),
    destination_port(AND_THEN),
    Look {
        map: PORTS4,
        key: FIRST,
        to: FIRST,
    },
    Redirect {
        family: NFPROTO_IPV4,
        address: FIRST,
        port: AFTER_IPV4,
    },
];
const BY_PORTS6: [Step; 4] = [
    protocol(AFTER_IPV6),
    destination_port(AND_THEN_6),
    Look {
        map: PORTS6,
        key: FIRST,
        to: FIRST,
    },
    Redirect {
        family: NFPROTO_IPV6,
        address: FIRST,
        port: AFTER_IPV6,
    },
];

/// Steps that are written once and stand in several rules.
macro_rules! steps {
    ($($part:expr),* $(,)?) => {{
        const LENGTH: usize = 0 $(+ $part.len())*;
        const STEPS: [Step; LENGTH] = {
            let mut steps = [Masquerade; LENGTH];
            let mut at = 0;
            $({
                let part = &$part;
                let mut of = 0;
                while of < part.len() {
                    steps[at] = part[of];
                    at += 1;
                    of += 1;
                }
            })*
            let _ = at;
            steps
        };
        &STEPS
    }};
}

// Behind the macro, which it uses.
mod senders;

/// All rules, those of a chain in the order in which they stand there.
pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain(&senders::RULES)
}

/// The rules for packets. Comments begin with the version of the rules: whoever finds others puts the table right.
const RULES: [Rule; 17] = [
    // Mappings of the host's 127.0.0.1 make the kernel accept packets of that network on the bridge (route_localnet).
    // None may come from a container itself, or it would reach what the host keeps for itself.
    rule(
        "guard",
        "1: no container reaches the host's loopback",
        steps![
            [from_link(FIRST), IS_BRIDGE],
            IS_IPV4,
            [
                network(16, 1),
                Equals {
                    register: FIRST,
                    value: &[LOOPBACK]
                }
            ],
            [Step::Drop],
        ],
    ),
    // Nobody sends to 127.0.0.1 from outside; where the kernel would let it in, a mapping of that address alone is
    // still not reached.
    rule(
        "prerouting",
        "1: what comes for loopback",
        steps![
            IS_IPV4,
            [
                network(16, 1),
                Equals {
                    register: FIRST,
                    value: &[LOOPBACK]
                }
            ],
            [Accept],
        ],
    ),
    // Only what is for this host itself: its own way out to such a port elsewhere stays free.
    rule(
        "prerouting",
        "1: what comes for this host",
        steps![IS_FOR_THIS_HOST],
    ),
    // From ::1 nobody could be answered, so there is no mapping by it: whoever asks there is told at once.
    rule(
        "output",
        "1: what this host sends to IPv6 loopback",
        steps![
            IS_IPV6,
            [
                DESTINATION6,
                Equals {
                    register: FIRST,
                    value: &LOOPBACK6
                }
            ],
            [Accept],
        ],
    ),
    rule(
        "output",
        "1: what this host sends to itself",
        steps![IS_FOR_THIS_HOST],
    ),
    rule(
        "mapped",
        "1: by a port of this address",
        steps![IS_IPV4, [DESTINATION4], BY_PORTS4],
    ),
    rule(
        "mapped",
        "1: by a port of every address",
        steps![
            IS_IPV4,
            [
                DESTINATION4,
                Mask {
                    register: FIRST,
                    bits: [0; 4]
                }
            ],
            BY_PORTS4
        ],
    ),
    rule(
        "mapped",
        "1: by a port of this IPv6 address",
        steps![IS_IPV6, [DESTINATION6], BY_PORTS6],
    ),
    rule(
        "mapped",
        "1: by a port of every IPv6 address",
        steps![
            IS_IPV6,
            [DESTINATION6, Clear { register: FIRST }],
            BY_PORTS6
        ],
    ),
    rule(
        "postrouting",
        "1: by its uplink",
        steps![
            IS_IPV4,
            [
                SOURCE4,
                to_link(AFTER_IPV4),
                In {
                    set: UPLINKS4,
                    key: FIRST
                }
            ],
            [Masquerade],
        ],
    ),
    rule(
        "postrouting",
        "1: by its uplink, IPv6",
        steps![
            IS_IPV6,
            [
                SOURCE6,
                to_link(AFTER_IPV6),
                In {
                    set: UPLINKS6,
                    key: FIRST
                }
            ],
            [Masquerade],
        ],
    ),
    // A container could not answer to 127.0.0.1: that would be itself.
    rule(
        "postrouting",
        "1: from the host's loopback to a container",
        steps![
            [to_link(FIRST), IS_BRIDGE],
            IS_IPV4,
            IS_FROM_LOOPBACK,
            [Masquerade]
        ],
    ),
    // Client and server stand on one bridge and would answer each other past the mapping. By the client's address,
    // and not by the link it comes from: where the host's rules see bridged packets (br_netfilter), there is no such
    // link here.
    rule(
        "postrouting",
        "1: from a container by a mapping to a container",
        steps![
            IS_IPV4,
            [
                SOURCE4,
                In {
                    set: CONTAINERS,
                    key: FIRST
                },
                to_link(FIRST),
                IS_BRIDGE
            ],
            IS_MAPPED,
            [Masquerade],
        ],
    ),
    rule(
        "postrouting",
        "1: from a container by a mapping to a container, IPv6",
        steps![
            IS_IPV6,
            [
                SOURCE6,
                In {
                    set: CONTAINERS6,
                    key: FIRST
                },
                to_link(FIRST),
                IS_BRIDGE
            ],
            IS_MAPPED,
            [Masquerade],
        ],
    ),
    rule("forward", "1: by a mapping", steps![IS_MAPPED, [Accept]]),
    // What stands behind the masquerade is not reached from outside unasked, even where somebody has a route to it.
    rule(
        "forward",
        "1: unasked from outside",
        steps![
            IS_NEW,
            IS_IPV4,
            [
                DESTINATION4,
                from_link(AFTER_IPV4),
                In {
                    set: UPLINKS4,
                    key: FIRST
                }
            ],
            [Step::Drop],
        ],
    ),
    rule(
        "forward",
        "1: unasked from outside, IPv6",
        steps![
            IS_NEW,
            IS_IPV6,
            [
                DESTINATION6,
                from_link(AFTER_IPV6),
                In {
                    set: UPLINKS6,
                    key: FIRST
                }
            ],
            [Step::Drop],
        ],
    ),
];
