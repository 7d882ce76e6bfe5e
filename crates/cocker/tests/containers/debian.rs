//! A container as a virtual host: a whole Debian with several services, users and logins at once.

use crate::host::{Host, eventually, with_image_test};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_debian_root_file_system_boots_and_its_tools_work,
        a_service_a_timer_and_a_login_run_side_by_side,
        a_daemon_started_by_run_goes_into_the_background,
        files_changed_by_hand_are_as_left_after_shutdown_and_boot,
        users_of_the_container_are_users,
        what_gives_rights_gives_them_under_the_usual_isolation,
        packages_are_installed_under_the_usual_isolation,
        logins_and_timers_work_under_the_usual_isolation,
        sandboxes_in_the_container_work_under_the_usual_isolation,
    ]
}

#[track_caller]
fn booted_debian(host: &Host) {
    host.add_image_debian();
    host.cocker("-a create -m debian -c vps").ok();
    host.cocker("-a boot -c vps").ok();
}

fn a_debian_root_file_system_boots_and_its_tools_work(host: &Host) {
    booted_debian(host);
    assert!(
        host.inside("vps", "cat /etc/os-release")
            .contains("bookworm")
    );
    assert!(host.inside("vps", "apt-get --version").starts_with("apt "));
    let packages = host.inside("vps", "dpkg -l");
    for package in ["bash", "cron", "openssh-server", "procps"] {
        assert!(
            packages
                .lines()
                .any(|line| line.starts_with("ii") && line.contains(&format!(" {package} "))),
            "{packages}"
        );
    }
    assert_eq!(
        host.inside("vps", "dpkg --verify bash coreutils dpkg procps"),
        ""
    );
    assert_eq!(
        host.inside("vps", "hostname; whoami; id -u"),
        "vps\nroot\n0"
    );
    // Programs of packages, not of the host: a package's files can be removed and their removal is remembered.
    host.inside("vps", "dpkg --force-depends --purge cron 2>&1");
    assert_eq!(
        host.inside("vps", "ls /usr/sbin/cron 2>/dev/null; true"),
        ""
    );
}

fn a_service_a_timer_and_a_login_run_side_by_side(host: &Host) {
    // The container shares the network of the test, which has nothing but loopback.
    const PORT: u16 = 2222;
    booted_debian(host);
    host.inside("vps", "mkdir -p /run/sshd && ssh-keygen -A > /dev/null");
    // As from a script: sshd's parent is a shell.
    host.inside(
        "vps",
        &format!("/usr/sbin/sshd -p {PORT} -o ListenAddress=127.0.0.1 && true"),
    );
    host.cocker("run vps -- cron").succeeds();
    let mut terminal = host.terminal("-a attach -c vps");
    terminal.expect("connect to container ok\r\n");
    terminal.expect("# ");
    terminal.type_line("echo $((6 * 7)) is the answer");
    terminal.expect("42 is the answer");

    let running = host.inside("vps", "ps -e -o comm=");
    for name in ["cockerinit", "sshd", "cron", "bash"] {
        assert!(
            running.lines().any(|line| line.trim() == name),
            "no {name} in\n{running}"
        );
    }
    let mut banner = String::new();
    eventually("sshd answers", || {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", PORT)) else {
            return false;
        };
        BufReader::new(stream).read_line(&mut banner).is_ok() && !banner.is_empty()
    });
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");

    terminal.type_line("exit");
    terminal.exits(0);
    // The services outlive the login, and end with the container.
    let running = host.inside("vps", "ps -e -o comm=");
    assert!(
        ["sshd", "cron"]
            .iter()
            .all(|name| running.lines().any(|line| line.trim() == *name)),
        "{running}"
    );
    host.cocker("-a shutdown -c vps").ok();
    assert!(host.contained().is_empty());
    assert!(
        TcpStream::connect(("127.0.0.1", PORT)).is_err(),
        "sshd still answers"
    );
}

/// sshd takes itself for a child of the host's init, and stays in front, when its parent is process 1 and it leads its
/// session; so commands must not lead one.
fn a_daemon_started_by_run_goes_into_the_background(host: &Host) {
    booted_debian(host);
    host.inside("vps", "mkdir -p /run/sshd && ssh-keygen -A > /dev/null");
    let sshd = "/usr/sbin/sshd -p 2223 -o ListenAddress=127.0.0.1";
    host.cocker(&format!("run vps -- {sshd}"))
        .succeeds()
        .prints("");
    host.until_inside_runs("sshd");
    host.cocker("-a shutdown -c vps").ok();
}

fn files_changed_by_hand_are_as_left_after_shutdown_and_boot(host: &Host) {
    booted_debian(host);
    host.inside(
        "vps",
        "useradd --create-home --shell /bin/bash calvin && echo installed > /usr/local/bin/marker \
         && chmod 4755 /usr/local/bin/marker && mkdir -p /srv/www && echo page > /srv/www/index.html \
         && chown -R www-data:www-data /srv/www && chmod 2750 /srv/www && touch -d 2001-02-03T04:05:06Z /srv/www/index.html \
         && ln /srv/www/index.html /srv/www/second-name && echo 'setting = 1' >> /etc/ssh/sshd_config && rm -r /usr/share/doc \
         && mkdir /usr/share/doc && echo new > /usr/share/doc/only",
    );
    let look = "stat -c '%n %a %U:%G %h %Y %s' /home/calvin /usr/local/bin/marker /srv/www /srv/www/index.html \
                /srv/www/second-name; tail -n 1 /etc/ssh/sshd_config; ls /usr/share/doc; getent passwd calvin";
    let before = host.inside("vps", look);
    assert!(
        before.contains("/usr/local/bin/marker 4755 root:root 1 "),
        "{before}"
    );
    assert!(
        before.contains("/srv/www/index.html 644 www-data:www-data 2 981173106 5"),
        "{before}"
    );
    assert!(before.contains("\nonly\n"), "{before}");
    for _ in 0..2 {
        host.cocker("-a shutdown -c vps").ok();
        host.cocker("-a boot -c vps").ok();
        assert_eq!(host.inside("vps", look), before);
    }
}

fn users_of_the_container_are_users(host: &Host) {
    booted_debian(host);
    let id = host.inside("vps", "su - nobody -s /bin/sh -c id");
    assert!(
        id.starts_with("uid=65534(nobody) gid=65534(nogroup)"),
        "{id}"
    );
    // What root made 0600, a user may not read.
    let read = host.inside("vps", "echo secret > /root/secret; chmod 600 /root/secret; su nobody -s /bin/sh -c 'cat /root/secret' 2>&1; true");
    assert!(read.contains("Permission denied"), "{read}");
    // A set-id program raises rights inside: the id is that of the container's root.
    host.inside(
        "vps",
        "cp /usr/bin/id /usr/local/bin/id-of-root && chmod 4755 /usr/local/bin/id-of-root",
    );
    let id = host.inside("vps", "su nobody -s /bin/sh -c /usr/local/bin/id-of-root");
    assert!(id.contains("euid=0(root)"), "{id}");
}

/// One that has a network of its own, and so needs nobody outside: a user with a password and one without.
#[track_caller]
fn booted_with_users(host: &Host) {
    host.add_image_debian();
    users_in_a_network(host, "CUSTOM");
}

/// The same in another network; with HOST a container is kept to abstract sockets of its own as well.
#[track_caller]
fn users_in_a_network(host: &Host, network: &str) {
    host.cocker(&format!("create -m debian -c vps --net {network} -b"))
        .ok();
    host.inside(
        "vps",
        "useradd --create-home --shell /bin/bash calvin && echo calvin:secret | chpasswd && useradd --create-home hobbes \
         && echo 'calvin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/calvin && chmod 440 /etc/sudoers.d/calvin",
    );
}

#[track_caller]
fn as_calvin(host: &Host, line: &str) -> String {
    let words = ["run", "vps", "--user", "calvin", "--", "bash", "-c", line];
    let outcome = host.cocker_words(&words);
    outcome.succeeds().stdout().trim_end().to_string()
}

fn what_gives_rights_gives_them_under_the_usual_isolation(host: &Host) {
    booted_with_users(host);
    rights_are_given(host);
    host.cocker("destroy --shutdown vps").ok();
    users_in_a_network(host, "HOST");
    // Whom the host lets ping, which systemd sets so on most hosts; a right over the host's network nobody inside has.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").expect("the network is ours");
    rights_are_given(host);
}

#[track_caller]
fn rights_are_given(host: &Host) {
    assert_eq!(host.inside("vps", "su calvin -c 'id -un'"), "calvin");
    assert_eq!(
        host.inside("vps", "su - calvin -c 'id -un; pwd'"),
        "calvin\n/home/calvin"
    );
    assert_eq!(
        as_calvin(host, "sudo -n id -u; sudo -n -u hobbes id -un"),
        "0\nhobbes"
    );
    assert_eq!(
        as_calvin(host, "echo secret | su calvin -c 'id -un' 2>/dev/null"),
        "calvin"
    );
    assert_eq!(
        as_calvin(host, "ping -c 1 -W 5 127.0.0.1 | grep -c ' 0% packet loss'"),
        "1"
    );
    assert_eq!(
        as_calvin(host, "cat /etc/shadow 2>/dev/null || echo closed"),
        "closed"
    );
}

fn packages_are_installed_under_the_usual_isolation(host: &Host) {
    booted_with_users(host);
    // A source of packages in the container itself, with one package.
    host.inside(
        "vps",
        "mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /srv/repo && cd /srv/repo \
         && printf 'Package: greeter\\nVersion: 1\\nArchitecture: all\\nMaintainer: n\\nDescription: greets\\n' > /tmp/p/DEBIAN/control \
         && printf '#!/bin/sh\\nadduser --system --quiet greeter\\n' > /tmp/p/DEBIAN/postinst && chmod 755 /tmp/p/DEBIAN/postinst \
         && printf '#!/bin/sh\\necho hello\\n' > /tmp/p/usr/bin/greet && chmod 755 /tmp/p/usr/bin/greet \
         && dpkg-deb --root-owner-group -b /tmp/p greeter.deb \
         && { cat /tmp/p/DEBIAN/control; echo Filename: ./greeter.deb; echo Size: $(stat -c %s greeter.deb); \
              echo SHA256: $(sha256sum greeter.deb | cut -d' ' -f1); echo; } > Packages \
         && echo 'deb [trusted=yes] file:/srv/repo ./' > /etc/apt/sources.list",
    );
    host.inside(
        "vps",
        "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install greeter 2>&1",
    );
    assert_eq!(
        host.inside("vps", "greet; id -un greeter"),
        "hello\ngreeter"
    );
    host.inside(
        "vps",
        "DEBIAN_FRONTEND=noninteractive apt-get -qq purge greeter 2>&1",
    );
    host.cocker("run vps -- greet").exits(127);
}

fn logins_and_timers_work_under_the_usual_isolation(host: &Host) {
    booted_with_users(host);
    // What starts when cron does, so that nobody waits for a whole minute.
    host.inside(
        "vps",
        "echo '@reboot id -un > /home/calvin/by-cron' | crontab -u calvin -",
    );
    host.cocker("run vps -- cron").succeeds();
    host.inside(
        "vps",
        "mkdir -p /run/sshd && ssh-keygen -A > /dev/null && ip link set lo up",
    );
    host.cocker("run vps -- /usr/sbin/sshd -p 2222").succeeds();
    // It goes into the background before it listens.
    eventually("sshd listens", || {
        let connect = [
            "run",
            "vps",
            "--",
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/2222",
        ];
        host.cocker_words(&connect).status.success()
    });
    as_calvin(
        host,
        "mkdir -m 700 -p ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id && cat ~/.ssh/id.pub > ~/.ssh/authorized_keys",
    );
    let login = "ssh -i ~/.ssh/id -p 2222 -o StrictHostKeyChecking=no -o LogLevel=ERROR calvin@127.0.0.1 'id -un; sudo -n id -u'";
    assert_eq!(as_calvin(host, login), "calvin\n0");
    eventually("cron has run what it was to run", || {
        host.inside("vps", "cat /home/calvin/by-cron 2>/dev/null; true") == "calvin"
    });
}

fn sandboxes_in_the_container_work_under_the_usual_isolation(host: &Host) {
    booted_with_users(host);
    sandboxes_work(host);
    host.cocker("destroy --shutdown vps").ok();
    users_in_a_network(host, "HOST");
    sandboxes_work(host);
}

#[track_caller]
fn sandboxes_work(host: &Host) {
    assert_eq!(as_calvin(host, "unshare --user --map-root-user id -u"), "0");
    let bwrap = "bwrap --ro-bind / / --dev /dev --tmpfs /tmp --unshare-all --die-with-parent";
    assert_eq!(
        as_calvin(
            host,
            &format!(
                "{bwrap} sh -c 'id -un; touch /tmp/x && ls /tmp; touch /etc/x 2>/dev/null || echo closed'"
            )
        ),
        "calvin\nx\nclosed"
    );
    // Root uses it too.
    assert_eq!(host.inside("vps", &format!("{bwrap} id -u")), "0");
    // One thing that does not: a proc of its own would be one without masks.
    let outcome = host.cocker_words(&[
        "run",
        "vps",
        "--user",
        "calvin",
        "--",
        "bash",
        "-c",
        &format!("{bwrap} --proc /proc true"),
    ]);
    assert!(!outcome.status.success(), "{outcome}");
}
