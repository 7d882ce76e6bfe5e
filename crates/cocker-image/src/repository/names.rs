//! What things are called in a repository.
//!
//! ```text
//! FOLDER/
//! ├── NAME[:VERSION].cockerimage           an image's own layer, as `export` writes it
//! ├── NAME[:VERSION].sha256                its SHA-256, as sha256sum(1) writes it
//! ├── NAME[:VERSION].sha256.sig            an OpenSSH signature of that text
//! ├── .cocker/layers/<SHA-256 of the tar>  one layer, compressed
//! ├── .cocker/images/NAME[:VERSION].json   the layers of an image, lowest first; with .json.sig beside it
//! ├── .cocker.lock/                        there while somebody gives or takes names
//! └── .<name>.<16 hex digits>.part         what is being written; in the folder of what it will be
//! ```

use crate::{Name, Reference, Version};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;

pub(super) const LOCK: &str = ".cocker.lock";
pub(super) const LAYERS: &str = ".cocker/layers";
pub(super) const MANIFESTS: &str = ".cocker/images";
/// The folders of both, from the outermost in.
pub(super) const FOLDERS: [&str; 3] = [".cocker", LAYERS, MANIFESTS];

const IMAGE_ENDING: &str = ".cockerimage";
const MANIFEST_ENDING: &str = ".json";
pub(super) const PART_ENDING: &str = ".part";

/// The name and version of an image in a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId {
    pub name: Name,
    /// [`Version::none`] where it has none.
    pub version: Version,
}

impl ImageId {
    /// What the file `NAME[:VERSION].cockerimage` holds; `None` for any other name.
    pub(super) fn of_image_file(file: &[u8]) -> Option<ImageId> {
        ImageId::of_file(file, IMAGE_ENDING)
    }

    /// What the manifest `NAME[:VERSION].json` describes; `None` for any other name.
    pub(super) fn of_manifest(file: &[u8]) -> Option<ImageId> {
        ImageId::of_file(file, MANIFEST_ENDING)
    }

    fn of_file(file: &[u8], ending: &str) -> Option<ImageId> {
        let text = std::str::from_utf8(file).ok()?.strip_suffix(ending)?;
        let Reference { name, version } = Reference::parse(text).ok()?;
        let id = ImageId {
            name,
            version: version.unwrap_or(Version::none()),
        };
        // `NAME:_` is another spelling of `NAME`, which no file has.
        (id.text() == text).then_some(id)
    }

    pub fn reference(&self) -> Reference {
        Reference {
            name: self.name.clone(),
            version: Some(self.version.clone()),
        }
    }

    /// `NAME` or `NAME:VERSION`.
    pub fn text(&self) -> String {
        match self.version == Version::none() {
            true => self.name.to_string(),
            false => format!("{}:{}", self.name, self.version),
        }
    }

    pub(super) fn image_file(&self) -> String {
        self.text() + IMAGE_ENDING
    }

    pub(super) fn sum_file(&self) -> String {
        self.text() + ".sha256"
    }

    pub(super) fn sum_signature(&self) -> String {
        self.text() + ".sha256.sig"
    }

    pub(super) fn manifest(&self) -> String {
        format!("{MANIFESTS}/{}{MANIFEST_ENDING}", self.text())
    }

    pub(super) fn manifest_signature(&self) -> String {
        self.manifest() + ".sig"
    }
}

/// A name that nobody else uses for what will be called `path`, hidden beside it.
pub(super) fn part_of(path: &str) -> io::Result<String> {
    let mut random = [0; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    let digits = format!("{:016x}", u64::from_ne_bytes(random));
    Ok(match path.rsplit_once('/') {
        Some((folder, name)) => format!("{folder}/.{name}.{digits}{PART_ENDING}"),
        None => format!(".{path}.{digits}{PART_ENDING}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_image_it_holds() {
        let text = |file: &str| ImageId::of_image_file(file.as_bytes()).map(|id| id.text());
        for image in ["web", "calvin=rhel-7.4:1.0.0"] {
            let file = format!("{image}.cockerimage");
            assert_eq!(text(&file).as_deref(), Some(image));
            let id = ImageId::of_image_file(file.as_bytes()).unwrap();
            assert_eq!(id.image_file(), file);
        }
    }

    #[test]
    fn no_other_name_is_an_image() {
        for file in [
            "web",
            "web.sha256",
            ".web.cockerimage.0123456789abcdef.part",
            ".web.cockerimage",
            "../web.cockerimage",
            "a/b.cockerimage",
            "web:1:2.cockerimage",
            "web:.cockerimage",
            "web:_.cockerimage",
            "web\n.cockerimage",
            ".cockerimage",
            "-x.cockerimage",
        ] {
            assert_eq!(ImageId::of_image_file(file.as_bytes()), None, "{file:?}");
        }
        assert_eq!(ImageId::of_image_file(b"\xff.cockerimage"), None);
    }

    #[test]
    fn a_part_is_hidden_beside_what_it_will_be() {
        let part = part_of("a/web.cockerimage").unwrap();
        assert!(part.starts_with("a/.web.cockerimage.") && part.ends_with(".part"));
        assert_ne!(part_of("x").unwrap(), part_of("x").unwrap());
    }
}
