//! The registers of id ranges and addresses: links whose text is the name of the container that has them.

use crate::container::CONTAINERS;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::{addresses, ids};
use cocker_image::Name;
use rustix::io::Errno;
use std::net::Ipv4Addr;

/// What is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// The number of a range of host ids.
    Ids(u32),
    Address(Ipv4Addr),
}

impl Entry {
    /// Where it lies in the store.
    pub(super) fn path(&self) -> String {
        match self {
            Entry::Ids(slot) => format!("ids/{slot}"),
            Entry::Address(address) => format!("{}/{address}", addresses::FOLDER),
        }
    }
}

impl Engine {
    /// Everything that is registered.
    pub(super) fn registered(&self) -> Result<Vec<Entry>, EngineError> {
        let failed = |folder: &str| {
            let folder = self.store.home().join(folder);
            move |source| EngineError::List { folder, source }
        };
        let slots = ids::slots(&self.store).map_err(failed("ids"))?;
        let addresses = addresses::registered(&self.store).map_err(failed(addresses::FOLDER))?;
        let slots = slots.into_iter().map(Entry::Ids);
        Ok(slots
            .chain(addresses.into_iter().map(Entry::Address))
            .collect())
    }

    /// The name of the container for which it is registered; `None` where it is not.
    pub(super) fn owner(&self, entry: Entry) -> Result<Option<String>, Errno> {
        match entry {
            Entry::Ids(slot) => ids::owner(&self.store, slot),
            Entry::Address(address) => addresses::registered_for(&self.store, address),
        }
    }

    /// Whether the container that an entry names is not there, or has something else. One that cannot be read may have it.
    /// The caller holds the lock on names.
    pub(super) fn is_stale(&self, entry: Entry, owner: &str) -> bool {
        match entry {
            Entry::Ids(slot) => !ids::has(&self.store, owner, slot),
            Entry::Address(address) => !addresses::has(&self.store, owner, address),
        }
    }

    pub(super) fn forget(&self, entry: Entry) -> Result<(), Errno> {
        match entry {
            Entry::Ids(slot) => ids::remove(&self.store, slot),
            Entry::Address(address) => addresses::forget(&self.store, address),
        }
    }

    /// Where a container's things lie in the store.
    pub(super) fn container_path(&self, name: &Name) -> String {
        format!("{CONTAINERS}/{name}")
    }
}
