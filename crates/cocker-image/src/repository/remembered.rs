//! `$COCKER_HOME/srepo`: the repository that was said last, as one line.

use super::{Address, RepositoryError};
use crate::Store;
use cocker_sys::fault;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use std::fs::File;
use std::io::{self, Read, Write};

const FILE: &str = "srepo";
/// Until it is whole; written by the holder of the lock on names alone.
pub(crate) const STAGED: &str = ".new-srepo";
/// More than an address can have, in bytes.
const LARGEST: u64 = 4096;

/// The repository that was said last; `None` where none ever was.
pub fn remembered(store: &Store) -> Result<Option<Address>, RepositoryError> {
    let text = match read(store) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(store, source)),
    };
    match text.trim() {
        "" => Ok(None),
        line => Address::parse(line)
            .map(Some)
            .map_err(|source| RepositoryError::Remembered {
                path: store.home().join(FILE),
                source,
            }),
    }
}

/// Remembers a repository in place of the one before.
pub fn remember(store: &Store, address: &Address) -> Result<(), RepositoryError> {
    let _names = store.lock()?;
    write(store, address).map_err(|source| failed(store, source))
}

fn read(store: &Store) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(store.folder(), FILE, flags, Mode::empty())?);
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

fn write(store: &Store, address: &Address) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let make = || openat(store.folder(), STAGED, flags, mode);
    let mut file = File::from(fault::step("srepo.make", make)?);
    let rename = || renameat(store.folder(), STAGED, store.folder(), FILE);
    let written =
        writeln!(file, "{address}").and_then(|()| Ok(fault::step("srepo.rename", rename)?));
    written.inspect_err(|_| {
        let _ = unlinkat(store.folder(), STAGED, AtFlags::empty());
    })
}

fn failed(store: &Store, source: io::Error) -> RepositoryError {
    RepositoryError::Keep {
        path: store.home().join(FILE),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_said_last_is_remembered() {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(remembered(&store).unwrap(), None);
        for text in ["calvin@host:22/images", "other"] {
            let address = Address::parse(text).unwrap();
            remember(&store, &address).unwrap();
            assert_eq!(remembered(&store).unwrap(), Some(address));
        }
        fs::write(folder.path().join(FILE), "-oProxyCommand=x\n").unwrap();
        assert!(matches!(
            remembered(&store),
            Err(RepositoryError::Remembered { .. })
        ));
    }
}
