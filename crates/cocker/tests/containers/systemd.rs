//! A container whose root process is systemd: Debian's own, with the services that it starts by itself.

use crate::host::{Host, eventually, here, in_a_lab};
use rustix::process::{Pid, Signal};
use std::fs;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        systemd_boots_serves_and_shuts_down,
        systemd_leaves_nothing_however_it_ends,
    ]
}

/// By a link: Debian's /sbin/init. In a network of its own, where its services have their usual ports.
#[track_caller]
fn booted(host: &Host) {
    host.add_image_debian();
    host.cocker("create -m debian -c vps --net BRIDGE").ok();
    host.cocker("boot vps -e /sbin/init").ok();
}

/// Waits until systemd has started what it starts; says how that went.
#[track_caller]
fn started(host: &Host) -> String {
    let mut state = String::new();
    // Before it listens, nobody can be asked.
    eventually("systemd has started everything", || {
        state = host.inside(
            "vps",
            "systemctl is-system-running --wait 2>/dev/null; true",
        );
        !matches!(state.as_str(), "" | "offline" | "unknown")
    });
    state
}

/// Whether nothing of it runs, and no cgroup is left.
fn is_gone(host: &Host) -> bool {
    let left = host.what_is_left().join("\n");
    !left.contains("cgroup ") && !left.contains("process ")
}

/// What its root process has written to the console since it was made.
#[track_caller]
fn console(host: &Host) -> String {
    let log = host.home().join("containers/vps/console.log");
    let text = fs::read(log).expect("it has a console");
    String::from_utf8_lossy(&text).into_owned()
}

/// How often systemd has come to the end of a shutdown.
#[track_caller]
fn halts(host: &Host) -> usize {
    console(host).matches("Halting system.").count()
}

fn systemd_boots_serves_and_shuts_down(host: &Host) {
    booted(host);
    let state = started(host);
    let failed = host.inside("vps", "systemctl --failed --plain --no-legend");
    assert_eq!(
        (state.as_str(), failed.as_str()),
        ("running", ""),
        "{}",
        console(host)
    );
    for service in ["cron", "dbus", "ssh", "systemd-journald", "systemd-logind"] {
        let state = host.inside("vps", &format!("systemctl is-active {service}; true"));
        assert_eq!(state, "active", "{service}");
    }
    assert_eq!(
        host.inside("vps", "cat /proc/1/comm /run/systemd/container"),
        "systemd\ncocker"
    );
    // Not that of the image.
    assert_eq!(host.inside("vps", "hostname"), "vps");

    // It has each service in a cgroup of its own, and the limits of all are the host's.
    let cgroup = |unit| format!("cat /proc/$(systemctl show -P MainPID {unit})/cgroup | tail -n 1");
    assert_eq!(
        host.inside("vps", &cgroup("cron")),
        "0::/system.slice/cron.service"
    );
    let own = host.inside("vps", "tail -n 1 /proc/self/cgroup");
    assert_eq!(own, "0::/init.scope");
    if host
        .inside("vps", "cat /sys/fs/cgroup/cgroup.controllers")
        .contains("pids")
    {
        let command = "systemd-run --quiet --wait --pipe -p TasksMax=7 sh -c 'cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/pids.max'";
        assert_eq!(host.inside("vps", command), "7");
        let raise = "echo max > /sys/fs/cgroup/pids.max";
        host.cocker_words(&["run", "vps", "--cmd", raise]).exits(1);
    }

    let mut terminal = host.terminal("attach vps");
    terminal.expect("root@vps:");
    terminal.type_line("systemctl stop cron; systemctl is-active cron");
    terminal.expect("inactive");
    terminal.type_line("exit 0");
    terminal.exits(0);

    // A service that ends only when it is asked has been. It starts nothing for it: systemd asks whatever appears meanwhile, too.
    host.inside(
        "vps",
        "systemd-run --quiet --unit willing sh -c 'trap \"echo > /root/asked; exit\" TERM; touch /root/willing; while :; do sleep 0.1; done'",
    );
    let upper = host.home().join("containers/vps/files/upper");
    eventually("it can hear", || upper.join("root/willing").exists());
    let time = here(Duration::from_secs(18));
    host.cocker(&format!("shutdown vps --timeout {}", time.as_secs()))
        .ok();
    let console = console(host);
    assert!(console.contains("System Shutdown"), "{console}");
    assert_eq!(halts(host), 1, "{console}");
    assert_eq!(host.status("vps"), "STOPPED");
    assert!(upper.join("root/asked").exists());
    eventually("all of it is gone", || is_gone(host));
}

fn systemd_leaves_nothing_however_it_ends(host: &Host) {
    let time = here(Duration::from_secs(18));
    let shutdown = format!("shutdown vps --timeout {}", time.as_secs());
    booted(host);
    // Asked before it listens: it is heard all the same.
    host.cocker(&shutdown).ok();
    assert_eq!(halts(host), 1, "{}", console(host));

    host.cocker("boot vps").ok();
    started(host);
    let supervisor = Pid::from_raw(host.supervisor("vps")).expect("it runs");
    rustix::process::kill_process(supervisor, Signal::KILL).expect("it is ours");
    eventually("it is stopped", || host.status("vps") == "STOPPED");
    eventually("all of it is gone", || is_gone(host));

    // From inside; whoever says so may go down with the others.
    host.cocker("boot vps").ok();
    started(host);
    host.cocker("run vps -- systemctl poweroff");
    eventually("it is stopped", || host.status("vps") == "STOPPED");
    eventually("all of it is gone", || is_gone(host));
    assert!(console(host).contains("Powering off."), "{}", console(host));
}
