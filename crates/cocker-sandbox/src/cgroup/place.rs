//! Where a sandbox's folders are, as names. The host's systemd, where there is one, is asked for those in v2.
//!
//! ```text
//!           nobody manages v2    systemd manages it
//!  in v2    <parent>/<name>      <parent>.slice/cocker-<name>.scope     systemd's, given to us (Delegate=)
//!                                ├── supervisor                         whoever asked, then the supervisor
//!                                └── sandbox                            the sandbox's own
//!  in v1    <parent>/<name>      <parent>/<name>
//! ```

use super::layout::Hierarchies;
use std::fmt;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// In a scope, the sandbox's folder, and the one of those who look after it from outside: where controllers are given on, no
/// process may live (cgroup-v2, "No Internal Process Constraint").
pub(super) const SANDBOX: &str = "sandbox";
pub(super) const SUPERVISOR: &str = "supervisor";

/// What a scope is called, around the name of its sandbox.
const SCOPE_HEAD: &str = "cocker-";
const WAITING_HEAD: &str = "cocker.waits-";
const SCOPE_TAIL: &str = ".scope";
const SLICE_TAIL: &str = ".slice";

/// There where systemd is process 1 (sd_booted(3)).
const BOOTED_BY_SYSTEMD: &str = "/run/systemd/system";

/// The folder of all sandboxes', and who makes what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Relative to the root of each hierarchy.
    parent: PathBuf,
    manager: Manager,
}

/// Who has the say about folders in v2.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Manager {
    Nobody,
    Systemd { slice: String },
}

/// The places of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Relative to the root of each hierarchy.
    folder: PathBuf,
    scope: Option<Scope>,
}

/// A transient unit of the host's systemd (systemd.scope(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    pub unit: String,
    pub slice: String,
    /// What is in it, for those who list units.
    pub description: String,
}

impl Group {
    /// The group that is called `parent`: a path of plain parts. systemd has its say where it manages v2; a hierarchy that
    /// nobody has mounted is nobody's, and what was delegated to an ordinary user is that user's.
    pub fn of(hierarchies: &Hierarchies, parent: &str) -> Group {
        let is_managed = hierarchies.is_mounted()
            && !cocker_sys::namespace::is_below_the_host()
            && Path::new(BOOTED_BY_SYSTEMD).is_dir();
        Group {
            parent: parent.into(),
            manager: match is_managed {
                true => Manager::Systemd {
                    slice: slice(parent),
                },
                false => Manager::Nobody,
            },
        }
    }

    /// Where sandbox `name` is.
    pub fn place(&self, name: &str) -> Place {
        Place {
            folder: self.parent.join(name),
            scope: match &self.manager {
                Manager::Nobody => None,
                Manager::Systemd { slice } => Some(Scope {
                    unit: scope(name),
                    slice: slice.clone(),
                    description: format!("cocker {name}"),
                }),
            },
        }
    }

    /// The folder of all, in v1.
    pub(super) fn legacy(&self) -> &Path {
        &self.parent
    }

    /// The folder of all, in v2.
    pub(super) fn unified(&self) -> PathBuf {
        match &self.manager {
            Manager::Nobody => self.parent.clone(),
            Manager::Systemd { slice } => slice_folder(slice),
        }
    }

    /// Where in the folder of all the sandbox `name` has its own, in v2.
    pub(super) fn unified_name(&self, name: &str) -> PathBuf {
        match &self.manager {
            Manager::Nobody => name.into(),
            Manager::Systemd { .. } => Path::new(&scope(name)).join(SANDBOX),
        }
    }

    /// The sandbox that an entry of the folder of all in v2 is of; none where it is of none.
    pub(super) fn name_of(&self, entry: &str) -> Option<String> {
        match &self.manager {
            Manager::Nobody => Some(entry.into()),
            Manager::Systemd { .. } => {
                let name = entry.strip_prefix(SCOPE_HEAD)?;
                unescaped(name.strip_suffix(SCOPE_TAIL)?)
            }
        }
    }
}

impl Place {
    /// The same folder in every hierarchy, whoever manages them. It is relative to their roots.
    pub fn unmanaged(folder: impl Into<PathBuf>) -> Place {
        Place {
            folder: folder.into(),
            scope: None,
        }
    }

    /// Its folder in v1.
    pub(crate) fn legacy(&self) -> &Path {
        &self.folder
    }

    /// Its folder in v2.
    pub(crate) fn unified(&self) -> PathBuf {
        match &self.scope {
            None => self.folder.clone(),
            Some(scope) => scope.folder().join(SANDBOX),
        }
    }

    /// The unit for who waits until the sandbox is made again; its own is gone by then.
    pub(super) fn waiting_scope(&self) -> Option<Scope> {
        let scope = self.scope.as_ref()?;
        let name = scope.unit.strip_prefix(SCOPE_HEAD)?;
        Some(Scope {
            // No sandbox's is called like this.
            unit: format!("{WAITING_HEAD}{name}"),
            slice: scope.slice.clone(),
            description: format!("{}, to be booted again", scope.description),
        })
    }

    /// The unit of systemd's that its folder in v2 belongs to.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.folder.display())?;
        match &self.scope {
            None => Ok(()),
            Some(scope) => write!(f, ", in v2 that of unit `{}`", scope.unit),
        }
    }
}

impl Scope {
    /// Relative to the root of v2.
    pub fn folder(&self) -> PathBuf {
        slice_folder(&self.slice).join(&self.unit)
    }
}

/// Most names are themselves in it: only in slices does `-` mean something.
fn scope(name: &str) -> String {
    format!("{SCOPE_HEAD}{}{SCOPE_TAIL}", escaped(name, b"-_."))
}

/// The slice for a path of folders: `a/b` is `a-b.slice`, which lies in `a.slice` (systemd.slice(5)). A part that names a slice
/// already is that one.
fn slice(parent: &str) -> String {
    let parts = parent.split('/').filter(|part| !part.is_empty());
    let parts = parts.map(|part| match part.strip_suffix(SLICE_TAIL) {
        Some(stem) if !stem.is_empty() => escaped(stem, b"_."),
        _ => escaped(part, b"_."),
    });
    parts.collect::<Vec<_>>().join("-") + SLICE_TAIL
}

/// Where systemd puts it: each slice lies in the one whose name ends at the last `-`.
fn slice_folder(slice: &str) -> PathBuf {
    let stem = slice.strip_suffix(SLICE_TAIL).unwrap_or(slice);
    let ends = stem.match_indices('-').map(|(at, _)| at);
    let stems = ends.chain([stem.len()]).map(|end| &stem[..end]);
    stems
        .map(|stem| folder_of_unit(&format!("{stem}{SLICE_TAIL}")))
        .collect()
}

/// A unit's folder has its name, unless that is the kernel's to give: files of controllers begin with the controller's name.
fn folder_of_unit(unit: &str) -> String {
    const KERNELS: [&str; 9] = [
        "cgroup", "cpu", "cpuacct", "cpuset", "io", "blkio", "memory", "devices", "pids",
    ];
    let head = unit.split_once('.').map_or(unit, |(head, _)| head);
    match unit.starts_with(['_', '.']) || KERNELS.contains(&head) {
        true => format!("_{unit}"),
        false => unit.into(),
    }
}

/// As systemd-escape(1) does it, but for what is `kept` beside letters and digits: `\x2d` for `-`.
fn escaped(text: &str, kept: &[u8]) -> String {
    let mut unit = String::new();
    for (at, byte) in text.bytes().enumerate() {
        let is_plain =
            byte.is_ascii_alphanumeric() || (kept.contains(&byte) && (byte, at) != (b'.', 0));
        match is_plain {
            true => unit.push(byte.into()),
            false => write!(unit, "\\x{byte:02x}").expect("a text has room"),
        }
    }
    unit
}

/// None for what `escaped` does not write.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once("\\x") {
        bytes.extend(plain.bytes());
        let digits = escape.get(..2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &escape[2..];
    }
    bytes.extend(rest.bytes());
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn managed(parent: &str) -> Group {
        Group {
            parent: parent.into(),
            manager: Manager::Systemd {
                slice: slice(parent),
            },
        }
    }

    #[test]
    fn where_nobody_manages_v2_all_folders_are_alike() {
        let group = Group {
            parent: "a/b".into(),
            manager: Manager::Nobody,
        };
        let place = group.place("web.1");
        assert_eq!(place, Place::unmanaged("a/b/web.1"));
        assert_eq!(place.unified(), place.legacy());
        assert_eq!(group.unified(), Path::new("a/b"));
        assert_eq!(group.unified_name("web.1"), Path::new("web.1"));
        assert_eq!(group.name_of("web.1"), Some("web.1".into()));
    }

    #[test]
    fn systemd_has_a_scope_in_a_slice() {
        let group = managed("cocker");
        let place = group.place("web-1.0a");
        assert_eq!(place.legacy(), Path::new("cocker/web-1.0a"));
        let folder = Path::new("cocker.slice/cocker-web-1.0a.scope/sandbox");
        assert_eq!(place.unified(), folder);
        assert_eq!(group.unified().join(group.unified_name("web-1.0a")), folder);
        let expected = "`cocker/web-1.0a`, in v2 that of unit `cocker-web-1.0a.scope`";
        assert_eq!(place.to_string(), expected);
    }

    #[test]
    fn names_are_those_that_systemd_takes_and_come_back() {
        // As systemd-escape(1) answers.
        assert_eq!(scope("a=b.1"), "cocker-a\\x3db.1.scope");
        let group = managed("cocker");
        for name in ["web.1", "a=b-c_d.1", "1.2.3"] {
            assert_eq!(group.name_of(&scope(name)).as_deref(), Some(name));
        }
        for other in [
            "web.1",
            "user.slice",
            "cocker-web.1.service",
            "cocker-a\\xzz.scope",
        ] {
            assert_eq!(group.name_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_slice_lies_where_its_name_says() {
        for (parent, slice_name, folder) in [
            ("cocker", "cocker.slice", "cocker.slice"),
            (
                "cocker-test-1",
                "cocker\\x2dtest\\x2d1.slice",
                "cocker\\x2dtest\\x2d1.slice",
            ),
            (
                "machine.slice/cocker",
                "machine-cocker.slice",
                "machine.slice/machine-cocker.slice",
            ),
            ("a/b/c", "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice"),
            ("a b", "a\\x20b.slice", "a\\x20b.slice"),
            (".slice", "\\x2eslice.slice", "\\x2eslice.slice"),
            ("_a", "_a.slice", "__a.slice"),
            ("memory", "memory.slice", "_memory.slice"),
        ] {
            assert_eq!(slice(parent), slice_name);
            assert_eq!(slice_folder(slice_name), Path::new(folder));
        }
    }
}
