//! Images: made from the host's programs, named, named again, copied and removed.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{ContainerError, EngineError};
use crate::request::OnError;
use cocker_image::host_image::{self, HostImageReport, Options};
use cocker_image::{
    Afterwards, ImageRecord, LayerId, LayerOrigin, Name, NewImage, Origin, Reference, StoreError,
    Version,
};
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
        staged.origin = Some(LayerOrigin::HostPrograms);
        let mut image = NewImage::of(staged, &name, version, &[]);
        image.origin = Some(Origin::HostPrograms);
        // The long part comes before the lock.
        image.seal(&self.store)?;
        let names = self.store.lock()?;
        let leaving = self.unneeded_after_replacing(&name, version)?;
        let published = self.store.publish_or_replace(&names, image, leaving)?;
        drop(names);
        // The long part, done without the lock.
        drop(published);
        Ok(report)
    }

    /// What nobody needs any more once the image of this name and version makes way for a new one.
    fn unneeded_after_replacing(
        &self,
        name: &Name,
        version: &Version,
    ) -> Result<Vec<Afterwards>, EngineError> {
        if !self.store.has_image(name, version)? {
            return Ok(Vec::new());
        }
        let old = self.store.resolve(&Reference {
            name: name.clone(),
            version: Some(version.clone()),
        })?;
        // A layer that stays takes nothing but room, so what cannot be read is no obstacle.
        let users = self.layer_users(OnError::GoOn)?.without(&old);
        Ok(users.leave_unused(old.layers.iter())?)
    }

    /// Gives an image another version.
    pub fn set_version(&self, image: &Reference, version: &Version) -> Result<(), EngineError> {
        let names = self.store.lock()?;
        Ok(self.store.set_version(&names, image, version)?)
    }

    /// Gives an image's layers a second name.
    pub fn copy_image(
        &self,
        image: &Reference,
        name: &Name,
        version: &Version,
    ) -> Result<(), EngineError> {
        let names = self.store.lock()?;
        self.store.copy_image(&names, image, name, version)?;
        Ok(())
    }

    /// Removes an image, with those of its layers that nothing else needs; refused while containers stand on it.
    ///
    /// With [`OnError::GoOn`] a container that cannot be read is no obstacle; the layers, which may be its, stay.
    pub fn remove_image(&self, image: &Reference, on_error: OnError) -> Result<(), EngineError> {
        let names = self.store.lock()?;
        let image = self.store.resolve(image)?;
        let users = self.layer_users(on_error)?.without(&image);
        let containers = users.standing_on(&image);
        if !containers.is_empty() {
            return Err(EngineError::ImageInUse {
                name: image.name,
                version: image.version,
                containers,
            });
        }
        let leaving = users.leave_unused(image.layers.iter())?;
        let removed = self
            .store
            .remove_image(&names, &image.name, &image.version, leaving)?;
        drop(names);
        // The long part, done without the lock.
        drop(removed);
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
}

/// Who needs layers, read once.
pub(crate) struct LayerUsers {
    pub images: Vec<ImageRecord>,
    pub containers: Vec<Container>,
    /// False where an image or a container could not be read: it may stand on anything.
    pub is_complete: bool,
}

impl LayerUsers {
    /// All but this image.
    pub(crate) fn without(mut self, image: &ImageRecord) -> LayerUsers {
        self.images
            .retain(|other| (&other.name, &other.version) != (&image.name, &image.version));
        self
    }

    /// Has those of `layers` (lowest first) that nobody uses leave their names. The lock on names has been held since the
    /// users were read, so nobody has come to stand on them.
    pub(crate) fn leave_unused<'a>(
        &self,
        layers: impl DoubleEndedIterator<Item = &'a LayerId>,
    ) -> Result<Vec<Afterwards>, StoreError> {
        Afterwards::leave_layers(self.unused(layers).into_iter())
    }

    /// Those of `layers` that nobody needs, as far as that can be known.
    pub(crate) fn unused<'a>(&self, layers: impl Iterator<Item = &'a LayerId>) -> Vec<&'a LayerId> {
        if !self.is_complete {
            return Vec::new();
        }
        let used = self.layers();
        layers.filter(|layer| !used.contains(layer)).collect()
    }

    /// Whether anybody uses the layer.
    pub(crate) fn need(&self, layer: &LayerId) -> bool {
        !self.is_complete || self.layers().contains(layer)
    }

    /// The first image that has just these layers, as a user would say it.
    pub(crate) fn image_of(&self, layers: &[LayerId]) -> Option<String> {
        let image = self.images.iter().find(|image| image.layers == layers)?;
        let reference = Reference {
            name: image.name.clone(),
            version: Some(image.version.clone()).filter(|version| *version != Version::none()),
        };
        Some(reference.to_string())
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
