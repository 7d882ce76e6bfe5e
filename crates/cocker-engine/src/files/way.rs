//! Where the paths that a user says lead: what is copied, and the folder and name that it gets.
//!
//! As cp(1) has it. A source that ends in `/` is followed if it is a link, others are copied as links; without a name of its
//! own (`/`, `.`, `..`) it is what is in the folder that counts. A target that is a folder, or a link to one, takes the source
//! into it; any other is the new name itself, and a link in its place is replaced and not followed.

use super::root::Root;
use crate::failure::FilesError;
use cocker_image::CopySource;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whose paths they are.
#[derive(Clone, Copy)]
pub(super) enum Way<'a> {
    /// The host's, which we trust as every other program does.
    Host,
    Inside(&'a Root),
}

/// What a user's path leads to.
pub(super) struct Source {
    pub files: CopySource,
    /// Its own name, if it has one.
    pub name: Option<CString>,
}

impl Source {
    /// What it is called in errors and in archives.
    pub fn called(&self) -> &CStr {
        self.name.as_deref().unwrap_or(c".")
    }
}

/// Where a copy goes.
pub(super) struct Target {
    pub folder: OwnedFd,
    /// None: what is in the source comes into the folder itself.
    pub name: Option<CString>,
}

impl Way<'_> {
    pub fn source(self, path: &Path) -> Result<Source, FilesError> {
        let failed = |source| FilesError::Source {
            path: path.into(),
            source,
        };
        let parts = Parts::of(path);
        let follow = match (&parts.name, parts.is_folder) {
            (Some(_), false) => OFlags::NOFOLLOW,
            _ => OFlags::DIRECTORY,
        };
        let held = self.open(path, OFlags::PATH | follow).map_err(failed)?;
        Ok(Source {
            files: CopySource::of(held).map_err(failed)?,
            name: parts.name,
        })
    }

    /// The place of a copy of `source`.
    pub fn target(self, path: &Path, source: &Source) -> Result<Target, FilesError> {
        let failed = |path: &Path, source| FilesError::Target {
            path: path.into(),
            source,
        };
        let folder = OFlags::PATH | OFlags::DIRECTORY;
        let missing = match self.open(path, folder) {
            Ok(folder) => {
                return Ok(Target {
                    folder,
                    name: source.name.clone(),
                });
            }
            Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => errno,
            Err(errno) => return Err(failed(path, errno)),
        };
        let parts = Parts::of(path);
        // Only a folder can become `D/`.
        let may_be_new = !parts.is_folder || (source.files.is_folder() && missing == Errno::NOENT);
        let name = parts.name.filter(|_| may_be_new);
        let name = name.ok_or_else(|| failed(path, missing))?;
        let folder = self.open(&parts.parent, folder);
        Ok(Target {
            folder: folder.map_err(|errno| failed(&parts.parent, errno))?,
            name: Some(name),
        })
    }

    /// A folder that is there.
    pub fn folder(self, path: &Path) -> Result<OwnedFd, FilesError> {
        let opened = self.open(path, OFlags::PATH | OFlags::DIRECTORY);
        opened.map_err(|source| FilesError::Target {
            path: path.into(),
            source,
        })
    }

    fn open(self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self {
            Way::Host => rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty()),
            Way::Inside(root) => root.open(path, flags),
        }
    }
}

/// A path taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    /// Of the last part; `.` where there is none.
    parent: PathBuf,
    /// None where the last part is no name: `/`, `.`, `..`.
    name: Option<CString>,
    /// Whether it can only be a folder.
    is_folder: bool,
}

impl Parts {
    fn of(path: &Path) -> Parts {
        let bytes = path.as_os_str().as_bytes();
        let end = bytes.iter().rposition(|&byte| byte != b'/');
        let trimmed = &bytes[..end.map_or(0, |end| end + 1)];
        let start = trimmed.iter().rposition(|&byte| byte == b'/');
        let (parent, last) = trimmed.split_at(start.map_or(0, |slash| slash + 1));
        let name = match last {
            b"" | b"." | b".." => None,
            name => CString::new(name).ok(),
        };
        let parent = if parent.is_empty() { b"." } else { parent };
        Parts {
            parent: Path::new(OsStr::from_bytes(parent)).into(),
            is_folder: name.is_none() || trimmed.len() < bytes.len(),
            name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_folder_and_a_name_or_a_folder_alone() {
        for (path, parent, name, is_folder) in [
            ("a", ".", Some(c"a"), false),
            ("/a", "/", Some(c"a"), false),
            ("a/b", "a/", Some(c"b"), false),
            ("/a//b", "/a//", Some(c"b"), false),
            ("a/", ".", Some(c"a"), true),
            ("/a/b//", "/a/", Some(c"b"), true),
            ("/", ".", None, true),
            (".", ".", None, true),
            ("a/.", "a/", None, true),
            ("a/..", "a/", None, true),
            ("a/../", "a/", None, true),
            ("...", ".", Some(c"..."), false),
        ] {
            let expected = Parts {
                parent: parent.into(),
                name: name.map(CString::from),
                is_folder,
            };
            assert_eq!(Parts::of(Path::new(path)), expected, "{path}");
        }
    }
}
