//! Records that were being written into a container's folder when their writer died.

use crate::container::Container;
use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;
use std::ffi::CString;

/// How the name of a record that is being written begins.
const STAGED: &[u8] = b".new-";

/// One of them, with its size in bytes.
pub(super) struct StagedFile {
    pub name: CString,
    pub size: u64,
}

/// The records in a container's folder that have no name yet. Whoever writes them holds the container, so those that are
/// there while nobody does are leftovers.
pub(super) fn staged_files(container: &Container) -> Result<Vec<StagedFile>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(&container.folder)? {
        let entry = entry?;
        if !entry.file_name().to_bytes().starts_with(STAGED) {
            continue;
        }
        match statat(
            &container.folder,
            entry.file_name(),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                found.push(StagedFile {
                    name: entry.file_name().to_owned(),
                    size: u64::try_from(stat.st_size).unwrap_or(0),
                });
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}
