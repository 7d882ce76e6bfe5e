//! Images as files: what goes out comes back the same, what others make boots, and what an enemy made does nothing.

use crate::host::{Host, at_every_moment, entries, eventually, with_image_test};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::process::Command;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_image_comes_back_from_its_file,
        a_file_is_called_after_its_image,
        the_same_image_gives_the_same_bytes,
        a_conversion_there_and_back_changes_no_byte,
        an_image_is_found_under_what_was_built_on_it,
        a_base_that_is_not_there_is_named,
        a_base_is_known_by_what_it_holds_and_not_by_its_name,
        every_compression_comes_back,
        a_program_of_old_reads_our_file_and_we_read_its,
        a_root_file_system_becomes_an_image,
        other_formats_come_back_with_all_layers,
        a_name_that_others_do_not_allow_is_told,
        layers_that_are_there_are_not_unpacked_again,
        what_a_foreign_image_says_of_itself_goes_out_again,
        a_broken_file_leaves_nothing,
        a_file_that_was_changed_is_not_believed,
        an_archive_of_an_enemy_reaches_nothing,
        device_nodes_come_only_where_they_are_allowed,
        a_bomb_is_stopped,
        a_full_disk_leaves_nothing,
        what_is_no_image_is_refused,
        a_name_in_use_is_refused_before_the_work,
        two_imports_at_once_make_one_image,
        an_import_killed_at_any_moment_is_whole_or_not_there,
        an_export_killed_at_any_moment_leaves_no_file,
        a_terminal_is_told_how_far_it_has_come,
    ]
}

/// A file of the test's own.
pub fn file(host: &Host, name: &str) -> String {
    let path = host.folder("files").join(name);
    path.to_str().expect("the path is text").to_string()
}

/// Image `app:1.0` on `test`: `/word` says so, `/etc/profile` is gone, `/root` is another.
fn add_app(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "echo app > /word; rm /etc/profile; rm -r /root; mkdir /root; echo x > /root/.new",
    );
    host.cocker("shutdown web").ok();
    host.cocker("to-image --from-container web --to-image app --version 1.0")
        .ok();
}

/// Boots a container of the image and looks whether it is what `add_app` made.
#[track_caller]
pub fn is_app(host: &Host, image: &str) {
    host.cocker(&format!("create -m {image} -c look -b")).ok();
    assert_eq!(host.inside("look", "cat /word; ls -A /root"), "app\n.new");
    assert_eq!(
        host.inside("look", "test -e /etc/profile || echo gone"),
        "gone"
    );
    host.cocker("destroy --shutdown look").ok();
}

/// Nothing but image `test`, and nothing staged.
#[track_caller]
fn holds_image_test_alone(host: &Host) {
    // A command that takes the lock sweeps.
    host.cocker("set-version test").ok();
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.layers(), 1);
    assert_eq!(host.entries("images").len(), 1);
}

#[track_caller]
pub fn run(program: &mut Command) {
    let output = program.output().expect("the program is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program:?}: {said}");
}

fn an_image_comes_back_from_its_file(host: &Host) {
    let path = file(host, "test:3.cockerimage");
    host.cocker(&format!("-a export -m test --image-file {path}"))
        .ok();
    let mode = fs::metadata(&path)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "what is in an image is nobody else's");
    host.cocker("rm-image test").ok();
    assert_eq!(host.layers(), 0);
    host.cocker(&format!("-a import --image-file {path}")).ok();
    assert_eq!(host.images(), ["test 3"]);
    host.cocker("create -m test -c web -b").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn a_file_is_called_after_its_image(host: &Host) {
    add_app(host);
    let folder = host.folder("here");
    let export = |line: &str| {
        let mut command = host.cocker_command(line);
        run(command.current_dir(&folder));
    };
    export("export app");
    export("export test:_");
    export("export app --format oci");
    export("-a export -m app:1.0 --format docker");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("it is ours")
        .map(|entry| {
            entry
                .expect("it is ours")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    let expected = [
        "app:1.0.cockerimage",
        "app:1.0.docker.tar",
        "app:1.0.oci.tar",
        "test.cockerimage",
    ];
    assert_eq!(names, expected);
    host.cocker("rm-image app").ok();
    let import = |name: &str| host.cocker(&format!("import {}", folder.join(name).display()));
    import("app:1.0.cockerimage").ok();
    import("app:1.0.cockerimage").fails(1, &["image `app:1.0` exists already"]);
    host.cocker("rm-image app").ok();
    for name in ["app:1.0.oci.tar", "app:1.0.docker.tar"] {
        import(name).ok();
        assert_eq!(host.images(), ["app 1.0", "test _"], "{name}");
        host.cocker("rm-image app").ok();
    }
    let path = folder.join("app:1.0.cockerimage");
    host.cocker(&format!("export test --image-file {}", path.display()))
        .fails(
            1,
            &[
                "exists already",
                "Hint: name another file with --image-file, or replace this one: --forcely",
            ],
        );
    host.cocker(&format!("export test -f --image-file {}", path.display()))
        .ok();
    host.cocker(&format!("import {} -m other:2", path.display()))
        .ok();
    assert_eq!(host.images(), ["other 2", "test _"]);
}

fn the_same_image_gives_the_same_bytes(host: &Host) {
    add_app(host);
    for options in ["", "--compress zstd", "--format oci", "--format docker"] {
        let bytes = |name: &str| {
            let path = file(host, name);
            host.cocker(&format!("export app -f {options} --image-file {path}"))
                .ok();
            fs::read(path).expect("it was written")
        };
        let first = bytes("one");
        assert!(first == bytes("two"), "{options}");
    }
}

fn a_conversion_there_and_back_changes_no_byte(host: &Host) {
    add_app(host);
    let (one, two) = (file(host, "app:1.0.cockerimage"), file(host, "two"));
    host.cocker(&format!("export app --image-file {one}")).ok();
    host.cocker("rm-image app").ok();
    host.cocker(&format!("import {one}")).ok();
    host.cocker("to-container --from-image app --to-container web")
        .ok();
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    host.cocker(&format!("export app:1.0 --image-file {two}"))
        .ok();
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
}

fn an_image_is_found_under_what_was_built_on_it(host: &Host) {
    add_app(host);
    let (app, test) = (
        file(host, "app.cockerimage"),
        file(host, "test.cockerimage"),
    );
    host.cocker(&format!("export app --image-file {app}")).ok();
    host.cocker(&format!("export test --image-file {test}"))
        .ok();
    host.cocker("rm-image app").ok();
    host.cocker("rm-image test").ok();
    // As on another host: whatever the base is called there.
    host.cocker(&format!("import {test} -m base:7")).ok();
    host.cocker(&format!("import {app}")).ok();
    assert_eq!(host.layers(), 2);
    is_app(host, "app");
    is_app(host, "base,app");
    host.cocker("rm-image base").ok();
    is_app(host, "app");
}

fn a_base_that_is_not_there_is_named(host: &Host) {
    add_app(host);
    let app = file(host, "app.cockerimage");
    host.cocker(&format!("export app --image-file {app}")).ok();
    host.cocker("rm-image app").ok();
    host.cocker("rm-image test").ok();
    host.cocker(&format!("import {app}")).fails(
        1,
        &[
            "cannot find what the image was built on: `test` (sha256:",
            "Hint: import that first, or import this image's own files alone: --no-base",
        ],
    );
    assert_eq!(host.layers(), 0);
    host.cocker(&format!("import {app} --no-base")).ok();
    assert_eq!(host.layers(), 1);
}

fn a_base_is_known_by_what_it_holds_and_not_by_its_name(host: &Host) {
    add_app(host);
    let app = file(host, "app.cockerimage");
    host.cocker(&format!("export app --image-file {app}")).ok();
    host.cocker("rm-image app").ok();
    host.cocker("copy-image --from-image test --to-image kept")
        .ok();
    host.cocker("rm-image test").ok();
    // Another image has its name now.
    let other = file(host, "other.tar");
    fs::write(&other, archive(&[("word", b'0', "", b"another")])).expect("the folder is ours");
    host.cocker(&format!("import {other} -m test")).ok();
    host.cocker(&format!("import {app}")).ok();
    is_app(host, "app");
}

fn every_compression_comes_back(host: &Host) {
    add_app(host);
    let mut sizes = Vec::new();
    for compression in ["gzip", "zstd", "none"] {
        let path = file(host, compression);
        host.cocker(&format!(
            "export app --compress {compression} --image-file {path}"
        ))
        .ok();
        sizes.push(fs::metadata(&path).expect("it is there").len());
        host.cocker(&format!("import {path} -m {compression}")).ok();
        is_app(host, compression);
    }
    assert!(sizes[2] > sizes[0] && sizes[2] > sizes[1], "{sizes:?}");
    // Written by others.
    let plain = file(host, "none");
    for (program, ending) in [("xz", "xz"), ("gzip", "gz"), ("zstd", "zst")] {
        if Command::new(program).arg("--version").output().is_err() {
            println!("skipped: {program} is not here");
            continue;
        }
        run(Command::new(program).args(["-k", "-f", &plain]));
        host.cocker(&format!("import {plain}.{ending} -m by-{program}"))
            .ok();
        is_app(host, &format!("by-{program}"));
    }
    host.cocker("export app --compress xz").refuses(&["xz"]);
    host.cocker("export app --format tar")
        .refuses(&["there is no format `tar`"]);
}

/// The C program of the same name packs by `tar -czf F *` in the folder of the files and unpacks by `tar -xzf F`.
fn a_program_of_old_reads_our_file_and_we_read_its(host: &Host) {
    add_app(host);
    let ours = file(host, "app:1.0.cockerimage");
    host.cocker(&format!("export app --image-file {ours}")).ok();
    let there = host.folder("there");
    run(Command::new("tar")
        .args(["--force-local", "-xzf", &ours])
        .current_dir(&there));
    assert_eq!(fs::read(there.join("word")).expect("it is there"), b"app\n");
    assert_eq!(
        fs::read(there.join("root/.new")).expect("it is there"),
        b"x\n"
    );
    let whiteout = fs::symlink_metadata(there.join("etc/profile")).expect("it is there");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);

    fs::remove_file(there.join(".cocker-image.json")).expect("it came along");
    let theirs = file(host, "old:0.28.cockerimage");
    let pack = format!("tar --force-local -czf '{theirs}' *");
    run(Command::new("sh").args(["-c", &pack]).current_dir(&there));
    host.cocker(&format!("-a import --image-file {theirs}"))
        .ok();
    assert_eq!(host.images(), ["app 1.0", "old 0.28", "test _"]);
    // Such a file says nothing of what it was built on, and tar keeps no mark of opaque folders.
    host.cocker("create -m test,old -c look -b").ok();
    assert_eq!(host.inside("look", "cat /word; cat /root/.new"), "app\nx");
    assert_eq!(
        host.inside("look", "test -e /etc/profile || echo gone"),
        "gone"
    );
}

fn a_root_file_system_becomes_an_image(host: &Host) {
    // Hard links of other tests come and go, which tar takes for changes.
    let tree = host.folder("tree");
    run(Command::new("cp")
        .arg("-a")
        .arg(host.tree_of("test", "_").join("."))
        .arg(&tree));
    let path = file(host, "rootfs:12.tar.gz");
    run(Command::new("tar")
        .args(["--force-local", "-czf", &path, "-C"])
        .arg(&tree)
        .arg("."));
    host.cocker("rm-image test").ok();
    host.cocker(&format!("import {path}")).ok();
    assert_eq!(host.images(), ["rootfs 12"]);
    host.cocker("create -m rootfs -c web -b").ok();
    assert_eq!(host.inside("web", "echo works"), "works");
}

fn other_formats_come_back_with_all_layers(host: &Host) {
    add_app(host);
    let lines = [
        ("oci", "--format oci"),
        ("zstd", "--format oci --compress zstd"),
        ("plain", "--format oci --compress none"),
        ("docker", "--format docker"),
    ];
    for (name, options) in lines {
        host.cocker(&format!(
            "export app {options} --image-file {}",
            file(host, name)
        ))
        .ok();
    }
    host.cocker("rm-image app").ok();
    host.cocker("rm-image test").ok();
    for (name, _) in lines {
        let path = file(host, name);
        host.cocker(&format!("import {path} -m {name}")).ok();
        is_app(host, name);
        host.cocker(&format!("rm-image {name}")).ok();
        assert_eq!(host.layers(), 0);
        // It says itself what it is called; the file's name says nothing.
        host.cocker(&format!("import {path}")).ok();
        assert_eq!(host.images(), ["app 1.0"], "{name}");
        host.cocker("rm-image app").ok();
    }
    // A layout as a folder.
    let folder = host.folder("layout");
    run(Command::new("tar")
        .args(["--force-local", "-xf", &file(host, "oci"), "-C"])
        .arg(&folder));
    host.cocker(&format!("import {}", folder.display())).ok();
    is_app(host, "app");
}

fn a_name_that_others_do_not_allow_is_told(host: &Host) {
    host.cocker("copy-image --from-image test --to-image Web.App=x")
        .ok();
    let export = |image: &str, format: &str| {
        let path = file(host, "exported");
        host.cocker(&format!("export {image} -f {format} --image-file {path}"))
    };
    for format in ["--format oci", "--format docker"] {
        let outcome = export("Web.App=x", format).exits(0);
        assert_eq!(outcome.stdout(), "OK\n");
        assert_eq!(
            outcome.stderr,
            "Warning: others will see image `Web.App=x:_` as `docker.io/web.app/x:latest`\n"
        );
        export("test", format).ok();
    }
    // Our own file has the image's own name.
    export("Web.App=x", "").ok();
}

fn layers_that_are_there_are_not_unpacked_again(host: &Host) {
    add_app(host);
    let path = file(host, "app.tar");
    host.cocker(&format!("export app --format docker --image-file {path}"))
        .ok();
    let before = host.layers();
    host.cocker(&format!("import {path} -m one")).ok();
    assert_eq!(host.layers(), before + 2);
    host.cocker(&format!("import {path} -m two")).ok();
    assert_eq!(host.layers(), before + 3, "the lower one is shared");
    host.cocker("rm-image one").ok();
    is_app(host, "two");
    host.cocker("rm-image two").ok();
    assert_eq!(host.layers(), before);
}

fn what_a_foreign_image_says_of_itself_goes_out_again(host: &Host) {
    add_app(host);
    let layout = host.folder("layout");
    let (path, again) = (file(host, "app.tar"), file(host, "again.tar"));
    host.cocker(&format!("export app --format docker --image-file {path}"))
        .ok();
    run(Command::new("tar").args(["-xf", &path, "-C"]).arg(&layout));
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&fs::read(layout.join(name)).expect("it is there")).expect("JSON")
    };
    let mut manifest = read("manifest.json");
    let name = manifest[0]["Config"].as_str().expect("a name").to_string();
    let mut config = read(&name);
    config["config"] =
        serde_json::json!({ "Env": ["A=1"], "Cmd": ["/bin/app"], "WorkingDir": "/srv" });
    // A config is called by its digest.
    fs::write(layout.join(&name), config.to_string()).expect("the folder is ours");
    let digest = Command::new("sha256sum").arg(layout.join(&name)).output();
    let digest = String::from_utf8(digest.expect("it is there").stdout).expect("text");
    let renamed = format!("{}.json", &digest[..64]);
    fs::rename(layout.join(&name), layout.join(&renamed)).expect("the folder is ours");
    manifest[0]["Config"] = renamed.into();
    fs::write(layout.join("manifest.json"), manifest.to_string()).expect("the folder is ours");
    run(Command::new("tar")
        .args(["-cf", &path, "-C"])
        .arg(&layout)
        .arg("."));

    host.cocker(&format!("import {path} -m foreign")).ok();
    host.cocker("copy-image --from-image foreign --to-image copy")
        .ok();
    // Through a container and back.
    host.cocker("to-container --from-image copy --to-container web")
        .ok();
    host.cocker("to-image --from-container web --to-image copy")
        .ok();
    for image in ["foreign", "copy"] {
        host.cocker(&format!(
            "export {image} -f --format docker --image-file {again}"
        ))
        .ok();
        let bytes = fs::read(&again).expect("it was written");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains(r#""WorkingDir":"/srv""#), "{image}");
        assert!(text.contains(r#""Env":["A=1"]"#), "{image}");
    }
}

fn a_broken_file_leaves_nothing(host: &Host) {
    let path = file(host, "test.cockerimage");
    host.cocker(&format!("export test --image-file {path}"))
        .ok();
    let whole = fs::read(&path).expect("it was written");
    let broken = file(host, "broken");
    for length in [0, 1, 10, 1000, whole.len() / 2, whole.len() - 1] {
        fs::write(&broken, &whole[..length]).expect("the folder is ours");
        let outcome = host.cocker(&format!("import {broken}"));
        outcome.fails(1, &["cannot import", "offset"]);
        holds_image_test_alone(host);
    }
    for place in [30, 5000, whole.len() / 3, whole.len() - 6] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x40;
        fs::write(&broken, &bytes).expect("the folder is ours");
        host.cocker(&format!("import {broken}"))
            .fails(1, &["cannot import"]);
        holds_image_test_alone(host);
    }
}

fn a_file_that_was_changed_is_not_believed(host: &Host) {
    let path = file(host, "test.cockerimage");
    host.cocker(&format!("export test --compress none --image-file {path}"))
        .ok();
    let mut bytes = fs::read(&path).expect("it was written");
    // Somewhere in a file's contents: tar itself has no checksum of that.
    let place = bytes
        .windows(11)
        .position(|window| window == b"--- Welcome")
        .expect("the profile is in it");
    bytes[place] = b'+';
    fs::write(&path, &bytes).expect("the folder is ours");
    host.cocker(&format!("import {path} -m changed"))
        .fails(1, &["cannot believe the archive: its digest is sha256:"]);
    holds_image_test_alone(host);
    // Who does not look at the digest has what was changed; and as it was, it is believed.
    let naive = host.shell(&format!("tar -xOf {path} | grep -ac '+-- Welcome'"));
    assert_eq!(naive.stdout().trim(), "1");
    bytes[place] = b'-';
    fs::write(&path, bytes).expect("the folder is ours");
    host.cocker(&format!("import {path} -m same")).ok();
    host.cocker("rm-image same").ok();
}

/// A tar with one entry of this name, type and target for each, by GNU tar's own rules for headers.
pub fn archive(entries: &[(&str, u8, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, target, content) in entries {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = *kind;
        header[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[329..337].copy_from_slice(b"0000010\0");
        header[337..345].copy_from_slice(b"0000001\0");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn an_archive_of_an_enemy_reaches_nothing(host: &Host) {
    let outside = host.folder("outside");
    let out = outside.to_str().expect("text").to_string();
    let secret = outside.join("secret");
    fs::write(&secret, "secret").expect("the folder is ours");
    let deep = format!("{}x", "d/".repeat(40));
    let upwards = format!("{}{}/planted", "../".repeat(12), &out[1..]);
    let absolute = format!("{out}/planted");
    let secret_path = format!("{out}/secret");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("..", archive(&[(&upwards, b'0', "", b"x")])),
        ("absolute", archive(&[(&absolute, b'0', "", b"x")])),
        (
            "link then file",
            archive(&[("l", b'2', &out, b""), ("l/planted", b'0', "", b"x")]),
        ),
        (
            "hard link out",
            archive(&[("h", b'1', &secret_path, b""), ("h", b'0', "", b"x")]),
        ),
        (
            "hard link through a link",
            archive(&[("l", b'2', &out, b""), ("h", b'1', "l/secret", b"")]),
        ),
        ("no name", archive(&[("", b'0', "", b"x")])),
        ("disk", archive(&[("disk", b'4', "", b"")])),
        (
            "dot dot inside",
            archive(&[("a/../../planted", b'0', "", b"x")]),
        ),
    ];
    for (what, bytes) in cases {
        let path = file(host, "enemy.tar");
        fs::write(&path, bytes).expect("the folder is ours");
        let outcome = host.cocker(&format!("import {path}"));
        assert_eq!(outcome.status.code(), Some(1), "{what}: {outcome}");
        assert_eq!(entries(&outside).len(), 1, "{what}");
        assert_eq!(fs::read(&secret).expect("it stays"), b"secret", "{what}");
        holds_image_test_alone(host);
    }
    // What only looks odd comes in, and stays inside.
    let odd = archive(&[
        (&deep, b'0', "", b"x"),
        ("link", b'2', &secret_path, b""),
        ("link", b'0', "", b"replaced"),
    ]);
    let path = file(host, "odd.tar");
    fs::write(&path, odd).expect("the folder is ours");
    host.cocker(&format!("import {path}")).ok();
    assert_eq!(fs::read(&secret).expect("it stays"), b"secret");
    assert_eq!(
        fs::read(host.tree_of("odd", "_").join("link")).expect("it is a file"),
        b"replaced"
    );
}

fn device_nodes_come_only_where_they_are_allowed(host: &Host) {
    let path = file(host, "disk.tar");
    fs::write(&path, archive(&[("disk", b'4', "", b"")])).expect("the folder is ours");
    host.cocker(&format!("import {path}")).fails(
        1,
        &[
            "cannot unpack `disk` at offset 0: device nodes are refused",
            "Hint: where you trust the archive: --allow-devices",
        ],
    );
    holds_image_test_alone(host);
    host.cocker(&format!("import {path} --allow-devices")).ok();
    host.cocker("create -m test,disk -c web -b").ok();
    // Inside it is worth nothing.
    assert_eq!(
        host.inside("web", "head -c 1 /disk >/dev/null 2>&1 || echo refused"),
        "refused"
    );
    // Control: where nothing keeps it off, the same file is a device.
    host.cocker("create -m test,disk -c mighty --privileged -b")
        .ok();
    host.inside("mighty", "stat -c %F /disk | grep -q 'block special'");
}

fn a_bomb_is_stopped(host: &Host) {
    let zeros = vec![0u8; 64 << 20];
    let plain = file(host, "bomb.tar");
    fs::write(&plain, archive(&[("zeros", b'0', "", &zeros)])).expect("the folder is ours");
    let packed = file(host, "bomb.tar.gz");
    run(Command::new("sh").args(["-c", &format!("gzip -1 -c '{plain}' > '{packed}'")]));
    for line in [
        format!("import {packed} --max-size 1M"),
        format!("import {plain} --max-size 67108863"),
    ] {
        host.cocker(&line)
            .fails(1, &["cannot import", "--max-size"]);
        holds_image_test_alone(host);
    }
    host.cocker(&format!("import {packed} --max-size 64M")).ok();
    host.cocker(&format!("import {packed} --max-size many"))
        .refuses(&["`--max-size many` is not a size"]);
}

fn a_full_disk_leaves_nothing(host: &Host) {
    let path = file(host, "big.tar");
    let content = vec![7u8; 3 << 20];
    let files: Vec<(String, u8)> = (0..4).map(|n| (format!("file{n}"), b'0')).collect();
    let files: Vec<(&str, u8, &str, &[u8])> = files
        .iter()
        .map(|(name, kind)| (name.as_str(), *kind, "", content.as_slice()))
        .collect();
    fs::write(&path, archive(&files)).expect("the folder is ours");
    let home = host.folder("small");
    let small = std::ffi::CString::new("size=8M,mode=0700").expect("no NUL");
    rustix::mount::mount(
        "cocker-test",
        &home,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        small.as_c_str(),
    )
    .expect("the tests have mounts of their own");
    // Refused at once for what it says it holds, and in the middle where more was allowed.
    for line in [
        format!("import {path}"),
        format!("import {path} --max-size 1G"),
    ] {
        let mut command = host.cocker_command(&line);
        let output = command
            .env("COCKER_HOME", &home)
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Hint: make room"), "{said}");
        for folder in ["layers", "images"] {
            assert_eq!(entries(&home.join(folder)).len(), 0, "{folder}");
        }
    }
    // A child that another test has just forked has open what we had, until it is executed.
    eventually("nobody is in it", || {
        rustix::mount::unmount(&home, rustix::mount::UnmountFlags::empty()).is_ok()
    });
}

fn what_is_no_image_is_refused(host: &Host) {
    host.cocker("import /etc/passwd").fails(
        1,
        &[
            "cannot unpack the archive at offset 0",
            "Hint: a .cockerimage",
        ],
    );
    host.cocker("import /no/such/file")
        .fails(1, &["No such file or directory"]);
    host.cocker("import /etc").fails(1, &["it is neither"]);
    host.cocker("import /dev/zero").fails(1, &["it is neither"]);
    let fifo = host.folder("files").join("fifo");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, rustix::fs::Mode::RWXU, 0)
        .expect("the folder is ours");
    host.cocker(&format!("import {}", fifo.display()))
        .fails(1, &["it is neither"]);
    let nameless = file(host, "-odd name-.tar");
    fs::write(&nameless, archive(&[("x", b'0', "", b"x")])).expect("the folder is ours");
    host.cocker_words(&["import", &nameless]).fails(
        1,
        &[
            "it does not say what the image is called",
            "Hint: say it: --image I[:V]",
        ],
    );
    host.cocker_words(&["import", &nameless, "-m", "odd"]).ok();
    host.cocker("rm-image odd").ok();
    host.cocker("export none")
        .fails(1, &["cannot find image `none`"]);
    host.cocker("export test --image-file /no/such/folder/file")
        .fails(1, &["cannot write `/no/such/folder/file`"]);
    holds_image_test_alone(host);
}

fn a_name_in_use_is_refused_before_the_work(host: &Host) {
    // It would not even be readable.
    let path = file(host, "test.cockerimage");
    fs::write(&path, "no archive").expect("the folder is ours");
    host.cocker(&format!("import {path}"))
        .fails(1, &["image `test:_` exists already"]);
}

fn two_imports_at_once_make_one_image(host: &Host) {
    let path = file(host, "new.cockerimage");
    host.cocker(&format!("export test --image-file {path}"))
        .ok();
    for _ in 0..3 {
        let line = format!("import {path}");
        let both = [host.start(&line), host.start(&line)];
        let mut codes = both.map(|started| started.outcome().status.code());
        codes.sort_unstable();
        assert_eq!(codes, [Some(0), Some(1)]);
        assert_eq!(host.images(), ["new _", "test _"]);
        assert_eq!(host.layers(), 2);
        host.cocker("rm-image new").ok();
    }
}

fn an_import_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    host.add_image("small", |tree| {
        fs::create_dir(tree.join("folder")).expect("ours");
        for n in 0..30 {
            fs::write(tree.join(format!("folder/{n}")), vec![n; 5000]).expect("ours");
        }
    });
    let paths = [file(host, "new.cockerimage"), file(host, "new.tar")];
    host.cocker(&format!("export small --image-file {}", paths[0]))
        .ok();
    host.cocker(&format!(
        "export small --format oci --image-file {}",
        paths[1]
    ))
    .ok();
    host.cocker("rm-image small").ok();
    for path in paths {
        at_every_moment(|moment| {
            let was_killed = host.killed_after(&format!("import {path} -m new"), moment);
            if host.images().contains(&"new _".into()) {
                assert_eq!(entries(&host.tree_of("new", "_").join("folder")).len(), 30);
                host.cocker("rm-image new").ok();
            } else {
                assert!(was_killed, "it was done, and there is no image");
            }
            holds_image_test_alone(host);
            was_killed
        });
    }
}

fn an_export_killed_at_any_moment_leaves_no_file(host: &Host) {
    host.add_image("small", |tree| {
        for n in 0..50 {
            fs::write(tree.join(format!("file{n}")), vec![n; 10_000]).expect("ours");
        }
    });
    let folder = host.folder("files");
    let path = file(host, "small.cockerimage");
    host.cocker(&format!("export small --image-file {path}"))
        .ok();
    let whole = fs::read(&path).expect("it was written");
    fs::remove_file(&path).expect("it is ours");
    at_every_moment(|moment| {
        let line = format!("export small --image-file {path}");
        let was_killed = host.killed_after(&line, moment);
        match fs::read(&path) {
            Ok(bytes) => {
                assert!(bytes == whole, "half a file");
                fs::remove_file(&path).expect("it is ours");
            }
            Err(_) => assert!(was_killed, "it was done, and there is no file"),
        }
        assert_eq!(entries(&folder).len(), 0, "something is left");
        was_killed
    });
    // The layer's record is whole, whenever its digest was written.
    host.cocker(&format!("export small --image-file {path}"))
        .ok();
    assert!(fs::read(&path).expect("it was written") == whole);
}

fn a_terminal_is_told_how_far_it_has_come(host: &Host) {
    let zeros = vec![0u8; 300 << 20];
    let plain = file(host, "large.tar");
    fs::write(&plain, archive(&[("zeros", b'0', "", &zeros)])).expect("the folder is ours");
    drop(zeros);
    let mut terminal = host.terminal(&format!("import {plain}"));
    terminal.expect(" MB/s");
    terminal.expect("OK\r\n");
    terminal.exits(0);
    for format in ["", "--format oci", "--format docker"] {
        let path = file(host, "exported");
        let line = format!("export large -f {format} --image-file {path}");
        let mut terminal = host.terminal(&line);
        terminal.expect("export ");
        terminal.expect(" MB/s");
        terminal.expect("OK\r\n");
        terminal.exits(0);
    }
    // Elsewhere nobody is told.
    let outcome = host.cocker("copy-image --from-image large --to-image l2");
    assert_eq!(outcome.stderr, "");
    let path = file(host, "l2.cockerimage");
    let outcome = host.cocker(&format!("export l2 --image-file {path}"));
    assert_eq!(
        (outcome.stdout().as_str(), outcome.stderr.as_str()),
        ("OK\n", "")
    );
}
