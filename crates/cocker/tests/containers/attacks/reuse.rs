//! Pids that others have got meanwhile.

use crate::host::{Host, eventually, with_image_test};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, Command, Stdio};

pub fn trials() -> Vec<libtest_mimic::Trial> {
    with_image_test![no_signal_reaches_whoever_got_the_pid]
}

/// A process that has nothing to do with anything. It ends with this value.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        // Of no effect on one that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a bystander that has this very pid, as it comes about once all others have been given out.
///
/// The kernel can be told where to go on counting (`ns_last_pid` of proc_sys_kernel(5)); somebody else may be faster.
fn bystander_with(pid: i32) -> Option<Bystander> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut child = Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .spawn()
            .ok()?;
        if child.id() == pid as u32 {
            return Some(Bystander(child));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
    None
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("it is one");
    kill_process(pid, Signal::KILL).expect("it is ours");
}

/// What a user types who finds a container in this state, each on a container of its own.
const LINES: [&str; 14] = [
    "shutdown {} --timeout 1",
    "shutdown {} -f",
    "kill {}",
    "destroy --shutdown {}",
    "destroy --shutdown {} -f",
    "boot {}",
    "run {} -- true",
    "pause {}",
    "resume {}",
    "set-limits {} --pids-limit 100",
    "sessions {}",
    "to-image --from-container {} --to-image {}",
    "put {} /etc/hostname /srv/",
    "stats",
];

/// Row 29: the supervisor and the root process are gone without a word, and what is written down of them names others.
fn no_signal_reaches_whoever_got_the_pid(host: &Host) {
    for (option, kind) in super::KINDS {
        let name = |number: usize| format!("{kind}-{number}");
        let mut pids = Vec::new();
        for number in 0..LINES.len() {
            let name = name(number);
            host.cocker(&format!("create -m test -c {name} {option} -b"))
                .ok();
            pids.push((host.root_process(&name), host.supervisor(&name)));
        }
        pids.iter().for_each(|(_, supervisor)| kill(*supervisor));
        eventually("all are gone", || {
            let mut pids = pids
                .iter()
                .flat_map(|(root, supervisor)| [root, supervisor]);
            pids.all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
        });
        let own = fs::read_to_string("/proc/self/cgroup").expect("it is ours");
        let start = |pid: i32| bystander_with(pid).expect("a pid can be had again");
        let mut bystanders: Vec<[Bystander; 2]> = pids
            .iter()
            .map(|(root, supervisor)| [start(*root), start(*supervisor)])
            .collect();
        for (number, line) in LINES.into_iter().enumerate() {
            host.cocker(&line.replace("{}", &name(number)));
            for bystander in bystanders.iter_mut().flatten() {
                let ended = bystander.0.try_wait().expect("it is our child");
                assert_eq!(ended, None, "{line} reached a bystander");
                let pid = bystander.0.id();
                // Nor was it stopped, frozen, or moved to another cgroup.
                let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
                assert!(!status.contains("State:\tT"), "{line}: {status}");
                let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
                assert_eq!(cgroup, own, "{line}");
            }
        }
        // Control: who believes a pid that was written down ends a bystander.
        for ((root, supervisor), [one, other]) in pids.iter().zip(&mut bystanders) {
            kill(*root);
            kill(*supervisor);
            for bystander in [one, other] {
                let ended = bystander.0.wait().expect("it is our child");
                assert!(!ended.success());
            }
        }
    }
}
