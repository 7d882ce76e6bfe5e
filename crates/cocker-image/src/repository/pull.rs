//! An image of the repository becomes staged layers of the store.

use super::fetching::{Fetched, Fetching};
use super::listing::RemoteImage;
use super::manifest::{self, Manifest, ManifestLayer};
use super::names::LAYERS;
use super::unfinished::Unfinished;
use super::{Form, ImageId, Repository, RepositoryError};
use crate::transfer::{
    Base, ImportOptions, Imported, Progress, layers_by_digest, unpack_image, unpack_layer,
};
use crate::{AllowedSigners, Digest, LayerId, LayerOrigin, SignatureError, StagedLayer, Store};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// More than the text of a sum or of a signature has, in bytes.
const LONGEST_TEXT: u64 = 64 << 10;

/// Whose signatures are believed, and when that is asked.
#[derive(Clone, Copy)]
pub struct Verifying<'a> {
    pub signers: &'a AllowedSigners,
    pub now: SystemTime,
}

/// An image that came: not visible yet, and gone unless it is published.
pub struct Pulled {
    pub image: PulledImage,
    /// Who signed it, where that was asked.
    pub signer: Option<String>,
    unfinished: Unfinished,
}

pub enum PulledImage {
    /// With new layers.
    New(Imported),
    /// All its layers are in the store, lowest first.
    Known {
        layers: Vec<LayerId>,
        config: Option<serde_json::Value>,
    },
}

/// What was kept in case of an interruption.
pub struct Kept(Unfinished);

impl Pulled {
    pub fn into_parts(self) -> (PulledImage, Kept) {
        (self.image, Kept(self.unfinished))
    }
}

impl Kept {
    /// The image is published: nothing needs to be kept any more.
    pub fn end(self) {
        self.0.end();
    }
}

/// What is kept on this side: what came so far belongs to these files.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    image: String,
    /// The text of its sum or its manifest, where there is one.
    text: Option<String>,
    size: u64,
    modified: Option<u32>,
}

impl Repository {
    /// Receives an image and unpacks it. Nothing of it is visible, and what it says of itself was compared, once this returns.
    pub fn pull(
        &self,
        store: &Store,
        image: &RemoteImage,
        options: &ImportOptions,
        verifying: Option<Verifying<'_>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, RepositoryError> {
        let what = format!("pull\0{}\0{}", self.address, image.id.text());
        let unfinished = Unfinished::open(store, &what)?;
        let pulled = match image.form {
            Form::File => {
                self.pull_file(store, &image.id, &unfinished, options, verifying, progress)
            }
            Form::Layers => {
                self.pull_layers(store, &image.id, &unfinished, options, verifying, progress)
            }
        };
        match pulled {
            Ok((image, signer)) => Ok(Pulled {
                image,
                signer,
                unfinished,
            }),
            Err(error) => {
                // What came and was not believed is not worth keeping.
                if !error.is_interruption() {
                    unfinished.end();
                }
                Err(error)
            }
        }
    }

    fn pull_file(
        &self,
        store: &Store,
        id: &ImageId,
        unfinished: &Unfinished,
        options: &ImportOptions,
        verifying: Option<Verifying<'_>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(PulledImage, Option<String>), RepositoryError> {
        let sum_path = self.path(&id.sum_file());
        let sum = self.read_file(&sum_path, LONGEST_TEXT)?;
        let signer = self.verify(
            id,
            sum.as_deref(),
            &self.path(&id.sum_signature()),
            verifying,
        )?;
        let said = match &sum {
            Some(text) => Some(parse_sum(id, &sum_path, text)?),
            None => None,
        };
        let path = self.path(&id.image_file());
        let Some(file) = self.file(&path)? else {
            return Err(no_image(id));
        };
        self.begin(unfinished, id, sum, file.size, file.modified)?;
        let fetching = Fetching {
            path: &path,
            name: "image",
            file,
        };
        let origin = LayerOrigin::Archive(id.image_file());
        let unpack = |fed| unpack_image(store, fed, origin.clone(), options, &mut || ());
        let Fetched { digest, unpacked } = self.fetch(unfinished, &fetching, &unpack, progress)?;
        match said {
            Some(said) if said != digest => Err(RepositoryError::Digest {
                path,
                said,
                found: digest,
            }),
            _ => Ok((PulledImage::New(unpacked), signer)),
        }
    }

    fn pull_layers(
        &self,
        store: &Store,
        id: &ImageId,
        unfinished: &Unfinished,
        options: &ImportOptions,
        verifying: Option<Verifying<'_>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(PulledImage, Option<String>), RepositoryError> {
        let path = self.path(&id.manifest());
        let Some(text) = self.read_file(&path, manifest::LARGEST)? else {
            return Err(no_image(id));
        };
        let signature = self.path(&id.manifest_signature());
        let signer = self.verify(id, Some(&text), &signature, verifying)?;
        let Manifest {
            mut layers, config, ..
        } = Manifest::parse(id, &path, &text)?;
        self.begin(unfinished, id, Some(text), 0, None)?;

        if options.base == Base::LeftOut {
            layers.drain(..layers.len() - 1);
        }
        // What is here already is not asked for, from the lowest on.
        let known = layers_by_digest(store)?;
        let base = layers
            .iter()
            .map_while(|layer| known.get(&layer.digest).cloned());
        let base: Vec<LayerId> = base.collect();
        let missing = &layers[base.len()..];
        if missing.is_empty() {
            let image = PulledImage::Known {
                layers: base,
                config,
            };
            return Ok((image, signer));
        }
        let whole = missing
            .iter()
            .map(|layer| layer.size)
            .fold(0, u64::saturating_add);
        let mut before = 0u64;
        let mut staged = Vec::new();
        let mut options = *options;
        for layer in missing {
            let mut came = self.pull_layer(store, id, layer, unfinished, &options, &mut |it| {
                let passed = before.saturating_add(it.passed);
                progress(Progress { passed, whole });
            })?;
            before = before.saturating_add(layer.size);
            // What was allowed is for all of them together.
            let size = came.measure()?;
            options.max_size = options.max_size.map(|most| most.saturating_sub(size));
            staged.push(came);
        }
        let image = PulledImage::New(Imported {
            base,
            layers: staged,
            config,
        });
        Ok((image, signer))
    }

    fn pull_layer(
        &self,
        store: &Store,
        id: &ImageId,
        layer: &ManifestLayer,
        unfinished: &Unfinished,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<StagedLayer, RepositoryError> {
        let hex = layer.digest.hex();
        let path = self.path(&format!("{LAYERS}/{hex}"));
        let bad = |why: String| RepositoryError::BadDocument {
            path: path.clone(),
            why,
        };
        let Some(file) = self.file(&path)? else {
            return Err(bad("a layer that it names is not there".into()));
        };
        if file.size != layer.size {
            return Err(bad(format!(
                "it has {} bytes, and the image says {}",
                file.size, layer.size
            )));
        }
        let fetching = Fetching {
            path: &path,
            name: hex,
            file,
        };
        let origin = LayerOrigin::Archive(id.text());
        let unpack = |fed| unpack_layer(store, fed, origin.clone(), options, &mut || ());
        let fetched = self.fetch(unfinished, &fetching, &unpack, progress)?;
        let (mut staged, unpacked) = fetched.unpacked;
        if unpacked.digest != layer.digest {
            return Err(RepositoryError::Digest {
                path,
                said: layer.digest.clone(),
                found: unpacked.digest,
            });
        }
        staged.digest = Some(unpacked.digest);
        Ok(staged)
    }

    /// Says who signed `text`, where that is asked.
    fn verify(
        &self,
        id: &ImageId,
        text: Option<&[u8]>,
        signature_path: &str,
        verifying: Option<Verifying<'_>>,
    ) -> Result<Option<String>, RepositoryError> {
        let Some(Verifying { signers, now }) = verifying else {
            return Ok(None);
        };
        let signature = self.read_file(signature_path, LONGEST_TEXT)?;
        let (Some(text), Some(signature)) = (text, signature) else {
            return Err(RepositoryError::Unsigned {
                image: id.text(),
                path: signature_path.into(),
            });
        };
        let failed = |source: SignatureError| RepositoryError::Signature {
            image: id.text(),
            source: Box::new(source),
        };
        let signature = String::from_utf8_lossy(&signature);
        signers
            .verify(text, &signature, now)
            .map(Some)
            .map_err(failed)
    }

    /// Forgets what was kept of other files than these.
    fn begin(
        &self,
        unfinished: &Unfinished,
        id: &ImageId,
        text: Option<Vec<u8>>,
        size: u64,
        modified: Option<u32>,
    ) -> Result<(), RepositoryError> {
        let record = Record {
            image: id.text(),
            text: text.map(|text| String::from_utf8_lossy(&text).into_owned()),
            size,
            modified,
        };
        if unfinished.record::<Record>().as_ref() == Some(&record) {
            return Ok(());
        }
        unfinished.forget_data()?;
        unfinished.begin(&record)
    }
}

/// `<64 hexadecimal digits>  NAME[:VERSION].cockerimage`, as sha256sum(1) writes it.
fn parse_sum(id: &ImageId, path: &str, text: &[u8]) -> Result<Digest, RepositoryError> {
    let bad = |why: &str| RepositoryError::BadDocument {
        path: path.into(),
        why: why.into(),
    };
    let text = std::str::from_utf8(text).map_err(|_| bad("it is no text"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let (digits, file) = line
        .split_once("  ")
        .or_else(|| line.split_once(" *"))
        .ok_or_else(|| bad("it is no line of sha256sum"))?;
    if file != id.image_file() {
        return Err(bad("it is that of another file"));
    }
    Digest::parse(&format!("sha256:{digits}")).map_err(|_| bad("it has no SHA-256"))
}

fn no_image(id: &ImageId) -> RepositoryError {
    RepositoryError::NoImage {
        image: id.reference(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_this_very_image() {
        let id = ImageId::of_image_file(b"web:1.cockerimage").unwrap();
        let digest = Digest::of(b"content");
        let parse = |text: String| parse_sum(&id, "web:1.sha256", text.as_bytes());
        let hex = digest.hex();
        for text in [
            format!("{hex}  web:1.cockerimage\n"),
            format!("{hex} *web:1.cockerimage"),
        ] {
            assert_eq!(parse(text).unwrap(), digest);
        }
        for text in [
            String::new(),
            format!("{hex}\n"),
            format!("{hex}  web:2.cockerimage\n"),
            format!("{hex}  web:1.cockerimage\n{hex}  web:2.cockerimage\n"),
            format!("{}  web:1.cockerimage\n", hex.to_uppercase()),
            format!("{}  web:1.cockerimage\n", &hex[1..]),
        ] {
            assert!(parse(text.clone()).is_err(), "{text:?}");
        }
    }
}
