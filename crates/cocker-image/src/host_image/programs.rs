//! The programs that image `test` would like to have, and the files that some of them open by name.
//!
//! A host may lack any of them except a shell.

/// The image's own search path. The host's programs are looked for here first: what the distribution installed
/// works in the image with the least around it.
pub(super) const STANDARD_FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Which programs go first where room is short. The declaration's order is the order of choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Basic,
    Optional,
}

/// One of them is needed for an image at all.
pub(super) const SHELLS: [&str; 2] = ["bash", "sh"];

/// Libraries that the C library loads while programs run: name services, and the unwinder for ending threads.
pub(super) const LIBRARIES_AT_RUN_TIME: [&str; 3] =
    ["libgcc_s.so.1", "libnss_dns.so.2", "libnss_files.so.2"];

/// All programs of GNU coreutils, those included that few distributions build.
const COREUTILS: [&str; 108] = [
    "[",
    "arch",
    "b2sum",
    "base32",
    "base64",
    "basename",
    "basenc",
    "cat",
    "chcon",
    "chgrp",
    "chmod",
    "chown",
    "chroot",
    "cksum",
    "comm",
    "cp",
    "csplit",
    "cut",
    "date",
    "dd",
    "df",
    "dir",
    "dircolors",
    "dirname",
    "du",
    "echo",
    "env",
    "expand",
    "expr",
    "factor",
    "false",
    "fmt",
    "fold",
    "groups",
    "head",
    "hostid",
    "hostname",
    "id",
    "install",
    "join",
    "kill",
    "link",
    "ln",
    "logname",
    "ls",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mknod",
    "mktemp",
    "mv",
    "nice",
    "nl",
    "nohup",
    "nproc",
    "numfmt",
    "od",
    "paste",
    "pathchk",
    "pinky",
    "pr",
    "printenv",
    "printf",
    "ptx",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "runcon",
    "seq",
    "sha1sum",
    "sha224sum",
    "sha256sum",
    "sha384sum",
    "sha512sum",
    "shred",
    "shuf",
    "sleep",
    "sort",
    "split",
    "stat",
    "stdbuf",
    "stty",
    "sum",
    "sync",
    "tac",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "tsort",
    "tty",
    "uname",
    "unexpand",
    "uniq",
    "unlink",
    "uptime",
    "users",
    "vdir",
    "wc",
    "who",
    "whoami",
    "yes",
];

const BASIC: [&str; 33] = [
    "awk", "clear", "egrep", "fgrep", "file", "find", "free", "grep", "gunzip", "gzip", "ip",
    "less", "mount", "nc", "pgrep", "ping", "pkill", "ps", "reset", "sed", "ss", "ssh", "tar",
    "top", "tset", "umount", "unshare", "vi", "vim", "which", "xargs", "zcat", "mawk",
];

const OPTIONAL: [&str; 40] = [
    "arping",
    "bunzip2",
    "bzip2",
    "cmp",
    "diff",
    "dmesg",
    "findmnt",
    "flock",
    "gawk",
    "getent",
    "getopt",
    "ifconfig",
    "ionice",
    "ldd",
    "locale",
    "mesg",
    "more",
    "mountpoint",
    "netstat",
    "nsenter",
    "pidof",
    "pmap",
    "prlimit",
    "pwdx",
    "renice",
    "route",
    "scp",
    "setpriv",
    "setsid",
    "ssh-keygen",
    "sysctl",
    "taskset",
    "telnet",
    "tput",
    "vmstat",
    "w",
    "watch",
    "xz",
    "xzcat",
    "zgrep",
];

/// What a program may need on disk before a stand-in is preferred, in bytes.
pub(super) const SPACE_OF_ITS_OWN: u64 = 16 << 20;

/// Every wished program besides the shells.
pub(super) fn wishes() -> impl Iterator<Item = (Rank, &'static str)> {
    let basic = COREUTILS.into_iter().chain(BASIC);
    let basic = basic.map(|name| (Rank::Basic, name));
    basic.chain(OPTIONAL.into_iter().map(|name| (Rank::Optional, name)))
}

/// Programs that do what `name` does. The smallest of them is taken where the host has none of that name, or one that
/// needs more than [`SPACE_OF_ITS_OWN`]: an editor built for a desktop brings the whole desktop.
pub(super) fn stand_ins(name: &str) -> &'static [&'static str] {
    match name {
        "vi" => &["vim.tiny", "nvi", "vim.basic", "vim", "busybox"],
        _ => &[],
    }
}

/// Files that the program `name` opens while it runs, at the places that distributions have for them.
pub(super) fn companions(name: &str) -> &'static [&'static str] {
    match name {
        "stdbuf" => &[
            "/usr/libexec/coreutils/libstdbuf.so",
            "/usr/lib/coreutils/libstdbuf.so",
            "/usr/lib64/coreutils/libstdbuf.so",
        ],
        "file" => &[
            "/etc/magic",
            "/etc/magic.mime",
            "/usr/lib/file/magic.mgc",
            "/usr/share/file/magic.mgc",
            "/usr/share/file/misc/magic.mgc",
            "/usr/share/magic.mgc",
            "/usr/share/misc/magic",
            "/usr/share/misc/magic.mgc",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_program_is_wished_for_twice() {
        let mut seen = HashSet::new();
        for name in SHELLS.into_iter().chain(wishes().map(|(_, name)| name)) {
            assert!(seen.insert(name), "{name}");
        }
    }
}
