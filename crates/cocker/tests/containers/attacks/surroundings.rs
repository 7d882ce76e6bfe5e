//! Where cocker runs: folders that others could exchange, and what the user's environment says.

use super::KINDS;
use crate::host::{Host, processes, with_image_test};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_home_that_others_could_exchange_is_refused,
        nothing_of_the_users_environment_is_kept,
    ]
}

/// Row 30: a folder on the way to the home that others may write to, or that is another's.
fn a_home_that_others_could_exchange_is_refused(host: &Host) {
    let parent = host.folder("parent");
    let home = parent.join("deep/home");
    fs::create_dir_all(&home).expect("the folder is ours");
    fs::set_permissions(&home, PermissionsExt::from_mode(0o700)).expect("the folder is ours");
    let named = parent.display().to_string();
    let types = |line: &str| {
        let mut command = host.cocker_command(line);
        command.env("COCKER_HOME", &home);
        host.started(command, line.into()).outcome()
    };
    for (mode, owner, is_sound) in [
        (0o755, 0, true),
        (0o777, 0, false),
        (0o757, 0, false),
        (0o1777, 0, true),
        (0o755, 65_534, false),
        (0o700, 65_534, false),
    ] {
        chown(&parent, Some(owner), Some(0)).expect("we are root");
        fs::set_permissions(&parent, PermissionsExt::from_mode(mode)).expect("we are root");
        for line in [
            "containers",
            "install-test",
            "create -m test -c web",
            "prune",
            "check",
        ] {
            let outcome = types(line);
            match is_sound {
                // Control: with a sound parent the same line is not refused for it.
                true => assert!(!outcome.stderr.contains(&named), "{mode:o}: {outcome}"),
                false => drop(outcome.fails(1, &[&named, "Hint: "])),
            }
        }
        let _ = fs::remove_dir_all(home.join("layers"));
        let _ = fs::remove_dir_all(home.join("images"));
        let _ = fs::remove_dir_all(home.join("containers"));
    }
    chown(&parent, Some(0), Some(0)).expect("we are root");
    fs::set_permissions(&parent, PermissionsExt::from_mode(0o755)).expect("we are root");
    // Control: where others may write, one of them has exchanged the home for his own, and whoever writes to it then writes
    // where he may read and change it.
    let exchange = format!(
        "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c \
         'cd {named} && mv deep gone && mkdir -p deep/home' 2>/dev/null"
    );
    let owner = || fs::metadata(&home).expect("it is there").uid();
    assert_ne!(host.shell(&exchange).status.code(), Some(0));
    assert_eq!(owner(), 0);
    fs::set_permissions(&parent, PermissionsExt::from_mode(0o777)).expect("we are root");
    host.shell(&exchange).succeeds();
    assert_eq!(owner(), 65_534);
    types("containers").fails(1, &["Hint: "]);
    fs::remove_dir_all(parent.join("deep")).expect("we are root");
    fs::rename(parent.join("gone"), parent.join("deep")).expect("we are root");
    fs::set_permissions(&parent, PermissionsExt::from_mode(0o755)).expect("we are root");
    // A link on the way is whoever's who may exchange it.
    let open = host.folder("open");
    let link = open.join("home");
    std::os::unix::fs::symlink(&home, &link).expect("the folder is ours");
    for (mode, owner, is_sound) in [
        (0o755, 0, true),
        (0o777, 0, false),
        (0o1777, 0, true),
        (0o1777, 65_534, false),
    ] {
        fs::set_permissions(&open, PermissionsExt::from_mode(mode)).expect("it is ours");
        lchown(&link, Some(owner), None).expect("we are root");
        let mut command = host.cocker_command("containers");
        command.env("COCKER_HOME", &link);
        let outcome = host.started(command, "by a link".into()).outcome();
        match is_sound {
            true => drop(outcome.succeeds()),
            false => drop(outcome.fails(1, &["open", "Hint: "])),
        }
    }
}

/// Row 31: of the user's environment nothing is found in any process that is left, nor in what is written down.
fn nothing_of_the_users_environment_is_kept(host: &Host) {
    let secret = "s3cret-of-the-host";
    let said = "s3cret-of-a-command";
    let mut shown = String::new();
    for (option, name) in KINDS {
        host.cocker(&format!("create -m test -c {name} {option}"))
            .ok();
        let line = format!(
            "export SECRET={secret} LC_SECRET={secret}; \
             cocker -d boot {name}; cocker -d run {name} --env TOKEN={said} -- /bin/true; \
             cocker -d run {name} --env TOKEN={said} --detach -- sleep 77; \
             cocker -d run {name} --env TOKEN={said} -- /no/such; cocker -d logs {name}; cocker -d stats; true"
        );
        let outcome = host.shell(&line).succeeds();
        shown += &(outcome.stdout() + &outcome.stderr);
        host.until_inside_runs("sleep");
        let mut looked_at = 0;
        for process in processes() {
            let inside = host.contained().iter().any(|it| it.pid == process.pid);
            let is_ours = process.works_on(host.home()) || inside;
            if !is_ours || process.pid == std::process::id() as i32 {
                continue;
            }
            looked_at += 1;
            for file in ["environ", "cmdline"] {
                let text = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                assert!(!text.contains(secret), "{}: {text}", process.command_line());
                let is_the_command = process.name() == "sleep";
                assert!(!text.contains(said) || is_the_command, "{text}");
            }
        }
        // The supervisor, the root process and the command.
        assert!(looked_at >= 3, "{looked_at}");
        host.cocker(&format!("shutdown {name} --timeout 1")).ok();
    }
    for word in [secret, said] {
        assert!(!shown.contains(word), "{shown}");
        let found = host.shell(&format!("grep -rl {word} {}; true", host.home().display()));
        assert_eq!(found.stdout(), "", "written down");
    }
    // Control: a program that inherits what it was started with does have it.
    let naive = host.shell(&format!("SECRET={secret} sh -c 'cat /proc/self/environ'"));
    assert!(String::from_utf8_lossy(&naive.stdout).contains(secret));
    // And a log of the command line as it is has what was said, which the same search finds.
    let log = host.home().join("naive.log");
    let naive = host.shell(&format!(
        "exec 2> {0}; set -x; cocker -d run plain --env TOKEN={said} -- /bin/true; grep -rl {said} {1}",
        log.display(),
        host.home().display()
    ));
    naive.succeeds().prints(&format!("{}\n", log.display()));
    fs::remove_file(log).expect("the home is ours");
}
