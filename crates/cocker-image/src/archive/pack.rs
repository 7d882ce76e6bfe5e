//! Writes a tree as a tar stream that depends on nothing but the files.
//!
//! ```text
//! .cocker-image.json    the description, where one is given
//! ./                    the top folder
//! a                     the entries of each folder in the order of their bytes, a folder before what is in it
//! a/.wh..wh..opq        with Whiteouts::Files
//! …
//! two blocks of zeros
//! ```
//!
//! Of several names of a file the first one is the file and the others are links. A whiteout hides a name and nothing
//! else of it counts, so all whiteouts look the same. Sockets are left out, as they mean nothing without their process.
//! No link is followed and no mount crossed. A file that changes while it is read is an error, for the archive has promised its length.

mod head;
mod links;
mod output;

use super::attributes::{self, Attributes, File};
use super::error::{PackError, shown};
use super::segments::{self, Segment};
use super::{
    BLOCK, DESCRIPTION_NAME, LONGEST_DESCRIPTION, LONGEST_TARGET, MOST_RECORDS, OPAQUE_NAME,
    WHITEOUT_PREFIX, Whiteouts, padding, records,
};
use crate::descent::{self, Descent, open_again, open_beneath};
use crate::digest::Digest;
use head::{Head, Kind};
use links::Links;
use output::Output;
use rustix::fs::{FileType, OFlags, Stat, fstat, readlinkat};
use rustix::io::{Errno, pread, retry_on_intr};
use std::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

#[derive(Clone, Copy, Debug)]
pub struct PackOptions<'a> {
    pub whiteouts: Whiteouts,
    /// What the first entry, [`DESCRIPTION_NAME`], holds; no such entry without it.
    pub description: Option<&'a [u8]>,
}

/// What was packed; nothing of it counts the description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    pub entries: u64,
    pub digest: Digest,
    pub length: u64,
}

/// Writes the files below the open folder `tree` to `to` as a tar stream.
pub fn pack(
    tree: BorrowedFd<'_>,
    options: &PackOptions<'_>,
    to: &mut dyn Write,
) -> Result<Packed, PackError> {
    if let Some(description) = options.description {
        write_description(description, to)?;
    }
    let failed = |source| PackError::Write { source };
    let descent = open_again(tree)
        .and_then(|top| Descent::sorted(top, c".".into()))
        .map_err(|errno| PackError::reading(b".", errno))?;
    let mut packing = Packing {
        whiteouts: options.whiteouts,
        descent,
        path: Vec::new(),
        links: Links::default(),
        attributes: Attributes::new(),
        to: Output::new(to).map_err(failed)?,
        entries: 0,
    };
    packing.folder()?;
    while packing.next()? {}
    packing.write(&[0; 2 * BLOCK])?;
    let entries = packing.entries;
    let (digest, length) = packing.to.finish().map_err(failed)?;
    Ok(Packed {
        entries,
        digest,
        length,
    })
}

fn write_description(description: &[u8], to: &mut dyn Write) -> Result<(), PackError> {
    let length = description.len() as u64;
    if length > LONGEST_DESCRIPTION {
        return Err(PackError::Description);
    }
    let mut head = Head::new(Kind::File, DESCRIPTION_NAME.as_bytes());
    head.mode = 0o600;
    head.size = length;
    let mut bytes = head.finish().ok_or(PackError::Description)?;
    bytes.extend_from_slice(description);
    bytes.resize(bytes.len() + padding(length), 0);
    to.write_all(&bytes)
        .map_err(|source| PackError::Write { source })
}

struct Packing<'a> {
    whiteouts: Whiteouts,
    descent: Descent,
    /// Of the current folder, with `/` at its end; empty at the top.
    path: Vec<u8>,
    links: Links,
    attributes: Attributes,
    to: Output<'a>,
    entries: u64,
}

impl Packing<'_> {
    /// Packs the next entry; false after the last.
    fn next(&mut self) -> Result<bool, PackError> {
        let entry = self.descent.next_entry();
        if let Some(entry) = entry.map_err(|errno| self.reading(b"", errno))? {
            self.entry(entry)?;
            return Ok(true);
        }
        let left = self
            .descent
            .leave()
            .map_err(|errno| self.reading(b"", errno))?;
        if let Some(name) = &left {
            let length = self.path.len() - name.to_bytes().len() - 1;
            self.path.truncate(length);
        }
        Ok(left.is_some())
    }

    fn entry(&mut self, entry: descent::Entry) -> Result<(), PackError> {
        let name = entry.name.to_bytes();
        if self.whiteouts == Whiteouts::Files && name.starts_with(WHITEOUT_PREFIX) {
            return Err(PackError::ReservedName {
                path: shown(&self.path_of(name)),
            });
        }
        // What the folder says of the type decides how the entry is opened; what was opened decides what it is.
        let opened = match entry.file_type {
            FileType::Directory => return self.enter(&entry.name),
            FileType::RegularFile => self.open(&entry.name)?,
            _ => self.hold(&entry.name)?,
        };
        let stat = fstat(&opened).map_err(|errno| self.reading(name, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.enter(&entry.name),
            FileType::RegularFile => match entry.file_type {
                FileType::RegularFile => self.file(name, opened, &stat),
                // The file system does not tell types in folders.
                _ => self.file(name, self.open(&entry.name)?, &stat),
            },
            FileType::Socket => {
                tracing::info!(path = %shown(&self.path_of(name)), "left out a socket");
                Ok(())
            }
            kind => self.special(&entry.name, kind, opened, &stat),
        }
    }

    fn enter(&mut self, name: &CStr) -> Result<(), PackError> {
        self.descent
            .enter(name.into())
            .map_err(|errno| self.reading(name.to_bytes(), errno))?;
        self.path.extend_from_slice(name.to_bytes());
        self.path.push(b'/');
        self.folder()
    }

    /// Packs the current folder itself.
    fn folder(&mut self) -> Result<(), PackError> {
        let failed = |errno| PackError::reading(&self.path, errno);
        let folder = open_again(self.descent.current()).map_err(failed)?;
        let stat = fstat(&folder).map_err(failed)?;
        let is_opaque = attributes::is_opaque(folder.as_fd()).map_err(failed)?;
        let path = match self.path.as_slice() {
            b"" => b"./".to_vec(),
            path => path.to_vec(),
        };
        let mut head = Head::of(Kind::Folder, &path, &stat);
        add_attributes(&mut head, &mut self.attributes, File::Open(folder.as_fd()))?;
        if is_opaque && self.whiteouts == Whiteouts::Devices {
            records::append_attribute(
                &mut head.attributes,
                attributes::OPAQUE.to_bytes(),
                attributes::OPAQUE_VALUE,
            );
        }
        self.write_head(head)?;
        // Overlayfs merges the top folder whatever its mark says; others would hide what is seen here.
        if is_opaque && self.whiteouts == Whiteouts::Files && !self.path.is_empty() {
            let mark = self.path_of(OPAQUE_NAME);
            self.write_head(Head::new(Kind::File, &mark))?;
        }
        Ok(())
    }

    fn file(&mut self, name: &[u8], file: OwnedFd, stat: &Stat) -> Result<(), PackError> {
        let path = self.path_of(name);
        if let Some(first) = self.links.first_name(stat, &path) {
            return self.hard_link(&path, first, stat);
        }
        let failed = |errno| PackError::reading(&path, errno);
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut head = Head::of(Kind::File, &path, stat);
        head.size = size;
        add_attributes(&mut head, &mut self.attributes, File::Open(file.as_fd()))?;
        // Only a file with fewer blocks than it has bytes can have holes.
        let may_have_holes = (stat.st_blocks as u64).saturating_mul(512) < size;
        let segments = match may_have_holes {
            true => segments::find(file.as_fd(), size).map_err(failed)?,
            false => None,
        };
        match segments {
            None => {
                self.write_head(head)?;
                let whole = Segment {
                    offset: 0,
                    length: size,
                };
                self.contents(&path, file.as_fd(), &[whole])?;
            }
            Some(segments) => {
                let map = segments::map(&segments);
                head.sparse_size = Some(size);
                head.size = map.len() as u64 + segments::stored(&segments);
                self.write_head(head)?;
                self.write(&map)?;
                self.contents(&path, file.as_fd(), &segments)?;
            }
        }
        let after = fstat(&file).map_err(failed)?;
        let state = |stat: &Stat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec);
        if state(&after) != state(stat) {
            return Err(self.changed(name));
        }
        Ok(())
    }

    /// Packs what is neither a regular file nor a folder.
    fn special(
        &mut self,
        name: &CStr,
        kind: FileType,
        held: OwnedFd,
        stat: &Stat,
    ) -> Result<(), PackError> {
        let file = name;
        let name = file.to_bytes();
        let kind = match kind {
            FileType::CharacterDevice if stat.st_rdev == 0 => return self.whiteout(name),
            FileType::CharacterDevice => Kind::Character,
            FileType::BlockDevice => Kind::Block,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => Kind::SymbolicLink,
            _ => return Err(self.changed(name)),
        };
        let path = self.path_of(name);
        if let Some(first) = self.links.first_name(stat, &path) {
            return self.hard_link(&path, first, stat);
        }
        let mut head = Head::of(kind, &path, stat);
        if kind == Kind::SymbolicLink {
            let target = readlinkat(&held, c"", Vec::with_capacity(LONGEST_TARGET + 1));
            let target = target.map_err(|errno| self.reading(name, errno))?;
            head.target = target.into_bytes();
        }
        let file = File::Named(self.descent.current(), file);
        add_attributes(&mut head, &mut self.attributes, file)?;
        self.write_head(head)
    }

    fn whiteout(&mut self, name: &[u8]) -> Result<(), PackError> {
        match self.whiteouts {
            Whiteouts::Devices => {
                let path = self.path_of(name);
                self.write_head(Head::new(Kind::Character, &path))
            }
            Whiteouts::Files => {
                let path = self.path_of(&[WHITEOUT_PREFIX, name].concat());
                self.write_head(Head::new(Kind::File, &path))
            }
        }
    }

    fn hard_link(&mut self, path: &[u8], first: Vec<u8>, stat: &Stat) -> Result<(), PackError> {
        let mut head = Head::of(Kind::HardLink, path, stat);
        // Attributes belong to the file, which has its entry. The time stands here again: some programs (podman,
        // docker) give the file the time of the last of its names, so that it must not be a rounder one.
        head.target = first;
        self.write_head(head)
    }

    fn open(&self, name: &CStr) -> Result<OwnedFd, PackError> {
        // Should it have become a FIFO meanwhile, nobody waits for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        open_beneath(self.descent.current(), name, flags)
            .map_err(|errno| self.reading(name.to_bytes(), errno))
    }

    fn hold(&self, name: &CStr) -> Result<OwnedFd, PackError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        open_beneath(self.descent.current(), name, flags)
            .map_err(|errno| self.reading(name.to_bytes(), errno))
    }

    fn write_head(&mut self, head: Head) -> Result<(), PackError> {
        let path = shown(&head.path);
        let bytes = head.finish().ok_or(PackError::Attributes { path })?;
        self.entries += 1;
        self.write(&bytes)
    }

    /// Writes parts of a file, one after the other, and fills the last block.
    fn contents(
        &mut self,
        path: &[u8],
        file: BorrowedFd<'_>,
        segments: &[Segment],
    ) -> Result<(), PackError> {
        for segment in segments {
            let (mut offset, end) = (segment.offset, segment.offset + segment.length);
            while offset < end {
                let most = usize::try_from(end - offset).unwrap_or(usize::MAX);
                let room = self.to.room(most);
                let room = room.map_err(|source| PackError::Write { source })?;
                let read = retry_on_intr(|| pread(file, &mut *room, offset))
                    .map_err(|errno| PackError::reading(path, errno))?;
                if read == 0 {
                    return Err(PackError::Changed { path: shown(path) });
                }
                self.to.filled(read);
                offset += read as u64;
            }
        }
        let length = padding(segments::stored(segments));
        self.write(&[0; BLOCK][..length])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.to
            .write(bytes)
            .map_err(|source| PackError::Write { source })
    }

    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path, name].concat()
    }

    fn reading(&self, name: &[u8], errno: Errno) -> PackError {
        PackError::reading(&self.path_of(name), errno)
    }

    fn changed(&self, name: &[u8]) -> PackError {
        PackError::Changed {
            path: shown(&self.path_of(name)),
        }
    }
}

/// Adds the records of all attributes that belong to the file.
fn add_attributes(
    head: &mut Head,
    attributes: &mut Attributes,
    file: File<'_>,
) -> Result<(), PackError> {
    let failed = |path: &[u8], errno| PackError::reading(path, errno);
    let names = attributes.kept(file);
    for name in names.map_err(|errno| failed(&head.path, errno))? {
        let value = attributes.value(file, &name);
        // One that has gone since the list was read is as if it had never been.
        if let Some(value) = value.map_err(|errno| failed(&head.path, errno))? {
            records::append_attribute(&mut head.attributes, name.to_bytes(), value);
        }
        if head.attributes.len() > MOST_RECORDS {
            return Err(PackError::Attributes {
                path: shown(&head.path),
            });
        }
    }
    Ok(())
}
