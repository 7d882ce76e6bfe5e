//! The profile of the host's security module that a sandbox is under: AppArmor's, or SELinux's.
//!
//! It is asked for before an execution and holds from there on, for all that comes of it.

use rustix::fd::AsFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// Whose label it is, and the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    module: Module,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    AppArmor,
    SeLinux,
}

/// This host cannot put a sandbox under the label.
#[derive(Debug, thiserror::Error)]
pub enum LabelError {
    #[error("cannot use security profile `{text}`: this host has neither AppArmor nor SELinux")]
    NoModule { text: String },
    #[error("cannot use security profile `{text}`: the host has none of that name loaded")]
    NotLoaded { text: String },
    #[error("cannot use security profile `{text}`: it is the name of none")]
    NoLabel { text: String },
}

impl LabelError {
    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            LabelError::NoModule { .. } => Some(
                "leave `--security` out; ids, masks and the filter of system calls hold without it.".into(),
            ),
            LabelError::NotLoaded { .. } => {
                Some("load it first: apparmor_parser(8); `aa-status` lists them.".into())
            }
            LabelError::NoLabel { .. } => None,
        }
    }
}

/// AppArmor's list of loaded profiles: `NAME (MODE)` a line.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// procfs (`PROC_SUPER_MAGIC` of linux/magic.h).
const PROC: u64 = 0x9fa0;

impl Label {
    /// Checks the label against this host.
    pub fn of_host(text: &str) -> Result<Label, LabelError> {
        let text = text.to_string();
        let is_odd = |c: char| c.is_control() || c == '\0';
        if text.is_empty() || text.len() > 1024 || text.contains(is_odd) {
            let text = text.escape_default().take(80).collect();
            return Err(LabelError::NoLabel { text });
        }
        if let Ok(profiles) = std::fs::read_to_string(PROFILES) {
            return match is_loaded(&profiles, &text) {
                true => Ok(Label {
                    module: Module::AppArmor,
                    text,
                }),
                false => Err(LabelError::NotLoaded { text }),
            };
        }
        match Path::new(SELINUX).exists() {
            true => Ok(Label {
                module: Module::SeLinux,
                text,
            }),
            false => Err(LabelError::NoModule { text }),
        }
    }

    /// Asks for it at this thread's next execution. The path is one of the sandbox's own by now, so what it leads to is
    /// looked at before anything is written.
    pub(crate) fn at_next_execution(&self) -> Result<(), Errno> {
        let (files, text): (&[&str], String) = match self.module {
            Module::AppArmor => (
                &[
                    "/proc/thread-self/attr/apparmor/exec",
                    "/proc/thread-self/attr/exec",
                ],
                format!("exec {}", self.text),
            ),
            Module::SeLinux => (&["/proc/thread-self/attr/exec"], self.text.clone()),
        };
        let mut answer = Err(Errno::NOENT);
        for file in files {
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            match rustix::fs::openat(CWD, *file, flags, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                Err(errno) => answer = Err(errno),
                Ok(file) => {
                    if rustix::fs::fstatfs(file.as_fd())?.f_type as u64 != PROC {
                        return Err(Errno::XDEV);
                    }
                    answer = rustix::io::write(&file, text.as_bytes()).map(drop);
                }
            }
            break;
        }
        answer
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.module {
            Module::AppArmor => write!(f, "AppArmor profile `{}`", self.text),
            Module::SeLinux => write!(f, "SELinux context `{}`", self.text),
        }
    }
}

fn is_loaded(profiles: &str, name: &str) -> bool {
    let names = profiles.lines().filter_map(|line| line.rsplit_once(" ("));
    names.into_iter().any(|(loaded, _)| loaded == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_loaded_under_its_whole_name() {
        let profiles = "/usr/bin/man (enforce)\nweb (x) (complain)\n";
        assert!(is_loaded(profiles, "/usr/bin/man"));
        assert!(is_loaded(profiles, "web (x)"));
        for none in ["", "web", "man", "/usr/bin/man (enforce)"] {
            assert!(!is_loaded(profiles, none), "{none}");
        }
    }

    #[test]
    fn an_odd_label_is_refused_before_the_host_is_asked() {
        for odd in ["", "a\nb", "\u{1b}[2J", &"x".repeat(1025)] {
            let refused = Label::of_host(odd).expect_err("it is none");
            assert!(matches!(refused, LabelError::NoLabel { .. }), "{refused}");
        }
    }
}
