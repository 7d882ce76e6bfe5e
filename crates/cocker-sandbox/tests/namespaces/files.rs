//! `/etc/resolv.conf` and `/etc/hosts`: what a sandbox finds there, and what is left to it.

use crate::Test;
use crate::booted::{Booted, RANGE, Stock};
use cocker_sandbox::{
    Access, BindIds, HostNames, Mount, NetworkNamespace, Plan, SandboxError, Source,
};
use rustix::fs::{CWD, FileType, Mode};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

pub const TESTS: &[Test] = crate::tests![
    a_supplied_file_takes_the_place_of_a_missing_or_empty_one,
    a_supplied_file_is_written_from_inside_as_root,
    a_supplied_file_stands_back_for_whatever_the_sandbox_has,
    a_supplied_file_that_is_none_fails_the_boot_before_it_begins,
    a_hosts_file_is_made_as_root_inside_or_completed,
    a_hosts_file_that_is_a_trap_is_left_alone,
    a_hosts_file_on_a_volume_is_left_alone,
];

const PLACE: &str = "/etc/resolv.conf";

/// What puts something into a layer.
type Fill = fn(&Path);

fn etc(layer: &Path) {
    fs::create_dir(layer.join("etc")).expect("the layer is ours");
}

/// A plan with a supplied file, which lies beside the layer.
fn plan_with_supplied(stock: &Stock) -> Plan {
    let file = stock.upper().with_file_name("resolv.conf");
    fs::write(&file, "nameserver 192.0.2.1\n").expect("the folder is ours");
    let mut plan = stock.plan(NetworkNamespace::New);
    plan.mounts.push(Mount {
        source: Source::Supplied { file },
        target: PLACE.into(),
        access: Access::ReadWrite,
    });
    plan
}

fn a_supplied_file_takes_the_place_of_a_missing_or_empty_one() {
    let cases: [Fill; 3] = [
        |_| {},
        |layer| fs::create_dir(layer.join("etc")).expect("the layer is ours"),
        |layer| {
            fs::create_dir(layer.join("etc")).expect("the layer is ours");
            fs::write(layer.join("etc/resolv.conf"), "").expect("the layer is ours");
        },
    ];
    for fill in cases {
        let stock = Stock::new(fill);
        let booted = Booted::new(plan_with_supplied(&stock));
        let text = fs::read_to_string(booted.path(PLACE)).expect("it is mounted");
        assert_eq!(text, "nameserver 192.0.2.1\n");
        assert!(booted.mounted_on(PLACE).is_some());
    }
}

fn a_supplied_file_is_written_from_inside_as_root() {
    let stock = Stock::new(|_| {});
    let booted = Booted::new(plan_with_supplied(&stock));
    let inside = fs::metadata(booted.path(PLACE)).expect("it is mounted");
    assert_eq!((inside.uid(), inside.gid()), (RANGE.first.0, RANGE.first.0));
    fs::write(booted.path(PLACE), "nameserver 192.0.2.2\n").expect("it may be written");
    let kept = stock.upper().with_file_name("resolv.conf");
    let text = fs::read_to_string(&kept).expect("it is there");
    assert_eq!(text, "nameserver 192.0.2.2\n");
    assert_eq!(fs::metadata(&kept).expect("it is there").uid(), 0);
}

fn a_supplied_file_stands_back_for_whatever_the_sandbox_has() {
    let cases: [(&str, Fill); 8] = [
        ("a file", |layer| {
            etc(layer);
            fs::write(layer.join("etc/resolv.conf"), "own\n").expect("the layer is ours");
        }),
        ("a link to a file", |layer| {
            etc(layer);
            fs::write(layer.join("etc/empty"), "").expect("the layer is ours");
            symlink("empty", layer.join("etc/resolv.conf")).expect("the layer is ours");
        }),
        ("a link to nowhere", |layer| {
            etc(layer);
            symlink("/run/none", layer.join("etc/resolv.conf")).expect("the layer is ours");
        }),
        ("a folder", |layer| {
            fs::create_dir_all(layer.join("etc/resolv.conf")).expect("the layer is ours");
        }),
        ("a FIFO", |layer| {
            etc(layer);
            let path = layer.join("etc/resolv.conf");
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0)
                .expect("the layer is ours");
        }),
        ("a device", |layer| {
            etc(layer);
            let path = layer.join("etc/resolv.conf");
            let null = rustix::fs::makedev(1, 3);
            rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, null)
                .expect("the layer is ours");
        }),
        ("an etc that is a file", |layer| {
            fs::write(layer.join("etc"), "").expect("the layer is ours");
        }),
        ("an etc that is a link", |layer| {
            fs::create_dir(layer.join("other")).expect("the layer is ours");
            symlink("other", layer.join("etc")).expect("the layer is ours");
        }),
    ];
    for (what, fill) in cases {
        let stock = Stock::new(fill);
        let booted = Booted::new(plan_with_supplied(&stock));
        assert_eq!(booted.mounted_on(PLACE), None, "{what}");
        assert_eq!(booted.mounted_on("/etc/empty"), None, "{what}");
        assert_eq!(booted.mounted_on("/run/none"), None, "{what}");
        assert_eq!(booted.mounted_on("/other/resolv.conf"), None, "{what}");
        assert!(!stock.upper().join("other").exists(), "{what}");
        assert!(!stock.upper().join("run").exists(), "{what}");
    }
}

fn a_supplied_file_that_is_none_fails_the_boot_before_it_begins() {
    let stock = Stock::new(|_| {});
    let plan = plan_with_supplied(&stock);
    let file = stock.upper().with_file_name("resolv.conf");
    fs::remove_file(&file).expect("the folder is ours");
    let outcomes = [Booted::try_new(plan.clone()), {
        symlink("layer", &file).expect("the folder is ours");
        Booted::try_new(plan)
    }];
    for outcome in outcomes {
        let refused = outcome.err().expect("there is no file");
        assert!(matches!(refused, SandboxError::OpenSupplied { .. }));
        let path = file.display().to_string();
        assert!(refused.to_string().contains(&path), "{refused}");
    }
}

fn plan_with_names(stock: &Stock) -> Plan {
    let mut plan = stock.plan(NetworkNamespace::New);
    plan.names = Some(HostNames {
        address: [192, 0, 2, 7].into(),
        hostname: "web".into(),
    });
    plan
}

fn a_hosts_file_is_made_as_root_inside_or_completed() {
    let line = "192.0.2.7\tweb\t# cocker\n";
    let stock = Stock::new(|_| {});
    let booted = Booted::new(plan_with_names(&stock));
    let text = fs::read_to_string(booted.path("/etc/hosts")).expect("it is made");
    assert!(
        text.starts_with("127.0.0.1\tlocalhost\n") && text.ends_with(line),
        "{text}"
    );
    let owner = fs::metadata(booted.path("/etc/hosts"))
        .expect("it is made")
        .uid();
    assert_eq!(owner, RANGE.first.0);
    let on_disk = fs::metadata(stock.upper().join("etc/hosts")).expect("it is made");
    assert_eq!((on_disk.uid(), on_disk.mode() & 0o7777), (0, 0o644));
    drop(booted);

    let stock = Stock::new(|layer| {
        fs::create_dir(layer.join("etc")).expect("the layer is ours");
        let hosts = layer.join("etc/hosts");
        fs::write(&hosts, "192.0.2.9 other").expect("the layer is ours");
        std::os::unix::fs::chown(&hosts, Some(12), Some(34)).expect("the layer is ours");
    });
    for _ in 0..2 {
        let booted = Booted::new(plan_with_names(&stock));
        let text = fs::read_to_string(booted.path("/etc/hosts")).expect("it is there");
        assert_eq!(text, format!("192.0.2.9 other\n{line}"));
    }
    let on_disk = fs::metadata(stock.upper().join("etc/hosts")).expect("it was changed");
    assert_eq!((on_disk.uid(), on_disk.gid()), (12, 34));
}

fn a_hosts_file_that_is_a_trap_is_left_alone() {
    let cases: [Fill; 4] = [
        |layer| {
            etc(layer);
            symlink("/../../../../../../etc/passwd", layer.join("etc/hosts"))
                .expect("the layer is ours");
        },
        |layer| {
            etc(layer);
            let path = layer.join("etc/hosts");
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0)
                .expect("the layer is ours");
        },
        |layer| fs::create_dir_all(layer.join("etc/hosts")).expect("the layer is ours"),
        |layer| symlink("/proc", layer.join("etc")).expect("the layer is ours"),
    ];
    for fill in cases {
        let stock = Stock::new(fill);
        let booted = Booted::new(plan_with_names(&stock));
        assert!(!stock.upper().join("etc").exists());
        drop(booted);
    }
}

fn a_hosts_file_on_a_volume_is_left_alone() {
    for target in ["/etc", "/etc/hosts"] {
        let stock = Stock::new(|_| {});
        let volume = tempfile::tempdir().expect("a folder");
        let hosts = volume.path().join("hosts");
        let host = match target {
            "/etc" => volume.path().to_path_buf(),
            _ => {
                fs::write(&hosts, "192.0.2.9 other\n").expect("the folder is ours");
                hosts.clone()
            }
        };
        let mut plan = plan_with_names(&stock);
        plan.mounts.push(Mount {
            source: Source::Bind {
                host,
                ids: BindIds::Mapped,
                no_set_id: false,
            },
            target: target.into(),
            access: Access::ReadWrite,
        });
        let booted = Booted::new(plan);
        match target {
            "/etc" => assert_eq!(fs::read_dir(volume.path()).expect("it is there").count(), 0),
            _ => {
                let text = fs::read_to_string(&hosts).expect("it is there");
                assert_eq!(text, "192.0.2.9 other\n");
            }
        }
        let names = fs::read_dir(booted.path("/etc")).expect("it is there");
        let new = names.flatten().filter(|entry| entry.file_name() != "hosts");
        assert_eq!(new.count(), 0, "{target}");
    }
}
