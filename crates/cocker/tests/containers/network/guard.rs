//! What stays out of reach: ports that are not mapped, and the host's loopback.

use crate::host::Place::{Elsewhere, Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        outside_reaches_no_port_that_is_not_mapped,
        outside_is_no_way_through_to_another_link,
        the_hosts_loopback_is_out_of_a_containers_reach,
        the_hosts_loopback_is_out_of_reach_from_outside,
        a_container_cannot_see_or_change_the_hosts_rules,
    ]
}

fn outside_reaches_no_port_that_is_not_mapped(host: &Host) {
    host.at(Outside, "ip route add 166.88.0.0/24 via 10.99.0.1");
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _services = [
            host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}")),
            host.serve(Inside("web"), &format!("0.0.0.0:81{protocol}")),
            host.serve(Inside("db"), &format!("0.0.0.0:5432{protocol}")),
        ];
        for target in ["166.88.0.2:80", "166.88.0.2:81", "166.88.0.3:5432"] {
            let target = format!("{target}{protocol}");
            host.reaches(
                OnHost,
                &target,
                if target.contains(".2:") { "web" } else { "db" },
            );
            host.does_not_reach(Outside, &target);
        }
    }
    // What they ask for themselves is answered, and what is mapped is led in.
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    host.reaches(Inside("db"), "10.99.0.2:7000", "outside");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
}

fn outside_is_no_way_through_to_another_link(host: &Host) {
    host.lab().add_second_link();
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    // The second link does not forward, so the host has not become a router between the two.
    host.at(Outside, "ip route add 10.98.0.0/24 via 10.99.0.1");
    host.at(Elsewhere, "ip route add 10.99.0.0/24 via 10.98.0.1");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    host.does_not_reach(Elsewhere, "10.99.0.2:7000");
    host.reaches(OnHost, "10.99.0.2:7000", "outside");
}

/// Makes `web` send packets for 127.0.0.1 to the host, as its root can: loopback is taken away, and a way is added.
fn lead_loopback_to_the_host(host: &Host) {
    host.at(
        Inside("web"),
        "ip addr flush dev lo
         ip route flush table local root 127.0.0.0/8
         echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip route add 127.0.0.0/8 via 166.88.0.1 dev eth0 src 166.88.0.2",
    );
}

fn the_hosts_loopback_is_out_of_a_containers_reach(host: &Host) {
    // A mapping of loopback makes the host take such packets from the bridge at all.
    host.booted_on_bridge("web", "--port-mapping 8080:80,127.0.0.1:8081:81");
    let _services = [
        host.serve(OnHost, "127.0.0.1:9999"),
        host.serve(OnHost, "127.0.0.1:9999/udp"),
        host.serve(Inside("web"), "0.0.0.0:81"),
    ];
    host.reaches(OnHost, "127.0.0.1:8081", "web");
    lead_loopback_to_the_host(host);
    for target in ["127.0.0.1:9999", "127.0.0.1:9999/udp"] {
        host.reaches(OnHost, target, "host");
        host.does_not_reach(Inside("web"), target);
    }
    // It was the table that kept it out: without it the packets do arrive, or this test would show nothing.
    host.at(OnHost, "nft delete table inet cocker");
    host.reaches(Inside("web"), "127.0.0.1:9999", "host");
}

fn the_hosts_loopback_is_out_of_reach_from_outside(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,127.0.0.1:8081:81");
    host.at(
        Outside,
        "ip addr flush dev lo
         ip route flush table local root 127.0.0.0/8
         echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
         ip route add 127.0.0.0/8 via 10.99.0.1 dev eth0 src 10.99.0.2",
    );
    let _services = [
        host.serve(OnHost, "127.0.0.1:9999"),
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:81"),
    ];
    host.reaches(OnHost, "127.0.0.1:9999", "host");
    for port in [9999, 8080, 8081] {
        host.does_not_reach(Outside, &format!("127.0.0.1:{port}"));
    }
}

fn a_container_cannot_see_or_change_the_hosts_rules(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    host.booted_on_bridge("db", "");
    let before = host.at(OnHost, "nft list ruleset");
    // The machine's root in the container's namespace can do what any program of the container could at most.
    assert_eq!(host.at(Inside("db"), "nft list ruleset"), "");
    host.at(
        Inside("db"),
        "nft flush ruleset
         nft add table inet cocker
         nft 'add chain inet cocker forward { type filter hook forward priority 0; policy drop; }'",
    );
    assert_eq!(host.at(OnHost, "nft list ruleset"), before);
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
}
