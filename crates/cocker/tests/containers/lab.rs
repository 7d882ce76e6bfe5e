//! The harness's own network: a lab that carries nothing, or sees nothing, would call many a test of a network good.

use crate::host::Place::{Elsewhere, Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        the_host_and_outside_reach_each_other_and_see_who_asks,
        a_container_with_the_hosts_network_is_on_the_labs_host,
        nobody_answers_where_nobody_listens,
        the_second_link_has_somebody_at_its_other_end,
        what_is_left_of_a_network_would_be_noticed,
        a_second_store_shares_the_network_and_nothing_else,
    ]
}

fn the_host_and_outside_reach_each_other_and_see_who_asks(host: &Host) {
    for protocol in ["", "/udp"] {
        let _ours = host.serve(OnHost, &format!("0.0.0.0:7000{protocol}"));
        let _theirs = host.serve(Outside, &format!("[::]:7000{protocol}"));
        let (ours, theirs) = (
            format!("10.99.0.1:7000{protocol}"),
            format!("10.99.0.2:7000{protocol}"),
        );
        assert_eq!(host.reaches(Outside, &ours, "host"), "10.99.0.2");
        assert_eq!(host.reaches(OnHost, &theirs, "outside"), "10.99.0.1");
        let theirs = format!("[fd99::2]:7000{protocol}");
        assert_eq!(host.reaches(OnHost, &theirs, "outside"), "fd99::1");
    }
    assert_eq!(host.links(OnHost), "eth0 lo");
    assert_eq!(host.addresses(OnHost, "eth0"), "10.99.0.1/24 fd99::1/64");
    assert_eq!(
        host.at(OnHost, "cat /proc/sys/net/ipv4/conf/all/forwarding"),
        "0"
    );
}

fn a_container_with_the_hosts_network_is_on_the_labs_host(host: &Host) {
    host.booted("web");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:80", "web"), "10.99.0.2");
    assert_eq!(host.links(Inside("web")), "eth0 lo");
    // Commands are where the root process is, and both are in the namespace that the test typed in.
    let inside = host.inside("web", "readlink /proc/self/ns/net");
    assert_eq!(inside, host.at(OnHost, "readlink /proc/self/ns/net"));
    let ours = fs::read_link("/proc/self/ns/net").expect("/proc is mounted");
    assert_ne!(inside, ours.to_string_lossy());
}

fn nobody_answers_where_nobody_listens(host: &Host) {
    for protocol in ["", "/udp"] {
        host.does_not_reach(Outside, &format!("10.99.0.1:7000{protocol}"));
        // Nobody has this address, so not even a refusal comes back.
        host.does_not_reach(Outside, &format!("10.99.0.77:7000{protocol}"));
    }
    let service = host.serve(OnHost, "0.0.0.0:7000");
    host.reaches(Outside, "10.99.0.1:7000", "host");
    drop(service);
    host.does_not_reach(Outside, "10.99.0.1:7000");
}

fn the_second_link_has_somebody_at_its_other_end(host: &Host) {
    host.lab().add_second_link();
    let _elsewhere = host.serve(Elsewhere, "0.0.0.0:7000");
    let seen = host.reaches(OnHost, "10.98.0.2:7000", "elsewhere");
    assert_eq!(seen, "10.98.0.1");
    // The host does not forward, so the two outside do not know of each other.
    host.at(Outside, "ip route add 10.98.0.0/24 via 10.99.0.1");
    host.does_not_reach(Outside, "10.98.0.2:7000");
    assert_eq!(host.links(OnHost), "eth0 eth1 lo");
}

fn what_is_left_of_a_network_would_be_noticed(host: &Host) {
    assert_eq!(host.what_is_left(), Vec::<String>::new());
    host.at(OnHost, "ip link add ck0123456789ab type bridge");
    host.at(
        OnHost,
        "nft add table inet cocker
         nft 'add chain inet cocker forward { type filter hook forward priority 0; }'
         nft 'add set inet cocker containers { type ipv4_addr; }'",
    );
    let left = host.what_is_left().join("\n");
    assert_eq!(left, "link ck0123456789ab");
    host.at(
        OnHost,
        "nft add rule inet cocker forward tcp dport 80 drop
         nft 'add element inet cocker containers { 166.88.0.2 comment \"web\" }'",
    );
    let left = host.what_is_left().join("\n");
    for thing in [
        "link ck",
        "rule of table cocker",
        "element of set",
        "166.88.0.2",
    ] {
        assert!(left.contains(thing), "`{thing}` is not noticed:\n{left}");
    }
    assert!(host.table_names("166.88.0.2"));
    assert_eq!(host.lab().rules().len(), 1);
    host.at(
        OnHost,
        "nft delete table inet cocker; ip link del ck0123456789ab",
    );
    assert!(host.lab().table().is_none());
}

fn a_second_store_shares_the_network_and_nothing_else(host: &Host) {
    let other = host.other_store();
    host.booted("web");
    other.booted("web");
    let network = |host: &Host| host.inside("web", "readlink /proc/self/ns/net");
    assert_eq!(network(host), network(other));
    assert_ne!(host.home(), other.home());
    assert_ne!(host.root_process("web"), other.root_process("web"));
    let names: Vec<String> = host.contained().iter().map(|it| it.name()).collect();
    assert_eq!(names, ["cockerinit"]);
}
