//! Files that go in and out while root inside swaps the folders that they go through.

use super::{Attacker, KINDS, number, picture, tries};
use crate::host::{Host, eventually, with_image_test};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![swapped_links_lead_no_copy_outside]
}

/// Row 6: CVE-2018-15664, CVE-2019-10152. Booted, by a process inside; and stopped, in the writable layer itself, where nobody
/// but the host could do it.
fn swapped_links_lead_no_copy_outside(host: &Host) {
    let outside = host.folder("outside");
    for name in ["file", "template"] {
        fs::write(outside.join(name), "KEY of the host alone\n").expect("the folder is ours");
    }
    let before = picture(&outside);
    let (mine, share) = (host.folder("mine"), host.folder("share"));
    let one = mine.join("one");
    fs::write(&one, "one\n").expect("the folder is ours");
    let map = mine.join("map");
    fs::write(&map, "KEY value\n").expect("the folder is ours");
    fs::create_dir(share.join("folder")).expect("the folder is ours");
    for name in ["file", "template"] {
        fs::write(share.join("folder").join(name), "KEY inside\n").expect("the folder is ours");
    }
    symlink(&outside, share.join("link")).expect("the folder is ours");
    let volume = format!("--volume {}:/srv", share.display());
    for (option, name) in KINDS {
        Attacker::booted(host, name, &format!("{volume} {option}"));
        host.cocker(&format!("create -m test -c off {option}")).ok();
        let stopped = host.home().join("containers/off/files/upper/srv");
        host.shell(&format!(
            "mkdir -p {0} && cp -a {1}/. {0}/",
            stopped.display(),
            share.display()
        ))
        .succeeds();
        let out = host.folder("out");
        let swap = format!("swap /srv/folder /srv/link {}", tries(100_000));
        let mut attack = Attacker::inside(host, name, &swap);
        attack.until_prints("begun");
        let swap = |folder: &std::path::Path, least: u64| {
            let [one, other] = ["folder", "link"].map(|name| folder.join(name));
            format!("swap {} {} {least}", one.display(), other.display())
        };
        let mut below = Attacker::outside(host, &swap(&stopped, tries(100_000)));
        below.until_prints("begun");
        let mut found = [0, 0];
        for round in 0..tries(120) {
            let container = if round % 2 == 0 { name } else { "off" };
            let (one, map) = (one.display(), map.display());
            let line = match round / 2 % 5 {
                0 => format!("get {container} /srv/folder/file {}/", out.display()),
                1 => format!("put {container} {one} /srv/folder/"),
                2 => format!("get {container} /srv/folder/ {}/", out.display()),
                3 => format!(
                    "instantiate {container} --template-file /srv/folder/template --mapping-file {map}"
                ),
                _ => format!(
                    "instantiate {container} --template-file /etc/profile --mapping-file {map} \
                     --instance-file /srv/folder/instance"
                ),
            };
            let outcome = host.cocker(&line);
            found[round as usize % 2] += u32::from(outcome.status.success());
            if !outcome.status.success() {
                outcome.fails(1, &[container]);
            }
        }
        for attack in [attack, below] {
            let said = attack.outcome().succeeds().stdout();
            assert!(number(&said, "swaps") >= 100_000, "{said}");
        }
        let enough = found.iter().all(|&found| found > 5);
        assert!(enough, "only {found:?} commands found a folder");
        let got = host.shell(&format!("grep -rl alone {}; true", out.display()));
        assert_eq!(got.stdout(), "", "{name}: read from the host");
        assert_eq!(picture(&outside), before, "{name}: written on the host");
        fs::remove_dir_all(&out).expect("the folder is ours");
        host.cocker("destroy off").ok();
    }
    // Control: by its path below the container's root, the same file is the host's, sooner or later.
    let mut attack = Attacker::inside(host, "mighty", "swap /srv/folder /srv/link 1000");
    attack.until_prints("begun");
    let root = PathBuf::from(format!("/proc/{}/root/srv", host.root_process("mighty")));
    eventually("what the host has", || {
        let read = fs::read_to_string(root.join("folder/file"));
        read.is_ok_and(|text| text.contains("alone"))
    });
    eventually("a file on the host", || {
        let _ = fs::write(root.join("folder/written"), "KEY");
        outside.join("written").exists()
    });
    attack.outcome().succeeds();
}
