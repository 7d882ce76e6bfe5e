//! The sandbox's folders in the hierarchies of cgroups. In v2 it is born, listed, frozen, killed; where a v1 hierarchy has
//! a controller, it has a folder of the same name there too. See docs/design/0005-limits.md.

mod bus;
mod device_list;
mod figures;
mod layout;
mod limiting;
mod place;
mod unit;
mod writes;

pub use device_list::{DeviceKind, DeviceRule, DeviceUse, usual_devices};
pub use figures::{
    CpuTime, FigureReader, Figures, IoUse, MemoryUse, PidsUse, Pressure, Stall, Throttling,
};
pub use layout::{Controller, Hierarchies};
pub use limiting::LimitError;
pub use place::{Group, Place};
pub use unit::UnitError;
pub(crate) use unit::{Asking, OpenScope};

use cocker_sys::fault;
use layout::Legacy;
use place::SANDBOX;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// In a folder of v1, the file by which a single thread joins it.
const LEGACY_DOOR: &str = "tasks";

/// How long whoever was killed may take to go.
const KILL_TIME: Duration = Duration::from_secs(5);

/// How long all may take to come to a stop.
const FREEZE_TIME: Duration = Duration::from_secs(5);

/// The cgroup folders of one sandbox, possibly not existing yet.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchies: Arc<Hierarchies>,
    place: Place,
    /// Its folder in v2, relative to the root.
    unified: PathBuf,
}

impl Cgroup {
    /// Points at the folders of a place. Touches nothing.
    pub fn at(place: &Place) -> Cgroup {
        Cgroup::below(&Arc::new(Hierarchies::find()), place)
    }

    /// The same for whoever has looked for the hierarchies already.
    pub fn below(hierarchies: &Arc<Hierarchies>, place: &Place) -> Cgroup {
        Cgroup {
            hierarchies: Arc::clone(hierarchies),
            place: place.clone(),
            unified: place.unified(),
        }
    }

    /// The names of the sandboxes that have a folder in v2; none where that is not there.
    pub fn names_in(hierarchies: &Hierarchies, group: &Group) -> Vec<String> {
        let folder = hierarchies
            .unified()
            .and_then(|hierarchy| open_folder(hierarchy.as_fd(), &group.unified()).ok());
        let entries = folder.and_then(|folder| folders_in(folder.as_fd()).ok());
        let names = entries.into_iter().flatten();
        names
            .filter_map(|name| group.name_of(name.to_str().ok()?))
            .collect()
    }

    /// The same of the hierarchies of v1, without those that have a folder in v2.
    pub fn names_in_legacy_alone(hierarchies: &Hierarchies, group: &Group) -> Vec<String> {
        let unified = Cgroup::names_in(hierarchies, group);
        let mut names = Vec::new();
        for legacy in hierarchies.all_legacy() {
            let folder = open_folder(legacy.folder.as_fd(), group.legacy());
            let found = folder.and_then(|folder| folders_in(folder.as_fd()));
            let found = found.into_iter().flatten();
            names.extend(found.filter_map(|name| Some(name.to_str().ok()?.to_owned())));
        }
        names.retain(|name| !unified.contains(name));
        names.sort();
        names.dedup();
        names
    }

    /// Whether it is there, has no process in any hierarchy, and has not been changed for so long: who makes one has a process in it
    /// at once.
    pub fn is_deserted(&self, time: Duration) -> bool {
        let unified = self
            .unified()
            .map(|hierarchy| (hierarchy.as_fd(), &*self.unified));
        let legacy = self.hierarchies.all_legacy().iter();
        let legacy = legacy.map(|legacy| (legacy.folder.as_fd(), self.place.legacy()));
        let mut is_there = false;
        for (hierarchy, path) in unified.into_iter().chain(legacy) {
            let Ok(folder) = open_folder(hierarchy, path) else {
                continue;
            };
            is_there = true;
            let changed = rustix::fs::fstat(&folder).map(|stat| stat.st_mtime);
            let changed =
                changed.map(|seconds| Duration::from_secs(seconds.try_into().unwrap_or(0)));
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let is_old =
                now.unwrap_or_default() >= changed.unwrap_or(Duration::MAX).saturating_add(time);
            if !is_old || !has_no_process(folder.as_fd()) {
                return false;
            }
        }
        is_there
    }

    /// Removes it where nobody lives there; kills nobody.
    pub fn remove_deserted(&self) -> Result<(), Errno> {
        for legacy in self.hierarchies.all_legacy() {
            gone_is_done(remove_folder(legacy.folder.as_fd(), self.place.legacy()))?;
            remove_parents(legacy.folder.as_fd(), self.place.legacy());
        }
        if let Some(hierarchy) = self.unified() {
            gone_is_done(remove_folder(hierarchy.as_fd(), &self.unified))?;
            if self.place.scope().is_none() {
                remove_parents(hierarchy.as_fd(), &self.unified);
            }
        }
        self.give_back();
        Ok(())
    }

    /// Says whether this host has a v2 hierarchy.
    pub fn is_available(&self) -> bool {
        self.unified().is_some()
    }

    /// Asks whoever manages v2 for what the folder lies in; does not wait for the answer. `None` where nobody does.
    pub(crate) fn ask(&self) -> Result<Option<Asking>, UnitError> {
        self.place.scope().map(Asking::begin).transpose()
    }

    /// Waits for the answer.
    pub(crate) fn answer(&self, asking: Asking) -> Result<Option<OpenScope>, UnitError> {
        self.unified()
            .map(|hierarchy| asking.finish(hierarchy.as_fd()))
            .transpose()
    }

    /// Has this process leave the unit that it may stand in for one of its own, where somebody manages v2: it waits until the
    /// sandbox is made again, and till then that unit must be able to go.
    pub fn wait_elsewhere(&self) -> Result<(), UnitError> {
        let scope = self.place.waiting_scope();
        scope.map_or(Ok(()), |scope| unit::move_to(&scope))
    }

    /// Makes the folder and its parents and returns it open; `None` on a host without a v2 hierarchy. A folder that is
    /// there already is what somebody died over, and goes first. Where v2 is managed, the parents are there.
    pub fn make(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(hierarchy) = self.unified() else {
            return Ok(None);
        };
        let make = || match self.place.scope() {
            None => make_new(hierarchy.as_fd(), &self.unified),
            Some(scope) => {
                let scope = open_folder(hierarchy.as_fd(), &scope.folder())?;
                make_below(scope.as_fd(), Path::new(SANDBOX), |_, _| Ok(()))
            }
        };
        match make() {
            Err(Errno::EXIST) => {
                self.remove()?;
                make().map(Some)
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

    /// Kills everything in it, waits until it is empty and removes it and what is below; parents that are empty then
    /// go too, where nobody manages them. A folder that is not there counts as removed.
    ///
    /// # Errors
    /// `EBUSY` when somebody has not gone within 5 s.
    pub fn remove(&self) -> Result<(), Errno> {
        self.remove_within(KILL_TIME)
    }

    /// The same for whoever has less time than that.
    pub fn remove_within(&self, patience: Duration) -> Result<(), Errno> {
        let removed = self.remove_folders(patience);
        self.give_back();
        removed
    }

    fn remove_folders(&self, patience: Duration) -> Result<(), Errno> {
        let folder = self.open()?;
        if let Some(folder) = &folder {
            // Whoever manages v2 removes the same as soon as nobody lives there any more.
            gone_is_done(empty(folder.as_fd(), patience))?;
        }
        // The one in v2 goes last: it is by that one that a leftover is found.
        for legacy in self.hierarchies.all_legacy() {
            remove_folder(legacy.folder.as_fd(), self.place.legacy())?;
            remove_parents(legacy.folder.as_fd(), self.place.legacy());
        }
        let (Some(hierarchy), Some(_)) = (self.unified(), folder) else {
            return Ok(());
        };
        gone_is_done(remove_folder(hierarchy.as_fd(), &self.unified))?;
        if self.place.scope().is_none() {
            remove_parents(hierarchy.as_fd(), &self.unified);
        }
        Ok(())
    }

    /// Where somebody manages v2, has them take back what is empty.
    fn give_back(&self) {
        if let (Some(hierarchy), Some(scope)) = (self.unified(), self.place.scope())
            && let Err(error) = unit::end_empty(hierarchy.as_fd(), scope)
        {
            tracing::warn!("going on: {error}");
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
        let path = self.unified.join("cgroup.freeze");
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
        match open_folder(hierarchy.as_fd(), &self.unified) {
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
        wait_for_event(self.folder.as_fd(), "frozen 1", FREEZE_TIME)
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
    match make_by_path(hierarchy, folder, |_| Ok(())) {
        Ok(()) => return open_folder(hierarchy, folder),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    // A parent may be removed between two steps by somebody who found it empty: then it is made again.
    for _ in 0..16 {
        match make_below(hierarchy, folder, |_, _| Ok(())) {
            Err(Errno::NOENT) => continue,
            other => return other,
        }
    }
    Err(Errno::NOENT)
}

/// Makes the folder, which must be new, and where they are missing those that it lies in; `made` is called for each new one. No
/// folder is opened, and where somebody removes one meanwhile, it fails.
fn make_by_path(
    hierarchy: BorrowedFd<'_>,
    folder: &Path,
    made: impl Fn(&Path) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let make = |folder: &Path| {
        rustix::fs::mkdirat(hierarchy, folder, Mode::from_raw_mode(0o755))?;
        made(folder)
    };
    match make(folder) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let parents: Vec<&Path> = folder.ancestors().skip(1).collect();
    let parents = parents.into_iter().rev();
    for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
        match make(parent) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    make(folder)
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

/// Removes a folder and what is below it; nobody lives there. One that is not there is removed.
fn remove_folder(hierarchy: BorrowedFd<'_>, folder: &Path) -> Result<(), Errno> {
    let remove = || rustix::fs::unlinkat(hierarchy, folder, AtFlags::REMOVEDIR);
    match fault::step("cgroup.remove", remove) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) => {
            // Root of a privileged sandbox may have made some in it.
            remove_below(open_folder(hierarchy, folder)?.as_fd())?;
            rustix::fs::unlinkat(hierarchy, folder, AtFlags::REMOVEDIR)
        }
        Err(errno) => Err(errno),
    }
}

/// Removes the folders that this one was in, as far as they are empty.
fn remove_parents(hierarchy: BorrowedFd<'_>, folder: &Path) {
    let parents = folder.ancestors().skip(1);
    for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
        let remove = || rustix::fs::unlinkat(hierarchy, parent, AtFlags::REMOVEDIR);
        if fault::step("cgroup.remove.parent", remove).is_err() {
            break; // in use by other sandboxes
        }
    }
}

/// What somebody else has removed meanwhile is removed.
fn gone_is_done(answer: Result<(), Errno>) -> Result<(), Errno> {
    match answer {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        other => other,
    }
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
fn kill_members(folder: BorrowedFd<'_>, patience: Duration) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let kill = rustix::fs::openat(folder, "cgroup.kill", flags, Mode::empty())?;
    fault::step("cgroup.kill", || rustix::io::write(&kill, b"1"))?;
    wait_for_event(folder, "populated 0", patience)
}

/// `cgroup.events` is signalled as an exceptional condition whenever it changes (cgroup-v2, "Basic Operations").
fn wait_for_event(folder: BorrowedFd<'_>, event: &str, patience: Duration) -> Result<(), Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let events = rustix::fs::openat(folder, "cgroup.events", flags, Mode::empty())?;
    let deadline = Instant::now() + patience;
    while !events_say(&events, event)? {
        let left = deadline.saturating_duration_since(Instant::now());
        let limit = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut waiting = [PollFd::new(&events, PollFlags::PRI)];
        if poll(&mut waiting, Some(&limit))? == 0 {
            return Err(Errno::BUSY);
        }
    }
    Ok(())
}

fn has_no_process(folder: BorrowedFd<'_>) -> bool {
    // Only v2 says it of what is below as well; in v1 no sandbox has anything below.
    match is_populated(folder) {
        Ok(is_populated) => !is_populated,
        Err(_) => read_file(folder, "cgroup.procs").is_ok_and(|text| text.is_empty()),
    }
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

/// Kills everything in a folder and below, and removes what is below.
fn empty(folder: BorrowedFd<'_>, patience: Duration) -> Result<(), Errno> {
    if is_populated(folder)? {
        kill_members(folder, patience)?;
    }
    remove_below(folder)
}

/// Removes the folders that a sandbox made in its own, deepest first. However deep they lie, only one is open at a time;
/// nothing there is a link, and nobody renames in v2.
fn remove_below(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut here = rustix::io::dup(folder)?;
    // For each folder from the first down to `here`, those in it that are to be removed.
    let mut left = vec![folders_in(here.as_fd())?];
    while let Some(names) = left.last_mut() {
        let Some(name) = names.last() else {
            left.pop();
            if !left.is_empty() {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                here = rustix::fs::openat(&here, "..", flags, Mode::empty())?;
            }
            continue;
        };
        match rustix::fs::unlinkat(&here, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => drop(names.pop()),
            Err(Errno::BUSY) => {
                let below =
                    open_folder(here.as_fd(), Path::new(OsStr::from_bytes(name.to_bytes())))?;
                let inner = folders_in(below.as_fd())?;
                if inner.is_empty() {
                    return Err(Errno::BUSY);
                }
                left.push(inner);
                here = below;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The names of the folders in a cgroup folder.
fn folders_in(folder: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    let mut entries = rustix::fs::Dir::read_from(folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        let is_folder = entry.file_type() == rustix::fs::FileType::Directory;
        if is_folder && name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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
    fault::step("cgroup.write", || {
        rustix::io::write(&file, value.as_bytes())
    })
    .map(drop)
}
