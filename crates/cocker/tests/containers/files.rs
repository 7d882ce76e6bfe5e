//! put and get: files and folders into containers and out of them, booted and stopped, whatever the container does.

use crate::host::{Host, entries, eventually, with_image_test};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags, lgetxattr, lsetxattr, mknodat};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What may not take long because it would otherwise have hung.
const AT_ONCE: Duration = Duration::from_secs(20);

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        a_file_goes_into_a_container_and_out_of_it_by_either_spelling,
        a_target_is_a_folder_or_the_new_name_as_with_cp,
        everything_that_a_tree_has_comes_back,
        a_folder_is_merged_into_one_that_is_there,
        what_is_no_folder_takes_no_folders_place_nor_the_reverse,
        owners_are_the_containers_own_and_others_are_refused,
        nothing_that_comes_out_has_rights_of_its_own,
        links_of_the_container_lead_nowhere_but_inside,
        a_link_is_copied_as_a_link_unless_its_path_ends_with_a_slash,
        fifos_are_made_and_never_opened,
        devices_are_refused_or_left_out_and_sockets_are_left_out,
        a_full_target_has_no_half_file,
        a_read_only_volume_refuses_and_is_named,
        volumes_are_reached_by_their_own_path_alone,
        archives_go_in_and_come_out,
        a_hostile_archive_changes_nothing,
        an_archive_is_no_matter_for_a_terminal,
        what_is_missing_is_named,
        a_stopped_container_is_as_large_as_what_was_put_into_it,
        who_is_interrupted_leaves_nothing,
        a_container_is_not_booted_while_files_go_in,
        folders_swapped_for_links_meanwhile_lead_nowhere_but_inside,
    ]
}

/// A booted container, a privileged one, and a stopped one.
fn three(host: &Host) -> [&'static str; 3] {
    host.booted("web");
    host.cocker("-a create -m test -c mighty --privileged").ok();
    host.cocker("-a boot -c mighty").ok();
    host.cocker("-a create -m test -c off").ok();
    ["web", "mighty", "off"]
}

/// What `command` prints in the container, which is booted for that if need be.
#[track_caller]
fn inside(host: &Host, container: &str, command: &str) -> String {
    let was_stopped = host.status(container) == "STOPPED";
    if was_stopped {
        host.cocker(&format!("boot {container}")).ok();
    }
    let printed = host.inside(container, command);
    if was_stopped {
        host.cocker(&format!("shutdown {container}")).ok();
    }
    printed
}

/// A file of the host.
fn file(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.folder("mine").join(name);
    fs::write(&path, text).expect("the folder is ours");
    path
}

/// Asserts that no stage is left in a folder of the host.
#[track_caller]
fn is_clear(folder: &Path) {
    let left: Vec<String> = entries(folder)
        .into_iter()
        .filter(|name| name.starts_with(".cocker-"))
        .collect();
    assert_eq!(left, [""; 0], "in {}", folder.display());
}

fn a_file_goes_into_a_container_and_out_of_it_by_either_spelling(host: &Host) {
    let one = file(host, "one", "one\n");
    let out = host.folder("out");
    for container in three(host) {
        let seeds = format!(
            "-a putfile -c {container} --src-file {} --dst-file /srv/one",
            one.display()
        );
        host.cocker(&seeds).ok();
        host.cocker(&format!("put {container} {} /srv/two", one.display()))
            .ok();
        let printed = inside(host, container, "cat /srv/one /srv/two; ls -A /srv");
        assert_eq!(printed, "one\none\none\ntwo", "{container}");
        // What is there is replaced.
        let other = file(host, "other", "other\n");
        host.cocker(&format!("put -c {container} {} /srv/two", other.display()))
            .ok();
        let seeds = format!(
            "-a getfile -c {container} --src-file /srv/two --dst-file {}/{container}",
            out.display()
        );
        host.cocker(&seeds).ok();
        host.cocker(&format!(
            "get {container} /srv/one {}/{container}.one",
            out.display()
        ))
        .ok();
        let read = |name: &str| fs::read_to_string(out.join(name)).expect("it came out");
        assert_eq!(read(container), "other\n");
        assert_eq!(read(&format!("{container}.one")), "one\n");
    }
    is_clear(&out);
}

fn a_target_is_a_folder_or_the_new_name_as_with_cp(host: &Host) {
    host.booted("web");
    let one = file(host, "one", "one\n");
    let one = one.display();
    let tree = host.folder("tree");
    fs::write(tree.join("leaf"), "leaf\n").expect("the folder is ours");
    let tree = tree.display();
    host.inside("web", "mkdir /srv/folder; ln -s folder /srv/link");
    for (line, path) in [
        (format!("put web {one} /srv/folder"), "/srv/folder/one"),
        (format!("put web {one} /srv/folder/"), "/srv/folder/one"),
        (format!("put web {one} /srv/link"), "/srv/folder/one"),
        (format!("put web {one} srv/relative"), "/srv/relative"),
        (
            format!("put web {tree} /srv/folder"),
            "/srv/folder/tree/leaf",
        ),
        (format!("put web {tree} /srv/new"), "/srv/new/leaf"),
        (format!("put web {tree} /srv/other/"), "/srv/other/leaf"),
        (
            format!("put web {tree}/ /srv/folder"),
            "/srv/folder/tree/leaf",
        ),
        (format!("put web {tree}/. /srv/folder"), "/srv/folder/leaf"),
    ] {
        host.cocker(&line).ok();
        host.inside("web", &format!("test -f {path} && rm {path}"));
    }
    host.cocker(&format!("put web {one} /srv/missing/")).fails(
        1,
        &[
            "/srv/missing/",
            "No such file",
            "Hint: make the folder first",
        ],
    );
    host.cocker(&format!("put web {one} /srv/missing/one"))
        .fails(1, &["`/srv/missing/`", "No such file"]);
    host.inside("web", "touch /srv/relative");
    host.cocker(&format!("put web {one} /srv/relative/"))
        .fails(1, &["/srv/relative/", "Not a directory"]);
    // Nothing of the last three is there.
    assert_eq!(
        host.inside("web", "cd /srv; ls -A"),
        "folder\nlink\nnew\nother\nrelative"
    );
}

/// All of one file that a user can see from outside, by its path below `top`.
fn look(top: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = top.join(&path);
        let stat = full.symlink_metadata().expect("it is there");
        let mut size = stat.size();
        if stat.is_dir() {
            size = 0;
            let names = entries(&full);
            waiting.extend(names.iter().map(|name| path.join(name)));
        }
        let contents = match stat.file_type() {
            kind if kind.is_file() => fs::read(&full).map(|bytes| format!("{:?}", summary(&bytes))),
            kind if kind.is_symlink() => fs::read_link(&full).map(|to| to.display().to_string()),
            _ => Ok(String::new()),
        };
        let attribute = |name: &str| {
            let mut value = [0; 256];
            let length = lgetxattr(&full, name, &mut value[..]).unwrap_or(0);
            value[..length].to_vec()
        };
        seen.push(format!(
            "{} {:o} {}:{} {size} {}.{} {} {:?} {:?} {}",
            path.display(),
            stat.mode(),
            stat.uid(),
            stat.gid(),
            stat.mtime(),
            stat.mtime_nsec(),
            if stat.is_dir() { 0 } else { stat.nlink() },
            attribute("user.note"),
            attribute("system.posix_acl_access"),
            contents.expect("it is there"),
        ));
    }
    seen.sort();
    seen
}

/// Length and a sum of the bytes.
fn summary(bytes: &[u8]) -> (usize, u64) {
    let sum = bytes.iter().fold(0u64, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
    });
    (bytes.len(), sum)
}

/// A tree with one of everything that can be put.
fn fill(top: &Path) {
    let path = |name: &str| top.join(name);
    fs::create_dir_all(path("deep/deeper")).expect("the folder is ours");
    fs::write(path(".hidden"), "dot").expect("the folder is ours");
    fs::write(path("empty"), "").expect("the folder is ours");
    fs::write(path("large"), vec![b'x'; 700_000]).expect("the folder is ours");
    fs::write(path("deep/odd \n\x07 name"), "odd").expect("the folder is ours");
    fs::hard_link(path("large"), path("deep/again")).expect("the folder is ours");
    symlink("/etc/passwd", path("absolute")).expect("the folder is ours");
    symlink("../../nowhere", path("deep/dangling")).expect("the folder is ours");
    let sparse = fs::File::create(path("sparse")).expect("the folder is ours");
    sparse.set_len(50 << 20).expect("holes cost nothing");
    sparse
        .write_all_at(b"middle", 20 << 20)
        .expect("the folder is ours");
    mknodat(
        CWD,
        path("fifo"),
        FileType::Fifo,
        Mode::from_raw_mode(0o640),
        0,
    )
    .expect("a FIFO");
    lchown(path("empty"), Some(1000), Some(65_535)).expect("we are root");
    lchown(path("absolute"), Some(33), Some(44)).expect("we are root");
    lchown(path("deep"), Some(7), Some(8)).expect("we are root");
    fs::set_permissions(path("deep"), fs::Permissions::from_mode(0o2750)).expect("it is ours");
    fs::set_permissions(path("empty"), fs::Permissions::from_mode(0o400)).expect("it is ours");
    let set = |name: &str, key: &str, value: &[u8]| {
        lsetxattr(path(name), key, value, XattrFlags::empty()).expect("the disk has attributes");
    };
    set("large", "user.note", b"a\0note");
    set("deep/deeper", "user.note", b"of a folder");
    // User 1000 may read (linux/posix_acl_xattr.h): a version, then tag, permissions and id of each entry.
    let entry = |tag: u16, permissions: u16, id: u32| {
        let mut entry = tag.to_le_bytes().to_vec();
        entry.extend(permissions.to_le_bytes());
        entry.extend(id.to_le_bytes());
        entry
    };
    let list = [
        2u32.to_le_bytes().to_vec(),
        entry(0x01, 6, u32::MAX),
        entry(0x02, 4, 1000),
        entry(0x04, 4, u32::MAX),
        entry(0x10, 4, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ];
    set(".hidden", "system.posix_acl_access", &list.concat());
    for name in ["deep/deeper", "deep", "large", "fifo", ""] {
        let when = fs::FileTimes::new()
            .set_modified(std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789));
        if name != "fifo" {
            let file = fs::File::open(path(name)).expect("it is there");
            file.set_times(when).expect("it is ours");
        }
    }
}

fn everything_that_a_tree_has_comes_back(host: &Host) {
    let tree = host.folder("tree");
    fill(&tree);
    let before = look(&tree);
    let out = host.folder("out");
    for container in three(host) {
        host.cocker(&format!("put {container} {} /srv/tree", tree.display()))
            .ok();
        let seen = inside(
            host,
            container,
            "cd /srv/tree; stat -c '%a %u:%g %h' large deep empty; stat -c %u:%g absolute; \
             test $(stat -c %b sparse) -lt 1000 && echo sparse; ls -A /srv",
        );
        let expected = "644 0:0 2\n2750 7:8 3\n400 1000:65535 1\n33:44\nsparse\ntree";
        assert_eq!(seen, expected, "{container}");
        let back = out.join(container);
        host.cocker(&format!("get {container} /srv/tree {}", back.display()))
            .ok();
        assert_eq!(look(&back), before, "{container}");
        let blocks = fs::metadata(back.join("sparse"))
            .expect("it came out")
            .blocks();
        assert!(blocks < 1000, "{blocks} blocks");
    }
    is_clear(&out);
}

fn a_folder_is_merged_into_one_that_is_there(host: &Host) {
    let tree = host.folder("tree");
    fs::create_dir_all(tree.join("below/new")).expect("the folder is ours");
    fs::write(tree.join("below/same"), "from outside\n").expect("the folder is ours");
    fs::write(tree.join("below/new/leaf"), "leaf\n").expect("the folder is ours");
    fs::set_permissions(tree.join("below"), fs::Permissions::from_mode(0o711)).expect("ours");
    for container in three(host) {
        let make =
            "mkdir -p /srv/tree/below; cd /srv/tree/below; echo kept > kept; echo old > same";
        inside(host, container, make);
        host.cocker(&format!("put {container} {} /srv", tree.display()))
            .ok();
        let printed = inside(
            host,
            container,
            "cd /srv/tree; stat -c %a below; cd below; cat kept same new/leaf; ls -A . ..",
        );
        let expected = "711\nkept\nfrom outside\nleaf\n.:\nkept\nnew\nsame\n\n..:\nbelow";
        assert_eq!(printed, expected, "{container}");
    }
    // The same way out.
    let out = host.folder("out");
    fs::create_dir_all(out.join("tree/below")).expect("the folder is ours");
    fs::write(out.join("tree/below/mine"), "mine\n").expect("the folder is ours");
    host.cocker(&format!("get web /srv/tree {}", out.display()))
        .ok();
    let names = entries(&out.join("tree/below"));
    assert_eq!(names, ["kept", "mine", "new", "same"]);
}

fn what_is_no_folder_takes_no_folders_place_nor_the_reverse(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "mkdir -p /srv/tree/b/kept; echo old > /srv/tree/a; echo file > /srv/tree/c",
    );
    let tree = host.folder("tree");
    fs::write(tree.join("a"), "new\n").expect("the folder is ours");
    fs::write(tree.join("b"), "no folder\n").expect("the folder is ours");
    host.cocker(&format!("put web {} /srv", tree.display()))
        .fails(1, &["cannot replace folder `tree/b`"]);
    fs::remove_file(tree.join("b")).expect("the folder is ours");
    fs::create_dir(tree.join("c")).expect("the folder is ours");
    host.cocker(&format!("put web {} /srv", tree.display()))
        .fails(1, &["`tree/c`, which is none"]);
    // Refused before the first file was replaced.
    let seen = host.inside("web", "cat /srv/tree/a /srv/tree/c; ls -A /srv");
    assert_eq!(seen, "old\nfile\ntree");
}

fn owners_are_the_containers_own_and_others_are_refused(host: &Host) {
    let tree = host.folder("tree");
    fs::write(tree.join("foreign"), "").expect("the folder is ours");
    lchown(tree.join("foreign"), Some(70_000), Some(0)).expect("we are root");
    for container in three(host) {
        let put = host.cocker(&format!("put {container} {} /srv", tree.display()));
        if container == "mighty" {
            put.ok();
            assert_eq!(
                host.inside(container, "stat -c %u /srv/tree/foreign"),
                "70000"
            );
        } else {
            put.fails(
                1,
                &[
                    "`tree/foreign`",
                    "70000",
                    "Hint: a container has the ids 0 to 65535",
                ],
            );
            assert_eq!(inside(host, container, "ls -A /srv"), "", "{container}");
        }
    }
}

fn nothing_that_comes_out_has_rights_of_its_own(host: &Host) {
    let program = file(host, "program", "program\n");
    // VFS_CAP_REVISION_2, effective, with CAP_NET_RAW permitted (linux/capability.h).
    let mut capability = vec![1, 0, 0, 2, 0, 0x20];
    capability.resize(20, 0);
    lsetxattr(
        &program,
        "security.capability",
        &capability,
        XattrFlags::empty(),
    )
    .expect("we are root");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).expect("the file is ours");
    for container in three(host) {
        let out = host.folder(&format!("out-{container}"));
        host.cocker(&format!("put {container} {} /srv/", program.display()))
            .ok();
        assert_eq!(inside(host, container, "stat -c %a /srv/program"), "6755");
        host.cocker(&format!("get {container} /srv/program {}/", out.display()))
            .ok();
        let out = out.join("program");
        assert_eq!(fs::metadata(&out).expect("it came out").mode(), 0o100_755);
        let found = lgetxattr(&out, "security.capability", &mut [0; 64][..]);
        assert_eq!(found, Err(rustix::io::Errno::NODATA), "{container}");
    }
}

fn links_of_the_container_lead_nowhere_but_inside(host: &Host) {
    let outside = host.folder("outside");
    fs::write(outside.join("secret"), "of the host\n").expect("the folder is ours");
    let one = file(host, "one", "one\n");
    for container in three(host) {
        let out = host.folder(&format!("out-{container}"));
        let make = format!(
            "cd /srv; ln -s {0} absolute; ln -s ../../../../../..{0} relative; ln -s /etc etc; \
             ln -s /proc/self/root root; ln -s /proc/1/cwd magic; ln -s {0}/secret secret; mkdir sub; ln -s {0} sub/out",
            outside.display()
        );
        inside(host, container, &make);
        for source in [
            "absolute/secret",
            "relative/secret",
            "secret/",
            "sub/out/secret",
        ] {
            let line = format!("get {container} /srv/{source} {}/got", out.display());
            host.cocker(&line).fails(1, &[source, "No such file"]);
        }
        for source in [
            format!("root{}/secret", outside.display()),
            "magic/etc/passwd".into(),
        ] {
            let line = format!("get {container} /srv/{source} {}/got", out.display());
            host.cocker(&line).fails(1, &[]);
        }
        for target in ["absolute/", "relative/one", "sub/out/one"] {
            let line = format!("put {container} {} /srv/{target}", one.display());
            host.cocker(&line).fails(1, &["No such file"]);
        }
        // The container's own passwd, by its absolute link.
        host.cocker(&format!(
            "get {container} /srv/etc/passwd {}/",
            out.display()
        ))
        .ok();
        let passwd = fs::read_to_string(out.join("passwd")).expect("it came out");
        assert_eq!(
            passwd.trim_end(),
            inside(host, container, "cat /etc/passwd")
        );
        // A link in the target's place goes, not what it leads to.
        host.cocker(&format!("put {container} {} /srv/secret", one.display()))
            .ok();
        // A tree is not walked through its links.
        host.cocker(&format!("get {container} /srv {}/", out.display()))
            .ok();
        let link = fs::read_link(out.join("srv/sub/out")).expect("it is a link");
        assert_eq!(link, outside);
        assert_eq!(entries(&outside), ["secret"]);
        let secret = fs::read_to_string(outside.join("secret")).expect("it is ours");
        assert_eq!(secret, "of the host\n");
    }
}

fn a_link_is_copied_as_a_link_unless_its_path_ends_with_a_slash(host: &Host) {
    host.booted("web");
    host.inside(
        "web",
        "mkdir /srv/folder; echo leaf > /srv/folder/leaf; ln -s folder /srv/link",
    );
    let out = host.folder("out");
    host.cocker(&format!("get web /srv/link {}/", out.display()))
        .ok();
    assert_eq!(
        fs::read_link(out.join("link")).expect("a link"),
        Path::new("folder")
    );
    fs::remove_file(out.join("link")).expect("the folder is ours");
    host.cocker(&format!("get web /srv/link/ {}/", out.display()))
        .ok();
    assert_eq!(entries(&out.join("link")), ["leaf"]);
}

fn fifos_are_made_and_never_opened(host: &Host) {
    let fifo = host.folder("mine").join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a FIFO");
    let out = host.folder("out");
    for container in three(host) {
        host.cocker(&format!("put {container} {} /srv/", fifo.display()))
            .within(AT_ONCE)
            .ok();
        let got = out.join(container);
        host.cocker(&format!("get {container} /srv/fifo {}", got.display()))
            .within(AT_ONCE)
            .ok();
        let mode = got.symlink_metadata().expect("it came out").mode();
        assert!(FileType::from_raw_mode(mode) == FileType::Fifo, "{mode:o}");
        // One in the place of a target is replaced like any other file.
        let one = file(host, "one", "one\n");
        host.cocker(&format!("put {container} {} /srv/fifo", one.display()))
            .within(AT_ONCE)
            .ok();
        assert_eq!(inside(host, container, "cat /srv/fifo"), "one");
    }
}

fn devices_are_refused_or_left_out_and_sockets_are_left_out(host: &Host) {
    host.booted("web");
    let out = host.folder("out");
    host.cocker("put web /dev/zero /srv/")
        .within(AT_ONCE)
        .fails(1, &["`zero`", "device node"]);
    host.cocker(&format!("get web /dev/zero {}/", out.display()))
        .within(AT_ONCE)
        .fails(1, &["`zero`", "device node"]);
    host.cocker("get web /dev/zero -")
        .within(AT_ONCE)
        .fails(1, &["`zero`", "device node"]);
    assert_eq!(entries(&out), [""; 0]);
    assert_eq!(host.inside("web", "ls -A /srv"), "");
    let tree = host.folder("tree");
    fs::write(tree.join("file"), "file\n").expect("the folder is ours");
    mknodat(
        CWD,
        tree.join("null"),
        FileType::CharacterDevice,
        Mode::RUSR,
        rustix::fs::makedev(1, 3),
    )
    .expect("we are root");
    host.cocker(&format!("put web {} /srv", tree.display()))
        .fails(1, &["`tree/null`", "device node"]);
    let _socket = UnixListener::bind(tree.join("socket")).expect("the folder is ours");
    let put = host.cocker(&format!("put -f web {} /srv", tree.display()));
    let put = put.exits(0).prints("OK\n");
    for what in [
        "Warning: `tree/null` left out",
        "Warning: `tree/socket` left out",
    ] {
        assert!(put.stderr.contains(what), "{put}");
    }
    assert_eq!(host.inside("web", "ls -A /srv/tree"), "file");
}

/// Mounts a file system of 1 MiB in memory on a folder of the host.
fn mount_small(host: &Host) -> PathBuf {
    let small = host.folder("small");
    let options = c"size=1M,mode=0755";
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("cocker-test", &small, "tmpfs", flags, options)
        .expect("the tests have mounts of their own");
    small
}

fn a_full_target_has_no_half_file(host: &Host) {
    let small = mount_small(host);
    let volume = format!("--volume {}:/small", small.display());
    host.cocker(&format!("-a create -m test -c web {volume}"))
        .ok();
    host.cocker("-a boot -c web").ok();
    fs::write(small.join("large"), "kept\n").expect("there is room");
    let large = host.folder("mine").join("large");
    fs::write(&large, vec![b'x'; 4 << 20]).expect("the folder is ours");
    let said = [
        "No space left on device",
        "Hint: nothing has its final name yet",
    ];
    host.cocker(&format!("put web {} /small/", large.display()))
        .fails(1, &said);
    host.cocker(&format!(
        "put web {} /small/",
        host.folder("mine").display()
    ))
    .fails(1, &said);
    let stream = fs::read(archive_of(host, &host.folder("mine"))).expect("it was packed");
    host.start("put web - /small")
        .feed(&stream)
        .outcome()
        .fails(1, &["the disk is full"]);
    assert_eq!(entries(&small), ["large"]);
    assert_eq!(
        fs::read_to_string(small.join("large")).expect("it is there"),
        "kept\n"
    );
    // Out of a container as well.
    host.cocker(&format!("put web {} /srv/", large.display()))
        .ok();
    host.cocker(&format!("get web /srv/large {}/", small.display()))
        .fails(1, &said);
    assert_eq!(entries(&small), ["large"]);
    assert_eq!(
        fs::read_to_string(small.join("large")).expect("it is there"),
        "kept\n"
    );
    host.cocker("-a destroy -h -c web").ok();
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).expect("it is ours");
}

/// A tar stream that the host's own tar has made of a folder's contents.
fn archive_of(host: &Host, folder: &Path) -> PathBuf {
    let path = host.folder("archives").join("a.tar");
    host.shell(&format!(
        "tar -C {} --format=pax -cf {} .",
        folder.display(),
        path.display()
    ))
    .succeeds();
    path
}

fn a_read_only_volume_refuses_and_is_named(host: &Host) {
    let data = host.folder("data");
    let volume = format!("--volume {}:/data:ro", data.display());
    host.cocker(&format!("-a create -m test -c web {volume}"))
        .ok();
    host.cocker("-a boot -c web").ok();
    let one = file(host, "one", "one\n");
    host.cocker(&format!("put web {} /data/", one.display()))
        .fails(
            1,
            &["cannot put", "container `web`", "Read-only file system"],
        );
    assert_eq!(entries(&data), [""; 0]);
}

fn volumes_are_reached_by_their_own_path_alone(host: &Host) {
    let data = host.folder("data");
    let single = file(host, "single", "single\n");
    let volumes = format!(
        "--volume {}:/srv/data --volume {}:/srv/single",
        data.display(),
        single.display()
    );
    host.cocker(&format!("-a create -m test -c web {volumes}"))
        .ok();
    host.cocker("-a boot -c web").ok();
    let one = file(host, "one", "one\n");
    lchown(&one, Some(33), Some(44)).expect("we are root");
    host.cocker(&format!("put web {} /srv/data/", one.display()))
        .ok();
    let stat = fs::metadata(data.join("one")).expect("it was put");
    assert_eq!((stat.uid(), stat.gid()), (33, 44));
    let out = host.folder("out");
    host.cocker(&format!("get web /srv/data/one {}/", out.display()))
        .ok();
    // Of a tree around it the folder alone, and single files.
    let got = host.cocker(&format!("get web /srv {}/", out.display()));
    let got = got.exits(0).prints("OK\n");
    assert!(
        got.stderr.contains("Warning: `srv/data` is left empty"),
        "{got}"
    );
    assert_eq!(entries(&out.join("srv/data")), [""; 0]);
    let text = fs::read_to_string(out.join("srv/single")).expect("it came out");
    assert_eq!(text, "single\n");
    // What is mounted cannot be replaced.
    host.cocker(&format!("put web {} /srv/single", one.display()))
        .fails(1, &["`single`", "mounted"]);
    assert_eq!(fs::read_to_string(&single).expect("it is ours"), "single\n");
}

fn archives_go_in_and_come_out(host: &Host) {
    let tree = host.folder("tree");
    fill(&tree);
    let before = look(&tree);
    let (tar, gzip, out) = (
        archive_of(host, &tree),
        host.folder("archives").join("a.tar.gz"),
        host.folder("out"),
    );
    host.shell(&format!("gzip -k {}", tar.display())).succeeds();
    for container in three(host) {
        inside(
            host,
            container,
            "mkdir -m 1777 /srv/a /srv/b; echo kept > /srv/a/kept",
        );
        for (archive, target) in [(&tar, "/srv/a"), (&gzip, "/srv/b/")] {
            let stream = fs::read(archive).expect("it was packed");
            host.start(&format!("put {container} - {target}"))
                .feed(&stream)
                .outcome()
                .ok();
        }
        // The folder that is there stays what it is.
        let seen = inside(
            host,
            container,
            "stat -c %a /srv/a /srv/b; cat /srv/a/kept; stat -c '%u:%g %h' /srv/a/empty /srv/a/large",
        );
        assert_eq!(seen, "1777\n1777\nkept\n1000:65535 1\n0:0 2", "{container}");
        inside(host, container, "rm /srv/a/kept");
        let got = host.cocker(&format!("get {container} /srv/a -")).succeeds();
        let unpacked = out.join(container);
        fs::create_dir(&unpacked).expect("the folder is ours");
        let file = host.folder("archives").join("got.tar");
        fs::write(&file, &got.stdout).expect("the folder is ours");
        host.shell(&format!(
            "tar -C {} --xattrs -xpf {}",
            unpacked.display(),
            file.display()
        ))
        .succeeds();
        let names = |look: Vec<String>| -> Vec<String> {
            // Without the top, and what tar(1) brings along only when asked for.
            let cut = |line: &String| line.split(" [").next().expect("a line").to_string();
            look.iter().skip(1).map(cut).collect()
        };
        assert_eq!(
            names(look(&unpacked.join("a"))),
            names(before.clone()),
            "{container}"
        );
        let single = host
            .cocker(&format!("get {container} /etc/passwd -"))
            .succeeds();
        fs::write(&file, &single.stdout).expect("the folder is ours");
        let listed = host
            .shell(&format!("tar -tf {}", file.display()))
            .succeeds();
        assert_eq!(listed.stdout(), "passwd\n");
    }
}

/// One entry of a tar stream (ustar), and the two blocks at its end.
fn entry(name: &str, kind: u8, target: &str) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    for range in [108..115, 116..123, 329..336, 337..344] {
        block[range].copy_from_slice(b"0000000");
    }
    block[124..135].copy_from_slice(b"00000000000");
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.to_vec()
}

fn a_hostile_archive_changes_nothing(host: &Host) {
    let outside = host.folder("outside");
    let place = outside.to_str().expect("plain").to_string();
    for container in three(host) {
        inside(
            host,
            container,
            "mkdir /srv/folder; echo old > /srv/folder/good",
        );
        for (bad, said) in [
            (vec![entry("../bad", b'0', "")], "`..`"),
            (vec![entry("/etc/bad", b'0', "")], "absolute"),
            (
                vec![entry("link", b'2', &place), entry("link/bad", b'0', "")],
                "not a folder",
            ),
            (vec![entry("hard", b'1', "../../etc/passwd")], "`..`"),
            (vec![entry("node", b'3', "")], "device nodes are refused"),
        ] {
            let mut stream = entry("good", b'0', "");
            stream.extend(bad.concat());
            stream.extend([0; 1024]);
            host.start(&format!("put {container} - /srv/folder"))
                .feed(&stream)
                .outcome()
                .fails(1, &["cannot put the archive into container", said]);
        }
        host.start(&format!("put {container} - /srv/folder"))
            .feed(b"no archive at all, and longer than nothing")
            .outcome()
            .fails(1, &["cannot put the archive"]);
        // Not even what came before the bad entry.
        let seen = inside(host, container, "cat /srv/folder/good; ls -A /srv/folder");
        assert_eq!(seen, "old\ngood", "{container}");
    }
    assert_eq!(entries(&outside), [""; 0]);
}

fn an_archive_is_no_matter_for_a_terminal(host: &Host) {
    host.booted("web");
    for (line, said) in [
        ("get web /etc -", "standard output is a terminal"),
        ("put web - /srv", "standard input is a terminal"),
    ] {
        let mut terminal = host.terminal(line);
        terminal.expect(said);
        terminal.exits(2);
    }
}

fn what_is_missing_is_named(host: &Host) {
    host.booted("web");
    let out = host.folder("out");
    host.cocker("put web /missing /srv/")
        .fails(1, &["`/missing`", "No such file"]);
    host.cocker(&format!("get web /missing {}/", out.display()))
        .fails(
            1,
            &[
                "cannot get `/missing` out of container `web`",
                "No such file",
            ],
        );
    host.cocker(&format!("get web /etc/passwd {}/missing/", out.display()))
        .fails(1, &["missing/", "No such file"]);
    host.cocker("get nobody /etc/passwd /tmp/")
        .fails(1, &["there is no container `nobody`"]);
    host.cocker("put nobody /etc/passwd /tmp/")
        .fails(1, &["there is no container `nobody`"]);
    host.cocker("put web /etc/passwd")
        .fails(2, &["where to (D) is missing"]);
    host.cocker("put web a b c").fails(2, &[]);
    host.cocker_words(&["put", "web", "", "/srv"])
        .fails(2, &["empty path"]);
    host.cocker("-a putfile -c web --src-file /etc/passwd")
        .fails(2, &["`--dst-file` is missing"]);
    host.start("put web - /missing")
        .feed(b"")
        .outcome()
        .fails(1, &["`/missing`", "No such file"]);
}

fn a_stopped_container_is_as_large_as_what_was_put_into_it(host: &Host) {
    host.cocker("-a create -m test -c off").ok();
    let large = host.folder("mine").join("large");
    fs::write(&large, vec![b'x'; 3_000_000]).expect("the folder is ours");
    host.cocker(&format!("put off {} /srv/", large.display()))
        .ok();
    let listing = host.cocker("containers").succeeds().stdout();
    assert!(
        listing.contains("2 MB") && listing.contains("STOPPED"),
        "{listing}"
    );
    // Nothing of the command is left mounted, and the container boots with what it got.
    assert_eq!(inside(host, "off", "stat -c %s /srv/large"), "3000000");
}

fn who_is_interrupted_leaves_nothing(host: &Host) {
    host.booted("web");
    let tree = host.folder("tree");
    for number in 0..20_000 {
        fs::write(tree.join(number.to_string()), "").expect("the folder is ours");
    }
    let srv = PathBuf::from(format!("/proc/{}/root/srv", host.root_process("web")));
    let is_staged = |folder: &Path| {
        entries(folder)
            .iter()
            .any(|name| name.starts_with(".cocker-"))
    };
    for (line, code) in [
        (format!("put web {} /srv/", tree.display()), 130),
        ("put web - /srv".into(), 1),
    ] {
        let interrupted = || {
            let putting = host.start(&line);
            eventually("a stage", || is_staged(&srv) || !putting.is_running());
            putting.signal(rustix::process::Signal::INT);
            let outcome = putting.outcome();
            if outcome.status.success() {
                // It was done before.
                host.inside("web", "rm -r /srv/tree");
                return None;
            }
            Some(outcome)
        };
        let outcome = (0..20).find_map(|_| interrupted());
        let outcome = outcome.expect("it takes long enough");
        outcome.fails(code, &["interrupted"]);
        assert_eq!(entries(&srv), [""; 0], "{line}");
    }
}

fn a_container_is_not_booted_while_files_go_in(host: &Host) {
    host.booted("web");
    let one = file(host, "one", "one\n");
    let stream =
        fs::read(archive_of(host, one.parent().expect("a folder"))).expect("it was packed");
    let putting = host.start("put web - /srv");
    // It holds the container from the moment that its stage is there.
    let pid = host.root_process("web");
    let srv = PathBuf::from(format!("/proc/{pid}/root/srv"));
    eventually("a stage", || {
        entries(&srv)
            .iter()
            .any(|name| name.starts_with(".cocker-"))
    });
    host.cocker("shutdown web").ok();
    let mut booting = host.cocker_command("boot web");
    let mut booting = booting.spawn().expect("it starts");
    // It waits for the container's lock, as the kernel says.
    eventually("a waiting boot", || {
        let waits = fs::read_to_string(format!("/proc/{}/wchan", booting.id()));
        let syscall = fs::read_to_string(format!("/proc/{}/syscall", booting.id()));
        // flock(2) is number 73 on x86-64.
        waits.is_ok_and(|waits| waits.contains("lock"))
            || syscall.is_ok_and(|call| call.starts_with("73 "))
    });
    putting.feed(&stream).outcome().ok();
    assert!(booting.wait().expect("our own child").success());
    assert_eq!(host.inside("web", "cat /srv/one; ls -A /srv"), "one\none");
}

/// Says at its end that it is there, also where that is a panic: a thread that is waited for ends by it.
struct SetAtTheEnd<'a>(&'a AtomicBool);

impl Drop for SetAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a process of the container can do by renameat2(2), done from outside in the same folder.
fn folders_swapped_for_links_meanwhile_lead_nowhere_but_inside(host: &Host) {
    let outside = host.folder("outside");
    fs::write(outside.join("file"), "of the host alone\n").expect("the folder is ours");
    let one = file(host, "one", "one\n");
    let out = host.folder("out");
    for container in ["web", "mighty"] {
        let privileged = if container == "mighty" {
            "--privileged"
        } else {
            ""
        };
        host.cocker(&format!("-a create -m test -c {container} {privileged}"))
            .ok();
        host.cocker(&format!("-a boot -c {container}")).ok();
        let make = format!(
            "mkdir -p /srv/folder; echo inside > /srv/folder/file; ln -s {} /srv/link",
            outside.display()
        );
        host.inside(container, &make);
        let srv = PathBuf::from(
            host.cocker(&format!("root {container}"))
                .succeeds()
                .stdout()
                .trim_end(),
        )
        .join("srv");
        let is_done = AtomicBool::new(false);
        let succeeded = thread::scope(|scope| {
            let _done = SetAtTheEnd(&is_done);
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let (folder, link) = (srv.join("folder"), srv.join("link"));
                    let _ =
                        rustix::fs::renameat_with(CWD, folder, CWD, link, RenameFlags::EXCHANGE);
                }
            });
            let mut succeeded = 0;
            for number in 0..150 {
                let line = match number % 3 {
                    0 => format!("get {container} /srv/folder/file {}/", out.display()),
                    1 => format!("put {container} {} /srv/folder/", one.display()),
                    _ => format!("get {container} /srv {}/", out.display()),
                };
                let outcome = host.cocker(&line);
                succeeded += u32::from(outcome.status.success());
                let code = outcome.status.code();
                assert!(code == Some(0) || code == Some(1), "{outcome}");
            }
            succeeded
        });
        assert!(succeeded > 10, "only {succeeded} commands found a folder");
        let found = host.shell(&format!("grep -r alone {} | head -1", out.display()));
        assert_eq!(found.stdout(), "", "{container}");
        assert_eq!(entries(&outside), ["file"], "{container}");
        fs::remove_dir_all(&out).expect("the folder is ours");
        host.folder("out");
    }
}
