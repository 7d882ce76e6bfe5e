//! The commands that are walked.

use super::walk::{Kind, Scene, Walk, names_in_the_sources};
use crate::host::{Access, Host, SshServer, in_a_lab, with_image_test};
use std::collections::BTreeSet;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = with_image_test![
        create_is_walked,
        create_of_a_namespace_is_walked,
        create_in_a_new_store_is_walked,
        create_with_a_profile_is_walked,
        first_boot_is_walked,
        boot_is_walked,
        attach_is_walked,
        run_is_walked,
        shutdown_is_walked,
        shutdown_of_one_with_a_stranger_is_walked,
        destroy_is_walked,
        destroy_of_a_booted_one_is_walked,
        destroy_of_a_namespace_is_walked,
        to_image_is_walked,
        to_image_by_copying_is_walked,
        to_container_is_walked,
        to_container_by_copying_is_walked,
        copy_is_walked,
        del_is_walked,
        version_is_walked,
        export_is_walked,
        export_in_place_of_a_file_is_walked,
        import_is_walked,
        spull_is_walked,
        volume_is_walked,
        isolation_is_walked,
        limits_of_a_booted_one_are_walked,
        prune_is_walked,
        put_is_walked,
        put_over_a_file_is_walked,
        put_of_a_place_of_a_mount_is_walked,
        instantiate_is_walked,
        get_is_walked,
        pause_is_walked,
        list_of_many_images_is_walked,
    ];
    trials.extend(in_a_lab![
        create_on_a_bridge_is_walked,
        boot_on_a_bridge_is_walked,
        shutdown_on_a_bridge_is_walked,
        destroy_on_a_bridge_is_walked,
        vip_is_walked,
        every_named_point_is_walked,
    ]);
    trials
}

const WITH_A_VOLUME: &str = "create -m app -c web --volume {VOLUME}:/data";
const ON_A_BRIDGE: &str =
    "create -m app -c web --net BRIDGE --port-mapping 8080:80,8053:53/udp --volume {VOLUME}:/data";
/// The places of mounts are made by the first boot, and stay however it ends.
const BOOTED: &str = "boot web";
const SHUT_DOWN: &str = "shutdown web";
/// A word in the container's own layer.
const A_FOLDER: &str =
    "! mkdir {USER}/srv && echo mine >{USER}/srv/word && ln -s word {USER}/srv/link";
const A_WORD: &str = "put web {USER}/srv /srv";

const fn whole(
    line: &'static str,
    before: &'static [&'static str],
    each_time: &'static [&'static str],
) -> Scene {
    Scene {
        line,
        before,
        each_time,
        kind: Kind::Whole,
        first: None,
    }
}

const CREATE: Scene = whole(
    "create -m app -c web --volume {VOLUME}:/data --host name",
    &[],
    &[],
);
const CREATE_NAMESPACE: Scene = whole("create -m app -c web --net CUSTOM", &[], &[]);
const CREATE_IN_NEW_STORE: Scene = whole(
    "create -m app -c web",
    &["! rm -rf containers ids transfers"],
    &[],
);
const A_PROFILE: &str = "! echo '{\"defaultAction\": \"SCMP_ACT_ALLOW\"}' > {USER}/profile.json";
const CREATE_WITH_PROFILE: Scene = whole(
    "create -m app -c web --seccomp {USER}/profile.json",
    &[A_PROFILE],
    &[],
);
const CREATE_ON_BRIDGE: Scene = whole(ON_A_BRIDGE, &[], &[]);
const FIRST_BOOT: Scene = Scene {
    line: "boot web",
    before: &[WITH_A_VOLUME],
    each_time: &[],
    kind: Kind::First,
    first: None,
};
const BOOT: Scene = Scene {
    line: "boot web --mem-limit 64M",
    before: &[WITH_A_VOLUME, BOOTED, SHUT_DOWN],
    each_time: &[],
    kind: Kind::Remembering,
    first: None,
};
const BOOT_ON_BRIDGE: Scene = whole("boot web", &[ON_A_BRIDGE, BOOTED, SHUT_DOWN], &[]);
const ATTACH: Scene = Scene {
    line: "attach web",
    before: &[WITH_A_VOLUME],
    each_time: &["boot web"],
    kind: Kind::Terminal,
    first: None,
};
const RUN: Scene = Scene {
    line: "run web --cmd 'echo done > /word; exit 0'",
    before: &[WITH_A_VOLUME],
    each_time: &["boot web"],
    kind: Kind::Inside,
    first: None,
};
const SHUTDOWN: Scene = whole("shutdown web", &[WITH_A_VOLUME], &["boot web"]);
/// With a process of the host in its cgroups, which does not end with what runs inside. It has somebody who waits for it.
const SHUTDOWN_WITH_STRANGER: Scene = whole(
    "shutdown web",
    &[WITH_A_VOLUME, "! mkfifo $COCKER_HOME.files/is_in"],
    &[
        "boot web",
        "! ( { sleep 1000 & \
         for file in $(find /sys/fs/cgroup -path \"*/$COCKER_CGROUP/*/cgroup.procs\"); do echo $! > $file; done; \
         echo > $COCKER_HOME.files/is_in; wait; } </dev/null >/dev/null 2>&1 & ); read it <$COCKER_HOME.files/is_in",
    ],
);
const SHUTDOWN_ON_BRIDGE: Scene = whole("shutdown web", &[ON_A_BRIDGE], &["boot web"]);
const DESTROY: Scene = whole("destroy web", &[WITH_A_VOLUME, A_FOLDER, A_WORD], &[]);
const DESTROY_BOOTED: Scene = Scene {
    line: "destroy web --shutdown",
    before: &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    each_time: &["boot web"],
    kind: Kind::Whole,
    first: Some("shutdown web"),
};
const DESTROY_NAMESPACE: Scene = whole("destroy web", &[], &["create -m app -c web --net CUSTOM"]);
const DESTROY_ON_BRIDGE: Scene = Scene {
    line: "destroy web --shutdown",
    before: &[ON_A_BRIDGE],
    each_time: &["boot web"],
    kind: Kind::Whole,
    first: Some("shutdown web"),
};
const TO_IMAGE: Scene = whole(
    "to-image --from-container web --to-image made --version 1.0",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    &[],
);
const TO_IMAGE_COPYING: Scene = whole(
    "to-image --from-container web --to-image made --keep",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    &[],
);
const MADE: &str = "to-image --from-container web --to-image made";
const TO_CONTAINER: Scene = whole(
    "to-container --from-image made --to-container back --volume {VOLUME}:/data",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD, MADE],
    &[],
);
const TO_CONTAINER_COPYING: Scene = whole(
    "to-container --from-image made --to-container back --keep",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD, MADE],
    &[],
);
const COPY: Scene = whole("copy-image --from-image app --to-image second", &[], &[]);
const DEL: Scene = whole(
    "rm-image made",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD, MADE],
    &[],
);
const VERSION: Scene = whole(
    "set-version made --version 2.0",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD, MADE],
    &[],
);
const EXPORT: Scene = whole("export app", &[], &[]);
const EXPORT_AGAIN: Scene = whole("export app -f", &["export app"], &[]);
const IMPORT: Scene = whole(
    "import made.cockerimage",
    &[
        WITH_A_VOLUME,
        A_FOLDER,
        A_WORD,
        MADE,
        "export made",
        "rm-image made",
    ],
    &[],
);
const SPULL: Scene = whole(
    "spull made --srepo images",
    &[
        WITH_A_VOLUME,
        A_FOLDER,
        A_WORD,
        MADE,
        "spush made --srepo images",
        "rm-image made",
        "! rm srepo",
    ],
    &[],
);
const VIP: Scene = whole("set-vip web --vip 166.88.0.77", &[ON_A_BRIDGE], &[]);
const VOLUME: Scene = whole(
    "set-volume web --volume {VOLUME}:/elsewhere:ro",
    &[WITH_A_VOLUME],
    &[],
);
const ISOLATION: Scene = whole(
    "set-isolation web --seccomp {USER}/profile.json",
    &[WITH_A_VOLUME, A_PROFILE],
    &[],
);
const LIMITS: Scene = whole(
    "set-limits web --mem-limit 80M",
    &[WITH_A_VOLUME],
    &["boot web"],
);
const PRUNE: Scene = whole(
    "prune",
    &[
        WITH_A_VOLUME,
        "! mkdir -p layers/.new-0123 transfers/00112233445566778899aabbccddeeff images/empty layers/00000000000000000000000000000abc/tree",
        "! touch layers/.new-0123/file layers/00000000000000000000000000000abc/tree/file containers/web/.new-container.json",
        "! ln -s gone ids/9",
    ],
    &[],
);
const PUT: Scene = Scene {
    line: "put web {VOLUME} /srv/",
    before: &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    each_time: &[],
    kind: Kind::Copying,
    first: None,
};
const PUT_OVER_FILE: Scene = Scene {
    line: "put web {USER}/word /srv/srv/word",
    before: &[
        WITH_A_VOLUME,
        A_FOLDER,
        A_WORD,
        "! echo another >{USER}/word",
    ],
    each_time: &[],
    kind: Kind::Copying,
    first: None,
};
const PUT_OF_MOUNT: Scene = Scene {
    line: "put web {MOUNTED} /srv/",
    before: &[
        WITH_A_VOLUME,
        A_FOLDER,
        A_WORD,
        "! mkdir -p {MOUNTED}/below && mount -t tmpfs none {MOUNTED}/below",
    ],
    each_time: &[],
    kind: Kind::Copying,
    first: None,
};
const INSTANTIATE: Scene = Scene {
    line: "instantiate web --template-file /srv/srv/word --set mine=yours --instance-file /srv/instance",
    before: &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    each_time: &[],
    kind: Kind::Copying,
    first: None,
};
const GET: Scene = whole(
    "get web /srv/srv/word {USER}/word",
    &[WITH_A_VOLUME, A_FOLDER, A_WORD],
    &[],
);
const PAUSE: Scene = whole("pause web", &[WITH_A_VOLUME], &["boot web"]);

/// So many that what was read of them is kept, once they have not changed for a while.
const LIST: Scene = whole(
    "images",
    &["! for number in $(seq 256); do cp -rl images/app images/app$number; done"],
    &["! until [ $(stat -c %Z images/app256) -lt $(($(date +%s) - 2)) ]; do sleep 0.05; done"],
);

const ALL: [&Scene; 40] = [
    &CREATE,
    &CREATE_NAMESPACE,
    &CREATE_IN_NEW_STORE,
    &CREATE_WITH_PROFILE,
    &FIRST_BOOT,
    &BOOT,
    &ATTACH,
    &RUN,
    &SHUTDOWN,
    &SHUTDOWN_WITH_STRANGER,
    &DESTROY,
    &DESTROY_BOOTED,
    &DESTROY_NAMESPACE,
    &TO_IMAGE,
    &TO_IMAGE_COPYING,
    &TO_CONTAINER,
    &TO_CONTAINER_COPYING,
    &COPY,
    &DEL,
    &VERSION,
    &EXPORT,
    &EXPORT_AGAIN,
    &IMPORT,
    &SPULL,
    &VOLUME,
    &ISOLATION,
    &LIMITS,
    &PRUNE,
    &PUT,
    &PUT_OVER_FILE,
    &PUT_OF_MOUNT,
    &INSTANTIATE,
    &GET,
    &PAUSE,
    &LIST,
    &CREATE_ON_BRIDGE,
    &BOOT_ON_BRIDGE,
    &SHUTDOWN_ON_BRIDGE,
    &DESTROY_ON_BRIDGE,
    &VIP,
];

fn add_app(host: &Host) {
    host.add_image("app", |tree| {
        std::fs::create_dir(tree.join("srv")).expect("the tree is ours");
        std::fs::write(tree.join("srv/app"), "an app\n").expect("the tree is ours");
    });
    // A container of it boots, so it stands on the programs of `test`.
    let path = host.home().join("images/app/_/image.json");
    let read = |path: &std::path::Path| -> serde_json::Value {
        let text = std::fs::read(path).expect("the record is there");
        serde_json::from_slice(&text).expect("a record is JSON")
    };
    let mut record = read(&path);
    let test = read(&host.home().join("images/test/_/image.json"));
    let mut layers = test["layers"].as_array().expect("a list").clone();
    layers.push(record["own_layer"].clone());
    record["layers"] = layers.into();
    std::fs::write(&path, record.to_string()).expect("the store is ours");
}

#[track_caller]
fn walk(host: &Host, command: &'static Scene) {
    add_app(host);
    let server = command
        .line
        .starts_with("spull")
        .then(|| SshServer::start(host, Access::Everything));
    if let Some((mut walk, passed)) = Walk::begin(host, command, server.as_ref()) {
        let walked = walk.all(&passed);
        eprintln!(
            "`{}`: {} points, {} cases",
            command.line,
            walked.names.len(),
            walked.cases
        );
    }
}

macro_rules! walks {
    ($($test:ident: $command:ident),* $(,)?) => { $(fn $test(host: &Host) { walk(host, &$command); })* };
}

walks![
    create_is_walked: CREATE,
    create_of_a_namespace_is_walked: CREATE_NAMESPACE,
    create_in_a_new_store_is_walked: CREATE_IN_NEW_STORE,
    create_with_a_profile_is_walked: CREATE_WITH_PROFILE,
    create_on_a_bridge_is_walked: CREATE_ON_BRIDGE,
    first_boot_is_walked: FIRST_BOOT,
    boot_is_walked: BOOT,
    boot_on_a_bridge_is_walked: BOOT_ON_BRIDGE,
    attach_is_walked: ATTACH,
    run_is_walked: RUN,
    shutdown_is_walked: SHUTDOWN,
    shutdown_of_one_with_a_stranger_is_walked: SHUTDOWN_WITH_STRANGER,
    shutdown_on_a_bridge_is_walked: SHUTDOWN_ON_BRIDGE,
    destroy_is_walked: DESTROY,
    destroy_of_a_booted_one_is_walked: DESTROY_BOOTED,
    destroy_of_a_namespace_is_walked: DESTROY_NAMESPACE,
    destroy_on_a_bridge_is_walked: DESTROY_ON_BRIDGE,
    to_image_is_walked: TO_IMAGE,
    to_image_by_copying_is_walked: TO_IMAGE_COPYING,
    to_container_is_walked: TO_CONTAINER,
    to_container_by_copying_is_walked: TO_CONTAINER_COPYING,
    copy_is_walked: COPY,
    del_is_walked: DEL,
    version_is_walked: VERSION,
    export_is_walked: EXPORT,
    export_in_place_of_a_file_is_walked: EXPORT_AGAIN,
    import_is_walked: IMPORT,
    spull_is_walked: SPULL,
    vip_is_walked: VIP,
    volume_is_walked: VOLUME,
    isolation_is_walked: ISOLATION,
    limits_of_a_booted_one_are_walked: LIMITS,
    prune_is_walked: PRUNE,
    put_is_walked: PUT,
    put_over_a_file_is_walked: PUT_OVER_FILE,
    put_of_a_place_of_a_mount_is_walked: PUT_OF_MOUNT,
    instantiate_is_walked: INSTANTIATE,
    get_is_walked: GET,
    pause_is_walked: PAUSE,
    list_of_many_images_is_walked: LIST,
];

/// Whatever is named in the sources is passed by one of these commands, and so walked.
fn every_named_point_is_walked(host: &Host) {
    let mut reached = BTreeSet::new();
    for command in ALL {
        host.begin_anew();
        add_app(host);
        let server = command
            .line
            .starts_with("spull")
            .then(|| SshServer::start(host, Access::Everything));
        let Some((_, passed)) = Walk::begin(host, command, server.as_ref()) else {
            return;
        };
        reached.extend(passed.into_iter().map(|point| point.name));
    }
    let named = names_in_the_sources();
    let twice: Vec<&String> = named
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(name, _)| name)
        .collect();
    assert!(twice.is_empty(), "named twice: {twice:?}");
    let missed: Vec<&String> = named
        .keys()
        .filter(|name| !reached.contains(*name))
        .collect();
    assert!(missed.is_empty(), "no command passes {missed:?}");
    let unknown: Vec<&String> = reached
        .iter()
        .filter(|name| !named.contains_key(*name))
        .collect();
    assert!(unknown.is_empty(), "not found in the sources: {unknown:?}");
    eprintln!("{} points are named, and all are walked", named.len());
}
