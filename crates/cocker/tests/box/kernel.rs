//! The machine's kernel: Debian's cloud kernel, kept from run to run, or one that `COCKER_TEST_KERNEL` names.
//!
//! ```text
//! <folder>/            a kernel's package, unpacked
//! ├── boot/vmlinuz-<release>
//! └── lib/modules/<release>/kernel/…/<module>.ko[.xz]
//! ```
//!
//! No module is loaded on demand in the box, where nothing but the tests is: all that cocker's work needs is loaded at the start.

use crate::kept;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// Depends on the newest kernel that the release of Debian has.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// What is loaded, with all it needs; what the kernel has built in is left out.
const MODULES: &[&str] = &[
    // The disk, and good random numbers.
    "virtio_pci",
    "virtio_blk",
    "virtio_rng",
    // Images.
    "overlay",
    // Networks, and whether a port is taken.
    "veth",
    "bridge",
    "nf_conntrack_netlink",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_chain_nat",
    "nft_fib_inet",
    "nft_reject_inet",
    "nft_meta_bridge",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_hash",
    "tcp_diag",
    "udp_diag",
    "unix_diag",
];

/// A kernel that can be booted.
pub struct Kernel {
    pub image: PathBuf,
    /// Names and contents, each after those it needs.
    pub modules: Vec<(String, Vec<u8>)>,
}

impl Kernel {
    /// Takes the kernel that this run is about; the first run fetches its package from Debian.
    pub fn prepared() -> Result<Kernel, String> {
        let Some(named) = env::var_os("COCKER_TEST_KERNEL").map(PathBuf::from) else {
            return Kernel::in_folder(&kept_kernel()?);
        };
        if named.is_dir() {
            return Kernel::in_folder(&named);
        }
        let unpacked = crate::machine::folder().join("kernel");
        unpack(&named, &unpacked)?;
        Kernel::in_folder(&unpacked)
    }

    fn in_folder(folder: &Path) -> Result<Kernel, String> {
        let image = the_only(&folder.join("boot"), "vmlinuz-")?;
        let modules = the_only(&folder.join("lib/modules"), "")?;
        Ok(Kernel {
            image,
            modules: in_order(&modules)?,
        })
    }
}

/// The newest kernel that Debian has for this machine, unpacked. Where Debian cannot be asked, or does not give it,
/// one of an earlier run serves.
fn kept_kernel() -> Result<PathBuf, String> {
    let Some(package) = newest_package() else {
        return the_only(&kept::cache(), "linux-image-").map_err(|_| {
            format!("apt-cache knows no package {PACKAGE}: `apt-get update` may help")
        });
    };
    let kept = kept::cache().join(&package);
    if kept.is_dir() {
        return Ok(kept);
    }
    eprintln!("Fetching the kernel {package}");
    let begun = kept::cache().join(format!(".new-kernel-{}", std::process::id()));
    let made = fetch(&package, &begun).and_then(|unpacked| {
        // Another run may have been faster; then its kernel serves as well.
        match fs::rename(unpacked, &kept) {
            Err(why) if !kept.is_dir() => Err(format!("cannot name {}: {why}", kept.display())),
            _ => Ok(kept.clone()),
        }
    });
    let _ = fs::remove_dir_all(begun);
    match made {
        Ok(newest) => {
            remove_older(&package);
            Ok(newest)
        }
        Err(why) => {
            let older = the_only(&kept::cache(), "linux-image-").map_err(|_| why.clone())?;
            eprintln!("Taking {}: {why}", older.display());
            Ok(older)
        }
    }
}

/// Removes the kernels that were kept before this one.
fn remove_older(package: &str) {
    let entries = fs::read_dir(kept::cache()).into_iter().flatten().flatten();
    let older = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("linux-image-") && name != package
    });
    older.for_each(|entry| {
        let _ = fs::remove_dir_all(entry.path());
    });
}

/// The name of the package that `PACKAGE` stands for today.
fn newest_package() -> Option<String> {
    let said = output(Command::new("apt-cache").args(["depends", PACKAGE])).ok()?;
    let mut depends = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends
        .find(|name| name.starts_with("linux-image-"))
        .map(String::from)
}

/// Downloads a package into a folder and unpacks it there; returns where.
fn fetch(package: &str, folder: &Path) -> Result<PathBuf, String> {
    fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        // As root, since no other user may write here.
        apt.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]);
        output(apt.current_dir(folder))
    };
    // Old lists name packages that are no longer there.
    download().or_else(|_| {
        output(Command::new("apt-get").args(["-q", "update"])).and_then(|_| download())
    })?;
    let unpacked = folder.join("unpacked");
    unpack(&the_only(folder, "linux-image-")?, &unpacked)?;
    Ok(unpacked)
}

fn unpack(package: &Path, folder: &Path) -> Result<(), String> {
    output(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder)).map(drop)
}

/// The first entry of a folder whose name begins so.
fn the_only(folder: &Path, head: &str) -> Result<PathBuf, String> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|why| format!("cannot read {}: {why}", folder.display()))?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(head))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    let none = || format!("there is no {}/{head}*", folder.display());
    found.pop().ok_or_else(none)
}

/// The modules of `MODULES` and what they need, each after those it needs.
fn in_order(modules: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut files = BTreeMap::new();
    find_modules(&modules.join("kernel"), &mut files);
    let builtin = modules.join("modules.builtin");
    let builtin = fs::read_to_string(&builtin)
        .map_err(|why| format!("cannot read {}: {why}", builtin.display()))?;
    let mut order = Order {
        files,
        builtin: builtin
            .lines()
            .map(|line| name_of(Path::new(line)))
            .collect(),
        done: HashSet::new(),
        modules: Vec::new(),
    };
    MODULES.iter().try_for_each(|name| order.add(name))?;
    Ok(order.modules)
}

struct Order {
    files: BTreeMap<String, PathBuf>,
    builtin: HashSet<String>,
    done: HashSet<String>,
    modules: Vec<(String, Vec<u8>)>,
}

impl Order {
    fn add(&mut self, name: &str) -> Result<(), String> {
        if self.builtin.contains(name) || !self.done.insert(name.into()) {
            return Ok(());
        }
        let file = self.files.get(name);
        let file = file.ok_or_else(|| format!("the kernel has no module {name}"))?;
        let contents = contents_of(file)?;
        for needed in needs(&contents) {
            self.add(&needed)?;
        }
        self.modules.push((name.into(), contents));
        Ok(())
    }
}

fn find_modules(folder: &Path, found: &mut BTreeMap<String, PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_modules(&path, found);
        } else {
            found.insert(name_of(&path), path);
        }
    }
}

/// A module's name: that of its file, where `-` is the same as `_`.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = name.split_once('.').map_or(&*name, |(name, _)| name);
    name.replace('-', "_")
}

fn contents_of(module: &Path) -> Result<Vec<u8>, String> {
    if module.extension() == Some(OsStr::new("xz")) {
        return bytes(Command::new("xz").arg("-dc").arg(module));
    }
    fs::read(module).map_err(|why| format!("cannot read {}: {why}", module.display()))
}

/// The names in a module's own list, which is a text ended by zero in its section `.modinfo`.
fn needs(module: &[u8]) -> Vec<String> {
    const HEAD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(HEAD.len()).position(|bytes| bytes == HEAD) else {
        return Vec::new();
    };
    let text = module[at + HEAD.len()..].split(|byte| *byte == 0).next();
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let names = text.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// What a program of Debian prints.
pub fn output(command: &mut Command) -> Result<String, String> {
    bytes(command).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn bytes(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|why| format!("cannot execute {:?}: {why}", command.get_program()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}): {said}", output.status))
}
