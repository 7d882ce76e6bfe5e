//! What the host has and lacks: the kernel, its cgroups and namespaces, ids, room.

use crate::container::Container;
use crate::engine::Engine;
use crate::failure::EngineError;
use crate::housekeeping::Finding;
use crate::ids;
use cocker_image::inspection::chain;
use cocker_sandbox::{Controller, Hierarchies};
use cocker_sys::namespace::{is_below_the_host, stands_for_a_user};
use rustix::fs::{fstatfs, fstatvfs};
use std::path::Path;

/// Since when overlays take layers with mapped ids.
const MAPPED_LAYERS: (u32, u32) = (5, 19);

/// Less than this is too little for the next image, in bytes.
const LITTLE_ROOM: u64 = 64 << 20;
/// So few entries are too few for it.
const FEW_INODES: u64 = 1000;

/// File systems that no writable layer can lie on, by their numbers (statfs(2)).
const NO_UPPER: [(u64, &str); 4] = [
    (0x6969, "NFS"),
    (0x794c_7630, "overlayfs"),
    (0x6573_5546, "FUSE"),
    (0xff53_4d42, "CIFS"),
];

/// Files that say whose host ids are whose.
const GIVEN: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

impl Engine {
    pub(super) fn inspect_host(&self) -> Result<Vec<Finding>, EngineError> {
        let mut findings = Vec::new();
        findings.extend(kernel_of(
            &rustix::system::uname().release().to_string_lossy(),
        ));
        findings.extend(lacks_overlay());
        findings.extend(namespaces());
        findings.extend(self.cgroups());
        findings.extend(self.packets());
        findings.extend(self.room());
        if !is_below_the_host() {
            for file in GIVEN {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                findings.extend(self.overlaps(file, &text)?);
            }
        }
        Ok(findings)
    }

    /// Whether the table of packets can be asked at all.
    fn packets(&self) -> Option<Finding> {
        if stands_for_a_user() {
            return None;
        }
        let error = self.kernel().err()?;
        let what = format!("no container of BRIDGE can be booted: {}", chain(&error));
        let remedy = "have the kernel load it: modprobe nf_tables; or use --net HOST";
        Some(Finding::wrong("host nf_tables", what, remedy))
    }

    fn cgroups(&self) -> Vec<Finding> {
        let hierarchies = Hierarchies::find();
        if !hierarchies.has_unified() {
            let what = "there is no cgroup v2: containers cannot be limited, paused, counted or killed as one";
            let remedy = "mount -t cgroup2 none /sys/fs/cgroup";
            return vec![Finding::hint("host cgroups", what, remedy)];
        }
        let mut lacking = Vec::new();
        for controller in [Controller::Cpu, Controller::Memory, Controller::Pids] {
            if !hierarchies.has(controller) {
                lacking.push(controller.name());
            }
        }
        if lacking.is_empty() {
            return Vec::new();
        }
        let what = format!(
            "no hierarchy has {}: limits of these are refused",
            lacking.join(", ")
        );
        let remedy = match is_below_the_host() {
            true => "have it delegated to you: docs/ROOTLESS.md".into(),
            false => {
                "boot the kernel without cgroup_disable=, or with cgroup_enable=memory".to_string()
            }
        };
        vec![Finding::hint("host cgroups", what, remedy)]
    }

    fn room(&self) -> Vec<Finding> {
        let thing = format!("store {}", self.store.home().display());
        let mut findings = Vec::new();
        if let Ok(found) = fstatfs(self.store.folder()) {
            let number = found.f_type as u64 & 0xffff_ffff;
            if let Some((_, kind)) = NO_UPPER.iter().find(|(other, _)| *other == number) {
                let what = format!("lies on {kind}, which cannot carry a writable layer");
                let remedy = "put COCKER_HOME on ext4, xfs or btrfs";
                findings.push(Finding::wrong(&thing, what, remedy));
            }
        }
        let Ok(found) = fstatvfs(self.store.folder()) else {
            return findings;
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let remedy = "cocker prune; cocker df says what takes room";
        if free < LITTLE_ROOM {
            let what = format!("has {} MiB of room left", free >> 20);
            findings.push(Finding::hint(&thing, what, remedy));
        }
        // Some file systems have no such number.
        if found.f_files > 0 && found.f_favail < FEW_INODES {
            let what = format!("has room for {} more files", found.f_favail);
            findings.push(Finding::hint(&thing, what, remedy));
        }
        findings
    }

    /// Containers whose ids one of the files gives to others.
    fn overlaps(&self, file: &str, text: &str) -> Result<Vec<Finding>, EngineError> {
        let others = ids::given_to_others(text);
        let mut findings = Vec::new();
        if others.is_empty() {
            return Ok(findings);
        }
        for name in self.container_names()? {
            let Ok(container) = Container::open(&self.store, &name) else {
                continue;
            };
            let (first, end) = ids::span(container.settings.id_slot);
            let has = others
                .iter()
                .find(|(_, from, to)| *from < end && first < *to);
            if let Some((who, _, _)) = has {
                let what = format!(
                    "its host ids {first} to {} are given to `{}` as well, in {file}",
                    end - 1,
                    who.escape_debug()
                );
                let remedy = format!("give `{}` others, in {file}", who.escape_debug());
                findings.push(Finding::wrong(format!("container {name}"), what, remedy));
            }
        }
        Ok(findings)
    }
}

fn kernel_of(release: &str) -> Option<Finding> {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    let version = (number()?, number()?);
    (version < MAPPED_LAYERS).then(|| {
        let (major, minor) = MAPPED_LAYERS;
        let what = format!(
            "is {release}, and overlays take layers with ids of their own since {major}.{minor}"
        );
        let remedy = "a newer kernel; until then only --privileged containers can be booted";
        Finding::wrong("host kernel", what, remedy)
    })
}

/// Whether there is an overlay file system, or a module that has it.
fn lacks_overlay() -> Option<Finding> {
    let has = |file: &Path, word: &str| {
        std::fs::read_to_string(file).is_ok_and(|text| text.contains(word))
    };
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let modules = Path::new("/lib/modules").join(release);
    let is_there = has(Path::new("/proc/filesystems"), "\toverlay\n")
        || has(&modules.join("modules.dep"), "/overlay.ko")
        || has(&modules.join("modules.builtin"), "/overlay.ko");
    (!is_there).then(|| {
        let what = "has no overlay file system, and no module of it is installed";
        Finding::wrong("host kernel", what, "install the kernel's modules: overlay")
    })
}

fn namespaces() -> Option<Finding> {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").ok()?;
    let most: u64 = most.trim().parse().ok()?;
    (most == 0).then(|| {
        let what = "may have no user namespace: only --privileged containers can be booted";
        let remedy = "sysctl user.max_user_namespaces=65536";
        Finding::wrong("host namespaces", what, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_number_by_number() {
        for good in ["5.19.0", "6.1.0-56-cloud-amd64", "10.0", "6.18.44-fc"] {
            assert_eq!(kernel_of(good), None, "{good}");
        }
        for old in ["5.4.0-1", "5.10.0-8-amd64", "4.19"] {
            let found = kernel_of(old).expect(old);
            assert!(found.what.contains(old) && found.what.contains("5.19"));
        }
        assert_eq!(kernel_of("unknown"), None);
    }
}
