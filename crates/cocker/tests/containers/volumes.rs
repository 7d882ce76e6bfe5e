//! Volumes: folders and files of the host, seen at a place in the container.

use crate::host::{Host, with_image_test};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_folder_is_shared_both_ways_and_root_inside_writes_as_root_outside,
        a_single_file_is_shared,
        a_read_only_volume_refuses_every_write,
        a_volume_without_a_place_lies_where_it_lies_outside,
        a_missing_place_is_made,
        a_missing_host_path_is_refused,
        volumes_of_a_stopped_container_are_replaced,
        a_link_in_the_image_leads_nowhere_but_inside,
        destroy_leaves_the_hosts_files_alone,
        a_raw_volume_has_the_hosts_ids_and_root_inside_none_of_its_rights,
        a_volume_without_set_id_gives_no_rights,
        bad_volumes_are_refused,
    ]
}

fn a_folder_is_shared_both_ways_and_root_inside_writes_as_root_outside(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("from-outside"), "outside\n").expect("the folder is ours");
    host.cocker(&format!(
        "-a create -m test -c web --volume {}:/data",
        data.display()
    ))
    .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(
        host.inside(
            "web",
            "cat /data/from-outside; stat -c %u:%g /data/from-outside"
        ),
        "outside\n0:0"
    );
    host.inside("web", "echo inside > /data/from-inside; mkdir /data/folder; touch /data/other && chown 33:44 /data/other");
    assert_eq!(
        fs::read_to_string(data.join("from-inside")).expect("it is there"),
        "inside\n"
    );
    for (name, owner) in [
        ("from-inside", (0, 0)),
        ("folder", (0, 0)),
        ("other", (33, 44)),
    ] {
        let file = fs::metadata(data.join(name)).expect("it is there");
        assert_eq!((file.uid(), file.gid()), owner, "{name}");
    }
    fs::write(data.join("later"), "later\n").expect("the folder is ours");
    assert_eq!(host.inside("web", "cat /data/later"), "later");
}

fn a_single_file_is_shared(host: &Host) {
    let file = host.folder("data").join("settings");
    fs::write(&file, "one\n").expect("the folder is ours");
    host.cocker(&format!(
        "-a create -m test -c web --volume {}:/etc/settings",
        file.display()
    ))
    .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(
        host.inside("web", "cat /etc/settings; echo two >> /etc/settings"),
        "one"
    );
    assert_eq!(
        fs::read_to_string(&file).expect("it is there"),
        "one\ntwo\n"
    );
}

fn a_read_only_volume_refuses_every_write(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("file"), "kept\n").expect("the folder is ours");
    let both = format!(
        "--volume {0}:/data:ro --volume {0}/file:/file:ro",
        data.display()
    );
    host.cocker(&format!("-a create -m test -c web {both}"))
        .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /data/file /file"), "kept\nkept");
    for attempt in [
        "touch /data/new",
        "rm /data/file",
        "sh -c 'echo x >> /file'",
        "chmod 777 /data/file",
    ] {
        let outcome = host.cocker(&format!("run web -- {attempt}"));
        assert_ne!(outcome.status.code(), Some(0), "{outcome}");
        assert!(
            outcome.stderr.contains("Read-only file system"),
            "{outcome}"
        );
    }
    // Root inside may mount in its own namespace; what the host made read-only must stay so.
    for mount in [
        "mount -o remount,bind,rw /data",
        "mount -o remount,rw /data",
        "mount -o remount,bind,rw /file",
    ] {
        host.cocker(&format!("run web -- {mount}"));
    }
    host.cocker("run web -- sh -c 'mkdir /again; mount --bind /data /again; mount -o remount,bind,rw /again'");
    host.cocker("run web -- sh -c 'echo written > /data/new; echo written >> /file; echo written > /again/new'");
    assert_eq!(
        fs::read_to_string(data.join("file")).expect("it is there"),
        "kept\n"
    );
    assert_eq!(fs::read_dir(&data).expect("it is there").count(), 1);
}

fn a_volume_without_a_place_lies_where_it_lies_outside(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("file"), "here\n").expect("the folder is ours");
    host.cocker(&format!(
        "-a create -m test -c web --volume {}",
        data.display()
    ))
    .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(
        host.inside("web", &format!("cat {}/file", data.display())),
        "here"
    );
}

fn a_missing_place_is_made(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("file"), "deep\n").expect("the folder is ours");
    let volumes = format!(
        "--volume {0}:/srv/a/b/c --volume {0}/file:/srv/d/e/file",
        data.display()
    );
    host.cocker(&format!("-a create -m test -c web {volumes}"))
        .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(
        host.inside("web", "cat /srv/a/b/c/file /srv/d/e/file"),
        "deep\ndeep"
    );
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /srv/a/b/c/file"), "deep");
}

fn a_missing_host_path_is_refused(host: &Host) {
    let missing = host.folder("data").join("missing");
    let line = format!(
        "-a create -m test -c web --volume {}:/data",
        missing.display()
    );
    host.cocker(&line)
        .fails(1, &[&missing.to_string_lossy(), "does not exist"]);
    assert_eq!(host.container_names(), Vec::<String>::new());
    assert!(!missing.exists(), "a missing folder was made on the host");
}

fn volumes_of_a_stopped_container_are_replaced(host: &Host) {
    let (one, two) = (host.folder("one"), host.folder("two"));
    for folder in [&one, &two] {
        let name = folder.file_name().expect("it has one");
        fs::write(folder.join("name"), name.as_encoded_bytes()).expect("the folder is ours");
    }
    host.cocker(&format!(
        "-a create -m test -c web --volume {0}:/data --volume {0}:/more",
        one.display()
    ))
    .ok();
    host.cocker("-a volume -c web --volume /missing:/data")
        .fails(1, &["web", "/missing", "Hint: "]);
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /data/name /more/name"), "oneone");
    host.cocker("-a shutdown -c web").ok();
    host.cocker(&format!(
        "set-volume web --volume {}:/data:ro",
        two.display()
    ))
    .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", "cat /data/name"), "two");
    host.cocker("run web -- test -e /more/name").exits(1);
    host.cocker("run web -- touch /data/new").exits(1);
}

fn a_link_in_the_image_leads_nowhere_but_inside(host: &Host) {
    let outside = host.folder("outside");
    let data = host.folder("data");
    fs::write(data.join("file"), "shared\n").expect("the folder is ours");
    host.add_image("links", |tree| {
        fs::create_dir_all(tree.join("srv/inside")).expect("the tree is ours");
        symlink("/srv/inside", tree.join("absolute")).expect("the tree is ours");
        symlink("../../../../../../srv/inside", tree.join("dots")).expect("the tree is ours");
        symlink(&outside, tree.join("outside")).expect("the tree is ours");
    });
    for link in ["absolute", "dots"] {
        host.cocker(&format!(
            "-a create -m test,links -c {link} --volume {}:/{link}",
            data.display()
        ))
        .ok();
        host.cocker(&format!("-a boot -c {link}")).ok();
        assert_eq!(
            host.inside(link, "cat /srv/inside/file"),
            "shared",
            "{link}"
        );
    }
    // The link's target is a folder on the host and nothing inside.
    host.cocker(&format!(
        "-a create -m test,links -c web --volume {}:/outside/place",
        data.display()
    ))
    .ok();
    host.cocker("-a boot -c web")
        .fails(1, &["web", "/outside/place", "No such file"]);
    assert_eq!(host.status("web"), "STOPPED");
    assert_eq!(
        fs::read_dir(&outside).expect("it is there").count(),
        0,
        "something was made on the host"
    );
}

fn destroy_leaves_the_hosts_files_alone(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("file"), "kept\n").expect("the folder is ours");
    host.cocker(&format!(
        "-a create -m test -c web --volume {}:/data -b",
        data.display()
    ))
    .ok();
    host.inside("web", "echo more >> /data/file");
    host.cocker("-a destroy -h -c web").ok();
    assert_eq!(
        fs::read_to_string(data.join("file")).expect("it is there"),
        "kept\nmore\n"
    );
}

fn a_raw_volume_has_the_hosts_ids_and_root_inside_none_of_its_rights(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("roots"), "outside\n").expect("the folder is ours");
    let both = format!("--volume {0}:/raw:raw --volume {0}:/mapped", data.display());
    host.cocker(&format!("create -m test -c web {both} -b"))
        .ok();
    let owners = host.inside("web", "stat -c %U /raw/roots /mapped/roots");
    assert_eq!(owners, "nobody\nroot");
    // Readable to all, and to nobody inside more than that.
    assert_eq!(host.inside("web", "cat /raw/roots"), "outside");
    host.cocker("run web -- touch /raw/new").exits(1);
    host.cocker("run web -- chown 0:0 /raw/roots").exits(1);
    // What belongs to the container's own range is its own.
    let map = host.inside("web", "cat /proc/self/uid_map");
    let first: u32 = map
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .expect("a map");
    std::os::unix::fs::chown(data.join("roots"), Some(first + 33), Some(first))
        .expect("we are root");
    assert_eq!(host.inside("web", "stat -c %u:%g /raw/roots"), "33:0");
    host.inside("web", "echo inside > /raw/roots");
    assert_eq!(
        fs::read_to_string(data.join("roots")).expect("it is there"),
        "inside\n"
    );
    let owner = fs::metadata(data.join("roots")).expect("it is there").uid();
    assert_eq!(owner, first + 33);
}

fn a_volume_without_set_id_gives_no_rights(host: &Host) {
    let data = host.folder("data");
    let both = format!(
        "--volume {0}:/kept --volume {0}:/ignored:nosuid:ro",
        data.display()
    );
    host.cocker(&format!("create -m test -c web {both} -b"))
        .ok();
    host.inside("web", "cp $(command -v id) /kept/id && chmod 4755 /kept/id");
    let effective = |place: &str| {
        let outcome = host.cocker(&format!("run web --user 1000:1000 -- {place}/id -u"));
        outcome.succeeds().stdout().trim().to_string()
    };
    assert_eq!(
        (effective("/kept"), effective("/ignored")),
        ("0".into(), "1000".into())
    );
    // Root inside cannot lift it, nor what is never there: devices.
    host.cocker("run web -- mount -o remount,bind,suid,rw /ignored");
    assert_eq!(effective("/ignored"), "1000");
    let options = host.inside(
        "web",
        "grep -e ' /kept ' -e ' /ignored ' /proc/self/mountinfo",
    );
    assert_eq!(options.matches("nodev").count(), 2, "{options}");
}

fn bad_volumes_are_refused(host: &Host) {
    for volume in [
        "relative:/data",
        "/tmp:relative",
        "/tmp:/data:maybe",
        "/tmp:/data:raw:raw",
        "/tmp:/data:nosuid:other",
        ":/data",
        "",
        "/tmp:/",
        "/tmp:/data:ro:ro",
    ] {
        let outcome = host.cocker_words(&[
            "-a", "create", "-m", "test", "-c", "web", "--volume", volume,
        ]);
        assert!(
            [Some(1), Some(2)].contains(&outcome.status.code()),
            "{volume:?}: {outcome}"
        );
        assert!(outcome.stdout.is_empty(), "{outcome}");
        host.cocker("-s containers").succeeds().prints("");
    }
}
