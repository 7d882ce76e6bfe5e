//! The engine as a value: the store, and what it was told of the world.

use crate::failure::EngineError;
use cocker_image::Store;
use std::path::PathBuf;

/// What the engine needs to know of the world.
#[derive(Clone)]
pub struct Settings {
    /// `$COCKER_HOME`.
    pub home: PathBuf,
    /// Folder of all containers' cgroups, relative to the root of the cgroup hierarchy; `cocker` by default. Where the host's
    /// systemd manages that, the slice of this name.
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

impl Engine {
    /// Opens the store, making it where it is missing. A change of several names that is under way is waited for, and one
    /// that was left half-way is ended, so nobody sees half of one; but on a disk that cannot be written to any more, where
    /// what is booted must be seen and shut down.
    pub fn open(settings: Settings) -> Result<Engine, EngineError> {
        let store = Store::open(&settings.home)?;
        if store.is_changing() {
            match store.lock() {
                Err(error) if error.is_read_only() => {
                    tracing::warn!("a change stays half-way: {error}");
                }
                locked => drop(locked?),
            }
        }
        Ok(Engine { store, settings })
    }
}
