//! Limits are put on a sandbox, and changed: all of them or none.

use super::layout::{Controller, Generation};
use super::writes::{self, Missing, Write};
use super::{Cgroup, LEGACY_DOOR, Legacy};
use super::{make_below, make_by_path, open_folder, read_at, read_file, write_file};
use crate::limits::Limits;
use crate::plan::HostId;
use crate::rootless::ASIDE;
use cocker_sys::namespace::is_below_the_host;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use std::path::Path;

/// Always there for a sandbox in v2 where the host has them, whatever its limits: they also count.
const ALWAYS: [Controller; 3] = [Controller::Memory, Controller::Pids, Controller::Io];

/// How an ordinary user gets cgroups.
const DELEGATE: &str = "or boot it in a cgroup that is delegated to you: systemd-run --user --scope -p Delegate=yes cocker boot …; or run cocker as root: sudo.";

/// Where v1's hierarchy of memory is mounted, most often.
const USUAL_MEMORY: &str = "/sys/fs/cgroup/memory";

const CPUSET_FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// How many cgroups root inside may make below a sandbox's own: far more than there are services.
const MOST_DESCENDANTS: &str = "4096";

/// A limit that cannot be put on a sandbox. Those that were put on it by then are taken back.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    #[error(
        "cannot keep to `{option}`: {} no cgroup controller `{controller}`",
        who_has()
    )]
    NoController {
        option: &'static str,
        controller: &'static str,
    },
    #[error("cannot keep to `{option}`: this kernel has no `{file}`")]
    NoFile { option: &'static str, file: String },
    #[error("cannot keep to `{option}`: `{value}` cannot be written into `{file}`")]
    Write {
        option: &'static str,
        value: String,
        file: String,
        #[source]
        source: Errno,
    },
    #[error("cannot let cgroup `{}` have controller `{controller}`", folder.display())]
    Enable {
        folder: std::path::PathBuf,
        controller: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot let unit `{unit}` have controller `{controller}`: systemd does not give it on")]
    NotGiven {
        unit: String,
        controller: &'static str,
    },
    #[error("cannot make its folder for controller `{controller}`")]
    Make {
        controller: &'static str,
        #[source]
        source: Errno,
    },
    #[error("cannot give the cgroups below its own to the root inside")]
    Delegate {
        #[source]
        source: Errno,
    },
    #[error("cannot open its cgroup")]
    Open {
        #[source]
        source: Errno,
    },
}

fn who_has() -> &'static str {
    match is_below_the_host() {
        true => "an ordinary user has here",
        false => "this host has",
    }
}

impl LimitError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            LimitError::NoController { option, .. } if is_below_the_host() => {
                Some(format!("leave `{option}` out, {DELEGATE}"))
            }
            LimitError::Enable {
                source: Errno::BUSY,
                ..
            } if is_below_the_host() => Some(format!(
                "other programs are in that cgroup: leave the limits out, {DELEGATE}"
            )),
            LimitError::NoController { option, .. } => Some(format!(
                "leave `{option}` out, or boot a kernel that has it: `cgroup_disable=` on its command line takes it away."
            )),
            LimitError::NotGiven { .. } => Some(
                "a slice with DisableControllers= takes it away: `systemctl show -P DisableControllers` says which.".into(),
            ),
            LimitError::NoFile { option, .. } => Some(format!(
                "leave `{option}` out: this kernel, or its cgroup v1, cannot do it."
            )),
            LimitError::Write {
                option: "--mem-limit" | "--swap-limit",
                source: Errno::BUSY,
                ..
            } => Some(
                "more is in use than that, and cannot be freed: end something inside first.".into(),
            ),
            _ => None,
        }
    }
}

impl From<Missing> for LimitError {
    fn from(Missing { option, controller }: Missing) -> LimitError {
        LimitError::NoController {
            option,
            controller: controller.name(),
        }
    }
}

impl Cgroup {
    /// Makes the folders in v1 where that has controllers, and lets `limits` hold for whatever will live in them. Returns
    /// the files into which a process of one thread writes `0` to be there; none where v2 has everything.
    pub(crate) fn limit_new(&self, limits: &Limits) -> Result<Vec<OwnedFd>, LimitError> {
        let mut doors = Vec::new();
        let all = self.hierarchies.all_legacy().iter();
        for legacy in all.filter(|legacy| limits_something(legacy)) {
            let door = self
                .make_quickly(legacy)
                .or_else(|_| self.make_legacy(legacy).map(drop))
                .and_then(|()| self.door(legacy));
            doors.push(door.map_err(|source| making(legacy, source))?);
        }
        self.enable(&self.wanted_always())?;
        self.change_limits(&Limits::default(), limits)?;
        Ok(doors)
    }

    /// Makes the folders in v1 hierarchies that limit nothing, and returns the files into which a process writes `0` to be there.
    ///
    /// A sandbox whose root is the host's could else mount such a hierarchy and find itself at its root, where the file is that
    /// names a program to run outside (`release_agent`).
    pub(crate) fn leave_roots(&self) -> Result<Vec<OwnedFd>, Errno> {
        let all = self.hierarchies.all_legacy().iter();
        let rest = all.filter(|legacy| !limits_something(legacy));
        let door = |legacy| {
            self.make_legacy(legacy)?;
            self.door(legacy)
        };
        rest.map(door).collect()
    }

    /// Lets `to` hold where `from` did. While somebody lives in it, at once.
    ///
    /// # Errors
    /// The limit that could not be changed; then all are as they were.
    pub fn change_limits(&self, from: &Limits, to: &Limits) -> Result<(), LimitError> {
        let all_cpus = self.all_cpus(from, to);
        let writes = writes::changes(from, to, &all_cpus, |controller| {
            self.hierarchies.generation(controller)
        })?;
        let unified = writes
            .iter()
            .filter(|write| write.generation == Generation::Unified);
        let needed: Vec<Controller> = unified.map(|write| write.controller).collect();
        self.enable(&needed)?;
        let mut done = Vec::new();
        for write in &writes {
            match self.write(write, &write.value) {
                Ok(()) => done.push(write),
                Err(Errno::NOENT) => {
                    let is_said_elsewhere = done.iter().any(|it| it.option == write.option);
                    if write.is_needed && !is_said_elsewhere {
                        self.roll_back(&done);
                        return Err(LimitError::NoFile {
                            option: write.option,
                            file: write.file.clone(),
                        });
                    }
                }
                Err(source) => {
                    self.roll_back(&done);
                    return Err(LimitError::Write {
                        option: write.option,
                        value: write.value.clone(),
                        file: write.file.clone(),
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Gives what lies below its folder in v2 to `root`, with the controllers that services are limited by, where v2 has them; its own limits stay the host's
    /// (Documentation/admin-guide/cgroup-v2.rst, "Delegation").
    pub(crate) fn delegate(&self, root: HostId) -> Result<(), LimitError> {
        let failed = |source| LimitError::Delegate { source };
        let Some(folder) = self.open().map_err(failed)? else {
            return Ok(());
        };
        let all = Controller::OF_SERVICES.iter();
        let given: Vec<Controller> = all
            .filter(|it| self.hierarchies.generation(**it) == Some(Generation::Unified))
            .copied()
            .collect();
        self.enable(&given)?;
        // Each is memory of the kernel's.
        write_file(folder.as_fd(), "cgroup.max.descendants", MOST_DESCENDANTS).map_err(failed)?;
        let owner = Some(Uid::from_raw(root.0));
        let group = Some(Gid::from_raw(root.0));
        rustix::fs::fchown(&folder, owner, group).map_err(failed)?;
        // Which of its files go with it, only the kernel knows.
        let list = read_at(CWD, "/sys/kernel/cgroup/delegate").map_err(failed)?;
        for file in list.lines() {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            match rustix::fs::chownat(&folder, file, owner, group, flags) {
                // A file of a controller that it does not have.
                Ok(()) | Err(Errno::NOENT) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }

    /// How many processes the kernel has killed in it because memory ran out; `None` where nothing counts them.
    pub fn oom_kills(&self) -> Option<u64> {
        let count_in = |text: &str| {
            let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
            count?.trim().parse().ok()
        };
        if let Some(text) = self.usual_memory_file("memory.oom_control") {
            return count_in(&text);
        }
        let file = match self.hierarchies.generation(Controller::Memory)? {
            Generation::Legacy => "memory.oom_control",
            Generation::Unified => "memory.events",
        };
        let folder = self.folder_of(Controller::Memory).ok()?;
        count_in(&read_file(folder.as_fd(), file).ok()?)
    }

    /// A file in v1's hierarchy of memory, where that is mounted where it usually is: to look for it in the list of all mounts
    /// takes longer than starting a command.
    fn usual_memory_file(&self, file: &str) -> Option<String> {
        if self.hierarchies.has_unified_alone() {
            return None;
        }
        let path = Path::new(USUAL_MEMORY).join(self.place.legacy()).join(file);
        read_at(CWD, path.to_str()?).ok()
    }

    fn write(&self, write: &Write, value: &str) -> Result<(), Errno> {
        let folder = self.folder_of(write.controller)?;
        // An empty list is said by an empty line: nothing at all is not written.
        let value = if value.is_empty() { "\n" } else { value };
        write_file(folder.as_fd(), &write.file, value)
    }

    /// Newest first; the first error stays the one that is told.
    fn roll_back(&self, done: &[&Write]) {
        for write in done.iter().rev() {
            if let Err(errno) = self.write(write, &write.before) {
                let Write { file, before, .. } = write;
                tracing::warn!("`{file}` does not become `{before}` again: {errno}");
            }
        }
    }

    /// Its folder in the hierarchy with this controller.
    fn folder_of(&self, controller: Controller) -> Result<OwnedFd, Errno> {
        match self.hierarchies.legacy(controller) {
            Some(legacy) => open_folder(legacy.folder.as_fd(), self.place.legacy()),
            None => self.open()?.ok_or(Errno::NOENT),
        }
    }

    /// What a sandbox without a limit may use, where v1 wants that said.
    fn all_cpus(&self, from: &Limits, to: &Limits) -> String {
        if from.cpus == to.cpus {
            return String::new();
        }
        let legacy = self.hierarchies.legacy(Controller::Cpuset);
        let text = legacy.and_then(|legacy| read_file(legacy.folder.as_fd(), "cpuset.cpus").ok());
        text.unwrap_or_default().trim_end().into()
    }

    pub(super) fn open_or_make_legacy(&self, legacy: &Legacy) -> Result<OwnedFd, Errno> {
        match open_folder(legacy.folder.as_fd(), self.place.legacy()) {
            Err(Errno::NOENT) => self.make_legacy(legacy),
            other => other,
        }
    }

    /// Without a look at what nobody else is at. On an error nothing may be taken for done.
    fn make_quickly(&self, legacy: &Legacy) -> Result<(), Errno> {
        let is_cpuset = legacy.controllers.contains(&Controller::Cpuset);
        make_by_path(
            legacy.folder.as_fd(),
            self.place.legacy(),
            |made| match is_cpuset {
                true => complete_cpuset(legacy.folder.as_fd(), made).map(drop),
                false => Ok(()),
            },
        )
    }

    /// The file into which a process of one thread writes `0` to live in a v1 hierarchy. Through `cgroup.procs` it would be
    /// kept from forking meanwhile, like everybody on the host, for which the kernel waits a grace period of RCU: some milliseconds.
    fn door(&self, legacy: &Legacy) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(
            &legacy.folder,
            self.place.legacy().join(LEGACY_DOOR),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        )
    }

    fn make_legacy(&self, legacy: &Legacy) -> Result<OwnedFd, Errno> {
        let is_cpuset = legacy.controllers.contains(&Controller::Cpuset);
        let made = |above: BorrowedFd<'_>, folder: BorrowedFd<'_>| match is_cpuset {
            true if !has_cpuset(folder)? => take_over_cpuset(above, folder),
            _ => Ok(()),
        };
        // A parent may be removed between two steps by somebody who found it empty: then it is made again. One of our name
        // is left of a sandbox that is gone.
        let mut answer = Err(Errno::NOENT);
        for _ in 0..16 {
            answer = make_below(legacy.folder.as_fd(), self.place.legacy(), made);
            match answer {
                Err(Errno::NOENT) => {}
                Err(Errno::EXIST) => {
                    super::remove_folder(legacy.folder.as_fd(), self.place.legacy())?;
                }
                _ => break,
            }
        }
        answer
    }

    fn wanted_always(&self) -> Vec<Controller> {
        let generation = |controller: &&Controller| self.hierarchies.generation(**controller);
        let unified = ALWAYS
            .iter()
            .filter(|it| generation(it) == Some(Generation::Unified));
        unified.copied().collect()
    }

    /// In v2 a folder has a controller where every one above it gives it on.
    fn enable(&self, controllers: &[Controller]) -> Result<(), LimitError> {
        let (Some(root), false) = (self.unified(), controllers.is_empty()) else {
            return Ok(());
        };
        let parents: Vec<&Path> = self.unified.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            let place = match parent.as_os_str().is_empty() {
                true => Path::new("."),
                false => parent,
            };
            let folder =
                open_folder(root.as_fd(), place).map_err(|source| LimitError::Open { source })?;
            let given = read_file(folder.as_fd(), "cgroup.subtree_control")
                .map_err(|source| LimitError::Open { source })?;
            let is_given = |it: &Controller| given.split_whitespace().any(|on| on == it.name());
            for controller in controllers.iter().filter(|it| !is_given(it)) {
                if let Some(scope) = self.place.scope()
                    && !parent.starts_with(scope.folder())
                    && *controller != Controller::Hugetlb
                {
                    // Not ours to give; that one, systemd does not know.
                    return Err(LimitError::NotGiven {
                        unit: scope.unit.clone(),
                        controller: controller.name(),
                    });
                }
                let word = format!("+{}", controller.name());
                let give = || write_file(folder.as_fd(), "cgroup.subtree_control", &word);
                let given = match give() {
                    Err(Errno::BUSY) if parent.as_os_str().is_empty() && is_below_the_host() => {
                        step_aside(folder.as_fd()).and_then(|()| give())
                    }
                    other => other,
                };
                given.map_err(|source| LimitError::Enable {
                    folder: Path::new("/").join(parent),
                    controller: controller.name(),
                    source,
                })?;
            }
        }
        Ok(())
    }
}

/// A folder that gives controllers on may have no processes of its own (cgroup-v2, "No Internal Process Constraint"), and in
/// one that was delegated to us we are ourselves.
fn step_aside(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::mkdirat(folder, ASIDE, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let aside = open_folder(folder, Path::new(ASIDE))?;
    write_file(aside.as_fd(), "cgroup.procs", "0")
}

/// Whether a hierarchy has a controller by which a sandbox can be limited. The list of devices is kept only where it has to be.
fn limits_something(legacy: &Legacy) -> bool {
    !legacy.controllers.is_empty() && legacy.controllers != [Controller::Devices]
}

/// A new folder of cpuset has neither processors nor memory, and nobody can live in it; unless it has got both from the one
/// above, as it does below one that [`take_over_cpuset`] has made ready.
fn has_cpuset(folder: BorrowedFd<'_>) -> Result<bool, Errno> {
    for file in CPUSET_FILES {
        if read_file(folder, file)?.trim_end().is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Gives a folder what the one above has, where it has nothing; and that one before, which somebody else may just have made.
fn complete_cpuset(hierarchy: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let above = path.parent();
    let folder = match path.as_os_str().is_empty() {
        true => open_folder(hierarchy, Path::new("."))?,
        false => open_folder(hierarchy, path)?,
    };
    if let Some(above) = above
        && !has_cpuset(folder.as_fd())?
    {
        let above = complete_cpuset(hierarchy, above)?;
        take_over_cpuset(above.as_fd(), folder.as_fd())?;
    }
    Ok(folder)
}

/// Gives a new folder what the one above has, and has those that come below it get it by themselves (cgroup-v1/cpusets.rst,
/// cgroup.clone_children): for what is written the kernel compares all folders side by side, of which there may be a thousand.
fn take_over_cpuset(above: BorrowedFd<'_>, folder: BorrowedFd<'_>) -> Result<(), Errno> {
    for file in CPUSET_FILES {
        write_file(folder, file, read_file(above, file)?.trim_end())?;
    }
    write_file(folder, "cgroup.clone_children", "1")
}

fn making(legacy: &Legacy, source: Errno) -> LimitError {
    let controller = legacy.controllers.first().map_or("", |it| it.name());
    LimitError::Make { controller, source }
}
