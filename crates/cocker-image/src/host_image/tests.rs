//! The whole way: on this host, and on small hosts made up of folders.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::{
        fd::AsFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{
    elf::{Elf, Kind},
    *,
};

/// Files of the image belong to root, so only root can make one.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("not root: nothing tested");
    }
    is_root
}

/// Fills a folder from the host at `root`.
fn build_in_folder(root: &Path, space: u64) -> (TempDir, Result<HostImageReport, HostImageError>) {
    let folder = tempfile::tempdir().unwrap();
    let tree = File::open(folder.path()).unwrap();
    let report = build_from(root, tree.as_fd(), &Options::default(), space);
    (folder, report)
}

fn has(report: &HostImageReport, name: &str) -> bool {
    report.installed.iter().any(|installed| installed == name)
}

fn reason<'a>(report: &'a HostImageReport, name: &str) -> &'a str {
    let skipped = report.skipped.iter().find(|skipped| skipped.name == name);
    &skipped
        .unwrap_or_else(|| panic!("{name} not skipped"))
        .reason
}

/// Every path below `folder`, without following links.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        visit(&path, &metadata);
        if metadata.is_dir() {
            walk(&path, visit);
        }
    }
}

fn run_inside(tree: &Path, program: &str, arguments: &[&str]) -> Output {
    Command::new("chroot")
        .arg(tree)
        .arg(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .output()
        .unwrap()
}

/// One image serves several checks, since making it is most of the work.
#[test]
fn an_image_of_this_host_is_whole_small_and_runs() {
    if !is_root() {
        return;
    }
    let (folder, report) = build_in_folder(Path::new("/"), SPACE_AT_MOST);
    let report = report.unwrap();
    let tree = folder.path();
    assert!(has(&report, "sh") || has(&report, "bash"));
    assert!(has(&report, "ls") && has(&report, "cat"));
    every_file_is_roots_and_plain_and_as_on_the_host(tree);
    every_elf_file_has_its_libraries(tree);
    it_is_small(tree, &report);
    programs_run(tree, &report);
    shells_greet(tree, &report);
}

fn every_file_is_roots_and_plain_and_as_on_the_host(tree: &Path) {
    walk(tree, &mut |path, metadata| {
        let kind = metadata.file_type();
        assert!(
            kind.is_file() || kind.is_dir() || kind.is_symlink(),
            "{path:?}"
        );
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0), "{path:?}");
        let on_host = Path::new("/").join(path.strip_prefix(tree).unwrap());
        if on_host.starts_with("/usr/bin") && kind.is_symlink() {
            assert_eq!(
                fs::read_link(path).unwrap(),
                fs::read_link(&on_host).unwrap()
            );
        }
        if on_host.starts_with("/usr/bin") && kind.is_file() {
            let host = fs::symlink_metadata(&on_host).unwrap();
            assert_eq!(
                (host.mode(), host.len(), host.mtime()),
                (metadata.mode(), metadata.len(), metadata.mtime()),
                "{path:?}"
            );
        }
    });
    for merged in ["bin", "sbin", "lib", "lib64"] {
        assert_eq!(
            fs::read_link(tree.join(merged)).ok(),
            fs::read_link(Path::new("/").join(merged)).ok()
        );
    }
    let mode = |path| fs::metadata(tree.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("."), 0o755);
    assert_eq!(mode("tmp"), 0o1777);
    assert_eq!(mode("root"), 0o700);
    assert_eq!(mode("etc/shadow"), 0o640);
    assert!(!tree.join("etc/hostname").exists());
    assert!(!tree.join("etc/resolv.conf").exists());
}

/// Reads the needed names of each file, and asks only whether a file of that name and kind is in the tree: this knows
/// nothing of how the builder searches.
fn every_elf_file_has_its_libraries(tree: &Path) {
    let mut elves: Vec<(PathBuf, Elf)> = Vec::new();
    let mut names: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    walk(tree, &mut |path, metadata| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        names.entry(name).or_default().push(path.to_path_buf());
        if metadata.is_file()
            && let Ok(elf) = Elf::read(File::open(path).unwrap())
        {
            elves.push((path.to_path_buf(), elf));
        }
    });
    assert!(elves.len() > 50);
    let inside = Host::at(tree);
    let is_there = |name: &str, kind: Kind| {
        names.get(name).into_iter().flatten().any(|path| {
            let path = Path::new("/").join(path.strip_prefix(tree).unwrap());
            let trail = inside.follow(&path).unwrap();
            Elf::read(inside.open(&trail.end).unwrap()).is_ok_and(|elf| elf.kind == kind)
        })
    };
    for (path, elf) in &elves {
        for name in &elf.needed {
            let name = name.to_str().unwrap();
            assert!(is_there(name, elf.kind), "{name} for {path:?}");
        }
        if let Some(loader) = &elf.interpreter {
            assert!(inside.follow(loader).is_ok(), "{loader:?} for {path:?}");
        }
    }
}

fn it_is_small(tree: &Path, report: &HostImageReport) {
    let mut bytes = 0;
    let mut blocks = 0;
    let mut counted = std::collections::HashSet::new();
    walk(tree, &mut |_, metadata| {
        if metadata.is_file() && counted.insert(metadata.ino()) {
            bytes += metadata.len();
            blocks += metadata.blocks();
        }
    });
    assert_eq!(bytes, report.bytes);
    assert!(blocks * 512 <= SPACE_AT_MOST, "{blocks} blocks");
}

fn programs_run(tree: &Path, report: &HostImageReport) {
    let shell = if has(report, "bash") {
        "/bin/bash"
    } else {
        "/bin/sh"
    };
    let output = run_inside(
        tree,
        shell,
        &["-lc", "ls / && cat /root/tpl.txt && echo $PATH"],
    );
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("proc\n") && text.contains("{ \"leaf\":\"${LEAF}\" }\n"));
    assert!(text.ends_with("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
    assert!(!text.contains("Welcome"), "{text}");

    // There is neither /proc nor /dev/null here, which some ask for before anything else: that they were loaded is enough then.
    let mut ran = 0;
    for (name, arguments, wanted) in [
        ("bash", "--version", "bash"),
        ("cat", "--version", "cat"),
        ("ls", "--version", "ls"),
        ("sort", "--version", "sort"),
        ("grep", "--version", "grep"),
        ("egrep", "--version", "grep"),
        ("sed", "--version", "sed"),
        ("awk", "'BEGIN { print 6 * 7 }'", "42"),
        ("tar", "--version", "tar"),
        ("gzip", "--version", "gzip"),
        ("zcat", "--version", "gzip"),
        ("find", "--version", "find"),
        ("xargs", "--version", "xargs"),
        ("ps", "--version", ""),
        ("top", "-v", ""),
        ("free", "--version", ""),
        ("pgrep", "--version", ""),
        ("ip", "-V", "ip"),
        ("ss", "-V", "ss"),
        ("mount", "--version", "mount"),
        ("umount", "--version", "umount"),
        ("unshare", "--version", "unshare"),
        ("vi", "--version", ""),
        ("vim", "--version", "VIM"),
        ("less", "--version", "less"),
        ("file", "/bin/sh", "/bin/sh:"),
        ("hostname", "", ""),
        ("which", "ls", "ls"),
        ("ssh", "-V", ""),
        ("nc", "-h", ""),
        ("tty", "--version", "tty"),
        ("stty", "--version", "stty"),
        ("stdbuf", "-oL echo buffered", "buffered"),
        ("clear", "-T xterm -V", ""),
        ("tput", "-T linux cols", "80"),
        ("id", "-un", "root"),
        ("getent", "passwd nobody", "65534"),
    ] {
        if !has(report, name) {
            continue;
        }
        let command = format!("{name} {arguments}");
        let output = run_inside(tree, "/bin/sh", &["-c", &command]);
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(wanted), "{command}: {text}");
        assert!(!text.contains("shared librar"), "{command}: {text}");
        assert_ne!(output.status.code(), Some(127), "{command}: {text}");
        ran += 1;
    }
    assert!(ran > 15, "only {ran} programs were there to be tried");
}

fn shells_greet(tree: &Path, report: &HostImageReport) {
    for (name, shell) in [("bash", "/bin/bash"), ("sh", "/bin/sh")] {
        if !has(report, name) {
            continue;
        }
        // The prompt as it was set: a shell expands it only when it shows it.
        let script = "printf '%s' \"$PS1\"";
        let output = run_inside(tree, shell, &["-l", "-i", "-c", script]);
        let text = String::from_utf8_lossy(&output.stdout);
        let (greeting, prompt) = text.split_once("\n\n").expect("a greeting");
        assert_eq!(greeting, "--- Welcome to cocker container ---");
        assert!(prompt.ends_with(" $PWD] "), "{prompt}");
        assert!(
            prompt == r"[\u@\h $PWD] " || prompt.starts_with("[root@"),
            "{prompt}"
        );
    }
}

/// A host whose only programs are scripts and what `add` puts there.
struct SmallHost(TempDir);

impl SmallHost {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn path(&self, path: &str) -> PathBuf {
        let path = self.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, path: &str, content: &[u8]) -> &Self {
        fs::write(self.path(path), content).unwrap();
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    fn build(&self) -> (TempDir, Result<HostImageReport, HostImageError>) {
        build_in_folder(self.root(), SPACE_AT_MOST)
    }

    fn collect(&self, name: &str) -> Result<Vec<String>, Unavailable> {
        let host = Host::at(self.root());
        let mut collector = Collector::new(&host, search_folders(&Options::default()));
        let program = collector.program(name)?;
        let paths = program.plan.entries().map(|(path, _)| path.display());
        Ok(paths.map(|path| path.to_string()).collect())
    }
}

/// Makes an ELF file of 64 bits by hand: one loaded segment over the whole file and a dynamic section.
fn elf_file(machine: u16, entries: &[(u64, &str)]) -> Vec<u8> {
    const HEADERS: usize = 64 + 2 * 56;
    let mut strings = vec![0];
    let mut dynamic: Vec<(u64, u64)> = Vec::new();
    for (tag, text) in entries {
        dynamic.push((*tag, strings.len() as u64));
        strings.extend(text.bytes().chain([0]));
    }
    let size_of_dynamic = (entries.len() + 3) * 16;
    let strings_at = (HEADERS + size_of_dynamic) as u64;
    dynamic.extend([(5, strings_at), (10, strings.len() as u64), (0, 0)]);
    let whole = strings_at + strings.len() as u64;

    let endian = if cfg!(target_endian = "little") { 1 } else { 2 };
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, endian, 1];
    file.resize(16, 0);
    for half in [3, machine] {
        file.extend(half.to_ne_bytes());
    }
    file.extend(1_u32.to_ne_bytes());
    for word in [0_u64, 64, 0] {
        file.extend(word.to_ne_bytes());
    }
    file.extend(0_u32.to_ne_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        file.extend(half.to_ne_bytes());
    }
    let dynamic_range = (HEADERS as u64, size_of_dynamic as u64);
    for (kind, (offset, size)) in [(1_u32, (0, whole)), (2, dynamic_range)] {
        file.extend(kind.to_ne_bytes());
        file.extend(4_u32.to_ne_bytes());
        for word in [offset, offset, offset, size, size, 8_u64] {
            file.extend(word.to_ne_bytes());
        }
    }
    for (tag, value) in dynamic {
        file.extend(tag.to_ne_bytes());
        file.extend(value.to_ne_bytes());
    }
    file.extend(strings);
    file
}

const NEEDED: u64 = 1;
const RPATH: u64 = 15;
const RUNPATH: u64 = 29;
const X86_64: u16 = 62;
const AARCH64: u16 = 183;

fn library(entries: &[(u64, &str)]) -> Vec<u8> {
    elf_file(X86_64, entries)
}

#[test]
fn a_host_with_separate_bin_keeps_it_so() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    host.file("/bin/sh", &library(&[(NEEDED, "libc.so.6")]))
        .file("/lib/libc.so.6", &library(&[]))
        .file("/usr/bin/env", &library(&[(NEEDED, "libc.so.6")]));
    let (folder, report) = host.build();
    let report = report.unwrap();
    assert_eq!(report.installed, ["env", "sh"]);
    let kind = |path| fs::symlink_metadata(folder.path().join(path)).unwrap();
    assert!(kind("bin").is_dir() && kind("bin/sh").is_file());
    assert!(kind("sbin").is_dir() && kind("lib/libc.so.6").is_file());
    let passwd = fs::read_to_string(folder.path().join("etc/passwd")).unwrap();
    assert!(passwd.starts_with("root:x:0:0:root:/root:/bin/sh\n"));
}

#[test]
fn libraries_of_a_multiarch_folder_are_found_and_those_of_another_machine_passed_over() {
    let host = SmallHost::new();
    host.file("/usr/bin/ls", &library(&[(NEEDED, "libx.so.1")]))
        .file("/lib/x86_64-linux-gnu/libx.so.1", &elf_file(AARCH64, &[]))
        .link("/usr/lib/x86_64-linux-gnu/libx.so.1", "libx.so.1.2")
        .file("/usr/lib/x86_64-linux-gnu/libx.so.1.2", &library(&[]));
    assert_eq!(
        host.collect("ls").unwrap(),
        [
            "/usr/bin/ls",
            "/usr/lib/x86_64-linux-gnu/libx.so.1",
            "/usr/lib/x86_64-linux-gnu/libx.so.1.2"
        ]
    );
}

#[test]
fn search_folders_in_a_file_are_followed_and_only_the_old_kind_is_handed_down() {
    let host = SmallHost::new();
    let origin = "$ORIGIN/../private";
    host.file(
        "/usr/bin/old",
        &library(&[(NEEDED, "liba.so"), (RPATH, origin)]),
    )
    .file(
        "/usr/bin/new",
        &library(&[(NEEDED, "liba.so"), (RUNPATH, origin)]),
    )
    .file("/usr/private/liba.so", &library(&[(NEEDED, "libb.so")]))
    .file("/usr/private/libb.so", &library(&[]));
    let old = host.collect("old").unwrap();
    assert!(
        old.contains(&String::from("/usr/private/libb.so")),
        "{old:?}"
    );
    let new = host.collect("new").unwrap_err();
    assert_eq!(new.to_string(), "library `libb.so` not found");
}

#[test]
fn a_missing_library_or_a_big_interpreter_skips_the_program_only() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    host.file("/bin/sh", &library(&[]))
        .file("/bin/ls", &library(&[(NEEDED, "libgone.so.9")]))
        .file("/bin/cat", b"#!/usr/bin/perl -w\n")
        .file("/usr/bin/perl", &library(&[]))
        .file("/bin/egrep", b"#! /bin/sh\nexec grep -E \"$@\"\n")
        .file("/bin/cp", b"no program at all")
        .link("/bin/mv", "mv");
    let (folder, report) = host.build();
    let report = report.unwrap();
    assert_eq!(report.installed, ["egrep", "sh"]);
    assert_eq!(reason(&report, "ls"), "library `libgone.so.9` not found");
    assert!(reason(&report, "cat").contains("/usr/bin/perl"));
    assert!(reason(&report, "cp").contains("neither ELF nor a script"));
    assert!(reason(&report, "mv").contains("no program of this name"));
    assert!(!folder.path().join("bin/ls").exists());
}

#[test]
fn an_editor_that_brings_a_desktop_is_replaced_by_the_smallest_that_does_not() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    let mut desktop = library(&[]);
    desktop.resize(20 << 20, 0);
    host.file("/bin/sh", &library(&[]))
        .link("/usr/bin/vi", "/etc/alternatives/vi")
        .link("/etc/alternatives/vi", "/usr/bin/vim.gtk3")
        .file("/usr/bin/vim.gtk3", &library(&[(NEEDED, "libgtk.so")]))
        .file("/usr/lib/libgtk.so", &desktop)
        .file("/usr/bin/vim.tiny", &library(&[]));
    let (folder, report) = host.build();
    assert!(has(&report.unwrap(), "vi"));
    let vi = fs::read_link(folder.path().join("usr/local/bin/vi")).unwrap();
    assert_eq!(vi, Path::new("/usr/bin/vim.tiny"));
    assert!(!folder.path().join("usr/lib/libgtk.so").exists());
}

#[test]
fn what_does_not_fit_is_left_out_largest_first() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    let mut large = library(&[]);
    large.resize(1 << 20, 0);
    host.file("/bin/sh", &library(&[]))
        .file("/bin/ls", &library(&[]))
        .file("/bin/cat", &large);
    let (_folder, report) = build_in_folder(host.root(), 1 << 20);
    let report = report.unwrap();
    assert!(has(&report, "ls") && !has(&report, "cat"));
    assert!(reason(&report, "cat").contains("bytes more"));
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    host.file("/bin/sh", &library(&[]))
        .file("/bin/ls", &library(&[]));
    fs::hard_link(host.path("/bin/ls"), host.path("/usr/bin/dir")).unwrap();
    let (folder, report) = host.build();
    let report = report.unwrap();
    let inode = |path| fs::metadata(folder.path().join(path)).unwrap().ino();
    assert_eq!(inode("bin/ls"), inode("usr/bin/dir"));
    let one = library(&[]).len() as u64;
    assert!(report.bytes > 2 * one);
}

#[test]
fn a_program_in_a_folder_of_its_own_gets_a_name_in_the_images_search_path() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    host.link("/run/system/bin/bash", "/store/bash/bin/bash")
        .file("/store/bash/bin/bash", &library(&[]))
        .link("/bin", "usr/bin")
        .file("/usr/bin/env", &library(&[]));
    let folder = tempfile::tempdir().unwrap();
    let tree = File::open(folder.path()).unwrap();
    let options = Options {
        search: vec![PathBuf::from("/run/system/bin"), PathBuf::from(".")],
    };
    let report = build_from(host.root(), tree.as_fd(), &options, SPACE_AT_MOST).unwrap();
    assert!(has(&report, "bash"));
    for name in ["usr/local/bin/bash", "usr/bin/bash", "usr/bin/sh"] {
        let target = fs::read_link(folder.path().join(name)).unwrap();
        assert_eq!(target, Path::new("/store/bash/bin/bash"), "{name}");
    }
    assert!(fs::symlink_metadata(folder.path().join("run/system")).is_err());
}

#[test]
fn a_host_without_a_shell_is_refused_with_a_hint() {
    let host = SmallHost::new();
    host.file("/bin/ls", &library(&[]));
    let (folder, report) = host.build();
    let error = report.unwrap_err();
    assert!(matches!(error, HostImageError::NoShell { .. }));
    assert!(error.hint().unwrap().contains("busybox"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_that_is_not_empty_is_refused() {
    if !is_root() {
        return;
    }
    let host = SmallHost::new();
    host.file("/bin/sh", &library(&[]));
    let folder = tempfile::tempdir().unwrap();
    // A link that leads out of the tree: nothing may be written through it.
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join("bin")).unwrap();
    let tree = File::open(folder.path()).unwrap();
    let error = build_from(
        host.root(),
        tree.as_fd(),
        &Options::default(),
        SPACE_AT_MOST,
    )
    .unwrap_err();
    assert!(
        matches!(error, HostImageError::MakeFolder { .. }),
        "{error}"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
