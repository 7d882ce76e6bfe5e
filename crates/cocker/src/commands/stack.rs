//! `history`, `diff` and `whence`: looks at stacks of layers.

use crate::failure::Failure;
use crate::listing::stack::{self, Changes};
use crate::options::{Compared, ListingForm};
use crate::output;
use cocker_engine::{Change, Engine, Reference, StackRequest, ViewPath};
use std::ops::ControlFlow;

/// A list of changes is printed whenever so much of it is there, in bytes: it may be longer than memory is large.
const PIECE: usize = 1024 * 1024;

pub fn history(engine: &Engine, image: &Reference, form: ListingForm) -> Result<(), Failure> {
    output::print(stack::history(&engine.history(image)?, form))
}

pub fn diff(engine: &Engine, compared: &Compared, form: ListingForm) -> Result<(), Failure> {
    let mut changes = Changes::new(form);
    let mut printed = Ok(());
    let found = |change: Change| {
        changes.add(&change);
        if changes.text().len() >= PIECE {
            printed = output::print(changes.take_text());
        }
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    match compared {
        Compared::Container(container) => engine.diff_container(container, found)?,
        Compared::Images(from, to) => engine.diff_images(from, to, found)?,
    }
    printed?;
    output::print(changes.finish())
}

pub fn whence(
    engine: &Engine,
    request: &StackRequest,
    path: &ViewPath,
    form: ListingForm,
) -> Result<(), Failure> {
    output::print(stack::traces(&engine.whence(request, path)?, form))
}
