//! Containers as a user has them: every test types commands and looks at what the user, or the kernel, would see.
//!
//! The tests need root and Linux 5.19. They run in mount and network namespaces of their own, each on its own
//! `COCKER_HOME` and below its own cgroup folder, and each is asked afterwards whether it left anything behind.
//!
//! ```text
//! host/            what the tests stand on: commands, terminals, networks, prepared images, what is left
//! quick_start.rs   the session of the manual, word for word
//! …                one file a topic
//! ```
#![forbid(unsafe_code)]

mod attacks;
mod bad_input;
mod boot;
mod conversion;
mod debian;
mod disks;
mod dnf;
mod doctor;
mod enabled;
mod endurance;
mod failing_boot;
#[cfg(debug_assertions)]
mod faults;
mod files;
mod host;
mod hostile;
mod housekeeping;
mod images;
mod instantiate;
mod interop;
mod isolation;
mod lab;
mod lasting;
mod limits;
mod logs;
mod looks;
mod network;
mod quick_start;
mod races;
mod recording;
mod repository;
mod restart;
mod rootless;
mod roundtrip;
mod run;
mod screens;
mod services;
mod sessions;
mod shutdown;
mod stacking;
mod stacks;
mod stats;
mod systemd;
mod transfer;
mod volumes;
mod whiteouts;

use host::kept;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials()).exit_code();
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let is_wanted = |trials: &[Vec<libtest_mimic::Trial>]| {
        let mut trials = trials.iter().flatten();
        trials.any(|trial| trial.name().contains(filter))
    };
    let debian = is_wanted(&[debian::trials(), screens::trials(), systemd::trials()]);
    let dnf = is_wanted(&[dnf::trials()]);
    if let Err(why) = host::enter_namespaces(&[
        (debian, kept::keep_debian, "a Debian root file system"),
        (dnf, kept::keep_debian_with_dnf, "one with dnf"),
    ]) {
        eprintln!("Error: {why}");
        return ExitCode::FAILURE;
    }
    let ended = libtest_mimic::run(&arguments, trials());
    match host::clear_away() {
        Ok(()) => ended.exit_code(),
        Err(left) => {
            eprintln!("Error: the tests left something behind\n{left}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Vec<libtest_mimic::Trial> {
    [
        quick_start::trials(),
        races::trials(),
        boot::trials(),
        disks::trials(),
        endurance::trials(),
        failing_boot::trials(),
        files::trials(),
        sessions::trials(),
        lasting::trials(),
        recording::trials(),
        run::trials(),
        run::identity::trials(),
        run::detached::trials(),
        logs::trials(),
        instantiate::trials(),
        shutdown::trials(),
        restart::trials(),
        enabled::trials(),
        hostile::trials(),
        services::trials(),
        isolation::trials(),
        limits::trials(),
        stacking::trials(),
        stacks::trials(),
        stats::trials(),
        systemd::trials(),
        stats::top::trials(),
        whiteouts::trials(),
        images::trials(),
        conversion::trials(),
        transfer::trials(),
        repository::trials(),
        repository::broken_off::trials(),
        repository::enemies::trials(),
        rootless::trials(),
        roundtrip::trials(),
        interop::trials(),
        housekeeping::trials(),
        housekeeping::check::trials(),
        volumes::trials(),
        attacks::trials(),
        bad_input::trials(),
        lab::trials(),
        network::trials(),
        debian::trials(),
        dnf::trials(),
        doctor::trials(),
        screens::trials(),
        #[cfg(debug_assertions)]
        faults::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
