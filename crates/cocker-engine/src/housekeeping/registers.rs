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
pub(crate) enum Entry {
    /// The number of a range of host ids.
    Ids(u32),
    Address(Ipv4Addr),
}

impl Entry {
    /// Where it lies in the store.
    pub(crate) fn path(&self) -> String {
        match self {
            Entry::Ids(slot) => format!("ids/{slot}"),
            Entry::Address(address) => format!("{}/{address}", addresses::FOLDER),
        }
    }
}

impl Engine {
    /// Everything that is registered.
    pub(crate) fn registered(&self) -> Result<Vec<Entry>, EngineError> {
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
    pub(crate) fn owner(&self, entry: Entry) -> Result<Option<String>, Errno> {
        match entry {
            Entry::Ids(slot) => ids::owner(&self.store, slot),
            Entry::Address(address) => addresses::registered_for(&self.store, address),
        }
    }

    /// Whether the container that an entry names is not there, or has something else. One that cannot be read may have it.
    /// The caller holds the lock on names.
    pub(crate) fn is_stale(&self, entry: Entry, owner: &str) -> bool {
        match entry {
            Entry::Ids(slot) => !ids::has(&self.store, owner, slot),
            Entry::Address(address) => !addresses::has(&self.store, owner, address),
        }
    }

    pub(crate) fn forget(&self, entry: Entry) -> Result<(), Errno> {
        match entry {
            Entry::Ids(slot) => ids::remove(&self.store, slot),
            Entry::Address(address) => addresses::forget(&self.store, address),
        }
    }

    /// Registers what a container has and is registered for nobody; says why that cannot be. The caller holds the lock on names.
    pub(crate) fn register(&self, entry: Entry, container: &Name) -> Result<(), String> {
        let failed = |errno: Errno| errno.to_string();
        match self.owner(entry).map_err(failed)? {
            Some(owner) if owner == container.as_str() => return Ok(()),
            Some(owner) if !self.is_stale(entry, &owner) => {
                return Err(format!("container `{}` has the same", owner.escape_debug()));
            }
            Some(_) => self.forget(entry).map_err(failed)?,
            None => {}
        }
        match entry {
            Entry::Ids(slot) => ids::register(&self.store, container, slot),
            Entry::Address(address) => addresses::register_for(&self.store, container, address),
        }
    }

    /// Where a container's things lie in the store.
    pub(crate) fn container_path(&self, name: &Name) -> String {
        format!("{CONTAINERS}/{name}")
    }
}
