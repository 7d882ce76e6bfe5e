//! Several stores on one host, and several bridges of one store.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        two_stores_with_bridges_of_their_own_work_side_by_side,
        the_last_container_of_one_store_takes_nothing_of_the_other,
        a_bridge_of_another_store_is_refused_precisely,
        a_subnet_of_another_store_is_refused_precisely,
        a_port_of_another_stores_container_is_refused_precisely,
        containers_of_two_stores_with_one_name_do_not_mix,
        stores_that_come_and_go_at_once_keep_their_rules,
        a_full_bridge_is_followed_by_another,
        a_second_bridge_does_what_the_first_does,
        an_address_says_its_bridge,
        config_that_no_bridge_can_have_is_refused,
    ]
}

/// Gives the other store a bridge and a subnet that the first does not have.
fn other_store(host: &Host) -> &Host {
    let other = host.other_store();
    other.configure_network(&["bridge = \"lab0\"", "subnet = \"10.77.0.1/24\""]);
    other
}

/// Asserts that container `web` works in both directions: 166.88.0.2 and port 8080, or 10.77.0.2 and port 8081.
#[track_caller]
fn works(host: &Host, port: u16) {
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    let mapped = format!("10.99.0.1:{port}");
    assert_eq!(host.reaches(Outside, &mapped, "web"), "10.99.0.2");
    host.reaches(OnHost, &format!("127.0.0.1:{port}"), "web");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

fn two_stores_with_bridges_of_their_own_work_side_by_side(host: &Host) {
    let other = other_store(host);
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    other.booted_on_bridge("web", "--port-mapping 8081:80");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.2/24");
    assert_eq!(other.addresses(Inside("web"), "eth0"), "10.77.0.2/24");
    assert_eq!(
        host.links(OnHost)
            .split(' ')
            .filter(|it| !it.starts_with("ck"))
            .collect::<Vec<_>>(),
        ["cocker0", "eth0", "lab0", "lo"]
    );
    works(host, 8080);
    works(other, 8081);
    // Each is reached by the other as by any container: by the host's address.
    let _web = other.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("web"), "10.99.0.1:8081", "web");
}

fn the_last_container_of_one_store_takes_nothing_of_the_other(host: &Host) {
    let other = other_store(host);
    for (first, second, port) in [(host, other, 8081), (other, host, 8080)] {
        host.booted_on_bridge("web", "--port-mapping 8080:80");
        other.booted_on_bridge("web", "--port-mapping 8081:80");
        first.cocker("shutdown web").ok();
        works(second, port);
        first.cocker("destroy web").ok();
        works(second, port);
        second.cocker("destroy web --shutdown").ok();
        host.nothing_is_left();
        other.nothing_is_left();
    }
}

/// Creates and boots container `web` of the other store, of which one must fail naming each of these.
#[track_caller]
fn is_refused(other: &Host, named: &[&str]) {
    let created =
        other.cocker("create -m test -c web --net BRIDGE --vip 166.88.0.77 --port-mapping 8081:80");
    if created.status.success() {
        other.cocker("boot web").fails(1, named);
        assert_eq!(other.status("web"), "STOPPED");
    } else {
        created.fails(1, named);
    }
}

fn a_bridge_of_another_store_is_refused_precisely(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    let other = host.other_store();
    other.configure_network(&["bridge = \"cocker0\"", "subnet = \"166.88.0.1/24\""]);
    is_refused(other, &["cocker0", &host.home().display().to_string()]);
    works(host, 8080);
}

fn a_subnet_of_another_store_is_refused_precisely(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    let other = host.other_store();
    other.configure_network(&["bridge = \"lab0\"", "subnet = \"166.88.0.1/25\""]);
    is_refused(other, &["166.88.0.1", "cocker0"]);
    // The bridge that was begun is not left with an address that is somebody else's.
    let addresses = host.at(OnHost, "ip -4 -br addr");
    assert_eq!(addresses.matches("166.88.0.").count(), 1, "{addresses}");
    works(host, 8080);
}

fn a_port_of_another_stores_container_is_refused_precisely(host: &Host) {
    let other = other_store(host);
    host.booted_on_bridge("holder", "--port-mapping 8080:80");
    other.created_on_bridge("web", "--port-mapping 8080:80");
    other.cocker("boot web").fails(
        1,
        &["web", "8080", "holder", &host.home().display().to_string()],
    );
    host.cocker("shutdown holder").ok();
    other.cocker("boot web").ok();
    works(other, 8080);
}

fn containers_of_two_stores_with_one_name_do_not_mix(host: &Host) {
    let other = other_store(host);
    host.booted_on_bridge("web", "--port-mapping 8080:80");
    other.booted_on_bridge("web", "--port-mapping 8081:80");
    assert_ne!(host.netns("web"), other.netns("web"));
    host.cocker("shutdown web").ok();
    works(other, 8081);
    host.cocker("boot web").ok();
    host.cocker("destroy web --shutdown").ok();
    works(other, 8081);
}

/// A bridge with room for five containers.
fn with_small_bridges(host: &Host) {
    host.configure_network(&["subnet = \"10.77.0.1/29\""]);
}

fn stores_that_come_and_go_at_once_keep_their_rules(host: &Host) {
    let other = other_store(host);
    host.created_on_bridge("web", "--port-mapping 8080:80");
    other.created_on_bridge("db", "--port-mapping 5432:5432");
    for _ in 0..15 {
        host.cocker("boot web").ok();
        // The last container of one store goes while the first of the other comes.
        let going = host.start("shutdown web");
        other.cocker("boot db").ok();
        going.outcome().ok();
        let service = other.serve(Inside("db"), "0.0.0.0:5432");
        host.reaches(OnHost, "127.0.0.1:5432", "db");
        assert!(!host.lab().rules().is_empty());
        drop(service);
        other.cocker("shutdown db").ok();
    }
}

fn a_full_bridge_is_followed_by_another(host: &Host) {
    with_small_bridges(host);
    for n in 2..=6 {
        let name = format!("c{n}");
        host.booted_on_bridge(&name, "");
        let address = host.addresses(Inside(&name), "eth0");
        assert_eq!(address, format!("10.77.0.{n}/29"));
    }
    assert!(!host.links(OnHost).contains("cocker0-1"));
    host.booted_on_bridge("sixth", "");
    assert_eq!(host.addresses(Inside("sixth"), "eth0"), "10.77.0.10/29");
    assert_eq!(host.addresses(OnHost, "cocker0-1"), "10.77.0.9/29");
    let mut bridges = host.bridge_ports();
    bridges.sort();
    assert_eq!(
        bridges,
        [["cocker0"; 5].as_slice(), &["cocker0-1"]].concat()
    );
    // A place that becomes free on the first is given before the second's next.
    host.cocker("destroy c4 --shutdown").ok();
    host.booted_on_bridge("seventh", "");
    assert_eq!(host.addresses(Inside("seventh"), "eth0"), "10.77.0.4/29");
}

fn a_second_bridge_does_what_the_first_does(host: &Host) {
    with_small_bridges(host);
    host.booted_on_bridge("first", "");
    for n in 3..=6 {
        host.created_on_bridge(&format!("c{n}"), "");
    }
    host.booted_on_bridge("sixth", "--port-mapping 8080:80");
    assert_eq!(host.addresses(Inside("sixth"), "eth0"), "10.77.0.10/29");
    let _first = host.serve(Inside("first"), "0.0.0.0:80");
    let _sixth = host.serve(Inside("sixth"), "0.0.0.0:80");
    // Between the two the host routes, and hides nobody.
    let seen = host.reaches(Inside("first"), "10.77.0.10:80", "sixth");
    assert_eq!(seen, "10.77.0.2");
    let seen = host.reaches(Inside("sixth"), "10.77.0.2:80", "first");
    assert_eq!(seen, "10.77.0.10");
    host.reaches(OnHost, "10.77.0.10:80", "sixth");
    host.reaches(OnHost, "127.0.0.1:8080", "sixth");
    assert_eq!(
        host.reaches(Outside, "10.99.0.1:8080", "sixth"),
        "10.99.0.2"
    );
    for name in ["first", "sixth"] {
        host.reaches(Inside(name), "10.99.0.1:8080", "sixth");
    }
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let seen = host.reaches(Inside("sixth"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

fn an_address_says_its_bridge(host: &Host) {
    with_small_bridges(host);
    // A further bridge is opened when the first is full, and not because somebody says an address there.
    host.cocker("create -m test -c early --net BRIDGE --vip 10.77.0.13")
        .refuses(&["10.77.0.13", "10.77.0.1/29"]);
    for number in 0..6 {
        host.created_on_bridge(&format!("full{number}"), "");
    }
    host.booted_on_bridge("web", "--vip 10.77.0.13");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "10.77.0.13/29");
    assert_eq!(host.addresses(OnHost, "cocker0-1"), "10.77.0.9/29");
    assert_eq!(host.bridge_ports(), ["cocker0-1"]);
    // The networks' own addresses and those of their bridges are nobody's, on each of them.
    for address in [
        "10.77.0.7",
        "10.77.0.8",
        "10.77.0.9",
        "10.77.0.15",
        "10.77.0.128",
    ] {
        host.cocker(&format!(
            "create -m test -c bad --net BRIDGE --vip {address}"
        ))
        .refuses(&[address]);
    }
}

fn config_that_no_bridge_can_have_is_refused(host: &Host) {
    for (line, named) in [
        ("brigde = \"x\"", "brigde"),
        ("bridge = \"a/b\"", "a/b"),
        ("bridge = \"this-is-too-long\"", "this-is-too-long"),
        ("subnet = \"166.88.0.1\"", "166.88.0.1"),
        ("subnet = \"166.88.0.0/24\"", "166.88.0.0/24"),
        ("subnet = \"127.0.0.1/8\"", "127.0.0.1/8"),
        ("subnet6 = \"166.88.0.1/24\"", "166.88.0.1/24"),
        ("mtu = 1", "mtu"),
    ] {
        host.configure_network(&[line]);
        host.cocker("create -m test -c web --net BRIDGE")
            .fails(1, &["config.toml", named]);
        host.cocker("-s containers").succeeds().prints("");
    }
    assert_eq!(host.links(OnHost), "eth0 lo");
    // Who has nothing to do with a bridge is not bothered.
    host.booted("web");
}
