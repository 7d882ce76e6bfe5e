//! What `ssearch`, `spush`, `spull` and `srm` mean: addresses, keys, forms.

use super::meaning::{misspelt, reference};
use super::said::{self, TheRepository};
use super::transfer::{compression, import_options};
use crate::failure::Failure;
use cocker_engine::{Address, Compression, Form, IfThere, ImportOptions, OnError, Reference};
use std::path::PathBuf;

#[derive(Debug, PartialEq, Eq)]
pub struct Searching {
    /// None: the one that was said last.
    pub address: Option<Address>,
    /// What `NAME[:VERSION]` contains.
    pub part: String,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Pushing {
    pub address: Option<Address>,
    pub image: Reference,
    pub form: Form,
    pub compression: Compression,
    pub if_there: IfThere,
    /// The file of a key.
    pub sign: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Pulling {
    pub address: Option<Address>,
    pub image: Reference,
    pub options: ImportOptions,
    /// The file that says whose signatures are believed.
    pub verify: Option<PathBuf>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Removing {
    pub address: Option<Address>,
    pub image: Reference,
}

pub fn search(said: &said::Ssearch) -> Result<Searching, Failure> {
    Ok(Searching {
        address: address(&said.repository)?,
        part: said.pattern.clone().unwrap_or_default(),
    })
}

pub fn push(said: &said::Spush, on_error: OnError) -> Result<Pushing, Failure> {
    let (form, usual) = match said.layers {
        true => (Form::Layers, Compression::Zstd),
        false => (Form::File, Compression::Gzip),
    };
    Ok(Pushing {
        address: address(&said.repository)?,
        image: reference(said.image.reference())?,
        form,
        compression: said.compress.as_deref().map_or(Ok(usual), compression)?,
        if_there: match on_error {
            OnError::GoOn => IfThere::Replace,
            OnError::Stop => IfThere::Refuse,
        },
        sign: said.sign.as_ref().map(PathBuf::from),
    })
}

pub fn pull(said: said::Spull) -> Result<Pulling, Failure> {
    Ok(Pulling {
        address: address(&said.repository)?,
        image: reference(said.image.reference())?,
        options: import_options(&said.unpacking)?,
        verify: said.verify.map(PathBuf::from),
    })
}

pub fn remove(said: &said::Srm) -> Result<Removing, Failure> {
    Ok(Removing {
        address: address(&said.repository)?,
        image: reference(said.image.reference())?,
    })
}

fn address(said: &TheRepository) -> Result<Option<Address>, Failure> {
    let address = said.srepo.as_deref().map(Address::parse).transpose();
    address.map_err(|error| misspelt(&error))
}
