//! Images of others boot here, and ours run there, with every file as it was: with Debian's buildah, podman, skopeo and umoci, as far as
//! they are on this machine.

mod programs;

use crate::host::{Host, with_image_test};
use crate::looks::{Look, Looks, differences, look_around, look_at, look_at_merged};
use crate::transfer::{archive, file, is_app, run};
use programs::{Programs, text};
use rustix::fs::{XattrFlags, lsetxattr};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_image_that_buildah_builds_boots,
        an_image_of_ours_runs_by_podman,
        umoci_unpacks_an_image_of_ours_to_the_same_files,
        what_skopeo_copies_comes_back_with_the_same_files,
        an_opaque_top_folder_hides_all_files_below,
        a_folder_in_which_a_foreign_layer_hides_nothing_can_be_removed,
    ]
}

/// cap_net_raw, permitted and effective (capabilities(7), version 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// What a booted container has mounts on, or writes itself.
const OF_THE_SANDBOX: [&str; 6] = ["dev", "proc", "sys", "run", "etc/hosts", "etc/resolv.conf"];

fn an_image_that_buildah_builds_boots(host: &Host) {
    let Some(programs) = Programs::with(host, &["buildah"]) else {
        return;
    };
    let built = build(host, &programs, "localhost/calvin/app:1.0");
    for transport in ["oci-archive", "docker-archive", "oci"] {
        let path = programs.path(&format!("pushed-{transport}"));
        let to = format!("{transport}:{}:calvin/app:1.0", path.display());
        let policy = programs.policy();
        programs.buildah(&[
            "push",
            "--signature-policy",
            &policy,
            "localhost/calvin/app:1.0",
            &to,
        ]);
        host.cocker(&format!("import {} -m app:1.0", path.display()))
            .ok();
        is_app(host, "app");
        host.cocker("create -m app -c web -b").ok();
        let root = PathBuf::from(format!("/proc/{}/root", host.root_process("web")));
        assert_same(
            &from_inside(look_around(&root.join("."), &OF_THE_SANDBOX)),
            &from_inside(look_around(&built, &OF_THE_SANDBOX)),
            transport,
        );
        host.cocker("destroy --shutdown web").ok();
        host.cocker("rm-image app").ok();
    }
}

/// Builds an image of two layers, the upper one with deletions, a replaced folder and a file capability; returns where
/// buildah shows it.
fn build(host: &Host, programs: &Programs, name: &str) -> PathBuf {
    let policy = programs.policy();
    let below = programs.buildah(&["from", "scratch"]);
    let tree = text(&layers_of(host, "test", "_")[0]);
    programs.buildah(&["copy", "-q", &below, &tree, "/"]);
    programs.buildah(&[
        "commit",
        "-q",
        "--signature-policy",
        &policy,
        &below,
        "below",
    ]);
    let above = programs.buildah(&["from", "--pull-never", "localhost/below"]);
    let mounted = PathBuf::from(programs.buildah(&["mount", &above]));
    fs::remove_file(mounted.join("etc/profile")).expect("image test has one");
    fs::remove_dir_all(mounted.join("root")).expect("image test has one");
    fs::create_dir(mounted.join("root")).expect("it is gone");
    fs::write(mounted.join("root/.new"), "x\n").expect("it is ours");
    fs::write(mounted.join("word"), "app\n").expect("it is ours");
    make_capable(&mounted.join("word"));
    programs.buildah(&["commit", "-q", "--signature-policy", &policy, &above, name]);
    let fresh = programs.buildah(&["from", "--pull-never", name]);
    PathBuf::from(programs.buildah(&["mount", &fresh]))
}

/// Owners and capabilities as a container sees them; without the time of a folder that a boot writes in, and without the top
/// folder, of which the layers of buildah say nothing.
fn from_inside(mut looks: Looks) -> Looks {
    let Some(Look::Other { owner: root, .. }) = looks.remove(&b""[..]) else {
        panic!("the top is a folder");
    };
    // Outside, a capability that counts inside only names the root that it counts for (capabilities(7), version 3).
    let mut of_inside = CAPABILITY.to_vec();
    of_inside[3] = 3;
    of_inside.extend(root.0.to_le_bytes());
    for (path, look) in &mut looks {
        if let Look::Other {
            owner,
            changed,
            attributes,
            ..
        } = look
        {
            *owner = (owner.0 - root.0, owner.1 - root.1);
            if path == b"etc" {
                *changed = (0, 0);
            }
            if let Some(value) = attributes.get_mut(&b"security.capability"[..])
                && *value == of_inside
            {
                *value = CAPABILITY.to_vec();
            }
        }
    }
    looks
}

fn an_image_of_ours_runs_by_podman(host: &Host) {
    let Some(programs) = Programs::with(host, &["buildah", "podman"]) else {
        return;
    };
    build(host, &programs, "localhost/theirs");
    let can_run = programs.run_by_podman("localhost/theirs", "echo runs");
    if let Err(why) = &can_run {
        println!("skipped in part: podman cannot run its own images here: {why}");
    }
    add_capable_app(host);
    let expected = as_podman_keeps(look_at_merged(&layers_of(host, "app", "1.0")));
    for format in ["oci", "oci --compress zstd", "docker"] {
        let path = file(host, "app.tar");
        host.cocker(&format!(
            "export app -f --format {format} --image-file {path}"
        ))
        .ok();
        let policy = programs.policy();
        programs.podman(&["load", "-q", "--signature-policy", &policy, "-i", &path]);
        let mounted = PathBuf::from(programs.podman(&["image", "mount", "app:1.0"]));
        assert_same(&as_podman_keeps(look_at(&mounted)), &expected, format);
        programs.podman(&["image", "unmount", "app:1.0"]);
        if can_run.is_ok() {
            let line = "cat /word; ls -A /root; test -e /etc/profile || echo gone";
            let said = programs.run_by_podman("app:1.0", line);
            assert_eq!(said.as_deref(), Ok("app\n.new\ngone"), "{format}");
        }
        programs.podman(&["rmi", "--force", "app:1.0"]);
    }
}

/// podman's storage keeps of extended attributes what the kernel itself obeys, and not the top folder's time.
fn as_podman_keeps(mut looks: Looks) -> Looks {
    for (path, look) in &mut looks {
        if let Look::Other {
            changed,
            attributes,
            ..
        } = look
        {
            attributes.retain(|name, _| name == b"security.capability");
            if path.is_empty() {
                *changed = (0, 0);
            }
        }
    }
    looks
}

fn umoci_unpacks_an_image_of_ours_to_the_same_files(host: &Host) {
    let Some(programs) = Programs::with(host, &["umoci"]) else {
        return;
    };
    add_capable_app(host);
    let path = file(host, "app.tar");
    host.cocker(&format!("export app --format oci --image-file {path}"))
        .ok();
    let layout = text(&host.folder("layout"));
    run(Command::new("tar").args(["-xf", &path, "-C", &layout]));
    let bundle = programs.path("bundle");
    let image = format!("{layout}:app:1.0");
    programs.succeeds("umoci", &["unpack", "--image", &image, &text(&bundle)]);
    assert_same(
        &look_at(&bundle.join("rootfs")),
        &look_at_merged(&layers_of(host, "app", "1.0")),
        "umoci",
    );
}

fn what_skopeo_copies_comes_back_with_the_same_files(host: &Host) {
    let Some(programs) = Programs::with(host, &["skopeo"]) else {
        return;
    };
    add_capable_app(host);
    let expected = look_at_merged(&layers_of(host, "app", "1.0"));
    let (oci, docker) = (file(host, "app.oci"), file(host, "app.docker"));
    for (format, path) in [("oci", &oci), ("docker", &docker)] {
        host.cocker(&format!("export app --format {format} --image-file {path}"))
            .ok();
    }
    host.cocker("rm-image app").ok();
    for (from, to) in [
        (format!("oci-archive:{oci}"), "docker-archive"),
        (format!("docker-archive:{docker}"), "oci-archive"),
        (format!("docker-archive:{docker}"), "oci"),
    ] {
        let copied = text(&programs.path(to));
        let (policy, target) = (programs.policy(), format!("{to}:{copied}:app:1.0"));
        programs.succeeds(
            "skopeo",
            &["--policy", &policy, "copy", "-q", &from, &target],
        );
        host.cocker(&format!("import {copied}")).ok();
        let found = look_at_merged(&layers_of(host, "app", "1.0"));
        assert_same(&found, &expected, to);
        is_app(host, "app");
        host.cocker("rm-image app").ok();
    }
}

/// Image `app:1.0` on `test`: `/word` says so and has a capability, `/etc/profile` is gone, `/root` is another.
fn add_capable_app(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "echo app > /word; rm /etc/profile; rm -r /root; mkdir /root; echo x > /root/.new",
    );
    host.cocker("shutdown web").ok();
    make_capable(&host.home().join("containers/web/files/upper/word"));
    host.cocker("to-image --from-container web --to-image app --version 1.0")
        .ok();
}

fn make_capable(file: &Path) {
    let flags = XattrFlags::empty();
    lsetxattr(file, "security.capability", &CAPABILITY, flags).expect("the file is ours");
}

/// The folders with an image's files, lowest first.
fn layers_of(host: &Host, image: &str, version: &str) -> Vec<PathBuf> {
    let record = host
        .home()
        .join(format!("images/{image}/{version}/image.json"));
    let text = fs::read(record).expect("the image is there");
    let record: serde_json::Value = serde_json::from_slice(&text).expect("a record is JSON");
    let ids = record["layers"].as_array().expect("an image has layers");
    ids.iter()
        .map(|id| {
            let id = id.as_str().expect("an id is text");
            host.home().join("layers").join(id).join("tree")
        })
        .collect()
}

#[track_caller]
fn assert_same(found: &Looks, expected: &Looks, what: &str) {
    let differences = differences(expected, found);
    assert!(differences.is_empty(), "{what}:\n{differences}");
}

/// Entries of a tar: names, types, targets, contents.
type Entries<'a> = &'a [(&'a str, u8, &'a str, &'a [u8])];

/// Imports image `made` of image `test` between a layer below it and one above; `also` comes to the layer of `test`.
fn import_made(host: &Host, below: Entries<'_>, also: Entries<'_>, above: Entries<'_>) {
    let plain = file(host, "test.tar");
    host.cocker(&format!("export test --format docker --image-file {plain}"))
        .ok();
    let saved = host.folder("saved");
    run(Command::new("tar").args(["-xf", &plain, "-C"]).arg(&saved));
    let json = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("it is there")).expect("JSON")
    };
    let mut manifest = json(saved.join("manifest.json"));
    let name = |value: &serde_json::Value| value.as_str().expect("a name").to_string();
    let mut of_test = fs::read(saved.join(name(&manifest[0]["Layers"][0]))).expect("it is there");
    // What comes after it stands before its end, which is two blocks of zeros.
    of_test.truncate(of_test.len() - 1024);
    of_test.extend(archive(also));
    let layers = [archive(below), of_test, archive(above)];
    let mut config = json(saved.join(name(&manifest[0]["Config"])));
    let mut diff_ids = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let path = saved.join(format!("{number}.tar"));
        fs::write(&path, layer).expect("the folder is ours");
        diff_ids.push(format!("sha256:{}", digest_of(&path)));
    }
    config["rootfs"]["diff_ids"] = diff_ids.into();
    config["history"] = serde_json::json!([]);
    let written = saved.join("config.json");
    fs::write(&written, config.to_string()).expect("the folder is ours");
    let config_name = format!("{}.json", digest_of(&written));
    fs::rename(written, saved.join(&config_name)).expect("the folder is ours");
    manifest[0]["Config"] = config_name.into();
    manifest[0]["Layers"] = serde_json::json!(["0.tar", "1.tar", "2.tar"]);
    fs::write(saved.join("manifest.json"), manifest.to_string()).expect("the folder is ours");
    let path = file(host, "made.tar");
    run(Command::new("tar")
        .args(["-cf", &path, "-C"])
        .arg(&saved)
        .arg("."));
    host.cocker(&format!("import {path} -m made")).ok();
    host.cocker("create -m made -c web -b").ok();
}

fn digest_of(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output();
    let output = output.expect("sha256sum is on every Debian");
    let line = String::from_utf8(output.stdout).expect("digests are text");
    line.split_whitespace().next().expect("a digest").into()
}

fn an_opaque_top_folder_hides_all_files_below(host: &Host) {
    import_made(
        host,
        &[
            ("junk", b'0', "", b"x"),
            ("junk-folder/x", b'0', "", b"x"),
            ("etc/junk", b'0', "", b"x"),
            ("etc/junk-folder/x", b'0', "", b"x"),
        ],
        &[(".wh..wh..opq", b'0', "", b"")],
        &[("above", b'0', "", b"x")],
    );
    let listed = host.inside("web", "ls -A / /etc");
    assert!(!listed.contains("junk"), "{listed}");
    assert!(listed.contains("above") && listed.contains("profile"));
    host.cocker("destroy --shutdown web").ok();
    host.cocker("create -m test -c plain -b").ok();
    let without = |listed: String| listed.replace("above\n", "");
    assert_eq!(without(listed), host.inside("plain", "ls -A / /etc"));
}

fn a_folder_in_which_a_foreign_layer_hides_nothing_can_be_removed(host: &Host) {
    import_made(
        host,
        &[("lowest/.wh.nothing", b'0', "", b"")],
        &[
            ("srv2/.wh.nothing", b'0', "", b""),
            ("srv2/there", b'0', "", b"x"),
        ],
        &[
            ("again/.wh..wh..opq", b'0', "", b""),
            ("again/.wh.nothing", b'0', "", b""),
            ("srv2/.wh.there", b'0', "", b""),
        ],
    );
    let looked = "ls -A /lowest /srv2 /again";
    assert_eq!(host.inside("web", looked), "/again:\n\n/lowest:\n\n/srv2:");
    host.inside("web", "rm -r /lowest /srv2 /again");
    let left = "ls -d /lowest /srv2 /again 2>/dev/null || true";
    assert_eq!(host.inside("web", left), "");
}
