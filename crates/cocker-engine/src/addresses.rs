//! Addresses of containers on the store's bridges: each has one for its whole life.
//!
//! ```text
//!   $COCKER_HOME/addresses/<IPv4 address>  ──link whose text is──▶  <container's name>
//! ```
//!
//! The address says which bridge: a bridge takes 1,023 ports and a subnet has only so many addresses, so there are
//! several, each with the next subnet of the same size, and one is opened when those before it are full. All calls
//! need the store's lock. A link whose container is not there, or says another address, is of a crash between two
//! steps and counts as free.

use crate::config::NetworkConfig;
use crate::container::{Container, NetworkSettings};
use cocker_image::{Name, Store};
use cocker_network::{Bridge, Subnet4};
use cocker_sys::fault;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const FOLDER: &str = "addresses";

/// How many bridges a store may have.
const MOST_BRIDGES: u32 = 16;

/// `BR_MAX_PORTS` of the kernel's net/bridge/br_private.h, without the number 0 that no port has.
const MOST_PORTS: u32 = 1023;

/// An address cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("address {address} is not in the subnet {subnet}")]
    OutsideSubnet { address: Ipv4Addr, subnet: Subnet4 },
    #[error("address {address} is that of the whole network {subnet}")]
    OfNetwork { address: Ipv4Addr, subnet: Subnet4 },
    #[error("address {address} is the broadcast address of {subnet}")]
    OfBroadcast { address: Ipv4Addr, subnet: Subnet4 },
    #[error("address {address} is that of bridge `{bridge}` itself")]
    OfBridge { address: Ipv4Addr, bridge: String },
    #[error("address {address} is taken by container `{container}`")]
    Taken {
        address: Ipv4Addr,
        container: String,
    },
    #[error("all addresses of {bridges} bridges from {subnet} on are taken")]
    NoneLeft { bridges: u32, subnet: Subnet4 },
    #[error("cannot keep the register of addresses")]
    Register {
        #[source]
        source: Errno,
    },
}

impl AddressError {
    pub(crate) fn hint(&self) -> Option<String> {
        Some(match self {
            AddressError::OutsideSubnet { .. } => {
                "leave --vip out and the next free address is taken; config.toml says the subnet.".into()
            }
            AddressError::OfNetwork { .. }
            | AddressError::OfBroadcast { .. }
            | AddressError::OfBridge { .. }
            | AddressError::Taken { .. } => {
                "leave --vip out and the next free address is taken.".into()
            }
            AddressError::NoneLeft { .. } => {
                "choose a larger subnet in config.toml, or destroy a container that is not needed any more.".into()
            }
            AddressError::Register { .. } => return None,
        })
    }
}

/// Bridge number `number` of a store: the first one has the configured name and subnet.
pub(crate) fn bridge(config: &NetworkConfig, store: &Store, number: u32) -> Option<Bridge> {
    let name = match number {
        0 => config.bridge.clone(),
        further => format!("{}-{further}", config.bridge),
    };
    let subnet6 = match config.subnet6 {
        Some(subnet6) => Some(subnet6.further(number)?),
        None => None,
    };
    Some(Bridge {
        name,
        subnet: config.subnet.further(number)?,
        subnet6,
        mtu: config.mtu,
        store: store.home().to_string_lossy().into_owned(),
    })
}

/// The bridge whose subnet has this address.
pub(crate) fn bridge_of(
    config: &NetworkConfig,
    store: &Store,
    address: Ipv4Addr,
) -> Option<Bridge> {
    let mut bridges = (0..MOST_BRIDGES).map_while(|number| bridge(config, store, number));
    bridges.find(|bridge| bridge.subnet.contains(address))
}

/// The IPv6 address that goes with an address on a bridge: at the same place of its subnet.
pub(crate) fn address6(bridge: &Bridge, address: Ipv4Addr) -> Option<Ipv6Addr> {
    let subnet6 = bridge.subnet6?;
    let place = |address| u32::from(address) - u32::from(bridge.subnet.network());
    let address6 = subnet6.address_at(place(address));
    // Where the two subnets give the host different places, whoever stands at its place takes the one that is left
    // over.
    Some(match address6 == subnet6.host {
        true => subnet6.address_at(place(bridge.subnet.host)),
        false => address6,
    })
}

/// Where it is written down who has an address, seen from COCKER_HOME.
pub(crate) fn path(address: Ipv4Addr) -> String {
    format!("{FOLDER}/{address}")
}

/// Takes `wanted`, or the next free address, for a container.
pub(crate) fn take(
    store: &Store,
    config: &NetworkConfig,
    container: &Name,
    wanted: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, AddressError> {
    let folder = folder(store).map_err(register)?;
    let address = match wanted {
        Some(address) => {
            check(store, config, &folder, address)?;
            address
        }
        None => match next_free(config, &taken(&folder).map_err(register)?) {
            Err(AddressError::NoneLeft { .. }) => {
                drop_stale(store, &folder).map_err(register)?;
                next_free(config, &taken(&folder).map_err(register)?)?
            }
            found => found?,
        },
    };
    enter(store, &folder, container, address)?;
    Ok(address)
}

/// Takes the addresses out of the register whose container is not there: whoever made or removed it was killed. The caller
/// holds the lock on names.
pub(crate) fn sweep(store: &Store) -> Result<(), Errno> {
    let folder = match open(store) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    for address in taken(&folder)? {
        let Some(owner) = owner(&folder, address)? else {
            continue;
        };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Err(Errno::NOENT) = rustix::fs::statat(store.containers_folder(), &owner, flags) {
            remove(&folder, address)?;
        }
    }
    Ok(())
}

/// Gives an address of this container back.
pub(crate) fn give_back(store: &Store, container: &Name, address: Ipv4Addr) -> Result<(), Errno> {
    let folder = folder(store)?;
    match owner(&folder, address)? {
        Some(owner) if owner == container.as_str() => remove(&folder, address),
        _ => Ok(()),
    }
}

/// Gives back every address of a container whose settings cannot say which one it has.
pub(crate) fn give_back_all_of(store: &Store, container: &Name) -> Result<(), Errno> {
    let addresses = taken(&folder(store)?)?;
    addresses
        .into_iter()
        .try_for_each(|address| give_back(store, container, address))
}

/// Every address that is registered. Makes nothing.
pub(crate) fn registered(store: &Store) -> Result<Vec<Ipv4Addr>, Errno> {
    match open(store) {
        Ok(folder) => Ok(taken(&folder)?.into_iter().collect()),
        Err(Errno::NOENT) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// The name of the container for which an address is registered. Makes nothing.
pub(crate) fn registered_for(store: &Store, address: Ipv4Addr) -> Result<Option<String>, Errno> {
    match open(store) {
        Ok(folder) => owner(&folder, address),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Registers an address, which nobody has, for the container that has it.
pub(crate) fn register_for(
    store: &Store,
    container: &Name,
    address: Ipv4Addr,
) -> Result<(), String> {
    let entered = folder(store)
        .map_err(register)
        .and_then(|folder| enter(store, &folder, container, address));
    entered.map_err(|error| error.to_string())
}

/// Takes an address out of the register, whoever it is registered for.
pub(crate) fn forget(store: &Store, address: Ipv4Addr) -> Result<(), Errno> {
    remove(&open(store)?, address)
}

fn check(
    store: &Store,
    config: &NetworkConfig,
    folder: &OwnedFd,
    address: Ipv4Addr,
) -> Result<(), AddressError> {
    let outside = AddressError::OutsideSubnet {
        address,
        subnet: config.subnet,
    };
    let Some(bridge) = bridge_of(config, store, address) else {
        return Err(outside);
    };
    let subnet = bridge.subnet;
    if subnet != config.subnet {
        let taken = taken(folder).map_err(register)?;
        let is_open = taken.iter().any(|&taken| subnet.contains(taken));
        if !is_open {
            return Err(outside);
        }
    }
    match address {
        own if own == subnet.host => Err(AddressError::OfBridge {
            address,
            bridge: bridge.name,
        }),
        network if network == subnet.network() => Err(AddressError::OfNetwork { address, subnet }),
        broadcast if broadcast == subnet.broadcast() => {
            Err(AddressError::OfBroadcast { address, subnet })
        }
        _ => Ok(()),
    }
}

/// The lowest free address of the first bridge that has room.
fn next_free(config: &NetworkConfig, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, AddressError> {
    let subnets = (0..MOST_BRIDGES).map_while(|number| config.subnet.further(number));
    for subnet in subnets {
        let (first, last) = (subnet.network(), subnet.broadcast());
        if taken.range(first..=last).count() as u32 >= MOST_PORTS {
            continue;
        }
        let mut inner = (u32::from(first) + 1..u32::from(last)).map(Ipv4Addr::from);
        let free = inner.find(|address| *address != subnet.host && !taken.contains(address));
        if let Some(address) = free {
            return Ok(address);
        }
    }
    Err(AddressError::NoneLeft {
        bridges: MOST_BRIDGES,
        subnet: config.subnet,
    })
}

fn enter(
    store: &Store,
    folder: &OwnedFd,
    container: &Name,
    address: Ipv4Addr,
) -> Result<(), AddressError> {
    loop {
        let link = || rustix::fs::symlinkat(container.as_str(), folder, address.to_string());
        match fault::step("address.take", link) {
            Ok(()) => {
                let sync = || rustix::fs::fsync(folder);
                return fault::step("address.sync", sync).map_err(register);
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(register(errno)),
        }
        if let Some(owner) = owner(folder, address).map_err(register)? {
            if has(store, &owner, address) {
                return Err(AddressError::Taken {
                    address,
                    container: owner,
                });
            }
            remove(folder, address).map_err(register)?;
        }
    }
}

/// Removes the links whose container is not there or has another address: a crash between two steps leaves one.
fn drop_stale(store: &Store, folder: &OwnedFd) -> Result<(), Errno> {
    for address in taken(folder)? {
        match owner(folder, address)? {
            Some(owner) if !has(store, &owner, address) => remove(folder, address)?,
            _ => {}
        }
    }
    Ok(())
}

/// Says whether the container is there and has the address. One that cannot be read may have it.
pub(crate) fn has(store: &Store, container: &str, address: Ipv4Addr) -> bool {
    let Ok(name) = Name::parse(container) else {
        return false;
    };
    match Container::open(store, &name) {
        Ok(container) => matches!(
            container.settings.network,
            NetworkSettings::Bridge { address: its, .. } if its == address
        ),
        Err(error) => !matches!(error, crate::failure::ContainerError::Unknown { .. }),
    }
}

/// The folder of the register; NOENT where there has never been an address.
pub(crate) fn open(store: &Store) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(store.folder(), FOLDER, flags, Mode::empty())
}

fn folder(store: &Store) -> Result<OwnedFd, Errno> {
    match open(store) {
        Err(Errno::NOENT) => {
            let make = || rustix::fs::mkdirat(store.folder(), FOLDER, Mode::RWXU);
            match fault::step("address.folder", make) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            rustix::fs::fsync(store.folder())?;
            open(store)
        }
        opened => opened,
    }
}

fn taken(folder: &OwnedFd) -> Result<BTreeSet<Ipv4Addr>, Errno> {
    let mut taken = BTreeSet::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_str().ok();
        taken.extend(name.and_then(|name| name.parse::<Ipv4Addr>().ok()));
    }
    Ok(taken)
}

fn owner(folder: &OwnedFd, address: Ipv4Addr) -> Result<Option<String>, Errno> {
    match rustix::fs::readlinkat(folder, address.to_string(), Vec::new()) {
        Ok(owner) => Ok(Some(owner.to_string_lossy().into_owned())),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn remove(folder: &OwnedFd, address: Ipv4Addr) -> Result<(), Errno> {
    let unlink = || rustix::fs::unlinkat(folder, address.to_string(), AtFlags::empty());
    match fault::step("address.give_back", unlink) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn register(source: Errno) -> AddressError {
    AddressError::Register { source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(subnet: &str) -> NetworkConfig {
        NetworkConfig {
            subnet: subnet.parse().expect("a subnet"),
            ..NetworkConfig::default()
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().expect("a folder");
        let store = Store::open(&home.path().join("store")).expect("a store of its own");
        (home, store)
    }

    #[test]
    fn the_next_free_address_passes_over_the_bridges_own_and_goes_on_in_the_next_subnet() {
        let config = config("10.77.0.2/29");
        let mut taken = BTreeSet::new();
        let mut given = Vec::new();
        for _ in 0..7 {
            let address = next_free(&config, &taken).expect("there are more");
            taken.insert(address);
            given.push(address.to_string());
        }
        let expected = [
            "10.77.0.1",
            "10.77.0.3",
            "10.77.0.4",
            "10.77.0.5",
            "10.77.0.6",
            "10.77.0.9",
            "10.77.0.11",
        ];
        assert_eq!(given, expected);
        taken.remove(&Ipv4Addr::new(10, 77, 0, 4));
        assert_eq!(next_free(&config, &taken).unwrap().to_string(), "10.77.0.4");
    }

    #[test]
    fn a_bridge_has_no_more_ports_than_the_kernel_gives_it() {
        let config = config("10.0.0.1/16");
        let taken: BTreeSet<Ipv4Addr> = (2..2 + MOST_PORTS)
            .map(|place| Ipv4Addr::from(0x0a00_0000 + place))
            .collect();
        assert_eq!(next_free(&config, &taken).unwrap().to_string(), "10.1.0.2");
    }

    #[test]
    fn there_is_an_end_to_bridges() {
        let config = config("10.77.0.1/30");
        let mut taken = BTreeSet::new();
        for _ in 0..MOST_BRIDGES {
            taken.insert(next_free(&config, &taken).expect("one a bridge"));
        }
        assert!(matches!(
            next_free(&config, &taken),
            Err(AddressError::NoneLeft { .. })
        ));
    }

    #[test]
    fn impossible_addresses_are_refused() {
        let (_home, store) = store();
        let config = config("166.88.0.1/24");
        let name = Name::parse("web").unwrap();
        let refuse = |text: &str| {
            let address = text.parse().unwrap();
            take(&store, &config, &name, Some(address)).expect_err(text)
        };
        assert!(matches!(
            refuse("166.88.0.0"),
            AddressError::OfNetwork { .. }
        ));
        assert!(matches!(
            refuse("166.88.0.255"),
            AddressError::OfBroadcast { .. }
        ));
        assert!(matches!(
            refuse("166.88.0.1"),
            AddressError::OfBridge { .. }
        ));
        for outside in ["10.0.0.5", "166.87.255.255", "166.88.1.5", "166.89.0.5"] {
            assert!(
                matches!(refuse(outside), AddressError::OutsideSubnet { .. }),
                "{outside}"
            );
        }
        assert!(taken(&folder(&store).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn an_address_whose_container_is_gone_is_free() {
        let (_home, store) = store();
        let config = config("166.88.0.1/24");
        let name = |text| Name::parse(text).unwrap();
        let address = take(&store, &config, &name("gone"), None).unwrap();
        assert_eq!(
            take(&store, &config, &name("web"), Some(address)).unwrap(),
            address
        );
        give_back(&store, &name("gone"), address).unwrap();
        assert!(
            !taken(&folder(&store).unwrap()).unwrap().is_empty(),
            "it is another container's now"
        );
        give_back(&store, &name("web"), address).unwrap();
        assert!(taken(&folder(&store).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn stale_links_are_dropped_before_it_is_said_that_nothing_is_left() {
        let (_home, store) = store();
        let config = config("10.77.0.1/30");
        let name = |text: &str| Name::parse(text).unwrap();
        for number in 0..MOST_BRIDGES {
            take(&store, &config, &name(&format!("gone{number}")), None).unwrap();
        }
        let address = take(&store, &config, &name("web"), None).unwrap();
        assert_eq!(address.to_string(), "10.77.0.2");
    }

    #[test]
    fn an_ipv6_address_stands_at_the_same_place_and_never_on_the_hosts() {
        let (_home, store) = store();
        let config = NetworkConfig {
            subnet6: Some("fd42::3/64".parse().unwrap()),
            ..config("166.88.0.1/24")
        };
        let bridge = bridge(&config, &store, 0).unwrap();
        let at = |last| {
            address6(&bridge, Ipv4Addr::new(166, 88, 0, last))
                .unwrap()
                .to_string()
        };
        assert_eq!(at(2), "fd42::2");
        assert_eq!(at(3), "fd42::1");
        assert_eq!(at(77), "fd42::4d");
    }
}
