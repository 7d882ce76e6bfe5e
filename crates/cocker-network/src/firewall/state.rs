//! What the kernel has of the table, beside what it should have.

use super::batch::{ask_for_element, comment_in, header, kind};
use super::entry::link_name;
use super::ruleset::{BRIDGES, CHAINS, Chain, FAMILIES, SENDERS4, SETS, Set, TABLE, rules};
use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Messages, Netlink, Refusal, number_be, text};
use std::ops::ControlFlow;

pub(super) struct State {
    /// Of all of nf_tables; counts every transaction.
    pub generation: u32,
    /// The families that have the table, in whatever state.
    pub families: Vec<u16>,
    /// The table's sets and chains are as they should be.
    pub has_frame: bool,
    /// The frame, and in our chains our rules and no other.
    pub is_right: bool,
    pub has_bridge: bool,
    /// How many ports both maps hold; none where the kernel does not count.
    pub ports: Option<usize>,
    /// How many addresses containers may send in the name of; none where the kernel does not count.
    pub senders: Option<usize>,
    sets: Vec<&'static str>,
}

impl State {
    pub(super) fn has_all_sets(&self) -> bool {
        self.sets.len() == SETS.len()
    }

    /// The sets whose elements can be taken over.
    pub(super) fn sound_sets(&self) -> impl Iterator<Item = &'static str> {
        self.sets.iter().copied()
    }
}

/// Which generation of all tables this is.
pub(super) fn generation(netlink: &mut Netlink) -> Result<u32, Refusal> {
    let mut messages = Messages::new();
    ask_for_generation(&mut messages);
    let mut generation = 0;
    netlink.ask(messages, |answer| {
        let id = answer
            .split()
            .and_then(|(_, rest): ([u8; 4], _)| rest.find(NFTA_GEN_ID));
        generation = id.and_then(number_be).unwrap_or(0);
        ControlFlow::Continue(())
    })?;
    Ok(generation)
}

/// The families that have the table, in whatever state.
pub(super) fn families(netlink: &mut Netlink) -> Result<Vec<u16>, Refusal> {
    let mut messages = Messages::new();
    ask_for_tables(&mut messages);
    let mut found = Vec::new();
    netlink.ask(messages, |answer| {
        let header = answer.split::<4>().map(|(header, _)| header);
        found.extend(header.map(|header| u16::from(header[0])));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub(super) fn read(netlink: &mut Netlink, bridge: &str) -> Result<State, Refusal> {
    let mut state = State {
        generation: 0,
        families: Vec::new(),
        has_frame: false,
        is_right: false,
        has_bridge: false,
        ports: None,
        senders: None,
        sets: Vec::new(),
    };
    let mut is_dormant = false;
    let mut chains = 0;
    netlink.ask(questions(bridge), |answer| {
        let Some((family, found)) = answer.split::<4>() else {
            return ControlFlow::Continue(());
        };
        let family = u16::from(family[0]);
        match answer.kind & 0xff {
            NFT_MSG_NEWGEN => {
                state.generation = found.find(NFTA_GEN_ID).and_then(number_be).unwrap_or(0);
            }
            NFT_MSG_NEWTABLE => {
                state.families.push(family);
                is_dormant |= found.find(NFTA_TABLE_FLAGS).and_then(number_be) != Some(0);
            }
            NFT_MSG_NEWCHAIN => {
                let is_ours = |chain: &Chain| chain.family == family && is_chain(chain, found);
                chains += usize::from(CHAINS.iter().any(is_ours));
            }
            NFT_MSG_NEWSET => {
                let mut ours = SETS.iter().filter(|set| set.family == family);
                let set = ours.find(|set| is_set(set, found));
                state.sets.extend(set.map(|set| set.name));
                let count = found.find(NFTA_SET_COUNT).and_then(number_be);
                let count = count.map(|count| count as usize);
                if set.is_some_and(|set| set.name == SENDERS4) {
                    state.senders = count;
                }
                if set.is_some_and(|set| set.data.is_some()) {
                    state.ports = count.map(|count| state.ports.unwrap_or(0) + count);
                }
            }
            NFT_MSG_NEWSETELEM => state.has_bridge = true,
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    let has_all = chains == CHAINS.len() && state.has_all_sets();
    let has_tables = state.families.len() == FAMILIES.len();
    state.has_frame = has_tables && !is_dormant && has_all;
    state.is_right = state.has_frame && has_all_rules(netlink)?;
    Ok(state)
}

fn questions(bridge: &str) -> Messages {
    let mut messages = Messages::new();
    ask_for_generation(&mut messages);
    ask_for_tables(&mut messages);
    for chain in &CHAINS {
        let what = format!("find chain `{}`", chain.name);
        messages
            .begin(what, kind(NFT_MSG_GETCHAIN), 0, &header(chain.family))
            .put_text(NFTA_CHAIN_TABLE, TABLE)
            .put_text(NFTA_CHAIN_NAME, chain.name);
    }
    for set in &SETS {
        let what = format!("find set `{}`", set.name);
        messages
            .begin(what, kind(NFT_MSG_GETSET), 0, &header(set.family))
            .put_text(NFTA_SET_TABLE, TABLE)
            .put_text(NFTA_SET_NAME, set.name);
    }
    ask_for_element(&mut messages, BRIDGES, &link_name(bridge));
    messages
}

fn ask_for_tables(messages: &mut Messages) {
    for family in FAMILIES {
        messages
            .begin("find the table", kind(NFT_MSG_GETTABLE), 0, &header(family))
            .put_text(NFTA_TABLE_NAME, TABLE);
    }
}

fn ask_for_generation(messages: &mut Messages) {
    let unspecified = header(NFPROTO_UNSPEC);
    messages.begin(
        "ask for the generation",
        kind(NFT_MSG_GETGEN),
        0,
        &unspecified,
    );
}

fn is_chain(chain: &Chain, found: Attributes<'_>) -> bool {
    let number = |attributes: Attributes<'_>, kind| attributes.find(kind).and_then(number_be);
    let place = found.nest(NFTA_CHAIN_HOOK);
    let is_named = found.find(NFTA_CHAIN_NAME).map(text).as_deref() == Some(chain.name);
    is_named
        && match chain.hook {
            None => found.find(NFTA_CHAIN_HOOK).is_none(),
            Some(hook) => {
                number(place, NFTA_HOOK_HOOKNUM) == Some(hook.place.into())
                    && number(place, NFTA_HOOK_PRIORITY) == Some(hook.priority as u32)
                    && number(found, NFTA_CHAIN_POLICY) == Some(NF_ACCEPT.into())
                    && found.find(NFTA_CHAIN_TYPE).map(text).as_deref() == Some(hook.kind)
            }
        }
}

fn is_set(set: &Set, found: Attributes<'_>) -> bool {
    let number = |kind| found.find(kind).and_then(number_be);
    let flags = match set.data {
        Some(_) => NFT_SET_MAP.into(),
        None => 0,
    };
    found.find(NFTA_SET_NAME).map(text).as_deref() == Some(set.name)
        && number(NFTA_SET_FLAGS).unwrap_or(0) == flags
        && number(NFTA_SET_KEY_TYPE) == Some(set.key.number)
        && number(NFTA_SET_KEY_LEN) == Some(set.key.length)
        && number(NFTA_SET_DATA_TYPE) == set.data.map(|data| data.number)
        && number(NFTA_SET_DATA_LEN) == set.data.map(|data| data.length)
}

/// Says whether each of our chains has our rules in their order and no other.
fn has_all_rules(netlink: &mut Netlink) -> Result<bool, Refusal> {
    let mut present: Vec<(String, String)> = Vec::new();
    // One after the other: the kernel has one dump at a time under way on a socket.
    for family in FAMILIES {
        let mut messages = Messages::new();
        let family = header(family);
        messages
            .begin("list the rules", kind(NFT_MSG_GETRULE), NLM_F_DUMP, &family)
            .put_text(NFTA_RULE_TABLE, TABLE);
        netlink.ask(messages, |answer| {
            if let Some((_, found)) = answer.split::<4>()
                && found.find(NFTA_RULE_TABLE).map(text).as_deref() == Some(TABLE)
            {
                let chain = found.find(NFTA_RULE_CHAIN).map(text).unwrap_or_default();
                let comment = found.find(NFTA_RULE_USERDATA).and_then(comment_in);
                present.push((chain, comment.unwrap_or_default()));
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(CHAINS.iter().all(|chain| {
        let found = present.iter().filter(|(of, _)| of == chain.name);
        let wanted = rules().filter(|rule| rule.chain == chain.name);
        found
            .map(|(_, comment)| comment.as_str())
            .eq(wanted.map(|rule| rule.comment))
    }))
}
