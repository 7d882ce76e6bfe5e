//! The root file system: layers stacked by overlayfs, as one detached mount.
//!
//! The folder that holds all layers is cloned once as a detached mount with the sandbox's ids mapped, so on disk every
//! file keeps the ids that it has inside, and the number of layers does not matter. Two ways lead to the overlay: by
//! descriptors (Linux 6.13), and by short paths inside a private mount namespace of this thread (since 5.19).

use crate::failure::{KernelAnswer, SandboxError, file_system_name, or_too_old};
use crate::plan::{Access, IdRange, OverlayRoot};
use crate::stage::on_stage;
use cocker_sys::credentials::ActingAs;
use cocker_sys::mount::MountChange;
use cocker_sys::namespace::is_below_the_host;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
};
use std::path::{Path, PathBuf};

/// What the administrator may have set otherwise for every overlay of the host. Layers are moved and stacked anew, so none
/// may say where another lies (`redirect_dir`, `metacopy`) or remember what it once lay on (`index`): such marks are never
/// written, and not followed where a layer brings one along, which plain `redirect_dir=off` would leave to the host.
const OPTIONS: [(&str, &str); 3] = [
    ("redirect_dir", "nofollow"),
    ("metacopy", "off"),
    ("index", "off"),
];

/// What overlayfs must be told where it may not write attributes under `trusted.`.
const OF_USERS: &str = "userxattr";

/// Overlayfs takes so many lower layers (OVL_MAX_STACK).
const MOST_LOWERS: usize = 500;

/// Stacks the layers of `root` for whoever looks at its files while no sandbox has them: as one detached, close-on-exec mount
/// that ignores device nodes, with the ids that the files have on disk. It ends with its last descriptor.
///
/// What is only looked at has its upper layer as one more lower one: nothing is written, and the end of the mount does
/// not wait until the disk has taken what others wrote. Nobody else may have the layers mounted meanwhile.
pub fn stack_alone(root: &OverlayRoot, access: Access) -> Result<OwnedFd, SandboxError> {
    let base = clone_base(&root.base, None)?;
    match access {
        Access::ReadOnly if root.lowers.len() < MOST_LOWERS => {
            let mut lowers = root.lowers.clone();
            lowers.push(root.upper.clone());
            stack_layers(&base, root, &lowers, None)
        }
        _ => stack_writable(&base, root),
    }
}

/// Stacks the layers of `root`. `id_map` is a user namespace that maps `ids`; both or neither are given.
///
/// The mount returned is detached, close-on-exec, writable, and ignores device nodes.
pub(crate) fn stack(
    root: &OverlayRoot,
    ids: Option<IdRange>,
    id_map: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, SandboxError> {
    let base = clone_base(&root.base, id_map)?;
    // Overlayfs acts with the rights of its maker, and what it makes in the upper layer belongs to the maker's ids. Those
    // must be mapped, or every write fails and the kernel mounts read-only without a word.
    let _acting = ids
        .map(|range| ActingAs::new(range.first.0, range.first.0))
        .transpose()
        .map_err(|source| stacking(root, source.into()))?;
    stack_writable(&base, root)
}

fn stack_writable(base: &OwnedFd, root: &OverlayRoot) -> Result<OwnedFd, SandboxError> {
    let upper = Some(Upper {
        upper: &root.upper,
        work: &root.work,
    });
    let overlay = stack_layers(base, root, &root.lowers, upper)?;
    check_writable(&overlay, root)?;
    Ok(overlay)
}

/// The layer that takes what is written.
#[derive(Clone, Copy)]
struct Upper<'a> {
    upper: &'a Path,
    work: &'a Path,
}

/// `lowers` lowest first.
fn stack_layers(
    base: &OwnedFd,
    root: &OverlayRoot,
    lowers: &[PathBuf],
    upper: Option<Upper<'_>>,
) -> Result<OwnedFd, SandboxError> {
    match by_descriptors(base, root, lowers, upper) {
        Err(first) if takes_no_descriptors(&first) => {
            tracing::debug!("the kernel takes no layers by descriptor; stacking by paths");
            match by_paths(base, root, lowers, upper) {
                // What a kernel that knows descriptors said of the layers themselves is the better answer.
                Err(_) if has_words(&first) => Err(first),
                other => other,
            }
        }
        other => other,
    }
}

/// Before Linux 6.5 overlayfs was a file system of the old kind, which answers EOPNOTSUPP; from then to 6.13 it knew only
/// paths and answers EINVAL.
fn takes_no_descriptors(error: &SandboxError) -> bool {
    match error {
        SandboxError::StackLayers { source, .. } => {
            matches!(source.errno, Errno::INVAL | Errno::OPNOTSUPP)
        }
        _ => false,
    }
}

fn has_words(error: &SandboxError) -> bool {
    matches!(error, SandboxError::StackLayers { source, .. } if source.words.is_some())
}

fn clone_base(base: &Path, id_map: Option<BorrowedFd<'_>>) -> Result<OwnedFd, SandboxError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(CWD, base, flags).map_err(|source| {
        let path = base.to_path_buf();
        let error = SandboxError::OpenLayer { path, source };
        or_too_old(error, source, "the new mount calls", "5.2")
    })?;
    let change = MountChange {
        id_map,
        private: true,
        ..MountChange::default()
    };
    cocker_sys::mount::change(tree.as_fd(), change).map_err(|source| {
        let error = SandboxError::MapIds {
            path: base.to_path_buf(),
            file_system: file_system_name(base),
            source,
        };
        or_too_old(error, source, "id-mapped mounts", "5.12")
    })?;
    Ok(tree)
}

fn by_descriptors(
    base: &OwnedFd,
    root: &OverlayRoot,
    lowers: &[PathBuf],
    upper: Option<Upper<'_>>,
) -> Result<OwnedFd, SandboxError> {
    let lowers = lowers
        .iter()
        .rev() // overlayfs wants the topmost first
        .map(|lower| open_layer(base, root, lower))
        .collect::<Result<Vec<_>, _>>()?;
    let upper = match upper {
        Some(Upper { upper, work }) => Some((
            open_layer(base, root, upper)?,
            open_layer(base, root, work)?,
        )),
        None => None,
    };

    let context =
        rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|source| {
            let error = stacking(root, source.into());
            or_too_old(error, source, "the new mount calls", "5.2")
        })?;
    let said = |source| stacking(root, answer_of(&context, source));
    rustix::mount::fsconfig_set_string(context.as_fd(), "source", "cocker").map_err(said)?;
    for lower in &lowers {
        rustix::mount::fsconfig_set_fd(context.as_fd(), "lowerdir+", lower.as_fd())
            .map_err(said)?;
    }
    if let Some((upper, work)) = &upper {
        rustix::mount::fsconfig_set_fd(context.as_fd(), "upperdir", upper.as_fd()).map_err(said)?;
        rustix::mount::fsconfig_set_fd(context.as_fd(), "workdir", work.as_fd()).map_err(said)?;
    }
    for (option, value) in OPTIONS {
        rustix::mount::fsconfig_set_string(context.as_fd(), option, value).map_err(said)?;
    }
    if is_below_the_host() {
        rustix::mount::fsconfig_set_flag(context.as_fd(), OF_USERS).map_err(said)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).map_err(said)?;
    rustix::mount::fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NODEV,
    )
    .map_err(said)
}

/// Layers are named by the store and live in its folder, so nothing on the way may be a link.
fn open_layer(base: &OwnedFd, root: &OverlayRoot, layer: &Path) -> Result<OwnedFd, SandboxError> {
    rustix::fs::openat2(
        base,
        layer,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
    .map_err(|source| SandboxError::OpenLayer {
        path: root.base.join(layer),
        source,
    })
}

/// For kernels that take layers by path only, and only paths of the caller's own mount namespace: a private one is
/// entered for the time of the mount, so the host never sees it.
fn by_paths(
    base: &OwnedFd,
    root: &OverlayRoot,
    lowers: &[PathBuf],
    upper: Option<Upper<'_>>,
) -> Result<OwnedFd, SandboxError> {
    let made = on_stage(&root.base, || {
        rustix::fs::mkdir("base", Mode::RWXU)?;
        let attach = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(base, "", CWD, "base", attach)?;
        let options = short_options(lowers, upper)?;
        rustix::fs::mkdir("root", Mode::RWXU)?;
        rustix::mount::mount(
            "cocker",
            "root",
            "overlay",
            MountFlags::NODEV,
            options.as_c_str(),
        )?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, "root", flags)
    });
    made.map_err(|source| {
        let error = stacking(root, source.into());
        or_too_old(error, source, "overlay over id-mapped layers", "5.19")
    })
}

/// The options of mount(2) end at one page, so every layer is named by a short link: `0` is the topmost.
fn short_options(lowers: &[PathBuf], upper: Option<Upper<'_>>) -> Result<std::ffi::CString, Errno> {
    let mut names = Vec::new();
    for (number, lower) in lowers.iter().rev().enumerate() {
        let name = number.to_string();
        rustix::fs::symlink(Path::new("base").join(lower), &name)?;
        names.push(name);
    }
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some(Upper { upper, work }) = upper {
        rustix::fs::symlink(Path::new("base").join(upper), "u")?;
        rustix::fs::symlink(Path::new("base").join(work), "w")?;
        options.push_str(",upperdir=u,workdir=w");
    }
    for (option, value) in OPTIONS {
        options.push_str(&format!(",{option}={value}"));
    }
    if is_below_the_host() {
        options.push_str(&format!(",{OF_USERS}"));
    }
    std::ffi::CString::new(options).map_err(|_| Errno::INVAL)
}

fn check_writable(overlay: &OwnedFd, root: &OverlayRoot) -> Result<(), SandboxError> {
    let flags = rustix::fs::fstatvfs(overlay)
        .map_err(|source| stacking(root, source.into()))?
        .f_flag;
    if flags.contains(StatVfsMountFlags::RDONLY) {
        // The kernel does not say why. Most often it could make no folder of its own in `work`, and neither can we.
        let work = root.base.join(&root.work).join(".tried");
        rustix::fs::mkdir(&work, Mode::RWXU)
            .and_then(|()| rustix::fs::rmdir(&work))
            .map_err(|errno| stacking(root, errno.into()))?;
        let file_system = file_system_name(&root.base);
        return Err(SandboxError::ReadOnlyRoot { file_system });
    }
    Ok(())
}

fn stacking(root: &OverlayRoot, source: KernelAnswer) -> SandboxError {
    SandboxError::StackLayers {
        file_system: file_system_name(&root.base),
        source,
    }
}

/// The errno with what the file system context has logged: lines of `e message`, read one at a time.
fn answer_of(context: &OwnedFd, errno: Errno) -> KernelAnswer {
    let mut line = [0u8; 512];
    let mut words = None;
    while let Ok(length) = rustix::io::read(context, &mut line) {
        if length == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line[..length]);
        if let Some(error) = text.strip_prefix("e ") {
            words = Some(error.trim_end().to_owned());
        }
    }
    KernelAnswer { errno, words }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::openat;
    use std::fs;

    fn read(root: &OwnedFd, name: &str) -> Result<String, Errno> {
        let file = openat(root, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = [0; 64];
        let length = rustix::io::read(&file, &mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn layers_stacked_alone_have_no_place_and_are_written_to_only_when_that_is_wanted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir_in("/var/tmp").expect("a folder on a disk");
        for name in ["lower", "upper", "work"] {
            fs::create_dir(folder.path().join(name)).expect("the folder is ours");
        }
        for (name, text) in [("lower/a", "low"), ("lower/b", "low"), ("upper/b", "up")] {
            fs::write(folder.path().join(name), text).expect("the folder is ours");
        }
        let root = OverlayRoot {
            base: folder.path().into(),
            lowers: vec!["lower".into()],
            upper: "upper".into(),
            work: "work".into(),
        };
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let stacked = stack_alone(&root, access).expect("the disk carries an overlay");
            assert_eq!(read(&stacked, "a"), Ok("low".into()), "{access:?}");
            assert_eq!(read(&stacked, "b"), Ok("up".into()), "{access:?}");
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
            let made = openat(&stacked, "new", flags, Mode::RUSR);
            let is_writable = access == Access::ReadWrite;
            assert_eq!(made.is_ok(), is_writable, "{access:?}: {made:?}");
        }
        assert!(folder.path().join("upper/new").exists());
        let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
        let place = folder.path().to_str().expect("plain");
        assert!(!mounts.contains(place), "{mounts}");
    }
}
