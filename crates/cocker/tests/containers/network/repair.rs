//! What others do to the host's network while containers run, and what the next boot makes of it.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_table_that_was_deleted_is_there_again_with_all_mappings,
        a_rule_set_that_was_flushed_is_there_again_with_all_mappings,
        maps_that_were_flushed_or_deleted_lead_to_all_containers_again,
        a_link_that_is_gone_is_of_no_harm_to_others,
        a_host_without_a_default_route_is_warned_of,
        a_chain_that_was_flushed_has_its_rules_again,
        a_rule_that_was_deleted_is_there_again,
        rules_that_were_added_to_the_table_are_gone,
        a_container_is_shut_down_whose_table_is_gone,
        a_bridge_that_was_deleted_has_its_ports_again,
        a_bridge_that_was_put_down_is_up_again,
        a_bridges_address_that_was_removed_is_there_again,
        forwarding_that_was_turned_off_is_on_again,
        an_address_of_the_subnet_on_another_link_is_named,
        a_link_that_has_the_bridges_name_is_named,
        iptables_that_drop_what_is_forwarded_are_warned_of,
        old_iptables_that_drop_what_is_forwarded_are_warned_of,
        a_chain_of_nftables_that_drops_what_is_forwarded_is_warned_of,
        an_uplink_that_is_gone_is_named,
    ]
}

/// Boots `web`, with port 8080, and `db`, with port 5432; creates `next`, whose boot shall repair.
#[track_caller]
fn two_booted(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8053:53/udp");
    host.booted_on_bridge(
        "db",
        "--port-mapping 127.0.0.1:5432:5432,10.99.0.1:5432:5432",
    );
    host.created_on_bridge("next", "--port-mapping 8090:80");
    both_work(host);
}

/// Asserts that both containers reach and are reached, by every way there is.
#[track_caller]
fn both_work(host: &Host) {
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Inside("web"), "0.0.0.0:53/udp"),
        host.serve(Inside("db"), "0.0.0.0:5432"),
        host.serve(Outside, "0.0.0.0:7000"),
    ];
    for (target, name) in [
        ("10.99.0.1:8080", "web"),
        ("10.99.0.1:8053/udp", "web"),
        ("10.99.0.1:5432", "db"),
    ] {
        assert_eq!(host.reaches(Outside, target, name), "10.99.0.2");
    }
    host.reaches(OnHost, "127.0.0.1:5432", "db");
    host.reaches(OnHost, "127.0.0.1:8080", "web");
    host.reaches(OnHost, "166.88.0.2:80", "web");
    host.reaches(Inside("db"), "10.99.0.1:8080", "web");
    host.reaches(Inside("web"), "10.99.0.1:8080", "web");
    let seen = host.reaches(Inside("web"), "166.88.0.3:5432", "db");
    assert_eq!(seen, "166.88.0.2");
    for name in ["web", "db"] {
        let seen = host.reaches(Inside(name), "10.99.0.2:7000", "outside");
        assert_eq!(seen, "10.99.0.1");
    }
}

/// Boots a container; asserts that nothing is said but perhaps that a lock was waited for: whoever has ended it just now may hold
/// it for a moment.
#[track_caller]
fn boots_without_a_warning(host: &Host, name: &str) {
    let outcome = host.cocker(&format!("boot {name}")).ok();
    let is_of_a_lock = |line: &str| {
        let heads = ["Waiting for `", "Hint: it goes on when that ends"];
        heads.iter().any(|head| line.starts_with(head))
    };
    assert!(outcome.stderr.lines().all(is_of_a_lock), "{outcome}");
}

/// Boots `next`; asserts that it works itself, and shuts it down again.
#[track_caller]
fn next_boot_repairs(host: &Host) {
    boots_without_a_warning(host, "next");
    let next = host.serve(Inside("next"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8090", "next"), "10.99.0.2");
    drop(next);
    host.cocker("shutdown next").ok();
}

fn a_table_that_was_deleted_is_there_again_with_all_mappings(host: &Host) {
    two_booted(host);
    for family in ["inet", "bridge", "inet"] {
        host.at(OnHost, &format!("nft delete table {family} cocker"));
        next_boot_repairs(host);
        both_work(host);
    }
    // The last to go takes the table's contents with it, as if nothing had happened.
    host.cocker("shutdown web").ok();
    host.cocker("shutdown db").ok();
}

fn a_rule_set_that_was_flushed_is_there_again_with_all_mappings(host: &Host) {
    two_booted(host);
    host.at(OnHost, "nft flush ruleset");
    next_boot_repairs(host);
    both_work(host);
}

fn maps_that_were_flushed_or_deleted_lead_to_all_containers_again(host: &Host) {
    two_booted(host);
    host.at(OnHost, "nft flush map inet cocker ports4");
    next_boot_repairs(host);
    both_work(host);
    host.at(OnHost, "nft flush set bridge cocker senders4");
    next_boot_repairs(host);
    both_work(host);
    host.at(
        OnHost,
        "nft flush table inet cocker
         nft delete map inet cocker ports4",
    );
    next_boot_repairs(host);
    both_work(host);
}

fn a_link_that_is_gone_is_of_no_harm_to_others(host: &Host) {
    host.lab().add_second_link();
    two_booted(host);
    host.booted_on_bridge("far", "--host-eth eth1");
    host.at(
        OnHost,
        "ip link del eth1
         nft delete table inet cocker",
    );
    next_boot_repairs(host);
    both_work(host);
}

fn a_host_without_a_default_route_is_warned_of(host: &Host) {
    host.at(OnHost, "ip route del default; ip -6 route del default");
    host.created_on_bridge("web", "--port-mapping 8080:80");
    let outcome = host.cocker("boot web").ok();
    for text in ["Warning: ", "default route", "Hint: "] {
        assert!(outcome.stderr.contains(text), "{outcome}");
    }
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(OnHost, "127.0.0.1:8080", "web");
}

/// A chain as nft(8) wants it said: family, table, name.
fn said(chain: &serde_json::Value) -> String {
    let word = |key: &str| chain[key].as_str().expect("a chain has it");
    format!("{} {} {}", word("family"), word("table"), word("name"))
}

fn a_chain_that_was_flushed_has_its_rules_again(host: &Host) {
    two_booted(host);
    let rules = host.lab().rules();
    let table = host.lab().table().expect("two containers are booted");
    let chains = table.iter().filter_map(|object| object.get("chain"));
    for chain in chains.map(said) {
        host.at(OnHost, &format!("nft flush chain {chain}"));
        next_boot_repairs(host);
        assert_eq!(host.lab().rules(), rules, "after chain {chain} was flushed");
        both_work(host);
    }
}

fn a_rule_that_was_deleted_is_there_again(host: &Host) {
    two_booted(host);
    let rules = host.lab().rules();
    for n in 0..rules.len() {
        let table = host.lab().table().expect("two containers are booted");
        let rule = table
            .iter()
            .filter_map(|object| object.get("rule"))
            .nth(n)
            .expect("the table has as many rules as before");
        let (family, chain, handle) = (&rule["family"], &rule["chain"], &rule["handle"]);
        host.at(
            OnHost,
            &format!("nft delete rule {family} cocker {chain} handle {handle}"),
        );
        next_boot_repairs(host);
        assert_eq!(host.lab().rules(), rules, "after rule {rule} was deleted");
    }
    both_work(host);
}

fn rules_that_were_added_to_the_table_are_gone(host: &Host) {
    two_booted(host);
    let rules = host.lab().rules();
    let table = host.lab().table().expect("two containers are booted");
    let chains = table.iter().filter_map(|object| object.get("chain"));
    for chain in chains.map(said) {
        host.at(
            OnHost,
            &format!("nft insert rule {chain} tcp dport 80 drop"),
        );
    }
    assert_ne!(host.lab().rules(), rules);
    next_boot_repairs(host);
    assert_eq!(host.lab().rules(), rules);
    both_work(host);
}

fn a_container_is_shut_down_whose_table_is_gone(host: &Host) {
    two_booted(host);
    host.at(OnHost, "nft flush ruleset");
    host.cocker("shutdown web").ok();
    host.cocker("kill db").ok();
    for name in ["web", "db"] {
        assert_eq!(host.status(name), "STOPPED");
        host.cocker(&format!("boot {name}")).ok();
    }
    both_work(host);
}

fn a_bridge_that_was_deleted_has_its_ports_again(host: &Host) {
    two_booted(host);
    host.at(OnHost, "ip link del cocker0");
    assert_eq!(host.bridge_ports(), ["", ""]);
    next_boot_repairs(host);
    let ports = host.bridge_ports();
    assert!(ports.iter().all(|bridge| bridge == "cocker0"), "{ports:?}");
    both_work(host);
    // The host's 127.0.0.1 leads to them again as well, though the container that is booted has no mapping.
    host.created_on_bridge("plain", "");
    host.at(OnHost, "ip link del cocker0");
    host.cocker("boot plain").ok();
    both_work(host);
}

fn a_bridge_that_was_put_down_is_up_again(host: &Host) {
    two_booted(host);
    host.at(OnHost, "ip link set cocker0 down");
    next_boot_repairs(host);
    both_work(host);
}

fn a_bridges_address_that_was_removed_is_there_again(host: &Host) {
    two_booted(host);
    host.at(OnHost, "ip addr flush dev cocker0");
    next_boot_repairs(host);
    assert_eq!(host.addresses(OnHost, "cocker0"), "166.88.0.1/24");
    both_work(host);
}

fn forwarding_that_was_turned_off_is_on_again(host: &Host) {
    two_booted(host);
    host.at(OnHost, "echo 0 > /proc/sys/net/ipv4/ip_forward");
    next_boot_repairs(host);
    both_work(host);
}

fn an_address_of_the_subnet_on_another_link_is_named(host: &Host) {
    host.created_on_bridge("web", "");
    for (address, link) in [("166.88.0.200/24", "eth0"), ("166.88.0.1/16", "other0")] {
        host.at(
            OnHost,
            &format!(
                "ip link show {link} > /dev/null 2>&1 || ip link add {link} type bridge
                 ip addr add {address} dev {link}"
            ),
        );
        let plain = address.split('/').next().expect("it has an address");
        host.cocker("boot web").fails(1, &["web", plain, link]);
        assert_eq!(host.status("web"), "STOPPED");
        host.at(OnHost, &format!("ip addr del {address} dev {link}"));
        host.cocker("boot web").ok();
        host.cocker("shutdown web").ok();
    }
}

fn a_link_that_has_the_bridges_name_is_named(host: &Host) {
    host.created_on_bridge("web", "");
    host.at(
        OnHost,
        "ip link add cocker0 type veth peer name cocker0peer",
    );
    host.cocker("boot web").fails(1, &["web", "cocker0"]);
    assert_eq!(host.status("web"), "STOPPED");
    host.at(OnHost, "ip link del cocker0");
    host.cocker("boot web").ok();
}

/// The commands that a warning tells to type: what stands between backticks, or alone on a line, and begins with the
/// name of a program for rules.
fn commands_in(warning: &str) -> Vec<&str> {
    let pieces = warning.split(['`', '\n']).map(str::trim);
    pieces
        .filter(|piece| {
            ["iptables ", "iptables-legacy ", "ip6tables ", "nft "]
                .iter()
                .any(|program| piece.starts_with(program))
        })
        .collect()
}

/// Boots a container on a host whose own rules drop what is forwarded; follows the advice that is given.
#[track_caller]
fn is_warned_of_and_the_advice_helps(host: &Host) {
    host.created_on_bridge("web", "--port-mapping 8080:80");
    let outcome = host.cocker("boot web").ok();
    assert!(
        outcome
            .stderr
            .lines()
            .any(|line| line.starts_with("Warning: ")),
        "{outcome}"
    );
    let commands = commands_in(&outcome.stderr);
    assert!(
        !commands.is_empty() && commands.iter().all(|it| it.contains("cocker0")),
        "{commands:?} in {outcome}"
    );
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:80"),
        host.serve(Outside, "0.0.0.0:7000"),
    ];
    host.does_not_reach(Outside, "10.99.0.1:8080");
    host.does_not_reach(Inside("web"), "10.99.0.2:7000");
    for command in commands {
        host.at(OnHost, command);
    }
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "web"), "10.99.0.2");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
    host.booted_on_bridge("db", "");
    host.cocker("shutdown db").ok();
    boots_without_a_warning(host, "db");
}

fn iptables_that_drop_what_is_forwarded_are_warned_of(host: &Host) {
    host.at(OnHost, "iptables -P FORWARD DROP");
    is_warned_of_and_the_advice_helps(host);
}

fn old_iptables_that_drop_what_is_forwarded_are_warned_of(host: &Host) {
    host.at(OnHost, "iptables-legacy -P FORWARD DROP");
    is_warned_of_and_the_advice_helps(host);
}

fn a_chain_of_nftables_that_drops_what_is_forwarded_is_warned_of(host: &Host) {
    host.at(
        OnHost,
        "nft add table inet firewall
         nft 'add chain inet firewall forward { type filter hook forward priority 0; policy drop; }'
         nft add rule inet firewall forward ct state established,related accept",
    );
    is_warned_of_and_the_advice_helps(host);
}

fn an_uplink_that_is_gone_is_named(host: &Host) {
    host.lab().add_second_link();
    host.created_on_bridge("web", "--host-eth eth1");
    host.at(OnHost, "ip link del eth1");
    host.cocker("boot web").fails(1, &["web", "eth1"]);
    assert_eq!(host.status("web"), "STOPPED");
    host.cocker("set-host-eth web").ok();
    host.cocker("boot web").ok();
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
}
