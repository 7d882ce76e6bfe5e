//! What cocker reads from its environment, and the engine made from it.

use crate::failure::Failure;
use crate::residents;
use cocker_engine::{Engine, EngineError, Name, Settings, stand_for_a_user, stands_for_a_user};
use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Component, Path, PathBuf};

const DEFAULT_HOME: &str = "/var/cocker";
/// What helps whoever cannot open a store.
const NOT_YOURS: &str = "an ordinary user's store is below the home folder unless COCKER_HOME says otherwise; for root's: sudo.";
const DEFAULT_CGROUP: &str = "cocker";
/// What a container's programs are told of the terminal when we know nothing: only plain lines.
const DEFAULT_TERM: &str = "dumb";

/// Opens the engine on `COCKER_HOME`. Who is not root becomes root of its own ids first.
pub fn engine() -> Result<Engine, Failure> {
    engine_about(None)
}

/// The same for a command that looks into `container`.
pub fn engine_about(container: Option<&Name>) -> Result<Engine, Failure> {
    Ok(Engine::open(settings_about(container)?)?)
}

/// What an engine is opened with, for a command that opens it itself.
pub fn settings_about(container: Option<&Name>) -> Result<Settings, Failure> {
    if !rustix::process::geteuid().is_root() {
        let home = home(said("COCKER_HOME"))?;
        let names = ["USER", "LOGNAME"].iter().flat_map(env::var).collect();
        let entered = cocker_engine::become_root(&home, container, names);
        entered.map_err(|error| {
            let is_of_the_store = matches!(error, EngineError::Image(_));
            let hint = is_of_the_store.then(|| NOT_YOURS.into());
            Failure::from(error).with_hint(hint)
        })?;
    } else if said(cocker_engine::FOR_A_USER).is_some() {
        // What a supervisor executes at its end is there already.
        stand_for_a_user();
    }
    debug_assert_eq!(
        thread_count(),
        1,
        "the engine forks: no thread may have been started"
    );
    settings()
}

/// In test builds: lets the file that a test has made decide what happens at the points of this command's steps.
#[cfg(debug_assertions)]
pub fn take_faults() -> Result<(), Failure> {
    use cocker_engine::fault;
    let Some(path) = said(fault::VARIABLE) else {
        return Ok(());
    };
    fault::install(Path::new(&path)).map_err(|error| {
        Failure::not_done(format!("cannot use {}", fault::VARIABLE)).caused_by(&error)
    })
}

/// What TERM shall be inside the container.
pub fn terminal_type() -> String {
    let is_harmless = |term: &String| {
        (1..=64).contains(&term.len()) && term.bytes().all(|byte| byte.is_ascii_graphic())
    };
    env::var("TERM")
        .ok()
        .filter(is_harmless)
        .unwrap_or_else(|| DEFAULT_TERM.into())
}

/// Who the user is on the host, as far as the environment says: before sudo, else at the login.
pub fn user() -> String {
    ["SUDO_USER", "LOGNAME", "USER"]
        .into_iter()
        .filter_map(|key| env::var(key).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "root".into())
}

/// The socket of the user's ssh agent.
pub fn agent() -> Option<PathBuf> {
    said("SSH_AUTH_SOCK").map(PathBuf::from)
}

/// The folders of PATH, where the user's programs are.
pub fn program_folders() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// The variables whose names begin with `prefix` and go on: the rest of the name, and the value.
pub fn variables(prefix: &OsStr) -> impl Iterator<Item = (OsString, OsString)> {
    env::vars_os().filter_map(|(name, value)| {
        let rest = name.as_bytes().strip_prefix(prefix.as_bytes())?;
        (!rest.is_empty()).then(|| (OsStr::from_bytes(rest).into(), value))
    })
}

fn settings() -> Result<Settings, Failure> {
    Ok(Settings {
        home: home(said("COCKER_HOME"))?,
        cgroup_parent: cgroup_parent(said("COCKER_CGROUP"))?,
        supervisor: residents::SUPERVISOR,
        init: residents::INIT,
    })
}

/// An empty variable says nothing.
fn said(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

fn home(said: Option<OsString>) -> Result<PathBuf, Failure> {
    let said = said.map_or_else(default_home, |said| Ok(said.into()))?;
    path::absolute(&said)
        .map_err(|error| Failure::not_done("cannot find out the current folder").caused_by(&error))
}

/// The host's root has one place; everybody else one below the home folder (XDG Base Directory Specification).
fn default_home() -> Result<PathBuf, Failure> {
    if rustix::process::geteuid().is_root() && !stands_for_a_user() {
        return Ok(DEFAULT_HOME.into());
    }
    let absolute = |variable| {
        said(variable)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .ok_or_else(|| {
            let failure = Failure::not_done("cannot find out where the user's own data is");
            failure.hint("set HOME, or COCKER_HOME.")
        })?;
    Ok(data.join("cocker"))
}

/// Relative to the root of the cgroup hierarchy, and never out of it.
fn cgroup_parent(said: Option<OsString>) -> Result<String, Failure> {
    let said = said.unwrap_or_else(|| DEFAULT_CGROUP.into());
    let stays_below = Path::new(&said)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    match said.into_string() {
        Ok(folder) if stays_below => Ok(folder),
        Ok(folder) => Err(bad_cgroup_parent(&folder)),
        Err(folder) => Err(bad_cgroup_parent(&folder.to_string_lossy())),
    }
}

fn bad_cgroup_parent(said: &str) -> Failure {
    Failure::not_done(format!("cannot use COCKER_CGROUP=`{said}`"))
        .hint("say a folder below the root of the cgroup hierarchy, as `cocker` or `machine.slice/cocker`.")
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_absolute_and_has_a_default() {
        assert_eq!(home(None).unwrap(), Path::new("/var/cocker"));
        assert!(home(Some("here".into())).unwrap().is_absolute());
    }

    #[test]
    fn the_cgroup_folder_stays_below_the_hierarchy() {
        assert_eq!(cgroup_parent(None).unwrap(), "cocker");
        assert_eq!(cgroup_parent(Some("a/b".into())).unwrap(), "a/b");
        for bad in ["/cocker", "../cocker", "a/../b"] {
            assert!(cgroup_parent(Some(bad.into())).is_err(), "{bad}");
        }
    }
}
