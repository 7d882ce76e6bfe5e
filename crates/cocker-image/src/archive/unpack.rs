//! Makes the files of an archive below an open folder.
//!
//! The archive may be an enemy's. Everything is made by its folder's descriptor and its own name: nothing is followed, no
//! mount is crossed, and nothing that was not made here is linked to, since the folder is empty at the start. Entries, depth and bytes are
//! bounded before anything is written; what must be remembered does not grow with the archive.
//! An error leaves what was made so far; whoever gave the folder removes it.

mod failure;
mod folders;
mod name;
mod node;

use super::attributes;
use super::entry::{Content, Device, Entry};
use super::error::{Refusal, UnpackError};
use super::reader::Reader;
use super::{
    DESCRIPTION_NAME, Devices, LONGEST_DESCRIPTION, OPAQUE_NAME, RESERVED_PREFIX, WHITEOUT_PREFIX,
    Whiteouts,
};
use crate::descent::open_again;
use crate::digest::Digest;
use crate::marks;
use crate::owners::IdShift;
use failure::Failure;
use folders::{Folders, Unnamed};
use node::Node;
pub(crate) use node::hide;
use rustix::fs::{AtFlags, FileType, RawDir, statat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

/// What an archive may hold at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: u64,
    /// How many folders a file may lie in, itself included.
    pub depth: usize,
    /// Bytes in all files together, holes included.
    pub size: u64,
}

impl Default for Limits {
    /// Four million entries, 1,024 deep, as many bytes as the disk has room for.
    fn default() -> Limits {
        Limits {
            entries: 4_000_000,
            depth: 1024,
            size: u64::MAX,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct UnpackOptions {
    /// The form that the archive has whiteouts in.
    pub whiteouts: Whiteouts,
    pub devices: Devices,
    pub limits: Limits,
}

/// What came out of an archive.
#[derive(Debug)]
pub struct Unpacked {
    /// Without the description.
    pub entries: u64,
    /// Bytes in all files together, holes included.
    pub size: u64,
    /// With [`Whiteouts::Files`], how many entries hide something of lower layers; of opaque folders only the top one is
    /// counted.
    pub whiteouts: u64,
    /// Of the whole stream without the description.
    pub digest: Digest,
    /// What the first entry says, with [`Whiteouts::Devices`] and if it is a description.
    pub description: Option<Vec<u8>>,
}

/// Unpacks the tar stream `from` into the open and empty folder `tree`, reading it to its end.
///
/// A later entry takes the place of an earlier one of the same name. The top folder is root's with mode 0755 unless the
/// archive says otherwise; so are folders that it does not name. Nothing is brought to disk.
///
/// # Errors
/// What was made until then stays in the folder.
pub fn unpack(
    from: &mut dyn Read,
    tree: BorrowedFd<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    unpack_as(from, tree, options, None)
}

/// Unpacks a tar stream of a user's files in the same way: nothing in it means a whiteout, devices are refused, ids become
/// what `owners` says. Folders that the archive does not name are of now.
pub fn unpack_files(
    from: &mut dyn Read,
    tree: BorrowedFd<'_>,
    limits: Limits,
    owners: IdShift,
) -> Result<Unpacked, UnpackError> {
    let options = UnpackOptions {
        whiteouts: Whiteouts::None,
        devices: Devices::Refused,
        limits,
    };
    unpack_as(from, tree, &options, Some(owners))
}

/// With `owners` it is for a user.
fn unpack_as(
    from: &mut dyn Read,
    tree: BorrowedFd<'_>,
    options: &UnpackOptions,
    owners: Option<IdShift>,
) -> Result<Unpacked, UnpackError> {
    let prepare = |errno: Errno| UnpackError::Prepare {
        source: errno.into(),
    };
    if !is_empty(tree).map_err(prepare)? {
        return Err(UnpackError::NotEmpty);
    }
    let unnamed = match owners {
        None => Unnamed::of_layer(),
        Some(owners) => Unnamed::of_user(owners),
    };
    let folders = open_again(tree).and_then(|top| Folders::new(top, unnamed));
    let folders = folders.map_err(prepare)?;
    let mut unpacking = Unpacking {
        options,
        folders,
        size: 0,
        whiteouts: 0,
    };
    let reader = Reader::new(from, options.limits.entries);
    let mut reader = reader.map_err(|source| UnpackError::Prepare { source })?;
    let mut description = None;
    let mut entries = 0;
    let mut is_first = true;
    while let Some(mut entry) = reader.next_entry()? {
        let shifted = owners.map_or(Ok(()), |owners| shift_owners(&mut entry, owners));
        let in_entry = |failure: Failure| failure.with(&entry.name, entry.offset);
        shifted.map_err(|reason| in_entry(reason.into()))?;
        if std::mem::take(&mut is_first) && is_description(&entry, options) {
            description = Some(read_description(&mut reader, &entry).map_err(in_entry)?);
        } else {
            unpacking.place(&entry, &mut reader).map_err(in_entry)?;
            entries += 1;
        }
    }
    let offset = reader.offset();
    let finished = unpacking.folders.finish();
    finished.map_err(|errno| UnpackError::writing(b".", offset, errno))?;
    Ok(Unpacked {
        entries,
        size: unpacking.size,
        whiteouts: unpacking.whiteouts,
        digest: reader.finish(),
        description,
    })
}

/// Gives the entry the ids that it has on disk, and takes away attributes that mean nothing but on a host of their own.
fn shift_owners(entry: &mut Entry, owners: IdShift) -> Result<(), Refusal> {
    let shift = |id| owners.shift(id).ok_or(Refusal::NoSuchOwner(id));
    (entry.uid, entry.gid) = (shift(entry.uid)?, shift(entry.gid)?);
    for (name, value) in std::mem::take(&mut entry.attributes) {
        if !attributes::is_users(&name) && name != attributes::CAPABILITY {
            continue;
        }
        let value = attributes::shift_value(&name, &value, &owners);
        if let Some(value) = value.map_err(Refusal::NoSuchOwner)? {
            let value = value.into_owned();
            entry.attributes.push((name, value));
        }
    }
    Ok(())
}

fn is_empty(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    let folder = open_again(folder)?;
    let mut buffer = Vec::with_capacity(1024);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Only asked about the first entry: a file of this name further on is a file.
fn is_description(entry: &Entry, options: &UnpackOptions) -> bool {
    options.whiteouts == Whiteouts::Devices
        && entry.name == DESCRIPTION_NAME.as_bytes()
        && matches!(&entry.content, Content::File(file) if file.segments.is_none())
}

fn read_description(reader: &mut Reader<'_>, entry: &Entry) -> Result<Vec<u8>, Failure> {
    let mut description = Vec::new();
    if matches!(&entry.content, Content::File(file) if file.size > LONGEST_DESCRIPTION) {
        return Err(Refusal::Description.into());
    }
    while reader.remaining() > 0 {
        let bytes = reader.content(u64::MAX)?;
        description.extend_from_slice(bytes);
        let length = bytes.len();
        reader.consume(length);
    }
    // A layer's digest is that of its files.
    reader.restart_digest()?;
    Ok(description)
}

struct Unpacking<'a> {
    options: &'a UnpackOptions,
    folders: Folders,
    size: u64,
    whiteouts: u64,
}

impl Unpacking<'_> {
    /// Makes what one entry says.
    fn place(&mut self, entry: &Entry, reader: &mut Reader<'_>) -> Result<(), Failure> {
        let parts = name::parts(&entry.name, self.options.limits.depth)?;
        let Some((leaf, parents)) = parts.split_last() else {
            return self.place_top(entry);
        };
        if self.options.whiteouts == Whiteouts::Files && self.is_mark(leaf, parents)? {
            return Ok(());
        }
        self.admit(entry)?;
        let replace_whiteouts = self.options.whiteouts == Whiteouts::Files;
        self.folders.enter(parents, replace_whiteouts)?;
        let node = Node {
            parent: self.folders.current(),
            name: leaf,
            inheritance: self.folders.inheritance(),
            whiteouts: self.options.whiteouts,
        };
        match &entry.content {
            Content::File(file) => node.file(file, entry, reader),
            Content::Folder => {
                let folder = node.folder(entry)?;
                Ok(self.folders.push(leaf, folder, entry.mtime)?)
            }
            Content::SymbolicLink(target) => node.symbolic_link(target, entry),
            Content::Fifo => node.special(FileType::Fifo, Device::NONE, entry),
            Content::Character(device) | Content::Block(device)
                if *device != Device::NONE && marks::are_users() =>
            {
                // Only the host's root can make one, and nobody inside could use it.
                tracing::warn!(name = %leaf.to_string_lossy(), "left out a device node");
                Ok(())
            }
            Content::Character(device) => node.special(FileType::CharacterDevice, *device, entry),
            Content::Block(device) => node.special(FileType::BlockDevice, *device, entry),
            Content::HardLink(target) => self.link(leaf, target),
        }
    }

    fn place_top(&mut self, entry: &Entry) -> Result<(), Failure> {
        if !matches!(entry.content, Content::Folder) {
            return Err(Refusal::Top.into());
        }
        self.folders.enter(&[], false)?;
        node::change_folder(self.folders.top(), entry, self.options.whiteouts)?;
        Ok(self.folders.set_top(entry.mtime)?)
    }

    /// Does what a name says that is no file's name but a whiteout; false for all others.
    fn is_mark(&mut self, leaf: &CStr, parents: &[CString]) -> Result<bool, Failure> {
        let starts = |name: &CStr, prefix: &[u8]| name.to_bytes().starts_with(prefix);
        let is_reserved = |name: &CString| starts(name, RESERVED_PREFIX);
        if parents.iter().any(is_reserved) {
            return Ok(true);
        }
        if parents.iter().any(|name| starts(name, WHITEOUT_PREFIX)) {
            return Err(Refusal::BelowNoFolder.into());
        }
        if leaf.to_bytes() == OPAQUE_NAME {
            self.folders.enter(parents, true)?;
            attributes::make_opaque(self.folders.current())?;
            self.whiteouts += u64::from(parents.is_empty());
            return Ok(true);
        }
        if starts(leaf, RESERVED_PREFIX) {
            return Ok(true);
        }
        let Some(hidden) = leaf.to_bytes().strip_prefix(WHITEOUT_PREFIX) else {
            return Ok(false);
        };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Refusal::BadWhiteout.into());
        }
        self.folders.enter(parents, true)?;
        let hidden = CString::new(hidden).expect("a part of a name holds no NUL");
        node::hide(self.folders.current(), &hidden)?;
        self.whiteouts += 1;
        Ok(true)
    }

    /// Refuses what may not come out of this archive, before anything is made for it.
    fn admit(&mut self, entry: &Entry) -> Result<(), Failure> {
        match &entry.content {
            Content::Character(Device::NONE) => match self.options.whiteouts {
                Whiteouts::Devices => Ok(()),
                Whiteouts::Files => Err(Refusal::ForeignWhiteout.into()),
                Whiteouts::None => Err(Refusal::Device.into()),
            },
            Content::Character(_) | Content::Block(_) => match self.options.devices {
                Devices::Allowed => Ok(()),
                Devices::Refused => Err(Refusal::Device.into()),
            },
            Content::File(file) => {
                let most = self.options.limits.size;
                let size = self
                    .size
                    .checked_add(file.size)
                    .filter(|&size| size <= most);
                self.size = size.ok_or(Refusal::Size(most))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Makes a hard link to a file that the archive had before. Nothing is followed on the way to it, nor is it itself.
    fn link(&self, leaf: &CStr, target: &[u8]) -> Result<(), Failure> {
        let parts = name::parts(target, self.options.limits.depth)?;
        let (target, parents) = parts.split_last().ok_or(Refusal::NoTarget)?;
        let found;
        let parent = if self.folders.is_current(parents) {
            self.folders.current()
        } else {
            found = folders::find(self.folders.top(), parents)?.ok_or(Refusal::NoTarget)?;
            found.as_fd()
        };
        node::link(
            parent,
            target,
            self.folders.current(),
            leaf,
            self.options.whiteouts,
        )
    }
}

/// Whether the entry is a whiteout, as overlayfs has them.
pub(crate) fn is_whiteout(parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(is_whiteout_node(&stat))
}

fn is_whiteout_node(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
