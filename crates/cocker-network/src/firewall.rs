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
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use state::State;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

/// What the table holds of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub holder: Holder,
    /// Name of the bridge that it is a port of.
    pub bridge: String,
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

    /// Makes the table what it should be, whatever somebody has made of it, with `bridge` of `store` in it. `entries`
    /// are those of the store's booted containers, asked for only where they may be lost.
    ///
    /// Called after [`Firewall::enter`]: while an element of set `containers` is there, nobody takes the rules away.
    pub(crate) fn put_right<E: From<FirewallError>>(
        &mut self,
        bridge: &str,
        store: &str,
        entries: impl Fn() -> Result<Vec<Entry>, E>,
    ) -> Result<(), E> {
        let state = self.right_state(bridge)?;
        if state.has_bridge && self.has_all_ports(&state).map_err(FirewallError::from)? {
            return Ok(());
        }
        let lost = entries()?;
        lost.iter().for_each(|entry| self.restore(entry));
        // Who ended meanwhile took away what was there then, and not what was put back after.
        let booted = entries()?;
        for entry in &lost {
            if !booted.iter().any(|other| other.holder == entry.holder) {
                self.withdraw(entry)?;
            }
        }
        let bridges = booted.iter().map(|entry| entry.bridge.as_str());
        let bridges: BTreeSet<&str> = bridges.chain([bridge]).collect();
        let elements: Vec<Element> = bridges
            .into_iter()
            .map(|bridge| bridge_element(bridge, store))
            .collect();
        let mut batch = Batch::begin(None);
        batch.add(&elements, IfThere::Keep);
        let committed = batch.commit(&mut self.netlink);
        Ok(committed.map_err(FirewallError::from)?)
    }

    /// The state once all rules, chains and sets are as they should be.
    fn right_state(&mut self, bridge: &str) -> Result<State, FirewallError> {
        for _ in 0..ATTEMPTS {
            let state = state::read(&mut self.netlink, bridge)?;
            if state.is_right {
                return Ok(state);
            }
            tracing::debug!("building the table of packets");
            match self.build(&state) {
                Err(refusal) if refusal.errno == RESTART => {}
                built => built?,
            }
        }
        Err(FirewallError::Busy)
    }

    /// Says whether the maps have as many ports as the comments of the containers say, where the kernel counts them
    /// (Linux 6.10).
    fn has_all_ports(&mut self, state: &State) -> Result<bool, Refusal> {
        let Some(counted) = state.ports else {
            return Ok(true);
        };
        let noted = self.elements(CONTAINERS)?;
        let noted = noted.iter().map(|element| Noted::in_element(element).ports);
        Ok(noted.sum::<usize>() == counted)
    }

    /// Puts back what may be missing of a booted container.
    fn restore(&mut self, entry: &Entry) {
        let mut batch = Batch::begin(None);
        batch.add(&elements_of(entry), IfThere::Keep);
        if let Err(refusal) = batch.commit(&mut self.netlink) {
            let holder = &entry.holder;
            tracing::warn!("container {holder} stays without its ports: {refusal}");
        }
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
    fn build(&mut self, state: &State) -> Result<(), Refusal> {
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
    fn build_frame(&mut self, batch: &mut Batch, state: &State) -> Result<Vec<Element>, Refusal> {
        let mut elements = Vec::new();
        if state.is_there {
            for set in state.sound_sets() {
                // Where not all sets are there, what is in them is not all either, so nobody may rely on it.
                if set != BRIDGES || state.has_all_sets() {
                    elements.extend(self.elements(set)?);
                }
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
                // More refusals than the socket has room for are refusals of the same kind.
                Err(refusal) if matches!(refusal.errno, Errno::EXIST | Errno::NOBUFS) => {
                    match self.holder(entry.address.into())? {
                        // It was booted before and ended without anybody there to take this away.
                        Some(holder) if holder == entry.holder => {
                            self.withdraw(entry)?;
                        }
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

    /// Takes away what [`Firewall::enter`] entered for this holder and address; says whether there was anything. With
    /// the last booted container of a store go the store's bridges, and with the last of all stores the rules. The
    /// empty table stays: taking chains off their hooks would cost the kernel some ten milliseconds.
    ///
    /// One transaction, because each has a grace period of its own to wait for: see [`Aftermath`](crate::Aftermath).
    pub(crate) fn withdraw(&mut self, entry: &Entry) -> Result<bool, FirewallError> {
        self.take_away(entry, Ports::Said(&entry.ports))
    }

    fn take_away<'a>(
        &mut self,
        entry: &'a Entry,
        mut ports: Ports<'a>,
    ) -> Result<bool, FirewallError> {
        let mut was_there = false;
        // Looked at until there is nothing more to do: of two that go at once, each may have seen the other stay.
        for _ in 0..ATTEMPTS {
            let generation = state::generation(&mut self.netlink)?;
            let containers = self.elements(CONTAINERS)?;
            let own = containers
                .iter()
                .find(|found| found.key == entry.address.octets())
                .map(Noted::in_element)
                .filter(|noted| noted.holder == entry.holder);
            let elements = match own {
                Some(noted) => self.elements_at(entry.address, noted.address6, ports)?,
                None => Vec::new(),
            };
            let (bridges, is_last) = self.bridges_without(entry, &containers)?;
            if elements.is_empty() && bridges.is_empty() {
                return Ok(was_there);
            }
            // Nobody may come in meanwhile where more goes than this container's own.
            let mut batch = Batch::begin((!bridges.is_empty()).then_some(generation));
            batch.remove(&elements);
            batch.remove(&bridges);
            if is_last {
                batch.remove_rules();
            }
            match batch.commit(&mut self.netlink) {
                Err(refusal) if refusal.errno == RESTART => {}
                // Somebody has removed a part of it by hand: then what is there goes.
                Err(refusal) if refusal.errno == Errno::NOENT => ports = Ports::AsFound,
                other => {
                    other?;
                    was_there = true;
                    connections::forget_flows(&mut self.netlink, &entry.ports);
                }
            }
        }
        Err(FirewallError::Busy)
    }

    /// The same for a holder of whom nothing else is known any more.
    pub(crate) fn withdraw_all_of(&mut self, holder: &Holder) -> Result<bool, FirewallError> {
        let mut was_there = false;
        for element in self.elements(CONTAINERS)? {
            let address = element.key.first_chunk::<4>().copied();
            if let Some(address) = address.map(Ipv4Addr::from)
                && Noted::in_element(&element).holder == *holder
            {
                let entry = Entry {
                    holder: holder.clone(),
                    bridge: String::new(),
                    address,
                    address6: None,
                    uplinks: Vec::new(),
                    ports: Vec::new(),
                };
                was_there |= self.take_away(&entry, Ports::AsFound)?;
            }
        }
        Ok(was_there)
    }

    /// All that the table has of an address.
    fn elements_at(
        &mut self,
        address: Ipv4Addr,
        address6: Option<Ipv6Addr>,
        ports: Ports<'_>,
    ) -> Result<Vec<Element>, Refusal> {
        let mut elements = vec![plain(CONTAINERS, address.octets().into())];
        let leaves_from = |octets: &[u8], found: &Element| found.key.starts_with(octets);
        let mut uplinks = self.elements(UPLINKS4)?;
        uplinks.retain(|found| leaves_from(&address.octets(), found));
        elements.extend(uplinks);
        if let Some(address6) = address6 {
            elements.push(plain(CONTAINERS6, address6.octets().into()));
            let mut uplinks = self.elements(UPLINKS6)?;
            uplinks.retain(|found| leaves_from(&address6.octets(), found));
            elements.extend(uplinks);
        }
        match ports {
            Ports::Said(ports) => elements.extend(all_port_elements(ports, address, address6)),
            Ports::AsFound => {
                let octets6 = address6.map(|address6| address6.octets());
                let leads_to = |octets: &[u8], found: &Element| {
                    found
                        .data
                        .as_ref()
                        .is_some_and(|data| data.starts_with(octets))
                };
                let mut found = self.elements(PORTS4)?;
                found.retain(|found| leads_to(&address.octets(), found));
                elements.extend(found);
                let mut found = self.elements(PORTS6)?;
                found.retain(|found| octets6.is_some_and(|octets6| leads_to(&octets6, found)));
                elements.extend(found);
            }
        }
        Ok(elements)
    }

    /// The bridges that are of no use once this entry is gone, and whether the rules are neither.
    fn bridges_without(
        &mut self,
        entry: &Entry,
        containers: &[Element],
    ) -> Result<(Vec<Element>, bool), Refusal> {
        let store = &entry.holder.store;
        let holders = containers
            .iter()
            .map(|element| Noted::in_element(element).holder);
        let others: Vec<Holder> = holders.filter(|holder| *holder != entry.holder).collect();
        if others.iter().any(|holder| holder.store == *store) {
            return Ok((Vec::new(), false));
        }
        let bridges = self.elements(BRIDGES)?;
        let (ours, foreign): (Vec<_>, Vec<_>) = bridges
            .into_iter()
            .partition(|bridge| bridge.comment.as_ref() == Some(store));
        let is_last = !ours.is_empty() && foreign.is_empty() && others.is_empty();
        Ok((ours, is_last))
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

    fn holder(&mut self, address: IpAddr) -> Result<Option<Holder>, Refusal> {
        let found = match address {
            IpAddr::V4(address) => self.element(CONTAINERS, &address.octets())?,
            IpAddr::V6(address) => self.element(CONTAINERS6, &address.octets())?,
        };
        Ok(found.map(|element| Noted::in_element(&element).holder))
    }

    /// Which port it is that somebody else has.
    fn taken_port(&mut self, entry: &Entry) -> Result<Option<FirewallError>, Refusal> {
        for element in elements_of(entry) {
            let Some(found) = self.element(element.set, &element.key)? else {
                continue;
            };
            let Some(leads_to) = found.data.as_deref().and_then(address_in) else {
                continue;
            };
            let holder = self.holder(leads_to)?;
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

/// Which ports of a container are meant.
#[derive(Clone, Copy)]
enum Ports<'a> {
    /// Those that it was given.
    Said(&'a [PortMapping]),
    /// Those that lead to it in the maps.
    AsFound,
}

fn plain(set: &'static str, key: Vec<u8>) -> Element {
    Element {
        set,
        key,
        data: None,
        comment: None,
    }
}

/// The elements of an entry; the container's own comes first.
fn elements_of(entry: &Entry) -> Vec<Element> {
    let ports: Vec<Element> =
        all_port_elements(&entry.ports, entry.address, entry.address6).collect();
    let noted = |set, key| Element {
        comment: Some(write_comment(entry, ports.len())),
        ..plain(set, key)
    };
    let leaving = |octets: &[u8], uplink: &String| [octets, &link_name(uplink)].concat();
    let mut elements = vec![noted(CONTAINERS, entry.address.octets().into())];
    let uplinks = entry.uplinks.iter();
    elements
        .extend(uplinks.map(|uplink| plain(UPLINKS4, leaving(&entry.address.octets(), uplink))));
    if let Some(address6) = entry.address6 {
        elements.push(noted(CONTAINERS6, address6.octets().into()));
        let uplinks = entry.uplinks.iter();
        elements.extend(uplinks.map(|uplink| plain(UPLINKS6, leaving(&address6.octets(), uplink))));
    }
    elements.extend(ports);
    elements
}

/// The elements of all mappings, family by family.
fn all_port_elements(
    ports: &[PortMapping],
    address: Ipv4Addr,
    address6: Option<Ipv6Addr>,
) -> impl Iterator<Item = Element> {
    let four = ports.iter().filter_map(move |mapping| {
        let asked = mapping.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        asked
            .is_ipv4()
            .then(|| port_elements(PORTS4, mapping, asked, address.into()))
    });
    let six = ports.iter().filter_map(move |mapping| {
        let asked = mapping.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        let address6 = address6.filter(|_| asked.is_ipv6())?;
        Some(port_elements(PORTS6, mapping, asked, address6.into()))
    });
    four.flatten().chain(six.flatten())
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

/// The address in the data of a map of ports: what is left but for the port.
fn address_in(data: &[u8]) -> Option<IpAddr> {
    let (address, _port) = data.split_last_chunk::<4>()?;
    match address.len() {
        4 => address
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets).into()),
        16 => address
            .first_chunk::<16>()
            .map(|octets| Ipv6Addr::from(*octets).into()),
        _ => None,
    }
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
    address6: Option<Ipv6Addr>,
    /// How many elements lead to it in both maps of ports.
    ports: usize,
}

/// `NAME ADDRESS6 PORTS STORE`, with `-` for no address; names of containers have no blanks.
fn write_comment(entry: &Entry, ports: usize) -> String {
    let address6 = entry
        .address6
        .map_or_else(|| "-".into(), |address| address.to_string());
    let Holder { container, store } = &entry.holder;
    format!("{container} {address6} {ports} {store}")
}

impl Noted {
    fn in_element(element: &Element) -> Noted {
        let comment = element.comment.as_deref().unwrap_or_default();
        let mut words = comment.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_default();
        let container = word().into();
        let address6 = word().parse().ok();
        let ports = word().parse().unwrap_or(0);
        let store = word().into();
        Noted {
            holder: Holder { container, store },
            address6,
            ports,
        }
    }
}

/// So much of a store's path as a comment has room for beside a name, an address and a number.
pub(crate) fn short(store: &str) -> &str {
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
            bridge: "cocker0".into(),
            address: Ipv4Addr::new(166, 88, 0, 2),
            address6: None,
            uplinks: vec!["eth0".into(), "wlan0".into()],
            ports: PortMapping::parse_list("8080:80,10.0.0.1:53:53/udp").unwrap(),
        }
    }

    #[test]
    fn a_comment_says_who_it_is_and_what_belongs_to_it() {
        let elements = elements_of(&entry());
        assert_eq!(elements[0].comment.as_deref(), Some("web - 2 /var/cocker"));
        let noted = Noted::in_element(&elements[0]);
        assert_eq!(
            (noted.holder, noted.address6, noted.ports),
            (entry().holder, None, 2)
        );
        let other = Entry {
            address6: Some("fd42::2".parse().unwrap()),
            holder: Holder::new("web", "/with a blank"),
            ..entry()
        };
        let elements = elements_of(&other);
        let noted = Noted::in_element(&elements[0]);
        assert_eq!(
            (noted.holder, noted.address6, noted.ports),
            (other.holder, other.address6, 3)
        );
    }

    #[test]
    fn the_longest_of_all_comments_is_not_cut() {
        let longest = Entry {
            holder: Holder::new(&"n".repeat(64), &"/s".repeat(500)),
            address6: Some("fd42:1111:2222:3333:4444:5555:6666:7777".parse().unwrap()),
            ports: PortMapping::parse_list("1-65535:1-65535").unwrap(),
            ..entry()
        };
        let kept = write_comment(&longest, 2 * 65_535);
        assert!(kept.len() <= batch::LONGEST_COMMENT, "{}", kept.len());
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
