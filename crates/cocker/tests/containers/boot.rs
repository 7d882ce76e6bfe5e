//! What a boot makes: the root process, the mounts, the devices, and what `-e` makes of it.

use crate::host::{Host, eventually, with_image_test};
use std::collections::BTreeSet;
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        the_root_process_is_cockerinit,
        the_hostname_is_the_containers_name_or_what_create_was_told,
        the_mounts_are_the_containers_own,
        the_devices_are_the_harmless_ones,
        the_root_can_be_seen_from_outside_while_booted,
        a_given_root_process_is_process_1_and_run_and_attach_work,
        a_root_process_that_does_not_exist_is_named_and_nothing_is_booted,
        a_container_ends_with_its_given_root_process,
        a_given_root_process_holds_until_another_is_given,
        a_container_boots_again_after_each_shutdown,
        files_changed_by_hand_survive_shutdown_and_boot,
        two_containers_of_one_image_do_not_see_each_others_files,
        a_cleared_environment_reaches_the_container,
        the_only_child_of_a_booted_container_is_its_init,
        what_the_overlay_of_the_last_boot_left_is_removed_aside,
    ]
}

fn the_root_process_is_cockerinit(host: &Host) {
    host.booted("web");
    assert_eq!(host.inside("web", "cat /proc/1/comm"), "cockerinit");
    let pid = host.root_process("web");
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs"),
        "cockerinit\n"
    );
}

fn the_hostname_is_the_containers_name_or_what_create_was_told(host: &Host) {
    host.booted("web");
    assert_eq!(host.inside("web", "cat /proc/sys/kernel/hostname"), "web");
    host.cocker("-a create -m test -c db --host database").ok();
    host.cocker("-a boot -c db").ok();
    assert_eq!(
        host.inside("db", "cat /proc/sys/kernel/hostname"),
        "database"
    );
    let ours = fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc is mounted");
    assert!(
        !["web\n", "database\n"].contains(&ours.as_str()),
        "the host's own name was changed"
    );
}

fn the_mounts_are_the_containers_own(host: &Host) {
    host.booted("web");
    let mounts = host.inside("web", "cat /proc/self/mountinfo");
    // Fields as in proc_pid_mountinfo(5): the mount point is the fifth, options the sixth, the type follows " - ".
    let find = |point: &str, kind: &str| {
        let found = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some(point));
        let line = found.unwrap_or_else(|| panic!("nothing is mounted at {point}:\n{mounts}"));
        assert!(
            line.contains(&format!(" - {kind} ")),
            "{point} is no {kind}: {line}"
        );
        line.split(' ')
            .nth(5)
            .expect("a mount has options")
            .split(',')
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert!(find("/", "overlay").contains(&"rw".into()));
    find("/proc", "proc");
    assert!(
        find("/sys", "sysfs").contains(&"ro".into()),
        "/sys can be written"
    );
    find("/dev", "tmpfs");
    find("/dev/pts", "devpts");
    find("/dev/shm", "tmpfs");
    find("/dev/mqueue", "mqueue");
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).expect("a mount has a point");
        let own = ["/proc", "/sys", "/dev", "/run", "/tmp"]
            .iter()
            .any(|head| point.starts_with(head))
            || point == "/etc/resolv.conf";
        assert!(point == "/" || own, "foreign mount: {line}");
    }
}

fn the_devices_are_the_harmless_ones(host: &Host) {
    host.booted("web");
    let found = host.inside("web", "for file in /dev/*; do test -c $file && echo $file; test -b $file && echo BLOCK $file; done; true");
    let found: BTreeSet<&str> = found
        .lines()
        .filter(|line| !line.starts_with("/dev/std"))
        .collect();
    let meant = [
        "console", "full", "null", "ptmx", "random", "tty", "urandom", "zero",
    ]
    .map(|name| format!("/dev/{name}"));
    assert_eq!(found, meant.iter().map(String::as_str).collect());
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
    ] {
        assert_eq!(host.inside("web", &format!("readlink /dev/{link}")), target);
    }
    // They do what their names say.
    assert_eq!(
        host.inside("web", "head -c 4 /dev/zero | od -An -tx1")
            .trim(),
        "00 00 00 00"
    );
    assert_eq!(host.inside("web", "head -c 16 /dev/urandom | wc -c"), "16");
    assert_eq!(
        host.inside("web", "echo gone > /dev/null; cat /dev/null"),
        ""
    );
    assert_eq!(
        host.inside("web", "echo x > /dev/full || echo full")
            .lines()
            .last(),
        Some("full")
    );
}

fn the_root_can_be_seen_from_outside_while_booted(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-s container_root -c web").fails(1, &["web"]);
    host.cocker("-a boot -c web").ok();
    host.inside("web", "echo seen > /root/from-inside");
    let root = host.cocker("-s container_root -c web").succeeds().stdout();
    assert_eq!(root, format!("/proc/{}/root\n", host.root_process("web")));
    let seen = fs::read_to_string(format!("{}/root/from-inside", root.trim_end()));
    assert_eq!(seen.expect("the file is there"), "seen\n");
    host.cocker("root web").succeeds().prints(&root);
}

fn a_given_root_process_is_process_1_and_run_and_attach_work(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-a boot -c web -e '/bin/sleep 1000'").ok();
    let pid = host.root_process("web");
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs"),
        "sleep\n"
    );
    assert_eq!(host.inside("web", "cat /proc/1/comm"), "sleep");
    assert_eq!(host.inside("web", "echo works"), "works");

    let mut terminal = host.terminal("-a attach -c web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("exit");
    terminal.exits(0);

    host.cocker("-a shutdown -c web --timeout 1").ok();
    assert_eq!(host.status("web"), "STOPPED");
}

fn a_root_process_that_does_not_exist_is_named_and_nothing_is_booted(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.cocker("-a boot -c web -e '/no/such/program now'")
        .fails(1, &["web", "/no/such/program"]);
    assert_eq!(host.status("web"), "STOPPED");
    eventually("nothing runs in the container", || {
        host.contained().is_empty()
    });
    // What could not be started is not what the next boot starts.
    host.cocker("-a boot -c web -e '/bin/sleep 1000'").ok();
    assert_eq!(host.inside("web", "cat /proc/1/comm"), "sleep");
}

fn a_container_ends_with_its_given_root_process(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    let outcome = host.cocker("-a boot -c web -e '/bin/sh -c exit'");
    assert!(
        [Some(0), Some(1)].contains(&outcome.status.code()),
        "{outcome}"
    );
    eventually("the container is stopped", || {
        host.status("web") == "STOPPED"
    });
    host.cocker("-a destroy -c web").ok();
    host.nothing_is_left();
}

fn a_given_root_process_holds_until_another_is_given(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    let is_process_1 = |name: &str| {
        assert_eq!(host.inside("web", "cat /proc/1/comm"), name);
        host.cocker("-a shutdown -c web").ok();
    };
    host.cocker("-a boot -c web -e '/bin/sleep 1000'").ok();
    is_process_1("sleep");
    host.cocker("-a boot -c web").ok();
    is_process_1("sleep");
    // One that did not boot is not remembered.
    host.cocker("-a boot -c web -e /no/such")
        .fails(1, &["/no/such"]);
    host.cocker("-a boot -c web").ok();
    is_process_1("sleep");
    host.cocker("-a boot -c web -e cockerinit").ok();
    is_process_1("cockerinit");
    host.cocker("-a boot -c web").ok();
    is_process_1("cockerinit");
}

fn a_container_boots_again_after_each_shutdown(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    for time in 0..10 {
        host.cocker("-a boot -c web").ok();
        assert_eq!(
            host.inside(
                "web",
                &format!("echo {time} >> /root/boots; wc -l < /root/boots")
            ),
            (time + 1).to_string()
        );
        host.cocker("-a shutdown -c web").ok();
        assert_eq!(host.status("web"), "STOPPED");
    }
}

fn files_changed_by_hand_survive_shutdown_and_boot(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "mkdir /root/made && echo new > /root/made/file && chmod 640 /root/made/file && chown 12:34 /root/made/file \
         && touch -d 2001-02-03T04:05:06Z /root/made/file && ln -s made/file /root/link && echo more >> /etc/profile \
         && rm /etc/group && mkfifo /root/made/fifo",
    );
    let look = "stat -c '%n %a %u:%g %F %Y' /root/made/file /root/made/fifo /root/link; tail -n 1 /etc/profile; \
                ls /etc/group; cat /root/link";
    let look = format!("{look} 2>&1; true");
    let before = host.inside("web", &look);
    assert!(
        before.contains("/root/made/file 640 12:34 regular file 981173106"),
        "{before}"
    );
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", &look), before);
}

fn two_containers_of_one_image_do_not_see_each_others_files(host: &Host) {
    host.booted("one");
    host.booted("two");
    host.inside(
        "one",
        "echo mine > /root/secret; echo changed >> /etc/profile",
    );
    assert_eq!(
        host.inside(
            "two",
            "ls /root/secret 2>/dev/null; tail -n 1 /etc/profile | grep -c changed; true"
        ),
        "0"
    );
}

fn a_cleared_environment_reaches_the_container(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    host.shell("SECRET=of-the-host LD_PRELOAD_X=1 cocker -a boot -c web")
        .ok();
    let environment = host
        .shell("SECRET=of-the-host cocker run web -- env")
        .succeeds()
        .stdout();
    assert!(!environment.contains("of-the-host"), "{environment}");
    assert!(!environment.contains("COCKER_HOME"), "{environment}");
    assert!(
        environment.lines().any(|line| line.starts_with("PATH=")),
        "{environment}"
    );
    let of_init = host.inside("web", "tr '\\0' '\\n' < /proc/1/environ");
    assert!(!of_init.contains("of-the-host"), "{of_init}");
}

fn the_only_child_of_a_booted_container_is_its_init(host: &Host) {
    host.booted("web");
    let names: Vec<String> = host
        .contained()
        .iter()
        .map(|process| process.name())
        .collect();
    assert_eq!(names, ["cockerinit"]);
}

/// The kernel makes a folder for the overlay's own use at each mount, and waits for the disk to remove one that is there.
fn what_the_overlay_of_the_last_boot_left_is_removed_aside(host: &Host) {
    host.booted("web");
    let folder = host.home().join("containers/web/files/work");
    let inode = |name| {
        let found = fs::symlink_metadata(folder.join(name)).ok()?;
        Some(std::os::unix::fs::MetadataExt::ino(&found))
    };
    host.cocker("-a shutdown -c web").ok();
    let first = inode("work").expect("the overlay has left it");
    // As after a supervisor that was killed before it removed it: it is replaced.
    fs::create_dir(folder.join("last")).expect("there is none");
    host.cocker("-a boot -c web").ok();
    assert!(inode("work").is_some_and(|second| second != first));
    eventually("that of the last boot is gone", || inode("last").is_none());
    host.cocker("-a shutdown -c web").ok();
    // What is not empty is no hindrance either, wherever it is.
    for place in ["last", "work"] {
        let _ = fs::create_dir(folder.join(place));
        fs::write(folder.join(place).join("#1"), "left").expect("it is our folder");
    }
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "echo a >/new; cat /new"), "a");
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a destroy -c web").ok();
    assert!(!folder.exists());
}
