//! A scan from inside: what can be written below /proc and /sys, what can be read that is of the whole machine, which system calls
//! answer, which capabilities count against the host, and which devices open. A part of the attacking program.
//!
//! ```text
//! write PATH                     a file below /proc or /sys that opens for writing; processes' own files are left out
//! read PATH | zeros PATH         a file of the whole machine that gives something, or nothing but addresses of 0
//! call 64|32|x32 NUMBER ANSWER   a number from 0 on, a negative errno, `waits`, `ends` or `signal N`
//! userns initial | own           whose user namespace this is
//! held NAME                      a capability that is in force
//! host NAME                      one with which the kernel lets this process do what is the host's only
//! device PATH                    a node that is there and opens
//! node KIND:MAJOR:MINOR STATE    one that was made: `opens`, `let through` (no such device), `kept off`; or `not made`
//! ```
//!
//! Nothing is changed: what is opened is neither read on nor written to, calls have arguments that are none, each in a process
//! of its own, which is ended where it sleeps after 100 ms.

use super::{Memory, call};
use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

pub fn everything() {
    writable(Path::new("/proc"));
    writable(Path::new("/sys"));
    sensitive();
    let children = Children::new();
    calls(&children);
    capabilities(&children);
    devices(&children);
}

const NONBLOCKING: i32 = 0x800;
const NO_TERMINAL: i32 = 0x100;
const NO_LINK: i32 = 0x20000;

/// Opens without waiting for anybody, and without making a terminal ours.
fn opened(path: &Path, for_writing: bool) -> std::io::Result<fs::File> {
    fs::File::options()
        .read(!for_writing)
        .write(for_writing)
        .custom_flags(NONBLOCKING | NO_TERMINAL | NO_LINK)
        .open(path)
}

/// Where an open itself does something: it stops what traces the machine.
const NOT_WALKED: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug"];

/// A file without any bit for writing has nothing that would take what is written, even where root may open it.
fn writable(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let is_process = name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        if found.is_dir() {
            let is_left_out = NOT_WALKED.iter().any(|place| path == Path::new(place));
            if !(is_left_out || is_process && folder == Path::new("/proc")) {
                writable(&path);
            }
        } else if found.is_file()
            && found.permissions().mode() & 0o222 != 0
            && opened(&path, true).is_ok()
        {
            println!("write {}", path.display());
        }
    }
}

/// Files that say something of the whole machine whenever they are read. (/proc/locks has what the moment has.)
const SENSITIVE: [&str; 30] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/buddyinfo",
    "/proc/config.gz",
    "/proc/diskstats",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/pagetypeinfo",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/dev/kmsg",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/pstore",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
];

/// Of these, lines begin with an address, which is 0 for whom it is not.
const ADDRESSES: [&str; 3] = ["/proc/iomem", "/proc/ioports", "/proc/kallsyms"];

fn sensitive() {
    for place in SENSITIVE {
        let path = Path::new(place);
        if path.is_dir() {
            if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some()) {
                println!("read {place}");
            }
            continue;
        }
        let mut some = [0; 64];
        let read = opened(path, false).and_then(|mut file| file.read(&mut some));
        let Some(length) = read.ok().filter(|&length| length > 0) else {
            continue;
        };
        let begins = some[..length].trim_ascii_start();
        let is_zero = begins
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .all(|&byte| byte == b'0');
        let word = if ADDRESSES.contains(&place) && is_zero {
            "zeros"
        } else {
            "read"
        };
        println!("{word} {place}");
    }
}

/// Numbers of x86_64 that the scan itself needs.
mod own {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const MMAP: usize = 9;
    pub const FORK: usize = 57;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETSID: usize = 112;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const PRLIMIT: usize = 302;
    pub const EXIT_GROUP: usize = 231;
}

/// Makes processes, in which nothing but one thing is done.
struct Children {
    /// Shared with them: what they say, one number.
    answer: *mut isize,
}

enum End {
    Answer(isize),
    Waits,
    Ends,
    Signal(usize),
}

const NOTHING: isize = isize::MIN;
/// A set of signals.
static SIGCHLD_ALONE: u64 = 1 << 16;

impl Children {
    fn new() -> Children {
        const READ_WRITE: usize = 3;
        const SHARED_ANONYMOUS: usize = 0x1 | 0x20;
        let page = call(
            "64",
            own::MMAP,
            &[0, 4096, READ_WRITE, SHARED_ANONYMOUS, usize::MAX, 0],
        );
        assert!(page > 0, "no memory");
        // An end that comes before it is waited for is not lost.
        let block = 0;
        call(
            "64",
            own::RT_SIGPROCMASK,
            &[block, &raw const SIGCHLD_ALONE as usize, 0, 8],
        );
        Children {
            answer: page as *mut isize,
        }
    }

    /// Does it in a process of its own, without a terminal, that may leave no core dump behind.
    fn does(&self, what: impl Fn() -> isize) -> End {
        // SAFETY: the page is ours, and nobody else writes to it now.
        unsafe { self.answer.write_volatile(NOTHING) };
        let child = call("64", own::FORK, &[]);
        assert!(child >= 0, "cannot fork: {child}");
        if child == 0 {
            const CORE: usize = 4;
            let none = [0u64; 2];
            call("64", own::SETSID, &[]);
            call("64", own::PRLIMIT, &[0, CORE, none.as_ptr() as usize, 0]);
            let answer = what();
            // SAFETY: as above; whoever else came of the call writes a number too, and any will do.
            unsafe { self.answer.write_volatile(answer) };
            loop {
                call("64", own::EXIT_GROUP, &[0]);
            }
        }
        let Some(status) = self.end_of(child as usize) else {
            return End::Waits;
        };
        // SAFETY: as above.
        match unsafe { self.answer.read_volatile() } {
            NOTHING if status & 0x7f != 0 => End::Signal((status & 0x7f) as usize),
            NOTHING => End::Ends,
            answer => End::Answer(answer),
        }
    }

    /// Its status; nothing for one that had to be killed.
    fn end_of(&self, child: usize) -> Option<i32> {
        const NOHANG: usize = 1;
        const SIGKILL: usize = 9;
        let mut status = 0i32;
        let mut wait = |who: usize, how: usize| {
            call("64", own::WAIT4, &[who, &raw mut status as usize, how, 0])
        };
        // The end of somebody else is told as well: as the first process here we are given those whose parents have ended.
        let tells = |nanoseconds: i64| {
            let within = [0, nanoseconds];
            let set = &raw const SIGCHLD_ALONE as usize;
            call(
                "64",
                own::RT_SIGTIMEDWAIT,
                &[set, 0, within.as_ptr() as usize, 8],
            ) >= 0
        };
        let mut has_ended = false;
        // On a busy machine it may not have been run yet; that is no waiting.
        for _ in 0..50 {
            let is_told = tells(100_000_000);
            has_ended = wait(child, NOHANG) != 0;
            if has_ended || !is_told && sleeps(child) {
                break;
            }
        }
        if !has_ended {
            call("64", own::KILL, &[child, SIGKILL]);
            wait(child, 0);
        }
        let ended = has_ended.then_some(status);
        let anybody = usize::MAX;
        let mut other = 0i32;
        while call(
            "64",
            own::WAIT4,
            &[anybody, &raw mut other as usize, NOHANG, 0],
        ) > 0
        {}
        ended
    }
}

/// Whether a process waits for something to happen (proc_pid_stat(5)).
fn sleeps(pid: usize) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit_once(") ")
        .is_some_and(|(_, state)| state.starts_with('S'))
}

const NONE: usize = usize::MAX;

/// Not called: it waits for the disks of all that run here. Each engine's filter allows it.
const SYNC: [(&str, usize); 3] = [("64", 162), ("x32", 162), ("32", 36)];

/// Where arguments that are none would do something, or the kernel would say ENOSYS or EPERM of the arguments.
const ARGUMENTS: &[(&str, usize, &[usize])] = &[
    // clone(SIGCHLD), unshare(0), futex(FUTEX_WAKE), modify_ldt(read nothing), msgget(-1, 0).
    ("64", 56, &[17, 0, 0, 0, 0]),
    ("64", 272, &[0]),
    ("64", 202, &[0, 1, 0]),
    ("64", 154, &[0, 0, 0]),
    ("64", 68, &[NONE, 0]),
    ("32", 120, &[17, 0, 0, 0, 0]),
    ("32", 310, &[0]),
    ("32", 240, &[0, 1, 0]),
    ("32", 422, &[0, 1, 0]),
    ("32", 123, &[0, 0, 0]),
    ("32", 399, &[NONE, 0]),
    // ipc(MSGGET, -1, 0).
    ("32", 117, &[13, NONE, 0]),
    // kill a process that cannot be, by a signal that cannot be.
    ("64", 62, &[0x7fff_ffff, NONE]),
    ("32", 37, &[0x7fff_ffff, NONE]),
    // What personality is in force: a number of 32 bits, which filters compare with 64.
    ("64", 135, &[0xffff_ffff]),
    ("32", 136, &[0xffff_ffff]),
    // settimeofday of nothing; ports of this process alone.
    ("64", 164, &[0, 0]),
    ("32", 79, &[0, 0]),
    ("64", 172, &[3]),
    ("32", 110, &[3]),
    ("64", 173, &[0, 1, 1]),
    ("32", 101, &[0, 1, 1]),
];

/// Numbers in use reach to 469 with Linux 6.17.
const NUMBERS: usize = 471;
const X32_NUMBERS: usize = 548;

fn calls(children: &Children) {
    for (interface, numbers) in [("64", NUMBERS), ("32", NUMBERS), ("x32", X32_NUMBERS)] {
        for number in (0..numbers).filter(|&number| !SYNC.contains(&(interface, number))) {
            // The same calls have the same numbers in x32, below 512.
            let table = if interface == "x32" { "64" } else { interface };
            let said = ARGUMENTS
                .iter()
                .find(|(of, own, _)| (*of, *own) == (table, number));
            let arguments = said.map_or(&[NONE; 6][..], |(_, _, arguments)| arguments);
            let end = match children.does(|| call(interface, number, arguments)) {
                End::Answer(answer) => answer.to_string(),
                End::Waits => "waits".into(),
                End::Ends => "ends".into(),
                End::Signal(signal) => format!("signal {signal}"),
            };
            println!("call {interface} {number} {end}");
        }
    }
}

/// By number (capabilities(7)).
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What the kernel looks at the initial user namespace for before it looks at the arguments, which are wrong.
const OF_THE_HOST: &[(&str, usize, &[&str])] = &[
    ("SYS_MODULE", 176, &["s:no_such_module", "0"]),
    ("SYS_RAWIO", 172, &["3"]),
    ("SYS_PACCT", 163, &["s:/no/such/file"]),
    ("SYS_ADMIN", 168, &["s:/no/such/file"]),
    ("SYS_BOOT", 246, &["0", "99", "0", "0"]),
    // A higher priority, for a process that ends.
    ("SYS_NICE", 141, &["0", "0", "-1"]),
    ("SYS_TIME", 164, &["0", "0"]),
    // Of its terminal, and it has none.
    ("SYS_TTY_CONFIG", 153, &[]),
    ("SYSLOG", 103, &["-1", "0", "0"]),
    // A timer that wakes the machine, of a process that ends.
    ("WAKE_ALARM", 283, &["8", "0"]),
];

fn capabilities(children: &Children) {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_all = map.split_whitespace().eq(["0", "0", "4294967295"]);
    println!("userns {}", if is_all { "initial" } else { "own" });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = u64::from_str_radix(set.unwrap_or_default().trim(), 16).expect("a set in hex");
    let held = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| set & 1 << bit != 0);
    held.for_each(|(_, name)| println!("held {name}"));
    for (name, number, arguments) in OF_THE_HOST {
        let mut memory = Memory::new();
        let arguments: Vec<usize> = arguments.iter().map(|text| memory.argument(text)).collect();
        const REFUSALS: [isize; 3] = [-1, -13, -38];
        let end = children.does(|| call("64", *number, &arguments));
        if matches!(end, End::Answer(answer) if !REFUSALS.contains(&answer)) {
            println!("host {name}");
        }
    }
}

/// Opening one starts a countdown, or holds up the machine's sleep.
const NOT_OPENED: [&str; 2] = ["watchdog", "snapshot"];

/// `c` or `b`, major and minor: memory, ports, the kernel's log, terminals, disks, tun, fuse, kvm and their kind.
const NODES: [(char, usize, usize); 24] = [
    ('c', 1, 1),
    ('c', 1, 3),
    ('c', 1, 4),
    ('c', 1, 11),
    ('c', 4, 0),
    ('c', 4, 64),
    ('c', 5, 0),
    ('c', 5, 1),
    ('c', 5, 2),
    ('c', 10, 200),
    ('c', 10, 203),
    ('c', 10, 229),
    ('c', 10, 232),
    ('c', 10, 234),
    ('c', 10, 235),
    ('c', 10, 236),
    ('c', 10, 237),
    ('c', 10, 238),
    ('c', 108, 0),
    ('c', 226, 0),
    ('b', 7, 0),
    ('b', 8, 0),
    ('b', 254, 0),
    ('b', 259, 0),
];

fn devices(children: &Children) {
    nodes_below(Path::new("/dev"));
    for (kind, major, minor) in NODES {
        // The best of all places: one may be mounted so that no device works.
        let states = ["/dev", "/tmp", "/"].map(|place| made(children, place, kind, major, minor));
        let best = states.iter().max().expect("there are places");
        let word = ["not made", "kept off", "let through", "opens"][*best];
        println!("node {kind}:{major}:{minor} {word}");
    }
}

fn nodes_below(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(found) = path.symlink_metadata() else {
            continue;
        };
        let name = path.to_string_lossy();
        if found.is_dir() {
            nodes_below(&path);
        } else if (found.file_type().is_char_device() || found.file_type().is_block_device())
            && !NOT_OPENED.iter().any(|left_out| name.contains(left_out))
            && opened(&path, false).is_ok()
        {
            println!("device {name}");
        }
    }
}

/// How far one gets with a node in a folder, as a number into the words.
fn made(children: &Children, place: &str, kind: char, major: usize, minor: usize) -> usize {
    const MKNOD: usize = 133;
    let mode = if kind == 'b' { 0o60600 } else { 0o20600 };
    let path = Path::new(place).join("scanned-node");
    let mut memory = Memory::new();
    let name = memory.argument(&format!("s:{}", path.display()));
    let device = major << 8 | minor;
    if !matches!(
        children.does(|| call("64", MKNOD, &[name, mode, device])),
        End::Answer(0)
    ) {
        return 0;
    }
    const ENXIO_ENODEV_EIO: [i32; 3] = [6, 19, 5];
    let state = match opened(&path, false) {
        Ok(_) => 3,
        Err(why)
            if why
                .raw_os_error()
                .is_some_and(|errno| ENXIO_ENODEV_EIO.contains(&errno)) =>
        {
            2
        }
        Err(_) => 1,
    };
    fs::remove_file(&path).expect("it was just made");
    state
}
