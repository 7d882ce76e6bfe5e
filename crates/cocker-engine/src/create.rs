//! create: image names become pinned layers, and a container appears by one rename.

use crate::addresses;
use crate::config::NetworkConfig;
use crate::container::{
    Container, ContainerSettings, FORMAT, NetworkSettings, UPPER, WORK, write_settings,
};
use crate::engine::Engine;
use crate::failure::{CreateError, EngineError};
use crate::ids;
use crate::network::{NetworkFailure, check_families, pin_new};
use crate::request::{
    BridgeRequest, CreateRequest, IfBooted, NetworkRequest, OnError, VolumeRequest,
};
use crate::state::StateFile;
use cocker_image::staging::StagedFolder;
use cocker_image::{LayerId, Name, Store};
use cocker_network::NetworkError;
use rustix::fd::AsFd;
use rustix::fs::{Access, AtFlags, CWD, Mode};
use rustix::io::Errno;

/// The kernel's limit for lower layers (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;

/// Linux's limit for a host name (`HOST_NAME_MAX`).
const LONGEST_HOSTNAME: usize = 64;

impl Engine {
    /// Makes a container. Its layers are pinned: a newer version of an image later changes nothing for it.
    ///
    /// # Errors
    /// Whatever is wrong with the request; then nothing has changed.
    pub fn create(&self, request: &CreateRequest) -> Result<(), EngineError> {
        self.make_container(request)
            .map_err(|source| EngineError::Create {
                container: request.container.clone(),
                source: Box::new(source),
            })
    }

    fn make_container(&self, request: &CreateRequest) -> Result<(), CreateError> {
        let hostname = match &request.hostname {
            Some(hostname) => checked_hostname(hostname)?,
            None => request.container.as_str().into(),
        };
        for volume in &request.volumes {
            check_volume(volume).map_err(|source| CreateError::NoSuchVolume {
                path: volume.host.clone(),
                source,
            })?;
        }
        let config = match &request.network {
            NetworkRequest::Bridge(bridge) => Some(checked_bridge(&self.store, bridge)?),
            NetworkRequest::Host | NetworkRequest::Custom => None,
        };
        let writing = |what| move |source| CreateError::Write { what, source };

        let lock = self.store.lock()?;
        // Under the lock: a layer that nobody stands on may leave at any other time.
        let layers = self.pin_layers(request)?;
        self.check_name_free(&request.container)?;
        let mut staged = StagedFolder::make(self.store.containers_folder())
            .map_err(|source| CreateError::Stage { source })?;
        make_folders(&staged).map_err(writing("files"))?;
        let slot = ids::take(&self.store, &request.container)
            .map_err(writing("ids"))?
            .ok_or(CreateError::NoIdsLeft { count: ids::SLOTS })?;
        let settings = ContainerSettings {
            format: FORMAT,
            id: format!("{:016x}", staged.id() as u64),
            image: said(request),
            layers,
            hostname,
            volumes: request.volumes.clone(),
            isolation: request.isolation,
            network: NetworkSettings::Host,
            id_slot: slot,
            root_process: None,
        };
        let published = self
            .take_network(request, config.as_ref())
            .and_then(|network| {
                let settings = ContainerSettings {
                    network,
                    ..settings
                };
                let published = self.publish(&mut staged, &settings, &request.container);
                published.inspect_err(|_| {
                    let given_back = self.give_back_address(&request.container, &settings);
                    if let Err(error) = given_back {
                        tracing::debug!("its address stays taken: {error}");
                    }
                })
            });
        if published.is_err() {
            let _ = ids::give_back(&self.store, &request.container, slot);
        }
        drop(lock);
        published?;
        // It holds the new folder's lock.
        drop(staged);
        match request.network {
            NetworkRequest::Custom => self.make_namespace(&request.container),
            NetworkRequest::Host | NetworkRequest::Bridge(_) => Ok(()),
        }
    }

    /// What the container has of the network for its whole life. The caller holds the lock on names.
    fn take_network(
        &self,
        request: &CreateRequest,
        config: Option<&NetworkConfig>,
    ) -> Result<NetworkSettings, CreateError> {
        let (NetworkRequest::Bridge(bridge), Some(config)) = (&request.network, config) else {
            return Ok(match request.network {
                NetworkRequest::Custom => NetworkSettings::Custom,
                _ => NetworkSettings::Host,
            });
        };
        let address = addresses::take(&self.store, config, &request.container, bridge.address)
            .map_err(NetworkFailure::from)?;
        Ok(NetworkSettings::Bridge {
            address,
            uplink: bridge.uplink.clone(),
            ports: bridge.ports.clone(),
        })
    }

    /// After the container has its name: a pin whose container is not there could be found by nobody. Where there is
    /// none, as after a crash right here, a boot makes it.
    fn make_namespace(&self, name: &Name) -> Result<(), CreateError> {
        let pinned = Container::open_for_work(&self.store, name).map(|(container, _work)| {
            pin_new(&container).inspect_err(|_| {
                let _ = cocker_network::unpin(&container.settings.netns());
            })
        });
        match pinned {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => {
                let _ = self.destroy(name, IfBooted::Refuse, OnError::GoOn);
                Err(source.into())
            }
            // Somebody has destroyed it already.
            Err(_) => Ok(()),
        }
    }

    /// What was written must survive a loss of power before `OK` is printed.
    fn publish(
        &self,
        staged: &mut StagedFolder,
        settings: &ContainerSettings,
        name: &Name,
    ) -> Result<(), CreateError> {
        let writing = |what| move |source| CreateError::Write { what, source };
        let folder = staged.folder().try_clone_to_owned();
        let folder = folder.map_err(|error| CreateError::Write {
            what: "container.json",
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        StateFile::make(folder.as_fd()).map_err(writing("lock"))?;
        write_settings(&folder, settings).map_err(writing("container.json"))?;
        rustix::fs::fsync(self.store.ids_folder()).map_err(writing("ids"))?;
        staged
            .publish(self.store.containers_folder(), name.as_str())
            .map_err(|source| match source.is_name_taken() {
                true => CreateError::NameInUse,
                false => CreateError::Stage { source },
            })?;
        rustix::fs::fsync(self.store.containers_folder()).map_err(writing("containers"))
    }

    /// The layers of all images, lowest first; one that several images bring stands once, where it is needed first.
    fn pin_layers(&self, request: &CreateRequest) -> Result<Vec<LayerId>, CreateError> {
        let mut layers: Vec<LayerId> = Vec::new();
        for reference in &request.images {
            for layer in self.store.resolve(reference)?.layers {
                if !layers.contains(&layer) {
                    layers.push(layer);
                }
            }
        }
        match layers.len() {
            count if count > MOST_LAYERS => Err(CreateError::TooManyLayers { count }),
            _ => Ok(layers),
        }
    }

    fn check_name_free(&self, name: &Name) -> Result<(), CreateError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::statat(self.store.containers_folder(), name.as_str(), flags) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(CreateError::NameInUse),
            Err(source) => Err(CreateError::Write {
                what: "containers",
                source,
            }),
        }
    }
}

/// The list of images as the user said it.
fn said(request: &CreateRequest) -> String {
    let images: Vec<String> = request.images.iter().map(ToString::to_string).collect();
    images.join(",")
}

/// Letters, digits, `-` and `.`, as hosts(5) and RFC 1123 have it, and `_`, which names of containers may hold.
fn checked_hostname(hostname: &str) -> Result<String, CreateError> {
    let bad = |why| {
        Err(CreateError::BadHostname {
            hostname: hostname.escape_default().take(80).collect(),
            why,
        })
    };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match hostname {
        "" => bad("it is empty"),
        long if long.len() > LONGEST_HOSTNAME => bad("it is longer than 64 bytes"),
        odd if !odd.chars().all(is_allowed) => bad("only letters, digits and `- . _` are allowed"),
        _ if hostname.starts_with(['-', '.']) => bad("it starts with `-` or `.`"),
        good => Ok(good.into()),
    }
}

/// Whether what a volume shows is there.
pub(crate) fn check_volume(volume: &VolumeRequest) -> Result<(), Errno> {
    rustix::fs::accessat(CWD, &volume.host, Access::EXISTS, AtFlags::empty())
}

/// The configuration, where the request goes with it and with this host.
fn checked_bridge(store: &Store, request: &BridgeRequest) -> Result<NetworkConfig, NetworkFailure> {
    let config = NetworkConfig::read(store)?;
    if let Some(name) = &request.uplink {
        check_uplink(name)?;
    }
    check_families(&config, request.ports.iter())?;
    Ok(config)
}

/// A link that the host does not have is a slip of the pen more often than one that is still to come.
pub(crate) fn check_uplink(name: &str) -> Result<(), NetworkError> {
    match cocker_network::has_link(name)? {
        true => Ok(()),
        false => Err(NetworkError::NoSuchLink { name: name.into() }),
    }
}

/// The writable layer, empty: it is the root of the container's files, so everybody inside may pass through it.
fn make_folders(staged: &StagedFolder) -> Result<(), Errno> {
    let folder = staged.folder();
    rustix::fs::mkdirat(folder, "files", Mode::from_raw_mode(0o700))?;
    for (path, mode) in [(UPPER, 0o755), (WORK, 0o700)] {
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mkdirat(folder, path, mode)?;
        // The user's umask has no part in it.
        rustix::fs::chmodat(folder, path, mode, AtFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_checked() {
        for good in ["web", "a.b-c", "h_1", &"x".repeat(64)] {
            assert!(checked_hostname(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a\nb", "ä", &"x".repeat(65)] {
            assert!(checked_hostname(bad).is_err(), "{bad}");
        }
    }
}
