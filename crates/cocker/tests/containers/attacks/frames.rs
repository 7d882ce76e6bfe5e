//! Frames that a container's root writes on its link: in the name of the bridge, of another container, of a router.
//!
//! What a root inside can do, the machine's root does here in the container's network.

use super::{Attacker, number};
use crate::host::Place::{Inside, OnHost, Outside};
use crate::host::{Host, Place, here, in_a_lab};
use std::thread;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    in_a_lab![
        nobody_answers_arp_for_another,
        nobody_sends_in_the_name_of_another,
        nobody_is_a_router_or_neighbour_in_the_name_of_another,
        a_changed_hardware_address_takes_nothing_from_others,
        what_a_bridge_is_told_of_its_ports_holds_after_a_repair,
    ]
}

const GATEWAY: &str = "166.88.0.1";
const EVIL: &str = "166.88.0.2";
const WEB: &str = "166.88.0.3";
const DB: &str = "166.88.0.4";
const GATEWAY6: &str = "fd42::1";

/// As cocker makes it from a container's address.
fn hardware(address: &str) -> String {
    let bytes = address
        .split('.')
        .map(|part| part.parse::<u8>().expect("it is one"));
    let bytes: Vec<String> = bytes.map(|byte| format!("{byte:02x}")).collect();
    format!("02:42:{}", bytes.join(":"))
}

/// The address on the link alone that goes with it.
fn of_link(address: &str) -> String {
    let bytes = address
        .split('.')
        .map(|part| part.parse::<u8>().expect("it is one"));
    let [a, b, c, d] = bytes.collect::<Vec<u8>>()[..] else {
        panic!("{address} is no address");
    };
    // RFC 4291, appendix A, of 02:42:a:b:c:d.
    std::net::Ipv6Addr::from([
        0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x42, a, 0xff, 0xfe, b, c, d,
    ])
    .to_string()
}

fn three_booted(host: &Host) {
    host.configure_network(&["subnet6 = \"fd42::1/64\""]);
    for name in ["evil", "web", "db"] {
        host.booted_on_bridge(name, "");
    }
}

/// What is let through is there already: links in memory hand frames on before the call that sends them is over, or at the latest
/// when the processor that was told of them has come to it.
const SOON: Duration = Duration::from_millis(30);

/// How many frames of this kind came to `link` of `at`, when evil's root has written this one five times.
fn heard(host: &Host, at: Place, link: &str, kind: &str, frame: &str) -> u64 {
    heard_within(SOON, host, at, link, kind, frame)
}

/// The same of frames that are let through. A busy machine may bring them late: then they are written again, and waited for longer.
fn heard_at_last(
    host: &Host,
    at: Place,
    link: &str,
    kind: &str,
    frame: &str,
    is_enough: impl Fn(u64) -> bool,
) -> u64 {
    let mut time = SOON;
    loop {
        let heard = heard_within(time, host, at, link, kind, frame);
        if is_enough(heard) || time > Duration::from_secs(2) {
            return heard;
        }
        time *= 3;
    }
}

/// All five of them, and no other.
fn all_arrive(host: &Host, at: Place, link: &str, kind: &str, frame: &str) -> bool {
    heard_at_last(host, at, link, kind, frame, |heard| heard == 5) == 5
}

fn any_arrives(host: &Host, at: Place, link: &str, kind: &str, frame: &str) -> bool {
    heard_at_last(host, at, link, kind, frame, |heard| heard > 0) > 0
}

fn heard_within(
    time: Duration,
    host: &Host,
    at: Place,
    link: &str,
    kind: &str,
    frame: &str,
) -> u64 {
    let program = Attacker::on_host(host);
    let mut listener = host.start_at(at, &format!("{} hear {link} {kind}", program.display()));
    listener.until_prints("listens");
    let said = host.at(
        Inside("evil"),
        &format!("{} frame eth0 {frame}", program.display()),
    );
    assert_eq!(said.matches("succeeds").count(), 5, "{said}");
    thread::sleep(here(time));
    number(&listener.outcome().succeeds().stdout(), "heard")
}

/// Takes away what keeps the attacks off: the table of frames, and the lock of evil's port.
fn let_everything_through(host: &Host) {
    host.at(OnHost, "nft delete table bridge cocker");
    let ports = host.at(
        OnHost,
        "ip -o link show type veth | grep -owE 'ck[0-9a-f]+'",
    );
    for port in ports.lines() {
        host.at(
            OnHost,
            &format!("ip link set {port} type bridge_slave locked off"),
        );
    }
}

/// Row 28: ARP. Each frame to one container, and in the name of another or of the bridge.
fn nobody_answers_arp_for_another(host: &Host) {
    three_booted(host);
    let (web, db) = (hardware(WEB), hardware(DB));
    let attacks = [
        (
            "the bridge's address",
            format!("arp own {web} {GATEWAY} {WEB}"),
        ),
        (
            "the bridge's address, to all",
            format!("arp own ff:ff:ff:ff:ff:ff {GATEWAY}"),
        ),
        ("another's address", format!("arp own {web} {DB} {WEB}")),
        (
            "another's hardware address",
            format!("arp {db} {web} {EVIL} {WEB}"),
        ),
        (
            "all that is another's",
            format!("arp {db} {web} {DB} {WEB}"),
        ),
        (
            "an address of nobody",
            format!("arp own {web} 166.88.0.77 {WEB}"),
        ),
        ("within a tag", format!("arp own {web} {GATEWAY} {WEB} 1")),
        (
            "within two tags",
            format!("arp own {web} {GATEWAY} {WEB} 2"),
        ),
    ];
    for (what, frame) in &attacks {
        let heard = heard(host, Inside("web"), "eth0", "arp", frame);
        assert_eq!(heard, 0, "{what}");
    }
    // What it says of itself is heard, and it works with that.
    let own = format!("arp own {web} {EVIL} {WEB}");
    assert!(all_arrive(host, Inside("web"), "eth0", "arp", &own));
    // Control: without what keeps them off, each of them arrives.
    let_everything_through(host);
    for (what, frame) in &attacks {
        let arrives = any_arrives(host, Inside("web"), "eth0", "arp", frame);
        assert!(arrives, "{what}");
    }
}

/// Row 28: IPv4 in the name of others, to another container and to the host.
fn nobody_sends_in_the_name_of_another(host: &Host) {
    three_booted(host);
    let (web, db) = (hardware(WEB), hardware(DB));
    let bridge = host.hardware_address(OnHost, "cocker0");
    let attacks = [
        ("web", format!("udp own {web} {GATEWAY} {WEB}")),
        ("web", format!("udp own {web} {DB} {WEB}")),
        ("web", format!("udp {db} {web} {DB} {WEB}")),
        ("web", format!("udp {bridge} {web} {GATEWAY} {WEB}")),
        ("web", format!("udp own {web} 10.99.0.2 {WEB}")),
        ("web", format!("udp own {web} 127.0.0.1 {WEB}")),
        ("web", format!("udp own {web} {DB} {WEB} 1")),
        ("web", format!("udp own {web} {DB} {WEB} 2")),
        ("host", format!("udp own {bridge} {DB} {GATEWAY}")),
        ("host", format!("udp {db} {bridge} {DB} {GATEWAY}")),
    ];
    let place = |to| match to {
        "host" => (OnHost, "cocker0"),
        name => (Inside(name), "eth0"),
    };
    for (to, frame) in &attacks {
        let (at, link) = place(to);
        assert_eq!(heard(host, at, link, "udp", frame), 0, "{frame}");
    }
    for (to, frame) in [
        ("web", format!("udp own {web} {EVIL} {WEB}")),
        ("host", format!("udp own {bridge} {EVIL} {GATEWAY}")),
    ] {
        let (at, link) = place(to);
        assert!(all_arrive(host, at, link, "udp", &frame), "{frame}");
    }
    // It has its way out and its neighbours all the same.
    let _outside = host.serve(Outside, "0.0.0.0:7000");
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("evil"), "10.99.0.2:7000", "outside");
    host.reaches(Inside("evil"), &format!("{WEB}:80"), "web");
    // Control.
    let_everything_through(host);
    for (to, frame) in &attacks {
        let (at, link) = place(to);
        assert!(any_arrives(host, at, link, "udp", frame), "{frame}");
    }
}

/// Row 28: IPv6.
fn nobody_is_a_router_or_neighbour_in_the_name_of_another(host: &Host) {
    three_booted(host);
    let all = "33:33:00:00:00:01";
    let (own, web) = (of_link(EVIL), of_link(WEB));
    let attacks = [
        ("router", format!("router own {all} {own}")),
        ("router", format!("router own {all} {own} - 1")),
        ("router", format!("router own {all} {own} - 2")),
        ("neighbour", format!("neighbour own {all} {own} {GATEWAY6}")),
        (
            "neighbour",
            format!("neighbour own {all} {GATEWAY6} {GATEWAY6}"),
        ),
        ("neighbour", format!("neighbour own {all} {own} fd42::4")),
        ("neighbour", format!("neighbour own {all} {web} {web}")),
    ];
    for (kind, frame) in &attacks {
        assert_eq!(heard(host, Inside("db"), "eth0", kind, frame), 0, "{frame}");
        assert_eq!(heard(host, OnHost, "cocker0", kind, frame), 0, "{frame}");
    }
    let evil6 = host.addresses(Inside("evil"), "eth0");
    let evil6 = evil6
        .split_whitespace()
        .find_map(|address| address.strip_suffix("/64"))
        .expect("it has one");
    for address in [own.as_str(), evil6] {
        let frame = format!("neighbour own {all} {address} {address}");
        let arrive = all_arrive(host, Inside("db"), "eth0", "neighbour", &frame);
        assert!(arrive, "{frame}");
    }
    let _web = host.serve(Inside("web"), "[::]:80");
    host.reaches(Inside("evil"), "[fd42::3]:80", "web");
    // Control.
    let_everything_through(host);
    for (kind, frame) in &attacks {
        let arrives = any_arrives(host, Inside("db"), "eth0", kind, frame);
        assert!(arrives, "{frame}");
    }
}

/// Row 28: the bridge would learn that another's hardware address is behind evil's port.
fn a_changed_hardware_address_takes_nothing_from_others(host: &Host) {
    three_booted(host);
    let _web = host.serve(Inside("web"), "0.0.0.0:80");
    host.reaches(Inside("evil"), &format!("{WEB}:80"), "web");
    let take = format!(
        "ip link set eth0 address {}; ip addr flush dev eth0; ip addr add {WEB}/24 dev eth0; ip route add default via {GATEWAY}",
        hardware(WEB)
    );
    host.at(Inside("evil"), &take);
    let _evil = host.serve(Inside("evil"), "0.0.0.0:80");
    let frame = format!("udp {} ff:ff:ff:ff:ff:ff {WEB} 166.88.0.255", hardware(WEB));
    assert_eq!(heard(host, Inside("db"), "eth0", "udp", &frame), 0);
    host.reaches(Inside("db"), &format!("{WEB}:80"), "web");
    host.reaches(OnHost, &format!("{WEB}:80"), "web");
    host.does_not_reach(Inside("evil"), &format!("{GATEWAY}:80"));
    // Control: a bridge that learns, on a port that is open, sends evil what is web's.
    let_everything_through(host);
    let ports = host.at(
        OnHost,
        "ip -o link show type veth | grep -owE 'ck[0-9a-f]+'",
    );
    for port in ports.lines() {
        host.at(
            OnHost,
            &format!("ip link set {port} type bridge_slave learning on"),
        );
    }
    host.at(OnHost, &format!("bridge fdb del {} dev $(bridge fdb show | grep -i {} | grep -owE 'ck[0-9a-f]+' | head -1) master; true", hardware(WEB), hardware(WEB)));
    // What web itself sends now and then takes it back.
    let is_taken = (0..20).any(|_| {
        assert!(any_arrives(host, Inside("db"), "eth0", "udp", &frame));
        host.who_answers(OnHost, &format!("{WEB}:80")).as_deref() == Some("evil")
    });
    assert!(is_taken);
}

/// Row 28: whoever has a bridge or a table made again has the same kept off.
fn what_a_bridge_is_told_of_its_ports_holds_after_a_repair(host: &Host) {
    three_booted(host);
    let web = hardware(WEB);
    let attack = format!("udp own {web} {DB} {WEB}");
    let full = format!("udp {} {web} {DB} {WEB}", hardware(DB));
    for damage in ["ip link del cocker0", "nft flush ruleset"] {
        host.at(OnHost, damage);
        host.booted_on_bridge("next", "");
        for frame in [&attack, &full] {
            assert_eq!(
                heard(host, Inside("web"), "eth0", "udp", frame),
                0,
                "{damage}"
            );
        }
        let own = format!("udp own {web} {EVIL} {WEB}");
        let arrive = all_arrive(host, Inside("web"), "eth0", "udp", &own);
        assert!(arrive, "{damage}");
        host.cocker("destroy --shutdown next").ok();
    }
}
