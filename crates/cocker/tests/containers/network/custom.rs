//! CUSTOM: a namespace that is there from create to destroy, for whoever sets it up; and HOST, which has none.

use crate::host::Place::{Inside, OnHost, Outside, Pinned};
use crate::host::{Host, in_a_lab};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_namespace_is_there_from_create_to_destroy,
        what_was_set_up_outside_and_inside_is_there_at_each_boot,
        a_link_of_the_hosts_can_be_given_to_a_container,
        root_inside_owns_the_namespace,
        a_namespace_that_was_unpinned_is_made_again,
        a_custom_network_has_nothing_of_a_bridge,
        the_hosts_network_is_the_hosts,
    ]
}

/// Creates container `web` with CUSTOM; returns the name of its namespace.
#[track_caller]
fn created(host: &Host) -> String {
    host.cocker("create -m test -c web --net CUSTOM").ok();
    let netns = host.netns("web");
    assert!(netns.starts_with("nns"), "netns is `{netns}`");
    netns
}

fn pin(netns: &str) -> PathBuf {
    Path::new("/run/netns").join(netns)
}

/// The number by which the kernel tells a namespace from every other.
#[track_caller]
fn inode(path: &Path) -> u64 {
    let status = fs::metadata(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    status.ino()
}

fn a_namespace_is_there_from_create_to_destroy(host: &Host) {
    let netns = created(host);
    let pinned = inode(&pin(&netns));
    assert_eq!(host.links(Pinned(&netns)), "lo");
    for _ in 0..2 {
        host.cocker("boot web").ok();
        let of_root_process = format!("/proc/{}/ns/net", host.root_process("web"));
        assert_eq!(inode(Path::new(&of_root_process)), pinned);
        assert_eq!(host.inside("web", "ls /sys/class/net"), "lo");
        assert_eq!(host.netns("web"), netns);
        host.cocker("shutdown web").ok();
        assert_eq!(inode(&pin(&netns)), pinned);
    }
    host.cocker("destroy web").ok();
    assert!(!pin(&netns).exists());
    host.nothing_is_left();
}

fn what_was_set_up_outside_and_inside_is_there_at_each_boot(host: &Host) {
    let netns = created(host);
    // As a user would, before the first boot.
    host.at(
        OnHost,
        &format!(
            "ip netns exec {netns} ip link set lo up; ip netns exec {netns} ip addr add 10.5.0.1/32 dev lo"
        ),
    );
    host.cocker("boot web").ok();
    let addresses = host.inside("web", "ip addr show dev lo");
    assert!(addresses.contains("10.5.0.1/32"), "{addresses}");
    host.inside("web", "ip addr add 10.5.0.2/32 dev lo");
    host.at(Pinned(&netns), "ip addr add 10.5.0.3/32 dev lo");
    for _ in 0..2 {
        host.cocker("shutdown web").ok();
        host.cocker("boot web").ok();
        assert_eq!(
            host.addresses(Inside("web"), "lo"),
            "10.5.0.1/32 10.5.0.2/32 10.5.0.3/32"
        );
    }
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("web"), "10.5.0.2:80", "web");
}

fn a_link_of_the_hosts_can_be_given_to_a_container(host: &Host) {
    let netns = created(host);
    host.at(
        OnHost,
        &format!(
            "ip link add web0 type veth peer name eth0 netns {netns}
             ip addr add 10.97.0.1/24 dev web0
             ip link set web0 up
             ip -n {netns} link set lo up
             ip -n {netns} link set eth0 up
             ip -n {netns} addr add 10.97.0.2/24 dev eth0"
        ),
    );
    for _ in 0..2 {
        host.cocker("boot web").ok();
        assert_eq!(host.inside("web", "ls /sys/class/net"), "eth0\nlo");
        let _web = host.serve(Inside("web"), "0.0.0.0:80");
        let _host = host.serve(OnHost, "0.0.0.0:7000");
        assert_eq!(host.reaches(OnHost, "10.97.0.2:80", "web"), "10.97.0.1");
        let seen = host.reaches(Inside("web"), "10.97.0.1:7000", "host");
        assert_eq!(seen, "10.97.0.2");
        host.cocker("shutdown web").ok();
    }
}

fn root_inside_owns_the_namespace(host: &Host) {
    let netns = created(host);
    host.cocker("boot web").ok();
    // Only who has rights over the namespace may do any of this.
    host.inside(
        "web",
        "ip link set lo up && ip link set lo mtu 1400 && ip addr add 10.5.0.1/32 dev lo \
         && ip route add 10.6.0.0/16 dev lo",
    );
    let seen = host.at(Pinned(&netns), "ip addr; ip route");
    for thing in ["mtu 1400", "10.5.0.1/32", "10.6.0.0/16"] {
        assert!(seen.contains(thing), "no {thing} in\n{seen}");
    }
}

fn a_namespace_that_was_unpinned_is_made_again(host: &Host) {
    let netns = created(host);
    host.at(
        OnHost,
        &format!("ip -n {netns} addr add 10.5.0.1/32 dev lo"),
    );
    // What a restart of the host leaves: not even an empty file, or just that.
    for leave in ["rm", "true"] {
        host.at(
            OnHost,
            &format!("umount /run/netns/{netns}; {leave} /run/netns/{netns}"),
        );
        host.cocker("boot web").ok();
        assert_eq!(host.netns("web"), netns);
        assert_eq!(host.links(Pinned(&netns)), "lo");
        assert_eq!(host.addresses(Inside("web"), "lo"), "");
        let of_root_process = format!("/proc/{}/ns/net", host.root_process("web"));
        assert_eq!(inode(&pin(&netns)), inode(Path::new(&of_root_process)));
        host.inside("web", "ip link set lo up && ip addr add 10.5.0.2/32 dev lo");
        host.cocker("shutdown web").ok();
    }
}

fn a_custom_network_has_nothing_of_a_bridge(host: &Host) {
    created(host);
    host.cocker("boot web").ok();
    assert_eq!(host.links(OnHost), "eth0 lo");
    assert!(host.lab().table().is_none());
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    host.does_not_reach(Inside("web"), "10.99.0.2:7000");
}

fn the_hosts_network_is_the_hosts(host: &Host) {
    host.lab().add_second_link();
    host.cocker("create -m test -c web --net HOST -b").ok();
    assert_eq!(host.inside("web", "ls /sys/class/net"), "eth0\neth1\nlo");
    assert_eq!(host.netns("web"), "");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:80", "web"), "10.99.0.2");
    assert_eq!(host.links(OnHost), "eth0 eth1 lo");
    assert!(host.lab().table().is_none());
    assert!(
        fs::read_dir(host.home().join("addresses"))
            .into_iter()
            .flatten()
            .next()
            .is_none()
    );
    // Root inside has no rights over it.
    let outcome = host.cocker("run web -- ip link set lo mtu 1400");
    assert_ne!(outcome.status.code(), Some(0), "{outcome}");
}
