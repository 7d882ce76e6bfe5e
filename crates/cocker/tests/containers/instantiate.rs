//! Instantiation: keys in files of a container become values, in all of them or in none, and never outside.

use crate::host::{Host, PATIENCE, with_image_test};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        keys_are_replaced_in_place_booted_and_stopped,
        what_a_file_is_besides_its_content_stays,
        an_instance_is_a_file_of_its_own,
        rules_come_from_a_file_the_environment_and_the_command_line,
        every_template_of_a_folder_becomes_a_file_beside_it,
        folders_may_be_more_than_files_may_be_open_at_first,
        of_several_templates_all_are_instantiated_or_none,
        strictly_a_place_without_a_rule_changes_nothing,
        a_dry_run_shows_the_difference_and_changes_nothing,
        links_lead_nowhere_but_inside,
        what_is_no_file_is_refused_without_being_opened,
        bad_rules_are_refused_with_their_lines,
        a_large_file_takes_little_memory,
        a_full_disk_leaves_the_old_file,
        a_template_that_never_stops_changing_holds_up_nobody,
        templates_in_volumes_are_instantiated_and_mounted_files_are_not_replaced,
    ]
}

/// A file of the host with this in it; returns its path.
fn host_file(host: &Host, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = host.folder("rules").join(name);
    fs::write(&path, text).expect("the folder is ours");
    path.display().to_string()
}

/// Writes a file into booted container `web`.
#[track_caller]
fn write(host: &Host, path: &str, text: &str) {
    host.inside(
        "web",
        &format!("mkdir -p \"$(dirname {path})\"; printf '{text}' > {path}"),
    );
}

/// Names below a folder of booted container `web`, sorted.
#[track_caller]
fn names(host: &Host, folder: &str) -> String {
    host.inside(
        "web",
        &format!("cd {folder} && find . -mindepth 1 | sort | tr '\\n' ' '"),
    )
}

fn keys_are_replaced_in_place_booted_and_stopped(host: &Host) {
    let rules = host_file(
        host,
        "map",
        "${PORT}\t 8080\n${HOST} web.example  \n${PORTS} many\n@x@ ${PORT}\n",
    );
    host.booted("web");
    let template = "a=${PORT} b=${PORTS}\\n@x@ ${HOST}|${NONE}\\n";
    let expected = "a=8080 b=many\n${PORT} web.example  |${NONE}";
    write(host, "/etc/app.conf", template);
    host.cocker(&format!(
        "-a rplfile -c web --template-file /etc/app.conf --mapping-file {rules}"
    ))
    .ok();
    assert_eq!(host.inside("web", "cat /etc/app.conf"), expected);
    // Once more, and there is nothing left to do but what the values brought in.
    write(host, "/etc/app.conf", template);
    host.cocker("shutdown web").ok();
    host.cocker(&format!(
        "instantiate web --template-file etc/app.conf --mapping-file {rules}"
    ))
    .ok();
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /etc/app.conf"), expected);
    assert_eq!(host.inside("web", "ls -A /etc | grep cocker; true"), "");
    host.cocker(&format!(
        "instantiate nobody --template-file /x --mapping-file {rules}"
    ))
    .fails(1, &["there is no container `nobody`"]);
}

fn what_a_file_is_besides_its_content_stays(host: &Host) {
    host.booted("web");
    let look = "stat -c '%u:%g %a %X' /srv/t; getfattr --absolute-names -d -m user. /srv/t 2>/dev/null | grep user; true";
    for state in ["booted", "stopped"] {
        write(host, "/srv/t", "KEY\\n");
        host.inside(
            "web",
            "chown 33:44 /srv/t; chmod 4751 /srv/t; touch -a -d @1000000000 /srv/t; touch -m -d @1100000000 /srv/t",
        );
        let before = host.inside("web", look);
        assert!(before.starts_with("33:44 4751 1000000000"), "{before}");
        if state == "stopped" {
            host.cocker("shutdown web").ok();
        }
        host.cocker("instantiate web --template-file /srv/t --set KEY=value")
            .ok();
        if state == "stopped" {
            host.cocker("boot web").ok();
        }
        assert_eq!(host.inside("web", look), before, "{state}");
        assert_eq!(host.inside("web", "cat /srv/t"), "value");
        let modified: u64 = host
            .inside("web", "stat -c %Y /srv/t")
            .parse()
            .expect("a number");
        assert!(modified > 1_100_000_000, "{state}: {modified}");
        // Without a key in it, it is left alone.
        host.inside("web", "touch -m -d @1100000000 /srv/t");
        let inode = host.inside("web", "stat -c '%i %Y' /srv/t");
        host.cocker("instantiate web --template-file /srv/t --set KEY=value")
            .ok();
        assert_eq!(host.inside("web", "stat -c '%i %Y' /srv/t"), inode);
    }
}

fn an_instance_is_a_file_of_its_own(host: &Host) {
    host.booted("web");
    write(host, "/srv/t", "KEY\\n");
    host.inside("web", "chown 33:44 /srv/t; chmod 640 /srv/t");
    host.cocker("-a rplfile -c web --template-file /srv/t --set KEY=new --instance-file /srv/i")
        .ok();
    assert_eq!(host.inside("web", "cat /srv/t /srv/i"), "KEY\nnew");
    assert_eq!(host.inside("web", "stat -c '%u:%g %a' /srv/i"), "33:44 640");
    // One that is there keeps what it is.
    host.inside("web", "chown 1:2 /srv/i; chmod 600 /srv/i");
    host.cocker("instantiate web --template-file /srv/t --set KEY=newer --instance-file /srv/i")
        .ok();
    assert_eq!(
        host.inside("web", "cat /srv/i; stat -c '%u:%g %a' /srv/i"),
        "newer\n1:2 600"
    );
    for (instance, error) in [
        ("/srv", "cannot write file `/srv`: it is a folder"),
        ("/srv/", "cannot write file `/srv/`: it is a folder"),
        ("/nowhere/i", "cannot open `/nowhere/i`"),
    ] {
        let line = format!(
            "instantiate web --template-file /srv/t --set KEY=x --instance-file {instance}"
        );
        host.cocker(&line).fails(1, &[error]);
    }
    assert_eq!(names(host, "/srv"), "./i ./t");
}

fn rules_come_from_a_file_the_environment_and_the_command_line(host: &Host) {
    let rules = host_file(host, "map", "${A} file\n${B} file\n${C} file\n");
    host.booted("web");
    write(host, "/srv/t", "${A} ${B} ${C} ${D}\\n");
    let line = format!(
        "instantiate web --template-file /srv/t --mapping-file {rules} --env-prefix APP_ --set ${{C}}=set"
    );
    let mut command = host.cocker_command(&line);
    command
        .env("APP_B", "environment")
        .env("APP_C", "environment");
    command.env("APP_D", "").env("APP_", "x").env("B", "x");
    let output = command.output().expect("cocker is there");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        host.inside("web", "cat -A /srv/t"),
        "file environment set $"
    );
    host.cocker("instantiate web --template-file /srv/t --env-prefix NONE_")
        .fails(1, &["no variable begins with `NONE_`"]);
}

fn every_template_of_a_folder_becomes_a_file_beside_it(host: &Host) {
    host.booted("web");
    for path in ["a.conf.tpl", "sub/b.tpl", "sub/deep/c.tpl", "plain"] {
        write(host, &format!("/srv/app/{path}"), "KEY\\n");
    }
    write(host, "/srv/app/sub/b", "old\\n");
    write(host, "/srv/other/d.tpl", "KEY\\n");
    host.inside(
        "web",
        "cd /srv/app; chmod 600 sub/b; ln -s ../other link; ln -s a.conf.tpl x.tpl; mkfifo pipe.tpl; mkdir e.tpl",
    );
    host.cocker("shutdown web").ok();
    host.cocker("instantiate web --template-file /srv/app --set KEY=value")
        .ok();
    host.cocker("boot web").ok();
    let expected = "./a.conf ./a.conf.tpl ./e.tpl ./link ./pipe.tpl ./plain ./sub ./sub/b ./sub/b.tpl ./sub/deep \
                    ./sub/deep/c ./sub/deep/c.tpl ./x.tpl";
    assert_eq!(names(host, "/srv/app"), expected);
    assert_eq!(names(host, "/srv/other"), "./d.tpl");
    let all = host.inside(
        "web",
        "cd /srv/app; cat a.conf sub/b sub/deep/c a.conf.tpl plain; stat -c %a sub/b",
    );
    assert_eq!(all, "value\nvalue\nvalue\nKEY\nKEY\n600");
    host.cocker("instantiate web --template-file /srv/app/e.tpl --set KEY=x")
        .fails(1, &["there is no file `*.tpl` in folder `/srv/app/e.tpl`"]);
    host.cocker("instantiate web --template-file /srv/app --set KEY=x --instance-file /srv/x")
        .fails(
            1,
            &[
                "cannot make one file of the templates in folder `/srv/app`",
                "Hint:",
            ],
        );
}

fn folders_may_be_more_than_files_may_be_open_at_first(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "for i in $(seq 100); do mkdir -p /srv/$i; echo KEY > /srv/$i/x.tpl; done",
    );
    host.shell("ulimit -S -n 64; cocker instantiate web --template-file /srv --set KEY=value")
        .ok();
    let all = host.inside("web", "cat /srv/*/x | uniq -c; find /srv -name '.cocker*'");
    assert_eq!(all.trim(), "100 value");
}

fn of_several_templates_all_are_instantiated_or_none(host: &Host) {
    host.booted("web");
    for name in ["a", "b", "c"] {
        write(host, &format!("/srv/{name}"), &format!("{name} KEY\\n"));
    }
    let all = |last: &str| {
        let line = format!(
            "instantiate web --template-file /srv/a --template-file /srv/b --template-file {last} --set KEY=value"
        );
        host.cocker(&line)
    };
    let untouched = "a KEY\nb KEY\nc KEY";
    all("/srv/missing").fails(1, &["cannot open `/srv/missing`"]);
    assert_eq!(host.inside("web", "cat /srv/*"), untouched);
    all("/srv/./a").fails(1, &["cannot make `/srv/./a` of two templates"]);
    assert_eq!(host.inside("web", "cat /srv/*"), untouched);
    // One in whose place nothing can be put.
    host.inside(
        "web",
        "touch /root/mounted; mount --bind /srv/c /root/mounted",
    );
    all("/root/mounted").fails(1, &["cannot replace `/root/mounted`: it is mounted there"]);
    assert_eq!(host.inside("web", "cat /srv/*"), untouched);
    assert_eq!(host.inside("web", "cat /root/mounted"), "c KEY");
    all("/srv/c").ok();
    assert_eq!(
        host.inside("web", "cat /srv/a /srv/b /srv/c"),
        "a value\nb value\nc value"
    );
    assert_eq!(names(host, "/srv"), "./a ./b ./c");
}

fn strictly_a_place_without_a_rule_changes_nothing(host: &Host) {
    host.booted("web");
    write(host, "/srv/a", "${A}\\n");
    write(host, "/srv/b", "${A} ${B}\\n\\n${C}\\n");
    let line =
        "instantiate web --template-file /srv/a --template-file /srv/b --strict --set ${A}=1";
    let error = "there is no rule for `${B}` (/srv/b:1), `${C}` (/srv/b:3)";
    host.cocker(line).fails(1, &[error, "without `--strict`"]);
    host.cocker(&format!("{line} --dry-run")).fails(1, &[error]);
    assert_eq!(host.inside("web", "cat /srv/a"), "${A}");
    host.cocker(&format!("{line} --set ${{B}}=2 --set ${{C}}=3"))
        .ok();
    assert_eq!(host.inside("web", "cat /srv/a /srv/b"), "1\n1 2\n\n3");
}

fn a_dry_run_shows_the_difference_and_changes_nothing(host: &Host) {
    host.booted("web");
    write(host, "/srv/t", "one\\nKEY\\nthree\\n");
    write(host, "/srv/steering", "\\033[2JKEY\\n");
    write(host, "/srv/same", "nothing\\n");
    let line =
        "instantiate web --template-file /srv/t --template-file /srv/same --set KEY=two --dry-run";
    let difference = "--- /srv/t\n+++ /srv/t\n@@ -1,3 +1,3 @@\n one\n-KEY\n+two\n three\n";
    host.cocker(line).exits(0).prints(difference);
    host.cocker("-a rplfile -c web --template-file /srv/same --set KEY=two --instance-file /srv/i --dry-run")
        .exits(0)
        .prints("--- /dev/null\n+++ /srv/i\n@@ -0,0 +1 @@\n+nothing\n");
    let mut terminal =
        host.terminal("instantiate web --template-file /srv/steering --set KEY=two --dry-run");
    terminal.exits(0);
    assert!(
        terminal.screen().contains("-\\u{1b}[2JKEY"),
        "{}",
        terminal.screen()
    );
    assert!(!terminal.screen().contains('\x1b'), "{}", terminal.screen());
    host.inside(
        "web",
        "head -c 1100000 /dev/zero > /srv/big; echo KEY >> /srv/big",
    );
    host.cocker("instantiate web --template-file /srv/big --set KEY=two --dry-run")
        .exits(0)
        .prints("/srv/big: too large to be compared; 1 key is replaced, and 1100004 bytes become 1100004\n");
    assert_eq!(
        host.inside("web", "cat /srv/t; tail -c 4 /srv/big"),
        "one\nKEY\nthree\nKEY"
    );
    assert_eq!(names(host, "/srv"), "./big ./same ./steering ./t");
    host.cocker("shutdown web").ok();
    host.cocker(line).exits(0).prints(difference);
}

fn links_lead_nowhere_but_inside(host: &Host) {
    let secret = PathBuf::from(host_file(host, "secret", "KEY\n"));
    host.booted("web");
    // To its owner inside, the path of a file outside is the path of one inside.
    host.inside(
        "web",
        &format!(
            "cd /srv; ln -s {0} absolute; ln -s ../../../../..{0} relative; ln -s loop loop",
            secret.display()
        ),
    );
    for link in ["absolute", "relative", "loop"] {
        host.cocker(&format!(
            "instantiate web --template-file /srv/{link} --set KEY=out"
        ))
        .fails(1, &[&format!("cannot open `/srv/{link}`")]);
    }
    host.inside(
        "web",
        &format!(
            "mkdir -p {}",
            secret.parent().expect("it has one").display()
        ),
    );
    write(host, &secret.display().to_string(), "inside KEY\\n");
    for link in ["absolute", "relative"] {
        host.cocker(&format!(
            "instantiate web --template-file /srv/{link} --set KEY={link}-KEY"
        ))
        .ok();
    }
    assert_eq!(
        host.inside("web", "cat /srv/absolute"),
        "inside absolute-relative-KEY"
    );
    assert_eq!(
        host.inside("web", "readlink /srv/absolute"),
        secret.display().to_string()
    );
    assert_eq!(fs::read_to_string(&secret).expect("it is ours"), "KEY\n");
    // As a target, too: what it leads to is made inside.
    write(host, "/srv/t", "KEY\\n");
    host.inside("web", "ln -s /root/made /srv/dangling");
    host.cocker("instantiate web --template-file /srv/t --set KEY=x --instance-file /srv/dangling")
        .ok();
    assert_eq!(host.inside("web", "cat /root/made"), "x");
}

fn what_is_no_file_is_refused_without_being_opened(host: &Host) {
    host.booted("web");
    write(host, "/srv/t", "KEY\\n");
    host.inside("web", "mkfifo /srv/pipe");
    for (path, what) in [("/srv/pipe", "a FIFO"), ("/dev/zero", "a device")] {
        let error = format!("cannot use `{path}`: it is {what}, and no regular file");
        host.cocker(&format!(
            "instantiate web --template-file {path} --set KEY=x"
        ))
        .fails(1, &[&error])
        .within(PATIENCE);
        host.cocker(&format!(
            "instantiate web --template-file /srv/t --set KEY=x --instance-file {path}"
        ))
        .fails(1, &[&error])
        .within(PATIENCE);
    }
    assert_eq!(host.inside("web", "test -p /srv/pipe && cat /srv/t"), "KEY");
}

fn bad_rules_are_refused_with_their_lines(host: &Host) {
    host.booted("web");
    write(host, "/srv/t", "A\\n");
    for (text, cause) in [
        ("A 1\n\nB\n", "line 3: key `B` has no value"),
        ("A 1\nA 2\n", "key `A` is on line 1 and on line 2"),
    ] {
        let rules = host_file(host, "map", text);
        host.cocker(&format!(
            "instantiate web --template-file /srv/t --mapping-file {rules}"
        ))
        .fails(1, &[&format!("cannot read mapping file `{rules}`"), cause]);
    }
    host.cocker("instantiate web --template-file /srv/t --mapping-file /nowhere")
        .fails(1, &["cannot read mapping file `/nowhere`", "No such file"]);
    // However large it is, and without end.
    host.cocker("instantiate web --template-file /srv/t --mapping-file /dev/zero")
        .fails(1, &["it is larger than 16777216 bytes"]);
    assert_eq!(host.inside("web", "cat /srv/t"), "A");
}

fn a_large_file_takes_little_memory(host: &Host) {
    host.booted("web");
    // 200 MB of lines, with a key at its beginning, in its middle and at its end.
    for part in [
        "echo KEY; yes 'some line of text' | head -c 99999999",
        "echo KEY; yes | head -c 100000000; echo KEY",
    ] {
        host.inside("web", &format!("({part}) >> /srv/big"));
    }
    // The program itself takes some of it.
    host.shell("ulimit -v 65536; cocker instantiate web --template-file /srv/big --set KEY=value")
        .ok();
    assert_eq!(
        host.inside("web", "grep -c value /srv/big; stat -c %s /srv/big"),
        "3\n200000017"
    );
    host.shell("ulimit -v 65536; cocker instantiate web --template-file /srv/big --set value=KEY --dry-run")
        .exits(0)
        .prints("/srv/big: too large to be compared; 3 keys are replaced, and 200000017 bytes become 200000011\n");
}

fn a_full_disk_leaves_the_old_file(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "mount -t tmpfs -o size=1m none /mnt; head -c 700000 /dev/zero > /mnt/t; echo KEY >> /mnt/t",
    );
    host.cocker("instantiate web --template-file /mnt/t --set KEY=value")
        .fails(
            1,
            &[
                "cannot write what becomes of `/mnt/t`",
                "No space left on device",
            ],
        );
    assert_eq!(
        host.inside("web", "tail -c 4 /mnt/t; stat -c %s /mnt/t"),
        "KEY\n700004"
    );
    assert_eq!(names(host, "/mnt"), "./t");
}

fn a_template_that_never_stops_changing_holds_up_nobody(host: &Host) {
    host.booted("web");
    write(host, "/srv/t", "KEY\\n");
    // It begins anew now and then: it would grow by as much more as reading it takes longer.
    host.inside(
        "web",
        "(n=0; while :; do n=$((n+1)); [ $((n%2000)) = 0 ] && : > /srv/t; echo KEY >> /srv/t; done) > /dev/null 2>&1 & true",
    );
    host.inside("web", "(while :; do ln -sf /srv/t /srv/l; ln -sf /etc /srv/l; rm -f /srv/l; done) > /dev/null 2>&1 & true");
    for _ in 0..20 {
        for file in ["t", "l"] {
            let outcome = host.cocker(&format!(
                "instantiate web --template-file /srv/{file} --set KEY=value"
            ));
            let outcome = outcome.within(Duration::from_secs(10));
            assert!(
                outcome.status.code().is_some_and(|code| code <= 1),
                "{outcome}"
            );
        }
    }
    host.cocker("shutdown web --timeout 0").ok();
    host.cocker("boot web").ok();
    assert_eq!(
        host.inside("web", "ls -A /srv /etc | grep cocker; true"),
        ""
    );
}

fn templates_in_volumes_are_instantiated_and_mounted_files_are_not_replaced(host: &Host) {
    let data = host.folder("data");
    fs::write(data.join("t"), "KEY\n").expect("the folder is ours");
    symlink("/etc/hostname", data.join("out")).expect("the folder is ours");
    let single = host_file(host, "single", "KEY\n");
    host.cocker(&format!(
        "create -m test -c web --volume {}:/data --volume {single}:/srv/single",
        data.display()
    ))
    .ok();
    host.cocker("boot web").ok();
    host.cocker("instantiate web --template-file /data/t --set KEY=value")
        .ok();
    assert_eq!(
        fs::read_to_string(data.join("t")).expect("it is there"),
        "value\n"
    );
    host.cocker("instantiate web --template-file /srv/single --set KEY=value")
        .fails(
            1,
            &[
                "cannot replace `/srv/single`: it is mounted there",
                "changed on the host",
            ],
        );
    assert_eq!(fs::read_to_string(&single).expect("it is there"), "KEY\n");
    // It is mounted still, and may be a template.
    host.inside("web", "echo more >> /srv/single");
    assert_eq!(
        fs::read_to_string(&single).expect("it is there"),
        "KEY\nmore\n"
    );
    host.cocker(
        "instantiate web --template-file /srv/single --set KEY=value --instance-file /srv/i",
    )
    .ok();
    assert_eq!(host.inside("web", "cat /srv/i"), "value\nmore");
    assert_eq!(crate::host::entries(&data), ["out", "t"]);
}
