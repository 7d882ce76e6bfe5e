//! Images under other versions and names, and their removal: what stands on them keeps its files, and what nothing
//! stands on is gone from the disk.

use crate::host::{Host, at_every_moment, with_image_test};
use std::fs;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_image_gets_another_version,
        a_version_is_not_given_twice,
        a_container_boots_whatever_its_image_is_called,
        a_copy_boots_and_outlives_what_it_was_copied_from,
        a_copy_takes_no_name_from_another,
        an_image_that_is_removed_frees_its_place,
        an_image_with_containers_on_it_stays,
        an_image_below_another_stays_for_its_containers,
        a_layer_goes_with_the_last_that_needs_it,
        a_container_whose_image_went_as_a_copy_boots,
        a_damaged_container_keeps_images_from_removal_unless_forced,
        unknown_images_are_refused,
        two_removals_at_once_remove_one_image_once,
        a_removal_killed_at_any_moment_leaves_a_whole_image_or_none,
        a_copy_killed_at_any_moment_is_whole_or_not_there,
    ]
}

/// Adds an image with one file, `/word`, that holds its name.
fn add(host: &Host, name: &str) {
    host.add_image(name, |tree| {
        fs::write(tree.join("word"), name).expect("the tree is ours");
    });
}

fn an_image_gets_another_version(host: &Host) {
    host.cocker("-a version -m test --version 1.0").ok();
    assert_eq!(host.images(), ["test 1.0"]);
    host.cocker("set-version test:1.0 --version 2").ok();
    assert_eq!(host.images(), ["test 2"]);
    host.cocker("set-version test --version 2").ok();
    assert_eq!(host.images(), ["test 2"]);
    host.cocker("-a version -m test:2").ok();
    assert_eq!(host.images(), ["test _"]);
}

fn a_version_is_not_given_twice(host: &Host) {
    host.cocker("copy-image --from-image test --to-image test:1")
        .ok();
    host.cocker("set-version test:_ --version 1").fails(
        1,
        &[
            "image `test:1` exists already",
            "Hint: choose another name or version",
        ],
    );
    assert_eq!(host.images(), ["test _", "test 1"]);
}

fn a_container_boots_whatever_its_image_is_called(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("boot web").ok();
    host.cocker("set-version test --version 7").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn a_copy_boots_and_outlives_what_it_was_copied_from(host: &Host) {
    let before = host.layers();
    host.cocker("-a copy_image --from-image test --to-image web:1")
        .ok();
    assert_eq!(host.layers(), before, "a copy shares the layers");
    host.cocker("-a del_image -m test").ok();
    assert_eq!(host.images(), ["web 1"]);
    host.cocker("create -m web -b").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn a_copy_takes_no_name_from_another(host: &Host) {
    add(host, "other");
    host.cocker("create -m test,other -c web -b").ok();
    host.cocker("copy-image --from-image test --to-image other")
        .fails(1, &["image `other:_` exists already"]);
    assert_eq!(host.inside("web", "cat /word"), "other");
    assert_eq!(host.images(), ["other _", "test _"]);
}

fn an_image_that_is_removed_frees_its_place(host: &Host) {
    let before = host.layers();
    add(host, "extra");
    assert_eq!(host.layers(), before + 1);
    host.cocker("rm-image extra").ok();
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.layers(), before);
    assert_eq!(host.entries("images").len(), 1);
    host.cocker("create -m test -c web -b").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn an_image_with_containers_on_it_stays(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("create -m test -c api -b").ok();
    for line in ["rm-image test", "-a del_image -m test:_ -f"] {
        host.cocker(line).fails(
            1,
            &[
                "Error: cannot remove image `test:_`: containers `api` and `web` stand on it",
                "Hint: destroy what is not needed any more: cocker destroy api",
            ],
        );
    }
    // A copy is another name of the files, but these were made on this one.
    host.cocker("copy-image --from-image test --to-image copy")
        .ok();
    host.cocker("rm-image test")
        .fails(1, &["containers `api` and `web` stand on it"]);
    host.cocker("rm-image copy").ok();
    host.cocker("destroy --shutdown api").ok();
    host.cocker("rm-image test")
        .fails(1, &["container `web` stands on it"]);
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
    host.cocker("destroy --shutdown web").ok();
    host.cocker("rm-image test").ok();
    assert_eq!(host.layers(), 0);
}

fn an_image_below_another_stays_for_its_containers(host: &Host) {
    add(host, "top");
    host.cocker("create -m test,top -c web").ok();
    for image in ["test", "top"] {
        host.cocker(&format!("rm-image {image}"))
            .fails(1, &["container `web` stands on it"]);
    }
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /word"), "top");
}

fn a_layer_goes_with_the_last_that_needs_it(host: &Host) {
    host.add_image_of_many_layers("many", 5);
    assert_eq!(host.layers(), 5);
    host.cocker("rm-image test").ok();
    assert_eq!(host.layers(), 5, "`many` stands on its layer");
    host.cocker("create -m many -c web -b").ok();
    assert_eq!(host.inside("web", "cat /top"), "4");
    host.cocker("destroy --shutdown web").ok();
    host.cocker("rm-image many").ok();
    assert_eq!(host.layers(), 0);
}

fn a_container_whose_image_went_as_a_copy_boots(host: &Host) {
    host.cocker("copy-image --from-image test --to-image base:1")
        .ok();
    host.cocker("create -m base:1 -c web").ok();
    // Made on `base:1`, which keeps the layer.
    host.cocker("rm-image test").ok();
    // Now nothing else keeps it, whatever the image is called.
    host.cocker("set-version base --version 2").ok();
    host.cocker("rm-image base:2")
        .fails(1, &["container `web` stands on it"]);
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn a_damaged_container_keeps_images_from_removal_unless_forced(host: &Host) {
    add(host, "extra");
    host.cocker("create -m test -c web").ok();
    let settings = host.home().join("containers/web/container.json");
    let text = fs::read(&settings).expect("it is there");
    fs::write(&settings, "{").expect("the home is ours");
    let before = host.layers();
    host.cocker("rm-image extra")
        .fails(1, &["the settings of container `web` are damaged"]);
    assert_eq!(host.images(), ["extra _", "test _"]);
    host.cocker("rm-image extra -f").ok();
    host.cocker("rm-image test -f").ok();
    assert_eq!(host.layers(), before, "it may stand on any of them");
    fs::write(&settings, text).expect("the home is ours");
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn unknown_images_are_refused(host: &Host) {
    for line in [
        "rm-image none",
        "set-version none --version 1",
        "copy-image --from-image none --to-image new",
    ] {
        host.cocker(line).fails(1, &["cannot find image `none`"]);
    }
    host.cocker("rm-image test:9")
        .fails(1, &["cannot find version `9` of image `test`"]);
    host.cocker("rm-image test:").refuses(&["test:"]);
    host.cocker("copy-image --from-image test --to-image a/b")
        .refuses(&["a/b"]);
    host.cocker("set-version test --version a/b")
        .refuses(&["a/b"]);
    assert_eq!(host.images(), ["test _"]);
}

fn two_removals_at_once_remove_one_image_once(host: &Host) {
    for _ in 0..20 {
        add(host, "extra");
        let both = [host.start("rm-image extra"), host.start("rm-image extra")];
        let ended = both.map(|started| started.outcome().status.code());
        let mut codes = ended.map(|code| code.expect("nobody kills them"));
        codes.sort_unstable();
        assert_eq!(codes, [0, 1]);
        assert_eq!(host.images(), ["test _"]);
    }
    assert_eq!(host.layers(), 1);
}

/// Nothing else is there: no layer that nothing needs, nothing staged, nothing leaving.
#[track_caller]
fn holds_image_test_alone(host: &Host) {
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.entries("images").len(), 1);
    assert_eq!(host.layers(), 1);
}

fn a_removal_killed_at_any_moment_leaves_a_whole_image_or_none(host: &Host) {
    at_every_moment(|moment| {
        add(host, "extra");
        let was_killed = host.killed_after("rm-image extra", moment);
        if host.images().contains(&"extra _".into()) {
            assert!(was_killed, "it was done, and the image is there");
            host.cocker("create -m test,extra -c web -b").ok();
            assert_eq!(host.inside("web", "cat /word"), "extra");
            host.cocker("destroy --shutdown web").ok();
            host.cocker("rm-image extra").ok();
        }
        // A command that takes the lock sweeps.
        host.cocker("set-version test").ok();
        holds_image_test_alone(host);
        was_killed
    });
}

fn a_copy_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    let line = "copy-image --from-image test --to-image copy:1";
    at_every_moment(|moment| {
        let was_killed = host.killed_after(line, moment);
        if host.images().contains(&"copy 1".into()) {
            host.cocker("create -m copy -c web -b").ok();
            assert_eq!(host.inside("web", "echo works"), "works");
            host.cocker("destroy --shutdown web").ok();
        } else {
            assert!(was_killed, "it was done, and there is no copy");
            host.cocker(line).ok();
        }
        host.cocker("rm-image copy").ok();
        holds_image_test_alone(host);
        was_killed
    });
}
