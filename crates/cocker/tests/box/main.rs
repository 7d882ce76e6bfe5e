//! cocker on another kernel: a virtual machine with Debian's own kernel, cgroup v2 alone, and nobody else.
//!
//! ```text
//! kernel.rs      the kernel and its modules, from Debian's package
//! archive.rs     the initramfs
//! inside.rs      the machine's init, which is this program
//! wire.rs        what the machine says
//! machine.rs     the machine: boot, wait, cut
//! suite.rs       which tests of `tests/containers/` run in it
//! box_itself.rs  the box's own tests
//! attacks.rs     attacks on the machine itself, which no other machine is to bear
//! host_systemd.rs  cocker where the machine's process 1 is systemd
//! power/         power cuts: what was answered with OK is whole, and nothing is left
//! ```
//!
//! This program has three parts to play: the test on the host, the machine's init, and the tests in the machine.
//! docs/design/0006-box.md draws it.
#![forbid(unsafe_code)]

mod archive;
mod attacks;
mod box_itself;
mod host_systemd;
mod inside;
mod kernel;
mod machine;
mod power;
mod suite;
mod wire;

#[allow(
    dead_code,
    unused_imports,
    reason = "not every test that it is for runs here"
)]
#[path = "../containers/host/mod.rs"]
mod host;

// The topics that `suite.rs` may choose from: a line here, and one below.
#[path = "../containers/boot.rs"]
mod boot;
#[path = "../containers/failing_boot.rs"]
mod failing_boot;
#[path = "../containers/isolation/mod.rs"]
mod isolation;
#[path = "../containers/lab.rs"]
mod lab;
#[path = "../containers/limits.rs"]
mod limits;
#[path = "../containers/logs.rs"]
mod logs;
#[path = "../containers/network/mod.rs"]
mod network;
#[path = "../containers/quick_start.rs"]
mod quick_start;
#[path = "../containers/rootless.rs"]
mod rootless;
#[path = "../containers/run/mod.rs"]
mod run;
#[path = "../containers/sessions.rs"]
mod sessions;
#[path = "../containers/shutdown.rs"]
mod shutdown;
#[path = "../containers/systemd.rs"]
mod systemd;
#[path = "../containers/volumes.rs"]
mod volumes;

use host::{kept, program_under_test};
use kernel::Kernel;
use std::process::ExitCode;
use std::sync::OnceLock;

/// Every test that can run in the box.
fn topics() -> Vec<libtest_mimic::Trial> {
    [
        quick_start::trials(),
        boot::trials(),
        failing_boot::trials(),
        run::trials(),
        run::identity::trials(),
        run::detached::trials(),
        sessions::trials(),
        logs::trials(),
        shutdown::trials(),
        isolation::trials(),
        limits::trials(),
        rootless::trials(),
        systemd::trials(),
        volumes::trials(),
        lab::trials(),
        network::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> ExitCode {
    if inside::is_wanted() {
        inside::init();
    }
    if inside::is_unit() {
        inside::unit();
    }
    if inside::is_restart() {
        inside::restart();
    }
    if suite::is_in_the_box() {
        return suite::run_in_the_box();
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = box_itself::trials();
    trials.extend(attacks::trials());
    trials.extend(host_systemd::trials());
    trials.extend(power::trials());
    trials.extend(suite::trials(&arguments));
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!(
            "Error: these tests make a disk of root's files and need root: `sudo make test-vm`"
        );
        return ExitCode::FAILURE;
    }
    if let Err(why) = machine::make_folder() {
        eprintln!("Error: {why}");
        return ExitCode::FAILURE;
    }
    let ended = libtest_mimic::run(&arguments, trials);
    suite::finish();
    machine::clear_away();
    ended.exit_code()
}

/// The kernel of all machines of this run.
fn kernel() -> Result<&'static Kernel, String> {
    static KERNEL: OnceLock<Result<Kernel, String>> = OnceLock::new();
    KERNEL
        .get_or_init(Kernel::prepared)
        .as_ref()
        .map_err(Clone::clone)
}
