//! What becomes of each system call in a sandbox about which nothing else is said: the table to read.
//!
//! Packaged programs are kept from much that a host does to itself. A sandbox here *is* a host, in a user namespace of its
//! own: it mounts, enters namespaces, changes roots. What is forbidden is what reaches the kernel that all share, and what is of
//! no use inside but has been of use to attackers.
//!
//! What is forbidden answers EPERM, what no table knows ENOSYS, so that programs fall back to what came before. A test asserts
//! that each call of each architecture stands here, once.
//!
//! This module is compiled into the build script too, which knows no other module of the crate.

use super::architecture::{Architecture, X32_BIT};
use super::rules::{Action, Calls, Comparison, Condition, Rule, Rules, Verdict};
use std::collections::BTreeMap;

// Numbers of errno(3) and of address families, the same on all these architectures.
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
const EAFNOSUPPORT: u16 = 97;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Always {
    Allow,
    /// EPERM.
    Forbid,
    /// ENOSYS, as the kernel itself answers.
    Missing,
}
use Always::{Allow, Forbid, Missing};

pub struct Group {
    pub verdict: Always,
    pub calls: &'static [&'static str],
}

// Several names a line.
#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    Group {
        // Opening, reading and writing.
        verdict: Allow,
        calls: &[
            "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2",
            "pwritev2", "open", "openat", "openat2", "creat", "close", "close_range", "lseek", "_llseek",
            "sendfile", "sendfile64", "splice", "tee", "copy_file_range", "dup", "dup2", "dup3",
            "fcntl", "fcntl64", "flock", "pipe", "pipe2", "readahead", "fadvise64", "fadvise64_64",
            "arm_fadvise64_64", "sync", "syncfs", "fsync", "fdatasync", "sync_file_range",
            "arm_sync_file_range", "ftruncate", "ftruncate64", "truncate", "truncate64", "fallocate",
            "memfd_create", "cachestat",
        ],
    },
    Group {
        // Files and folders by name.
        verdict: Allow,
        calls: &[
            "access", "faccessat", "faccessat2", "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64",
            "fstatat", "fstatat64", "newfstatat", "oldstat", "oldlstat", "oldfstat", "statx", "statfs",
            "statfs64", "fstatfs", "fstatfs64", "getdents", "getdents64", "readdir", "getcwd", "chdir",
            "fchdir", "mkdir", "mkdirat", "rmdir", "mknod", "mknodat", "link", "linkat", "symlink", "symlinkat",
            "readlink", "readlinkat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "chmod",
            "fchmod", "fchmodat", "fchmodat2", "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown",
            "lchown32", "umask", "utime", "utimes", "futimesat", "utimensat", "utimensat_time64",
            "name_to_handle_at", "file_getattr", "file_setattr",
        ],
    },
    Group {
        // Extended attributes.
        verdict: Allow,
        calls: &[
            "getxattr", "lgetxattr", "fgetxattr", "getxattrat", "setxattr", "lsetxattr", "fsetxattr",
            "setxattrat", "listxattr", "llistxattr", "flistxattr", "listxattrat", "removexattr", "lremovexattr",
            "fremovexattr", "removexattrat",
        ],
    },
    Group {
        // Waiting for descriptors, and changes of files.
        verdict: Allow,
        calls: &[
            "select", "_newselect", "pselect6", "pselect6_time64", "poll", "ppoll", "ppoll_time64",
            "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
            "eventfd", "eventfd2", "signalfd", "signalfd4", "timerfd_create", "timerfd_settime",
            "timerfd_settime64", "timerfd_gettime", "timerfd_gettime64", "inotify_init", "inotify_init1",
            "inotify_add_watch", "inotify_rm_watch", "fanotify_init", "fanotify_mark", "io_setup", "io_destroy",
            "io_submit", "io_cancel", "io_getevents", "io_pgetevents", "io_pgetevents_time64",
        ],
    },
    Group {
        // Memory.
        verdict: Allow,
        calls: &[
            "brk", "mmap", "mmap2", "munmap", "mremap", "mprotect", "madvise", "process_madvise",
            "process_mrelease", "mincore", "msync", "mlock", "mlock2", "mlockall", "munlock", "munlockall",
            "remap_file_pages", "membarrier", "mseal", "map_shadow_stack", "memfd_secret", "pkey_alloc",
            "pkey_free", "pkey_mprotect", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node", "mbind",
        ],
    },
    Group {
        // Processes and threads. No flag of clone3 can be looked at, and none has to be: what new namespaces give to whoever makes them
        // counts among the container's own ids only.
        verdict: Allow,
        calls: &[
            "fork", "vfork", "clone", "clone3", "execve", "execveat", "exit", "exit_group", "wait4", "waitid",
            "waitpid", "getpid", "getppid", "gettid", "getpgid", "getpgrp", "setpgid", "getsid", "setsid",
            "set_tid_address", "set_robust_list", "get_robust_list", "rseq", "futex", "futex_time64",
            "futex_waitv", "futex_wait", "futex_wake", "futex_requeue", "get_thread_area", "set_thread_area",
            "arch_prctl", "modify_ldt", "prctl", "getcpu", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
            "kcmp", "ptrace", "process_vm_readv", "process_vm_writev", "uprobe", "uretprobe", "seccomp",
            "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "lsm_get_self_attr",
            "lsm_set_self_attr", "lsm_list_modules", "breakpoint", "cacheflush", "usr26", "usr32", "set_tls",
            "get_tls",
        ],
    },
    Group {
        // Priorities, limits, what was used.
        verdict: Allow,
        calls: &[
            "nice", "getpriority", "setpriority", "ioprio_get", "ioprio_set", "sched_yield",
            "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_setparam", "sched_getscheduler",
            "sched_setscheduler", "sched_getattr", "sched_setattr", "sched_get_priority_max",
            "sched_get_priority_min", "sched_rr_get_interval", "sched_rr_get_interval_time64", "getrlimit",
            "setrlimit", "ugetrlimit", "prlimit64", "getrusage", "times", "sysinfo", "uname", "olduname",
            "oldolduname", "getrandom",
        ],
    },
    Group {
        // Signals.
        verdict: Allow,
        calls: &[
            "kill", "tkill", "tgkill", "signal", "sigaction", "sigprocmask", "sigpending", "sigsuspend",
            "sigreturn", "sigaltstack", "rt_sigaction", "rt_sigprocmask",
            "rt_sigpending", "rt_sigsuspend", "rt_sigreturn", "rt_sigtimedwait", "rt_sigtimedwait_time64",
            "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pause", "restart_syscall",
        ],
    },
    Group {
        // Time. The kernel lets only the host's root set a clock by adjtimex and clock_adjtime; to ask them is for everybody.
        verdict: Allow,
        calls: &[
            "time", "gettimeofday", "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_gettime",
            "clock_gettime64", "clock_getres", "clock_getres_time64", "clock_nanosleep",
            "clock_nanosleep_time64", "nanosleep", "alarm", "getitimer", "setitimer", "timer_create",
            "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
            "timer_settime64",
        ],
    },
    Group {
        // Who a process is.
        verdict: Allow,
        calls: &[
            "getuid", "getuid32", "geteuid", "geteuid32", "getgid", "getgid32", "getegid", "getegid32",
            "getresuid", "getresuid32", "getresgid", "getresgid32", "getgroups", "getgroups32", "setuid",
            "setuid32", "setgid", "setgid32", "setreuid", "setreuid32", "setregid", "setregid32", "setresuid",
            "setresuid32", "setresgid", "setresgid32", "setfsuid", "setfsuid32", "setfsgid", "setfsgid32",
            "setgroups", "setgroups32", "capget", "capset",
        ],
    },
    Group {
        // Sockets, once there are any.
        verdict: Allow,
        calls: &[
            "socketpair", "bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername",
            "getsockopt", "setsockopt", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg",
            "recvmmsg", "recvmmsg_time64", "shutdown",
        ],
    },
    Group {
        // Messages, semaphores, shared memory of the container's own.
        verdict: Allow,
        calls: &[
            "ipc", "msgget", "msgctl", "msgsnd", "msgrcv", "semget", "semctl", "semop", "semtimedop",
            "semtimedop_time64", "shmget", "shmctl", "shmat", "shmdt", "mq_open", "mq_unlink", "mq_timedsend",
            "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64", "mq_notify", "mq_getsetattr",
        ],
    },
    Group {
        // What a host does to itself and a packaged process does not: its mounts, its roots, its namespaces, its names, its end. In a pid
        // namespace reboot(2) ends the namespace's first process, and nothing else.
        verdict: Allow,
        calls: &[
            "mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick",
            "move_mount", "open_tree", "open_tree_attr", "mount_setattr", "statmount", "listmount", "unshare",
            "setns", "sethostname", "setdomainname", "vhangup", "reboot",
        ],
    },
    Group {
        // The kernel's own code.
        verdict: Forbid,
        calls: &[
            "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module",
        ],
    },
    Group {
        // Programs for the kernel, and its insides looked at.
        verdict: Forbid,
        calls: &[
            "bpf", "perf_event_open", "lookup_dcookie", "syslog",
        ],
    },
    Group {
        // Keys: they are counted and looked up by what a process has held before, not by namespaces alone.
        verdict: Forbid,
        calls: &[
            "add_key", "request_key", "keyctl",
        ],
    },
    Group {
        // What attacks on the kernel have been built with, and programs can do without.
        verdict: Forbid,
        calls: &[
            "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "vmsplice",
        ],
    },
    Group {
        // The host's clocks.
        verdict: Forbid,
        calls: &[
            "settimeofday", "stime", "clock_settime", "clock_settime64",
        ],
    },
    Group {
        // The host's memory, disks, and accounts of them.
        verdict: Forbid,
        calls: &[
            "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "migrate_pages", "move_pages",
        ],
    },
    Group {
        // Files of a mounted file system by number, wherever they are in it.
        verdict: Forbid,
        calls: &[
            "open_by_handle_at",
        ],
    },
    Group {
        // Ports and modes of the processor.
        verdict: Forbid,
        calls: &[
            "iopl", "ioperm", "vm86", "vm86old", "pciconfig_iobase", "pciconfig_read", "pciconfig_write",
        ],
    },
    Group {
        // Of kernels long gone, or never there; and what only programs of that time call.
        verdict: Missing,
        calls: &[
            "_sysctl", "afs_syscall", "bdflush", "break", "create_module", "get_kernel_syms", "query_module", "getpmsg",
            "putpmsg", "nfsservctl", "security", "sysfs", "tuxcall", "uselib", "vserver", "epoll_ctl_old",
            "epoll_wait_old", "ftime", "gtty", "stty", "idle", "lock", "mpx", "prof", "profil", "ulimit", "ustat", "sgetmask",
            "ssetmask",
        ],
    },
];

/// A call of which one argument decides. The kernel takes 32 bits of each of these, so only those are looked at: whatever
/// stands in the upper half must not make one number look like another.
pub struct ByArgument {
    pub call: &'static str,
    /// Counted from 0.
    pub argument: u8,
    pub values: &'static [u32],
    pub then: Action,
    pub otherwise: Action,
}

pub const BY_ARGUMENT: &[ByArgument] = &[
    // The kernel's cryptography by sockets, with a history of holes; and a virtual machine's way to its host, which knows no
    // namespaces. Answered as by a kernel without them.
    ByArgument {
        call: "socket",
        argument: 0,
        values: &[38, 40],
        then: Action::Errno(EAFNOSUPPORT),
        otherwise: Action::Allow,
    },
    // By it a 32-bit program could ask for any family: that one stands in memory, where no filter can look. Since Linux 4.3
    // there is socket(2) for these too.
    ByArgument {
        call: "socketcall",
        argument: 0,
        values: &[1],
        then: Action::Errno(ENOSYS),
        otherwise: Action::Allow,
    },
    // TIOCSTI and TIOCLINUX: input to a terminal, as if somebody had typed it there.
    ByArgument {
        call: "ioctl",
        argument: 1,
        values: &[0x5412, 0x541c],
        then: Action::Errno(EPERM),
        otherwise: Action::Allow,
    },
    // Linux, 32 bits of address space, and what is in force. Others turn off what protects a process.
    ByArgument {
        call: "personality",
        argument: 0,
        values: &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff],
        then: Action::Allow,
        otherwise: Action::Errno(EPERM),
    },
];

/// `CLONE_NEWUSER` of linux/sched.h.
const NEW_USER_NAMESPACE: u64 = 0x1000_0000;

/// The new ways to mount. Programs that know them know mount(2) as well.
const MOUNT_BY_DESCRIPTOR: &[&str] = &[
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "mount_setattr",
];

/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK and AF_PACKET.
const PLAIN_FAMILIES: [u32; 5] = [1, 2, 10, 16, 17];
const NETLINK: u32 = 16;
/// Links and routes, sockets looked at, audit (PAM opens it), uevents, generic ones; not the packet filter, nor IPsec,
/// nor the drivers' own.
const PLAIN_NETLINK: [u32; 5] = [0, 4, 9, 15, 16];

/// The rules of the table.
pub fn default_rules(family: &[Architecture]) -> Rules {
    let verdicts = default_verdicts();
    let calls = family.iter().map(|&architecture| match architecture {
        // Nobody needs it, and it is a second number for everything.
        Architecture::X32 => Calls {
            architecture,
            by_number: BTreeMap::new(),
            otherwise: Action::Errno(ENOSYS),
            last: X32_BIT,
            beyond: Action::Errno(ENOSYS),
        },
        _ => Calls {
            architecture,
            by_number: numbered(architecture, &verdicts),
            otherwise: Action::Errno(ENOSYS),
            last: 0,
            beyond: Action::Errno(ENOSYS),
        },
    });
    Rules {
        calls: calls.collect(),
        foreign: Action::KillProcess,
    }
}

/// What stands on top of other rules where a sandbox is to be hardened: no user namespaces below its own, none of the ways
/// into the kernel that only those open, and only the plain kinds of sockets.
pub fn hardening_rules(family: &[Architecture]) -> Rules {
    let verdicts = hardening_verdicts();
    let calls = family.iter().map(|&architecture| Calls {
        architecture,
        by_number: numbered(architecture, &verdicts),
        otherwise: Action::Allow,
        last: 0,
        beyond: Action::Allow,
    });
    Rules {
        calls: calls.collect(),
        foreign: Action::KillProcess,
    }
}

/// Each call of the table once.
pub fn default_verdicts() -> Vec<(&'static str, Verdict)> {
    let grouped = GROUPS.iter().flat_map(|group| {
        let action = match group.verdict {
            Allow => Action::Allow,
            Forbid => Action::Errno(EPERM),
            Missing => Action::Errno(ENOSYS),
        };
        let calls = group.calls.iter();
        calls.map(move |&call| (call, Verdict::always(action)))
    });
    let by_argument = BY_ARGUMENT.iter().map(|it| {
        let rules = it.values.iter().map(|&value| Rule {
            conditions: vec![low_half(it.argument, value)],
            action: it.then,
        });
        let verdict = Verdict {
            rules: rules.collect(),
            otherwise: it.otherwise,
        };
        (it.call, verdict)
    });
    grouped.chain(by_argument).collect()
}

fn hardening_verdicts() -> Vec<(&'static str, Verdict)> {
    let no_new_user_namespace = Verdict {
        rules: vec![Rule {
            conditions: vec![Condition {
                argument: 0,
                comparison: Comparison::MaskedEqual(NEW_USER_NAMESPACE),
                value: NEW_USER_NAMESPACE,
            }],
            action: Action::Errno(EPERM),
        }],
        otherwise: Action::Allow,
    };
    let of_netlink = PLAIN_NETLINK.iter().map(|&protocol| Rule {
        conditions: vec![low_half(0, NETLINK), low_half(2, protocol)],
        action: Action::Allow,
    });
    let families = PLAIN_FAMILIES.iter().filter(|&&family| family != NETLINK);
    let of_families = families.map(|&family| Rule {
        conditions: vec![low_half(0, family)],
        action: Action::Allow,
    });
    let plain_sockets = Verdict {
        rules: of_families.chain(of_netlink).collect(),
        otherwise: Action::Errno(EAFNOSUPPORT),
    };
    let missing = || Verdict::always(Action::Errno(ENOSYS));
    let mut verdicts = vec![
        ("unshare", no_new_user_namespace.clone()),
        ("clone", no_new_user_namespace),
        // Its flags stand in memory; C libraries fall back to clone.
        ("clone3", missing()),
        ("socket", plain_sockets),
        ("socketcall", missing()),
    ];
    verdicts.extend(MOUNT_BY_DESCRIPTOR.iter().map(|&call| (call, missing())));
    verdicts
}

fn low_half(argument: u8, value: u32) -> Condition {
    Condition {
        argument,
        comparison: Comparison::MaskedEqual(u32::MAX.into()),
        value: value.into(),
    }
}

fn numbered(
    architecture: Architecture,
    verdicts: &[(&'static str, Verdict)],
) -> BTreeMap<u32, Verdict> {
    let numbered = verdicts.iter().filter_map(|(call, verdict)| {
        let number = architecture.number(call)?;
        Some((number, verdict.clone()))
    });
    numbered.collect()
}
