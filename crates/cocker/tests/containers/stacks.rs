//! Stacks of layers looked at: what a container has changed, what differs between images, where a path comes from.

use crate::host::{Host, with_image_test};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, lsetxattr, makedev, mkdirat, mknodat};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        edits_by_hand_are_told_exactly_while_booted_and_afterwards,
        a_container_that_changes_all_the_time_is_compared,
        a_container_that_changed_nothing_has_no_differences,
        two_images_are_compared_without_what_they_share,
        a_history_is_printed_to_the_letter,
        a_path_is_traced_to_the_letter,
        a_path_of_a_container_is_traced_with_its_writable_layer,
        a_link_on_the_way_is_told_and_not_followed,
        layers_made_by_enemies_are_read_and_nothing_in_them_is_opened,
        a_layer_deeper_than_any_path_is_compared,
        five_hundred_layers_are_compared,
        a_layer_that_says_its_files_lie_elsewhere_is_an_error,
        what_cannot_be_looked_at_is_refused,
    ]
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("it has a parent")).expect("the tree is ours");
    fs::write(path, text).expect("the tree is ours");
}

fn whiteout(path: &Path) {
    fs::create_dir_all(path.parent().expect("it has a parent")).expect("the tree is ours");
    node(path, FileType::CharacterDevice, 0);
}

fn node(path: &Path, kind: FileType, device: u64) {
    mknodat(CWD, path, kind, Mode::RUSR, device).expect("we are root");
}

fn mark(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).expect("we are root");
}

/// The lines that `cocker LINE` prints.
#[track_caller]
fn lines(host: &Host, line: &str) -> Vec<String> {
    let printed = host.cocker(line).succeeds().stdout();
    printed.lines().map(String::from).collect()
}

/// A path of a booted container, as the host reaches it.
fn inside(host: &Host, name: &str, path: &str) -> PathBuf {
    format!("/proc/{}/root{path}", host.root_process(name)).into()
}

fn edits_by_hand_are_told_exactly_while_booted_and_afterwards(host: &Host) {
    host.add_image("low", |tree| {
        for name in [
            "attribute",
            "copied-up",
            "deleted",
            "linked",
            "mode",
            "recreated/old",
            "renamed/file",
            "rewritten",
            "untouched",
            "mode-folder/file",
        ] {
            write(&tree.join("data").join(name), name);
        }
    });
    host.add_image("high", |tree| {
        write(&tree.join("data/deleted"), "high");
        write(&tree.join("data/renamed/second"), "high");
    });
    host.cocker("create -m test,low,high -c web -b").ok();
    let before = lines(host, "diff web");
    host.inside(
        "web",
        "set -e; cd /data; rm deleted; rm -r recreated; mkdir recreated; echo new > recreated/new
         mv renamed moved; chmod 700 mode; chmod 700 mode-folder; ln linked second-name; : >> copied-up
         echo other > rewritten; mkdir -p new/folder; ln -s nowhere link",
    );
    mark(
        &inside(host, "web", "/data/attribute"),
        "user.name",
        b"value",
    );
    let expected = [
        "C /data/attribute",
        "D /data/deleted",
        "A /data/link",
        "C /data/mode",
        "C /data/mode-folder",
        "A /data/moved",
        "A /data/moved/file",
        "A /data/moved/second",
        "A /data/new",
        "A /data/new/folder",
        "A /data/recreated/new",
        "D /data/recreated/old",
        "D /data/renamed",
        "C /data/rewritten",
        "A /data/second-name",
    ];
    let of_data = |lines: Vec<String>| -> (Vec<String>, Vec<String>) {
        lines.into_iter().partition(|line| line.contains(" /data"))
    };
    let (data, rest) = of_data(lines(host, "diff web"));
    assert_eq!(data, expected);
    assert_eq!(rest, before, "a boot's own changes stay as they are");
    host.cocker("shutdown web").ok();
    let (data, rest) = of_data(lines(host, "-s diff -c web"));
    assert_eq!(data, expected);
    assert_eq!(rest, before);

    let text = host.cocker("diff web --format json").succeeds().stdout();
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let of = |path: &str| {
        let changes = json.as_array().expect("a list").iter();
        let change = changes.clone().find(|change| change["path"] == path);
        change
            .unwrap_or_else(|| panic!("no {path} in {text}"))
            .clone()
    };
    assert_eq!(
        of("/data/attribute")["differences"],
        serde_json::json!(["attributes"])
    );
    assert_eq!(
        of("/data/mode-folder")["differences"],
        serde_json::json!(["mode"])
    );
    assert_eq!(of("/data/link")["type"], "link");
    assert_eq!(of("/data/renamed")["change"], "removed");
    assert_eq!(of("/data/renamed")["type"], "folder");
    let names = lines(host, "diff web -q");
    assert!(
        names.contains(&"/data/moved/second".to_string()),
        "{names:?}"
    );
}

fn a_container_that_changes_all_the_time_is_compared(host: &Host) {
    host.booted("web");
    let mut busy = host.start(
        "run web --cmd 'echo begun; while :; do mkdir -p /x/a/b/c; echo 1 > /x/a/b/c/d; mv /x/a /x/e; rm -rf /x; done'",
    );
    busy.until_prints("begun");
    for _ in 0..50 {
        host.cocker("diff web").succeeds();
    }
    drop(busy);
    host.cocker("kill web").ok();
    host.cocker("diff web").succeeds();
}

fn a_container_that_changed_nothing_has_no_differences(host: &Host) {
    host.cocker("create -m test -c web").ok();
    host.cocker("diff web").succeeds().prints("");
    host.cocker("diff web --format json")
        .succeeds()
        .prints("[]\n");
    host.cocker("diff test test").succeeds().prints("");
}

fn two_images_are_compared_without_what_they_share(host: &Host) {
    host.add_image_of_many_layers("three", 3);
    host.cocker("diff test three")
        .succeeds()
        .prints("A /layer-1\nA /layer-2\nA /top\n");
    host.cocker("-s diff --from-image three --to-image test")
        .succeeds()
        .prints("D /layer-1\nD /layer-2\nD /top\n");
}

/// Writes what is known of the own layer of an image made by hand; says its id.
fn describe(tree: &Path, made: u64, size: u64, origin: serde_json::Value) -> String {
    let layer = tree.parent().expect("a tree lies in its layer");
    let record = serde_json::json!({
        "format": 1, "made": made, "size": size, "base": [], "origin": origin,
    });
    fs::write(layer.join("layer.json"), record.to_string()).expect("the store is ours");
    let id = layer.file_name().expect("it has an id");
    id.to_string_lossy().into_owned()
}

/// Image `top` on one layer that no image has for its own and one of image `base`.
fn three_layers(host: &Host) -> [String; 3] {
    let base = host.add_image("base", |tree| {
        write(&tree.join("etc/motd"), "base");
        write(&tree.join("etc/only-base"), "");
        symlink("etc", tree.join("settings")).expect("the tree is ours");
    });
    let gone = host.add_image("gone", |tree| {
        write(&tree.join("etc/motd"), "longer");
        whiteout(&tree.join("etc/only-base"));
    });
    let top = host.add_image("top", |tree| {
        whiteout(&tree.join("etc/motd"));
    });
    let ids = [
        describe(
            &base.tree,
            1_541_841_672,
            4,
            serde_json::json!("host_programs"),
        ),
        describe(
            &gone.tree,
            1_541_841_673,
            6,
            serde_json::json!({"container": "web"}),
        ),
        describe(
            &top.tree,
            1_541_841_674,
            3 << 20,
            serde_json::json!({"archive": "t.cockerimage"}),
        ),
    ];
    let record = host.home().join("images/top/_/image.json");
    let text = fs::read_to_string(&record).expect("it is there");
    let mut image: serde_json::Value = serde_json::from_str(&text).expect("a record is JSON");
    image["layers"] = ids.to_vec().into();
    fs::write(&record, image.to_string()).expect("the store is ours");
    fs::remove_dir_all(host.home().join("images/gone")).expect("the store is ours");
    ids
}

fn a_history_is_printed_to_the_letter(host: &Host) {
    let ids = three_layers(host);
    host.cocker("copy-image --from-image top --to-image copy:1.0")
        .ok();
    let short = |id: &String| id[..12].to_string();
    let [base, gone, top] = [&ids[0], &ids[1], &ids[2]].map(short);
    let dashes = "-".repeat(92);
    let expected = format!(
        "number layer_id     image                make_datetime       size       origin\n\
         {dashes}\n\
         3      {top} copy:1.0,top         2018-11-10T09:21:14 3 MB       file t.cockerimage\n\
         2      {gone} -                    2018-11-10T09:21:13 6 B        container web\n\
         1      {base} base                 2018-11-10T09:21:12 4 B        the host's programs\n"
    );
    for line in ["history top", "-s history -m copy:1.0"] {
        host.shell(&format!("TZ=UTC0 cocker {line}"))
            .succeeds()
            .prints(&expected);
    }
    let names = format!("{}\n{}\n{}\n", ids[2], ids[1], ids[0]);
    host.cocker("history top -q").succeeds().prints(&names);
    let text = host
        .shell("TZ=UTC0 cocker history top --format json")
        .succeeds()
        .stdout();
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let expected = serde_json::json!({
        "number": 2, "layer_id": ids[1], "images": [], "make_datetime": "2018-11-10T09:21:13+00:00",
        "size": 6, "origin": "container", "origin_text": "web", "digest": null,
    });
    assert_eq!(json[1], expected);
}

fn a_path_is_traced_to_the_letter(host: &Host) {
    let ids = three_layers(host);
    let short = |id: &String| id[..12].to_string();
    let [base, gone, top] = [&ids[0], &ids[1], &ids[2]].map(short);
    let head = format!(
        "number layer_id     image                make_datetime       size       found                standing\n{}\n",
        "-".repeat(101)
    );
    let expected = format!(
        "{head}\
         3      {top} top                  2018-11-10T09:21:14 3 MB       removes it           hides\n\
         2      {gone} -                    2018-11-10T09:21:13 6 B        file 6 B             hidden\n\
         1      {base} base                 2018-11-10T09:21:12 4 B        file 4 B             hidden\n"
    );
    for line in [
        "whence top /etc/motd",
        "-s whence -m base,top --path /etc//motd",
    ] {
        host.shell(&format!("TZ=UTC0 cocker {line}"))
            .succeeds()
            .prints(&expected);
    }
    let folders = format!(
        "{head}\
         3      {top} top                  2018-11-10T09:21:14 3 MB       folder               seen\n\
         2      {gone} -                    2018-11-10T09:21:13 6 B        folder               merged\n\
         1      {base} base                 2018-11-10T09:21:12 4 B        folder               merged\n"
    );
    host.shell("TZ=UTC0 cocker whence top /etc")
        .succeeds()
        .prints(&folders);
    let link = format!(
        "{head}\
         1      {base} base                 2018-11-10T09:21:12 4 B        link -> etc          seen\n"
    );
    host.shell("TZ=UTC0 cocker whence base,top /settings")
        .succeeds()
        .prints(&link);
    host.cocker("whence top /etc/motd -q")
        .succeeds()
        .prints(&format!("{}\n{}\n{}\n", ids[2], ids[1], ids[0]));
}

fn a_path_of_a_container_is_traced_with_its_writable_layer(host: &Host) {
    host.add_image("words", |tree| write(&tree.join("words/one"), "one"));
    host.cocker("create -m test,words -c web -b").ok();
    host.inside(
        "web",
        "echo longer > /words/one; rm -r /words; mkdir /words; echo 1 > /words/two",
    );
    // The image, and from the column of what was found on.
    let found = |path: &str| -> Vec<String> {
        let rows = lines(host, &format!("whence -c web {path}"));
        let cells = |row: &String| {
            let cells = [&row[20..40], &row[72..]].join(" ");
            cells.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        rows.iter().skip(2).map(cells).collect()
    };
    assert_eq!(
        found("/words"),
        [
            "container folder, hides what is below seen",
            "words folder hidden"
        ]
    );
    assert_eq!(
        found("/words/one"),
        [
            "container hides what is below hides",
            "words file 3 B hidden"
        ]
    );
    assert_eq!(found("/words/two"), ["container file 2 B seen"]);
    host.cocker("shutdown web").ok();
    assert_eq!(found("/words/two"), ["container file 2 B seen"]);
    let text = host
        .cocker("whence -c web /words/two --format json")
        .succeeds()
        .stdout();
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let expected = serde_json::json!([
        {"layer": null, "found": "file", "size": 2, "standing": "seen"},
    ]);
    assert_eq!(json, expected);
}

fn a_link_on_the_way_is_told_and_not_followed(host: &Host) {
    host.add_image("links", |tree| {
        write(&tree.join("usr/bin/tool"), "");
        symlink("usr/bin", tree.join("tools")).expect("the tree is ours");
        symlink("/etc/\x1b[2J", tree.join("odd")).expect("the tree is ours");
    });
    host.cocker("whence links /tools/tool")
        .fails(1, &[])
        .complains(
            "Error: cannot look for `/tools/tool`: `/tools` is a link to `usr/bin`\n\
         Hint: links are not followed; ask for `/usr/bin/tool`.\n",
        );
    host.cocker("whence links /odd/x")
        .fails(1, &["/etc/\\u{1b}[2J"]);
}

fn layers_made_by_enemies_are_read_and_nothing_in_them_is_opened(host: &Host) {
    host.add_image("before", |tree| {
        write(&tree.join("folder/file"), "");
        node(&tree.join("device"), FileType::BlockDevice, makedev(7, 0));
        node(&tree.join("pipe"), FileType::Fifo, 0);
    });
    let secret = host.folder("secret");
    fs::write(secret.join("secret"), "").expect("the folder is ours");
    host.add_image("after", |tree| {
        symlink(&secret, tree.join("folder")).expect("the tree is ours");
        symlink("..", tree.join("up")).expect("the tree is ours");
        node(&tree.join("device"), FileType::BlockDevice, makedev(7, 1));
        // Whoever opens it waits for somebody at its other end.
        node(&tree.join("pipe"), FileType::Fifo, 0);
        let mode = fs::Permissions::from_mode(0o666);
        fs::set_permissions(tree.join("pipe"), mode).expect("the tree is ours");
        write(&tree.join("\x1b]0;owned\x07\n"), "");
        write(&tree.join(std::ffi::OsStr::from_bytes(b"no-utf8-\xff")), "");
    });
    host.cocker("diff before after").succeeds().prints(
        "A /\\u{1b}]0;owned\\u{7}\\u{a}\nC /device\nC /folder\nA /no-utf8-\\xff\nC /pipe\nA /up\n",
    );
    let text = host
        .cocker("diff before after --format json")
        .succeeds()
        .stdout();
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(json[0]["path"], "/\x1b]0;owned\x07\n");
    assert_eq!(json[0].get("path_bytes"), None);
    assert_eq!(json[3]["path_bytes"], "2f6e6f2d757466382dff");
    assert_eq!(json[1]["type"], "block_device");
    host.cocker("whence after /pipe").succeeds();
}

fn a_layer_deeper_than_any_path_is_compared(host: &Host) {
    // Deeper than descriptors and longer than paths.
    const DEPTH: usize = 1_000;
    host.add_image("flat", |_| ());
    host.add_image("deep", |tree| {
        let open = |folder: &dyn rustix::fd::AsFd, name: &str| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(folder.as_fd(), name, flags, Mode::empty()).expect("just made")
        };
        let mut deepest = open(&CWD, tree.to_str().expect("the base folder is text"));
        for _ in 0..DEPTH {
            mkdirat(&deepest, "d", Mode::RWXU).expect("the tree is ours");
            deepest = open(&deepest, "d");
        }
    });
    let longest = 2 + 2 * DEPTH + 1;
    host.shell("ulimit -n 256; cocker diff flat deep | tail -n 1 | wc -c")
        .succeeds()
        .prints(&format!("{longest}\n"));
    host.shell("ulimit -n 256; cocker diff deep flat")
        .succeeds()
        .prints("D /d\n");
    let path = "/d".repeat(DEPTH);
    host.cocker_words(&["whence", "deep", &path]).succeeds();
    // What clears the store away after the test goes by paths, which are longer than the kernel takes.
    host.cocker("rm-image deep").ok();
}

fn five_hundred_layers_are_compared(host: &Host) {
    host.add_image_of_many_layers("many", 500);
    host.cocker("create -m many -c web -b").ok();
    host.inside("web", "echo changed > /top; rm /layer-250");
    let changes = lines(host, "diff web");
    assert!(changes.contains(&"C /top".to_string()), "{changes:?}");
    assert!(changes.contains(&"D /layer-250".to_string()), "{changes:?}");
    let between = host
        .shell("ulimit -n 256; cocker diff test many -q")
        .succeeds()
        .stdout();
    assert_eq!(
        between.lines().count(),
        500,
        "/top and a file of each layer"
    );
    assert_eq!(lines(host, "history many -q").len(), 500);
    assert_eq!(lines(host, "whence -c web /top -q").len(), 500);
}

fn a_layer_that_says_its_files_lie_elsewhere_is_an_error(host: &Host) {
    host.add_image("flat", |_| ());
    host.add_image("moved", |tree| {
        fs::create_dir(tree.join("folder")).expect("the tree is ours");
        mark(&tree.join("folder"), "trusted.overlay.redirect", b"/etc");
    });
    for line in ["diff flat moved", "whence moved /folder/passwd"] {
        host.cocker(line).fails(
            1,
            &[
                "cannot merge `/folder` of layer `",
                "trusted.overlay.redirect",
                "Hint: ",
            ],
        );
    }
}

fn what_cannot_be_looked_at_is_refused(host: &Host) {
    for line in [
        "history nothing",
        "diff test nothing",
        "diff nothing test",
        "whence nothing /etc",
        "whence test,nothing /etc",
    ] {
        host.cocker(line).fails(1, &["cannot find image `nothing`"]);
    }
    host.cocker("history test:9")
        .fails(1, &["version `9` of image `test`"]);
    for line in ["diff nobody", "whence -c nobody /etc"] {
        host.cocker(line)
            .fails(1, &["there is no container `nobody`"]);
    }
    host.cocker("whence test etc/passwd")
        .fails(2, &["`etc/passwd`", "does not begin with `/`"]);
    host.cocker("whence test /etc/../etc")
        .fails(2, &["it has `..` in it"]);
    host.cocker("whence test /nowhere")
        .fails(1, &["cannot find `/nowhere`: no layer has it"]);
    host.cocker("diff a/b").fails(2, &["a/b"]);
    host.cocker("diff test")
        .fails(1, &["there is no container `test`"]);
}
