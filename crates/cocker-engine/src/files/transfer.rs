//! Files go into a container and come out of it.
//!
//! What is copied is made beside its place, and moved there when it is whole: see [`cocker_image::Stage`]. Into the container all
//! is made as its own root; out of it comes nothing that has more rights on the host than its reader gives it.

use super::root::{Purpose, Root};
use super::way::{Source, Target, Way};
use crate::engine::Engine;
use crate::failure::{EngineError, FilesError};
use crate::request::OnError;
use cocker_image::archive::{Limits, decompress, pack_files, unpack_files};
use cocker_image::{
    CopyRules, IdShift, LeftOut, Merged, Name, Nodes, Privileges, Stage, copy_files,
};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use std::ffi::CStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What is being copied is called so in its stage.
const STAGED: &CStr = c"copy";

/// Who is told what is left out of a copy, with its path.
type Told<'a> = &'a mut dyn FnMut(LeftOut, &str);

/// Breaks a copy off from outside, in a handler of signals for instance; then nothing of it is left.
pub type Interrupted = Arc<AtomicBool>;

/// What goes into a container. Paths are as [`super::way`] has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRequest {
    pub container: Name,
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub target: PathBuf,
    /// Whether device nodes are left out instead of refused.
    pub on_error: OnError,
}

/// What comes out of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetRequest {
    pub container: Name,
    /// In the container.
    pub source: PathBuf,
    /// On the host.
    pub target: PathBuf,
    /// Whether device nodes are left out instead of refused.
    pub on_error: OnError,
}

impl Engine {
    /// Copies a file or a folder of the host into a container, booted or stopped.
    ///
    /// # Errors
    /// Nothing is half under its final name. Where a folder was merged into one that was there, what had come into place
    /// stays.
    pub fn put(
        &self,
        request: &PutRequest,
        interrupted: &Interrupted,
        told: Told<'_>,
    ) -> Result<(), EngineError> {
        self.put_files(request, interrupted, told)
            .map_err(|error| EngineError::Put {
                what: format!("`{}`", request.source.display()),
                container: request.container.clone(),
                source: Box::new(error),
            })
    }

    /// Unpacks the tar stream `from`, compressed or not, into the folder `request.target`; its entries keep to the rules for
    /// archives of strangers.
    pub fn put_archive(
        &self,
        request: &PutRequest,
        from: Box<dyn Read + Send>,
    ) -> Result<(), EngineError> {
        self.unpack_into(request, from)
            .map_err(|error| EngineError::Put {
                what: "the archive".into(),
                container: request.container.clone(),
                source: Box::new(error),
            })
    }

    /// Copies a file or a folder of a container, booted or stopped, to the host.
    pub fn get(
        &self,
        request: &GetRequest,
        interrupted: &Interrupted,
        told: Told<'_>,
    ) -> Result<(), EngineError> {
        self.get_files(request, interrupted, told)
            .map_err(|error| getting(request, error))
    }

    /// Writes a file or a folder of a container to `to` as a tar stream.
    pub fn get_archive(
        &self,
        request: &GetRequest,
        to: &mut dyn Write,
        told: Told<'_>,
    ) -> Result<(), EngineError> {
        self.pack_out_of(request, to, told)
            .map_err(|error| getting(request, error))
    }

    fn put_files(
        &self,
        request: &PutRequest,
        interrupted: &AtomicBool,
        told: Told<'_>,
    ) -> Result<(), FilesError> {
        let files = self.open_files(&request.container, Purpose::Write)?;
        put_into(files.root(), request, interrupted, told)?;
        files.settle()
    }

    fn unpack_into(
        &self,
        request: &PutRequest,
        from: Box<dyn Read + Send>,
    ) -> Result<(), FilesError> {
        let files = self.open_files(&request.container, Purpose::Write)?;
        unpack_into(files.root(), request, from)?;
        files.settle()
    }

    fn get_files(
        &self,
        request: &GetRequest,
        interrupted: &AtomicBool,
        told: Told<'_>,
    ) -> Result<(), FilesError> {
        let files = self.open_files(&request.container, Purpose::Read)?;
        get_from(files.root(), request, interrupted, told)
    }

    fn pack_out_of(
        &self,
        request: &GetRequest,
        to: &mut dyn Write,
        told: Told<'_>,
    ) -> Result<(), FilesError> {
        let files = self.open_files(&request.container, Purpose::Read)?;
        pack_from(files.root(), request, to, told)
    }
}

pub(super) fn put_into(
    root: &Root,
    request: &PutRequest,
    interrupted: &AtomicBool,
    told: Told<'_>,
) -> Result<(), FilesError> {
    let source = Way::Host.source(&request.source)?;
    let target = Way::Inside(root).target(&request.target, &source)?;
    let _acting = root.act_as_root_inside()?;
    let rules = CopyRules {
        owners: root.ids_in(),
        privileges: Privileges::Kept,
        nodes: nodes(request.on_error),
        interrupted,
    };
    copy(&source, target, &rules, told)
}

pub(super) fn unpack_into(
    root: &Root,
    request: &PutRequest,
    from: Box<dyn Read + Send>,
) -> Result<(), FilesError> {
    let target = Way::Inside(root).folder(&request.target)?;
    let _acting = root.act_as_root_inside()?;
    let stage = Stage::make(target.as_fd())?;
    unpack(from, &stage, root.ids_in())?;
    Ok(stage.place_contents(STAGED, target.as_fd(), Merged::Kept, c".")?)
}

pub(super) fn get_from(
    root: &Root,
    request: &GetRequest,
    interrupted: &AtomicBool,
    told: Told<'_>,
) -> Result<(), FilesError> {
    let source = Way::Inside(root).source(&request.source)?;
    let target = Way::Host.target(&request.target, &source)?;
    copy(
        &source,
        target,
        &rules_out(root, request, interrupted),
        told,
    )
}

pub(super) fn pack_from(
    root: &Root,
    request: &GetRequest,
    to: &mut dyn Write,
    told: Told<'_>,
) -> Result<(), FilesError> {
    let source = Way::Inside(root).source(&request.source)?;
    // Nothing is left of an archive whose writer is killed.
    let never = AtomicBool::new(false);
    // An archive has no rights; whoever unpacks it decides what it gives.
    let rules = CopyRules {
        privileges: Privileges::Kept,
        ..rules_out(root, request, &never)
    };
    pack_files(&source.files, source.called(), &rules, to, told)?;
    Ok(())
}

fn rules_out<'a>(root: &Root, request: &GetRequest, interrupted: &'a AtomicBool) -> CopyRules<'a> {
    CopyRules {
        owners: root.ids_out(),
        privileges: Privileges::Dropped,
        nodes: nodes(request.on_error),
        interrupted,
    }
}

fn nodes(on_error: OnError) -> Nodes {
    match on_error {
        OnError::Stop => Nodes::Refused,
        OnError::GoOn => Nodes::LeftOut,
    }
}

fn copy(
    source: &Source,
    target: Target,
    rules: &CopyRules<'_>,
    told: Told<'_>,
) -> Result<(), FilesError> {
    let Target { folder, name } = target;
    let stage = Stage::make(folder.as_fd())?;
    let called = source.called();
    copy_files(&source.files, called, stage.folder(), STAGED, rules, told)?;
    match &name {
        Some(name) => stage.place(STAGED, name, Merged::Dressed)?,
        None => stage.place_contents(STAGED, folder.as_fd(), Merged::Dressed, c".")?,
    }
    Ok(())
}

fn unpack(from: Box<dyn Read + Send>, stage: &Stage, owners: IdShift) -> Result<(), FilesError> {
    let mut from = decompress(from).map_err(|source| FilesError::ReadArchive { source })?;
    let failed = |source| FilesError::Stage { source };
    rustix::fs::mkdirat(stage.folder(), STAGED, Mode::RWXU).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tree = rustix::fs::openat(stage.folder(), STAGED, flags, Mode::empty()).map_err(failed)?;
    unpack_files(&mut from, tree.as_fd(), Limits::default(), owners)?;
    Ok(())
}

fn getting(request: &GetRequest, error: FilesError) -> EngineError {
    EngineError::Get {
        what: request.source.clone(),
        container: request.container.clone(),
        source: Box::new(error),
    }
}
