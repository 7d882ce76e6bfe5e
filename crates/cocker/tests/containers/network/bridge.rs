//! BRIDGE: an address, links, and who reaches whom without a port mapping.

use crate::host::Place::{Elsewhere, Inside, OnHost, Outside, Pinned};
use crate::host::{Host, eventually, in_a_lab};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        containers_get_the_next_free_addresses_and_give_them_back,
        a_container_has_the_address_that_create_was_told,
        an_address_is_taken_from_create_to_destroy,
        a_container_sees_its_own_links_and_no_others,
        the_host_and_a_container_reach_each_other,
        containers_reach_each_other_and_see_who_asks,
        outside_sees_the_host_in_place_of_a_container,
        beyond_a_link_that_is_no_uplink_a_container_is_seen_itself,
        host_eth_says_on_which_link_the_host_stands_for_a_container,
        root_inside_configures_its_own_network,
        the_hardware_address_stays_over_a_reboot,
        the_host_has_a_bridge_and_one_port_for_each_booted_container,
        the_namespace_is_pinned_while_booted,
        a_stopped_container_is_gone_from_the_network,
        only_links_that_containers_use_forward,
        packets_are_as_large_as_the_uplink_takes_or_as_configured,
        a_container_with_the_longest_name_has_a_network,
        containers_that_are_made_and_booted_at_the_same_time_all_have_a_network,
        a_hundred_reboots_leave_no_link_behind,
    ]
}

/// The file that says whose an address is.
fn holder(host: &Host, address: &str) -> PathBuf {
    host.home().join("addresses").join(address)
}

fn containers_get_the_next_free_addresses_and_give_them_back(host: &Host) {
    for name in ["one", "two", "three"] {
        host.booted_on_bridge(name, "");
    }
    let address = |name| host.addresses(Inside(name), "eth0");
    assert_eq!(
        ["one", "two", "three"].map(address),
        ["166.88.0.2/24", "166.88.0.3/24", "166.88.0.4/24"]
    );
    host.cocker("destroy two --shutdown").ok();
    host.booted_on_bridge("four", "");
    host.booted_on_bridge("five", "");
    assert_eq!(
        ["four", "five"].map(address),
        ["166.88.0.3/24", "166.88.0.5/24"]
    );
}

fn a_container_has_the_address_that_create_was_told(host: &Host) {
    host.booted_on_bridge("web", "--vip 166.88.0.77");
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.77/24");
    assert_eq!(host.addresses(OnHost, "cocker0"), "166.88.0.1/24");
    let routes = host.at(Inside("web"), "ip -4 route");
    assert!(
        routes
            .lines()
            .any(|route| route.starts_with("default via 166.88.0.1 dev eth0")),
        "{routes}"
    );
    // The same at the next boot.
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.77/24");
    // Loopback is the container's own, and up.
    let _web = host.serve(Inside("web"), "127.0.0.1:80");
    assert_eq!(
        host.reaches(Inside("web"), "127.0.0.1:80", "web"),
        "127.0.0.1"
    );
    host.does_not_reach(OnHost, "127.0.0.1:80");
}

fn an_address_is_taken_from_create_to_destroy(host: &Host) {
    host.created_on_bridge("web", "");
    let link = fs::read_link(holder(host, "166.88.0.2")).expect("its address is taken");
    assert_eq!(link, Path::new("web"));
    // A stopped container keeps it, and the automatic choice steps over one that was asked for.
    host.created_on_bridge("fixed", "--vip 166.88.0.3");
    host.booted_on_bridge("db", "");
    assert_eq!(host.addresses(Inside("db"), "eth0"), "166.88.0.4/24");
    host.cocker("destroy web").ok();
    assert!(fs::symlink_metadata(holder(host, "166.88.0.2")).is_err());
    host.created_on_bridge("again", "--vip 166.88.0.2");
    let link = fs::read_link(holder(host, "166.88.0.2")).expect("its address is taken");
    assert_eq!(link, Path::new("again"));
}

fn a_container_sees_its_own_links_and_no_others(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "");
    assert_eq!(host.inside("web", "ls /sys/class/net"), "eth0\nlo");
    let listed = host.inside("web", "cat /proc/net/dev");
    let mut names: Vec<&str> = listed
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["eth0", "lo"]);
    let namespaces: BTreeSet<String> = [OnHost, Inside("web"), Inside("db")]
        .map(|place| host.at(place, "readlink /proc/self/ns/net"))
        .into();
    assert_eq!(namespaces.len(), 3, "{namespaces:?}");
}

fn the_host_and_a_container_reach_each_other(host: &Host) {
    host.booted_on_bridge("web", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        let _ours = host.serve(OnHost, &format!("166.88.0.1:7000{protocol}"));
        let web = format!("166.88.0.2:80{protocol}");
        assert_eq!(host.reaches(OnHost, &web, "web"), "166.88.0.1");
        let ours = format!("166.88.0.1:7000{protocol}");
        assert_eq!(host.reaches(Inside("web"), &ours, "host"), "166.88.0.2");
    }
    // By the host's other address, too.
    let _ours = host.serve(OnHost, "10.99.0.1:7001");
    let seen = host.reaches(Inside("web"), "10.99.0.1:7001", "host");
    assert_eq!(seen, "166.88.0.2");
}

fn containers_reach_each_other_and_see_who_asks(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "");
    for protocol in ["", "/udp"] {
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        let _db = host.serve(Inside("db"), &format!("0.0.0.0:5432{protocol}"));
        let (web, db) = (
            format!("166.88.0.2:80{protocol}"),
            format!("166.88.0.3:5432{protocol}"),
        );
        assert_eq!(host.reaches(Inside("web"), &db, "db"), "166.88.0.2");
        assert_eq!(host.reaches(Inside("db"), &web, "web"), "166.88.0.3");
    }
}

fn outside_sees_the_host_in_place_of_a_container(host: &Host) {
    host.booted_on_bridge("web", "");
    for protocol in ["", "/udp"] {
        let _outside = host.serve(Outside, &format!("0.0.0.0:7000{protocol}"));
        let outside = format!("10.99.0.2:7000{protocol}");
        let seen = host.reaches(Inside("web"), &outside, "outside");
        assert_eq!(seen, "10.99.0.1");
        // What the host sends itself is as before.
        assert_eq!(host.reaches(OnHost, &outside, "outside"), "10.99.0.1");
    }
}

fn beyond_a_link_that_is_no_uplink_a_container_is_seen_itself(host: &Host) {
    host.lab().add_second_link();
    host.at(Elsewhere, "ip route add 166.88.0.0/24 via 10.98.0.1");
    host.booted_on_bridge("web", "");
    // Cocker forwards on the uplink alone; elsewhere it is the administrator's decision.
    host.at(
        OnHost,
        "sh -c 'echo 1 > /proc/sys/net/ipv4/conf/eth1/forwarding'",
    );
    let _elsewhere = host.serve(Elsewhere, "0.0.0.0:7000");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let seen = host.reaches(Inside("web"), "10.98.0.2:7000", "elsewhere");
    assert_eq!(seen, "166.88.0.2");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

fn host_eth_says_on_which_link_the_host_stands_for_a_container(host: &Host) {
    host.lab().add_second_link();
    host.at(Outside, "ip route add 166.88.0.0/24 via 10.99.0.1");
    host.booted_on_bridge("web", "--host-eth eth1");
    host.booted_on_bridge("db", "");
    let _elsewhere = host.serve(Elsewhere, "0.0.0.0:7000");
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let seen = host.reaches(Inside("web"), "10.98.0.2:7000", "elsewhere");
    assert_eq!(seen, "10.98.0.1");
    let seen = host.reaches(Inside("web"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "166.88.0.2");
    // Another container has an uplink of its own.
    let seen = host.reaches(Inside("db"), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
}

fn root_inside_configures_its_own_network(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "");
    // Without the state of links, and without addresses that the kernel gives by itself, which may take a moment.
    let network = || {
        let addresses = host.at(OnHost, "ip -o addr show scope global");
        (host.links(OnHost), addresses)
    };
    let before = network();
    host.inside(
        "web",
        "ip addr add 166.88.0.200/24 dev eth0 && ip link set lo mtu 1400",
    );
    assert_eq!(
        host.addresses(Inside("web"), "eth0"),
        "166.88.0.2/24 166.88.0.200/24"
    );
    assert_eq!(network(), before);
    // What it calls itself is its own affair: to others it is who it was made.
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("web"), "166.88.0.200:80", "web");
    host.does_not_reach(Inside("db"), "166.88.0.200:80");
    host.reaches(Inside("db"), "166.88.0.2:80", "web");
}

fn the_hardware_address_stays_over_a_reboot(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "");
    let address = |name| host.hardware_address(Inside(name), "eth0");
    let before = address("web");
    assert!(before.starts_with("02:42:"), "{before}");
    assert_ne!(before, address("db"));
    // A neighbour that remembers the address from before still finds the container.
    let web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("db"), "166.88.0.2:80", "web");
    drop(web);
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(address("web"), before);
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("db"), "166.88.0.2:80", "web");
    host.reaches(OnHost, "166.88.0.2:80", "web");
}

fn the_host_has_a_bridge_and_one_port_for_each_booted_container(host: &Host) {
    host.created_on_bridge("web", "");
    assert_eq!(host.bridge_ports(), Vec::<String>::new());
    host.cocker("boot web").ok();
    assert_eq!(host.bridge_ports(), ["cocker0"]);
    host.booted_on_bridge("db", "");
    assert_eq!(host.bridge_ports(), ["cocker0", "cocker0"]);
    host.cocker("shutdown web").ok();
    eventually("the port of web is gone", || host.bridge_ports().len() == 1);
}

fn the_namespace_is_pinned_while_booted(host: &Host) {
    host.booted_on_bridge("web", "");
    let netns = host.netns("web");
    let digits = netns.strip_prefix("nns").unwrap_or_default();
    assert!(
        digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "netns is {netns}"
    );
    let pin = Path::new("/run/netns").join(&netns);
    let inode = |path: &Path| fs::metadata(path).expect("it is there").ino();
    let of_root_process = format!("/proc/{}/ns/net", host.root_process("web"));
    assert_eq!(inode(&pin), inode(Path::new(&of_root_process)));
    assert_eq!(host.addresses(Pinned(&netns), "eth0"), "166.88.0.2/24");
    assert!(host.at(OnHost, "ip netns list").contains(&netns));
    host.cocker("shutdown web").ok();
    assert!(!pin.exists(), "the pin of a stopped container is there");
    host.cocker("boot web").ok();
    assert_eq!(host.netns("web"), netns);
    assert!(pin.exists(), "the pin of a booted container is not there");
}

fn a_stopped_container_is_gone_from_the_network(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 8080:80,8081:81/udp");
    host.booted_on_bridge("db", "--port-mapping 5432:5432");
    for end in ["shutdown", "kill"] {
        assert!(host.table_names("166.88.0.2"));
        host.cocker(&format!("{end} web")).ok();
        assert!(
            !host.table_names("166.88.0.2"),
            "{end}:\n{}",
            host.lab().report()
        );
        assert!(host.table_names("166.88.0.3"));
        eventually("one port is left", || host.bridge_ports().len() == 1);
        host.cocker("boot web").ok();
    }
    host.cocker("destroy web --shutdown").ok();
    host.cocker("destroy db --shutdown").ok();
    host.nothing_is_left();
}

fn only_links_that_containers_use_forward(host: &Host) {
    host.lab().add_second_link();
    let forwards = |link: &str| {
        let file = format!("/proc/sys/net/ipv4/conf/{link}/forwarding");
        host.at(OnHost, &format!("cat {file}"))
    };
    assert_eq!(forwards("eth0"), "0");
    host.booted_on_bridge("web", "");
    assert_eq!(
        ["cocker0", "eth0", "eth1"].map(forwards),
        ["1", "1", "0"],
        "cocker0, eth0, eth1"
    );
    host.booted_on_bridge("db", "--host-eth eth1");
    assert_eq!(forwards("eth1"), "1");
}

fn packets_are_as_large_as_the_uplink_takes_or_as_configured(host: &Host) {
    let mtu = |name| host.at(Inside(name), "ip link show dev eth0");
    host.at(Outside, "ip link set eth0 mtu 1400");
    host.at(OnHost, "ip link set eth0 mtu 1400");
    host.booted_on_bridge("web", "");
    assert!(mtu("web").contains(" mtu 1400 "), "{}", mtu("web"));
    host.configure_network(&["mtu = 1300"]);
    host.booted_on_bridge("db", "");
    assert!(mtu("db").contains(" mtu 1300 "), "{}", mtu("db"));
}

fn a_container_with_the_longest_name_has_a_network(host: &Host) {
    // Links have names of 15 bytes at most, containers of 64.
    let (one, two) = ("n".repeat(64), format!("{}2", "n".repeat(63)));
    host.booted_on_bridge(&one, "--port-mapping 8080:80");
    host.booted_on_bridge(&two, "--port-mapping 8081:80");
    assert_ne!(host.netns(&one), host.netns(&two));
    let _one = host.serve(Inside(&one), "0.0.0.0:80");
    let _two = host.serve(Inside(&two), "0.0.0.0:80");
    host.reaches(Inside(&two), "166.88.0.2:80", &one);
    host.reaches(Outside, "10.99.0.1:8080", &one);
    host.reaches(Outside, "10.99.0.1:8081", &two);
}

fn containers_that_are_made_and_booted_at_the_same_time_all_have_a_network(host: &Host) {
    let names: Vec<String> = (0..8).map(|n| format!("c{n}")).collect();
    let all_at_once = |line: &dyn Fn(usize) -> String| {
        let started: Vec<_> = (0..names.len()).map(|n| host.start(&line(n))).collect();
        for started in started {
            started.outcome().ok();
        }
    };
    all_at_once(&|n| format!("create -m test -c c{n} --net BRIDGE --port-mapping 800{n}:80"));
    for _ in 0..3 {
        all_at_once(&|n| format!("boot c{n}"));
        let addresses: BTreeSet<String> = names
            .iter()
            .map(|name| host.addresses(Inside(name), "eth0"))
            .collect();
        assert_eq!(addresses.len(), names.len(), "{addresses:?}");
        for (n, name) in names.iter().enumerate() {
            let _service = host.serve(Inside(name), "0.0.0.0:80");
            let mapped = format!("10.99.0.1:800{n}");
            assert_eq!(host.reaches(Outside, &mapped, name), "10.99.0.2");
        }
        all_at_once(&|n| format!("shutdown c{n}"));
    }
}

fn a_hundred_reboots_leave_no_link_behind(host: &Host) {
    host.created_on_bridge("web", "--port-mapping 8080:80");
    for _ in 0..100 {
        host.cocker("boot web").ok();
        host.cocker("kill web").ok();
    }
    eventually("the host has no port of a container", || {
        host.bridge_ports().is_empty()
    });
    assert!(!host.table_names("166.88.0.2"));
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    assert_eq!(host.reaches(Outside, "10.99.0.1:8080", "web"), "10.99.0.2");
}
