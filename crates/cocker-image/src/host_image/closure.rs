//! All that one program needs to start: its links, its interpreter or loader, and its libraries with theirs.
//!
//! What a program opens by name while it runs is not seen here; `programs.rs` and `data.rs` know of that.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ffi::{OsStr, OsString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    elf::{Elf, ElfError},
    host::{Host, Trail, is_covered},
    libraries::{LibraryFolders, expand},
    plan::Plan,
    programs::STANDARD_FOLDERS,
};

/// The kernel reads this much of a script's first line (execve(2)).
const FIRST_LINE_AT_MOST: u64 = 256;

/// Scripts whose interpreters are scripts are followed this deep, as by the kernel.
const INTERPRETERS_AT_MOST: u32 = 4;

/// Interpreters that are whole without a library of modules of their own. `coreutils` is the one program that holds all
/// others where a distribution builds it so; each of those is then a script for it.
const PLAIN_INTERPRETERS: [&str; 12] = [
    "ash",
    "awk",
    "bash",
    "busybox",
    "coreutils",
    "dash",
    "gawk",
    "ksh",
    "mawk",
    "mksh",
    "sed",
    "sh",
];

/// A program of the host with all that it needs.
#[derive(Debug)]
pub(super) struct Program {
    /// Where it was found, before any link was followed.
    pub found: PathBuf,
    /// Its physical place.
    pub end: PathBuf,
    pub plan: Plan,
    /// Whether the image's search path leads to it.
    pub is_reachable: bool,
}

/// Why a program is not in the image.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("the host has no program of this name")]
    NotFound,
    #[error("`{path}` would be hidden by a booted container's own file systems")]
    Covered { path: PathBuf },
    #[error("loader `{loader}` not found")]
    LoaderNotFound { loader: PathBuf },
    #[error("library `{library}` not found")]
    LibraryNotFound { library: String },
    #[error("interpreter `{interpreter}` not found")]
    InterpreterNotFound { interpreter: PathBuf },
    #[error("it is a script for `{interpreter}`, whose modules are not copied")]
    InterpreterWithModules { interpreter: PathBuf },
    #[error("cannot use `{path}`")]
    Unusable {
        path: PathBuf,
        #[source]
        source: ElfError,
    },
    #[error("cannot read `{path}`")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("it needs {needed} bytes more and {left} are left")]
    TooLarge { needed: u64, left: u64 },
}

/// Finds programs on one host; remembers the ELF files it has read.
pub(super) struct Collector<'h> {
    host: &'h Host,
    search: Vec<PathBuf>,
    folders: LibraryFolders,
    elves: HashMap<PathBuf, Rc<Elf>>,
}

/// An ELF file as the loader holds it.
struct Loaded {
    elf: Rc<Elf>,
    /// What `$ORIGIN` means in it.
    origin: PathBuf,
    /// Which of the loaded files asked for it.
    needed_by: Option<usize>,
}

impl<'h> Collector<'h> {
    /// Looks for programs in the folders `search`, in that order.
    pub(super) fn new(host: &'h Host, search: Vec<PathBuf>) -> Self {
        Self {
            host,
            search,
            folders: LibraryFolders::of(host),
            elves: HashMap::new(),
        }
    }

    /// Collects the program `name` from the first search folder that has it.
    pub(super) fn program(&mut self, name: &str) -> Result<Program, Unavailable> {
        let (found, trail) = self.find(name)?;
        self.collect(found, &trail)
    }

    /// Collects the program at the absolute path `found`, where there is one.
    pub(super) fn program_at(&mut self, found: &Path) -> Option<Result<Program, Unavailable>> {
        let trail = self.executable(found)?;
        Some(self.collect(found.to_path_buf(), &trail))
    }

    /// Collects the library `name` as `program` would load it while it runs.
    pub(super) fn library(&mut self, program: &Path, name: &str) -> Result<Plan, Unavailable> {
        let mut elf = Elf::clone(&*self.elf(program)?);
        elf.needed = vec![OsString::from(name)];
        let mut plan = Plan::default();
        // A program without a loader loads nothing.
        if elf.interpreter.is_some() {
            self.add_libraries(program, Rc::new(elf), &mut plan)?;
        }
        Ok(plan)
    }

    pub(super) fn host(&self) -> &'h Host {
        self.host
    }

    fn find(&self, name: &str) -> Result<(PathBuf, Trail), Unavailable> {
        self.search
            .iter()
            .map(|folder| folder.join(name))
            .find_map(|path| self.executable(&path).map(|trail| (path, trail)))
            .ok_or(Unavailable::NotFound)
    }

    /// The way to the program at `path`, where there is one.
    fn executable(&self, path: &Path) -> Option<Trail> {
        let trail = self.host.follow(path).ok()?;
        trail.file()?.is_executable.then_some(trail)
    }

    fn collect(&mut self, found: PathBuf, trail: &Trail) -> Result<Program, Unavailable> {
        let mut plan = Plan::default();
        self.add_executable(trail, INTERPRETERS_AT_MOST, &mut plan)?;
        let is_reachable = !trail.has_covered_links()
            && found.parent().is_some_and(|folder| {
                STANDARD_FOLDERS
                    .iter()
                    .any(|standard| folder == Path::new(standard))
            });
        Ok(Program {
            found,
            end: trail.end.clone(),
            plan,
            is_reachable,
        })
    }

    fn add_executable(
        &mut self,
        trail: &Trail,
        depth: u32,
        plan: &mut Plan,
    ) -> Result<(), Unavailable> {
        if is_covered(&trail.end) {
            return Err(Unavailable::Covered {
                path: trail.end.clone(),
            });
        }
        plan.add_trail(trail);
        match self.script_line(&trail.end)? {
            Some(line) => self.add_interpreter(&line, depth, plan),
            None => {
                let elf = self.elf(&trail.end)?;
                self.add_loader(&elf, plan)?;
                self.add_libraries(&trail.end, elf, plan)
            }
        }
    }

    /// The words behind `#!` in the first line of a script.
    fn script_line(&self, end: &Path) -> Result<Option<Vec<OsString>>, Unavailable> {
        let start = self
            .host
            .read_start(end, FIRST_LINE_AT_MOST)
            .map_err(|source| Unavailable::Unreadable {
                path: end.to_path_buf(),
                source,
            })?;
        let Some(line) = start.strip_prefix(b"#!") else {
            return Ok(None);
        };
        let words = line
            .split(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default()
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
            .map(|word| OsStr::from_bytes(word).to_os_string())
            .collect();
        Ok(Some(words))
    }

    fn add_interpreter(
        &mut self,
        line: &[OsString],
        depth: u32,
        plan: &mut Plan,
    ) -> Result<(), Unavailable> {
        let interpreter = PathBuf::from(line.first().cloned().unwrap_or_default());
        let not_found = || Unavailable::InterpreterNotFound {
            interpreter: interpreter.clone(),
        };
        let depth = depth.checked_sub(1).ok_or_else(not_found)?;
        let trail = self.executable(&interpreter).ok_or_else(not_found)?;
        self.add_executable(&trail, depth, plan)?;
        let name = interpreter.file_name().unwrap_or_default();
        if name == "env" {
            let program = line.get(1).and_then(|word| word.to_str());
            let (found, trail) = self.find(program.ok_or_else(not_found)?)?;
            require_plain(&found)?;
            self.add_executable(&trail, depth, plan)
        } else {
            require_plain(&interpreter)
        }
    }

    fn add_loader(&self, elf: &Elf, plan: &mut Plan) -> Result<(), Unavailable> {
        let Some(loader) = &elf.interpreter else {
            return Ok(());
        };
        let trail = self
            .host
            .follow(loader)
            .ok()
            .filter(|trail| trail.file().is_some())
            .ok_or_else(|| Unavailable::LoaderNotFound {
                loader: loader.clone(),
            })?;
        plan.add_trail(&trail);
        Ok(())
    }

    /// Walks the needed libraries breadth first, as the loader does: a name that was loaded once serves all who ask.
    fn add_libraries(
        &mut self,
        program: &Path,
        elf: Rc<Elf>,
        plan: &mut Plan,
    ) -> Result<(), Unavailable> {
        let kind = elf.kind;
        let mut known: HashSet<OsString> = elf
            .interpreter
            .iter()
            .filter_map(|loader| loader.file_name())
            .map(OsStr::to_os_string)
            .collect();
        let mut pending: VecDeque<(OsString, usize)> =
            elf.needed.iter().map(|name| (name.clone(), 0)).collect();
        let mut loaded = vec![Loaded {
            elf,
            origin: folder_of(program),
            needed_by: None,
        }];
        while let Some((name, needed_by)) = pending.pop_front() {
            if !known.insert(name.clone()) {
                continue;
            }
            let wished = wished_folders(&loaded, needed_by);
            let (path, trail, elf) = self
                .folders
                .candidates(&name, kind, &wished)
                .into_iter()
                .find_map(|path| {
                    let trail = self.host.follow(&path).ok()?;
                    trail.file()?;
                    let is_hidden = trail.has_covered_links() || is_covered(&trail.end);
                    let elf = self.elf(&trail.end).ok()?;
                    (!is_hidden && elf.kind == kind).then_some((path, trail, elf))
                })
                .ok_or_else(|| Unavailable::LibraryNotFound {
                    library: name.to_string_lossy().into_owned(),
                })?;
            plan.add_trail(&trail);
            known.extend(elf.soname.clone());
            let index = loaded.len();
            pending.extend(elf.needed.iter().map(|name| (name.clone(), index)));
            loaded.push(Loaded {
                elf,
                origin: folder_of(&path),
                needed_by: Some(needed_by),
            });
        }
        Ok(())
    }

    fn elf(&mut self, end: &Path) -> Result<Rc<Elf>, Unavailable> {
        if let Some(elf) = self.elves.get(end) {
            return Ok(Rc::clone(elf));
        }
        let file = self
            .host
            .open(end)
            .map_err(|source| Unavailable::Unreadable {
                path: end.to_path_buf(),
                source,
            })?;
        let elf = Elf::read(file).map_err(|source| Unavailable::Unusable {
            path: end.to_path_buf(),
            source,
        })?;
        let elf = Rc::new(elf);
        self.elves.insert(end.to_path_buf(), Rc::clone(&elf));
        Ok(elf)
    }
}

fn require_plain(interpreter: &Path) -> Result<(), Unavailable> {
    let is_plain = interpreter
        .file_name()
        .is_some_and(|name| PLAIN_INTERPRETERS.iter().any(|plain| name == *plain));
    is_plain
        .then_some(())
        .ok_or_else(|| Unavailable::InterpreterWithModules {
            interpreter: interpreter.to_path_buf(),
        })
}

/// The search folders that hold for what `loaded[index]` needs: its own, or else those it and all who led to it
/// hand down.
fn wished_folders(loaded: &[Loaded], index: usize) -> Vec<PathBuf> {
    let asking = &loaded[index];
    if let Some(list) = &asking.elf.own_search {
        return expand(list, &asking.origin, asking.elf.kind);
    }
    let mut folders = Vec::new();
    let mut next = Some(index);
    while let Some(index) = next {
        let Loaded {
            elf,
            origin,
            needed_by,
        } = &loaded[index];
        if let (None, Some(list)) = (&elf.own_search, &elf.inherited_search) {
            folders.extend(expand(list, origin, elf.kind));
        }
        next = *needed_by;
    }
    folders
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_path_buf()
}
