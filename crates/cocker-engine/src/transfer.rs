//! Images become files and files images.

use crate::engine::Engine;
use crate::failure::{EngineError, TransferError};
use crate::request::{ExportForm, ExportRequest, ImportRequest};
use cocker_image::oci::{Format, foreign_name};
use cocker_image::transfer::{self, Imported, OutputFile, Progress, Source};
use cocker_image::{ImageRecord, NewImage, Reference, StoreError, Version};
use std::path::PathBuf;

/// An image that was written into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    pub image: Reference,
    pub file: PathBuf,
    /// What others will call the image, where they do not allow its own name.
    pub renamed: Option<String>,
}

impl Engine {
    /// Writes an image into a file, which appears when it is whole.
    pub fn export(
        &self,
        request: &ExportRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Exported, EngineError> {
        self.export_image(request, progress)
            .map_err(|source| EngineError::Export {
                image: request.image.clone(),
                source: Box::new(source),
            })
    }

    fn export_image(
        &self,
        request: &ExportRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Exported, TransferError> {
        let image = self.store.resolve(&request.image)?;
        let path = match &request.file {
            Some(path) => path.clone(),
            None => file_name(&image, request.form),
        };
        let output = OutputFile::begin(&path, request.if_there)?;
        let (store, file) = (&self.store, output.file()?);
        let compression = request.compression;
        match request.form {
            ExportForm::Own => {
                transfer::export(store, &image, file, compression, progress)?;
            }
            ExportForm::Foreign(format) => {
                transfer::export_foreign(store, &image, file, format, compression, progress)?;
            }
        }
        output.publish()?;
        Ok(Exported {
            file: path,
            renamed: renamed(&image, request.form),
            image: Reference {
                name: image.name,
                version: Some(image.version),
            },
        })
    }

    /// Makes an image of a file; returns what it is called.
    pub fn import(
        &self,
        request: &ImportRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Reference, EngineError> {
        self.import_file(request, progress)
            .map_err(|source| EngineError::Import {
                file: request.file.clone(),
                source: Box::new(source),
            })
    }

    fn import_file(
        &self,
        request: &ImportRequest,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Reference, TransferError> {
        let options = &request.options;
        let tag = request.reference.as_deref();
        let source = Source::open(&self.store, &request.file, tag, options)?;
        let called = request.image.clone().or_else(|| source.suggested_name());
        let Reference { name, version } = called.ok_or(TransferError::NoName)?;
        let version = version.unwrap_or(Version::none());
        // Said before all the work, and asked again after it.
        if self.store.has_image(&name, &version)? {
            return Err(StoreError::ImageExists { name, version }.into());
        }
        let Imported {
            base,
            layers,
            config,
        } = source.unpack(&self.store, options, progress)?;
        let mut image = NewImage::of_layers(layers, &name, &version, &base);
        image.config = config;
        // The long part comes before the lock.
        image.seal(&self.store)?;
        let names = self.store.lock()?;
        drop(self.store.publish(&names, image, Vec::new())?);
        Ok(Reference {
            name,
            version: Some(version),
        })
    }
}

/// What others will call the image, where that is not what it is called here.
fn renamed(image: &ImageRecord, form: ExportForm) -> Option<String> {
    if form == ExportForm::Own {
        return None;
    }
    let foreign = foreign_name(&image.name, &image.version);
    (!foreign.is_exact).then_some(foreign.reference)
}

/// `I.cockerimage`, or `I:V.cockerimage` where the image has a version.
fn file_name(image: &ImageRecord, form: ExportForm) -> PathBuf {
    let ending = match form {
        ExportForm::Own => "cockerimage",
        ExportForm::Foreign(Format::Oci) => "oci.tar",
        ExportForm::Foreign(Format::Docker) => "docker.tar",
    };
    PathBuf::from(match image.version == Version::none() {
        true => format!("{}.{ending}", image.name),
        false => format!("{}:{}.{ending}", image.name, image.version),
    })
}
