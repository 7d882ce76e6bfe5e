//! Transfers that are broken off: nothing half anywhere, and the next try goes on where the last one was.

use super::add_big_image;
use crate::host::{Access, Host, SshServer, Way, eventually, make_key, with_image_test};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// So often a server dies.
const ROUNDS: u64 = 20;
const MEGABYTES: usize = 12;
/// What may be lost with a connection: what ssh has on its way (a channel's window, 2 MiB), what came after the last
/// whole mebibyte, and the small requests.
const LOST: u64 = 4 << 20;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_push_goes_on_after_a_server_has_died_at_any_byte,
        a_pull_goes_on_after_a_server_has_died_at_any_byte,
        layers_go_on_after_a_server_has_died_at_any_byte,
        a_push_goes_on_after_a_server_has_died_in_its_last_steps,
        a_push_whose_client_is_killed_at_any_moment_is_whole_or_not_there,
        a_pull_whose_client_is_killed_at_any_moment_is_whole_or_not_there,
        what_was_sent_of_another_image_is_not_gone_on_with,
        what_a_dead_disk_has_lost_is_sent_again,
        of_two_pushes_of_one_name_one_wins_whole,
        one_store_pushes_an_image_once_at_a_time,
        a_lock_that_was_left_is_broken_and_one_that_is_held_is_not,
        what_was_left_of_transfers_is_pruned,
    ]
}

/// A byte of `whole`, another one in every round and every run.
fn byte(round: u64, whole: u64) -> u64 {
    let step = whole / ROUNDS;
    let noise = Instant::now().elapsed().subsec_nanos() as u64
        ^ std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos().into());
    round * step + noise % step.max(1)
}

/// The names of files in a folder of a server, those of parts left out.
fn visible(server: &SshServer) -> Vec<String> {
    let mut names = server.names();
    names.retain(|name| !name.starts_with('.'));
    names
}

fn is_whole(server: &SshServer, name: &str) -> bool {
    let checked = Command::new("sha256sum")
        .args(["--quiet", "--strict", "-c", &format!("{name}.sha256")])
        .current_dir(server.home())
        .output();
    checked.is_ok_and(|output| output.status.success())
}

fn noise_of(host: &Host) -> Vec<u8> {
    fs::read(host.tree_of("big", "_").join("noise")).expect("the image is there")
}

#[track_caller]
fn is_the_same(one: &Path, other: &Path) {
    let same = Command::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(one)
        .arg(other)
        .status();
    assert!(same.is_ok_and(|status| status.success()));
}

/// Types `line` over a way that ends after so many bytes, where it is refused, and then once more; says how many bytes
/// passed then.
#[track_caller]
fn cut_and_again(server: &SshServer, host: &Host, line: &str, most: u64, half: &dyn Fn()) -> u64 {
    let way = Way::to(server, most);
    server.lead_to(way.port());
    server.cocker(host, line).refuses(&[]);
    drop(way);
    server.until_idle();
    age_lock(server);
    half();
    let way = Way::to(server, u64::MAX);
    server.lead_to(way.port());
    server.cocker(host, line).ok();
    server.lead_to(server.port());
    way.passed()
}

fn a_push_goes_on_after_a_server_has_died_at_any_byte(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    let whole = (MEGABYTES as u64) << 20;
    for round in 0..ROUNDS {
        let dies_at = byte(round, whole);
        let line = "spush big --srepo images";
        let passed = cut_and_again(&server, host, line, dies_at, &|| {
            assert_eq!(visible(&server), Vec::<String>::new(), "cut at {dies_at}");
        });
        assert!(passed < whole || dies_at < LOST, "cut at {dies_at}");
        assert_eq!(
            server.names(),
            ["big.cockerimage", "big.sha256"],
            "cut at {dies_at}"
        );
        assert!(is_whole(&server, "big"), "cut at {dies_at}");
        assert_eq!(host.entries("transfers"), Vec::<String>::new());
        server.cocker(host, "srm big --srepo images").ok();
        assert_eq!(server.names(), Vec::<String>::new(), "cut at {dies_at}");
    }
}

fn a_pull_goes_on_after_a_server_has_died_at_any_byte(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    let whole = (MEGABYTES as u64) << 20;
    server.cocker(host, "spush big --srepo images").ok();
    let noise = noise_of(host);
    let other = host.other_store();
    for round in 0..ROUNDS {
        let dies_at = byte(round, whole);
        let line = "spull big --srepo images";
        let passed = cut_and_again(&server, other, line, dies_at, &|| {
            assert_eq!(other.images(), ["test _"], "cut at {dies_at}");
            // A command that takes the lock sweeps.
            other.cocker("set-version test").ok();
            assert_eq!(other.layers(), 1, "cut at {dies_at}");
        });
        assert!(passed < whole || dies_at < LOST, "cut at {dies_at}");
        assert!(noise_of(other) == noise, "cut at {dies_at}");
        assert_eq!(other.entries("transfers"), Vec::<String>::new());
        other.cocker("rm-image big").ok();
    }
}

fn layers_go_on_after_a_server_has_died_at_any_byte(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    let whole = (MEGABYTES as u64) << 20;
    let noise = noise_of(host);
    let other = host.other_store();
    for round in [3, 9, 15] {
        let line = "spush --layers big --srepo images";
        cut_and_again(&server, host, line, byte(round, whole), &|| {
            let manifests = server.home().join(".cocker/images");
            let count = fs::read_dir(manifests).map_or(0, Iterator::count);
            assert_eq!(count, 0);
        });
        let line = "spull big --srepo images";
        cut_and_again(&server, other, line, byte(round, whole), &|| {
            assert_eq!(other.images(), ["test _"]);
        });
        assert!(noise_of(other) == noise);
        other.cocker("rm-image big").ok();
        server.cocker(host, "srm big --srepo images").ok();
    }
    let files = Command::new("find")
        .arg(server.home())
        .args(["-type", "f"])
        .output()
        .expect("find is there");
    assert_eq!(String::from_utf8_lossy(&files.stdout), "");
}

/// Makes a lock that is there as old as one that was left long ago.
fn age_lock(server: &SshServer) {
    if let Ok(lock) = fs::File::open(server.home().join(".cocker.lock")) {
        let old = std::time::SystemTime::now() - Duration::from_secs(600);
        lock.set_modified(old).expect("the home is ours");
    }
}

/// The files of an account, those that are hidden too, sorted. The lock of one that died is none: it stays until it is old.
fn all_files(server: &SshServer) -> Vec<String> {
    let found = Command::new("find")
        .args([".", "-type", "f", "-o", "-name", "..cocker.lock*"])
        .current_dir(server.home())
        .output()
        .expect("find is there");
    let text = String::from_utf8_lossy(&found.stdout);
    let mut files: Vec<String> = text.lines().map(String::from).collect();
    files.sort();
    files
}

/// They are some small requests, and it may die between any two of them.
fn a_push_goes_on_after_a_server_has_died_in_its_last_steps(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let key = host.folder("keys").join("calvin");
    make_key(&key);
    for form in ["", "--layers"] {
        let line = format!("spush test {form} --sign {} --srepo images", key.display());
        let way = Way::to(&server, u64::MAX);
        server.lead_to(way.port());
        server.cocker(host, &line).ok();
        let whole = way.passed();
        drop(way);
        server.lead_to(server.port());
        let right = all_files(&server);
        assert_eq!(right.len(), 3, "{right:?}");
        server.cocker(host, "srm test").ok();
        assert_eq!(all_files(&server), Vec::<String>::new());
        for before in (0..7_000).step_by(600) {
            let way = Way::to(&server, whole - before);
            server.lead_to(way.port());
            let first = server.cocker(host, &line);
            drop(way);
            server.lead_to(server.port());
            server.until_idle();
            age_lock(&server);
            if !first.status.success() {
                server.cocker(host, &line).ok();
            }
            let at = format!("{form} cut {before} bytes before its end: {}", first.stderr);
            assert_eq!(all_files(&server), right, "{at}");
            assert!(form == "--layers" || is_whole(&server, "test"), "{at}");
            assert_eq!(host.entries("transfers"), Vec::<String>::new(), "{at}");
            server.cocker(host, "srm test").ok();
        }
    }
}

/// Kills the client at moments that are spread over what it does.
fn at_some_moments(host: &Host, server: &SshServer, line: &str, mut after: impl FnMut(bool)) {
    let began = Instant::now();
    server.cocker(host, line).ok();
    let whole = began.elapsed();
    after(false);
    for part in 1..=10 {
        let moment = Instant::now() + whole * part / 10;
        let command = server.start_command(host, line);
        while Instant::now() < moment {
            std::thread::sleep(Duration::from_millis(1));
        }
        command.signal(Signal::KILL);
        let was_killed = command.outcome().status.code().is_none();
        // What was under way when it died arrives or not.
        server.until_idle();
        age_lock(server);
        after(was_killed);
    }
}

fn a_push_whose_client_is_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    at_some_moments(host, &server, "spush big --srepo images", |was_killed| {
        if was_killed {
            server.cocker(host, "ssearch --srepo images").succeeds();
        }
        if visible(&server).contains(&"big.cockerimage".into()) {
            let packed = server.home().join("big.cockerimage");
            let tested = Command::new("gzip")
                .arg("-t")
                .stdin(fs::File::open(packed).expect("it is there"))
                .status();
            assert!(tested.is_ok_and(|status| status.success()));
            server.cocker(host, "srm big --srepo images").ok();
            assert_eq!(visible(&server), Vec::<String>::new());
        }
        // The sum has its name a moment before the image.
        let left = visible(&server);
        assert!(
            left.is_empty() || (was_killed && left == ["big.sha256"]),
            "{left:?}"
        );
    });
    server.cocker(host, "spush big").ok();
    assert!(is_whole(&server, "big"));
    // The lock of one that was killed while it held it would be old by now, or nobody would wait for it.
    assert_eq!(server.names(), ["big.cockerimage", "big.sha256"]);
}

fn a_pull_whose_client_is_killed_at_any_moment_is_whole_or_not_there(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    server.cocker(host, "spush big --srepo images").ok();
    let noise = noise_of(host);
    let other = host.other_store();
    at_some_moments(other, &server, "spull big --srepo images", |_| {
        // A command that takes the lock sweeps.
        other.cocker("set-version test").ok();
        if other.images().len() == 2 {
            assert!(noise_of(other) == noise);
            other.cocker("rm-image big").ok();
        }
        other.cocker("check").succeeds();
        assert_eq!(other.layers(), 1);
    });
    server.cocker(other, "spull big").ok();
    assert!(noise_of(other) == noise);
    assert_eq!(other.entries("transfers"), Vec::<String>::new());
}

fn what_was_sent_of_another_image_is_not_gone_on_with(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    let way = Way::to(&server, 4 << 20);
    server.lead_to(way.port());
    server
        .cocker(host, "spush big --srepo images")
        .refuses(&["once more"]);
    // Another image of the same name.
    host.cocker("rm-image big").ok();
    host.cocker("copy-image --from-image test --to-image big")
        .ok();
    server.lead_to(server.port());
    server.cocker(host, "spush big --srepo images").ok();
    assert_eq!(server.names(), ["big.cockerimage", "big.sha256"]);
    assert!(is_whole(&server, "big"));

    // Another one there, of the same name, while one was being pulled.
    let other = host.other_store();
    let way = Way::to(&server, 4 << 20);
    server.lead_to(way.port());
    server
        .cocker(other, "spull big --srepo images")
        .refuses(&["once more"]);
    server.lead_to(server.port());
    host.cocker("rm-image big").ok();
    add_big_image(host, "big", 3);
    server.cocker(host, "spush big -f").ok();
    server.cocker(other, "spull big --srepo images").ok();
    is_the_same(&other.tree_of("big", "_"), &host.tree_of("big", "_"));
}

/// A file system that loses its power may keep a file's size and lose its bytes.
fn what_a_dead_disk_has_lost_is_sent_again(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    let way = Way::to(&server, 4 << 20);
    server.lead_to(way.port());
    server.cocker(host, "spush big --srepo images").refuses(&[]);
    let parts = server.names();
    assert_eq!(parts.len(), 1, "{parts:?}");
    let part = server.home().join(&parts[0]);
    let length = part.metadata().expect("it is there").len();
    fs::write(
        &part,
        vec![0; usize::try_from(length).expect("it is small")],
    )
    .expect("the home is ours");
    server.lead_to(server.port());
    server.cocker(host, "spush big --srepo images").ok();
    assert_eq!(server.names(), ["big.cockerimage", "big.sha256"]);
    host.cocker("copy-image --from-image big --to-image mine")
        .ok();
    host.cocker("rm-image big").ok();
    server.cocker(host, "spull big").ok();
    is_the_same(&host.tree_of("big", "_"), &host.tree_of("mine", "_"));
}

fn of_two_pushes_of_one_name_one_wins_whole(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let other = host.other_store();
    add_big_image(host, "big", 2);
    other
        .cocker("copy-image --from-image test --to-image big")
        .ok();
    for (round, forms) in [
        ["", ""],
        ["", "--layers"],
        ["--layers", "--layers"],
        ["-f", "-f"],
    ]
    .iter()
    .enumerate()
    {
        let line = |form: &str| format!("spush big {form} --srepo images");
        let started = [
            server.start_command(host, &line(forms[0])),
            server.start_command(other, &line(forms[1])),
        ];
        let ended = started.map(|started| started.feed(b"").outcome());
        let won: Vec<bool> = ended.iter().map(|it| it.status.success()).collect();
        let texts = format!("{}\n{}", ended[0].stderr, ended[1].stderr);
        if forms[0] == "-f" {
            assert_eq!(won, [true, true], "{texts}");
        } else {
            assert_ne!(won[0], won[1], "round {round}: {texts}");
            assert!(texts.contains("is there already"), "{texts}");
        }
        let (winner, loser) = if won[0] { (host, other) } else { (other, host) };
        // What is there is whole, and one of the two; the sum beside it is its own.
        loser.cocker("rm-image big").ok();
        server.cocker(loser, "spull big --srepo images").ok();
        if forms[0] != "-f" {
            is_the_same(&loser.tree_of("big", "_"), &winner.tree_of("big", "_"));
        }
        let left: Vec<String> = server
            .names()
            .into_iter()
            .filter(|name| name.contains("part"))
            .collect();
        assert_eq!(left, Vec::<String>::new());
        server.cocker(host, "srm big --srepo images").ok();
        loser.cocker("rm-image big").ok();
        if won[0] {
            other
                .cocker("copy-image --from-image test --to-image big")
                .ok();
        } else {
            add_big_image(host, "big", 2);
        }
    }
}

fn one_store_pushes_an_image_once_at_a_time(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", 2);
    // It waits for the lock on names, with all but the names there.
    let lock = server.home().join(".cocker.lock");
    fs::create_dir(&lock).expect("the home is ours");
    let first = server
        .start_command(host, "spush big --srepo images")
        .feed(b"");
    eventually("the first one has sent all", || {
        let names = server.names();
        names.iter().any(|name| name.starts_with(".big.sha256."))
    });
    server
        .cocker(host, "spush big --srepo images")
        .refuses(&["at it already", "wait"]);
    assert_eq!(visible(&server), Vec::<String>::new());
    fs::remove_dir(&lock).expect("nobody has broken it");
    first.outcome().ok();
    assert!(is_whole(&server, "big"));
}

fn a_lock_that_was_left_is_broken_and_one_that_is_held_is_not(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let lock = server.home().join(".cocker.lock");
    fs::create_dir(&lock).expect("the home is ours");
    age_lock(&server);
    server.cocker(host, "spush test --srepo images").ok();
    assert_eq!(server.names(), ["test.cockerimage", "test.sha256"]);
    // One with something in it goes out of the way.
    fs::create_dir(&lock).expect("the home is ours");
    fs::write(lock.join("x"), "").expect("the home is ours");
    age_lock(&server);
    server.cocker(host, "spush -f test").ok();
    assert_eq!(visible(&server), ["test.cockerimage", "test.sha256"]);
    assert!(!lock.exists());

    fs::create_dir(&lock).expect("the home is ours");
    let waiting = server.start_command(host, "srm test").feed(b"");
    // So long it waits at least, and no test has more patience than for the rest.
    std::thread::sleep(Duration::from_secs(20));
    assert!(waiting.is_running(), "{}", waiting.outcome());
    waiting.outcome().refuses(&[".cocker.lock", "rmdir"]);
    assert_eq!(visible(&server), ["test.cockerimage", "test.sha256"]);
    fs::remove_dir(&lock).expect("nobody has broken it");
    server.cocker(host, "srm test").ok();
}

fn what_was_left_of_transfers_is_pruned(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    add_big_image(host, "big", MEGABYTES);
    server.cocker(host, "spush big --srepo images").ok();
    let other = host.other_store();
    let way = Way::to(&server, 4 << 20);
    server.lead_to(way.port());
    server
        .cocker(other, "spull big --srepo images")
        .refuses(&[]);
    assert_eq!(other.entries("transfers").len(), 1);
    other.cocker("check").succeeds().prints("");
    let line = other.cocker("prune --dry-run").succeeds().stdout();
    assert!(line.contains("transfer"), "{line}");
    assert_eq!(other.entries("transfers").len(), 1);
    other.cocker("prune").succeeds();
    assert_eq!(other.entries("transfers"), Vec::<String>::new());
}
