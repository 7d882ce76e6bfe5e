//! The tables of the old iptables, which are not nf_tables: looked at as iptables itself does, by options of a raw
//! socket (linux/netfilter_ipv4/ip_tables.h and its IPv6 twin).
//!
//! ```text
//!  entry = what it matches (addresses, names of links) · offsets · counters · matches · target
//!  a chain's policy is its last entry, a target without a name whose verdict is -(NF_…) - 1
//! ```

use super::foreign::ForwardBlock;
use cocker_sys::socket::read_option;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// What differs between the two families.
struct Layout {
    family: &'static str,
    program: &'static str,
    /// Which tables are there; asking for one that is not would make it.
    names: &'static str,
    domain: AddressFamily,
    level: i32,
    /// In an entry: the names of the links that it matches, in and out, with their masks 32 bytes on.
    links: usize,
    /// In an entry: where its target is and where the next entry begins, both as u16.
    offsets: usize,
}

const LAYOUTS: [Layout; 2] = [
    Layout {
        family: "ip",
        program: "iptables-legacy",
        names: "/proc/net/ip_tables_names",
        domain: AddressFamily::INET,
        level: libc::SOL_IP,
        links: 16,
        offsets: 88,
    },
    Layout {
        family: "ip6",
        program: "ip6tables-legacy",
        names: "/proc/net/ip6_tables_names",
        domain: AddressFamily::INET6,
        level: libc::SOL_IPV6,
        links: 64,
        offsets: 140,
    },
];

const TABLE: &[u8] = b"filter";
/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; IPv6 has the same numbers.
const INFO: i32 = 64;
const ENTRIES: i32 = 65;

/// struct ipt_getinfo: name, hooks (u32), 5 starts, 5 policies, number of entries, bytes of them.
const INFO_SIZE: usize = 84;
const POLICIES: usize = 56;
const BYTES: usize = 80;
/// struct ipt_get_entries before the entries: name, bytes (u32), filled up to a multiple of 8.
const HEAD: usize = 40;
const NAME: usize = 32;

/// The hook of what is forwarded, in the lists of starts and policies.
const FORWARD: usize = 2;

/// In a target: its name, empty for a verdict, and the verdict (struct xt_standard_target).
const TARGET_NAME: std::ops::Range<usize> = 2..31;
const VERDICT: usize = 32;
const DROP: i32 = -1;

/// Who of the old tables drops what the bridge forwards. What cannot be read drops nothing as far as anybody can say.
pub(super) fn forward_blocks(bridge: &str) -> Vec<ForwardBlock> {
    let blocks = LAYOUTS.iter().filter_map(|layout| {
        let names = std::fs::read(layout.names).unwrap_or_default();
        let is_there = names.split(|&byte| byte == b'\n').any(|name| name == TABLE);
        let table = is_there.then(|| read(layout).ok()).flatten()?;
        (table.drops_forwarded() && !table.lets_through(bridge)).then(|| block(layout, bridge))
    });
    blocks.collect()
}

fn block(layout: &Layout, bridge: &str) -> ForwardBlock {
    let Layout {
        family, program, ..
    } = layout;
    ForwardBlock {
        family,
        table: "filter".into(),
        chain: "FORWARD".into(),
        remedy: format!(
            "{program} -I FORWARD -i {bridge} -j ACCEPT && {program} -I FORWARD -o {bridge} -j ACCEPT"
        ),
    }
}

struct Table<'a> {
    layout: &'a Layout,
    /// Where the policy of what is forwarded stands in `entries`.
    policy: usize,
    entries: Vec<u8>,
}

fn read(layout: &Layout) -> Result<Table<'_>, Errno> {
    let socket: OwnedFd = rustix::net::socket_with(
        layout.domain,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(rustix::net::ipproto::RAW),
    )?;
    let mut info = [0; INFO_SIZE];
    info[..TABLE.len()].copy_from_slice(TABLE);
    read_option(socket.as_fd(), layout.level, INFO, &mut info)?;
    let number = |at: usize| u32_at(&info, at).map(|number| number as usize);
    let policy = number(POLICIES + 4 * FORWARD).ok_or(Errno::PROTO)?;
    let bytes = number(BYTES).ok_or(Errno::PROTO)?;

    let mut entries = vec![0; HEAD + bytes];
    entries[..TABLE.len()].copy_from_slice(TABLE);
    entries[NAME..NAME + 4].copy_from_slice(&(bytes as u32).to_ne_bytes());
    read_option(socket.as_fd(), layout.level, ENTRIES, &mut entries)?;
    Ok(Table {
        layout,
        policy,
        entries: entries.split_off(HEAD),
    })
}

impl Table<'_> {
    fn drops_forwarded(&self) -> bool {
        let policy = self.entries.get(self.policy..);
        policy.and_then(|entry| self.verdict(entry)) == Some(DROP)
    }

    /// Says whether some rule lets what comes from the bridge go on, and some rule what goes to it.
    fn lets_through(&self, bridge: &str) -> bool {
        let (mut from, mut to) = (false, false);
        let mut rest = self.entries.as_slice();
        while let Some(next) = u16_at(rest, self.layout.offsets + 2).filter(|next| *next > 0) {
            let goes_on = self.verdict(rest).is_none_or(|verdict| verdict != DROP);
            let links = self.layout.links;
            from |= goes_on && names(rest, links, bridge);
            to |= goes_on && names(rest, links + 16, bridge);
            rest = rest.get(next..).unwrap_or_default();
        }
        from && to
    }

    /// The verdict of an entry; none where its target has a name. One that refuses by name counts as a drop.
    fn verdict(&self, entry: &[u8]) -> Option<i32> {
        let target = entry.get(u16_at(entry, self.layout.offsets)?..)?;
        let name = target.get(TARGET_NAME)?;
        let end = name.iter().position(|&byte| byte == 0)?;
        match &name[..end] {
            b"" => u32_at(target, VERDICT).map(|verdict| verdict as i32),
            b"REJECT" | b"DROP" => Some(DROP),
            _ => None,
        }
    }
}

/// Says whether an entry asks for this link by name at `place`; its mask, 32 bytes on, says how much of the name
/// counts.
fn names(entry: &[u8], place: usize, link: &str) -> bool {
    let (Some(name), Some(mask)) = (
        entry.get(place..place + 16),
        entry.get(place + 32..place + 48),
    ) else {
        return false;
    };
    let mut wanted = [0; 16];
    wanted[..link.len().min(15)].copy_from_slice(&link.as_bytes()[..link.len().min(15)]);
    let counts = mask.iter().any(|&byte| byte != 0);
    counts && (0..16).all(|at| (name[at] ^ wanted[at]) & mask[at] == 0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_named_as_far_as_the_mask_says() {
        let entry = |name: &[u8], counted: usize| {
            let mut entry = [0; 64];
            entry[..name.len()].copy_from_slice(name);
            entry[32..32 + counted].fill(0xff);
            entry
        };
        assert!(names(&entry(b"cocker0", 8), 0, "cocker0"));
        assert!(names(&entry(b"cocker", 6), 0, "cocker0"));
        assert!(!names(&entry(b"cocker", 7), 0, "cocker0"));
        assert!(!names(&entry(b"", 0), 0, "cocker0"), "no link is asked for");
        assert!(!names(&[], 0, "cocker0"));
    }
}
