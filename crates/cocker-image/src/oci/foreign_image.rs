//! Images of others, opened and not yet chosen from.

use super::documents::{Descriptor, SavedImage};
use super::source::Source;
use super::{Chosen, OciError, layout, saved};
use crate::quote::quote;
use std::sync::Arc;

/// How many names an error lists.
const MOST_LISTED: usize = 20;

/// The images of one file or folder; nothing of them is unpacked.
pub struct ForeignImage {
    source: Arc<Source>,
    form: Form,
}

pub(super) enum Form {
    /// The entries of `index.json`.
    Layout(Vec<Descriptor>),
    /// The entries of `manifest.json`.
    Saved(Vec<SavedImage>),
}

impl ForeignImage {
    pub(super) fn new(form: Form, source: Source) -> ForeignImage {
        ForeignImage {
            source: Arc::new(source),
            form,
        }
    }

    /// What the images say they are called, in their order: `docker.io/library/alpine:3.19`, or a tag alone. An
    /// image need not say anything, and may say what no terminal should be shown.
    pub fn references(&self) -> Vec<&str> {
        let mut references: Vec<&str> = match &self.form {
            Form::Layout(manifests) => manifests.iter().filter_map(layout::name).collect(),
            Form::Saved(images) => images
                .iter()
                .flat_map(|image| image.repo_tags.iter().map(String::as_str))
                .collect(),
        };
        let mut seen = std::collections::HashSet::new();
        references.retain(|reference| seen.insert(*reference));
        references
    }

    /// Reads the one image there is, or the one that is called so: by its whole name, by a short form of it (`alpine`
    /// for `docker.io/library/alpine:latest`), or by its tag where it has no other name.
    ///
    /// Of an image for several platforms, the one for this machine is taken.
    pub fn choose(&self, reference: Option<&str>) -> Result<Chosen, OciError> {
        match &self.form {
            Form::Layout(manifests) => layout::choose(&self.source, manifests, reference),
            Form::Saved(images) => saved::choose(&self.source, images, reference),
        }
    }
}

/// The names of what there is, for an error.
pub(super) fn listed<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut left_out = 0;
    for name in names {
        let name = format!("`{}`", quote(name.as_ref()));
        if shown.contains(&name) {
            continue;
        }
        match shown.len() {
            MOST_LISTED => left_out += 1,
            _ => shown.push(name),
        }
    }
    match (shown.is_empty(), left_out) {
        (true, _) => "none".into(),
        (false, 0) => shown.join(", "),
        (false, left_out) => format!("{} and {left_out} more", shown.join(", ")),
    }
}
