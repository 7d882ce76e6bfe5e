//! Entries of the store's folders: whether they are what may lie there, and nobody else's.

use super::{Finding, shell_word};
use crate::descent::open_again;
use crate::quote::quote;
use crate::repository::is_transfer;
use crate::staging::is_staged;
use crate::{LayerId, Name, Store, StoreError, Version};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, statat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Nobody but the owner may make entries.
const OTHERS_WRITE: u32 = 0o022;

impl Store {
    /// What lies in `layers`, `images`, their names and `containers`, and has no business there.
    pub fn inspect_entries(&self) -> Result<Vec<Finding>, StoreError> {
        let is_layer = |name: &str| LayerId::parse(name).is_ok();
        let is_name = |name: &str| Name::parse(name).is_ok();
        let is_version = |name: &str| Version::parse(name).is_ok();
        let (layers, images) = (self.layers_folder(), self.images_folder());
        let mut findings = self.inspect_entries_of(layers, "layers", is_layer)?;
        findings.extend(self.inspect_entries_of(images, "images", is_name)?);
        let containers = self.containers_folder();
        // The engine's notes of paused ones are called after them.
        let is_container = |name: &str| is_name(name.strip_prefix(".paused-").unwrap_or(name));
        findings.extend(self.inspect_entries_of(containers, "containers", is_container)?);
        let transfers = self.transfers_folder();
        findings.extend(self.inspect_entries_of(transfers, "transfers", is_transfer)?);
        for name in self.image_names()? {
            if let Ok(Some(versions)) = self.open_versions(&name) {
                let folder = format!("images/{name}");
                findings.extend(self.inspect_entries_of(versions.as_fd(), &folder, is_version)?);
            }
        }
        Ok(findings)
    }

    /// The entries of a folder that are not staged and that `belongs` does not take; `shown` is its place in the store.
    pub fn inspect_entries_of(
        &self,
        folder: BorrowedFd<'_>,
        shown: &str,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<Vec<Finding>, StoreError> {
        let entries = entries(folder).map_err(|errno| StoreError::List {
            path: self.home().join(shown),
            source: errno.into(),
        })?;
        let strange = entries
            .iter()
            .filter(|name| !is_staged(name) && !name.to_str().is_ok_and(&belongs));
        Ok(strange
            .map(|name| {
                let path = PathBuf::from(shown).join(OsStr::from_bytes(name.to_bytes()));
                stranger(self, &path)
            })
            .collect())
    }

    /// Takes from others the right to make entries in one of our folders; others' folders stay as they are.
    pub fn close_folder(&self, parent: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match openat(parent, path, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            folder => folder?,
        };
        let stat = fstat(&folder)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        fchmod(
            &folder,
            Mode::from_raw_mode(stat.st_mode & 0o7777 & !OTHERS_WRITE),
        )
    }

    /// The folder `path` below `parent`, for `thing`: a folder of ours that nobody else may change. `None` where nothing is
    /// there; `shown` is its place in the store.
    pub fn inspect_folder(
        &self,
        parent: BorrowedFd<'_>,
        path: &str,
        thing: &str,
        shown: &str,
    ) -> Option<Vec<Finding>> {
        let stat = statat(parent, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let place = self.shown_path(shown);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let what = format!("`{place}` is no folder");
            return Some(vec![Finding::wrong(
                thing,
                what,
                format!("move it out of the store: mv {place} /somewhere/else"),
            )]);
        }
        let mut findings = Vec::new();
        let owner = geteuid().as_raw();
        if stat.st_uid != owner {
            let what = format!("`{place}` belongs to user {}", stat.st_uid);
            findings.push(Finding::wrong(
                thing,
                what,
                format!("chown {owner} {place}"),
            ));
        }
        if stat.st_mode & OTHERS_WRITE != 0 {
            let mode = stat.st_mode & 0o7777;
            let what = format!("`{place}` has mode {mode:04o}, so that others may change it");
            findings.push(Finding::wrong(thing, what, format!("chmod go-w {place}")));
        }
        Some(findings)
    }
}

fn stranger(store: &Store, path: &Path) -> Finding {
    let shown = quote(&path.to_string_lossy());
    let whole = shell_word(&store.home().join(path));
    Finding::wrong(
        format!("entry {shown}"),
        "is not one of cocker's",
        format!("move it out of the store: mv {whole} /somewhere/else"),
    )
}

/// The names in a folder; one that has gone away meanwhile has none.
fn entries(folder: BorrowedFd<'_>) -> Result<Vec<CString>, rustix::io::Errno> {
    let mut names = Vec::new();
    for entry in Dir::new(open_again(folder)?)? {
        let entry = match entry {
            Err(rustix::io::Errno::NOENT) => break,
            entry => entry?,
        };
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}
