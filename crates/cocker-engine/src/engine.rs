//! The engine as a value: the store, and what it was told of the world.

use crate::failure::EngineError;
use cocker_image::host_image::{self, HostImageReport, Options};
use cocker_image::{ImageRecord, Name, Reference, Store, Version};
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
    /// are missing and why.
    ///
    /// # Errors
    /// When the image exists already, or when not even a shell could be installed.
    pub fn install_test(
        &self,
        version: &Version,
        search: Vec<PathBuf>,
    ) -> Result<HostImageReport, EngineError> {
        let name = Name::parse(TEST_IMAGE).expect("the name is valid");
        let reference = Reference {
            name: name.clone(),
            version: Some(version.clone()),
        };
        // Asked before the work and decided by the publication.
        if self.store.has_image(&name, version)? {
            return Err(EngineError::ImageExists { reference });
        }
        let staged = self.store.stage()?;
        let report =
            host_image::build_with(staged.tree(), &Options { search }).map_err(|source| {
                EngineError::HostImage {
                    image: reference.to_string(),
                    source: Box::new(source),
                }
            })?;
        self.store.publish(staged, &name, version, &[])?;
        Ok(report)
    }
}
