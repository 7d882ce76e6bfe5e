//! The table `cocker` of nf_tables: port mappings, masquerade, and what keeps containers and strangers apart.
//!
//! Rules never change ([`ruleset`]), so a packet's cost does not grow with the number of containers or mappings. What
//! comes and goes are elements of sets, all those of a container in one transaction. That the address of a container
//! is in set `containers` says that all its elements are there; that a store's bridge is in set `bridges` says that
//! those of the store's containers are. The kernel alone knows who has a port: nothing about it is written down
//! elsewhere.

mod batch;
mod expressions;
mod foreign;
mod legacy;
mod ruleset;
mod state;

pub use foreign::ForwardBlock;

use crate::connections;
use crate::mapping::PortMapping;
use crate::netlink::{Attributes, Messages, Netlink, Refusal};
use batch::{Batch, Element, IfThere};
use ruleset::{
    BRIDGES, CHAINS, CONTAINERS, CONTAINERS6, PORTS4, PORTS6, RULES, SETS, UPLINKS4, UPLINKS6,
};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

/// What the table holds of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub holder: Holder,
    pub address: Ipv4Addr,
    pub address6: Option<Ipv6Addr>,
    /// Names of the links by which it leaves the host.
    pub uplinks: Vec<String>,
    pub ports: Vec<PortMapping>,
}

/// Who has an address or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub container: String,
    /// The path of its store.
    pub store: String,
}

/// What the table of packets could not be made to do.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    #[error("cannot talk to the packet filter")]
    Open {
        #[source]
        source: Errno,
    },
    #[error("port {port} of the host is taken by container {holder}")]
    PortTaken { port: String, holder: Holder },
    #[error("address {address} is taken by container {holder}")]
    AddressTaken { address: Ipv4Addr, holder: Holder },
    #[error("the packet filter is changed by others without a pause")]
    Busy,
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The table, as this host's kernel has it.
pub(crate) struct Firewall {
    netlink: Netlink,
}

impl AsFd for Firewall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

/// How often something is begun again that another program's change came between.
const ATTEMPTS: usize = 16;

impl Firewall {
    pub(crate) fn open() -> Result<Firewall, FirewallError> {
        let netlink = Netlink::netfilter().map_err(|source| FirewallError::Open { source })?;
        Ok(Firewall { netlink })
    }

    /// The same on a socket that was opened for an earlier [`Firewall`], if it was.
    pub(crate) fn on(socket: OwnedFd) -> Option<Firewall> {
        Netlink::netfilter_on(socket).map(|netlink| Firewall { netlink })
    }

    /// Makes the table what it should be, whatever somebody has made of it, with `bridge` of `store` in it. `entries`
    /// are those of the store's booted containers, asked for only where they may be lost.
    ///
    /// Called after [`Firewall::enter`]: from then on nobody takes the rules away, because they are in use.
    pub(crate) fn put_right(
        &mut self,
        bridge: &str,
        store: &str,
        entries: impl FnOnce() -> Vec<Entry>,
    ) -> Result<(), FirewallError> {
        let mut attempts = 0..ATTEMPTS;
        let has_bridge = loop {
            let state = state::read(&mut self.netlink, bridge)?;
            if state.is_right {
                break state.has_bridge;
            }
            tracing::debug!("building the table of packets");
            match self.build(&state) {
                Ok(()) => break state.has_bridge,
                Err(refusal) if refusal.errno == RESTART && attempts.next().is_some() => {}
                Err(refusal) => return Err(refusal.into()),
            }
        };
        if has_bridge {
            return Ok(());
        }
        for entry in entries() {
            if let Err(error) = self.enter(&entry) {
                tracing::warn!(
                    "container {} stays without its ports: {error}",
                    entry.holder
                );
            }
        }
        let mut batch = Batch::begin(None);
        batch.add(&[bridge_element(bridge, store)], IfThere::Keep);
        Ok(batch.commit(&mut self.netlink)?)
    }

    /// Where somebody else was faster, theirs is as good.
    fn make_table(&mut self) -> Result<(), Refusal> {
        let state = state::read(&mut self.netlink, "")?;
        if state.has_frame {
            return Ok(());
        }
        match self.build(&state) {
            Err(refusal) if refusal.errno == RESTART => Ok(()),
            built => built,
        }
    }

    /// Puts right what is wrong, in one transaction; elements that are there stay.
    fn build(&mut self, state: &state::State) -> Result<(), Refusal> {
        let mut batch = Batch::begin(Some(state.generation));
        if state.has_frame {
            batch.remove_rules();
        } else {
            let elements = self.build_frame(&mut batch, state)?;
            batch.add(&elements, IfThere::Keep);
        }
        RULES.iter().for_each(|rule| batch.append_rule(rule));
        batch.commit(&mut self.netlink)
    }

    /// The table with its sets and chains; returns the elements that the old one had.
    fn build_frame(
        &mut self,
        batch: &mut Batch,
        state: &state::State,
    ) -> Result<Vec<Element>, Refusal> {
        let mut elements = Vec::new();
        if state.is_there {
            for set in state.sound_sets() {
                elements.extend(self.elements(set)?);
            }
            batch.remove_table();
        }
        batch.make_table();
        for (number, set) in SETS.iter().enumerate() {
            batch.make_set(set, number as u32 + 1);
        }
        CHAINS.iter().for_each(|chain| batch.make_chain(chain));
        Ok(elements)
    }

    /// Enters a container with all that belongs to it, or nothing of it. Where there is no table yet, it is made.
    ///
    /// # Errors
    /// Who has what is taken; then nothing has changed.
    pub(crate) fn enter(&mut self, entry: &Entry) -> Result<(), FirewallError> {
        // A transaction that is refused costs the kernel a grace period, so it is not tried on a table that is not
        // there.
        if !state::has_table(&mut self.netlink)? {
            self.make_table()?;
        }
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::begin(None);
            batch.add(&elements_of(entry), IfThere::Refuse);
            match batch.commit(&mut self.netlink) {
                Err(refusal) if refusal.errno == Errno::EXIST => {
                    match self.holder(entry.address)? {
                        // It was booted before and ended without anybody there to take this away.
                        Some(holder) if holder == entry.holder => self.withdraw(entry)?,
                        Some(holder) => {
                            let address = entry.address;
                            return Err(FirewallError::AddressTaken { address, holder });
                        }
                        None => return Err(self.taken_port(entry)?.unwrap_or(refusal.into())),
                    }
                }
                // Somebody has damaged it, or removed it just now.
                Err(refusal) if refusal.errno == Errno::NOENT => self.make_table()?,
                other => {
                    other?;
                    connections::forget_flows(&mut self.netlink, &entry.ports);
                    return Ok(());
                }
            }
        }
        Err(FirewallError::Busy)
    }

    /// Takes away what [`Firewall::enter`] entered for this holder, address and ports; nothing of it being there is
    /// as good. With the last booted container of a store go the store's bridges, and with the last bridge of all
    /// stores the rules. The empty table stays: taking chains off their hooks would cost the kernel some ten
    /// milliseconds.
    ///
    /// One transaction, because each has a grace period of its own to wait for: see [`Aftermath`](crate::Aftermath).
    pub(crate) fn withdraw(&mut self, entry: &Entry) -> Result<(), FirewallError> {
        for _ in 0..ATTEMPTS {
            let generation = state::generation(&mut self.netlink)?;
            let entered = self.entered(entry)?;
            let elements = entered.as_ref().map(elements_of).unwrap_or_default();
            let (bridges, is_last) = self.bridges_without(entry)?;
            if elements.is_empty() && bridges.is_empty() {
                return Ok(());
            }
            // Nobody may come in meanwhile where more goes than this container's own.
            let mut batch = Batch::begin((!bridges.is_empty()).then_some(generation));
            batch.remove(&elements);
            batch.remove(&bridges);
            if is_last {
                batch.remove_rules();
            }
            match batch.commit(&mut self.netlink) {
                Err(refusal) if refusal.errno == RESTART => continue,
                Err(refusal) if refusal.errno == Errno::NOENT => {
                    self.remove_one_by_one(&elements)?;
                    continue;
                }
                other => other?,
            }
            connections::forget_flows(&mut self.netlink, &entry.ports);
            return Ok(());
        }
        Err(FirewallError::Busy)
    }

    /// What the table has of this holder's address, as it was noted when it was entered: its uplinks and its IPv6
    /// address may be others by now.
    fn entered(&mut self, entry: &Entry) -> Result<Option<Entry>, Refusal> {
        let found = self.element(CONTAINERS, &entry.address.octets())?;
        let noted = found.map(|found| read_comment(found.comment.as_deref().unwrap_or_default()));
        let noted = noted.filter(|noted| noted.holder == entry.holder);
        Ok(noted.map(|noted| Entry {
            uplinks: noted.uplinks,
            address6: noted.address6,
            ..entry.clone()
        }))
    }

    /// The bridges that are of no use once this entry is gone, and whether they are the last ones of all.
    fn bridges_without(&mut self, entry: &Entry) -> Result<(Vec<Element>, bool), Refusal> {
        let store = &entry.holder.store;
        let stays = |container: &Element| {
            let comment = container.comment.as_deref().unwrap_or_default();
            let holder = read_comment(comment).holder;
            holder.store == *store && holder != entry.holder
        };
        if self.elements(CONTAINERS)?.iter().any(stays) {
            return Ok((Vec::new(), false));
        }
        let bridges = self.elements(BRIDGES)?;
        let (ours, others): (Vec<_>, Vec<_>) = bridges
            .into_iter()
            .partition(|bridge| bridge.comment.as_ref() == Some(store));
        let is_last = !ours.is_empty() && others.is_empty();
        Ok((ours, is_last))
    }

    /// For an entry of which somebody has removed a part by hand.
    fn remove_one_by_one(&mut self, elements: &[Element]) -> Result<(), FirewallError> {
        // The container's own element goes last: while it is there, there may be more.
        for element in elements.iter().rev() {
            let mut batch = Batch::begin(None);
            batch.remove(std::slice::from_ref(element));
            match batch.commit(&mut self.netlink) {
                Err(refusal) if refusal.errno == Errno::NOENT => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Other tables of the host that drop what goes through `bridge`.
    pub(crate) fn forward_blocks(
        &mut self,
        bridge: &str,
    ) -> Result<Vec<ForwardBlock>, FirewallError> {
        let mut blocks = foreign::forward_blocks(&mut self.netlink, bridge)?;
        blocks.extend(legacy::forward_blocks(bridge));
        Ok(blocks)
    }

    fn holder(&mut self, address: Ipv4Addr) -> Result<Option<Holder>, Refusal> {
        let found = self.element(CONTAINERS, &address.octets())?;
        Ok(
            found
                .map(|element| read_comment(element.comment.as_deref().unwrap_or_default()).holder),
        )
    }

    /// Which port it is that somebody else has.
    fn taken_port(&mut self, entry: &Entry) -> Result<Option<FirewallError>, Refusal> {
        for element in elements_of(entry) {
            let Some(found) = self.element(element.set, &element.key)? else {
                continue;
            };
            let Some(bytes) = found.data.as_deref().and_then(<[u8]>::first_chunk::<4>) else {
                continue;
            };
            let holder = self.holder(Ipv4Addr::from(*bytes))?;
            return Ok(Some(FirewallError::PortTaken {
                port: describe_port(&element.key),
                holder: holder.unwrap_or_else(Holder::unknown),
            }));
        }
        Ok(None)
    }

    fn element(&mut self, set: &'static str, key: &[u8]) -> Result<Option<Element>, Refusal> {
        let mut messages = Messages::new();
        batch::ask_for_element(&mut messages, set, key);
        let mut found = None;
        self.netlink.ask(messages, |answer| {
            let elements = answer
                .split()
                .map(|(_, rest): ([u8; 4], _)| batch::elements_in(set, rest));
            found = elements.and_then(|elements| elements.into_iter().next());
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn elements(&mut self, set: &'static str) -> Result<Vec<Element>, Refusal> {
        let mut messages = Messages::new();
        batch::ask_for_elements(&mut messages, set);
        let mut found = Vec::new();
        self.netlink.ask(messages, |answer| {
            let split: Option<([u8; 4], Attributes<'_>)> = answer.split();
            found.extend(
                split
                    .into_iter()
                    .flat_map(|(_, rest)| batch::elements_in(set, rest)),
            );
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

/// `ERESTART`: what was read has changed since. The kernel's own number, which programs seldom see.
const RESTART: Errno = Errno::from_raw_os_error(85);

fn bridge_element(bridge: &str, store: &str) -> Element {
    Element {
        set: BRIDGES,
        key: link_name(bridge),
        data: None,
        comment: Some(short(store).into()),
    }
}

/// The elements of an entry; the container's own comes first.
fn elements_of(entry: &Entry) -> Vec<Element> {
    let plain = |set, key| Element {
        set,
        key,
        data: None,
        comment: None,
    };
    let mut elements = vec![Element {
        comment: Some(write_comment(entry)),
        ..plain(CONTAINERS, entry.address.octets().into())
    }];
    let leaving = |octets: &[u8], uplink: &String| [octets, &link_name(uplink)].concat();
    let uplinks = entry.uplinks.iter();
    elements
        .extend(uplinks.map(|uplink| plain(UPLINKS4, leaving(&entry.address.octets(), uplink))));
    if let Some(address6) = entry.address6 {
        elements.push(plain(CONTAINERS6, address6.octets().into()));
        let uplinks = entry.uplinks.iter();
        elements.extend(uplinks.map(|uplink| plain(UPLINKS6, leaving(&address6.octets(), uplink))));
    }
    for mapping in &entry.ports {
        if !matches!(mapping.address, Some(IpAddr::V6(_))) {
            let asked = mapping.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            elements.extend(port_elements(PORTS4, mapping, asked, entry.address.into()));
        }
    }
    for mapping in &entry.ports {
        if let (Some(address6), None | Some(IpAddr::V6(_))) = (entry.address6, mapping.address) {
            let asked = mapping.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
            elements.extend(port_elements(PORTS6, mapping, asked, address6.into()));
        }
    }
    elements
}

fn port_elements(
    set: &'static str,
    mapping: &PortMapping,
    asked: IpAddr,
    container: IpAddr,
) -> impl Iterator<Item = Element> {
    let protocol = mapping.protocol.number();
    mapping.pairs().map(move |(host, inside)| {
        let [high, low] = host.to_be_bytes();
        let [inside_high, inside_low] = inside.to_be_bytes();
        Element {
            set,
            // Each part takes whole registers of four bytes.
            key: [&octets(asked)[..], &[protocol, 0, 0, 0, high, low, 0, 0]].concat(),
            data: Some([&octets(container)[..], &[inside_high, inside_low, 0, 0]].concat()),
            comment: None,
        }
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// `tcp 8080`, `udp 10.0.0.1:53`: the other way round than [`port_elements`].
fn describe_port(key: &[u8]) -> String {
    let Some((address, [protocol, _, _, _, high, low, _, _])) = key.split_last_chunk::<8>() else {
        return "?".into();
    };
    let port = u16::from_be_bytes([*high, *low]);
    let protocol = match protocol {
        17 => "udp",
        _ => "tcp",
    };
    let is_every = address.iter().all(|&byte| byte == 0);
    let address = match (address.first_chunk::<4>(), address.first_chunk::<16>()) {
        _ if is_every => return format!("{protocol} {port}"),
        (_, Some(bytes)) => format!("[{}]", Ipv6Addr::from(*bytes)),
        (Some(bytes), None) => Ipv4Addr::from(*bytes).to_string(),
        (None, None) => return format!("{protocol} {port}"),
    };
    format!("{protocol} {address}:{port}")
}

fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// What the comment of a container's own element says.
#[derive(Debug, PartialEq, Eq)]
struct Noted {
    holder: Holder,
    uplinks: Vec<String>,
    address6: Option<Ipv6Addr>,
}

/// `NAME UPLINK,UPLINK ADDRESS6 STORE`, with `-` for no uplink and no address; names of containers and links have no
/// blanks.
fn write_comment(entry: &Entry) -> String {
    let uplinks = match entry.uplinks.is_empty() {
        true => "-".into(),
        false => entry.uplinks.join(","),
    };
    let address6 = entry
        .address6
        .map_or_else(|| "-".into(), |address| address.to_string());
    let Holder { container, store } = &entry.holder;
    format!("{container} {uplinks} {address6} {store}")
}

fn read_comment(comment: &str) -> Noted {
    let mut words = comment.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_default().to_string();
    let container = word();
    let uplinks = word();
    let uplinks = uplinks
        .split(',')
        .filter(|uplink| !matches!(*uplink, "-" | ""));
    let uplinks = uplinks.map(String::from).collect();
    let address6 = word().parse().ok();
    let store = word();
    Noted {
        holder: Holder { container, store },
        uplinks,
        address6,
    }
}

/// So much of a store's path as a comment has room for beside a name and some links.
fn short(store: &str) -> &str {
    let mut end = store.len().min(120);
    while !store.is_char_boundary(end) {
        end -= 1;
    }
    &store[..end]
}

impl Holder {
    /// `store` is the path of `$COCKER_HOME`.
    pub fn new(container: &str, store: &str) -> Holder {
        Holder {
            container: container.into(),
            store: short(store).into(),
        }
    }

    fn unknown() -> Holder {
        Holder::new("?", "?")
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` of `{}`", self.container, self.store)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            holder: Holder::new("web", "/var/cocker"),
            address: Ipv4Addr::new(166, 88, 0, 2),
            address6: None,
            uplinks: vec!["eth0".into(), "wlan0".into()],
            ports: PortMapping::parse_list("8080:80,10.0.0.1:53:53/udp").unwrap(),
        }
    }

    #[test]
    fn a_comment_says_who_and_by_which_links() {
        let comment = write_comment(&entry());
        assert_eq!(comment, "web eth0,wlan0 - /var/cocker");
        let noted = |entry: Entry| Noted {
            holder: entry.holder,
            uplinks: entry.uplinks,
            address6: entry.address6,
        };
        assert_eq!(read_comment(&comment), noted(entry()));
        let other = Entry {
            uplinks: vec![],
            address6: Some("fd42::2".parse().unwrap()),
            holder: Holder::new("web", "/with a blank"),
            ..entry()
        };
        assert_eq!(read_comment(&write_comment(&other)), noted(other));
    }

    #[test]
    fn keys_are_as_the_registers_have_them() {
        let elements = elements_of(&entry());
        let ports: Vec<&Element> = elements.iter().filter(|e| e.set == PORTS4).collect();
        assert_eq!(ports[0].key, [0, 0, 0, 0, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(ports[0].data, Some(vec![166, 88, 0, 2, 0, 80, 0, 0]));
        assert_eq!(ports[1].key, [10, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(describe_port(&ports[0].key), "tcp 8080");
        assert_eq!(describe_port(&ports[1].key), "udp 10.0.0.1:53");
        assert_eq!(elements.iter().filter(|e| e.set == UPLINKS4).count(), 2);
    }

    #[test]
    fn with_an_ipv6_address_a_port_of_every_address_stands_in_both_maps() {
        let entry = Entry {
            address6: Some("fd42::2".parse().unwrap()),
            ..entry()
        };
        let elements = elements_of(&entry);
        let count = |set| elements.iter().filter(|element| element.set == set).count();
        assert_eq!((count(PORTS4), count(PORTS6), count(UPLINKS6)), (2, 1, 2));
    }
}
