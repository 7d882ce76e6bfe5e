//! destroy: a container vanishes by one rename; its files follow.

use crate::addresses::{self, AddressError};
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
use std::rc::Rc;
use std::time::Duration;

/// What a container is given to end by itself when it is shut down in order to be destroyed.
const SHUTDOWN_TIME: Duration = Duration::from_secs(10);

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
        let (container, work) = match Container::open_for_work(&self.store, name) {
            Err(source) if may_go_on(&source, on_error) => return self.remove_damaged(name),
            other => other?,
        };
        let record = container.hold_stopped()?;
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
        self.forget_pause(name);
        ids::give_back(&self.store, name, container.settings.id_slot)
            .map_err(|source| DestroyError::Ids { source })?;
        forgiven(self.give_back_address(name, &container.settings), on_error)?;
        drop(names);
        self.remove_files(leaving, on_error)
    }

    /// A supervisor, or a client in the middle of a boot, may have been killed before it could do this.
    pub(crate) fn clean_up_for_good(
        &self,
        container: &Container,
        record: Record,
    ) -> Result<(), CleanUpError> {
        self.clean_up_after_crash(container, record)?;
        self.cgroup_of(container)
            .remove()
            .map_err(|source| CleanUpError::Cgroup { source })
    }

    /// A container whose settings cannot be read any more: all that is known of it is its folder.
    fn remove_damaged(&self, name: &Name) -> Result<(), DestroyError> {
        self.remove_cgroups_of(name);
        let _aftermath = self.detach_network_of(name).map_err(NetworkFailure::from)?;
        let names = self.store.lock()?;
        let leaving = LeavingFolder::begin(self.store.containers_folder(), name.as_str())
            .map_err(|source| DestroyError::Rename { source })?;
        self.forget_pause(name);
        ids::give_back_all_of(&self.store, name).map_err(|source| DestroyError::Ids { source })?;
        addresses::give_back_all_of(&self.store, name)
            .map_err(|source| NetworkFailure::from(AddressError::Register { source }))?;
        drop(names);
        self.remove_files(leaving, OnError::GoOn)
    }

    /// The folders are called after the container and its id, which is not known any more.
    fn remove_cgroups_of(&self, name: &Name) {
        let hierarchies = Rc::new(Hierarchies::find());
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
