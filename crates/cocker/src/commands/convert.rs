//! `to-image` and `to-container`: what a container has of its own becomes an image's, and back.

use crate::failure::Failure;
use crate::output;
use cocker_engine::{Engine, ToContainerRequest, ToImageRequest};

pub fn to_image(engine: &Engine, request: &ToImageRequest) -> Result<(), Failure> {
    engine.to_image(request)?;
    output::print_ok()
}

pub fn to_container(engine: &Engine, request: &ToContainerRequest) -> Result<(), Failure> {
    engine.to_container(request)?;
    output::print_ok()
}
