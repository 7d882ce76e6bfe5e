//! A file that appears under its name when it is whole, and of which nothing stays when it is not.

use cocker_sys::fault;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is done with a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfThere {
    Refuse,
    Replace,
}

/// Why a file could not be written. Paths are as the user sees them.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("cannot write `{}`: it exists already", path.display())]
    Exists { path: PathBuf },
    #[error("cannot write `{}`: it is not the name of a file", path.display())]
    NoName { path: PathBuf },
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A file that is being written; it vanishes unless it is published.
pub struct OutputFile {
    path: PathBuf,
    folder: OwnedFd,
    name: OsString,
    /// None: the file has no name yet. Else its name until it is whole, where the file system has no files without one.
    staged: Option<OsString>,
    file: OwnedFd,
    if_there: IfThere,
}

impl OutputFile {
    /// Begins a file that will be called `path` and that only its owner may read: what is in an image is nobody else's.
    pub fn begin(path: &Path, if_there: IfThere) -> Result<OutputFile, OutputError> {
        let failed = |errno: Errno| OutputError::Write {
            path: path.into(),
            source: errno.into(),
        };
        let no_name = || OutputError::NoName { path: path.into() };
        let name = path.file_name().ok_or_else(no_name)?.to_os_string();
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, parent, flags, Mode::empty()).map_err(failed)?;
        if if_there == IfThere::Refuse && is_there(&folder, &name).map_err(failed)? {
            return Err(OutputError::Exists { path: path.into() });
        }
        let (staged, file) = make(&folder, &name).map_err(failed)?;
        Ok(OutputFile {
            path: path.into(),
            folder,
            name,
            staged,
            file,
            if_there,
        })
    }

    /// The open file, with a place of writing of its own that all copies share.
    pub fn file(&self) -> Result<File, OutputError> {
        let copy = self.file.try_clone().map_err(|source| self.failed(source));
        copy.map(File::from)
    }

    /// Brings the file to disk and gives it its name.
    pub fn publish(mut self) -> Result<(), OutputError> {
        let written = fault::step("output.sync", || rustix::fs::fsync(&self.file));
        written.map_err(|errno| self.failed(errno.into()))?;
        let mut exchanged = false;
        let named = match (&self.staged, self.if_there) {
            (None, IfThere::Refuse) => self.link_as(&self.name),
            (None, IfThere::Replace) => {
                let staged = whole_name(&self.name);
                let linked = match self.link_as(&staged) {
                    // One that was killed before the rename has left it.
                    Err(Errno::EXIST) => unlinkat(&self.folder, &staged, AtFlags::empty())
                        .and_then(|()| self.link_as(&staged)),
                    linked => linked,
                };
                if linked.is_ok() {
                    self.staged = Some(staged);
                }
                linked
                    .and_then(|()| self.rename())
                    .map(|is_exchange| exchanged = is_exchange)
            }
            (Some(_), IfThere::Refuse) => self.rename_if_free(),
            (Some(_), IfThere::Replace) => self.rename().map(|is_exchange| exchanged = is_exchange),
        };
        let sync = || rustix::fs::fsync(&self.folder);
        let synced = named.and_then(|()| {
            fault::step("output.sync.folder", sync).inspect_err(|_| self.take_back(exchanged))
        });
        match synced {
            Ok(()) => {
                if !exchanged {
                    self.staged = None;
                }
                Ok(())
            }
            Err(Errno::EXIST) => Err(OutputError::Exists {
                path: self.path.clone(),
            }),
            Err(errno) => Err(self.failed(errno.into())),
        }
    }

    fn link_as(&self, name: &OsString) -> Result<(), Errno> {
        fault::step("output.link", || {
            linkat(&self.file, c"", &self.folder, name, AtFlags::EMPTY_PATH)
        })
    }

    /// Takes the place of what is there, which then has the staged name and goes with it; says whether there was anything.
    fn rename(&self) -> Result<bool, Errno> {
        let staged = self.staged.as_ref().expect("it has a name");
        let exchange = || self.rename_with(staged, RenameFlags::EXCHANGE);
        match fault::step("output.rename", exchange) {
            // Nothing is there, or the file system cannot exchange.
            Err(Errno::NOENT | Errno::INVAL) => {
                renameat(&self.folder, staged, &self.folder, &self.name).map(|()| false)
            }
            exchanged => exchanged.map(|()| true),
        }
    }

    fn rename_with(&self, staged: &OsString, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(&self.folder, staged, &self.folder, &self.name, flags)
    }

    /// What cannot be brought to disk has not been made.
    fn take_back(&self, exchanged: bool) {
        let taken = match &self.staged {
            Some(staged) if exchanged => self.rename_with(staged, RenameFlags::EXCHANGE),
            _ => unlinkat(&self.folder, &self.name, AtFlags::empty()),
        };
        if let Err(errno) = taken {
            tracing::warn!(%errno, path = %self.path.display(), "the file stays");
        }
    }

    fn rename_if_free(&self) -> Result<(), Errno> {
        let staged = self.staged.as_ref().expect("it has a name");
        self.rename_with(staged, RenameFlags::NOREPLACE)
    }

    fn failed(&self, source: io::Error) -> OutputError {
        OutputError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(staged) = &self.staged
            && let Err(errno) = unlinkat(self.folder.as_fd(), staged, AtFlags::empty())
        {
            tracing::warn!(%errno, path = %self.path.display(), "an unfinished file stays");
        }
    }
}

fn is_there(folder: &OwnedFd, name: &OsString) -> Result<bool, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Where the file system can, a file without a name: then nothing stays of it even when we are killed.
fn make(folder: &OwnedFd, name: &OsString) -> Result<(Option<OsString>, OwnedFd), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let nameless = || openat(folder, ".", flags | OFlags::TMPFILE, mode);
    match fault::step("output.make", nameless) {
        Ok(file) => Ok((None, file)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            let staged = staged_name(name);
            let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            let file = openat(folder, &staged, flags, mode)?;
            Ok((Some(staged), file))
        }
        Err(errno) => Err(errno),
    }
}

/// Of a file that is whole, for the moment before it takes its place: one name for all, so that what a dead one has left makes
/// way.
fn whole_name(name: &OsString) -> OsString {
    let mut staged = OsString::from(".");
    staged.push(name);
    staged.push(".new");
    staged
}

fn staged_name(name: &OsString) -> OsString {
    let mut staged = OsString::from(".");
    staged.push(name);
    staged.push(format!(".{}", std::process::id()));
    staged
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn entries(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &[u8], if_there: IfThere) -> Result<(), OutputError> {
        let output = OutputFile::begin(path, if_there)?;
        output.file()?.write_all(text).unwrap();
        output.publish()
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = folder.path().join("image");
        let output = OutputFile::begin(&path, IfThere::Refuse).unwrap();
        output.file().unwrap().write_all(b"half").unwrap();
        drop(output);
        assert!(entries(folder.path()).is_empty());
        write(&path, b"whole", IfThere::Refuse).unwrap();
        assert_eq!(entries(folder.path()), ["image"]);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_name_in_use_is_taken_only_when_that_was_said() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = folder.path().join("image");
        let late = OutputFile::begin(&path, IfThere::Refuse).unwrap();
        write(&path, b"first", IfThere::Refuse).unwrap();
        for refused in [write(&path, b"second", IfThere::Refuse), late.publish()] {
            assert!(matches!(refused, Err(OutputError::Exists { .. })));
        }
        assert_eq!(fs::read(&path).unwrap(), b"first");
        write(&path, b"third", IfThere::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(entries(folder.path()), ["image"]);
    }

    #[test]
    fn the_error_names_the_file() {
        let error = write(Path::new("/no/such/image"), b"", IfThere::Refuse).unwrap_err();
        assert_eq!(error.to_string(), "cannot write `/no/such/image`");
        assert!(matches!(
            OutputFile::begin(Path::new("/"), IfThere::Refuse),
            Err(OutputError::NoName { .. })
        ));
    }
}
