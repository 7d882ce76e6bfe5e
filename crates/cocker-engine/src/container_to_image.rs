//! A container becomes an image: its writable layer becomes the image's own layer, by moving one folder. However much that
//! is, it costs the same. Where the container stays, the files are copied instead.
//!
//! Nothing is ever converted half: see [`cocker_image::Change`].

use crate::container::{CONTAINERS, Container, UPPER};
use crate::create::check_layer_count;
use crate::engine::Engine;
use crate::environment;
use crate::failure::{ContainerError, ConversionError, EngineError};
use crate::request::{Original, ToImageRequest, WhileBooted};
use crate::state::Record;
use cocker_image::{
    Afterwards, LayerOrigin, NewImage, StagedLayer, Version, copy_tree, measure_tree,
};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

impl Engine {
    /// Makes an image of a container's writable layer, built on what the container stands on.
    ///
    /// # Errors
    /// Among others with a booted container, unless it may be frozen and copied. Then nothing has changed.
    pub fn to_image(&self, request: &ToImageRequest) -> Result<(), EngineError> {
        let made = match request.original {
            Original::Goes => self.move_container(request),
            Original::Stays => self.copy_container(request),
        };
        made.map_err(|source| EngineError::ToImage {
            container: request.container.clone(),
            image: request.image.clone(),
            source: Box::new(source),
        })
    }

    fn move_container(&self, request: &ToImageRequest) -> Result<(), ConversionError> {
        let name = &request.container;
        let (container, _work) = Container::open_for_work(&self.store, name)?;
        let record = container.hold_stopped()?;
        self.expect_nothing(&container)?;
        self.check_image(&container, request)?;
        let size = known_size(&container, record)?;
        self.clean_up_for_good(&container, record)
            .map_err(|source| ConversionError::CleanUp { source })?;
        // Should the conversion fail, the next boot pins it again.
        self.unpin_network(&container)?;
        let place = format!("{CONTAINERS}/{name}/{UPPER}");
        let layer = self.store.stage_from(place, size)?;
        let afterwards = destruction_of(&container)?;
        self.publish_layer(layer, &container, request, afterwards)
    }

    /// The container is held to the end, so that nobody boots it and changes what is being copied; a booted one stands still.
    fn copy_container(&self, request: &ToImageRequest) -> Result<(), ConversionError> {
        let (container, _work) = Container::open_for_work(&self.store, &request.container)?;
        match container.hold_stopped() {
            Err(ContainerError::Booted { .. }) if request.while_booted == WhileBooted::Freeze => {
                let copied = self.while_frozen(&container, || self.copy_files(&container, request));
                self.publish_layer(copied??, &container, request, Vec::new())
            }
            held => {
                held?;
                let copied = self.copy_files(&container, request)?;
                self.publish_layer(copied, &container, request, Vec::new())
            }
        }
    }

    fn copy_files(
        &self,
        container: &Container,
        request: &ToImageRequest,
    ) -> Result<StagedLayer, ConversionError> {
        self.check_image(container, request)?;
        let layer = self.store.stage()?;
        let upper = open_upper(container)?;
        let copied = copy_tree(upper.as_fd(), layer.tree())
            .map_err(|source| ConversionError::Copy { source })?;
        tracing::debug!(?copied, "copied the files of `{}`", container.name);
        Ok(layer)
    }

    fn publish_layer(
        &self,
        mut layer: StagedLayer,
        container: &Container,
        request: &ToImageRequest,
        afterwards: Vec<Afterwards>,
    ) -> Result<(), ConversionError> {
        layer.origin = Some(LayerOrigin::Container(container.name.as_str().into()));
        let version = version_of(container, request);
        let base = &container.settings.layers;
        let mut image = NewImage::of(layer, &request.image, &version, base);
        let settings = &container.settings;
        image.config = (settings.image_config.clone())
            .or_else(|| environment::as_config(&settings.environment));
        // The long part comes before the lock.
        image.seal(&self.store)?;
        let names = self.store.lock()?;
        let published = self.store.publish(&names, image, afterwards)?;
        drop(names);
        // The long part, done without the lock.
        drop(published);
        Ok(())
    }

    /// What can be refused before anything is done.
    fn check_image(
        &self,
        container: &Container,
        request: &ToImageRequest,
    ) -> Result<(), ConversionError> {
        let name = &request.image;
        let version = version_of(container, request);
        if self.store.has_image(name, &version)? {
            let name = name.clone();
            return Err(cocker_image::StoreError::ImageExists { name, version }.into());
        }
        check_layer_count(container.settings.layers.len() + 1)?;
        Ok(())
    }
}

/// What was said, else what the container was converted from, else none.
fn version_of(container: &Container, request: &ToImageRequest) -> Version {
    let known = request.version.as_ref();
    let known = known.or(container.settings.converted_from.as_ref());
    known.cloned().unwrap_or(Version::none())
}

/// The size that the last release wrote down; where nobody did, or the host was started anew since, the files are measured.
fn known_size(container: &Container, record: Record) -> Result<u64, ConversionError> {
    if let Some(size) = record.known_size() {
        return Ok(size);
    }
    let upper = open_upper(container)?;
    measure_tree(upper.as_fd()).map_err(|source| ConversionError::Measure { source })
}

fn open_upper(container: &Container) -> Result<OwnedFd, ConversionError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&container.folder, UPPER, flags, Mode::empty())
        .map_err(|source| ConversionError::OpenFiles { source })
}

/// How a container vanishes whose files are elsewhere by then.
fn destruction_of(container: &Container) -> Result<Vec<Afterwards>, ConversionError> {
    let folder = format!("{CONTAINERS}/{}", container.name);
    let mut steps = vec![
        Afterwards::leave(folder)?,
        Afterwards::Unlink(crate::ids::path(container.settings.id_slot)),
    ];
    let address = container.settings.network.address();
    steps.extend(address.map(|address| Afterwards::Unlink(crate::addresses::path(address))));
    Ok(steps)
}
