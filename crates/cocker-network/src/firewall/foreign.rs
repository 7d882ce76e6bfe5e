//! Other programs' tables that drop what is forwarded, so that a container's packets do not get through: nobody's
//! rules are touched, but the user is told.

use super::batch::{header, kind};
use super::ruleset::TABLE;
use crate::netlink::numbers::*;
use crate::netlink::{Attributes, Messages, Netlink, Refusal, number_be, text};
use std::ops::ControlFlow;

/// A chain of somebody else's that drops what a bridge forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardBlock {
    /// `ip`, `ip6` or `inet`, as nft(8) calls them.
    pub family: &'static str,
    pub table: String,
    pub chain: String,
    /// The line that would let the bridge's packets through.
    pub remedy: String,
}

/// firewalld refuses what it does not know by a last rule and not by its chain's policy.
const FIREWALLD: &str = "firewalld";

pub(super) fn forward_blocks(
    netlink: &mut Netlink,
    bridge: &str,
) -> Result<Vec<ForwardBlock>, Refusal> {
    let mut blocks = Vec::new();
    for block in dropping_chains(netlink, bridge)? {
        if !lets_through(netlink, &block, bridge)? {
            blocks.push(block);
        }
    }
    Ok(blocks)
}

fn dropping_chains(netlink: &mut Netlink, bridge: &str) -> Result<Vec<ForwardBlock>, Refusal> {
    let mut messages = Messages::new();
    let every = header(NFPROTO_UNSPEC);
    messages.begin(
        "list the chains",
        kind(NFT_MSG_GETCHAIN),
        NLM_F_DUMP,
        &every,
    );
    let mut found = Vec::new();
    netlink.ask(messages, |answer| {
        found.extend(
            answer
                .split()
                .and_then(|(header, chain)| dropping_chain(header, chain, bridge)),
        );
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn dropping_chain(header: [u8; 4], found: Attributes<'_>, bridge: &str) -> Option<ForwardBlock> {
    let family = match u16::from(header[0]) {
        NFPROTO_IPV4 => "ip",
        NFPROTO_IPV6 => "ip6",
        NFPROTO_INET => "inet",
        _ => return None,
    };
    let place = found.nest(NFTA_CHAIN_HOOK).find(NFTA_HOOK_HOOKNUM)?;
    if number_be(place)? != NF_INET_FORWARD.into() {
        return None;
    }
    let table = text(found.find(NFTA_CHAIN_TABLE)?);
    let chain = text(found.find(NFTA_CHAIN_NAME)?);
    let policy = found.find(NFTA_CHAIN_POLICY).and_then(number_be)?;
    let drops = policy == NF_DROP.into() || table == FIREWALLD;
    if !drops || (family == "inet" && table == TABLE) {
        return None;
    }
    let remedy = remedy(family, &table, &chain, bridge);
    Some(ForwardBlock {
        family,
        table,
        chain,
        remedy,
    })
}

fn remedy(family: &str, table: &str, chain: &str, bridge: &str) -> String {
    let is_of_iptables = table == "filter" && chain == "FORWARD";
    let iptables = match family {
        "ip6" => "ip6tables",
        _ => "iptables",
    };
    match (table, is_of_iptables) {
        (FIREWALLD, _) => format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={bridge} && firewall-cmd --reload"
        ),
        (_, true) => format!(
            "{iptables} -I FORWARD -i {bridge} -j ACCEPT && {iptables} -I FORWARD -o {bridge} -j ACCEPT"
        ),
        (_, false) => format!(
            "nft 'insert rule {family} {table} {chain} iifname \"{bridge}\" accept; \
             insert rule {family} {table} {chain} oifname \"{bridge}\" accept'"
        ),
    }
}

/// Says whether some rule of the table names the bridge and goes on from there, both for what comes from it and for
/// what goes to it. Which rule comes first is the administrator's business.
fn lets_through(
    netlink: &mut Netlink,
    block: &ForwardBlock,
    bridge: &str,
) -> Result<bool, Refusal> {
    let family = match block.family {
        "ip" => NFPROTO_IPV4,
        "ip6" => NFPROTO_IPV6,
        _ => NFPROTO_INET,
    };
    let mut messages = Messages::new();
    messages
        .begin(
            "list the rules",
            kind(NFT_MSG_GETRULE),
            NLM_F_DUMP,
            &header(family),
        )
        .put_text(NFTA_RULE_TABLE, &block.table);
    let (mut from, mut to) = (false, false);
    netlink.ask(messages, |answer| {
        if let Some((_, rule)) = answer.split::<4>() {
            let names = |key| names_link(rule.nest(NFTA_RULE_EXPRESSIONS), key, bridge);
            let goes_on = !verdict_is_drop(rule.nest(NFTA_RULE_EXPRESSIONS));
            from |= goes_on && names(NFT_META_IIFNAME);
            to |= goes_on && names(NFT_META_OIFNAME);
        }
        ControlFlow::Continue(())
    })?;
    // A zone of firewalld is named by where packets come from alone.
    Ok(from && (to || block.table == FIREWALLD))
}

/// Says whether the rule compares the name of the link it asks for with `link`'s, or with a beginning of it.
fn names_link(steps: Attributes<'_>, key: u16, link: &str) -> bool {
    let mut was_asked = false;
    for (name, data) in steps_of(steps) {
        match name.as_str() {
            "meta" => was_asked = data.find(NFTA_META_KEY).and_then(number_be) == Some(key.into()),
            "cmp" if was_asked => {
                let is_equal =
                    data.find(NFTA_CMP_OP).and_then(number_be) == Some(NFT_CMP_EQ.into());
                let value = data
                    .nest(NFTA_CMP_DATA)
                    .find(NFTA_DATA_VALUE)
                    .unwrap_or_default();
                if is_equal && is_name_or_beginning(value, link) {
                    return true;
                }
            }
            _ => was_asked = false,
        }
    }
    false
}

/// A whole name is compared with its NUL, a beginning (`cocker*`) without.
fn is_name_or_beginning(value: &[u8], link: &str) -> bool {
    match value.iter().position(|&byte| byte == 0) {
        Some(end) => &value[..end] == link.as_bytes(),
        None => !value.is_empty() && link.as_bytes().starts_with(value),
    }
}

fn verdict_is_drop(steps: Attributes<'_>) -> bool {
    steps_of(steps).any(|(name, data)| {
        let verdict = data.nest(NFTA_IMMEDIATE_DATA).nest(NFTA_DATA_VERDICT);
        let is_drop = verdict.find(NFTA_VERDICT_CODE).and_then(number_be) == Some(NF_DROP.into());
        name == "reject" || (name == "immediate" && is_drop)
    })
}

fn steps_of(steps: Attributes<'_>) -> impl Iterator<Item = (String, Attributes<'_>)> {
    steps.into_iter().map(|(_, step)| {
        let step = Attributes(step);
        let name = step.find(NFTA_EXPR_NAME).map(text).unwrap_or_default();
        (name, step.nest(NFTA_EXPR_DATA))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_whole_or_by_its_beginning() {
        assert!(is_name_or_beginning(b"cocker0\0", "cocker0"));
        assert!(is_name_or_beginning(b"cocker", "cocker0"));
        assert!(!is_name_or_beginning(b"cocker\0", "cocker0"));
        assert!(!is_name_or_beginning(b"eth0\0", "cocker0"));
        assert!(!is_name_or_beginning(b"", "cocker0"));
    }

    #[test]
    fn the_remedy_speaks_the_language_of_the_one_who_drops() {
        assert!(
            remedy("ip", "filter", "FORWARD", "cocker0")
                .starts_with("iptables -I FORWARD -i cocker0")
        );
        assert!(
            remedy("inet", "firewalld", "filter_FORWARD", "cocker0").starts_with("firewall-cmd")
        );
        assert!(
            remedy("inet", "mine", "fw", "cocker0").starts_with("nft 'insert rule inet mine fw")
        );
    }
}
