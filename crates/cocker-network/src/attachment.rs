//! A container's own side: its pair of links, its addresses, its entries in the table, its namespace shown by name.

use crate::failure::NetworkError;
use crate::firewall::{Firewall, Holder};
use crate::host::{self, HostSide, Obstacle};
use crate::links::{self, Peer, hardware_for};
use crate::netlink::{Messages, Netlink};
use crate::pin;
use crate::plan::{Endpoint, NetworkPlan};
use crate::ports;
use crate::sysctl;
use cocker_sys::process::in_network_namespace;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// What the container calls its link.
const INSIDE: &str = "eth0";
const LOOPBACK_INDEX: u32 = 1;

/// Attaches the network namespace of a new sandbox, whose first process is `pid` here. The caller is in the host's
/// network namespace. `booted` tells the endpoints of the store's booted containers; it is asked only where something
/// of them may be lost. Returns what keeps its
/// packets from getting through.
///
/// # Errors
/// What stands in the way; then nothing is left but links that end with the namespace.
pub fn attach(
    plan: &NetworkPlan,
    host: &mut HostSide,
    namespace: BorrowedFd<'_>,
    pid: i32,
    booted: impl Fn() -> Vec<Endpoint>,
) -> Result<Vec<Obstacle>, NetworkError> {
    let NetworkPlan { bridge, endpoint } = plan;
    ports::refuse_those_in_use(endpoint)?;
    let entry = endpoint.entry(&host.uplinks);
    host.firewall.enter(&entry)?;
    let others = || {
        let booted = booted().into_iter();
        booted
            .filter(|other| other.holder != endpoint.holder)
            .collect()
    };
    let attached = host::ready_table(host, bridge, others).and_then(|obstacles| {
        connect(plan, host, namespace)?;
        pin::show(pid, &endpoint.namespace)?;
        Ok(obstacles)
    });
    if attached.is_err() {
        // The first error stays the one that is told.
        let _ = host.firewall.withdraw(&entry);
    }
    attached
}

/// What the kernel has still to do once elements or rules were removed: it lets a grace period pass before it frees
/// them, some ten milliseconds. Whoever closes a socket to nf_tables meanwhile waits for that, and lets nobody else
/// change anything: so the period is waited for first, and by somebody for whom nobody waits.
pub struct Aftermath {
    firewall: Firewall,
    /// Something was removed.
    is_due: bool,
}

impl AsFd for Aftermath {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.firewall.as_fd()
    }
}

impl Aftermath {
    /// Says whether there was anything to remove.
    pub fn is_due(&self) -> bool {
        self.is_due
    }
}

impl Drop for Aftermath {
    fn drop(&mut self) {
        if self.is_due {
            // The kernel's own wait begins at some time during our first one, and ends no later than our second.
            cocker_sys::process::wait_for_grace_period();
            cocker_sys::process::wait_for_grace_period();
        }
    }
}

/// Takes away what outlives the namespace's last process. May be repeated, and called where nothing was attached.
pub fn detach(endpoint: &Endpoint) -> Result<Aftermath, NetworkError> {
    let mut firewall = Firewall::open()?;
    let withdrawn = firewall.withdraw(&endpoint.entry(&[]));
    pin::unpin(&endpoint.namespace)?;
    Ok(Aftermath {
        is_due: withdrawn?,
        firewall,
    })
}

/// The same for a container of which nothing but its name is known any more.
pub fn detach_all_of(holder: &Holder) -> Result<Aftermath, NetworkError> {
    let mut firewall = Firewall::open()?;
    pin::remove_dead_names()?;
    Ok(Aftermath {
        is_due: firewall.withdraw_all_of(holder)?,
        firewall,
    })
}

/// Sets loopback up in a namespace that is otherwise its owner's business.
pub fn set_loopback_up(namespace: BorrowedFd<'_>) -> Result<(), NetworkError> {
    let mut messages = Messages::new();
    links::set_up(&mut messages, LOOPBACK_INDEX, "lo");
    change_inside(namespace, messages)
}

fn connect(
    plan: &NetworkPlan,
    host: &HostSide,
    namespace: BorrowedFd<'_>,
) -> Result<(), NetworkError> {
    let endpoint = &plan.endpoint;
    let hardware = hardware_for(endpoint.address);
    let name = link_name(&endpoint.link_prefix)?;
    let mut messages = Messages::new();
    let peer = Peer {
        namespace,
        name: INSIDE,
        hardware,
    };
    links::make_pair(&mut messages, &name, host.bridge, host.mtu, &peer);
    links::ready_port(&mut messages, &name);
    let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
    let link = match links::make_and_find(&mut netlink, messages, &name) {
        Err(refusal) if refusal.errno == NO_MORE_PORTS => {
            let name = plan.bridge.name.clone();
            return Err(NetworkError::NoPortLeft { name });
        }
        found => found?,
    };
    let link = link.ok_or(NetworkError::Vanished { name })?;
    let mut messages = Messages::new();
    links::place_hardware(&mut messages, link.index, hardware);
    netlink.change(messages)?;
    configure(plan, namespace, link.peer)
}

/// `EXFULL` of br_add_if in the kernel's net/bridge/br_if.c.
const NO_MORE_PORTS: Errno = Errno::XFULL;

/// Inside: loopback, the link, its addresses, the way out. The link's index is the kernel's choice: a new namespace may hold
/// more than loopback, such as the links of tunnels that the host has a module for.
fn configure(
    plan: &NetworkPlan,
    namespace: BorrowedFd<'_>,
    inside: u32,
) -> Result<(), NetworkError> {
    let mut messages = Messages::new();
    links::set_up(&mut messages, LOOPBACK_INDEX, "lo");
    links::set_up(&mut messages, inside, INSIDE);
    for (gateway, address, prefix) in plan.addresses() {
        links::add_address(&mut messages, inside, address, prefix);
        links::add_default_route(&mut messages, inside, gateway);
    }
    change_inside(namespace, messages)
}

/// A socket belongs to the namespace that it was made in, so only its making happens inside.
fn change_inside(namespace: BorrowedFd<'_>, messages: Messages) -> Result<(), NetworkError> {
    let changed = in_network_namespace(namespace, || -> Result<(), NetworkError> {
        // Other containers on the bridge are no routers.
        sysctl::set_if_known("ipv6/conf/default/accept_ra", "0")?;
        sysctl::set_if_known(&format!("ipv6/conf/{INSIDE}/accept_ra"), "0")?;
        let mut netlink = Netlink::route().map_err(|source| NetworkError::Open { source })?;
        Ok(netlink.change(messages)?)
    });
    changed.map_err(|source| NetworkError::Enter { source })?
}

/// Another one at each boot: the kernel takes its time to remove the last one.
fn link_name(prefix: &str) -> Result<String, NetworkError> {
    let mut drawn = [0u8; 2];
    getrandom(&mut drawn, GetRandomFlags::empty())
        .map_err(|source| NetworkError::Draw { source })?;
    Ok(format!("{prefix}{:04x}", u16::from_ne_bytes(drawn)))
}
