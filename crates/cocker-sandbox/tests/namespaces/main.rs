//! Sandboxes in network namespaces of their own, up to the moment before their root process is executed: what the kernel
//! then says of them. The tests need root and Linux 5.19, and the only thread of their process.
//!
//! ```text
//! booted.rs    a sandbox on a small root file system, with a shell for a supervisor
//! …            one file a topic
//! ```
#![forbid(unsafe_code)]

mod birth;
mod booted;
mod files;
mod making;
mod root;

use libtest_mimic::Trial;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = libtest_mimic::Arguments::from_args();
    // One test after the other, in this thread: another one would keep us from being copied.
    arguments.test_threads = Some(1);
    let is_root = rustix::process::geteuid().is_root();
    let trials = [making::TESTS, birth::TESTS, files::TESTS, root::TESTS].concat();
    let trials = trials
        .into_iter()
        .map(|(name, test)| {
            let run = move || {
                test();
                Ok(())
            };
            Trial::test(name, run).with_ignored_flag(!is_root)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A name, and what fails by panicking.
type Test = (&'static str, fn());

/// Makes a list of tests, each named after its function.
macro_rules! tests {
    ($($test:ident),* $(,)?) => { &[$((concat!(module_path!(), "::", stringify!($test)), $test)),*] };
}
pub(crate) use tests;
