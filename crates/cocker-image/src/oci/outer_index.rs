//! The table of an archive that holds an image: which entry lies where.
//!
//! Nothing is unpacked, so names can do no harm: what is not named like a file of an image is not in the table, and
//! links lead to other entries of the same archive only. As with tar, the last entry of a name counts.
//!
//! Most archives that come by are no images but root file systems, and must be told apart before much of them is
//! read: the first entry that no image would have ends the search, unless one came before that only images have.

use super::OciError;
use crate::quote::quote;
use std::collections::HashMap;
use std::io::{self, Read};
use tar_core::parse::{Limits, ParseError, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, HEADER_SIZE, Header};

/// Files that only images have.
pub(super) const OCI_LAYOUT: &str = "oci-layout";
pub(super) const MANIFEST_JSON: &str = "manifest.json";
pub(super) const REPOSITORIES: &str = "repositories";
/// What cocker's own archives begin with.
const OWN_ARCHIVE: &str = ".cocker-image.json";

/// The most entries of a table, and the most bytes of their names.
const MOST_ENTRIES: usize = 64 * 1024;
const MOST_NAME_BYTES: usize = 8 * 1024 * 1024;
/// The longest name, and the most bytes of everything that stands before an entry's content.
const LONGEST_NAME: u32 = 4096;
const LARGEST_HEADER: usize = 2 * 1024 * 1024;
/// How many links may lead from one to the next.
const MOST_LINKS: usize = 8;

/// What an archive is read from.
pub(super) trait Feed: Read {
    /// Goes past bytes that nobody wants to see; UnexpectedEof where there are not so many.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

#[derive(Debug, Default)]
pub(super) struct OuterIndex {
    entries: HashMap<String, Stored>,
    name_bytes: usize,
    /// Whether there was an entry that no image has.
    is_odd: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    File {
        offset: u64,
        length: u64,
    },
    /// The name of another entry.
    Link(String),
    Sparse,
    Other,
}

impl OuterIndex {
    /// Reads the table of an archive; `None` when it holds no image, or is no archive at all.
    pub fn read(feed: &mut impl Feed) -> Result<Option<OuterIndex>, OciError> {
        let mut index = OuterIndex::default();
        match Entries::new(feed).all(|name, stored| index.take(name, stored)) {
            Ok(()) => {}
            // What does not even say that it is an image is left to others, with all its faults.
            Err(OciError::Spool { source }) => return Err(OciError::Spool { source }),
            Err(OciError::SpoolLimit { limit }) => return Err(OciError::SpoolLimit { limit }),
            Err(_) if !index.is_marked() => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(index.is_marked().then_some(index))
    }

    /// The entry of this name, links followed.
    pub fn find(&self, name: &str) -> Result<&Stored, OciError> {
        let mut at = name;
        for _ in 0..MOST_LINKS {
            match self.entries.get(at) {
                Some(Stored::Link(to)) => at = to,
                Some(stored) => return Ok(stored),
                None if at == name => return Err(OciError::Missing { name: quote(name) }),
                None => {
                    return Err(OciError::NotReadable {
                        name: quote(name),
                        why: "it is a link to what is not there",
                    });
                }
            }
        }
        Err(OciError::NotReadable {
            name: quote(name),
            why: "its links lead to one another",
        })
    }

    /// Whether there is an entry of this name, of whatever kind.
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether there was an entry that no image has.
    pub fn is_odd(&self) -> bool {
        self.is_odd
    }

    /// Whether there is a file that only images have.
    fn is_marked(&self) -> bool {
        let markers = [OCI_LAYOUT, MANIFEST_JSON, REPOSITORIES];
        markers.iter().any(|marker| self.has(marker))
    }

    /// Takes one entry up; false when the archive holds no image.
    fn take(&mut self, name: &[u8], stored: Stored) -> Result<bool, OciError> {
        let name = normal(name);
        let is_plausible = name
            .as_deref()
            .is_some_and(|name| is_plausible(name, &stored));
        self.is_odd |= !is_plausible;
        if !is_plausible && !self.is_marked() {
            return Ok(false);
        }
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(true);
        };
        self.name_bytes += name.len();
        self.entries.insert(name, stored);
        if self.entries.len() > MOST_ENTRIES || self.name_bytes > MOST_NAME_BYTES {
            return Err(OciError::TooManyEntries {
                limit: MOST_ENTRIES,
            });
        }
        Ok(true)
    }
}

/// Whether an image's archive may have such an entry.
fn is_plausible(name: &str, stored: &Stored) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [OWN_ARCHIVE] => false,
        // The root of a system has links at its top (`bin`), an image has files of a few kinds.
        [name] => match stored {
            Stored::File { .. } | Stored::Sparse => is_file_of_image(name),
            Stored::Other => true,
            Stored::Link(_) => false,
        },
        ["blobs", ..] => true,
        // Of old, docker save wrote a folder for each layer.
        [_, "VERSION" | "json" | "layer.tar"] => true,
        _ => false,
    }
}

/// Whether an image may have such a file at its top: a document, a layer, or what is called by a digest alone.
fn is_file_of_image(name: &str) -> bool {
    let is_digest = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_layer = name.contains(".tar") || name.ends_with(".tgz");
    [OCI_LAYOUT, REPOSITORIES].contains(&name) || name.ends_with(".json") || is_layer || is_digest
}

/// A name as it stands in documents, without `./` before it and `/` behind; the top itself is empty. `None` for a
/// name that could mean something outside, or is no text.
fn normal(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = name
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let is_plain = !parts.contains(&"..") && !name.contains('\0');
    is_plain.then(|| parts.join("/"))
}

/// Where a symbolic link of the archive leads: a name seen from its folder. `None` when that is outside.
fn linked_name(link: &[u8], target: &[u8]) -> Option<String> {
    let link = normal(link)?;
    let target = std::str::from_utf8(target).ok()?;
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The entries of an archive, one after the other.
struct Entries<'a, F> {
    feed: &'a mut F,
    parser: Parser,
    /// Read and not yet parsed.
    buffer: Vec<u8>,
    /// Of the buffer's start in the archive.
    offset: u64,
}

/// One step: an entry with the name it bears, or the end.
enum Step {
    Entry {
        name: Vec<u8>,
        stored: Stored,
        padded: u64,
    },
    Skip,
    End,
}

impl<'a, F: Feed> Entries<'a, F> {
    fn new(feed: &'a mut F) -> Entries<'a, F> {
        let mut parser = Parser::new(Limits {
            max_path_len: Some(LONGEST_NAME),
            ..Limits::default()
        });
        // What is said in words that tar-core does not know is of no interest here.
        parser.set_ignore_pax_errors(true);
        Entries {
            feed,
            parser,
            buffer: Vec::new(),
            offset: 0,
        }
    }

    /// Gives all entries to `take` until it says false.
    fn all(
        mut self,
        mut take: impl FnMut(&[u8], Stored) -> Result<bool, OciError>,
    ) -> Result<(), OciError> {
        loop {
            match self.step()? {
                Step::End => return Ok(()),
                Step::Skip => {}
                Step::Entry {
                    name,
                    stored,
                    padded,
                } => {
                    if !take(&name, stored)? {
                        return Ok(());
                    }
                    self.pass(padded)?;
                }
            }
        }
    }

    fn step(&mut self) -> Result<Step, OciError> {
        let mut wanted = HEADER_SIZE;
        loop {
            if !self.fill(wanted)? {
                return Ok(Step::End);
            }
            self.refuse_endless()?;
            let parsed = self.parser.parse(&self.buffer);
            let (consumed, step) = match parsed.map_err(|error| entry_error(self.offset, &error))? {
                ParseEvent::NeedData { min_bytes } if min_bytes > LARGEST_HEADER => {
                    return Err(OciError::Entry {
                        offset: self.offset,
                        why: "its header is too large".into(),
                    });
                }
                ParseEvent::NeedData { min_bytes } => {
                    wanted = min_bytes.max(self.buffer.len() + 1);
                    continue;
                }
                ParseEvent::End { .. } => return Ok(Step::End),
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, Step::Skip),
                ParseEvent::SparseEntry {
                    consumed, entry, ..
                } => (consumed, step_of(&entry, Stored::Sparse)),
                ParseEvent::Entry { consumed, entry } => {
                    let stored = stored(&entry, self.offset + consumed as u64);
                    (consumed, step_of(&entry, stored))
                }
            };
            self.buffer.drain(..consumed);
            self.offset += consumed as u64;
            return Ok(step);
        }
    }

    /// Refuses a header, which always is the last block read, that promises more than a file can have. The parser
    /// adds lengths up.
    fn refuse_endless(&self) -> Result<(), OciError> {
        let Some(block) = self.buffer.last_chunk::<HEADER_SIZE>() else {
            return Ok(());
        };
        let header = Header::from_bytes(block);
        let is_endless = header.entry_size().is_ok_and(|size| size > i64::MAX as u64);
        match is_endless && header.verify_checksum().is_ok() {
            true => Err(OciError::Truncated {
                offset: self.offset,
            }),
            false => Ok(()),
        }
    }

    /// Reads until the buffer holds so many bytes; false at the archive's end.
    fn fill(&mut self, wanted: usize) -> Result<bool, OciError> {
        let mut have = self.buffer.len();
        self.buffer.resize(wanted.max(have), 0);
        while have < wanted {
            match self.feed.read(&mut self.buffer[have..wanted]) {
                Ok(0) => {
                    self.buffer.truncate(have);
                    // Some write one block of zeros at the end and not two.
                    if self.buffer.iter().all(|byte| *byte == 0) {
                        return Ok(false);
                    }
                    return Err(OciError::Truncated {
                        offset: self.offset,
                    });
                }
                Ok(read) => have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(read_error(source)),
            }
        }
        Ok(true)
    }

    /// Goes past an entry's content.
    fn pass(&mut self, bytes: u64) -> Result<(), OciError> {
        let buffered =
            usize::try_from(bytes).map_or(self.buffer.len(), |bytes| bytes.min(self.buffer.len()));
        self.buffer.drain(..buffered);
        let offset = self.offset;
        self.offset = offset
            .checked_add(bytes)
            .ok_or(OciError::Truncated { offset })?;
        match self.feed.skip(bytes - buffered as u64) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(OciError::Truncated { offset })
            }
            result => result.map_err(read_error),
        }
    }
}

fn step_of(entry: &ParsedEntry<'_>, stored: Stored) -> Step {
    Step::Entry {
        name: entry.path.to_vec(),
        stored,
        // A length that cannot be rounded up is longer than any archive.
        padded: entry
            .size
            .checked_next_multiple_of(HEADER_SIZE as u64)
            .unwrap_or(u64::MAX),
    }
}

fn stored(entry: &ParsedEntry<'_>, offset: u64) -> Stored {
    let target = entry.link_target.as_deref();
    let link = |target: Option<String>| target.map_or(Stored::Other, Stored::Link);
    match entry.entry_type {
        EntryType::Regular | EntryType::Continuous => Stored::File {
            offset,
            length: entry.size,
        },
        EntryType::Link => link(target.and_then(normal)),
        EntryType::Symlink => link(target.and_then(|target| linked_name(&entry.path, target))),
        _ => Stored::Other,
    }
}

fn entry_error(offset: u64, error: &ParseError) -> OciError {
    OciError::Entry {
        offset,
        why: quote(&error.to_string()),
    }
}

/// Tells what was wrong with the archive from what was wrong with its copy.
fn read_error(source: io::Error) -> OciError {
    match source.downcast::<OciError>() {
        Ok(error) => error,
        Err(source) => OciError::Read { source },
    }
}
