//! What the image has of its own: folders, accounts, names, and the set-up of its shells.
//!
//! Nothing of the host's is overwritten: what a program brought along stays. The hostname, `/etc/hosts` of a container and
//! `/etc/resolv.conf` are the business of whoever boots it.

use std::path::Path;

use super::plan::Plan;

const FOLDERS: [(&str, u32); 31] = [
    ("/bin", 0o755),
    ("/dev", 0o755),
    ("/etc", 0o755),
    ("/etc/profile.d", 0o755),
    ("/home", 0o755),
    ("/lib", 0o755),
    ("/media", 0o755),
    ("/mnt", 0o755),
    ("/opt", 0o755),
    ("/proc", 0o555),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/sbin", 0o755),
    ("/srv", 0o755),
    ("/sys", 0o555),
    ("/tmp", 0o1777),
    ("/usr/bin", 0o755),
    ("/usr/lib", 0o755),
    ("/usr/local/bin", 0o755),
    ("/usr/local/lib", 0o755),
    ("/usr/local/sbin", 0o755),
    ("/usr/local/share", 0o755),
    ("/usr/sbin", 0o755),
    ("/usr/share", 0o755),
    ("/usr/src", 0o755),
    ("/var/cache", 0o755),
    ("/var/lib", 0o755),
    ("/var/log", 0o755),
    ("/var/opt", 0o755),
    ("/var/spool", 0o755),
    ("/var/tmp", 0o1777),
];

const LINKS: [(&str, &str); 3] = [
    ("/etc/mtab", "../proc/self/mounts"),
    ("/var/lock", "../run/lock"),
    ("/var/run", "../run"),
];

const FILES: [(&str, u32, &str); 9] = [
    (
        "/etc/fstab",
        0o644,
        "# What is mounted here was mounted from outside.\n",
    ),
    ("/etc/group", 0o644, GROUPS),
    (
        "/etc/hosts",
        0o644,
        "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n",
    ),
    ("/etc/nsswitch.conf", 0o644, NAME_SERVICES),
    ("/etc/os-release", 0o644, RELEASE),
    ("/etc/profile", 0o644, PROFILE),
    ("/root/.bashrc", 0o644, BASHRC),
    ("/root/.vimrc", 0o644, VIMRC),
    // A template to try `instantiate` with.
    ("/root/tpl.txt", 0o644, "{ \"leaf\":\"${LEAF}\" }\n"),
];

const GROUPS: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
disk:x:6:
mail:x:8:
utmp:x:43:
staff:x:50:
users:x:100:
nogroup:x:65534:
";

const NAME_SERVICES: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
";

const RELEASE: &str = "\
NAME=\"cocker test image\"
PRETTY_NAME=\"cocker test image\"
ID=cocker-test
";

/// Read by login shells of every kind, so it speaks what all of them know. Only an interactive one is greeted: what `sh -lc`
/// prints belongs to the command.
const PROFILE: &str = r#"# Read by login shells of every kind: plain sh only.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
if [ -z "$LANG" ]; then
    LANG=C.UTF-8
    export LANG
fi
umask 022

for script in /etc/profile.d/*.sh; do
    if [ -r "$script" ]; then
        . "$script"
    fi
done
unset script

case $- in
*i*)
    # bash calls a terminal that nobody named "dumb", and does not export it.
    case $(export -p) in
    *' TERM='*) ;;
    *)
        TERM=linux
        export TERM
        ;;
    esac
    if [ -n "$BASH_VERSION" ]; then
        PS1='[\u@\h $PWD] '
    else
        PS1=$(uname -n)
        PS1="[$(id -un)@${PS1%%.*} \$PWD] "
    fi
    echo '--- Welcome to cocker container ---'
    echo
    ;;
esac
"#;

const BASHRC: &str = r#"# Read by interactive shells of bash that are no login shells.

case $- in
*i*) PS1='[\u@\h $PWD] ' ;;
esac
"#;

/// Without a file of the user's, vim looks for defaults in its runtime folder, which is not in the image, and complains.
const VIMRC: &str = "\
set nocompatible backspace=indent,eol,start
";

/// Adds the image's own files where the host left room for them.
pub(super) fn add(plan: &mut Plan, shells: &Shells) {
    for (path, mode) in FOLDERS {
        plan.add_folder(plan.place(Path::new(path)), mode);
    }
    for (path, target) in LINKS {
        plan.add_link(plan.place(Path::new(path)), target);
    }
    for (path, mode, content) in FILES {
        plan.add_text(plan.place(Path::new(path)), content, mode);
    }
    plan.add_text(plan.place(Path::new("/etc/passwd")), passwd(shells), 0o644);
    plan.add_text(plan.place(Path::new("/etc/shadow")), shadow(), 0o640);
    plan.add_text(plan.place(Path::new("/etc/shells")), shells.list(), 0o644);
}

/// The shells that accounts may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shells {
    pub has_bash: bool,
}

impl Shells {
    fn of_root(self) -> &'static str {
        if self.has_bash {
            "/bin/bash"
        } else {
            "/bin/sh"
        }
    }

    fn list(self) -> &'static str {
        if self.has_bash {
            "/bin/sh\n/bin/bash\n"
        } else {
            "/bin/sh\n"
        }
    }
}

/// No account's password is usable, root's neither.
const SYSTEM_ACCOUNTS: [(&str, u32, &str); 4] = [
    ("daemon", 1, "/usr/sbin"),
    ("bin", 2, "/bin"),
    ("sys", 3, "/dev"),
    ("nobody", 65534, "/nonexistent"),
];

fn passwd(shells: &Shells) -> String {
    let mut text = format!("root:x:0:0:root:/root:{}\n", shells.of_root());
    for (name, id, home) in SYSTEM_ACCOUNTS {
        text.push_str(&format!("{name}:x:{id}:{id}:{name}:{home}:/bin/false\n"));
    }
    text
}

fn shadow() -> String {
    let names = SYSTEM_ACCOUNTS.iter().map(|(name, ..)| *name);
    ["root"]
        .into_iter()
        .chain(names)
        .map(|name| format!("{name}:*:19000:0:99999:7:::\n"))
        .collect()
}
