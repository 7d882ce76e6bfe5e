//! Places in a container where cocker mounts or writes, made by an enemy: links, files, and what changes meanwhile.

use super::{Attacker, KINDS, host_mounts, number, picture, tries};
use crate::host::{Host, entries, eventually, with_image_test};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        links_where_cocker_mounts_lead_nowhere_outside,
        a_place_that_is_swapped_while_booting_leads_nowhere_outside,
        what_an_image_has_below_dev_is_nothing,
        nothing_is_written_to_a_proc_that_is_none,
        a_mount_does_not_spread,
        no_volume_takes_the_place_of_the_kernels_files,
        a_host_path_that_is_swapped_is_opened_once,
    ]
}

/// Puts `what` at `place` in a tree, with the folders above it.
fn put(tree: &Path, place: &str, what: impl FnOnce(&Path)) {
    let path = tree.join(place);
    fs::create_dir_all(path.parent().expect("it is below the tree")).expect("the tree is ours");
    what(&path);
}

/// Row 3: CVE-2021-30465, CVE-2019-16884, CVE-2019-19921. Links of the image at each place, to the host's files.
fn links_where_cocker_mounts_lead_nowhere_outside(host: &Host) {
    let outside = host.folder("outside");
    fs::create_dir(outside.join("folder")).expect("the folder is ours");
    fs::write(outside.join("file"), "of the host\n").expect("the folder is ours");
    let before = picture(&outside);
    let data = host.folder("data");
    fs::write(data.join("here"), "").expect("the folder is ours");
    let upwards = format!("{}{}", "../".repeat(20), &outside.to_string_lossy()[1..]);
    let absolute = outside.display().to_string();
    let places = [
        "proc",
        "sys",
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/mqueue",
        "dev/console",
        "sys/fs/cgroup",
        "etc",
        "etc/resolv.conf",
        "etc/hosts",
        "run",
        "srv/volume",
        "srv/volume/deep",
    ];
    // Others mount theirs meanwhile: looked at is what has to do with this test, and each of the places on the host.
    let own = host.home().with_extension("files").display().to_string();
    let home = host.home().display().to_string();
    let [below, itself] = [format!("{home}/"), format!("{home} ")];
    let seen = || -> Vec<String> {
        let is_of_ours = |line: &str| {
            let point = line.split(' ').nth(4).unwrap_or_default();
            let names = [&own, &below, &itself].iter().any(|it| line.contains(*it));
            names
                || places
                    .iter()
                    .any(|place| point.strip_prefix('/') == Some(*place))
        };
        let mounts = host_mounts();
        let ours = mounts.lines().filter(|line| is_of_ours(line));
        ours.map(String::from).collect()
    };
    let mounts = seen();
    let mut booted = 0;
    for (number, place) in places.into_iter().enumerate() {
        for (kind, target) in [
            ("folder", format!("{absolute}/folder")),
            ("file", format!("{absolute}/file")),
            ("missing", format!("{absolute}/missing")),
            ("upwards", format!("{upwards}/folder")),
        ] {
            let image = format!("links-{number}-{kind}");
            host.add_image(&image, |tree| {
                put(tree, place, |path| {
                    symlink(target, path).expect("the tree is ours")
                });
            });
            for (option, name) in KINDS {
                let volume = format!("--volume {}:/srv/volume/deep", data.display());
                host.cocker(&format!(
                    "create -m test,{image} -c {name} {volume} {option}"
                ))
                .ok();
                let outcome = host.cocker(&format!("boot {name}"));
                if outcome.status.success() {
                    booted += 1;
                    assert_eq!(host.inside(name, "ls /srv/volume/deep"), "here");
                    host.cocker(&format!("kill {name}")).ok();
                } else {
                    outcome.fails(1, &[name]);
                }
                assert_eq!(picture(&outside), before, "{place}, {kind}, {name}");
                assert_eq!(entries(&data), ["here"], "{place}, {kind}, {name}");
                host.cocker(&format!("destroy {name}")).ok();
            }
        }
    }
    // Both ends happen: what leads nowhere inside is refused, and what is no matter for a mount does no harm.
    assert!(booted >= 20, "only {booted} booted");
    assert_eq!(seen(), mounts);
    // Control: who mounts by a path with such a link in it mounts over the host's file.
    let naive = host.folder("naive");
    symlink(outside.join("folder"), naive.join("proc")).expect("the folder is ours");
    let script = format!(
        "mount --bind {} {}/proc; cat /proc/self/mountinfo",
        data.display(),
        naive.display()
    );
    let seen = host.shell(&format!(
        "unshare -m --propagation private sh -c '{script}'"
    ));
    let landed = format!(" {} ", outside.join("folder").display());
    assert!(seen.succeeds().stdout().contains(&landed));
}

/// Row 3, swapped: another container that shares a volume makes the place a link and a folder by turns.
fn a_place_that_is_swapped_while_booting_leads_nowhere_outside(host: &Host) {
    let (outside, data, share) = (
        host.folder("outside"),
        host.folder("data"),
        host.folder("share"),
    );
    fs::write(data.join("here"), "").expect("the folder is ours");
    fs::create_dir(share.join("place")).expect("the folder is ours");
    symlink(&outside, share.join("link")).expect("the folder is ours");
    Attacker::booted(
        host,
        "evil",
        &format!("--volume {}:/share", share.display()),
    );
    for (option, name) in KINDS {
        let volumes = format!(
            "--volume {}:/share --volume {}:/share/place/deep",
            share.display(),
            data.display()
        );
        host.cocker(&format!("create -m test -c {name} {volumes} {option}"))
            .ok();
        let mut attack = Attacker::inside(
            host,
            "evil",
            &format!("swap /share/place /share/link {}", tries(100_000)),
        );
        attack.until_prints("begun");
        let mut booted = 0;
        for _ in 0..tries(40) {
            let outcome = host.cocker(&format!("boot {name}"));
            if outcome.status.success() {
                booted += 1;
                host.cocker(&format!("kill {name}")).ok();
            } else {
                outcome.fails(1, &[name]);
            }
            assert_eq!(entries(&outside), [""; 0], "{name}: made on the host");
            assert_eq!(entries(&data), ["here"]);
        }
        assert!(booted > 0, "{name} never booted");
        let said = attack.outcome().succeeds().stdout();
        assert!(number(&said, "swaps") >= 100_000, "{said}");
        host.cocker(&format!("destroy {name}")).ok();
    }
    // Control: who makes the place by its path makes it outside, sooner or later.
    let mut attack = Attacker::inside(host, "evil", "swap /share/place /share/link 1000");
    attack.until_prints("begun");
    eventually("a folder outside", || {
        let _ = fs::create_dir(share.join("place/deep"));
        let made = outside.join("deep").exists();
        let _ = fs::remove_dir(share.join("place/deep"));
        made
    });
    attack.outcome().succeeds();
}

/// Row 4: CVE-2025-31133, CVE-2025-52565. What stands where devices and the console belong.
fn what_an_image_has_below_dev_is_nothing(host: &Host) {
    let outside = host.folder("outside");
    let file = outside.join("file");
    fs::write(&file, "of the host\n").expect("the folder is ours");
    let before = picture(&outside);
    let names = [
        "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin",
        "stdout", "stderr", "core", "pts/0", "shm/x",
    ];
    let image = host.add_image("links", |tree| {
        for name in names {
            put(tree, &format!("dev/{name}"), |path| {
                symlink(&file, path).expect("the tree is ours");
            });
        }
    });
    host.add_image("files", |tree| {
        for name in names {
            put(tree, &format!("dev/{name}"), |path| {
                fs::write(path, "of the image\n").expect("the tree is ours");
            });
        }
    });
    // As mknod(1) wants them said.
    let numbers = "null 1,3\nzero 1,5\nfull 1,7\nrandom 1,8\nurandom 1,9\ntty 5,0";
    for image in ["links", "files"] {
        for (option, name) in KINDS {
            host.cocker(&format!("create -m test,{image} -c {name} {option} -b"))
                .ok();
            for line in numbers.lines() {
                let (device, number) = line.split_once(' ').expect("two words");
                let look = format!("stat -c '%F %Hr,%Lr' /dev/{device}");
                assert_eq!(
                    host.inside(name, &look),
                    format!("character special file {number}"),
                    "{device} of {image}"
                );
            }
            host.inside(
                name,
                "echo to nobody > /dev/null; echo to the log > /dev/console",
            );
            assert_eq!(host.inside(name, "head -c 3 /dev/null"), "");
            // The console is a terminal of the container's own.
            let console = host.inside(name, "stat -c '%F %Hr' /dev/console");
            assert_eq!(console, "character special file 136", "{image}");
            eventually("the console is in the log", || {
                let log = host.cocker(&format!("logs {name}")).succeeds().stdout();
                log.contains("to the log")
            });
            assert_eq!(picture(&outside), before, "{image}, {name}");
            host.cocker(&format!("destroy --shutdown {name}")).ok();
        }
    }
    // Control: by its path in the image's files, /dev/null is the host's file.
    let naive = fs::read_to_string(image.tree.join("dev/null"));
    assert_eq!(naive.expect("it leads there"), "of the host\n");
    // Who mounts the console there by its path mounts over the host's file; and who masks a file with what the image has as
    // /dev/null shows the host's file instead.
    let (tree, secret) = (image.tree.display(), host.folder("naive").join("secret"));
    fs::write(&secret, "to be hidden\n").expect("the folder is ours");
    let secret = secret.display();
    let script = format!(
        "mount --bind /dev/zero {tree}/dev/console; grep -F -c \" {} \" /proc/self/mountinfo; umount {tree}/dev/console; \
         mount --bind {tree}/dev/null {secret}; cat {secret}",
        file.display()
    );
    let seen = host.shell(&format!(
        "unshare -m --propagation private sh -c '{script}'"
    ));
    seen.succeeds().prints("1\nof the host\n");
    assert_eq!(picture(&outside), before);
}

/// Row 5: CVE-2025-52881. A /proc of plain files, in the image and mounted by root inside, is never written to.
fn nothing_is_written_to_a_proc_that_is_none(host: &Host) {
    let names = [
        "self/attr/exec",
        "self/attr/current",
        "self/uid_map",
        "self/gid_map",
        "self/setgroups",
        "self/oom_score_adj",
        "self/loginuid",
        "thread-self/attr/exec",
        "1/attr/exec",
        "1/oom_score_adj",
        "sys/kernel/hostname",
        "sys/net/ipv4/ip_forward",
        "sys/net/ipv4/ping_group_range",
        "sys/net/ipv4/conf/eth0/rp_filter",
        "sysrq-trigger",
        "self/fd/0",
        "self/fd/3",
    ];
    let image = host.add_image("traps", |tree| {
        for name in names {
            put(tree, &format!("proc/{name}"), |path| {
                fs::write(path, "trap\n").expect("the tree is ours");
            });
        }
    });
    let before = picture(&image.tree);
    for (option, name) in KINDS {
        host.cocker(&format!("create -m test,traps -c {name} {option}"))
            .ok();
        let upper = host.home().join(format!("containers/{name}/files/upper"));
        host.cocker(&format!("boot {name}")).ok();
        let attr = host.inside(name, "cat /proc/sys/kernel/hostname");
        assert_eq!(attr, name, "the kernel's own lies above");
        // Root inside lays its own over the kernel's.
        let lay = "mount -t tmpfs none /mnt; for n in $0; do mkdir -p $(dirname /mnt/$n); echo trap > /mnt/$n; done; \
                   mount --move /mnt /proc";
        let words = names.join(" ");
        let laid = host.cocker_words(&["run", name, "--", "sh", "-c", &lay.replace("$0", &words)]);
        laid.succeeds();
        let text = host.folder("mine").join("text");
        fs::write(&text, "KEY value\n").expect("the folder is ours");
        for line in [
            format!("run {name} -- true"),
            format!("run {name} --user 7:7 --workdir / -- true"),
            format!("put {name} {} /srv/text", text.display()),
            format!("get {name} /srv/text -"),
            format!("pause {name}"),
            format!("resume {name}"),
        ] {
            host.cocker(&line).succeeds();
        }
        let traps = format!("cd /proc && cat {words} | sort | uniq -c; find . -type f | wc -l");
        let seen = host.inside(name, &traps);
        let seen: Vec<&str> = seen.split_whitespace().collect();
        let count = names.len().to_string();
        assert_eq!(seen, [count.as_str(), "trap", count.as_str()]);
        host.cocker(&format!("kill {name}")).ok();
        assert!(!upper.join("proc").exists(), "{name}");
        assert_eq!(picture(&image.tree), before, "{name}");
        host.cocker(&format!("destroy {name}")).ok();
    }
    // Control: who enters the image's files first and writes to /proc then writes into the trap.
    let naive = host.folder("naive");
    host.shell(&format!(
        "cp -a {}/. {}; cd {}; echo label > proc/self/attr/exec",
        image.tree.display(),
        naive.display(),
        naive.display()
    ))
    .succeeds();
    let trap = fs::read_to_string(naive.join("proc/self/attr/exec"));
    assert_eq!(trap.expect("it is there"), "label\n");
}

/// Row 27: what is mounted on one side is not mounted on the other.
fn a_mount_does_not_spread(host: &Host) {
    let data = host.folder("data");
    for folder in ["inside", "outside"] {
        fs::create_dir(data.join(folder)).expect("the folder is ours");
    }
    // The volume lies on a mount that tells others of what is mounted on it: so it does on most hosts.
    host.shell(&format!(
        "mount --bind {0} {0} && mount --make-rshared {0}",
        data.display()
    ))
    .succeeds();
    let unmount = || {
        host.shell(&format!("umount -R {}", data.display()))
            .succeeds();
    };
    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for (option, name) in KINDS {
            let volume = format!("--volume {}:/data", data.display());
            host.cocker(&format!("create -m test -c {name} {volume} {option} -b"))
                .ok();
            host.inside(
                name,
                "mount -t tmpfs from-inside /data/inside && touch /data/inside/file",
            );
            assert!(!host_mounts().contains("from-inside"), "{name}");
            assert_eq!(entries(&data.join("inside")), [""; 0], "{name}");
            host.shell(&format!(
                "mount -t tmpfs from-outside {0}/outside && touch {0}/outside/file",
                data.display()
            ))
            .succeeds();
            let seen = host.inside(
                name,
                "grep -c from-outside /proc/self/mountinfo; ls /data/outside",
            );
            host.shell(&format!("umount {}/outside", data.display()))
                .succeeds();
            assert_eq!(seen, "0", "{name}");
            host.cocker(&format!("destroy --shutdown {name}")).ok();
        }
        // Control: with such a mount as it is, a mount in another namespace does come out.
        let data = data.display();
        host.shell(&format!(
            "unshare -m --propagation unchanged mount -t tmpfs from-inside {data}/inside"
        ))
        .succeeds();
        let came_out = host_mounts().contains("from-inside");
        host.shell(&format!("umount {data}/inside")).succeeds();
        assert!(came_out);
    }));
    unmount();
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}

/// Row 27: a volume over /proc or /sys would take away what is hidden there, over /dev what devices are allowed.
fn no_volume_takes_the_place_of_the_kernels_files(host: &Host) {
    let data = host.folder("data");
    for place in [
        "/proc",
        "/proc/",
        "//proc",
        "/proc/self",
        "/proc/sys/kernel",
        "/sys",
        "/./sys/kernel",
        "/sys/fs/cgroup",
        "/dev",
        "/dev/pts",
        "/dev/pts/0",
        "/dev/console",
        "/dev/null",
    ] {
        let volume = format!("--volume={}:{place}", data.display());
        host.cocker_words(&["create", "-m", "test", "-c", "web", &volume])
            .fails(2, &["--volume", "Hint: "]);
    }
    // What only begins like one of them is none of them, and shared memory is nobody's but the container's.
    let volumes: Vec<String> = ["/process", "/system", "/devices", "/dev/shm/x", "/dev/log"]
        .map(|place| format!("--volume={}:{place}", data.display()))
        .into();
    let mut words = vec!["create", "-m", "test", "-c", "web"];
    words.extend(volumes.iter().map(String::as_str));
    host.cocker_words(&words).ok();
    host.cocker("boot web").ok();
    // A link of the image's there leads to no such place either.
    host.add_image("links", |tree| {
        for (name, target) in [
            ("p", "/proc"),
            ("s", "/sys/kernel"),
            ("d", "/dev"),
            ("n", "/dev/null"),
        ] {
            symlink(target, tree.join(name)).expect("the tree is ours");
        }
    });
    for place in ["p", "s", "d", "p/sys"] {
        let volume = format!("--volume {}:/{place}", data.display());
        host.cocker(&format!("create -m test,links -c db {volume}"))
            .ok();
        let outcome = host.cocker("boot db");
        if outcome.status.success() {
            // Control for the rest of this test: it is what such a volume would do.
            panic!(
                "/{place} led there: {}",
                host.inside("db", "ls /proc | head -3")
            );
        }
        outcome.fails(1, &["db"]);
        host.cocker("destroy db").ok();
    }
    // Control: who hides a file first and puts a volume over it afterwards has hidden nothing.
    let naive = host.folder("naive").display().to_string();
    let script = format!(
        "mount -t proc proc {naive}; mount --bind /dev/null {naive}/interrupts; head -c 9 {naive}/interrupts; \
         mount --bind /proc {naive}; head -c 40 {naive}/interrupts"
    );
    let seen = host.shell(&format!(
        "unshare -m --propagation private sh -c '{script}'"
    ));
    let seen = seen.succeeds().stdout();
    assert!(seen.contains("CPU"), "{seen}");
}

/// Row 27: whoever may write beside a volume's path swaps it for a link to something that the user did not mean.
fn a_host_path_that_is_swapped_is_opened_once(host: &Host) {
    let (data, secret) = (host.folder("data"), host.folder("secret"));
    let path = data.join("shared");
    fs::create_dir(&path).expect("the folder is ours");
    fs::write(path.join("name"), "shared").expect("the folder is ours");
    fs::write(secret.join("name"), "secret").expect("the folder is ours");
    symlink(&secret, data.join("link")).expect("the folder is ours");
    let volume = format!("--volume {}:/data:ro", path.display());
    host.cocker(&format!("create -m test -c web {volume}")).ok();
    let inode = |path: &Path| fs::metadata(path).expect("it is there").ino();
    let both = [inode(&path), inode(&secret)];
    let (shared, link) = (path.display(), data.join("link"));
    let swap = format!("swap {shared} {} {}", link.display(), tries(100_000));
    let mut attack = Attacker::outside(host, &swap);
    attack.until_prints("begun");
    let mut seen = [0, 0];
    for _ in 0..tries(40) {
        let outcome = host.cocker("boot web");
        if !outcome.status.success() {
            outcome.fails(1, &["web"]);
            continue;
        }
        // Whichever it was, it is that one in every respect: what was looked at is what was mounted.
        let name = host.inside(
            "web",
            "cat /data/name; touch /data/x 2>&1 | grep -c Read-only",
        );
        match name.as_str() {
            "shared1" => seen[0] += 1,
            "secret1" => seen[1] += 1,
            other => panic!("mounted was {other:?}"),
        }
        let root = host.root_process("web");
        let mounted = inode(Path::new(&format!("/proc/{root}/root/data")));
        assert!(both.contains(&mounted));
        host.cocker("kill web").ok();
    }
    let said = attack.outcome().succeeds().stdout();
    assert!(number(&said, "swaps") >= 100_000, "{said}");
    // Control: both were there to be found, and one was found at least.
    assert_ne!(both[0], both[1]);
    assert!(seen[0] + seen[1] > 0);
}
