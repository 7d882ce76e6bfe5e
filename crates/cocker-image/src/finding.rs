//! Files below a folder, found by their names.

use crate::descent::{Descent, open_again};
use crate::quote::quote;
use rustix::fs::{AtFlags, FileType, statat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

/// A folder could not be looked through.
#[derive(Debug, thiserror::Error)]
#[error("cannot read folder `{path}`")]
pub struct FindError {
    /// Seen from where the search began.
    pub path: String,
    #[source]
    pub source: Errno,
}

/// A regular file that was found.
pub struct FoundFile<'a> {
    /// The folder that it is in, open.
    pub folder: BorrowedFd<'a>,
    pub name: &'a CStr,
    /// Seen from the folder where the search began, which is `.`.
    pub path: Vec<u8>,
}

/// Tells of every regular file below an open folder (O_PATH will do) that has a `wanted` name, in the order of their paths.
///
/// The tree may be an enemy's: no link is followed, no mount is crossed, and neither depth nor width costs memory. What
/// vanishes before it is reached is as if it had never been there.
pub fn find_files<E: From<FindError>>(
    top: BorrowedFd<'_>,
    wanted: &dyn Fn(&CStr) -> bool,
    found: &mut dyn FnMut(FoundFile<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |path: &[u8], source| FindError {
        path: quote(&String::from_utf8_lossy(path)),
        source,
    };
    let descent = open_again(top).and_then(|top| Descent::sorted(top, c".".into()));
    let mut descent = descent.map_err(|source| failed(b".", source))?;
    loop {
        let entry = descent.next_entry();
        let Some(entry) = entry.map_err(|source| failed(&descent.path(None), source))? else {
            let left = descent.leave();
            if left
                .map_err(|source| failed(&descent.path(None), source))?
                .is_none()
            {
                return Ok(());
            }
            continue;
        };
        let kind = match entry.file_type {
            FileType::Unknown => {
                let stat = statat(descent.current(), &entry.name, AtFlags::SYMLINK_NOFOLLOW);
                stat.map_or(FileType::Unknown, |stat| {
                    FileType::from_raw_mode(stat.st_mode)
                })
            }
            known => known,
        };
        match kind {
            FileType::Directory => match descent.enter(entry.name.clone()) {
                // Gone, something else by now, or mounted there.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                Err(source) => {
                    return Err(failed(&descent.path(Some(&entry.name)), source).into());
                }
            },
            FileType::RegularFile if wanted(&entry.name) => {
                let path = descent.path(Some(&entry.name));
                found(FoundFile {
                    folder: descent.current(),
                    name: &entry.name,
                    path,
                })?;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir_all, write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_are_found_by_name_and_links_are_not_followed() {
        let home = tempfile::tempdir().expect("a folder");
        let top = home.path();
        for file in [
            "b.tpl",
            "a.tpl",
            "c",
            "sub/deep/d.tpl",
            "sub/e.tpl",
            "a/z.tpl",
        ] {
            create_dir_all(top.join(file).parent().unwrap()).unwrap();
            write(top.join(file), "").unwrap();
        }
        create_dir_all(top.join("folder.tpl")).unwrap();
        symlink("a.tpl", top.join("link.tpl")).unwrap();
        symlink("sub", top.join("way")).unwrap();
        let mut paths = Vec::new();
        let wanted = |name: &CStr| name.to_bytes().ends_with(b".tpl");
        find_files::<FindError>(File::open(top).unwrap().as_fd(), &wanted, &mut |found| {
            paths.push(String::from_utf8(found.path).unwrap());
            Ok(())
        })
        .unwrap();
        let expected = [
            "./a/z.tpl",
            "./a.tpl",
            "./b.tpl",
            "./sub/deep/d.tpl",
            "./sub/e.tpl",
        ];
        assert_eq!(paths, expected);
    }
}
