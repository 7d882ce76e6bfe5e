//! Ports of the host that somebody has already: a boot is refused and names who it is.

use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, in_a_lab};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        a_port_of_another_booted_container_is_refused_at_boot,
        two_that_are_never_booted_together_share_a_port,
        a_port_in_the_middle_of_ranges_is_refused_too,
        one_port_is_another_for_each_protocol_and_address,
        a_port_on_which_a_program_of_the_host_listens_is_refused,
        a_program_elsewhere_takes_no_port_of_the_host,
        of_many_booted_at_once_with_one_port_one_is_booted,
    ]
}

/// What must hold after a boot that was refused: nothing of the container's is in the network.
#[track_caller]
fn is_stopped_and_has_nothing(host: &Host, name: &str, address: &str) {
    assert_eq!(host.status(name), "STOPPED");
    assert!(
        !host.table_names(address),
        "{name} has elements:\n{}",
        host.lab().report()
    );
    assert!(!host.is_pinned(name), "{name} has a namespace");
}

fn a_port_of_another_booted_container_is_refused_at_boot(host: &Host) {
    host.booted_on_bridge("holder", "--port-mapping 8080:80");
    // The free port comes first: it must not be left behind.
    host.created_on_bridge("web", "--port-mapping 8079:79,8080:81");
    host.cocker("boot web").fails(1, &["web", "8080", "holder"]);
    is_stopped_and_has_nothing(host, "web", "166.88.0.3");
    let service = host.serve(Inside("holder"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "holder");
    drop(service);
    host.booted_on_bridge("db", "--port-mapping 8079:5432");

    host.cocker("shutdown holder").ok();
    host.cocker("shutdown db").ok();
    host.cocker("boot web").ok();
    let _web = host.serve(Inside("web"), "0.0.0.0:81");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    // Now it is the other way round.
    host.cocker("boot holder")
        .fails(1, &["holder", "8080", "web"]);
    host.reaches(Outside, "10.99.0.1:8080", "web");
}

fn two_that_are_never_booted_together_share_a_port(host: &Host) {
    for name in ["blue", "green"] {
        host.created_on_bridge(name, "--port-mapping 8080:80");
    }
    for name in ["blue", "green", "blue", "green"] {
        host.cocker(&format!("boot {name}")).ok();
        let service = host.serve(Inside(name), "0.0.0.0:80");
        assert_eq!(host.reaches(Outside, "10.99.0.1:8080", name), "10.99.0.2");
        drop(service);
        host.cocker(&format!("shutdown {name}")).ok();
    }
}

fn a_port_in_the_middle_of_ranges_is_refused_too(host: &Host) {
    host.booted_on_bridge("holder", "--port-mapping 8000-8010:9000-9010");
    host.created_on_bridge("web", "--port-mapping 7990-8000:80-90");
    host.cocker("boot web").fails(1, &["web", "8000", "holder"]);
    is_stopped_and_has_nothing(host, "web", "166.88.0.3");
    host.cocker("set-port-mapping web --port-mapping 7990-7999:80-89")
        .ok();
    host.cocker("boot web").ok();
}

fn one_port_is_another_for_each_protocol_and_address(host: &Host) {
    host.booted_on_bridge("web", "--port-mapping 10.99.0.1:5353:53");
    host.booted_on_bridge("dns", "--port-mapping 10.99.0.1:5353:53/udp");
    host.booted_on_bridge("local", "--port-mapping 127.0.0.1:5353:53");
    let _services = [
        host.serve(Inside("web"), "0.0.0.0:53"),
        host.serve(Inside("dns"), "0.0.0.0:53/udp"),
        host.serve(Inside("local"), "0.0.0.0:53"),
    ];
    host.reaches(Outside, "10.99.0.1:5353", "web");
    host.reaches(Outside, "10.99.0.1:5353/udp", "dns");
    host.reaches(OnHost, "127.0.0.1:5353", "local");
}

fn a_port_on_which_a_program_of_the_host_listens_is_refused(host: &Host) {
    for (protocol, addresses) in [
        ("", ["0.0.0.0", "10.99.0.1", "[::]"]),
        ("/udp", ["0.0.0.0", "10.99.0.1", "[::]"]),
    ] {
        host.created_on_bridge("web", &format!("--port-mapping 8080:80{protocol}"));
        for address in addresses {
            let program = host.serve(OnHost, &format!("{address}:8080{protocol}"));
            host.cocker("boot web").fails(1, &["web", "8080"]);
            is_stopped_and_has_nothing(host, "web", "166.88.0.2");
            // The program is not cut off.
            host.reaches(Outside, &format!("10.99.0.1:8080{protocol}"), "host");
            drop(program);
        }
        host.cocker("boot web").ok();
        let _web = host.serve(Inside("web"), &format!("0.0.0.0:80{protocol}"));
        host.reaches(Outside, &format!("10.99.0.1:8080{protocol}"), "web");
        drop(_web);
        host.cocker("destroy web --shutdown").ok();
    }
}

fn a_program_elsewhere_takes_no_port_of_the_host(host: &Host) {
    host.booted_on_bridge("db", "");
    // In another container, and on the same host with the other protocol.
    let _inside = host.serve(Inside("db"), "0.0.0.0:8080");
    let _other = host.serve(OnHost, "0.0.0.0:8080/udp");
    // At another address than the one that is mapped.
    let _loopback = host.serve(OnHost, "127.0.0.1:8080");
    host.booted_on_bridge("web", "--port-mapping 10.99.0.1:8080:80");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Outside, "10.99.0.1:8080", "web");
    host.reaches(Outside, "10.99.0.1:8080/udp", "host");
    host.reaches(OnHost, "127.0.0.1:8080", "host");
}

fn of_many_booted_at_once_with_one_port_one_is_booted(host: &Host) {
    let names: Vec<String> = (0..6).map(|n| format!("c{n}")).collect();
    for name in &names {
        host.created_on_bridge(name, "--port-mapping 8080:80");
    }
    for _ in 0..5 {
        let started: Vec<_> = names
            .iter()
            .map(|name| host.start(&format!("boot {name}")))
            .collect();
        for outcome in started.into_iter().map(|started| started.outcome()) {
            if !outcome.status.success() {
                outcome.fails(1, &["8080"]);
            }
        }
        let booted: Vec<&String> = names
            .iter()
            .filter(|name| host.status(name) != "STOPPED")
            .collect();
        let [name] = booted[..] else {
            panic!("booted are {booted:?}");
        };
        let service = host.serve(Inside(name), "0.0.0.0:80");
        host.reaches(Outside, "10.99.0.1:8080", name);
        drop(service);
        host.cocker(&format!("shutdown {name}")).ok();
    }
}
