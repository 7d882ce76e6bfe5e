//! Instances are made beside their places, and get them when all are whole.
//!
//! One of its own is put in place by one rename. Of several, each changes places with what had its name, so that they can
//! change back: whoever looks at a name sees the old file or the new one, and after a failure the old one.

use super::locating::{Job, Spot, Template};
use super::pass;
use super::places::Places;
use super::replacement::Replacer;
use crate::failure::InstantiateError;
use cocker_image::{Merged, Stage, dress_as};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, RenameFlags, Timespec, Timestamps, UTIME_NOW, fsync, futimens, renameat,
    renameat_with, statat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::rc::Rc;

const BUFFER: usize = 256 * 1024;

/// New files without their names.
pub(super) struct Staged {
    /// One for each folder.
    stages: Vec<(Rc<OwnedFd>, Stage)>,
    instances: Vec<Instance>,
    last_path: PathBuf,
}

/// One new file.
struct Instance {
    stage: usize,
    staged: CString,
    spot: Spot,
}

/// How an instance has got its place.
#[derive(Clone, Copy)]
enum Placed {
    /// The old file is in the stage.
    Exchanged,
    /// Nothing had the name.
    Free,
    /// The old file is gone: its file system cannot exchange.
    Replaced,
}

impl Staged {
    pub(super) fn new() -> Staged {
        Staged {
            stages: Vec::new(),
            instances: Vec::new(),
            last_path: PathBuf::new(),
        }
    }

    /// The template of the last instance.
    pub(super) fn last_path(&self) -> PathBuf {
        self.last_path.clone()
    }

    /// Makes an instance, whole and on disk. A template in place without any key in it is left alone.
    pub(super) fn make(
        &mut self,
        job: Job,
        replacer: &Replacer,
        places: &mut Places,
    ) -> Result<(), InstantiateError> {
        let template = job.template.open()?;
        self.last_path = template.path.clone();
        let old = match &job.instance {
            Some(instance) => instance.open_if_there()?,
            None => None,
        };
        let spot = job.target().clone();
        let stage = self.stage_in(&spot)?;
        // Until it is whole, only root may read it.
        let staged = CString::new(self.instances.len().to_string()).expect("digits have no NUL");
        let file = self.stages[stage].1.make_file(&staged)?;
        let output = File::from(file.try_clone().map_err(|source| writing(&spot, source))?);
        let mut output = BufWriter::with_capacity(BUFFER, output);
        let passed = pass(&template, replacer, &mut output, places)?;
        if passed.replaced == 0 && job.instance.is_none() {
            return Ok(());
        }
        output.flush().map_err(|source| writing(&spot, source))?;
        dress(&file, &template, old.as_ref(), job.instance.is_some())
            .and_then(|()| fsync(&file))
            .map_err(|errno| writing(&spot, errno.into()))?;
        self.instances.push(Instance {
            stage,
            staged,
            spot,
        });
        Ok(())
    }

    /// Gives all instances their places, or none.
    pub(super) fn place_all(self) -> Result<(), InstantiateError> {
        if let [only] = &self.instances[..] {
            let stage = &self.stages[only.stage].1;
            return Ok(stage.place(&only.staged, &only.spot.name, Merged::Kept)?);
        }
        let mut placed = Vec::new();
        for instance in &self.instances {
            match self.place(instance) {
                Ok(how) => placed.push((instance, how)),
                Err(source) => {
                    let lost = self.take_back(&placed);
                    return Err(InstantiateError::Place {
                        path: instance.spot.path.clone(),
                        source,
                        lost,
                    });
                }
            }
        }
        Ok(())
    }

    fn stage_in(&mut self, spot: &Spot) -> Result<usize, InstantiateError> {
        let known = |(folder, _): &(Rc<OwnedFd>, Stage)| Rc::ptr_eq(folder, &spot.folder);
        if let Some(known) = self.stages.iter().position(known) {
            return Ok(known);
        }
        let stage = Stage::make(spot.folder.as_fd())?;
        self.stages.push((spot.folder.clone(), stage));
        Ok(self.stages.len() - 1)
    }

    fn place(&self, instance: &Instance) -> Result<Placed, Errno> {
        let (from, staged) = (self.stages[instance.stage].1.folder(), &instance.staged);
        let (to, name) = (&instance.spot.folder, &instance.spot.name);
        match renameat_with(from, staged, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(Placed::Free),
            Err(Errno::EXIST | Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        match renameat_with(from, staged, to, name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL) => {
                // A rename never puts a file in the place of a folder.
                renameat(from, staged, to, name)?;
                return Ok(Placed::Replaced);
            }
            Err(errno) => return Err(errno),
        }
        // What is in the stage goes with it; a folder that took the name just now shall not.
        let old = statat(from, staged, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(old.st_mode) == FileType::Directory {
            renameat_with(from, staged, to, name, RenameFlags::EXCHANGE)?;
            return Err(Errno::ISDIR);
        }
        Ok(Placed::Exchanged)
    }

    /// Undoes what was placed, the newest first; returns what could not be undone.
    fn take_back(&self, placed: &[(&Instance, Placed)]) -> Vec<PathBuf> {
        let mut lost = Vec::new();
        for (instance, how) in placed.iter().rev() {
            let (stage, staged) = (self.stages[instance.stage].1.folder(), &instance.staged);
            let (folder, name) = (&instance.spot.folder, &instance.spot.name);
            let undone = match how {
                Placed::Exchanged => {
                    renameat_with(stage, staged, folder, name, RenameFlags::EXCHANGE)
                }
                Placed::Free => renameat(folder, name, stage, staged),
                Placed::Replaced => Err(Errno::NOTSUP),
            };
            if undone.is_err() {
                lost.push(instance.spot.path.clone());
            }
        }
        lost
    }
}

/// Owner, mode, access lists and other attributes: those of the file that is replaced, else those of the template. When it
/// was last read stays, too; it was modified now.
fn dress(
    file: &OwnedFd,
    template: &Template,
    old: Option<&Template>,
    has_own_place: bool,
) -> Result<(), Errno> {
    let model = old.unwrap_or(template);
    dress_as(model.file.as_fd(), file.as_fd())?;
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let last_access = match has_own_place && old.is_none() {
        true => now,
        false => Timespec {
            tv_sec: model.stat.st_atime,
            tv_nsec: model.stat.st_atime_nsec as _,
        },
    };
    futimens(
        file,
        &Timestamps {
            last_access,
            last_modification: now,
        },
    )
}

fn writing(spot: &Spot, source: std::io::Error) -> InstantiateError {
    InstantiateError::Write {
        path: spot.path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::Rules;
    use super::*;
    use rustix::fs::{Mode, OFlags, open};
    use std::fs;
    use std::path::Path;

    fn spot(folder: &Path, name: &str) -> Spot {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Spot {
            folder: Rc::new(open(folder, flags, Mode::empty()).expect("it is there")),
            name: CString::new(name).expect("no NUL"),
            path: folder.join(name),
        }
    }

    /// Instances of three templates, whole and without their places.
    fn staged(folder: &Path) -> Staged {
        let mut rules = Rules::default();
        rules.set(b"KEY".to_vec(), b"value".to_vec());
        let replacer = Replacer::new(&rules).expect("it is short");
        let mut staged = Staged::new();
        for (template, instance) in [("a", None), ("t", Some("new")), ("b", None)] {
            fs::write(folder.join(template), format!("{template} KEY")).expect("it is ours");
            let job = Job {
                template: spot(folder, template),
                instance: instance.map(|name| spot(folder, name)),
            };
            let made = staged.make(job, &replacer, &mut Places::ignored());
            made.expect("there is room");
        }
        staged
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("it is ours").flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn all_get_their_places_and_nothing_else_is_left() {
        let home = tempfile::tempdir().expect("a folder");
        staged(home.path())
            .place_all()
            .expect("nothing is in the way");
        assert_eq!(names(home.path()), ["a", "b", "new", "t"]);
        for (name, text) in [
            ("a", "a value"),
            ("b", "b value"),
            ("new", "t value"),
            ("t", "t KEY"),
        ] {
            assert_eq!(fs::read_to_string(home.path().join(name)).unwrap(), text);
        }
    }

    #[test]
    fn where_one_cannot_get_its_place_the_others_give_theirs_back() {
        let home = tempfile::tempdir().expect("a folder");
        let staged = staged(home.path());
        // The last one's place is taken by a folder with something in it.
        fs::remove_file(home.path().join("b")).unwrap();
        fs::create_dir(home.path().join("b")).unwrap();
        fs::write(home.path().join("b/kept"), "").unwrap();
        match staged.place_all() {
            Err(InstantiateError::Place { path, source, lost }) => {
                assert_eq!((path, source), (home.path().join("b"), Errno::ISDIR));
                assert!(lost.is_empty(), "{lost:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(names(home.path()), ["a", "b", "t"]);
        assert_eq!(fs::read_to_string(home.path().join("a")).unwrap(), "a KEY");
        assert!(home.path().join("b/kept").exists());
    }

    #[test]
    fn what_never_got_its_place_goes() {
        let home = tempfile::tempdir().expect("a folder");
        drop(staged(home.path()));
        assert_eq!(names(home.path()), ["a", "b", "t"]);
        assert_eq!(fs::read_to_string(home.path().join("a")).unwrap(), "a KEY");
    }
}
