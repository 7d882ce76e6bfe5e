//! IPv6 beside IPv4, where `config.toml` gives the bridge such a subnet.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_container_has_an_address_of_both_families,
        without_a_subnet_a_container_has_no_ipv6_address,
        containers_and_the_host_reach_each_other_by_ipv6,
        outside_sees_the_hosts_ipv6_address_in_place_of_a_container,
        a_mapping_holds_for_both_families,
        a_mapping_of_one_ipv6_address_holds_on_no_other,
        outside_reaches_no_ipv6_port_that_is_not_mapped,
        ipv6_loopback_has_no_mappings_and_says_so_at_once,
        a_mapping_of_an_ipv6_address_needs_a_subnet,
    ]
}

/// Gives the store's bridge a subnet of IPv6.
fn with_ipv6(host: &Host) {
    host.configure_network(&["subnet6 = \"fd42::1/64\""]);
}

fn a_container_has_an_address_of_both_families(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "--vip 166.88.0.18");
    assert_eq!(
        host.addresses(Inside("web"), "eth0"),
        "166.88.0.18/24 fd42::12/64"
    );
    assert_eq!(
        host.addresses(OnHost, "cocker0"),
        "166.88.0.1/24 fd42::1/64"
    );
    let routes = host.at(Inside("web"), "ip -6 route");
    assert!(
        routes
            .lines()
            .any(|route| route.starts_with("default via fd42::1 dev eth0")),
        "{routes}"
    );
    let hosts = host.inside("web", "cat /etc/hosts");
    assert!(hosts.contains("166.88.0.18"), "{hosts}");
}

fn without_a_subnet_a_container_has_no_ipv6_address(host: &Host) {
    host.booted_on_bridge("web", "");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.2/24");
    assert_eq!(host.at(Inside("web"), "ip -6 route show default"), "");
}

fn containers_and_the_host_reach_each_other_by_ipv6(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("[::]:80{protocol}"));
        let _host = host.serve(OnHost, &format!("[fd42::1]:7000{protocol}"));
        let web = format!("[fd42::2]:80{protocol}");
        assert_eq!(host.reaches(Inside("db"), &web, "web"), "fd42::3");
        assert_eq!(host.reaches(OnHost, &web, "web"), "fd42::1");
        let ours = format!("[fd42::1]:7000{protocol}");
        assert_eq!(host.reaches(Inside("web"), &ours, "host"), "fd42::2");
    }
}

fn outside_sees_the_hosts_ipv6_address_in_place_of_a_container(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "");
    for protocol in ["", "/udp"] {
        let _outside = host.serve(Outside, &format!("[::]:7000{protocol}"));
        let seen = host.reaches(
            Inside("web"),
            &format!("[fd99::2]:7000{protocol}"),
            "outside",
        );
        assert_eq!(seen, "fd99::1");
        let seen = host.reaches(
            Inside("web"),
            &format!("10.99.0.2:7000{protocol}"),
            "outside",
        );
        assert_eq!(seen, "10.99.0.1");
    }
}

fn a_mapping_holds_for_both_families(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "--port-mapping 8080:80,8080:80/udp");
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("[::]:80{protocol}"));
        for (target, address) in [("10.99.0.1", "10.99.0.2"), ("[fd99::1]", "fd99::2")] {
            let target = format!("{target}:8080{protocol}");
            assert_eq!(host.reaches(Outside, &target, "web"), address);
            host.reaches(OnHost, &target, "web");
            host.reaches(Inside("db"), &target, "web");
            host.reaches(Inside("web"), &target, "web");
        }
        host.reaches(OnHost, &format!("[fd42::1]:8080{protocol}"), "web");
    }
    host.cocker("shutdown web").ok();
    for target in ["10.99.0.1:8080", "[fd99::1]:8080"] {
        host.does_not_reach(Outside, target);
    }
    for address in ["166.88.0.2", "fd42::2"] {
        assert!(!host.table_names(address), "{address}");
    }
}

fn a_mapping_of_one_ipv6_address_holds_on_no_other(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "--port-mapping [fd99::1]:8080:80");
    let _web = host.serve(Inside("web"), "[::]:80");
    assert_eq!(host.reaches(Outside, "[fd99::1]:8080", "web"), "fd99::2");
    host.does_not_reach(Outside, "10.99.0.1:8080");
    host.does_not_reach(OnHost, "[fd42::1]:8080");
}

fn outside_reaches_no_ipv6_port_that_is_not_mapped(host: &Host) {
    with_ipv6(host);
    host.at(Outside, "ip -6 route add fd42::/64 via fd99::1");
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    let _services = [
        host.serve(Inside("web"), "[::]:80"),
        host.serve(Inside("web"), "[::]:81"),
    ];
    for port in [80, 81] {
        host.reaches(OnHost, &format!("[fd42::2]:{port}"), "web");
        host.does_not_reach(Outside, &format!("[fd42::2]:{port}"));
    }
    host.reaches(Outside, "[fd99::1]:8080", "web");
}

fn ipv6_loopback_has_no_mappings_and_says_so_at_once(host: &Host) {
    with_ipv6(host);
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    let _web = host.serve(Inside("web"), "[::]:80");
    host.reaches(OnHost, "127.0.0.1:8080", "web");
    let refused = host.at(
        OnHost,
        "nc -6 -z -w 20 ::1 8080 && echo open || echo closed",
    );
    assert_eq!(refused, "closed");
    let own = host.serve(OnHost, "[::1]:8080");
    host.reaches(OnHost, "[::1]:8080", "host");
    drop(own);
}

fn a_mapping_of_an_ipv6_address_needs_a_subnet(host: &Host) {
    let mapping = "[fd99::1]:8080:80";
    host.cocker(&format!(
        "create -m test -c web --net BRIDGE --port-mapping {mapping}"
    ))
    .fails(1, &[mapping, "subnet6"]);
    host.created_on_bridge("web", "");
    host.cocker(&format!("set-port-mapping web --port-mapping {mapping}"))
        .fails(1, &[mapping, "subnet6"]);
    with_ipv6(host);
    host.cocker(&format!("set-port-mapping web --port-mapping {mapping}"))
        .ok();
    host.cocker("boot web").ok();
}
