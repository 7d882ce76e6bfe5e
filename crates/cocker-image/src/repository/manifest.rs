//! `.cocker/images/NAME[:VERSION].json`: the layers of an image that lies in a repository as layers.

use super::{ImageId, RepositoryError};
use crate::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The newest format that this cocker reads, and the one it writes.
const FORMAT: u32 = 1;
/// No image of that many layers can be booted.
const MOST_LAYERS: usize = 500;
/// No manifest comes near this size, in bytes.
pub(super) const LARGEST: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub format: u32,
    /// `NAME[:VERSION]`: a manifest under another name is no manifest.
    pub image: String,
    /// Lowest first; the last one is the image's own.
    pub layers: Vec<ManifestLayer>,
    /// What a foreign image said of how its program is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ManifestLayer {
    /// Of the tar.
    pub digest: Digest,
    /// Bytes of the file that holds it.
    pub size: u64,
}

impl Manifest {
    pub fn new(id: &ImageId, layers: Vec<ManifestLayer>, config: Option<Value>) -> Manifest {
        Manifest {
            format: FORMAT,
            image: id.text(),
            layers,
            config,
        }
    }

    /// Bytes of all its files.
    pub fn size(&self) -> u64 {
        let sizes = self.layers.iter().map(|layer| layer.size);
        sizes.fold(0, u64::saturating_add)
    }

    pub fn to_json(&self) -> Vec<u8> {
        let mut text =
            serde_json::to_vec_pretty(self).expect("texts and numbers always have a JSON form");
        text.push(b'\n');
        text
    }

    /// Reads the manifest of `id` that was found at `path`.
    pub fn parse(id: &ImageId, path: &str, text: &[u8]) -> Result<Manifest, RepositoryError> {
        #[derive(Deserialize)]
        struct Shape {
            format: u32,
        }
        let bad = |why: String| RepositoryError::BadDocument {
            path: path.into(),
            why,
        };
        let shape: Shape = serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if shape.format > FORMAT {
            return Err(bad(format!(
                "it has format {}, and this cocker knows formats up to {FORMAT}",
                shape.format
            )));
        }
        let manifest: Manifest =
            serde_json::from_slice(text).map_err(|error| bad(error.to_string()))?;
        if manifest.image != id.text() {
            return Err(bad(format!(
                "it is that of `{}`",
                crate::quote::quote(&manifest.image)
            )));
        }
        match manifest.layers.len() {
            0 => Err(bad("it names no layer".into())),
            1..=MOST_LAYERS => Ok(manifest),
            _ => Err(bad(format!("it names more than {MOST_LAYERS} layers"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ImageId {
        ImageId::of_image_file(format!("{text}.cockerimage").as_bytes()).unwrap()
    }

    fn manifest() -> Manifest {
        let layer = |text: &[u8]| ManifestLayer {
            digest: Digest::of(text),
            size: 5,
        };
        Manifest::new(&id("web:1"), vec![layer(b"a"), layer(b"b")], None)
    }

    #[test]
    fn a_manifest_reads_back_as_it_was_written() {
        let text = manifest().to_json();
        assert_eq!(
            Manifest::parse(&id("web:1"), "x", &text).unwrap(),
            manifest()
        );
        assert_eq!(manifest().size(), 10);
    }

    #[test]
    fn what_is_no_manifest_of_the_image_is_refused() {
        let with = |change: fn(&mut Value)| {
            let mut value = serde_json::to_value(manifest()).unwrap();
            change(&mut value);
            Manifest::parse(&id("web:1"), "x", value.to_string().as_bytes())
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|it| it["format"] = 2.into()).is_err());
        assert!(with(|it| it["image"] = "web:2".into()).is_err());
        assert!(with(|it| it["layers"] = Vec::<Value>::new().into()).is_err());
        assert!(with(|it| it["layers"] = vec![it["layers"][0].clone(); 501].into()).is_err());
        assert!(with(|it| it["layers"][0]["digest"] = "sha256:../../x".into()).is_err());
        assert!(Manifest::parse(&id("web:1"), "x", b"\xff{").is_err());
        let mut huge = manifest();
        huge.layers
            .iter_mut()
            .for_each(|layer| layer.size = u64::MAX);
        assert_eq!(huge.size(), u64::MAX);
    }
}
