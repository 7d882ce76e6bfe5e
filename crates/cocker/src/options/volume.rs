//! `--volume HOST[:CONTAINER][:ro][:raw][:nosuid]`.

use crate::failure::Failure;
use cocker_engine::{VolumeAccess, VolumeIds, VolumeRequest, VolumeSetId};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Reads one volume; a relative host path begins at `current_folder`.
///
/// Colons separate, so neither path can have one in it.
pub fn parse(said: &OsStr, current_folder: &Path) -> Result<VolumeRequest, Failure> {
    let refuse = |why: &str| {
        let message = format!("`--volume {}`: {why}", said.to_string_lossy());
        Err(Failure::usage(message)
            .hint("say HOST[:CONTAINER][:ro][:raw][:nosuid], as `--volume /srv/data:/data:ro`."))
    };
    let mut parts: Vec<&[u8]> = said.as_bytes().split(|byte| *byte == b':').collect();
    let mut access = VolumeAccess::ReadWrite;
    let mut ids = VolumeIds::Mapped;
    let mut set_id = VolumeSetId::Kept;
    let mut modes: Vec<&[u8]> = Vec::new();
    while parts.len() > 1 {
        match parts[parts.len() - 1] {
            b"ro" => access = VolumeAccess::ReadOnly,
            b"raw" => ids = VolumeIds::Raw,
            b"nosuid" => set_id = VolumeSetId::Ignored,
            _ => break,
        }
        modes.extend(parts.pop());
    }
    if (1..modes.len()).any(|place| modes[..place].contains(&modes[place])) {
        return refuse("says the same twice");
    }
    if parts.len() > 2 {
        return refuse("has more parts than HOST:CONTAINER:ro:raw:nosuid");
    }
    if parts.iter().any(|part| part.is_empty()) {
        return refuse("has an empty part");
    }
    let host = current_folder.join(path(parts[0]));
    let container = match parts.get(1) {
        Some(said) => path(said).to_path_buf(),
        None => host.clone(),
    };
    if !container.is_absolute() {
        return refuse("the path in the container must be absolute");
    }
    if container
        .components()
        .any(|part| part == Component::ParentDir)
    {
        return refuse("the path in the container must not have `..` in it");
    }
    // Without doubled slashes and single dots, so that two spellings of one place are seen to be one.
    let container: PathBuf = container.components().collect();
    if container == Path::new("/") {
        return refuse("the container's root cannot be a volume");
    }
    if is_the_kernels(&container) {
        return refuse("what the kernel and the engine show there stays as it is");
    }
    Ok(VolumeRequest {
        host: host.components().collect(),
        container,
        access,
        ids,
        set_id,
    })
}

/// A volume over /proc or /sys would uncover what is hidden there, one over /dev bring devices and terminals of its own. What
/// else lies in /dev, as the socket of a log does, is the container's affair.
fn is_the_kernels(container: &Path) -> bool {
    const DEVICES: [&str; 15] = [
        "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "stderr",
        "stdin", "stdout", "tty", "urandom", "zero",
    ];
    let device = |rest: &Path| match rest.components().next() {
        None => true,
        Some(first) => DEVICES.iter().any(|name| first.as_os_str() == *name),
    };
    container.starts_with("/proc")
        || container.starts_with("/sys")
        || container.strip_prefix("/dev").is_ok_and(device)
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &str) -> Result<(String, String, VolumeAccess), Failure> {
        let volume = parse(OsStr::new(said), Path::new("/here"))?;
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        Ok((text(volume.host), text(volume.container), volume.access))
    }

    fn is(said: &str, host: &str, container: &str, access: VolumeAccess) {
        assert_eq!(
            read(said).unwrap(),
            (host.into(), container.into(), access),
            "{said}"
        );
    }

    #[test]
    fn what_the_kernel_shows_is_no_place_for_a_volume() {
        for place in [
            "/proc",
            "//proc/",
            "/proc/sys",
            "/sys/fs",
            "/dev",
            "/dev/",
            "/dev/pts/0",
            "/dev/./null",
        ] {
            assert!(read(&format!("/data:{place}")).is_err(), "{place}");
        }
        for place in [
            "/process",
            "/srv/proc",
            "/dev/log",
            "/dev/shm/x",
            "/dev/nullable",
        ] {
            assert!(read(&format!("/data:{place}")).is_ok(), "{place}");
        }
    }

    #[test]
    fn volumes_are_read_part_by_part() {
        use VolumeAccess::{ReadOnly, ReadWrite};
        is("/srv", "/srv", "/srv", ReadWrite);
        is("/srv:/data", "/srv", "/data", ReadWrite);
        is("/srv:/data:ro", "/srv", "/data", ReadOnly);
        is("/srv:ro", "/srv", "/srv", ReadOnly);
        is("data", "/here/data", "/here/data", ReadWrite);
        is("./data/:/d//e/./f/", "/here/data", "/d/e/f", ReadWrite);
        is("../data:/data", "/here/../data", "/data", ReadWrite);
        is("/with a space/x:/a b", "/with a space/x", "/a b", ReadWrite);
        is("ro", "/here/ro", "/here/ro", ReadWrite);
        is("/a:/ro", "/a", "/ro", ReadWrite);
    }

    #[test]
    fn a_volume_may_keep_the_hosts_ids_and_lose_set_id() {
        let parse = |said| parse(OsStr::new(said), Path::new("/")).expect(said);
        for (said, access, ids, set_id) in [
            (
                "/a:/b",
                VolumeAccess::ReadWrite,
                VolumeIds::Mapped,
                VolumeSetId::Kept,
            ),
            (
                "/a:raw",
                VolumeAccess::ReadWrite,
                VolumeIds::Raw,
                VolumeSetId::Kept,
            ),
            (
                "/a:/b:nosuid:ro",
                VolumeAccess::ReadOnly,
                VolumeIds::Mapped,
                VolumeSetId::Ignored,
            ),
            (
                "/a:/b:ro:raw:nosuid",
                VolumeAccess::ReadOnly,
                VolumeIds::Raw,
                VolumeSetId::Ignored,
            ),
        ] {
            let volume = parse(said);
            assert_eq!(
                (volume.access, volume.ids, volume.set_id),
                (access, ids, set_id),
                "{said}"
            );
        }
    }

    #[test]
    fn odd_volumes_are_refused() {
        let odd = [
            "",
            ":",
            ":ro",
            "C:",
            "C:\\data",
            ":/data",
            "/a:",
            "/a::ro",
            "/a:data",
            "/a:/b:rw",
            "/a:/b:/c",
            "/a:/b:ro:ro",
            "/a:ro:ro",
            "/a:raw:ro:raw",
            "/a:nosuid:/b",
            "/a:/b/../c",
            "../data",
            "/a:/",
            "/",
            "/a:/..",
        ];
        for said in odd {
            let failure = read(said).expect_err(said);
            assert_eq!(failure, failure_of_usage(&failure), "{said}");
        }
    }

    /// The same failure with the code of wrong usage.
    fn failure_of_usage(failure: &Failure) -> Failure {
        failure.clone().exit_with(crate::failure::USAGE)
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let volume = parse(OsStr::from_bytes(b"/\xff:/d"), Path::new("/")).unwrap();
        assert_eq!(volume.host.as_os_str().as_bytes(), b"/\xff");
    }
}
