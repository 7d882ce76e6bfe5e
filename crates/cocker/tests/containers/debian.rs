//! A container as a virtual host: a whole Debian with several services, users and logins at once.

use crate::host::{Host, eventually, with_image_test};
use std::io::{BufRead, BufReader};
use std::net::TcpStream;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_debian_root_file_system_boots_and_its_tools_work,
        a_service_a_timer_and_a_login_run_side_by_side,
        a_daemon_started_by_run_goes_into_the_background,
        files_changed_by_hand_are_as_left_after_shutdown_and_boot,
        users_of_the_container_are_users,
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
