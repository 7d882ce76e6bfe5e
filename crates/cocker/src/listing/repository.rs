//! The images of a repository.

use super::{Column, json, size, table};
use crate::local_time::Clock;
use crate::options::ListingForm;
use cocker_engine::{Form, RemoteImage};
use serde::Serialize;

const COLUMNS: [Column; 4] = [
    ("image_id", 30),
    ("modify_datetime", 19),
    ("size", 10),
    ("newest", 6),
];
const DASHES: usize = 68;

pub fn images(images: &[RemoteImage], form: ListingForm) -> String {
    match form {
        ListingForm::Table => image_table(images, &Clock::local()),
        ListingForm::Names => images.iter().fold(String::new(), |names, image| {
            names + &image.id.text() + "\n"
        }),
        ListingForm::Json => {
            let clock = Clock::local();
            let entries = images.iter().map(|image| Entry::of(image, &clock));
            json(entries.collect::<Vec<_>>())
        }
    }
}

fn image_table(images: &[RemoteImage], clock: &Clock) -> String {
    let row = |image: &RemoteImage| {
        [
            image.id.text(),
            image.modified.map_or("-".into(), |time| clock.show(time)),
            image.size.map_or("-".into(), size),
            if image.is_newest { "*" } else { "" }.into(),
        ]
    };
    table(&COLUMNS, DASHES, 0, images.iter().map(row).collect())
}

/// The names of the fields are an interface: they stay.
#[derive(Serialize)]
struct Entry<'a> {
    image_id: &'a str,
    version: &'a str,
    /// Null where the server does not say.
    modify_datetime: Option<String>,
    /// Bytes of its files there; null where that is not known.
    size: Option<u64>,
    /// Whether it is the one that is meant without a version.
    newest: bool,
    /// Whether all its layers lie there one by one, instead of its own in one file.
    layers: bool,
}

impl<'a> Entry<'a> {
    fn of(image: &'a RemoteImage, clock: &Clock) -> Entry<'a> {
        Entry {
            image_id: image.id.name.as_str(),
            version: image.id.version.as_str(),
            modify_datetime: image.modified.map(|time| clock.show_with_offset(time)),
            size: image.size,
            newest: image.is_newest,
            layers: image.form == Form::Layers,
        }
    }
}
