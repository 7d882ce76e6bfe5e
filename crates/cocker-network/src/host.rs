//! The host's side: a bridge with the subnet's first address, forwarding for it and for the links that lead out, and
//! the table.
//!
//! All of it is looked at on every boot and made or mended where it is not as it should be; nothing of it is in the
//! way of others, and nothing is taken away that somebody else made.

use crate::failure::NetworkError;
use crate::firewall::{Entry, Firewall, ForwardBlock, short};
use crate::links::{self, HostAddress, Link, hardware_for};
use crate::netlink::{Messages, Netlink};
use crate::plan::{Bridge, Endpoint, LINK_PREFIX, NetworkPlan};
use crate::routes;
use crate::subnet::Subnet4;
use crate::sysctl;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::net::IpAddr;

/// The host's side, ready for a container to be attached.
pub struct HostSide {
    pub(crate) firewall: Firewall,
    pub(crate) bridge: u32,
    pub(crate) mtu: u32,
    /// By which links the container leaves the host.
    pub(crate) uplinks: Vec<String>,
}

impl AsFd for HostSide {
    /// The socket to the table of packets, for whoever keeps it open: see [`Aftermath`](crate::Aftermath).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.firewall.as_fd()
    }
}

/// What keeps a container's packets from getting through, though all of its own is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody else's rules.
    Blocked(ForwardBlock),
    /// The host has no default route, and no link was chosen for the container.
    NoWayOut,
}

/// What Ethernet takes, where nothing says otherwise.
const USUAL_MTU: u32 = 1500;

/// What marks a bridge as a store's.
pub(crate) const MARK: &str = "cocker: ";

/// Makes or mends everything that stands on the host before a container is attached. `booted` tells the endpoints of
/// the store's booted containers; it is asked only where something of them may be lost.
pub fn prepare(
    plan: &NetworkPlan,
    booted: impl FnOnce() -> Vec<Endpoint>,
) -> Result<HostSide, NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let (bridge, is_new) = ready_bridge(&mut netlink, &plan.bridge)?;
    ready_addresses(&mut netlink, plan, &bridge)?;
    let was_lost = is_new && gather_ports(&mut netlink, &bridge, booted)?;
    let uplinks = uplinks(&mut netlink, &plan.endpoint)?;
    let mtu = plan.bridge.mtu.or(uplinks.first().map(|uplink| uplink.mtu));
    let uplinks: Vec<String> = uplinks.into_iter().map(|uplink| uplink.name).collect();
    let has_mappings = was_lost || !plan.endpoint.ports.is_empty();
    set_switches(&plan.bridge, &uplinks, has_mappings)?;

    Ok(HostSide {
        firewall: Firewall::open()?,
        bridge: bridge.index,
        mtu: mtu.unwrap_or(USUAL_MTU),
        uplinks,
    })
}

/// Makes the table right once the container is entered, and says what keeps its packets from getting through.
pub(crate) fn ready_table(
    host: &mut HostSide,
    bridge: &Bridge,
    booted: impl Fn() -> Vec<Endpoint>,
) -> Result<Vec<Obstacle>, NetworkError> {
    let entries = || lost_entries(&booted);
    host.firewall
        .put_right(&bridge.name, &bridge.store, entries)?;
    let mut blocks = host.firewall.forward_blocks(&bridge.name)?;
    // Whoever drops a family that the containers do not have is in nobody's way.
    blocks.retain(|block| block.family != "ip6" || bridge.subnet6.is_some());
    let mut obstacles: Vec<Obstacle> = blocks.into_iter().map(Obstacle::Blocked).collect();
    if host.uplinks.is_empty() {
        obstacles.push(Obstacle::NoWayOut);
    }
    Ok(obstacles)
}

/// What the table should have of the store's booted containers. Where no container has a port of a bridge, none is
/// looked for: reading what a store has may take long.
fn lost_entries(booted: impl Fn() -> Vec<Endpoint>) -> Result<Vec<Entry>, NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let is_port = |link: &Link| link.name.starts_with(LINK_PREFIX) && link.master != 0;
    if !links::all(&mut netlink)?.iter().any(is_port) {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    for endpoint in booted() {
        let uplinks = match uplinks(&mut netlink, &endpoint) {
            Err(error @ NetworkError::NoSuchLink { .. }) => {
                let holder = &endpoint.holder;
                tracing::warn!("container {holder} stays without a way out: {error}");
                Vec::new()
            }
            found => found?,
        };
        let names: Vec<String> = uplinks.into_iter().map(|link| link.name).collect();
        entries.push(endpoint.entry(&names));
    }
    Ok(entries)
}

/// Says whether this host has a link of that name.
pub fn has_link(name: &str) -> Result<bool, NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    Ok(links::find(&mut netlink, name)?.is_some())
}

/// The bridge, made where it is missing; and whether its ports may have to be gathered again, because it is new to us.
fn ready_bridge(netlink: &mut Netlink, plan: &Bridge) -> Result<(Link, bool), NetworkError> {
    let name = &plan.name;
    let store = short(&plan.store);
    let mark = format!("{MARK}{store}");
    let mut is_new = false;
    let bridge = loop {
        if let Some(bridge) = links::find(netlink, name)? {
            break bridge;
        }
        is_new = true;
        let hardware = hardware_for(plan.subnet.host);
        match links::make_bridge(netlink, name, hardware, &mark) {
            // Another boot was faster: then there is one.
            Err(refusal) if refusal.errno == Errno::EXIST => {}
            made => made?,
        }
    };
    if bridge.kind != "bridge" {
        return Err(NetworkError::NotABridge { name: name.clone() });
    }
    let mut messages = Messages::new();
    match bridge.alias.strip_prefix(MARK) {
        Some(marked) if marked == store => {}
        Some(marked) => {
            return Err(NetworkError::ForeignBridge {
                name: name.clone(),
                store: marked.into(),
            });
        }
        // Made by hand, with an alias of its own or none: used as it is, from now on as ours.
        None => {
            is_new = true;
            links::set_alias(&mut messages, bridge.index, name, &mark);
        }
    }
    if !bridge.is_up {
        links::set_up(&mut messages, bridge.index, name);
    }
    netlink.change(messages)?;
    Ok((bridge, is_new))
}

/// Gives the bridge its addresses, unless somebody has the subnet or the container's address already.
fn ready_addresses(
    netlink: &mut Netlink,
    plan: &NetworkPlan,
    bridge: &Link,
) -> Result<(), NetworkError> {
    let mut messages = Messages::new();
    for (gateway, address, prefix) in plan.addresses() {
        let family = match gateway {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let found = links::addresses(netlink, family)?;
        refuse_collisions(netlink, plan, bridge, &found, address)?;
        let is_ours = |found: &HostAddress| {
            (found.link, found.address, found.prefix) == (bridge.index, gateway, prefix)
        };
        if !found.iter().any(is_ours) {
            if family == libc::AF_INET6 {
                if !sysctl::has_ipv6() {
                    return Err(NetworkError::NoIpv6);
                }
                sysctl::set(&format!("ipv6/conf/{}/disable_ipv6", bridge.name), "0")?;
            }
            links::add_address(&mut messages, bridge.index, gateway, prefix);
        }
    }
    Ok(netlink.change(messages)?)
}

fn refuse_collisions(
    netlink: &mut Netlink,
    plan: &NetworkPlan,
    bridge: &Link,
    found: &[HostAddress],
    address: IpAddr,
) -> Result<(), NetworkError> {
    let mut name_of = |index| -> Result<String, NetworkError> {
        let link = links::find_index(netlink, index)?;
        Ok(link.map_or_else(|| format!("number {index}"), |link| link.name))
    };
    for other in found {
        if other.address == address {
            let link = name_of(other.link)?;
            return Err(NetworkError::AddressInUse { address, link });
        }
        let IpAddr::V4(host) = other.address else {
            continue;
        };
        let prefix = other.prefix;
        if other.link != bridge.index && plan.bridge.subnet.overlaps(&Subnet4 { host, prefix }) {
            return Err(NetworkError::SubnetInUse {
                bridge: plan.bridge.name.clone(),
                subnet: plan.bridge.subnet,
                link: name_of(other.link)?,
                address: other.address,
                prefix,
            });
        }
    }
    Ok(())
}

/// Makes the links of booted containers ports again, after somebody has removed the bridge under them; says whether
/// there were any.
fn gather_ports(
    netlink: &mut Netlink,
    bridge: &Link,
    booted: impl FnOnce() -> Vec<Endpoint>,
) -> Result<bool, NetworkError> {
    let mut astray = links::all(netlink)?;
    astray.retain(|link| link.master == 0 && link.name.starts_with(LINK_PREFIX));
    if astray.is_empty() {
        return Ok(false);
    }
    let mut booted = booted();
    booted.retain(|endpoint| endpoint.bridge == bridge.name);
    let mut messages = Messages::new();
    for link in astray {
        let owner = booted
            .iter()
            .find(|endpoint| link.name.starts_with(&endpoint.link_prefix));
        if let Some(endpoint) = owner {
            tracing::debug!("`{}` becomes a port of `{}` again", link.name, bridge.name);
            links::set_master(&mut messages, &link.name, bridge.index);
            links::ready_port(&mut messages, &link.name);
            links::place_hardware(&mut messages, link.index, hardware_for(endpoint.address));
        }
    }
    let was_lost = !messages.is_empty();
    netlink.change(messages)?;
    Ok(was_lost)
}

/// The links by which a container leaves the host: the one that was chosen for it, or those of the default routes.
fn uplinks(netlink: &mut Netlink, endpoint: &Endpoint) -> Result<Vec<Link>, NetworkError> {
    if let Some(name) = &endpoint.uplink {
        let link = links::find(netlink, name)?;
        let missing = || NetworkError::NoSuchLink { name: name.clone() };
        return Ok(vec![link.ok_or_else(missing)?]);
    }
    let mut indexes = routes::default_links(netlink, libc::AF_INET)?;
    if endpoint.address6.is_some() {
        indexes.extend(routes::default_links(netlink, libc::AF_INET6)?);
        indexes.sort_unstable();
        indexes.dedup();
    }
    let mut links = Vec::new();
    for index in indexes {
        links.extend(links::find_index(netlink, index)?);
    }
    Ok(links)
}

/// Forwarding for the bridge and for what leads out, and for no other link.
fn set_switches(
    bridge: &Bridge,
    uplinks: &[String],
    has_mappings: bool,
) -> Result<(), NetworkError> {
    let name = &bridge.name;
    for link in [name].into_iter().chain(uplinks) {
        sysctl::set(&format!("ipv4/conf/{link}/forwarding"), "1")?;
    }
    // A container that sends in the name of somebody outside the subnet is not listened to.
    sysctl::set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
    // What it would announce as a router is not for the host.
    sysctl::set_if_known(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    if has_mappings {
        // 127.0.0.1 of the host leads to containers by their mappings; the table's chain `guard` closes the way back.
        sysctl::set(&format!("ipv4/conf/{name}/route_localnet"), "1")?;
    }
    if bridge.subnet6.is_some() {
        forward_ipv6(name, uplinks)?;
    }
    Ok(())
}

/// Since Linux 6.17 a link can forward alone; before, the whole host must, and then it no longer listens to its routers
/// unless told so.
fn forward_ipv6(bridge: &str, uplinks: &[String]) -> Result<(), NetworkError> {
    let alone = format!("ipv6/conf/{bridge}/force_forwarding");
    if sysctl::set_if_known(&alone, "1")? {
        for uplink in uplinks {
            sysctl::set_if_known(&format!("ipv6/conf/{uplink}/force_forwarding"), "1")?;
        }
        return Ok(());
    }
    if sysctl::is("ipv6/conf/all/forwarding", "1") {
        return Ok(()); // as its administrator has it, routers included
    }
    for link in sysctl::links_of_ipv6() {
        let name = format!("ipv6/conf/{link}/accept_ra");
        if sysctl::is(&name, "1") {
            sysctl::set(&name, "2")?;
        }
    }
    Ok(sysctl::set("ipv6/conf/all/forwarding", "1")?)
}
