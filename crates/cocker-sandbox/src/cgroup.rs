//! The sandbox's folder in the cgroup v2 hierarchy: born in it, listed by it, killed by it, removed at the end.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::path::{Path, PathBuf};

/// Where the v2 hierarchy is mounted: alone (systemd's unified layout), or beside v1 (hybrid).
const PLACES: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;

/// One cgroup folder, possibly not existing yet.
#[derive(Debug)]
pub struct Cgroup {
    hierarchy: Option<OwnedFd>,
    folder: PathBuf,
}

impl Cgroup {
    /// Points at `folder`, relative to the root of the v2 hierarchy. Touches nothing.
    pub fn at(folder: &Path) -> Cgroup {
        Cgroup {
            hierarchy: hierarchy(),
            folder: folder.to_path_buf(),
        }
    }

    /// The names of the cgroup folders in `parent`, relative to the root of the v2 hierarchy; none where that is not there.
    pub fn names_in(parent: &Path) -> Vec<String> {
        let folder = hierarchy().and_then(|hierarchy| open_folder(hierarchy.as_fd(), parent).ok());
        let entries = folder.and_then(|folder| rustix::fs::Dir::read_from(folder).ok());
        let entries = entries.into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type() == rustix::fs::FileType::Directory);
        folders
            .filter_map(|entry| entry.file_name().to_str().ok().map(String::from))
            .filter(|name| name != "." && name != "..")
            .collect()
    }

    /// Says whether this host has a v2 hierarchy.
    pub fn is_available(&self) -> bool {
        self.hierarchy.is_some()
    }

    /// Makes the folder and its parents and returns it open; `None` on a host without a v2 hierarchy, where no
    /// controller could be used through it either.
    pub fn make(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(hierarchy) = &self.hierarchy else {
            return Ok(None);
        };
        // A parent may be removed between two steps by somebody who found it empty: then it is made again.
        for _ in 0..16 {
            match make_below(hierarchy.as_fd(), &self.folder) {
                Err(Errno::NOENT) => continue,
                other => return other.map(Some),
            }
        }
        Err(Errno::NOENT)
    }

    /// The processes in it, as our pid namespace sees them.
    pub fn members(&self) -> Result<Vec<Pid>, Errno> {
        let Some(folder) = self.open()? else {
            return Ok(Vec::new());
        };
        let text = read_file(folder.as_fd(), "cgroup.procs")?;
        let pids = text.lines().filter_map(|line| line.parse().ok());
        Ok(pids.filter_map(Pid::from_raw).collect())
    }

    /// Kills everything in it, waits until it is empty and removes it and what is below; parents that are empty then
    /// go too. A folder that is not there counts as removed.
    pub fn remove(&self) -> Result<(), Errno> {
        let (Some(hierarchy), Some(folder)) = (&self.hierarchy, self.open()?) else {
            return Ok(());
        };
        if !self.members()?.is_empty() || is_populated(folder.as_fd())? {
            kill_members(folder.as_fd())?;
        }
        remove_below(folder.as_fd())?;
        let mut path = self.folder.as_path();
        match rustix::fs::unlinkat(hierarchy, path, rustix::fs::AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        while let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            if rustix::fs::unlinkat(hierarchy, parent, rustix::fs::AtFlags::REMOVEDIR).is_err() {
                break; // in use by other sandboxes
            }
            path = parent;
        }
        Ok(())
    }

    /// What makes its processes stand still.
    ///
    /// # Errors
    /// `ENOENT` where the folder or the hierarchy is not there.
    pub fn freezer(&self) -> Result<Freezer, Errno> {
        let folder = self.open()?.ok_or(Errno::NOENT)?;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, "cgroup.freeze", flags, Mode::empty())?;
        Ok(Freezer { folder, file })
    }

    fn open(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(hierarchy) = &self.hierarchy else {
            return Ok(None);
        };
        match open_folder(hierarchy.as_fd(), &self.folder) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

/// What makes the processes of a cgroup stand still, and go on.
pub struct Freezer {
    folder: OwnedFd,
    file: OwnedFd,
}

impl Freezer {
    /// Returns when everything stands still (cgroup-v2, "cgroup.freeze").
    ///
    /// # Errors
    /// `EBUSY` when something has not come to a stop within 5 s; it may do so later.
    pub fn freeze(&self) -> Result<(), Errno> {
        rustix::io::write(&self.file, b"1")?;
        wait_for_event(self.folder.as_fd(), "frozen 1")
    }

    /// Lets everything go on.
    pub fn thaw(&self) -> Result<(), Errno> {
        rustix::io::write(&self.file, b"0").map(drop)
    }
}

impl AsFd for Freezer {
    /// The file into which `0` is written to let everything go on.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn hierarchy() -> Option<OwnedFd> {
    PLACES.iter().find_map(|place| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(*place, flags, Mode::empty()).ok()?;
        let magic = rustix::fs::fstatfs(&folder).ok()?.f_type as u64;
        (magic == CGROUP2).then_some(folder)
    })
}

fn make_below(hierarchy: BorrowedFd<'_>, folder: &Path) -> Result<OwnedFd, Errno> {
    let mut path = PathBuf::new();
    for part in folder.components() {
        path.push(part);
        match rustix::fs::mkdirat(hierarchy, &path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    open_folder(hierarchy, folder)
}

fn open_folder(hierarchy: BorrowedFd<'_>, folder: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        hierarchy,
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

/// `cgroup.kill` came with Linux 5.14; the kernel then also kills what is forked meanwhile.
fn kill_members(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let kill = rustix::fs::openat(folder, "cgroup.kill", flags, Mode::empty())?;
    rustix::io::write(&kill, b"1")?;
    wait_for_event(folder, "populated 0")
}

/// `cgroup.events` is signalled as an exceptional condition whenever it changes (cgroup-v2, "Basic Operations").
fn wait_for_event(folder: BorrowedFd<'_>, event: &str) -> Result<(), Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = rustix::fs::openat(folder, "cgroup.events", flags, Mode::empty())?;
    let limit = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    while !events_say(&events, event)? {
        let mut waiting = [PollFd::new(&events, PollFlags::PRI)];
        if poll(&mut waiting, Some(&limit))? == 0 {
            return Err(Errno::BUSY);
        }
    }
    Ok(())
}

fn is_populated(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = rustix::fs::openat(folder, "cgroup.events", flags, Mode::empty())?;
    events_say(&events, "populated 1")
}

fn events_say(events: &OwnedFd, event: &str) -> Result<bool, Errno> {
    let mut text = [0u8; 256];
    let length = rustix::io::pread(events, &mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..length]);
    Ok(text.lines().any(|line| line == event))
}

/// Removes the folders that a sandbox made in its own, deepest first.
fn remove_below(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut entries = rustix::fs::Dir::read_from(folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        let is_folder = entry.file_type() == rustix::fs::FileType::Directory;
        if is_folder && name != c"." && name != c".." {
            let below = open_folder(folder, Path::new(&*name.to_string_lossy()))?;
            remove_below(below.as_fd())?;
            rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

fn read_file(folder: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut block = [0u8; 4096];
    loop {
        match rustix::io::read(&file, &mut block)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            length => bytes.extend_from_slice(&block[..length]),
        }
    }
}
