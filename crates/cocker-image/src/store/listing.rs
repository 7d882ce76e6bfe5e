//! All images at once. Thousands are read by several threads, and what is read is kept in a [`Cache`] for the next time.
//!
//! Who decides by the answer what may be removed reads every record: see [`Store::images_and_failures`].

use super::cache::{Cache, Entry, Old, Stamp};
use super::catalogue::Reader;
use super::{ImageRecord, Store, StoreError};
use crate::{Name, Version};
use std::borrow::Cow;
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::thread::{Builder, available_parallelism};

/// From so many names on, threads and the cache are worth their own cost.
const MANY: usize = 256;
/// More threads than these would wait for each other in the kernel.
const MOST_THREADS: usize = 4;
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
        let found = shared_out(&names, |names| self.look_up(names, &cache, old))?;
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
        for image in shared_out(&names, |names| self.read_all(names))?
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

/// Gives each of several threads its share of the names; the answers are in the names' order, and all threads have ended.
fn shared_out<T: Send>(
    names: &[Name],
    work: impl Fn(&[Name]) -> Result<T, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    let threads = match names.len() {
        few if few < MANY => 1,
        _ => available_parallelism()
            .map_or(1, NonZero::get)
            .min(MOST_THREADS),
    };
    let share = names.len().div_ceil(threads);
    let (own, others) = names.split_at(share);
    let work = &work;
    std::thread::scope(|scope| {
        let start = |names| Builder::new().spawn_scoped(scope, move || work(names)).ok();
        let others = others.chunks(share.max(1));
        let others: Vec<_> = others.map(|names| (names, start(names))).collect();
        let mut answers = vec![work(own)?];
        for (names, thread) in others {
            answers.push(match thread {
                Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                // Where no thread can be had, the work is done here.
                None => work(names)?,
            });
        }
        Ok(answers)
    })
}
