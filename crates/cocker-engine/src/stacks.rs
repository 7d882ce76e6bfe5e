//! Stacks of layers looked at: an image's history, what differs between two, where a path comes from.
//!
//! Nothing is locked and nothing is changed. Whoever removes an image meanwhile may take a layer away, which is then an
//! error; a booted container may change its writable layer, which is read as it is found.

use crate::container::{Container, UPPER};
use crate::engine::Engine;
use crate::failure::EngineError;
use cocker_image::stack::{self, Change, Found, Standing, Tree, ViewPath};
use cocker_image::{ImageRecord, LayerId, LayerRecord, Name, Reference, StoreError, Version};
use std::collections::HashMap;
use std::ffi::CString;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

/// One layer of an image.
#[derive(Clone, Debug)]
pub struct LayerSummary {
    /// Counted from the lowest, which is 1.
    pub number: usize,
    pub record: LayerRecord,
    /// The images whose own layer it is, by name, then version; none where those were removed.
    pub images: Vec<(Name, Version)>,
}

/// What a layer of a stack has to do with a path.
#[derive(Clone, Debug)]
pub struct TraceSummary {
    /// `None`: the container's writable layer.
    pub layer: Option<LayerSummary>,
    pub found: Found,
    pub standing: Standing,
}

/// What a path is looked for in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StackRequest {
    /// Lowest first.
    Images(Vec<Reference>),
    Container(Name),
}

impl Engine {
    /// The layers of an image, topmost first. Reads records only.
    pub fn history(&self, image: &Reference) -> Result<Vec<LayerSummary>, EngineError> {
        let layers = self.store.resolve(image)?.layers;
        let owners = self.owners()?;
        let numbered = layers.iter().enumerate().rev();
        let summaries = numbered.map(|(place, id)| self.layer_summary(place, id, &owners));
        Ok(summaries.collect::<Result<_, _>>()?)
    }

    /// Tells `found` what a container's writable layer has changed, until it breaks.
    pub fn diff_container(
        &self,
        name: &Name,
        found: impl FnMut(Change) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let container = Container::open(&self.store, name)?;
        let layers = self.trees(&container.settings.layers);
        let with_own = [&layers[..], &[writable(&container)]].concat();
        stack::diff(&layers, &with_own, found).map_err(|source| EngineError::Compare {
            what: format!("container `{name}` with its layers"),
            source,
        })
    }

    /// Tells `found` what was added, changed and removed from one image to the other, until it breaks.
    pub fn diff_images(
        &self,
        from: &Reference,
        to: &Reference,
        found: impl FnMut(Change) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (older, newer) = (self.store.resolve(from)?, self.store.resolve(to)?);
        let (older, newer) = (self.trees(&older.layers), self.trees(&newer.layers));
        stack::diff(&older, &newer, found).map_err(|source| EngineError::Compare {
            what: format!("image `{from}` with image `{to}`"),
            source,
        })
    }

    /// What the layers of a stack have at `path`, topmost first; those that have nothing to do with it are left out.
    pub fn whence(
        &self,
        request: &StackRequest,
        path: &ViewPath,
    ) -> Result<Vec<TraceSummary>, EngineError> {
        match request {
            StackRequest::Images(images) => {
                let layers = self.store.stack(images)?;
                self.trace(&layers, None, path)
            }
            StackRequest::Container(name) => {
                let container = Container::open(&self.store, name)?;
                let layers = &container.settings.layers;
                let own = Some(writable(&container));
                self.trace(layers, own, path)
            }
        }
    }

    fn trace(
        &self,
        layers: &[LayerId],
        own: Option<Tree<'_>>,
        path: &ViewPath,
    ) -> Result<Vec<TraceSummary>, EngineError> {
        let mut trees = self.trees(layers);
        trees.extend(own);
        let traces = stack::whence(&trees, path)?;
        let owners = self.owners()?;
        let summaries = traces.into_iter().map(|trace| {
            let layer = layers.get(trace.place);
            let layer = layer.map(|id| self.layer_summary(trace.place, id, &owners));
            Ok(TraceSummary {
                layer: layer.transpose()?,
                found: trace.found,
                standing: trace.standing,
            })
        });
        summaries.collect()
    }

    fn trees(&self, layers: &[LayerId]) -> Vec<Tree<'_>> {
        let folder = self.store.layers_folder();
        let tree = |id: &LayerId| tree(folder, &format!("{id}/tree"), format!("layer `{id}`"));
        layers.iter().map(tree).collect()
    }

    /// The images by their own layers.
    fn owners(&self) -> Result<HashMap<LayerId, Vec<(Name, Version)>>, StoreError> {
        let mut owners: HashMap<LayerId, Vec<(Name, Version)>> = HashMap::new();
        for image in self.store.images()? {
            let ImageRecord {
                name,
                version,
                mut layers,
                ..
            } = image;
            if let Some(own) = layers.pop() {
                owners.entry(own).or_default().push((name, version));
            }
        }
        Ok(owners)
    }

    fn layer_summary(
        &self,
        place: usize,
        id: &LayerId,
        owners: &HashMap<LayerId, Vec<(Name, Version)>>,
    ) -> Result<LayerSummary, StoreError> {
        Ok(LayerSummary {
            number: place + 1,
            record: self.store.layer(id)?,
            images: owners.get(id).cloned().unwrap_or_default(),
        })
    }
}

fn writable(container: &Container) -> Tree<'_> {
    let label = format!("the writable layer of container `{}`", container.name);
    tree(container.folder.as_fd(), UPPER, label)
}

fn tree<'a>(parent: BorrowedFd<'a>, path: &str, label: String) -> Tree<'a> {
    let path = CString::new(path).expect("neither ids nor our own names hold a NUL");
    Tree::new(parent, path, label)
}
