//! Reads the entries of a tar stream: ustar, pax, GNU and v7, with both kinds of sparse files.
//!
//! A reader that takes the length of an entry for another than the next reader does can be shown other files than were
//! checked. So nothing is guessed here: what can be read in two ways is refused, with its offset.
//! What an entry may do is not decided here.

mod described;
mod extensions;
mod maps;
mod stream;

use super::entry::{Content, Entry, File};
use super::error::{Malformation, Refusal, UnpackError};
use super::segments::{Segment, are_sound};
use super::{BLOCK, numbers, padding};
use crate::digest::Digest;
use described::Described;
use extensions::{Extensions, Global};
use std::io::{self, Read};
use stream::Stream;
use tar_core::{EntryType, Header};

/// More zeros than this after the end are no padding of any tape or program.
const MOST_TRAILING: u64 = 16 << 20;

pub(super) struct Reader<'a> {
    stream: Stream<'a>,
    global: Global,
    /// Bytes of the current entry that have not been read.
    remaining: u64,
    /// Bytes between the entry's end and the next header.
    padding: usize,
    entries: u64,
    most_entries: u64,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// Those of starting a thread.
    pub fn new(from: &'a mut dyn Read, most_entries: u64) -> io::Result<Reader<'a>> {
        Ok(Reader {
            stream: Stream::new(from)?,
            global: Global::default(),
            remaining: 0,
            padding: 0,
            entries: 0,
            most_entries,
        })
    }

    /// The next entry; `None` after the last. What is unread of the one before is passed over.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, UnpackError> {
        self.pass_over()?;
        let offset = self.stream.offset();
        let mut extensions = Extensions::default();
        loop {
            let here = self.stream.offset();
            let malformed = |problem| UnpackError::Malformed {
                offset: here,
                problem,
            };
            let block = self.stream.block()?;
            if block == [0; BLOCK] {
                if !extensions.are_empty() {
                    return Err(malformed(Malformation::Orphan));
                }
                self.end(here)?;
                return Ok(None);
            }
            let header = Header::from_bytes(&block);
            if header.verify_checksum().is_err() {
                return Err(malformed(Malformation::Checksum));
            }
            let size = numbers::unsigned(&header.as_ustar().size)
                .ok_or(malformed(Malformation::Number))?;
            match header.as_ustar().typeflag[0] {
                b'L' => extensions.set_name(self.extension(size)?, here)?,
                b'K' => extensions.set_target(self.extension(size)?, here)?,
                b'x' => extensions.set_records(self.extension(size)?, here)?,
                // What belongs to no entry counts as one, so that there is an end to it.
                b'g' => {
                    self.count(header, here)?;
                    self.global.add(&self.stream.extension(size)?, here)?;
                }
                // The label of a volume is no file.
                b'V' if size == 0 => self.count(header, here)?,
                _ => {
                    self.count(header, here)?;
                    let said = extensions.resolve(&self.global, offset)?;
                    return self.entry(Described::new(header, said, offset)).map(Some);
                }
            }
        }
    }

    /// How many stored bytes of the current entry have not been read.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    pub fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// Stored bytes of the current entry, at most `most`, as they lie in the buffer; never none while some remain.
    /// They stay unread until [`consume`](Self::consume).
    pub fn content(&mut self, most: u64) -> Result<&[u8], UnpackError> {
        let most = most.min(self.remaining);
        if most == 0 {
            return Ok(&[]);
        }
        let bytes = self.stream.available()?;
        Ok(&bytes[..usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len())])
    }

    pub fn consume(&mut self, length: usize) {
        self.stream.consume(length);
        self.remaining -= length as u64;
    }

    /// Passes over the current entry and lets the digest begin after it.
    pub fn restart_digest(&mut self) -> Result<(), UnpackError> {
        self.pass_over()?;
        self.stream.restart_digest();
        Ok(())
    }

    /// The digest of all that was read; to be asked after the last entry.
    pub fn finish(self) -> Digest {
        self.stream.finish()
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, UnpackError> {
        self.stream.extension(size)
    }

    fn count(&mut self, header: &Header, offset: u64) -> Result<(), UnpackError> {
        if self.entries == self.most_entries {
            return Err(UnpackError::refused(
                header.path_bytes(),
                offset,
                Refusal::Entries(self.most_entries),
            ));
        }
        self.entries += 1;
        Ok(())
    }

    fn pass_over(&mut self) -> Result<(), UnpackError> {
        self.stream.skip(self.remaining)?;
        self.stream.skip(self.padding as u64)?;
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }

    /// Reads the second block of zeros, and the zeros that fill a tape's last record.
    fn end(&mut self, first: u64) -> Result<(), UnpackError> {
        if self.stream.block()? != [0; BLOCK] {
            return Err(UnpackError::Malformed {
                offset: first,
                problem: Malformation::LoneZeros,
            });
        }
        let start = self.stream.offset();
        loop {
            let offset = self.stream.offset();
            let bytes = self.stream.available_or_end()?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|&byte| byte != 0) || offset - start > MOST_TRAILING {
                return Err(UnpackError::Malformed {
                    offset,
                    problem: Malformation::Trailing,
                });
            }
            let length = bytes.len();
            self.stream.consume(length);
        }
    }

    /// Puts header and extensions together.
    fn entry(&mut self, mut described: Described<'_>) -> Result<Entry, UnpackError> {
        let size = described.size()?;
        let content = self.content_of(&described, size)?;
        // Programs differ in whether contents follow such an entry; where there are none they cannot. Links to files
        // are the exception: some programs name the file's size, and all agree that nothing follows.
        match content {
            Content::File(_) => self.padding = padding(size),
            Content::HardLink(_) => {}
            _ if size != 0 => return Err(described.refused(Refusal::Contents(size))),
            _ => {}
        }
        let (uid, gid) = described.owner()?;
        let (attributes, is_opaque) = described.attributes()?;
        Ok(Entry {
            mode: described.mode()?,
            mtime: described.mtime()?,
            name: described.name,
            offset: described.offset,
            content,
            uid,
            gid,
            attributes,
            is_opaque,
        })
    }

    /// What kind of file it is; of a regular one the map is read, so that its stored bytes are next.
    fn content_of(&mut self, described: &Described<'_>, size: u64) -> Result<Content, UnpackError> {
        let bad_map = || described.malformed(Malformation::SparseMap);
        let typeflag = described.header.as_ustar().typeflag[0];
        let is_folder_of_v7 = matches!(typeflag, 0 | b'0') && described.name.ends_with(b"/");
        let kind = match is_folder_of_v7 {
            true => EntryType::Directory,
            false => described.header.entry_type(),
        };
        let is_file = matches!(kind, EntryType::Regular | EntryType::Continuous);
        if described.said.sparse.is_some() && !is_file {
            return Err(bad_map());
        }
        Ok(match kind {
            EntryType::Regular | EntryType::Continuous => match &described.said.sparse {
                None => {
                    self.remaining = size;
                    Content::File(File {
                        size,
                        segments: None,
                    })
                }
                Some(sparse) => {
                    let (segments, map) = match &sparse.segments {
                        Some(segments) => (segments.clone(), 0),
                        None => {
                            maps::before_contents(&mut self.stream, size)?.ok_or_else(bad_map)?
                        }
                    };
                    self.sparse(segments, sparse.size, size - map)
                        .ok_or_else(bad_map)?
                }
            },
            EntryType::GnuSparse => {
                let map = maps::in_header(&mut self.stream, described.header)?;
                let (segments, whole) = map.ok_or_else(bad_map)?;
                self.sparse(segments, whole, size).ok_or_else(bad_map)?
            }
            EntryType::Directory => Content::Folder,
            EntryType::Symlink => Content::SymbolicLink(described.target()?),
            EntryType::Link => Content::HardLink(described.target()?),
            EntryType::Fifo => Content::Fifo,
            EntryType::Char => Content::Character(described.device()?),
            EntryType::Block => Content::Block(described.device()?),
            _ => return Err(described.refused(Refusal::Type(char::from(typeflag)))),
        })
    }

    /// A file of `size` bytes of which `stored` come next.
    fn sparse(&mut self, segments: Vec<Segment>, size: u64, stored: u64) -> Option<Content> {
        self.remaining = stored;
        are_sound(&segments, size, stored).then_some(Content::File(File {
            size,
            segments: Some(segments),
        }))
    }
}
