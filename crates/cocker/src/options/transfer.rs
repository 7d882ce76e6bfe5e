//! What `export` and `import` mean: files, formats, sizes.

use super::meaning::reference;
use super::said;
use crate::failure::Failure;
use cocker_engine::{
    Base, Compression, Devices, ExportForm, ExportRequest, Format, IfThere, ImportOptions,
    ImportRequest, OnError, parse_size,
};
use std::path::PathBuf;

pub fn export(said: &said::Export, on_error: OnError) -> Result<ExportRequest, Failure> {
    let image = reference(said.image.reference())?;
    let form = match said.format.as_deref() {
        None => ExportForm::Own,
        Some("oci") => ExportForm::Foreign(Format::Oci),
        Some("docker") => ExportForm::Foreign(Format::Docker),
        Some(other) => {
            return Err(Failure::usage(format!(
                "there is no format `{other}`; there are oci and docker"
            )));
        }
    };
    if form == ExportForm::Foreign(Format::Docker) && said.compress.is_some() {
        return Err(Failure::usage(
            "`--compress` means nothing with `--format docker`, whose layers are not compressed",
        ));
    }
    Ok(ExportRequest {
        file: said.image_file.as_ref().map(PathBuf::from),
        image,
        if_there: match on_error {
            OnError::GoOn => IfThere::Replace,
            OnError::Stop => IfThere::Refuse,
        },
        form,
        compression: said
            .compress
            .as_deref()
            .map_or(Ok(Compression::Gzip), compression)?,
    })
}

pub fn import(said: said::Import) -> Result<ImportRequest, Failure> {
    let file = said.first_word.or(said.image_file);
    Ok(ImportRequest {
        file: PathBuf::from(file.expect("either spelling refuses a command without it")),
        image: said.image.as_deref().map(reference).transpose()?,
        reference: said.reference,
        options: import_options(&said.unpacking)?,
    })
}

pub(super) fn import_options(said: &said::Unpacking) -> Result<ImportOptions, Failure> {
    let max_size = said.max_size.as_deref().map(|text| {
        parse_size(text).ok_or_else(|| {
            Failure::usage(format!(
                "`--max-size {text}` is not a size: bytes, or a number and K, M, G or T"
            ))
        })
    });
    Ok(ImportOptions {
        max_size: max_size.transpose()?,
        devices: match said.allow_devices {
            true => Devices::Allowed,
            false => Devices::Refused,
        },
        base: match said.no_base {
            true => Base::LeftOut,
            false => Base::Needed,
        },
    })
}

pub(super) fn compression(text: &str) -> Result<Compression, Failure> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "none" => Ok(Compression::None),
        other => Err(Failure::usage(format!(
            "cannot compress by `{other}`; there are gzip, zstd and none"
        ))),
    }
}
