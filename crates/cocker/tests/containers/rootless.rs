//! cocker as an ordinary user has it: the same commands, with nothing of the host's root.

use crate::host::{
    Access, Host, Ids, Outcome, Place, SshServer, User, eventually, in_a_lab, on_an_empty_store,
    processes,
};
use cocker_sys::landlock::has_scopes;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    let mut trials = on_an_empty_store![
        the_quick_start_works_for_an_ordinary_user,
        root_inside_is_the_user_outside_and_its_files_are_only_its_own,
        an_image_is_made_of_a_container_and_boots_again,
        what_hides_lower_files_goes_into_archives_as_for_everybody,
        an_archive_cannot_say_where_its_files_lie,
        files_go_in_and_out_booted_and_stopped,
        volumes_show_the_users_files_as_those_of_root,
        privileged_means_no_more_than_the_user,
        a_killed_supervisor_leaves_nothing_once_the_next_command_ran,
        a_command_joins_the_namespace_of_the_container_that_it_is_about,
        images_go_through_the_users_own_ssh,
        what_cannot_be_had_is_said_with_its_remedy,
        a_delegated_cgroup_is_used,
        limits_hold_in_a_delegated_cgroup,
        open_files_are_limited_without_a_cgroup,
        what_the_user_has_open_stays_outside,
        abstract_sockets_of_the_users_session_are_out_of_reach,
        ids_are_found_by_every_name_and_in_the_largest_range,
        nobody_else_can_use_the_store,
    ];
    trials.extend(in_a_lab![
        a_network_of_its_own_is_carried_by_pasta,
        a_network_ends_with_its_container_however_that_ends,
        a_client_that_is_killed_while_pasta_starts_leaves_none,
        a_port_that_is_taken_is_said,
    ]);
    trials
}

/// The user with container `t` of image `test`, created and not booted.
#[track_caller]
fn with_container(user: &User, options: &str) {
    user.cocker("install-test").ok();
    user.cocker(&format!("create -m test -c t {options}")).ok();
}

#[track_caller]
fn destroy(user: &User, name: &str) {
    user.cocker(&format!("-a destroy -h -c {name}")).ok();
}

fn the_quick_start_works_for_an_ordinary_user(host: &Host) {
    const LINES: [(&str, &str, &str); 7] = [
        ("# ", "cocker -a install_test", "OK"),
        ("# ", "cocker -a create -m test -c test", "OK"),
        ("# ", "cocker -a boot -c test -t", "connect to container ok"),
        (
            "[root@test /root] ",
            "id -u; cat /proc/1/comm",
            "cockerinit",
        ),
        ("[root@test /root] ", "exit", "logout"),
        ("# ", "cocker -a shutdown -c test", "OK"),
        ("# ", "cocker -a destroy -c test", "OK"),
    ];
    let user = User::new(host, Ids::Many);
    let mut terminal = user.terminal();
    for (prompt, typed, answer) in LINES {
        terminal.expect(prompt);
        terminal.type_line(typed);
        terminal.expect(answer);
    }
    terminal.expect("# ");
    terminal.type_line("exit");
    terminal.exits(0);
    user.nothing_is_left();
    // The host's root has not heard of any of it.
    assert_eq!(host.entries("."), Vec::<String>::new());
}

fn root_inside_is_the_user_outside_and_its_files_are_only_its_own(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    user.cocker("boot t").ok();
    let root = user.root_process("t");
    let status = fs::read_to_string(format!("/proc/{root}/status")).expect("it runs");
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let id = user.id().to_string();
    let all_its_own = |uids: &str| uids.split_whitespace().all(|uid| uid == id);
    assert!(uids.is_some_and(all_its_own), "{status}");

    assert_eq!(user.inside("t", "id -u; id -g"), "0\n0");
    user.inside("t", "echo kept > /root/file && chown 5:7 /root/file");
    assert_eq!(user.inside("t", "stat -c %u:%g /root/file"), "5:7");
    let upper = user.store().join("containers/t/files/upper/root/file");
    let found = fs::metadata(upper).expect("it was written");
    assert_eq!((found.uid(), found.gid()), (user.id_of(5), user.id_of(7)));

    // Nothing of the host's root is had inside, whatever is tried.
    let tried = "mknod /tmp/disk b 254 0; echo $?; echo 1 > /proc/sys/kernel/sysrq; echo $?; \
                 kill -0 2 2>/dev/null; echo $?";
    assert_eq!(user.inside("t", tried), "1\n2\n1");
    destroy(&user, "t");
    user.nothing_is_left();
}

fn an_image_is_made_of_a_container_and_boots_again(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    user.cocker("boot t").ok();
    user.inside(
        "t",
        "mkdir /srv/own && echo 1 > /srv/own/one && chown 33:33 /srv/own/one",
    );
    user.cocker("shutdown t").ok();
    user.cocker("to-image --from-container t --to-image two")
        .ok();
    user.cocker("export two --compress zstd").ok();
    user.cocker("rm-image two").ok();
    user.cocker("import two.cockerimage").ok();
    user.cocker("check").succeeds();
    user.cocker("create -m two -c u -b").ok();
    let told = user.inside("u", "stat -c '%u %s' /srv/own/one; cat /srv/own/one");
    assert_eq!(told, "33 2\n1");
    destroy(&user, "u");
    user.nothing_is_left();
}

fn what_hides_lower_files_goes_into_archives_as_for_everybody(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    user.cocker("boot t").ok();
    user.inside("t", "mkdir /d && echo low > /d/low && echo gone > /gone");
    user.cocker("shutdown t").ok();
    user.cocker("to-image --from-container t --to-image low")
        .ok();
    user.cocker("create -m low -c t -b").ok();
    user.inside("t", "rm -r /d /gone && mkdir /d && echo high > /d/high");
    user.cocker("shutdown t").ok();
    user.cocker("to-image --from-container t --to-image high")
        .ok();
    for image in ["test", "low", "high"] {
        user.cocker(&format!("export {image}")).ok();
    }
    let looks = "ls /d; cat /d/high; ls /gone 2>/dev/null || echo no";
    user.cocker("create -m high -c t -b").ok();
    assert_eq!(user.inside("t", looks), "high\nhigh\nno");
    destroy(&user, "t");

    // What the host's root imports shows the same, and so does what comes back from there.
    for image in ["test", "low", "high"] {
        let file = user.home().join(format!("{image}.cockerimage"));
        host.cocker(&format!("import {}", file.display())).ok();
    }
    host.cocker("create -m high -c t -b").ok();
    assert_eq!(host.inside("t", looks), "high\nhigh\nno");
    host.cocker("-a destroy -h -c t").ok();
    user.cocker("rm-image high").ok();
    let again = user.home().join("high.cockerimage");
    host.cocker(&format!("export high -f --image-file {}", again.display()))
        .ok();
    chown(&again, Some(user.id()), Some(user.id())).expect("we are root");
    user.cocker("import high.cockerimage").ok();
    user.cocker("create -m high -c t -b").ok();
    assert_eq!(user.inside("t", looks), "high\nhigh\nno");
    destroy(&user, "t");
    user.nothing_is_left();
}

/// Everybody may write attributes under `user.`, and there an ordinary user's overlay looks for its own.
fn an_archive_cannot_say_where_its_files_lie(host: &Host) {
    let user = User::new(host, Ids::Many);
    user.cocker("install-test").ok();
    let tree = host.folder("tree");
    fs::create_dir(tree.join("moved")).expect("it is ours");
    fs::create_dir(tree.join("closed")).expect("it is ours");
    let archive = user.home().join("evil.cockerimage");
    let script = format!(
        "cd {} && setfattr -n user.overlay.redirect -v /root moved && \
         setfattr -n user.overlay.opaque -v y closed && setfattr -n user.note -v kept closed && \
         tar --xattrs --xattrs-include='user.*' -czf {} . && chmod 644 {1}",
        tree.display(),
        archive.display(),
    );
    host.shell(&script).succeeds();
    user.cocker("import evil.cockerimage").ok();
    let layers = user.store().join("layers");
    let script = format!(
        "getfattr -R -d -m - --absolute-names {}/*/tree",
        layers.display()
    );
    let told = host.shell(&script).stdout();
    assert!(told.contains("user.note=\"kept\""), "{told}");
    assert!(!told.contains("user.overlay"), "{told}");
}

fn files_go_in_and_out_booted_and_stopped(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    fs::write(user.home().join("in"), "in\n").expect("we are root");
    chown(user.home().join("in"), Some(user.id()), Some(user.id())).expect("we are root");
    for (round, is_booted) in [("1", true), ("2", false)] {
        if is_booted {
            user.cocker("boot t").ok();
        }
        user.cocker(&format!("put t in /root/in{round}")).ok();
        user.cocker(&format!("get t /root/in{round} out{round}"))
            .ok();
        let out = user.home().join(format!("out{round}"));
        assert_eq!(fs::read_to_string(&out).expect("it came"), "in\n");
        assert_eq!(fs::metadata(&out).expect("it came").uid(), user.id());
        fs::write(user.home().join("map"), "NAME value\n").expect("we are root");
        user.cocker(&format!("put t in /root/template{round}")).ok();
        let line = format!("instantiate --template-file /root/template{round} --set in=done t");
        user.cocker(&line).ok();
        user.cocker(&format!("get t /root/template{round} done{round}"))
            .ok();
        let done = fs::read_to_string(user.home().join(format!("done{round}")));
        assert_eq!(done.expect("it came"), "done\n");
        if is_booted {
            user.cocker("shutdown t").ok();
        }
    }
    destroy(&user, "t");
    user.nothing_is_left();
}

fn volumes_show_the_users_files_as_those_of_root(host: &Host) {
    let user = User::new(host, Ids::Many);
    let shared = user.home().join("shared");
    user.shell("mkdir shared && echo mine > shared/mine")
        .succeeds();
    let closed = host.folder("closed");
    fs::write(closed.join("secret"), "secret\n").expect("it is ours");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("it is ours");
    with_container(&user, &format!("--volume {}:/data", shared.display()));
    user.cocker("boot t").ok();
    assert_eq!(
        user.inside("t", "stat -c %u /data/mine; cat /data/mine"),
        "0\nmine"
    );
    user.inside("t", "echo new > /data/new");
    let new = fs::metadata(shared.join("new")).expect("it was written");
    assert_eq!(new.uid(), user.id());
    destroy(&user, "t");
    assert!(shared.join("new").exists());

    // What the user may not read on the host is not to be had by a container either.
    user.cocker(&format!(
        "create -m test -c t --volume {}:/data",
        closed.display()
    ))
    .ok();
    user.cocker("boot t").ok();
    let tried = user.cocker("run t -- cat /data/secret");
    let tried = tried.exits(1).prints("");
    assert!(tried.stderr.contains("Permission denied"), "{tried}");
    // Control: what is closed is the folder.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(user.inside("t", "cat /data/secret"), "secret");
    destroy(&user, "t");
    user.nothing_is_left();
}

fn privileged_means_no_more_than_the_user(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--privileged");
    user.cocker("boot t").ok();
    let map = user.inside("t", "cat /proc/self/uid_map");
    let map: Vec<&str> = map.split_whitespace().collect();
    let (id, besides) = (user.id().to_string(), user.id_of(1).to_string());
    assert_eq!(map, ["0", &*id, "1", "1", &*besides, "65535"]);
    let tried = "mknod /tmp/disk b 254 0; echo $?; cat /proc/kcore > /dev/null; echo $?";
    assert_eq!(user.inside("t", tried), "1\n1");
    destroy(&user, "t");
    user.nothing_is_left();
}

#[track_caller]
fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent
        .and_then(|pid| pid.trim().parse().ok())
        .expect("it has one")
}

#[track_caller]
fn kill_supervisor(user: &User, name: &str) {
    let supervisor = parent_of(user.root_process(name));
    let supervisor = Pid::from_raw(supervisor).expect("a pid");
    kill_process(supervisor, Signal::KILL).expect("it runs");
}

fn a_killed_supervisor_leaves_nothing_once_the_next_command_ran(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    user.cocker("boot t").ok();
    kill_supervisor(&user, "t");
    eventually("its processes are gone", || user.processes().is_empty());
    let listing = user.cocker("-s containers").succeeds().stdout();
    assert!(listing.contains("STOPPED"), "{listing}");
    user.cocker("boot t").ok();
    assert_eq!(user.inside("t", "echo up"), "up");
    destroy(&user, "t");
    user.nothing_is_left();
}

/// Two that were booted at once stand in two namespaces; each is reached by what is about it.
fn a_command_joins_the_namespace_of_the_container_that_it_is_about(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    user.cocker("create -m test -c u").ok();
    let both = [user.start("boot t"), user.start("boot u")];
    for boot in both {
        boot.outcome().ok();
    }
    for name in ["t", "u"] {
        let script = format!("echo {name} > /root/name");
        user.inside(name, &script);
        user.cocker(&format!("get {name} /root/name {name}")).ok();
        let told = fs::read_to_string(user.home().join(name));
        assert_eq!(told.expect("it came"), format!("{name}\n"));
    }
    destroy(&user, "t");
    destroy(&user, "u");
    user.nothing_is_left();
}

fn images_go_through_the_users_own_ssh(host: &Host) {
    let server = SshServer::start(host, Access::Everything);
    let user = User::new(host, Ids::Many);
    let folder = user.home().join(".ssh");
    fs::create_dir(&folder).expect("we are root");
    for (name, text) in [
        (
            "id_ed25519",
            fs::read(server.file("id")).expect("it was made"),
        ),
        (
            "known_hosts",
            fs::read(server.file("known_hosts")).expect("it was made"),
        ),
        (
            "config",
            format!(
                "Host images\n HostName 127.0.0.1\n User root\n Port {}\n",
                server.port()
            )
            .into(),
        ),
    ] {
        let file = folder.join(name);
        fs::write(&file, text).expect("we are root");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("we are root");
        chown(&file, Some(user.id()), Some(user.id())).expect("we are root");
    }
    chown(&folder, Some(user.id()), Some(user.id())).expect("we are root");
    user.cocker("install-test").ok();
    user.cocker("spush test --srepo images").ok();
    assert_eq!(server.names(), ["test.cockerimage", "test.sha256"]);
    user.cocker("rm-image test").ok();
    user.cocker("spull test").ok();
    user.cocker("create -m test -c t -b").ok();
    assert_eq!(user.inside("t", "echo pulled"), "pulled");
    destroy(&user, "t");
    user.nothing_is_left();
}

fn what_cannot_be_had_is_said_with_its_remedy(host: &Host) {
    let alone = User::new(host, Ids::One);
    let refused = alone.cocker("images").fails(1, &["/etc/subuid", "no ids"]);
    assert!(
        refused.stderr.contains("usermod --add-subuids"),
        "{refused}"
    );

    let user = User::new(host, Ids::Many);
    let without = user
        .shell("mkdir bin && ln -s $(command -v cocker) bin/cocker && PATH=$PWD/bin cocker images");
    without.fails(1, &["cannot execute `newuidmap`", "uidmap"]);

    with_container(&user, "");
    let limits = user.cocker("boot t --mem-limit 100M");
    limits.fails(1, &["--mem-limit", "Delegate=yes"]);
    user.cocker("create -m test -c c --net CUSTOM")
        .fails(1, &["only root"]);
    user.cocker("boot t").ok();
    user.cocker("pause t").fails(1, &["delegated"]);
    destroy(&user, "t");
    user.nothing_is_left();
}

/// A cgroup folder in v2 that the host's root has delegated to a user (cgroup-v2, "Model of Delegation"); it goes when this is
/// dropped.
struct Delegated<'a> {
    host: &'a Host,
    user: &'a User<'a>,
    folder: String,
}

impl<'a> Delegated<'a> {
    fn to(host: &'a Host, user: &'a User<'a>) -> Delegated<'a> {
        let places = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let mut places = places.into_iter();
        let place = places.find(|place| fs::metadata(format!("{place}/cgroup.procs")).is_ok());
        let place = place.expect("the machine has cgroup v2");
        let read = |name| fs::read_to_string(format!("{place}/{name}")).expect("we are root");
        for controller in read("cgroup.controllers").split_whitespace() {
            // What somebody has in v1 cannot be given on here.
            let given_on = read("cgroup.subtree_control");
            if !given_on.split_whitespace().any(|it| it == controller) {
                let _ = fs::write(
                    format!("{place}/cgroup.subtree_control"),
                    format!("+{controller}"),
                );
            }
        }
        let folder = format!("{place}/cocker-test-user-{}", user.id());
        fs::create_dir(&folder).expect("we are root");
        for file in [
            "",
            "cgroup.procs",
            "cgroup.subtree_control",
            "cgroup.threads",
        ] {
            let file = format!("{folder}/{file}");
            chown(file, Some(user.id()), Some(user.id())).expect("we are root");
        }
        Delegated { host, user, folder }
    }

    fn has(&self, controller: &str) -> bool {
        let all = fs::read_to_string(format!("{}/cgroup.controllers", self.folder));
        let all = all.expect("it is there");
        all.split_whitespace().any(|name| name == controller)
    }

    /// A line of the user's shell, begun in the folder.
    fn command(&self, line: &str) -> std::process::Command {
        let (id, home) = (self.user.id(), self.user.home().display());
        let line = format!(
            "echo $$ > {folder}/cgroup.procs; cd {home}; export HOME={home}; unset COCKER_HOME COCKER_CGROUP; \
             exec setpriv --reuid={id} --regid={id} --clear-groups -- cocker {line}",
            folder = self.folder
        );
        let mut command = self.host.command("sh");
        command.args(["-c", &line]);
        command
    }

    #[track_caller]
    fn types(&self, line: &str) -> Outcome {
        let started = self.host.started(self.command(line), line.into());
        started.feed(b"").outcome()
    }

    /// How many containers have a folder in it.
    fn containers(&self) -> usize {
        let entries = fs::read_dir(format!("{}/cocker", self.folder));
        entries.map_or(0, |entries| {
            let folders = entries.flatten().filter(|entry| entry.path().is_dir());
            folders.count()
        })
    }
}

impl Drop for Delegated<'_> {
    fn drop(&mut self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.path().is_dir()) {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Mounts the hierarchy, which is the whole machine's, by drop as it was.
struct Remounted {
    options: String,
}

impl Remounted {
    fn new() -> Remounted {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let options = mounts.lines().find_map(|line| {
            let (place, how) = line.split_once(" - cgroup2 ")?;
            let is_it = place.split(' ').nth(4) == Some("/sys/fs/cgroup");
            how.split(' ').nth(1).filter(|_| is_it)
        });
        let options = options.expect("the hierarchy is mounted").into();
        Remounted { options }
    }
}

impl Drop for Remounted {
    fn drop(&mut self) {
        let options = format!("remount,{}", self.options);
        let _ = std::process::Command::new("mount")
            .args(["-t", "cgroup2", "-o", &options, "none", "/sys/fs/cgroup"])
            .status();
    }
}

/// This machine's v2 may have no controllers; what it has always is a freezer.
fn a_delegated_cgroup_is_used(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    let cgroup = Delegated::to(host, &user);
    cgroup.types("boot t").ok();
    assert_eq!(cgroup.containers(), 1);
    cgroup.types("pause t").ok();
    let listing = cgroup.types("-s containers").succeeds().stdout();
    assert!(listing.contains("PAUSED("), "{listing}");
    cgroup.types("resume t").ok();
    cgroup.types("shutdown t").ok();
    assert_eq!(cgroup.containers(), 0);
    cgroup.types("destroy t").ok();
    user.nothing_is_left();
}

/// With the controllers in v2, as the machine in the box has them; elsewhere they are refused by name.
fn limits_hold_in_a_delegated_cgroup(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    let cgroup = Delegated::to(host, &user);
    let limits = "--mem-limit 64M --pids-limit 40 --cpu-quota 25%";
    if !["memory", "pids", "cpu"].iter().all(|it| cgroup.has(it)) {
        let refused = cgroup.types(&format!("boot t {limits}"));
        refused.fails(1, &["t", "an ordinary user has here no cgroup controller"]);
        assert_eq!(cgroup.containers(), 0);
        destroy(&user, "t");
        return;
    }
    cgroup.types(&format!("boot t {limits}")).ok();
    let listing = cgroup.types("-s containers").succeeds().stdout();
    let root = listing
        .split_once("RUNNING(")
        .and_then(|(_, rest)| rest.split_once(')'));
    let root = root.unwrap_or_else(|| panic!("{listing}")).0;
    let place = fs::read_to_string(format!("/proc/{root}/cgroup")).expect("it runs");
    let place = place
        .trim()
        .trim_start_matches("0::")
        .trim_start_matches('/');
    let place = format!("/sys/fs/cgroup/{place}");
    assert!(
        place.starts_with(&format!("{}/cocker/", cgroup.folder)),
        "{place}"
    );
    let read = |name: &str| fs::read_to_string(format!("{place}/{name}")).expect("it is there");
    let count = |file: &str, key: &str| {
        let text = read(file);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let number = lines
            .find(|(name, _)| *name == key)
            .map(|(_, number)| number);
        number
            .and_then(|it| it.parse::<u64>().ok())
            .unwrap_or_else(|| panic!("{text}"))
    };
    let set = || [read("memory.max"), read("pids.max"), read("cpu.max")].concat();
    assert_eq!(set(), "67108864\n40\n25000 100000\n");

    // Whoever wants more memory is killed for it, and nobody else.
    let hog = cgroup.types("run t -- sh -c 'head -c 200M /dev/zero | tail -c 200M | wc -c'");
    assert!(!hog.stdout().contains("209715200"), "{hog}");
    assert!(count("memory.events", "oom_kill") > 0, "{hog}");
    // Whoever wants more processes gets none.
    cgroup.types("run t -- sh -c 'for n in 1 2 3 4 5 6 7 8 9 0; do for m in 1 2 3 4 5 6; do sleep 1 & done; done; wait'");
    assert!(count("pids.events", "max") > 0);
    // Whoever wants more time waits.
    let busy = cgroup.command("run t -- sh -c 'while :; do :; done'");
    let busy = host.started(busy, "a busy loop".into());
    eventually("it waits", || count("cpu.stat", "nr_throttled") > 2);
    drop(busy);
    assert_eq!(
        cgroup.types("run t -- echo here").succeeds().stdout(),
        "here\n"
    );
    cgroup
        .types("set-limits t --mem-limit 96M --pids-limit 50")
        .ok();
    assert_eq!(set(), "100663296\n50\n25000 100000\n");

    // Root inside is the user outside, whose folder it is. What keeps it off is how systemd mounts the hierarchy.
    let lift = "cocker=$(mktemp -d); mount -t cgroup2 none $cocker && echo max > $cocker/memory.max; \
                echo max > /sys/fs/cgroup/memory.max; mount -o remount,rw /sys/fs/cgroup; \
                echo max > /sys/fs/cgroup/memory.max; true";
    let lifts = |option: &str| {
        let line = format!("mount -t cgroup2 -o {option} none /sys/fs/cgroup");
        host.shell(&line).succeeds();
        cgroup.types(&format!("run t -- sh -c '{lift}'"));
        read("memory.max")
    };
    let as_it_was = Remounted::new();
    assert_eq!(lifts("remount,nsdelegate"), "100663296\n");
    // Control: where it is mounted without that, the limit is the user's own to lift.
    assert_eq!(lifts("remount"), "max\n");
    drop(as_it_was);
    cgroup.types("destroy --shutdown t").ok();
    user.nothing_is_left();
}

fn open_files_are_limited_without_a_cgroup(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--userns host");
    user.cocker("boot t").ok();
    user.cocker("set-limits t --nofile 500:500").ok();
    assert_eq!(user.inside("t", "ulimit -n"), "500");
    destroy(&user, "t");
    user.nothing_is_left();
}

/// With the host's network the host's abstract sockets are in sight: those that the user's own programs listen on would take
/// root inside for the user.
fn abstract_sockets_of_the_users_session_are_out_of_reach(host: &Host) {
    let user = User::new(host, Ids::Many);
    let attacker = crate::isolation::program::path(host);
    let volume = format!("--volume {}:/attacker:ro", attacker.display());
    with_container(&user, &volume);
    user.cocker(&format!("create -m test -c open --privileged {volume}"))
        .ok();
    for name in ["t", "open"] {
        user.cocker(&format!("boot {name}")).ok();
    }
    let session = format!("cocker-test-{}", user.id());
    let mut listens = user.command(&attacker.to_string_lossy());
    listens.args(["listen", &session]);
    let mut listens = host.started(listens, "a program of the user's".into());
    listens.until_prints("listens");
    let connect = format!("/attacker connect {session}");
    let expected = match has_scopes() {
        true => "-1",
        // Before Linux 6.12 it is reached.
        false => "0",
    };
    assert_eq!(user.inside("t", &connect), expected);
    // Nor by a user inside, nor in namespaces below.
    let below = format!("unshare --user --map-root-user {connect}");
    assert_eq!(user.inside("t", &below), expected);
    // Control: one that is not kept from it, and the user on the host.
    assert_eq!(user.inside("open", &connect), "0");
    let by_user = user.shell(&format!("{} connect {session}", attacker.display()));
    by_user.succeeds().prints("0\n");
    drop(listens);
    for name in ["t", "open"] {
        destroy(&user, name);
    }
    user.nothing_is_left();
}

/// A lock that a command was started with must not be held on by what stays.
fn what_the_user_has_open_stays_outside(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "");
    let line = "exec 9>lock && flock -n 9 && cocker boot t && exec 9>&- && flock -n lock echo free";
    let told = user.shell(line).succeeds().stdout();
    assert_eq!(told, "OK\nfree\n");
    destroy(&user, "t");
    user.nothing_is_left();
}

fn ids_are_found_by_every_name_and_in_the_largest_range(host: &Host) {
    let few = User::new(host, Ids::Few);
    let refused = few.cocker("images").fails(1, &["/etc/subuid", "100 ids"]);
    assert!(refused.stderr.contains("usermod"), "{refused}");
    let user = User::new(host, Ids::InTwoPieces);
    with_container(&user, "");
    user.cocker("boot t").ok();
    assert_eq!(
        user.inside("t", "touch /f && chown 60000 /f && stat -c %u /f"),
        "60000"
    );
    destroy(&user, "t");
    user.nothing_is_left();
    // Whoever ignores the ends of children hands that down.
    let line = "trap '' CHLD; exec cocker images";
    user.shell(line).succeeds();
}

fn nobody_else_can_use_the_store(host: &Host) {
    let user = User::new(host, Ids::Many);
    user.cocker("install-test").ok();
    assert_eq!(
        user.store().metadata().expect("it is there").mode() & 0o777,
        0o700
    );
    let other = User::new(host, Ids::Many);
    let line = format!("COCKER_HOME={} cocker images", user.store().display());
    other.shell(&line).fails(1, &["Permission denied"]);
}

/// The pasta of this user's containers.
fn carriers(user: &User) -> usize {
    let processes = user.processes();
    let is_one = |line: &str| line.contains("pasta") && line.contains("--config-net");
    processes.iter().filter(|(_, line)| is_one(line)).count()
}

/// What a client says at `to` arrives at `mapped` in the network of `root`, and what is answered there comes back. The client
/// speaks first: the pasta of Debian 12 may sit on what a server says before that.
#[track_caller]
fn is_led(host: &Host, root: i32, from: Place, to: &str, mapped: &str) {
    let mut server = host.start_at(Place::With(root), &format!("nc -l -N {mapped}"));
    eventually("the server listens", || {
        let number = mapped.trim_start_matches("-u ");
        let listening = host.at(Place::With(root), "ss -Hltun");
        listening.contains(&format!("0.0.0.0:{number} "))
    });
    let mut client = host.start_at(from, &format!("nc {to}"));
    client.type_in(b"question\n");
    server.until_prints("question\n");
    server.type_in(b"answer\n");
    client.until_prints("answer\n");
    for one in [server, client] {
        one.signal(Signal::KILL);
        one.outcome();
    }
}

fn a_network_of_its_own_is_carried_by_pasta(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--net BRIDGE --port-mapping 8080:80,9000:90/udp");
    user.cocker("boot t").ok();
    let address = user.inside(
        "t",
        "ip -4 -o addr show dev eth0 | tr -s ' ' | cut -d' ' -f4",
    );
    assert_eq!(address, "166.88.0.2/24");
    let root = user.root_process("t");
    for (from, to, mapped) in [
        (Place::Outside, "10.99.0.1 8080", "80"),
        (Place::OnHost, "127.0.0.1 8080", "80"),
        (Place::Outside, "-u 10.99.0.1 9000", "-u 90"),
    ] {
        is_led(host, root, from, to, mapped);
    }
    // And the way out, as the host.
    let _outside = host.serve(Place::Outside, "0.0.0.0:7000");
    let seen = host.reaches(Place::With(root), "10.99.0.2:7000", "outside");
    assert_eq!(seen, "10.99.0.1");
    // What listens on the host's loopback alone is not reached by the way out.
    let _private = host.serve(Place::OnHost, "127.0.0.1:7001");
    host.does_not_reach(Place::With(root), "166.88.0.1:7001");
    user.cocker("shutdown t").ok();
    assert_eq!(carriers(&user), 0);
    destroy(&user, "t");
    user.nothing_is_left();
}

fn a_network_ends_with_its_container_however_that_ends(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--net BRIDGE --port-mapping 8080:80");
    for round in 0..3 {
        user.cocker("boot t").ok();
        assert_eq!(carriers(&user), 1, "{round}");
        match round {
            0 => drop(user.cocker("kill t").ok()),
            1 => {
                kill_supervisor(&user, "t");
                eventually("its processes are gone", || {
                    user.processes().len() == carriers(&user)
                });
                user.cocker("-s containers").succeeds();
            }
            _ => destroy(&user, "t"),
        }
        assert_eq!(carriers(&user), 0, "{round}");
    }
    user.nothing_is_left();
    let store = user.store().to_string_lossy().into_owned();
    assert!(
        processes()
            .iter()
            .all(|process| !process.command_line().contains(&*store))
    );
}

/// At the moment at which pasta is there, at that at which it has named its file, and at those between them and the end.
fn a_client_that_is_killed_while_pasta_starts_leaves_none(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--net BRIDGE --port-mapping 8080:80");
    let file = user.store().join("containers/t/pasta.pid");
    let mut was_killed = 0;
    for round in 0..100 {
        // On a busy machine we often come too late.
        if round >= 12 && was_killed > 3 {
            break;
        }
        let boot = user.start("boot t");
        eventually("pasta starts", || match round % 3 {
            0 => carriers(&user) > 0,
            1 => file.exists(),
            _ => fs::read(&file).is_ok_and(|text| !text.is_empty()),
        });
        boot.signal(Signal::KILL);
        was_killed += u32::from(boot.outcome().status.code().is_none());
        // It is booted whole, or not at all, and the next command finds which.
        let mut is_booted = false;
        eventually("a settled container", || {
            user.cocker("-s containers").succeeds();
            is_booted = user.cocker("run t -- true").status.success();
            is_booted || (carriers(&user) == 0 && user.processes().is_empty())
        });
        if is_booted {
            assert_eq!(carriers(&user), 1, "{round}");
            user.cocker("shutdown t").ok();
        }
        assert_eq!(carriers(&user), 0, "{round}");
        // The port is free again.
        user.cocker("boot t").ok();
        assert_eq!(carriers(&user), 1, "{round}");
        user.cocker("shutdown t").ok();
    }
    assert!(was_killed > 3, "only {was_killed} were killed in time");
    destroy(&user, "t");
    user.nothing_is_left();
}

fn a_port_that_is_taken_is_said(host: &Host) {
    let user = User::new(host, Ids::Many);
    with_container(&user, "--net BRIDGE --port-mapping 8080:80");
    let taken = host.serve(Place::OnHost, "0.0.0.0:8080");
    user.cocker("boot t").fails(1, &["8080"]);
    assert_eq!(carriers(&user), 0);
    drop(taken);
    user.cocker("boot t").ok();
    destroy(&user, "t");
    // Below this the kernel gives ports to root alone.
    user.cocker("create -m test -c t --net BRIDGE --port-mapping 80:80")
        .ok();
    user.cocker("boot t")
        .fails(1, &["80", "ip_unprivileged_port_start"]);
    destroy(&user, "t");
    user.nothing_is_left();
}
