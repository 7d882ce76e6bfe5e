//! Images in an account on a real ssh server: they go there, are found, come back, and whoever may not is refused.

pub mod broken_off;
pub mod enemies;

use crate::host::{Access, Host, SshServer, eventually, make_key, with_image_test};
use serde_json::Value;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_image_goes_there_and_comes_back,
        both_spellings_do_the_same,
        a_file_without_a_sum_is_pulled,
        the_newest_is_meant_and_marked,
        a_name_that_is_there_is_replaced_only_when_that_was_said,
        an_account_that_may_only_sftp_is_enough,
        a_jump_host_is_passed,
        a_folder_is_made_and_remembered,
        who_is_refused_reads_the_servers_own_words,
        a_server_without_room_keeps_nothing,
        a_folder_that_may_not_be_written_is_named,
        no_layer_is_sent_twice,
        what_is_here_is_not_asked_for,
        options_of_a_pull_hold_for_layers_too,
        a_layer_goes_with_the_last_image_that_has_it,
        a_signature_is_made_and_verified,
        a_signature_binds_name_version_and_content,
        a_passphrase_is_asked_at_a_terminal_only,
        a_terminal_is_told_how_far_it_has_come,
    ]
}

/// Puts an image of `megabytes` that cannot be compressed into the store.
pub fn add_big_image(host: &Host, name: &str, megabytes: usize) {
    host.add_image(name, |tree| {
        let mut state = 88_172_645_463_325_252u64;
        let mut noise = Vec::with_capacity(megabytes << 20);
        while noise.len() < megabytes << 20 {
            // xorshift64 (Marsaglia, 2003)
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend_from_slice(&state.to_ne_bytes());
        }
        fs::write(tree.join("noise"), &noise).expect("the store is ours");
        fs::create_dir(tree.join("etc")).expect("the store is ours");
        fs::write(tree.join("etc/name"), name).expect("the store is ours");
    });
}

/// `app:<version>` on `test`, with the version in `/word`.
fn add_app(host: &Host, version: &str) {
    host.booted("web");
    host.inside("web", &format!("echo {version} > /word"));
    host.cocker("shutdown web").ok();
    host.cocker(&format!(
        "to-image --from-container web --to-image app --version {version}"
    ))
    .ok();
}

#[track_caller]
fn says(host: &Host, image: &str, word: &str) {
    host.cocker(&format!("create -m {image} -c look -b")).ok();
    assert_eq!(host.inside("look", "cat /word"), word);
    host.cocker("destroy --shutdown look").ok();
}

/// The names that `ssearch` lists.
#[track_caller]
fn found(server: &SshServer, host: &Host, more: &str) -> Vec<String> {
    let listing = server.cocker(host, &format!("ssearch -q {more}"));
    let names = listing.succeeds().stdout();
    names.lines().map(String::from).collect()
}

fn an_image_goes_there_and_comes_back(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    server
        .cocker(host, "ssearch")
        .refuses(&["no repository was said yet", "--srepo"]);
    server
        .cocker(host, &format!("spush test --srepo {srepo}"))
        .ok();
    assert_eq!(server.names(), ["test.cockerimage", "test.sha256"]);
    // Anybody can look whether it is whole.
    let checked = Command::new("sha256sum")
        .args(["--strict", "-c", "test.sha256"])
        .current_dir(server.home())
        .output()
        .expect("sha256sum is there");
    assert_eq!(checked.stdout, b"test.cockerimage: OK\n");

    let listing = server.cocker(host, "ssearch").succeeds().stdout();
    let lines: Vec<&str> = listing.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["image_id", "modify_datetime", "size", "newest"]
    );
    assert!(
        lines[2].starts_with("test  ") && lines[2].ends_with(" *"),
        "{listing}"
    );
    assert_eq!(found(&server, host, "--match es"), ["test"]);
    assert_eq!(
        found(&server, host, "--match nothing"),
        Vec::<String>::new()
    );

    let other = host.other_store();
    other.cocker("set-version test --version 1").ok();
    server
        .cocker(other, &format!("spull test --srepo {srepo}"))
        .ok();
    assert_eq!(other.images(), ["test _", "test 1"]);
    assert_eq!(other.entries("transfers"), Vec::<String>::new());
    other.cocker("rm-image test:1").ok();
    other.booted("web");
    assert_eq!(other.inside("web", "echo works"), "works");
    assert_eq!(host.entries("transfers"), Vec::<String>::new());
    other.cocker("check").succeeds().prints("");

    server.cocker(host, "srm test").ok();
    assert_eq!(server.names(), Vec::<String>::new());
    server
        .cocker(host, "srm test")
        .refuses(&["there is no image `test`"]);
    server.cocker(host, "ssearch").succeeds().prints("");
    server
        .cocker(host, "ssearch --format json")
        .succeeds()
        .prints("[]\n");
}

fn both_spellings_do_the_same(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let line = |line: &str| server.cocker(host, line);
    host.cocker("copy-image --from-image test --to-image calvin=web:1.0")
        .ok();
    line(&format!(
        "-a spush -m calvin=web --srepo {}",
        server.address()
    ))
    .ok();
    let seed = line("-s ssearch --match web").succeeds().stdout();
    assert_eq!(seed, line("ssearch --match web").succeeds().stdout());
    let json = line("-s ssearch --format json").succeeds().stdout();
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let file = server.home().join("calvin=web:1.0.cockerimage");
    let size = file.metadata().expect("it is there").len();
    assert_eq!(json[0]["image_id"], "calvin=web");
    assert_eq!(json[0]["version"], "1.0");
    assert_eq!(json[0]["size"], size);
    assert_eq!(json[0]["newest"], true);
    assert_eq!(json[0]["layers"], false);
    host.cocker("rm-image calvin=web").ok();
    line("-a spull -m calvin=web:1.0").ok();
    assert_eq!(host.images(), ["calvin=web 1.0", "test _"]);
    line("-a srm -m calvin=web:1.0").ok();
    assert_eq!(server.names(), Vec::<String>::new());
}

/// As the program of old leaves them: nothing beside the file.
fn a_file_without_a_sum_is_pulled(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let tree = host.folder("old");
    fs::create_dir(tree.join("bin")).expect("the folder is ours");
    fs::write(tree.join("bin/word"), "old").expect("the folder is ours");
    let packed = Command::new("tar")
        .args(["-czf"])
        .arg(server.home().join("old:1.0.cockerimage"))
        .args(["-C", tree.to_str().expect("it is text"), "bin"])
        .status();
    assert!(packed.is_ok_and(|status| status.success()));
    let line = format!("spull old --srepo {}", server.address());
    server.cocker(host, &line).ok();
    assert_eq!(
        fs::read(host.tree_of("old", "1.0").join("bin/word")).expect("it came"),
        b"old"
    );
}

fn the_newest_is_meant_and_marked(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    for version in ["1.9.0", "1.10.0", "2"] {
        let name = if version == "2" { "other" } else { "web" };
        host.cocker(&format!(
            "copy-image --from-image test --to-image {name}:{version}"
        ))
        .ok();
        server
            .cocker(host, &format!("spush {name}:{version} --srepo {srepo}"))
            .ok();
    }
    assert_eq!(
        found(&server, host, ""),
        ["other:2", "web:1.9.0", "web:1.10.0"]
    );
    let json = server
        .cocker(host, "ssearch --format json")
        .succeeds()
        .stdout();
    let json: Value = serde_json::from_str(&json).expect("it is JSON");
    let newest: Vec<_> = (0..3).map(|at| json[at]["newest"] == true).collect();
    assert_eq!(newest, [true, false, true]);
    let other = host.other_store();
    server
        .cocker(other, &format!("spull web --srepo {srepo}"))
        .ok();
    assert_eq!(other.images(), ["test _", "web 1.10.0"]);
    server
        .cocker(other, "spull web")
        .refuses(&["image `web:1.10.0` exists already"]);
    server
        .cocker(other, "spull web:3")
        .refuses(&["there is no image `web:3`", "cocker ssearch"]);
}

fn a_name_that_is_there_is_replaced_only_when_that_was_said(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    server
        .cocker(host, &format!("spush test --srepo {srepo}"))
        .ok();
    let file = server.home().join("test.cockerimage");
    let before = fs::read(&file).expect("it is there");
    server
        .cocker(host, "spush test")
        .refuses(&["image `test` is there already", "--forcely"]);
    server
        .cocker(host, "spush test --layers")
        .refuses(&["image `test` is there already"]);
    assert_eq!(fs::read(&file).expect("it is there"), before);

    server.cocker(host, "spush test -f --compress zstd").ok();
    let after = fs::read(&file).expect("it is there");
    assert_ne!(after, before);
    server
        .cocker(host.other_store(), &format!("spull test --srepo {srepo}"))
        .refuses(&["exists already"]);
    host.other_store().cocker("rm-image test").ok();
    server
        .cocker(host.other_store(), "spull test --srepo nowhere.invalid")
        .refuses(&[]);
    server
        .cocker(host.other_store(), &format!("spull test --srepo {srepo}"))
        .ok();

    // In its other form it is the same image.
    server.cocker(host, "spush test -f --layers").ok();
    assert_eq!(found(&server, host, ""), ["test"]);
    assert_eq!(server.names(), [".cocker"]);
    server.cocker(host, "spush test -f").ok();
    assert_eq!(
        server.names(),
        [".cocker", "test.cockerimage", "test.sha256"]
    );
    assert_eq!(
        fs::read_dir(server.home().join(".cocker/images"))
            .expect("it is there")
            .count(),
        0
    );
}

fn an_account_that_may_only_sftp_is_enough(host: &Host) {
    let server = SshServer::start(host, Access::SftpInChroot);
    let srepo = server.address();
    // No command can be run there.
    let refused = Command::new(server.file("bin/ssh"))
        .args([
            "-p",
            &server.port().to_string(),
            "root@127.0.0.1",
            "echo in",
        ])
        .output()
        .expect("ssh is there");
    let said = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(said, "This service allows sftp connections only.\n");
    assert!(!refused.status.success());
    server
        .cocker(host, &format!("spush test --srepo {srepo}/team/a"))
        .ok();
    server
        .cocker(host, &format!("spush --layers test:_ --srepo {srepo}"))
        .ok();
    assert_eq!(server.names(), [".cocker", "team"]);
    let other = host.other_store();
    other.cocker("rm-image test").ok();
    server
        .cocker(other, &format!("spull test --srepo {srepo}//team/a"))
        .ok();
    other.cocker("rm-image test").ok();
    server
        .cocker(other, &format!("spull test --srepo {srepo}"))
        .ok();
    other.booted("web");
    assert_eq!(other.inside("web", "echo works"), "works");
}

fn a_jump_host_is_passed(host: &Host) {
    let jump = SshServer::start(host, Access::Everything);
    let server = SshServer::start(host, Access::SftpInChroot);
    let known = fs::read_to_string(jump.file("known_hosts")).expect("it was written");
    let here = fs::read_to_string(server.file("known_hosts")).expect("it was written");
    fs::write(server.file("known_hosts"), here + &known).expect("the folder is ours");
    server.configure(&format!(
        "Host jump\n HostName 127.0.0.1\n Port {}\n User root\n IdentityFile {}\n\
         Host images\n HostName 127.0.0.1\n Port {}\n User root\n ProxyJump jump",
        jump.port(),
        jump.file("id").display(),
        server.port(),
    ));
    // A name that only ssh's configuration knows, with its user, its port and its way.
    server.cocker(host, "spush test --srepo images").ok();
    assert_eq!(server.names(), ["test.cockerimage", "test.sha256"]);
    let log = fs::read_to_string(jump.file("log")).expect("it was written");
    assert!(log.contains("Accepted publickey for root"), "{log}");
    host.cocker("rm-image test").ok();
    server.cocker(host, "spull test").ok();
}

fn a_folder_is_made_and_remembered(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = format!("{}/team/images", server.address());
    server
        .cocker(host, &format!("ssearch --srepo {srepo}"))
        .refuses(&["there is no folder `team/images`"]);
    // What could not be done is not remembered.
    server
        .cocker(host, "ssearch")
        .refuses(&["no repository was said yet"]);
    server
        .cocker(host, &format!("spush test --srepo {srepo}"))
        .ok();
    assert!(server.home().join("team/images/test.cockerimage").is_file());
    assert_eq!(found(&server, host, ""), ["test"]);
    assert_eq!(
        fs::read_to_string(host.home().join("srepo")).expect("it is remembered"),
        format!("{srepo}\n")
    );
    fs::write(host.home().join("srepo"), "-oProxyCommand=x\n").expect("the home is ours");
    server
        .cocker(host, "ssearch")
        .refuses(&["srepo", "--srepo"]);
    for bad in ["-oProxyCommand=x", "a b@host", "root@host:0", "root@::1"] {
        server
            .cocker(host, &format!("ssearch --srepo='{bad}'"))
            .fails(2, &["USER@HOST"]);
    }
}

fn who_is_refused_reads_the_servers_own_words(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let line = format!("ssearch --srepo {}", server.address());
    let known = server.file("known_hosts");
    let right = fs::read(&known).expect("it was written");

    // A server that nobody knows. No prompt: there is no terminal.
    fs::write(&known, "").expect("the folder is ours");
    server
        .cocker(host, &line)
        .refuses(&["Host key verification failed", "known_hosts"]);
    // Another server in the place of the one that is known.
    make_key(&server.file("another"));
    let key = fs::read_to_string(server.file("another.pub")).expect("it was made");
    fs::write(&known, format!("[127.0.0.1]:{} {key}", server.port())).expect("the folder is ours");
    server
        .cocker(host, &line)
        .refuses(&["Host key verification failed", "known_hosts"]);
    fs::write(&known, right).expect("the folder is ours");

    // A key that nobody lets in.
    fs::rename(server.file("another"), server.file("id")).expect("the folder is ours");
    fs::remove_file(server.file("id.pub")).expect("the folder is ours");
    make_key_pair_differ(&server);
    server
        .cocker(host, &line)
        .refuses(&["Permission denied (publickey", "agent"]);

    // Nobody there.
    server
        .cocker(host, "ssearch --srepo root@127.0.0.1:1")
        .refuses(&["Connection refused", "ssh -v"]);
    // No ssh at all.
    let nothing = host.folder("nothing");
    let mut command = host.cocker_command(&line);
    let output = command
        .env("PATH", &nothing)
        .output()
        .expect("cocker starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("ssh"), "{said}");
    assert_eq!(host.entries("transfers"), Vec::<String>::new());
}

/// The server lets in whoever has the key that it reads when somebody comes.
fn make_key_pair_differ(server: &SshServer) {
    make_key(&server.file("stranger"));
    fs::rename(server.file("stranger.pub"), server.file("id.pub")).expect("the folder is ours");
}

fn a_server_without_room_keeps_nothing(host: &Host) {
    let server = SshServer::start_on_a_small_disk(host);
    let srepo = server.address();
    add_big_image(host, "big", 12);
    for form in ["", "--layers"] {
        server
            .cocker(host, &format!("spush big {form} --srepo {srepo}"))
            .refuses(&["no room is left", "cocker srm"]);
        let files = Command::new("find")
            .arg(server.home())
            .args(["-type", "f"])
            .output()
            .expect("find is there");
        assert_eq!(String::from_utf8_lossy(&files.stdout), "", "{form}");
        assert_eq!(host.entries("transfers"), Vec::<String>::new(), "{form}");
    }
    // What fits goes there all the same.
    add_big_image(host, "small", 1);
    server
        .cocker(host, &format!("spush small --srepo {srepo}"))
        .ok();
    // Not even the lock fits any more: an image can be removed all the same.
    let full = (0..1000).find(|n| File::create(server.home().join(format!("fill{n}"))).is_err());
    assert!(full.is_some());
    server.cocker(host, "srm small").ok();
    assert!(!server.home().join("small.cockerimage").exists());
}

fn a_folder_that_may_not_be_written_is_named(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    // Somebody who is nobody there, and may enter and read.
    let srepo = format!("nobody@127.0.0.1:{}", server.port());
    server
        .cocker(host, &format!("spush test --srepo {srepo}"))
        .refuses(&["permission denied", "--srepo"]);
    assert_eq!(server.names(), Vec::<String>::new());
    assert_eq!(host.entries("transfers"), Vec::<String>::new());
    server
        .cocker(host, &format!("spush test --srepo {}", server.address()))
        .ok();
    server
        .cocker(host, &format!("srm test --srepo {srepo}"))
        .refuses(&["permission denied"]);
    assert_eq!(server.names(), ["test.cockerimage", "test.sha256"]);
    // Nor read.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(server.home().join("test.cockerimage"), mode).expect("the home is ours");
    let other = host.other_store();
    other.cocker("rm-image test").ok();
    server
        .cocker(other, &format!("spull test --srepo {srepo}"))
        .refuses(&["permission denied", "allowed to read"]);
}

/// The files of layers there, by name.
fn layers_of(server: &SshServer) -> Vec<String> {
    let folder = server.home().join(".cocker/layers");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn no_layer_is_sent_twice(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    add_app(host, "1");
    server
        .cocker(host, &format!("spush --layers app --srepo {srepo}"))
        .ok();
    let first = layers_of(&server);
    assert_eq!(first.len(), 2);
    let stamp = |name: &str| {
        let path = server.home().join(".cocker/layers").join(name);
        let file = path.metadata().expect("it is there");
        (
            std::os::unix::fs::MetadataExt::ino(&file),
            file.modified().expect("it has a time"),
        )
    };
    let before: Vec<_> = first.iter().map(|name| stamp(name)).collect();
    // A second image on the same base, and a copy under another name.
    add_app(host, "2");
    let debug = server
        .cocker(host, "-d spush --layers app:2")
        .succeeds()
        .stderr;
    assert!(debug.contains("sent=1 of=2"), "{debug}");
    host.cocker("copy-image --from-image app:2 --to-image copy")
        .ok();
    let debug = server
        .cocker(host, "-d spush --layers copy")
        .succeeds()
        .stderr;
    assert!(debug.contains("sent=0 of=2"), "{debug}");
    assert_eq!(layers_of(&server).len(), 3);
    let after: Vec<_> = first.iter().map(|name| stamp(name)).collect();
    assert_eq!(before, after);
    assert_eq!(found(&server, host, ""), ["app:1", "app:2", "copy"]);
    // No name of a layer lies.
    for name in layers_of(&server) {
        let line = format!("zstd -dcq .cocker/layers/{name} | sha256sum");
        let sum = Command::new("sh")
            .args(["-c", &line])
            .current_dir(server.home())
            .output()
            .expect("a shell is there");
        assert_eq!(String::from_utf8_lossy(&sum.stdout), format!("{name}  -\n"));
    }
}

fn what_is_here_is_not_asked_for(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    add_app(host, "1");
    add_app(host, "2");
    for version in ["1", "2"] {
        server
            .cocker(
                host,
                &format!("spush --layers app:{version} --srepo {srepo}"),
            )
            .ok();
    }
    let other = host.other_store();
    other.cocker("rm-image test").ok();
    assert_eq!(other.layers(), 0);
    // All of it comes, and then only what is new.
    server
        .cocker(other, &format!("spull app:1 --srepo {srepo}"))
        .ok();
    assert_eq!(other.layers(), 2);
    says(other, "app:1", "1");
    server.cocker(other, "spull app:2").ok();
    assert_eq!(other.layers(), 3);
    says(other, "app:2", "2");
    other
        .cocker("copy-image --from-image app:2 --to-image kept")
        .ok();
    other.cocker("rm-image app:2").ok();
    server.cocker(other, "spull app:2").ok();
    assert_eq!(other.layers(), 3);
    says(other, "app:2", "2");
    other.cocker("check").succeeds().prints("");
}

fn options_of_a_pull_hold_for_layers_too(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    host.booted("web");
    host.inside("web", "head -c 1500000 /dev/urandom > /noise");
    host.cocker("shutdown web").ok();
    host.cocker("to-image --from-container web --to-image app")
        .ok();
    server
        .cocker(host, "spush --layers app --srepo images")
        .ok();
    let sum = Command::new("du")
        .args(["-sb", "--count-links"])
        .arg(host.tree_of("test", "_"))
        .output()
        .expect("du is there");
    let sum = String::from_utf8_lossy(&sum.stdout);
    let below: u64 = sum
        .split_whitespace()
        .next()
        .and_then(|size| size.parse().ok())
        .expect("a number");

    let other = host.other_store();
    other.cocker("rm-image test").ok();
    // Each of the two layers has so much, and both together have more.
    let most = below.max(1_500_000) + 700_000;
    server
        .cocker(
            other,
            &format!("spull app --max-size {most} --srepo images"),
        )
        .refuses(&["--max-size"]);
    // Its own layer alone.
    server
        .cocker(other, "spull app --no-base --srepo images")
        .ok();
    assert_eq!(other.layers(), 1);
    other.cocker("rm-image app").ok();
    server.cocker(other, "spull app").ok();
    assert_eq!(other.layers(), 2);
}

fn a_layer_goes_with_the_last_image_that_has_it(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    for version in ["1", "2"] {
        add_app(host, version);
        server
            .cocker(
                host,
                &format!("spush --layers app:{version} --srepo {srepo}"),
            )
            .ok();
    }
    assert_eq!(layers_of(&server).len(), 3);
    server.cocker(host, "srm app:2").ok();
    assert_eq!(layers_of(&server).len(), 2);
    host.cocker("rm-image app:1").ok();
    server.cocker(host, "spull app:1").ok();
    says(host, "app:1", "1");
    server.cocker(host, "srm app").ok();
    assert_eq!(layers_of(&server), Vec::<String>::new());
    assert_eq!(found(&server, host, ""), Vec::<String>::new());
}

/// Writes a file of allowed signers with one line: `who`, and the public half of `key`.
fn allow(host: &Host, who: &str, key: &Path) -> String {
    let public = fs::read_to_string(key.with_extension("pub")).expect("the key was made");
    let path = host.folder("files").join(format!("allowed-{who}"));
    fs::write(&path, format!("{who} {public}")).expect("the folder is ours");
    path.display().to_string()
}

fn a_signature_is_made_and_verified(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    let keys = host.folder("keys");
    let (calvin, eve) = (keys.join("calvin"), keys.join("eve"));
    make_key(&calvin);
    make_key(&eve);
    let sign = calvin.display();
    server
        .cocker(host, &format!("spush test --sign {sign} --srepo {srepo}"))
        .ok();
    assert_eq!(
        server.names(),
        ["test.cockerimage", "test.sha256", "test.sha256.sig"]
    );
    let allowed = allow(host, "calvin@example", &calvin);
    // With nothing but OpenSSH.
    let verified = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "ssh-keygen -Y verify -f {allowed} -I calvin@example -n cocker-image \
             -s test.sha256.sig < test.sha256"
        ))
        .current_dir(server.home())
        .output()
        .expect("a shell is there");
    assert!(verified.status.success(), "{verified:?}");

    host.cocker("rm-image test").ok();
    let strangers = allow(host, "eve", &eve);
    server
        .cocker(host, &format!("spull test --verify {strangers}"))
        .refuses(&["the signer is not in"]);
    server
        .cocker(host, "spull test --verify /nowhere/allowed")
        .refuses(&["/nowhere/allowed"]);
    assert_eq!(host.images(), Vec::<String>::new());
    let debug = server
        .cocker(host, &format!("-d spull test --verify {allowed}"))
        .succeeds()
        .stderr;
    assert!(debug.contains("signed by calvin@example"), "{debug}");

    // The same of layers, and of what is not signed.
    server
        .cocker(host, &format!("spush test -f --layers --sign {sign}"))
        .ok();
    host.cocker("rm-image test").ok();
    server
        .cocker(host, &format!("spull test --verify {strangers}"))
        .refuses(&["the signer is not in"]);
    server
        .cocker(host, &format!("spull test --verify {allowed}"))
        .ok();
    server.cocker(host, "spush test -f").ok();
    host.cocker("rm-image test").ok();
    server
        .cocker(host, &format!("spull test --verify {allowed}"))
        .refuses(&["is not signed", "--sign"]);
    assert_eq!(host.layers(), 0);
}

fn a_signature_binds_name_version_and_content(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    let key = host.folder("keys").join("calvin");
    make_key(&key);
    let allowed = allow(host, "calvin", &key);
    let sign = key.display();
    for version in ["1", "2"] {
        host.cocker(&format!(
            "copy-image --from-image test --to-image web:{version}"
        ))
        .ok();
        server
            .cocker(
                host,
                &format!("spush web:{version} --sign {sign} --srepo {srepo}"),
            )
            .ok();
        host.cocker(&format!("rm-image web:{version}")).ok();
    }
    let at = |name: &str| server.home().join(name);
    let pull = format!("spull web:2 --verify {allowed}");
    // An old image with its old signature under the name of the new one.
    for ending in ["cockerimage", "sha256", "sha256.sig"] {
        fs::copy(
            at(&format!("web:1.{ending}")),
            at(&format!("web:2.{ending}")),
        )
        .expect("the home is ours");
    }
    server
        .cocker(host, &pull)
        .refuses(&["it is that of another file"]);
    // The old signature on a text that fits.
    let sum = fs::read_to_string(at("web:1.sha256")).expect("it is there");
    fs::write(at("web:2.sha256"), sum.replace("web:1", "web:2")).expect("the home is ours");
    server
        .cocker(host, &pull)
        .refuses(&["does not fit the content"]);
    // Other content under a signature that is good.
    fs::write(at("web:1.cockerimage"), b"something else").expect("the home is ours");
    server
        .cocker(host, &format!("spull web:1 --verify {allowed}"))
        .refuses(&[]);
    assert_eq!(host.images(), ["test _"]);
    assert_eq!(host.layers(), 1);
}

fn a_passphrase_is_asked_at_a_terminal_only(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    let key = host.folder("keys").join("calvin");
    let made = Command::new("ssh-keygen")
        .args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "open sesame",
            "-C",
            "test",
            "-f",
        ])
        .arg(&key)
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    let line = format!("spush test --sign {} --srepo {srepo}", key.display());
    server
        .cocker(host, &line)
        .refuses(&["encrypted", "ssh-add"]);
    assert_eq!(server.names(), Vec::<String>::new());

    let mut terminal = server.terminal(host, &line);
    terminal.expect("Passphrase of");
    terminal.type_keys("open sesams\x7fe\r");
    terminal.expect("OK");
    terminal.exits(0);
    assert!(
        !terminal.screen().contains("sesam"),
        "{}",
        terminal.screen()
    );
    let mut terminal = server.terminal(host, &line);
    terminal.expect("Passphrase of");
    terminal.type_keys("wrong\r");
    terminal.expect("the passphrase is wrong");
    terminal.exits(1);
    let mut terminal = server.terminal(host, &line);
    terminal.expect("Passphrase of");
    terminal.type_keys("\x03");
    terminal.exits(1);
}

fn a_terminal_is_told_how_far_it_has_come(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let srepo = server.address();
    add_big_image(host, "big", 40);
    let mut terminal = server.terminal(host, &format!("spush big --srepo {srepo}"));
    terminal.expect("push ");
    terminal.expect(" MB/s");
    terminal.expect("OK");
    terminal.exits(0);
    host.cocker("rm-image big").ok();
    let mut terminal = server.terminal(host, "spull big");
    terminal.expect("pull ");
    terminal.expect(" left");
    terminal.expect("OK");
    terminal.exits(0);
    // A pipe is told nothing.
    server.cocker(host, "spush big -f").ok();
    eventually("the image is there", || found(&server, host, "") == ["big"]);
}
