//! Containers of BRIDGE that end, or never begin, otherwise than they should: nothing of the network is left, and the
//! next boot works.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, at_every_moment, eventually, in_a_lab};
use rustix::process::{Pid, Signal};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_boot_after_the_supervisor_was_killed_works,
        a_boot_after_the_root_process_was_killed_works,
        a_container_whose_supervisor_was_killed_is_destroyed_whole,
        a_port_of_a_container_that_crashed_is_free,
        everything_killed_at_once_is_cleared_away,
        a_boot_that_fails_leaves_nothing_in_the_network,
        a_boot_whose_client_is_killed_at_any_moment_leaves_nothing_in_the_network,
        a_custom_namespace_outlives_a_crash,
        a_damaged_container_gives_up_its_address_and_its_ports,
        a_create_that_is_killed_at_any_moment_leaves_no_address_taken,
    ]
}

const OPTIONS: &str = "--port-mapping 8080:80,8053:53/udp";

/// Kills a process of the test's own container, by its pid.
#[track_caller]
fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a pid is above zero");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
}

/// Asserts that the network of booted container `web` does all it should.
#[track_caller]
fn works(host: &Host) {
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:53/udp"),
        host.serve(Outside, "0.0.0.0:7000"),
    ];
    for target in ["10.99.0.1:8080", "10.99.0.1:8053/udp"] {
        assert_eq!(host.reaches(Outside, target, "web"), "10.99.0.2");
    }
    host.reaches(OnHost, "127.0.0.1:8080", "web");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

/// Waits until a dead container is seen as stopped, and then nothing of it is in the network.
#[track_caller]
fn is_cleared_away(host: &Host) {
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    eventually("the container is stopped", || {
        host.status("web") == "STOPPED"
    });
    // It is stopped before all of that is removed.
    eventually("its namespace is not pinned", || !host.is_pinned("web"));
    eventually("the table does not name it", || {
        !host.table_names("166.88.0.2")
    });
    eventually("the host has no port of a container", || {
        host.bridge_ports().is_empty()
    });
}

fn a_boot_after_the_supervisor_was_killed_works(host: &Host) {
    host.booted_on_bridge("web", OPTIONS);
    for _ in 0..3 {
        works(host);
        kill(host.supervisor("web"));
        // At once: what is left of the old one must not be in the way of the new one.
        eventually("the container's processes are gone", || {
            host.contained().is_empty()
        });
        host.cocker("boot web").ok();
    }
    works(host);
}

fn a_boot_after_the_root_process_was_killed_works(host: &Host) {
    host.booted_on_bridge("web", OPTIONS);
    for _ in 0..3 {
        works(host);
        kill(host.root_process("web"));
        is_cleared_away(host);
        host.cocker("boot web").ok();
    }
    works(host);
}

fn a_container_whose_supervisor_was_killed_is_destroyed_whole(host: &Host) {
    host.booted_on_bridge("web", OPTIONS);
    host.netns("web");
    kill(host.supervisor("web"));
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    host.cocker("destroy web").ok();
    host.nothing_is_left();
}

fn a_port_of_a_container_that_crashed_is_free(host: &Host) {
    host.booted_on_bridge("web", OPTIONS);
    host.created_on_bridge("next", OPTIONS);
    kill(host.supervisor("web"));
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    // The dead one is not asked for, nor listed: who is in the way is found by what it left.
    host.cocker("boot next").ok();
    let _next = host.serve(Inside("next"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "next"), "10.99.0.2");
    host.cocker("boot web").fails(1, &["web", "8080", "next"]);
}

fn everything_killed_at_once_is_cleared_away(host: &Host) {
    let names = ["a", "b", "c", "d"];
    for name in names {
        host.booted_on_bridge(name, "");
    }
    host.booted_on_bridge("web", OPTIONS);
    let pids: Vec<i32> = names
        .iter()
        .chain(["web"].iter())
        .flat_map(|name| [host.supervisor(name), host.root_process(name)])
        .collect();
    for pid in pids {
        // A root process dies with its supervisor, so it may be gone already.
        let pid = Pid::from_raw(pid).expect("a pid is above zero");
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    is_cleared_away(host);
    assert!(!host.table_names("166.88.0."), "{}", host.lab().report());
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "web"), "10.99.0.2");
}

fn a_boot_that_fails_leaves_nothing_in_the_network(host: &Host) {
    let data = host.folder("data");
    host.created_on_bridge(
        "web",
        &format!("{OPTIONS} --volume {}:/data", data.display()),
    );
    // The root process is the last that a boot makes; a volume is made before the network.
    host.cocker("boot web -e /no/such/program")
        .fails(1, &["web", "/no/such/program"]);
    is_cleared_away(host);
    fs::remove_dir(&data).expect("the folder is ours");
    host.cocker("boot web").fails(1, &["cannot open volume"]);
    is_cleared_away(host);
    fs::create_dir(&data).expect("the place is ours");
    // A port that is taken is found when all others are there.
    let program = host.serve(OnHost, "0.0.0.0:8053/udp");
    host.cocker("boot web").fails(1, &["web", "8053"]);
    drop(program);
    is_cleared_away(host);
    host.cocker("boot web").ok();
    works(host);
}

/// The client is killed after ever longer times, from before it has read its arguments to after it is done.
fn a_boot_whose_client_is_killed_at_any_moment_leaves_nothing_in_the_network(host: &Host) {
    host.created_on_bridge("web", OPTIONS);
    let mut round = 0;
    at_every_moment(|moment| {
        let was_killed = host.killed_after("boot web", moment);
        host.settles("web");
        is_cleared_away(host);
        host.cocker("boot web").ok();
        round += 1;
        if round % 8 == 0 {
            works(host);
        }
        host.cocker("kill web").ok();
        was_killed
    });
    host.cocker("destroy web").ok();
    host.nothing_is_left();
}

fn a_damaged_container_gives_up_its_address_and_its_ports(host: &Host) {
    host.booted_on_bridge(
        "web",
        "--vip 166.88.0.9 --port-mapping 8080:80,9000-9400:9000-9400",
    );
    let settings = host.home().join("containers/web/container.json");
    let root_process = host.root_process("web");
    fs::write(&settings, "{").expect("the store is ours");
    kill(root_process);
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    host.cocker("destroy web -f").ok();
    host.booted_on_bridge("web", &format!("--vip 166.88.0.9 {OPTIONS}"));
    works(host);
}

fn a_custom_namespace_outlives_a_crash(host: &Host) {
    host.cocker("create -m test -c web --net CUSTOM -b").ok();
    host.inside("web", "ip link set lo up && ip addr add 10.5.0.1/32 dev lo");
    kill(host.supervisor("web"));
    eventually("the container's processes are gone", || {
        host.contained().is_empty()
    });
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "lo"), "10.5.0.1/32");
    kill(host.root_process("web"));
    eventually("the container is stopped", || {
        host.status("web") == "STOPPED"
    });
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "lo"), "10.5.0.1/32");
}

fn a_create_that_is_killed_at_any_moment_leaves_no_address_taken(host: &Host) {
    for net in ["BRIDGE", "CUSTOM"] {
        let line = format!("create -m test -c web --net {net}");
        at_every_moment(|moment| {
            let was_killed = host.killed_after(&line, moment);
            // Made or not made, the name is free again, and with it all that was taken for it.
            let listing = host.cocker("-s containers -q").succeeds().stdout();
            if listing == "web\n" {
                host.netns("web");
                host.cocker("destroy web").ok();
            }
            host.created_on_bridge("web", "--vip 166.88.0.2");
            host.cocker("destroy web").ok();
            was_killed
        });
    }
    host.nothing_is_left();
}
