//! System calls that reach the kernel all share: in no container but one without a filter, by none of the machine's
//! interfaces.

use super::program::{answer, with_attacker};
use crate::host::{Host, eventually, with_image_test};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        what_reaches_the_shared_kernel_is_forbidden_by_every_interface,
        x32_is_a_way_to_nothing,
        a_restarted_call_is_none_of_its_own,
        an_unknown_call_is_missing,
        sockets_of_the_kernels_cryptography_and_of_virtual_machines_are_missing,
        input_is_pushed_into_no_terminal,
        a_new_user_namespace_by_clone3_gives_nothing_over_the_container,
        reboot_ends_the_container_and_nothing_else,
        a_profile_decides_instead_and_is_remembered,
        a_bad_profile_is_refused_and_changes_nothing,
        the_filter_is_on_whoever_is_started_and_however,
    ]
}

const EPERM: i64 = -1;
const ENOSYS: i64 = -38;
const EAFNOSUPPORT: i64 = -97;

/// Called so that nothing happens even where it is allowed: of what is wrong with the arguments the kernel speaks only to
/// whom it would let do it. By 64-bit and 32-bit numbers; none where there is no such call.
const FORBIDDEN: &[(&str, Option<u32>, Option<u32>, &str)] = &[
    ("kexec_load", Some(246), Some(283), "0 99 0 0"),
    ("kexec_file_load", Some(320), None, "-1 -1 0 0 0"),
    ("init_module", Some(175), Some(128), "0 0 0"),
    ("finit_module", Some(313), Some(350), "-1 s: 0"),
    (
        "delete_module",
        Some(176),
        Some(129),
        "s:cocker_no_such_module 0",
    ),
    ("bpf", Some(321), Some(357), "9999 0 0"),
    ("perf_event_open", Some(298), Some(336), "0 0 -1 -1 0"),
    ("add_key", Some(248), Some(286), "0 0 0 0 0"),
    ("request_key", Some(249), Some(287), "0 0 0 0"),
    ("keyctl", Some(250), Some(288), "0 -3 0"),
    ("userfaultfd", Some(323), Some(374), "0"),
    ("io_uring_setup", Some(425), Some(425), "0 0"),
    ("io_uring_enter", Some(426), Some(426), "-1 0 0 0"),
    ("io_uring_register", Some(427), Some(427), "-1 0 0 0"),
    ("vmsplice", Some(278), Some(316), "-1 0 0 0"),
    ("settimeofday", Some(164), Some(79), "0 0"),
    ("clock_settime", Some(227), Some(264), "0 0"),
    ("clock_settime64", None, Some(404), "0 0"),
    ("stime", None, Some(25), "0"),
    ("swapon", Some(167), Some(87), "s:/no-such-file 0"),
    ("swapoff", Some(168), Some(115), "s:/no-such-file"),
    ("acct", Some(163), Some(51), "s:/no-such-file"),
    ("quotactl", Some(179), Some(131), "-1 0 0 0"),
    ("quotactl_fd", Some(443), Some(443), "-1 -1 0 0"),
    ("open_by_handle_at", Some(304), Some(342), "-1 0 0"),
    ("iopl", Some(172), Some(110), "9"),
    ("ioperm", Some(173), Some(101), "99999 1 1"),
    ("lookup_dcookie", Some(212), Some(253), "0 0 0"),
    ("syslog", Some(103), Some(103), "10 0 0"),
    ("migrate_pages", Some(256), Some(294), "-1 0 0 0"),
    ("move_pages", Some(279), Some(317), "-1 0 0 0 0 0"),
];

/// A default container, one without a filter, and one that is privileged: each with the attacker.
fn three(host: &Host) {
    let attacker = with_attacker(host);
    for (name, option) in [
        ("web", ""),
        ("open", "--seccomp unconfined"),
        ("mighty", "--privileged"),
    ] {
        host.cocker(&format!("create -m test -c {name} {attacker} {option} -b"))
            .ok();
    }
}

/// All answers to lines of `INTERFACE NUMBER ARGUMENTS`, from one command.
fn answers(host: &Host, container: &str, calls: &[String]) -> Vec<i64> {
    let lines: Vec<String> = calls
        .iter()
        .map(|call| format!("/attacker {call}"))
        .collect();
    let text = host.inside(container, &lines.join("; "));
    text.lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

fn what_reaches_the_shared_kernel_is_forbidden_by_every_interface(host: &Host) {
    three(host);
    let calls = FORBIDDEN
        .iter()
        .flat_map(|(name, wide, narrow, arguments)| {
            let wide = wide.map(|number| (*name, format!("64 {number} {arguments}")));
            let narrow = narrow.map(|number| (*name, format!("32 {number} {arguments}")));
            wide.into_iter().chain(narrow)
        });
    let (names, calls): (Vec<&str>, Vec<String>) = calls.unzip();
    let kept = answers(host, "web", &calls);
    let (open, mighty) = (
        answers(host, "open", &calls),
        answers(host, "mighty", &calls),
    );
    assert_eq!((kept.len(), mighty.len()), (calls.len(), calls.len()));
    let mut reached = 0;
    for (place, name) in names.iter().enumerate() {
        let call = &calls[place];
        assert_eq!(kept[place], EPERM, "{name}: {call}");
        // Control: without the filter the kernel itself is asked of each: it speaks of the arguments, or has no such call.
        assert_ne!(mighty[place], EPERM, "{name}: {call} without a filter");
        let is_asked = |answer: i64| answer != EPERM && answer != ENOSYS;
        reached += usize::from(is_asked(mighty[place]) || is_asked(open[place]));
    }
    assert!(
        reached >= calls.len() / 2,
        "without a filter only {reached} of {} reach the kernel: {mighty:?}",
        calls.len()
    );
}

fn x32_is_a_way_to_nothing(host: &Host) {
    three(host);
    // getpid, execve, ioctl of its own table, kexec_load, and the plain number of a call that only x32 has.
    for call in [
        "x32 39",
        "x32 520 0 0 0",
        "x32 514 0 21522 0",
        "x32 528 0 0 0 0",
        "64 520 0 0 0",
    ] {
        assert_eq!(answer(host, "web", call), ENOSYS, "{call}");
    }
    assert!(answer(host, "web", "64 39") > 0);
    // Control: a filter is asked for such a number before the kernel is, which may have none of them: another filter answers
    // otherwise. Without any, a kernel that has them executes the call.
    let getpid = r#"{"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}"#;
    let (file, attacker) = (profile(host, "getpid.json", getpid), with_attacker(host));
    host.cocker(&format!(
        "create -m test -c other {attacker} --seccomp {file} -b"
    ))
    .ok();
    assert_eq!(answer(host, "other", "x32 39"), -28);
    let open = answer(host, "open", "x32 39");
    assert!(open > 0 || open == ENOSYS, "{open}");
}

/// A call that goes on after a stop is one that the filter has let through before: by itself it is none.
fn a_restarted_call_is_none_of_its_own(host: &Host) {
    const EINTR: i64 = -4;
    three(host);
    for container in ["web", "open"] {
        for call in ["64 219", "32 0"] {
            assert_eq!(answer(host, container, call), EINTR, "{call}");
        }
    }
    // Control: it is the filter that lets it, and clone3, through.
    let none =
        r#"{"names": ["restart_syscall", "clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}"#;
    let (file, attacker) = (profile(host, "restart.json", none), with_attacker(host));
    host.cocker(&format!(
        "create -m test -c other {attacker} --seccomp {file} -b"
    ))
    .ok();
    for call in ["64 219", "32 0", "64 435 0 0", "32 435 0 0"] {
        assert_eq!(answer(host, "other", call), -28, "{call}");
    }
}

fn an_unknown_call_is_missing(host: &Host) {
    three(host);
    for call in [
        "64 600", "64 1023", "64 99999", "32 600", "32 4000", "64 181", "32 17",
    ] {
        assert_eq!(answer(host, "web", call), ENOSYS, "{call}");
    }
    // What it answers is not what happens to it: the process goes on.
    assert_eq!(
        host.inside("web", "/attacker 64 600; echo goes on"),
        "-38\ngoes on"
    );
}

fn sockets_of_the_kernels_cryptography_and_of_virtual_machines_are_missing(host: &Host) {
    three(host);
    // With something in the upper half of the word, which the kernel does not look at, too.
    for family in ["38", "40", "4294967334", "-4294967256"] {
        assert_eq!(
            answer(host, "web", &format!("64 41 {family} 5 0")),
            EAFNOSUPPORT,
            "{family}"
        );
    }
    assert_eq!(answer(host, "web", "32 359 38 5 0"), EAFNOSUPPORT);
    // By socketcall, where the family lies in memory.
    assert_eq!(answer(host, "web", "32 102 1 b:12"), ENOSYS);
    assert!(answer(host, "open", "32 102 1 b:12") != ENOSYS);
    // Plain ones are there.
    assert!(answer(host, "web", "64 41 2 1 0") > 0);
    assert!(answer(host, "web", "32 359 1 1 0") > 0);
}

fn input_is_pushed_into_no_terminal(host: &Host) {
    three(host);
    let pushed = |container: &str| {
        let mut terminal = host.terminal(&format!("attach {container}"));
        terminal.expect("[root@");
        // TIOCSTI, of the letter in zeroed memory, and TIOCLINUX; plain, and with something in the upper half.
        terminal.type_line(
            "for r in 21522 4294988818 21532 4294988828; do /attacker 64 16 0 $r b:8; done; echo the $((1 + 1))nd",
        );
        let shown = terminal.expect("the 2nd\r\n");
        terminal.type_line("exit");
        terminal.exits(0);
        shown
    };
    let kept = pushed("web");
    assert_eq!(kept.matches("-1\r\n").count(), 4, "{kept}");
    // Without the filter it is the kernel's to say, which may refuse it too (dev.tty.legacy_tiocsti).
    let open = pushed("open");
    assert!(!open.contains("-1\r\n"), "{open}");
    // TIOCLINUX is for a virtual console, which a session's terminal is not: ENOTTY.
    assert_eq!(open.matches("-25\r\n").count(), 2, "{open}");
}

fn a_new_user_namespace_by_clone3_gives_nothing_over_the_container(host: &Host) {
    three(host);
    // unshare(1) makes one as root, and in it everything of the host's stays out of reach.
    let inside = "unshare --user --map-root-user --mount sh -c";
    let attempts = "mount -t proc proc /mnt && echo proc; mount -t sysfs sysfs /mnt && echo sysfs; \
                    umount /proc/sys && echo uncovered; mount -o remount,bind,rw /proc/sys && echo writable; \
                    mknod /tmp/disk b 8 0 && echo disk; true";
    let shown = host.inside("web", &format!("({inside} '{attempts}') 2>/dev/null"));
    assert_eq!(shown, "");
    // Control: where the ids are the host's, the same attempts come to something.
    let privileged = format!("(unshare --mount sh -c '{attempts}') 2>/dev/null");
    let shown = host.inside("mighty", &privileged);
    for word in ["proc", "sysfs", "disk"] {
        assert!(shown.lines().any(|line| line == word), "{shown}");
    }
    // clone3 is there, and says what is wrong with its arguments.
    assert_eq!(answer(host, "web", "64 435 0 0"), -22);
}

fn reboot_ends_the_container_and_nothing_else(host: &Host) {
    three(host);
    // With its two magic numbers: off, restart, halt.
    for command in [0x4321_fedc_u32, 0x0123_4567, 0xcdef_0123] {
        host.cocker(&format!(
            "run web -- /attacker 64 169 4276215469 672274793 {command}"
        ));
        eventually("the container has ended", || {
            host.status("web") == "STOPPED"
        });
        host.cocker("boot web").ok();
    }
    assert_eq!(host.inside("open", "echo lives"), "lives");
}

/// A profile that allows everything but what is said.
fn profile(host: &Host, name: &str, entries: &str) -> String {
    let file = host.folder("profiles").join(name);
    let json = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{{"architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}}], "syscalls": [{entries}]}}"#
    );
    fs::write(&file, json).expect("the folder is ours");
    file.display().to_string()
}

fn a_profile_decides_instead_and_is_remembered(host: &Host) {
    let no_mkdir = r#"{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}"#;
    let file = profile(host, "no-mkdir.json", no_mkdir);
    let attacker = with_attacker(host);
    host.cocker(&format!(
        "create -m test -c web {attacker} --seccomp {file} -b"
    ))
    .ok();
    let refused = host.cocker("run web -- mkdir /tmp/new");
    assert!(
        refused.stderr.contains("No space left on device"),
        "{refused}"
    );
    // By the other interface too, and what the usual filter forbids is the kernel's to say.
    assert_eq!(answer(host, "web", "32 39 s:/tmp/new 511"), -28);
    assert!(answer(host, "web", "64 323 0") != ENOSYS);
    let listing = host.cocker("containers --format json").succeeds().stdout();
    assert!(listing.contains(&file), "{listing}");
    // The file is not needed any more.
    fs::remove_file(&file).expect("it is ours");
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(answer(host, "web", "64 83 s:/tmp/new 511"), -28);
    host.cocker("shutdown web").ok();
    host.cocker("set-isolation web").ok();
    host.cocker("boot web").ok();
    assert_eq!(answer(host, "web", "64 83 s:/tmp/new 511"), 0);
    assert_eq!(answer(host, "web", "64 323 0"), EPERM);
}

fn a_bad_profile_is_refused_and_changes_nothing(host: &Host) {
    let bad = profile(
        host,
        "bad.json",
        r#"{"names": ["mkdir"], "action": "SCMP_ACT_PERMIT"}"#,
    );
    let refused = host.cocker(&format!("create -m test -c web --seccomp {bad}"));
    refused.fails(
        1,
        &[
            "web",
            &bad,
            "entry 1 (mkdir) has action `SCMP_ACT_PERMIT`",
            "Hint: ",
        ],
    );
    host.cocker("containers").succeeds().prints("");
    let notify = profile(
        host,
        "notify.json",
        r#"{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}"#,
    );
    host.cocker("create -m test -c web --seccomp unconfined")
        .ok();
    for file in [
        notify.as_str(),
        bad.as_str(),
        "/no/such/file",
        "/dev/null",
        "/",
    ] {
        host.cocker(&format!("set-isolation web --seccomp {file}"))
            .fails(1, &["web", file]);
    }
    let listing = host.cocker("containers --format json").succeeds().stdout();
    assert!(listing.contains("\"seccomp\": \"unconfined\""), "{listing}");
    host.cocker("set-isolation web --seccomp")
        .fails(2, &["--seccomp"]);
}

fn the_filter_is_on_whoever_is_started_and_however(host: &Host) {
    let attacker = with_attacker(host);
    host.cocker(&format!("create -m test -c web {attacker} -b"))
        .ok();
    let filters = "grep -E '^(Seccomp|NoNewPrivs)' /proc/self/status";
    let expected = "NoNewPrivs:\t0\nSeccomp:\t2\nSeccomp_filters:\t1";
    assert_eq!(host.inside("web", filters), expected);
    assert_eq!(host.inside("web", &filters.replace("self", "1")), expected);
    let outcome = host.cocker(&format!("run web --user 1000:1000 -- {filters}"));
    assert_eq!(outcome.succeeds().stdout().trim_end(), expected);
    let mut terminal = host.terminal("attach web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("grep -c 'Seccomp:.2' /proc/self/status");
    terminal.expect("\r\n1\r\n");
    terminal.type_line("exit");
    terminal.exits(0);
    host.cocker("shutdown web").ok();
    // And on a root process of one's own, with the init beside it.
    host.cocker("boot web -e '/bin/sleep 1000'").ok();
    for process in ["1", "self"] {
        assert_eq!(
            host.inside("web", &filters.replace("self", process)),
            expected
        );
    }
    host.cocker("kill web").ok();
}
