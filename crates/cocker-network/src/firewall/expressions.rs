//! The steps that a rule of nf_tables is made of, as messages have them (linux/netfilter/nf_tables.h).
//!
//! A rule's steps run one after the other on registers; the first one that does not hold ends the rule. Registers of
//! 16 bytes are numbered from 1, those of 4 bytes from 8, over the same memory: 1 is 8 to 11, so a key of an address,
//! a protocol and a port lies in 1, 9, 10, and with an IPv6 address in 1, 12, 13.

use crate::netlink::Message;
use crate::netlink::numbers::*;

/// One step.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// Loads something about the packet: `NFT_META_…`.
    Meta {
        key: u16,
        to: u16,
    },
    /// Loads part of a header.
    Payload {
        header: u16,
        offset: u32,
        length: u32,
        to: u16,
    },
    /// Loads something about its connection: `NFT_CT_…`.
    Connection {
        key: u16,
        to: u16,
    },
    /// Loads what the packet's destination is to this host (`RTN_LOCAL` and so on).
    DestinationKind {
        to: u16,
    },
    /// Four bytes, and these bits of them.
    Mask {
        register: u16,
        bits: [u8; 4],
    },
    /// Sixteen bytes become nothing.
    Clear {
        register: u16,
    },
    Equals {
        register: u16,
        value: &'static [u8],
    },
    Differs {
        register: u16,
        value: &'static [u8],
    },
    /// Is in the set.
    In {
        set: &'static str,
        key: u16,
    },
    /// Loads what the map has for a key.
    Look {
        map: &'static str,
        key: u16,
        to: u16,
    },
    Accept,
    Drop,
    Jump {
        chain: &'static str,
    },
    /// Gives the packet another destination: address and port from registers.
    Redirect {
        family: u16,
        address: u16,
        port: u16,
    },
    /// Gives the packet the address of the link that it leaves by as its source.
    Masquerade,
}

/// Puts the steps of a rule into its message.
pub(super) fn put(message: &mut Message<'_>, steps: &[Step]) {
    message.nest(NFTA_RULE_EXPRESSIONS, |list| {
        for step in steps {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.put_text(NFTA_EXPR_NAME, step.name());
                element.nest(NFTA_EXPR_DATA, |data| step.put(data));
            });
        }
    });
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Step::Meta { .. } => "meta",
            Step::Payload { .. } => "payload",
            Step::Connection { .. } => "ct",
            Step::DestinationKind { .. } => "fib",
            Step::Mask { .. } | Step::Clear { .. } => "bitwise",
            Step::Equals { .. } | Step::Differs { .. } => "cmp",
            Step::In { .. } | Step::Look { .. } => "lookup",
            Step::Accept | Step::Drop | Step::Jump { .. } => "immediate",
            Step::Redirect { .. } => "nat",
            Step::Masquerade => "masq",
        }
    }

    fn put(&self, data: &mut Message<'_>) {
        let mut number = |kind, value: u32| {
            data.put_number_be(kind, value);
        };
        match *self {
            Step::Meta { key, to } => {
                number(NFTA_META_KEY, key.into());
                number(NFTA_META_DREG, to.into());
            }
            Step::Payload {
                header,
                offset,
                length,
                to,
            } => {
                number(NFTA_PAYLOAD_DREG, to.into());
                number(NFTA_PAYLOAD_BASE, header.into());
                number(NFTA_PAYLOAD_OFFSET, offset);
                number(NFTA_PAYLOAD_LEN, length);
            }
            Step::Connection { key, to } => {
                number(NFTA_CT_KEY, key.into());
                number(NFTA_CT_DREG, to.into());
            }
            Step::DestinationKind { to } => {
                number(NFTA_FIB_DREG, to.into());
                number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE.into());
                number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR.into());
            }
            Step::Mask { register, bits } => put_mask(data, register, &bits),
            Step::Clear { register } => put_mask(data, register, &[0; 16]),
            Step::Equals { register, value } => put_comparison(data, register, NFT_CMP_EQ, value),
            Step::Differs { register, value } => put_comparison(data, register, NFT_CMP_NEQ, value),
            Step::In { set, key } => {
                number(NFTA_LOOKUP_SREG, key.into());
                data.put_text(NFTA_LOOKUP_SET, set);
            }
            Step::Look { map, key, to } => {
                number(NFTA_LOOKUP_SREG, key.into());
                number(NFTA_LOOKUP_DREG, to.into());
                data.put_text(NFTA_LOOKUP_SET, map);
            }
            Step::Accept => put_verdict(data, NF_ACCEPT.into(), None),
            Step::Drop => put_verdict(data, NF_DROP.into(), None),
            Step::Jump { chain } => put_verdict(data, NFT_JUMP, Some(chain)),
            Step::Redirect {
                family,
                address,
                port,
            } => {
                number(NFTA_NAT_TYPE, NFT_NAT_DNAT.into());
                number(NFTA_NAT_FAMILY, family.into());
                number(NFTA_NAT_REG_ADDR_MIN, address.into());
                number(NFTA_NAT_REG_PROTO_MIN, port.into());
            }
            Step::Masquerade => {}
        }
    }
}

fn put_mask(data: &mut Message<'_>, register: u16, bits: &[u8]) {
    data.put_number_be(NFTA_BITWISE_SREG, register.into());
    data.put_number_be(NFTA_BITWISE_DREG, register.into());
    data.put_number_be(NFTA_BITWISE_LEN, bits.len() as u32);
    data.nest(NFTA_BITWISE_MASK, |mask| {
        mask.put(NFTA_DATA_VALUE, bits);
    });
    data.nest(NFTA_BITWISE_XOR, |xor| {
        xor.put(NFTA_DATA_VALUE, &vec![0; bits.len()]);
    });
}

fn put_comparison(data: &mut Message<'_>, register: u16, operation: u16, value: &[u8]) {
    data.put_number_be(NFTA_CMP_SREG, register.into());
    data.put_number_be(NFTA_CMP_OP, operation.into());
    data.nest(NFTA_CMP_DATA, |wanted| {
        wanted.put(NFTA_DATA_VALUE, value);
    });
}

fn put_verdict(data: &mut Message<'_>, code: i32, chain: Option<&str>) {
    data.put_number_be(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT.into());
    data.nest(NFTA_IMMEDIATE_DATA, |immediate| {
        immediate.nest(NFTA_DATA_VERDICT, |verdict| {
            verdict.put_number_be(NFTA_VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                verdict.put_text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}
