//! A container's network: from its settings to a plan, and what of it outlives its processes.

use crate::addresses::{self, AddressError};
use crate::config::{ConfigError, NetworkConfig};
use crate::container::{Container, NetworkSettings};
use crate::engine::Engine;
use crate::ids;
use crate::request::Isolation;
use crate::state::Standing;
use cocker_image::Name;
use cocker_network::{
    Aftermath, Endpoint, FirewallError, ForwardBlock, Holder, HostSide, LINK_PREFIX, NetworkError,
    NetworkPlan, PinError,
};
use cocker_sandbox::{IdRange, Namespaces, NetworkNamespace, SandboxError};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::net::Ipv4Addr;

/// A container's network cannot be had as its settings say.
#[derive(Debug, thiserror::Error)]
pub enum NetworkFailure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("its address {address} is in none of the subnets that config.toml gives the store")]
    AddressOutside { address: Ipv4Addr },
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Pin(#[from] PinError),
    #[error(transparent)]
    Namespaces(#[from] SandboxError),
}

impl NetworkFailure {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            NetworkFailure::Config(source) => source.hint(),
            NetworkFailure::AddressOutside { .. } => {
                Some("give the container another address: cocker set-vip".into())
            }
            NetworkFailure::Address(source) => source.hint(),
            NetworkFailure::Network(source) => source.hint(),
            NetworkFailure::Namespaces(source) => source.hint(),
            NetworkFailure::Pin(_) => None,
        }
    }
}

/// Something that was done and may not have the effect that the user wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub text: String,
    /// A command that would help.
    pub remedy: String,
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
        let bridge = addresses::bridge_of(&config, &self.store, address);
        let bridge = bridge.ok_or(NetworkFailure::AddressOutside { address })?;
        let endpoint = self.endpoint(container).map(|endpoint| Endpoint {
            address6: addresses::address6(&bridge, address),
            ..endpoint
        });
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
                    pin_new(container)?;
                }
                NetworkNamespace::Pinned(cocker_network::pin_path(&name))
            }
        })
    }

    /// What a container of BRIDGE has of the network by its settings alone; its IPv6 address is the bridge's business.
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
        let store = self.store.home().to_string_lossy();
        let digits: String = settings.id.chars().take(LINK_DIGITS).collect();
        Some(Endpoint {
            holder: Holder::new(container.name.as_str(), &store),
            link_prefix: format!("{LINK_PREFIX}{digits}"),
            namespace: settings.netns(),
            address: *address,
            address6: None,
            uplink: uplink.clone(),
            ports: ports.clone(),
        })
    }

    /// The endpoints of all booted containers on the bridge of this name.
    pub(crate) fn booted_endpoints(&self, bridge: &str) -> Vec<Endpoint> {
        let names = self.container_names().unwrap_or_default();
        let opened = names
            .iter()
            .filter_map(|name| Container::open(&self.store, name).ok());
        let booted = opened.filter(|container| {
            matches!(container.state.standing(), Ok((Standing::Booted { .. }, _)))
        });
        let plans = booted.filter_map(|container| self.network_plan(&container).ok().flatten());
        plans
            .filter(|plan| plan.bridge.name == bridge)
            .map(|plan| plan.endpoint)
            .collect()
    }

    /// Takes away what of a booted container's network outlives its processes; may be repeated. `kept` is what its
    /// supervisor kept for that.
    pub(crate) fn detach_network(
        &self,
        container: &Container,
        kept: Option<OwnedFd>,
    ) -> Result<Option<Aftermath>, NetworkError> {
        let endpoint = self.endpoint(container);
        let detach = |endpoint| cocker_network::detach(endpoint, kept);
        endpoint.as_ref().map(detach).transpose()
    }

    /// Attaches a new sandbox. What a container that died without its last work still holds of the network is taken
    /// from it.
    pub(crate) fn attach_network(
        &self,
        plan: &NetworkPlan,
        host: &mut HostSide,
        namespace: BorrowedFd<'_>,
        pid: i32,
    ) -> Result<Vec<ForwardBlock>, NetworkError> {
        loop {
            let booted = || self.booted_endpoints(&plan.bridge.name);
            match cocker_network::attach(plan, host, namespace, pid, booted) {
                Err(NetworkError::Firewall(
                    FirewallError::PortTaken { holder, .. }
                    | FirewallError::AddressTaken { holder, .. },
                )) if self.mend_dead(&holder) => {}
                attached => return attached,
            }
        }
    }

    /// Does the last work of a container that nobody else works on; says whether there was any to do.
    fn mend_dead(&self, holder: &Holder) -> bool {
        let Ok(name) = Name::parse(&holder.container) else {
            return false;
        };
        let store = self.store.home().to_string_lossy();
        if *holder != Holder::new(name.as_str(), &store) {
            return false;
        }
        let Ok(container) = Container::open(&self.store, &name) else {
            return false;
        };
        let Some(_work) = container.try_lock_for_work() else {
            return false;
        };
        match container.state.standing() {
            Ok((Standing::Broken, record)) if container.state.try_lock().is_ok() => {
                self.clean_up_after_crash(&container, record).is_ok()
            }
            _ => false,
        }
    }

    /// Takes away what a container has of the network from create to destroy. The caller holds the lock on names.
    pub(crate) fn give_up_network(&self, container: &Container) -> Result<(), NetworkFailure> {
        match container.settings.network {
            NetworkSettings::Host => Ok(()),
            NetworkSettings::Custom => Ok(cocker_network::unpin(&container.settings.netns())?),
            NetworkSettings::Bridge { address, .. } => {
                let given_back = addresses::give_back(&self.store, &container.name, address);
                Ok(given_back.map_err(|source| AddressError::Register { source })?)
            }
        }
    }
}

/// Digits of the container's id in the names of its links: `ck`, these, and 4 drawn at each boot make 14 of 15 bytes.
const LINK_DIGITS: usize = 8;

/// Makes the namespace of a container of CUSTOM, owned by the container's user namespace, so that root inside can
/// configure it.
pub(crate) fn pin_new(container: &Container) -> Result<(), NetworkFailure> {
    let namespaces = Namespaces::make(id_range(container), true)?;
    let network = namespaces.network().expect("it was asked for");
    cocker_network::set_loopback_up(network)?;
    Ok(cocker_network::pin(network, &container.settings.netns())?)
}

/// The container's ids; none where it has the host's.
pub(crate) fn id_range(container: &Container) -> Option<IdRange> {
    match container.settings.isolation {
        Isolation::Contained => Some(ids::range(container.settings.id_slot)),
        Isolation::Privileged => None,
    }
}

/// Says of a foreign table that it stops the container's packets, and how it could let them pass.
pub(crate) fn warning(block: &ForwardBlock, bridge: &str) -> Warning {
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
        remedy: remedy.clone(),
    }
}
