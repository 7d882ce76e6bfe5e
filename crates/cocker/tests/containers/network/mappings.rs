//! Port mappings: who reaches a container by which address of the host, and whom the container sees.

use crate::host::Place::{Elsewhere, Inside, OnHost, Outside};
use crate::host::{Host, eventually, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_mapped_port_leads_clients_from_outside_with_their_own_address,
        a_mapping_is_of_one_protocol,
        the_host_uses_a_mapping_by_each_of_its_addresses,
        containers_use_a_mapping_by_the_hosts_addresses,
        mappings_hold_whether_or_not_the_hosts_rules_see_bridged_packets,
        several_mappings_hold_at_once,
        two_ports_of_the_host_may_lead_to_one_of_the_container,
        ranges_lead_port_by_port,
        a_range_of_thousands_of_ports_holds_to_its_last,
        a_mapping_holds_on_every_link_that_the_host_forwards_on,
        a_mapping_of_one_address_holds_on_no_other,
        a_mapping_of_loopback_is_the_hosts_alone,
        a_more_particular_mapping_wins,
        ports_of_other_hosts_are_left_alone,
        a_mapping_ends_with_shutdown_and_holds_again_after_boot,
        mappings_are_replaced_and_removed_while_stopped,
        mappings_lead_to_a_new_address,
        a_containers_uplink_is_replaced_while_stopped,
        a_client_of_udp_that_never_pauses_is_led_by_the_mapping_of_the_moment,
    ]
}

fn a_mapped_port_leads_clients_from_outside_with_their_own_address(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,5353:53/udp");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    let _dns = host.serve(Inside("web"), "0.0.0.0:53/udp");
    for target in ["10.99.0.1:8080", "10.99.0.1:5353/udp"] {
        assert_eq!(host.reaches(Outside, target, "web"), "10.99.0.2");
    }
}

fn a_mapping_is_of_one_protocol(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,5353:53/udp");
    let _services = ["80", "53", "80/udp", "53/udp"]
        .map(|port| host.serve(Inside("web"), &format!("0.0.0.0:{port}")));
    host.reaches(Outside, "10.99.0.1:8080", "web");
    host.reaches(Outside, "10.99.0.1:5353/udp", "web");
    host.does_not_reach(Outside, "10.99.0.1:8080/udp");
    host.does_not_reach(Outside, "10.99.0.1:5353");
}

fn the_host_uses_a_mapping_by_each_of_its_addresses(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8080:80/udp");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        for address in ["10.99.0.1", "166.88.0.1", "127.0.0.1", "127.0.0.2"] {
            let seen = host.reaches(OnHost, &format!("{address}:8080{protocol}"), "web");
            // An address of the host, but no loopback address: that one would be the container's own.
            assert!(
                ["10.99.0.1", "166.88.0.1"].contains(&seen.as_str()),
                "by {address}{protocol}, web sees {seen}"
            );
        }
    }
}

fn containers_use_a_mapping_by_the_hosts_addresses(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8080:80/udp");
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        for address in ["10.99.0.1", "166.88.0.1"] {
            let target = format!("{address}:8080{protocol}");
            host.reaches(Inside("db"), &target, "web");
            // The container itself goes out to the host and comes back in.
            host.reaches(Inside("web"), &target, "web");
        }
        // The host's loopback is not theirs.
        host.does_not_reach(Inside("db"), &format!("127.0.0.1:8080{protocol}"));
    }
}

fn mappings_hold_whether_or_not_the_hosts_rules_see_bridged_packets(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8080:80/udp");
    host.booted_on_bridge("db", "");
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:80/udp"),
    ];
    for setting in [0, 1] {
        // There where the kernel's module br_netfilter is; without it, bridged packets never pass the rules.
        host.at(
            OnHost,
            &format!(
                "cd /proc/sys/net
                 test ! -e bridge || echo {setting} > bridge/bridge-nf-call-iptables"
            ),
        );
        for protocol in ["", "/udp"] {
            for address in ["10.99.0.1", "166.88.0.1"] {
                let target = format!("{address}:8080{protocol}");
                for from in [OnHost, Inside("db"), Inside("web")] {
                    host.reaches(from, &target, "web");
                }
            }
            let direct = format!("166.88.0.2:80{protocol}");
            assert_eq!(
                host.reaches(Inside("db"), &direct, "web"),
                "166.88.0.3",
                "bridge-nf-call-iptables is {setting}"
            );
            let mapped = format!("10.99.0.1:8080{protocol}");
            assert_eq!(host.reaches(Outside, &mapped, "web"), "10.99.0.2");
        }
    }
}

fn several_mappings_hold_at_once(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8443:443,2222:22,5353:53/udp");
    host.booted_on_bridge("db", "--port-mapping 5432:5432,2223:22");
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:443"),
        host.serve(Inside("web"), "0.0.0.0:22"),
        host.serve(Inside("web"), "0.0.0.0:53/udp"),
        host.serve(Inside("db"), "0.0.0.0:5432"),
        host.serve(Inside("db"), "0.0.0.0:22"),
    ];
    for (port, name) in [
        ("8080", "web"),
        ("8443", "web"),
        ("2222", "web"),
        ("5353/udp", "web"),
        ("5432", "db"),
        ("2223", "db"),
    ] {
        let seen = host.reaches(Outside, &format!("10.99.0.1:{port}"), name);
        assert_eq!(seen, "10.99.0.2", "{port}");
    }
    for port in ["80", "443", "22", "53/udp", "2224"] {
        host.does_not_reach(Outside, &format!("10.99.0.1:{port}"));
    }
}

fn two_ports_of_the_host_may_lead_to_one_of_the_container(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8081:80");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    host.reaches(Outside, "10.99.0.1:8081", "web");
}

fn ranges_lead_port_by_port(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8000-8010:9000-9010");
    for step in [0, 1, 5, 10] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:{}", 9000 + step));
        host.reaches(Outside, &format!("10.99.0.1:{}", 8000 + step), "web");
        // Only this one, and no neighbour of it.
        host.does_not_reach(Outside, &format!("10.99.0.1:{}", 8000 + (step + 1) % 11));
    }
    let _beyond = host.serve(Inside("web"), "0.0.0.0:9011");
    host.does_not_reach(Outside, "10.99.0.1:8011");
}

fn a_range_of_thousands_of_ports_holds_to_its_last(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 20000-24999:30000-34999");
    for step in [0, 2500, 4999] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:{}", 30000 + step));
        host.reaches(Outside, &format!("10.99.0.1:{}", 20000 + step), "web");
    }
    host.cocker("shutdown web").ok();
    assert!(!host.table_names("166.88.0.2"));
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:34999");
    host.reaches(Outside, "10.99.0.1:24999", "web");
}

fn a_mapping_holds_on_every_link_that_the_host_forwards_on(host: &Host) {
    host.lab().add_second_link();
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.does_not_reach(Elsewhere, "10.98.0.1:8080");
    // Cocker forwards on the uplink alone; elsewhere it is the administrator's decision.
    host.at(
        OnHost,
        "sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding'",
    );
    for (from, target, address) in [
        (Outside, "10.99.0.1:8080", "10.99.0.2"),
        (Elsewhere, "10.98.0.1:8080", "10.98.0.2"),
    ] {
        assert_eq!(host.reaches(from, target, "web"), address);
    }
    host.reaches(OnHost, "10.98.0.1:8080", "web");
}

fn a_mapping_of_one_address_holds_on_no_other(host: &Host) {
    host.lab().add_second_link();
    host.booted_on_bridge("web", "--port-mapping 10.99.0.1:8080:80");
    host.booted_on_bridge("db", "");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "web"), "10.99.0.2");
    host.reaches(OnHost, "10.99.0.1:8080", "web");
    host.reaches(Inside("db"), "10.99.0.1:8080", "web");
    for address in ["127.0.0.1", "166.88.0.1", "10.98.0.1"] {
        host.does_not_reach(OnHost, &format!("{address}:8080"));
    }
    host.does_not_reach(Elsewhere, "10.98.0.1:8080");
    host.does_not_reach(Inside("db"), "166.88.0.1:8080");
}

fn a_mapping_of_loopback_is_the_hosts_alone(host: &Host) {
    host.booted_on_bridge(
        "web",
        "--port-mapping 127.0.0.1:8080:80,127.0.0.1:8080:80/udp",
    );
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        host.reaches(OnHost, &format!("127.0.0.1:8080{protocol}"), "web");
        host.does_not_reach(OnHost, &format!("10.99.0.1:8080{protocol}"));
        host.does_not_reach(Outside, &format!("10.99.0.1:8080{protocol}"));
        host.does_not_reach(Inside("db"), &format!("166.88.0.1:8080{protocol}"));
        host.does_not_reach(Inside("db"), &format!("127.0.0.1:8080{protocol}"));
    }
}

fn a_more_particular_mapping_wins(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,10.99.0.1:8080:81");
    let web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(OnHost, "127.0.0.1:8080", "web");
    host.does_not_reach(Outside, "10.99.0.1:8080");
    drop(web);
    let _web = host.serve(Inside("web"), "0.0.0.0:81");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    host.does_not_reach(OnHost, "127.0.0.1:8080");
}

fn ports_of_other_hosts_are_left_alone(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 443:443,53:53/udp");
    host.booted_on_bridge("db", "");
    for port in ["443", "53/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:{port}"));
        let _outside = host.serve(Outside, &format!("0.0.0.0:{port}"));
        let theirs = format!("10.99.0.2:{port}");
        for from in [OnHost, Inside("web"), Inside("db")] {
            host.reaches(from, &theirs, "outside");
        }
        // Nor is another container's port the host's.
        let _db = host.serve(Inside("db"), &format!("0.0.0.0:{port}"));
        host.reaches(OnHost, &format!("166.88.0.3:{port}"), "db");
        host.reaches(Inside("web"), &format!("166.88.0.3:{port}"), "db");
        host.reaches(Outside, &format!("10.99.0.1:{port}"), "web");
    }
}

fn a_mapping_ends_with_shutdown_and_holds_again_after_boot(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    for _ in 0..3 {
        let web = host.serve(Inside("web"), "0.0.0.0:80");
        host.reaches(Outside, "10.99.0.1:8080", "web");
        host.reaches(OnHost, "127.0.0.1:8080", "web");
        drop(web);
        host.cocker("shutdown web").ok();
        // The port is the host's own again.
        let ours = host.serve(OnHost, "0.0.0.0:8080");
        host.reaches(Outside, "10.99.0.1:8080", "host");
        host.reaches(OnHost, "127.0.0.1:8080", "host");
        drop(ours);
        host.cocker("boot web").ok();
    }
}

fn mappings_are_replaced_and_removed_while_stopped(host: &Host) {
    host.created_on_bridge("web", "--port-mapping 8080:80,8081:81");
    host.cocker("set-port-mapping web --port-mapping 8090:80,8053:53/udp")
        .ok();
    host.cocker("boot web").ok();
    let services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:53/udp"),
    ];
    host.reaches(Outside, "10.99.0.1:8090", "web");
    host.reaches(Outside, "10.99.0.1:8053/udp", "web");
    host.does_not_reach(Outside, "10.99.0.1:8080");
    drop(services);

    host.cocker("shutdown web").ok();
    host.cocker("-a port_mapping -c web --port-mapping none")
        .ok();
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.does_not_reach(Outside, "10.99.0.1:8090");
    host.does_not_reach(OnHost, "127.0.0.1:8090");
    host.reaches(OnHost, "166.88.0.2:80", "web");
}

fn mappings_lead_to_a_new_address(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    host.cocker("shutdown web").ok();
    host.cocker("-a vip -c web --vip 166.88.0.99").ok();
    // What it had is free.
    host.booted_on_bridge("db", "");
    assert_eq!(host.addresses(Inside("db"), "eth0"), "166.88.0.2/24");
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.99/24");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    let _db = host.serve(Inside("db"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "web"), "10.99.0.2");
    host.reaches(OnHost, "166.88.0.99:80", "web");
    host.reaches(OnHost, "166.88.0.2:80", "db");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

fn a_containers_uplink_is_replaced_while_stopped(host: &Host) {
    host.lab().add_second_link();
    host.at(Elsewhere, "ip route add 166.88.0.0/24 via 10.98.0.1");
    host.at(Outside, "ip route add 166.88.0.0/24 via 10.99.0.1");
    host.created_on_bridge("web", "");
    // Cocker forwards on the uplink alone; elsewhere it is the administrator's decision.
    host.at(
        OnHost,
        "sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding'",
    );
    let _elsewhere = host.serve(Elsewhere, "0.0.0.0:7000");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let is_seen_as = |elsewhere: &str, outside: &str| {
        host.cocker("boot web").ok();
        let seen = host.reaches(Inside("web"), "10.98.0.2:7000", "elsewhere");
        assert_eq!(seen, elsewhere);
        let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
        assert_eq!(seen, outside);
        host.cocker("shutdown web").ok();
    };
    is_seen_as("166.88.0.2", "10.99.0.1");
    host.cocker("set-host-eth web --host-eth eth1").ok();
    is_seen_as("10.98.0.1", "166.88.0.2");
    // Without a link, it is the default route's again.
    host.cocker("-a host_eth -c web").ok();
    is_seen_as("166.88.0.2", "10.99.0.1");
}

fn a_client_of_udp_that_never_pauses_is_led_by_the_mapping_of_the_moment(host: &Host) {
    for name in ["web", "db"] {
        host.created_on_bridge(name, "--port-mapping 5300:53/udp");
    }
    let flow = host.flow(Outside, "10.99.0.1:5300");
    assert_eq!(flow.ask(), None);
    for name in ["web", "db"] {
        host.cocker(&format!("boot {name}")).ok();
        let service = host.serve(Inside(name), "0.0.0.0:53/udp");
        let expected = format!("{name} sees 10.99.0.2");
        eventually(&format!("the flow is led to {name}"), || {
            flow.ask().as_ref() == Some(&expected)
        });
        drop(service);
        host.cocker(&format!("shutdown {name}")).ok();
    }
    let own = host.serve(OnHost, "0.0.0.0:5300/udp");
    eventually("the flow is the host's own", || {
        flow.ask().as_deref() == Some("host sees 10.99.0.2")
    });
    drop(own);
}
