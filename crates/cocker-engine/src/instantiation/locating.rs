//! Which templates there are, and where their instances go.
//!
//! A user's path is resolved inside the container's root. Its last part may be a link, which is followed there, as far as it
//! leads, so that it is the file that is replaced and not the link. From then on a file is a folder that is held open and
//! a name in it.

use super::InstantiateRequest;
use crate::failure::InstantiateError;
use crate::files::Root;
use cocker_image::find_files;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2, readlinkat,
};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The most templates of one call.
const MOST_TEMPLATES: usize = 10_000;

/// The most links at the end of a path, as the kernel has it (path_resolution(7)).
const MOST_LINKS: usize = 40;

const ENDING: &[u8] = b".tpl";

/// One template, and where its instance goes.
pub(super) struct Job {
    pub template: Spot,
    /// None: in place.
    pub instance: Option<Spot>,
}

impl Job {
    pub(super) fn target(&self) -> &Spot {
        self.instance.as_ref().unwrap_or(&self.template)
    }
}

/// A name in a folder, whatever has it.
#[derive(Clone)]
pub(super) struct Spot {
    /// Open for nothing but paths (O_PATH).
    pub folder: Rc<OwnedFd>,
    pub name: CString,
    /// As it is told.
    pub path: PathBuf,
}

/// A regular file, open for reading.
pub(super) struct Template {
    pub file: OwnedFd,
    pub path: PathBuf,
    /// When it was opened.
    pub stat: Stat,
}

impl Template {
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    /// Whether nobody has written to it since it was opened, as far as its size and times tell.
    pub(super) fn is_unchanged(&self) -> bool {
        let of = |stat: &Stat| {
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            (stat.st_size, modified, stat.st_ctime, stat.st_ctime_nsec)
        };
        fstat(&self.file).is_ok_and(|now| of(&now) == of(&self.stat))
    }
}

impl Spot {
    /// Opens the regular file that has the name. What is anything else is only looked at and never opened.
    pub(super) fn open(&self) -> Result<Template, InstantiateError> {
        self.open_if_there()?
            .ok_or_else(|| self.failed(Errno::NOENT))
    }

    /// The same, or none where nothing has the name.
    pub(super) fn open_if_there(&self) -> Result<Option<Template>, InstantiateError> {
        let failed = |errno| self.failed(errno);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = match openat(&self.folder, &self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            held => held.map_err(failed)?,
        };
        let stat = fstat(&held).map_err(failed)?;
        refuse_others_than_files(&self.path, &stat)?;
        Ok(Some(Template {
            file: open_held(&held).map_err(failed)?,
            path: self.path.clone(),
            stat,
        }))
    }

    fn failed(&self, source: Errno) -> InstantiateError {
        InstantiateError::Open {
            path: self.path.clone(),
            source,
        }
    }
}

/// What is to be done, in the order of what was said; folders in the order of their paths.
pub(super) fn locate_all(
    root: &Root,
    request: &InstantiateRequest,
) -> Result<Vec<Job>, InstantiateError> {
    let mut jobs = Vec::new();
    for said in &request.templates {
        let held = root.open(said, OFlags::PATH).map_err(opening(said))?;
        let stat = fstat(&held).map_err(opening(said))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if request.instance.is_some() {
                return Err(InstantiateError::FolderWithInstance { path: said.clone() });
            }
            locate_below(&held, said, &mut jobs)?;
        } else {
            refuse_others_than_files(said, &stat)?;
            jobs.push(Job {
                template: locate(root, said)?,
                instance: match &request.instance {
                    Some(instance) => Some(locate_instance(root, instance)?),
                    None => None,
                },
            });
        }
    }
    for job in &jobs {
        refuse_mounted(job.target())?;
    }
    refuse_one_target_of_two(&jobs)?;
    Ok(jobs)
}

/// Every `*.tpl` below a folder; its instance is beside it.
fn locate_below(top: &OwnedFd, said: &Path, jobs: &mut Vec<Job>) -> Result<(), InstantiateError> {
    let before = jobs.len();
    let wanted = |name: &CStr| instance_name(name).is_some();
    let mut folder: Option<(PathBuf, Rc<OwnedFd>)> = None;
    find_files(top.as_fd(), &wanted, &mut |found| {
        if jobs.len() == MOST_TEMPLATES {
            return Err(InstantiateError::TooMany {
                path: said.into(),
                most: MOST_TEMPLATES,
            });
        }
        let below = found.path.strip_prefix(b"./").unwrap_or(&found.path);
        let path = said.join(OsStr::from_bytes(below));
        let parent = path.parent().unwrap_or(Path::new(""));
        let held = match &folder {
            Some((known, held)) if known == parent => held.clone(),
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let held = openat(found.folder, c".", flags, Mode::empty());
                let held = Rc::new(held.map_err(opening(parent))?);
                folder = Some((parent.into(), held.clone()));
                held
            }
        };
        let name = instance_name(found.name).expect("only those are wanted");
        let instance = parent.join(OsStr::from_bytes(name.to_bytes()));
        jobs.push(Job {
            instance: Some(Spot {
                folder: held.clone(),
                name,
                path: instance,
            }),
            template: Spot {
                folder: held,
                name: found.name.into(),
                path,
            },
        });
        Ok(())
    })?;
    match jobs.len() > before {
        true => Ok(()),
        false => Err(InstantiateError::NoTemplates { path: said.into() }),
    }
}

/// The name without `.tpl`.
fn instance_name(template: &CStr) -> Option<CString> {
    let name = template.to_bytes().strip_suffix(ENDING)?;
    (!matches!(name, b"" | b"." | b"..")).then(|| CString::new(name).ok())?
}

fn locate_instance(root: &Root, said: &Path) -> Result<Spot, InstantiateError> {
    let is_folder = || InstantiateError::InstanceFolder { path: said.into() };
    let bytes = said.as_os_str().as_bytes();
    if bytes.ends_with(b"/") || bytes.ends_with(b"/.") || said.file_name().is_none() {
        return Err(is_folder());
    }
    if open_folder(root, said).is_ok() {
        return Err(is_folder());
    }
    locate(root, said)
}

/// The folder and the name that a path leads to, links at its end followed.
fn locate(root: &Root, said: &Path) -> Result<Spot, InstantiateError> {
    let mut path = said.to_path_buf();
    for _ in 0..MOST_LINKS {
        let name = path
            .file_name()
            .ok_or(Errno::ISDIR)
            .map_err(opening(said))?;
        let name = CString::new(name.as_bytes())
            .map_err(|_| Errno::INVAL)
            .map_err(opening(said))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let folder = open_folder(root, parent).map_err(opening(said))?;
        match readlinkat(&folder, &name, Vec::new()) {
            Ok(target) => path = parent.join(OsStr::from_bytes(target.to_bytes())),
            // There is something else, or nothing.
            Err(Errno::INVAL | Errno::NOENT) => {
                return Ok(Spot {
                    folder: Rc::new(folder),
                    name,
                    path: said.into(),
                });
            }
            Err(source) => return Err(opening(said)(source)),
        }
    }
    Err(opening(said)(Errno::LOOP))
}

/// A file that is a mount of its own, as a volume of a single file is, cannot be replaced. The kernel does not say so to us: in
/// our mount namespace nothing is mounted there, and a rename would take the mount away inside (rename(2) is silent on it).
fn refuse_mounted(target: &Spot) -> Result<(), InstantiateError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV;
    match openat2(&target.folder, &target.name, flags, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Err(InstantiateError::Mounted {
            path: target.path.clone(),
        }),
        // What else there is to be said about it, its opening says.
        _ => Ok(()),
    }
}

fn open_folder(root: &Root, path: &Path) -> Result<OwnedFd, Errno> {
    root.open(path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Of two instances with one name, whichever came last would win.
fn refuse_one_target_of_two(jobs: &[Job]) -> Result<(), InstantiateError> {
    let mut taken = HashSet::new();
    for target in jobs.iter().map(Job::target) {
        let folder = fstat(&target.folder).map_err(opening(&target.path))?;
        if !taken.insert((folder.st_dev, folder.st_ino, &target.name)) {
            return Err(InstantiateError::Twice {
                path: target.path.clone(),
            });
        }
    }
    Ok(())
}

fn refuse_others_than_files(path: &Path, stat: &Stat) -> Result<(), InstantiateError> {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok(()),
        FileType::Directory => "a folder",
        FileType::Symlink => "a link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    };
    Err(InstantiateError::NoFile {
        path: path.into(),
        what,
    })
}

/// Opens the contents of what is held, and of nothing that has taken its name since.
fn open_held(held: &OwnedFd) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // Reading is no reason to change when it was last read; but that is a right of owners.
    match openat(CWD, &path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(CWD, &path, flags, Mode::empty()),
        opened => opened,
    }
}

fn opening(path: &Path) -> impl Fn(Errno) -> InstantiateError + use<> {
    let path = PathBuf::from(path);
    move |source| InstantiateError::Open {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_called_as_its_template_without_the_ending() {
        for (template, instance) in [
            (c"a.conf.tpl", Some(c"a.conf")),
            (c"a.tpl.tpl", Some(c"a.tpl")),
            (c".tpl", None),
            (c"..tpl", None),
            (c"...tpl", None),
            (c"tpl", None),
            (c"a.TPL", None),
        ] {
            assert_eq!(instance_name(template), instance.map(CString::from));
        }
    }
}
