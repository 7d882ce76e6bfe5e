//! `doctor`: every damage is named with its remedy, mended by `--fix`, and then nothing is said; who is booted does not notice, and
//! what is not the store's own stays as it is.

use crate::host::Place::OnHost;
use crate::host::{Host, eventually, in_a_lab, with_image_test};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = in_a_lab![
        without_damage_nothing_is_said,
        damage_in_the_store_is_named_and_mended,
        what_is_left_in_the_kernel_is_named_and_mended,
        a_damaged_network_of_booted_containers_is_named_and_mended,
        what_is_of_others_is_left_alone,
    ];
    trials.extend(with_image_test![
        a_store_that_lets_others_in_is_closed,
        what_something_would_be_lost_by_stays_and_is_said,
        a_changed_layer_of_the_same_size_is_found_by_looking_deeply,
        a_busy_store_gives_no_false_alarm,
    ]);
    trials
}

/// A way to do damage, and what is then said about which thing.
struct Damage {
    does: fn(&Scene),
    thing: &'static str,
    finding: &'static str,
}

/// Containers `web`, stopped, `own` of CUSTOM, stopped, and `near`, booted: the one who must not notice anything.
struct Scene<'a> {
    host: &'a Host,
    near: i32,
    ids: [String; 2],
}

impl<'a> Scene<'a> {
    #[track_caller]
    fn new(host: &'a Host) -> Scene<'a> {
        host.booted_on_bridge("near", "--port-mapping 8080:80");
        host.created_on_bridge("web", "--port-mapping 8081:80");
        host.cocker("create -m test -c own --net CUSTOM").ok();
        for name in ["near", "web", "own"] {
            host.netns(name);
        }
        let id = |name: &str| settings(host, name)["id"].as_str().unwrap().to_string();
        let scene = Scene {
            near: host.root_process("near"),
            ids: [id("web"), id("own")],
            host,
        };
        scene.is_silent();
        scene
    }

    fn home(&self, path: &str) -> PathBuf {
        self.host.home().join(path)
    }

    /// The name of the namespace of `web` or `own`.
    fn netns(&self, which: usize) -> PathBuf {
        let digits = self.ids[which][..12].to_uppercase();
        Path::new("/run/netns").join(format!("nns{digits}"))
    }

    /// Where in a hierarchy the folders of the store's containers are.
    fn cgroups(&self) -> PathBuf {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = |kind: &str| {
            let line = mounts.lines().find(|line| line.contains(kind));
            line.and_then(|line| line.split(' ').nth(4))
                .map(PathBuf::from)
        };
        let lines = fs::read_to_string(format!("/proc/{}/cgroup", self.near)).unwrap();
        let own = lines.lines().find(|line| line.contains("/near."));
        let own = own.expect("it is in one").rsplit(':').next().unwrap();
        let parent = Path::new(&own[1..])
            .parent()
            .expect("it lies in the folder of all");
        let hierarchy = place(" - cgroup2 ").or_else(|| place(",pids"));
        hierarchy.expect("there is one").join(parent)
    }

    fn at_host(&self, line: &str) {
        self.host.at(OnHost, line);
    }

    /// Nothing is said but hints, and `near` is as it was.
    #[track_caller]
    fn is_silent(&self) {
        let said = self.host.cocker("doctor").succeeds().stdout();
        assert!(!said.contains("WRONG") && !said.contains("NOTE"), "{said}");
        assert_eq!(self.host.root_process("near"), self.near);
        assert_eq!(self.host.inside("near", "echo here"), "here");
        assert!(self.host.table_names("8080"));
    }

    /// Does a damage, sees it named with a remedy, has it mended, and sees nothing left of it.
    #[track_caller]
    fn is_mended(&self, damage: &Damage) {
        let Damage {
            does,
            thing,
            finding,
        } = damage;
        does(self);
        let found = found(self.host, "-a doctor --format json");
        let is_it = |it: &Value| {
            let text = |field: &str| it[field].as_str().unwrap().to_string();
            text("thing").starts_with(thing)
                && text("finding").contains(finding)
                && !text("remedy").is_empty()
        };
        let list = |text: &str| -> Vec<Value> { serde_json::from_str(text).expect("it is JSON") };
        assert!(
            list(&found).iter().any(is_it),
            "no `{thing}` that `{finding}` in {found}"
        );
        // Only looking has changed nothing.
        let again = self.host.cocker("doctor --format json").stdout();
        assert!(
            list(&again).iter().any(is_it),
            "no `{thing}` that `{finding}` in {again}"
        );
        let mended = self.host.cocker("doctor --fix --format json");
        let said = mended.succeeds().stdout();
        let mended: Vec<Value> = list(&said).into_iter().filter(is_it).collect();
        assert!(
            !mended.is_empty() && mended.iter().all(|it| it["mended"] == true),
            "{said}"
        );
        self.is_silent();
    }
}

/// What a doctor says who finds something that stays.
#[track_caller]
fn found(host: &Host, line: &str) -> String {
    let outcome = host.cocker(line).exits(1);
    assert!(
        outcome.stderr.starts_with("Error: cannot call all sound: "),
        "{outcome}"
    );
    outcome.stdout()
}

fn settings(host: &Host, container: &str) -> Value {
    let text = fs::read_to_string(
        host.home()
            .join(format!("containers/{container}/container.json")),
    );
    serde_json::from_str(&text.expect("it is there")).expect("it is JSON")
}

fn without_damage_nothing_is_said(host: &Host) {
    let scene = Scene::new(host);
    host.cocker("create -m test -c plain").ok();
    host.cocker("boot plain").ok();
    host.cocker("boot own").ok();
    host.cocker("pause plain").ok();
    scene.is_silent();
    let fixed = host.cocker("doctor --fix").succeeds().stdout();
    assert!(!fixed.contains("mended"), "{fixed}");
    assert!(
        host.status("plain").starts_with("PAUSED"),
        "{}",
        host.status("plain")
    );
    host.cocker("resume plain").ok();
    host.cocker("shutdown plain").ok();
    scene.is_silent();
}

const IN_THE_STORE: [Damage; 11] = [
    Damage {
        does: |scene| {
            let folder = scene.home("layers/.new-00000000000000000000000000000001");
            fs::create_dir_all(folder.join("tree")).unwrap();
        },
        thing: "leftover layers/.new-",
        finding: "its process died",
    },
    Damage {
        does: |scene| fs::create_dir_all(scene.home("containers/.gone-2/files")).unwrap(),
        thing: "leftover containers/.gone-2",
        finding: "its process died",
    },
    Damage {
        does: |scene| fs::write(scene.home("containers/web/.new-container.json"), "{").unwrap(),
        thing: "container web",
        finding: "which was being written when its process died",
    },
    Damage {
        does: |scene| fs::create_dir(scene.home("images/empty")).unwrap(),
        thing: "image empty",
        finding: "has no version",
    },
    Damage {
        does: |scene| symlink("gone", scene.home("ids/7")).unwrap(),
        thing: "entry ids/7",
        finding: "is not there or has another",
    },
    Damage {
        does: |scene| symlink("gone", scene.home("addresses/166.88.0.99")).unwrap(),
        thing: "entry addresses/166.88.0.99",
        finding: "is not there or has another",
    },
    Damage {
        does: |scene| {
            let slot = settings(scene.host, "web")["id_slot"].to_string();
            fs::remove_file(scene.home("ids").join(slot)).unwrap();
        },
        thing: "container web",
        finding: "of host ids is not registered",
    },
    Damage {
        does: |scene| {
            let network = &settings(scene.host, "near")["network"];
            let address = network["address"].as_str().unwrap();
            fs::remove_file(scene.home("addresses").join(address)).unwrap();
        },
        thing: "container near",
        finding: "is not registered",
    },
    Damage {
        does: |scene| open_to_all(&scene.home("containers/web")),
        thing: "container web",
        finding: "so that others may change it",
    },
    Damage {
        does: |scene| open_to_all(&scene.home("images/test/_")),
        thing: "image test:_",
        finding: "so that others may change it",
    },
    Damage {
        does: |scene| open_to_all(&scene.home("layers")),
        thing: "store ",
        finding: "lets other users in",
    },
];

fn open_to_all(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
}

fn damage_in_the_store_is_named_and_mended(host: &Host) {
    let scene = Scene::new(host);
    for damage in &IN_THE_STORE {
        scene.is_mended(damage);
    }
}

const IN_THE_KERNEL: [Damage; 10] = [
    Damage {
        does: |scene| {
            scene.host.cocker("boot web").ok();
            let root = PathBuf::from(format!("/proc/{}", scene.host.root_process("web")));
            scene.at_host(&format!("kill -9 {}", scene.host.supervisor("web")));
            eventually("it is gone", || !root.exists());
        },
        thing: "container web",
        finding: "lost its supervisor",
    },
    Damage {
        does: |scene| fs::write(scene.home("containers/web/control"), "").unwrap(),
        thing: "container web",
        finding: "socket `control` of a supervisor that is dead",
    },
    Damage {
        does: |scene| {
            fs::create_dir(scene.cgroups().join(format!("web.{}", scene.ids[0]))).unwrap()
        },
        thing: "container web",
        finding: "cgroup `web.",
    },
    Damage {
        does: |scene| {
            let folder = scene.cgroups().join("gone.0123456789abcdef");
            fs::create_dir(&folder).unwrap();
            scene.at_host(&format!("touch -d '-2 minutes' {}", folder.display()));
        },
        thing: "cgroup gone.0123456789abcdef",
        finding: "no container of this store has it",
    },
    Damage {
        does: |scene| symlink("/proc/self/ns/net", scene.netns(0)).unwrap(),
        thing: "container web",
        finding: "is not booted, and there is still /run/netns/nns",
    },
    Damage {
        does: |scene| scene.at_host(&format!("umount {}", scene.netns(1).display())),
        thing: "container own",
        finding: "where no namespace is kept any more",
    },
    Damage {
        does: |scene| {
            // As it is when somebody removes a container by hand.
            scene
                .host
                .cocker("create -m test -c lost --net CUSTOM")
                .ok();
            scene.host.netns("lost");
            fs::remove_dir_all(scene.home("containers/lost")).unwrap();
        },
        thing: "name /run/netns/nns",
        finding: "of a container that is not there",
    },
    Damage {
        does: |scene| {
            scene.at_host("ip link add ck0123456789ab type veth peer name other && ip link set ck0123456789ab master cocker0");
        },
        thing: "link ck0123456789ab",
        finding: "no container has it",
    },
    Damage {
        does: |scene| enter(scene, "166.88.0.99", "gone"),
        thing: "elements of gone",
        finding: "there is no such container",
    },
    Damage {
        does: |scene| enter(scene, "166.88.0.98", "web"),
        thing: "container web",
        finding: "elements of table `cocker`",
    },
];

/// Enters an address in the table for a container of the store.
fn enter(scene: &Scene, address: &str, container: &str) {
    let comment = format!("{container} - 0 {}", scene.host.home().display());
    scene.at_host(&format!(
        "nft 'add element inet cocker containers {{ {address} comment \"{comment}\" }}'"
    ));
}

fn what_is_left_in_the_kernel_is_named_and_mended(host: &Host) {
    let scene = Scene::new(host);
    for damage in &IN_THE_KERNEL {
        scene.is_mended(damage);
    }
    // What was mended boots.
    for name in ["web", "own"] {
        host.cocker(&format!("boot {name}")).ok();
    }
    scene.is_silent();
}

const OF_THE_NETWORK: [Damage; 7] = [
    Damage {
        does: |scene| {
            scene.at_host(
                "nft add element inet cocker ports4 '{ 0.0.0.0 . tcp . 99 : 166.88.0.200 . 80 }'",
            );
        },
        thing: "elements of nobody",
        finding: "of an address that no container has there",
    },
    Damage {
        does: |scene| scene.at_host("nft flush chain inet cocker prerouting"),
        thing: "container near",
        finding: "was changed by others",
    },
    Damage {
        does: |scene| scene.at_host("nft flush map inet cocker ports4"),
        thing: "container near",
        finding: "lacks elements",
    },
    Damage {
        does: |scene| scene.at_host("nft delete table inet cocker"),
        thing: "container near",
        finding: "is not there",
    },
    Damage {
        does: |scene| scene.at_host("nft delete table inet cocker; nft delete table bridge cocker"),
        thing: "container near",
        finding: "is not there",
    },
    Damage {
        does: |scene| scene.at_host("ip link set cocker0 down"),
        thing: "container near",
        finding: "bridge `cocker0` is down",
    },
    Damage {
        does: |scene| scene.at_host("ip link delete cocker0"),
        thing: "container near",
        finding: "bridge `cocker0` is not there",
    },
];

fn a_damaged_network_of_booted_containers_is_named_and_mended(host: &Host) {
    let scene = Scene::new(host);
    for damage in &OF_THE_NETWORK {
        scene.is_mended(damage);
    }
    let _service = host.serve(crate::host::Place::Inside("near"), "0.0.0.0:80");
    host.reaches(crate::host::Place::Outside, "10.99.0.1:8080", "near");
}

fn what_is_of_others_is_left_alone(host: &Host) {
    let scene = Scene::new(host);
    let other = host.other_store();
    other.configure_network(&["bridge = \"other0\"", "subnet = \"10.77.0.1/24\""]);
    other.booted_on_bridge("theirs", "--port-mapping 9090:90");
    other.cocker("create -m test -c theirown --net CUSTOM").ok();
    other.cocker("create -m test -c same").ok();
    let (theirs, theirown) = (other.netns("theirs"), other.netns("theirown"));
    let foreign = scene.cgroups().join("not.ours");
    let young = scene.cgroups().join("young.0123456789abcdef");
    for folder in [&foreign, &young] {
        fs::create_dir(folder).unwrap();
    }
    scene.at_host(&format!("touch -d '-2 minutes' {}", foreign.display()));
    scene.at_host(
        "ip link add ckffffffffab type veth peer name stranger; \
         nft add table inet mine; nft 'add set inet mine containers { type ipv4_addr; }'",
    );
    scene.is_silent();
    let said = host.cocker("doctor --fix").succeeds().stdout();
    assert!(!said.contains("mended"), "{said}");
    for folder in [foreign, young] {
        fs::remove_dir(folder).expect("nobody has taken it away");
    }
    for name in [theirs, theirown] {
        assert!(
            Path::new("/run/netns")
                .join(&name)
                .symlink_metadata()
                .is_ok(),
            "{name}"
        );
    }
    assert!(other.status("theirs").starts_with("RUNNING"));
    assert!(host.table_names("9090"));
    scene.at_host("ip link delete ckffffffffab && nft delete table inet mine");
    let theirs = other.cocker("doctor").succeeds().stdout();
    assert!(!theirs.contains("WRONG"), "{theirs}");
}

fn a_store_that_lets_others_in_is_closed(host: &Host) {
    let home = host.home();
    host.cocker("create -m test -c web").ok();
    fs::set_permissions(home, Permissions::from_mode(0o755)).unwrap();
    let said = found(host, "doctor");
    assert!(
        said.contains("lets other users in") && said.contains("chmod 700"),
        "{said}"
    );
    let said = host.cocker("doctor --fix").succeeds().stdout();
    assert!(said.contains("mended"), "{said}");
    assert_eq!(home.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    host.cocker("doctor").succeeds();
    host.cocker("destroy web").ok();
}

fn what_something_would_be_lost_by_stays_and_is_said(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("create -m test -c api").ok();
    let record = host.home().join("containers/api/container.json");
    let text = fs::read_to_string(&record).unwrap();
    let (slot, other) = (
        &settings(host, "api")["id_slot"],
        &settings(host, "web")["id_slot"],
    );
    let (from, to) = (
        format!("\"id_slot\": {slot}"),
        format!("\"id_slot\": {other}"),
    );
    fs::write(&record, text.replace(&from, &to)).unwrap();
    fs::create_dir_all(host.home().join("images/newer/_")).unwrap();
    fs::write(
        host.home().join("images/newer/_/image.json"),
        "{\"format\": 99}",
    )
    .unwrap();
    for line in ["doctor", "doctor --fix"] {
        let said = found(host, line);
        assert!(said.contains("of container `web` too"), "{said}");
        assert!(said.contains("it has format 99"), "{said}");
        assert!(said.contains("a newer one"), "{said}");
        assert_eq!(
            said.contains("not mended"),
            line == "doctor --fix",
            "{said}"
        );
    }
    assert!(record.exists());
    fs::remove_dir_all(host.home().join("images/newer")).unwrap();
    fs::write(&record, text).unwrap();
    host.cocker("doctor --fix").succeeds();
    for name in ["web", "api"] {
        host.cocker(&format!("destroy {name}")).ok();
    }
}

fn a_changed_layer_of_the_same_size_is_found_by_looking_deeply(host: &Host) {
    host.cocker_words(&[
        "export",
        "test",
        "--image-file",
        host.folder("out")
            .join("test.cockerimage")
            .to_str()
            .unwrap(),
    ])
    .ok();
    host.cocker("doctor --deep").succeeds();
    let layers = fs::read_dir(host.home().join("layers")).unwrap();
    let layer = layers.flatten().next().expect("it has one").path();
    let file = layer.join("tree/etc/profile");
    let text = fs::read(&file).unwrap();
    let changed: Vec<u8> = text.iter().map(|byte| byte ^ 1).collect();
    // A new file: the old one is the other tests' too.
    fs::remove_file(&file).unwrap();
    fs::write(&file, changed).unwrap();
    let said = host.cocker("doctor").succeeds().stdout();
    assert!(!said.contains("layer"), "{said}");
    let said = found(host, "doctor --deep --fix");
    assert!(
        said.contains("digest") && said.contains("import it again"),
        "{said}"
    );
}

fn a_busy_store_gives_no_false_alarm(host: &Host) {
    const ROUNDS: usize = 6;
    thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|number| {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let name = format!("w{number}-{round}");
                        host.cocker(&format!("create -m test -c {name}")).ok();
                        host.cocker(&format!("boot {name}")).ok();
                        assert_eq!(host.inside(&name, "echo here"), "here");
                        host.cocker(&format!("shutdown {name}")).ok();
                        host.cocker(&format!(
                            "to-image --from-container {name} --to-image {name}"
                        ))
                        .ok();
                        host.cocker(&format!("rm-image {name}")).ok();
                    }
                })
            })
            .collect();
        let mut looks = 0;
        while looks == 0 || workers.iter().any(|worker| !worker.is_finished()) {
            looks += 1;
            let line = ["doctor", "doctor --fix"][looks % 2];
            let said = host.cocker(line).succeeds().stdout();
            assert!(!said.contains("WRONG") && !said.contains("NOTE"), "{said}");
        }
    });
}
