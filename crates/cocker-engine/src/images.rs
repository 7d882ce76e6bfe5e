//! Images: made from the host's programs, named, named again, copied and removed.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{ContainerError, EngineError};
use crate::request::OnError;
use cocker_image::host_image::{self, HostImageReport, Options};
use cocker_image::staging::LeavingFolder;
use cocker_image::{ImageRecord, LayerId, Name, Origin, Reference, Version};
use std::collections::HashSet;
use std::path::PathBuf;

/// The name of the image that is made from the host's programs.
const TEST_IMAGE: &str = "test";

impl Engine {
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
        let leaving = old.map(|old| {
            // The image is made; a layer that stays takes nothing but room.
            let users = self.layer_users(OnError::GoOn);
            users.map_or_else(
                |_| Vec::new(),
                |users| self.take_away_unused(&old.layers, &users),
            )
        });
        drop(names);
        remove_layers(leaving.unwrap_or_default());
        Ok(report)
    }

    /// Gives an image another version.
    pub fn set_version(&self, image: &Reference, version: &Version) -> Result<(), EngineError> {
        let _names = self.store.lock()?;
        Ok(self.store.set_version(image, version)?)
    }

    /// Gives an image's layers a second name.
    pub fn copy_image(
        &self,
        image: &Reference,
        name: &Name,
        version: &Version,
    ) -> Result<(), EngineError> {
        let _names = self.store.lock()?;
        self.store.copy_image(image, name, version)?;
        Ok(())
    }

    /// Removes an image, with those of its layers that nothing else needs; refused while containers stand on it.
    ///
    /// With [`OnError::GoOn`] a container that cannot be read is no obstacle; the layers, which may be its, stay.
    pub fn remove_image(&self, image: &Reference, on_error: OnError) -> Result<(), EngineError> {
        let names = self.store.lock()?;
        let image = self.store.resolve(image)?;
        let mut users = self.layer_users(on_error)?;
        users
            .images
            .retain(|other| (&other.name, &other.version) != (&image.name, &image.version));
        let containers = users.standing_on(&image);
        if !containers.is_empty() {
            return Err(EngineError::ImageInUse {
                name: image.name,
                version: image.version,
                containers,
            });
        }
        self.store.remove_image(&image.name, &image.version)?;
        let leaving = self.take_away_unused(&image.layers, &users);
        drop(names);
        remove_layers(leaving);
        Ok(())
    }

    /// Reads who needs layers. The caller holds the lock on names, under which layers are pinned.
    pub(crate) fn layer_users(&self, on_error: OnError) -> Result<LayerUsers, EngineError> {
        // Not from the cache of listings: this decides what may be removed.
        let (images, failures) = self.store.images_and_failures()?;
        let mut users = LayerUsers {
            images,
            containers: Vec::new(),
            is_complete: failures.is_empty(),
        };
        for error in failures {
            match on_error {
                OnError::GoOn => tracing::warn!("going on: {error}"),
                OnError::Stop => return Err(error.into()),
            }
        }
        for name in self.container_names()? {
            match Container::open(&self.store, &name) {
                Ok(container) => users.containers.push(container),
                // Somebody has just destroyed it.
                Err(ContainerError::Unknown { .. }) => {}
                Err(error) if on_error == OnError::GoOn => {
                    tracing::warn!("going on: {error}");
                    users.is_complete = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(users)
    }

    /// The same for a caller who holds no lock. What cannot be read may be leaving: it is looked at again with all names
    /// held still.
    pub(crate) fn layer_users_now(&self, on_error: OnError) -> Result<LayerUsers, EngineError> {
        let users = self.layer_users(OnError::GoOn)?;
        if users.is_complete {
            return Ok(users);
        }
        let _names = self.store.hold_still()?;
        self.layer_users(on_error)
    }

    /// Takes their names from those of `layers` (lowest first) that nobody uses, the highest first. The caller holds the
    /// lock on names since the users were read, so nobody has come to stand on them.
    fn take_away_unused(&self, layers: &[LayerId], users: &LayerUsers) -> Vec<LeavingFolder> {
        let unused = users.unused(layers).into_iter().rev();
        unused
            .filter_map(|layer| {
                LeavingFolder::begin(self.store.layers_folder(), layer.as_str())
                    .inspect_err(|error| tracing::warn!("layer {layer} stays: {error}"))
                    .ok()
            })
            .collect()
    }
}

/// Who needs layers, read once.
pub(crate) struct LayerUsers {
    pub images: Vec<ImageRecord>,
    pub containers: Vec<Container>,
    /// False where an image or a container could not be read: it may stand on anything.
    pub is_complete: bool,
}

impl LayerUsers {
    /// Those of `layers` that nobody needs, as far as that can be known.
    pub(crate) fn unused<'a>(&self, layers: &'a [LayerId]) -> Vec<&'a LayerId> {
        if !self.is_complete {
            return Vec::new();
        }
        let used = self.layers();
        layers
            .iter()
            .filter(|layer| !used.contains(layer))
            .collect()
    }

    fn layers(&self) -> HashSet<&LayerId> {
        let of_images = self.images.iter().flat_map(|image| &image.layers);
        let of_containers = self.containers.iter().flat_map(|c| &c.settings.layers);
        of_images.chain(of_containers).collect()
    }

    /// The containers, by name, that were made on the image as it is called now, and those that stand on its own layer
    /// when none of the images is a copy of it.
    fn standing_on(&self, image: &ImageRecord) -> Vec<Name> {
        let own = image.layers.last();
        let has_copy = self.images.iter().any(|other| other.layers.last() == own);
        let stands = |container: &&Container| {
            let holds = container
                .settings
                .layers
                .iter()
                .any(|layer| Some(layer) == own);
            holds && (!has_copy || calls(&container.settings.image, image))
        };
        let standing = self.containers.iter().filter(stands);
        let mut names: Vec<Name> = standing.map(|container| container.name.clone()).collect();
        names.sort();
        names
    }
}

/// Whether a list of images, as a user said it, calls this one: by its version, or by none.
fn calls(said: &str, image: &ImageRecord) -> bool {
    Reference::parse_list(said).is_ok_and(|said| {
        said.iter().any(|said| {
            let any_or_this = said
                .version
                .as_ref()
                .is_none_or(|version| *version == image.version);
            said.name == image.name && any_or_this
        })
    })
}

/// The long part, done without the lock. A layer that cannot be removed is in nobody's way.
fn remove_layers(leaving: Vec<LeavingFolder>) {
    for layer in leaving {
        if let Err(error) = layer.remove() {
            tracing::warn!("a layer that nothing needs stays: {error}");
        }
    }
}
