//! The engine as a value: the store, and what it was told of the world.

use crate::container::Container;
use crate::failure::EngineError;
use cocker_image::host_image::{self, HostImageReport, Options};
use cocker_image::staging::LeavingFolder;
use cocker_image::{ImageRecord, LayerId, Name, Origin, Store, Version};
use std::path::PathBuf;

/// What the engine needs to know of the world.
pub struct Settings {
    /// `$COCKER_HOME`.
    pub home: PathBuf,
    /// Folder of all containers' cgroups, relative to the root of the cgroup hierarchy; `cocker` by default.
    pub cgroup_parent: String,
    /// The resident programs, as ELF files.
    pub supervisor: &'static [u8],
    pub init: &'static [u8],
}

/// Everything that can be done to images and containers.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
}

/// The name of the image that is made from the host's programs.
const TEST_IMAGE: &str = "test";

impl Engine {
    /// Opens the store, making it where it is missing.
    pub fn open(settings: Settings) -> Result<Engine, EngineError> {
        let store = Store::open(&settings.home)?;
        Ok(Engine { store, settings })
    }

    /// All images, by name, then version.
    pub fn images(&self) -> Result<Vec<ImageRecord>, EngineError> {
        Ok(self.store.images()?)
    }

    /// Makes image `test` from the host's own programs, looked for in the usual folders and then in `search`; says which
    /// are missing and why. One that was made so before is replaced; containers on it keep the layer that they have.
    ///
    /// # Errors
    /// When the name is an image's of another origin, or when not even a shell could be installed.
    pub fn install_test(
        &self,
        version: &Version,
        search: Vec<PathBuf>,
    ) -> Result<HostImageReport, EngineError> {
        let name = Name::parse(TEST_IMAGE).expect("the name is valid");
        let mut staged = self.store.stage()?;
        let report =
            host_image::build_with(staged.tree(), &Options { search }).map_err(|source| {
                EngineError::HostImage {
                    image: format!("{name}:{version}"),
                    source: Box::new(source),
                }
            })?;
        // The long part comes before the lock.
        staged.seal()?;
        let names = self.store.lock()?;
        let origin = Origin::HostPrograms;
        let old = self
            .store
            .publish_or_replace(staged, &name, version, origin)?;
        let leaving = old.and_then(|image| self.take_away_unused(&image.layers));
        drop(names);
        if let Some(Err(error)) = leaving.map(LeavingFolder::remove) {
            tracing::warn!("the layer that was replaced stays: {error}");
        }
        Ok(report)
    }

    /// Takes the name from an image's own layer if no image and no container stands on it. The caller holds the lock on
    /// names, under which layers are pinned, so nobody comes to stand on it meanwhile.
    fn take_away_unused(&self, layers: &[LayerId]) -> Option<LeavingFolder> {
        let own = layers.last()?;
        let stands_on = |layers: &[LayerId]| layers.contains(own);
        if self
            .store
            .images()
            .ok()?
            .iter()
            .any(|i| stands_on(&i.layers))
        {
            return None;
        }
        for name in self.container_names().ok()? {
            // A container that cannot be read may stand on it.
            let container = Container::open(&self.store, &name).ok()?;
            if stands_on(&container.settings.layers) {
                return None;
            }
        }
        LeavingFolder::begin(self.store.layers_folder(), own.as_str()).ok()
    }
}
