//! What a test left behind, as the kernel and the store tell it: processes, mounts, cgroup folders, files.

use super::lab;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

/// A process of this machine.
pub struct Process {
    pub pid: i32,
}

/// Every process that this one can see.
pub fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| Process { pid }).collect()
}

impl Process {
    /// The name that `ps` shows; empty when it has ended.
    pub fn name(&self) -> String {
        fs::read_to_string(self.file("comm"))
            .unwrap_or_default()
            .trim_end()
            .to_string()
    }

    /// Its arguments, with blanks between.
    pub fn command_line(&self) -> String {
        fs::read_to_string(self.file("cmdline"))
            .unwrap_or_default()
            .replace('\0', " ")
            .trim_end()
            .to_string()
    }

    /// Whether it is in this cgroup folder or below it.
    pub fn is_in_cgroup(&self, folder: &str) -> bool {
        let cgroups = fs::read_to_string(self.file("cgroup")).unwrap_or_default();
        cgroups
            .lines()
            .any(|line| line.split('/').any(|part| part == folder))
    }

    /// What its descriptors, its working folder and its program are.
    pub fn links(&self) -> Vec<PathBuf> {
        let mut links: Vec<PathBuf> = ["cwd", "root", "exe"]
            .iter()
            .flat_map(|link| fs::read_link(self.file(link)))
            .collect();
        let descriptors = fs::read_dir(self.file("fd"))
            .into_iter()
            .flatten()
            .flatten();
        links.extend(descriptors.flat_map(|descriptor| fs::read_link(descriptor.path())));
        links
    }

    /// Whether it works on this `COCKER_HOME`: by a descriptor, or by its environment.
    pub fn works_on(&self, home: &Path) -> bool {
        if self.links().iter().any(|link| link.starts_with(home)) {
            return true;
        }
        let environment = fs::read(self.file("environ")).unwrap_or_default();
        let variable = format!("COCKER_HOME={}", home.display());
        environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == variable.as_bytes())
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(name)
    }
}

/// One line for each thing that the test with this home and cgroup folder left.
pub fn of_one_test(home: &Path, cgroup: &str) -> Vec<String> {
    let mut left = Vec::new();
    for process in processes_of(home, cgroup) {
        left.push(format!(
            "process {} ({}): {}",
            process.pid,
            process.name(),
            process.command_line()
        ));
    }
    for namespace in ["self", "1"] {
        left.extend(mounts_naming(namespace, &home.to_string_lossy()));
    }
    for folder in cgroup_folders(cgroup) {
        // The folder of all containers' cgroups may stay; a container's own may not.
        left.extend(
            folders_in(&folder)
                .iter()
                .map(|folder| format!("cgroup {}", folder.display())),
        );
    }
    for folder in ["containers", "ids", "addresses"] {
        let entries = fs::read_dir(home.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    for folder in ["layers", "images"] {
        let entries = fs::read_dir(home.join(folder))
            .into_iter()
            .flatten()
            .flatten();
        let staged = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.'));
        left.extend(staged.map(|entry| format!("file {}", entry.path().display())));
    }
    left
}

/// How many cgroup folders containers have in that one, in all hierarchies.
pub fn cgroups_of(cgroup: &str) -> usize {
    let folders = cgroup_folders(cgroup);
    folders.iter().map(|folder| folders_in(folder).len()).sum()
}

/// One line for each thing that any test of this run left in the kernel.
pub fn of_the_whole_run() -> Vec<String> {
    let token = format!("cocker-test-{}", process::id());
    let mut left: Vec<String> = lab::names_beginning("")
        .iter()
        .map(|name| format!("namespace {}/{name}", lab::NAMES))
        .collect();
    left.extend(mounts_naming("self", &token));
    left.extend(mounts_naming("1", &token));
    for hierarchy in cgroup_hierarchies() {
        let named = |folder: &PathBuf| {
            folder
                .file_name()
                .is_some_and(|name| mentions(&name.to_string_lossy(), &token))
        };
        left.extend(
            folders_in(&hierarchy)
                .iter()
                .filter(|folder| named(folder))
                .map(|folder| format!("cgroup {}", folder.display())),
        );
    }
    left
}

/// Kills what still runs for a test, each by a pidfd, so that no other process can be meant.
pub fn end_processes(home: &Path, cgroup: &str) {
    let deadline = Instant::now() + super::here(Duration::from_secs(10));
    loop {
        let running = processes_of(home, cgroup);
        if running.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in running {
            let Some(pid) = Pid::from_raw(process.pid) else {
                continue;
            };
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            // Asked again now that the number cannot be given to another process unnoticed.
            if process.is_in_cgroup(cgroup) || process.works_on(home) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Removes a test's cgroup folder with all below it.
pub fn remove_cgroups(cgroup: &str) {
    for folder in cgroup_folders(cgroup) {
        remove_cgroup(&folder);
    }
}

fn remove_cgroup(folder: &Path) {
    for inner in folders_in(folder) {
        remove_cgroup(&inner);
    }
    let _ = fs::remove_dir(folder);
}

fn processes_of(home: &Path, cgroup: &str) -> Vec<Process> {
    let ourselves = process::id() as i32;
    let others = processes()
        .into_iter()
        .filter(|process| process.pid != ourselves);
    others
        .filter(|process| process.is_in_cgroup(cgroup) || process.works_on(home))
        .collect()
}

/// The mounts that a process sees and that name `token`.
fn mounts_naming(process: &str, token: &str) -> Vec<String> {
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
    let named = mounts.lines().filter(|line| mentions(line, token));
    named
        .map(|line| format!("mount seen by process {process}: {line}"))
        .collect()
}

/// Whether `text` holds `token` and not just a longer number that begins like it.
fn mentions(text: &str, token: &str) -> bool {
    text.match_indices(token)
        .any(|(at, _)| !text[at + token.len()..].starts_with(|next: char| next.is_ascii_digit()))
}

/// Where a cgroup folder of this name lies: in the unified hierarchy, and in the old ones where a machine has them.
fn cgroup_folders(cgroup: &str) -> Vec<PathBuf> {
    cgroup_hierarchies()
        .into_iter()
        .map(|hierarchy| hierarchy.join(cgroup))
        .filter(|folder| folder.is_dir())
        .collect()
}

fn cgroup_hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let hierarchies = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup2 ") || line.contains(" - cgroup "));
    hierarchies
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .collect()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
