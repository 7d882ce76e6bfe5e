//! What a container knows by name: its resolvers, `/etc/hosts`, its hostname.

use crate::host::Place::Inside;
use crate::host::{Host, in_a_lab};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        resolvers_are_the_hosts_but_for_those_on_loopback,
        with_the_hosts_network_the_hosts_resolvers_are_all_there,
        behind_a_resolver_of_the_host_systemds_own_list_is_taken,
        a_file_of_resolvers_in_the_image_is_kept,
        resolvers_that_were_edited_inside_stay_over_a_reboot,
        hosts_knows_the_container_and_its_address,
        hosts_follows_the_address_and_keeps_lines_added_by_hand,
        the_hostname_is_the_containers_name_or_what_create_was_told,
    ]
}

/// What the layer of `web` has at this path, where it has anything.
fn in_the_layer(host: &Host, path: &str) -> Option<String> {
    let upper = host.home().join("containers/web/files/upper");
    fs::read_to_string(upper.join(path)).ok()
}

fn resolvers_are_the_hosts_but_for_those_on_loopback(host: &Host) {
    host.booted_on_bridge("web", "");
    let resolvers = host.inside("web", "cat /etc/resolv.conf");
    for line in [
        "nameserver 10.99.0.2",
        "search lab.example",
        "options ndots:2",
    ] {
        assert!(resolvers.lines().any(|it| it == line), "{resolvers}");
    }
    assert!(!resolvers.contains("127.0.0.53"), "{resolvers}");
    // It is lent, not given: an image made of this container has no resolvers of this host.
    assert!(in_the_layer(host, "etc/resolv.conf").is_none_or(|text| text.is_empty()));
    host.cocker("shutdown web").ok();
    assert!(in_the_layer(host, "etc/resolv.conf").is_none_or(|text| text.is_empty()));
}

fn with_the_hosts_network_the_hosts_resolvers_are_all_there(host: &Host) {
    host.booted("web");
    let resolvers = host.inside("web", "cat /etc/resolv.conf");
    for line in ["nameserver 127.0.0.53", "nameserver 10.99.0.2"] {
        assert!(resolvers.lines().any(|it| it == line), "{resolvers}");
    }
}

fn behind_a_resolver_of_the_host_systemds_own_list_is_taken(host: &Host) {
    let files = host.folder("run");
    fs::write(files.join("stub"), "nameserver 127.0.0.53\n").expect("the folder is ours");
    fs::write(files.join("list"), "nameserver 10.99.0.53\n").expect("the folder is ours");
    // A host whose /run has systemd's list, in a mount namespace that ends with the container. The names of network
    // namespaces are the same as outside of it.
    let run = files.display();
    host.shell(&format!(
        "exec unshare --mount --propagation unchanged sh -ec '
            mkdir {run}/names
            mount --rbind /run/netns {run}/names
            mount -t tmpfs -o mode=755 cocker-tests /run
            mkdir -p /run/netns /run/systemd/resolve
            mount --rbind {run}/names /run/netns
            cp {run}/list /run/systemd/resolve/resolv.conf
            mount --bind {run}/stub /etc/resolv.conf
            exec cocker create -m test -c web --net BRIDGE -b'"
    ))
    .ok();
    let resolvers = host.inside("web", "cat /etc/resolv.conf");
    assert!(
        resolvers
            .lines()
            .any(|line| line == "nameserver 10.99.0.53"),
        "{resolvers}"
    );
    assert!(!resolvers.contains("127.0.0.53"), "{resolvers}");
}

fn a_file_of_resolvers_in_the_image_is_kept(host: &Host) {
    let text = "# of the image\nnameserver 9.9.9.9\n";
    host.add_image("resolving", |tree| {
        fs::create_dir(tree.join("etc")).expect("the tree is ours");
        fs::write(tree.join("etc/resolv.conf"), text).expect("the tree is ours");
    });
    host.cocker("create -m test,resolving -c web --net BRIDGE -b")
        .ok();
    assert_eq!(
        host.inside("web", "cat /etc/resolv.conf"),
        text.trim_end(),
        "the image's own file"
    );
}

fn resolvers_that_were_edited_inside_stay_over_a_reboot(host: &Host) {
    host.booted_on_bridge("web", "");
    host.inside(
        "web",
        "echo nameserver 9.9.9.9 > /etc/resolv.conf; echo options rotate >> /etc/resolv.conf",
    );
    for _ in 0..2 {
        host.cocker("shutdown web").ok();
        host.cocker("boot web").ok();
        assert_eq!(
            host.inside("web", "cat /etc/resolv.conf"),
            "nameserver 9.9.9.9\noptions rotate"
        );
    }
}

/// The names that `/etc/hosts` of `web` has for an address.
fn names_of(host: &Host, address: &str) -> Vec<String> {
    let hosts = host.inside("web", "cat /etc/hosts");
    let lines = hosts.lines().map(|line| {
        let told = line.split('#').next().unwrap_or_default();
        told.split_whitespace().collect::<Vec<_>>()
    });
    lines
        .filter(|words| words.first() == Some(&address))
        .flat_map(|words| {
            words[1..]
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn hosts_knows_the_container_and_its_address(host: &Host) {
    host.booted_on_bridge("web", "--host www");
    assert_eq!(names_of(host, "166.88.0.2"), ["www"]);
    assert!(names_of(host, "127.0.0.1").contains(&"localhost".into()));
}

fn hosts_follows_the_address_and_keeps_lines_added_by_hand(host: &Host) {
    host.booted_on_bridge("web", "");
    host.inside("web", "echo 10.1.2.3 db.by-hand >> /etc/hosts");
    host.cocker("shutdown web").ok();
    host.cocker("set-vip web --vip 166.88.0.99").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.addresses(Inside("web"), "eth0"), "166.88.0.99/24");
    assert_eq!(names_of(host, "166.88.0.99"), ["web"]);
    assert_eq!(names_of(host, "166.88.0.2"), Vec::<String>::new());
    assert_eq!(names_of(host, "10.1.2.3"), ["db.by-hand"]);
    let before = host.inside("web", "cat /etc/hosts");
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /etc/hosts"), before);
}

fn the_hostname_is_the_containers_name_or_what_create_was_told(host: &Host) {
    host.booted_on_bridge("web", "");
    host.booted_on_bridge("db", "--host database");
    for (name, hostname) in [("web", "web"), ("db", "database")] {
        assert_eq!(host.inside(name, "cat /proc/sys/kernel/hostname"), hostname);
    }
}
