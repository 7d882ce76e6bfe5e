//! Reads the entries of a tar stream: ustar, pax, GNU and v7, with both kinds of sparse files.
//!
//! A reader that takes the length of an entry for another than the next reader does can be shown other files than were
//! checked. So nothing is guessed here: what can be read in two ways is refused, with its offset.
//! What an entry may do is not decided here.

mod extensions;
mod stream;

use super::attributes::{self, Kind};
use super::entry::{Content, Device, Entry, File};
use super::error::{Malformation, Refusal, UnpackError, shown};
use super::segments::{Segment, are_sound};
use super::{BLOCK, LONGEST_TARGET, MOST_SEGMENTS, numbers, padding};
use crate::digest::Digest;
use extensions::{Extensions, Global};
use rustix::fs::Timespec;
use std::io::Read;
use std::ops::Range;
use stream::Stream;
use tar_core::{EntryType, Header};

/// More zeros than this after the end are no padding of any tape or program.
const MOST_TRAILING: u64 = 16 << 20;
/// No user or group has this id; chown(2) takes it for "unchanged".
const NOBODY: u64 = u32::MAX as u64;

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
    pub fn new(from: &'a mut dyn Read, most_entries: u64) -> Reader<'a> {
        Reader {
            stream: Stream::new(from),
            global: Global::default(),
            remaining: 0,
            padding: 0,
            entries: 0,
            most_entries,
        }
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
                    return self.entry(header, size, extensions, offset).map(Some);
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
    fn entry(
        &mut self,
        header: &Header,
        size: u64,
        extensions: Extensions,
        offset: u64,
    ) -> Result<Entry, UnpackError> {
        let said = extensions.resolve(&self.global, offset)?;
        let name = match said.name {
            Some(name) => name,
            None => header_name(header),
        };
        let refused = |reason| UnpackError::refused(&name, offset, reason);
        let number = |field: &[u8]| {
            numbers::unsigned(field).ok_or(UnpackError::Malformed {
                offset,
                problem: Malformation::Number,
            })
        };
        let fields = header.as_ustar();
        let owner = |said: Option<u64>, field: &[u8]| {
            let id = said.map_or_else(|| number(field), Ok)?;
            u32::try_from(id)
                .ok()
                .filter(|_| id != NOBODY)
                .ok_or(refused(Refusal::Owner))
        };
        let device = || {
            let part =
                |field: &[u8]| u32::try_from(number(field)?).map_err(|_| refused(Refusal::Device));
            Ok::<_, UnpackError>(Device {
                major: part(&fields.dev_major)?,
                minor: part(&fields.dev_minor)?,
            })
        };
        let uid = owner(said.uid, &fields.uid)?;
        let gid = owner(said.gid, &fields.gid)?;
        let mtime = match said.mtime {
            Some(mtime) => mtime,
            None => header_time(header).ok_or(UnpackError::Malformed {
                offset,
                problem: Malformation::Number,
            })?,
        };
        let size = said.size.unwrap_or(size);
        let target = || {
            let target = said
                .target
                .clone()
                .unwrap_or_else(|| header.link_name_bytes().to_vec());
            if target.is_empty() || target.len() > LONGEST_TARGET || target.contains(&0) {
                return Err(refused(Refusal::BadTarget));
            }
            Ok(target)
        };
        let mode = number(&fields.mode)?;
        let typeflag = fields.typeflag[0];
        let is_folder_of_v7 = matches!(typeflag, 0 | b'0') && name.ends_with(b"/");
        if said.sparse.is_some() && (!matches!(typeflag, 0 | b'0' | b'7') || is_folder_of_v7) {
            return Err(UnpackError::Malformed {
                offset,
                problem: Malformation::SparseMap,
            });
        }
        let mut stored = 0;
        let content = match header.entry_type() {
            _ if is_folder_of_v7 => Content::Folder,
            EntryType::Regular | EntryType::Continuous => {
                stored = size;
                match said.sparse {
                    None => Content::File(File {
                        size,
                        segments: None,
                    }),
                    Some(sparse) => {
                        let (segments, map_length) = match sparse.segments {
                            Some(segments) => (segments, 0),
                            None => self.read_map(size, offset)?,
                        };
                        stored = size - map_length;
                        self.sparse(segments, sparse.size, stored, offset)?
                    }
                }
            }
            EntryType::GnuSparse => {
                stored = size;
                let (segments, size) = self.read_gnu_map(header, offset)?;
                self.sparse(segments, size, stored, offset)?
            }
            EntryType::Directory => Content::Folder,
            EntryType::Symlink => Content::SymbolicLink(target()?),
            EntryType::Link => Content::HardLink(target()?),
            EntryType::Fifo => Content::Fifo,
            EntryType::Char => Content::Character(device()?),
            EntryType::Block => Content::Block(device()?),
            _ => return Err(refused(Refusal::Type(char::from(typeflag)))),
        };
        // Programs differ in whether contents follow such an entry; where there are none they cannot. Links to files
        // are the exception: some programs name the file's size, and all agree that nothing follows.
        let is_file = matches!(content, Content::File(_));
        if !is_file && !matches!(content, Content::HardLink(_)) && size != 0 {
            return Err(refused(Refusal::Contents(size)));
        }
        self.remaining = stored;
        self.padding = match content {
            Content::File(_) => padding(size),
            _ => 0,
        };
        let (attributes, is_opaque) = kept_attributes(said.attributes, &name, offset)?;
        Ok(Entry {
            name,
            offset,
            content,
            mode: (mode & 0o7777) as u32,
            uid,
            gid,
            mtime,
            attributes,
            is_opaque,
        })
    }

    fn sparse(
        &self,
        segments: Vec<Segment>,
        size: u64,
        stored: u64,
        offset: u64,
    ) -> Result<Content, UnpackError> {
        if !are_sound(&segments, size, stored) {
            return Err(UnpackError::Malformed {
                offset,
                problem: Malformation::SparseMap,
            });
        }
        Ok(Content::File(File {
            size,
            segments: Some(segments),
        }))
    }

    /// Reads the map before the contents (GNU 1.0); returns its length with its padding.
    fn read_map(&mut self, stored: u64, offset: u64) -> Result<(Vec<Segment>, u64), UnpackError> {
        let malformed = UnpackError::Malformed {
            offset,
            problem: Malformation::SparseMap,
        };
        let start = self.stream.offset();
        let mut line = || {
            let mut digits = Vec::with_capacity(20);
            loop {
                if self.stream.offset() - start >= stored {
                    return Ok(None);
                }
                match self.stream.byte()? {
                    b'\n' => return Ok(numbers::decimal(&digits)),
                    _ if digits.len() == 20 => return Ok(None),
                    digit => digits.push(digit),
                }
            }
        };
        let Some(number) = line()?.filter(|&number| number <= MOST_SEGMENTS as u64) else {
            return Err(malformed);
        };
        let mut segments = Vec::new();
        for _ in 0..number {
            let (Some(offset), Some(length)) = (line()?, line()?) else {
                return Err(malformed);
            };
            segments.push(Segment { offset, length });
        }
        let length = (self.stream.offset() - start).next_multiple_of(BLOCK as u64);
        if length > stored {
            return Err(malformed);
        }
        self.stream.skip(start + length - self.stream.offset())?;
        Ok((segments, length))
    }

    /// Reads the map in a header of GNU tar's own format and in the blocks that follow it, and the file's size.
    fn read_gnu_map(
        &mut self,
        header: &Header,
        offset: u64,
    ) -> Result<(Vec<Segment>, u64), UnpackError> {
        let malformed = || UnpackError::Malformed {
            offset,
            problem: Malformation::SparseMap,
        };
        let fields = header.try_as_gnu().ok_or_else(malformed)?;
        let size = numbers::unsigned(&fields.realsize).ok_or_else(malformed)?;
        let mut segments = Vec::new();
        add_gnu_parts(&mut segments, &header.as_bytes()[GNU_PARTS]).ok_or_else(malformed)?;
        let mut is_extended = fields.isextended[0] != 0;
        while is_extended {
            let block = self.stream.block()?;
            add_gnu_parts(&mut segments, &block[..GNU_MORE_PARTS]).ok_or_else(malformed)?;
            is_extended = block[GNU_MORE_PARTS] != 0;
        }
        Ok((segments, size))
    }
}

/// Where the parts of a sparse file stand in a header of GNU tar's own format, and how many bytes a further block has of them.
const GNU_PARTS: Range<usize> = 386..482;
const GNU_MORE_PARTS: usize = 504;

/// Adds parts up to the first empty one; `None` where one cannot be read or there are too many.
fn add_gnu_parts(segments: &mut Vec<Segment>, parts: &[u8]) -> Option<()> {
    for part in parts.chunks_exact(24).take_while(|part| part[12] != 0) {
        segments.push(Segment {
            offset: numbers::unsigned(&part[..12])?,
            length: numbers::unsigned(&part[12..])?,
        });
    }
    (segments.len() <= MOST_SEGMENTS).then_some(())
}

/// The name in a header: in ustar with the prefix before it.
fn header_name(header: &Header) -> Vec<u8> {
    let fields = header.as_ustar();
    if fields.magic != *b"ustar\0" {
        return header.path_bytes().to_vec();
    }
    // The program star keeps times where others have the end of the prefix, and says so in the last bytes.
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let prefix = &fields.prefix[..if is_star { 131 } else { 155 }];
    let prefix = prefix.split(|&byte| byte == 0).next().unwrap_or(b"");
    match prefix {
        b"" => header.path_bytes().to_vec(),
        prefix => [prefix, b"/", header.path_bytes()].concat(),
    }
}

fn header_time(header: &Header) -> Option<Timespec> {
    Some(Timespec {
        tv_sec: i64::try_from(numbers::signed(&header.as_ustar().mtime)?).ok()?,
        tv_nsec: 0,
    })
}

type NamesAndValues = Vec<(Vec<u8>, Vec<u8>)>;

/// Leaves out what no layer takes from an archive; tells besides whether the entry is marked as opaque.
fn kept_attributes(
    attributes: NamesAndValues,
    name: &[u8],
    offset: u64,
) -> Result<(NamesAndValues, bool), UnpackError> {
    let mut kept = Vec::new();
    let mut is_opaque = false;
    for (attribute, value) in attributes {
        if attribute.is_empty()
            || attribute.len() > attributes::LONGEST_NAME
            || attribute.contains(&0)
        {
            return Err(UnpackError::refused(name, offset, Refusal::AttributeName));
        }
        if value.len() > attributes::LONGEST {
            return Err(UnpackError::refused(name, offset, Refusal::AttributeValue));
        }
        match attributes::kind(&attribute) {
            Kind::Kept => kept.push((attribute, value)),
            Kind::Foreign if attribute == attributes::OPAQUE.to_bytes() => {
                is_opaque = value == attributes::OPAQUE_VALUE;
            }
            Kind::Foreign => {}
            Kind::Unknown => tracing::warn!(
                name = %shown(name),
                attribute = %shown(&attribute),
                "left out an extended attribute that Linux does not know"
            ),
        }
    }
    Ok((kept, is_opaque))
}
