//! Boot: outside, everything as descriptors; inside, everything put in place; then the execution.

use crate::FIRST_ID;
use crate::calls::{
    self, Setting, attach, beneath, call, clone_mount, close, new_mount, open, path, pipe,
    set_attributes,
};
use crate::{network, root_process};

pub struct Container<'a> {
    pub base: &'a str,
    pub name: &'a str,
    pub cgroup: &'a str,
    /// Below `base`, the topmost first.
    pub lowers: Vec<&'a str>,
    pub bridge: bool,
    /// Whether each step's time is told, on standard error.
    pub steps: bool,
}

/// Controllers of v1 in which cocker makes a folder, where the host has them.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "memory", "blkio", "pids"];
/// As cocker hides them; the last ones are folders.
const HIDDEN: [&str; 14] = [
    "proc/interrupts",
    "proc/kallsyms",
    "proc/kcore",
    "proc/keys",
    "proc/key-users",
    "proc/kmsg",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/timer_list",
    "proc/timer_stats",
    "proc/vmallocinfo",
    "proc/acpi",
    "proc/scsi",
    "sys/firmware",
];
const FOLDERS: usize = 11;
const READ_ONLY: [&str; 5] = [
    "proc/bus",
    "proc/fs",
    "proc/irq",
    "proc/sys",
    "proc/sysrq-trigger",
];
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];
/// As long as cocker's filter of system calls and its program for devices are, so that the kernel checks and compiles as much.
const FILTER: usize = 385;
const DEVICE_PROGRAM: usize = 45;

const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;

/// A copy of standard error where steps are told: inside, the other one is the console by then.
const STEPS: usize = 200;

/// Names of steps and how long each took.
struct Steps {
    on: bool,
    last: u64,
    text: String,
}

impl Steps {
    fn done(&mut self, step: &str) {
        if self.on {
            let now = calls::now();
            self.text += &format!("{step}\t{}\n", now - self.last);
            self.last = now;
        }
    }

    fn tell(&self) {
        if self.on {
            calls::write(STEPS, self.text.as_bytes());
        }
    }
}

/// What was made outside.
struct Prepared {
    users: usize,
    net: Option<usize>,
    root: usize,
    sysfs: usize,
    devices: usize,
    resolver: usize,
    stage: usize,
    program: usize,
    group: usize,
    /// `tasks` of v1.
    doors: Vec<usize>,
}

pub fn boot(container: &Container) {
    let mut steps = Steps {
        on: container.steps,
        last: calls::now(),
        text: String::new(),
    };
    if steps.on {
        call(
            "dup3",
            libc::SYS_dup3,
            [2, STEPS, libc::O_CLOEXEC as usize, 0, 0, 0],
        );
    }
    let prepared = prepare(container, &mut steps);
    let [ready, readies] = pipe();
    let [go, goes] = pipe();
    let [pids, tells] = pipe();
    let usher = calls::clone3(0, 0, libc::SIGCHLD as u64).0;
    if usher == 0 {
        for door in &prepared.doors {
            calls::write(*door, b"0");
        }
        if let Some(net) = prepared.net {
            call(
                "setns",
                libc::SYS_setns,
                [net, libc::CLONE_NEWNET as usize, 0, 0, 0, 0],
            );
        }
        call(
            "setns",
            libc::SYS_setns,
            [prepared.users, libc::CLONE_NEWUSER as usize, 0, 0, 0, 0],
        );
        let new = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWPID | libc::CLONE_PARENT;
        let into_cgroup = 0x2_0000_0000;
        let init = calls::clone3(new as u64 | into_cgroup, prepared.group, 0).0;
        if init == 0 {
            steps.text.clear();
            steps.done("(inside) cloned");
            assemble(container, &prepared, &mut steps);
            execute(&prepared, go, readies, &mut steps);
        }
        calls::write(tells, &(init as u32).to_ne_bytes());
        call("exit_group", libc::SYS_exit_group, [0; 6]);
    }
    let mut pid = [0; 4];
    calls::read(pids, &mut pid);
    let pid = u32::from_ne_bytes(pid) as usize;
    calls::wait(usher);
    steps.done("usher: cgroups joined, namespaces entered, init cloned");
    if let Some(net) = prepared.net {
        network::attach(pid, net);
        steps.done("network: pair of links, address, route, elements");
    }
    close(readies);
    calls::write(goes, b"g");
    calls::read(ready, &mut [0]);
    steps.done("init ready (waited for)");
    steps.tell();
    calls::write(1, format!("{pid}\n").as_bytes());
}

fn prepare(container: &Container, steps: &mut Steps) -> Prepared {
    let place = format!("{}/{}", container.base, container.name);
    let (users, net) = namespaces(container.bridge);
    steps.done("user namespace and its ids");

    let base = clone_mount(libc::AT_FDCWD as usize, container.base, false);
    set_attributes(base, 0, Some(users));
    stand_as(FIRST_ID);
    let lowers: Vec<usize> = container
        .lowers
        .iter()
        .map(|lower| must(lower, beneath(base, lower)))
        .collect();
    let files = format!("{}/files", container.name);
    let upper = must("upper", beneath(base, &format!("{files}/upper")));
    let work = must("work", beneath(base, &format!("{files}/work")));
    let mut settings = vec![("source", Setting::Text("floor"))];
    settings.extend(
        lowers
            .iter()
            .map(|lower| ("lowerdir+", Setting::Descriptor(*lower))),
    );
    settings.push(("upperdir", Setting::Descriptor(upper)));
    settings.push(("workdir", Setting::Descriptor(work)));
    settings.push(("redirect_dir", Setting::Text("nofollow")));
    settings.push(("metacopy", Setting::Text("off")));
    settings.push(("index", Setting::Text("off")));
    let root = new_mount("overlay", &settings, NODEV);
    for descriptor in lowers.into_iter().chain([upper, work, base]) {
        close(descriptor);
    }
    stand_as(0);
    steps.done("overlay of mapped layers");

    let own = net.map(|net| {
        let own = open("/proc/thread-self/ns/net", libc::O_RDONLY);
        call(
            "setns",
            libc::SYS_setns,
            [net, libc::CLONE_NEWNET as usize, 0, 0, 0, 0],
        );
        own
    });
    let sysfs = new_mount("sysfs", &[], RDONLY | NOSUID | NODEV | NOEXEC);
    if let Some(own) = own {
        call(
            "setns",
            libc::SYS_setns,
            [own, libc::CLONE_NEWNET as usize, 0, 0, 0, 0],
        );
        close(own);
    }
    steps.done("sysfs");

    stand_as(FIRST_ID);
    let devices = devices();
    stand_as(0);
    steps.done("devices");

    let resolver = clone_mount(
        libc::AT_FDCWD as usize,
        &format!("{place}/resolv.conf"),
        false,
    );
    set_attributes(resolver, NOSUID | NODEV | NOEXEC, Some(users));
    let stage = new_mount(
        "tmpfs",
        &[
            ("mode", Setting::Text("555")),
            ("size", Setting::Text("4k")),
            ("nr_inodes", Setting::Text("4")),
        ],
        NOSUID | NODEV | NOEXEC,
    );
    for folder in ["proc", "sys", "nothing"] {
        call(
            "mkdirat",
            libc::SYS_mkdirat,
            [stage, path(folder).at(), 0o555, 0, 0, 0],
        );
    }
    set_attributes(stage, RDONLY, None);
    steps.done("supplied file, stage of the masks");

    let program = sealed(&root_process::program());
    steps.done("root process sealed");
    let (group, doors) = cgroups(container);
    steps.done("cgroups, their limits and devices");
    Prepared {
        users,
        net,
        root,
        sysfs,
        devices,
        resolver,
        stage,
        program,
        group,
        doors,
    }
}

/// A user namespace with 65,536 ids, and where it is wanted a network's.
fn namespaces(bridge: bool) -> (usize, Option<usize>) {
    let [waits, released] = pipe();
    let flags = libc::CLONE_NEWUSER | if bridge { libc::CLONE_NEWNET } else { 0 };
    let holder = calls::clone3(flags as u64, 0, libc::SIGCHLD as u64).0;
    if holder == 0 {
        close(released);
        calls::read(waits, &mut [0]);
        call("exit_group", libc::SYS_exit_group, [0; 6]);
    }
    for map in ["uid_map", "gid_map", "projid_map"] {
        calls::write_file(
            &format!("/proc/{holder}/{map}"),
            &format!("0 {FIRST_ID} 65536\n"),
        );
    }
    let users = open(&format!("/proc/{holder}/ns/user"), libc::O_RDONLY);
    let net = bridge.then(|| open(&format!("/proc/{holder}/ns/net"), libc::O_RDONLY));
    close(released);
    calls::wait(holder);
    close(waits);
    (users, net)
}

/// What is made from here on belongs to `id`; the rights stay.
fn stand_as(id: u32) {
    let keep = if id == 0 { 0 } else { 1 << 2 }; // SECBIT_NO_SETUID_FIXUP
    if id != 0 {
        call(
            "prctl",
            libc::SYS_prctl,
            [libc::PR_SET_SECUREBITS as usize, keep, 0, 0, 0, 0],
        );
    }
    call("setfsgid", libc::SYS_setfsgid, [id as usize, 0, 0, 0, 0, 0]);
    call("setfsuid", libc::SYS_setfsuid, [id as usize, 0, 0, 0, 0, 0]);
    if id == 0 {
        call(
            "prctl",
            libc::SYS_prctl,
            [libc::PR_SET_SECUREBITS as usize, keep, 0, 0, 0, 0],
        );
    }
}

fn devices() -> usize {
    call("umask", libc::SYS_umask, [0; 6]);
    let devices = new_mount(
        "tmpfs",
        &[
            ("mode", Setting::Text("755")),
            ("size", Setting::Text("1m")),
            ("nr_inodes", Setting::Text("1024")),
        ],
        NOSUID | NOEXEC,
    );
    for folder in ["pts", "shm", "mqueue"] {
        call(
            "mkdirat",
            libc::SYS_mkdirat,
            [devices, path(folder).at(), 0o755, 0, 0, 0],
        );
    }
    for (device, major, minor) in DEVICES {
        let number = libc::makedev(major, minor) as usize;
        call(
            "mknodat",
            libc::SYS_mknodat,
            [
                devices,
                path(device).at(),
                libc::S_IFCHR as usize | 0o666,
                number,
                0,
                0,
            ],
        );
    }
    for (text, link) in LINKS {
        call(
            "symlinkat",
            libc::SYS_symlinkat,
            [path(text).at(), devices, path(link).at(), 0, 0, 0],
        );
    }
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    close(call(
        "openat",
        libc::SYS_openat,
        [devices, path("console").at(), flags as usize, 0o600, 0, 0],
    ));
    call("umask", libc::SYS_umask, [0o022, 0, 0, 0, 0, 0]);
    devices
}

fn sealed(program: &[u8]) -> usize {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | libc::MFD_EXEC;
    let file = call(
        "memfd_create",
        libc::SYS_memfd_create,
        [path("init").at(), flags as usize, 0, 0, 0, 0],
    );
    calls::write(file, program);
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    call(
        "fcntl",
        libc::SYS_fcntl,
        [file, libc::F_ADD_SEALS as usize, seals as usize, 0, 0, 0],
    );
    file
}

/// Where this host has its hierarchies: v2 first.
pub fn cgroup_folders() -> Vec<String> {
    let exists = |folder: &String| {
        calls::attempt(libc::SYS_access, [path(folder).at(), 0, 0, 0, 0, 0]).is_ok()
    };
    let unified = "/sys/fs/cgroup/unified".to_string();
    let mut folders = vec![if exists(&unified) {
        unified
    } else {
        "/sys/fs/cgroup".to_string()
    }];
    folders.extend(
        CONTROLLERS
            .iter()
            .map(|controller| format!("/sys/fs/cgroup/{controller}"))
            .filter(exists),
    );
    folders
}

/// A folder in v2, to be born in, and one in each hierarchy of v1; of those, `tasks`, by which a thread joins them.
fn cgroups(container: &Container) -> (usize, Vec<usize>) {
    let mut own = Vec::new();
    for folder in cgroup_folders() {
        let parent = format!("{folder}/{}", container.cgroup);
        let _ = calls::attempt(libc::SYS_mkdir, [path(&parent).at(), 0o755, 0, 0, 0, 0]);
        let group = format!("{parent}/{}", container.name);
        call(
            "mkdir",
            libc::SYS_mkdir,
            [path(&group).at(), 0o755, 0, 0, 0, 0],
        );
        if folder.ends_with("/cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let mut value = [0; 256];
                let whole = open(&format!("{folder}/{file}"), libc::O_RDONLY);
                let length = calls::read(whole, &mut value);
                close(whole);
                let value = String::from_utf8_lossy(&value[..length]).into_owned();
                calls::write_file(&format!("{parent}/{file}"), &value);
                calls::write_file(&format!("{group}/{file}"), &value);
            }
        }
        if folder.ends_with("/pids") {
            calls::write_file(&format!("{group}/pids.max"), "32768");
        }
        own.push(group);
    }
    let group = open(&own[0], libc::O_RDONLY | libc::O_DIRECTORY);
    // `mov r0, 1` many times, and the end.
    let mut program = vec![0xb7 | 1_u64 << 32; DEVICE_PROGRAM - 1];
    program.push(0x95);
    let licence = path("GPL");
    let load: [u64; 6] = [
        15 | (DEVICE_PROGRAM as u64) << 32, // BPF_PROG_TYPE_CGROUP_DEVICE
        program.as_ptr() as u64,
        licence.at() as u64,
        0,
        0,
        0,
    ];
    let loaded = call(
        "bpf",
        libc::SYS_bpf,
        [5, load.as_ptr() as usize, size_of_val(&load), 0, 0, 0],
    );
    let attach: [u32; 4] = [group as u32, loaded as u32, 6, 1 << 1]; // BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI
    call(
        "bpf",
        libc::SYS_bpf,
        [8, attach.as_ptr() as usize, size_of_val(&attach), 0, 0, 0],
    );
    close(loaded);
    let doors = own[1..]
        .iter()
        .map(|group| open(&format!("{group}/tasks"), libc::O_WRONLY))
        .collect();
    (group, doors)
}

/// In the container's namespaces, as its root.
fn assemble(container: &Container, prepared: &Prepared, steps: &mut Steps) {
    call("setgroups", libc::SYS_setgroups, [0; 6]);
    call("setresgid", libc::SYS_setresgid, [0; 6]);
    call("setresuid", libc::SYS_setresuid, [0; 6]);
    call("setsid", libc::SYS_setsid, [0; 6]);
    let recursive = (libc::MS_REC | libc::MS_PRIVATE) as usize;
    call(
        "mount",
        libc::SYS_mount,
        [0, path("/").at(), 0, recursive, 0, 0],
    );
    steps.done("(inside) identity, mounts private");
    call(
        "unshare",
        libc::SYS_unshare,
        [
            (libc::CLONE_NEWCGROUP | libc::CLONE_NEWIPC) as usize,
            0,
            0,
            0,
            0,
            0,
        ],
    );
    call("keyctl", libc::SYS_keyctl, [1, 0, 0, 0, 0, 0]);
    steps.done("(inside) cgroup and ipc namespaces, keyring");

    let proc = new_mount("proc", &[], NOSUID | NODEV | NOEXEC);
    let root = prepared.root;
    let slash = open("/", libc::O_PATH);
    let keep = call("dup", libc::SYS_dup, [root, 0, 0, 0, 0, 0]);
    attach(root, slash);
    let root = keep;
    steps.done("(inside) proc and root");
    let devices = call("dup", libc::SYS_dup, [prepared.devices, 0, 0, 0, 0, 0]);
    attach(prepared.devices, must("/dev", beneath(root, "/dev")));
    let terminals = [
        ("mode", "0620"),
        ("gid", "5"),
        ("ptmxmode", "0666"),
        ("max", "1024"),
    ]
    .map(|(key, text)| (key, Setting::Text(text)));
    let terminals = new_mount("devpts", &terminals, NOSUID | NOEXEC);
    let master = call("dup", libc::SYS_dup, [terminals, 0, 0, 0, 0, 0]);
    attach(terminals, must("/dev/pts", beneath(root, "/dev/pts")));
    let memory = new_mount(
        "tmpfs",
        &[("mode", Setting::Text("1777"))],
        NOSUID | NODEV | NOEXEC,
    );
    attach(memory, must("/dev/shm", beneath(root, "/dev/shm")));
    let messages = new_mount("mqueue", &[], NOSUID | NODEV | NOEXEC);
    attach(messages, must("/dev/mqueue", beneath(root, "/dev/mqueue")));
    if let Ok(place) = beneath(root, "/etc/resolv.conf") {
        attach(prepared.resolver, place);
    }
    steps.done("(inside) devices, terminals, memory, messages");

    let ptmx = call(
        "openat",
        libc::SYS_openat,
        [
            master,
            path("ptmx").at(),
            (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as usize,
            0,
            0,
            0,
        ],
    );
    let unlocked = 0i32;
    call(
        "ioctl",
        libc::SYS_ioctl,
        [
            ptmx,
            libc::TIOCSPTLCK as usize,
            &raw const unlocked as usize,
            0,
            0,
            0,
        ],
    );
    let peer = call(
        "ioctl",
        libc::SYS_ioctl,
        [
            ptmx,
            0x5441,
            (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as usize,
            0,
            0,
            0,
        ],
    ); // TIOCGPTPEER
    attach(
        clone_mount(peer, "", false),
        must("/dev/console", beneath(root, "/dev/console")),
    );
    let name = container.name;
    call(
        "sethostname",
        libc::SYS_sethostname,
        [name.as_ptr() as usize, name.len(), 0, 0, 0, 0],
    );
    call("fchdir", libc::SYS_fchdir, [root, 0, 0, 0, 0, 0]);
    let here = path(".");
    call(
        "pivot_root",
        libc::SYS_pivot_root,
        [here.at(), here.at(), 0, 0, 0, 0],
    );
    call(
        "umount2",
        libc::SYS_umount2,
        [here.at(), libc::MNT_DETACH as usize, 0, 0, 0, 0],
    );
    call("chdir", libc::SYS_chdir, [path("/").at(), 0, 0, 0, 0, 0]);
    steps.done("(inside) console, hostname, pivot_root");

    conceal(root, prepared, proc, devices);
    steps.done("(inside) masks of proc and sysfs, locked");
    let groups = new_mount("cgroup2", &[], RDONLY | NOSUID | NODEV | NOEXEC);
    attach(
        groups,
        must("/sys/fs/cgroup", beneath(root, "/sys/fs/cgroup")),
    );
    for stream in 0..3 {
        call("dup2", libc::SYS_dup2, [peer, stream, 0, 0, 0, 0]);
    }
    steps.done("(inside) cgroup2, streams");
}

/// Masks proc and sysfs on a stage, has a namespace of less rights clone them, so that they cannot be taken off, and puts those in
/// place.
fn conceal(root: usize, prepared: &Prepared, proc: usize, devices: usize) {
    let stage = call("dup", libc::SYS_dup, [prepared.stage, 0, 0, 0, 0, 0]);
    attach(prepared.stage, must("/proc", beneath(root, "/proc")));
    attach(proc, must("proc", beneath(stage, "proc")));
    attach(prepared.sysfs, must("sys", beneath(stage, "sys")));
    // All are looked up before the first one is hidden.
    let hidden: Vec<_> = HIDDEN
        .iter()
        .map(|name| beneath(stage, name).ok())
        .collect();
    let read_only: Vec<_> = READ_ONLY
        .iter()
        .filter_map(|name| beneath(stage, name).ok())
        .collect();
    let user = beneath(stage, "proc/sys/user");
    for (number, place) in hidden.into_iter().enumerate() {
        if let Some(place) = place {
            let cover = if number < FOLDERS {
                clone_mount(devices, "null", false)
            } else {
                clone_mount(stage, "nothing", false)
            };
            attach(cover, place);
        }
    }
    for place in read_only {
        let cover = clone_mount(place, "", false);
        set_attributes(cover, RDONLY, None);
        attach(cover, place);
    }
    if let Ok(user) = user {
        attach(
            clone_mount(user, "", false),
            must("proc/sys/user", beneath(stage, "proc/sys/user")),
        );
        close(user);
    }
    call("fchdir", libc::SYS_fchdir, [stage, 0, 0, 0, 0, 0]);
    // Descriptors are shared, so that they need not be sent.
    let [told, tells] = pipe();
    let flags = (libc::CLONE_NEWNS | libc::CLONE_NEWUSER | libc::CLONE_FILES) as u64;
    let locker = calls::clone3(flags, 0, libc::SIGCHLD as u64).0;
    if locker == 0 {
        for tree in ["proc", "sys"] {
            let tree = clone_mount(libc::AT_FDCWD as usize, tree, true);
            calls::write(tells, &(tree as u32).to_ne_bytes());
        }
        call("exit", libc::SYS_exit_group, [0; 6]);
    }
    let trees = [(); 2].map(|()| {
        let mut tree = [0; 4];
        calls::read(told, &mut tree);
        u32::from_ne_bytes(tree) as usize
    });
    call("chdir", libc::SYS_chdir, [path("/").at(), 0, 0, 0, 0, 0]);
    call(
        "umount2",
        libc::SYS_umount2,
        [path("/proc").at(), libc::MNT_DETACH as usize, 0, 0, 0, 0],
    );
    attach(trees[0], must("/proc", beneath(root, "/proc")));
    attach(trees[1], must("/sys", beneath(root, "/sys")));
    calls::wait(locker);
}

/// Waits to be let go, gives up what the container may not, and becomes the root process.
fn execute(prepared: &Prepared, go: usize, ready: usize, steps: &mut Steps) -> ! {
    steps.tell();
    calls::read(go, &mut [0]);
    let filter: Vec<u64> = (1..FILTER)
        .map(|_| 0x20_u64)
        .chain([0x06 | 0x7fff_0000_u64 << 32])
        .collect(); // BPF_LD|W|ABS; BPF_RET ALLOW
    let program: [u64; 2] = [FILTER as u64, filter.as_ptr() as u64];
    call(
        "prctl",
        libc::SYS_prctl,
        [
            libc::PR_CAP_AMBIENT as usize,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as usize,
            0,
            0,
            0,
            0,
        ],
    );
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut sets = [0u32; 6];
    call(
        "capget",
        libc::SYS_capget,
        [
            header.as_ptr() as usize,
            sets.as_mut_ptr() as usize,
            0,
            0,
            0,
            0,
        ],
    );
    call(
        "capset",
        libc::SYS_capset,
        [header.as_ptr() as usize, sets.as_ptr() as usize, 0, 0, 0, 0],
    );
    call("dup2", libc::SYS_dup2, [ready, 3, 0, 0, 0, 0]);
    call(
        "seccomp",
        libc::SYS_seccomp,
        [1, 0, program.as_ptr() as usize, 0, 0, 0],
    );
    let name = path("init");
    let (arguments, environment) = ([name.at(), 0], [0usize]);
    let (arguments, environment) = (arguments.as_ptr() as usize, environment.as_ptr() as usize);
    call(
        "execveat",
        libc::SYS_execveat,
        [
            prepared.program,
            path("").at(),
            arguments,
            environment,
            libc::AT_EMPTY_PATH as usize,
            0,
        ],
    );
    unreachable!("an execution does not return");
}

fn must(what: &str, opened: Result<usize, i32>) -> usize {
    opened.unwrap_or_else(|error| {
        eprintln!(
            "Error: cannot open `{what}`: {}",
            std::io::Error::from_raw_os_error(error)
        );
        std::process::exit(1);
    })
}
