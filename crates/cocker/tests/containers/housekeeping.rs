//! What takes room, and what goes when nobody needs it: never what a container stands on, whoever else is at work.

pub mod check;

use crate::host::{Host, at_every_moment, eventually, size_of_files, with_image_test};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_layer_goes_when_the_last_container_on_it_has_gone,
        what_dead_processes_left_goes,
        what_a_living_process_makes_stays,
        a_dry_run_removes_nothing,
        a_container_that_cannot_be_read_keeps_all_layers,
        an_image_that_cannot_be_read_keeps_all_layers,
        pruning_is_in_nobodys_way,
        a_prune_killed_at_any_moment_leaves_a_sound_store,
        what_takes_room_is_right_after_every_change,
    ]
}

/// The ids of all layers, and what else lies beside them.
fn layers(host: &Host) -> Vec<String> {
    host.entries("layers")
}

/// Adds a layer that nothing refers to, with one file of 1,000 bytes.
fn add_unneeded_layer(host: &Host, name: &str) {
    host.add_image(name, |tree| {
        fs::write(tree.join("file"), [b'x'; 1000]).expect("the tree is ours");
    });
    fs::remove_dir_all(host.home().join("images").join(name)).expect("the home is ours");
}

/// Leaves something of every kind that a dead process could leave, besides layers.
fn leave_things(host: &Host) {
    let home = host.home();
    for folder in [
        "layers/.new-1/tree",
        "images/.gone-2",
        "containers/.gone-3",
        "images/empty",
        "ids",
        "addresses",
    ] {
        fs::create_dir_all(home.join(folder)).expect("the home is ours");
    }
    fs::write(home.join("layers/.new-1/tree/file"), [b'x'; 3000]).expect("the home is ours");
    for link in ["ids/77", "addresses/166.88.0.77"] {
        symlink("gone", home.join(link)).expect("the home is ours");
    }
}

#[track_caller]
fn is_silent_on(host: &Host, line: &str) {
    host.cocker(line).succeeds().prints("");
}

fn a_layer_goes_when_the_last_container_on_it_has_gone(host: &Host) {
    host.cocker("create -m test -c old").ok();
    let of_old = layers(host);
    // The container keeps the layer that it was made on.
    host.cocker("install-test").ok();
    assert_eq!(layers(host).len(), 2);
    host.cocker("-a prune").ok();
    host.cocker("boot old").ok();
    host.cocker("prune").ok();
    assert_eq!(host.inside("old", "echo works"), "works");
    host.cocker("destroy --shutdown old").ok();

    let size = size_of_files(&host.home().join("layers").join(&of_old[0]).join("tree"));
    let line = format!("layer {} {} MB\nOK\n", &of_old[0][..12], size >> 20);
    host.cocker("prune").succeeds().prints(&line);
    assert_eq!(layers(host).len(), 1);
    host.cocker("prune").ok();
    is_silent_on(host, "check");
    host.booted("new");
    assert_eq!(host.inside("new", "echo works"), "works");
}

fn what_dead_processes_left_goes(host: &Host) {
    host.cocker("create -m test -c web").ok();
    let before = layers(host);
    leave_things(host);
    add_unneeded_layer(host, "extra");
    let half_written = host.home().join("containers/web/.new-container.json");
    fs::write(&half_written, "{").expect("the home is ours");
    symlink("web", host.home().join("ids/78")).expect("the home is ours");

    let printed = host.cocker("prune").succeeds().stdout();
    let (extra, rest): (Vec<&str>, Vec<&str>) =
        printed.lines().partition(|line| line.starts_with("layer "));
    assert_eq!(extra.len(), 1, "{printed}");
    assert!(extra[0].ends_with(" 1000 B"), "{printed}");
    let expected = [
        "leftover layers/.new-1 2 KB",
        "leftover images/.gone-2 0 B",
        "leftover containers/.gone-3 0 B",
        "file containers/web/.new-container.json 1 B",
        "image empty 0 B",
        "ids 77 0 B",
        "ids 78 0 B",
        "address 166.88.0.77 0 B",
        "OK",
    ];
    assert_eq!(rest, expected);
    assert_eq!(layers(host), before);
    assert_eq!(host.entries("images"), ["test"]);
    assert_eq!(host.entries("containers"), ["web"]);
    assert_eq!(host.entries("ids"), ["0"]);
    assert!(host.entries("addresses").is_empty());
    assert!(!half_written.exists());
    is_silent_on(host, "check");
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn what_a_living_process_makes_stays(host: &Host) {
    leave_things(host);
    add_unneeded_layer(host, "extra");
    let unneeded = layers(host);
    let held = [
        PathBuf::from("layers/.new-1"),
        PathBuf::from("layers").join(&unneeded[1]),
    ];
    let held = held.map(|folder| {
        let folder = File::open(host.home().join(folder)).expect("the home is ours");
        folder.lock().expect("nobody else holds it");
        folder
    });
    host.cocker("prune").succeeds();
    assert_eq!(layers(host), unneeded);
    drop(held);
    // A child that another test has just forked holds them too until it is executed.
    eventually("both go", || {
        host.cocker("prune").succeeds();
        layers(host).len() == 1
    });
}

fn a_dry_run_removes_nothing(host: &Host) {
    leave_things(host);
    add_unneeded_layer(host, "extra");
    let before = ["layers", "images", "containers", "ids", "addresses"].map(|it| host.entries(it));
    let said = host.cocker("prune --dry-run").succeeds().stdout();
    let json = host.cocker("-a prune --dry-run --format json").succeeds();
    let after = ["layers", "images", "containers", "ids", "addresses"].map(|it| host.entries(it));
    assert_eq!(before, after);

    let things: Value = serde_json::from_str(&json.stdout()).expect("it is JSON");
    let things = things.as_array().expect("it is a list");
    assert_eq!(things.len() + 1, said.lines().count());
    let layer = things.iter().find(|thing| thing["kind"] == "layer");
    let layer = layer.expect("a layer goes");
    assert_eq!(layer["size"], 1000);
    assert!(before[0].contains(&layer["name"].as_str().expect("a name").to_string()));
    host.cocker("prune").succeeds().prints(&said);
}

fn a_container_that_cannot_be_read_keeps_all_layers(host: &Host) {
    host.cocker("create -m test -c web").ok();
    add_unneeded_layer(host, "extra");
    leave_things(host);
    let settings = host.home().join("containers/web/container.json");
    let text = fs::read(&settings).expect("it is there");
    fs::write(&settings, "{").expect("the home is ours");
    let before = layers(host);
    for line in ["prune", "-a prune --dry-run"] {
        host.cocker(line).fails(
            1,
            &[
                "cannot prune the store",
                "the settings of container `web` are damaged",
                "Hint: it may stand on any layer",
                "cocker destroy --forcely web",
            ],
        );
    }
    assert_eq!(layers(host), before);
    let said = host.cocker("prune -f").succeeds().stdout();
    assert!(!said.contains("layer "), "{said}");
    assert!(said.contains("leftover layers/.new-1"), "{said}");
    assert_eq!(layers(host).len(), 2);
    fs::write(&settings, text).expect("the home is ours");
    host.cocker("prune").succeeds();
    assert_eq!(layers(host).len(), 1);
    host.cocker("boot web").ok();
}

fn an_image_that_cannot_be_read_keeps_all_layers(host: &Host) {
    add_unneeded_layer(host, "extra");
    host.cocker("copy-image --from-image test --to-image broken")
        .ok();
    fs::write(host.home().join("images/broken/_/image.json"), "{").expect("the home is ours");
    host.cocker("prune")
        .fails(1, &["broken/_/image.json", "cocker check"]);
    host.cocker("prune -f").ok();
    assert_eq!(layers(host).len(), 2);
}

/// Creates, conversions of names, removals and prunes at once: each does what it says.
fn pruning_is_in_nobodys_way(host: &Host) {
    const ROUNDS: usize = 15;
    let lives = |name: &str, image: &str| {
        host.cocker(&format!("create -m {image} -c {name} -b")).ok();
        assert_eq!(host.inside(name, "echo works"), "works");
        host.cocker(&format!("destroy --shutdown {name}")).ok();
    };
    thread::scope(|scope| {
        let workers = [
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    host.cocker("copy-image --from-image test --to-image copy")
                        .ok();
                    lives("on-copy", "copy");
                    host.cocker("rm-image copy").ok();
                }
            }),
            scope.spawn(|| (0..ROUNDS).for_each(|_| lives("on-test", "test:_"))),
            scope.spawn(|| {
                for round in 0..3 {
                    host.cocker(&format!("install-test --version {round}")).ok();
                    lives("on-version", &format!("test:{round}"));
                    host.cocker(&format!("rm-image test:{round}")).ok();
                }
            }),
        ];
        while workers.iter().any(|worker| !worker.is_finished()) {
            let said = host.cocker("prune").succeeds().stdout();
            // There is never anything that nobody needs.
            assert_eq!(said, "OK\n");
        }
    });
    assert_eq!(layers(host).len(), 1);
    is_silent_on(host, "check");
}

fn a_prune_killed_at_any_moment_leaves_a_sound_store(host: &Host) {
    host.cocker("create -m test -c web").ok();
    at_every_moment(|moment| {
        leave_things(host);
        for name in ["one", "two", "three"] {
            add_unneeded_layer(host, name);
        }
        let was_killed = host.killed_after("prune", moment);
        // A command that takes the lock sweeps.
        host.cocker("set-version test").ok();
        host.cocker("check").succeeds();
        assert!(
            host.entries("layers")
                .iter()
                .all(|name| !name.starts_with('.'))
        );
        if !was_killed {
            is_silent_on(host, "check");
        }
        host.cocker("prune").succeeds();
        is_silent_on(host, "check");
        assert_eq!(layers(host).len(), 1);
        was_killed
    });
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

/// What `df` says for programs.
fn usage(host: &Host) -> Value {
    let json = host.cocker("-s df --format json").succeeds().stdout();
    serde_json::from_str(&json).expect("it is JSON")
}

/// Count, size, shared and reclaimable of one kind.
fn of_kind(usage: &Value, kind: &str) -> [Option<u64>; 4] {
    let kinds = usage["kinds"].as_array().expect("there are kinds");
    let found = kinds.iter().find(|it| it["kind"] == kind);
    let found = found.expect("the kind is there");
    assert_eq!(found["unmeasured"], 0);
    ["count", "size", "shared", "reclaimable"].map(|field| found[field].as_u64())
}

fn what_takes_room_is_right_after_every_change(host: &Host) {
    let layer = host
        .home()
        .join("layers")
        .join(&layers(host)[0])
        .join("tree");
    let test = size_of_files(&layer);
    let of_layers = |count, size, shared, free| [Some(count), Some(size), Some(shared), Some(free)];
    let of_others = |count, size| [Some(count), Some(size), None, Some(0)];

    host.cocker("create -m test -c web").ok();
    let now = usage(host);
    assert_eq!(of_kind(&now, "layers"), of_layers(1, test, 0, 0));
    assert_eq!(of_kind(&now, "containers"), of_others(1, 0));
    assert_eq!(of_kind(&now, "logs"), of_others(0, 0));
    assert_eq!(of_kind(&now, "staging"), of_others(0, 0));
    assert_eq!(now["images"][0]["own"], test);
    assert_eq!(now["containers"][0]["shared"], test);
    assert!(now["free"].as_u64().is_some_and(|free| free > 0));

    host.cocker("boot web").ok();
    host.inside(
        "web",
        "head -c 1000000 /dev/zero > /root/zeros; echo seen > /dev/console",
    );
    host.cocker("shutdown web").ok();
    let web = host.home().join("containers/web");
    let written = size_of_files(&web.join("files/upper"));
    assert!(written >= 1_000_000);
    // It is measured when the client has had its `OK`.
    eventually("the writable layer is measured", || {
        of_kind(&usage(host), "containers")[1] != Some(0)
    });
    let now = usage(host);
    assert_eq!(of_kind(&now, "containers"), of_others(1, written));
    assert_eq!(now["containers"][0]["own"], written);
    let sizes = ["console.log", "console.times"].map(|name| fs::metadata(web.join(name)));
    let log = sizes.map(|found| found.expect("it was booted").len());
    let log = log.iter().sum();
    assert_eq!(of_kind(&now, "logs"), of_others(1, log));
    assert_eq!(now["containers"][0]["logs"], log);

    host.cocker("copy-image --from-image test --to-image copy")
        .ok();
    let now = usage(host);
    assert_eq!(of_kind(&now, "layers"), of_layers(1, test, test, 0));
    for image in [0, 1] {
        assert_eq!(now["images"][image]["own"], 0);
        assert_eq!(now["images"][image]["shared"], test);
    }
    host.cocker("rm-image copy").ok();
    assert_eq!(of_kind(&usage(host), "layers"), of_layers(1, test, 0, 0));

    add_unneeded_layer(host, "extra");
    assert_eq!(
        of_kind(&usage(host), "layers"),
        of_layers(2, test + 1000, 0, 1000)
    );
    let table = host.cocker("df").succeeds().stdout();
    let line = format!("layers       2        {} MB", (test + 1000) >> 20);
    assert!(table.contains(&line), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("free ")),
        "{table}"
    );
    host.cocker("prune").succeeds();
    assert_eq!(of_kind(&usage(host), "layers"), of_layers(1, test, 0, 0));
    host.cocker("destroy web").ok();
    assert_eq!(of_kind(&usage(host), "containers"), of_others(0, 0));
}
