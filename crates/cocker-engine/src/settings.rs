//! What can be changed of a container that is stopped: its address, its uplink, its port mappings, its volumes, its
//! isolation.

use crate::addresses::{self, AddressError};
use crate::config::NetworkConfig;
use crate::confinement::{self, ConfinementRequest};
use crate::container::{
    CONTAINERS, Container, ContainerSettings, NetworkSettings, SETTINGS, STAGED_SETTINGS,
    stage_settings, sweep_staged,
};
use crate::create::{check_uplink, check_volume};
use crate::engine::Engine;
use crate::failure::{EngineError, SettingsError};
use crate::network::{NetworkFailure, check_families};
use crate::request::VolumeRequest;
use crate::restart::RestartPolicy;
use cocker_image::{Afterwards, Change, Commit, Name, Rename};
use cocker_network::PortMapping;
use rustix::fd::AsFd;
use std::net::Ipv4Addr;

impl Engine {
    /// Gives a container of BRIDGE another address.
    pub fn set_address(&self, container: &Name, address: Ipv4Addr) -> Result<(), EngineError> {
        self.change(container, "address", |settings| {
            let before = match &mut settings.network {
                NetworkSettings::Bridge { address: now, .. } => std::mem::replace(now, address),
                other => return Err(not_bridge(container, other)),
            };
            if before == address {
                return Ok(Follows::default());
            }
            let config = NetworkConfig::read(&self.store).map_err(NetworkFailure::from)?;
            let names = self.store.lock()?;
            addresses::take(&self.store, &config, container, Some(address))
                .map_err(NetworkFailure::from)?;
            drop(names);
            Ok(Follows {
                changes: vec![Afterwards::Unlink(addresses::path(before))],
                taken: Some(address),
            })
        })
    }

    /// Says by which link a container of BRIDGE leaves the host; none: by the default route's.
    pub fn set_uplink(&self, container: &Name, uplink: Option<String>) -> Result<(), EngineError> {
        self.change(container, "uplink", |settings| {
            match &mut settings.network {
                NetworkSettings::Bridge { uplink: now, .. } => {
                    if let Some(name) = &uplink {
                        check_uplink(name).map_err(NetworkFailure::from)?;
                    }
                    *now = uplink;
                }
                other => return Err(not_bridge(container, other)),
            }
            Ok(Follows::default())
        })
    }

    /// Replaces all port mappings of a container of BRIDGE.
    pub fn set_ports(&self, container: &Name, ports: Vec<PortMapping>) -> Result<(), EngineError> {
        self.change(container, "port mappings", |settings| {
            let config = NetworkConfig::read(&self.store).map_err(NetworkFailure::from)?;
            check_families(&config, ports.iter())?;
            match &mut settings.network {
                NetworkSettings::Bridge { ports: now, .. } => *now = ports,
                other => return Err(not_bridge(container, other)),
            }
            Ok(Follows::default())
        })
    }

    /// Replaces all volumes of a container.
    pub fn set_volumes(
        &self,
        container: &Name,
        volumes: Vec<VolumeRequest>,
    ) -> Result<(), EngineError> {
        self.change(container, "volumes", |settings| {
            for volume in &volumes {
                check_volume(volume).map_err(|source| SettingsError::NoSuchVolume {
                    path: volume.host.clone(),
                    source,
                })?;
            }
            settings.volumes = volumes;
            Ok(Follows::default())
        })
    }

    /// Says anew what keeps a container's root from the kernel; what is not said is as usual.
    pub fn set_confinement(
        &self,
        container: &Name,
        request: &ConfinementRequest,
    ) -> Result<(), EngineError> {
        self.change_with(container, "isolation", |container| {
            let isolation = container.settings.isolation;
            let checked = confinement::check(request, isolation)?;
            let path = container_path(&container.name);
            let changes = checked.stage(container.folder.as_fd(), &path)?;
            container.settings.confinement = checked.settings;
            Ok(Follows {
                changes,
                taken: None,
            })
        })
    }

    /// Says anew what is done when the container has ended by itself. Booted or stopped: it holds at the next end, and where the
    /// container is waiting to be booted again, `no` ends that.
    pub fn set_restart(&self, container: &Name, policy: RestartPolicy) -> Result<(), EngineError> {
        let set = || -> Result<(), SettingsError> {
            let (mut container, _work) = Container::open_for_work(&self.store, container)?;
            container.settings.restart = policy;
            container
                .write_settings(&container.settings)
                .map_err(|source| SettingsError::Write { source })?;
            if policy.is_no() && container.booted_pid().is_err() {
                self.expect_nothing(&container)?;
            }
            Ok(())
        };
        set().map_err(|source| EngineError::Settings {
            container: container.clone(),
            what: "restart policy",
            source: Box::new(source),
        })
    }

    fn change(
        &self,
        container: &Name,
        what: &'static str,
        change: impl FnOnce(&mut ContainerSettings) -> Result<Follows, SettingsError>,
    ) -> Result<(), EngineError> {
        self.change_with(container, what, |container| change(&mut container.settings))
    }

    fn change_with(
        &self,
        container: &Name,
        what: &'static str,
        change: impl FnOnce(&mut Container) -> Result<Follows, SettingsError>,
    ) -> Result<(), EngineError> {
        self.change_stopped(container, change)
            .map_err(|source| EngineError::Settings {
                container: container.clone(),
                what,
                source: Box::new(source),
            })
    }

    fn change_stopped(
        &self,
        name: &Name,
        change: impl FnOnce(&mut Container) -> Result<Follows, SettingsError>,
    ) -> Result<(), SettingsError> {
        let (mut container, _work) = Container::open_for_work(&self.store, name)?;
        let record = container.hold_stopped()?;
        // What a killed supervisor has left is found by the settings that the container was booted with.
        self.clean_up_after_crash(&container, record)
            .map_err(|source| SettingsError::CleanUp { source })?;
        let Follows { changes, taken } =
            change(&mut container).inspect_err(|_| sweep_staged(&container.folder))?;
        let written = match changes.is_empty() {
            true => container
                .write_settings(&container.settings)
                .map_err(|source| SettingsError::Write { source }),
            false => self.write_with(&container, changes),
        };
        if let (Err(_), Some(address)) = (&written, taken)
            && let Err(error) = self.give_back_unused(name, address)
        {
            tracing::warn!("address {address} stays taken: {error}");
        }
        written
    }

    /// Writes the settings and what follows them, all of it or nothing, whenever we die.
    fn write_with(
        &self,
        container: &Container,
        mut changes: Vec<Afterwards>,
    ) -> Result<(), SettingsError> {
        let path = container_path(&container.name);
        let at = |name: &str| format!("{path}/{name}");
        let staged = stage_settings(&container.folder, &container.settings)
            .map_err(|source| SettingsError::Write { source });
        // By the exchange the old ones have the name of what is being written.
        changes.push(Afterwards::Unlink(at(STAGED_SETTINGS)));
        let change = Change {
            before: Vec::new(),
            commit: Commit::Exchange(Rename::new(at(STAGED_SETTINGS), at(SETTINGS))),
            afterwards: changes,
        };
        let written = staged
            .and_then(|()| Ok(self.store.lock()?))
            .and_then(|names| Ok(self.store.carry_out(&names, &change).map(drop)?));
        written.inspect_err(|_| sweep_staged(&container.folder))
    }

    fn give_back_unused(&self, name: &Name, address: Ipv4Addr) -> Result<(), SettingsError> {
        let _names = self.store.lock()?;
        addresses::give_back(&self.store, name, address)
            .map_err(|source| NetworkFailure::from(AddressError::Register { source }).into())
    }
}

/// What a change of settings brings with it.
#[derive(Default)]
struct Follows {
    /// Done once the settings are written, and only then.
    changes: Vec<Afterwards>,
    /// An address that is given back where they are not.
    taken: Option<Ipv4Addr>,
}

/// The folder of a container, seen from the home.
fn container_path(name: &Name) -> String {
    format!("{CONTAINERS}/{name}")
}

fn not_bridge(container: &Name, network: &NetworkSettings) -> SettingsError {
    SettingsError::NotBridge {
        container: container.clone(),
        network: network.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Settings;
    use crate::failure::ContainerError;
    use crate::request::{
        CreateRequest, Isolation, NetworkRequest, NewContainer, VolumeAccess, VolumeIds,
        VolumeSetId,
    };
    use crate::state::Record;
    use cocker_image::{NewImage, Reference, Version};
    use std::error::Error;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(166, 88, 0, 2);

    /// A container `web` in `network` on a store of its own.
    fn with_container(home: &tempfile::TempDir, network: NetworkSettings) -> (Engine, Name) {
        let engine = Engine::open(Settings {
            home: home.path().join("store"),
            cgroup_parent: "cocker-settings".into(),
            supervisor: &[],
            init: &[],
        })
        .expect("a store of its own");
        let name = Name::parse("web").expect("a name");
        let staged = engine.store.stage().expect("the store is ours");
        let names = engine.store.lock().expect("the store is ours");
        let image = NewImage::of(staged, &name, &Version::none(), &[]);
        let image = engine.store.publish(&names, image, vec![]);
        let (image, _) = image.expect("the name is free");
        drop(names);
        let request = CreateRequest {
            images: vec![Reference {
                name: image.name,
                version: None,
            }],
            container: NewContainer {
                name: name.clone(),
                hostname: None,
                volumes: vec![],
                isolation: Isolation::Contained,
                confinement: ConfinementRequest::default(),
                network: NetworkRequest::Host,
                restart: Default::default(),
            },
        };
        engine.create(&request).expect("the container is new");
        let mut container = Container::open(&engine.store, &name).expect("it is there");
        container.settings.network = network;
        container
            .write_settings(&container.settings)
            .expect("the store is ours");
        (engine, name)
    }

    fn bridge() -> NetworkSettings {
        NetworkSettings::Bridge {
            address: ADDRESS,
            uplink: None,
            ports: vec![],
        }
    }

    fn settings(engine: &Engine, name: &Name) -> ContainerSettings {
        Container::open(&engine.store, name)
            .expect("it is there")
            .settings
    }

    fn volume(host: &str) -> VolumeRequest {
        VolumeRequest {
            host: host.into(),
            container: "/data".into(),
            access: VolumeAccess::ReadOnly,
            ids: VolumeIds::Mapped,
            set_id: VolumeSetId::Kept,
        }
    }

    /// The four changes, each by what it changes.
    fn changes(engine: &Engine, name: &Name) -> [(&'static str, Result<(), EngineError>); 4] {
        let ports = PortMapping::parse_list("8080:80,53:53/udp").expect("a list");
        [
            (
                "address",
                engine.set_address(name, Ipv4Addr::new(166, 88, 0, 9)),
            ),
            ("uplink", engine.set_uplink(name, Some("lo".into()))),
            ("port mappings", engine.set_ports(name, ports)),
            ("volumes", engine.set_volumes(name, vec![volume("/usr")])),
        ]
    }

    #[test]
    fn what_is_changed_is_on_disk_and_the_rest_stays() {
        let home = tempfile::tempdir().expect("a folder");
        let (engine, name) = with_container(&home, bridge());
        let before = settings(&engine, &name);
        for (what, changed) in changes(&engine, &name) {
            changed.expect(what);
        }
        let network = NetworkSettings::Bridge {
            address: Ipv4Addr::new(166, 88, 0, 9),
            uplink: Some("lo".into()),
            ports: PortMapping::parse_list("8080:80,53:53/udp").expect("a list"),
        };
        let after = ContainerSettings {
            network,
            volumes: vec![volume("/usr")],
            ..before.clone()
        };
        assert_eq!(settings(&engine, &name), after);

        engine.set_uplink(&name, None).expect("it is stopped");
        engine.set_ports(&name, vec![]).expect("it is stopped");
        engine.set_address(&name, ADDRESS).expect("it is stopped");
        engine.set_volumes(&name, vec![]).expect("it is stopped");
        assert_eq!(settings(&engine, &name), before);
    }

    #[test]
    fn only_a_container_of_bridge_has_an_address_an_uplink_and_ports() {
        for network in [NetworkSettings::Host, NetworkSettings::Custom] {
            let home = tempfile::tempdir().expect("a folder");
            let (engine, name) = with_container(&home, network.clone());
            let in_network = format!("container `web` is in network {}", network.name());
            for (what, changed) in changes(&engine, &name) {
                if what == "volumes" {
                    changed.expect(what);
                    continue;
                }
                let error = changed.expect_err(what);
                let first = format!("cannot set the {what} of container `web`");
                assert_eq!(error.to_string(), first);
                let cause = error.source().expect("it has one").to_string();
                assert!(cause.starts_with(&in_network), "{cause}");
                let hint = error.hint().expect("it has one");
                assert!(hint.contains("--net BRIDGE"), "{hint}");
            }
            assert_eq!(settings(&engine, &name).network, network);
        }
    }

    #[test]
    fn a_booted_container_is_not_changed() {
        let home = tempfile::tempdir().expect("a folder");
        let (engine, name) = with_container(&home, bridge());
        let before = settings(&engine, &name);
        let booted = Container::open(&engine.store, &name).expect("it is there");
        booted.state.try_lock().expect("it is stopped");
        let pid = 7;
        let record = Record {
            pid,
            ..Record::default()
        };
        booted.state.write(record).expect("the store is ours");
        for (what, changed) in changes(&engine, &name) {
            let Err(EngineError::Settings { source, .. }) = changed else {
                panic!("{what}: {changed:?}")
            };
            assert!(
                matches!(
                    *source,
                    SettingsError::Container(ContainerError::Booted { pid: 7, .. })
                ),
                "{what}: {source:?}"
            );
        }
        assert_eq!(settings(&engine, &name), before);
    }

    #[test]
    fn what_a_killed_supervisor_has_left_goes_first() {
        let home = tempfile::tempdir().expect("a folder");
        let (engine, name) = with_container(&home, bridge());
        let container = Container::open(&engine.store, &name).expect("it is there");
        let record = Record {
            pid: 7,
            started: 5,
            ..Record::default()
        };
        container.state.write(record).expect("the store is ours");
        engine.set_uplink(&name, None).expect("it is stopped");
        let left = container.state.read().expect("the store is ours");
        // Its files are measured on the way.
        assert_eq!(left.known_size(), Some(0));
        let measured = left.measured;
        let expected = Record {
            pid: 0,
            measured,
            ..record
        };
        assert_eq!(left, expected);
    }

    #[test]
    fn a_volume_that_is_not_there_is_refused_and_all_stay() {
        let home = tempfile::tempdir().expect("a folder");
        let (engine, name) = with_container(&home, NetworkSettings::Host);
        engine
            .set_volumes(&name, vec![volume("/usr")])
            .expect("it is there");
        let missing = home.path().join("missing");
        let missing = missing.to_str().expect("it is text");
        let error = engine
            .set_volumes(&name, vec![volume("/"), volume(missing)])
            .expect_err("it is missing");
        let cause = error.source().expect("it has one").to_string();
        assert_eq!(
            cause,
            format!("volume `{missing}` does not exist on the host")
        );
        assert!(error.hint().is_some());
        assert_eq!(settings(&engine, &name).volumes, [volume("/usr")]);
    }
}
