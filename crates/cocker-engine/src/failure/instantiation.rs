//! Why templates of a container did not become files.

use super::FilesError;
use crate::instantiation::{BadRules, Place};
use cocker_image::{FindError, PlaceError};
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// What stands in the way of replacing keys in a container's files. Paths are seen from inside.
#[derive(Debug, thiserror::Error)]
pub enum InstantiateError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("the rules cannot be used")]
    Rules(#[from] BadRules),
    #[error("cannot open `{}`", path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("cannot use `{}`: it is {what}, and no regular file", path.display())]
    NoFile { path: PathBuf, what: &'static str },
    #[error("cannot look for templates")]
    Find(#[from] FindError),
    #[error("there is no file `*.tpl` in folder `{}`", path.display())]
    NoTemplates { path: PathBuf },
    #[error("there are more than {most} files `*.tpl` in folder `{}`", path.display())]
    TooMany { path: PathBuf, most: usize },
    #[error("cannot make one file of the templates in folder `{}`", path.display())]
    FolderWithInstance { path: PathBuf },
    #[error("cannot write file `{}`: it is a folder", path.display())]
    InstanceFolder { path: PathBuf },
    #[error("cannot make `{}` of two templates", path.display())]
    Twice { path: PathBuf },
    #[error("cannot replace `{}`: it is mounted there", path.display())]
    Mounted { path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use `{}`: it was changed while it was read", path.display())]
    Changed { path: PathBuf },
    #[error("{}", unruled(found, *count))]
    Unruled {
        /// The first of them.
        found: Vec<(PathBuf, Place)>,
        count: u64,
    },
    #[error("cannot write what becomes of `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Stage(#[from] PlaceError),
    #[error("cannot replace `{}`{}", path.display(), not_taken_back(lost))]
    Place {
        path: PathBuf,
        #[source]
        source: Errno,
        /// What has its new content all the same.
        lost: Vec<PathBuf>,
    },
}

impl InstantiateError {
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            InstantiateError::Files(source) => source.hint(),
            InstantiateError::FolderWithInstance { .. } => Some(
                "without `--instance-file`, each becomes the file of its name without `.tpl`, beside it."
                    .into(),
            ),
            InstantiateError::InstanceFolder { .. } => Some("name the file in it.".into()),
            InstantiateError::Mounted { .. } => {
                Some("a single file that is mounted is changed on the host.".into())
            }
            InstantiateError::Changed { .. } => {
                Some("try again when the container does not write to it.".into())
            }
            InstantiateError::Unruled { .. } => {
                Some("make rules for them, or leave them as they are: without `--strict`.".into())
            }
            _ => None,
        }
    }
}

/// `/etc/app.conf` line 3 has `${A}` without a rule, and so on.
fn unruled(found: &[(PathBuf, Place)], count: u64) -> String {
    let told = found
        .iter()
        .map(|(path, place)| format!("`${{{}}}` ({}:{})", place.name, path.display(), place.line));
    let told = told.collect::<Vec<_>>().join(", ");
    match count - found.len() as u64 {
        0 => format!("there is no rule for {told}"),
        more => format!("there is no rule for {told} and {more} more"),
    }
}

fn not_taken_back(lost: &[PathBuf]) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let paths = lost.iter().map(|path| Path::display(path).to_string());
    format!(
        "; replaced before and not taken back: {}",
        paths.collect::<Vec<_>>().join(", ")
    )
}
