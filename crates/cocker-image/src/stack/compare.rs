//! Whether two entries are the same for whoever sees them.

use super::entry::{Entry, EntryError, FileKind, LONGEST_ATTRIBUTE};
use rustix::fs::{SeekFrom, Stat, seek};
use rustix::io::{Errno, pread};
use std::os::fd::OwnedFd;

/// Bytes of a file's content that are compared at once.
const PIECE: usize = 128 * 1024;

/// What differs between two entries of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    Type,
    Mode,
    Owner,
    Size,
    /// Of regular files only.
    ModificationTime,
    LinkTarget,
    DeviceNumber,
    Attributes,
    /// Found only where all the rest is the same.
    Content,
}

/// Compares entries; it owns the room that this takes.
pub(super) struct Comparison {
    older: Vec<u8>,
    newer: Vec<u8>,
}

impl Comparison {
    pub fn new() -> Comparison {
        const { assert!(PIECE >= LONGEST_ATTRIBUTE) };
        Comparison {
            older: vec![0; PIECE],
            newer: vec![0; PIECE],
        }
    }

    /// What differs. Files are read only where nothing else does.
    pub fn differences(
        &mut self,
        older: &Entry,
        newer: &Entry,
    ) -> Result<Vec<Difference>, EntryError> {
        let kind = newer.kind();
        if older.kind() != kind {
            self.check(newer)?;
            return Ok(vec![Difference::Type]);
        }
        let mut differences = of_status(kind, &older.stat, &newer.stat);
        if kind == FileKind::Link && older.target()? != newer.target()? {
            differences.push(Difference::LinkTarget);
        }
        if !self.has_same_attributes(older, newer)? {
            differences.push(Difference::Attributes);
        }
        if kind == FileKind::File
            && differences.is_empty()
            && !self.has_same_content(&older.open_file()?, &newer.open_file()?)?
        {
            differences.push(Difference::Content);
        }
        Ok(differences)
    }

    /// An error where the entry says that what is seen lies elsewhere.
    pub fn check(&mut self, entry: &Entry) -> Result<(), EntryError> {
        match entry.kind() {
            FileKind::File | FileKind::Folder => entry.attribute_names(&mut self.newer).map(drop),
            _ => Ok(()),
        }
    }

    fn has_same_attributes(&mut self, older: &Entry, newer: &Entry) -> Result<bool, EntryError> {
        let names = older.attribute_names(&mut self.older)?;
        if names != newer.attribute_names(&mut self.newer)? {
            return Ok(false);
        }
        for name in names {
            let length = older.attribute(&name, &mut self.older)?;
            if length != newer.attribute(&name, &mut self.newer)? {
                return Ok(false);
            }
            let length = length.unwrap_or(0);
            if self.older[..length] != self.newer[..length] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_same_content(&mut self, older: &OwnedFd, newer: &OwnedFd) -> Result<bool, Errno> {
        let mut offset = 0;
        loop {
            // What is a hole in both is the same, and may be larger than any file could be filled.
            match (next_data(older, offset)?, next_data(newer, offset)?) {
                (None, None) => return Ok(true),
                (Some(one), Some(other)) => offset = one.min(other),
                (one, other) => offset = one.or(other).unwrap_or(offset),
            }
            let length = read_piece(older, &mut self.older, offset)?;
            if length != read_piece(newer, &mut self.newer, offset)? {
                return Ok(false);
            }
            if self.older[..length] != self.newer[..length] {
                return Ok(false);
            }
            if length < PIECE {
                return Ok(true);
            }
            offset += length as u64;
        }
    }
}

fn of_status(kind: FileKind, older: &Stat, newer: &Stat) -> Vec<Difference> {
    let is_file = kind == FileKind::File;
    let is_device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
    let modified = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
    let all = [
        (Difference::Mode, older.st_mode != newer.st_mode),
        (
            Difference::Owner,
            (older.st_uid, older.st_gid) != (newer.st_uid, newer.st_gid),
        ),
        (Difference::Size, is_file && older.st_size != newer.st_size),
        (
            Difference::ModificationTime,
            is_file && modified(older) != modified(newer),
        ),
        (
            Difference::DeviceNumber,
            is_device && older.st_rdev != newer.st_rdev,
        ),
    ];
    all.into_iter()
        .filter_map(|(difference, differs)| differs.then_some(difference))
        .collect()
}

/// Where the file has data from `offset` on; `None` where it has no more.
fn next_data(file: &OwnedFd, offset: u64) -> Result<Option<u64>, Errno> {
    match seek(file, SeekFrom::Data(offset)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        // Not every file system knows of holes.
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Some(offset)),
        Err(errno) => Err(errno),
    }
}

/// Fills `piece` from `offset` on; less only at the end of the file.
fn read_piece(file: &OwnedFd, piece: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut length = 0;
    while length < piece.len() {
        match pread(file, &mut piece[length..], offset + length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}
