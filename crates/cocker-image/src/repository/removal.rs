//! An image leaves a repository, with those of its layers that no other image there has.

use super::manifest::Manifest;
use super::names::{LAYERS, MANIFESTS};
use super::server::{Lock, is_missing};
use super::{Form, ImageId, RemoteImage, Repository, RepositoryError};
use cocker_sftp::SftpErrorKind;
use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

/// More files of a folder are not looked through.
const MOST: usize = 250_000;
/// A folder is not read for longer.
const LONGEST: Duration = Duration::from_secs(60);

impl Repository {
    /// Removes an image that was found here.
    pub fn remove(&self, image: &RemoteImage) -> Result<(), RepositoryError> {
        let id = &image.id;
        let lock = self.lock_where_there_is_room()?;
        match image.form {
            Form::File => {
                self.take_name(id, &id.image_file())?;
                self.remove_if_there(&self.path(&id.sum_signature()))?;
                self.remove_if_there(&self.path(&id.sum_file()))?;
            }
            Form::Layers => {
                self.take_name(id, &id.manifest())?;
                self.remove_if_there(&self.path(&id.manifest_signature()))?;
                // There is room now for the lock, without which no layer may go.
                let lock = lock.map_or_else(|| self.lock(), Ok)?;
                self.remove_unused_layers(&lock)?;
            }
        }
        Ok(())
    }

    /// The lock on names; `None` where the disk has no room even for that: removing is what makes room.
    fn lock_where_there_is_room(&self) -> Result<Option<Lock<'_>>, RepositoryError> {
        match self.lock() {
            Err(RepositoryError::Remote(error))
                if matches!(
                    error.kind,
                    SftpErrorKind::NoRoom | SftpErrorKind::Failure(_)
                ) =>
            {
                tracing::debug!(%error, "removes without the lock");
                Ok(None)
            }
            locked => locked.map(Some),
        }
    }

    fn take_name(&self, id: &ImageId, file: &str) -> Result<(), RepositoryError> {
        match self.session.remove_file(&self.path(file)) {
            Err(error) if is_missing(&error) => Err(RepositoryError::NoImage {
                image: id.reference(),
            }),
            removed => Ok(removed?),
        }
    }

    /// Removes the layers that no manifest names, while the lock on names is sure, under which manifests come and go. The
    /// next removal goes on.
    ///
    /// Where one manifest cannot be understood, it may name any layer: then all stay.
    fn remove_unused_layers(&self, lock: &Lock<'_>) -> Result<(), RepositoryError> {
        let mut used = HashSet::new();
        for id in self.names_in(MANIFESTS, ImageId::of_manifest)? {
            if !lock.is_sure() {
                tracing::warn!("there are too many images to see which layers are not needed");
                return Ok(());
            }
            let path = self.path(&id.manifest());
            match self.manifest(&id) {
                Ok(Some(Manifest { layers, .. })) => {
                    used.extend(
                        layers
                            .into_iter()
                            .map(|layer| layer.digest.hex().to_string()),
                    );
                }
                Ok(None) => {}
                Err(error) if error.is_interruption() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, path, "it may name any layer: all layers stay");
                    return Ok(());
                }
            }
        }
        for hex in self.names_in(LAYERS, layer_called)? {
            if used.contains(&hex) {
                continue;
            }
            // Somebody may publish an image that stands on it.
            if !lock.is_sure() {
                tracing::warn!("not all layers that are not needed are removed yet");
                break;
            }
            self.remove_if_there(&self.path(&format!("{LAYERS}/{hex}")))?;
        }
        Ok(())
    }

    /// What `known` makes of the names in a folder; of others nothing is kept.
    fn names_in<T>(
        &self,
        folder: &str,
        known: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, RepositoryError> {
        let path = self.path(folder);
        let began = Instant::now();
        let mut seen = 0;
        let mut names = Vec::new();
        let read = self.session.read_folder(&path, &mut |entry| {
            seen += 1;
            names.extend(known(&entry.name));
            match seen > MOST || began.elapsed() > LONGEST {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match read {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            read => read?,
        }
        if seen > MOST {
            return Err(RepositoryError::TooMany { most: MOST });
        }
        if began.elapsed() > LONGEST {
            return Err(RepositoryError::SlowFolder {
                folder: path,
                seconds: LONGEST.as_secs(),
            });
        }
        Ok(names)
    }
}

/// The name of a file that is called as a layer is.
fn layer_called(file: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(file).ok()?;
    is_digest(name).then(|| name.into())
}

/// Whether a file is called as a layer is.
fn is_digest(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;

    #[test]
    fn only_what_is_called_as_a_layer_is_one() {
        let digest = Digest::of(b"x");
        assert!(is_digest(digest.hex()));
        for name in ["", "..", &digest.hex()[1..], &digest.hex().to_uppercase()] {
            assert!(!is_digest(name), "{name}");
        }
        assert!(!is_digest(&format!(
            ".{}.0123456789abcdef.part",
            digest.hex()
        )));
    }
}
