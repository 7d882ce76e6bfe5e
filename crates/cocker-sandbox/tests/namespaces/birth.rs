//! What a root process is born in, and whose child it is.

use crate::Test;
use crate::booted::{Booted, RANGE, Stock, identity, status};
use crate::making::pin;
use cocker_sandbox::{Namespaces, NetworkNamespace, SandboxError};
use std::fs;
use std::process;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = crate::tests![
    the_hosts_network_is_the_hosts,
    a_new_network_belongs_to_the_root_inside_and_is_what_sys_shows,
    a_pinned_network_and_its_owner_serve_one_boot_after_another,
    a_privileged_sandbox_has_a_network_of_its_own_and_the_hosts_ids,
    the_root_process_is_the_supervisors_child_and_nobody_else_is_left,
    a_network_that_cannot_be_entered_is_named,
];

fn ours(kind: &str) -> (u64, u64) {
    let path = format!("/proc/self/ns/{kind}");
    identity(fs::File::open(path).expect("/proc is mounted"))
}

fn devices(booted: &Booted) -> Vec<String> {
    let entries = fs::read_dir(booted.path("/sys/class/net")).expect("/sys is mounted");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("it is read");
        entry.file_name().to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

fn owner(booted: &Booted, kind: &str) -> (u64, u64) {
    let path = format!("/proc/{}/ns/{kind}", booted.pid);
    let namespace = fs::File::open(path).expect("it waits");
    let namespace = rustix::fd::AsFd::as_fd(&namespace);
    identity(cocker_sys::namespace::owner(namespace).expect("it is below us"))
}

fn the_hosts_network_is_the_hosts() {
    let stock = Stock::new(|_| {});
    let booted = Booted::new(stock.plan(NetworkNamespace::Host));
    assert!(booted.spawned.network().is_none());
    assert_eq!(booted.namespace("net"), ours("net"));
    for kind in ["user", "mnt", "pid", "uts", "ipc", "cgroup"] {
        assert_ne!(booted.namespace(kind), ours(kind), "{kind} is the host's");
    }
    for kind in ["mnt", "pid", "uts", "ipc", "cgroup"] {
        assert_eq!(owner(&booted, kind), booted.namespace("user"), "{kind}");
    }
}

fn a_new_network_belongs_to_the_root_inside_and_is_what_sys_shows() {
    let stock = Stock::new(|_| {});
    let before = ours("net");
    let booted = Booted::new(stock.plan(NetworkNamespace::New));
    assert_eq!(ours("net"), before, "we did not come back");
    let network = booted.spawned.network().expect("it has one");
    assert_eq!(booted.namespace("net"), identity(network));
    assert_ne!(booted.namespace("net"), before);
    assert_eq!(owner(&booted, "net"), booted.namespace("user"));
    assert_eq!(devices(&booted), ["lo"]);
    assert_eq!(status(booted.pid, "Uid:"), RANGE.first.0 as i32);
    assert_eq!(status(booted.pid, "Gid:"), RANGE.first.0 as i32);
    let map = fs::read_to_string(format!("/proc/{}/uid_map", booted.pid)).expect("it waits");
    let map: Vec<&str> = map.split_whitespace().collect();
    assert_eq!(map, ["0", &RANGE.first.0.to_string(), "65536"]);
}

fn a_pinned_network_and_its_owner_serve_one_boot_after_another() {
    let made = Namespaces::make(Some(RANGE), true).expect("we are root");
    let network = made.network().expect("it was asked for");
    for _ in 0..2 {
        let stock = Stock::new(|_| {});
        let booted = Booted::new(stock.plan(NetworkNamespace::Pinned(pin(network))));
        assert_eq!(booted.namespace("net"), identity(network));
        let user = made.user().expect("it was asked for");
        assert_eq!(booted.namespace("user"), identity(user));
        assert_eq!(devices(&booted), ["lo"]);
    }
}

fn a_privileged_sandbox_has_a_network_of_its_own_and_the_hosts_ids() {
    let stock = Stock::new(|_| {});
    let mut plan = stock.plan(NetworkNamespace::New);
    plan.ids = None;
    let booted = Booted::new(plan);
    assert_eq!(booted.namespace("user"), ours("user"));
    assert_ne!(booted.namespace("net"), ours("net"));
    assert_ne!(booted.namespace("mnt"), ours("mnt"));
    assert_eq!(devices(&booted), ["lo"]);
    assert_eq!(status(booted.pid, "Uid:"), 0);
}

fn the_root_process_is_the_supervisors_child_and_nobody_else_is_left() {
    let stock = Stock::new(|_| {});
    let plan = stock.plan(NetworkNamespace::New);
    let cgroup = cocker_sandbox::Cgroup::at(&plan.cgroup);
    let booted = Booted::new(plan);
    let supervisor = status(booted.pid, "PPid:");
    assert_eq!(status(supervisor, "PPid:"), process::id() as i32);
    let children = |pid: i32| {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(path).expect("it runs");
        let pids = text.split_whitespace().map(|pid| pid.parse::<i32>());
        pids.collect::<Result<Vec<_>, _>>().expect("numbers")
    };
    // Whoever has helped may be a zombie for a moment longer.
    let end = Instant::now() + Duration::from_secs(20);
    while children(supervisor) != [booted.pid] && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(children(supervisor), [booted.pid]);
    assert_eq!(children(process::id() as i32), [supervisor]);
    if cgroup.is_available() {
        let members = cgroup.members().expect("it is there");
        assert_eq!(members, [booted.spawned.root_process()]);
    }
    drop(booted);
    assert_eq!(cgroup.members(), Ok(vec![]));
    assert_eq!(children(process::id() as i32), [] as [i32; 0]);
}

fn a_network_that_cannot_be_entered_is_named() {
    let stock = Stock::new(|_| {});
    let plan = stock.plan(NetworkNamespace::Pinned("/no/such/pin".into()));
    let refused = Booted::try_new(plan).err().expect("there is no pin");
    assert!(matches!(refused, SandboxError::OpenNetwork { .. }));
    assert!(refused.to_string().contains("/no/such/pin"), "{refused}");
    let made = Namespaces::make(None, true).expect("we are root");
    let path = pin(made.network().expect("it was asked for"));
    let plan = stock.plan(NetworkNamespace::Pinned(path));
    let refused = Booted::try_new(plan).err().expect("the host owns it");
    assert!(matches!(refused, SandboxError::NetworkOfHost { .. }));
}
