//! The container's own accounts, read from its files without trusting them: inside its root whatever links it holds,
//! regular files only, bounded.

use crate::container::Container;
use crate::failure::TalkError;
use crate::files::open_booted_root;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::PathBuf;

/// More than any real passwd file holds.
const MOST_BYTES: usize = 1024 * 1024;

/// Shells that are tried where the account names none that exists.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What passwd(5) says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
    pub shell: String,
}

/// Where the files of a booted container can be seen from outside.
pub(crate) fn root_path(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/root"))
}

/// The account of the container's root, with a shell that exists: the one it names, else bash, else sh.
pub(crate) fn root_account(container: &Container) -> Result<Account, TalkError> {
    let root = open_booted_root(container)?;
    let file = "/etc/passwd";
    let named = match read(&root, file) {
        Ok(text) => find(&text, 0),
        Err(Errno::NOENT) => None,
        Err(source) => return Err(TalkError::ReadAccount { file, source }),
    };
    let mut account = named.unwrap_or_else(|| Account {
        name: "root".into(),
        uid: 0,
        gid: 0,
        home: "/root".into(),
        shell: String::new(),
    });
    if account.shell.is_empty() || !is_program(&root, &account.shell) {
        let found = SHELLS.iter().find(|shell| is_program(&root, shell));
        account.shell = found.unwrap_or(&SHELLS[1]).to_string();
    }
    Ok(account)
}

fn resolve(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

/// Looks before it opens: a FIFO or a device in a file's place is never opened for reading.
fn read(root: &OwnedFd, path: &str) -> Result<String, Errno> {
    use rustix::fd::AsRawFd;
    let place = resolve(root, path)?;
    if !FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = format!("/proc/self/fd/{}", place.as_raw_fd());
    let file = rustix::fs::open(opened, flags, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut block = [0u8; 16 * 1024];
    loop {
        match rustix::io::read(&file, &mut block)? {
            0 => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ if bytes.len() > MOST_BYTES => return Err(Errno::FBIG),
            length => bytes.extend_from_slice(&block[..length]),
        }
    }
}

fn is_program(root: &OwnedFd, path: &str) -> bool {
    let status = resolve(root, path).and_then(|place| rustix::fs::fstat(&place));
    status.is_ok_and(|status| {
        FileType::from_raw_mode(status.st_mode).is_file() && status.st_mode & 0o111 != 0
    })
}

/// The first line of passwd(5) with this uid. Ids are decimal digits and nothing else, so that no spelling of one user
/// can become another.
fn find(passwd: &str, uid: u32) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let found = exact_id(fields.next()?)?;
        let gid = exact_id(fields.next()?)?;
        let _comment = fields.next()?;
        let home = fields.next()?;
        let shell = fields.next()?;
        (found == uid && !line.contains('\0')).then(|| Account {
            name: name.into(),
            uid,
            gid,
            home: if home.is_empty() { "/" } else { home }.into(),
            shell: shell.into(),
        })
    })
}

fn exact_id(text: &str) -> Option<u32> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn accounts_are_found_by_exact_id() {
        let passwd = "odd:x:0x0:0:::\nplus:x:+0:0::/p:/p\nshort\nroot:x:0:0:root:/root:/bin/bash\n";
        let account = find(passwd, 0).expect("there is a root");
        assert_eq!(account.name, "root");
        assert_eq!(account.shell, "/bin/bash");
        assert_eq!(find(passwd, 1), None);
    }

    #[test]
    fn ids_that_only_look_like_numbers_are_none() {
        for text in ["", " 0", "+1", "-1", "0x0", "4294967296", "1 "] {
            assert_eq!(exact_id(text), None, "{text:?}");
        }
        assert_eq!(exact_id("4294967295"), Some(u32::MAX));
    }

    #[test]
    fn a_fifo_in_the_place_of_passwd_is_an_error_and_no_hang() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        let fifo = folder.path().join("etc/passwd");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(read(&root, "/etc/passwd"), Err(Errno::INVAL));
    }

    #[test]
    fn links_stay_inside_the_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        std::os::unix::fs::symlink("/../../etc/passwd", folder.path().join("out")).unwrap();
        assert_eq!(read(&root, "/out"), Err(Errno::NOENT));
    }
}
