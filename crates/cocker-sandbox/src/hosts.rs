//! `/etc/hosts`: the sandbox's own file, in which one line is ours: the one that ends in the mark.
//!
//! ```text
//! 127.0.0.1    localhost
//! 166.88.0.2   web          # cocker
//! ```
//!
//! Init-to-be writes it as the sandbox's root and by `openat2` inside the new root, so a file that is a trap does no more
//! harm than root inside could do itself. What lies on a volume is somebody else's as well, and left alone.

use crate::plan::{HostNames, TargetKind};
use crate::target;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use std::path::Path;

const FOLDER: &str = "/etc";
const NAME: &str = "hosts";

/// What the file is called while it is written; one that a killed boot has left is replaced.
const NEW: &str = ".hosts.cocker-new";

/// What our line ends in.
const MARK: &str = "# cocker";

/// What a file that does not exist begins with.
const LOOPBACK: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// A longer file is a list of its owner's, which we neither hold in memory nor write anew.
const MOST: usize = 1 << 20;

/// By no link and into no other mount.
const OWN: ResolveFlags = target::NO_LINKS.union(ResolveFlags::NO_XDEV);

/// Sees to it that the file names the sandbox; what cannot be changed, or is not ours to change, is left alone.
///
/// # Errors
/// Why it could not be changed, for tests; the file is then as it was.
pub(crate) fn keep(root: BorrowedFd<'_>, names: &HostNames) -> Result<(), Errno> {
    let folder = match target::open(root, Path::new(FOLDER), OWN) {
        Err(Errno::NOENT) => {
            target::make(root, Path::new(FOLDER), TargetKind::Folder, OWN)?;
            target::open(root, Path::new(FOLDER), OWN)?
        }
        other => other?,
    };
    let old = read(folder.as_fd())?;
    let content = old.as_ref().map_or(&[][..], |(content, _)| content);
    match naming(content, names) {
        Some(new) => replace(folder.as_fd(), &new, old.as_ref().map(|(_, stat)| stat)),
        None => Ok(()),
    }
}

/// The content that `content` becomes, or `None` where it may stay as it is.
fn naming(content: &[u8], names: &HostNames) -> Option<Vec<u8>> {
    let line = format!("{}\t{}\t{MARK}", names.address, names.hostname);
    if content.is_empty() {
        return Some([LOOPBACK.as_bytes(), line.as_bytes(), b"\n"].concat());
    }
    let lines = || content.split_inclusive(|&byte| byte == b'\n');
    let is_ours = |old: &&[u8]| old.trim_ascii_end().ends_with(MARK.as_bytes());
    if let Some(place) = lines().position(|old| is_ours(&old)) {
        let as_wanted = |old: &[u8]| old.trim_ascii_end() == line.as_bytes();
        if lines().nth(place).is_some_and(as_wanted) {
            return None;
        }
        let before = lines().take(place).flatten();
        let after = lines().skip(place + 1).flatten();
        let ours = line.as_bytes().iter().chain(b"\n");
        return Some(before.chain(ours).chain(after).copied().collect());
    }
    if lines().any(|old| names_host(old, &names.hostname)) {
        return None;
    }
    let end: &[u8] = match content.ends_with(b"\n") {
        true => b"",
        false => b"\n",
    };
    Some([content, end, line.as_bytes(), b"\n"].concat())
}

/// Says whether a line (hosts(5)) gives any address to `hostname`.
fn names_host(line: &[u8], hostname: &str) -> bool {
    let said = line.split(|&byte| byte == b'#').next().unwrap_or_default();
    let words = said.split(u8::is_ascii_whitespace);
    let mut names = words.filter(|word| !word.is_empty()).skip(1);
    // Names compare without regard to case (RFC 1035, section 2.3.3).
    names.any(|name| name.eq_ignore_ascii_case(hostname.as_bytes()))
}

/// The file with its mode and owner; `None` where there is none.
///
/// # Errors
/// `INVAL` for what is no regular file, `FBIG` for one that is too long.
fn read(folder: BorrowedFd<'_>) -> Result<Option<(Vec<u8>, Stat)>, Errno> {
    // A FIFO would let us wait, a terminal would become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat2(folder, NAME, flags, Mode::empty(), OWN) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Errno::INVAL);
    }
    let mut content = Vec::new();
    let mut block = [0u8; 4096];
    loop {
        match rustix::io::read(&file, &mut block)? {
            0 => return Ok(Some((content, stat))),
            length => content.extend_from_slice(&block[..length]),
        }
        if content.len() > MOST {
            return Err(Errno::FBIG);
        }
    }
}

/// Puts a whole new file in the place of the old one, so that nobody ever finds half of it.
fn replace(folder: BorrowedFd<'_>, content: &[u8], old: Option<&Stat>) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, NEW, flags, Mode::RUSR | Mode::WUSR)?;
    let replaced =
        fill(&file, content, old).and_then(|()| rustix::fs::renameat(folder, NEW, folder, NAME));
    if replaced.is_err() {
        let _ = rustix::fs::unlinkat(folder, NEW, AtFlags::empty());
    }
    replaced
}

fn fill(file: &OwnedFd, content: &[u8], old: Option<&Stat>) -> Result<(), Errno> {
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(file, rest)?;
        rest = &rest[written..];
    }
    let mode = match old {
        Some(old) => {
            let (uid, gid) = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
            rustix::fs::fchown(file, Some(uid), Some(gid))?;
            Mode::from_raw_mode(old.st_mode)
        }
        None => Mode::from_raw_mode(0o644),
    };
    // After the owner, whose change takes bits of the mode away.
    rustix::fs::fchmod(file, mode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    fn names() -> HostNames {
        HostNames {
            address: [166, 88, 0, 2].into(),
            hostname: "web".into(),
        }
    }

    const OURS: &str = "166.88.0.2\tweb\t# cocker\n";

    /// What a file becomes; the same text where it stays.
    fn becomes(content: &str) -> String {
        match naming(content.as_bytes(), &names()) {
            Some(new) => {
                let again = naming(&new, &names());
                assert_eq!(again, None, "the second boot changes it again");
                String::from_utf8(new).expect("it was text")
            }
            None => content.into(),
        }
    }

    #[test]
    fn an_empty_file_gets_loopback_and_our_line() {
        let whole = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        assert_eq!(becomes(""), format!("{whole}{OURS}"));
    }

    #[test]
    fn our_line_is_replaced_where_it_stands_and_only_when_it_differs() {
        let old = "10.0.0.9\told\t# cocker";
        assert_eq!(
            becomes(&format!("# mine\n{old}\n1.1.1.1 one\n")),
            format!("# mine\n{OURS}1.1.1.1 one\n")
        );
        assert_eq!(becomes(old), OURS);
        let as_wanted = format!("1.1.1.1 one\n{OURS}# end");
        assert_eq!(becomes(&as_wanted), as_wanted);
        assert_eq!(becomes(OURS.trim_end()), OURS.trim_end());
    }

    #[test]
    fn a_name_that_is_there_already_is_left_to_its_owner() {
        for line in [
            "127.0.1.1 web",
            "127.0.1.1\tweb.example.org  WEB # mine",
            "::1 other web#x",
        ] {
            let content = format!("127.0.0.1 localhost\n{line}\n");
            assert_eq!(becomes(&content), content);
        }
    }

    #[test]
    fn else_our_line_comes_at_the_end() {
        for content in [
            "127.0.0.1 localhost\n",
            "# 127.0.1.1 web\n",
            "web other\n",
            "1.1.1.1 web2 www.web\n",
            "\n",
        ] {
            assert_eq!(becomes(content), format!("{content}{OURS}"));
        }
        assert_eq!(becomes("1.1.1.1 one"), format!("1.1.1.1 one\n{OURS}"));
        let not_text = naming(b"\xff\xfe\n", &names()).expect("our line is missing");
        assert_eq!(not_text, [b"\xff\xfe\n", OURS.as_bytes()].concat());
    }

    /// A root of its own, with `/etc`.
    fn root() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("etc")).expect("the root is ours");
        let hosts = root.path().join("etc/hosts");
        (root, hosts)
    }

    fn keep_in(root: &Path) -> Result<(), Errno> {
        let root = fs::File::open(root).expect("it is there");
        keep(root.as_fd(), &names())
    }

    fn files(root: &Path) -> Vec<String> {
        let entries = fs::read_dir(root.join("etc")).expect("it is there");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry
                .expect("it is read")
                .file_name()
                .to_string_lossy()
                .into_owned()
        };
        entries.map(name).collect()
    }

    #[test]
    fn a_missing_file_is_made_and_a_missing_folder_too() {
        let (root, hosts) = root();
        fs::remove_dir(root.path().join("etc")).expect("it is empty");
        assert_eq!(keep_in(root.path()), Ok(()));
        assert!(
            fs::read_to_string(&hosts)
                .expect("it is made")
                .ends_with(OURS)
        );
        let mode = fs::metadata(&hosts)
            .expect("it is made")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        assert_eq!(files(root.path()), ["hosts"]);
    }

    #[test]
    fn a_changed_file_keeps_its_mode_and_what_a_killed_boot_left_is_gone() {
        let (root, hosts) = root();
        fs::write(&hosts, "1.1.1.1 one\n").expect("the root is ours");
        fs::set_permissions(&hosts, fs::Permissions::from_mode(0o640)).expect("it is ours");
        symlink("../../outside", hosts.with_file_name(NEW)).expect("the root is ours");
        assert_eq!(keep_in(root.path()), Ok(()));
        let content = fs::read_to_string(&hosts).expect("it is there");
        assert_eq!(content, format!("1.1.1.1 one\n{OURS}"));
        let mode = fs::metadata(&hosts)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(files(root.path()), ["hosts"]);
    }

    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        let (root, hosts) = root();
        let victim = root.path().join("victim");
        fs::write(&victim, "untouched\n").expect("the root is ours");
        symlink("../victim", &hosts).expect("the root is ours");
        assert_eq!(keep_in(root.path()), Err(Errno::LOOP));
        assert_eq!(
            fs::read_to_string(&victim).expect("it is there"),
            "untouched\n"
        );
        fs::remove_file(&hosts).expect("it is ours");

        let fifo = FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &hosts, fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("the root is ours");
        assert_eq!(keep_in(root.path()), Err(Errno::INVAL));
        fs::remove_file(&hosts).expect("it is ours");

        fs::create_dir(&hosts).expect("the root is ours");
        assert_eq!(keep_in(root.path()), Err(Errno::INVAL));
        fs::remove_dir(&hosts).expect("it is ours");

        fs::write(&hosts, vec![b'\n'; MOST + 1]).expect("the root is ours");
        assert_eq!(keep_in(root.path()), Err(Errno::FBIG));
        fs::remove_file(&hosts).expect("it is ours");
        assert!(files(root.path()).is_empty());

        fs::remove_dir(root.path().join("etc")).expect("it is empty");
        fs::create_dir(root.path().join("real")).expect("the root is ours");
        symlink("real", root.path().join("etc")).expect("the root is ours");
        assert_eq!(keep_in(root.path()), Err(Errno::LOOP));
        assert!(files(root.path()).is_empty());
    }
}
