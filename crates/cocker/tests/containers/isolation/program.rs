//! The program that attacks, compiled once a run and seen by containers as `/attacker`.

use crate::host::{Host, write_program};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::{env, fs};

const SOURCES: [(&str, &str); 2] = [
    ("attacker.rs", include_str!("attacker.rs")),
    ("scan.rs", include_str!("scan.rs")),
];

/// How a container is made that has it.
pub fn with_attacker(host: &Host) -> String {
    format!("--volume {}:/attacker:ro", path(host).display())
}

/// Where it lies on the host.
pub fn path(host: &Host) -> PathBuf {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let folder = host.folder("build");
        let (source, program) = (folder.join("attacker.rs"), folder.join("attacker"));
        for (name, text) in SOURCES {
            fs::write(folder.join(name), text).expect("the folder is ours");
        }
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
        rustc.args([
            "--edition=2024",
            "-Copt-level=1",
            "-Ctarget-feature=+crt-static",
        ]);
        rustc.arg("-o").arg(&program).arg(&source);
        let output = rustc.output().expect("there is a compiler");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::read(&program).expect("it was just made")
    });
    let place = host.folder("programs").join("attacker");
    if !place.exists() {
        write_program(&place, "755", program);
    }
    place
}

/// What one system call answers in a container, by `64`, `32` or `x32`.
#[track_caller]
pub fn answer(host: &Host, container: &str, call: &str) -> i64 {
    let text = host.inside(container, &format!("/attacker {call}"));
    let number = text.parse();
    number.unwrap_or_else(|_| panic!("{call} in {container} says: {text}"))
}
