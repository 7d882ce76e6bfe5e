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

use super::attributes::{self, Attributes, CAPABILITY, File};
use super::error::{PackError, shown};
use super::segments::{self, Segment};
use super::{
    BLOCK, DESCRIPTION_NAME, LONGEST_DESCRIPTION, LONGEST_TARGET, MOST_RECORDS, OPAQUE_NAME,
    WHITEOUT_PREFIX, Whiteouts, padding, records,
};
use crate::copying::{CopyRules, CopySource, LeftOut, Nodes, Privileges, Told, open_held};
use crate::descent::{self, Descent, open_again, open_beneath, open_beneath_or_mounted};
use crate::digest::Digest;
use crate::owners::IdShift;
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
    let descent = open_again(tree)
        .and_then(|top| Descent::sorted(top, c".".into()))
        .map_err(|errno| PackError::reading(b".", errno))?;
    let mut packer = Packer::new(options.whiteouts, None, to)?;
    let mut packing = Packing {
        descent,
        packer: &mut packer,
    };
    packing.run()?;
    packer.finish()
}

/// Writes a user's files as a tar stream: `source`, which is called `called` there. What is left out of it is told with its
/// path.
pub fn pack_files(
    source: &CopySource,
    called: &CStr,
    rules: &CopyRules<'_>,
    to: &mut dyn Write,
    told: &mut dyn FnMut(LeftOut, &str),
) -> Result<Packed, PackError> {
    let failed = |errno| PackError::reading(called.to_bytes(), errno);
    let mut packer = Packer::new(Whiteouts::None, Some((rules, told)), to)?;
    match source {
        CopySource::Folder(folder) => {
            let descent = open_again(folder.as_fd())
                .and_then(|top| Descent::sorted(top, called.into()))
                .map_err(failed)?;
            // The contents of a folder without a name of its own lie at the top.
            if called != c"." {
                packer.path = [called.to_bytes(), b"/"].concat();
            }
            let mut packing = Packing {
                descent,
                packer: &mut packer,
            };
            packing.run()?;
        }
        CopySource::Other(held) => {
            let stat = rustix::fs::fstat(held).map_err(failed)?;
            let held = rustix::io::fcntl_dupfd_cloexec(held, 0).map_err(failed)?;
            packer.other(called, held, &stat)?;
        }
    }
    packer.finish()
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

/// A tree on its way into an archive.
struct Packing<'a, 'b> {
    descent: Descent,
    packer: &'a mut Packer<'b>,
}

impl Packing<'_, '_> {
    fn run(&mut self) -> Result<(), PackError> {
        self.packer.folder(self.descent.current())?;
        while self.next()? {}
        Ok(())
    }

    /// Packs the next entry; false after the last.
    fn next(&mut self) -> Result<bool, PackError> {
        let entry = self.descent.next_entry();
        if let Some(entry) = entry.map_err(|errno| self.packer.reading(b"", errno))? {
            self.entry(entry)?;
            return Ok(true);
        }
        let left = self
            .descent
            .leave()
            .map_err(|errno| self.packer.reading(b"", errno))?;
        if let Some(name) = &left {
            let path = &mut self.packer.path;
            path.truncate(path.len() - name.to_bytes().len() - 1);
        }
        Ok(left.is_some())
    }

    fn entry(&mut self, entry: descent::Entry) -> Result<(), PackError> {
        self.packer.check_name(entry.name.to_bytes())?;
        // What the folder says of the type decides how the entry is opened; what was opened decides what it is.
        let opened = match entry.file_type {
            FileType::Directory => match self.enter(&entry.name) {
                // A user's folder may have become something else meanwhile.
                Ok(false) => self.open(&entry.name, HOLD),
                Ok(true) => return Ok(()),
                Err(error) => return Err(error),
            },
            FileType::RegularFile => self.open(&entry.name, READ),
            _ => self.open(&entry.name, HOLD),
        };
        let name = entry.name.to_bytes();
        let opened = match opened {
            // As if it had never been there.
            Err(Errno::NOENT) if self.packer.is_for_user() => return Ok(()),
            opened => opened.map_err(|errno| self.packer.reading(name, errno))?,
        };
        let stat = fstat(&opened).map_err(|errno| self.packer.reading(name, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match self.enter(&entry.name)? {
                true => Ok(()),
                false => Err(self.packer.changed(name)),
            },
            FileType::RegularFile if entry.file_type == FileType::RegularFile => {
                self.packer.file(name, opened, &stat)
            }
            _ => self.packer.other(&entry.name, opened, &stat),
        }
    }

    /// Goes into a folder and packs it; false where it is none any more.
    fn enter(&mut self, name: &CStr) -> Result<bool, PackError> {
        match self.descent.enter(name.into()) {
            Ok(()) => {}
            Err(Errno::NOENT) if self.packer.is_for_user() => return Ok(true),
            Err(Errno::NOTDIR | Errno::LOOP) if self.packer.is_for_user() => return Ok(false),
            Err(Errno::XDEV) if self.packer.is_for_user() => {
                self.packer.mounted_folder(name.to_bytes())?;
                return Ok(true);
            }
            Err(errno) => return Err(self.packer.reading(name.to_bytes(), errno)),
        }
        let path = &mut self.packer.path;
        path.extend_from_slice(name.to_bytes());
        path.push(b'/');
        self.packer.folder(self.descent.current())?;
        Ok(true)
    }

    fn open(&self, name: &CStr, flags: OFlags) -> Result<OwnedFd, Errno> {
        match open_beneath(self.descent.current(), name, flags) {
            Err(Errno::XDEV) if self.packer.is_for_user() => {
                open_beneath_or_mounted(self.descent.current(), name, HOLD)
            }
            opened => opened,
        }
    }
}

/// The set-user-id and set-group-id bits (inode(7)).
const SET_ID: u32 = 0o6000;

const HOLD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);
/// Should it have become a FIFO meanwhile, nobody waits for its other end.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Writes one entry after the other.
struct Packer<'a> {
    whiteouts: Whiteouts,
    /// `None`: as a layer.
    user: Option<(&'a CopyRules<'a>, Told<'a>)>,
    /// Of the current folder, with `/` at its end; empty at the top.
    path: Vec<u8>,
    links: Links,
    attributes: Attributes,
    to: Output<'a>,
    entries: u64,
}

impl<'a> Packer<'a> {
    fn new(
        whiteouts: Whiteouts,
        user: Option<(&'a CopyRules<'a>, Told<'a>)>,
        to: &'a mut dyn Write,
    ) -> Result<Packer<'a>, PackError> {
        Ok(Packer {
            whiteouts,
            user,
            path: Vec::new(),
            links: Links::default(),
            attributes: Attributes::new(),
            to: Output::new(to).map_err(|source| PackError::Write { source })?,
            entries: 0,
        })
    }

    fn finish(mut self) -> Result<Packed, PackError> {
        self.write(&[0; 2 * BLOCK])?;
        let finished = self.to.finish();
        let (digest, length) = finished.map_err(|source| PackError::Write { source })?;
        Ok(Packed {
            entries: self.entries,
            digest,
            length,
        })
    }

    fn is_for_user(&self) -> bool {
        self.user.is_some()
    }

    fn tell(&mut self, what: LeftOut, name: &[u8]) {
        let path = shown(&self.path_of(name));
        match &mut self.user {
            Some((_, told)) => told(what, &path),
            None => tracing::info!(%path, "left out a socket"),
        }
    }

    fn check_name(&self, name: &[u8]) -> Result<(), PackError> {
        match self.whiteouts == Whiteouts::Files && name.starts_with(WHITEOUT_PREFIX) {
            true => Err(PackError::ReservedName {
                path: shown(&self.path_of(name)),
            }),
            false => Ok(()),
        }
    }

    /// Packs what is held and is no folder.
    fn other(&mut self, name: &CStr, held: OwnedFd, stat: &Stat) -> Result<(), PackError> {
        let bytes = name.to_bytes();
        match FileType::from_raw_mode(stat.st_mode) {
            // The file system does not tell types in folders, or something is mounted on it.
            FileType::RegularFile => {
                let file = open_held(&held).map_err(|errno| self.reading(bytes, errno))?;
                self.file(bytes, file, stat)
            }
            FileType::Socket => {
                self.tell(LeftOut::Socket, bytes);
                Ok(())
            }
            kind => self.special(bytes, kind, held, stat),
        }
    }

    /// Packs a folder whose contents are left out.
    fn mounted_folder(&mut self, name: &[u8]) -> Result<(), PackError> {
        self.tell(LeftOut::Mounted, name);
        let path = [&self.path, name, b"/"].concat();
        let mut head = Head::new(Kind::Folder, &path);
        head.mode = 0o755;
        self.write_head(head)
    }

    /// Packs the current folder itself.
    fn folder(&mut self, folder: BorrowedFd<'_>) -> Result<(), PackError> {
        let failed = |errno| PackError::reading(&self.path, errno);
        let stat = fstat(folder).map_err(failed)?;
        let is_opaque = attributes::is_opaque(folder).map_err(failed)?;
        let path = match self.path.as_slice() {
            b"" => b"./".to_vec(),
            path => path.to_vec(),
        };
        let mut head = self.head(Kind::Folder, &path, &stat)?;
        self.add_attributes(&mut head, File::Open(folder))?;
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
        let mut head = self.head(Kind::File, &path, stat)?;
        head.size = size;
        self.add_attributes(&mut head, File::Open(file.as_fd()))?;
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
        // Of a user's file there is as much as there was; a layer must be what it says.
        if self.is_for_user() {
            return Ok(());
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
        name: &[u8],
        kind: FileType,
        held: OwnedFd,
        stat: &Stat,
    ) -> Result<(), PackError> {
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        match &self.user {
            Some((rules, _)) if is_device && rules.nodes == Nodes::LeftOut => {
                self.tell(LeftOut::Device, name);
                return Ok(());
            }
            Some(_) if is_device => {
                let path = shown(&self.path_of(name));
                return Err(PackError::Device { path });
            }
            _ => {}
        }
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
        let mut head = self.head(kind, &path, stat)?;
        if kind == Kind::SymbolicLink {
            let target = readlinkat(&held, c"", Vec::with_capacity(LONGEST_TARGET + 1));
            let target = target.map_err(|errno| self.reading(name, errno))?;
            head.target = target.into_bytes();
        }
        self.add_attributes(&mut head, File::Held(held.as_fd()))?;
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
            // Nothing is hidden where there are no layers, so it is a device like others.
            Whiteouts::None => Err(PackError::Device {
                path: shown(&self.path_of(name)),
            }),
        }
    }

    fn hard_link(&mut self, path: &[u8], first: Vec<u8>, stat: &Stat) -> Result<(), PackError> {
        let mut head = self.head(Kind::HardLink, path, stat)?;
        // Attributes belong to the file, which has its entry. The time stands here again: some programs (podman,
        // docker) give the file the time of the last of its names, so that it must not be a rounder one.
        head.target = first;
        self.write_head(head)
    }

    /// The head of an entry with the owners that it shall have.
    fn head(&self, kind: Kind, path: &[u8], stat: &Stat) -> Result<Head, PackError> {
        let mut head = Head::of(kind, path, stat);
        if let Some((rules, _)) = &self.user {
            let shift = |id| {
                rules.owners.shift(id).ok_or_else(|| PackError::Owner {
                    path: shown(path),
                    id,
                })
            };
            (head.uid, head.gid) = (shift(head.uid)?, shift(head.gid)?);
            if rules.privileges == Privileges::Dropped && kind != Kind::Folder {
                head.mode &= !SET_ID;
            }
        }
        Ok(head)
    }

    /// Adds the records of all attributes that belong to the file.
    fn add_attributes(&mut self, head: &mut Head, file: File<'_>) -> Result<(), PackError> {
        let failed = |path: &[u8], errno| PackError::reading(path, errno);
        let names = self.attributes.kept(file);
        for name in names.map_err(|errno| failed(&head.path, errno))? {
            let bytes = name.to_bytes();
            let goes_along = match &self.user {
                Some((rules, _)) if bytes == CAPABILITY => rules.privileges == Privileges::Kept,
                Some(_) => attributes::is_users(bytes),
                None => true,
            };
            if !goes_along {
                continue;
            }
            let value = self.attributes.value(file, &name);
            // One that has gone since the list was read is as if it had never been.
            let Some(value) = value.map_err(|errno| failed(&head.path, errno))? else {
                continue;
            };
            let owners = self.user.as_ref().map(|(rules, _)| rules.owners);
            let value = attributes::shift_value(bytes, value, &owners.unwrap_or(IdShift::SAME));
            let value = value.map_err(|id| PackError::Owner {
                path: shown(&head.path),
                id,
            })?;
            let Some(value) = value else { continue };
            records::append_attribute(&mut head.attributes, bytes, &value);
            if head.attributes.len() > MOST_RECORDS {
                return Err(PackError::Attributes {
                    path: shown(&head.path),
                });
            }
        }
        Ok(())
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
