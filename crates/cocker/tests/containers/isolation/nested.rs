//! User namespaces inside: what they open is the container's own, and a hardened container has none.

use super::program::{answer, with_attacker};
use crate::host::{Host, with_image_test};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_ordinary_user_inside_may_make_namespaces_and_gains_nothing_by_it,
        a_hardened_container_has_no_user_namespaces_and_few_ways_into_the_kernel,
        hardening_holds_with_any_profile,
    ]
}

fn an_ordinary_user_inside_may_make_namespaces_and_gains_nothing_by_it(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!("create -m test -c web {attacker} -b"))
        .ok();
    let nested = "unshare --user --map-root-user --mount --net --ipc --uts --pid --fork sh -c";
    let as_user = |line: &str| {
        let outcome = host.cocker_words(&[
            "run",
            "web",
            "--user",
            "1000:1000",
            "--",
            "sh",
            "-c",
            &format!("{nested} '{line}' 2>/dev/null; true"),
        ]);
        outcome.succeeds().stdout().trim_end().to_string()
    };
    // What it is for.
    assert_eq!(
        as_user("id -u; hostname below && hostname; mount -t tmpfs t /tmp && echo mounted"),
        "0\nbelow\nmounted"
    );
    assert_eq!(as_user("ip link set lo up && echo up"), "up");
    // What it is not for.
    assert_eq!(
        as_user(
            "/attacker open w /proc/sys/kernel/core_pattern /proc/sysrq-trigger /etc/passwd /root"
        ),
        ""
    );
    assert_eq!(
        as_user("mount -o remount,bind,rw /sys && echo rw; mknod /tmp/x b 8 0 && echo made"),
        ""
    );
    assert_eq!(
        as_user("chown 0:0 /tmp/. && echo ours; cat /etc/shadow"),
        ""
    );
    assert_eq!(
        as_user("kill -0 1 && kill -9 -1; hostname"),
        as_user("hostname")
    );
    assert_eq!(host.inside("web", "hostname"), "web");
}

/// What is tried, and what stands for success.
const WAYS: [(&str, &str); 7] = [
    ("unshare --user --map-root-user echo made", "made"),
    (
        "unshare --user --map-root-user --mount sh -c \"mount -t tmpfs t /mnt && echo mounted\"",
        "mounted",
    ),
    (
        "unshare --user --map-root-user --net sh -c \"ip link set lo up && echo up\"",
        "up",
    ),
    // fsopen, open_tree, clone3 that says what is wrong with its arguments; NETLINK_NETFILTER and AF_KEY of sockets.
    (
        "[ $(/attacker 64 430 s:tmpfs 0) -gt 0 ] && echo made",
        "made",
    ),
    (
        "[ $(/attacker 64 428 -100 s:/ 1) -gt 0 ] && echo made",
        "made",
    ),
    ("[ $(/attacker 64 435 0 0) = -22 ] && echo made", "made"),
    ("[ $(/attacker 64 41 16 3 12) -gt 0 ] && echo made", "made"),
];

fn a_hardened_container_has_no_user_namespaces_and_few_ways_into_the_kernel(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!("create -m test -c web {attacker} --net CUSTOM -b"))
        .ok();
    host.cocker(&format!(
        "create -m test -c hard {attacker} --net CUSTOM --hardened -b"
    ))
    .ok();
    for (way, success) in WAYS {
        let tried = |container: &str| host.inside(container, &format!("({way}) 2>/dev/null; true"));
        assert_eq!(tried("hard"), "", "{way}");
        if way.contains("41 16 3 12") && answer(host, "web", "64 41 16 3 12") == -93 {
            continue; // this kernel has no packet filter
        }
        assert_eq!(tried("web"), success, "{way}");
    }
    // By 32-bit numbers too: unshare, clone, clone3, and any family by socketcall.
    for (call, expected) in [
        ("32 310 268435456", -1),
        ("32 120 268435456 0 0 0 0", -1),
        ("32 435 0 0", -38),
        ("32 102 1 b:12", -38),
        ("32 359 16 3 12", -97),
        ("64 41 15 3 2", -97),
        ("64 272 4563402752", -1),
    ] {
        assert_eq!(answer(host, "hard", call), expected, "{call}");
    }
    // Plain work goes on: commands with threads and pipes, mounts of its own, links, sockets.
    host.inside("hard", "mount -t tmpfs t /mnt && ip link set lo up && ip addr show lo | grep -q LOOPBACK && echo x | cat");
    assert!(answer(host, "hard", "64 41 10 1 0") > 0);
    assert!(answer(host, "hard", "64 41 16 3 0") > 0);
    assert_eq!(
        host.inside("hard", "grep -c Seccomp_filters:.2 /proc/self/status"),
        "1"
    );
    let listing = host.cocker("containers --format json").succeeds().stdout();
    assert!(listing.contains("\"hardened\": true"), "{listing}");
}

fn hardening_holds_with_any_profile(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!(
        "create -m test -c web {attacker} --hardened --seccomp unconfined -b"
    ))
    .ok();
    host.cocker("run web -- unshare --user true").exits(1);
    assert_eq!(answer(host, "web", "32 310 268435456"), -1);
    // x32's numbers of the same calls.
    let unshare = answer(host, "web", "x32 272 268435456");
    assert!(unshare == -1 || unshare == -38, "{unshare}");
}
