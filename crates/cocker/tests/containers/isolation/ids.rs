//! Ids and rights: maps that are as they were made, groups that cannot be dropped to gain by it, nothing inherited.

use super::program::with_attacker;
use crate::host::{Host, with_image_test};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_map_of_ids_is_written_once_and_by_nobody_inside,
        nothing_is_inheritable_and_nothing_ambient,
        keys_of_the_caller_are_not_found,
        capabilities_are_those_that_were_said,
        the_hosts_ids_come_with_few_rights,
        no_new_privileges_are_given_where_that_was_said,
        a_security_profile_needs_a_host_that_has_them,
        odd_isolation_is_refused,
        ids_come_from_what_the_host_gives_root,
    ]
}

fn a_map_of_ids_is_written_once_and_by_nobody_inside(host: &Host) {
    let attacker = with_attacker(host);
    for (name, option) in [("web", ""), ("mighty", "--privileged")] {
        host.cocker(&format!("create -m test -c {name} {attacker} {option} -b"))
            .ok();
    }
    let before = host.inside(
        "web",
        "cat /proc/1/uid_map /proc/1/gid_map /proc/1/setgroups",
    );
    assert!(before.ends_with("allow"), "{before}");
    for map in ["0 0 4294967295", "0 0 1", "65536 0 1"] {
        for file in ["uid_map", "gid_map", "projid_map"] {
            for process in ["1", "self"] {
                let attempt = format!(
                    "(echo '{map}' > /proc/{process}/{file}) 2>/dev/null && echo written; true"
                );
                assert_eq!(host.inside("web", &attempt), "", "{file} of {process}");
            }
        }
    }
    let deny = "(echo deny > /proc/1/setgroups) 2>/dev/null && echo written; true";
    assert_eq!(host.inside("web", deny), "");
    // In a namespace below only ids of the container can be shown, whatever is asked for.
    let below = |file: &str, map: &str| {
        format!(
            "unshare --user sleep 5 & until [ $(readlink /proc/$!/ns/user) != $(readlink /proc/self/ns/user) ]; do :; done; \
             (echo '{map}' > /proc/$!/{file}) 2>/dev/null && echo written; kill $!; true"
        )
    };
    for map in ["0 0 65537", "0 65536 1", "0 1879048192 1"] {
        for file in ["uid_map", "gid_map"] {
            assert_eq!(host.inside("web", &below(file, map)), "", "{map}");
            // Control: where the ids are the host's, the same map is a map, and its ids are the host's.
            assert_eq!(host.inside("mighty", &below(file, map)), "written", "{map}");
        }
    }
    assert_eq!(host.inside("web", &below("uid_map", "0 1000 1")), "written");
    // An ordinary user inside cannot leave a group that keeps it from something: with a group mapped, setgroups is gone.
    let as_user = |line: &str| {
        let words = ["run", "web", "--user", "1000:1000", "--", "sh", "-c", line];
        let outcome = host.cocker_words(&words);
        outcome.succeeds().stdout().trim_end().to_string()
    };
    assert_eq!(as_user(&below("gid_map", "0 1000 1")), "");
    let mapped = "unshare --user --map-root-user cat /proc/self/setgroups";
    assert_eq!(as_user(mapped), "deny");
    // A file that is closed to one group alone: its members do not read it, in no namespace of their own either.
    host.inside(
        "web",
        "echo secret > /srv/closed; chown 0:7 /srv/closed; chmod 604 /srv/closed",
    );
    let as_member = |line: &str| {
        let words = ["run", "web", "--user", "1000:7", "--", "sh", "-c", line];
        host.cocker_words(&words).stdout()
    };
    let leave = "unshare --user --map-root-user sh -c '/attacker 64 116 0 0; /attacker 64 106 0; cat /srv/closed; true'";
    assert_eq!(as_member(leave), "-1\n0\n");
    // Control: who may leave the group, as root may, reads it then.
    assert_eq!(host.inside("web", "/attacker 64 116 0 0"), "0");
    let other = host.cocker("run web --user 1000:1000 -- cat /srv/closed");
    other.succeeds().prints("secret\n");
    let after = host.inside(
        "web",
        "cat /proc/1/uid_map /proc/1/gid_map /proc/1/setgroups",
    );
    assert_eq!(after, before);
}

/// A caller of cocker's with rights that are inheritable and ambient, as a service may have them.
fn nothing_is_inheritable_and_nothing_ambient(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!("create -m test -c web {attacker}"))
        .ok();
    let with_all = "setpriv --inh-caps +chown,+net_raw --ambient-caps +chown,+net_raw";
    let program = super::program::path(host);
    let of_caller = host.shell(&format!("{with_all} {} capabilities", program.display()));
    let of_caller = of_caller.succeeds().stdout();
    assert!(
        !of_caller.contains("CapAmb:\t0000000000000000"),
        "{of_caller}"
    );
    host.shell(&format!("{with_all} cocker boot web"))
        .succeeds();
    let is_clean = |sets: &str| {
        for set in ["CapInh", "CapAmb"] {
            assert!(
                sets.contains(&format!("{set}:\t0000000000000000")),
                "{sets}"
            );
        }
    };
    is_clean(&host.inside("web", "grep ^Cap /proc/1/status"));
    let commands = [
        "cocker run web -- /attacker capabilities",
        "cocker run web --user 1000:1000 -- /attacker capabilities",
        "cocker run web --cmd '/attacker capabilities'",
    ];
    for command in commands {
        is_clean(
            &host
                .shell(&format!("{with_all} {command}"))
                .succeeds()
                .stdout(),
        );
    }
    // Who is not root has no right at all.
    let user = host.cocker("run web --user 1000:1000 -- /attacker capabilities");
    let user = user.succeeds().stdout();
    for set in ["CapPrm", "CapEff"] {
        assert!(
            user.contains(&format!("{set}:\t0000000000000000")),
            "{user}"
        );
    }
    host.cocker("shutdown web").ok();
    host.shell(&format!("{with_all} cocker boot web -e '/bin/sleep 1000'"))
        .succeeds();
    is_clean(&host.inside("web", "grep ^Cap /proc/1/status"));
    host.cocker("kill web").ok();
}

fn keys_of_the_caller_are_not_found(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!(
        "create -m test -c web {attacker} --seccomp unconfined"
    ))
    .ok();
    let program = super::program::path(host);
    let program = program.display();
    // KEYCTL_GET_KEYRING_ID of the session's keyring, without making one.
    let own = host
        .shell(&format!("{program} 64 250 0 -3 0"))
        .succeeds()
        .stdout();
    host.cocker("boot web").ok();
    let inside = host.inside("web", "/attacker 64 250 0 -3 0");
    assert!(inside.parse::<i64>().is_ok_and(|id| id > 0), "{inside}");
    assert_ne!(inside, own.trim());
    // Control: who is started and joins none has the caller's, in namespaces of its own too.
    let naive = host.shell(&format!(
        "unshare --mount --ipc --pid --fork {program} 64 250 0 -3 0"
    ));
    assert_eq!(naive.succeeds().stdout(), own);
    // A namespace of users has keyrings of its own; without one it is the joining alone that keeps the two apart.
    host.cocker(&format!(
        "create -m test -c mighty {attacker} --privileged -b"
    ))
    .ok();
    let privileged = host.inside("mighty", "/attacker 64 250 0 -3 0");
    assert!(
        privileged.parse::<i64>().is_ok_and(|id| id > 0),
        "{privileged}"
    );
    assert_ne!(privileged, own.trim());
    // Each time a new one.
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_ne!(host.inside("web", "/attacker 64 250 0 -3 0"), inside);
}

fn bounding(host: &Host, container: &str) -> u64 {
    let sets = host.inside(container, "/attacker capabilities");
    let bounding = sets.lines().find_map(|line| line.strip_prefix("CapBnd:\t"));
    u64::from_str_radix(bounding.expect("it is there"), 16).expect("a number")
}

fn capabilities_are_those_that_were_said(host: &Host) {
    let attacker = with_attacker(host);
    let booted = |name: &str, options: &str| {
        host.cocker(&format!("create -m test -c {name} {attacker} {options} -b"))
            .ok();
        bounding(host, name)
    };
    let all = booted("web", "");
    assert_eq!(all.trailing_ones(), all.count_ones());
    assert_eq!(
        booted("less", "--cap-drop SYS_ADMIN,net_raw"),
        all & !(1 << 21) & !(1 << 13)
    );
    host.cocker("run less -- mount -t tmpfs none /mnt")
        .exits(32);
    host.cocker("run web -- mount -t tmpfs none /mnt")
        .succeeds();
    let kept = "--cap-drop ALL --cap-add CAP_CHOWN --cap-add SETUID,SETGID";
    assert_eq!(booted("few", kept), 1 | 1 << 6 | 1 << 7);
    host.cocker("run few --user 1000:1000 -- true").succeeds();
    host.cocker("run few -- hostname other").exits(1);
    let listing = host.cocker("containers --format json").succeeds().stdout();
    for word in ["\"ALL\"", "\"CHOWN\"", "\"SYS_ADMIN\""] {
        assert!(listing.contains(word), "{listing}");
    }
}

fn the_hosts_ids_come_with_few_rights(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!(
        "create -m test -c web {attacker} --userns host -b"
    ))
    .ok();
    assert!(
        host.inside("web", "cat /proc/self/uid_map")
            .ends_with("4294967295")
    );
    let rights = bounding(host, "web");
    assert_eq!(rights.count_ones(), 13);
    assert_eq!(rights & 1 << 21, 0, "SYS_ADMIN is there");
    for command in [
        "mount -t tmpfs none /mnt",
        "mount -t proc proc /mnt",
        "hostname other",
        "mknod /tmp/null c 1 3",
        "chroot / mount -o remount,rw /proc/sys",
        "ip link add x type dummy",
    ] {
        let outcome = host.cocker(&format!("run web -- {command}"));
        assert_ne!(outcome.status.code(), Some(0), "{command}: {outcome}");
    }
    let table = host.cocker("containers").succeeds().stdout();
    assert!(table.contains(" HOST-IDS"), "{table}");
    host.cocker("create -m test -c more --userns host --cap-add SYS_ADMIN -b")
        .ok();
    host.cocker("run more -- mount -t tmpfs none /mnt")
        .succeeds();
}

fn no_new_privileges_are_given_where_that_was_said(host: &Host) {
    host.cocker("create -m test -c web --no-new-privs -b").ok();
    host.cocker("create -m test -c usual -b").ok();
    let set_id = "cp /bin/id /tmp/id 2>/dev/null || cp /usr/bin/id /tmp/id; chmod 4755 /tmp/id";
    for name in ["web", "usual"] {
        host.inside(name, set_id);
    }
    let effective = |name: &str| {
        let outcome = host.cocker(&format!("run {name} --user 1000:1000 -- /tmp/id -u"));
        outcome.succeeds().stdout().trim().to_string()
    };
    assert_eq!(
        (effective("web"), effective("usual")),
        ("1000".into(), "0".into())
    );
}

fn a_security_profile_needs_a_host_that_has_them(host: &Host) {
    let has_apparmor = fs::read_to_string("/sys/kernel/security/apparmor/profiles").is_ok();
    let has_selinux = fs::exists("/sys/fs/selinux/enforce").unwrap_or(false);
    let created = host.cocker("create -m test -c web --security no-such-profile-of-cockers-tests");
    if has_selinux && !has_apparmor {
        // SELinux says so at the boot only.
        created.ok();
        host.cocker("boot web").fails(1, &["web"]);
        assert_eq!(host.status("web"), "STOPPED");
        return;
    }
    let why = match has_apparmor {
        true => "the host has none of that name loaded",
        false => "neither AppArmor nor SELinux",
    };
    created.fails(1, &["web", why, "Hint: "]);
    host.cocker("containers").succeeds().prints("");
}

fn odd_isolation_is_refused(host: &Host) {
    for (options, expected) in [
        ("--cap-add ROOT", "ROOT"),
        ("--cap-drop NET_ADMIN,", "--cap-drop"),
        ("--userns mine", "mine"),
        ("--userns host --privileged", "exclude"),
        ("--seccomp ''", "--seccomp"),
        ("--security ''", "--security"),
        ("--cap-add", "--cap-add"),
    ] {
        host.cocker(&format!("create -m test -c web {options}"))
            .fails(2, &[expected]);
        host.cocker(&format!("-a create -m test -c web {options}"))
            .fails(2, &[expected]);
    }
    host.cocker("containers").succeeds().prints("");
    host.cocker("create -m test -c web").ok();
    host.cocker("boot web").ok();
    host.cocker("set-isolation web --hardened")
        .fails(1, &["web", "booted", "Hint: "]);
    host.cocker("-a set_isolation -c nobody --hardened")
        .fails(1, &["nobody"]);
}

/// The files that say which ids are root's to give, as this host's for one line of a shell.
fn with_subordinate_ids(host: &Host, lines: &str, line: &str) -> crate::host::Outcome {
    let file = host.folder("ids").join("subid");
    fs::write(&file, lines).expect("the folder is ours");
    for place in ["/etc/subuid", "/etc/subgid"] {
        assert!(
            fs::exists(place).is_ok_and(|is| is),
            "{place} is missing: package passwd has it"
        );
    }
    let bind = format!(
        "mount --bind {0} /etc/subuid && mount --bind {0} /etc/subgid",
        file.display()
    );
    host.shell(&format!(
        "unshare --mount --propagation private sh -c '{bind} && {line}'"
    ))
}

fn ids_come_from_what_the_host_gives_root(host: &Host) {
    let given = "calvin:100000:65536\nroot:3000000:131072\n";
    let create =
        |name: &str| with_subordinate_ids(host, given, &format!("cocker create -m test -c {name}"));
    create("one").ok();
    create("two").ok();
    create("three").fails(
        1,
        &[
            "three",
            "all 2 ranges of 65536 host ids are taken",
            "Hint: ",
            "/etc/subuid",
        ],
    );
    let first = |name: &str| {
        host.cocker(&format!("boot {name}")).ok();
        let map = host.inside(name, "cat /proc/self/uid_map /proc/self/gid_map");
        let firsts: Vec<&str> = map
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .collect();
        assert_eq!(firsts[0], firsts[1]);
        firsts[0].to_string()
    };
    // What was given stays, whatever the files say at the boot.
    assert_eq!(
        (first("one"), first("two")),
        ("3000000".into(), "3065536".into())
    );
    host.cocker("destroy one --shutdown").ok();
    create("three").ok();
    assert_eq!(first("three"), "3000000");
    host.cocker("check").succeeds();
    // Where they say nothing, those of always.
    with_subordinate_ids(host, "", "cocker create -m test -c four").ok();
    let always = first("four");
    assert!(always.starts_with("1879"), "{always}");
}
