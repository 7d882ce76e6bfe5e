//! Boots that fail, one phase after the other: the cause is named, the container is stopped, nothing is left, and the next
//! boot works where the cause is gone.

use crate::host::{Host, at_every_moment, with_image_test};
use std::fs;
use std::os::unix::fs::symlink;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_layer_that_is_missing_is_named,
        a_volume_that_has_gone_since_is_named,
        a_link_where_the_engine_mounts_is_refused,
        a_file_where_the_engine_mounts_is_refused,
        a_file_system_that_cannot_map_ids_is_named,
        a_settings_file_that_is_damaged_is_named_and_can_be_removed,
        a_boot_whose_client_is_killed_at_any_moment_leaves_nothing,
    ]
}

/// What must hold after every failed boot.
#[track_caller]
fn is_stopped_with_nothing_left(host: &Host, container: &str) {
    assert_eq!(host.status(container), "STOPPED");
    assert!(host.contained().is_empty());
    assert!(
        !host
            .home()
            .join("containers")
            .join(container)
            .join("control")
            .exists()
    );
}

fn a_layer_that_is_missing_is_named(host: &Host) {
    let image = host.add_image("extra", |tree| {
        fs::write(tree.join("word"), "x\n").expect("the tree is ours")
    });
    host.cocker("-a create -m test,extra -c web").ok();
    let away = image.tree.with_file_name("away");
    fs::rename(&image.tree, &away).expect("the store is ours");
    let layer = image.tree.display().to_string();
    host.cocker("-a boot -c web").fails(1, &["web", &layer]);
    is_stopped_with_nothing_left(host, "web");
    fs::rename(&away, &image.tree).expect("the store is ours");
    host.cocker("-a boot -c web").ok();
}

fn a_volume_that_has_gone_since_is_named(host: &Host) {
    let data = host.folder("data");
    let path = data.display().to_string();
    host.cocker(&format!("-a create -m test -c web --volume {path}:/data"))
        .ok();
    fs::remove_dir(&data).expect("the folder is ours");
    host.cocker("-a boot -c web")
        .fails(1, &["cannot open volume", &path, "Hint: "]);
    is_stopped_with_nothing_left(host, "web");
    fs::create_dir(&data).expect("the place is ours");
    host.cocker("-a boot -c web").ok();
}

fn a_link_where_the_engine_mounts_is_refused(host: &Host) {
    let outside = host.folder("outside");
    for place in ["proc", "sys", "dev"] {
        for (kind, target) in [
            ("absolute", outside.display().to_string()),
            ("relative", "../../../../../../tmp".into()),
            ("inside", "/srv".into()),
        ] {
            let name = format!("{place}-{kind}");
            host.add_image(&name, |tree| {
                symlink(&target, tree.join(place)).expect("the tree is ours")
            });
            host.cocker(&format!("-a create -m test,{name} -c {name}"))
                .ok();
            let mount = format!("on `/{place}`");
            host.cocker(&format!("-a boot -c {name}"))
                .fails(1, &["cannot mount", &mount, "symbolic links"]);
            is_stopped_with_nothing_left(host, &name);
        }
    }
    assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
}

fn a_file_where_the_engine_mounts_is_refused(host: &Host) {
    for place in ["proc", "sys", "dev"] {
        host.add_image(place, |tree| {
            fs::write(tree.join(place), "a file\n").expect("the tree is ours")
        });
        host.cocker(&format!("-a create -m test,{place} -c {place}"))
            .ok();
        host.cocker(&format!("-a boot -c {place}"))
            .fails(1, &[&format!("on `/{place}`"), "Not a directory"]);
        is_stopped_with_nothing_left(host, place);
    }
}

fn a_file_system_that_cannot_map_ids_is_named(host: &Host) {
    // The tests' own namespace of the network: its files are of a file system that no id map goes with.
    host.cocker("-a create -m test -c web --volume /proc/sys/net:/data")
        .ok();
    host.cocker("-a boot -c web").fails(
        1,
        &[
            "cannot map the ids of volume `/proc/sys/net`",
            "proc",
            "Hint: ",
            ":raw",
        ],
    );
    is_stopped_with_nothing_left(host, "web");
    host.cocker("set-volume web --volume /proc/sys/net:/data:raw:ro")
        .ok();
    host.cocker("-a boot -c web").ok();
    assert!(host.inside("web", "ls /data").contains("ipv4"));
}

fn a_settings_file_that_is_damaged_is_named_and_can_be_removed(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    let settings = host.home().join("containers/web/container.json");
    fs::write(&settings, "{ \"format\": 1, ").expect("the store is ours");
    host.cocker("-a boot -c web").fails(1, &["web", "damaged"]);
    let listing = host.cocker("-s containers").succeeds().stdout();
    assert!(listing.contains("EXCEPTION("), "{listing}");
    host.cocker("-a destroy -c web")
        .fails(1, &["web", "damaged"]);
    host.cocker("-a destroy -c web -f").ok();
    host.cocker("-s containers").succeeds().prints("");
}

/// The client is killed after ever longer times, from before it has read its arguments to after it is done.
fn a_boot_whose_client_is_killed_at_any_moment_leaves_nothing(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    at_every_moment(|moment| {
        let was_killed = host.killed_after("-a boot -c web", moment);
        host.settles("web");
        host.cocker("-a boot -c web").ok();
        host.cocker("-a kill -c web").ok();
        was_killed
    });
}
