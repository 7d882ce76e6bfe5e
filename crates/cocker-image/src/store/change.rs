//! Changes of several names, each whole or not there, whenever its writer dies.
//!
//! ```text
//! $COCKER_HOME/change.json
//!   before       renames that can be taken back
//!   commit       the one rename that decides: made or not made is told by the folder's inode
//!   afterwards   renames and unlinks that follow it whatever happens, each of which may be done twice
//! ```
//!
//! The record is on disk before the first rename and is removed after the last. Only the holder of the store's lock writes
//! one, so whoever takes the lock and finds one knows that its writer is dead: where the commit was made, what comes
//! afterwards is done, else what came before is taken back, newest first. Both may be done twice.
//! What is one rename and no more needs no record.
//! Nothing here knows what the folders hold. Paths are relative to the home and written by cocker alone; no link is followed.

use super::publication::sync;
use super::record::{self, FORMAT};
use super::{LAYERS, Store, StoreError, StoreLock};
use crate::LayerId;
use crate::descent::open_beneath;
use crate::removal::remove_tree;
use crate::staging::{self, is_staging_name};
use cocker_sys::fault;
use rustix::fs::{
    AtFlags, Dir, FlockOperation, Mode, OFlags, RenameFlags, flock, mkdirat, renameat_with, statat,
    unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

const RECORD: &str = "change.json";
pub(super) const STAGED_RECORD: &str = ".new-change.json";

/// A folder gets another name; nothing that bears the new name already is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rename {
    pub from: String,
    pub to: String,
}

impl Rename {
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Rename {
        Rename {
            from: from.into(),
            to: to.into(),
        }
    }
}

/// What decides a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Commit {
    /// One end is a name that everybody sees, the other a staged or leaving one. The folder of versions of an image is
    /// made where it is missing, and removed where it is left empty.
    Rename(Rename),
    /// `from`, a staged folder, and `to` change places at one instant.
    Exchange(Rename),
}

/// What follows a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    Rename(Rename),
    /// A file takes the place of the one that bears its new name, if any does.
    Replace(Rename),
    Unlink(String),
}

/// A change, as data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub before: Vec<Rename>,
    pub commit: Commit,
    pub afterwards: Vec<Afterwards>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangeJson {
    format: u32,
    /// Of the folders that come before, and last of the one that the commit renames: by them it is told what was done.
    inodes: Vec<u64>,
    #[serde(flatten)]
    change: Change,
}

impl record::Record for ChangeJson {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Change {
    /// The commit's rename and those that follow it.
    fn decided(&self) -> impl Iterator<Item = &Rename> {
        let afterwards = self.afterwards.iter().filter_map(|step| match step {
            Afterwards::Rename(rename) | Afterwards::Replace(rename) => Some(rename),
            Afterwards::Unlink(_) => None,
        });
        [self.commit.rename()].into_iter().chain(afterwards)
    }
}

impl Change {
    /// Whether all that it does is that folders leave their names, and links go.
    fn only_removes(&self) -> bool {
        let leaves = |rename: &Rename| is_staging_name(leaf(&rename.to));
        let is_removal = |step: &Afterwards| match step {
            Afterwards::Rename(rename) => leaves(rename),
            Afterwards::Unlink(_) => true,
            Afterwards::Replace(_) => false,
        };
        self.before.is_empty()
            && matches!(&self.commit, Commit::Rename(commit) if leaves(commit))
            && self.afterwards.iter().all(is_removal)
    }
}

/// Room on the disk, or what the user may have of it.
fn is_for_want_of_room(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT)
    )
}

impl Commit {
    pub(super) fn rename(&self) -> &Rename {
        match self {
            Commit::Rename(rename) | Commit::Exchange(rename) => rename,
        }
    }
}

impl Afterwards {
    /// Has a folder of the home leave its name for one that a sweep takes.
    pub fn leave(path: impl Into<String>) -> Result<Afterwards, StoreError> {
        leaving(path.into()).map(Afterwards::Rename)
    }

    /// Has layers leave their names, the highest of them (lowest first) first.
    pub fn leave_layers<'a>(
        layers: impl DoubleEndedIterator<Item = &'a LayerId>,
    ) -> Result<Vec<Afterwards>, StoreError> {
        let leave = |layer: &LayerId| Afterwards::leave(format!("{LAYERS}/{layer}"));
        layers.rev().map(leave).collect()
    }
}

/// Folders that have left their names; removed by drop. What cannot be removed is in nobody's way and swept later.
#[must_use = "dropping it removes files, which is not done under the store's lock"]
pub struct Leaving(Vec<LeftFolder>);

struct LeftFolder {
    parent: OwnedFd,
    name: String,
    _lock: Option<OwnedFd>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for LeftFolder { parent, name, .. } in &self.0 {
            if let Err(error) = remove_tree(parent.as_fd(), name) {
                tracing::warn!(error = &error as &dyn std::error::Error, "`{name}` stays");
            }
        }
    }
}

impl Store {
    /// Makes a change. On failure it has not been made; once this returns, it survives power loss.
    ///
    /// Returns the folders that have left their names by it, which are removed when that is dropped: the long part, for
    /// which the store's lock is not needed.
    pub fn carry_out(&self, _names: &StoreLock, change: &Change) -> Result<Leaving, StoreError> {
        let leaving = self.claim_leaving(change);
        if self.is_one_rename(change) {
            let made = self.make(change);
            let tidied = self.tidy(change);
            made?;
            if let Err(error) = tidied {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an empty folder stays"
                );
            }
            tracing::debug!(?change, "changed one name");
            return Ok(leaving);
        }
        let record = self.record_of(change)?;
        match self.write_change(&record) {
            // What only removes must be possible there as well. Whoever dies in the middle of it leaves layers to prune.
            Err(StoreError::WriteChange { source })
                if change.only_removes() && is_for_want_of_room(&source) =>
            {
                tracing::debug!("no room for the record of a removal: {source}");
            }
            written => written?,
        }
        if let Err(error) = self.make(change) {
            // The first error stays the one that is told; the next command tries again.
            if let Err(left) = self.settle_change() {
                tracing::warn!(
                    error = &left as &dyn std::error::Error,
                    "a change stays half-way"
                );
            }
            return Err(error);
        }
        // Decided, and on disk: whoever sees the record brings it to its end. We are the first to try once more.
        if self.follow(change).is_ok() {
            self.forget_change();
        } else if let Err(left) = self.settle_change() {
            tracing::warn!(
                error = &left as &dyn std::error::Error,
                "a change stays half-way"
            );
        }
        tracing::debug!(?change, "changed names");
        Ok(leaving)
    }

    /// Then it is whole or not there without a record: nothing else is made or left empty by it.
    fn is_one_rename(&self, change: &Change) -> bool {
        let Rename { from, to } = change.commit.rename();
        let is_alone = change.before.is_empty() && change.afterwards.is_empty();
        is_alone
            && [from, to].into_iter().all(|path| {
                folder_of_versions(path)
                    .is_none_or(|versions| self.has_other_version(versions, leaf(path)))
            })
    }

    fn has_other_version(&self, versions: &str, version: &str) -> bool {
        let entries = self.open_folder(versions).and_then(Dir::read_from);
        let mut names = entries.into_iter().flatten().flatten();
        names.any(|entry| {
            let name = entry.file_name().to_bytes();
            !name.starts_with(b".") && name != version.as_bytes()
        })
    }

    /// Locks what will leave its name, so that nobody takes it for a leftover while it is removed.
    fn claim_leaving(&self, change: &Change) -> Leaving {
        let decided = change.decided();
        let leaving = decided.filter(|rename| is_staging_name(leaf(&rename.to)));
        let claim = |rename: &Rename| {
            let name = leaf(&rename.to).to_owned();
            let parent = self.open_parent(&rename.to).ok()?;
            let folder = self.open_folder(&rename.from).ok();
            // Who holds the lock already is whoever has this change made.
            let lock = folder
                .filter(|folder| flock(folder, FlockOperation::NonBlockingLockExclusive).is_ok());
            Some(LeftFolder {
                parent,
                name,
                _lock: lock,
            })
        };
        Leaving(leaving.filter_map(claim).collect())
    }

    /// Ends a change whose writer has died; says whether there was one.
    pub(super) fn settle_change(&self) -> Result<bool, StoreError> {
        let path = self.home.join(RECORD);
        let name = CString::new(RECORD).expect("it holds no NUL");
        let Some(record) = record::read::<ChangeJson>(self.folder.as_fd(), &name, &path)? else {
            // One that was being written when its writer died.
            let _ = unlinkat(&self.folder, STAGED_RECORD, AtFlags::empty());
            return Ok(false);
        };
        let change = &record.change;
        if self.is_committed(&record)? {
            tracing::debug!(?change, "ending a change that was left half-way");
            self.follow(change)?;
        } else {
            tracing::debug!(?change, "taking back a change that was left half-way");
            self.take_back(&record)?;
        }
        self.forget_change();
        Ok(true)
    }

    /// Whether a change is under way or was left half-way: who sees one waits for the lock on names first.
    pub fn is_changing(&self) -> bool {
        statat(&self.folder, RECORD, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(super) fn record_of(&self, change: &Change) -> Result<ChangeJson, StoreError> {
        let renames = change.before.iter().chain([change.commit.rename()]);
        let inode = |rename: &Rename| {
            let folder = statat(&self.folder, &rename.from, AtFlags::SYMLINK_NOFOLLOW);
            folder
                .map(|folder| folder.st_ino)
                .map_err(|errno| rename_error(rename, errno))
        };
        Ok(ChangeJson {
            format: FORMAT,
            inodes: renames.map(inode).collect::<Result<_, _>>()?,
            change: change.clone(),
        })
    }

    pub(super) fn write_change(&self, record: &ChangeJson) -> Result<(), StoreError> {
        let failed = |source| StoreError::WriteChange { source };
        // What a dead writer left of its record, before it had its name.
        let _ = unlinkat(&self.folder, STAGED_RECORD, AtFlags::empty());
        record::write(self.folder.as_fd(), STAGED_RECORD, record)
            .and_then(|file| fault::step("change.sync", || file.sync_all()))
            .map_err(failed)?;
        fault::step("change.begin", || {
            rustix::fs::renameat(&self.folder, STAGED_RECORD, &self.folder, RECORD)
        })
        .map_err(|errno| failed(errno.into()))?;
        sync(self.folder.as_fd(), self.home.clone())
    }

    /// On disk as well: a record that came back after a power cut would be taken for one of now.
    fn forget_change(&self) {
        let unlink = || unlinkat(&self.folder, RECORD, AtFlags::empty());
        let forgotten =
            fault::step("change.end", unlink).and_then(|()| rustix::fs::fsync(&self.folder));
        if let Err(errno) = forgotten {
            tracing::warn!(%errno, "cannot remove `{RECORD}`");
        }
    }

    fn make(&self, change: &Change) -> Result<(), StoreError> {
        for rename in &change.before {
            self.rename(rename, RenameFlags::NOREPLACE)?;
        }
        // In this order on disk as well: who finds the commit after a power cut finds all that it stands on.
        self.sync_parents(change.before.iter())?;
        let (commit, flags) = match &change.commit {
            Commit::Rename(commit) => (commit, RenameFlags::NOREPLACE),
            Commit::Exchange(commit) => (commit, RenameFlags::EXCHANGE),
        };
        if let Some(versions) = folder_of_versions(&commit.to) {
            let make = || mkdirat(&self.folder, versions, Mode::RWXU);
            match fault::step("change.versions", make) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(rename_error(commit, errno)),
            }
        }
        self.rename(commit, flags)?;
        self.sync_parents([commit].into_iter())
            .inspect_err(|_| self.undo(commit, flags))
    }

    /// What cannot be brought to disk has not been made.
    fn undo(&self, commit: &Rename, flags: RenameFlags) {
        let back = Rename::new(&commit.to, &commit.from);
        if let Err(error) = self.rename(&back, flags) {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot undo it");
        }
    }

    /// Newest first, and no further than to the first that fails: an older rename may hold what a newer one brought.
    fn take_back(&self, record: &ChangeJson) -> Result<(), StoreError> {
        let renames = record.change.before.iter().zip(&record.inodes);
        for (Rename { from, to }, inode) in renames.rev() {
            if self.bears(to, *inode)? {
                self.rename(&Rename::new(to, from), RenameFlags::NOREPLACE)?;
            }
        }
        self.tidy(&record.change)
    }

    fn follow(&self, change: &Change) -> Result<(), StoreError> {
        for step in &change.afterwards {
            match step {
                Afterwards::Rename(rename) => {
                    self.rename_if_there(rename, RenameFlags::NOREPLACE)?;
                }
                Afterwards::Replace(rename) => {
                    self.rename_if_there(rename, RenameFlags::empty())?;
                }
                Afterwards::Unlink(path) => {
                    let unlink = || unlinkat(&self.folder, path.as_str(), AtFlags::empty());
                    match fault::step("change.unlink", unlink) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(source) => {
                            let path = self.home.join(path);
                            return Err(StoreError::Unlink { path, source });
                        }
                    }
                }
            }
        }
        self.tidy(change)?;
        // Before the record goes: a file system need not bring to disk what was done in other folders before that.
        self.sync_parents(change.decided().skip(1))
    }

    /// What is not there was renamed before, by whoever died, or never got there.
    fn rename_if_there(&self, rename: &Rename, flags: RenameFlags) -> Result<(), StoreError> {
        match statat(&self.folder, &rename.from, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => self.rename(rename, flags),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(rename_error(rename, errno)),
        }
    }

    fn is_committed(&self, record: &ChangeJson) -> Result<bool, StoreError> {
        let inode = record.inodes.last().copied().unwrap_or_default();
        // A staging name tells nothing: a sweep may have taken what bore it.
        match &record.change.commit {
            Commit::Rename(commit) if is_staging_name(leaf(&commit.to)) => {
                self.bears(&commit.from, inode).map(|is_there| !is_there)
            }
            Commit::Rename(commit) | Commit::Exchange(commit) => self.bears(&commit.to, inode),
        }
    }

    /// Whether what has this name is the folder with this inode.
    fn bears(&self, path: &str, inode: u64) -> Result<bool, StoreError> {
        match statat(&self.folder, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(found.st_ino == inode),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(rename_error(&Rename::new(path, path), errno)),
        }
    }

    /// Removes the folders of versions that a change has left empty.
    fn tidy(&self, change: &Change) -> Result<(), StoreError> {
        for Rename { from, to } in change.decided() {
            for versions in [from, to]
                .into_iter()
                .filter_map(|path| folder_of_versions(path))
            {
                self.remove_empty(leaf(versions))
                    .map_err(|source| StoreError::Unlink {
                        path: self.home.join(versions),
                        source,
                    })?;
            }
        }
        Ok(())
    }

    /// An empty folder of versions means nothing, whoever made it; says whether one was removed.
    pub fn remove_if_empty(&self, image: &str) -> bool {
        self.remove_empty(image).unwrap_or_else(|errno| {
            tracing::warn!(%errno, image, "cannot remove the empty folder of an image");
            false
        })
    }

    fn remove_empty(&self, image: &str) -> Result<bool, Errno> {
        let remove = || unlinkat(&self.images, image, AtFlags::REMOVEDIR);
        match fault::step("change.tidy", remove) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn rename(&self, rename: &Rename, flags: RenameFlags) -> Result<(), StoreError> {
        let failed = |errno| rename_error(rename, errno);
        let from = self.open_parent(&rename.from).map_err(failed)?;
        let to = self.open_parent(&rename.to).map_err(failed)?;
        let (from, to) = ((&from, leaf(&rename.from)), (&to, leaf(&rename.to)));
        let rename = || renameat_with(from.0, from.1, to.0, to.1, flags);
        fault::step("change.rename", rename).map_err(failed)
    }

    /// A folder that has left its name meanwhile means nothing any more.
    fn sync_parents<'a>(
        &self,
        renames: impl Iterator<Item = &'a Rename>,
    ) -> Result<(), StoreError> {
        let ends = renames.flat_map(|rename| [&rename.from, &rename.to]);
        let parents: BTreeSet<&str> = ends.map(|path| parent(path)).collect();
        for path in parents {
            match self.open_folder(path) {
                Ok(folder) => sync(folder.as_fd(), self.home.join(path))?,
                Err(Errno::NOENT) => {}
                Err(errno) => {
                    return Err(StoreError::OpenFolder {
                        path: self.home.join(path),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    fn open_parent(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open_folder(parent(path))
    }

    fn open_folder(&self, path: &str) -> Result<OwnedFd, Errno> {
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        open_beneath(self.folder.as_fd(), &path, flags)
    }
}

/// The rename by which a folder leaves its name: to `.gone-<id>` beside it, or above where it lies two levels deep.
pub(super) fn leaving(from: String) -> Result<Rename, StoreError> {
    let top = from.split('/').next().unwrap_or_default();
    let name = staging::leaving_name().map_err(|source| StoreError::Stage {
        path: top.into(),
        source,
    })?;
    let to = format!("{top}/{name}");
    Ok(Rename { from, to })
}

fn rename_error(rename: &Rename, errno: Errno) -> StoreError {
    StoreError::ChangeName {
        from: rename.from.clone(),
        to: rename.to.clone(),
        source: errno,
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(parent, _)| parent)
}

fn leaf(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, leaf)| leaf)
}

/// `images/<name>` of `images/<name>/<version>`.
fn folder_of_versions(path: &str) -> Option<&str> {
    let parent = parent(path);
    (parent.starts_with("images/")).then_some(parent)
}
