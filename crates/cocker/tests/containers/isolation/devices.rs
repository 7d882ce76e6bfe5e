//! Devices: neither made, nor found and opened, but those of `/dev` and those that were given.

use super::program::with_attacker;
use crate::host::{Host, with_image_test};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        devices_of_the_host_are_neither_made_nor_opened,
        a_device_that_was_given_is_used_as_it_was_given,
        bad_devices_are_refused,
    ]
}

/// The disk that the root file system is on, or any, as the kernel numbers it.
fn a_disk() -> Option<(u64, u64)> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    let mut numbers = numbers.filter_map(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    numbers.next()
}

fn devices_of_the_host_are_neither_made_nor_opened(host: &Host) {
    // A volume with nodes on it, as a careless administrator may have.
    let data = host.folder("nodes");
    let (major, minor) = a_disk().expect("there is a disk");
    let nodes = [
        ("disk", format!("b {major} {minor}")),
        ("mem", "c 1 1".into()),
        ("kmsg", "c 1 11".into()),
        ("loop", "b 7 0".into()),
        ("fuse", "c 10 229".into()),
        ("tun", "c 10 200".into()),
        ("kvm", "c 10 232".into()),
    ];
    for (name, numbers) in &nodes {
        host.shell(&format!("mknod -m 666 {}/{name} {numbers}", data.display()))
            .succeeds();
    }
    let attacker = with_attacker(host);
    let volume = format!("--volume {}:/data", data.display());
    let raw = format!("--volume {}:/raw:raw", data.display());
    for (name, option) in [
        ("web", ""),
        ("few", "--userns host"),
        ("mighty", "--privileged"),
    ] {
        host.cocker(&format!(
            "create -m test -c {name} {attacker} {volume} {raw} {option} -b"
        ))
        .ok();
    }
    let all = |folder: &str| {
        nodes
            .iter()
            .map(|(name, _)| format!("{folder}/{name} "))
            .collect::<String>()
    };
    let made: String = nodes
        .iter()
        .map(|(name, numbers)| {
            format!("mknod -m 666 /tmp/{name} {numbers}; mknod -m 666 /dev/{name} {numbers}; ")
        })
        .collect();
    let attack = format!(
        "({made}) 2>/dev/null; /attacker open r {} {} {} {}",
        all("/tmp"),
        all("/dev"),
        all("/data"),
        all("/raw")
    );
    assert_eq!(host.inside("web", &attack), "");
    let nested = format!("unshare --user --map-root-user --mount sh -c '{attack}'");
    assert_eq!(host.inside("web", &nested), "");
    // With the host's ids root inside has the right to make no node either, and to open none that it finds.
    assert_eq!(host.inside("few", &attack), "");
    let open = host.inside("mighty", &attack);
    assert!(open.contains("/dev/disk"), "{open}");
    // Control, device by device: the kernel is asked for each, and where it answers with no device, it has no driver.
    let each = |folder: &str| {
        let calls = nodes
            .iter()
            .map(|(name, _)| format!("/attacker 64 2 s:{folder}/{name} 2048; "));
        let text = host.inside(
            if folder == "/dev" { "mighty" } else { "web" },
            &calls.collect::<String>(),
        );
        let answers = text.lines().map(|line| line.parse().expect("a number"));
        answers.collect::<Vec<i64>>()
    };
    let asked = each("/dev");
    assert_eq!(asked.len(), nodes.len());
    const NO_DRIVER: [i64; 2] = [-6, -19]; // ENXIO, ENODEV
    for ((name, _), answer) in nodes.iter().zip(asked) {
        assert!(
            answer >= 0 || NO_DRIVER.contains(&answer),
            "{name}: {answer}"
        );
    }
    const REFUSED: [i64; 2] = [-1, -13]; // EPERM, EACCES
    for folder in ["/data", "/raw"] {
        let refused = each(folder);
        assert_eq!(refused.len(), nodes.len());
        assert!(refused.iter().all(|it| REFUSED.contains(it)), "{refused:?}");
    }
    // On its own files and on a volume not even then.
    assert!(
        !open.contains("/data/") && !open.contains("/tmp/"),
        "{open}"
    );
    assert_eq!(
        host.inside(
            "web",
            "echo lost > /dev/null && head -c 1 /dev/zero | wc -c"
        ),
        "1"
    );
}

fn a_device_that_was_given_is_used_as_it_was_given(host: &Host) {
    let (major, minor) = a_disk().expect("there is a disk");
    let node = host.folder("node").join("disk");
    host.shell(&format!(
        "mknod -m 600 {} b {major} {minor}",
        node.display()
    ))
    .succeeds();
    let attacker = with_attacker(host);
    let device = format!(
        "--device {}:/dev/own/disk:r --device /dev/null:/dev/nothing",
        node.display()
    );
    host.cocker(&format!("create -m test -c web {attacker} {device} -b"))
        .ok();
    let opened =
        "/attacker open r /dev/own/disk /dev/nothing; /attacker open w /dev/own/disk /dev/nothing";
    assert_eq!(
        host.inside("web", opened),
        "/dev/own/disk\n/dev/nothing\n/dev/nothing"
    );
    assert_eq!(
        host.inside("web", "stat -c '%F %U %a' /dev/own/disk"),
        "block special file root 600"
    );
    // Another node of it may not be made, by ids and by the list.
    assert_eq!(
        host.inside(
            "web",
            &format!(
                "mknod /tmp/disk b {major} {minor} 2>/dev/null; ls /tmp/disk 2>/dev/null; true"
            )
        ),
        ""
    );
    let listing = host.cocker("containers --format json").succeeds().stdout();
    assert!(
        listing.contains(&format!("{}:/dev/own/disk:r", node.display())),
        "{listing}"
    );
    host.cocker("shutdown web").ok();
    host.cocker("set-isolation web").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", opened), "");
    let found = fs::metadata(&node).expect("it is there");
    assert!(
        found.file_type().is_block_device()
            && found.rdev() == rustix::fs::makedev(major as u32, minor as u32)
    );
}

fn bad_devices_are_refused(host: &Host) {
    for (device, code) in [
        ("/no/such/device", 2),
        ("/no/such/device:/dev/x", 1),
        ("/etc/passwd:/dev/x", 1),
        ("/dev/null:/tmp/null", 2),
        ("/dev/null:/dev/../null", 2),
        ("/dev/null:/dev/x:rwx", 2),
        ("null", 2),
    ] {
        host.cocker(&format!("create -m test -c web --device {device}"))
            .fails(code, &[device.split(':').next().expect("it has a part")]);
    }
    host.cocker("containers").succeeds().prints("");
}
