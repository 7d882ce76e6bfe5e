//! Ranges of host ids: each container has 65,536 of its own, so that root of one is nobody to the host and to the others.
//!
//! ```text
//!   $COCKER_HOME/ids/<slot>  ──link whose text is──▶  <container's name>
//! ```
//!
//! A slot is a number; its range starts at [`FIRST`] + slot × 65,536. All calls need the store's lock. A link whose
//! container is not there (a crash between two steps) counts as free.

use crate::container::Container;
use crate::failure::ContainerError;
use cocker_image::{Name, Store};
use cocker_sandbox::{HostId, IdRange};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Ids of one container.
pub(crate) const COUNT: u32 = 65_536;

/// The ids from here to 2,147,483,647 are cocker's: above those that systemd gives to its own containers (to
/// 1,879,048,191, see systemd's UIDS-GIDS), below where some programs take an id for negative.
pub(crate) const FIRST: u32 = 0x7000_0000;

/// How many ranges there are.
pub(crate) const SLOTS: u32 = (0x8000_0000 - FIRST) / COUNT;

/// The range of a slot. Who is root of some ids only, as an ordinary user is, gives all of them to each container.
pub(crate) fn range(slot: u32) -> IdRange {
    let own = cocker_sys::namespace::own_ids();
    if own != u32::MAX {
        return IdRange {
            first: HostId(0),
            count: own.min(COUNT),
        };
    }
    IdRange {
        first: HostId(FIRST + slot * COUNT),
        count: COUNT,
    }
}

/// Where it is written down who has a slot, seen from COCKER_HOME.
pub(crate) fn path(slot: u32) -> String {
    format!("ids/{slot}")
}

/// Takes the lowest free slot for a container of a name that is free itself. `None` when all are taken.
pub(crate) fn take(store: &Store, container: &Name) -> Result<Option<u32>, Errno> {
    let taken = taken(store)?;
    for slot in 0..SLOTS {
        if let Some(owner) = taken.get(&slot) {
            let is_left_over = owner == container.as_str() || !exists(store, owner)?;
            if !is_left_over {
                continue;
            }
            remove(store, slot)?;
        }
        rustix::fs::symlinkat(container.as_str(), store.ids_folder(), slot.to_string())?;
        return Ok(Some(slot));
    }
    Ok(None)
}

/// Gives back a slot of this container; one that is registered for another stays.
pub(crate) fn give_back(store: &Store, container: &Name, slot: u32) -> Result<(), Errno> {
    match owner(store, slot)? {
        Some(owner) if owner == container.as_str() => remove(store, slot),
        _ => Ok(()),
    }
}

/// Takes a slot out of the register, whoever it is registered for.
pub(crate) fn remove(store: &Store, slot: u32) -> Result<(), Errno> {
    match rustix::fs::unlinkat(
        store.ids_folder(),
        slot.to_string(),
        rustix::fs::AtFlags::empty(),
    ) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Gives back every slot of a container whose settings cannot say which one it has.
pub(crate) fn give_back_all_of(store: &Store, container: &Name) -> Result<(), Errno> {
    for (slot, owner) in taken(store)? {
        if owner == container.as_str() {
            remove(store, slot)?;
        }
    }
    Ok(())
}

/// The name of the container for which a slot is registered.
pub(crate) fn owner(store: &Store, slot: u32) -> Result<Option<String>, Errno> {
    match rustix::fs::readlinkat(store.ids_folder(), slot.to_string(), Vec::new()) {
        Ok(owner) => Ok(Some(owner.to_string_lossy().into_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Every slot that is registered, whatever stands in its place.
pub(crate) fn slots(store: &Store) -> Result<Vec<u32>, Errno> {
    let mut slots = Vec::new();
    for entry in rustix::fs::Dir::read_from(store.ids_folder())? {
        let entry = entry?;
        let name = entry.file_name().to_str().ok();
        slots.extend(name.and_then(slot_of));
    }
    slots.sort_unstable();
    Ok(slots)
}

/// The slot whose link has this name.
pub(crate) fn slot_of(name: &str) -> Option<u32> {
    let slot = name.parse::<u32>().ok()?;
    (slot.to_string() == name).then_some(slot)
}

fn taken(store: &Store) -> Result<BTreeMap<u32, String>, Errno> {
    let mut taken = BTreeMap::new();
    for slot in slots(store)? {
        // One that has been given back meanwhile is not taken.
        if let Some(owner) = owner(store, slot)? {
            taken.insert(slot, owner);
        }
    }
    Ok(taken)
}

/// Says whether the container is there and has the slot. One that cannot be read may have it.
pub(crate) fn has(store: &Store, container: &str, slot: u32) -> bool {
    let Ok(name) = Name::parse(container) else {
        return false;
    };
    match Container::open(store, &name) {
        Ok(container) => container.settings.id_slot == slot,
        Err(error) => !matches!(error, ContainerError::Unknown { .. }),
    }
}

fn exists(store: &Store, container: &str) -> Result<bool, Errno> {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    match rustix::fs::statat(store.containers_folder(), container, flags) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
