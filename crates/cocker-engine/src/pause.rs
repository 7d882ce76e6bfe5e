//! pause and resume: every process of a booted container stands still until it is told to go on.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{ContainerError, EngineError, PauseError};
use cocker_image::Name;
use cocker_sandbox::{Cgroup, Group, Hierarchies};
use cocker_sys::fault;
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::sync::Arc;

/// What the notes of paused containers are called, and after it the container.
pub(crate) const PAUSED: &str = ".paused-";

impl Engine {
    /// Lets every process of a booted container stand still; returns when all do.
    ///
    /// # Errors
    /// Then it goes on.
    pub fn pause(&self, container: &Name) -> Result<(), EngineError> {
        self.let_stand_still(container)
            .map_err(|source| EngineError::Pause {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    /// Lets a paused container go on.
    pub fn resume(&self, container: &Name) -> Result<(), EngineError> {
        self.let_go_on(container)
            .map_err(|source| EngineError::Resume {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    fn let_stand_still(&self, name: &Name) -> Result<(), PauseError> {
        let (container, _work) = Container::open_for_work(&self.store, name)?;
        container.booted_pid()?;
        let cgroup = self.cgroup_of(&container);
        if is_frozen(&cgroup)? {
            return Err(PauseError::Already);
        }
        let freezer = cgroup.freezer().map_err(freezing)?;
        self.note_pause(name).map_err(freezing)?;
        freezer.freeze().map_err(|source| {
            // What has not come to a stop would do so some time later, when nobody expects it any more.
            if let Err(errno) = freezer.thaw() {
                tracing::warn!("container `{name}` may stand still: {errno}");
            }
            freezing(source)
        })
    }

    fn let_go_on(&self, name: &Name) -> Result<(), PauseError> {
        let (container, _work) = Container::open_for_work(&self.store, name)?;
        container.booted_pid()?;
        let cgroup = self.cgroup_of(&container);
        if !is_frozen(&cgroup)? {
            return Err(PauseError::NotPaused);
        }
        let thawed = cgroup.freezer().and_then(|freezer| freezer.thaw());
        thawed.map_err(freezing)?;
        self.forget_pause(name);
        Ok(())
    }

    /// Leaves word for listings that the kernel is to be asked whether this one is paused: asking it for each of a thousand
    /// would take longer than all else.
    fn note_pause(&self, name: &Name) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let make = || openat(self.store.containers_folder(), note(name), flags, mode);
        fault::step("pause.note", make).map(drop)
    }

    /// The kernel need not be asked any more. A note that stays costs a listing one question.
    pub(crate) fn forget_pause(&self, name: &Name) {
        match unlinkat(self.store.containers_folder(), note(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => tracing::debug!("the note that `{name}` is paused stays: {errno}"),
        }
    }

    /// Whether a booted container was paused; one of which that cannot be said was not.
    pub(crate) fn is_paused(&self, container: &Container) -> bool {
        self.cgroup_of(container).is_frozen().unwrap_or(false)
    }

    /// Looks a container up for work that needs its processes. One that only stands still while its files are copied counts
    /// as going on: whoever copies them holds it.
    pub(crate) fn open_going(&self, name: &Name) -> Result<Container, ContainerError> {
        let container = Container::open(&self.store, name)?;
        if self.is_paused(&container) && container.is_free_to_share() {
            return Err(ContainerError::Paused {
                container: name.clone(),
            });
        }
        Ok(container)
    }

    /// Lets it go on where it was paused: it is being ended, and nothing that stands still hears of that.
    pub(crate) fn thaw_for_the_end(&self, container: &Container) {
        if !self.is_paused(container) {
            return;
        }
        let freezer = self.cgroup_of(container).freezer();
        match freezer.and_then(|freezer| freezer.thaw()) {
            Ok(()) => self.forget_pause(&container.name),
            Err(errno) => tracing::debug!("it stands still: {errno}"),
        }
    }

    pub(crate) fn cgroup_of(&self, container: &Container) -> Cgroup {
        let hierarchies = Arc::new(Hierarchies::find());
        let place = self.group(&hierarchies).place(&container.cgroup_name());
        Cgroup::below(&hierarchies, &place)
    }

    /// All containers' cgroups.
    pub(crate) fn group(&self, hierarchies: &Hierarchies) -> Group {
        Group::of(hierarchies, &self.settings.cgroup_parent)
    }
}

/// `.paused-<name>` among the containers.
fn note(name: &Name) -> String {
    format!("{PAUSED}{name}")
}

fn is_frozen(cgroup: &Cgroup) -> Result<bool, PauseError> {
    match cgroup.is_available() {
        true => cgroup.is_frozen().map_err(freezing),
        false => Err(PauseError::NoFreezer),
    }
}

fn freezing(source: Errno) -> PauseError {
    PauseError::Freeze { source }
}
