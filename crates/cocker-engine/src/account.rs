//! The container's own accounts, read from its files without trusting them: inside its root whatever links it holds,
//! regular files only, bounded.

use crate::container::Container;
use crate::failure::TalkError;
use crate::files::open_booted_root;
use crate::ids;
use crate::request::{Isolation, UserRequest, Who};
use cocker_protocol::MAX_GROUPS;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Whoever renames without end stops nobody for longer.
const MOST_TRIES: usize = 1000;
const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// More than any real passwd file holds.
const MOST_BYTES: usize = 1024 * 1024;

/// Shells that are tried where the account names none that exists.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// What passwd(5) says of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Empty where it is not known.
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups. All ids are some that the container has.
    pub groups: Vec<u32>,
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
    let passwd = read_or_nothing(&root, PASSWD)?;
    let account = find(&passwd, &Who::Id(0)).unwrap_or_else(|| nameless(0));
    check_ids(&account, container.settings.isolation)?;
    Ok(with_shell(&root, account))
}

/// The account of whoever is asked for, with their groups.
///
/// A user's number without an entry in passwd is a user as well: in group 0 and at home in `/`, as in docker(1).
pub(crate) fn account(container: &Container, request: &UserRequest) -> Result<Account, TalkError> {
    let root = open_booted_root(container)?;
    let passwd = read_or_nothing(&root, PASSWD)?;
    let mut account = match (find(&passwd, &request.user), &request.user) {
        (Some(account), _) => account,
        (None, Who::Id(uid)) => nameless(*uid),
        (None, Who::Name(name)) => return Err(TalkError::NoSuchUser { name: name.clone() }),
    };
    // A number alone needs no file; a user without a name is in no list.
    match &request.group {
        Some(Who::Id(gid)) => account.gid = *gid,
        Some(Who::Name(name)) => {
            let group = read_or_nothing(&root, GROUP)?;
            let found = gid_of(&group, name);
            account.gid = found.ok_or_else(|| TalkError::NoSuchGroup { name: name.clone() })?;
        }
        None if account.name.is_empty() => {}
        None => {
            let group = read_or_nothing(&root, GROUP)?;
            account.groups = groups_of(&group, &account.name, account.gid);
        }
    }
    check_ids(&account, container.settings.isolation)?;
    account.shell = match admits_nobody(&account.shell) {
        true => SHELLS[1].into(),
        false => account.shell,
    };
    Ok(with_shell(&root, account))
}

/// A file that is missing is an empty one.
fn read_or_nothing(root: &OwnedFd, file: &'static str) -> Result<String, TalkError> {
    match read(root, file) {
        Ok(text) => Ok(text),
        Err(Errno::NOENT) => Ok(String::new()),
        Err(source) => Err(TalkError::ReadAccount { file, source }),
    }
}

/// Who has no entry in passwd. Root is root all the same.
fn nameless(uid: u32) -> Account {
    let (name, home) = match uid {
        0 => ("root", "/root"),
        _ => ("", "/"),
    };
    Account {
        name: name.into(),
        uid,
        gid: 0,
        groups: Vec::new(),
        home: home.into(),
        shell: String::new(),
    }
}

fn with_shell(root: &OwnedFd, mut account: Account) -> Account {
    if account.shell.is_empty() || !is_program(root, &account.shell) {
        let found = SHELLS.iter().find(|shell| is_program(root, shell));
        account.shell = found.unwrap_or(&SHELLS[1]).to_string();
    }
    account
}

/// Whether it is there to turn people away (nologin(8), false(1)): nobody who may become any user is one of them.
fn admits_nobody(shell: &str) -> bool {
    matches!(shell.rsplit('/').next(), Some("nologin" | "false"))
}

/// What does not exist in the container cannot be taken on there, and would fail with nothing but "Invalid argument".
fn check_ids(account: &Account, isolation: Isolation) -> Result<(), TalkError> {
    let most = match isolation {
        Isolation::Contained => ids::COUNT - 1,
        // -1 stands for "leave it as it is".
        Isolation::Privileged | Isolation::HostIds => u32::MAX - 1,
    };
    let check = |what, id| match id > most {
        true => Err(TalkError::NoSuchId { what, id, most }),
        false => Ok(()),
    };
    check("user", account.uid)?;
    check("group", account.gid)?;
    for gid in &account.groups {
        check("group", *gid)?;
    }
    if account.groups.len() > MAX_GROUPS {
        return Err(TalkError::TooManyGroups {
            user: account.name.clone(),
            most: MAX_GROUPS,
        });
    }
    Ok(())
}

/// Opens a path of the container as a place, inside its root, whatever links lead.
pub(crate) fn resolve(root: &OwnedFd, path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    let path = path.as_ref();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut opened = Err(Errno::AGAIN);
    // Where a `..` is on the way and something was renamed or mounted anywhere meanwhile (openat2(2), EAGAIN).
    for _ in 0..MOST_TRIES {
        opened = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    opened
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

/// The first line of passwd(5) with this uid or name. Ids are decimal digits and nothing else, so that no spelling of one
/// user can become another; a line with other ids is none.
fn find(passwd: &str, who: &Who) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let uid = exact_id(fields.next()?)?;
        let gid = exact_id(fields.next()?)?;
        let _comment = fields.next()?;
        let home = fields.next()?;
        let shell = fields.next()?;
        let is_meant = match who {
            Who::Id(id) => *id == uid,
            Who::Name(said) => said == name,
        };
        (is_meant && !line.contains('\0')).then(|| Account {
            name: name.into(),
            uid,
            gid,
            groups: Vec::new(),
            home: if home.is_empty() { "/" } else { home }.into(),
            shell: shell.into(),
        })
    })
}

/// Name, gid and members of each line of group(5) whose gid is one.
fn lines_of_group(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let _password = fields.next()?;
        let gid = exact_id(fields.next()?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn gid_of(group: &str, name: &str) -> Option<u32> {
    lines_of_group(group)
        .find(|(there, _, _)| *there == name)
        .map(|(_, gid, _)| gid)
}

/// A user's own group and those that they are a member of, each once (initgroups(3)).
fn groups_of(group: &str, user: &str, own: u32) -> Vec<u32> {
    let is_member = |members: &str| members.split(',').any(|member| member == user);
    let mut groups = vec![own];
    let mut known = BTreeSet::from([own]);
    for (_, gid, members) in lines_of_group(group) {
        if is_member(members) && known.insert(gid) {
            groups.push(gid);
        }
    }
    groups
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
        let account = find(passwd, &Who::Id(0)).expect("there is a root");
        assert_eq!(account.name, "root");
        assert_eq!(account.shell, "/bin/bash");
        assert_eq!(find(passwd, &Who::Id(1)), None);
        // A line that is none does not make its name one.
        assert_eq!(find(passwd, &Who::Name("odd".into())), None);
    }

    #[test]
    fn a_number_is_never_a_name() {
        let passwd = "1000:x:0:0::/root:/bin/sh\nbob:x:1000:50::/home/bob:/bin/sh";
        assert_eq!(find(passwd, &Who::Id(1000)).unwrap().name, "bob");
        assert_eq!(find(passwd, &Who::Name("bob".into())).unwrap().uid, 1000);
        let first = "a:x:7:1:::\na:x:8:2:::\n";
        assert_eq!(find(first, &Who::Name("a".into())).unwrap().uid, 7);
    }

    #[test]
    fn groups_are_those_that_name_the_user() {
        let group = "root:x:0:\nbob:x:50:\nadm:x:4:alice,bob\nbobs:x:5:bobby,nobob\nodd:x:+6:bob\n\
                     twice:x:4:bob\nshort:x\nlast:x:9:bob";
        assert_eq!(groups_of(group, "bob", 50), [50, 4, 9]);
        assert_eq!(groups_of("", "bob", 50), [50]);
        assert_eq!(gid_of(group, "last"), Some(9));
        assert_eq!(gid_of(group, "odd"), None);
        assert_eq!(gid_of(group, "4"), None);
    }

    #[test]
    fn ids_that_the_container_does_not_have_are_refused() {
        let mut account = nameless(65_535);
        assert!(check_ids(&account, Isolation::Contained).is_ok());
        account.uid = 65_536;
        let error = check_ids(&account, Isolation::Contained).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no user 65536 in it: the numbers go from 0 to 65535"
        );
        assert!(check_ids(&account, Isolation::Privileged).is_ok());
        account.uid = u32::MAX;
        assert!(check_ids(&account, Isolation::Privileged).is_err());
        account = nameless(1);
        account.groups = vec![1, 70_000];
        assert!(check_ids(&account, Isolation::Contained).is_err());
        account.groups = (0..257).collect();
        assert!(matches!(
            check_ids(&account, Isolation::Contained),
            Err(TalkError::TooManyGroups { most: 256, .. })
        ));
    }

    #[test]
    fn who_is_turned_away_by_a_shell_is_known_by_its_name() {
        for shell in ["/usr/sbin/nologin", "/sbin/nologin", "/bin/false"] {
            assert!(admits_nobody(shell), "{shell}");
        }
        for shell in ["", "/bin/sh", "/nologin/bash"] {
            assert!(!admits_nobody(shell), "{shell}");
        }
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
        assert_eq!(read(&root, PASSWD), Err(Errno::INVAL));
    }

    #[test]
    fn links_stay_inside_the_root() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        std::os::unix::fs::symlink("/../../etc/passwd", folder.path().join("out")).unwrap();
        assert_eq!(read(&root, "/out"), Err(Errno::NOENT));
    }
}
