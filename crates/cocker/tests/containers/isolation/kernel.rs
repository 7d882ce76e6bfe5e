//! What the kernel tells everybody and lets root set, by files: out of reach, and no second way to them.

use super::program::with_attacker;
use crate::host::{Host, PATIENCE, eventually, here, with_image_test, write_program};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        settings_of_the_host_are_not_written,
        what_tells_of_the_host_is_not_read,
        no_mask_comes_off,
        neither_proc_nor_sysfs_is_mounted_anew,
        own_settings_can_be_changed,
        the_hosts_network_is_not_set_from_a_container_in_it,
        no_program_is_named_that_the_host_runs_when_a_cgroup_is_empty,
        other_masks_are_where_they_were_with_the_hosts_ids,
    ]
}

/// Written, each would change the machine for all.
const SETTINGS: [&str; 17] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/drop_caches",
    "/proc/sysrq-trigger",
    "/proc/irq/default_smp_affinity",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/profiling",
    "/sys/power/state",
    "/sys/module/printk/parameters/time",
];

/// Read, each would tell of the machine or of others.
const SECRETS: [&str; 18] = [
    "/proc/kcore",
    "/proc/kmem",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/interrupts",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
    "/proc/pagetypeinfo",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/1/mem/../../kcore",
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
];

/// Where file systems of the machine lie on the host.
const FOLDERS: [&str; 8] = [
    "/sys/firmware",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/bpf",
    "/sys/fs/pstore",
    "/proc/acpi",
    "/proc/scsi",
];

fn booted(host: &Host, name: &str, options: &str) {
    let attacker = with_attacker(host);
    host.cocker(&format!("create -m test -c {name} {attacker} {options} -b"))
        .ok();
}

fn settings_of_the_host_are_not_written(host: &Host) {
    booted(host, "web", "");
    booted(host, "mighty", "--privileged");
    let paths = SETTINGS.join(" ");
    // Opened only: what could be written is not.
    assert_eq!(host.inside("web", &format!("/attacker open w {paths}")), "");
    let nested = format!("unshare --user --map-root-user --mount --ipc /attacker open w {paths}");
    assert_eq!(host.inside("web", &nested), "");
    // As another user with all of an ordinary one's rights.
    let other = host.cocker(&format!(
        "run web --user 1000:1000 -- /attacker open w {paths}"
    ));
    other.succeeds().prints("");
    let open = host.inside("mighty", &format!("/attacker open w {paths}"));
    assert!(open.contains("/proc/sys/kernel/core_pattern"), "{open}");
    // Control, file by file: each that this kernel has is opened by a privileged container, or by the host.
    let program = super::program::path(host);
    let by_host = host.shell(&format!("{} open w {paths}", program.display()));
    let by_host = by_host.succeeds().stdout();
    for path in SETTINGS.iter().filter(|path| Path::new(path).exists()) {
        let is_opened = |opened: &str| opened.lines().any(|line| line == *path);
        assert!(is_opened(&open) || is_opened(&by_host), "{path}");
    }
}

fn what_tells_of_the_host_is_not_read(host: &Host) {
    booted(host, "web", "");
    booted(host, "mighty", "--privileged");
    // A mask may be opened, and is empty.
    let each = format!(
        "for f in {}; do [ $(timeout 5 head -c 64 $f 2>/dev/null | wc -c) = 0 ] || echo $f; done",
        SECRETS.join(" ")
    );
    let read = |container: &str| host.inside(container, &each);
    assert_eq!(read("web"), "");
    assert!(
        read("mighty").contains("/proc/interrupts"),
        "{}",
        read("mighty")
    );
    // Control, file by file: each that this kernel has tells something to a privileged container, or to the host.
    let told = read("mighty") + "\n" + &host.shell(&each).succeeds().stdout();
    for path in SECRETS.iter().filter(|path| Path::new(path).exists()) {
        // Of messages and keys there may be none.
        let may_be_empty = ["/proc/kmsg", "/proc/keys"].contains(path);
        let is_told = told.lines().any(|line| line == *path);
        let opens = || fs::File::open(path).is_ok();
        assert!(is_told || may_be_empty && opens(), "{path}: {told}");
    }
    let listed = |container: &str| {
        let each = format!(
            "ls -A {} 2>/dev/null | grep -v -e : -e '^$'; true",
            FOLDERS.join(" ")
        );
        host.inside(container, &each)
    };
    assert_eq!(listed("web"), "");
    if fs::read_dir("/sys/firmware").is_ok_and(|mut entries| entries.next().is_some()) {
        assert_ne!(listed("mighty"), "");
    }
    // Control: on the host the same line lists each of them that has entries.
    for folder in FOLDERS {
        let is_filled = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
        let naive = host.shell(&format!("ls -A {folder} 2>/dev/null | head -n 1"));
        assert_eq!(naive.stdout().is_empty(), !is_filled, "{folder}");
    }
}

/// Those of the files that are there and can be opened for writing; nothing is written. By the shell alone.
fn written(files: &str) -> String {
    format!("for f in {files}; do [ -e $f ] && (: >> $f) 2>/dev/null && echo $f; done; true")
}

fn no_mask_comes_off(host: &Host) {
    host.booted("web");
    let attempts = [
        "umount /proc/interrupts",
        "umount -l /proc/interrupts",
        "umount /proc/sys",
        "umount -l /proc/sys /proc/sysrq-trigger",
        "mount -o remount,bind,rw /proc/sys",
        "mount -o remount,rw /proc/sysrq-trigger",
        "mount -o remount,bind,rw /sys",
        "mount -o remount,rw /sys",
        "mount --bind /proc /mnt",
        "mount --bind /proc/sys /mnt",
        "mount --move /proc/sys /mnt",
        "mount --make-rprivate / && umount -l /proc/irq",
        "mount --rbind /proc /mnt && umount /mnt/sys",
        "unshare --mount umount -l /proc/sys",
        "unshare --user --map-root-user --mount umount -l /proc/sys",
    ];
    let left = written(
        "/proc/sys/kernel/panic /proc/sysrq-trigger /sys/kernel/profiling /mnt/kernel/panic /mnt/sys/kernel/panic",
    );
    let read = "head -c 40 /proc/interrupts /mnt/interrupts 2>/dev/null | grep CPU; true";
    let look = format!("{left}; {read}");
    // Control: without masks the same look sees what it is after.
    host.cocker("create -m test -c mighty --privileged -b").ok();
    let open = host.inside("mighty", &look);
    let (panic, profiling) = ("/proc/sys/kernel/panic\n", "/sys/kernel/profiling\n");
    assert!(open.contains(panic) && open.contains("CPU"), "{open}");
    // With the host's network /sys is read-only there too; not so on the host.
    let by_host = host.shell(&look).succeeds().stdout();
    assert_eq!(
        by_host.contains(profiling),
        Path::new(profiling.trim_end()).exists(),
        "{by_host}"
    );
    for attempt in attempts {
        host.cocker_words(&["run", "web", "--cmd", attempt]);
        let left = host.inside("web", &look);
        assert_eq!(left, "", "after {attempt}");
        host.inside("web", "umount -l /mnt 2>/dev/null; true");
    }
    // Its own things root inside may mount and unmount.
    host.inside(
        "web",
        "mount -t tmpfs none /mnt && touch /mnt/file && umount /mnt",
    );
    // Even all of /proc: but then there is none.
    host.inside("web", "unshare --mount sh -c 'umount -l /proc; mount -t proc proc /proc 2>/dev/null; ls /proc | head -1'");
    assert_eq!(
        host.inside(
            "web",
            "umount -l /proc && ls -A /proc; mount -t proc proc /proc 2>/dev/null; ls -A /proc"
        ),
        ""
    );
    // The same masks, put on by root itself, come off: that they are locked is what keeps them on.
    let own = "mount -t tmpfs none /mnt && mkdir /mnt/a && mount -t tmpfs none /mnt/a && umount /mnt/a && echo off";
    assert_eq!(host.inside("web", own), "off");
}

fn neither_proc_nor_sysfs_is_mounted_anew(host: &Host) {
    host.cocker("create -m test -c web --net CUSTOM -b").ok();
    host.cocker("create -m test -c mighty --privileged -b").ok();
    let tried = |container: &str, around: &str| {
        let each = "for kind in proc sysfs; do mkdir -p /tmp/$kind; mount -t $kind $kind /tmp/$kind && echo $kind; done";
        host.inside(
            container,
            &format!("({around} sh -c '{each}') 2>/dev/null; true"),
        )
    };
    for around in [
        "",
        "unshare --mount",
        "unshare --pid --fork --mount",
        "unshare --net --mount",
        "unshare --user --map-root-user --mount",
        "unshare --user --map-root-user --mount --pid --fork --net --ipc",
    ] {
        assert_eq!(tried("web", around), "", "within {around}");
    }
    assert_eq!(tried("mighty", "unshare --mount"), "proc\nsysfs");
}

fn own_settings_can_be_changed(host: &Host) {
    booted(host, "web", "--net CUSTOM");
    host.inside("web", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    assert_eq!(host.inside("web", "cat /proc/sys/net/ipv4/ip_forward"), "1");
    let max = "/proc/sys/user/max_user_namespaces";
    host.inside("web", &format!("echo 7 > {max}"));
    assert_eq!(host.inside("web", &format!("cat {max}")), "7");
    assert_ne!(fs::read_to_string(max).expect("it is there"), "7\n");
    host.inside("web", "hostname other");
    assert_eq!(host.inside("web", "cat /proc/sys/kernel/hostname"), "other");
    // Of messages and shared memory, which limits the host sets.
    let written = "/attacker open w /proc/sys/kernel/shmmax /proc/sys/fs/mqueue/queues_max";
    assert_eq!(host.inside("web", written), "");
}

fn the_hosts_network_is_not_set_from_a_container_in_it(host: &Host) {
    booted(host, "web", "");
    let (forward, backlog) = (
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/core/somaxconn",
    );
    let written = format!("/attacker open w {forward} {backlog}");
    assert_eq!(host.inside("web", &written), "");
    // Control: privileged, it is.
    booted(host, "mighty", "--privileged");
    let both = format!("{forward}\n{backlog}");
    assert_eq!(host.inside("mighty", &written), both);
}

/// Where a v1 hierarchy's root can be seen, a program may be named there that the host's root runs.
fn no_program_is_named_that_the_host_runs_when_a_cgroup_is_empty(host: &Host) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let hierarchies: Vec<(&str, &str)> = mounts
        .lines()
        .filter_map(|line| line.split_once(" - cgroup "))
        .filter_map(|(mount, source)| Some((mount.split(' ').nth(4)?, source.split(' ').nth(1)?)))
        .collect();
    // What a mount wants to be told of one that is there.
    let options = hierarchies.iter().map(|(_, options)| {
        let named = options
            .split(',')
            .filter(|it| !matches!(*it, "rw" | "ro" | "xattr"));
        let named = named.collect::<Vec<_>>().join(",");
        match named.starts_with("name=") {
            true => format!("none,{named}"),
            false => named,
        }
    });
    let options: Vec<String> = options.collect();
    let mount_all = format!(
        "i=0; for o in {} none,name=cocker-attack; do i=$((i+1)); mkdir -p /tmp/cg/$i; mount -t cgroup -o $o cg /tmp/cg/$i; done; \
         /attacker open w /sys/fs/cgroup/release_agent $(find /tmp/cg /sys/fs/cgroup -maxdepth 3 -name release_agent)",
        options.join(" ")
    );
    booted(host, "web", "");
    booted(host, "mighty", "--privileged");
    for container in ["web", "mighty"] {
        for around in [
            "",
            "unshare --mount --cgroup",
            "unshare --user --map-root-user --mount --cgroup",
        ] {
            let shown = host.inside(
                container,
                &format!("({around} sh -c '{mount_all}') 2>/dev/null; true"),
            );
            assert_eq!(shown, "", "{container}, within {around}");
        }
        let written =
            "(echo 1 > /sys/fs/cgroup/notify_on_release) 2>/dev/null && echo written; true";
        assert_eq!(host.inside(container, written), "");
    }
    // CVE-2022-0492 as it is done, in a hierarchy that nobody else has.
    let (agent, ran) = (
        host.folder("agent").join("agent"),
        host.folder("agent").join("ran"),
    );
    let script = format!("#!/bin/sh\nid -u > {}\n", ran.display());
    write_program(&agent, "755", script.as_bytes());
    let hierarchy = format!("cocker-attack-{}", std::process::id());
    let exploit = format!(
        "mkdir -p /tmp/own; mount -t cgroup -o none,name={hierarchy} cg /tmp/own && mkdir /tmp/own/x && \
         echo 1 > /tmp/own/x/notify_on_release; echo {} > /tmp/own/release_agent; \
         sh -c 'echo $$ > /tmp/own/x/cgroup.procs'; rmdir /tmp/own/x; umount /tmp/own; true",
        agent.display()
    );
    for container in ["web", "mighty"] {
        for around in [
            "",
            "unshare --mount --cgroup",
            "unshare --user --map-root-user --mount --cgroup",
        ] {
            let words = exploit.replace('\'', "'\\''");
            let line = match around {
                "" => exploit.clone(),
                _ => format!("{around} sh -c '{words}'"),
            };
            host.cocker_words(&["run", container, "--", "sh", "-c", &line]);
            assert!(!ran.exists(), "{container}, within {around}");
        }
    }
    // Control: all the same, but without the namespace of cgroups around the privileged container, the host's root runs it.
    let root = host.root_process("mighty");
    let words = exploit.replace('\'', "'\\''");
    let begun = Instant::now();
    loop {
        let outcome = host.shell(&format!("nsenter -t {root} --mount --pid sh -c '{words}'"));
        // The kernel runs it after the shell's end, and not at all where the cgroup went before it came to that.
        let has_run = (0..100).any(|_| {
            thread::sleep(Duration::from_millis(5));
            fs::read_to_string(&ran).is_ok_and(|said| said == "0\n")
        });
        if has_run {
            break;
        }
        let is_early = begun.elapsed() < here(PATIENCE);
        assert!(is_early, "the host has not run it: {outcome}");
    }
    // A hierarchy goes when it is unmounted while it has no folder, and the kernel still held the last one then.
    let place = host.folder("own");
    let remount = format!(
        "mount -t cgroup -o none,name={hierarchy} cg {0} && umount {0}",
        place.display()
    );
    let mut looked = 0;
    eventually("the hierarchy has gone", || {
        // It takes its time to go; mounted within that, it stays.
        if looked % 40 == 0 {
            host.shell(&remount).succeeds();
        }
        looked += 1;
        let hierarchies = fs::read_to_string("/proc/self/cgroup").expect("proc is there");
        !hierarchies.contains(&hierarchy)
    });
    // On the host, whose root sees the roots of hierarchies, it is there to be opened.
    for (place, _) in hierarchies {
        let agent = Path::new(place).join("release_agent");
        assert!(
            fs::File::options().write(true).open(&agent).is_ok(),
            "{}",
            agent.display()
        );
    }
}

fn other_masks_are_where_they_were_with_the_hosts_ids(host: &Host) {
    booted(host, "web", "--userns host");
    let written = format!("/attacker open w {}", SETTINGS.join(" "));
    assert_eq!(host.inside("web", &written), "");
    let attempts = "umount /proc/interrupts; umount -l /proc/sys; mount -t proc proc /mnt; \
                    mount -o remount,bind,rw /proc/sys; unshare --user --map-root-user --mount umount -l /proc/sys; true";
    host.inside("web", &format!("({attempts}) 2>/dev/null"));
    assert_eq!(host.inside("web", &written), "");
    assert_eq!(host.inside("web", "head -c 40 /proc/interrupts"), "");
    // Control: with the same ids and no masks.
    booted(host, "mighty", "--privileged");
    assert_ne!(host.inside("mighty", &written), "");
    assert_ne!(host.inside("mighty", "head -c 40 /proc/interrupts"), "");
}
