//! The floor: what the kernel alone takes for what cocker asks of it, with nothing around it. No settings are read, nothing is
//! checked, undone or remembered, and no program stays as supervisor.
//!
//! ```text
//!  floor create   BASE NAME                              folders of the writable layer
//!  floor boot     BASE NAME CGROUP LOWER[:LOWER…] [bridge] [steps]    until the container's root process is executed; says its pid
//!  floor run      PID PROGRAM                            in the container's namespaces
//!  floor shutdown NAME CGROUP PID [bridge]
//!  floor destroy  BASE NAME
//!  floor nothing                                         a program starts and ends
//! ```
//!
//! LOWER are folders below BASE, the topmost first. The calls are those of `cocker boot` as strace(1) shows them, in its order; those
//! that only look (stat, reading settings) are left out. Of files there is nothing but these calls: this is the only program beside
//! cocker's own crates that may have `unsafe`. It has one thread, so that a child may do whatever it would.
mod boot;
mod calls;
mod network;
mod root_process;

use calls::{call, path};
use std::env;

/// The first id of the container's range; others use other stores, so that it need not be free.
const FIRST_ID: u32 = 0x7f00_0000;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["create", base, name] => create(base, name),
        ["boot", base, name, cgroup, lowers, rest @ ..] => boot::boot(&boot::Container {
            base,
            name,
            cgroup,
            lowers: lowers.split(':').collect(),
            bridge: rest.contains(&"bridge"),
            steps: rest.contains(&"steps"),
        }),
        ["run", pid, program] => run(pid, program),
        ["shutdown", name, cgroup, pid, rest @ ..] => {
            shutdown(name, cgroup, pid, rest.contains(&"bridge"));
        }
        ["destroy", base, name] => destroy(base, name),
        ["nothing"] => {}
        _ => {
            eprintln!("usage: floor create|boot|run|shutdown|destroy|nothing …");
            std::process::exit(2);
        }
    }
}

/// Folders and a record, staged and renamed, as durable as cocker's.
fn create(base: &str, name: &str) {
    let staged = format!("{base}/.new-{name}");
    for folder in ["", "/files", "/files/upper", "/files/work"] {
        call(
            "mkdir",
            libc::SYS_mkdir,
            [path(&format!("{staged}{folder}")).at(), 0o755, 0, 0, 0, 0],
        );
    }
    for (file, text) in [
        ("container.json", vec![b' '; 300]),
        ("resolv.conf", vec![b'\n'; 100]),
    ] {
        let file = path(&format!("{staged}/{file}"));
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
        let file = call(
            "open",
            libc::SYS_open,
            [file.at(), flags as usize, 0o644, 0, 0, 0],
        );
        call(
            "write",
            libc::SYS_write,
            [file, text.as_ptr() as usize, text.len(), 0, 0, 0],
        );
        call("fsync", libc::SYS_fsync, [file, 0, 0, 0, 0, 0]);
    }
    let place = path(&format!("{base}/{name}"));
    call(
        "rename",
        libc::SYS_rename,
        [path(&staged).at(), place.at(), 0, 0, 0, 0],
    );
    let folder = path(base);
    let folder = call(
        "open",
        libc::SYS_open,
        [folder.at(), libc::O_RDONLY as usize, 0, 0, 0, 0],
    );
    call("fsync", libc::SYS_fsync, [folder, 0, 0, 0, 0, 0]);
}

fn destroy(base: &str, name: &str) {
    let (place, gone) = (format!("{base}/{name}"), format!("{base}/.gone-{name}"));
    call(
        "rename",
        libc::SYS_rename,
        [path(&place).at(), path(&gone).at(), 0, 0, 0, 0],
    );
    for file in ["container.json", "resolv.conf"] {
        call(
            "unlink",
            libc::SYS_unlink,
            [path(&format!("{gone}/{file}")).at(), 0, 0, 0, 0, 0],
        );
    }
    // What overlayfs leaves there.
    for folder in [
        "/files/work/work",
        "/files/work/index",
        "/files/work",
        "/files/upper",
        "/files",
        "",
    ] {
        let _ = calls::attempt(
            libc::SYS_rmdir,
            [path(&format!("{gone}{folder}")).at(), 0, 0, 0, 0, 0],
        );
    }
}

/// A program in the container's namespaces: entered, not born inside, which is less than cocker does.
fn run(pid: &str, program: &str) {
    let pid: usize = pid.parse().expect("a pid");
    let pidfd = call("pidfd_open", libc::SYS_pidfd_open, [pid, 0, 0, 0, 0, 0]);
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP;
    call("setns", libc::SYS_setns, [pidfd, all as usize, 0, 0, 0, 0]);
    let program = path(program);
    let child = calls::clone3(0, 0, libc::SIGCHLD as u64).0;
    if child == 0 {
        let arguments = [program.at(), 0];
        call(
            "execve",
            libc::SYS_execve,
            [
                program.at(),
                arguments.as_ptr() as usize,
                [0usize].as_ptr() as usize,
                0,
                0,
                0,
            ],
        );
    }
    calls::wait(child);
}

/// Kills the root process and sees the end of its namespace; takes away what `boot` made.
fn shutdown(name: &str, cgroup: &str, pid: &str, bridge: bool) {
    let pid: usize = pid.parse().expect("a pid");
    let pidfd = call("pidfd_open", libc::SYS_pidfd_open, [pid, 0, 0, 0, 0, 0]);
    call(
        "pidfd_send_signal",
        libc::SYS_pidfd_send_signal,
        [pidfd, libc::SIGKILL as usize, 0, 0, 0, 0],
    );
    let mut readable = libc::pollfd {
        fd: pidfd as i32,
        events: libc::POLLIN,
        revents: 0,
    };
    call(
        "poll",
        libc::SYS_poll,
        [&raw mut readable as usize, 1, usize::MAX, 0, 0, 0],
    );
    if bridge {
        network::map_element(false);
    }
    for folder in boot::cgroup_folders() {
        let folder = path(&format!("{folder}/{cgroup}/{name}"));
        // Somebody else may still be leaving it.
        let begun = calls::now();
        while calls::attempt(libc::SYS_rmdir, [folder.at(), 0, 0, 0, 0, 0]) == Err(libc::EBUSY)
            && calls::now() - begun < 1_000_000_000
        {
            call("sched_yield", libc::SYS_sched_yield, [0; 6]);
        }
    }
}
