//! The host's file system as it is read: every path is followed link by link, and what was passed on the way is kept.
//!
//! The root is a parameter, so that a folder can play the host. Links are resolved here and not by the kernel, for
//! two reasons: each link has to be known to be made again in the image, and an absolute link must stay below the root.
//! Nothing here writes, and nothing here runs a program.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

/// The kernel's own limit for links in one path (path_resolution(7)).
const LINKS_AT_MOST: usize = 40;

/// Folders that a booted container covers with file systems of its own: a file there would never be seen.
const COVERED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// A host, or a folder that stands for one.
#[derive(Debug)]
pub(super) struct Host {
    root: PathBuf,
}

/// The way from a path to what it names.
#[derive(Debug)]
pub(super) struct Trail {
    /// Links in the order in which they were followed, each at its physical place.
    pub links: Vec<FollowedLink>,
    /// Folders that were entered and left again by `..`, which must exist for the path to hold.
    pub detours: Vec<PathBuf>,
    /// The physical place of what was found: no part of it is a link.
    pub end: PathBuf,
    pub found: Found,
}

#[derive(Debug)]
pub(super) struct FollowedLink {
    pub place: PathBuf,
    pub target: PathBuf,
}

/// What stands at the end of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Folder,
    File(HostFile),
    /// A device, a fifo or a socket.
    Other,
}

/// A regular file of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostFile {
    pub identity: Identity,
    /// In bytes.
    pub size: u64,
    pub is_executable: bool,
}

/// Tells two names of one file from two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Host {
    /// The host whose `/` is `root`.
    pub(super) fn at(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    /// Follows the absolute `path` to its end.
    ///
    /// Fails as the kernel would: `NotFound`, `NotADirectory`, too many links, no permission.
    pub(super) fn follow(&self, path: &Path) -> io::Result<Trail> {
        let mut links = Vec::new();
        let mut detours = Vec::new();
        let mut here = PathBuf::from("/");
        let mut pending = parts(path);
        let mut found = Found::Folder;
        while let Some(part) = pending.pop_front() {
            if found != Found::Folder {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if part == ".." {
                if here.parent().is_some() {
                    detours.push(here.clone());
                    here.pop();
                }
                continue;
            }
            here.push(&part);
            let metadata = fs::symlink_metadata(self.real(&here))?;
            if metadata.is_symlink() {
                if links.len() == LINKS_AT_MOST {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let target = fs::read_link(self.real(&here))?;
                let mut steps = parts(&target);
                steps.append(&mut pending);
                pending = steps;
                links.push(FollowedLink {
                    place: here.clone(),
                    target: target.clone(),
                });
                if target.is_absolute() {
                    here = PathBuf::from("/");
                } else {
                    here.pop();
                }
            } else {
                found = Found::of(&metadata);
            }
        }
        Ok(Trail {
            links,
            detours,
            end: here,
            found,
        })
    }

    /// Opens the physical path `end` of a trail for reading.
    pub(super) fn open(&self, end: &Path) -> io::Result<File> {
        File::open(self.real(end))
    }

    /// Reads at most `limit` bytes from the start of the physical path `end`.
    pub(super) fn read_start(&self, end: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open(end)?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    /// Names in the physical folder `end`, sorted; none where it cannot be read.
    pub(super) fn names(&self, end: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> = fs::read_dir(self.real(end))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect();
        names.sort();
        names
    }

    /// Where the kernel sees the host's `path`. Only right for physical paths: it would follow a link out of the root.
    pub(super) fn real(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

impl Trail {
    /// Whether a part of the way would be covered in a booted container.
    pub(super) fn has_covered_links(&self) -> bool {
        self.links.iter().any(|link| is_covered(&link.place))
    }

    /// The file at the end, where it is one.
    pub(super) fn file(&self) -> Option<&HostFile> {
        match &self.found {
            Found::File(file) => Some(file),
            Found::Folder | Found::Other => None,
        }
    }
}

impl Found {
    fn of(metadata: &Metadata) -> Self {
        if metadata.is_dir() {
            Found::Folder
        } else if metadata.is_file() {
            Found::File(HostFile {
                identity: Identity {
                    device: metadata.dev(),
                    inode: metadata.ino(),
                },
                size: metadata.len(),
                is_executable: metadata.mode() & 0o111 != 0,
            })
        } else {
            Found::Other
        }
    }
}

/// Whether a booted container has a file system of its own over `path`.
pub(super) fn is_covered(path: &Path) -> bool {
    COVERED.iter().any(|covered| path.starts_with(covered))
}

/// The names in `path` in their order, with `..` but without `/` and `.`.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_os_string()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_below_the_root_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/bin")).unwrap();
        fs::create_dir_all(root.join("etc/alternatives")).unwrap();
        fs::write(root.join("usr/bin/mawk"), "").unwrap();
        symlink("usr/bin", root.join("bin")).unwrap();
        symlink("/etc/alternatives/awk", root.join("usr/bin/awk")).unwrap();
        symlink("../../bin/mawk", root.join("etc/alternatives/awk")).unwrap();

        let trail = Host::at(root).follow(Path::new("/bin/awk")).unwrap();

        let places: Vec<_> = trail
            .links
            .iter()
            .map(|link| link.place.to_str().unwrap())
            .collect();
        assert_eq!(
            places,
            ["/bin", "/usr/bin/awk", "/etc/alternatives/awk", "/bin"]
        );
        assert_eq!(trail.end, Path::new("/usr/bin/mawk"));
        assert!(trail.file().is_some());
    }

    #[test]
    fn a_loop_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        let error = Host::at(folder.path()).follow(Path::new("/a")).unwrap_err();
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::LOOP.raw_os_error())
        );
    }

    #[test]
    fn a_file_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = Host::at(folder.path())
            .follow(Path::new("/file/x"))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn parents_of_the_root_are_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let trail = Host::at(folder.path()).follow(Path::new("/../..")).unwrap();
        assert_eq!(trail.end, Path::new("/"));
    }
}
