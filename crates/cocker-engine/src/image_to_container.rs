//! An image becomes a container: the image's own layer becomes the writable one, by moving one folder. However much
//! that is, it costs the same. Where the image stays, or others need the layer, the files are copied instead.
//!
//! Nothing is ever converted half: see [`cocker_image::Change`].

use crate::container::{CONTAINERS, ContainerSettings, NOTHING, UPPER};
use crate::create::{Checked, make_folder, make_upper, said, write_records, writing};
use crate::engine::Engine;
use crate::environment;
use crate::failure::{ConversionError, EngineError};
use crate::images::LayerUsers;
use crate::request::{OnError, Original, ToContainerRequest};
use cocker_image::staging::StagedFolder;
use cocker_image::{
    Afterwards, Change, Commit, ImageRecord, LayerId, Rename, StoreLock, copy_tree,
};
use cocker_sys::fault;
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};

/// What a container that stands on no layer, or on some that no image has, is said to be made on.
const NO_IMAGE: &str = "-";

impl Engine {
    /// Makes a container whose writable layer has the files of an image's own layer.
    ///
    /// # Errors
    /// Then nothing has changed.
    pub fn to_container(&self, request: &ToContainerRequest) -> Result<(), EngineError> {
        self.convert_image(request)
            .map_err(|source| EngineError::ToContainer {
                image: request.image.clone(),
                container: request.container.name.clone(),
                source: Box::new(source),
            })
    }

    fn convert_image(&self, request: &ToContainerRequest) -> Result<(), ConversionError> {
        let checked = self.checked(&request.container)?;
        let mut staged = self.stage_container()?;
        let mut copied: Option<LayerId> = None;
        let (names, plan) = loop {
            let names = self.store.lock()?;
            self.check_name_free(&request.container.name)?;
            let plan = self.plan_conversion(request)?;
            match (&plan.files, &copied) {
                (Files::Move, None) => break (names, plan),
                (_, Some(layer)) if *layer == plan.own => break (names, plan),
                _ => {}
            }
            // The long part is done without the lock. The layer cannot go and come back, so where the image still has it
            // afterwards, it was there all the time.
            drop(names);
            if copied.take().is_some() {
                staged = self.stage_container()?;
            }
            self.copy_layer(&plan, &staged)?;
            copied = Some(plan.own);
        };
        self.make_converted(&checked, &mut staged, plan, copied.is_some(), names)?;
        // It holds the new folder's lock.
        drop(staged);
        Ok(self.make_namespace_where_wanted(&request.container)?)
    }

    /// Who stands on what is asked anew each time the lock is taken.
    fn plan_conversion(&self, request: &ToContainerRequest) -> Result<Plan, ConversionError> {
        let image = self.store.resolve(&request.image)?;
        let (own, base) = image
            .layers
            .split_last()
            .expect("a record has an own layer");
        let users = self
            .layer_users(OnError::Stop)
            .map_err(|source| ConversionError::Users {
                source: Box::new(source),
            })?;
        let (image_name, layers) = match &request.over {
            Some(images) => (said(images), self.pin_layers(images)?),
            None => (
                users.image_of(base).unwrap_or(NO_IMAGE.into()),
                base.to_vec(),
            ),
        };
        let users = match request.original {
            Original::Goes => users.without(&image),
            Original::Stays => users,
        };
        let below = match &request.over {
            Some(images) => self.configs(images)?,
            // What the image says holds for all of its layers.
            None => Vec::new(),
        };
        let environment = environment::of_images(below.iter().chain(&image.config));
        let files = match users.need(own) || layers.contains(own) {
            true => Files::Copy,
            false => Files::Move,
        };
        Ok(Plan {
            own: own.clone(),
            files,
            leaving: leaving_layers(request.original, &image, &layers, &users)?,
            original: request.original,
            image_name,
            layers,
            environment,
            image,
        })
    }

    fn copy_layer(&self, plan: &Plan, staged: &StagedFolder) -> Result<(), ConversionError> {
        let layer = self.store.open_layer(&plan.own)?;
        make_upper(staged).map_err(writing("files"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = rustix::fs::openat(staged.folder(), UPPER, flags, Mode::empty())
            .map_err(writing("files"))?;
        let copied = copy_tree(layer.as_fd(), upper.as_fd())
            .map_err(|source| ConversionError::Copy { source })?;
        fault::step("container.sync.files", || rustix::fs::syncfs(&upper))
            .map_err(writing("files"))?;
        tracing::info!(
            ?copied,
            "layer {} is needed elsewhere: its files were copied",
            plan.own
        );
        Ok(())
    }

    fn make_converted(
        &self,
        checked: &Checked<'_>,
        staged: &mut StagedFolder,
        plan: Plan,
        is_copied: bool,
        names: StoreLock,
    ) -> Result<(), ConversionError> {
        let name = &checked.container.name;
        if plan.layers.is_empty() {
            make_folder(staged, NOTHING, 0o755).map_err(writing("files"))?;
        }
        let change = plan.change(staged, name.as_str(), is_copied)?;
        let taken = self.take_what_it_needs(checked, staged, plan.image_name, plan.layers)?;
        let settings = ContainerSettings {
            converted_from: Some(plan.image.version),
            environment: plan.environment,
            image_config: plan.image.config,
            ..taken
        };
        let made = write_records(&self.store, staged, &settings, plan.image.size)
            .map_err(ConversionError::from)
            .and_then(|()| Ok(self.store.carry_out(&names, &change)?));
        let leaving = made.inspect_err(|_| self.give_back(name, &settings))?;
        staged.let_go();
        drop(names);
        // The long part, done without the lock.
        drop(leaving);
        Ok(())
    }
}

/// How the files of the image's own layer come into the container.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Move,
    Copy,
}

/// What will be done, as things stand while the lock on names is held.
struct Plan {
    image: ImageRecord,
    own: LayerId,
    files: Files,
    original: Original,
    /// What the container stands on, as it is listed, and its layers, lowest first.
    image_name: String,
    layers: Vec<LayerId>,
    /// What the images say of it.
    environment: Vec<String>,
    /// Layers that nobody needs any more afterwards.
    leaving: Vec<Afterwards>,
}

impl Plan {
    fn change(
        &self,
        staged: &StagedFolder,
        container: &str,
        is_copied: bool,
    ) -> Result<Change, ConversionError> {
        let folder = format!("{CONTAINERS}/{container}");
        let mut afterwards = Vec::new();
        if !is_copied {
            // First of all: the folder that it comes from leaves below.
            let from = self.own.tree_path().to_string_lossy().into_owned();
            let to = format!("{folder}/{UPPER}");
            afterwards.push(Afterwards::Rename(Rename { from, to }));
        }
        if self.original == Original::Goes {
            let ImageRecord { name, version, .. } = &self.image;
            afterwards.push(Afterwards::leave(format!("images/{name}/{version}"))?);
        }
        afterwards.extend(self.leaving.iter().cloned());
        Ok(Change {
            before: Vec::new(),
            commit: Commit::Rename(Rename::new(
                format!("{CONTAINERS}/{}", staged.name()),
                folder,
            )),
            afterwards,
        })
    }
}

/// The layers that nobody needs once the image is gone; the container that is being made needs `kept`.
fn leaving_layers(
    original: Original,
    image: &ImageRecord,
    kept: &[LayerId],
    users: &LayerUsers,
) -> Result<Vec<Afterwards>, ConversionError> {
    if original == Original::Stays {
        return Ok(Vec::new());
    }
    let others = image.layers.iter().filter(|layer| !kept.contains(layer));
    Ok(users.leave_unused(others)?)
}
