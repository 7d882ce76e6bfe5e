//! Words that an enemy chose: names, files of accounts, and what a listing would print.

use super::{KINDS, picture};
use crate::host::{Host, with_image_test};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        hostile_files_of_accounts_and_names_hold_up_nobody,
        no_listing_prints_what_steers_a_terminal,
        a_name_leads_to_no_other_folder,
    ]
}

/// Row 22: what cocker reads or writes below /etc at a boot and at an attach, and what an image makes of it.
fn hostile_files_of_accounts_and_names_hold_up_nobody(host: &Host) {
    let outside = host.folder("outside");
    let secret = outside.join("secret");
    fs::write(&secret, "root:x:0:0:of the host alone:/:/bin/sh\n").expect("the folder is ours");
    let before = picture(&outside);
    type Make<'a> = &'a dyn Fn(&Path);
    let kinds: [(&str, Make<'_>); 7] = [
        ("fifo", &|path| {
            mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap()
        }),
        ("link-out", &|path| symlink(&secret, path).unwrap()),
        ("link-device", &|path| symlink("/dev/zero", path).unwrap()),
        ("link-proc", &|path| symlink("/proc/1/fd/0", path).unwrap()),
        ("link-loop", &|path| {
            symlink(path.file_name().unwrap(), path).unwrap()
        }),
        ("large", &|path| {
            fs::File::create(path).unwrap().set_len(10 << 30).unwrap()
        }),
        ("no-newline", &|path| {
            fs::write(path, "127.0.0.1 x").unwrap()
        }),
    ];
    for (kind, make) in kinds {
        for name in ["hosts", "resolv.conf", "passwd", "group"] {
            host.add_image(&format!("{kind}-{name}"), |tree| {
                fs::create_dir(tree.join("etc")).expect("the tree is ours");
                make(&tree.join("etc").join(name));
            });
            for (option, container) in KINDS {
                host.cocker(&format!(
                    "create -m test,{kind}-{name} -c {container} {option}"
                ))
                .ok();
                let boot = host.cocker(&format!("boot {container}"));
                boot.ok().within(Duration::from_secs(5));
                // With accounts like that it cannot be said who root is; with names it can.
                let run = host.cocker(&format!("run {container} -- true"));
                let run = run.within(Duration::from_secs(5));
                let status = run.status.code();
                assert!(
                    [Some(0), Some(125)].contains(&status),
                    "{kind} {name}: {run}"
                );
                assert!(!run.stderr.contains("alone"), "{run}");
                if !["passwd", "group"].contains(&name) {
                    assert_eq!(status, Some(0), "{kind} {name}: {run}");
                }
                let mut terminal = host.terminal(&format!("attach {container}"));
                match status {
                    Some(0) => {
                        terminal.expect("] ");
                        terminal.type_line("exit");
                        terminal.exits(0);
                    }
                    _ => terminal.exits(1),
                }
                assert!(!terminal.screen().contains("alone"));
                host.cocker(&format!("destroy --shutdown {container}")).ok();
                assert_eq!(picture(&outside), before, "{kind} {name}");
            }
        }
    }
    // Control: who just reads waits at the FIFO, and follows the link.
    let fifo = host.tree_of("fifo-passwd", "_").join("etc/passwd");
    let naive = host.shell(&format!("timeout 1 cat {}", fifo.display()));
    naive.exits(124);
    let link = host.tree_of("link-out-passwd", "_").join("etc/passwd");
    let naive = fs::read_to_string(link).expect("it leads there");
    assert!(naive.contains("alone"));
    // And who takes a whole line of the large file into memory has no room for it.
    let large = host.tree_of("large-passwd", "_").join("etc/passwd");
    let naive = format!("ulimit -v 300000; sed -n p {} | wc -c", large.display());
    let naive = host.shell(&naive);
    assert_eq!(naive.stdout().trim(), "0", "{naive}");
}

/// What a terminal may be told: text, lines, and columns by tabs.
fn steers(text: &str) -> Option<char> {
    let is_harmless = |c: char| c == '\n' || c == '\t';
    let mut found = text.chars();
    // Beside control characters, what turns the direction of writing around (CVE-2021-42574).
    found.find(|&c| {
        (c.is_control() && !is_harmless(c))
            || ('\u{202a}'..='\u{202e}').contains(&c)
            || ('\u{2066}'..='\u{2069}').contains(&c)
    })
}

/// Row 23: escape sequences in the names of files and processes, in what a program says at its end, in records.
fn no_listing_prints_what_steers_a_terminal(host: &Host) {
    let evil = "a\u{1b}]0;evil\u{7}\u{1b}[2J\r\u{9b}31m\u{202e}b";
    host.add_image("evil", |tree| {
        fs::write(tree.join(evil), "evil\n").expect("the tree is ours");
    });
    host.cocker("create -m test,evil -c web -b").ok();
    let make = format!(
        "mkdir '/srv/{evil}'; echo x > '/srv/{evil}/x'; rm '/{evil}'; cp /bin/sleep '/srv/{evil}/{evil}'"
    );
    host.cocker_words(&["run", "web", "--", "sh", "-c", &make])
        .succeeds();
    let program = format!("/srv/{evil}/{evil}");
    let running = {
        let mut command = host.cocker_command("run web --");
        command.args([program.as_str(), "77"]);
        host.started(command, "a process of that name".into())
    };
    crate::host::eventually("it runs", || {
        host.contained()
            .iter()
            .any(|it| it.command_line().contains("evil"))
    });
    let path = format!("/srv/{evil}/x");
    let lines: Vec<Vec<&str>> = vec![
        vec!["images"],
        vec!["containers"],
        vec!["ps", "-q"],
        vec!["stats"],
        vec!["sessions", "web"],
        vec!["history", "evil"],
        vec!["diff", "web"],
        vec!["diff", "test", "evil"],
        vec!["whence", "-c", "web", &path],
        vec!["df"],
        vec!["check"],
        vec!["images", "--format", "json"],
        vec!["diff", "web", "--format", "json"],
        // Errors tell names as well.
        vec!["run", "web", "--", evil],
        vec!["run", "web", "--user", evil, "--", "true"],
        vec!["run", "web", "--workdir", "/srv/a\u{1b}[31m", "--", "true"],
        vec!["get", "web", &program, "/no/such/folder/"],
        vec!["put", "web", evil, "/srv"],
        vec!["create", "-m", evil, "-c", "x"],
        vec!["boot", evil],
        vec!["import", evil],
        vec!["ssearch", "--srepo", evil],
        vec!["root", evil],
    ];
    for words in lines {
        let outcome = host.cocker_words(&words);
        for text in [&outcome.stdout(), &outcome.stderr] {
            assert_eq!(steers(text), None, "{words:?}: {text:?}");
        }
    }
    // Where the record of a container is damaged, the listing says so in words of its own.
    drop(running);
    host.cocker("kill web").ok();
    let settings = host.home().join("containers/web/container.json");
    let sound = fs::read(&settings).expect("it is there");
    let mut json: serde_json::Value = serde_json::from_slice(&sound).expect("it is JSON");
    json["hostname"] = evil.into();
    fs::write(&settings, json.to_string()).expect("the store is ours");
    for line in ["containers", "boot web", "check"] {
        let outcome = host.cocker(line);
        for text in [&outcome.stdout(), &outcome.stderr] {
            assert_eq!(steers(text), None, "{line}: {text:?}");
        }
    }
    fs::write(&settings, sound).expect("the store is ours");
    // Control: who prints names as they are steers the terminal.
    let folder = host.tree_of("evil", "_");
    let naive = host.shell(&format!("find {}", folder.display())).stdout();
    assert_eq!(steers(&naive), Some('\u{1b}'));
}

/// Row 11b: names that become folders: of cgroups, of containers, of images and their versions, of layers in a record.
fn a_name_leads_to_no_other_folder(host: &Host) {
    host.cocker("create -m test -c web").ok();
    let outside = host.folder("outside");
    fs::create_dir(outside.join("tree")).expect("the folder is ours");
    fs::write(outside.join("tree/secret"), "of the host alone\n").expect("the folder is ours");
    let before = picture(&outside);
    for cgroup in ["..", "../x", "a/../../b", "/x", "a//b/..", "."] {
        let mut command = host.cocker_command("boot web");
        command.env("COCKER_CGROUP", cgroup);
        let outcome = host
            .started(command, format!("boot below {cgroup}"))
            .outcome();
        outcome.fails(1, &["COCKER_CGROUP"]);
    }
    let upwards = format!("../../..{}", outside.display());
    let files = host.home().with_extension("files");
    let files = files.file_name().expect("it has a name").to_string_lossy();
    let beside = format!("../../{files}/outside");
    for command in ["create -m test -c", "rm-image", "destroy", "logs", "root"] {
        for name in [&upwards, &beside, "../web", "a/../web", "web/"] {
            let outcome = host.cocker(&format!("{command} {name}"));
            let code = outcome.status.code();
            assert!([Some(1), Some(2)].contains(&code), "{outcome}");
        }
    }
    // A layer's id in a record, be it an image's or a container's.
    let settings = host.home().join("containers/web/container.json");
    let sound = fs::read(&settings).expect("it is there");
    for id in [&upwards, &beside, "..", "/etc"] {
        let mut json: serde_json::Value = serde_json::from_slice(&sound).expect("it is JSON");
        json["layers"] = vec![id].into();
        fs::write(&settings, json.to_string()).expect("the store is ours");
        host.cocker("boot web").fails(1, &["web"]);
    }
    fs::write(&settings, &sound).expect("the store is ours");
    host.cocker("boot web").ok();
    assert_eq!(picture(&outside), before);
    // Control: joined to a path without a look at it, the same name does lead there.
    let naive = host.home().join("layers").join(&outside);
    assert!(naive.join("tree/secret").exists());
    for folder in ["images", "layers", "containers"] {
        let naive = host.home().join(folder).join(&beside);
        assert!(naive.join("tree/secret").exists(), "{folder}");
    }
    // Of a cgroup too: the folder that is made so is none of those below.
    let below = host.folder("cgroups/below");
    for cgroup in ["../x", "a/../../x"] {
        fs::create_dir_all(below.join("a")).expect("the folder is ours");
        fs::create_dir(below.join(cgroup)).expect("it leads out");
        fs::remove_dir(host.folder("cgroups/x")).expect("there it is");
    }
}
