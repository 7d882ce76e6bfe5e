//! Images: their records, and whether the layers that they name are there.

use super::{Finding, chain};
use crate::{LayerId, Name, Reference, Store, StoreError, Version};
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

impl Store {
    /// What is wrong with the folder of a name's versions.
    pub fn inspect_name(&self, name: &Name) -> Vec<Finding> {
        let (thing, shown) = (format!("image {name}"), format!("images/{name}"));
        let folder = self.inspect_folder(self.images_folder(), name.as_str(), &thing, &shown);
        let Some(mut findings) = folder else {
            return Vec::new();
        };
        match self.image_versions(name) {
            Err(error) => findings.push(Finding::wrong(thing, chain(&error), "mend the disk")),
            Ok(versions) if versions.is_empty() && findings.is_empty() => {
                findings.push(Finding::note(thing, "has no version", "cocker prune"));
            }
            Ok(_) => {}
        }
        findings
    }

    /// What is wrong with an image; the files of its layers are not looked at.
    pub fn inspect_image(&self, name: &Name, version: &Version) -> Vec<Finding> {
        let thing = format!("image {name}:{version}");
        let path = format!("{name}/{version}");
        let shown = format!("images/{path}");
        let folder = self.inspect_folder(self.images_folder(), &path, &thing, &shown);
        let Some(mut findings) = folder else {
            return Vec::new();
        };
        let reference = Reference {
            name: name.clone(),
            version: Some(version.clone()),
        };
        let image = match self.resolve(&reference) {
            Ok(image) => image,
            Err(StoreError::UnknownImage { .. } | StoreError::UnknownVersion { .. }) => {
                return findings;
            }
            Err(error) => {
                let remedy = error.hint();
                let remedy = remedy.unwrap_or_else(|| self.restore_or_remove(&shown));
                findings.push(Finding::wrong(thing, chain(&error), remedy));
                return findings;
            }
        };
        for layer in image.layers.iter().filter(|layer| !self.has_layer(layer)) {
            let what = format!("its layer {layer} is not there");
            let remedy = format!(
                "restore {} from a backup, or: cocker rm-image {name}:{version}",
                self.shown_path(&format!("layers/{layer}"))
            );
            findings.push(Finding::wrong(thing.clone(), what, remedy));
        }
        let own = image.layers.last().and_then(|own| self.layer(own).ok());
        if let Some(own) = own.filter(|own| own.size != image.size) {
            let what = format!(
                "its record says {} bytes, and that of its layer {}",
                image.size, own.size
            );
            let record = self.shown_path(&format!("{shown}/image.json"));
            let remedy = format!("in {record}, write {} as the size", own.size);
            findings.push(Finding::wrong(thing, what, remedy));
        }
        findings
    }

    /// Whether a layer has its name; what is in it is not asked.
    pub fn has_layer(&self, layer: &LayerId) -> bool {
        let found = statat(
            self.layers_folder(),
            layer.as_str(),
            AtFlags::SYMLINK_NOFOLLOW,
        );
        !matches!(found, Err(Errno::NOENT))
    }

    pub(super) fn restore_or_remove(&self, shown: &str) -> String {
        let place = self.shown_path(shown);
        format!("restore {place} from a backup, or remove it: rm -r {place}")
    }
}
