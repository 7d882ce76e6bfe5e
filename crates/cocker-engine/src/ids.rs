//! Ranges of host ids: each container has 65,536 of its own, so that root of one is nobody to the host and to the others.
//!
//! ```text
//!   $COCKER_HOME/ids/<slot>  ──link whose text is──▶  <container's name>
//! ```
//!
//! Which ids are cocker's to give, /etc/subuid and /etc/subgid say in their lines of root (subuid(5)); where they say nothing,
//! those from [`FIRST`] on. A slot is a number that stands for a range, whatever those files say later:
//!
//! ```text
//!   slot 0 to 4,095       65,536 ids from FIRST + slot × 65,536 on
//!   slot from 65,536 on   65,536 ids from that number on
//! ```
//!
//! All calls need the store's lock. A link whose container is not there (a crash between two steps) counts as free.

use crate::container::Container;
use crate::failure::ContainerError;
use cocker_image::{Name, Store};
use cocker_sandbox::{HostId, IdRange};
use cocker_sys::fault;
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Ids of one container.
pub(crate) const COUNT: u32 = 65_536;

/// The ids from here to 2,147,483,647 are cocker's: above those that systemd gives to its own containers (to
/// 1,879,048,191, see systemd's UIDS-GIDS), below where some programs take an id for negative.
pub(crate) const FIRST: u32 = 0x7000_0000;

/// How many ranges there are from there on.
const SLOTS: u32 = (0x8000_0000 - FIRST) / COUNT;

/// Whose lines are for us.
const OWNER: [&str; 2] = ["root", "0"];

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
        first: HostId(first(slot)),
        count: COUNT,
    }
}

/// Where the range of a slot begins, in the host's ids.
fn first(slot: u32) -> u32 {
    match slot < COUNT {
        true => FIRST + slot * COUNT,
        false => slot,
    }
}

/// Whether the number stands for a range.
pub(crate) fn is_slot(slot: u32) -> bool {
    slot < SLOTS || (COUNT..=u32::MAX - COUNT).contains(&slot)
}

/// The slots that may be given, in their order.
pub(crate) struct Offer {
    slots: Vec<u32>,
    /// Whether the host's files say which.
    pub is_from_files: bool,
}

impl Offer {
    pub(crate) fn of_host() -> Offer {
        let read = |file| std::fs::read_to_string(file).unwrap_or_default();
        Offer::by_files(&read("/etc/subuid"), &read("/etc/subgid"))
    }

    /// A container has the same numbers for users and groups, so only what both files give is of use.
    fn by_files(users: &str, groups: &str) -> Offer {
        let groups: Vec<(u32, u32)> = given(groups).collect();
        let both = given(users).flat_map(|(start, end)| {
            let common = groups
                .iter()
                .map(move |group| (start.max(group.0), end.min(group.1)));
            common
                .filter(|(start, end)| start < end)
                .collect::<Vec<_>>()
        });
        let mut both = both.peekable();
        if both.peek().is_none() {
            return Offer {
                slots: (0..SLOTS).collect(),
                is_from_files: false,
            };
        }
        let slots = both.flat_map(|(start, end)| {
            let count = (end - start) / COUNT;
            (0..count).map(move |number| start + number * COUNT)
        });
        Offer {
            slots: slots.filter(|slot| is_slot(*slot)).collect(),
            is_from_files: true,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }
}

/// What the lines of root give: the first id, and the one behind the last.
fn given(text: &str) -> impl Iterator<Item = (u32, u32)> {
    text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let is_ours = OWNER.contains(&parts.next()?);
        let (start, count): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let is_whole = is_ours && parts.next().is_none();
        // Below are the ids of the host's own users.
        (is_whole && start >= COUNT).then(|| (start, start.saturating_add(count)))
    })
}

/// What the lines of others give them: who, the first id, and the one behind the last.
pub(crate) fn given_to_others(text: &str) -> Vec<(String, u32, u32)> {
    let given = text.lines().filter_map(|line| {
        let mut parts = line.trim().split(':');
        let who = parts.next().filter(|who| !OWNER.contains(who))?;
        let (start, count): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some((who.into(), start, start.saturating_add(count)))
    });
    given.collect()
}

/// Where it is written down who has a slot, seen from COCKER_HOME.
pub(crate) fn path(slot: u32) -> String {
    format!("ids/{slot}")
}

/// Takes the first free slot for a container of a name that is free itself. `None` when all are taken.
pub(crate) fn take(store: &Store, container: &Name, offer: &Offer) -> Result<Option<u32>, Errno> {
    let mut taken = taken(store)?;
    // Where all have the same ids, a slot is but a number.
    let are_shared = cocker_sys::namespace::is_below_the_host();
    for &slot in &offer.slots {
        // What was given once may lie across what the files say now.
        let others: Vec<u32> = overlapping(&taken, slot, are_shared).collect();
        let mut is_free = true;
        for other in others {
            let owner = &taken[&other];
            let is_left_over = owner == container.as_str() || !exists(store, owner)?;
            match is_left_over {
                true => {
                    remove(store, other)?;
                    taken.remove(&other);
                }
                false => is_free = false,
            }
        }
        if !is_free {
            continue;
        }
        let link =
            || rustix::fs::symlinkat(container.as_str(), store.ids_folder(), slot.to_string());
        fault::step("ids.take", link)?;
        return Ok(Some(slot));
    }
    Ok(None)
}

/// Registers a slot for the container that has it, where no other has any id of it.
pub(crate) fn register(store: &Store, container: &Name, slot: u32) -> Result<(), String> {
    let failed = |errno: Errno| errno.to_string();
    let taken = taken(store).map_err(failed)?;
    let are_shared = cocker_sys::namespace::is_below_the_host();
    if let Some(other) = overlapping(&taken, slot, are_shared).next() {
        return Err(format!("container `{}` has some of them", taken[&other]));
    }
    let folder = store.ids_folder();
    rustix::fs::symlinkat(container.as_str(), folder, slot.to_string())
        .and_then(|()| rustix::fs::fsync(folder))
        .map_err(failed)
}

/// The first host id of a slot and the one behind its last.
pub(crate) fn span(slot: u32) -> (u32, u32) {
    (first(slot), first(slot).saturating_add(COUNT))
}

/// The slots that are registered and whose ranges have an id in common with this one's.
fn overlapping(
    taken: &BTreeMap<u32, String>,
    slot: u32,
    are_shared: bool,
) -> impl Iterator<Item = u32> {
    let overlaps = move |other: &u32| match are_shared {
        true => *other == slot,
        false => first(*other).abs_diff(first(slot)) < COUNT,
    };
    taken.keys().copied().filter(overlaps)
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
    let unlink = || {
        rustix::fs::unlinkat(
            store.ids_folder(),
            slot.to_string(),
            rustix::fs::AtFlags::empty(),
        )
    };
    match fault::step("ids.give_back", unlink) {
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
    (slot.to_string() == name && is_slot(slot)).then_some(slot)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_files_give_root_is_offered_in_ranges() {
        let offer = |users: &str, groups: &str| {
            let offer = Offer::by_files(users, groups);
            (offer.is_from_files, offer.slots)
        };
        let line = "root:200000:131072\n";
        assert_eq!(offer(line, line), (true, vec![200_000, 265_536]));
        let others =
            "calvin:100000:65536\nroot:200000:131071\n# root:1:2\nroot:x:1\nroot:70000:65536:1\n";
        assert_eq!(offer(others, line), (true, vec![200_000]));
        assert_eq!(
            offer("0:300000:65536", "root:300000:65536"),
            (true, vec![300_000])
        );
        let shifted = "root:250000:200000";
        assert_eq!(offer(line, shifted), (true, vec![250_000]));
        // Too few for one, but said all the same: then none is given.
        assert_eq!(
            offer("root:200000:1000", "root:200000:1000"),
            (true, vec![])
        );
        for (users, groups) in [
            ("", ""),
            (line, ""),
            ("root:0:4294967295", "root:0:4294967295"),
            (line, "root:900000:65536"),
        ] {
            let (is_from_files, slots) = offer(users, groups);
            assert!(
                !is_from_files && slots.len() == SLOTS as usize,
                "{users} {groups}"
            );
        }
        let (_, slots) = offer("root:4294905000:65536", "root:4294905000:65536");
        assert!(slots.is_empty(), "{slots:?}");
    }

    #[test]
    fn what_others_are_given_is_read_line_by_line() {
        let text =
            "root:1879048192:65536\nada:100000:65536\n# none\nbob:x:1\n0:1:2\nmax:4294967295:9\n";
        let given = given_to_others(text);
        let expected = [
            ("ada".to_string(), 100_000, 165_536),
            ("max".to_string(), u32::MAX, u32::MAX),
        ];
        assert_eq!(given, expected);
        assert_eq!(span(1), (FIRST + COUNT, FIRST + 2 * COUNT));
        assert_eq!(span(200_000), (200_000, 200_000 + COUNT));
    }

    #[test]
    fn a_slot_stands_for_one_range_for_ever() {
        assert_eq!(range(0).first.0, FIRST);
        assert_eq!(range(SLOTS - 1).first.0, 0x7fff_0000);
        assert_eq!(range(200_000).first.0, 200_000);
        assert!(is_slot(0) && is_slot(COUNT) && is_slot(SLOTS - 1));
        assert!(!is_slot(SLOTS) && !is_slot(COUNT - 1) && !is_slot(u32::MAX));
        let taken = BTreeMap::from([(1, "a".to_string()), (200_000, "b".to_string())]);
        let overlapping = |slot| overlapping(&taken, slot, false).collect::<Vec<_>>();
        assert!(overlapping(0).is_empty());
        assert_eq!(overlapping(1), [1]);
        assert_eq!(overlapping(FIRST + COUNT + 5), [1]);
        assert!(overlapping(200_000 - COUNT).is_empty());
        assert_eq!(overlapping(200_000 + COUNT - 1), [200_000]);
    }
}
