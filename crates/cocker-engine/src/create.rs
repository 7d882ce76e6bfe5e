//! create: image names become pinned layers, and a container appears by one rename.

use crate::addresses;
use crate::config::NetworkConfig;
use crate::confinement::{self, CheckedConfinement};
use crate::container::{
    Container, ContainerSettings, FORMAT, NetworkSettings, UPPER, WORK, write_settings,
};
use crate::engine::Engine;
use crate::environment;
use crate::failure::{CreateError, EngineError};
use crate::ids;
use crate::limits::LimitSettings;
use crate::network::{NetworkFailure, check_families, pin_new};
use crate::request::{
    BridgeRequest, CreateRequest, IfBooted, NetworkRequest, NewContainer, OnError, VolumeRequest,
};
use crate::state::StateFile;
use cocker_image::staging::StagedFolder;
use cocker_image::{LayerId, Name, Reference, Store};
use cocker_network::NetworkError;
use cocker_sys::fault;
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
                container: request.container.name.clone(),
                source: Box::new(source),
            })
    }

    fn make_container(&self, request: &CreateRequest) -> Result<(), CreateError> {
        let checked = self.checked(&request.container)?;
        let names = self.store.lock()?;
        // Under the lock: a layer that nobody stands on may leave at any other time.
        let layers = self.pin_layers(&request.images)?;
        self.check_name_free(&request.container.name)?;
        if let Err(errno) = addresses::sweep(&self.store) {
            tracing::warn!("addresses of dead containers stay taken: {errno}");
        }
        let mut staged = self.stage_container()?;
        make_upper(&staged).map_err(writing("files"))?;
        let image = said(&request.images);
        let environment = environment::of_images(&self.configs(&request.images)?);
        let taken = self.take_what_it_needs(&checked, &staged, image, layers)?;
        let settings = ContainerSettings {
            environment,
            ..taken
        };
        let published = write_records(&self.store, &staged, &settings, 0)
            .and_then(|()| self.publish(&mut staged, &request.container.name));
        if published.is_err() {
            self.give_back(&request.container.name, &settings);
        }
        drop(names);
        published?;
        // It holds the new folder's lock.
        drop(staged);
        self.make_namespace_where_wanted(&request.container)
    }

    /// What can be refused before anything is done.
    pub(crate) fn checked<'a>(
        &self,
        container: &'a NewContainer,
    ) -> Result<Checked<'a>, CreateError> {
        let hostname = match &container.hostname {
            Some(hostname) => checked_hostname(hostname)?,
            None => container.name.as_str().into(),
        };
        for volume in &container.volumes {
            check_volume(volume).map_err(|source| CreateError::NoSuchVolume {
                path: volume.host.clone(),
                source,
            })?;
        }
        let confinement = confinement::check(&container.confinement, container.isolation)?;
        let config = match &container.network {
            NetworkRequest::Bridge(bridge) => Some(checked_bridge(&self.store, bridge)?),
            NetworkRequest::Host | NetworkRequest::Custom => None,
        };
        Ok(Checked {
            container,
            hostname,
            confinement,
            config,
        })
    }

    /// A new container's folder, with places for its files.
    pub(crate) fn stage_container(&self) -> Result<StagedFolder, CreateError> {
        let staged = StagedFolder::make(self.store.containers_folder())
            .map_err(|source| CreateError::Stage { source })?;
        make_folder(&staged, "files", 0o700)
            .and_then(|()| make_folder(&staged, WORK, 0o700))
            .map_err(writing("files"))?;
        Ok(staged)
    }

    /// The settings of a new container, with ids and an address that are its own from now on. The caller holds the lock on
    /// names, and gives them back where the container does not come to be.
    pub(crate) fn take_what_it_needs(
        &self,
        checked: &Checked<'_>,
        staged: &StagedFolder,
        image: String,
        layers: Vec<LayerId>,
    ) -> Result<ContainerSettings, CreateError> {
        let container = checked.container;
        checked.confinement.keep(staged.folder())?;
        let offer = ids::Offer::of_host();
        let slot = ids::take(&self.store, &container.name, &offer)
            .map_err(writing("ids"))?
            .ok_or(CreateError::NoIdsLeft {
                count: offer.count(),
                is_from_files: offer.is_from_files,
            })?;
        let network = self.take_network(container, checked.config.as_ref());
        let network = network.inspect_err(|_| {
            let _ = ids::give_back(&self.store, &container.name, slot);
        })?;
        Ok(ContainerSettings {
            format: FORMAT,
            id: format!("{:016x}", staged.id() as u64),
            image,
            layers,
            hostname: checked.hostname.clone(),
            volumes: container.volumes.clone(),
            isolation: container.isolation,
            confinement: checked.confinement.settings.clone(),
            network,
            id_slot: slot,
            root_process: None,
            limits: LimitSettings::default(),
            restart: container.restart,
            enabled: None,
            converted_from: None,
            environment: Vec::new(),
            image_config: None,
        })
    }

    /// What cannot be given back counts as free all the same, since no such container exists.
    pub(crate) fn give_back(&self, name: &Name, settings: &ContainerSettings) {
        if let Err(error) = self.give_back_address(name, settings) {
            tracing::debug!("its address stays taken: {error}");
        }
        if let Err(errno) = ids::give_back(&self.store, name, settings.id_slot) {
            tracing::debug!("its ids stay taken: {errno}");
        }
    }

    /// What the container has of the network for its whole life. The caller holds the lock on names.
    fn take_network(
        &self,
        container: &NewContainer,
        config: Option<&NetworkConfig>,
    ) -> Result<NetworkSettings, CreateError> {
        let (NetworkRequest::Bridge(bridge), Some(config)) = (&container.network, config) else {
            return Ok(match container.network {
                NetworkRequest::Custom => NetworkSettings::Custom,
                _ => NetworkSettings::Host,
            });
        };
        let address = addresses::take(&self.store, config, &container.name, bridge.address)
            .map_err(NetworkFailure::from)?;
        Ok(NetworkSettings::Bridge {
            address,
            uplink: bridge.uplink.clone(),
            ports: bridge.ports.clone(),
        })
    }

    /// After the container has its name: a pin whose container is not there could be found by nobody. Where there is
    /// none, as after a crash right here, a boot makes it.
    pub(crate) fn make_namespace_where_wanted(
        &self,
        container: &NewContainer,
    ) -> Result<(), CreateError> {
        let name = &container.name;
        match container.network {
            NetworkRequest::Custom => {}
            NetworkRequest::Host | NetworkRequest::Bridge(_) => return Ok(()),
        }
        let pinned = Container::open_for_work(&self.store, name).map(|(container, _work)| {
            pin_new(&self.store, &container).inspect_err(|_| {
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

    /// The container appears. What was written is on disk before, and its name after this.
    fn publish(&self, staged: &mut StagedFolder, name: &Name) -> Result<(), CreateError> {
        staged
            .publish(self.store.containers_folder(), name.as_str())
            .map_err(|source| match source.is_name_taken() {
                true => CreateError::NameInUse,
                false => CreateError::Stage { source },
            })?;
        let sync = || rustix::fs::fsync(self.store.containers_folder());
        let synced = fault::step("container.sync.name", sync);
        if synced.is_err() {
            // What cannot be brought to disk has not been made.
            let withdrawn = staged.withdraw(self.store.containers_folder(), name.as_str());
            if let Err(error) = withdrawn {
                tracing::warn!("the container stays: {error}");
            }
        }
        synced.map_err(writing("containers"))
    }

    /// The layers of all images, lowest first; one that several images bring stands once, where it is needed first.
    pub(crate) fn pin_layers(&self, images: &[Reference]) -> Result<Vec<LayerId>, CreateError> {
        let layers = self.store.stack(images)?;
        check_layer_count(layers.len())?;
        Ok(layers)
    }

    /// What those of the images that say anything say of how their programs are run, lowest first.
    pub(crate) fn configs(
        &self,
        images: &[Reference],
    ) -> Result<Vec<serde_json::Value>, CreateError> {
        let mut configs = Vec::new();
        for image in images {
            configs.extend(self.store.resolve(image)?.config);
        }
        Ok(configs)
    }

    pub(crate) fn check_name_free(&self, name: &Name) -> Result<(), CreateError> {
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

/// A request that was not refused.
pub(crate) struct Checked<'a> {
    pub container: &'a NewContainer,
    hostname: String,
    confinement: CheckedConfinement,
    config: Option<NetworkConfig>,
}

/// Writes the records of a new container, whose writable layer holds `size` bytes, into its folder and to disk.
pub(crate) fn write_records(
    store: &Store,
    staged: &StagedFolder,
    settings: &ContainerSettings,
    size: u64,
) -> Result<(), CreateError> {
    let folder = staged.folder().try_clone_to_owned();
    let folder = folder.map_err(|error| CreateError::Write {
        what: "container.json",
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })?;
    StateFile::make(folder.as_fd(), size).map_err(writing("lock"))?;
    write_settings(&folder, settings).map_err(writing("container.json"))?;
    let sync = || rustix::fs::fsync(store.ids_folder());
    fault::step("ids.sync", sync).map_err(writing("ids"))
}

/// The writable layer, empty: it is the root of the container's files, so everybody inside may pass through it.
pub(crate) fn make_upper(staged: &StagedFolder) -> Result<(), Errno> {
    make_folder(staged, UPPER, 0o755)
}

/// Makes a folder of a container; the user's umask has no part in it.
pub(crate) fn make_folder(staged: &StagedFolder, path: &str, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    let make = || rustix::fs::mkdirat(staged.folder(), path, mode);
    fault::step("container.folder", make)?;
    rustix::fs::chmodat(staged.folder(), path, mode, AtFlags::empty())
}

/// Whether the kernel takes so many.
pub(crate) fn check_layer_count(count: usize) -> Result<(), CreateError> {
    match count > MOST_LAYERS {
        true => Err(CreateError::TooManyLayers { count }),
        false => Ok(()),
    }
}

pub(crate) fn writing(what: &'static str) -> impl FnOnce(Errno) -> CreateError {
    move |source| CreateError::Write { what, source }
}

/// The list of images as the user said it.
pub(crate) fn said(images: &[Reference]) -> String {
    let images: Vec<String> = images.iter().map(ToString::to_string).collect();
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
