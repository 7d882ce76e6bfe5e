//! Archives and image files that an enemy made.

use super::{picture, tries};
use crate::host::{Host, with_image_test};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_archive_that_leads_out_is_refused,
        a_set_id_file_in_the_store_is_worth_nothing,
        a_bomb_takes_little_memory_and_leaves_nothing,
    ]
}

/// One entry of a tar stream (ustar).
fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..name.len().min(100)].copy_from_slice(&name.as_bytes()[..name.len().min(100)]);
    block[100..107].copy_from_slice(b"0000755");
    for range in [108..115, 116..123, 329..336, 337..344] {
        block[range].copy_from_slice(b"0000000");
    }
    block[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = block.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// Row 8: `..`, absolute names, files through links that came before, hard links out. By import, and by put into a
/// container.
fn an_archive_that_leads_out_is_refused(host: &Host) {
    let outside = host.folder("outside");
    let place = outside.display().to_string();
    let (target, short) = (host.folder("unpacked"), "../outside");
    let archives: Vec<(&str, Vec<u8>)> = vec![
        ("dots", entry(&format!("{short}/bad"), b'0', "", b"x")),
        ("absolute", entry(&format!("{place}/bad"), b'0', "", b"x")),
        (
            "link",
            [
                entry("l", b'2', &place, b""),
                entry("l/bad", b'0', "", b"x"),
            ]
            .concat(),
        ),
        (
            "two links",
            [
                entry("a", b'2', "..", b""),
                entry("b", b'2', "a/outside", b""),
                entry("b/bad", b'0', "", b"x"),
            ]
            .concat(),
        ),
        (
            "hard link",
            [
                entry("l", b'2', &format!("{place}/good"), b""),
                entry("h", b'1', "l", b""),
                entry("h", b'0', "", b"bad"),
            ]
            .concat(),
        ),
    ];
    fs::write(outside.join("good"), "good").expect("the folder is ours");
    let before = picture(&outside);
    host.booted("web");
    for (what, bytes) in archives {
        let file = host.folder("archives").join("enemy.tar");
        let stream = [bytes, vec![0; 1024]].concat();
        fs::write(&file, &stream).expect("the folder is ours");
        let imported = host.cocker(&format!("import {}", file.display()));
        let put = host.start("put web - /srv").feed(&stream).outcome();
        if what != "hard link" {
            imported.fails(1, &["cannot"]);
            put.fails(1, &["cannot"]);
        } else if imported.status.success() {
            // A hard link to a link is one: the file that comes after it takes its place.
            host.cocker("rm-image enemy").ok();
        }
        assert_eq!(picture(&outside), before, "{what}");
        assert!(host.images().iter().all(|image| image.starts_with("test")));
        // Control: tar(1), told to believe the archive, writes outside; it goes through no hard link of a link.
        if what != "hard link" {
            host.shell(&format!(
                "tar --absolute-names --keep-directory-symlink -C {} -xf {}",
                target.display(),
                file.display()
            ));
            assert!(outside.join("bad").exists(), "{what} does not lead out");
            fs::remove_file(outside.join("bad")).expect("the folder is ours");
        }
        host.shell(&format!("rm -rf {0}; mkdir {0}", target.display()))
            .succeeds();
    }
}

/// Who `program` says it is when user 65534 of the host executes it; nothing where it cannot be.
fn id_as_nobody(host: &Host, program: &Path) -> Option<String> {
    let mut command = host.command(program);
    command.arg("-u").uid(65_534).gid(65_534);
    let output = command.stdin(Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Row 9 and 30: a set-id program of an image, to a user of the host who would have it.
fn a_set_id_file_in_the_store_is_worth_nothing(host: &Host) {
    let image = host.add_image("suid", |tree| {
        let program = tree.join("id");
        fs::copy("/usr/bin/id", &program).expect("the tree is ours");
        fs::set_permissions(program, PermissionsExt::from_mode(0o4755)).expect("the tree is ours");
    });
    for (option, name) in super::KINDS {
        host.cocker(&format!("create -m test,suid -c {name} {option} -b"))
            .ok();
        // Inside it is what it is: su and sudo must work.
        let inside = host.cocker(&format!("run {name} --user 33:33 -- /id -u"));
        inside.succeeds().prints("0\n");
        host.inside(name, "cp -p /id /root/id && chmod 4755 /root/id");
        let pid = host.root_process(name);
        for path in [
            image.tree.join("id"),
            host.home()
                .join(format!("containers/{name}/files/upper/root/id")),
            format!("/proc/{pid}/root/id").into(),
            format!("/proc/{pid}/cwd/id").into(),
        ] {
            assert!(path.exists(), "{}", path.display());
            assert_eq!(id_as_nobody(host, &path), None, "{}", path.display());
        }
    }
    // Control: where its folder lets everybody in, it makes whoever executes it root.
    let open = host.program().with_file_name("suid-id");
    fs::copy(image.tree.join("id"), &open).expect("the folder is ours");
    fs::set_permissions(&open, PermissionsExt::from_mode(0o4755)).expect("the folder is ours");
    let seen = id_as_nobody(host, &open);
    fs::remove_file(&open).expect("it is ours");
    assert_eq!(seen.as_deref(), Some("0"));
}

/// The most memory that a command had, in KiB, looked at while it runs.
fn peak(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

/// Row 10: what unpacks to much more than it is, and what says that it is much more.
fn a_bomb_takes_little_memory_and_leaves_nothing(host: &Host) {
    let folder = host.folder("bombs");
    let packed = |name: &str, write: &mut dyn FnMut(&mut dyn Write)| {
        let path = folder.join(name);
        let file = fs::File::create(&path).expect("the folder is ours");
        let mut gzip = host
            .command("gzip")
            .arg("-1")
            .stdin(Stdio::piped())
            .stdout(file)
            .spawn()
            .expect("gzip is there");
        write(&mut gzip.stdin.take().expect("it is piped"));
        assert!(gzip.wait().expect("our own child").success());
        path
    };
    let zeros = vec![0u8; 1 << 20];
    let entries = tries(50_000);
    let bombs = [
        (
            "zeros.tar.gz",
            packed("zeros.tar.gz", &mut |into| {
                let mut head = entry("zeros", b'0', "", b"");
                head[124..135].copy_from_slice(b"77777777777");
                head[148..156].fill(b' ');
                let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
                head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                into.write_all(&head).expect("gzip reads");
                (0..300).for_each(|_| into.write_all(&zeros).expect("gzip reads"));
            }),
        ),
        (
            "entries.tar.gz",
            packed("entries.tar.gz", &mut |into| {
                let mut bytes = Vec::new();
                for number in 0..entries {
                    bytes.extend(entry(&format!("e{number}"), b'2', "x", b""));
                    if bytes.len() > 1 << 20 {
                        into.write_all(&bytes).expect("gzip reads");
                        bytes.clear();
                    }
                }
                into.write_all(&bytes).expect("gzip reads");
            }),
        ),
        (
            "names.tar.gz",
            packed("names.tar.gz", &mut |into| {
                // GNU's long name: 64 MiB of it.
                let mut head = entry("././@LongLink", b'L', "", b"");
                head[124..135].copy_from_slice(format!("{:011o}", 64 << 20).as_bytes());
                head[148..156].fill(b' ');
                let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
                head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                into.write_all(&head).expect("gzip reads");
                let name = vec![b'n'; 1 << 20];
                (0..64).for_each(|_| into.write_all(&name).expect("gzip reads"));
            }),
        ),
        (
            "deep.tar.gz",
            packed("deep.tar.gz", &mut |into| {
                // A pax header with a path of 10,000 folders.
                let path = "d/".repeat(10_000);
                let record = format!(" path={path}\n");
                let length = record.len() + 5;
                let record = format!("{length}{record}");
                into.write_all(&entry("pax", b'x', "", record.as_bytes()))
                    .expect("gzip reads");
                into.write_all(&entry("d", b'5', "", b""))
                    .expect("gzip reads");
            }),
        ),
    ];
    for (name, path) in bombs {
        let importing = host.start(&format!(
            "import {} -m bomb --max-size 256M",
            path.display()
        ));
        let pid = importing.pid().as_raw_nonzero().get();
        let mut most = 0;
        while Path::new(&format!("/proc/{pid}/exe")).exists() {
            let now = peak(pid);
            if now == 0 {
                break; // it has ended
            }
            most = most.max(now);
            std::thread::sleep(Duration::from_millis(2));
        }
        let outcome = importing.outcome();
        assert!(most < 96 << 10, "{name} took {most} KiB: {outcome}");
        if name == "entries.tar.gz" && outcome.status.success() {
            // So many are many, and no more than there may be.
            host.cocker("rm-image bomb").ok();
        } else {
            outcome.fails(1, &["cannot import"]);
        }
        assert_eq!(host.layers(), 1, "{name}");
    }
    // Control: a program that takes the archive at its word needs more than the same bounds.
    let naive = host.shell(&format!(
        "gzip -dc {}/zeros.tar.gz | tail -c +513 | wc -c",
        folder.display()
    ));
    let bytes: u64 = naive.stdout().trim().parse().expect("a number");
    assert!(bytes > 256 << 20, "{bytes}");
}
