//! Recordings: what a command printed, as `asciinema play` shows it again, for the user and for the administrator.

use crate::host::{Host, with_image_test};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        what_a_command_prints_is_recorded_and_passed_on_unchanged,
        a_recording_can_be_played,
        a_file_that_is_there_is_replaced_only_when_told,
        a_command_that_does_not_start_leaves_no_recording,
        a_recording_that_cannot_be_written_stops_nothing,
        what_a_killed_client_has_recorded_can_be_played,
        the_administrator_has_every_command_recorded,
        one_recording_is_no_larger_than_allowed,
        the_oldest_recordings_make_room,
        recordings_are_no_part_of_a_containers_files,
        a_command_that_must_be_recorded_and_cannot_be_is_not_run,
        what_a_session_shows_is_recorded,
        the_administrator_has_every_session_recorded,
        a_recorded_session_is_no_larger_than_allowed,
        a_session_that_must_be_recorded_and_cannot_be_is_not_opened,
    ]
}

/// A recording: its first line, and its events.
struct Played {
    header: Value,
    events: Vec<(f64, String, String)>,
}

impl Played {
    /// All that was printed. In the recording lines end as a terminal ends them.
    fn text(&self) -> String {
        let printed = self.events.iter().filter(|(_, code, _)| code == "o");
        let printed: String = printed.map(|(_, _, text)| text.as_str()).collect();
        let ends = printed.matches('\n').count();
        assert_eq!(printed.matches("\r\n").count(), ends, "every line ends so");
        printed.replace("\r\n", "\n")
    }
}

/// Reads a recording as asciicast v2 says it must look.
#[track_caller]
fn played(path: &Path) -> Played {
    let text = text_of(path);
    assert!(text.ends_with('\n'), "the last line is whole");
    understood(&text)
}

/// The same of one whose writer was killed: the kernel may have broken off its last write between two pages.
#[track_caller]
fn played_to_its_end(path: &Path) -> Played {
    let text = text_of(path);
    let end = text.rfind('\n').expect("a line");
    understood(&text[..=end])
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[track_caller]
fn understood(text: &str) -> Played {
    let mut lines = text.lines();
    let header: Value = serde_json::from_str(lines.next().expect("a first line")).expect("JSON");
    assert_eq!(header["version"], 2);
    assert!(header["width"].as_u64() > Some(0) && header["height"].as_u64() > Some(0));
    let mut before = 0.0;
    let events = lines.map(|line| {
        let event: (f64, String, String) = serde_json::from_str(line).expect(line);
        assert!(event.0 >= before, "time goes on: {line}");
        assert!(["o", "r", "m"].contains(&event.1.as_str()), "{line}");
        before = event.0;
        event
    });
    Played {
        events: events.collect(),
        header,
    }
}

fn configure(host: &Host, text: &str) {
    fs::write(host.home().join("config.toml"), text).expect("the home is ours");
}

/// The recordings of container `name`, oldest first.
fn recordings(host: &Host, name: &str) -> Vec<PathBuf> {
    let folder = host.home().join("containers").join(name).join("recordings");
    match folder.exists() {
        false => Vec::new(),
        true => crate::host::entries(&folder)
            .iter()
            .map(|name| folder.join(name))
            .collect(),
    }
}

fn what_a_command_prints_is_recorded_and_passed_on_unchanged(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("run.cast");
    let record = |line: &str| {
        let _ = fs::remove_file(&file);
        host.cocker(&format!("run web --record {} -- {line}", file.display()))
    };
    let outcome = record("seq 1 100000").succeeds().complains("");
    assert_eq!(outcome.stdout().lines().count(), 100_000);
    assert_eq!(played(&file).text(), outcome.stdout());

    record("sh -c 'echo out; echo err >&2; exit 7'")
        .exits(7)
        .prints("out\n")
        .complains("err\n");
    let text = played(&file).text();
    assert!(text == "out\nerr\n" || text == "err\nout\n", "{text}");

    // What is no text is passed on as it is, and recorded as well as text can.
    let outcome = record("head -c 300000 /dev/urandom").succeeds();
    assert_eq!(outcome.stdout.len(), 300_000);
    assert!(played(&file).text() == String::from_utf8_lossy(&outcome.stdout));

    // A character whose halves come one after the other, and another stream's in between.
    record("sh -c \"printf '\\303'; sleep 2; printf 'x' >&2; sleep 2; printf '\\244'\"")
        .succeeds()
        .prints("ä")
        .complains("x");
    assert_eq!(played(&file).text(), "xä");

    let started = host.start(&format!(
        "-a run -c web -f --record {} --cmd cat",
        file.display()
    ));
    started
        .feed("in\n".as_bytes())
        .outcome()
        .succeeds()
        .prints("in\n");
    assert_eq!(played(&file).text(), "in\n");
}

fn a_recording_can_be_played(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("run.cast");
    let mut command = vec!["run", "web", "--record"];
    command.extend([file.to_str().expect("text"), "--env", "TOKEN=s3cret", "--"]);
    command.extend([
        "sh",
        "-c",
        "printf '\\033[1mbold\\033[0m\\n'; sleep 0.3; echo \"$1\"",
        "sh",
        "a  b",
    ]);
    host.cocker_words(&command).succeeds();
    let cast = played(&file);
    assert_eq!(
        (&cast.header["width"], &cast.header["height"]),
        (&80.into(), &24.into())
    );
    assert_eq!(cast.header["title"], "web");
    assert!(cast.header["timestamp"].as_u64() > Some(1_700_000_000));
    let said = cast.header["command"].as_str().expect("text");
    let words = shell_words(host, said);
    assert_eq!(words.last().map(String::as_str), Some("a  b"), "{said}");
    assert_eq!(cast.text(), "\u{1b}[1mbold\u{1b}[0m\na  b\n");
    let times: Vec<f64> = cast.events.iter().map(|event| event.0).collect();
    assert!(
        times.last() >= Some(&0.3) && times.last() < Some(&20.0),
        "{times:?}"
    );
    let text = fs::read(&file).expect("it is there");
    assert!(text.iter().all(|byte| *byte == b'\n' || *byte >= b' '));
    assert!(!String::from_utf8_lossy(&text).contains("s3cret"));
    assert_eq!(
        fs::metadata(&file)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o7777,
        0o600
    );
}

/// Splits a line as the host's shell does.
fn shell_words(host: &Host, line: &str) -> Vec<String> {
    let outcome = host.shell(&format!("printf '%s\\0' {line}")).succeeds();
    let output = outcome.stdout();
    output.split_terminator('\0').map(String::from).collect()
}

fn a_file_that_is_there_is_replaced_only_when_told(host: &Host) {
    host.booted("web");
    let folder = host.folder("casts");
    let file = folder.join("run.cast");
    let kept = folder.join("kept");
    fs::write(&file, "old").expect("the folder is ours");
    fs::write(&kept, "kept").expect("the folder is ours");
    let line = |options: &str, file: &Path| {
        format!(
            "run web {options} --record {} -- touch /ran",
            file.display()
        )
    };
    host.cocker(&line("", &file))
        .fails(125, &["run.cast", "exists already", "Hint: "]);
    assert_eq!(fs::read(&file).expect("it is there"), b"old");
    host.cocker(&line("-f", &file)).succeeds();
    assert_eq!(played(&file).text(), "");
    // A link is replaced, and not what it leads to.
    let link = folder.join("link");
    symlink(&kept, &link).expect("the folder is ours");
    host.cocker(&line("", &link)).fails(125, &["link"]);
    host.cocker(&line("-f", &link)).succeeds();
    assert_eq!(fs::read(&kept).expect("it is there"), b"kept");
    assert_eq!(played(&link).text(), "");
    assert_eq!(crate::host::entries(&folder), ["kept", "link", "run.cast"]);
    // What is no file is never replaced.
    host.cocker("run web -- rm /ran").succeeds();
    for other in [Path::new("/dev/null"), &folder, &folder.join("no/such")] {
        for options in ["", "-f"] {
            host.cocker(&line(options, other))
                .fails(125, &["cannot record into"]);
        }
    }
    assert!(folder.is_dir() && !Path::new("/dev/null").is_file());
    host.cocker("run web -- test -e /ran").exits(1);
}

fn a_command_that_does_not_start_leaves_no_recording(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("run.cast");
    for (line, status) in [
        ("web --user nobody-there -- true", 125),
        ("web -- no-such-command", 127),
    ] {
        let (name, rest) = line.split_at(3);
        host.cocker(&format!("run {name} --record {}{rest}", file.display()))
            .exits(status);
        assert!(!file.exists(), "{line}");
        // What is there already is not lost for nothing.
        fs::write(&file, "old").expect("the folder is ours");
        host.cocker(&format!("run {name} -f --record {}{rest}", file.display()))
            .exits(status);
        assert_eq!(fs::read(&file).expect("it is there"), b"old");
        fs::remove_file(&file).expect("the folder is ours");
    }
    assert_eq!(crate::host::entries(&host.folder("casts")).len(), 0);
}

fn a_recording_that_cannot_be_written_stops_nothing(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("run.cast");
    // A limit on the size of files stands for a full disk; in blocks of 512 bytes.
    let line = format!(
        "trap '' XFSZ; ulimit -f 20; cocker run web --record {} -- sh -c 'seq 1 10000; exit 7' | wc -l; \
         cocker run web -f --record {0} -- sh -c 'seq 1 10000; exit 7' >/dev/null; echo $?",
        file.display()
    );
    let outcome = host.shell(&line).succeeds().prints("10000\n7\n");
    let told = "Error: cannot write recording `";
    assert_eq!(outcome.stderr.matches(told).count(), 2, "{outcome}");
    assert!(outcome.stderr.contains("File too large"), "{outcome}");
    // What is there is whole.
    let cast = played(&file);
    assert!(fs::metadata(&file).expect("it is there").len() <= 20 * 512);
    let text: String = (1..=10_000).map(|number| format!("{number}\n")).collect();
    assert!(text.starts_with(&cast.text()));
}

fn what_a_killed_client_has_recorded_can_be_played(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("run.cast");
    let mut started = host.start(&format!(
        "run web --record {} -- sh -c 'while echo line; do :; done'",
        file.display()
    ));
    started.until_prints("line\nline\n");
    started.signal(rustix::process::Signal::KILL);
    started.outcome().dies_of(rustix::process::Signal::KILL);
    assert!(played_to_its_end(&file).text().starts_with("line\nline\n"));
    host.until_inside_is_gone("sh");
}

fn the_administrator_has_every_command_recorded(host: &Host) {
    host.booted("web");
    host.cocker("run web -- echo before").succeeds();
    assert_eq!(recordings(host, "web").len(), 0);
    configure(host, "[sessions]\nrecord = true\n");
    host.cocker("run web -- echo one")
        .succeeds()
        .prints("one\n")
        .complains("");
    host.cocker("-a run -c web --cmd 'echo two >&2'").succeeds();
    host.cocker("run web --detach -- sh -c 'echo three'")
        .succeeds();
    host.cocker("run web -- no-such-command").exits(127);
    let mine = host.folder("casts").join("mine.cast");
    host.cocker(&format!("run web --record {} -- echo five", mine.display()))
        .succeeds()
        .prints("five\n");
    let there = recordings(host, "web");
    let texts: Vec<_> = there.iter().map(|path| played(path).text()).collect();
    assert_eq!(texts, ["one\n", "two\n", "", "", "five\n"]);
    assert_eq!(played(&there[3]).events[0].1, "m");
    assert_eq!(played(&mine).text(), "five\n");
    let commands: Vec<_> = there
        .iter()
        .map(|path| played(path).header["command"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(commands[1], "echo two >&2");
    assert_eq!(shell_words(host, &commands[2]), ["sh", "-c", "echo three"]);
    for path in &there {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.ends_with("Z-run.cast"), "{name}");
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    let folder = there[0].parent().unwrap();
    let mode = fs::metadata(folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    configure(host, "[sessions]\nrecord = false\n");
    host.cocker("run web -- echo six").succeeds();
    assert_eq!(recordings(host, "web").len(), 5);
    // Many at once have a file each.
    configure(host, "[sessions]\nrecord = true\n");
    let started: Vec<_> = (0..50)
        .map(|n| host.start(&format!("run web -- echo {n}")))
        .collect();
    for (n, started) in started.into_iter().enumerate() {
        started.feed(b"").outcome().prints(&format!("{n}\n"));
    }
    let mut texts: Vec<_> = recordings(host, "web")[5..]
        .iter()
        .map(|path| played(path).text())
        .collect();
    texts.sort();
    let mut expected: Vec<_> = (0..50).map(|n| format!("{n}\n")).collect();
    expected.sort();
    assert_eq!(texts, expected);
}

fn one_recording_is_no_larger_than_allowed(host: &Host) {
    host.booted("web");
    configure(host, "[sessions]\nrecord = true\nrecord-size = \"64K\"\n");
    let outcome = host
        .cocker("run web -- seq 1 200000")
        .succeeds()
        .complains("");
    assert_eq!(outcome.stdout().lines().count(), 200_000);
    let [path] = &recordings(host, "web")[..] else {
        panic!("not one recording");
    };
    let size = fs::metadata(path).unwrap().len();
    assert!((32 << 10..=64 << 10).contains(&size), "{size}");
    let cast = played(path);
    assert!(outcome.stdout().starts_with(&cast.text()));
    let (_, code, label) = cast.events.last().expect("there are events");
    assert_eq!(code, "m");
    assert!(label.contains("as large as it may get"), "{label}");
}

fn the_oldest_recordings_make_room(host: &Host) {
    host.booted("web");
    configure(host, "[sessions]\nrecord = true\nrecord-size = \"64K\"\n");
    let mut kept = host.start("run web -- sh -c 'echo first; cat'");
    kept.until_prints("first");
    for _ in 0..15 {
        host.cocker("run web -- head -c 100000 /dev/zero")
            .succeeds();
    }
    let there = recordings(host, "web");
    let size: u64 = there
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    assert!(size <= 10 * (64 << 10), "{size}");
    assert!((9..=15).contains(&there.len()), "{there:?}");
    // The oldest of all is being written, so it stays.
    assert_eq!(played(&there[0]).text(), "first\n");
    kept.feed(b"last\n").outcome().succeeds();
    assert_eq!(played(&there[0]).text(), "first\nlast\n");
    host.cocker("run web -- head -c 100000 /dev/zero")
        .succeeds();
    assert!(!there[0].exists());
}

fn recordings_are_no_part_of_a_containers_files(host: &Host) {
    // One is recorded and the other is not; nothing else makes a difference, not even the length of a name.
    for (name, config) in [("off", ""), ("web", "[sessions]\nrecord = true\n")] {
        host.booted(name);
        configure(host, config);
        host.cocker(&format!(
            "run {name} -- sh -c 'echo marker-of-the-recording'"
        ))
        .succeeds();
        // Root inside does not see them.
        let look = "ls -d /recordings /../recordings /proc/1/root/recordings 2>/dev/null; true";
        assert_eq!(host.inside(name, look), "");
        host.cocker(&format!("-a shutdown -c {name}")).ok();
    }
    assert_eq!(recordings(host, "off").len(), 0);
    assert_eq!(recordings(host, "web").len(), 2);
    let same = |what: &dyn Fn(&str) -> String| assert_eq!(what("web"), what("off"));
    same(&|name| host.cocker(&format!("diff {name}")).succeeds().stdout());
    // The size is written down a moment after the shutdown.
    crate::host::eventually("both have the same size", || {
        let listing = host.cocker("containers --format json").succeeds().stdout();
        let listing: Value = serde_json::from_str(&listing).expect("JSON");
        listing[0]["size"] == listing[1]["size"] && listing[0]["size"] != 0
    });
    same(&|name| {
        let image = format!("of-{name}");
        host.cocker(&format!(
            "-a to_image --from-container {name} --to-image {image} --keep"
        ))
        .ok();
        assert!(!host.tree_of(&image, "_").join("recordings").exists());
        format!("{:?}", crate::host::entries(&host.tree_of(&image, "_")))
    });
    // They are not forgotten where it is asked what takes room.
    let usage = host.cocker("df --format json").succeeds().stdout();
    let usage: Value = serde_json::from_str(&usage).expect("JSON");
    let size: u64 = recordings(host, "web")
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    let logs = |name: &str| {
        let containers = usage["containers"].as_array().expect("a list");
        let found = containers.iter().find(|one| one["container_id"] == name);
        found.expect("it is listed")["logs"]
            .as_u64()
            .expect("a size")
    };
    assert_eq!(logs("web"), logs("off") + size);
    host.cocker("check").succeeds();
    host.cocker("-a destroy -c web").ok();
    assert!(!host.home().join("containers/web").exists());
}

fn a_command_that_must_be_recorded_and_cannot_be_is_not_run(host: &Host) {
    host.booted("web");
    for (text, named) in [
        ("[sessions]\nrecord = \"yes\"\n", "sessions.record"),
        ("[sessions]\nrecord-size = \"1K\"\n", "sessions.record-size"),
        ("[sessions]\nrecords = true\n", "sessions.records"),
        ("[sesions]\nrecord = true\n", "sesions"),
    ] {
        configure(host, text);
        host.cocker("run web -- touch /ran")
            .fails(125, &["config.toml", named, "Hint: "]);
    }
    configure(host, "[sessions]\nrecord = true\n");
    let folder = host.home().join("containers/web/recordings");
    fs::write(&folder, "in the way").expect("the home is ours");
    host.cocker("run web -- touch /ran")
        .fails(125, &["web", "recordings"]);
    fs::remove_file(&folder).expect("the home is ours");
    host.cocker("run web -- test -e /ran").exits(1);
    configure(host, "");
}

fn what_a_session_shows_is_recorded(host: &Host) {
    host.booted("web");
    let file = host.folder("casts").join("session.cast");
    let mut terminal = host.terminal(&format!("attach web --record {}", file.display()));
    terminal.expect("[root@web /root] ");
    terminal.type_line("echo größer");
    terminal.expect("größer\r\n");
    terminal.expect("größer\r\n");
    terminal.resize(30, 90);
    terminal.type_line("until [ \"$(stty size)\" = '30 90' ]; do :; done; exit");
    terminal.exits(0);
    let played = played(&file);
    assert_eq!(played.header["width"], 200);
    assert_eq!(played.header["env"]["TERM"], "dumb");
    assert!(
        played.text().contains("echo größer\ngrößer\n"),
        "{}",
        played.text()
    );
    let resized = |event: &(f64, String, String)| event.1 == "r" && event.2 == "90x30";
    assert!(played.events.iter().any(resized));
    // As with a command's, a file that is there stays.
    let mut terminal = host.terminal(&format!("attach web --record {}", file.display()));
    terminal.expect("it exists already");
    terminal.exits(1);
    // One that was not opened leaves none.
    let other = host.folder("casts").join("other.cast");
    let line = format!("attach web --session 9 --record {}", other.display());
    let mut terminal = host.terminal(&line);
    terminal.expect("there is no session `9`");
    terminal.exits(1);
    assert!(!other.exists());
    // And what it was to replace stays until it is opened.
    let kept = fs::read(&file).expect("it is there");
    for line in ["attach web --session 9", "run web --tty"] {
        let line = format!("{line} --record {} -f", file.display());
        let line = match line.starts_with("run") {
            true => line + " -- /no/such/program",
            false => line,
        };
        host.terminal(&line).end();
        assert!(fs::read(&file).is_ok_and(|there| there == kept), "{line}");
    }
}

fn the_administrator_has_every_session_recorded(host: &Host) {
    host.booted("web");
    configure(host, "[sessions]\nrecord = true\n");
    let mut terminal = host.terminal("attach web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("echo seen; sleep 1000");
    terminal.expect("\r\nseen\r\n");
    // The recording goes on without anybody who looks: it is the supervisor's.
    terminal.kill();
    let there = recordings(host, "web");
    assert_eq!(there.len(), 1, "{there:?}");
    host.cocker("sessions web --end 1").ok();
    let played_back = played(&there[0]);
    assert!(
        played_back.text().contains("\nseen\n"),
        "{}",
        played_back.text()
    );
    assert_eq!(played_back.header["command"], "-bash");
    let mode = fs::metadata(&there[0]).expect("it is there").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    // A command on a terminal is a session, too.
    let mut terminal = host.terminal("run web --tty -- echo on a terminal");
    terminal.exits(0);
    let there = recordings(host, "web");
    assert_eq!(played(&there[1]).text(), "on a terminal\n");
    // Nobody inside sees them.
    assert_eq!(host.inside("web", "find / -xdev -name '*.cast'"), "");
}

fn a_recorded_session_is_no_larger_than_allowed(host: &Host) {
    host.booted("web");
    configure(host, "[sessions]\nrecord = true\nrecord-size = \"64K\"\n");
    let mut terminal = host.terminal("attach web");
    terminal.expect("[root@web /root] ");
    terminal.type_line("seq 1 100000; exit");
    terminal.expect("\r\n100000\r\n");
    terminal.exits(0);
    let there = recordings(host, "web");
    let length = fs::metadata(&there[0]).expect("it is there").len();
    assert!(length <= 64 * 1024 && length > 48 * 1024, "{length}");
    let played = played(&there[0]);
    let last = played.events.last().expect("events");
    assert_eq!(last.1, "m");
    assert!(played.text().contains("\n1000\n1001\n"));
}

fn a_session_that_must_be_recorded_and_cannot_be_is_not_opened(host: &Host) {
    host.booted("web");
    configure(host, "[sessions]\nrecord = true\n");
    let folder = host.home().join("containers/web/recordings");
    symlink("/tmp", &folder).expect("the home is ours");
    let mut terminal = host.terminal("attach web");
    terminal.expect("cannot record what happens in it");
    terminal.exits(1);
    fs::remove_file(&folder).expect("it is ours");
    assert_eq!(host.cocker("sessions web").succeeds().stdout(), "");
}
