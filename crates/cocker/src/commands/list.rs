//! `images` and `containers`.

use crate::failure::Failure;
use crate::listing;
use crate::options::ListingForm;
use crate::output;
use cocker_engine::{ContainerSummary, Counts, Engine, Status};

pub fn images(engine: &Engine, form: ListingForm) -> Result<(), Failure> {
    output::print(listing::images(&engine.images()?, form))
}

pub fn containers(engine: &Engine, form: ListingForm) -> Result<(), Failure> {
    let counts = match form {
        ListingForm::Json => Counts::Taken,
        ListingForm::Table | ListingForm::Names => Counts::Left,
    };
    let containers = engine.containers(counts)?;
    containers.iter().for_each(tell_remedy);
    output::print(listing::containers(&containers, form))
}

/// What a user can do about a broken state has no room in a column; `--debug` tells it.
fn tell_remedy(container: &ContainerSummary) {
    if let Status::Exception { why, remedy } = &container.status {
        tracing::info!("container `{}` is broken ({why}): {remedy}", container.name);
    }
}
