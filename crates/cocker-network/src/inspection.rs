//! What stands on this host for a store's containers, as the kernel tells it: whoever knows which of them are booted sees what
//! nobody is there for any more. Looking changes nothing.

use crate::failure::NetworkError;
use crate::firewall::{Firewall, Holder, short};
use crate::host::{self, MARK};
use crate::links;
use crate::netlink::{Messages, Netlink};
use crate::pin;
use crate::plan::{Endpoint, LINK_DIGITS, LINK_PREFIX, NetworkPlan};
use crate::sysctl;
use rustix::io::Errno;
use std::net::Ipv4Addr;

pub use crate::pin::{PinnedFor, SeenName};

/// What was there at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Those of the store that the table of packets knows, with their addresses.
    pub holders: Vec<(Holder, Ipv4Addr)>,
    /// Links with a container's name that are ports of one of the store's bridges, or of none.
    pub links: Vec<SeenLink>,
    /// Names that cocker gives to network namespaces, of whatever store.
    pub names: Vec<SeenName>,
    /// How many elements lead to or come from an address that the table knows nobody by.
    pub strays: usize,
}

/// The host's end of a link to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLink {
    pub name: String,
    pub index: u32,
    /// What its name begins with, by which a container is known.
    pub prefix: String,
    /// The bridge of the store that it is a port of.
    pub bridge: Option<String>,
}

/// Looks at what is there for `store`, the path of `$COCKER_HOME`.
pub fn standing(store: &str) -> Result<Standing, NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let all = links::all(&mut netlink)?;
    let mark = format!("{MARK}{}", short(store));
    let ours = all.iter().filter(|link| link.alias == mark);
    let bridges: Vec<(u32, &str)> = ours.map(|link| (link.index, &*link.name)).collect();
    let links = all.iter().filter_map(|link| {
        let prefix = link.name.get(..LINK_PREFIX.len() + LINK_DIGITS)?;
        let digits = prefix.strip_prefix(LINK_PREFIX)?;
        let is_ours = link.kind == "veth" && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bridge = bridges.iter().find(|(index, _)| *index == link.master);
        (is_ours && (link.master == 0 || bridge.is_some())).then(|| SeenLink {
            name: link.name.clone(),
            index: link.index,
            prefix: prefix.into(),
            bridge: bridge.map(|(_, name)| (*name).into()),
        })
    });
    let mut firewall = Firewall::open()?;
    let (holders, strays) = firewall.look()?;
    let is_of_store = |(holder, _): &(Holder, _)| holder.store == short(store);
    Ok(Standing {
        holders: holders.into_iter().filter(is_of_store).collect(),
        links: links.collect(),
        names: pin::seen(),
        strays,
    })
}

/// What is wrong with the host's side of a booted container, in words.
pub fn faults(plan: &NetworkPlan) -> Result<Vec<String>, NetworkError> {
    let NetworkPlan { bridge, endpoint } = plan;
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let mut faults = Vec::new();
    let name = &bridge.name;
    let found = links::find(&mut netlink, name)?;
    match &found {
        None => faults.push(format!("bridge `{name}` is not there")),
        Some(link) if !link.is_up => faults.push(format!("bridge `{name}` is down")),
        Some(_) if !sysctl::is(&format!("ipv4/conf/{name}/forwarding"), "1") => {
            faults.push(format!(
                "the host does not forward what comes from bridge `{name}`"
            ));
        }
        Some(_) => {}
    }
    let index = found.map_or(0, |link| link.index);
    let mut ports = links::all(&mut netlink)?;
    ports.retain(|link| link.name.starts_with(&endpoint.link_prefix));
    match ports.first() {
        None => faults.push("its link is not there".into()),
        Some(link) if link.master != index || index == 0 => {
            faults.push(format!(
                "its link `{}` is no port of bridge `{name}`",
                link.name
            ));
        }
        Some(_) => {}
    }
    let mut firewall = Firewall::open()?;
    faults.extend(firewall.faults(name, &endpoint.holder, endpoint.address)?);
    Ok(faults)
}

/// Makes the host's side right again. `booted` tells the endpoints of the store's booted containers. A link that is gone comes
/// back with the container's next boot only.
pub fn mend(plan: &NetworkPlan, booted: impl Fn() -> Vec<Endpoint>) -> Result<(), NetworkError> {
    let mut host = host::prepare(plan, &booted)?;
    host.firewall
        .restore_if_missing(&plan.endpoint.entry(&host.uplinks))?;
    host::ready_table(&mut host, &plan.bridge, booted).map(drop)
}

/// What keeps the packets of containers on this bridge from getting through.
pub fn obstacles(plan: &NetworkPlan) -> Result<Vec<host::Obstacle>, NetworkError> {
    let blocks = Firewall::open()?.forward_blocks(&plan.bridge.name)?;
    let blocks = blocks.into_iter();
    let is_ours =
        |block: &crate::ForwardBlock| block.family != "ip6" || plan.bridge.subnet6.is_some();
    Ok(blocks
        .filter(is_ours)
        .map(host::Obstacle::Blocked)
        .collect())
}

/// Removes a link that was seen, and with it its other end.
pub fn remove_link(link: &SeenLink) -> Result<(), NetworkError> {
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    // An index is given to no other link; where the name is another's by now, this one is gone.
    match links::find_index(&mut netlink, link.index) {
        Ok(Some(found)) if found.name == link.name => {}
        Err(refusal) if refusal.errno != Errno::NODEV => return Err(refusal.into()),
        _ => return Ok(()),
    }
    let mut messages = Messages::new();
    links::remove(&mut messages, link.index, &link.name);
    Ok(netlink.change(messages)?)
}

/// Takes the elements away that lead to or come from an address that the table knows nobody by.
pub fn remove_strays() -> Result<(), NetworkError> {
    Ok(Firewall::open()?.remove_strays()?)
}
