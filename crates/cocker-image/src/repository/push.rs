//! An image of the store becomes an image of the repository.

use super::manifest::{self, Manifest, ManifestLayer};
use super::names::{ImageId, LAYERS, part_of};
use super::sending::{Packing, Sending, Sent};
use super::server::{Lock, is_taken};
use super::stream::Sink;
use super::unfinished::Unfinished;
use super::{Form, Repository, RepositoryError};
use crate::archive::Compression;
use crate::transfer::{ExportError, IfThere, Progress, digest_of, export, export_layer};
use crate::{ImageRecord, LayerId, SigningKey, Store};
use serde::{Deserialize, Serialize};
use std::thread::Scope;

/// What is to be pushed, and how.
pub struct Push<'a> {
    pub image: &'a ImageRecord,
    pub form: Form,
    pub compression: Compression,
    pub if_there: IfThere,
    /// Whose signature is laid beside it.
    pub signing: Option<&'a mut SigningKey>,
    /// The same image, where it is being packed already.
    pub ahead: Option<Ahead<'a>>,
}

/// An image of [`Form::File`] that is packed already while a connection is made. At most 64 MiB wait in memory.
pub struct Ahead<'scope>(Packing<'scope, ()>);

impl<'scope> Ahead<'scope> {
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env Store,
        image: &'env ImageRecord,
        compression: Compression,
    ) -> Result<Ahead<'scope>, RepositoryError> {
        Packing::start(scope, packer(store, image, compression)).map(Ahead)
    }
}

/// What packs the image into one file.
fn packer(
    store: &Store,
    image: &ImageRecord,
    compression: Compression,
) -> impl Fn(Sink, &mut dyn FnMut(u64)) -> Result<(), ExportError> + Sync {
    move |sink, passed| export(store, image, sink, compression, &mut |it| passed(it.passed))
}

impl Repository {
    /// Pushes an image; it appears when all of it is there.
    pub fn push(
        &self,
        store: &Store,
        push: Push<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), RepositoryError> {
        let id = ImageId {
            name: push.image.name.clone(),
            version: push.image.version.clone(),
        };
        let what = format!("push\0{}\0{}", self.address, id.text());
        let unfinished = Unfinished::open(store, &what)?;
        let pushed = self.push_into(store, &id, push, &unfinished, progress);
        match &pushed {
            Err(error) if error.is_to_be_gone_on_with() => {}
            _ => unfinished.end(),
        }
        pushed
    }

    fn push_into(
        &self,
        store: &Store,
        id: &ImageId,
        push: Push<'_>,
        unfinished: &Unfinished,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), RepositoryError> {
        // Said before all the work, and asked again after it.
        match self.refuse_if_there(id, push.if_there) {
            Err(RepositoryError::Exists { image }) => {
                let is_ours = self.is_what_was_named(id, &push, unfinished)?;
                self.take_back(unfinished)?;
                return match is_ours {
                    true => Ok(()),
                    false => Err(RepositoryError::Exists { image }),
                };
            }
            answered => answered?,
        }
        self.forget_staged(unfinished)?;
        self.make_own_folder()?;
        match push.form {
            Form::File => self.push_file(store, id, push, unfinished, progress),
            Form::Layers => self.push_layers(store, id, push, unfinished, progress),
        }
    }

    /// Whether the image that is there came by an earlier try, which lost its connection before it was told.
    fn is_what_was_named(
        &self,
        id: &ImageId,
        push: &Push<'_>,
        unfinished: &Unfinished,
    ) -> Result<bool, RepositoryError> {
        let Some(naming) = unfinished.naming::<Naming>() else {
            return Ok(false);
        };
        let (file, text) = match push.form {
            Form::File => (id.image_file(), id.sum_file()),
            Form::Layers => (id.manifest(), id.manifest()),
        };
        Ok(naming.content == content(push)
            && self.is_there(&self.path(&file))?
            && self.read_file(&self.path(&text), manifest::LARGEST)?
                == Some(naming.text.into_bytes()))
    }

    /// Removes all that an earlier try has left there.
    fn take_back(&self, unfinished: &Unfinished) -> Result<(), RepositoryError> {
        self.forget_staged(unfinished)?;
        self.forget_sent(unfinished)
    }

    fn forget_staged(&self, unfinished: &Unfinished) -> Result<(), RepositoryError> {
        if let Some(Naming { parts, .. }) = unfinished.naming() {
            for part in parts {
                self.remove_if_there(&part)?;
            }
            unfinished.forget_naming()?;
        }
        Ok(())
    }

    fn refuse_if_there(&self, id: &ImageId, if_there: IfThere) -> Result<(), RepositoryError> {
        let is_there = || -> Result<bool, RepositoryError> {
            Ok(self.is_there(&self.path(&id.image_file()))?
                || self.is_there(&self.path(&id.manifest()))?)
        };
        match if_there == IfThere::Refuse && is_there()? {
            true => Err(RepositoryError::Exists { image: id.text() }),
            false => Ok(()),
        }
    }

    fn push_file(
        &self,
        store: &Store,
        id: &ImageId,
        mut push: Push<'_>,
        unfinished: &Unfinished,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), RepositoryError> {
        let Push {
            image, compression, ..
        } = push;
        let path = self.path(&id.image_file());
        let sending = Sending {
            path: &path,
            content: &format!("{:?} {:?} {:?}", image.layers, image.config, compression),
        };
        let pack = packer(store, image, compression);
        let ahead = push.ahead.take().map(|Ahead(packing)| packing);
        let whole = image.size;
        let sent = self.send(unfinished, &sending, &pack, ahead, &mut |passed| {
            progress(Progress { passed, whole });
        })?;
        let sum = format!("{}  {}\n", sent.digest.hex(), id.image_file());
        let named = Beside {
            text: sum,
            path: self.path(&id.sum_file()),
            signature: self.path(&id.sum_signature()),
        };
        let published = self.name_file(id, &sent, &path, named, push, unfinished);
        if let Err(error) = &published
            && !error.is_to_be_gone_on_with()
        {
            self.discard(&sent.part);
        }
        published
    }

    /// Gives a file that has arrived its name, and lays its sum beside it.
    fn name_file(
        &self,
        id: &ImageId,
        sent: &Sent<()>,
        path: &str,
        sum: Beside,
        mut push: Push<'_>,
        unfinished: &Unfinished,
    ) -> Result<(), RepositoryError> {
        let staged = self.stage_beside(id, &sum, &mut push, unfinished)?;
        let named = self.lock().and_then(|lock| {
            self.refuse_if_there(id, push.if_there)?;
            match push.if_there {
                IfThere::Refuse => self.name_new_file(id, sent, path, &sum, &staged, &lock),
                IfThere::Replace => self.replace_file(id, sent, path, &sum, &staged, &lock),
            }
        });
        if named.is_err() {
            staged.parts().for_each(|part| self.discard(part));
        }
        named
    }

    /// Where there is none of that name: its sum comes first, so that the image is never there without.
    fn name_new_file(
        &self,
        id: &ImageId,
        sent: &Sent<()>,
        path: &str,
        sum: &Beside,
        staged: &Staged,
        lock: &Lock<'_>,
    ) -> Result<(), RepositoryError> {
        self.remove_if_there(&sum.signature)?;
        self.place_beside(staged, sum)?;
        lock.expect_sure()?;
        let named = self.give_name(id, &sent.part, path, IfThere::Refuse);
        // Somebody who knows no lock was faster: it is not that one's sum.
        if let Err(RepositoryError::Exists { .. }) = &named {
            self.remove_if_there(&sum.signature)?;
            self.remove_if_there(&sum.path)?;
        }
        named
    }

    fn replace_file(
        &self,
        id: &ImageId,
        sent: &Sent<()>,
        path: &str,
        sum: &Beside,
        staged: &Staged,
        lock: &Lock<'_>,
    ) -> Result<(), RepositoryError> {
        // Without a sum for a moment, never with that of another file.
        self.remove_if_there(&sum.signature)?;
        self.remove_if_there(&sum.path)?;
        lock.expect_sure()?;
        self.give_name(id, &sent.part, path, IfThere::Replace)?;
        self.place_beside(staged, sum)?;
        // The same image in its other form.
        self.remove_if_there(&self.path(&id.manifest_signature()))?;
        self.remove_if_there(&self.path(&id.manifest()))
    }

    fn push_layers(
        &self,
        store: &Store,
        id: &ImageId,
        mut push: Push<'_>,
        unfinished: &Unfinished,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), RepositoryError> {
        /// Layers that vanish so often are taken away by somebody.
        const ATTEMPTS: usize = 3;
        self.make_layer_folders()?;
        for _ in 0..ATTEMPTS {
            let layers = self.send_layers(store, &push, unfinished, progress)?;
            let manifest = Manifest::new(id, layers, push.image.config.clone());
            let text = String::from_utf8(manifest.to_json()).expect("JSON is text");
            let named = Beside {
                text,
                path: self.path(&id.manifest()),
                signature: self.path(&id.manifest_signature()),
            };
            if self.name_layers(id, &manifest, named, &mut push, unfinished)? {
                return Ok(());
            }
        }
        Err(RepositoryError::Vanishing {
            path: self.path(&id.manifest()),
        })
    }

    /// Sends the layers that are not there yet; says what all of them are called there.
    fn send_layers(
        &self,
        store: &Store,
        push: &Push<'_>,
        unfinished: &Unfinished,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<ManifestLayer>, RepositoryError> {
        let mut there = Vec::new();
        let mut missing = Vec::new();
        for layer in &push.image.layers {
            let digest = digest_of(store, layer)?;
            let file = self.file(&self.layer_path(digest.hex()))?;
            if file.is_none() {
                missing.push(layer.clone());
            }
            there.push((layer, digest, file.map(|file| file.size)));
        }
        let sizes = missing.iter().map(|layer| Ok(store.layer(layer)?.size));
        let whole = sizes.sum::<Result<u64, RepositoryError>>()?;
        let mut before = 0;
        let mut layers = Vec::new();
        for (layer, digest, size) in there {
            let entry = match size {
                Some(size) => ManifestLayer { digest, size },
                None => {
                    let entry = self.send_layer(
                        store,
                        layer,
                        push.compression,
                        unfinished,
                        &mut |passed| {
                            let passed = before + passed;
                            progress(Progress { passed, whole });
                        },
                    )?;
                    before += store.layer(layer)?.size;
                    entry
                }
            };
            layers.push(entry);
        }
        tracing::debug!(
            sent = missing.len(),
            of = layers.len(),
            "the layers are there"
        );
        Ok(layers)
    }

    fn send_layer(
        &self,
        store: &Store,
        layer: &LayerId,
        compression: Compression,
        unfinished: &Unfinished,
        tell: &mut dyn FnMut(u64),
    ) -> Result<ManifestLayer, RepositoryError> {
        let path = self.layer_path(digest_of(store, layer)?.hex());
        let sending = Sending {
            path: &path,
            content: &format!("{layer} {compression:?}"),
        };
        let pack = |sink, passed: &mut dyn FnMut(u64)| {
            export_layer(store, layer, sink, compression, passed)
        };
        let sent = self.send(unfinished, &sending, &pack, None, tell)?;
        // What it is, and not what was remembered of it.
        let path = self.layer_path(sent.packed.hex());
        match self.session.rename_new(&sent.part, &path) {
            // Somebody else has sent the same.
            Err(error) if is_taken(&error) => {
                self.discard(&sent.part);
                let file = self.file(&path)?;
                let size = file.map_or(sent.size, |file| file.size);
                Ok(ManifestLayer {
                    digest: sent.packed,
                    size,
                })
            }
            Err(error) => {
                self.discard(&sent.part);
                Err(error.into())
            }
            Ok(()) => Ok(ManifestLayer {
                digest: sent.packed,
                size: sent.size,
            }),
        }
    }

    /// Gives an image of layers its name; false where a layer has vanished meanwhile.
    fn name_layers(
        &self,
        id: &ImageId,
        manifest: &Manifest,
        text: Beside,
        push: &mut Push<'_>,
        unfinished: &Unfinished,
    ) -> Result<bool, RepositoryError> {
        let staged = self.stage_beside(id, &text, push, unfinished)?;
        let named = self.lock().and_then(|lock| {
            self.name_layers_locked(id, manifest, &text, &staged, push.if_there, &lock)
        });
        if !matches!(named, Ok(true)) {
            staged.parts().for_each(|part| self.discard(part));
        }
        named
    }

    fn name_layers_locked(
        &self,
        id: &ImageId,
        manifest: &Manifest,
        text: &Beside,
        staged: &Staged,
        if_there: IfThere,
        lock: &Lock<'_>,
    ) -> Result<bool, RepositoryError> {
        self.refuse_if_there(id, if_there)?;
        // Nobody removes layers while we hold the lock. One that went and came again may be compressed in another way.
        for layer in &manifest.layers {
            let file = self.file(&self.layer_path(layer.digest.hex()))?;
            if file.is_none_or(|file| file.size != layer.size) {
                return Ok(false);
            }
        }
        self.remove_if_there(&text.signature)?;
        if let Some(signature) = &staged.signature {
            self.session.replace(signature, &text.signature)?;
        }
        lock.expect_sure()?;
        self.give_name(id, &staged.text, &text.path, if_there)?;
        if if_there == IfThere::Replace {
            // The same image in its other form.
            for path in [id.sum_signature(), id.sum_file(), id.image_file()] {
                self.remove_if_there(&self.path(&path))?;
            }
        }
        Ok(true)
    }

    /// The last step, by which an image appears.
    fn give_name(
        &self,
        id: &ImageId,
        part: &str,
        path: &str,
        if_there: IfThere,
    ) -> Result<(), RepositoryError> {
        let named = match if_there {
            IfThere::Refuse => self.session.rename_new(part, path),
            IfThere::Replace => self.session.replace(part, path),
        };
        match named {
            Err(error) if is_taken(&error) => Err(RepositoryError::Exists { image: id.text() }),
            named => Ok(named?),
        }
    }

    fn layer_path(&self, hex: &str) -> String {
        self.path(&format!("{LAYERS}/{hex}"))
    }

    /// Writes both under names that are kept on this side, so that the next try finds them.
    fn stage_beside(
        &self,
        id: &ImageId,
        beside: &Beside,
        push: &mut Push<'_>,
        unfinished: &Unfinished,
    ) -> Result<Staged, RepositoryError> {
        let content = content(push);
        let signature = push.signing.as_deref_mut().map(|key| {
            let signature = key.sign(beside.text.as_bytes());
            signature.map_err(|source| RepositoryError::Sign {
                image: id.text(),
                source: Box::new(source),
            })
        });
        let signature = signature.transpose()?;
        let part_of = |path| part_of(path).map_err(|source| RepositoryError::Begin { source });
        let staged = Staged {
            text: part_of(&beside.path)?,
            signature: match &signature {
                Some(_) => Some(part_of(&beside.signature)?),
                None => None,
            },
        };
        unfinished.keep_naming(&Naming {
            content,
            text: beside.text.clone(),
            parts: staged.parts().map(String::from).collect(),
        })?;
        let texts = signature.iter().chain([&beside.text]);
        for (part, text) in staged.parts().zip(texts) {
            if let Err(error) = self.write_file(part, text.as_bytes()) {
                staged.parts().for_each(|part| self.discard(part));
                return Err(error);
            }
        }
        Ok(staged)
    }

    fn place_beside(&self, staged: &Staged, beside: &Beside) -> Result<(), RepositoryError> {
        if let Some(signature) = &staged.signature {
            self.session.replace(signature, &beside.signature)?;
        }
        Ok(self.session.replace(&staged.text, &beside.path)?)
    }
}

/// Which image it is and how it is pushed: where it says the same, the same is to be there.
fn content(push: &Push<'_>) -> String {
    let Push {
        image,
        form,
        compression,
        signing,
        ..
    } = push;
    let (layers, config, is_signed) = (&image.layers, &image.config, signing.is_some());
    format!("{layers:?} {config:?} {form:?} {compression:?} {is_signed}")
}

/// What is kept on this side of the last steps.
#[derive(Serialize, Deserialize)]
struct Naming {
    /// Of the whole image.
    content: String,
    /// The sum or the manifest.
    text: String,
    /// What is staged, as it is called there.
    parts: Vec<String>,
}

/// A short text that is signed, and where both will lie.
struct Beside {
    text: String,
    path: String,
    signature: String,
}

/// What both are called until then.
struct Staged {
    text: String,
    signature: Option<String>,
}

impl Staged {
    fn parts(&self) -> impl Iterator<Item = &str> {
        self.signature
            .iter()
            .chain([&self.text])
            .map(String::as_str)
    }
}
