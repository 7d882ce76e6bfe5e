//! What images there are in a repository, and which one is meant.

use super::manifest::{self, Manifest};
use super::names::{ImageId, MANIFESTS};
use super::server::is_missing;
use super::{Form, Repository, RepositoryError};
use crate::Reference;
use cocker_sftp::{Entry, Kind};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant, SystemTime};

/// More entries of a folder are not looked through.
const MOST_ENTRIES: usize = 1_000_000;
/// More images are not kept in memory.
const MOST_IMAGES: usize = 250_000;
/// Of more images that lie there as layers the sizes are not asked for: each takes some requests.
const MOST_MANIFESTS: usize = 1_000;

/// A folder is not read for longer.
const LONGEST: Duration = Duration::from_secs(600);

/// An image in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteImage {
    pub id: ImageId,
    pub form: Form,
    /// When it was pushed, by the server's clock, in whole seconds; where the server says so.
    pub modified: Option<SystemTime>,
    /// Bytes of its files, those of layers that it shares with others included; `None` where that is not known.
    pub size: Option<u64>,
    /// Whether it is the one that is meant without a version: the highest one of its name.
    pub is_newest: bool,
}

impl Repository {
    /// All images whose `NAME[:VERSION]` contains `part`, by name, then version.
    pub fn images(&self, part: &str) -> Result<Vec<RemoteImage>, RepositoryError> {
        let mut images = self.all()?;
        mark_newest(&mut images);
        let mut images: Vec<RemoteImage> = images.into_values().collect();
        images.retain(|image| image.id.text().contains(part));
        let layered = images.iter_mut().filter(|image| image.form == Form::Layers);
        for image in layered.take(MOST_MANIFESTS) {
            image.size = match self.manifest(&image.id) {
                Ok(manifest) => manifest.map(|it| it.size()),
                Err(error) if error.is_interruption() => return Err(error),
                // One that cannot be understood has no size.
                Err(_) => None,
            };
        }
        Ok(images)
    }

    /// The image that is meant: the highest version where none is said.
    pub fn find(&self, reference: &Reference) -> Result<RemoteImage, RepositoryError> {
        let unknown = || RepositoryError::NoImage {
            image: reference.clone(),
        };
        let Some(version) = &reference.version else {
            let mut images = self.all()?;
            mark_newest(&mut images);
            let mut images = images.into_values();
            return images
                .find(|image| image.id.name == reference.name && image.is_newest)
                .ok_or_else(unknown);
        };
        let id = ImageId {
            name: reference.name.clone(),
            version: version.clone(),
        };
        for (path, form) in [
            (self.path(&id.image_file()), Form::File),
            (self.path(&id.manifest()), Form::Layers),
        ] {
            if let Some(file) = self.file(&path)? {
                let size = (form == Form::File).then_some(file.size);
                return Ok(RemoteImage {
                    id,
                    form,
                    modified: file.modified.map(time),
                    size,
                    is_newest: false,
                });
            }
        }
        Err(unknown())
    }

    /// The manifest of an image that lies there as layers.
    pub(super) fn manifest(&self, id: &ImageId) -> Result<Option<Manifest>, RepositoryError> {
        let path = self.path(&id.manifest());
        match self.read_file(&path, manifest::LARGEST)? {
            Some(text) => Manifest::parse(id, &path, &text).map(Some),
            None => Ok(None),
        }
    }

    fn all(&self) -> Result<BTreeMap<ImageId, RemoteImage>, RepositoryError> {
        let mut images = BTreeMap::new();
        if !self.gather(self.folder(), Form::File, &mut images)? && self.folder() != "." {
            return Err(RepositoryError::NoFolder {
                folder: self.folder().into(),
            });
        }
        self.gather(&self.path(MANIFESTS), Form::Layers, &mut images)?;
        Ok(images)
    }

    /// Adds the images of a folder; false where there is no such folder.
    fn gather(
        &self,
        folder: &str,
        form: Form,
        images: &mut BTreeMap<ImageId, RemoteImage>,
    ) -> Result<bool, RepositoryError> {
        let began = Instant::now();
        let mut seen = 0;
        let read = self.session.read_folder(folder, &mut |entry| {
            seen += 1;
            if let Some(image) = image_of(&entry, form) {
                images.entry(image.id.clone()).or_insert(image);
            }
            let is_enough = seen > MOST_ENTRIES || images.len() > MOST_IMAGES;
            match is_enough || began.elapsed() > LONGEST {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match read {
            Err(error) if is_missing(&error) => return Ok(false),
            read => read?,
        }
        if seen > MOST_ENTRIES || images.len() > MOST_IMAGES {
            let most = MOST_IMAGES;
            return Err(RepositoryError::TooMany { most });
        }
        if began.elapsed() > LONGEST {
            return Err(RepositoryError::SlowFolder {
                folder: folder.into(),
                seconds: LONGEST.as_secs(),
            });
        }
        Ok(true)
    }
}

/// The image that an entry is; nothing but regular files are.
fn image_of(entry: &Entry, form: Form) -> Option<RemoteImage> {
    let id = match form {
        Form::File => ImageId::of_image_file(&entry.name),
        Form::Layers => ImageId::of_manifest(&entry.name),
    }?;
    let metadata = &entry.metadata;
    matches!(metadata.kind, Kind::File | Kind::Unknown).then(|| RemoteImage {
        id,
        form,
        modified: metadata.modified.map(time),
        size: metadata.size.filter(|_| form == Form::File),
        is_newest: false,
    })
}

/// Marks the highest version of each name.
fn mark_newest(images: &mut BTreeMap<ImageId, RemoteImage>) {
    let mut above: Option<ImageId> = None;
    for (id, image) in images.iter_mut().rev() {
        image.is_newest = above.as_ref().is_none_or(|above| above.name != id.name);
        above = Some(id.clone());
    }
}

fn time(seconds: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocker_sftp::Metadata;

    fn entry(name: &str, kind: Kind) -> Entry {
        Entry {
            name: name.into(),
            metadata: Metadata {
                kind,
                size: Some(7),
                mode: None,
                modified: Some(86_400),
            },
        }
    }

    #[test]
    fn only_regular_files_named_as_images_are_images() {
        let image = image_of(&entry("web:1.cockerimage", Kind::File), Form::File).unwrap();
        assert_eq!((image.id.text().as_str(), image.size), ("web:1", Some(7)));
        assert_eq!(image.modified, Some(time(86_400)));
        for kind in [Kind::Folder, Kind::Link, Kind::Other] {
            let entry = entry("web:1.cockerimage", kind);
            assert_eq!(image_of(&entry, Form::File), None);
        }
        assert_eq!(image_of(&entry("web:1.json", Kind::File), Form::File), None);
    }

    #[test]
    fn the_highest_version_of_a_name_is_the_newest() {
        let names = ["a:1.9.0", "a:1.10.0", "a", "b", "c:2", "c:10"];
        let mut images: BTreeMap<ImageId, RemoteImage> = names
            .iter()
            .filter_map(|name| {
                image_of(
                    &entry(&format!("{name}.cockerimage"), Kind::File),
                    Form::File,
                )
            })
            .map(|image| (image.id.clone(), image))
            .collect();
        mark_newest(&mut images);
        let newest = images.values().filter(|image| image.is_newest);
        let newest: Vec<String> = newest.map(|image| image.id.text()).collect();
        assert_eq!(newest, ["a:1.10.0", "b", "c:10"]);
    }
}
