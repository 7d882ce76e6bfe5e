//! What is refused before anything is made, and what is refused while a container is booted.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        addresses_that_no_container_can_have_are_refused,
        an_address_that_is_taken_is_refused_and_its_holder_named,
        options_of_a_network_that_is_not_had_are_refused,
        a_link_that_the_host_does_not_have_is_refused,
        bad_port_mappings_are_refused,
        a_booted_containers_network_is_not_changed,
        a_refused_change_leaves_the_container_as_it_was,
    ]
}

/// What must hold after every refused `create`.
#[track_caller]
fn nothing_was_made(host: &Host) {
    host.cocker("-s containers").succeeds().prints("");
    let addresses = fs::read_dir(host.home().join("addresses"));
    assert_eq!(addresses.into_iter().flatten().count(), 0);
    assert_eq!(host.links(OnHost), "eth0 lo");
}

fn addresses_that_no_container_can_have_are_refused(host: &Host) {
    for address in [
        // In another network.
        "10.0.0.5",
        // Beside the subnet.
        "166.88.1.5",
        // The network's own.
        "166.88.0.0",
        // The broadcast address.
        "166.88.0.255",
        // The bridge's.
        "166.88.0.1",
        // An IPv4 address in disguise.
        "::ffff:166.88.0.5",
        // No IPv4 address.
        "fd99::5",
        // Loopback.
        "127.0.0.1",
        // No address.
        "0.0.0.0",
        // With a leading zero.
        "166.88.0.05",
        // Not whole.
        "166.88.0",
        // With a prefix.
        "166.88.0.5/24",
        // A name.
        "web",
    ] {
        host.cocker(&format!(
            "create -m test -c web --net BRIDGE --vip {address}"
        ))
        .refuses(&[address]);
        nothing_was_made(host);
    }
}

fn an_address_that_is_taken_is_refused_and_its_holder_named(host: &Host) {
    host.created_on_bridge("holder", "--vip 166.88.0.5");
    host.cocker("create -m test -c web --net BRIDGE --vip 166.88.0.5")
        .fails(1, &["166.88.0.5", "holder"]);
    // Booted or not makes no difference.
    host.cocker("boot holder").ok();
    host.cocker("create -m test -c web --net BRIDGE --vip 166.88.0.5")
        .fails(1, &["166.88.0.5", "holder"]);
    host.created_on_bridge("web", "");
    host.cocker("set-vip web --vip 166.88.0.5")
        .fails(1, &["166.88.0.5", "holder"]);
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.2/24");
}

fn options_of_a_network_that_is_not_had_are_refused(host: &Host) {
    for network in ["HOST", "CUSTOM"] {
        for option in [
            "--vip 166.88.0.5",
            "--port-mapping 8080:80",
            "--host-eth eth0",
        ] {
            let name = option.split(' ').next().expect("an option has a name");
            host.cocker(&format!("create -m test -c web --net {network} {option}"))
                .refuses(&[name]);
            nothing_was_made(host);
        }
    }
    // HOST is what is had when nothing is said.
    host.cocker("create -m test -c web --vip 166.88.0.5")
        .refuses(&["--vip"]);
    nothing_was_made(host);
    host.cocker("create -m test -c web").ok();
    host.cocker("set-vip web --vip 166.88.0.5")
        .fails(1, &["web", "BRIDGE"]);
    host.cocker("set-port-mapping web --port-mapping 8080:80")
        .fails(1, &["web", "BRIDGE"]);
}

fn a_link_that_the_host_does_not_have_is_refused(host: &Host) {
    host.cocker("create -m test -c web --net BRIDGE --host-eth nosuch")
        .fails(1, &["nosuch"]);
    nothing_was_made(host);
    for bad in ["a/b", "this-name-is-too-long-for-a-link", "..", ""] {
        let words = [
            "create",
            "-m",
            "test",
            "-c",
            "web",
            "--net",
            "BRIDGE",
            "--host-eth",
            bad,
        ];
        host.cocker_words(&words).refuses(&[bad]);
        nothing_was_made(host);
    }
}

fn bad_port_mappings_are_refused(host: &Host) {
    for mapping in [
        "8080",
        "8080:",
        ":80",
        "0:80",
        "8080:0",
        "70000:80",
        "8080:70000",
        "x:80",
        "8080:80/sctp",
        "-1:80",
        "+8080:80",
        "8000-8010:9000-9005",
        "8010-8000:9010-9000",
        "8000-8010:80",
        "300.1.1.1:8080:80",
        "nosuch:8080:80",
        "8080:80,8080:81",
        "8000-8010:9000-9010,8005:80",
    ] {
        let named = mapping.split(',').next_back().expect("it has a part");
        host.cocker(&format!(
            "create -m test -c web --net BRIDGE --port-mapping {mapping}"
        ))
        .refuses(&[named]);
        nothing_was_made(host);
    }
}

fn a_booted_containers_network_is_not_changed(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    for change in [
        "set-vip web --vip 166.88.0.99",
        "set-port-mapping web --port-mapping 8081:80",
        "set-port-mapping web --port-mapping none",
        "set-host-eth web --host-eth eth0",
        "-a vip -c web --vip 166.88.0.99",
        "-a port_mapping -c web --port-mapping 8081:80",
    ] {
        host.cocker(change).fails(1, &["web"]);
    }
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.2/24");
}

fn a_refused_change_leaves_the_container_as_it_was(host: &Host) {
    host.created_on_bridge("web", "--port-mapping 8080:80");
    for change in [
        "set-vip web --vip 10.0.0.5",
        "set-vip web --vip 166.88.0.1",
        "set-port-mapping web --port-mapping 8081",
        "set-host-eth web --host-eth nosuch",
    ] {
        let said = change.split(' ').next_back().expect("it has words");
        host.cocker(change).refuses(&[said]);
    }
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.2/24");
}
