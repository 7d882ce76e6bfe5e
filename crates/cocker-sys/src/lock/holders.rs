//! Who holds a lock, as proc_pid_fdinfo(5) says it: below each descriptor stand the locks of its open file.

use rustix::fd::{AsFd, AsRawFd, BorrowedFd};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many words of a command are shown: those behind may be a secret.
const WORDS: usize = 3;

/// A process that has the locked file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// As this process sees it.
    pub pid: u32,
    /// The first words of its command line, as it says them itself.
    pub command: String,
}

/// Where the file lies.
pub fn path(file: BorrowedFd<'_>) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// Who else holds a lock on this file, of the processes that may be looked at; in no order.
pub fn of(file: BorrowedFd<'_>) -> Vec<Holder> {
    let Ok(wanted) = rustix::fs::fstat(file.as_fd()) else {
        return Vec::new();
    };
    let is_the_same = |path: &Path| {
        fs::metadata(path).is_ok_and(|it| (it.dev(), it.ino()) == (wanted.st_dev, wanted.st_ino))
    };
    let own = std::process::id();
    let holds = |process: &Path| {
        names_in(&process.join("fdinfo")).any(|descriptor| {
            let said = fs::read_to_string(process.join("fdinfo").join(&descriptor));
            said.is_ok_and(|said| said.lines().any(|line| line.starts_with("lock:")))
                && is_the_same(&process.join("fd").join(&descriptor))
        })
    };
    let pids = names_in(Path::new("/proc")).filter_map(|name| name.parse().ok());
    let others = pids.filter(|pid| *pid != own);
    let holding = others.filter(|pid: &u32| holds(&Path::new("/proc").join(pid.to_string())));
    holding
        .map(|pid| Holder {
            pid,
            command: command_of(pid),
        })
        .collect()
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn command_of(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = words.split(|byte| *byte == 0).take(WORDS);
    let words: Vec<_> = words.map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}
