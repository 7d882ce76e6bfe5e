//! Where the store lies: on other file systems than the usual one, on full disks, and on such as fail.
//!
//! ```text
//! <test's folder>/disk/          a file system of its own
//! ├── filler                     takes all the room, or leaves a little
//! ├── inodes/                    the same for inodes
//! └── home/                      mounted on the test's COCKER_HOME
//! ```

use crate::host::{Host, Outcome, eventually, on_an_empty_store};
use rustix::fs::FallocateFlags;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    on_an_empty_store![
        a_store_lives_on_tmpfs,
        a_store_lives_on_xfs_with_reflinks,
        a_store_lives_on_xfs_without_reflinks,
        a_store_lives_on_btrfs,
        a_full_tmpfs_loses_nothing,
        a_full_ext4_loses_nothing,
        a_full_xfs_loses_nothing,
        a_full_btrfs_loses_nothing,
        a_tmpfs_without_inodes_loses_nothing,
        an_ext4_without_inodes_loses_nothing,
        an_exceeded_quota_loses_nothing,
        a_disk_that_fails_loses_nothing,
        a_read_only_disk_is_told_as_such,
    ]
}

/// A file system on which the test's store lies, until it is dropped.
struct Disk<'a> {
    host: &'a Host,
    place: PathBuf,
    outside: PathBuf,
    filler: PathBuf,
    /// The file that has it, where it is in one.
    file: Option<PathBuf>,
    /// Mounts it.
    mount: String,
    /// Whether there is to be a container that is booted.
    wants_booted: bool,
}

/// A mount that goes with this.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// How it is made.
enum Kind<'k> {
    Tmpfs(&'k str),
    /// The program that makes it in a file of so many MiB, and how it is mounted.
    Made(&'k str, u64, &'k str),
}

const EXT4: Kind<'_> = Kind::Made("mke2fs -q -F -t ext4 -m 0", 96, "loop");
const XFS: Kind<'_> = Kind::Made("mkfs.xfs -q", 320, "loop");
const XFS_WITHOUT_REFLINKS: Kind<'_> = Kind::Made("mkfs.xfs -q -m reflink=0", 320, "loop");
const BTRFS: Kind<'_> = Kind::Made("mkfs.btrfs -q", 160, "loop");

impl<'a> Disk<'a> {
    fn new(host: &'a Host, kind: &Kind<'_>) -> Disk<'a> {
        let outside = host.folder("outside");
        Disk::in_folder(host, kind, &outside)
    }

    /// What is made in a file has it in this folder.
    fn in_folder(host: &'a Host, kind: &Kind<'_>, folder: &Path) -> Disk<'a> {
        let place = host.folder("disk");
        let mut in_file = None;
        let mount = match kind {
            Kind::Tmpfs(options) => format!(
                "mount -t tmpfs -o mode=755,{options} none {}",
                place.display()
            ),
            Kind::Made(make, mebibytes, options) => {
                let file = folder.join("image");
                fs::File::create(&file)
                    .and_then(|file| file.set_len(mebibytes << 20))
                    .expect("the folder is ours");
                run(&format!("{make} {}", file.display()));
                let mount = format!("mount -o {options} {} {}", file.display(), place.display());
                in_file = Some(file);
                mount
            }
        };
        run(&mount);
        let disk = Disk {
            host,
            filler: place.join("filler"),
            place,
            outside: host.folder("outside"),
            file: in_file,
            mount,
            wants_booted: true,
        };
        let home = disk.place.join("home");
        fs::create_dir(&home).expect("it is empty");
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("it is ours");
        disk.mount_home();
        disk
    }

    fn mount_home(&self) {
        let (home, seen) = (self.place.join("home"), self.host.home());
        run(&format!(
            "mount --bind {} {}",
            home.display(),
            seen.display()
        ));
    }

    /// As after a crash: what the disk has is what there is.
    fn mount_again(&self) {
        for place in [self.host.home(), &self.place] {
            unmount(place);
        }
        self.until_nobody_has_it();
        run(&self.mount);
        self.mount_home();
    }

    /// What another test has started with a copy of our mounts has the disk mounted until it lets go of them, and mounting it
    /// again would give the same file system as before, with all that it knows and all that has failed.
    #[track_caller]
    fn until_nobody_has_it(&self) {
        let Some(file) = &self.file else {
            return;
        };
        let is_free = || {
            let devices = Command::new("losetup").arg("-j").arg(file).output();
            let devices = devices.expect("`losetup` of package mount is there");
            devices.status.success() && devices.stdout.is_empty()
        };
        eventually("no loop device has the disk's file", is_free);
    }

    /// No container stays booted, whatever the disk does.
    fn shut_down(&self) {
        let listed = self.host.cocker("ps -q").succeeds().stdout();
        for name in listed.lines() {
            if self.host.status(name).starts_with("RUNNING") {
                self.host.cocker(&format!("shutdown {name}")).ok();
            }
        }
    }

    /// Takes all the room but so many KiB.
    fn fill(&self, leave: u64) {
        let file = fs::File::create(&self.filler).expect("there is room for a name");
        let mut length = 0;
        for piece in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
            let flags = FallocateFlags::empty();
            while rustix::fs::fallocate(&file, flags, length, piece).is_ok() {
                length += piece;
            }
        }
        let kept = length.saturating_sub(leave << 10);
        file.set_len(kept)
            .and_then(|()| file.sync_all())
            .expect("less than there was");
    }

    /// Takes all inodes but so many.
    fn take_inodes(&self, leave: usize) {
        let folder = self.place.join("inodes");
        fs::create_dir(&folder).expect("there is one left");
        let name = |number: usize| folder.join(number.to_string());
        let mut taken = 0;
        while fs::File::create_new(name(taken)).is_ok() {
            taken += 1;
        }
        for number in taken.saturating_sub(leave)..taken {
            fs::remove_file(name(number)).expect("it was just made");
        }
    }

    fn empty(&self) {
        for left in [self.filler.clone(), self.place.join("inodes")] {
            let removed = match left.is_dir() {
                true => fs::remove_dir_all(&left),
                false if left.exists() => fs::remove_file(&left),
                false => Ok(()),
            };
            removed.expect("it is ours");
        }
        rustix::fs::sync();
    }

    /// Everything that a user sees of the store.
    fn seen(&self) -> BTreeSet<String> {
        let host = self.host;
        let listed = host.cocker("ps --format json").succeeds().stdout();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("a list is JSON");
        let mut seen = BTreeSet::new();
        for entry in listed.as_array().expect("a list") {
            let name = entry["container_id"].as_str().expect("it has a name");
            let status = entry["status"].as_str().expect("it has a status");
            let status = status.split('(').next().unwrap_or_default();
            let settings = fs::read(
                host.home()
                    .join("containers")
                    .join(name)
                    .join("container.json"),
            );
            let settings: serde_json::Value =
                serde_json::from_slice(&settings.expect("it is there")).expect("it is whole");
            let volumes = &settings["volumes"];
            let word = match status {
                "STOPPED" => self.word_of(name),
                _ => String::new(),
            };
            seen.insert(format!("container {name} {status} {volumes} {word}"));
        }
        for image in host.images() {
            let (name, version) = image.split_once(' ').expect("two words");
            let word = host.tree_of(name, version).join("root/word");
            let word = fs::read_to_string(word).unwrap_or_default();
            seen.insert(format!("image {image} {word}"));
        }
        seen
    }

    fn word_of(&self, container: &str) -> String {
        let host = self.host;
        let got = self.outside.join("got");
        let _ = fs::remove_file(&got);
        let line = format!("get {container} /root/word {}", got.display());
        match host.cocker(&line).status.success() {
            true => fs::read_to_string(&got).expect("it was got"),
            false => String::new(),
        }
    }

    /// Images `test` and `made`, containers `web`, stopped, and `up`, booted.
    fn stand_ready(&self) {
        let host = self.host;
        let seen = self.seen();
        let has = |start: &str| seen.iter().any(|line| line.starts_with(start));
        for extra in seen
            .iter()
            .filter_map(|line| line.strip_prefix("container "))
        {
            let name = extra.split(' ').next().expect("a name");
            if !["web", "up"].contains(&name) {
                host.cocker(&format!("-a destroy -h -c {name}")).ok();
            }
        }
        for extra in seen.iter().filter_map(|line| line.strip_prefix("image ")) {
            let mut words = extra.split(' ');
            let (name, version) = (words.next().expect("a name"), words.next().unwrap_or("_"));
            match (name, version) {
                ("test" | "made", "_") => {}
                (name, "_") => _ = host.cocker(&format!("rm-image {name}")).ok(),
                _ => _ = host.cocker(&format!("rm-image {name}:{version}")).ok(),
            }
        }
        if !has("image test _") {
            host.cocker("install-test").ok();
        }
        let word = self.outside.join("word");
        fs::write(&word, "kept").expect("the folder is ours");
        let put = |name: &str| {
            host.cocker(&format!("put {name} {} /root/word", word.display()))
                .ok();
        };
        if !has("image made _ kept") {
            host.cocker("create -m test -c making").ok();
            put("making");
            host.cocker("to-image --from-container making --to-image made")
                .ok();
        }
        if !has("container web STOPPED [] kept") {
            if has("container web ") {
                host.cocker("-a destroy -h -c web").ok();
            }
            host.cocker("create -m test -c web").ok();
            put("web");
        }
        if self.wants_booted && !has("container up ") {
            host.cocker("create -m test -c up").ok();
        }
        if self.wants_booted && !has("container up RUNNING") {
            host.cocker("boot up").ok();
        }
    }

    fn commands(&self) -> Vec<String> {
        let outside = self.outside.display();
        let big = self.outside.join("big");
        fs::write(&big, vec![7; 3 << 20]).expect("the folder is ours");
        let archive = self.outside.join("made.cockerimage");
        if !archive.exists() {
            self.host
                .cocker(&format!("export made --image-file {}", archive.display()))
                .ok();
        }
        vec![
            "create -m test -c new".into(),
            "boot web".into(),
            "to-image --from-container web --to-image new".into(),
            "to-image --keep --from-container web --to-image new".into(),
            "to-container --from-image made --to-container new".into(),
            "to-container --keep --from-image made --to-container new".into(),
            "copy-image --from-image made --to-image new".into(),
            "set-version made --version 2".into(),
            format!("import -m new {outside}/made.cockerimage"),
            format!("put web {outside}/big /root/word"),
            format!("set-volume web --volume {outside}:/outside"),
            "instantiate web --template-file /root/word --set kept=other".into(),
            "run up --cmd 'head -c 3000000 /dev/zero >/root/word'".into(),
            "rm-image made".into(),
            "shutdown up".into(),
            "kill up".into(),
            "destroy web".into(),
        ]
    }

    /// Every command with ever less of something left: the state is that before or that after, and what removes does it.
    #[track_caller]
    fn loses_nothing(&self, amounts: &[u64], take: impl Fn(u64)) {
        self.stand_ready();
        let before = self.seen();
        let mut failed = 0;
        for line in self.commands() {
            self.host.cocker(&line).succeeds();
            let after = self.seen();
            self.stand_ready();
            assert_eq!(self.seen(), before, "made anew after `{line}`");
            for amount in amounts {
                take(*amount);
                let outcome = self.host.cocker(&line);
                let removes = ["rm-image", "shutdown", "kill", "destroy"]
                    .iter()
                    .any(|verb| line.starts_with(verb));
                assert!(
                    !removes || outcome.status.success(),
                    "{amount} left: {outcome}"
                );
                let is_done = outcome.status.success();
                failed += usize::from(!is_done);
                expect_told(&outcome, *amount);
                self.empty();
                let now = self.seen();
                // What a command inside does is between it and the kernel.
                if !line.starts_with("run") {
                    let expected = if is_done { &after } else { &before };
                    assert_eq!(&now, expected, "{amount} left: {outcome}");
                }
                self.host.cocker("check").succeeds();
                self.stand_ready();
            }
        }
        assert!(failed > 0, "there was always enough");
        // And on a disk that is full for good, the containers go.
        take(0);
        self.host.cocker("-a destroy -h -c up").ok();
        self.host.cocker("destroy web").ok();
        self.host.cocker("rm-image made").ok();
        self.empty();
        self.host.cocker("rm-image test").ok();
        self.host.cocker("prune").succeeds();
        self.host.cocker("check").succeeds();
        assert_eq!(self.seen(), BTreeSet::new());
    }
}

/// An error says what there was too little of, and never calls it a bug.
#[track_caller]
fn expect_told(outcome: &Outcome, amount: u64) {
    if outcome.status.success() {
        return;
    }
    let known = [
        "No space left on device",
        "Disk quota exceeded",
        "Input/output error",
        "Read-only file system",
    ];
    assert!(
        known.iter().any(|known| outcome.stderr.contains(known)),
        "{amount} left: {outcome}"
    );
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        for place in [self.host.home(), &self.place] {
            unmount(place);
        }
    }
}

/// A supervisor may do its last work there still, and what a test that failed has left on it goes later.
fn unmount(place: &Path) {
    let try_to = |how: &[&str]| {
        let output = Command::new("umount").args(how).arg(place).output();
        output.is_ok_and(|output| output.status.success())
    };
    match std::thread::panicking() {
        true => _ = try_to(&["-l"]),
        false => eventually("nobody holds the disk", || try_to(&[])),
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    let status = command.args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

/// All that a user does with a store, on this file system.
fn lives_on(host: &Host, kind: &Kind<'_>) {
    let disk = Disk::new(host, kind);
    disk.stand_ready();
    let before = disk.seen();
    for line in disk.commands() {
        host.cocker(&line).succeeds();
        disk.stand_ready();
        assert_eq!(disk.seen(), before, "made anew after `{line}`");
    }
    host.cocker("boot web").ok();
    assert_eq!(host.inside("web", "cat /root/word"), "kept");
    // A file of the layers below is changed, one is removed, a folder gets another name.
    host.inside(
        "web",
        "echo more >>/etc/profile; rm /etc/group; mkdir /a; mv /a /b",
    );
    host.cocker("shutdown web").ok();
    let changes = host.cocker("diff web").succeeds().stdout();
    for change in ["/etc/profile", "/etc/group", "/b"] {
        assert!(changes.contains(change), "{change} is not in\n{changes}");
    }
    host.cocker("check").succeeds();
    for line in [
        "destroy web",
        "-a destroy -h -c up",
        "rm-image made",
        "rm-image test",
    ] {
        host.cocker(line).ok();
    }
    assert_eq!(disk.seen(), BTreeSet::new());
}

fn a_store_lives_on_tmpfs(host: &Host) {
    lives_on(host, &Kind::Tmpfs("size=96m"));
}

fn a_store_lives_on_xfs_with_reflinks(host: &Host) {
    lives_on(host, &XFS);
}

fn a_store_lives_on_xfs_without_reflinks(host: &Host) {
    lives_on(host, &XFS_WITHOUT_REFLINKS);
}

fn a_store_lives_on_btrfs(host: &Host) {
    lives_on(host, &BTRFS);
}

/// KiB that are left: nothing, what some of the small files need, what all but the big ones need.
const ROOM: [u64; 8] = [0, 4, 8, 12, 16, 32, 64, 1024];

fn fills_up(host: &Host, kind: &Kind<'_>, room: &[u64]) {
    let disk = Disk::new(host, kind);
    disk.loses_nothing(room, |left| disk.fill(left));
}

fn a_full_tmpfs_loses_nothing(host: &Host) {
    fills_up(host, &Kind::Tmpfs("size=96m"), &ROOM);
}

fn a_full_ext4_loses_nothing(host: &Host) {
    fills_up(host, &EXT4, &ROOM);
}

fn a_full_xfs_loses_nothing(host: &Host) {
    fills_up(host, &XFS, &[0, 16, 256]);
}

fn a_full_btrfs_loses_nothing(host: &Host) {
    fills_up(host, &BTRFS, &[0, 256]);
}

/// Inodes that are left.
const INODES: [u64; 9] = [0, 1, 2, 3, 4, 6, 8, 12, 20];

fn a_tmpfs_without_inodes_loses_nothing(host: &Host) {
    let disk = Disk::new(host, &Kind::Tmpfs("size=96m,nr_inodes=1500"));
    disk.loses_nothing(&INODES, |left| disk.take_inodes(left as usize));
}

fn an_ext4_without_inodes_loses_nothing(host: &Host) {
    let kind = Kind::Made("mke2fs -q -F -t ext4 -m 0 -N 1500", 96, "loop");
    let disk = Disk::new(host, &kind);
    disk.loses_nothing(&INODES, |left| disk.take_inodes(left as usize));
}

/// A group of btrfs may take so much room and no more, whoever writes (btrfs-qgroup(8)).
fn an_exceeded_quota_loses_nothing(host: &Host) {
    let disk = Disk::new(host, &BTRFS);
    let place = disk.place.display();
    run(&format!("btrfs quota enable {place}"));
    run(&format!("btrfs quota rescan -w {place}"));
    run(&format!("btrfs qgroup limit 80M {place}"));
    disk.loses_nothing(&[0, 64, 1024], |left| disk.fill(left));
}

/// Its file lies on a file system that has no room for what the disk has promised: writing fails when it is to last, and the
/// disk with it.
fn a_disk_that_fails_loses_nothing(host: &Host) {
    let below = host.folder("below");
    run(&format!(
        "mount -t tmpfs -o size=72m none {}",
        below.display()
    ));
    let _below = Mounted(below.clone());
    let mut disk = Disk::in_folder(host, &EXT4, &below);
    disk.wants_booted = false;
    disk.filler = below.join("filler");
    disk.stand_ready();
    let before = disk.seen();
    let mut failed = 0;
    for line in disk.commands() {
        // What runs would hold a disk that has failed for as long as it likes, and what is put into a container lasts only as
        // what is written in it does.
        if line.contains(" up") || line.starts_with("boot") || line.starts_with("put") {
            continue;
        }
        host.cocker(&line).succeeds();
        let after = disk.seen();
        disk.shut_down();
        disk.stand_ready();
        for amount in [0, 4, 32, 256] {
            // What was written so far has its place.
            rustix::fs::sync();
            disk.fill(amount);
            let outcome = host.cocker(&line);
            failed += usize::from(!outcome.status.success());
            expect_told(&outcome, amount);
            disk.shut_down();
            disk.empty();
            disk.mount_again();
            let now = disk.seen();
            match outcome.status.success() {
                // Booting is for now.
                true if line.starts_with("boot") => {
                    assert_eq!(now, before, "{amount} left: {outcome}")
                }
                true => assert_eq!(now, after, "{amount} left: {outcome}"),
                // What could not be brought to disk may be there all the same.
                false => assert!(
                    now == before || now == after,
                    "{now:?}, {amount} left: {outcome}"
                ),
            }
            host.cocker("check").succeeds();
            disk.stand_ready();
        }
    }
    assert!(failed > 0, "the disk has never failed");
    for line in ["destroy web", "rm-image made", "rm-image test"] {
        host.cocker(line).ok();
    }
}

fn a_read_only_disk_is_told_as_such(host: &Host) {
    let disk = Disk::new(host, &EXT4);
    disk.stand_ready();
    host.cocker("shutdown up").ok();
    let lines = disk.commands();
    let before = disk.seen();
    run(&format!(
        "mount -o remount,bind,ro {}",
        host.home().display()
    ));
    for line in &lines {
        if line.contains(" up") {
            continue;
        }
        host.cocker(line).refuses(&["Read-only file system"]);
    }
    host.cocker("ps").succeeds();
    run(&format!(
        "mount -o remount,bind,rw {}",
        host.home().display()
    ));
    assert_eq!(disk.seen(), before);
    for line in [
        "destroy web",
        "destroy up",
        "rm-image made",
        "rm-image test",
    ] {
        host.cocker(line).ok();
    }
}
