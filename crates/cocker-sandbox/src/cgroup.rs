//! The sandbox's folders in the hierarchies of cgroups. In v2 it is born, listed, frozen, killed; where a v1 hierarchy has
//! a controller, it has a folder of the same name there too. See docs/design/0005-limits.md.

mod device_list;
mod figures;
mod layout;
mod limiting;
mod writes;

pub use device_list::{DeviceKind, DeviceRule, DeviceUse, usual_devices};
pub use figures::{
    CpuTime, FigureReader, Figures, IoUse, MemoryUse, PidsUse, Pressure, Stall, Throttling,
};
pub use layout::{Controller, Hierarchies};
pub use limiting::LimitError;

use layout::Legacy;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// One cgroup folder, possibly not existing yet.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Rc<Hierarchies>,
    folder: PathBuf,
}

impl Cgroup {
    /// Points at `folder`, relative to the root of each hierarchy. Touches nothing.
    pub fn at(folder: &Path) -> Cgroup {
        Cgroup::below(&Rc::new(Hierarchies::find()), folder)
    }

    /// The same for whoever has looked for the hierarchies already.
    pub fn below(hierarchies: &Rc<Hierarchies>, folder: &Path) -> Cgroup {
        Cgroup {
            hierarchies: Rc::clone(hierarchies),
            folder: folder.to_path_buf(),
        }
    }

    /// The names of the cgroup folders in `parent`, relative to the root of the v2 hierarchy; none where that is not there.
    pub fn names_in(hierarchies: &Hierarchies, parent: &Path) -> Vec<String> {
        let folder = hierarchies
            .unified()
            .and_then(|hierarchy| open_folder(hierarchy.as_fd(), parent).ok());
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
        self.unified().is_some()
    }

    /// Makes the folder and its parents and returns it open; `None` on a host without a v2 hierarchy. A folder that is
    /// there already is what somebody died over, and goes first.
    pub fn make(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(hierarchy) = self.unified() else {
            return Ok(None);
        };
        match make_new(hierarchy.as_fd(), &self.folder) {
            Err(Errno::EXIST) => {
                self.remove()?;
                make_new(hierarchy.as_fd(), &self.folder).map(Some)
            }
            other => other.map(Some),
        }
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

    /// The file that lists the processes in it, one a line.
    ///
    /// # Errors
    /// `ENOENT` where the folder or the hierarchy is not there.
    pub(crate) fn open_members(&self) -> Result<OwnedFd, Errno> {
        let folder = self.open()?.ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(&folder, "cgroup.procs", flags, Mode::empty())
    }

    /// Kills everything in it, waits until it is empty and removes it and what is below; parents that are empty then
    /// go too. A folder that is not there counts as removed.
    pub fn remove(&self) -> Result<(), Errno> {
        let folder = self.open()?;
        if let Some(folder) = &folder {
            if !self.members()?.is_empty() || is_populated(folder.as_fd())? {
                kill_members(folder.as_fd())?;
            }
            remove_below(folder.as_fd())?;
        }
        // The one in v2 goes last: it is by that one that a leftover is found.
        for legacy in self.hierarchies.all_legacy() {
            remove_folder(legacy.folder.as_fd(), &self.folder)?;
        }
        match (self.unified(), folder) {
            (Some(hierarchy), Some(_)) => remove_folder(hierarchy.as_fd(), &self.folder),
            _ => Ok(()),
        }
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

    /// Whether its processes were told to stand still. One that is not there was not.
    pub fn is_frozen(&self) -> Result<bool, Errno> {
        let Some(hierarchy) = self.unified() else {
            return Ok(false);
        };
        // A listing asks this of every booted container: one file, opened in one go.
        let path = self.folder.join("cgroup.freeze");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let mut text = [0u8; 8];
        match rustix::fs::openat2(hierarchy, &path, flags, Mode::empty(), resolve) {
            Ok(file) => Ok(rustix::io::read(&file, &mut text)? > 0 && text[0] == b'1'),
            Err(Errno::NOENT | Errno::NODEV) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    fn unified(&self) -> Option<&OwnedFd> {
        self.hierarchies.unified()
    }

    fn open(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(hierarchy) = self.unified() else {
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

/// Makes the folder, which must be new, with its parents, which may be there.
fn make_new(hierarchy: BorrowedFd<'_>, folder: &Path) -> Result<OwnedFd, Errno> {
    // A parent may be removed between two steps by somebody who found it empty: then it is made again.
    for _ in 0..16 {
        match make_below(hierarchy, folder, |_, _| Ok(())) {
            Err(Errno::NOENT) => continue,
            other => return other,
        }
    }
    Err(Errno::NOENT)
}

/// `made` is called for each folder on the way with the one above it.
fn make_below(
    hierarchy: BorrowedFd<'_>,
    folder: &Path,
    made: impl Fn(BorrowedFd<'_>, BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<OwnedFd, Errno> {
    let mut above = rustix::io::dup(hierarchy)?;
    let mut parts = folder.components().peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let name: &Path = part.as_ref();
        match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) if !is_last => {}
            Err(errno) => return Err(errno),
        }
        let next = open_folder(above.as_fd(), name)?;
        made(above.as_fd(), next.as_fd())?;
        above = next;
    }
    Ok(above)
}

/// Removes an empty folder, and its parents as far as they are empty then. One that is not there is removed.
fn remove_folder(hierarchy: BorrowedFd<'_>, folder: &Path) -> Result<(), Errno> {
    match rustix::fs::unlinkat(hierarchy, folder, AtFlags::REMOVEDIR) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) => {
            // Root of a privileged sandbox may have made some in it.
            remove_below(open_folder(hierarchy, folder)?.as_fd())?;
            rustix::fs::unlinkat(hierarchy, folder, AtFlags::REMOVEDIR)?;
        }
        Err(errno) => return Err(errno),
    }
    let mut path = folder;
    while let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        if rustix::fs::unlinkat(hierarchy, parent, AtFlags::REMOVEDIR).is_err() {
            break; // in use by other sandboxes
        }
        path = parent;
    }
    Ok(())
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
            rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(())
}

/// A file of the kernel's in a cgroup folder.
fn read_file(folder: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    read_at(folder, name)
}

fn read_at(folder: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
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

/// What is said to the kernel is said in one piece.
fn write_file(folder: BorrowedFd<'_>, name: &str, value: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}
