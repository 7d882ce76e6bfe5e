//! The listings to the letter.

use super::*;
use cocker_engine::{Name, PortMapping};
use std::time::{Duration, UNIX_EPOCH};

fn image(name: &str, version: &str, bytes: u64) -> ImageRecord {
    ImageRecord {
        name: Name::parse(name).unwrap(),
        version: Version::parse(version).unwrap(),
        layers: Vec::new(),
        modified: UNIX_EPOCH + Duration::from_secs(1_541_841_672),
        size: bytes,
        origin: None,
        config: None,
    }
}

fn container(name: &str, status: Status) -> ContainerSummary {
    ContainerSummary {
        name: Name::parse(name).unwrap(),
        image: "test".into(),
        hostname: "test".into(),
        net: "BRIDGE",
        netns: "nns098F6BCD46".into(),
        address: Some(Ipv4Addr::new(166, 88, 0, 2)),
        uplink: None,
        ports: Vec::new(),
        size: 0,
        status,
        oom_kills: Some(0),
        isolation: Isolation::Contained,
        confinement: cocker_engine::ConfinementSettings::default(),
        restart: cocker_engine::RestartPolicy::No,
        restarts: None,
        enabled: None,
    }
}

fn utc_table(images: &[ImageRecord]) -> String {
    image_table(images, &Clock::ahead_of_utc(0))
}

#[test]
fn images_are_listed_to_the_letter() {
    let expected = concat!(
        "image_id                       version    modify_datetime     size      \n",
        "--------------------------------------------------------------------\n",
        "test                           _          2018-11-10T09:21:12 24 MB\n",
    );
    assert_eq!(utc_table(&[image("test", "_", 24 << 20)]), expected);
}

#[test]
fn containers_are_listed_to_the_letter() {
    let expected = concat!(
        "container_id         image                hostname   net        netns            size       status\n",
        "-----------------------------------------------------------------------------------------------------------\n",
        "test                 test                 test       BRIDGE     nns098F6BCD46    0 B        RUNNING(89698)\n",
    );
    assert_eq!(
        container_table(&[container("test", Status::Running(89698))]),
        expected
    );
}

#[test]
fn columns_widen_for_longer_values_and_the_dashes_with_them() {
    let long = "a-name-of-more-than-thirty-characters";
    let expected = concat!(
        "image_id                              version    modify_datetime     size      \n",
        "---------------------------------------------------------------------------\n",
        "a-name-of-more-than-thirty-characters 1.0.0      2018-11-10T09:21:12 5 B\n",
        "b                                     _          2018-11-10T09:21:12 2 GB\n",
    );
    assert_eq!(
        utc_table(&[image(long, "1.0.0", 5), image("b", "_", 2 << 30)]),
        expected
    );
}

#[test]
fn a_privileged_container_says_so() {
    let mut privileged = container("p", Status::Running(123));
    privileged.isolation = Isolation::Privileged;
    let table = container_table(&[privileged]);
    assert!(table.ends_with(" RUNNING(123) PRIVILEGED\n"), "{table}");
    let dashes = table.lines().nth(1).unwrap();
    assert_eq!(dashes.len(), 107 + "RUNNING(123) PRIVILEGED".len() - 14);
}

#[test]
fn states_are_shown_as_words() {
    assert_eq!(status(&container("c", Status::Stopped)), "STOPPED");
    assert_eq!(status(&container("c", Status::Paused(7))), "PAUSED(7)");
    let broken = Status::Exception {
        why: "no init".into(),
        remedy: "boot it again".into(),
    };
    assert_eq!(status(&container("c", broken)), "EXCEPTION(no init)");
}

#[test]
fn a_listing_prints_no_control_characters() {
    let mut odd = container("c", Status::Stopped);
    odd.hostname = "\x1b[2Jx\n".into();
    let table = container_table(&[odd]);
    assert!(table.contains("\\u{1b}[2Jx\\u{a} BRIDGE"), "{table}");
    assert_eq!(table.lines().count(), 3);
}

#[test]
fn an_empty_listing_prints_nothing_and_no_entries_for_programs() {
    for form in [ListingForm::Table, ListingForm::Names] {
        assert_eq!(images(&[], form), "");
        assert_eq!(containers(&[], form), "");
    }
    assert_eq!(images(&[], ListingForm::Json), "[]\n");
    assert_eq!(containers(&[], ListingForm::Json), "[]\n");
}

#[test]
fn names_only_are_names_that_commands_take() {
    let both = [image("a", "_", 1), image("a", "1.2", 1)];
    assert_eq!(images(&both, ListingForm::Names), "a\na:1.2\n");
    assert_eq!(
        containers(&[container("c", Status::Stopped)], ListingForm::Names),
        "c\n"
    );
}

#[test]
fn programs_read_json() {
    let text = containers(&[container("c", Status::Running(7))], ListingForm::Json);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!([{
        "container_id": "c", "image": "test", "hostname": "test", "net": "BRIDGE", "netns": "nns098F6BCD46",
        "vip": "166.88.0.2", "host_eth": null, "port_mapping": [],
        "size": 0, "status": "RUNNING", "pid": 7, "why": null, "remedy": null, "privileged": false,
        "isolation": {
            "ids": "own", "seccomp": "usual", "masks": true, "cap_add": [], "cap_drop": [], "devices": [],
            "no_new_privs": false, "hardened": false, "security": null
        },
        "oom_kills": 0,
        "restart": { "policy": "no", "failures": 0, "last_failure": null, "again_in_ms": null },
        "enabled": false,
        "after": [],
    }]);
    assert_eq!(read, expected);

    let mut mapped = container("c", Status::Stopped);
    mapped.uplink = Some("eth0".into());
    mapped.ports = PortMapping::parse_list("0.0.0.0:8080:80/tcp,[FD00::1]:5-6:7-8/udp").unwrap();
    let entry = serde_json::to_value(ContainerEntry::of(&mapped)).unwrap();
    assert_eq!(entry["host_eth"], "eth0");
    let ports = serde_json::json!(["8080:80", "[fd00::1]:5-6:7-8/udp"]);
    assert_eq!(entry["port_mapping"], ports);

    let mut of_host = container("c", Status::Stopped);
    (of_host.net, of_host.address) = ("HOST", None);
    let entry = serde_json::to_value(ContainerEntry::of(&of_host)).unwrap();
    assert_eq!(entry["vip"], serde_json::Value::Null);

    let image = image("a", "1", 9);
    let entry = ImageEntry::of(&image, &Clock::ahead_of_utc(3600));
    let expected = serde_json::json!({
        "image_id": "a", "version": "1", "modify_datetime": "2018-11-10T10:21:12+01:00", "size": 9,
    });
    assert_eq!(serde_json::to_value(entry).unwrap(), expected);
}

#[test]
fn sizes_are_whole_units_rounded_down() {
    let sizes = [
        (0, "0 B"),
        (1024, "1024 B"),
        (1025, "1 KB"),
        (1 << 20, "1024 KB"),
        ((1 << 20) + 1, "1 MB"),
        ((25 << 20) - 1, "24 MB"),
        (1 << 30, "1024 MB"),
        ((1 << 30) + 1, "1 GB"),
        (u64::MAX, "17179869183 GB"),
    ];
    for (bytes, text) in sizes {
        assert_eq!(size(bytes), text);
    }
}
