//! Builds the two resident programs that `cocker` carries, and stamps the time of the build.
//!
//! The residents are packages of this workspace with another profile and other flags, so they are built by a cargo
//! of their own, into a folder of their own (the outer cargo holds the lock on the usual one):
//!
//! ```text
//! $OUT_DIR/residents/   target folder of the inner cargo
//! $OUT_DIR/cockerinit, $OUT_DIR/cocker-supervisor   what `residents.rs` includes
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

/// The only target so far; it must be named, else the flags below would also reach build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Fully static, at a fixed address, without an unwinder. The residents' own build scripts say the rest.
const FLAGS: [&str; 3] = [
    "-Ctarget-feature=+crt-static",
    "-Crelocation-model=static",
    "-Cpanic=abort",
];

/// Package and program.
const RESIDENTS: [(&str, &str); 2] = [
    ("cocker-init", "cockerinit"),
    ("cocker-supervisor", "cocker-supervisor"),
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // Asked for now, since the checkout may have been moved since this program was built.
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let crates = package.parent().expect("the crate lies in `crates/`");
    build_residents(crates, &out);
    for (_, program) in RESIDENTS {
        let built = out
            .join("residents")
            .join(TARGET)
            .join("resident")
            .join(program);
        copy_if_changed(&built, &out.join(program));
    }
    println!("cargo:rustc-env=COCKER_BUILD_TIME={}", build_time());
    pack_relocations();
    // See cocker_sys::entry.
    println!("cargo:rustc-link-arg-bins=-Wl,-e,cocker_begin");
    tell_what_is_watched(crates);
}

/// Half of a position-independent program's start is relocation. In the form of DT_RELR (System V gABI, dynamic section) the
/// list for it is a hundredth as long. The C library, which is in the program, must understand that: glibc does from 2.36 on.
fn pack_relocations() {
    let version = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let version = version.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let understands = version.is_ok_and(|said| {
        let number = said.trim().strip_prefix("glibc 2.");
        number
            .and_then(|number| number.parse().ok())
            .is_some_and(|minor: u32| minor >= 36)
    });
    if understands {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn build_residents(crates: &Path, out: &Path) {
    let workspace = crates.parent().expect("`crates/` lies in the workspace");
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo.current_dir(workspace);
    cargo.args([
        "build",
        "--profile",
        "resident",
        "--target",
        TARGET,
        "--target-dir",
    ]);
    cargo.arg(out.join("residents"));
    if workspace.join("Cargo.lock").exists() {
        cargo.arg("--locked");
    }
    for (package, _) in RESIDENTS {
        cargo.args(["-p", package]);
    }
    // What the outer cargo, clippy or a coverage run asked for is meant for the outer build.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if is_meant_for_the_outer_build(&name) {
            cargo.env_remove(&*name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    let status = cargo
        .status()
        .unwrap_or_else(|why| panic!("cannot start cargo for the residents: {why}"));
    assert!(status.success(), "cannot build the residents: {status}");
}

fn is_meant_for_the_outer_build(variable: &str) -> bool {
    variable.ends_with("RUSTFLAGS")
        || variable.starts_with("CARGO_PROFILE_")
        || variable.starts_with("CARGO_BUILD_")
        || variable.starts_with("CARGO_FEATURE_")
        || matches!(
            variable,
            "RUSTC_WRAPPER"
                | "RUSTC_WORKSPACE_WRAPPER"
                | "CLIPPY_ARGS"
                | "CARGO_TARGET_DIR"
                | "RUSTC_LINKER"
        )
}

/// Keeps the time of an unchanged program, so that nothing is compiled again for it.
fn copy_if_changed(from: &Path, to: &Path) {
    let new = fs::read(from).unwrap_or_else(|why| panic!("cannot read {}: {why}", from.display()));
    if fs::read(to).is_ok_and(|old| old == new) {
        return;
    }
    fs::write(to, new).unwrap_or_else(|why| panic!("cannot write {}: {why}", to.display()));
}

fn tell_what_is_watched(crates: &Path) {
    for watched in [
        "cocker-init",
        "cocker-supervisor",
        "cocker-resident",
        "cocker-protocol",
        "../Cargo.toml",
        "../Cargo.lock",
    ] {
        println!("cargo:rerun-if-changed={}", crates.join(watched).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
}

/// `2026-11-23 21:00:00` in UTC; SOURCE_DATE_EPOCH makes it reproducible (reproducible-builds.org).
fn build_time() -> String {
    let epoch = match env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds
            .parse()
            .expect("SOURCE_DATE_EPOCH is a number of seconds"),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("the clock is past 1970")
            .as_secs(),
    };
    let (year, month, day) = date(epoch / 86_400);
    let (hour, minute, second) = (epoch / 3600 % 24, epoch / 60 % 60, epoch % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the given day since 1970-01-01.
fn date(mut days: u64) -> (u64, usize, u64) {
    let mut year = 1970;
    while days >= days_in_year(year) {
        days -= days_in_year(year);
        year += 1;
    }
    let february = days_in_year(year) - 337;
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

fn days_in_year(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}
