//! A container's network: from its settings to a plan, and what of it outlives its processes.

use crate::addresses::{self, AddressError};
use crate::config::{ConfigError, NetworkConfig};
use crate::container::{CONTAINERS, Container, ContainerSettings, NetworkSettings};
use crate::engine::Engine;
use crate::failure::ContainerError;
use crate::ids;
use crate::pasta::{self, Pasta, PastaError};
use crate::request::Isolation;
use crate::state::Standing;
use cocker_image::{Name, Store};
use cocker_network::{
    Aftermath, Bridge, Endpoint, FirewallError, ForwardBlock, Holder, HostSide, LINK_DIGITS,
    LINK_PREFIX, NetworkError, NetworkPlan, Obstacle, PinError, PortMapping,
};
use cocker_sandbox::{IdRange, Namespaces, NetworkNamespace, SandboxError};
use cocker_sys::namespace::stands_for_a_user;
use rustix::fd::BorrowedFd;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A container's network cannot be had as its settings say.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFailure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("its address {address} is in none of the subnets that config.toml gives the store")]
    AddressOutside { address: Ipv4Addr },
    #[error("mapping `{mapping}` is of an IPv6 address, and containers of this store have none")]
    NoIpv6 { mapping: String },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Namespaces(#[from] SandboxError),
    #[error(transparent)]
    Pasta(#[from] PastaError),
    #[error("only root can make a network that outlives its container")]
    CustomNeedsRoot,
}

impl NetworkFailure {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            NetworkFailure::Config(source) => source.hint(),
            NetworkFailure::AddressOutside { .. } => {
                Some("give the container another address: cocker set-vip".into())
            }
            NetworkFailure::NoIpv6 { .. } => {
                Some("give the store a subnet of IPv6 in config.toml: [network] subnet6.".into())
            }
            NetworkFailure::Address(source) => source.hint(),
            NetworkFailure::Network(source) => source.hint(),
            NetworkFailure::Namespaces(source) => source.hint(),
            NetworkFailure::Pasta(source) => source.hint(),
            NetworkFailure::CustomNeedsRoot => Some(
                "create it with --net BRIDGE or --net HOST, or run cocker as root: sudo.".into(),
            ),
            NetworkFailure::Pin(_) => None,
        }
    }
}

/// Something that was done and may not have the effect that the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub text: String,
    /// What the user can do about it.
    pub hint: String,
}

impl Engine {
    /// What has to be done for a container of BRIDGE; `None` for others.
    pub(crate) fn network_plan(
        &self,
        container: &Container,
    ) -> Result<Option<NetworkPlan>, NetworkFailure> {
        let NetworkSettings::Bridge { address, .. } = container.settings.network else {
            return Ok(None);
        };
        let config = NetworkConfig::read(&self.store)?;
        let bridge = self.bridge(&config, address)?;
        let endpoint = self.endpoint(container).map(|endpoint| Endpoint {
            bridge: bridge.name.clone(),
            address6: addresses::address6(&bridge, address),
            ..endpoint
        });
        check_families(
            &config,
            endpoint.iter().flat_map(|endpoint| &endpoint.ports),
        )?;
        Ok(endpoint.map(|endpoint| NetworkPlan { bridge, endpoint }))
    }

    /// The namespace that a sandbox shall see. One that CUSTOM has pinned is made again where it is gone, as after a
    /// restart of the host.
    pub(crate) fn network_namespace(
        &self,
        container: &Container,
    ) -> Result<NetworkNamespace, NetworkFailure> {
        Ok(match container.settings.network {
            NetworkSettings::Host => NetworkNamespace::Host,
            NetworkSettings::Bridge { .. } => NetworkNamespace::New,
            NetworkSettings::Custom => {
                let name = container.settings.netns();
                if !cocker_network::is_pinned(&name) {
                    pin_new(&self.store, container)?;
                }
                NetworkNamespace::Pinned(cocker_network::pin_path(&name))
            }
        })
    }

    /// What a container of BRIDGE has of the network by its settings alone; its bridge and its IPv6 address are the
    /// configuration's business.
    fn endpoint(&self, container: &Container) -> Option<Endpoint> {
        let settings = &container.settings;
        let NetworkSettings::Bridge {
            address,
            uplink,
            ports,
        } = &settings.network
        else {
            return None;
        };
        Some(Endpoint {
            holder: self.holder(&container.name),
            bridge: String::new(),
            link_prefix: link_prefix(settings),
            namespace: settings.netns(),
            address: *address,
            address6: None,
            uplink: uplink.clone(),
            ports: ports.clone(),
        })
    }

    /// What the name of its link on the host begins with; `None` for a container that is not of BRIDGE.
    pub(crate) fn link_prefix(&self, container: &Container) -> Option<String> {
        let is_bridge = matches!(container.settings.network, NetworkSettings::Bridge { .. });
        is_bridge.then(|| link_prefix(&container.settings))
    }

    /// The endpoints of the store's booted containers.
    pub(crate) fn booted_endpoints(&self) -> Vec<Endpoint> {
        let names = self.container_names().unwrap_or_default();
        let opened = names
            .iter()
            .filter_map(|name| Container::open(&self.store, name).ok());
        let booted = opened.filter(|container| {
            matches!(container.state.standing(), Ok((Standing::Booted { .. }, _)))
        });
        let plans = booted.filter_map(|container| self.network_plan(&container).ok().flatten());
        plans.map(|plan| plan.endpoint).collect()
    }

    /// Takes away what of a booted container's network outlives its processes; may be repeated.
    pub(crate) fn detach_network(
        &self,
        container: &Container,
    ) -> Result<Option<Aftermath>, NetworkFailure> {
        if stands_for_a_user() {
            pasta::end(container, &self.pid_file(&container.name))?;
            return Ok(None);
        }
        let endpoint = self.endpoint(container);
        let detached = endpoint.as_ref().map(cocker_network::detach).transpose();
        Ok(detached?)
    }

    /// What an ordinary user's container of BRIDGE has in place of a plan; `None` for others.
    pub(crate) fn pasta(&self, container: &Container) -> Result<Option<Pasta>, NetworkFailure> {
        let NetworkSettings::Bridge { address, ports, .. } = &container.settings.network else {
            return Ok(None);
        };
        Ok(Some(Pasta {
            pid_file: self.pid_file(&container.name),
            address: *address,
            subnet: self
                .bridge(&NetworkConfig::read(&self.store)?, *address)?
                .subnet,
            ports: ports.clone(),
        }))
    }

    fn pid_file(&self, container: &Name) -> PathBuf {
        let folder = self.store.home().join(CONTAINERS).join(container.as_str());
        folder.join(pasta::PID_FILE)
    }

    /// The bridge on which an address is.
    fn bridge(&self, config: &NetworkConfig, address: Ipv4Addr) -> Result<Bridge, NetworkFailure> {
        let bridge = addresses::bridge_of(config, &self.store, address);
        bridge.ok_or(NetworkFailure::AddressOutside { address })
    }

    /// The same for a container whose settings cannot be read any more.
    pub(crate) fn detach_network_of(&self, name: &Name) -> Result<Aftermath, NetworkError> {
        cocker_network::detach_all_of(&self.holder(name))
    }

    fn holder(&self, container: &Name) -> Holder {
        self.holder_called(container.as_str())
    }

    /// The same for whoever the table names, whether that is a name or not.
    pub(crate) fn holder_called(&self, container: &str) -> Holder {
        Holder::new(container, &self.store.home().to_string_lossy())
    }

    /// Attaches a new sandbox. What a container that is not booted still holds of the network is taken from it.
    pub(crate) fn attach_network(
        &self,
        plan: &NetworkPlan,
        host: &mut HostSide,
        namespace: BorrowedFd<'_>,
        pid: i32,
    ) -> Result<Vec<Obstacle>, NetworkError> {
        loop {
            let booted = || self.booted_endpoints();
            match cocker_network::attach(plan, host, namespace, pid, booted) {
                Err(NetworkError::Firewall(
                    FirewallError::PortTaken { holder, .. }
                    | FirewallError::AddressTaken { holder, .. },
                )) if self.mend_dead(&holder) => {}
                attached => return attached,
            }
        }
    }

    /// Takes from a holder of this store what it has of the network, if it is not booted and nobody else works on it;
    /// says whether there was anything.
    fn mend_dead(&self, holder: &Holder) -> bool {
        let Ok(name) = Name::parse(&holder.container) else {
            return false;
        };
        if *holder != self.holder(&name) {
            return false;
        }
        let container = match Container::open(&self.store, &name) {
            Ok(container) => container,
            Err(ContainerError::Unknown { .. }) => {
                let detached = self.detach_network_of(&name);
                return detached.is_ok_and(|aftermath| aftermath.is_due());
            }
            Err(_) => return false,
        };
        let Some(_work) = container.try_lock_for_work() else {
            return false;
        };
        if container.state.try_lock().is_err() {
            return false;
        }
        match container.state.standing() {
            Ok((Standing::Broken, record)) => self.clean_up_after_crash(&container, record).is_ok(),
            Ok((Standing::Stopped, _)) => match self.detach_network(&container) {
                Ok(aftermath) => aftermath.is_some_and(|aftermath| aftermath.is_due()),
                Err(_) => false,
            },
            _ => false,
        }
    }

    /// Lets go of the namespace of CUSTOM, before the container has lost its name: nobody could find it after.
    pub(crate) fn unpin_network(&self, container: &Container) -> Result<(), NetworkFailure> {
        match container.settings.network {
            NetworkSettings::Custom => Ok(cocker_network::unpin(&container.settings.netns())?),
            NetworkSettings::Host | NetworkSettings::Bridge { .. } => Ok(()),
        }
    }

    /// Gives an address back that no container has any more. The caller holds the lock on names.
    pub(crate) fn give_back_address(
        &self,
        container: &Name,
        settings: &ContainerSettings,
    ) -> Result<(), NetworkFailure> {
        match settings.network {
            NetworkSettings::Host | NetworkSettings::Custom => Ok(()),
            NetworkSettings::Bridge { address, .. } => {
                let given_back = addresses::give_back(&self.store, container, address);
                Ok(given_back.map_err(|source| AddressError::Register { source })?)
            }
        }
    }
}

/// What the names of a container's links on the host begin with.
fn link_prefix(settings: &ContainerSettings) -> String {
    let digits: String = settings.id.chars().take(LINK_DIGITS).collect();
    format!("{LINK_PREFIX}{digits}")
}

/// Makes the namespace of a container of CUSTOM, owned by the container's user namespace, so that root inside can
/// configure it.
pub(crate) fn pin_new(store: &Store, container: &Container) -> Result<(), NetworkFailure> {
    if stands_for_a_user() {
        return Err(NetworkFailure::CustomNeedsRoot);
    }
    let namespaces = Namespaces::make(id_range(container), true)?;
    let network = namespaces.network().expect("it was asked for");
    cocker_network::set_loopback_up(network)?;
    let store = store.home().to_string_lossy();
    Ok(cocker_network::pin(
        network,
        &container.settings.netns(),
        &store,
    )?)
}

/// The container's ids; none where it has the host's.
pub(crate) fn id_range(container: &Container) -> Option<IdRange> {
    match container.settings.isolation {
        Isolation::Contained => Some(ids::range(container.settings.id_slot)),
        Isolation::Privileged | Isolation::HostIds => None,
    }
}

/// Refuses mappings of a family that the store's containers do not have.
pub(crate) fn check_families<'a>(
    config: &NetworkConfig,
    mut ports: impl Iterator<Item = &'a PortMapping>,
) -> Result<(), NetworkFailure> {
    let is_six = |mapping: &&PortMapping| mapping.address.is_some_and(|address| address.is_ipv6());
    match ports.find(is_six) {
        Some(mapping) if config.subnet6.is_none() => Err(NetworkFailure::NoIpv6 {
            mapping: mapping.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Says what keeps the container's packets from getting through, and what would help.
pub(crate) fn warning(obstacle: &Obstacle, bridge: &str) -> Warning {
    let block = match obstacle {
        Obstacle::NoWayOut => {
            return Warning {
                text: "the host has no default route: the container does not get out".into(),
                hint: "boot it again when there is one, or name a link: cocker set-host-eth".into(),
            };
        }
        Obstacle::Blocked(block) => block,
    };
    let ForwardBlock {
        family,
        table,
        chain,
        remedy,
    } = block;
    Warning {
        text: format!(
            "chain `{chain}` of table `{family} {table}` drops what bridge `{bridge}` forwards: \
             the container does not get out, and is not reached from outside"
        ),
        hint: format!("let it pass: `{remedy}`"),
    }
}
