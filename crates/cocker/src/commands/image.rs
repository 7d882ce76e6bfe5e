//! `set-version`, `copy-image` and `rm-image`: what changes the names of images, and no file.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, Name, OnError, Reference, Version};

pub fn set_version(engine: &Engine, image: &Reference, version: &Version) -> Result<(), Failure> {
    engine.set_version(image, version)?;
    output::print_ok()
}

pub fn copy(
    engine: &Engine,
    image: &Reference,
    name: &Name,
    version: &Version,
) -> Result<(), Failure> {
    engine.copy_image(image, name, version)?;
    output::print_ok()
}

pub fn remove(engine: &Engine, image: &Reference, on_error: OnError) -> Result<(), Failure> {
    engine.remove_image(image, on_error)?;
    output::print_ok()
}
