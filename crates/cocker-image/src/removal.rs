//! Removal of trees that an enemy may have written.
//!
//! Everything goes by directory descriptors: no symbolic link is followed, and no mount is crossed, so a removal can
//! never reach a file outside, nor the host's files in a volume. Depth and width cost neither stack nor descriptors.
//! Modes do not matter to root, so folders that nobody may enter go as well.

use crate::descent::{Descent, open_beneath};
use crate::quote::quote;
use cocker_sys::fault;
use rustix::fs::{AtFlags, FileType, OFlags, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// How often folders may turn out to be filled again before a removal gives up.
const MOST_REFILLS: usize = 4096;

/// Why a tree could not be removed. Paths are seen from the folder that holds the tree.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    #[error("cannot remove `{name}`: it is not the name of one entry of a folder")]
    NotAName { name: String },
    #[error("cannot remove `{path}`: something is mounted on it")]
    Mounted { path: String },
    #[error("cannot empty folder `{path}`")]
    Empty {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove `{path}`")]
    Remove {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot remove `{path}`: it is filled again and again meanwhile")]
    Refilled { path: String },
}

/// Removes `name`, an entry of `parent`, with all that is below it.
///
/// What is gone already, or vanishes meanwhile, counts as removed. A symbolic link is removed itself. On failure
/// the rest stays, and the same call may be made again.
pub fn remove_tree(parent: BorrowedFd<'_>, name: impl AsRef<OsStr>) -> Result<(), RemovalError> {
    let name = single_name(name.as_ref())?;
    let path = || shown(name.to_bytes());
    let mut refills = Refills(0);
    loop {
        let top = match open_beneath(
            parent,
            &name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        ) {
            Ok(top) => top,
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return gone(unlinkat(parent, &name, AtFlags::empty())).map_err(|errno| {
                    RemovalError::Remove {
                        path: path(),
                        source: errno.into(),
                    }
                });
            }
            Err(Errno::XDEV) => return Err(RemovalError::Mounted { path: path() }),
            Err(errno) => {
                return Err(RemovalError::Empty {
                    path: path(),
                    source: errno.into(),
                });
            }
        };
        let descent = Descent::new(top, name.clone()).map_err(|errno| RemovalError::Empty {
            path: path(),
            source: errno.into(),
        })?;
        empty(descent, &mut refills)?;
        let top = || unlinkat(parent, &name, AtFlags::REMOVEDIR);
        match gone(fault::step("tree.remove.top", top)) {
            Ok(()) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => refills.count(name.to_bytes())?,
            Err(errno) => {
                return Err(RemovalError::Remove {
                    path: path(),
                    source: errno.into(),
                });
            }
        }
    }
}

fn single_name(name: &OsStr) -> Result<CString, RemovalError> {
    let bytes = name.as_bytes();
    match CString::new(bytes) {
        Ok(single) if !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/') => Ok(single),
        _ => Err(RemovalError::NotAName { name: shown(bytes) }),
    }
}

/// How often a folder was not empty after all when it should go: something came in after it had been read, or the
/// file system lost its place when entries before it went. The folder is then read once more from its beginning.
struct Refills(usize);

impl Refills {
    fn count(&mut self, path: &[u8]) -> Result<(), RemovalError> {
        self.0 += 1;
        if self.0 > MOST_REFILLS {
            Err(RemovalError::Refilled { path: shown(path) })
        } else {
            Ok(())
        }
    }
}

/// Removes everything below the top of `descent`.
fn empty(mut descent: Descent, refills: &mut Refills) -> Result<(), RemovalError> {
    loop {
        if let Some(entry) = descent
            .next_entry()
            .map_err(|errno| empty_error(&descent, errno))?
        {
            remove_or_enter(&mut descent, entry.name, entry.file_type)?;
            continue;
        }
        let Some(name) = descent
            .leave()
            .map_err(|errno| empty_error(&descent, errno))?
        else {
            return Ok(());
        };
        let folder = || unlinkat(descent.current(), &name, AtFlags::REMOVEDIR);
        match gone(fault::step("tree.remove.folder", folder)) {
            Ok(()) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                refills.count(&descent.path(Some(&name)))?;
                enter(&mut descent, name)?;
            }
            Err(errno) => return Err(remove_error(&descent, &name, errno)),
        }
    }
}

/// Takes one entry away, or makes it the current folder when it is one.
fn remove_or_enter(
    descent: &mut Descent,
    name: CString,
    file_type: FileType,
) -> Result<(), RemovalError> {
    if file_type == FileType::Directory {
        return enter(descent, name);
    }
    let file = || unlinkat(descent.current(), &name, AtFlags::empty());
    match gone(fault::step("tree.remove.file", file)) {
        Ok(()) => Ok(()),
        // The type was unknown, or another entry has taken the name since it was read.
        Err(Errno::ISDIR) => enter(descent, name),
        Err(errno) => Err(remove_error(descent, &name, errno)),
    }
}

/// Makes the folder `name` the current one; what is no folder any more is removed.
fn enter(descent: &mut Descent, name: CString) -> Result<(), RemovalError> {
    match descent.enter(name.clone()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            gone(unlinkat(descent.current(), &name, AtFlags::empty()))
                .map_err(|errno| remove_error(descent, &name, errno))
        }
        Err(Errno::XDEV) => Err(RemovalError::Mounted {
            path: shown(&descent.path(Some(&name))),
        }),
        Err(errno) => Err(RemovalError::Empty {
            path: shown(&descent.path(Some(&name))),
            source: errno.into(),
        }),
    }
}

/// An entry that is not there is as good as removed.
fn gone(answer: Result<(), Errno>) -> Result<(), Errno> {
    match answer {
        Err(Errno::NOENT) => Ok(()),
        answer => answer,
    }
}

fn empty_error(descent: &Descent, errno: Errno) -> RemovalError {
    RemovalError::Empty {
        path: shown(&descent.path(None)),
        source: errno.into(),
    }
}

fn remove_error(descent: &Descent, name: &CStr, errno: Errno) -> RemovalError {
    RemovalError::Remove {
        path: shown(&descent.path(Some(name))),
        source: errno.into(),
    }
}

fn shown(path: &[u8]) -> String {
    quote(&String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{Mode, mkdirat, openat};
    use std::fs::{self, File, Permissions};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn folder(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    fn is_empty(path: &Path) -> bool {
        fs::read_dir(path).unwrap().next().is_none()
    }

    /// Makes a chain of folders `d` below `top`, longer than any path may be.
    fn dig(top: &Path, depth: usize) {
        let mut deepest = folder(top);
        for level in 0..depth {
            mkdirat(&deepest, "d", Mode::from_raw_mode(0o755)).unwrap();
            if level % 100 == 0 {
                mkdirat(&deepest, "aside", Mode::from_raw_mode(0o755)).unwrap();
                openat(
                    &deepest,
                    "zfile",
                    OFlags::CREATE | OFlags::CLOEXEC,
                    Mode::RUSR,
                )
                .unwrap();
            }
            deepest = openat(
                &deepest,
                "d",
                OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .unwrap();
        }
    }

    #[test]
    fn a_tree_ten_thousand_folders_deep_is_removed_from_a_small_stack() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir(outer.path().join("deep")).unwrap();
        dig(&outer.path().join("deep"), 10_000);
        let parent = folder(outer.path());
        std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || remove_tree(parent.as_fd(), "deep").unwrap())
            .unwrap()
            .join()
            .unwrap();
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn the_way_back_from_deep_folders_goes_on_where_reading_stopped() {
        let outer = tempfile::tempdir().unwrap();
        let top = outer.path().join("wide");
        fs::create_dir(&top).unwrap();
        for i in 0..200 {
            let branch = top.join(format!("branch{i}"));
            fs::create_dir(&branch).unwrap();
            fs::write(top.join(format!("file{i}")), b"x").unwrap();
            dig(&branch, 40);
        }
        remove_tree(folder(outer.path()).as_fd(), "wide").unwrap();
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn ten_thousand_entries_in_one_folder_are_removed() {
        let outer = tempfile::tempdir().unwrap();
        let top = outer.path().join("wide");
        fs::create_dir(&top).unwrap();
        for i in 0..10_000 {
            fs::write(top.join(format!("a file with a longer name {i}")), b"").unwrap();
        }
        remove_tree(folder(outer.path()).as_fd(), "wide").unwrap();
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn links_to_the_outside_are_removed_and_their_targets_stay() {
        let outer = tempfile::tempdir().unwrap();
        let outside = outer.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), b"kept").unwrap();
        let top = outer.path().join("tree");
        fs::create_dir(&top).unwrap();
        symlink(&outside, top.join("absolute")).unwrap();
        symlink("../outside", top.join("relative")).unwrap();
        symlink("..", top.join("up")).unwrap();
        symlink("nowhere", top.join("dangling")).unwrap();
        symlink("outside", outer.path().join("link")).unwrap();
        let parent = folder(outer.path());
        remove_tree(parent.as_fd(), "tree").unwrap();
        remove_tree(parent.as_fd(), "link").unwrap();
        assert!(!top.exists());
        assert!(outer.path().join("link").symlink_metadata().is_err());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"kept");
    }

    #[test]
    fn folders_that_nobody_may_enter_are_removed() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("tree/shut/below")).unwrap();
        fs::write(outer.path().join("tree/shut/below/file"), b"x").unwrap();
        for path in [
            "tree/shut/below/file",
            "tree/shut/below",
            "tree/shut",
            "tree",
        ] {
            fs::set_permissions(outer.path().join(path), Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(folder(outer.path()).as_fd(), "tree").unwrap();
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn single_files_and_missing_names_need_no_tree() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("file"), b"x").unwrap();
        let parent = folder(outer.path());
        remove_tree(parent.as_fd(), "file").unwrap();
        remove_tree(parent.as_fd(), "file").unwrap();
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn only_the_name_of_one_entry_is_accepted() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("a/b")).unwrap();
        let parent = folder(&outer.path().join("a"));
        for name in ["", ".", "..", "b/", "../a", "/tmp", "a\0"] {
            assert!(
                matches!(
                    remove_tree(parent.as_fd(), name),
                    Err(RemovalError::NotAName { .. })
                ),
                "{name:?}"
            );
        }
        assert!(outer.path().join("a/b").exists());
    }

    #[test]
    fn entries_that_others_remove_meanwhile_do_not_matter() {
        let outer = tempfile::tempdir().unwrap();
        for i in 0..300 {
            fs::create_dir_all(outer.path().join(format!("tree/{i}/below"))).unwrap();
            fs::write(outer.path().join(format!("tree/{i}/below/file")), b"x").unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| remove_tree(folder(outer.path()).as_fd(), "tree").unwrap());
            }
        });
        assert!(is_empty(outer.path()));
    }

    #[test]
    fn the_error_names_the_path_of_what_could_not_be_removed() {
        // What procfs shows cannot be removed, not even by root.
        let process = folder(Path::new("/proc/self"));
        let error = remove_tree(process.as_fd(), "comm").unwrap_err();
        assert_eq!(error.to_string(), "cannot remove `comm`");
    }
}
