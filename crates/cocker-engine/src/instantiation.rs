//! Templates of a container become files: keys are replaced by values.
//!
//! ```text
//! templates ──locate──▶ jobs ──stage──▶ every new file, whole, beside its place ──place──▶ one rename each
//! ```
//!
//! Nothing has its name before all of it is written. Where one of several cannot get its place, those that have theirs give
//! it back. Paths lead through the container's root and never out of it; what a template is, and whether it stays the same
//! while it is read, is looked at, since processes of the container may be at work on it.

mod locating;
mod places;
mod placing;
mod preview;
mod replacement;
mod rules;

pub use places::Place;
pub use preview::{InstanceChange, InstancePreview};
pub use rules::{BadRules, MOST_MAPPING_BYTES, Rules};

use crate::engine::Engine;
use crate::failure::{EngineError, InstantiateError};
use crate::files::Purpose;
use cocker_image::Name;
use locating::Template;
use places::Places;
use placing::Staged;
use replacement::{PassError, Passed, Replacer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// What is to be instantiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstantiateRequest {
    pub container: Name,
    /// Paths inside: files, or folders, of which every `*.tpl` is one. At least one.
    pub templates: Vec<PathBuf>,
    /// Where the one template's instance goes; none: in place, and those of a folder beside it, without `.tpl`.
    pub instance: Option<PathBuf>,
    pub rules: Rules,
    pub unruled: Unruled,
}

/// What becomes of `${NAME}` in a template, where there is no rule for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unruled {
    /// It stays as it is.
    Stays,
    /// Nothing is done.
    Refused,
}

impl Engine {
    /// Replaces keys in files of a container, booted or stopped: all of them, or none.
    pub fn instantiate(&self, request: &InstantiateRequest) -> Result<(), EngineError> {
        self.instantiate_all(request)
            .map_err(|source| failed(request, source))
    }

    /// Tells what [`Engine::instantiate`] would change, file by file, and changes nothing.
    pub fn preview_instances(
        &self,
        request: &InstantiateRequest,
        told: &mut dyn FnMut(InstancePreview),
    ) -> Result<(), EngineError> {
        self.preview_all(request, told)
            .map_err(|source| failed(request, source))
    }

    fn instantiate_all(&self, request: &InstantiateRequest) -> Result<(), InstantiateError> {
        let replacer = Replacer::new(&request.rules)?;
        let files = self.open_files(&request.container, Purpose::Write)?;
        let _many = ManyFiles::allow();
        {
            // From here on we are the container's root, as far as files are concerned.
            let _acting = files.root().act_as_root_inside()?;
            let jobs = locating::locate_all(files.root(), request)?;
            let mut staged = Staged::new();
            let mut unruled = UnruledPlaces::default();
            for job in jobs {
                let mut places = unruled.of(request);
                staged.make(job, &replacer, &mut places)?;
                unruled.add(&staged.last_path(), places);
            }
            unruled.refuse()?;
            staged.place_all()?;
        }
        Ok(files.settle()?)
    }

    fn preview_all(
        &self,
        request: &InstantiateRequest,
        told: &mut dyn FnMut(InstancePreview),
    ) -> Result<(), InstantiateError> {
        let replacer = Replacer::new(&request.rules)?;
        let files = self.open_files(&request.container, Purpose::Read)?;
        let _many = ManyFiles::allow();
        let jobs = locating::locate_all(files.root(), request)?;
        if request.unruled == Unruled::Refused {
            // Before anything is told, as nothing would be done.
            let mut unruled = UnruledPlaces::default();
            for job in &jobs {
                let mut places = unruled.of(request);
                let template = job.template.open()?;
                pass(&template, &replacer, &mut std::io::sink(), &mut places)?;
                unruled.add(&job.template.path, places);
            }
            unruled.refuse()?;
        }
        for job in &jobs {
            if let Some(preview) = preview::preview(job, &replacer)? {
                told(preview);
            }
        }
        Ok(())
    }
}

/// While it lives, as many files may be open as ever may be: three for each folder that gets instances. What programs
/// usually start with is not enough for large trees.
struct ManyFiles(Option<Rlimit>);

impl ManyFiles {
    fn allow() -> ManyFiles {
        let before = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: before.maximum,
            maximum: before.maximum,
        };
        // Where it is not given, there is less room, and who needs more is told so.
        let raised = setrlimit(Resource::Nofile, most).is_ok();
        ManyFiles(raised.then_some(before))
    }
}

impl Drop for ManyFiles {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            let _ = setrlimit(Resource::Nofile, before);
        }
    }
}

/// Passes a whole template on. It must stay the same meanwhile.
fn pass(
    template: &Template,
    replacer: &Replacer,
    output: &mut dyn Write,
    places: &mut Places,
) -> Result<Passed, InstantiateError> {
    let path = || template.path.clone();
    let reading = |source| InstantiateError::Read {
        path: path(),
        source,
    };
    let file = File::from(template.file.try_clone().map_err(reading)?);
    // However fast it grows, there is an end.
    let bounded = file.take(template.size() + 1);
    let passed = replacer
        .pass(bounded, output, places)
        .map_err(|error| match error {
            PassError::Read(source) => reading(source),
            PassError::Write(source) => InstantiateError::Write {
                path: path(),
                source,
            },
        })?;
    if passed.read != template.size() || !template.is_unchanged() {
        return Err(InstantiateError::Changed { path: path() });
    }
    Ok(passed)
}

/// Places without a rule, of all templates.
#[derive(Default)]
struct UnruledPlaces {
    found: Vec<(PathBuf, Place)>,
    count: u64,
}

impl UnruledPlaces {
    fn of(&self, request: &InstantiateRequest) -> Places {
        match request.unruled {
            Unruled::Stays => Places::ignored(),
            Unruled::Refused => Places::sought(),
        }
    }

    fn add(&mut self, path: &std::path::Path, places: Places) {
        let (found, count) = places.found();
        self.count += count;
        let room = places::MOST - self.found.len().min(places::MOST);
        let found = found.into_iter().take(room);
        self.found.extend(found.map(|place| (path.into(), place)));
    }

    fn refuse(self) -> Result<(), InstantiateError> {
        match self.count {
            0 => Ok(()),
            count => Err(InstantiateError::Unruled {
                found: self.found,
                count,
            }),
        }
    }
}

fn failed(request: &InstantiateRequest, source: InstantiateError) -> EngineError {
    EngineError::Instantiate {
        container: request.container.clone(),
        source: Box::new(source),
    }
}
