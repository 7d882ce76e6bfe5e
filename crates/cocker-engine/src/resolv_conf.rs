//! The resolv.conf that a container is supplied with: in its folder on the host, so that it never lands in an image.
//!
//! ```text
//! containers/<name>/resolv.conf           what the container sees and may change
//! containers/<name>/resolv.conf.supplied  what was supplied last: unless the first is another and younger, the next boot
//!                                         supplies anew
//! ```

use crate::container::{Container, NetworkSettings};
use cocker_network::{Reach, resolvers};
use cocker_sys::fault;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};

/// In the container's folder.
pub(crate) const FILE: &str = "resolv.conf";
const SUPPLIED: &str = "resolv.conf.supplied";

/// More is none of ours: the container has written it.
const MOST_BYTES: u64 = 128 * 1024;

/// Brings the file up to date, unless somebody in the container has changed it.
pub(crate) fn supply(container: &Container) -> Result<(), Errno> {
    let folder = &container.folder;
    let (seen, supplied) = (read(folder, FILE)?, read(folder, SUPPLIED)?);
    if let Some(seen) = &seen
        && supplied
            .as_ref()
            .is_none_or(|supplied| was_changed(seen, supplied))
    {
        tracing::debug!("its resolv.conf was changed by hand and stays");
        return Ok(());
    }
    let text = text(match container.settings.network {
        NetworkSettings::Host => Reach::Host,
        NetworkSettings::Bridge { .. } | NetworkSettings::Custom => Reach::Outside,
    });
    if seen.is_some_and(|seen| seen.bytes == text.as_bytes()) {
        return Ok(());
    }
    // In this order: a crash in between leaves what is seen older than what was supplied, so nobody has changed it since.
    write(folder, SUPPLIED, text.as_bytes())?;
    write(folder, FILE, text.as_bytes())
}

/// Other content is the container's doing only if it is also the younger one.
fn was_changed(seen: &Content, supplied: &Content) -> bool {
    seen.bytes != supplied.bytes && seen.changed > supplied.changed
}

struct Content {
    bytes: Vec<u8>,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, u64),
}

fn text(reach: Reach) -> String {
    let lines = resolvers(reach);
    let head = match lines.lines().any(|line| line.starts_with("nameserver")) {
        true => {
            "# The host's resolvers, renewed at each boot. Once changed, this file stays as it is.\n"
        }
        false => {
            "# No resolver of the host can be reached from here. Once changed, this file stays as it is.\n"
        }
    };
    head.to_string() + &lines
}

/// `None` where there is no such file. It lies in a folder that nobody but the host's root can write to; only what is
/// in it may be the container's.
fn read(folder: &OwnedFd, name: &str) -> Result<Option<Content>, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(MOST_BYTES).read_to_end(&mut bytes);
    read.map_err(errno_of)?;
    Ok(Some(Content {
        bytes,
        changed: (stat.st_mtime, stat.st_mtime_nsec),
    }))
}

fn write(folder: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let staged = format!(".new-{name}");
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o644);
    let make = || rustix::fs::openat(folder, &staged, flags, mode);
    let file = fault::step("resolvers.make", make)?;
    // The user's umask has no part in it.
    rustix::fs::fchmod(&file, mode)?;
    File::from(file).write_all(bytes).map_err(errno_of)?;
    let rename = || rustix::fs::renameat(folder, &staged, folder, name);
    fault::step("resolvers.rename", rename).inspect_err(|_| {
        let _ = rustix::fs::unlinkat(folder, &staged, AtFlags::empty());
    })
}

fn errno_of(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
