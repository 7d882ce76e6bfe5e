//! One transaction of nf_tables: all of it is done, or nothing.

use super::expressions;
use super::ruleset::{Chain, FAMILIES, Rule, Set, TABLE, Type, family_of_set};
use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Message, Messages, Netlink, Refusal, text};

/// An element of one of the table's sets, in the bytes of its registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub set: &'static str,
    pub key: Vec<u8>,
    /// What a map leads to.
    pub data: Option<Vec<u8>>,
    pub comment: Option<String>,
}

/// Messages of one transaction, from its begin to its end.
pub(super) struct Batch {
    messages: Messages,
}

/// What is done to an element that is there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IfThere {
    Refuse,
    Keep,
}

pub(super) const fn kind(message: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | message
}

/// struct nfgenmsg of linux/netfilter/nfnetlink.h.
pub(super) const fn header(family: u16) -> [u8; 4] {
    [family as u8, 0, 0, 0]
}

const WHOLE_BATCH: [u8; 4] = [0, 0, 0, NFNL_SUBSYS_NFTABLES as u8];

/// How nft(8) is told to read a key of text (libnftnl's `NFTNL_UDATA_SET_KEYBYTEORDER`, host order).
const KEY_IN_HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};

/// Elements in one message: their list must stay below 64 KiB, and none takes more than 400 bytes.
const MOST_IN_A_MESSAGE: usize = 150;

impl Batch {
    /// With a generation, the transaction is refused (`ERESTART`) when anything of nf_tables has changed since.
    pub(super) fn begin(generation: Option<u32>) -> Batch {
        let mut messages = Messages::new();
        let what = "change the packet filter";
        let mut begin = messages.begin(what, NFNL_MSG_BATCH_BEGIN, 0, &WHOLE_BATCH);
        if let Some(generation) = generation {
            begin.put_number_be(NFNL_BATCH_GENID, generation);
        }
        drop(begin);
        Batch { messages }
    }

    pub(super) fn commit(mut self, netlink: &mut Netlink) -> Result<(), Refusal> {
        let what = "change the packet filter";
        self.messages
            .begin(what, NFNL_MSG_BATCH_END, 0, &WHOLE_BATCH);
        netlink.change(self.messages)
    }

    fn message(&mut self, family: u16, what: String, message: u16, flags: u16) -> Message<'_> {
        self.messages
            .begin(what, kind(message), flags, &header(family))
    }

    /// In each of the two families.
    pub(super) fn make_tables(&mut self) {
        for family in FAMILIES {
            let what = format!("make table `{TABLE}`");
            self.message(family, what, NFT_MSG_NEWTABLE, NLM_F_CREATE)
                .put_text(NFTA_TABLE_NAME, TABLE);
        }
    }

    pub(super) fn remove_table(&mut self, family: u16) {
        let what = format!("remove table `{TABLE}`");
        self.message(family, what, NFT_MSG_DELTABLE, 0)
            .put_text(NFTA_TABLE_NAME, TABLE);
    }

    /// `number` tells the new set from the others of this transaction.
    pub(super) fn make_set(&mut self, set: &Set, number: u32) {
        let what = format!("make set `{}`", set.name);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let mut message = self.message(set.family, what, NFT_MSG_NEWSET, flags);
        message
            .put_text(NFTA_SET_TABLE, TABLE)
            .put_text(NFTA_SET_NAME, set.name)
            .put_number_be(NFTA_SET_ID, number)
            .put_number_be(NFTA_SET_KEY_TYPE, set.key.number)
            .put_number_be(NFTA_SET_KEY_LEN, set.key.length);
        if set.key.is_text() {
            message.put(NFTA_SET_USERDATA, &KEY_IN_HOST_ORDER);
        }
        if let Some(Type { number, length }) = set.data {
            message
                .put_number_be(NFTA_SET_FLAGS, NFT_SET_MAP.into())
                .put_number_be(NFTA_SET_DATA_TYPE, number)
                .put_number_be(NFTA_SET_DATA_LEN, length);
        }
    }

    pub(super) fn make_chain(&mut self, chain: &Chain) {
        let what = format!("make chain `{}`", chain.name);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let mut message = self.message(chain.family, what, NFT_MSG_NEWCHAIN, flags);
        message
            .put_text(NFTA_CHAIN_TABLE, TABLE)
            .put_text(NFTA_CHAIN_NAME, chain.name);
        if let Some(hook) = chain.hook {
            message
                .nest(NFTA_CHAIN_HOOK, |place| {
                    place.put_number_be(NFTA_HOOK_HOOKNUM, hook.place.into());
                    place.put_number_be(NFTA_HOOK_PRIORITY, hook.priority as u32);
                })
                .put_number_be(NFTA_CHAIN_POLICY, NF_ACCEPT.into())
                .put_text(NFTA_CHAIN_TYPE, hook.kind);
        }
    }

    pub(super) fn append_rule(&mut self, rule: &Rule) {
        let what = format!("make rule `{}`", rule.comment);
        let flags = NLM_F_CREATE | NLM_F_APPEND;
        let mut message = self.message(rule.family(), what, NFT_MSG_NEWRULE, flags);
        message
            .put_text(NFTA_RULE_TABLE, TABLE)
            .put_text(NFTA_RULE_CHAIN, rule.chain)
            .put(NFTA_RULE_USERDATA, &comment(rule.comment));
        expressions::put(&mut message, rule.steps);
    }

    /// All of them, of all chains of this family's table.
    pub(super) fn remove_rules(&mut self, family: u16) {
        self.message(family, "remove the rules".into(), NFT_MSG_DELRULE, 0)
            .put_text(NFTA_RULE_TABLE, TABLE);
    }

    /// Elements of one set stand together.
    pub(super) fn add(&mut self, elements: &[Element], if_there: IfThere) {
        let flags = match if_there {
            IfThere::Refuse => NLM_F_CREATE | NLM_F_EXCL,
            IfThere::Keep => NLM_F_CREATE,
        };
        self.elements("make elements of", NFT_MSG_NEWSETELEM, flags, elements);
    }

    pub(super) fn remove(&mut self, elements: &[Element]) {
        self.elements("remove elements of", NFT_MSG_DELSETELEM, 0, elements);
    }

    fn elements(&mut self, what: &str, message: u16, flags: u16, elements: &[Element]) {
        for of_one_set in elements.chunk_by(|one, other| one.set == other.set) {
            for part in of_one_set.chunks(MOST_IN_A_MESSAGE) {
                let family = family_of_set(part[0].set);
                let what = format!("{what} set `{}`", part[0].set);
                put_elements(&mut self.message(family, what, message, flags), part);
            }
        }
    }
}

fn put_elements(message: &mut Message<'_>, elements: &[Element]) {
    message
        .put_text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .put_text(NFTA_SET_ELEM_LIST_SET, elements[0].set)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, |list| {
            for element in elements {
                list.nest(NFTA_LIST_ELEM, |part| put_element(part, element));
            }
        });
}

fn put_element(part: &mut Message<'_>, element: &Element) {
    part.nest(NFTA_SET_ELEM_KEY, |key| {
        key.put(NFTA_DATA_VALUE, &element.key);
    });
    if let Some(data) = &element.data {
        part.nest(NFTA_SET_ELEM_DATA, |nest| {
            nest.put(NFTA_DATA_VALUE, data);
        });
    }
    if let Some(words) = &element.comment {
        part.put(NFTA_SET_ELEM_USERDATA, &comment(words));
    }
}

/// Asks for one element.
pub(super) fn ask_for_element(messages: &mut Messages, set: &'static str, key: &[u8]) {
    let what = format!("find an element of set `{set}`");
    let family = header(family_of_set(set));
    let mut message = messages.begin(what, kind(NFT_MSG_GETSETELEM), 0, &family);
    let wanted = Element {
        set,
        key: key.into(),
        data: None,
        comment: None,
    };
    put_elements(&mut message, &[wanted]);
}

/// Asks for all elements of a set.
pub(super) fn ask_for_elements(messages: &mut Messages, set: &str) {
    let what = format!("list the elements of set `{set}`");
    let family = header(family_of_set(set));
    messages
        .begin(what, kind(NFT_MSG_GETSETELEM), NLM_F_DUMP, &family)
        .put_text(NFTA_SET_ELEM_LIST_TABLE, TABLE)
        .put_text(NFTA_SET_ELEM_LIST_SET, set);
}

/// The elements in an answer about `set`.
pub(super) fn elements_in(set: &'static str, attributes: Attributes<'_>) -> Vec<Element> {
    let list = attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS).into_iter();
    list.filter_map(|(_, element)| {
        let element = Attributes(element);
        let value = |kind| element.nest(kind).find(NFTA_DATA_VALUE).map(Vec::from);
        Some(Element {
            set,
            key: value(NFTA_SET_ELEM_KEY)?,
            data: value(NFTA_SET_ELEM_DATA),
            comment: element.find(NFTA_SET_ELEM_USERDATA).and_then(comment_in),
        })
    })
    .collect()
}

/// Bytes: the kernel takes 256 of user data (`NFT_USERDATA_MAXLEN`), three of which are spent around the text.
pub(super) const LONGEST_COMMENT: usize = 253;

/// Text that nft(8) shows as a comment: a piece of user data of kind 0 (libnftnl's `NFTNL_UDATA_…_COMMENT`), with its
/// NUL.
fn comment(words: &str) -> Vec<u8> {
    let mut end = words.len().min(LONGEST_COMMENT);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let length = end as u8 + 1;
    [&[0, length], &words.as_bytes()[..end], &[0]].concat()
}

/// The comment in user data, where there is one.
pub(super) fn comment_in(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, pieces @ ..] = rest {
        let (piece, behind) = pieces.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(text(piece));
        }
        rest = behind;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_comes_back_and_is_never_longer_than_the_kernel_takes() {
        assert_eq!(comment_in(&comment("web")), Some("web".into()));
        let long = "ä".repeat(200);
        let kept = comment(&long);
        assert!(kept.len() <= 256);
        assert!(long.starts_with(&comment_in(&kept).unwrap()));
        assert_eq!(comment_in(&[1, 2, 9, 9, 0, 2, b'x', 0]), Some("x".into()));
        assert_eq!(comment_in(&[0, 9, b'x']), None);
    }
}
