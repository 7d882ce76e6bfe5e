//! What keeps a container apart: ids, namespaces, descriptors, devices, and what `--privileged` gives up.

mod devices;
mod ids;
mod kernel;
mod nested;
mod open;
pub mod program;
mod system_calls;

use crate::host::{Host, processes, with_image_test};
use std::fs;
use std::path::Path;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    [
        whole_containers(),
        devices::trials(),
        ids::trials(),
        kernel::trials(),
        nested::trials(),
        open::trials(),
        system_calls::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn whole_containers() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        each_container_has_its_own_range_of_ids,
        the_namespaces_are_the_containers_own_and_the_network_is_the_hosts,
        the_hosts_processes_are_not_visible,
        root_inside_makes_no_device,
        root_inside_cannot_change_the_kernel,
        no_descriptor_of_the_host_reaches_the_root_process,
        no_descriptor_of_the_host_reaches_a_command,
        no_host_process_has_a_file_of_the_container_mapped,
        nothing_of_a_container_is_mounted_on_the_host,
        a_cgroup_of_its_own_holds_all_that_runs_inside,
        the_programs_on_the_host_are_unchanged_by_root_inside,
        a_privileged_container_has_the_hosts_ids_and_says_so,
    ]
}

fn each_container_has_its_own_range_of_ids(host: &Host) {
    host.booted("one");
    host.booted("two");
    let first = |name: &str, map: &str| {
        let map = host.inside(name, &format!("cat /proc/self/{map}"));
        let rows: Vec<Vec<u64>> = map
            .lines()
            .map(|line| {
                line.split_whitespace()
                    .map(|number| number.parse().expect("a number"))
                    .collect()
            })
            .collect();
        assert_eq!(rows[0][0], 0, "the map begins with root: {map}");
        assert_eq!(rows.iter().map(|row| row[2]).sum::<u64>(), 65_536, "{map}");
        assert!(
            rows.iter().all(|row| row[1] >= 65_536),
            "a host user's own id is in use: {map}"
        );
        rows[0][1]
    };
    for map in ["uid_map", "gid_map"] {
        let (one, two) = (first("one", map), first("two", map));
        assert!(
            one.abs_diff(two) >= 65_536,
            "{map}: {one} and {two} overlap"
        );
    }
    // What the host sees agrees.
    let status =
        fs::read_to_string(format!("/proc/{}/status", host.root_process("one"))).expect("it runs");
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .expect("a process has a user");
    assert_eq!(
        uids.split_whitespace().next(),
        Some(first("one", "uid_map").to_string().as_str())
    );
}

fn the_namespaces_are_the_containers_own_and_the_network_is_the_hosts(host: &Host) {
    host.booted("web");
    let pid = host.root_process("web");
    let namespace = |process: &str, kind: &str| {
        fs::read_link(format!("/proc/{process}/ns/{kind}")).expect("it runs")
    };
    for kind in ["mnt", "pid", "ipc", "uts", "cgroup", "user"] {
        assert_ne!(
            namespace(&pid.to_string(), kind),
            namespace("self", kind),
            "{kind} is the host's"
        );
    }
    assert_eq!(namespace(&pid.to_string(), "net"), namespace("self", "net"));
    for kind in ["mnt", "pid", "ipc", "uts", "cgroup", "user", "net"] {
        let inside = host.inside("web", &format!("readlink /proc/self/ns/{kind}"));
        assert_eq!(
            Path::new(&inside),
            namespace(&pid.to_string(), kind),
            "a command is elsewhere than the root process"
        );
    }
}

fn the_hosts_processes_are_not_visible(host: &Host) {
    host.booted("web");
    let pids = host.inside("web", "cd /proc && ls -d [0-9]*");
    assert!(pids.lines().count() <= 5, "{pids}");
    assert_eq!(
        host.inside("web", "cat /proc/self/cgroup").lines().last(),
        Some("0::/")
    );
}

fn root_inside_makes_no_device(host: &Host) {
    host.booted("web");
    for device in ["b 8 0", "c 1 1", "b 7 0", "c 10 229"] {
        let outcome = host.cocker(&format!("run web -- mknod /tmp/device {device}"));
        assert_ne!(outcome.status.code(), Some(0), "{outcome}");
        assert_eq!(host.inside("web", "ls /tmp/device 2>/dev/null; true"), "");
    }
    // The same number is made where it is harmless for an overlay: as a whiteout, which opens nothing.
    host.inside("web", "mknod /tmp/fifo p");
}

fn root_inside_cannot_change_the_kernel(host: &Host) {
    host.booted("web");
    for file in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/panic",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
    ] {
        let command =
            format!("test -e {file} || exit 0; echo x 2>/dev/null > {file} && echo written; true");
        assert_eq!(
            host.inside("web", &format!("({command}) 2>/dev/null")),
            "",
            "{file}"
        );
    }
    for file in ["/proc/kcore", "/proc/kmsg"] {
        let read = host.inside(
            "web",
            &format!("(head -c 1 {file} | wc -c) 2>/dev/null; true"),
        );
        assert_eq!(read.trim(), "0", "{file} can be read");
    }
    // A size that nobody else asks for.
    let outcome = host.cocker("run web -- mount -t tmpfs -o size=1236k none /mnt");
    // A mount inside stays inside, if it is allowed at all.
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .expect("/proc is mounted")
            .contains("size=1236k"),
        "{outcome}"
    );
}

fn no_descriptor_of_the_host_reaches_the_root_process(host: &Host) {
    // What a careless caller hands over must not arrive either.
    host.cocker("-a create -m test -c web").ok();
    host.shell("exec 7</etc/hostname 8</ 9>&1; cocker -a boot -c web")
        .ok();
    let pid = host.root_process("web");
    for descriptor in fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("it runs")
        .flatten()
    {
        let link = fs::read_link(descriptor.path()).expect("it is open");
        let text = link.to_string_lossy();
        let kernel = ["socket:", "pipe:", "anon_inode:"]
            .iter()
            .any(|kind| text.starts_with(kind));
        let own = ["/dev/console", "/dev/null", "/dev/pts", "/dev/ptmx"]
            .iter()
            .any(|path| text.starts_with(path));
        // The root of the container's own devpts, and the far end of its console.
        let devpts = text == "/" || text.trim_start_matches('/').parse::<u32>().is_ok();
        if text == "/" {
            let foreign = fs::metadata(descriptor.path()).expect("it is open");
            let host_root = fs::metadata("/").expect("there is a root");
            use std::os::unix::fs::MetadataExt;
            assert_ne!(
                foreign.dev(),
                host_root.dev(),
                "descriptor {:?} is the host's root",
                descriptor.file_name()
            );
        }
        assert!(
            kernel || own || devpts,
            "descriptor {:?} is {text}",
            descriptor.file_name()
        );
    }
}

fn no_descriptor_of_the_host_reaches_a_command(host: &Host) {
    host.booted("web");
    let listing = host
        .shell("exec 7</etc/hostname 8</; cocker run web -- ls -l /proc/self/fd")
        .succeeds()
        .stdout();
    let links: Vec<(&str, &str)> = listing
        .lines()
        .filter_map(|line| line.split_once(" -> "))
        .map(|(head, target)| (head.rsplit(' ').next().expect("a line has words"), target))
        .collect();
    for (number, target) in &links {
        match *number {
            "0" | "1" | "2" => assert!(target.starts_with("pipe:"), "{listing}"),
            // The folder that ls reads.
            "3" => assert!(target.starts_with("/proc/"), "{listing}"),
            _ => panic!("descriptor {number} has leaked:\n{listing}"),
        }
    }
    assert_eq!(links.len(), 4, "{listing}");
    let inside = host.inside("web", "readlink /proc/self/cwd");
    assert!(["/", "/root"].contains(&inside.as_str()), "{inside}");

    let mut terminal = host.terminal("-a attach -c web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("ls -l /proc/self/fd; echo end of list");
    terminal.expect("list\r\n");
    let listing = terminal.expect("end of list\r\n");
    for line in listing.lines() {
        if let Some((_, target)) = line.split_once(" -> ") {
            let own = target.starts_with("/dev/pts/") || target.starts_with("/proc/");
            assert!(own, "a session's shell holds {target}:\n{listing}");
        }
    }
}

fn no_host_process_has_a_file_of_the_container_mapped(host: &Host) {
    host.booted("web");
    let _session = host.start("run web -- sleep 100");
    host.until_inside_runs("sleep");
    let home = host.home().to_string_lossy().into_owned();
    let contained: Vec<i32> = host.contained().iter().map(|process| process.pid).collect();
    for process in processes()
        .iter()
        .filter(|process| !contained.contains(&process.pid))
    {
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid)).unwrap_or_default();
        assert!(
            !maps.contains(&format!("{home}/layers")),
            "{} maps a layer's file",
            process.command_line()
        );
        assert!(
            !maps.contains(&format!("{home}/containers")),
            "{} maps a container's file",
            process.command_line()
        );
    }
}

fn nothing_of_a_container_is_mounted_on_the_host(host: &Host) {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    host.booted("web");
    let home = format!("{}/", host.home().display());
    assert!(!mounts().contains(&home), "{}", mounts());
    let pid = host.supervisor("web");
    let of_supervisor = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs");
    assert!(!of_supervisor.contains(&home), "{of_supervisor}");
}

fn a_cgroup_of_its_own_holds_all_that_runs_inside(host: &Host) {
    host.booted("one");
    host.booted("two");
    let cgroup = |name: &str| {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", host.root_process(name)))
            .expect("it runs");
        text.lines()
            .find_map(|line| line.strip_prefix("0::"))
            .expect("the unified hierarchy")
            .to_string()
    };
    let ours = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    assert_ne!(cgroup("one"), cgroup("two"));
    assert!(
        !ours
            .lines()
            .any(|line| line.strip_prefix("0::") == Some(&cgroup("one")))
    );
    let _command = host.start("run one -- sleep 100");
    let pid = host.until_inside_runs("sleep");
    let of_command = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let of_command = of_command
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .expect("the unified hierarchy");
    assert!(of_command.starts_with(&cgroup("one")), "{of_command}");
}

fn the_programs_on_the_host_are_unchanged_by_root_inside(host: &Host) {
    host.booted("web");
    let before = fs::read(host.program()).expect("it is there");
    for _ in 0..20 {
        let attempt = "for exe in /proc/1/exe /proc/self/exe /proc/$PPID/exe; do (echo x > $exe) 2>/dev/null && echo $exe; done; true";
        let opened = host.inside("web", attempt);
        assert_eq!(opened, "", "a running program was opened for writing");
    }
    assert!(
        fs::read(host.program()).expect("it is there") == before,
        "the program has changed"
    );
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /proc/1/comm"), "cockerinit");
}

fn a_privileged_container_has_the_hosts_ids_and_says_so(host: &Host) {
    host.cocker("-a create -m test -c web --privileged").ok();
    host.cocker("-a boot -c web").ok();
    let map = host.inside("web", "cat /proc/self/uid_map");
    assert_eq!(
        map.split_whitespace().collect::<Vec<_>>(),
        ["0", "0", "4294967295"]
    );
    let listing = host.cocker("-s containers").succeeds().stdout();
    assert!(listing.contains("PRIVILEGED"), "{listing}");
    let mut terminal = host.terminal("-a attach -c web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("exit");
    terminal.exits(0);
    host.cocker("-a shutdown -c web").ok();
}
