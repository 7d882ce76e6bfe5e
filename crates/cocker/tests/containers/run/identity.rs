//! Who a command is, where it begins, and what it finds in its environment: what the container's own files say and the
//! user asked for, exactly that, and nothing of the host's.

use crate::host::{Host, with_image_test};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_command_is_who_the_containers_files_say,
        a_number_is_never_taken_for_a_name,
        whoever_is_not_there_is_refused,
        accounts_are_read_without_trust,
        a_line_goes_through_the_users_shell,
        a_command_begins_in_the_folder_that_is_said,
        no_folder_is_reached_through_what_a_process_has_open,
        nothing_of_the_hosts_environment_gets_in,
        what_is_said_of_the_environment_holds,
        what_a_variable_holds_is_never_told,
        what_images_say_of_the_environment_holds,
    ]
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    bob:x:1000:50:Bob:/home/bob:/bin/sh\n\
    web:x:33:33::/no/home:/usr/sbin/nologin\n\
    open:x:34:33::/proc/self/cwd:/bin/sh";
const GROUP: &str =
    "root:x:0:\nstaff:x:50:\nadm:x:4:web,bob\nweb:x:33:\nother:x:5:bobby\nextra:x:60:bob";

/// Creates container `web` with these accounts and boots it.
fn booted_with_accounts(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    for (name, text) in [("passwd", PASSWD), ("group", GROUP)] {
        fs::write(in_etc(host, name), text).expect("the store is ours");
    }
    let home = upper(host).join("home/bob");
    fs::create_dir_all(&home).expect("the store is ours");
    chown(&home, Some(1000), Some(50)).expect("the store is ours");
    let closed = upper(host).join("closed");
    fs::create_dir(&closed).expect("the store is ours");
    fs::set_permissions(closed, PermissionsExt::from_mode(0o700)).expect("the store is ours");
    host.cocker("-a boot -c web").ok();
}

/// The writable layer of container `web`, whose files have the ids that they have inside.
fn upper(host: &Host) -> PathBuf {
    host.home().join("containers/web/files/upper")
}

fn in_etc(host: &Host, name: &str) -> PathBuf {
    let folder = upper(host).join("etc");
    fs::create_dir_all(&folder).expect("the store is ours");
    folder.join(name)
}

fn a_command_is_who_the_containers_files_say(host: &Host) {
    booted_with_accounts(host);
    let who = "id -u; id -g; id -G; pwd; echo $HOME ${USER-nobody} ${LOGNAME-nobody}";
    for (user, expected) in [
        ("bob", "1000\n50\n50 4 60\n/home/bob\n/home/bob bob bob\n"),
        ("1000", "1000\n50\n50 4 60\n/home/bob\n/home/bob bob bob\n"),
        ("bob:adm", "1000\n4\n4\n/home/bob\n/home/bob bob bob\n"),
        ("1000:7", "1000\n7\n7\n/home/bob\n/home/bob bob bob\n"),
        ("root", "0\n0\n0\n/root\n/root root root\n"),
        ("4242", "4242\n0\n0\n/\n/ nobody nobody\n"),
        ("65535:65535", "65535\n65535\n65535\n/\n/ nobody nobody\n"),
        // No such folder, or none that anybody may enter.
        ("web", "33\n33\n33 4\n/\n/no/home web web\n"),
    ] {
        host.cocker_words(&["run", "web", "--user", user, "--", "sh", "-c", who])
            .succeeds()
            .prints(expected);
    }
    host.cocker_words(&["-a", "run", "-c", "web", "--user", "bob", "--cmd", who])
        .succeeds()
        .prints("1000\n50\n50 4 60\n/home/bob\n/home/bob bob bob\n");
    // Its streams are its own, also where it opens them by name.
    let line = "cat /dev/stdin >/dev/stdout; echo err >/dev/stderr";
    for user in ["bob", "4242", "root"] {
        let line = format!("run web --user {user} -- sh -c '{line}'");
        host.start(&line)
            .feed(b"in\n")
            .outcome()
            .succeeds()
            .prints("in\n")
            .complains("err\n");
    }
    // What root may, others may not.
    host.cocker("run web --user bob -- sh -c ': >/etc/passwd'")
        .exits(2);
    // Without its files a container still has users by number.
    host.cocker("run web -- rm /etc/passwd /etc/group")
        .succeeds();
    host.cocker("run web --user 1000:50 -- sh -c 'id -u; id -g'")
        .succeeds()
        .prints("1000\n50\n");
    host.cocker("run web -- sh -c 'id -u; echo $HOME'")
        .succeeds()
        .prints("0\n/root\n");
}

fn a_number_is_never_taken_for_a_name(host: &Host) {
    host.cocker("-a create -m test -c web").ok();
    let passwd = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/root:/bin/sh\nodd:x:0x0:0::/:/bin/sh\n\
                  +:x:0:0::/:/bin/sh\nbob:x:1000:50::/:/bin/sh\n";
    fs::write(in_etc(host, "passwd"), passwd).expect("the store is ours");
    fs::write(in_etc(host, "group"), "7:x:0:\nseven:x:7:\n").expect("the store is ours");
    host.cocker("-a boot -c web").ok();
    host.cocker("run web --user 1000 -- id -u")
        .succeeds()
        .prints("1000\n");
    host.cocker("run web --user 1000:7 -- id -g")
        .succeeds()
        .prints("7\n");
    // Whose line says no number is nobody.
    host.cocker("run web --user odd -- id -u")
        .fails(125, &["odd"]);
    for user in [
        "",
        " 0",
        "0 ",
        "+",
        "+0",
        "+1",
        "-0",
        "-1",
        "0x0",
        "00",
        "0000",
        "4294967296",
        "18446744073709551616",
        "bob:",
        ":0",
        "bob:0x0",
        "bob: 7",
        "bob:7:7",
        "1000a",
        "4294967297",
        "0\n",
        "\t0",
        "0,0",
        "0.0",
        "0b0",
        "0o0",
        "0e0",
        "\u{660}",
    ] {
        host.cocker_words(&["run", "web", &format!("--user={user}"), "--", "id", "-u"])
            .fails(2, &["--user"]);
        host.cocker_words(&[
            "-a",
            "run",
            "-c",
            "web",
            &format!("--user={user}"),
            "--cmd",
            "id",
        ])
        .fails(2, &["--user"]);
    }
    // Control: who reads the same words by strtoul(3) and becomes that is root, or another than was said.
    let naive = crate::isolation::program::path(host);
    for (user, becomes) in [
        (" 0", "0"),
        ("0 ", "0"),
        ("+0", "0"),
        ("-0", "0"),
        // "Leave it as it is", says the kernel, and it was root.
        ("-1", "0"),
        ("4294967295", "0"),
        ("0x0", "0"),
        ("00", "0"),
        ("", "0"),
        ("+", "0"),
        ("0b0", "0"),
        ("0e0", "0"),
        ("bob", "0"),
        ("4294967296", "0"),
        ("4294967297", "1"),
        ("+1", "1"),
        ("1000a", "1000"),
    ] {
        let mut command = host.command(&naive);
        command.args(["become", user]);
        let outcome = host.started(command, format!("become `{user}`")).outcome();
        outcome.succeeds().prints(&format!("{becomes}\n"));
    }
}

fn whoever_is_not_there_is_refused(host: &Host) {
    booted_with_accounts(host);
    host.cocker("run web --user alice -- true")
        .fails(125, &["web", "`alice`", "/etc/passwd", "Hint: "]);
    host.cocker("run web --user bob:wheel -- true")
        .fails(125, &["web", "`wheel`", "/etc/group"]);
    host.cocker("run web --user 65536 -- true")
        .fails(125, &["user 65536", "65535"]);
    host.cocker("run web --user 4294967295 -- true")
        .fails(125, &["user 4294967295", "65535"]);
    host.cocker("run web --user 0:70000 -- true")
        .fails(125, &["group 70000", "65535"]);
    let groups: String = (100..400)
        .map(|gid| format!("g{gid}:x:{gid}:bob\n"))
        .collect();
    fs::write(host.folder("new").join("group"), &groups).expect("the folder is ours");
    host.start("run web -- sh -c 'cat >/etc/group'")
        .feed(groups.as_bytes())
        .outcome()
        .succeeds();
    host.cocker("run web --user bob -- true")
        .fails(125, &["bob", "256"]);
    host.cocker("run web --user bob:g101 -- id -G")
        .succeeds()
        .prints("101\n");
    // Every number of the host's is one in a privileged container.
    host.cocker("create -m test -c open --privileged -b").ok();
    host.cocker("run open --user 70000:80000 -- sh -c 'id -u; id -g'")
        .succeeds()
        .prints("70000\n80000\n");
    host.cocker("run open --user 4294967295 -- id -u")
        .fails(125, &["4294967295"]);
}

fn accounts_are_read_without_trust(host: &Host) {
    let outside = host.folder("outside").join("passwd");
    fs::write(&outside, "mallory:x:7:7::/:/bin/sh\n").expect("the folder is ours");
    host.cocker("-a create -m test -c web").ok();
    let kinds: [&dyn Fn(&PathBuf); 5] = [
        &|path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        &|path| fs::File::create(path).unwrap().set_len(10 << 30).unwrap(),
        &|path| symlink("/dev/zero", path).unwrap(),
        &|path| symlink("/proc/1/fd/3", path).unwrap(),
        &|path| fs::create_dir(path).unwrap(),
    ];
    for name in ["passwd", "group"] {
        for make in kinds {
            let (path, other) = (in_etc(host, name), in_etc(host, "other"));
            let _ = fs::rename(&path, &other);
            make(&path);
            host.cocker("-a boot -c web").ok();
            // The groups of a user are read for a user that has a name.
            host.cocker("run web --user root -- true")
                .fails(125, &["web", name])
                .within(Duration::from_secs(10));
            host.cocker("-a shutdown -c web").ok();
            if fs::remove_file(&path).is_err() {
                fs::remove_dir(&path).expect("the store is ours");
            }
            let _ = fs::rename(&other, &path);
        }
    }
    // Numbers that no user or group of a container has.
    for (uid, gid) in [
        ("0", "70000"),
        ("0", "4294967295"),
        ("0", "4294967296"),
        ("65536", "0"),
    ] {
        let text = format!("bob:x:{uid}:{gid}::/:/bin/sh\n");
        fs::write(in_etc(host, "passwd"), text).expect("the store is ours");
        host.cocker("-a boot -c web").ok();
        host.cocker("run web --user bob -- true")
            .fails(125, &["web"]);
        let root = host.cocker("run web -- id -u");
        match (uid, gid) {
            ("0", "70000" | "4294967295") => root.fails(125, &["there is no group"]),
            // Root has no line there.
            _ => root.succeeds().prints("0\n"),
        };
        host.cocker("-a shutdown -c web").ok();
    }
    // Links lead inside: what is meant is not there.
    let passwd = in_etc(host, "passwd");
    let _ = fs::remove_file(&passwd);
    let mut target = PathBuf::from("../".repeat(20));
    target.push(outside.strip_prefix("/").unwrap());
    symlink(target, passwd).expect("the store is ours");
    host.cocker("-a boot -c web").ok();
    host.cocker("run web --user mallory -- true")
        .fails(125, &["mallory"]);
}

fn a_line_goes_through_the_users_shell(host: &Host) {
    booted_with_accounts(host);
    let line = "echo $0 $SHELL";
    for (user, expected) in [
        ("bob", "/bin/sh /bin/sh\n"),
        // One that lets nobody in is no shell for a line.
        ("web", "/bin/sh /bin/sh\n"),
    ] {
        host.cocker_words(&["run", "web", "--user", user, "--cmd", line])
            .succeeds()
            .prints(expected);
    }
}

fn a_command_begins_in_the_folder_that_is_said(host: &Host) {
    booted_with_accounts(host);
    host.cocker("run web --workdir /etc -- pwd")
        .succeeds()
        .prints("/etc\n");
    host.cocker("-a run -c web --user bob --workdir /usr/bin/../bin --cmd 'pwd -P'")
        .succeeds()
        .prints("/usr/bin\n");
    // Never somewhere else instead.
    for (options, named) in [
        ("--workdir /no/such", "folder `/no/such`"),
        ("--workdir /no/such", "No such file"),
        ("--workdir /etc/passwd", "Not a directory"),
        ("--user bob --workdir /closed", "Permission denied"),
    ] {
        host.cocker(&format!("run web {options} -- pwd"))
            .fails(125, &["enter the working folder", named]);
    }
    for folder in ["etc", "", "./etc", "~"] {
        host.cocker_words(&["run", "web", &format!("--workdir={folder}"), "--", "pwd"])
            .fails(2, &["--workdir"]);
    }
}

/// CVE-2024-21626: a descriptor that is open while a command is prepared, and a way out of the container behind it.
fn no_folder_is_reached_through_what_a_process_has_open(host: &Host) {
    booted_with_accounts(host);
    host.cocker("run web -- ln -s /proc/self/fd/0 /link")
        .succeeds();
    for process in ["self", "1", "thread-self"] {
        for number in 0..30 {
            for rest in ["", "/..", "/../../.."] {
                let folder = format!("/proc/{process}/fd/{number}{rest}");
                host.cocker_words(&["run", "web", "--workdir", &folder, "--", "pwd", "-P"])
                    .fails(125, &["enter the working folder"]);
            }
        }
    }
    for folder in [
        "/link",
        "/proc/self/cwd",
        "/proc/1/cwd",
        "/proc/1/root",
        "/proc/self/root/etc",
    ] {
        host.cocker_words(&["run", "web", "--workdir", folder, "--", "pwd", "-P"])
            .fails(
                125,
                &["enter the working folder", "Too many levels", "Hint: "],
            );
    }
    // A home like that is none, so the command begins at the root.
    host.cocker("run web --user open -- pwd -P")
        .succeeds()
        .prints("/\n");
    // What the command has open itself is three streams.
    let open = "for f in /proc/self/fd/*; do readlink $f; done; true";
    let streams = host.inside("web", open);
    assert_eq!(
        streams
            .lines()
            .filter(|line| !line.starts_with("pipe:"))
            .count(),
        0,
        "{streams}"
    );
    // Control: who enters the container with something of the host's open, and then that folder by its path, is on the host.
    let outside = host.folder("outside");
    fs::write(outside.join("of-the-host"), "").expect("the folder is ours");
    let naive = format!(
        "exec 7<{}; nsenter --target {} --mount --pid -- sh -c 'cd /proc/self/fd/7/ && ls'",
        outside.display(),
        host.root_process("web")
    );
    host.shell(&naive).succeeds().prints("of-the-host\n");
}

fn nothing_of_the_hosts_environment_gets_in(host: &Host) {
    host.booted("web");
    let expected = [
        "HOME=/root",
        "LANG=C.UTF-8",
        "LOGNAME=root",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "USER=root",
    ];
    let outcome = host
        .shell(
            "LEAK=secret TERM=xterm LANG=de_DE.UTF-8 USER=me LC_ALL=C LD_PRELOAD= \
             cocker run web -- cat /proc/self/environ | tr '\\0' '\\n' | sort",
        )
        .succeeds();
    let output = outcome.stdout();
    let found: Vec<_> = output
        .lines()
        .filter(|line| !line.starts_with("SHELL=/"))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(output.lines().count(), expected.len() + 1);
}

fn what_is_said_of_the_environment_holds(host: &Host) {
    host.booted("web");
    let line = "run web --env A=1 --env B= --env 'C=a  b=c' --env A=2 --env HOME=/tmp --env TERM=vt100 \
                -- sh -c 'echo $A; echo ${B-unset}; echo \"$C\"; echo $HOME; echo $TERM'";
    host.cocker(line)
        .succeeds()
        .prints("2\n\na  b=c\n/tmp\nvt100\n");
    host.cocker("-a run -c web --env A=1 --env=B=x=y --cmd 'echo $A $B'")
        .succeeds()
        .prints("1 x=y\n");
    // Programs are looked for where the command's PATH says.
    host.cocker("run web --env PATH=/nowhere -- id")
        .fails(127, &["id"]);
    for said in ["A", "", "=x"] {
        host.cocker_words(&["run", "web", "--env", said, "--", "true"])
            .fails(2, &["--env"]);
    }
    host.shell("A=1 cocker run web --env A -- true")
        .fails(2, &["--env", "Hint: "]);
}

fn what_a_variable_holds_is_never_told(host: &Host) {
    host.booted("web");
    for line in [
        "-d run web --env TOKEN=s3cret -- true",
        "-d -a run -c web --env TOKEN=s3cret --cmd 'exit 1'",
        "-d run web --env TOKEN=s3cret -- no-such-command",
        "-d run web --env TOKEN=s3cret --user nobody-there -- true",
        "-d run web --env TOKEN=s3cret --workdir /no/such -- true",
        "-d run web --env =s3cret -- true",
        "-d run stopped --env TOKEN=s3cret -- true",
    ] {
        let outcome = host.cocker(line);
        assert!(!outcome.stderr.contains("s3cret"), "{outcome}");
    }
}

fn what_images_say_of_the_environment_holds(host: &Host) {
    for (name, environment) in [
        ("low", r#"["LEVEL=low", "LOW=1"]"#),
        (
            "high",
            r#"["LEVEL=high", "HIGH=a=b", "HOME=/nope", "USER=nope", "PATH=/opt/bin:/usr/bin:/bin", "broken", 5]"#,
        ),
    ] {
        host.add_image(name, |_| {});
        say(host, name, environment);
    }
    let show = "echo $LEVEL $LOW $HIGH $HOME $USER $PATH";
    let expected = "high 1 a=b /root root /opt/bin:/usr/bin:/bin";
    host.cocker("-a create -m test,low,high -c web -b").ok();
    assert_eq!(host.inside("web", show), expected);
    host.cocker("run web --env LEVEL=mine -- sh -c 'echo $LEVEL'")
        .succeeds()
        .prints("mine\n");
    // Nothing of it is lost on the way through an image and back.
    host.cocker("-a shutdown -c web").ok();
    host.cocker("-a to_image --from-container web --to-image made")
        .ok();
    host.cocker("-a create -m made -c again -b").ok();
    assert_eq!(host.inside("again", show), expected);
    host.cocker("-a destroy -h -c again").ok();
    host.cocker("-a to_container --from-image made --to-container web")
        .ok();
    host.cocker("-a boot -c web").ok();
    assert_eq!(host.inside("web", show), expected);
    // As it was said in a foreign image, and not by our own record of it.
    let file = host.folder("files").join("high.oci.tar");
    let file = file.to_str().expect("text");
    host.cocker_words(&["export", "high", "--format", "oci", "--image-file", file])
        .ok();
    host.cocker_words(&["import", file, "-m", "imported"]).ok();
    host.cocker("-a create -m test,imported -c foreign -b").ok();
    assert_eq!(
        host.inside("foreign", "echo $LEVEL $HIGH $HOME"),
        "high a=b /root"
    );
    // Of what stands below without saying anything there is nothing.
    host.booted("plain");
    assert_eq!(host.inside("plain", "echo ${LEVEL-unset}"), "unset");
}

/// Writes into an image's record what a foreign image would have said.
fn say(host: &Host, image: &str, environment: &str) {
    let path = host.home().join(format!("images/{image}/_/image.json"));
    let text = fs::read(&path).expect("the image is there");
    let mut record: serde_json::Value = serde_json::from_slice(&text).expect("a record is JSON");
    let environment: serde_json::Value = serde_json::from_str(environment).expect("JSON");
    record["config"] = serde_json::json!({ "Env": environment });
    fs::write(path, record.to_string()).expect("the store is ours");
}
