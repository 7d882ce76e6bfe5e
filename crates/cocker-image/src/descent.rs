//! A walk through a tree of files, by directory descriptors only.
//!
//! The tree may have been written by an enemy: it may be deeper than descriptors or a stack would last, wider than
//! memory, and change while it is walked. No symbolic link is followed and no mount is crossed; nothing is decided
//! here about the entries, which are removed, measured or read by who walks.
//!
//! Only the deepest 32 folders are open and have entries in memory. For those above, three numbers are kept: who
//! they are (device and inode) and where reading stopped. The way back to such a folder is `..` of the one below
//! it, and what is found there must be the remembered folder.
//!
//! A sorted walk sees the names of each folder in the order of their bytes. It keeps the first names after the last one
//! that was seen, as many as fit into a bound for all open folders, and reads the folder again for those that did not.

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, fstat, openat, openat2, seek,
    statat,
};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How many folders are open at once.
const OPEN_LEVELS: usize = 32;
/// Bytes of directory entries read at once.
const ENTRY_BYTES: usize = 32 * 1024;

/// Bytes that the names of one folder may take in memory in a sorted walk, and those of all open folders together.
const SORTED_BYTES: usize = 8 * 1024 * 1024;
const ALL_SORTED_BYTES: usize = 2 * SORTED_BYTES;
/// What an entry takes besides its name, about.
const ENTRY_OVERHEAD: usize = size_of::<Entry>() + 16;

/// One entry of the current folder. Its type is the folder's word and may be out of date.
pub(crate) struct Entry {
    pub name: CString,
    pub file_type: FileType,
    /// Where reading goes on after this entry.
    next: u64,
}

/// The way from the top of a tree to the current folder.
pub(crate) struct Descent {
    levels: Vec<Level>,
    buffer: Vec<u8>,
    is_sorted: bool,
}

struct Level {
    /// `None` while the folder lies too far above the current one.
    folder: Option<OwnedFd>,
    identity: Identity,
    name: CString,
    unread: VecDeque<Entry>,
    position: u64,
    sorted: Sorted,
}

/// How far a sorted walk has come in a folder.
#[derive(Default)]
struct Sorted {
    /// The last name that was seen.
    after: Option<CString>,
    /// Whether all names after those in memory have been seen.
    is_complete: bool,
    /// Bytes that the names in memory took when they were read.
    bytes: usize,
}

/// Which folder it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Descent {
    /// Starts in `top`, an open folder; `name` is what it is called in paths.
    pub fn new(top: OwnedFd, name: CString) -> Result<Descent, Errno> {
        Ok(Descent {
            levels: vec![Level::new(top, name)?],
            buffer: Vec::with_capacity(ENTRY_BYTES),
            is_sorted: false,
        })
    }

    /// The same for a walk that sees each folder's names in the order of their bytes.
    pub fn sorted(top: OwnedFd, name: CString) -> Result<Descent, Errno> {
        Ok(Descent {
            is_sorted: true,
            ..Descent::new(top, name)?
        })
    }

    /// The folder that is being read.
    pub fn current(&self) -> BorrowedFd<'_> {
        self.deepest()
            .folder
            .as_ref()
            .expect("the deepest folder is always open")
            .as_fd()
    }

    /// Which folder that is.
    pub fn identity(&self) -> Identity {
        self.deepest().identity
    }

    /// How many folders there are from the top to it.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The next entry of the current folder; `None` at its end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Errno> {
        loop {
            let level = self.levels.last_mut().expect("the top is never left");
            if let Some(entry) = level.unread.pop_front() {
                if self.is_sorted {
                    level.sorted.after = Some(entry.name.clone());
                } else {
                    level.position = entry.next;
                }
                return Ok(Some(entry));
            }
            let has_more = match self.is_sorted {
                true => self.read_sorted()?,
                false => self.read_entries()?,
            };
            if !has_more {
                return Ok(None);
            }
        }
    }

    /// Goes into the folder `name` of the current one. On failure the current folder stays the same:
    /// NOENT it is gone, NOTDIR or LOOP it is no folder, XDEV something is mounted there.
    pub fn enter(&mut self, name: CString) -> Result<(), Errno> {
        let folder = open_beneath(
            self.current(),
            &name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        )?;
        self.levels.push(Level::new(folder, name)?);
        if let Some(far) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[far].folder = None;
            self.levels[far].forget();
        }
        Ok(())
    }

    /// Goes back up and returns the name of the folder that was left; `None` at the top, which is never left.
    /// STALE where the folder was moved away from its parent meanwhile.
    pub fn leave(&mut self) -> Result<Option<CString>, Errno> {
        let Some(above) = self.levels.len().checked_sub(2) else {
            return Ok(None);
        };
        if self.levels[above].folder.is_none() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = openat(self.current(), c"..", flags, Mode::empty())?;
            if Identity::of(folder.as_fd())? != self.levels[above].identity {
                return Err(Errno::STALE);
            }
            seek(&folder, SeekFrom::Start(self.levels[above].position))?;
            self.levels[above].folder = Some(folder);
        }
        Ok(self.levels.pop().map(|level| level.name))
    }

    /// Where the current folder is, seen from the folder that holds the top; with `leaf`, one of its entries.
    pub fn path(&self, leaf: Option<&CStr>) -> Vec<u8> {
        let names = self
            .levels
            .iter()
            .map(|level| level.name.as_c_str())
            .chain(leaf);
        names.map(CStr::to_bytes).collect::<Vec<_>>().join(&b'/')
    }

    fn deepest(&self) -> &Level {
        self.levels.last().expect("the top is never left")
    }

    /// Reads the next names in their order; false when there are no more.
    fn read_sorted(&mut self) -> Result<bool, Errno> {
        let level = self.levels.last_mut().expect("the top is never left");
        if level.sorted.is_complete {
            return Ok(false);
        }
        let folder = level
            .folder
            .as_ref()
            .expect("the deepest folder is always open");
        seek(folder, SeekFrom::Start(0))?;
        let mut names = Names::default();
        while self.read_entries()? {
            let level = self.levels.last_mut().expect("the top is never left");
            for entry in level.unread.drain(..) {
                if level
                    .sorted
                    .after
                    .as_ref()
                    .is_none_or(|after| entry.name > *after)
                {
                    names.add(entry);
                }
            }
        }
        let level = self.levels.last_mut().expect("the top is never left");
        level.sorted.is_complete = names.end.is_none();
        level.sorted.bytes = names.bytes;
        level.unread = names.finish().into();
        let any = !level.unread.is_empty();
        self.bound_names();
        Ok(any)
    }

    /// Forgets names of folders, topmost first, while all together take too much.
    fn bound_names(&mut self) {
        let mut bytes: usize = self.levels.iter().map(|level| level.sorted.bytes).sum();
        let (_, above) = self.levels.split_last_mut().expect("the top is never left");
        for level in above.iter_mut().filter(|level| level.sorted.bytes > 0) {
            if bytes <= ALL_SORTED_BYTES {
                break;
            }
            bytes -= level.sorted.bytes;
            level.forget();
        }
    }

    /// Reads one buffer of entries; false at the folder's end.
    fn read_entries(&mut self) -> Result<bool, Errno> {
        let level = self.levels.last_mut().expect("the top is never left");
        let folder = level
            .folder
            .as_ref()
            .expect("the deepest folder is always open");
        self.buffer.clear();
        let mut entries = RawDir::new(folder, self.buffer.spare_capacity_mut());
        let mut any = false;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // A folder that was removed while it was open has nothing more to say.
                Err(Errno::NOENT) => return Ok(false),
                Err(errno) => return Err(errno),
            };
            any = true;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                level.unread.push_back(Entry {
                    name: entry.file_name().into(),
                    file_type: entry.file_type(),
                    next: entry.next_entry_cookie(),
                });
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(any)
    }
}

impl Level {
    fn new(folder: OwnedFd, name: CString) -> Result<Level, Errno> {
        let identity = Identity::of(folder.as_fd())?;
        Ok(Level {
            folder: Some(folder),
            identity,
            name,
            unread: VecDeque::new(),
            position: 0,
            sorted: Sorted::default(),
        })
    }

    /// Drops what was read and not yet seen; it will be read again.
    fn forget(&mut self) {
        self.unread = VecDeque::new();
        self.sorted.is_complete = false;
        self.sorted.bytes = 0;
    }
}

/// The first names of a folder, as many as fit.
#[derive(Default)]
struct Names {
    entries: Vec<Entry>,
    bytes: usize,
    /// The first name that did not fit; no later one is taken.
    end: Option<CString>,
}

impl Names {
    fn add(&mut self, entry: Entry) {
        if self.end.as_ref().is_some_and(|end| entry.name >= *end) {
            return;
        }
        self.bytes += cost(&entry);
        self.entries.push(entry);
        // Sorting only when twice as much is there makes one sort for many names.
        if self.bytes > 2 * SORTED_BYTES {
            self.cut();
        }
    }

    /// Keeps the names that come first.
    fn cut(&mut self) {
        self.entries
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        while self.bytes > SORTED_BYTES {
            let Some(last) = self.entries.pop() else {
                break;
            };
            self.bytes -= cost(&last);
            self.end = Some(last.name);
        }
    }

    fn finish(mut self) -> Vec<Entry> {
        self.entries
            .sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.entries
    }
}

fn cost(entry: &Entry) -> usize {
    entry.name.as_bytes().len() + ENTRY_OVERHEAD
}

impl Identity {
    pub fn of(folder: BorrowedFd<'_>) -> Result<Identity, Errno> {
        let stat = fstat(folder)?;
        Ok(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        })
    }
}

/// Whether `name` in `parent` is still the open `folder`.
pub(crate) fn is_named(
    parent: BorrowedFd<'_>,
    name: &CStr,
    folder: BorrowedFd<'_>,
) -> Result<bool, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Identity {
            device: stat.st_dev,
            inode: stat.st_ino,
        } == Identity::of(folder)?),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens what `path` names below `parent`, close-on-exec, following no link and crossing no mount.
pub(crate) fn open_beneath(
    parent: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    open_below(parent, path, flags, ResolveFlags::NO_XDEV)
}

/// The same for what may be a mount of its own.
pub(crate) fn open_beneath_or_mounted(
    parent: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    open_below(parent, path, flags, ResolveFlags::empty())
}

fn open_below(
    parent: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match openat2(
            parent,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            // The kernel could not tell whether a rename elsewhere led outside; openat2(2) says to ask again.
            Err(Errno::AGAIN | Errno::INTR) => continue,
            answer => return answer,
        }
    }
}

/// Opens an own view of an open folder, with its own place of reading.
pub(crate) fn open_again(folder: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(
        folder,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, create_dir, create_dir_all};

    /// All paths of a sorted walk, folders before what is in them.
    fn walk(top: &std::path::Path) -> Vec<Vec<u8>> {
        let top = open_again(File::open(top).unwrap().as_fd()).unwrap();
        let mut descent = Descent::sorted(top, c".".into()).unwrap();
        let mut paths = Vec::new();
        loop {
            match descent.next_entry().unwrap() {
                Some(entry) => {
                    paths.push(descent.path(Some(&entry.name)));
                    if entry.file_type == FileType::Directory {
                        descent.enter(entry.name).unwrap();
                    }
                }
                None if descent.leave().unwrap().is_none() => return paths,
                None => {}
            }
        }
    }

    #[test]
    fn a_sorted_walk_sees_names_in_order_at_any_depth() {
        let top = tempfile::tempdir().unwrap();
        let mut folder = top.path().to_path_buf();
        let mut prefix = String::from(".");
        let mut expected = Vec::new();
        for _ in 0..80 {
            for name in ["b", "a", "m", "\u{ff}z", "B"] {
                create_dir(folder.join(name)).unwrap();
            }
            expected.extend(["B", "a", "b"].map(|name| format!("{prefix}/{name}")));
            prefix = format!("{prefix}/b");
            folder.push("b");
        }
        for level in (1..=80).rev() {
            let prefix = format!(".{}", "/b".repeat(level - 1));
            expected.extend(["m", "\u{ff}z"].map(|name| format!("{prefix}/{name}")));
        }
        let expected: Vec<_> = expected.into_iter().map(String::into_bytes).collect();
        assert_eq!(walk(top.path()), expected);
    }

    #[test]
    fn folders_with_more_names_than_fit_are_read_in_several_passes() {
        let top = tempfile::tempdir().unwrap();
        create_dir_all(top.path().join("0/deep")).unwrap();
        // 255 bytes each, so that 60,000 of them take more than twice the bound.
        let name = |index: usize| format!("{index:0>255}");
        for index in 0..60_000 {
            rustix::fs::mknodat(
                rustix::fs::CWD,
                top.path().join(name(index)),
                FileType::RegularFile,
                Mode::RUSR,
                0,
            )
            .unwrap();
        }
        let paths = walk(top.path());
        assert_eq!(paths.len(), 60_002);
        assert!(paths.is_sorted());
    }

    #[test]
    fn what_is_mounted_or_a_link_is_not_opened() {
        let root = std::fs::File::open("/").unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let open = |path| open_beneath(root.as_fd(), path, flags).map(drop);
        assert_eq!(open(c"proc"), Err(Errno::XDEV));
        let process = std::fs::File::open("/proc/self").unwrap();
        let open = |path| open_beneath(process.as_fd(), path, flags).map(drop);
        assert_eq!(open(c"cwd/.."), Err(Errno::LOOP));
        assert_eq!(open(c".."), Err(Errno::XDEV));
        assert_eq!(open(c"fd"), Ok(()));
    }
}
