//! Repositories of enemies: what lies there reaches nothing outside staging, hangs nobody and fills no memory.

use super::{add_big_image, found};
use crate::host::{Access, Host, SshServer, entries, eventually, with_image_test, write_program};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs::File, thread};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        only_names_of_images_are_listed,
        what_is_no_regular_file_is_refused,
        a_hundred_thousand_files_are_listed_in_little_memory,
        a_file_that_grows_is_refused,
        a_file_that_is_not_what_its_sum_says_is_refused,
        an_archive_of_an_enemy_reaches_nothing,
        a_manifest_of_an_enemy_is_refused,
        a_server_that_speaks_something_else_is_refused,
    ]
}

/// How the host's /etc/passwd begins. Other tests put users into the rest meanwhile.
const ROOT: &[u8] = b"root:x:0:0:";

/// Nothing of a pull is left: no image, no layer, nothing kept.
#[track_caller]
fn nothing_came(host: &Host) {
    // A command that takes the lock sweeps.
    host.cocker("set-version test").ok();
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.layers(), 1);
    assert_eq!(host.entries("transfers"), Vec::<String>::new());
}

/// What sftp(1), who believes the server, makes of a file there.
fn naive_get(host: &Host, server: &SshServer, name: &str) -> Vec<u8> {
    let (ssh, got) = (server.file("bin/ssh"), host.folder("naive").join("got"));
    let _ = fs::remove_file(&got);
    let got_by = format!(
        "echo 'get {name} {}' | sftp -q -S {} -b - images",
        got.display(),
        ssh.display()
    );
    host.shell(&got_by).succeeds();
    fs::read(&got).expect("it was got")
}

fn only_names_of_images_are_listed(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let long = format!("{}.cockerimage", "x".repeat(200));
    for name in [
        &b"..cockerimage"[..],
        b"...cockerimage",
        b".hidden.cockerimage",
        b"-rf.cockerimage",
        b"a b.cockerimage",
        b"a\nb.cockerimage",
        b"\x1b]0;owned\x07.cockerimage",
        b"\xff\xfe.cockerimage",
        b"web:1:2.cockerimage",
        b"web:_.cockerimage",
        b"web:.cockerimage",
        b".cockerimage",
        b"web.cockerimage.part",
        "b\u{e4}r.cockerimage".as_bytes(),
        long.as_bytes(),
    ] {
        fs::write(server.home().join(OsStr::from_bytes(name)), b"x").expect("the home is ours");
    }
    fs::write(server.home().join("good:1.cockerimage"), b"x").expect("the home is ours");
    server
        .cocker(host, "ssearch -q --srepo images")
        .succeeds()
        .prints("good:1\n");
    let listing = server.cocker(host, "ssearch").succeeds();
    assert_eq!(listing.stdout().lines().count(), 3);
    assert!(
        listing
            .stdout
            .iter()
            .all(|byte| *byte == b'\n' || *byte >= b' ')
    );
    // Control: all of them are there, one steers whoever's terminal it is printed on, and one leads out of a store's folder.
    let naive = host.shell(&format!("ls -aN {}", server.home().display()));
    assert!(naive.stdout.contains(&0x1b));
    let up = "...cockerimage".trim_end_matches(".cockerimage");
    let naive = host.home().join("images").join(up);
    assert_eq!(naive.canonicalize().ok(), host.home().canonicalize().ok());
}

fn what_is_no_regular_file_is_refused(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let at = |name: &str| server.home().join(name);
    symlink("/etc/passwd", at("link.cockerimage")).expect("the home is ours");
    fs::create_dir(at("folder.cockerimage")).expect("the home is ours");
    for fifo in ["fifo.cockerimage", "sum.sha256"] {
        let made = Command::new("mkfifo").arg(at(fifo)).status();
        assert!(made.is_ok_and(|status| status.success()));
    }
    fs::write(at("sum.cockerimage"), b"x").expect("the home is ours");
    assert_eq!(found(&server, host, "--srepo images"), ["sum"]);
    for name in ["link", "folder", "fifo", "sum"] {
        server
            .cocker(host, &format!("spull {name}:_"))
            .refuses(&["no regular file"])
            .within(Duration::from_secs(20));
        nothing_came(host);
    }
    server.cocker(host, "spush test").ok();
    for name in ["link", "folder", "fifo"] {
        server
            .cocker(host, &format!("srm {name}:_"))
            .refuses(&["no regular file"]);
        assert!(
            at(&format!("{name}.cockerimage"))
                .symlink_metadata()
                .is_ok()
        );
    }
    // Control: who just gets has the file that the link leads to, and who just reads waits at the FIFO.
    let naive = naive_get(host, &server, "link.cockerimage");
    assert!(naive.starts_with(ROOT));
    host.shell(&format!("timeout 1 cat {}", at("sum.sha256").display()))
        .exits(124);
    // A regular file is as good as it looks.
    host.cocker("set-version test --version mine").ok();
    server.cocker(host, "spull test:_").ok();
}

fn a_hundred_thousand_files_are_listed_in_little_memory(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    for n in 0..100_000 {
        let name = match n % 10 {
            0 => format!("image{n}:1.0.cockerimage"),
            _ => format!("file{n}"),
        };
        File::create(server.home().join(name)).expect("the home is ours");
    }
    // Of address space, so of everything.
    let line = format!(
        "ulimit -v 150000; exec {} ssearch -q --srepo images",
        host.program().display()
    );
    let mut command = server.command(host, "");
    let path = command
        .get_envs()
        .find(|(name, _)| *name == "PATH")
        .and_then(|(_, value)| value.map(OsStr::to_os_string))
        .expect("it was set");
    command = host.command("sh");
    let output = command
        .args(["-c", &line])
        .env("PATH", path)
        .output()
        .expect("a shell is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let names = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(names, 10_000);
    server
        .cocker(host, "spull nowhere --srepo images")
        .refuses(&["there is no image `nowhere`"]);
    // Control: that is no room for whoever keeps what he is told.
    let keeps = "ulimit -v 150000; head -c 200M /dev/zero | tail -n 1 | wc -c";
    assert_ne!(host.shell(keeps).stdout().trim(), (200 << 20).to_string());
}

/// Says at its end that it is there, also where that is a panic: a thread that is waited for ends by it.
struct SetAtTheEnd<'a>(&'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn a_file_that_grows_is_refused(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", 30);
    server.cocker(host, "spush big --srepo images").ok();
    host.cocker("rm-image big").ok();
    host.cocker("prune").succeeds();
    fs::remove_file(server.home().join("big.sha256")).expect("it is there");
    let path = server.home().join("big.cockerimage");
    let length = path.metadata().expect("it is there").len();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = SetAtTheEnd(&is_over);
        scope.spawn(|| {
            let mut file = OpenOptions::new()
                .append(true)
                .open(&path)
                .expect("it is there");
            while !is_over.load(Ordering::SeqCst) {
                file.write_all(b"more").expect("the home is ours");
                thread::sleep(Duration::from_millis(1));
            }
        });
        let told = || path.metadata().expect("it is there").len();
        eventually("it grows", || told() > length);
        // On a busy machine it may stand still for the moment in which it is read.
        let refused = (0..20).find_map(|_| {
            let pulled = server.cocker(host, "spull big");
            if pulled.status.success() {
                host.cocker("rm-image big").ok();
                host.cocker("prune").succeeds();
                return None;
            }
            Some(pulled)
        });
        let refused = refused.expect("it grows while it is read");
        refused.refuses(&["changed while it was read", "try again"]);
        // Control: who reads to the end has more than he was told there is.
        let told = told();
        eventually("there is more to be read", || {
            fs::read(&path).is_ok_and(|read| read.len() as u64 > told)
        });
    });
    nothing_came(host);
    // The same file once it stays as it is.
    let whole = OpenOptions::new().write(true).open(&path);
    let cut = whole.and_then(|file| file.set_len(length));
    cut.expect("the home is ours");
    server.cocker(host, "spull big").ok();
}

fn a_file_that_is_not_what_its_sum_says_is_refused(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    server.cocker(host, "spush test --srepo images").ok();
    host.cocker("set-version test --version mine").ok();
    let at = |name: &str| server.home().join(name);
    let (file, sum) = (at("test.cockerimage"), at("test.sha256"));
    let (bytes, text) = (
        fs::read(&file).expect("it is there"),
        fs::read_to_string(&sum).expect("it is there"),
    );
    let refused = |named: &[&str]| {
        server.cocker(host, "spull test:_").refuses(named);
        assert_eq!(host.images(), ["test mine"]);
        assert_eq!(host.entries("transfers"), Vec::<String>::new());
    };
    // Whole as an archive, and another one.
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0; 100]);
    fs::write(&file, &longer).expect("the home is ours");
    refused(&["its SHA-256 is"]);
    // Control: without a sum the same file is an image.
    fs::remove_file(&sum).expect("it is there");
    server.cocker(host, "spull test:_").ok();
    host.cocker("rm-image test:_").ok();
    fs::write(&sum, &text).expect("the home is ours");
    for length in [0, 1, 5_000, bytes.len() - 1] {
        fs::write(&file, &bytes[..length]).expect("the home is ours");
        refused(&[]);
    }
    fs::write(&file, &bytes).expect("the home is ours");
    let zeros = format!("{}  test.cockerimage\n", "0".repeat(64));
    for bad in [
        "",
        "\n",
        "nonsense",
        &text.replace("test.", "../test."),
        &text.to_uppercase(),
        &text.repeat(2),
        &zeros,
        &"x".repeat(100_000),
    ] {
        fs::write(&sum, bad).expect("the home is ours");
        refused(&[]);
    }
    fs::write(&sum, &text).expect("the home is ours");
    server.cocker(host, "spull test:_").ok();
}

fn an_archive_of_an_enemy_reaches_nothing(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let outside = host.folder("outside");
    let tar = |arguments: &[&str], name: &str| {
        let packed = Command::new("tar")
            .arg("-czPf")
            .arg(server.home().join(name))
            .args(arguments)
            .current_dir(&outside)
            .stderr(Stdio::null())
            .status();
        assert!(packed.is_ok_and(|status| status.success()));
    };
    fs::write(outside.join("file"), b"owned").expect("the folder is ours");
    let elsewhere = host.folder("elsewhere");
    symlink(&elsewhere, outside.join("way")).expect("the folder is ours");
    tar(
        &["--transform=s|^file|../../../../owned|", "file"],
        "up.cockerimage",
    );
    tar(
        &["--transform=flags=r;s|^file|way/owned|", "way", "file"],
        "through.cockerimage",
    );
    // A bomb: a gibibyte of zeros, where so much was not allowed.
    let bomb = File::create(server.home().join("bomb.cockerimage")).expect("the home is ours");
    let packed = Command::new("sh")
        .args([
            "-c",
            "truncate -s 1G zeros && tar -cf - --transform=s/x/x/ zeros | gzip -1",
        ])
        .current_dir(&outside)
        .stdout(bomb)
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    for (name, more) in [("up", ""), ("through", ""), ("bomb", "--max-size 10M")] {
        server
            .cocker(host, &format!("spull {name} {more} --srepo images"))
            .refuses(&[]);
        nothing_came(host);
    }
    assert_eq!(entries(&elsewhere), [""; 0]);
    assert!(!host.home().join("owned").exists());
    // Control: tar(1), told to believe it, writes outside; and what is in the bomb is more than was allowed.
    let unpacked = host.folder("unpacked");
    let deep = unpacked.join("a/b/c/d");
    fs::create_dir_all(&deep).expect("the folder is ours");
    for (name, owned) in [("up", &unpacked), ("through", &elsewhere)] {
        let archive = server.home().join(format!("{name}.cockerimage"));
        let unpack = "tar --absolute-names --keep-directory-symlink -C";
        host.shell(&format!(
            "{unpack} {} -xzf {}",
            deep.display(),
            archive.display()
        ))
        .succeeds();
        assert!(owned.join("owned").exists(), "{name} does not lead out");
    }
    let bomb = server.home().join("bomb.cockerimage");
    let naive = host.shell(&format!(
        "gzip -dc < {} | head -c 11M | wc -c",
        bomb.display()
    ));
    assert_eq!(naive.stdout().trim(), (11 << 20).to_string());
    // The same file under a name of its own comes in.
    tar(&["file"], "good.cockerimage");
    server.cocker(host, "spull good --srepo images").ok();
}

fn a_manifest_of_an_enemy_is_refused(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    server
        .cocker(host, "spush --layers test --srepo images")
        .ok();
    host.cocker("rm-image test").ok();
    let images = server.home().join(".cocker/images");
    let layers = server.home().join(".cocker/layers");
    let path = images.join("test.json");
    let good: Value =
        serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("it is JSON");
    let refused = |value: &Value, why: &str| {
        fs::write(&path, value.to_string()).expect("the home is ours");
        server.cocker(host, "spull test:_").refuses(&[why]);
        assert_eq!(host.images(), Vec::<String>::new());
        assert_eq!(host.entries("transfers"), Vec::<String>::new());
        host.cocker("prune").succeeds();
        assert_eq!(host.layers(), 0);
        assert_eq!(found(&server, host, ""), ["test"]);
    };
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        value
    };
    let upwards = format!("{}etc/passwd", "../".repeat(30));
    for (value, why) in [
        (
            with(&|it| it["layers"][0]["digest"] = json!(format!("sha256:{upwards}"))),
            "is not a digest",
        ),
        (
            with(&|it| it["layers"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64)))),
            "a layer that it names is not there",
        ),
        (
            with(&|it| it["layers"][0]["size"] = json!(1)),
            "and the image says 1",
        ),
        (
            with(&|it| it["layers"][0]["size"] = json!(u64::MAX)),
            "and the image says",
        ),
        (with(&|it| it["layers"] = json!([])), "it names no layer"),
        (
            with(&|it| it["layers"] = json!(vec![it["layers"][0].clone(); 501])),
            "it names more than 500 layers",
        ),
        (
            with(&|it| it["image"] = json!("other")),
            "it is that of `other`",
        ),
        (with(&|it| it["format"] = json!(2)), "it has format 2"),
        (json!("x".repeat(2 << 20)), "more than 1048576"),
        (json!(null), "invalid type"),
    ] {
        refused(&value, why);
    }
    // Control: joined to the layers' folder as it is, that digest is the host's file; and nobody has the room that was said.
    let read = fs::read(layers.join(&upwards)).expect("it is there");
    assert!(read.starts_with(ROOT));
    assert!(
        Vec::<u8>::new()
            .try_reserve_exact(u64::MAX as usize)
            .is_err()
    );
    // A layer that is not what it is called, and one that is a way elsewhere.
    let digest = good["layers"][0]["digest"].as_str().expect("it is text");
    let layer = layers.join(digest.trim_start_matches("sha256:"));
    let bytes = fs::read(&layer).expect("it is there");
    let packed = Command::new("sh")
        .args(["-c", "cd /etc && tar -cf - hostname | zstd -q"])
        .output()
        .expect("a shell is there");
    fs::write(&layer, &packed.stdout).expect("the home is ours");
    refused(
        &with(&|it| it["layers"][0]["size"] = json!(packed.stdout.len())),
        "its SHA-256 is",
    );
    fs::remove_file(&layer).expect("it is there");
    symlink("/etc/passwd", &layer).expect("the home is ours");
    refused(&good, "no regular file");
    let name = layer.strip_prefix(server.home()).expect("it is there");
    let got = naive_get(host, &server, &name.display().to_string());
    assert!(got.starts_with(ROOT));
    fs::remove_file(&layer).expect("it is there");
    // While one manifest cannot be understood, no layer is removed.
    fs::write(&layer, &bytes).expect("the home is ours");
    fs::write(images.join("strange.json"), b"{").expect("the home is ours");
    fs::write(&path, good.to_string()).expect("the home is ours");
    server.cocker(host, "spull test:_").ok();
    server.cocker(host, "srm test").ok();
    assert!(layer.is_file());
}

fn a_server_that_speaks_something_else_is_refused(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let ssh = server.file("bin/ssh");
    let sound = fs::read(&ssh).expect("it is there");
    for (program, named) in [
        (
            "echo 'Welcome to the machine'; exec cat",
            "Welcome to the machine",
        ),
        ("exec cat /dev/zero", ""),
        ("printf '\\033]0;owned\\007\\n' >&2; exit 7", "owned"),
    ] {
        write_program(&ssh, "755", format!("#!/bin/sh\n{program}\n").as_bytes());
        let said = server
            .cocker(host, "ssearch --srepo images")
            .refuses(&[named])
            .within(Duration::from_secs(20))
            .stderr;
        assert!(!said.contains('\u{1b}') && said.len() < 10_000, "{said}");
        // Control: who prints whatever comes prints an escape, or without end.
        let naive = host.shell(&format!(
            "echo hello | {} images 2>&1 | head -c 20000",
            ssh.display()
        ));
        let naive = naive.stdout;
        let is_harmful = naive.contains(&0x1b) || naive.len() == 20_000;
        assert!(is_harmful || naive.ends_with(b"hello\n"), "{naive:?}");
    }
    write_program(&ssh, "755", &sound);
    server.cocker(host, "ssearch --srepo images").succeeds();
}
