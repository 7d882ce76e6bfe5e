//! All images at once. Thousands are read by several threads, and what is read is kept in a [`Cache`] for the next time.
//!
//! Who decides by the answer what may be removed reads every record: see [`Store::images_and_failures`].

use super::cache::{Cache, Entry, Old, Stamp};
use super::catalogue::Reader;
use super::{ImageRecord, Store, StoreError};
use crate::{Name, Version};
use cocker_sys::shares::{MANY, in_shares};
use std::borrow::Cow;
use std::os::fd::{AsFd, BorrowedFd};

/// So many names that the cache did not know are worth writing it anew.
const WORTH_WRITING: usize = 64;

type Seen = Result<ImageRecord, StoreError>;

/// What was found of some names.
#[derive(Default)]
struct Found<'a> {
    images: Vec<Seen>,
    /// What is to be kept of them for the next time.
    entries: Vec<Cow<'a, str>>,
    /// How many of those the cache did not have.
    new: usize,
}

impl Store {
    /// All images, by name, then version.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        let names = self.image_names()?;
        if names.len() < MANY {
            return self.read_all(&names)?.into_iter().collect();
        }
        let cache = Cache::load(self);
        let old = Old::now();
        let found = in_shares(&names, |names| self.look_up(names, &cache, old))?;
        let new: usize = found.iter().map(|found| found.new).sum();
        if new >= WORTH_WRITING {
            let entries = found.iter().flat_map(|found| &found.entries);
            Cache::write(self, entries.map(|entry| &**entry));
        }
        let images = found.into_iter().flat_map(|found| found.images);
        images.collect()
    }

    /// All images that can be read, by name, then version, and why the others cannot; each record is read now.
    pub fn images_and_failures(&self) -> Result<(Vec<ImageRecord>, Vec<StoreError>), StoreError> {
        let names = self.image_names()?;
        let (mut images, mut failures) = (Vec::new(), Vec::new());
        for image in in_shares(&names, |names| self.read_all(names))?
            .into_iter()
            .flatten()
        {
            match image {
                Ok(image) => images.push(image),
                Err(error) => failures.push(error),
            }
        }
        Ok((images, failures))
    }

    fn read_all(&self, names: &[Name]) -> Result<Vec<Seen>, StoreError> {
        let mut reader = Reader::default();
        let mut images = Vec::with_capacity(names.len());
        for name in names {
            self.each_version(&mut reader, name, |reader, version, folder| {
                let image = self.read_image(reader, name, version, folder);
                images.extend(image.transpose());
            })?;
        }
        Ok(images)
    }

    /// The images of these names, from the cache where they are as they were.
    fn look_up<'a>(
        &self,
        names: &[Name],
        cache: &'a Cache,
        old: Old,
    ) -> Result<Found<'a>, StoreError> {
        let mut reader = Reader::default();
        let mut kept = cache.reading();
        let mut found = Found::default();
        found.images.reserve(names.len());
        for name in names {
            if let Some((images, entry)) = kept.images(self.images.as_fd(), name) {
                found.images.extend(images.into_iter().map(Ok));
                found.entries.push(Cow::Borrowed(entry));
                continue;
            }
            let stamp = Stamp::of(self.images.as_fd(), name.as_str());
            let mut entry = stamp.and_then(|stamp| Entry::begin(name, stamp, old));
            self.each_version(&mut reader, name, |reader, version, folder| {
                let stamp = Stamp::of(folder, &format!("{version}/image.json"));
                let image = self.read_image(reader, name, version, folder);
                // An image that cannot be read is looked at every time.
                entry = entry.take().and_then(|entry| match &image {
                    Ok(Some(image)) => entry.with(image, stamp?, old),
                    _ => None,
                });
                found.images.extend(image.transpose());
            })?;
            found.new += usize::from(entry.is_some());
            found
                .entries
                .extend(entry.map(|entry| Cow::Owned(entry.finish())));
        }
        Ok(found)
    }

    fn each_version(
        &self,
        reader: &mut Reader,
        name: &Name,
        mut see: impl FnMut(&mut Reader, Version, BorrowedFd<'_>),
    ) -> Result<(), StoreError> {
        let Some(folder) = self.open_versions(name)? else {
            return Ok(());
        };
        for version in self.versions_in(reader, name, folder.as_fd())? {
            see(reader, version, folder.as_fd());
        }
        Ok(())
    }
}
