//! What is kept from run to run, in `COCKER_TEST_CACHE`: Debian root file systems, each made once by debootstrap.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

/// A Debian root file system: the smallest one, and some packages.
pub struct Kept {
    name: &'static str,
    /// With commas between.
    packages: &'static str,
}

/// Makes the kept Debian root file system where there is none yet. It needs the host's network.
pub fn keep_debian() -> Result<(), String> {
    keep(&DEBIAN)
}

/// The same with `dnf` and what makes packages for it, which is twice as large.
pub fn keep_debian_with_dnf() -> Result<(), String> {
    keep(&DEBIAN_WITH_DNF)
}

fn keep(wanted: &Kept) -> Result<(), String> {
    let kept = cache().join(wanted.name);
    if is_complete(&kept, wanted) {
        return Ok(());
    }
    let folder = kept.parent().expect("it lies in a folder");
    fs::create_dir_all(folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
    let begun = folder.join(format!(".new-{}-{}", wanted.name, std::process::id()));
    // debootstrap mounts /proc in what it makes; in a namespace of its own that ends with it.
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "--",
        "debootstrap",
        "--variant=minbase",
    ]);
    command.args([&format!("--include={}", wanted.packages), "bookworm"]);
    command
        .arg(&begun)
        .args(debian_mirror())
        .stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|why| format!("cannot execute debootstrap: {why}"))?;
    if !output.status.success() {
        let _ = fs::remove_dir_all(&begun);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let last: Vec<&str> = said.lines().rev().take(5).collect();
        return Err(format!(
            "debootstrap failed ({}), last line first: {last:#?}",
            output.status
        ));
    }
    // What an older run has kept makes way.
    let _ = fs::remove_dir_all(&kept);
    fs::rename(&begun, &kept).or_else(|why| {
        let _ = fs::remove_dir_all(&begun);
        // Another run was faster; its tree serves as well.
        if is_complete(&kept, wanted) {
            Ok(())
        } else {
            Err(format!("cannot name {}: {why}", kept.display()))
        }
    })
}

/// What the tests need, as a container or as the host in a box.
const DEBIAN: Kept = Kept {
    name: "debian-bookworm",
    packages: "openssh-server,cron,procps,iproute2,less,vim-tiny,nftables,netcat-openbsd,\
               systemd,systemd-sysv,dbus,sudo,iputils-ping,bubblewrap,uidmap",
};
const DEBIAN_WITH_DNF: Kept = Kept {
    name: "debian-bookworm-dnf",
    packages: "dnf,rpm,createrepo-c",
};

/// Whether it is there, with everything that the tests need now.
fn is_complete(debian: &Path, wanted: &Kept) -> bool {
    let information = debian.join("var/lib/dpkg/info");
    let packages = wanted.packages.split(',');
    let mut lists = packages.map(|package| information.join(format!("{package}.list")));
    lists.all(|list| list.is_file())
}

/// Where it lies.
pub fn debian() -> PathBuf {
    cache().join(DEBIAN.name)
}

/// Where the one with dnf lies.
pub fn debian_with_dnf() -> PathBuf {
    cache().join(DEBIAN_WITH_DNF.name)
}

/// The folder of what is kept.
pub fn cache() -> PathBuf {
    env::var_os("COCKER_TEST_CACHE")
        .map_or_else(|| PathBuf::from("/var/cache/cocker-tests"), PathBuf::from)
}

/// The mirror that this machine takes its own Debian packages from, where it names one.
fn debian_mirror() -> Option<String> {
    let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
    lists.extend(
        fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    let texts: Vec<String> = lists.iter().flat_map(fs::read_to_string).collect();
    let lines = texts
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut words = lines.flat_map(str::split_whitespace);
    words
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .map(str::to_string)
}
