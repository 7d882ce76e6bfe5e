//! Programs of others that make, load and run images: where they keep what they need, and how they are started.
//!
//! They have no network and mounts of their own, and everything they keep lies in one folder of the test.

use crate::host::Host;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What a program is started by: nothing that it leaves outside its storage stays, and whatever control groups the machine has, it
/// sees those of version 2, since no others are understood.
const SURROUNDINGS: &str = "for folder in /run /dev/shm /var/lib; do mount -t tmpfs tmpfs $folder || exit; done; \
     mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";

pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// These programs; where one is missing, that is said and there are none.
    pub fn with(host: &Host, programs: &[&str]) -> Option<Programs> {
        let is_missing = |program: &&&str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        if let Some(program) = programs.iter().find(is_missing) {
            println!("skipped: {program} is not here");
            return None;
        }
        let folder = host.folder("programs");
        let write = |name: &str, text: String| {
            fs::write(folder.join(name), text).expect("the folder is ours");
        };
        write(
            "policy.json",
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#.into(),
        );
        let shown = folder.display();
        write(
            "storage.conf",
            format!(
                "[storage]\ndriver = \"vfs\"\nrunroot = \"{shown}/run\"\ngraphroot = \"{shown}/root\"\n"
            ),
        );
        write(
            "containers.conf",
            format!(
                "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"\ntmp_dir = \"{shown}/tmp\"\n"
            ),
        );
        Some(Programs { folder })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A policy that lets images without signatures in.
    pub fn policy(&self) -> String {
        text(&self.path("policy.json"))
    }

    /// Runs buildah, which must succeed; returns what it prints, without the last line's end.
    #[track_caller]
    pub fn buildah(&self, arguments: &[&str]) -> String {
        self.succeeds("buildah", &[&self.storage(), arguments].concat())
    }

    /// The same with podman.
    #[track_caller]
    pub fn podman(&self, arguments: &[&str]) -> String {
        self.succeeds("podman", &[&self.storage(), arguments].concat())
    }

    /// What `/bin/sh -c LINE` prints in a new container of podman's, or why there is none.
    pub fn run_by_podman(&self, image: &str, line: &str) -> Result<String, String> {
        // No control group of its own, and no higher limits than this process has.
        let options = [
            "run",
            "--rm",
            "--cgroups=disabled",
            "--network=none",
            "--ulimit=nofile=1024:1024",
            "--ulimit=nproc=1000:1000",
        ];
        let command = [image, "/bin/sh", "-c", line];
        let output = self.output(
            "podman",
            &[&self.storage(), options.as_slice(), &command].concat(),
        );
        match output.status.success() {
            true => Ok(printed(&output)),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
        }
    }

    /// Runs a program, which must succeed; returns what it prints, without the last line's end.
    #[track_caller]
    pub fn succeeds(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.output(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        printed(&output)
    }

    fn output(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "--"])
            .args(["sh", "-c", SURROUNDINGS, "sh", program])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .env("TMPDIR", &self.folder)
            .env("XDG_RUNTIME_DIR", &self.folder)
            .env("STORAGE_DRIVER", "vfs")
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .output()
            .expect("unshare is on every Debian")
    }

    fn storage(&self) -> Vec<&'static str> {
        // Where the commands are started, both are there.
        vec!["--root=root", "--runroot=run", "--storage-driver=vfs"]
    }
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim_end().into()
}

pub fn text(path: &Path) -> String {
    path.to_str().expect("the test's paths are text").into()
}
