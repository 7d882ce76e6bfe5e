//! The table `cocker` of nf_tables: port mappings, masquerade, and what keeps containers and strangers apart.
//!
//! Rules never change ([`ruleset`]), so a packet's cost does not grow with the number of containers or mappings. What
//! comes and goes are elements of sets ([`entry`]), all those of a container in one transaction. That a store's bridge is
//! in set `bridges` says that those of all its booted containers were put into this table. The kernel alone knows who
//! has a port: nothing about it is written down elsewhere.

mod batch;
mod entry;
mod expressions;
mod foreign;
mod legacy;
mod ruleset;
mod state;

pub(crate) use entry::short;
pub use entry::{Entry, Holder};
pub use foreign::ForwardBlock;

use crate::connections;
use crate::netlink::{Attributes, Messages, Netlink, Refusal};
use batch::{Batch, Element, IfThere};
use entry::sender_elements;
use entry::{Noted, Ports, SENDERS4_OF_EACH};
use entry::{address_in, all_port_elements, bridge_element, describe_port, elements_of, plain};
use ruleset::{
    BRIDGES, CHAINS, CONTAINERS, CONTAINERS6, FAMILIES, PORTS4, PORTS6, SENDERS4, SENDERS6, SETS,
    UPLINKS4, UPLINKS6,
};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use state::State;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::ControlFlow;

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

/// Who is in the table, and with which address.
pub(crate) type Holders = Vec<(Holder, Ipv4Addr)>;

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
        if state.has_bridge && self.has_all_elements(&state).map_err(FirewallError::from)? {
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

    /// Says whether the maps have as many ports as the comments of the containers say, and the containers all that they
    /// send by. Before Linux 6.10 the kernel does not count them, so they are listed.
    fn has_all_elements(&mut self, state: &State) -> Result<bool, Refusal> {
        let ports = match state.ports {
            Some(counted) => counted,
            None => self.elements(PORTS4)?.len() + self.elements(PORTS6)?.len(),
        };
        let senders = match state.senders {
            Some(counted) => counted,
            None => self.elements(SENDERS4)?.len(),
        };
        let noted = self.elements(CONTAINERS)?;
        let has_senders = senders == noted.len() * SENDERS4_OF_EACH;
        let noted = noted.iter().map(|element| Noted::in_element(element).ports);
        Ok(has_senders && noted.sum::<usize>() == ports)
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
            FAMILIES
                .into_iter()
                .for_each(|family| batch.remove_rules(family));
        } else {
            let elements = self.build_frame(&mut batch, state)?;
            batch.add(&elements, IfThere::Keep);
        }
        ruleset::rules().for_each(|rule| batch.append_rule(rule));
        batch.commit(&mut self.netlink)
    }

    /// The table with its sets and chains; returns the elements that the old one had.
    fn build_frame(&mut self, batch: &mut Batch, state: &State) -> Result<Vec<Element>, Refusal> {
        let mut elements = Vec::new();
        for set in state.sound_sets() {
            // Where not all sets are there, what is in them is not all either, so nobody may rely on it.
            if set != BRIDGES || state.has_all_sets() {
                elements.extend(self.elements(set)?);
            }
        }
        for family in &state.families {
            batch.remove_table(*family);
        }
        batch.make_tables();
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
        if state::families(&mut self.netlink)?.len() < FAMILIES.len() {
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
                        // Or of one that did so only what it sends by is left.
                        None if self.withdraw(entry)? => {}
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
            let noted = containers
                .iter()
                .find(|found| found.key == entry.address.octets())
                .map(Noted::in_element);
            let noted_is_missing = noted.is_none();
            let elements = match noted {
                Some(noted) if noted.holder == entry.holder => {
                    self.elements_at(entry.address, noted.address6, ports)?
                }
                Some(_) => Vec::new(),
                None => self.stray_senders(entry)?,
            };
            let (bridges, is_last) = self.bridges_without(entry, &containers)?;
            if elements.is_empty() && bridges.is_empty() {
                if !was_there && containers.is_empty() {
                    self.clear_unused(generation)?;
                }
                return Ok(was_there);
            }
            // Nobody may come in meanwhile where more goes than this container's own.
            let mut batch = Batch::begin((!bridges.is_empty()).then_some(generation));
            batch.remove(&elements);
            batch.remove(&bridges);
            // Without the other table nobody else is told of, so the last senders are the last of all.
            if is_last || (noted_is_missing && self.are_last_senders(&elements)?) {
                let families = state::families(&mut self.netlink)?;
                families
                    .into_iter()
                    .for_each(|family| batch.remove_rules(family));
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

    /// Takes away the rules of a boot that was killed before it entered anything, where nobody else needs them. Whoever is about
    /// to enter something makes them anew.
    fn clear_unused(&mut self, generation: u32) -> Result<(), FirewallError> {
        if !self.elements(BRIDGES)?.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::begin(Some(generation));
        for family in state::families(&mut self.netlink)? {
            batch.remove_rules(family);
        }
        match batch.commit(&mut self.netlink) {
            // Somebody is at work on the table, and leaves it as it should be.
            Err(refusal) if refusal.errno == RESTART => Ok(()),
            cleared => Ok(cleared?),
        }
    }

    /// What is left of an address in one family, when somebody has removed the table in the other.
    fn stray_senders(&mut self, entry: &Entry) -> Result<Vec<Element>, Refusal> {
        let mut found = Vec::new();
        for sender in sender_elements(entry.address, entry.address6) {
            found.extend(self.element(sender.set, &sender.key)?.map(|_| sender));
        }
        Ok(found)
    }

    /// Whether nobody but these may send anything, and nothing else is there to be known.
    fn are_last_senders(&mut self, elements: &[Element]) -> Result<bool, Refusal> {
        if !self.elements(BRIDGES)?.is_empty() {
            return Ok(false);
        }
        let senders = self.elements(SENDERS4)?;
        let is_one_of_them = |sender: &Element| elements.iter().any(|it| it.key == sender.key);
        Ok(senders.iter().all(is_one_of_them))
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
        let senders = sender_elements(address, address6);
        match ports {
            Ports::Said(ports) => {
                elements.extend(senders);
                elements.extend(all_port_elements(ports, address, address6));
            }
            Ports::AsFound => {
                for set in [SENDERS4, SENDERS6] {
                    let mut found = self.elements(set)?;
                    found.retain(|found| senders.iter().any(|sender| sender.key == found.key));
                    elements.extend(found);
                }
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

    /// Who is in the table with which address, and how many elements are of an address that nobody there has.
    pub(crate) fn look(&mut self) -> Result<(Holders, usize), FirewallError> {
        let (holders, strays) = self.holders_and_strays()?;
        Ok((holders, strays.len()))
    }

    /// The same with the elements, which lead to or come from such an address; all of one moment. Nothing where there is no table.
    fn holders_and_strays(&mut self) -> Result<(Holders, Vec<Element>), FirewallError> {
        for _ in 0..ATTEMPTS {
            let generation = state::generation(&mut self.netlink)?;
            if state::families(&mut self.netlink)?.is_empty() {
                return Ok(Default::default());
            }
            let containers = self.elements_if_there(CONTAINERS)?;
            let mut known = Vec::new();
            let mut holders = Vec::new();
            for element in &containers {
                let noted = Noted::in_element(element);
                if let Some(octets) = element.key.first_chunk::<4>() {
                    let address = Ipv4Addr::from(*octets);
                    known.push((address, noted.address6));
                    holders.push((noted.holder, address));
                }
            }
            let mut strays = Vec::new();
            for set in [
                CONTAINERS6,
                UPLINKS4,
                UPLINKS6,
                PORTS4,
                PORTS6,
                SENDERS4,
                SENDERS6,
            ] {
                let mut found = self.elements_if_there(set)?;
                found.retain(|element| !entry::is_of(element, &known));
                strays.extend(found);
            }
            if state::generation(&mut self.netlink)? == generation {
                return Ok((holders, strays));
            }
        }
        Err(FirewallError::Busy)
    }

    /// Takes the elements away that are of nobody.
    pub(crate) fn remove_strays(&mut self) -> Result<(), FirewallError> {
        for _ in 0..ATTEMPTS {
            let generation = state::generation(&mut self.netlink)?;
            let (_, strays) = self.holders_and_strays()?;
            if strays.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::begin(Some(generation));
            batch.remove(&strays);
            match batch.commit(&mut self.netlink) {
                Err(refusal) if [RESTART, Errno::NOENT].contains(&refusal.errno) => {}
                other => return Ok(other?),
            }
        }
        Err(FirewallError::Busy)
    }

    /// What is wrong with the table for a booted container, in words; one thing at most.
    pub(crate) fn faults(
        &mut self,
        bridge: &str,
        holder: &Holder,
        address: Ipv4Addr,
    ) -> Result<Option<String>, FirewallError> {
        let state = state::read(&mut self.netlink, bridge)?;
        if state.families.len() < FAMILIES.len() {
            return Ok(Some(
                "table `cocker` of nf_tables is not there, or not in both families".into(),
            ));
        }
        if !state.is_right {
            return Ok(Some(
                "table `cocker` of nf_tables was changed by others".into(),
            ));
        }
        if self.holder(address.into())?.as_ref() != Some(holder) {
            return Ok(Some("table `cocker` of nf_tables does not know it".into()));
        }
        let has_all = state.has_bridge && self.has_all_elements(&state)?;
        Ok((!has_all).then(|| "table `cocker` of nf_tables lacks elements".into()))
    }

    /// Enters a booted container again where the table does not know it.
    pub(crate) fn restore_if_missing(&mut self, entry: &Entry) -> Result<(), FirewallError> {
        if state::families(&mut self.netlink)?.len() < FAMILIES.len() {
            self.make_table()?;
        }
        self.right_state(&entry.bridge)?;
        if self.holder(entry.address.into())?.is_none() {
            self.restore(entry);
        }
        Ok(())
    }

    fn elements_if_there(&mut self, set: &'static str) -> Result<Vec<Element>, Refusal> {
        match self.elements(set) {
            Err(refusal) if refusal.errno == Errno::NOENT => Ok(Vec::new()),
            found => found,
        }
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
