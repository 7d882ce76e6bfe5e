//! Images go to an account on a server, and come from there.

use crate::engine::Engine;
use crate::failure::{EngineError, RepositoryFailure};
use crate::request::{PullRequest, PushRequest, RemoveRequest, RepositoryRequest, SearchRequest};
use cocker_image::repository::{
    Address, Ahead, Form, Pulled, PulledImage, Push, RemoteImage, Repository, RepositoryError,
    Verifying, remember, remembered,
};
use cocker_image::transfer::{Imported, Progress};
use cocker_image::{ImageRecord, NewImage, Reference, StoreError};
use std::thread;
use std::time::SystemTime;

impl Engine {
    /// The images of the repository, by name, then version.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<RemoteImage>, EngineError> {
        let found = self.with_repository(&request.repository, |repository| {
            Ok(repository.images(&request.part)?)
        });
        found.map_err(|(address, source)| EngineError::Search { address, source })
    }

    /// Pushes an image into the repository, where it appears when it is whole; says what it is called.
    pub fn push(
        &self,
        request: &mut PushRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Reference, EngineError> {
        let named = request.image.clone();
        let failed = |address, source| EngineError::Push {
            image: named.clone(),
            address,
            source,
        };
        // Nobody is asked for a password where there is nothing to push.
        let image = self.store.resolve(&request.image);
        let image = image.map_err(|source| failed(None, Box::new(source.into())))?;
        let PushRequest {
            repository: at,
            form,
            compression,
            if_there,
            signing,
            ..
        } = request;
        let pushed = thread::scope(|scope| {
            // Connecting takes a while, in which the machine has nothing else to do.
            let ahead = match form {
                Form::File => Some(Ahead::start(scope, &self.store, &image, *compression)),
                Form::Layers => None,
            };
            let ahead = ahead
                .transpose()
                .map_err(|error| (None, Box::new(error.into())))?;
            self.with_repository(at, |repository| {
                let push = Push {
                    image: &image,
                    form: *form,
                    compression: *compression,
                    if_there: *if_there,
                    signing: signing.as_mut(),
                    ahead,
                };
                Ok(repository.push(&self.store, push, progress)?)
            })
        });
        pushed.map_err(|(address, source)| failed(address, source))?;
        Ok(reference(image))
    }

    /// Pulls an image out of the repository; says what it is called.
    pub fn pull(
        &self,
        request: &PullRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PulledAs, EngineError> {
        let pulled = self.with_repository(&request.repository, |repository| {
            self.pull_from(repository, request, progress)
        });
        pulled.map_err(|(address, source)| EngineError::Pull {
            image: request.image.clone(),
            address,
            source,
        })
    }

    /// Removes an image from the repository; says what it was called.
    pub fn remove_from_repository(
        &self,
        request: &RemoveRequest,
    ) -> Result<Reference, EngineError> {
        let removed = self.with_repository(&request.repository, |repository| {
            let image = repository.find(&request.image)?;
            repository.remove(&image)?;
            Ok(image.id.reference())
        });
        removed.map_err(|(address, source)| EngineError::RemoveRemote {
            image: request.image.clone(),
            address,
            source,
        })
    }

    fn pull_from(
        &self,
        repository: &Repository,
        request: &PullRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PulledAs, RepositoryFailure> {
        // Said before anything is received, and asked again after it.
        if let Some(version) = &request.image.version
            && self.store.has_image(&request.image.name, version)?
        {
            return Err(exists(&request.image.name, version).into());
        }
        let found = repository.find(&request.image)?;
        let (name, version) = (&found.id.name, &found.id.version);
        if self.store.has_image(name, version)? {
            return Err(exists(name, version).into());
        }
        let verifying = request.allowed_signers.as_ref().map(|signers| Verifying {
            signers,
            now: SystemTime::now(),
        });
        let mut pulled =
            repository.pull(&self.store, &found, &request.options, verifying, progress)?;
        let signer = pulled.signer.take();
        self.publish_pulled(&found, pulled)?;
        Ok(PulledAs {
            image: found.id.reference(),
            signer,
        })
    }

    fn publish_pulled(&self, found: &RemoteImage, pulled: Pulled) -> Result<(), StoreError> {
        let (name, version) = (&found.id.name, &found.id.version);
        let (image, kept) = pulled.into_parts();
        let published = match image {
            PulledImage::New(Imported {
                base,
                layers,
                config,
            }) => {
                let mut image = NewImage::of_layers(layers, name, version, &base);
                image.config = config;
                self.publish_new(image)
            }
            PulledImage::Known { layers, config } => self.store.lock().and_then(|names| {
                let published = self
                    .store
                    .publish_layers(&names, name, version, layers, config);
                published.map(drop)
            }),
        };
        // Of no use either where the name was taken meanwhile.
        if matches!(published, Ok(()) | Err(StoreError::ImageExists { .. })) {
            kept.end();
        }
        published
    }

    fn publish_new(&self, mut image: NewImage) -> Result<(), StoreError> {
        // The long part comes before the lock.
        image.seal(&self.store)?;
        let names = self.store.lock()?;
        drop(self.store.publish(&names, image, Vec::new())?);
        Ok(())
    }

    /// Does something in the repository that is said, or was said last. One that is said is remembered once that is done.
    fn with_repository<T>(
        &self,
        request: &RepositoryRequest,
        work: impl FnOnce(&Repository) -> Result<T, RepositoryFailure>,
    ) -> Result<T, Failed> {
        let said = request.address.clone();
        let address = match said.clone() {
            Some(address) => Ok(Some(address)),
            None => remembered(&self.store),
        };
        let address = address.and_then(|address| address.ok_or(RepositoryError::NotSaid));
        let address = address.map_err(|error| (None, Box::new(error.into())))?;
        let done = Repository::open(&address, request.prompts)
            .map_err(RepositoryFailure::from)
            .and_then(|repository| work(&repository))
            .inspect(|_| {
                // What is done is done, whether or not the address need be said again.
                if said.is_some()
                    && let Err(error) = remember(&self.store, &address)
                {
                    tracing::warn!("the repository is not remembered: {error}");
                }
            });
        done.map_err(|error| (Some(Box::new(address)), Box::new(error)))
    }
}

/// Where it failed, once that was known, and why.
type Failed = (Option<Box<Address>>, Box<RepositoryFailure>);

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledAs {
    pub image: Reference,
    /// Who signed it, where that was asked.
    pub signer: Option<String>,
}

fn reference(image: ImageRecord) -> Reference {
    Reference {
        name: image.name,
        version: Some(image.version),
    }
}

fn exists(name: &cocker_image::Name, version: &cocker_image::Version) -> StoreError {
    StoreError::ImageExists {
        name: name.clone(),
        version: version.clone(),
    }
}
