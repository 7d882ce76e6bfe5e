//! A folder in which the programs of others keep everything they need, and the way to run them.

/// Covers what these programs write to besides their storage: locks, and what they know of blobs.
const SURROUNDINGS: &str = "for folder in /run /dev/shm /var/lib; do mount -t tmpfs tmpfs $folder || exit; done; \
     exec \"$@\"";

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Lab {
    folder: TempDir,
    policy: String,
}

impl Lab {
    /// A lab for these programs; where one is missing, that is said and there is none.
    pub fn with(programs: &[&str]) -> Option<Lab> {
        let missing = |program: &&&str| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            !std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        };
        if let Some(program) = programs.iter().find(missing) {
            // The harness would keep this to itself if it were printed.
            let line = format!("skipped: {program} is not here\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        // On a disk, since an overlay needs attributes that memory file systems of old do not have.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let policy = folder.path().join("policy.json");
        fs::write(
            &policy,
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )
        .unwrap();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/root\"\n",
            folder.path().display()
        );
        fs::write(folder.path().join("storage.conf"), storage).unwrap();
        let engine = "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
        fs::write(folder.path().join("containers.conf"), engine).unwrap();
        Some(Lab {
            policy: policy.to_str().expect("a path of text").into(),
            folder,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A policy that lets images without signatures in.
    pub fn policy(&self) -> &str {
        &self.policy
    }

    pub fn skopeo(&self, arguments: &[&str]) -> Vec<u8> {
        self.output(
            "skopeo",
            &[&["--policy", self.policy()], arguments].concat(),
        )
    }

    pub fn buildah(&self, arguments: &[&str]) -> Vec<u8> {
        self.with_storage("buildah", arguments)
    }

    pub fn podman(&self, arguments: &[&str]) -> Vec<u8> {
        self.with_storage("podman", arguments)
    }

    pub fn line_of_buildah(&self, arguments: &[&str]) -> String {
        line(self.buildah(arguments))
    }

    pub fn line_of_podman(&self, arguments: &[&str]) -> String {
        line(self.podman(arguments))
    }

    /// Runs a program without network and with mounts of its own; it must succeed. What it keeps in places that no option
    /// moves goes with it.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let home = self.folder.path();
        let output = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--propagation",
                "private",
                "--",
                "sh",
                "-c",
                SURROUNDINGS,
                "sh",
                program,
            ])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .env("TMPDIR", home)
            .env("XDG_RUNTIME_DIR", home)
            .env("STORAGE_DRIVER", "vfs")
            .env("CONTAINERS_STORAGE_CONF", home.join("storage.conf"))
            .env("CONTAINERS_CONF", home.join("containers.conf"))
            .current_dir(home)
            .stdin(Stdio::null())
            .output()
            .expect("unshare is on every Debian");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    fn with_storage(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let (root, run) = (self.path("root"), self.path("run"));
        let storage = [
            "--root",
            root.to_str().expect("a path of text"),
            "--runroot",
            run.to_str().expect("a path of text"),
            "--storage-driver",
            "vfs",
        ];
        self.output(program, &[storage.as_slice(), arguments].concat())
    }
}

fn line(output: Vec<u8>) -> String {
    let text = String::from_utf8(output).expect("ids and paths are text");
    text.trim().to_owned()
}
