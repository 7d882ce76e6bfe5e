//! Carries a plan out: makes folders, links and files below one descriptor.
//!
//! Each folder is opened below the tree's descriptor without following any link, so nothing can be written outside,
//! whatever the host's links say. No device, fifo or socket is ever made.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
        fchmod, fchown, fgetxattr, fsetxattr, fstat, futimens, ioctl_ficlone, linkat, mkdirat,
        openat, openat2, symlinkat,
    },
    io::Errno,
    path::Arg,
};

use super::{
    HostImageError,
    host::{Host, HostFile, Identity},
    plan::{Entry, Plan},
};

const FOLDER_MODE: u32 = 0o755;

/// The largest that the kernel takes for `security.capability` (struct vfs_ns_cap_data) fits with room.
const CAPABILITY_AT_MOST: usize = 256;

const CAPABILITY: &str = "security.capability";

/// Makes everything that `plan` names in the empty folder `tree`; copies are taken from `host`.
pub(super) fn apply(plan: &Plan, host: &Host, tree: BorrowedFd<'_>) -> Result<(), HostImageError> {
    let mut writer = Writer::new(host, tree)?;
    for (path, entry) in plan.entries() {
        match entry {
            Entry::Folder { mode } => writer.make_folder(path, *mode)?,
            Entry::Link { target } => writer.make_link(path, target)?,
            Entry::Copy(file) => writer.copy(path, file)?,
            Entry::Text { content, mode } => writer.write(path, content, *mode)?,
        }
    }
    Ok(())
}

struct Writer<'a> {
    host: &'a Host,
    tree: BorrowedFd<'a>,
    /// The folder that was used last: a plan is sorted, so the next entry mostly lies there too.
    open: (PathBuf, OwnedFd),
    /// The first name of each file, for its further names.
    names: HashMap<Identity, PathBuf>,
}

impl<'a> Writer<'a> {
    fn new(host: &'a Host, tree: BorrowedFd<'a>) -> Result<Self, HostImageError> {
        let root = Path::new("/");
        let open = open_below(tree, root)
            .and_then(|folder| {
                own(&folder, FOLDER_MODE)?;
                Ok(folder)
            })
            .map_err(|source| make_folder_error(root, source))?;
        Ok(Self {
            host,
            tree,
            open: (root.to_path_buf(), open),
            names: HashMap::new(),
        })
    }

    fn make_folder(&mut self, path: &Path, mode: u32) -> Result<(), HostImageError> {
        self.enter(path)?;
        own(&self.open.1, mode).map_err(|source| make_folder_error(path, source))
    }

    fn make_link(&mut self, path: &Path, target: &Path) -> Result<(), HostImageError> {
        let (folder, name) = self.folder_and_name(path)?;
        symlinkat(target, folder, name).map_err(|source| HostImageError::MakeLink {
            path: path.to_path_buf(),
            source: source.into(),
        })
    }

    fn write(&mut self, path: &Path, content: &str, mode: u32) -> Result<(), HostImageError> {
        let (folder, name) = self.folder_and_name(path)?;
        create(folder, name)
            .and_then(|mut file| {
                file.write_all(content.as_bytes())?;
                own(&file, mode)?;
                Ok(())
            })
            .map_err(|source| HostImageError::WriteFile {
                path: path.to_path_buf(),
                source,
            })
    }

    fn copy(&mut self, path: &Path, file: &HostFile) -> Result<(), HostImageError> {
        if let Some(first) = self.names.get(&file.identity).cloned() {
            return self.make_hard_link(&first, path);
        }
        let from = self
            .host
            .open(path)
            .map_err(|source| HostImageError::ReadHost {
                path: path.to_path_buf(),
                source,
            })?;
        let (folder, name) = self.folder_and_name(path)?;
        create(folder, name)
            .and_then(|to| copy_file(from, to))
            .map_err(|source| HostImageError::WriteFile {
                path: path.to_path_buf(),
                source,
            })?;
        self.names.insert(file.identity, path.to_path_buf());
        Ok(())
    }

    fn make_hard_link(&mut self, first: &Path, path: &Path) -> Result<(), HostImageError> {
        let tree = self.tree;
        let (folder, name) = self.folder_and_name(path)?;
        open_below(tree, first.parent().unwrap_or(Path::new("/")))
            .and_then(|first_folder| {
                let first_name = first.file_name().unwrap_or_default();
                let flags = AtFlags::empty();
                Ok(linkat(first_folder, first_name, folder, name, flags)?)
            })
            .map_err(|source| HostImageError::MakeLink {
                path: path.to_path_buf(),
                source,
            })
    }

    /// The open folder that `path` lies in, made where it is missing, and the last name of `path`.
    fn folder_and_name<'p>(
        &mut self,
        path: &'p Path,
    ) -> Result<(BorrowedFd<'_>, &'p Path), HostImageError> {
        self.enter(path.parent().unwrap_or(Path::new("/")))?;
        let name = Path::new(path.file_name().unwrap_or_default());
        Ok((self.open.1.as_fd(), name))
    }

    /// Opens the folder `path`; makes it and its parents where they are missing.
    fn enter(&mut self, path: &Path) -> Result<(), HostImageError> {
        if self.open.0 == path {
            return Ok(());
        }
        let folder = match open_below(self.tree, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.enter(path.parent().unwrap_or(Path::new("/")))?;
                self.make_inside(path)
            }
            opened => opened,
        };
        let folder = folder.map_err(|source| make_folder_error(path, source))?;
        self.open = (path.to_path_buf(), folder);
        Ok(())
    }

    /// Makes the folder `path` whose parent is open.
    fn make_inside(&self, path: &Path) -> io::Result<OwnedFd> {
        let name = path.file_name().unwrap_or_default();
        mkdirat(&self.open.1, name, Mode::RWXU)?;
        let folder = open_below(self.tree, path)?;
        // The umask has had its say on the mode above; this one is meant.
        own(&folder, FOLDER_MODE)?;
        Ok(folder)
    }
}

/// Opens the folder `path` below `tree`. No part of a plan's path is a link, so following one is refused.
fn open_below(tree: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let inside = match path.strip_prefix("/").unwrap_or(path) {
        empty if empty == Path::new("") => Path::new("."),
        inside => inside,
    };
    Ok(openat2(
        tree,
        inside,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
    )?)
}

fn create(folder: BorrowedFd<'_>, name: impl Arg) -> io::Result<File> {
    let file = openat(
        folder,
        name,
        OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    )?;
    Ok(File::from(file))
}

/// Copies content, mode, time and file capabilities of `from`.
fn copy_file(mut from: File, mut to: File) -> io::Result<()> {
    let status = fstat(&from)?;
    // Sharing the blocks costs nothing where the file system can; else the standard library lets the kernel copy
    // within itself, and reads and writes only where that fails too.
    if ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut from, &mut to)?;
    }
    own(&to, status.st_mode)?;
    copy_capability(&from, &to);
    futimens(&to, &modification_time(&status))?;
    Ok(())
}

/// Copies the file capabilities that `ping` and its like may have; without them the program still serves root, so a
/// file system that cannot keep them is no failure. Comes after the change of owner, which would drop them.
fn copy_capability(from: &File, to: &File) {
    let mut value = [0; CAPABILITY_AT_MOST];
    let copied = match fgetxattr(from, CAPABILITY, &mut value) {
        Ok(length) => fsetxattr(to, CAPABILITY, &value[..length], XattrFlags::empty()),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        tracing::debug!(%error, "file capabilities not copied");
    }
}

/// Gives a file or folder to root. The mode comes after the owner: a change of owner takes set-id bits away.
fn own(file: impl AsFd, mode: u32) -> io::Result<()> {
    fchown(&file, Some(Uid::ROOT), Some(Gid::ROOT))?;
    fchmod(&file, Mode::from_bits_truncate(mode & 0o7777))?;
    Ok(())
}

fn modification_time(status: &Stat) -> Timestamps {
    let time = Timespec {
        tv_sec: status.st_mtime,
        tv_nsec: status.st_mtime_nsec.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn make_folder_error(path: &Path, source: io::Error) -> HostImageError {
    HostImageError::MakeFolder {
        path: path.to_path_buf(),
        source,
    }
}
