//! destroy: a container vanishes by one rename; its files follow.

use crate::addresses;
use crate::container::Container;
use crate::engine::Engine;
use crate::failure::{CleanUpError, ContainerError, DestroyError, EngineError, TalkError};
use crate::ids;
use crate::network::NetworkFailure;
use crate::request::{IfBooted, OnError};
use crate::state::Record;
use cocker_image::Name;
use cocker_image::staging::LeavingFolder;
use cocker_sandbox::{Cgroup, Hierarchies};
use cocker_sys::fault;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a container is given to end by itself when it is shut down in order to be destroyed.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

/// How long other commands may take that are at work on it.
const WORK_TIME: Duration = Duration::from_secs(20);

impl Engine {
    /// Removes a container with its writable layer. Files of volumes are the host's and stay.
    ///
    /// With [`OnError::GoOn`], what cannot be removed stands in nobody's way: it is left for the next command's sweep.
    pub fn destroy(
        &self,
        container: &Name,
        if_booted: IfBooted,
        on_error: OnError,
    ) -> Result<(), EngineError> {
        self.remove_container(container, if_booted, on_error)
            .map_err(|source| EngineError::Destroy {
                container: container.clone(),
                source: Box::new(source),
            })
    }

    fn remove_container(
        &self,
        name: &Name,
        if_booted: IfBooted,
        on_error: OnError,
    ) -> Result<(), DestroyError> {
        if if_booted == IfBooted::ShutDownFirst {
            match self.end(name, Some(SHUTDOWN_TIME)) {
                Ok(()) | Err(TalkError::Container(ContainerError::NotBooted { .. })) => {}
                Err(TalkError::Container(source)) if !may_go_on(&source, on_error) => {
                    return Err(DestroyError::Container(source));
                }
                Err(source) if on_error == OnError::Stop => return Err(source.into()),
                Err(error) => tracing::warn!("going on: {error}"),
            }
        }
        let deadline = Instant::now() + WORK_TIME;
        let opened = Container::open_for_work_until(&self.store, name, deadline);
        let (container, work) = match opened {
            Err(source) if may_go_on(&source, on_error) => return self.remove_damaged(name),
            other => other?,
        };
        let record = container.hold_stopped_until(deadline)?;
        self.expect_nothing(&container)?;
        match self.clean_up_for_good(&container, record) {
            Err(source) if on_error == OnError::Stop => {
                return Err(DestroyError::CleanUp { source });
            }
            _ => {}
        }
        forgiven(self.unpin_network(&container), on_error)?;
        let names = self.store.lock()?;
        let leaving = LeavingFolder::begin_held(
            self.store.containers_folder(),
            name.as_str(),
            work.into_folder(),
        )
        .map_err(|source| DestroyError::Rename { source })?;
        // From here on it is gone: nothing may fail that is not told as such.
        if self.bring_to_disk() {
            self.forget_pause(name);
            self.give_back(name, &container.settings);
        }
        drop(names);
        self.remove_files(leaving, on_error)
    }

    /// What has lost its name stays without it also after a power cut. Done before its ids and its address are given back, so that
    /// it never comes back beside another that has the same; where that fails, on a failing disk, they stay taken.
    fn bring_to_disk(&self) -> bool {
        let sync = || rustix::fs::fsync(self.store.containers_folder());
        let synced = fault::step("destroy.sync", sync);
        if let Err(errno) = synced {
            tracing::warn!("its ids and its address stay taken: {errno}");
        }
        synced.is_ok()
    }

    /// A supervisor, or a client in the middle of a boot, may have been killed before it could do this. The container is to
    /// vanish, so it is in nobody's way that its record cannot be written, on a full disk.
    pub(crate) fn clean_up_for_good(
        &self,
        container: &Container,
        record: Record,
    ) -> Result<(), CleanUpError> {
        match self.clean_up_after_crash(container, record) {
            Err(CleanUpError::Record { source }) => {
                tracing::debug!("its record stays as it is: {source}");
            }
            cleaned => cleaned?,
        }
        let cgroup = self.cgroup_of(container);
        cgroup
            .remove()
            .map_err(|source| CleanUpError::of_cgroup(&cgroup, source))
    }

    /// A container whose settings cannot be read any more: all that is known of it is its folder.
    fn remove_damaged(&self, name: &Name) -> Result<(), DestroyError> {
        self.remove_cgroups_of(name);
        let _aftermath = self.detach_network_of(name).map_err(NetworkFailure::from)?;
        let names = self.store.lock()?;
        let leaving = LeavingFolder::begin(self.store.containers_folder(), name.as_str())
            .map_err(|source| DestroyError::Rename { source })?;
        if !self.bring_to_disk() {
            drop(names);
            return self.remove_files(leaving, OnError::GoOn);
        }
        self.forget_pause(name);
        if let Err(errno) = ids::give_back_all_of(&self.store, name) {
            tracing::warn!("its ids stay taken: {errno}");
        }
        if let Err(errno) = addresses::give_back_all_of(&self.store, name) {
            tracing::warn!("its address stays taken: {errno}");
        }
        drop(names);
        self.remove_files(leaving, OnError::GoOn)
    }

    /// The folders are called after the container and its id, which is not known any more.
    fn remove_cgroups_of(&self, name: &Name) {
        let hierarchies = Arc::new(Hierarchies::find());
        let group = self.group(&hierarchies);
        for cgroup in Cgroup::names_in(&hierarchies, &group) {
            let id = cgroup.strip_prefix(name.as_str());
            let id = id.and_then(|rest| rest.strip_prefix('.'));
            let is_id = |id: &str| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
            if id.is_some_and(is_id)
                && let Err(errno) = Cgroup::below(&hierarchies, &group.place(&cgroup)).remove()
            {
                tracing::warn!("going on: cannot remove cgroup `{cgroup}`: {errno}");
            }
        }
    }

    fn remove_files(&self, leaving: LeavingFolder, on_error: OnError) -> Result<(), DestroyError> {
        match leaving.remove() {
            Err(source) if on_error == OnError::Stop => Err(DestroyError::Files { source }),
            Err(error) => {
                tracing::warn!("going on: {error}");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// With `--forcely` what cannot be taken away of the network stays.
fn forgiven(given_up: Result<(), NetworkFailure>, on_error: OnError) -> Result<(), NetworkFailure> {
    match given_up {
        Err(error) if on_error == OnError::GoOn => {
            tracing::warn!("going on: {error}");
            Ok(())
        }
        other => other,
    }
}

/// What `--forcely` goes on over: a container that is there but cannot be read.
fn may_go_on(error: &ContainerError, on_error: OnError) -> bool {
    let is_damage = matches!(
        error,
        ContainerError::Read { .. }
            | ContainerError::Damaged { .. }
            | ContainerError::TooNew { .. }
    );
    is_damage && on_error == OnError::GoOn
}
