//! Containers become images and images containers: with every file as it was, whole or not at all, in no time.

use crate::host::{Host, at_every_moment, entries, eventually, in_a_lab, with_image_test};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = with_image_test![
        a_container_becomes_an_image_on_what_it_stood_on,
        every_file_stays_the_very_same,
        a_container_comes_back_from_its_image,
        the_version_goes_with_the_container,
        a_version_may_stand_with_the_name,
        an_image_of_one_layer_becomes_a_container_on_nothing,
        an_image_becomes_a_container_over_other_images,
        what_is_kept_is_copied,
        a_layer_that_others_need_is_copied,
        a_copy_of_the_image_has_its_layer_copied_and_not_moved,
        what_was_deleted_below_stays_deleted,
        a_booted_container_is_not_converted,
        a_booted_container_is_copied_while_it_stands_still,
        a_container_goes_on_when_the_copying_is_killed,
        a_name_in_use_stays_with_what_has_it,
        what_is_not_there_is_refused,
        a_container_whose_supervisor_was_killed_is_converted_with_its_true_size,
        a_conversion_killed_at_any_moment_is_whole_or_not_there,
        a_conversion_back_killed_at_any_moment_is_whole_or_not_there,
        a_copy_killed_at_any_moment_leaves_nothing,
        conversions_at_once_make_one_image,
    ];
    trials.extend(in_a_lab![
        a_container_with_an_address_gives_it_back,
        a_container_with_a_network_of_its_own_leaves_no_name,
    ]);
    trials
}

fn containers(host: &Host) -> Vec<String> {
    let names = host.cocker("ps -q").succeeds().stdout();
    names.lines().map(String::from).collect()
}

/// Inode, mode, owner and time of change of every file below, by path. What is moved keeps them all; what is copied has
/// other inodes.
fn looks(top: &Path) -> BTreeMap<PathBuf, (u64, u32, u32, u64, i64, i64)> {
    let mut seen = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let stat = top.join(&path).symlink_metadata().expect("it is there");
        if stat.is_dir() {
            let entries = fs::read_dir(top.join(&path)).expect("the home is ours");
            waiting.extend(entries.map(|entry| path.join(entry.expect("ours").file_name())));
        }
        let look = (
            stat.ino(),
            stat.mode(),
            stat.uid(),
            stat.size(),
            stat.mtime(),
            stat.mtime_nsec(),
        );
        seen.insert(path, look);
    }
    seen
}

/// A stopped container `web` with a file `/word` that says so, a file in a folder, and a file of the image's deleted.
fn stopped_web(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "echo web > /word; mkdir -p /srv/deep; echo x > /srv/deep/.dot; rm /etc/profile",
    );
    host.cocker("shutdown web").ok();
}

/// Nothing staged or leaving, no layer that nothing needs.
#[track_caller]
fn is_tidy(host: &Host) {
    for folder in ["layers", "images", "containers"] {
        for name in host.entries(folder) {
            assert!(!name.starts_with('.'), "{folder}/{name} is left");
        }
    }
    for name in host.entries("images") {
        let versions = host.home().join("images").join(&name);
        assert!(
            !entries(&versions).is_empty(),
            "images/{name} has no version"
        );
    }
    assert!(!host.home().join("change.json").exists());
    let mut needed = Vec::new();
    for record in records(host) {
        let text = fs::read_to_string(&record).expect("it is there");
        let record: serde_json::Value = serde_json::from_str(&text).expect("a record is JSON");
        let layers = record["layers"].as_array().expect("it has layers");
        needed.extend(
            layers
                .iter()
                .map(|id| id.as_str().expect("text").to_string()),
        );
    }
    for layer in host.entries("layers") {
        assert!(needed.contains(&layer), "nothing needs layer {layer}");
        let tree = host.home().join("layers").join(&layer).join("tree");
        assert!(tree.is_dir(), "layer {layer} has no files");
    }
}

fn records(host: &Host) -> Vec<PathBuf> {
    let mut records = Vec::new();
    for name in host.entries("images") {
        let versions = host.home().join("images").join(name);
        let of_version = |version: String| versions.join(version).join("image.json");
        records.extend(entries(&versions).into_iter().map(of_version));
    }
    let containers = host.home().join("containers");
    let of_container = |name: String| containers.join(name).join("container.json");
    records.extend(entries(&containers).into_iter().map(of_container));
    records
}

fn a_container_becomes_an_image_on_what_it_stood_on(host: &Host) {
    stopped_web(host);
    host.cocker("-a to_image --from-container web --to-image app --version 1.0")
        .ok();
    assert!(containers(host).is_empty());
    assert_eq!(host.images(), ["app 1.0", "test _"]);
    // Its base comes along, and is not stacked twice.
    for (container, stack) in [("one", "app"), ("two", "test,app")] {
        host.cocker(&format!("create -m {stack} -c {container} -b"))
            .ok();
        assert_eq!(host.inside(container, "cat /word /srv/deep/.dot"), "web\nx");
        assert_eq!(host.inside(container, "ls /etc/profile 2>&1 | wc -l"), "1");
        assert_eq!(
            host.inside(container, "test -e /etc/profile || echo no"),
            "no"
        );
        host.cocker(&format!("destroy --shutdown {container}")).ok();
    }
    host.cocker("rm-image test").ok();
    assert_eq!(
        host.entries("layers").len(),
        2,
        "the image stands on the layer of `test`"
    );
    host.cocker("rm-image app").ok();
    assert_eq!(host.entries("layers").len(), 0);
    assert_eq!(host.entries("ids").len(), 0);
}

fn every_file_stays_the_very_same(host: &Host) {
    stopped_web(host);
    let before = looks(&host.home().join("containers/web/files/upper"));
    assert!(before.len() > 5);
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    assert_eq!(looks(&host.tree_of("app", "_")), before);
    host.cocker("to-container --from-image app --to-container web")
        .ok();
    assert_eq!(
        looks(&host.home().join("containers/web/files/upper")),
        before
    );
    is_tidy(host);
}

fn a_container_comes_back_from_its_image(host: &Host) {
    stopped_web(host);
    // The size is written down a moment after the shutdown.
    let listing = || host.cocker("ps").succeeds().stdout();
    crate::host::eventually("its size is known", || !listing().contains(" 0 B "));
    let listed = listing();
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    host.cocker("-a to_container --from-image app --to-container web")
        .ok();
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(
        host.cocker("ps").succeeds().stdout(),
        listed,
        "with its size"
    );
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /word /srv/deep/.dot"), "web\nx");
    assert_eq!(host.inside("web", "test -e /etc/profile || echo no"), "no");
    assert_eq!(host.inside("web", "hostname"), "web");
    host.inside("web", "echo more > /word");
    host.cocker("shutdown web").ok();
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /word"), "more");
    is_tidy(host);
}

fn the_version_goes_with_the_container(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("to-image --from-container web --to-image app --version 2.1")
        .ok();
    host.cocker("to-container --from-image app:2.1 --to-container web")
        .ok();
    host.cocker("to-image --from-container web --to-image other")
        .ok();
    assert_eq!(host.images(), ["other 2.1", "test _"]);
    host.cocker("to-container --from-image other --to-container web")
        .ok();
    host.cocker("to-image --from-container web --to-image other --version 3")
        .ok();
    assert_eq!(host.images(), ["other 3", "test _"]);
}

fn a_version_may_stand_with_the_name(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("to-image --from-container web --to-image app:1 --version 2")
        .refuses(&["the version is given twice"]);
    host.cocker("to-image --from-container web --to-image app:1")
        .ok();
    assert_eq!(host.images(), ["app 1", "test _"]);
}

fn an_image_of_one_layer_becomes_a_container_on_nothing(host: &Host) {
    host.cocker("to-container --from-image test --to-container web")
        .ok();
    assert!(host.images().is_empty());
    assert_eq!(host.entries("layers").len(), 0);
    host.cocker("boot web").ok();
    host.inside("web", "rm /etc/profile; echo mine > /etc/word");
    assert_eq!(host.inside("web", "cat /etc/word"), "mine");
    host.cocker("shutdown web").ok();
    host.cocker("to-image --from-container web --to-image test")
        .ok();
    assert_eq!(host.images(), ["test _"]);
    host.cocker("create -m test -c next -b").ok();
    assert_eq!(host.inside("next", "cat /etc/word"), "mine");
    is_tidy(host);
}

fn an_image_becomes_a_container_over_other_images(host: &Host) {
    host.add_image("lower", |tree| {
        fs::write(tree.join("word"), "lower").expect("the tree is ours");
        fs::write(tree.join("low"), "low").expect("the tree is ours");
    });
    stopped_web(host);
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    host.cocker("to-container --from-image app -m test,lower --to-container web --host www")
        .ok();
    let listing = host.cocker("ps").succeeds().stdout();
    assert!(listing.contains(" test,lower "), "{listing}");
    host.cocker("boot web").ok();
    assert_eq!(
        host.inside("web", "cat /word /low; hostname"),
        "web\nlowwww"
    );
}

fn what_is_kept_is_copied(host: &Host) {
    stopped_web(host);
    let before = looks(&host.home().join("containers/web/files/upper"));
    host.cocker("to-image --from-container web --to-image app --keep")
        .ok();
    assert_eq!(
        looks(&host.home().join("containers/web/files/upper")),
        before
    );
    // The same but for the inodes.
    let copy = looks(&host.tree_of("app", "_"));
    let alike = |looks: &BTreeMap<PathBuf, (u64, u32, u32, u64, i64, i64)>| {
        let of = |(path, look): (&PathBuf, &(u64, u32, u32, u64, i64, i64))| {
            // The size of a folder is the file system's affair.
            let is_folder = look.1 & 0o170_000 == 0o040_000;
            (
                path.clone(),
                look.1,
                look.2,
                if is_folder { 0 } else { look.3 },
                look.4,
                look.5,
            )
        };
        looks.iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(alike(&copy), alike(&before));
    host.cocker("to-container --from-image app --to-container second --keep")
        .ok();
    assert_eq!(containers(host), ["second", "web"]);
    assert_eq!(host.images(), ["app _", "test _"]);
    for container in ["second", "web"] {
        host.cocker(&format!("boot {container}")).ok();
        assert_eq!(host.inside(container, "cat /word"), "web");
        host.inside(container, &format!("echo {container} > /word"));
    }
    assert_eq!(host.inside("second", "cat /word"), "second");
    assert_eq!(
        fs::read_to_string(host.tree_of("app", "_").join("word")).unwrap(),
        "web\n"
    );
    is_tidy(host);
}

fn a_layer_that_others_need_is_copied(host: &Host) {
    stopped_web(host);
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    host.cocker("create -m app -c user").ok();
    let said = host.cocker("-d to-container --from-image app --to-container web");
    assert!(
        said.stderr
            .contains("is needed elsewhere: its files were copied"),
        "{}",
        said.stderr
    );
    // The image is gone; who stands on its layer keeps that.
    assert_eq!(host.images(), ["test _"]);
    for container in ["user", "web"] {
        host.cocker(&format!("boot {container}")).ok();
        assert_eq!(host.inside(container, "cat /word"), "web");
    }
    is_tidy(host);
}

fn a_copy_of_the_image_has_its_layer_copied_and_not_moved(host: &Host) {
    stopped_web(host);
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    host.cocker("copy-image --from-image app --to-image copy")
        .ok();
    host.cocker("to-container --from-image app --to-container web")
        .ok();
    assert_eq!(host.images(), ["copy _", "test _"]);
    host.cocker("create -m copy -c other -b").ok();
    assert_eq!(host.inside("other", "cat /word"), "web");
    // Over itself it is needed as well.
    host.cocker("to-container --from-image copy -m copy --to-container odd")
        .ok();
    host.cocker("boot odd").ok();
    assert_eq!(host.inside("odd", "cat /word"), "web");
    is_tidy(host);
}

fn what_was_deleted_below_stays_deleted(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "rm -r /root; mkdir /root; echo new > /root/new; rm /etc/profile",
    );
    host.cocker("shutdown web").ok();
    host.cocker("to-image --from-container web --to-image app --keep")
        .ok();
    host.cocker("to-container --from-image app --to-container again")
        .ok();
    host.cocker("boot again").ok();
    assert_eq!(host.inside("again", "ls -A /root"), "new");
    assert_eq!(
        host.inside("again", "test -e /etc/profile || echo no"),
        "no"
    );
}

fn a_booted_container_is_not_converted(host: &Host) {
    host.booted("web");
    let pid = host.root_process("web");
    for line in [
        "to-image --from-container web --to-image app",
        "to-image --from-container web --to-image app --keep",
    ] {
        host.cocker(line).fails(
            1,
            &[
                "Error: cannot make image `app` of container `web`",
                &format!("container `web` is booted (pid {pid})"),
                "Hint: shut it down first (cocker shutdown web), or copy it as it is now: --live",
            ],
        );
    }
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.root_process("web"), pid);
}

fn a_booted_container_is_copied_while_it_stands_still(host: &Host) {
    host.booted("web");
    // Two files that always say the same but for the moment between two writes. Neither is ever empty: nothing is cut off, and
    // each number takes the place of the one before.
    host.inside(
        "web",
        "(n=0; while :; do n=$((n+1)); printf '%012d\\n' $n 1<>/a; printf '%012d\\n' $n 1<>/b; done) >/dev/null 2>&1 &",
    );
    eventually("the loop has begun", || {
        !host.inside("web", "cat /b 2>/dev/null || true").is_empty()
    });
    for round in 0..5 {
        host.cocker(&format!(
            "to-image --from-container web --to-image app:{round} --live"
        ))
        .ok();
        let number = |file: &str| {
            let path = host.tree_of("app", &round.to_string()).join(file);
            let text = fs::read_to_string(path).expect("it was there");
            text.trim().parse::<u64>().expect("it is a number")
        };
        let (a, b) = (number("a"), number("b"));
        assert!(a == b || a == b + 1, "{a} and {b}");
    }
    // It goes on.
    let before = host.inside("web", "cat /a");
    crate::host::eventually("the loop goes on", || {
        host.inside("web", "cat /a") != before
    });
    // A stopped one needs not stand still.
    host.cocker("kill web").ok();
    host.cocker("to-image --from-container web --to-image app --live")
        .ok();
    assert_eq!(containers(host), ["web"]);
    is_tidy(host);
}

fn a_container_goes_on_when_the_copying_is_killed(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "i=0; while [ $i -lt 100 ]; do echo $i > /f$i; i=$((i+1)); done",
    );
    at_every_moment(|moment| {
        let line = "to-image --from-container web --to-image app --live";
        let was_killed = host.killed_after(line, moment);
        // It would hang here, were it still frozen.
        crate::host::eventually("the container goes on", || {
            host.inside("web", "echo goes on") == "goes on"
        });
        host.cocker("set-version test").ok();
        if host.images().contains(&"app _".into()) {
            let files = entries(&host.tree_of("app", "_"));
            assert_eq!(
                files.iter().filter(|name| name.starts_with('f')).count(),
                100
            );
            host.cocker("rm-image app").ok();
        } else {
            assert!(was_killed, "it was done, and there is no image");
        }
        is_tidy(host);
        was_killed
    });
}

fn a_name_in_use_stays_with_what_has_it(host: &Host) {
    stopped_web(host);
    host.cocker("to-image --from-container web --to-image test")
        .fails(1, &["image `test:_` exists already"]);
    host.cocker("to-image --from-container web --to-image test --keep")
        .fails(1, &["image `test:_` exists already"]);
    host.cocker("to-container --from-image test --to-container web")
        .fails(1, &["the name is in use"]);
    assert_eq!(containers(host), ["web"]);
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /word"), "web");
    is_tidy(host);
}

fn what_is_not_there_is_refused(host: &Host) {
    host.cocker("to-image --from-container none --to-image app")
        .fails(1, &["there is no container `none`"]);
    host.cocker("to-container --from-image none --to-container web")
        .fails(1, &["cannot find image `none`"]);
    host.cocker("to-container --from-image test -m none --to-container web")
        .fails(1, &["cannot find image `none`"]);
    host.cocker("to-container --from-image test --to-container web --volume /no/such/folder")
        .fails(1, &["volume `/no/such/folder` does not exist"]);
    host.cocker("to-image --from-container a/b --to-image app")
        .refuses(&["a/b"]);
    assert_eq!(host.images(), ["test _"]);
    assert!(containers(host).is_empty());
    is_tidy(host);
}

fn a_container_whose_supervisor_was_killed_is_converted_with_its_true_size(host: &Host) {
    host.booted("web");
    host.inside("web", "head -c 3000000 /dev/zero > /big");
    let supervisor = rustix::process::Pid::from_raw(host.supervisor("web")).expect("it runs");
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).expect("it is ours");
    crate::host::eventually("the container is gone", || host.contained().is_empty());
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    let listing = host.cocker("images --format json").succeeds().stdout();
    let listing: serde_json::Value = serde_json::from_str(&listing).expect("JSON");
    assert!(
        listing[0]["size"].as_u64().expect("a size") >= 3_000_000,
        "{listing}"
    );
    host.nothing_is_left();
}

fn a_conversion_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    at_every_moment(|moment| {
        stopped_web(host);
        let line = "to-image --from-container web --to-image app";
        let was_killed = host.killed_after(line, moment);
        // The next command sees one or the other, and nothing of both.
        if containers(host) == ["web"] {
            assert!(was_killed, "it was done, and the container is there");
            assert_eq!(host.images(), ["test _"]);
            host.cocker("set-version test").ok();
            is_tidy(host);
            host.cocker(line).ok();
        }
        assert_eq!(host.images(), ["app _", "test _"]);
        assert!(containers(host).is_empty());
        host.cocker("create -m app -c web -b").ok();
        assert_eq!(host.inside("web", "cat /word /srv/deep/.dot"), "web\nx");
        host.cocker("destroy --shutdown web").ok();
        host.cocker("rm-image app").ok();
        is_tidy(host);
        assert_eq!(host.entries("ids").len(), 0);
        was_killed
    });
}

fn a_conversion_back_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    at_every_moment(|moment| {
        stopped_web(host);
        host.cocker("to-image --from-container web --to-image app")
            .ok();
        let line = "to-container --from-image app --to-container web";
        let was_killed = host.killed_after(line, moment);
        if containers(host).is_empty() {
            assert!(was_killed, "it was done, and there is no container");
            assert_eq!(host.images(), ["app _", "test _"]);
            host.cocker("set-version test").ok();
            is_tidy(host);
            host.cocker(line).ok();
        }
        assert_eq!(host.images(), ["test _"]);
        host.cocker("boot web").ok();
        assert_eq!(host.inside("web", "cat /word /srv/deep/.dot"), "web\nx");
        host.cocker("destroy --shutdown web").ok();
        is_tidy(host);
        was_killed
    });
}

fn a_copy_killed_at_any_moment_leaves_nothing(host: &Host) {
    stopped_web(host);
    at_every_moment(|moment| {
        let line = "to-image --from-container web --to-image app --keep";
        let was_killed = host.killed_after(line, moment);
        host.cocker("set-version test").ok();
        is_tidy(host);
        assert_eq!(containers(host), ["web"]);
        if host.images() == ["test _"] {
            assert!(was_killed, "it was done, and there is no image");
        } else {
            host.cocker("rm-image app").ok();
        }
        was_killed
    });
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /word"), "web");
}

fn conversions_at_once_make_one_image(host: &Host) {
    for name in ["a", "b", "c"] {
        host.cocker(&format!("create -m test -c {name}")).ok();
    }
    let line = |name: &str| format!("to-image --from-container {name} --to-image app");
    let all = ["a", "b", "c"].map(|name| host.start(&line(name)));
    let mut codes = all.map(|started| started.outcome().status.code());
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1), Some(1)]);
    assert_eq!(containers(host).len(), 2);
    is_tidy(host);
}

fn a_container_with_an_address_gives_it_back(host: &Host) {
    let create = "create -m test -c web --net BRIDGE --vip 166.88.0.77 --port-mapping 8080:80";
    host.cocker(create).ok();
    host.cocker("boot web").ok();
    host.cocker("shutdown web").ok();
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    assert_eq!(host.entries("addresses").len(), 0);
    host.cocker("to-container --from-image app --to-container web --net BRIDGE --vip 166.88.0.77 --port-mapping 8080:80")
        .ok();
    host.cocker("boot web").ok();
    let address = host.inside("web", "cat /proc/net/fib_trie");
    assert!(address.contains("166.88.0.77"), "{address}");
}

fn a_container_with_a_network_of_its_own_leaves_no_name(host: &Host) {
    host.cocker("create -m test -c web --net CUSTOM").ok();
    let there = || host.cocker("containers --format json").succeeds().stdout();
    let pinned = || {
        let list: serde_json::Value = serde_json::from_str(&there()).expect("it is JSON");
        let name = list[0]["netns"].as_str().expect("it has a name");
        Path::new("/run/netns").join(name)
    };
    let before = pinned();
    assert!(before.exists());
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    assert!(!before.exists());
    host.cocker("to-container --from-image app --to-container web --net CUSTOM")
        .ok();
    assert!(pinned().exists());
}
