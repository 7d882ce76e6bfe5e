//! Archives and image files that an enemy made.

use super::{Done, picture};
use crate::host::{Host, copy_program, with_image_test};
use serde_json::Value;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![
        an_archive_that_leads_out_is_refused,
        a_set_id_file_in_the_store_is_worth_nothing,
        file_capabilities_of_an_archive_are_worth_nothing,
        a_whiteout_hides_what_lies_below_it_alone,
        what_does_not_match_its_digest_is_never_seen,
    ]
}

/// One entry of a tar stream (ustar).
pub(super) fn entry(name: &str, kind: u8, target: &str, content: &[u8]) -> Vec<u8> {
    let mut block = vec![0u8; 512];
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
    summed(&mut block);
    block.extend(content);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// Gives the header in front the sum that belongs to it.
pub(super) fn summed(bytes: &mut [u8]) {
    let header = &mut bytes[..512];
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
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
            "hard link out",
            [
                entry("h", b'1', &format!("{place}/good"), b""),
                entry("h", b'0', "", b"bad"),
            ]
            .concat(),
        ),
        (
            "hard link upwards",
            [
                entry("h", b'1', &format!("{short}/good"), b""),
                entry("h", b'0', "", b"bad"),
            ]
            .concat(),
        ),
        (
            "hard link to a link",
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
        if what != "hard link to a link" {
            imported.fails(1, &["cannot"]);
            put.fails(1, &["cannot"]);
        } else if imported.status.success() {
            // A hard link to a link is one: the file that comes after it takes its place.
            host.cocker("rm-image enemy").ok();
        }
        assert_eq!(picture(&outside), before, "{what}");
        assert!(host.images().iter().all(|image| image.starts_with("test")));
        // Control: tar(1), told to believe the archive, writes outside.
        if what == "hard link to a link" {
            // It goes through no such link; who opens what has the name does.
            let (link, hard) = (target.join("l"), target.join("h"));
            std::os::unix::fs::symlink(outside.join("good"), &link).expect("the folder is ours");
            fs::hard_link(&link, &hard).expect("the folder is ours");
            fs::write(&hard, "bad").expect("the folder is ours");
        } else {
            host.shell(&format!(
                "tar --absolute-names --keep-directory-symlink {} -C {} -xf {}",
                if what.starts_with("hard") {
                    "--overwrite"
                } else {
                    ""
                },
                target.display(),
                file.display()
            ));
        }
        if what.starts_with("hard") {
            let good = fs::read_to_string(outside.join("good"));
            assert_eq!(good.expect("it is there"), "bad", "{what}");
            fs::write(outside.join("good"), "good").expect("the folder is ours");
            fs::set_permissions(outside.join("good"), PermissionsExt::from_mode(0o644))
                .expect("the file is ours");
        } else {
            assert!(outside.join("bad").exists(), "{what} does not lead out");
            fs::remove_file(outside.join("bad")).expect("the folder is ours");
        }
        host.shell(&format!("rm -rf {0}; mkdir {0}", target.display()))
            .succeeds();
    }
}

/// Who `program` says it is when user 65534 of the host executes it; nothing where it may not.
fn id_as_nobody(host: &Host, program: &Path) -> Option<String> {
    said_to_nobody(host, program, "-u")
}

fn said_to_nobody(host: &Host, program: &Path, argument: &str) -> Option<String> {
    let mut command = host.command(program);
    command.arg(argument).uid(65_534).gid(65_534);
    let output = match command.stdin(Stdio::null()).output() {
        Err(why) if why.kind() == ErrorKind::PermissionDenied => return None,
        output => output.expect("whoever may execute it can"),
    };
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}

/// Row 9 and 30: a set-id program of an image, to a user of the host who would have it.
fn a_set_id_file_in_the_store_is_worth_nothing(host: &Host) {
    let image = host.add_image("suid", |tree| {
        copy_program(Path::new("/usr/bin/id"), &tree.join("id"), "4755");
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
    copy_program(&image.tree.join("id"), &open, "4755");
    let seen = id_as_nobody(host, &open);
    fs::remove_file(&open).expect("it is ours");
    assert_eq!(seen.as_deref(), Some("0"));
}

/// Row 9: a program that an archive gives rights (capabilities(7), "File capabilities").
fn file_capabilities_of_an_archive_are_worth_nothing(host: &Host) {
    use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
    const NAME: &str = "security.capability";
    // Version 2, effective: CAP_DAC_OVERRIDE.
    let mut capability = [0u8; 20];
    capability[0] = 1;
    capability[3] = 2;
    capability[4] = 1 << 1;
    let has_it = |path: &Path| lgetxattr(path, NAME, &mut [0u8; 64]).is_ok();
    let put = |path: &Path| {
        copy_program(&crate::isolation::program::path(host), path, "755");
        lsetxattr(path, NAME, &capability, XattrFlags::empty()).expect("we are root");
    };
    put(&host.folder("capable").join("capable"));
    let archive = host.folder("archives").join("capable.tar");
    host.shell(&format!(
        "tar --xattrs --xattrs-include='*' -C {} -cf {} capable",
        host.folder("capable").display(),
        archive.display()
    ))
    .succeeds();
    host.cocker(&format!("import {}", archive.display())).ok();
    let layer = host.tree_of("capable", "_").join("capable");
    assert!(has_it(&layer), "it was lost on the way");
    for (option, name) in super::KINDS {
        host.cocker(&format!("create -m test,capable -c {name} {option} -b"))
            .ok();
        let pid = host.root_process(name);
        for path in [
            layer.clone(),
            format!("/proc/{pid}/root/capable").into(),
            format!("/proc/{pid}/cwd/capable").into(),
        ] {
            assert!(path.exists(), "{}", path.display());
            let said = said_to_nobody(host, &path, "capabilities");
            assert_eq!(said, None, "{}", path.display());
        }
    }
    // Control: where its folder lets everybody in, whoever executes it has the right.
    let open = host.program().with_file_name("capable");
    put(&open);
    let said = said_to_nobody(host, &open, "capabilities");
    fs::remove_file(&open).expect("it is ours");
    let said = said.expect("everybody may execute it");
    assert!(said.contains("CapEff:\t0000000000000002"), "{said}");
}

/// Row 9: whiteouts and opaque folders act on the layers below theirs, in their own stack.
fn a_whiteout_hides_what_lies_below_it_alone(host: &Host) {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, lsetxattr, mknodat};
    let image = host.add_image("hides", |tree| {
        for folder in ["etc", "root"] {
            fs::create_dir(tree.join(folder)).expect("the tree is ours");
        }
        let whiteout = tree.join("etc/profile");
        mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).expect("we are root");
        let flags = XattrFlags::empty();
        lsetxattr(tree.join("root"), "trusted.overlay.opaque", b"y", flags).expect("we are root");
    });
    host.add_image("shows", |tree| {
        fs::create_dir(tree.join("root")).expect("the tree is ours");
        fs::write(tree.join("root/shown"), "").expect("the tree is ours");
    });
    let before = picture(&host.tree_of("test", "_"));
    let seen = |images: &str| {
        host.cocker(&format!("create -m {images} -c web -b")).ok();
        let seen = host.inside("web", "ls -d /etc/profile /root/shown 2>/dev/null; true");
        host.cocker("destroy --shutdown web").ok();
        seen
    };
    let all = "/etc/profile\n/root/shown";
    // Control: above them, both marks do hide.
    assert_eq!(seen("test,shows,hides"), "");
    assert_eq!(seen("test,hides,shows"), "/root/shown");
    assert_eq!(seen("hides,test,shows"), all);
    assert_eq!(seen("test,shows"), all);
    // Names of whiteouts that lead to other folders are names of no whiteouts.
    let outside = host.folder("outside");
    fs::write(outside.join("file"), "").expect("the folder is ours");
    let place = outside.display().to_string();
    for (what, bytes) in [
        ("upwards", entry("../.wh.etc", b'0', "", b"")),
        (
            "through a link",
            [
                entry("out", b'2', &place, b""),
                entry("out/.wh.file", b'0', "", b""),
            ]
            .concat(),
        ),
        (
            "opaque through a link",
            [
                entry("out", b'2', &place, b""),
                entry("out/.wh..wh..opq", b'0', "", b""),
            ]
            .concat(),
        ),
    ] {
        let file = host.folder("archives").join("enemy.tar");
        fs::write(&file, [bytes, vec![0; 1024]].concat()).expect("the folder is ours");
        host.cocker(&format!("import {}", file.display()))
            .fails(1, &["cannot"]);
        assert!(outside.join("file").exists(), "{what}");
    }
    // Control: by its path the whiteout's name leads to the file that would go.
    let naive = host.folder("naive");
    std::os::unix::fs::symlink(&outside, naive.join("out")).expect("the folder is ours");
    fs::remove_file(naive.join("out").join("file")).expect("it leads there");
    assert!(!outside.join("file").exists());
    assert_eq!(picture(&host.tree_of("test", "_")), before);
    assert!(image.tree.join("etc").exists());
}

/// An OCI layout whose documents can be changed, each with all that names it.
struct Layout {
    folder: PathBuf,
    manifest: Value,
    config: Value,
}

impl Layout {
    /// Image `test`, with its one layer unpacked.
    fn of_test(host: &Host, name: &str) -> Layout {
        let folder = host.folder(name);
        let archive = folder.with_extension("tar");
        let (file, place) = (archive.display(), folder.display());
        host.cocker(&format!(
            "export test --format oci --compress none -f --image-file {file}"
        ))
        .ok();
        host.shell(&format!("tar -C {place} -xf {file}")).succeeds();
        let mut layout = Layout {
            folder,
            manifest: Value::Null,
            config: Value::Null,
        };
        let index = layout.document("index.json");
        layout.manifest = layout.document(&blob(&index["manifests"][0]["digest"]));
        layout.config = layout.document(&blob(&layout.manifest["config"]["digest"]));
        layout
    }

    fn document(&self, name: &str) -> Value {
        let text = fs::read(self.folder.join(name)).expect("it is there");
        serde_json::from_slice(&text).expect("it is JSON")
    }

    /// Where its layer lies.
    fn layer(&self) -> PathBuf {
        self.folder
            .join(blob(&self.manifest["layers"][0]["digest"]))
    }

    /// Writes config and manifest as they are now, with the digests and sizes that they have.
    fn write(&mut self, host: &Host) {
        let config = self.config.to_string();
        (
            self.manifest["config"]["digest"],
            self.manifest["config"]["size"],
        ) = self.add(host, config.as_bytes());
        let manifest = self.manifest.to_string();
        let mut index = self.document("index.json");
        let described = &mut index["manifests"][0];
        (described["digest"], described["size"]) = self.add(host, manifest.as_bytes());
        fs::write(self.folder.join("index.json"), index.to_string()).expect("it is ours");
    }

    fn add(&self, host: &Host, bytes: &[u8]) -> (Value, Value) {
        let new = self.folder.join("new");
        fs::write(&new, bytes).expect("it is ours");
        let sum = host.shell(&format!("sha256sum < {}", new.display()));
        let digest = format!("sha256:{}", &sum.succeeds().stdout()[..64]);
        let blob = self.folder.join(blob(&Value::from(digest.as_str())));
        fs::rename(new, blob).expect("it is ours");
        (digest.into(), bytes.len().into())
    }
}

/// Where a layout has what has this digest.
fn blob(digest: &Value) -> String {
    let digest = digest.as_str().expect("a digest is text");
    format!("blobs/{}", digest.replace(':', "/"))
}

/// Does `work` while somebody looks which images there are; returns all that were seen.
fn images_meanwhile(host: &Host, work: impl FnOnce()) -> Vec<String> {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = Vec::new();
            loop {
                // Once more when all is done.
                let is_last = is_done.load(Ordering::Relaxed);
                seen.extend(host.entries("images"));
                seen.sort();
                seen.dedup();
                if is_last {
                    return seen;
                }
            }
        });
        let done = Done(&is_done);
        work();
        drop(done);
        watching.join().expect("it does not panic")
    })
}

/// Row 11: each document and each layer, by digest and by size.
fn what_does_not_match_its_digest_is_never_seen(host: &Host) {
    type Change<'a> = &'a dyn Fn(&mut Layout);
    let size = |layout: &mut Layout, more: i64| {
        let size = &mut layout.manifest["layers"][0]["size"];
        *size = (size.as_i64().expect("a number") + more).into();
        layout.write(host);
    };
    let changed = |path: &Path| {
        let mut bytes = fs::read(path).expect("it is there");
        let found = bytes.windows(11).position(|part| part == b"--- Welcome");
        // Somewhere in a file, or in a document between two words.
        match found {
            Some(place) => bytes[place] = b'+',
            None => *bytes.last_mut().expect("it is not empty") = b' ',
        }
        fs::write(path, bytes).expect("it is ours");
    };
    let longer = |path: &Path| {
        let mut bytes = fs::read(path).expect("it is there");
        bytes.extend([0; 512]);
        fs::write(path, bytes).expect("it is ours");
    };
    let changes: [(&str, Change<'_>); 8] = [
        ("another layer", &|layout| changed(&layout.layer())),
        ("a longer layer", &|layout| longer(&layout.layer())),
        ("a larger size", &|layout| size(layout, 512)),
        ("a smaller size", &|layout| size(layout, -512)),
        ("a size below nothing", &|layout| {
            layout.manifest["layers"][0]["size"] = (-1).into();
            layout.write(host);
        }),
        ("another diff_id", &|layout| {
            let digest = format!("sha256:{}", "0".repeat(64));
            layout.config["rootfs"]["diff_ids"][0] = digest.into();
            layout.write(host);
        }),
        ("another config", &|layout| {
            longer(
                &layout
                    .folder
                    .join(blob(&layout.manifest["config"]["digest"])),
            );
        }),
        ("another manifest", &|layout| {
            let index = layout.document("index.json");
            changed(&layout.folder.join(blob(&index["manifests"][0]["digest"])));
        }),
    ];
    let before = host.entries("layers");
    for (number, (what, change)) in changes.into_iter().enumerate() {
        let mut layout = Layout::of_test(host, &format!("layout-{number}"));
        change(&mut layout);
        let line = format!("import {} -m bad", layout.folder.display());
        let seen = images_meanwhile(host, || {
            host.cocker(&line).fails(1, &["cannot import"]);
        });
        assert!(seen.iter().all(|name| name == "test"), "{what}: {seen:?}");
        assert_eq!(host.entries("layers"), before, "{what}");
    }
    // Control: written anew in the same way, but with what is so, it is an image; and who unpacks the layer without a look at
    // its digest has what was put into it.
    let mut sound = Layout::of_test(host, "sound");
    sound.write(host);
    let line = format!("import {} -m good", sound.folder.display());
    let seen = images_meanwhile(host, || drop(host.cocker(&line).ok()));
    assert!(seen.iter().any(|name| name == "good"), "{seen:?}");
    changed(&sound.layer());
    let naive = host.shell(&format!(
        "tar -xOf {} | grep -ac '+-- Welcome'",
        sound.layer().display()
    ));
    assert_eq!(naive.stdout().trim(), "1");
}
