//! `check`: every kind of damage is found and can be mended as it says, and a sound store is nothing to speak of, however
//! busy it is.

use super::{is_silent_on, layers};
use crate::host::{Host, with_image_test};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::thread;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        every_damage_is_found_and_mended_as_the_remedy_says,
        two_containers_with_one_range_of_ids_are_found,
        what_is_merely_not_needed_is_no_damage,
        nothing_in_a_layer_is_followed,
        a_busy_store_gives_no_false_alarm,
    ]
}

/// What `check` says for programs: (grade, thing, finding, remedy) each.
fn findings(host: &Host) -> Vec<[String; 4]> {
    let json = host.cocker("check --format json").stdout();
    let found: Value = serde_json::from_str(&json).expect("it is JSON");
    let found = found.as_array().expect("it is a list").clone();
    let fields = ["grade", "thing", "finding", "remedy"];
    let texts = found
        .iter()
        .map(|it| fields.map(|field| it[field].as_str().expect("it is text").to_string()));
    texts.collect()
}

/// A way to damage the home that it is given, and what is then said about which thing.
struct Damage {
    does: fn(&Path),
    thing: &'static str,
    finding: &'static str,
}

fn only_entry(folder: PathBuf) -> PathBuf {
    let entry = fs::read_dir(folder).expect("it is there").next();
    entry.expect("it has one").expect("it can be read").path()
}

fn layer(home: &Path) -> PathBuf {
    only_entry(home.join("layers"))
}

fn edit(path: PathBuf, from: &str, to: &str) {
    let text = fs::read_to_string(&path).expect("it is there");
    let edited = text.replacen(from, to, 1);
    assert_ne!(text, edited, "{}", path.display());
    // A new file: the old one may be another store's too.
    fs::remove_file(&path).expect("the home is ours");
    fs::write(&path, edited).expect("the home is ours");
}

const DAMAGES: [Damage; 22] = [
    Damage {
        does: |home| fs::write(home.join("images/test/_/image.json"), "{").unwrap(),
        thing: "image test:_",
        finding: "cannot understand",
    },
    Damage {
        does: |home| {
            edit(
                home.join("images/test/_/image.json"),
                "\"format\": 1",
                "\"format\": 9",
            )
        },
        thing: "image test:_",
        finding: "it has format 9",
    },
    Damage {
        does: |home| fs::remove_file(home.join("images/test/_/image.json")).unwrap(),
        thing: "image test:_",
        finding: "cannot read",
    },
    Damage {
        does: |home| {
            let own = layer(home)
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .to_string();
            let other = format!("\"own_layer\": \"{}", "0".repeat(32));
            edit(
                home.join("images/test/_/image.json"),
                &format!("\"own_layer\": \"{own}"),
                &other,
            );
        },
        thing: "image test:_",
        finding: "its own layer is not the last of its layers",
    },
    Damage {
        does: |home| {
            edit(
                home.join("images/test/_/image.json"),
                "\"size\": ",
                "\"size\": 1",
            )
        },
        thing: "image test:_",
        finding: "its record says 1",
    },
    Damage {
        does: |home| fs::remove_dir_all(layer(home)).unwrap(),
        thing: "image test:_",
        finding: "is not there",
    },
    Damage {
        does: |home| fs::remove_dir_all(layer(home)).unwrap(),
        thing: "container web",
        finding: "is not there",
    },
    Damage {
        does: |home| fs::remove_file(layer(home).join("layer.json")).unwrap(),
        thing: "layer ",
        finding: "has no `layer.json`",
    },
    Damage {
        does: |home| edit(layer(home).join("layer.json"), "{", "["),
        thing: "layer ",
        finding: "cannot understand",
    },
    Damage {
        does: |home| fs::remove_dir_all(layer(home).join("tree")).unwrap(),
        thing: "layer ",
        finding: "has no folder of files",
    },
    Damage {
        does: |home| fs::write(layer(home).join("tree/root/more"), "more").unwrap(),
        thing: "layer ",
        finding: "bytes, and its record says",
    },
    Damage {
        does: |home| fs::set_permissions(layer(home), Permissions::from_mode(0o777)).unwrap(),
        thing: "layer ",
        finding: "has mode 0777",
    },
    Damage {
        does: |home| chown(home.join("images/test"), Some(4711), None).unwrap(),
        thing: "image test",
        finding: "belongs to user 4711",
    },
    Damage {
        does: |home| fs::write(home.join("images/test/not a version"), "").unwrap(),
        thing: "entry images/test/not a version",
        finding: "is not one of cocker's",
    },
    Damage {
        does: |home| fs::create_dir(home.join("layers/abc")).unwrap(),
        thing: "entry layers/abc",
        finding: "is not one of cocker's",
    },
    Damage {
        does: |home| fs::write(home.join("containers/file"), "").unwrap(),
        thing: "container file",
        finding: "is no folder",
    },
    Damage {
        does: |home| fs::write(home.join("ids/007"), "").unwrap(),
        thing: "entry ids/007",
        finding: "is not one of cocker's",
    },
    Damage {
        does: |home| fs::write(home.join("ids/5"), "").unwrap(),
        thing: "entry ids/5",
        finding: "cannot be read",
    },
    Damage {
        does: |home| fs::remove_file(home.join("ids/0")).unwrap(),
        thing: "container web",
        finding: "its range 0 of host ids is not registered",
    },
    Damage {
        does: |home| fs::remove_file(only_entry(home.join("addresses"))).unwrap(),
        thing: "container web",
        finding: "its address 166.88.0.2 is not registered",
    },
    Damage {
        does: |home| fs::write(home.join("containers/web/container.json"), "").unwrap(),
        thing: "container web",
        finding: "the settings of container `web` are damaged",
    },
    Damage {
        does: |home| fs::remove_dir(home.join("containers/web/files/work")).unwrap(),
        thing: "container web",
        finding: "`files/work` cannot be looked at",
    },
];

/// Does what a remedy says, as a user would who has a backup.
#[track_caller]
fn follow(host: &Host, remedy: &str, backup: &Path) {
    let home = host.home().display().to_string();
    let command = if remedy.starts_with("use the cocker that wrote it") {
        format!("cp -a {}/images {home}", backup.display())
    } else if let Some(place) = remedy.find("restore /") {
        let place = remedy[place + "restore ".len()..].split(' ').next();
        let place = place.expect("it names a place");
        let kept = place.replace(&home, &backup.display().to_string());
        format!("rm -rf {place} && cp -a {kept} {place}")
    } else if let Some((place, size)) = remedy
        .strip_prefix("in ")
        .and_then(|rest| rest.split_once(", write "))
    {
        let size = size.trim_end_matches(" as the size");
        format!("sed -i 's/\"size\": [0-9]*/\"size\": {size}/' {place}")
    } else {
        let command = remedy.rsplit(": ").next().expect("there is always a last");
        command.replace(
            "/somewhere/else",
            &host.folder("elsewhere").display().to_string(),
        )
    };
    host.shell(&command).succeeds();
}

fn every_damage_is_found_and_mended_as_the_remedy_says(host: &Host) {
    host.cocker("create -m test -c web --net BRIDGE").ok();
    let backup = host.folder("backup");
    host.shell(&format!(
        "cp -a {}/. {}",
        host.home().display(),
        backup.display()
    ))
    .succeeds();
    // What the prepared store and this one have in common must not be damaged with it.
    for folder in ["layers", "images"] {
        fs::remove_dir_all(host.home().join(folder)).expect("the home is ours");
        let kept = backup.join(folder);
        host.shell(&format!(
            "cp -a {} {}",
            kept.display(),
            host.home().display()
        ))
        .succeeds();
    }
    is_silent_on(host, "check");
    for damage in &DAMAGES {
        (damage.does)(host.home());
        let about = format!("{}: {}", damage.thing, damage.finding);
        host.cocker("check").exits(1);
        let found = findings(host);
        let is_it = |it: &&[String; 4]| {
            let [grade, thing, finding, _] = it;
            let is_thing = match damage.thing.ends_with(' ') {
                true => thing.starts_with(damage.thing),
                false => thing == damage.thing,
            };
            grade == "WRONG" && is_thing && finding.contains(damage.finding)
        };
        let told = found.iter().find(is_it);
        let [_, _, _, remedy] = told.unwrap_or_else(|| panic!("{about} is not in {found:#?}"));
        follow(host, remedy, &backup);
        let left = findings(host);
        assert!(left.is_empty(), "{about}: after `{remedy}`: {left:#?}");
        is_silent_on(host, "-s check");
    }
}

fn two_containers_with_one_range_of_ids_are_found(host: &Host) {
    host.cocker("create -m test -c one").ok();
    host.cocker("create -m test -c two").ok();
    let settings = host.home().join("containers/two/container.json");
    edit(settings, "\"id_slot\": 1", "\"id_slot\": 0");
    let found = findings(host);
    let wrong: Vec<_> = found.iter().filter(|it| it[0] == "WRONG").collect();
    assert_eq!(wrong.len(), 1, "{found:#?}");
    assert_eq!(wrong[0][1], "container two");
    assert!(
        wrong[0][2].contains("is that of container `one` too"),
        "{found:#?}"
    );
    follow(host, &wrong[0][3], Path::new("/"));
    // What is left is the range that nobody has.
    host.cocker("check").succeeds();
    host.cocker("prune").succeeds().prints("ids 1 0 B\nOK\n");
    is_silent_on(host, "check");
    host.cocker("boot one").ok();
}

fn what_is_merely_not_needed_is_no_damage(host: &Host) {
    super::add_unneeded_layer(host, "extra");
    super::leave_things(host);
    host.cocker("check").succeeds();
    let found = findings(host);
    assert!(
        found
            .iter()
            .all(|it| it[0] == "NOTE" && it[3] == "cocker prune"),
        "{found:#?}"
    );
    let about = |text: &str| found.iter().any(|it| it[1].contains(text));
    for text in [
        "layer ",
        "image empty",
        "entry ids/77",
        "entry addresses/166.88.0.77",
    ] {
        assert!(about(text), "{text}: {found:#?}");
    }
    let before = layers(host);
    host.cocker("check").succeeds();
    assert_eq!(layers(host), before, "looking changes nothing");
    host.cocker("prune").succeeds();
    is_silent_on(host, "check");
}

fn nothing_in_a_layer_is_followed(host: &Host) {
    let outside = host.folder("outside");
    fs::write(outside.join("large"), [0; 5000]).expect("the folder is ours");
    host.add_image("extra", |tree| {
        symlink(&outside, tree.join("folder")).expect("the tree is ours");
        symlink(outside.join("large"), tree.join("file")).expect("the tree is ours");
        fs::write(tree.join("own"), "own").expect("the tree is ours");
    });
    is_silent_on(host, "check");
    // The whole tree by a link is none.
    let extra = host.add_image("moved", |_| ()).tree;
    let away = host.folder("away").join("tree");
    fs::rename(&extra, &away).expect("it is one file system");
    symlink(&away, &extra).expect("the home is ours");
    let found = findings(host);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0][2].contains("has no folder of files"), "{found:#?}");
}

fn a_busy_store_gives_no_false_alarm(host: &Host) {
    const ROUNDS: usize = 12;
    thread::scope(|scope| {
        let lives = |name: &'static str, image: &str| {
            host.cocker(&format!("create -m {image} -c {name} -b")).ok();
            host.cocker(&format!("shutdown {name}")).ok();
            host.cocker(&format!("destroy {name}")).ok();
        };
        let workers = [
            scope.spawn(move || (0..ROUNDS).for_each(|_| lives("web", "test:_"))),
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    host.cocker("copy-image --from-image test --to-image copy")
                        .ok();
                    lives("api", "copy");
                    host.cocker("set-version copy --version 1").ok();
                    host.cocker("rm-image copy:1").ok();
                }
            }),
            scope.spawn(move || {
                for round in 0..3 {
                    host.cocker(&format!("install-test --version {round}")).ok();
                    host.cocker(&format!("rm-image test:{round}")).ok();
                }
            }),
        ];
        while workers.iter().any(|worker| !worker.is_finished()) {
            is_silent_on(host, "check");
        }
    });
    is_silent_on(host, "check");
}
